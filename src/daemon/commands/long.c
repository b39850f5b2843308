/* SPDX-License-Identifier: Apache-2.0 */
/*
 * long.c - which calls are too long for a loop: those that look at more than LONG_ROWS connections, which takes some
 * milliseconds, those that wait for other nodes, and those that would wait for one of them.
 *
 * Whoever writes to a server whose list is being applied waits for its end, in the recorder and at the server's fence.
 * So while a job writes to a server, other writes to it become jobs behind it: they keep their order, and wait on no
 * loop. It is a guess: what is recorded may change before the call is run. Any loop's thread; a look-up or two.
 */
#include "commands/groups.h"
#include "worker/worker.h"

static size_t rows_of_server(const struct call *call, const char *server)
{
    presence_counts counts = {0};
    presence_recorder_server_counts(call->client->node->recorder, server, &counts);
    return counts.connections;
}

static size_t rows_of_model(const struct call *call, const char *model)
{
    size_t connections = 0, agents = 0;
    presence_recorder_model_counts(call->client->node->recorder, model, &connections, &agents);
    return connections;
}

bool long_of_server(const struct call *call)
{
    return rows_of_server(call, call->arguments.server) > LONG_ROWS;
}

bool long_of_filters(const struct call *call)
{
    const struct arguments *arguments = &call->arguments;
    presence_counts all = {0};
    presence_recorder_counts(call->client->node->recorder, &all);
    return all.connections > LONG_ROWS && (!arguments->model || rows_of_model(call, arguments->model) > LONG_ROWS) &&
           (!arguments->server || rows_of_server(call, arguments->server) > LONG_ROWS);
}

const char *command_writes_to(const struct call *call)
{
    return call->command->flags & COMMAND_WRITE ? call->arguments.server : NULL;
}

bool command_is_long(const struct call *call)
{
    const struct command *command = call->command;
    const char *server = command_writes_to(call);
    return call->client->node->worker &&
           (command->flags & COMMAND_WAITS || (command->is_long && command->is_long(call)) ||
            (server && worker_write_to(call->client->node, server)));
}

void command_say_too_long(struct call *call)
{
    counter_add_shared(&call->client->node->counters[call->client->loop->index].limited, 1);
    reply_error(call->reply, ERROR_BUSY, "%s",
                call->command->flags & COMMAND_WAITS ? "other questions to the whole cluster are under way"
                                                     : "max-long-commands is reached, or memory is out: try it again");
}
