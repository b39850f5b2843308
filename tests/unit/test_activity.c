/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_activity.c - activity stamps a connection and changes nothing else.
 */
#include "../support/story.h"

static void it_stamps_the_connection_and_no_other(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_A, "a", 2);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 8);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, "machine-0", 1));
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_ALIVE, 8);
    expect_recorded(world, test_value("machine-0", 2, MODEL_A, "a"), PRESENCE_ALIVE, 0);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    expect_evidence(world, MODEL_A, "a", PRESENCE_ALIVE, PRESENCE_REASON_CONNECTED, 0, 8, 2, 0);
}

static void a_missing_connection_is_stamped_and_stays_missing(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    goes_down(world, "machine-0");
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 8);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, "machine-0", 1));
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_MISSING, 8);
    expect_status(world, MODEL_A, "a", PRESENCE_MISSING);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    expect_counts(world, 0, 1);
}

static void what_is_not_recorded_is_not_found(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    at(world, 8);
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_activity(world->recorder, "machine-0", 2));
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_activity(world->recorder, "machine-1", 1));
    disconnects(world, "machine-0", 1);
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_activity(world->recorder, "machine-0", 1));
}

static void a_held_view_keeps_the_old_stamp(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    presence_connections *held = presence_recorder_connections(world->recorder);
    for (int i = 1; i <= 3; i++) {
        at(world, i);
        expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, "machine-0", 1));
    }
    presence_value value;
    expect_code(PRESENCE_OK, presence_connections_find(held, "machine-0", 1, &value));
    assert_int_equal(value.last_seen, STORY_BEGIN);
    presence_connections_free(held);
    expect_recorded(world, test_value("machine-0", 1, MODEL_A, "a"), PRESENCE_ALIVE, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(it_stamps_the_connection_and_no_other),
        story(a_missing_connection_is_stamped_and_stays_missing),
        story(what_is_not_recorded_is_not_found),
        story(a_held_view_keeps_the_old_stamp),
    };
    return cmocka_run_group_tests_name("activity", tests, NULL, NULL);
}
