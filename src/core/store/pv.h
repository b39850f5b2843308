/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pv.h - the persistent vector: small pages under a wide radix tree, with O(1) snapshots.
 *
 * A `struct pv` is a root: copying the struct is taking a snapshot of the vector (with versions_add, which starts a new
 * epoch). Each page and node carries the epoch in which it was born, beside the pointer to it, so a writer sees without
 * touching the page whether it may change it in place or has to copy it (and its path) first.
 *
 * Readers of a copied root need plain loads only:
 *   (A) nothing reachable from a snapshot's root is written while the snapshot is held: writers change only blocks born
 *       after the newest snapshot that is held;
 *   (B) nothing reachable from it is freed while it is held (versions.h, A to D);
 *   (C) the root is handed from writer to reader under the recorder's mutex, which orders the writes before the reads.
 * The live root may be read only by the writer, under the mutex.
 *
 * A page's entry in its leaf also keeps what its owner wants beside the page: owner, two links, a bitmap of used
 * slots. They are versioned like the page, and save a second look-up.
 */
#ifndef PV_H
#define PV_H

#include "store/versions.h"

enum {
    PV_LEAF_BITS = 5,
    PV_LEAF_ENTRIES = 1 << PV_LEAF_BITS,
    PV_INNER_BITS = 6,
    PV_INNER_SLOTS = 1 << PV_INNER_BITS,
    PV_NODE_BYTES = 1024
};

struct pv_entry {
    void *page; /* NULL: no page here */
    uint64_t born;
    uint32_t owner, next, prev;
    uint16_t used, spare;
};

struct pv_leaf {
    struct pv_entry at[PV_LEAF_ENTRIES];
};

struct pv_slot {
    void *node;
    uint64_t born;
};

struct pv_inner {
    struct pv_slot at[PV_INNER_SLOTS];
};

struct pv {
    void *root;
    uint64_t root_born;
    uint32_t pages; /* page numbers in use: 0 to pages - 1 */
    uint16_t page_bytes;
    uint8_t depth; /* inner levels above the leaves */
};

void pv_init(struct pv *pv, size_t page_bytes);

/* For readers and the writer: the entry of a page number below pv->pages. O(depth). */
static inline const struct pv_entry *pv_entry(const struct pv *pv, uint32_t page)
{
    const void *node = pv->root;
    for (unsigned level = pv->depth; level > 0; level--) {
        unsigned shift = PV_LEAF_BITS + PV_INNER_BITS * (level - 1);
        node = ((const struct pv_inner *)node)->at[(page >> shift) & (PV_INNER_SLOTS - 1)].node;
    }
    return &((const struct pv_leaf *)node)->at[page & (PV_LEAF_ENTRIES - 1)];
}

/* For vectors that are filled sparsely, with pv_reach: NULL where nothing was ever put. */
static inline const struct pv_entry *pv_entry_or_null(const struct pv *pv, uint32_t page)
{
    if (page >= pv->pages)
        return NULL;
    const void *node = pv->root;
    for (unsigned level = pv->depth; level > 0 && node; level--) {
        unsigned shift = PV_LEAF_BITS + PV_INNER_BITS * (level - 1);
        node = ((const struct pv_inner *)node)->at[(page >> shift) & (PV_INNER_SLOTS - 1)].node;
    }
    return node ? &((const struct pv_leaf *)node)->at[page & (PV_LEAF_ENTRIES - 1)] : NULL;
}

static inline const void *pv_page(const struct pv *pv, uint32_t page)
{
    return pv_entry(pv, page)->page;
}

/* For the writer, under a reserve; never fail. A block that is the writer's own has only such blocks above it (a copy
 * is
 * made from the root down), so where page or leaf are its own already, one look is enough. */
struct pv_entry *pv_own_entry(struct pv *pv, struct versions *versions, uint32_t page);
struct pv_entry *pv_own_page(struct pv *pv, struct versions *versions, uint32_t page);

/* The entry, writable. */
static inline struct pv_entry *pv_edit_entry(struct pv *pv, struct versions *versions, uint32_t page)
{
    void *node = pv->root;
    uint64_t born = pv->root_born;
    for (unsigned level = pv->depth; level > 0; level--) {
        unsigned shift = PV_LEAF_BITS + PV_INNER_BITS * (level - 1);
        struct pv_slot *slot = &((struct pv_inner *)node)->at[(page >> shift) & (PV_INNER_SLOTS - 1)];
        node = slot->node;
        born = slot->born;
        if (!node)
            return pv_own_entry(pv, versions, page);
    }
    if (__builtin_expect(!versions_owns(versions, born), 0))
        return pv_own_entry(pv, versions, page);
    return &((struct pv_leaf *)node)->at[page & (PV_LEAF_ENTRIES - 1)];
}

/* And its page, writable. */
static inline struct pv_entry *pv_edit_page(struct pv *pv, struct versions *versions, uint32_t page)
{
    struct pv_entry *entry = (struct pv_entry *)(uintptr_t)pv_entry(pv, page);
    if (__builtin_expect(!versions_owns(versions, entry->born), 0))
        return pv_own_page(pv, versions, page);
    return entry;
}

uint32_t pv_extend(struct pv *pv, struct versions *versions); /* a new page number at the end, without a page */
void pv_reach(struct pv *pv, struct versions *versions, uint32_t page); /* page numbers up to it, without nodes */
void pv_shrink(struct pv *pv, struct versions *versions);               /* drops the last page number, and its page */
/* Gives the page number a fresh page (contents: zero if `zero`, else whatever). */
struct pv_entry *pv_fill(struct pv *pv, struct versions *versions, uint32_t page, bool zero);
void pv_drop(struct pv *pv, struct versions *versions, uint32_t page); /* retires the page; its entry stays */

/* Cuts off the page numbers from `pages` on, which have no pages, and frees the nodes that only they needed. Only where
 * there is no snapshot. */
void pv_truncate(struct pv *pv, struct versions *versions, uint32_t pages);

/* Verifies births and reachability. NULL, or what is wrong. O(pages). */
const char *pv_check(const struct pv *pv, const struct versions *versions);

#endif
