/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed.c - a client's watch in its loop: readable, drained a little, readable again while there is more.
 *
 * A turn tells at most a fourth of max-output-bytes. While as much waits for a client, its feed is held back and looked
 * at again soon, for as long as the client reads as fast as FAIR_PART asks. One that does not is told more at each
 * PATIENCE_MS all the same: it is cut off when too much waits, and pins nothing by reading a byte now and then.
 *
 * Keeps true: what is told is without gaps and without repeats from where the feed began, or from its last reset; a
 * feed whose principal was revoked tells nothing more and ends its client. All of it runs on the client's loop. A feed
 * at rest costs its watch (an eventfd) and an event; an event told costs some 100 ns beside its protocol's writer. When
 * a feed has its turn is feeds.c's business.
 */
#include "watches/inside.h"

#include "access/principal.h"
#include "base/log.h"
#include "reply/freshness.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ID_BYTES = 48,
    HELD_MS = 10,
    PATIENCE_MS = 1000,
    FAIR_PART = 64 /* of max-output-bytes, to be read within PATIENCE_MS: 256 KiB of 16 MiB */
};

static void on_again(evutil_socket_t fd, short what, void *context);

/* -------------------------------------------------------------------------------------------- opening, closing -- */

static bool copy_text(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return !text || *to;
}

static void close_watch(struct feed *feed)
{
    if (feed->watch)
        feeds_pass_over(feed);
    presence_watch_free(feed->watch);
    feed->watch = NULL;
}

static void feed_free(struct feed *feed)
{
    if (feed->link)
        feeds_remove(feed);
    if (feed->again)
        event_free(feed->again);
    close_watch(feed);
    free(feed->model);
    free(feed->server);
    free(feed->agent);
    free(feed);
}

/* Opens the feed's watch at `start`, and has the loop wait for it. It is readable from the first: it has not been asked
 * yet whether there is something. */
static int open_watch(struct feed *feed, const struct feed_start *start, presence_error *error)
{
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.from_now = start->from_now;
    options.after_revision = start->after_revision;
    options.skip = start->skip;
    options.model = feed->model;
    options.server = feed->server;
    options.agent = feed->agent;
    options.agents = feed->agents;
    int code = presence_watch_open(feed->client->node->recorder, &options, &feed->watch, error);
    if (code)
        return code;
    if (presence_watch_fd(feed->watch) < 0)
        return PRESENCE_E_SYSTEM;
    return feeds_await(feed) ? PRESENCE_OK : PRESENCE_E_NO_MEMORY;
}

/* The history does not reach back to where the feed was: begins anew from the present, and will say so. */
static int begin_anew(struct feed *feed, presence_error *error)
{
    const struct feed_start now = {.from_now = true};
    close_watch(feed);
    int code = open_watch(feed, &now, error);
    if (code)
        return code;
    feed->marker = "reset";
    feed->marker_revision = presence_watch_revision(feed->watch, NULL);
    return PRESENCE_OK;
}

static int fill(struct feed *feed, const struct feed_start *start, presence_error *error)
{
    feed->agents = start->agents;
    feed->again = event_new(feed->client->loop->base, -1, 0, on_again, feed);
    if (!feed->again || !copy_text(&feed->model, start->model) || !copy_text(&feed->server, start->server) ||
        !copy_text(&feed->agent, start->agent))
        return PRESENCE_E_NO_MEMORY;
    int code = open_watch(feed, start, error);
    if (code == PRESENCE_E_LAGGED)
        return begin_anew(feed, error);
    if (!code && start->from_now) {
        feed->marker = "snapshot";
        feed->marker_revision = presence_watch_revision(feed->watch, NULL);
    }
    return code;
}

int feed_open(struct client *client, const struct feed_start *start, uint64_t *revision, presence_error *error)
{
    struct node *node = client->node;
    struct feed *feed = calloc(1, sizeof *feed);
    if (!feed)
        return PRESENCE_E_NO_MEMORY;
    feed->client = client;
    int code = PRESENCE_OK;
    if (atomic_fetch_add(&node->watchers, 1) >= node->config->max_watchers + (client->feed != NULL)) {
        snprintf(error->message, sizeof error->message, "max-watchers is reached");
        code = PRESENCE_E_LIMIT;
    }
    if (!code)
        code = fill(feed, start, error);
    if (code) {
        atomic_fetch_sub(&node->watchers, 1);
        feed_free(feed);
        return code;
    }
    feed_close(client); /* the one before, now that the new one stands */
    client->feed = feed;
    feeds_add(feed);
    *revision = presence_watch_revision(feed->watch, NULL);
    return PRESENCE_OK;
}

void feed_close(struct client *client)
{
    if (!client->feed)
        return;
    feed_free(client->feed);
    client->feed = NULL;
    atomic_fetch_sub(&client->node->watchers, 1);
}

/* ----------------------------------------------------------------------------------------------------- telling -- */

enum { HEAD_MEMBERS = 5 };

/* The members of every event. */
static void say_head(struct reply *reply, const presence_event *event)
{
    reply_key(reply, "kind");
    reply_word(reply, presence_event_kind_string(event->kind));
    reply_key(reply, "revision");
    reply_integer(reply, (int64_t)event->revision);
    reply_key(reply, "index");
    reply_integer(reply, (int64_t)event->index);
    reply_key(reply, "reason");
    reply_word(reply, presence_reason_string(event->reason));
    reply_key(reply, "time");
    reply_time(reply, event->time);
}

static void say_agent(struct reply *reply, const presence_event *event)
{
    reply_map(reply, HEAD_MEMBERS + 5);
    say_head(reply, event);
    reply_key(reply, "model");
    reply_string(reply, event->value.model);
    reply_key(reply, "server");
    reply_string(reply, event->value.server);
    reply_key(reply, "agent");
    reply_string(reply, event->value.agent);
    reply_key(reply, "before");
    reply_word(reply, presence_status_string(event->agent_before));
    reply_key(reply, "after");
    reply_word(reply, presence_status_string(event->agent_after));
}

static void say_connection(struct reply *reply, const presence_event *event)
{
    reply_map(reply, HEAD_MEMBERS + REPLY_VALUE_MEMBERS);
    say_head(reply, event);
    reply_value(reply, &event->value);
}

static void tell_event(struct client *client, const presence_event *event)
{
    char id[ID_BYTES];
    snprintf(id, sizeof id, "%" PRIu64 ".%" PRIu64, event->revision, event->index);
    struct reply *reply = client->sink->begin(client, presence_event_kind_string(event->kind), id);
    if (!reply)
        return;
    if (event->kind == PRESENCE_EVENT_AGENT)
        say_agent(reply, event);
    else
        say_connection(reply, event);
    client->sink->end(client);
}

static void tell_marker(struct feed *feed)
{
    char id[ID_BYTES];
    snprintf(id, sizeof id, "%" PRIu64, feed->marker_revision);
    struct reply *reply = feed->client->sink->begin(feed->client, feed->marker, id);
    if (reply) {
        reply_map(reply, 2);
        reply_key(reply, "kind");
        reply_word(reply, feed->marker);
        reply_key(reply, "revision");
        reply_integer(reply, (int64_t)feed->marker_revision);
        feed->client->sink->end(feed->client);
    }
    feed->marker = NULL;
}

bool feed_permits(const struct client *client, const struct principal *principal)
{
    const struct feed *feed = client->feed;
    if (!feed)
        return true;
    return principal &&
           (feed->model ? principal_may_read_model(principal, feed->model) : principal_may_read(principal));
}

/* Whoever authenticated and may no more see what it watches is told no more. */
static bool is_revoked(struct client *client)
{
    struct access *access = client->node->access;
    return access && !(principal_renew(access, &client->principal) &&
                       feed_permits(client, principal_of(access, client->principal)));
}

void feed_check(struct client *client)
{
    if (client->feed && is_revoked(client))
        event_active(client->feed->again, EV_TIMEOUT, 0); /* which ends it, within the loop's next turn */
}

static const struct timeval soon = {0, (suseconds_t)HELD_MS * 1000};

/* What a turn may tell, and from where on what waits holds a feed back. Twice as much is what may wait at most while a
 * client keeps up, and that is half of what it is cut off for. */
static size_t turn_bytes(const struct feed *feed)
{
    return feed->client->node->config->max_output_bytes / 4;
}

/* Whether the feed is to wait for its client to read; it is looked at again soon then. */
static bool hold_back(struct feed *feed)
{
    const size_t waiting = feed->client->sink->waiting(feed->client);
    const uint64_t now = node_now_ms();
    if (waiting < turn_bytes(feed)) {
        feed->held_waiting = 0;
        return false;
    }
    if (feed->held_waiting == 0 || now - feed->held_since_ms >= PATIENCE_MS) {
        size_t fair = feed->client->node->config->max_output_bytes / FAIR_PART;
        bool keeps_up = feed->held_waiting == 0 || waiting + fair <= feed->held_waiting;
        feed->held_since_ms = now;
        feed->held_waiting = waiting;
        if (!keeps_up)
            return false;
    }
    if (event_add(feed->again, &soon) != 0)
        return false;
    feeds_pass_over(feed);
    return true;
}

/* Tells what there is, for a turn. 1: there may be more; 0: there is no more; or a PRESENCE_E_ code. */
static int tell_events(struct feed *feed, unsigned most)
{
    presence_event event;
    size_t bytes = 0;
    int code = 1;
    for (unsigned i = 0; i < most && bytes < turn_bytes(feed); i++) {
        code = presence_watch_next(feed->watch, &event);
        if (code != 1)
            break;
        tell_event(feed->client, &event);
        bytes += reply_value_bytes(&event.value); /* of an agent it is more than is told, which does no harm */
    }
    return code;
}

void feed_turn(struct feed *feed, unsigned most_events)
{
    struct client *client = feed->client;
    presence_error error = {0};
    if (is_revoked(client)) {
        log_event(LOG_LEVEL_INFO, "watch ended", "client", client->peer, "why", "its token may no more see it", NULL);
        client->closing = true;
        feed_close(client);
        client->sink->flush(client);
        return;
    }
    if (hold_back(feed))
        return;
    if (feed->marker)
        tell_marker(feed);
    if (tell_events(feed, most_events) < 0 && begin_anew(feed, &error) != PRESENCE_OK) {
        log_event(LOG_LEVEL_ERROR, "watch ended", "client", client->peer, "why",
                  *error.message ? error.message : "no memory or no descriptor for a new watch", NULL);
        client->closing = true;
        feed_close(client);
    }
    client->sink->flush(client); /* may close the client, and the feed with it: nothing may follow */
}

static void on_again(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct feed *feed = context;
    if (feeds_await(feed))
        feed_turn(feed, FEED_TURN_EVENTS);
    else
        event_add(feed->again, &soon);
}

/* ----------------------------------------------------------------------------------------------------- freshness -- */

void feed_tell_freshness(struct feed *feed, const presence_freshness *freshness)
{
    struct client *client = feed->client;
    if (feed->marker || feed->told_doubt == freshness->doubt || is_revoked(client))
        return;
    struct reply *reply = client->sink->begin(client, "freshness", NULL);
    if (reply) {
        reply_map(reply, 1 + FRESHNESS_MEMBERS);
        reply_key(reply, "kind");
        reply_word(reply, "freshness");
        reply_freshness(reply, freshness);
        client->sink->end(client);
        feed->told_doubt = freshness->doubt;
    }
    client->sink->flush(client);
}
