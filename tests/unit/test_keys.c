/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_keys.c - batches whose elements have servers and answers of their own: each element does what its single call
 * would, in order, and one that fails stops no other.
 */
#include "../support/story.h"

#include <stdio.h>

static void each_activity_has_its_answer(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-1", MODEL_A, "b", 1);
    presence_connection_key keys[] = {
        {"machine-0", 1, -99}, {"machine-0", 2, -99}, {"", 1, -99}, {"machine-1", 1, -99}, {"machine-9", 1, -99}};
    size_t done = 99;
    expect_code(PRESENCE_OK, presence_recorder_activity_keys(world->recorder, keys, 5, &done));
    assert_int_equal(done, 2);
    expect_code(PRESENCE_OK, keys[0].code);
    expect_code(PRESENCE_E_NOT_FOUND, keys[1].code);
    expect_code(PRESENCE_E_INVALID, keys[2].code);
    expect_code(PRESENCE_OK, keys[3].code);
    expect_code(PRESENCE_E_NOT_FOUND, keys[4].code);
}

static void a_disconnect_named_twice_is_found_once(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_A, "b", 2);
    presence_connection_key keys[] = {{"machine-0", 1, -99}, {"machine-0", 1, -99}};
    size_t done;
    expect_code(PRESENCE_OK, presence_recorder_disconnect_keys(world->recorder, keys, 2, &done));
    assert_int_equal(done, 1);
    expect_code(PRESENCE_OK, keys[0].code);
    expect_code(PRESENCE_E_NOT_FOUND, keys[1].code);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_status(world, MODEL_A, "b", PRESENCE_ALIVE);
}

static void each_connect_tells_whether_it_was_new(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    presence_value values[] = {
        {.model = MODEL_A, .server = "machine-0", .agent = "a", .connection_id = 1},
        {.model = MODEL_A, .server = "machine-0", .agent = "b", .connection_id = 2},
        {.model = MODEL_A, .server = "machine-0", .agent = "bad\nname", .connection_id = 3},
        {.model = MODEL_B, .server = "machine-1", .agent = "c", .connection_id = 2},
    };
    presence_connect_result results[4];
    size_t done;
    expect_code(PRESENCE_OK, presence_recorder_connect_values(world->recorder, values, 4, results, &done));
    assert_int_equal(done, 3);
    assert_false(results[0].is_new);
    assert_true(results[1].is_new);
    expect_code(PRESENCE_E_INVALID, results[2].code);
    assert_true(results[3].is_new);
    expect_counts(world, 3, 0);
}

static void many_agents_are_asked_about_at_once(void **state)
{
    struct world *world = *state;
    enum { AGENTS = 100 };
    char names[AGENTS][16];
    presence_agent_key keys[AGENTS];
    for (int i = 0; i < AGENTS; i++) {
        snprintf(names[i], sizeof names[i], "agent-%d", i);
        keys[i] = (presence_agent_key){MODEL_A, names[i], PRESENCE_UNKNOWN, -99};
        if (i % 3)
            connects(world, i % 3 == 1 ? "machine-0" : "machine-1", MODEL_A, names[i], (uint64_t)i);
    }
    goes_down(world, "machine-1");
    keys[50].agent = "";
    for (int again = 0; again < 2; again++) {
        expect_code(PRESENCE_OK, presence_recorder_agent_statuses(world->recorder, keys, AGENTS));
        for (int i = 0; i < AGENTS; i++) {
            expect_code(i == 50 ? PRESENCE_E_INVALID : PRESENCE_OK, keys[i].code);
            presence_status expected = i == 50 || i % 3 == 0 ? PRESENCE_UNKNOWN
                                       : i % 3 == 1          ? PRESENCE_ALIVE
                                                             : PRESENCE_MISSING;
            assert_int_equal(keys[i].status, expected);
        }
    }
}

static void a_disabled_recorder_refuses_all(void **state)
{
    struct world *world = *state;
    presence_connection_key key = {"machine-0", 1, -99};
    presence_agent_key agent = {MODEL_A, "a", PRESENCE_ALIVE, -99};
    presence_value value = {.model = MODEL_A, .server = "machine-0", .agent = "a", .connection_id = 1};
    presence_connect_result result;
    expect_code(PRESENCE_E_INVALID, presence_recorder_activity_keys(world->recorder, NULL, 1, NULL));
    expect_code(PRESENCE_E_INVALID, presence_recorder_agent_statuses(world->recorder, NULL, 1));
    expect_code(PRESENCE_E_INVALID, presence_recorder_connect_values(world->recorder, &value, 1, NULL, NULL));
    presence_recorder_disable(world->recorder);
    expect_code(PRESENCE_E_DISABLED, presence_recorder_activity_keys(world->recorder, &key, 1, NULL));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_disconnect_keys(world->recorder, &key, 1, NULL));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_agent_statuses(world->recorder, &agent, 1));
    expect_code(PRESENCE_E_DISABLED, presence_recorder_connect_values(world->recorder, &value, 1, &result, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(each_activity_has_its_answer),          story(a_disconnect_named_twice_is_found_once),
        story(each_connect_tells_whether_it_was_new), story(many_agents_are_asked_about_at_once),
        story(a_disabled_recorder_refuses_all),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
