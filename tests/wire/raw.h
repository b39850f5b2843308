/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - messages written field by field by hand, right or wrong, without the codec that is tested.
 */
#ifndef TESTS_WIRE_RAW_H
#define TESTS_WIRE_RAW_H

#include <stddef.h>
#include <stdint.h>

enum { RAW_BYTES = 1 << 20 };

/* Zeroed is empty. Grows at its end, up to RAW_BYTES; raw_free gives the memory back. */
struct raw {
    uint8_t *bytes;
    size_t length;
};

void raw_byte(struct raw *raw, uint8_t byte);
void raw_number(struct raw *raw, unsigned field, uint64_t number);
void raw_zigzag(struct raw *raw, unsigned field, int64_t number);
void raw_fixed64(struct raw *raw, unsigned field, uint64_t number);
void raw_bytes(struct raw *raw, unsigned field, const void *bytes, size_t length);
void raw_text(struct raw *raw, unsigned field, const char *text);
/* The inner one is freed. */
void raw_message(struct raw *raw, unsigned field, struct raw *inner);
/* Any number as it is, without a field. */
void raw_varint(struct raw *raw, uint64_t number);
/* Version 1, node "node-a", and the body, which is freed. */
struct raw raw_envelope(unsigned field, struct raw *body);
void raw_free(struct raw *raw);

#endif
