/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_merge_since.c - merge_server_since: exact, where the caller noted the revision at which it began its list.
 */
#include "../support/story.h"

#define S0 "machine-0"

static uint64_t note(struct world *world)
{
    return presence_recorder_revision(world->recorder);
}

static void merges_since(struct world *world, uint64_t noted, const presence_value *values, size_t count)
{
    presence_error error = {0};
    int code = presence_recorder_merge_server_since(world->recorder, S0, noted, values, count, &error);
    if (code != PRESENCE_OK)
        fail_msg("merge_server_since: %s, %s", presence_error_name(code), error.message);
}

static void without_calls_between_it_is_an_update(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "unlisted", 1);
    connects(world, S0, MODEL_A, "changed", 2);
    uint64_t noted = note(world);
    at(world, 3);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "as-listed"), test_value(S0, 3, MODEL_A, "new")};
    merges_since(world, noted, list, 2);
    expect_absent(world, S0, 1);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 3);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 3);
    expect_counts(world, 2, 0);
    assert_int_equal(note(world), noted + 1);
}

static void ids_connected_since_stay(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "before", 1);
    uint64_t noted = note(world);
    connects(world, S0, MODEL_A, "since", 2);
    merges_since(world, noted, NULL, 0);
    expect_absent(world, S0, 1);
    expect_recorded(world, test_value(S0, 2, MODEL_A, "since"), PRESENCE_ALIVE, 0);
}

static void ids_stated_anew_since_keep_the_newer_facts(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "older", 1);
    uint64_t noted = note(world);
    connects(world, S0, MODEL_B, "newer", 1);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "older")};
    merges_since(world, noted, list, 1);
    expect_recorded(world, test_value(S0, 1, MODEL_B, "newer"), PRESENCE_ALIVE, 0);
    expect_counts(world, 1, 0);
}

static void ids_disconnected_since_stay_away(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    uint64_t noted = note(world);
    disconnects(world, S0, 1);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    merges_since(world, noted, list, 2);
    expect_absent(world, S0, 1);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 0);
}

static void ids_disconnected_before_may_come_with_the_list(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    disconnects(world, S0, 1);
    uint64_t noted = note(world);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a")};
    merges_since(world, noted, list, 1);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 0);
}

static void come_and_gone_since_stays_away(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "b", 2);
    uint64_t noted = note(world);
    connects(world, S0, MODEL_A, "a", 1); /* the gatherer of the list may have caught it in between */
    disconnects(world, S0, 1);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    merges_since(world, noted, list, 2);
    expect_absent(world, S0, 1);
}

static void gone_and_come_again_since_stays(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t noted = note(world);
    disconnects(world, S0, 1);
    connects(world, S0, MODEL_A, "a", 1);
    merges_since(world, noted, NULL, 0);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 0);
}

static void a_repeated_connect_since_counts_as_connected_since(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t noted = note(world);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    connects(world, S0, MODEL_A, "a", 1);
    merges_since(world, noted, NULL, 0);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 0);
    expect_recorded(world, test_value(S0, 2, MODEL_A, "b"), PRESENCE_ALIVE, 0);
}

static void a_lone_repeated_connect_counts_too(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t noted = note(world);
    at(world, 1);
    connects(world, S0, MODEL_A, "a", 1); /* does not move the revision */
    merges_since(world, noted, NULL, 0);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 1);
}

static void a_repeated_connect_before_does_not_count(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, "machine-1", MODEL_A, "b", 2);
    uint64_t noted = note(world);
    merges_since(world, noted, NULL, 0);
    expect_absent(world, S0, 1);
}

static void calls_on_other_servers_have_no_part_in_it(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, "machine-1", MODEL_A, "b", 1);
    uint64_t noted = note(world);
    disconnects(world, "machine-1", 1);
    connects(world, "machine-1", MODEL_A, "b", 2);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "changed"), test_value(S0, 2, MODEL_A, "c")};
    merges_since(world, noted, list, 2);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 0);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 0);
    expect_recorded(world, test_value("machine-1", 2, MODEL_A, "b"), PRESENCE_ALIVE, 0);
}

static void the_missing_are_replaced_as_an_update_does(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "listed", 1);
    connects(world, S0, MODEL_A, "unlisted", 2);
    uint64_t noted = note(world);
    goes_down(world, S0);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "listed")};
    merges_since(world, noted, list, 1);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 0);
    expect_absent(world, S0, 2);
}

static void after_a_newer_whole_list_it_changes_nothing(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t noted = note(world);
    const presence_value newer[] = {test_value(S0, 2, MODEL_A, "newer")};
    updates(world, S0, newer, 1);
    const presence_value older[] = {test_value(S0, 3, MODEL_A, "older")};
    expect_refused(world, PRESENCE_OK,
                   presence_recorder_merge_server_since(world->recorder, S0, noted, older, 1, NULL));
    /* a newer list of another server is no reason */
    noted = note(world);
    const presence_value other[] = {test_value("machine-1", 4, MODEL_A, "other")};
    updates(world, "machine-1", other, 1);
    merges_since(world, noted, older, 1);
    expect_absent(world, S0, 2);
    expect_recorded(world, older[0], PRESENCE_ALIVE, 0);
}

static void its_list_is_checked_like_any(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t noted = note(world);
    presence_error error = {0};
    presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value("machine-1", 2, MODEL_A, "b")};
    presence_recorder *recorder = world->recorder;
    expect_refused(world, PRESENCE_E_MISMATCH,
                   presence_recorder_merge_server_since(recorder, S0, noted, list, 2, &error));
    assert_string_equal(error.message, "connection server mismatch, got \"machine-1\" expected \"machine-0\"");
    list[1] = test_value(S0, 1, MODEL_A, "b");
    expect_refused(world, PRESENCE_E_DUPLICATE,
                   presence_recorder_merge_server_since(recorder, S0, noted, list, 2, &error));
    list[1] = test_value(S0, 2, "\x01", "b");
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_merge_server_since(recorder, S0, noted, list, 2, &error));
}

static void a_revision_of_the_future_is_invalid(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_error error = {0};
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_merge_server_since(world->recorder, S0, note(world) + 1, NULL, 0, &error));
    assert_string_not_equal(error.message, "");
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_merge_server_since(world->recorder, S0, UINT64_MAX, NULL, 0, NULL));
}

static void departures_beyond_the_option_are_no_longer_remembered(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.departures = 8;
    world_restart(world, &options);
    for (uint64_t id = 0; id < 5000; id++) {
        char agent[TEST_NAME_BYTES];
        connects(world, S0, MODEL_A, test_name(agent, "agent", id), id);
    }
    uint64_t noted = note(world);
    for (uint64_t id = 0; id < 4; id++)
        disconnects(world, S0, id);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 4998, MODEL_A, "a"),
                                   test_value(S0, 4999, MODEL_A, "a")};
    merges_since(world, noted, list, 3);
    expect_counts(world, 2, 0); /* four departures are remembered */
    expect_absent(world, S0, 1);

    noted = note(world);
    for (uint64_t id = 0; id < 4000; id++)
        connects(world, S0, MODEL_A, "a", id);
    for (uint64_t id = 0; id < 4000; id++)
        disconnects(world, S0, id);
    presence_error error = {0};
    expect_refused(world, PRESENCE_E_LAGGED,
                   presence_recorder_merge_server_since(world->recorder, S0, noted, list, 3, &error));
    assert_int_equal(error.code, PRESENCE_E_LAGGED);
    merges_since(world, note(world), list, 3); /* of now, it is exact again */
    expect_counts(world, 3, 0);
}

static void by_default_many_departures_are_remembered(void **state)
{
    struct world *world = *state;
    enum { COUNT = 60000 };
    static presence_value list[COUNT];
    static char agents[COUNT][TEST_NAME_BYTES];
    for (uint64_t id = 0; id < COUNT; id++)
        list[id] = test_value(S0, id, MODEL_A, test_name(agents[id], "agent", id));
    expect_code(PRESENCE_OK, presence_recorder_connect_many(world->recorder, list, COUNT, NULL, NULL));
    uint64_t noted = note(world);
    for (uint64_t id = 0; id < COUNT; id++)
        disconnects(world, S0, id);
    merges_since(world, noted, list, COUNT);
    expect_counts(world, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(without_calls_between_it_is_an_update),
        story(ids_connected_since_stay),
        story(ids_stated_anew_since_keep_the_newer_facts),
        story(ids_disconnected_since_stay_away),
        story(ids_disconnected_before_may_come_with_the_list),
        story(come_and_gone_since_stays_away),
        story(gone_and_come_again_since_stays),
        story(a_repeated_connect_since_counts_as_connected_since),
        story(a_lone_repeated_connect_counts_too),
        story(a_repeated_connect_before_does_not_count),
        story(calls_on_other_servers_have_no_part_in_it),
        story(the_missing_are_replaced_as_an_update_does),
        story(after_a_newer_whole_list_it_changes_nothing),
        story(its_list_is_checked_like_any),
        story(a_revision_of_the_future_is_invalid),
        story(departures_beyond_the_option_are_no_longer_remembered),
        story(by_default_many_departures_are_remembered),
    };
    return cmocka_run_group_tests_name("merge_since", tests, NULL, NULL);
}
