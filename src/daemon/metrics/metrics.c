/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.c - the table of metrics, and Prometheus' text out of it.
 *
 * Keeps true: every metric has a HELP and a TYPE, and each appears once; counters never go back while the process
 * lives. Numbers are read one after the other, not in one instant. Any thread; O(servers).
 */
#include "metrics/metrics.h"

#include "access/access.h"
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
    presence_time now;
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };

struct metric {
    const char *name, *help;
    enum metric_kind kind;
    size_t offset; /* of a counter in struct counters, if `read` is NULL */
    double (*read)(const struct numbers *numbers);
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
    {"presenced_limited_commands_total", "Commands refused at a limit: names, connections, watchers, lists, memory.",
     LOOP_COUNTER(limited)},
    {"presenced_received_bytes_total", "Bytes received from clients.", LOOP_COUNTER(bytes_in)},
    {"presenced_sent_bytes_total", "Bytes sent to clients.", LOOP_COUNTER(bytes_out)},
    {"presenced_failed_authentications_total", "Tokens that were not good, or not looked at after many bad ones.",
     METRIC_COUNTER, 0, read_failures},
    {"presenced_clients", "Clients connected now.", GAUGE(read_clients)},
    {"presenced_max_clients", "The limit on clients.", GAUGE(read_max_clients)},
    {"presenced_watchers", "Clients with a watch now.", GAUGE(read_watchers)},
    {"presenced_listings", "Lists kept for their next page.", GAUGE(read_listings)},
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

static double value_of(const struct metric *metric, const struct numbers *numbers)
{
    return metric->read ? metric->read(numbers) : (double)node_counter(numbers->node, metric->offset);
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
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        length = snprintf(text, sizeof text, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", metrics[i].name, metrics[i].help,
                          metrics[i].name, metrics[i].kind == METRIC_COUNTER ? "counter" : "gauge", metrics[i].name,
                          value_of(&metrics[i], &numbers));
        bytes_append(out, text, (size_t)length);
    }
    return !out->failed;
}
