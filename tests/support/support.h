/* SPDX-License-Identifier: Apache-2.0 */
/*
 * support.h - what every kind of test needs: a clock that stands still, memory that can run out, dice that can be
 * thrown again, and the whole content of a view as data that can be compared.
 *
 * Nothing here knows a test framework: what must not happen prints a line and aborts, so that unit tests, the model
 * test and fuzzers can all use it. The helpers for cmocka stories are in story.h.
 */
#ifndef PRESENCE_TESTS_SUPPORT_H
#define PRESENCE_TESTS_SUPPORT_H

#include <presence/presence.h>
#include <presence/replica.h>

#include <stdatomic.h>

/* Prints "file:line: text" and aborts unless the condition holds. */
#define must(condition) support_must((condition), #condition, __FILE__, __LINE__)
void support_must(bool holds, const char *text, const char *file, int line);

/* ---------------------------------------------------------------------------------------------------- fake clock -- */

/* Shows what it was set to, until it is set again. May be read and set from any thread. */
struct fake_clock {
    _Atomic presence_time now_ns;
};

void fake_clock_set(struct fake_clock *clock, presence_time now_ns);
void fake_clock_advance(struct fake_clock *clock, presence_time by_ns); /* negative: backwards */
presence_time fake_clock_now(const struct fake_clock *clock);
presence_clock fake_clock_interface(struct fake_clock *clock); /* the clock must outlive its user */

/* ------------------------------------------------------------------------------------------------ test allocator -- */

/* Counts what it gave out, checks that it gets the same size and alignment back, and fails when told to. Threads may
 * share it. Zeroed, it never fails. */
struct test_allocator {
    _Atomic uint64_t outstanding_bytes, outstanding_blocks;
    _Atomic uint64_t calls;        /* allocations asked for since the beginning */
    _Atomic uint64_t failures;     /* of those, refused */
    _Atomic int64_t until_failure; /* > 0: the allocation that counts it down to 0 is refused */
    _Atomic bool keep_failing;     /* that one, and all after it */
};

presence_allocator test_allocator_interface(struct test_allocator *allocator);
/* The nth allocation from now is refused (1: the next). keep_failing: all after it too. n == 0: none is. */
void test_allocator_fail_nth(struct test_allocator *allocator, uint64_t n, bool keep_failing);
bool test_allocator_is_empty(const struct test_allocator *allocator); /* if not, prints how much is outstanding */
/* Aborts, saying how much, if anything is still outstanding. */
void test_allocator_must_be_empty(const struct test_allocator *allocator);

/* -------------------------------------------------------------------------------------------------------- random -- */

/* xoshiro256**: the same seed gives the same numbers on every machine. */
struct test_random {
    uint64_t state[4];
};

void test_random_seed(struct test_random *random, uint64_t seed);
uint64_t test_random_next(struct test_random *random);
uint64_t test_random_below(struct test_random *random, uint64_t bound); /* 0..bound-1; bound must not be 0 */
bool test_random_chance(struct test_random *random, uint64_t one_in);
/* A seed for a run that was given none: prints nothing, the caller prints it. */
uint64_t test_random_fresh_seed(void);

/* --------------------------------------------------------------------------------------------------------- names -- */

#define TEST_NAME_BYTES 64

/* "prefix-number" in the buffer (of TEST_NAME_BYTES), which is returned. */
const char *test_name(char *buffer, const char *prefix, uint64_t number);
/* A value stated as alive with no user data. The strings are borrowed. */
presence_value test_value(const char *server, uint64_t id, const char *model, const char *agent);

/* ------------------------------------------------------------------------------------------------------- content -- */

/* Everything that a walk of a slice gives, copied, in order of (server, connection id). */
struct content {
    presence_value *values;
    size_t count;
};

struct content *content_of(const presence_connections *connections);
/* Of a recorder now, through a view that is freed again. NULL: out of memory (a test allocator may say so). */
struct content *content_of_recorder(presence_recorder *recorder);
void content_free(struct content *content);
/* The value of that key, or NULL. */
const presence_value *content_find(const struct content *content, const char *server, uint64_t id);
/* Whether both hold the same. If not, and `difference` is not NULL, the first difference is described in it. */
#define CONTENT_DIFFERENCE_BYTES 512
bool content_equal(const struct content *a, const struct content *b, bool compare_last_seen, char *difference);
/* <0, 0, >0 by (server, connection id). */
int content_compare_keys(const presence_value *a, const presence_value *b);
bool test_values_equal(const presence_value *a, const presence_value *b, bool compare_last_seen);

#endif
