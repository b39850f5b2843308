/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alone.c - in place of joined.c where presenced is built without NATS: --nats is refused, and the node is alone.
 */
#include "cluster/joined.h"

#include <stdio.h>

bool cluster_check(const struct config *config, char *error, size_t error_bytes)
{
    if (*config->nats)
        snprintf(error, error_bytes, "--nats: this presenced was built without the cluster");
    return !*config->nats;
}

bool cluster_start(struct node *node, const struct cluster_events *events, char *error, size_t error_bytes)
{
    (void)events;
    return cluster_check(node->config, error, error_bytes);
}

void cluster_leave(struct node *node)
{
    (void)node;
}

void cluster_free(struct node *node)
{
    (void)node;
}

int cluster_claim(struct node *node, const char *server, bool has_epoch, uint64_t epoch)
{
    (void)node, (void)server, (void)has_epoch, (void)epoch;
    return PRESENCE_E_DISABLED;
}

int cluster_claim_life(struct node *node, const char *server)
{
    return cluster_claim(node, server, false, 0);
}

bool cluster_take_silent(struct node *node, const char *server)
{
    (void)node, (void)server;
    return false;
}

void cluster_say_stale(struct node *node, const char *server, char text[CLUSTER_WHY_BYTES])
{
    (void)node, (void)server;
    text[0] = 0;
}

int cluster_forget(struct node *node, const char *server)
{
    (void)node, (void)server;
    return PRESENCE_E_DISABLED;
}

void cluster_freshness(struct node *node, const char *server, presence_freshness *freshness)
{
    (void)server;
    *freshness = (presence_freshness){.doubt = PRESENCE_FRESH};
    snprintf(freshness->node, sizeof freshness->node, "%.*s", PRESENCE_NODE_BYTES - 1, node->name);
}

void cluster_freshness_of_agent(struct node *node, const char *model, const char *agent, presence_freshness *freshness)
{
    (void)model, (void)agent;
    cluster_freshness(node, NULL, freshness);
}

bool cluster_is_ready(struct node *node)
{
    (void)node;
    return true;
}

void cluster_counters(struct node *node, presence_cluster_counters *counters)
{
    (void)node;
    *counters = (presence_cluster_counters){.struct_bytes = sizeof *counters};
}

presence_peer *cluster_peers(struct node *node, size_t *count)
{
    (void)node;
    *count = 0;
    return NULL;
}

int cluster_verify(struct node *node, uint32_t timeout_ms, void (*row)(void *context, const presence_stand *stand),
                   void *context, size_t *answered, size_t *asked)
{
    (void)node, (void)timeout_ms, (void)row, (void)context;
    *answered = *asked = 0;
    return PRESENCE_E_NOT_FOUND;
}

int cluster_explain(struct node *node, const char *model, const char *agent, uint32_t timeout_ms,
                    void (*row)(void *context, const presence_testimony *testimony), void *context, size_t *answered,
                    size_t *asked)
{
    (void)node, (void)model, (void)agent, (void)timeout_ms, (void)row, (void)context;
    *answered = *asked = 0;
    return PRESENCE_E_NOT_FOUND;
}
