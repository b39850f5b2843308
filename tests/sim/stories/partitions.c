/* SPDX-License-Identifier: Apache-2.0 */
/*
 * partitions.c - who does not hear whom, and what may be concluded of it.
 */
#include "stories.h"

/* n1 hears n0 no longer, though n0 hears it. */
void one_way_partition(struct world *world)
{
    given_nodes(world, 3);
    gateway(world, "g0", 1, 0, 3);
    gateway(world, "g1", 1, 1, 2);
    world->network->links[0][1].cut = true;
    world_run(world, 2400 * MILLISECOND);
    want(world, alive_on(world, 1, "g0") == 3);
    world_run(world, 2 * SECOND);
    want(world, lapsed_on(world, 1, "g0") && alive_on(world, 1, "g0") == 0);
    want(world, doubt_on(world, 1, "g0") == STEP_SILENT && doubt_on(world, 1, "g1") == STEP_FRESH);
    want(world, alive_on(world, 2, "g0") == 3 && alive_on(world, 0, "g1") == 2 && alive_on(world, 2, "g1") == 2);
    good_link(world, 0, 1);
    world_run(world, 1200 * MILLISECOND);
    want(world, alive_on(world, 1, "g0") == 3 && doubt_on(world, 1, "g0") == STEP_FRESH);
    want(world, counters_of(world, 1).states_taken == 0); /* nothing that is here is sent again */
    world_rest(world);
}

/* n0 and n1 on one router, n2, n3 and n4 on the other. For the smaller part most of the cluster is silent. */
void routers_cut_apart(struct world *world)
{
    for (int node = 2; node < 5; node++) {
        world->network->router[node] = 1;
    }
    given_nodes(world, 5);
    int g0 = gateway(world, "g0", 1, 0, 3), g4 = gateway(world, "g4", 1, 4, 2);
    network_cut_route(world, 0, 1, true);
    world_run(world, 2 * SECOND);
    actor_connect(world, g0, 4);
    actor_disconnect(world, g4, 1);
    world_run(world, 3 * SECOND);
    for (int node = 0; node < 2; node++) { /* stale first: it may be we who are cut off */
        want(world, !lapsed_on(world, node, "g4") && alive_on(world, node, "g4") == 2);
        want(world, doubt_on(world, node, NULL) == STEP_SILENT && doubt_on(world, node, "g4") != STEP_FRESH);
        want(world, alive_on(world, node, "g0") == 4);
    }
    for (int node = 2; node < 5; node++) {
        want(world, lapsed_on(world, node, "g0") && alive_on(world, node, "g4") == 1);
        want(world, doubt_on(world, node, NULL) == STEP_FRESH && doubt_on(world, node, "g0") == STEP_SILENT);
    }
    world_run(world, 32 * SECOND); /* the hold is over */
    want(world, lapsed_on(world, 0, "g4") && lapsed_on(world, 1, "g4") && alive_on(world, 1, "g0") == 4);
    network_cut_route(world, 0, 1, false);
    world_run(world, 3 * SECOND);
    for (int node = 0; node < 5; node++) {
        want(world, alive_on(world, node, "g0") == 4 && alive_on(world, node, "g4") == 1);
    }
    world_rest(world);
}

/* Cut off without being told, at every phase of the beats: it keeps what it knew, and says so. */
static void deafen(struct world *world, int node, uint64_t phase)
{
    uint64_t lapses = counters_of(world, node).lapses;
    world_run(world, phase);
    world->network->mute[node] = world->network->deaf[node] = true;
    tell(world, node, "is cut off");
    world_run(world, 8 * SECOND);
    want(world, doubt_on(world, node, NULL) == STEP_DEAF);
    want(world, counters_of(world, node).lapses == lapses);
    for (int other = 0; other < world->node_count; other++) {
        want(world, other == node || lapsed_on(world, other, "g0"));
    }
    world->network->mute[node] = world->network->deaf[node] = false;
    world_run(world, 4 * SECOND);
    want(world, doubt_on(world, node, NULL) == STEP_FRESH && counters_of(world, node).lapses == lapses);
}

void deaf_observer(struct world *world)
{
    given_nodes(world, 2);
    gateway(world, "g0", 1, 0, 2);
    gateway(world, "g1", 1, 1, 2);
    for (uint64_t phase = 0; phase < 500; phase += 60) {
        deafen(world, 0, phase * MILLISECOND);
    }
    newcomer(world, "n2");
    newcomer(world, "n3");
    world_run(world, 8 * SECOND);
    gateway(world, "g3", 1, 3, 1);
    for (uint64_t phase = 30; phase < 500; phase += 150) {
        deafen(world, 0, phase * MILLISECOND);
        want(world, alive_on(world, 0, "g1") == 2 && alive_on(world, 0, "g3") == 1);
    }
    world_rest(world);
}

/* All that n0 hears is 4 s old, its own beats too: it may show what it has, but must not call that fresh. */
void echo_later_than_lease(struct world *world)
{
    given_nodes(world, 3);
    gateway(world, "g1", 1, 1, 2);
    for (int from = 0; from < 3; from++) {
        slow_link(world, from, 0, 4 * SECOND);
    }
    world_run(world, 8 * SECOND);
    for (int i = 0; i < 10; i++) {
        world_run(world, 700 * MILLISECOND);
        want(world, doubt_on(world, 0, NULL) == STEP_DEAF);
        want(world, !lapsed_on(world, 0, "g1"));
    }
    for (int from = 0; from < 3; from++) {
        good_link(world, from, 0);
    }
    world_run(world, 8 * SECOND);
    want(world, doubt_on(world, 0, NULL) == STEP_FRESH && alive_on(world, 0, "g1") == 2);
    world_rest(world);
}

static bool lose_all_of_n2_at_n0(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)message;
    return !(from == 2 && to == 0);
}

/* n1 yields g1 to n2, which n0 does not hear; then n0 hears nothing at all for 4 s. That n1 dropped it was longer ago
 * then, but n0 was not there to hear who has it now: the lease begins anew. */
void taken_over_while_deaf(struct world *world)
{
    given_nodes(world, 3);
    int g1 = gateway(world, "g1", 1, 1, 2);
    world->network->filter = lose_all_of_n2_at_n0;
    actor_leaves_ghost(world, g1, 20 * SECOND, PRESENCE_REASON_TIMED_OUT);
    want(world, actor_bind(world, g1, 2) == PRESENCE_OK);
    world_run(world, 1200 * MILLISECOND);
    world->network->mute[0] = world->network->deaf[0] = true;
    world_run(world, 4 * SECOND);
    want(world, doubt_on(world, 0, NULL) == STEP_DEAF && !lapsed_on(world, 0, "g1"));
    world->network->mute[0] = world->network->deaf[0] = false;
    world_run(world, 1200 * MILLISECOND);
    want(world, doubt_on(world, 0, NULL) == STEP_FRESH && !lapsed_on(world, 0, "g1"));
    world->network->filter = NULL;
    all_show_alive(world, 5 * SECOND, "g1", 2);
    world_rest(world);
}

/* n0 hears n1 for the last time, a second later n2, and n3 leaves: nobody is heard any more, though never two of three
 * fell silent at the same beat. It may be n0 that is cut off: stale first, missing when the hold is over. */
void silent_one_by_one(struct world *world)
{
    given_nodes(world, 4);
    gateway(world, "g1", 1, 1, 2);
    gateway(world, "g2", 1, 2, 2);
    world->network->links[1][0].cut = true;
    world_run(world, 1000 * MILLISECOND);
    world->network->links[2][0].cut = true;
    world_run(world, 2200 * MILLISECOND);
    want(world, lapsed_on(world, 0, "g1") && !lapsed_on(world, 0, "g2"));
    world_leave(world, 3);
    world_run(world, 50 * MILLISECOND);
    world_crash(world, 3);
    world_run(world, 5 * SECOND);
    want(world, !lapsed_on(world, 0, "g2") && alive_on(world, 0, "g2") == 2);
    want(world, doubt_on(world, 0, NULL) == STEP_SILENT);
    world_run(world, world->config.hold * MILLISECOND);
    want(world, lapsed_on(world, 0, "g2"));
    world_rest(world);
}

/* Stopped for 10 s. In the queue are beats of n1, which died meanwhile, and of n2, which did not. */
void wakes_with_old_beats(struct world *world)
{
    given_nodes(world, 3);
    gateway(world, "g2", 1, 2, 2);
    int g1 = gateway(world, "g1", 1, 1, 2);
    for (int round = 0; round < 4; round++) {
        if (round > 0) {
            world_start(world, 1);
            world_run(world, 8 * SECOND);
            want(world, actor_bind(world, g1, 1) == PRESENCE_OK);
            world_run(world, 2 * SECOND);
        }
        want(world, alive_on(world, 0, "g1") == 2);
        world_stop(world, 0);
        world_run(world, 5 * SECOND);
        world_crash(world, 1);
        world_run(world, 5 * SECOND);
        world_continue(world, 0);
        world_run(world, 2800 * MILLISECOND);
        want(world, !lapsed_on(world, 0, "g1") && !lapsed_on(world, 0, "g2"));
        world_run(world, 3 * SECOND);
        want(world, lapsed_on(world, 0, "g1") && alive_on(world, 0, "g2") == 2);
        want(world, doubt_on(world, 0, NULL) == STEP_FRESH && doubt_on(world, 0, "g1") == STEP_SILENT);
    }
    actor_die(world, g1, 0, PRESENCE_REASON_TIMED_OUT);
    world_rest(world);
}
