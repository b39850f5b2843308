/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_transport.c - what NATS itself costs by our transport (src/cluster/nats.c, without a step): the yardstick of
 * bench_table.py.
 *
 *   bench_transport URL
 *
 * One sender, two receivers. A line of JSON: how long a message of 200 bytes takes to one of them, and how many of
 * 200 bytes and of 16 KiB arrive at both in a second. All of it and the NATS server share the machine's processors.
 */
#include "cluster/nats.h"

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
    MESSAGES = 20000,
    SMALL_MESSAGES = 200000,
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_transport: %s: %s\n", what, why);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

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

static void time_messages(struct end *from, struct end *to, const unsigned char *bytes, size_t length)
{
    static uint64_t samples[SAMPLES];
    for (size_t i = 0; i < SAMPLES; i++) {
        uint64_t before = to->received, began = now_ns();
        from->output.broadcast(from->output.context, STEP_STREAM, bytes, length);
        wake(from);
        while (to->received == before)
            if (now_ns() - began > UINT64_C(2000000000))
                give_up("transport", "a message was lost");
            else
                usleep(10);
        samples[i] = to->last_at - began;
    }
    qsort(samples, SAMPLES, sizeof *samples, by_size);
    printf("{\"p50\": %llu, \"p99\": %llu, ", (unsigned long long)samples[SAMPLES / 2],
           (unsigned long long)samples[SAMPLES * 99 / 100]);
}

static bool has_all(const struct end *end, uint64_t before, uint64_t messages)
{
    if (end->received - before >= messages)
        return true;
    uint64_t last = end->last_at; /* before the clock: it goes on meanwhile */
    if (now_ns() > last + UINT64_C(5000000000))
        give_up("transport", "messages were lost");
    return false;
}

static double count_messages(struct end *from, struct end *to, const unsigned char *bytes, size_t length,
                             uint64_t messages)
{
    uint64_t before[2] = {to[0].received, to[1].received}, began = now_ns();
    for (size_t i = 0; i < messages; i++) {
        while (from->output.waiting(from->output.context) >= STEP_MOST_WAITING) {
            wake(from);
            usleep(50);
        }
        from->output.broadcast(from->output.context, STEP_STREAM, bytes, length);
    }
    while (!has_all(&to[0], before[0], messages) || !has_all(&to[1], before[1], messages)) {
        wake(from);
        usleep(100);
    }
    uint64_t last = to[0].last_at > to[1].last_at ? to[0].last_at : to[1].last_at;
    return (double)messages / ((double)(last - began) / 1e9);
}

/* By beats, until both others have heard one: then they listen to what it streams. */
static void be_heard(struct end *from, const struct end *to, const unsigned char *bytes, size_t length)
{
    for (int tries = 0; !to[0].received || !to[1].received; tries++) {
        if (tries == 100)
            give_up("transport", "no beat came through");
        from->output.broadcast(from->output.context, STEP_BEAT, bytes, length);
        wake(from);
        usleep(50000);
    }
    usleep(200000); /* the server has their subscriptions */
}

int main(int count, char **words)
{
    static struct end a, to[2];
    static unsigned char bytes[MESSAGE_BYTES];
    if (count != 2) {
        fprintf(stderr, "usage: bench_transport URL\n");
        return 2;
    }
    start_end(&a, words[1], "a");
    start_end(&to[0], words[1], "b");
    start_end(&to[1], words[1], "c");
    size_t length = make_message(bytes, 200, 'a');
    be_heard(&a, to, bytes, length);
    time_messages(&a, &to[0], bytes, length);
    usleep(100000); /* the other one has them all, too */
    printf("\"small_per_s\": %.0f, ", count_messages(&a, to, bytes, length, SMALL_MESSAGES));
    length = make_message(bytes, MESSAGE_BYTES, 'a');
    printf("\"messages_per_s\": %.0f}\n", count_messages(&a, to, bytes, length, MESSAGES));
    stop_end(&a);
    stop_end(&to[0]);
    stop_end(&to[1]);
    return 0;
}
