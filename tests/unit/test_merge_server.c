/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_merge_server.c - merge_server: a list that may be older than logins already seen.
 */
#include "../support/story.h"

#define S0 "machine-0"

static void merges(struct world *world, const presence_value *values, size_t count)
{
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, S0, values, count, NULL));
}

static void the_alive_stay_though_not_listed(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 3);
    merges(world, NULL, 0);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 0); /* not listed, so not stamped */
}

static void the_alive_are_stamped_if_listed_and_keep_the_recorded_facts(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "newer", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 3);
    presence_value older = test_value(S0, 1, MODEL_B, "older");
    older.user_data = "older";
    older.controller_agent = true;
    merges(world, &older, 1);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "newer"), PRESENCE_ALIVE, 3);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
}

static void the_missing_are_replaced_by_the_list(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "listed", 1);
    connects(world, S0, MODEL_A, "changed", 2);
    connects(world, S0, MODEL_A, "unlisted", 3);
    goes_down(world, S0);
    connects(world, S0, MODEL_A, "alive", 4);
    connects(world, "machine-1", MODEL_A, "elsewhere", 3);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 3);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "listed"), test_value(S0, 2, MODEL_B, "as-listed"),
                                   test_value(S0, 5, MODEL_A, "new")};
    merges(world, list, 3);
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    for (size_t i = 0; i < 3; i++)
        expect_recorded(world, list[i], PRESENCE_ALIVE, 3);
    expect_absent(world, S0, 3);
    expect_recorded(world, test_value(S0, 4, MODEL_A, "alive"), PRESENCE_ALIVE, 0);
    expect_recorded(world, test_value("machine-1", 3, MODEL_A, "elsewhere"), PRESENCE_ALIVE, 0);
    expect_counts(world, 5, 0);
}

static void it_is_all_or_nothing(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    goes_down(world, S0);
    presence_error error = {0};
    presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value("machine-1", 2, MODEL_A, "b")};
    expect_refused(world, PRESENCE_E_MISMATCH, presence_recorder_merge_server(world->recorder, S0, list, 2, &error));
    assert_string_equal(error.message, "connection server mismatch, got \"machine-1\" expected \"machine-0\"");
    list[1] = test_value(S0, 1, MODEL_A, "b");
    expect_refused(world, PRESENCE_E_DUPLICATE, presence_recorder_merge_server(world->recorder, S0, list, 2, &error));
    list[1] = test_value(S0, 2, MODEL_A, "");
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_merge_server(world->recorder, S0, list, 2, &error));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_merge_server(world->recorder, S0, NULL, 2, &error));
}

static void merging_what_is_recorded_changes_nothing_but_stamps(void **state)
{
    struct world *world = *state;
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    updates(world, S0, list, 2);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 3);
    merges(world, list, 2);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 3);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(the_alive_stay_though_not_listed),
        story(the_alive_are_stamped_if_listed_and_keep_the_recorded_facts),
        story(the_missing_are_replaced_by_the_list),
        story(it_is_all_or_nothing),
        story(merging_what_is_recorded_changes_nothing_but_stamps),
    };
    return cmocka_run_group_tests_name("merge_server", tests, NULL, NULL);
}
