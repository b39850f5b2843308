/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.c - a whole state that is recorded in pieces, as they come, and shown in one step at the end.
 *
 * It is a list like any other (bulk.c), but that its staging is spread over calls, and only where nothing is recorded
 * of the server: then every row of the server is of the state, so there are no marks to take back, and an id that comes
 * twice is found among the rows.
 *
 * Keeps true: between two calls the writer is idle, and holds nobody up. Who needs the server then takes what is staged
 * away (bulk_wait), steadily giving way to others, and the writer finds itself lost. Registry and server number are
 * touched only while neither is so.
 *
 * One thread at a time for each writer. Cost: as a list's; beginning is O(1), the rows are swept at the end.
 */
#include "bulk.h"

#include <assert.h>

struct presence_state_writer {
    struct bulk bulk;
    struct bulk_request request;
    size_t items_room, bytes;
    int code; /* of the first piece that failed */
    char server[];
};

static void free_writer(struct presence_state_writer *writer)
{
    const presence_allocator *memory = &writer->bulk.recorder->memory;
    memory_give(memory, writer->bulk.items, writer->items_room * sizeof *writer->bulk.items);
    memory_give(memory, writer, writer->bytes);
}

int presence_replica_state_begin(presence_recorder *recorder, const char *server, const presence_claim *claim,
                                 uint64_t number, uint64_t floor, presence_reason floor_reason,
                                 presence_time floor_time, presence_state_writer **writer, presence_error *error)
{
    struct bulk_request request;
    int code = replica_state_request(recorder, server, claim, number, floor, floor_reason, floor_time, &request, error);
    code = code ? code : recorder_check_name("server", server, &request.server, error);
    if (code)
        return code;
    if (!writer)
        return recorder_error(error, PRESENCE_E_INVALID, "writer is NULL");
    size_t bytes = sizeof **writer + request.server.length + 1;
    struct presence_state_writer *made = memory_take(&recorder->memory, bytes);
    if (!made)
        return recorder_error_code(error, PRESENCE_E_NO_MEMORY);
    *made = (struct presence_state_writer){.request = request, .bytes = bytes};
    made->request.server.bytes = memcpy(made->server, server, request.server.length + 1);
    made->bulk =
        (struct bulk){.recorder = recorder, .request = &made->request, .server = NONE, .in_pieces = true, .idle = true};
    bool nothing;
    recorder_lock(recorder);
    code = bulk_begin(&made->bulk, &nothing, error);
    recorder_unlock(recorder);
    if (code)
        free_writer(made);
    else
        *writer = made;
    return code;
}

/* With the lock held: whether what was staged is still there to be worked on. */
static int resume(struct presence_state_writer *writer)
{
    struct bulk *bulk = &writer->bulk;
    if (bulk->lost)
        return PRESENCE_E_LAGGED;
    if (bulk->recorder->registry != bulk->registry)
        return PRESENCE_E_DISABLED;
    bulk->idle = false;
    return recorder_begin(bulk->recorder);
}

static int prepare(struct presence_state_writer *writer, const presence_value *values, size_t count,
                   presence_error *error)
{
    struct bulk *bulk = &writer->bulk;
    const presence_allocator *memory = &bulk->recorder->memory;
    if (count > writer->items_room) {
        struct item *items = memory_take(memory, count * sizeof *items);
        if (!items)
            return recorder_error_code(error, PRESENCE_E_NO_MEMORY);
        memory_give(memory, bulk->items, writer->items_room * sizeof *items);
        bulk->items = items;
        writer->items_room = count;
    }
    writer->request.values = values;
    writer->request.count = count;
    int code = PRESENCE_OK;
    for (size_t i = 0; i < count && !code; i++)
        code = bulk_prepare_value(bulk, NULL, i, error);
    return code;
}

static int add(presence_state_writer *writer, const presence_value *values, size_t count, bool inherited,
               presence_error *error)
{
    if (!writer || (!values && count))
        return recorder_error(error, PRESENCE_E_INVALID, writer ? "values is NULL" : "writer is NULL");
    struct bulk *bulk = &writer->bulk;
    struct presence_recorder *recorder = bulk->recorder;
    if (writer->code)
        return recorder_error_code(error, writer->code);
    writer->request.inherited = inherited ? count : 0;
    writer->code = prepare(writer, values, count, error);
    if (writer->code)
        return writer->code;
    recorder_lock(recorder);
    int code = resume(writer);
    code = code ? code : bulk_stage_list(bulk);
    size_t first = bulk->added;
    bulk->added += count;
    bulk->idle = !bulk->lost;
    pthread_cond_broadcast(&recorder->settled); /* who waits takes over */
    recorder_unlock(recorder);
    writer->code = code;
    if (code == PRESENCE_E_DUPLICATE && values)
        return recorder_error(error, code, "value %zu: connection id %llu is in the state twice", first + bulk->twice,
                              (unsigned long long)values[bulk->twice].connection_id);
    return recorder_error_code(error, code);
}

int presence_replica_state_add(presence_state_writer *writer, const presence_value *values, size_t count,
                               presence_error *error)
{
    return add(writer, values, count, false, error);
}

int presence_replica_state_add_inherited(presence_state_writer *writer, const presence_value *values, size_t count,
                                         presence_error *error)
{
    return add(writer, values, count, true, error);
}

/* Ends it, and what is staged of it is gone if it was not committed. */
static int end(struct presence_state_writer *writer, bool take)
{
    struct bulk *bulk = &writer->bulk;
    struct presence_recorder *recorder = bulk->recorder;
    recorder_lock(recorder);
    int resumed = resume(writer), code = writer->code ? writer->code : resumed;
    if (take && !code)
        code = bulk_commit(bulk);
    if (!bulk->lost) {
        if (recorder->registry == bulk->registry)
            bulk_finish(bulk);
        bulk_stop(bulk);
    }
    recorder_unlock(recorder);
    registry_release(bulk->registry);
    free_writer(writer);
    return code;
}

int presence_replica_state_commit(presence_state_writer *writer, presence_error *error)
{
    if (!writer)
        return recorder_error(error, PRESENCE_E_INVALID, "writer is NULL");
    return recorder_error_code(error, end(writer, true));
}

void presence_replica_state_abort(presence_state_writer *writer)
{
    if (writer)
        end(writer, false);
}
