/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_live_counts.c - counts asked of the recorder as it is now: of all, of a server, of a model.
 */
#include "../support/story.h"

#define S0 "machine-0"

static void expect_server(struct world *world, const char *server, size_t alive, size_t missing)
{
    presence_counts counts = {9, 9, 9};
    expect_code(PRESENCE_OK, presence_recorder_server_counts(world->recorder, server, &counts));
    assert_int_equal(counts.alive, alive);
    assert_int_equal(counts.missing, missing);
    assert_int_equal(counts.connections, alive + missing);
}

static void expect_model(struct world *world, const char *model, size_t connections, size_t agents)
{
    size_t got_connections = 99, got_agents = 99;
    expect_code(PRESENCE_OK, presence_recorder_model_counts(world->recorder, model, &got_connections, &got_agents));
    assert_int_equal(got_connections, connections);
    assert_int_equal(got_agents, agents);
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *slice = presence_connections_for_model(view, model);
    assert_int_equal(presence_connections_count(slice), connections);
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_connections_agents(slice, &names, &count));
    assert_int_equal(count, agents);
    presence_names_free(names);
    presence_connections_free(view);
    presence_connections_free(slice);
}

static void of_what_is_not_recorded_they_are_zero(void **state)
{
    struct world *world = *state;
    expect_counts(world, 0, 0);
    expect_server(world, S0, 0, 0);
    expect_model(world, MODEL_A, 0, 0);
}

static void they_follow_every_change(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "a", 2);
    connects(world, S0, MODEL_B, "a", 3);
    connects(world, "machine-1", MODEL_A, "b", 1);
    expect_counts(world, 4, 0);
    expect_server(world, S0, 3, 0);
    expect_server(world, "machine-1", 1, 0);
    expect_model(world, MODEL_A, 3, 2);
    expect_model(world, MODEL_B, 1, 1);

    goes_down(world, S0);
    expect_counts(world, 1, 3);
    expect_server(world, S0, 0, 3);
    expect_model(world, MODEL_A, 3, 2);

    connects(world, S0, MODEL_A, "a", 1);
    expect_server(world, S0, 1, 2);
    disconnects(world, S0, 2);
    expect_server(world, S0, 1, 1);
    disconnects(world, S0, 1);
    expect_server(world, S0, 0, 1);
    expect_model(world, MODEL_A, 1, 1);

    connects(world, S0, MODEL_A, "c", 3); /* moves from one model to the other */
    expect_model(world, MODEL_A, 2, 2);
    expect_model(world, MODEL_B, 0, 0);

    const presence_value list[] = {test_value(S0, 7, MODEL_B, "x"), test_value(S0, 8, MODEL_B, "x"),
                                   test_value(S0, 9, MODEL_B, "y")};
    updates(world, S0, list, 3);
    expect_server(world, S0, 3, 0);
    expect_model(world, MODEL_A, 1, 1);
    expect_model(world, MODEL_B, 3, 2);
    expect_counts(world, 4, 0);

    updates(world, S0, NULL, 0);
    expect_server(world, S0, 0, 0);
    expect_model(world, MODEL_B, 0, 0);
    expect_counts(world, 1, 0);
}

static void controller_agents_are_connections_and_agents_too(void **state)
{
    struct world *world = *state;
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "c", 1, true, NULL));
    connects(world, S0, MODEL_A, "a", 2);
    expect_counts(world, 2, 0);
    expect_server(world, S0, 2, 0);
    expect_model(world, MODEL_A, 2, 2);
}

static void a_lapsed_server_counts_as_missing(void **state)
{
    struct world *world = *state;
    const presence_claim claim = {.epoch = 1, .turn = 1, .random = 1};
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    expect_code(PRESENCE_OK, presence_replica_apply_state(world->recorder, S0, &claim, 1, 0, PRESENCE_REASON_NONE, 0,
                                                          list, 2, NULL));
    connects(world, "machine-1", MODEL_A, "c", 1);
    expect_counts(world, 3, 0);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    expect_counts(world, 1, 2);
    expect_server(world, S0, 0, 2);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    expect_counts(world, 3, 0);
    expect_server(world, S0, 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(of_what_is_not_recorded_they_are_zero),
        story(they_follow_every_change),
        story(controller_agents_are_connections_and_agents_too),
        story(a_lapsed_server_counts_as_missing),
    };
    return cmocka_run_group_tests_name("live_counts", tests, NULL, NULL);
}
