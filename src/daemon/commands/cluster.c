/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.c - CLUSTER: what this node knows of the others, and what it has done with them. O(nodes). Any loop's thread.
 */
#include "cluster/joined.h"

#include "commands/groups.h"

#include <stdlib.h>

/* The counters that are told, by the names of <presence/cluster.h>. */
static const struct {
    const char *name;
    size_t offset;
} told[] = {
#define TOLD(field)                                        \
    {                                                      \
#field, offsetof(presence_cluster_counters, field) \
    }
    TOLD(connects),
    TOLD(losses),
    TOLD(failures),
    TOLD(complaints),
    TOLD(messages_sent),
    TOLD(messages_received),
    TOLD(bytes_sent),
    TOLD(bytes_received),
    TOLD(messages_dropped),
    TOLD(bytes_dropped),
    TOLD(messages_forged),
    TOLD(messages_malformed),
    TOLD(messages_of_newer_version),
    TOLD(waiting_bytes),
    TOLD(beats_sent),
    TOLD(beats_heard),
    TOLD(changes_sent),
    TOLD(changes_applied),
    TOLD(activity_sent),
    TOLD(activity_applied),
    TOLD(states_sent),
    TOLD(states_taken),
    TOLD(gaps),
    TOLD(asks),
    TOLD(refused),
    TOLD(digest_differences),
    TOLD(yielded),
    TOLD(lapses),
    TOLD(restores),
#undef TOLD
};

static void say_peer(struct reply *reply, const presence_peer *peer)
{
    reply_map(reply, 6);
    reply_key(reply, "node");
    reply_string(reply, peer->node);
    reply_key(reply, "run");
    reply_id(reply, peer->run);
    reply_key(reply, "heard");
    reply_time(reply, peer->heard);
    reply_key(reply, "servers");
    reply_integer(reply, (int64_t)peer->servers);
    reply_key(reply, "silent");
    reply_boolean(reply, peer->silent);
    reply_key(reply, "joining");
    reply_boolean(reply, peer->joining);
}

static void say_counters(struct reply *reply, const presence_cluster_counters *counters)
{
    reply_map(reply, sizeof told / sizeof *told);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        uint64_t count;
        memcpy(&count, (const char *)counters + told[i].offset, sizeof count);
        reply_key(reply, told[i].name);
        reply_integer(reply, (int64_t)count);
    }
}

static void run_cluster(struct call *call)
{
    struct node *node = call->client->node;
    struct reply *reply = call->reply;
    presence_freshness freshness;
    presence_cluster_counters counters;
    size_t count = 0;
    presence_peer *peers = cluster_peers(node, &count);
    cluster_freshness(node, NULL, &freshness);
    cluster_counters(node, &counters);
    reply_map(reply, 6 + FRESHNESS_MEMBERS);
    reply_key(reply, "node");
    reply_string(reply, node->name);
    reply_key(reply, "cluster");
    if (node->cluster)
        reply_string(reply, node->config->cluster);
    else
        reply_null(reply);
    reply_key(reply, "ready");
    reply_boolean(reply, cluster_is_ready(node));
    reply_key(reply, "connected");
    reply_boolean(reply, counters.connected);
    reply_freshness(reply, &freshness);
    reply_key(reply, "peers");
    reply_array(reply, count);
    for (size_t i = 0; i < count; i++)
        say_peer(reply, &peers[i]);
    free(peers);
    reply_key(reply, "counters");
    say_counters(reply, &counters);
}

static const struct command commands[] = {
    {
        .name = "PRESENCE.CLUSTER",
        .flags = COMMAND_READ,
        .least_words = 1,
        .most_words = 1,
        .syntax = "",
        .summary = "This node in its cluster: whether it is ready and fresh, the other nodes, and counters.",
        .run = run_cluster,
    },
};

const struct command_group group_cluster = {commands, sizeof commands / sizeof *commands};
