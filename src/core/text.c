/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.c - checking and hashing of names and user data. Pure functions, any thread, O(length).
 *
 * Digests are SipHash-1-3 (Aumasson and Bernstein's SipHash with the rounds that Rust uses for its hash tables), keyed
 * by the claim: they travel between nodes, so they must be the same everywhere and hard to collide on purpose.
 */
#include "text.h"

#include <stdbool.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The length of the valid UTF-8 sequence at `at`, or 0. Sets *scalar. At least one byte is there; ends by NUL. */
static size_t utf8_sequence(const unsigned char *at, uint32_t *scalar)
{
    if (at[0] < 0x80) {
        *scalar = at[0];
        return 1;
    }
    size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    uint32_t value = at[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0; /* also stops at the NUL of a truncated sequence */
        value = value << 6 | (at[i] & 0x3f);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *scalar = value;
    return length;
}

static bool is_control(uint32_t scalar)
{
    return scalar < 0x20 || (scalar >= 0x7f && scalar < 0xa0);
}

/* True if all eight bytes are printable ASCII. */
static bool plain_eight(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    const uint64_t high = 0x8080808080808080u;
    uint64_t below_space = word - 0x2020202020202020u; /* borrows set the high bit where a byte is below 0x20 */
    uint64_t is_delete = word + 0x0101010101010101u;   /* 0x7f becomes 0x80 */
    return ((word | below_space | is_delete) & high) == 0;
}

#ifdef __SSE2__
/* The same of sixteen. Bytes are compared as signed: those from 0x80 on are below zero. */
static inline bool plain_sixteen(__m128i bytes)
{
    __m128i fit = _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(0x1f)), _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x7f)));
    return _mm_movemask_epi8(fit) == 0xffff;
}
#endif

/* True if all of it is printable ASCII. The last bytes looked at may overlap those before. */
static inline bool plain(const char *bytes, size_t length)
{
    if (length < 8) {
        char padded[8] = "aaaaaaa";
        padded[7] = 'a';
        memcpy(padded, bytes, length);
        return plain_eight(padded);
    }
#ifdef __SSE2__
    if (length >= 16) {
        for (size_t i = 0; i + 16 < length; i += 16)
            if (!plain_sixteen(_mm_loadu_si128((const __m128i *)(const void *)(bytes + i))))
                return false;
        return plain_sixteen(_mm_loadu_si128((const __m128i *)(const void *)(bytes + length - 16)));
    }
#endif
    for (size_t i = 0; i + 8 < length; i += 8)
        if (!plain_eight(bytes + i))
            return false;
    return plain_eight(bytes + length - 8);
}

static const char *check_utf8(const char *bytes, size_t length, bool control_allowed)
{
    size_t i = 0;
    while (i < length) {
        if (length - i >= 8 && plain_eight(bytes + i)) {
            i += 8;
            continue;
        }
        uint32_t scalar;
        size_t step = utf8_sequence((const unsigned char *)bytes + i, &scalar);
        if (step == 0)
            return "is not valid UTF-8";
        if (!control_allowed && is_control(scalar))
            return "has a control character";
        i += step;
    }
    return NULL;
}

const char *text_check_name(const char *name, struct span *out)
{
    if (!name)
        return "is NULL";
    size_t length = strnlen(name, TEXT_NAME_BYTES + 1);
    if (length == 0)
        return "is empty";
    if (length > TEXT_NAME_BYTES)
        return "is longer than 1024 bytes";
    *out = (struct span){name, length};
    return plain(name, length) ? NULL : check_utf8(name, length, false);
}

const char *text_check_data(const char *data, struct span *out)
{
    if (!data)
        data = "";
    size_t length = strnlen(data, TEXT_DATA_BYTES + 1);
    if (length > TEXT_DATA_BYTES)
        return "is longer than 65535 bytes";
    *out = (struct span){data, length};
    return plain(data, length) ? NULL : check_utf8(data, length, true);
}

/* ------------------------------------------------------------------------------------------------------- hash -- */

static inline uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

/* SipHash reads its input as little-endian words: digests must agree between machines. */
static inline uint64_t little_endian(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

uint64_t text_sip_hash(const uint64_t key[2], const void *bytes, size_t length)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
                     key[1] ^ 0x7465646279746573u};
    const char *at = bytes;
    size_t left = length;
    uint64_t word;
    for (; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        word = little_endian(word);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    word = 0;
    memcpy(&word, at, left);
    word = little_endian(word) | (uint64_t)length << 56;
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
