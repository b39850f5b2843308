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

struct pv_leaf *pv_own_leaf(struct pv *pv, struct versions *versions, uint32_t page)
{
    own_node(versions, &pv->root, &pv->root_born);
    void *node = pv->root;
    for (unsigned level = pv->depth; level > 0; level--) {
        struct pv_inner *inner = node;
        unsigned slot = pv_inner_slot(page, level);
        if (!inner->node[slot]) { /* the vector grew to here */
            inner->node[slot] = fresh_node(versions);
            inner->born[slot] = versions->epoch;
        }
        own_node(versions, &inner->node[slot], &inner->born[slot]);
        node = inner->node[slot];
    }
    return node;
}

void *pv_own_page(struct pv *pv, struct versions *versions, uint32_t page)
{
    struct pv_leaf *leaf = pv_own_leaf(pv, versions, page);
    unsigned slot = pv_leaf_slot(page);
    if (!versions_owns(versions, leaf->born[slot])) {
        leaf->page[slot] = copy_block(versions, leaf->page[slot], pv->page_bytes, leaf->born[slot]);
        leaf->born[slot] = versions->epoch;
    }
    return leaf->page[slot];
}

void pv_reach(struct pv *pv, struct versions *versions, uint32_t page)
{
    if (!pv->root) {
        pv->root = fresh_node(versions);
        pv->root_born = versions->epoch;
    }
    while (page >= capacity(pv)) {
        struct pv_inner *root = fresh_node(versions);
        root->node[0] = pv->root;
        root->born[0] = pv->root_born;
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
    struct pv_leaf *leaf = pv_edit_leaf(pv, versions, page);
    leaf->page[pv_leaf_slot(page)] = NULL;
    leaf->side[pv_leaf_slot(page)] = (struct pv_side){0};
    return page;
}

void *pv_fill(struct pv *pv, struct versions *versions, uint32_t page, bool zero)
{
    struct pv_leaf *leaf = pv_edit_leaf(pv, versions, page);
    unsigned slot = pv_leaf_slot(page);
    assert(!leaf->page[slot]);
    leaf->page[slot] = arena_take(versions->arena, pv->page_bytes);
    leaf->born[slot] = versions->epoch;
    if (zero)
        memset(leaf->page[slot], 0, pv->page_bytes);
    return leaf->page[slot];
}

void pv_drop(struct pv *pv, struct versions *versions, uint32_t page)
{
    struct pv_leaf *leaf = pv_edit_leaf(pv, versions, page);
    unsigned slot = pv_leaf_slot(page);
    if (leaf->page[slot])
        versions_retire(versions, leaf->page[slot], pv->page_bytes, leaf->born[slot]);
    leaf->page[slot] = NULL;
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
            if (inner->node[i] && cut_node(versions, inner->node[i], level - 1, first + i * below, pages))
                inner->node[i] = NULL;
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
            if (leaf->page[i] && (leaf->born[i] == 0 || leaf->born[i] > versions->epoch))
                return "a page was born in no epoch so far";
            if (leaf->page[i] && versions_owns(versions, leaf->born[i]) && !versions_owns(versions, born))
                return "a page is the writer's own, and the leaf above it is not";
        }
        return NULL;
    }
    const struct pv_inner *inner = node;
    for (size_t i = 0; i < PV_INNER_SLOTS; i++) {
        if (!inner->node[i])
            continue;
        if (versions_owns(versions, inner->born[i]) && !versions_owns(versions, born))
            return "a node is the writer's own, and the node above it is not";
        const char *wrong = check_node(inner->node[i], inner->born[i], level - 1, versions);
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
