/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - the table of commands: all groups, found by name.
 *
 * Keeps true: no two commands have one name. Filled once, before any thread starts, and only read afterwards. A look-up
 * is a hash of the name and, mostly, one comparison.
 */
#include "commands/groups.h"

enum { BUCKETS = 256, MOST_COMMAND_NAME = 64 };

enum { GROUPS = 12 };

static const struct command_group *const groups[GROUPS] = {
    &group_handshake, &group_about,   &group_report, &group_lists,   &group_session, &group_ask,
    &group_switch,    &group_listing, &group_watch,  &group_operate, &group_cluster, &group_questions,
};
static const struct command *buckets[BUCKETS]; /* open addressing */

static unsigned hash_of(struct slice name)
{
    unsigned hash = 2166136261U;
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ ((unsigned char)name.text[i] | 0x20U)) * 16777619U; /* capitals and small letters alike */
    return hash ^ hash >> 16;
}

const struct command *command_at(size_t index)
{
    for (size_t i = 0; i < GROUPS; i++) {
        if (index < groups[i]->count)
            return &groups[i]->commands[index];
        index -= groups[i]->count;
    }
    return NULL;
}

bool commands_init(void)
{
    const struct command *command;
    for (size_t i = 0; i < BUCKETS; i++)
        buckets[i] = NULL;
    for (size_t i = 0; (command = command_at(i)); i++) {
        if (i >= BUCKETS / 2 || command_find(slice_of(command->name)))
            return false;
        unsigned at = hash_of(slice_of(command->name)) % BUCKETS;
        while (buckets[at])
            at = (at + 1) % BUCKETS;
        buckets[at] = command;
    }
    return true;
}

const struct command *command_find(struct slice name)
{
    if (name.length == 0 || name.length > MOST_COMMAND_NAME)
        return NULL;
    for (unsigned at = hash_of(name) % BUCKETS; buckets[at]; at = (at + 1) % BUCKETS)
        if (slice_is_word(name, buckets[at]->name))
            return buckets[at];
    return NULL;
}
