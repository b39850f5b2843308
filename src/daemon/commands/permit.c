/* SPDX-License-Identifier: Apache-2.0 */
/*
 * permit.c - who may run which command on what: the one place where a principal meets a command.
 *
 * A command says by its flags what it does, and by its arguments to whom; the principal's roles say the rest. For one
 * who sees a single model, a command's model is filled in, so that lists, counts and watches are that model's without
 * knowing of roles. A refusal tells what role is wanting, and nothing of what is recorded.
 *
 * Any loop's thread. O(roles of the principal), and O(1) where no tokens are in use.
 */
#include "access/principal.h"
#include "base/log.h"
#include "commands/command.h"
#include "sessions/sessions.h"
#include "watches/feed.h"

static bool refuse(struct call *call, const char *wanted, const char *name)
{
    if (call->command->flags & COMMAND_ADMIN)
        log_event(LOG_LEVEL_WARNING, "refused", "command", call->command->name, "client", call->client->peer,
                  "principal", principal_name(call->client->principal), NULL);
    reply_error(call->reply, ERROR_NOPERM, "%s needs the role %s%.200s", call->command->name, wanted, name);
    return false;
}

static const struct principal *principal_of_call(const struct call *call)
{
    return principal_of(call->client->node->access, call->client->principal);
}

static bool takes_model(const struct command *command)
{
    for (size_t i = 0; i < command->spec_count; i++)
        if (command->specs[i].slot == SLOT_MODEL)
            return true;
    return false;
}

static bool permit_read(struct call *call, const struct principal *principal)
{
    struct arguments *arguments = &call->arguments;
    if (principal_may_read(principal))
        return true;
    if (!takes_model(call->command))
        return refuse(call, "read", "");
    const char *model = arguments->model;
    enum sight sight = principal_narrow(principal, &model);
    if (sight == SIGHT_REFUSED)
        return arguments->model ? refuse(call, "read or model:", arguments->model) : refuse(call, "read", "");
    if (sight == SIGHT_AMBIGUOUS) {
        reply_error(call->reply, ERROR_NOPERM, "%s: say which of your models you mean", call->command->name);
        return false;
    }
    arguments->model = model;
    arguments->given |= 1U << SLOT_MODEL;
    return true;
}

/* The server that a call states; commands that read their words themselves have it first. */
static const char *server_of(const struct call *call)
{
    if (call->arguments.server)
        return call->arguments.server;
    return call->words && call->word_count > 1 && slice_is_text(call->words[1]) ? call->words[1].text : NULL;
}

static bool permit_write(struct call *call, const struct principal *principal)
{
    const char *server = server_of(call);
    if (principal_may_admin(principal) || (server && principal_may_report(principal, server)))
        return true;
    return refuse(call, "report:", server ? server : "SERVER");
}

static bool permit_join(struct call *call, const struct principal *principal)
{
    const struct arguments *arguments = &call->arguments;
    if (principal_may_admin(principal) ||
        (arguments->model && arguments->agent && principal_may_join(principal, arguments->model, arguments->agent)))
        return true;
    return refuse(call, "join:", arguments->model ? arguments->model : "MODEL");
}

static bool permit_admin(struct call *call, const struct principal *principal)
{
    const struct arguments *arguments = &call->arguments;
    if (!principal_may_admin(principal))
        return refuse(call, "admin", "");
    log_event(LOG_LEVEL_INFO, "administered", "command", call->command->name, "server",
              arguments->server ? arguments->server : "", "client", call->client->peer, "principal",
              principal_name(principal), NULL);
    return true;
}

bool command_admit(struct call *call)
{
    if (call->command->flags & COMMAND_OPEN || principal_of_call(call))
        return true;
    reply_error(call->reply, ERROR_NOAUTH, "Authentication required.");
    return false;
}

bool command_permit(struct call *call)
{
    uint32_t flags = call->command->flags;
    const struct principal *principal = principal_of_call(call);
    if (flags & COMMAND_OPEN)
        return true;
    if (!principal)
        return command_admit(call);
    return (!(flags & COMMAND_ADMIN) || permit_admin(call, principal)) &&
           (!(flags & COMMAND_WRITE) || permit_write(call, principal)) &&
           (!(flags & COMMAND_JOIN) || permit_join(call, principal)) &&
           (!(flags & COMMAND_READ) || permit_read(call, principal));
}

bool command_sees_servers(const struct call *call)
{
    const struct principal *principal = principal_of_call(call);
    return principal && principal_may_read(principal);
}

bool command_permits_client(const struct client *client, const struct principal *principal)
{
    return sessions_permit(client, principal) && feed_permits(client, principal);
}

bool command_permits_run(const struct call *call)
{
    uint32_t flags = call->command->flags;
    const struct principal *principal = principal_of_call(call);
    if (!principal)
        return false;
    if (principal_may_admin(principal))
        return true;
    if (call->word_count < 2 || !slice_is_text(call->words[1]))
        return false;
    return (!(flags & COMMAND_WRITE) || principal_may_report(principal, call->words[1].text)) &&
           (!(flags & COMMAND_READ) || principal_may_read_model(principal, call->words[1].text)) &&
           !(flags & (COMMAND_ADMIN | COMMAND_JOIN));
}
