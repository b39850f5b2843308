/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids.h - a set of connection ids, for one call's use: open addressing, at most half full, keyed by the recorder's
 * secret. One owner, no locks. Every call O(1) but for new and free.
 */
#ifndef IDS_H
#define IDS_H

#include "store/arena.h"

struct id_set;

/* Room for `count` ids. NULL: out of memory. */
struct id_set *id_set_new(const presence_allocator *memory, size_t count, const uint64_t secret[2]);
/* False: it was there already. */
bool id_set_add(struct id_set *set, uint64_t id);
bool id_set_has(const struct id_set *set, uint64_t id);
void id_set_free(const presence_allocator *memory, struct id_set *set);

#endif
