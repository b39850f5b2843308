/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - asks for the cache lines that a change is about to need, so that its misses overlap.
 *
 * Hints only: nothing here changes anything, and leaving all of it out changes no result. Under the mutex. What it
 * costs and gains is in docs/performance.md.
 */
#include "recorder.h"

/* Asks for what finding this connection will need, while the call is still busy with other things. */
void recorder_prefetch_connection(const struct presence_recorder *recorder, struct server_name server, uint64_t id)
{
    const struct registry *registry = recorder->registry;
    index_prefetch(&registry->now.by_connection, connection_hash(registry, server.hash, id));
}

/* The same for the agent of a new connection: its bucket, and the page that it will stand on. */
void recorder_prefetch_agent(const struct presence_recorder *recorder, const struct facts *facts)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    index_prefetch(&now->by_agent, agent_hash(registry, facts->model_hash, facts->agent_hash));
    uint32_t model = registry_model(now, facts->model, facts->model_hash);
    if (model == NONE)
        return;
    uint32_t next = shelf_next_taken(&now->agents, &model_get(now, model)->agents);
    if (next != NONE)
        recorder_prefetch_agent_record(now, next);
}

/* An agent's record; it may lie on two lines. */
void recorder_prefetch_agent_record(const struct roots *now, uint32_t agent)
{
    const struct agent *record = agent_get(now, agent);
    memory_prefetch(record);
    memory_prefetch(&record->since);
}

/* The same for what removing a row will touch. */
void recorder_prefetch_removal(const struct presence_recorder *recorder, uint32_t row)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    const struct departures *departures = &recorder->departures;
    uint32_t agent = row_get(now, row)->agent;
    index_prefetch(&now->by_agent, row_get(now, row)->agent_hash);
    recorder_prefetch_agent_record(now, agent);
    if (departures->room)
        memory_prefetch(&departures->at[departures->next & (departures->room - 1)]);
}

/* Asks for the row, and for what removing it will touch: a handle names all of it. */
void recorder_prefetch_handle(const struct presence_recorder *recorder, const presence_handle *handle, bool removing)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    uint32_t row = (uint32_t)(handle->opaque[1] >> 32), agent = (uint32_t)handle->opaque[2];
    if (handle->opaque[3] >> INDEX_HASH_BITS != recorder->instance || !shelf_in_use(&now->rows, row))
        return;
    const struct row_page *page = shelf_page(&now->rows, row);
    memory_prefetch(&page->generation[row & (ROW_PAGE_SLOTS - 1)]);
    memory_prefetch(&page->at[row & (ROW_PAGE_SLOTS - 1)]);
    if (!removing)
        return;
    index_prefetch(&now->by_agent, (uint32_t)handle->opaque[3]);
    uint32_t server = (uint32_t)(handle->opaque[2] >> 32);
    if (shelf_in_use(&now->servers, server)) /* a stale handle's may be gone */
        index_prefetch(&now->by_connection,
                       connection_hash(registry, server_get(now, server)->hash, handle->opaque[0]));
    if (shelf_in_use(&now->agents, agent))
        recorder_prefetch_agent_record(now, agent);
}
