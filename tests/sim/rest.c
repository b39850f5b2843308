/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rest.c - rule 4: once everything is healed and the actors have come to rest, the nodes agree within the stated bound,
 * which is two leases, the hold and twenty beats, or the settle time and ten beats if that is longer.
 */
#include "invariants.h"

#include "actors.h"
#include "network.h"
#include "truth.h"

#include <string.h>

struct held {
    bool known;
    presence_server_description described;
};

static struct held look(struct world *world, int node, int server)
{
    struct held held = {.known = false};
    held.known =
        presence_replica_describe(world->nodes[node].recorder, world->servers[server], &held.described) == PRESENCE_OK;
    return held;
}

static bool agree(const struct held *a, const struct held *b)
{
    const presence_server_description *x = &a->described, *y = &b->described;
    if (!a->known || !b->known) {
        return a->known == b->known;
    }
    return presence_claim_compare(&x->claim, &y->claim) == 0 && x->number == y->number &&
           x->digest.all == y->digest.all && x->digest.alive == y->digest.alive && x->connections == y->connections &&
           x->alive == y->alive && x->forgotten == y->forgotten;
}

static void describe_held(const struct held *held, char *text, size_t room)
{
    const presence_server_description *d = &held->described;
    if (!held->known) {
        snprintf(text, room, "nothing");
        return;
    }
    snprintf(text, room, "%llu.%llu.%04x#%llu %zu/%zu%s%s%s, %zu inherited, digest %016llx",
             (unsigned long long)d->claim.epoch, (unsigned long long)d->claim.turn,
             (unsigned)(d->claim.random & 0xffff), (unsigned long long)d->number, d->alive, d->connections,
             d->local ? " local" : "", d->lapsed ? " lapsed" : "", d->forgotten ? " forgotten" : "", d->inherited,
             (unsigned long long)d->digest.all);
}

static void blame_two(struct world *world, const char *what, int server, int a, int b)
{
    struct held held_a = look(world, a, server), held_b = look(world, b, server);
    char text_a[160], text_b[160];
    describe_held(&held_a, text_a, sizeof text_a);
    describe_held(&held_b, text_b, sizeof text_b);
    world_blame(world, "rule 4: of %s %s: %s holds %s; %s holds %s", world->servers[server], what, world->nodes[a].name,
                text_a, world->nodes[b].name, text_b);
}

/* ------------------------------------------------------------------------------------------------------ each server */

static const char *const DOUBTS[] = {"fresh", "joining", "deaf", "silent"};

static void check_fresh(struct world *world, int n, int server, int origin)
{
    const struct node *node = &world->nodes[n];
    struct step_freshness freshness;
    step_freshness(node->step, node_now(node), world->servers[server], &freshness);
    if (freshness.doubt != STEP_FRESH || strcmp(freshness.node, world->nodes[origin].name) != 0) {
        world_blame(world, "rule 4: on %s %s is %s, of node \"%s\", and should be fresh, of %s", node->name,
                    world->servers[server], DOUBTS[freshness.doubt], freshness.node, world->nodes[origin].name);
    }
}

static void check_live(struct world *world, int server, int origin)
{
    struct held stated = look(world, origin, server);
    if (stated.described.inherited > 0) {
        blame_two(world, "something is still inherited", server, origin, origin);
    }
    for (int n = 0; n < world->node_count; n++) {
        if (!world_is_running(world, n)) {
            continue;
        }
        struct held held = look(world, n, server);
        if (!agree(&stated, &held) || held.described.lapsed || held.described.inherited > 0) {
            blame_two(world, "not all hold what its origin states", server, origin, n);
        } else if (n != origin && held.described.local) {
            blame_two(world, "two nodes are the origin", server, origin, n);
        }
        check_fresh(world, n, server, origin);
    }
}

/* Of every connection that the node shows of the server, inherited or not: what it says, in one number. */
static uint64_t shown_on(struct world *world, int n, const char *server)
{
    presence_connections *all = presence_recorder_connections(world->nodes[n].recorder);
    presence_connections *slice = presence_connections_for_server(all, server);
    must(slice != NULL);
    presence_cursor cursor = {{0}};
    presence_value value;
    uint64_t sum = 0;
    while (presence_connections_next(slice, &cursor, &value)) {
        uint64_t hash = value.connection_id * 4 + (unsigned)value.status * 2 + value.controller_agent;
        for (const char *at = value.agent; *at != '\0'; at++) {
            hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
        }
        for (const char *at = value.user_data; *at != '\0'; at++) {
            hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
        }
        sum += (hash ^ hash >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    }
    presence_connections_free(slice);
    presence_connections_free(all);
    return sum;
}

static void check_dead(struct world *world, int server, presence_claim greatest, uint64_t number)
{
    int first = -1;
    for (int n = 0; n < world->node_count; n++) {
        if (!world_is_running(world, n)) {
            continue;
        }
        struct held held = look(world, n, server), held_first = first >= 0 ? look(world, first, server) : held;
        first = first >= 0 ? first : n;
        presence_counts counts = {0};
        presence_recorder_server_counts(world->nodes[n].recorder, world->servers[server], &counts);
        bool fenced = greatest.epoch || greatest.turn || greatest.random;
        int compared = held.known ? presence_claim_compare(&held.described.claim, &greatest) : -1;
        if (!agree(&held, &held_first)) {
            blame_two(world, "which nobody states, not all hold the same", server, first, n);
        } else if (shown_on(world, n, world->servers[server]) != shown_on(world, first, world->servers[server])) {
            blame_two(world, "which nobody states, not all show the same", server, first, n);
        } else if (counts.alive > 0) {
            blame_two(world, "which nobody states, something is alive", server, n, n);
        } else if (fenced && (compared < 0 || (compared == 0 && held.described.number < number))) {
            blame_two(world, "which nobody states, the greatest that survived is lost", server, n, n);
        }
    }
}

/* The agents that its gateway has are alive, with what it says of them, and no others are. */
static void check_agents(struct world *world, int n, struct actor *actor)
{
    const char *server = world->servers[actor->server], *node = world->nodes[n].name;
    presence_connections *all = presence_recorder_connections(world->nodes[n].recorder);
    presence_connections *slice = presence_connections_for_server(all, server);
    must(slice != NULL);
    size_t alive = 0, found = 0;
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(slice, &cursor, &value)) {
        alive += value.status == PRESENCE_ALIVE;
    }
    for (size_t i = 0; i < actor->count; i++) {
        char name[AGENT_ROOM], data[DATA_ROOM];
        const struct agent *agent = &actor->agents[i];
        agent_name(name, world, actor->server, actor->epoch, agent->id);
        if (presence_connections_find(slice, server, agent->id, &value) != PRESENCE_OK ||
            value.status != PRESENCE_ALIVE || strcmp(value.agent, name) != 0 ||
            strcmp(value.user_data, agent_data(data, actor, agent->version)) != 0 ||
            value.controller_agent != agent->controller) {
            world_blame(world, "rule 4: %s is connected, and %s does not say so", name, node);
            break;
        }
        found++;
    }
    if (alive != found) {
        world_blame(world, "rule 4: %s says that %zu agents of %s are alive, and %zu are", node, alive, server, found);
    }
    presence_connections_free(slice);
    presence_connections_free(all);
}

static void check_server(struct world *world, int server)
{
    int origin = -1;
    for (int n = 0; n < world->node_count; n++) {
        struct held held = world_is_running(world, n) ? look(world, n, server) : (struct held){.known = false};
        if (!held.known || !held.described.local) {
            continue;
        }
        if (origin >= 0) {
            blame_two(world, "two nodes are the origin", server, origin, n);
        }
        origin = n;
    }
    int a = actor_of_server(world, server);
    struct actor *actor = a >= 0 ? actor_of(world, a) : NULL;
    if (origin >= 0) {
        check_live(world, server, origin);
    } else {
        presence_claim greatest;
        uint64_t number;
        invariants_greatest(world, server, &greatest, &number);
        check_dead(world, server, greatest, number);
    }
    for (int n = 0; actor != NULL && n < world->node_count && !world->blamed; n++) {
        if (world_is_running(world, n)) {
            check_agents(world, n, actor);
        }
    }
}

/* -------------------------------------------------------------------------------------------------------- each node */

static void check_node(struct world *world, int n)
{
    const struct node *node = &world->nodes[n];
    struct step_freshness freshness;
    presence_error error = {0};
    step_freshness(node->step, node_now(node), NULL, &freshness);
    if (!step_ready(node->step)) {
        world_blame(world, "rule 4: %s is not ready", node->name);
    } else if (freshness.doubt != STEP_FRESH) {
        world_blame(world, "rule 4: %s is %s", node->name, DOUBTS[freshness.doubt]);
    } else if (presence_recorder_check(node->recorder, &error) != PRESENCE_OK) {
        world_blame(world, "the record of %s is broken: %s", node->name, error.message);
    }
}

void invariants_rest(struct world *world)
{
    for (int n = 0; n < world->node_count; n++) {
        if (world_is_running(world, n)) {
            check_node(world, n);
        }
    }
    for (int server = 0; server < world->server_count && !world->blamed; server++) {
        check_server(world, server);
    }
    world_end_if_blamed(world);
}

void world_rest(struct world *world)
{
    const struct step_config *config = &world->config;
    uint64_t bound = (2 * config->lease + config->hold + 20 * config->interval) * MILLISECOND;
    uint64_t settle = (config->settle + 10 * config->interval) * MILLISECOND;
    bound = settle > bound ? settle : bound;
    network_heal(world);
    world->actors->quiet = true;
    for (int n = 0; n < world->node_count; n++) {
        if (world->nodes[n].state == NODE_STOPPED) {
            world_continue(world, n);
        }
    }
    invariants_healed(world);
    uint64_t healed = world->now, quiet = world->now;
    do {
        world_run(world, SECOND);
        uint64_t content = actors_content_since(world);
        content = content == UINT64_MAX ? world->now : content;
        quiet = content > quiet ? content : quiet;
        if (world->now - healed > 5 * bound) {
            world_blame(world, "rule 4: five times the bound of rest is over, and some gateway still has no session");
            world_end_if_blamed(world);
        }
    } while (world->now - quiet < bound);
    invariants_rest(world);
}
