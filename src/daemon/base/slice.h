/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.h - a piece of somebody else's text.
 *
 * A slice owns nothing. Those that the RESP parser hands out lie in a client's input buffer, are followed by a NUL in
 * place of the protocol's CR, and live until the command (or the run of commands) has been answered. They may hold NULs
 * of their own: slice_is_text tells whether the C library may read them as a string.
 */
#ifndef DAEMON_BASE_SLICE_H
#define DAEMON_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
    const char *text;
    size_t length;
};

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* Whether a slice of the parser's (or any that is followed by a NUL) is a C string, with no NUL inside. */
static inline bool slice_is_text(struct slice slice)
{
    return memchr(slice.text, 0, slice.length) == NULL;
}

static inline bool slice_equals(struct slice a, struct slice b)
{
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

/* Keywords and command names are compared without regard to the case of ASCII letters. */
static inline bool slice_is_word(struct slice slice, const char *word)
{
    return strlen(word) == slice.length && strncasecmp(slice.text, word, slice.length) == 0;
}

/* Decimal digits and nothing else, leading zeros allowed, at most 20 of them. False: not such a number, or too
 * large. */
bool slice_to_number(struct slice slice, uint64_t *number);

#endif
