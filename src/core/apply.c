/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply.c - numbered changes of a remote claim, one by one and in batches; <presence/replica.h> is the manual.
 *
 * Keeps true: a change is applied only as the next number under the claim that is known here; what was seen is ignored,
 * what is ahead waits for what is missing. A batch is its changes one after the other, and each is seen by itself; in
 * groups, names are checked and hashed outside the lock, and under it what will be touched is asked for in waves.
 * Any thread. O(1) a change under the mutex, which a batch holds for one group at a time; but for COMPLETE, which goes
 * through bulk.c and ends its group.
 */
#include "recorder.h"

enum { GROUP = 64 }; /* a lock's worth */

/* With the lock held: may this numbered change come next? *seen: it was applied already. */
static int check_number(const struct server *server, const presence_claim *claim, uint64_t number, bool *seen)
{
    *seen = false;
    if (!(server->flags & SERVER_CLAIMED))
        return PRESENCE_E_GAP;
    int compared = presence_claim_compare(claim, &server->claim);
    if (compared)
        return compared < 0 ? PRESENCE_E_STALE : PRESENCE_E_GAP;
    if (server->flags & SERVER_LOCAL)
        return PRESENCE_E_STALE;
    *seen = number <= server->number;
    if (*seen)
        return PRESENCE_OK;
    return number == server->number + 1 && !(server->flags & SERVER_FORGOTTEN) ? PRESENCE_OK : PRESENCE_E_GAP;
}

/* A change that says nothing new still takes its number. */
static void take_number(struct presence_recorder *recorder, uint32_t server, uint64_t number)
{
    server_edit(recorder->registry, server)->number = number;
}

static int apply_locked(struct presence_recorder *recorder, uint32_t server, const presence_change *change,
                        const struct facts *facts)
{
    struct registry *registry = recorder->registry;
    struct statement statement = {.server = server, .number = change->number, .when = change->time};
    uint32_t row;
    bool is_new;
    size_t ignored;
    switch (change->kind) {
    case PRESENCE_CHANGE_CONNECT:
        statement.when = change->value.last_seen;
        return change_connect(recorder, &statement, facts, &row, &is_new);
    case PRESENCE_CHANGE_DISCONNECT:
        row = registry_row(registry, &registry->now, server, change->value.connection_id);
        if (row == NONE)
            take_number(recorder, server, change->number);
        else
            change_disconnect(recorder, &statement, row);
        return PRESENCE_OK;
    default:
        statement.reason = change->reason;
        return change_server_down(recorder, &statement, &ignored);
    }
}

/* The facts of a connect whose model is the one that the connect before names, in the same place; false: something is
 * wrong with it. */
static bool facts_of_same_model(const struct presence_recorder *recorder, const presence_value *value,
                                const struct facts *before, struct facts *facts)
{
    struct facts same = {.model = before->model, .model_hash = before->model_hash};
    if (text_check_name(value->agent, &same.agent) || text_check_data(value->user_data, &same.data))
        return false;
    same.id = value->connection_id;
    same.controller = value->controller_agent;
    same.agent_hash = text_hash(recorder->secret, same.agent.bytes, same.agent.length);
    *facts = same;
    return true;
}

/* `before`: the facts of the connect before, or NULL. */
static int check_change(const struct presence_recorder *recorder, const presence_change *change,
                        const struct facts *before, struct facts *facts, presence_error *error)
{
    if (change->number == 0)
        return recorder_error(error, PRESENCE_E_INVALID, "the number of a change is 0");
    switch (change->kind) {
    case PRESENCE_CHANGE_CONNECT:
        if (before && before->model.bytes == change->value.model &&
            facts_of_same_model(recorder, &change->value, before, facts))
            return PRESENCE_OK;
        return recorder_facts(recorder, &change->value, facts, -1, error);
    case PRESENCE_CHANGE_DISCONNECT:
    case PRESENCE_CHANGE_COMPLETE:
        return PRESENCE_OK;
    case PRESENCE_CHANGE_DOWN:
        if (change->reason >= PRESENCE_REASON_SERVER_DOWN && change->reason <= PRESENCE_REASON_SUPERSEDED)
            return PRESENCE_OK;
        return recorder_error(error, PRESENCE_E_INVALID, "reason %d is none of a server going down",
                              (int)change->reason);
    }
    return recorder_error(error, PRESENCE_E_INVALID, "change kind %d is unknown", (int)change->kind);
}

/* With the lock held and memory reserved; the server may be NONE. *complete: it is next, and is left to apply_complete,
 * without the lock. */
static int apply_one(struct presence_recorder *recorder, uint32_t server, const presence_claim *claim,
                     const presence_change *change, const struct facts *facts, bool *complete)
{
    *complete = false;
    if (server == NONE)
        return PRESENCE_E_GAP;
    bool seen;
    int code = check_number(server_get(&recorder->registry->now, server), claim, change->number, &seen);
    if (code || seen)
        return code;
    *complete = change->kind == PRESENCE_CHANGE_COMPLETE;
    return *complete ? PRESENCE_OK : apply_locked(recorder, server, change, facts);
}

static int apply_complete(struct presence_recorder *recorder, struct span name, const presence_claim *claim,
                          const presence_change *change, presence_error *error)
{
    struct bulk_request request = {.mode = BULK_COMPLETE, .server = name, .claim = *claim, .number = change->number};
    return bulk_run(recorder, &request, error);
}

int presence_replica_apply(presence_recorder *recorder, const char *server, const presence_claim *claim,
                           const presence_change *change, bool *applied, presence_error *error)
{
    bool ignored;
    if (!applied)
        applied = &ignored;
    *applied = false;
    if (!recorder_enabled(recorder))
        return recorder_error_code(error, PRESENCE_E_DISABLED);
    struct span name;
    struct facts facts = {0};
    int code = recorder_check_name("server", server, &name, error);
    if (code)
        return code;
    if (!claim || !change)
        return recorder_error(error, PRESENCE_E_INVALID, "claim or change is missing");
    code = check_change(recorder, change, NULL, &facts, error);
    if (code)
        return code;
    uint32_t number;
    bool complete = false;
    recorder_lock(recorder);
    code = recorder_begin_server(recorder, recorder_server_name(recorder, name), STATE_REMOTELY, &number, NULL);
    if (!code) {
        uint64_t revision = recorder->registry->now.revision;
        code = apply_one(recorder, number, claim, change, &facts, &complete);
        *applied = recorder->registry->now.revision != revision;
    }
    recorder_unlock(recorder);
    if (complete) {
        code = apply_complete(recorder, name, claim, change, error);
        *applied = code == PRESENCE_OK;
    }
    return recorder_error_code(error, code);
}

/* ------------------------------------------------------------------------------------------------------- batches -- */

struct batch {
    struct server_name server;
    const presence_claim *claim;
    const presence_change *changes; /* of the group */
    size_t count;
    struct facts facts[GROUP];
};

static void prefetch_changes(const struct presence_recorder *recorder, const struct batch *batch, size_t from)
{
    struct ahead ahead[WAVE];
    size_t count = 0;
    for (size_t i = from; i < batch->count && i < from + WAVE; i++) {
        const presence_change *change = &batch->changes[i];
        if (change->kind == PRESENCE_CHANGE_CONNECT)
            ahead[count++] = recorder_connect_ahead(recorder, batch->server, &batch->facts[i]);
        else if (change->kind == PRESENCE_CHANGE_DISCONNECT)
            ahead[count++] = (struct ahead){
                .coming = AHEAD_DISCONNECT,
                .connection = connection_hash(recorder->registry, batch->server.hash, change->value.connection_id)};
    }
    recorder_prefetch_wave(recorder, ahead, count);
}

/* Under the lock, for one group: the server is looked up once. It stays what it is: a claim keeps its record. */
static int apply_group(struct presence_recorder *recorder, const struct batch *batch, size_t *done, bool *complete)
{
    uint32_t server;
    int code = recorder_begin_server(recorder, batch->server, STATE_REMOTELY, &server, NULL);
    if (code)
        return code;
    for (*done = 0; *done < batch->count; ++*done) {
        if (*done % WAVE == 0)
            prefetch_changes(recorder, batch, *done);
        if (*done > 0)
            code = recorder_begin(recorder);
        if (!code)
            code = apply_one(recorder, server, batch->claim, &batch->changes[*done], &batch->facts[*done], complete);
        if (code || *complete)
            return code;
    }
    return PRESENCE_OK;
}

int presence_replica_apply_many(presence_recorder *recorder, const char *server, const presence_claim *claim,
                                const presence_change *changes, size_t count, size_t *taken, presence_error *error)
{
    size_t ignored;
    if (!taken)
        taken = &ignored;
    *taken = 0;
    if (!recorder_enabled(recorder))
        return recorder_error_code(error, PRESENCE_E_DISABLED);
    struct span name;
    int code = recorder_check_name("server", server, &name, error);
    if (code)
        return code;
    if (!claim || (!changes && count))
        return recorder_error(error, PRESENCE_E_INVALID, "claim or changes are missing");
    struct batch batch = {.server = recorder_server_name(recorder, name), .claim = claim};
    while (*taken < count) {
        int wrong = PRESENCE_OK;
        batch.changes = changes + *taken;
        const struct facts *before = NULL;
        for (batch.count = 0; batch.count < GROUP && *taken + batch.count < count; batch.count++) {
            struct facts *facts = &batch.facts[batch.count];
            wrong = check_change(recorder, &batch.changes[batch.count], before, facts, error);
            if (wrong)
                break;
            if (batch.changes[batch.count].kind == PRESENCE_CHANGE_CONNECT)
                before = facts;
        }
        size_t done = 0;
        bool complete = false;
        recorder_lock(recorder);
        code = apply_group(recorder, &batch, &done, &complete);
        recorder_unlock(recorder);
        *taken += done;
        if (complete)
            code = apply_complete(recorder, name, claim, &batch.changes[done], error);
        if (code)
            return recorder_error_code(error, code);
        *taken += complete;
        if (wrong && !complete)
            return wrong;
    }
    return PRESENCE_OK;
}
