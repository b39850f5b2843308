/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - commands by which a gateway reports its connections: CONNECT, DISCONNECT, ACTIVITY, SERVERDOWN, DRAIN.
 *
 * Each is one call of the recorder (a batch for many ids), whose costs it has. A row of them, of one server, in a
 * pipeline is one batch. Any loop's thread.
 */
#include "commands/groups.h"
#include "commands/run.h"
#include "sessions/sessions.h"

/* Connects one and says what came of it. */
static void connect_value(struct call *call, const presence_value *value)
{
    presence_error error = {0};
    bool is_new = false;
    struct node *node = call->client->node;
    int code = limits_check(node, value, 1, false, &error);
    if (code == PRESENCE_OK)
        code = presence_recorder_connect_handle(node->recorder, value, NULL, &is_new, &error);
    if (command_retries(call, code))
        code = presence_recorder_connect_handle(node->recorder, value, NULL, &is_new, &error);
    if (code)
        command_failed(call, code, error.message);
    else
        reply_integer(call->reply, is_new);
}

static void run_connect(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    const presence_value value = {
        .server = arguments->server,
        .model = arguments->model,
        .agent = arguments->agent,
        .user_data = arguments->data,
        .connection_id = arguments->id,
        .controller_agent = arguments->controller,
    };
    connect_value(call, &value);
}

/* Calls a batch of the recorder with the ids of the call, in blocks, and says how many it did. */
static void run_batch(struct call *call, int (*batch)(struct node *node, const char *server, const uint64_t *ids,
                                                      size_t count, size_t *done))
{
    const struct arguments *arguments = &call->arguments;
    uint64_t ids[RUN_MOST];
    size_t sum = 0;
    /* No id is acted on unless all of them are numbers. */
    for (size_t i = 0; i < arguments->rest_count; i++)
        if (!slice_to_number(arguments->rest[i], &ids[0])) {
            argument_set(call, SLOT_ID, "id", arguments->rest[i]);
            return;
        }
    for (size_t i = 0; i < arguments->rest_count;) {
        size_t count = 0, done = 0;
        for (; count < RUN_MOST && i < arguments->rest_count; i++)
            slice_to_number(arguments->rest[i], &ids[count++]);
        int code = batch(call->client->node, arguments->server, ids, count, &done);
        if (command_retries(call, code))
            code = batch(call->client->node, arguments->server, ids, count, &done);
        if (code) {
            command_failed(call, code, NULL);
            return;
        }
        sum += done;
    }
    reply_integer(call->reply, (int64_t)sum);
}

static int disconnect_many(struct node *node, const char *server, const uint64_t *ids, size_t count, size_t *done)
{
    gathering_note_gone(node, server, ids, count);
    return presence_recorder_disconnect_many(node->recorder, server, ids, count, done);
}

static int activity_many(struct node *node, const char *server, const uint64_t *ids, size_t count, size_t *done)
{
    return presence_recorder_activity_many(node->recorder, server, ids, count, done);
}

static void run_disconnect(struct call *call)
{
    run_batch(call, disconnect_many);
}

static void run_activity(struct call *call)
{
    run_batch(call, activity_many);
}

/* ---------------------------------------------------------------------------------------------------------- runs -- */

/* Whether a call that states this server fits the run, which it begins if that is empty. */
static bool fits_run(const struct call *call, struct run *run, const char *server)
{
    if (run->count == 0) {
        run->command = call->command;
        run->server = server;
        return true;
    }
    return run->count < RUN_MOST && strcmp(run->server, server) == 0;
}

/* `ACTIVITY server id` and `DISCONNECT server id`, of one id. */
static bool gather_key(struct call *call, struct run *run)
{
    uint64_t id;
    if (call->word_count != 3 || !slice_is_text(call->words[1]) || !slice_to_number(call->words[2], &id) ||
        !fits_run(call, run, call->words[1].text))
        return false;
    run->keys[run->count++] = (presence_connection_key){.server = call->words[1].text, .connection_id = id};
    return true;
}

/* `CONNECT server model agent id [DATA text]`, where no limit asks for more than a look. */
static bool gather_connect(struct call *call, struct run *run)
{
    uint64_t id;
    const struct slice *words = call->words;
    const struct config *config = call->client->node->config;
    bool has_data = call->word_count == 7 && slice_is_word(words[5], "DATA");
    if ((call->word_count != 5 && !has_data) || config->max_server_connections || config->max_model_names ||
        !slice_to_number(words[4], &id) || (has_data && !slice_is_text(words[6])))
        return false;
    for (size_t i = 1; i < 4; i++)
        if (!slice_is_text(words[i]))
            return false;
    if (!fits_run(call, run, words[1].text))
        return false;
    run->values[run->count++] = (presence_value){.server = words[1].text,
                                                 .model = words[2].text,
                                                 .agent = words[3].text,
                                                 .connection_id = id,
                                                 .user_data = has_data ? words[6].text : NULL};
    return true;
}

/* Whether the client may state the run's server now; sessions_end_write must follow. False: said, once for each. */
static bool begin_run(struct run *run, struct client *client, struct reply *reply)
{
    enum write_answer answer = sessions_begin_write(client, run->server);
    for (size_t i = 0; answer != WRITE_ALLOWED && i < run->count; i++)
        reply_error(reply, write_answer_word(answer), "%s", write_answer_text(answer));
    return answer == WRITE_ALLOWED;
}

static void finish_keys(struct run *run, struct client *client, struct reply *reply,
                        int (*batch)(struct node *node, presence_connection_key *keys, size_t count))
{
    struct call call = {.client = client, .command = run->command, .reply = reply};
    call.arguments.server = run->server;
    if (!begin_run(run, client, reply))
        return;
    int code = batch(client->node, run->keys, run->count);
    if (command_retries(&call, code ? code : run->keys[0].code))
        code = batch(client->node, run->keys, run->count);
    for (size_t i = 0; i < run->count; i++) {
        int each = code ? code : run->keys[i].code;
        if (each && each != PRESENCE_E_NOT_FOUND)
            command_failed(&call, each, NULL);
        else
            reply_integer(reply, each == PRESENCE_OK);
    }
    sessions_end_write(client);
}

static int activity_keys(struct node *node, presence_connection_key *keys, size_t count)
{
    return presence_recorder_activity_keys(node->recorder, keys, count, NULL);
}

static int disconnect_keys(struct node *node, presence_connection_key *keys, size_t count)
{
    uint64_t ids[RUN_MOST]; /* a run is of one server */
    for (size_t i = 0; i < count; i++)
        ids[i] = keys[i].connection_id;
    if (count > 0)
        gathering_note_gone(node, keys[0].server, ids, count);
    return presence_recorder_disconnect_keys(node->recorder, keys, count, NULL);
}

static void finish_activity(struct run *run, struct client *client, struct reply *reply)
{
    finish_keys(run, client, reply, activity_keys);
}

static void finish_disconnect(struct run *run, struct client *client, struct reply *reply)
{
    finish_keys(run, client, reply, disconnect_keys);
}

/* One that failed changed nothing, and is tried again alone, which tells what was wrong with it. */
static void finish_connect(struct run *run, struct client *client, struct reply *reply)
{
    presence_connect_result results[RUN_MOST];
    if (!begin_run(run, client, reply))
        return;
    int code = presence_recorder_connect_values(client->node->recorder, run->values, run->count, results, NULL);
    for (size_t i = 0; i < run->count; i++) {
        const presence_value *value = &run->values[i];
        struct call call = {.client = client, .command = run->command, .reply = reply};
        call.arguments.server = value->server;
        call.arguments.model = value->model;
        call.arguments.agent = value->agent;
        if (code || results[i].code)
            connect_value(&call, value);
        else
            reply_integer(reply, results[i].is_new);
    }
    sessions_end_write(client);
}

static void run_down(struct call *call, presence_reason reason)
{
    size_t became_missing = 0;
    presence_recorder *recorder = call->client->node->recorder;
    const char *server = call->arguments.server;
    int code = presence_recorder_server_down_because(recorder, server, reason, &became_missing);
    if (command_retries(call, code))
        code = presence_recorder_server_down_because(recorder, server, reason, &became_missing);
    if (code)
        command_failed(call, code, NULL);
    else
        reply_integer(call->reply, (int64_t)became_missing);
}

static void run_server_down(struct call *call)
{
    run_down(call, PRESENCE_REASON_SERVER_DOWN);
}

static void run_drain(struct call *call)
{
    run_down(call, PRESENCE_REASON_DRAINED);
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.CONNECT",
        .flags = COMMAND_WRITE,
        .least_words = 5,
        .most_words = 8,
        .syntax = "server model agent id [CONTROLLER] [DATA text]",
        .summary = "Records a live connection. 1: it is new; 0: it was known.",
        .specs = {{SLOT_SERVER, NULL},
                  {SLOT_MODEL, NULL},
                  {SLOT_AGENT, NULL},
                  {SLOT_ID, NULL},
                  {SLOT_CONTROLLER, "CONTROLLER"},
                  {SLOT_DATA, "DATA"}},
        .spec_count = 6,
        .run = run_connect,
        .gather = gather_connect,
        .finish = finish_connect,
    },
    {
        .name = "PRESENCE.DISCONNECT",
        .flags = COMMAND_WRITE,
        .least_words = 3,
        .most_words = -1,
        .syntax = "server id [id ...]",
        .summary = "Removes connections. How many there were.",
        .specs = {{SLOT_SERVER, NULL}, {SLOT_IDS, NULL}},
        .spec_count = 2,
        .run = run_disconnect,
        .gather = gather_key,
        .finish = finish_disconnect,
    },
    {
        .name = "PRESENCE.ACTIVITY",
        .flags = COMMAND_WRITE,
        .least_words = 3,
        .most_words = -1,
        .syntax = "server id [id ...]",
        .summary = "Stamps connections as seen now. How many are known.",
        .specs = {{SLOT_SERVER, NULL}, {SLOT_IDS, NULL}},
        .spec_count = 2,
        .run = run_activity,
        .gather = gather_key,
        .finish = finish_activity,
    },
    {
        .name = "PRESENCE.SERVERDOWN",
        .flags = COMMAND_WRITE,
        .least_words = 2,
        .most_words = 2,
        .syntax = "server",
        .summary = "Marks every connection of the server missing. How many became so.",
        .specs = {{SLOT_SERVER, NULL}},
        .spec_count = 1,
        .run = run_server_down,
    },
    {
        .name = "PRESENCE.DRAIN",
        .flags = COMMAND_WRITE,
        .least_words = 2,
        .most_words = 2,
        .syntax = "server",
        .summary = "As PRESENCE.SERVERDOWN, for a server that stops on purpose.",
        .specs = {{SLOT_SERVER, NULL}},
        .spec_count = 1,
        .run = run_drain,
    },
};

const struct command_group group_report = {commands, sizeof commands / sizeof *commands};
