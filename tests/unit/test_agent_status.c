/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_agent_status.c - the best status of an agent's connections, controller agents left out, within one model.
 */
#include "../support/story.h"

static void the_best_status_wins(void **state)
{
    struct world *world = *state;
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    connects(world, "machine-0", MODEL_A, "a", 1);
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
    connects(world, "machine-1", MODEL_A, "a", 1);
    goes_down(world, "machine-0");
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
    goes_down(world, "machine-1");
    expect_status(world, MODEL_A, "a", PRESENCE_MISSING);
    disconnects(world, "machine-0", 1);
    expect_status(world, MODEL_A, "a", PRESENCE_MISSING);
    disconnects(world, "machine-1", 1);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
}

static void statuses_are_ordered(void **state)
{
    (void)state;
    assert_true(PRESENCE_UNKNOWN < PRESENCE_MISSING);
    assert_true(PRESENCE_MISSING < PRESENCE_ALIVE);
}

static void agents_of_one_name_in_two_models_are_two(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-1", MODEL_B, "a", 2);
    goes_down(world, "machine-1");
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
    expect_status(world, MODEL_B, "a", PRESENCE_MISSING);
    expect_status(world, "another-model", "a", PRESENCE_UNKNOWN);
}

static void controller_agents_do_not_count(void **state)
{
    struct world *world = *state;
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, "machine-0", MODEL_A, "a", 1, true, NULL));
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_evidence(world, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_REASON_NONE, NEVER, NEVER, 0, 0);
    expect_counts(world, 1, 0); /* it is a connection all the same */
    connects(world, "machine-1", MODEL_A, "a", 2);
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
    goes_down(world, "machine-1");
    expect_status(world, MODEL_A, "a", PRESENCE_MISSING); /* though the controller's connection is alive */
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_SERVER_DOWN, 0, 0, 0, 1);
}

static void without_a_model_an_agent_is_ambiguous(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *by_server = presence_connections_for_server(view, "machine-0");
    presence_connections *by_agent = presence_connections_for_agent(by_server, "a");
    presence_connections *by_model = presence_connections_for_model(by_agent, MODEL_A);
    presence_status status;
    presence_evidence evidence;
    expect_code(PRESENCE_E_AMBIGUOUS, presence_connections_agent_status(view, "a", &status));
    expect_code(PRESENCE_E_AMBIGUOUS, presence_connections_agent_status(by_server, "a", &status));
    expect_code(PRESENCE_E_AMBIGUOUS, presence_connections_agent_status(by_agent, "a", &status));
    expect_code(PRESENCE_E_AMBIGUOUS, presence_connections_agent_evidence(by_agent, "a", &evidence));
    expect_code(PRESENCE_OK, presence_connections_agent_status(by_model, "a", &status));
    assert_int_equal(status, PRESENCE_ALIVE);
    assert_string_equal(presence_strerror(PRESENCE_E_AMBIGUOUS), "connections not limited to a model, agent ambiguous");
    presence_connections_free(view);
    presence_connections_free(by_server);
    presence_connections_free(by_agent);
    presence_connections_free(by_model);
}

static void a_slice_knows_only_its_own_connections(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-1", MODEL_A, "a", 2);
    goes_down(world, "machine-0");
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *model = presence_connections_for_model(view, MODEL_A);
    presence_connections *server = presence_connections_for_server(model, "machine-0");
    presence_connections *agent = presence_connections_for_agent(model, "another");
    presence_status status;
    expect_code(PRESENCE_OK, presence_connections_agent_status(model, "a", &status));
    assert_int_equal(status, PRESENCE_ALIVE);
    expect_code(PRESENCE_OK, presence_connections_agent_status(server, "a", &status));
    assert_int_equal(status, PRESENCE_MISSING);
    expect_code(PRESENCE_OK, presence_connections_agent_status(agent, "a", &status));
    assert_int_equal(status, PRESENCE_UNKNOWN);
    /* but evidence is of the whole view, within the model */
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_connections_agent_evidence(server, "a", &evidence));
    assert_int_equal(evidence.status, PRESENCE_ALIVE);
    assert_int_equal(evidence.alive, 1);
    assert_int_equal(evidence.missing, 1);
    presence_connections_free(view);
    presence_connections_free(model);
    presence_connections_free(server);
    presence_connections_free(agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(the_best_status_wins),
        cmocka_unit_test(statuses_are_ordered),
        story(agents_of_one_name_in_two_models_are_two),
        story(controller_agents_do_not_count),
        story(without_a_model_an_agent_is_ambiguous),
        story(a_slice_knows_only_its_own_connections),
    };
    return cmocka_run_group_tests_name("agent_status", tests, NULL, NULL);
}
