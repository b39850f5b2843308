/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cases_cost.c - what the record costs: memory, the growth of its tables, watches and digests; and the naive array.
 *
 * Keeps true: memory is read before and after filling in a process that measures one size only, with everything of the
 * harness touched before, so that the growth of the resident set is the recorder's; the case that claims the servers
 * runs after all others, for a claim cannot be taken back. Called by bench_recorder.c, from one thread.
 */
#include "cases.h"

#include <presence/replica.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------- memory, growth -- */

enum { MEMORY_LIMIT = 100 };

/* Judged after filling only: afterwards the record has been a tenth larger than the N that the bytes are divided by. */
static void report_memory(struct context *context, const char *when)
{
    struct workload *workload = context->workload;
    presence_stats stats = recorder_stats(workload->recorder);
    double connections = (double)workload->live, content = (double)(stats.name_bytes + stats.data_bytes);
    bool judged = workload->size >= 1000000 && when[0] == 0;
    char name[40], note[120];
    snprintf(name, sizeof name, "memory_allocated%s", when);
    snprintf(note, sizeof note, "a connection, without %.1f B of names and data", content / connections);
    add_judged(context, name, "bytes", ((double)stats.allocated_bytes - content) / connections, MEMORY_LIMIT, judged,
               note);
    snprintf(name, sizeof name, "memory_used%s", when);
    add_judged(context, name, "bytes", ((double)stats.used_bytes - content) / connections, MEMORY_LIMIT, judged, "");
}

static uint64_t resident_before;

void memory_note_start(void)
{
    resident_before = resident_bytes();
}

void case_memory(struct context *context)
{
    report_memory(context, "");
    presence_stats stats = recorder_stats(context->workload->recorder);
    double grown = (double)resident_bytes() - (double)resident_before;
    double content = (double)(stats.name_bytes + stats.data_bytes);
    add_single(context, "memory_resident", "bytes", (grown - content) / (double)context->workload->live,
               "growth of the resident set a connection, without the bytes of names and data");
}

void case_settle(struct context *context)
{
    uint64_t before = thread_cpu_ns();
    presence_recorder_settle(context->workload->recorder);
    add_single(context, "settle", "ns", (double)(thread_cpu_ns() - before),
               "presence_recorder_settle after filling: on huge pages");
}

void case_memory_after(struct context *context)
{
    report_memory(context, "_churned");
    presence_recorder_trim(context->workload->recorder);
    report_memory(context, "_trimmed");
}

/* What this machine does to a thread that only reads its CPU clock, as often as connects were measured. */
static uint64_t idle_max_ns(size_t readings)
{
    uint64_t most = 0, before = thread_cpu_ns();
    for (size_t i = 0; i < readings; i++) {
        uint64_t now = thread_cpu_ns();
        most = now - before > most ? now - before : most;
        before = now;
    }
    return most;
}

/* The worst connect that was slow in both fillings, at the same place or within a few connects of it: a pause of the
 * recorder comes back where its tables grow; the host's and the kernel's do not. */
static uint64_t worst_of_both(const uint32_t *first, const uint32_t *again, size_t count, size_t *at)
{
    enum { NEAR = 64 };
    uint64_t worst = 0;
    for (size_t i = 0; i < count; i++) {
        if (first[i] <= worst) {
            continue;
        }
        size_t begin = i > NEAR ? i - NEAR : 0, end = i + NEAR < count ? i + NEAR : count;
        uint64_t near = 0;
        for (size_t k = begin; k < end; k++) {
            near = again[k] > near ? again[k] : near;
        }
        uint64_t both = near < first[i] ? near : first[i];
        *at = both > worst ? i : *at;
        worst = both > worst ? both : worst;
    }
    return worst;
}

static void report_growth(struct context *context, const struct histogram *connects)
{
    static const struct {
        const char *name;
        double percent;
    } lines[] = {{"growth_p50", 50}, {"growth_p99", 99}, {"growth_p99.99", 99.99}};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        add_single(context, lines[i].name, "ns", histogram_percentile(connects, lines[i].percent),
                   i == 0 ? "thread CPU time of single connects from 0 to N" : "");
    }
    char note[160];
    size_t used = 0;
    for (size_t i = 0; i < 4 && connects->worst[i] > 0; i++) {
        int wrote = snprintf(note + used, sizeof note - used, "%s%.0f us at %llu",
                             i ? ", " : "the worst: ", (double)connects->worst[i] / 1000,
                             (unsigned long long)connects->worst_at[i]);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    add_single(context, "growth_max", "ns", (double)connects->worst[0], note);
}

/* Memory that the system and its host have backed already: chunks grow from the front of it, small blocks from its end.
 * Nothing is given back until the pool is empty again. */
struct pool {
    char *memory;
    size_t bytes, front, back;
};

static void *pool_allocate(void *context, size_t bytes, size_t alignment)
{
    enum { CHUNK_ALIGNMENT = 4096 };
    struct pool *pool = context;
    if (alignment >= CHUNK_ALIGNMENT) {
        size_t at = (pool->front + alignment - 1) & ~(alignment - 1);
        if (at + bytes > pool->back) {
            return NULL;
        }
        pool->front = at + bytes;
        return pool->memory + at;
    }
    if (pool->front + bytes + alignment > pool->back) {
        return NULL;
    }
    pool->back = (pool->back - bytes) & ~(alignment - 1);
    return pool->memory + pool->back;
}

static void pool_release(void *context, void *memory, size_t bytes, size_t alignment)
{
    (void)context;
    (void)memory;
    (void)bytes;
    (void)alignment;
}

/* The worst connect of two fillings in memory that was there before. */
static void growth_backed(struct context *context, uint32_t *first, uint32_t *again)
{
    enum { SPARE_BYTES = 32 << 20 };
    struct workload *workload = context->workload;
    uint64_t allocated = recorder_stats(workload->recorder).allocated_bytes;
    struct pool pool = {.bytes = allocated + allocated / 8 + SPARE_BYTES};
    pool.memory = huge_memory_new(pool.bytes);
    if (!pool.memory) {
        die("out of memory for a pool of %zu bytes", pool.bytes);
    }
    const presence_allocator memory = {pool_allocate, pool_release, &pool};
    for (int filling = 0; filling < 2; filling++) {
        pool.front = 0;
        pool.back = pool.bytes;
        workload_fill_again(workload, &memory, filling ? again : first);
    }
    size_t at = 0;
    uint64_t both = worst_of_both(first, again, workload->size, &at);
    char note[160];
    snprintf(note, sizeof note, "the same of two fillings in memory that was written before: at %zu; no target", at);
    add_single(context, "growth_max_backed", "ns", (double)both, note);
    huge_memory_free(pool.memory, pool.bytes);
}

void case_growth(struct context *context)
{
    struct workload *workload = context->workload;
    struct histogram *connects = allocate_or_die(1, sizeof *connects);
    uint32_t *again = allocate_or_die(workload->size, sizeof again[0]);
    for (size_t i = 0; i < workload->size; i++) {
        histogram_add(connects, context->costs_ns[i], i);
    }
    workload_fill_again(workload, NULL, again);
    size_t at = 0;
    uint64_t both = worst_of_both(context->costs_ns, again, workload->size, &at);
    add_single(context, "thread_clock", "ns", clock_cost_ns(CLOCK_THREAD_CPUTIME_ID),
               "what one reading of the thread's CPU clock adds to each connect below");
    report_growth(context, connects);
    add_single(context, "growth_idle_max", "ns", (double)idle_max_ns(workload->size),
               "the same clock read as often with nothing between: what the machine adds");
    static struct samples faults;
    huge_page_faults(&faults, 25);
    add_samples(context, "growth_huge_page_fault", "ns", &faults,
                "the first write to a fresh huge page: dear where a host backs its guest's memory late");
    char note[120];
    snprintf(note, sizeof note, "the worst that was as slow at the same place of a second filling: at %zu", at);
    add_judged(context, "growth_max_twice", "ns", (double)both, 1000000, true, note);
    uint32_t *backed = allocate_or_die(workload->size, sizeof backed[0]);
    growth_backed(context, backed, again);
    free(backed);
    free(again);
    free(connects);
}

/* ----------------------------------------------------------------------------------------------------- watches -- */

enum { WATCHES_MOST = 100, COST_PAIRS = 20000 };

static presence_watch *watches[WATCHES_MOST];
static size_t watches_open;

/* Non-matching ones look for a server that does not exist. Each has a descriptor, as a consumer's would. */
static void open_watches(struct workload *workload, size_t count, bool matching)
{
    for (watches_open = 0; watches_open < count; watches_open++) {
        char server[40];
        snprintf(server, sizeof server, "elsewhere-%zu", watches_open);
        presence_watch_options options;
        presence_watch_options_init(&options);
        options.server = matching ? NULL : server;
        check_call(presence_watch_open(workload->recorder, &options, &watches[watches_open], NULL),
                   "presence_watch_open");
        if (presence_watch_fd(watches[watches_open]) < 0) {
            die("presence_watch_fd failed");
        }
    }
}

static void close_watches(void)
{
    while (watches_open > 0) {
        presence_watch_free(watches[--watches_open]);
    }
}

/* Reads all that is pending; returns the number of events. */
static size_t drain_watches(void)
{
    size_t events = 0;
    for (size_t i = 0; i < watches_open; i++) {
        presence_event event;
        int code;
        while ((code = presence_watch_next(watches[i], &event)) == 1) {
            events++;
        }
        check_call(code, "presence_watch_next");
    }
    return events;
}

struct watched {
    double pair_ns, drain_ns_per_change;
};

/* A pair is one connect and one disconnect. Watches are drained after every 250 changes, outside the pair's time. */
static struct watched measure_pairs(struct workload *workload, size_t pairs, bool expect_events)
{
    uint64_t writing = 0, draining = 0;
    size_t events = 0, chunks = pairs / CHUNK;
    for (size_t i = 0; i < 2 * chunks; i++) {
        writing += i % 2 == 0 ? connect_one_chunk(workload) : disconnect_one_chunk(workload);
        uint64_t start = wall_ns();
        events += drain_watches();
        draining += wall_ns() - start;
    }
    if (events != (expect_events ? 2 * chunks * CHUNK : 0)) {
        die("watches told %zu events of %zu changes", events, 2 * chunks * CHUNK);
    }
    return (struct watched){(double)writing / (double)(chunks * CHUNK),
                            (double)draining / (double)(2 * chunks * CHUNK)};
}

static void round_watch(struct workload *workload, size_t pairs, double *out)
{
    out[0] = measure_pairs(workload, pairs, false).pair_ns;
    open_watches(workload, 1, true);
    struct watched one = measure_pairs(workload, pairs, true);
    close_watches();
    open_watches(workload, WATCHES_MOST, false);
    struct watched hundred = measure_pairs(workload, pairs, false);
    close_watches();
    out[1] = one.pair_ns;
    out[2] = hundred.pair_ns;
    out[3] = one.drain_ns_per_change;
    out[4] = hundred.drain_ns_per_change;
}

void case_watch(struct context *context)
{
    static const struct round_case watch = {
        .round = round_watch,
        .operations = COST_PAIRS,
        .warm = true,
        .output_count = 5,
        .outputs = {{"pair_no_watch", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "one connect and one disconnect"},
                    {"pair_1_watch", BASE_OUTPUT, 0, TARGET_NONE, 0, 0, 0, "a watch of everything, with a descriptor"},
                    {"pair_100_watches", BASE_OUTPUT, 0, TARGET_NONE, 0, 0, 0,
                     "100 watches that match nothing, with descriptors"},
                    {"drain_1_watch", BASE_NONE, 0, TARGET_NONE, 0, 0, 0, "the consumer's time, a change"},
                    {"drain_100_watches", BASE_NONE, 0, TARGET_NONE, 0, 0, 0,
                     "the consumers' time, a change, all 100 together"}},
    };
    run_rounds(context, &watch);
}

/* ----------------------------------------------------------------------------------------------------- digests -- */

static void round_pairs(struct workload *workload, size_t pairs, double *out)
{
    out[0] = measure_pairs(workload, pairs, false).pair_ns;
}

static void claim_all(struct context *context)
{
    struct workload *workload = context->workload;
    uint64_t start = wall_ns();
    for (size_t i = 0; i < workload->servers; i++) {
        presence_claim claim = {.epoch = 1, .turn = 1, .random = random_next(&workload->random)};
        check_call(presence_replica_claim(workload->recorder, workload->server_name[i], &claim, true),
                   "presence_replica_claim");
    }
    double spent = (double)(wall_ns() - start);
    add_single(context, "claim_per_connection", "ns", spent / (double)workload->live,
               "claiming servers that are filled already: the digest of each connection");
}

/* Not in turns like other cases, for a claim cannot be taken back. Each half has its own F. */
void case_digest(struct context *context)
{
    struct round_case pairs = {
        .round = round_pairs,
        .operations = COST_PAIRS,
        .warm = true,
        .output_count = 1,
        .outputs = {{"pair_unclaimed", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "one connect and one disconnect"}},
    };
    run_rounds(context, &pairs);
    claim_all(context);
    pairs.outputs[0].name = "pair_claimed";
    pairs.outputs[0].note = "the same on claimed servers: digests are kept";
    run_rounds(context, &pairs);
}

/* ----------------------------------------------------------------------------------------------- the naive array -- */

static double naive_view_ns(struct naive *naive)
{
    size_t count = 0;
    uint64_t start = wall_ns();
    struct naive_row *view = naive_view(naive, &count);
    uint64_t spent = wall_ns() - start;
    if (!view) {
        die("out of memory for the naive view");
    }
    free(view);
    return (double)spent;
}

void case_naive(struct context *context)
{
    enum { LARGEST = 1000000 };
    struct workload *workload = context->workload;
    if (workload->size > LARGEST) {
        add_single(context, "naive_view", "ns", 0, "not measured above a million: each call takes tens of ms");
        return;
    }
    struct naive *naive = naive_new(workload);
    static struct samples connects, activities, views;
    size_t repetitions = workload->size >= LARGEST ? 9 : 51;
    samples_clear(&connects);
    samples_clear(&activities);
    samples_clear(&views);
    for (size_t i = 0; i < repetitions; i++) {
        struct operation *operation = &workload->chunk[i];
        operation_set_all(workload, operation, (uint32_t)(workload->size + i));
        uint64_t start = wall_ns();
        naive_connect(naive, operation);
        samples_add(&connects, (double)(wall_ns() - start));
        operation_set_all(workload, operation, random_below(&workload->random, workload->size));
        start = wall_ns();
        if (!naive_activity(naive, operation)) {
            die("the naive array did not find a key of its own");
        }
        samples_add(&activities, (double)(wall_ns() - start));
        samples_add(&views, naive_view_ns(naive));
    }
    char note[80];
    snprintf(note, sizeof note, "copies %.1f MB", (double)naive_bytes(naive) / 1e6);
    add_samples(context, "naive_connect", "ns", &connects, "an array under a mutex, searched from the front");
    add_samples(context, "naive_activity", "ns", &activities, "");
    add_samples(context, "naive_view", "ns", &views, note);
    naive_free(naive);
}

/* ------------------------------------------------------------------------------------------------- flat memory -- */

enum { STANDING = 4 * CHUNK, CHURN_WARM_LEAST = 100000 };

/* Agents number k, k + 1...: each of its own name, 100 of each model, never seen before. */
static void prepare_newcomers(struct workload *workload, uint64_t first)
{
    for (size_t i = 0; i < CHUNK; i++) {
        struct operation *operation = &workload->chunk[i];
        uint64_t number = first + i;
        operation->id = mix64(number);
        operation->server = workload->server_name[number % workload->servers];
        name_model((uint32_t)(number / AGENTS_PER_MODEL), operation->model_name);
        name_agent(number, operation->agent_name);
        operation->model = operation->model_name;
        operation->agent = operation->agent_name;
    }
}

static uint64_t churn_chunk(struct workload *workload, uint64_t first)
{
    int failed = 0;
    prepare_newcomers(workload, first);
    uint64_t start = stopwatch_ns();
    for (size_t i = 0; i < CHUNK; i++) {
        const struct operation *operation = &workload->chunk[i];
        failed |= presence_recorder_connect(workload->recorder, operation->server, operation->model, operation->agent,
                                            operation->id, false, NULL);
    }
    uint64_t spent = stopwatch_ns() - start;
    if (first >= STANDING) {
        prepare_newcomers(workload, first - STANDING);
        start = stopwatch_ns();
        for (size_t i = 0; i < CHUNK; i++) {
            const struct operation *operation = &workload->chunk[i];
            failed |= presence_recorder_disconnect(workload->recorder, operation->server, operation->id);
        }
        spent += stopwatch_ns() - start;
    }
    check_call(failed, "connect or disconnect of distinct agents in turn");
    return spent;
}

void case_churn(struct context *context)
{
    struct workload *workload = context->workload;
    uint64_t pairs = context->options->churn, warm = pairs / 10 > CHURN_WARM_LEAST ? pairs / 10 : CHURN_WARM_LEAST;
    uint64_t next = 0, spent = 0;
    for (; next < warm; next += CHUNK) {
        (void)churn_chunk(workload, next);
    }
    presence_stats start = recorder_stats(workload->recorder);
    uint64_t resident = resident_bytes(), end = next + pairs;
    for (; next < end; next += CHUNK) {
        spent += churn_chunk(workload, next);
    }
    presence_stats now = recorder_stats(workload->recorder);
    uint64_t resident_now = resident_bytes();
    char note[160];
    snprintf(note, sizeof note, "%llu distinct agents in turn, %d connected at a time; connect and disconnect",
             (unsigned long long)pairs, STANDING);
    add_single(context, "churn_pair", "ns", (double)spent / (double)pairs, note);
    snprintf(note, sizeof note, "end / start: allocated %llu -> %llu bytes, names kept %llu -> %llu",
             (unsigned long long)start.allocated_bytes, (unsigned long long)now.allocated_bytes,
             (unsigned long long)start.names, (unsigned long long)now.names);
    add_judged(context, "churn_allocated", "ratio", (double)now.allocated_bytes / (double)start.allocated_bytes, 1.1,
               true, note);
    snprintf(note, sizeof note, "end / start: resident %llu -> %llu bytes", (unsigned long long)resident,
             (unsigned long long)resident_now);
    add_judged(context, "churn_resident", "ratio", (double)resident_now / (double)resident, 1.1, true, note);
}
