/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulk.c - whole lists: update, merge, replicated states, complete, forget.
 *
 * Four phases, for a list of any length:
 *   PREPARE  without the lock: check and hash every value, look for repeated ids.
 *   STAGE    under the lock in steps of BULK_STEP values: a value that is recorded as it is gets a mark on its row; any
 *            other becomes a fresh row beside the old one, which nobody sees. The server is busy meanwhile: other
 *            calls on it wait, calls on other servers run between the steps.
 *   COMMIT   under the lock, O(1): the server's record says "committed", with the new counts and digest. From now on
 *            everybody sees the new list and nothing of the old (row_status_in_bulk).
 *   SWEEP    under the lock in steps: dropped rows are removed, marks are taken off. Nothing visible changes.
 * If staging fails, a sweep takes fresh rows and marks away again. A sweep that gets no memory (it may have to copy
 * pages that snapshots see) stops, and whoever next needs the server goes on with it.
 *
 * A state that comes in pieces (state.c) is staged with each piece, and idle in between: the server stays busy, but who
 * needs it does not wait for a piece that may never come, but takes what is staged away.
 *
 * What was not stated since a mark is made missing by the same means: counted in steps, visible in one, and nothing to
 * sweep. A difference (difference.c) is staged like a list, but what it does not name stays as it is.
 *
 * Any thread. Cost: O(values + connections of the server); the lock is held for one step at a time.
 */
#include "bulk.h"

#include <assert.h>

enum { SWEEP_PAGES = 4, SHOWN_BYTES = 96 };

/* ------------------------------------------------------------------------------------------------------- prepare -- */

/* How much of a checked name is shown in a message: whole characters. */
static int shown_bytes(struct span name)
{
    size_t length = name.length < SHOWN_BYTES ? name.length : SHOWN_BYTES;
    while (length < name.length && ((unsigned char)name.bytes[length] & 0xc0) == 0x80) /* what is cut is its end */
        length--;
    return (int)length;
}

int bulk_prepare_value(struct bulk *bulk, struct id_set *ids, size_t i, presence_error *error)
{
    assert(bulk->items);
    const struct bulk_request *request = bulk->request;
    const presence_value *value = &request->values[i];
    struct span server;
    int code = recorder_check_name("server", value->server, &server, error);
    if (code)
        return code;
    if (strcmp(value->server, request->server.bytes) != 0)
        return recorder_error(error, PRESENCE_E_MISMATCH, "connection server mismatch, got \"%.*s\" expected \"%.*s\"",
                              shown_bytes(server), server.bytes, shown_bytes(request->server), request->server.bytes);
    struct facts facts;
    code = recorder_facts(bulk->recorder, value, &facts, (long)(bulk->added + i), error);
    if (code)
        return code;
    if (ids && !id_set_add(ids, value->connection_id))
        return recorder_error(error, PRESENCE_E_DUPLICATE, "value %zu: connection id %llu is in the list twice", i,
                              (unsigned long long)value->connection_id);
    bulk->items[i] = (struct item){facts.model_hash, facts.agent_hash, (uint16_t)facts.model.length,
                                   (uint16_t)facts.agent.length, (uint16_t)facts.data.length};
    return PRESENCE_OK;
}

static int prepare(struct bulk *bulk, presence_error *error)
{
    const struct bulk_request *request = bulk->request;
    const presence_allocator *memory = &bulk->recorder->memory;
    if (request->count == 0)
        return PRESENCE_OK;
    bulk->items = memory_take(memory, request->count * sizeof *bulk->items);
    struct id_set *ids = id_set_new(memory, request->count, bulk->recorder->secret);
    int code = bulk->items && ids ? PRESENCE_OK : recorder_error_code(error, PRESENCE_E_NO_MEMORY);
    for (size_t i = 0; i < request->count && !code; i++)
        code = bulk_prepare_value(bulk, ids, i, error);
    id_set_free(memory, ids);
    return code;
}

struct facts bulk_item_facts(const struct bulk *bulk, size_t i)
{
    const presence_value *value = &bulk->request->values[i];
    const struct item *item = &bulk->items[i];
    return (struct facts){.model = {value->model, item->model_length},
                          .agent = {value->agent, item->agent_length},
                          .data = {value->user_data ? value->user_data : "", item->data_length},
                          .model_hash = item->model_hash,
                          .agent_hash = item->agent_hash,
                          .id = value->connection_id,
                          .controller = value->controller_agent};
}

/* --------------------------------------------------------------------------------------------------------- stage -- */

/* Counts a row as part of the new state. */
static void tally(struct bulk *bulk, uint32_t row, bool alive)
{
    bulk->connections++;
    bulk->alive += alive;
    if (!(bulk->face.flags & SERVER_CLAIMED))
        return;
    uint64_t digest = registry_row_digest(&bulk->registry->now, &bulk->face, row);
    bulk->digest.all += digest;
    if (alive)
        bulk->digest.alive += digest;
}

void bulk_mark(struct bulk *bulk, uint32_t row, enum row_mark mark)
{
    row_edit(bulk->registry, row)->stamp |= (uint64_t)mark << ROW_MARK_SHIFT;
}

static void drop(struct bulk *bulk, uint32_t row)
{
    bulk_mark(bulk, row, MARK_DROPPED);
    bulk->news = bulk->drops = true;
}

/* What is inherited counts as a connection, and not as stated. */
static void tally_inherited(struct bulk *bulk, bool alive)
{
    bulk->connections++;
    bulk->alive += alive;
    bulk->inherited++;
    bulk->inherited_alive += alive;
}

int bulk_stage_fresh(struct bulk *bulk, const struct facts *facts, enum row_mark row_mark, presence_time last_seen,
                     bool inherited)
{
    struct registry *registry = bulk->registry;
    uint32_t agent;
    bool is_new;
    int code = arena_reserve_to_grow(&registry->arena);
    code = code ? code : registry_find_or_add_agent(registry, facts, &agent, &is_new);
    if (code)
        return code;
    bool failed;
    struct text *data = registry_new_data(registry, facts->data, &failed);
    if (failed) {
        registry_drop_idle_agent(registry, agent);
        return arena_no_memory_code(&registry->arena, facts->data.length);
    }
    uint64_t stamp = registry->now.revision << ROW_STAMP_SHIFT | (uint64_t)row_mark << ROW_MARK_SHIFT |
                     (facts->controller ? ROW_CONTROLLER : 0) | (inherited ? ROW_RESTATED : 0);
    uint32_t row = registry_add_row(registry, bulk->server, agent, facts->id, data, stamp, last_seen);
    if (row == NONE) {
        registry_drop_text(registry, data);
        registry_drop_idle_agent(registry, agent);
        return PRESENCE_E_LIMIT;
    }
    if (inherited)
        tally_inherited(bulk, row_mark != MARK_FRESH_MISSING);
    else
        tally(bulk, row, row_mark != MARK_FRESH_MISSING);
    bulk->news = true;
    bulk->missing += row_mark == MARK_FRESH_MISSING && !inherited;
    return PRESENCE_OK;
}

/* Connected after the caller began to gather its list? */
static bool connected_since(const struct bulk *bulk, uint64_t stamp)
{
    uint64_t connected = row_revision(stamp), since = bulk->request->since;
    return connected > since || (connected == since && stamp & ROW_RESTATED);
}

/* Did a piece of the same state have that id? */
static bool is_staged(const struct bulk *bulk, uint64_t id)
{
    const struct registry *registry = bulk->registry;
    uint64_t hash = connection_hash(registry, server_get(&registry->now, bulk->server)->hash, id);
    struct index_probe probe = index_probe_start(&registry->now.by_connection, hash);
    uint32_t row;
    while (index_probe_next(&probe, &row))
        if (row_get(&registry->now, row)->id == id && row_server(&registry->now, row) == bulk->server)
            return true;
    return false;
}

/* What the list says of a row that is recorded: a mark, or MARK_NONE for "state it afresh". */
static enum row_mark mark_of(const struct bulk *bulk, uint32_t number, const struct facts *facts,
                             const presence_value *value)
{
    const struct roots *now = &bulk->registry->now;
    presence_status status = row_status(row_stamp(now, number), server_get(now, bulk->server));
    if (bulk->request->mode == BULK_MERGE && status == PRESENCE_ALIVE)
        return MARK_KEPT; /* whatever the list says of it */
    if (!registry_same_facts(now, number, facts))
        return MARK_NONE;
    if (bulk->request->mode != BULK_STATE)
        return MARK_KEPT;
    bool as_stated = row_get(now, number)->last_seen == value->last_seen && value->status == PRESENCE_ALIVE;
    return as_stated ? MARK_KEPT_QUIET : MARK_NONE;
}

static int stage_value(struct bulk *bulk, size_t i)
{
    struct registry *registry = bulk->registry;
    int code = arena_reserve(&registry->arena);
    if (code)
        return code;
    const presence_value *value = &bulk->request->values[i];
    struct facts facts = bulk_item_facts(bulk, i);
    if (bulk->in_pieces && is_staged(bulk, facts.id)) {
        bulk->twice = i;
        return PRESENCE_E_DUPLICATE;
    }
    bool inherited = bulk->request->inherited > bulk->request->count - 1 - i;
    uint32_t known =
        bulk->in_pieces || inherited ? NONE : registry_row(registry, &registry->now, bulk->server, facts.id);
    if (known == NONE && bulk->departed && id_set_has(bulk->departed, facts.id))
        return PRESENCE_OK;
    if (known != NONE && bulk->request->mode == BULK_MERGE_SINCE &&
        connected_since(bulk, row_stamp(&registry->now, known)))
        return PRESENCE_OK; /* its newer fate: see stage_rest */
    enum row_mark said = known == NONE ? MARK_NONE : mark_of(bulk, known, &facts, value);
    if (said != MARK_NONE) {
        uint64_t connected = row_revision(row_stamp(&registry->now, known));
        bulk->news = bulk->news || connected <= bulk->face.floor || connected < bulk->face.base;
        bulk_mark(bulk, known, said);
        tally(bulk, known, true);
        return PRESENCE_OK;
    }
    enum row_mark fresh = bulk->request->mode != BULK_STATE   ? MARK_FRESH
                          : value->status == PRESENCE_MISSING ? MARK_FRESH_MISSING
                                                              : MARK_FRESH_QUIET;
    return bulk_stage_fresh(bulk, &facts, fresh, value->last_seen, inherited);
}

void bulk_prefetch_values(const struct bulk *bulk, size_t from, size_t to)
{
    struct server_name server = {.hash = server_get(&bulk->registry->now, bulk->server)->hash};
    struct ahead ahead[WAVE];
    size_t count = 0;
    for (size_t i = from; i < to && i < from + WAVE; i++) {
        struct facts facts = bulk_item_facts(bulk, i);
        ahead[count++] = recorder_connect_ahead(bulk->recorder, server, &facts);
    }
    recorder_prefetch_wave(bulk->recorder, ahead, count);
}

bool bulk_give_way(struct bulk *bulk)
{
    recorder_give_way(bulk->recorder);
    return bulk->recorder->registry != bulk->registry;
}

int bulk_stage_list(struct bulk *bulk)
{
    size_t count = bulk->request->count;
    for (size_t at = 0; at < count; at += BULK_STEP) {
        size_t end = count - at < BULK_STEP ? count : at + BULK_STEP;
        for (size_t i = at; i < end; i++) {
            if ((i - at) % WAVE == 0)
                bulk_prefetch_values(bulk, i, end);
            int code = stage_value(bulk, i);
            if (code)
                return code;
        }
        registry_drain(bulk->registry, BULK_STEP);
        if (end < count && bulk_give_way(bulk))
            return PRESENCE_E_DISABLED;
    }
    return PRESENCE_OK;
}

/* A row that the list does not name stays all the same? */
static bool stays(const struct bulk *bulk, uint64_t stamp)
{
    const struct server *server = server_get(&bulk->registry->now, bulk->server);
    switch (bulk->request->mode) {
    case BULK_MERGE:
        return row_status(stamp, server) == PRESENCE_ALIVE;
    case BULK_MERGE_SINCE:
        return connected_since(bulk, stamp);
    case BULK_COMPLETE:
        return row_revision(stamp) >= server->base;
    case BULK_TAKE_IN:
        return true;
    default:
        return false;
    }
}

/* One unit after the other of the server's; `next` (unit + 1) is ahead of what a step may free. NONE: through. */
static uint32_t walk_start(const struct bulk *bulk)
{
    return server_get(&bulk->registry->now, bulk->server)->rows.all;
}

static uint32_t walk_unit(const struct bulk *bulk, uint32_t *next)
{
    if (!*next)
        return NONE;
    uint32_t unit = *next - 1;
    *next = shelf_next(&bulk->registry->now.rows, unit);
    return unit;
}

/* Every row that the list did not mark: it stays and counts, or it is marked as dropped. */
static int stage_rest(struct bulk *bulk)
{
    struct registry *registry = bulk->registry;
    uint32_t next = walk_start(bulk), unit;
    for (size_t steps = 1; (unit = walk_unit(bulk, &next)) != NONE; steps++) {
        for (uint32_t slot = 0; slot < (uint32_t)1 << ROW_UNIT_BITS; slot++) {
            int code = arena_reserve(&registry->arena);
            if (code)
                return code;
            uint32_t row = unit << ROW_UNIT_BITS | slot;
            if (!shelf_in_use(&registry->now.rows, row))
                continue;
            uint64_t stamp = row_stamp(&registry->now, row);
            if (row_mark(stamp) != MARK_NONE)
                continue;
            if (stays(bulk, stamp))
                tally(bulk, row, row_revision(stamp) > bulk->face.floor);
            else
                drop(bulk, row);
        }
        registry_drain(registry, BULK_STEP);
        if (steps % SWEEP_PAGES == 0 && bulk_give_way(bulk))
            return PRESENCE_E_DISABLED;
    }
    return PRESENCE_OK;
}

/* Counts what stays alive when all that was stated up to `since` becomes missing. Marks nothing: the floor says it. */
static int stage_unstated(struct bulk *bulk)
{
    struct registry *registry = bulk->registry;
    uint32_t next = walk_start(bulk), unit;
    for (size_t steps = 1; (unit = walk_unit(bulk, &next)) != NONE; steps++) {
        for (uint32_t slot = 0; slot < (uint32_t)1 << ROW_UNIT_BITS; slot++) {
            uint32_t row = unit << ROW_UNIT_BITS | slot;
            if (!shelf_in_use(&registry->now.rows, row))
                continue;
            uint64_t revision = row_revision(row_stamp(&registry->now, row));
            if (revision <= bulk->request->since)
                continue;
            bulk->alive++;
            if (bulk->face.flags & SERVER_CLAIMED && revision >= bulk->face.base)
                bulk->digest.alive += registry_row_digest(&registry->now, &bulk->face, row);
            bulk->stated_alive += revision >= bulk->face.base;
        }
        if (steps % SWEEP_PAGES == 0 && bulk_give_way(bulk))
            return PRESENCE_E_DISABLED;
    }
    return PRESENCE_OK;
}

/* -------------------------------------------------------------------------------------------------------- commit -- */

/* The server's floor rises to the mark, which makes missing all that was not stated since. */
static int commit_unstated(struct bulk *bulk)
{
    struct presence_recorder *recorder = bulk->recorder;
    struct registry *registry = bulk->registry;
    const struct bulk_request *request = bulk->request;
    const struct server *before = server_get(&registry->now, bulk->server);
    size_t became_missing = before->flags & SERVER_LAPSED ? 0 : before->alive - bulk->alive;
    if (before->alive == bulk->alive)
        return PRESENCE_OK;
    struct whole_change whole = {0};
    int code = recorder_begin(recorder);
    code = code ? code : whole_change_begin(recorder, &whole);
    if (code)
        return code;
    registry->now.revision++;
    registry_note_event(registry);
    presence_time when = recorder_now(recorder);
    server_push_down(registry, server_edit(registry, bulk->server), request->since, when, request->floor_reason);
    struct server *server = server_edit(registry, bulk->server);
    registry->now.alive -= server_alive_now(server);
    server->alive = bulk->alive;
    registry->now.alive += server_alive_now(server);
    server->stated_alive = bulk->stated_alive;
    server->digest.alive = bulk->digest.alive;
    server->floor = request->since;
    server->number++;
    whole_change_end(recorder, &whole, bulk->server, HISTORY_WHOLE, request->floor_reason, when);
    *request->became_missing = became_missing;
    return PRESENCE_OK;
}

static enum history_change change_of(const struct bulk_request *request)
{
    if (request->mode == BULK_COMPLETE)
        return (enum history_change)PRESENCE_CHANGE_COMPLETE;
    bool numbered = request->mode != BULK_TAKE_IN && request->mode != BULK_FORGET;
    return numbered ? HISTORY_WHOLE : HISTORY_UNNUMBERED;
}

/* Where something is inherited, a state takes two revisions. The present one is for what is stated and alive. Where
 * nothing stated is missing, the two before are for what is inherited: missing, at the floor, and alive. Else all of
 * that is missing, for the server went down since; then the older is for it, and the other, the floor, for what is
 * stated and missing. */
static uint64_t base_of(const struct bulk *bulk)
{
    return bulk->inherited ? bulk->registry->now.revision - (bulk->missing > 0) : 0;
}

static void commit_claim(struct bulk *bulk, struct server *server)
{
    const struct bulk_request *request = bulk->request;
    uint64_t revision = bulk->registry->now.revision;
    server->base = base_of(bulk);
    if (request->mode == BULK_FORGET) {
        server->flags = (uint8_t)((server->flags & ~(SERVER_COMPLETE | SERVER_LAPSED)) | SERVER_FORGOTTEN);
        server->forgotten_at = server->bulk_time;
        return;
    }
    server->flags =
        (uint8_t)((server->flags & ~(SERVER_FORGOTTEN | SERVER_COMPLETE)) | (bulk->inherited ? 0 : SERVER_COMPLETE));
    if (request->mode == BULK_STATE || request->mode == BULK_DIFFERENCE || request->mode == BULK_TAKE_IN) {
        bool other = presence_claim_compare(&server->claim, &request->claim) != 0;
        server->claim = request->claim;
        server->flags |= SERVER_CLAIMED;
        if (request->mode == BULK_TAKE_IN)
            server->flags |= SERVER_LOCAL;
        else
            server->flags &= (uint8_t)~SERVER_LOCAL;
        server->number = request->number;
        server->floor_number = request->floor_number;
        if (other)
            server->numbered_since = revision;
        server->mark_number[0] = server->mark_number[1] = request->number;
        server->mark_revision[0] = server->mark_revision[1] = revision;
    } else {
        server->number = request->number ? request->number : server->number + 1;
    }
}

/* Does the list change more than last_seen? If not, it is no change of the revision nor of the number. */
static bool is_news(const struct bulk *bulk, const struct server *server)
{
    bool of_claims = bulk->request->mode == BULK_STATE || bulk->request->mode == BULK_DIFFERENCE ||
                     bulk->request->mode == BULK_COMPLETE || bulk->request->mode == BULK_FORGET ||
                     bulk->request->mode == BULK_TAKE_IN;
    return bulk->news || of_claims || !(server->flags & SERVER_COMPLETE) || server->flags & SERVER_FORGOTTEN;
}

int bulk_commit(struct bulk *bulk)
{
    struct presence_recorder *recorder = bulk->recorder;
    struct registry *registry = bulk->registry;
    struct roots *now = &registry->now;
    const struct bulk_request *request = bulk->request;
    const struct server *before = server_get(now, bulk->server);
    uint64_t others = now->connections - before->connections;
    if (registry->limit_connections && bulk->connections > before->connections &&
        others + bulk->connections > registry->limit_connections)
        return PRESENCE_E_LIMIT;
    if (bulk->missing && bulk->inherited_alive)
        return PRESENCE_E_INVALID; /* what made missing what was stated made missing all that was inherited */
    struct whole_change whole = {0};
    int code = recorder_begin(recorder);
    bool news = is_news(bulk, before);
    if (!code && news)
        code = whole_change_begin(recorder, &whole);
    if (code)
        return code;
    uint64_t floor = now->revision + (bulk->inherited && bulk->missing);
    if (news) {
        now->revision += bulk->inherited ? 2 : 1;
        registry_note_event(registry);
    }
    struct server *server = server_edit(registry, bulk->server);
    now->connections = others + bulk->connections;
    now->alive -= server_alive_now(server);
    server->bulk = BULK_COMMITTED;
    server->drops = bulk->drops;
    now->sweeps++;
    now->drops += bulk->drops;
    server->bulk_revision = now->revision;
    server->bulk_time = recorder_now(recorder);
    server->connections = bulk->connections;
    server->alive = bulk->alive;
    server->stated = bulk->connections - bulk->inherited;
    server->stated_alive = bulk->alive - bulk->inherited_alive;
    server->digest = bulk->digest;
    if (news)
        commit_claim(bulk, server);
    bool missing = bulk->missing || bulk->inherited_alive < bulk->inherited;
    if ((request->mode == BULK_STATE && missing) || bulk->down) {
        /* For server_push_down: of a state nothing that was recorded before is missing any more. */
        server->alive = bulk->down ? bulk->face.alive : 0;
        server->connections = bulk->down ? bulk->face.connections : 0;
        server_push_down(registry, server_edit(registry, bulk->server), floor, request->floor_time,
                         request->floor_reason);
        server = server_edit(registry, bulk->server);
        server->connections = bulk->connections;
        server->alive = bulk->alive;
        server->floor = floor;
    }
    now->alive += server_alive_now(server);
    whole_change_end(recorder, &whole, bulk->server, change_of(request), PRESENCE_REASON_UPDATED, server->bulk_time);
    if (request->mode != BULK_TAKE_IN && request->mode != BULK_COMPLETE)
        departures_add(recorder, bulk->server, 0, true);
    return PRESENCE_OK;
}

/* --------------------------------------------------------------------------------------------------------- sweep -- */

static void sweep_dropped(struct presence_recorder *recorder, uint32_t number)
{
    struct registry *registry = recorder->registry;
    struct roots *now = &registry->now;
    struct row row = *row_get(now, number);
    uint32_t agent = row.agent;
    struct evidence evidence = evidence_now(now, agent);
    bool controller = row.stamp & ROW_CONTROLLER;
    if (recorder->left.most && evidence.status == PRESENCE_UNKNOWN && !controller) {
        struct span model = model_name(model_get(now, agent_get(now, agent)->model)),
                    name = agent_name(agent_get(now, agent));
        const struct left_agent *left = left_find(recorder, model, name);
        presence_time last_seen = row.last_seen; /* the latest of those that this list drops */
        if (left && left->since == evidence.since && left->last_seen > last_seen)
            last_seen = left->last_seen;
        left_add(recorder, model, name, evidence.since, last_seen, evidence.reason);
    }
    bool only = agent_get(now, agent)->first == number && row_next(now, number, row.stamp) == NONE;
    registry_remove_row(registry, number);
    if (!only)
        evidence_record(registry, agent, evidence);
}

static uint64_t revision_of_marked(uint64_t stamp, const struct server *server)
{
    bool missing = row_mark(stamp) == MARK_FRESH_MISSING, inherited = row_is_inherited(stamp, server);
    if (!missing)
        return inherited ? server->base - 1 : server->bulk_revision;
    return inherited && server->floor >= server->base ? server->base - 1 : server->floor;
}

static void sweep_marked(struct presence_recorder *recorder, const struct server *server, uint32_t number)
{
    struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    struct row row = *row_get(now, number);
    struct evidence evidence = evidence_now(now, row.agent);
    uint64_t revision = revision_of_marked(row.stamp, server);
    /* A list that was no news took no revision of its own. */
    uint64_t restated = row_revision(row.stamp) == revision && !row_is_fresh(row.stamp) ? row.stamp & ROW_RESTATED : 0;
    if (row_is_fresh(row.stamp))
        registry_unstage(registry, number);
    struct row *edit = row_edit(registry, number);
    edit->stamp = revision << ROW_STAMP_SHIFT | restated | (row.stamp & (ROW_CONTROLLER | ROW_LASTING));
    edit->last_seen = row_last_seen(row.last_seen, row.stamp, server);
    if (recorder->left.count && !(row.stamp & ROW_CONTROLLER))
        left_remove(recorder, model_name(model_get(now, agent_get(now, row.agent)->model)),
                    agent_name(agent_get(now, row.agent)));
    evidence_record(registry, row.agent, evidence);
}

static void unstage_row(struct registry *registry, uint32_t number)
{
    uint64_t stamp = row_stamp(&registry->now, number);
    if (row_is_fresh(stamp))
        registry_remove_row(registry, number);
    else if (row_mark(stamp) != MARK_NONE)
        row_edit(registry, number)->stamp = stamp & ~((uint64_t)ROW_MARK_MASK << ROW_MARK_SHIFT);
}

static int sweep_unit(struct bulk *bulk, uint32_t unit)
{
    struct registry *registry = bulk->registry;
    for (uint32_t slot = 0; slot < (uint32_t)1 << ROW_UNIT_BITS; slot++) {
        int code = arena_reserve(&registry->arena);
        if (code)
            return code;
        uint32_t row = unit << ROW_UNIT_BITS | slot;
        if (!shelf_in_use(&registry->now.rows, row))
            continue;
        const struct server *server = server_get(&registry->now, bulk->server);
        if (server->bulk == BULK_STAGING)
            unstage_row(registry, row);
        else if (row_mark(row_stamp(&registry->now, row)) == MARK_DROPPED)
            sweep_dropped(bulk->recorder, row);
        else if (row_mark(row_stamp(&registry->now, row)) != MARK_NONE)
            sweep_marked(bulk->recorder, server, row);
        if (!shelf_used(&registry->now.rows, unit))
            break; /* that was its last row */
    }
    return PRESENCE_OK;
}

static void end_sweep(struct bulk *bulk)
{
    struct registry *registry = bulk->registry;
    struct server *server = server_edit(registry, bulk->server);
    registry->now.bulks--;
    registry->now.sweeps -= server->bulk == BULK_COMMITTED;
    registry->now.drops -= server->drops;
    server->bulk = BULK_NONE;
    server->drops = false;
    server_settle(registry, bulk->server, server);
    if (server->alive == server->connections)
        server_forget_downs(registry, server);
    recorder_drop_idle_server(bulk->recorder, bulk->server);
}

/* Ends what was staged or committed. OK; DISABLED: nothing is left to do; NO_MEMORY or LIMIT: stopped half-way. */
static int sweep(struct bulk *bulk, bool may_give_way)
{
    int code = recorder_begin(bulk->recorder);
    if (code)
        return code;
    uint32_t next = walk_start(bulk), unit;
    for (size_t steps = 1; (unit = walk_unit(bulk, &next)) != NONE; steps++) {
        code = sweep_unit(bulk, unit);
        if (code)
            return code;
        registry_drain(bulk->registry, BULK_STEP);
        if (may_give_way && steps % SWEEP_PAGES == 0 && bulk_give_way(bulk))
            return PRESENCE_E_DISABLED;
    }
    code = recorder_begin(bulk->recorder);
    if (code)
        return code;
    end_sweep(bulk);
    return PRESENCE_OK;
}

void bulk_finish(struct bulk *bulk)
{
    int code = sweep(bulk, true);
    if (code == PRESENCE_E_NO_MEMORY) /* once more: what failed may have been passing */
        sweep(bulk, true);
}

void bulk_stop(struct bulk *bulk)
{
    struct bulk **link = &bulk->recorder->running;
    while (*link != bulk)
        link = &(*link)->next;
    *link = bulk->next;
    pthread_cond_broadcast(&bulk->recorder->settled);
}

/* A state of which another piece may come, or not: what is staged of it goes, and its writer finds it lost. */
static void take_over(struct bulk *idle)
{
    struct bulk bulk = {.recorder = idle->recorder, .registry = idle->registry, .server = idle->server};
    atomic_fetch_add_explicit(&bulk.registry->holders, 1, memory_order_relaxed);
    struct bulk **link = &bulk.recorder->running;
    while (*link != idle)
        link = &(*link)->next;
    bulk.next = idle->next;
    *link = &bulk;
    idle->idle = false;
    idle->lost = true;
    bulk_finish(&bulk);
    bulk_stop(&bulk);
    registry_release(bulk.registry);
}

static struct bulk *find_running(const struct presence_recorder *recorder, uint32_t number)
{
    struct bulk *running = recorder->running;
    while (running && (running->registry != recorder->registry || running->server != number))
        running = running->next;
    return running;
}

bool bulk_is_running(const struct presence_recorder *recorder, uint32_t number)
{
    return find_running(recorder, number) != NULL;
}

void bulk_wait(struct presence_recorder *recorder, uint32_t number)
{
    struct registry *registry = recorder->registry;
    struct bulk *running = find_running(recorder, number);
    if (running && running->idle) {
        take_over(running);
        return;
    }
    if (running) {
        lock_wait(&recorder->lock, &recorder->settled);
        return;
    }
    struct bulk bulk = {.recorder = recorder, .registry = registry, .server = number};
    sweep(&bulk, false);
    pthread_cond_broadcast(&recorder->settled);
}

/* ----------------------------------------------------------------------------------------------------------- run -- */

/* Whether the claim lets this request in; the server is known and idle. */
static int check_claim(const struct bulk_request *request, const struct server *server)
{
    bool claimed = server->flags & SERVER_CLAIMED, local = server->flags & SERVER_LOCAL;
    int compared = presence_claim_compare(&request->claim, &server->claim);
    switch (request->mode) {
    case BULK_STATE:
        if (!claimed)
            return PRESENCE_OK;
        if (compared < 0 || (compared == 0 && (local || request->number < server->number)))
            return PRESENCE_E_STALE;
        return PRESENCE_OK;
    case BULK_DIFFERENCE:
        return difference_check(request, server);
    case BULK_COMPLETE:
        if (request->number) /* applied for a remote claim */
            return !claimed || compared > 0                ? PRESENCE_E_GAP
                   : compared < 0 || local                 ? PRESENCE_E_STALE
                   : request->number == server->number + 1 ? PRESENCE_OK
                                                           : PRESENCE_E_GAP;
        return PRESENCE_OK;
    default:
        return PRESENCE_OK;
    }
}

static enum stating stating_of(const struct bulk_request *request)
{
    bool remote = request->mode == BULK_STATE || request->mode == BULK_DIFFERENCE || request->mode == BULK_FORGET ||
                  request->mode == BULK_TAKE_IN || (request->mode == BULK_COMPLETE && request->number);
    return remote ? STATE_REMOTELY : STATE_LOCALLY;
}

int bulk_begin(struct bulk *bulk, bool *nothing, presence_error *error)
{
    struct presence_recorder *recorder = bulk->recorder;
    const struct bulk_request *request = bulk->request;
    *nothing = false;
    struct server_name name = recorder_server_name(recorder, request->server);
    int code = recorder_begin_server(recorder, name, stating_of(request), &bulk->server, NULL);
    if (code)
        return recorder_error_code(error, code);
    struct registry *registry = recorder->registry;
    if (bulk->server == NONE && (request->mode == BULK_FORGET || request->mode == BULK_COMPLETE))
        return recorder_error_code(error, PRESENCE_E_NOT_FOUND);
    if (bulk->server == NONE && request->mode == BULK_DIFFERENCE)
        return recorder_error_code(error, PRESENCE_E_GAP);
    if (bulk->server != NONE) {
        code = check_claim(request, server_get(&registry->now, bulk->server));
        *nothing = request->mode == BULK_FORGET && server_get(&registry->now, bulk->server)->flags & SERVER_FORGOTTEN;
        if (code || *nothing)
            return recorder_error_code(error, code);
    }
    if (bulk->in_pieces && bulk->server != NONE && server_get(&registry->now, bulk->server)->physical)
        return recorder_error(error, PRESENCE_E_INVALID, "a state comes in pieces only where nothing is recorded");
    if (request->mode == BULK_UNSTATED &&
        (bulk->server == NONE || server_get(&registry->now, bulk->server)->alive == 0 ||
         server_get(&registry->now, bulk->server)->floor >= request->since)) {
        *nothing = true; /* what was not stated since is missing already */
        return PRESENCE_OK;
    }
    if (registry->now.revision >= ROW_REVISION_MOST)
        return recorder_error_code(error, PRESENCE_E_LIMIT);
    if (request->mode == BULK_MERGE_SINCE) {
        code = departures_since(recorder, bulk->server, request->since, &bulk->departed, nothing);
        if (code || *nothing)
            return recorder_error_code(error, code);
    }
    code = recorder_add_server(recorder, name, &bulk->server);
    if (code)
        return recorder_error_code(error, code);
    struct server *server = server_edit(registry, bulk->server);
    server->bulk = BULK_STAGING;
    server_settle(registry, bulk->server, server);
    registry->now.bulks++;
    bulk->registry = registry;
    bulk->next = recorder->running;
    recorder->running = bulk;
    bulk->face = *server;
    if (request->mode == BULK_STATE || request->mode == BULK_TAKE_IN) {
        bulk->face.claim = request->claim;
        bulk->face.flags |= SERVER_CLAIMED;
    }
    atomic_fetch_add_explicit(&registry->holders, 1, memory_order_relaxed);
    return PRESENCE_OK;
}

static int run_locked(struct bulk *bulk, presence_error *error)
{
    bool nothing;
    int code = bulk_begin(bulk, &nothing, error);
    if (code || nothing)
        return code;
    assert(bulk->registry);
    if (bulk->request->mode == BULK_UNSTATED) {
        code = stage_unstated(bulk);
        code = code ? code : commit_unstated(bulk);
    } else {
        bool difference = bulk->request->mode == BULK_DIFFERENCE;
        code = difference ? difference_stage(bulk) : bulk_stage_list(bulk);
        code = code || difference ? code : stage_rest(bulk);
        code = code ? code : bulk_commit(bulk);
    }
    bool ours = bulk->recorder->registry == bulk->registry; /* else it was disabled meanwhile */
    if (ours && bulk->request->mode == BULK_UNSTATED && recorder_begin(bulk->recorder) == PRESENCE_OK)
        end_sweep(bulk); /* no row is marked */
    else if (ours)
        bulk_finish(bulk);
    bulk_stop(bulk);
    return recorder_error_code(error, code);
}

int bulk_run(struct presence_recorder *recorder, const struct bulk_request *original, presence_error *error)
{
    if (!recorder_enabled(recorder))
        return recorder_error_code(error, PRESENCE_E_DISABLED);
    struct bulk_request request = *original;
    int code = recorder_check_name("server", request.server.bytes, &request.server, error);
    if (code)
        return code;
    if (!request.values && request.count)
        return recorder_error(error, PRESENCE_E_INVALID, "values is NULL, but its count is %zu", request.count);
    if (request.mode == BULK_MERGE_SINCE && request.since > presence_recorder_revision(recorder))
        return recorder_error(error, PRESENCE_E_INVALID, "revision %llu is of the future",
                              (unsigned long long)request.since);
    struct bulk bulk = {.recorder = recorder, .request = &request, .server = NONE};
    code = prepare(&bulk, error);
    if (code == PRESENCE_OK) {
        recorder_lock(recorder);
        code = run_locked(&bulk, error);
        recorder_unlock(recorder);
        if (bulk.registry)
            registry_release(bulk.registry);
    }
    memory_give(&recorder->memory, bulk.items, request.count * sizeof *bulk.items);
    id_set_free(&recorder->memory, bulk.departed);
    return code;
}
