/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed.c - a client's watch in its loop: readable, drained a little, readable again while there is more.
 *
 * Keeps true: what is told is without gaps and without repeats from where the feed began, or from its last reset; a
 * feed whose principal was revoked tells nothing more and ends its client. All of it runs on the client's loop. A feed
 * at rest costs its watch (an eventfd) and an event; an event told costs some 100 ns beside its protocol's writer.
 */
#include "watches/feed.h"

#include "access/principal.h"
#include "base/log.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { EVENTS_A_TURN = 256, ID_BYTES = 48 };

struct feed {
    struct client *client;
    presence_watch *watch;
    struct event *readable;
    char *model, *server, *agent; /* the filter, for the watch after a reset */
    bool agents;
    const char *marker; /* "snapshot" or "reset", to be told before any event; NULL: told */
    uint64_t marker_revision;
};

static void on_readable(evutil_socket_t fd, short what, void *context);

/* -------------------------------------------------------------------------------------------- opening, closing -- */

static bool copy_text(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return !text || *to;
}

static void feed_free(struct feed *feed)
{
    if (feed->readable)
        event_free(feed->readable);
    presence_watch_free(feed->watch);
    free(feed->model);
    free(feed->server);
    free(feed->agent);
    free(feed);
}

/* Opens the feed's watch at `start`, and has the loop wait for it. */
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
    int fd = presence_watch_fd(feed->watch);
    if (fd < 0)
        return PRESENCE_E_SYSTEM;
    feed->readable = event_new(feed->client->loop->base, fd, EV_READ | EV_PERSIST, on_readable, feed);
    if (!feed->readable || event_add(feed->readable, NULL) != 0)
        return PRESENCE_E_NO_MEMORY;
    return PRESENCE_OK;
}

/* The history does not reach back to where the feed was: begins anew from the present, and will say so. */
static int begin_anew(struct feed *feed, presence_error *error)
{
    const struct feed_start now = {.from_now = true};
    if (feed->readable)
        event_free(feed->readable);
    feed->readable = NULL;
    presence_watch_free(feed->watch);
    feed->watch = NULL;
    int code = open_watch(feed, &now, error);
    if (code)
        return code;
    feed->marker = "reset";
    feed->marker_revision = presence_watch_revision(feed->watch, NULL);
    event_active(feed->readable, EV_READ, 0);
    return PRESENCE_OK;
}

static int fill(struct feed *feed, const struct feed_start *start, presence_error *error)
{
    feed->agents = start->agents;
    if (!copy_text(&feed->model, start->model) || !copy_text(&feed->server, start->server) ||
        !copy_text(&feed->agent, start->agent))
        return PRESENCE_E_NO_MEMORY;
    int code = open_watch(feed, start, error);
    if (code == PRESENCE_E_LAGGED)
        return begin_anew(feed, error);
    if (!code && start->from_now) {
        feed->marker = "snapshot";
        feed->marker_revision = presence_watch_revision(feed->watch, NULL);
        event_active(feed->readable, EV_READ, 0);
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

/* Whoever authenticated and is not known any more is told no more. */
static bool is_revoked(const struct client *client)
{
    return client->node->access && !principal_of(client->node->access, client->principal);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct feed *feed = context;
    struct client *client = feed->client;
    presence_event event;
    presence_error error = {0};
    int code = 1;
    if (is_revoked(client)) {
        log_event(LOG_LEVEL_INFO, "watch ended", "client", client->peer, "why", "its token is revoked", NULL);
        client->closing = true;
        feed_close(client);
        client->sink->flush(client);
        return;
    }
    if (feed->marker)
        tell_marker(feed);
    for (int i = 0; i < EVENTS_A_TURN && (code = presence_watch_next(feed->watch, &event)) == 1; i++)
        tell_event(client, &event);
    if (code < 0 && begin_anew(feed, &error) != PRESENCE_OK) {
        log_event(LOG_LEVEL_ERROR, "watch ended", "client", client->peer, "why",
                  *error.message ? error.message : "no memory or no descriptor for a new watch", NULL);
        client->closing = true;
        feed_close(client);
    }
    client->sink->flush(client); /* may close the client, and the feed with it: nothing may follow */
}
