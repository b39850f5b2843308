/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lives.c - servers that restart, move, drain and lose their agents.
 */
#include "stories.h"

/* A login of the life before is under way to n2 for 6 s. Meanwhile the server restarts elsewhere and uses its ids. */
void reused_ids(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 7, 0, 3);
    slow_stream(world, 0, 2, 6 * SECOND);
    actor_connect(world, g0, 4);
    world_run(world, 5 * MILLISECOND);
    good_link(world, 0, 2);

    actor_die(world, g0, 20 * SECOND, PRESENCE_REASON_TIMED_OUT);
    actor_begin_life(world, g0, 8);
    actor_of(world, g0)->restates_singly = true;
    want(world, actor_bind(world, g0, 1) == PRESENCE_OK);
    actor_connect(world, g0, 1);
    world_run(world, SECOND);
    for (int node = 0; node < 3; node++) {
        want(world, agent_on(world, node, "g0.e8.i1") == PRESENCE_ALIVE);
        want(world, agent_on(world, node, "g0.e7.i1") == PRESENCE_UNKNOWN);
        want(world, agent_on(world, node, "g0.e7.i2") == PRESENCE_MISSING);
        want(world, reason_on(world, node, "g0.e7.i2") == PRESENCE_REASON_SUPERSEDED);
    }
    actor_connect(world, g0, 4);
    world_run(world, 6 * SECOND); /* the late login comes */
    want(world, agent_on(world, 2, "g0.e7.i4") == PRESENCE_UNKNOWN && agent_on(world, 2, "g0.e8.i4") == PRESENCE_ALIVE);
    world_run(world, 25 * SECOND); /* settled: what the new life did not restate is dropped */
    want(world, agent_on(world, 0, "g0.e7.i2") == PRESENCE_UNKNOWN && alive_on(world, 2, "g0") == 2);
    world_rest(world);
}

/* One agent goes from g0 to g1; that it left g0 is told late. */
void late_leave(struct world *world)
{
    given_nodes(world, 3);
    want(world, claim(world, 0, "g0", 1) == PRESENCE_OK && claim(world, 1, "g1", 1) == PRESENCE_OK);
    want(world, login(world, 0, "g0", 1, "wanderer") == PRESENCE_OK);
    world_run(world, SECOND);
    want(world, agent_on(world, 2, "wanderer") == PRESENCE_ALIVE);
    slow_stream(world, 0, 2, 5 * SECOND);
    want(world, login(world, 1, "g1", 1, "wanderer") == PRESENCE_OK);
    want(world, logout(world, 0, "g0", 1) == PRESENCE_OK);
    world_run(world, 5 * MILLISECOND);
    good_link(world, 0, 2);
    for (int i = 0; i < 600; i++) {
        world_run(world, 10 * MILLISECOND);
        want(world, agent_on(world, 2, "wanderer") == PRESENCE_ALIVE);
    }
    want(world, server_on(world, 2, "g0").connections == 0 && server_on(world, 2, "g1").alive == 1);
    world_rest(world);
}

/* n0 still has a socket of the gateway, and says that it is down when the keepalive finds out: nobody believes it. */
void moves_half_open(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 3, 0, 5);
    actor_leaves_ghost(world, g0, 12 * SECOND, PRESENCE_REASON_TIMED_OUT);
    all_show_alive(world, SECOND, "g0", 5);
    want(world, actor_bind(world, g0, 1) == PRESENCE_OK);
    all_show_alive(world, SECOND, "g0", 5);
    want(world, server_on(world, 1, "g0").local && !server_on(world, 0, "g0").local);
    want(world, world->network->superseded[0] == 1);
    all_show_alive(world, 40 * SECOND, "g0", 5);
    world_rest(world);
}

/* The process of a node crashes and is up again in a second; its gateway, which never died, binds at once. */
void restarted_within_lease(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 3, 0, 5);
    actor_of(world, g0)->restates_singly = false;
    presence_claim before = server_on(world, 0, "g0").claim;
    world_crash(world, 0);
    world_run(world, SECOND);
    world_start(world, 0);
    world_run(world, 100 * MILLISECOND);
    want(world, actor_bind(world, g0, 0) == PRESENCE_OK);
    all_show_alive(world, 40 * SECOND, "g0", 5);
    presence_claim after = server_on(world, 1, "g0").claim;
    want(world, after.epoch == 3 && presence_claim_compare(&after, &before) > 0);
    world_rest(world);
}

/* A lapse makes all missing, and restoring makes alive again only who was. */
void missing_before_lapse(struct world *world)
{
    given_nodes(world, 2);
    int g0 = gateway(world, "g0", 1, 0, 3);
    actor_leaves_ghost(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    world_run(world, SECOND);
    want(world, alive_on(world, 1, "g0") == 0);
    claim(world, 0, "g0", 1);
    login(world, 0, "g0", 1, "g0.e1.i1");
    world_run(world, SECOND);
    want(world, alive_on(world, 1, "g0") == 1);

    world->network->links[0][1].cut = true;
    world_run(world, 5 * SECOND);
    want(world, lapsed_on(world, 1, "g0") && reason_on(world, 1, "g0.e1.i1") == PRESENCE_REASON_LAPSED);
    good_link(world, 0, 1);
    world_run(world, 2 * SECOND);
    want(world, !lapsed_on(world, 1, "g0") && alive_on(world, 1, "g0") == 1);
    want(world, agent_on(world, 1, "g0.e1.i1") == PRESENCE_ALIVE);
    want(world, agent_on(world, 1, "g0.e1.i2") == PRESENCE_MISSING);
    want(world, reason_on(world, 1, "g0.e1.i2") == PRESENCE_REASON_TIMED_OUT);
    want(world, counters_of(world, 1).states_taken == 0);
    logout(world, 0, "g0", 1); /* nobody is left: as its actor has it */
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    world_rest(world);
}

/* A beat from before n0's goodbye comes to n1 long after it: what it says is no longer so. */
void late_beat_of_one_that_left(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, 3);
    struct link *link = &world->network->links[0][1];
    link->reorder = 10000;
    link->reorder_by = 8 * SECOND;
    world_run(world, 600 * MILLISECOND);
    link->reorder = 0;
    world_run(world, 600 * MILLISECOND);
    world_leave(world, 0);
    world_run(world, 50 * MILLISECOND);
    world_crash(world, 0);
    world_run(world, 500 * MILLISECOND);
    all_show_alive(world, 20 * SECOND, "g0", 0);
    want(world, doubt_on(world, 1, "g0") == STEP_FRESH); /* by its last word, */
    want(world, !all_fresh_on(world, 1));                /* and not for being heard again */
    actor_die(world, g0, 0, PRESENCE_REASON_DRAINED);
    world_rest(world);
}

/* What closes after the goodbye is not told: the agents read drained, until they are elsewhere. */
void drain_and_close(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, 3);
    actor_of(world, g0)->restates_singly = false;
    world_leave(world, 0);
    for (uint64_t id = 1; id <= 3; id++) {
        presence_recorder_disconnect(world->nodes[0].recorder, "g0", id);
        world_after(world, 0);
        world_run(world, 100 * MILLISECOND);
    }
    world_run(world, SECOND);
    for (int node = 1; node < 3; node++) {
        want(world,
             agent_on(world, node, "g0.e1.i1") == PRESENCE_MISSING && server_on(world, node, "g0").connections == 3);
        want(world, reason_on(world, node, "g0.e1.i1") == PRESENCE_REASON_DRAINED);
    }
    world_crash(world, 0);
    world_run(world, 10 * SECOND);
    want(world, reason_on(world, 1, "g0.e1.i2") == PRESENCE_REASON_DRAINED);
    want(world, actor_bind(world, g0, 1) == PRESENCE_OK);
    world_run(world, SECOND);
    want(world, alive_on(world, 1, "g0") == 3 && alive_on(world, 2, "g0") == 3);
    world_rest(world);
}
