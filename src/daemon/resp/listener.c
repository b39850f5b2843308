/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.c - where RESP clients connect, and which loop gets whom.
 *
 * Keeps true: an address beyond this machine is refused unless access_may_listen; a client counts against
 * max-clients from its acceptance to its close. Listening and accepting are the first loop's; each client is handed
 * over to the next loop in turn. An acceptance costs an allocation and, for another loop, a post.
 */
#include "resp/resp.h"

#include "access/access.h"
#include "access/tls.h"
#include "base/address.h"
#include "base/log.h"
#include "resp/client.h"
#include "system/activation.h"

#include <errno.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_LISTENERS = 16, INLINE_BYTES = 64 * 1024, CLOSE_MS = 2000, LEAST_TICK_MS = 25, MOST_TICK_MS = 1000 };
/* What AUTH and HELLO need, and no more: all of HELLO's words are 7. */
enum { STRANGER_BYTES = 4096, STRANGER_WORDS = 16 };

struct resp_side {
    struct node *node;
    struct evconnlistener *listeners[MOST_LISTENERS];
    struct address addresses[MOST_LISTENERS];
    bool is_ours[MOST_LISTENERS]; /* not systemd's: a unix socket's file is removed with it */
    size_t listener_count;
    size_t next_loop;
    struct resp_clients *clients; /* one a loop */
};

struct arrival {
    struct resp_clients *to;
    evutil_socket_t fd;
    SSL *tls;
    char peer[CLIENT_PEER_BYTES];
};

static void hand_over(struct loop *loop, void *context)
{
    (void)loop;
    struct arrival *arrival = context;
    resp_client_open(arrival->to, arrival->fd, arrival->peer, arrival->tls);
    free(arrival);
}

/* A peer that is gone without a word is found out, and small replies do not wait. */
static void prepare_socket(evutil_socket_t fd, uint64_t silence_ms)
{
    int on = 1;
    address_watch_peer(fd, silence_ms);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void refuse(struct resp_side *side, evutil_socket_t fd)
{
    static const char text[] = "-BUSY max-clients is reached\r\n";
    ssize_t sent = send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent;
    close(fd);
    counter_add(&side->node->counters[0].refused, 1);
}

static void welcome(struct resp_side *side, struct resp_clients *to, evutil_socket_t fd, SSL *tls, const char *peer)
{
    if (to->loop->index == 0) {
        resp_client_open(to, fd, peer, tls);
        return;
    }
    struct arrival *arrival = malloc(sizeof *arrival);
    if (arrival) {
        *arrival = (struct arrival){.to = to, .fd = fd, .tls = tls};
        snprintf(arrival->peer, sizeof arrival->peer, "%s", peer);
    }
    if (!arrival || !loop_post(to->loop, hand_over, arrival)) {
        free(arrival);
        SSL_free(tls);
        close(fd);
        node_dismiss_client(side->node);
    }
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int from_length,
                      void *context)
{
    struct resp_side *side = context;
    const struct address *at = side->addresses;
    SSL *tls = NULL;
    char peer[CLIENT_PEER_BYTES];
    if (!node_admit_client(side->node)) {
        refuse(side, fd);
        return;
    }
    for (size_t i = 0; i < side->listener_count; i++)
        if (side->listeners[i] == listener)
            at = &side->addresses[i];
    if (tls_is_on(side->node->access, at) && (!(tls = tls_new_session(side->node->access)) || !SSL_set_fd(tls, fd))) {
        SSL_free(tls);
        close(fd);
        node_dismiss_client(side->node);
        return;
    }
    prepare_socket(fd, side->node->config->keepalive);
    address_of_peer(from, (socklen_t)from_length, peer, sizeof peer);
    welcome(side, &side->clients[side->next_loop++ % side->node->loops->count], fd, tls, peer);
}

/* Out of descriptors, most likely: what is there goes on, and the kernel keeps who waits. */
static void on_accept_error(struct evconnlistener *listener, void *context)
{
    (void)listener, (void)context;
    log_event(LOG_LEVEL_ERROR, "cannot accept", "why", strerror(errno), NULL);
}

/* Accepts from a socket that listens; it is closed on failure. */
static bool accept_from(struct resp_side *side, int fd, const struct address *address, bool is_ours, char *error,
                        size_t error_bytes)
{
    struct evconnlistener *listener = evconnlistener_new(side->node->loops->loops[0].base, on_accept, side,
                                                         LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!listener) {
        close(fd);
        snprintf(error, error_bytes, "--resp: out of memory");
        return false;
    }
    evconnlistener_set_error_cb(listener, on_accept_error);
    side->addresses[side->listener_count] = *address;
    side->is_ours[side->listener_count] = is_ours;
    side->listeners[side->listener_count++] = listener;
    char bound[ADDRESS_TEXT_BYTES];
    address_of_socket(fd, address, bound, sizeof bound);
    log_event(LOG_LEVEL_INFO, "listening", "protocol", "resp", "address", bound, NULL);
    return true;
}

/* The sockets that systemd opened for us, or else those of config->resp. */
static bool listen_everywhere(struct resp_side *side, char *error, size_t error_bytes)
{
    struct address addresses[MOST_LISTENERS];
    int descriptors[MOST_LISTENERS];
    bool good = true;
    size_t given = activation_take("resp", descriptors, addresses, MOST_LISTENERS), count = given;
    if (given == 0 &&
        !address_parse_list(side->node->config->resp, "--resp", addresses, MOST_LISTENERS, &count, error, error_bytes))
        return false;
    for (size_t i = 0; i < count; i++) {
        int fd = given > 0 ? descriptors[i] : -1;
        good = good && access_may_listen(side->node->access, &addresses[i], "--resp", error, error_bytes) &&
               (fd >= 0 || (fd = address_listen(&addresses[i], error, error_bytes)) >= 0);
        if (good)
            good = accept_from(side, fd, &addresses[i], given == 0, error, error_bytes);
        else if (fd >= 0)
            close(fd);
    }
    return good;
}

/* --------------------------------------------------------------------------------------------------------- ticks -- */

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct resp_clients *clients = context;
    clients->tick++;
    for (struct resp_client *client = clients->first, *next; client; client = next) {
        next = client->next;
        resp_client_tick(client);
    }
}

static uint64_t shorter(uint64_t a, uint64_t b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

/* A quarter of the shortest time that is limited, so that each is kept to a quarter at worst. */
static uint64_t tick_ms(const struct config *config)
{
    uint64_t tick = shorter(shorter(config->idle_timeout, config->request_timeout), (uint64_t)MOST_TICK_MS * 4) / 4;
    return tick < LEAST_TICK_MS ? LEAST_TICK_MS : tick;
}

static uint32_t ticks_of(uint64_t ms, uint64_t tick)
{
    return (uint32_t)((ms + tick - 1) / tick);
}

/* Limits as the configuration has them now. False: the timer of ticks could not be set. */
static bool set_limits(struct resp_clients *clients)
{
    const struct config *config = clients->node->config;
    const uint64_t tick = tick_ms(config);
    const struct timeval every = {(time_t)(tick / 1000), (suseconds_t)(tick % 1000 * 1000)};
    clients->limits = (struct resp_limits){
        .request_bytes = config->max_request_bytes, .words = config->max_request_words, .inline_bytes = INLINE_BYTES};
    clients->idle_ticks = ticks_of(config->idle_timeout, tick);
    clients->request_ticks = ticks_of(config->request_timeout, tick);
    clients->close_ticks = ticks_of(CLOSE_MS, tick);
    if (clients->tick_ms == tick)
        return true;
    clients->tick_ms = tick;
    for (struct resp_client *client = clients->first; client; client = client->next) /* times begin anew */
        client->heard = client->moved = client->known = clients->tick;
    return event_add(clients->ticker, &every) == 0;
}

static bool prepare_clients(struct resp_clients *clients, struct node *node, struct loop *loop)
{
    *clients = (struct resp_clients){
        .node = node,
        .loop = loop,
        .stranger_limits = {.request_bytes = STRANGER_BYTES, .words = STRANGER_WORDS, .inline_bytes = STRANGER_BYTES},
    };
    clients->ticker = event_new(loop->base, -1, EV_PERSIST, on_tick, clients);
    return clients->ticker && set_limits(clients);
}

static void reload_clients(struct loop *loop, void *context)
{
    (void)loop;
    struct resp_clients *clients = context;
    if (!set_limits(clients))
        log_event(LOG_LEVEL_ERROR, "not reloaded", "why", "out of memory: times are not limited on one of the loops",
                  NULL);
    for (struct resp_client *client = clients->first, *next; client; client = next) {
        next = client->next;
        if (!resp_client_is_welcome(client))
            resp_client_settle(client);
    }
}

bool resp_side_reload(struct resp_side *side)
{
    bool good = true;
    for (size_t i = 0; i < side->node->loops->count; i++)
        good &= loop_post(side->clients[i].loop, reload_clients, &side->clients[i]);
    return good;
}

struct resp_side *resp_side_new(struct node *node, char *error, size_t error_bytes)
{
    size_t loops = node->loops->count;
    struct resp_side *side = calloc(1, sizeof *side);
    snprintf(error, error_bytes, "out of memory");
    if (!side || !(side->clients = calloc(loops, sizeof *side->clients)))
        goto failed;
    side->node = node;
    for (size_t i = 0; i < loops; i++)
        if (!prepare_clients(&side->clients[i], node, &node->loops->loops[i]))
            goto failed;
    if (listen_everywhere(side, error, error_bytes))
        return side;

failed:
    if (side)
        resp_side_stop_listening(side);
    if (side)
        resp_side_free(side);
    return NULL;
}

void resp_side_stop_listening(struct resp_side *side)
{
    for (size_t i = 0; i < side->listener_count; i++) {
        evconnlistener_free(side->listeners[i]);
        if (side->is_ours[i])
            address_remove(&side->addresses[i]);
    }
    side->listener_count = 0;
}

/* Those who arrive later, posted by the first loop before it stopped accepting, are closed by resp_side_free. */
static void finish_clients(struct loop *loop, void *context)
{
    (void)loop;
    struct resp_clients *clients = context;
    for (struct resp_client *client = clients->first, *next; client; client = next) {
        next = client->next;
        resp_client_finish(client);
    }
}

void resp_side_close_clients(struct resp_side *side)
{
    for (size_t i = 0; i < side->node->loops->count; i++)
        loop_post(side->clients[i].loop, finish_clients, &side->clients[i]);
}

void resp_side_free(struct resp_side *side)
{
    /* Arrivals that were still posted are opened here, to be closed. */
    for (size_t i = 0; side->clients && i < side->node->loops->count; i++) {
        while (side->clients[i].first)
            resp_client_close(side->clients[i].first);
        if (side->clients[i].ticker)
            event_free(side->clients[i].ticker);
    }
    free(side->clients);
    free(side);
}
