/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch_time.c - each event says when its change was made, however late it is read, and by whose clock.
 */
#include "replica_words.h"

static presence_watch *watch_agents(struct world *world)
{
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.agents = true;
    return watch_with(world, &options);
}

static void expect_time(presence_event event, presence_time after_begin)
{
    assert_int_equal(event.time, STORY_BEGIN + after_begin);
}

/* The agent's status is since the event that changed it. */
static void expect_since(struct world *world, const char *agent, presence_time after_begin)
{
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, MODEL_A, agent, &evidence));
    assert_int_equal(evidence.since, STORY_BEGIN + after_begin);
}

static void a_change_of_one_connection(void **state)
{
    struct world *world = *state;
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.kinds = 0xfe & ~(1u << PRESENCE_EVENT_AGENT);
    presence_watch *watch = watch_with(world, &options), *agents = watch_agents(world);
    at(world, 1);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "a", 1, false, "data"));
    expect_since(world, "a", 1);
    at(world, 4);
    disconnects(world, S0, 1);
    at(world, 1000); /* when they are read does not matter */
    expect_time(expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 1), 1);
    expect_time(expect_event(watch, PRESENCE_EVENT_ACTIVITY, S0, 1), 2);
    expect_time(expect_event(watch, PRESENCE_EVENT_UPDATED, S0, 1), 3);
    presence_event gone = expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 1);
    expect_time(gone, 4); /* and it was last seen earlier */
    assert_int_equal(gone.value.last_seen, STORY_BEGIN + 3);
    expect_time(expect_agent_event(agents, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_ALIVE), 1);
    expect_time(expect_agent_event(agents, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_UNKNOWN), 4);
    presence_watch_free(watch);
    presence_watch_free(agents);
}

static void a_change_of_a_whole_server(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    presence_watch *watch = watch_all(world), *agents = watch_agents(world);
    at(world, 5);
    goes_down(world, S0);
    at(world, 6);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 3, MODEL_A, "c")};
    updates(world, S0, list, 2);
    at(world, 1000);
    presence_event event;
    size_t missing = 0, by_list = 0;
    while (presence_watch_next(watch, &event) == 1) {
        bool is_down = event.reason == PRESENCE_REASON_SERVER_DOWN;
        expect_time(event, is_down ? 5 : 6);
        missing += is_down;
        by_list += !is_down;
    }
    assert_int_equal(missing, 2);
    assert_int_equal(by_list, 3); /* a is back, b is gone, c is new */
    missing = by_list = 0;
    while (presence_watch_next(agents, &event) == 1) {
        expect_time(event, event.agent_after == PRESENCE_MISSING ? 5 : 6);
        missing += event.agent_after == PRESENCE_MISSING;
        by_list += event.agent_after != PRESENCE_MISSING;
    }
    assert_int_equal(missing, 2);
    assert_int_equal(by_list, 3);
    expect_since(world, "a", 6);
    presence_watch_free(watch);
    presence_watch_free(agents);
}

/* What another node stated is at that node's time; that this one lost touch with it, at this one's. */
static void a_change_that_another_stated(void **state)
{
    struct world *world = *state;
    const presence_claim claim = claim_of(1, 1, 7);
    claims(world, S0, claim, false);
    presence_watch *watch = watch_all(world), *agents = watch_agents(world);
    at(world, 500);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    applies(world, S0, claim, down_change(2, PRESENCE_REASON_DRAINED), true);
    applies(world, S0, claim, connect_change(3, test_value(S0, 1, MODEL_A, "a")), true);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    at(world, 600);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    applies(world, S0, claim, disconnect_change(4, 1), true);
    at(world, 1000);
    const presence_time times[] = {1, 2, 3, 500, 600, 4};
    for (size_t i = 0; i < 6; i++) {
        presence_event event;
        assert_int_equal(presence_watch_next(watch, &event), 1);
        expect_time(event, times[i]);
        assert_int_equal(presence_watch_next(agents, &event), 1);
        expect_time(event, times[i]);
    }
    expect_quiet(watch);
    expect_quiet(agents);
    presence_watch_free(watch);
    presence_watch_free(agents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(a_change_of_one_connection),
        story(a_change_of_a_whole_server),
        story(a_change_that_another_stated),
    };
    return cmocka_run_group_tests_name("watch_time", tests, NULL, NULL);
}
