/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask.c - questions about agents and numbers: STATUS, STATUSES, AGENT, COUNT.
 *
 * STATUS and AGENT ask the record as it is, O(connections of the agent) each, and STATUSES sorts the agents of a view,
 * O(agents log agents); what is asked again and again of a record at rest is answered from what was said before
 * (answers.h). COUNT of everything, of one server or of
 * one model is O(1); any other filter walks the smallest slice that holds it. Any loop's thread.
 */
#include "cluster/joined.h"
#include "commands/answers.h"
#include "commands/groups.h"
#include "commands/run.h"

#include <stdlib.h>

/* Asks for all the call's agents, a block at a time. False: an error was said. */
static bool ask_statuses(struct call *call, uint8_t *statuses)
{
    const struct arguments *arguments = &call->arguments;
    presence_agent_key keys[RUN_MOST];
    for (size_t at = 0, count; at < arguments->rest_count; at += count) {
        count = arguments->rest_count - at < RUN_MOST ? arguments->rest_count - at : RUN_MOST;
        for (size_t i = 0; i < count; i++)
            keys[i] = (presence_agent_key){.model = arguments->model, .agent = arguments->rest[at + i].text};
        int code = presence_recorder_agent_statuses(call->client->node->recorder, keys, count);
        for (size_t i = 0; i < count; i++) {
            code = code ? code : keys[i].code;
            statuses[at + i] = (uint8_t)keys[i].status;
        }
        if (code) {
            command_failed(call, code, NULL);
            return false;
        }
    }
    return true;
}

/* An error is a whole reply, so nothing is said before every agent has been answered. */
static void run_status(struct call *call)
{
    enum { FEW = 1024 };
    const size_t count = call->arguments.rest_count;
    struct answer_place place;
    const uint8_t *known = answer_find(call, &place);
    if (known) {
        reply_statuses(call->reply, known, count);
        return;
    }
    uint8_t few[FEW], *statuses = count <= FEW ? few : malloc(count);
    if (!statuses) {
        command_failed(call, PRESENCE_E_NO_MEMORY, NULL);
        return;
    }
    if (ask_statuses(call, statuses)) {
        reply_statuses(call->reply, statuses, count);
        answer_keep(call, &place, statuses);
    }
    if (statuses != few)
        free(statuses);
}

/* `STATUS model agent`, of one agent. */
static bool gather_status(struct call *call, struct run *run)
{
    const struct slice *words = call->words;
    if (call->word_count != 3 || run->count == RUN_MOST || !slice_is_text(words[1]) || !slice_is_text(words[2]))
        return false;
    run->command = call->command;
    run->agents[run->count++] = (presence_agent_key){.model = words[1].text, .agent = words[2].text};
    return true;
}

static void finish_status(struct run *run, struct client *client, struct reply *reply)
{
    int code = presence_recorder_agent_statuses(client->node->recorder, run->agents, run->count);
    for (size_t i = 0; i < run->count; i++) {
        const presence_agent_key *key = &run->agents[i];
        if (code || key->code) {
            struct call call = {.client = client, .command = run->command, .reply = reply};
            struct slice agent = slice_of(key->agent);
            call.arguments =
                (struct arguments){.given = 1U << SLOT_NAMES, .model = key->model, .rest = &agent, .rest_count = 1};
            command_failed(&call, code ? code : key->code, NULL);
        } else {
            reply_array(reply, 1);
            reply_word(reply, presence_status_string(key->status));
        }
    }
}

/* All agents of the slice with their statuses, where they fit what a client may have waiting; what was said is kept. */
static void say_statuses(struct call *call, const presence_connections *slice, char *const *names, size_t count)
{
    enum { BYTES_BESIDE_A_NAME = 26 };
    const size_t from = answer_begins(call);
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += strlen(names[i]) + BYTES_BESIDE_A_NAME;
    if (bytes > call->client->node->config->max_output_bytes / 2) {
        reply_error(call->reply, ERROR_BUSY,
                    "%zu agents are too many for one reply: ask for pages, by PRESENCE.AGENTS with DETAILS", count);
        return;
    }
    reply_map(call->reply, count);
    for (size_t i = 0; i < count; i++) {
        presence_status status = PRESENCE_UNKNOWN;
        presence_connections_agent_status(slice, names[i], &status);
        reply_key(call->reply, names[i]);
        reply_word(call->reply, presence_status_string(status));
    }
    answer_keep_model(call, presence_connections_revision(slice), from);
}

static void run_statuses(struct call *call)
{
    char **names = NULL;
    size_t count = 0;
    if (answer_say_model(call))
        return;
    int code = presence_recorder_is_enabled(call->client->node->recorder) ? PRESENCE_OK : PRESENCE_E_DISABLED;
    if (!code && name_problem(slice_of(call->arguments.model)))
        code = PRESENCE_E_INVALID;
    presence_connections *slice = code ? NULL : command_slice(call);
    if (!code)
        code = slice ? presence_connections_agents(slice, &names, &count) : PRESENCE_E_NO_MEMORY;
    if (code)
        command_failed(call, code, NULL);
    else
        say_statuses(call, slice, names, count);
    presence_names_free(names);
    presence_connections_free(slice);
}

static void run_agent(struct call *call)
{
    presence_evidence evidence;
    int code = presence_recorder_agent_evidence(call->client->node->recorder, call->arguments.model,
                                                call->arguments.agent, &evidence);
    if (code) {
        command_failed(call, code, NULL);
        return;
    }
    presence_freshness freshness;
    cluster_freshness_of_agent(call->client->node, call->arguments.model, call->arguments.agent, &freshness);
    reply_map(call->reply, 5 + FRESHNESS_MEMBERS);
    reply_evidence(call->reply, &evidence);
    reply_freshness(call->reply, &freshness);
}

static size_t count_status(const presence_connections *slice, presence_status status)
{
    presence_cursor cursor = {0};
    presence_value value;
    size_t count = 0;
    while (presence_connections_next(slice, &cursor, &value))
        count += value.status == status;
    return count;
}

static void count_slice(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    presence_connections *slice = command_slice(call);
    if (!slice) {
        command_failed(call, PRESENCE_E_NO_MEMORY, NULL);
        return;
    }
    size_t count = argument_given(arguments, SLOT_STATUS) ? count_status(slice, arguments->status)
                                                          : presence_connections_count(slice);
    presence_connections_free(slice);
    reply_integer(call->reply, (int64_t)count);
}

static size_t of_status(const struct arguments *arguments, const presence_counts *counts)
{
    if (!argument_given(arguments, SLOT_STATUS))
        return counts->connections;
    return arguments->status == PRESENCE_ALIVE     ? counts->alive
           : arguments->status == PRESENCE_MISSING ? counts->missing
                                                   : 0; /* what is recorded is not unknown */
}

static void run_count(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    presence_recorder *recorder = call->client->node->recorder;
    presence_counts counts;
    struct slice names[] = {slice_of(arguments->server ? arguments->server : "-"),
                            slice_of(arguments->model ? arguments->model : "-"),
                            slice_of(arguments->agent ? arguments->agent : "-")};
    int code = presence_recorder_is_enabled(recorder) ? PRESENCE_OK : PRESENCE_E_DISABLED;
    for (size_t i = 0; !code && i < 3; i++)
        code = name_problem(names[i]) ? PRESENCE_E_INVALID : PRESENCE_OK;
    if (!code && (arguments->model || arguments->agent)) {
        count_slice(call);
        return;
    }
    if (!code)
        code = arguments->server ? presence_recorder_server_counts(recorder, arguments->server, &counts)
                                 : presence_recorder_counts(recorder, &counts);
    if (code)
        command_failed(call, code, NULL);
    else
        reply_integer(call->reply, (int64_t)of_status(arguments, &counts));
}

/* Of everything or one server the recorder has counts, and of an agent there are few. */
static bool is_long_count(const struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    bool walks = arguments->server || argument_given(arguments, SLOT_STATUS);
    return arguments->model && !arguments->agent && walks && long_of_filters(call);
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.STATUS",
        .flags = COMMAND_READ,
        .least_words = 3,
        .most_words = -1,
        .syntax = "model agent [agent ...]",
        .summary = "Whether agents are alive, missing or unknown.",
        .specs = {{SLOT_MODEL, NULL}, {SLOT_NAMES, NULL}},
        .spec_count = 2,
        .run = run_status,
        .gather = gather_status,
        .finish = finish_status,
    },
    {
        .name = "PRESENCE.STATUSES",
        .flags = COMMAND_READ,
        .least_words = 2,
        .most_words = 2,
        .syntax = "model",
        .summary = "A model's agents, sorted, each with its status.",
        .specs = {{SLOT_MODEL, NULL}},
        .spec_count = 1,
        .run = run_statuses,
        .is_long = long_of_filters,
    },
    {
        .name = "PRESENCE.AGENT",
        .flags = COMMAND_READ,
        .least_words = 3,
        .most_words = 3,
        .syntax = "model agent",
        .summary = "An agent's status and the evidence for it.",
        .specs = {{SLOT_MODEL, NULL}, {SLOT_AGENT, NULL}},
        .spec_count = 2,
        .run = run_agent,
    },
    {
        .name = "PRESENCE.COUNT",
        .flags = COMMAND_READ,
        .least_words = 1,
        .most_words = 9,
        .syntax = "[MODEL model] [SERVER server] [AGENT agent] [STATUS status]",
        .summary = "How many connections are recorded.",
        .specs = {{SLOT_MODEL, "MODEL"}, {SLOT_SERVER, "SERVER"}, {SLOT_AGENT, "AGENT"}, {SLOT_STATUS, "STATUS"}},
        .spec_count = 4,
        .run = run_count,
        .is_long = is_long_count,
    },
};

const struct command_group group_ask = {commands, sizeof commands / sizeof *commands};
