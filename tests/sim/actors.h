/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actors.h - who states servers: gateways with an epoch and a set of live agents, bound to a node, and servers
 * without a session, whose agents connect as they like.
 *
 * An actor's agents are the truth: what it could not state, since its node was gone or another had taken the server, it
 * states when it is bound again. An agent's name tells server, epoch and id, so that no two lives share one.
 */
#ifndef SIM_ACTORS_H
#define SIM_ACTORS_H

#include "world.h"

enum { MOST_ACTORS = MOST_SERVERS, MOST_AGENTS = 8, DATA_ROOM = 8192, AGENT_ROOM = 80 };
#define SIM_MODEL "11111111-2222-4333-8444-555555555555"

struct agent {
    uint64_t id;
    unsigned version; /* of its user data */
    bool controller;
};

struct actor {
    int server;
    bool session;   /* binds the server with its epoch */
    bool alive;     /* the gateway runs; without a session: always */
    bool by_itself; /* acts at random, and looks after its session */
    uint64_t epoch;
    int node; /* bound to it; -1: to none */
    unsigned life;
    bool restates_singly; /* binding anew it connects each agent, instead of one whole list */
    struct agent *agents;
    size_t count, room;
    uint64_t next_id;
    unsigned data_bytes; /* of each agent's user data, at the least */
    uint64_t pace;       /* ns between its doings */
    uint64_t changed_at; /* when it last was bound, lost its node, lived or died */
};

struct actors {
    struct actor list[MOST_ACTORS];
    int count;
    bool quiet;      /* no more doings but looking after sessions */
    int ghosts;      /* sessions whose node has not yet noticed that they are gone */
    uint64_t losses; /* sessions superseded */
};

struct actors *actors_new(void);
void actors_free(struct actors *actors);

/* A gateway that runs, bound nowhere. by_itself: see above; else only what stories call happens. */
int actor_new(struct world *world, const char *server, bool session, uint64_t epoch, bool by_itself);
struct actor *actor_of(struct world *world, int actor);
int actor_of_server(const struct world *world, int server); /* -1 */
void actor_wake(struct world *world, int actor);            /* one that acts by itself begins */

/* Binds to that node and states all it has; the code of the claim. What it had elsewhere is left as it is: see
 * ghost. */
int actor_bind(struct world *world, int actor, int node);
/* The node will say that the server is down, for that reason, after that time: unless it is bound there again. */
void actor_leaves_ghost(struct world *world, int actor, uint64_t after, presence_reason reason);
/* Each is done in the truth; and on the node, if bound. */
void actor_add(struct world *world, int actor, uint64_t id); /* in the truth only: a new id */
void actor_connect(struct world *world, int actor, uint64_t id);
void actor_disconnect(struct world *world, int actor, uint64_t id);
void actor_revise(struct world *world, int actor, uint64_t id);
void actor_activity(struct world *world, int actor, uint64_t id);
void actor_whole_list(struct world *world, int actor);
/* The gateway dies; its node says so after `after`. */
void actor_die(struct world *world, int actor, uint64_t after, presence_reason reason);
/* A new life, with no agent and ids from 1 again; bound nowhere. */
void actor_begin_life(struct world *world, int actor, uint64_t epoch);

/* The node is gone, or was stopped for long: who was bound there is bound nowhere. */
void actors_lose_node(struct world *world, int node);
/* Out of the step: another has taken the server. */
void actors_superseded(struct world *world, int node, const char *server);
/* Every actor that runs is bound to a node that states its server, and no ghost is left, since this virtual time;
 * UINT64_MAX: not yet. */
uint64_t actors_content_since(const struct world *world);

const char *agent_name(char *room, const struct world *world, int server, uint64_t epoch, uint64_t id);
/* The room has AGENT_ROOM bytes more than the actor's data_bytes, DATA_ROOM at the most. */
const char *agent_data(char *room, const struct actor *actor, unsigned version);

#endif
