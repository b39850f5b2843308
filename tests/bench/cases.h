/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cases.h - what is measured, and how a round of it is run and compared.
 *
 * A case runs on a recorder of N connections and leaves it with N connections. Most are rounds: before each, F is
 * measured anew, so that a case is compared with the yardstick of the same seconds on a machine that others use too.
 */
#ifndef BENCH_CASES_H
#define BENCH_CASES_H

#include "report.h"
#include "workload.h"
#include "yardsticks.h"

struct context {
    const struct options *options;
    struct workload *workload;
    struct report *report;
    const uint32_t *costs_ns; /* thread CPU time of each connect of the filling, if it was asked for */
};

enum base_kind { BASE_NONE, BASE_FIND, BASE_OUTPUT };

enum { OUTPUTS_MAX = 5 };

/* One figure that a round gives. */
struct round_output {
    const char *name;
    enum base_kind base;
    size_t base_output; /* BASE_OUTPUT: an earlier one of the same case */
    enum target_kind target;
    double limit;
    size_t judged_from, judged_to; /* sizes at which the target counts; 0, 0: nowhere */
    const char *note;
};

struct round_case {
    void (*before)(struct workload *workload); /* may be NULL */
    /* About `operations` of each kind; fills out[0..output_count) with ns per operation. */
    void (*round)(struct workload *workload, size_t operations, double *out);
    void (*after)(struct workload *workload); /* may be NULL */
    size_t operations;                        /* in a round; 0: by size */
    bool warm;                                /* a quarter of a round runs unmeasured before each */
    size_t output_count;
    struct round_output outputs[OUTPUTS_MAX];
};

#define SIZE_ANY ((size_t)1), SIZE_MAX
#define SIZE_MILLIONS ((size_t)1000000), SIZE_MAX /* a multiple of F means something beyond the caches */
#define SIZE_MILLION ((size_t)1000000), ((size_t)1000000)

size_t rounds_at(const struct context *context);
void run_rounds(struct context *context, const struct round_case *round_case);
/* A result of one number, for cases that are not rounds. */
void add_single(struct context *context, const char *name, const char *unit, double value, const char *note);
void add_judged(struct context *context, const char *name, const char *unit, double value, double limit, bool judged,
                const char *note);
void add_samples(struct context *context, const char *name, const char *unit, const struct samples *samples,
                 const char *note);

struct bench_case {
    const char *name, *what;
    void (*run)(struct context *context);
    bool starts_threads;
};

/* Nanoseconds of call(workload, i) for each i of the chunk. Inlined, so that the call is direct. */
static inline __attribute__((always_inline)) uint64_t time_chunk(struct workload *workload,
                                                                 int (*call)(struct workload *workload, size_t i),
                                                                 const char *what)
{
    int failed = 0;
    uint64_t start = stopwatch_ns();
    for (size_t i = 0; i < CHUNK; i++) {
        failed |= call(workload, i);
    }
    uint64_t spent = stopwatch_ns() - start;
    check_call(failed, what);
    return spent;
}

/* cases.c: single operations on a steady population. The rounds are for a process of several threads too. */
void round_activity(struct workload *workload, size_t operations, double *out);
void round_agent_status(struct workload *workload, size_t operations, double *out);
void round_connect(struct workload *workload, size_t operations, double *out); /* connect, disconnect */
size_t connects_of_round(const struct workload *workload);
uint64_t connect_one_chunk(struct workload *workload);    /* prepared and measured */
uint64_t disconnect_one_chunk(struct workload *workload); /* prepared and measured */
uint64_t activity_one_chunk(struct workload *workload);   /* prepared and measured */
/* Grows by a tenth and back until `operations` of each kind are done; adds up the times of both. */
void run_cycles(struct workload *workload, size_t operations, uint64_t (*connect)(struct workload *, size_t chunks),
                uint64_t (*disconnect)(struct workload *, size_t chunks), double out[2]);
void case_find(struct context *context);
void case_activity(struct context *context);
void case_agent_status(struct context *context);
void case_connect(struct context *context);

/* cases_batch.c: handles, batches, replicated changes */
void round_handle(struct workload *workload, size_t operations, double *out); /* activity, connect, disconnect */
void case_handle(struct context *context);
void case_many(struct context *context);
void case_handles(struct context *context);
void case_apply(struct context *context);

/* cases_views.c: snapshots, and writes beside them */
void case_snapshot(struct context *context);
void case_writes(struct context *context);
void case_listing(struct context *context);

/* cases_bulk.c: a whole server at once */
void case_server_down(struct context *context);
void case_held_up(struct context *context); /* starts a thread */

/* cases_machine.c: what no recorder can change, and what a second thread does to the lock */
void case_latency(struct context *context);     /* needs no recorder */
void case_two_threads(struct context *context); /* starts a thread */

/* cases_cost.c: memory, growth, and what watches and digests cost */
void memory_note_start(void); /* just before filling */
void case_memory(struct context *context);
void case_settle(struct context *context);
void case_growth(struct context *context);
void case_watch(struct context *context);
void case_digest(struct context *context);
void case_memory_after(struct context *context);
void case_naive(struct context *context); /* a yardstick */
void case_churn(struct context *context); /* on a recorder of its own */

/* count.c: see tests/bench/README.md. Returns the exit status. */
int run_count(const struct options *options, const char *name, size_t operations, size_t size);

#endif
