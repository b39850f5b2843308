/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ears.c - what a node hears by NATS: subscriptions that come and go, and messages in the order that matters.
 *
 * Subscriptions are synchronous ones, emptied by the link's owner after each read: no thread of libnats waits on them.
 * Keeps true: beats are handed over after the streams that came with them, for they tell of what was said there.
 * Cost: O(messages), and O(subscriptions) for each read.
 */
#include "cluster/ears.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUBJECT_BYTES = 512 };

void ears_init(struct ears *ears, const char *cluster, const char *node)
{
    ears->cluster = cluster;
    ears->node = node;
    pthread_mutex_init(&ears->lock, NULL);
}

static void free_list(struct one_ear *list)
{
    while (list) {
        struct one_ear *next = list->next;
        natsSubscription_Destroy(list->subscription);
        free(list);
        list = next;
    }
}

void ears_free(struct ears *ears)
{
    ears_close(ears);
    free_list(ears->streams);
    free_list(ears->states);
    pthread_mutex_destroy(&ears->lock);
}

/* ------------------------------------------------------------------------------------------------- subscriptions -- */

static bool subscribe(struct ears *ears, natsConnection *connection, natsSubscription **subscription, const char *kind,
                      const char *of, const char *from)
{
    char subject[SUBJECT_BYTES];
    snprintf(subject, sizeof subject, "presence.%s.%s.%s%s%s", ears->cluster, kind, of, from ? "." : "",
             from ? from : "");
    if (natsConnection_SubscribeSync(subscription, connection, subject) != NATS_OK)
        return false;
    natsSubscription_SetPendingLimits(*subscription, -1, -1); /* each is emptied after each read */
    return true;
}

static void unsubscribe(natsSubscription **subscription)
{
    natsSubscription_Destroy(*subscription);
    *subscription = NULL;
}

bool ears_open(struct ears *ears, natsConnection *connection)
{
    if (!subscribe(ears, connection, &ears->beats, "beat", "*", NULL) ||
        !subscribe(ears, connection, &ears->to, "to", ears->node, "*"))
        return false;
    ears_follow(ears, connection);
    return true;
}

static struct one_ear *states(struct ears *ears)
{
    pthread_mutex_lock(&ears->lock);
    struct one_ear *first = ears->states;
    pthread_mutex_unlock(&ears->lock);
    return first;
}

void ears_close(struct ears *ears)
{
    ears_forget_messages(ears);
    unsubscribe(&ears->beats);
    unsubscribe(&ears->to);
    unsubscribe(&ears->all_streams);
    for (struct one_ear *one = ears->streams; one; one = one->next)
        unsubscribe(&one->subscription);
    for (struct one_ear *one = states(ears); one; one = one->next)
        unsubscribe(&one->subscription);
}

static struct one_ear *find(struct one_ear *list, const char *node)
{
    while (list && strcmp(list->node, node) != 0)
        list = list->next;
    return list;
}

static struct one_ear *add(struct one_ear **list, const char *node)
{
    struct one_ear *one = calloc(1, sizeof *one);
    if (!one)
        return NULL;
    snprintf(one->node, sizeof one->node, "%s", node);
    one->next = *list;
    return *list = one;
}

void ears_want_state(struct ears *ears, const char *node, bool wanted)
{
    pthread_mutex_lock(&ears->lock);
    struct one_ear *one = find(ears->states, node);
    if (!one && wanted)
        one = add(&ears->states, node);
    if (one && wanted)
        one->times++;
    else if (one && one->times > 0)
        one->times--;
    pthread_mutex_unlock(&ears->lock);
}

void ears_know(struct ears *ears, const char *node)
{
    if (ears->stream_count > EARS_MOST_STREAMS || strcmp(node, ears->node) == 0 || find(ears->streams, node))
        return;
    ears->stream_count += add(&ears->streams, node) != NULL;
}

static void drop_unwanted_states(struct ears *ears)
{
    struct one_ear *gone = NULL;
    pthread_mutex_lock(&ears->lock);
    for (struct one_ear **link = &ears->states; *link;) {
        struct one_ear *one = *link;
        if (one->times > 0) {
            link = &one->next;
            continue;
        }
        *link = one->next;
        one->next = gone;
        gone = one;
    }
    pthread_mutex_unlock(&ears->lock);
    free_list(gone);
}

/* One by one, or all: there are more nodes than are heard one by one. */
static void follow_streams(struct ears *ears, natsConnection *connection)
{
    if (ears->stream_count <= EARS_MOST_STREAMS) {
        for (struct one_ear *one = ears->streams; one; one = one->next)
            if (!one->subscription)
                subscribe(ears, connection, &one->subscription, "stream", one->node, NULL);
    } else if (!ears->all_streams && subscribe(ears, connection, &ears->all_streams, "stream", "*", NULL)) {
        for (struct one_ear *one = ears->streams; one; one = one->next)
            unsubscribe(&one->subscription);
    }
}

void ears_follow(struct ears *ears, natsConnection *connection)
{
    drop_unwanted_states(ears);
    follow_streams(ears, connection);
    for (struct one_ear *one = states(ears); one; one = one->next)
        if (!one->subscription)
            subscribe(ears, connection, &one->subscription, "state", one->node, NULL);
}

/* ------------------------------------------------------------------------------------------------------ messages -- */

static void gather(struct ears *ears, natsSubscription *subscription)
{
    int count = 0;
    if (!subscription || natsSubscription_GetPending(subscription, &count, NULL) != NATS_OK)
        return;
    for (; count > 0; count--) {
        if (ears->came_count == EARS_AT_ONCE) {
            ears->more = true;
            return;
        }
        natsMsg *message;
        if (natsSubscription_NextMsg(&message, subscription, 0) == NATS_OK)
            ears->came[ears->came_count++] = message;
    }
}

void ears_gather(struct ears *ears)
{
    ears->more = false;
    gather(ears, ears->to);
    gather(ears, ears->all_streams);
    for (struct one_ear *one = ears->streams; one; one = one->next)
        gather(ears, one->subscription);
    for (struct one_ear *one = states(ears); one; one = one->next)
        gather(ears, one->subscription);
    gather(ears, ears->beats);
}

/* All at once: libnats frees them on a thread of its own, which each by itself would wake once more. */
static void let_go(struct ears *ears)
{
    for (size_t i = 0; i < ears->came_count; i++)
        natsMsg_Destroy(ears->came[i]);
    ears->came_count = ears->came_next = 0;
}

natsMsg *ears_next(struct ears *ears)
{
    if (ears->came_next < ears->came_count)
        return ears->came[ears->came_next++];
    let_go(ears);
    return NULL;
}

void ears_forget_messages(struct ears *ears)
{
    let_go(ears);
    ears->more = false;
}

/* --------------------------------------------------------------------------------------------------- who says it -- */

/* A varint of a message of Protocol Buffers. */
static bool read_number(const unsigned char **at, const unsigned char *end, uint64_t *number)
{
    *number = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        unsigned char byte = *(*at)++;
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

/* The bytes of a field of that wire type; false: malformed, or of a type that is not used any more. */
static bool read_size(const unsigned char **at, const unsigned char *end, unsigned type, uint64_t *size)
{
    uint64_t number;
    switch (type) {
    case 0:
        *size = 0;
        return read_number(at, end, &number);
    case 1:
        *size = 8;
        break;
    case 2:
        if (!read_number(at, end, size))
            return false;
        break;
    case 5:
        *size = 4;
        break;
    default:
        return false;
    }
    return *size <= (uint64_t)(end - *at);
}

/* Every `node` of the envelope (field 2 of Message in cluster.proto) is this one, and there is one: of several the
 * decoder takes the last. O(fields of the envelope). */
bool ears_is_from(const void *bytes, size_t length, const char *node)
{
    const unsigned char *at = bytes, *end = at + length;
    size_t node_length = strlen(node);
    bool found = false;
    while (at < end) {
        uint64_t tag, size;
        if (!read_number(&at, end, &tag) || !read_size(&at, end, tag & 7, &size))
            return false;
        if (tag >> 3 == 2) {
            if ((tag & 7) != 2 || size != node_length || memcmp(at, node, node_length) != 0)
                return false;
            found = true;
        }
        at += size;
    }
    return found;
}
