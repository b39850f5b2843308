/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lock.c - a process of one thread whose hooks start another while the recorder is busy with a call.
 *
 * Where there is one thread the recorder takes no mutex (lock.h). The clock is a hook that is called inside, and the
 * thread that it starts calls the same recorder: it has to wait until the call is through, though nobody holds the
 * mutex. Each story is a process of its own, since a process has one thread only once. Any wrong access is also a
 * data race that the thread sanitizer sees.
 *
 * Keeps true, whatever the schedule: the other thread's call does not end while the hook runs; both calls succeed; the
 * record is whole. A broken lock may go unseen where the machine is so busy that the thread does not run for
 * PATIENCE_MS; a good one never fails.
 */
#include "../support/support.h"
#include "recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define S0 "machine-0"
#define MODEL "model"

enum { PATIENCE_MS = 200, LIST = 5000 };

struct stage {
    presence_recorder *recorder;
    struct test_allocator memory;
    pthread_t other;
    void *(*life)(void *); /* of the thread that the next look at the clock starts; NULL: none */
    bool started;
    atomic_bool begun, done;
};

static void rest(long milliseconds)
{
    nanosleep(&(struct timespec){0, milliseconds * 1000000}, NULL);
}

/* The clock. Inside a call, with the recorder's lock. */
static presence_time starts_the_other(void *context)
{
    struct stage *stage = context;
    if (!stage->life)
        return 1000;
    void *(*life)(void *) = stage->life;
    stage->life = NULL;
    const struct registry *registry = stage->recorder->registry;
    uint64_t rows = registry->now.rows.count, revision = registry->now.revision;
    if (LOCK_ONE_THREAD)
        must(atomic_load(&stage->recorder->lock.alone)); /* else nothing is tried here */
    must(pthread_create(&stage->other, NULL, life, stage) == 0);
    stage->started = true;
    while (!atomic_load(&stage->begun))
        rest(1);
    for (int waited = 0; waited < PATIENCE_MS; waited += 10) {
        must(!atomic_load(&stage->done));
        must(registry->now.rows.count == rows && registry->now.revision == revision);
        rest(10);
    }
    return 1000;
}

static void *connects_too(void *context)
{
    struct stage *stage = context;
    atomic_store(&stage->begun, true);
    must(presence_recorder_connect(stage->recorder, "machine-1", MODEL, "other", 7, false, NULL) == PRESENCE_OK);
    atomic_store(&stage->done, true);
    return NULL;
}

static void *stamps_the_same(void *context)
{
    struct stage *stage = context;
    atomic_store(&stage->begun, true);
    must(presence_recorder_activity(stage->recorder, S0, 1) == PRESENCE_OK);
    atomic_store(&stage->done, true);
    return NULL;
}

static void *looks(void *context)
{
    struct stage *stage = context;
    atomic_store(&stage->begun, true);
    presence_connections *view = presence_recorder_connections(stage->recorder);
    must(view != NULL);
    must(presence_connections_count(view) >= 1);
    presence_connections_free(view);
    atomic_store(&stage->done, true);
    return NULL;
}

/* States a whole list of another server, which takes the lock many times. */
static void *states_a_list(void *context)
{
    struct stage *stage = context;
    presence_value *list = calloc(LIST, sizeof *list);
    must(list != NULL);
    for (uint64_t id = 0; id < LIST; id++)
        list[id] = test_value("machine-2", id, MODEL, "listed");
    atomic_store(&stage->begun, true);
    must(presence_recorder_update_server(stage->recorder, "machine-2", list, LIST, NULL) == PRESENCE_OK);
    atomic_store(&stage->done, true);
    free(list);
    return NULL;
}

static void begins(struct stage *stage)
{
    memset(stage, 0, sizeof *stage);
    presence_options options;
    presence_options_init(&options);
    options.clock = (presence_clock){starts_the_other, stage};
    options.memory = test_allocator_interface(&stage->memory);
    stage->recorder = presence_recorder_new_with(&options, NULL);
    must(stage->recorder != NULL);
    presence_recorder_enable(stage->recorder);
    must(presence_recorder_connect(stage->recorder, S0, MODEL, "agent", 1, false, NULL) == PRESENCE_OK);
}

static void ends(struct stage *stage, size_t connections)
{
    must(stage->started);
    must(pthread_join(stage->other, NULL) == 0);
    must(atomic_load(&stage->done));
    presence_error error = {0};
    must(presence_recorder_check(stage->recorder, &error) == PRESENCE_OK);
    presence_counts counts = {0};
    must(presence_recorder_counts(stage->recorder, &counts) == PRESENCE_OK);
    must(counts.alive == connections);
    presence_recorder_free(stage->recorder);
    test_allocator_must_be_empty(&stage->memory);
}

/* --------------------------------------------------------------------------------------------------- the stories -- */

static void a_connect_while_one_connects(struct stage *stage)
{
    stage->life = connects_too;
    must(presence_recorder_connect(stage->recorder, S0, MODEL, "second", 2, false, NULL) == PRESENCE_OK);
    ends(stage, 3);
}

static void an_activity_while_the_same_is_stamped(struct stage *stage)
{
    stage->life = stamps_the_same;
    must(presence_recorder_activity(stage->recorder, S0, 1) == PRESENCE_OK);
    ends(stage, 1);
}

static void a_view_while_one_disconnects(struct stage *stage)
{
    must(presence_recorder_connect(stage->recorder, S0, MODEL, "second", 2, false, NULL) == PRESENCE_OK);
    stage->life = looks;
    must(presence_recorder_disconnect(stage->recorder, S0, 2) == PRESENCE_OK);
    ends(stage, 1);
}

static void a_list_while_a_server_goes_down(struct stage *stage)
{
    stage->life = states_a_list;
    must(presence_recorder_server_down(stage->recorder, S0) == PRESENCE_OK);
    must(presence_recorder_connect(stage->recorder, S0, MODEL, "agent", 1, false, NULL) == PRESENCE_OK);
    ends(stage, 1 + LIST);
}

/* The list was begun by one thread; from the moment that there are two it lets the other in between its steps. */
static void a_connect_while_a_list_is_applied(struct stage *stage)
{
    presence_value *list = calloc(LIST, sizeof *list);
    must(list != NULL);
    for (uint64_t id = 0; id < LIST; id++)
        list[id] = test_value(S0, id, MODEL, "listed");
    stage->life = connects_too;
    must(presence_recorder_update_server(stage->recorder, S0, list, LIST, NULL) == PRESENCE_OK);
    free(list);
    ends(stage, LIST + 1);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*tell)(struct stage *stage);
    } stories[] = {
        {"a connect while one connects", a_connect_while_one_connects},
        {"an activity while the same is stamped", an_activity_while_the_same_is_stamped},
        {"a view while one disconnects", a_view_while_one_disconnects},
        {"a list while a server goes down", a_list_while_a_server_goes_down},
        {"a connect while a list is applied", a_connect_while_a_list_is_applied},
    };
    enum { STORIES = sizeof stories / sizeof *stories };
    if (!LOCK_ONE_THREAD)
        printf("# the C library does not tell that there is one thread: the mutex is tried\n");
    bool all_good = true;
    for (size_t i = 0; i < STORIES; i++) {
        fflush(stdout);
        pid_t child = fork();
        must(child >= 0);
        if (child == 0) {
            static struct stage stage;
            begins(&stage);
            stories[i].tell(&stage);
            exit(EXIT_SUCCESS);
        }
        int status;
        must(waitpid(child, &status, 0) == child);
        bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        printf("%s %zu - %s\n", good ? "ok" : "not ok", i + 1, stories[i].name);
        all_good = all_good && good;
    }
    return all_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
