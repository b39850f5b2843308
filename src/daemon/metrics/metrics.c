/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.c - the table of metrics, and Prometheus' text out of it.
 *
 * Keeps true: every metric has a HELP and a TYPE, and each appears once; counters never go back while the process
 * lives. Numbers are read one after the other, not in one instant. Any thread; O(servers).
 */
#include "metrics/metrics.h"

#include "access/access.h"
#include "cluster/joined.h"
#include "worker/worker.h"
#include "sessions/sessions.h"
#include "state/state.h"
#include "watches/listings.h"

#include <presence/presence.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What a gauge is read from: gathered once for all of them. */
struct numbers {
    const struct node *node;
    presence_stats stats;
    presence_counts counts;
    struct state_facts state;
    presence_cluster_counters cluster;
    presence_freshness freshness;
    size_t peers, silent_peers;
    presence_time now;
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };

struct metric {
    const char *name, *help;
    enum metric_kind kind;
    size_t offset; /* of a counter in struct counters, if `read` is NULL */
    double (*read)(const struct numbers *numbers);
    size_t cluster_offset; /* of a counter in presence_cluster_counters, which no metric has at 0; 0: none */
};

#define LOOP_COUNTER(field) METRIC_COUNTER, offsetof(struct counters, field), NULL
#define GAUGE(function) METRIC_GAUGE, 0, function

static double read_clients(const struct numbers *numbers)
{
    return (double)atomic_load(&numbers->node->clients);
}

static double read_max_clients(const struct numbers *numbers)
{
    return (double)numbers->node->config->max_clients;
}

static double read_watchers(const struct numbers *numbers)
{
    return (double)atomic_load(&numbers->node->watchers);
}

static double read_listings(const struct numbers *numbers)
{
    return (double)listings_count(numbers->node->listings);
}

static double read_long_commands(const struct numbers *numbers)
{
    return (double)worker_count(numbers->node);
}

static double read_sessions(const struct numbers *numbers)
{
    return (double)sessions_count((struct node *)(uintptr_t)numbers->node);
}

static double read_list_bytes(const struct numbers *numbers)
{
    return (double)gathering_bytes((struct node *)(uintptr_t)numbers->node);
}

static double read_state_writes(const struct numbers *numbers)
{
    return (double)numbers->state.writes;
}

static double read_state_failures(const struct numbers *numbers)
{
    return (double)numbers->state.failures;
}

static double read_state_written(const struct numbers *numbers)
{
    return (double)numbers->state.written / 1e9;
}

static double read_state_duration(const struct numbers *numbers)
{
    return (double)numbers->state.duration_ms / 1e3;
}

static double read_state_bytes(const struct numbers *numbers)
{
    return (double)numbers->state.bytes;
}

static double read_failures(const struct numbers *numbers)
{
    return (double)access_failures(numbers->node->access);
}

static double read_tokens(const struct numbers *numbers)
{
    return (double)access_token_count(numbers->node->access);
}

static double read_threads(const struct numbers *numbers)
{
    return (double)numbers->node->loops->count;
}

static double read_started(const struct numbers *numbers)
{
    return (double)numbers->node->started / 1e9;
}

static double read_enabled(const struct numbers *numbers)
{
    return presence_recorder_is_enabled(numbers->node->recorder);
}

static double read_revision(const struct numbers *numbers)
{
    return (double)numbers->stats.revision;
}

static double read_alive(const struct numbers *numbers)
{
    return (double)numbers->counts.alive;
}

static double read_missing(const struct numbers *numbers)
{
    return (double)numbers->counts.missing;
}

static double read_models(const struct numbers *numbers)
{
    return (double)numbers->stats.models;
}

static double read_servers(const struct numbers *numbers)
{
    return (double)numbers->stats.servers;
}

static double read_agents(const struct numbers *numbers)
{
    return (double)numbers->stats.agents;
}

static double read_left_agents(const struct numbers *numbers)
{
    return (double)numbers->stats.left_agents;
}

static double read_name_bytes(const struct numbers *numbers)
{
    return (double)numbers->stats.name_bytes;
}

static double read_data_bytes(const struct numbers *numbers)
{
    return (double)numbers->stats.data_bytes;
}

static double read_allocated_bytes(const struct numbers *numbers)
{
    return (double)numbers->stats.allocated_bytes;
}

static double read_used_bytes(const struct numbers *numbers)
{
    return (double)numbers->stats.used_bytes;
}

static double read_retained_bytes(const struct numbers *numbers)
{
    return (double)numbers->stats.retained_bytes;
}

static double read_views(const struct numbers *numbers)
{
    return (double)numbers->stats.snapshots;
}

static double read_oldest_view(const struct numbers *numbers)
{
    presence_time taken = numbers->stats.oldest_snapshot;
    return taken > 0 && taken < numbers->now ? (double)(numbers->now - taken) / 1e9 : 0;
}

static double read_history_bytes(const struct numbers *numbers)
{
    return (double)numbers->stats.history_bytes;
}

/* The process's own, under the names that Prometheus' client libraries use. */
static double read_resident(const struct numbers *numbers)
{
    (void)numbers;
    char line[128] = "", *rest;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file && !fgets(line, sizeof line, file))
        line[0] = 0;
    if (file)
        fclose(file);
    strtoul(line, &rest, 10); /* all pages; the resident ones are next */
    return (double)strtoul(rest, NULL, 10) * (double)sysconf(_SC_PAGESIZE);
}

static double read_cpu(const struct numbers *numbers)
{
    (void)numbers;
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static double read_cluster_ready(const struct numbers *numbers)
{
    return cluster_is_ready((struct node *)(uintptr_t)numbers->node);
}

static double read_cluster_fresh(const struct numbers *numbers)
{
    return numbers->freshness.doubt == PRESENCE_FRESH;
}

static double read_cluster_stale_since(const struct numbers *numbers)
{
    return numbers->freshness.doubt == PRESENCE_FRESH ? 0 : (double)numbers->freshness.since / 1e9;
}

static double read_cluster_connected(const struct numbers *numbers)
{
    return numbers->cluster.connected;
}

static double read_peers(const struct numbers *numbers)
{
    return (double)numbers->peers;
}

static double read_silent_peers(const struct numbers *numbers)
{
    return (double)numbers->silent_peers;
}

static const struct metric metrics[] = {
    {"presenced_commands_total", "Commands run, RESP and HTTP.", LOOP_COUNTER(commands)},
    {"presenced_error_replies_total", "Commands that were answered by an error.", LOOP_COUNTER(errors)},
    {"presenced_protocol_errors_total", "Clients cut off for what is not RESP, or larger than the limits.",
     LOOP_COUNTER(protocol_errors)},
    {"presenced_clients_total", "Clients that were let in.", LOOP_COUNTER(accepted)},
    {"presenced_refused_clients_total", "Clients turned away at max-clients.", LOOP_COUNTER(refused)},
    {"presenced_cut_off_output_total", "Clients cut off because they read too slowly.", LOOP_COUNTER(cut_off_output)},
    {"presenced_cut_off_idle_total", "Clients cut off for saying nothing, or half a request, for too long.",
     LOOP_COUNTER(cut_off_idle)},
    {"presenced_cut_off_reports_total", "Clients cut off because they read a report for longer than report-timeout.",
     LOOP_COUNTER(cut_off_reports)},
    {"presenced_limited_commands_total",
     "Commands refused at a limit: names, connections, watchers, lists, long commands, memory.", LOOP_COUNTER(limited)},
    {"presenced_received_bytes_total", "Bytes received from clients.", LOOP_COUNTER(bytes_in)},
    {"presenced_sent_bytes_total", "Bytes sent to clients.", LOOP_COUNTER(bytes_out)},
    {"presenced_failed_authentications_total", "Tokens that were not good, or not looked at after many bad ones.",
     METRIC_COUNTER, 0, read_failures},
    {"presenced_clients", "Clients connected now.", GAUGE(read_clients)},
    {"presenced_max_clients", "The limit on clients.", GAUGE(read_max_clients)},
    {"presenced_watchers", "Clients with a watch now.", GAUGE(read_watchers)},
    {"presenced_listings", "Lists kept for their next page.", GAUGE(read_listings)},
    {"presenced_long_commands", "Long commands that wait for their turn, or run.", GAUGE(read_long_commands)},
    {"presenced_sessions", "Servers that a session holds, or that wait for their gateway.", GAUGE(read_sessions)},
    {"presenced_list_bytes", "Memory of lists that clients are sending in parts.", GAUGE(read_list_bytes)},
    {"presenced_state_writes_total", "State files written.", METRIC_COUNTER, 0, read_state_writes},
    {"presenced_state_write_failures_total", "State files that could not be written: disk full, say.", METRIC_COUNTER,
     0, read_state_failures},
    {"presenced_state_written_time_seconds", "When the last one was written, since the Unix epoch; 0: none was.",
     GAUGE(read_state_written)},
    {"presenced_state_write_seconds", "How long that took.", GAUGE(read_state_duration)},
    {"presenced_state_bytes", "How large it is.", GAUGE(read_state_bytes)},
    {"presenced_tokens", "Tokens in use; 0: everybody is let in.", GAUGE(read_tokens)},
    {"presenced_threads", "Event loops.", GAUGE(read_threads)},
    {"presenced_start_time_seconds", "When this presenced started, since the Unix epoch.", GAUGE(read_started)},
    {"presenced_enabled", "Whether it records: 1 or 0.", GAUGE(read_enabled)},
    {"presenced_revision", "The record's revision: one more for each change.", GAUGE(read_revision)},
    {"presenced_connections_alive", "Connections recorded as alive.", GAUGE(read_alive)},
    {"presenced_connections_missing", "Connections whose server has gone away and not come back.", GAUGE(read_missing)},
    {"presenced_models", "Models recorded.", GAUGE(read_models)},
    {"presenced_servers", "Servers recorded.", GAUGE(read_servers)},
    {"presenced_agents", "Agents recorded, counted in each model.", GAUGE(read_agents)},
    {"presenced_left_agents", "Agents that left and are remembered.", GAUGE(read_left_agents)},
    {"presenced_name_bytes", "Bytes of distinct names.", GAUGE(read_name_bytes)},
    {"presenced_data_bytes", "Bytes of user data.", GAUGE(read_data_bytes)},
    {"presenced_record_allocated_bytes", "Memory that the record has taken.", GAUGE(read_allocated_bytes)},
    {"presenced_record_used_bytes", "Memory of the record that is in use.", GAUGE(read_used_bytes)},
    {"presenced_record_retained_bytes", "Memory held only for views.", GAUGE(read_retained_bytes)},
    {"presenced_views", "Versions of the record that listings and reports hold.", GAUGE(read_views)},
    {"presenced_oldest_view_age_seconds", "Age of the oldest of them.", GAUGE(read_oldest_view)},
    {"presenced_history_bytes", "Memory of the changes kept for watches.", GAUGE(read_history_bytes)},
    {"process_resident_memory_bytes", "Resident memory of the process.", GAUGE(read_resident)},
    {"process_cpu_seconds_total", "Processor time used by the process.", METRIC_COUNTER, 0, read_cpu},
};

#define OF_CLUSTER(kind, field) kind, 0, NULL, offsetof(presence_cluster_counters, field)

/* Told by a node of a cluster only. */
static const struct metric cluster_metrics[] = {
    {"presenced_cluster_ready", "Whether it has listened for a lease and holds what it heard of: 1 or 0.",
     GAUGE(read_cluster_ready)},
    {"presenced_cluster_fresh", "Whether its view as a whole is fresh: 1, or stale: 0.", GAUGE(read_cluster_fresh)},
    {"presenced_cluster_stale_since_seconds", "Since when it is stale, since the Unix epoch; 0: it is fresh.",
     GAUGE(read_cluster_stale_since)},
    {"presenced_cluster_connected", "Whether it has a connection to NATS: 1 or 0.", GAUGE(read_cluster_connected)},
    {"presenced_cluster_peers", "Other nodes that it knows of, silent ones too.", GAUGE(read_peers)},
    {"presenced_cluster_silent_peers", "Of them, those not heard for their lease.", GAUGE(read_silent_peers)},
    {"presenced_cluster_waiting_bytes", "To be sent to NATS.", OF_CLUSTER(METRIC_GAUGE, waiting_bytes)},
    {"presenced_cluster_losses_total", "Connections to NATS that were lost.", OF_CLUSTER(METRIC_COUNTER, losses)},
    {"presenced_cluster_failures_total", "Connections to NATS that could not be made.",
     OF_CLUSTER(METRIC_COUNTER, failures)},
    {"presenced_cluster_complaints_total", "Errors that NATS answered, such as a right that is not given.",
     OF_CLUSTER(METRIC_COUNTER, complaints)},
    {"presenced_cluster_sent_bytes_total", "Bytes of messages to other nodes.", OF_CLUSTER(METRIC_COUNTER, bytes_sent)},
    {"presenced_cluster_received_bytes_total", "Bytes of messages from nodes.",
     OF_CLUSTER(METRIC_COUNTER, bytes_received)},
    {"presenced_cluster_dropped_messages_total", "Messages that could not be sent; repaired later.",
     OF_CLUSTER(METRIC_COUNTER, messages_dropped)},
    {"presenced_cluster_bad_messages_total", "Messages that were malformed.",
     OF_CLUSTER(METRIC_COUNTER, messages_malformed)},
    {"presenced_cluster_forged_messages_total", "Messages that named another node than their subject; ignored.",
     OF_CLUSTER(METRIC_COUNTER, messages_forged)},
    {"presenced_cluster_beats_heard_total", "Beats of other nodes.", OF_CLUSTER(METRIC_COUNTER, beats_heard)},
    {"presenced_cluster_changes_sent_total", "Changes told to other nodes.", OF_CLUSTER(METRIC_COUNTER, changes_sent)},
    {"presenced_cluster_changes_applied_total", "Changes of other nodes that were recorded.",
     OF_CLUSTER(METRIC_COUNTER, changes_applied)},
    {"presenced_cluster_states_sent_total", "Whole states of servers sent.", OF_CLUSTER(METRIC_COUNTER, states_sent)},
    {"presenced_cluster_states_taken_total", "Whole states of servers taken.",
     OF_CLUSTER(METRIC_COUNTER, states_taken)},
    {"presenced_cluster_gaps_total", "Times that changes were missed; repaired.", OF_CLUSTER(METRIC_COUNTER, gaps)},
    {"presenced_cluster_refused_total", "What was not taken, at a limit.", OF_CLUSTER(METRIC_COUNTER, refused)},
    {"presenced_cluster_digest_differences_total",
     "The same number with another digest: a bug or corruption; repaired.",
     OF_CLUSTER(METRIC_COUNTER, digest_differences)},
    {"presenced_cluster_yielded_total", "Servers that another node claimed from this one.",
     OF_CLUSTER(METRIC_COUNTER, yielded)},
    {"presenced_cluster_lapses_total", "Servers whose node fell silent.", OF_CLUSTER(METRIC_COUNTER, lapses)},
    {"presenced_cluster_restores_total", "Of them, those whose node was heard again.",
     OF_CLUSTER(METRIC_COUNTER, restores)},
};

static double value_of(const struct metric *metric, const struct numbers *numbers)
{
    if (metric->cluster_offset) {
        uint64_t count;
        memcpy(&count, (const char *)&numbers->cluster + metric->cluster_offset, sizeof count);
        return (double)count;
    }
    return metric->read ? metric->read(numbers) : (double)node_counter(numbers->node, metric->offset);
}

static void write_metrics(const struct metric *table, size_t count, const struct numbers *numbers, struct bytes *out)
{
    char text[512];
    for (const struct metric *metric = table; metric < table + count; metric++) {
        int length = snprintf(text, sizeof text, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", metric->name, metric->help,
                              metric->name, metric->kind == METRIC_COUNTER ? "counter" : "gauge", metric->name,
                              value_of(metric, numbers));
        bytes_append(out, text, (size_t)length);
    }
}

static void gather_cluster(struct node *node, struct numbers *numbers)
{
    presence_peer *peers = cluster_peers(node, &numbers->peers);
    for (size_t i = 0; i < numbers->peers; i++)
        numbers->silent_peers += peers[i].silent;
    free(peers);
    cluster_counters(node, &numbers->cluster);
    cluster_freshness(node, NULL, &numbers->freshness);
}

bool metrics_write(const struct node *node, struct bytes *out)
{
    struct numbers numbers = {.node = node, .stats.struct_bytes = sizeof numbers.stats};
    struct timespec now;
    char text[512];
    clock_gettime(CLOCK_REALTIME, &now);
    numbers.now = (presence_time)now.tv_sec * 1000000000 + now.tv_nsec;
    state_describe(node, &numbers.state);
    /* A disabled recorder has nothing to count: zeros are the truth then. */
    if (presence_recorder_counts(node->recorder, &numbers.counts) != PRESENCE_OK)
        numbers.counts = (presence_counts){0};
    if (presence_recorder_stats(node->recorder, &numbers.stats) != PRESENCE_OK)
        numbers.stats = (presence_stats){0};
    int length = snprintf(text, sizeof text,
                          "# HELP presenced_info The version that is running.\n# TYPE presenced_info gauge\n"
                          "presenced_info{version=\"%s\"} 1\n",
                          presence_version());
    bytes_append(out, text, (size_t)length);
    write_metrics(metrics, sizeof metrics / sizeof *metrics, &numbers, out);
    if (node->cluster) {
        gather_cluster((struct node *)(uintptr_t)node, &numbers);
        write_metrics(cluster_metrics, sizeof cluster_metrics / sizeof *cluster_metrics, &numbers, out);
    }
    return !out->failed;
}
