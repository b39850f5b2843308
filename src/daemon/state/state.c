/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.c - the folder of the state: its lock, its thread, and when it is written.
 *
 * Keeps true: one presenced a folder; a write that fails leaves the old file, is said once, and is tried again; writing
 * takes at most a tenth of the time, however large the record is. state_open, state_start and state_close are main's;
 * the rest is the thread's.
 */
#include "state/inside.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SHARE_OF_TIME = 10, ANYWAY_MS = 60000 };

/* ------------------------------------------------------------------------------------------------------- opening -- */

static bool open_folder(struct state *state, const char *folder, char *error, size_t error_bytes)
{
    const char *what = "cannot make";
    if (mkdir(folder, 0700) == 0 || errno == EEXIST) {
        what = "cannot open";
        state->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (state->folder_fd >= 0) {
        what = "cannot write in";
        state->lock_fd = openat(state->folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    if (state->lock_fd >= 0 && flock(state->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (state->lock_fd >= 0 && errno == EWOULDBLOCK)
        snprintf(error, error_bytes, "--state: another presenced runs on %.200s", folder);
    else
        snprintf(error, error_bytes, "--state: %s %.200s: %s", what, folder, strerror(errno));
    return false;
}

/* Whether a file can be made: better now than after the first five seconds. */
static bool can_write(struct state *state, const char *folder, char *error, size_t error_bytes)
{
    int fd = openat(state->folder_fd, STATE_NEW_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(error, error_bytes, "--state: cannot write in %.200s: %s", folder, strerror(errno));
        return false;
    }
    close(fd);
    unlinkat(state->folder_fd, STATE_NEW_FILE, 0);
    return true;
}

/* Keeps a file that was refused, under another name. */
static bool put_aside(struct state *state, const char *why, char *error, size_t error_bytes)
{
    char name[64];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(name, sizeof name, "state.bad-%lld.%03ld", (long long)now.tv_sec, now.tv_nsec / 1000000);
    if (renameat(state->folder_fd, STATE_FILE, state->folder_fd, name) != 0) {
        snprintf(error, error_bytes, "--state: cannot keep a bad state aside as %s: %s", name, strerror(errno));
        return false;
    }
    log_event(LOG_LEVEL_ERROR, "state refused", "why", why, "kept as", name, NULL);
    return true;
}

static bool restore(struct state *state, char *error, size_t error_bytes)
{
    char why[WHY_BYTES] = "", count[LOG_NUMBER_BYTES], duration[LOG_NUMBER_BYTES];
    presence_counts counts = {0};
    uint64_t began_ms = node_now_ms();
    enum state_outcome outcome = state_read(state, why);
    switch (outcome) {
    case STATE_FAILED:
        snprintf(error, error_bytes, "--state: %s", why);
        return false;
    case STATE_BAD:
    case STATE_PARTLY:
        if (!put_aside(state, why, error, error_bytes))
            return false;
        break;
    case STATE_NONE:
    case STATE_READ:
        break;
    }
    if (outcome == STATE_BAD)
        return true; /* nothing was read, and that has been said */
    presence_recorder_counts(state->node->recorder, &counts);
    log_event(LOG_LEVEL_INFO, outcome == STATE_NONE ? "no state yet" : "state read", "connections",
              log_number(count, (int64_t)counts.connections), "ms",
              log_number(duration, (int64_t)(node_now_ms() - began_ms)), NULL);
    return true;
}

bool state_open(struct node *node, char *error, size_t error_bytes)
{
    const char *folder = node->config->state;
    if (!*folder)
        return true;
    struct state *state = calloc(1, sizeof *state);
    if (!state) {
        snprintf(error, error_bytes, "out of memory");
        return false;
    }
    pthread_condattr_t kind;
    pthread_condattr_init(&kind);
    pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    pthread_mutex_init(&state->mutex, NULL);
    pthread_cond_init(&state->wake, &kind);
    pthread_condattr_destroy(&kind);
    state->node = node;
    state->folder_fd = state->lock_fd = -1;
    node->state = state;
    return open_folder(state, folder, error, error_bytes) && can_write(state, folder, error, error_bytes) &&
           restore(state, error, error_bytes);
}

/* ------------------------------------------------------------------------------------------------------- writing -- */

static uint64_t commands_so_far(const struct node *node)
{
    return node_counter(node, offsetof(struct counters, commands));
}

static bool is_due(const struct state *state)
{
    const struct node *node = state->node;
    return state->facts.writes == 0 || presence_recorder_revision(node->recorder) != state->written_revision ||
           (node_now_ms() - state->written_at_ms >= ANYWAY_MS && commands_so_far(node) != state->written_commands);
}

static void write_now(struct state *state)
{
    char why[WHY_BYTES] = "";
    struct state_facts facts = {0};
    uint64_t revision = 0, commands = commands_so_far(state->node);
    bool good = state_write(state, &facts, &revision, why);
    if (!good && !state->failing)
        log_event(LOG_LEVEL_ERROR, "state not written", "why", why, "hint", "the one before is kept; tried again",
                  NULL);
    else if (good && state->failing)
        log_event(LOG_LEVEL_INFO, "state written again", NULL);
    pthread_mutex_lock(&state->mutex);
    facts.writes = state->facts.writes + good;
    facts.failures = state->facts.failures + !good;
    if (good) {
        state->facts = facts;
        state->written_revision = revision;
        state->written_commands = commands;
        state->written_at_ms = node_now_ms();
    }
    state->facts.failures = facts.failures;
    state->failing = !good;
    pthread_mutex_unlock(&state->mutex);
}

/* Sleeps; whether the end has come. */
static bool sleep_for(struct state *state, uint64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&state->mutex);
    while (!state->stopping && pthread_cond_timedwait(&state->wake, &state->mutex, &until) != ETIMEDOUT)
        ;
    bool stopping = state->stopping;
    pthread_mutex_unlock(&state->mutex);
    return stopping;
}

static void *run(void *context)
{
    struct state *state = context;
    uint64_t interval_ms = state->node->config->state_interval, wait_ms = interval_ms;
    while (!sleep_for(state, wait_ms)) {
        uint64_t began_ms = node_now_ms();
        if (is_due(state))
            write_now(state);
        wait_ms = (node_now_ms() - began_ms) * SHARE_OF_TIME;
        if (wait_ms < interval_ms)
            wait_ms = interval_ms;
    }
    write_now(state); /* the last one */
    return NULL;
}

bool state_start(struct node *node, char *error, size_t error_bytes)
{
    struct state *state = node->state;
    if (!state)
        return true;
    /* Signals are the first loop's. So is SIGXFSZ not to end us: a file that may not grow is an error like others. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failure = pthread_create(&state->thread, NULL, run, state);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    state->running = failure == 0;
    if (failure)
        snprintf(error, error_bytes, "--state: cannot start a thread: %s", strerror(failure));
    return failure == 0;
}

bool state_close(struct node *node)
{
    struct state *state = node->state;
    if (!state)
        return true;
    if (state->running) {
        pthread_mutex_lock(&state->mutex);
        state->stopping = true;
        pthread_cond_signal(&state->wake);
        pthread_mutex_unlock(&state->mutex);
        pthread_join(state->thread, NULL);
    }
    bool good = !state->failing;
    if (state->lock_fd >= 0)
        close(state->lock_fd); /* gives the lock back */
    if (state->folder_fd >= 0)
        close(state->folder_fd);
    pthread_cond_destroy(&state->wake);
    pthread_mutex_destroy(&state->mutex);
    free(state);
    node->state = NULL;
    return good;
}

void state_describe(const struct node *node, struct state_facts *facts)
{
    struct state *state = node->state;
    *facts = (struct state_facts){0};
    if (!state)
        return;
    pthread_mutex_lock(&state->mutex);
    *facts = state->facts;
    pthread_mutex_unlock(&state->mutex);
}
