/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory for one message at a time: handed out from the front of large blocks, taken back all at once.
 *
 * Behind each piece there is one byte more, which belongs to the piece: decoding writes the NUL of a name there instead
 * of copying the name once more. Built with the address sanitizer, what was not handed out must not be touched.
 */
#ifndef WIRE_ARENA_H
#define WIRE_ARENA_H

#include "wire.h"

#include <protobuf-c/protobuf-c.h>

/* What a message of so many bytes may take when it is decoded: ours need less, see encode.c. */
enum { WIRE_MEMORY_FACTOR = 40, WIRE_MEMORY_SPARE = 64 * 1024 };
/* Beside the generated code's struct decoding takes notes (twice 32 bytes) of each element, and makes one of ours. */
enum { WIRE_MORE_TO_DECODE = 176 };
_Static_assert(sizeof(struct wire_stand) <= 104 && sizeof(presence_change) <= 96 &&
                   sizeof(struct wire_connection) <= 96,
               "WIRE_MORE_TO_DECODE holds them");
static inline size_t wire_decoding_allowance(size_t length)
{
    return WIRE_MEMORY_FACTOR * length + WIRE_MEMORY_SPARE;
}

struct wire_block {
    struct wire_block *next;
    size_t bytes; /* all of it, this header too */
    uint64_t contents[];
};

struct wire_arena {
    presence_allocator memory;
    ProtobufCAllocator generated; /* what the generated code allocates from: this arena */
    struct wire_block *blocks;    /* pieces come from the first; large ones may have one of their own behind it */
    uint8_t *at, *end;            /* what is left of the first */
    size_t next_bytes;            /* of the next block */
    size_t left_bytes;            /* what this message may still take */
    int error;                    /* of this message: why a piece was refused, if one was */
};

/* Begins a message: from here on at most that many bytes are handed out, and arena->error is none. */
void wire_arena_begin(struct wire_arena *arena, size_t most_bytes);
/* `bytes` bytes, not zeroed, aligned for everything in a message. NULL, and arena->error tells why: MALFORMED (over the
 * limit: no message of ours needs that much), or NO_MEMORY. */
void *wire_arena_take(struct wire_arena *arena, size_t bytes);

#endif
