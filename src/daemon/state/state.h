/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - what outlives the process: the record, in a file of `--state DIR`.
 *
 * Written by a thread of its own, from a view, so that nobody waits for it: every --state-interval if anything but a
 * last_seen has changed (and once a minute if there was any traffic), and at a clean stop. A file is whole or it is not
 * there: it is written as state.new, synced, and renamed.
 *
 * Read at start. Everything comes back missing: who was alive when it was written is timed_out since then, who was
 * missing already keeps why and since when, as far as one reason a server can tell it. last_seen, claims and numbers
 * come back too, and so a gateway of an older epoch is still stale. Agents that had left are not known any more.
 * A file that is torn, or changed in any bit, is refused as a whole, renamed state.bad-TIME, and said in the log.
 *
 *   DIR/state        the newest one           DIR/state.new    one that is being written
 *   DIR/state.bad-T  one that was refused     DIR/lock         held while a presenced runs on DIR
 */
#ifndef DAEMON_STATE_STATE_H
#define DAEMON_STATE_STATE_H

#include "node/node.h"

struct state;

/* Makes DIR if it is not there, takes its lock, finds out whether it can be written, and reads the state into the
 * node's recorder, which is enabled and empty. Sets node->state; no --state: NULL. Before sessions_start. False:
 * `error` says why: another presenced runs on DIR, or DIR cannot be used. A bad state file is no such reason. */
bool state_open(struct node *node, char *error, size_t error_bytes);
/* Starts the writing thread. False: `error` says why. */
bool state_start(struct node *node, char *error, size_t error_bytes);
/* Ends the thread, writes what is recorded now (unless the thread never ran), gives the lock back. False: it could not
 * be written, and the log says why. */
bool state_close(struct node *node);

/* For metrics. */
struct state_facts {
    uint64_t writes, failures;                /* so far */
    uint64_t bytes, connections, duration_ms; /* of the last that was written */
    presence_time written;                    /* when; 0: not yet */
};
/* Zeros where there is no --state. Any thread. */
void state_describe(const struct node *node, struct state_facts *facts);

#endif
