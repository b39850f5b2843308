/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_unstated.c - a server comes back within its grace and states some of its agents anew: at the end of the grace
 * the others become missing, and those that were stated notice nothing.
 */
#include "../support/story.h"

static void what_was_not_stated_since_the_mark_becomes_missing(void **state)
{
    struct world *world = *state;
    /* Given three agents, and a mark when their server's link dropped. */
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_A, "b", 2);
    connects(world, "machine-0", MODEL_A, "c", 3);
    connects(world, "machine-1", MODEL_A, "d", 1);
    uint64_t mark;
    expect_code(PRESENCE_OK, presence_recorder_mark(world->recorder, &mark));
    /* When one is connected again as it was, one comes new, one is only active, */
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_A, "e", 4);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, "machine-0", 2));
    size_t missing;
    expect_code(PRESENCE_OK, presence_recorder_server_down_unstated(world->recorder, "machine-0", mark,
                                                                    PRESENCE_REASON_TIMED_OUT, &missing));
    /* then the others are missing for the reason given, and nobody else. */
    assert_int_equal(missing, 2);
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
    expect_status(world, MODEL_A, "b", PRESENCE_MISSING);
    expect_status(world, MODEL_A, "c", PRESENCE_MISSING);
    expect_status(world, MODEL_A, "d", PRESENCE_ALIVE);
    expect_status(world, MODEL_A, "e", PRESENCE_ALIVE);
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, MODEL_A, "c", &evidence));
    assert_int_equal(evidence.reason, PRESENCE_REASON_TIMED_OUT);
    presence_error error;
    expect_code(PRESENCE_OK, presence_recorder_check(world->recorder, &error));
    /* And once more, nothing is left to do: no change. */
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK, presence_recorder_server_down_unstated(world->recorder, "machine-0", mark,
                                                                    PRESENCE_REASON_TIMED_OUT, &missing));
    assert_int_equal(missing, 0);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
}

static void a_list_states_too(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_A, "b", 2);
    uint64_t mark;
    expect_code(PRESENCE_OK, presence_recorder_mark(world->recorder, &mark));
    presence_value value = {.model = MODEL_A, .server = "machine-0", .agent = "a", .connection_id = 1};
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, "machine-0", &value, 1, NULL));
    size_t missing;
    expect_code(PRESENCE_OK, presence_recorder_server_down_unstated(world->recorder, "machine-0", mark,
                                                                    PRESENCE_REASON_SERVER_DOWN, &missing));
    /* merge_server keeps what it does not list, but that states nothing */
    assert_int_equal(missing, 1);
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
    expect_status(world, MODEL_A, "b", PRESENCE_MISSING);
}

static void an_agent_on_two_servers_keeps_its_evidence(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    uint64_t mark;
    expect_code(PRESENCE_OK, presence_recorder_mark(world->recorder, &mark));
    /* its record is written anew after the mark, by a second connection that goes again */
    connects(world, "machine-1", MODEL_A, "a", 1);
    disconnects(world, "machine-1", 1);
    expect_code(PRESENCE_OK, presence_recorder_server_down_unstated(world->recorder, "machine-0", mark,
                                                                    PRESENCE_REASON_TIMED_OUT, NULL));
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, MODEL_A, "a", &evidence));
    assert_int_equal(evidence.status, PRESENCE_MISSING);
    assert_int_equal(evidence.reason, PRESENCE_REASON_TIMED_OUT);
}

static void views_and_digests_follow(void **state)
{
    struct world *world = *state;
    presence_claim claim = {1, 0, 7};
    expect_code(PRESENCE_OK, presence_replica_claim(world->recorder, "machine-0", &claim, true));
    for (uint64_t i = 1; i <= 200; i++) {
        connects(world, "machine-0", MODEL_A, i % 2 ? "odd" : "even", i);
    }
    uint64_t mark;
    expect_code(PRESENCE_OK, presence_recorder_mark(world->recorder, &mark));
    for (uint64_t i = 1; i <= 200; i += 2)
        connects(world, "machine-0", MODEL_A, "odd", i);
    presence_connections *view = presence_recorder_connections(world->recorder);
    expect_code(PRESENCE_OK, presence_recorder_server_down_unstated(world->recorder, "machine-0", mark,
                                                                    PRESENCE_REASON_TIMED_OUT, NULL));
    presence_error error;
    expect_code(PRESENCE_OK, presence_recorder_check(world->recorder, &error));
    expect_counts(world, 100, 100);
    presence_connections *model = presence_connections_for_model(view, MODEL_A);
    presence_status status;
    expect_code(PRESENCE_OK, presence_connections_agent_status(model, "even", &status));
    assert_int_equal(status, PRESENCE_ALIVE);
    presence_connections_free(model);
    presence_connections_free(view);
}

static void a_mark_of_the_future_is_refused(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_E_INVALID, presence_recorder_server_down_unstated(world->recorder, "machine-0", revision,
                                                                           PRESENCE_REASON_TIMED_OUT, NULL));
    expect_code(PRESENCE_E_INVALID,
                presence_recorder_server_down_unstated(world->recorder, "machine-0", 0, PRESENCE_REASON_LEFT, NULL));
    expect_code(PRESENCE_E_INVALID, presence_recorder_mark(world->recorder, NULL));
    expect_code(PRESENCE_OK, presence_recorder_server_down_unstated(world->recorder, "machine-9", 0,
                                                                    PRESENCE_REASON_TIMED_OUT, NULL));
    presence_recorder_disable(world->recorder);
    uint64_t mark;
    expect_code(PRESENCE_E_DISABLED, presence_recorder_mark(world->recorder, &mark));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(what_was_not_stated_since_the_mark_becomes_missing),
        story(a_list_states_too),
        story(an_agent_on_two_servers_keeps_its_evidence),
        story(views_and_digests_follow),
        story(a_mark_of_the_future_is_refused),
    };
    return cmocka_run_group_tests_name("unstated", tests, NULL, NULL);
}
