/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - GET /report: every connection as text, by model, then agent, server and id, in aligned columns.
 *
 * One view, in small steps over the turns of the loop, which serves others in between: a model's rows are gathered in
 * runs, each sorted as it is full; once all are there, and the widths of the columns with them, the runs are merged as
 * they are written, a piece of text at a time, each once the one before is with the kernel. So what waits in memory is
 * a row of 32 bytes for each connection of the largest model, and one piece. Reports of more than MOST_ROWS together on
 * one loop are refused, but for one alone; and none is sent for longer than report-timeout, for it holds its view and
 * its rows: then the client is cut off, and misses the last chunk.
 *
 * Widths are those of characters, not bytes. The loop of the connection; a step costs about a millisecond.
 */
#include "http/exchange.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    COLUMNS = 3,
    BETWEEN_COLUMNS = 2,
    ID_BYTES = 24,
    RUN_ROWS = 1024, /* the most that one step looks at */
    MODEL_ROWS = 16, /* what the beginning of a model is worth in rows */
    PIECE_BYTES = 32 * 1024,
    MOST_ROWS = 4 * 1024 * 1024,
};

/* What the report tells of a connection; the texts belong to the slice. */
struct row {
    const char *agent, *server;
    uint64_t id;
    presence_status status;
    bool controller;
};

/* A sorted part of the rows. */
struct run {
    const struct row *next, *end;
};

struct report {
    struct stream stream; /* first */
    struct http_connection *connection;
    presence_connections *view;
    char **models;
    size_t model_count, at;
    size_t reserved; /* rows, of MOST_ROWS */
    struct event *next;
    struct event *last; /* its time is over; NULL: it has no end */
    /* of the model at hand; NULL: it has not begun */
    presence_connections *slice;
    presence_cursor cursor;
    struct row *rows;
    size_t filled, count;
    struct run *runs; /* a heap once all rows are gathered: the least row first */
    size_t run_count;
    bool gathered;
    size_t widths[COLUMNS];
};

static int compare(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    int order = strcmp(a->agent, b->agent);
    if (order == 0)
        order = strcmp(a->server, b->server);
    return order ? order : (a->id > b->id) - (a->id < b->id);
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

static const char *mark_of(const struct row *row)
{
    return row->controller ? " (controller)" : "";
}

/* ---------------------------------------------------------------------------------------------------- gathering -- */

static void end_model(struct report *report)
{
    free(report->rows);
    free(report->runs);
    presence_connections_free(report->slice);
    report->rows = NULL;
    report->runs = NULL;
    report->slice = NULL;
}

/* False: out of memory. */
static bool begin_model(struct report *report)
{
    static const size_t least[COLUMNS] = {sizeof "AGENT" - 1, sizeof "SERVER" - 1, sizeof "CONN ID" - 1};
    report->slice = presence_connections_for_model(report->view, report->models[report->at]);
    report->count = report->slice ? presence_connections_count(report->slice) : 0;
    report->rows = malloc((report->count + 1) * sizeof *report->rows);
    report->runs = malloc((report->count / RUN_ROWS + 1) * sizeof *report->runs);
    report->cursor = (presence_cursor){0};
    report->filled = report->run_count = 0;
    report->gathered = false;
    memcpy(report->widths, least, sizeof least);
    return report->slice && report->rows && report->runs;
}

/* The row at `at` may be greater than those below it. */
static void sift(struct run *runs, size_t count, size_t at)
{
    for (size_t least; (least = 2 * at + 1) < count; at = least) {
        if (least + 1 < count && compare(runs[least + 1].next, runs[least].next) < 0)
            least++;
        if (compare(runs[at].next, runs[least].next) <= 0)
            return;
        struct run swapped = runs[at];
        runs[at] = runs[least];
        runs[least] = swapped;
    }
}

/* One run more, or what there is of one. */
static void gather(struct report *report)
{
    char id[ID_BYTES];
    presence_value value;
    struct row *begin = report->rows + report->filled, *row = begin;
    struct row *end = report->rows + report->count;
    while (row < end && row - begin < RUN_ROWS && presence_connections_next(report->slice, &report->cursor, &value)) {
        *row = (struct row){value.agent, value.server, value.connection_id, value.status, value.controller_agent};
        widen(&report->widths[0], width_of(row->agent) + strlen(mark_of(row)));
        widen(&report->widths[1], width_of(row->server));
        widen(&report->widths[2], (size_t)snprintf(id, sizeof id, "%" PRIu64, row->id));
        row++;
    }
    report->filled += (size_t)(row - begin);
    report->gathered = row == end || row - begin < RUN_ROWS;
    if (row == begin)
        return;
    qsort(begin, (size_t)(row - begin), sizeof *begin, compare);
    report->runs[report->run_count++] = (struct run){begin, row};
}

/* ------------------------------------------------------------------------------------------------------ writing -- */

static void write_heads(const struct report *report, struct bytes *out)
{
    static const char *const heads[COLUMNS] = {"AGENT", "SERVER", "CONN ID"};
    const char *model = report->models[report->at], *begin = report->at > 0 ? "\n[" : "[";
    bytes_append(out, begin, strlen(begin));
    bytes_append(out, model, strlen(model));
    bytes_append(out, "]\n\n", 3);
    for (size_t i = 0; i < COLUMNS; i++)
        add_cell(out, heads[i], "", report->widths[i]);
    bytes_append(out, "STATUS\n", 7);
}

static void write_row(const struct report *report, const struct row *row, struct bytes *out)
{
    char id[ID_BYTES];
    const char *status = presence_status_string(row->status);
    snprintf(id, sizeof id, "%" PRIu64, row->id);
    add_cell(out, row->agent, mark_of(row), report->widths[0]);
    add_cell(out, row->server, "", report->widths[1]);
    add_cell(out, id, "", report->widths[2]);
    bytes_append(out, status, strlen(status));
    bytes_append(out, "\n", 1);
}

/* At most so many rows, or a piece. How many. */
static size_t write_rows(struct report *report, struct bytes *out, size_t most)
{
    struct run *runs = report->runs;
    size_t count = 0;
    for (; report->run_count > 0 && count < most && out->length < PIECE_BYTES && !out->failed; count++) {
        write_row(report, runs->next, out);
        if (++runs->next == runs->end)
            *runs = runs[--report->run_count];
        sift(runs, report->run_count, 0);
    }
    return count;
}

/* Goes on by about RUN_ROWS rows, or until there is a piece to send. False: out of memory. */
static bool take_step(struct report *report, struct bytes *out)
{
    for (size_t left = RUN_ROWS, used; left > 0 && report->at < report->model_count && out->length < PIECE_BYTES;
         left -= used < left ? used : left) {
        used = MODEL_ROWS;
        if (!report->slice) {
            if (!begin_model(report))
                return false;
        } else if (!report->gathered) {
            size_t before = report->filled;
            gather(report);
            used += report->filled - before;
            for (size_t i = report->gathered ? report->run_count / 2 : 0; i-- > 0;)
                sift(report->runs, report->run_count, i);
            if (report->gathered)
                write_heads(report, out);
        } else if (report->run_count > 0) {
            used = write_rows(report, out, left);
        } else {
            end_model(report);
            report->at++;
        }
        if (out->failed)
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------------- the reply -- */

static void free_report(struct stream *base, bool gone)
{
    struct report *report = (struct report *)(void *)base;
    stream_end(base, gone);
    report->connection->loop->report_rows -= report->reserved;
    end_model(report);
    presence_names_free(report->models);
    presence_connections_free(report->view);
    event_free(report->next);
    if (report->last)
        event_free(report->last);
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

/* Takes over what `out` holds. False: out of memory. */
static bool send_piece(struct report *report, struct bytes *out)
{
    struct evbuffer *chunk = evbuffer_new();
    bool good = chunk && evbuffer_add_reference(chunk, out->data, out->length, free_bytes, out->data) == 0;
    if (good) {
        evhttp_send_reply_chunk_with_cb(report->stream.request, chunk, on_sent, report);
        output_limit(report->connection);
    } else {
        bytes_free(out);
    }
    if (chunk)
        evbuffer_free(chunk);
    return good;
}

/* A step: afterwards there is a piece to send, or another step to take once the loop has looked at the others (a timer,
 * for what is activated at once comes before them), or the end. */
static void on_next(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    static const struct timeval soon = {0, 0};
    struct report *report = context;
    struct http_connection *connection = report->connection;
    struct bytes out = {0};
    if (report->at == report->model_count) {
        connection->stream = NULL;
        connection_rest(connection);
        free_report(&report->stream, false);
        return;
    }
    bool good = take_step(report, &out);
    if (!good)
        bytes_free(&out);
    else if (out.length > 0)
        good = send_piece(report, &out);
    else
        good = event_add(report->next, &soon) == 0;
    if (!good)
        connection_cut_off(connection, "out of memory for its report");
}

static void on_last(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    const struct report *report = context;
    counter_add(&connection_counters(report->connection)->cut_off_reports, 1);
    output_give_up(report->connection);
    connection_cut_off(report->connection, "its report takes longer than report-timeout");
}

/* False: out of memory. */
static bool set_last(struct report *report, const struct call *call)
{
    const uint64_t most_ms = call->client->node->config->report_timeout;
    const struct timeval most = {(time_t)(most_ms / 1000), (suseconds_t)(most_ms % 1000 * 1000)};
    if (most_ms == 0)
        return true;
    report->last = event_new(call->client->loop->base, -1, 0, on_last, report);
    return report->last && event_add(report->last, &most) == 0;
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
    if (!report->view || !report->next || !set_last(report, call))
        return PRESENCE_E_NO_MEMORY;
    return presence_connections_models(report->view, &report->models, &report->model_count);
}

/* Room for its rows, beside those of others. */
static bool reserve(struct report *report, struct http_loop *loop)
{
    size_t rows = presence_connections_count(report->view);
    if (loop->report_rows > 0 && (rows > MOST_ROWS || loop->report_rows > MOST_ROWS - rows))
        return false;
    report->reserved = rows;
    loop->report_rows += rows;
    return true;
}

/* A report whose reply has not begun. */
static void drop(struct report *report)
{
    if (!report)
        return;
    if (report->next)
        event_free(report->next);
    if (report->last)
        event_free(report->last);
    presence_names_free(report->models);
    presence_connections_free(report->view);
    free(report);
}

void report_answer(struct exchange *exchange)
{
    static const char type[] = "text/plain; charset=utf-8";
    struct report *report = calloc(1, sizeof *report);
    int code = report ? take_view(report, &exchange->call) : PRESENCE_E_NO_MEMORY;
    if (code) {
        drop(report);
        command_failed(&exchange->call, code, NULL);
        exchange_send_reply(exchange);
        return;
    }
    if (report->model_count == 0) {
        drop(report);
        exchange_send(exchange, 200, type, NULL, 0);
        return;
    }
    if (!reserve(report, exchange->connection->loop)) {
        drop(report);
        counter_add_shared(&connection_counters(exchange->connection)->limited, 1);
        exchange_header(exchange, "Retry-After", "1");
        exchange_problem(exchange, 503, "BUSY", "too large a report beside those that are being sent");
        return;
    }
    exchange_header(exchange, "Content-Type", type);
    exchange_header(exchange, "Cache-Control", "no-cache");
    exchange_header(exchange, "X-Content-Type-Options", "nosniff");
    if (exchange_is_head(exchange)) {
        exchange->connection->loop->report_rows -= report->reserved;
        drop(report);
        exchange_send_stream_head(exchange);
        return;
    }
    report->stream = (struct stream){exchange->request, free_report, .ends_soon = true};
    report->connection = exchange->connection;
    exchange->connection->stream = &report->stream;
    evhttp_send_reply_start(exchange->request, 200, "OK");
    event_active(report->next, EV_TIMEOUT, 0);
}
