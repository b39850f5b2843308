/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change.c - what one change does, everywhere at once: registry, counts, digests, evidence, memories, history.
 *
 * Called under the mutex with memory reserved; nothing fails after its first step (larger user data is allocated before
 * it). Order in each: note the agent's evidence, take the row out of the counts, change it, put it back into the
 * counts, raise revision and number, settle the evidence, write the history. O(1), plus the connections of the agent.
 */
#include "recorder.h"

#include <assert.h>

static uint64_t stamp_of(uint64_t revision, enum row_flags flags)
{
    assert(revision <= ROW_REVISION_MOST);
    return revision << ROW_STAMP_SHIFT | (uint64_t)flags;
}

/* Raises the server's number and the revision by one. */
static inline __attribute__((always_inline)) void advance(struct presence_recorder *recorder,
                                                          const struct statement *statement)
{
    struct registry *registry = recorder->registry;
    struct server *server = server_edit(registry, statement->server);
    registry->now.revision++;
    server->number = statement->number ? statement->number : server->number + 1;
    if (server->number - server->mark_number[1] >= 256) {
        server->mark_number[0] = server->mark_number[1];
        server->mark_revision[0] = server->mark_revision[1];
        server->mark_number[1] = server->number;
        server->mark_revision[1] = registry->now.revision;
    }
}

/* ------------------------------------------------------------------------------------------------------ history -- */

static struct history_record *write_history(struct presence_recorder *recorder, int kind, enum history_change change,
                                            presence_reason reason, presence_time when, uint32_t server,
                                            const presence_value *value)
{
    const struct server *record = server_get(&recorder->registry->now, server);
    struct history_record fresh = {
        .stated_here = change != HISTORY_UNNUMBERED && server_is_stated_here(record),
        .kind = (uint8_t)kind,
        .change = (uint8_t)change,
        .reason = (uint8_t)reason,
        .status = (uint8_t)value->status,
        .controller = value->controller_agent,
        .revision = recorder->registry->now.revision,
        .number = record->number,
        .claim = record->claim,
        .time = when,
        .last_seen = value->last_seen,
        .id = value->connection_id,
    };
    return history_append(&recorder->history, &fresh, value);
}

static void finish_history(struct presence_recorder *recorder, struct history_record *record, presence_status before,
                           presence_status after)
{
    record->before = (uint8_t)before;
    record->after = (uint8_t)after;
    if (recorder->watches)
        watches_notify(recorder, record);
    if (recorder->statement_readers_waiting && record->stated_here)
        statements_notify(recorder, record);
}

/* ------------------------------------------------------------------------------------------------------- remove -- */

static void remember_left(struct presence_recorder *recorder, uint32_t agent, presence_time when,
                          presence_time last_seen, presence_reason reason)
{
    const struct roots *now = &recorder->registry->now;
    struct span model = model_name(model_get(now, agent_get(now, agent)->model));
    left_add(recorder, model, agent_name(agent_get(now, agent)), when, last_seen, reason);
}

/* Removes a row with all that follows for its agent; the revision is raised already. An agent that is left with nothing
 * goes to the table of those that left. part: OLD_HOLDER if another agent takes the connection over. */
static void remove_row(struct presence_recorder *recorder, const struct statement *statement, uint32_t row,
                       enum history_part part)
{
    struct registry *registry = recorder->registry;
    struct roots *now = &registry->now;
    bool history = recorder->history.ring != NULL, left = recorder->left.most > 0;
    if (!(row_stamp(now, row) & ROW_EXTRA) && !history && !left) { /* the agent's only one, and nobody asks for more */
        registry_remove_row(registry, row);
        return;
    }
    uint32_t agent = row_get(now, row)->agent;
    uint32_t first = agent_get(now, agent)->first;
    bool only = first == row && row_next(now, row, row_stamp(now, row)) == NONE;
    struct evidence before = {0};
    presence_evidence seen = {0};
    if (!only || history || left)
        before = evidence_now(now, agent);
    if (left)
        evidence_fill(now, agent, &seen);
    presence_reason reason = statement->reason ? statement->reason : PRESENCE_REASON_LEFT;
    struct history_record *record = NULL;
    presence_value value;
    if (history || left)
        registry_value(now, row, &value);
    if (history) {
        enum history_change said =
            part == HISTORY_ALONE ? (enum history_change)PRESENCE_CHANGE_DISCONNECT : HISTORY_UNNUMBERED;
        record = write_history(recorder, PRESENCE_EVENT_DISCONNECTED, said, reason, statement->when, statement->server,
                               &value);
        record->part = (uint8_t)part;
    }
    if (left && before.status != PRESENCE_UNKNOWN && only)
        remember_left(recorder, agent, statement->when, seen.last_seen, reason);
    registry_remove_row(registry, row);
    presence_status after = PRESENCE_UNKNOWN;
    if (!only) {
        after = evidence_changed(registry, agent, before, false, reason, statement->when);
        if (left && after == PRESENCE_UNKNOWN && before.status != PRESENCE_UNKNOWN)
            remember_left(recorder, agent, statement->when, seen.last_seen, reason);
    }
    if (record)
        finish_history(recorder, record, before.status, after);
}

SINGLE_CALL void change_disconnect(struct presence_recorder *recorder, const struct statement *statement, uint32_t row)
{
    struct registry *registry = recorder->registry;
    uint64_t id = row_get(&registry->now, row)->id;
    registry_count(registry, row, -1);
    advance(recorder, statement);
    departures_add(recorder, statement->server, id, false);
    remove_row(recorder, statement, row, HISTORY_ALONE); /* last: what it touches comes late */
    if (!recorder->departures.room)
        recorder_drop_idle_server(recorder, statement->server);
}

/* ------------------------------------------------------------------------------------------------------ connect -- */

static enum row_flags flags_of(const struct facts *facts)
{
    return facts->controller ? ROW_CONTROLLER : (enum row_flags)0;
}

static void write_connect(struct presence_recorder *recorder, const struct statement *statement, uint32_t row, int kind,
                          enum history_part part, presence_reason reason, presence_status before, presence_status after)
{
    if (!recorder->history.ring)
        return;
    presence_value value;
    registry_value(&recorder->registry->now, row, &value);
    struct history_record *record = write_history(recorder, kind, (enum history_change)PRESENCE_CHANGE_CONNECT, reason,
                                                  statement->when, statement->server, &value);
    record->part = (uint8_t)part;
    finish_history(recorder, record, before, after);
}

/* Gives a row that was taken to an agent that is there already or was just added. */
static void fill_row(struct presence_recorder *recorder, const struct statement *statement, const struct facts *facts,
                     uint32_t row, uint32_t agent, struct text *data, bool new_agent, enum history_part part)
{
    struct registry *registry = recorder->registry;
    struct evidence before = {0};
    if (!new_agent)
        before = evidence_now(&registry->now, agent);
    registry_fill_row(registry, row, agent, data, stamp_of(registry->now.revision, flags_of(facts)), statement->when);
    registry_count(registry, row, 1);
    presence_reason reason = statement->reason                   ? statement->reason
                             : before.status == PRESENCE_MISSING ? PRESENCE_REASON_RECONNECTED
                                                                 : PRESENCE_REASON_CONNECTED;
    presence_status after;
    if (new_agent && !(server_get(&registry->now, statement->server)->flags & SERVER_LAPSED)) {
        after = facts->controller ? PRESENCE_UNKNOWN : PRESENCE_ALIVE;
        if (!facts->controller)
            evidence_record_first(registry, agent, (struct evidence){after, reason, statement->when});
    } else {
        after = evidence_changed(registry, agent, before, true, reason, statement->when);
    }
    if (recorder->left.count && !facts->controller)
        left_remove(recorder, facts->model, facts->agent);
    int kind = part == HISTORY_ALONE ? PRESENCE_EVENT_CONNECTED : PRESENCE_EVENT_UPDATED;
    write_connect(recorder, statement, row, kind, part, reason, before.status, after);
}

/* The row comes first, but for one that another agent's has to leave: it needs nothing of the model, which is still on
 * its way. */
static int connect_new(struct presence_recorder *recorder, const struct statement *statement, const struct facts *facts,
                       struct text *data, uint32_t replaced, uint32_t *row)
{
    struct registry *registry = recorder->registry;
    *row = replaced == NONE ? registry_take_row(registry, statement->server, facts->id) : NONE;
    uint32_t agent;
    bool new_agent;
    int code = replaced == NONE && *row == NONE ? PRESENCE_E_LIMIT
                                                : registry_find_or_add_agent(registry, facts, &agent, &new_agent);
    if (code) {
        if (*row != NONE)
            registry_untake_row(registry, statement->server, *row);
        registry_drop_text(registry, data);
        return code;
    }
    if (replaced != NONE)
        registry_count(registry, replaced, -1);
    advance(recorder, statement);
    if (replaced != NONE) {
        remove_row(recorder, statement, replaced, HISTORY_OLD_HOLDER);
        *row = registry_take_row(registry, statement->server, facts->id);
        assert(*row != NONE);
    }
    fill_row(recorder, statement, facts, *row, agent, data, new_agent,
             replaced == NONE ? HISTORY_ALONE : HISTORY_NEW_HOLDER);
    return PRESENCE_OK;
}

static bool names_same_agent(const struct roots *now, uint32_t row, const struct facts *facts)
{
    return registry_names_agent(now, row_get(now, row)->agent, facts);
}

/* The same agent says something else, or comes back. */
static void restate(struct presence_recorder *recorder, const struct statement *statement, const struct facts *facts,
                    uint32_t row, struct text *data, bool new_data)
{
    struct registry *registry = recorder->registry;
    struct roots *now = &registry->now;
    uint32_t agent = row_get(now, row)->agent;
    presence_status row_before = row_status(row_stamp(now, row), server_get(now, statement->server));
    bool same = !new_data && !(row_stamp(now, row) & ROW_CONTROLLER) == !facts->controller;
    presence_time last_seen = row_get(now, row)->last_seen; /* as it was before it became a controller agent's */
    struct evidence before = evidence_now(now, agent);
    registry_count(registry, row, -1);
    advance(recorder, statement);
    row_edit(registry, row)->stamp = stamp_of(now->revision, flags_of(facts)) | (row_stamp(now, row) & ROW_LASTING);
    row_edit(registry, row)->last_seen = statement->when;
    if (new_data)
        registry_set_data(registry, row, data);
    registry_count(registry, row, 1);
    presence_reason reason = statement->reason                   ? statement->reason
                             : before.status == PRESENCE_UNKNOWN ? PRESENCE_REASON_CONNECTED
                                                                 : PRESENCE_REASON_RECONNECTED;
    if (facts->controller)
        reason = PRESENCE_REASON_LEFT; /* what changes the agent's status is that it lost this connection */
    presence_status after = evidence_changed(registry, agent, before, true, reason, statement->when);
    presence_status row_after = row_status(row_stamp(now, row), server_get(now, statement->server));
    bool came_back = row_before == PRESENCE_MISSING && row_after == PRESENCE_ALIVE;
    int kind = came_back && same ? PRESENCE_EVENT_RECONNECTED : PRESENCE_EVENT_UPDATED;
    if (after == before.status) /* else the event tells why the agent's status changed */
        reason = came_back ? PRESENCE_REASON_RECONNECTED : PRESENCE_REASON_UPDATED;
    if (recorder->left.most && after == PRESENCE_UNKNOWN && before.status != PRESENCE_UNKNOWN)
        left_add(recorder, facts->model, facts->agent, statement->when, last_seen, reason);
    else if (recorder->left.count && after != PRESENCE_UNKNOWN)
        left_remove(recorder, facts->model, facts->agent);
    write_connect(recorder, statement, row, kind, HISTORY_ALONE, reason, before.status, after);
}

SINGLE_CALL int change_connect(struct presence_recorder *recorder, const struct statement *statement,
                               const struct facts *facts, uint32_t *row, bool *is_new)
{
    struct registry *registry = recorder->registry;
    struct roots *now = &registry->now;
    recorder_prefetch_row_place(recorder, statement->server);
    uint32_t known = registry_row(registry, now, statement->server, facts->id);
    *is_new = known == NONE;
    if (known == NONE && registry->limit_connections && now->connections >= registry->limit_connections)
        return PRESENCE_E_LIMIT;
    if (now->revision >= ROW_REVISION_MOST)
        return PRESENCE_E_LIMIT;
    bool same = known != NONE && registry_same_facts(now, known, facts);
    const struct server *server = server_get(now, statement->server);
    if (same && row_stated_status(row_stamp(now, known), server) == PRESENCE_ALIVE &&
        row_revision(row_stamp(now, known)) >= server->base && !statement->number) {
        struct evidence evidence = {0};
        uint32_t agent = row_get(now, known)->agent;
        bool fold = server->restore_revision || server->lapse_revision;
        if (fold)
            evidence = evidence_now(now, agent);
        change_activity(recorder, known, row_get(&recorder->registry->now, known), statement->when);
        uint64_t flags = row_stamp(now, known) & (ROW_CONTROLLER | ROW_LASTING);
        row_edit(registry, known)->stamp = stamp_of(now->revision, ROW_RESTATED) | flags;
        if (fold)
            evidence_record(registry, agent, evidence);
        *row = known;
        return PRESENCE_OK;
    }
    int code = arena_reserve_to_grow(&registry->arena);
    if (code)
        return code;
    bool failed = false;
    bool same_agent = known != NONE && names_same_agent(now, known, facts);
    const struct text *old = known != NONE && row_stamp(now, known) & ROW_EXTRA ? extra_get(now, known)->data : NULL;
    bool same_data =
        same_agent && (old ? text_equals(old, facts->data.bytes, facts->data.length) : facts->data.length == 0);
    struct text *data = same_data ? NULL : registry_new_data(registry, facts->data, &failed);
    if (failed)
        return arena_no_memory_code(&registry->arena, facts->data.length);
    if (!same_agent)
        return connect_new(recorder, statement, facts, data, known, row);
    restate(recorder, statement, facts, known, data, !same_data);
    *row = known;
    return PRESENCE_OK;
}

void change_tell_activity(struct presence_recorder *recorder, uint32_t row, presence_time when)
{
    struct registry *registry = recorder->registry;
    presence_value value;
    registry_value(&registry->now, row, &value);
    uint32_t agent = row_get(&registry->now, row)->agent;
    presence_status best = evidence_best(&registry->now, agent);
    struct history_record *record = write_history(recorder, PRESENCE_EVENT_ACTIVITY, HISTORY_UNNUMBERED,
                                                  PRESENCE_REASON_NONE, when, row_server(&registry->now, row), &value);
    finish_history(recorder, record, best, best);
}

/* ------------------------------------------------------------------------------------------- whole servers -- */

int whole_change_take_view(struct presence_recorder *recorder, struct whole_change *whole)
{
    struct registry *registry = recorder->registry;
    presence_time now = recorder_now(recorder);
    whole->before = registry_snapshot(registry, now);
    if (!whole->before)
        return PRESENCE_E_NO_MEMORY;
    if (!registry->spare)
        registry->spare = memory_take(&registry->memory, sizeof *registry->spare);
    if (!registry->spare) {
        whole_change_cancel(recorder, whole);
        return PRESENCE_E_NO_MEMORY;
    }
    registry->versions.written = true;
    return PRESENCE_OK;
}

void whole_change_cancel(struct presence_recorder *recorder, struct whole_change *whole)
{
    (void)recorder;
    snapshot_release(whole->before);
    *whole = (struct whole_change){0};
}

void whole_change_tell(struct presence_recorder *recorder, struct whole_change *whole, uint32_t server,
                       enum history_change change, presence_reason reason, presence_time when)
{
    struct registry *registry = recorder->registry;
    whole->after = registry_snapshot(registry, when); /* from the spare: cannot fail */
    assert(whole->after);
    const struct server *record = server_get(&registry->now, server);
    struct history_record fresh = {
        .stated_here = change != HISTORY_UNNUMBERED && server_is_stated_here(record),
        .kind = HISTORY_BULK,
        .change = (uint8_t)change,
        .reason = (uint8_t)reason,
        .revision = registry->now.revision,
        .number = record->number,
        .claim = record->claim,
        .time = when,
        .view_before = whole->before,
        .view_after = whole->after,
    };
    presence_value value = {.server = record->name->bytes};
    finish_history(recorder, history_append(&recorder->history, &fresh, &value), PRESENCE_UNKNOWN, PRESENCE_UNKNOWN);
    *whole = (struct whole_change){0};
}

SINGLE_CALL int change_server_down(struct presence_recorder *recorder, const struct statement *statement,
                                   size_t *became_missing)
{
    struct registry *registry = recorder->registry;
    struct roots *now = &registry->now;
    const struct server *record = server_get(now, statement->server);
    size_t were_alive = server_alive_now(record);
    if (record->alive == 0 && !statement->number)
        return PRESENCE_OK;
    struct whole_change whole;
    int code = whole_change_begin(recorder, &whole);
    if (code)
        return code;
    uint64_t floor = now->revision;
    advance(recorder, statement);
    registry_note_event(registry);
    struct server *server = server_edit(registry, statement->server);
    if (server->alive > 0)
        server_push_down(registry, server, floor, statement->when, statement->reason);
    if (!(server->flags & SERVER_LAPSED))
        now->alive -= server->alive;
    server->alive = 0;
    server->stated_alive = 0;
    server->digest.alive = 0;
    server->floor = floor;
    server->floor_number = server->number;
    whole_change_end(recorder, &whole, statement->server, (enum history_change)PRESENCE_CHANGE_DOWN, statement->reason,
                     statement->when);
    *became_missing = were_alive;
    return PRESENCE_OK;
}

int change_lapse(struct presence_recorder *recorder, uint32_t number, bool lapse)
{
    struct registry *registry = recorder->registry;
    struct roots *now = &registry->now;
    if (!(server_get(now, number)->flags & SERVER_LAPSED) == !lapse)
        return PRESENCE_OK;
    struct whole_change whole;
    int code = whole_change_begin(recorder, &whole);
    if (code)
        return code;
    presence_time when = recorder_now(recorder);
    struct server *server = server_edit(registry, number);
    now->revision++;
    registry_note_event(registry);
    if (lapse) {
        server->flags |= SERVER_LAPSED;
        server->lapse_revision = now->revision;
        server->lapse_time = when;
        now->alive -= server->alive;
    } else {
        server->flags &= (uint8_t)~SERVER_LAPSED;
        server->restore_revision = now->revision;
        server->restore_time = when;
        now->alive += server->alive;
    }
    whole_change_end(recorder, &whole, number, HISTORY_UNNUMBERED,
                     lapse ? PRESENCE_REASON_LAPSED : PRESENCE_REASON_RESTORED, when);
    return PRESENCE_OK;
}
