/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.c - GET /v1/events: a watch as Server-Sent Events.
 *
 * Each event has an id to resume from (`revision.index`, sent back as Last-Event-ID), its kind as its name, and its
 * facts as JSON. A comment every PING_S shows both sides that the other is there. What waits for a reader that is too
 * slow is bounded by max-output-bytes: then it is cut off, and may resume.
 *
 * The loop of the connection. A stream at rest costs its watch and a timer.
 */
#include "http/exchange.h"
#include "watches/feed.h"

#include <stdlib.h>

enum { PING_S = 15, MOST_ID = 48, INPUT_WHILE_STREAMING = 4096 };

struct event_stream {
    struct stream stream; /* first */
    struct http_connection *connection;
    struct event *ping;
    struct json_reply json;
    struct bytes out; /* events that are said, and not yet with evhttp */
};

static struct event_stream *stream_of(struct client *client)
{
    return (struct event_stream *)(void *)((struct http_connection *)(void *)client)->stream;
}

static void add_line(struct bytes *out, const char *name, const char *value)
{
    bytes_append(out, name, strlen(name));
    bytes_append(out, value, strlen(value));
    bytes_append(out, "\n", 1);
}

static struct reply *begin_event(struct client *client, const char *kind, const char *id)
{
    struct event_stream *stream = stream_of(client);
    if (id)
        add_line(&stream->out, "id: ", id);
    add_line(&stream->out, "event: ", kind);
    bytes_append(&stream->out, "data: ", 6);
    json_reply_init(&stream->json);
    return &stream->json.reply;
}

static void end_event(struct client *client)
{
    struct event_stream *stream = stream_of(client);
    if (!json_reply_dump(&stream->json, &stream->out))
        stream->out.failed = true;
    json_reply_free(&stream->json);
    bytes_append(&stream->out, "\n\n", 2);
}

static void free_bytes(const void *data, size_t length, void *context)
{
    (void)data, (void)length;
    free(context);
}

/* Gives evhttp what was said. False: the client is cut off. */
static bool flush_events(struct client *client)
{
    struct http_connection *connection = (struct http_connection *)(void *)client;
    struct event_stream *stream = stream_of(client);
    struct bytes out = stream->out;
    struct evbuffer *chunk = evbuffer_new();
    stream->out = (struct bytes){0};
    bool good = chunk && !out.failed &&
                (out.length == 0 || evbuffer_add_reference(chunk, out.data, out.length, free_bytes, out.data) == 0);
    if (!good || out.length == 0)
        bytes_free(&out);
    if (good)
        evhttp_send_reply_chunk(stream->stream.request, chunk);
    output_limit(connection);
    if (chunk)
        evbuffer_free(chunk);
    bool slow = connection_waiting(connection) > client->node->config->max_output_bytes;
    if (good && !slow && !client->closing)
        return true;
    feed_close(client);
    if (slow)
        counter_add(&connection_counters(connection)->cut_off_output, 1);
    connection_cut_off(connection, slow              ? "reads too slowly"
                                   : client->closing ? "its watch has ended"
                                                     : "out of memory");
    return false;
}

static size_t waiting_events(struct client *client)
{
    return connection_waiting((struct http_connection *)(void *)client);
}

static const struct feed_sink sink = {begin_event, end_event, flush_events, waiting_events};

static void on_ping(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct event_stream *stream = context;
    bytes_append(&stream->out, ":\n\n", 3);
    flush_events(&stream->connection->client);
}

static void free_stream(struct stream *base, bool gone)
{
    struct event_stream *stream = (struct event_stream *)(void *)base;
    feed_close(&stream->connection->client);
    stream->connection->client.sink = NULL;
    stream_end(base, gone);
    if (stream->ping)
        event_free(stream->ping);
    bytes_free(&stream->out);
    free(stream);
}

/* Last-Event-ID, which a browser sends by itself, is stronger than `after` in the query, with which it began. */
static bool take_last_id(struct exchange *exchange)
{
    const char *id = exchange_asked(exchange, "Last-Event-ID");
    return !id || !*id || strlen(id) > MOST_ID ||
           argument_set(&exchange->call, SLOT_AFTER, "Last-Event-ID", slice_of(id));
}

static void add_headers(struct exchange *exchange)
{
    exchange_header(exchange, "Content-Type", "text/event-stream");
    exchange_header(exchange, "Cache-Control", "no-store");
    exchange_header(exchange, "X-Accel-Buffering", "no");
    exchange_header(exchange, "X-Content-Type-Options", "nosniff");
}

/* What is not to be a stream after all: an error, or a HEAD. */
static void send_no_stream(struct exchange *exchange, struct event_stream *stream)
{
    struct client *client = &exchange->connection->client;
    feed_close(client);
    client->sink = NULL;
    event_free(stream->ping);
    free(stream);
    if (exchange->json.is_error) {
        exchange_send_reply(exchange);
    } else {
        add_headers(exchange);
        exchange_send_stream_head(exchange);
    }
}

static void start_reply(struct exchange *exchange, const struct timeval *write_timeout)
{
    struct bufferevent *bufferevent = exchange->connection->bufferevent;
    add_headers(exchange);
    bufferevent_setwatermark(bufferevent, EV_READ, 0, INPUT_WHILE_STREAMING);
    bufferevent_set_timeouts(bufferevent, NULL, write_timeout->tv_sec > 0 ? write_timeout : NULL);
    evhttp_send_reply_start(exchange->request, 200, "OK");
}

void events_answer(struct exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    struct client *client = &connection->client;
    uint64_t timeout_ms = client->node->config->request_timeout;
    const struct timeval ping = {PING_S, 0}, write_timeout = {(time_t)((timeout_ms + 999) / 1000), 0};
    struct event_stream *stream = calloc(1, sizeof *stream);
    if (stream)
        stream->ping = event_new(client->loop->base, -1, EV_PERSIST, on_ping, stream);
    if (!stream || !stream->ping || event_add(stream->ping, &ping) != 0) {
        if (stream && stream->ping)
            event_free(stream->ping);
        free(stream);
        exchange_problem(exchange, 503, "BUSY", "out of memory");
        return;
    }
    client->sink = &sink;
    client->closing = false;
    if (take_last_id(exchange))
        command_execute(&exchange->call);
    if (exchange->json.is_error || exchange_is_head(exchange)) {
        send_no_stream(exchange, stream);
        return;
    }
    stream->stream = (struct stream){exchange->request, free_stream};
    stream->connection = connection;
    connection->stream = &stream->stream;
    start_reply(exchange, &write_timeout);
}
