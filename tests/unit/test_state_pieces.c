/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_state_pieces.c - a whole state that is recorded in pieces: nothing shows before the commit, all of it after; who
 * needs the server in between takes it away; what is aborted leaves nothing behind.
 */
#include "recorder.h"
#include "replica_words.h"

#include <stdio.h>

static const presence_claim claim = {.epoch = 4, .turn = 1, .random = 7}, larger = {.epoch = 4, .turn = 2, .random = 1};

static presence_state_writer *begins(struct world *world, const char *server, uint64_t number, uint64_t floor)
{
    presence_state_writer *writer = NULL;
    expect_code(PRESENCE_OK, presence_replica_state_begin(world->recorder, server, &claim, number, floor,
                                                          PRESENCE_REASON_TIMED_OUT, STORY_BEGIN + 20, &writer, NULL));
    assert_non_null(writer);
    return writer;
}

static int begin_is(struct world *world, const char *server, const presence_claim *by, uint64_t number)
{
    presence_state_writer *writer = NULL;
    int code = presence_replica_state_begin(world->recorder, server, by, number, 0, PRESENCE_REASON_SERVER_DOWN, 0,
                                            &writer, NULL);
    assert_true((code == PRESENCE_OK) == (writer != NULL));
    presence_replica_state_abort(writer);
    return code;
}

static void adds(presence_state_writer *writer, const presence_value *values, size_t count)
{
    expect_code(PRESENCE_OK, presence_replica_state_add(writer, values, count, NULL));
}

static void nothing_shows_before_the_commit_and_all_of_it_after(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "alive"), 11),
                               seen(test_value(S0, 2, MODEL_A, "missing"), 12),
                               seen(test_value(S0, 3, MODEL_B, "alive"), 13)};
    values[1].status = PRESENCE_MISSING;
    claims(world, S0, claim, false);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_state_writer *writer = begins(world, S0, 40, 33);
    adds(writer, values, 2);
    adds(writer, values + 2, 1);
    expect_absent(world, S0, 1);
    expect_counts(world, 0, 0);
    expect_quiet(watch);
    assert_int_equal(describe(world, S0).number, 0);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    expect_code(PRESENCE_OK, presence_replica_state_commit(writer, NULL));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    expect_recorded(world, values[0], PRESENCE_ALIVE, 11);
    expect_recorded(world, values[1], PRESENCE_MISSING, 12);
    expect_recorded(world, values[2], PRESENCE_ALIVE, 13);
    expect_counts(world, 2, 1);
    expect_evidence(world, MODEL_A, "missing", PRESENCE_MISSING, PRESENCE_REASON_TIMED_OUT, 20, 12, 0, 1);
    presence_server_description description = describe(world, S0);
    assert_int_equal(description.number, 40);
    assert_int_equal(description.floor, 33);
    assert_true(description.complete);
    presence_watch_free(watch);
}

static void it_is_what_a_state_taken_at_once_is(void **state)
{
    struct world *world = *state;
    enum { MANY = 300 };
    static presence_value values[MANY];
    static char names[MANY][16];
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "agent-%zu", i % 200);
        values[i] = seen(test_value(S0, i + 1, i % 3 ? MODEL_A : MODEL_B, names[i]), (presence_time)i);
        values[i].status = i % 7 ? PRESENCE_ALIVE : PRESENCE_MISSING;
    }
    presence_state_writer *writer = begins(world, S0, 40, 33);
    for (size_t i = 0; i < MANY; i += 100)
        adds(writer, values + i, 100);
    connects(world, S1, MODEL_A, "agent-1", 5); /* others write between the pieces */
    expect_code(PRESENCE_OK, presence_replica_state_commit(writer, NULL));
    presence_server_description pieces = describe(world, S0);
    for (size_t i = 0; i < MANY; i++)
        values[i].server = S1;
    expect_code(PRESENCE_OK,
                presence_replica_apply_state(world->recorder, S1, &claim, 40, 33, PRESENCE_REASON_TIMED_OUT,
                                             STORY_BEGIN + 20, values, MANY, NULL));
    presence_server_description at_once = describe(world, S1);
    assert_true(digests_equal(pieces.digest, at_once.digest));
    assert_int_equal(pieces.connections, at_once.connections);
    assert_int_equal(pieces.alive, at_once.alive);
}

static void expect_model(struct world *world, const char *model, size_t connections, size_t agents)
{
    size_t got = 99, of_agents = 99;
    expect_code(PRESENCE_OK, presence_recorder_model_counts(world->recorder, model, &got, &of_agents));
    assert_int_equal(got, connections);
    assert_int_equal(of_agents, agents);
    presence_connections *view = presence_recorder_connections(world->recorder),
                         *slice = presence_connections_for_model(view, model);
    assert_int_equal(presence_connections_count(slice), connections);
    presence_connections_free(slice);
    presence_connections_free(view);
    presence_error error = {0};
    if (presence_recorder_check(world->recorder, &error) != PRESENCE_OK)
        fail_msg("%s", error.message);
}

static void expect_models(struct world *world, const char *first, const char *second)
{
    char **names = NULL;
    size_t count = 0;
    presence_connections *view = presence_recorder_connections(world->recorder);
    expect_code(PRESENCE_OK, presence_connections_models(view, &names, &count));
    if (second)
        expect_names(names, count, first, second);
    else
        expect_names(names, count, first);
    presence_connections_free(view);
}

/* Agents that have other connections too, that lose and gain them, and that several such states name. */
static void counts_of_a_model_leave_out_what_does_not_show_yet(void **state)
{
    struct world *world = *state;
    const presence_value first[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "a"),
                                    test_value(S0, 3, MODEL_A, "b"), test_value(S0, 4, MODEL_B, "c")};
    const presence_value second[] = {test_value("machine-2", 1, MODEL_A, "b"),
                                     test_value("machine-2", 2, MODEL_A, "d")};
    connects(world, S1, MODEL_A, "a", 1);
    presence_state_writer *writer = begins(world, S0, 1, 0), *other = begins(world, "machine-2", 1, 0);
    adds(writer, first, 4);
    expect_model(world, MODEL_A, 1, 1);
    expect_model(world, MODEL_B, 0, 0);
    expect_models(world, MODEL_A, NULL);
    disconnects(world, S1, 1);
    expect_model(world, MODEL_A, 0, 0);
    connects(world, S1, MODEL_A, "a", 1);
    connects(world, S1, MODEL_A, "b", 2);
    expect_model(world, MODEL_A, 2, 2);
    adds(other, second, 2);
    expect_model(world, MODEL_A, 2, 2);
    disconnects(world, S1, 2);
    expect_model(world, MODEL_A, 1, 1);
    expect_code(PRESENCE_OK, presence_replica_state_commit(writer, NULL));
    expect_model(world, MODEL_A, 4, 2);
    expect_model(world, MODEL_B, 1, 1);
    expect_models(world, MODEL_A, MODEL_B);
    presence_replica_state_abort(other);
    expect_model(world, MODEL_A, 4, 2);
    presence_recorder_trim(world->recorder);
    expect_model(world, MODEL_B, 1, 1);
}

/* A sweep that gets no memory leaves marks on rows that show by then, and others that are still to come. */
static void counts_are_right_while_a_state_waits_to_be_swept(void **state)
{
    struct world *world = *state;
    enum { MANY = 30000, NAMES = 21000 }; /* more to copy than a reserve holds */
    static presence_value values[MANY];
    static char names[MANY][16];
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "agent-%zu", i % NAMES);
        values[i] = test_value(S0, i + 1, i % 3 ? MODEL_A : MODEL_B, names[i]);
    }
    const presence_value more[] = {test_value("machine-2", 1, MODEL_A, "agent-1"),
                                   test_value("machine-2", 2, MODEL_A, "another")};
    bool halted = false, mixed = false;
    arena_test_chunk_bytes = ARENA_SPAN_BYTES;
    for (uint64_t nth = 1; nth <= 4; nth++) {
        presence_options options = world_options(world);
        world_restart(world, &options);
        presence_state_writer *writer = begins(world, S0, 1, 0), *other = NULL;
        adds(writer, values, MANY);
        if (nth % 2) {
            other = begins(world, "machine-2", 1, 0);
            adds(other, more, 2);
        }
        presence_connections *view = presence_recorder_connections(world->recorder); /* so pages have to be copied */
        test_allocator_fail_nth(&world->memory, nth, true);
        int code = presence_replica_state_commit(writer, NULL);
        test_allocator_fail_nth(&world->memory, 0, false);
        assert_true(code == PRESENCE_OK || code == PRESENCE_E_NO_MEMORY);
        bool waits = world->recorder->registry->now.sweeps > 0;
        halted = halted || (code == PRESENCE_OK && waits && !other);
        mixed = mixed || (code == PRESENCE_OK && waits && other);
        size_t a = code ? 0 : MANY - (MANY + 2) / 3, b = code ? 0 : (MANY + 2) / 3;
        expect_model(world, MODEL_A, a, code ? 0 : NAMES * 2 / 3);
        expect_model(world, MODEL_B, b, code ? 0 : NAMES / 3);
        presence_replica_state_abort(other);
        expect_model(world, MODEL_A, a, code ? 0 : NAMES * 2 / 3);
        presence_connections_free(view);
    }
    arena_test_chunk_bytes = 0;
    assert_true(halted && mixed);
}

static void what_is_aborted_leaves_nothing(void **state)
{
    struct world *world = *state;
    const presence_value values[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_B, "b")};
    connects(world, S1, MODEL_A, "a", 5);
    remember(world);
    presence_state_writer *writer = begins(world, S0, 1, 0);
    presence_replica_state_abort(writer);
    expect_unchanged(world);
    writer = begins(world, S0, 1, 0);
    adds(writer, values, 2);
    presence_replica_state_abort(writer);
    expect_unchanged(world);
    presence_server_description description;
    expect_code(PRESENCE_E_NOT_FOUND, presence_replica_describe(world->recorder, S0, &description));
    presence_replica_state_abort(NULL);
}

static void who_needs_the_server_takes_it_away(void **state)
{
    struct world *world = *state;
    const presence_value values[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_B, "b")};
    presence_state_writer *writer = begins(world, S0, 40, 0);
    adds(writer, values, 1);
    claims(world, S0, larger, false); /* does not wait for the rest */
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_add(writer, values + 1, 1, NULL));
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_add(writer, values + 1, 1, NULL));
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_commit(writer, NULL));
    expect_counts(world, 0, 0);
    presence_server_description taken = describe(world, S0);
    assert_int_equal(presence_claim_compare(&taken.claim, &larger), 0);
    connects(world, S1, MODEL_A, "a", 5);
    writer = begins(world, "machine-2", 40, 0);
    connects(world, "machine-2", MODEL_A, "a", 5); /* nobody's claim: a local call is heard */
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_commit(writer, NULL));
    expect_counts(world, 2, 0);
}

static presence_state_writer *begins_a_claimed_one(struct world *world, const presence_value *value)
{
    if (presence_replica_claim(world->recorder, S0, &claim, false))
        fail();
    presence_state_writer *writer = begins(world, S0, 40, 0);
    adds(writer, value, 1);
    return writer;
}

/* Whatever other nodes state of the server meanwhile is heard at once. */
static void a_lapse_a_change_or_an_end_of_it_takes_it_away(void **state)
{
    struct world *world = *state;
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    presence_state_writer *writer = begins_a_claimed_one(world, &value);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_commit(writer, NULL));
    assert_true(describe(world, S0).lapsed);
    writer = begins_a_claimed_one(world, &value);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_add(writer, &value, 1, NULL));
    presence_replica_state_abort(writer);
    writer = begins_a_claimed_one(world, &value);
    applies(world, S0, claim, connect_change(1, test_value(S0, 7, MODEL_B, "b")), true);
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_commit(writer, NULL));
    applies(world, S0, claim, disconnect_change(2, 7), true);
    expect_counts(world, 0, 0);
    writer = begins_a_claimed_one(world, &value);
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S0, NULL));
    expect_code(PRESENCE_E_LAGGED, presence_replica_state_commit(writer, NULL));
    assert_true(describe(world, S0).forgotten);
    expect_counts(world, 0, 0);
    writer = begins(world, S1, 40, 0); /* nothing of this one is known, so there is nothing to forget */
    expect_code(PRESENCE_E_NOT_FOUND, presence_replica_forget(world->recorder, S1, NULL));
    expect_code(PRESENCE_OK, presence_replica_state_commit(writer, NULL));
}

static void local_calls_on_a_claimed_server_do_not_disturb_it(void **state)
{
    struct world *world = *state;
    const presence_value value = seen(test_value(S0, 1, MODEL_A, "a"), 11);
    claims(world, S0, claim, false);
    presence_state_writer *writer = begins(world, S0, 40, 0);
    adds(writer, &value, 1);
    expect_code(PRESENCE_E_STALE, presence_recorder_connect(world->recorder, S0, MODEL_A, "b", 2, false, ""));
    expect_code(PRESENCE_E_STALE, presence_recorder_disconnect(world->recorder, S0, 1));
    expect_code(PRESENCE_E_STALE, presence_recorder_activity(world->recorder, S0, 1));
    expect_code(PRESENCE_E_STALE, presence_recorder_server_down(world->recorder, S0));
    expect_code(PRESENCE_OK, presence_replica_state_commit(writer, NULL));
    expect_recorded(world, value, PRESENCE_ALIVE, 11);
}

static void it_is_refused_as_a_state_at_once_would_be(void **state)
{
    struct world *world = *state;
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    const presence_claim none = {0}, smaller = {.epoch = 3, .turn = 1, .random = 1};
    presence_state_writer *writer = NULL;
    expect_code(PRESENCE_E_INVALID, begin_is(world, S0, &none, 1));
    expect_code(PRESENCE_E_INVALID, begin_is(world, "", &claim, 1));
    expect_code(PRESENCE_E_INVALID,
                presence_replica_state_begin(world->recorder, S0, &claim, 4, 5, 0, 0, &writer, NULL));
    claims(world, S0, claim, false);
    expect_code(PRESENCE_E_STALE, begin_is(world, S0, &smaller, 1));
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 10, &value, 1));
    remember(world);
    presence_error error = {0};
    expect_code(PRESENCE_E_INVALID,
                presence_replica_state_begin(world->recorder, S0, &claim, 10, 0, 0, 0, &writer, &error));
    assert_non_null(strstr(error.message, "nothing is recorded"));
    expect_unchanged(world);
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 11, NULL, 0));
    expect_code(PRESENCE_E_STALE, begin_is(world, S0, &claim, 10)); /* an older number */
    expect_code(PRESENCE_OK, begin_is(world, S0, &claim, 11));
    presence_recorder_disable(world->recorder);
    expect_code(PRESENCE_E_DISABLED, begin_is(world, S0, &claim, 1));
}

static void a_bad_value_spoils_all_of_it(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    const presence_value good[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    const presence_value twice = test_value(S0, 1, MODEL_B, "c"), other = test_value(S1, 3, MODEL_A, "a"),
                         bad = test_value(S0, 3, MODEL_A, "");
    const struct {
        const presence_value *value;
        int code;
    } faults[] = {{&twice, PRESENCE_E_DUPLICATE}, {&other, PRESENCE_E_MISMATCH}, {&bad, PRESENCE_E_INVALID}};
    remember(world);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        presence_state_writer *writer = begins(world, S0, 1, 0);
        adds(writer, good, 2);
        expect_code(faults[i].code, presence_replica_state_add(writer, faults[i].value, 1, NULL));
        expect_code(faults[i].code, presence_replica_state_add(writer, NULL, 0, NULL));
        expect_code(faults[i].code, presence_replica_state_commit(writer, NULL));
        expect_unchanged(world);
    }
    const presence_value within[] = {good[0], good[0]};
    presence_state_writer *writer = begins(world, S0, 1, 0);
    expect_code(PRESENCE_E_DUPLICATE, presence_replica_state_add(writer, within, 2, NULL));
    presence_replica_state_abort(writer);
    expect_unchanged(world);
}

/* Which value is meant is told by its place in the whole state. */
static void messages_name_the_value(void **state)
{
    struct world *world = *state;
    const presence_value good[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    const presence_value twice[] = {test_value(S0, 3, MODEL_A, "a"), test_value(S0, 2, MODEL_B, "c")};
    const presence_value bad[] = {test_value(S0, 3, MODEL_A, "a"), test_value(S0, 4, MODEL_A, "")};
    presence_error error = {0};
    presence_state_writer *writer = begins(world, S0, 1, 0);
    adds(writer, good, 2);
    expect_code(PRESENCE_E_DUPLICATE, presence_replica_state_add(writer, twice, 2, &error));
    assert_string_equal(error.message, "value 3: connection id 2 is in the state twice");
    presence_replica_state_abort(writer);
    writer = begins(world, S0, 1, 0);
    adds(writer, good, 2);
    expect_code(PRESENCE_E_INVALID, presence_replica_state_add(writer, bad, 2, &error));
    assert_non_null(strstr(error.message, "value 3"));
    presence_replica_state_abort(writer);
}

static void the_limit_counts_at_the_commit(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.limit_connections = 1;
    world_restart(world, &options);
    const presence_value values[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_B, "b")};
    remember(world);
    presence_state_writer *writer = begins(world, S0, 1, 0);
    adds(writer, values, 2);
    expect_code(PRESENCE_E_LIMIT, presence_replica_state_commit(writer, NULL));
    expect_unchanged(world);
}

static void a_recorder_that_is_disabled_meanwhile_has_none_of_it(void **state)
{
    struct world *world = *state;
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    presence_state_writer *first = begins(world, S0, 1, 0), *second = begins(world, S1, 1, 0);
    adds(first, &value, 1);
    presence_recorder_disable(world->recorder);
    expect_code(PRESENCE_E_DISABLED, presence_replica_state_add(first, &value, 1, NULL));
    presence_recorder_enable(world->recorder);
    expect_code(PRESENCE_E_DISABLED, presence_replica_state_commit(first, NULL));
    presence_replica_state_abort(second);
    expect_counts(world, 0, 0);
    connects(world, S0, MODEL_A, "a", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(nothing_shows_before_the_commit_and_all_of_it_after),
        story(it_is_what_a_state_taken_at_once_is),
        story(counts_of_a_model_leave_out_what_does_not_show_yet),
        story(counts_are_right_while_a_state_waits_to_be_swept),
        story(what_is_aborted_leaves_nothing),
        story(who_needs_the_server_takes_it_away),
        story(a_lapse_a_change_or_an_end_of_it_takes_it_away),
        story(local_calls_on_a_claimed_server_do_not_disturb_it),
        story(it_is_refused_as_a_state_at_once_would_be),
        story(a_bad_value_spoils_all_of_it),
        story(messages_name_the_value),
        story(the_limit_counts_at_the_commit),
        story(a_recorder_that_is_disabled_meanwhile_has_none_of_it),
    };
    return cmocka_run_group_tests_name("state_pieces", tests, NULL, NULL);
}
