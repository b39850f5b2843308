/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - asks for the cache lines that a change is about to need, so that its misses overlap.
 *
 * Hints only: nothing here changes anything, and leaving all of it out changes no result. Under the mutex. What it
 * costs and gains is in docs/performance.md.
 */
#include "recorder.h"

/* Asks for what finding this connection will need, while the call is still busy with other things. */
void recorder_prefetch_connection(const struct presence_recorder *recorder, struct span server, uint64_t id)
{
    const struct registry *registry = recorder->registry;
    uint32_t number = registry_server(registry, &registry->now, server);
    if (number != NONE)
        index_prefetch(&registry->now.by_connection, connection_hash(registry, number, id));
}

/* The same for the agent of a new connection: its bucket, and the page that it will stand on. */
void recorder_prefetch_agent(const struct presence_recorder *recorder, const struct facts *facts)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    uint32_t model = registry_model(registry, now, facts->model, facts->model_hash);
    if (model == NONE)
        return;
    index_prefetch(&now->by_agent, agent_hash(registry, model, facts->agent_hash));
    uint32_t open = model_get(now, model)->agents.open;
    if (open)
        memory_prefetch((const char *)pv_page(&now->agents.pv, open - 1) +
                        (size_t)__builtin_popcount(pv_entry(&now->agents.pv, open - 1)->used) * sizeof(struct agent));
}

/* The same for what removing a row will touch. */
void recorder_prefetch_removal(const struct presence_recorder *recorder, uint32_t row)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    const struct departures *departures = &recorder->departures;
    uint32_t number = row_get(now, row)->agent;
    const struct pv_entry *entry = shelf_entry(&now->agents, number);
    const struct agent *agent = shelf_at(&now->agents, entry, number);
    memory_prefetch(agent);
    if (departures->room)
        memory_prefetch(&departures->at[departures->next & (departures->room - 1)]);
    memory_prefetch(model_get(now, entry->owner));
}

/* Asks for the row, and for what removing it will touch: a handle names all of it. */
void recorder_prefetch_handle(const struct presence_recorder *recorder, const presence_handle *handle, bool removing)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    uint32_t row = (uint32_t)(handle->opaque[1] >> 32), agent = (uint32_t)handle->opaque[2];
    if (handle->opaque[3] != recorder->instance || !shelf_in_use(&now->rows, row))
        return;
    memory_prefetch(shelf_get(&now->rows, row));
    if (!removing)
        return;
    uint32_t server = (uint32_t)(handle->opaque[2] >> 32);
    index_prefetch(&now->by_connection, connection_hash(registry, server, handle->opaque[0]));
    if (shelf_in_use(&now->agents, agent))
        memory_prefetch(shelf_get(&now->agents, agent));
}
