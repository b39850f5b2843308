/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cases_batch.c - the cases of handles, of batches and of replicated changes, at N connections in steady state.
 *
 * Keeps true: handles were taken long before they are used, so no look-up of the harness has warmed what the measured
 * call touches; every element of a batch is recorded, or the run ends. Batches of keys are about 250 of one server,
 * batches of handles and of connects 250 of all servers, replicated changes about 100 of one server. Called by
 * bench_recorder.c, from one thread.
 */
#include "cases.h"

#include <presence/replica.h>

/* ----------------------------------------------------------------------------------------------------- handles -- */

static int call_connect_handle(struct workload *workload, size_t i)
{
    return presence_recorder_connect_handle(workload->recorder, &workload->values[i], &workload->chunk_handles[i], NULL,
                                            NULL);
}

static uint64_t connect_handle_chunks(struct workload *workload, size_t chunks)
{
    uint64_t spent = 0;
    for (size_t i = 0; i < chunks; i++) {
        prepare_connects(workload);
        spent += time_chunk(workload, call_connect_handle, "presence_recorder_connect_handle");
        for (size_t k = 0; k < CHUNK; k++) {
            workload->handles[workload->chunk[k].entity] = workload->chunk_handles[k];
        }
    }
    return spent;
}

static int call_disconnect_handle(struct workload *workload, size_t i)
{
    return presence_recorder_disconnect_handle(workload->recorder, &workload->chunk_handles[i]);
}

static uint64_t disconnect_handle_chunks(struct workload *workload, size_t chunks)
{
    uint64_t spent = 0;
    for (size_t i = 0; i < chunks; i++) {
        prepare_disconnects(workload);
        spent += time_chunk(workload, call_disconnect_handle, "presence_recorder_disconnect_handle");
    }
    return spent;
}

static void prepare_any_handles(struct workload *workload)
{
    for (size_t i = 0; i < CHUNK; i++) {
        uint32_t entity = workload->order[random_below(&workload->random, workload->live)];
        workload->chunk_handles[i] = workload->handles[entity];
    }
}

static int call_activity_handle(struct workload *workload, size_t i)
{
    return presence_recorder_activity_handle(workload->recorder, &workload->chunk_handles[i]);
}

void round_handle(struct workload *workload, size_t operations, double *out)
{
    uint64_t spent = 0;
    size_t chunks = operations / CHUNK;
    for (size_t i = 0; i < chunks; i++) {
        prepare_any_handles(workload);
        spent += time_chunk(workload, call_activity_handle, "presence_recorder_activity_handle");
    }
    out[0] = (double)spent / (double)(chunks * CHUNK);
    run_cycles(workload, operations, connect_handle_chunks, disconnect_handle_chunks, out + 1);
}

void case_handle(struct context *context)
{
    static const struct round_case handle = {
        .before = workload_refresh_handles,
        .round = round_handle,
        .warm = true,
        .output_count = 3,
        .outputs = {{"activity_handle", BASE_FIND, 0, TARGET_RATIO, 0.7, SIZE_MILLIONS, NULL},
                    {"connect_handle", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, NULL},
                    {"disconnect_handle", BASE_FIND, 0, TARGET_RATIO, 2.5, SIZE_MILLIONS, NULL}},
    };
    run_rounds(context, &handle);
}

/* --------------------------------------------------------------------------------------------- batches of keys -- */

enum { GROUP_CHUNKS = 10, GROUP_MAX = GROUP_CHUNKS * CHUNK };

/* Keys sorted by server: `id[start[s]]` to `id[start[s + 1] - 1]` are those of server s. */
struct group {
    size_t count;
    uint64_t unsorted[GROUP_MAX], id[GROUP_MAX];
    uint32_t server[GROUP_MAX];
    size_t start[SERVERS_MAX + 1];
};

static void group_add_chunk(struct group *group, const struct workload *workload)
{
    for (size_t i = 0; i < CHUNK; i++) {
        group->unsorted[group->count] = workload->chunk[i].id;
        group->server[group->count++] = workload->chunk[i].server_index;
    }
}

static void group_sort(struct group *group)
{
    size_t next[SERVERS_MAX + 1] = {0};
    for (size_t i = 0; i < group->count; i++) {
        next[group->server[i] + 1]++;
    }
    for (size_t s = 0; s < SERVERS_MAX; s++) {
        next[s + 1] += next[s];
        group->start[s] = next[s];
    }
    group->start[SERVERS_MAX] = group->count;
    for (size_t i = 0; i < group->count; i++) {
        group->id[next[group->server[i]]++] = group->unsorted[i];
    }
}

typedef int batch_call(presence_recorder *recorder, const char *server, const uint64_t *ids, size_t count,
                       size_t *done);

static uint64_t time_group(struct workload *workload, const struct group *group, batch_call *call, const char *what)
{
    size_t recorded = 0;
    int failed = 0;
    uint64_t start = stopwatch_ns();
    for (size_t s = 0; s < workload->servers; s++) {
        size_t done = 0, count = group->start[s + 1] - group->start[s];
        if (count > 0) {
            failed |= call(workload->recorder, workload->server_name[s], group->id + group->start[s], count, &done);
        }
        recorded += done;
    }
    uint64_t spent = stopwatch_ns() - start;
    check_call(failed, what);
    if (recorded != group->count) {
        die("%s: %zu of %zu were recorded", what, recorded, group->count);
    }
    return spent;
}

static uint64_t activity_many_group(struct workload *workload)
{
    static struct group group;
    group.count = 0;
    for (size_t i = 0; i < GROUP_CHUNKS; i++) {
        prepare_any_live(workload, false);
        group_add_chunk(&group, workload);
    }
    group_sort(&group);
    return time_group(workload, &group, presence_recorder_activity_many, "presence_recorder_activity_many");
}

static uint64_t disconnect_many_chunks(struct workload *workload, size_t chunks)
{
    static struct group group;
    uint64_t spent = 0;
    while (chunks > 0) {
        group.count = 0;
        for (size_t i = 0; i < GROUP_CHUNKS && chunks > 0; i++, chunks--) {
            prepare_disconnects(workload);
            group_add_chunk(&group, workload);
        }
        group_sort(&group);
        spent += time_group(workload, &group, presence_recorder_disconnect_many, "presence_recorder_disconnect_many");
    }
    return spent;
}

static uint64_t connect_many_chunks(struct workload *workload, size_t chunks)
{
    uint64_t spent = 0;
    workload->handles_are_stale = true;
    for (size_t i = 0; i < chunks; i++) {
        prepare_connects(workload);
        size_t done = 0;
        uint64_t start = stopwatch_ns();
        int code = presence_recorder_connect_many(workload->recorder, workload->values, CHUNK, &done, NULL);
        spent += stopwatch_ns() - start;
        check_call(code, "presence_recorder_connect_many");
    }
    return spent;
}

static uint64_t status_many_chunks(struct workload *workload, size_t chunks)
{
    static presence_agent_key keys[CHUNK];
    uint64_t spent = 0;
    for (size_t i = 0; i < chunks; i++) {
        prepare_any_live(workload, true);
        for (size_t k = 0; k < CHUNK; k++) {
            keys[k] = (presence_agent_key){.model = workload->chunk[k].model, .agent = workload->chunk[k].agent};
        }
        uint64_t start = stopwatch_ns();
        int code = presence_recorder_agent_statuses(workload->recorder, keys, CHUNK);
        spent += stopwatch_ns() - start;
        for (size_t k = 0; k < CHUNK; k++) {
            code |= keys[k].code | (keys[k].status != PRESENCE_ALIVE);
        }
        check_call(code, "presence_recorder_agent_statuses, or an agent not alive");
    }
    return spent;
}

static void round_many(struct workload *workload, size_t operations, double *out)
{
    uint64_t spent = 0;
    size_t groups = operations / GROUP_MAX ? operations / GROUP_MAX : 1;
    for (size_t i = 0; i < groups; i++) {
        spent += activity_many_group(workload);
    }
    out[0] = (double)spent / (double)(groups * GROUP_MAX);
    run_cycles(workload, operations, connect_many_chunks, disconnect_many_chunks, out + 1);
    size_t chunks = operations / CHUNK;
    out[3] = (double)status_many_chunks(workload, chunks) / (double)(chunks * CHUNK);
}

void case_many(struct context *context)
{
    static const struct round_case many = {
        .round = round_many,
        .warm = true,
        .output_count = 4,
        .outputs = {{"activity_many", BASE_FIND, 0, TARGET_RATIO, 0.7, SIZE_MILLIONS,
                     "about 250 ids of a server a call"},
                    {"connect_many", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "250 values of all servers a call"},
                    {"disconnect_many", BASE_FIND, 0, TARGET_RATIO, 2.5, SIZE_MILLIONS,
                     "about 250 ids of a server a call"},
                    {"status_many", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "presence_recorder_agent_statuses of 250"}},
    };
    run_rounds(context, &many);
}

/* ------------------------------------------------------------------------------------------ batches of handles -- */

typedef int handles_call(presence_recorder *recorder, const presence_handle *handles, size_t count, size_t *done);

static uint64_t time_handles(struct workload *workload, handles_call *call, const char *what)
{
    size_t done = 0;
    uint64_t start = stopwatch_ns();
    int code = call(workload->recorder, workload->chunk_handles, CHUNK, &done);
    uint64_t spent = stopwatch_ns() - start;
    check_call(code, what);
    if (done != CHUNK) {
        die("%s: %zu of %d were recorded", what, done, CHUNK);
    }
    return spent;
}

static uint64_t disconnect_handles_chunks(struct workload *workload, size_t chunks)
{
    uint64_t spent = 0;
    for (size_t i = 0; i < chunks; i++) {
        prepare_disconnects(workload);
        spent += time_handles(workload, presence_recorder_disconnect_handles, "presence_recorder_disconnect_handles");
    }
    return spent;
}

static void round_handles(struct workload *workload, size_t operations, double *out)
{
    uint64_t spent = 0;
    size_t chunks = operations / CHUNK;
    for (size_t i = 0; i < chunks; i++) {
        prepare_any_handles(workload);
        spent += time_handles(workload, presence_recorder_activity_handles, "presence_recorder_activity_handles");
    }
    out[0] = (double)spent / (double)(chunks * CHUNK);
    double cycles[2];
    run_cycles(workload, operations, connect_handle_chunks, disconnect_handles_chunks, cycles);
    out[1] = cycles[1];
}

void case_handles(struct context *context)
{
    static const struct round_case handles = {
        .before = workload_refresh_handles,
        .round = round_handles,
        .warm = true,
        .output_count = 2,
        .outputs = {{"activity_handles", BASE_FIND, 0, TARGET_RATIO, 0.7, SIZE_MILLIONS, "250 handles a call"},
                    {"disconnect_handles", BASE_FIND, 0, TARGET_RATIO, 2.5, SIZE_MILLIONS, "250 handles a call"}},
    };
    run_rounds(context, &handles);
}

/* ------------------------------------------------------------------------------------------ replicated changes -- */

enum { APPLY_CHUNKS = 4, APPLY_MAX = APPLY_CHUNKS * CHUNK };

/* Changes sorted by server, as messages from their origins would bring them; those of server s are `change[start[s]]`
 * to `change[start[s + 1] - 1]`. */
struct stream {
    presence_claim claim[SERVERS_MAX];
    uint64_t number[SERVERS_MAX];
    size_t count;
    struct operation operation[APPLY_MAX];
    presence_change change[APPLY_MAX];
    size_t start[SERVERS_MAX + 1];
};

static struct stream stream;

static void claim_servers(const struct workload *workload, bool local)
{
    for (size_t s = 0; s < workload->servers; s++) {
        check_call(presence_replica_claim(workload->recorder, workload->server_name[s], &stream.claim[s], local),
                   "presence_replica_claim");
    }
}

/* What is recorded was stated under the claim, and from now on somebody else states it. */
static void begin_following(struct workload *workload)
{
    for (size_t s = 0; s < workload->servers; s++) {
        presence_server_description known;
        check_call(presence_replica_describe(workload->recorder, workload->server_name[s], &known),
                   "presence_replica_describe");
        bool unclaimed = presence_claim_compare(&known.claim, &(presence_claim){0}) == 0;
        stream.claim[s] = unclaimed ? (presence_claim){.epoch = 1, .turn = 1, .random = s + 1} : known.claim;
        stream.number[s] = unclaimed ? 0 : known.number;
    }
    claim_servers(workload, true); /* takes in what nobody claimed before */
    claim_servers(workload, false);
}

static void end_following(struct workload *workload)
{
    claim_servers(workload, true);
}

static presence_change change_of(const struct operation *operation, presence_change_kind kind)
{
    presence_change change = {.number = ++stream.number[operation->server_index], .kind = kind, .time = 1};
    if (kind == PRESENCE_CHANGE_CONNECT) {
        change.value = operation_value(operation);
        change.value.last_seen = 1;
    } else {
        change.value.connection_id = operation->id;
    }
    return change;
}

static void stream_add_chunk(const struct workload *workload)
{
    for (size_t i = 0; i < CHUNK; i++) {
        struct operation *operation = &stream.operation[stream.count++];
        *operation = workload->chunk[i];
        operation->model = operation->model_name;
        operation->agent = operation->agent_name;
    }
}

static void stream_sort(presence_change_kind kind)
{
    size_t next[SERVERS_MAX + 1] = {0};
    for (size_t i = 0; i < stream.count; i++) {
        next[stream.operation[i].server_index + 1]++;
    }
    for (size_t s = 0; s < SERVERS_MAX; s++) {
        next[s + 1] += next[s];
        stream.start[s] = next[s];
    }
    stream.start[SERVERS_MAX] = stream.count;
    for (size_t i = 0; i < stream.count; i++) {
        stream.change[next[stream.operation[i].server_index]++] = change_of(&stream.operation[i], kind);
    }
}

static int apply_singly(struct workload *workload, size_t s, const presence_change *changes, size_t count)
{
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        failed |= presence_replica_apply(workload->recorder, workload->server_name[s], &stream.claim[s], &changes[i],
                                         NULL, NULL);
    }
    return failed;
}

static int apply_at_once(struct workload *workload, size_t s, const presence_change *changes, size_t count)
{
    return presence_replica_apply_many(workload->recorder, workload->server_name[s], &stream.claim[s], changes, count,
                                       NULL, NULL);
}

static uint64_t apply_chunks(struct workload *workload, size_t chunks, presence_change_kind kind,
                             int (*apply)(struct workload *, size_t, const presence_change *, size_t))
{
    uint64_t spent = 0;
    while (chunks > 0) {
        stream.count = 0;
        for (size_t i = 0; i < APPLY_CHUNKS && chunks > 0; i++, chunks--) {
            if (kind == PRESENCE_CHANGE_CONNECT) {
                prepare_connects(workload);
            } else {
                prepare_disconnects(workload);
            }
            stream_add_chunk(workload);
        }
        stream_sort(kind);
        int failed = 0;
        uint64_t start = stopwatch_ns();
        for (size_t s = 0; s < workload->servers; s++) {
            failed |= apply(workload, s, &stream.change[stream.start[s]], stream.start[s + 1] - stream.start[s]);
        }
        spent += stopwatch_ns() - start;
        check_call(failed, "presence_replica_apply");
    }
    workload->handles_are_stale = true;
    return spent;
}

static uint64_t apply_connect_chunks(struct workload *workload, size_t chunks)
{
    return apply_chunks(workload, chunks, PRESENCE_CHANGE_CONNECT, apply_singly);
}

static uint64_t apply_disconnect_chunks(struct workload *workload, size_t chunks)
{
    return apply_chunks(workload, chunks, PRESENCE_CHANGE_DISCONNECT, apply_singly);
}

static uint64_t apply_many_connect_chunks(struct workload *workload, size_t chunks)
{
    return apply_chunks(workload, chunks, PRESENCE_CHANGE_CONNECT, apply_at_once);
}

static uint64_t apply_many_disconnect_chunks(struct workload *workload, size_t chunks)
{
    return apply_chunks(workload, chunks, PRESENCE_CHANGE_DISCONNECT, apply_at_once);
}

static void round_apply(struct workload *workload, size_t operations, double *out)
{
    run_cycles(workload, operations, apply_connect_chunks, apply_disconnect_chunks, out);
    run_cycles(workload, operations, apply_many_connect_chunks, apply_many_disconnect_chunks, out + 2);
}

void case_apply(struct context *context)
{
    static const struct round_case apply = {
        .before = begin_following,
        .round = round_apply,
        .after = end_following,
        .warm = true,
        .output_count = 4,
        .outputs = {{"apply_connect", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "about 100 changes of a server in a row"},
                    {"apply_disconnect", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "about 100 changes of a server in a row"},
                    {"apply_many_connect", BASE_OUTPUT, 0, TARGET_NONE, 0, 0, 0, "the same in one call"},
                    {"apply_many_disconnect", BASE_OUTPUT, 1, TARGET_NONE, 0, 0, 0, "the same in one call"}},
    };
    run_rounds(context, &apply);
}
