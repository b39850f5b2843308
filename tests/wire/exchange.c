/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.c - an arena for each side, from memory that is counted and can run out.
 */
#include "wire/exchange.h"

#include <stdlib.h>
#include <string.h>

int exchange_setup(void **state)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    must(exchange != NULL);
    presence_allocator memory = test_allocator_interface(&exchange->memory);
    exchange->out = wire_arena_new_from(&memory);
    exchange->in = wire_arena_new_from(&memory);
    must(exchange->out && exchange->in);
    *state = exchange;
    return 0;
}

int exchange_teardown(void **state)
{
    struct exchange *exchange = *state;
    wire_arena_free(exchange->out);
    wire_arena_free(exchange->in);
    test_allocator_must_be_empty(&exchange->memory);
    free(exchange);
    return 0;
}

int say(struct exchange *exchange, const struct wire_message *message)
{
    wire_arena_reset(exchange->out);
    return wire_encode(exchange->out, message, &exchange->bytes, &exchange->length);
}

int hear(struct exchange *exchange, const void *bytes, size_t length)
{
    struct wire_message before = exchange->heard;
    uint8_t *exact = malloc(length > 0 ? length : 1);
    must(exact != NULL);
    if (length > 0)
        memcpy(exact, bytes, length);
    wire_arena_reset(exchange->in);
    int error = wire_decode(exchange->in, exact, length, &exchange->heard);
    if (error)
        assert_memory_equal(&before, &exchange->heard, sizeof before);
    free(exact);
    return error;
}

int hear_raw(struct exchange *exchange, struct raw raw)
{
    int error = hear(exchange, raw.bytes, raw.length);
    raw_free(&raw);
    return error;
}

const struct wire_message *exchanged(struct exchange *exchange, const struct wire_message *message)
{
    assert_int_equal(say(exchange, message), WIRE_OK);
    assert_int_equal(hear(exchange, exchange->bytes, exchange->length), WIRE_OK);
    return &exchange->heard;
}

void expect_same(const struct wire_message *a, const struct wire_message *b)
{
    const char *difference = difference_of(a, b, 1);
    if (difference)
        fail_msg("the messages differ: %s", difference);
}
