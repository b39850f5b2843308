/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_worker.c - jobs: run in their order on another thread, done once on their own loop, refused beyond the limit,
 * and none lost or left at a stop.
 */
#include "worker/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { LOOPS = 3, JOBS_A_LOOP = 300, JOBS = LOOPS * JOBS_A_LOOP };

struct scene;

struct test_job {
    struct job job; /* first */
    struct scene *scene;
    size_t number;   /* of its loop */
    pthread_t owner; /* who offered it: its loop's thread */
    bool ran;
    int done;
};

struct scene {
    struct config config;
    struct loops loops;
    struct node node;
    struct test_job jobs[JOBS];
    size_t ran[LOOPS]; /* how many of that loop's jobs; the worker's thread's alone */
    _Atomic size_t done;
    size_t stop_after;        /* done; then the loops are stopped. 0: none is run */
    size_t offered, in_order; /* of them, those that do not wait for others */
    struct timespec takes;
    _Atomic bool go;
};

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void run_job(struct job *base)
{
    struct test_job *job = (struct test_job *)(void *)base;
    struct scene *scene = job->scene;
    must(!pthread_equal(pthread_self(), job->owner));
    must(!job->ran && job->done == 0);
    job->ran = true;
    if (base->waits) {
        while (!atomic_load(&scene->go))
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        return;
    }
    must(scene->ran[base->loop->index]++ == job->number); /* in the order of their loop */
    if (scene->takes.tv_nsec > 0)
        nanosleep(&scene->takes, NULL);
}

static void done_job(struct job *base)
{
    struct test_job *job = (struct test_job *)(void *)base;
    struct scene *scene = job->scene;
    must(job->done++ == 0 && job->ran == !base->skipped);
    must(scene->stop_after < JOBS || pthread_equal(pthread_self(), job->owner));
    if (atomic_fetch_add(&scene->done, 1) + 1 == scene->stop_after)
        loops_stop(&scene->loops);
}

static void offer_all(struct loop *loop, void *context)
{
    struct scene *scene = context;
    for (size_t i = 0; i < JOBS_A_LOOP; i++) {
        struct test_job *job = &scene->jobs[loop->index * JOBS_A_LOOP + i];
        *job = (struct test_job){.scene = scene, .number = i, .owner = pthread_self()};
        job->job = (struct job){.run = run_job, .done = done_job, .loop = loop, .server = i % 2 ? "server" : NULL};
        must(worker_offer(&scene->node, &job->job));
    }
}

static int set_up(void **state)
{
    static char *words[] = {(char *)"test"}, *nothing[] = {NULL};
    char error[CONFIG_ERROR_BYTES];
    struct scene *scene = calloc(1, sizeof *scene);
    must(scene && config_load(&scene->config, 1, words, nothing, error));
    must(loops_init(&scene->loops, LOOPS, error, sizeof error));
    scene->node = (struct node){.config = &scene->config, .loops = &scene->loops};
    must(worker_start(&scene->node, error, sizeof error));
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    worker_free(&scene->node);
    loops_free(&scene->loops);
    config_free(&scene->config);
    free(scene);
    return 0;
}

static void run_loops(struct scene *scene)
{
    char error[256];
    for (size_t i = 0; i < LOOPS; i++)
        must(loop_post(&scene->loops.loops[i], offer_all, scene));
    assert_true(loops_run(&scene->loops, error, sizeof error));
}

static void each_is_run_in_order_and_done_on_its_loop(void **state)
{
    struct scene *scene = *state;
    scene->stop_after = JOBS;
    run_loops(scene);
    worker_stop(&scene->node);
    assert_int_equal(scene->done, JOBS);
    for (size_t i = 0; i < JOBS; i++)
        assert_true(scene->jobs[i].ran && scene->jobs[i].done == 1);
    assert_int_equal(worker_count(&scene->node), 0);
    assert_false(worker_write_to(&scene->node, "server"));
}

static void at_a_stop_none_is_lost(void **state)
{
    struct scene *scene = *state;
    size_t skipped = 0;
    scene->stop_after = 20;
    scene->takes = (struct timespec){.tv_nsec = 1000000};
    run_loops(scene);
    worker_stop(&scene->node);
    assert_int_equal(scene->done, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        assert_int_equal(scene->jobs[i].done, 1);
        skipped += scene->jobs[i].job.skipped;
    }
    assert_true(skipped > 0 && skipped < JOBS);
    struct test_job late = {.scene = scene};
    late.job = (struct job){.run = run_job, .done = done_job, .loop = scene->loops.loops};
    assert_false(worker_offer(&scene->node, &late.job));
}

/* Offers one more of the kind, of the first loop; whether it was taken. */
static bool offer_one(struct scene *scene, bool waits, const char *server)
{
    struct test_job *job = &scene->jobs[scene->offered];
    *job = (struct test_job){.scene = scene, .number = scene->in_order, .owner = pthread_self()};
    job->job =
        (struct job){.run = run_job, .done = done_job, .loop = scene->loops.loops, .server = server, .waits = waits};
    bool taken = worker_offer(&scene->node, &job->job);
    scene->offered += taken;
    scene->in_order += taken && !waits;
    return taken;
}

static void so_many_wait_for_others(void **state)
{
    struct scene *scene = *state;
    size_t taken = 0;
    while (offer_one(scene, true, NULL))
        taken++;
    assert_int_equal(taken, 4);
    assert_true(offer_one(scene, false, NULL)); /* the others do not wait for those */
    while (worker_count(&scene->node) > taken)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    atomic_store(&scene->go, true);
    worker_stop(&scene->node);
    assert_int_equal(scene->done, taken + 1);
    for (size_t i = 0; i <= taken; i++)
        assert_true(scene->jobs[i].ran && scene->jobs[i].done == 1);
}

static void so_many_and_no_more(void **state)
{
    struct scene *scene = *state;
    scene->config.max_long_commands = 5;
    scene->takes = (struct timespec){.tv_nsec = 50000000};
    for (int i = 0; i < 5; i++) {
        assert_true(offer_one(scene, false, i == 4 ? "the last" : "server"));
    }
    assert_false(offer_one(scene, false, NULL));
    assert_true(worker_write_to(&scene->node, "server"));
    assert_true(worker_write_to(&scene->node, "the last"));
    assert_false(worker_write_to(&scene->node, "another"));
    while (worker_count(&scene->node) == 5)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    assert_true(offer_one(scene, false, NULL));
    worker_stop(&scene->node);
    assert_int_equal(scene->done, 6);
    assert_false(worker_write_to(&scene->node, "the last"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_is_run_in_order_and_done_on_its_loop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(at_a_stop_none_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(so_many_wait_for_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(so_many_and_no_more, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
