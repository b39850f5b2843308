/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload.c - entities with random keys and realistic names, and the recorder that they fill.
 *
 * Keeps true: the first `live` entities of `order` are exactly those that the recorder holds, before and after each
 * measured chunk; the same seed gives the same operations in the same order. Called by the cases, from one thread.
 * Costs: preparing an operation is 10 to 60 ns plus a cache miss on `order`, never within a measured time.
 */
#include "workload.h"

#include <stdlib.h>
#include <string.h>

uint64_t mix64(uint64_t value)
{
    value ^= value >> 30;
    value *= 0xbf58476d1ce4e5b9u;
    value ^= value >> 27;
    value *= 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

uint64_t random_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return mix64(*state);
}

uint32_t random_below(uint64_t *state, size_t bound)
{
    return (uint32_t)(((random_next(state) >> 32) * (uint64_t)bound) >> 32);
}

/* ---------------------------------------------------------------------------------------------------- entities -- */

uint64_t entity_id(const struct workload *workload, uint32_t entity)
{
    return mix64((uint64_t)entity + workload->options->seed * 0x9e3779b97f4a7c15u);
}

/* A model's agents are spread over the servers, and neighbouring entities over the models. */
uint32_t entity_model(const struct workload *workload, uint32_t entity)
{
    return (uint32_t)(entity % workload->models);
}

uint32_t entity_server(const struct workload *workload, uint32_t entity)
{
    return (uint32_t)(entity / workload->models % workload->servers);
}

static char *write_hex(char *at, uint64_t value, unsigned digits)
{
    for (unsigned i = digits; i > 0; i--) {
        *at++ = "0123456789abcdef"[(value >> ((i - 1) * 4)) & 15];
    }
    return at;
}

void name_model(uint32_t model, char text[MODEL_BYTES])
{
    uint64_t high = mix64((uint64_t)model * 2 + 0x1000001u), low = mix64((uint64_t)model * 2 + 0x1000002u);
    char *at = write_hex(text, high >> 32, 8);
    *at++ = '-';
    at = write_hex(at, high >> 16 & 0xffff, 4);
    *at++ = '-';
    at = write_hex(at, (high & 0xfff) | 0x4000, 4);
    *at++ = '-';
    at = write_hex(at, (low >> 48 & 0x3fff) | 0x8000, 4);
    *at++ = '-';
    at = write_hex(at, low, 12);
    *at = 0;
}

/* "unit-" , 5 to 10 hexadecimal digits, "-" and the number: 12 to 24 bytes below a hundred million. */
void name_agent(uint64_t number, char text[AGENT_BYTES])
{
    uint64_t hash = mix64(number ^ 0x5bf03635u);
    static const char prefix[] = {'u', 'n', 'i', 't', '-'};
    memcpy(text, prefix, sizeof prefix);
    char *at = write_hex(text + sizeof prefix, hash >> 8, 5 + (unsigned)(hash % 6));
    *at++ = '-';
    char digits[20];
    unsigned count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        *at++ = digits[--count];
    }
    *at = 0;
}

void operation_set_key(const struct workload *workload, struct operation *operation, uint32_t entity)
{
    operation->entity = entity;
    operation->id = entity_id(workload, entity);
    operation->server_index = entity_server(workload, entity);
    operation->server = workload->server_name[operation->server_index];
}

void operation_set_all(const struct workload *workload, struct operation *operation, uint32_t entity)
{
    operation_set_key(workload, operation, entity);
    name_model(entity_model(workload, entity), operation->model_name);
    name_agent(entity, operation->agent_name);
    operation->model = operation->model_name;
    operation->agent = operation->agent_name;
}

presence_value operation_value(const struct operation *operation)
{
    return (presence_value){.model = operation->model,
                            .server = operation->server,
                            .agent = operation->agent,
                            .user_data = "",
                            .connection_id = operation->id};
}

/* ------------------------------------------------------------------------------------------------------ chunks -- */

static void swap_entities(struct workload *workload, size_t a, size_t b)
{
    uint32_t kept = workload->order[a];
    workload->order[a] = workload->order[b];
    workload->order[b] = kept;
}

void prepare_any_live(struct workload *workload, bool names)
{
    for (size_t i = 0; i < CHUNK; i++) {
        uint32_t entity = workload->order[random_below(&workload->random, workload->live)];
        if (names) {
            operation_set_all(workload, &workload->chunk[i], entity);
        } else {
            operation_set_key(workload, &workload->chunk[i], entity);
        }
    }
}

size_t chunks_to_grow(const struct workload *workload)
{
    return (workload->universe - workload->live) / CHUNK;
}

void prepare_connects(struct workload *workload)
{
    for (size_t i = 0; i < CHUNK; i++) {
        size_t waiting = workload->universe - workload->live;
        if (waiting == 0) {
            die("more connects prepared than entities wait");
        }
        swap_entities(workload, workload->live, workload->live + random_below(&workload->random, waiting));
        operation_set_all(workload, &workload->chunk[i], workload->order[workload->live++]);
        workload->values[i] = operation_value(&workload->chunk[i]);
    }
}

void prepare_disconnects(struct workload *workload)
{
    for (size_t i = 0; i < CHUNK; i++) {
        if (workload->live == 0) {
            die("more disconnects prepared than entities are connected");
        }
        swap_entities(workload, workload->live - 1, random_below(&workload->random, workload->live));
        uint32_t entity = workload->order[--workload->live];
        operation_set_key(workload, &workload->chunk[i], entity);
        if (workload->handles) {
            workload->chunk_handles[i] = workload->handles[entity];
        }
    }
}

/* ---------------------------------------------------------------------------------------------------- recorder -- */

static presence_time coarse_now(void *context)
{
    (void)context;
    return (presence_time)clock_read_ns(CLOCK_REALTIME_COARSE);
}

presence_recorder *recorder_new_enabled(const struct options *options, const presence_allocator *memory)
{
    presence_options wanted;
    presence_options_init(&wanted);
    if (strcmp(options->clock, "coarse") == 0) {
        wanted.clock.now = coarse_now;
    }
    if (memory) {
        wanted.memory = *memory;
    }
    presence_error error;
    presence_recorder *recorder = presence_recorder_new_with(&wanted, &error);
    if (!recorder) {
        die("presence_recorder_new_with: %s", error.message);
    }
    presence_recorder_enable(recorder);
    return recorder;
}

presence_stats recorder_stats(presence_recorder *recorder)
{
    presence_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_bytes = sizeof stats;
    check_call(presence_recorder_stats(recorder, &stats), "presence_recorder_stats");
    return stats;
}

void check_call(int code, const char *what)
{
    if (code != PRESENCE_OK) {
        die("%s: %s", what, presence_strerror(code));
    }
}

void workload_init(struct workload *workload, const struct options *options, size_t size)
{
    memset(workload, 0, sizeof *workload);
    workload->options = options;
    workload->size = size;
    /* At least a few chunks, so that a tiny population can grow too. */
    size_t tenth = size / 10;
    workload->universe = size + (tenth < CHUNK ? CHUNK : (tenth + CHUNK - 1) / CHUNK * CHUNK);
    workload->models = size / AGENTS_PER_MODEL ? size / AGENTS_PER_MODEL : 1;
    workload->servers = options->servers;
    for (size_t i = 0; i < workload->servers; i++) {
        snprintf(workload->server_name[i], sizeof workload->server_name[i], "machine-%zu", i);
    }
    workload->random = mix64(options->seed + size);
    workload->order = allocate_or_die(workload->universe, sizeof workload->order[0]);
    for (size_t i = 0; i < workload->universe; i++) {
        workload->order[i] = (uint32_t)i;
    }
    for (size_t i = size; i > 1; i--) {
        swap_entities(workload, i - 1, random_below(&workload->random, i));
    }
    workload->recorder = recorder_new_enabled(options, NULL);
}

void workload_free(struct workload *workload)
{
    presence_recorder_free(workload->recorder);
    free(workload->handles);
    free(workload->order);
}

static void fill_one_chunk(struct workload *workload, size_t count, uint32_t *costs_ns)
{
    int failed = 0;
    uint64_t before = costs_ns ? thread_cpu_ns() : 0;
    for (size_t i = 0; i < count; i++) {
        const struct operation *operation = &workload->chunk[i];
        failed |= presence_recorder_connect(workload->recorder, operation->server, operation->model, operation->agent,
                                            operation->id, false, NULL);
        if (costs_ns) {
            uint64_t now = thread_cpu_ns(), spent = now - before;
            costs_ns[workload->live + i] = spent < UINT32_MAX ? (uint32_t)spent : UINT32_MAX;
            before = now;
        }
    }
    check_call(failed, "presence_recorder_connect while filling");
}

void workload_fill(struct workload *workload, uint32_t *costs_ns)
{
    while (workload->live < workload->size) {
        size_t left = workload->size - workload->live, count = left < CHUNK ? left : CHUNK;
        for (size_t i = 0; i < count; i++) {
            operation_set_all(workload, &workload->chunk[i], workload->order[workload->live + i]);
        }
        fill_one_chunk(workload, count, costs_ns);
        workload->live += count;
    }
    workload->handles_are_stale = true;
}

void workload_fill_again(struct workload *workload, const presence_allocator *memory, uint32_t *costs_ns)
{
    presence_recorder *kept = workload->recorder;
    size_t live = workload->live;
    bool stale = workload->handles_are_stale;
    workload->recorder = recorder_new_enabled(workload->options, memory);
    workload->live = 0;
    workload_fill(workload, costs_ns);
    presence_recorder_free(workload->recorder);
    workload->recorder = kept;
    workload->live = live;
    workload->handles_are_stale = stale;
}

void workload_settle(struct workload *workload)
{
    struct operation *operation = &workload->chunk[0];
    while (workload->live < workload->size) {
        operation_set_all(workload, operation, workload->order[workload->live++]);
        check_call(presence_recorder_connect(workload->recorder, operation->server, operation->model, operation->agent,
                                             operation->id, false, NULL),
                   "presence_recorder_connect");
        workload->handles_are_stale = true;
    }
    while (workload->live > workload->size) {
        operation_set_key(workload, operation, workload->order[--workload->live]);
        check_call(presence_recorder_disconnect(workload->recorder, operation->server, operation->id),
                   "presence_recorder_disconnect");
    }
}

void workload_refresh_handles(struct workload *workload)
{
    if (!workload->handles) {
        workload->handles = allocate_or_die(workload->universe, sizeof workload->handles[0]);
        workload->handles_are_stale = true;
    }
    for (size_t i = 0; workload->handles_are_stale && i < workload->live; i++) {
        struct operation *operation = &workload->chunk[0];
        operation_set_key(workload, operation, workload->order[i]);
        check_call(presence_recorder_find_handle(workload->recorder, operation->server, operation->id,
                                                 &workload->handles[operation->entity]),
                   "presence_recorder_find_handle");
    }
    workload->handles_are_stale = false;
}
