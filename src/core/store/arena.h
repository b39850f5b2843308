/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - where every block of one registry comes from.
 *
 * Small blocks (up to ARENA_SMALL_BYTES) are carved from 64 KiB spans, each span for one block size, spans from chunks
 * of up to 2 MiB that become huge pages once they are full. A freed block goes on its size's free list. Larger blocks
 * come straight from the allocator hook.
 *
 * RESERVE, THEN CHANGE. arena_reserve is the only call for small blocks that can fail. A change calls it once before
 * its first step; after that, arena_take of small blocks cannot fail for as many blocks as one change can need: at most
 * 150 nodes, 70 pages of buckets (two index splits of five buckets each, every path seen by a snapshot), 50 other
 * pages, and texts of four sizes. So for want of memory a change is undone nowhere: it either does not start or it
 * happens.
 *
 * Called with the recorder's mutex held, or by the one last owner of a registry.
 */
#ifndef ARENA_H
#define ARENA_H

#include <presence/presence.h>

enum {
    ARENA_SPAN_BYTES = 64 * 1024,
    ARENA_CHUNK_BYTES = 2 * 1024 * 1024,
    ARENA_SMALL_BYTES = 3072,
    ARENA_SIZES = ARENA_SMALL_BYTES / 8 + 1,
#ifdef PRESENCE_GUARD_PAGES
    ARENA_RESERVED_SPANS = 28 /* only fifteen guarded blocks fit a span */
#else
    ARENA_RESERVED_SPANS = 15 /* ten for pages and nodes, the others for a first block of each size used */
#endif
};

/* A part of single calls. The compiler lays these side by side, on few pages: a call that comes seldom finds neither
 * them nor the addresses of their pages in the caches. */
#define SINGLE_CALL __attribute__((hot))

/* Asks for a cache line. Without the empty statement gcc takes a function that only prefetches for one without effect,
 * and drops its calls. */
static inline void memory_prefetch(const void *address)
{
    __builtin_prefetch(address);
    __asm__ volatile("" : : "r"(address));
}

struct arena_span;
struct arena_chunk;
struct arena_large;

struct arena_size {
    void *free;              /* blocks to use again, linked through their first word */
    struct arena_span *open; /* the span that is being carved */
    uint32_t carved, carvable;
    uint32_t free_count;
};

struct arena {
    presence_allocator memory;
    size_t limit_bytes;            /* 0: none */
    size_t taken_bytes;            /* from the hook */
    size_t used_bytes;             /* in blocks given out */
    uint64_t given_bytes;          /* ever given back */
    uint64_t given_bytes_at_look;  /* when a reserve last looked for empty spans among the free blocks */
    struct arena_chunk *chunks;    /* newest first */
    struct arena_chunk *opening;   /* the oldest with a span that was never in use; newer ones have only such */
    struct arena_span *free_spans; /* that were in use before */
    struct arena_large *large;
    uint32_t free_span_count; /* of both */
    bool seen;                /* some view is held, or not yet worked off: versions.c says so */
    struct arena_size sizes[ARENA_SIZES];
#ifdef PRESENCE_GUARD_PAGES
    struct arena_guard *guard;
#endif
};

/* Tests set this to have every recorder made afterwards take memory in chunks of so many bytes (a multiple of the
 * span), so that its allocations are many. 0: the default. */
extern size_t arena_test_chunk_bytes;

void arena_init(struct arena *arena, const presence_allocator *memory, size_t limit_bytes);
/* Returns everything to the hook, blocks in use too. */
void arena_free(struct arena *arena);

/* PRESENCE_OK, PRESENCE_E_NO_MEMORY or PRESENCE_E_LIMIT. O(1); rarely a call of the hook. */
int arena_reserve_slow(struct arena *arena);
static inline bool arena_is_short(const struct arena *arena)
{
    return arena->free_span_count < ARENA_RESERVED_SPANS;
}

static inline int arena_reserve(struct arena *arena)
{
    return __builtin_expect(arena_is_short(arena), 0) ? arena_reserve_slow(arena) : PRESENCE_OK;
}

/* Reserves for one change that makes the record larger and one that does not, before a limit is set or lowered. */
int arena_set_aside(struct arena *arena);
/* As arena_reserve, for changes that make the record larger: with a limit, these leave one reserve for those that do
 * not, so that at the limit connections can still be stamped and removed. */
int arena_reserve_to_grow(struct arena *arena);

/* A block of `bytes`, aligned to 8 (to 64 where bytes is a multiple of 64). Never NULL up to ARENA_SMALL_BYTES under a
 * reserve; NULL for a larger one that cannot be had. */
void *arena_take(struct arena *arena, size_t bytes);
void arena_give(struct arena *arena, void *block, size_t bytes);

/* Why a large block could not be had: PRESENCE_E_LIMIT or PRESENCE_E_NO_MEMORY. */
static inline int arena_no_memory_code(const struct arena *arena, size_t bytes)
{
    return arena->limit_bytes && arena->taken_bytes + bytes > arena->limit_bytes ? PRESENCE_E_LIMIT
                                                                                 : PRESENCE_E_NO_MEMORY;
}

/* Returns spans and chunks that hold nothing. O(free blocks + chunks). */
void arena_trim(struct arena *arena);
/* Makes a huge page of one full chunk that is none, now: some 0.5 ms, or 6 where a host backs memory late. False: of
 * none is that to be hoped. */
bool arena_make_huge(struct arena *arena);

/* NULL, or what is wrong. O(chunks, larger blocks and free spans). */
const char *arena_check(const struct arena *arena);

/* Objects that live outside the arena (views, watches) come straight from a hook. */
void *memory_take(const presence_allocator *memory, size_t bytes);
void memory_give(const presence_allocator *memory, void *block, size_t bytes);
extern const presence_allocator memory_default;

#ifdef PRESENCE_GUARD_PAGES
/* Write-protects every page and node block taken since the last call: a snapshot can see them now. */
void arena_guard_protect(struct arena *arena);
bool arena_guards_size(size_t bytes);
/* There is no snapshot, and blocks are about to be changed where they are. */
void arena_guard_open(struct arena *arena);
#endif

#endif
