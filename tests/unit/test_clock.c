/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_clock.c - the recorder's clock is the one it was given, and nothing is ordered by it: it may go backwards.
 */
#include "../support/story.h"

#define S0 "machine-0"

static void a_stamp_may_go_backwards(void **state)
{
    struct world *world = *state;
    at(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 40);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 40);
    at(world, 30);
    connects(world, S0, MODEL_A, "a", 1);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 30);
    at(world, 20);
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    updates(world, S0, &value, 1);
    expect_recorded(world, value, PRESENCE_ALIVE, 20);
}

static void order_is_by_calls_not_by_times(void **state)
{
    struct world *world = *state;
    at(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 50);
    goes_down(world, S0); /* "before" it connected, by the clock */
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_MISSING, 100);
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 50, 100, 0, 1);
    at(world, 20);
    connects(world, S0, MODEL_A, "a", 1);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 20);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_RECONNECTED, 20, 20, 1, 0);
}

static void merge_since_goes_by_revisions(void **state)
{
    struct world *world = *state;
    at(world, 100);
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t noted = presence_recorder_revision(world->recorder);
    at(world, 10);
    connects(world, S0, MODEL_A, "b", 2);
    expect_code(PRESENCE_OK, presence_recorder_merge_server_since(world->recorder, S0, noted, NULL, 0, NULL));
    expect_absent(world, S0, 1);
    expect_recorded(world, test_value(S0, 2, MODEL_A, "b"), PRESENCE_ALIVE, 10);
}

static void any_time_is_a_time(void **state)
{
    struct world *world = *state;
    const presence_time times[] = {0, -1, INT64_MAX, INT64_MIN + 1, 1};
    for (uint64_t i = 0; i < sizeof times / sizeof *times; i++) {
        fake_clock_set(&world->clock, times[i]);
        connects(world, S0, MODEL_A, "a", i);
        presence_connections *view = presence_recorder_connections(world->recorder);
        presence_value value;
        expect_code(PRESENCE_OK, presence_connections_find(view, S0, i, &value));
        assert_true(value.last_seen == times[i]);
        presence_connections_free(view);
    }
}

static void the_last_seen_of_an_agent_is_its_latest(void **state)
{
    struct world *world = *state;
    at(world, 90);
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 70);
    connects(world, "machine-1", MODEL_A, "a", 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 90, 90, 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(a_stamp_may_go_backwards),
        story(order_is_by_calls_not_by_times),
        story(merge_since_goes_by_revisions),
        story(any_time_is_a_time),
        story(the_last_seen_of_an_agent_is_its_latest),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
