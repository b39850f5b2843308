/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - a run: the same command several times in a row in one pipeline, answered by one batch call of the recorder.
 *
 * The recorder's batches overlap the cache misses of up to 64 elements, and so a pipeline of activities costs a third
 * of as many single calls. The protocol's code offers each call to its command's `gather`; taken, nothing is said until
 * `finish`, which says one reply for each call in their order. The run ends when another command, or one with another
 * server, comes; when it is full; and when the input is used up: no reply ever waits for a client's next packet.
 * Slices in a run lie in the input buffer, which stays where it is until then.
 */
#ifndef DAEMON_COMMANDS_RUN_H
#define DAEMON_COMMANDS_RUN_H

#include "commands/command.h"

enum { RUN_MOST = 64 };

struct run {
    const struct command *command; /* NULL: empty */
    size_t count;
    const char *server; /* of all of them, where they write: one session holds it, or none */
    union {             /* the elements, as the command's batch wants them */
        presence_connection_key keys[RUN_MOST];
        presence_value values[RUN_MOST];
        presence_agent_key agents[RUN_MOST];
    };
};

#endif
