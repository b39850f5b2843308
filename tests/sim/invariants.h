/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invariants.h - what holds in every cluster after every event, and at rest. Each is a sentence that world_blame is
 * called with when it is broken:
 *
 *   1  no connection of an older epoch is alive on a node that has seen a newer epoch's claim
 *   2  no node holds under a (claim, number) what no origin ever stated under it
 *   3  a node lapses a server only if no beat that states it came there in the last lease
 *   4  at rest every running node is ready and fresh, every view of a live server equals its origin's, and of a dead
 *      one all are equal, and the greatest that survived
 *   5  a node that has not heard itself for a lease, or nothing at all for half of one, lapses nothing
 *   6  what lapsed is restored only at the number that its holder told last, or later
 *   7  where all others, two at least, fall silent at once, nothing lapses before the hold is over
 */
#ifndef SIM_INVARIANTS_H
#define SIM_INVARIANTS_H

#include "world.h"

struct invariants *invariants_new(void);
void invariants_free(struct invariants *invariants);

/* A node begins with nothing. */
void invariants_node_starts(struct world *world, int node);
/* A message is about to be given to a node. */
void invariants_hear(struct world *world, int node, const struct message *message);
/* After an event at that node. */
void invariants_check(struct world *world, int node);
/* What the node holds of that server was corrupted on purpose: rule 2 waits until it is right again. */
void invariants_excuse(struct world *world, int node, int server);
/* From now on nothing is lost: remembers the greatest that each server has anywhere. */
void invariants_healed(struct world *world);
void invariants_greatest(const struct world *world, int server, presence_claim *claim, uint64_t *number);
/* Rule 4, and the recorders' own checks. */
void invariants_rest(struct world *world);
/* How often anything was compared: a run that proves nothing is seen. */
struct invariant_counts {
    uint64_t compared, passed_over, lapses, rests;
};
struct invariant_counts invariants_counts(const struct world *world);

/* Heals everything, waits until the actors are content and the bound of rest is over, and checks. */
void world_rest(struct world *world);

#endif
