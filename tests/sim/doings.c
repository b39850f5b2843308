/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doings.c - what actors that act by themselves do: at random, a thing at each of their paces; when the world is quiet
 * they only look after their sessions.
 */
#include "actors.h"

static void bind_somewhere(struct world *world, int a)
{
    struct actor *actor = actor_of(world, a);
    int node = (int)below(world, (unsigned)world->node_count);
    if (!world_is_running(world, node)) {
        return;
    }
    actor->restates_singly = below(world, 3) == 0;
    int code = actor_bind(world, a, node);
    if (code != PRESENCE_OK) {
        world_blame(world, "the newest life of %s is answered %s on %s", world->servers[actor->server],
                    presence_error_name(code), world->nodes[node].name);
    }
}

static uint64_t some_id(struct world *world, const struct actor *actor)
{
    return actor->agents[below(world, (unsigned)actor->count)].id;
}

/* Something about its agents; also while it is bound nowhere. */
static void tend_agents(struct world *world, int a)
{
    struct actor *actor = actor_of(world, a);
    unsigned dice = below(world, 100);
    if (actor->count == 0 || (dice < 35 && actor->count < MOST_AGENTS)) {
        actor_connect(world, a, actor->next_id);
    } else if (dice < 60) {
        actor_disconnect(world, a, some_id(world, actor));
    } else if (dice < 75) {
        actor_activity(world, a, some_id(world, actor));
    } else if (dice < 85) {
        actor_revise(world, a, some_id(world, actor));
    } else if (dice < 92) {
        actor_whole_list(world, a);
    } else {
        for (int i = 0; i < 5 && actor->count < MOST_AGENTS; i++) {
            actor_connect(world, a, actor->next_id);
        }
    }
}

static const presence_reason DOWN_REASONS[] = {PRESENCE_REASON_SERVER_DOWN, PRESENCE_REASON_TIMED_OUT,
                                               PRESENCE_REASON_DRAINED};

/* A hung node: whoever is bound there gives up at some time. */
static void tend_session(struct world *world, int a)
{
    struct actor *actor = actor_of(world, a);
    if (world->nodes[actor->node].state == NODE_STOPPED || world->nodes[actor->node].leaving) {
        if (below(world, 4) == 0) {
            actor_leaves_ghost(world, a, between(world, 0, 3 * SECOND), PRESENCE_REASON_TIMED_OUT);
        }
        return;
    }
    unsigned dice = below(world, 60);
    if (world->actors->quiet || dice > 3) {
        if (!world->actors->quiet) {
            tend_agents(world, a);
        }
    } else if (dice < 2) {
        /* Moves: the next pace binds it somewhere, perhaps here again. */
        actor_leaves_ghost(world, a, between(world, 0, 6 * SECOND), PRESENCE_REASON_TIMED_OUT);
    } else if (actor->session) {
        actor_die(world, a, between(world, 0, 3 * SECOND), DOWN_REASONS[below(world, 3)]);
    }
}

static void fire_doing(struct world *world, const struct event *event)
{
    int a = event->other;
    struct actor *actor = actor_of(world, a);
    if (actor->alive && actor->node >= 0) {
        tend_session(world, a);
    } else if (actor->alive && (world->actors->quiet || below(world, 3) == 0)) {
        bind_somewhere(world, a);
    } else if (actor->alive) {
        tend_agents(world, a);
    } else if (!world->actors->quiet && below(world, 4) == 0) {
        actor_begin_life(world, a, actor->epoch + 1 + below(world, 2));
    }
    world_schedule(world, between(world, actor->pace / 4, actor->pace),
                   (struct event){.fire = fire_doing, .node = -1, .other = a});
}

void actor_wake(struct world *world, int actor)
{
    world_schedule(world, between(world, 0, actor_of(world, actor)->pace),
                   (struct event){.fire = fire_doing, .node = -1, .other = actor});
}
