/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_node.c - one node of a cluster in a process of its own, driven by lines on the standard input by
 * bench_table.py, which tells what is measured with it.
 *
 *   join URL NODE [ACTIVITY_MS]    and waits until it is ready, unless ACTIVITY_MS is followed by "now"
 *   memories MIB COUNT             how much of history, and how many disconnects, its recorder is to keep
 *   alone                          a recorder without a cluster
 *   pace SERVER FIRST COUNT RATE   a thread connects agents FIRST to FIRST + COUNT - 1, RATE a second (0: as it can);
 *                                  at a rate, each carries in its user data when it was connected
 *   stamp SERVER COUNT SECONDS     a thread stamps agents 1 to COUNT, each once in SECONDS, until `paced`
 *   paced                          ends `stamp`, awaits `pace`; when the first and the last call was
 *   watch SERVER COUNT             a thread awaits COUNT connects of that server
 *   watched                        how long after its connect each was told here
 *   list SERVER COUNT              a whole list of agents without user data
 *   drop SERVER FIRST COUNT        disconnects agents FIRST to FIRST + COUNT - 1
 *   number SERVER NUMBER           until it is at that number; when that was, and at which it is
 *   await SERVER COUNT             until so many are held; when that was
 *   stats, memory, leave
 *
 * Each line is answered by one line of JSON. Times are of the machine's monotonic clock, in nanoseconds, so that
 * processes may be compared.
 */
#include <presence/cluster.h>

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WORDS = 8, WAIT_MS = 20000, LOOK_US = 1000, HISTORY_BYTES = 64 << 20 };

#define BILLION UINT64_C(1000000000)

static struct {
    presence_recorder *recorder;
    presence_cluster *cluster;
    struct work {
        pthread_t thread;
        char server[64];
        uint64_t first, count, rate, began, ended;
        uint64_t *samples; /* of a watch */
        size_t told;
        atomic_bool stop;
    } pace, watch;
    size_t history_bytes, departures; /* of the recorder, if they are set */
} node;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * BILLION + (uint64_t)now.tv_nsec;
}

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_node: %s: %s\n", what, why);
    exit(1);
}

static void must(int code, const char *what)
{
    if (code != PRESENCE_OK)
        give_up(what, presence_strerror(code));
}

static void sleep_until(uint64_t at)
{
    struct timespec time = {.tv_sec = (time_t)(at / BILLION), .tv_nsec = (long)(at % BILLION)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void fine(void)
{
    puts("{}");
}

/* ------------------------------------------------------------------------------------------------------- joining -- */

static void make_recorder(void)
{
    presence_options options;
    presence_options_init(&options);
    options.history_bytes = node.history_bytes ? node.history_bytes : HISTORY_BYTES;
    options.departures = node.departures;
    node.recorder = presence_recorder_new_with(&options, NULL);
    if (!node.recorder)
        give_up("recorder", "out of memory");
    presence_recorder_enable(node.recorder);
}

static void do_join(char **words)
{
    make_recorder();
    presence_cluster_config config;
    presence_cluster_config_init(&config);
    config.urls = words[0];
    config.node = words[1];
    config.cluster = "bench";
    if (words[2])
        config.activity_ms = (uint32_t)strtoul(words[2], NULL, 10);
    presence_error error = {0};
    uint64_t began = now_ns();
    node.cluster = presence_cluster_join(node.recorder, &config, &error);
    if (!node.cluster)
        give_up("join", error.message);
    if (!(words[2] && words[3]) && presence_cluster_wait(node.cluster, WAIT_MS, &error) != PRESENCE_OK)
        give_up("join", error.message);
    printf("{\"began\": %llu}\n", (unsigned long long)began);
}

static void do_alone(char **words)
{
    (void)words;
    make_recorder();
    fine();
}

static void do_memories(char **words)
{
    node.history_bytes = strtoull(words[0], NULL, 10) << 20;
    node.departures = strtoull(words[1], NULL, 10);
    fine();
}

static void do_leave(char **words)
{
    (void)words;
    presence_cluster_leave(node.cluster);
    node.cluster = NULL;
    fine();
}

/* ------------------------------------------------------------------------------------------------------- stating -- */

/* "machine-9" becomes "machine-10", in place: printing each anew would be a part of what is measured. */
static void count_up(char *name)
{
    size_t at = strlen(name);
    while (name[at - 1] == '9')
        name[--at] = '0';
    if (name[at - 1] >= '0' && name[at - 1] < '9') {
        name[at - 1]++;
        return;
    }
    memmove(name + at + 1, name + at, strlen(name + at) + 1);
    name[at] = '1';
}

static void *connect_at_a_pace(void *argument)
{
    struct work *work = argument;
    char agent[32], data[32] = "";
    snprintf(agent, sizeof agent, "machine-%llu", (unsigned long long)work->first);
    work->began = now_ns();
    for (uint64_t i = 0; i < work->count; i++) {
        if (work->rate > 0)
            sleep_until(work->began + i * BILLION / work->rate);
        if (work->rate > 0)
            snprintf(data, sizeof data, "%llu", (unsigned long long)now_ns());
        must(presence_recorder_connect(node.recorder, work->server, "model", agent, work->first + i, false, data),
             "connect");
        count_up(agent);
    }
    work->ended = now_ns();
    return NULL;
}

static void *stamp_at_a_pace(void *argument)
{
    struct work *work = argument;
    work->began = now_ns();
    uint64_t each = work->rate * BILLION / work->count;
    for (uint64_t i = 0; !work->stop; i++) {
        uint64_t due = work->began + i * each;
        if (due > now_ns())
            sleep_until(due + BILLION / 1000); /* some at a time */
        must(presence_recorder_activity(node.recorder, work->server, i % work->count + 1), "activity");
    }
    work->ended = now_ns();
    return NULL;
}

static struct work *begin(struct work *work, void *(*run)(void *), char **words)
{
    snprintf(work->server, sizeof work->server, "%s", words[0]);
    work->stop = false;
    work->told = 0;
    if (pthread_create(&work->thread, NULL, run, work) != 0)
        give_up("thread", "cannot be made");
    return work;
}

static void do_pace(char **words)
{
    node.pace.first = strtoull(words[1], NULL, 10);
    node.pace.count = strtoull(words[2], NULL, 10);
    node.pace.rate = strtoull(words[3], NULL, 10);
    begin(&node.pace, connect_at_a_pace, words);
    fine();
}

static void do_stamp(char **words)
{
    node.pace.count = strtoull(words[1], NULL, 10);
    node.pace.rate = strtoull(words[2], NULL, 10);
    begin(&node.pace, stamp_at_a_pace, words);
    fine();
}

static void do_paced(char **words)
{
    (void)words;
    node.pace.stop = true;
    pthread_join(node.pace.thread, NULL);
    printf("{\"began\": %llu, \"ended\": %llu}\n", (unsigned long long)node.pace.began,
           (unsigned long long)node.pace.ended);
}

static void do_drop(char **words)
{
    uint64_t first = strtoull(words[1], NULL, 10), count = strtoull(words[2], NULL, 10);
    for (uint64_t id = first; id < first + count; id++)
        must(presence_recorder_disconnect(node.recorder, words[0], id), "disconnect");
    fine();
}

/* Until it is at that number. */
static void do_number(char **words)
{
    uint64_t number = strtoull(words[1], NULL, 10), until = now_ns() + WAIT_MS * UINT64_C(1000000);
    presence_server_description known = {0};
    while (presence_replica_describe(node.recorder, words[0], &known) != PRESENCE_OK || known.number < number) {
        if (now_ns() > until)
            give_up("number", "it did not come so far");
        usleep(LOOK_US);
    }
    printf("{\"at\": %llu, \"number\": %llu}\n", (unsigned long long)now_ns(), (unsigned long long)known.number);
}

static void do_list(char **words)
{
    size_t count = strtoull(words[1], NULL, 10);
    presence_value *values = calloc(count, sizeof *values);
    char(*names)[32] = calloc(count, sizeof *names);
    if (!values || !names)
        give_up("list", "out of memory");
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "machine-%zu", i + 1);
        values[i] = (presence_value){
            .model = "model", .server = words[0], .agent = names[i], .user_data = "", .connection_id = i + 1};
    }
    must(presence_recorder_update_server(node.recorder, words[0], values, count, NULL), "update_server");
    free(values);
    free(names);
    fine();
}

/* ----------------------------------------------------------------------------------------------------- receiving -- */

static void *await_connects(void *argument)
{
    struct work *work = argument;
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.server = work->server;
    options.kinds = 1U << PRESENCE_EVENT_CONNECTED;
    presence_watch *watch;
    must(presence_watch_open(node.recorder, &options, &watch, NULL), "watch");
    struct pollfd descriptor = {.fd = presence_watch_fd(watch), .events = POLLIN};
    presence_event event;
    work->began = now_ns();
    while (work->told < work->count) {
        int got = presence_watch_next(watch, &event);
        if (got == 1)
            work->samples[work->told++] = now_ns() - strtoull(event.value.user_data, NULL, 10);
        else if (got < 0 || poll(&descriptor, 1, WAIT_MS) == 0)
            give_up("watch", "a connect was lost");
    }
    presence_watch_free(watch);
    return NULL;
}

static void do_watch(char **words)
{
    node.watch.count = strtoull(words[1], NULL, 10);
    node.watch.samples = calloc(node.watch.count, sizeof *node.watch.samples);
    node.watch.began = 0;
    begin(&node.watch, await_connects, words);
    usleep(50000); /* the watch is open */
    fine();
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void do_watched(char **words)
{
    (void)words;
    pthread_join(node.watch.thread, NULL);
    size_t count = node.watch.told;
    uint64_t *samples = node.watch.samples;
    qsort(samples, count, sizeof *samples, by_size);
    printf("{\"p50\": %llu, \"p99\": %llu, \"most\": %llu}\n", (unsigned long long)samples[count / 2],
           (unsigned long long)samples[count * 99 / 100], (unsigned long long)samples[count - 1]);
    free(samples);
}

static void do_await(char **words)
{
    size_t count = strtoull(words[1], NULL, 10);
    presence_counts counts = {0};
    uint64_t until = now_ns() + WAIT_MS * UINT64_C(1000000);
    while (counts.connections != count) {
        if (now_ns() > until)
            give_up("await", "not all came");
        usleep(LOOK_US);
        presence_recorder_server_counts(node.recorder, words[0], &counts);
    }
    printf("{\"at\": %llu}\n", (unsigned long long)now_ns());
}

/* ------------------------------------------------------------------------------------------------------- looking -- */

static void do_stats(char **words)
{
    (void)words;
    presence_cluster_counters counters = {.struct_bytes = sizeof counters};
    must(presence_cluster_stats(node.cluster, &counters), "stats");
    printf("{\"at\": %llu, \"bytes_sent\": %llu, \"messages_sent\": %llu, \"bytes_received\": %llu, "
           "\"messages_received\": %llu, \"states_taken\": %llu, \"gaps\": %llu, \"lapses\": %llu, "
           "\"activity_sent\": %llu, \"losses\": %llu}\n",
           (unsigned long long)now_ns(), (unsigned long long)counters.bytes_sent,
           (unsigned long long)counters.messages_sent, (unsigned long long)counters.bytes_received,
           (unsigned long long)counters.messages_received, (unsigned long long)counters.states_taken,
           (unsigned long long)counters.gaps, (unsigned long long)counters.lapses,
           (unsigned long long)counters.activity_sent, (unsigned long long)counters.losses);
}

/* What is free is given back first. */
static void do_memory(char **words)
{
    (void)words;
    presence_recorder_trim(node.recorder);
    malloc_trim(0);
    presence_stats stats = {.struct_bytes = sizeof stats};
    must(presence_recorder_stats(node.recorder, &stats), "stats");
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*u %llu", &pages) != 1)
        give_up("memory", "cannot read /proc/self/statm");
    fclose(file);
    printf("{\"resident\": %llu, \"used\": %llu, \"allocated\": %llu, \"history\": %llu}\n",
           pages * (unsigned long long)sysconf(_SC_PAGESIZE), (unsigned long long)stats.used_bytes,
           (unsigned long long)stats.allocated_bytes, (unsigned long long)stats.history_bytes);
}

/* --------------------------------------------------------------------------------------------------------- lines -- */

static const struct command {
    const char *name;
    void (*run)(char **words);
    int least;
} COMMANDS[] = {
    {"join", do_join, 2},         {"alone", do_alone, 0}, {"leave", do_leave, 0},   {"pace", do_pace, 4},
    {"stamp", do_stamp, 3},       {"paced", do_paced, 0}, {"watch", do_watch, 2},   {"watched", do_watched, 0},
    {"memories", do_memories, 2}, {"drop", do_drop, 3},   {"number", do_number, 2}, {"list", do_list, 2},
    {"await", do_await, 2},       {"stats", do_stats, 0}, {"memory", do_memory, 0},
};

static void obey(char *line)
{
    char *words[MOST_WORDS + 1] = {NULL}, *rest = NULL;
    int count = 0;
    for (char *word = strtok_r(line, " \n", &rest); word && count < MOST_WORDS; word = strtok_r(NULL, " \n", &rest))
        words[count++] = word;
    for (size_t i = 0; count > 0 && i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        if (strcmp(words[0], COMMANDS[i].name) == 0 && count > COMMANDS[i].least) {
            COMMANDS[i].run(words + 1);
            fflush(stdout);
            return;
        }
    give_up(count > 0 ? words[0] : "", "no such command, or too few words");
}

int main(void)
{
    char line[512];
    while (fgets(line, sizeof line, stdin))
        obey(line);
    presence_cluster_leave(node.cluster);
    presence_recorder_free(node.recorder);
    return 0;
}
