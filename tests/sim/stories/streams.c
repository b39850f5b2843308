/* SPDX-License-Identifier: Apache-2.0 */
/*
 * streams.c - changes that come late or not at all, and snapshots that do not come whole.
 */
#include "stories.h"

/* A login is under way for 4 s; a snapshot that has it, and a leave after it, come first. */
void snapshot_overtakes_login(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, 3);
    slow_stream(world, 0, 1, 4 * SECOND);
    actor_connect(world, g0, 4);
    actor_whole_list(world, g0);
    world_run(world, 5 * MILLISECOND);
    good_link(world, 0, 1);

    world_run(world, 1500 * MILLISECOND);
    want(world, agent_on(world, 1, "g0.e1.i4") == PRESENCE_ALIVE);
    want(world, counters_of(world, 1).states_taken >= 1);
    actor_disconnect(world, g0, 4);
    world_run(world, 1500 * MILLISECOND);
    want(world, agent_on(world, 1, "g0.e1.i4") == PRESENCE_UNKNOWN);

    uint64_t number = server_on(world, 1, "g0").number;
    world_run(world, 2 * SECOND); /* the login comes */
    want(world, agent_on(world, 1, "g0.e1.i4") == PRESENCE_UNKNOWN && server_on(world, 1, "g0").number == number);
    world_rest(world);
}

static bool lose_disconnects_to_n1(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    return !(to == 1 && message->kind == WIRE_CHANGES && message->changes.count > 0 &&
             message->changes.changes[0].kind == PRESENCE_CHANGE_DISCONNECT);
}

/* It is the last that is said: only a beat can tell that something is missing. */
void lost_disconnect(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, 2);
    world->network->filter = lose_disconnects_to_n1;
    actor_disconnect(world, g0, 2);
    world_run(world, 20 * MILLISECOND);
    world->network->filter = NULL;
    want(world, alive_on(world, 1, "g0") == 2 && alive_on(world, 2, "g0") == 1);
    world_run(world, 1200 * MILLISECOND);
    want(world, alive_on(world, 1, "g0") == 1);
    want(world, counters_of(world, 1).gaps == 1 && counters_of(world, 1).states_taken == 0);
    world_rest(world);
}

static unsigned repairs; /* messages with changes that came to n1 */

static bool count_repairs(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    repairs += to == 1 && message->kind == WIRE_CHANGES;
    return true;
}

/* 600 changes did not come: they are asked for at once, and come in messages of some 16 KiB, whatever is in them. */
void long_gap(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, 3);
    world->network->links[0][1].cut = true;
    for (int i = 0; i < 600; i++) {
        actor_revise(world, g0, 1 + (uint64_t)i % 3);
        world_run(world, MILLISECOND);
    }
    actor_disconnect(world, g0, 3);
    world_run(world, 100 * MILLISECOND);
    want(world, server_on(world, 1, "g0").number + 601 == server_on(world, 0, "g0").number);
    repairs = 0;
    world->network->filter = count_repairs;
    good_link(world, 0, 1);
    world_run(world, 1200 * MILLISECOND);
    want(world, server_on(world, 1, "g0").number == server_on(world, 0, "g0").number && alive_on(world, 1, "g0") == 2);
    want(world, counters_of(world, 1).states_taken == 0 && repairs >= 2 && repairs <= 6);
    world_rest(world);
}

/* So slow an origin that a snapshot takes seconds; whoever follows it crashes in the midst of it, and begins anew. */
void restarted_mid_snapshot(struct world *world)
{
    given_nodes(world, 1);
    gateway(world, "g0", 1, 0, 3000);
    world->network->bytes_per_second[0] = 50000;
    int n1 = newcomer(world, "n1");
    while (counters_of(world, n1).chunks_taken < 3) {
        world_run(world, 10 * MILLISECOND);
        want(world, world->now < 20 * SECOND);
    }
    want(world, counters_of(world, n1).states_taken == 0 && alive_on(world, n1, "g0") == 0);
    world_crash(world, n1);
    world_run(world, 200 * MILLISECOND);
    world_start(world, n1);
    world_run(world, 1500 * MILLISECOND);
    want(world, !step_ready(world->nodes[n1].step) && doubt_on(world, n1, NULL) == STEP_JOINING);
    world_run(world, 20 * SECOND);
    want(world, step_ready(world->nodes[n1].step) && alive_on(world, n1, "g0") == 3000);
    world_rest(world);
}

/* Who hears nothing for longer than the origin's history reaches back takes a whole state. */
void too_slow_for_history(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, 2);
    world->network->links[0][1].cut = true;
    for (int i = 0; i < 12000; i++) {
        actor_revise(world, g0, 1);
        if (i % 100 == 0) {
            world_run(world, MILLISECOND);
        }
    }
    world_run(world, SECOND);
    want(world, counters_of(world, 1).states_taken == 0);
    good_link(world, 0, 1);
    world_run(world, 3 * SECOND);
    want(world, counters_of(world, 1).states_taken == 1);
    want(world, server_on(world, 1, "g0").number == server_on(world, 0, "g0").number);
    world_rest(world);
}

/* Their node crashes; they come to another in one second, while the rest of the cluster looks on: nobody flaps. */
void many_reconnect(struct world *world)
{
    unsigned agents = world->options.big ? 100000 : 1000;
    given_nodes(world, 4);
    int g0 = gateway(world, "g0", 1, 0, agents);
    world_run(world, 10 * SECOND);
    for (int node = 0; node < 4; node++) {
        want(world, alive_on(world, node, "g0") == agents);
    }
    world_crash(world, 0);
    all_show_alive(world, SECOND, "g0", agents);
    want(world, actor_bind(world, g0, 1) == PRESENCE_OK);
    all_show_alive(world, 10 * SECOND, "g0", agents);
    for (int node = 1; node < 4; node++) {
        want(world, server_on(world, node, "g0").connections == agents);
    }
    world_rest(world);
}

/* The snapshot takes 400 ms; what is said meanwhile comes before it, and is there with it: no beat has to tell. */
void changes_during_snapshot(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, 100);
    world->network->links[0][1].lane_delay[STEP_STATE] = 400 * MILLISECOND;
    world->network->interest_delay = 0;
    actor_whole_list(world, g0);
    world_run(world, 50 * MILLISECOND);
    for (int i = 0; i < 10; i++) {
        actor_disconnect(world, g0, (uint64_t)i + 1);
        world_run(world, 20 * MILLISECOND);
    }
    struct step_counters before = counters_of(world, 1);
    want(world, before.states_taken == 0 && alive_on(world, 1, "g0") == 100);
    world_run(world, 200 * MILLISECOND);
    struct step_counters after = counters_of(world, 1);
    want(world, after.states_taken == 1 && after.asks == before.asks && alive_on(world, 1, "g0") == 90);
    want(world, server_on(world, 1, "g0").number == server_on(world, 0, "g0").number);
    world_rest(world);
}

static presence_time last_seen_on(struct world *world, int node, const char *agent)
{
    presence_evidence evidence = {0};
    presence_recorder_agent_evidence(world->nodes[node].recorder, SIM_MODEL, agent, &evidence);
    return evidence.last_seen;
}

/* Nothing is ordered by times, but they are shown as the origin has them. */
void clock_went_back(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, 2);
    world_jump_clock(world, 0, -3600 * (presence_time)SECOND);
    actor_connect(world, g0, 3);
    actor_disconnect(world, g0, 2);
    world_run(world, SECOND);
    want(world, agent_on(world, 1, "g0.e1.i3") == PRESENCE_ALIVE && agent_on(world, 1, "g0.e1.i2") == PRESENCE_UNKNOWN);
    want(world, last_seen_on(world, 1, "g0.e1.i3") == last_seen_on(world, 0, "g0.e1.i3"));
    want(world, last_seen_on(world, 1, "g0.e1.i3") < last_seen_on(world, 1, "g0.e1.i1"));

    actor_revise(world, g0, 1); /* connected again, an hour earlier */
    world_run(world, SECOND);
    want(world, last_seen_on(world, 1, "g0.e1.i1") == last_seen_on(world, 0, "g0.e1.i1"));
    actor_activity(world, g0, 3);
    world_run(world, 2 * world->config.activity * MILLISECOND);
    want(world, last_seen_on(world, 0, "g0.e1.i3") - last_seen_on(world, 1, "g0.e1.i3") < (presence_time)MILLISECOND);
    world_rest(world);
}
