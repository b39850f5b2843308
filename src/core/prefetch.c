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

/* The same for the agent of a new connection: its bucket and its model's; and the buckets that may be split. */
void recorder_prefetch_agent(const struct presence_recorder *recorder, const struct facts *facts)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    index_prefetch(&now->by_agent, agent_hash(registry, facts->model_hash, facts->agent_hash));
    index_prefetch(&now->model_names, facts->model_hash);
    index_prefetch_split(&now->by_agent);
    index_prefetch_split(&now->by_connection);
}

/* Once these are there: the unit of its model that a new agent will stand in. */
void recorder_prefetch_agent_place(const struct presence_recorder *recorder, const struct facts *facts)
{
    const struct roots *now = &recorder->registry->now;
    uint32_t model = registry_model(now, facts->model, facts->model_hash);
    uint32_t open = model == NONE ? 0 : model_get(now, model)->agents.open;
    if (open)
        memory_prefetch(shelf_side(&now->agents, open - 1));
}

/* An agent's record; it may lie on two lines. */
void recorder_prefetch_agent_record(const struct roots *now, uint32_t agent)
{
    const struct agent *record = agent_get(now, agent);
    memory_prefetch(record);
    memory_prefetch(&record->since);
}

/* What stands beside the units of a row and an agent that go, and the agent's model. A stale handle's agent may be
 * gone, and its unit be nobody's. */
static void prefetch_sides(const struct roots *now, uint32_t row, uint32_t agent)
{
    memory_prefetch(shelf_side(&now->rows, shelf_unit(&now->rows, row)));
    memory_prefetch(shelf_side(&now->agents, shelf_unit(&now->agents, agent)));
    uint32_t model = shelf_owner(&now->agents, agent);
    if (model != NONE)
        memory_prefetch(model_get(now, model));
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
    prefetch_sides(now, row, agent);
    if (departures->room)
        memory_prefetch(&departures->at[(departures->next + 8) & (departures->room - 1)]);
}

/* Asks for the row, and for what removing it will touch: a handle names all of it. */
void recorder_prefetch_handle(const struct presence_recorder *recorder, const presence_handle *handle, bool removing)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    uint32_t row = (uint32_t)(handle->opaque[1] >> 32), agent = (uint32_t)handle->opaque[2];
    if (handle->opaque[3] >> INDEX_HASH_BITS != recorder->instance || row >= shelf_end(&now->rows))
        return;
    const struct row_page *page = shelf_page(&now->rows, row);
    if (!page)
        return;
    memory_prefetch(&page->generation[row & (ROW_PAGE_SLOTS - 1)]);
    memory_prefetch(&page->at[row & (ROW_PAGE_SLOTS - 1)]);
    if (!removing)
        return;
    index_prefetch(&now->by_agent, (uint32_t)handle->opaque[3]);
    uint32_t server = (uint32_t)(handle->opaque[2] >> 32);
    if (shelf_in_use(&now->servers, server)) /* a stale handle's may be gone */
        index_prefetch(&now->by_connection,
                       connection_hash(registry, server_get(now, server)->hash, handle->opaque[0]));
    if (agent < shelf_end(&now->agents) && shelf_page(&now->agents, agent)) {
        recorder_prefetch_agent_record(now, agent);
        prefetch_sides(now, row, agent);
    }
}
