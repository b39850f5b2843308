/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operations.h - every public operation, once for each way in which it can need memory.
 */
#ifndef PRESENCE_TESTS_ALLOC_OPERATIONS_H
#define PRESENCE_TESTS_ALLOC_OPERATIONS_H

#include "scene.h"

struct operation {
    const char *name;
    int (*run)(struct scene *scene);      /* a code; a NULL answer is given as PRESENCE_E_NO_MEMORY */
    void (*prepare)(struct scene *scene); /* with memory that does not fail; NULL: nothing to prepare */
    bool in_parts; /* a batch: its elements are changes of their own, so that a failure may leave some done */
};

extern const struct operation operations[];
extern const size_t operation_count;

#endif
