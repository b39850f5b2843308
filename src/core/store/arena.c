/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c - spans, chunks and free lists; see arena.h for what they promise.
 *
 * Keeps true: used_bytes is the sum of the blocks given out; taken_bytes what the hook gave; a span serves one size.
 * The fast paths (take, give) touch the free list's head and the block, nothing else: no counter beside the block, so a
 * random free costs the one cache miss of the block itself. What lies empty is found by arena_trim, on request.
 *
 * With PRESENCE_GUARD_PAGES each page or node block stands on an operating-system page of its own, and is
 * write-protected once a snapshot can see it, so that a stray write faults where it happens.
 */
#define _GNU_SOURCE
#include "store/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; glibc names it from 2.37 on */
#endif

size_t arena_test_chunk_bytes;

struct arena_span {
    struct arena_span *next; /* among the free spans, or while trimming */
    struct arena_chunk *chunk;
    uint32_t block_bytes;
    uint32_t carved; /* blocks ever handed out of it; kept here once it is no longer the open one */
    uint32_t free;   /* counted by arena_trim */
};

enum { SPAN_HEADER_BYTES = 64 };

struct arena_chunk {
    struct arena_chunk *next, *prev;
    char *base;
    size_t bytes, alignment;
    uint32_t spans, free_spans; /* free_spans: counted by arena_trim */
    uint32_t opened;            /* spans that were ever in use: the first ones; the others were not yet written to */
    bool huge;                  /* made a huge page, as far as the system does; or no memory to advise on */
};

struct arena_large {
    struct arena_large *next, *prev;
    size_t bytes;
    size_t reserved_word; /* keeps what follows aligned to 16 */
};

/* ------------------------------------------------------------------------------------------------ default hook -- */

/* Big aligned memory straight from the system, so that a chunk is one huge page where the system has them, and a large
 * ring is some. */
static void *map_aligned(size_t bytes, size_t alignment)
{
    size_t total = bytes + alignment;
    char *raw = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    char *base = (char *)(((uintptr_t)raw + alignment - 1) & ~(uintptr_t)(alignment - 1));
    if (base > raw)
        munmap(raw, (size_t)(base - raw));
    if (base + bytes < raw + total)
        munmap(base + bytes, (size_t)(raw + total - (base + bytes)));
    if (bytes >= ARENA_CHUNK_BYTES)
        madvise(base, bytes, MADV_HUGEPAGE);
    return base;
}

static void *default_allocate(void *context, size_t bytes, size_t alignment)
{
    (void)context;
    if (alignment >= ARENA_SPAN_BYTES)
        return map_aligned(bytes, alignment);
    if (alignment <= _Alignof(max_align_t))
        return malloc(bytes);
    void *block = NULL;
    return posix_memalign(&block, alignment, bytes) == 0 ? block : NULL;
}

static void default_release(void *context, void *memory, size_t bytes, size_t alignment)
{
    (void)context;
    if (alignment >= ARENA_SPAN_BYTES)
        munmap(memory, bytes);
    else
        free(memory);
}

const presence_allocator memory_default = {default_allocate, default_release, NULL};

void *memory_take(const presence_allocator *memory, size_t bytes)
{
    return memory->allocate(memory->context, bytes, _Alignof(max_align_t));
}

void memory_give(const presence_allocator *memory, void *block, size_t bytes)
{
    if (block)
        memory->release(memory->context, block, bytes, _Alignof(max_align_t));
}

/* ------------------------------------------------------------------------------------------------------- guard -- */

#ifdef PRESENCE_GUARD_PAGES
enum { GUARD_PAGE_BYTES = 4096, GUARD_MOST = 20000 };

struct arena_guard {
    void **fresh; /* blocks taken since the last snapshot */
    size_t count, room;
    size_t protected_pages;
};

/* The last words of a guarded block's page say whether it is in use and protected. */
struct guard_mark {
    uint32_t in_use, protected;
};

bool arena_guards_size(size_t bytes)
{
    return bytes == 392 || bytes == 640 || bytes == 768 || bytes == 1024 || bytes == 2048 || bytes == 2304 ||
           bytes == 3072;
}

static struct guard_mark *guard_mark(void *block)
{
    return (struct guard_mark *)((char *)block + GUARD_PAGE_BYTES - sizeof(struct guard_mark));
}

static void guard_taken(struct arena *arena, void *block)
{
    struct arena_guard *guard = arena->guard;
    guard_mark(block)->in_use = 1;
    if (!guard)
        return;
    if (guard->count == guard->room) {
        size_t room = guard->room ? guard->room * 2 : 256;
        void **fresh = realloc(guard->fresh, room * sizeof *fresh);
        if (!fresh)
            return;
        guard->fresh = fresh;
        guard->room = room;
    }
    guard->fresh[guard->count++] = block;
}

static void guard_given(struct arena *arena, void *block)
{
    if (guard_mark(block)->protected) {
        mprotect(block, GUARD_PAGE_BYTES, PROT_READ | PROT_WRITE);
        if (arena->guard)
            arena->guard->protected_pages--;
    }
    *guard_mark(block) = (struct guard_mark){0, 0};
}

void arena_guard_protect(struct arena *arena)
{
    struct arena_guard *guard = arena->guard;
    if (!guard)
        return;
    for (size_t i = 0; i < guard->count; i++) {
        struct guard_mark *mark = guard_mark(guard->fresh[i]);
        if (!mark->in_use || mark->protected || guard->protected_pages >= GUARD_MOST)
            continue;
        mark->protected = 1;
        if (mprotect(guard->fresh[i], GUARD_PAGE_BYTES, PROT_READ) == 0)
            guard->protected_pages++;
        else
            mark->protected = 0;
    }
    guard->count = 0;
}

static void guard_init(struct arena *arena)
{
    arena->guard = calloc(1, sizeof *arena->guard);
}

static void guard_free(struct arena *arena)
{
    if (arena->guard)
        free(arena->guard->fresh);
    free(arena->guard);
}
#endif

/* -------------------------------------------------------------------------------------------------- the arena -- */

void arena_init(struct arena *arena, const presence_allocator *memory, size_t limit_bytes)
{
    memset(arena, 0, sizeof *arena);
    arena->memory = *memory;
    arena->limit_bytes = limit_bytes;
#ifdef PRESENCE_GUARD_PAGES
    guard_init(arena);
#endif
}

#ifdef PRESENCE_GUARD_PAGES
void arena_guard_open(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
        mprotect(chunk->base, chunk->bytes, PROT_READ | PROT_WRITE);
}
#endif

static void chunk_release(struct arena *arena, struct arena_chunk *chunk)
{
#ifdef PRESENCE_GUARD_PAGES
    mprotect(chunk->base, chunk->bytes, PROT_READ | PROT_WRITE);
#endif
    arena->taken_bytes -= chunk->bytes + sizeof *chunk;
    arena->memory.release(arena->memory.context, chunk->base, chunk->bytes, chunk->alignment);
    memory_give(&arena->memory, chunk, sizeof *chunk);
}

void arena_free(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        chunk_release(arena, chunk);
    }
    for (struct arena_large *large = arena->large, *next; large; large = next) {
        next = large->next;
        memory_give(&arena->memory, large, large->bytes + sizeof *large);
    }
#ifdef PRESENCE_GUARD_PAGES
    guard_free(arena);
#endif
    memset(arena, 0, sizeof *arena);
}

/* ---- A chunk is a huge page in the end, which spares look-ups of addresses; but it does not begin as one. The first
 * write to a huge page takes the system as long as clearing all of it, 0.2 ms, and, where a host backs its guest's
 * memory only then, 6 ms (docs/performance.md): that would be one connect in twenty thousand. So a chunk grows by pages
 * of 4 KiB, and the system is asked for the huge one when it is full: it then makes it beside us, in its own time, or
 * at once where somebody asks for that (arena_make_huge). Only of memory that is not a user's. All of it is advice, and
 * may be refused. */

/* False: the memory is not ours to advise on. */
static bool ask_for_small_pages(const struct arena *arena, const struct arena_chunk *chunk)
{
    if (arena->memory.allocate != default_allocate || chunk->bytes != ARENA_CHUNK_BYTES)
        return false;
    (void)madvise(chunk->base, chunk->bytes, MADV_NOHUGEPAGE);
    return true;
}

/* The system makes it one when it comes to it. */
static void ask_for_huge_page(const struct arena_chunk *chunk)
{
    if (!chunk->huge)
        (void)madvise(chunk->base, chunk->bytes, MADV_HUGEPAGE);
}

bool arena_make_huge(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next) {
        if (chunk->huge || chunk->opened < chunk->spans)
            continue;
        (void)madvise(chunk->base, chunk->bytes, MADV_COLLAPSE);
        chunk->huge = true; /* or was refused: the system goes on trying by itself */
        return true;
    }
    return false;
}

/* Small at first, so that a small recorder stays small; then whole huge pages. */
static size_t next_chunk_bytes(const struct arena *arena)
{
    if (arena_test_chunk_bytes)
        return arena_test_chunk_bytes;
    size_t bytes = (ARENA_RESERVED_SPANS + 6) * (size_t)ARENA_SPAN_BYTES;
    while (bytes < ARENA_CHUNK_BYTES && bytes < arena->taken_bytes)
        bytes *= 2;
    return bytes < ARENA_CHUNK_BYTES ? bytes : ARENA_CHUNK_BYTES;
}

static int add_chunk(struct arena *arena)
{
    size_t bytes = next_chunk_bytes(arena);
    if (arena->limit_bytes) {
        size_t taken = arena->taken_bytes + sizeof(struct arena_chunk);
        size_t left = taken < arena->limit_bytes ? arena->limit_bytes - taken : 0;
        bytes = left < bytes ? left / ARENA_SPAN_BYTES * ARENA_SPAN_BYTES : bytes;
        if (bytes == 0)
            return PRESENCE_E_LIMIT;
    }
    struct arena_chunk *chunk = memory_take(&arena->memory, sizeof *chunk);
    if (!chunk)
        return PRESENCE_E_NO_MEMORY;
    chunk->alignment = bytes == ARENA_CHUNK_BYTES ? ARENA_CHUNK_BYTES : ARENA_SPAN_BYTES;
    chunk->base = arena->memory.allocate(arena->memory.context, bytes, chunk->alignment);
    if (!chunk->base) {
        memory_give(&arena->memory, chunk, sizeof *chunk);
        return PRESENCE_E_NO_MEMORY;
    }
    chunk->bytes = bytes;
    chunk->spans = (uint32_t)(bytes / ARENA_SPAN_BYTES);
    chunk->opened = 0;
    chunk->huge = !ask_for_small_pages(arena, chunk);
    chunk->prev = NULL;
    chunk->next = arena->chunks;
    if (arena->chunks)
        arena->chunks->prev = chunk;
    arena->chunks = chunk;
    arena->taken_bytes += bytes + sizeof *chunk;
    if (!arena->opening)
        arena->opening = chunk;
    arena->free_span_count += chunk->spans;
    return PRESENCE_OK;
}

/* One that was in use before, or the next that never was: a chunk is filled before the one after it is begun. */
static struct arena_span *take_span(struct arena *arena)
{
    struct arena_span *span = arena->free_spans;
    struct arena_chunk *chunk = arena->opening;
    if (span) {
        arena->free_spans = span->next;
    } else {
        assert(chunk && "a change took more blocks than were reserved for it");
        span = (struct arena_span *)(void *)(chunk->base + (size_t)chunk->opened++ * ARENA_SPAN_BYTES);
        span->chunk = chunk;
        if (chunk->opened == chunk->spans) {
            arena->opening = chunk->prev;
            ask_for_huge_page(chunk);
        }
    }
    arena->free_span_count--;
    return span;
}

static void trim_size(struct arena *arena, struct arena_size *size);

/* Among the free blocks there may be whole spans. Looks for them only if so much was freed since the last look. */
static void collect_spans(struct arena *arena, uint64_t least)
{
    if (arena->given_bytes - arena->given_bytes_at_look < least)
        return;
    for (size_t i = 0; i < ARENA_SIZES; i++)
        trim_size(arena, &arena->sizes[i]);
    arena->given_bytes_at_look = arena->given_bytes;
}

static size_t block_stride(size_t bytes)
{
#ifdef PRESENCE_GUARD_PAGES
    if (arena_guards_size(bytes))
        return GUARD_PAGE_BYTES;
#endif
    return bytes;
}

static uint32_t blocks_a_span(size_t bytes)
{
    size_t stride = block_stride(bytes);
    size_t first = stride == bytes ? SPAN_HEADER_BYTES : stride;
    return (uint32_t)((ARENA_SPAN_BYTES - first) / stride);
}

/* Near a limit there may be no empty spans, and free blocks enough all the same: those of the sizes that changes use
 * count for the spans that they save. */
enum { DEAD_CHUNK_BYTES = 1008 }; /* of versions.c, which verifies it */

static bool is_covered(const struct arena *arena, uint32_t changes)
{
    static const struct {
        uint16_t bytes, blocks; /* what one change can need at most, in practice far less */
    } needs[] = {{1024, 150}, {2048, 70}, {DEAD_CHUNK_BYTES, 5}, {2304, 4}, {3072, 6}, {768, 20}, {640, 4}, {392, 12}};
    /* For texts. Near a limit, what does not make the record larger takes one at most: a server's name or downs. */
    uint32_t spans = arena->limit_bytes && changes == 1 ? 1 : 4;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        if (needs[i].bytes == DEAD_CHUNK_BYTES && !arena->seen)
            continue; /* nothing is retired where no view is held */
        const struct arena_size *size = &arena->sizes[needs[i].bytes / 8];
        uint32_t wanted = needs[i].blocks * changes, have = size->free_count + size->carvable - size->carved;
        if (have < wanted)
            spans += (wanted - have) / blocks_a_span(needs[i].bytes) + 1;
    }
    return arena->free_span_count >= spans;
}

static int reserve(struct arena *arena, uint32_t changes)
{
    while (arena->free_span_count < ARENA_RESERVED_SPANS * changes) {
        int code = add_chunk(arena);
        if (!code)
            continue;
        if (is_covered(arena, changes))
            return PRESENCE_OK;
        collect_spans(arena, changes == 1 ? 1 : ARENA_SPAN_BYTES);
        return is_covered(arena, changes) ? PRESENCE_OK : code;
    }
    return PRESENCE_OK;
}

int arena_reserve_slow(struct arena *arena)
{
    return reserve(arena, 1);
}

int arena_set_aside(struct arena *arena)
{
    return reserve(arena, 2);
}

int arena_reserve_to_grow(struct arena *arena)
{
    return arena->limit_bytes ? reserve(arena, 2) : PRESENCE_OK;
}

static char *span_block(struct arena_span *span, size_t bytes, uint32_t i)
{
    size_t stride = block_stride(bytes);
    size_t first = stride == bytes ? SPAN_HEADER_BYTES : stride;
    return (char *)span + first + i * stride;
}

static void open_span(struct arena *arena, struct arena_size *size, size_t bytes)
{
    struct arena_span *span = take_span(arena);
    if (size->open)
        size->open->carved = size->carved;
    span->block_bytes = (uint32_t)bytes;
    size->open = span;
    size->carved = 0;
    size->carvable = blocks_a_span(bytes);
}

static void *take_large(struct arena *arena, size_t bytes)
{
    if (arena->limit_bytes && arena->taken_bytes + bytes > arena->limit_bytes)
        return NULL;
    struct arena_large *large = memory_take(&arena->memory, bytes + sizeof *large);
    if (!large)
        return NULL;
    *large = (struct arena_large){arena->large, NULL, bytes, 0};
    if (arena->large)
        arena->large->prev = large;
    arena->large = large;
    arena->taken_bytes += bytes + sizeof *large;
    arena->used_bytes += bytes;
    return large + 1;
}

static void give_large(struct arena *arena, void *block)
{
    struct arena_large *large = (struct arena_large *)block - 1;
    if (large->prev)
        large->prev->next = large->next;
    else
        arena->large = large->next;
    if (large->next)
        large->next->prev = large->prev;
    arena->taken_bytes -= large->bytes + sizeof *large;
    arena->used_bytes -= large->bytes;
    memory_give(&arena->memory, large, large->bytes + sizeof *large);
}

SINGLE_CALL void *arena_take(struct arena *arena, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if (bytes > ARENA_SMALL_BYTES)
        return take_large(arena, bytes);
    struct arena_size *size = &arena->sizes[bytes / 8];
    void *block = size->free;
    if (block) {
        memcpy(&size->free, block, sizeof size->free);
        size->free_count--;
    } else {
        if (size->carved == size->carvable)
            open_span(arena, size, bytes);
        block = span_block(size->open, bytes, size->carved++);
    }
    arena->used_bytes += bytes;
#ifdef PRESENCE_GUARD_PAGES
    if (arena_guards_size(bytes))
        guard_taken(arena, block);
#endif
    return block;
}

SINGLE_CALL void arena_give(struct arena *arena, void *block, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if (bytes > ARENA_SMALL_BYTES) {
        give_large(arena, block);
        return;
    }
#ifdef PRESENCE_GUARD_PAGES
    if (arena_guards_size(bytes))
        guard_given(arena, block);
#endif
    struct arena_size *size = &arena->sizes[bytes / 8];
    memcpy(block, &size->free, sizeof size->free);
    size->free = block;
    size->free_count++;
    arena->used_bytes -= bytes;
    arena->given_bytes += bytes;
}

/* -------------------------------------------------------------------------------------------------------- trim -- */

static struct arena_span *span_of(void *block)
{
    return (struct arena_span *)((uintptr_t)block & ~(uintptr_t)(ARENA_SPAN_BYTES - 1));
}

static void *next_free(void *block)
{
    void *next;
    memcpy(&next, block, sizeof next);
    return next;
}

/* Takes the spans of one size that are wholly free off its list and makes them free spans. */
static void trim_size(struct arena *arena, struct arena_size *size)
{
    if (!size->free)
        return;
    if (size->open)
        size->open->carved = size->carved;
    for (void *block = size->free; block; block = next_free(block))
        span_of(block)->free = 0;
    for (void *block = size->free; block; block = next_free(block))
        span_of(block)->free++;
    void *keep = NULL, **tail = &keep;
    size->free_count = 0;
    struct arena_span *empty = NULL;
    for (void *block = size->free, *next; block; block = next) {
        next = next_free(block);
        struct arena_span *span = span_of(block);
        if (span->free < span->carved && span->free != UINT32_MAX) {
            memcpy(tail, &block, sizeof block);
            tail = block;
            size->free_count++;
        } else if (span->free != UINT32_MAX) { /* all of its blocks are on the list: take it at its first */
            span->free = UINT32_MAX;
            span->next = empty;
            empty = span;
        }
    }
    void *end = NULL;
    memcpy(tail, &end, sizeof end);
    size->free = keep;
    for (struct arena_span *span = empty, *next; span; span = next) {
        next = span->next;
        if (span == size->open) {
            size->open = NULL;
            size->carved = size->carvable = 0;
        }
        span->next = arena->free_spans;
        arena->free_spans = span;
        arena->free_span_count++;
    }
}

void arena_trim(struct arena *arena)
{
#ifdef PRESENCE_GUARD_PAGES
    if (arena->guard)
        arena->guard->count = 0; /* some of these blocks may go back to the hook */
#endif
    for (size_t i = 0; i < ARENA_SIZES; i++)
        trim_size(arena, &arena->sizes[i]);
    for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
        chunk->free_spans = chunk->spans - chunk->opened;
    for (struct arena_span *span = arena->free_spans; span; span = span->next)
        span->chunk->free_spans++;
    struct arena_span *keep = NULL;
    uint32_t kept = 0;
    for (struct arena_span *span = arena->free_spans, *next; span; span = next) {
        next = span->next;
        if (span->chunk->free_spans < span->chunk->spans) {
            span->next = keep;
            keep = span;
            kept++;
        }
    }
    arena->free_spans = keep;
    arena->free_span_count = kept;
    for (struct arena_chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        if (chunk->free_spans < chunk->spans) {
            arena->free_span_count += chunk->spans - chunk->opened;
            continue;
        }
        if (chunk == arena->opening)
            arena->opening = chunk->prev;
        if (chunk->prev)
            chunk->prev->next = chunk->next;
        else
            arena->chunks = chunk->next;
        if (chunk->next)
            chunk->next->prev = chunk->prev;
        chunk_release(arena, chunk);
    }
}

/* ------------------------------------------------------------------------------------------------------- check -- */

const char *arena_check(const struct arena *arena)
{
    uint64_t bytes = 0, never_used = 0, used_before = 0;
    bool newer = arena->opening; /* than the chunk that is being opened */
    for (const struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next) {
        bytes += chunk->bytes + sizeof *chunk;
        never_used += chunk->spans - chunk->opened;
        if (chunk == arena->opening ? chunk->opened == chunk->spans : chunk->opened != (newer ? 0 : chunk->spans))
            return "a chunk was begun before the one before it was full, or is full and being opened";
        newer = newer && chunk != arena->opening;
    }
    if (newer)
        return "a chunk is being opened that was given back";
    for (const struct arena_large *large = arena->large; large; large = large->next)
        bytes += large->bytes + sizeof *large;
    for (const struct arena_span *span = arena->free_spans; span && used_before <= arena->free_span_count;
         span = span->next)
        used_before++;
    if (never_used + used_before != arena->free_span_count)
        return "other spans are free than are counted";
    return bytes == arena->taken_bytes ? NULL : "other memory was taken from the allocator than is counted";
}
