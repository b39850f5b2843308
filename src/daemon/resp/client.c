/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - serving one RESP client: read, parse, run, write, in one go.
 *
 * Input is read into the loop's scratch and replies are gathered in the loop's scratch; only the beginning of a command
 * that is not whole, and replies that the socket did not take, are copied to the client. A pipeline of any length is
 * one read and one write for each 64 KiB, and runs of one command go to the recorder as a batch. A client that does not
 * read its replies is not read from while they wait, and is cut off beyond max-output-bytes.
 *
 * Keeps true: replies come in the order of their commands; a protocol error is told, and ends this client alone.
 * The owner's loop only. The cost beside the commands: two system calls a pipeline.
 */
#include "resp/client.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_readable(evutil_socket_t fd, short what, void *context);
static void on_writable(evutil_socket_t fd, short what, void *context);

static struct counters *counters_of(const struct resp_client *client)
{
    return &client->owner->node->counters[client->owner->loop->index];
}

void resp_client_open(struct resp_clients *owner, evutil_socket_t fd, const char *peer)
{
    struct resp_client *client = calloc(1, sizeof *client);
    if (!client)
        goto no_memory;
    client->client = (struct client){.node = owner->node, .loop = owner->loop, .kind = CLIENT_RESP, .version = 2};
    client->client.id = atomic_fetch_add(&owner->node->last_client_id, 1) + 1;
    strncpy(client->client.peer, peer, CLIENT_PEER_BYTES - 1);
    client->owner = owner;
    client->fd = fd;
    resp_parser_init(&client->parser, &owner->limits);
    client->readable = event_new(owner->loop->base, fd, EV_READ | EV_PERSIST, on_readable, client);
    client->writable = event_new(owner->loop->base, fd, EV_WRITE | EV_PERSIST, on_writable, client);
    if (!client->readable || !client->writable || event_add(client->readable, NULL) != 0)
        goto no_memory;
    client->next = owner->first;
    client->link = &owner->first;
    if (client->next)
        client->next->link = &client->next;
    owner->first = client;
    counter_add(&counters_of(client)->accepted, 1);
    return;

no_memory:
    if (client && client->readable)
        event_free(client->readable);
    if (client && client->writable)
        event_free(client->writable);
    free(client);
    close(fd);
    node_dismiss_client(owner->node);
}

void resp_client_close(struct resp_client *client)
{
    *client->link = client->next;
    if (client->next)
        client->next->link = client->link;
    event_free(client->readable);
    event_free(client->writable);
    close(client->fd);
    resp_parser_free(&client->parser);
    bytes_free(&client->input);
    bytes_free(&client->output);
    node_dismiss_client(client->owner->node);
    free(client);
}

/* ------------------------------------------------------------------------------------------------------- writing -- */

/* Writes what the socket takes; how much, or -1 where it is gone. */
static ssize_t write_some(struct resp_client *client, const char *data, size_t length)
{
    size_t sum = 0;
    while (sum < length) {
        ssize_t written = send(client->fd, data + sum, length - sum, MSG_NOSIGNAL);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (written < 0)
            return -1;
        sum += (size_t)written;
    }
    counter_add(&counters_of(client)->bytes_out, sum);
    return (ssize_t)sum;
}

/* Sends the gathered replies, behind those that wait already. False: the client was closed. */
static bool send_replies(struct resp_client *client, struct bytes *replies)
{
    size_t written = 0;
    bool lost = replies->failed;
    if (!lost && client->output.length == 0) {
        ssize_t sent = write_some(client, replies->data, replies->length);
        lost = sent < 0;
        written = lost ? 0 : (size_t)sent;
    }
    size_t left = replies->length - written;
    if (!lost && left > 0) {
        bytes_append(&client->output, replies->data + written, left);
        lost = client->output.failed || event_add(client->writable, NULL) != 0;
        /* Until they are gone, no more is read: whoever does not read its replies gets no new ones. */
        event_del(client->readable);
    }
    replies->length = 0;
    replies->failed = false;
    if (!lost && client->output.length > client->owner->node->config->max_output_bytes) {
        log_event(LOG_LEVEL_WARNING, "client cut off", "client", client->client.peer, "why", "reads too slowly", NULL);
        counter_add(&counters_of(client)->cut_off_output, 1);
        lost = true;
    }
    if (lost || (client->client.closing && client->output.length == 0)) {
        resp_client_close(client);
        return false;
    }
    return true;
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct resp_client *client = context;
    ssize_t written = write_some(client, client->output.data, client->output.length);
    if (written < 0) {
        resp_client_close(client);
        return;
    }
    bytes_drop(&client->output, (size_t)written);
    if (client->output.length > 0)
        return;
    bytes_free(&client->output);
    event_del(client->writable);
    if (client->client.closing || event_add(client->readable, NULL) != 0)
        resp_client_close(client);
}

/* ------------------------------------------------------------------------------------------------------- serving -- */

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
    return slice_is_word(word, "POST") || slice_is_word(word, "Host:");
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
    call.command = run->command && slice_is_word(name, run->command->name) ? run->command : command_find(name);
    if (call.command && call.command->gather) {
        if (call.command == run->command && call.command->gather(&call, run))
            return;
        finish_run(client, reply);
        if (call.command->gather(&call, run))
            return;
    }
    finish_run(client, reply);
    if (call.command) {
        command_run(&call);
    } else if (is_http(name)) {
        log_event(LOG_LEVEL_WARNING, "client cut off", "client", client->client.peer, "why", "speaks HTTP to RESP",
                  NULL);
        client->broken = client->client.closing = true;
    } else {
        reply_error(reply, ERROR_ERR, "unknown command '%.*s'", (int)(name.length < 64 ? name.length : 64), name.text);
    }
}

/* Runs every whole command of the input; how many bytes they took. */
static size_t run_commands(struct resp_client *client, char *input, size_t length, struct reply *reply)
{
    size_t at = 0, used = 0;
    uint64_t commands = 0;
    while (!client->client.closing) {
        const char *error = "";
        enum resp_outcome outcome = resp_parse(&client->parser, input + at, length - at, &used, &error);
        at += used;
        if (outcome == RESP_UNFINISHED)
            break;
        if (outcome == RESP_COMMAND) {
            commands++;
            run_command(client, reply);
            continue;
        }
        finish_run(client, reply);
        if (outcome == RESP_NO_MEMORY)
            reply_error(reply, ERROR_BUSY, "out of memory");
        else
            reply_error(reply, ERROR_ERR, "Protocol error: %s", error);
        counter_add(&counters_of(client)->protocol_errors, 1);
        client->broken = client->client.closing = true;
    }
    finish_run(client, reply);
    counter_add(&counters_of(client)->commands, commands);
    return at;
}

/* Where the next bytes go: behind the beginning of a command, if there is one, else into the loop's scratch. */
static char *room_to_read(struct resp_client *client, size_t *room)
{
    struct bytes *input = &client->input;
    *room = LOOP_SCRATCH_BYTES;
    if (input->length == 0)
        return client->owner->loop->input;
    char *to = bytes_reserve(input, 16 * 1024);
    if (to)
        *room = input->capacity - input->length;
    return to;
}

/* Keeps what is not a whole command yet. False: out of memory. */
static bool keep_rest(struct resp_client *client, const char *data, size_t length, size_t used)
{
    struct bytes *input = &client->input;
    if (input->length == 0) {
        bytes_append(input, data + used, length - used);
        return !input->failed;
    }
    bytes_drop(input, used);
    if (input->length == 0)
        bytes_free(input);
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    (void)what;
    struct resp_client *client = context;
    struct loop *loop = client->owner->loop;
    size_t room, length;
    char *to = room_to_read(client, &room);
    ssize_t got = to ? recv(fd, to, room, 0) : -1;
    if (to && got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        resp_client_close(client);
        return;
    }
    counter_add(&counters_of(client)->bytes_in, (uint64_t)got);
    char *data = to;
    length = (size_t)got;
    if (client->input.length > 0) {
        client->input.length += length;
        data = client->input.data;
        length = client->input.length;
    }
    struct resp_reply reply;
    resp_reply_init(&reply, &loop->output, client->client.version);
    size_t used = run_commands(client, data, length, &reply.reply);
    if (reply.errors > 0)
        counter_add(&counters_of(client)->errors, reply.errors);
    if (!client->client.closing && !keep_rest(client, data, length, used))
        client->client.closing = true;
    send_replies(client, &loop->output);
}
