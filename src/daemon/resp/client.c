/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - the life of one RESP client: opened, served (serve.c), and closed in a way that loses no reply.
 *
 * A socket that is closed while input is unread resets the connection, and with it goes what the kernel had still to
 * send. So a client that we end (QUIT, a protocol error) is flushed, then our side is shut, and what it still sends is
 * thrown away until it closes too, or CLOSE_MS have passed.
 *
 * Keeps true: a client is freed once, at the end of an event and never within, nor while a command of it runs
 * elsewhere (long.c); whoever sends half a request, or reads no replies, or does not say who it is where that is
 * needed, holds its place for request-timeout at most. The owner's loop only. A tick looks at every client, once a
 * second (or four times in the shortest timeout).
 */
#include "resp/client.h"

#include "access/principal.h"
#include "base/log.h"
#include "sessions/sessions.h"
#include "watches/feed.h"

#include <event2/event.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

static void on_readable(evutil_socket_t fd, short what, void *context);
static void on_writable(evutil_socket_t fd, short what, void *context);

void resp_client_open(struct resp_clients *owner, evutil_socket_t fd, const char *peer, void *tls)
{
    struct resp_client *client = calloc(1, sizeof *client);
    if (!client)
        goto no_memory;
    client->client = (struct client){.node = owner->node, .loop = owner->loop, .kind = CLIENT_RESP, .version = 2};
    client->client.id = atomic_fetch_add(&owner->node->last_client_id, 1) + 1;
    strncpy(client->client.peer, peer, CLIENT_PEER_BYTES - 1);
    client->client.sink = &resp_feed_sink;
    client->client.socket = fd;
    client->owner = owner;
    client->fd = fd;
    client->transport = tls ? &resp_tls_transport : &resp_plain_transport;
    client->tls = tls;
    client->shaking_hands = tls != NULL;
    client->heard = client->moved = client->known = owner->tick;
    resp_parser_init(&client->parser, &owner->stranger_limits);
    client->readable = event_new(owner->loop->base, fd, EV_READ | EV_PERSIST, on_readable, client);
    client->writable = event_new(owner->loop->base, fd, EV_WRITE | EV_PERSIST, on_writable, client);
    if (!client->readable || !client->writable || event_add(client->readable, NULL) != 0)
        goto no_memory;
    client->next = owner->first;
    client->link = &owner->first;
    if (client->next)
        client->next->link = &client->next;
    owner->first = client;
    counter_add(&owner->node->counters[owner->loop->index].accepted, 1);
    return;

no_memory:
    if (client && client->readable)
        event_free(client->readable);
    if (client && client->writable)
        event_free(client->writable);
    free(client);
    SSL_free(tls);
    close(fd);
    node_dismiss_client(owner->node);
}

void resp_client_close(struct resp_client *client)
{
    *client->link = client->next;
    if (client->next)
        client->next->link = client->link;
    feed_close(&client->client);
    sessions_client_gone(&client->client);
    event_free(client->readable);
    event_free(client->writable);
    client->transport->free(client);
    close(client->fd);
    principal_release(client->client.principal);
    resp_parser_free(&client->parser);
    bytes_free(&client->input);
    bytes_free(&client->output);
    node_dismiss_client(client->owner->node);
    if (client->holds_loop)
        loop_release(client->owner->loop);
    free(client);
}

/* ------------------------------------------------------------------------------------------------------- closing -- */

/* Reads what there is and throws it away; whether more may come. */
static bool discard_input(struct resp_client *client)
{
    enum { ROUNDS = 16 }; /* of 64 KiB, then others have their turn */
    for (int i = 0; i < ROUNDS; i++) {
        ssize_t got = client->transport->read(client, client->owner->loop->input, LOOP_SCRATCH_BYTES);
        if (got == TRANSPORT_LATER)
            return true;
        if (got < 0 || got == TRANSPORT_ENDED)
            return false;
    }
    return true;
}

/* The last reply is with the kernel. False: that was all. */
static bool begin_to_linger(struct resp_client *client)
{
    client->transport->end(client);
    client->stage = RESP_LINGERING;
    client->moved = client->owner->tick;
    bytes_free(&client->input);
    resp_parser_free(&client->parser);
    if (client->ended || !discard_input(client) || client->holds_loop)
        return false;
    return event_add(client->readable, NULL) == 0;
}

/* TLS may hold input that the socket does not tell of any more. */
void resp_client_resume(struct resp_client *client)
{
    if (client->lost || client->paused || client->job || client->stage != RESP_SERVING)
        return;
    if (event_add(client->readable, NULL) != 0)
        client->lost = true;
    else if (client->transport->holds_input(client))
        event_active(client->readable, EV_READ, 0);
}

/* A client whose command runs elsewhere is closed once that is back; until then nothing of it happens. */
static void wait_for_job(struct resp_client *client)
{
    feed_close(&client->client);
    event_del(client->readable);
    event_del(client->writable);
}

bool resp_client_settle(struct resp_client *client)
{
    bool through = !client->lost && client->stage == RESP_FLUSHING && resp_output_waiting(client) == 0;
    if (client->job) {
        if (client->lost)
            wait_for_job(client);
        return !client->lost;
    }
    if (client->lost || (through && !begin_to_linger(client))) {
        resp_client_close(client);
        return false;
    }
    return true;
}

void resp_client_finish(struct resp_client *client)
{
    loop_hold(client->owner->loop);
    client->holds_loop = true;
    if (client->stage == RESP_LINGERING) {
        resp_client_close(client);
        return;
    }
    client->stage = RESP_FLUSHING;
    resp_client_settle(client);
}

bool resp_client_is_known(const struct resp_client *client)
{
    return principal_of(client->client.node->access, client->client.principal) != NULL;
}

/* Says why as the client's last reply, and takes from it at once what it held. */
static void send_away(struct resp_client *client, enum error_word word, const char *why)
{
    struct bytes *replies = &client->owner->loop->output;
    struct resp_reply reply;
    log_event(LOG_LEVEL_INFO, "client sent away", "client", client->client.peer, "principal",
              principal_name(client->client.principal), "why", why, NULL);
    feed_close(&client->client);
    sessions_client_gone(&client->client);
    client->client.closing = true;
    if (client->stage != RESP_SERVING)
        return; /* its last reply is said */
    resp_reply_init(&reply, replies, client->client.version);
    reply_error(&reply.reply, word, "%s: this connection ends", why);
    client->stage = RESP_FLUSHING;
    resp_output_take(client, replies);
}

bool resp_client_is_welcome(struct resp_client *client)
{
    struct access *access = client->client.node->access;
    const struct principal *before = client->client.principal;
    if (client->job)
        return true; /* it is asked again when its command is back */
    if (!principal_renew(access, &client->client.principal))
        send_away(client, ERROR_NOAUTH, "your token is no more");
    else if (client->client.principal != before && !command_permits_client(&client->client, client->client.principal))
        send_away(client, ERROR_NOPERM, "your token may no more hold this session, join or watch");
    return !client->client.closing;
}

/* ---------------------------------------------------------------------------------------------------------- time -- */

static bool has_passed(const struct resp_client *client, uint32_t since, uint32_t ticks)
{
    return ticks > 0 && client->owner->tick - since > ticks;
}

void resp_client_tick(struct resp_client *client)
{
    const struct resp_clients *owner = client->owner;
    _Atomic uint64_t *cut_off = &owner->node->counters[owner->loop->index].cut_off_idle;
    bool unfinished = client->shaking_hands || client->input.length > 0;
    bool unread = resp_output_waiting(client) > 0;
    if (resp_client_is_known(client))
        client->known = owner->tick;
    if (client->job)
        return;
    if (client->stage == RESP_LINGERING)
        client->lost = has_passed(client, client->moved, owner->close_ticks);
    else if (client->stage == RESP_FLUSHING)
        client->lost =
            has_passed(client, client->moved, owner->request_ticks ? owner->request_ticks : owner->close_ticks);
    else if (unread && has_passed(client, client->moved, owner->request_ticks))
        resp_client_cut_off(client, "does not read its replies",
                            &owner->node->counters[owner->loop->index].cut_off_output);
    else if (unfinished && has_passed(client, client->moved, owner->request_ticks))
        resp_client_cut_off(client, "leaves a request unfinished", cut_off);
    else if (has_passed(client, client->known, owner->request_ticks))
        resp_client_cut_off(client, "has not said who it is", cut_off);
    else if (!client->client.feed && !unread && has_passed(client, client->heard, owner->idle_ticks))
        resp_client_cut_off(client, "idle", cut_off);
    if (client->lost)
        resp_client_close(client);
}

/* -------------------------------------------------------------------------------------------------------- events -- */

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct resp_client *client = context;
    const struct resp_clients *owner = client->owner;
    if (client->stage == RESP_SERVING)
        resp_serve(client);
    else if (client->stage == RESP_LINGERING)
        client->lost = !discard_input(client);
    else
        event_del(client->readable); /* until the last replies are sent */
    resp_client_settle(client);
    feeds_tell_some(owner->node, owner->loop);
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct resp_client *client = context;
    bool for_reading =
        !client->job && resp_output_waiting(client) == 0; /* TLS could not go on with a read before it had written */
    resp_output_more(client);
    if (for_reading && client->stage == RESP_SERVING)
        resp_serve(client);
    else if (!client->lost)
        resp_serve_kept(client);
    resp_client_settle(client);
}
