/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shelf.c - taking and giving records; shelf.h says what a shelf is.
 *
 * Keeps true: a page with an owner has at least one used slot; it is on its owner's `open` list if it has a free one,
 * else on `full`; a page number without a page is on the free list. O(1) each. Under the recorder's mutex.
 */
#include "store/shelf.h"

#include <assert.h>

void shelf_init(struct shelf *shelf, size_t page_bytes, size_t slot_bytes, unsigned slots)
{
    *shelf = (struct shelf){.slot_bytes = (uint16_t)slot_bytes, .slots = (uint16_t)slots};
    pv_init(&shelf->pv, page_bytes);
}

static uint32_t all_slots(const struct shelf *shelf)
{
    return ((uint32_t)1 << shelf->slots) - 1;
}

static void link_page(struct shelf *shelf, struct versions *versions, uint32_t *head, uint32_t page)
{
    if (*head)
        pv_edit_side(&shelf->pv, versions, *head - 1)->prev = page + 1;
    struct pv_side *side = pv_edit_side(&shelf->pv, versions, page);
    side->prev = 0;
    side->next = *head;
    *head = page + 1;
}

static void unlink_page(struct shelf *shelf, struct versions *versions, uint32_t *head, uint32_t page)
{
    const struct pv_side *side = pv_side(&shelf->pv, page);
    uint32_t next = side->next, prev = side->prev;
    if (prev)
        pv_edit_side(&shelf->pv, versions, prev - 1)->next = next;
    else
        *head = next;
    if (next)
        pv_edit_side(&shelf->pv, versions, next - 1)->prev = prev;
}

static uint32_t take_page(struct shelf *shelf, struct versions *versions, uint32_t owner)
{
    uint32_t page;
    if (shelf->free_page) {
        page = shelf->free_page - 1;
        shelf->free_page = pv_side(&shelf->pv, page)->next;
    } else if (shelf->pv.pages >= SHELF_NONE >> SHELF_SLOT_BITS) {
        return SHELF_NONE;
    } else {
        page = pv_extend(&shelf->pv, versions);
    }
    pv_fill(&shelf->pv, versions, page, false);
    struct pv_side *side = pv_edit_side(&shelf->pv, versions, page);
    side->owner = owner;
    side->used = 0;
    return page;
}

uint32_t shelf_take(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t owner)
{
    uint32_t page;
    if (list->open) {
        page = list->open - 1;
    } else {
        page = take_page(shelf, versions, owner);
        if (page == SHELF_NONE)
            return SHELF_NONE;
        link_page(shelf, versions, &list->open, page);
    }
    struct pv_side *side = pv_edit_side(&shelf->pv, versions, page);
    unsigned slot = (unsigned)__builtin_ctz(~side->used);
    side->used |= (uint32_t)1 << slot;
    if (side->used == all_slots(shelf)) {
        unlink_page(shelf, versions, &list->open, page);
        link_page(shelf, versions, &list->full, page);
    }
    shelf->count++;
    return page << SHELF_SLOT_BITS | slot;
}

void shelf_give(struct shelf *shelf, struct versions *versions, struct shelf_list *list, uint32_t number)
{
    uint32_t page = number >> SHELF_SLOT_BITS;
    struct pv_side *side = pv_edit_side(&shelf->pv, versions, page);
    uint32_t bit = (uint32_t)1 << shelf_slot(number);
    assert(side->used & bit);
    bool was_full = side->used == all_slots(shelf);
    side->used &= ~bit;
    shelf->count--;
    bool empty = side->used == 0;
    if (was_full || empty)
        unlink_page(shelf, versions, was_full ? &list->full : &list->open, page);
    if (empty) {
        pv_drop(&shelf->pv, versions, page);
        side = pv_edit_side(&shelf->pv, versions, page);
        side->owner = SHELF_NONE;
        side->prev = 0;
        side->next = shelf->free_page;
        shelf->free_page = page + 1;
    } else if (was_full) {
        link_page(shelf, versions, &list->open, page);
    }
}

void shelf_compact(struct shelf *shelf, struct versions *versions)
{
    uint32_t pages = shelf->pv.pages;
    while (pages > 0 && !pv_page(&shelf->pv, pages - 1))
        pages--;
    pv_truncate(&shelf->pv, versions, pages);
    shelf->free_page = 0;
    while (pages-- > 0) {
        if (pv_page(&shelf->pv, pages))
            continue;
        /* without a copy: nobody else sees it, and there may be no memory */
        ((struct pv_side *)(uintptr_t)pv_side(&shelf->pv, pages))->next = shelf->free_page;
        shelf->free_page = pages + 1;
    }
}

/* ------------------------------------------------------------------------------------------------------- check -- */

const char *shelf_check(const struct shelf *shelf, const struct versions *versions)
{
    const char *wrong = pv_check(&shelf->pv, versions);
    if (wrong)
        return wrong;
    uint64_t used = 0, empty = 0, listed = 0;
    for (uint32_t page = 0; page < shelf->pv.pages; page++) {
        const struct pv_side *side = pv_side(&shelf->pv, page);
        if (!pv_page(&shelf->pv, page) != !side->used)
            return "a shelf page is kept without records, or records without a page";
        if (side->used & ~all_slots(shelf))
            return "a shelf page uses slots that it does not have";
        used += (uint64_t)__builtin_popcount(side->used);
        empty += !side->used;
    }
    for (uint32_t page = shelf->free_page; page && listed <= empty; listed++) {
        const struct pv_side *side = pv_side(&shelf->pv, page - 1);
        if (side->used)
            return "a shelf page is free and in use";
        page = side->next;
    }
    if (listed != empty)
        return "a shelf's free pages are not all on its free list";
    return used == shelf->count ? NULL : "a shelf holds another number of records than it counts";
}
