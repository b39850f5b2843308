/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - a queue, the thread that empties it, and threads for jobs that wait for others.
 *
 * Keeps true: jobs of the queue run one after the other, in the order in which they were offered, so two that write to
 * one server keep their order; `done` is called once for each, on its loop; none is left when worker_stop returns. The
 * mutex covers the queue and the list of servers, never a job's work. Offering costs a mutex and a
 * signal, and coming back a post.
 *
 * While the thread has nothing to do it has the record put on huge pages as it grows (presence_recorder_settle): it
 * looks at the record's statistics every two seconds.
 */
#include "worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_WAITERS = 4, BETWEEN_TRIES_NS = 1000000, SETTLE_S = 2 };

/* What a thread that waits for others is given. */
struct waiter {
    struct worker *worker;
    struct job *job;
};

struct worker {
    struct node *node;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* the queue, or how many waiters there are */
    pthread_t thread;
    bool started, stopping;
    struct job *first, **last;
    struct job *running;
    size_t waiters;
    uint64_t settled_bytes; /* the thread's own: what the record had taken when it was settled last */
    _Atomic size_t count;   /* waiting or running, of both kinds */
    _Atomic size_t writing; /* of them, those that write to a server and have not ended */
};

/* The job is over, or skipped: its loop has the rest. */
static void finish(struct loop *loop, void *context)
{
    (void)loop;
    struct job *job = context;
    job->done(job);
}

static void count(struct worker *worker, const struct job *job, size_t more)
{
    atomic_fetch_add(&worker->count, more);
    if (job->server)
        atomic_fetch_add(&worker->writing, more);
}

static void post(struct worker *worker, struct job *job)
{
    count(worker, job, SIZE_MAX);              /* one less */
    while (!loop_post(job->loop, finish, job)) /* out of memory: the client waits */
        nanosleep(&(struct timespec){.tv_nsec = BETWEEN_TRIES_NS}, NULL);
}

/* Or if it was cleared and has grown since: it need not be larger than before. */
static void settle_if_grown(struct worker *worker)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    if (presence_recorder_stats(worker->node->recorder, &stats) != PRESENCE_OK ||
        stats.allocated_bytes == worker->settled_bytes)
        return;
    worker->settled_bytes = stats.allocated_bytes;
    presence_recorder_settle(worker->node->recorder);
}

/* Until there is a job, or the node stops. The mutex is held, but for the time in which the record is settled. */
static void wait_for_job(struct worker *worker)
{
    while (!worker->first && !worker->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += SETTLE_S;
        if (pthread_cond_timedwait(&worker->changed, &worker->mutex, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&worker->mutex);
        settle_if_grown(worker);
        pthread_mutex_lock(&worker->mutex);
    }
}

static void *work(void *context)
{
    struct worker *worker = context;
    pthread_mutex_lock(&worker->mutex);
    for (;;) {
        wait_for_job(worker);
        struct job *job = worker->first;
        if (!job)
            break;
        worker->first = job->next;
        if (!worker->first)
            worker->last = &worker->first;
        worker->running = job;
        job->skipped = worker->stopping;
        pthread_mutex_unlock(&worker->mutex);
        if (!job->skipped)
            job->run(job);
        pthread_mutex_lock(&worker->mutex);
        worker->running = NULL;
        pthread_mutex_unlock(&worker->mutex);
        post(worker, job);
        pthread_mutex_lock(&worker->mutex);
    }
    pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

static void *wait_for_others(void *context)
{
    struct waiter waiter = *(struct waiter *)context;
    free(context);
    waiter.job->run(waiter.job);
    post(waiter.worker, waiter.job);
    pthread_mutex_lock(&waiter.worker->mutex);
    waiter.worker->waiters--;
    pthread_cond_broadcast(&waiter.worker->changed);
    pthread_mutex_unlock(&waiter.worker->mutex);
    return NULL;
}

/* Without signals, which are the first loop's business. */
static int start_thread(pthread_t *thread, bool detached, void *(*run)(void *), void *context)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, detached ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(thread, &attributes, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failure;
}

bool worker_start(struct node *node, char *error, size_t error_bytes)
{
    struct worker *worker = calloc(1, sizeof *worker);
    int failure = worker ? 0 : ENOMEM;
    if (worker) {
        worker->node = node;
        worker->last = &worker->first;
        pthread_mutex_init(&worker->mutex, NULL);
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&worker->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        failure = start_thread(&worker->thread, false, work, worker);
        worker->started = !failure;
        node->worker = worker;
    }
    if (failure)
        snprintf(error, error_bytes, "cannot start the thread of long commands: %s", strerror(failure));
    return !failure;
}

void worker_stop(struct node *node)
{
    struct worker *worker = node->worker;
    if (!worker || !worker->started)
        return;
    pthread_mutex_lock(&worker->mutex);
    worker->stopping = true;
    pthread_cond_broadcast(&worker->changed);
    while (worker->waiters > 0)
        pthread_cond_wait(&worker->changed, &worker->mutex);
    pthread_mutex_unlock(&worker->mutex);
    pthread_join(worker->thread, NULL);
    worker->started = false;
    loops_run_posted(node->loops);
}

void worker_free(struct node *node)
{
    struct worker *worker = node->worker;
    if (!worker)
        return;
    worker_stop(node);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->mutex);
    free(worker);
    node->worker = NULL;
}

/* ------------------------------------------------------------------------------------------------------ offering -- */

/* The mutex is held. */
static bool offer_to_waiter(struct worker *worker, struct job *job)
{
    struct waiter *waiter = worker->waiters < MOST_WAITERS ? malloc(sizeof *waiter) : NULL;
    pthread_t thread;
    if (!waiter)
        return false;
    *waiter = (struct waiter){worker, job};
    if (start_thread(&thread, true, wait_for_others, waiter) != 0) {
        free(waiter);
        return false;
    }
    worker->waiters++;
    return true;
}

bool worker_offer(struct node *node, struct job *job)
{
    struct worker *worker = node->worker;
    job->next = NULL;
    job->skipped = false;
    pthread_mutex_lock(&worker->mutex);
    bool taken = !worker->stopping && worker->started && atomic_load(&worker->count) < node->config->max_long_commands;
    if (taken)
        count(worker, job, 1);
    if (taken && job->waits && !offer_to_waiter(worker, job)) {
        count(worker, job, SIZE_MAX);
        taken = false;
    } else if (taken && !job->waits) {
        *worker->last = job;
        worker->last = &job->next;
        pthread_cond_broadcast(&worker->changed);
    }
    pthread_mutex_unlock(&worker->mutex);
    return taken;
}

bool worker_write_to(struct node *node, const char *server)
{
    struct worker *worker = node->worker;
    if (!worker || atomic_load_explicit(&worker->writing, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&worker->mutex);
    bool found = worker->running && worker->running->server && strcmp(worker->running->server, server) == 0;
    for (const struct job *job = worker->first; !found && job; job = job->next)
        found = job->server && strcmp(job->server, server) == 0;
    pthread_mutex_unlock(&worker->mutex);
    return found;
}

size_t worker_count(const struct node *node)
{
    return node->worker ? atomic_load(&node->worker->count) : 0;
}
