/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.c - how a request is answered: headers that every reply has, bodies, problem documents (RFC 9457).
 *
 * Keeps true: no reply is sniffed for another type, framed, or cached for others; a HEAD request gets the headers that
 * GET would get. The loop of the connection; O(body), which is not copied where it is taken over.
 */
#include "http/exchange.h"

#include <event2/http_struct.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void exchange_header(struct exchange *exchange, const char *name, const char *value)
{
    evhttp_add_header(evhttp_request_get_output_headers(exchange->request), name, value);
}

const char *exchange_asked(const struct exchange *exchange, const char *header)
{
    return evhttp_find_header(evhttp_request_get_input_headers(exchange->request), header);
}

static const char *phrase_of(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } phrases[] = {
        {200, "OK"},
        {201, "Created"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Content Too Large"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "Status";
}

/* A header that the answer has chosen itself stays. */
static void add_missing(struct exchange *exchange, const char *name, const char *value)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(exchange->request);
    if (!evhttp_find_header(headers, name))
        evhttp_add_header(headers, name, value);
}

static void send_buffer(struct exchange *exchange, int status, const char *type, struct evbuffer *body)
{
    char length[24];
    add_missing(exchange, "Cache-Control", "no-cache");
    add_missing(exchange, "X-Content-Type-Options", "nosniff");
    add_missing(exchange, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    if (type)
        add_missing(exchange, "Content-Type", type);
    if (exchange_is_head(exchange)) {
        snprintf(length, sizeof length, "%zu", evbuffer_get_length(body));
        add_missing(exchange, "Content-Length", length);
        evbuffer_drain(body, evbuffer_get_length(body));
    }
    if (status >= 400)
        counter_add(&connection_counters(exchange->connection)->errors, 1);
    evhttp_send_reply(exchange->request, status, phrase_of(status), body);
    output_limit(exchange->connection);
}

void exchange_send_nothing(struct evhttp_request *request)
{
    evhttp_add_header(evhttp_request_get_output_headers(request), "Connection", "close");
    evhttp_send_reply(request, 503, phrase_of(503), NULL);
}

bool exchange_is_head(const struct exchange *exchange)
{
    return evhttp_request_get_command(exchange->request) == EVHTTP_REQ_HEAD;
}

/* evhttp sends a stream in chunks, but to a client of HTTP/1.0, and says so only of replies with a body. */
void exchange_send_stream_head(struct exchange *exchange)
{
    if (exchange->request->major == 1 && exchange->request->minor >= 1)
        exchange_header(exchange, "Transfer-Encoding", "chunked");
    evhttp_send_reply(exchange->request, 200, phrase_of(200), NULL);
}

void exchange_send(struct exchange *exchange, int status, const char *type, const void *data, size_t length)
{
    struct evbuffer *body = evbuffer_new();
    if (!body || (length > 0 && evbuffer_add(body, data, length) != 0))
        exchange_send_nothing(exchange->request);
    else
        send_buffer(exchange, status, type, body);
    if (body)
        evbuffer_free(body);
}

static void free_bytes(const void *data, size_t length, void *context)
{
    (void)data, (void)length;
    free(context);
}

void exchange_send_bytes(struct exchange *exchange, int status, const char *type, struct bytes *bytes)
{
    struct evbuffer *body = evbuffer_new();
    if (!body || bytes->failed ||
        (bytes->length > 0 && evbuffer_add_reference(body, bytes->data, bytes->length, free_bytes, bytes->data) != 0)) {
        bytes_free(bytes);
        exchange_send_nothing(exchange->request);
    } else {
        if (bytes->length == 0)
            bytes_free(bytes);
        *bytes = (struct bytes){0};
        send_buffer(exchange, status, type, body);
    }
    if (body)
        evbuffer_free(body);
}

void exchange_problem(struct exchange *exchange, int status, const char *code, const char *format, ...)
{
    char detail[JSON_REPLY_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it was started */
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    for (char *c = detail; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
            *c = '?';
    json_t *problem = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title", phrase_of(status),
                                "status", status, "detail", detail, "code", code);
    char *text = problem ? json_dumps(problem, JSON_COMPACT) : NULL;
    json_decref(problem);
    struct bytes body = {0};
    if (text) {
        bytes_append(&body, text, strlen(text));
        bytes_append(&body, "\n", 1);
        exchange_send_bytes(exchange, status, "application/problem+json", &body);
    } else {
        exchange_send_nothing(exchange->request);
    }
    free(text);
}

static int status_of(enum error_word word)
{
    switch (word) {
    case ERROR_NOAUTH:
    case ERROR_WRONGPASS:
        return 401;
    case ERROR_NOPERM:
        return 403;
    case ERROR_STALE:
        return 409;
    case ERROR_LAGGED:
        return 410;
    case ERROR_DISABLED:
    case ERROR_BUSY:
        return 503;
    case ERROR_ERR:
    case ERROR_NOPROTO:
    case ERROR_INVALID:
    case ERROR_MISMATCH:
    case ERROR_DUPLICATE:
        break;
    }
    return 400;
}

void exchange_send_reply(struct exchange *exchange)
{
    const struct json_reply *json = &exchange->json;
    struct bytes body = {0};
    if (json->is_error) {
        if (json->error == ERROR_NOAUTH)
            exchange_header(exchange, "WWW-Authenticate", "Bearer");
        exchange_problem(exchange, status_of(json->error), error_word_text(json->error), "%s", json->error_text);
        return;
    }
    if (!json_reply_dump(json, &body)) {
        bytes_free(&body);
        exchange_problem(exchange, 503, "BUSY", "out of memory");
        return;
    }
    bytes_append(&body, "\n", 1);
    exchange_send_bytes(exchange, 200, "application/json", &body);
}
