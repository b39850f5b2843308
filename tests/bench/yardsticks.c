/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yardsticks.c - F, and the naive array.
 *
 * F is a find in the smallest table that could answer "which row is (server, id)?": linear probing, 16-byte slots with
 * the key inline, at most half full, one multiplicative hash, no lock, no string, no clock. Each find's key is computed
 * from the result of the one before, so that neither the processor nor the compiler can overlap two of them: F is the
 * latency of one find, about one cache miss once the table is larger than the caches. The naive array is searched from
 * the front under a mutex and copied for each view, ids compared before names, which favours it.
 *
 * Called by the cases, from one thread. Costs: a table is 32 to 64 bytes a key.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "yardsticks.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static size_t slot_of(const struct yardstick *yardstick, uint64_t id, uint32_t server)
{
    uint64_t hash = (id ^ ((uint64_t)server << 32)) * 0x9e3779b97f4a7c15u;
    return (size_t)(hash ^ (hash >> 32)) & (yardstick->capacity - 1);
}

static struct yardstick_slot *slots_new(size_t bytes, bool huge_pages)
{
    if (!huge_pages) {
        return allocate_or_die(bytes, 1);
    }
    void *memory = huge_memory_new(bytes);
    if (!memory) {
        die("out of memory for a table of %zu bytes", bytes);
    }
    return memory;
}

struct yardstick *yardstick_new(const struct workload *workload, bool huge_pages)
{
    struct yardstick *yardstick = allocate_or_die(1, sizeof *yardstick);
    yardstick->capacity = 16;
    while (yardstick->capacity < 2 * workload->size) {
        yardstick->capacity *= 2;
    }
    yardstick->bytes = yardstick->capacity * sizeof yardstick->slots[0];
    yardstick->huge_pages = huge_pages;
    yardstick->slots = slots_new(yardstick->bytes, huge_pages);
    for (size_t i = 0; i < workload->size; i++) {
        uint32_t entity = (uint32_t)i;
        uint64_t id = entity_id(workload, entity);
        uint32_t server = entity_server(workload, entity) + 1;
        size_t at = slot_of(yardstick, id, server);
        while (yardstick->slots[at].server) {
            at = (at + 1) & (yardstick->capacity - 1);
        }
        yardstick->slots[at] = (struct yardstick_slot){id, server, entity};
    }
    return yardstick;
}

void yardstick_free(struct yardstick *yardstick)
{
    if (yardstick) {
        if (yardstick->huge_pages) {
            huge_memory_free(yardstick->slots, yardstick->bytes);
        } else {
            free(yardstick->slots);
        }
        free(yardstick);
    }
}

uint32_t yardstick_find_chain(const struct yardstick *yardstick, const struct operation *operations, size_t count)
{
    uint32_t carry = 0; /* always 0, but only the find before can tell */
    for (size_t i = 0; i < count; i++) {
        uint64_t id = operations[i].id + carry;
        uint32_t server = operations[i].server_index + 1;
        const struct yardstick_slot *slot = &yardstick->slots[slot_of(yardstick, id, server)];
        const struct yardstick_slot *end = yardstick->slots + yardstick->capacity;
        while (slot->server && (slot->id != id || slot->server != server)) {
            slot = slot + 1 == end ? yardstick->slots : slot + 1;
        }
        carry |= slot->row - operations[i].entity;
    }
    return carry;
}

/* The first `size` entities are the keys; which of them are connected just now does not matter here. */
static void prepare_keys(struct workload *workload)
{
    for (size_t i = 0; i < CHUNK; i++) {
        operation_set_key(workload, &workload->chunk[i], random_below(&workload->random, workload->size));
    }
}

double yardstick_find_ns(struct workload *workload, const struct yardstick *yardstick, size_t finds)
{
    uint64_t spent = 0;
    uint32_t failed = 0;
    size_t chunks = finds / CHUNK ? finds / CHUNK : 1;
    for (size_t i = 0; i < chunks; i++) {
        prepare_keys(workload);
        uint64_t start = stopwatch_ns();
        failed |= yardstick_find_chain(yardstick, workload->chunk, CHUNK);
        spent += stopwatch_ns() - start;
    }
    if (failed) {
        die("the yardstick did not find a key of its own");
    }
    return (double)spent / (double)(chunks * CHUNK);
}

/* ------------------------------------------------------------------------------------------------------- naive -- */

struct naive {
    pthread_mutex_t mutex;
    struct naive_row *rows;
    size_t count, capacity;
    char *names; /* of the entities that it was filled with */
};

static struct naive_row naive_row_of(const struct operation *operation)
{
    return (struct naive_row){.server = operation->server,
                              .model = operation->model,
                              .agent = operation->agent,
                              .user_data = "",
                              .id = operation->id,
                              .last_seen = (int64_t)clock_read_ns(CLOCK_REALTIME),
                              .status = PRESENCE_ALIVE};
}

static struct naive_row *naive_find(struct naive *naive, const char *server, uint64_t id)
{
    for (size_t i = 0; i < naive->count; i++) {
        if (naive->rows[i].id == id && strcmp(naive->rows[i].server, server) == 0) {
            return &naive->rows[i];
        }
    }
    return NULL;
}

void naive_connect(struct naive *naive, const struct operation *operation)
{
    pthread_mutex_lock(&naive->mutex);
    struct naive_row *row = naive_find(naive, operation->server, operation->id);
    if (!row) {
        if (naive->count == naive->capacity) {
            die("the naive array is full");
        }
        row = &naive->rows[naive->count++];
    }
    *row = naive_row_of(operation);
    pthread_mutex_unlock(&naive->mutex);
}

bool naive_activity(struct naive *naive, const struct operation *operation)
{
    pthread_mutex_lock(&naive->mutex);
    struct naive_row *row = naive_find(naive, operation->server, operation->id);
    if (row) {
        row->last_seen = (int64_t)clock_read_ns(CLOCK_REALTIME);
    }
    pthread_mutex_unlock(&naive->mutex);
    return row != NULL;
}

struct naive_row *naive_view(struct naive *naive, size_t *count)
{
    pthread_mutex_lock(&naive->mutex);
    struct naive_row *copy = malloc(naive_bytes(naive));
    if (copy) {
        memcpy(copy, naive->rows, naive_bytes(naive));
    }
    *count = copy ? naive->count : 0;
    pthread_mutex_unlock(&naive->mutex);
    return copy;
}

size_t naive_bytes(const struct naive *naive)
{
    return naive->count * sizeof naive->rows[0];
}

struct naive *naive_new(const struct workload *workload)
{
    enum { NAMES = MODEL_BYTES + AGENT_BYTES };
    struct naive *naive = allocate_or_die(1, sizeof *naive);
    pthread_mutex_init(&naive->mutex, NULL);
    naive->capacity = workload->universe;
    naive->rows = allocate_or_die(naive->capacity, sizeof naive->rows[0]);
    naive->names = allocate_or_die(workload->size, NAMES);
    for (size_t i = 0; i < workload->size; i++) {
        struct operation operation;
        operation_set_all(workload, &operation, (uint32_t)i);
        char *model = naive->names + i * NAMES, *agent = model + MODEL_BYTES;
        memcpy(model, operation.model_name, MODEL_BYTES);
        memcpy(agent, operation.agent_name, AGENT_BYTES);
        operation.model = model;
        operation.agent = agent;
        naive->rows[naive->count++] = naive_row_of(&operation);
    }
    return naive;
}

void naive_free(struct naive *naive)
{
    pthread_mutex_destroy(&naive->mutex);
    free(naive->rows);
    free(naive->names);
    free(naive);
}
