/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - GET /report: every connection as text, by model, then agent, server and id, in aligned columns.
 *
 * One view, sent a model at a time, each once the one before is with the kernel, so that what waits in memory is one
 * model's text at most. Sorting a model is O(n log n) of its connections. Widths are those of characters, not bytes.
 * The loop of the connection.
 */
#include "http/exchange.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS = 3, BETWEEN_COLUMNS = 2, ID_BYTES = 24 };

struct report {
    struct stream stream; /* first */
    struct http_connection *connection;
    presence_connections *view;
    char **models;
    size_t model_count, at;
    struct event *next;
};

static int compare(const void *left, const void *right)
{
    const presence_value *a = left, *b = right;
    int order = strcmp(a->agent, b->agent);
    if (order == 0)
        order = strcmp(a->server, b->server);
    return order ? order : (a->connection_id > b->connection_id) - (a->connection_id < b->connection_id);
}

/* Characters of UTF-8: bytes that do not go on with one. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void add_cell(struct bytes *out, const char *text, const char *more, size_t width)
{
    static const char blanks[] = "                                ";
    size_t used = width_of(text) + strlen(more);
    bytes_append(out, text, strlen(text));
    bytes_append(out, more, strlen(more));
    for (size_t left = width + BETWEEN_COLUMNS - used, step; left > 0; left -= step) {
        step = left < sizeof blanks - 1 ? left : sizeof blanks - 1;
        bytes_append(out, blanks, step);
    }
}

static void widen(size_t *width, size_t wanted)
{
    if (wanted > *width)
        *width = wanted;
}

static const char *mark_of(const presence_value *value)
{
    return value->controller_agent ? " (controller)" : "";
}

static void add_table(struct bytes *out, const presence_value *values, size_t count)
{
    static const char *const heads[COLUMNS] = {"AGENT", "SERVER", "CONN ID"};
    size_t widths[COLUMNS];
    char id[ID_BYTES];
    for (size_t i = 0; i < COLUMNS; i++)
        widths[i] = strlen(heads[i]);
    for (size_t i = 0; i < count; i++) {
        widen(&widths[0], width_of(values[i].agent) + strlen(mark_of(&values[i])));
        widen(&widths[1], width_of(values[i].server));
        widen(&widths[2], (size_t)snprintf(id, sizeof id, "%" PRIu64, values[i].connection_id));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        add_cell(out, heads[i], "", widths[i]);
    bytes_append(out, "STATUS\n", 7);
    for (size_t i = 0; i < count; i++) {
        snprintf(id, sizeof id, "%" PRIu64, values[i].connection_id);
        add_cell(out, values[i].agent, mark_of(&values[i]), widths[0]);
        add_cell(out, values[i].server, "", widths[1]);
        add_cell(out, id, "", widths[2]);
        const char *status = presence_status_string(values[i].status);
        bytes_append(out, status, strlen(status));
        bytes_append(out, "\n", 1);
    }
}

/* A model's part of the report. False: out of memory. */
static bool add_model(struct report *report, struct bytes *out)
{
    const char *model = report->models[report->at];
    presence_connections *slice = presence_connections_for_model(report->view, model);
    size_t count = slice ? presence_connections_count(slice) : 0, filled = 0;
    presence_value *values = slice ? malloc((count + 1) * sizeof *values) : NULL;
    presence_cursor cursor = {0};
    if (!values) {
        presence_connections_free(slice);
        return false;
    }
    while (filled < count && presence_connections_next(slice, &cursor, &values[filled]))
        filled++;
    qsort(values, filled, sizeof *values, compare);
    bytes_append(out, report->at > 0 ? "\n[" : "[", report->at > 0 ? 2 : 1);
    bytes_append(out, model, strlen(model));
    bytes_append(out, "]\n\n", 3);
    add_table(out, values, filled);
    free(values);
    presence_connections_free(slice);
    return !out->failed;
}

static void free_report(struct stream *base, bool gone)
{
    struct report *report = (struct report *)(void *)base;
    stream_end(base, gone);
    presence_names_free(report->models);
    presence_connections_free(report->view);
    if (report->next)
        event_free(report->next);
    free(report);
}

static void on_sent(struct evhttp_connection *evhttp_connection, void *context)
{
    (void)evhttp_connection;
    struct report *report = context;
    event_active(report->next, EV_TIMEOUT, 0); /* not from within evhttp's own turn */
}

static void free_bytes(const void *data, size_t length, void *context)
{
    (void)data, (void)length;
    free(context);
}

/* Sends the next model, or the end. */
static void on_next(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct report *report = context;
    struct http_connection *connection = report->connection;
    struct bytes out = {0};
    if (report->at == report->model_count) {
        connection->stream = NULL;
        connection_rest(connection);
        free_report(&report->stream, false);
        return;
    }
    struct evbuffer *chunk = evbuffer_new();
    if (!chunk || !add_model(report, &out) ||
        evbuffer_add_reference(chunk, out.data, out.length, free_bytes, out.data) != 0) {
        bytes_free(&out);
        connection_cut_off(connection, "out of memory for its report");
    } else {
        report->at++;
        evhttp_send_reply_chunk_with_cb(report->stream.request, chunk, on_sent, report);
        output_limit(connection);
    }
    if (chunk)
        evbuffer_free(chunk);
}

static int take_view(struct report *report, const struct call *call)
{
    presence_recorder *recorder = call->client->node->recorder;
    if (!presence_recorder_is_enabled(recorder))
        return PRESENCE_E_DISABLED;
    report->view = presence_recorder_connections(recorder);
    if (report->view && call->arguments.model) {
        presence_connections *all = report->view;
        report->view = presence_connections_for_model(all, call->arguments.model);
        presence_connections_free(all);
    }
    report->next = event_new(call->client->loop->base, -1, 0, on_next, report);
    if (!report->view || !report->next)
        return PRESENCE_E_NO_MEMORY;
    return presence_connections_models(report->view, &report->models, &report->model_count);
}

void report_answer(struct exchange *exchange)
{
    static const char type[] = "text/plain; charset=utf-8";
    struct report *report = calloc(1, sizeof *report);
    int code = report ? take_view(report, &exchange->call) : PRESENCE_E_NO_MEMORY;
    if (code || report->model_count == 0 || evhttp_request_get_command(exchange->request) == EVHTTP_REQ_HEAD) {
        if (report && report->next)
            event_free(report->next);
        if (report) {
            presence_names_free(report->models);
            presence_connections_free(report->view);
        }
        free(report);
        if (code) {
            command_failed(&exchange->call, code, NULL);
            exchange_send_reply(exchange);
        } else {
            exchange_send(exchange, 200, type, NULL, 0);
        }
        return;
    }
    report->stream = (struct stream){exchange->request, free_report};
    report->connection = exchange->connection;
    exchange->connection->stream = &report->stream;
    exchange_header(exchange, "Content-Type", type);
    exchange_header(exchange, "Cache-Control", "no-cache");
    exchange_header(exchange, "X-Content-Type-Options", "nosniff");
    evhttp_send_reply_start(exchange->request, 200, "OK");
    event_active(report->next, EV_TIMEOUT, 0);
}
