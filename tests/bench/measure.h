/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.h - clocks, samples, histograms, memory readings and the description of the machine.
 *
 * Nothing here knows of the recorder. All times are nanoseconds.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* ------------------------------------------------------------------------------------------------------ clocks -- */

static inline uint64_t clock_read_ns(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static inline uint64_t wall_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

/* What this thread alone consumed, in user and kernel mode. A system call: a few hundred ns. */
static inline uint64_t thread_cpu_ns(void)
{
    return clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* What chunks of operations are timed with: CLOCK_MONOTONIC, or this thread's CPU clock on a machine that others keep
 * busy, which leaves out the time in which they had the processor, but not what they did to its caches. */
extern clockid_t stopwatch_clock;

static inline uint64_t stopwatch_ns(void)
{
    return clock_read_ns(stopwatch_clock);
}

/* The median distance of two neighbouring readings of a clock: what reading it once costs. */
double clock_cost_ns(clockid_t clock);

/* ----------------------------------------------------------------------------------------------------- samples -- */

enum { SAMPLES_MAX = 4096 };

struct samples {
    double value[SAMPLES_MAX];
    size_t count;
};

void samples_clear(struct samples *samples);
void samples_add(struct samples *samples, double value); /* beyond SAMPLES_MAX a sample is dropped */
double samples_median(const struct samples *samples);    /* 0 of none */
double samples_min(const struct samples *samples);
double samples_max(const struct samples *samples);

/* --------------------------------------------------------------------------------------------------- histogram -- */

/* Buckets of 1/32 of a power of two: percentiles are exact to about 3 %; the largest values are kept exactly. */
enum { HISTOGRAM_STEPS = 32, HISTOGRAM_BUCKETS = 64 * HISTOGRAM_STEPS, HISTOGRAM_WORST = 8 };

struct histogram {
    uint64_t count;
    uint64_t bucket[HISTOGRAM_BUCKETS];
    uint64_t worst[HISTOGRAM_WORST];    /* descending */
    uint64_t worst_at[HISTOGRAM_WORST]; /* the position that each was given with */
};

void histogram_clear(struct histogram *histogram);
void histogram_add(struct histogram *histogram, uint64_t value, uint64_t position);
double histogram_percentile(const struct histogram *histogram, double percent); /* 99.99, say */

/* ----------------------------------------------------------------------------------------------------- machine -- */

struct machine {
    char cpu[128];       /* "AMD EPYC" */
    char caches[64];     /* "L1d 48K, L2 1024K, L3 32768K" */
    char kernel[160];    /* "Linux 6.1.0 x86_64" */
    char huge_pages[64]; /* "always [madvise] never" */
    char compiler[128];
    char library[32];
    char load[64]; /* load averages when it was read: how busy others kept the machine */
    long cores;
    int cpu_used;
    double memory_gib;
};

void machine_read(struct machine *machine, const char *library_version);
void machine_read_load(char *text, size_t capacity);
/* Pins the calling thread to one processor; -1 picks the last one that it may use. Returns the one, or -1. */
int machine_pin(int cpu);
/* Any other processor that this process may use (as it was before machine_pin), or -1. */
int machine_other_cpu(int cpu);
uint64_t resident_bytes(void);
/* Zeroed memory at a multiple of 2 MiB for which huge pages were asked, all of it written; NULL: out of memory. Freed
 * with huge_memory_free. */
void *huge_memory_new(size_t bytes);
void huge_memory_free(void *memory, size_t bytes);
/* Thread CPU time of the first write to fresh huge pages, asked for and kept until all were written. */
void huge_page_faults(struct samples *samples, size_t pages);
/* Whether the C library knows that this process has one thread, and so takes a mutex without an atomic instruction.
 * False where it cannot tell. */
bool process_has_one_thread(void);
/* How often this thread was taken off its processor against its will so far. */
uint64_t thread_preemptions(void);

/* Prints the message and ends the process with 1: a benchmark of failing calls measures nothing. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *allocate_or_die(size_t count, size_t each_bytes); /* zeroed, and touched */

#endif
