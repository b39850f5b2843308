/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shelf.h - fixed-size records in pages that each belong to one owner.
 *
 * A persistent vector whose pages are handed to owners (rows to servers, agents to models), so that an owner's records
 * lie together, no record needs to name its owner, and no posting list is needed to find them. A record's number is
 * page * SHELF_SLOTS + slot and never changes while it is in use. Free slots are a bitmap beside the page.
 *
 * An owner keeps a struct shelf_list: its pages with a free slot, and its full ones, each doubly linked.
 * Copying a struct shelf (and the owners' lists, which are versioned where they stand) is taking a snapshot.
 */
#ifndef SHELF_H
#define SHELF_H

#include "store/pv.h"

enum { SHELF_SLOTS = 16, SHELF_SLOT_BITS = 4 };
#define SHELF_NONE UINT32_MAX

struct shelf_list {
    uint32_t open, full; /* first page + 1; 0: none */
};

struct shelf {
    struct pv pv;
    uint64_t count;
    uint32_t free_page; /* page number + 1 without a page, linked through `next` */
    uint16_t slot_bytes, slots;
};

/* A page of page_bytes begins with `slots` records (at most SHELF_SLOTS); what follows them is its user's. */
void shelf_init(struct shelf *shelf, size_t page_bytes, size_t slot_bytes, unsigned slots);

static inline const void *shelf_page(const struct shelf *shelf, uint32_t number)
{
    return pv_page(&shelf->pv, number >> SHELF_SLOT_BITS);
}

static inline unsigned shelf_slot(uint32_t number)
{
    return number & (SHELF_SLOTS - 1);
}

static inline uint32_t shelf_owner(const struct shelf *shelf, uint32_t number)
{
    return pv_side(&shelf->pv, number >> SHELF_SLOT_BITS)->owner;
}

static inline const void *shelf_get(const struct shelf *shelf, uint32_t number)
{
    return (const char *)shelf_page(shelf, number) + (size_t)shelf_slot(number) * shelf->slot_bytes;
}

static inline bool shelf_in_use(const struct shelf *shelf, uint32_t number)
{
    uint32_t page = number >> SHELF_SLOT_BITS;
    return page < shelf->pv.pages && (pv_side(&shelf->pv, page)->used >> shelf_slot(number) & 1);
}

/* Hints: asks for what stands beside the record's page: its owner, and for the writer its birth. They are on lines of
 * their own, and the look at the record itself does not wait for them. */
static inline void shelf_prefetch_side(const struct shelf *shelf, uint32_t number, bool writing)
{
    uint32_t page = number >> SHELF_SLOT_BITS;
    const struct pv_leaf *leaf = pv_leaf(&shelf->pv, page);
    memory_prefetch(&leaf->side[pv_leaf_slot(page)]);
    if (writing)
        memory_prefetch(&leaf->born[pv_leaf_slot(page)]);
}

/* For the writer, under a reserve; never fail. */
static inline void *shelf_edit_page(struct shelf *shelf, struct versions *versions, uint32_t number)
{
    return pv_edit_page(&shelf->pv, versions, number >> SHELF_SLOT_BITS);
}

static inline void *shelf_edit(struct shelf *shelf, struct versions *versions, uint32_t number)
{
    return (char *)shelf_edit_page(shelf, versions, number) + (size_t)shelf_slot(number) * shelf->slot_bytes;
}

/* A free record of that owner; its contents are whatever was there. SHELF_NONE: all numbers are in use. */
uint32_t shelf_take(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t owner);
void shelf_give(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t number);

/* Walks an owner's pages: page = shelf_first(list); then the next. 0: no more, else page number + 1. */
static inline uint32_t shelf_first(const struct shelf_list *list)
{
    return list->full ? list->full : list->open;
}

static inline uint32_t shelf_next(const struct shelf_list *list, const struct shelf *shelf, const struct pv_side *side)
{
    uint32_t all = ((uint32_t)1 << shelf->slots) - 1;
    if (side->next)
        return side->next;
    return side->used == all ? list->open : 0;
}

/* Gives back what numbers at the end need that nobody uses. Only where there is no snapshot. O(pages). */
void shelf_compact(struct shelf *shelf, struct versions *versions);

const char *shelf_check(const struct shelf *shelf, const struct versions *versions);

#endif
