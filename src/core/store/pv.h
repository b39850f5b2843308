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
 * Beside a page its leaf keeps what the page's owner wants: owner, two links, a bitmap of used slots. They are
 * versioned like the page, and save a second look-up.
 *
 * Nodes are arrays side by side, the addresses first: what a reader needs of a million rows' leaves is 8 bytes a page,
 * half a megabyte in all, so that it stays in the second cache.
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

/* What a page's owner keeps beside it. */
struct pv_side {
    uint32_t owner, next, prev, used;
};

struct pv_leaf {
    void *page[PV_LEAF_ENTRIES]; /* NULL: no page here */
    uint64_t born[PV_LEAF_ENTRIES];
    struct pv_side side[PV_LEAF_ENTRIES];
};

struct pv_inner {
    void *node[PV_INNER_SLOTS];
    uint64_t born[PV_INNER_SLOTS];
};

struct pv {
    void *root;
    uint64_t root_born;
    uint32_t pages; /* page numbers in use: 0 to pages - 1 */
    uint16_t page_bytes;
    uint8_t depth; /* inner levels above the leaves */
};

void pv_init(struct pv *pv, size_t page_bytes);

static inline unsigned pv_inner_slot(uint32_t page, unsigned level)
{
    return page >> (PV_LEAF_BITS + PV_INNER_BITS * (level - 1)) & (PV_INNER_SLOTS - 1);
}

static inline unsigned pv_leaf_slot(uint32_t page)
{
    return page & (PV_LEAF_ENTRIES - 1);
}

/* For readers and the writer: the leaf of a page number below pv->pages. O(depth). */
static inline const struct pv_leaf *pv_leaf(const struct pv *pv, uint32_t page)
{
    const void *node = pv->root;
    for (unsigned level = pv->depth; level > 0; level--)
        node = ((const struct pv_inner *)node)->node[pv_inner_slot(page, level)];
    return node;
}

static inline const void *pv_page(const struct pv *pv, uint32_t page)
{
    return pv_leaf(pv, page)->page[pv_leaf_slot(page)];
}

static inline const struct pv_side *pv_side(const struct pv *pv, uint32_t page)
{
    return &pv_leaf(pv, page)->side[pv_leaf_slot(page)];
}

/* For vectors that are filled sparsely, with pv_reach: NULL where no page is. */
static inline const void *pv_page_or_null(const struct pv *pv, uint32_t page)
{
    if (page >= pv->pages)
        return NULL;
    const void *node = pv->root;
    for (unsigned level = pv->depth; level > 0 && node; level--)
        node = ((const struct pv_inner *)node)->node[pv_inner_slot(page, level)];
    return node ? ((const struct pv_leaf *)node)->page[pv_leaf_slot(page)] : NULL;
}

/* For the writer, under a reserve; never fail. A block that is the writer's own has only such blocks above it (a copy
 * is made from the root down), so where page or leaf are its own already, one look is enough. */
struct pv_leaf *pv_own_leaf(struct pv *pv, struct versions *versions, uint32_t page);
void *pv_own_page(struct pv *pv, struct versions *versions, uint32_t page);

/* The leaf of a page, writable. */
static inline struct pv_leaf *pv_edit_leaf(struct pv *pv, struct versions *versions, uint32_t page)
{
    void *node = pv->root;
    uint64_t born = pv->root_born;
    for (unsigned level = pv->depth; level > 0; level--) {
        struct pv_inner *inner = node;
        unsigned slot = pv_inner_slot(page, level);
        node = inner->node[slot];
        born = inner->born[slot];
        if (!node)
            return pv_own_leaf(pv, versions, page);
    }
    if (__builtin_expect(!versions_owns(versions, born), 0))
        return pv_own_leaf(pv, versions, page);
    return node;
}

static inline struct pv_side *pv_edit_side(struct pv *pv, struct versions *versions, uint32_t page)
{
    return &pv_edit_leaf(pv, versions, page)->side[pv_leaf_slot(page)];
}

/* The page, writable. */
static inline void *pv_edit_page(struct pv *pv, struct versions *versions, uint32_t page)
{
    const struct pv_leaf *leaf = pv_leaf(pv, page);
    if (__builtin_expect(!versions_owns(versions, leaf->born[pv_leaf_slot(page)]), 0))
        return pv_own_page(pv, versions, page);
    return leaf->page[pv_leaf_slot(page)];
}

uint32_t pv_extend(struct pv *pv, struct versions *versions); /* a new page number at the end, without a page */
void pv_reach(struct pv *pv, struct versions *versions, uint32_t page); /* page numbers up to it, without nodes */
void pv_shrink(struct pv *pv, struct versions *versions);               /* drops the last page number, and its page */
/* Gives the page number a fresh page (contents: zero if `zero`, else whatever). */
void *pv_fill(struct pv *pv, struct versions *versions, uint32_t page, bool zero);
void pv_drop(struct pv *pv, struct versions *versions,
             uint32_t page); /* retires the page; what stands beside it stays */

/* Cuts off the page numbers from `pages` on, which have no pages, and frees the nodes that only they needed. Only where
 * there is no snapshot. */
void pv_truncate(struct pv *pv, struct versions *versions, uint32_t pages);

/* Verifies births and reachability. NULL, or what is wrong. O(pages). */
const char *pv_check(const struct pv *pv, const struct versions *versions);

#endif
