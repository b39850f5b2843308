/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fills.c - a newcomer records a snapshot as it comes, and something comes between: nothing of it ever shows, and
 * nothing of it stays.
 */
#include "stories.h"

enum { AGENTS = 3000, CHUNKS = 8, NOTHING_BYTES = 24 * 1024 }; /* chunks: of a snapshot with so many agents */

static size_t recorded_bytes(struct world *world, int node)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    want(world, presence_recorder_stats(world->nodes[node].recorder, &stats) == PRESENCE_OK);
    return stats.used_bytes;
}

/* Of the slow n0, which states `g0`; some chunks of its snapshot are here and recorded, and none of it shows. */
static int filling_newcomer(struct world *world)
{
    world->network->bytes_per_second[0] = 50000;
    int node = world_node(world, "late");
    world->nodes[node].job_ns = 20 * MILLISECOND;
    world_start(world, node);
    size_t before = recorded_bytes(world, node);
    while (counters_of(world, node).chunks_taken < 4 || recorded_bytes(world, node) < before + NOTHING_BYTES) {
        world_run(world, 10 * MILLISECOND);
        want(world, world->now < 30 * SECOND && counters_of(world, node).states_taken == 0);
    }
    want(world, server_on(world, node, "g0").connections == 0 && server_on(world, node, "g0").number == 0);
    want(world, agent_on(world, node, "g0.e1.i1") == PRESENCE_UNKNOWN);
    return node;
}

/* Its node dies; another remembers the whole of it, and tells. */
void origin_dies_mid_fill(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    int late = filling_newcomer(world);
    world->network->links[0][late].cut = true; /* with what is on its way */
    world_crash(world, 0);
    for (int i = 0; i < 100; i++) {
        world_run(world, 100 * MILLISECOND);
        size_t here = server_on(world, late, "g0").connections;
        want(world, (here == 0 || here == AGENTS) && alive_on(world, late, "g0") == 0);
    }
    want(world, server_on(world, late, "g0").connections == AGENTS && lapsed_on(world, late, "g0"));
    want(world, counters_of(world, late).states_taken == 1);
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    world_rest(world);
}

/* Nobody else knows it: what was recorded of it goes. */
void only_origin_dies_mid_fill(struct world *world)
{
    given_nodes(world, 1);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    int late = filling_newcomer(world);
    world->network->links[0][late].cut = true; /* with what is on its way */
    world_crash(world, 0);
    world_run(world, 10 * SECOND);
    want(world, server_on(world, late, "g0").connections == 0 && lapsed_on(world, late, "g0"));
    presence_stats stats = {.struct_bytes = sizeof stats};
    presence_recorder_stats(world->nodes[late].recorder, &stats);
    want(world, stats.agents == 0 && stats.models == 0 && stats.names == 1);
    want(world, claim(world, late, "g0", 2) == PRESENCE_OK && login(world, late, "g0", 1, "g0.e1.i1") == PRESENCE_OK);
    want(world, agent_on(world, late, "g0.e1.i1") == PRESENCE_ALIVE);
    logout(world, late, "g0", 1);
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    world_rest(world);
}

/* The gateway goes on at another node, whose larger claim and state the newcomer takes. */
void taken_over_mid_fill(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    int late = filling_newcomer(world);
    want(world, actor_bind(world, g0, 1) == PRESENCE_OK);
    for (int i = 0; i < 60; i++) {
        world_run(world, 50 * MILLISECOND);
        size_t alive = alive_on(world, late, "g0");
        want(world, alive == 0 || alive == AGENTS);
    }
    want(world, alive_on(world, late, "g0") == AGENTS && counters_of(world, late).states_taken == 1);
    world_rest(world);
}

static bool holds_under(struct world *world, int node, const presence_claim *claim)
{
    presence_server_description here = server_on(world, node, "g0");
    return presence_claim_compare(&here.claim, claim) == 0;
}

/* What is recorded by then is much to take away: the thread that recorded it does, before the claim is taken. */
void claim_waits_for_fill(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    int late = filling_newcomer(world);
    size_t before = recorded_bytes(world, late);
    presence_claim smaller = server_on(world, late, "g0").claim;
    world->nodes[late].job_ns = 2 * SECOND;
    want(world, actor_bind(world, g0, 1) == PRESENCE_OK);
    presence_claim larger = server_on(world, 1, "g0").claim;
    want(world, presence_claim_compare(&larger, &smaller) > 0);
    unsigned waited = 0;
    for (int i = 0; i < 1000 && holds_under(world, late, &smaller); i++) {
        waited += holds_under(world, 0, &larger) && recorded_bytes(world, late) >= before;
        world_run(world, 10 * MILLISECOND);
    }
    want(world, waited > 5);
    want(world, holds_under(world, late, &larger));
    world->nodes[late].job_ns = 20 * MILLISECOND;
    world_run(world, 8 * SECOND);
    want(world, alive_on(world, late, "g0") == AGENTS && counters_of(world, late).states_taken == 1);
    world_rest(world);
}

static unsigned asked;

static bool count_questions(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    (void)to;
    asked += message->kind == WIRE_ASK && message->ask.question == WIRE_ASK_STATE;
    return true;
}

/* All of it is here long before the thread that records it has time for it: nothing is asked for again. */
void whole_long_before_recorded(struct world *world)
{
    given_nodes(world, 1);
    gateway(world, "g0", 1, 0, AGENTS);
    int late = world_node(world, "late");
    world->nodes[late].job_ns = 60 * SECOND;
    world_start(world, late);
    while (counters_of(world, late).chunks_taken < CHUNKS) {
        world_run(world, 10 * MILLISECOND);
        want(world, world->now < 60 * SECOND);
    }
    asked = 0;
    world->network->filter = count_questions;
    uint64_t whole = world->now;
    while (counters_of(world, late).states_taken == 0)
        world_run(world, 100 * MILLISECOND);
    want(world, world->now - whole > 5 * SECOND);
    want(world, asked == 0);
    want(world, alive_on(world, late, "g0") == AGENTS);
    world->network->filter = NULL;
    world_rest(world);
}

static bool lost[64];

/* Every third chunk, once. */
static bool lose_some_chunks(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    (void)to;
    uint64_t index = message->chunk.index;
    if (message->kind != WIRE_CHUNK || index >= sizeof lost || index % 3 != 1 || lost[index]) {
        return true;
    }
    lost[index] = true;
    return false;
}

/* They are asked for by number, and recorded behind what came after them. */
void chunks_lost_mid_fill(struct world *world)
{
    memset(lost, 0, sizeof lost);
    given_nodes(world, 1);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    world->network->filter = lose_some_chunks;
    int late = filling_newcomer(world);
    actor_disconnect(world, g0, 7); /* what comes meanwhile is held */
    world->network->bytes_per_second[0] = 0;
    world_run(world, 8 * SECOND);
    want(world, counters_of(world, late).states_taken == 1 && alive_on(world, late, "g0") == AGENTS - 1);
    want(world, lost[1] && lost[4] && lost[7] && counters_of(world, late).chunks_taken == CHUNKS);
    world_rest(world);
}
