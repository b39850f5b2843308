/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shelf.h - fixed-size records in units that each belong to one owner.
 *
 * A persistent vector of records, cut into units of a few slots that are handed to owners (rows to servers, agents to
 * models), so that an owner's records lie together, no record needs to name its owner, and no posting list is needed to
 * find them. A record's number is unit * slots a unit + slot and never changes while it is in use.
 *
 * Units and pages are different things. A page is what is copied when a snapshot sees it, and what has an address in
 * the tree: large enough (64 rows or agents) that all addresses stay in a near cache. A unit is what an owner takes:
 * small enough that an owner of one record wastes little. Several units, of different owners, share a page. What is
 * kept beside a unit, its side, lies in a vector of its own: the owner, four links, a bitmap of used slots.
 *
 * An owner keeps a struct shelf_list: all its units, and those with a free slot, each doubly linked. A unit comes on
 * the second list at the front when it loses its first record, and goes from the front when it is full again, so that
 * neighbours, which are cache misses, are touched only where a whole unit comes or goes. The links of the second list
 * name a free slot, not only a unit: so the owner tells by itself which record is taken next, and that and the unit's
 * side can be asked for at once.
 * Copying a struct shelf (and the owners' lists, which are versioned where they stand) is taking a snapshot.
 */
#ifndef SHELF_H
#define SHELF_H

#include "store/pv.h"

#define SHELF_NONE UINT32_MAX

enum { SHELF_SIDE_BITS = 5, SHELF_SIDES = 1 << SHELF_SIDE_BITS };

/* The owner's list of all its units (which links the free units, too), and that of those with a free slot. */
enum { SHELF_ALL, SHELF_OPEN, SHELF_LISTS };

struct shelf_link {
    uint32_t next, prev; /* unit + 1; 0: none. SHELF_OPEN's next is the number + 1 of a free slot in that unit */
};

struct shelf_side {
    uint32_t owner; /* SHELF_NONE: the unit is free */
    uint32_t used;  /* a bit for each slot */
    struct shelf_link link[SHELF_LISTS];
};

struct shelf_side_page {
    struct shelf_side at[SHELF_SIDES];
};

struct shelf_list {
    uint32_t all;  /* first unit + 1; 0: none */
    uint32_t open; /* number + 1 of a free slot in the first unit that has one: what is taken next; 0: none has */
};

struct shelf {
    struct pv pages, sides;
    uint64_t count;
    uint32_t units;               /* unit numbers ever in use: 0 to units - 1 */
    uint32_t free_unit;           /* unit + 1, linked through `next` */
    uint8_t unit_bits, page_bits; /* log2 of slots a unit (at most 5), and a page */
};

/* What stands where in a page is its user's. */
void shelf_init(struct shelf *shelf, size_t page_bytes, unsigned unit_bits, unsigned page_bits);

/* All numbers in use are below this. */
static inline uint64_t shelf_end(const struct shelf *shelf)
{
    return (uint64_t)shelf->units << shelf->unit_bits;
}

static inline uint32_t shelf_slots(const struct shelf *shelf)
{
    return (uint32_t)1 << shelf->unit_bits;
}

static inline uint32_t shelf_unit(const struct shelf *shelf, uint32_t number)
{
    return number >> shelf->unit_bits;
}

static inline uint32_t shelf_number(const struct shelf *shelf, uint32_t unit, uint32_t slot)
{
    return unit << shelf->unit_bits | slot;
}

static inline const struct shelf_side *shelf_side(const struct shelf *shelf, uint32_t unit)
{
    const struct shelf_side_page *page = pv_page(&shelf->sides, unit >> SHELF_SIDE_BITS);
    return &page->at[unit & (SHELF_SIDES - 1)];
}

/* The unit that an owner's first link, or a `next`, leads to. */
static inline uint32_t shelf_linked(const struct shelf *shelf, int list, uint32_t link)
{
    return list == SHELF_OPEN ? shelf_unit(shelf, link - 1) : link - 1;
}

static inline uint32_t shelf_used(const struct shelf *shelf, uint32_t unit)
{
    return shelf_side(shelf, unit)->used;
}

static inline uint32_t shelf_owner(const struct shelf *shelf, uint32_t number)
{
    return shelf_side(shelf, shelf_unit(shelf, number))->owner;
}

/* Number below shelf_end; NULL where no unit of the page is in use. */
static inline const void *shelf_page(const struct shelf *shelf, uint32_t number)
{
    return pv_page(&shelf->pages, number >> shelf->page_bits);
}

static inline bool shelf_in_use(const struct shelf *shelf, uint32_t number)
{
    uint32_t unit = shelf_unit(shelf, number);
    return unit < shelf->units && (shelf_used(shelf, unit) >> (number & (shelf_slots(shelf) - 1)) & 1);
}

/* For the writer, under a reserve. A free record of that owner; zero in a fresh page, else as it was left.
 * SHELF_NONE: all numbers are in use. */
uint32_t shelf_take(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t owner);
void shelf_give(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t number);

/* Walks an owner's units: list->all, then the next. 0: no more, else unit + 1. */
static inline uint32_t shelf_next(const struct shelf *shelf, uint32_t unit)
{
    return shelf_side(shelf, unit)->link[SHELF_ALL].next;
}

/* Gives back what numbers at the end need that nobody uses. Only where there is no snapshot. O(units). */
void shelf_compact(struct shelf *shelf, struct versions *versions);

/* NULL, or what is wrong. O(units); of the owner's. */
const char *shelf_check(const struct shelf *shelf, const struct versions *versions);
const char *shelf_check_list(const struct shelf *shelf, const struct shelf_list *list, uint32_t owner);

#endif
