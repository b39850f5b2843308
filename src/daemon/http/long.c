/* SPDX-License-Identifier: Apache-2.0 */
/*
 * long.c - requests whose command is run as a job (worker/worker.h), and large lists, which are read there too.
 *
 * The job has the exchange as its own, with a copy of the client; it shares nothing with the loop. evhttp asks for no
 * next request of a connection before this one is answered. A client that goes meanwhile is told nothing; what it asked
 * for is done. A stop waits for the answer, as for all that ends soon.
 *
 * The loop of the connection, but for run_job. O(1) beside the command.
 */
#include "http/exchange.h"

#include "access/principal.h"
#include "worker/worker.h"

#include <stdlib.h>

enum { LONG_BODY_BYTES = 256 * 1024 }; /* some milliseconds to read as JSON */

struct http_job {
    struct stream stream; /* first */
    struct job job;
    struct client asker;
    struct exchange exchange;
    struct evbuffer *body; /* of a list; NULL: none */
    struct bytes answer;   /* as JSON, ready to be sent; empty: it is an error, or memory was out */
    bool gone;             /* nobody waits for it */
};

static void free_job(struct http_job *job)
{
    principal_release(job->asker.principal);
    bytes_free(&job->answer);
    if (job->body)
        evbuffer_free(job->body);
    json_reply_free(&job->exchange.json);
    json_decref(job->exchange.body);
    free(job->exchange.texts);
    free(job);
}

/* The client has gone; the job has not. */
static void let_go(struct stream *stream, bool gone)
{
    struct http_job *job = (struct http_job *)(void *)stream;
    job->gone = true;
    if (gone && !evhttp_request_get_connection(stream->request))
        evhttp_request_free(stream->request); /* parted from its connection, and nobody's but ours */
}

static struct http_job *job_of(struct job *base)
{
    return (struct http_job *)(void *)((char *)base - offsetof(struct http_job, job));
}

static void run_job(struct job *base)
{
    struct http_job *job = job_of(base);
    if (job->body)
        body_state_list(&job->exchange, job->body);
    else
        command_execute(&job->exchange.call);
    struct json_reply *json = &job->exchange.json;
    if (json->is_error || !json_reply_dump(json, &job->answer)) {
        bytes_free(&job->answer);
        return;
    }
    bytes_append(&job->answer, "\n", 1);
    json_reply_free(json); /* which takes as long as the writing */
    json_reply_init(json);
}

static void end_job(struct job *base)
{
    struct http_job *job = job_of(base);
    struct exchange *exchange = &job->exchange;
    struct http_connection *connection = exchange->connection;
    if (!job->gone) {
        connection->stream = NULL;
        exchange->call.client = &connection->client;
        if (base->skipped)
            exchange_problem(exchange, 503, "BUSY", "this node is stopping");
        else if (job->answer.length > 0)
            exchange_send_bytes(exchange, 200, "application/json", &job->answer);
        else
            exchange_send_reply(exchange);
        connection_rest(connection);
    }
    free_job(job);
}

/* Takes over what the exchange holds. */
static void move_exchange(struct http_job *job, struct exchange *from)
{
    struct exchange *exchange = &job->exchange;
    job->asker = from->connection->client;
    job->asker.on_worker = true;
    job->asker.principal = principal_keep(job->asker.principal);
    *exchange = *from;
    json_reply_init(&exchange->json);
    exchange->call.client = &job->asker;
    exchange->call.reply = &exchange->json.reply;
    if (from->call.arguments.rest == &from->rest)
        exchange->call.arguments.rest = &exchange->rest;
    from->texts = NULL;
    from->body = NULL;
}

/* The other way, where the job is not taken. */
static void give_back(struct http_job *job, struct exchange *to)
{
    to->texts = job->exchange.texts;
    to->body = job->exchange.body;
    job->exchange.texts = NULL;
    job->exchange.body = NULL;
}

static void refuse(struct exchange *exchange)
{
    exchange_header(exchange, "Retry-After", "1");
    command_say_too_long(&exchange->call);
    exchange_send_reply(exchange);
}

void long_answer(struct exchange *exchange, bool is_list)
{
    struct http_connection *connection = exchange->connection;
    struct http_job *job = calloc(1, sizeof *job);
    if (job && is_list && !(job->body = evbuffer_new())) {
        free(job);
        job = NULL;
    }
    if (!job) {
        refuse(exchange);
        return;
    }
    if (job->body && evbuffer_add_buffer(job->body, evhttp_request_get_input_buffer(exchange->request)) != 0) {
        json_reply_init(&job->exchange.json);
        free_job(job);
        refuse(exchange);
        return;
    }
    move_exchange(job, exchange);
    job->stream = (struct stream){exchange->request, let_go, .ends_soon = true};
    job->job = (struct job){.run = run_job,
                            .done = end_job,
                            .loop = connection->client.loop,
                            .server = command_writes_to(&job->exchange.call),
                            .waits = exchange->call.command->flags & COMMAND_WAITS};
    connection->stream = &job->stream;
    if (worker_offer(connection->client.node, &job->job))
        return;
    connection->stream = NULL;
    give_back(job, exchange);
    free_job(job);
    refuse(exchange);
}

bool long_is_list(const struct exchange *exchange)
{
    const struct call *call = &exchange->call;
    size_t length = evbuffer_get_length(evhttp_request_get_input_buffer(exchange->request));
    return length > LONG_BODY_BYTES ? call->client->node->worker != NULL : command_is_long(call);
}
