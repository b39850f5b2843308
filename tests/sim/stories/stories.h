/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stories.h - what happened, or could, to a cluster: each story scripts a world, and says what must be so.
 */
#ifndef SIM_STORIES_H
#define SIM_STORIES_H

#include "../actors.h"
#include "../invariants.h"
#include "../network.h"
#include "../truth.h"
#include "../world.h"

#include <string.h>

struct story {
    const char *name;
    void (*play)(struct world *world);
};

extern const struct story story_list[];
extern const size_t story_count;

#endif
