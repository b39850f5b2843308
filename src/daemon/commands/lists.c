/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lists.c - UPDATESERVER and MERGESERVER: all that a server has, in one command or gathered in parts.
 *
 * In one command they are the recorder's update_server and merge_server. In parts, both are merge_server_since the
 * revision of BEGIN: ids that connected or disconnected while the list was being sent keep their newer fate.
 *
 * Keeps true: all or nothing. A part that is refused spoils its list, so that a client that pipelines its parts and
 * does not look at their replies cannot commit half a list. O(values) beside the recorder; the client's own loop.
 */
#include "commands/lists.h"

#include "cluster/joined.h"
#include "commands/groups.h"
#include "sessions/sessions.h"

#include <stdlib.h>

enum { WORDS_A_VALUE = 5 }; /* model agent id 0|1 data */

static int state_list(presence_recorder *recorder, const char *server, const presence_value *values, size_t count,
                      bool merge, presence_error *error)
{
    return merge ? presence_recorder_merge_server(recorder, server, values, count, error)
                 : presence_recorder_update_server(recorder, server, values, count, error);
}

void lists_state(struct call *call, const presence_value *values, size_t count, bool merge)
{
    struct node *node = call->client->node;
    const char *server = call->arguments.server;
    presence_error error = {0};
    int code = limits_check(node, values, count, !merge, &error);
    if (code == PRESENCE_OK)
        code = state_list(node->recorder, server, values, count, merge, &error);
    if (command_retries(call, code))
        code = state_list(node->recorder, server, values, count, merge, &error);
    if (code)
        command_failed(call, code, error.message);
    else
        reply_integer(call->reply, (int64_t)count);
}

/* Values are counted from 0, as the recorder counts them in its errors. */
static bool refuse_value(struct call *call, size_t index, const char *what, const char *wants)
{
    reply_error(call->reply, ERROR_INVALID, "value %zu: %s %s", index, what, wants);
    return false;
}

/* One value of five words. False: an error was said. */
static bool take_value(struct call *call, const struct slice *words, size_t index, presence_value *value)
{
    static const char *const names[] = {"model", "agent", "id", "controller", "data"};
    for (size_t i = 0; i < WORDS_A_VALUE; i++)
        if (!slice_is_text(words[i]))
            return refuse_value(call, index, names[i], "holds a NUL");
    if (!slice_to_number(words[2], &value->connection_id))
        return refuse_value(call, index, "id", "wants a number from 0 to 18446744073709551615");
    bool controller = slice_is_word(words[3], "1");
    if (!controller && !slice_is_word(words[3], "0"))
        return refuse_value(call, index, "controller", "wants 0 or 1");
    value->server = call->arguments.server;
    value->model = words[0].text;
    value->agent = words[1].text;
    value->controller_agent = controller;
    value->user_data = words[4].text;
    return true;
}

/* `n (model agent id 0|1 data)×n`, to be freed. NULL: an error was said. */
static presence_value *take_values(struct call *call, const struct slice *words, size_t word_count, size_t *count)
{
    uint64_t wanted = 0;
    if (word_count == 0 || !slice_to_number(words[0], &wanted)) {
        reply_error(call->reply, ERROR_ERR, "wants the number of values, or BEGIN, ADD, COMMIT, ABORT: %s %s",
                    call->command->name, call->command->syntax);
        return NULL;
    }
    if (wanted > word_count || word_count - 1 != wanted * WORDS_A_VALUE) {
        reply_error(call->reply, ERROR_ERR, "wants %d words for each of the values (model agent id 0|1 data), got %zu",
                    WORDS_A_VALUE, word_count - 1);
        return NULL;
    }
    presence_value *values = calloc(wanted ? wanted : 1, sizeof *values);
    if (!values) {
        reply_failure(call->reply, PRESENCE_E_NO_MEMORY, NULL);
        return NULL;
    }
    *count = wanted;
    for (size_t i = 0; i < wanted; i++)
        if (!take_value(call, words + 1 + i * WORDS_A_VALUE, i, &values[i])) {
            free(values);
            return NULL;
        }
    return values;
}

static void begin(struct call *call)
{
    const char *server = call->arguments.server;
    if (name_problem(slice_of(server)))
        command_failed(call, PRESENCE_E_INVALID, NULL);
    else if (!presence_recorder_is_enabled(call->client->node->recorder))
        command_failed(call, PRESENCE_E_DISABLED, NULL);
    else if (!gathering_begin(call->client, server))
        command_failed(call, PRESENCE_E_NO_MEMORY, NULL);
    else
        reply_word(call->reply, "OK");
}

static void add(struct call *call, struct gathering *gathering)
{
    size_t count = 0;
    presence_value *values = take_values(call, call->arguments.rest + 1, call->arguments.rest_count - 1, &count);
    if (!values) {
        gathering_spoil(gathering);
        return;
    }
    int code = gathering_add(gathering, values, count);
    free(values);
    if (code == PRESENCE_E_LIMIT)
        reply_error(call->reply, ERROR_BUSY, "max-list-bytes is reached: the list is refused");
    else if (code)
        command_failed(call, code, NULL);
    else
        reply_integer(call->reply, (int64_t)gathering_count(gathering));
}

static void commit(struct call *call, struct gathering *gathering)
{
    presence_error error = {0};
    size_t count = gathering_count(gathering);
    presence_server_description known;
    /* It is applied once, so whether another node states the server is asked first. */
    if (presence_replica_describe(call->client->node->recorder, call->arguments.server, &known) == PRESENCE_OK &&
        !known.local)
        cluster_take_silent(call->client->node, call->arguments.server);
    int code = gathering_commit(call->client, &error);
    if (code)
        command_failed(call, code, error.message);
    else
        reply_integer(call->reply, (int64_t)count);
}

/* ADD, COMMIT and ABORT, of a list that was begun. */
static void go_on(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    struct gathering *gathering = gathering_of(call->client, arguments->server);
    if (!gathering) {
        reply_error(call->reply, ERROR_ERR, "no list of this server was begun: %s server BEGIN", call->command->name);
    } else if (slice_is_word(arguments->rest[0], "ADD")) {
        add(call, gathering);
    } else if (slice_is_word(arguments->rest[0], "COMMIT")) {
        commit(call, gathering);
    } else {
        gathering_drop(call->client);
        reply_word(call->reply, "OK");
    }
}

static void run_list(struct call *call, bool merge)
{
    const struct arguments *arguments = &call->arguments;
    struct slice first = arguments->rest[0];
    bool alone = arguments->rest_count == 1;
    if (alone && slice_is_word(first, "BEGIN")) {
        begin(call);
    } else if (slice_is_word(first, "ADD") ||
               (alone && (slice_is_word(first, "COMMIT") || slice_is_word(first, "ABORT")))) {
        go_on(call);
    } else {
        size_t count = 0;
        presence_value *values = take_values(call, arguments->rest, arguments->rest_count, &count);
        if (values)
            lists_state(call, values, count, merge);
        free(values);
    }
}

/* One whose values are many, or that takes the place of many. */
static bool is_long_list(const struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    if (arguments->rest_count == 0) /* as the body of a request */
        return long_of_server(call);
    struct slice first = arguments->rest[0];
    if (slice_is_word(first, "BEGIN") || slice_is_word(first, "ADD") || slice_is_word(first, "ABORT"))
        return false;
    const struct gathering *gathering = gathering_of(call->client, arguments->server);
    size_t count = slice_is_word(first, "COMMIT") && gathering ? gathering_count(gathering)
                                                               : arguments->rest_count / WORDS_A_VALUE;
    return count > LONG_ROWS || long_of_server(call);
}

static void run_update(struct call *call)
{
    run_list(call, false);
}

static void run_merge(struct call *call)
{
    run_list(call, true);
}

#define LIST_SYNTAX \
    "server n [model agent id 0|1 data]... | server BEGIN | server ADD n ... | server COMMIT | server ABORT"

static const struct command commands[] = {
    {
        .name = "PRESENCE.UPDATESERVER",
        .flags = COMMAND_WRITE,
        .least_words = 3,
        .most_words = -1,
        .syntax = LIST_SYNTAX,
        .summary = "Replaces all that is known of the server. How many there are now; all or nothing.",
        .specs = {{SLOT_SERVER, NULL}, {SLOT_LIST, NULL}},
        .spec_count = 2,
        .run = run_update,
        .is_long = is_long_list,
    },
    {
        .name = "PRESENCE.MERGESERVER",
        .flags = COMMAND_WRITE,
        .least_words = 3,
        .most_words = -1,
        .syntax = LIST_SYNTAX,
        .summary = "The same, but connections that are alive stay. How many were listed; all or nothing.",
        .specs = {{SLOT_SERVER, NULL}, {SLOT_LIST, NULL}},
        .spec_count = 2,
        .run = run_merge,
        .is_long = is_long_list,
    },
};

const struct command_group group_lists = {commands, sizeof commands / sizeof *commands};
