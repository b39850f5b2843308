/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h - runs a script of small operations on a recorder and on its shadow, and compares everything.
 *
 * On the first difference it prints the seed, the step, the last operations and what differs, and aborts. The model
 * test calls it with dice, the fuzzers with bytes.
 */
#ifndef TESTS_MODEL_DRIVER_H
#define TESTS_MODEL_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct driver_run {
    uint64_t seed;        /* of the dice; printed on a difference */
    const uint8_t *bytes; /* NULL: dice */
    size_t length;
    size_t steps;   /* at most */
    unsigned every; /* everything is compared every so many steps; revision, invariants and one slice each step */
    bool verbose;   /* print each operation */
    bool strict;    /* compare the evidence of agents on servers that lapsed too: see shadow.h */
};

/* Returns the number of steps made. */
size_t driver_run(const struct driver_run *run);
#endif
