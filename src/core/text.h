/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - names and user data: what is allowed, how they are hashed, how they are kept.
 *
 * A kept text is an immutable block of the registry's arena: birth and length in one word, the bytes, a NUL.
 */
#ifndef TEXT_H
#define TEXT_H

#include <presence/presence.h>

#include <string.h>

enum { TEXT_NAME_BYTES = 1024, TEXT_DATA_BYTES = 65535 };

struct text {
    uint64_t born_length; /* epoch << 16 | length */
    char bytes[];
};

static inline size_t text_length(const struct text *text)
{
    return text->born_length & 0xffff;
}

static inline uint64_t text_born(const struct text *text)
{
    return text->born_length >> 16;
}

static inline size_t text_block_bytes(size_t length)
{
    return sizeof(struct text) + length + 1;
}

static inline bool text_equals(const struct text *text, const char *bytes, size_t length)
{
    return text_length(text) == length && memcmp(text->bytes, bytes, length) == 0;
}

/* What a caller passes: bytes and length of a valid name or user data. */
struct span {
    const char *bytes;
    size_t length;
};

/* NULL: valid, *out filled. Else what is wrong, e.g. "is empty". A NULL name is wrong, NULL user data is "". */
const char *text_check_name(const char *name, struct span *out);
const char *text_check_data(const char *data, struct span *out);

/* SipHash-1-3 of the bytes under a 128-bit key. */
uint64_t text_hash(const uint64_t key[2], const void *bytes, size_t length);

/* A keyed mix of two words; for keys that agents do not choose. */
static inline uint64_t text_mix(const uint64_t key[2], uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)(a ^ key[0]) * ((b + 0x9e3779b97f4a7c15u) ^ key[1]);
    uint64_t folded = (uint64_t)product ^ (uint64_t)(product >> 64);
    product = (__uint128_t)(folded ^ key[1]) * (0xd6e8feb86659fd93u ^ b);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#endif
