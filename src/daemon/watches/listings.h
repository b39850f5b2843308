/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listings.h - lists that are told in pages, each list one snapshot from its first page to its last.
 *
 * The first page takes a view; if there is more, the view (or the sorted names) is kept under a cursor,
 * `listing.position`, whose first part is random. It is kept until its last page has been told, at most KEPT_MS after
 * the latest page; a node keeps at most config->max_listings, a principal at most a fourth of them, and the oldest makes
 * room. A cursor works for the principal that began the listing only, and for its latest page or the next: a page whose
 * reply was lost can be asked for again.
 *
 * A listing is lent to one caller at a time, with no lock held meanwhile. Any thread.
 */
#ifndef DAEMON_WATCHES_LISTINGS_H
#define DAEMON_WATCHES_LISTINGS_H

#include "node/client.h"

enum { LISTING_CURSOR_BYTES = 48, LISTING_KEPT_MS = 30000, LISTING_PAGE = 1000, LISTING_MOST = 10000 };

struct listings;

/* One list. Who fills it gives over what it points to. */
struct listing {
    presence_connections *slice; /* what is listed, and what details are read from */
    char **names;                /* a list of names; NULL: of values */
    size_t name_count;
    int what;              /* the caller's own: which command began it, and how */
    char *model, *server;  /* the filters it was begun with; NULL: none */
    bool has_status;
    presence_status status;
    uint64_t position;       /* rows told so far */
    presence_cursor cursor;  /* of values: where the next page begins */
    uint64_t last_position;  /* where the latest page began */
    presence_cursor last_cursor;
    /* listings.c's own */
    struct listing *next;
    uint64_t number;
    uint64_t used_ms;
    const struct principal *principal;
    bool lent;
};

struct listings *listings_new(uint64_t most);
void listings_free(struct listings *listings); /* NULL is allowed */

/* Lends the listing of a cursor, set to the page that it names. NULL: not a cursor, gone, lent to somebody else, or of
 * another principal. */
struct listing *listings_take(struct listings *listings, const struct client *client, const char *cursor);
/* Takes a listing back, or over for the first time, since there is more to tell: its cursor is written to `cursor`.
 * False: memory is out, the listing is freed. */
bool listings_keep(struct listings *listings, const struct client *client, struct listing *listing,
                   char cursor[LISTING_CURSOR_BYTES]);
/* A listing that is over. */
void listing_free(struct listing *listing);
/* Lets go of those whose time has come; called now and then. */
void listings_sweep(struct listings *listings);
/* How many are kept; for metrics. */
size_t listings_count(struct listings *listings);

#endif
