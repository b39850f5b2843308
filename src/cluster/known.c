/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known.c - the tables of peers and servers that the step function knows.
 *
 * Servers are found by name in a balanced tree of the C library's (tsearch), and walked in the order in which they
 * became known, which is the same in every run of a seed. Peers, of whom each message names one, are hashed by name and
 * run, and walked in a list. O(log servers); O(1) for a peer that is known, while nobody makes up names that collide.
 */
#include "cluster/inside.h"

#include <search.h>

bool claim_is_none(const presence_claim *claim)
{
    return claim->epoch == 0 && claim->turn == 0 && claim->random == 0;
}

static struct peer **bucket_of(struct step *step, const char *node, uint64_t run)
{
    uint64_t hash = run;
    for (; *node; node++)
        hash = (hash ^ (unsigned char)*node) * UINT64_C(0x9e3779b97f4a7c15);
    return &step->peer_buckets[hash >> 32 & (PEER_BUCKETS - 1)];
}

struct peer *peer_find(struct step *step, const char *node, uint64_t run)
{
    for (struct peer *peer = *bucket_of(step, node, run); peer; peer = peer->chain)
        if (peer->run == run && strcmp(peer->node, node) == 0)
            return peer;
    return NULL;
}

struct peer *peer_find_or_add(struct step *step, const char *node, uint64_t run)
{
    struct peer *peer = peer_find(step, node, run);
    if (peer)
        return peer;
    if (step->peer_count >= step->config.most_peers || strlen(node) >= sizeof peer->node)
        return NULL;
    peer = calloc(1, sizeof *peer);
    if (!peer)
        return NULL;
    copy_node(peer->node, node);
    peer->run = run;
    peer->heard = step->now;
    peer->interval = step->config.interval * MS;
    peer->lease = step->config.lease * MS;
    struct peer **end = &step->peers;
    while (*end)
        end = &(*end)->next;
    *end = peer;
    struct peer **bucket = bucket_of(step, node, run);
    peer->chain = *bucket;
    *bucket = peer;
    step->peer_count++;
    step->judge_due = 0;
    return peer;
}

void peer_forget(struct step *step, struct peer *peer)
{
    for (struct server *server = step->servers; server; server = server->next) {
        if (server->holder == peer)
            server->holder = NULL;
        if (server->source == peer)
            server->source = NULL;
        if (server->awaited_holder == peer)
            server->awaited_holder = NULL;
    }
    struct peer **link = &step->peers;
    while (*link != peer)
        link = &(*link)->next;
    *link = peer->next;
    for (link = bucket_of(step, peer->node, peer->run); *link != peer;)
        link = &(*link)->chain;
    *link = peer->chain;
    orphans_may_have_come(step);
    step->peer_count--;
    free(peer);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct server *)a)->name, ((const struct server *)b)->name);
}

struct server *server_find(struct step *step, const char *name)
{
    struct server wanted = {.name = (char *)(uintptr_t)name};
    void *found = tfind(&wanted, &step->server_tree, compare_names);
    return found ? *(struct server **)found : NULL;
}

struct server *server_find_or_add(struct step *step, const char *name)
{
    struct server *server = server_find(step, name);
    size_t length = strlen(name);
    presence_server_description ignored;
    if (server || length == 0 || length > 1024 || step->server_count >= step->config.most_servers)
        return server;
    if (presence_replica_describe(step->recorder, name, &ignored) == PRESENCE_E_INVALID)
        return NULL; /* the recorder would refuse it */
    server = calloc(1, sizeof *server);
    if (!server)
        return NULL;
    server->name = strdup(name);
    if (!server->name || !tsearch(server, &step->server_tree, compare_names)) {
        free(server->name);
        free(server);
        return NULL;
    }
    server->held_end = &server->held;
    server->previous = step->last_server;
    if (server->previous)
        server->previous->next = server;
    else
        step->servers = server;
    step->last_server = server;
    step->server_count++;
    return server;
}

void server_forget(struct step *step, struct server *server)
{
    server_set_role(step, server, NOBODYS, NULL);
    transfer_drop(step, server);
    intake_forget(server);
    follow_end_repair(step, server);
    held_drop(server);
    batch_free(server);
    transfer_forget(server);
    tdelete(server, &step->server_tree, compare_names);
    if (server->previous)
        server->previous->next = server->next;
    else
        step->servers = server->next;
    if (server->next)
        server->next->previous = server->previous;
    else
        step->last_server = server->previous;
    step->server_count--;
    step->pending -= server->stated_unclaimed;
    server_orphan(step, server, 0);
    free(server->name);
    free(server);
}

void server_set_role(struct step *step, struct server *server, enum role role, struct peer *holder)
{
    orphans_may_have_come(step);
    if (server->holder != holder) {
        if (server->holder)
            server->holder->servers--;
        if (holder)
            holder->servers++;
        server->holder = holder;
    }
    server->role = role;
}

void server_orphan(struct step *step, struct server *server, uint64_t when)
{
    orphans_may_have_come(step);
    step->orphans += (when != 0) - (size_t)(server->orphaned != 0);
    server->orphaned = when;
}

bool server_describe(struct step *step, const struct server *server, presence_server_description *description)
{
    if (presence_replica_describe(step->recorder, server->name, description) == PRESENCE_OK)
        return true;
    memset(description, 0, sizeof *description);
    return false;
}

bool server_holder_lives(const struct server *server)
{
    return server->role == THEIRS && server->holder && !server->holder->silent && server->orphaned == 0;
}

void describe_stand(const char *name, const presence_server_description *description, struct wire_stand *stand)
{
    *stand = (struct wire_stand){.server = name,
                                 .claim = description->claim,
                                 .number = description->number,
                                 .floor = description->floor,
                                 .connections = description->connections,
                                 .alive = description->alive,
                                 .digest = description->digest,
                                 .complete = description->complete,
                                 .forgotten = description->forgotten,
                                 .lapsed = description->lapsed,
                                 .holder = "",
                                 .inherited = description->inherited};
}
