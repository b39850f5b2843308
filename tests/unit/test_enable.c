/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_enable.c - a recorder starts disabled and empty; enabling, disabling, and what a disabled recorder answers.
 *
 * Run by the build as one cmocka program. Costs nothing worth naming.
 */
#include "../support/story.h"

#include <time.h>

static void a_new_recorder_is_disabled_and_empty(void **state)
{
    (void)state;
    presence_recorder *recorder = presence_recorder_new(NULL);
    assert_non_null(recorder);
    assert_false(presence_recorder_is_enabled(recorder));
    assert_int_equal(presence_recorder_revision(recorder), 0);
    presence_connections *view = presence_recorder_connections(recorder);
    assert_non_null(view);
    assert_int_equal(presence_connections_count(view), 0);
    presence_cursor cursor = {{0}};
    presence_value value;
    assert_false(presence_connections_next(view, &cursor, &value));
    presence_connections_free(view);
    presence_recorder_free(recorder);
}

static void without_a_clock_it_asks_the_systems(void **state)
{
    (void)state;
    presence_recorder *recorder = presence_recorder_new(NULL);
    presence_recorder_enable(recorder);
    struct timespec before, after;
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &before), 0);
    expect_code(PRESENCE_OK, presence_recorder_connect(recorder, "s", MODEL_A, "a", 1, false, NULL));
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &after), 0);
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(recorder, MODEL_A, "a", &evidence));
    presence_time second = 1000000000; /* a coarse clock may lag a little behind the fine one */
    assert_true(evidence.last_seen >= before.tv_sec * second + before.tv_nsec - second / 10);
    assert_true(evidence.last_seen <= after.tv_sec * second + after.tv_nsec + second / 10);
    presence_recorder_free(recorder);
}

static void a_disabled_recorder_ignores_every_write(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    presence_recorder_disable(recorder);
    presence_value value = test_value("s", 1, MODEL_A, "a");
    presence_handle handle = {{0}};
    uint64_t id = 1;
    size_t done = 9;
    bool is_new = true;
    const int disabled = PRESENCE_E_DISABLED;
    expect_refused(world, disabled, presence_recorder_connect(recorder, "s", MODEL_A, "a", 1, false, NULL));
    expect_refused(world, disabled, presence_recorder_disconnect(recorder, "s", 1));
    expect_refused(world, disabled, presence_recorder_activity(recorder, "s", 1));
    expect_refused(world, disabled, presence_recorder_server_down(recorder, "s"));
    expect_refused(world, disabled,
                   presence_recorder_server_down_because(recorder, "s", PRESENCE_REASON_DRAINED, &done));
    expect_refused(world, disabled, presence_recorder_update_server(recorder, "s", &value, 1, NULL));
    expect_refused(world, disabled, presence_recorder_merge_server(recorder, "s", &value, 1, NULL));
    expect_refused(world, disabled, presence_recorder_merge_server_since(recorder, "s", 0, &value, 1, NULL));
    expect_refused(world, disabled, presence_recorder_connect_handle(recorder, &value, &handle, &is_new, NULL));
    expect_refused(world, disabled, presence_recorder_find_handle(recorder, "s", 1, &handle));
    expect_refused(world, disabled, presence_recorder_activity_handle(recorder, &handle));
    expect_refused(world, disabled, presence_recorder_disconnect_handle(recorder, &handle));
    expect_refused(world, disabled, presence_recorder_activity_many(recorder, "s", &id, 1, &done));
    expect_refused(world, disabled, presence_recorder_disconnect_many(recorder, "s", &id, 1, &done));
    expect_refused(world, disabled, presence_recorder_activity_handles(recorder, &handle, 1, &done));
    expect_refused(world, disabled, presence_recorder_disconnect_handles(recorder, &handle, 1, &done));
    expect_refused(world, disabled, presence_recorder_connect_many(recorder, &value, 1, &done, NULL));
}

static void a_disabled_recorder_answers_no_live_question(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    presence_recorder_disable(recorder);
    presence_status status;
    presence_evidence evidence;
    presence_counts counts;
    size_t connections, agents;
    expect_code(PRESENCE_E_DISABLED, presence_recorder_agent_status(recorder, MODEL_A, "a", &status));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_agent_evidence(recorder, MODEL_A, "a", &evidence));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_counts(recorder, &counts));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_server_counts(recorder, "s", &counts));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_model_counts(recorder, MODEL_A, &connections, &agents));
}

static void enabling_twice_does_nothing(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    remember(world);
    presence_recorder_enable(world->recorder);
    assert_true(presence_recorder_is_enabled(world->recorder));
    expect_unchanged(world);
}

static void disabling_clears_everything_and_counts_as_a_change(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    connects(world, "t", MODEL_B, "b", 2);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_connections *held = presence_recorder_connections(world->recorder);

    presence_recorder_disable(world->recorder);

    assert_false(presence_recorder_is_enabled(world->recorder));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    expect_absent(world, "s", 1);
    presence_connections *view = presence_recorder_connections(world->recorder);
    assert_int_equal(presence_connections_count(view), 0);
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_connections_servers(view, &names, &count));
    assert_int_equal(count, 0);
    presence_names_free(names);
    presence_connections_free(view);
    /* what is held stays as it is */
    assert_int_equal(presence_connections_count(held), 2);
    presence_value value;
    expect_code(PRESENCE_OK, presence_connections_find(held, "t", 2, &value));
    assert_string_equal(value.agent, "b");
    presence_connections_free(held);
}

static void disabling_twice_does_nothing(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    presence_recorder_disable(world->recorder);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_recorder_disable(world->recorder);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
}

static void enabled_again_it_is_empty_and_its_revision_goes_on(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    presence_recorder_disable(world->recorder);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_recorder_enable(world->recorder);
    assert_true(presence_recorder_revision(world->recorder) >= revision);
    expect_counts(world, 0, 0);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);

    connects(world, "s", MODEL_A, "a", 1);
    assert_true(presence_recorder_revision(world->recorder) > revision);
    expect_counts(world, 1, 0);
}

static void options_of_another_version_are_refused(void **state)
{
    (void)state;
    presence_options options;
    presence_options_init(&options);
    assert_int_equal(options.struct_bytes, sizeof options);
    assert_null(options.clock.now);
    assert_null(options.memory.allocate);
    options.struct_bytes = 0;
    presence_error error = {0};
    assert_null(presence_recorder_new_with(&options, &error));
    assert_int_equal(error.code, PRESENCE_E_INVALID);
    assert_string_not_equal(error.message, "");
    assert_null(presence_recorder_new_with(&options, NULL));
}

static void freeing_nothing_is_allowed(void **state)
{
    (void)state;
    presence_recorder_free(NULL);
    presence_connections_free(NULL);
    presence_names_free(NULL);
    presence_watch_free(NULL);
    presence_change_reader_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_recorder_is_disabled_and_empty),
        cmocka_unit_test(without_a_clock_it_asks_the_systems),
        story(a_disabled_recorder_ignores_every_write),
        story(a_disabled_recorder_answers_no_live_question),
        story(enabling_twice_does_nothing),
        story(disabling_clears_everything_and_counts_as_a_change),
        story(disabling_twice_does_nothing),
        story(enabled_again_it_is_empty_and_its_revision_goes_on),
        cmocka_unit_test(options_of_another_version_are_refused),
        cmocka_unit_test(freeing_nothing_is_allowed),
    };
    return cmocka_run_group_tests_name("enable", tests, NULL, NULL);
}
