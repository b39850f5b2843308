/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.c - a state file into a recorder.
 *
 * The file is read whole and checked whole, block by block and record by record, before anything of it is recorded: a
 * file that is not exactly what a writer wrote is refused as one. Then each server is applied as a replicated state, so
 * that last_seen and what was missing before come back as they were; who was alive is marked timed_out at the file's
 * time; and the claim is taken over, so that gateways may state the server again.
 *
 * A node of a cluster takes no claim out of a file: while it was away another may have claimed the server, under a
 * claim that this one does not know. So the server comes back as the memory of one that is not stated now (lapsed); it
 * gives way to any later memory of it, and to whoever claims it.
 *
 * At start, by one thread, with the recorder enabled and empty. O(file): two passes, and the recorder's own cost.
 */
#include "state/inside.h"

#include "base/checksum.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file in memory, walked record by record. */
struct reader {
    const char *data;
    size_t length;
    size_t at, block_end; /* the next record, and where its block ends */
    uint32_t blocks;
    const char *problem; /* what is wrong with the file; NULL: nothing so far */
};

static struct reader reader_of(const char *data, size_t length)
{
    return (struct reader){.data = data, .length = length, .at = MAGIC_BYTES, .block_end = MAGIC_BYTES};
}

/* Enters the block that begins here; `check`: its sum too. */
static bool enter_block(struct reader *reader, bool check)
{
    uint32_t head[3];
    size_t left = reader->length - reader->at;
    if (left < BLOCK_HEAD_BYTES) {
        reader->problem = "it ends too early";
        return false;
    }
    memcpy(head, reader->data + reader->at, sizeof head);
    if (head[0] < BLOCK_HEAD_BYTES || head[0] > BLOCK_BYTES || head[0] > left)
        reader->problem = head[0] > left && head[0] <= BLOCK_BYTES ? "it ends too early" : "a block has no good length";
    else if (check && checksum_of(reader->data + reader->at + 8, head[0] - 8) != head[1])
        reader->problem = "a block's checksum is wrong";
    else if (head[2] != reader->blocks++)
        reader->problem = "a block is out of order";
    reader->block_end = reader->at + head[0];
    reader->at += BLOCK_HEAD_BYTES;
    return !reader->problem;
}

/* The next record's letter, 0 where there is none. */
static char next_letter(struct reader *reader, bool check)
{
    while (!reader->problem && reader->at == reader->block_end && reader->at < reader->length)
        enter_block(reader, check);
    if (reader->problem || reader->at == reader->length)
        return 0;
    return reader->data[reader->at];
}

/* Takes the record's fixed part. */
static bool take(struct reader *reader, void *record, size_t length)
{
    if (reader->block_end - reader->at < length) {
        reader->problem = "a record is cut off";
        return false;
    }
    memcpy(record, reader->data + reader->at, length);
    reader->at += length;
    return true;
}

/* Takes a text of that length and its NUL, which stays where it is. */
static const char *take_text(struct reader *reader, size_t length)
{
    const char *text = reader->data + reader->at;
    if (reader->block_end - reader->at <= length || memchr(text, 0, length + 1) != text + length) {
        reader->problem = "a text is not one";
        return NULL;
    }
    reader->at += length + 1;
    return text;
}

/* The server's own part. NULL: see the problem. */
static const char *take_server(struct reader *reader, struct server_record *record)
{
    return take(reader, record, sizeof *record) ? take_text(reader, record->name_length) : NULL;
}

static bool take_value(struct reader *reader, const char *server, presence_value *value)
{
    struct value_record record;
    if (!take(reader, &record, sizeof record))
        return false;
    *value = (presence_value){
        .model = take_text(reader, record.model_length),
        .server = server,
        .connection_id = record.id,
        .last_seen = record.last_seen,
        .status = record.alive ? PRESENCE_ALIVE : PRESENCE_MISSING,
        .controller_agent = record.controller_agent,
    };
    if (!reader->problem)
        value->agent = take_text(reader, record.agent_length);
    if (!reader->problem)
        value->user_data = take_text(reader, record.data_length);
    return !reader->problem;
}

/* ------------------------------------------------------------------------------------------------------ checking -- */

/* One server and its values. */
static bool check_server(struct reader *reader, uint64_t *values)
{
    struct server_record server;
    presence_value value;
    const char *name = take_server(reader, &server);
    for (uint64_t i = 0; name && i < server.values; i++) {
        if (next_letter(reader, true) != 'V') {
            if (!reader->problem)
                reader->problem = "a value is wanting";
            return false;
        }
        if (!take_value(reader, name, &value))
            return false;
    }
    *values += name ? server.values : 0;
    return name != NULL;
}

/* What is wrong with the file, or NULL. */
static const char *check(const char *data, size_t length)
{
    struct reader reader = reader_of(data, length);
    struct head_record head;
    struct end_record end;
    uint64_t servers = 0, values = 0;
    if (length < MAGIC_BYTES || memcmp(data, STATE_MAGIC, MAGIC_BYTES) != 0)
        return "it does not begin as a state of this version does";
    if (next_letter(&reader, true) != 'H' || !take(&reader, &head, sizeof head))
        return reader.problem ? reader.problem : "it has no head";
    while (next_letter(&reader, true) == 'S' && check_server(&reader, &values))
        servers++;
    if (reader.problem)
        return reader.problem;
    if (next_letter(&reader, true) != 'E' || !take(&reader, &end, sizeof end))
        return reader.problem ? reader.problem : "it has no end";
    if (end.servers != servers || end.values != values)
        return "its end does not count what is there";
    return reader.at == length ? NULL : "something follows its end";
}

/* ----------------------------------------------------------------------------------------------------- recording -- */

/* Who was alive is missing since the state was written: nothing has been heard of the server from then on. */
static int time_out(presence_recorder *recorder, const char *name, const presence_claim *claim, uint64_t number,
                    presence_time time, presence_error *error)
{
    presence_change down = {
        .number = number + 1,
        .kind = PRESENCE_CHANGE_DOWN,
        .reason = PRESENCE_REASON_TIMED_OUT,
        .time = time,
    };
    return presence_replica_apply(recorder, name, claim, &down, NULL, error);
}

static int record_server(struct node *node, const char *name, const struct server_record *server,
                         const presence_value *values, presence_time time, presence_error *error)
{
    presence_recorder *recorder = node->recorder;
    presence_claim claim = {server->epoch, server->turn, server->random};
    if (claim.epoch == 0 && claim.turn == 0 && claim.random == 0)
        claim = (presence_claim){0, 1, node->run}; /* nobody had claimed it: a state needs some claim */
    if (server->forgotten && *node->config->nats)
        return PRESENCE_OK; /* the other nodes have the tombstone */
    if (server->forgotten) {
        int code = presence_replica_claim(recorder, name, &claim, false);
        return code ? code : presence_replica_forget(recorder, name, error);
    }
    int code = presence_replica_apply_state(recorder, name, &claim, server->number, server->floor,
                                            (presence_reason)server->floor_reason, server->floor_time, values,
                                            server->values, error);
    if (code == PRESENCE_OK && *node->config->nats)
        return presence_replica_lapse(recorder, name);
    if (code == PRESENCE_OK && server->alive > 0)
        code = time_out(recorder, name, &claim, server->number, time, error);
    return code ? code : presence_replica_claim(recorder, name, &claim, true);
}

/* Reads the values of one server into the array, which grows. NULL: out of memory. */
static presence_value *read_values(struct reader *reader, const char *name, uint64_t count, presence_value **values,
                                   uint64_t *room)
{
    if (count > *room || !*values) {
        presence_value *more = realloc(*values, (count ? count : 1) * sizeof *more);
        if (!more)
            return NULL;
        *values = more;
        *room = count;
    }
    for (uint64_t i = 0; i < count; i++) {
        next_letter(reader, false);
        take_value(reader, name, &(*values)[i]);
    }
    return *values;
}

/* Records a file that was checked. How many servers were refused, or -1: out of memory. */
static int record_all(struct node *node, const char *data, size_t length, char *why)
{
    struct reader reader = reader_of(data, length);
    struct head_record head = {0};
    struct server_record server = {0};
    presence_value *values = NULL;
    uint64_t room = 0;
    int refused = 0;
    next_letter(&reader, false);
    take(&reader, &head, sizeof head);
    while (next_letter(&reader, false) == 'S') {
        presence_error error = {0};
        const char *name = take_server(&reader, &server);
        if (!read_values(&reader, name, server.values, &values, &room)) {
            refused = -1;
            break;
        }
        int code = record_server(node, name, &server, values, head.time, &error);
        if (code) {
            snprintf(why, WHY_BYTES, "server \"%.60s\": %.180s", name,
                     *error.message ? error.message : presence_strerror(code));
            log_event(LOG_LEVEL_ERROR, "server not restored", "server", name, "why", why, NULL);
            refused++;
        }
    }
    free(values);
    return refused;
}

/* ------------------------------------------------------------------------------------------------------- reading -- */

/* The whole file, to be freed; NULL: `why`. */
static char *read_file(int fd, size_t *length, char *why)
{
    struct stat facts;
    char *data = NULL;
    size_t sum = 0;
    if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode))
        data = malloc((size_t)facts.st_size + 1);
    else
        errno = EINVAL;
    while (data && sum < (size_t)facts.st_size) {
        ssize_t got = read(fd, data + sum, (size_t)facts.st_size - sum);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(data);
            data = NULL;
        }
        if (got <= 0)
            break;
        sum += (size_t)got;
    }
    if (!data)
        snprintf(why, WHY_BYTES, "cannot read the state: %s", strerror(errno));
    *length = sum;
    return data;
}

enum state_outcome state_read(struct state *state, char *why)
{
    size_t length;
    int fd = openat(state->folder_fd, STATE_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return STATE_NONE;
    if (fd < 0) {
        snprintf(why, WHY_BYTES, "cannot open the state: %s", strerror(errno));
        return STATE_FAILED;
    }
    char *data = read_file(fd, &length, why);
    close(fd);
    if (!data)
        return STATE_FAILED;
    const char *problem = check(data, length);
    int refused = problem ? 0 : record_all(state->node, data, length, why);
    free(data);
    if (problem)
        snprintf(why, WHY_BYTES, "%s", problem);
    if (refused < 0)
        snprintf(why, WHY_BYTES, "cannot read the state: out of memory");
    return problem ? STATE_BAD : refused < 0 ? STATE_FAILED : refused > 0 ? STATE_PARTLY : STATE_READ;
}
