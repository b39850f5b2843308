/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_handles.c - handles name one recorded connection, go stale with it, and never touch another.
 */
#include "../support/story.h"

#define S0 "machine-0"

static presence_handle handle_of(struct world *world, const char *server, uint64_t id)
{
    presence_handle handle;
    expect_code(PRESENCE_OK, presence_recorder_find_handle(world->recorder, server, id, &handle));
    return handle;
}

static presence_handle connects_handle(struct world *world, presence_value value)
{
    presence_handle handle;
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, &handle, NULL, NULL));
    return handle;
}

static void works(struct world *world, presence_handle handle)
{
    expect_code(PRESENCE_OK, presence_recorder_activity_handle(world->recorder, &handle));
}

static void is_stale(struct world *world, presence_handle handle)
{
    size_t done = 9;
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_activity_handle(world->recorder, &handle));
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_disconnect_handle(world->recorder, &handle));
    expect_refused(world, PRESENCE_OK, presence_recorder_disconnect_handles(world->recorder, &handle, 1, &done));
    assert_int_equal(done, 0);
}

static void connecting_gives_one_and_says_whether_it_is_new(void **state)
{
    struct world *world = *state;
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    value.user_data = "data";
    presence_handle handle, again;
    bool is_new = false;
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, &handle, &is_new, NULL));
    assert_true(is_new);
    expect_recorded(world, value, PRESENCE_ALIVE, 0);
    at(world, 1);
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, &again, &is_new, NULL));
    assert_false(is_new);
    expect_recorded(world, value, PRESENCE_ALIVE, 1);
    works(world, handle); /* of a repeated connect, both are good */
    works(world, again);
    goes_down(world, S0);
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, NULL, &is_new, NULL));
    assert_false(is_new);
    value.agent = "b";
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, NULL, &is_new, NULL));
    assert_false(is_new);
    value.connection_id = 2;
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, NULL));
}

static void activity_by_handle_stamps_its_own(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "a", 2);
    presence_handle handle = handle_of(world, S0, 2);
    uint64_t revision = presence_recorder_revision(world->recorder);
    at(world, 6);
    works(world, handle);
    expect_recorded(world, test_value(S0, 1, MODEL_A, "a"), PRESENCE_ALIVE, 0);
    expect_recorded(world, test_value(S0, 2, MODEL_A, "a"), PRESENCE_ALIVE, 6);
    assert_int_equal(presence_recorder_revision(world->recorder), revision);
    goes_down(world, S0);
    at(world, 7);
    works(world, handle); /* missing: stamped, and stays missing */
    expect_recorded(world, test_value(S0, 2, MODEL_A, "a"), PRESENCE_MISSING, 7);
}

static void disconnect_by_handle_removes_its_own(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_handle handle = connects_handle(world, test_value(S0, 2, MODEL_A, "a"));
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK, presence_recorder_disconnect_handle(world->recorder, &handle));
    expect_absent(world, S0, 2);
    expect_counts(world, 1, 0);
    assert_int_equal(presence_recorder_revision(world->recorder), revision + 1);
    is_stale(world, handle);
}

static void finding_one_for_what_is_not_there(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    presence_handle handle;
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_find_handle(world->recorder, S0, 2, &handle));
    expect_refused(world, PRESENCE_E_NOT_FOUND,
                   presence_recorder_find_handle(world->recorder, "machine-1", 1, &handle));
}

static void a_zeroed_handle_is_stale(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 0);
    is_stale(world, (presence_handle){{0}});
}

static void it_goes_stale_with_the_connection(void **state)
{
    struct world *world = *state;
    presence_handle handle = connects_handle(world, test_value(S0, 1, MODEL_A, "a"));
    disconnects(world, S0, 1);
    is_stale(world, handle);
    /* the same connection anew is another, though it may stand in the same place */
    presence_handle anew = connects_handle(world, test_value(S0, 1, MODEL_A, "a"));
    is_stale(world, handle);
    works(world, anew);
    /* and so are all who take that place */
    disconnects(world, S0, 1);
    for (uint64_t id = 2; id < 200; id++) {
        connects(world, S0, MODEL_A, "b", id);
        if (id % 2)
            disconnects(world, S0, id);
    }
    is_stale(world, handle);
    is_stale(world, anew);
}

static void it_goes_stale_when_the_id_is_stated_for_another_agent(void **state)
{
    struct world *world = *state;
    presence_handle handle = connects_handle(world, test_value(S0, 1, MODEL_A, "a"));
    presence_handle other_agent = connects_handle(world, test_value(S0, 1, MODEL_A, "b"));
    is_stale(world, handle);
    works(world, other_agent);
    presence_handle other_model = connects_handle(world, test_value(S0, 1, MODEL_B, "b"));
    is_stale(world, other_agent);
    works(world, other_model);
}

static void it_stays_good_over_a_server_down_and_a_reconnect(void **state)
{
    struct world *world = *state;
    presence_handle handle = connects_handle(world, test_value(S0, 1, MODEL_A, "a"));
    goes_down(world, S0);
    works(world, handle);
    connects(world, S0, MODEL_A, "a", 1);
    works(world, handle);
}

static void lists_keep_the_handles_of_what_they_keep(void **state)
{
    struct world *world = *state;
    presence_handle kept = connects_handle(world, test_value(S0, 1, MODEL_A, "a"));
    presence_handle dropped = connects_handle(world, test_value(S0, 2, MODEL_A, "b"));
    presence_handle changed = connects_handle(world, test_value(S0, 3, MODEL_A, "c"));
    const presence_value list[] = {test_value(S0, 3, MODEL_A, "another"), test_value(S0, 1, MODEL_A, "a"),
                                   test_value(S0, 4, MODEL_A, "d")};
    updates(world, S0, list, 3);
    at(world, 5);
    works(world, kept);
    expect_recorded(world, list[1], PRESENCE_ALIVE, 5);
    is_stale(world, dropped);
    is_stale(world, changed);
    works(world, handle_of(world, S0, 4));
    goes_down(world, S0);
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, S0, list, 3, NULL));
    works(world, kept);
    expect_code(PRESENCE_OK, presence_recorder_merge_server_since(
                                 world->recorder, S0, presence_recorder_revision(world->recorder), list, 3, NULL));
    works(world, kept);
}

static void disabling_makes_all_stale(void **state)
{
    struct world *world = *state;
    presence_handle handle = connects_handle(world, test_value(S0, 1, MODEL_A, "a"));
    presence_recorder_disable(world->recorder);
    expect_code(PRESENCE_E_DISABLED, presence_recorder_activity_handle(world->recorder, &handle));
    presence_recorder_enable(world->recorder);
    is_stale(world, handle);
    connects(world, S0, MODEL_A, "a", 1); /* the very same connection, in a record begun anew */
    is_stale(world, handle);
}

static void a_handle_of_anything_at_all_touches_nothing(void **state)
{
    struct world *world = *state;
    for (uint64_t id = 0; id < 50; id++)
        connects(world, S0, MODEL_A, "a", id);
    presence_handle good = handle_of(world, S0, 7);
    struct test_random random;
    test_random_seed(&random, 3);
    at(world, 4);
    for (int i = 0; i < 200; i++) {
        presence_handle noise;
        for (size_t j = 0; j < 4; j++)
            noise.opaque[j] = test_random_next(&random);
        expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_activity_handle(world->recorder, &noise));
    }
    works(world, good);
}

static void it_outlives_its_server_and_is_stale(void **state)
{
    struct world *world = *state;
    /* Given a handle of a server of which nothing is recorded or remembered any more, */
    presence_options options = world_options(world);
    options.departures = 1;
    world_restart(world, &options);
    presence_value value = {.server = "gone-0", .model = MODEL_A, .agent = "a", .connection_id = 1};
    presence_handle handle;
    expect_code(PRESENCE_OK, presence_recorder_connect_handle(world->recorder, &value, &handle, NULL, NULL));
    connects(world, "gone-1", MODEL_A, "b", 1);
    connects(world, "stays", MODEL_A, "c", 1);
    disconnects(world, "gone-0", 1);
    disconnects(world, "gone-1", 1);
    /* and other connections where its own was, */
    for (uint64_t id = 2; id < 40; id++)
        connects(world, "stays", MODEL_A, "c", id);
    for (uint64_t id = 2; id < 10; id++)
        disconnects(world, "stays", id);
    /* then it is stale, alone and in batches. */
    is_stale(world, handle);
    size_t done = 99;
    expect_code(PRESENCE_OK, presence_recorder_disconnect_handles(world->recorder, &handle, 1, &done));
    assert_int_equal(done, 0);
}

/* Rows stand in pages of 64, which go when the last of their rows does. */
static void it_is_stale_when_its_page_goes_and_comes_back(void **state)
{
    enum { PAGES = 4, ROWS = 64 * PAGES };
    struct world *world = *state;
    presence_handle before[ROWS];
    for (int life = 0; life < 3; life++) {
        for (uint64_t id = 0; id < ROWS; id++)
            before[id] = connects_handle(world, test_value(S0, id, MODEL_A, "a"));
        connects(world, "machine-1", MODEL_A, "b", 1); /* behind them: the pages before it may go, its own not */
        for (uint64_t id = 0; id < ROWS; id++)
            disconnects(world, S0, id);
        for (uint64_t id = 0; id < ROWS; id += 17)
            is_stale(world, before[id]); /* where there is no page */
        connects(world, S0, MODEL_A, "a", 1000);
        for (uint64_t id = 0; id < ROWS; id += 17)
            is_stale(world, before[id]); /* and where there is one again, with one row in use */
        for (uint64_t id = 1001; id < 1000 + ROWS; id++)
            connects(world, S0, MODEL_A, "a", id);
        for (uint64_t id = 0; id < ROWS; id += 17)
            is_stale(world, before[id]); /* all of them are */
        for (uint64_t id = 0; id < ROWS; id++)
            disconnects(world, S0, 1000 + id);
        disconnects(world, "machine-1", 1);
        presence_recorder_trim(world->recorder);
        is_stale(world, before[0]);
        is_stale(world, before[ROWS - 1]);
    }
}

/* A generation of 0 is that of a row that is not in use; no handle has it but a forged one. */
static void one_of_no_generation_finds_no_free_row(void **state)
{
    struct world *world = *state;
    presence_handle handle = connects_handle(world, test_value(S0, 1, MODEL_A, "a"));
    connects(world, S0, MODEL_A, "a", 2); /* keeps the page */
    disconnects(world, S0, 1);
    is_stale(world, handle);
    handle.opaque[1] &= ~(uint64_t)UINT32_MAX;
    is_stale(world, handle);
    size_t done = 1;
    assert_int_equal(presence_recorder_disconnect_handles(world->recorder, &handle, 1, &done), PRESENCE_OK);
    assert_int_equal(done, 0);
}

/* What a handle's row and agent were may be anybody's by now, or nobody's: also where there are many models, whose
 * records lie under more than one node. */
static void it_is_stale_among_many_models(void **state)
{
    enum { MODELS = 1100 };
    struct world *world = *state;
    char model[TEST_NAME_BYTES];
    static presence_handle handles[MODELS];
    for (uint64_t i = 0; i < MODELS; i++)
        handles[i] = connects_handle(world, test_value(S0, i, test_name(model, "model", i), "a"));
    for (uint64_t i = 0; i < MODELS; i += 3) /* of each three neighbours, one goes */
        disconnects(world, S0, i);
    for (uint64_t i = 0; i < MODELS; i += 60)
        is_stale(world, handles[i]);
}

static void a_refused_connect_writes_no_handle(void **state)
{
    struct world *world = *state;
    presence_value value = test_value(S0, 1, "", "a");
    presence_error error = {0};
    presence_handle handle;
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_connect_handle(world->recorder, &value, &handle, NULL, &error));
    assert_int_equal(error.code, PRESENCE_E_INVALID);
    assert_string_not_equal(error.message, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(connecting_gives_one_and_says_whether_it_is_new),
        story(activity_by_handle_stamps_its_own),
        story(disconnect_by_handle_removes_its_own),
        story(finding_one_for_what_is_not_there),
        story(a_zeroed_handle_is_stale),
        story(it_goes_stale_with_the_connection),
        story(it_goes_stale_when_the_id_is_stated_for_another_agent),
        story(it_stays_good_over_a_server_down_and_a_reconnect),
        story(lists_keep_the_handles_of_what_they_keep),
        story(disabling_makes_all_stale),
        story(a_handle_of_anything_at_all_touches_nothing),
        story(it_outlives_its_server_and_is_stale),
        story(it_is_stale_when_its_page_goes_and_comes_back),
        story(one_of_no_generation_finds_no_free_row),
        story(it_is_stale_among_many_models),
        story(a_refused_connect_writes_no_handle),
    };
    return cmocka_run_group_tests_name("handles", tests, NULL, NULL);
}
