/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.c - claims, readers of changes, whole states, lapses and tombstones; <presence/replica.h> is the manual.
 * Numbered changes of others are taken by apply.c.
 *
 * Keeps true: a server has one claim at a time, and it only grows; numbers under a claim only grow, one by one or by a
 * whole state; the digest is of exactly the rows stated under the claim (at or above server.base), and lives where
 * the rows' counts live (registry_count), so that it cannot drift from them.
 * Any thread. O(1) under the mutex, but for what goes through bulk.c; changes are read from the history in stretches.
 */
#include "recorder.h"

int presence_claim_compare(const presence_claim *a, const presence_claim *b)
{
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    if (a->turn != b->turn)
        return a->turn < b->turn ? -1 : 1;
    return a->random == b->random ? 0 : a->random < b->random ? -1 : 1;
}

static bool is_zero(const presence_claim *claim)
{
    return !claim->epoch && !claim->turn && !claim->random;
}

int replica_lock_server(struct presence_recorder *recorder, const char *name, uint32_t *server)
{
    struct span span;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (text_check_name(name, &span))
        return PRESENCE_E_INVALID;
    recorder_lock(recorder);
    int code = recorder_begin_server(recorder, recorder_server_name(recorder, span), STATE_REMOTELY, server, NULL);
    if (code == PRESENCE_OK && *server == NONE)
        code = PRESENCE_E_NOT_FOUND;
    if (code)
        recorder_unlock(recorder);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ describe -- */

void replica_fill_description(const struct server *server, presence_server_description *out)
{
    *out = (presence_server_description){
        .claim = server->claim,
        .local = server->flags & SERVER_LOCAL,
        .complete = server->flags & SERVER_COMPLETE,
        .lapsed = server->flags & SERVER_LAPSED,
        .forgotten = server->flags & SERVER_FORGOTTEN,
        .number = server->number,
        .floor = server->floor_number,
        .connections = server->stated,
        .alive = server->stated_alive,
        .inherited = server->connections - server->stated,
        .forgotten_at = server->flags & SERVER_FORGOTTEN ? server->forgotten_at : 0,
    };
    if (server->flags & SERVER_CLAIMED)
        out->digest = server->digest;
    if (server->down.revision && server->alive < server->connections) {
        out->floor_reason = (presence_reason)server->down.reason;
        out->floor_time = server->down.time;
    }
}

int presence_replica_describe(presence_recorder *recorder, const char *server, presence_server_description *description)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!description)
        return PRESENCE_E_INVALID;
    struct span span;
    if (text_check_name(server, &span))
        return PRESENCE_E_INVALID;
    recorder_lock(recorder); /* a list that is being applied is not waited for: until it shows, it is not there */
    const struct roots *now = &recorder->registry->now;
    struct server_name name = recorder_server_name(recorder, span);
    uint32_t number = registry_server(now, name.span, name.hash);
    bool known = number != NONE && server_shows(server_get(now, number));
    if (known)
        replica_fill_description(server_get(now, number), description);
    recorder_unlock(recorder);
    return known ? PRESENCE_OK : PRESENCE_E_NOT_FOUND;
}

int presence_replica_servers(presence_recorder *recorder, char ***names, size_t *count)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!names || !count)
        return PRESENCE_E_INVALID;
    recorder_lock(recorder);
    const struct roots *now = &recorder->registry->now;
    size_t room = now->servers.count + 1, found = 0;
    const char **list = memory_take(&recorder->memory, room * sizeof *list);
    for (uint32_t number = 0; list && number < shelf_end(&now->servers); number++)
        if (shelf_in_use(&now->servers, number) && server_is_known(server_get(now, number)))
            list[found++] = server_get(now, number)->name->bytes;
    int code = list ? names_make(&recorder->memory, list, found, names, count) : PRESENCE_E_NO_MEMORY;
    recorder_unlock(recorder);
    memory_give(&recorder->memory, list, room * sizeof *list);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- claim -- */

/* Everything stated so far is of the older claim from now on. */
static void begin_claim(struct presence_recorder *recorder, uint32_t number, const presence_claim *claim, bool local,
                        uint64_t base)
{
    struct registry *registry = recorder->registry;
    struct server *server = server_edit(registry, number);
    server->claim = *claim;
    server->flags = (uint8_t)((server->flags & ~(SERVER_LOCAL | SERVER_COMPLETE | SERVER_FORGOTTEN)) | SERVER_CLAIMED |
                              (local ? SERVER_LOCAL : 0));
    server->base = server->numbered_since = base;
    server->number = server->floor_number = 0;
    server->stated = server->stated_alive = 0;
    server->digest = (presence_digest){0, 0};
    server->mark_number[0] = server->mark_number[1] = 0;
    server->mark_revision[0] = server->mark_revision[1] = base;
    server_settle(registry, number, server);
}

static int take_claim(struct presence_recorder *recorder, uint32_t number, const presence_claim *claim, bool local)
{
    struct registry *registry = recorder->registry;
    struct roots *now = &registry->now;
    struct whole_change whole;
    int code = whole_change_begin(recorder, &whole);
    if (code)
        return code;
    const struct server *before = server_get(now, number);
    presence_time when = recorder_now(recorder);
    uint64_t floor = now->revision++;
    bool newer_life = claim->epoch > before->claim.epoch;
    if (newer_life && before->alive > 0) {
        registry_note_event(registry);
        server_push_down(registry, server_edit(registry, number), floor, when, PRESENCE_REASON_SUPERSEDED);
        struct server *server = server_edit(registry, number);
        now->alive -= server_alive_now(server);
        server->alive = 0;
        server->floor = floor;
    }
    begin_claim(recorder, number, claim, local, now->revision);
    whole_change_end(recorder, &whole, number, HISTORY_UNNUMBERED, PRESENCE_REASON_SUPERSEDED, when);
    return PRESENCE_OK;
}

/* With the lock held. *take_in: the server's connections are to be taken in under the claim instead. */
static int claim_locked(struct presence_recorder *recorder, struct span name, const presence_claim *claim, bool local,
                        bool *take_in)
{
    uint32_t number;
    int code = recorder_begin_server(recorder, recorder_server_name(recorder, name), STATE_REMOTELY, &number, NULL);
    if (code)
        return code;
    bool fresh = number == NONE;
    code = recorder_add_server(recorder, recorder_server_name(recorder, name), &number);
    if (code)
        return code;
    struct registry *registry = recorder->registry;
    const struct server *server = server_get(&registry->now, number);
    bool claimed = server->flags & SERVER_CLAIMED, was_local = server->flags & SERVER_LOCAL;
    int compared = claimed ? presence_claim_compare(claim, &server->claim) : 1;
    if (compared < 0)
        return PRESENCE_E_STALE;
    if (compared == 0) {
        if (was_local != local) {
            struct server *edit = server_edit(registry, number);
            edit->flags = (uint8_t)((edit->flags & ~SERVER_LOCAL) | (local ? SERVER_LOCAL : 0));
        }
        return PRESENCE_OK;
    }
    bool same_life = claimed ? claim->epoch == server->claim.epoch : true;
    *take_in = local && server->physical > 0 && same_life && (!claimed || was_local);
    if (*take_in)
        return PRESENCE_OK;
    code = take_claim(recorder, number, claim, local);
    if (code && fresh)
        recorder_drop_idle_server(recorder, number);
    return code;
}

int presence_replica_claim(presence_recorder *recorder, const char *server, const presence_claim *claim, bool local)
{
    struct span name;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (text_check_name(server, &name) || !claim || is_zero(claim))
        return PRESENCE_E_INVALID;
    bool take_in = false;
    recorder_lock(recorder);
    int code = claim_locked(recorder, name, claim, local, &take_in);
    recorder_unlock(recorder);
    if (code || !take_in)
        return code;
    struct bulk_request request = {.mode = BULK_TAKE_IN, .server = name, .claim = *claim};
    return bulk_run(recorder, &request, NULL);
}

int presence_replica_complete(presence_recorder *recorder, const char *server, presence_error *error)
{
    struct bulk_request request = {.mode = BULK_COMPLETE, .server = {server, 0}};
    return bulk_run(recorder, &request, error);
}

/* --------------------------------------------------------------------------------------------- state, activity -- */

int replica_state_request(const presence_recorder *recorder, const char *server, const presence_claim *claim,
                          uint64_t number, uint64_t floor, presence_reason floor_reason, presence_time floor_time,
                          struct bulk_request *request, presence_error *error)
{
    if (!recorder_enabled(recorder))
        return recorder_error_code(error, PRESENCE_E_DISABLED);
    if (!claim || is_zero(claim))
        return recorder_error(error, PRESENCE_E_INVALID, "a state needs a claim");
    if (floor > number)
        return recorder_error(error, PRESENCE_E_INVALID, "floor %llu is above the state's number %llu",
                              (unsigned long long)floor, (unsigned long long)number);
    if (floor_reason < PRESENCE_REASON_SERVER_DOWN || floor_reason > PRESENCE_REASON_SUPERSEDED)
        floor_reason = PRESENCE_REASON_SERVER_DOWN;
    *request = (struct bulk_request){.mode = BULK_STATE,
                                     .server = {server, 0},
                                     .claim = *claim,
                                     .number = number,
                                     .floor_number = floor,
                                     .floor_reason = floor_reason,
                                     .floor_time = floor_time};
    return PRESENCE_OK;
}

int presence_replica_apply_state(presence_recorder *recorder, const char *server, const presence_claim *claim,
                                 uint64_t number, uint64_t floor, presence_reason floor_reason,
                                 presence_time floor_time, const presence_value *values, size_t count,
                                 presence_error *error)
{
    return presence_replica_apply_incomplete(recorder, server, claim, number, floor, floor_reason, floor_time, values,
                                             count, 0, error);
}

int presence_replica_apply_incomplete(presence_recorder *recorder, const char *server, const presence_claim *claim,
                                      uint64_t number, uint64_t floor, presence_reason floor_reason,
                                      presence_time floor_time, const presence_value *values, size_t count,
                                      size_t inherited, presence_error *error)
{
    if (inherited > count)
        return recorder_error(error, PRESENCE_E_INVALID, "%zu of %zu values are inherited", inherited, count);
    struct bulk_request request;
    int code = replica_state_request(recorder, server, claim, number, floor, floor_reason, floor_time, &request, error);
    if (code)
        return code;
    request.values = values;
    request.count = count;
    request.inherited = inherited;
    return bulk_run(recorder, &request, error);
}

/* Connections at or below this revision are older than `number` for sure; 0: which are is not known any more. */
static uint64_t revision_at_number(const struct roots *now, const struct server *server, uint64_t number)
{
    if (number >= server->number)
        return now->revision;
    if (number >= server->mark_number[1])
        return server->mark_revision[1];
    return number >= server->mark_number[0] ? server->mark_revision[0] : 0;
}

int presence_replica_activity(presence_recorder *recorder, const char *server, const presence_claim *claim,
                              uint64_t number, uint64_t id, presence_time last_seen)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!claim)
        return PRESENCE_E_INVALID;
    uint32_t found;
    int code = replica_lock_server(recorder, server, &found);
    if (code)
        return code;
    const struct roots *now = &recorder->registry->now;
    const struct server *record = server_get(now, found);
    int compared = presence_claim_compare(claim, &record->claim);
    if (!(record->flags & SERVER_CLAIMED) || compared > 0)
        code = PRESENCE_E_GAP;
    else if (compared < 0 || record->flags & SERVER_LOCAL)
        code = PRESENCE_E_STALE;
    uint32_t row = code ? NONE : registry_row(recorder->registry, now, found, id);
    if (!code && row == NONE)
        code = PRESENCE_E_NOT_FOUND;
    uint64_t connected = code ? 0 : row_revision(row_stamp(now, row));
    uint64_t older = code ? 0 : revision_at_number(now, record, number);
    if (older && connected >= record->base && connected <= older)
        change_activity(recorder, row, row_get(&recorder->registry->now, row), last_seen);
    recorder_unlock(recorder);
    return code;
}

/* -------------------------------------------------------------------------------------- lapse, forget, tombstones --
 * */

static int lapse_or_restore(struct presence_recorder *recorder, const char *server, bool lapse)
{
    uint32_t number;
    int code = replica_lock_server(recorder, server, &number);
    if (code)
        return code;
    code = server_is_known(server_get(&recorder->registry->now, number)) ? change_lapse(recorder, number, lapse)
                                                                         : PRESENCE_E_NOT_FOUND;
    if (!lapse) { /* the lapse may have been all that kept it */
        server_settle(recorder->registry, number, server_get(&recorder->registry->now, number));
        recorder_drop_idle_server(recorder, number);
    }
    recorder_unlock(recorder);
    return code;
}

int presence_replica_lapse(presence_recorder *recorder, const char *server)
{
    return lapse_or_restore(recorder, server, true);
}

int presence_replica_restore(presence_recorder *recorder, const char *server)
{
    return lapse_or_restore(recorder, server, false);
}

int presence_replica_forget(presence_recorder *recorder, const char *server, presence_error *error)
{
    presence_server_description known;
    int code = presence_replica_describe(recorder, server, &known);
    if (code)
        return recorder_error_code(error, code);
    struct bulk_request request = {.mode = BULK_FORGET, .server = {server, 0}};
    return bulk_run(recorder, &request, error);
}

size_t presence_replica_bury(presence_recorder *recorder, presence_time before)
{
    size_t buried = 0;
    recorder_lock(recorder);
    struct registry *registry = recorder->registry;
    for (uint32_t number = 0; number < shelf_end(&registry->now.servers); number++) {
        if (recorder_begin(recorder))
            break;
        if (!shelf_in_use(&registry->now.servers, number))
            continue;
        const struct server *server = server_get(&registry->now, number);
        if (!(server->flags & SERVER_FORGOTTEN) || server->bulk != BULK_NONE || server->forgotten_at >= before)
            continue;
        struct server *edit = server_edit(registry, number);
        edit->flags = SERVER_COMPLETE;
        edit->claim = (presence_claim){0, 0, 0};
        edit->number = edit->floor_number = 0;
        edit->digest = (presence_digest){0, 0};
        server_settle(registry, number, edit);
        recorder_drop_idle_server(recorder, number);
        buried++;
    }
    recorder_unlock(recorder);
    return buried;
}

/* ------------------------------------------------------------------------------------------------- changes, state --
 * */

enum { RECORDS_A_STRETCH = 256 };

struct presence_change_reader {
    struct presence_recorder *recorder;
    presence_claim claim;
    uint64_t instance, told, position;
    uint64_t numbered_since; /* older records are of another life of the server's record */
    size_t bytes;            /* of this object */
    char *buffer;            /* the last record told */
    size_t buffer_bytes;
    size_t server_length;
    char server[];
};

/* No change of the server after that number stands before this position: as near to the change as is known at once. */
static uint64_t position_after(const struct presence_recorder *recorder, const struct server *server, uint64_t number)
{
    if (!recorder->history.ring)
        return 0;
    uint64_t revision = revision_at_number(&recorder->registry->now, server, number);
    return history_find(&recorder->history, revision > server->numbered_since ? revision : server->numbered_since);
}

int presence_replica_changes(presence_recorder *recorder, const char *server, uint64_t after,
                             presence_change_reader **reader)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!reader)
        return PRESENCE_E_INVALID;
    uint32_t number;
    int code = replica_lock_server(recorder, server, &number);
    if (code)
        return code;
    const struct server *record = server_get(&recorder->registry->now, number);
    size_t length = text_length(record->name), bytes = sizeof(presence_change_reader) + length + 1;
    presence_change_reader *made = NULL;
    if (after > record->number)
        code = PRESENCE_E_INVALID;
    else if (after < record->number && !recorder->history.ring)
        code = PRESENCE_E_LAGGED;
    else if (!(made = memory_take(&recorder->memory, bytes)))
        code = PRESENCE_E_NO_MEMORY;
    if (made) {
        *made = (presence_change_reader){.recorder = recorder,
                                         .claim = record->claim,
                                         .instance = recorder->instance,
                                         .told = after,
                                         .position = position_after(recorder, record, after),
                                         .numbered_since = record->numbered_since,
                                         .bytes = bytes,
                                         .server_length = length};
        memcpy(made->server, record->name->bytes, length + 1);
        *reader = made;
    }
    recorder_unlock(recorder);
    return code;
}

static bool is_of_reader(const presence_change_reader *reader, const struct history_record *record)
{
    return record->change != HISTORY_UNNUMBERED && record->revision > reader->numbered_since &&
           record->number > reader->told && record->server_length == reader->server_length &&
           memcmp(history_server(record), reader->server, reader->server_length) == 0 &&
           presence_claim_compare(&record->claim, &reader->claim) == 0;
}

static int copy_change(presence_change_reader *reader, const struct history_record *record)
{
    if (record->number != reader->told + 1 || record->change == HISTORY_WHOLE)
        return PRESENCE_E_LAGGED;
    if (reader->buffer_bytes < record->bytes) {
        char *buffer = memory_take(&reader->recorder->memory, record->bytes);
        if (!buffer)
            return PRESENCE_E_NO_MEMORY;
        memory_give(&reader->recorder->memory, reader->buffer, reader->buffer_bytes);
        reader->buffer = buffer;
        reader->buffer_bytes = record->bytes;
    }
    memcpy(reader->buffer, record, record->bytes);
    return 1;
}

/* With the lock held: 1 copied, 0 no more, 2 the stretch is over, or an error. */
static int find_change(presence_change_reader *reader)
{
    struct presence_recorder *recorder = reader->recorder;
    const struct history *history = &recorder->history;
    const struct registry *registry = recorder->registry;
    uint32_t number = registry_server(&registry->now, (struct span){reader->server, reader->server_length},
                                      name_hash(registry, (struct span){reader->server, reader->server_length}));
    if (number == NONE || reader->instance != recorder->instance)
        return PRESENCE_E_LAGGED;
    const struct server *server = server_get(&registry->now, number);
    if (presence_claim_compare(&server->claim, &reader->claim) != 0)
        return PRESENCE_E_LAGGED;
    if (reader->told == server->number)
        return 0;
    if (!history->ring)
        return PRESENCE_E_LAGGED;
    if (reader->position < history->tail)
        reader->position = history->tail;
    for (unsigned i = 0; i < RECORDS_A_STRETCH; i++) {
        const struct history_record *record = history_at(history, &reader->position);
        if (!record)
            return PRESENCE_E_LAGGED;
        if (is_of_reader(reader, record))
            return copy_change(reader, record);
        reader->position += record->bytes;
    }
    return 2;
}

int presence_change_next(presence_change_reader *reader, presence_change *change)
{
    if (!reader || !change)
        return PRESENCE_E_INVALID;
    int found;
    do {
        recorder_lock(reader->recorder);
        found = find_change(reader);
        recorder_unlock(reader->recorder);
    } while (found == 2);
    if (found <= 0)
        return found;
    const struct history_record *record = (const struct history_record *)(const void *)reader->buffer;
    reader->told = record->number;
    reader->position += record->bytes;
    *change = (presence_change){
        .number = record->number,
        .kind = (presence_change_kind)record->change,
        .reason = record->change == PRESENCE_CHANGE_DOWN ? (presence_reason)record->reason : PRESENCE_REASON_NONE,
        .time = record->time,
        .value = {.model = history_model(record),
                  .server = history_server(record),
                  .agent = history_agent(record),
                  .user_data = history_data(record),
                  .connection_id = record->id,
                  .last_seen = record->last_seen,
                  .status = (presence_status)record->status,
                  .controller_agent = record->controller},
    };
    return 1;
}

void presence_change_reader_free(presence_change_reader *reader)
{
    if (!reader)
        return;
    const presence_allocator *memory = &reader->recorder->memory;
    memory_give(memory, reader->buffer, reader->buffer_bytes);
    memory_give(memory, reader, reader->bytes);
}

presence_connections *presence_replica_state(presence_recorder *recorder, const char *server,
                                             presence_server_description *description)
{
    uint32_t number;
    if (replica_lock_server(recorder, server, &number))
        return NULL;
    const struct server *record = server_get(&recorder->registry->now, number);
    struct snapshot *snapshot =
        server_is_known(record) ? registry_snapshot(recorder->registry, recorder_now(recorder)) : NULL;
    if (snapshot && description)
        replica_fill_description(record, description);
    recorder_unlock(recorder);
    presence_connections *made = snapshot ? connections_new(&recorder->memory, snapshot) : NULL;
    if (made)
        connections_limit_to_claim(made, number);
    else
        snapshot_release(snapshot);
    return made;
}
