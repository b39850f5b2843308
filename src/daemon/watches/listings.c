/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listings.c - kept listings in a list of at most `most`, the latest used first.
 *
 * Keeps true: a listing is lent to one caller, or in the list; never both. The mutex covers the list alone: views are
 * freed, which may take long, after it was given back. Any thread; O(listings kept), of which there are few.
 */
#include "watches/listings.h"

#include "access/principal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { SHARE_OF_ONE = 4 }; /* a principal keeps at most the fourth part */

struct listings {
    pthread_mutex_t mutex;
    struct listing *first; /* the latest used */
    size_t count, most;
    uint64_t (*now_ms)(void);
};

struct listings *listings_new(uint64_t most, uint64_t (*now_ms)(void))
{
    struct listings *listings = calloc(1, sizeof *listings);
    if (!listings)
        return NULL;
    pthread_mutex_init(&listings->mutex, NULL);
    listings->most = most;
    listings->now_ms = now_ms;
    return listings;
}

void listings_limit(struct listings *listings, uint64_t most)
{
    pthread_mutex_lock(&listings->mutex);
    listings->most = most; /* those beyond it go with the next sweep */
    pthread_mutex_unlock(&listings->mutex);
}

void listings_free(struct listings *listings)
{
    if (!listings)
        return;
    for (struct listing *next; listings->first; listings->first = next) {
        next = listings->first->next;
        listing_free(listings->first);
    }
    pthread_mutex_destroy(&listings->mutex);
    free(listings);
}

void listing_free(struct listing *listing)
{
    if (!listing)
        return;
    presence_connections_free(listing->slice);
    presence_names_free(listing->names);
    free(listing->model);
    free(listing->server);
    free(listing->owner);
    free(listing);
}

/* Whom a listing belongs to: a principal by name, which a reload does not change. */
static const char *owner_of(const struct client *client)
{
    return client->principal ? principal_name(client->principal) : "";
}

/* "%016x.%llu" and nothing else: what was read must be written the same. */
static bool parse_cursor(const char *cursor, uint64_t *number, uint64_t *position)
{
    char again[LISTING_CURSOR_BYTES];
    char *end;
    *number = strtoull(cursor, &end, 16);
    if (*end != '.')
        return false;
    *position = strtoull(end + 1, NULL, 10);
    snprintf(again, sizeof again, "%016" PRIx64 ".%" PRIu64, *number, *position);
    return strcmp(again, cursor) == 0;
}

/* Sets the listing to the page that begins at `position`: its next, or its latest once more; of names, any. */
static bool turn_to(struct listing *listing, uint64_t position)
{
    if (listing->names) {
        listing->position = position;
        return position <= listing->name_count;
    }
    if (position == listing->last_position) {
        listing->position = position;
        listing->cursor = listing->last_cursor;
    }
    return position == listing->position;
}

static bool is_over(const struct listing *listing, uint64_t now_ms)
{
    return now_ms - listing->used_ms > LISTING_KEPT_MS || now_ms - listing->begun_ms > LISTING_MOST_MS;
}

struct listing *listings_take(struct listings *listings, const struct client *client, const char *cursor)
{
    uint64_t number, position, now = listings->now_ms();
    struct listing *taken = NULL;
    if (!parse_cursor(cursor, &number, &position))
        return NULL;
    pthread_mutex_lock(&listings->mutex);
    for (struct listing **link = &listings->first; *link; link = &(*link)->next)
        if ((*link)->number == number && !is_over(*link, now) && strcmp((*link)->owner, owner_of(client)) == 0 &&
            turn_to(*link, position)) {
            taken = *link;
            *link = taken->next;
            listings->count--;
            break;
        }
    pthread_mutex_unlock(&listings->mutex);
    return taken;
}

/* With the mutex held: takes out those that are too old, and the oldest of too many; for the caller to free. */
static struct listing *take_out(struct listings *listings, const char *owner, size_t room)
{
    uint64_t now = listings->now_ms();
    size_t kept = 0, kept_of_owner = 0;
    struct listing *out = NULL;
    for (struct listing **link = &listings->first; *link;) {
        struct listing *listing = *link;
        bool own = owner && strcmp(listing->owner, owner) == 0;
        if (!is_over(listing, now) && kept + room < listings->most &&
            (!own || kept_of_owner + room < listings->most / SHARE_OF_ONE)) {
            kept++;
            kept_of_owner += own;
            link = &listing->next;
            continue;
        }
        *link = listing->next;
        listings->count--;
        listing->next = out;
        out = listing;
    }
    return out;
}

static void free_all(struct listing *out)
{
    for (struct listing *next; out; out = next) {
        next = out->next;
        listing_free(out);
    }
}

bool listing_cursor(const struct listings *listings, struct listing *listing, const struct client *client,
                    char cursor[LISTING_CURSOR_BYTES])
{
    if (!listing->owner) {
        if (getrandom(&listing->number, sizeof listing->number, 0) != sizeof listing->number)
            return false;
        listing->begun_ms = listings->now_ms();
        listing->owner = strdup(owner_of(client));
    }
    snprintf(cursor, LISTING_CURSOR_BYTES, "%016" PRIx64 ".%" PRIu64, listing->number, listing->position);
    return listing->owner;
}

void listings_keep(struct listings *listings, struct listing *listing)
{
    listing->used_ms = listings->now_ms();
    pthread_mutex_lock(&listings->mutex);
    /* Where there are no tokens everybody is one owner, who then has all the room. */
    struct listing *out = take_out(listings, *listing->owner ? listing->owner : NULL, 1);
    listing->next = listings->first;
    listings->first = listing;
    listings->count++;
    pthread_mutex_unlock(&listings->mutex);
    free_all(out);
}

void listings_sweep(struct listings *listings)
{
    pthread_mutex_lock(&listings->mutex);
    struct listing *out = take_out(listings, NULL, 0);
    pthread_mutex_unlock(&listings->mutex);
    free_all(out);
}

size_t listings_count(struct listings *listings)
{
    pthread_mutex_lock(&listings->mutex);
    size_t count = listings->count;
    pthread_mutex_unlock(&listings->mutex);
    return count;
}
