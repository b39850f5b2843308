/* SPDX-License-Identifier: Apache-2.0 */
/*
 * versions.c - dead lists; the guarantees are lettered in versions.h.
 *
 * Costs: retire O(1); drain O(steps); a dead entry is 16 bytes. Called by the writer under the recorder's mutex.
 */
#include "store/versions.h"

#include <assert.h>
#include <string.h>

enum { DEAD_CHUNK_ENTRIES = 62, DEAD_UNITS_BITS = 16 };

struct dead_block {
    void *block;
    uint64_t born_units; /* born << 16 | size in 8-byte units */
};

struct dead_chunk {
    struct dead_chunk *next;
    uint64_t count;
    struct dead_block at[DEAD_CHUNK_ENTRIES];
};
_Static_assert(sizeof(struct dead_chunk) == 1008, "arena.c counts on it");

void versions_init(struct versions *versions, struct arena *arena, void (*gone)(void *context, struct version *version),
                   void *context)
{
    memset(versions, 0, sizeof *versions);
    versions->arena = arena;
    versions->epoch = 1;
    versions->gone = gone;
    versions->context = context;
}

void versions_add(struct versions *versions, struct version *version)
{
    version->epoch = versions->epoch++;
    versions->written = false;
    version->older = versions->newest;
    version->newer = NULL;
    version->next_dying = NULL;
    version->dead = NULL;
    version->dead_bytes = 0;
    if (versions->newest)
        versions->newest->newer = version;
    else
        versions->oldest = version;
    versions->newest = version;
    versions->seen = version->epoch;
    versions->arena->seen = true;
    versions->count++;
#ifdef PRESENCE_GUARD_PAGES
    arena_guard_protect(versions->arena);
#endif
}

void versions_release(struct versions *versions, struct version *version)
{
    version->next_dying = NULL;
    if (versions->dying_last)
        versions->dying_last->next_dying = version;
    else
        versions->dying_first = version;
    versions->dying_last = version;
}

static void dead_push(struct versions *versions, struct version *version, struct dead_block entry)
{
    struct dead_chunk *chunk = version->dead;
    if (!chunk || chunk->count == DEAD_CHUNK_ENTRIES) {
        struct dead_chunk *fresh = arena_take(versions->arena, sizeof *fresh);
        fresh->next = chunk;
        fresh->count = 0;
        version->dead = chunk = fresh;
    }
    chunk->at[chunk->count++] = entry;
}

SINGLE_CALL void versions_retire(struct versions *versions, void *block, size_t bytes, uint64_t born)
{
    struct version *newest = versions->newest;
    if (!newest || newest->epoch < born) {
        arena_give(versions->arena, block, bytes);
        return;
    }
    uint64_t units = (bytes + 7) / 8;
    assert(units < (uint64_t)1 << DEAD_UNITS_BITS);
    dead_push(versions, newest, (struct dead_block){block, born << DEAD_UNITS_BITS | units});
    newest->dead_bytes += units * 8;
    versions->retained_bytes += units * 8;
}

static void unlink_version(struct versions *versions, struct version *version)
{
    if (version->newer)
        version->newer->older = version->older;
    else
        versions->newest = version->older;
    if (version->older)
        version->older->newer = version->newer;
    else
        versions->oldest = version->newer;
    versions->seen = versions->newest ? versions->newest->epoch : 0;
    versions->arena->seen = versions->newest;
}

static size_t dead_bytes(struct dead_block entry)
{
    return (size_t)(entry.born_units & (((uint64_t)1 << DEAD_UNITS_BITS) - 1)) * 8;
}

static void free_dead(struct versions *versions, struct dead_block entry)
{
    versions->retained_bytes -= dead_bytes(entry);
    arena_give(versions->arena, entry.block, dead_bytes(entry));
}

/* Works off one chunk: what the older version sees too stays in it and moves there with it, so no memory is needed. */
static void drain_chunk(struct versions *versions, struct dead_chunk *chunk)
{
    struct version *older = versions->draining_older;
    uint64_t kept = 0;
    for (uint64_t i = 0; i < chunk->count; i++) {
        if (i + 8 < chunk->count)
            memory_prefetch(chunk->at[i + 8].block);
        if (older && chunk->at[i].born_units >> DEAD_UNITS_BITS <= older->epoch) {
            older->dead_bytes += dead_bytes(chunk->at[i]);
            chunk->at[kept++] = chunk->at[i];
        } else {
            free_dead(versions, chunk->at[i]);
        }
    }
    chunk->count = kept;
    if (kept == 0) {
        arena_give(versions->arena, chunk, sizeof *chunk);
    } else if (older->dead && older->dead->count < DEAD_CHUNK_ENTRIES) { /* the chunk being filled stays first */
        chunk->next = older->dead->next;
        older->dead->next = chunk;
    } else {
        chunk->next = older->dead;
        older->dead = chunk;
    }
}

/* Starts on the next released version, if there is one. */
static bool drain_next(struct versions *versions)
{
    struct version *version = versions->dying_first;
    if (!version)
        return false;
    versions->dying_first = version->next_dying;
    if (!versions->dying_first)
        versions->dying_last = NULL;
    unlink_version(versions, version);
    versions->draining = version;
    versions->draining_older = version->older;
    return true;
}

bool versions_drain(struct versions *versions, size_t steps)
{
    while (versions->draining || drain_next(versions)) {
        struct version *version = versions->draining;
        while (version->dead && steps > 0) {
            struct dead_chunk *chunk = version->dead;
            version->dead = chunk->next;
            steps -= steps < chunk->count ? steps : (size_t)chunk->count;
            drain_chunk(versions, chunk);
        }
        if (version->dead)
            return true;
        versions->draining = NULL;
        versions->count--;
        versions->gone(versions->context, version);
        steps -= steps > 0;
        if (steps == 0)
            return versions->dying_first != NULL;
    }
    return false;
}
