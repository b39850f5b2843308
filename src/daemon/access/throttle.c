/* SPDX-License-Identifier: Apache-2.0 */
/*
 * throttle.c - whoever shows ten bad tokens within a minute is not looked at again until it has been still for a
 * second.
 *
 * Counted by address without port, and for IPv6 by its upper half, which one customer has. A fixed table: the address
 * that failed longest ago gives way. Under access's mutex; O(addresses that failed of late).
 */
#include "access/inside.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { FREE_FAILURES = 10, WINDOW_MS = 60000, SILENCE_MS = 1000 };

/* "127.0.0.1:40312" and "[2001:db8::1]:40312" without what the peer is free to change. */
static void key_of_peer(const char *peer, char *key)
{
    struct in6_addr v6;
    char host[THROTTLE_PEER_BYTES];
    const char *colon = strrchr(peer, ':');
    int length = (int)(colon ? colon - peer : (ptrdiff_t)strlen(peer));
    if (peer[0] == '[' && length > 2) {
        snprintf(host, sizeof host, "%.*s", length - 2, peer + 1);
        if (inet_pton(AF_INET6, host, &v6) == 1) {
            memset(v6.s6_addr + 8, 0, 8);
            inet_ntop(AF_INET6, &v6, key, THROTTLE_PEER_BYTES);
            return;
        }
    }
    snprintf(key, THROTTLE_PEER_BYTES, "%.*s", length, peer);
}

static const struct throttled *find(const struct throttle *throttle, const char *key)
{
    for (size_t i = 0; i < throttle->used; i++)
        if (strcmp(throttle->peers[i].peer, key) == 0)
            return &throttle->peers[i];
    return NULL;
}

bool throttle_refuses(const struct throttle *throttle, const char *peer, uint64_t now_ms)
{
    char key[THROTTLE_PEER_BYTES];
    if (throttle->used == 0)
        return false;
    key_of_peer(peer, key);
    const struct throttled *entry = find(throttle, key);
    return entry && entry->failures >= FREE_FAILURES && now_ms - entry->window_began_ms < WINDOW_MS &&
           now_ms - entry->last_ms < SILENCE_MS;
}

static struct throttled *make_room(struct throttle *throttle)
{
    if (throttle->used < THROTTLE_PEERS)
        return &throttle->peers[throttle->used++];
    struct throttled *oldest = &throttle->peers[0];
    for (size_t i = 1; i < THROTTLE_PEERS; i++)
        if (throttle->peers[i].last_ms < oldest->last_ms)
            oldest = &throttle->peers[i];
    return oldest;
}

void throttle_failed(struct throttle *throttle, const char *peer, uint64_t now_ms)
{
    char key[THROTTLE_PEER_BYTES];
    key_of_peer(peer, key);
    struct throttled *entry = (struct throttled *)(uintptr_t)find(throttle, key);
    if (!entry) {
        entry = make_room(throttle);
        *entry = (struct throttled){.window_began_ms = now_ms};
        memcpy(entry->peer, key, sizeof key);
    }
    if (now_ms - entry->window_began_ms >= WINDOW_MS) {
        entry->window_began_ms = now_ms;
        entry->failures = 0;
    }
    entry->failures++;
    entry->last_ms = now_ms;
}
