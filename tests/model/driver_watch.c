/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_watch.c - watches of many filters, replayed onto copies of what the shadow was when they began.
 *
 * Keeps true, and so proves of the recorder: a drained watch's copy is what the shadow holds, within the filter; events
 * come in order, none twice; each is a step that its connection can take; the agent's status before and after is the
 * one of the revision before and after; agent-level events join without a gap; and a watch lags only when it may.
 */
#include "driver_inside.h"

#include <poll.h>
#include <string.h>

/* While fewer changes than this were made since the last drain, a history that is not tiny must still have them. */
enum { SURELY_KEPT = 24 };

static bool in_filter(const struct driver_watch *held, int server, const struct shadow_facts *facts)
{
    return driver_matches(&held->filter, server, facts);
}

/* The copy, as the shadow stands at the watch's beginning. */
static void begin_copy(struct driver_watch *held, const struct shadow *shown)
{
    memset(held->rows, 0, sizeof held->rows);
    memset(held->status, 0, sizeof held->status);
    for (int server = 0; server < shown->servers; server++) {
        for (unsigned id = 0; id < shown->ids; id++) {
            const struct shadow_connection *connection = &shown->server[server].connections[id];
            held->rows[server][id] = (struct driver_row){.there = connection->there,
                                                         .facts = connection->facts,
                                                         .status = shadow_status(shown, server, id),
                                                         .seen = connection->last_seen};
        }
    }
    for (int model = 0; model < shown->models; model++) {
        for (int agent = 0; agent < shown->agents; agent++) {
            held->status[model][agent] = shown->agent[model][agent].status;
        }
    }
    held->revision = shown->revision;
    held->index = 0;
    held->drained_at = shown->revision;
}

/* -------------------------------------------------------------------------------------------------------- opening */

static void fill_options(const struct driver_watch *held, presence_watch_options *options)
{
    presence_watch_options_init(options);
    options->model = held->filter.model < 0 ? NULL : universe_model(held->filter.model);
    options->server = held->filter.server < 0 ? NULL : universe_server(held->filter.server);
    options->agent = held->filter.agent < 0 ? NULL : universe_agent(held->filter.agent);
    options->agents = held->agents;
    options->kinds = held->agents ? 0 : held->kinds;
}

static void choose_filter(struct driver *driver, struct driver_watch *held)
{
    const uint32_t all = 1u << PRESENCE_EVENT_CONNECTED | 1u << PRESENCE_EVENT_RECONNECTED |
                         1u << PRESENCE_EVENT_UPDATED | 1u << PRESENCE_EVENT_DISCONNECTED |
                         1u << PRESENCE_EVENT_MISSING;
    struct driver_filter filter = DRIVER_EVERYTHING;
    unsigned shape = script_byte(&driver->script);
    held->agents = shape % 3 == 0;
    shape /= 3;
    filter.model = shape % 4 == 1 || shape % 4 == 2 ? (int)(shape % (unsigned)driver->shadow.models) : -1;
    shape /= 4;
    filter.server = !held->agents && shape % 4 == 1 ? driver_server(driver) : -1;
    shape /= 4;
    filter.agent = shape % 4 == 1 ? (int)script_below(&driver->script, (unsigned)driver->shadow.agents) : -1;
    held->filter = filter;
    unsigned kinds = script_byte(&driver->script);
    held->activity = kinds % 4 == 0;
    held->partial = kinds % 4 == 1;
    held->kinds = held->partial ? kinds & all : held->activity ? all | 1u << PRESENCE_EVENT_ACTIVITY : 0;
    held->partial = held->kinds != 0 && held->partial;
}

static uint64_t history_first(struct driver *driver)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    driver_expect(driver, "stats", presence_recorder_stats(driver->recorder, &stats), PRESENCE_OK);
    return stats.history_first;
}

/* Opens from now, or after the revision of `view` (what it shows is where the copy begins). */
static void open_watch(struct driver *driver, struct driver_watch *held, const struct driver_view *view)
{
    presence_watch_options options;
    fill_options(held, &options);
    options.from_now = view == NULL;
    options.after_revision = view == NULL ? 0 : view->shown->revision;
    uint64_t first = history_first(driver);
    driver_arm(driver);
    int code = presence_watch_open(driver->recorder, &options, &held->watch, NULL);
    driver_disarm(driver);
    if (code != PRESENCE_OK) {
        held->watch = NULL;
    }
    if (driver_tolerates(driver, code)) {
        return;
    }
    bool kept = view == NULL || first <= options.after_revision || options.after_revision == driver->shadow.revision;
    if (code == PRESENCE_E_LAGGED && view != NULL && first > options.after_revision) {
        return;
    }
    driver_expect(driver, "watch_open", code, kept ? PRESENCE_OK : PRESENCE_E_LAGGED);
    begin_copy(held, view == NULL ? &driver->shadow : view->shown);
    if (script_chance(&driver->script, 2) && presence_watch_fd(held->watch) < 0) {
        driver_differs(driver, "a watch without a descriptor");
    }
}

void driver_open_watch(struct driver *driver)
{
    struct driver_watch *held = &driver->watches[script_below(&driver->script, DRIVER_WATCHES)];
    const struct driver_view *view = &driver->views[script_below(&driver->script, DRIVER_VIEWS)];
    bool from_view = script_chance(&driver->script, 2) && view->view != NULL;
    if (held->watch != NULL) {
        return;
    }
    choose_filter(driver, held);
    driver_says(driver, "open watch %d%s model %d server %d agent %d kinds %x, %s %llu", (int)(held - driver->watches),
                held->agents ? " of agents" : "", held->filter.model, held->filter.server, held->filter.agent,
                held->kinds, from_view ? "after" : "from now,",
                (unsigned long long)(from_view ? view->shown->revision : driver->shadow.revision));
    open_watch(driver, held, from_view ? view : NULL);
}

static void close_watch(struct driver_watch *held)
{
    presence_watch_free(held->watch);
    held->watch = NULL;
}

void driver_close_watch(struct driver *driver)
{
    struct driver_watch *held = &driver->watches[script_below(&driver->script, DRIVER_WATCHES)];
    if (held->watch != NULL) {
        driver_says(driver, "close watch %d", (int)(held - driver->watches));
        close_watch(held);
    }
}

/* ---------------------------------------------------------------------------------------------------------- events */

static void check_order(struct driver *driver, struct driver_watch *held, const presence_event *event)
{
    bool activity = event->kind == PRESENCE_EVENT_ACTIVITY;
    uint64_t index = event->revision == held->revision ? held->index : 0;
    if (event->revision < held->revision || event->revision > driver->shadow.revision ||
        (!activity && event->index != index)) {
        driver_differs(driver, "watch %d: an event of %llu.%llu after %llu, index %llu expected",
                       (int)(held - driver->watches), (unsigned long long)event->revision,
                       (unsigned long long)event->index, (unsigned long long)held->revision, (unsigned long long)index);
    }
    held->revision = event->revision;
    held->index = event->index + 1;
}

/* The agent's status before and after the event's revision, where the shadow still knows it. */
static void check_statuses(struct driver *driver, const struct driver_watch *held, const presence_event *event,
                           int model, int agent)
{
    const struct shadow_statuses *before = shadow_statuses_at(&driver->shadow, event->revision - 1);
    const struct shadow_statuses *after = shadow_statuses_at(&driver->shadow, event->revision);
    if (event->kind == PRESENCE_EVENT_ACTIVITY) {
        before = after;
    }
    if ((before != NULL && event->agent_before != before->status[model][agent]) ||
        (after != NULL && event->agent_after != after->status[model][agent])) {
        driver_differs(driver, "watch %d: kind %d of %llu tells agent %d of model %d from %s to %s, expected %s to %s",
                       (int)(held - driver->watches), (int)event->kind, (unsigned long long)event->revision, agent,
                       model, presence_status_string(event->agent_before), presence_status_string(event->agent_after),
                       before == NULL ? "?" : presence_status_string(before->status[model][agent]),
                       after == NULL ? "?" : presence_status_string(after->status[model][agent]));
    }
}

/* The time of the change; activity is at the time that it tells. */
static void check_time(struct driver *driver, const struct driver_watch *held, const presence_event *event)
{
    const struct shadow_statuses *change = shadow_statuses_at(&driver->shadow, event->revision);
    bool activity = event->kind == PRESENCE_EVENT_ACTIVITY;
    if (change == NULL && !activity) {
        return;
    }
    presence_time expected = activity ? event->value.last_seen : change->time;
    if (event->time != expected) {
        driver_differs(driver, "watch %d: kind %d of %llu is of %lld, expected %lld", (int)(held - driver->watches),
                       (int)event->kind, (unsigned long long)event->revision, (long long)event->time,
                       (long long)expected);
    }
}

static void play_agent_event(struct driver *driver, struct driver_watch *held, const presence_event *event)
{
    int model = universe_model_of(event->value.model), agent = universe_agent_of(event->value.agent);
    if (event->kind != PRESENCE_EVENT_AGENT || model < 0 || agent < 0 ||
        (held->filter.model >= 0 && held->filter.model != model) ||
        (held->filter.agent >= 0 && held->filter.agent != agent)) {
        driver_differs(driver, "watch %d: an agent-level event of kind %d, model %d agent %d",
                       (int)(held - driver->watches), (int)event->kind, model, agent);
    }
    presence_status *status = &held->status[model][agent];
    if (event->agent_before != *status || event->agent_after == *status) {
        driver_differs(driver, "watch %d: agent %d of model %d goes from %s to %s, but was told to be %s",
                       (int)(held - driver->watches), agent, model, presence_status_string(event->agent_before),
                       presence_status_string(event->agent_after), presence_status_string(*status));
    }
    check_statuses(driver, held, event, model, agent);
    check_time(driver, held, event);
    const struct shadow_statuses *after = shadow_statuses_at(&driver->shadow, event->revision);
    /* A whole state's floor has a reason of its own; the state itself is an update. */
    bool by_state = event->reason == PRESENCE_REASON_UPDATED && event->agent_after == PRESENCE_MISSING;
    bool vague = driver->shadow.agent[model][agent].vague;
    if (after != NULL && !by_state && !vague && event->reason != (presence_reason)after->reason[model][agent]) {
        driver_differs(driver, "watch %d: agent %d of model %d because %s, expected %s", (int)(held - driver->watches),
                       agent, model, presence_reason_string(event->reason),
                       presence_reason_string((presence_reason)after->reason[model][agent]));
    }
    *status = event->agent_after;
}

/* Whether a connection that is as `row` says can make this step. For watches that see all of a server's connections. */
static bool is_possible(const struct driver_row *row, const presence_event *event, const struct shadow_facts *facts,
                        bool replicates)
{
    bool same = row->there && shadow_facts_equal(&row->facts, facts);
    presence_status status = event->value.status;
    switch (event->kind) {
    case PRESENCE_EVENT_CONNECTED:
        return !row->there && status != PRESENCE_UNKNOWN && row->gone_at != event->revision; /* that is an update */
    case PRESENCE_EVENT_RECONNECTED:
        /* On a lapsed server it is alive again, and still reads missing. */
        return same && row->status == PRESENCE_MISSING && status != PRESENCE_UNKNOWN;
    case PRESENCE_EVENT_UPDATED:
        /* An inherited connection that is stated again is news, though it looks as before. */
        return row->there && (!same || (replicates && row->status == status)) && status != PRESENCE_UNKNOWN;
    case PRESENCE_EVENT_DISCONNECTED:
        return same && row->status == status;
    case PRESENCE_EVENT_MISSING:
        return same && row->status == PRESENCE_ALIVE && status == PRESENCE_MISSING;
    case PRESENCE_EVENT_ACTIVITY:
        return same && row->status == status;
    default:
        return false;
    }
}

static void play_event(struct driver *driver, struct driver_watch *held, const presence_event *event)
{
    int server;
    struct shadow_facts facts;
    if (!universe_facts(&event->value, &server, &facts) || event->value.connection_id >= driver->shadow.ids) {
        driver_differs(driver, "watch %d: an event of nobody", (int)(held - driver->watches));
    }
    struct driver_row *row = &held->rows[server][event->value.connection_id];
    bool was_in = row->there && in_filter(held, server, &row->facts);
    if (!in_filter(held, server, &facts) && !was_in) {
        driver_differs(driver, "watch %d: an event of server %d id %llu, which its filter leaves out",
                       (int)(held - driver->watches), server, (unsigned long long)event->value.connection_id);
    }
    if (held->kinds != 0 && (held->kinds >> event->kind & 1) == 0) {
        driver_differs(driver, "watch %d: an event of kind %d was not asked for", (int)(held - driver->watches),
                       (int)event->kind);
    }
    if (held->kinds == 0 && event->kind == PRESENCE_EVENT_ACTIVITY) {
        driver_differs(driver, "watch %d: activity was not asked for", (int)(held - driver->watches));
    }
    check_statuses(driver, held, event, facts.model, facts.agent);
    check_time(driver, held, event);
    bool sees_all = held->filter.model < 0 && held->filter.agent < 0 && !held->partial;
    if (sees_all && !is_possible(row, event, &facts, driver->replicates)) {
        driver_differs(driver, "watch %d: kind %d of %llu for server %d id %llu (now %s), which was %s",
                       (int)(held - driver->watches), (int)event->kind, (unsigned long long)event->revision, server,
                       (unsigned long long)event->value.connection_id, presence_status_string(event->value.status),
                       row->there ? presence_status_string(row->status) : "not there");
    }
    *row = (struct driver_row){.there = event->kind != PRESENCE_EVENT_DISCONNECTED,
                               .facts = facts,
                               .status = event->value.status,
                               .seen = event->value.last_seen,
                               .gone_at = event->kind == PRESENCE_EVENT_DISCONNECTED ? event->revision : row->gone_at};
}

/* ---------------------------------------------------------------------------------------------------------- drained */

static void check_copy(struct driver *driver, const struct driver_watch *held)
{
    const struct shadow *shadow = &driver->shadow;
    for (int server = 0; server < shadow->servers; server++) {
        for (unsigned id = 0; id < shadow->ids; id++) {
            const struct driver_row *row = &held->rows[server][id];
            const struct shadow_connection *connection = &shadow->server[server].connections[id];
            bool copied = row->there && in_filter(held, server, &row->facts);
            bool expected = connection->there && in_filter(held, server, &connection->facts);
            if (copied != expected) {
                driver_differs(driver, "watch %d, drained at %llu: server %d id %u is %s the copy, but should %sbe",
                               (int)(held - driver->watches), (unsigned long long)shadow->revision, server, id,
                               copied ? "in" : "not in", expected ? "" : "not ");
            }
            if (copied && (!shadow_facts_equal(&row->facts, &connection->facts) ||
                           row->status != shadow_status(shadow, server, id))) {
                driver_differs(driver, "watch %d, drained at %llu: the copy of server %d id %u is %s, expected %s%s",
                               (int)(held - driver->watches), (unsigned long long)shadow->revision, server, id,
                               presence_status_string(row->status),
                               presence_status_string(shadow_status(shadow, server, id)),
                               shadow_facts_equal(&row->facts, &connection->facts) ? "" : ", and its facts differ");
            }
        }
    }
}

static void check_agent_copy(struct driver *driver, const struct driver_watch *held)
{
    const struct shadow *shadow = &driver->shadow;
    for (int model = 0; model < shadow->models; model++) {
        for (int agent = 0; agent < shadow->agents; agent++) {
            bool in = (held->filter.model < 0 || held->filter.model == model) &&
                      (held->filter.agent < 0 || held->filter.agent == agent);
            if (in && held->status[model][agent] != shadow->agent[model][agent].status) {
                driver_differs(driver, "watch %d, drained: agent %d of model %d was told to be %s, expected %s",
                               (int)(held - driver->watches), agent, model,
                               presence_status_string(held->status[model][agent]),
                               presence_status_string(shadow->agent[model][agent].status));
            }
        }
    }
}

/* A watch that lags must have had a reason; it stays lagged, and is opened anew some other time. */
static void take_lag(struct driver *driver, struct driver_watch *held)
{
    presence_event event;
    bool disabled = driver->shadow.disabled_at > held->drained_at;
    bool lost = history_first(driver) > presence_watch_revision(held->watch, NULL);
    uint64_t made = driver->shadow.revision - held->drained_at;
    if (!disabled && !lost && driver->failed_calls == 0) {
        driver_differs(driver, "watch %d lags, but the history has all since %llu", (int)(held - driver->watches),
                       (unsigned long long)presence_watch_revision(held->watch, NULL));
    }
    if (!disabled && made < SURELY_KEPT && driver->failed_calls == 0) {
        driver_differs(driver, "watch %d lags after %llu changes", (int)(held - driver->watches),
                       (unsigned long long)made);
    }
    driver_expect(driver, "a lagged watch", presence_watch_next(held->watch, &event), PRESENCE_E_LAGGED);
    close_watch(held);
}

static bool is_readable(struct driver_watch *held)
{
    struct pollfd descriptor = {.fd = presence_watch_fd(held->watch), .events = POLLIN};
    return poll(&descriptor, 1, 0) == 1;
}

static void check_drained(struct driver *driver, struct driver_watch *held)
{
    if (is_readable(held)) {
        driver_differs(driver, "watch %d is drained, but its descriptor is readable", (int)(held - driver->watches));
    }
    uint64_t index = 99, revision = presence_watch_revision(held->watch, &index);
    if (revision > driver->shadow.revision || revision < held->revision) {
        driver_differs(driver, "watch %d, drained, stands at %llu.%llu of %llu", (int)(held - driver->watches),
                       (unsigned long long)revision, (unsigned long long)index,
                       (unsigned long long)driver->shadow.revision);
    }
    held->drained_at = driver->shadow.revision;
    if (held->agents) {
        check_agent_copy(driver, held);
    } else if (!held->partial) {
        check_copy(driver, held);
    }
}

/* Takes up to `most` events; at the end of them all, compares the copy. */
static void drain(struct driver *driver, struct driver_watch *held, size_t most)
{
    presence_event event;
    bool readable = is_readable(held);
    for (size_t taken = 0; taken < most; taken++) {
        int code = presence_watch_next(held->watch, &event);
        if (taken == 0 && code != 0 && !readable) {
            driver_differs(driver, "watch %d has something, but its descriptor is not readable",
                           (int)(held - driver->watches));
        }
        if (code == 0) {
            check_drained(driver, held);
            return;
        }
        if (code == PRESENCE_E_LAGGED) {
            take_lag(driver, held);
            return;
        }
        driver_expect(driver, "watch_next", code, 1);
        check_order(driver, held, &event);
        if (held->agents) {
            play_agent_event(driver, held, &event);
        } else {
            play_event(driver, held, &event);
        }
    }
}

void driver_drain_watch(struct driver *driver)
{
    struct driver_watch *held = &driver->watches[script_below(&driver->script, DRIVER_WATCHES)];
    size_t most = script_chance(&driver->script, 3) ? 1 + script_below(&driver->script, 4) : SIZE_MAX;
    if (held->watch != NULL) {
        driver_says(driver, "drain watch %d of %zu events", (int)(held - driver->watches), most);
        drain(driver, held, most);
    }
}

/* Closes the watch and opens it again where it stood, inside a bulk change too: nothing lost, nothing doubled. */
void driver_resume_watch(struct driver *driver)
{
    struct driver_watch *held = &driver->watches[script_below(&driver->script, DRIVER_WATCHES)];
    if (held->watch == NULL || held->activity) {
        return;
    }
    presence_watch_options options;
    fill_options(held, &options);
    options.from_now = false;
    options.after_revision = presence_watch_revision(held->watch, &options.skip);
    driver_says(driver, "resume watch %d after %llu.%llu", (int)(held - driver->watches),
                (unsigned long long)options.after_revision, (unsigned long long)options.skip);
    presence_watch *old = held->watch;
    bool before = script_chance(&driver->script, 2);
    if (before) {
        presence_watch_free(old);
    }
    uint64_t first = history_first(driver);
    int code = presence_watch_open(driver->recorder, &options, &held->watch, NULL);
    if (!before) {
        presence_watch_free(old);
    }
    if (code != PRESENCE_OK) {
        held->watch = NULL;
        if (first <= options.after_revision) {
            driver_expect(driver, "resuming a watch", code, PRESENCE_OK);
        }
        driver_expect(driver, "resuming a watch", code, PRESENCE_E_LAGGED);
    }
}
