/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow_replica.c - the naive recorder's side of replication: claims, numbered changes, whole states, lapses, graves.
 *
 * Keeps true what replica.h promises, eagerly, as shadow.c does. Called by the driver, from one thread.
 */
#include "shadow.h"

#include <string.h>

static bool is_none(const presence_claim *claim)
{
    return claim->epoch == 0 && claim->turn == 0 && claim->random == 0;
}

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_claims(const presence_claim *a, const presence_claim *b)
{
    int epochs = compare(a->epoch, b->epoch);
    int turns = compare(a->turn, b->turn);
    return epochs != 0 ? epochs : turns != 0 ? turns : compare(a->random, b->random);
}

static bool has_connections(const struct shadow *shadow, int server)
{
    return shadow_counts(shadow, server).connections > 0;
}

bool shadow_recorded(const struct shadow *shadow, int server)
{
    const struct shadow_server *held = &shadow->server[server];
    return shadow_claimed(held) || held->forgotten || held->lapsed || has_connections(shadow, server);
}

/* A larger claim holds from now on; what was recorded is inherited by it. */
static void take_claim(struct shadow *shadow, int server, const presence_claim *claim, bool local)
{
    struct shadow_server *held = &shadow->server[server];
    bool newer_life = claim->epoch > held->claim.epoch;
    bool takes_in = local && has_connections(shadow, server) &&
                    (!shadow_claimed(held) || (held->local && claim->epoch == held->claim.epoch));
    bool supersedes = false;
    for (unsigned id = 0; id < shadow->ids; id++) {
        struct shadow_connection *connection = &held->connections[id];
        if (!connection->there) {
            continue;
        }
        if (takes_in) {
            connection->number = 0;
            connection->inherited = false;
        } else {
            supersedes = supersedes || (newer_life && !connection->missing);
            connection->missing = connection->missing || newer_life;
            connection->inherited = true;
        }
    }
    held->downs += supersedes;
    held->known = true;
    held->claim = *claim;
    held->local = local;
    held->complete = takes_in;
    held->forgotten = false;
    held->number = 0;
    held->floor = 0;
}

int shadow_claim(struct shadow *shadow, int server, const presence_claim *claim, bool local, presence_time now)
{
    struct shadow_server *held = &shadow->server[server];
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    if (is_none(claim)) {
        return PRESENCE_E_INVALID;
    }
    int order = compare_claims(claim, &held->claim);
    if (order < 0) {
        return PRESENCE_E_STALE;
    }
    if (order == 0) {
        held->local = local;
        return PRESENCE_OK;
    }
    shadow_begin(shadow);
    take_claim(shadow, server, claim, local);
    shadow_settle(shadow, &(struct shadow_cause){.reason = PRESENCE_REASON_SUPERSEDED, .time = now}, true);
    return PRESENCE_OK;
}

static void drop_inherited(struct shadow *shadow, int server)
{
    for (unsigned id = 0; id < shadow->ids; id++) {
        if (shadow->server[server].connections[id].inherited) {
            shadow_remove(shadow, server, id);
        }
    }
    shadow->server[server].complete = true;
}

int shadow_complete(struct shadow *shadow, int server, presence_time now)
{
    struct shadow_server *held = &shadow->server[server];
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    if (shadow_claimed(held) && !held->local) {
        return PRESENCE_E_STALE;
    }
    shadow_begin(shadow);
    drop_inherited(shadow, server);
    held->forgotten = false;
    held->number++;
    shadow_settle(shadow, &(struct shadow_cause){.reason = PRESENCE_REASON_UPDATED, .time = now}, true);
    return PRESENCE_OK;
}

/* ------------------------------------------------------------------------------------------------ numbered changes */

static void apply_connect(struct shadow *shadow, int server, const struct shadow_change *change,
                          struct shadow_cause *cause)
{
    struct shadow_connection *connection = &shadow->server[server].connections[change->id];
    shadow_put(shadow, server, change->id, &change->facts, change->last_seen);
    connection->mark = connection->stated = shadow->revision + 1;
    connection->number = change->number;
    *cause = (struct shadow_cause){.reason = PRESENCE_REASON_LEFT,
                                   .time = change->time,
                                   .connect = true,
                                   .model = change->facts.model,
                                   .agent = change->facts.agent,
                                   .connect_time = change->last_seen};
}

static void apply_down(struct shadow *shadow, int server, const struct shadow_change *change)
{
    struct shadow_server *held = &shadow->server[server];
    bool any = false;
    for (unsigned id = 0; id < shadow->ids; id++) {
        struct shadow_connection *connection = &held->connections[id];
        any = any || (connection->there && !connection->missing);
        connection->missing = connection->there;
    }
    held->downs += any;
    held->floor = change->number;
}

static void apply_numbered(struct shadow *shadow, int server, const struct shadow_change *change, presence_time now)
{
    struct shadow_cause cause = {.reason = PRESENCE_REASON_LEFT, .time = change->time};
    shadow_begin(shadow);
    shadow->server[server].number = change->number;
    switch (change->kind) {
    case PRESENCE_CHANGE_CONNECT:
        apply_connect(shadow, server, change, &cause);
        break;
    case PRESENCE_CHANGE_DISCONNECT:
        shadow_remove(shadow, server, change->id);
        break;
    case PRESENCE_CHANGE_DOWN:
        apply_down(shadow, server, change);
        cause.reason = change->reason;
        break;
    case PRESENCE_CHANGE_COMPLETE:
        drop_inherited(shadow, server);
        cause.reason = PRESENCE_REASON_UPDATED;
        cause.time = now;
        break;
    }
    shadow_settle(shadow, &cause, true);
    if (change->kind == PRESENCE_CHANGE_DISCONNECT) {
        shadow_remember_departure(shadow, server, change->id);
    }
}

int shadow_apply(struct shadow *shadow, int server, const presence_claim *claim, const struct shadow_change *change,
                 presence_time now, bool *applied)
{
    struct shadow_server *held = &shadow->server[server];
    *applied = false;
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    int order = compare_claims(claim, &held->claim);
    if (order < 0) {
        return PRESENCE_E_STALE;
    }
    if (order > 0 || !shadow_claimed(held)) {
        return PRESENCE_E_GAP;
    }
    if (held->local) {
        return PRESENCE_E_STALE;
    }
    if (change->number <= held->number) {
        return PRESENCE_OK;
    }
    if (change->number > held->number + 1 || held->forgotten) {
        return PRESENCE_E_GAP;
    }
    bool is_new = change->kind == PRESENCE_CHANGE_CONNECT && !held->connections[change->id].there;
    if (is_new && shadow->limit_connections != 0 &&
        shadow_counts(shadow, -1).connections >= shadow->limit_connections) {
        return PRESENCE_E_LIMIT;
    }
    if (change->kind == PRESENCE_CHANGE_DISCONNECT && !held->connections[change->id].there) {
        held->number = change->number; /* it is gone already: only the number is new */
        return PRESENCE_OK;
    }
    apply_numbered(shadow, server, change, now);
    *applied = true;
    return PRESENCE_OK;
}

int shadow_remote_activity(struct shadow *shadow, int server, const presence_claim *claim, uint64_t number, unsigned id,
                           presence_time last_seen)
{
    struct shadow_server *held = &shadow->server[server];
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    if (!shadow_recorded(shadow, server)) {
        return PRESENCE_E_NOT_FOUND;
    }
    int order = compare_claims(claim, &held->claim);
    if (order > 0 || !shadow_claimed(held)) {
        return PRESENCE_E_GAP;
    }
    if (order < 0 || held->local) {
        return PRESENCE_E_STALE;
    }
    struct shadow_connection *connection = &held->connections[id];
    if (!connection->there) {
        return PRESENCE_E_NOT_FOUND;
    }
    if (!connection->inherited && connection->number <= number) {
        connection->last_seen = last_seen;
    }
    return PRESENCE_OK;
}

/* ---------------------------------------------------------------------------------------------------- whole states */

static void put_state(struct shadow *shadow, int server, const struct shadow_state *state)
{
    struct shadow_server *held = &shadow->server[server];
    for (unsigned id = 0; id < shadow->ids; id++) {
        const struct shadow_item *item = NULL;
        for (size_t at = 0; at < state->count; at++) {
            item = state->items[at].id == id ? &state->items[at] : item;
        }
        if (item == NULL) {
            shadow_remove(shadow, server, id);
            continue;
        }
        shadow_put(shadow, server, id, &item->facts, item->last_seen);
        struct shadow_connection *connection = &held->connections[id];
        connection->missing = item->status == PRESENCE_MISSING;
        connection->wording = ++shadow->lives; /* a whole state may cost its handles */
        connection->number = connection->missing ? state->floor : state->number;
        connection->mark = connection->stated = shadow->revision + 1;
    }
}

int shadow_apply_state(struct shadow *shadow, int server, const struct shadow_state *state, presence_time now)
{
    struct shadow_server *held = &shadow->server[server];
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    int order = compare_claims(&state->claim, &held->claim);
    bool older = order == 0 && shadow_claimed(held) && (held->local || state->number < held->number);
    if (order < 0 || older) {
        return PRESENCE_E_STALE;
    }
    uint64_t others = shadow_counts(shadow, -1).connections - shadow_counts(shadow, server).connections;
    if (shadow->limit_connections != 0 && others + state->count > shadow->limit_connections) {
        return PRESENCE_E_LIMIT;
    }
    shadow_begin(shadow);
    put_state(shadow, server, state);
    held->known = true;
    held->claim = state->claim;
    held->local = false;
    held->complete = true;
    held->forgotten = false;
    held->number = state->number;
    held->floor = state->floor;
    held->downs++;
    held->lapses++;
    shadow_settle(shadow,
                  &(struct shadow_cause){.reason = PRESENCE_REASON_UPDATED,
                                         .time = now,
                                         .state = true,
                                         .server = server,
                                         .floor_reason = state->floor_reason,
                                         .floor_time = state->floor_time},
                  true);
    shadow_listed(shadow, server);
    return PRESENCE_OK;
}

/* -------------------------------------------------------------------------------------------------- lapse and grave */

int shadow_lapse(struct shadow *shadow, int server, bool lapsed, presence_time now)
{
    struct shadow_server *held = &shadow->server[server];
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    if (!shadow_recorded(shadow, server)) {
        return PRESENCE_E_NOT_FOUND;
    }
    if (held->lapsed == lapsed) {
        return PRESENCE_OK;
    }
    shadow_begin(shadow);
    held->lapsed = lapsed;
    held->lapses++;
    presence_reason reason = lapsed ? PRESENCE_REASON_LAPSED : PRESENCE_REASON_RESTORED;
    shadow_settle(shadow, &(struct shadow_cause){.reason = reason, .time = now}, true);
    return PRESENCE_OK;
}

int shadow_forget(struct shadow *shadow, int server, presence_time now)
{
    struct shadow_server *held = &shadow->server[server];
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    if (held->forgotten) {
        return PRESENCE_OK;
    }
    if (!shadow_recorded(shadow, server)) {
        return PRESENCE_E_NOT_FOUND;
    }
    shadow_begin(shadow);
    for (unsigned id = 0; id < shadow->ids; id++) {
        shadow_remove(shadow, server, id);
    }
    held->forgotten = true;
    held->forgotten_at = now;
    held->complete = false;
    held->lapsed = false;
    shadow_settle(shadow, &(struct shadow_cause){.reason = PRESENCE_REASON_UPDATED, .time = now}, true);
    shadow_listed(shadow, server);
    return PRESENCE_OK;
}

size_t shadow_bury(struct shadow *shadow, presence_time before)
{
    size_t buried = 0;
    for (int server = 0; server < shadow->servers; server++) {
        struct shadow_server *held = &shadow->server[server];
        if (held->forgotten && held->forgotten_at < before) {
            *held = (struct shadow_server){
                .list_revision = held->list_revision, .downs = held->downs, .lapses = held->lapses};
            buried++;
        }
    }
    return buried;
}
