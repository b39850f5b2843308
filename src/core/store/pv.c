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

_Static_assert(sizeof(struct pv_node) == PV_NODE_BYTES, "arena.c counts on it");

void pv_init(struct pv *pv, size_t page_bytes)
{
    *pv = (struct pv){.page_bytes = (uint16_t)page_bytes};
}

static uint64_t capacity(const struct pv *pv)
{
    return pv->root ? (uint64_t)1 << (PV_NODE_BITS * (pv->depth + 1)) : 0;
}

static void *copy_block(struct versions *versions, void *block, size_t bytes, uint64_t born)
{
    void *copy = arena_take(versions->arena, bytes);
    memcpy(copy, block, bytes);
    versions_retire(versions, block, bytes, born);
    return copy;
}

static struct pv_node *fresh_node(struct versions *versions)
{
    struct pv_node *node = arena_take(versions->arena, PV_NODE_BYTES);
    memset(node, 0, PV_NODE_BYTES);
    return node;
}

/* The node that holds the address of a page, writable, with all above it. */
static struct pv_node *own_last_node(struct pv *pv, struct versions *versions, uint32_t page)
{
    if (!versions_owns(versions, pv->root_born)) {
        pv->root = copy_block(versions, pv->root, PV_NODE_BYTES, pv->root_born);
        pv->root_born = versions->epoch;
    }
    struct pv_node *node = pv->root;
    for (unsigned level = pv->depth; level > 0; level--) {
        unsigned slot = pv_slot(page, level);
        if (!node->at[slot]) { /* the vector grew to here */
            node->at[slot] = fresh_node(versions);
            node->born[slot] = versions->epoch;
        } else if (!versions_owns(versions, node->born[slot])) {
            node->at[slot] = copy_block(versions, node->at[slot], PV_NODE_BYTES, node->born[slot]);
            node->born[slot] = versions->epoch;
        }
        node = node->at[slot];
    }
    return node;
}

void *pv_own_page(struct pv *pv, struct versions *versions, uint32_t page)
{
    struct pv_node *node = own_last_node(pv, versions, page);
    unsigned slot = pv_slot(page, 0);
    if (!versions_owns(versions, node->born[slot])) {
        node->at[slot] = copy_block(versions, node->at[slot], pv->page_bytes, node->born[slot]);
        node->born[slot] = versions->epoch;
    }
    return node->at[slot];
}

void pv_reach(struct pv *pv, struct versions *versions, uint32_t page)
{
    if (!pv->root) {
        pv->root = fresh_node(versions);
        pv->root_born = versions->epoch;
    }
    while (page >= capacity(pv)) {
        struct pv_node *root = fresh_node(versions);
        root->at[0] = pv->root;
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
    own_last_node(pv, versions, page)->at[pv_slot(page, 0)] = NULL;
    return page;
}

void *pv_fill(struct pv *pv, struct versions *versions, uint32_t page, bool zero)
{
    struct pv_node *node = own_last_node(pv, versions, page);
    unsigned slot = pv_slot(page, 0);
    assert(!node->at[slot]);
    node->at[slot] = arena_take(versions->arena, pv->page_bytes);
    node->born[slot] = versions->epoch;
    if (zero)
        memset(node->at[slot], 0, pv->page_bytes);
    return node->at[slot];
}

void pv_drop(struct pv *pv, struct versions *versions, uint32_t page)
{
    struct pv_node *node = own_last_node(pv, versions, page);
    unsigned slot = pv_slot(page, 0);
    if (node->at[slot])
        versions_retire(versions, node->at[slot], pv->page_bytes, node->born[slot]);
    node->at[slot] = NULL;
}

/* The nodes that held the page number stay: they are used again when the vector grows back. */
void pv_shrink(struct pv *pv, struct versions *versions)
{
    pv_drop(pv, versions, pv->pages - 1);
    pv->pages--;
}

/* Frees what of this node lies at or beyond `pages`; true if all of it did. first: its first page number. */
static bool cut_node(struct versions *versions, struct pv_node *node, unsigned level, uint64_t first, uint32_t pages)
{
    uint64_t below = (uint64_t)1 << (PV_NODE_BITS * level);
    for (size_t i = 0; level > 0 && i < PV_NODE_SLOTS; i++)
        if (node->at[i] && cut_node(versions, node->at[i], level - 1, first + i * below, pages))
            node->at[i] = NULL;
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

static const char *check_node(const struct pv_node *node, uint64_t born, unsigned level,
                              const struct versions *versions)
{
    if (born == 0 || born > versions->epoch)
        return "a node was born in no epoch so far";
    for (size_t i = 0; i < PV_NODE_SLOTS; i++) {
        if (!node->at[i])
            continue;
        if (node->born[i] == 0 || node->born[i] > versions->epoch)
            return "a page or node was born in no epoch so far";
        if (versions_owns(versions, node->born[i]) && !versions_owns(versions, born))
            return "a page or node is the writer's own, and the node above it is not";
        const char *wrong = level ? check_node(node->at[i], node->born[i], level - 1, versions) : NULL;
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
