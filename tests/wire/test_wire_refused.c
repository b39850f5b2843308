/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wire_refused.c - what is refused, said or heard. hear() sees to it that a refusal writes no message.
 */
#include "wire/exchange.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------- broken bytes -- */

/* Cut at any length, no sample is one. */
static void what_is_cut_short_is_malformed(void **state)
{
    struct exchange *exchange = *state;
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(say(exchange, &samples[i].message), WIRE_OK);
        for (size_t length = 0; length < exchange->length; length++)
            assert_int_equal(hear(exchange, exchange->bytes, length), WIRE_E_MALFORMED);
    }
}

static void what_goes_on_is_malformed(void **state)
{
    struct exchange *exchange = *state;
    uint8_t longer[WIRE_BATCH_BYTES];
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(say(exchange, &samples[i].message), WIRE_OK);
        memcpy(longer, exchange->bytes, exchange->length);
        longer[exchange->length] = 0x08;
        assert_int_equal(hear(exchange, longer, exchange->length + 1), WIRE_E_MALFORMED);
    }
}

/* Each byte altered in some ways: refused, or another message that can be said and heard in its turn. */
static void altered_bytes_are_refused_or_understood(void **state)
{
    struct exchange *exchange = *state;
    uint8_t altered[WIRE_BATCH_BYTES];
    size_t refused = 0, understood = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(say(exchange, &samples[i].message), WIRE_OK);
        size_t length = exchange->length;
        memcpy(altered, exchange->bytes, length);
        for (size_t at = 0; at < length; at++) {
            const uint8_t was = altered[at], others[] = {was ^ 1, was ^ 0x80, (uint8_t)(was + 1), 0, 0xff};
            for (size_t other = 0; other < sizeof others; other++) {
                altered[at] = others[other];
                if (hear(exchange, altered, length) == WIRE_OK) {
                    struct wire_arena *in = wire_arena_new();
                    struct wire_message again;
                    must(in != NULL);
                    assert_int_equal(say(exchange, &exchange->heard), WIRE_OK);
                    assert_int_equal(wire_decode(in, exchange->bytes, exchange->length, &again), WIRE_OK);
                    expect_same(&again, &exchange->heard);
                    wire_arena_free(in);
                    understood++;
                } else {
                    refused++;
                }
            }
            altered[at] = was;
        }
    }
    assert_true(refused > 1000 && understood > 1000);
}

static const char *const texts[] = {"node-a",
                                    "machine-0",
                                    "machine-1",
                                    "machine-\xc3\xa9",
                                    "node-b",
                                    "node-c",
                                    "unit-a-0",
                                    "unit-b-0",
                                    "unit-b-1",
                                    "unit-c-0",
                                    "{\"k\":1}",
                                    "0a2f9c1e-6c7b-4d59-8d0e-1f5b7a3c9d01",
                                    "7b41d2aa-93ce-4f0b-bb6d-52c8e0f6a902"};

/* In every text of every sample, once at its beginning, once inside, once at its end. */
static void a_text_with_a_nul_is_malformed(void **state)
{
    struct exchange *exchange = *state;
    uint8_t bytes[WIRE_BATCH_BYTES];
    size_t patched = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(say(exchange, &samples[i].message), WIRE_OK);
        size_t all = exchange->length;
        memcpy(bytes, exchange->bytes, all);
        for (size_t text = 0; text < sizeof texts / sizeof texts[0]; text++) {
            size_t length = strlen(texts[text]);
            for (size_t at = 0; at + length <= all; at++) {
                if (memcmp(bytes + at, texts[text], length) != 0)
                    continue;
                const size_t places[] = {at, at + length / 2, at + length - 1};
                for (size_t place = 0; place < 3; place++) {
                    uint8_t was = bytes[places[place]];
                    bytes[places[place]] = '\0';
                    assert_int_equal(hear(exchange, bytes, all), WIRE_E_MALFORMED);
                    bytes[places[place]] = was;
                    patched++;
                }
            }
        }
    }
    assert_true(patched >= 3 * 30); /* so many texts are in the samples */
}

static void what_is_not_the_format_is_malformed(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
    } broken[] = {
        {"\x08", 1},                                                  /* a number without digits */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},     /* one that does not end in time */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12},     /* a field number that does not */
        {"\x08\x01\x82\x01\x05", 5},                                  /* a body longer than the message */
        {"\x08\x01\x82\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 13}, /* far longer */
        {"\x08\x01\x82\x01\x01\x0b", 6},                              /* a group in the body */
        {"\x08\x01\x13\x82\x01\x00", 6},                              /* a group */
        {"\x08\x01\x16\x82\x01\x00", 6},                              /* a type that there is not */
        {"\x08\x01\x80\x01\x05", 5},                                  /* a body that is a number */
        {"\x08\x01\x10\x05\x82\x01\x00", 7},                          /* a node that is a number */
        {"\x08\x01\x19\x00\x00\x82\x01\x00", 8},                      /* eight bytes that are five */
        {"\x0a\x01\x01\x82\x01\x00", 6},                              /* a version that is a text */
        {"\x0a\x02\x01\x01\x82\x01\x00", 7},                          /* another, as long as a newer version */
        {"\x08\x02\x19\x00\x00", 5},                                  /* a newer version, cut short */
        {"\x08\x01\x90\x3e\x05", 5},                                  /* a number nobody knows, and no body */
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_int_equal(hear(*state, broken[i].bytes, broken[i].length), WIRE_E_MALFORMED);
}

/* ----------------------------------------------------------------------------------------- contradictions, heard -- */

static void impossible_parts_are_malformed(void **state)
{
    static const struct {
        uint64_t part, parts;
        int answer;
    } beats[] = {{0, 0, WIRE_E_MALFORMED},         {0, 1, WIRE_OK},
                 {1, 1, WIRE_E_MALFORMED},         {65534, 65535, WIRE_OK},
                 {0, 65536, WIRE_E_MALFORMED},     {0, UINT32_MAX, WIRE_E_MALFORMED},
                 {UINT32_MAX, 3, WIRE_E_MALFORMED}};
    for (size_t i = 0; i < sizeof beats / sizeof beats[0]; i++) {
        struct raw body = {0};
        raw_number(&body, 7, beats[i].part);
        raw_number(&body, 8, beats[i].parts);
        assert_int_equal(hear_raw(*state, raw_envelope(WIRE_BEAT, &body)), beats[i].answer);
        struct wire_message message = {.kind = WIRE_BEAT,
                                       .beat = {.part = (uint32_t)beats[i].part, .parts = (uint32_t)beats[i].parts}};
        assert_int_equal(say(*state, &message), beats[i].answer);
    }
}

/* One change with these numbers; `models` of them are listed. */
static int hear_change(void **state, uint64_t first, uint64_t kind, uint64_t model, uint64_t reason, size_t models)
{
    struct raw change = {0}, body = {0};
    raw_number(&change, 1, kind);
    raw_number(&change, 3, model);
    raw_number(&change, 8, reason);
    raw_number(&body, 3, first);
    for (size_t i = 0; i < models; i++)
        raw_text(&body, 4, "m");
    raw_message(&body, 5, &change);
    return hear_raw(*state, raw_envelope(WIRE_CHANGES, &body));
}

static void kinds_are_checked(void **state)
{
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_CONNECT, 0, 0, 1), WIRE_OK);
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_COMPLETE, 0, 0, 0), WIRE_OK);
    assert_int_equal(hear_change(state, 1, 0, 0, 0, 0), WIRE_E_MALFORMED);
    assert_int_equal(hear_change(state, 1, 5, 0, 0, 0), WIRE_E_MALFORMED);
    assert_int_equal(hear_change(state, 1, UINT64_MAX, 0, 0, 0), WIRE_E_MALFORMED);
    presence_change change = {.kind = (presence_change_kind)5};
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = &change, .count = 1}};
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
    change.kind = (presence_change_kind)0;
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
    message.kind = (enum wire_kind)9;
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
}

static void models_are_checked(void **state)
{
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_CONNECT, 1, 0, 2), WIRE_OK);
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_CONNECT, 2, 0, 2), WIRE_E_MALFORMED);
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_CONNECT, UINT32_MAX, 0, 2), WIRE_E_MALFORMED);
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_CONNECT, 0, 0, 0), WIRE_E_MALFORMED);
    struct raw value = {0}, body = {0};
    raw_number(&value, 2, 1);
    raw_text(&body, 12, "m");
    raw_message(&body, 13, &value);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_CHUNK, &body)), WIRE_E_MALFORMED);
}

static void reasons_are_checked(void **state)
{
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_DOWN, 0, PRESENCE_REASON_LAPSED, 0), WIRE_OK);
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_DOWN, 0, PRESENCE_REASON_LAPSED + 1, 0), WIRE_E_MALFORMED);
    assert_int_equal(hear_change(state, 1, PRESENCE_CHANGE_DOWN, 0, UINT64_MAX, 0), WIRE_E_MALFORMED);
    const presence_reason none = (presence_reason)(PRESENCE_REASON_LAPSED + 1);
    presence_change change = {.kind = PRESENCE_CHANGE_DOWN, .reason = none};
    const struct wire_message messages[] = {
        {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = &change, .count = 1}},
        {.kind = WIRE_CHUNK, .chunk = {.floor_reason = none}},
        {.kind = WIRE_EVIDENCE, .evidence = {.reason = none}},
    };
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(say(*state, &messages[i]), WIRE_E_MALFORMED);
    struct raw body = {0};
    raw_number(&body, 5, (uint64_t)none);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_CHUNK, &body)), WIRE_E_MALFORMED);
    raw_number(&body, 5, (uint64_t)none);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_EVIDENCE, &body)), WIRE_E_MALFORMED);
}

static void changes_have_numbers(void **state)
{
    assert_int_equal(hear_change(state, 0, PRESENCE_CHANGE_COMPLETE, 0, 0, 0), WIRE_E_MALFORMED);
    assert_int_equal(hear_change(state, UINT64_MAX, PRESENCE_CHANGE_COMPLETE, 0, 0, 0), WIRE_OK);
    struct raw body = {0};
    raw_number(&body, 3, UINT64_MAX);
    raw_bytes(&body, 5, "\x08\x04", 2);
    raw_bytes(&body, 5, "\x08\x04", 2);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_CHANGES, &body)), WIRE_E_MALFORMED);
    presence_change changes[] = {{.kind = PRESENCE_CHANGE_COMPLETE}, {.kind = PRESENCE_CHANGE_COMPLETE}};
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 0, .changes = changes, .count = 2}};
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
    message.changes.first = UINT64_MAX;
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
}

/* The differences of ids, and as many times, each zero. */
static int hear_ids(void **state, const uint64_t *differences, size_t count, size_t times)
{
    struct raw body = {0};
    for (size_t i = 0; i < count; i++)
        raw_number(&body, 5, differences[i]);
    for (size_t i = 0; i < times; i++)
        raw_number(&body, 6, 0);
    return hear_raw(*state, raw_envelope(WIRE_ACTIVITY, &body));
}

static void ids_of_activity_ascend(void **state)
{
    assert_int_equal(hear_ids(state, (const uint64_t[]){0, UINT64_MAX}, 2, 2), WIRE_OK);
    assert_int_equal(hear_ids(state, (const uint64_t[]){1, UINT64_MAX}, 2, 2), WIRE_E_MALFORMED);
    assert_int_equal(hear_ids(state, (const uint64_t[]){1, 0}, 2, 2), WIRE_E_MALFORMED);
    assert_int_equal(hear_ids(state, (const uint64_t[]){1, 1}, 2, 1), WIRE_E_MALFORMED);
    assert_int_equal(hear_ids(state, (const uint64_t[]){1, 1}, 2, 3), WIRE_E_MALFORMED);
    const presence_time seen[2] = {0};
    const uint64_t descending[] = {2, 1}, twice[] = {2, 2};
    struct wire_message message = {.kind = WIRE_ACTIVITY, .activity = {.ids = descending, .seen = seen, .count = 2}};
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
    message.activity.ids = twice;
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
}

static int hear_seen(void **state, int64_t base, int64_t milliseconds, uint64_t nanoseconds)
{
    struct raw value = {0}, body = {0};
    raw_zigzag(&value, 7, milliseconds);
    raw_number(&value, 8, nanoseconds);
    raw_fixed64(&body, 11, (uint64_t)base);
    raw_text(&body, 12, "m");
    raw_message(&body, 13, &value);
    return hear_raw(*state, raw_envelope(WIRE_CHUNK, &body));
}

static void times_stay_in_their_range(void **state)
{
    const int64_t millisecond = 1000000;
    assert_int_equal(hear_seen(state, 0, INT64_MAX / millisecond, INT64_MAX % millisecond), WIRE_OK);
    assert_int_equal(hear_seen(state, 0, INT64_MAX / millisecond, INT64_MAX % millisecond + 1), WIRE_E_MALFORMED);
    assert_int_equal(hear_seen(state, 0, INT64_MIN / millisecond - 1, 1000000 - 775808), WIRE_OK); /* the smallest */
    assert_int_equal(hear_seen(state, 0, INT64_MIN / millisecond - 1, 1000000 - 775809), WIRE_E_MALFORMED);
    assert_int_equal(hear_seen(state, 1, INT64_MAX / millisecond, INT64_MAX % millisecond), WIRE_E_MALFORMED);
    assert_int_equal(hear_seen(state, INT64_MIN, -1, 999999), WIRE_E_MALFORMED);
    assert_int_equal(hear_seen(state, 0, INT64_MAX, 0), WIRE_E_MALFORMED);
    assert_int_equal(hear_seen(state, 0, INT64_MIN, 0), WIRE_E_MALFORMED);
    assert_int_equal(hear_seen(state, 0, 0, 999999), WIRE_OK);
    assert_int_equal(hear_seen(state, 0, 0, 1000000), WIRE_E_MALFORMED);
    assert_int_equal(hear_seen(state, 0, 0, UINT32_MAX), WIRE_E_MALFORMED);
}

static void questions_are_checked(void **state)
{
    struct raw body = {0}, range = {0};
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_ASK, &body)), WIRE_E_MALFORMED);
    raw_number(&body, 1, WIRE_ASK_STATE);
    raw_number(&range, 1, 5);
    raw_number(&range, 2, 4);
    raw_message(&body, 6, &range);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_ASK, &body)), WIRE_E_MALFORMED);
    struct wire_range missing = {5, 4};
    struct wire_message message = {.kind = WIRE_ASK,
                                   .ask = {.question = WIRE_ASK_STATE, .missing = &missing, .missing_count = 1}};
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
    message.ask.missing_count = 0;
    assert_int_equal(say(*state, &message), WIRE_OK);
    message.ask.question = (enum wire_question)(WIRE_ASK_AGENT + 1);
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
}

static void statuses_are_checked(void **state)
{
    struct raw body = {0};
    raw_number(&body, 4, PRESENCE_ALIVE + 1);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_EVIDENCE, &body)), WIRE_E_MALFORMED);
    struct wire_message message = {.kind = WIRE_EVIDENCE, .evidence = {.status = (presence_status)3}};
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
    presence_value value = {.status = PRESENCE_UNKNOWN}; /* what is in a state was connected once */
    message = (struct wire_message){.kind = WIRE_CHUNK, .chunk = {.values = &value, .count = 1}};
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
}

/* -------------------------------------------------------------------------------------------------------- limits -- */

static void evidence_has_a_limit(void **state)
{
    static struct wire_connection connections[WIRE_MOST_EVIDENCE + 1];
    struct wire_message message = {.kind = WIRE_EVIDENCE,
                                   .evidence = {.connections = connections, .count = WIRE_MOST_EVIDENCE}};
    exchanged(*state, &message);
    message.evidence.count++;
    assert_int_equal(say(*state, &message), WIRE_E_MALFORMED);
    struct raw body = {0};
    for (size_t i = 0; i <= WIRE_MOST_EVIDENCE; i++)
        raw_text(&body, 9, "");
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_EVIDENCE, &body)), WIRE_E_MALFORMED);
}

static void a_message_has_a_greatest_length(void **state)
{
    struct exchange *exchange = *state;
    enum { ROOM = WIRE_MOST_BYTES + 64 };
    char *text = malloc(ROOM);
    assert_non_null(text);
    memset(text, 'x', ROOM);
    struct wire_message message = {.kind = WIRE_FORGET, .forget = {.server = text}};
    text[WIRE_MOST_BYTES - 11] = '\0'; /* version, and the heads of body and name: 2 + 5 + 4 */
    assert_int_equal(say(exchange, &message), WIRE_OK);
    assert_int_equal(exchange->length, WIRE_MOST_BYTES);
    assert_int_equal(hear(exchange, exchange->bytes, exchange->length), WIRE_OK);
    assert_string_equal(exchange->heard.forget.server, text);
    text[WIRE_MOST_BYTES - 11] = 'x';
    text[WIRE_MOST_BYTES - 10] = '\0';
    assert_int_equal(say(exchange, &message), WIRE_E_TOO_LONG);
    text[WIRE_MOST_BYTES - 10] = 'x';
    assert_int_equal(hear(exchange, text, WIRE_MOST_BYTES + 1), WIRE_E_TOO_LONG);
    free(text);
    message = (struct wire_message){.kind = WIRE_ACTIVITY, .activity = {.count = SIZE_MAX}};
    assert_int_equal(say(exchange, &message), WIRE_E_TOO_LONG);
}

static void errors_have_texts(void **state)
{
    (void)state;
    assert_string_equal(wire_strerror(WIRE_OK), "no error");
    for (int error = WIRE_E_NO_MEMORY; error < 0; error++)
        for (int other = error + 1; other <= 0; other++)
            assert_string_not_equal(wire_strerror(error), wire_strerror(other));
    assert_string_equal(wire_strerror(WIRE_E_NO_MEMORY - 1), "unknown error");
    assert_string_equal(wire_strerror(1), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(what_is_cut_short_is_malformed),
        story(what_goes_on_is_malformed),
        story(altered_bytes_are_refused_or_understood),
        story(a_text_with_a_nul_is_malformed),
        story(what_is_not_the_format_is_malformed),
        story(impossible_parts_are_malformed),
        story(kinds_are_checked),
        story(models_are_checked),
        story(reasons_are_checked),
        story(changes_have_numbers),
        story(ids_of_activity_ascend),
        story(times_stay_in_their_range),
        story(questions_are_checked),
        story(statuses_are_checked),
        story(evidence_has_a_limit),
        story(a_message_has_a_greatest_length),
        cmocka_unit_test(errors_have_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
