/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_revision.c - the revision: one more for each accepted call that alters anything but a last_seen.
 */
#include "../support/story.h"

/* The revision moved by this much since the last look. */
static void moved(struct world *world, uint64_t *last, uint64_t by)
{
    uint64_t now = presence_recorder_revision(world->recorder);
    assert_int_equal(now - *last, by);
    *last = now;
}

static void what_raises_it(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    uint64_t last = presence_recorder_revision(recorder);
    connects(world, "s", MODEL_A, "a", 1);
    moved(world, &last, 1);
    connects(world, "s", MODEL_A, "b", 1); /* replaced */
    moved(world, &last, 1);
    goes_down(world, "s");
    moved(world, &last, 1);
    connects(world, "s", MODEL_A, "b", 1); /* revived */
    moved(world, &last, 1);
    disconnects(world, "s", 1);
    moved(world, &last, 1);
    const presence_value list[] = {test_value("s", 1, MODEL_A, "a"), test_value("s", 2, MODEL_A, "a"),
                                   test_value("s", 3, MODEL_A, "a")};
    updates(world, "s", list, 3); /* a bulk call is one */
    moved(world, &last, 1);
    updates(world, "s", list, 2);
    moved(world, &last, 1);
    expect_code(PRESENCE_OK, presence_recorder_merge_server(recorder, "s", list, 3, NULL));
    moved(world, &last, 1);
    expect_code(PRESENCE_OK, presence_recorder_merge_server_since(recorder, "s", last, list, 1, NULL));
    moved(world, &last, 1);
    presence_recorder_disable(recorder);
    moved(world, &last, 1);
}

static void what_leaves_it(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    const presence_value list[] = {test_value("s", 1, MODEL_A, "a"), test_value("s", 2, MODEL_A, "b")};
    updates(world, "s", list, 2);
    uint64_t last = presence_recorder_revision(recorder);
    for (int i = 1; i < 4; i++) {
        at(world, i);
        connects(world, "s", MODEL_A, "a", 1);
        expect_code(PRESENCE_OK, presence_recorder_activity(recorder, "s", 1));
        updates(world, "s", list, 2);
        expect_code(PRESENCE_OK, presence_recorder_merge_server(recorder, "s", list, 1, NULL));
        goes_down(world, "not-recorded");
        expect_code(PRESENCE_E_NOT_FOUND, presence_recorder_disconnect(recorder, "s", 9));
        expect_code(PRESENCE_E_INVALID, presence_recorder_connect(recorder, "", MODEL_A, "a", 1, false, NULL));
        presence_connections_free(presence_recorder_connections(recorder));
        presence_watch_free(watch_all(world));
        presence_recorder_trim(recorder);
        presence_recorder_enable(recorder);
    }
    moved(world, &last, 0);
}

static void each_element_of_a_batch_is_its_own_change(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    uint64_t last = presence_recorder_revision(recorder);
    const presence_value list[] = {test_value("s", 1, MODEL_A, "a"), test_value("t", 2, MODEL_A, "a"),
                                   test_value("s", 1, MODEL_A, "a"), test_value("s", 3, MODEL_A, "a")};
    expect_code(PRESENCE_OK, presence_recorder_connect_many(recorder, list, 4, NULL, NULL));
    moved(world, &last, 3); /* the third was recorded already */
    const uint64_t ids[] = {1, 2, 3};
    expect_code(PRESENCE_OK, presence_recorder_activity_many(recorder, "s", ids, 3, NULL));
    moved(world, &last, 0);
    expect_code(PRESENCE_OK, presence_recorder_disconnect_many(recorder, "s", ids, 3, NULL));
    moved(world, &last, 2);
}

static void a_view_tells_the_revision_at_which_it_was_taken(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    presence_connections *first = presence_recorder_connections(world->recorder);
    uint64_t revision = presence_recorder_revision(world->recorder);
    connects(world, "s", MODEL_A, "b", 2);
    presence_connections *slice = presence_connections_for_agent(first, "a");
    presence_connections *second = presence_recorder_connections(world->recorder);
    assert_int_equal(presence_connections_revision(first), revision);
    assert_int_equal(presence_connections_revision(slice), revision);
    assert_int_equal(presence_connections_revision(second), revision + 1);
    presence_connections_free(first);
    presence_connections_free(slice);
    presence_connections_free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(what_raises_it),
        story(what_leaves_it),
        story(each_element_of_a_batch_is_its_own_change),
        story(a_view_tells_the_revision_at_which_it_was_taken),
    };
    return cmocka_run_group_tests_name("revision", tests, NULL, NULL);
}
