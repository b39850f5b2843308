/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - read, parse, run, write, in one go.
 *
 * Input is read into the loop's scratch and replies are gathered in the loop's scratch; only the beginning of a command
 * that is not whole, and replies that the socket did not take, are copied to the client. A pipeline of any length is
 * one read and one write for each 64 KiB, and runs of one command go to the recorder as a batch.
 *
 * Keeps true: replies come in the order of their commands; a protocol error is told, and ends this client alone; what a
 * pipeline makes us say is sent, or limited, while it is being run. The owner's loop only. The cost beside the
 * commands: two system calls a pipeline.
 */
#include "base/log.h"
#include "sessions/sessions.h"
#include "resp/client.h"

#include <event2/event.h>

enum { LEAST_ROOM_BYTES = 16 * 1024, SEND_FROM_BYTES = 64 * 1024 };

static struct counters *counters_of(const struct resp_client *client)
{
    return &client->owner->node->counters[client->owner->loop->index];
}

static void finish_run(struct resp_client *client, struct reply *reply)
{
    struct run *run = &client->owner->run;
    if (run->count > 0)
        run->command->finish(run, &client->client, reply);
    run->command = NULL;
    run->count = 0;
}

/* A web page that was made to talk to our port: its first line is an HTTP request's, and a Host header follows. */
static bool is_http(struct slice word)
{
    return slice_is_word(word, "POST") || (word.length >= 5 && strncasecmp(word.text, "Host:", 5) == 0);
}

/* Whether the call may be one of a run: not while it would have to wait for a job. */
static bool may_gather(const struct resp_client *client, const struct call *call)
{
    const struct command *command = call->command;
    return command->gather && !client->client.feed && command_permits_run(call) &&
           !(command->flags & COMMAND_WRITE && call->word_count > 1 && slice_is_text(call->words[1]) &&
             worker_write_to(client->client.node, call->words[1].text));
}

static void run_prepared(struct resp_client *client, struct call *call)
{
    if (!command_prepare(call))
        return;
    if (!command_is_long(call))
        command_execute(call);
    else if (!resp_long_begin(client, call))
        command_say_too_long(call);
}

static void run_command(struct resp_client *client, struct reply *reply)
{
    struct run *run = &client->owner->run;
    struct slice name = client->parser.words[0];
    struct call call = {.client = &client->client,
                        .words = client->parser.words,
                        .word_count = client->parser.word_count,
                        .reply = reply};
    /* Pipelines mostly repeat a command. */
    const struct command *latest = client->owner->latest;
    call.command = latest && slice_is_word(name, latest->name) ? latest : command_find(name);
    client->owner->latest = call.command;
    if (call.command && may_gather(client, &call)) {
        if (call.command == run->command && call.command->gather(&call, run))
            return;
        finish_run(client, reply);
        if (call.command->gather(&call, run))
            return;
    }
    finish_run(client, reply);
    if (call.command) {
        run_prepared(client, &call);
    } else if (is_http(name)) {
        counter_add(&counters_of(client)->protocol_errors, 1);
        resp_client_cut_off(client, "speaks HTTP to RESP", NULL);
    } else {
        reply_error(reply, ERROR_ERR, "unknown command '%.*s'", (int)(name.length < 64 ? name.length : 64), name.text);
    }
}

/* Nothing more can be read of it: says why, as its last reply. */
static void break_off(struct resp_client *client, enum resp_outcome outcome, const char *error, struct reply *reply)
{
    if (outcome == RESP_NO_MEMORY)
        reply_error(reply, ERROR_BUSY, "out of memory");
    else
        reply_error(reply, ERROR_ERR, "Protocol error: %s", error);
    counter_add(&counters_of(client)->protocol_errors, 1);
    client->client.closing = true;
}

/* Whoever has not said who it is, where that is needed, says HELLO or AUTH and nothing larger. */
static const struct resp_limits *limits_of(const struct resp_client *client)
{
    return resp_client_is_known(client) ? &client->owner->limits : &client->owner->stranger_limits;
}

/* Runs every whole command of the input, unless the client is paused or goes meanwhile; how many bytes they took. */
static size_t run_commands(struct resp_client *client, char *input, size_t length, struct reply *reply)
{
    struct bytes *replies = &client->owner->loop->output;
    size_t at = 0, used = 0;
    uint64_t commands = 0;
    while (!client->client.closing && !client->paused && !client->job && !client->lost) {
        const char *error = "";
        client->parser.limits = limits_of(client);
        enum resp_outcome outcome = resp_parse(&client->parser, input + at, length - at, &used, &error);
        at += used;
        if (outcome == RESP_UNFINISHED)
            break;
        if (outcome == RESP_COMMAND) {
            commands++;
            run_command(client, reply);
        } else {
            finish_run(client, reply);
            break_off(client, outcome, error, reply);
        }
        if (replies->length >= SEND_FROM_BYTES) {
            finish_run(client, reply);
            resp_output_take(client, replies);
        }
    }
    finish_run(client, reply);
    counter_add(&counters_of(client)->commands, commands);
    if (commands > 0)
        client->moved = client->owner->tick;
    return at;
}

/* Keeps what is not a whole command yet, or was not run in a pause. */
static void keep_rest(struct resp_client *client, const char *data, size_t length, size_t used)
{
    struct bytes *input = &client->input;
    if (input->length == 0) {
        if (used < length)
            client->moved = client->owner->tick;
        bytes_append(input, data + used, length - used);
        if (input->failed)
            resp_client_cut_off(client, "out of memory", NULL);
        return;
    }
    bytes_drop(input, used);
    if (input->length == 0)
        bytes_free(input);
}

/* Runs what is whole of the data, which is new, or all of the client's kept input; sends the replies. */
static void serve_data(struct resp_client *client, char *data, size_t length)
{
    struct bytes *replies = &client->owner->loop->output;
    struct resp_reply reply;
    resp_reply_init(&reply, replies, client->client.version);
    size_t used = run_commands(client, data, length, &reply.reply);
    if (reply.errors > 0)
        counter_add(&counters_of(client)->errors, reply.errors);
    resp_output_take(client, replies);
    if (client->client.closing)
        client->stage = RESP_FLUSHING;
    else if (!client->lost)
        keep_rest(client, data, length, used);
}

void resp_serve_kept(struct resp_client *client)
{
    if (client->input.length > 0 && client->stage == RESP_SERVING && !client->paused && !client->job &&
        resp_client_is_welcome(client))
        serve_data(client, client->input.data, client->input.length);
}

/* Where the next bytes go: behind the beginning of a command, if there is one, else into the loop's scratch. */
static char *room_to_read(struct resp_client *client, size_t *room)
{
    struct bytes *input = &client->input;
    *room = LOOP_SCRATCH_BYTES;
    if (input->length == 0)
        return client->owner->loop->input;
    char *to = bytes_reserve(input, LEAST_ROOM_BYTES);
    if (to)
        *room = input->capacity - input->length;
    return to;
}

/* The peer has closed its side: what it asked for is still answered. */
static void peer_ended(struct resp_client *client)
{
    client->ended = true;
    client->stage = RESP_FLUSHING;
    event_del(client->readable); /* its end would be told again and again */
}

void resp_serve(struct resp_client *client)
{
    if (!resp_client_is_welcome(client))
        return;
    size_t room;
    char *to = room_to_read(client, &room);
    ssize_t got = TRANSPORT_LOST;
    if (to)
        got = client->transport->read(client, to, room);
    else
        resp_client_cut_off(client, "out of memory", NULL);
    if (got == TRANSPORT_LATER)
        return;
    if (got == TRANSPORT_LOST)
        client->lost = true;
    else if (got == TRANSPORT_ENDED)
        peer_ended(client);
    if (got <= 0)
        return;
    client->shaking_hands = false;
    client->heard = client->owner->tick;
    if (client->client.join)
        join_stamp(&client->client);
    counter_add(&counters_of(client)->bytes_in, (uint64_t)got);
    if (client->input.length > 0) {
        client->input.length += (size_t)got;
        serve_data(client, client->input.data, client->input.length);
    } else {
        serve_data(client, to, (size_t)got);
    }
    if (client->transport->holds_input(client) && !client->paused && !client->job && !client->lost)
        event_active(client->readable, EV_READ, 0);
}
