/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_evidence.c - why an agent's best status is what it is, since when, and when it was last seen.
 */
#include "../support/story.h"

#define S0 "machine-0"
#define S1 "machine-1"
#define S2 "machine-2"

static void nothing_is_known_of_a_stranger(void **state)
{
    struct world *world = *state;
    expect_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);
}

static void the_first_connection_begins_it_and_further_ones_do_not(void **state)
{
    struct world *world = *state;
    at(world, 1);
    connects(world, S0, MODEL_A, "a", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 1, 1, 0);
    at(world, 2);
    connects(world, S1, MODEL_A, "a", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 2, 2, 0);
    at(world, 3);
    connects(world, S0, MODEL_A, "a", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 3, 2, 0);
    at(world, 4);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S1, 1));
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 4, 2, 0);
}

static void while_the_best_stays_alive_nothing_changed(void **state)
{
    struct world *world = *state;
    at(world, 1);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 3);
    goes_down(world, S0);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 2, 1, 1);
    at(world, 4);
    disconnects(world, S0, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 2, 1, 0);
}

static void the_oldest_connection_leaves_and_the_agent_is_alive_since_its_beginning(void **state)
{
    struct world *world = *state;
    at(world, 1);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 3);
    disconnects(world, S0, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 2, 1, 0);
}

static void the_last_server_going_down_makes_it_missing(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 3);
    goes_down(world, S0);
    at(world, 5);
    expect_code(PRESENCE_OK,
                presence_recorder_server_down_because(world->recorder, S1, PRESENCE_REASON_TIMED_OUT, NULL));
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_TIMED_OUT, 5, 0, 0, 2);
}

static void coming_back_is_a_reconnect(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 1);
    goes_down(world, S0);
    at(world, 2);
    connects(world, S0, MODEL_A, "a", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_RECONNECTED, 2, 2, 1, 0);
    at(world, 3);
    goes_down(world, S0);
    at(world, 4);
    connects(world, S1, MODEL_A, "a", 9); /* by another connection, elsewhere */
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_RECONNECTED, 4, 4, 1, 1);
    at(world, 5);
    connects(world, S0, MODEL_A, "a", 1); /* the missing one again: alive it was already */
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_RECONNECTED, 4, 5, 2, 0);
}

static void leaving_the_best_behind_makes_it_missing_now(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 1);
    goes_down(world, S0);
    at(world, 4);
    disconnects(world, S1, 2);
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_LEFT, 4, 0, 0, 1);
}

static void a_missing_one_leaving_does_not_change_the_rest(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 1);
    goes_down(world, S0);
    at(world, 2);
    goes_down(world, S1);
    at(world, 3);
    disconnects(world, S0, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 2, 0, 0, 1);
}

static void the_one_that_went_down_last_leaves(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 1);
    goes_down(world, S0);
    at(world, 2);
    goes_down(world, S1);
    at(world, 3);
    disconnects(world, S1, 2); /* missing before, missing after: its best status last changed at 2 */
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 2, 0, 0, 1);
}

static void an_update_says_so(void **state)
{
    struct world *world = *state;
    at(world, 1);
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    updates(world, S0, &value, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_UPDATED, 1, 1, 1, 0);
    at(world, 2);
    updates(world, S0, &value, 1); /* alive before, alive after */
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_UPDATED, 1, 2, 1, 0);
    at(world, 3);
    goes_down(world, S0);
    at(world, 4);
    updates(world, S0, &value, 1); /* missing before */
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_UPDATED, 4, 4, 1, 0);
}

static void an_update_keeps_the_evidence_of_those_who_connected(void **state)
{
    struct world *world = *state;
    at(world, 1);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    updates(world, S0, &value, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 2, 1, 0);
    at(world, 3);
    const presence_value moved = test_value(S0, 7, MODEL_A, "a"); /* another id: the agent was alive all along */
    updates(world, S0, &moved, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 3, 1, 0);
}

static void an_update_without_it_leaves_the_missing(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 1);
    goes_down(world, S0);
    at(world, 6);
    updates(world, S1, NULL, 0);
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_UPDATED, 6, 0, 0, 1);
}

static void a_merge_is_an_update_too(void **state)
{
    struct world *world = *state;
    at(world, 1);
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, S0, &value, 1, NULL));
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_UPDATED, 1, 1, 1, 0);
    at(world, 2);
    goes_down(world, S0);
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, S0, &value, 1, NULL));
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_UPDATED, 3, 3, 1, 0);
}

static void the_id_is_stated_for_another_agent(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 1);
    connects(world, S1, MODEL_A, "a", 2);
    at(world, 2);
    goes_down(world, S0);
    at(world, 3);
    connects(world, S0, MODEL_A, "b", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 0, 1, 1, 0);
    expect_evidence(world, MODEL_A, "b", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 3, 3, 1, 0);
}

static void other_data_is_no_change_of_status(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "a", 1, false, "data"));
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 0, 2, 1, 0);
}

static void leaving_and_coming_again_begins_anew(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 1);
    disconnects(world, S0, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);
    at(world, 2);
    connects(world, S0, MODEL_A, "a", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 2, 2, 1, 0);
}

static void a_server_going_down_many_times_forgets_the_oldest_time_at_most(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "stays-missing", 1);
    at(world, 1);
    goes_down(world, S0);
    for (int round = 2; round <= 16; round++) { /* 16 times in all: still exact */
        at(world, round);
        connects(world, S0, MODEL_A, "flaps", 2);
        goes_down(world, S0);
        expect_evidence(world, MODEL_A, "stays-missing", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 1, 0, 0, 1);
        expect_evidence(world, MODEL_A, "flaps", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, round, round, 0, 1);
    }
    for (int round = 17; round <= 60; round++) {
        at(world, round);
        connects(world, S0, MODEL_A, "flaps", 2);
        goes_down(world, S0);
        presence_evidence evidence;
        expect_code(PRESENCE_OK,
                    presence_recorder_agent_evidence(world->recorder, MODEL_A, "stays-missing", &evidence));
        assert_int_equal(evidence.status, PRESENCE_MISSING);
        assert_int_equal(evidence.reason, PRESENCE_REASON_SERVER_DOWN);
        assert_true(evidence.since >= STORY_BEGIN + 1 && evidence.since <= STORY_BEGIN + round);
    }
}

static void a_lapse_and_its_end(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    const presence_claim claim = {.epoch = 1, .turn = 1, .random = 5};
    const presence_value values[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    at(world, 1);
    expect_code(PRESENCE_OK,
                presence_replica_apply_state(recorder, S0, &claim, 10, 0, PRESENCE_REASON_NONE, 0, values, 2, NULL));
    connects(world, S1, MODEL_A, "b", 1);
    at(world, 5);
    expect_code(PRESENCE_OK, presence_replica_lapse(recorder, S0));
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(recorder, MODEL_A, "a", &evidence));
    assert_int_equal(evidence.status, PRESENCE_MISSING);
    assert_int_equal(evidence.reason, PRESENCE_REASON_LAPSED);
    assert_int_equal(evidence.since, STORY_BEGIN + 5);
    assert_int_equal(evidence.missing, 1);
    expect_status(world, MODEL_A, "b", PRESENCE_ALIVE); /* it has another connection */
    at(world, 8);
    expect_code(PRESENCE_OK, presence_replica_restore(recorder, S0));
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(recorder, MODEL_A, "a", &evidence));
    assert_int_equal(evidence.status, PRESENCE_ALIVE);
    assert_int_equal(evidence.reason, PRESENCE_REASON_RESTORED);
    assert_int_equal(evidence.since, STORY_BEGIN + 8);
}

static void of_the_same_name_in_another_model_nothing_is_told(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    expect_evidence(world, MODEL_B, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);
}

static void three_servers_one_agent(void **state)
{
    struct world *world = *state;
    at(world, 1);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 2);
    connects(world, S1, MODEL_A, "a", 1);
    at(world, 3);
    connects(world, S2, MODEL_A, "a", 1);
    at(world, 4);
    goes_down(world, S2);
    at(world, 5);
    goes_down(world, S0);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 3, 1, 2);
    at(world, 6);
    expect_code(PRESENCE_OK, presence_recorder_server_down_because(world->recorder, S1, PRESENCE_REASON_DRAINED, NULL));
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_DRAINED, 6, 3, 0, 3);
    at(world, 7);
    connects(world, S2, MODEL_A, "a", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_RECONNECTED, 7, 7, 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(nothing_is_known_of_a_stranger),
        story(the_first_connection_begins_it_and_further_ones_do_not),
        story(while_the_best_stays_alive_nothing_changed),
        story(the_oldest_connection_leaves_and_the_agent_is_alive_since_its_beginning),
        story(the_last_server_going_down_makes_it_missing),
        story(coming_back_is_a_reconnect),
        story(leaving_the_best_behind_makes_it_missing_now),
        story(a_missing_one_leaving_does_not_change_the_rest),
        story(the_one_that_went_down_last_leaves),
        story(an_update_says_so),
        story(an_update_keeps_the_evidence_of_those_who_connected),
        story(an_update_without_it_leaves_the_missing),
        story(a_merge_is_an_update_too),
        story(the_id_is_stated_for_another_agent),
        story(other_data_is_no_change_of_status),
        story(leaving_and_coming_again_begins_anew),
        story(a_server_going_down_many_times_forgets_the_oldest_time_at_most),
        story(a_lapse_and_its_end),
        story(of_the_same_name_in_another_model_nothing_is_told),
        story(three_servers_one_agent),
    };
    return cmocka_run_group_tests_name("evidence", tests, NULL, NULL);
}
