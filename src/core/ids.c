/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids.c - see ids.h. Keeps true: at most half of the places are used, so every search ends.
 */
#include "ids.h"

#include "text.h"

struct id_set {
    size_t mask;
    uint64_t secret[2];
    bool has_zero; /* 0 marks a free place, so it is kept apart */
    uint64_t at[];
};

static size_t bytes_for(size_t mask)
{
    return sizeof(struct id_set) + (mask + 1) * sizeof(uint64_t);
}

struct id_set *id_set_new(const presence_allocator *memory, size_t count, const uint64_t secret[2])
{
    size_t mask = 15;
    while (mask < count * 2)
        mask = mask * 2 + 1;
    struct id_set *set = memory_take(memory, bytes_for(mask));
    if (!set)
        return NULL;
    memset(set, 0, bytes_for(mask));
    set->mask = mask;
    memcpy(set->secret, secret, sizeof set->secret);
    return set;
}

static size_t place_of(const struct id_set *set, uint64_t id)
{
    size_t i = (size_t)text_mix(set->secret, id, 0) & set->mask;
    while (set->at[i] && set->at[i] != id)
        i = (i + 1) & set->mask;
    return i;
}

bool id_set_add(struct id_set *set, uint64_t id)
{
    if (id == 0) {
        bool fresh = !set->has_zero;
        set->has_zero = true;
        return fresh;
    }
    size_t i = place_of(set, id);
    bool fresh = set->at[i] == 0;
    set->at[i] = id;
    return fresh;
}

bool id_set_has(const struct id_set *set, uint64_t id)
{
    return id == 0 ? set->has_zero : set->at[place_of(set, id)] != 0;
}

void id_set_free(const presence_allocator *memory, struct id_set *set)
{
    if (set)
        memory_give(memory, set, bytes_for(set->mask));
}
