/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_claim.c - claims: their order, who may write under them, and what a newer life does to an older one.
 */
#include "replica_words.h"

static void they_compare_by_epoch_then_turn_then_random(void **state)
{
    (void)state;
    const presence_claim ordered[] = {{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 7, 9},          {1, 0, 0},
                                      {1, 0, 5}, {1, 2, 0}, {2, 1, 1}, {2, 1, UINT64_MAX}, {UINT64_MAX, 0, 0}};
    size_t count = sizeof ordered / sizeof *ordered;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++) {
            int order = presence_claim_compare(&ordered[i], &ordered[j]);
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
}

static void a_claim_begins_at_number_0(void **state)
{
    struct world *world = *state;
    presence_claim claim = claim_of(3, 2, 1);
    claims(world, S0, claim, true);
    presence_server_description description = describe(world, S0);
    assert_int_equal(presence_claim_compare(&description.claim, &claim), 0);
    assert_true(description.local);
    assert_false(description.lapsed);
    assert_false(description.forgotten);
    assert_int_equal(description.number, 0);
    assert_int_equal(description.floor, 0);
    assert_int_equal(description.connections + description.alive + description.inherited, 0);
    assert_int_equal(description.digest.all, 0);
    assert_int_equal(description.digest.alive, 0);
}

static void a_smaller_claim_is_stale(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim_of(3, 2, 5), true);
    connects(world, S0, MODEL_A, "a", 1);
    const presence_claim smaller[] = {{3, 2, 4}, {3, 1, 9}, {2, 9, 9}, {0, 0, 1}};
    for (size_t i = 0; i < 4; i++) {
        expect_refused(world, PRESENCE_E_STALE, presence_replica_claim(world->recorder, S0, &smaller[i], true));
        expect_refused(world, PRESENCE_E_STALE, presence_replica_claim(world->recorder, S0, &smaller[i], false));
    }
    assert_int_equal(describe(world, S0).number, 1);
}

static void an_equal_claim_only_takes_over_who_holds_it(void **state)
{
    struct world *world = *state;
    presence_claim claim = claim_of(3, 2, 5);
    claims(world, S0, claim, true);
    connects(world, S0, MODEL_A, "a", 1);
    presence_server_description before = describe(world, S0);
    claims(world, S0, claim, false);
    presence_server_description after = describe(world, S0);
    assert_false(after.local);
    assert_int_equal(after.number, before.number);
    assert_int_equal(after.connections, before.connections);
    assert_true(digests_equal(after.digest, before.digest));
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 0);
    claims(world, S0, claim, true);
    assert_true(describe(world, S0).local);
    connects(world, S0, MODEL_A, "b", 2);
}

static void under_a_local_claim_each_change_takes_the_next_number(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim_of(1, 1, 1), true);
    uint64_t number = 0;
    connects(world, S0, MODEL_A, "a", 1);
    assert_int_equal(describe(world, S0).number, ++number);
    connects(world, S0, MODEL_A, "b", 2);
    assert_int_equal(describe(world, S0).number, ++number);
    connects(world, S0, MODEL_A, "a", 1); /* changes nothing */
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    assert_int_equal(describe(world, S0).number, number);
    connects(world, S0, MODEL_A, "c", 1); /* replaces */
    assert_int_equal(describe(world, S0).number, ++number);
    disconnects(world, S0, 2);
    assert_int_equal(describe(world, S0).number, ++number);
    goes_down(world, S0);
    presence_server_description description = describe(world, S0);
    assert_int_equal(description.number, ++number);
    assert_int_equal(description.floor, number);
    goes_down(world, S0); /* nothing alive: no change */
    assert_int_equal(describe(world, S0).number, number);
    connects(world, S0, MODEL_A, "c", 1);
    assert_int_equal(describe(world, S0).number, ++number);
    const presence_value list[] = {test_value(S0, 5, MODEL_A, "x"), test_value(S0, 6, MODEL_A, "y")};
    updates(world, S0, list, 2); /* a list is one change */
    assert_int_equal(describe(world, S0).number, ++number);
    assert_int_equal(describe(world, S0).floor, number - 2);
    connects(world, S1, MODEL_A, "z", 1); /* another server's */
    assert_int_equal(describe(world, S0).number, number);
}

static void under_a_remote_claim_local_calls_are_stale(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_handle handle;
    expect_code(PRESENCE_OK, presence_recorder_find_handle(world->recorder, S0, 1, &handle));
    claims(world, S0, claim_of(1, 1, 1), false);
    presence_recorder *recorder = world->recorder;
    const presence_value value = test_value(S0, 1, MODEL_A, "a");
    const uint64_t id = 1;
    const int stale = PRESENCE_E_STALE;
    at(world, 5);
    expect_refused(world, stale, presence_recorder_connect(recorder, S0, MODEL_A, "a", 1, false, NULL));
    expect_refused(world, stale, presence_recorder_connect(recorder, S0, MODEL_A, "new", 2, false, NULL));
    expect_refused(world, stale, presence_recorder_disconnect(recorder, S0, 1));
    expect_refused(world, stale, presence_recorder_activity(recorder, S0, 1));
    expect_refused(world, stale, presence_recorder_server_down(recorder, S0));
    expect_refused(world, stale, presence_recorder_update_server(recorder, S0, &value, 1, NULL));
    expect_refused(world, stale, presence_recorder_merge_server(recorder, S0, &value, 1, NULL));
    expect_refused(
        world, stale,
        presence_recorder_merge_server_since(recorder, S0, presence_recorder_revision(recorder), &value, 1, NULL));
    expect_refused(world, stale, presence_recorder_activity_handle(recorder, &handle));
    expect_refused(world, stale, presence_recorder_disconnect_handle(recorder, &handle));
    expect_refused(world, stale, presence_recorder_disconnect_many(recorder, S0, &id, 1, NULL));
    connects(world, S1, MODEL_A, "a", 1); /* other servers are free */
}

static void claiming_what_was_stated_unclaimed_takes_it_in(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    goes_down(world, S0);
    connects(world, S0, MODEL_A, "b", 2);
    presence_server_description description = describe(world, S0);
    assert_int_equal(description.claim.epoch + description.claim.turn + description.claim.random, 0);
    assert_int_equal(description.digest.all + description.digest.alive, 0); /* unclaimed: none is kept */
    claims(world, S0, claim_of(7, 1, 1), true);
    description = describe(world, S0);
    assert_int_equal(description.number, 0);
    assert_true(description.complete);
    assert_int_equal(description.connections, 2);
    assert_int_equal(description.alive, 1);
    assert_int_equal(description.inherited, 0);
    assert_true(description.digest.all != 0 && description.digest.alive != 0);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_MISSING, 0);
    expect_recorded(world, test_value(S0, 2, MODEL_A, "b"), PRESENCE_ALIVE, 0);
}

static void a_larger_local_claim_of_the_same_life_takes_it_in_too(void **state)
{
    struct world *world = *state;
    claims(world, S0, claim_of(7, 1, 1), true);
    connects(world, S0, MODEL_A, "a", 1);
    claims(world, S0, claim_of(7, 2, 1), true);
    presence_server_description description = describe(world, S0);
    assert_int_equal(description.number, 0);
    assert_int_equal(description.connections, 1);
    assert_int_equal(description.inherited, 0);
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
}

static void a_newer_epoch_makes_the_older_life_missing_at_once(void **state)
{
    struct world *world = *state;
    presence_claim older = claim_of(1, 1, 1), newer = claim_of(2, 1, 1);
    const presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "a"), 0),
                                     seen(test_value(S0, 2, MODEL_A, "b"), 0)};
    expect_code(PRESENCE_OK, applies_state(world, S0, older, 20, values, 2));
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 9);
    claims(world, S0, newer, false);
    assert_true(presence_recorder_revision(world->recorder) > revision);
    expect_recorded(world, values[0], PRESENCE_MISSING, 0);
    expect_recorded(world, values[1], PRESENCE_MISSING, 0);
    expect_evidence(world, MODEL_A, "a", PRESENCE_MISSING, PRESENCE_REASON_SUPERSEDED, 9, 0, 0, 1);
    presence_server_description description = describe(world, S0);
    assert_int_equal(description.number, 0);
    assert_int_equal(description.inherited, 2);
    assert_int_equal(description.connections, 0);
    assert_false(description.complete);

    applies(world, S0, newer, connect_change(1, test_value(S0, 1, MODEL_A, "a")), true); /* restated */
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 1);
    expect_status(world, MODEL_A, "b", PRESENCE_MISSING);
    description = describe(world, S0);
    assert_int_equal(description.inherited, 1);
    assert_int_equal(description.connections, 1);

    applies(world, S0, newer, complete_change(2), true); /* and what was not is dropped */
    expect_absent(world, S0, 2);
    description = describe(world, S0);
    assert_int_equal(description.inherited, 0);
    assert_int_equal(description.connections, 1);
    assert_true(description.complete);
    expect_counts(world, 1, 0);
}

static void nothing_of_an_older_life_touches_the_newer(void **state)
{
    struct world *world = *state;
    presence_claim older = claim_of(1, 9, 9), newer = claim_of(2, 1, 1);
    const presence_value value = seen(test_value(S0, 1, MODEL_A, "a"), 0);
    expect_code(PRESENCE_OK, applies_state(world, S0, older, 20, &value, 1));
    claims(world, S0, newer, false);
    applies(world, S0, newer, connect_change(1, test_value(S0, 1, MODEL_A, "reused-the-id")), true);
    presence_change late = connect_change(21, test_value(S0, 1, MODEL_A, "a"));
    expect_refused(world, PRESENCE_E_STALE, presence_replica_apply(world->recorder, S0, &older, &late, NULL, NULL));
    late = disconnect_change(21, 1);
    expect_refused(world, PRESENCE_E_STALE, presence_replica_apply(world->recorder, S0, &older, &late, NULL, NULL));
    late = down_change(21, PRESENCE_REASON_SERVER_DOWN);
    expect_refused(world, PRESENCE_E_STALE, presence_replica_apply(world->recorder, S0, &older, &late, NULL, NULL));
    expect_refused(world, PRESENCE_E_STALE, applies_state(world, S0, older, 30, &value, 1));
    expect_refused(world, PRESENCE_E_STALE,
                   presence_replica_activity(world->recorder, S0, &older, 21, 1, STORY_BEGIN + 50));
}

static void a_larger_claim_of_the_same_epoch_makes_nothing_flap(void **state)
{
    struct world *world = *state;
    const presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "a"), 0),
                                     seen(test_value(S0, 2, MODEL_A, "b"), 0)};
    expect_code(PRESENCE_OK, applies_state(world, S0, claim_of(1, 1, 1), 20, values, 2));
    presence_watch *watch = watch_all(world);
    presence_claim next = claim_of(1, 2, 1);
    claims(world, S0, next, false);
    expect_status(world, MODEL_A, "a", PRESENCE_ALIVE);
    expect_status(world, MODEL_A, "b", PRESENCE_ALIVE);
    expect_counts(world, 2, 0);
    presence_server_description description = describe(world, S0);
    assert_int_equal(description.number, 0);
    assert_int_equal(description.connections, 0);
    assert_int_equal(description.inherited, 2);
    /* its whole state keeps one and leaves the other out */
    expect_code(PRESENCE_OK, applies_state(world, S0, next, 5, values, 1));
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 2);
    expect_quiet(watch);
    description = describe(world, S0);
    assert_int_equal(description.number, 5);
    assert_int_equal(description.connections, 1);
    assert_int_equal(description.inherited, 0);
    presence_watch_free(watch);
}

static void completing_a_local_life_drops_what_it_did_not_restate(void **state)
{
    struct world *world = *state;
    const presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "a"), 0),
                                     seen(test_value(S0, 2, MODEL_A, "b"), 0)};
    expect_code(PRESENCE_OK, applies_state(world, S0, claim_of(1, 1, 1), 20, values, 2));
    claims(world, S0, claim_of(2, 1, 1), true);
    connects(world, S0, MODEL_A, "b", 2);
    connects(world, S0, MODEL_A, "c", 3);
    assert_false(describe(world, S0).complete);
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK, presence_replica_complete(world->recorder, S0, NULL));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    presence_server_description description = describe(world, S0);
    assert_true(description.complete);
    assert_int_equal(description.number, 3);
    assert_int_equal(description.inherited, 0);
    assert_int_equal(description.connections, 2);
    expect_absent(world, S0, 1);
    expect_counts(world, 2, 0);
}

static void an_update_completes_by_itself(void **state)
{
    struct world *world = *state;
    const presence_value old = seen(test_value(S0, 1, MODEL_A, "a"), 0);
    expect_code(PRESENCE_OK, applies_state(world, S0, claim_of(1, 1, 1), 20, &old, 1));
    claims(world, S0, claim_of(2, 1, 1), true);
    const presence_value value = test_value(S0, 2, MODEL_A, "b");
    updates(world, S0, &value, 1);
    presence_server_description description = describe(world, S0);
    assert_true(description.complete);
    assert_int_equal(description.number, 1);
    assert_int_equal(description.inherited, 0);
    assert_int_equal(description.connections, 1);
    expect_absent(world, S0, 1);
}

static void arguments_are_checked(void **state)
{
    struct world *world = *state;
    presence_claim claim = claim_of(1, 1, 1);
    expect_refused(world, PRESENCE_E_INVALID, presence_replica_claim(world->recorder, "", &claim, true));
    expect_refused(world, PRESENCE_E_INVALID, presence_replica_claim(world->recorder, S0, NULL, true));
    presence_recorder_disable(world->recorder);
    expect_code(PRESENCE_E_DISABLED, presence_replica_claim(world->recorder, "", &claim, true));
    expect_code(PRESENCE_E_DISABLED, presence_replica_complete(world->recorder, "", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_compare_by_epoch_then_turn_then_random),
        story(a_claim_begins_at_number_0),
        story(a_smaller_claim_is_stale),
        story(an_equal_claim_only_takes_over_who_holds_it),
        story(under_a_local_claim_each_change_takes_the_next_number),
        story(under_a_remote_claim_local_calls_are_stale),
        story(claiming_what_was_stated_unclaimed_takes_it_in),
        story(a_larger_local_claim_of_the_same_life_takes_it_in_too),
        story(a_newer_epoch_makes_the_older_life_missing_at_once),
        story(nothing_of_an_older_life_touches_the_newer),
        story(a_larger_claim_of_the_same_epoch_makes_nothing_flap),
        story(completing_a_local_life_drops_what_it_did_not_restate),
        story(an_update_completes_by_itself),
        story(arguments_are_checked),
    };
    return cmocka_run_group_tests_name("replica_claim", tests, NULL, NULL);
}
