/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wire_messages.c - what is said is heard: every kind whole, times as exact as the format keeps them, models
 * listed once, and lists of nothing.
 */
#include "wire/exchange.h"

#include <stdio.h>
#include <string.h>

#define TIME INT64_C(1767225600123456789)
#define MILLISECOND 1000000

static void every_kind_comes_whole(void **state)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        exchanged(*state, &samples[i].message);
        struct exchange *exchange = *state;
        expect_same(&exchange->heard, &samples[i].message);
    }
}

/* One after the other in the same memory, long and short ones mixed, many times. */
static void an_arena_serves_many_messages(void **state)
{
    struct exchange *exchange = *state;
    uint64_t calls = 0;
    for (size_t i = 0; i < 100 * SAMPLES; i++) {
        exchanged(exchange, &samples[i % SAMPLES].message);
        expect_same(&exchange->heard, &samples[i % SAMPLES].message);
        if (i == SAMPLES)
            calls = exchange->memory.calls;
    }
    assert_int_equal(exchange->memory.calls, calls); /* no more memory, once it has grown */
}

static void what_is_empty_comes_empty(void **state)
{
    for (int kind = WIRE_BEAT; kind <= WIRE_DIFFERENCE; kind++) {
        struct wire_message message = {.kind = (enum wire_kind)kind};
        if (kind == WIRE_BEAT)
            message.beat.parts = 1;
        if (kind == WIRE_ASK)
            message.ask.question = WIRE_ASK_STANDS;
        const struct wire_message *heard = exchanged(*state, &message);
        assert_string_equal(heard->node, "");
        assert_int_equal(heard->kind, kind);
        if (kind == WIRE_CHANGES)
            assert_int_equal(heard->changes.count, 0);
        if (kind == WIRE_EVIDENCE)
            assert_string_equal(heard->evidence.agent, "");
        if (kind == WIRE_FORGET)
            assert_int_equal(heard->forget.claim.epoch, 0);
    }
}

/* ------------------------------------------------------------------------------------------------------- times -- */

static const presence_time times[] = {
    TIME, TIME + 1, TIME - 1,     TIME - 999999,    TIME + 999999, TIME + MILLISECOND, 0,
    1,    -1,       -MILLISECOND, -MILLISECOND - 1, INT64_MAX,     INT64_MIN,          INT64_MIN + 1};
enum { TIMES = sizeof times / sizeof times[0] };

static void times_of_changes_keep_their_nanoseconds(void **state)
{
    presence_change changes[TIMES];
    for (size_t i = 0; i < TIMES; i++)
        changes[i] = (presence_change){.kind = i % 2 ? PRESENCE_CHANGE_CONNECT : PRESENCE_CHANGE_DISCONNECT,
                                       .time = times[i],
                                       .value = {.last_seen = times[i]}};
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = changes, .count = TIMES}};
    const struct wire_message *heard = exchanged(*state, &message);
    for (size_t i = 0; i < TIMES; i++) {
        assert_true(heard->changes.changes[i].time == times[i]);
        if (i % 2)
            assert_true(heard->changes.changes[i].value.last_seen == times[i]);
    }
}

/* Whichever stands first, also those that no 64 bits lie between. */
static void times_of_a_state_keep_their_nanoseconds(void **state)
{
    for (size_t first = 0; first < TIMES; first++) {
        presence_value values[TIMES];
        for (size_t i = 0; i < TIMES; i++)
            values[i] = (presence_value){.last_seen = times[(first + i) % TIMES], .status = PRESENCE_ALIVE};
        struct wire_message message = {.kind = WIRE_CHUNK, .chunk = {.values = values, .count = TIMES}};
        const struct wire_message *heard = exchanged(*state, &message);
        for (size_t i = 0; i < TIMES; i++)
            assert_true(heard->chunk.values[i].last_seen == values[i].last_seen);
    }
}

/* Less than a millisecond early; only where there is no earlier millisecond, late. */
static void activity_comes_to_the_millisecond(void **state)
{
    for (size_t first = 0; first < TIMES; first++) {
        presence_time seen[TIMES];
        uint64_t ids[TIMES];
        for (size_t i = 0; i < TIMES; i++) {
            seen[i] = times[(first + i) % TIMES];
            ids[i] = 3 * i + 1;
        }
        struct wire_message message = {.kind = WIRE_ACTIVITY, .activity = {.ids = ids, .seen = seen, .count = TIMES}};
        const struct wire_message *heard = exchanged(*state, &message);
        for (size_t i = 0; i < TIMES; i++) {
            assert_int_equal(heard->activity.ids[i], ids[i]);
            presence_time early = seen[i] - heard->activity.seen[i];
            assert_true(early < MILLISECOND && (early >= 0 || (seen[i] < INT64_MIN + 2 && early > -MILLISECOND)));
        }
    }
}

static void the_first_activity_is_exact(void **state)
{
    uint64_t id = 5;
    presence_time seen = TIME;
    struct wire_message message = {.kind = WIRE_ACTIVITY, .activity = {.ids = &id, .seen = &seen, .count = 1}};
    assert_true(exchanged(*state, &message)->activity.seen[0] == TIME);
}

/* ------------------------------------------------------------------------------------------------------- models -- */

enum { VALUES = 1000, NAME_BYTES = 64 };

/* How often a text is in the bytes. */
static size_t occurrences(const struct exchange *exchange, const char *text)
{
    size_t found = 0, length = strlen(text);
    const char *bytes = exchange->bytes;
    for (size_t at = 0; at + length <= exchange->length; at++)
        found += memcmp(bytes + at, text, length) == 0;
    return found;
}

/* Values whose models take turns; each comes back with its own. */
static void exchange_models(struct exchange *exchange, size_t models)
{
    static char names[VALUES][NAME_BYTES];
    static presence_value values[VALUES];
    for (size_t i = 0; i < VALUES; i++) {
        snprintf(names[i], NAME_BYTES, "model-%zu-of-an-owner", i % models);
        values[i] =
            (presence_value){.model = names[i], .agent = "unit-a", .connection_id = i, .status = PRESENCE_ALIVE};
    }
    struct wire_message message = {.kind = WIRE_CHUNK, .chunk = {.values = values, .count = VALUES}};
    const struct wire_message *heard = exchanged(exchange, &message);
    for (size_t i = 0; i < VALUES; i++)
        assert_string_equal(heard->chunk.values[i].model, names[i]);
}

static void models_are_listed_once(void **state)
{
    exchange_models(*state, 64);
    assert_int_equal(occurrences(*state, "model-0-of"), 1);
    assert_int_equal(occurrences(*state, "model-63-of"), 1);
}

static void more_models_than_are_searched_come_right(void **state)
{
    exchange_models(*state, 65);
    exchange_models(*state, VALUES);
    assert_int_equal(occurrences(*state, "model-0-of"), 1);
}

/* In no order, so that any of the last ones is asked for, and some that are no longer searched. */
static void models_at_random_come_right(void **state)
{
    static char names[VALUES][NAME_BYTES];
    static presence_change changes[VALUES];
    struct test_random random;
    test_random_seed(&random, 1);
    for (size_t i = 0; i < VALUES; i++) {
        snprintf(names[i], NAME_BYTES, "model-%d", (int)test_random_below(&random, 100));
        changes[i] = (presence_change){
            .kind = PRESENCE_CHANGE_CONNECT, .time = 1, .value = {.model = names[i], .connection_id = i}};
    }
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = changes, .count = VALUES}};
    const struct wire_message *heard = exchanged(*state, &message);
    for (size_t i = 0; i < VALUES; i++)
        assert_string_equal(heard->changes.changes[i].value.model, names[i]);
}

/* Alike at both ends and of one length, and one that is the beginning of another. */
static void models_that_look_alike_are_told_apart(void **state)
{
    const char *names[] = {"abcd-1-abcd", "abcd-2-abcd", "abcd-1-abcd", "abcd", "abcdabcd", "", "a", "ab", "ba", NULL};
    enum { NAMES = sizeof names / sizeof names[0] };
    presence_change changes[NAMES];
    for (size_t i = 0; i < NAMES; i++)
        changes[i] = (presence_change){.kind = PRESENCE_CHANGE_CONNECT, .value = {.model = names[i]}};
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = changes, .count = NAMES}};
    const struct wire_message *heard = exchanged(*state, &message);
    for (size_t i = 0; i < NAMES; i++)
        assert_string_equal(heard->changes.changes[i].value.model, names[i] ? names[i] : "");
}

/* ----------------------------------------------------------------------------------------------------- numbers -- */

static void changes_are_numbered_from_the_first(void **state)
{
    presence_change changes[3] = {{.number = 9, .kind = PRESENCE_CHANGE_COMPLETE},
                                  {.number = 9, .kind = PRESENCE_CHANGE_COMPLETE},
                                  {.number = 9, .kind = PRESENCE_CHANGE_COMPLETE}};
    struct wire_message message = {.kind = WIRE_CHANGES,
                                   .changes = {.first = UINT64_MAX - 2, .changes = changes, .count = 3}};
    const struct wire_message *heard = exchanged(*state, &message);
    for (size_t i = 0; i < 3; i++)
        assert_true(heard->changes.changes[i].number == UINT64_MAX - 2 + i);
}

/* What a kind of change does not need is left out. */
static void changes_say_only_what_their_kind_needs(void **state)
{
    presence_change change = {.kind = PRESENCE_CHANGE_COMPLETE,
                              .reason = PRESENCE_REASON_DRAINED,
                              .value = {.model = "m", .agent = "a", .user_data = "d", .connection_id = 5}};
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = &change, .count = 1}};
    const struct wire_message *heard = exchanged(*state, &message);
    assert_int_equal(heard->changes.changes[0].reason, PRESENCE_REASON_NONE);
    assert_string_equal(heard->changes.changes[0].value.agent, "");
    assert_int_equal(heard->changes.changes[0].value.connection_id, 0);
    change.kind = PRESENCE_CHANGE_DOWN;
    heard = exchanged(*state, &message);
    assert_int_equal(heard->changes.changes[0].reason, PRESENCE_REASON_DRAINED);
    assert_int_equal(heard->changes.changes[0].value.connection_id, 0);
    change.kind = PRESENCE_CHANGE_DISCONNECT;
    heard = exchanged(*state, &message);
    assert_int_equal(heard->changes.changes[0].reason, PRESENCE_REASON_NONE);
    assert_int_equal(heard->changes.changes[0].value.connection_id, 5);
}

/* ----------------------------------------------------------------------------------------- by hand or generated -- */

static uint64_t next_random(void)
{
    static uint64_t state = 1;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 33;
}

static const char *any_of(const char *const *names, size_t count)
{
    return names[next_random() % count];
}

static presence_change any_change(void)
{
    static const char *const names[] = {"a", "an agent with a longer name than most of them have", "", "b", "c"};
    static const uint64_t numbers[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX, UINT64_C(1) << 63};
    presence_change change = {.kind = (presence_change_kind)(1 + next_random() % 4),
                              .reason = PRESENCE_REASON_DRAINED,
                              .time = times[next_random() % (sizeof times / sizeof times[0])],
                              .value = {.model = any_of(names, 5),
                                        .agent = any_of(names, 5),
                                        .user_data = any_of(names, 5),
                                        .connection_id = numbers[next_random() % 8],
                                        .controller_agent = next_random() % 2}};
    return change;
}

/* The same whichever way it is read, message or error. */
static void expect_both_ways_agree(struct exchange *exchange, const uint8_t *bytes, size_t length)
{
    struct wire_message general;
    int error = hear(exchange, bytes, length);
    wire_arena_reset(exchange->out);
    assert_int_equal(wire_decode_generally(exchange->out, bytes, length, &general), error);
    if (!error)
        expect_same(&exchange->heard, &general);
}

/* Whole ones, and ones of which a byte is another or the end is missing. */
static void changes_are_read_as_the_generated_code_reads_them(void **state)
{
    enum { ROUNDS = 300, WOUNDS = 30, MOST = 12, MOST_BYTES = 4096 };
    struct exchange *exchange = *state;
    for (int round = 0; round < ROUNDS; round++) {
        presence_change changes[MOST];
        uint8_t bytes[MOST_BYTES];
        struct wire_message message = {.node = "node-a",
                                       .run = next_random(),
                                       .kind = WIRE_CHANGES,
                                       .changes = {.server = next_random() % 8 ? "s" : "",
                                                   .claim = {next_random() % 3, next_random() % 300, next_random()},
                                                   .first = 1 + next_random() % 1000,
                                                   .changes = changes,
                                                   .count = next_random() % MOST}};
        for (size_t i = 0; i < message.changes.count; i++)
            changes[i] = any_change();
        assert_int_equal(say(exchange, &message), WIRE_OK);
        size_t length = exchange->length;
        assert_true(length > 0 && length <= MOST_BYTES);
        memcpy(bytes, exchange->bytes, length);
        expect_both_ways_agree(exchange, bytes, length);
        for (int wound = 0; wound < WOUNDS; wound++) {
            size_t at = next_random() % length;
            uint8_t was = bytes[at];
            bytes[at] = (uint8_t)(next_random() % 4 ? was ^ 1U << next_random() % 8 : next_random());
            expect_both_ways_agree(exchange, bytes, next_random() % 4 ? length : at);
            bytes[at] = was;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(every_kind_comes_whole),
        story(an_arena_serves_many_messages),
        story(what_is_empty_comes_empty),
        story(times_of_changes_keep_their_nanoseconds),
        story(times_of_a_state_keep_their_nanoseconds),
        story(activity_comes_to_the_millisecond),
        story(the_first_activity_is_exact),
        story(models_are_listed_once),
        story(more_models_than_are_searched_come_right),
        story(models_at_random_come_right),
        story(models_that_look_alike_are_told_apart),
        story(changes_are_numbered_from_the_first),
        story(changes_say_only_what_their_kind_needs),
        story(changes_are_read_as_the_generated_code_reads_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
