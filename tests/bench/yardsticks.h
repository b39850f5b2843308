/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yardsticks.h - what the recorder is compared with, measured in the same run: F, one dependent find in a minimal
 * open-addressing table, and the array that a simple server would keep under a mutex and copy for each view.
 */
#ifndef BENCH_YARDSTICKS_H
#define BENCH_YARDSTICKS_H

#include "workload.h"

struct yardstick_slot {
    uint64_t id;
    uint32_t server; /* the server's index plus one; 0: free */
    uint32_t row;    /* the entity */
};

struct yardstick {
    struct yardstick_slot *slots;
    size_t capacity; /* the smallest power of two of at least 2 N slots: half full, or less */
    size_t bytes;
    bool huge_pages;
};

/* The keys of entities 0 to N - 1, in plain calloc memory or in memory for which huge pages were asked. */
struct yardstick *yardstick_new(const struct workload *workload, bool huge_pages);
void yardstick_free(struct yardstick *yardstick);

/* F: nanoseconds of one find, over `finds` random keys that are all there. */
double yardstick_find_ns(struct workload *workload, const struct yardstick *yardstick, size_t finds);

/* One dependent chain of finds over chunk[0..count), whose entities are below N. Returns 0 if all were found. */
uint32_t yardstick_find_chain(const struct yardstick *yardstick, const struct operation *operations, size_t count);

/* The naive array: structs with string pointers, looked through from the front, copied for each view. */
struct naive_row {
    const char *server, *model, *agent, *user_data;
    uint64_t id;
    int64_t last_seen;
    int status;
    bool controller_agent;
};

struct naive;
struct naive *naive_new(const struct workload *workload); /* holds entities 0 to N - 1 */
void naive_free(struct naive *naive);
size_t naive_bytes(const struct naive *naive); /* of a view */
void naive_connect(struct naive *naive, const struct operation *operation);
bool naive_activity(struct naive *naive, const struct operation *operation);
struct naive_row *naive_view(struct naive *naive, size_t *count); /* freed with free() */

#endif
