/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pv.h - the persistent vector: pages of one size under a wide radix tree, with O(1) snapshots.
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
 * Nodes are two arrays side by side, the addresses first: what finding one of a million records needs of the nodes is 8
 * bytes a page. Pages of records are 2 to 3 KiB, so that these addresses stay in the second cache and finding a record
 * by its number is one cache miss, the record's own.
 */
#ifndef PV_H
#define PV_H

#include "store/versions.h"

enum { PV_NODE_BITS = 6, PV_NODE_SLOTS = 1 << PV_NODE_BITS, PV_NODE_BYTES = 1024 };

struct pv_node {
    void *at[PV_NODE_SLOTS]; /* nodes, or pages at level 0; NULL: nothing here */
    uint64_t born[PV_NODE_SLOTS];
};

struct pv {
    struct pv_node *root;
    uint64_t root_born;
    uint32_t pages; /* page numbers in use: 0 to pages - 1 */
    uint16_t page_bytes;
    uint8_t depth; /* levels of nodes above the last */
};

void pv_init(struct pv *pv, size_t page_bytes);

static inline unsigned pv_slot(uint32_t page, unsigned level)
{
    return page >> (PV_NODE_BITS * level) & (PV_NODE_SLOTS - 1);
}

/* For readers and the writer: the node that holds the address of a page number below pv->pages. O(depth). */
static inline struct pv_node *pv_last_node(const struct pv *pv, uint32_t page)
{
    struct pv_node *node = pv->root;
    unsigned depth = pv->depth;
    for (; __builtin_expect(depth > 2, 0); depth--)
        node = node->at[pv_slot(page, depth)];
    if (depth > 1)
        node = node->at[pv_slot(page, 2)];
    if (depth > 0)
        node = node->at[pv_slot(page, 1)];
    return node;
}

static inline const void *pv_page(const struct pv *pv, uint32_t page)
{
    return pv_last_node(pv, page)->at[pv_slot(page, 0)];
}

/* For vectors that are filled sparsely, with pv_reach: NULL where no page is. */
static inline const void *pv_page_or_null(const struct pv *pv, uint32_t page)
{
    if (page >= pv->pages)
        return NULL;
    const struct pv_node *node = pv->root;
    for (unsigned level = pv->depth; level > 0 && node; level--)
        node = node->at[pv_slot(page, level)];
    return node ? node->at[pv_slot(page, 0)] : NULL;
}

/* May the writer change this page where it is? */
static inline bool pv_owns_page(const struct pv *pv, const struct versions *versions, uint32_t page)
{
    return versions_owns_all(versions) || versions_owns(versions, pv_last_node(pv, page)->born[pv_slot(page, 0)]);
}

/* For the writer, under a reserve; never fails. */
void *pv_own_page(struct pv *pv, struct versions *versions, uint32_t page);

/* The page, writable. A block that is the writer's own has only such blocks above it (a copy is made from the root
 * down), so one look is enough; and where nobody holds a snapshot, none is needed. */
static inline void *pv_edit_page(struct pv *pv, struct versions *versions, uint32_t page)
{
    const struct pv_node *node = pv_last_node(pv, page);
    unsigned slot = pv_slot(page, 0);
    if (!versions_owns_all(versions) && __builtin_expect(!versions_owns(versions, node->born[slot]), 0))
        return pv_own_page(pv, versions, page);
    return node->at[slot];
}

uint32_t pv_extend(struct pv *pv, struct versions *versions); /* a new page number at the end, without a page */
void pv_reach(struct pv *pv, struct versions *versions, uint32_t page); /* page numbers up to it, without nodes */
void pv_shrink(struct pv *pv, struct versions *versions);               /* drops the last page number, and its page */
/* Gives the page number a fresh page (contents: zero if `zero`, else whatever). */
void *pv_fill(struct pv *pv, struct versions *versions, uint32_t page, bool zero);
void pv_drop(struct pv *pv, struct versions *versions, uint32_t page); /* retires the page; its number stays in use */

/* Cuts off the page numbers from `pages` on, which have no pages, and frees the nodes that only they needed. Only where
 * there is no snapshot. */
void pv_truncate(struct pv *pv, struct versions *versions, uint32_t pages);

/* Verifies births and reachability. NULL, or what is wrong. O(pages). */
const char *pv_check(const struct pv *pv, const struct versions *versions);

#endif
