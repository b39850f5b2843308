/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cases_views.c - the cases of snapshots: taking and dropping one, writing while one is held, listing a small model.
 *
 * Keeps true: where a target says "the drop counted in", taking a snapshot, dropping the one before and every write
 * that clears up after it lie within the measured time; a period of snapshots runs unmeasured first, so that the
 * measured ones pay for as many drops as they cause. Called by bench_recorder.c, from one thread.
 */
#include "cases.h"

#include <string.h>

static presence_connections *take_or_die(struct workload *workload)
{
    presence_connections *view = presence_recorder_connections(workload->recorder);
    if (!view) {
        die("presence_recorder_connections: out of memory");
    }
    return view;
}

static double snapshots_without_writes(struct workload *workload, size_t count)
{
    uint64_t start = stopwatch_ns();
    for (size_t i = 0; i < count; i++) {
        presence_connections_free(take_or_die(workload));
    }
    return (double)(stopwatch_ns() - start) / (double)count;
}

/* Each snapshot is a new version: an unmeasured stamp comes before it. */
static double snapshots_after_a_write(struct workload *workload, size_t count)
{
    uint64_t spent = 0;
    for (size_t i = 0; i < count; i++) {
        if (i % CHUNK == 0) {
            prepare_any_live(workload, false);
        }
        const struct operation *operation = &workload->chunk[i % CHUNK];
        check_call(presence_recorder_activity(workload->recorder, operation->server, operation->id),
                   "presence_recorder_activity");
        uint64_t start = wall_ns();
        presence_connections_free(take_or_die(workload));
        spent += wall_ns() - start;
    }
    return (double)spent / (double)count;
}

static void round_snapshot(struct workload *workload, size_t operations, double *out)
{
    out[0] = snapshots_without_writes(workload, operations);
    out[1] = snapshots_after_a_write(workload, operations);
}

void case_snapshot(struct context *context)
{
    static const struct round_case snapshot = {
        .round = round_snapshot,
        .warm = true,
        .operations = 20000,
        .output_count = 2,
        .outputs = {{"snapshot", BASE_NONE, 0, TARGET_VALUE, 1000, SIZE_ANY, "taken and dropped, no write between"},
                    {"snapshot_after_write", BASE_NONE, 0, TARGET_NONE, 0, 0, 0,
                     "the same, one stamp before each; two clock readings in"}},
    };
    run_rounds(context, &snapshot);
}

/* ---------------------------------------------------------------------------------- writes beside held snapshots -- */

enum { WRITES_PER_SNAPSHOT = 10000, PERIOD_CHUNKS = WRITES_PER_SNAPSHOT / CHUNK };

static uint64_t stamp_chunk(struct workload *workload, size_t i)
{
    (void)i;
    return activity_one_chunk(workload);
}

static uint64_t mixed_chunk(struct workload *workload, size_t i)
{
    return i % 2 == 0 ? connect_one_chunk(workload) : disconnect_one_chunk(workload);
}

/* One period's writes, then a snapshot takes the place of the one held. */
static uint64_t write_period(struct workload *workload, uint64_t (*chunk)(struct workload *, size_t),
                             presence_connections **held)
{
    uint64_t spent = 0;
    for (size_t i = 0; i < PERIOD_CHUNKS; i++) {
        spent += chunk(workload, i);
    }
    if (held) {
        uint64_t start = stopwatch_ns();
        presence_connections *view = take_or_die(workload);
        presence_connections_free(*held);
        spent += stopwatch_ns() - start;
        *held = view;
    }
    return spent;
}

static void measure_writes(struct workload *workload, size_t operations, uint64_t (*chunk)(struct workload *, size_t),
                           double out[2])
{
    uint64_t without = 0, with = 0;
    size_t periods = operations / WRITES_PER_SNAPSHOT;
    (void)write_period(workload, chunk, NULL);
    for (size_t i = 0; i < periods; i++) {
        without += write_period(workload, chunk, NULL);
    }
    presence_connections *held = take_or_die(workload);
    for (size_t i = 0; i < 2; i++) {
        (void)write_period(workload, chunk, &held);
    }
    for (size_t i = 0; i < periods; i++) {
        with += write_period(workload, chunk, &held);
    }
    presence_connections_free(held);
    out[0] = (double)without / (double)(periods * WRITES_PER_SNAPSHOT);
    out[1] = (double)with / (double)(periods * WRITES_PER_SNAPSHOT);
}

static void round_writes(struct workload *workload, size_t operations, double *out)
{
    measure_writes(workload, operations, stamp_chunk, out);
    measure_writes(workload, operations, mixed_chunk, out + 2);
}

void case_writes(struct context *context)
{
    static const struct round_case writes = {
        .round = round_writes,
        .operations = 100000,
        .output_count = 4,
        .outputs = {{"stamps_no_snapshot", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "activity"},
                    {"stamps_snapshots_held", BASE_OUTPUT, 0, TARGET_RATIO, 4, SIZE_MILLION,
                     "activity, a snapshot per 10,000 held until the next, drops counted in"},
                    {"mix_no_snapshot", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "connects and disconnects, half each"},
                    {"mix_snapshots_held", BASE_OUTPUT, 2, TARGET_RATIO, 4, SIZE_MILLION,
                     "connects and disconnects, a snapshot per 10,000 held until the next"}},
    };
    run_rounds(context, &writes);
}

/* ----------------------------------------------------------------------------------------------------- listing -- */

static volatile uint64_t bytes_seen; /* keeps the walk from being optimised away */

static size_t list_model(struct workload *workload, const char *model)
{
    presence_connections *all = take_or_die(workload);
    presence_connections *slice = presence_connections_for_model(all, model);
    if (!slice) {
        die("presence_connections_for_model: out of memory");
    }
    presence_cursor cursor;
    memset(&cursor, 0, sizeof cursor);
    presence_value value;
    size_t count = 0;
    uint64_t seen = 0;
    while (presence_connections_next(slice, &cursor, &value)) {
        seen += (uint64_t)(unsigned char)value.agent[0] + (uint64_t)value.status;
        count++;
    }
    bytes_seen += seen;
    presence_connections_free(slice);
    presence_connections_free(all);
    return count;
}

static void round_listing(struct workload *workload, size_t operations, double *out)
{
    uint64_t spent = 0;
    size_t rows = 0;
    for (size_t i = 0; i < operations; i++) {
        char model[MODEL_BYTES];
        name_model(random_below(&workload->random, workload->models), model);
        if (i % CHUNK == 0) {
            prepare_any_live(workload, false);
        }
        const struct operation *operation = &workload->chunk[i % CHUNK];
        check_call(presence_recorder_activity(workload->recorder, operation->server, operation->id),
                   "presence_recorder_activity");
        uint64_t start = wall_ns();
        rows += list_model(workload, model);
        spent += wall_ns() - start;
    }
    if (rows < operations * AGENTS_PER_MODEL / 2) {
        die("listings gave %zu rows, about %zu were expected", rows, operations * AGENTS_PER_MODEL);
    }
    out[0] = (double)spent / (double)operations;
    out[1] = (double)spent / (double)rows;
}

void case_listing(struct context *context)
{
    static const struct round_case listing = {
        .round = round_listing,
        .operations = 1000,
        .warm = true,
        .output_count = 2,
        .outputs = {{"listing", BASE_NONE, 0, TARGET_VALUE, 20000, SIZE_MILLION,
                     "a random model of about 100: snapshot, slice, walk, free; one stamp before each"},
                    {"listing_per_value", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, NULL}},
    };
    run_rounds(context, &listing);
}
