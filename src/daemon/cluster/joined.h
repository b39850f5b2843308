/* SPDX-License-Identifier: Apache-2.0 */
/*
 * joined.h - the node among others: joined by <presence/cluster.h> where --nats is given, else alone.
 *
 * Everything here may be asked of a node that is alone too (node->cluster is NULL): it states all that it knows, is
 * ready, and its answers are fresh. So nobody else needs to know which it is, unless writing depends on it.
 *
 * Threads: any, but for starting and stopping, which are main's. A call waits for a turn of the cluster's thread at
 * most (microseconds), but for verify and explain, which wait for other nodes.
 */
#ifndef DAEMON_CLUSTER_JOINED_H
#define DAEMON_CLUSTER_JOINED_H

#include "node/node.h"

#include <presence/cluster.h>

/* What others are told of, on the cluster's thread. */
struct cluster_events {
    void *context;
    /* As in presence_cluster_config. */
    void (*superseded)(void *context, const char *server, const presence_claim *by, const char *node);
    void (*refused)(void *context, const char *why);
};

/* Whether --nats and what belongs to it go together, and its files can be read. False: `error`. For --check-config. */
bool cluster_check(const struct config *config, char *error, size_t error_bytes);
/* Joins, if --nats is given; sets node->cluster. After the state was read and node->name is set. */
bool cluster_start(struct node *node, const struct cluster_events *events, char *error, size_t error_bytes);
/* Leaves on purpose: all that this node states is drained everywhere, at once. From then on the node is alone, and what
 * it is told is told to nobody. Half a second at most. */
void cluster_leave(struct node *node);
/* The same, if it has not left; and frees. */
void cluster_free(struct node *node);

/* ------------------------------------------------------------------------------------------------------ claiming -- */

/* As presence_cluster_claim. Of a node in a cluster only. */
int cluster_claim(struct node *node, const char *server, bool has_epoch, uint64_t epoch);
/* For a session without an epoch: as cluster_claim, but STALE where another node that is heard states a life of the
 * server that has an epoch. */
int cluster_claim_life(struct node *node, const char *server);
/* A write to the server was STALE. Whether it may be tried once more: nobody is heard that states the server, and it
 * has been claimed. */
bool cluster_take_silent(struct node *node, const char *server);
/* Says in `text` why a write to the server is STALE, as far as the cluster knows; "" where it does not. */
enum { CLUSTER_WHY_BYTES = 256 };
void cluster_say_stale(struct node *node, const char *server, char text[CLUSTER_WHY_BYTES]);
/* As presence_cluster_forget. Of a node in a cluster only. */
int cluster_forget(struct node *node, const char *server);

/* ----------------------------------------------------------------------------------------------------- freshness -- */

/* Of a server, or of the whole view (NULL). */
void cluster_freshness(struct node *node, const char *server, presence_freshness *freshness);
/* Of what is told of an agent: fresh if a server that is fresh states it alive; else as stale as the most doubtful of
 * its servers, or as the whole view. O(its connections) in a cluster of which some server is not heard of, else
 * O(nodes). */
void cluster_freshness_of_agent(struct node *node, const char *model, const char *agent, presence_freshness *freshness);
bool cluster_is_ready(struct node *node);

/* ------------------------------------------------------------------------------------------------------- looking -- */

/* Counters since joining; zeros of a node that is alone. */
void cluster_counters(struct node *node, presence_cluster_counters *counters);
/* The other nodes, sorted by name, to be freed; NULL where there are none, or no memory. */
presence_peer *cluster_peers(struct node *node, size_t *count);
/* As presence_cluster_verify and presence_cluster_explain; NOT_FOUND of a node that is alone, or has left. They wait
 * for other nodes: not on a loop. */
int cluster_verify(struct node *node, uint32_t timeout_ms, void (*row)(void *context, const presence_stand *stand),
                   void *context, size_t *answered, size_t *asked);
int cluster_explain(struct node *node, const char *model, const char *agent, uint32_t timeout_ms,
                    void (*row)(void *context, const presence_testimony *testimony), void *context, size_t *answered,
                    size_t *asked);

#endif
