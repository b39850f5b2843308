/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replica_forget.c - forgetting a server leaves a tombstone that fences, until it is buried; and the list of all
 * servers that are known in one way or another.
 */
#include "replica_words.h"

static const presence_claim claim = {.epoch = 3, .turn = 2, .random = 7};

static void a_remote_server(struct world *world, const char *server)
{
    const presence_value values[] = {seen(test_value(server, 1, MODEL_A, "a"), 1),
                                     seen(test_value(server, 2, MODEL_A, "b"), 1)};
    expect_code(PRESENCE_OK, applies_state(world, server, claim, 10, values, 2));
}

static void its_connections_go_and_the_fence_stays(void **state)
{
    struct world *world = *state;
    a_remote_server(world, S0);
    connects(world, S1, MODEL_A, "b", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_watch *watch = watch_all(world);
    at(world, 60);
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S0, NULL));
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    expect_counts(world, 1, 0);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
    expect_status(world, MODEL_A, "b", PRESENCE_ALIVE);
    presence_server_description description = describe(world, S0);
    assert_true(description.forgotten);
    assert_int_equal(description.forgotten_at, STORY_BEGIN + 60);
    assert_int_equal(presence_claim_compare(&description.claim, &claim), 0);
    assert_int_equal(description.number, 10);
    assert_int_equal(description.connections + description.inherited, 0);
    presence_event event;
    size_t told = 0;
    while (presence_watch_next(watch, &event) == 1) {
        assert_int_equal(event.kind, PRESENCE_EVENT_DISCONNECTED);
        told++;
    }
    assert_int_equal(told, 2);
    presence_watch_free(watch);

    const presence_value value = seen(test_value(S0, 1, MODEL_A, "a"), 1);
    presence_claim smaller = claim_of(3, 1, 9);
    expect_refused(world, PRESENCE_E_STALE, presence_replica_claim(world->recorder, S0, &smaller, false));
    expect_refused(world, PRESENCE_E_STALE, applies_state(world, S0, smaller, 99, &value, 1));
    expect_refused(world, PRESENCE_E_STALE, applies_state(world, S0, claim, 9, &value, 1));
}

static void a_return_of_that_life_sends_its_state_anew(void **state)
{
    struct world *world = *state;
    a_remote_server(world, S0);
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S0, NULL));
    const presence_value value = seen(test_value(S0, 1, MODEL_A, "a"), 1);
    expect_code(PRESENCE_OK, applies_state(world, S0, claim, 12, &value, 1));
    presence_server_description description = describe(world, S0);
    assert_false(description.forgotten);
    assert_int_equal(description.number, 12);
    expect_counts(world, 1, 0);
}

static void a_newer_life_may_claim_it(void **state)
{
    struct world *world = *state;
    a_remote_server(world, S0);
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S0, NULL));
    claims(world, S0, claim_of(4, 1, 1), true);
    assert_false(describe(world, S0).forgotten);
    connects(world, S0, MODEL_A, "a", 1);
    assert_int_equal(describe(world, S0).number, 1);
}

static void unknown_servers_cannot_be_forgotten(void **state)
{
    struct world *world = *state;
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_replica_forget(world->recorder, S0, NULL));
    presence_server_description description;
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_replica_describe(world->recorder, S0, &description));
}

static void old_tombstones_are_buried(void **state)
{
    struct world *world = *state;
    char server[TEST_NAME_BYTES];
    for (uint64_t i = 0; i < 4; i++) {
        a_remote_server(world, test_name(server, "machine", i));
        at(world, (presence_time)i * 10);
        if (i < 3)
            expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, server, NULL));
    }
    assert_int_equal(presence_replica_bury(world->recorder, STORY_BEGIN - 1), 0);
    assert_int_equal(presence_replica_bury(world->recorder, STORY_BEGIN + 20), 2); /* left at 0 and 10 */
    presence_server_description description;
    expect_code(PRESENCE_E_NOT_FOUND, presence_replica_describe(world->recorder, "machine-0", &description));
    expect_code(PRESENCE_E_NOT_FOUND, presence_replica_describe(world->recorder, "machine-1", &description));
    assert_true(describe(world, "machine-2").forgotten);
    assert_false(describe(world, "machine-3").forgotten); /* what lives is not buried */
    assert_int_equal(presence_replica_bury(world->recorder, INT64_MAX), 1);
    assert_int_equal(describe(world, "machine-3").connections, 2);
    /* a buried fence fences no more */
    const presence_claim smaller = claim_of(1, 1, 1);
    expect_code(PRESENCE_OK, presence_replica_claim(world->recorder, "machine-0", &smaller, false));
}

static void all_servers_are_listed_sorted(void **state)
{
    struct world *world = *state;
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_replica_servers(world->recorder, &names, &count));
    assert_int_equal(count, 0);
    presence_names_free(names);
    connects(world, "with-connections", MODEL_A, "a", 1);
    claims(world, "claimed", claim, true);
    a_remote_server(world, "forgotten");
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, "forgotten", NULL));
    a_remote_server(world, "another");
    connects(world, "gone", MODEL_A, "a", 1);
    disconnects(world, "gone", 1);
    expect_code(PRESENCE_OK, presence_replica_servers(world->recorder, &names, &count));
    expect_names(names, count, "another", "claimed", "forgotten", "with-connections");
    /* views list only those with connections */
    presence_connections *view = presence_recorder_connections(world->recorder);
    expect_code(PRESENCE_OK, presence_connections_servers(view, &names, &count));
    expect_names(names, count, "another", "with-connections");
    presence_connections_free(view);
}

static void disabling_forgets_claims_and_tombstones_too(void **state)
{
    struct world *world = *state;
    a_remote_server(world, S0);
    a_remote_server(world, S1);
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S1, NULL));
    presence_recorder_disable(world->recorder);
    presence_recorder_enable(world->recorder);
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_replica_servers(world->recorder, &names, &count));
    assert_int_equal(count, 0);
    presence_names_free(names);
    connects(world, S0, MODEL_A, "a", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(its_connections_go_and_the_fence_stays),
        story(a_return_of_that_life_sends_its_state_anew),
        story(a_newer_life_may_claim_it),
        story(unknown_servers_cannot_be_forgotten),
        story(old_tombstones_are_buried),
        story(all_servers_are_listed_sorted),
        story(disabling_forgets_claims_and_tombstones_too),
    };
    return cmocka_run_group_tests_name("replica_forget", tests, NULL, NULL);
}
