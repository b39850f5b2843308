/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose message it is: NATS vouches for the subject alone, so what a message says of its sender must agree with it.
 */
#include "cluster/ears.h"
#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool is_from(const char *bytes, size_t length, const char *node)
{
    /* A copy of just that length: a read beyond it is found. */
    char *copy = malloc(length + 1);
    assert_non_null(copy);
    memcpy(copy, bytes, length);
    copy = realloc(copy, length ? length : 1);
    bool answer = ears_is_from(copy, length, node);
    free(copy);
    return answer;
}

#define SAYS(literal, node) is_from(literal, sizeof(literal) - 1, node)

static void a_real_message_is_from_its_node(void **state)
{
    (void)state;
    struct wire_arena *arena = wire_arena_new();
    struct wire_message message = {.node = "a", .run = 7, .kind = WIRE_BEAT, .beat = {.sequence = 1, .parts = 1}};
    const void *bytes;
    size_t length;
    assert_int_equal(wire_encode(arena, &message, &bytes, &length), WIRE_OK);
    assert_true(ears_is_from(bytes, length, "a"));
    assert_false(ears_is_from(bytes, length, "b"));
    assert_false(ears_is_from(bytes, length, "aa"));
    assert_false(ears_is_from(bytes, length, ""));
    for (size_t cut = 1; cut < length; cut++) /* whatever is left of it names nobody else */
        assert_false(is_from(bytes, cut, "b"));
    wire_arena_free(arena);
}

static void a_second_name_inside_is_seen(void **state)
{
    (void)state;
    assert_true(SAYS("\x12\x01"
                     "a"
                     "\x12\x01"
                     "a",
                     "a"));
    assert_false(SAYS("\x12\x01"
                      "a"
                      "\x12\x01"
                      "b",
                      "a"));
    assert_false(SAYS("\x12\x01"
                      "b"
                      "\x12\x01"
                      "a",
                      "a"));
    /* As a number where bytes belong: another decoder might take the other field. */
    assert_false(SAYS("\x12\x01"
                      "a"
                      "\x10\x01",
                      "a"));
    /* The same field by a longer way of writing its number. */
    assert_false(SAYS("\x12\x01"
                      "a"
                      "\x92\x00\x01"
                      "b",
                      "a"));
    /* After fields that nobody knows. */
    assert_false(SAYS("\x12\x01"
                      "a"
                      "\xa2\x06\x03xyz"
                      "\x12\x01"
                      "b",
                      "a"));
    assert_true(SAYS("\x08\x01\x12\x01"
                     "a"
                     "\xa2\x06\x03xyz",
                     "a"));
}

static void nothing_is_from_nobody(void **state)
{
    (void)state;
    assert_false(SAYS("", ""));
    assert_false(SAYS("", "a"));
    assert_false(SAYS("\x08\x01", "a"));
}

static void garbage_is_from_nobody(void **state)
{
    (void)state;
    assert_false(SAYS("\x12", "a"));
    assert_false(SAYS("\x12\x05"
                      "a",
                      "a"));
    assert_false(SAYS("\x12\x01"
                      "a"
                      "\x13",
                      "a")); /* a group */
    assert_false(SAYS("\x12\x01"
                      "a"
                      "\x19\x01\x02",
                      "a")); /* fewer than eight bytes */
    assert_false(SAYS("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
                      "a",
                      "a"));
    assert_false(SAYS("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_message_is_from_its_node),
        cmocka_unit_test(a_second_name_inside_is_seen),
        cmocka_unit_test(nothing_is_from_nobody),
        cmocka_unit_test(garbage_is_from_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
