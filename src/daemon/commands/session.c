/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - SESSION and JOIN, and the fence around every command that writes. The client's own loop; costs are those
 * of sessions/sessions.h.
 */
#include "commands/groups.h"

#include "sessions/sessions.h"

#include <inttypes.h>

enum error_word write_answer_word(enum write_answer answer)
{
    return answer == WRITE_STALE ? ERROR_STALE : answer == WRITE_STOPPING ? ERROR_BUSY : ERROR_NOPERM;
}

void command_execute(struct call *call)
{
    const struct command *command = call->command;
    /* Binding and joining, whose servers are looked at later, or not at all. */
    if (command->flags & (COMMAND_BINDS | COMMAND_JOIN) && atomic_load(&call->client->node->stopping)) {
        reply_error(call->reply, ERROR_BUSY, "%s", write_answer_text(WRITE_STOPPING));
        return;
    }
    if (!(command->flags & COMMAND_WRITE) || command->flags & COMMAND_BINDS || !call->arguments.server) {
        command->run(call);
        return;
    }
    enum write_answer answer = sessions_begin_write(call->client, call->arguments.server);
    if (answer != WRITE_ALLOWED) {
        reply_error(call->reply, write_answer_word(answer), "%s", write_answer_text(answer));
        return;
    }
    command->run(call);
    sessions_end_write(call->client);
}

static void run_session(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    struct session_wish wish = {
        .server = arguments->server,
        .has_epoch = argument_given(arguments, SLOT_EPOCH),
        .epoch = arguments->epoch,
        .has_grace = argument_given(arguments, SLOT_GRACE),
        .grace_ms = arguments->grace_ms,
        .takes_over = arguments->takeover,
    };
    presence_error error = {0};
    if (name_problem(slice_of(wish.server))) {
        command_failed(call, PRESENCE_E_INVALID, NULL);
        return;
    }
    if (wish.grace_ms > SESSION_MOST_GRACE_MS) {
        reply_error(call->reply, ERROR_INVALID, "GRACE wants at most %d milliseconds", SESSION_MOST_GRACE_MS);
        return;
    }
    if (wish.epoch > SESSION_MOST_EPOCH) {
        reply_error(call->reply, ERROR_INVALID, "EPOCH wants a number from 0 to %" PRIu64 ": no life could follow it",
                    SESSION_MOST_EPOCH);
        return;
    }
    int code = sessions_bind(call->client, &wish, &error);
    if (code == SESSIONS_E_NODE)
        reply_error(call->reply, ERROR_NOPERM, "%s", write_answer_text(WRITE_OF_NODE));
    else if (code)
        command_failed(call, code, error.message);
    else
        reply_word(call->reply, "OK");
}

static void run_join(struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    presence_error error = {0};
    uint64_t id = 0;
    int code = join_open(call->client, arguments->model, arguments->agent, arguments->data, &id, &error);
    if (code)
        command_failed(call, code, error.message);
    else
        reply_id(call->reply, id);
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.SESSION",
        .flags = COMMAND_WRITE | COMMAND_BINDS | COMMAND_CLIENT,
        .least_words = 2,
        .most_words = 7,
        .syntax = "server [EPOCH n] [GRACE ms] [TAKEOVER]",
        .summary = "Binds this connection to the server, which is down when the last one bound to it is gone.",
        .specs = {{SLOT_SERVER, NULL}, {SLOT_EPOCH, "EPOCH"}, {SLOT_GRACE, "GRACE"}, {SLOT_TAKEOVER, "TAKEOVER"}},
        .spec_count = 4,
        .run = run_session,
    },
    {
        .name = "PRESENCE.JOIN",
        .flags = COMMAND_JOIN | COMMAND_CLIENT,
        .least_words = 3,
        .most_words = 5,
        .syntax = "model agent [DATA text]",
        .summary = "This connection is an agent's connection to this node, until it closes. Its connection id.",
        .specs = {{SLOT_MODEL, NULL}, {SLOT_AGENT, NULL}, {SLOT_DATA, "DATA"}},
        .spec_count = 3,
        .run = run_join,
    },
};

const struct command_group group_session = {commands, sizeof commands / sizeof *commands};
