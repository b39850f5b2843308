/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.c - a state file into a recorder.
 *
 * The file is read twice, block by block, each time in the same megabyte of memory, for new memory costs more than
 * reading. The first time it is checked whole, block by block and record by record, before anything of it is recorded:
 * a file that is not exactly what a writer wrote is refused as one. The second time each server is recorded as a
 * replicated state, in pieces, so that last_seen and what was missing before come back as they were; who was alive is
 * marked timed_out at the file's time; and the claim is taken over, so that gateways may state the server again.
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

/* Values that are recorded at a time: few enough to stay near the processor. */
enum { PIECE_VALUES = 512 };

/* The file, walked record by record. */
struct reader {
    int fd;
    bool ended;
    size_t at, end; /* in the block: the next record, and where it ends */
    uint32_t blocks;
    int failure;         /* an errno: the file cannot be read */
    const char *problem; /* what is wrong with it; NULL: nothing so far */
    char name[UINT16_MAX + 1];
    presence_value values[PIECE_VALUES];
    char block[BLOCK_BYTES];
};

/* Reads so many bytes, or up to the file's end; how many it were. */
static size_t read_bytes(struct reader *reader, char *to, size_t length)
{
    size_t sum = 0;
    while (sum < length) {
        ssize_t got = read(reader->fd, to + sum, length - sum);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            reader->failure = errno;
        if (got <= 0)
            break;
        sum += (size_t)got;
    }
    return sum;
}

/* Takes the next block, whose records are then walked. False: there is none, or it is not one. */
static bool enter_block(struct reader *reader)
{
    uint32_t head[3];
    size_t got = read_bytes(reader, reader->block, BLOCK_HEAD_BYTES);
    reader->at = reader->end = BLOCK_HEAD_BYTES;
    if (got < BLOCK_HEAD_BYTES) {
        reader->ended = true;
        reader->problem = reader->failure ? "it cannot be read" : got ? "it ends too early" : NULL;
        return false;
    }
    memcpy(head, reader->block, sizeof head);
    size_t length = head[0];
    if (length < BLOCK_HEAD_BYTES || length > BLOCK_BYTES)
        reader->problem = "a block has no good length";
    else if (read_bytes(reader, reader->block + BLOCK_HEAD_BYTES, length - BLOCK_HEAD_BYTES) !=
             length - BLOCK_HEAD_BYTES)
        reader->problem = reader->failure ? "it cannot be read" : "it ends too early";
    else if (checksum_of(reader->block + 8, length - 8) != head[1])
        reader->problem = "a block's checksum is wrong";
    else if (head[2] != reader->blocks++)
        reader->problem = "a block is out of order";
    reader->end = length;
    return !reader->problem;
}

/* The next record's letter, 0 where there is none. */
static char next_letter(struct reader *reader)
{
    while (!reader->problem && !reader->ended && reader->at == reader->end)
        enter_block(reader);
    if (reader->problem || reader->ended)
        return 0;
    return reader->block[reader->at];
}

/* Takes the record's fixed part. */
static bool take(struct reader *reader, void *record, size_t length)
{
    if (reader->end - reader->at < length) {
        reader->problem = "a record is cut off";
        return false;
    }
    memcpy(record, reader->block + reader->at, length);
    reader->at += length;
    return true;
}

/* Takes a text of that length and its NUL, which stays where it is until another block is entered. */
static const char *take_text(struct reader *reader, size_t length)
{
    const char *text = reader->block + reader->at;
    if (reader->end - reader->at <= length || memchr(text, 0, length + 1) != text + length) {
        reader->problem = "a text is not one";
        return NULL;
    }
    reader->at += length + 1;
    return text;
}

/* The server's own part; its name into reader->name. */
static bool take_server(struct reader *reader, struct server_record *record)
{
    const char *name = take(reader, record, sizeof *record) ? take_text(reader, record->name_length) : NULL;
    if (name)
        memcpy(reader->name, name, (size_t)record->name_length + 1);
    return name;
}

static bool take_value(struct reader *reader, presence_value *value)
{
    struct value_record record;
    if (reader->block[reader->at] != 'V')
        reader->problem = "a value is wanting";
    if (reader->problem || !take(reader, &record, sizeof record))
        return false;
    *value = (presence_value){
        .model = take_text(reader, record.model_length),
        .server = reader->name,
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

/* The server's next values, those of one block, at most `left` and PIECE_VALUES, into reader->values. 0: see the
 * problem. */
static size_t take_piece(struct reader *reader, uint64_t left)
{
    size_t count = 0, most = left < PIECE_VALUES ? (size_t)left : PIECE_VALUES;
    if (!next_letter(reader) && !reader->problem)
        reader->problem = "a value is wanting";
    while (!reader->problem && count < most && reader->at < reader->end && take_value(reader, &reader->values[count]))
        count++;
    return reader->problem ? 0 : count;
}

/* ------------------------------------------------------------------------------------------------------ checking -- */

/* One server and its values. */
static bool check_server(struct reader *reader, uint64_t *values)
{
    struct server_record server;
    if (!take_server(reader, &server))
        return false;
    for (uint64_t left = server.values; left > 0 && !reader->problem;)
        left -= take_piece(reader, left);
    *values += server.values;
    return !reader->problem;
}

/* Goes to the file's beginning and takes its head. */
static bool begin_file(struct reader *reader, struct head_record *head)
{
    reader->at = reader->end = 0;
    reader->blocks = 0;
    reader->ended = false;
    reader->failure = 0;
    reader->problem = NULL;
    if (lseek(reader->fd, 0, SEEK_SET) < 0 || read_bytes(reader, reader->block, MAGIC_BYTES) != MAGIC_BYTES ||
        memcmp(reader->block, STATE_MAGIC, MAGIC_BYTES) != 0)
        reader->problem = "it does not begin as a state of this version does";
    else if (next_letter(reader) != 'H' || !take(reader, head, sizeof *head))
        reader->problem = reader->problem ? reader->problem : "it has no head";
    return !reader->problem;
}

/* What is wrong with the file, or NULL. */
static const char *check(struct reader *reader)
{
    struct head_record head;
    struct end_record end;
    uint64_t servers = 0, values = 0;
    if (!begin_file(reader, &head))
        return reader->problem;
    while (next_letter(reader) == 'S' && check_server(reader, &values))
        servers++;
    if (reader->problem)
        return reader->problem;
    if (next_letter(reader) != 'E' || !take(reader, &end, sizeof end))
        return reader->problem ? reader->problem : "it has no end";
    if (end.servers != servers || end.values != values)
        return "its end does not count what is there";
    if (reader->at == reader->end)
        next_letter(reader); /* whether there is another block */
    return reader->ended ? reader->problem : "something follows its end";
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

/* Reads the server's values, and records them in pieces where there is a writer. The first error of that. */
static int record_values(struct reader *reader, presence_state_writer *writer, uint64_t left, presence_error *error)
{
    int code = PRESENCE_OK;
    while (left > 0) {
        size_t count = take_piece(reader, left);
        if (count == 0)
            return PRESENCE_E_INVALID; /* the reader has the problem */
        if (writer && !code)
            code = presence_replica_state_add(writer, reader->values, count, error);
        left -= count;
    }
    return code;
}

static int record_state(struct node *node, struct reader *reader, const struct server_record *server,
                        const presence_claim *claim, presence_error *error)
{
    presence_state_writer *writer = NULL;
    int code = presence_replica_state_begin(node->recorder, reader->name, claim, server->number, server->floor,
                                            (presence_reason)server->floor_reason, server->floor_time, &writer, error);
    int recorded = record_values(reader, writer, server->values, error);
    code = code ? code : recorded;
    if (!code)
        return presence_replica_state_commit(writer, error);
    presence_replica_state_abort(writer);
    return code;
}

/* The server's values are read in any case. */
static int record_server(struct node *node, struct reader *reader, const struct server_record *server,
                         presence_time time, presence_error *error)
{
    presence_recorder *recorder = node->recorder;
    const char *name = reader->name;
    presence_claim claim = {server->epoch, server->turn, server->random};
    if (claim.epoch == 0 && claim.turn == 0 && claim.random == 0)
        claim = (presence_claim){0, 1, node->run}; /* nobody had claimed it: a state needs some claim */
    if (server->forgotten) {
        int code = record_values(reader, NULL, server->values, error);
        if (code || *node->config->nats)
            return code; /* the other nodes have the tombstone */
        code = presence_replica_claim(recorder, name, &claim, false);
        return code ? code : presence_replica_forget(recorder, name, error);
    }
    int code = record_state(node, reader, server, &claim, error);
    if (code == PRESENCE_OK && *node->config->nats)
        return presence_replica_lapse(recorder, name);
    if (code == PRESENCE_OK && server->alive > 0)
        code = time_out(recorder, name, &claim, server->number, time, error);
    return code ? code : presence_replica_claim(recorder, name, &claim, true);
}

/* Records a file that was checked. How many servers were refused. */
static int record_all(struct node *node, struct reader *reader, char *why)
{
    struct head_record head;
    struct server_record server;
    int refused = 0;
    if (!begin_file(reader, &head))
        return 0;
    while (next_letter(reader) == 'S' && take_server(reader, &server)) {
        presence_error error = {0};
        int code = record_server(node, reader, &server, head.time, &error);
        if (code && !reader->problem) {
            snprintf(why, WHY_BYTES, "server \"%.60s\": %.180s", reader->name,
                     *error.message ? error.message : presence_strerror(code));
            log_event(LOG_LEVEL_ERROR, "server not restored", "server", reader->name, "why", why, NULL);
            refused++;
        }
    }
    return refused;
}

/* ------------------------------------------------------------------------------------------------------- reading -- */

static enum state_outcome read_file(struct state *state, struct reader *reader, char *why)
{
    struct stat facts;
    if (fstat(reader->fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        snprintf(why, WHY_BYTES, "cannot read the state: it is no file");
        return STATE_FAILED;
    }
    const char *problem = check(reader);
    if (problem && !reader->failure) {
        snprintf(why, WHY_BYTES, "%s", problem);
        return STATE_BAD;
    }
    int refused = problem ? 0 : record_all(state->node, reader, why);
    if (reader->problem) {
        snprintf(why, WHY_BYTES, "cannot read the state: %s",
                 reader->failure ? strerror(reader->failure) : "it changed while it was read");
        return STATE_FAILED;
    }
    return refused > 0 ? STATE_PARTLY : STATE_READ;
}

enum state_outcome state_read(struct state *state, char *why)
{
    int fd = openat(state->folder_fd, STATE_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return STATE_NONE;
    if (fd < 0) {
        snprintf(why, WHY_BYTES, "cannot open the state: %s", strerror(errno));
        return STATE_FAILED;
    }
    enum state_outcome outcome = STATE_FAILED;
    struct reader *reader = malloc(sizeof *reader);
    if (reader) {
        reader->fd = fd;
        outcome = read_file(state, reader, why);
    } else {
        snprintf(why, WHY_BYTES, "cannot read the state: out of memory");
    }
    free(reader);
    close(fd);
    return outcome;
}
