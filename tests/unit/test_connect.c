/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_connect.c - connect: new connections, known ones, and those whose (server, id) is stated for another.
 */
#include "../support/story.h"

static int connect_value(struct world *world, presence_value value)
{
    return presence_recorder_connect(world->recorder, value.server, value.model, value.agent, value.connection_id,
                                     value.controller_agent, value.user_data);
}

static void a_new_connection_is_alive_and_stamped(void **state)
{
    struct world *world = *state;
    at(world, 7);
    presence_value value = test_value("machine-0", 42, MODEL_A, "unit-x-0");
    value.user_data = "zone=1";
    expect_code(PRESENCE_OK, connect_value(world, value));
    expect_recorded(world, value, PRESENCE_ALIVE, 7);
    expect_counts(world, 1, 0);
    assert_int_equal(presence_recorder_revision(world->recorder), 1);
}

static void every_id_is_as_good_as_another(void **state)
{
    struct world *world = *state;
    const uint64_t ids[] = {0, 1, UINT32_MAX, (uint64_t)UINT32_MAX + 1, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        connects(world, "machine-0", MODEL_A, "a", ids[i]);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        expect_recorded(world, test_value("machine-0", ids[i], MODEL_A, "a"), PRESENCE_ALIVE, 0);
    expect_counts(world, sizeof ids / sizeof *ids, 0);
}

static void the_same_id_on_two_servers_is_two_connections(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-1", MODEL_A, "b", 1);
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_ALIVE, 0);
    expect_recorded(world, test_value("machine-1", 1, MODEL_A, "b"), PRESENCE_ALIVE, 0);
    disconnects(world, "machine-0", 1);
    expect_absent(world, "machine-0", 1);
    expect_recorded(world, test_value("machine-1", 1, MODEL_A, "b"), PRESENCE_ALIVE, 0);
}

static void one_agent_may_connect_many_times(void **state)
{
    struct world *world = *state;
    for (uint64_t id = 1; id <= 50; id++)
        connects(world, id % 2 ? "machine-0" : "machine-1", MODEL_A, "a", id);
    expect_counts(world, 50, 0);
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, MODEL_A, "a", &evidence));
    assert_int_equal(evidence.alive, 50);
}

static void a_known_connection_is_only_stamped(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 5);
    connects(world, "machine-0", MODEL_A, "a", 1);
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_ALIVE, 5);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    expect_counts(world, 1, 0);
}

static void a_missing_connection_becomes_alive_again(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    goes_down(world, "machine-0");
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 5);
    connects(world, "machine-0", MODEL_A, "a", 1);
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_ALIVE, 5);
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
}

/* Connects machine-0/1 as agent a of MODEL_A with data "old", then states it anew as `next`. */
static void replace_with(struct world *world, presence_value next)
{
    presence_value first = test_value("machine-0", 1, MODEL_A, "a");
    first.user_data = "old";
    expect_code(PRESENCE_OK, connect_value(world, first));
    connects(world, "machine-0", MODEL_A, "bystander", 2);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 9);
    expect_code(PRESENCE_OK, connect_value(world, next));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    expect_recorded(world, next, PRESENCE_ALIVE, 9);
    expect_recorded(world, test_value("machine-0", 2, MODEL_A, "bystander"), PRESENCE_ALIVE, 0);
    expect_counts(world, 2, 0);
}

static void another_agent_replaces_the_old_statement(void **state)
{
    struct world *world = *state;
    presence_value next = test_value("machine-0", 1, MODEL_A, "b");
    next.user_data = "old";
    replace_with(world, next);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_status(world, MODEL_A, "b", PRESENCE_ALIVE);
}

static void another_model_replaces_the_old_statement(void **state)
{
    struct world *world = *state;
    presence_value next = test_value("machine-0", 1, MODEL_B, "a");
    next.user_data = "old";
    replace_with(world, next);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_status(world, MODEL_B, "a", PRESENCE_ALIVE);
}

static void another_flag_replaces_the_old_statement(void **state)
{
    struct world *world = *state;
    presence_value next = test_value("machine-0", 1, MODEL_A, "a");
    next.user_data = "old";
    next.controller_agent = true;
    replace_with(world, next);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
}

static void other_data_replaces_the_old_statement(void **state)
{
    struct world *world = *state;
    presence_value next = test_value("machine-0", 1, MODEL_A, "a");
    next.user_data = "a rather longer text than there was before";
    replace_with(world, next);
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
}

static void no_data_replaces_the_old_statement_too(void **state)
{
    struct world *world = *state;
    presence_value next = test_value("machine-0", 1, MODEL_A, "a");
    next.user_data = NULL;
    replace_with(world, next);
}

static void a_missing_connection_can_come_back_as_another(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    goes_down(world, "machine-0");
    connects(world, "machine-0", MODEL_B, "b", 1);
    expect_recorded(world, test_value("machine-0", 1, MODEL_B, "b"), PRESENCE_ALIVE, 0);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_counts(world, 1, 0);
}

static void the_callers_strings_are_copied(void **state)
{
    struct world *world = *state;
    char server[] = "machine-0", model[] = MODEL_A, agent[] = "a", data[] = "data";
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, server, model, agent, 1, false, data));
    memset(server, 'x', sizeof server - 1);
    memset(model, 'x', sizeof model - 1);
    memset(agent, 'x', sizeof agent - 1);
    memset(data, 'x', sizeof data - 1);
    presence_value value = test_value("machine-0", 1, MODEL_A, "a");
    value.user_data = "data";
    expect_recorded(world, value, PRESENCE_ALIVE, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(a_new_connection_is_alive_and_stamped),
        story(every_id_is_as_good_as_another),
        story(the_same_id_on_two_servers_is_two_connections),
        story(one_agent_may_connect_many_times),
        story(a_known_connection_is_only_stamped),
        story(a_missing_connection_becomes_alive_again),
        story(another_agent_replaces_the_old_statement),
        story(another_model_replaces_the_old_statement),
        story(another_flag_replaces_the_old_statement),
        story(other_data_replaces_the_old_statement),
        story(no_data_replaces_the_old_statement_too),
        story(a_missing_connection_can_come_back_as_another),
        story(the_callers_strings_are_copied),
    };
    return cmocka_run_group_tests_name("connect", tests, NULL, NULL);
}
