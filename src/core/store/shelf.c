/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shelf.c - taking and giving records; shelf.h says what a shelf is.
 *
 * Keeps true: a unit with an owner has at least one used slot and is on its owner's list, and on its `open` list if it
 * has a free one; a unit without an owner is on the free list; a page is there if any of its units has an owner.
 * O(1) each. Under the recorder's mutex.
 */
#include "store/shelf.h"

#include <assert.h>

void shelf_init(struct shelf *shelf, size_t page_bytes, unsigned unit_bits, unsigned page_bits)
{
    assert(unit_bits <= 5 && unit_bits <= page_bits);
    *shelf = (struct shelf){.unit_bits = (uint8_t)unit_bits, .page_bits = (uint8_t)page_bits};
    pv_init(&shelf->pages, page_bytes);
    pv_init(&shelf->sides, sizeof(struct shelf_side_page));
}

static uint32_t page_of_unit(const struct shelf *shelf, uint32_t unit)
{
    return unit >> (shelf->page_bits - shelf->unit_bits);
}

static struct shelf_side *edit_side(struct shelf *shelf, struct versions *versions, uint32_t unit)
{
    struct shelf_side_page *page = pv_edit_page(&shelf->sides, versions, unit >> SHELF_SIDE_BITS);
    return &page->at[unit & (SHELF_SIDES - 1)];
}

/* At the front of one of its owner's lists. `side` is the unit's. */
static inline void link_unit(struct shelf *shelf, struct versions *versions, uint32_t *first, int list, uint32_t link,
                             struct shelf_side *side)
{
    if (*first)
        edit_side(shelf, versions, shelf_linked(shelf, list, *first))->link[list].prev =
            shelf_linked(shelf, list, link) + 1;
    side->link[list] = (struct shelf_link){.next = *first};
    *first = link;
}

static inline void unlink_unit(struct shelf *shelf, struct versions *versions, uint32_t *first, int list,
                               const struct shelf_side *side)
{
    struct shelf_link link = side->link[list];
    if (link.prev)
        edit_side(shelf, versions, link.prev - 1)->link[list].next = link.next;
    else
        *first = link.next;
    if (link.next)
        edit_side(shelf, versions, shelf_linked(shelf, list, link.next))->link[list].prev = link.prev;
}

static uint32_t all_slots(const struct shelf *shelf)
{
    return (uint32_t)(((uint64_t)1 << shelf_slots(shelf)) - 1);
}

static uint32_t slot_bit(const struct shelf *shelf, uint32_t number)
{
    return (uint32_t)1 << (number & (shelf_slots(shelf) - 1));
}

/* A new unit number at the end, or SHELF_NONE. */
static uint32_t add_unit(struct shelf *shelf, struct versions *versions)
{
    uint32_t unit = shelf->units;
    if (unit >= SHELF_NONE >> shelf->unit_bits)
        return SHELF_NONE;
    if (unit >> SHELF_SIDE_BITS == shelf->sides.pages)
        pv_fill(&shelf->sides, versions, pv_extend(&shelf->sides, versions), true);
    if (page_of_unit(shelf, unit) == shelf->pages.pages)
        pv_extend(&shelf->pages, versions);
    shelf->units++;
    return unit;
}

static uint32_t take_unit(struct shelf *shelf, struct versions *versions, uint32_t owner, struct shelf_side **side)
{
    uint32_t unit;
    if (shelf->free_unit) {
        unit = shelf->free_unit - 1;
        shelf->free_unit = shelf_side(shelf, unit)->link[SHELF_ALL].next;
    } else {
        unit = add_unit(shelf, versions);
        if (unit == SHELF_NONE)
            return SHELF_NONE;
    }
    uint32_t page = page_of_unit(shelf, unit);
    if (!pv_page(&shelf->pages, page))
        pv_fill(&shelf->pages, versions, page, true);
    *side = edit_side(shelf, versions, unit);
    (*side)->owner = owner;
    (*side)->used = 0;
    return unit;
}

uint32_t shelf_take(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t owner)
{
    if (!list->open) {
        struct shelf_side *fresh_side;
        uint32_t fresh = take_unit(shelf, versions, owner, &fresh_side);
        if (fresh == SHELF_NONE)
            return SHELF_NONE;
        link_unit(shelf, versions, &list->all, SHELF_ALL, fresh + 1, fresh_side);
        link_unit(shelf, versions, &list->open, SHELF_OPEN, shelf_number(shelf, fresh, 0) + 1, fresh_side);
    }
    uint32_t number = list->open - 1, unit = shelf_unit(shelf, number);
    struct shelf_side *side = edit_side(shelf, versions, unit);
    side->used |= slot_bit(shelf, number);
    if (side->used == all_slots(shelf))
        unlink_unit(shelf, versions, &list->open, SHELF_OPEN, side);
    else
        list->open = shelf_number(shelf, unit, (uint32_t)__builtin_ctz(~side->used)) + 1;
    shelf->count++;
    return number;
}

/* Has no unit of this page an owner? */
static bool page_is_free(const struct shelf *shelf, uint32_t page)
{
    unsigned bits = shelf->page_bits - shelf->unit_bits;
    uint32_t first = page << bits;
    for (uint32_t unit = first; unit < first + ((uint32_t)1 << bits) && unit < shelf->units; unit++)
        if (shelf_side(shelf, unit)->owner != SHELF_NONE)
            return false;
    return true;
}

/* Puts a unit without records on the free list, and drops its page if that was the last one in it. */
static void free_unit(struct shelf *shelf, struct versions *versions, uint32_t unit)
{
    *edit_side(shelf, versions, unit) =
        (struct shelf_side){.owner = SHELF_NONE, .link[SHELF_ALL].next = shelf->free_unit};
    shelf->free_unit = unit + 1;
    if (page_is_free(shelf, page_of_unit(shelf, unit)))
        pv_drop(&shelf->pages, versions, page_of_unit(shelf, unit));
}

void shelf_give(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t number)
{
    uint32_t unit = shelf_unit(shelf, number), bit = slot_bit(shelf, number);
    struct shelf_side *side = edit_side(shelf, versions, unit);
    assert(side->used & bit);
    bool was_full = side->used == all_slots(shelf);
    side->used &= ~bit;
    shelf->count--;
    if (side->used == 0) {
        if (!was_full)
            unlink_unit(shelf, versions, &list->open, SHELF_OPEN, side);
        unlink_unit(shelf, versions, &list->all, SHELF_ALL, side);
        free_unit(shelf, versions, unit);
    } else if (was_full) {
        link_unit(shelf, versions, &list->open, SHELF_OPEN, number + 1, side);
    }
}

void shelf_compact(struct shelf *shelf, struct versions *versions)
{
    uint32_t pages = shelf->pages.pages;
    while (pages > 0 && !pv_page(&shelf->pages, pages - 1))
        pages--;
    pv_truncate(&shelf->pages, versions, pages);
    uint32_t most = pages << (shelf->page_bits - shelf->unit_bits);
    if (shelf->units > most)
        shelf->units = most;
    while ((shelf->units + SHELF_SIDES - 1) >> SHELF_SIDE_BITS < shelf->sides.pages)
        pv_shrink(&shelf->sides, versions);
    pv_truncate(&shelf->sides, versions, shelf->sides.pages);
    shelf->free_unit = 0;
    for (uint32_t unit = shelf->units; unit-- > 0;) {
        /* without a copy: nobody else sees it, and there may be no memory */
        struct shelf_side *side = (struct shelf_side *)(uintptr_t)shelf_side(shelf, unit);
        if (side->owner != SHELF_NONE)
            continue;
        side->link[SHELF_ALL].next = shelf->free_unit;
        shelf->free_unit = unit + 1;
    }
}

/* ------------------------------------------------------------------------------------------------------- check -- */

const char *shelf_check(const struct shelf *shelf, const struct versions *versions)
{
    const char *wrong = pv_check(&shelf->pages, versions);
    wrong = wrong ? wrong : pv_check(&shelf->sides, versions);
    if (wrong)
        return wrong;
    uint64_t used = 0, empty = 0, listed = 0;
    for (uint32_t unit = 0; unit < shelf->units; unit++) {
        uint32_t slots = shelf_used(shelf, unit);
        if (!slots != (shelf_owner(shelf, shelf_number(shelf, unit, 0)) == SHELF_NONE))
            return "a shelf unit is kept without records, or has records and no owner";
        if (slots & ~all_slots(shelf))
            return "a shelf unit uses slots that it does not have";
        used += (uint64_t)__builtin_popcount(slots);
        empty += !slots;
    }
    for (uint32_t page = 0; page < shelf->pages.pages; page++)
        if (!pv_page(&shelf->pages, page) != page_is_free(shelf, page))
            return "a shelf page is kept without records, or records without a page";
    for (uint32_t unit = shelf->free_unit; unit && listed <= empty; listed++) {
        if (shelf_used(shelf, unit - 1))
            return "a shelf unit is free and in use";
        unit = shelf_side(shelf, unit - 1)->link[SHELF_ALL].next;
    }
    if (listed != empty)
        return "a shelf's free units are not all on its free list";
    return used == shelf->count ? NULL : "a shelf holds another number of records than it counts";
}

const char *shelf_check_list(const struct shelf *shelf, const struct shelf_list *list, uint32_t owner)
{
    uint32_t all = 0, open = 0, listed = 0;
    for (uint32_t unit = list->all, before = 0; unit; all++) {
        const struct shelf_side *side = unit <= shelf->units ? shelf_side(shelf, unit - 1) : NULL;
        if (!side || side->owner != owner || !side->used || side->link[SHELF_ALL].prev != before || all > shelf->units)
            return "an owner's list of units is broken";
        open += side->used != all_slots(shelf);
        before = unit;
        unit = side->link[SHELF_ALL].next;
    }
    for (uint32_t link = list->open, before = 0; link; listed++) {
        uint32_t number = link - 1, unit = shelf_unit(shelf, number);
        const struct shelf_side *side = unit < shelf->units ? shelf_side(shelf, unit) : NULL;
        if (!side || side->owner != owner || side->link[SHELF_OPEN].prev != before || listed > shelf->units)
            return "an owner's list of units with a free slot is broken";
        if (!side->used || side->used & slot_bit(shelf, number))
            return "an owner's list of units with a free slot names a unit that is free, or a slot that is in use";
        before = unit + 1;
        link = side->link[SHELF_OPEN].next;
    }
    return open == listed ? NULL : "a unit with a free slot is not on its owner's list of these";
}
