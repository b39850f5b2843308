/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside.h - the state file's format, and what its writer and its reader share.
 *
 * The file: eight bytes of magic with the version, then blocks; numbers are little-endian.
 *   block   its length in bytes (4), the CRC-32C of what follows (4), its index in the file (4), records
 *   record  a letter, then fields without padding:
 *     H  head: revision (8), time (8). The first record
 *     S  server: claim (3 × 8), number (8), floor (8), floor's time (8), how many values (8), of them alive (8),
 *        floor's reason (1), forgotten (1), length of the name (2), name, NUL. Its values follow
 *     V  value: id (8), last seen (8), alive (1), controller (1), lengths of model (2), agent (2), data (2), and these,
 *        each with a NUL, so that they are read in place
 *     E  end: how many servers (8), how many values (8). The last record; nothing follows
 * A record lies within one block, and blocks are at most BLOCK_BYTES.
 */
#ifndef DAEMON_STATE_INSIDE_H
#define DAEMON_STATE_INSIDE_H

#include "state/state.h"

#include <pthread.h>
#include <presence/replica.h>

#define STATE_MAGIC "PRESNCE1"
#define STATE_FILE "state"
#define STATE_NEW_FILE "state.new"

enum { MAGIC_BYTES = 8, BLOCK_HEAD_BYTES = 12, BLOCK_BYTES = 1024 * 1024, WHY_BYTES = 256 };

struct __attribute__((packed)) head_record {
    char letter;
    uint64_t revision;
    int64_t time;
};

struct __attribute__((packed)) server_record {
    char letter;
    uint64_t epoch, turn, random, number, floor;
    int64_t floor_time;
    uint64_t values, alive;
    uint8_t floor_reason, forgotten;
    uint16_t name_length;
};

struct __attribute__((packed)) value_record {
    char letter;
    uint64_t id;
    int64_t last_seen;
    uint8_t alive, controller_agent;
    uint16_t model_length, agent_length, data_length;
};

struct __attribute__((packed)) end_record {
    char letter;
    uint64_t servers, values;
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the records are written as they lie in memory");

struct state {
    struct node *node;
    int folder_fd, lock_fd;
    pthread_t thread;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t wake;
    bool running, stopping;
    bool failing; /* the last write failed, and it was said */
    struct state_facts facts;
    uint64_t written_revision, written_commands, written_at_ms;
};

/* Writes the state of the recorder's present view. False: `why` (of WHY_BYTES) says what failed; the old file
 * stands. */
bool state_write(struct state *state, struct state_facts *facts, uint64_t *revision, char *why);

enum state_outcome {
    STATE_READ,
    STATE_NONE,   /* there is no file */
    STATE_BAD,    /* the file is not what was written: nothing of it was taken */
    STATE_PARTLY, /* some servers were refused by the recorder, at a limit say */
    STATE_FAILED  /* it could not be read: memory, or the disk */
};

/* Reads the file into the recorder. */
enum state_outcome state_read(struct state *state, char *why);

#endif
