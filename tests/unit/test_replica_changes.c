/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_changes.c - a server's changes after a number, read from the history, to repair a gap elsewhere.
 */
#include "replica_words.h"

static const presence_claim claim = {.epoch = 1, .turn = 1, .random = 7};

static void keep_history(struct world *world)
{
    presence_options options = world_options(world);
    options.history_bytes = 1024 * 1024;
    world_restart(world, &options);
    claims(world, S0, claim, true);
}

static presence_change_reader *read_after(struct world *world, uint64_t after)
{
    presence_change_reader *reader = NULL;
    expect_code(PRESENCE_OK, presence_replica_changes(world->recorder, S0, after, &reader));
    assert_non_null(reader);
    return reader;
}

/* LAGGED is told at the latest by the first next(). */
static bool is_lagged(struct world *world, uint64_t after)
{
    presence_change_reader *reader = NULL;
    presence_change change;
    int code = presence_replica_changes(world->recorder, S0, after, &reader);
    if (code == PRESENCE_OK)
        do
            code = presence_change_next(reader, &change);
        while (code == 1);
    presence_change_reader_free(reader);
    return code == PRESENCE_E_LAGGED;
}

static void expect_change(presence_change_reader *reader, uint64_t number, presence_change_kind kind,
                          const presence_value *value)
{
    presence_change change;
    assert_int_equal(presence_change_next(reader, &change), 1);
    assert_int_equal(change.number, number);
    assert_int_equal(change.kind, kind);
    if (kind == PRESENCE_CHANGE_CONNECT)
        assert_true(test_values_equal(&change.value, value, true));
    if (kind == PRESENCE_CHANGE_DISCONNECT)
        assert_int_equal(change.value.connection_id, value->connection_id);
}

static void each_change_in_its_order(void **state)
{
    struct world *world = *state;
    keep_history(world);
    presence_value first = seen(test_value(S0, 1, MODEL_A, "a"), 3);
    first.user_data = "data";
    at(world, 3);
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &first, NULL, NULL, NULL));
    at(world, 4);
    connects(world, S1, MODEL_A, "elsewhere", 1);
    presence_value second = seen(test_value(S0, 1, MODEL_B, "b"), 4);
    second.controller_agent = true;
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &second, NULL, NULL, NULL));
    at(world, 5);
    expect_code(PRESENCE_OK, presence_recorder_server_down_because(world->recorder, S0, PRESENCE_REASON_DRAINED, NULL));
    disconnects(world, S0, 1);

    presence_change_reader *reader = read_after(world, 0);
    expect_change(reader, 1, PRESENCE_CHANGE_CONNECT, &first);
    expect_change(reader, 2, PRESENCE_CHANGE_CONNECT, &second);
    presence_change change;
    assert_int_equal(presence_change_next(reader, &change), 1);
    assert_int_equal(change.number, 3);
    assert_int_equal(change.kind, PRESENCE_CHANGE_DOWN);
    assert_int_equal(change.reason, PRESENCE_REASON_DRAINED);
    assert_int_equal(change.time, STORY_BEGIN + 5);
    expect_change(reader, 4, PRESENCE_CHANGE_DISCONNECT, &second);
    assert_int_equal(presence_change_next(reader, &change), 0);
    assert_int_equal(presence_change_next(reader, &change), 0);
    presence_change_reader_free(reader);

    reader = read_after(world, 3);
    expect_change(reader, 4, PRESENCE_CHANGE_DISCONNECT, &second);
    assert_int_equal(presence_change_next(reader, &change), 0);
    presence_change_reader_free(reader);
    reader = read_after(world, 4);
    assert_int_equal(presence_change_next(reader, &change), 0);
    presence_change_reader_free(reader);
}

static void a_whole_list_between_asks_for_the_whole_state(void **state)
{
    struct world *world = *state;
    keep_history(world);
    connects(world, S0, MODEL_A, "a", 1);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "b")};
    updates(world, S0, list, 1); /* number 2 */
    connects(world, S0, MODEL_A, "c", 3);
    assert_true(is_lagged(world, 0));
    assert_true(is_lagged(world, 1));
    assert_false(is_lagged(world, 2));
    presence_change_reader *reader = read_after(world, 2);
    const presence_value value = seen(test_value(S0, 3, MODEL_A, "c"), 0);
    expect_change(reader, 3, PRESENCE_CHANGE_CONNECT, &value);
    presence_change_reader_free(reader);
}

static void what_is_not_kept_is_lagged(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, true); /* no history, no watch */
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    assert_true(is_lagged(world, 0));
}

static void with_a_watch_open_changes_are_kept(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, true);
    presence_watch *watch = watch_all(world);
    connects(world, S0, MODEL_A, "a", 1);
    presence_change_reader *reader = read_after(world, 0);
    const presence_value value = seen(test_value(S0, 1, MODEL_A, "a"), 0);
    expect_change(reader, 1, PRESENCE_CHANGE_CONNECT, &value);
    presence_change_reader_free(reader);
    presence_watch_free(watch);
}

static void too_many_to_be_kept_is_lagged(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.history_bytes = 1;
    world_restart(world, &options);
    claims(world, S0, claim, true);
    for (uint64_t i = 0; i < 30000; i++) {
        connects(world, S0, MODEL_A, "an-agent-with-a-name", 1);
        disconnects(world, S0, 1);
    }
    assert_true(is_lagged(world, 0));
    uint64_t number = describe(world, S0).number;
    presence_change_reader *reader = read_after(world, number - 2);
    presence_change change;
    assert_int_equal(presence_change_next(reader, &change), 1);
    assert_int_equal(change.number, number - 1);
    assert_int_equal(presence_change_next(reader, &change), 1);
    assert_int_equal(change.number, number);
    assert_int_equal(presence_change_next(reader, &change), 0);
    presence_change_reader_free(reader);
}

/* One change of the server's among hundreds of others', and so on: each is found, from whatever number. */
static void few_among_many_of_others_are_found(void **state)
{
    struct world *world = *state;
    enum { CHANGES = 600, OTHERS = 30 };
    presence_options options = world_options(world);
    options.history_bytes = 16 * 1024 * 1024;
    world_restart(world, &options);
    claims(world, S0, claim, true);
    for (uint64_t number = 1; number <= CHANGES; number++) {
        for (uint64_t id = 0; id < (number % 100 ? OTHERS : 40 * OTHERS); id++)
            connects(world, S1, id % 2 ? MODEL_A : MODEL_B, "other", number * 10000 + id);
        connects(world, S0, MODEL_A, "a", number);
    }
    for (uint64_t after = 0; after <= CHANGES; after += after > 500 ? 7 : 51) {
        presence_change_reader *reader = read_after(world, after);
        for (uint64_t number = after + 1; number <= CHANGES; number++) {
            const presence_value value = seen(test_value(S0, number, MODEL_A, "a"), 0);
            expect_change(reader, number, PRESENCE_CHANGE_CONNECT, &value);
        }
        presence_change change;
        assert_int_equal(presence_change_next(reader, &change), 0);
        connects(world, S1, MODEL_A, "other", after);
        assert_int_equal(presence_change_next(reader, &change), 0);
        presence_change_reader_free(reader);
    }
}

/* Though the history keeps the snapshots of few of them. */
static void lapses_of_others_leave_changes_as_they_are(void **state)
{
    struct world *world = *state;
    keep_history(world);
    claims(world, S1, claim, false);
    connects(world, S0, MODEL_A, "a", 1);
    for (int i = 0; i < 50; i++) {
        expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S1));
        expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S1));
    }
    presence_change_reader *reader = read_after(world, 0);
    const presence_value value = seen(test_value(S0, 1, MODEL_A, "a"), 0);
    expect_change(reader, 1, PRESENCE_CHANGE_CONNECT, &value);
    presence_change_reader_free(reader);
}

static void what_goes_while_it_is_looked_for_is_lagged(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.history_bytes = 1; /* the least */
    world_restart(world, &options);
    claims(world, S0, claim, true);
    connects(world, S0, MODEL_A, "a", 1);
    presence_change_reader *reader = read_after(world, 0);
    for (uint64_t id = 0; id < 30000; id++)
        connects(world, S1, MODEL_A, "other", id);
    presence_change change;
    expect_code(PRESENCE_E_LAGGED, presence_change_next(reader, &change));
    connects(world, S0, MODEL_A, "b", 2); /* kept, but not what comes next */
    expect_code(PRESENCE_E_LAGGED, presence_change_next(reader, &change));
    presence_change_reader_free(reader);
}

static void completion_is_a_change(void **state)
{
    struct world *world = *state;
    keep_history(world);
    connects(world, S0, MODEL_A, "a", 1);
    claims(world, S0, claim_of(2, 1, 1), true);
    connects(world, S0, MODEL_A, "b", 2);
    expect_code(PRESENCE_OK, presence_replica_complete(world->recorder, S0, NULL));
    presence_change_reader *reader = read_after(world, 1);
    expect_change(reader, 2, PRESENCE_CHANGE_COMPLETE, NULL);
    presence_change change;
    assert_int_equal(presence_change_next(reader, &change), 0);
    presence_change_reader_free(reader);
}

static void a_claim_begins_its_own_numbers(void **state)
{
    struct world *world = *state;
    keep_history(world);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    claims(world, S0, claim_of(2, 1, 1), true);
    connects(world, S0, MODEL_A, "c", 3);
    presence_change_reader *reader = read_after(world, 0);
    const presence_value value = seen(test_value(S0, 3, MODEL_A, "c"), 0);
    expect_change(reader, 1, PRESENCE_CHANGE_CONNECT, &value); /* not the first of the older claim */
    presence_change change;
    assert_int_equal(presence_change_next(reader, &change), 0);
    presence_change_reader_free(reader);
}

/* The changes of one recorder, read and applied to another, a few at a time and some twice. */
static void a_copy_follows_by_reading(void **state)
{
    struct world *world = *state;
    struct world *copy = world_new();
    keep_history(world);
    claims(copy, S0, claim, false);
    struct test_random random;
    test_random_seed(&random, 4);
    for (int round = 0; round < 200; round++) {
        for (uint64_t i = test_random_below(&random, 6); i > 0; i--) {
            uint64_t id = test_random_below(&random, 20);
            if (test_random_chance(&random, 3))
                presence_recorder_disconnect(world->recorder, S0, id);
            else
                connects(world, S0, MODEL_A, test_random_chance(&random, 2) ? "a" : "b", id);
        }
        if (test_random_chance(&random, 10))
            goes_down(world, S0);
        uint64_t number = describe(copy, S0).number, back = test_random_below(&random, 3);
        presence_change_reader *reader = read_after(world, number > back ? number - back : 0);
        presence_change change;
        while (presence_change_next(reader, &change) == 1)
            expect_code(PRESENCE_OK, presence_replica_apply(copy->recorder, S0, &claim, &change, NULL, NULL));
        presence_change_reader_free(reader);
        presence_server_description here = describe(world, S0), there = describe(copy, S0);
        assert_int_equal(here.number, there.number);
        assert_true(digests_equal(here.digest, there.digest));
    }
    struct content *here = content_of_recorder(world->recorder), *there = content_of_recorder(copy->recorder);
    assert_true(content_equal(here, there, true, NULL));
    content_free(here);
    content_free(there);
    world_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(each_change_in_its_order),
        story(a_whole_list_between_asks_for_the_whole_state),
        story(what_is_not_kept_is_lagged),
        story(with_a_watch_open_changes_are_kept),
        story(too_many_to_be_kept_is_lagged),
        story(few_among_many_of_others_are_found),
        story(lapses_of_others_leave_changes_as_they_are),
        story(what_goes_while_it_is_looked_for_is_lagged),
        story(completion_is_a_change),
        story(a_claim_begins_its_own_numbers),
        story(a_copy_follows_by_reading),
    };
    return cmocka_run_group_tests_name("replica_changes", tests, NULL, NULL);
}
