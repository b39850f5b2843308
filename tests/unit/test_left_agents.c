/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_left_agents.c - agents that left stay known with their last_seen, in a bounded table, if the option asks for it.
 */
#include "../support/story.h"

#define S0 "machine-0"

static void remember_left(struct world *world, size_t left_agents)
{
    presence_options options = world_options(world);
    options.left_agents = left_agents;
    world_restart(world, &options);
}

static presence_evidence evidence_of(struct world *world, const char *agent)
{
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, MODEL_A, agent, &evidence));
    return evidence;
}

static void without_the_option_they_are_unknown(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    disconnects(world, S0, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);
}

static void with_it_when_and_how_they_left_is_known(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    at(world, 5);
    disconnects(world, S0, 1);
    expect_live_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_LEFT, 5, 3, 0, 0);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_counts(world, 0, 0); /* no connection of it is recorded */
    /* views do not know it */
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *slice = presence_connections_for_model(view, MODEL_A);
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_connections_agent_evidence(slice, "a", &evidence));
    assert_int_equal(evidence.reason, PRESENCE_REASON_NONE);
    assert_int_equal(evidence.last_seen, 0);
    presence_connections_free(view);
    presence_connections_free(slice);
}

static void only_the_last_connection_makes_it_left(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    connects(world, "machine-1", MODEL_A, "a", 1);
    at(world, 3);
    disconnects(world, "machine-1", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 0, 0, 1, 0);
    at(world, 4);
    disconnects(world, S0, 1);
    presence_evidence evidence = evidence_of(world, "a");
    assert_int_equal(evidence.status, PRESENCE_UNKNOWN);
    assert_int_equal(evidence.reason, PRESENCE_REASON_LEFT);
    assert_int_equal(evidence.since, STORY_BEGIN + 4);
    assert_true(evidence.last_seen >= STORY_BEGIN && evidence.last_seen <= STORY_BEGIN + 2);
}

static void a_missing_one_can_leave_too(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    goes_down(world, S0);
    at(world, 4);
    disconnects(world, S0, 1);
    expect_live_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_LEFT, 4, 0, 0, 0);
}

static void who_comes_back_is_as_good_as_new(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    disconnects(world, S0, 1);
    at(world, 7);
    connects(world, S0, MODEL_A, "a", 2);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 7, 7, 1, 0);
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    assert_int_equal(stats.left_agents, 0);
    at(world, 9);
    disconnects(world, S0, 2);
    expect_live_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_LEFT, 9, 7, 0, 0);
}

static void an_update_that_leaves_one_out_is_told(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    at(world, 3);
    const presence_value b = test_value(S0, 2, MODEL_A, "b");
    updates(world, S0, &b, 1);
    presence_evidence evidence = evidence_of(world, "a");
    assert_int_equal(evidence.status, PRESENCE_UNKNOWN);
    assert_int_equal(evidence.reason, PRESENCE_REASON_UPDATED);
    assert_int_equal(evidence.since, STORY_BEGIN + 3);
    assert_int_equal(evidence.last_seen, STORY_BEGIN);
}

static void the_table_is_bounded(void **state)
{
    struct world *world = *state;
    enum { BOUND = 10, MANY = 500 };
    remember_left(world, BOUND);
    char agent[TEST_NAME_BYTES];
    for (uint64_t i = 0; i < MANY; i++) {
        at(world, (presence_time)i);
        connects(world, S0, MODEL_A, test_name(agent, "agent", i), i);
        disconnects(world, S0, i);
    }
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    assert_int_equal(stats.left_agents, BOUND);
    for (uint64_t i = 0; i < MANY; i++) {
        presence_evidence evidence = evidence_of(world, test_name(agent, "agent", i));
        if (i >= MANY - BOUND) { /* those that left last are known */
            assert_int_equal(evidence.reason, PRESENCE_REASON_LEFT);
            assert_int_equal(evidence.last_seen, STORY_BEGIN + (presence_time)i);
        } else {
            assert_int_equal(evidence.reason, PRESENCE_REASON_NONE);
        }
    }
}

static void of_two_models_each_its_own(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_B, "a", 2);
    at(world, 4);
    disconnects(world, S0, 2);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 0, 0, 1, 0);
    expect_live_evidence(world, MODEL_B, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_LEFT, 4, 0, 0, 0);
}

static void controller_agents_leave_no_trace(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "a", 1, true, NULL));
    disconnects(world, S0, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);
}

static void disabling_forgets_them(void **state)
{
    struct world *world = *state;
    remember_left(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    disconnects(world, S0, 1);
    presence_recorder_disable(world->recorder);
    presence_recorder_enable(world->recorder);
    expect_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(without_the_option_they_are_unknown),
        story(with_it_when_and_how_they_left_is_known),
        story(only_the_last_connection_makes_it_left),
        story(a_missing_one_can_leave_too),
        story(who_comes_back_is_as_good_as_new),
        story(an_update_that_leaves_one_out_is_told),
        story(the_table_is_bounded),
        story(of_two_models_each_its_own),
        story(controller_agents_leave_no_trace),
        story(disabling_forgets_them),
    };
    return cmocka_run_group_tests_name("left_agents", tests, NULL, NULL);
}
