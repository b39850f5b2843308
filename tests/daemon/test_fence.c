/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fence.c - the promises of sessions to writers on several threads: once a server is bound with an epoch, no write
 * is under way of somebody who does not hold it; once a stop has begun, none at all.
 *
 * What a write touches is a plain number here, so that the thread sanitizer reports whoever is let in beside the one
 * who may, by the orders that the code makes, whether or not the two met. What it cannot see is the order of a store
 * before a load, for which the fence has membarrier: it takes all atomics to be in order. So the number is looked at as
 * well, on whatever processor this is. Without the wait that is found at once; without the barrier in one run of eight,
 * where both threads have a core of their own.
 */
#include "base/log.h"
#include "sessions/sessions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LOOPS = 2, BINDS = 200000, LEAST_BINDS = 500, STOPS = 100, MOST_MS = 2000, LOOKS = 20, PAUSES = 100 };

static const char *const server = "gateway-0";

struct scene {
    struct config config;
    struct loops loops;
    struct node node;
    struct client clients[LOOPS];
    pthread_t threads[LOOPS];
    /* Whoever was let in alters its own, with no lock of its own: odd, it is in a write. */
    uint64_t writes[LOOPS];
    _Atomic uint64_t allowed, refused;
    _Atomic bool over;
};

static void must(bool condition)
{
    if (!condition)
        abort();
}

static int set_up(void **state)
{
    static char *words[] = {(char *)"test", (char *)"--node", (char *)"this-node"}, *nothing[] = {NULL};
    char error[CONFIG_ERROR_BYTES];
    struct scene *scene = calloc(1, sizeof *scene);
    must(scene && config_load(&scene->config, 3, words, nothing, error));
    must(loops_init(&scene->loops, LOOPS, error, sizeof error));
    scene->node = (struct node){.config = &scene->config, .loops = &scene->loops, .run = 7};
    scene->node.recorder = presence_recorder_new(NULL);
    must(scene->node.recorder != NULL);
    presence_recorder_enable(scene->node.recorder);
    must(sessions_start(&scene->node, error, sizeof error));
    for (size_t i = 0; i < LOOPS; i++)
        scene->clients[i] = (struct client){.node = &scene->node, .loop = &scene->loops.loops[i], .socket = -1};
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    for (size_t i = 0; i < LOOPS; i++)
        sessions_client_gone(&scene->clients[i]);
    sessions_free(&scene->node);
    presence_recorder_free(scene->node.recorder);
    loops_free(&scene->loops);
    config_free(&scene->config);
    free(scene);
    return 0;
}

struct writer_thread {
    struct scene *scene;
    size_t index;
};

/* Writes without a pause for as long as it may, and tries again for as long as it may not. */
static void *write_on(void *context)
{
    struct writer_thread *own = context;
    struct scene *scene = own->scene;
    struct client *client = &scene->clients[own->index];
    volatile uint64_t *writes = &scene->writes[own->index];
    while (!atomic_load_explicit(&scene->over, memory_order_relaxed)) {
        enum write_answer answer = sessions_begin_write(client, server);
        if (answer == WRITE_ALLOWED) {
            *writes += 1;
            for (volatile int pause = 0; pause < PAUSES; pause++)
                ;
            *writes += 1;
            sessions_end_write(client);
            atomic_fetch_add_explicit(&scene->allowed, 1, memory_order_relaxed);
        } else {
            atomic_fetch_add_explicit(&scene->refused, 1, memory_order_relaxed);
        }
    }
    return NULL;
}

static void start_writers(struct scene *scene, struct writer_thread *writers, size_t from)
{
    atomic_store(&scene->over, false);
    for (size_t i = from; i < LOOPS; i++) {
        writers[i] = (struct writer_thread){scene, i};
        must(pthread_create(&scene->threads[i], NULL, write_on, &writers[i]) == 0);
    }
}

static void end_writers(struct scene *scene, size_t from)
{
    atomic_store_explicit(&scene->over, true, memory_order_relaxed); /* makes no order but pthread_join's */
    for (size_t i = from; i < LOOPS; i++)
        must(pthread_join(scene->threads[i], NULL) == 0);
}

/* Whether nobody is in a write, nor begins one while we look. The looks are volatile: each is one. */
static bool is_still(struct scene *scene, size_t from)
{
    volatile uint64_t *writes = scene->writes;
    uint64_t before[LOOPS];
    for (size_t i = from; i < LOOPS; i++)
        before[i] = writes[i];
    for (size_t look = 0; look < LOOKS; look++)
        for (size_t i = from; i < LOOPS; i++)
            if (writes[i] & 1 || writes[i] != before[i])
                return false;
    return true;
}

/* Given a thread that writes to a server that nobody holds, when another binds it with an epoch, then no write of the
 * first is under way, and none begins, until the server is given up. */
static void who_binds_with_an_epoch_is_alone(void **state)
{
    struct scene *scene = *state;
    struct writer_thread writers[LOOPS];
    struct client *binder = &scene->clients[0];
    binder->said_quit = true; /* nothing is waited for when it is gone */
    start_writers(scene, writers, 1);
    const uint64_t until_ms = node_now_ms() + MOST_MS;
    for (uint64_t epoch = 1; epoch <= LEAST_BINDS || (epoch <= BINDS && node_now_ms() < until_ms); epoch++) {
        presence_error error = {0};
        const struct session_wish wish = {.server = server, .has_epoch = true, .epoch = epoch};
        must(sessions_bind(binder, &wish, &error) == PRESENCE_OK);
        must(is_still(scene, 1));
        sessions_client_gone(binder);
    }
    end_writers(scene, 1);
    assert_true(atomic_load(&scene->allowed) > 0 && atomic_load(&scene->refused) > 0);
}

/* Given a holder of the server and another that write to it, when the node stops, then no write is under way, and
 * none begins. */
static void who_stops_is_alone(void **state)
{
    struct scene *scene = *state;
    struct writer_thread writers[LOOPS];
    const struct session_wish wish = {.server = server};
    presence_error error = {0};
    must(sessions_bind(&scene->clients[0], &wish, &error) == PRESENCE_OK);
    for (int stop = 0; stop < STOPS; stop++) {
        atomic_store(&scene->node.stopping, false);
        atomic_store(&scene->allowed, 0);
        start_writers(scene, writers, 0);
        while (atomic_load_explicit(&scene->allowed, memory_order_relaxed) < 10)
            ;
        atomic_store(&scene->node.stopping, true);
        sessions_stop_writes(&scene->node);
        must(is_still(scene, 0));
        end_writers(scene, 0);
    }
    assert_true(atomic_load(&scene->refused) > 0);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_binds_with_an_epoch_is_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_stops_is_alone, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
