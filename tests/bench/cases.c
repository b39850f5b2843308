/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cases.c - how rounds are run and compared, and the cases of single operations: F, activity, agent_status, connect
 * and disconnect, each at N connections in steady state.
 *
 * Keeps true: a measured time holds nothing but calls of the library, a loop and two readings of the clock per 250
 * calls; a call that fails ends the run. Called by bench_recorder.c, from one thread.
 */
#include "cases.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------------ rounds -- */

size_t rounds_at(const struct context *context)
{
    if (context->options->rounds > 0) {
        return (size_t)context->options->rounds;
    }
    size_t size = context->workload->size;
    return size <= 100000 ? 9 : size <= 1000000 ? 7 : 5;
}

/* Enough to average over, within a tenth of a second or so. */
static size_t operations_at(size_t size)
{
    return size < 20000 ? 20000 : size > 100000 ? 100000 : size;
}

/* F just now: warmed up, over as many finds as fit in a few ms. */
static double find_now_ns(struct workload *workload)
{
    enum { FINDS = 20000 };
    (void)yardstick_find_ns(workload, workload->yardstick, FINDS / 2);
    return yardstick_find_ns(workload, workload->yardstick, FINDS);
}

static void add_output(struct context *context, const struct round_case *round_case, size_t index,
                       const struct samples *samples, const struct samples *finds)
{
    const struct round_output *output = &round_case->outputs[index];
    struct result result = {.unit = "ns", .size = context->workload->size, .rounds = samples[index].count};
    snprintf(result.name, sizeof result.name, "%s", output->name);
    result.median = samples_median(&samples[index]);
    result.min = samples_min(&samples[index]);
    result.max = samples_max(&samples[index]);
    if (output->base == BASE_FIND) {
        snprintf(result.base_name, sizeof result.base_name, "F");
        result.base = samples_median(finds);
    } else if (output->base == BASE_OUTPUT) {
        snprintf(result.base_name, sizeof result.base_name, "%s", round_case->outputs[output->base_output].name);
        result.base = samples_median(&samples[output->base_output]);
    }
    result.target = output->target;
    result.limit = output->limit;
    result.judged =
        output->target != TARGET_NONE && result.size >= output->judged_from && result.size <= output->judged_to;
    snprintf(result.note, sizeof result.note, "%s", output->note ? output->note : "");
    report_add(context->report, &result);
}

void run_rounds(struct context *context, const struct round_case *round_case)
{
    struct workload *workload = context->workload;
    struct samples samples[OUTPUTS_MAX], finds;
    memset(samples, 0, sizeof samples);
    samples_clear(&finds);
    size_t operations = round_case->operations ? round_case->operations : operations_at(workload->size);
    if (round_case->before) {
        round_case->before(workload);
    }
    for (size_t round = 0; round < rounds_at(context); round++) {
        double out[OUTPUTS_MAX] = {0};
        samples_add(&finds, find_now_ns(workload));
        if (round_case->warm) {
            round_case->round(workload, operations / 4, out);
        }
        round_case->round(workload, operations, out);
        for (size_t i = 0; i < round_case->output_count; i++) {
            samples_add(&samples[i], out[i]);
        }
    }
    if (round_case->after) {
        round_case->after(workload);
    }
    for (size_t i = 0; i < round_case->output_count; i++) {
        add_output(context, round_case, i, samples, &finds);
    }
}

void add_judged(struct context *context, const char *name, const char *unit, double value, double limit, bool judged,
                const char *note)
{
    struct result result = {.size = context->workload->size, .rounds = 1, .median = value, .min = value, .max = value};
    snprintf(result.name, sizeof result.name, "%s", name);
    snprintf(result.unit, sizeof result.unit, "%s", unit);
    snprintf(result.note, sizeof result.note, "%s", note);
    result.target = limit > 0 ? TARGET_VALUE : TARGET_NONE;
    result.limit = limit;
    result.judged = judged;
    report_add(context->report, &result);
}

void add_single(struct context *context, const char *name, const char *unit, double value, const char *note)
{
    add_judged(context, name, unit, value, 0, false, note);
}

void add_samples(struct context *context, const char *name, const char *unit, const struct samples *samples,
                 const char *note)
{
    struct result result = {.size = context->workload->size, .rounds = samples->count};
    snprintf(result.name, sizeof result.name, "%s", name);
    snprintf(result.unit, sizeof result.unit, "%s", unit);
    snprintf(result.note, sizeof result.note, "%s", note);
    result.median = samples_median(samples);
    result.min = samples_min(samples);
    result.max = samples_max(samples);
    report_add(context->report, &result);
}

/* ----------------------------------------------------------------------------------------------------------- F -- */

void case_find(struct context *context)
{
    struct workload *workload = context->workload;
    struct samples plain, huge;
    samples_clear(&plain);
    samples_clear(&huge);
    struct yardstick *on_huge_pages = yardstick_new(workload, true);
    size_t finds = operations_at(workload->size);
    for (size_t round = 0; round < rounds_at(context); round++) {
        (void)yardstick_find_ns(workload, workload->yardstick, finds / 4);
        samples_add(&plain, yardstick_find_ns(workload, workload->yardstick, finds));
        (void)yardstick_find_ns(workload, on_huge_pages, finds / 4);
        samples_add(&huge, yardstick_find_ns(workload, on_huge_pages, finds));
    }
    yardstick_free(on_huge_pages);
    char note[120];
    snprintf(note, sizeof note, "one dependent find, %.1f MiB of calloc, %.0f %% full",
             (double)workload->yardstick->bytes / 1048576,
             100.0 * (double)workload->size / (double)workload->yardstick->capacity);
    add_samples(context, "F", "ns", &plain, note);
    add_samples(context, "F_huge_pages", "ns", &huge, "the same with madvise(MADV_HUGEPAGE); no target refers to it");
}

/* --------------------------------------------------------------------------------------- activity, agent_status -- */

static int call_activity(struct workload *workload, size_t i)
{
    return presence_recorder_activity(workload->recorder, workload->chunk[i].server, workload->chunk[i].id);
}

uint64_t activity_one_chunk(struct workload *workload)
{
    prepare_any_live(workload, false);
    return time_chunk(workload, call_activity, "presence_recorder_activity");
}

void round_activity(struct workload *workload, size_t operations, double *out)
{
    uint64_t spent = 0;
    size_t chunks = operations / CHUNK;
    for (size_t i = 0; i < chunks; i++) {
        spent += activity_one_chunk(workload);
    }
    out[0] = (double)spent / (double)(chunks * CHUNK);
}

void case_activity(struct context *context)
{
    static const struct round_case activity = {
        .round = round_activity,
        .warm = true,
        .output_count = 1,
        .outputs = {{"activity", BASE_FIND, 0, TARGET_RATIO, 1.5, SIZE_MILLIONS, NULL}},
    };
    run_rounds(context, &activity);
}

static int call_agent_status(struct workload *workload, size_t i)
{
    presence_status status = PRESENCE_UNKNOWN;
    int code =
        presence_recorder_agent_status(workload->recorder, workload->chunk[i].model, workload->chunk[i].agent, &status);
    return code | (status != PRESENCE_ALIVE);
}

void round_agent_status(struct workload *workload, size_t operations, double *out)
{
    uint64_t spent = 0;
    size_t chunks = operations / CHUNK;
    for (size_t i = 0; i < chunks; i++) {
        prepare_any_live(workload, true);
        spent += time_chunk(workload, call_agent_status, "presence_recorder_agent_status, or an agent not alive");
    }
    out[0] = (double)spent / (double)(chunks * CHUNK);
}

void case_agent_status(struct context *context)
{
    static const struct round_case agent_status = {
        .round = round_agent_status,
        .warm = true,
        .output_count = 1,
        .outputs = {{"agent_status", BASE_FIND, 0, TARGET_RATIO, 2, SIZE_MILLIONS, NULL}},
    };
    run_rounds(context, &agent_status);
}

/* ------------------------------------------------------------------------------------------ connect, disconnect -- */

static int call_connect(struct workload *workload, size_t i)
{
    const struct operation *operation = &workload->chunk[i];
    return presence_recorder_connect(workload->recorder, operation->server, operation->model, operation->agent,
                                     operation->id, false, NULL);
}

static int call_disconnect(struct workload *workload, size_t i)
{
    return presence_recorder_disconnect(workload->recorder, workload->chunk[i].server, workload->chunk[i].id);
}

uint64_t connect_one_chunk(struct workload *workload)
{
    prepare_connects(workload);
    workload->handles_are_stale = true;
    return time_chunk(workload, call_connect, "presence_recorder_connect");
}

uint64_t disconnect_one_chunk(struct workload *workload)
{
    prepare_disconnects(workload);
    return time_chunk(workload, call_disconnect, "presence_recorder_disconnect");
}

static uint64_t connect_chunks(struct workload *workload, size_t chunks)
{
    uint64_t spent = 0;
    for (size_t i = 0; i < chunks; i++) {
        spent += connect_one_chunk(workload);
    }
    return spent;
}

static uint64_t disconnect_chunks(struct workload *workload, size_t chunks)
{
    uint64_t spent = 0;
    for (size_t i = 0; i < chunks; i++) {
        spent += disconnect_one_chunk(workload);
    }
    return spent;
}

void run_cycles(struct workload *workload, size_t operations, uint64_t (*connect)(struct workload *, size_t chunks),
                uint64_t (*disconnect)(struct workload *, size_t chunks), double out[2])
{
    uint64_t connecting = 0, disconnecting = 0;
    size_t done = 0, chunks = operations / CHUNK;
    while (done < chunks) {
        size_t growth = chunks_to_grow(workload);
        growth = growth > chunks - done ? chunks - done : growth;
        connecting += connect(workload, growth);
        disconnecting += disconnect(workload, growth);
        done += growth;
    }
    out[0] = (double)connecting / (double)(done * CHUNK);
    out[1] = (double)disconnecting / (double)(done * CHUNK);
}

void round_connect(struct workload *workload, size_t operations, double *out)
{
    run_cycles(workload, operations, connect_chunks, disconnect_chunks, out);
}

/* The whole tenth in each round, so that the table grows and shrinks as far as is said. */
size_t connects_of_round(const struct workload *workload)
{
    size_t tenth = workload->size / 10;
    return tenth > 20000 ? tenth : 20000;
}

void case_connect(struct context *context)
{
    struct round_case connect = {
        .round = round_connect,
        .warm = true,
        .operations = connects_of_round(context->workload),
        .output_count = 2,
        .outputs = {{"connect", BASE_FIND, 0, TARGET_RATIO, 3.5, SIZE_MILLIONS, "new ones, growing N by a tenth"},
                    {"disconnect", BASE_FIND, 0, TARGET_RATIO, 4, SIZE_MILLIONS, "random ones, back to N"}},
    };
    run_rounds(context, &connect);
}
