/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch.c - what a connection-level watch tells of single changes, and what it keeps to itself.
 */
#include "../support/story.h"

#define S0 "machine-0"
#define S1 "machine-1"

static void from_now_on(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "before", 1);
    presence_watch *watch = watch_all(world);
    expect_quiet(watch);
    connects(world, S0, MODEL_A, "after", 2);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void a_new_connection(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    at(world, 4);
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    value.user_data = "data";
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, NULL));
    presence_event event = expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 1);
    value.last_seen = STORY_BEGIN + 4;
    assert_true(test_values_equal(&event.value, &value, true));
    assert_int_equal(event.revision, presence_recorder_revision(world->recorder));
    assert_int_equal(event.index, 0);
    assert_int_equal(event.reason, PRESENCE_REASON_CONNECTED);
    assert_int_equal(event.agent_before, PRESENCE_UNKNOWN);
    assert_int_equal(event.agent_after, PRESENCE_ALIVE);
    connects(world, S1, MODEL_A, "a", 1);
    event = expect_event(watch, PRESENCE_EVENT_CONNECTED, S1, 1);
    assert_int_equal(event.agent_before, PRESENCE_ALIVE);
    assert_int_equal(event.agent_after, PRESENCE_ALIVE);
    presence_watch_free(watch);
}

static void a_missing_one_and_its_return(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *watch = watch_all(world);
    goes_down(world, S0);
    presence_event event = expect_event(watch, PRESENCE_EVENT_MISSING, S0, 1);
    assert_int_equal(event.value.status, PRESENCE_MISSING);
    assert_int_equal(event.reason, PRESENCE_REASON_SERVER_DOWN);
    assert_int_equal(event.agent_before, PRESENCE_ALIVE);
    assert_int_equal(event.agent_after, PRESENCE_MISSING);
    connects(world, S0, MODEL_A, "a", 1);
    event = expect_event(watch, PRESENCE_EVENT_RECONNECTED, S0, 1);
    assert_int_equal(event.value.status, PRESENCE_ALIVE);
    assert_int_equal(event.reason, PRESENCE_REASON_RECONNECTED);
    assert_int_equal(event.agent_before, PRESENCE_MISSING);
    assert_int_equal(event.agent_after, PRESENCE_ALIVE);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void an_update_is_an_update_not_leave_and_join(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *watch = watch_all(world);
    connects(world, S0, MODEL_B, "b", 1);
    presence_event event = expect_event(watch, PRESENCE_EVENT_UPDATED, S0, 1);
    assert_string_equal(event.value.model, MODEL_B);
    assert_string_equal(event.value.agent, "b");
    assert_int_equal(event.value.status, PRESENCE_ALIVE);
    expect_quiet(watch);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_B, "b", 1, false, "data"));
    event = expect_event(watch, PRESENCE_EVENT_UPDATED, S0, 1);
    assert_string_equal(event.value.user_data, "data");
    assert_int_equal(event.agent_before, PRESENCE_ALIVE);
    assert_int_equal(event.agent_after, PRESENCE_ALIVE);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_B, "b", 1, true, "data"));
    event = expect_event(watch, PRESENCE_EVENT_UPDATED, S0, 1);
    assert_true(event.value.controller_agent);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void a_connection_that_was_removed_is_told_as_it_last_was(void **state)
{
    struct world *world = *state;
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "a", 1, false, "data"));
    presence_watch *watch = watch_all(world);
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    at(world, 5);
    disconnects(world, S0, 1);
    connects(world, S0, MODEL_B, "in its place", 2); /* the strings are the watch's own */
    presence_event event = expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 1);
    presence_value last = test_value(S0, 1, MODEL_A, "a");
    last.user_data = "data";
    last.last_seen = STORY_BEGIN + 3;
    assert_true(test_values_equal(&event.value, &last, true));
    assert_int_equal(event.reason, PRESENCE_REASON_LEFT);
    assert_int_equal(event.agent_before, PRESENCE_ALIVE);
    assert_int_equal(event.agent_after, PRESENCE_UNKNOWN);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2);
    presence_watch_free(watch);
}

static void what_changes_nothing_is_not_told(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *watch = watch_all(world);
    at(world, 3);
    connects(world, S0, MODEL_A, "a", 1);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    goes_down(world, S1);
    expect_code(PRESENCE_E_NOT_FOUND, presence_recorder_disconnect(world->recorder, S0, 9));
    expect_code(PRESENCE_E_INVALID, presence_recorder_connect(world->recorder, S0, "", "a", 9, false, NULL));
    const presence_value same = test_value(S0, 1, MODEL_A, "a");
    updates(world, S0, &same, 1);
    presence_recorder_enable(world->recorder);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void activity_is_told_only_on_request(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *silent = watch_all(world);
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.kinds = 1u << PRESENCE_EVENT_ACTIVITY | 1u << PRESENCE_EVENT_DISCONNECTED;
    presence_watch *asked = watch_with(world, &options);
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    presence_event event = expect_event(asked, PRESENCE_EVENT_ACTIVITY, S0, 1);
    assert_int_equal(event.value.last_seen, STORY_BEGIN + 3);
    assert_string_equal(event.value.agent, "a");
    assert_int_equal(event.agent_before, PRESENCE_ALIVE);
    assert_int_equal(event.agent_after, PRESENCE_ALIVE);
    expect_quiet(asked);
    expect_quiet(silent);
    disconnects(world, S0, 1);
    expect_event(asked, PRESENCE_EVENT_DISCONNECTED, S0, 1);
    expect_event(silent, PRESENCE_EVENT_DISCONNECTED, S0, 1);
    expect_quiet(asked);
    presence_watch_free(silent);
    presence_watch_free(asked);
}

static void revisions_rise_by_one_a_change(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    uint64_t revision = presence_recorder_revision(world->recorder), index = 9;
    assert_int_equal(presence_watch_revision(watch, &index), revision);
    assert_int_equal(index, 0);
    for (uint64_t id = 0; id < 300; id++)
        connects(world, S0, MODEL_A, "a", id);
    for (uint64_t id = 0; id < 300; id++) {
        presence_event event = expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, id);
        assert_int_equal(event.revision, revision + id + 1);
        assert_int_equal(event.index, 0);
        uint64_t told = presence_watch_revision(watch, &index); /* it may not know yet that this was the last of it */
        assert_true(told == event.revision ? index == 0 : told == event.revision - 1 && index == 1);
    }
    expect_quiet(watch);
    assert_int_equal(presence_watch_revision(watch, &index), revision + 300);
    assert_int_equal(index, 0);
    presence_watch_free(watch);
}

static void each_watch_has_its_own_pace(void **state)
{
    struct world *world = *state;
    presence_watch *first = watch_all(world);
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *second = watch_all(world);
    connects(world, S0, MODEL_A, "b", 2);
    expect_event(second, PRESENCE_EVENT_CONNECTED, S0, 2);
    expect_quiet(second);
    expect_event(first, PRESENCE_EVENT_CONNECTED, S0, 1);
    presence_watch_free(second);
    expect_event(first, PRESENCE_EVENT_CONNECTED, S0, 2);
    expect_quiet(first);
    presence_watch_free(first);
}

static void a_disabled_recorder_can_be_watched(void **state)
{
    struct world *world = *state;
    presence_recorder_disable(world->recorder);
    presence_watch *watch = watch_all(world);
    expect_quiet(watch);
    presence_recorder_enable(world->recorder);
    connects(world, S0, MODEL_A, "a", 1);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 1);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void disabling_tells_every_watch_to_start_over(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *watch = watch_all(world);
    expect_quiet(watch);
    presence_recorder_disable(world->recorder);
    expect_lagged(watch);
    presence_recorder_enable(world->recorder);
    connects(world, S0, MODEL_A, "a", 1);
    expect_lagged(watch); /* it stays so */
    presence_watch_free(watch);

    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.from_now = false;
    options.after_revision = presence_connections_revision(view);
    presence_connections_free(view);
    watch = watch_with(world, &options);
    connects(world, S0, MODEL_A, "b", 2);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2);
    presence_watch_free(watch);
}

static void the_controllers_connections_are_told_and_count_for_no_agent(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "c", 1, true, NULL));
    presence_event event = expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 1);
    assert_true(event.value.controller_agent);
    assert_int_equal(event.agent_before, PRESENCE_UNKNOWN);
    assert_int_equal(event.agent_after, PRESENCE_UNKNOWN);
    presence_watch_free(watch);
}

static void batches_are_told_one_by_one(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    presence_value list[3];
    const uint64_t ids[] = {2, 0, 7, 1};
    for (uint64_t id = 0; id < 3; id++)
        list[id] = test_value(S0, id, MODEL_A, "a");
    expect_code(PRESENCE_OK, presence_recorder_connect_many(world->recorder, list, 3, NULL, NULL));
    expect_code(PRESENCE_OK, presence_recorder_disconnect_many(world->recorder, S0, ids, 4, NULL));
    for (uint64_t id = 0; id < 3; id++)
        expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, id);
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 2);
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 0);
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 1);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void a_lapse_and_a_restore(void **state)
{
    struct world *world = *state;
    const presence_claim claim = {.epoch = 1, .turn = 1, .random = 1};
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    expect_code(PRESENCE_OK, presence_replica_apply_state(world->recorder, S0, &claim, 1, 0, PRESENCE_REASON_NONE, 0,
                                                          &value, 1, NULL));
    presence_watch *watch = watch_all(world);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    presence_event event = expect_event(watch, PRESENCE_EVENT_MISSING, S0, 1);
    assert_int_equal(event.reason, PRESENCE_REASON_LAPSED);
    assert_int_equal(event.value.status, PRESENCE_MISSING);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    event = expect_event(watch, PRESENCE_EVENT_RECONNECTED, S0, 1);
    assert_int_equal(event.reason, PRESENCE_REASON_RESTORED);
    assert_int_equal(event.agent_before, PRESENCE_MISSING);
    assert_int_equal(event.agent_after, PRESENCE_ALIVE);
    expect_quiet(watch);
    presence_watch_free(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(from_now_on),
        story(a_new_connection),
        story(a_missing_one_and_its_return),
        story(an_update_is_an_update_not_leave_and_join),
        story(a_connection_that_was_removed_is_told_as_it_last_was),
        story(what_changes_nothing_is_not_told),
        story(activity_is_told_only_on_request),
        story(revisions_rise_by_one_a_change),
        story(each_watch_has_its_own_pace),
        story(a_disabled_recorder_can_be_watched),
        story(disabling_tells_every_watch_to_start_over),
        story(the_controllers_connections_are_told_and_count_for_no_agent),
        story(batches_are_told_one_by_one),
        story(a_lapse_and_a_restore),
    };
    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
