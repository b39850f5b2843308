/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch.c - ENABLE, DISABLE, ENABLED: the recorder as a whole. Administrative acts are logged. O(1), plus returning
 * memory. Any loop's thread.
 */
#include "base/log.h"
#include "commands/groups.h"

static void run_enable(struct call *call)
{
    presence_recorder_enable(call->client->node->recorder);
    log_event(LOG_LEVEL_INFO, "enabled", "client", call->client->peer, NULL);
    reply_word(call->reply, "OK");
}

static void run_disable(struct call *call)
{
    presence_recorder_disable(call->client->node->recorder);
    log_event(LOG_LEVEL_WARNING, "disabled", "client", call->client->peer, NULL);
    reply_word(call->reply, "OK");
}

static void run_enabled(struct call *call)
{
    reply_integer(call->reply, presence_recorder_is_enabled(call->client->node->recorder));
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.ENABLE",
        .flags = COMMAND_ADMIN,
        .least_words = 1,
        .most_words = 1,
        .syntax = "",
        .summary = "Takes up recording.",
        .run = run_enable,
    },
    {
        .name = "PRESENCE.DISABLE",
        .flags = COMMAND_ADMIN,
        .least_words = 1,
        .most_words = 1,
        .syntax = "",
        .summary = "Forgets everything, and records nothing until enabled.",
        .run = run_disable,
    },
    {
        .name = "PRESENCE.ENABLED",
        .flags = COMMAND_READ,
        .least_words = 1,
        .most_words = 1,
        .syntax = "",
        .summary = "Whether it records: 1 or 0.",
        .run = run_enabled,
    },
};

const struct command_group group_switch = {commands, sizeof commands / sizeof *commands};
