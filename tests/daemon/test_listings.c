/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_listings.c - how long a list in pages is kept, in a time of the test's own.
 */
#include "watches/listings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t now_ms;

static uint64_t tell_time(void)
{
    return now_ms;
}

struct scene {
    struct listings *listings;
    presence_recorder *recorder;
    struct client client;
    char cursor[LISTING_CURSOR_BYTES];
};

static uint64_t snapshots(const struct scene *scene)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    presence_recorder_trim(scene->recorder); /* takes in what was let go of */
    assert_int_equal(presence_recorder_stats(scene->recorder, &stats), PRESENCE_OK);
    return stats.snapshots;
}

/* Tells a page of a list, and keeps the list for its next. */
static void tell_page(struct scene *scene, struct listing *listing)
{
    assert_non_null(listing);
    listing->last_position = listing->position++;
    assert_true(listing_cursor(scene->listings, listing, &scene->client, scene->cursor));
    listings_keep(scene->listings, listing);
}

/* Given a list whose first page was told. */
static struct scene begin(void)
{
    struct scene scene = {.listings = listings_new(4, tell_time), .recorder = presence_recorder_new(NULL)};
    now_ms = 1000;
    presence_recorder_enable(scene.recorder);
    assert_int_equal(presence_recorder_connect(scene.recorder, "s", "m", "a", 1, false, NULL), PRESENCE_OK);
    struct listing *listing = calloc(1, sizeof *listing);
    listing->slice = presence_recorder_connections(scene.recorder);
    tell_page(&scene, listing);
    return scene;
}

static void end(struct scene *scene)
{
    listings_free(scene->listings);
    presence_recorder_free(scene->recorder);
}

static struct listing *next_page(const struct scene *scene)
{
    return listings_take(scene->listings, &scene->client, scene->cursor);
}

static void test_a_list_is_kept_from_page_to_page(void **state)
{
    (void)state;
    struct scene scene = begin();
    for (int page = 0; page < 20; page++) {
        now_ms += LISTING_KEPT_MS;
        listings_sweep(scene.listings);
        tell_page(&scene, next_page(&scene));
    }
    assert_int_equal(listings_count(scene.listings), 1);
    end(&scene);
}

static void test_a_list_that_is_left_alone_is_let_go(void **state)
{
    (void)state;
    struct scene scene = begin();
    now_ms += LISTING_KEPT_MS + 1;
    assert_null(next_page(&scene)); /* though nobody has swept yet */
    listings_sweep(scene.listings);
    assert_int_equal(listings_count(scene.listings), 0);
    assert_int_equal(snapshots(&scene), 0);
    end(&scene);
}

/* Whoever asks for the latest page again and again, or for a row at a time, pins a snapshot; not for ever. */
static void test_a_list_has_an_end_however_often_it_is_asked_for(void **state)
{
    (void)state;
    struct scene scene = begin();
    const uint64_t begun = now_ms;
    while (now_ms + LISTING_KEPT_MS - 1000 <= begun + LISTING_MOST_MS) {
        now_ms += LISTING_KEPT_MS - 1000;
        tell_page(&scene, next_page(&scene));
    }
    assert_int_equal(snapshots(&scene), 1);
    now_ms = begun + LISTING_MOST_MS;
    tell_page(&scene, next_page(&scene));
    now_ms++;
    assert_null(next_page(&scene));
    listings_sweep(scene.listings);
    assert_int_equal(listings_count(scene.listings), 0);
    assert_int_equal(snapshots(&scene), 0);
    end(&scene);
}

/* One that is lent when its time comes goes at its return. */
static void test_a_page_that_is_being_told_is_told_to_its_end(void **state)
{
    (void)state;
    struct scene scene = begin();
    now_ms += LISTING_KEPT_MS;
    struct listing *lent = next_page(&scene);
    now_ms += LISTING_MOST_MS;
    listings_sweep(scene.listings);
    tell_page(&scene, lent);
    assert_null(next_page(&scene));
    listings_sweep(scene.listings);
    assert_int_equal(listings_count(scene.listings), 0);
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_is_kept_from_page_to_page),
        cmocka_unit_test(test_a_list_that_is_left_alone_is_let_go),
        cmocka_unit_test(test_a_list_has_an_end_however_often_it_is_asked_for),
        cmocka_unit_test(test_a_page_that_is_being_told_is_told_to_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
