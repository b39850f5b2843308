/* SPDX-License-Identifier: Apache-2.0 */
/*
 * difference.c - what became of a server since a revision, told and applied; <presence/replica.h> is the manual.
 *
 * No older view is kept for it: each row carries the revision of its last statement, and departures are remembered, so
 * the present view tells what is new, and the memory what is gone. What was stated twice is told once.
 *
 * Applied, it is a list (bulk.c) that says nothing of what it does not name: that stays as it is, and is not looked at
 * until the sweep. Counts and digest are taken from the present ones by what changes, and are compared with the
 * origin's before anything shows. So whatever is told, or was held here: what is shown is what the origin held.
 *
 * Any thread. Cost: telling is O(departures since, rows of the server) with next to nothing for a row that is not told;
 * applying is O(values + gone) and a sweep over the rows of the server, in steps.
 */
#include "bulk.h"

#include <assert.h>

/* ------------------------------------------------------------------------------------------------------- telling -- */

/* Whether its rows are all there is to it: none is of an older claim. */
static bool is_whole(const struct server *server)
{
    uint8_t flags = server->flags;
    return flags & SERVER_CLAIMED && flags & SERVER_COMPLETE && !(flags & SERVER_FORGOTTEN) &&
           server->connections == server->stated;
}

/* Whether since then a part of the server went down, which no number tells. */
static bool went_down_in_part(const struct server *server, uint64_t revision)
{
    size_t count = server_downs(server);
    for (size_t i = 0; i < count; i++) {
        const struct down *down = server_down_at(server, i);
        if (down->revision > revision && down->floor + 1 < down->revision)
            return true;
    }
    return false;
}

int presence_replica_difference(presence_recorder *recorder, const char *server, uint64_t revision,
                                presence_server_description *description, uint64_t *gone, size_t most,
                                size_t *gone_count, presence_connections **view)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!description || (!gone && most) || !gone_count || !view)
        return PRESENCE_E_INVALID;
    uint32_t number;
    int code = replica_lock_server(recorder, server, &number);
    if (code)
        return code;
    struct registry *registry = recorder->registry;
    const struct server *record = server_get(&registry->now, number);
    if (revision > registry->now.revision)
        code = PRESENCE_E_INVALID;
    else if (!is_whole(record) || revision < record->numbered_since || went_down_in_part(record, revision))
        code = PRESENCE_E_LAGGED;
    code = code ? code : departures_list(recorder, number, revision, gone, most, gone_count);
    struct snapshot *snapshot = code ? NULL : registry_snapshot(registry, recorder_now(recorder));
    if (snapshot)
        replica_fill_description(record, description);
    recorder_unlock(recorder);
    if (code)
        return code;
    *view = snapshot ? connections_new(&recorder->memory, snapshot) : NULL;
    if (*view)
        connections_limit_to_newer(*view, number, revision);
    else
        snapshot_release(snapshot);
    return *view ? PRESENCE_OK : PRESENCE_E_NO_MEMORY;
}

/* ------------------------------------------------------------------------------------------------------ applying -- */

int presence_replica_apply_difference(presence_recorder *recorder, const char *server, uint64_t since,
                                      const presence_server_description *state, const presence_value *values,
                                      size_t count, const uint64_t *gone, size_t gone_count, presence_error *error)
{
    if (!state || (!gone && gone_count))
        return recorder_error(error, PRESENCE_E_INVALID, "%s is NULL", state ? "gone" : "state");
    if (since > state->number)
        return recorder_error(error, PRESENCE_E_INVALID, "a difference from number %llu leads to %llu",
                              (unsigned long long)since, (unsigned long long)state->number);
    struct bulk_request request;
    int code = replica_state_request(recorder, server, &state->claim, state->number, state->floor, state->floor_reason,
                                     state->floor_time, &request, error);
    if (code)
        return code;
    request.mode = BULK_DIFFERENCE;
    request.since = since;
    request.values = values;
    request.count = count;
    request.gone = gone;
    request.gone_count = gone_count;
    request.connections = state->connections;
    request.digest = state->digest;
    return bulk_run(recorder, &request, error);
}

int difference_check(const struct bulk_request *request, const struct server *server)
{
    int compared = server->flags & SERVER_CLAIMED ? presence_claim_compare(&request->claim, &server->claim) : 1;
    if (compared > 0)
        return PRESENCE_E_GAP;
    if (compared < 0 || server->flags & SERVER_LOCAL || request->number < server->number)
        return PRESENCE_E_STALE;
    bool follows = server->number >= request->since && server->connections == server->stated;
    bool same_floor = request->floor_number > server->number || request->floor_number == server->floor_number;
    return follows && same_floor && !(server->flags & SERVER_FORGOTTEN) ? PRESENCE_OK : PRESENCE_E_GAP;
}

/* What the row counts for, as long as the difference says nothing of it. */
static bool counts_as_alive(const struct bulk *bulk, uint32_t row)
{
    return !bulk->down && row_revision(row_stamp(&bulk->registry->now, row)) > bulk->face.floor;
}

static void count(struct bulk *bulk, uint32_t row, bool all, bool alive, uint64_t by)
{
    uint64_t digest = registry_row_digest(&bulk->registry->now, &bulk->face, row);
    bulk->connections += all ? by : 0;
    bulk->digest.all += all ? digest * by : 0;
    bulk->alive += alive ? by : 0;
    bulk->digest.alive += alive ? digest * by : 0;
}

static void drop(struct bulk *bulk, uint32_t row)
{
    count(bulk, row, true, counts_as_alive(bulk, row), (uint64_t)-1);
    bulk_mark(bulk, row, MARK_DROPPED);
    bulk->drops = true;
}

/* It is gone by what was told, and came back since. */
static void take_back(struct bulk *bulk, uint32_t row)
{
    if (row_mark(row_stamp(&bulk->registry->now, row)) != MARK_DROPPED)
        return;
    row_edit(bulk->registry, row)->stamp &= ~((uint64_t)ROW_MARK_MASK << ROW_MARK_SHIFT);
    count(bulk, row, true, counts_as_alive(bulk, row), 1);
}

static int stage_value(struct bulk *bulk, size_t i)
{
    struct registry *registry = bulk->registry;
    int code = arena_reserve(&registry->arena);
    if (code)
        return code;
    const presence_value *value = &bulk->request->values[i];
    struct facts facts = bulk_item_facts(bulk, i);
    bool alive = value->status == PRESENCE_ALIVE;
    uint32_t known = registry_row(registry, &registry->now, bulk->server, facts.id);
    if (known != NONE)
        take_back(bulk, known);
    if (known != NONE && registry_same_facts(&registry->now, known, &facts)) {
        bool was_alive = counts_as_alive(bulk, known),
             same_time = row_get(&registry->now, known)->last_seen == value->last_seen;
        if (!alive && !was_alive && (same_time || !bulk->down))
            return PRESENCE_OK;
        if (alive && same_time) {
            count(bulk, known, false, !was_alive, 1);
            bulk_mark(bulk, known, MARK_KEPT_QUIET);
            return PRESENCE_OK;
        }
    }
    if (!alive && !bulk->down)
        return PRESENCE_E_GAP; /* what went down before is missing here, or never came */
    if (known != NONE)
        drop(bulk, known);
    return bulk_stage_fresh(bulk, &facts, alive ? MARK_FRESH_QUIET : MARK_FRESH_MISSING, value->last_seen, false);
}

static int stage_values(struct bulk *bulk)
{
    size_t count = bulk->request->count;
    for (size_t at = 0; at < count; at++) {
        if (at % BULK_STEP == 0 && at > 0) {
            registry_drain(bulk->registry, BULK_STEP);
            if (bulk_give_way(bulk))
                return PRESENCE_E_DISABLED;
        }
        if (at % WAVE == 0)
            bulk_prefetch_values(bulk, at, count);
        int code = stage_value(bulk, at);
        if (code)
            return code;
    }
    return PRESENCE_OK;
}

static void prefetch_gone(const struct bulk *bulk, size_t from)
{
    const struct bulk_request *request = bulk->request;
    struct ahead ahead[WAVE];
    size_t count = 0;
    uint64_t server = server_get(&bulk->registry->now, bulk->server)->hash;
    for (size_t i = from; i < request->gone_count && i < from + WAVE; i++)
        ahead[count++] = (struct ahead){.coming = AHEAD_DISCONNECT,
                                        .connection = connection_hash(bulk->registry, server, request->gone[i])};
    recorder_prefetch_wave(bulk->recorder, ahead, count);
}

static int stage_gone(struct bulk *bulk)
{
    struct registry *registry = bulk->registry;
    for (size_t at = 0; at < bulk->request->gone_count; at++) {
        if (at % BULK_STEP == 0 && at > 0) {
            registry_drain(registry, BULK_STEP);
            if (bulk_give_way(bulk))
                return PRESENCE_E_DISABLED;
        }
        if (at % WAVE == 0)
            prefetch_gone(bulk, at);
        int code = arena_reserve(&registry->arena);
        if (code)
            return code;
        uint32_t row = registry_row(registry, &registry->now, bulk->server, bulk->request->gone[at]);
        if (row != NONE && row_mark(row_stamp(&registry->now, row)) == MARK_NONE)
            drop(bulk, row);
    }
    return PRESENCE_OK;
}

int difference_stage(struct bulk *bulk)
{
    const struct bulk_request *request = bulk->request;
    assert(bulk->registry);
    bulk->down = request->floor_number > bulk->face.number;
    bulk->connections = bulk->face.connections;
    bulk->digest.all = bulk->face.digest.all;
    bulk->alive = bulk->down ? 0 : bulk->face.alive;
    bulk->digest.alive = bulk->down ? 0 : bulk->face.digest.alive;
    int code = stage_gone(bulk);
    code = code ? code : stage_values(bulk);
    if (code)
        return code;
    bool same = bulk->connections == request->connections && bulk->digest.all == request->digest.all &&
                bulk->digest.alive == request->digest.alive;
    return same ? PRESENCE_OK : PRESENCE_E_GAP;
}
