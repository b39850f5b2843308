/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wire_memory.c - memory that runs out, and messages that would take too much of it.
 */
#include "wire/exchange.h"

#include <string.h>

/* What wire.h says, and a little for what is left at the ends of blocks. */
enum { MOST_FACTOR = 41, MOST_SPARE = 128 * 1024 };

/* ------------------------------------------------------------------------------------------------ refused memory -- */

/* Each allocation refused in its turn, by fresh arenas: an error, or the whole message. */
static void without_memory_it_says_so(void **state)
{
    struct exchange *exchange = *state;
    presence_allocator memory = test_allocator_interface(&exchange->memory);
    uint64_t refusals = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        for (uint64_t n = 1, before = exchange->memory.failures;; n++, before = exchange->memory.failures) {
            test_allocator_fail_nth(&exchange->memory, n, true);
            struct wire_arena *arena = wire_arena_new_from(&memory);
            const void *bytes = NULL;
            size_t length = 0;
            struct wire_message heard = {.node = "untouched"};
            int error = !arena ? WIRE_E_NO_MEMORY : wire_encode(arena, &samples[i].message, &bytes, &length);
            if (!error)
                error = wire_decode(arena, bytes, length, &heard);
            bool refused = exchange->memory.failures != before;
            assert_int_equal(error, refused ? WIRE_E_NO_MEMORY : WIRE_OK);
            if (refused)
                assert_string_equal(heard.node, "untouched");
            else
                expect_same(&heard, &samples[i].message);
            test_allocator_fail_nth(&exchange->memory, 0, false);
            wire_arena_free(arena);
            if (!refused)
                break;
            refusals++;
        }
    }
    assert_true(refusals >= 2 * SAMPLES);
}

enum { MANY = 4000 };

/* Large enough for several blocks, of which any may be refused; the arena can be used afterwards. */
static void without_memory_for_a_large_one_it_says_so(void **state)
{
    struct exchange *exchange = *state;
    static presence_value values[MANY];
    for (size_t i = 0; i < MANY; i++)
        values[i] = (presence_value){.model = "a-model",
                                     .agent = "unit-a-of-an-application",
                                     .connection_id = i << 20,
                                     .status = PRESENCE_ALIVE};
    struct wire_message message = {.kind = WIRE_CHUNK, .chunk = {.values = values, .count = MANY}};
    presence_allocator memory = test_allocator_interface(&exchange->memory);
    assert_int_equal(say(exchange, &message), WIRE_OK);
    uint64_t n = 0, before;
    do {
        struct wire_arena *arena = wire_arena_new_from(&memory);
        struct wire_message heard;
        must(arena != NULL);
        before = exchange->memory.failures;
        test_allocator_fail_nth(&exchange->memory, ++n, true);
        int error = wire_decode(arena, exchange->bytes, exchange->length, &heard);
        test_allocator_fail_nth(&exchange->memory, 0, false);
        assert_int_equal(error, exchange->memory.failures == before ? WIRE_OK : WIRE_E_NO_MEMORY);
        wire_arena_reset(arena);
        assert_int_equal(wire_decode(arena, exchange->bytes, exchange->length, &heard), WIRE_OK);
        assert_int_equal(heard.chunk.count, MANY);
        wire_arena_free(arena);
    } while (exchange->memory.failures != before);
    assert_true(n > 3);
    n = 0;
    do {
        struct wire_arena *arena = wire_arena_new_from(&memory);
        const void *bytes;
        size_t length;
        must(arena != NULL);
        before = exchange->memory.failures;
        test_allocator_fail_nth(&exchange->memory, ++n, true);
        int error = wire_encode(arena, &message, &bytes, &length);
        test_allocator_fail_nth(&exchange->memory, 0, false);
        assert_int_equal(error, exchange->memory.failures == before ? WIRE_OK : WIRE_E_NO_MEMORY);
        wire_arena_free(arena);
    } while (exchange->memory.failures != before);
    assert_true(n > 3);
}

/* What a large message took in many blocks is taken in one from the second on, and then kept. */
static void an_arena_grows_once(void **state)
{
    struct exchange *exchange = *state;
    static presence_change changes[MANY];
    for (size_t i = 0; i < MANY; i++)
        changes[i] = (presence_change){
            .kind = PRESENCE_CHANGE_CONNECT, .time = 1, .value = {.model = "m", .agent = "unit", .connection_id = i}};
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = changes, .count = MANY}};
    exchanged(exchange, &message);
    uint64_t first = exchange->memory.calls;
    exchanged(exchange, &message);
    assert_int_equal(exchange->memory.calls, first + 2); /* each side one */
    assert_int_equal(exchange->memory.outstanding_blocks, 4);
    exchanged(exchange, &samples[0].message);
    exchanged(exchange, &message);
    assert_int_equal(exchange->memory.calls, first + 2);
}

/* A shorter message needs no more memory, a longer one more than there is in the block. */
static void a_block_is_used_again_and_outgrown(void **state)
{
    struct exchange *exchange = *state;
    static char name[100001];
    memset(name, 'x', 100000);
    struct wire_message message = {.kind = WIRE_FORGET, .forget = {.server = name + 60000}};
    assert_int_equal(say(exchange, &message), WIRE_OK);
    message.forget.server = name + 60001;
    uint64_t calls = exchange->memory.calls;
    assert_int_equal(say(exchange, &message), WIRE_OK);
    assert_int_equal(exchange->memory.calls, calls);
    message.forget.server = name;
    assert_int_equal(say(exchange, &message), WIRE_OK);
    assert_true(exchange->memory.outstanding_bytes > 100000);
}

/* A block that would be twice as large is not there: one that is just large enough is taken. */
static void a_smaller_block_will_do(void **state)
{
    struct exchange *exchange = *state;
    presence_allocator memory = test_allocator_interface(&exchange->memory);
    struct wire_arena *arena = wire_arena_new_from(&memory);
    must(arena != NULL);
    const void *bytes;
    size_t length;
    test_allocator_fail_nth(&exchange->memory, 1, false);
    assert_int_equal(wire_encode(arena, &samples[0].message, &bytes, &length), WIRE_OK);
    assert_int_equal(exchange->memory.failures, 1);
    wire_arena_free(arena);
}

/* -------------------------------------------------------------------------------------------------- greedy bytes -- */

/* Hears it in a fresh arena, which may take no more than is promised. */
static int hear_within_bounds(struct exchange *exchange, struct raw raw)
{
    presence_allocator memory = test_allocator_interface(&exchange->memory);
    uint64_t before = exchange->memory.outstanding_bytes;
    struct wire_arena *arena = wire_arena_new_from(&memory);
    struct wire_message heard;
    must(arena != NULL && raw.length <= WIRE_MOST_BYTES);
    int error = wire_decode(arena, raw.bytes, raw.length, &heard);
    uint64_t taken = exchange->memory.outstanding_bytes - before;
    assert_true(taken <= MOST_FACTOR * raw.length + MOST_SPARE);
    assert_true(error == WIRE_OK || error == WIRE_E_MALFORMED);
    wire_arena_free(arena);
    raw_free(&raw);
    return error;
}

/* A body of nothing but this field, empty, so often; in each kind, wherever it may stand. */
static void empty_parts_take_bounded_memory(void **state)
{
    static const size_t counts[] = {1, 10, 100, 1000, 10000, 100000, 250000};
    size_t refused = 0;
    for (unsigned kind = WIRE_BEAT; kind <= WIRE_DIFFERENCE; kind++)
        for (unsigned field = 1; field < 20; field++)
            for (unsigned type = 0; type < 3; type += 2)
                for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
                    struct raw body = {0};
                    for (size_t n = 0; n < counts[i] && body.length < WIRE_MOST_BYTES - 64; n++) {
                        raw_varint(&body, field << 3 | type);
                        raw_byte(&body, 0);
                    }
                    refused += hear_within_bounds(*state, raw_envelope(kind, &body)) != WIRE_OK;
                }
    assert_true(refused > 100);
}

/* Fields that nobody knows are kept by the generated code: they take memory, too. */
static void unknown_fields_take_bounded_memory(void **state)
{
    for (unsigned longest = 0; longest < 64; longest += 7) {
        struct raw raw = {0}, body = {0};
        raw_number(&raw, 1, WIRE_VERSION);
        raw_message(&raw, WIRE_FORGET, &body);
        while (raw.length < WIRE_MOST_BYTES - 128)
            raw_bytes(&raw, 9, "0123456789012345678901234567890123456789012345678901234567890123456789", longest);
        hear_within_bounds(*state, raw);
    }
}

/* What is honest is far below the bound, at any size: changes and values of the shortest that there are. */
static void short_but_honest_messages_are_heard(void **state)
{
    static presence_change changes[20000];
    static presence_value values[20000];
    for (size_t i = 0; i < 20000; i++) {
        changes[i] = (presence_change){.kind = PRESENCE_CHANGE_DISCONNECT, .time = 1, .value = {.connection_id = i}};
        values[i] = (presence_value){
            .model = "m", .agent = "a", .connection_id = i + 1, .status = PRESENCE_ALIVE, .last_seen = (int64_t)i};
    }
    for (size_t count = 1; count <= 20000; count = count * 3 / 2 + 1) {
        struct wire_message message = {.kind = WIRE_CHANGES,
                                       .changes = {.first = 1, .changes = changes, .count = count}};
        exchanged(*state, &message);
        message = (struct wire_message){.kind = WIRE_CHUNK, .chunk = {.values = values, .count = count}};
        exchanged(*state, &message);
    }
}

/* What hearing has no memory for cannot be said, at whatever number it begins. */
static void what_says_next_to_nothing_is_refused_on_both_sides(void **state)
{
    struct exchange *exchange = *state;
    static struct wire_stand stands[20000];
    static presence_change changes[20000];
    static struct wire_range ranges[20000];
    for (size_t i = 0; i < 20000; i++)
        changes[i] = (presence_change){.kind = PRESENCE_CHANGE_COMPLETE};
    size_t said = 0;
    for (size_t count = 1; count <= 20000; count = count * 9 / 8 + 1) {
        const struct wire_message messages[] = {
            {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = changes, .count = count}},
            {.kind = WIRE_BEAT, .beat = {.parts = 1, .stands = stands, .count = count}},
            {.kind = WIRE_KNOWN, .known = {.stands = stands, .count = count}},
            {.kind = WIRE_ASK, .ask = {.question = WIRE_ASK_STATE, .missing = ranges, .missing_count = count}},
        };
        for (size_t i = 0; i < 4; i++) {
            int error = say(exchange, &messages[i]);
            assert_true(error == WIRE_OK || (error == WIRE_E_MALFORMED && count > 100));
            if (!error)
                assert_int_equal(hear(exchange, exchange->bytes, exchange->length), WIRE_OK);
            said += !error;
        }
    }
    assert_true(said > 30);
    struct wire_message message = {.kind = WIRE_KNOWN, .known = {.stands = stands, .count = 20000}};
    assert_int_equal(say(exchange, &message), WIRE_E_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(without_memory_it_says_so),
        story(without_memory_for_a_large_one_it_says_so),
        story(an_arena_grows_once),
        story(a_block_is_used_again_and_outgrown),
        story(a_smaller_block_will_do),
        story(empty_parts_take_bounded_memory),
        story(unknown_fields_take_bounded_memory),
        story(short_but_honest_messages_are_heard),
        story(what_says_next_to_nothing_is_refused_on_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
