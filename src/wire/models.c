/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models.c - see models.h. Called by the thread that encodes. Costs: O(1) where neighbours share their model, and a
 * search among the last 64 of the message otherwise.
 */
#include "models.h"

#include <string.h>

void models_begin(struct model_list *list, ProtobufCBinaryData *at)
{
    list->at = at;
    list->count = 0;
    list->last = 0;
}

static uint64_t ends_of(const char *name, size_t length)
{
    uint32_t first = 0, last = 0;
    size_t some = length < sizeof first ? length : sizeof first;
    memcpy(&first, name, some);
    memcpy(&last, name + length - some, some);
    return (uint64_t)first << 32 | last;
}

static bool is_model(const struct model *model, const char *name, size_t length, uint64_t ends)
{
    return model->ends == ends && model->length == length &&
           (model->name == name || memcmp(model->name, name, length) == 0);
}

uint32_t models_number(struct model_list *list, const char *name)
{
    name = name ? name : "";
    size_t length = strlen(name), known = list->count;
    uint64_t ends = ends_of(name, length);
    if (known > 0 && is_model(&list->recent[list->last % MODELS_SEARCHED], name, length, ends))
        return list->last;
    size_t oldest = known > MODELS_SEARCHED ? known - MODELS_SEARCHED : 0;
    for (size_t number = oldest; number < known; number++)
        if (is_model(&list->recent[number % MODELS_SEARCHED], name, length, ends))
            return list->last = (uint32_t)number;
    list->at[known] = (ProtobufCBinaryData){.len = length, .data = length ? (uint8_t *)(uintptr_t)name : NULL};
    list->recent[known % MODELS_SEARCHED] = (struct model){.name = name, .length = length, .ends = ends};
    list->count = known + 1;
    return list->last = (uint32_t)known;
}
