/* SPDX-License-Identifier: Apache-2.0 */
/*
 * evidence.c - reads an agent's evidence off its record, its rows and their servers; see evidence.h.
 *
 * For each row there are at most two spans of revisions in which it read alive after the basis: one that began before
 * it and may have ended, and one that goes on. From all rows' spans follows the last change of the best status:
 * alive now: the beginning of the spans that go on, unless an older span reaches up to it; else the last end of a span.
 * Any thread on a snapshot, the writer on the live roots. O(connections of the agent).
 */
#include "evidence.h"

/* When one row read alive, in revisions after the basis; 0: at or before it. */
struct alive_spans {
    bool had, has; /* a span [before the basis, ended); a span [began, now] */
    uint64_t ended, began;
    struct evidence end, beginning; /* what ended and began them */
};

static uint64_t basis_of(const struct roots *roots, const struct agent *agent)
{
    if (agent->first == NONE)
        return roots->revision;
    return agent_meta(agent) & AGENT_BASIS ? extra_get(roots, agent->first)->basis
                                           : row_revision(row_stamp(roots, agent->first));
}

static const struct down *down_of(uint64_t stamp, const struct server *server)
{
    size_t count = server_downs(server);
    for (size_t i = 0; i < count; i++)
        if (server_down_at(server, i)->floor >= row_revision(stamp))
            return server_down_at(server, i);
    return NULL;
}

/* Ends the older span at a revision, if it was still going on then and that is news. */
static void end_span(struct alive_spans *spans, uint64_t revision, uint64_t basis, presence_reason reason,
                     presence_time time)
{
    spans->had = revision > basis;
    spans->ended = revision;
    spans->end = (struct evidence){PRESENCE_MISSING, reason, time};
}

static struct alive_spans spans_of(uint64_t stamp, const struct server *server, uint64_t basis)
{
    struct alive_spans spans = {0};
    presence_status status = row_status(stamp, server);
    uint64_t connected = row_revision(stamp), lapse = server->lapse_revision, restore = server->restore_revision;
    bool fresh = row_is_fresh(stamp);
    bool committed = server->bulk == BULK_COMMITTED;
    const struct down *down = connected <= server->floor ? down_of(stamp, server) : NULL;
    bool up_before = !fresh && connected > server->floor; /* before a list that is being swept, if any */

    if (down && !fresh) {
        end_span(&spans, down->revision, basis, (presence_reason)down->reason, down->time);
        if (lapse && lapse < down->revision && (restore < lapse || restore > down->revision)) /* it fell in a lapse */
            end_span(&spans, connected < lapse ? lapse : 0, basis, PRESENCE_REASON_LAPSED, server->lapse_time);
    }
    if (up_before && lapse && connected < lapse)
        end_span(&spans, lapse, basis, PRESENCE_REASON_LAPSED, server->lapse_time);
    if (committed && status == PRESENCE_UNKNOWN && up_before && !(server->flags & SERVER_LAPSED))
        end_span(&spans, server->bulk_revision, basis, PRESENCE_REASON_UPDATED, server->bulk_time);
    if (status != PRESENCE_ALIVE)
        return spans;
    spans.has = true;
    if (restore > connected && restore > basis) {
        spans.began = restore;
        spans.beginning = (struct evidence){PRESENCE_ALIVE, PRESENCE_REASON_RESTORED, server->restore_time};
    }
    if (committed && !up_before && server->bulk_revision > basis) {
        spans.began = server->bulk_revision;
        spans.beginning = (struct evidence){PRESENCE_ALIVE, PRESENCE_REASON_UPDATED, server->bulk_time};
    }
    if (!spans.began)
        spans.had = false; /* one span from before the basis until now */
    return spans;
}

struct reading {
    presence_status best;
    bool goes_on; /* some row is alive, and some of them since before the basis */
    struct evidence beginning, end;
    uint64_t began, ended;
    /* Of the newest list that is being swept: what it is to agents that it brings or drops, or states as missing. */
    struct evidence swept_now, stated_missing;
    uint64_t swept;
};

static void read_row(struct reading *reading, uint64_t stamp, const struct server *server, uint64_t basis)
{
    presence_status status = row_status(stamp, server);
    struct alive_spans spans = spans_of(stamp, server, basis);
    if (status > reading->best)
        reading->best = status;
    if (spans.has && !spans.began)
        reading->goes_on = true;
    if (spans.has && spans.began && (!reading->began || spans.began < reading->began)) {
        reading->began = spans.began;
        reading->beginning = spans.beginning;
    }
    if (spans.had && spans.ended > reading->ended) { /* `had` says that it is after the basis */
        reading->ended = spans.ended;
        reading->end = spans.end;
    }
    if (server->bulk != BULK_COMMITTED || server->bulk_revision < reading->swept)
        return;
    reading->swept = server->bulk_revision;
    reading->swept_now = (struct evidence){PRESENCE_UNKNOWN, PRESENCE_REASON_UPDATED, server->bulk_time};
    if (row_mark(stamp) == MARK_FRESH_MISSING && server->down.revision)
        reading->stated_missing =
            (struct evidence){PRESENCE_MISSING, (presence_reason)server->down.reason, server->down.time};
}

struct evidence evidence_now(const struct roots *roots, uint32_t number)
{
    const struct agent *agent = agent_get(roots, number);
    struct evidence recorded = {agent_recorded_status(agent), (presence_reason)(agent->hash_reason >> INDEX_HASH_BITS),
                                agent->since};
    uint64_t basis = basis_of(roots, agent);
    if (basis >= roots->event_revision)
        return recorded; /* nothing happened to any server since */
    struct reading reading = {0};
    for (uint32_t at = agent->first; at != NONE;) {
        uint64_t stamp = row_stamp(roots, at);
        if (!(stamp & ROW_CONTROLLER))
            read_row(&reading, stamp, server_get(roots, row_server(roots, at)), basis);
        at = row_next(roots, at, stamp);
    }
    struct evidence now = recorded;
    bool states_missing = reading.stated_missing.status == PRESENCE_MISSING;
    if (reading.best == PRESENCE_ALIVE) {
        if (!reading.goes_on && !(recorded.status == PRESENCE_ALIVE && reading.ended >= reading.began))
            now = reading.beginning;
    } else if (reading.best == PRESENCE_MISSING) {
        if (reading.ended)
            now = states_missing && reading.ended == reading.swept ? reading.stated_missing : reading.end;
        else if (recorded.status == PRESENCE_UNKNOWN && reading.swept)
            now = states_missing ? reading.stated_missing : reading.swept_now;
    } else if (recorded.status != PRESENCE_UNKNOWN && reading.swept) {
        now = reading.swept_now;
    }
    now.status = reading.best;
    return now;
}

void evidence_fill(const struct roots *roots, uint32_t number, presence_evidence *out)
{
    *out = (presence_evidence){0};
    bool seen = false;
    for (uint32_t at = agent_get(roots, number)->first; at != NONE;) {
        struct row row = *row_get(roots, at);
        const struct server *server = server_get(roots, row_server(roots, at));
        presence_status status = row.stamp & ROW_CONTROLLER ? PRESENCE_UNKNOWN : row_status(row.stamp, server);
        if (status != PRESENCE_UNKNOWN) {
            *(status == PRESENCE_ALIVE ? &out->alive : &out->missing) += 1;
            presence_time last_seen = row_last_seen(row.last_seen, row.stamp, server);
            if (!seen || last_seen > out->last_seen)
                out->last_seen = last_seen;
            seen = true;
        }
        at = row_next(roots, at, row.stamp);
    }
    if (!seen)
        return;
    struct evidence now = evidence_now(roots, number);
    out->status = now.status;
    out->reason = now.reason;
    out->since = now.since;
}

/* The best status among the rows; no more rows are looked at once it is `enough`. */
static presence_status best_up_to(const struct roots *roots, uint32_t number, uint32_t only_server,
                                  presence_status enough)
{
    presence_status best = PRESENCE_UNKNOWN;
    for (uint32_t at = agent_get(roots, number)->first; at != NONE;) {
        uint64_t stamp = row_stamp(roots, at);
        uint32_t server = row_server(roots, at);
        if (!(stamp & ROW_CONTROLLER) && (only_server == NONE || only_server == server)) {
            presence_status status = row_status(stamp, server_get(roots, server));
            if (status > best)
                best = status;
            if (best >= enough)
                return best;
        }
        at = row_next(roots, at, stamp);
    }
    return best;
}

presence_status evidence_best_on_server(const struct roots *roots, uint32_t agent, uint32_t server)
{
    return best_up_to(roots, agent, server, PRESENCE_ALIVE);
}

presence_status evidence_walked(const struct roots *roots, uint32_t agent)
{
    return best_up_to(roots, agent, NONE, PRESENCE_ALIVE);
}

presence_status evidence_best(const struct roots *roots, uint32_t number)
{
    const struct agent *agent = agent_get(roots, number);
    if (agent->events == roots->events)
        return agent_recorded_status(agent);
    return best_up_to(roots, number, NONE, PRESENCE_ALIVE);
}

presence_status evidence_best_by_rows(struct registry *registry, uint32_t number)
{
    struct roots *now = &registry->now;
    const struct agent *agent = agent_get(now, number);
    presence_status best = best_up_to(now, number, NONE, PRESENCE_ALIVE);
    bool own = pv_owns_page(&now->agents.pages, &registry->versions, number >> AGENT_PAGE_BITS);
    if (best == agent_recorded_status(agent) && own && now->events < EVENTS_MOST)
        agent_edit(registry, number)->events = now->events;
    return best;
}

/* Without a basis of its own, the record is as new as the first row: right if nothing that would count happened
 * since. */
static bool needs_basis(const struct roots *roots, uint32_t first)
{
    uint64_t stamp = row_stamp(roots, first);
    const struct server *server = server_get(roots, row_server(roots, first));
    uint64_t connected = row_revision(stamp);
    return row_next(roots, first, stamp) != NONE || row_mark(stamp) != MARK_NONE || connected <= server->floor ||
           server->lapse_revision > connected || server->restore_revision > connected;
}

static inline void write_record(struct agent *agent, uint32_t events, struct evidence evidence, bool basis)
{
    agent->events = events < EVENTS_MOST ? events : UINT32_MAX;
    agent->since = evidence.since;
    agent->hash_reason = (agent->hash_reason & INDEX_HASH_MASK) | (uint32_t)evidence.reason << INDEX_HASH_BITS;
    agent->name[AGENT_META] = (char)((agent_meta(agent) & AGENT_NAME_LONG) |
                                     (int)evidence.status << AGENT_STATUS_SHIFT | (basis ? AGENT_BASIS : 0));
}

void evidence_record(struct registry *registry, uint32_t number, struct evidence evidence)
{
    struct roots *now = &registry->now;
    struct agent *agent = agent_edit(registry, number);
    bool basis = agent->first != NONE && needs_basis(now, agent->first);
    write_record(agent, now->events, evidence, basis);
    if (basis)
        extra_edit(registry, agent->first)->basis = now->revision;
}

void evidence_record_first(struct registry *registry, uint32_t number, struct evidence evidence)
{
    write_record(agent_edit(registry, number), registry->now.events, evidence, false);
}

presence_status evidence_changed(struct registry *registry, uint32_t agent, struct evidence before, bool gained,
                                 presence_reason reason, presence_time when)
{
    presence_status enough = gained                             ? PRESENCE_ALIVE
                             : before.status > PRESENCE_UNKNOWN ? before.status
                                                                : PRESENCE_MISSING;
    presence_status after = best_up_to(&registry->now, agent, NONE, enough);
    if (after != before.status)
        before = (struct evidence){after, after == PRESENCE_UNKNOWN ? PRESENCE_REASON_NONE : reason, when};
    evidence_record(registry, agent, before);
    return after;
}
