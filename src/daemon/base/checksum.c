/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checksum.c - CRC-32C, by the processor's instruction where it has one (SSE 4.2), else by a table. Pure functions, any
 * thread; O(length).
 */
#include "base/checksum.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t rest = i;
        for (int bit = 0; bit < 8; bit++)
            rest = rest & 1 ? rest >> 1 ^ 0x82f63b78U : rest >> 1;
        table[i] = rest;
    }
}

uint32_t checksum_by_table(const void *data, size_t length)
{
    uint32_t sum = ~0U;
    pthread_once(&table_once, make_table);
    for (const unsigned char *byte = data; length > 0; length--, byte++)
        sum = sum >> 8 ^ table[(sum ^ *byte) & 0xff];
    return ~sum;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(const void *data, size_t length)
{
    uint64_t sum = ~0U, word;
    const char *at = data;
    for (; length >= sizeof word; at += sizeof word, length -= sizeof word) {
        memcpy(&word, at, sizeof word);
        sum = _mm_crc32_u64(sum, word);
    }
    for (; length > 0; at++, length--)
        sum = _mm_crc32_u8((uint32_t)sum, (unsigned char)*at);
    return ~(uint32_t)sum;
}
#endif

uint32_t checksum_of(const void *data, size_t length)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(data, length);
#endif
    return checksum_by_table(data, length);
}
