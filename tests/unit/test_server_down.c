/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_server_down.c - a server goes down: all its connections are missing at once, and the reason is known.
 */
#include "../support/story.h"

static void all_its_connections_are_missing_and_no_other(void **state)
{
    struct world *world = *state;
    for (uint64_t id = 1; id <= 100; id++)
        connects(world, id % 2 ? "machine-0" : "machine-1", MODEL_A, id % 2 ? "a" : "b", id);
    at(world, 3);
    uint64_t revision = presence_recorder_revision(world->recorder);
    goes_down(world, "machine-0");
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    for (uint64_t id = 1; id <= 100; id++) {
        presence_value value = test_value(id % 2 ? "machine-0" : "machine-1", id, MODEL_A, id % 2 ? "a" : "b");
        expect_recorded(world, value, id % 2 ? PRESENCE_MISSING : PRESENCE_ALIVE, 0); /* last_seen stays as it is */
    }
    expect_counts(world, 50, 50);
    expect_status(world, MODEL_A, "a", PRESENCE_MISSING);
    expect_status(world, MODEL_A, "b", PRESENCE_ALIVE);
}

static void connections_made_after_it_are_alive(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    goes_down(world, "machine-0");
    connects(world, "machine-0", MODEL_A, "b", 2);
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_MISSING, 0);
    expect_recorded(world, test_value("machine-0", 2, MODEL_A, "b"), PRESENCE_ALIVE, 0);
    goes_down(world, "machine-0");
    expect_recorded(world, test_value("machine-0", 2, MODEL_A, "b"), PRESENCE_MISSING, 0);
    expect_counts(world, 0, 2);
}

static void a_server_that_is_not_recorded_is_no_error_and_no_change(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    expect_refused(world, PRESENCE_OK, presence_recorder_server_down(world->recorder, "machine-1"));
    char **names;
    size_t count;
    presence_connections *view = presence_recorder_connections(world->recorder);
    expect_code(PRESENCE_OK, presence_connections_servers(view, &names, &count));
    expect_names(names, count, "machine-0");
    presence_connections_free(view);
}

static void a_server_with_nothing_alive_is_no_change(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    goes_down(world, "machine-0");
    at(world, 5);
    expect_refused(world, PRESENCE_OK, presence_recorder_server_down(world->recorder, "machine-0"));
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 0, 0, 0, 1);
}

static void the_reason_is_kept(void **state)
{
    struct world *world = *state;
    const presence_reason reasons[] = {PRESENCE_REASON_SERVER_DOWN, PRESENCE_REASON_DRAINED, PRESENCE_REASON_TIMED_OUT,
                                       PRESENCE_REASON_SUPERSEDED};
    for (size_t i = 0; i < 4; i++) {
        char server[TEST_NAME_BYTES], agent[TEST_NAME_BYTES];
        test_name(server, "machine", i);
        test_name(agent, "agent", i);
        at(world, 0);
        connects(world, server, MODEL_A, agent, 1);
        connects(world, server, MODEL_B, agent, 2);
        at(world, (presence_time)i + 1);
        size_t became_missing = 99;
        expect_code(PRESENCE_OK,
                    presence_recorder_server_down_because(world->recorder, server, reasons[i], &became_missing));
        assert_int_equal(became_missing, 2);
        expect_evidence(world, MODEL_A, agent, PRESENCE_MISSING, reasons[i], (presence_time)i + 1, 0, 0, 1);
    }
}

static void how_many_became_missing_counts_only_the_alive(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_A, "b", 2);
    goes_down(world, "machine-0");
    connects(world, "machine-0", MODEL_A, "b", 2);
    size_t became_missing = 99;
    expect_code(PRESENCE_OK, presence_recorder_server_down_because(world->recorder, "machine-0",
                                                                   PRESENCE_REASON_DRAINED, &became_missing));
    assert_int_equal(became_missing, 1);
    expect_code(PRESENCE_OK, presence_recorder_server_down_because(world->recorder, "machine-0",
                                                                   PRESENCE_REASON_DRAINED, &became_missing));
    assert_int_equal(became_missing, 0);
    expect_code(PRESENCE_OK, presence_recorder_server_down_because(world->recorder, "machine-7",
                                                                   PRESENCE_REASON_DRAINED, &became_missing));
    assert_int_equal(became_missing, 0);
    expect_code(PRESENCE_OK,
                presence_recorder_server_down_because(world->recorder, "machine-0", PRESENCE_REASON_DRAINED, NULL));
}

static void other_reasons_are_refused(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    const int bad[] = {PRESENCE_REASON_NONE,
                       PRESENCE_REASON_CONNECTED,
                       PRESENCE_REASON_RECONNECTED,
                       PRESENCE_REASON_UPDATED,
                       PRESENCE_REASON_LEFT,
                       PRESENCE_REASON_RESTORED,
                       PRESENCE_REASON_LAPSED,
                       PRESENCE_REASON_LAPSED + 1,
                       -1,
                       1000};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(
            world, PRESENCE_E_INVALID,
            presence_recorder_server_down_because(world->recorder, "machine-0", (presence_reason)bad[i], NULL));
}

static void many_times_down_and_up_again(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "stays-missing", 1);
    for (int round = 1; round <= 40; round++) {
        at(world, round);
        connects(world, "machine-0", MODEL_A, "comes-back", 2);
        expect_recorded(world, test_value("machine-0", 2, MODEL_A, "comes-back"), PRESENCE_ALIVE, round);
        goes_down(world, "machine-0");
        expect_recorded(world, test_value("machine-0", 1, MODEL_A, "stays-missing"), PRESENCE_MISSING, 0);
        expect_recorded(world, test_value("machine-0", 2, MODEL_A, "comes-back"), PRESENCE_MISSING, round);
        expect_evidence(world, MODEL_A, "comes-back", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, round, round, 0,
                        1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(all_its_connections_are_missing_and_no_other),
        story(connections_made_after_it_are_alive),
        story(a_server_that_is_not_recorded_is_no_error_and_no_change),
        story(a_server_with_nothing_alive_is_no_change),
        story(the_reason_is_kept),
        story(how_many_became_missing_counts_only_the_alive),
        story(other_reasons_are_refused),
        story(many_times_down_and_up_again),
    };
    return cmocka_run_group_tests_name("server_down", tests, NULL, NULL);
}
