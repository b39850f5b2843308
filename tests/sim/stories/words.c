/* SPDX-License-Identifier: Apache-2.0 */
/*
 * words.c - the words in which the stories are told.
 */
#include "stories.h"

/* ----------------------------------------------------------------------------------------------------------- given */

void given_nodes(struct world *world, int count)
{
    for (int i = 0; i < count; i++) {
        char name[NAME_ROOM];
        snprintf(name, sizeof name, "n%d", i);
        world_start(world, world_node(world, name));
    }
    world_run(world, 5 * SECOND);
    for (int i = 0; i < count; i++) {
        want(world, step_ready(world->nodes[i].step));
    }
}

int newcomer(struct world *world, const char *name)
{
    int node = world_node(world, name);
    world_start(world, node);
    return node;
}

void more_agents(struct world *world, int a, unsigned agents)
{
    struct actor *actor = actor_of(world, a);
    for (unsigned i = 0; i < agents; i++) {
        actor_add(world, a, actor->next_id);
    }
}

int gateway(struct world *world, const char *server, uint64_t epoch, int node, unsigned agents)
{
    int a = actor_new(world, server, true, epoch, false);
    more_agents(world, a, agents);
    actor_of(world, a)->restates_singly = true;
    want(world, actor_bind(world, a, node) == PRESENCE_OK);
    world_run(world, SECOND);
    return a;
}

/* --------------------------------------------------------------------------------------------------------- by hand */

int claim(struct world *world, int n, const char *server, uint64_t epoch)
{
    struct node *node = &world->nodes[n];
    world_server(world, server);
    int code = step_claim(node->step, node_now(node), server, true, epoch);
    tell(world, n, "claims %s, epoch %llu: %s", server, (unsigned long long)epoch, presence_error_name(code));
    world_expect_run(world, n, 0);
    world_after(world, n);
    return code;
}

int login(struct world *world, int n, const char *server, uint64_t id, const char *agent)
{
    world_server(world, server);
    int code = presence_recorder_connect(world->nodes[n].recorder, server, SIM_MODEL, agent, id, false, "");
    tell(world, n, "%s logs in to %s as %llu: %s", agent, server, (unsigned long long)id, presence_error_name(code));
    world_after(world, n);
    return code;
}

int logout(struct world *world, int n, const char *server, uint64_t id)
{
    int code = presence_recorder_disconnect(world->nodes[n].recorder, server, id);
    tell(world, n, "%llu logs out of %s: %s", (unsigned long long)id, server, presence_error_name(code));
    world_after(world, n);
    return code;
}

/* --------------------------------------------------------------------------------------------------- what is seen */

presence_server_description server_on(struct world *world, int node, const char *server)
{
    presence_server_description described = {0};
    presence_replica_describe(world->nodes[node].recorder, server, &described);
    return described;
}

bool lapsed_on(struct world *world, int node, const char *server)
{
    return server_on(world, node, server).lapsed;
}

size_t alive_on(struct world *world, int node, const char *server)
{
    presence_counts counts = {0};
    presence_recorder_server_counts(world->nodes[node].recorder, server, &counts);
    return counts.alive;
}

presence_status agent_on(struct world *world, int node, const char *agent)
{
    presence_status status = PRESENCE_UNKNOWN;
    presence_recorder_agent_status(world->nodes[node].recorder, SIM_MODEL, agent, &status);
    return status;
}

presence_reason reason_on(struct world *world, int node, const char *agent)
{
    presence_evidence evidence = {0};
    presence_recorder_agent_evidence(world->nodes[node].recorder, SIM_MODEL, agent, &evidence);
    return evidence.reason;
}

enum step_doubt doubt_on(struct world *world, int n, const char *server)
{
    const struct node *node = &world->nodes[n];
    struct step_freshness freshness;
    step_freshness(node->step, node_now(node), server, &freshness);
    return freshness.doubt;
}

bool all_fresh_on(struct world *world, int number)
{
    return step_all_fresh(world->nodes[number].step);
}

struct step_counters counters_of(const struct world *world, int node)
{
    struct step_counters counters;
    step_counters(world->nodes[node].step, &counters);
    return counters;
}

void all_show_alive(struct world *world, uint64_t for_ns, const char *server, size_t alive)
{
    for (uint64_t end = world->now + for_ns; world->now < end;) {
        world_run(world, 10 * MILLISECOND);
        for (int node = 0; node < world->node_count; node++) {
            if (world_is_running(world, node) && alive_on(world, node, server) != alive) {
                world_blame(world, "%s shows %zu of %s alive, not %zu", world->nodes[node].name,
                            alive_on(world, node, server), server, alive);
            }
        }
        world_end_if_blamed(world);
    }
}

void slow_stream(struct world *world, int from, int to, uint64_t delay)
{
    world->network->links[from][to].lane_delay[STEP_STREAM] = delay;
}

void slow_link(struct world *world, int from, int to, uint64_t delay)
{
    for (int lane = 0; lane < LANES; lane++) {
        world->network->links[from][to].lane_delay[lane] = delay;
    }
}

void good_link(struct world *world, int from, int to)
{
    struct link *link = &world->network->links[from][to];
    memset(link->lane_delay, 0, sizeof link->lane_delay);
    link->cut = false;
}
