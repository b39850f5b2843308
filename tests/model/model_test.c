/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_test.c - random operations on the recorder and on a naive shadow, compared after each step or every few.
 *
 * Story: given a recorder and a shadow that hold the same, when the dice choose any call with any arguments, then both
 * answer the same and hold the same; so do the views, watches and handles that were kept on the way.
 *
 *   model_test                                    the usual seeds and two of today
 *   model_test --seed S [--steps N] [--every K]   one seed; K 1 compares everything after each step
 *   model_test --seeds N                          N seeds; --verbose prints each operation; --strict compares the
 *                                                 evidence of agents on servers that lapsed, too
 *
 * Prints each seed before it runs, so that what aborts can be run again.
 */
#include "driver.h"

#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USUAL_SEEDS = 40, USUAL_STEPS = 10000, USUAL_EVERY = 8, FRESH_SEEDS = 2 };

struct arguments {
    struct driver_run run;
    uint64_t seeds;
    bool one;
};

static int usage(void)
{
    fprintf(stderr, "usage: model_test [--seed S] [--seeds N] [--steps N] [--every K] [--strict] [--verbose]\n");
    return 2;
}

static bool parse(struct arguments *arguments, int count, char **words)
{
    for (int at = 1; at < count; at++) {
        if (strcmp(words[at], "--verbose") == 0) {
            arguments->run.verbose = true;
            continue;
        }
        if (strcmp(words[at], "--strict") == 0) {
            arguments->run.strict = true;
            continue;
        }
        if (at + 1 == count) {
            return false;
        }
        uint64_t number = strtoull(words[at + 1], NULL, 0);
        if (strcmp(words[at], "--seed") == 0) {
            arguments->run.seed = number;
            arguments->one = true;
        } else if (strcmp(words[at], "--seeds") == 0) {
            arguments->seeds = number;
        } else if (strcmp(words[at], "--steps") == 0) {
            arguments->run.steps = number;
        } else if (strcmp(words[at], "--every") == 0) {
            arguments->run.every = (unsigned)number;
        } else {
            return false;
        }
        at++;
    }
    return true;
}

static size_t run_seed(const struct arguments *arguments, uint64_t seed)
{
    struct driver_run run = arguments->run;
    run.seed = seed;
    printf("model_test --seed %llu --steps %zu --every %u\n", (unsigned long long)seed, run.steps, run.every);
    fflush(stdout);
    return driver_run(&run);
}

int main(int count, char **words)
{
    struct arguments arguments = {.run = {.steps = USUAL_STEPS, .every = USUAL_EVERY}, .seeds = USUAL_SEEDS};
    if (!parse(&arguments, count, words)) {
        return usage();
    }
    size_t steps = 0;
    if (arguments.one) {
        steps = run_seed(&arguments, arguments.run.seed);
    } else {
        for (uint64_t seed = 1; seed <= arguments.seeds; seed++) {
            steps += run_seed(&arguments, seed);
        }
        for (int at = 0; at < FRESH_SEEDS; at++) {
            steps += run_seed(&arguments, test_random_fresh_seed() >> 16);
        }
    }
    printf("model_test: %zu steps, no difference\n", steps);
    return 0;
}
