/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - asks for the cache lines that a change is about to need, so that its misses overlap.
 *
 * What a change needs is found step by step, each behind a miss of the one before: buckets; then the rows, agents and
 * models that they name; then what stands beside these and behind them. A batch takes each step for all its elements
 * before the next (a wave); a single call takes it as soon as the one before is there, and does other work meanwhile.
 *
 * Hints only: nothing here changes anything, and leaving all of it out changes no result. Under the mutex, on the live
 * record. What it costs and gains is in docs/performance.md.
 */
#include "recorder.h"

/* ----------------------------------------------------------------------------------------------------- the steps -- */

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

static void prefetch_model(const struct roots *now, uint64_t model_hash)
{
    uint32_t model;
    if (index_guess(&now->model_names, model_hash, &model))
        memory_prefetch(model_get(now, model));
}

/* Once the buckets are there: the model. */
void recorder_prefetch_model(const struct presence_recorder *recorder, const struct facts *facts)
{
    prefetch_model(&recorder->registry->now, facts->model_hash);
}

/* Once the model is there: where an agent that is new to it will stand. */
static void prefetch_agent_place(const struct roots *now, uint64_t model_hash)
{
    uint32_t model;
    if (index_guess(&now->model_names, model_hash, &model))
        registry_prefetch_agent_place(now, model_get(now, model));
}

static void prefetch_row_in(const struct row_page *page, uint32_t row)
{
    memory_prefetch(&page->at[row & (ROW_PAGE_SLOTS - 1)]);
    memory_prefetch(&page->generation[row & (ROW_PAGE_SLOTS - 1)]);
}

static void prefetch_row(const struct roots *now, uint32_t row)
{
    prefetch_row_in(shelf_page(&now->rows, row), row);
}

/* Where the server's next row will stand. */
void recorder_prefetch_row_place(const struct presence_recorder *recorder, uint32_t server)
{
    const struct roots *now = &recorder->registry->now;
    uint32_t open = server_get(now, server)->rows.open;
    if (!open)
        return;
    memory_prefetch(shelf_side(&now->rows, shelf_unit(&now->rows, open - 1)));
    prefetch_row(now, open - 1);
}

/* What stands beside the units of a row and an agent that go. */
static void prefetch_sides(const struct roots *now, uint32_t row, uint32_t agent)
{
    memory_prefetch(shelf_side(&now->rows, shelf_unit(&now->rows, row)));
    memory_prefetch(shelf_side(&now->agents, shelf_unit(&now->agents, agent)));
}

/* Where the memory of a disconnect will stand, some of them from now. */
static void prefetch_departure(const struct departures *departures)
{
    if (departures->room)
        memory_prefetch(&departures->at[(departures->next + 8) & (departures->room - 1)]);
}

/* The model of an agent: named by the side of the agent's unit, which is one of few lines and so comes sooner than the
 * agent. */
void recorder_prefetch_model_of(const struct presence_recorder *recorder, uint32_t agent)
{
    const struct roots *now = &recorder->registry->now;
    memory_prefetch(model_get(now, shelf_owner(&now->agents, agent)));
}

/* Once the row is there: what removing it touches, as far as it is known by now; and the model, last of all. */
void recorder_prefetch_removal(const struct presence_recorder *recorder, uint32_t row, const struct row *record)
{
    const struct roots *now = &recorder->registry->now;
    uint32_t agent = record->agent;
    registry_prefetch_agent(now, agent);
    prefetch_sides(now, row, agent);
    index_prefetch(&now->by_agent, record->agent_hash);
    prefetch_row(now, row);
    prefetch_departure(&recorder->departures);
    recorder_prefetch_model_of(recorder, agent);
}

/* The neighbours on its owner's lists of a unit that goes with its last record. */
static void prefetch_neighbours(const struct shelf *shelf, uint32_t number)
{
    const struct shelf_side *side = shelf_side(shelf, shelf_unit(shelf, number));
    if (side->used & (side->used - 1))
        return;
    for (int list = 0; list < SHELF_LISTS; list++) {
        struct shelf_link link = side->link[list];
        if (link.next)
            memory_prefetch(shelf_side(shelf, shelf_linked(shelf, list, link.next)));
        if (link.prev)
            memory_prefetch(shelf_side(shelf, link.prev - 1));
    }
}

/* Once the sides are there: the model, and the neighbours of units that go. */
static void prefetch_behind(const struct presence_recorder *recorder, uint32_t row)
{
    const struct roots *now = &recorder->registry->now;
    uint32_t agent = row_get(now, row)->agent;
    recorder_prefetch_model_of(recorder, agent);
    prefetch_neighbours(&now->rows, row);
    prefetch_neighbours(&now->agents, agent);
}

/* Asks for the row, and for what removing it will touch: a handle names all of it. A stale handle's may be gone. */
void recorder_prefetch_handle(const struct presence_recorder *recorder, const presence_handle *handle, bool removing)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    uint32_t row, agent = (uint32_t)handle->opaque[2];
    const struct row_page *page = recorder_handle_page(recorder, handle, &row);
    if (!page)
        return;
    prefetch_row_in(page, row);
    if (!removing)
        return;
    prefetch_departure(&recorder->departures);
    index_prefetch(&now->by_agent, (uint32_t)handle->opaque[3]);
    uint32_t server = (uint32_t)(handle->opaque[2] >> 32);
    if (shelf_in_use(&now->servers, server))
        index_prefetch(&now->by_connection,
                       connection_hash(registry, server_get(now, server)->hash, handle->opaque[0]));
    if (agent < shelf_end(&now->agents) && shelf_page(&now->agents, agent)) {
        registry_prefetch_agent(now, agent);
        prefetch_sides(now, row, agent);
    }
}

/* ----------------------------------------------------------------------------------------------------- the waves -- */

void recorder_prefetch_handles(const struct presence_recorder *recorder, const presence_handle *handles, size_t count,
                               bool removing)
{
    for (size_t i = 0; i < count; i++)
        recorder_prefetch_handle(recorder, &handles[i], removing);
    for (size_t i = 0; i < count && removing; i++) {
        uint32_t row;
        const struct row_page *page = recorder_handle_page(recorder, &handles[i], &row);
        if (page && page->generation[row & (ROW_PAGE_SLOTS - 1)] == (uint32_t)handles[i].opaque[1])
            prefetch_behind(recorder, row);
    }
}

static bool names_agent(const struct ahead *ahead)
{
    return ahead->coming == AHEAD_CONNECT || ahead->coming == AHEAD_STATUS;
}

static void prefetch_buckets(const struct roots *now, const struct ahead *ahead)
{
    if (ahead->coming != AHEAD_STATUS)
        index_prefetch(&now->by_connection, ahead->connection);
    if (!names_agent(ahead))
        return;
    index_prefetch(&now->by_agent, ahead->agent);
    index_prefetch(&now->model_names, ahead->model);
}

/* Once the buckets are there: the records that they name. Gives the row, or NONE. */
static uint32_t prefetch_records(const struct roots *now, const struct ahead *ahead)
{
    uint32_t row = NONE, agent;
    if (ahead->coming != AHEAD_STATUS && index_guess(&now->by_connection, ahead->connection, &row))
        prefetch_row(now, row);
    if (!names_agent(ahead))
        return row;
    prefetch_model(now, ahead->model);
    if (index_guess(&now->by_agent, ahead->agent, &agent))
        registry_prefetch_agent(now, agent);
    return row;
}

/* Once the records are there: what changing them touches, and where new ones will stand. */
static void prefetch_change(const struct presence_recorder *recorder, const struct ahead *ahead, uint32_t row)
{
    const struct roots *now = &recorder->registry->now;
    if (ahead->coming == AHEAD_CONNECT) {
        prefetch_agent_place(now, ahead->model);
        if (row != NONE) /* it may be stated again */
            registry_prefetch_agent(now, row_get(now, row)->agent);
    } else if (ahead->coming == AHEAD_DISCONNECT && row != NONE) {
        recorder_prefetch_removal(recorder, row, row_get(now, row));
    }
}

void recorder_prefetch_wave(const struct presence_recorder *recorder, const struct ahead *ahead, size_t count)
{
    const struct roots *now = &recorder->registry->now;
    uint32_t rows[WAVE];
    bool changing = false;
    for (size_t i = 0; i < count; i++) {
        prefetch_buckets(now, &ahead[i]);
        changing = changing || ahead[i].coming == AHEAD_CONNECT || ahead[i].coming == AHEAD_DISCONNECT;
    }
    for (size_t i = 0; i < count; i++)
        rows[i] = prefetch_records(now, &ahead[i]);
    if (!changing)
        return;
    index_prefetch_split(&now->by_agent);
    index_prefetch_split(&now->by_connection);
    for (size_t i = 0; i < count; i++)
        prefetch_change(recorder, &ahead[i], rows[i]);
    for (size_t i = 0; i < count; i++)
        if (ahead[i].coming == AHEAD_DISCONNECT && rows[i] != NONE)
            prefetch_behind(recorder, rows[i]);
}
