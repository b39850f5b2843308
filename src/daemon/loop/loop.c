/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - event loops on threads, and messages between them.
 *
 * Keeps true: a posted task runs once, on its loop's thread; a loop's base is used by its own thread alone while it
 * runs. A post costs an allocation, a mutex and, if the queue was empty, a write to an eventfd.
 */
#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct task {
    struct task *next;
    void (*run)(struct loop *loop, void *context);
    void *context;
};

struct loop_inside {
    pthread_mutex_t mutex;
    struct task *first, **last;
    int wake_fd;
    struct event *wake;
    pthread_t thread;
    bool started;
    bool stopping; /* asked to end; it does so once nobody holds it */
    size_t holds;
};

static struct task *take_tasks(struct loop_inside *inside)
{
    pthread_mutex_lock(&inside->mutex);
    struct task *first = inside->first;
    inside->first = NULL;
    inside->last = &inside->first;
    pthread_mutex_unlock(&inside->mutex);
    return first;
}

static void run_tasks(struct loop *loop)
{
    for (struct task *task = take_tasks(loop->inside), *next; task; task = next) {
        next = task->next;
        task->run(loop, task->context);
        free(task);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    (void)what;
    uint64_t times;
    ssize_t got = read(fd, &times, sizeof times); /* empties it; that it was empty already is no matter */
    (void)got;
    run_tasks(context);
}

static void wake(struct loop_inside *inside)
{
    uint64_t one = 1;
    ssize_t written = write(inside->wake_fd, &one, sizeof one); /* fails only if it is readable already */
    (void)written;
}

bool loop_post(struct loop *loop, void (*run)(struct loop *loop, void *context), void *context)
{
    struct task *task = malloc(sizeof *task);
    if (!task)
        return false;
    *task = (struct task){NULL, run, context};
    struct loop_inside *inside = loop->inside;
    pthread_mutex_lock(&inside->mutex);
    bool first = !inside->first;
    *inside->last = task;
    inside->last = &task->next;
    pthread_mutex_unlock(&inside->mutex);
    if (first)
        wake(inside);
    return true;
}

static bool loop_init(struct loop *loop, size_t index)
{
    struct event_config *config = event_config_new();
    *loop = (struct loop){.index = index, .inside = calloc(1, sizeof *loop->inside)};
    if (config && loop->inside) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        loop->base = event_base_new_with_config(config);
        loop->input = malloc(LOOP_SCRATCH_BYTES);
        loop->inside->last = &loop->inside->first;
        loop->inside->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        pthread_mutex_init(&loop->inside->mutex, NULL);
        if (loop->base && loop->inside->wake_fd >= 0)
            loop->inside->wake = event_new(loop->base, loop->inside->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    }
    if (config)
        event_config_free(config);
    return loop->input && loop->inside && loop->inside->wake && event_add(loop->inside->wake, NULL) == 0;
}

static void loop_free(struct loop *loop)
{
    if (loop->inside) {
        if (loop->inside->last)
            run_tasks(loop);
        if (loop->inside->wake)
            event_free(loop->inside->wake);
        if (loop->inside->last) {
            close(loop->inside->wake_fd);
            pthread_mutex_destroy(&loop->inside->mutex);
        }
    }
    if (loop->base)
        event_base_free(loop->base);
    free(loop->inside);
    free(loop->input);
    bytes_free(&loop->output);
}

bool loops_init(struct loops *loops, size_t count, char *error, size_t error_bytes)
{
    *loops = (struct loops){calloc(count, sizeof *loops->loops), 0};
    bool good = loops->loops != NULL;
    for (size_t i = 0; good && i < count; i++) {
        good = loop_init(&loops->loops[i], i);
        loops->count++;
    }
    if (!good)
        snprintf(error, error_bytes, "cannot make an event loop: %s", strerror(errno));
    return good;
}

static void *run_loop(void *context)
{
    struct loop *loop = context;
    event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

bool loops_run(struct loops *loops, char *error, size_t error_bytes)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are the first loop's business */
    int failure = 0;
    for (size_t i = 1; i < loops->count && !failure; i++) {
        failure = pthread_create(&loops->loops[i].inside->thread, NULL, run_loop, &loops->loops[i]);
        loops->loops[i].inside->started = !failure;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure) {
        snprintf(error, error_bytes, "cannot start a thread: %s", strerror(failure));
        loops_stop(loops);
    }
    run_loop(&loops->loops[0]);
    for (size_t i = 1; i < loops->count; i++)
        if (loops->loops[i].inside->started)
            pthread_join(loops->loops[i].inside->thread, NULL);
    return !failure;
}

static void end_loop(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct loop *loop = context;
    event_base_loopbreak(loop->base);
}

static void stop_loop(struct loop *loop, void *context)
{
    (void)context;
    const struct timeval at_last = {LOOP_STOP_MS / 1000, (suseconds_t)(LOOP_STOP_MS % 1000) * 1000};
    bool asked_before = loop->inside->stopping;
    loop->inside->stopping = true;
    if (asked_before || loop->inside->holds == 0 ||
        event_base_once(loop->base, -1, EV_TIMEOUT, end_loop, loop, &at_last) != 0)
        event_base_loopbreak(loop->base);
}

void loop_hold(struct loop *loop)
{
    loop->inside->holds++;
}

void loop_release(struct loop *loop)
{
    if (--loop->inside->holds == 0 && loop->inside->stopping)
        event_base_loopbreak(loop->base);
}

void loops_stop(struct loops *loops)
{
    for (size_t i = 0; i < loops->count; i++)
        while (!loop_post(&loops->loops[i], stop_loop, NULL))
            usleep(1000); /* memory is out; it is about to be given back */
}

void loops_run_posted(struct loops *loops)
{
    for (size_t i = 0; i < loops->count; i++)
        run_tasks(&loops->loops[i]);
}

void loops_free(struct loops *loops)
{
    for (size_t i = 0; i < loops->count; i++)
        loop_free(&loops->loops[i]);
    free(loops->loops);
    *loops = (struct loops){0};
}
