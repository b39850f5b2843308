/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.c - runs worlds: random ones by their seeds, and the stories.
 *
 *   sim [--seeds N] [--from S]      N random worlds (1,000), of the seeds from S (1) on
 *   sim --seed S [--trace]          one of them; with all that happened in it
 *   sim --stories                   every story, each in the worlds of ten seeds; --list names them
 *   sim --story NAME [--seed S] [--trace] [--big]      one of them; --big with a hundred times the agents
 *   sim --same N [--from S]         N random worlds twice each: their traces must be the same
 *   --broken RULE                   with this rule of the step switched off (--rules names them)
 *   --keep-going                    a line for each seed that fails, and no trace
 *
 * Worlds are run without a trace. One that fails is run again with it, must fail in the same way, and its last lines
 * are printed with its seed. The exit status is 1 if any failed.
 */
#include "world.h"

#include "invariants.h"
#include "scenario.h"
#include "stories/stories.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct rule {
    const char *name;
    enum step_rule rule;
} RULES[] = {
    {"lease", STEP_RULE_LEASE},         {"deaf", STEP_RULE_DEAF},
    {"mass", STEP_RULE_MASS},           {"gap", STEP_RULE_GAP},
    {"digest", STEP_RULE_DIGEST},       {"yield", STEP_RULE_YIELD},
    {"retake", STEP_RULE_RETAKE},       {"restore", STEP_RULE_RESTORE},
    {"orphans", STEP_RULE_ORPHANS},     {"complete", STEP_RULE_COMPLETE},
    {"buffer", STEP_RULE_BUFFER},       {"chunks", STEP_RULE_CHUNKS},
    {"late-beat", STEP_RULE_LATE_BEAT}, {"drain", STEP_RULE_DRAIN},
    {"own-echo", STEP_RULE_OWN_ECHO},   {"settle", STEP_RULE_SETTLE},
    {"heirs", STEP_RULE_HEIRS},         {"beginning", STEP_RULE_BEGINNING},
    {"recorded", STEP_RULE_RECORDED},   {"calm", STEP_RULE_CALM},
    {"fellows", STEP_RULE_FELLOWS},     {"ready", STEP_RULE_READY},
    {"turn", STEP_RULE_TURN},           {"whole", STEP_RULE_WHOLE},
    {"larger", STEP_RULE_LARGER},       {"fence", STEP_RULE_FENCE},
    {"activity", STEP_RULE_ACTIVITY},   {"serve", STEP_RULE_SERVE},
    {"pieces", STEP_RULE_PIECES},       {"abandon", STEP_RULE_ABANDON},
    {"since", STEP_RULE_SINCE},         {"inherited", STEP_RULE_INHERITED},
    {"aside", STEP_RULE_ASIDE},         {"hush", STEP_RULE_HUSH},
};
enum { RULE_COUNT = sizeof RULES / sizeof RULES[0], STORY_SEEDS = 10 };

struct request {
    struct world_options world;
    uint64_t seeds, from;
    const char *story;
    bool one, stories, same, keep_going;
};

/* How one world ended. */
struct outcome {
    bool failed;
    char reason[512];
    uint64_t hash, events, nanoseconds;
    struct invariant_counts counts;
};

/* ------------------------------------------------------------------------------------------------------- one world */

/* For a crash: which seed it was is the first thing to know. */
static char running[128];

static void die_telling(int signal)
{
    ssize_t ignored = write(STDERR_FILENO, running, strlen(running));
    (void)ignored;
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigaction(signal, &usual, NULL);
    raise(signal);
}

static void tell_seeds_of_crashes(void)
{
    struct sigaction action = {.sa_handler = die_telling, .sa_flags = (int)SA_NODEFER};
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
}

static void run_inside(struct world *world, const struct story *story)
{
    jmp_buf end;
    world->end = &end;
    if (setjmp(end) == 0) {
        if (story != NULL) {
            story->play(world);
        } else {
            scenario_run(world);
        }
        world_end_if_blamed(world);
    }
    world->end = NULL;
}

static struct outcome run_world(const struct world_options *options, const struct story *story, FILE *trace_to)
{
    struct outcome outcome = {.failed = false};
    snprintf(running, sizeof running, "sim: it was %s%s, seed %llu\n", story != NULL ? "story " : "a random world",
             story != NULL ? story->name : "", (unsigned long long)options->seed);
    struct world *world = world_new(options);
    run_inside(world, story);
    outcome.failed = world->blamed;
    snprintf(outcome.reason, sizeof outcome.reason, "%s", world->reason);
    outcome.hash = world->trace_hash;
    outcome.events = world->events_done;
    outcome.nanoseconds = world->now;
    outcome.counts = invariants_counts(world);
    if (trace_to != NULL) {
        world_print_trace(world, trace_to);
    }
    world_free(world);
    return outcome;
}

/* Once more with its trace. */
static void show_failure(const struct world_options *options, const struct story *story, const struct outcome *failed)
{
    struct world_options again = *options;
    again.tracing = true;
    fprintf(stderr, "\nsim: %s %llu FAILED: %s\n", story != NULL ? story->name : "seed",
            (unsigned long long)options->seed, failed->reason);
    if (options->print_trace) {
        return;
    }
    struct outcome second = run_world(&again, story, stderr);
    if (!second.failed || strcmp(second.reason, failed->reason) != 0) {
        fprintf(stderr, "sim: and again it is not the same: %s\n", second.failed ? second.reason : "it passes");
    }
}

/* ------------------------------------------------------------------------------------------------------ many worlds */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_seeds(const struct request *request)
{
    double began = seconds_now();
    uint64_t done = 0, failures = 0, events = 0;
    struct invariant_counts counts = {0};
    for (uint64_t seed = request->from; seed < request->from + request->seeds; seed++) {
        struct world_options options = request->world;
        options.seed = seed;
        options.tracing = options.print_trace;
        struct outcome outcome = run_world(&options, NULL, NULL);
        done++;
        events += outcome.events;
        counts.compared += outcome.counts.compared;
        counts.lapses += outcome.counts.lapses;
        counts.passed_over += outcome.counts.passed_over;
        if (outcome.failed) {
            failures++;
            if (request->keep_going) {
                printf("seed %llu: %s\n", (unsigned long long)seed, outcome.reason);
                continue;
            }
            show_failure(&options, NULL, &outcome);
            break;
        }
    }
    double seconds = seconds_now() - began;
    printf("%llu worlds, %llu failed: %llu events, %llu states compared (%llu passed over), %llu lapses; %.1f s, %.0f "
           "worlds/s\n",
           (unsigned long long)done, (unsigned long long)failures, (unsigned long long)events,
           (unsigned long long)counts.compared, (unsigned long long)counts.passed_over,
           (unsigned long long)counts.lapses, seconds, (double)done / seconds);
    return failures > 0;
}

static int run_same(const struct request *request)
{
    for (uint64_t seed = request->from; seed < request->from + request->seeds; seed++) {
        struct world_options options = request->world;
        options.seed = seed;
        options.tracing = true;
        struct outcome first = run_world(&options, NULL, NULL), second = run_world(&options, NULL, NULL);
        if (first.hash != second.hash || first.events != second.events) {
            fprintf(stderr,
                    "sim: seed %llu: two runs are not the same: %016llx after %llu events, %016llx after %llu\n",
                    (unsigned long long)seed, (unsigned long long)first.hash, (unsigned long long)first.events,
                    (unsigned long long)second.hash, (unsigned long long)second.events);
            return 1;
        }
    }
    printf("%llu worlds twice: the same traces\n", (unsigned long long)request->seeds);
    return 0;
}

static bool run_story(const struct request *request, const struct story *story, uint64_t seed)
{
    struct world_options options = request->world;
    options.seed = seed;
    options.tracing = options.print_trace;
    struct outcome outcome = run_world(&options, story, NULL);
    if (outcome.failed) {
        show_failure(&options, story, &outcome);
    }
    return !outcome.failed;
}

static int run_stories(const struct request *request)
{
    int failures = 0, found = 0;
    for (size_t i = 0; i < story_count; i++) {
        const struct story *story = &story_list[i];
        if (request->story != NULL && strcmp(request->story, story->name) != 0) {
            continue;
        }
        found++;
        bool good = true;
        for (uint64_t seed = request->from; good && seed < request->from + request->seeds; seed++) {
            good = run_story(request, story, seed);
        }
        printf("%s %d - %s\n", good ? "ok" : "not ok", found, story->name);
        fflush(stdout);
        failures += !good;
    }
    if (found == 0) {
        fprintf(stderr, "sim: there is no story \"%s\"; --list names them\n", request->story);
    }
    return failures > 0 || found == 0;
}

/* -------------------------------------------------------------------------------------------------------- arguments */

static uint64_t number_of(const char *text, const char *option)
{
    char *end = NULL;
    unsigned long long number = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || end == text || *end != '\0') {
        fprintf(stderr, "sim: %s wants a number\n", option);
        exit(2);
    }
    return number;
}

static enum step_rule rule_of(const char *name)
{
    for (int i = 0; name != NULL && i < RULE_COUNT; i++) {
        if (strcmp(RULES[i].name, name) == 0) {
            return RULES[i].rule;
        }
    }
    fprintf(stderr, "sim: no rule is called \"%s\"; --rules names them\n", name != NULL ? name : "");
    exit(2);
}

static void list_and_exit(bool rules)
{
    for (size_t i = 0; !rules && i < story_count; i++) {
        puts(story_list[i].name);
    }
    for (int i = 0; rules && i < RULE_COUNT; i++) {
        puts(RULES[i].name);
    }
    exit(0);
}

static bool take_flag(struct request *request, const char *word)
{
    if (strcmp(word, "--trace") == 0) {
        request->world.print_trace = true;
    } else if (strcmp(word, "--big") == 0) {
        request->world.big = true;
    } else if (strcmp(word, "--stories") == 0) {
        request->stories = true;
        request->seeds = STORY_SEEDS;
    } else if (strcmp(word, "--keep-going") == 0) {
        request->keep_going = true;
    } else if (strcmp(word, "--list") == 0 || strcmp(word, "--rules") == 0) {
        list_and_exit(word[2] == 'r');
    } else {
        return false;
    }
    return true;
}

static void take_option(struct request *request, const char *word, const char *next)
{
    if (strcmp(word, "--seed") == 0) {
        request->from = number_of(next, word);
        request->seeds = 1;
    } else if (strcmp(word, "--seeds") == 0) {
        request->seeds = number_of(next, word);
    } else if (strcmp(word, "--from") == 0) {
        request->from = number_of(next, word);
    } else if (strcmp(word, "--same") == 0) {
        request->same = true;
        request->seeds = number_of(next, word);
    } else if (strcmp(word, "--story") == 0) {
        request->stories = true;
        request->seeds = 1;
        request->story = next;
    } else if (strcmp(word, "--broken") == 0) {
        request->world.broken |= UINT64_C(1) << rule_of(next);
    } else {
        fprintf(stderr, "sim: what is \"%s\"? The head of tests/sim/sim.c tells the options\n", word);
        exit(2);
    }
}

int main(int count, char **words)
{
    struct request request = {
        .seeds = 1000,
        .from = 1,
    };
    for (int i = 1; i < count; i++) {
        if (!take_flag(&request, words[i])) {
            take_option(&request, words[i], i + 1 < count ? words[i + 1] : NULL);
            i++;
        }
    }
    tell_seeds_of_crashes();
    return request.stories ? run_stories(&request) : request.same ? run_same(&request) : run_seeds(&request);
}
