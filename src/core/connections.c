/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connections.c - views and slices of them: an immutable snapshot and a filter; rows are found by the cheapest index.
 *
 * Keeps true: nothing here writes to anything that another thread can see, but for the counts of holders. A slice holds
 * its snapshot; the snapshot holds the registry. No lock is taken, except to take the view itself.
 * Costs: a slice is O(1); walking one is O(rows of the cheapest index that covers it).
 */
#include "recorder.h"

#include <stdlib.h>

struct presence_connections {
    struct snapshot *snapshot;
    presence_allocator memory;
    size_t bytes; /* of this object */
    bool by_model, by_server, by_agent;
    bool empty;       /* a name that is not there, or two different ones */
    bool stated_only; /* leaves out what is inherited from an older claim, or all else */
    bool inherited_only;
    bool newer_only; /* and what was not stated after the revision `since` */
    uint64_t since;
    uint32_t model, server;
    uint64_t agent_hash;
    size_t agent_length;
    char agent[]; /* with a NUL, if by_agent */
};

static const struct roots *roots_of(const presence_connections *connections)
{
    return &connections->snapshot->at;
}

/* -------------------------------------------------------------------------------------------------- making slices --
 * */

static presence_connections *make(const presence_allocator *memory, const presence_connections *from, struct span agent)
{
    size_t bytes = sizeof(presence_connections) + agent.length + 1;
    presence_connections *made = memory_take(memory, bytes);
    if (!made)
        return NULL;
    if (from)
        memcpy(made, from, sizeof *made);
    else
        memset(made, 0, sizeof *made);
    made->memory = *memory;
    made->bytes = bytes;
    made->agent_length = agent.length;
    if (agent.length)
        memcpy(made->agent, agent.bytes, agent.length);
    made->agent[agent.length] = '\0';
    return made;
}

presence_connections *connections_new(const presence_allocator *memory, struct snapshot *snapshot)
{
    presence_connections *made = make(memory, NULL, (struct span){"", 0});
    if (made) {
        made->snapshot = snapshot;
        made->model = made->server = NONE;
    }
    return made;
}

void connections_limit_to_claim(presence_connections *connections, uint32_t server)
{
    connections->by_server = true;
    connections->server = server;
    connections->stated_only = true;
}

void connections_limit_to_newer(presence_connections *connections, uint32_t server, uint64_t revision)
{
    connections_limit_to_claim(connections, server);
    connections->newer_only = true;
    connections->since = revision;
}

presence_connections *presence_recorder_connections(presence_recorder *recorder)
{
    recorder_lock(recorder);
    struct registry *registry = recorder->registry;
    registry_drain(registry, 64);
    struct snapshot *snapshot = registry_snapshot(registry, recorder_now(recorder));
    recorder_unlock(recorder);
    if (!snapshot)
        return NULL;
    presence_connections *made = connections_new(&recorder->memory, snapshot);
    if (!made)
        snapshot_release(snapshot);
    return made;
}

void presence_connections_free(presence_connections *connections)
{
    if (!connections)
        return;
    presence_allocator memory = connections->memory;
    snapshot_release(connections->snapshot);
    memory_give(&memory, connections, connections->bytes);
}

static presence_connections *slice(const presence_connections *from, struct span agent)
{
    presence_connections *made = make(&from->memory, from, agent);
    if (made)
        snapshot_borrow(made->snapshot);
    return made;
}

static struct span own_agent(const presence_connections *connections)
{
    return (struct span){connections->agent, connections->agent_length};
}

presence_connections *presence_replica_inherited(const presence_connections *state)
{
    if (!state || !state->stated_only || state->newer_only)
        return NULL;
    presence_connections *made = slice(state, own_agent(state));
    if (made)
        made->inherited_only = true;
    return made;
}

presence_connections *presence_connections_for_model(const presence_connections *connections, const char *model)
{
    struct span name;
    if (!connections || !model)
        return NULL;
    presence_connections *made = slice(connections, own_agent(connections));
    if (!made)
        return NULL;
    const struct registry *registry = made->snapshot->registry;
    uint32_t number =
        text_check_name(model, &name) ? NONE : registry_model(roots_of(made), name, name_hash(registry, name));
    made->empty = made->empty || number == NONE || (made->by_model && made->model != number);
    made->by_model = true;
    made->model = number;
    return made;
}

presence_connections *presence_connections_for_server(const presence_connections *connections, const char *server)
{
    struct span name;
    if (!connections || !server)
        return NULL;
    presence_connections *made = slice(connections, own_agent(connections));
    if (!made)
        return NULL;
    uint32_t number = text_check_name(server, &name)
                          ? NONE
                          : registry_server(roots_of(made), name, name_hash(made->snapshot->registry, name));
    made->empty = made->empty || number == NONE || (made->by_server && made->server != number);
    made->by_server = true;
    made->server = number;
    return made;
}

presence_connections *presence_connections_for_agent(const presence_connections *connections, const char *agent)
{
    struct span name;
    if (!connections || !agent)
        return NULL;
    bool bad = text_check_name(agent, &name) != NULL;
    presence_connections *made = slice(connections, bad ? own_agent(connections) : name);
    if (!made)
        return NULL;
    made->empty = made->empty || bad || (connections->by_agent && strcmp(connections->agent, agent) != 0);
    if (!bad) {
        made->by_agent = true;
        made->agent_hash = name_hash(made->snapshot->registry, name);
    }
    return made;
}

/* ------------------------------------------------------------------------------------------------------- walking -- */

/* Does the row belong to the slice, for its readers? */
static bool belongs(const presence_connections *connections, uint32_t number)
{
    const struct roots *roots = roots_of(connections);
    struct row row = *row_get(roots, number);
    uint32_t owner = row_server(roots, number);
    const struct server *server = server_get(roots, owner);
    if (connections->by_server && owner != connections->server)
        return false;
    if (row_stated_status(row.stamp, server) == PRESENCE_UNKNOWN)
        return false;
    if (connections->stated_only && row_is_inherited(row.stamp, server) != connections->inherited_only)
        return false;
    if (connections->newer_only && row_revision(row.stamp) <= connections->since)
        return false;
    if (connections->by_model && agent_get(roots, row.agent)->model != connections->model)
        return false;
    return !connections->by_agent || span_equals(agent_name(agent_get(roots, row.agent)), own_agent(connections));
}

enum route { ROUTE_NOTHING, ROUTE_ROWS, ROUTE_SERVER, ROUTE_MODEL, ROUTE_AGENT, ROUTE_AGENT_ANYWHERE };

/* The cheapest index that covers the slice. */
static enum route route_of(const presence_connections *connections)
{
    const struct roots *roots = roots_of(connections);
    if (connections->empty)
        return ROUTE_NOTHING;
    if (connections->by_model && connections->by_agent)
        return ROUTE_AGENT;
    uint64_t in_server = connections->by_server ? server_get(roots, connections->server)->physical : UINT64_MAX;
    if (connections->by_model)
        return in_server < model_get(roots, connections->model)->rows ? ROUTE_SERVER : ROUTE_MODEL;
    if (connections->by_agent)
        return in_server < roots->models.count ? ROUTE_SERVER : ROUTE_AGENT_ANYWHERE;
    return connections->by_server ? ROUTE_SERVER : ROUTE_ROWS;
}

/* The cursor: at[0] where in the index (unit + 1, or model + 1), at[1] slot, at[2] next row of the agent + 1, at[3] 1
 * once started, 2 at the end. */
enum { CURSOR_STARTED = 1, CURSOR_ENDED = 2 };

/* The rest of the agent's rows; NONE when through. */
static uint32_t next_of_agent(const struct roots *roots, presence_cursor *cursor)
{
    if (!cursor->at[2])
        return NONE;
    uint32_t row = (uint32_t)cursor->at[2] - 1;
    uint32_t next = row_next(roots, row, row_stamp(roots, row));
    cursor->at[2] = next == NONE ? 0 : (uint64_t)next + 1;
    return row;
}

/* ---- Hints. A walk that enters a unit asks for the records of the unit after the next, and for what the records of
 * the next one lead to: so that a value waits for nothing but what its own unit was too soon for. */

enum { LINE_BYTES = 64 };

static void prefetch_lines(const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += LINE_BYTES)
        memory_prefetch((const char *)from + at);
}

static void prefetch_agents(const struct roots *roots, uint32_t unit)
{
    memory_prefetch(shelf_side(&roots->agents, unit));
    prefetch_lines(agent_get(roots, unit << AGENT_UNIT_BITS), sizeof(struct agent) << AGENT_UNIT_BITS);
}

static void prefetch_rows_of_agents(const struct roots *roots, uint32_t unit)
{
    const struct agent *agents = agent_get(roots, unit << AGENT_UNIT_BITS);
    for (uint32_t used = shelf_used(&roots->agents, unit); used; used &= used - 1)
        memory_prefetch(row_get(roots, agents[__builtin_ctz(used)].first));
}

static void prefetch_rows(const struct roots *roots, uint32_t unit)
{
    memory_prefetch(shelf_side(&roots->rows, unit));
    if (shelf_page(&roots->rows, unit << ROW_UNIT_BITS)) /* else all of its units are free */
        prefetch_lines(row_get(roots, unit << ROW_UNIT_BITS), sizeof(struct row) << ROW_UNIT_BITS);
}

static void prefetch_agents_of_rows(const struct roots *roots, uint32_t unit)
{
    uint32_t used = shelf_used(&roots->rows, unit);
    const struct row *rows = used ? row_get(roots, unit << ROW_UNIT_BITS) : NULL;
    for (; used; used &= used - 1)
        memory_prefetch(agent_get(roots, rows[__builtin_ctz(used)].agent));
}

/* The unit after this one, + 1, in its owner's list; or among all. 0: it is the last. */
static uint32_t unit_after(const struct shelf *shelf, uint32_t unit, bool all)
{
    if (!all)
        return shelf_next(shelf, unit);
    return unit + 1 < shelf->units ? unit + 2 : 0;
}

typedef void prefetch_unit(const struct roots *roots, uint32_t unit);

static inline void look_ahead(const struct roots *roots, const struct shelf *shelf, uint32_t unit, bool all, bool first,
                              prefetch_unit *records, prefetch_unit *behind)
{
    uint32_t next = unit_after(shelf, unit, all);
    if (first) {
        records(roots, unit);
        if (next)
            records(roots, next - 1);
        behind(roots, unit);
    }
    if (!next)
        return;
    uint32_t after = unit_after(shelf, next - 1, all);
    if (after)
        records(roots, after - 1);
    behind(roots, next - 1);
}

/* ---- Each route's next row. */

static uint32_t next_in_model(const presence_connections *connections, presence_cursor *cursor)
{
    const struct roots *roots = roots_of(connections);
    const struct shelf_list *list = &model_get(roots, connections->model)->agents;
    for (;;) {
        uint32_t row = next_of_agent(roots, cursor);
        if (row != NONE)
            return row;
        bool first = !cursor->at[3];
        if (first) {
            cursor->at[3] = CURSOR_STARTED;
            cursor->at[0] = list->all;
            cursor->at[1] = 0;
        }
        if (!cursor->at[0])
            return NONE;
        uint32_t unit = (uint32_t)cursor->at[0] - 1, used = shelf_used(&roots->agents, unit);
        if (cursor->at[1] == 0)
            look_ahead(roots, &roots->agents, unit, false, first, prefetch_agents, prefetch_rows_of_agents);
        unsigned left = used >> cursor->at[1];
        if (!left) {
            cursor->at[0] = shelf_next(&roots->agents, unit);
            cursor->at[1] = 0;
            continue;
        }
        cursor->at[1] += (unsigned)__builtin_ctz(left);
        uint32_t agent = unit << AGENT_UNIT_BITS | (uint32_t)cursor->at[1];
        cursor->at[1]++;
        cursor->at[2] = (uint64_t)agent_get(roots, agent)->first + 1;
    }
}

/* The next row in a unit, or in the units after it: of the server's list, or of all units. */
static uint32_t next_in_units(const presence_connections *connections, presence_cursor *cursor, bool all)
{
    const struct roots *roots = roots_of(connections);
    const struct shelf_list *list = all ? NULL : &server_get(roots, connections->server)->rows;
    bool first = !cursor->at[3];
    if (first) {
        cursor->at[3] = CURSOR_STARTED;
        cursor->at[0] = all ? roots->rows.units > 0 : list->all;
        cursor->at[1] = 0;
    }
    while (cursor->at[0]) {
        uint32_t unit = (uint32_t)cursor->at[0] - 1, used = shelf_used(&roots->rows, unit);
        if (cursor->at[1] == 0)
            look_ahead(roots, &roots->rows, unit, all, first, prefetch_rows, prefetch_agents_of_rows);
        first = false;
        unsigned left = used >> cursor->at[1];
        if (left) {
            cursor->at[1] += (unsigned)__builtin_ctz(left);
            uint32_t row = unit << ROW_UNIT_BITS | (uint32_t)cursor->at[1];
            cursor->at[1]++;
            return row;
        }
        cursor->at[1] = 0;
        cursor->at[0] = unit_after(&roots->rows, unit, all);
    }
    return NONE;
}

static void start_agent(const presence_connections *connections, uint32_t model, presence_cursor *cursor)
{
    const struct roots *roots = roots_of(connections);
    uint32_t agent =
        registry_agent(connections->snapshot->registry, roots, model, own_agent(connections), connections->agent_hash);
    cursor->at[2] = agent == NONE ? 0 : (uint64_t)agent_get(roots, agent)->first + 1;
}

/* The same agent name in every model. */
static uint32_t next_anywhere(const presence_connections *connections, presence_cursor *cursor)
{
    const struct roots *roots = roots_of(connections);
    for (;;) {
        uint32_t row = next_of_agent(roots, cursor);
        if (row != NONE)
            return row;
        uint32_t model = (uint32_t)cursor->at[0]++;
        if (model >= shelf_end(&roots->models)) {
            cursor->at[0]--;
            return NONE;
        }
        if (shelf_in_use(&roots->models, model))
            start_agent(connections, model, cursor);
    }
}

static uint32_t next_row(const presence_connections *connections, presence_cursor *cursor, enum route route)
{
    for (;;) {
        uint32_t row = NONE;
        switch (route) {
        case ROUTE_NOTHING:
            break;
        case ROUTE_ROWS:
        case ROUTE_SERVER:
            row = next_in_units(connections, cursor, route == ROUTE_ROWS);
            break;
        case ROUTE_MODEL:
            row = next_in_model(connections, cursor);
            break;
        case ROUTE_AGENT:
            if (!cursor->at[3]) {
                cursor->at[3] = CURSOR_STARTED;
                start_agent(connections, connections->model, cursor);
            }
            row = next_of_agent(roots_of(connections), cursor);
            break;
        case ROUTE_AGENT_ANYWHERE:
            row = next_anywhere(connections, cursor);
            break;
        }
        if (row == NONE || belongs(connections, row))
            return row;
    }
}

bool connections_next_row(const presence_connections *connections, presence_cursor *cursor, uint32_t *row)
{
    if (cursor->at[3] == CURSOR_ENDED)
        return false;
    *row = next_row(connections, cursor, route_of(connections));
    if (*row == NONE)
        cursor->at[3] = CURSOR_ENDED;
    return *row != NONE;
}

/* What was stated under a claim is told as it was stated: that this recorder lost touch is no statement. */
static void fill_value(const presence_connections *connections, uint32_t row, presence_value *value)
{
    const struct roots *roots = roots_of(connections);
    registry_value(roots, row, value);
    if (connections->stated_only)
        value->status = row_stated_status(row_stamp(roots, row), server_get(roots, row_server(roots, row)));
}

bool presence_connections_next(const presence_connections *connections, presence_cursor *cursor, presence_value *value)
{
    uint32_t row;
    if (!connections || !cursor || !value || !connections_next_row(connections, cursor, &row))
        return false;
    fill_value(connections, row, value);
    return true;
}

/* ------------------------------------------------------------------------------------------------------- queries -- */

size_t presence_connections_count(const presence_connections *connections)
{
    if (!connections || connections->empty)
        return 0;
    const struct roots *roots = roots_of(connections);
    if (!connections->by_model && !connections->by_agent && !connections->stated_only)
        return connections->by_server ? server_get(roots, connections->server)->connections : roots->connections;
    size_t count, agents;
    if (connections->by_model && !connections->by_server && !connections->by_agent && !connections->stated_only &&
        registry_model_counts(roots, connections->model, &count, &agents))
        return count;
    presence_cursor cursor = {{0}};
    enum route route = route_of(connections);
    count = 0;
    while (next_row(connections, &cursor, route) != NONE)
        count++;
    return count;
}

uint64_t presence_connections_revision(const presence_connections *connections)
{
    return connections ? roots_of(connections)->revision : 0;
}

int presence_connections_find(const presence_connections *connections, const char *server, uint64_t id,
                              presence_value *value)
{
    struct span name;
    if (!connections || !value || text_check_name(server, &name))
        return PRESENCE_E_INVALID;
    if (connections->empty)
        return PRESENCE_E_NOT_FOUND;
    const struct registry *registry = connections->snapshot->registry;
    uint32_t number = registry_server(roots_of(connections), name, name_hash(registry, name));
    uint32_t row = number == NONE ? NONE : registry_row(registry, roots_of(connections), number, id);
    if (row == NONE || !belongs(connections, row))
        return PRESENCE_E_NOT_FOUND;
    fill_value(connections, row, value);
    return PRESENCE_OK;
}

/* The agent's number in the slice's model; NONE if it is not there. */
static int find_agent(const presence_connections *connections, const char *agent, bool regard_slice, uint32_t *number)
{
    struct span name;
    *number = NONE;
    if (!connections || text_check_name(agent, &name))
        return PRESENCE_E_INVALID;
    if (!connections->by_model)
        return PRESENCE_E_AMBIGUOUS;
    bool other = connections->by_agent && strcmp(connections->agent, agent) != 0;
    if (connections->model == NONE || (regard_slice && (connections->empty || other)))
        return PRESENCE_OK;
    const struct registry *registry = connections->snapshot->registry;
    *number = registry_agent(registry, roots_of(connections), connections->model, name, name_hash(registry, name));
    return PRESENCE_OK;
}

/* The best status of the agent's connections that are stated under the claim. */
static presence_status best_stated(const presence_connections *connections, uint32_t agent)
{
    const struct roots *roots = roots_of(connections);
    presence_status best = PRESENCE_UNKNOWN;
    for (uint32_t at = agent_get(roots, agent)->first; at != NONE;) {
        uint64_t stamp = row_stamp(roots, at);
        presence_status status = row_stated_status(stamp, server_get(roots, row_server(roots, at)));
        if (!(stamp & ROW_CONTROLLER) && status > best && belongs(connections, at))
            best = status;
        at = row_next(roots, at, stamp);
    }
    return best;
}

int presence_connections_agent_status(const presence_connections *connections, const char *agent,
                                      presence_status *status)
{
    uint32_t number;
    if (!status)
        return PRESENCE_E_INVALID;
    int code = find_agent(connections, agent, true, &number);
    if (code)
        return code;
    if (number != NONE && connections->stated_only) {
        *status = best_stated(connections, number);
        return PRESENCE_OK;
    }
    *status = number == NONE ? PRESENCE_UNKNOWN
                             : evidence_best_on_server(roots_of(connections), number,
                                                       connections->by_server ? connections->server : NONE);
    return PRESENCE_OK;
}

int presence_connections_agent_evidence(const presence_connections *connections, const char *agent,
                                        presence_evidence *evidence)
{
    uint32_t number;
    if (!evidence)
        return PRESENCE_E_INVALID;
    int code = find_agent(connections, agent, false, &number);
    if (code)
        return code;
    *evidence = (presence_evidence){0};
    if (number != NONE)
        evidence_fill(roots_of(connections), number, evidence);
    return PRESENCE_OK;
}

/* --------------------------------------------------------------------------------------------------------- names -- */

struct names_header {
    presence_allocator memory;
    size_t bytes;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorts the list in place, and makes one allocation of what is left without repeats. */
int names_make(const presence_allocator *memory, const char **list, size_t list_count, char ***names, size_t *count)
{
    size_t unique = 0, text = 0;
    if (list_count > 1)
        qsort(list, list_count, sizeof *list, compare_names);
    for (size_t i = 0; i < list_count; i++) {
        if (unique && strcmp(list[unique - 1], list[i]) == 0)
            continue;
        list[unique++] = list[i];
        text += strlen(list[i]) + 1;
    }
    size_t bytes = sizeof(struct names_header) + (unique + 1) * sizeof(char *) + text;
    struct names_header *header = memory_take(memory, bytes);
    if (!header)
        return PRESENCE_E_NO_MEMORY;
    *header = (struct names_header){*memory, bytes};
    char **made = (char **)(void *)(header + 1);
    char *to = (char *)(made + unique + 1);
    for (size_t i = 0; i < unique; i++) {
        size_t length = strlen(list[i]) + 1;
        made[i] = memcpy(to, list[i], length);
        to += length;
    }
    made[unique] = NULL;
    *names = made;
    *count = unique;
    return PRESENCE_OK;
}

void presence_names_free(char **names)
{
    if (!names)
        return;
    struct names_header *header = (struct names_header *)(void *)names - 1;
    presence_allocator memory = header->memory;
    memory_give(&memory, header, header->bytes);
}

enum name_kind { NAME_MODEL, NAME_SERVER, NAME_AGENT };

struct name_list {
    const presence_allocator *memory;
    const char **at;
    size_t count, room;
    bool failed;
};

static void list_name(struct name_list *list, const char *name)
{
    if (list->count && list->at[list->count - 1] == name)
        return;
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        const char **at = memory_take(list->memory, room * sizeof *at);
        if (!at) {
            list->failed = true;
            return;
        }
        if (list->count)
            memcpy(at, list->at, list->count * sizeof *at);
        memory_give(list->memory, list->at, list->room * sizeof *at);
        list->at = at;
        list->room = room;
    }
    list->at[list->count++] = name;
}

static const char *name_of(const struct roots *roots, uint32_t row, enum name_kind kind)
{
    if (kind == NAME_SERVER)
        return server_get(roots, row_server(roots, row))->name->bytes;
    uint32_t agent = row_get(roots, row)->agent;
    return kind == NAME_AGENT ? agent_name(agent_get(roots, agent)).bytes
                              : model_name(model_get(roots, agent_get(roots, agent)->model)).bytes;
}

/* Where the records say it without looking at rows: all servers; and all models, but for moments in which lists are
 * swept (registry_model_counts). What was listed before that was found has repeats then. */
static bool list_records(const presence_connections *connections, enum name_kind kind, struct name_list *list)
{
    const struct roots *roots = roots_of(connections);
    if (connections->by_model || connections->by_server || connections->by_agent || kind == NAME_AGENT)
        return false;
    const struct shelf *shelf = kind == NAME_MODEL ? &roots->models : &roots->servers;
    for (uint32_t number = 0; number < shelf_end(shelf) && !list->failed; number++) {
        if (!shelf_in_use(shelf, number))
            continue;
        size_t count, agents;
        if (kind == NAME_MODEL && !registry_model_counts(roots, number, &count, &agents))
            return false;
        if (kind == NAME_MODEL && count)
            list_name(list, model_name(model_get(roots, number)).bytes);
        else if (kind == NAME_SERVER && server_get(roots, number)->connections)
            list_name(list, server_get(roots, number)->name->bytes);
    }
    return true;
}

static int names_of(const presence_connections *connections, enum name_kind kind, char ***names, size_t *count)
{
    if (!connections || !names || !count)
        return PRESENCE_E_INVALID;
    struct name_list list = {.memory = &connections->memory};
    if (!connections->empty && !list_records(connections, kind, &list)) {
        presence_cursor cursor = {{0}};
        enum route route = route_of(connections);
        uint32_t row;
        while (!list.failed && (row = next_row(connections, &cursor, route)) != NONE)
            list_name(&list, name_of(roots_of(connections), row, kind));
    }
    int code = list.failed ? PRESENCE_E_NO_MEMORY : names_make(&connections->memory, list.at, list.count, names, count);
    memory_give(list.memory, list.at, list.room * sizeof *list.at);
    return code;
}

int presence_connections_models(const presence_connections *connections, char ***names, size_t *count)
{
    return names_of(connections, NAME_MODEL, names, count);
}

int presence_connections_servers(const presence_connections *connections, char ***names, size_t *count)
{
    return names_of(connections, NAME_SERVER, names, count);
}

int presence_connections_agents(const presence_connections *connections, char ***names, size_t *count)
{
    return names_of(connections, NAME_AGENT, names, count);
}
