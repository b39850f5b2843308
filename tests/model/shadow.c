/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow.c - the naive recorder's own calls: connect, disconnect, lists, and the evidence of agents.
 *
 * Keeps true: after each call every field says what presence.h promises, with nothing left for later. Called by the
 * driver, from one thread. Each call costs a visit of everything.
 */
#include "shadow.h"

#include <stdlib.h>
#include <string.h>

bool shadow_init(struct shadow *shadow)
{
    *shadow = (struct shadow){.servers = 4, .models = 3, .agents = 6, .datas = 4, .ids = 12, .departures_kept = 65536};
    shadow->departures = calloc(1, sizeof *shadow->departures);
    shadow->statuses = calloc(SHADOW_REVISIONS, sizeof *shadow->statuses);
    return shadow->departures != NULL && shadow->statuses != NULL;
}

void shadow_free(struct shadow *shadow)
{
    if (shadow->departures != NULL) {
        free(shadow->departures->entries);
    }
    free(shadow->departures);
    free(shadow->statuses);
}

/* ------------------------------------------------------------------------------------------------- what it answers */

bool shadow_facts_equal(const struct shadow_facts *a, const struct shadow_facts *b)
{
    return a->model == b->model && a->agent == b->agent && a->data == b->data && a->controller == b->controller;
}

bool shadow_claimed(const struct shadow_server *server)
{
    const presence_claim none = {0, 0, 0};
    return memcmp(&server->claim, &none, sizeof none) != 0;
}

presence_status shadow_status(const struct shadow *shadow, int server, unsigned id)
{
    const struct shadow_connection *connection = &shadow->server[server].connections[id];
    if (!connection->there) {
        return PRESENCE_UNKNOWN;
    }
    return connection->missing || shadow->server[server].lapsed ? PRESENCE_MISSING : PRESENCE_ALIVE;
}

presence_status shadow_agent_status(const struct shadow *shadow, int server, int model, int agent)
{
    presence_status best = PRESENCE_UNKNOWN;
    for (int at = 0; at < shadow->servers; at++) {
        for (unsigned id = 0; id < shadow->ids; id++) {
            const struct shadow_connection *connection = &shadow->server[at].connections[id];
            presence_status status = shadow_status(shadow, at, id);
            if (connection->there && (server < 0 || server == at) && connection->facts.model == model &&
                connection->facts.agent == agent && !connection->facts.controller && status > best) {
                best = status;
            }
        }
    }
    return best;
}

presence_time shadow_agent_seen(const struct shadow *shadow, int model, int agent)
{
    presence_time latest = 0;
    bool any = false;
    for (int at = 0; at < shadow->servers; at++) {
        for (unsigned id = 0; id < shadow->ids; id++) {
            const struct shadow_connection *connection = &shadow->server[at].connections[id];
            if (connection->there && connection->facts.model == model && connection->facts.agent == agent &&
                !connection->facts.controller && (!any || connection->last_seen > latest)) {
                latest = connection->last_seen;
                any = true;
            }
        }
    }
    return latest;
}

presence_counts shadow_counts(const struct shadow *shadow, int server)
{
    presence_counts counts = {0, 0, 0};
    for (int at = 0; at < shadow->servers; at++) {
        for (unsigned id = 0; id < shadow->ids && (server < 0 || server == at); id++) {
            presence_status status = shadow_status(shadow, at, id);
            counts.connections += status != PRESENCE_UNKNOWN;
            counts.alive += status == PRESENCE_ALIVE;
            counts.missing += status == PRESENCE_MISSING;
        }
    }
    return counts;
}

const struct shadow_statuses *shadow_statuses_at(const struct shadow *shadow, uint64_t revision)
{
    const struct shadow_statuses *statuses = &shadow->statuses[revision % SHADOW_REVISIONS];
    return statuses->revision == revision ? statuses : NULL;
}

bool shadow_departures_kept_since(const struct shadow *shadow, int server, uint64_t revision)
{
    const struct shadow_departures *departures = shadow->departures;
    if (revision < departures->forgotten_before) {
        return false;
    }
    for (size_t at = 0; at + shadow->departures_kept < departures->count; at++) {
        const struct shadow_departure *forgotten = &departures->entries[at];
        if (forgotten->revision > revision && (server < 0 || server == forgotten->server)) {
            return false;
        }
    }
    return true;
}

/* --------------------------------------------------------------------------------------------------- the evidence */

/* One visit of all connections: every agent's best status and latest last_seen. */
static void visit_agents(const struct shadow *shadow, presence_status status[SHADOW_MODELS][SHADOW_AGENTS],
                         presence_time seen[SHADOW_MODELS][SHADOW_AGENTS])
{
    memset(status, 0, sizeof shadow->before);
    memset(seen, 0, sizeof shadow->before_seen);
    for (int at = 0; at < shadow->servers; at++) {
        for (unsigned id = 0; id < shadow->ids; id++) {
            const struct shadow_connection *connection = &shadow->server[at].connections[id];
            if (!connection->there || connection->facts.controller) {
                continue;
            }
            presence_status *best = &status[connection->facts.model][connection->facts.agent];
            presence_time *latest = &seen[connection->facts.model][connection->facts.agent];
            if (*best == PRESENCE_UNKNOWN || connection->last_seen > *latest) {
                *latest = connection->last_seen;
            }
            if (shadow_status(shadow, at, id) > *best) {
                *best = shadow_status(shadow, at, id);
            }
        }
    }
}

void shadow_begin(struct shadow *shadow)
{
    visit_agents(shadow, shadow->before, shadow->before_seen);
}

static bool is_on_server(const struct shadow *shadow, int server, int model, int agent)
{
    for (unsigned id = 0; id < shadow->ids; id++) {
        const struct shadow_connection *connection = &shadow->server[server].connections[id];
        if (connection->there && connection->facts.model == model && connection->facts.agent == agent) {
            return true;
        }
    }
    return false;
}

/* An agent that stays missing while its servers go down again and again: the recorder may tell a later time. */
static bool is_vague(const struct shadow *shadow, int model, int agent)
{
    const struct shadow_agent *evidence = &shadow->agent[model][agent];
    for (int at = 0; at < shadow->servers; at++) {
        const struct shadow_server *server = &shadow->server[at];
        if (evidence->status == PRESENCE_MISSING && server->downs >= evidence->downs[at] + SHADOW_DOWNS_KEPT) {
            return true;
        }
        if (!shadow->strict && server->lapses > 0 && is_on_server(shadow, at, model, agent)) {
            return true;
        }
    }
    return evidence->vague;
}

static void change_agent(struct shadow *shadow, int model, int agent, presence_status after,
                         const struct shadow_cause *cause)
{
    struct shadow_agent *evidence = &shadow->agent[model][agent];
    presence_status before = shadow->before[model][agent];
    evidence->status = after;
    evidence->reason = cause->reason;
    evidence->since = cause->time;
    if (cause->connect && cause->model == model && cause->agent == agent && after > before) {
        evidence->reason = before == PRESENCE_UNKNOWN ? PRESENCE_REASON_CONNECTED : PRESENCE_REASON_RECONNECTED;
        evidence->since = cause->connect_time;
    }
    if (cause->state && after == PRESENCE_MISSING && is_on_server(shadow, cause->server, model, agent)) {
        evidence->reason = cause->floor_reason;
        evidence->since = cause->floor_time;
    }
    if (after == PRESENCE_UNKNOWN) {
        evidence->left_last_seen = shadow->before_seen[model][agent];
    }
    evidence->vague = false;
    for (int at = 0; at < shadow->servers; at++) {
        evidence->downs[at] = shadow->server[at].downs;
    }
}

void shadow_settle(struct shadow *shadow, const struct shadow_cause *cause, bool changed)
{
    presence_status after[SHADOW_MODELS][SHADOW_AGENTS];
    presence_time seen[SHADOW_MODELS][SHADOW_AGENTS];
    shadow->revision += changed;
    struct shadow_statuses *statuses = &shadow->statuses[shadow->revision % SHADOW_REVISIONS];
    statuses->revision = shadow->revision;
    if (changed) {
        statuses->time = cause->connect ? cause->connect_time : cause->time;
    }
    visit_agents(shadow, after, seen);
    for (int model = 0; model < shadow->models; model++) {
        for (int agent = 0; agent < shadow->agents; agent++) {
            struct shadow_agent *evidence = &shadow->agent[model][agent];
            if (after[model][agent] != shadow->before[model][agent]) {
                change_agent(shadow, model, agent, after[model][agent], cause);
            }
            bool by_state = cause->state && !shadow->strict && after[model][agent] == PRESENCE_MISSING;
            evidence->vague = is_vague(shadow, model, agent) || by_state;
            statuses->status[model][agent] = (unsigned char)evidence->status;
            statuses->reason[model][agent] = (unsigned char)evidence->reason;
        }
    }
}

/* ---------------------------------------------------------------------------------------------- single connections */

void shadow_know(struct shadow_server *server)
{
    server->complete = server->complete || !server->known;
    server->known = true;
}

void shadow_put(struct shadow *shadow, int server, unsigned id, const struct shadow_facts *facts, presence_time seen)
{
    struct shadow_server *held = &shadow->server[server];
    struct shadow_connection *connection = &held->connections[id];
    bool same_agent =
        connection->there && connection->facts.model == facts->model && connection->facts.agent == facts->agent;
    bool same = same_agent && shadow_facts_equal(&connection->facts, facts);
    connection->life = same_agent ? connection->life : ++shadow->lives;
    connection->wording = same ? connection->wording : ++shadow->lives;
    connection->there = true;
    connection->missing = false;
    connection->inherited = false;
    connection->facts = *facts;
    connection->last_seen = seen;
    shadow_know(held);
}

void shadow_remove(struct shadow *shadow, int server, unsigned id)
{
    shadow->server[server].connections[id] = (struct shadow_connection){.there = false};
}

void shadow_remember_departure(struct shadow *shadow, int server, unsigned id)
{
    struct shadow_departures *departures = shadow->departures;
    if (departures->count == departures->capacity) {
        departures->capacity = departures->capacity == 0 ? 256 : departures->capacity * 2;
        departures->entries = realloc(departures->entries, departures->capacity * sizeof *departures->entries);
        if (departures->entries == NULL) {
            abort();
        }
    }
    departures->entries[departures->count++] = (struct shadow_departure){server, id, shadow->revision};
}

void shadow_listed(struct shadow *shadow, int server)
{
    shadow->server[server].list_revision = shadow->revision;
    shadow_remember_departure(shadow, server, SHADOW_IDS);
}

static bool departed_since(const struct shadow *shadow, int server, unsigned id, uint64_t revision)
{
    for (size_t at = shadow->departures->count; at > 0; at--) {
        const struct shadow_departure *departure = &shadow->departures->entries[at - 1];
        if (departure->revision <= revision) {
            return false;
        }
        if (departure->server == server && departure->id == id) {
            return true;
        }
    }
    return false;
}

void shadow_enable(struct shadow *shadow)
{
    shadow->enabled = true;
}

void shadow_disable(struct shadow *shadow)
{
    if (!shadow->enabled) {
        return;
    }
    shadow->enabled = false;
    memset(shadow->server, 0, sizeof shadow->server);
    memset(shadow->agent, 0, sizeof shadow->agent);
    shadow->revision++;
    shadow->disabled_at = shadow->revision;
    shadow->departures->count = 0;
    shadow->departures->forgotten_before = shadow->revision;
    struct shadow_statuses *statuses = &shadow->statuses[shadow->revision % SHADOW_REVISIONS];
    memset(statuses, 0, sizeof *statuses);
    statuses->revision = shadow->revision;
}

/* The checks that every local call shares, after its arguments. */
static int check_local(const struct shadow *shadow, int server)
{
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    const struct shadow_server *held = &shadow->server[server];
    return shadow_claimed(held) && !held->local ? PRESENCE_E_STALE : PRESENCE_OK;
}

int shadow_connect(struct shadow *shadow, int server, unsigned id, const struct shadow_facts *facts, presence_time now,
                   bool *is_new)
{
    int code = check_local(shadow, server);
    struct shadow_server *held = &shadow->server[server];
    struct shadow_connection *connection = &held->connections[id];
    if (code != PRESENCE_OK) {
        return code;
    }
    *is_new = !connection->there;
    if (*is_new && shadow->limit_connections != 0 &&
        shadow_counts(shadow, -1).connections >= shadow->limit_connections) {
        return PRESENCE_E_LIMIT;
    }
    bool same = connection->there && shadow_facts_equal(&connection->facts, facts);
    bool changed = !same || connection->missing || connection->inherited || held->forgotten;
    shadow_begin(shadow);
    shadow_put(shadow, server, id, facts, now);
    connection->mark = shadow->revision + 1;
    connection->stated = shadow->revision + changed;
    held->forgotten = false;
    if (changed) {
        held->number++;
        connection->number = held->number;
    }
    shadow_settle(shadow,
                  &(struct shadow_cause){.reason = PRESENCE_REASON_LEFT,
                                         .time = now,
                                         .connect = true,
                                         .model = facts->model,
                                         .agent = facts->agent,
                                         .connect_time = now},
                  changed);
    return PRESENCE_OK;
}

int shadow_disconnect(struct shadow *shadow, int server, unsigned id, presence_time now)
{
    int code = check_local(shadow, server);
    if (code != PRESENCE_OK) {
        return code;
    }
    if (!shadow->server[server].connections[id].there) {
        return PRESENCE_E_NOT_FOUND;
    }
    shadow_begin(shadow);
    shadow_remove(shadow, server, id);
    shadow->server[server].number++;
    shadow_settle(shadow, &(struct shadow_cause){.reason = PRESENCE_REASON_LEFT, .time = now}, true);
    shadow_remember_departure(shadow, server, id);
    return PRESENCE_OK;
}

int shadow_activity(struct shadow *shadow, int server, unsigned id, presence_time now)
{
    int code = check_local(shadow, server);
    if (code != PRESENCE_OK) {
        return code;
    }
    if (!shadow->server[server].connections[id].there) {
        return PRESENCE_E_NOT_FOUND;
    }
    shadow->server[server].connections[id].last_seen = now;
    return PRESENCE_OK;
}

int shadow_down(struct shadow *shadow, int server, presence_reason reason, presence_time now, size_t *became_missing)
{
    int code = check_local(shadow, server);
    if (code != PRESENCE_OK) {
        return code;
    }
    struct shadow_server *held = &shadow->server[server];
    size_t was_stated_alive = 0;
    shadow_begin(shadow);
    for (unsigned id = 0; id < shadow->ids; id++) {
        struct shadow_connection *connection = &held->connections[id];
        if (connection->there && !connection->missing) {
            connection->missing = true;
            was_stated_alive++;
        }
    }
    *became_missing = held->lapsed ? 0 : was_stated_alive; /* in a lapse they read missing already */
    if (was_stated_alive > 0) {
        held->number++;
        held->floor = held->number;
        held->downs++;
    }
    shadow_settle(shadow, &(struct shadow_cause){.reason = reason, .time = now}, was_stated_alive > 0);
    return PRESENCE_OK;
}

int shadow_mark(struct shadow *shadow, uint64_t *mark)
{
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    *mark = shadow->revision;
    shadow_begin(shadow);
    shadow_settle(shadow, &(struct shadow_cause){.reason = PRESENCE_REASON_NONE}, true);
    return PRESENCE_OK;
}

int shadow_unstated(struct shadow *shadow, int server, uint64_t mark, presence_reason reason, presence_time now,
                    size_t *became_missing)
{
    int code = check_local(shadow, server);
    if (code != PRESENCE_OK) {
        return code;
    }
    struct shadow_server *held = &shadow->server[server];
    size_t were_alive = 0;
    shadow_begin(shadow);
    for (unsigned id = 0; id < shadow->ids; id++) {
        struct shadow_connection *connection = &held->connections[id];
        if (connection->there && !connection->missing && connection->stated <= mark) {
            connection->missing = true;
            were_alive++;
        }
    }
    *became_missing = held->lapsed ? 0 : were_alive;
    if (were_alive > 0) {
        held->number++;
        held->downs++;
    }
    shadow_settle(shadow, &(struct shadow_cause){.reason = reason, .time = now}, were_alive > 0);
    return PRESENCE_OK;
}

/* ----------------------------------------------------------------------------------------------------- whole lists */

static const struct shadow_item *item_of(const struct shadow_item *items, size_t count, unsigned id)
{
    for (size_t at = 0; at < count; at++) {
        if (items[at].id == id) {
            return &items[at];
        }
    }
    return NULL;
}

/* Whether the recorded connection keeps its newer fate against a list gathered at `revision` (UINT64_MAX: an update,
 * nothing is newer). `alive_stays` is merge_server's rule. */
static bool keeps_fate(const struct shadow *shadow, int server, unsigned id, uint64_t revision, bool alive_stays)
{
    const struct shadow_connection *connection = &shadow->server[server].connections[id];
    if (alive_stays) {
        return shadow_status(shadow, server, id) == PRESENCE_ALIVE;
    }
    if (connection->there) {
        return connection->mark > revision;
    }
    return departed_since(shadow, server, id, revision);
}

/* What a whole list would leave recorded in all, for the limit. */
static uint64_t count_after(const struct shadow *shadow, int server, uint64_t revision, bool alive_stays,
                            const struct shadow_item *items, size_t count)
{
    uint64_t total = shadow_counts(shadow, -1).connections - shadow_counts(shadow, server).connections;
    for (unsigned id = 0; id < shadow->ids; id++) {
        if (keeps_fate(shadow, server, id, revision, alive_stays)) {
            total += shadow->server[server].connections[id].there;
        } else {
            total += item_of(items, count, id) != NULL;
        }
    }
    return total;
}

/* Whether a list changed more than times: only then it takes a revision and a number. */
static bool is_news(const struct shadow_server *before, const struct shadow_server *after)
{
    bool news = !before->complete || before->forgotten;
    for (unsigned id = 0; id < SHADOW_IDS; id++) {
        const struct shadow_connection *was = &before->connections[id], *is = &after->connections[id];
        news = news || was->there != is->there || was->missing != is->missing || was->inherited != is->inherited ||
               !shadow_facts_equal(&was->facts, &is->facts);
    }
    return news;
}

static void play_list(struct shadow *shadow, int server, uint64_t revision, bool alive_stays,
                      const struct shadow_item *items, size_t count, presence_time now)
{
    struct shadow_server *held = &shadow->server[server];
    for (unsigned id = 0; id < shadow->ids; id++) {
        struct shadow_connection *connection = &held->connections[id];
        const struct shadow_item *item = item_of(items, count, id);
        if (keeps_fate(shadow, server, id, revision, alive_stays)) {
            connection->inherited = false;
            if (alive_stays && item != NULL) {
                connection->last_seen = now;
                connection->mark = connection->stated = shadow->revision + 1;
            }
        } else if (item != NULL) {
            shadow_put(shadow, server, id, &item->facts, now);
            connection->mark = connection->stated = shadow->revision + 1;
            connection->number = held->number + 1;
        } else if (connection->there) {
            shadow_remove(shadow, server, id);
        }
    }
}

static int replace_server(struct shadow *shadow, int server, uint64_t revision, bool alive_stays,
                          const struct shadow_item *items, size_t count, presence_time now)
{
    struct shadow_server *held = &shadow->server[server];
    uint64_t after = count_after(shadow, server, revision, alive_stays, items, count);
    if (shadow->limit_connections != 0 && after > shadow->limit_connections) {
        return PRESENCE_E_LIMIT;
    }
    shadow_begin(shadow);
    shadow_know(held);
    struct shadow_server before = *held;
    play_list(shadow, server, revision, alive_stays, items, count, now);
    bool news = is_news(&before, held);
    for (unsigned id = 0; id < shadow->ids && !news; id++) { /* no revision of its own: as of the present one */
        struct shadow_connection *connection = &held->connections[id];
        uint64_t mark = before.connections[id].mark;
        if (connection->mark != mark) { /* those that the list leaves alone were stated when they were */
            connection->mark = mark < shadow->revision ? shadow->revision : mark;
            connection->stated = shadow->revision;
        }
    }
    held->forgotten = false;
    held->complete = true;
    held->number += news;
    shadow_settle(shadow, &(struct shadow_cause){.reason = PRESENCE_REASON_UPDATED, .time = now}, news);
    shadow_listed(shadow, server);
    return PRESENCE_OK;
}

int shadow_update(struct shadow *shadow, int server, const struct shadow_item *items, size_t count, presence_time now)
{
    int code = check_local(shadow, server);
    return code != PRESENCE_OK ? code : replace_server(shadow, server, UINT64_MAX, false, items, count, now);
}

int shadow_merge(struct shadow *shadow, int server, const struct shadow_item *items, size_t count, presence_time now)
{
    int code = check_local(shadow, server);
    return code != PRESENCE_OK ? code : replace_server(shadow, server, UINT64_MAX, true, items, count, now);
}

int shadow_merge_since(struct shadow *shadow, int server, uint64_t revision, const struct shadow_item *items,
                       size_t count, presence_time now)
{
    if (!shadow->enabled) {
        return PRESENCE_E_DISABLED;
    }
    if (revision > shadow->revision) {
        return PRESENCE_E_INVALID;
    }
    int code = check_local(shadow, server);
    if (code != PRESENCE_OK) {
        return code;
    }
    if (shadow->server[server].list_revision > revision) {
        return PRESENCE_OK;
    }
    if (!shadow_departures_kept_since(shadow, server, revision)) {
        return PRESENCE_E_LAGGED;
    }
    return replace_server(shadow, server, revision, false, items, count, now);
}
