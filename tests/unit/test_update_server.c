/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_update_server.c - update_server replaces all that is known of one server, or nothing at all.
 */
#include "../support/story.h"

#include <stdio.h>

#define S0 "machine-0"
#define S1 "machine-1"

static void the_list_replaces_all_that_was_known(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "goes", 1);
    connects(world, S0, MODEL_A, "stays", 2);
    connects(world, S1, MODEL_A, "elsewhere", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 6);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "stays"), test_value(S0, 3, MODEL_B, "comes")};
    updates(world, S0, list, 2);
    expect_absent(world, S0, 1);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 6);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 6);
    expect_recorded(world, test_value(S1, 1, MODEL_A, "elsewhere"), PRESENCE_ALIVE, 0);
    expect_counts(world, 3, 0);
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    expect_status(world, MODEL_A, "goes", PRESENCE_UNKNOWN);
}

static void missing_connections_in_the_list_are_alive_again(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    goes_down(world, S0);
    at(world, 6);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a")};
    updates(world, S0, list, 1);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 6);
    expect_absent(world, S0, 2);
    expect_counts(world, 1, 0);
}

static void a_listed_id_takes_over_the_facts_of_the_list(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_value value = test_value(S0, 1, MODEL_B, "other");
    value.user_data = "data";
    value.controller_agent = true;
    updates(world, S0, &value, 1);
    expect_recorded(world, value, PRESENCE_ALIVE, 0);
    expect_counts(world, 1, 0);
}

static void status_and_last_seen_of_the_values_are_ignored(void **state)
{
    struct world *world = *state;
    at(world, 6);
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    value.status = PRESENCE_MISSING;
    value.last_seen = -5;
    updates(world, S0, &value, 1);
    expect_recorded(world, value, PRESENCE_ALIVE, 6);
}

static void no_user_data_reads_as_empty(void **state)
{
    struct world *world = *state;
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    value.user_data = NULL;
    updates(world, S0, &value, 1);
    expect_recorded(world, value, PRESENCE_ALIVE, 0);
}

static void an_empty_list_empties_the_server(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    goes_down(world, S0);
    connects(world, S0, MODEL_A, "b", 2);
    connects(world, S1, MODEL_A, "b", 2);
    updates(world, S0, NULL, 0);
    expect_counts(world, 1, 0);
    presence_connections *view = presence_recorder_connections(world->recorder);
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_connections_servers(view, &names, &count));
    expect_names(names, count, S1);
    presence_connections_free(view);
}

static void the_same_list_again_only_stamps(void **state)
{
    struct world *world = *state;
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    updates(world, S0, list, 2);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 6);
    updates(world, S0, list, 2);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 6);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 6);
}

static void an_empty_list_of_an_unknown_server_changes_nothing(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    expect_refused(world, PRESENCE_OK, presence_recorder_update_server(world->recorder, S1, NULL, 0, NULL));
}

static void a_value_of_another_server_is_refused_by_name(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    at(world, 6);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b"),
                                   test_value("machine-1", 3, MODEL_A, "c"), test_value(S0, 4, MODEL_A, "d")};
    presence_error error = {0};
    expect_refused(world, PRESENCE_E_MISMATCH, presence_recorder_update_server(world->recorder, S0, list, 4, &error));
    assert_int_equal(error.code, PRESENCE_E_MISMATCH);
    assert_string_equal(error.message, "connection server mismatch, got \"machine-1\" expected \"machine-0\"");
    expect_refused(world, PRESENCE_E_MISMATCH, presence_recorder_update_server(world->recorder, S0, list, 4, NULL));
}

static void long_names_in_a_message_are_shortened_and_quoted(void **state)
{
    struct world *world = *state;
    char longest[1025];
    memset(longest, 'n', 1024);
    longest[1024] = '\0';
    presence_value value = test_value(longest, 1, MODEL_A, "a");
    presence_error error;
    memset(&error, 'x', sizeof error);
    expect_refused(world, PRESENCE_E_MISMATCH, presence_recorder_update_server(world->recorder, S0, &value, 1, &error));
    assert_non_null(memchr(error.message, '\0', sizeof error.message));
    assert_non_null(strstr(error.message, "connection server mismatch, got \"nnnnnnnn"));
    assert_non_null(strstr(error.message, "\"machine-0\""));
}

static void a_name_is_shortened_between_two_characters(void **state)
{
    struct world *world = *state;
    const presence_value of_s0 = test_value(S0, 1, MODEL_A, "a");
    static const char *const characters[] = {"\u00e9", "\u20ac", "\U0001f600"}; /* of 2, 3 and 4 bytes */
    for (size_t i = 0; i < 3; i++)
        for (size_t ahead = 0; ahead < 4; ahead++) {
            size_t length = strlen(characters[i]), at = ahead;
            char name[256] = "aaaa";
            for (; at < 200; at += length)
                memcpy(name + at, characters[i], length);
            name[at] = '\0';
            presence_value value = test_value(name, 1, MODEL_A, "a");
            presence_error error;
            expect_refused(world, PRESENCE_E_MISMATCH,
                           presence_recorder_update_server(world->recorder, S0, &value, 1, &error));
            char wanted[sizeof error.message];
            int whole = (int)(96 - (96 - ahead) % length);
            snprintf(wanted, sizeof wanted, "connection server mismatch, got \"%.*s\" expected \"machine-0\"", whole,
                     name);
            assert_string_equal(error.message, wanted);
            expect_refused(world, PRESENCE_E_MISMATCH,
                           presence_recorder_update_server(world->recorder, name, &of_s0, 1, &error));
            snprintf(wanted, sizeof wanted, "connection server mismatch, got \"machine-0\" expected \"%.*s\"", whole,
                     name);
            assert_string_equal(error.message, wanted);
        }
}

static void a_connection_id_twice_is_refused(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    const presence_value list[] = {test_value(S0, 7, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b"),
                                   test_value(S0, 7, MODEL_A, "a")};
    presence_error error = {0};
    expect_refused(world, PRESENCE_E_DUPLICATE, presence_recorder_update_server(world->recorder, S0, list, 3, &error));
    assert_int_equal(error.code, PRESENCE_E_DUPLICATE);
    assert_non_null(strchr(error.message, '7'));
}

static void a_duplicate_far_apart_is_found(void **state)
{
    struct world *world = *state;
    enum { COUNT = 5000 };
    static presence_value list[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        list[i] = test_value(S0, i * 1000003, MODEL_A, "a");
    updates(world, S0, list, COUNT);
    list[COUNT - 1].connection_id = list[0].connection_id;
    expect_refused(world, PRESENCE_E_DUPLICATE,
                   presence_recorder_update_server(world->recorder, S0, list, COUNT, NULL));
}

static void a_bad_name_in_the_middle_is_refused(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b"),
                             test_value(S0, 3, MODEL_A, "c")};
    presence_error error = {0};
    list[1].agent = "bad\nname";
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_update_server(world->recorder, S0, list, 3, &error));
    assert_int_equal(error.code, PRESENCE_E_INVALID);
    assert_non_null(strstr(error.message, "agent"));
    list[1] = test_value(S0, 2, "", "b");
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_update_server(world->recorder, S0, list, 3, &error));
    assert_non_null(strstr(error.message, "model"));
    list[1] = test_value(NULL, 2, MODEL_A, "b");
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_update_server(world->recorder, S0, list, 3, &error));
    assert_non_null(strstr(error.message, "server"));
    list[1] = test_value(S0, 2, MODEL_A, "b");
    list[1].user_data = "\xff";
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_update_server(world->recorder, S0, list, 3, &error));
    assert_non_null(strstr(error.message, "data"));
}

static void a_list_that_is_not_there_is_refused(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_update_server(world->recorder, S0, NULL, 1, NULL));
}

static void on_success_the_error_is_not_written(void **state)
{
    struct world *world = *state;
    presence_error error, poison;
    memset(&error, 0x5a, sizeof error);
    poison = error;
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    expect_code(PRESENCE_OK, presence_recorder_update_server(world->recorder, S0, &value, 1, &error));
    assert_memory_equal(&error, &poison, sizeof error);
}

static void controller_flags_come_from_the_list(void **state)
{
    struct world *world = *state;
    presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "a")};
    list[0].controller_agent = true;
    updates(world, S0, list, 2);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 0);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 0);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_UPDATED, 0, 0, 1, 0);
    list[1].controller_agent = true;
    updates(world, S0, list, 2);
    expect_status(world, MODEL_A, "a", PRESENCE_UNKNOWN);
}

static void ids_may_be_exchanged_between_agents(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "a"), test_value(S0, 1, MODEL_A, "b")};
    updates(world, S0, list, 2);
    expect_recorded(world, list[0], PRESENCE_ALIVE, 0);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 0);
    expect_counts(world, 2, 0);
}

static void a_large_list_over_a_large_server(void **state)
{
    struct world *world = *state;
    enum { COUNT = 20000 };
    static presence_value list[COUNT];
    static char agents[COUNT][TEST_NAME_BYTES];
    for (size_t i = 0; i < COUNT; i++)
        list[i] = test_value(S0, i, i % 3 ? MODEL_A : MODEL_B, test_name(agents[i], "agent", i));
    updates(world, S0, list, COUNT);
    expect_counts(world, COUNT, 0);
    /* every second goes; the rest stays */
    for (size_t i = 0; i < COUNT / 2; i++)
        list[i] = list[i * 2];
    updates(world, S0, list, COUNT / 2);
    expect_counts(world, COUNT / 2, 0);
    expect_absent(world, S0, 1);
    expect_status(world, MODEL_A, "agent-2", PRESENCE_ALIVE);
    expect_status(world, MODEL_A, "agent-1", PRESENCE_UNKNOWN);
    updates(world, S0, NULL, 0);
    expect_counts(world, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(the_list_replaces_all_that_was_known),
        story(missing_connections_in_the_list_are_alive_again),
        story(a_listed_id_takes_over_the_facts_of_the_list),
        story(status_and_last_seen_of_the_values_are_ignored),
        story(no_user_data_reads_as_empty),
        story(an_empty_list_empties_the_server),
        story(the_same_list_again_only_stamps),
        story(an_empty_list_of_an_unknown_server_changes_nothing),
        story(a_value_of_another_server_is_refused_by_name),
        story(long_names_in_a_message_are_shortened_and_quoted),
        story(a_name_is_shortened_between_two_characters),
        story(a_connection_id_twice_is_refused),
        story(a_duplicate_far_apart_is_found),
        story(a_bad_name_in_the_middle_is_refused),
        story(a_list_that_is_not_there_is_refused),
        story(on_success_the_error_is_not_written),
        story(controller_flags_come_from_the_list),
        story(ids_may_be_exchanged_between_agents),
        story(a_large_list_over_a_large_server),
    };
    return cmocka_run_group_tests_name("update_server", tests, NULL, NULL);
}
