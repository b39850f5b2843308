/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.h - the words of the codec's stories: one side says a message, the other hears it.
 *
 * A story gets its exchange as *state. What is heard lies in memory of exactly its length, so that a sanitizer sees a
 * read behind it; when the story ends, all memory must have been given back.
 */
#ifndef TESTS_WIRE_EXCHANGE_H
#define TESTS_WIRE_EXCHANGE_H

#include "support/support.h"
#include "wire/raw.h"
#include "wire/samples.h"
#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct exchange {
    struct test_allocator memory;
    struct wire_arena *out, *in;
    const void *bytes; /* as last said */
    size_t length;
    struct wire_message heard;
};

int exchange_setup(void **state);
int exchange_teardown(void **state);
#define story(function) cmocka_unit_test_setup_teardown(function, exchange_setup, exchange_teardown)

/* Encodes; the answer of wire_encode. */
int say(struct exchange *exchange, const struct wire_message *message);
/* Decodes; the answer of wire_decode. Without an error exchange->heard is the message; with one it is as it was. */
int hear(struct exchange *exchange, const void *bytes, size_t length);
/* The same of one made by hand, which is freed. */
int hear_raw(struct exchange *exchange, struct raw raw);
/* Says it and hears it, without an error. */
const struct wire_message *exchanged(struct exchange *exchange, const struct wire_message *message);
void expect_same(const struct wire_message *a, const struct wire_message *b);

#endif
