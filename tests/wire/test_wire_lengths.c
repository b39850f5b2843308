/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wire_lengths.c - batches are cut by about how long things will be: never less than half of what they then are,
 * and in all that is usual not far from it.
 */
#include "wire/exchange.h"

#include <stdio.h>
#include <string.h>

enum { MOST = 300, NAME_BYTES = 300 };

static char models[MOST][NAME_BYTES], agents[MOST][NAME_BYTES];

/* Names of `length` bytes, of which the first ones differ. */
static void make_names(char (*names)[NAME_BYTES], size_t length, size_t different)
{
    for (size_t i = 0; i < MOST; i++) {
        memset(names[i], 'x', length);
        names[i][length] = '\0';
        char start[16];
        int some = snprintf(start, sizeof start, "%zu", i % different);
        memcpy(names[i], start, (size_t)some < length ? (size_t)some : length);
    }
}

static const size_t name_lengths[] = {1, 4, 20, 36, 120, 250};
enum { NAME_LENGTHS = sizeof name_lengths / sizeof name_lengths[0] };

static void changes_are_not_underestimated(void **state)
{
    struct exchange *exchange = *state;
    static presence_change changes[MOST];
    for (size_t model = 0; model < NAME_LENGTHS; model++)
        for (size_t agent = 0; agent < NAME_LENGTHS; agent++)
            for (unsigned kind = PRESENCE_CHANGE_CONNECT; kind <= PRESENCE_CHANGE_COMPLETE; kind++)
                for (size_t different = 1; different <= MOST; different += MOST - 1) {
                    size_t estimate = 0;
                    make_names(models, name_lengths[model], different);
                    make_names(agents, name_lengths[agent], MOST);
                    for (size_t i = 0; i < MOST; i++) {
                        changes[i] = (presence_change){.kind = (presence_change_kind)kind,
                                                       .reason = PRESENCE_REASON_DRAINED,
                                                       .time = -1,
                                                       .value = {.model = models[i],
                                                                 .agent = agents[i],
                                                                 .user_data = i % 2 ? agents[i] : "",
                                                                 .connection_id = different == 1 ? i : UINT64_MAX - i,
                                                                 .controller_agent = i % 3 == 0}};
                        estimate += wire_change_bytes(&changes[i]);
                    }
                    struct wire_message message = {.kind = WIRE_CHANGES,
                                                   .changes = {.first = 1, .changes = changes, .count = MOST}};
                    assert_int_equal(say(exchange, &message), WIRE_OK);
                    assert_true(estimate * 2 >= exchange->length);
                    if (kind != PRESENCE_CHANGE_CONNECT || name_lengths[model] <= 2 * name_lengths[agent])
                        assert_true(estimate <= exchange->length * 2);
                }
}

static void values_are_not_underestimated(void **state)
{
    struct exchange *exchange = *state;
    static presence_value values[MOST];
    for (size_t model = 0; model < NAME_LENGTHS; model++)
        for (size_t agent = 0; agent < NAME_LENGTHS; agent++)
            for (size_t different = 1; different <= MOST; different += MOST - 1) {
                size_t estimate = 0;
                make_names(models, name_lengths[model], different);
                make_names(agents, name_lengths[agent], MOST);
                for (size_t i = 0; i < MOST; i++) {
                    values[i] = (presence_value){.model = models[i],
                                                 .agent = agents[i],
                                                 .user_data = i % 2 ? agents[i] : "",
                                                 .connection_id = different == 1 ? i : UINT64_MAX - i,
                                                 .last_seen = different == 1 ? 0 : INT64_MAX * (i % 2),
                                                 .status = i % 2 ? PRESENCE_ALIVE : PRESENCE_MISSING,
                                                 .controller_agent = i % 3 == 0};
                    estimate += wire_value_bytes(&values[i], different == 1 && i > 0);
                }
                struct wire_message message = {.kind = WIRE_CHUNK, .chunk = {.values = values, .count = MOST}};
                assert_int_equal(say(exchange, &message), WIRE_OK);
                assert_true(estimate * 2 >= exchange->length);
            }
}

/* A usual one: an id of any size, a model that many share, a unit's name. */
static void a_usual_batch_comes_near_to_it(void **state)
{
    struct exchange *exchange = *state;
    static presence_change changes[2 * WIRE_BATCH_BYTES / 40];
    size_t count = 0;
    make_names(models, 36, 10);
    make_names(agents, 16, MOST);
    for (size_t estimate = 0; estimate < WIRE_BATCH_BYTES; count++) {
        changes[count] = (presence_change){.kind = PRESENCE_CHANGE_CONNECT,
                                           .time = 1767225600123456789,
                                           .value = {.model = models[count % MOST],
                                                     .agent = agents[count % MOST],
                                                     .connection_id = UINT64_MAX / 3 + count}};
        estimate += wire_change_bytes(&changes[count]);
    }
    struct wire_message message = {.kind = WIRE_CHANGES, .changes = {.first = 1, .changes = changes, .count = count}};
    assert_int_equal(say(exchange, &message), WIRE_OK);
    assert_true(exchange->length > WIRE_BATCH_BYTES / 2 && exchange->length <= WIRE_BATCH_BYTES + 100);
}

/* The values of a chunk, of the models that the encoder lists. */
static void a_usual_chunk_comes_near_to_it(void **state)
{
    struct exchange *exchange = *state;
    static presence_value values[WIRE_BATCH_BYTES / 16];
    for (size_t different = 1; different <= 50; different += 49) {
        size_t count = 0;
        make_names(models, 36, different);
        make_names(agents, 16, MOST);
        for (size_t estimate = 0; estimate < WIRE_BATCH_BYTES; count++) {
            values[count] = (presence_value){.model = models[count % MOST],
                                             .agent = agents[count % MOST],
                                             .user_data = "",
                                             .connection_id = 1000000 + count,
                                             .status = PRESENCE_ALIVE,
                                             .last_seen = 1767225600123456789 + (int64_t)(count * 1234567)};
            estimate += wire_value_bytes(&values[count], count >= different);
        }
        struct wire_message message = {.kind = WIRE_CHUNK, .chunk = {.values = values, .count = count}};
        assert_int_equal(say(exchange, &message), WIRE_OK);
        assert_true(exchange->length > WIRE_BATCH_BYTES * 3 / 4 && exchange->length <= WIRE_BATCH_BYTES + 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(changes_are_not_underestimated),
        story(values_are_not_underestimated),
        story(a_usual_batch_comes_near_to_it),
        story(a_usual_chunk_comes_near_to_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
