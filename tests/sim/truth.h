/* SPDX-License-Identifier: Apache-2.0 */
/*
 * truth.h - what origins stated: for each server the claims that a node held locally, and for each number under them
 * the digest and the counts that the stating node itself had.
 */
#ifndef SIM_TRUTH_H
#define SIM_TRUTH_H

#include "world.h"

struct stated {
    bool known; /* false: the origin passed over this number within one event */
    presence_digest digest;
    size_t connections, alive;
};

enum truth_answer { TRUTH_STATED, TRUTH_PASSED_OVER, TRUTH_NEVER };

struct truth *truth_new(void);
void truth_free(struct truth *truth);

/* A node that states the server stands here now. Blames whoever states something else under the same number. */
void truth_record(struct world *world, int node, int server, const presence_server_description *description);
enum truth_answer truth_find(const struct world *world, int server, const presence_claim *claim, uint64_t number,
                             struct stated *stated);
/* The largest claim that was ever stated of it; false: none. */
bool truth_latest(const struct world *world, int server, presence_claim *claim, int *node);
/* The largest number that was stated under that claim. */
uint64_t truth_last_number(const struct world *world, int server, const presence_claim *claim);

#endif
