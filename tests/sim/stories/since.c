/* SPDX-License-Identifier: Apache-2.0 */
/*
 * since.c - who missed more than its origin's history keeps is told what came since what it holds, and not the whole.
 */
#include "stories.h"

enum { AGENTS = 3000, CHANGES = 2400, BEFORE = 300 };

static size_t told, wholes; /* connections and ids that were sent in differences; chunks of whole states */

static bool count_told(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    (void)to;
    if (message->kind == WIRE_DIFFERENCE)
        told += message->chunk.count + message->chunk.gone_count;
    wholes += message->kind == WIRE_CHUNK;
    return true;
}

/* From the first to the one before `end`: a third each is revised, leaves, and comes anew; some come back that left. */
static void many_changes(struct world *world, int actor, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        uint64_t id = 1 + i / 3, still = actor_of(world, actor)->count / 2;
        if (i % 3 == 0)
            actor_revise(world, actor, still + id);
        else if (i % 3 == 1)
            actor_disconnect(world, actor, id);
        else
            actor_connect(world, actor, i % 30 == 2 ? id : AGENTS + id);
        if (i % 10 == 0)
            world_run(world, 20 * MILLISECOND);
    }
}

static bool is_as_on(struct world *world, int node, int origin, const char *server)
{
    presence_server_description here = server_on(world, node, server), there = server_on(world, origin, server);
    return here.number == there.number && here.connections == there.connections && here.alive == there.alive &&
           here.digest.all == there.digest.all && here.digest.alive == there.digest.alive && !here.lapsed;
}

/* It takes as much as changed, and all of it shows in one step: in between it shows what it showed. */
void far_behind(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    actor_whole_list(world, g0);
    world_run(world, 2 * SECOND);
    struct step_counters before = counters_of(world, 1);
    world->network->links[0][1].cut = true;
    uint64_t since = server_on(world, 1, "g0").number;
    many_changes(world, g0, 0, CHANGES);
    told = wholes = 0;
    world->network->filter = count_told;
    good_link(world, 0, 1);
    for (int i = 0; i < 300; i++) {
        world_run(world, 10 * MILLISECOND);
        uint64_t number = server_on(world, 1, "g0").number;
        want(world, number == since || is_as_on(world, 1, 0, "g0"));
    }
    world->network->filter = NULL;
    struct step_counters after = counters_of(world, 1);
    want(world, is_as_on(world, 1, 0, "g0"));
    want(world, after.states_taken == before.states_taken + 1 && after.differences_taken == 1);
    want(world, wholes == 0 && told < CHANGES + 100);
    world_rest(world);
}

/* Each asks for what it lacks; what serves the one that lacks more serves the other. It hears neither of the others
 * before, or it would have learnt from the one what that remembers. */
void two_behind(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    actor_whole_list(world, g0);
    world_run(world, 2 * SECOND);
    world->network->links[0][1].cut = world->network->links[2][1].cut = true;
    many_changes(world, g0, 0, BEFORE);
    world->network->links[0][2].cut = true;
    many_changes(world, g0, BEFORE, BEFORE + CHANGES);
    told = wholes = 0;
    world->network->filter = count_told;
    good_link(world, 0, 1);
    good_link(world, 0, 2);
    good_link(world, 2, 1);
    world_run(world, 3 * SECOND);
    world->network->filter = NULL;
    want(world, is_as_on(world, 1, 0, "g0") && is_as_on(world, 2, 0, "g0") && wholes == 0);
    want(world, counters_of(world, 1).differences_taken == 1 && counters_of(world, 2).differences_taken == 1);
    want(world, counters_of(world, 0).differences_sent <= 2);
    world_rest(world);
}

/* What was there and is not named is missing, for the origin's reason and not this node's. */
void down_while_behind(struct world *world)
{
    world->config.most_changes = 3;
    given_nodes(world, 2);
    want(world, claim(world, 0, "g0", 1) == PRESENCE_OK);
    char name[AGENT_ROOM];
    for (uint64_t id = 1; id <= 300; id++)
        login(world, 0, "g0", id, agent_name(name, world, world_server_of(world, "g0"), 1, id));
    world_run(world, 40 * SECOND); /* it is complete */
    want(world, is_as_on(world, 1, 0, "g0") && server_on(world, 1, "g0").complete);
    world->network->links[0][1].cut = true;
    logout(world, 0, "g0", 1);
    presence_recorder_server_down_because(world->nodes[0].recorder, "g0", PRESENCE_REASON_DRAINED, NULL);
    world_after(world, 0);
    for (uint64_t id = 2; id <= 100; id++)
        login(world, 0, "g0", id, agent_name(name, world, world_server_of(world, "g0"), 1, id));
    world_run(world, SECOND);
    want(world, alive_on(world, 1, "g0") == 300);
    good_link(world, 0, 1);
    world_run(world, 3 * SECOND);
    want(world, is_as_on(world, 1, 0, "g0") && alive_on(world, 1, "g0") == 99);
    want(world, counters_of(world, 1).differences_taken == 1 && counters_of(world, 1).states_taken == 1);
    want(world, agent_on(world, 1, "g0.e1.i1") == PRESENCE_UNKNOWN && agent_on(world, 1, "g0.e1.i2") == PRESENCE_ALIVE);
    want(world, agent_on(world, 1, "g0.e1.i200") == PRESENCE_MISSING);
    want(world, reason_on(world, 1, "g0.e1.i200") == PRESENCE_REASON_DRAINED);
    world_rest(world);
}

/* What it holds is not what its number says: the difference comes to another digest, so nothing of it shows, and the
 * whole is asked for. */
void corrupted_while_behind(struct world *world)
{
    world->config.most_changes = 3;
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, 100);
    actor_whole_list(world, g0);
    world_run(world, 2 * SECOND);
    uint64_t taken = counters_of(world, 1).states_taken;
    world->network->links[0][1].cut = true;
    many_changes(world, g0, 0, 60);
    presence_server_description here = server_on(world, 1, "g0");
    invariants_excuse(world, 1, world_server_of(world, "g0"));
    presence_value wrong = test_value("g0", 7777, SIM_MODEL, "wrong");
    want(world, presence_replica_apply_state(world->nodes[1].recorder, "g0", &here.claim, here.number, here.floor,
                                             here.floor_reason, here.floor_time, &wrong, 1, NULL) == PRESENCE_OK);
    told = wholes = 0;
    world->network->filter = count_told;
    good_link(world, 0, 1);
    for (int i = 0; i < 300; i++) {
        world_run(world, 10 * MILLISECOND);
        want(world, server_on(world, 1, "g0").connections == 1 || is_as_on(world, 1, 0, "g0"));
    }
    world->network->filter = NULL;
    want(world, is_as_on(world, 1, 0, "g0") && told > 0 && wholes > 0);
    want(world, counters_of(world, 1).differences_taken == 0 && counters_of(world, 1).states_taken == taken + 1);
    world_rest(world);
}
