/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.c - numbers in text. Pure functions for any thread; cost is the length, which is at most 20 digits.
 */
#include "base/slice.h"

bool slice_to_number(struct slice slice, uint64_t *number)
{
    if (slice.length == 0 || slice.length > 20)
        return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < slice.length; i++) {
        unsigned digit = (unsigned char)slice.text[i] - (unsigned)'0';
        if (digit > 9)
            return false;
        /* Only the twentieth digit can carry it over. */
        if (i == 19 && (__builtin_mul_overflow(sum, (uint64_t)10, &sum) || __builtin_add_overflow(sum, digit, &sum)))
            return false;
        if (i < 19)
            sum = sum * 10 + digit;
    }
    *number = sum;
    return true;
}
