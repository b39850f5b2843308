/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed.h - a client's watch: changes of the record, told to it as they come, in its protocol's form.
 *
 * A feed is a presence_watch whose descriptor the client's loop waits for. When it is readable, a bounded number of
 * events is drained into the client's output; the rest comes with the loop's next turn, so that no client keeps the
 * others waiting. Between two clients' inputs a few feeds have a short turn: what the one changed is told before the
 * next is served. While a client has much to read and reads it, its feed waits for it: a change of many, of which all
 * is told at once, cuts off nobody who keeps up. A feed that was too slow for the history says `reset` with the
 * revision from which it goes on, and goes on.
 *
 * What is told is a record of named fields:
 *   an event   kind, revision, index, reason, time (of the change), and the connection (reply_value). Kind `agent`:
 *              model, server, agent, before, after instead.
 *   freshness  kind, freshness, stale_since, stale_because: in a cluster, this node's whole view has turned stale, or
 *              is fresh again. Not in the record's order: it has no id to resume from, and is told anew to who resumes.
 *   a reset    kind, revision: forget what you know, list anew, and take events from that revision on.
 * A feed belongs to its client's loop.
 */
#ifndef DAEMON_WATCHES_FEED_H
#define DAEMON_WATCHES_FEED_H

#include "node/client.h"
#include "reply/reply.h"

/* What a protocol gives the feed. One a protocol, in client->sink; NULL there: this client cannot watch. */
struct feed_sink {
    /* A writer for one event, of which feed.c says one map. `id` is where to resume: "revision.index"; NULL:
     * not here. NULL is returned where the client's output is out of memory; flush is called next. */
    struct reply *(*begin)(struct client *client, const char *kind, const char *id);
    /* The event has been said. */
    void (*end)(struct client *client);
    /* Sends what was said since the last flush. False: the client is gone, and the feed with it. */
    bool (*flush)(struct client *client);
    /* How many bytes of what was flushed its socket has not taken yet. */
    size_t (*waiting)(struct client *client);
};

/* Where a watch begins. */
struct feed_start {
    bool from_now;
    uint64_t after_revision, skip;      /* as in presence_watch_options */
    const char *model, *server, *agent; /* NULL: any. Copied */
    bool agents;
};

/* Has each loop wait for its feeds and, in a cluster, look now and then whether the view is fresh. Before the loops
 * run, and before any feed is opened. False: `error` says why. */
bool feeds_start(struct node *node, char *error, size_t error_bytes);
/* After the last feed is closed. */
void feeds_free(struct node *node);
/* Between two clients' inputs: tells a little of what is ready on that loop, on its thread. Any client of the loop that
 * watches may be gone afterwards. */
void feeds_tell_some(struct node *node, const struct loop *loop);

/* Opens the client's feed (in place of the one it has) and tells the revision after which it begins. 0, or a
 * PRESENCE_E_ code with its reason in *error: LAGGED is none, but told as the first event, a reset. LIMIT:
 * max-watchers. */
int feed_open(struct client *client, const struct feed_start *start, uint64_t *revision, presence_error *error);
/* Closes the client's feed, if it has one. */
void feed_close(struct client *client);
/* Whether that principal may see what the client's feed tells, if it has one. NULL may see nothing. */
bool feed_permits(const struct client *client, const struct principal *principal);
/* After a reload of the tokens: a feed that its client may no more see ends soon, and its client with it. */
void feed_check(struct client *client);

#endif
