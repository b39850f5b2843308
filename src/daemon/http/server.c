/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.c - evhttp on every loop: listeners, connections from their first byte to their last, and requests up to the
 * table of routes.
 *
 * evhttp tells little of a connection that has not made a request yet, so each bufferevent that it is given is counted
 * once more here, and looked at each second: one that evhttp has let go of is freed, one that has begun a request and
 * not ended it in time is closed (slow-loris: a byte now and then keeps no connection).
 *
 * Keeps true: a connection counts against max-clients from its acceptance to its reaping; beyond them, requests are
 * answered 503; what a peer sends ahead is bounded by the read watermark. Each loop's own thread; a request costs a
 * look-up of its connection beside evhttp's work.
 */
#include "http/http.h"

#include "access/access.h"
#include "access/tls.h"
#include "base/address.h"
#include "base/log.h"
#include "http/exchange.h"
#include "system/activation.h"
#include "watches/feed.h"
#include "watches/listings.h"

#include <errno.h>
#include <event2/bufferevent_ssl.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_LISTENERS = 16, CLOSING_POLL_MS = 20, KEEP_ALIVE_S = 120, MOST_REFUSED = 64, LINGER_MS = 2000 };

struct http_listener {
    struct http_loop *loop;
    struct evhttp *http;
    struct evhttp_bound_socket *socket;
    bool secure, paused;
};

struct http_side {
    struct node *node;
    struct http_loop *loops;
    struct address addresses[MOST_LISTENERS];
    int descriptors[MOST_LISTENERS];
    bool activated[MOST_LISTENERS]; /* systemd's: its file is not ours to remove */
    size_t listener_count;
};

/* -------------------------------------------------------------------------------------------------- connections -- */

static struct http_connection **bucket_of(struct http_loop *loop, const struct bufferevent *bufferevent)
{
    uintptr_t hash = (uintptr_t)bufferevent >> 6;
    return &loop->buckets[(hash ^ hash >> 10) % CONNECTION_BUCKETS];
}

static struct http_connection *find_connection(struct http_loop *loop, const struct bufferevent *bufferevent)
{
    struct http_connection *connection = *bucket_of(loop, bufferevent);
    while (connection && connection->bufferevent != bufferevent)
        connection = connection->next;
    return connection;
}

struct counters *connection_counters(const struct http_connection *connection)
{
    return &connection->client.node->counters[connection->client.loop->index];
}

static void set_stage(struct http_connection *connection, enum http_stage stage)
{
    connection->stage = stage;
    connection->since_ms = node_now_ms();
}

/* What came last is taken from the end of the input, read, and what evhttp may see of it put in its place. */
static bool frame_input(struct http_connection *connection, struct evbuffer *input, size_t added)
{
    struct evbuffer *aside = connection->loop->aside;
    struct bytes *framed = &connection->loop->framed;
    size_t before = evbuffer_get_length(input) - added;
    bool good = before == 0 || evbuffer_remove_buffer(input, aside, before) == (int)before;
    framed->length = 0;
    for (size_t length; good && (length = evbuffer_get_contiguous_space(input)) > 0;) {
        framing_take(&connection->framing, (const char *)evbuffer_pullup(input, (ev_ssize_t)length), length, framed);
        evbuffer_drain(input, length);
    }
    good = good && !framed->failed && evbuffer_add_buffer(input, aside) == 0 &&
           (framed->length == 0 || evbuffer_add(input, framed->data, framed->length) == 0);
    if (framed->failed)
        bytes_free(framed);
    return good;
}

/* A reply is made. What has come of the next request begins its time now. */
void connection_rest(struct http_connection *connection)
{
    const struct framing *framing = &connection->framing;
    set_stage(connection, framing_is_between(framing) || framing->problem ? HTTP_IDLE : HTTP_READING);
}

/* The first bytes of a request begin its time. evhttp looks at the input once this has returned; only here is the end
 * of the input open to others than the bufferevent. */
static void on_input(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
    struct http_connection *connection = context;
    if (info->n_added == 0 || connection->framed)
        return;
    counter_add(&connection_counters(connection)->bytes_in, info->n_added);
    if (connection->stage == HTTP_IDLE)
        set_stage(connection, HTTP_READING);
    if (framing_skip(&connection->framing, info->n_added))
        return;
    connection->framed = true;
    if (!frame_input(connection, buffer, info->n_added)) {
        evbuffer_drain(connection->loop->aside, evbuffer_get_length(connection->loop->aside));
        evbuffer_drain(buffer, evbuffer_get_length(buffer));
        connection_cut_off(connection, "out of memory for its request");
    }
    connection->framed = false;
}

static void on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
    (void)buffer;
    counter_add(&connection_counters(context)->bytes_out, info->n_deleted);
    output_changed(context, info->n_added, info->n_deleted);
}

static struct bufferevent *new_bufferevent(const struct http_listener *listener)
{
    struct event_base *base = listener->loop->loop->base;
    if (!listener->secure)
        return bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    struct ssl_st *session = tls_new_session(listener->loop->node->access);
    if (!session)
        return NULL;
    struct bufferevent *bufferevent =
        bufferevent_openssl_socket_new(base, -1, session, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (bufferevent)
        bufferevent_openssl_set_allow_dirty_shutdown(bufferevent, 1);
    return bufferevent;
}

/* evhttp asks for a bufferevent for each connection that it has accepted. Where NULL is given it takes a plain one of
 * its own, which no listener of ours may have: its requests find no connection, and are cut off. */
static struct bufferevent *on_connection(struct event_base *base, void *context)
{
    (void)base;
    struct http_listener *listener = context;
    struct http_loop *loop = listener->loop;
    struct http_connection *connection = calloc(1, sizeof *connection);
    struct bufferevent *bufferevent = connection ? new_bufferevent(listener) : NULL;
    if (!bufferevent) {
        free(connection);
        return NULL;
    }
    connection->client = (struct client){.node = loop->node, .loop = loop->loop, .kind = CLIENT_HTTP, .version = 3};
    connection->client.id = atomic_fetch_add(&loop->node->last_client_id, 1) + 1;
    connection->loop = loop;
    connection->bufferevent = bufferevent;
    connection->secure = listener->secure;
    connection->framing = (struct framing){.most_head_bytes = loop->node->config->max_header_bytes,
                                           .most_body_bytes = loop->node->config->max_request_bytes};
    connection->admitted = node_admit_client(loop->node);
    bufferevent_incref(bufferevent);
    bufferevent_setwatermark(bufferevent, EV_READ, 0,
                             loop->node->config->max_request_bytes + loop->node->config->max_header_bytes);
    evbuffer_add_cb(bufferevent_get_input(bufferevent), on_input, connection);
    evbuffer_add_cb(bufferevent_get_output(bufferevent), on_output, connection);
    set_stage(connection, HTTP_IDLE);
    struct http_connection **bucket = bucket_of(loop, bufferevent);
    connection->next = *bucket;
    *bucket = connection;
    loop->connections++;
    counter_add(&connection_counters(connection)->accepted, 1);
    if (!connection->admitted)
        counter_add(&connection_counters(connection)->refused, 1);
    return bufferevent;
}

size_t connection_waiting(const struct http_connection *connection)
{
    return evbuffer_get_length(bufferevent_get_output(connection->bufferevent));
}

/* evhttp sees the end of the socket, and lets go of the connection. */
void connection_cut_off(struct http_connection *connection, const char *why)
{
    log_event(LOG_LEVEL_WARNING, "client cut off", "client", connection->client.peer, "why", why, NULL);
    evutil_socket_t fd = bufferevent_getfd(connection->bufferevent);
    if (fd >= 0)
        shutdown(fd, SHUT_RDWR);
    bufferevent_enable(connection->bufferevent, EV_READ);
}

void stream_end(struct stream *stream, bool gone)
{
    /* A request that evhttp has parted from its connection is freed by this too; one that it has not is freed with the
     * connection. */
    if (!gone || !evhttp_request_get_connection(stream->request))
        evhttp_send_reply_end(stream->request);
}

static void end_stream(struct http_connection *connection, bool gone)
{
    struct stream *stream = connection->stream;
    connection->stream = NULL;
    if (stream)
        stream->free(stream, gone);
    connection_rest(connection);
}

/* evhttp has freed its part: ours goes too. */
static void free_connection(struct http_connection *connection)
{
    end_stream(connection, true);
    feed_close(&connection->client);
    principal_release(connection->client.principal);
    if (connection->admitted)
        node_dismiss_client(connection->client.node);
    evbuffer_remove_cb(bufferevent_get_input(connection->bufferevent), on_input, connection);
    evbuffer_remove_cb(bufferevent_get_output(connection->bufferevent), on_output, connection);
    output_give_up(connection);
    bufferevent_decref(connection->bufferevent);
    framing_free(&connection->framing);
    connection->loop->connections--;
    free(connection);
}

/* Freed by evhttp, a bufferevent has lost its callbacks. */
static bool is_over(const struct http_connection *connection)
{
    bufferevent_data_cb read, write;
    bufferevent_event_cb event = NULL;
    void *context;
    bufferevent_getcb(connection->bufferevent, &read, &write, &event, &context);
    return !event;
}

/* evhttp cannot answer what it has only half of. */
static void send_late(const struct http_connection *connection)
{
    static const char body[] = "{\"type\":\"about:blank\",\"title\":\"Request Timeout\",\"status\":408,"
                               "\"detail\":\"the request was not whole in time\",\"code\":\"ERR\"}\n";
    char reply[512];
    int length = snprintf(reply, sizeof reply,
                          "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                          "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n\r\n%s",
                          sizeof body - 1, body);
    evutil_socket_t fd = bufferevent_getfd(connection->bufferevent);
    if (fd >= 0 && !connection->secure && connection_waiting(connection) == 0) {
        ssize_t sent = send(fd, reply, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)sent;
    }
}

static void check_time(struct http_connection *connection, uint64_t now)
{
    uint64_t most = connection->client.node->config->request_timeout;
    if (connection->stage != HTTP_READING || most == 0 || now - connection->since_ms < most ||
        framing_is_between(&connection->framing))
        return;
    send_late(connection);
    counter_add(&connection_counters(connection)->cut_off_idle, 1);
    set_stage(connection, HTTP_ANSWERING);
    connection_cut_off(connection, "a request is not whole in time");
}

/* Many that are not admitted wait for their 503: no more are accepted until some have gone. */
static void pause_listeners(struct http_loop *loop, bool pause)
{
    for (size_t i = 0; i < loop->side->listener_count; i++) {
        struct http_listener *listener = &loop->listeners[i];
        if (!listener->socket || listener->paused == pause)
            continue;
        struct evconnlistener *accepting = evhttp_bound_socket_get_listener(listener->socket);
        if (pause)
            evconnlistener_disable(accepting);
        else
            evconnlistener_enable(accepting);
        listener->paused = pause;
    }
}

static void reap_lingering(struct http_loop *loop, uint64_t now)
{
    for (struct http_connection **link = &loop->lingering, *connection; (connection = *link);) {
        if (connection->since_ms != 0 && now - connection->since_ms < LINGER_MS) {
            link = &connection->next;
            continue;
        }
        *link = connection->next;
        free_connection(connection);
    }
}

static void on_reap(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct http_loop *loop = context;
    uint64_t now = node_now_ms();
    size_t waiting = 0, refused = 0;
    for (size_t i = 0; i < CONNECTION_BUCKETS; i++)
        for (struct http_connection **link = &loop->buckets[i], *connection; (connection = *link);) {
            if (is_over(connection)) {
                *link = connection->next;
                free_connection(connection);
                continue;
            }
            check_time(connection, now);
            waiting += connection_waiting(connection) > 0 || connection->stream;
            refused += !connection->admitted;
            link = &connection->next;
        }
    output_check(loop, now);
    pause_listeners(loop, refused > MOST_REFUSED);
    reap_lingering(loop, now);
    if (loop->loop->index == 0)
        listings_sweep(loop->node->listings);
    if (loop->closing && waiting == 0 && loop->holds_loop) {
        loop->holds_loop = false;
        loop_release(loop->loop);
    }
    struct timeval again = {loop->closing ? 0 : REAP_INTERVAL_S, loop->closing ? CLOSING_POLL_MS * 1000 : 0};
    event_add(loop->reaper, &again);
}

/* ----------------------------------------------------------------------------------------------------- requests -- */

/* evhttp lets go of a connection: once it has done so, in the loop's next turn, ours is freed. */
static void on_close(struct evhttp_connection *evhttp_connection, void *context)
{
    (void)evhttp_connection;
    struct http_connection *connection = context;
    struct http_loop *loop = connection->loop;
    struct http_connection **link = bucket_of(loop, connection->bufferevent);
    end_stream(connection, true);
    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
    connection->next = loop->closed;
    loop->closed = connection;
    event_active(loop->closer, EV_TIMEOUT, 0);
}

static void on_lingered(struct bufferevent *bufferevent, short what, void *context)
{
    (void)bufferevent, (void)what;
    struct http_connection *connection = context;
    connection->since_ms = 0; /* the next reaping has it */
}

/* A socket that is closed with input unread resets the connection, and the problem that its peer was to read may be
 * lost. evhttp has shut our side; what still comes is thrown away until the peer shuts its own, for a short time. */
static void linger(struct http_connection *connection)
{
    connection->next = connection->loop->lingering;
    connection->loop->lingering = connection;
    connection->since_ms = node_now_ms();
    bufferevent_setcb(connection->bufferevent, NULL, NULL, on_lingered, connection);
    bufferevent_set_timeouts(connection->bufferevent, NULL, NULL);
    if (bufferevent_enable(connection->bufferevent, EV_READ) != 0)
        connection->since_ms = 0;
}

static void on_closed(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct http_loop *loop = context;
    for (struct http_connection *connection; (connection = loop->closed);) {
        loop->closed = connection->next;
        if (connection->framing.problem)
            linger(connection);
        else
            free_connection(connection);
    }
}

/* The first request of a connection: now evhttp knows who it is. */
static void get_to_know(struct http_connection *connection, struct evhttp_connection *evhttp_connection)
{
    char *address = NULL;
    ev_uint16_t port = 0;
    int on = 1;
    evutil_socket_t fd = bufferevent_getfd(connection->bufferevent);
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    connection->known = true;
    evhttp_connection_set_closecb(evhttp_connection, on_close, connection);
    evhttp_connection_get_peer(evhttp_connection, &address, &port);
    address_watch_peer(fd, connection->client.node->config->keepalive);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (getpeername(fd, (struct sockaddr *)&from, &length) == 0)
        address_of_peer((struct sockaddr *)&from, length, connection->client.peer, sizeof connection->client.peer);
}

/* By the token, else by the client's certificate. False: a problem was sent. */
static bool authenticate(struct exchange *exchange)
{
    static const char scheme[] = "Bearer ";
    struct client *client = &exchange->connection->client;
    const char *sent = exchange_asked(exchange, "Authorization");
    principal_release(client->principal);
    client->principal = NULL;
    if (!sent) {
        struct ssl_st *session =
            exchange->connection->secure ? bufferevent_openssl_get_ssl(exchange->connection->bufferevent) : NULL;
        if (session)
            client->principal = tls_principal(client->node->access, session);
        return true;
    }
    if (strncasecmp(sent, scheme, sizeof scheme - 1) != 0) {
        exchange_header(exchange, "WWW-Authenticate", "Bearer");
        exchange_problem(exchange, 401, "NOAUTH", "the Authorization header wants `Bearer TOKEN`");
        return false;
    }
    switch (principal_authenticate(client->node->access, client->peer, slice_of(""), slice_of(sent + sizeof scheme - 1),
                                   &client->principal)) {
    case AUTHENTICATION_GOOD:
    case AUTHENTICATION_NOT_IN_USE:
        return true;
    case AUTHENTICATION_SLOWED:
        exchange_header(exchange, "Retry-After", "1");
        exchange_problem(exchange, 429, "BUSY", "too many bad tokens from your address: wait a second");
        return false;
    case AUTHENTICATION_BAD:
        break;
    }
    exchange_header(exchange, "WWW-Authenticate", "Bearer error=\"invalid_token\"");
    exchange_problem(exchange, 401, "WRONGPASS", "no such token");
    return false;
}

static void on_request(struct evhttp_request *request, void *context)
{
    struct http_listener *listener = context;
    struct evhttp_connection *evhttp_connection = evhttp_request_get_connection(request);
    struct http_connection *connection =
        find_connection(listener->loop, evhttp_connection_get_bufferevent(evhttp_connection));
    if (!connection) { /* memory was out when it came */
        exchange_send_nothing(request);
        return;
    }
    if (!connection->known)
        get_to_know(connection, evhttp_connection);
    set_stage(connection, HTTP_ANSWERING);
    counter_add(&connection_counters(connection)->commands, 1);
    enum evhttp_cmd_type method = evhttp_request_get_command(request);
    struct exchange exchange = {
        .connection = connection,
        .request = request,
        .method = method == EVHTTP_REQ_HEAD ? EVHTTP_REQ_GET : method,
    };
    json_reply_init(&exchange.json);
    exchange.call = (struct call){.client = &connection->client, .reply = &exchange.json.reply};
    if (++connection->requests == connection->framing.requests && connection->framing.problem) {
        counter_add(&connection_counters(connection)->protocol_errors, 1);
        exchange_header(&exchange, "Connection", "close");
        exchange_problem(&exchange, connection->framing.problem->status, "ERR", "%s",
                         connection->framing.problem->detail);
    } else if (!connection->admitted) {
        exchange_header(&exchange, "Connection", "close");
        exchange_header(&exchange, "Retry-After", "1");
        exchange_problem(&exchange, 503, "BUSY", "max-clients is reached");
    } else if (guard_passes(&exchange) && authenticate(&exchange)) {
        routes_answer(&exchange);
    }
    json_reply_free(&exchange.json);
    json_decref(exchange.body);
    free(exchange.texts);
    if (connection->stage == HTTP_ANSWERING && !connection->stream)
        connection_rest(connection);
}

/* ---------------------------------------------------------------------------------------------------- listeners -- */

/* Limits as the configuration has them now, for connections that come from now on. */
static void set_limits(struct http_listener *listener)
{
    const struct config *config = listener->loop->node->config;
    const uint64_t idle_ms = config->idle_timeout;
    evhttp_set_max_headers_size(listener->http, (ev_ssize_t)config->max_header_bytes);
    evhttp_set_max_body_size(listener->http, (ev_ssize_t)config->max_request_bytes);
    evhttp_set_timeout(listener->http, idle_ms ? (int)(idle_ms / 1000) + 1 : KEEP_ALIVE_S);
}

static bool serve_at(struct http_loop *loop, size_t index)
{
    struct http_side *side = loop->side;
    struct http_listener *listener = &loop->listeners[index];
    *listener = (struct http_listener){.loop = loop, .http = evhttp_new(loop->loop->base)};
    listener->secure = tls_is_on(loop->node->access, &side->addresses[index]);
    int fd = listener->http ? fcntl(side->descriptors[index], F_DUPFD_CLOEXEC, 0) : -1;
    if (fd < 0)
        return false;
    evhttp_set_bevcb(listener->http, on_connection, listener);
    evhttp_set_gencb(listener->http, on_request, listener);
    evhttp_set_allowed_methods(listener->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_POST |
                                                   EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
    set_limits(listener);
    evhttp_set_default_content_type(listener->http, NULL);
    listener->socket = evhttp_accept_socket_with_handle(listener->http, fd);
    if (!listener->socket)
        close(fd);
    return listener->socket;
}

static bool listen_at(struct http_side *side, const struct address *address, int fd, char *error, size_t error_bytes)
{
    if (!access_may_listen(side->node->access, address, "--http", error, error_bytes)) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool activated = fd >= 0;
    if (!activated)
        fd = address_listen(address, error, error_bytes);
    if (fd < 0)
        return false;
    side->addresses[side->listener_count] = *address;
    side->activated[side->listener_count] = activated;
    side->descriptors[side->listener_count++] = fd;
    char bound[ADDRESS_TEXT_BYTES];
    address_of_socket(fd, address, bound, sizeof bound);
    log_event(LOG_LEVEL_INFO, "listening", "protocol", tls_is_on(side->node->access, address) ? "https" : "http",
              "address", bound, NULL);
    return true;
}

/* What systemd gives, or else what is configured. */
static bool listen_everywhere(struct http_side *side, char *error, size_t error_bytes)
{
    struct address addresses[MOST_LISTENERS];
    int descriptors[MOST_LISTENERS];
    size_t count = activation_take("http", descriptors, addresses, MOST_LISTENERS);
    bool activated = count > 0, good = true;
    if (!activated)
        good = address_parse_list(side->node->config->http, "--http", addresses, MOST_LISTENERS, &count, error,
                                  error_bytes);
    for (size_t i = 0; good && i < count; i++)
        good = listen_at(side, &addresses[i], activated ? descriptors[i] : -1, error, error_bytes);
    return good;
}

static bool start_loop(struct http_side *side, size_t index)
{
    struct http_loop *loop = &side->loops[index];
    const struct timeval first = {REAP_INTERVAL_S, 0};
    loop->side = side;
    loop->node = side->node;
    loop->loop = &side->node->loops->loops[index];
    loop->listeners = calloc(side->listener_count + 1, sizeof *loop->listeners);
    loop->reaper = evtimer_new(loop->loop->base, on_reap, loop);
    loop->closer = evtimer_new(loop->loop->base, on_closed, loop);
    loop->aside = evbuffer_new();
    if (!loop->listeners || !loop->reaper || !loop->closer || !loop->aside || event_add(loop->reaper, &first) != 0)
        return false;
    for (size_t i = 0; i < side->listener_count; i++)
        if (!serve_at(loop, i))
            return false;
    return true;
}

/* What libevent has to say goes where all else is said, and is made harmless there. */
static void on_library_log(int severity, const char *text)
{
    log_event(severity >= EVENT_LOG_ERR ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG, "libevent", "text", text, NULL);
}

struct http_side *http_side_new(struct node *node, char *error, size_t error_bytes)
{
    struct http_side *side = calloc(1, sizeof *side);
    if (!side || !(side->loops = calloc(node->loops->count, sizeof *side->loops))) {
        snprintf(error, error_bytes, "out of memory");
        free(side);
        return NULL;
    }
    side->node = node;
    event_set_log_callback(on_library_log);
    bool good = listen_everywhere(side, error, error_bytes);
    for (size_t i = 0; good && i < node->loops->count; i++)
        if (!start_loop(side, i)) {
            snprintf(error, error_bytes, "--http: cannot serve: %s", strerror(errno));
            good = false;
        }
    if (good)
        return side;
    http_side_free(side);
    return NULL;
}

static void reload_loop(struct loop *loop, void *context)
{
    (void)loop;
    struct http_loop *http = context;
    for (size_t i = 0; i < http->side->listener_count; i++)
        set_limits(&http->listeners[i]);
    for (size_t i = 0; i < CONNECTION_BUCKETS; i++)
        for (struct http_connection *connection = http->buckets[i]; connection; connection = connection->next)
            feed_check(&connection->client);
}

bool http_side_reload(struct http_side *side)
{
    bool good = true;
    for (size_t i = 0; i < side->node->loops->count; i++)
        good &= loop_post(side->loops[i].loop, reload_loop, &side->loops[i]);
    return good;
}

static void close_loop(struct loop *loop, void *context)
{
    struct http_loop *http = context;
    const struct timeval soon = {0, 0};
    for (size_t i = 0; i < http->side->listener_count; i++) {
        struct http_listener *listener = &http->listeners[i];
        if (listener->socket)
            evhttp_del_accept_socket(listener->http, listener->socket);
        listener->socket = NULL;
    }
    for (size_t i = 0; i < CONNECTION_BUCKETS; i++)
        for (struct http_connection *connection = http->buckets[i]; connection; connection = connection->next)
            if (connection->stream && !connection->stream->ends_soon)
                end_stream(connection, false);
    http->closing = http->holds_loop = true;
    loop_hold(loop);
    event_add(http->reaper, &soon);
}

static void close_descriptors(struct http_side *side)
{
    for (size_t i = 0; i < side->listener_count; i++) {
        if (side->descriptors[i] < 0)
            continue;
        close(side->descriptors[i]);
        side->descriptors[i] = -1;
        if (!side->activated[i])
            address_remove(&side->addresses[i]);
    }
}

void http_side_close(struct http_side *side)
{
    close_descriptors(side);
    for (size_t i = 0; i < side->node->loops->count; i++)
        loop_post(side->loops[i].loop, close_loop, &side->loops[i]);
}

static void free_loop(struct http_side *side, struct http_loop *loop)
{
    for (size_t i = 0; loop->listeners && i < side->listener_count; i++)
        if (loop->listeners[i].http)
            evhttp_free(loop->listeners[i].http); /* and its connections */
    for (size_t i = 0; i < CONNECTION_BUCKETS; i++)
        for (struct http_connection *connection = loop->buckets[i], *next; connection; connection = next) {
            next = connection->next;
            free_connection(connection);
        }
    on_closed(-1, 0, loop);
    reap_lingering(loop, UINT64_MAX);
    if (loop->aside)
        evbuffer_free(loop->aside);
    bytes_free(&loop->framed);
    if (loop->reaper)
        event_free(loop->reaper);
    if (loop->closer)
        event_free(loop->closer);
    free(loop->listeners);
}

void http_side_free(struct http_side *side)
{
    if (!side)
        return;
    for (size_t i = 0; i < side->node->loops->count; i++)
        free_loop(side, &side->loops[i]);
    close_descriptors(side);
    free(side->loops);
    free(side);
}
