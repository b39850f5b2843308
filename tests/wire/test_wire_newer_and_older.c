/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wire_newer_and_older.c - messages of other releases: what is not known is passed over, what is not there reads
 * as its default, and what must not be half understood is told apart from what is broken.
 */
#include "wire/exchange.h"

enum { FIELD_OF_TOMORROW = 1000, BODY_OF_TOMORROW = 19, KIND_OF_TOMORROW = 5 };

/* Some of each type. */
static void add_unknown_fields(struct raw *raw)
{
    raw_number(raw, FIELD_OF_TOMORROW, UINT64_MAX);
    raw_fixed64(raw, FIELD_OF_TOMORROW + 1, 5);
    raw_text(raw, FIELD_OF_TOMORROW + 2, "tomorrow");
    raw_varint(raw, (FIELD_OF_TOMORROW + 3) << 3 | 5); /* 32 bits */
    for (int i = 0; i < 4; i++)
        raw_byte(raw, 0xff);
}

static void fields_of_tomorrow_are_passed_over(void **state)
{
    struct exchange *exchange = *state;
    struct raw claim = {0}, change = {0}, body = {0};
    raw_number(&claim, 1, 5);
    add_unknown_fields(&claim);
    add_unknown_fields(&change);
    raw_number(&change, 1, PRESENCE_CHANGE_DISCONNECT);
    raw_number(&change, 2, 300);
    add_unknown_fields(&body);
    raw_text(&body, 1, "machine-0");
    raw_message(&body, 2, &claim);
    raw_number(&body, 3, 41);
    raw_message(&body, 5, &change);
    struct raw raw = raw_envelope(WIRE_CHANGES, &body);
    add_unknown_fields(&raw);
    assert_int_equal(hear_raw(exchange, raw), WIRE_OK);
    assert_string_equal(exchange->heard.node, "node-a");
    assert_string_equal(exchange->heard.changes.server, "machine-0");
    assert_int_equal(exchange->heard.changes.claim.epoch, 5);
    assert_int_equal(exchange->heard.changes.count, 1);
    assert_int_equal(exchange->heard.changes.changes[0].number, 41);
    assert_int_equal(exchange->heard.changes.changes[0].value.connection_id, 300);
}

static void a_body_of_tomorrow_is_unknown(void **state)
{
    struct raw body = {0}, empty = {0};
    raw_text(&body, 1, "whatever");
    assert_int_equal(hear_raw(*state, raw_envelope(BODY_OF_TOMORROW, &body)), WIRE_E_UNKNOWN);
    assert_int_equal(hear_raw(*state, raw_envelope(FIELD_OF_TOMORROW, &empty)), WIRE_E_UNKNOWN);
}

static void a_question_of_tomorrow_is_unknown(void **state)
{
    struct raw body = {0};
    raw_number(&body, 1, WIRE_ASK_AGENT + 1);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_ASK, &body)), WIRE_E_UNKNOWN);
}

/* Wherever the version stands, and whatever else is in there: even what breaks today's format. */
static void a_newer_version_is_told(void **state)
{
    struct raw raw = {0}, broken = {0};
    raw_number(&raw, 1, WIRE_VERSION + 1);
    assert_int_equal(hear_raw(*state, raw), WIRE_E_VERSION);
    raw = (struct raw){0};
    raw_byte(&broken, 0xff);
    raw_message(&raw, WIRE_CHANGES, &broken);
    raw_number(&raw, 2, 5); /* no text */
    raw_number(&raw, 1, UINT64_MAX);
    assert_int_equal(hear_raw(*state, raw), WIRE_E_VERSION);
}

static void without_a_version_or_a_body_it_is_malformed(void **state)
{
    struct raw raw = {0}, body = {0};
    assert_int_equal(hear_raw(*state, raw), WIRE_E_MALFORMED);
    raw_message(&raw, WIRE_FORGET, &body);
    assert_int_equal(hear_raw(*state, raw), WIRE_E_MALFORMED);
    raw = (struct raw){0};
    raw_number(&raw, 1, WIRE_VERSION);
    raw_text(&raw, 2, "node-a");
    assert_int_equal(hear_raw(*state, raw), WIRE_E_MALFORMED);
}

/* A kind of change that is not known cannot be passed over: its number would be missing. */
static void a_change_of_tomorrow_is_malformed(void **state)
{
    struct raw change = {0}, body = {0};
    raw_number(&change, 1, KIND_OF_TOMORROW);
    raw_number(&body, 3, 41);
    raw_message(&body, 5, &change);
    assert_int_equal(hear_raw(*state, raw_envelope(WIRE_CHANGES, &body)), WIRE_E_MALFORMED);
}

/* Fields of today that an older node does not know are not there. */
static void what_an_older_node_leaves_out_reads_as_nothing(void **state)
{
    struct exchange *exchange = *state;
    struct raw stand = {0}, beat = {0};
    raw_text(&stand, 1, "machine-0");
    raw_number(&beat, 8, 1);
    raw_message(&beat, 9, &stand);
    assert_int_equal(hear_raw(exchange, raw_envelope(WIRE_BEAT, &beat)), WIRE_OK);
    struct wire_stand wanted = {.server = "machine-0", .holder = ""};
    expect_same(&exchange->heard, &(struct wire_message){.node = "node-a",
                                                         .kind = WIRE_BEAT,
                                                         .beat = {.parts = 1, .stands = &wanted, .count = 1}});
    struct raw value = {0}, chunk = {0};
    raw_text(&chunk, 12, "");
    raw_number(&value, 1, 7);
    raw_message(&chunk, 13, &value);
    assert_int_equal(hear_raw(exchange, raw_envelope(WIRE_CHUNK, &chunk)), WIRE_OK);
    presence_value nothing = {
        .model = "", .server = "", .agent = "", .user_data = "", .connection_id = 7, .status = PRESENCE_ALIVE};
    expect_same(&exchange->heard, &(struct wire_message){.node = "node-a",
                                                         .kind = WIRE_CHUNK,
                                                         .chunk = {.server = "", .values = &nothing, .count = 1}});
}

/* The format lets a field be said twice. */
static void what_is_said_twice_counts_last(void **state)
{
    struct exchange *exchange = *state;
    struct raw first = {0}, second = {0}, body = {0};
    raw_number(&first, 1, 5);
    raw_number(&second, 1, 6);
    raw_text(&body, 1, "machine-0");
    raw_message(&body, 2, &first);
    raw_message(&body, 2, &second);
    raw_text(&body, 1, "machine-1");
    assert_int_equal(hear_raw(exchange, raw_envelope(WIRE_FORGET, &body)), WIRE_OK);
    assert_string_equal(exchange->heard.forget.server, "machine-1");
    assert_int_equal(exchange->heard.forget.claim.epoch, 6);
}

/* Numbers of a list need not be packed into one field, nor into only one. */
static void numbers_of_a_list_may_come_singly(void **state)
{
    struct exchange *exchange = *state;
    struct raw body = {0};
    raw_number(&body, 5, 7);
    raw_zigzag(&body, 6, 0);
    raw_bytes(&body, 5, "\x01\x02", 2);
    raw_bytes(&body, 6, "\x02", 1);
    raw_zigzag(&body, 6, -3);
    assert_int_equal(hear_raw(exchange, raw_envelope(WIRE_ACTIVITY, &body)), WIRE_OK);
    assert_int_equal(exchange->heard.activity.count, 3);
    assert_int_equal(exchange->heard.activity.ids[2], 10);
    assert_true(exchange->heard.activity.seen[1] == 1000000);
    assert_true(exchange->heard.activity.seen[2] == -3000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(fields_of_tomorrow_are_passed_over),
        story(a_body_of_tomorrow_is_unknown),
        story(a_question_of_tomorrow_is_unknown),
        story(a_newer_version_is_told),
        story(without_a_version_or_a_body_it_is_malformed),
        story(a_change_of_tomorrow_is_malformed),
        story(what_an_older_node_leaves_out_reads_as_nothing),
        story(what_is_said_twice_counts_last),
        story(numbers_of_a_list_may_come_singly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
