/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.c - a buffer that grows by doubling. Each buffer is used by one thread at a time. Appending is O(length).
 */
#include "base/bytes.h"

#include <stdint.h>
#include <stdlib.h>

enum { LEAST_BYTES = 256 };

char *bytes_grow(struct bytes *bytes, size_t more)
{
    size_t wanted, capacity = bytes->capacity ? bytes->capacity : LEAST_BYTES;
    if (bytes->failed || __builtin_add_overflow(bytes->length, more, &wanted) || wanted > SIZE_MAX / 4) {
        bytes->failed = true;
        return NULL;
    }
    while (capacity < wanted)
        capacity *= 2;
    char *data = realloc(bytes->data, capacity);
    if (!data) {
        bytes->failed = true;
        return NULL;
    }
    bytes->data = data;
    bytes->capacity = capacity;
    return data + bytes->length;
}

void bytes_drop(struct bytes *bytes, size_t length)
{
    if (length == 0)
        return;
    bytes->length -= length;
    memmove(bytes->data, bytes->data + length, bytes->length);
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}
