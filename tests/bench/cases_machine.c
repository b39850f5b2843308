/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cases_machine.c - what the machine itself takes, which no recorder can change: a dependent load by footprint; and the
 * single operations once more in a process of two threads, where the lock costs atomic instructions.
 *
 * Keeps true: the loads follow one cycle through all lines of the footprint in random order, so that each needs the
 * result of the one before and none is on its way already; the second thread sleeps from before the first round until
 * after the last. Called by bench_recorder.c; starts and joins one thread of its own.
 */
#include "cases.h"

#include <pthread.h>
#include <stdlib.h>

/* ----------------------------------------------------------------------------------------------------- latency -- */

enum { LINE_BYTES = 64, LOADS = 200000, LATENCY_ROUNDS = 5 };

struct line {
    uint32_t next;
    uint32_t unused[LINE_BYTES / sizeof(uint32_t) - 1];
};

/* One cycle through all of them: Sattolo's shuffle. */
static void lines_link(struct line *lines, size_t count, uint64_t *random)
{
    for (size_t i = 0; i < count; i++) {
        lines[i].next = (uint32_t)i;
    }
    for (size_t i = count - 1; i > 0; i--) {
        size_t other = random_below(random, i);
        uint32_t kept = lines[i].next;
        lines[i].next = lines[other].next;
        lines[other].next = kept;
    }
}

/* Goes on where it stopped, so that a round does not find the lines of the one before. */
static uint32_t lines_follow(const struct line *lines, uint32_t at, size_t loads)
{
    for (size_t i = 0; i < loads; i++) {
        at = lines[at].next;
    }
    return at;
}

static void measure_footprint(struct context *context, size_t mebibytes, bool huge_pages)
{
    size_t bytes = mebibytes << 20, count = bytes / LINE_BYTES;
    struct line *lines = huge_pages ? huge_memory_new(bytes) : allocate_or_die(count, sizeof lines[0]);
    if (!lines) {
        die("out of memory for %zu bytes", bytes);
    }
    uint64_t random = 1;
    lines_link(lines, count, &random);
    uint32_t at = lines_follow(lines, 0, count);
    static struct samples samples;
    samples_clear(&samples);
    for (int round = 0; round < LATENCY_ROUNDS; round++) {
        uint64_t start = stopwatch_ns();
        at = lines_follow(lines, at, LOADS);
        samples_add(&samples, (double)(stopwatch_ns() - start) / LOADS);
    }
    char name[40], note[120];
    snprintf(name, sizeof name, "latency_%zuMiB%s", mebibytes, huge_pages ? "_huge_pages" : "");
    snprintf(note, sizeof note, "one dependent load within %zu MiB%s%s", mebibytes,
             huge_pages ? ", asked for as huge pages" : " of calloc", at < count ? "" : " (lost its way)");
    add_samples(context, name, "ns", &samples, note);
    if (huge_pages) {
        huge_memory_free(lines, bytes);
    } else {
        free(lines);
    }
}

void case_latency(struct context *context)
{
    static const size_t mebibytes[] = {1, 4, 8, 16, 32, 64, 256};
    for (size_t i = 0; i < sizeof mebibytes / sizeof mebibytes[0]; i++) {
        measure_footprint(context, mebibytes[i], false);
        measure_footprint(context, mebibytes[i], true);
    }
}

/* ------------------------------------------------------------------------------------------------- two threads -- */

static pthread_mutex_t sleeping = PTHREAD_MUTEX_INITIALIZER;

static void *sleep_until_unlocked(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&sleeping);
    pthread_mutex_unlock(&sleeping);
    return NULL;
}

static const struct round_case two_threads[] = {
    {.round = round_activity,
     .warm = true,
     .output_count = 1,
     .outputs = {{"activity_two_threads", BASE_FIND, 0, TARGET_NONE, 0, 0, 0,
                  "a second thread exists, blocked: the lock takes atomic instructions"}}},
    {.round = round_agent_status,
     .warm = true,
     .output_count = 1,
     .outputs = {{"agent_status_two_threads", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "the same"}}},
    {.round = round_connect,
     .warm = true,
     .output_count = 2,
     .outputs = {{"connect_two_threads", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "the same"},
                 {"disconnect_two_threads", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "the same"}}},
    {.before = workload_refresh_handles,
     .round = round_handle,
     .warm = true,
     .output_count = 3,
     .outputs = {{"activity_handle_two_threads", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "the same"},
                 {"connect_handle_two_threads", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "the same"},
                 {"disconnect_handle_two_threads", BASE_FIND, 0, TARGET_NONE, 0, 0, 0, "the same"}}},
};

void case_two_threads(struct context *context)
{
    pthread_t thread;
    pthread_mutex_lock(&sleeping);
    if (pthread_create(&thread, NULL, sleep_until_unlocked, NULL) != 0) {
        die("pthread_create failed");
    }
    if (process_has_one_thread()) {
        die("the C library takes a process of two threads for one of one");
    }
    for (size_t i = 0; i < sizeof two_threads / sizeof two_threads[0]; i++) {
        struct round_case measured = two_threads[i];
        if (measured.round == round_connect) {
            measured.operations = connects_of_round(context->workload);
        }
        run_rounds(context, &measured);
    }
    pthread_mutex_unlock(&sleeping);
    pthread_join(thread, NULL);
}
