/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cases_bulk.c - the cases of a whole server at once: server_down, update_server, and how long another server's writer
 * is held up meanwhile.
 *
 * Keeps true: the server that is put down and updated holds N / servers connections, and the list that brings it back
 * states exactly those; its strings lie together, as those of a message that was just parsed would. The writer of other
 * servers runs on a processor of its own; without a second one it is not measured at all, for the scheduler's slices
 * would be all that is seen. Called by bench_recorder.c; starts and joins one thread of its own.
 */
#include "cases.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { BULK_SERVER = 0, NAMES_BYTES = MODEL_BYTES + AGENT_BYTES };

/* Everything connected to one server, as its own list. */
struct server_list {
    presence_value *values;
    char *names;
    size_t count;
};

static struct server_list list;

static void server_list_new(struct workload *workload)
{
    size_t most = 0;
    for (size_t i = 0; i < workload->live; i++) {
        most += entity_server(workload, workload->order[i]) == BULK_SERVER ? 1 : 0;
    }
    list.values = allocate_or_die(most, sizeof list.values[0]);
    list.names = allocate_or_die(most, NAMES_BYTES);
    list.count = 0;
    for (size_t i = 0; i < workload->live; i++) {
        uint32_t entity = workload->order[i];
        if (entity_server(workload, entity) != BULK_SERVER) {
            continue;
        }
        char *model = list.names + list.count * NAMES_BYTES, *agent = model + MODEL_BYTES;
        name_model(entity_model(workload, entity), model);
        name_agent(entity, agent);
        list.values[list.count++] = (presence_value){.model = model,
                                                     .server = workload->server_name[BULK_SERVER],
                                                     .agent = agent,
                                                     .user_data = "",
                                                     .connection_id = entity_id(workload, entity)};
    }
}

static void server_list_free(struct workload *workload)
{
    (void)workload;
    free(list.values);
    free(list.names);
    memset(&list, 0, sizeof list);
}

static uint64_t time_update(struct workload *workload)
{
    presence_error error;
    error.message[0] = 0;
    uint64_t start = wall_ns();
    int code = presence_recorder_update_server(workload->recorder, workload->server_name[BULK_SERVER], list.values,
                                               list.count, &error);
    uint64_t spent = wall_ns() - start;
    if (code != PRESENCE_OK) {
        die("presence_recorder_update_server: %s: %s", presence_strerror(code), error.message);
    }
    return spent;
}

static double time_server_down(struct workload *workload)
{
    size_t missing = 0;
    uint64_t start = wall_ns();
    int code = presence_recorder_server_down_because(workload->recorder, workload->server_name[BULK_SERVER],
                                                     PRESENCE_REASON_SERVER_DOWN, &missing);
    double spent = (double)(wall_ns() - start);
    check_call(code, "presence_recorder_server_down_because");
    if (missing != list.count) {
        die("server_down made %zu of %zu connections missing", missing, list.count);
    }
    return spent;
}

/* Once after other work that left nothing of the recorder in any cache, and once amid other calls. */
static void round_server_down(struct workload *workload, size_t operations, double *out)
{
    (void)operations;
    out[0] = time_server_down(workload);
    out[1] = (double)time_update(workload);
    out[2] = (double)time_update(workload);
    out[3] = out[1] / (double)list.count;
    (void)activity_one_chunk(workload);
    out[4] = time_server_down(workload);
    (void)time_update(workload);
}

void case_server_down(struct context *context)
{
    static const struct round_case server_down = {
        .before = server_list_new,
        .round = round_server_down,
        .after = server_list_free,
        .output_count = 5,
        .outputs = {{"server_down", BASE_NONE, 0, TARGET_VALUE, 2000, SIZE_ANY,
                     "one call, all of N / servers missing; caches cold; two clock readings in"},
                    {"update_server", BASE_NONE, 0, TARGET_NONE, 0, 0, 0, "N / servers values, all missing before"},
                    {"update_server_same", BASE_NONE, 0, TARGET_NONE, 0, 0, 0, "N / servers values, nothing new"},
                    {"update_server_per_value", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, NULL},
                    {"server_down_amid", BASE_NONE, 0, TARGET_VALUE, 2000, SIZE_ANY,
                     "the same call, after 250 calls of activity on all servers"}},
    };
    run_rounds(context, &server_down);
}

/* ----------------------------------------------------------------------------- the writer of the other servers -- */

enum phase { PHASE_ALONE, PHASE_UPDATING, PHASE_STOP };

enum { KEYS = 1 << 16, STALL_NS = 20000 };

struct phase_times {
    struct histogram calls;
    uint64_t worst_undisturbed; /* of the calls in which this thread was not taken off its processor */
    uint64_t disturbed;
};

struct other_writer {
    struct workload *workload;
    int cpu;
    struct {
        uint64_t id;
        const char *server;
    } * keys;
    atomic_int phase;
    struct phase_times times[PHASE_STOP];
};

static void other_writer_prepare(struct other_writer *writer)
{
    struct workload *workload = writer->workload;
    writer->keys = allocate_or_die(KEYS, sizeof writer->keys[0]);
    for (size_t i = 0; i < KEYS; i++) {
        uint32_t entity;
        do {
            entity = workload->order[random_below(&workload->random, workload->live)];
        } while (entity_server(workload, entity) == BULK_SERVER);
        writer->keys[i].id = entity_id(workload, entity);
        writer->keys[i].server = workload->server_name[entity_server(workload, entity)];
    }
}

/* Whether the thread was preempted is asked only after calls that took long, and again once the answer is known. */
static void *other_writer_run(void *argument)
{
    struct other_writer *writer = argument;
    machine_pin(writer->cpu);
    uint64_t preemptions = thread_preemptions();
    uint64_t before = wall_ns();
    for (size_t i = 0;; i++) {
        int phase = atomic_load_explicit(&writer->phase, memory_order_relaxed);
        if (phase == PHASE_STOP) {
            return NULL;
        }
        int code = presence_recorder_activity(writer->workload->recorder, writer->keys[i % KEYS].server,
                                              writer->keys[i % KEYS].id);
        uint64_t now = wall_ns(), spent = now - before;
        check_call(code, "presence_recorder_activity beside update_server");
        struct phase_times *times = &writer->times[phase];
        histogram_add(&times->calls, spent, i);
        if (spent > STALL_NS) {
            uint64_t preemptions_now = thread_preemptions();
            bool undisturbed = preemptions_now == preemptions;
            times->disturbed += undisturbed ? 0 : 1;
            times->worst_undisturbed =
                undisturbed && spent > times->worst_undisturbed ? spent : times->worst_undisturbed;
            preemptions = preemptions_now;
            now = wall_ns();
        }
        before = now;
    }
}

static void report_phase(struct context *context, const struct phase_times *times, const char *name, const char *note)
{
    char text[40], detail[160];
    snprintf(text, sizeof text, "%s_p50", name);
    add_single(context, text, "ns", histogram_percentile(&times->calls, 50), note);
    snprintf(text, sizeof text, "%s_p99.9", name);
    add_single(context, text, "ns", histogram_percentile(&times->calls, 99.9), "");
    snprintf(text, sizeof text, "%s_max", name);
    double undisturbed = times->worst_undisturbed ? (double)times->worst_undisturbed / 1000 : STALL_NS / 1000.0;
    snprintf(detail, sizeof detail, "of %llu calls; at most %.0f us in those not preempted (%llu were, for long)",
             (unsigned long long)times->calls.count, undisturbed, (unsigned long long)times->disturbed);
    add_single(context, text, "ns", (double)times->calls.worst[0], detail);
}

static void wait_ns(uint64_t duration)
{
    struct timespec pause = {(time_t)(duration / 1000000000u), (long)(duration % 1000000000u)};
    nanosleep(&pause, NULL);
}

void case_held_up(struct context *context)
{
    enum { PHASE_NS = 300000000, UPDATES_LEAST = 3, UPDATES_MOST = 2000 };
    struct workload *workload = context->workload;
    struct other_writer *writer = allocate_or_die(1, sizeof *writer);
    writer->workload = workload;
    writer->cpu = machine_other_cpu(context->report->machine.cpu_used);
    if (writer->cpu < 0 || workload->servers < 2) {
        add_single(context, "writer_beside_update_max", "ns", 0, "not measured: needs two processors and two servers");
        free(writer);
        return;
    }
    server_list_new(workload);
    other_writer_prepare(writer);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other_writer_run, writer) != 0) {
        die("pthread_create failed");
    }
    wait_ns(PHASE_NS);
    atomic_store(&writer->phase, PHASE_UPDATING);
    uint64_t start = wall_ns();
    size_t updates = 0;
    while (updates < UPDATES_LEAST || (updates < UPDATES_MOST && wall_ns() - start < PHASE_NS)) {
        (void)time_update(workload);
        updates++;
    }
    atomic_store(&writer->phase, PHASE_STOP);
    pthread_join(thread, NULL);
    char note[120];
    snprintf(note, sizeof note, "activity on other servers, during %zu update_server of %zu values", updates,
             list.count);
    report_phase(context, &writer->times[PHASE_ALONE], "writer_alone", "activity on other servers, nothing beside it");
    report_phase(context, &writer->times[PHASE_UPDATING], "writer_beside_update", note);
    server_list_free(workload);
    free(writer->keys);
    free(writer);
}
