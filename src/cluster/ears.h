/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ears.h - what a node hears by NATS: its subscriptions, and the messages that have come on them.
 *
 *   beat.*          always
 *   to.<me>.*       always
 *   stream.<node>   of each node whose beat was heard; of more than EARS_MOST_STREAMS nodes: stream.*
 *   state.<node>    while it is wanted
 *
 * Streams are heard one by one because stream.* would bring back every message of one's own, which costs who states
 * most as much again. A stream that is missed before its node's first beat is repaired as any gap is.
 *
 * Threads: ears_want_state may be called from any thread; all others from the link's owner.
 */
#ifndef CLUSTER_EARS_H
#define CLUSTER_EARS_H

#include "cluster/link.h"

#include <pthread.h>

enum {
    EARS_NAME_BYTES = 128,
    EARS_MOST_STREAMS = 32, /* so that a turn looks at few subscriptions */
    EARS_AT_ONCE = 1024,    /* messages taken from libnats in a turn */
};

struct one_ear { /* to one node */
    struct one_ear *next;
    natsSubscription *subscription;
    unsigned times; /* of a state: how often it is wanted */
    char node[EARS_NAME_BYTES];
};

struct ears {
    const char *cluster, *node;
    natsSubscription *beats, *to, *all_streams;
    struct one_ear *streams;
    size_t stream_count;
    pthread_mutex_t lock; /* of `states`: others add at its head */
    struct one_ear *states;
    natsMsg *came[EARS_AT_ONCE];
    size_t came_count, came_next;
    bool more; /* than fits into `came` */
};

/* The strings must outlive it. */
void ears_init(struct ears *ears, const char *cluster, const char *node);
void ears_free(struct ears *ears);

/* Subscribes to what is always heard, and to what was heard before; false: libnats refuses. */
bool ears_open(struct ears *ears, natsConnection *connection);
void ears_close(struct ears *ears);
/* Subscribes to what is wanted since, and no longer to what is not. */
void ears_follow(struct ears *ears, natsConnection *connection);

void ears_want_state(struct ears *ears, const char *node, bool wanted);
/* A beat of that node came: its stream is heard from now on, as long as this process runs. */
void ears_know(struct ears *ears, const char *node);

/* Takes what libnats has parsed. */
void ears_gather(struct ears *ears);
/* The next message; NULL: no more. All of them live until then, or until they are forgotten. */
natsMsg *ears_next(struct ears *ears);
void ears_forget_messages(struct ears *ears);

/* Whether an encoded message says that it is from this node, and from no other. */
bool ears_is_from(const void *bytes, size_t length, const char *node);

#endif
