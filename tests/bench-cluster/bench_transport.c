/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_cluster.c - what a cluster costs on the way: two nodes in one process, at a NATS server that is running.
 *
 *   bench_cluster URL        scripts/bench-cluster starts a server for it
 *
 *   transport    nats.c alone, without a step: how fast messages of 16 KiB go through, and how long one takes
 *   change       from presence_recorder_connect on one node until the other's recorder tells a watch of it
 *   changes      connects on one node as fast as it can, until the other node holds them all
 *   state        a whole list, until the other node holds it
 *
 * Both nodes, the NATS server and this program share the machine's processors.
 */
#include "cluster/nats.h"

#include <presence/cluster.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    SAMPLES = 5000,
    MESSAGE_BYTES = 16 * 1024,
    MESSAGES = 100000,
    CHANGES = 200000,
    LIST = 1000000,
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_cluster: %s: %s\n", what, why);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void report_latency(const char *what, uint64_t *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, by_size);
    printf("%-34s p50 %7.1f us   p99 %7.1f us   most %8.1f us\n", what, (double)samples[count / 2] / 1e3,
           (double)samples[count * 99 / 100] / 1e3, (double)samples[count - 1] / 1e3);
}

/* ------------------------------------------------------------------------------------------- the transport alone -- */

struct end {
    struct nats_transport *transport;
    struct step_output output;
    int wake;
    pthread_t thread;
    _Atomic bool up, stop;
    _Atomic uint64_t received, last_at;
};

static void wake(struct end *end)
{
    uint64_t one = 1;
    if (write(end->wake, &one, sizeof one) != sizeof one)
        give_up("wake", "an eventfd is full");
}

static void *drive(void *argument)
{
    struct end *end = argument;
    while (!end->stop) {
        struct pollfd descriptors[2] = {{.fd = end->wake, .events = POLLIN}};
        uint64_t now = now_ns(), due = nats_transport_poll(end->transport, now, &descriptors[1]);
        uint64_t wait = due > now ? (due - now) / 1000000 + 1 : 0;
        poll(descriptors, 2, wait > 100 ? 100 : (int)wait);
        uint64_t count;
        if (descriptors[0].revents && read(end->wake, &count, sizeof count) < 0)
            give_up("read", "an eventfd");
        bool up;
        nats_transport_read(end->transport, now_ns(), descriptors[1].revents != 0, &up);
        end->up = up;
        size_t length;
        while (nats_transport_next(end->transport, &length)) {
            end->last_at = now_ns();
            end->received++;
        }
        nats_transport_write(end->transport, now_ns());
    }
    return NULL;
}

static void start_end(struct end *end, const char *url, const char *node)
{
    presence_error error = {0};
    end->wake = eventfd(0, EFD_NONBLOCK);
    struct nats_config config = {.cluster = "bench", .node = node, .link = {.urls = url}, .lease_ms = 60000};
    end->transport = nats_transport_new(&config, end->wake, &error);
    if (!end->transport)
        give_up("transport", error.message);
    nats_transport_output(end->transport, &end->output);
    pthread_create(&end->thread, NULL, drive, end);
    for (int i = 0; i < 5000 && !end->up; i++)
        usleep(1000);
    if (!end->up)
        give_up("connect", url);
}

static void stop_end(struct end *end)
{
    end->stop = true;
    wake(end);
    pthread_join(end->thread, NULL);
    nats_transport_free(end->transport);
    close(end->wake);
}

/* An envelope with a body of a kind that nobody knows. */
static size_t make_message(unsigned char *bytes, size_t length, char node)
{
    size_t at = 0, body = length - 9;
    bytes[at++] = 2 << 3 | 2;
    bytes[at++] = 1;
    bytes[at++] = (unsigned char)node;
    bytes[at++] = 0xa2; /* field 100, bytes */
    bytes[at++] = 0x06;
    bytes[at++] = (unsigned char)(0x80 | (body & 0x7f));
    bytes[at++] = (unsigned char)(0x80 | (body >> 7 & 0x7f));
    bytes[at++] = (unsigned char)(body >> 14);
    memset(bytes + at, 'x', body);
    return at + body;
}

static void bench_transport(const char *url)
{
    static struct end a, b;
    static uint64_t samples[SAMPLES];
    static unsigned char bytes[MESSAGE_BYTES];
    start_end(&a, url, "a");
    start_end(&b, url, "b");
    size_t length = make_message(bytes, 200, 'a');
    a.output.broadcast(a.output.context, STEP_BEAT, bytes, length); /* so that b listens to a */
    wake(&a);
    usleep(200000);
    for (size_t i = 0; i < SAMPLES; i++) {
        uint64_t before = b.received, began = now_ns();
        a.output.broadcast(a.output.context, STEP_STREAM, bytes, length);
        wake(&a);
        while (b.received == before)
            if (now_ns() - began > UINT64_C(2000000000))
                give_up("transport", "a message was lost");
            else
                usleep(10);
        samples[i] = b.last_at - began;
    }
    report_latency("transport, 200 bytes", samples, SAMPLES);
    length = make_message(bytes, MESSAGE_BYTES, 'a');
    uint64_t before = b.received, began = now_ns();
    for (size_t i = 0; i < MESSAGES; i++) {
        while (a.output.waiting(a.output.context) >= STEP_MOST_WAITING) {
            wake(&a);
            usleep(50);
        }
        a.output.broadcast(a.output.context, STEP_STREAM, bytes, length);
    }
    while (b.received - before < MESSAGES && now_ns() - b.last_at < UINT64_C(5000000000)) {
        wake(&a);
        usleep(100);
    }
    if (b.received - before < MESSAGES)
        give_up("transport", "messages were lost");
    double seconds = (double)(b.last_at - began) / 1e9;
    printf("%-34s %.0f messages/s, %.0f MiB/s\n", "transport, 16 KiB", MESSAGES / seconds,
           MESSAGES / seconds * MESSAGE_BYTES / 1048576);
    stop_end(&a);
    stop_end(&b);
}

/* ----------------------------------------------------------------------------------------------------- two nodes -- */

struct node {
    presence_recorder *recorder;
    presence_cluster *cluster;
};

static void join(struct node *node, const char *url, const char *name)
{
    presence_options options;
    presence_options_init(&options);
    options.history_bytes = 64 << 20;
    node->recorder = presence_recorder_new_with(&options, NULL);
    presence_recorder_enable(node->recorder);
    presence_cluster_config config;
    presence_cluster_config_init(&config);
    config.node = name;
    config.cluster = "bench-nodes";
    config.urls = url;
    presence_error error = {0};
    node->cluster = presence_cluster_join(node->recorder, &config, &error);
    if (!node->cluster || presence_cluster_wait(node->cluster, 20000, &error) != PRESENCE_OK)
        give_up(name, error.message);
}

static void connect_one(struct node *node, uint64_t id)
{
    char agent[32];
    snprintf(agent, sizeof agent, "machine-%llu", (unsigned long long)id);
    if (presence_recorder_connect(node->recorder, "s1", "model", agent, id, false, "") != PRESENCE_OK)
        give_up("connect", agent);
}

static void await_count(struct node *node, const char *server, size_t count)
{
    presence_counts counts = {0};
    for (int i = 0; i < 60000 && counts.connections != count; i++) {
        usleep(500);
        presence_recorder_server_counts(node->recorder, server, &counts);
    }
    if (counts.connections != count)
        give_up("wait", "the other node does not hold all after 30 s");
}

static void bench_change(struct node *a, struct node *b)
{
    static uint64_t samples[SAMPLES];
    presence_watch *watch;
    presence_event event;
    connect_one(a, 1);
    await_count(b, "s1", 1);
    usleep(1000000);
    if (presence_watch_open(b->recorder, NULL, &watch, NULL) != PRESENCE_OK)
        give_up("watch", "cannot be opened");
    struct pollfd descriptor = {.fd = presence_watch_fd(watch), .events = POLLIN};
    for (size_t i = 0; i < SAMPLES; i++) {
        uint64_t began = now_ns();
        connect_one(a, i + 2);
        while (presence_watch_next(watch, &event) != 1)
            if (poll(&descriptor, 1, 5000) == 0)
                give_up("watch", "a change was lost");
        samples[i] = now_ns() - began;
    }
    report_latency("change, recorder to recorder", samples, SAMPLES);
    presence_watch_free(watch);
}

static void bench_changes(struct node *a, struct node *b)
{
    uint64_t began = now_ns();
    for (uint64_t i = 0; i < CHANGES; i++)
        connect_one(a, SAMPLES + 2 + i);
    double stated = (double)(now_ns() - began) / 1e9;
    await_count(b, "s1", SAMPLES + 1 + CHANGES);
    double held = (double)(now_ns() - began) / 1e9;
    presence_cluster_counters counters = {.struct_bytes = sizeof counters};
    presence_cluster_stats(b->cluster, &counters);
    printf("%-34s %.0f stated/s, %.0f held/s (%llu gaps, %llu states)\n", "changes", CHANGES / stated, CHANGES / held,
           (unsigned long long)counters.gaps, (unsigned long long)counters.states_taken);
}

static void bench_state(struct node *a, struct node *b)
{
    presence_value *values = calloc(LIST, sizeof *values);
    char(*names)[16] = calloc(LIST, sizeof *names);
    for (size_t i = 0; i < LIST; i++) {
        snprintf(names[i], sizeof names[i], "m-%zu", i);
        values[i] = (presence_value){
            .model = "model", .server = "s2", .agent = names[i], .user_data = "", .connection_id = i + 1};
    }
    uint64_t began = now_ns();
    if (presence_recorder_update_server(a->recorder, "s2", values, LIST, NULL) != PRESENCE_OK)
        give_up("update_server", "failed");
    double stated = (double)(now_ns() - began) / 1e9;
    await_count(b, "s2", LIST);
    printf("%-34s stated in %.2f s, held after %.2f s\n", "state of 1,000,000", stated,
           (double)(now_ns() - began) / 1e9);
    free(values);
    free(names);
}

int main(int count, char **words)
{
    if (count != 2) {
        fprintf(stderr, "usage: bench_cluster URL\n");
        return 2;
    }
    bench_transport(words[1]);
    struct node a, b;
    join(&a, words[1], "a");
    join(&b, words[1], "b");
    bench_change(&a, &b);
    bench_changes(&a, &b);
    bench_state(&a, &b);
    presence_cluster_counters counters = {.struct_bytes = sizeof counters};
    presence_cluster_stats(b.cluster, &counters);
    printf("%-34s lapses %llu, losses %llu\n", "meanwhile", (unsigned long long)counters.lapses,
           (unsigned long long)counters.losses);
    presence_cluster_leave(a.cluster);
    presence_cluster_leave(b.cluster);
    presence_recorder_free(a.recorder);
    presence_recorder_free(b.recorder);
    return 0;
}
