/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_alloc_failure.c - every public operation, with the nth allocation refused, for n = 1, 2, 3... until it succeeds.
 *
 * Keeps true, after each refusal: the answer is PRESENCE_E_NO_MEMORY (or NULL), the recorder's own check passes, and
 * nothing that can be asked has changed: content with stamps, revision, counts, claims, evidence, held views, watches.
 * When all is over, every byte has gone back. Done twice: with one allocation refused, and with all after it too.
 * The recorders take memory in the smallest chunks, and have none to spare, so that most operations must ask for some.
 */
#include "operations.h"
#include "store/arena.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <string.h>

enum { REFUSALS_MOST = 5000 };

static uint64_t sites;   /* refusals in all; a run without any would prove nothing */
static uint64_t defects; /* refusals after which something was not as it should be */

static struct scene *ready(unsigned int parts, const struct operation *operation)
{
    struct scene *scene = scene_new(parts);
    if (operation->prepare != NULL)
        operation->prepare(scene);
    if (scene->quiet != NULL) {
        presence_event event;
        while (presence_watch_next(scene->quiet, &event) == 1)
            ;
    }
    presence_recorder_trim(scene->recorder);
    scene_remember(scene);
    return scene;
}

/* What it answers when there is memory. */
static int answer_with_memory(unsigned int parts, const struct operation *operation)
{
    struct scene *scene = ready(parts, operation);
    int code = operation->run(scene);
    scene_free(scene);
    return code;
}

/* Says once for each operation what is wrong. */
static void complain(const struct operation *operation, unsigned int parts, uint64_t n, const char *what)
{
    static const struct operation *last;
    static unsigned int last_parts;
    defects++;
    if (last == operation && last_parts == parts)
        return;
    last = operation;
    last_parts = parts;
    print_error("scene %u, %s, refusal %" PRIu64 ": %s\n", parts, operation->name, n, what);
}

/* After a refusal: whether the record is whole and as it was. */
static bool is_unharmed(struct scene *scene, const struct operation *operation, unsigned int parts, uint64_t n)
{
    presence_error error = {0};
    if (presence_recorder_check(scene->recorder, &error) != PRESENCE_OK) {
        complain(operation, parts, n, error.message);
        return false;
    }
    const char *difference = operation->in_parts ? NULL : scene_difference(scene);
    if (difference != NULL)
        complain(operation, parts, n, difference);
    return difference == NULL && !operation->in_parts;
}

/* Refuses one allocation after the other. Returns how many it took. */
static uint64_t refuse_each(unsigned int parts, const struct operation *operation, bool keep_failing)
{
    const int wanted = answer_with_memory(parts, operation);
    struct scene *scene = ready(parts, operation);
    for (uint64_t n = 1; n < REFUSALS_MOST; n++) {
        uint64_t failures = atomic_load(&scene->memory.failures);
        test_allocator_fail_nth(&scene->memory, n, keep_failing);
        int code = operation->run(scene);
        test_allocator_fail_nth(&scene->memory, 0, false);
        bool refused = atomic_load(&scene->memory.failures) != failures;
        if (code == PRESENCE_E_NO_MEMORY && refused && is_unharmed(scene, operation, parts, n)) {
            presence_recorder_trim(scene->recorder);
            continue; /* the same scene, as though nothing had been */
        }
        if (code != wanted && !(code == PRESENCE_E_NO_MEMORY && refused))
            complain(operation, parts, n, presence_error_name(code));
        scene_free(scene);
        if (!refused)
            return n - 1;
        scene = ready(parts, operation);
    }
    fail_msg("%s: refused %d times, and still not done", operation->name, REFUSALS_MOST);
    return 0;
}

static void run_all(unsigned int parts)
{
    defects = 0;
    for (size_t i = 0; i < operation_count; i++) {
        sites += refuse_each(parts, &operations[i], false);
        sites += refuse_each(parts, &operations[i], true);
    }
    assert_int_equal(defects, 0);
}

static void on_an_empty_recorder(void **state)
{
    (void)state;
    run_all(0);
}

static void on_a_filled_one(void **state)
{
    (void)state;
    run_all(SCENE_FILLED);
}

static void with_views_held(void **state)
{
    (void)state;
    run_all(SCENE_FILLED | SCENE_HELD_VIEWS);
}

static void with_a_watch_and_history(void **state)
{
    (void)state;
    run_all(SCENE_FILLED | SCENE_WATCHED);
}

static void with_agents_that_left(void **state)
{
    (void)state;
    run_all(SCENE_FILLED | SCENE_LEFT_AGENTS);
}

static void with_all_of_it(void **state)
{
    (void)state;
    run_all(SCENE_FILLED | SCENE_HELD_VIEWS | SCENE_WATCHED | SCENE_LEFT_AGENTS);
    assert_true(sites > 1000);
    print_message("%" PRIu64 " allocations were refused\n", sites);
}

static void a_new_recorder(void **state)
{
    (void)state;
    uint64_t n = 1;
    for (;; n++) {
        struct test_allocator memory = {0};
        presence_options options;
        presence_options_init(&options);
        options.memory = test_allocator_interface(&memory);
        options.history_bytes = 1;
        options.left_agents = 100;
        test_allocator_fail_nth(&memory, n, true);
        presence_error error = {0};
        presence_recorder *recorder = presence_recorder_new_with(&options, &error);
        if (recorder != NULL) {
            test_allocator_fail_nth(&memory, 0, false);
            presence_recorder_enable(recorder);
            assert_int_equal(presence_recorder_connect(recorder, "s", "m", "a", 1, false, NULL), PRESENCE_OK);
            presence_recorder_free(recorder);
            test_allocator_must_be_empty(&memory);
            break;
        }
        assert_int_equal(error.code, PRESENCE_E_NO_MEMORY);
        test_allocator_must_be_empty(&memory);
    }
    assert_true(n > 1);
}

/* Neither can say that it failed, so neither may. */
static void disabling_and_enabling_need_no_memory(void **state)
{
    (void)state;
    struct scene *scene = scene_new(SCENE_FILLED | SCENE_HELD_VIEWS | SCENE_WATCHED | SCENE_LEFT_AGENTS);
    uint64_t revision = presence_recorder_revision(scene->recorder);
    test_allocator_fail_nth(&scene->memory, 1, true);
    presence_recorder_disable(scene->recorder);
    assert_false(presence_recorder_is_enabled(scene->recorder));
    assert_int_equal(presence_recorder_revision(scene->recorder), revision + 1);
    presence_recorder_enable(scene->recorder);
    assert_true(presence_recorder_is_enabled(scene->recorder));
    int code = presence_recorder_connect(scene->recorder, OPEN, MODEL_A, "a", 1, false, NULL);
    assert_true(code == PRESENCE_OK || code == PRESENCE_E_NO_MEMORY);
    test_allocator_fail_nth(&scene->memory, 0, false);
    assert_int_equal(presence_recorder_connect(scene->recorder, OPEN, MODEL_A, "a", 1, false, NULL), PRESENCE_OK);
    struct content *content = content_of_recorder(scene->recorder);
    assert_int_equal(content->count, 1);
    content_free(content);
    presence_error error = {0};
    assert_int_equal(presence_recorder_check(scene->recorder, &error), PRESENCE_OK);
    scene_free(scene);
}

/* Views and slices are dropped, and the recorder freed, whatever the state of memory. */
static void freeing_needs_no_memory(void **state)
{
    (void)state;
    struct scene *scene = scene_new(SCENE_FILLED | SCENE_HELD_VIEWS | SCENE_WATCHED | SCENE_LEFT_AGENTS);
    test_allocator_fail_nth(&scene->memory, 1, true);
    for (size_t i = 0; i < SCENE_VIEWS; i++) {
        presence_connections_free(scene->views[i]);
        scene->views[i] = NULL;
    }
    presence_watch_free(scene->quiet);
    presence_watch_free(scene->pending);
    scene->quiet = scene->pending = NULL;
    presence_recorder_free(scene->recorder);
    scene->recorder = NULL;
    scene_free(scene);
}

/* A random run in which memory is short now and then: a shadow of codes tells what must be there. */
static void a_long_run_with_memory_short_now_and_then(void **state)
{
    (void)state;
    enum { IDS = 300, STEPS = 60000 };
    struct scene *scene = scene_new(0);
    static bool there[IDS];
    memset(there, 0, sizeof there);
    struct test_random random;
    test_random_seed(&random, 2024);
    presence_connections *held = NULL;
    size_t refused = 0, count = 0;
    for (int step = 0; step < STEPS; step++) {
        uint64_t id = test_random_below(&random, IDS);
        char agent[TEST_NAME_BYTES];
        if (test_random_chance(&random, 4)) {
            presence_recorder_trim(scene->recorder);
            test_allocator_fail_nth(&scene->memory, 1 + test_random_below(&random, 8), true);
        }
        int code;
        if (test_random_chance(&random, 3)) {
            code = presence_recorder_disconnect(scene->recorder, OPEN, id);
            assert_true(code == PRESENCE_E_NO_MEMORY || code == (there[id] ? PRESENCE_OK : PRESENCE_E_NOT_FOUND));
            if (code == PRESENCE_OK) {
                there[id] = false;
                count--;
            }
        } else {
            code =
                presence_recorder_connect(scene->recorder, OPEN, MODEL_A,
                                          test_name(agent, "agent", test_random_below(&random, 1000)), id, false, NULL);
            assert_true(code == PRESENCE_E_NO_MEMORY || code == PRESENCE_OK);
            if (code == PRESENCE_OK) {
                count += !there[id];
                there[id] = true;
            }
        }
        refused += code == PRESENCE_E_NO_MEMORY;
        test_allocator_fail_nth(&scene->memory, 0, false);
        if (test_random_chance(&random, 50)) {
            presence_connections_free(held);
            held = presence_recorder_connections(scene->recorder);
            assert_int_equal(presence_connections_count(held), count);
        }
        if (step % 2000 == 0)
            assert_int_equal(presence_recorder_check(scene->recorder, NULL), PRESENCE_OK);
    }
    assert_true(refused > 10);
    presence_connections_free(held);
    scene_free(scene);
}

int main(void)
{
    arena_test_chunk_bytes = ARENA_SPAN_BYTES;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_recorder),
        cmocka_unit_test(freeing_needs_no_memory),
        cmocka_unit_test(on_an_empty_recorder),
        cmocka_unit_test(on_a_filled_one),
        cmocka_unit_test(with_views_held),
        cmocka_unit_test(with_a_watch_and_history),
        cmocka_unit_test(with_agents_that_left),
        cmocka_unit_test(with_all_of_it),
        cmocka_unit_test(a_long_run_with_memory_short_now_and_then),
        cmocka_unit_test(disabling_and_enabling_need_no_memory),
    };
    return cmocka_run_group_tests_name("alloc_failure", tests, NULL, NULL);
}
