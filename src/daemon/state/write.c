/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write.c - a view of the record into a file.
 *
 * Keeps true: the file named `state` is always a whole one. Everything goes to `state.new`, which is synced and then
 * renamed; on any failure it is removed. What is written is one view (but in a cluster, see put_own_servers), so an
 * agent that moved between servers is in one of them. Claims are asked for beside it, and may be newer than the view:
 * then they fence more, which is safe.
 *
 * Called by the state's thread. O(connections), about 0.3 µs each, while the view is held; a block of memory.
 */
#include "state/inside.h"

#include "base/checksum.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct writer {
    int fd;
    char *block; /* BLOCK_BYTES */
    size_t length;
    uint32_t index;
    uint64_t bytes, servers, values;
    int failure; /* of errno; 0: none */
};

static void write_all(struct writer *writer, const char *data, size_t length)
{
    while (length > 0 && !writer->failure) {
        ssize_t written = write(writer->fd, data, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            writer->failure = written < 0 ? errno : ENOSPC;
            return;
        }
        data += written;
        length -= (size_t)written;
        writer->bytes += (uint64_t)written;
    }
}

static void end_block(struct writer *writer)
{
    uint32_t head[3] = {(uint32_t)writer->length, 0, writer->index++};
    memcpy(writer->block, head, sizeof head);
    head[1] = checksum_of(writer->block + 8, writer->length - 8);
    memcpy(writer->block, head, sizeof head);
    write_all(writer, writer->block, writer->length);
    writer->length = BLOCK_HEAD_BYTES;
}

/* Room for a record in the present block, or at the beginning of the next. */
static char *room_for(struct writer *writer, size_t length)
{
    if (writer->length + length > BLOCK_BYTES)
        end_block(writer);
    char *room = writer->block + writer->length;
    writer->length += length;
    return room;
}

static char *put(char *to, const void *data, size_t length)
{
    memcpy(to, data, length);
    return to + length;
}

static void put_value(struct writer *writer, const presence_value *value)
{
    struct value_record record = {
        .letter = 'V',
        .id = value->connection_id,
        .last_seen = value->last_seen,
        .alive = value->status == PRESENCE_ALIVE,
        .controller_agent = value->controller_agent,
        .model_length = (uint16_t)strlen(value->model),
        .agent_length = (uint16_t)strlen(value->agent),
        .data_length = (uint16_t)strlen(value->user_data),
    };
    char *to = room_for(writer, sizeof record + record.model_length + record.agent_length + record.data_length + 3U);
    to = put(to, &record, sizeof record);
    to = put(to, value->model, record.model_length + 1U);
    to = put(to, value->agent, record.agent_length + 1U);
    put(to, value->user_data, record.data_length + 1U);
    writer->values++;
}

/* What is known of a server beside its values, in a record that has its number of values already. */
static void describe(const presence_server_description *known, struct server_record *record)
{
    record->epoch = known->claim.epoch;
    record->turn = known->claim.turn;
    record->random = known->claim.random;
    record->number = known->number;
    record->floor = known->floor;
    record->forgotten = known->forgotten && record->values == 0;
    /* What an older life left and the newer has not restated is missing for that reason. */
    record->floor_reason = known->inherited > 0 ? PRESENCE_REASON_SUPERSEDED : 0;
    if (known->floor_reason != PRESENCE_REASON_NONE) {
        record->floor_reason = (uint8_t)known->floor_reason;
        record->floor_time = known->floor_time;
    }
}

/* The server of these values, and them. `known` NULL: nothing is known beside them. */
static void put_slice(struct writer *writer, const char *server, const presence_connections *slice,
                      const presence_server_description *known, presence_time now)
{
    presence_value value;
    presence_cursor cursor = {0};
    struct server_record record = {.letter = 'S', .floor_time = now, .name_length = (uint16_t)strlen(server)};
    while (presence_connections_next(slice, &cursor, &value)) {
        record.values++;
        record.alive += value.status == PRESENCE_ALIVE;
    }
    if (known)
        describe(known, &record);
    char *to = room_for(writer, sizeof record + record.name_length + 1U);
    put(put(to, &record, sizeof record), server, record.name_length + 1U);
    writer->servers++;
    cursor = (presence_cursor){0};
    while (!writer->failure && presence_connections_next(slice, &cursor, &value))
        put_value(writer, &value);
}

/* False: out of memory. */
static bool put_server(struct writer *writer, presence_recorder *recorder, const presence_connections *view,
                       presence_time now, const char *server)
{
    presence_server_description known;
    presence_connections *slice = presence_connections_for_server(view, server);
    if (!slice)
        return false;
    bool described = presence_replica_describe(recorder, server, &known) == PRESENCE_OK;
    put_slice(writer, server, slice, described ? &known : NULL, now);
    presence_connections_free(slice);
    return true;
}

/*
 * Of a node in a cluster: the servers that it states, or that nobody has claimed yet, each as it stands at its number,
 * for claim, number and connections are compared with what other nodes hold of them. What others state they keep.
 */
static bool put_own_servers(struct writer *writer, presence_recorder *recorder, presence_time now)
{
    char **names = NULL;
    size_t count = 0;
    bool good = presence_replica_servers(recorder, &names, &count) == PRESENCE_OK;
    for (size_t i = 0; good && i < count; i++) {
        presence_server_description known;
        if (presence_replica_describe(recorder, names[i], &known) != PRESENCE_OK || known.forgotten ||
            (!known.local && known.claim.turn > 0))
            continue;
        presence_connections *slice = presence_replica_state(recorder, names[i], &known);
        if (slice)
            put_slice(writer, names[i], slice, &known, now);
        presence_connections_free(slice);
    }
    presence_names_free(names);
    return good;
}

/* The servers of the view, and those that have a claim but no connections. */
static bool put_servers(struct writer *writer, presence_recorder *recorder, const presence_connections *view,
                        presence_time now)
{
    char **in_view = NULL, **known = NULL;
    size_t in_view_count = 0, known_count = 0;
    bool good = presence_connections_servers(view, &in_view, &in_view_count) == PRESENCE_OK &&
                presence_replica_servers(recorder, &known, &known_count) == PRESENCE_OK;
    /* Both are sorted by bytes. */
    for (size_t i = 0, k = 0; good && (i < in_view_count || k < known_count);) {
        int order = i == in_view_count ? 1 : k == known_count ? -1 : strcmp(in_view[i], known[k]);
        good = put_server(writer, recorder, view, now, order <= 0 ? in_view[i] : known[k]);
        i += order <= 0;
        k += order >= 0;
    }
    presence_names_free(in_view);
    presence_names_free(known);
    return good;
}

static void put_all(struct writer *writer, presence_recorder *recorder, const presence_connections *view,
                    presence_time now, bool in_cluster)
{
    struct head_record head = {'H', presence_connections_revision(view), now};
    write_all(writer, STATE_MAGIC, MAGIC_BYTES);
    put(room_for(writer, sizeof head), &head, sizeof head);
    /* A disabled recorder was cleared on purpose: what comes back after it is nothing. */
    bool all = in_cluster ? put_own_servers(writer, recorder, now) : put_servers(writer, recorder, view, now);
    if (!all && !writer->failure && presence_recorder_is_enabled(recorder))
        writer->failure = ENOMEM;
    struct end_record end = {'E', writer->servers, writer->values};
    put(room_for(writer, sizeof end), &end, sizeof end);
    end_block(writer);
}

/* Makes the new file the state. The first failure's errno, or 0. */
static int publish(int folder_fd, struct writer *writer)
{
    if (!writer->failure && fsync(writer->fd) != 0)
        writer->failure = errno;
    if (close(writer->fd) != 0 && !writer->failure)
        writer->failure = errno;
    if (!writer->failure && renameat(folder_fd, STATE_NEW_FILE, folder_fd, STATE_FILE) != 0)
        writer->failure = errno;
    if (writer->failure)
        unlinkat(folder_fd, STATE_NEW_FILE, 0);
    else if (fsync(folder_fd) != 0)
        writer->failure = errno;
    return writer->failure;
}

/* A file of our own, whatever stood there: a link is not followed. */
static int create_new(int folder_fd)
{
    if (unlinkat(folder_fd, STATE_NEW_FILE, 0) != 0 && errno != ENOENT)
        return -1;
    return openat(folder_fd, STATE_NEW_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

bool state_write(struct state *state, struct state_facts *facts, uint64_t *revision, char *why)
{
    presence_recorder *recorder = state->node->recorder;
    uint64_t began_ms = node_now_ms();
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    presence_time now = (presence_time)clock.tv_sec * 1000000000 + clock.tv_nsec;
    presence_connections *view = presence_recorder_connections(recorder);
    char *block = malloc(BLOCK_BYTES);
    struct writer writer = {.fd = -1, .block = block, .length = BLOCK_HEAD_BYTES};
    if (!view || !block)
        writer.failure = ENOMEM;
    else if ((writer.fd = create_new(state->folder_fd)) < 0)
        writer.failure = errno;
    if (!writer.failure) {
        *revision = presence_connections_revision(view);
        put_all(&writer, recorder, view, now, *state->node->config->nats != 0);
        presence_connections_free(view); /* what follows may take long */
        view = NULL;
        publish(state->folder_fd, &writer);
    }
    presence_connections_free(view);
    free(block);
    if (writer.failure) {
        snprintf(why, WHY_BYTES, "%s", strerror(writer.failure));
        return false;
    }
    facts->bytes = writer.bytes;
    facts->connections = writer.values;
    facts->duration_ms = node_now_ms() - began_ms;
    facts->written = now;
    return true;
}
