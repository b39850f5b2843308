/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_batches.c - batches: each element its own change, what is not recorded is skipped, and what was done is told.
 */
#include "../support/story.h"

#define S0 "machine-0"

enum { COUNT = 500 }; /* several times what is done under one hold of the mutex */

static void fill(struct world *world)
{
    for (uint64_t id = 0; id < COUNT; id++)
        connects(world, S0, MODEL_A, id % 2 ? "odd" : "even", id);
}

static void activity_of_many(void **state)
{
    struct world *world = *state;
    fill(world);
    uint64_t ids[COUNT + 3];
    for (uint64_t i = 0; i < COUNT; i++)
        ids[i] = COUNT - 1 - i;
    ids[COUNT] = 9999;  /* not recorded */
    ids[COUNT + 1] = 3; /* a second time */
    ids[COUNT + 2] = UINT64_MAX;
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 2);
    size_t done = 0;
    expect_code(PRESENCE_OK, presence_recorder_activity_many(world->recorder, S0, ids, COUNT + 3, &done));
    assert_int_equal(done, COUNT + 1);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    struct content *content = content_of_recorder(world->recorder);
    for (size_t i = 0; i < content->count; i++)
        assert_int_equal(content->values[i].last_seen, STORY_BEGIN + 2);
    content_free(content);
    expect_code(PRESENCE_OK, presence_recorder_activity_many(world->recorder, "machine-1", ids, COUNT, &done));
    assert_int_equal(done, 0);
    expect_code(PRESENCE_OK, presence_recorder_activity_many(world->recorder, S0, NULL, 0, &done));
    assert_int_equal(done, 0);
    expect_code(PRESENCE_OK, presence_recorder_activity_many(world->recorder, S0, ids, 5, NULL));
}

static void disconnect_of_many(void **state)
{
    struct world *world = *state;
    fill(world);
    uint64_t ids[COUNT];
    size_t count = 0;
    for (uint64_t id = 0; id < COUNT; id += 2)
        ids[count++] = id;
    ids[count++] = 9999;
    ids[count++] = 0; /* gone by then */
    size_t done = 0;
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK, presence_recorder_disconnect_many(world->recorder, S0, ids, count, &done));
    assert_int_equal(done, COUNT / 2);
    assert_int_equal(presence_recorder_revision(world->recorder), revision + COUNT / 2);
    expect_counts(world, COUNT / 2, 0);
    expect_status(world, MODEL_A, "even", PRESENCE_UNKNOWN);
    expect_status(world, MODEL_A, "odd", PRESENCE_ALIVE);
    expect_code(PRESENCE_OK, presence_recorder_disconnect_many(world->recorder, "machine-1", ids, count, &done));
    assert_int_equal(done, 0);
}

static void by_handles(void **state)
{
    struct world *world = *state;
    fill(world);
    presence_handle handles[COUNT + 1];
    for (uint64_t id = 0; id < COUNT; id++)
        expect_code(PRESENCE_OK, presence_recorder_find_handle(world->recorder, S0, id, &handles[id]));
    handles[COUNT] = (presence_handle){{0}};
    disconnects(world, S0, 100);
    connects(world, S0, MODEL_A, "another", 200);
    at(world, 3);
    size_t done = 0;
    expect_code(PRESENCE_OK, presence_recorder_activity_handles(world->recorder, handles, COUNT + 1, &done));
    assert_int_equal(done, COUNT - 2);
    expect_recorded(world, test_value(S0, 200, MODEL_A, "another"), PRESENCE_ALIVE, 0);
    expect_recorded(world, test_value(S0, 201, MODEL_A, "odd"), PRESENCE_ALIVE, 3);
    expect_code(PRESENCE_OK, presence_recorder_disconnect_handles(world->recorder, handles, COUNT + 1, &done));
    assert_int_equal(done, COUNT - 2);
    expect_counts(world, 1, 0);
    expect_recorded(world, test_value(S0, 200, MODEL_A, "another"), PRESENCE_ALIVE, 0);
    expect_code(PRESENCE_OK, presence_recorder_disconnect_handles(world->recorder, handles, COUNT + 1, &done));
    assert_int_equal(done, 0);
    expect_code(PRESENCE_OK, presence_recorder_activity_handles(world->recorder, NULL, 0, &done));
}

static void connect_of_many_on_any_servers(void **state)
{
    struct world *world = *state;
    presence_value list[COUNT];
    char servers[7][TEST_NAME_BYTES], agents[COUNT][TEST_NAME_BYTES];
    for (size_t i = 0; i < COUNT; i++)
        list[i] = test_value(test_name(servers[i % 7], "machine", i % 7), i / 7, i % 2 ? MODEL_A : MODEL_B,
                             test_name(agents[i], "agent", i));
    list[5].status = PRESENCE_MISSING; /* ignored */
    list[5].last_seen = 1;
    size_t done = 0;
    presence_error error = {0};
    expect_code(PRESENCE_OK, presence_recorder_connect_many(world->recorder, list, COUNT, &done, &error));
    assert_int_equal(done, COUNT);
    assert_int_equal(presence_recorder_revision(world->recorder), COUNT);
    expect_counts(world, COUNT, 0);
    for (size_t i = 0; i < COUNT; i += 41)
        expect_recorded(world, list[i], PRESENCE_ALIVE, 0);
    expect_recorded(world, list[5], PRESENCE_ALIVE, 0);
    expect_code(PRESENCE_OK, presence_recorder_connect_many(world->recorder, NULL, 0, &done, NULL));
    assert_int_equal(done, 0);
}

static void connect_of_many_stops_at_the_first_that_fails(void **state)
{
    struct world *world = *state;
    presence_value list[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        list[i] = test_value(S0, i, MODEL_A, "a");
    list[333].agent = "";
    size_t done = 0;
    presence_error error = {0};
    expect_code(PRESENCE_E_INVALID, presence_recorder_connect_many(world->recorder, list, COUNT, &done, &error));
    assert_int_equal(done, 333);
    assert_int_equal(error.code, PRESENCE_E_INVALID);
    assert_string_not_equal(error.message, "");
    expect_counts(world, 333, 0); /* those before it stay */
    expect_absent(world, S0, 334);
}

static void a_batch_refused_at_once_has_done_nothing(void **state)
{
    struct world *world = *state;
    fill(world);
    uint64_t id = 1;
    size_t done = 77;
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_disconnect_many(world->recorder, "", &id, 1, &done));
    assert_int_equal(done, 0);
    done = 77;
    presence_recorder_disable(world->recorder);
    expect_code(PRESENCE_E_DISABLED, presence_recorder_activity_many(world->recorder, S0, &id, 1, &done));
    assert_int_equal(done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(activity_of_many),
        story(disconnect_of_many),
        story(by_handles),
        story(connect_of_many_on_any_servers),
        story(connect_of_many_stops_at_the_first_that_fails),
        story(a_batch_refused_at_once_has_done_nothing),
    };
    return cmocka_run_group_tests_name("batches", tests, NULL, NULL);
}
