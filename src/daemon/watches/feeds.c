/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feeds.c - the feeds of a loop: which of them are ready, and when they have a turn.
 *
 * Their watches' descriptors are in an epoll of their own, whose descriptor is in the loop's, so that they can be
 * looked at by themselves, at two times. In each round of the loop everyone that is ready has a turn. And between two
 * clients' inputs a few have a short one: a change is told right behind the input that made it, and does not wait for
 * all the other clients that are ready. Few, and short, since each costs a send: as much as serving a client does.
 *
 * Keeps true: who is ready comes round (the kernel tells last who was told of last), so nobody is passed over for good.
 * On the loop's thread. A look between two inputs costs a loop without feeds nothing, and another the recorder's lock
 * where nothing has changed, else a system call. In a cluster each loop looks four times a second whether the view is
 * fresh.
 */
#include "watches/inside.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    TURNS_A_CALL = 64,  /* that one system call tells of */
    TURNS_BETWEEN = 8,  /* between two inputs */
    EVENTS_BETWEEN = 8, /* in each of those */
    FRESHNESS_MS = 250  /* how often it is looked at */
};

struct feeds {
    struct node *node;
    struct feed *first;
    size_t count;
    int ready_fd; /* the epoll of their watches */
    struct event *ready;
    uint64_t seen_revision; /* all that was ready at it has had a turn */
    struct event *timer;    /* in a cluster */
};

static struct feeds *feeds_of(const struct feed *feed)
{
    return &feed->client->node->feeds[feed->client->loop->index];
}

/* ------------------------------------------------------------------------------------------------ who there is -- */

void feeds_add(struct feed *feed)
{
    struct feeds *feeds = feeds_of(feed);
    feed->link = &feeds->first;
    feed->next = feeds->first;
    if (feed->next)
        feed->next->link = &feed->next;
    feeds->first = feed;
    feeds->count++;
}

void feeds_remove(struct feed *feed)
{
    struct feeds *feeds = feeds_of(feed);
    *feed->link = feed->next;
    if (feed->next)
        feed->next->link = feed->link;
    feeds->count--;
}

bool feeds_await(struct feed *feed)
{
    struct epoll_event readable = {.events = EPOLLIN, .data.ptr = feed};
    return epoll_ctl(feeds_of(feed)->ready_fd, EPOLL_CTL_ADD, presence_watch_fd(feed->watch), &readable) == 0 ||
           errno == EEXIST;
}

void feeds_pass_over(struct feed *feed)
{
    epoll_ctl(feeds_of(feed)->ready_fd, EPOLL_CTL_DEL, presence_watch_fd(feed->watch), NULL);
}

/* ------------------------------------------------------------------------------------------------------- turns -- */

/* A turn for so many of those that are ready; how many there were. */
static int give_turns(const struct feeds *feeds, int most_turns, unsigned most_events)
{
    struct epoll_event turns[TURNS_A_CALL];
    int ready = epoll_wait(feeds->ready_fd, turns, most_turns, 0);
    for (int i = 0; i < ready; i++)
        feed_turn(turns[i].data.ptr, most_events);
    return ready;
}

/* In the loop's round: everyone that is ready, each once or nearly so. */
static void on_ready(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct feeds *feeds = context;
    size_t given = 0;
    int ready = TURNS_A_CALL;
    while (ready == TURNS_A_CALL && given < feeds->count) {
        ready = give_turns(feeds, TURNS_A_CALL, FEED_TURN_EVENTS);
        given += TURNS_A_CALL;
    }
}

void feeds_tell_some(struct node *node, const struct loop *loop)
{
    struct feeds *feeds = node->feeds ? &node->feeds[loop->index] : NULL;
    if (!feeds || !feeds->first)
        return;
    uint64_t revision = presence_recorder_revision(node->recorder);
    if (revision != feeds->seen_revision && give_turns(feeds, TURNS_BETWEEN, EVENTS_BETWEEN) < TURNS_BETWEEN)
        feeds->seen_revision = revision;
}

/* --------------------------------------------------------------------------------------------------- freshness -- */

static void on_look(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct feeds *feeds = context;
    presence_freshness freshness;
    if (!feeds->first || atomic_load(&feeds->node->stopping))
        return;
    cluster_freshness(feeds->node, NULL, &freshness);
    for (struct feed *feed = feeds->first, *next; feed; feed = next) {
        next = feed->next;
        feed_tell_freshness(feed, &freshness);
    }
}

/* ----------------------------------------------------------------------------------------------- start and end -- */

static bool start_loop(struct feeds *feeds, struct node *node, struct loop *loop)
{
    const struct timeval every = {0, (suseconds_t)FRESHNESS_MS * 1000};
    feeds->node = node;
    feeds->ready_fd = epoll_create1(EPOLL_CLOEXEC);
    if (feeds->ready_fd < 0)
        return false;
    feeds->ready = event_new(loop->base, feeds->ready_fd, EV_READ | EV_PERSIST, on_ready, feeds);
    if (!feeds->ready || event_add(feeds->ready, NULL) != 0)
        return false;
    if (!node->cluster)
        return true;
    feeds->timer = event_new(loop->base, -1, EV_PERSIST, on_look, feeds);
    return feeds->timer && event_add(feeds->timer, &every) == 0;
}

bool feeds_start(struct node *node, char *error, size_t error_bytes)
{
    const size_t loops = node->loops->count;
    bool good = (node->feeds = calloc(loops, sizeof *node->feeds)) != NULL;
    for (size_t i = 0; good && i < loops; i++)
        node->feeds[i].ready_fd = -1;
    for (size_t i = 0; good && i < loops; i++)
        good = start_loop(&node->feeds[i], node, &node->loops->loops[i]);
    if (!good)
        snprintf(error, error_bytes, "cannot prepare for watches: %s", strerror(errno));
    return good;
}

void feeds_free(struct node *node)
{
    for (size_t i = 0; node->feeds && i < node->loops->count; i++) {
        struct feeds *feeds = &node->feeds[i];
        if (feeds->timer)
            event_free(feeds->timer);
        if (feeds->ready)
            event_free(feeds->ready);
        if (feeds->ready_fd >= 0)
            close(feeds->ready_fd);
    }
    free(node->feeds);
    node->feeds = NULL;
}
