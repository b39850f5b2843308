/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch_agents.c - agent-level watches: first in, last out, and nothing between.
 */
#include "../support/story.h"

#define S0 "machine-0"
#define S1 "machine-1"

static presence_watch *watch_agents(struct world *world, const char *model, const char *server, const char *agent)
{
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.agents = true;
    options.model = model;
    options.server = server;
    options.agent = agent;
    return watch_with(world, &options);
}

static void first_in_last_out(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_agents(world, NULL, NULL, NULL);
    connects(world, S0, MODEL_A, "a", 1);
    presence_event event = expect_agent_event(watch, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_ALIVE);
    assert_int_equal(event.reason, PRESENCE_REASON_CONNECTED);
    assert_int_equal(event.revision, presence_recorder_revision(world->recorder));
    assert_string_equal(event.value.server, S0);
    assert_false(event.value.controller_agent);
    connects(world, S1, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "a", 2);
    disconnects(world, S0, 1);
    disconnects(world, S1, 2);
    expect_quiet(watch);
    disconnects(world, S1, 1);
    event = expect_agent_event(watch, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_UNKNOWN);
    assert_int_equal(event.reason, PRESENCE_REASON_LEFT);
    assert_string_equal(event.value.server, S1);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void missing_and_back(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "a", 2);
    connects(world, S0, MODEL_A, "b", 3);
    connects(world, S1, MODEL_A, "b", 4);
    presence_watch *watch = watch_agents(world, NULL, NULL, NULL);
    goes_down(world, S0); /* a has two connections there, and goes missing once; b has another */
    presence_event event = expect_agent_event(watch, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_MISSING);
    assert_int_equal(event.reason, PRESENCE_REASON_SERVER_DOWN);
    expect_quiet(watch);
    connects(world, S1, MODEL_A, "a", 9);
    event = expect_agent_event(watch, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_ALIVE);
    assert_int_equal(event.reason, PRESENCE_REASON_RECONNECTED);
    disconnects(world, S1, 9);
    event = expect_agent_event(watch, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_MISSING);
    assert_int_equal(event.reason, PRESENCE_REASON_LEFT);
    disconnects(world, S0, 1);
    expect_quiet(watch);
    disconnects(world, S0, 2);
    expect_agent_event(watch, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_UNKNOWN);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void an_id_stated_for_another_concerns_two_agents(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *watch = watch_agents(world, NULL, NULL, NULL);
    presence_watch *of_a = watch_agents(world, NULL, NULL, "a"), *of_b = watch_agents(world, MODEL_A, NULL, "b");
    connects(world, S0, MODEL_A, "b", 1);
    presence_event first, second;
    assert_int_equal(presence_watch_next(watch, &first), 1);
    bool a_first = strcmp(first.value.agent, "a") == 0;
    assert_int_equal(first.kind, PRESENCE_EVENT_AGENT);
    assert_int_equal(first.agent_before, a_first ? PRESENCE_ALIVE : PRESENCE_UNKNOWN);
    assert_int_equal(first.agent_after, a_first ? PRESENCE_UNKNOWN : PRESENCE_ALIVE);
    assert_int_equal(presence_watch_next(watch, &second), 1);
    assert_string_equal(second.value.agent, a_first ? "b" : "a");
    assert_int_equal(first.revision, second.revision);
    assert_int_equal(first.index, 0);
    assert_int_equal(second.index, 1);
    expect_quiet(watch);
    expect_agent_event(of_a, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_UNKNOWN);
    expect_quiet(of_a);
    expect_agent_event(of_b, MODEL_A, "b", PRESENCE_UNKNOWN, PRESENCE_ALIVE);
    expect_quiet(of_b);
    presence_watch_free(watch);
    presence_watch_free(of_a);
    presence_watch_free(of_b);
}

static void controller_agents_are_not_told(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_agents(world, NULL, NULL, NULL);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "c", 1, true, NULL));
    goes_down(world, S0);
    disconnects(world, S0, 1);
    expect_quiet(watch);
    /* but one that turns from controller to agent comes in */
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "c", 1, true, NULL));
    connects(world, S0, MODEL_A, "c", 1);
    expect_agent_event(watch, MODEL_A, "c", PRESENCE_UNKNOWN, PRESENCE_ALIVE);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, S0, MODEL_A, "c", 1, true, NULL));
    expect_agent_event(watch, MODEL_A, "c", PRESENCE_ALIVE, PRESENCE_UNKNOWN);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void a_list_tells_each_agent_once(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "moves", 1);
    connects(world, S0, MODEL_A, "goes", 2);
    connects(world, S0, MODEL_A, "goes", 3);
    connects(world, S0, MODEL_A, "stays-elsewhere", 4);
    connects(world, S1, MODEL_A, "stays-elsewhere", 1);
    presence_watch *watch = watch_agents(world, NULL, NULL, NULL);
    const presence_value list[] = {test_value(S0, 9, MODEL_A, "moves"), test_value(S0, 5, MODEL_A, "comes"),
                                   test_value(S0, 6, MODEL_A, "comes")};
    updates(world, S0, list, 3);
    bool goes = false, comes = false;
    for (uint64_t i = 0; i < 2; i++) {
        presence_event event;
        assert_int_equal(presence_watch_next(watch, &event), 1);
        assert_int_equal(event.kind, PRESENCE_EVENT_AGENT);
        assert_int_equal(event.index, i);
        assert_int_equal(event.reason, PRESENCE_REASON_UPDATED);
        bool is_goes = strcmp(event.value.agent, "goes") == 0;
        assert_true(is_goes || strcmp(event.value.agent, "comes") == 0);
        assert_int_equal(event.agent_before, is_goes ? PRESENCE_ALIVE : PRESENCE_UNKNOWN);
        assert_int_equal(event.agent_after, is_goes ? PRESENCE_UNKNOWN : PRESENCE_ALIVE);
        goes |= is_goes;
        comes |= !is_goes;
    }
    assert_true(goes && comes);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void filters_by_model_and_agent(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_agents(world, MODEL_A, NULL, "a");
    connects(world, S0, MODEL_B, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    connects(world, S0, MODEL_A, "a", 3);
    expect_agent_event(watch, MODEL_A, "a", PRESENCE_UNKNOWN, PRESENCE_ALIVE);
    updates(world, S0, NULL, 0);
    expect_agent_event(watch, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_UNKNOWN);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void it_agrees_with_the_evidence(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_agents(world, NULL, NULL, NULL);
    struct test_random random;
    test_random_seed(&random, 11);
    static const char *const servers[] = {S0, S1, "machine-2"}, *const agents[] = {"a", "b", "c"};
    for (int step = 0; step < 2000; step++) {
        const char *server = servers[test_random_below(&random, 3)], *agent = agents[test_random_below(&random, 3)];
        uint64_t id = test_random_below(&random, 4);
        presence_evidence before[3], after[3];
        at(world, step);
        for (size_t i = 0; i < 3; i++)
            presence_recorder_agent_evidence(world->recorder, MODEL_A, agents[i], &before[i]);
        uint64_t dice = test_random_below(&random, 6);
        if (dice < 3)
            connects(world, server, MODEL_A, agent, id);
        else if (dice < 5)
            presence_recorder_disconnect(world->recorder, server, id);
        else
            goes_down(world, server);
        presence_event event;
        size_t told = 0, changed = 0;
        for (size_t i = 0; i < 3; i++) {
            presence_recorder_agent_evidence(world->recorder, MODEL_A, agents[i], &after[i]);
            changed += before[i].status != after[i].status;
        }
        while (presence_watch_next(watch, &event) == 1) {
            size_t i = (size_t)(event.value.agent[0] - 'a');
            told++;
            assert_int_equal(event.agent_before, before[i].status);
            assert_int_equal(event.agent_after, after[i].status);
            if (after[i].status != PRESENCE_UNKNOWN)
                assert_int_equal(event.reason, after[i].reason);
        }
        assert_int_equal(told, changed);
    }
    presence_watch_free(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(first_in_last_out),
        story(missing_and_back),
        story(an_id_stated_for_another_concerns_two_agents),
        story(controller_agents_are_not_told),
        story(a_list_tells_each_agent_once),
        story(filters_by_model_and_agent),
        story(it_agrees_with_the_evidence),
    };
    return cmocka_run_group_tests_name("watch_agents", tests, NULL, NULL);
}
