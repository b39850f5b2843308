/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_lapse.c - a lapse makes a server's connections read missing here, and a restore takes it back.
 */
#include "replica_words.h"

static const presence_claim claim = {.epoch = 1, .turn = 1, .random = 7};

/* S0 as another node stated it: 1 alive, 2 missing. */
static void a_remote_server(struct world *world)
{
    presence_value values[] = {seen(test_value(S0, 1, MODEL_A, "alive"), 1),
                               seen(test_value(S0, 2, MODEL_A, "missing"), 1)};
    values[1].status = PRESENCE_MISSING;
    expect_code(PRESENCE_OK, presence_replica_apply_state(world->recorder, S0, &claim, 10, 5, PRESENCE_REASON_DRAINED,
                                                          STORY_BEGIN + 2, values, 2, NULL));
}

static void all_reads_missing_and_comes_back_as_it_was(void **state)
{
    struct world *world = *state;
    a_remote_server(world);
    presence_server_description before = describe(world, S0);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 20);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "alive"), PRESENCE_MISSING, 1);
    expect_recorded(world, test_value(S0, 2, MODEL_A, "missing"), PRESENCE_MISSING, 1);
    expect_evidence(world, MODEL_A, "alive", PRESENCE_MISSING, PRESENCE_REASON_LAPSED, 20, 1, 0, 1);
    expect_evidence(world, MODEL_A, "missing", PRESENCE_MISSING, PRESENCE_REASON_DRAINED, 2, 1, 0, 1);
    presence_server_description lapsed = describe(world, S0);
    assert_true(lapsed.lapsed);
    assert_int_equal(lapsed.number, before.number);
    assert_true(digests_equal(lapsed.digest, before.digest));
    assert_int_equal(lapsed.alive, before.alive); /* the lapse does not count */

    at(world, 30);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 2);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "alive"), PRESENCE_ALIVE, 1);
    expect_recorded(world, test_value(S0, 2, MODEL_A, "missing"), PRESENCE_MISSING, 1);
    expect_evidence(world, MODEL_A, "alive", PRESENCE_ALIVE, PRESENCE_REASON_RESTORED, 30, 1, 1, 0);
    expect_evidence(world, MODEL_A, "missing", PRESENCE_MISSING, PRESENCE_REASON_DRAINED, 2, 1, 0, 1);
    presence_server_description after = describe(world, S0);
    assert_false(after.lapsed);
    assert_int_equal(after.number, before.number);
    assert_true(digests_equal(after.digest, before.digest));
}

static void twice_the_same_is_no_change(void **state)
{
    struct world *world = *state;
    a_remote_server(world);
    expect_refused(world, PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    at(world, 50);
    expect_refused(world, PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    expect_refused(world, PRESENCE_OK, presence_replica_restore(world->recorder, S0));
}

static void of_an_unknown_server_nothing_can_lapse(void **state)
{
    struct world *world = *state;
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_replica_lapse(world->recorder, S0));
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_replica_restore(world->recorder, S0));
}

static void changes_are_taken_and_show_once_restored(void **state)
{
    struct world *world = *state;
    a_remote_server(world);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    applies(world, S0, claim, connect_change(11, test_value(S0, 3, MODEL_A, "new")), true);
    applies(world, S0, claim, connect_change(12, test_value(S0, 2, MODEL_A, "missing")), true);
    applies(world, S0, claim, disconnect_change(13, 1), true);
    expect_status(world, MODEL_A, "new", PRESENCE_MISSING);
    expect_status(world, MODEL_A, "missing", PRESENCE_MISSING);
    expect_counts(world, 0, 2);
    assert_int_equal(describe(world, S0).number, 13);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    expect_status(world, MODEL_A, "new", PRESENCE_ALIVE);
    expect_status(world, MODEL_A, "missing", PRESENCE_ALIVE);
    expect_status(world, MODEL_A, "alive", PRESENCE_UNKNOWN);
    expect_counts(world, 2, 0);
}

static void held_views_do_not_see_it(void **state)
{
    struct world *world = *state;
    a_remote_server(world);
    presence_connections *before = presence_recorder_connections(world->recorder);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    presence_connections *during = presence_recorder_connections(world->recorder);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    presence_value value;
    expect_code(PRESENCE_OK, presence_connections_find(before, S0, 1, &value));
    assert_int_equal(value.status, PRESENCE_ALIVE);
    expect_code(PRESENCE_OK, presence_connections_find(during, S0, 1, &value));
    assert_int_equal(value.status, PRESENCE_MISSING);
    presence_connections_free(before);
    presence_connections_free(during);
}

static void an_agent_alive_elsewhere_stays_alive(void **state)
{
    struct world *world = *state;
    a_remote_server(world);
    at(world, 3);
    connects(world, S1, MODEL_A, "alive", 9);
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.agents = true;
    presence_watch *watch = watch_with(world, &options);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, S0));
    expect_status(world, MODEL_A, "alive", PRESENCE_ALIVE);
    expect_quiet(watch);
    at(world, 40);
    goes_down(world, S1);
    expect_agent_event(watch, MODEL_A, "alive", PRESENCE_ALIVE, PRESENCE_MISSING);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, S0));
    presence_event event = expect_agent_event(watch, MODEL_A, "alive", PRESENCE_MISSING, PRESENCE_ALIVE);
    assert_int_equal(event.reason, PRESENCE_REASON_RESTORED);
    expect_quiet(watch);
    presence_watch_free(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(all_reads_missing_and_comes_back_as_it_was),
        story(twice_the_same_is_no_change),
        story(of_an_unknown_server_nothing_can_lapse),
        story(changes_are_taken_and_show_once_restored),
        story(held_views_do_not_see_it),
        story(an_agent_alive_elsewhere_stays_alive),
    };
    return cmocka_run_group_tests_name("replica_lapse", tests, NULL, NULL);
}
