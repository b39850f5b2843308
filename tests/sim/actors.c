/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actors.c - gateways that bind servers to nodes, lose them, move, die and live again.
 *
 * Keeps true: an actor that runs and is bound has stated all its agents; one whose call is answered STALE, or is told
 * that it is superseded, has lost its session and binds anew. What a session leaves behind on a node that has not
 * noticed (a ghost) is said there later, as a daemon does after a grace or a keepalive.
 */
#include "actors.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_GHOSTS = 4096, MOST_REVISIONS = 4 };

struct ghost {
    int actor, node;
    unsigned life;
    uint64_t epoch;
    presence_reason reason;
};

struct all_actors {
    struct actors seen; /* what others see of it: first */
    struct ghost ghosts[MOST_GHOSTS];
    size_t ghost_count;
};

static struct all_actors *inside(const struct world *world)
{
    return (struct all_actors *)world->actors;
}

struct actors *actors_new(void)
{
    struct all_actors *actors = calloc(1, sizeof *actors);
    must(actors != NULL);
    return &actors->seen;
}

void actors_free(struct actors *actors)
{
    for (int i = 0; i < actors->count; i++) {
        free(actors->list[i].agents);
    }
    free(actors);
}

struct actor *actor_of(struct world *world, int actor)
{
    return &world->actors->list[actor];
}

int actor_of_server(const struct world *world, int server)
{
    for (int i = 0; i < world->actors->count; i++) {
        if (world->actors->list[i].server == server) {
            return i;
        }
    }
    return -1;
}

static char *add_number(char *at, uint64_t number)
{
    char digits[24];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        *at++ = digits[--count];
    }
    return at;
}

/* By hand: it is made for every agent that a rule looks for. */
const char *agent_name(char *room, const struct world *world, int server, uint64_t epoch, uint64_t id)
{
    char *at = stpcpy(stpcpy(room, world->servers[server]), ".e");
    at = stpcpy(add_number(at, epoch), ".i");
    *add_number(at, id) = '\0';
    return room;
}

const char *agent_data(char *room, const struct actor *actor, unsigned version)
{
    must(actor->data_bytes + AGENT_ROOM <= DATA_ROOM);
    snprintf(room, AGENT_ROOM + actor->data_bytes, "version %u%*s", version, (int)actor->data_bytes, "");
    return room;
}

/* ---------------------------------------------------------------------------------------------------------- agents */

static struct agent *find_agent(struct actor *actor, uint64_t id)
{
    for (size_t i = 0; i < actor->count; i++) {
        if (actor->agents[i].id == id) {
            return &actor->agents[i];
        }
    }
    return NULL;
}

static void add_agent(struct actor *actor, struct agent agent)
{
    if (actor->count == actor->room) {
        actor->room = actor->room * 2 + MOST_AGENTS;
        actor->agents = realloc(actor->agents, actor->room * sizeof *actor->agents);
        must(actor->agents != NULL);
    }
    actor->agents[actor->count] = agent;
    actor->next_id = agent.id >= actor->next_id ? agent.id + 1 : actor->next_id;
    actor->count++;
}

/* ------------------------------------------------------------------------------------------------ calls on the node */

static void lose_session(struct world *world, struct actor *actor, const char *why)
{
    tell(world, actor->node, "%s has lost its session: %s", world->servers[actor->server], why);
    actor->node = -1;
    actor->changed_at = world->now;
    world->actors->losses++;
}

/* The recorder of the node where it is bound, if that answers. */
static presence_recorder *recorder_of(struct world *world, const struct actor *actor)
{
    return actor->alive && world_is_up(world, actor->node) ? world->nodes[actor->node].recorder : NULL;
}

/* What a call was answered. STALE: another has the server. Everything else should not be. */
static void answered(struct world *world, struct actor *actor, const char *call, int code)
{
    int node = actor->node;
    if (code == PRESENCE_E_STALE) {
        lose_session(world, actor, "stale");
    } else if (code != PRESENCE_OK) {
        world_blame(world, "%s of %s on %s is answered %s", call, world->servers[actor->server],
                    world->nodes[node].name, presence_error_name(code));
    }
    world_after(world, node);
}

static int connect_on_node(struct world *world, const struct actor *actor, const struct agent *agent)
{
    char name[AGENT_ROOM], data[DATA_ROOM];
    return presence_recorder_connect(world->nodes[actor->node].recorder, world->servers[actor->server], SIM_MODEL,
                                     agent_name(name, world, actor->server, actor->epoch, agent->id), agent->id,
                                     agent->controller, agent_data(data, actor, agent->version));
}

void actor_add(struct world *world, int a, uint64_t id)
{
    add_agent(actor_of(world, a), (struct agent){.id = id, .controller = id % 16 == 15});
}

void actor_connect(struct world *world, int a, uint64_t id)
{
    struct actor *actor = actor_of(world, a);
    struct agent *agent = find_agent(actor, id);
    if (agent == NULL) {
        actor_add(world, a, id);
        agent = find_agent(actor, id);
    }
    if (recorder_of(world, actor) != NULL) {
        tell(world, actor->node, "%s connects %llu", world->servers[actor->server], (unsigned long long)id);
        answered(world, actor, "connect", connect_on_node(world, actor, agent));
    }
}

void actor_revise(struct world *world, int a, uint64_t id)
{
    struct agent *agent = find_agent(actor_of(world, a), id);
    must(agent != NULL);
    agent->version = (agent->version + 1) % MOST_REVISIONS;
    actor_connect(world, a, id);
}

void actor_disconnect(struct world *world, int a, uint64_t id)
{
    struct actor *actor = actor_of(world, a);
    struct agent *agent = find_agent(actor, id);
    must(agent != NULL);
    *agent = actor->agents[--actor->count];
    presence_recorder *recorder = recorder_of(world, actor);
    if (recorder != NULL) {
        tell(world, actor->node, "%s disconnects %llu", world->servers[actor->server], (unsigned long long)id);
        answered(world, actor, "disconnect", presence_recorder_disconnect(recorder, world->servers[actor->server], id));
    }
}

void actor_activity(struct world *world, int a, uint64_t id)
{
    struct actor *actor = actor_of(world, a);
    presence_recorder *recorder = recorder_of(world, actor);
    if (recorder != NULL) {
        tell(world, actor->node, "%s: %llu is active", world->servers[actor->server], (unsigned long long)id);
        answered(world, actor, "activity", presence_recorder_activity(recorder, world->servers[actor->server], id));
    }
}

static int state_whole_list(struct world *world, const struct actor *actor)
{
    size_t count = actor->count;
    presence_value *values = calloc(count + 1, sizeof *values);
    size_t room = AGENT_ROOM + actor->data_bytes;
    char(*names)[AGENT_ROOM] = calloc(count + 1, sizeof *names), *data = calloc(count + 1, room);
    must(values != NULL && names != NULL && data != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct agent *agent = &actor->agents[i];
        values[i] = test_value(world->servers[actor->server], agent->id, SIM_MODEL,
                               agent_name(names[i], world, actor->server, actor->epoch, agent->id));
        values[i].user_data = agent_data(&data[i * room], actor, agent->version);
        values[i].controller_agent = agent->controller;
    }
    int code = presence_recorder_update_server(world->nodes[actor->node].recorder, world->servers[actor->server],
                                               values, count, NULL);
    free(values);
    free(names);
    free(data);
    return code;
}

void actor_whole_list(struct world *world, int a)
{
    struct actor *actor = actor_of(world, a);
    if (recorder_of(world, actor) != NULL) {
        tell(world, actor->node, "%s states its whole list of %zu", world->servers[actor->server], actor->count);
        answered(world, actor, "update_server", state_whole_list(world, actor));
    }
}

/* --------------------------------------------------------------------------------------------------------- sessions */

static int claim_on_node(struct world *world, const struct actor *actor, int n)
{
    struct node *node = &world->nodes[n];
    int code = step_claim(node->step, node_now(node), world->servers[actor->server], actor->session, actor->epoch);
    tell(world, n, "%s claims, epoch %llu: %s", world->servers[actor->server], (unsigned long long)actor->epoch,
         presence_error_name(code));
    world_expect_run(world, n, between(world, 0, MILLISECOND));
    return code;
}

/* Who has no session just connects, and claims only what is stale. */
static bool must_claim(struct world *world, const struct actor *actor, int node)
{
    presence_server_description described;
    return actor->session || (presence_replica_describe(world->nodes[node].recorder, world->servers[actor->server],
                                                        &described) == PRESENCE_OK &&
                              !described.local);
}

/* Connects each of its agents. Where the node stated the server already, a session says at the end of its grace what
 * was not restated; else the settle time of the new claim does. */
static void state_singly(struct world *world, int a, bool stated_here)
{
    struct actor *actor = actor_of(world, a);
    presence_recorder *recorder = world->nodes[actor->node].recorder;
    uint64_t mark = 0;
    presence_recorder_mark(recorder, &mark);
    tell(world, actor->node, "%s states each of its %zu agents", world->servers[actor->server], actor->count);
    for (size_t i = 0; i < actor->count && actor->node >= 0; i++) {
        answered(world, actor, "connect", connect_on_node(world, actor, &actor->agents[i]));
    }
    if (stated_here && actor->node >= 0) {
        answered(world, actor, "server_down_unstated",
                 presence_recorder_server_down_unstated(recorder, world->servers[actor->server], mark,
                                                        PRESENCE_REASON_TIMED_OUT, NULL));
    }
}

/* By a claim of its own of that life, or unclaimed. */
static bool stated_on(struct world *world, const struct actor *actor, int node, uint64_t epoch)
{
    presence_server_description described;
    if (presence_replica_describe(world->nodes[node].recorder, world->servers[actor->server], &described)) {
        return false;
    }
    bool claimed = described.claim.epoch || described.claim.turn || described.claim.random;
    return !claimed || (described.local && (!actor->session || described.claim.epoch == epoch));
}

int actor_bind(struct world *world, int a, int node)
{
    struct actor *actor = actor_of(world, a);
    must(actor->alive && world_is_up(world, node));
    bool stated_here = stated_on(world, actor, node, actor->epoch);
    int code = must_claim(world, actor, node) ? claim_on_node(world, actor, node) : PRESENCE_OK;
    world_after(world, node);
    if (code != PRESENCE_OK) {
        return code;
    }
    actor->node = node;
    actor->life = world->nodes[node].life;
    actor->changed_at = world->now;
    if (actor->restates_singly) {
        state_singly(world, a, stated_here);
    } else {
        actor_whole_list(world, a);
    }
    return PRESENCE_OK;
}

void actors_lose_node(struct world *world, int node)
{
    for (int i = 0; i < world->actors->count; i++) {
        if (world->actors->list[i].node == node) {
            lose_session(world, &world->actors->list[i], "its node is gone");
        }
    }
}

static void fire_superseded(struct world *world, const struct event *event)
{
    struct actor *actor = actor_of(world, event->other);
    if (actor->node == event->node) {
        lose_session(world, actor, "superseded");
    }
}

void actors_superseded(struct world *world, int node, const char *name)
{
    int server = world_server_of(world, name), actor = server >= 0 ? actor_of_server(world, server) : -1;
    if (actor >= 0 && actor_of(world, actor)->node == node) {
        world_schedule(
            world, between(world, MICROSECOND, 20 * MILLISECOND),
            (struct event){.fire = fire_superseded, .node = node, .life = world->nodes[node].life, .other = actor});
    }
}

/* ----------------------------------------------------------------------------------------------------------- ghosts */

static void say_down(struct world *world, const struct ghost *ghost, const char *server)
{
    presence_recorder *recorder = world->nodes[ghost->node].recorder;
    struct actor *actor = actor_of(world, ghost->actor);
    if (!stated_on(world, actor, ghost->node, ghost->epoch)) {
        return;
    }
    tell(world, ghost->node, "%s is said to be down: %s", server, presence_reason_string(ghost->reason));
    if (actor->session) {
        presence_recorder_server_down_because(recorder, server, ghost->reason, NULL);
    }
    for (uint64_t id = 1; !actor->session && id < actor->next_id; id++) {
        presence_recorder_disconnect(recorder, server, id);
    }
}

static void fire_ghost(struct world *world, const struct event *event)
{
    const struct ghost *ghost = &inside(world)->ghosts[event->number];
    struct actor *actor = actor_of(world, ghost->actor);
    const struct node *node = &world->nodes[ghost->node];
    if (node->life == ghost->life && node->state == NODE_STOPPED) {
        world_schedule(world, 500 * MILLISECOND, *event);
        return;
    }
    world->actors->ghosts--;
    actor->changed_at = world->now;
    if (node->life == ghost->life && actor->node != ghost->node && !node->leaving) {
        say_down(world, ghost, world->servers[actor->server]);
        world_after(world, ghost->node);
    }
}

void actor_leaves_ghost(struct world *world, int a, uint64_t after, presence_reason reason)
{
    struct actor *actor = actor_of(world, a);
    struct all_actors *actors = inside(world);
    if (actor->node < 0) {
        return;
    }
    must(actors->ghost_count < MOST_GHOSTS);
    actors->ghosts[actors->ghost_count] = (struct ghost){a, actor->node, actor->life, actor->epoch, reason};
    world_schedule(world, after, (struct event){.fire = fire_ghost, .node = -1, .number = actors->ghost_count++});
    world->actors->ghosts++;
    tell(world, actor->node, "%s is no longer bound here, which will be noticed in %llu ms",
         world->servers[actor->server], (unsigned long long)(after / MILLISECOND));
    actor->node = -1;
    actor->changed_at = world->now;
}

/* ------------------------------------------------------------------------------------------------------------ lives */

int actor_new(struct world *world, const char *server, bool session, uint64_t epoch, bool by_itself)
{
    must(world->actors->count < MOST_ACTORS);
    struct actor *actor = &world->actors->list[world->actors->count];
    *actor = (struct actor){.server = world_server(world, server),
                            .session = session,
                            .alive = true,
                            .by_itself = by_itself,
                            .epoch = epoch,
                            .node = -1,
                            .next_id = 1,
                            .pace = 500 * MILLISECOND,
                            .changed_at = world->now};
    return world->actors->count++;
}

void actor_die(struct world *world, int a, uint64_t after, presence_reason reason)
{
    struct actor *actor = actor_of(world, a);
    tell(world, actor->node, "%s dies", world->servers[actor->server]);
    actor_leaves_ghost(world, a, after, reason);
    actor->alive = false;
    actor->count = 0;
    actor->changed_at = world->now;
}

void actor_begin_life(struct world *world, int a, uint64_t epoch)
{
    struct actor *actor = actor_of(world, a);
    must(epoch > actor->epoch);
    tell(world, -1, "%s lives, epoch %llu", world->servers[actor->server], (unsigned long long)epoch);
    actor->alive = true;
    actor->epoch = epoch;
    actor->count = 0;
    actor->next_id = 1;
    actor->node = -1;
    actor->changed_at = world->now;
}

uint64_t actors_content_since(const struct world *world)
{
    uint64_t since = 0;
    if (world->actors->ghosts > 0) {
        return UINT64_MAX;
    }
    for (int i = 0; i < world->actors->count; i++) {
        const struct actor *actor = &world->actors->list[i];
        presence_server_description described;
        since = actor->changed_at > since ? actor->changed_at : since;
        if (!actor->alive) {
            continue;
        }
        if (!world_is_up(world, actor->node) ||
            presence_replica_describe(world->nodes[actor->node].recorder, world->servers[actor->server], &described) !=
                PRESENCE_OK ||
            !described.local) {
            /* One without a session and without agents states nothing. */
            if (actor->session || actor->count > 0) {
                return UINT64_MAX;
            }
        }
    }
    return since;
}
