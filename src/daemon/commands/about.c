/* SPDX-License-Identifier: Apache-2.0 */
/*
 * about.c - COMMAND and INFO: what there is, and how it is. redis-cli asks COMMAND DOCS for its hints. O(commands), and
 * O(servers) for INFO. Any loop's thread.
 */
#include "commands/groups.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static size_t count_commands(void)
{
    size_t count = 0;
    while (command_at(count))
        count++;
    return count;
}

/* As Redis tells a command: name, arity (negative: at least), flags, and where its keys are: we have none. */
static void say_command(struct reply *reply, const struct command *command)
{
    bool exact = command->least_words == command->most_words;
    reply_array(reply, 6);
    reply_string(reply, command->name);
    reply_integer(reply, exact ? command->least_words : -command->least_words);
    reply_array(reply, 1);
    reply_word(reply, command->flags & COMMAND_WRITE ? "write" : command->flags & COMMAND_ADMIN ? "admin" : "readonly");
    for (int i = 0; i < 3; i++)
        reply_integer(reply, 0);
}

static void say_docs(struct reply *reply, const struct command *command)
{
    reply_key(reply, command->name);
    reply_map(reply, 3);
    reply_key(reply, "summary");
    reply_string(reply, command->summary);
    reply_key(reply, "group");
    reply_string(reply, "presence");
    reply_key(reply, "syntax");
    reply_string(reply, command->syntax);
}

/* COMMAND DOCS [name ...]: unknown names are left out, as Redis does. */
static void command_docs(struct call *call)
{
    const struct command *command;
    size_t count = 0;
    if (call->word_count == 2) {
        reply_map(call->reply, count_commands());
        for (size_t i = 0; (command = command_at(i)); i++)
            say_docs(call->reply, command);
        return;
    }
    for (size_t i = 2; i < call->word_count; i++)
        count += command_find(call->words[i]) != NULL;
    reply_map(call->reply, count);
    for (size_t i = 2; i < call->word_count; i++)
        if ((command = command_find(call->words[i])))
            say_docs(call->reply, command);
}

static void run_command(struct call *call)
{
    const struct command *command;
    if (call->word_count == 1) {
        reply_array(call->reply, count_commands());
        for (size_t i = 0; (command = command_at(i)); i++)
            say_command(call->reply, command);
    } else if (slice_is_word(call->words[1], "DOCS")) {
        command_docs(call);
    } else if (slice_is_word(call->words[1], "COUNT") && call->word_count == 2) {
        reply_integer(call->reply, (int64_t)count_commands());
    } else if (slice_is_word(call->words[1], "INFO")) {
        reply_array(call->reply, call->word_count - 2);
        for (size_t i = 2; i < call->word_count; i++) {
            if ((command = command_find(call->words[i])))
                say_command(call->reply, command);
            else
                reply_null(call->reply);
        }
    } else {
        reply_error(call->reply, ERROR_ERR, "unknown subcommand of COMMAND: COMMAND %s", call->command->syntax);
    }
}

static void run_info(struct call *call)
{
    const struct node *node = call->client->node;
    presence_stats stats = {.struct_bytes = sizeof stats};
    int code = presence_recorder_stats(node->recorder, &stats);
    if (code) {
        command_failed(call, code, NULL);
        return;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char text[2048];
    int length = snprintf(
        text, sizeof text,
        "# Server\r\nserver_name:presenced\r\npresence_version:%s\r\nprocess_id:%ld\r\nthreads:%zu\r\n"
        "uptime_in_seconds:%lld\r\n"
        "\r\n# Clients\r\nconnected_clients:%llu\r\nmaxclients:%llu\r\n"
        "\r\n# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
        "total_error_replies:%llu\r\nrejected_connections:%llu\r\n"
        "\r\n# Presence\r\nenabled:%d\r\nrevision:%llu\r\nconnections:%llu\r\nalive:%llu\r\nmodels:%llu\r\n"
        "servers:%llu\r\nagents:%llu\r\nwatches:%llu\r\nallocated_bytes:%llu\r\nused_bytes:%llu\r\n",
        presence_version(), (long)getpid(), node->loops->count, (long long)(now.tv_sec - node->started / 1000000000),
        (unsigned long long)atomic_load(&node->clients), (unsigned long long)node->config->max_clients,
        (unsigned long long)node_counter(node, offsetof(struct counters, accepted)),
        (unsigned long long)node_counter(node, offsetof(struct counters, commands)),
        (unsigned long long)node_counter(node, offsetof(struct counters, errors)),
        (unsigned long long)node_counter(node, offsetof(struct counters, refused)),
        presence_recorder_is_enabled(node->recorder), (unsigned long long)stats.revision,
        (unsigned long long)stats.connections, (unsigned long long)stats.alive, (unsigned long long)stats.models,
        (unsigned long long)stats.servers, (unsigned long long)stats.agents, (unsigned long long)stats.watches,
        (unsigned long long)stats.allocated_bytes, (unsigned long long)stats.used_bytes);
    reply_text(call->reply, (struct slice){text, (size_t)length});
}

static const struct command commands[] = {
    {.name = "COMMAND",
     .flags = COMMAND_CLIENT,
     .least_words = 1,
     .most_words = -1,
     .syntax = "[COUNT | DOCS [name ...] | INFO [name ...]]",
     .summary = "The commands that there are.",
     .run = run_command},
    {.name = "INFO",
     .flags = COMMAND_READ,
     .least_words = 1,
     .most_words = -1,
     .syntax = "[section ...]",
     .summary = "Numbers about the server, as lines.",
     .run = run_info},
};

const struct command_group group_about = {commands, sizeof commands / sizeof *commands};
