/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - names and user data: what is allowed, how they are hashed, how they are kept.
 *
 * A kept text is an immutable block of the registry's arena: birth and length in one word, the bytes, a NUL.
 */
#ifndef TEXT_H
#define TEXT_H

#include <presence/presence.h>

#include <stdbool.h>
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

static inline uint64_t text_word(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint64_t text_half_word(const char *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* As memcmp says it, without a call: names are short. The last word may overlap the one before. */
static inline bool text_same_bytes(const char *a, const char *b, size_t length)
{
    if (length >= 8) {
        for (size_t i = 0; i + 8 < length; i += 8)
            if (text_word(a + i) != text_word(b + i))
                return false;
        return text_word(a + length - 8) == text_word(b + length - 8);
    }
    if (length >= 4)
        return text_half_word(a) == text_half_word(b) &&
               text_half_word(a + length - 4) == text_half_word(b + length - 4);
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

static inline bool text_equals(const struct text *text, const char *bytes, size_t length)
{
    return text_length(text) == length && text_same_bytes(text->bytes, bytes, length);
}

/* What a caller passes: bytes and length of a valid name or user data. */
struct span {
    const char *bytes;
    size_t length;
};

/* NULL: valid, *out filled. Else what is wrong, e.g. "is empty". A NULL name is wrong, NULL user data is "". */
const char *text_check_name(const char *name, struct span *out);
const char *text_check_data(const char *data, struct span *out);

/* For look-ups: the name as it is, not yet checked but for its length. What is found by it is known to be valid, and
 * only what is not found need be checked. False: NULL, empty or too long. */
static inline bool text_measure_name(const char *name, struct span *out)
{
    size_t length = name ? strnlen(name, TEXT_NAME_BYTES + 1) : 0;
    *out = (struct span){name, length};
    return length > 0 && length <= TEXT_NAME_BYTES;
}

/* SipHash-1-3 of the bytes under a 128-bit key: for digests, which nodes exchange. */
uint64_t text_sip_hash(const uint64_t key[2], const void *bytes, size_t length);

static inline uint64_t text_fold(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The hash of a name in the recorder's own indexes: folded 128-bit products under a secret that never leaves the
 * process, as in wyhash and foldhash. Agents choose their names, but see no hash and no order that follows from one. */
static inline uint64_t text_hash(const uint64_t key[2], const char *bytes, size_t length)
{
    uint64_t seed = key[0] ^ length, a = 0, b = 0;
    if (length >= 8) {
        const char *last = bytes + length - 8;
        for (; bytes + 16 < last; bytes += 16)
            seed = text_fold(text_word(bytes) ^ key[1], text_word(bytes + 8) ^ seed);
        if (bytes + 8 < last)
            seed = text_fold(text_word(bytes) ^ key[1], text_word(bytes + 8) ^ seed);
        a = text_word(last);
        b = text_word(bytes);
    } else if (length >= 4) {
        a = text_half_word(bytes);
        b = text_half_word(bytes + length - 4);
    } else if (length > 0) {
        a = (uint64_t)(uint8_t)bytes[0] << 16 | (uint64_t)(uint8_t)bytes[length / 2] << 8 | (uint8_t)bytes[length - 1];
    }
    seed = text_fold(a ^ key[1], b ^ seed ^ 0x9e3779b97f4a7c15u);
    return text_fold(seed ^ 0xd6e8feb86659fd93u, key[1] ^ length);
}

/* A keyed mix of two words; for keys that agents do not choose. */
static inline uint64_t text_mix(const uint64_t key[2], uint64_t a, uint64_t b)
{
    uint64_t folded = text_fold(a ^ key[0], (b + 0x9e3779b97f4a7c15u) ^ key[1]);
    return text_fold(folded ^ key[1], 0xd6e8feb86659fd93u ^ b);
}

#endif
