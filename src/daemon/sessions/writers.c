/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writers.c - which threads are in a write: for who binds a server with an epoch, and for who stops the node.
 *
 * Who writes without a session looks whether the server is fenced, and then writes: in between, somebody on another
 * thread may bind it with an epoch, and the write would land in the newer life. So such a write is shown by a counter
 * of its thread, with plain stores and no barrier: who binds fences the server first, makes every thread pass a barrier
 * (membarrier(2)), and then waits for the writes that may have looked before that. A stop does the same for all writes.
 *
 * Keeps true: once writers_wait has returned, no write to the server is under way that did not see the fence, and once
 * sessions_stop_writes has, none that did not see the stop, unless it took longer than LAST_WRITES_MS. Where the system
 * has no membarrier, each write passes a barrier of its own instead.
 *
 * The thread sanitizer knows neither membarrier nor fences, and needs neither: the counters are atomics, what is
 * written is the recorder's, under its own lock, and from the end of a write to who waited for it there is a release
 * and an acquire.
 *
 * Writes begin and end on the threads that run commands, each on its own; anybody waits. A write costs two stores;
 * waiting a system call and, where there is a write, the rest of it.
 */
#include "sessions/inside.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LAST_WRITES_MS = 500 };

/* Of each thread that runs commands: whether it is in a write. Counts of beginnings and ends: odd, it is. */
struct writer {
    _Alignas(64) _Atomic uint64_t count; /* to a server that its client does not hold */
    _Atomic uint64_t held;               /* to one that it holds */
    _Atomic uint64_t server;             /* the worker's only: a hash of which */
};

/* The loops' and, behind them, the worker's. */
static size_t count_writers(const struct sessions *sessions)
{
    return sessions->node->loops->count + 1;
}

static struct writer *writer_of(struct sessions *sessions, const struct client *client)
{
    return &sessions->writers[client->on_worker ? sessions->node->loops->count : client->loop->index];
}

bool writers_init(struct sessions *sessions)
{
    size_t bytes = count_writers(sessions) * sizeof *sessions->writers;
    sessions->writers = aligned_alloc(_Alignof(struct writer), bytes);
    if (!sessions->writers)
        return false;
    memset(sessions->writers, 0, bytes);
    sessions->barriers = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
    return true;
}

void writers_free(struct sessions *sessions)
{
    free(sessions->writers);
    sessions->writers = NULL;
}

/* ------------------------------------------------------------------------------------------------- who writes -- */

static void step(_Atomic uint64_t *count)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_release);
}

static void end_if_begun(_Atomic uint64_t *count)
{
    if (atomic_load_explicit(count, memory_order_relaxed) & 1)
        step(count);
}

/* What follows is not looked at before the step of before is seen by who asks for it. */
static void pass_barrier(const struct sessions *sessions)
{
    if (sessions->barriers)
        atomic_signal_fence(memory_order_seq_cst);
    else
        atomic_thread_fence(memory_order_seq_cst);
}

void writers_begin(struct sessions *sessions, const struct client *client, const char *server)
{
    struct writer *writer = writer_of(sessions, client);
    if (client->on_worker) /* which may take long: who binds another server does not wait for it */
        atomic_store_explicit(&writer->server, sessions_hash(sessions, server), memory_order_relaxed);
    step(&writer->count);
    pass_barrier(sessions);
}

void writers_begin_held(struct sessions *sessions, const struct client *client)
{
    step(&writer_of(sessions, client)->held);
    pass_barrier(sessions);
}

void writers_end(struct sessions *sessions, const struct client *client)
{
    struct writer *writer = writer_of(sessions, client);
    end_if_begun(&writer->count);
    end_if_begun(&writer->held);
}

/* -------------------------------------------------------------------------------------------------- who waits -- */

static void make_all_pass_barriers(const struct sessions *sessions)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (sessions->barriers)
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

void writers_wait(struct sessions *sessions, const struct client *client, const char *server)
{
    const struct writer *own = writer_of(sessions, client);
    make_all_pass_barriers(sessions);
    for (size_t i = 0; i < count_writers(sessions); i++) {
        struct writer *writer = &sessions->writers[i];
        uint64_t count = atomic_load_explicit(&writer->count, memory_order_acquire);
        bool elsewhere = i == sessions->node->loops->count &&
                         atomic_load_explicit(&writer->server, memory_order_relaxed) != sessions_hash(sessions, server);
        while (writer != own && !elsewhere && count & 1 &&
               atomic_load_explicit(&writer->count, memory_order_acquire) == count)
            sched_yield();
    }
}

static void wait_for_end(_Atomic uint64_t *counter, uint64_t until_ms)
{
    uint64_t count = atomic_load_explicit(counter, memory_order_acquire);
    while (count & 1 && atomic_load_explicit(counter, memory_order_acquire) == count && node_now_ms() < until_ms)
        sched_yield();
}

void sessions_stop_writes(struct node *node)
{
    struct sessions *sessions = node->sessions;
    const uint64_t until_ms = node_now_ms() + LAST_WRITES_MS;
    make_all_pass_barriers(sessions);
    for (size_t i = 0; i < count_writers(sessions); i++) {
        wait_for_end(&sessions->writers[i].count, until_ms);
        wait_for_end(&sessions->writers[i].held, until_ms);
    }
}
