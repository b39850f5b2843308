/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actors_watch.c - watchers: each keeps a copy of the record by "list, then watch from there", and compares it with a
 * view when all is quiet.
 *
 * Keeps true: revisions and indexes of events rise without gaps within what the watch shows; a watch that lags starts
 * over from a view; in the end copy and view are the same, whatever came between.
 */
#include "actors.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The copy: by server and id. */
struct copy {
    bool there;
    bool alive;
    char agent[TEST_NAME_BYTES];
};

struct watcher {
    struct actor *actor;
    presence_watch *watch;
    uint64_t revision, index; /* of the last event */
    struct copy copies[SERVERS][IDS];
};

static struct copy *copy_of(struct watcher *watcher, const presence_value *value)
{
    char *end;
    unsigned long server = strtoul(value->server + strlen("server-"), &end, 10);
    must(*end == '\0' && server < SERVERS && value->connection_id < IDS);
    return &watcher->copies[server][value->connection_id];
}

static void take_over(struct watcher *watcher, const presence_value *value)
{
    struct copy *copy = copy_of(watcher, value);
    copy->there = true;
    copy->alive = value->status == PRESENCE_ALIVE;
    must(strlen(value->agent) < sizeof copy->agent);
    memcpy(copy->agent, value->agent, strlen(value->agent) + 1);
}

static void replay(struct watcher *watcher, const presence_event *event)
{
    bool same_revision = event->revision == watcher->revision && event->index == watcher->index + 1;
    must(same_revision || (event->revision > watcher->revision && event->index == 0));
    watcher->revision = event->revision;
    watcher->index = event->index;
    struct copy *copy = copy_of(watcher, &event->value);
    switch (event->kind) {
    case PRESENCE_EVENT_CONNECTED:
        must(!copy->there);
        break;
    case PRESENCE_EVENT_RECONNECTED:
        must(copy->there && !copy->alive);
        break;
    case PRESENCE_EVENT_UPDATED:
        must(copy->there);
        break;
    case PRESENCE_EVENT_MISSING:
        must(copy->there && copy->alive);
        break;
    case PRESENCE_EVENT_DISCONNECTED:
        must(copy->there && strcmp(copy->agent, event->value.agent) == 0);
        copy->there = false;
        return;
    default:
        must(false);
    }
    take_over(watcher, &event->value);
}

/* Lists, then watches from there: again if it lagged already. */
static void start_over(struct watcher *watcher)
{
    struct stage *stage = watcher->actor->stage;
    int code;
    do {
        presence_watch_free(watcher->watch);
        watcher->watch = NULL;
        memset(watcher->copies, 0, sizeof watcher->copies);
        presence_connections *view = presence_recorder_connections(stage->recorder);
        must(view != NULL);
        presence_cursor cursor = {{0}};
        presence_value value;
        while (presence_connections_next(view, &cursor, &value))
            take_over(watcher, &value);
        presence_watch_options options;
        presence_watch_options_init(&options);
        options.from_now = false;
        options.after_revision = watcher->revision = presence_connections_revision(view);
        presence_connections_free(view);
        code = presence_watch_open(stage->recorder, &options, &watcher->watch, NULL);
    } while (code == PRESENCE_E_LAGGED);
    must(code == PRESENCE_OK);
}

/* Reads until nothing is pending. */
static void read_pending(struct watcher *watcher)
{
    presence_event event;
    int code;
    while ((code = presence_watch_next(watcher->watch, &event)) != 0) {
        if (code == 1) {
            replay(watcher, &event);
            atomic_fetch_add(&watcher->actor->stage->events, 1);
            dawdle(watcher->actor);
            continue;
        }
        must(code == PRESENCE_E_LAGGED);
        atomic_fetch_add(&watcher->actor->stage->lags, 1);
        start_over(watcher);
    }
}

static void must_equal_the_record(struct watcher *watcher)
{
    presence_connections *view = presence_recorder_connections(watcher->actor->stage->recorder);
    size_t copies = 0;
    for (size_t server = 0; server < SERVERS; server++)
        for (size_t id = 0; id < IDS; id++)
            copies += watcher->copies[server][id].there;
    must(presence_connections_count(view) == copies);
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(view, &cursor, &value)) {
        const struct copy *copy = copy_of(watcher, &value);
        must(copy->there);
        must(copy->alive == (value.status == PRESENCE_ALIVE));
        must(strcmp(copy->agent, value.agent) == 0);
    }
    presence_connections_free(view);
}

void *watcher_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    struct watcher *watcher = calloc(1, sizeof *watcher);
    must(watcher != NULL);
    watcher->actor = actor;
    start_over(watcher);
    bool quiet = false;
    while (!quiet) {
        quiet = atomic_load(&stage->writers_done); /* before reading: what came before it is read now */
        struct pollfd poller = {.fd = presence_watch_fd(watcher->watch), .events = POLLIN};
        must(poller.fd >= 0);
        must(poll(&poller, 1, quiet ? 0 : 20) >= 0);
        read_pending(watcher);
        if (!quiet && test_random_chance(&actor->random, 64))
            start_over(watcher);
    }
    must_equal_the_record(watcher);
    presence_watch_free(watcher->watch);
    free(watcher);
    return NULL;
}
