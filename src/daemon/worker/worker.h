/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - long commands, away from the loops: one thread that runs them in their order, so that a loop's other
 * clients are served meanwhile; and a few threads for those that wait for other nodes.
 *
 * The client of a job is paused until its answer is back on its loop. A job that is handed over is the worker's until
 * its `done` is called, which happens exactly once, on its loop's thread.
 *
 * At most max-long-commands are waiting or run. What the thread runs takes the record's lock in steps, as a loop would,
 * and gives way to others.
 */
#ifndef DAEMON_WORKER_WORKER_H
#define DAEMON_WORKER_WORKER_H

#include "node/node.h"

struct job {
    void (*run)(struct job *job);  /* on a thread of the worker's */
    void (*done)(struct job *job); /* on the loop's thread, afterwards */
    struct loop *loop;
    const char *server; /* that it writes to; NULL: none. Lives as long as the job */
    bool waits;         /* for others, not for the processor: on a thread of its own */
    bool skipped;       /* it was not run, for the node stops; set before `done` */
    struct job *next;   /* the worker's own */
};

/* Sets node->worker. Before the loops run. False: `error` says why. */
bool worker_start(struct node *node, char *error, size_t error_bytes);
/* After the loops have ended, while clients are still there: ends what runs, skips what waits, and calls `done` of all
 * of them on this thread. */
void worker_stop(struct node *node);
void worker_free(struct node *node);

/* Hands the job over. False: too many are waiting, or memory or threads are out; nothing will be called. Any thread. */
bool worker_offer(struct node *node, struct job *job);
/* Whether a job that writes to the server waits or runs: whoever else writes to it would wait for that on its loop.
 * Costs a load while there are no jobs. */
bool worker_write_to(struct node *node, const char *server);
/* How many wait or run; for metrics. */
size_t worker_count(const struct node *node);

#endif
