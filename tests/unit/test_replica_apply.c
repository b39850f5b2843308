/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_apply.c - numbered changes of a remote claim: in order, seen, ahead; many at once; and the activity
 * beside them.
 */
#include "replica_words.h"

static const presence_claim claim = {.epoch = 1, .turn = 1, .random = 7};

static void changes_are_applied_with_their_origins_times(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    at(world, 500); /* our own clock is elsewhere */
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    value.user_data = "data";
    applies(world, S0, claim, connect_change(1, value), true);
    expect_recorded(world, value, PRESENCE_ALIVE, 1);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 1, 1, 1, 0);
    applies(world, S0, claim, connect_change(2, test_value(S0, 2, MODEL_A, "b")), true);
    applies(world, S0, claim, down_change(3, PRESENCE_REASON_DRAINED), true);
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_DRAINED, 3, 1, 0, 1);
    applies(world, S0, claim, connect_change(4, value), true); /* revives */
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_RECONNECTED, 4, 4, 1, 0);
    applies(world, S0, claim, connect_change(5, test_value(S0, 1, MODEL_B, "c")), true); /* replaces */
    expect_recorded(world, test_value(S0, 1, MODEL_B, "c"), PRESENCE_ALIVE, 5);
    applies(world, S0, claim, disconnect_change(6, 2), true);
    expect_absent(world, S0, 2);
    presence_server_description description = describe(world, S0);
    assert_int_equal(description.number, 6);
    assert_int_equal(description.floor, 3);
    assert_int_equal(description.connections, 1);
    assert_int_equal(description.alive, 1);
    assert_false(description.local);
}

static void each_applied_change_raises_the_revision(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_watch *watch = watch_all(world);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    applies(world, S0, claim, disconnect_change(2, 1), true);
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 2);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 1);
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 1);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void what_was_seen_is_ignored(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    applies(world, S0, claim, disconnect_change(2, 1), true);
    remember(world);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), false);
    applies(world, S0, claim, disconnect_change(2, 1), false);
    expect_unchanged(world);
    assert_int_equal(describe(world, S0).number, 2);
}

static void what_is_ahead_is_a_gap(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    presence_change ahead = connect_change(3, test_value(S0, 3, MODEL_A, "c"));
    bool applied = true;
    presence_error error = {0};
    expect_refused(world, PRESENCE_E_GAP,
                   presence_replica_apply(world->recorder, S0, &claim, &ahead, &applied, &error));
    assert_false(applied);
    assert_int_equal(error.code, PRESENCE_E_GAP);
    assert_int_equal(describe(world, S0).number, 1);
    applies(world, S0, claim, connect_change(2, test_value(S0, 2, MODEL_A, "b")), true);
    applies(world, S0, claim, ahead, true);
    expect_counts(world, 3, 0);
}

static void another_claim_than_the_known_is_a_gap_or_stale(void **state)
{
    struct world *world = *state;
    presence_change change = connect_change(1, test_value(S0, 1, MODEL_A, "a"));
    expect_refused(world, PRESENCE_E_GAP, /* of a server that nobody claimed yet */
                   presence_replica_apply(world->recorder, S0, &claim, &change, NULL, NULL));
    claims(world, S0, claim, false);
    presence_claim larger = claim_of(1, 2, 0), smaller = claim_of(1, 1, 6);
    expect_refused(world, PRESENCE_E_GAP, presence_replica_apply(world->recorder, S0, &larger, &change, NULL, NULL));
    expect_refused(world, PRESENCE_E_STALE, presence_replica_apply(world->recorder, S0, &smaller, &change, NULL, NULL));
    assert_int_equal(describe(world, S0).number, 0);
}

static void a_disconnect_of_what_is_not_there_still_takes_its_number(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    presence_change change = disconnect_change(1, 77);
    expect_code(PRESENCE_OK, presence_replica_apply(world->recorder, S0, &claim, &change, NULL, NULL));
    assert_int_equal(describe(world, S0).number, 1);
    applies(world, S0, claim, connect_change(2, test_value(S0, 1, MODEL_A, "a")), true);
}

static void a_bad_change_is_refused(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    const presence_change bad[] = {
        connect_change(1, test_value(S0, 1, MODEL_A, "")),
        connect_change(1, test_value(S0, 1, "\xff", "a")),
        down_change(1, PRESENCE_REASON_LEFT),
        {.number = 1, .kind = (presence_change_kind)0, .value = test_value(S0, 1, MODEL_A, "a")},
        {.number = 1, .kind = (presence_change_kind)9, .value = test_value(S0, 1, MODEL_A, "a")},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(world, PRESENCE_E_INVALID,
                       presence_replica_apply(world->recorder, S0, &claim, &bad[i], NULL, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_replica_apply(world->recorder, S0, &claim, NULL, NULL, NULL));
    assert_int_equal(describe(world, S0).number, 0);
}

static void each_reason_of_a_down_is_told(void **state)
{
    struct world *world = *state;
    const presence_reason reasons[] = {PRESENCE_REASON_SERVER_DOWN, PRESENCE_REASON_DRAINED, PRESENCE_REASON_TIMED_OUT,
                                       PRESENCE_REASON_SUPERSEDED};
    claims(world, S0, claim, false);
    for (uint64_t i = 0; i < 4; i++) {
        applies(world, S0, claim, connect_change(2 * i + 1, test_value(S0, 1, MODEL_A, "a")), true);
        applies(world, S0, claim, down_change(2 * i + 2, reasons[i]), true);
        expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, reasons[i], (presence_time)(2 * i + 2),
                        (presence_time)(2 * i + 1), 0, 1);
    }
}

static void activity_stamps_with_its_origins_time(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK, presence_replica_activity(world->recorder, S0, &claim, 1, 1, STORY_BEGIN + 30));
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 30);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    assert_int_equal(describe(world, S0).number, 1);
    expect_refused(world, PRESENCE_E_NOT_FOUND,
                   presence_replica_activity(world->recorder, S0, &claim, 1, 9, STORY_BEGIN + 40));
    expect_refused(world, PRESENCE_E_NOT_FOUND,
                   presence_replica_activity(world->recorder, "machine-9", &claim, 1, 1, STORY_BEGIN + 40));
}

static void activity_of_before_touches_no_newer_connection(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    applies(world, S0, claim, disconnect_change(2, 1), true);
    applies(world, S0, claim, connect_change(3, test_value(S0, 1, MODEL_A, "b")), true);
    remember(world);
    presence_replica_activity(world->recorder, S0, &claim, 1, 1, STORY_BEGIN + 30); /* it meant the first */
    presence_replica_activity(world->recorder, S0, &claim, 2, 1, STORY_BEGIN + 30);
    expect_unchanged(world);
    expect_code(PRESENCE_OK, presence_replica_activity(world->recorder, S0, &claim, 3, 1, STORY_BEGIN + 31));
    expect_recorded(world, test_value(S0, 1, MODEL_A, "b"), PRESENCE_ALIVE, 31);
}

static void activity_under_a_smaller_claim_is_stale(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim, false);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    presence_claim smaller = claim_of(1, 1, 6);
    expect_refused(world, PRESENCE_E_STALE,
                   presence_replica_activity(world->recorder, S0, &smaller, 9, 1, STORY_BEGIN + 30));
}

static void a_disabled_recorder_applies_nothing(void **state)
{
    struct world *world = *state;
    presence_recorder_disable(world->recorder);
    presence_change change = connect_change(1, test_value(S0, 1, MODEL_A, "a"));
    expect_code(PRESENCE_E_DISABLED, presence_replica_apply(world->recorder, S0, &claim, &change, NULL, NULL));
    expect_code(PRESENCE_E_DISABLED, presence_replica_activity(world->recorder, S0, &claim, 1, 1, 1));
    expect_code(PRESENCE_E_DISABLED, applies_state(world, S0, claim, 1, NULL, 0));
}

static void limits_hold_for_replicated_changes_too(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.limit_connections = 1;
    world_restart(world, &options);
    claims(world, S0, claim, false);
    applies(world, S0, claim, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    presence_change change = connect_change(2, test_value(S0, 2, MODEL_A, "b"));
    expect_refused(world, PRESENCE_E_LIMIT, presence_replica_apply(world->recorder, S0, &claim, &change, NULL, NULL));
    assert_int_equal(describe(world, S0).number, 1);
}

/* ------------------------------------------------------------------------------------------------------- many -- */

enum { MANY = 300 }; /* several groups */

/* Connects of 50 ids over and over, some disconnected in between, now and then all down. */
static void fill_many(presence_change *changes, char names[MANY][TEST_NAME_BYTES])
{
    for (uint64_t i = 0; i < MANY; i++) {
        const char *agent = test_name(names[i], "agent", i % 9);
        changes[i] = i % 97 == 96 ? down_change(i + 1, PRESENCE_REASON_DRAINED)
                     : i % 5 == 4 ? disconnect_change(i + 1, i % 45)
                     : i % 83 == 82
                         ? complete_change(i + 1)
                         : connect_change(i + 1, test_value(S0, i % 50, i % 9 < 4 ? MODEL_A : MODEL_B, agent));
    }
}

static void expect_taken(struct world *world, const presence_change *changes, size_t count, int code, size_t taken)
{
    size_t got = 99999;
    expect_code(code, presence_replica_apply_many(world->recorder, S0, &claim, changes, count, &got, NULL));
    assert_int_equal(got, taken);
}

static void many_at_once_are_as_one_by_one(void **state)
{
    struct world *world = *state;
    struct world *single = world_new();
    static presence_change changes[MANY];
    static char names[MANY][TEST_NAME_BYTES];
    fill_many(changes, names);
    claims(world, S0, claim, false);
    claims(single, S0, claim, false);
    presence_watch *watches[2] = {watch_all(world), watch_all(single)};
    for (size_t i = 0; i < MANY; i++)
        expect_code(PRESENCE_OK, presence_replica_apply(single->recorder, S0, &claim, &changes[i], NULL, NULL));
    expect_taken(world, changes, MANY, PRESENCE_OK, MANY);
    assert_int_equal(describe(world, S0).number, MANY);
    assert_int_equal(presence_recorder_revision(world->recorder), presence_recorder_revision(single->recorder));
    assert_true(digests_equal(describe(world, S0).digest, describe(single, S0).digest));
    struct content *here = content_of_recorder(world->recorder), *there = content_of_recorder(single->recorder);
    assert_true(content_equal(here, there, true, NULL));
    content_free(here);
    content_free(there);
    presence_event events[2];
    int more;
    do { /* each is seen by itself */
        more = presence_watch_next(watches[0], &events[0]);
        assert_int_equal(presence_watch_next(watches[1], &events[1]), more);
        assert_true(more >= 0);
        assert_true(!more || (events[0].kind == events[1].kind && events[0].revision == events[1].revision &&
                              events[0].value.connection_id == events[1].value.connection_id));
    } while (more);
    presence_watch_free(watches[0]);
    presence_watch_free(watches[1]);
    world_free(single);
}

static void many_ignore_what_was_seen(void **state)
{
    struct world *world = *state;
    static presence_change changes[MANY];
    static char names[MANY][TEST_NAME_BYTES];
    fill_many(changes, names);
    claims(world, S0, claim, false);
    expect_taken(world, changes, 100, PRESENCE_OK, 100);
    remember(world);
    expect_taken(world, changes, 100, PRESENCE_OK, 100);
    expect_taken(world, changes + 30, 5, PRESENCE_OK, 5);
    expect_taken(world, changes, 0, PRESENCE_OK, 0);
    expect_taken(world, NULL, 0, PRESENCE_OK, 0);
    expect_unchanged(world);
    expect_taken(world, changes + 20, MANY - 20, PRESENCE_OK, MANY - 20);
    assert_int_equal(describe(world, S0).number, MANY);
}

static void many_stop_at_the_first_error(void **state)
{
    struct world *world = *state;
    static presence_change changes[MANY];
    static char names[MANY][TEST_NAME_BYTES];
    fill_many(changes, names);
    expect_taken(world, changes, MANY, PRESENCE_E_GAP, 0); /* of a server that nobody claimed */
    claims(world, S0, claim, false);
    expect_taken(world, changes + 1, MANY - 1, PRESENCE_E_GAP, 0);
    changes[130].number = 140; /* one is left out */
    expect_taken(world, changes, MANY, PRESENCE_E_GAP, 130);
    assert_int_equal(describe(world, S0).number, 130);
    changes[130].number = 131;
    changes[200].value.agent = "";
    presence_error error = {0};
    size_t taken = 0;
    expect_code(PRESENCE_E_INVALID,
                presence_replica_apply_many(world->recorder, S0, &claim, changes, MANY, &taken, &error));
    assert_int_equal(taken, 200);
    assert_int_equal(error.code, PRESENCE_E_INVALID);
    assert_int_equal(describe(world, S0).number, 200);
    changes[200].value.agent = "agent";
    changes[201].number = 0;
    expect_taken(world, changes, MANY, PRESENCE_E_INVALID, 201);
    changes[201].number = 202;
    claims(world, S0, claim_of(1, 2, 0), false);
    expect_taken(world, changes, MANY, PRESENCE_E_STALE, 0);
}

static void many_check_their_arguments(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    presence_change change = connect_change(1, test_value(S0, 1, MODEL_A, "a"));
    claims(world, S0, claim, false);
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_replica_apply_many(recorder, "", &claim, &change, 1, NULL, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_replica_apply_many(recorder, S0, NULL, &change, 1, NULL, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_replica_apply_many(recorder, S0, &claim, NULL, 1, NULL, NULL));
    claims(world, S1, claim, true);
    expect_refused(world, PRESENCE_E_STALE, presence_replica_apply_many(recorder, S1, &claim, &change, 1, NULL, NULL));
    expect_code(PRESENCE_OK, presence_replica_apply_many(recorder, S0, &claim, &change, 1, NULL, NULL));
    presence_recorder_disable(recorder);
    expect_taken(world, &change, 1, PRESENCE_E_DISABLED, 0);
}

static void many_stop_at_a_limit(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.limit_connections = 10;
    world_restart(world, &options);
    static presence_change changes[MANY];
    claims(world, S0, claim, false);
    for (uint64_t i = 0; i < MANY; i++)
        changes[i] = connect_change(i + 1, test_value(S0, i, MODEL_A, "a"));
    expect_taken(world, changes, MANY, PRESENCE_E_LIMIT, 10);
    assert_int_equal(describe(world, S0).number, 10);
    expect_counts(world, 10, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(changes_are_applied_with_their_origins_times),
        story(each_applied_change_raises_the_revision),
        story(what_was_seen_is_ignored),
        story(what_is_ahead_is_a_gap),
        story(another_claim_than_the_known_is_a_gap_or_stale),
        story(a_disconnect_of_what_is_not_there_still_takes_its_number),
        story(a_bad_change_is_refused),
        story(each_reason_of_a_down_is_told),
        story(activity_stamps_with_its_origins_time),
        story(activity_of_before_touches_no_newer_connection),
        story(activity_under_a_smaller_claim_is_stale),
        story(a_disabled_recorder_applies_nothing),
        story(limits_hold_for_replicated_changes_too),
        story(many_at_once_are_as_one_by_one),
        story(many_ignore_what_was_seen),
        story(many_stop_at_the_first_error),
        story(many_check_their_arguments),
        story(many_stop_at_a_limit),
    };
    return cmocka_run_group_tests_name("replica_apply", tests, NULL, NULL);
}
