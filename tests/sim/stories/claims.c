/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.c - two that say they are one: nodes of one name, claims of one server.
 */
#include "stories.h"

void one_name_second_refuses(struct world *world)
{
    given_nodes(world, 2);
    gateway(world, "g0", 1, 0, 2);
    int twin = newcomer(world, "n0");
    all_show_alive(world, 0, "g0", 2);
    world_run(world, 4 * SECOND);
    want(world, world->nodes[twin].state == NODE_GONE);
    want(world, world->nodes[0].state == NODE_UP && alive_on(world, 1, "g0") == 2);
    world_rest(world);
}

/* They begin cut apart, so that neither hears of the other. Joined, each keeps to its own. */
void one_name_both_run(struct world *world)
{
    int first = world_node(world, "same"), second = world_node(world, "same"), other = world_node(world, "other");
    world->network->links[first][second].cut = world->network->links[second][first].cut = true;
    for (int node = 0; node < 3; node++) {
        world_start(world, node);
    }
    world_run(world, 5 * SECOND);
    gateway(world, "g0", 1, first, 2);
    gateway(world, "g1", 1, second, 3);
    want(world, alive_on(world, other, "g0") == 2 && alive_on(world, other, "g1") == 3);
    good_link(world, first, second);
    good_link(world, second, first);
    world_run(world, 20 * SECOND);
    want(world, world_is_up(world, first) && world_is_up(world, second));
    for (int node = 0; node < 3; node++) {
        want(world, alive_on(world, node, "g0") == 2 && alive_on(world, node, "g1") == 3);
    }
    world_rest(world);
}

/* Both are alive, n0 and n1 apart: what each of them and n2 hold when they meet. */
static void claim_apart(struct world *world, uint64_t epoch0, uint64_t epoch1)
{
    given_nodes(world, 4);
    network_cut_pair(world, 0, 1, true);
    network_cut_pair(world, 0, 3, true);
    want(world, claim(world, 0, "g0", epoch0) == PRESENCE_OK);
    want(world, login(world, 0, "g0", 1, "of n0") == PRESENCE_OK);
    network_cut_pair(world, 1, 2, true); /* what n2 heard of n0, n1 does not hear of */
    want(world, claim(world, 1, "g0", epoch1) == PRESENCE_OK);
    want(world, login(world, 1, "g0", 1, "of n1") == PRESENCE_OK);
    world_run(world, SECOND);
    want(world, agent_on(world, 2, "of n0") == PRESENCE_ALIVE && agent_on(world, 3, "of n1") == PRESENCE_ALIVE);
    network_cut_pair(world, 0, 1, false);
    network_cut_pair(world, 0, 3, false);
    network_cut_pair(world, 1, 2, false);
}

/* The larger wins, everywhere; the other is told once, and does not fight. */
void two_claims_one_epoch(struct world *world)
{
    claim_apart(world, 5, 5);
    world_run(world, 3 * SECOND);
    int winner = server_on(world, 0, "g0").local ? 0 : 1, loser = 1 - winner;
    want(world, server_on(world, winner, "g0").local && !server_on(world, loser, "g0").local);
    want(world, world->network->superseded[loser] == 1 && world->network->superseded[winner] == 0);
    want(world, login(world, loser, "g0", 2, "late") == PRESENCE_E_STALE);
    presence_claim won = server_on(world, winner, "g0").claim;
    world_run(world, 40 * SECOND);
    for (int node = 0; node < 4; node++) {
        presence_claim seen = server_on(world, node, "g0").claim;
        want(world, presence_claim_compare(&seen, &won) == 0);
        want(world, agent_on(world, node, winner == 0 ? "of n0" : "of n1") == PRESENCE_ALIVE);
        want(world, agent_on(world, node, winner == 0 ? "of n1" : "of n0") == PRESENCE_UNKNOWN);
    }
    world_rest(world);
}

/* n3 takes g0 over and dies, while n1, which takes it over too, hears nobody: a second turn was taken between them, so
 * n3's claim is the larger. n1 hears of it when n3 is gone, and takes a larger one yet; of the agents that it inherited
 * one had left when it claimed first, and is gone when that claim's settle time is over. */
static void retake_before_complete(struct world *world, presence_status of_who_left)
{
    int g0 = gateway(world, "g0", 1, 0, 3);
    world_crash(world, 0);
    for (int node = 2; node < 4; node++) {
        network_cut_pair(world, 1, node, true);
    }
    actor_disconnect(world, g0, 3);
    want(world, actor_bind(world, g0, 1) == PRESENCE_OK);
    uint64_t claimed = world->now;
    want(world, claim(world, 2, "g0", 1) == PRESENCE_OK);
    world_run(world, 100 * MILLISECOND);
    want(world, claim(world, 3, "g0", 1) == PRESENCE_OK);
    world_run(world, 100 * MILLISECOND);
    world_crash(world, 3);
    network_cut_pair(world, 1, 2, false);
    world_run(world, 10 * SECOND);
    presence_claim taken = server_on(world, 1, "g0").claim;
    want(world, taken.turn == 4 && server_on(world, 1, "g0").local && actor_of(world, g0)->node == 1);
    for (int node = 1; node < 3; node++) { /* nobody flaps meanwhile */
        want(world, alive_on(world, node, "g0") == 3 && agent_on(world, node, "g0.e1.i3") == PRESENCE_ALIVE);
    }
    actor_disconnect(world, g0, 2);
    actor_connect(world, g0, 4);
    actor_connect(world, g0, 5);
    actor_disconnect(world, g0, 5);
    world_run(world, claimed + world->config.settle * MILLISECOND + SECOND - world->now);
    for (int node = 1; node < 3; node++) {
        want(world, agent_on(world, node, "g0.e1.i3") == of_who_left && alive_on(world, node, "g0") == 2);
        presence_claim seen = server_on(world, node, "g0").claim;
        want(world, presence_claim_compare(&seen, &taken) == 0);
    }
    world_rest(world);
}

void retaken_before_complete(struct world *world)
{
    given_nodes(world, 4);
    retake_before_complete(world, PRESENCE_UNKNOWN);
}

/* Its recorder remembers of one disconnection only that it was: what else is gone since the claim is not known. */
void retaken_and_lagged(struct world *world)
{
    given_nodes(world, 1);
    world->nodes[world_node(world, "n1")].departures = 1;
    world_start(world, 1);
    newcomer(world, "n2");
    newcomer(world, "n3");
    world_run(world, 5 * SECOND);
    retake_before_complete(world, PRESENCE_MISSING);
}

/* The newer life wins, whatever the turns. */
void two_claims_two_epochs(struct world *world)
{
    claim_apart(world, 5, 6);
    world_run(world, 3 * SECOND);
    want(world, !server_on(world, 0, "g0").local && server_on(world, 1, "g0").local);
    want(world, world->network->superseded[0] == 1 && world->network->superseded[1] == 0);
    for (int node = 0; node < 4; node++) {
        want(world, agent_on(world, node, "of n1") == PRESENCE_ALIVE);
        want(world, agent_on(world, node, "of n0") != PRESENCE_ALIVE);
    }
    want(world, claim(world, 2, "g0", 5) == PRESENCE_E_STALE);
    world_rest(world);
}

static bool lose_beats_of_n1(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    return from != 1 || to != 0 || message->kind != WIRE_BEAT;
}

/* n0 has found n1 silent, and hears of its claim all the same, by what n1 streams; then n1 is gone. Nobody turns from
 * heard to silent then, but what n1 claimed is nobody's within a lease. */
void claim_of_one_found_silent(struct world *world)
{
    given_nodes(world, 2);
    want(world, claim(world, 0, "g0", 5) == PRESENCE_OK);
    want(world, login(world, 0, "g0", 1, "of n0") == PRESENCE_OK);
    world->network->filter = lose_beats_of_n1;
    world_run(world, 5 * SECOND);
    want(world, claim(world, 1, "g0", 5) == PRESENCE_OK);
    want(world, login(world, 1, "g0", 2, "of n1") == PRESENCE_OK);
    world_run(world, 300 * MILLISECOND);
    want(world, !server_on(world, 0, "g0").local && agent_on(world, 0, "of n0") == PRESENCE_ALIVE);
    world_crash(world, 1);
    world_run(world, 2 * SECOND);
    want(world, !lapsed_on(world, 0, "g0")); /* it has its lease */
    world_run(world, 2 * SECOND);
    want(world, lapsed_on(world, 0, "g0") && agent_on(world, 0, "of n0") == PRESENCE_MISSING);
    world->network->filter = NULL;
    world_rest(world);
}
