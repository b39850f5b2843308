/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pv.c - the writer's side of the persistent vector; pv.h has the reader's and the guarantees.
 *
 * Keeps true: a block's birth is written beside the pointer to it; a block born after the newest snapshot is reachable
 * from the live root alone, and so is all that lies above it (path copying goes down from the root). Costs: O(depth)
 * per call, plus one copy of each block on the path that a snapshot can see.
 */
#include "store/pv.h"

#include <assert.h>
#include <string.h>

_Static_assert(sizeof(struct pv_leaf) == PV_NODE_BYTES, "a leaf is one node");
_Static_assert(sizeof(struct pv_inner) == PV_NODE_BYTES, "an inner node is one node");

void pv_init(struct pv *pv, size_t page_bytes)
{
    *pv = (struct pv){.page_bytes = (uint16_t)page_bytes};
}

static uint64_t capacity(const struct pv *pv)
{
    return pv->root ? (uint64_t)1 << (PV_LEAF_BITS + PV_INNER_BITS * pv->depth) : 0;
}

static void *copy_block(struct versions *versions, void *block, size_t bytes, uint64_t born)
{
    void *copy = arena_take(versions->arena, bytes);
    memcpy(copy, block, bytes);
    versions_retire(versions, block, bytes, born);
    return copy;
}

static void own_node(struct versions *versions, void **node, uint64_t *born)
{
    if (__builtin_expect(!versions_owns(versions, *born), 0)) {
        *node = copy_block(versions, *node, PV_NODE_BYTES, *born);
        *born = versions->epoch;
    }
}

static void *fresh_node(struct versions *versions)
{
    void *node = arena_take(versions->arena, PV_NODE_BYTES);
    memset(node, 0, PV_NODE_BYTES);
    return node;
}

struct pv_entry *pv_own_entry(struct pv *pv, struct versions *versions, uint32_t page)
{
    own_node(versions, &pv->root, &pv->root_born);
    void *node = pv->root;
    for (unsigned level = pv->depth; level > 0; level--) {
        unsigned shift = PV_LEAF_BITS + PV_INNER_BITS * (level - 1);
        struct pv_slot *slot = &((struct pv_inner *)node)->at[(page >> shift) & (PV_INNER_SLOTS - 1)];
        if (!slot->node) { /* the vector grew to here */
            slot->node = fresh_node(versions);
            slot->born = versions->epoch;
        }
        own_node(versions, &slot->node, &slot->born);
        node = slot->node;
    }
    return &((struct pv_leaf *)node)->at[page & (PV_LEAF_ENTRIES - 1)];
}

struct pv_entry *pv_own_page(struct pv *pv, struct versions *versions, uint32_t page)
{
    struct pv_entry *entry = pv_own_entry(pv, versions, page);
    if (!versions_owns(versions, entry->born)) {
        entry->page = copy_block(versions, entry->page, pv->page_bytes, entry->born);
        entry->born = versions->epoch;
    }
    return entry;
}

void pv_reach(struct pv *pv, struct versions *versions, uint32_t page)
{
    if (!pv->root) {
        pv->root = fresh_node(versions);
        pv->root_born = versions->epoch;
    }
    while (page >= capacity(pv)) {
        struct pv_inner *root = fresh_node(versions);
        root->at[0] = (struct pv_slot){pv->root, pv->root_born};
        pv->root = root;
        pv->root_born = versions->epoch;
        pv->depth++;
    }
    if (pv->pages <= page)
        pv->pages = page + 1;
}

uint32_t pv_extend(struct pv *pv, struct versions *versions)
{
    uint32_t page = pv->pages;
    pv_reach(pv, versions, page);
    *pv_edit_entry(pv, versions, page) = (struct pv_entry){0};
    return page;
}

struct pv_entry *pv_fill(struct pv *pv, struct versions *versions, uint32_t page, bool zero)
{
    struct pv_entry *entry = pv_edit_entry(pv, versions, page);
    assert(!entry->page);
    entry->page = arena_take(versions->arena, pv->page_bytes);
    entry->born = versions->epoch;
    if (zero)
        memset(entry->page, 0, pv->page_bytes);
    return entry;
}

void pv_drop(struct pv *pv, struct versions *versions, uint32_t page)
{
    struct pv_entry *entry = pv_edit_entry(pv, versions, page);
    if (entry->page)
        versions_retire(versions, entry->page, pv->page_bytes, entry->born);
    entry->page = NULL;
}

/* The nodes that held the page number stay: they are used again when the vector grows back. */
void pv_shrink(struct pv *pv, struct versions *versions)
{
    pv_drop(pv, versions, pv->pages - 1);
    pv->pages--;
}

/* Frees what of this node lies at or beyond `pages`; true if all of it did. first: its first page number. */
static bool cut_node(struct versions *versions, void *node, unsigned level, uint64_t first, uint32_t pages)
{
    if (level > 0) {
        struct pv_inner *inner = node;
        uint64_t below = (uint64_t)1 << (PV_LEAF_BITS + PV_INNER_BITS * (level - 1));
        for (size_t i = 0; i < PV_INNER_SLOTS; i++)
            if (inner->at[i].node && cut_node(versions, inner->at[i].node, level - 1, first + i * below, pages))
                inner->at[i] = (struct pv_slot){0};
    }
    if (first < pages)
        return false;
    arena_give(versions->arena, node, PV_NODE_BYTES);
    return true;
}

void pv_truncate(struct pv *pv, struct versions *versions, uint32_t pages)
{
    assert(!versions->newest && pages <= pv->pages);
    if (pv->root && cut_node(versions, pv->root, pv->depth, 0, pages)) {
        pv->root = NULL;
        pv->depth = 0;
    }
    pv->pages = pages;
}

/* ------------------------------------------------------------------------------------------------------- check -- */

static const char *check_node(const void *node, uint64_t born, unsigned level, const struct versions *versions)
{
    if (born == 0 || born > versions->epoch)
        return "a node was born in no epoch so far";
    if (level == 0) {
        const struct pv_leaf *leaf = node;
        for (size_t i = 0; i < PV_LEAF_ENTRIES; i++) {
            if (leaf->at[i].page && (leaf->at[i].born == 0 || leaf->at[i].born > versions->epoch))
                return "a page was born in no epoch so far";
            if (leaf->at[i].page && versions_owns(versions, leaf->at[i].born) && !versions_owns(versions, born))
                return "a page is the writer's own, and the leaf above it is not";
        }
        return NULL;
    }
    const struct pv_inner *inner = node;
    for (size_t i = 0; i < PV_INNER_SLOTS; i++) {
        if (!inner->at[i].node)
            continue;
        if (versions_owns(versions, inner->at[i].born) && !versions_owns(versions, born))
            return "a node is the writer's own, and the node above it is not";
        const char *wrong = check_node(inner->at[i].node, inner->at[i].born, level - 1, versions);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *pv_check(const struct pv *pv, const struct versions *versions)
{
    if (!pv->root)
        return pv->pages ? "a vector has pages and no root" : NULL;
    if (pv->pages > capacity(pv))
        return "a vector has more pages than its depth can hold";
    return check_node(pv->root, pv->root_born, pv->depth, versions);
}
