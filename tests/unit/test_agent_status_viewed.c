/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_agent_status_viewed.c - live questions about agents note what they found in the agents' records, but only in
 * those that no view sees: asking changes no view and needs no memory, however many agents are asked about.
 */
#include "../support/story.h"

#include <stdio.h>

enum { AGENTS = 5000 };

static uint64_t used_bytes(struct world *world)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    return stats.used_bytes;
}

static void expect_all(struct world *world, presence_status expected)
{
    for (uint64_t i = 0; i < AGENTS; i++) {
        char agent[32];
        snprintf(agent, sizeof agent, "agent-%d", (int)i);
        expect_status(world, MODEL_A, agent, expected);
    }
}

static void asking_about_agents_that_a_view_sees_takes_no_memory(void **state)
{
    struct world *world = *state;
    /* Given many agents, and a server that went down since they connected, so that their records know it not. */
    for (uint64_t i = 0; i < AGENTS; i++) {
        char agent[32];
        snprintf(agent, sizeof agent, "agent-%d", (int)i);
        connects(world, "machine-0", MODEL_A, agent, i);
    }
    connects(world, "machine-1", MODEL_B, "other", 1);
    goes_down(world, "machine-1");
    /* When all are asked about while a view sees their records, */
    presence_connections *view = presence_recorder_connections(world->recorder);
    uint64_t before = used_bytes(world);
    expect_all(world, PRESENCE_ALIVE);
    /* then nothing was copied; and without the view the answers are the same, however often. */
    assert_int_equal(used_bytes(world), before);
    presence_connections_free(view);
    expect_all(world, PRESENCE_ALIVE);
    expect_all(world, PRESENCE_ALIVE);
    /* And what was noted does not outlive the next change of the server. */
    goes_down(world, "machine-0");
    expect_all(world, PRESENCE_MISSING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(asking_about_agents_that_a_view_sees_takes_no_memory),
    };
    return cmocka_run_group_tests_name("agent_status_viewed", tests, NULL, NULL);
}
