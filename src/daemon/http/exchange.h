/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.h - a connection of the HTTP side, and one request on it that is being answered.
 *
 * Whoever answers a request calls exactly one of the exchange_send functions, or opens a stream. All on the loop of the
 * connection.
 */
#ifndef DAEMON_HTTP_EXCHANGE_H
#define DAEMON_HTTP_EXCHANGE_H

#include "base/bytes.h"
#include "commands/command.h"
#include "http/framing.h"
#include "node/client.h"
#include "reply/json.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>

enum { CONNECTION_BUCKETS = 1024, REAP_INTERVAL_S = 1 };

struct http_loop;

/* What answers a request bit by bit (sse.c, report.c). */
struct stream {
    struct evhttp_request *request;
    /* Frees the stream. `gone`: evhttp is letting go of the connection; else the reply ends here. */
    void (*free)(struct stream *stream, bool gone);
    bool ends_soon; /* by itself: a stop waits for it a little, for half of it would look like all */
};

/* Ends a stream's request as evhttp wants it. */
void stream_end(struct stream *stream, bool gone);

enum http_stage { HTTP_IDLE, HTTP_READING, HTTP_ANSWERING };

struct http_connection {
    struct client client;
    struct http_loop *loop;
    struct bufferevent *bufferevent; /* counted: it outlives evhttp's use of it until the next reaping */
    struct http_connection *next;    /* in its bucket, or among the closed */
    struct stream *stream;
    struct framing framing; /* of what comes */
    uint64_t requests;      /* that evhttp has handed over */
    enum http_stage stage;
    uint64_t since_ms; /* in that stage */
    bool admitted;     /* counts against max-clients */
    bool known;        /* has made a request: peer and callbacks are set */
    bool secure;
    bool framed;   /* what is in the input now: by framing */
    bool given_up; /* cut off: what waits is not counted */
    uint64_t sent; /* to the system, in all */
    size_t waiting;
    struct http_connection *wait_next, *wait_before; /* among those with something waiting */
    uint64_t got_on_ms;                              /* when its reader was last seen to read */
    int64_t got_on_at;                               /* bytes that had come to it then */
};

/* The HTTP side of one loop. */
struct http_loop {
    struct http_side *side;
    struct node *node;
    struct loop *loop;
    struct http_listener *listeners; /* one for each address: an evhttp each */
    struct event *reaper, *closer;
    struct http_connection *closed;    /* let go of by evhttp */
    struct http_connection *lingering; /* of them, those whose last reply may be on its way */
    struct evbuffer *aside;            /* lent to the reading of one piece of input */
    struct bytes framed;               /* likewise */
    struct http_connection *buckets[CONNECTION_BUCKETS];
    struct http_connection *first_waiting, *last_waiting; /* for their readers: who got on last is last */
    size_t waiting;                                       /* bytes of them all */
    size_t report_rows;                                   /* that reports hold, or will */
    size_t connections;
    bool closing, holds_loop;
};

struct exchange {
    struct http_connection *connection;
    struct evhttp_request *request;
    enum evhttp_cmd_type method; /* GET for HEAD */
    const char *path;            /* the route's pattern */
    char *texts;                 /* path and query, decoded in place; parts and values lie in it */
    struct json_reply json;
    struct call call;
    struct slice rest; /* the id of the path, for commands that take many */
    json_t *body;      /* of writes, once read */
};

struct counters *connection_counters(const struct http_connection *connection);

/* A reply with a body of that type; `data` is copied, or may be NULL. */
void exchange_send(struct exchange *exchange, int status, const char *type, const void *data, size_t length);
/* The same, taking over what `bytes` holds. */
void exchange_send_bytes(struct exchange *exchange, int status, const char *type, struct bytes *bytes);
/* A problem document (RFC 9457). */
__attribute__((format(printf, 4, 5))) void exchange_problem(struct exchange *exchange, int status, const char *code,
                                                            const char *format, ...);
/* 503 without a word, where there is no memory for one; the connection ends. */
void exchange_send_nothing(struct evhttp_request *request);
/* What the call has said: JSON, or the problem. */
void exchange_send_reply(struct exchange *exchange);
/* Whether it is a HEAD, which routes answer as GET. */
bool exchange_is_head(const struct exchange *exchange);
/* All that a HEAD is told where GET would be sent a stream: its headers, which are set, and how it would be framed. */
void exchange_send_stream_head(struct exchange *exchange);
/* Adds a header to the reply. */
void exchange_header(struct exchange *exchange, const char *name, const char *value);
const char *exchange_asked(const struct exchange *exchange, const char *header); /* NULL: not sent */

/* The connection is cut off: nothing of what waits is sent. */
void connection_cut_off(struct http_connection *connection, const char *why);
/* Its reply is made: what has come of a next request begins its time. */
void connection_rest(struct http_connection *connection);
/* What waits for those who read slowly (output.c). */
void output_changed(struct http_connection *connection, size_t added, size_t sent);
void output_give_up(struct http_connection *connection); /* it is being closed: it waits no more */
void output_check(struct http_loop *loop, uint64_t now); /* each second */
/* After something was sent: where too much waits on this loop, those go who have waited longest, `newest` not. */
void output_limit(struct http_connection *newest);
/* How much waits to be sent. */
size_t connection_waiting(const struct http_connection *connection);

/* Whether the Host and Origin headers are those of a page of ours, or of a program. False: a problem was sent. */
bool guard_passes(struct exchange *exchange);

/* Answers by the table of routes. */
void routes_answer(struct exchange *exchange);

/* Decodes %XX (and + as a blank, in queries) in place. False: not valid. */
bool percent_decode(char *text, bool plus_is_blank, size_t *length);

/* Specials: routes that are no command's one reply. */
void page_answer(struct exchange *exchange, const char *name);
void report_answer(struct exchange *exchange);
void events_answer(struct exchange *exchange);

/* Bodies: the connection of PUT .../connections/{id} into the call's arguments; false: an error was said. The list of
 * PUT .../connections, stated by the command, with its reply, or an error, said: any thread, with the body. */
bool body_take_connection(struct exchange *exchange);
void body_state_list(struct exchange *exchange, struct evbuffer *input);

/* long.c: answers the request when its command, or the list that is its body, was run as a job. */
void long_answer(struct exchange *exchange, bool is_list);
/* Whether the request's list is to be stated so: it is long, or the call is (command_is_long). */
bool long_is_list(const struct exchange *exchange);

#endif
