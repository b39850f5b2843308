/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.c - the format by hand: a field is its number and type as a varint, then a varint, eight bytes, or a length and
 * as many bytes.
 */
#include "wire/raw.h"

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

static void put(struct raw *raw, const void *bytes, size_t length)
{
    if (!raw->bytes)
        raw->bytes = malloc(RAW_BYTES);
    must(raw->bytes && length <= RAW_BYTES - raw->length);
    if (length > 0)
        memcpy(raw->bytes + raw->length, bytes, length);
    raw->length += length;
}

void raw_byte(struct raw *raw, uint8_t byte)
{
    put(raw, &byte, 1);
}

void raw_varint(struct raw *raw, uint64_t number)
{
    for (; number > 0x7f; number >>= 7)
        raw_byte(raw, (uint8_t)(number | 0x80));
    raw_byte(raw, (uint8_t)number);
}

void raw_number(struct raw *raw, unsigned field, uint64_t number)
{
    raw_varint(raw, field << 3);
    raw_varint(raw, number);
}

void raw_zigzag(struct raw *raw, unsigned field, int64_t number)
{
    raw_number(raw, field, (uint64_t)number << 1 ^ (number < 0 ? UINT64_MAX : 0));
}

void raw_fixed64(struct raw *raw, unsigned field, uint64_t number)
{
    raw_varint(raw, field << 3 | 1);
    for (unsigned shift = 0; shift < 64; shift += 8)
        raw_byte(raw, (uint8_t)(number >> shift));
}

void raw_bytes(struct raw *raw, unsigned field, const void *bytes, size_t length)
{
    raw_varint(raw, field << 3 | 2);
    raw_varint(raw, length);
    put(raw, bytes, length);
}

void raw_text(struct raw *raw, unsigned field, const char *text)
{
    raw_bytes(raw, field, text, strlen(text));
}

void raw_message(struct raw *raw, unsigned field, struct raw *inner)
{
    raw_bytes(raw, field, inner->bytes, inner->length);
    raw_free(inner);
}

struct raw raw_envelope(unsigned field, struct raw *body)
{
    struct raw raw = {0};
    raw_number(&raw, 1, 1);
    raw_text(&raw, 2, "node-a");
    raw_message(&raw, field, body);
    return raw;
}

void raw_free(struct raw *raw)
{
    free(raw->bytes);
    *raw = (struct raw){0};
}
