/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_disconnect.c - disconnect removes one connection, alive or missing, and nothing else.
 */
#include "../support/story.h"

static void it_removes_the_connection(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_A, "a", 2);
    connects(world, "machine-0", MODEL_A, "b", 3);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 4);
    disconnects(world, "machine-0", 2);
    expect_absent(world, "machine-0", 2);
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_ALIVE, 0);
    expect_recorded(world, test_value("machine-0", 3, MODEL_A, "b"), PRESENCE_ALIVE, 0);
    expect_counts(world, 2, 0);
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
}

static void it_removes_a_missing_one_too(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    goes_down(world, "machine-0");
    disconnects(world, "machine-0", 1);
    expect_absent(world, "machine-0", 1);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_counts(world, 0, 0);
}

static void what_is_not_recorded_is_not_found(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_disconnect(world->recorder, "machine-0", 2));
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_disconnect(world->recorder, "machine-1", 1));
    disconnects(world, "machine-0", 1);
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_disconnect(world->recorder, "machine-0", 1));
}

static void the_id_can_be_used_again(void **state)
{
    struct world *world = *state;
    for (int round = 0; round < 5; round++) {
        connects(world, "machine-0", MODEL_A, round % 2 ? "a" : "b", 1);
        expect_recorded(world, test_value("machine-0", 1, MODEL_A, round % 2 ? "a" : "b"), PRESENCE_ALIVE, 0);
        disconnects(world, "machine-0", 1);
        expect_counts(world, 0, 0);
    }
}

static void names_that_nobody_bears_any_more_are_gone(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-1", MODEL_B, "b", 2);
    disconnects(world, "machine-1", 2);
    presence_connections *view = presence_recorder_connections(world->recorder);
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_connections_servers(view, &names, &count));
    expect_names(names, count, "machine-0");
    expect_code(PRESENCE_OK, presence_connections_models(view, &names, &count));
    expect_names(names, count, MODEL_A);
    expect_code(PRESENCE_OK, presence_connections_agents(view, &names, &count));
    expect_names(names, count, "a");
    presence_connections_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(it_removes_the_connection),
        story(it_removes_a_missing_one_too),
        story(what_is_not_recorded_is_not_found),
        story(the_id_can_be_used_again),
        story(names_that_nobody_bears_any_more_are_gone),
    };
    return cmocka_run_group_tests_name("disconnect", tests, NULL, NULL);
}
