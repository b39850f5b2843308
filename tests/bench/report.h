/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - the results of a run, as a table for people and as JSON.
 *
 * A report lies in memory shared with the child process that measures one size, so it holds no pointers.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "measure.h"

enum target_kind {
    TARGET_NONE,  /* informative */
    TARGET_RATIO, /* median / base is at most `limit` */
    TARGET_VALUE  /* median is at most `limit` */
};

struct result {
    char name[40];
    char unit[8]; /* "ns" or "bytes", or "ratio" */
    size_t size;  /* connections */
    double median, min, max;
    size_t rounds;
    char base_name[32]; /* what the ratio is to; "" if there is none */
    double base;
    enum target_kind target;
    double limit;
    bool judged; /* the target is for this size */
    char note[200];
};

enum { RESULTS_MAX = 1024 };

struct report {
    struct machine machine;
    size_t servers;
    uint64_t seed;
    char clock[16], time[16];
    char load_after[64];
    double seconds;
    size_t count;
    struct result results[RESULTS_MAX];
};

double result_ratio(const struct result *result); /* 0 without a base */
bool result_reached(const struct result *result); /* meaningful where judged */

void report_add(struct report *report, const struct result *result);
void report_print_head(const struct report *report);
/* The results of one size, from index `first` on. */
void report_print_table(const struct report *report, size_t first, const char *title);
void report_print_verdict(const struct report *report);
/* Returns false, with errno, if the file could not be written. "-" is the standard output. */
bool report_write_json(const struct report *report, const char *path);

#endif
