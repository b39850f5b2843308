/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario.c - what happens to a random cluster. Two to nine nodes on one to three routers, a few gateways and servers
 * without session, links of some weather, a fault now and then; some seconds of that, then everything is healed, and
 * the world must come to rest.
 */
#include "scenario.h"

#include "actors.h"
#include "invariants.h"
#include "network.h"

#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------------------- set up */

static struct link weather(struct world *world)
{
    struct link link = network_good_link();
    switch (below(world, 5)) {
    case 0:
    case 1:
        break;
    case 2: /* far apart */
        link.delay_min = 20 * MILLISECOND;
        link.delay_max = 120 * MILLISECOND;
        break;
    case 3: /* lossy */
        link.loss = 100 + below(world, 900);
        link.twice = below(world, 300);
        link.reorder = below(world, 300);
        link.reorder_by = 50 * MILLISECOND;
        break;
    default: /* a storm */
        link.delay_max = between(world, 2, 300) * MILLISECOND;
        link.loss = below(world, 2500);
        link.twice = below(world, 2000);
        link.reorder = below(world, 2500);
        link.reorder_by = between(world, 1, 800) * MILLISECOND;
        break;
    }
    return link;
}

/* Mostly short times, so that much happens; sometimes the usual ones. */
static void choose_config(struct world *world)
{
    struct step_config *config = &world->config;
    if (below(world, 12) > 0) {
        config->interval = 200 + below(world, 4) * 100;
        config->lease = config->interval * (5 + below(world, 3));
        config->settle = 2000 + below(world, 3000);
        config->hold = config->lease + below(world, 4000);
        config->activity = 500 + below(world, 3000);
    }
    if (below(world, 8) == 0) {
        config->buffer_bytes = 300 + below(world, 2000);
    }
    if (below(world, 8) == 0) {
        config->forget_after = 2 * config->lease;
    }
    if (below(world, 3) != 0) {
        config->chunk_values = 1 + below(world, 5); /* states of several chunks, which are recorded as they come */
    }
    world->late_ns = (below(world, 4) == 0 ? 20 : 2) * MILLISECOND;
    uint64_t die = (world->options.seed + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 40; /* without a throw of the dice */
    if (die % 2 == 0) {
        config->most_changes = die / 2 % 8; /* gaps are closed by what came since */
    }
}

static void choose_nodes(struct world *world)
{
    static const unsigned counts[] = {2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9};
    unsigned count = counts[below(world, 14)], routers = 1 + below(world, MOST_ROUTERS);
    bool twins = below(world, 20) == 0;
    for (unsigned i = 0; i < count; i++) {
        char name[NAME_ROOM];
        snprintf(name, sizeof name, "n%u", twins && i == count - 1 ? 0 : i);
        int node = world_node(world, name);
        world->network->router[node] = (int)below(world, routers);
        world->nodes[node].history_bytes = below(world, 3) == 0 ? 4 * 1024 * 1024 : 1;
        if (below(world, 3) == 0) {
            world->nodes[node].job_ns = between(world, 1, 2 * world->config.interval) * MILLISECOND;
        }
    }
}

static void choose_actors(struct world *world)
{
    unsigned gateways = 1 + below(world, 3), others = below(world, 2);
    for (unsigned i = 0; i < gateways + others; i++) {
        char name[NAME_ROOM];
        bool session = i < gateways;
        snprintf(name, sizeof name, session ? "g%u" : "d%u", i);
        int actor = actor_new(world, name, session, session ? 1 + below(world, 3) : 0, true);
        actor_of(world, actor)->pace = between(world, 50, 1500) * MILLISECOND;
        actor_of(world, actor)->data_bytes = below(world, 6) == 0 ? 4000 : 0; /* states of several chunks */
        actor_wake(world, actor);
    }
}

static void fire_start(struct world *world, const struct event *event)
{
    enum node_state state = world->nodes[event->node].state;
    if (!world->actors->quiet && (state == NODE_ABSENT || state == NODE_GONE)) {
        world_start(world, event->node);
    }
}

static void start_later(struct world *world, int node, uint64_t after)
{
    world_schedule(world, after, (struct event){.fire = fire_start, .node = node, .life = world->nodes[node].life});
}

/* ----------------------------------------------------------------------------------------------------------- faults */

static int some_node(struct world *world)
{
    return (int)below(world, (unsigned)world->node_count);
}

static void fire_connect(struct world *world, const struct event *event)
{
    network_connect(world, event->node, event->other);
}

static void fire_continue(struct world *world, const struct event *event)
{
    if (world->nodes[event->node].state == NODE_STOPPED) {
        world_continue(world, event->node);
    }
}

static void fire_end(struct world *world, const struct event *event)
{
    if (world->nodes[event->node].state == NODE_UP || world->nodes[event->node].state == NODE_STOPPED) {
        world_crash(world, event->node);
    }
    if (below(world, 3) > 0) {
        start_later(world, event->node, between(world, 1, 3 * world->config.lease) * MILLISECOND);
    }
}

/* A time that a lease may or may not outlast. */
static uint64_t some_time(struct world *world)
{
    uint64_t lease = world->config.lease;
    return between(world, 10, below(world, 3) == 0 ? 3 * lease : lease) * MILLISECOND;
}

static void crash(struct world *world, int node)
{
    if (world->nodes[node].state == NODE_UP || world->nodes[node].state == NODE_STOPPED) {
        world_crash(world, node);
        if (below(world, 4) > 0) {
            start_later(world, node, some_time(world));
        }
    }
}

static void leave(struct world *world, int node)
{
    if (world_is_running(world, node)) {
        world_leave(world, node);
        world_schedule(world, between(world, 1, 500) * MILLISECOND,
                       (struct event){.fire = fire_end, .node = node, .life = world->nodes[node].life});
    }
}

static void stop(struct world *world, int node)
{
    if (world->nodes[node].state == NODE_UP) {
        world_stop(world, node);
        world_schedule(world, some_time(world),
                       (struct event){.fire = fire_continue, .node = node, .life = world->nodes[node].life});
    }
}

enum mend { MEND_LINKS, MEND_NODE, MEND_ROUTES };

static void fire_mend(struct world *world, const struct event *event)
{
    struct network *network = world->network;
    int a = event->node, b = event->other;
    tell(world, a, "is mended");
    switch ((enum mend)event->number) {
    case MEND_LINKS:
        network->links[a][b].cut = network->links[b][a].cut = false;
        break;
    case MEND_NODE:
        network->mute[a] = network->deaf[a] = false;
        break;
    case MEND_ROUTES:
        network->route_cut[a % MOST_ROUTERS][b] = network->route_cut[b][a % MOST_ROUTERS] = false;
        break;
    }
}

static void mend_later(struct world *world, enum mend mend, int a, int b)
{
    world_schedule(world, some_time(world), (struct event){.fire = fire_mend, .node = a, .other = b, .number = mend});
}

static void cut_something(struct world *world)
{
    struct network *network = world->network;
    int a = some_node(world), b = some_node(world);
    switch (below(world, 6)) {
    case 0:
        if (a != b) {
            tell(world, a, "no longer reaches %s", world->nodes[b].name);
            network->links[a][b].cut = true;
            mend_later(world, MEND_LINKS, a, b);
        }
        break;
    case 1:
        if (a != b) {
            network_cut_pair(world, a, b, true);
            mend_later(world, MEND_LINKS, a, b);
        }
        break;
    case 2:
        tell(world, a, "is mute");
        network->mute[a] = true;
        mend_later(world, MEND_NODE, a, 0);
        break;
    case 3:
        tell(world, a, "is deaf");
        network->deaf[a] = true;
        mend_later(world, MEND_NODE, a, 0);
        break;
    default:
        a = (int)below(world, MOST_ROUTERS), b = (a + 1) % MOST_ROUTERS;
        network_cut_route(world, a, b, true);
        if (below(world, 4) == 0) {
            tell(world, -1, "one way only");
            network->route_cut[b][a] = false;
        }
        mend_later(world, MEND_ROUTES, a % world->node_count, b);
        break;
    }
}

static void lose_connection(struct world *world, int node)
{
    if (world->nodes[node].state == NODE_UP && !world->network->down[node]) {
        network_disconnect(world, node);
        world_schedule(world, some_time(world),
                       (struct event){.fire = fire_connect,
                                      .node = node,
                                      .life = world->nodes[node].life,
                                      .other = (int)below(world, MOST_ROUTERS)});
    }
}

/* Routers that die take every connection with them. */
static void lose_router(struct world *world)
{
    int router = (int)below(world, MOST_ROUTERS);
    for (int node = 0; node < world->node_count; node++) {
        if (world->network->router[node] == router) {
            lose_connection(world, node);
        }
    }
}

static void forget(struct world *world, int node)
{
    int server = (int)below(world, (unsigned)world->server_count);
    if (world_is_up(world, node)) {
        int code = step_forget(world->nodes[node].step, node_now(&world->nodes[node]), world->servers[server]);
        tell(world, node, "an operator forgets %s: %s", world->servers[server], presence_error_name(code));
        world_after(world, node);
    }
}

/* A change that its origin never made, under the number that it will take next: then it makes another. */
static void corrupt(struct world *world, int node)
{
    int a = (int)below(world, (unsigned)world->actors->count);
    struct actor *actor = actor_of(world, a);
    presence_server_description there, here;
    if (!world_is_running(world, node) || !actor->alive || !world_is_running(world, actor->node) ||
        presence_replica_describe(world->nodes[actor->node].recorder, world->servers[actor->server], &there) ||
        presence_replica_describe(world->nodes[node].recorder, world->servers[actor->server], &here) || here.local ||
        !there.local || here.number != there.number || here.number == 0 ||
        presence_claim_compare(&here.claim, &there.claim) != 0) {
        return;
    }
    presence_change change = {.number = here.number + 1, .kind = PRESENCE_CHANGE_CONNECT, .time = 1};
    change.value = test_value(world->servers[actor->server], 7777, SIM_MODEL, "corrupted");
    invariants_excuse(world, node, actor->server);
    presence_replica_apply(world->nodes[node].recorder, world->servers[actor->server], &here.claim, &change, NULL,
                           NULL);
    world_after(world, node);
    actor_connect(world, a, actor->next_id);
}

static void slow_down(struct world *world, int node)
{
    world->network->bytes_per_second[node] = below(world, 2) == 0 ? 0 : between(world, 5000, 50000);
    tell(world, node, "sends %llu bytes a second", (unsigned long long)world->network->bytes_per_second[node]);
}

static void fire_fault(struct world *world, const struct event *event)
{
    if (world->actors->quiet) {
        return;
    }
    int node = some_node(world);
    unsigned dice = below(world, 100);
    if (dice < 22) {
        cut_something(world);
    } else if (dice < 38) {
        crash(world, node);
    } else if (dice < 52) {
        stop(world, node);
    } else if (dice < 62) {
        lose_connection(world, node);
    } else if (dice < 66) {
        lose_router(world);
    } else if (dice < 72) {
        leave(world, node);
    } else if (dice < 78) {
        world_jump_clock(world, node, ((presence_time)below(world, 7200) - 3600) * (presence_time)SECOND);
    } else if (dice < 84) {
        forget(world, node);
    } else if (dice < 88) {
        slow_down(world, node);
    } else if (event->number > 0) {
        corrupt(world, node);
    } else {
        struct link manners = weather(world);
        tell(world, -1, "the weather changes: loss %u, twice %u, reorder %u", manners.loss, manners.twice,
             manners.reorder);
        network_set_all(world, &manners);
    }
    world_schedule(world, between(world, 1, 2 * world->config.lease) * MILLISECOND,
                   (struct event){.fire = fire_fault, .node = -1, .number = event->number});
}

/* -------------------------------------------------------------------------------------------------------------- run */

/* A gateway and its node die at once, with the last word under way: of its server there is what others remember. */
static void die_with_its_node(struct world *world, int a)
{
    struct actor *actor = actor_of(world, a);
    int node = actor->node;
    if (!actor->session || !actor->alive || !world_is_running(world, node)) {
        return;
    }
    actor_connect(world, a, actor->next_id);
    world_run(world, between(world, 0, 20) * MILLISECOND);
    if (actor->node == node && world_is_running(world, node)) {
        world_crash(world, node);
        actor_die(world, a, 0, PRESENCE_REASON_TIMED_OUT);
        world_run(world, between(world, 0, 2 * world->config.lease) * MILLISECOND);
    }
}

/* Two nodes may have one name: the second to join ends by itself, which it may not have found out yet. */
static bool has_twin(const struct world *world, int node)
{
    for (int other = 0; other < world->node_count; other++) {
        if (other != node && strcmp(world->nodes[node].name, world->nodes[other].name) == 0) {
            return true;
        }
    }
    return false;
}

/* Who leaves is gone; of those that are gone some come back, and one runs at least. */
static void end_the_day(struct world *world)
{
    int running = 0;
    if (below(world, 3) == 0) {
        die_with_its_node(world, (int)below(world, (unsigned)world->actors->count));
    }
    world->actors->quiet = true;
    for (int node = 0; node < world->node_count; node++) {
        bool runs = world->nodes[node].state == NODE_UP || world->nodes[node].state == NODE_STOPPED;
        bool unready_twin = runs && has_twin(world, node) && !step_ready(world->nodes[node].step);
        if (unready_twin || (world->nodes[node].state == NODE_UP && world->nodes[node].leaving)) {
            world_crash(world, node);
        }
        running += world_is_running(world, node) || world->nodes[node].state == NODE_STOPPED;
    }
    for (int node = 0; node < world->node_count; node++) {
        bool gone = world->nodes[node].state == NODE_GONE || world->nodes[node].state == NODE_ABSENT;
        if (gone && (running == 0 || (below(world, 2) == 0 && !has_twin(world, node)))) {
            world_start(world, node);
            running++;
        }
    }
}

void scenario_run(struct world *world)
{
    choose_config(world);
    struct link manners = weather(world);
    network_set_all(world, &manners);
    choose_nodes(world);
    choose_actors(world);
    for (int node = 0; node < world->node_count; node++) {
        start_later(world, node, below(world, 3) == 0 ? some_time(world) : 0);
    }
    world_run(world, between(world, 0, 2 * world->config.lease) * MILLISECOND);
    bool calm = below(world, 10) == 0;
    if (!calm) {
        world_schedule(world, 0, (struct event){.fire = fire_fault, .node = -1, .number = below(world, 4) == 0});
    }
    world_run(world, between(world, 2, 8) * world->config.lease * MILLISECOND);
    end_the_day(world);
    world_rest(world);
}
