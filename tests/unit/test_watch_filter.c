/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch_filter.c - watches limited to a model, a server, an agent or kinds of change.
 */
#include "../support/story.h"

#define S0 "machine-0"
#define S1 "machine-1"

static presence_watch_options filter(const char *model, const char *server, const char *agent, uint32_t kinds)
{
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.model = model;
    options.server = server;
    options.agent = agent;
    options.kinds = kinds;
    return options;
}

static presence_watch *watch_filtered(struct world *world, const char *model, const char *server, const char *agent)
{
    presence_watch_options options = filter(model, server, agent, 0);
    return watch_with(world, &options);
}

/* Eight connections: each of two models, servers and agents. Id = 4 * model + 2 * server + agent. */
static void all_eight(struct world *world)
{
    for (uint64_t id = 0; id < 8; id++)
        connects(world, id & 2 ? S1 : S0, id & 4 ? MODEL_B : MODEL_A, id & 1 ? "b" : "a", id);
}

static void the_defaults(void **state)
{
    (void)state;
    presence_watch_options options;
    presence_watch_options_init(&options);
    assert_int_equal(options.struct_bytes, sizeof options);
    assert_true(options.from_now);
    assert_null(options.model);
    assert_null(options.server);
    assert_null(options.agent);
    assert_int_equal(options.kinds, 0);
    assert_int_equal(options.skip, 0);
    assert_false(options.agents);
}

static void by_model_by_server_by_agent_and_together(void **state)
{
    struct world *world = *state;
    presence_watch *model = watch_filtered(world, MODEL_B, NULL, NULL);
    presence_watch *server = watch_filtered(world, NULL, S1, NULL);
    presence_watch *agent = watch_filtered(world, NULL, NULL, "b");
    presence_watch *all_three = watch_filtered(world, MODEL_B, S1, "b");
    presence_watch *nobody = watch_filtered(world, MODEL_B, S1, "nobody");
    all_eight(world);
    for (uint64_t id = 0; id < 8; id++) {
        if (id & 4)
            expect_event(model, PRESENCE_EVENT_CONNECTED, id & 2 ? S1 : S0, id);
        if (id & 2)
            expect_event(server, PRESENCE_EVENT_CONNECTED, S1, id);
        if (id & 1)
            expect_event(agent, PRESENCE_EVENT_CONNECTED, id & 2 ? S1 : S0, id);
    }
    expect_event(all_three, PRESENCE_EVENT_CONNECTED, S1, 7);
    presence_watch *watches[] = {model, server, agent, all_three, nobody};
    for (size_t i = 0; i < 5; i++) {
        expect_quiet(watches[i]);
        /* what the filter leaves out was told, too: by silence */
        assert_int_equal(presence_watch_revision(watches[i], NULL), presence_recorder_revision(world->recorder));
        presence_watch_free(watches[i]);
    }
}

static void by_kinds(void **state)
{
    struct world *world = *state;
    const presence_event_kind kinds[] = {PRESENCE_EVENT_CONNECTED, PRESENCE_EVENT_RECONNECTED,
                                         PRESENCE_EVENT_UPDATED,   PRESENCE_EVENT_DISCONNECTED,
                                         PRESENCE_EVENT_MISSING,   PRESENCE_EVENT_ACTIVITY};
    presence_watch *watches[6];
    for (size_t i = 0; i < 6; i++) {
        presence_watch_options options = filter(NULL, NULL, NULL, 1u << kinds[i]);
        watches[i] = watch_with(world, &options);
    }
    connects(world, S0, MODEL_A, "a", 1);
    goes_down(world, S0);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 1);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
    disconnects(world, S0, 1);
    for (size_t i = 0; i < 6; i++) {
        expect_event(watches[i], kinds[i], S0, 1);
        expect_quiet(watches[i]);
        presence_watch_free(watches[i]);
    }
}

static void the_filters_names_are_copied(void **state)
{
    struct world *world = *state;
    char server[] = S0;
    presence_watch *watch = watch_filtered(world, NULL, server, NULL);
    memset(server, 'x', sizeof server - 1);
    connects(world, S1, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "a", 2);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void a_filter_on_a_server_that_goes_down(void **state)
{
    struct world *world = *state;
    all_eight(world);
    presence_watch *watch = watch_filtered(world, MODEL_A, NULL, "b");
    goes_down(world, S1);
    presence_event event = expect_event(watch, PRESENCE_EVENT_MISSING, S1, 3);
    assert_int_equal(event.index, 0); /* as this watch sees it */
    expect_quiet(watch);
    presence_watch_free(watch);
}

/* Whoever names a revision and forgets from_now would miss what came since, and never know. */
static void from_now_and_after_a_revision_is_refused(void **state)
{
    struct world *world = *state;
    presence_options with_history = world_options(world);
    with_history.history_bytes = 1024 * 1024;
    world_restart(world, &with_history);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.after_revision = 1;
    presence_watch *watch = NULL;
    presence_error error = {0};
    expect_code(PRESENCE_E_INVALID, presence_watch_open(world->recorder, &options, &watch, &error));
    assert_null(watch);
    assert_int_equal(error.code, PRESENCE_E_INVALID);
    assert_string_equal(error.message,
                        "from_now does not go with after_revision 1 and skip 0: to resume, set it to false");
    options.after_revision = 0;
    options.skip = 1;
    expect_code(PRESENCE_E_INVALID, presence_watch_open(world->recorder, &options, &watch, NULL));
    options.from_now = false;
    watch = watch_with(world, &options);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2); /* the first is skipped */
    presence_watch_free(watch);
    presence_watch_options_init(&options);
    watch = watch_with(world, &options);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void a_bad_filter_is_refused(void **state)
{
    struct world *world = *state;
    presence_watch *watch = NULL;
    presence_error error = {0};
    presence_watch_options options = filter("", NULL, NULL, 0);
    expect_code(PRESENCE_E_INVALID, presence_watch_open(world->recorder, &options, &watch, &error));
    assert_null(watch);
    assert_string_not_equal(error.message, "");
    options = filter(NULL, NULL, "\xff", 0);
    expect_code(PRESENCE_E_INVALID, presence_watch_open(world->recorder, &options, &watch, NULL));
    options = filter(NULL, NULL, NULL, 0);
    options.struct_bytes = 1;
    expect_code(PRESENCE_E_INVALID, presence_watch_open(world->recorder, &options, &watch, NULL));
    expect_code(PRESENCE_E_INVALID, presence_watch_open(world->recorder, NULL, NULL, NULL));
    assert_null(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults),
        story(by_model_by_server_by_agent_and_together),
        story(by_kinds),
        story(the_filters_names_are_copied),
        story(a_filter_on_a_server_that_goes_down),
        story(a_bad_filter_is_refused),
        story(from_now_and_after_a_revision_is_refused),
    };
    return cmocka_run_group_tests_name("watch_filter", tests, NULL, NULL);
}
