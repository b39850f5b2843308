/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count.c - the mode for counting, not timing: `bench_recorder --count CASE,CASE... OPERATIONS --size N` fills a
 * recorder and runs each case once in count_measured(), a function at which a profiler can be switched on and off. The
 * command scripts/bench-misses does so and prints instructions and cache misses per operation.
 *
 * Keeps true: keys and names are computed, never read from memory, so that misses within count_measured are the
 * library's (batches and handles are read in order: 8 and 32 bytes an operation); each case runs unmeasured on other
 * connections first, then the caches are swept and warmed by other calls, so that it finds them as in steady state.
 * The cases `keys` and `names` compute only: what they cost is to be subtracted from the others. Called by
 * bench_recorder.c, from one thread.
 */
#include "cases.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENTS = 24, SWEEP_BYTES = 64 * 1024 * 1024 };

/* One segment is `operations` entities in pseudo-random order, none of them in another segment. */
struct count {
    struct workload *workload;
    size_t operations, stride;
    size_t next_segment, next_newcomer;
    size_t segment, newcomer; /* of the run */
    uint64_t *ids;            /* of a segment, sorted by server */
    size_t id_start[SERVERS_MAX + 1];
    presence_handle *handles;
};

static uint32_t count_entity(const struct count *count, size_t i)
{
    size_t at = count->segment * count->operations + i;
    return (uint32_t)(at * count->stride % count->workload->size);
}

typedef int count_case(struct count *count);

static volatile uint64_t computed;

static int run_keys(struct count *count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        operation_set_key(count->workload, &operation, count_entity(count, i));
        sum += operation.id;
    }
    computed += sum;
    return PRESENCE_OK;
}

static int run_names(struct count *count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        operation_set_all(count->workload, &operation, count_entity(count, i));
        sum += operation.id + (uint64_t)operation.agent_name[6] + (uint64_t)operation.model_name[6];
    }
    computed += sum;
    return PRESENCE_OK;
}

static int run_find(struct count *count)
{
    uint32_t failed = 0;
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        operation_set_key(count->workload, &operation, count_entity(count, i));
        failed |= yardstick_find_chain(count->workload->yardstick, &operation, 1);
    }
    return failed ? PRESENCE_E_NOT_FOUND : PRESENCE_OK;
}

static int run_activity(struct count *count)
{
    int failed = 0;
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        operation_set_key(count->workload, &operation, count_entity(count, i));
        failed |= presence_recorder_activity(count->workload->recorder, operation.server, operation.id);
    }
    return failed;
}

static int run_agent_status(struct count *count)
{
    int failed = 0;
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        presence_status status;
        operation_set_all(count->workload, &operation, count_entity(count, i));
        failed |= presence_recorder_agent_status(count->workload->recorder, operation.model, operation.agent, &status);
    }
    return failed;
}

static int run_connect(struct count *count)
{
    int failed = 0;
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        operation_set_all(count->workload, &operation, (uint32_t)(count->workload->size + count->newcomer + i));
        failed |= presence_recorder_connect(count->workload->recorder, operation.server, operation.model,
                                            operation.agent, operation.id, false, NULL);
    }
    return failed;
}

static int run_disconnect(struct count *count)
{
    int failed = 0;
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        operation_set_key(count->workload, &operation, count_entity(count, i));
        failed |= presence_recorder_disconnect(count->workload->recorder, operation.server, operation.id);
    }
    return failed;
}

static int run_activity_handle(struct count *count)
{
    int failed = 0;
    for (size_t i = 0; i < count->operations; i++) {
        failed |= presence_recorder_activity_handle(count->workload->recorder, &count->handles[i]);
    }
    return failed;
}

static int run_disconnect_handle(struct count *count)
{
    int failed = 0;
    for (size_t i = 0; i < count->operations; i++) {
        failed |= presence_recorder_disconnect_handle(count->workload->recorder, &count->handles[i]);
    }
    return failed;
}

typedef int many_call(presence_recorder *recorder, const char *server, const uint64_t *ids, size_t count, size_t *done);

static int run_many(struct count *count, many_call *call)
{
    int failed = 0;
    for (size_t s = 0; s < count->workload->servers; s++) {
        for (size_t at = count->id_start[s]; at < count->id_start[s + 1]; at += CHUNK) {
            size_t left = count->id_start[s + 1] - at, wanted = left < CHUNK ? left : CHUNK, done = 0;
            failed |= call(count->workload->recorder, count->workload->server_name[s], count->ids + at, wanted, &done);
            failed |= done == wanted ? PRESENCE_OK : PRESENCE_E_NOT_FOUND;
        }
    }
    return failed;
}

static int run_activity_many(struct count *count)
{
    return run_many(count, presence_recorder_activity_many);
}

static int run_disconnect_many(struct count *count)
{
    return run_many(count, presence_recorder_disconnect_many);
}

static const struct {
    const char *name;
    count_case *run;
} count_cases[] = {{"keys", run_keys},
                   {"names", run_names},
                   {"find", run_find},
                   {"activity", run_activity},
                   {"agent_status", run_agent_status},
                   {"connect", run_connect},
                   {"disconnect", run_disconnect},
                   {"activity_handle", run_activity_handle},
                   {"disconnect_handle", run_disconnect_handle},
                   {"activity_many", run_activity_many},
                   {"disconnect_many", run_disconnect_many}};

enum { COUNT_CASES = sizeof count_cases / sizeof count_cases[0] };

int count_measured(struct count *count, count_case *run);

/* The profiler's switch: nothing else is called between its entry and its return. */
__attribute__((noinline)) int count_measured(struct count *count, count_case *run)
{
    return run(count);
}

/* --------------------------------------------------------------------------------------------------- preparing -- */

/* A stride near the golden section of the size that shares no factor with it: each entity once. */
static size_t stride_of(size_t size)
{
    size_t stride = (size_t)((double)size * 0.6180339887) | 1;
    for (;; stride += 2) {
        size_t a = stride, b = size;
        while (b) {
            size_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) {
            return stride;
        }
    }
}

static void sort_ids(struct count *count)
{
    size_t next[SERVERS_MAX + 1] = {0};
    for (size_t i = 0; i < count->operations; i++) {
        next[entity_server(count->workload, count_entity(count, i)) + 1]++;
    }
    for (size_t s = 0; s < SERVERS_MAX; s++) {
        next[s + 1] += next[s];
    }
    memcpy(count->id_start, next, sizeof next);
    for (size_t i = 0; i < count->operations; i++) {
        uint32_t entity = count_entity(count, i);
        count->ids[next[entity_server(count->workload, entity)]++] = entity_id(count->workload, entity);
    }
}

static void find_handles(struct count *count)
{
    for (size_t i = 0; i < count->operations; i++) {
        struct operation operation;
        operation_set_key(count->workload, &operation, count_entity(count, i));
        check_call(presence_recorder_find_handle(count->workload->recorder, operation.server, operation.id,
                                                 &count->handles[i]),
                   "presence_recorder_find_handle");
    }
}

static void take_segment(struct count *count, const char *name)
{
    count->segment = count->next_segment++;
    if (strcmp(name, "connect") == 0) {
        count->newcomer = count->next_newcomer;
        count->next_newcomer += count->operations;
    }
    if (strstr(name, "_many")) {
        sort_ids(count);
    }
    if (strstr(name, "_handle")) {
        find_handles(count);
    }
}

static void sweep_caches(void)
{
    char *memory = malloc(SWEEP_BYTES);
    if (memory) {
        memset(memory, 1, SWEEP_BYTES);
        computed += (uint64_t)memory[random_below(&(uint64_t){1}, SWEEP_BYTES)];
        free(memory);
    }
}

/* Unmeasured on one segment, then measured on another. Handles are found first, and so do not warm what they name. */
static void run_one(struct count *count, size_t index)
{
    take_segment(count, count_cases[index].name);
    check_call(count_cases[index].run(count), count_cases[index].name);
    take_segment(count, count_cases[index].name);
    sweep_caches();
    size_t kept = count->segment;
    count->segment = SEGMENTS - 1; /* warms the upper levels with connections that no case names */
    check_call(run_activity(count) | run_agent_status(count), "warming up");
    count->segment = kept;
    check_call(count_measured(count, count_cases[index].run), count_cases[index].name);
    printf("counted %s %zu\n", count_cases[index].name, count->operations);
}

static bool listed(const char *names, const char *name)
{
    size_t length = strlen(name);
    if (strcmp(names, "all") == 0)
        return true;
    for (const char *at = names; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == 0)) {
            return true;
        }
    }
    return false;
}

static void check_listed(const char *names)
{
    for (const char *at = names; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t length = strcspn(at, ","), known = strcmp(at, "all") == 0 ? 1 : 0;
        for (size_t i = 0; i < COUNT_CASES; i++) {
            known += strlen(count_cases[i].name) == length && strncmp(at, count_cases[i].name, length) == 0 ? 1 : 0;
        }
        if (known == 0) {
            die("--count: no case is named \"%.*s\"", (int)length, at);
        }
    }
}

int run_count(const struct options *options, const char *names, size_t operations, size_t size)
{
    if (operations == 0 || operations * SEGMENTS > size) {
        die("--count: %zu operations need at least %zu connections, a %dth part each", operations,
            operations * SEGMENTS, SEGMENTS);
    }
    check_listed(names);
    struct workload *workload = allocate_or_die(1, sizeof *workload);
    workload_init(workload, options, size);
    struct count count = {.workload = workload, .operations = operations, .stride = stride_of(size)};
    count.ids = allocate_or_die(operations, sizeof count.ids[0]);
    count.handles = allocate_or_die(operations, sizeof count.handles[0]);
    workload->yardstick = yardstick_new(workload, false);
    workload_fill(workload, NULL);
    for (size_t i = 0; i < COUNT_CASES; i++) {
        if (listed(names, count_cases[i].name)) {
            run_one(&count, i);
        }
    }
    yardstick_free(workload->yardstick);
    workload_free(workload);
    free(workload);
    free(count.ids);
    free(count.handles);
    return 0;
}
