/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - a buffer that grows: replies on their way out, input that is not yet a whole command.
 *
 * Zeroed, it is empty and holds no memory. Running out of memory sets `failed`, and from then on appending does
 * nothing: whoever sends the buffer checks once, and hangs up rather than sending half a reply.
 */
#ifndef DAEMON_BASE_BYTES_H
#define DAEMON_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct bytes {
    char *data;
    size_t length, capacity;
    bool failed;
};

/* The slow half of bytes_reserve. */
char *bytes_grow(struct bytes *bytes, size_t more);

/* Room for `more` bytes behind the last one: where to write them, then add to `length`. NULL: out of memory. */
static inline char *bytes_reserve(struct bytes *bytes, size_t more)
{
    if (bytes->capacity - bytes->length >= more)
        return bytes->data + bytes->length;
    return bytes_grow(bytes, more);
}

static inline void bytes_append(struct bytes *bytes, const void *data, size_t length)
{
    char *room = length > 0 ? bytes_reserve(bytes, length) : NULL;
    if (!room)
        return;
    memcpy(room, data, length);
    bytes->length += length;
}

/* Takes the first `length` bytes away. O(what is left). */
void bytes_drop(struct bytes *bytes, size_t length);
/* Returns the memory and leaves it empty. */
void bytes_free(struct bytes *bytes);

#endif
