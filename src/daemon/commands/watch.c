/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - WATCH and UNWATCH: a client is told changes as they come. What is told is feed.h's business, and how, the
 * protocol's. In RESP2 a client that watches is as one that has subscribed to a channel named `presence`: its replies
 * have that form, and it may run little else. The owner's loop; opening costs two system calls.
 */
#include "commands/groups.h"
#include "watches/feed.h"

/* As Redis answers SUBSCRIBE: what was done, to which channel, how many there are now. */
static void say_subscription(struct reply *reply, const char *what, int64_t channels)
{
    reply_array(reply, 3);
    reply_string(reply, what);
    reply_string(reply, "presence");
    reply_integer(reply, channels);
}

static void run_watch(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    const struct feed_start start = {
        .from_now = !argument_given(arguments, SLOT_AFTER),
        .after_revision = arguments->after_revision,
        .skip = arguments->after_skip,
        .model = arguments->model,
        .server = arguments->server,
        .agent = arguments->agent,
        .agents = arguments->agents,
    };
    presence_error error = {0};
    uint64_t revision = 0;
    if (!call->client->sink) {
        reply_error(call->reply, ERROR_ERR, "%s needs a connection that lasts", call->command->name);
        return;
    }
    int code = feed_open(call->client, &start, &revision, &error);
    if (code) {
        command_failed(call, code, error.message);
        return;
    }
    if (call->client->version < 3 && call->client->kind == CLIENT_RESP) {
        say_subscription(call->reply, "subscribe", 1);
        return;
    }
    reply_map(call->reply, 1);
    reply_key(call->reply, "revision");
    reply_integer(call->reply, (int64_t)revision);
}

static void run_unwatch(struct call *call)
{
    feed_close(call->client);
    if (call->client->version < 3)
        say_subscription(call->reply, "unsubscribe", 0);
    else
        reply_word(call->reply, "OK");
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.WATCH",
        .flags = COMMAND_READ | COMMAND_CLIENT | COMMAND_SUBSCRIBED,
        .least_words = 1,
        .most_words = 10,
        .syntax = "[AFTER revision[.index]] [MODEL model] [SERVER server] [AGENT agent] [AGENTS]",
        .summary = "Tells changes as they come, of connections, or of agents alone.",
        .specs = {{SLOT_AFTER, "AFTER"},
                  {SLOT_MODEL, "MODEL"},
                  {SLOT_SERVER, "SERVER"},
                  {SLOT_AGENT, "AGENT"},
                  {SLOT_AGENTS, "AGENTS"}},
        .spec_count = 5,
        .run = run_watch,
    },
    {
        .name = "PRESENCE.UNWATCH",
        .flags = COMMAND_OPEN | COMMAND_CLIENT | COMMAND_SUBSCRIBED,
        .least_words = 1,
        .most_words = 1,
        .syntax = "",
        .summary = "Tells no more changes.",
        .run = run_unwatch,
    },
};

const struct command_group group_watch = {commands, sizeof commands / sizeof *commands};
