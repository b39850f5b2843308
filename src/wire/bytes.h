/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - the few things of which messages are made, as Protocol Buffers lays them out: numbers of seven bits a byte,
 * and what stands before each field.
 */
#ifndef WIRE_BYTES_H
#define WIRE_BYTES_H

#include <stddef.h>
#include <stdint.h>

enum { MOST_NUMBER_BYTES = 10 };
enum wire_type { TYPE_NUMBER = 0, TYPE_64_BITS = 1, TYPE_COUNTED = 2, TYPE_32_BITS = 5 };

/* How many bytes the number takes; 0: it does not end. */
static inline size_t read_number(const uint8_t *at, size_t left, uint64_t *number)
{
    if (left > 0 && at[0] < 0x80) {
        *number = at[0];
        return 1;
    }
    *number = 0;
    for (size_t used = 0; used < left && used < MOST_NUMBER_BYTES; used++) {
        *number |= (uint64_t)(at[used] & 0x7f) << (7 * used);
        if (!(at[used] & 0x80))
            return used + 1;
    }
    return 0;
}

static inline size_t number_bytes(uint64_t number)
{
    return (size_t)(63 - __builtin_clzll(number | 1)) / 7 + 1;
}

static inline uint8_t *write_number(uint8_t *at, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        *at++ = (uint8_t)(number | 0x80);
    *at++ = (uint8_t)number;
    return at;
}

#endif
