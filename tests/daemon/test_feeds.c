/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_feeds.c - between two clients' inputs a few feeds tell a little, everyone in its turn; in the loop's rounds all
 * do; nobody is told anything twice, and nobody is left out.
 */
#include "config/config.h"
#include "loop/loop.h"
#include "node/client.h"
#include "reply/json.h"
#include "watches/feed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include <cmocka.h>

/* FEW is what one look between two inputs may tell, of clients and to each. */
enum { CLIENTS = 20, FEW = 8, OUTPUT_BYTES = 1 << 20 };

struct watcher {
    struct client client; /* first */
    struct json_reply json;
    size_t told, flushes;
    size_t waiting; /* what its socket has not taken */
    bool closes;    /* at its next flush, as one whose socket was lost */
};

struct scene {
    struct config config;
    struct loops loops;
    struct node node;
    struct counters counters;
    struct watcher watchers[CLIENTS];
    uint64_t ids;
};

static struct reply *begin_event(struct client *client, const char *kind, const char *id)
{
    struct watcher *watcher = (struct watcher *)(void *)client;
    (void)id;
    watcher->told += strcmp(kind, "snapshot") != 0;
    json_reply_init(&watcher->json);
    return &watcher->json.reply;
}

static void end_event(struct client *client)
{
    json_reply_free(&((struct watcher *)(void *)client)->json);
}

static bool flush_events(struct client *client)
{
    struct watcher *watcher = (struct watcher *)(void *)client;
    watcher->flushes++;
    if (watcher->closes)
        feed_close(client);
    return !watcher->closes;
}

static size_t waiting_events(struct client *client)
{
    return ((struct watcher *)(void *)client)->waiting;
}

static const struct feed_sink sink = {begin_event, end_event, flush_events, waiting_events};

/* Rounds, until nothing is left to do. */
static void let_the_loop_run(struct scene *scene)
{
    event_base_loop(scene->loops.loops->base, EVLOOP_NONBLOCK);
}

static void between_inputs(struct scene *scene)
{
    feeds_tell_some(&scene->node, scene->loops.loops);
}

static void change(struct scene *scene, size_t times)
{
    for (size_t i = 0; i < times; i++)
        assert_true(presence_recorder_connect(scene->node.recorder, "server-1", "model-1", "agent-1", ++scene->ids,
                                              false, NULL) >= 0);
}

/* All of them watch, and have been told where they begin. */
static int set_up(void **state)
{
    static char *words[] = {(char *)"test"}, *nothing[] = {NULL};
    const struct feed_start now = {.from_now = true, .model = "model-1"};
    char error[CONFIG_ERROR_BYTES];
    presence_error why;
    uint64_t revision;
    struct scene *scene = calloc(1, sizeof *scene);
    assert_non_null(scene);
    assert_true(config_load(&scene->config, 1, words, nothing, error));
    assert_true(loops_init(&scene->loops, 1, error, sizeof error));
    scene->node = (struct node){.config = &scene->config, .loops = &scene->loops, .counters = &scene->counters};
    scene->node.recorder = presence_recorder_new(NULL);
    assert_non_null(scene->node.recorder);
    presence_recorder_enable(scene->node.recorder);
    scene->config.max_output_bytes = OUTPUT_BYTES;
    assert_true(feeds_start(&scene->node, error, sizeof error));
    for (size_t i = 0; i < CLIENTS; i++) {
        scene->watchers[i].client = (struct client){.node = &scene->node, .loop = scene->loops.loops, .sink = &sink};
        assert_int_equal(feed_open(&scene->watchers[i].client, &now, &revision, &why), PRESENCE_OK);
    }
    let_the_loop_run(scene);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(scene->watchers[i].flushes, 1);
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    for (size_t i = 0; i < CLIENTS; i++)
        feed_close(&scene->watchers[i].client);
    feeds_free(&scene->node);
    presence_recorder_free(scene->node.recorder);
    loops_free(&scene->loops);
    config_free(&scene->config);
    free(scene);
    return 0;
}

/* How many have been told exactly so much. */
static size_t were_told(const struct scene *scene, size_t events)
{
    size_t count = 0;
    for (size_t i = 0; i < CLIENTS; i++)
        count += scene->watchers[i].told == events;
    return count;
}

/* Given a change that concerns all, when the loop comes from one input to the next, then a few are told it at each,
 * until all are: also where the inputs between change nothing more. And then there is nothing left. */
static void a_change_is_told_between_inputs(void **state)
{
    struct scene *scene = *state;
    change(scene, 1);
    for (size_t told = FEW; told < CLIENTS; told += FEW) {
        between_inputs(scene);
        assert_int_equal(were_told(scene, 1), told);
    }
    between_inputs(scene);
    assert_int_equal(were_told(scene, 1), CLIENTS);
    between_inputs(scene);
    let_the_loop_run(scene);
    assert_int_equal(were_told(scene, 1), CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(scene->watchers[i].flushes, 2);
}

/* Given more changes than a look between two inputs tells anyone, then it tells the first of them, comes to all in
 * their turn before it comes to anyone again, and the loop's own rounds tell all that is left. */
static void much_is_told_a_little_at_a_time(void **state)
{
    struct scene *scene = *state;
    change(scene, 100);
    between_inputs(scene);
    assert_int_equal(were_told(scene, FEW), FEW);
    between_inputs(scene);
    assert_int_equal(were_told(scene, FEW), 2 * FEW);
    between_inputs(scene);
    assert_int_equal(were_told(scene, 0), 0);
    let_the_loop_run(scene);
    assert_int_equal(were_told(scene, 100), CLIENTS);
}

/* Given changes that concern nobody, then nobody has a turn; nor where nothing has changed. */
static void what_concerns_nobody_gives_no_turn(void **state)
{
    struct scene *scene = *state;
    between_inputs(scene);
    assert_true(presence_recorder_connect(scene->node.recorder, "server-1", "model-2", "agent-1", 1, false, NULL) >= 0);
    between_inputs(scene);
    let_the_loop_run(scene);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(scene->watchers[i].flushes, 1);
}

/* Given one that has much to read still, then it is told nothing more, neither between inputs nor in the loop's rounds,
 * until it has read; the others are. */
static void who_has_much_to_read_is_waited_for(void **state)
{
    struct scene *scene = *state;
    struct watcher *slow = &scene->watchers[3];
    slow->waiting = OUTPUT_BYTES / 2;
    change(scene, 1);
    for (size_t i = 0; i < CLIENTS; i++)
        between_inputs(scene);
    let_the_loop_run(scene);
    assert_int_equal(slow->told, 0);
    assert_int_equal(were_told(scene, 1), CLIENTS - 1);
    slow->waiting = 0;
    while (slow->told == 0)
        event_base_loop(scene->loops.loops->base, EVLOOP_ONCE);
    assert_int_equal(were_told(scene, 1), CLIENTS);
    /* And from then on it has its turns as ever. */
    change(scene, 1);
    for (size_t i = 0; i < CLIENTS; i++)
        between_inputs(scene);
    assert_int_equal(were_told(scene, 2), CLIENTS);
}

/* Given some whose socket is found lost in their own turn, then they are gone, and the others are told. */
static void who_is_lost_in_its_turn_harms_nobody(void **state)
{
    struct scene *scene = *state;
    for (size_t i = 0; i < CLIENTS; i += 2)
        scene->watchers[i].closes = true;
    change(scene, 1);
    between_inputs(scene);
    let_the_loop_run(scene);
    change(scene, 1);
    for (size_t i = 0; i < CLIENTS; i++)
        between_inputs(scene);
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(scene->watchers[i].client.feed == NULL, i % 2 == 0);
        assert_int_equal(scene->watchers[i].told, i % 2 == 0 ? 1 : 2);
    }
}

/* Given a record that is disabled, then everyone is told to begin anew, and what comes after it. */
static void who_is_reset_goes_on(void **state)
{
    struct scene *scene = *state;
    presence_recorder_disable(scene->node.recorder);
    let_the_loop_run(scene);
    assert_int_equal(were_told(scene, 1), CLIENTS);
    presence_recorder_enable(scene->node.recorder);
    change(scene, 1);
    for (size_t i = 0; i < CLIENTS; i++)
        between_inputs(scene);
    assert_int_equal(were_told(scene, 2), CLIENTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_change_is_told_between_inputs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(much_is_told_a_little_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_concerns_nobody_gives_no_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_much_to_read_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_lost_in_its_turn_harms_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_reset_goes_on, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
