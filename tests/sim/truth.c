/* SPDX-License-Identifier: Apache-2.0 */
/*
 * truth.c - the sequence of claims and numbers of each server, as its origins stood.
 *
 * Keeps true: under one (claim, number) one thing was stated. Recorded after each event of a stating node; a number
 * that came and went within one event is known to have been passed over.
 */
#include "truth.h"

#include <stdlib.h>

struct life {
    presence_claim claim;
    int node;
    uint64_t last;
    struct stated *at; /* by number */
    size_t room;
};

struct told {
    struct life *lives;
    size_t count, room;
};

struct truth {
    struct told servers[MOST_SERVERS];
};

struct truth *truth_new(void)
{
    struct truth *truth = calloc(1, sizeof *truth);
    must(truth != NULL);
    return truth;
}

void truth_free(struct truth *truth)
{
    for (int server = 0; server < MOST_SERVERS; server++) {
        struct told *told = &truth->servers[server];
        for (size_t i = 0; i < told->count; i++) {
            free(told->lives[i].at);
        }
        free(told->lives);
    }
    free(truth);
}

/* The latest are asked for most. */
static struct life *find_life(const struct told *told, const presence_claim *claim)
{
    for (size_t i = told->count; i > 0; i--) {
        if (presence_claim_compare(&told->lives[i - 1].claim, claim) == 0) {
            return &told->lives[i - 1];
        }
    }
    return NULL;
}

static struct life *add_life(struct told *told, const presence_claim *claim)
{
    if (told->count == told->room) {
        told->room = told->room * 2 + 8;
        told->lives = realloc(told->lives, told->room * sizeof *told->lives);
        must(told->lives != NULL);
    }
    told->lives[told->count] = (struct life){.claim = *claim, .node = -1};
    return &told->lives[told->count++];
}

static struct stated *stated_at(struct life *life, uint64_t number)
{
    if (number >= life->room) {
        size_t room = (size_t)number * 2 + 16;
        life->at = realloc(life->at, room * sizeof *life->at);
        must(life->at != NULL);
        for (size_t i = life->room; i < room; i++) {
            life->at[i].known = false;
        }
        life->room = room;
    }
    return &life->at[number];
}

void truth_record(struct world *world, int node, int server, const presence_server_description *description)
{
    struct told *told = &world->truth->servers[server];
    struct life *life = find_life(told, &description->claim);
    if (life == NULL) {
        life = add_life(told, &description->claim);
        tell(world, node, "states %s under %llu.%llu", world->servers[server],
             (unsigned long long)description->claim.epoch, (unsigned long long)description->claim.turn);
    }
    life->node = node;
    struct stated now = {true, description->digest, description->connections, description->alive};
    struct stated *stated = stated_at(life, description->number);
    if (!stated->known) {
        *stated = now;
        life->last = description->number > life->last ? description->number : life->last;
    } else if (stated->digest.all != now.digest.all || stated->digest.alive != now.digest.alive ||
               stated->connections != now.connections || stated->alive != now.alive) {
        world_blame(world, "%s states %s anew under %llu.%llu number %llu: two states under one number",
                    world->nodes[node].name, world->servers[server], (unsigned long long)description->claim.epoch,
                    (unsigned long long)description->claim.turn, (unsigned long long)description->number);
    }
}

enum truth_answer truth_find(const struct world *world, int server, const presence_claim *claim, uint64_t number,
                             struct stated *stated)
{
    const struct life *life = find_life(&world->truth->servers[server], claim);
    if (life == NULL || number > life->last) {
        return TRUTH_NEVER;
    }
    *stated = life->at[number];
    return stated->known ? TRUTH_STATED : TRUTH_PASSED_OVER;
}

bool truth_latest(const struct world *world, int server, presence_claim *claim, int *node)
{
    const struct told *told = &world->truth->servers[server];
    const struct life *latest = NULL;
    for (size_t i = 0; i < told->count; i++) {
        if (latest == NULL || presence_claim_compare(&told->lives[i].claim, &latest->claim) > 0) {
            latest = &told->lives[i];
        }
    }
    if (latest != NULL) {
        *claim = latest->claim;
        *node = latest->node;
    }
    return latest != NULL;
}

uint64_t truth_last_number(const struct world *world, int server, const presence_claim *claim)
{
    const struct life *life = find_life(&world->truth->servers[server], claim);
    return life != NULL ? life->last : 0;
}
