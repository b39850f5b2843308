/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models.h - the models that a message lists once, for its changes or values to name by number.
 */
#ifndef WIRE_MODELS_H
#define WIRE_MODELS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

enum { MODELS_SEARCHED = 64 };

struct model {
    const char *name;
    size_t length;
    uint64_t ends; /* its first and last bytes, for a quick look */
};

struct model_list {
    ProtobufCBinaryData *at; /* as they are listed */
    size_t count;
    uint32_t last;
    struct model recent[MODELS_SEARCHED]; /* the last ones, model i at i % MODELS_SEARCHED */
};

/* `at` has room for one for each change or value. */
void models_begin(struct model_list *list, ProtobufCBinaryData *at);
/* The number that a model is listed under; it is listed if it is not among the last ones. NULL is "". */
uint32_t models_number(struct model_list *list, const char *name);

#endif
