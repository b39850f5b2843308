/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operate.c - what operators ask for when something looks wrong: CHECK, EXPLAIN, FORGET.
 *
 * CHECK verifies every invariant of the record while writers wait: O(connections). EXPLAIN tells one agent's status
 * with everything that it rests on: O(connections of the agent). It shows the first MOST_EXPLAINED of them, or as many
 * as a fourth of max-output-bytes takes, and says how many there are: VALUES lists all. Of their servers it tells only
 * who may read those. FORGET drops a server that will not come back: O(connections of the server); in a cluster on
 * every node. Any loop's thread.
 */
#include "commands/groups.h"

#include "cluster/joined.h"
#include "sessions/sessions.h"

#include <presence/replica.h>

enum { MOST_EXPLAINED = 1000 };

static void run_check(struct call *call)
{
    presence_recorder *recorder = call->client->node->recorder;
    presence_error error = {0};
    int code = presence_recorder_check(recorder, &error);
    if (code && code != PRESENCE_E_INVALID) {
        command_failed(call, code, error.message);
        return;
    }
    presence_counts counts = {0};
    if (presence_recorder_counts(recorder, &counts) != PRESENCE_OK)
        counts = (presence_counts){0}; /* disabled: there is nothing */
    struct reply *reply = call->reply;
    reply_map(reply, 4);
    reply_key(reply, "good");
    reply_boolean(reply, code == PRESENCE_OK);
    reply_key(reply, "problem");
    if (code)
        reply_string(reply, *error.message ? error.message : presence_strerror(code));
    else
        reply_null(reply);
    reply_key(reply, "connections");
    reply_integer(reply, (int64_t)counts.connections);
    reply_key(reply, "revision");
    reply_integer(reply, (int64_t)presence_recorder_revision(recorder));
}

/* ------------------------------------------------------------------------------------------------------- explain -- */

/* Why, in a sentence. */
static const char *verdict(const presence_evidence *evidence, size_t controllers)
{
    switch (evidence->status) {
    case PRESENCE_ALIVE:
        return evidence->missing ? "at least one of its connections is alive; servers of others have gone away"
                                 : "it is connected";
    case PRESENCE_MISSING:
        switch (evidence->reason) {
        case PRESENCE_REASON_DRAINED:
            return "its server stopped on purpose, and it has not connected elsewhere since";
        case PRESENCE_REASON_TIMED_OUT:
            return "its server was not heard of for too long, and it has not connected elsewhere since";
        case PRESENCE_REASON_SUPERSEDED:
            return "a newer life of its server has begun, and it has not connected to it yet";
        case PRESENCE_REASON_LAPSED:
            return "this node lost touch with its server; it may well be alive";
        default:
            return "its server has gone away and not yet come back, and it has not connected elsewhere since";
        }
    case PRESENCE_UNKNOWN:
        break;
    }
    if (controllers > 0)
        return "only connections of a controller agent are recorded, and those never count";
    return evidence->reason == PRESENCE_REASON_NONE ? "no connection of it is known, now or of late"
                                                    : "it was connected, and closed its last connection";
}

/* Of a server: which of its lives is known, and whether that one has told all of its connections. Null for who sees one
 * model: a server serves others too. SERVER_MEMBERS
 * members of a map. */
enum { SERVER_MEMBERS = 4 };

static void say_server(struct call *call, const char *name)
{
    struct reply *reply = call->reply;
    presence_server_description server = {0};
    bool seen = command_sees_servers(call);
    presence_freshness freshness;
    bool described = seen && presence_replica_describe(call->client->node->recorder, name, &server) == PRESENCE_OK;
    reply_key(reply, "server_epoch");
    if (seen)
        reply_id(reply, described ? server.claim.epoch : 0);
    else
        reply_null(reply);
    reply_key(reply, "server_complete");
    if (seen)
        reply_boolean(reply, described && server.complete);
    else
        reply_null(reply);
    cluster_freshness(call->client->node, name, &freshness);
    reply_key(reply, "server_node");
    if (seen && *freshness.node)
        reply_string(reply, freshness.node);
    else
        reply_null(reply);
    reply_key(reply, "server_freshness");
    reply_word(reply, freshness.doubt == PRESENCE_FRESH ? "fresh" : "stale");
}

static presence_connections *slice_of_agent(const struct call *call)
{
    presence_connections *all = presence_recorder_connections(call->client->node->recorder);
    presence_connections *model = all ? presence_connections_for_model(all, call->arguments.model) : NULL;
    presence_connections *agent = model ? presence_connections_for_agent(model, call->arguments.agent) : NULL;
    presence_connections_free(all);
    presence_connections_free(model);
    return agent;
}

static size_t count_controllers(const presence_connections *slice)
{
    presence_cursor cursor = {0};
    presence_value value;
    size_t count = 0;
    while (presence_connections_next(slice, &cursor, &value))
        count += value.controller_agent;
    return count;
}

/* How many of the agent's connections are shown: one at least, if there is one. */
static size_t count_shown(const struct call *call, const presence_connections *slice)
{
    const size_t most_bytes = call->client->node->config->max_output_bytes / 4;
    presence_cursor cursor = {0};
    presence_value value;
    size_t count = 0, bytes = 0;
    while (count < MOST_EXPLAINED && presence_connections_next(slice, &cursor, &value)) {
        bytes += reply_value_bytes(&value);
        if (count > 0 && bytes > most_bytes)
            break;
        count++;
    }
    return count;
}

static void say_explanation(struct call *call, const presence_evidence *evidence, const presence_connections *slice)
{
    struct reply *reply = call->reply;
    presence_cursor cursor = {0};
    presence_value value;
    size_t shown = count_shown(call, slice);
    presence_freshness freshness;
    cluster_freshness_of_agent(call->client->node, call->arguments.model, call->arguments.agent, &freshness);
    reply_map(reply, 9 + FRESHNESS_MEMBERS);
    reply_key(reply, "model");
    reply_string(reply, call->arguments.model);
    reply_key(reply, "agent");
    reply_string(reply, call->arguments.agent);
    reply_judgement(reply, evidence->status, evidence->reason, evidence->since, evidence->last_seen);
    reply_key(reply, "verdict");
    reply_string(reply, verdict(evidence, count_controllers(slice)));
    reply_freshness(reply, &freshness);
    reply_key(reply, "connections_in_all");
    reply_integer(reply, (int64_t)presence_connections_count(slice));
    reply_key(reply, "connections");
    reply_array(reply, shown);
    for (size_t i = 0; i < shown && presence_connections_next(slice, &cursor, &value); i++) {
        reply_map(reply, REPLY_VALUE_MEMBERS + SERVER_MEMBERS);
        reply_value(reply, &value);
        say_server(call, value.server);
    }
}

static void run_explain(struct call *call)
{
    presence_evidence evidence;
    int code = presence_recorder_agent_evidence(call->client->node->recorder, call->arguments.model,
                                                call->arguments.agent, &evidence);
    presence_connections *slice = code ? NULL : slice_of_agent(call);
    if (!code && !slice)
        code = PRESENCE_E_NO_MEMORY;
    if (code)
        command_failed(call, code, NULL);
    else
        say_explanation(call, &evidence, slice);
    presence_connections_free(slice);
}

/* -------------------------------------------------------------------------------------------------------- forget -- */

/* On every node. What this one states itself it can simply state to be nothing. */
static int forget_in_cluster(struct node *node, const char *server, presence_error *error)
{
    presence_server_description known;
    if (presence_replica_describe(node->recorder, server, &known) == PRESENCE_OK && known.local)
        return presence_recorder_update_server(node->recorder, server, NULL, 0, error);
    int code = cluster_forget(node, server);
    if (code == PRESENCE_E_STALE)
        cluster_say_stale(node, server, error->message);
    return code;
}

static void run_forget(struct call *call)
{
    struct node *node = call->client->node;
    const char *server = call->arguments.server;
    presence_counts counts = {0};
    presence_error error = {0};
    if (sessions_held_by_another(call->client, server)) {
        reply_error(call->reply, ERROR_STALE, "a session holds the server, or is waited for: it is not forgotten");
        return;
    }
    int code = presence_recorder_server_counts(node->recorder, server, &counts);
    if (!code)
        code = node->cluster ? forget_in_cluster(node, server, &error)
                             : presence_replica_forget(node->recorder, server, &error);
    if (code && code != PRESENCE_E_NOT_FOUND)
        command_failed(call, code, error.message);
    else
        reply_integer(call->reply, code ? 0 : (int64_t)counts.connections);
}

static bool is_long_check(const struct call *call)
{
    presence_counts counts = {0};
    presence_recorder_counts(call->client->node->recorder, &counts);
    return counts.connections > LONG_ROWS;
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.CHECK",
        .flags = COMMAND_ADMIN,
        .least_words = 1,
        .most_words = 1,
        .syntax = "",
        .summary = "Verifies every invariant of the record, while writers wait.",
        .run = run_check,
        .is_long = is_long_check,
    },
    {
        .name = "PRESENCE.EXPLAIN",
        .flags = COMMAND_READ,
        .least_words = 3,
        .most_words = 3,
        .syntax = "model agent",
        .summary = "An agent's status with each connection that it rests on.",
        .specs = {{SLOT_MODEL, NULL}, {SLOT_AGENT, NULL}},
        .spec_count = 2,
        .run = run_explain,
    },
    {
        .name = "PRESENCE.FORGET",
        .flags = COMMAND_ADMIN | COMMAND_WRITE,
        .least_words = 2,
        .most_words = 2,
        .syntax = "server",
        .summary = "Drops a server that will not come back. How many connections it had.",
        .specs = {{SLOT_SERVER, NULL}},
        .spec_count = 1,
        .run = run_forget,
        .is_long = long_of_server,
    },
};

const struct command_group group_operate = {commands, sizeof commands / sizeof *commands};
