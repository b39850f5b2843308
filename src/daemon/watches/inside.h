/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside.h - what feed.c, one client's watch, and feeds.c, those of a loop, know of each other.
 */
#ifndef DAEMON_WATCHES_INSIDE_H
#define DAEMON_WATCHES_INSIDE_H

#include "cluster/joined.h"
#include "watches/feed.h"

enum { FEED_TURN_EVENTS = 256 }; /* at most, in the loop's round */

struct feed {
    struct client *client;
    presence_watch *watch;
    struct event *again; /* a turn that the watch does not ask for: the client may have read by then, or is to end */
    uint64_t held_since_ms;
    size_t held_waiting;          /* what waited then; 0: it is not held back */
    char *model, *server, *agent; /* the filter, for the watch after a reset */
    bool agents;
    struct feed *next, **link; /* of its loop's */
    presence_doubt told_doubt; /* what was told last of the view's freshness */
    const char *marker;        /* "snapshot" or "reset", to be told before any event; NULL: told */
    uint64_t marker_revision;
};

/* feed.c: tells so many events at most. The client may be gone afterwards, and the feed with it; no other is. */
void feed_turn(struct feed *feed, unsigned most_events);
/* Tells it if it is another than was told last, and in its turn: not before the feed has said where it begins. The
 * client, and the feed with it, may be gone afterwards. */
void feed_tell_freshness(struct feed *feed, const presence_freshness *freshness);

/* feeds.c: one of its loop's from here on, until it is removed. */
void feeds_add(struct feed *feed);
void feeds_remove(struct feed *feed);
/* From here on the feed gets a turn whenever its watch is readable, until feeds_pass_over. False: no memory. */
bool feeds_await(struct feed *feed);
void feeds_pass_over(struct feed *feed);

#endif
