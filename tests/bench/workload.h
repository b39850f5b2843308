/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload.h - who connects where: entities with random keys, and the recorder that they fill.
 *
 * An entity is a number below `universe`; everything about it is computed from it: its server, a random 64-bit
 * connection id, its model (100 agents each, named by a UUID) and an agent name of its own of 12 to 24 bytes. `size` of
 * them are connected; the other tenth waits to connect. `order` holds all entities in random order, the connected ones
 * first, so that picking a random one, connecting and disconnecting keep it in step.
 *
 * Operations are prepared in chunks of 250 outside the measured time: names and keys then lie in the nearest cache, as
 * those of a request that was just read would, and the measured loop misses no cache of its own.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <presence/presence.h>

#include "measure.h"

enum { CHUNK = 250, SERVERS_MAX = 64, AGENTS_PER_MODEL = 100, AGENT_BYTES = 28, MODEL_BYTES = 40 };

struct options {
    size_t servers;
    int rounds; /* 0: by size */
    int cpu;    /* -1: the last one that may be used */
    uint64_t seed;
    uint64_t churn;    /* pairs of the flat-memory case */
    const char *only;  /* comma-separated names of cases; NULL: all */
    const char *clock; /* "system" or "coarse" */
    const char *time;  /* "wall" or "cpu": stopwatch_clock */
    const char *json;
    bool fresh; /* stay on the pages on which it was filled */
};

struct operation {
    uint64_t id;
    const char *server, *model, *agent;
    uint32_t entity, server_index;
    char model_name[MODEL_BYTES], agent_name[AGENT_BYTES];
};

struct yardstick; /* yardsticks.h */

struct workload {
    const struct options *options;
    size_t size;     /* connections in steady state: N */
    size_t universe; /* N and a tenth more */
    size_t models, servers;
    char server_name[SERVERS_MAX][32];
    uint64_t random; /* state of the generator */
    uint32_t *order;
    size_t live; /* how many of `order` are connected */
    presence_recorder *recorder;
    presence_handle *handles; /* by entity; NULL until a case needs them */
    bool handles_are_stale;
    struct yardstick *yardstick;
    struct operation chunk[CHUNK];
    presence_value values[CHUNK];
    presence_handle chunk_handles[CHUNK];
};

uint64_t random_next(uint64_t *state);
/* A number below `bound` (below 2^32). */
uint32_t random_below(uint64_t *state, size_t bound);
uint64_t mix64(uint64_t value);

void workload_init(struct workload *workload, const struct options *options, size_t size);
void workload_free(struct workload *workload);

uint64_t entity_id(const struct workload *workload, uint32_t entity);
uint32_t entity_server(const struct workload *workload, uint32_t entity);
uint32_t entity_model(const struct workload *workload, uint32_t entity);
void name_model(uint32_t model, char text[MODEL_BYTES]);
void name_agent(uint64_t number, char text[AGENT_BYTES]);

/* The key alone (enough for activity and disconnect), or the names too. */
void operation_set_key(const struct workload *workload, struct operation *operation, uint32_t entity);
void operation_set_all(const struct workload *workload, struct operation *operation, uint32_t entity);
presence_value operation_value(const struct operation *operation);

/* Fill chunk[0..CHUNK) and keep `order` in step. The calls themselves are the caller's to make, all of them. */
void prepare_any_live(struct workload *workload, bool names);
void prepare_connects(struct workload *workload);    /* of entities not connected */
void prepare_disconnects(struct workload *workload); /* of random connected ones */
/* How many connects fit before the universe is used up, in whole chunks. */
size_t chunks_to_grow(const struct workload *workload);

/* Connects the first N of `order`. With `costs_ns`, the thread CPU time of connect number i goes to costs_ns[i]. */
void workload_fill(struct workload *workload, uint32_t *costs_ns);
/* The same once more, on a recorder of its own that is freed again, with that memory (NULL: the C library's). The
 * workload stays as it is: N connected. */
void workload_fill_again(struct workload *workload, const presence_allocator *memory, uint32_t *costs_ns);
/* Connects or disconnects until exactly N are connected. Not measured. */
void workload_settle(struct workload *workload);
/* Makes `handles` of all that are connected valid. */
void workload_refresh_handles(struct workload *workload);

presence_recorder *recorder_new_enabled(const struct options *options, const presence_allocator *memory);
presence_stats recorder_stats(presence_recorder *recorder);

/* Ends the process if a measured call failed. */
void check_call(int code, const char *what);

#endif
