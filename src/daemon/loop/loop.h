/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - N event loops, each on a thread of its own, the first on the thread that called loops_run.
 *
 * What belongs to a loop (a client, its events, its watch) is touched by that loop's thread alone, without a lock.
 * Others reach it by loop_post. libevent's own locking is therefore off: never touch another loop's base.
 */
#ifndef DAEMON_LOOP_LOOP_H
#define DAEMON_LOOP_LOOP_H

#include "base/bytes.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOOP_SCRATCH_BYTES = 64 * 1024, LOOP_STOP_MS = 3000 };

struct loop {
    struct event_base *base;
    size_t index;
    /* Lent to whoever runs on this loop, for the length of one event. Input is read into `input` and replies are
     * gathered in `output`, so that a client at rest holds no buffer. */
    char *input;         /* LOOP_SCRATCH_BYTES */
    struct bytes output; /* left empty */
    struct loop_inside *inside;
};

struct loops {
    struct loop *loops;
    size_t count;
};

/* False: `error` (of `error_bytes`) says why. */
bool loops_init(struct loops *loops, size_t count, char *error, size_t error_bytes);
/* Starts the other threads and runs the first loop here, until loops_stop; returns once all threads have ended. */
bool loops_run(struct loops *loops, char *error, size_t error_bytes);
/* Asks every loop to end after what is posted so far, once nobody holds it, and in LOOP_STOP_MS whoever does. Any
 * thread; a second call ends them at once. */
void loops_stop(struct loops *loops);
/* Runs here what is posted and was not run, once all loops have ended. */
void loops_run_posted(struct loops *loops);
void loops_free(struct loops *loops);

/* Something has to be finished before this loop ends: replies that wait for their readers, say. On the loop's thread;
 * each hold is released once. */
void loop_hold(struct loop *loop);
void loop_release(struct loop *loop);

/* Runs `task(loop, context)` soon, on that loop's thread, in the order of posting. Any thread. False: out of memory,
 * and nothing will run. What is posted when the loop has ended is run by loops_free, on its caller's thread. */
bool loop_post(struct loop *loop, void (*task)(struct loop *loop, void *context), void *context);

#endif
