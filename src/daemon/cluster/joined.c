/* SPDX-License-Identifier: Apache-2.0 */
/*
 * joined.c - joining, leaving, and every call that goes to the cluster.
 *
 * Keeps true: no call is under way when the cluster is left. Calls hold a lock for reading while they are in it;
 * leaving takes the cluster away under the lock, and then leaves without it, since callbacks of the cluster's thread
 * come through here too.
 *
 * Costs are those of <presence/cluster.h>, and a read lock.
 */
#include "cluster/joined.h"

#include "base/log.h"
#include "cluster/settings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cluster {
    pthread_rwlock_t lock;
    presence_cluster *joined; /* NULL: it has left */
    struct cluster_events events;
    char name[NODE_NAME_BYTES];
};

/* What is joined, with the lock held for reading until let_go; NULL: nothing is, and nothing is held. */
static presence_cluster *hold(struct node *node)
{
    struct cluster *cluster = node->cluster;
    if (!cluster)
        return NULL;
    pthread_rwlock_rdlock(&cluster->lock);
    if (cluster->joined)
        return cluster->joined;
    pthread_rwlock_unlock(&cluster->lock);
    return NULL;
}

static void let_go(struct node *node)
{
    pthread_rwlock_unlock(&node->cluster->lock);
}

/* ------------------------------------------------------------------------------------------- joining and leaving -- */

static void on_log(void *context, presence_cluster_level level, const char *event, const char *text)
{
    (void)context;
    enum log_level levels[] = {[PRESENCE_CLUSTER_DEBUG] = LOG_LEVEL_DEBUG,
                               [PRESENCE_CLUSTER_INFO] = LOG_LEVEL_INFO,
                               [PRESENCE_CLUSTER_WARNING] = LOG_LEVEL_WARNING};
    log_event(levels[level], "cluster", "what", event, "text", text, NULL);
}

static void on_superseded(void *context, const char *server, const presence_claim *by, const char *node)
{
    const struct cluster *cluster = context;
    cluster->events.superseded(cluster->events.context, server, by, node);
}

static void on_refused(void *context, const presence_error *why)
{
    const struct cluster *cluster = context;
    cluster->events.refused(cluster->events.context, why->message);
}

bool cluster_start(struct node *node, const struct cluster_events *events, char *error, size_t error_bytes)
{
    struct settings settings;
    presence_error problem = {0};
    if (!*node->config->nats)
        return true;
    if (!settings_read(&settings, node->config, error, error_bytes))
        return false;
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster) {
        snprintf(error, error_bytes, "out of memory");
        return false;
    }
    pthread_rwlock_init(&cluster->lock, NULL);
    cluster->events = *events;
    settings.config.context = cluster;
    settings.config.log = on_log;
    settings.config.superseded = on_superseded;
    settings.config.refused = on_refused;
    pthread_rwlock_wrlock(&cluster->lock); /* callbacks may come before join has returned */
    node->cluster = cluster;
    cluster->joined = presence_cluster_join(node->recorder, &settings.config, &problem);
    pthread_rwlock_unlock(&cluster->lock);
    settings_wipe(&settings);
    if (cluster->joined)
        return true;
    snprintf(error, error_bytes, "--nats: %s", problem.message);
    cluster_free(node);
    return false;
}

void cluster_leave(struct node *node)
{
    struct cluster *cluster = node->cluster;
    if (!cluster)
        return;
    pthread_rwlock_wrlock(&cluster->lock);
    presence_cluster *joined = cluster->joined;
    cluster->joined = NULL;
    pthread_rwlock_unlock(&cluster->lock);
    presence_cluster_leave(joined);
}

void cluster_free(struct node *node)
{
    struct cluster *cluster = node->cluster;
    if (!cluster)
        return;
    cluster_leave(node);
    node->cluster = NULL;
    pthread_rwlock_destroy(&cluster->lock);
    free(cluster);
}

/* ------------------------------------------------------------------------------------------------------ claiming -- */

int cluster_claim(struct node *node, const char *server, bool has_epoch, uint64_t epoch)
{
    presence_cluster *joined = hold(node);
    if (!joined)
        return PRESENCE_E_DISABLED;
    int code = presence_cluster_claim(joined, server, has_epoch, epoch);
    let_go(node);
    return code;
}

int cluster_claim_life(struct node *node, const char *server)
{
    presence_freshness freshness;
    presence_server_description known;
    bool has_epoch = presence_replica_describe(node->recorder, server, &known) == PRESENCE_OK && !known.local &&
                     known.claim.epoch > 0;
    cluster_freshness(node, server, &freshness);
    if (has_epoch && freshness.doubt != PRESENCE_STALE_SILENT)
        return PRESENCE_E_STALE;
    return cluster_claim(node, server, false, 0);
}

bool cluster_take_silent(struct node *node, const char *server)
{
    presence_freshness all, one;
    if (!node->cluster || !server)
        return false;
    /* Where this node is deaf, or most fell silent at once, nobody can be called gone. */
    cluster_freshness(node, NULL, &all);
    cluster_freshness(node, server, &one);
    return all.doubt == PRESENCE_FRESH && one.doubt == PRESENCE_STALE_SILENT &&
           cluster_claim(node, server, false, 0) == PRESENCE_OK;
}

void cluster_say_stale(struct node *node, const char *server, char text[CLUSTER_WHY_BYTES])
{
    presence_freshness freshness;
    presence_server_description known;
    text[0] = 0;
    if (!node->cluster || !server || presence_replica_describe(node->recorder, server, &known) != PRESENCE_OK ||
        known.local)
        return;
    cluster_freshness(node, server, &freshness);
    if (!cluster_is_ready(node))
        snprintf(text, CLUSTER_WHY_BYTES,
                 "this node is joining the cluster, and does not know yet who states the server%s%s",
                 *freshness.node ? "; as far as it knows, node " : "", freshness.node);
    else if (*freshness.node && freshness.doubt != PRESENCE_STALE_SILENT)
        snprintf(text, CLUSTER_WHY_BYTES,
                 "node %s states the server; who has moved here says so by PRESENCE.SESSION, with the server's epoch",
                 freshness.node);
    else
        snprintf(text, CLUSTER_WHY_BYTES,
                 "another node stated the server, and this one cannot tell now whether that is gone");
}

int cluster_forget(struct node *node, const char *server)
{
    presence_cluster *joined = hold(node);
    if (!joined)
        return PRESENCE_E_DISABLED;
    int code = presence_cluster_forget(joined, server);
    let_go(node);
    return code;
}

/* ----------------------------------------------------------------------------------------------------- freshness -- */

void cluster_freshness(struct node *node, const char *server, presence_freshness *freshness)
{
    presence_cluster *joined = hold(node);
    *freshness = (presence_freshness){.doubt = PRESENCE_FRESH};
    if (joined) {
        presence_cluster_freshness(joined, server, freshness);
        let_go(node);
    } else if (!node->cluster) {
        snprintf(freshness->node, sizeof freshness->node, "%.*s", PRESENCE_NODE_BYTES - 1, node->name);
    }
}

/* Then no server need be looked at. */
static bool all_is_fresh(struct node *node)
{
    presence_cluster *joined = hold(node);
    if (!joined)
        return !node->cluster;
    bool fresh = presence_cluster_all_fresh(joined);
    let_go(node);
    return fresh;
}

static presence_connections *slice_of_agent(struct node *node, const char *model, const char *agent)
{
    presence_connections *all = presence_recorder_connections(node->recorder);
    presence_connections *in_model = all ? presence_connections_for_model(all, model) : NULL;
    presence_connections *slice = in_model ? presence_connections_for_agent(in_model, agent) : NULL;
    presence_connections_free(all);
    presence_connections_free(in_model);
    return slice;
}

void cluster_freshness_of_agent(struct node *node, const char *model, const char *agent, presence_freshness *freshness)
{
    presence_cursor cursor = {0};
    presence_value value;
    cluster_freshness(node, NULL, freshness);
    if (all_is_fresh(node))
        return;
    presence_connections *slice = node->cluster ? slice_of_agent(node, model, agent) : NULL;
    while (slice && presence_connections_next(slice, &cursor, &value)) {
        presence_freshness one;
        if (value.controller_agent)
            continue;
        cluster_freshness(node, value.server, &one);
        if (one.doubt == PRESENCE_FRESH && value.status == PRESENCE_ALIVE) {
            *freshness = one; /* what else there is cannot make it less alive */
            break;
        }
        if (one.doubt != PRESENCE_FRESH && freshness->doubt == PRESENCE_FRESH)
            *freshness = one;
    }
    presence_connections_free(slice);
}

bool cluster_is_ready(struct node *node)
{
    presence_cluster *joined = hold(node);
    if (!joined)
        return true;
    bool ready = presence_cluster_is_ready(joined);
    let_go(node);
    return ready;
}

/* ------------------------------------------------------------------------------------------------------- looking -- */

void cluster_counters(struct node *node, presence_cluster_counters *counters)
{
    *counters = (presence_cluster_counters){.struct_bytes = sizeof *counters};
    presence_cluster *joined = hold(node);
    if (!joined)
        return;
    presence_cluster_stats(joined, counters);
    let_go(node);
}

static int compare_peers(const void *left, const void *right)
{
    const presence_peer *a = left, *b = right;
    int order = strcmp(a->node, b->node);
    return order ? order : (a->run > b->run) - (a->run < b->run);
}

presence_peer *cluster_peers(struct node *node, size_t *count)
{
    presence_cluster *joined = hold(node);
    *count = 0;
    if (!joined)
        return NULL;
    size_t most = presence_cluster_peers(joined, NULL, 0);
    presence_peer *peers = most > 0 ? calloc(most, sizeof *peers) : NULL;
    if (peers) {
        size_t now = presence_cluster_peers(joined, peers, most);
        *count = now < most ? now : most;
        qsort(peers, *count, sizeof *peers, compare_peers);
    }
    let_go(node);
    return peers;
}

int cluster_verify(struct node *node, uint32_t timeout_ms, void (*row)(void *context, const presence_stand *stand),
                   void *context, size_t *answered, size_t *asked)
{
    presence_cluster *joined = hold(node);
    if (!joined)
        return PRESENCE_E_NOT_FOUND;
    int code = presence_cluster_verify(joined, timeout_ms, row, context, answered, asked);
    let_go(node);
    return code;
}

int cluster_explain(struct node *node, const char *model, const char *agent, uint32_t timeout_ms,
                    void (*row)(void *context, const presence_testimony *testimony), void *context, size_t *answered,
                    size_t *asked)
{
    presence_cluster *joined = hold(node);
    if (!joined)
        return PRESENCE_E_NOT_FOUND;
    int code = presence_cluster_explain(joined, model, agent, timeout_ms, row, context, answered, asked);
    let_go(node);
    return code;
}
