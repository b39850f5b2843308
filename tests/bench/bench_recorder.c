/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_recorder.c - measures the recorder beside its yardsticks, in one run, at several numbers of connections.
 *
 * Keeps true: each size is measured in a process of its own, so that memory that an earlier one left behind changes
 * nothing; what is judged is measured in a process of one thread, and cases that start one run in a second process; the
 * figures come back through shared memory; a size that fails ends the run with 1, a missed target does not.
 * Started by `make bench` or by hand; see tests/bench/README.md. Costs: about a minute with the default sizes, and
 * 4 GiB and a few minutes more with --all.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cases.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct bench_case cases[] = {
    {"find", "the yardstick F, in plain memory and on huge pages", case_find},
    {"memory", "bytes a connection, after filling", case_memory},
    {"settle", "puts what was filled on huge pages, as the system does in time; always, but with --fresh", case_settle},
    {"growth", "thread CPU time of each single connect while filling", case_growth},
    {"activity", "stamp a random connection", case_activity},
    {"agent_status", "status of a random agent by model and name", case_agent_status},
    {"connect", "connect new ones and disconnect random ones", case_connect},
    {"handle", "activity, connect and disconnect by handle", case_handle},
    {"many", "activity, connect and disconnect in batches of keys", case_many},
    {"handles", "activity and disconnect in batches of handles", case_handles},
    {"snapshot", "take and drop a snapshot", case_snapshot},
    {"writes", "writes with snapshots held, against without", case_writes},
    {"listing", "list a model of 100 agents", case_listing},
    {"server_down", "server_down and update_server", case_server_down},
    {"watch", "what 0, 1 and 100 watches cost a writer", case_watch},
    {"memory_after", "bytes a connection after all of the above, and trimmed", case_memory_after},
    {"naive", "the naive array's connect, activity and view", case_naive},
    {"digest", "connect and disconnect on claimed servers, against unclaimed", case_digest},
    {"apply", "replicated connects and disconnects, one by one and in batches", case_apply},
    /* In a second process, for a C library that once saw a second thread may take locks otherwise ever after. */
    {"two_threads", "single operations while a second thread is blocked", case_two_threads, true},
    {"held_up", "a writer of other servers beside update_server", case_held_up, true},
    /* Once, whatever the sizes. */
    {"latency", "a dependent load, by footprint", NULL},
    {"churn", "distinct agents in turn: memory stays flat", NULL},
};

enum { CASES = sizeof cases / sizeof cases[0], SIZES_MAX = 16 };

struct command {
    struct options options;
    size_t sizes[SIZES_MAX], size_count;
    const char *count_names;
    size_t count_operations;
};

static bool wanted(const struct options *options, const char *name)
{
    if (!options->only) {
        return true;
    }
    size_t length = strlen(name);
    for (const char *at = options->only; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == 0)) {
            return true;
        }
    }
    return false;
}

/* ----------------------------------------------------------------------------------------------------- running -- */

/* On a terminal only: which case runs. NULL wipes the line. */
static void show_progress(size_t size, const char *name)
{
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    if (name) {
        fprintf(stderr, "\r%zu: %-14s", size, name);
    } else {
        fprintf(stderr, "\r%-40s\r", "");
    }
}

static void measure_cases(struct report *report, const struct options *options, size_t size, bool threads)
{
    struct workload *workload = allocate_or_die(1, sizeof *workload);
    uint32_t *costs_ns = !threads && wanted(options, "growth") ? allocate_or_die(size, sizeof costs_ns[0]) : NULL;
    workload_init(workload, options, size);
    workload->yardstick = yardstick_new(workload, false);
    struct context context = {.options = options, .workload = workload, .report = report, .costs_ns = costs_ns};
    memory_note_start();
    workload_fill(workload, costs_ns);
    for (size_t i = 0; i < CASES; i++) {
        bool settles = cases[i].run == case_settle;
        bool runs = settles || (cases[i].starts_threads == threads && wanted(options, cases[i].name));
        if (cases[i].run && runs && !(settles && options->fresh)) {
            show_progress(size, cases[i].name);
            cases[i].run(&context);
        }
    }
    show_progress(0, NULL);
    yardstick_free(workload->yardstick);
    workload_free(workload);
    free(workload);
    free(costs_ns);
}

/* Everything judged: in a process that never has a second thread. */
static void measure_size(struct report *report, const struct options *options, size_t size)
{
    bool one_thread = process_has_one_thread();
    measure_cases(report, options, size, false);
    if (process_has_one_thread() != one_thread) {
        die("a case that was not to start a thread started one");
    }
}

static void measure_threads(struct report *report, const struct options *options, size_t size)
{
    measure_cases(report, options, size, true);
}

static void measure_latency(struct report *report, const struct options *options, size_t size)
{
    struct workload workload = {.options = options, .size = size};
    struct context context = {.options = options, .workload = &workload, .report = report};
    case_latency(&context);
}

static void measure_churn(struct report *report, const struct options *options, size_t size)
{
    struct workload *workload = allocate_or_die(1, sizeof *workload);
    workload_init(workload, options, size);
    struct context context = {.options = options, .workload = workload, .report = report};
    case_churn(&context);
    workload_free(workload);
    free(workload);
}

/* In a child, so that each starts with the memory of a fresh process. Returns whether it ended well. */
static bool run_apart(struct report *report, const struct options *options, size_t size,
                      void (*measure)(struct report *, const struct options *, size_t), const char *title)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        measure(report, options, size);
        fflush(NULL);
        _exit(0);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (child < 0 || status != 0) {
        fprintf(stderr, "bench_recorder: \"%s\" did not come to its end (status %d)\n", title, status);
        return false;
    }
    return true;
}

static bool any_wanted(const struct options *options, bool threads)
{
    for (size_t i = 0; i < CASES; i++) {
        if (cases[i].run && cases[i].starts_threads == threads && wanted(options, cases[i].name)) {
            return true;
        }
    }
    return false;
}

static bool run_size(struct report *report, const struct options *options, size_t size)
{
    char title[64];
    size_t first = report->count;
    bool well = true;
    snprintf(title, sizeof title, "%zu connections", size);
    if (any_wanted(options, false)) {
        well = run_apart(report, options, size, measure_size, title);
    }
    if (any_wanted(options, true)) {
        well = run_apart(report, options, size, measure_threads, title) && well;
    }
    report_print_table(report, first, title);
    return well;
}

static bool run_once(struct report *report, const struct options *options, const char *name, size_t size,
                     void (*measure)(struct report *, const struct options *, size_t), const char *title)
{
    if (!wanted(options, name)) {
        return true;
    }
    size_t first = report->count;
    bool well = run_apart(report, options, size, measure, title);
    report_print_table(report, first, title);
    return well;
}

static bool run_all(struct report *report, const struct command *command)
{
    const struct options *options = &command->options;
    bool well = run_once(report, options, "latency", 0, measure_latency, "the machine");
    for (size_t i = 0; i < command->size_count; i++) {
        well = run_size(report, options, command->sizes[i]) && well;
    }
    return run_once(report, options, "churn", 1000, measure_churn, "distinct agents in turn") && well;
}

static int run_benchmark(const struct command *command)
{
    struct report *report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        die("no shared memory: %s", strerror(errno));
    }
    const struct options *options = &command->options;
    machine_read(&report->machine, presence_version());
    report->machine.cpu_used = machine_pin(options->cpu);
    report->servers = options->servers;
    report->seed = options->seed;
    snprintf(report->clock, sizeof report->clock, "%s", options->clock);
    snprintf(report->time, sizeof report->time, "%s", options->time);
    report_print_head(report);
    uint64_t start = wall_ns();
    bool well = run_all(report, command);
    report->seconds = (double)(wall_ns() - start) / 1e9;
    machine_read_load(report->load_after, sizeof report->load_after);
    report_print_verdict(report);
    if (options->json && !report_write_json(report, options->json)) {
        fprintf(stderr, "bench_recorder: %s: %s\n", options->json, strerror(errno));
        well = false;
    }
    munmap(report, sizeof *report);
    return well ? 0 : 1;
}

/* --------------------------------------------------------------------------------------------------- arguments -- */

static void print_help(void)
{
    printf("bench_recorder [options] [SIZE...]     measures the recorder at each number of connections\n"
           "  SIZE            1e6 or 1000000; the default is 1e3 1e4 1e5 1e6\n"
           "  --all           the default sizes and 1e7 (needs about 4 GiB)\n"
           "  --only NAMES    only these cases, separated by commas; --list names them\n"
           "  --rounds N      rounds of each case (the default is 9, 7 at 1e6, 5 above)\n"
           "  --servers N     how many servers, 1 to 64 (10)\n"
           "  --churn N       distinct agents that connect and disconnect in turn (2e6)\n"
           "  --clock NAME    system (the recorder's default) or coarse (CLOCK_REALTIME_COARSE)\n"
           "  --time NAME     wall, or cpu: this thread's CPU time, for a machine that others keep busy\n"
           "  --fresh         leave the record on the small pages on which it was filled\n"
           "  --cpu N         the processor to measure on (the last one that may be used)\n"
           "  --seed N        another set of keys and orders (1)\n"
           "  --json FILE     also as JSON; - is the standard output\n"
           "  --count NAMES OPERATIONS --size N     run each case once, for scripts/bench-misses; all: every one\n"
           "  --list          the cases\n");
}

static void print_list(void)
{
    for (size_t i = 0; i < CASES; i++) {
        printf("%-14s %s\n", cases[i].name, cases[i].what);
    }
}

/* "1e6" or "1000000", between the bounds. */
static size_t number_or_die(const char *text, const char *what, double least, double most)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != 0 || !(value >= least && value <= most)) {
        die("%s: got \"%s\", expected a number from %.0f to %.0f", what, text, least, most);
    }
    return (size_t)value;
}

static void add_size(struct command *command, const char *text)
{
    if (command->size_count == SIZES_MAX) {
        die("more than %d sizes", SIZES_MAX);
    }
    command->sizes[command->size_count++] = number_or_die(text, "a number of connections", 1000, 90e6);
}

static void add_default_sizes(struct command *command, bool all)
{
    static const char *const sizes[] = {"1e3", "1e4", "1e5", "1e6", "1e7"};
    for (size_t i = 0; i < (all ? 5u : 4u); i++) {
        add_size(command, sizes[i]);
    }
}

/* --only and --clock with names that do not exist would measure nothing, or something else. */
static void check_names(const struct options *options)
{
    if (strcmp(options->clock, "system") != 0 && strcmp(options->clock, "coarse") != 0) {
        die("--clock: got \"%s\", expected system or coarse", options->clock);
    }
    if (strcmp(options->time, "wall") != 0 && strcmp(options->time, "cpu") != 0) {
        die("--time: got \"%s\", expected wall or cpu", options->time);
    }
    for (const char *at = options->only; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t length = strcspn(at, ","), known = 0;
        for (size_t i = 0; i < CASES; i++) {
            known += strlen(cases[i].name) == length && strncmp(at, cases[i].name, length) == 0 ? 1 : 0;
        }
        if (known == 0) {
            die("--only: no case is named \"%.*s\"; --list names them", (int)length, at);
        }
    }
}

static void set_option(struct command *command, int option, const char *text, bool *all)
{
    struct options *options = &command->options;
    switch (option) {
    case 'a':
        *all = true;
        break;
    case 'o':
        options->only = text;
        break;
    case 'r':
        options->rounds = (int)number_or_die(text, "--rounds", 1, 1000);
        break;
    case 's':
        options->servers = number_or_die(text, "--servers", 1, SERVERS_MAX);
        break;
    case 'c':
        options->churn = number_or_die(text, "--churn", CHUNK, 1e9);
        break;
    case 'k':
        options->clock = text;
        break;
    case 't':
        options->time = text;
        break;
    case 'p':
        options->cpu = (int)number_or_die(text, "--cpu", 0, 1023);
        break;
    case 'e':
        options->seed = number_or_die(text, "--seed", 0, 1e15);
        break;
    case 'j':
        options->json = text;
        break;
    case 'n':
        command->count_names = text;
        break;
    case 'z':
        add_size(command, text);
        break;
    case 'f':
        options->fresh = true;
        break;
    case 'l':
        print_list();
        exit(0);
    case 'h':
        print_help();
        exit(0);
    default:
        print_help();
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"all", no_argument, NULL, 'a'},          {"only", required_argument, NULL, 'o'},
        {"rounds", required_argument, NULL, 'r'}, {"servers", required_argument, NULL, 's'},
        {"churn", required_argument, NULL, 'c'},  {"clock", required_argument, NULL, 'k'},
        {"cpu", required_argument, NULL, 'p'},    {"seed", required_argument, NULL, 'e'},
        {"json", required_argument, NULL, 'j'},   {"fresh", no_argument, NULL, 'f'},
        {"count", required_argument, NULL, 'n'},  {"size", required_argument, NULL, 'z'},
        {"list", no_argument, NULL, 'l'},         {"time", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    struct command command = {
        .options = {.servers = 10, .cpu = -1, .seed = 1, .churn = 2000000, .clock = "system", .time = "wall"}};
    bool all = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        set_option(&command, option, optarg, &all);
    }
    check_names(&command.options);
    if (strcmp(command.options.time, "cpu") == 0) {
        stopwatch_clock = CLOCK_THREAD_CPUTIME_ID;
    }
    if (command.count_names) {
        command.count_operations = optind < argc ? number_or_die(argv[optind++], "--count", 1, 1e9) : 0;
    }
    for (; optind < argc; optind++) {
        add_size(&command, argv[optind]);
    }
    if (command.size_count == 0 || all) {
        add_default_sizes(&command, all);
    }
    if (command.count_names) {
        return run_count(&command.options, command.count_names, command.count_operations, command.sizes[0]);
    }
    return run_benchmark(&command);
}
