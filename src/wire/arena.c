/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c - the memory that messages are decoded and encoded in.
 *
 * Keeps true: pieces are aligned to 8 bytes, lie apart, and stay where they are until the arena is reset. After a reset
 * one block holds as much as the last message took in several, so that messages of a usual size take no memory from
 * the system. Used by one thread at a time. Costs: a piece is a few instructions; a reset is O(blocks), usually one.
 */
#include "arena.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_IS_POISONED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_IS_POISONED 1
#endif
#endif

#ifdef ARENA_IS_POISONED
#include <sanitizer/asan_interface.h>
#endif

enum {
    FIRST_BLOCK_BYTES = 64 * 1024,
    LARGE_PIECE_BYTES = 16 * 1024,
    ALIGNMENT = 8,
    BLOCK_HEAD = offsetof(struct wire_block, contents)
};

_Static_assert(_Alignof(presence_change) <= ALIGNMENT && _Alignof(struct wire_stand) <= ALIGNMENT,
               "pieces are aligned for what lies in them");

static void close_memory(void *from, size_t bytes)
{
#ifdef ARENA_IS_POISONED
    __asan_poison_memory_region(from, bytes);
#else
    (void)from;
    (void)bytes;
#endif
}

static void open_memory(void *from, size_t bytes)
{
#ifdef ARENA_IS_POISONED
    __asan_unpoison_memory_region(from, bytes);
#else
    (void)from;
    (void)bytes;
#endif
}

static void *system_allocate(void *context, size_t bytes, size_t alignment)
{
    (void)context;
    (void)alignment; /* never more than malloc's own */
    return malloc(bytes);
}

static void system_release(void *context, void *memory, size_t bytes, size_t alignment)
{
    (void)context;
    (void)bytes;
    (void)alignment;
    free(memory);
}

static void *generated_allocate(void *arena, size_t bytes)
{
    return wire_arena_take(arena, bytes);
}

/* The generated code gives back what it no longer needs; the arena takes all back at once. */
static void generated_free(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

struct wire_arena *wire_arena_new(void)
{
    const presence_allocator memory = {.allocate = system_allocate, .release = system_release};
    return wire_arena_new_from(&memory);
}

struct wire_arena *wire_arena_new_from(const presence_allocator *memory)
{
    struct wire_arena *arena = memory->allocate(memory->context, sizeof *arena, _Alignof(struct wire_arena));
    if (!arena)
        return NULL;
    *arena = (struct wire_arena){
        .memory = *memory,
        .generated = {.alloc = generated_allocate, .free = generated_free, .allocator_data = arena},
        .next_bytes = FIRST_BLOCK_BYTES,
        .left_bytes = SIZE_MAX,
    };
    return arena;
}

static void free_blocks(struct wire_arena *arena)
{
    while (arena->blocks) {
        struct wire_block *block = arena->blocks;
        arena->blocks = block->next;
        open_memory(block, block->bytes);
        arena->memory.release(arena->memory.context, block, block->bytes, _Alignof(struct wire_block));
    }
    arena->at = arena->end = NULL;
}

void wire_arena_free(struct wire_arena *arena)
{
    if (!arena)
        return;
    free_blocks(arena);
    presence_allocator memory = arena->memory;
    memory.release(memory.context, arena, sizeof *arena, _Alignof(struct wire_arena));
}

void wire_arena_reset(struct wire_arena *arena)
{
    if (arena->blocks && arena->blocks->next) {
        size_t sum = 0;
        for (const struct wire_block *block = arena->blocks; block; block = block->next)
            sum += block->bytes;
        free_blocks(arena);
        arena->next_bytes = sum;
    } else if (arena->blocks) {
        arena->at = (uint8_t *)arena->blocks->contents;
        close_memory(arena->at, (size_t)(arena->end - arena->at));
    }
    wire_arena_begin(arena, SIZE_MAX);
}

void wire_arena_begin(struct wire_arena *arena, size_t most_bytes)
{
    arena->left_bytes = most_bytes;
    arena->error = WIRE_OK;
}

static void *refuse(struct wire_arena *arena, int error)
{
    if (!arena->error)
        arena->error = error;
    return NULL;
}

static struct wire_block *new_block(struct wire_arena *arena, size_t bytes)
{
    struct wire_block *block = arena->memory.allocate(arena->memory.context, bytes, _Alignof(struct wire_block));
    if (block)
        *block = (struct wire_block){.bytes = bytes};
    return block;
}

/* Twice as large as the last one, but no more than this message may take, if there is memory for it. */
static bool add_block(struct wire_arena *arena, size_t piece)
{
    size_t least = BLOCK_HEAD + piece, bytes = arena->next_bytes;
    if (bytes - BLOCK_HEAD > arena->left_bytes)
        bytes = BLOCK_HEAD + arena->left_bytes;
    if (bytes < least)
        bytes = least;
    struct wire_block *block = new_block(arena, bytes);
    if (!block && bytes > least)
        block = new_block(arena, least);
    if (!block)
        return false;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->at = (uint8_t *)block->contents;
    arena->end = (uint8_t *)block + block->bytes;
    if (arena->next_bytes <= SIZE_MAX / 2)
        arena->next_bytes *= 2;
    close_memory(arena->at, (size_t)(arena->end - arena->at));
    return true;
}

/* A large piece gets a block of its own behind the first one, so that little is left unused at the ends of blocks. */
static uint8_t *take_large(struct wire_arena *arena, size_t piece)
{
    struct wire_block *block = new_block(arena, BLOCK_HEAD + piece);
    if (!block)
        return NULL;
    block->next = arena->blocks->next;
    arena->blocks->next = block;
    close_memory(block->contents, piece);
    return (uint8_t *)block->contents;
}

static uint8_t *take_small(struct wire_arena *arena, size_t piece)
{
    if (piece > (size_t)(arena->end - arena->at) && !add_block(arena, piece))
        return NULL;
    uint8_t *at = arena->at;
    arena->at += piece;
    return at;
}

void *wire_arena_take(struct wire_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return refuse(arena, WIRE_E_NO_MEMORY);
    size_t taken = (bytes + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (taken > arena->left_bytes)
        return refuse(arena, WIRE_E_MALFORMED);
    bool is_large = arena->blocks && taken >= LARGE_PIECE_BYTES && taken > (size_t)(arena->end - arena->at);
    uint8_t *piece = is_large ? take_large(arena, taken) : take_small(arena, taken);
    if (!piece)
        return refuse(arena, WIRE_E_NO_MEMORY);
    arena->left_bytes -= taken;
    open_memory(piece, bytes + 1);
    assert((uintptr_t)piece % ALIGNMENT == 0);
    return piece;
}
