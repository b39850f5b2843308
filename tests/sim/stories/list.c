/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.c - the names of the stories.
 */
#include "stories.h"

static void nothing(struct world *world)
{
    (void)world;
}
const struct story story_list[] = {{"nothing", nothing}};
const size_t story_count = sizeof story_list / sizeof story_list[0];
