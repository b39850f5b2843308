/* SPDX-License-Identifier: Apache-2.0 */
/*
 * versions.h - epochs, the versions that snapshots hold, and the exact reclaiming of what they no longer see.
 *
 * Time is cut into epochs by snapshots. Every block (page, node, text) is born in one epoch. The writer changes a block
 * in place if no version can see it; else it makes a copy and retires the old block.
 *
 *   (A) A block born in epoch b and retired in epoch d is seen by exactly the versions with b <= version.epoch < d.
 *   (B) It waits on the dead list of the newest of those, or is freed at once if there is none.
 *   (C) When a version goes, each entry of its list that the next older version sees too (born <= its epoch) moves to
 *       that one's list; the others are freed. So what nobody can see is freed, and nothing that anybody can.
 *   (D) A version's list is worked off in steps, first come first served; until its turn comes it counts as live, so
 *       (A) to (C) hold in between.
 *
 *   (E) A block born after the newest version that is held is the writer's own, to change in place. So looking at an
 *       idle record costs the next writes no copies once the view is given back.
 *
 * A list is made of blocks of the same arena, covered by the same reserve, so retiring never fails.
 * All of it under the recorder's mutex; readers never come here.
 */
#ifndef VERSIONS_H
#define VERSIONS_H

#include "store/arena.h"

struct dead_chunk;

struct version {
    uint64_t epoch;
    struct version *older, *newer;
    struct version *next_dying;
    struct dead_chunk *dead;
    size_t dead_bytes; /* of the blocks on that list */
};

struct versions {
    struct arena *arena;
    uint64_t epoch; /* the current one */
    uint64_t seen;  /* the newest version's epoch: blocks born later are the writer's own */
    bool written;   /* in the current epoch; whoever changes anything sets it */
    struct version *newest, *oldest;
    struct version *dying_first, *dying_last; /* released, still in the list above */
    struct version *draining;                 /* the one being worked off, no longer in the list */
    struct version *draining_older;           /* who inherits from it */
    size_t retained_bytes;
    uint64_t count; /* versions not yet worked off */
    void (*gone)(void *context, struct version *version);
    void *context;
};

void versions_init(struct versions *versions, struct arena *arena, void (*gone)(void *context, struct version *version),
                   void *context);
/* Ends the current epoch: `version` sees everything born so far. O(1). */
void versions_add(struct versions *versions, struct version *version);
/* Nobody holds this version any more; versions_drain will work it off and then call gone(). O(1). */
void versions_release(struct versions *versions, struct version *version);
/* Works off about `steps` entries (whole chunks of 62); true if there is more. Needs no memory. */
bool versions_drain(struct versions *versions, size_t steps);
/* The writer no longer uses this block. Needs a reserve. */
void versions_retire(struct versions *versions, void *block, size_t bytes, uint64_t born);

/* Nobody holds a version: every block is the writer's own, and no birth need be looked at. */
static inline bool versions_owns_all(const struct versions *versions)
{
#ifdef PRESENCE_GUARD_PAGES
    (void)versions;
    return false;
#else
    return versions->seen == 0;
#endif
}

static inline bool versions_owns(const struct versions *versions, uint64_t born)
{
#ifdef PRESENCE_GUARD_PAGES
    return born == versions->epoch; /* older blocks are write-protected, whether or not anybody still sees them */
#else
    return born > versions->seen;
#endif
}

#endif
