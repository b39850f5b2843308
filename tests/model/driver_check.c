/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_check.c - compares the recorder, and any slice of any view, with a shadow.
 *
 * Keeps true: nothing that the public headers let one ask of a recorder or a view is left out. Called by the driver
 * after its steps. A whole comparison costs some tens of slices, each a walk of everything.
 */
#include "driver_inside.h"

#include <stdlib.h>
#include <string.h>

enum { PAIRS = 10, DEEP = 4 };

/* ----------------------------------------------------------------------------------------------------------- slices */

bool driver_matches(const struct driver_filter *filter, int server, const struct shadow_facts *facts)
{
    return !filter->nothing && (filter->model < 0 || filter->model == facts->model) &&
           (filter->server < 0 || filter->server == server) && (filter->agent < 0 || filter->agent == facts->agent);
}

struct driver_filter driver_narrow(struct driver_filter filter, int kind, int name)
{
    int *held = kind == 0 ? &filter.model : kind == 1 ? &filter.server : &filter.agent;
    filter.nothing = filter.nothing || (*held >= 0 && *held != name);
    *held = name;
    return filter;
}

presence_connections *driver_slice(struct driver *driver, const presence_connections *from, int kind, int name)
{
    presence_connections *slice = kind == 0   ? presence_connections_for_model(from, universe_model(name))
                                  : kind == 1 ? presence_connections_for_server(from, universe_server(name))
                                              : presence_connections_for_agent(from, universe_agent(name));
    if (slice == NULL) {
        driver_differs(driver, "no memory for a slice");
    }
    return slice;
}

static void check_value(struct driver *driver, const presence_value *value, const struct shadow *shown,
                        const struct driver_filter *filter)
{
    int server;
    struct shadow_facts facts;
    if (!universe_facts(value, &server, &facts) || server >= shown->servers || value->connection_id >= shown->ids) {
        driver_differs(driver, "a view has a connection of nobody, server '%.40s' agent '%.40s'", value->server,
                       value->agent);
    }
    unsigned id = (unsigned)value->connection_id;
    const struct shadow_connection *connection = &shown->server[server].connections[id];
    if (!connection->there || !driver_matches(filter, server, &connection->facts)) {
        driver_differs(driver, "a slice (model %d server %d agent %d) has server %d id %u, which is not of it",
                       filter->model, filter->server, filter->agent, server, id);
    }
    if (!shadow_facts_equal(&connection->facts, &facts)) {
        driver_differs(driver, "server %d id %u is model %d agent %d data %d controller %d, expected %d %d %d %d",
                       server, id, facts.model, facts.agent, facts.data, facts.controller, connection->facts.model,
                       connection->facts.agent, connection->facts.data, connection->facts.controller);
    }
    if (value->status != shadow_status(shown, server, id)) {
        driver_differs(driver, "server %d id %u is %s, expected %s", server, id, presence_status_string(value->status),
                       presence_status_string(shadow_status(shown, server, id)));
    }
    if (value->last_seen != connection->last_seen) {
        driver_differs(driver, "server %d id %u was last seen %lld, expected %lld", server, id,
                       (long long)value->last_seen, (long long)connection->last_seen);
    }
}

/* Walks the slice: every connection once, and no other. */
static void check_walk(struct driver *driver, const presence_connections *slice, const struct shadow *shown,
                       const struct driver_filter *filter)
{
    bool seen[SHADOW_SERVERS][SHADOW_IDS] = {{false}};
    size_t expected = 0, walked = 0;
    for (int server = 0; server < shown->servers; server++) {
        for (unsigned id = 0; id < shown->ids; id++) {
            const struct shadow_connection *connection = &shown->server[server].connections[id];
            expected += connection->there && driver_matches(filter, server, &connection->facts);
        }
    }
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(slice, &cursor, &value)) {
        check_value(driver, &value, shown, filter);
        bool *mark = &seen[universe_server_of(value.server)][value.connection_id];
        if (*mark) {
            driver_differs(driver, "a walk meets server '%.40s' id %llu twice", value.server,
                           (unsigned long long)value.connection_id);
        }
        *mark = true;
        walked++;
    }
    if (walked != expected || presence_connections_count(slice) != expected) {
        driver_differs(driver, "a slice (model %d server %d agent %d%s) walks %zu, counts %zu, expected %zu",
                       filter->model, filter->server, filter->agent, filter->nothing ? " nothing" : "", walked,
                       presence_connections_count(slice), expected);
    }
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of one kind in the slice, sorted by bytes, without repeats. */
static void check_names(struct driver *driver, const presence_connections *slice, const struct shadow *shown,
                        const struct driver_filter *filter, int kind)
{
    bool named[SHADOW_AGENTS > SHADOW_SERVERS ? SHADOW_AGENTS : SHADOW_SERVERS] = {false};
    const char *expected[SHADOW_AGENTS];
    size_t expected_count = 0, count = 0;
    for (int server = 0; server < shown->servers; server++) {
        for (unsigned id = 0; id < shown->ids; id++) {
            const struct shadow_connection *connection = &shown->server[server].connections[id];
            int name = kind == 0 ? connection->facts.model : kind == 1 ? server : connection->facts.agent;
            if (connection->there && driver_matches(filter, server, &connection->facts) && !named[name]) {
                named[name] = true;
                expected[expected_count++] = kind == 0   ? universe_model(name)
                                             : kind == 1 ? universe_server(name)
                                                         : universe_agent(name);
            }
        }
    }
    qsort(expected, expected_count, sizeof expected[0], by_bytes);
    char **names = NULL;
    int code = kind == 0   ? presence_connections_models(slice, &names, &count)
               : kind == 1 ? presence_connections_servers(slice, &names, &count)
                           : presence_connections_agents(slice, &names, &count);
    driver_expect(driver, "listing names", code, PRESENCE_OK);
    if (count != expected_count) {
        driver_differs(driver, "a slice (model %d server %d agent %d) lists %zu names of kind %d, expected %zu",
                       filter->model, filter->server, filter->agent, count, kind, expected_count);
    }
    for (size_t at = 0; at < count; at++) {
        if (strcmp(names[at], expected[at]) != 0) {
            driver_differs(driver, "name %zu of kind %d is '%.40s', expected '%.40s'", at, kind, names[at],
                           expected[at]);
        }
    }
    presence_names_free(names);
}

static presence_status best_in(const struct shadow *shown, const struct driver_filter *filter, int agent)
{
    bool impossible = filter->nothing || (filter->agent >= 0 && filter->agent != agent);
    return impossible ? PRESENCE_UNKNOWN : shadow_agent_status(shown, filter->server, filter->model, agent);
}

static void check_agent(struct driver *driver, const presence_connections *slice, const struct shadow *shown,
                        const struct driver_filter *filter, int agent)
{
    presence_status status = PRESENCE_UNKNOWN;
    presence_evidence evidence;
    int expected = filter->model < 0 ? PRESENCE_E_AMBIGUOUS : PRESENCE_OK;
    int code = presence_connections_agent_status(slice, universe_agent(agent), &status);
    driver_expect(driver, "agent_status of a slice", code, expected);
    code = presence_connections_agent_evidence(slice, universe_agent(agent), &evidence);
    driver_expect(driver, "agent_evidence of a slice", code, expected);
    if (expected != PRESENCE_OK) {
        return;
    }
    if (status != best_in(shown, filter, agent)) {
        driver_differs(driver, "agent %d of model %d is %s in a slice (server %d agent %d), expected %s", agent,
                       filter->model, presence_status_string(status), filter->server, filter->agent,
                       presence_status_string(best_in(shown, filter, agent)));
    }
    if (!filter->nothing) {
        driver_check_evidence(driver, shown, filter->model, agent, &evidence, false);
    }
}

/* One connection by its key: found exactly if it is in the slice. */
static void check_find(struct driver *driver, const presence_connections *slice, const struct shadow *shown,
                       const struct driver_filter *filter)
{
    int server = (int)(driver->step % (size_t)shown->servers);
    unsigned id = (unsigned)(driver->step / 3 % shown->ids);
    const struct shadow_connection *connection = &shown->server[server].connections[id];
    presence_value value;
    int code = presence_connections_find(slice, universe_server(server), id, &value);
    bool in = connection->there && driver_matches(filter, server, &connection->facts);
    driver_expect(driver, "find in a slice", code, in ? PRESENCE_OK : PRESENCE_E_NOT_FOUND);
    if (in) {
        check_value(driver, &value, shown, filter);
        if (value.connection_id != id || universe_server_of(value.server) != server) {
            driver_differs(driver, "find of server %d id %u gave another", server, id);
        }
    }
}

void driver_check_slice(struct driver *driver, const presence_connections *slice, const struct shadow *shown,
                        const struct driver_filter *filter)
{
    if (presence_connections_revision(slice) != shown->revision) {
        driver_differs(driver, "a view has revision %llu, expected %llu",
                       (unsigned long long)presence_connections_revision(slice), (unsigned long long)shown->revision);
    }
    check_walk(driver, slice, shown, filter);
    for (int kind = 0; kind < 3; kind++) {
        check_names(driver, slice, shown, filter, kind);
    }
    int agents = shown->agents < 8 ? shown->agents : 8;
    for (int at = 0; at < agents; at++) {
        check_agent(driver, slice, shown, filter, (int)((driver->step + (size_t)at) % (size_t)shown->agents));
    }
    check_find(driver, slice, shown, filter);
}

/* --------------------------------------------------------------------------------------------------------- evidence */

static void check_left(struct driver *driver, const struct shadow *shown, int model, int agent,
                       const presence_evidence *evidence, bool live)
{
    const struct shadow_agent *expected = &shown->agent[model][agent];
    size_t kept = driver->options.left_agents, most = (size_t)(shown->models * shown->agents);
    bool nothing = evidence->reason == PRESENCE_REASON_NONE && evidence->since == 0 && evidence->last_seen == 0;
    if (evidence->alive != 0 || evidence->missing != 0) {
        driver_differs(driver, "agent %d of model %d is unknown with connections", agent, model);
    }
    if (nothing && (expected->reason == PRESENCE_REASON_NONE || !live || kept < most || driver->runs_out)) {
        return;
    }
    if (expected->vague && live && kept > 0) {
        return;
    }
    /* Where the table is small, one list that drops an agent's connections one by one may push it out in between: then
     * last_seen is of those that were dropped after that. */
    bool forgets = kept < most || driver->runs_out; /* without memory the table forgets instead of failing */
    bool seen =
        forgets ? evidence->last_seen <= expected->left_last_seen : evidence->last_seen == expected->left_last_seen;
    if (!live || kept == 0 || evidence->reason != expected->reason || evidence->since != expected->since || !seen) {
        driver_differs(
            driver, "agent %d of model %d, unknown, is told as %s since %lld seen %lld, expected %s %lld %lld", agent,
            model, presence_reason_string(evidence->reason), (long long)evidence->since, (long long)evidence->last_seen,
            presence_reason_string(expected->reason), (long long)expected->since, (long long)expected->left_last_seen);
    }
}

void driver_check_evidence(struct driver *driver, const struct shadow *shown, int model, int agent,
                           const presence_evidence *evidence, bool live)
{
    const struct shadow_agent *expected = &shown->agent[model][agent];
    size_t alive = 0, missing = 0;
    for (int server = 0; server < shown->servers; server++) {
        for (unsigned id = 0; id < shown->ids; id++) {
            const struct shadow_connection *connection = &shown->server[server].connections[id];
            bool counts = connection->there && connection->facts.model == model && connection->facts.agent == agent &&
                          !connection->facts.controller;
            alive += counts && shadow_status(shown, server, id) == PRESENCE_ALIVE;
            missing += counts && shadow_status(shown, server, id) == PRESENCE_MISSING;
        }
    }
    if (evidence->status != expected->status) {
        driver_differs(driver, "the evidence of agent %d of model %d says %s, expected %s", agent, model,
                       presence_status_string(evidence->status), presence_status_string(expected->status));
    }
    if (expected->status == PRESENCE_UNKNOWN) {
        check_left(driver, shown, model, agent, evidence, live);
        return;
    }
    if (evidence->alive != alive || evidence->missing != missing ||
        evidence->last_seen != shadow_agent_seen(shown, model, agent)) {
        driver_differs(driver,
                       "the evidence of agent %d of model %d has %zu alive, %zu missing, seen %lld; expected %zu, "
                       "%zu, %lld",
                       agent, model, evidence->alive, evidence->missing, (long long)evidence->last_seen, alive, missing,
                       (long long)shadow_agent_seen(shown, model, agent));
    }
    if (!expected->vague && (evidence->reason != expected->reason || evidence->since != expected->since)) {
        driver_differs(driver, "agent %d of model %d is %s because %s since %lld, expected %s since %lld", agent, model,
                       presence_status_string(evidence->status), presence_reason_string(evidence->reason),
                       (long long)evidence->since, presence_reason_string(expected->reason),
                       (long long)expected->since);
    }
}

/* ----------------------------------------------------------------------------------------------------- live answers */

static void check_live_agents(struct driver *driver)
{
    const struct shadow *shadow = &driver->shadow;
    int expected = shadow->enabled ? PRESENCE_OK : PRESENCE_E_DISABLED;
    for (int model = 0; model < shadow->models; model++) {
        for (int agent = 0; agent < shadow->agents; agent++) {
            presence_status status = PRESENCE_UNKNOWN;
            presence_evidence evidence;
            int code =
                presence_recorder_agent_status(driver->recorder, universe_model(model), universe_agent(agent), &status);
            driver_expect(driver, "agent_status", code, expected);
            code = presence_recorder_agent_evidence(driver->recorder, universe_model(model), universe_agent(agent),
                                                    &evidence);
            driver_expect(driver, "agent_evidence", code, expected);
            if (expected != PRESENCE_OK) {
                continue;
            }
            if (status != shadow_agent_status(shadow, -1, model, agent)) {
                driver_differs(driver, "agent %d of model %d is %s, expected %s", agent, model,
                               presence_status_string(status),
                               presence_status_string(shadow_agent_status(shadow, -1, model, agent)));
            }
            presence_status *known = &driver->known_status[model][agent];
            if (driver->known_revision == shadow->revision && *known != status) {
                driver_differs(driver, "agent %d of model %d is %s, and was %s at the same revision", agent, model,
                               presence_status_string(status), presence_status_string(*known));
            }
            *known = status;
            driver_check_evidence(driver, shadow, model, agent, &evidence, true);
        }
    }
    driver->known_revision = shadow->enabled ? shadow->revision : UINT64_MAX;
}

static void check_counts(struct driver *driver, const char *what, const presence_counts *got, presence_counts expected)
{
    if (got->connections != expected.connections || got->alive != expected.alive || got->missing != expected.missing) {
        driver_differs(driver, "%s counts %zu, %zu alive, %zu missing, expected %zu, %zu, %zu", what, got->connections,
                       got->alive, got->missing, expected.connections, expected.alive, expected.missing);
    }
}

static void check_model_counts(struct driver *driver, int model)
{
    const struct shadow *shadow = &driver->shadow;
    size_t connections = 0, agents = 0, expected = 0, expected_agents = 0;
    bool named[SHADOW_AGENTS] = {false};
    for (int server = 0; server < shadow->servers; server++) {
        for (unsigned id = 0; id < shadow->ids; id++) {
            const struct shadow_connection *connection = &shadow->server[server].connections[id];
            if (connection->there && connection->facts.model == model) {
                expected++;
                expected_agents += !named[connection->facts.agent];
                named[connection->facts.agent] = true;
            }
        }
    }
    int code = presence_recorder_model_counts(driver->recorder, universe_model(model), &connections, &agents);
    driver_expect(driver, "model_counts", code, PRESENCE_OK);
    if (connections != expected || agents != expected_agents) {
        driver_differs(driver, "model %d counts %zu connections of %zu agents, expected %zu of %zu", model, connections,
                       agents, expected, expected_agents);
    }
}

static void check_live_counts(struct driver *driver)
{
    const struct shadow *shadow = &driver->shadow;
    presence_counts counts;
    int code = presence_recorder_counts(driver->recorder, &counts);
    driver_expect(driver, "counts", code, shadow->enabled ? PRESENCE_OK : PRESENCE_E_DISABLED);
    if (!shadow->enabled) {
        return;
    }
    check_counts(driver, "the recorder", &counts, shadow_counts(shadow, -1));
    for (int server = 0; server < shadow->servers; server++) {
        code = presence_recorder_server_counts(driver->recorder, universe_server(server), &counts);
        driver_expect(driver, "server_counts", code, PRESENCE_OK);
        check_counts(driver, "a server", &counts, shadow_counts(shadow, server));
    }
    for (int model = 0; model < shadow->models; model++) {
        check_model_counts(driver, model);
    }
}

static void check_stats(struct driver *driver)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    driver_expect(driver, "stats", presence_recorder_stats(driver->recorder, &stats), PRESENCE_OK);
    presence_counts counts = shadow_counts(&driver->shadow, -1);
    if (stats.revision != driver->shadow.revision || stats.connections != counts.connections ||
        stats.alive != counts.alive) {
        driver_differs(driver, "stats say revision %llu, %llu connections, %llu alive; expected %llu, %zu, %zu",
                       (unsigned long long)stats.revision, (unsigned long long)stats.connections,
                       (unsigned long long)stats.alive, (unsigned long long)driver->shadow.revision, counts.connections,
                       counts.alive);
    }
    uint64_t watches = 0;
    for (int at = 0; at < DRIVER_WATCHES; at++) {
        watches += driver->watches[at].watch != NULL;
    }
    if (stats.watches != watches || stats.left_agents > driver->options.left_agents ||
        stats.used_bytes > stats.allocated_bytes ||
        (driver->options.limit_names != 0 && stats.names > driver->options.limit_names)) {
        driver_differs(driver, "stats say %llu watches, %llu agents left, %llu of %llu bytes used, %llu names",
                       (unsigned long long)stats.watches, (unsigned long long)stats.left_agents,
                       (unsigned long long)stats.used_bytes, (unsigned long long)stats.allocated_bytes,
                       (unsigned long long)stats.names);
    }
}

/* ----------------------------------------------------------------------------------------------------- comparisons */

static presence_connections *take_view(struct driver *driver)
{
    presence_connections *view = presence_recorder_connections(driver->recorder);
    if (view == NULL) {
        driver_differs(driver, "no memory for a view");
    }
    return view;
}

/* A slice two (or three) deep, by choices that follow from the step, so that a fuzzer's bytes are not spent on it. */
static void check_some_slice(struct driver *driver, const presence_connections *view, size_t choice, int depth)
{
    const int bounds[] = {driver->shadow.models, driver->shadow.servers, driver->shadow.agents};
    struct driver_filter filter = DRIVER_EVERYTHING;
    presence_connections *slices[DEEP];
    const presence_connections *from = view;
    for (int level = 0; level < depth; level++) {
        int kind = (int)(choice % 3);
        choice /= 3;
        int name = (int)(choice % (size_t)bounds[kind]);
        choice /= (size_t)bounds[kind];
        filter = driver_narrow(filter, kind, name);
        from = slices[level] = driver_slice(driver, from, kind, name);
    }
    driver_check_slice(driver, from, &driver->shadow, &filter);
    for (int level = 0; level < depth; level++) {
        presence_connections_free(slices[level]);
    }
}

void driver_check_step(struct driver *driver)
{
    if (presence_recorder_revision(driver->recorder) != driver->shadow.revision) {
        driver_differs(driver, "the revision is %llu, expected %llu",
                       (unsigned long long)presence_recorder_revision(driver->recorder),
                       (unsigned long long)driver->shadow.revision);
    }
    if (presence_recorder_is_enabled(driver->recorder) != driver->shadow.enabled) {
        driver_differs(driver, "enabled is %d", !driver->shadow.enabled);
    }
    driver_follow_statements(driver);
    if (driver->shadow.ids <= 40 || driver->step % 16 == 0) {
        presence_error error = {0};
        if (presence_recorder_check(driver->recorder, &error) != PRESENCE_OK) {
            driver_differs(driver, "presence_recorder_check: %s", error.message);
        }
    }
}

void driver_check_all(struct driver *driver)
{
    static const struct driver_filter everything = {.model = -1, .server = -1, .agent = -1};
    size_t dice = (driver->step + 1) * 2654435761u % 1000003u;
    check_live_counts(driver);
    check_live_agents(driver);
    check_stats(driver);
    driver_check_servers(driver);
    presence_connections *view = take_view(driver);
    driver_check_slice(driver, view, &driver->shadow, &everything);
    for (size_t at = 0; at < PAIRS; at++) {
        check_some_slice(driver, view, dice + at * 7919, 1 + (int)(at % 3));
    }
    presence_connections_free(view);
    driver_check_held_views(driver);
}
