/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listings.h - lists that are told in pages, each list one snapshot from its first page to its last.
 *
 * The first page takes a view; if there is more, the view (and the sorted names) is kept under a cursor,
 * `listing.position`, whose first part is random. It is kept until its last page has been told, at most
 * LISTING_KEPT_MS after the latest page and at most LISTING_MOST_MS after the first: it pins a snapshot, and who asks
 * for a page now and then would pin it for ever. A node keeps at most config->max_listings, a principal at most a
 * fourth of them, and the oldest makes room. A cursor works for the principal that began the listing only, and for its
 * latest page or the next (of names, for any page): one whose reply was lost can be asked for again.
 *
 * A listing is lent to one caller at a time, with no lock held meanwhile. Any thread.
 */
#ifndef DAEMON_WATCHES_LISTINGS_H
#define DAEMON_WATCHES_LISTINGS_H

#include "node/client.h"

enum { LISTING_CURSOR_BYTES = 48, LISTING_KEPT_MS = 30000, LISTING_MOST_MS = 600000, LISTING_PAGE = 1000 };

struct listings;

/* One list, zeroed by who begins it, and filled: it owns what it points to. */
struct listing {
    presence_connections *slice; /* what is listed, and what details are read from */
    char **names;                /* a list of names; NULL: of values */
    size_t name_count;
    const void *what;     /* the caller's own: the command that began it */
    bool details;         /* likewise */
    char *model, *server; /* the filters it was begun with; NULL: none */
    bool has_status;      /* of values: this status only */
    presence_status status;
    uint64_t position;      /* rows passed so far */
    presence_cursor cursor; /* of values: where the next page begins */
    uint64_t last_position; /* where the latest page began */
    presence_cursor last_cursor;
    struct listing *next; /* from here on, listings.c's own */
    uint64_t number, begun_ms, used_ms;
    char *owner;
};

/* `now_ms`: a monotonic clock, node_now_ms. NULL: out of memory. */
struct listings *listings_new(uint64_t most, uint64_t (*now_ms)(void));
/* From now on at most so many. Any thread. */
void listings_limit(struct listings *listings, uint64_t most);
void listings_free(struct listings *listings); /* NULL is allowed */

/* Lends the listing of a cursor, turned to the page that it names. NULL: no such cursor, or its time is over, or it is
 * lent, or another principal's. */
struct listing *listings_take(struct listings *listings, const struct client *client, const char *cursor);
/* The cursor of the page at listing->position, for who began it. False: out of memory. */
bool listing_cursor(const struct listings *listings, struct listing *listing, const struct client *client,
                    char cursor[LISTING_CURSOR_BYTES]);
/* Takes back a listing that has a cursor; after this it may be lent to others, or freed. */
void listings_keep(struct listings *listings, struct listing *listing);
/* A listing that is over. NULL is allowed. */
void listing_free(struct listing *listing);
/* Lets go of those whose time has come; called now and then. */
void listings_sweep(struct listings *listings);
/* How many are kept; for metrics. */
size_t listings_count(struct listings *listings);

#endif
