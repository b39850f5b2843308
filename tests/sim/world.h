/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - a whole cluster in one process and in virtual time.
 *
 * A world has nodes (a recorder and a step each), a network between them, gateways that state servers through them,
 * and a truth that the nodes are measured by. Nothing happens but events, in order of their virtual time, and what is
 * random in them comes from the seed: the same seed is the same world, byte for byte of its trace. After each event
 * the invariants are checked for the node that it touched.
 *
 * Whoever finds something wrong calls world_blame: the first reason stands, and the world ends after that event.
 * One world at a time, one thread.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "cluster/step.h"
#include "wire/wire.h"

#include "support/support.h"

#include <setjmp.h>
#include <stdio.h>

#define MICROSECOND UINT64_C(1000)
#define MILLISECOND UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

enum { MOST_NODES = 9, MOST_SERVERS = 24, MOST_ROUTERS = 3, NAME_ROOM = 32, TRACE_LINES = 60, TRACE_ROOM = 240 };

struct world;
struct event;
struct network;
struct truth;
struct actors;
struct invariants;
struct message;

/* ---------------------------------------------------------------------------------------------------------- events */

typedef void event_fire(struct world *world, const struct event *event);

struct event {
    uint64_t at, order;
    event_fire *fire;
    int node;      /* that it is about; -1: none */
    unsigned life; /* dropped unless the node is in this life; 0: whatever it is in */
    int other;
    uint64_t number;
    struct message *message;
};

/* ----------------------------------------------------------------------------------------------------------- nodes */

enum node_state { NODE_ABSENT, NODE_UP, NODE_STOPPED, NODE_GONE };

struct node {
    struct world *world;
    int index;
    char name[NAME_ROOM];
    enum node_state state;
    unsigned life; /* counts starts: what was meant for an older run is dropped */
    presence_recorder *recorder;
    struct step *step;
    uint64_t monotonic;         /* what its monotonic clock showed when the world began */
    presence_time wall;         /* what its wall clock shows at monotonic 0 */
    size_t history_bytes;       /* of its recorder */
    size_t departures;          /* that it remembers; 0: as many as usual */
    uint64_t job_ns;            /* its second thread takes up to twice as long for a whole state; 0: there is none */
    struct step_job *jobs;      /* the first is being run */
    struct step_config *config; /* NULL: the world's */
    bool leaving, double_named;
    bool nothing_to_read; /* so the descriptor said, at that revision: it says the same while that stays */
    uint64_t asked_revision;
    uint64_t run_at, run_token; /* the step_run that is due, if run_at is not 0 */
    uint64_t runs_second, runs; /* step_runs in this virtual second: a step that spins is found */
    struct message **inbox;     /* what came while it was stopped */
    size_t inbox_count, inbox_room;
};

/* ----------------------------------------------------------------------------------------------------------- world */

struct world_options {
    uint64_t seed;
    uint64_t broken;  /* step_config.broken */
    bool tracing;     /* keep the trace: its hash, and its last lines */
    bool print_trace; /* and print it */
    bool big;         /* stories may take their time */
};

struct world {
    struct world_options options;
    uint64_t now, order, events_done;
    struct test_random random; /* the scenario's dice; the network has its own */
    struct event *events;      /* a binary heap by (at, order) */
    size_t event_count, event_room;
    struct node nodes[MOST_NODES];
    int node_count;
    char servers[MOST_SERVERS][NAME_ROOM];
    int server_count;
    struct step_config config; /* of every node but those with their own */
    struct network *network;
    struct truth *truth;
    struct actors *actors;
    struct invariants *invariants;
    struct wire_arena *arena; /* for looking into messages */
    uint64_t late_ns;         /* a node's loop is at most this late */
    bool blamed;
    char reason[512];
    jmp_buf *end; /* where a world that was blamed ends */
    char trace[TRACE_LINES][TRACE_ROOM];
    uint64_t trace_count, trace_hash;
};

struct world *world_new(const struct world_options *options);
void world_free(struct world *world);

/* The first reason stands; the world ends with the event that runs. */
void world_blame(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends it at once if it was blamed. Not to be called out of a step's callback. */
void world_end_if_blamed(struct world *world);
/* For stories: what must be so now. */
#define want(world, condition, ...) \
    ((condition)                    \
         ? (void)0                  \
         : (world_blame(world, "not so: %s (%s:%d)", #condition, __FILE__, __LINE__), world_end_if_blamed(world)))

/* A line of the trace; the arguments are not looked at unless it is kept. node -1: nobody's. */
#define tell(world, node, ...) ((world)->options.tracing ? world_tell((world), (node), __VA_ARGS__) : (void)0)
void world_tell(struct world *world, int node, const char *format, ...) __attribute__((format(printf, 3, 4)));
void world_print_trace(const struct world *world, FILE *out);

/* 0..bound-1, and lower..upper. */
unsigned below(struct world *world, unsigned bound);
uint64_t between(struct world *world, uint64_t lower, uint64_t upper);

/* Something to happen `after` ns from now. */
void world_schedule(struct world *world, uint64_t after, struct event event);
/* Makes all happen that happens in this time; or until nothing does. */
void world_run(struct world *world, uint64_t for_ns);

/* The server's number, known from then on to truth and invariants. */
int world_server(struct world *world, const char *name);
int world_server_of(const struct world *world, const char *name); /* -1 */

/* A node that is not started yet. Its name may be another's. */
int world_node(struct world *world, const char *name);
void world_start(struct world *world, int node); /* also after it was gone: a new run, knowing nothing */
void world_crash(struct world *world, int node);
void world_stop(struct world *world, int node);     /* SIGSTOP */
void world_continue(struct world *world, int node); /* SIGCONT */
void world_leave(struct world *world, int node);    /* step_leave; world_crash ends the process */
void world_jump_clock(struct world *world, int node, presence_time by_ns);
bool world_is_up(const struct world *world, int node);
bool world_is_running(const struct world *world, int node); /* up, and not leaving */
uint64_t node_now(const struct node *node);

/* A call on a node's step or recorder was made: its loop wakes if there is something for it, and the invariants are
 * looked at. Every local change ends with it. */
void world_after(struct world *world, int node);
/* A whole state is to be recorded by the node's second thread. */
void world_add_job(struct world *world, int node, struct step_job *job);
/* The node's loop runs at the latest then. */
void world_expect_run(struct world *world, int node, uint64_t after);

#endif
