/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_wire.c - any bytes as a message of another node: refused, or a message that can be said and heard again as the
 * same; what was refused left nothing behind, and no more memory was taken than is promised. What is read by hand is
 * what the generated code reads.
 *
 * Linked with libFuzzer, or with replay.c. Cost: some microseconds, and as much memory as 40 times the input.
 */
#include "support/support.h"
#include "wire/samples.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* What an encoding may be refused for: a list that says next to nothing was padded with what nobody knows. */
enum { ELEMENTS_THAT_CAN_BE_SAID = 150, MILLISECOND = 1000000, MOST_FACTOR = 41, MOST_SPARE = 128 * 1024 };

static size_t elements_of(const struct wire_message *message)
{
    switch (message->kind) {
    case WIRE_BEAT:
        return message->beat.count;
    case WIRE_CHANGES:
        return message->changes.count;
    case WIRE_ASK:
        return message->ask.missing_count;
    case WIRE_CHUNK:
    case WIRE_DIFFERENCE:
        return message->chunk.count + message->chunk.gone_count;
    case WIRE_KNOWN:
        return message->known.count;
    case WIRE_EVIDENCE:
        return message->evidence.count;
    default:
        return 0;
    }
}

static void say_and_hear(const presence_allocator *memory, const struct wire_message *message)
{
    struct wire_arena *out = wire_arena_new_from(memory), *in = wire_arena_new_from(memory);
    const void *bytes;
    size_t length;
    struct wire_message again;
    must(out && in);
    int error = wire_encode(out, message, &bytes, &length);
    if (error) {
        must(error == WIRE_E_MALFORMED && elements_of(message) > ELEMENTS_THAT_CAN_BE_SAID);
    } else {
        must(wire_decode(in, bytes, length, &again) == WIRE_OK);
        must(difference_of(message, &again, MILLISECOND) == NULL);
    }
    wire_arena_free(out);
    wire_arena_free(in);
}

static void compare(const presence_allocator *memory, const uint8_t *bytes, size_t length, int error,
                    const struct wire_message *message)
{
    struct wire_arena *arena = wire_arena_new_from(memory);
    struct wire_message general;
    must(arena != NULL);
    int code = wire_decode_generally(arena, bytes, length, &general);
    if (code == WIRE_OK && error == WIRE_OK)
        must(difference_of(message, &general, 1) == NULL);
    else if (code != error) /* the generated code needs more memory */
        must(error == WIRE_OK && code == WIRE_E_MALFORMED && elements_of(message) > ELEMENTS_THAT_CAN_BE_SAID);
    wire_arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct test_allocator allocator = {0};
    presence_allocator memory = test_allocator_interface(&allocator);
    struct wire_arena *arena = wire_arena_new_from(&memory);
    struct wire_message message, before;
    must(arena != NULL);
    memset(&message, 0x5a, sizeof message);
    before = message;
    int error = wire_decode(arena, bytes, length, &message);
    must(atomic_load(&allocator.outstanding_bytes) <= MOST_FACTOR * length + MOST_SPARE);
    if (error)
        must(error >= WIRE_E_TOO_LONG && memcmp(&before, &message, sizeof message) == 0);
    else
        say_and_hear(&memory, &message);
    compare(&memory, bytes, length, error, &message);
    wire_arena_free(arena);
    test_allocator_must_be_empty(&allocator);
    return 0;
}
