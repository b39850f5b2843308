/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.c - the table of routes: which command a method and a path mean, and where its arguments are.
 *
 * A part of a path in braces is an argument of the command; a query is one by the command's keyword in small letters.
 * Both are percent-decoded after the path was split, so that a name may hold a slash. What is not known is refused, by
 * name: a misspelt filter must not look like none. Access, arguments and errors are the commands' own.
 *
 * The loop of the connection; O(routes + request) beside the command.
 */
#include "cluster/joined.h"
#include "access/access.h"
#include "access/principal.h"
#include "http/exchange.h"
#include "metrics/metrics.h"

#include <ctype.h>
#include <inttypes.h>
#include <presence/presence.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_PARTS = 8 };

enum route_flags {
    ROUTE_TAGGED = 1 << 0,     /* the reply changes with the revision: ETag */
    ROUTE_DETAILS = 1 << 1,    /* rows are records unless details=0 says otherwise */
    ROUTE_CONNECTION = 1 << 2, /* the body is a connection */
    ROUTE_LIST = 1 << 3,       /* the body is a list of connections */
    ROUTE_FRESHNESS = 1 << 4,  /* tells freshness, which in a cluster changes without the revision: no tag then */
    ROUTE_CLUSTER = 1 << 6,    /* there only in a cluster */
    ROUTE_TIMES = 1 << 5,      /* records tell last_seen, which activity changes without the revision: no tag then */
};

struct route {
    enum evhttp_cmd_type method;
    uint32_t flags;
    const char *pattern, *command;
    void (*special)(struct exchange *exchange); /* in place of a command's one reply; after its checks, if it has one */
};

static void answer_page(struct exchange *exchange);
static void answer_health(struct exchange *exchange);
static void answer_ready(struct exchange *exchange);
static void answer_metrics(struct exchange *exchange);

static const struct route routes[] = {
    {EVHTTP_REQ_GET, 0, "/", NULL, answer_page},
    {EVHTTP_REQ_GET, 0, "/app.js", NULL, answer_page},
    {EVHTTP_REQ_GET, 0, "/app.css", NULL, answer_page},
    {EVHTTP_REQ_GET, 0, "/icon.svg", NULL, answer_page},
    {EVHTTP_REQ_GET, 0, "/v1/openapi.json", NULL, answer_page},
    {EVHTTP_REQ_GET, 0, "/healthz", NULL, answer_health},
    {EVHTTP_REQ_GET, 0, "/readyz", NULL, answer_ready},
    {EVHTTP_REQ_GET, 0, "/metrics", "INFO", answer_metrics},
    {EVHTTP_REQ_GET, ROUTE_TAGGED, "/report", "PRESENCE.MODELS", report_answer},
    {EVHTTP_REQ_GET, 0, "/v1/events", "PRESENCE.WATCH", events_answer},
    {EVHTTP_REQ_GET, ROUTE_TAGGED, "/v1/count", "PRESENCE.COUNT", NULL},
    {EVHTTP_REQ_GET, ROUTE_TAGGED | ROUTE_DETAILS, "/v1/models", "PRESENCE.MODELS", NULL},
    {EVHTTP_REQ_GET, ROUTE_TAGGED | ROUTE_DETAILS | ROUTE_TIMES, "/v1/models/{model}/agents", "PRESENCE.AGENTS", NULL},
    {EVHTTP_REQ_GET, 0, "/v1/models/{model}/agents/{agent}", "PRESENCE.AGENT", NULL},
    {EVHTTP_REQ_GET, ROUTE_TAGGED | ROUTE_FRESHNESS | ROUTE_DETAILS, "/v1/servers", "PRESENCE.SERVERS", NULL},
    {EVHTTP_REQ_GET, ROUTE_TAGGED | ROUTE_FRESHNESS, "/v1/servers/{server}", "PRESENCE.SERVER", NULL},
    {EVHTTP_REQ_GET, 0, "/v1/connections", "PRESENCE.VALUES", NULL},
    {EVHTTP_REQ_PUT, ROUTE_LIST, "/v1/servers/{server}/connections", "PRESENCE.UPDATESERVER", NULL},
    {EVHTTP_REQ_PUT, ROUTE_CONNECTION, "/v1/servers/{server}/connections/{id}", "PRESENCE.CONNECT", NULL},
    {EVHTTP_REQ_DELETE, 0, "/v1/servers/{server}/connections/{ids}", "PRESENCE.DISCONNECT", NULL},
    {EVHTTP_REQ_POST, 0, "/v1/servers/{server}/connections/{ids}/activity", "PRESENCE.ACTIVITY", NULL},
    {EVHTTP_REQ_POST, 0, "/v1/servers/{server}/down", "PRESENCE.SERVERDOWN", NULL},
    {EVHTTP_REQ_POST, 0, "/v1/servers/{server}/drain", "PRESENCE.DRAIN", NULL},
    {EVHTTP_REQ_DELETE, 0, "/v1/servers/{server}", "PRESENCE.FORGET", NULL},
    {EVHTTP_REQ_GET, 0, "/v1/models/{model}/agents/{agent}/explanation", "PRESENCE.EXPLAIN", NULL},
    {EVHTTP_REQ_POST, 0, "/v1/check", "PRESENCE.CHECK", NULL},
    {EVHTTP_REQ_GET, 0, "/v1/cluster", "PRESENCE.CLUSTER", NULL},
    {EVHTTP_REQ_GET, ROUTE_CLUSTER, "/v1/cluster/verification", "PRESENCE.VERIFY", NULL},
    {EVHTTP_REQ_GET, ROUTE_CLUSTER, "/v1/models/{model}/agents/{agent}/testimony", "PRESENCE.TESTIMONY", NULL},
};

/* ------------------------------------------------------------------------------------------------ what it says -- */

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool percent_decode(char *text, bool plus_is_blank, size_t *length)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from == '%') {
            int high = digit_of(from[1]), low = high < 0 ? -1 : digit_of(from[2]);
            if (low < 0)
                return false;
            *to++ = (char)(unsigned char)(high * 16 + low);
            from += 2;
        } else if (plus_is_blank && *from == '+') {
            *to++ = ' ';
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
    *length = (size_t)(to - text);
    return true;
}

/* One part of a path: "{server}" or a word of ours. */
struct part {
    const char *text;
    size_t length;
};

static size_t split(const char *path, struct part *parts)
{
    size_t count = 0;
    while (*path == '/' && count < MOST_PARTS) {
        path++;
        parts[count] = (struct part){path, strcspn(path, "/")};
        path += parts[count++].length;
    }
    return *path ? MOST_PARTS + 1 : count;
}

static bool fits(const struct route *route, const struct part *parts, size_t count)
{
    struct part wanted[MOST_PARTS] = {0};
    if (split(route->pattern, wanted) != count)
        return false;
    for (size_t i = 0; i < count && wanted[i].text && parts[i].text; i++)
        if (wanted[i].text[0] != '{' &&
            (wanted[i].length != parts[i].length || memcmp(wanted[i].text, parts[i].text, parts[i].length) != 0))
            return false;
    return true;
}

static const char *method_name(enum evhttp_cmd_type method)
{
    return method == EVHTTP_REQ_GET      ? "GET, HEAD"
           : method == EVHTTP_REQ_PUT    ? "PUT"
           : method == EVHTTP_REQ_DELETE ? "DELETE"
                                         : "POST";
}

/* The route of the request. NULL: a problem was sent. */
static const struct route *find_route(struct exchange *exchange, const struct part *parts, size_t count)
{
    char allowed[64] = "";
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!fits(&routes[i], parts, count))
            continue;
        if (routes[i].method == exchange->method)
            return &routes[i];
        size_t length = strlen(allowed);
        snprintf(allowed + length, sizeof allowed - length, "%s%s", *allowed ? ", " : "",
                 method_name(routes[i].method));
    }
    if (*allowed) {
        exchange_header(exchange, "Allow", allowed);
        exchange_problem(exchange, 405, "ERR", "this path knows %s", allowed);
    } else {
        exchange_problem(exchange, 404, "ERR",
                         "there is no such path; /v1/openapi.json describes those that there are");
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------- arguments -- */

/* Sets the argument that a part of the path is. */
static bool set_part(struct exchange *exchange, const char *name, char *text)
{
    static const struct {
        const char *part, *name;
        enum slot slot;
    } slots[] = {{"{model}", "model", SLOT_MODEL},
                 {"{agent}", "agent", SLOT_AGENT},
                 {"{server}", "server", SLOT_SERVER},
                 {"{id}", "id", SLOT_ID}};
    struct call *call = &exchange->call;
    struct slice value = {text, 0};
    if (!percent_decode(text, false, &value.length)) {
        reply_error(call->reply, ERROR_INVALID, "a percent sign in the path wants two hexadecimal digits behind it");
        return false;
    }
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (strncmp(name, slots[i].part, strlen(slots[i].part)) == 0)
            return argument_set(call, slots[i].slot, slots[i].name, value);
    /* {ids}: the one of the path is all the rest of the words. */
    call->arguments.given |= 1U << SLOT_IDS;
    exchange->rest = value;
    call->arguments.rest = &exchange->rest;
    call->arguments.rest_count = 1;
    return true;
}

static bool set_parts(struct exchange *exchange, const struct route *route, char *path)
{
    struct part parts[MOST_PARTS] = {0}, wanted[MOST_PARTS] = {0};
    size_t count = split(path, parts);
    split(route->pattern, wanted);
    for (size_t i = 0; i < count; i++)
        path[(size_t)(parts[i].text - path) + parts[i].length] = 0; /* each slash but the first */
    for (size_t i = 0; i < count; i++)
        if (wanted[i].text[0] == '{' && !set_part(exchange, wanted[i].text, path + (parts[i].text - path)))
            return false;
    return true;
}

static const struct argument_spec *spec_of(const struct command *command, const char *name)
{
    for (size_t i = 0; command && i < command->spec_count; i++)
        if (command->specs[i].keyword && slice_is_word(slice_of(name), command->specs[i].keyword))
            return &command->specs[i];
    return NULL;
}

static bool set_query(struct exchange *exchange, char *pair)
{
    struct call *call = &exchange->call;
    char *equals = strchr(pair, '=');
    size_t name_length = 0;
    struct slice value = {"", 0};
    if (equals) {
        *equals = 0;
        value.text = equals + 1;
    }
    if (!percent_decode(pair, true, &name_length) || (equals && !percent_decode(equals + 1, true, &value.length))) {
        reply_error(call->reply, ERROR_INVALID, "a percent sign in the query wants two hexadecimal digits behind it");
        return false;
    }
    const struct argument_spec *spec = spec_of(call->command, pair);
    if (!spec || (call->command->flags & COMMAND_WRITE)) {
        reply_error(call->reply, ERROR_INVALID, "unknown query \"%.32s\"", pair);
        return false;
    }
    if (argument_given(&call->arguments, spec->slot)) {
        reply_error(call->reply, ERROR_INVALID, "%.32s is given twice", pair);
        return false;
    }
    return argument_set(call, spec->slot, pair, value);
}

static bool set_queries(struct exchange *exchange, char *query)
{
    while (query && *query) {
        char *next = strchr(query, '&');
        if (next)
            *next++ = 0;
        if (*query && !set_query(exchange, query))
            return false;
        query = next;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------- answering -- */

/* What one may see another may not, and a reload may change what that is: each principal has tags of its own. */
static uint64_t reader_of(const struct exchange *exchange)
{
    const struct client *client = &exchange->connection->client;
    uint64_t hash = access_reloads(client->node->access);
    for (const char *at = client->principal ? principal_name(client->principal) : ""; *at; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    return hash;
}

/* The tag of the record as it is: this run's, at this revision, for this reader. Weak, for what was merely seen again
 * changes no revision. */
static bool is_unchanged(struct exchange *exchange)
{
    const struct node *node = exchange->connection->client.node;
    const char *known = exchange_asked(exchange, "If-None-Match");
    char tag[64];
    int length = snprintf(tag, sizeof tag, "W/\"%016" PRIx64 "-%" PRIu64 "\"", node->run ^ reader_of(exchange),
                          presence_recorder_revision(node->recorder));
    exchange_header(exchange, "ETag", tag);
    (void)length;
    return known && (strcmp(known, "*") == 0 || strstr(known, tag + 2)); /* compared without its W/ */
}

/* The rest of a request whose arguments are set: access, freshness, the command. */
static void answer_call(struct exchange *exchange, const struct route *route)
{
    struct call *call = &exchange->call;
    struct arguments *arguments = &call->arguments;
    if ((route->flags & ROUTE_DETAILS) && !argument_given(arguments, SLOT_DETAILS))
        arguments->details = true;
    bool tagged = route->flags & ROUTE_TAGGED && !arguments->cursor &&
                  !(route->flags & ROUTE_FRESHNESS && call->client->node->cluster) &&
                  !(route->flags & ROUTE_TIMES && arguments->details);
    if (!command_permit(call)) {
        exchange_send_reply(exchange);
    } else if (tagged && is_unchanged(exchange)) {
        exchange_send(exchange, 304, NULL, NULL, 0);
    } else if (route->special) {
        route->special(exchange);
    } else if (command_is_long(call)) {
        long_answer(exchange, false);
    } else {
        command_execute(call);
        exchange_send_reply(exchange);
    }
}

/* The list that is the body: before a byte of it is looked at, whether the client may state it. */
static void answer_list(struct exchange *exchange)
{
    if (!command_permit(&exchange->call)) {
        exchange_send_reply(exchange);
    } else if (long_is_list(exchange)) {
        long_answer(exchange, true);
    } else {
        body_state_list(exchange, evhttp_request_get_input_buffer(exchange->request));
        exchange_send_reply(exchange);
    }
}

void routes_answer(struct exchange *exchange)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(exchange->request);
    const char *path = evhttp_uri_get_path(uri), *query = evhttp_uri_get_query(uri);
    struct part parts[MOST_PARTS] = {0};
    path = path && *path ? path : "/";
    size_t count = split(path, parts), path_bytes = strlen(path) + 1, query_bytes = query ? strlen(query) + 1 : 0;
    const struct route *route = find_route(exchange, parts, count);
    if (!route)
        return;
    exchange->path = route->pattern;
    exchange->call.command = route->command ? command_find(slice_of(route->command)) : NULL;
    if (exchange->call.command && !command_admit(&exchange->call)) { /* before anything of the request is looked at */
        exchange_send_reply(exchange);
        return;
    }
    exchange->texts = malloc(path_bytes + query_bytes + 1);
    if (!exchange->texts || (route->command && !exchange->call.command)) {
        exchange_problem(exchange, 503, "BUSY", "out of memory");
        return;
    }
    memcpy(exchange->texts, path, path_bytes);
    if (query)
        memcpy(exchange->texts + path_bytes, query, query_bytes);
    if (!set_parts(exchange, route, exchange->texts) ||
        !set_queries(exchange, query ? exchange->texts + path_bytes : NULL)) {
        exchange_send_reply(exchange);
    } else if (!route->command) {
        route->special(exchange);
    } else if (route->flags & ROUTE_CLUSTER && !exchange->connection->client.node->cluster) {
        exchange_problem(exchange, 404, "ERR", "this node is in no cluster");
    } else if (route->flags & ROUTE_LIST) {
        answer_list(exchange);
    } else if (route->flags & ROUTE_CONNECTION &&
               (!command_permit(&exchange->call) || !body_take_connection(exchange))) {
        exchange_send_reply(exchange); /* no body is read for somebody who may not */
    } else {
        answer_call(exchange, route);
    }
}

static void answer_page(struct exchange *exchange)
{
    page_answer(exchange, exchange->path);
}

static void answer_health(struct exchange *exchange)
{
    exchange_send(exchange, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void answer_ready(struct exchange *exchange)
{
    static const char stopping[] = "stopping\n", disabled[] = "disabled\n", joining[] = "joining\n";
    struct node *node = exchange->connection->client.node;
    if (atomic_load(&node->stopping))
        exchange_send(exchange, 503, "text/plain; charset=utf-8", stopping, sizeof stopping - 1);
    else if (!presence_recorder_is_enabled(node->recorder))
        exchange_send(exchange, 503, "text/plain; charset=utf-8", disabled, sizeof disabled - 1);
    else if (!cluster_is_ready(node))
        exchange_send(exchange, 503, "text/plain; charset=utf-8", joining, sizeof joining - 1);
    else
        exchange_send(exchange, 200, "text/plain; charset=utf-8", "ready\n", 6);
}

static void answer_metrics(struct exchange *exchange)
{
    struct bytes text = {0};
    if (metrics_write(exchange->connection->client.node, &text)) {
        exchange_send_bytes(exchange, 200, METRICS_CONTENT_TYPE, &text);
        return;
    }
    bytes_free(&text);
    exchange_problem(exchange, 503, "BUSY", "out of memory");
}
