/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch_history.c - resuming after a revision, how much is kept for it, and what the slow and the confused are
 * told.
 */
#include "../support/story.h"

#define S0 "machine-0"

static int resume(struct world *world, uint64_t revision, uint64_t skip, presence_watch **watch)
{
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.from_now = false;
    options.after_revision = revision;
    options.skip = skip;
    *watch = NULL;
    return presence_watch_open(world->recorder, &options, watch, NULL);
}

static int open_after(struct world *world, uint64_t revision, presence_watch **watch)
{
    return resume(world, revision, 0, watch);
}

static void keep_history(struct world *world, size_t bytes)
{
    presence_options options = world_options(world);
    options.history_bytes = bytes;
    world_restart(world, &options);
}

static void with_history_a_watch_resumes_where_it_was(void **state)
{
    struct world *world = *state;
    keep_history(world, 1024 * 1024);
    presence_watch *watch = watch_all(world);
    for (uint64_t id = 0; id < 100; id++)
        connects(world, S0, MODEL_A, "a", id);
    for (uint64_t id = 0; id < 40; id++)
        expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, id);
    uint64_t index = 9, revision = presence_watch_revision(watch, &index);
    presence_watch_free(watch);
    for (uint64_t id = 0; id < 100; id++) /* more happens while nobody watches */
        disconnects(world, S0, id);
    expect_code(PRESENCE_OK, resume(world, revision, index, &watch));
    for (uint64_t id = 40; id < 100; id++)
        expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, id);
    for (uint64_t id = 0; id < 100; id++)
        expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, id);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void list_then_watch_without_a_gap(void **state)
{
    struct world *world = *state;
    keep_history(world, 1024 * 1024);
    connects(world, S0, MODEL_A, "a", 1);
    presence_connections *view = presence_recorder_connections(world->recorder);
    connects(world, S0, MODEL_A, "b", 2);
    disconnects(world, S0, 1);
    presence_watch *watch;
    expect_code(PRESENCE_OK, open_after(world, presence_connections_revision(view), &watch));
    presence_connections_free(view);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2);
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 1);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void without_history_only_the_present_can_be_watched(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_watch *watch;
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    assert_true(stats.history_first == UINT64_MAX);
    assert_int_equal(stats.history_bytes, 0);
    expect_code(PRESENCE_E_LAGGED, open_after(world, revision - 1, &watch));
    assert_null(watch);
    expect_code(PRESENCE_OK, open_after(world, revision, &watch)); /* nothing was missed */
    connects(world, S0, MODEL_A, "b", 2);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2);
    presence_watch_free(watch);
}

static void while_a_watch_is_open_another_may_begin_in_the_past(void **state)
{
    struct world *world = *state;
    presence_watch *first = watch_all(world), *second;
    uint64_t revision = presence_recorder_revision(world->recorder);
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    expect_code(PRESENCE_OK, open_after(world, revision + 1, &second));
    expect_event(second, PRESENCE_EVENT_CONNECTED, S0, 2);
    expect_quiet(second);
    presence_watch_free(second);
    presence_watch_free(first);
}

static void a_revision_of_the_future_is_answered_with_a_reset(void **state)
{
    struct world *world = *state;
    keep_history(world, 1024 * 1024);
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch *watch;
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_E_LAGGED, open_after(world, revision + 1, &watch));
    expect_code(PRESENCE_E_LAGGED, open_after(world, UINT64_MAX, &watch));
    assert_null(watch);
    expect_code(PRESENCE_OK, open_after(world, revision, &watch));
    presence_watch_free(watch);
}

static void too_old_is_answered_with_a_reset(void **state)
{
    struct world *world = *state;
    keep_history(world, 1); /* raised to 256 KiB */
    presence_watch *watch = watch_all(world);
    uint64_t revision = presence_recorder_revision(world->recorder);
    for (uint64_t id = 0; id < 50000; id++) {
        connects(world, S0, MODEL_A, "an-agent-with-a-name", id);
        disconnects(world, S0, id);
    }
    presence_watch *late;
    expect_code(PRESENCE_E_LAGGED, open_after(world, revision, &late));
    expect_lagged(watch); /* and so is the one that never read */
    expect_lagged(watch);
    presence_watch_free(watch);

    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    uint64_t now = presence_recorder_revision(world->recorder);
    assert_true(stats.history_first > revision && stats.history_first < now);
    assert_true(stats.history_bytes <= 1024 * 1024);
    expect_code(PRESENCE_E_LAGGED, open_after(world, stats.history_first - 1, &late));
    expect_code(PRESENCE_OK, open_after(world, stats.history_first, &late));
    presence_event event;
    for (uint64_t i = stats.history_first + 1; i <= now; i++) { /* all from there on, without a gap */
        assert_int_equal(presence_watch_next(late, &event), 1);
        assert_int_equal(event.revision, i);
    }
    expect_quiet(late);
    presence_watch_free(late);
}

static void a_slow_watch_lags_and_a_quick_one_does_not(void **state)
{
    struct world *world = *state;
    presence_watch *slow = watch_all(world), *quick = watch_all(world);
    for (uint64_t id = 0; id < 100000; id++) {
        char agent[TEST_NAME_BYTES];
        connects(world, S0, MODEL_A, test_name(agent, "agent", id), id);
        expect_event(quick, PRESENCE_EVENT_CONNECTED, S0, id);
    }
    expect_quiet(quick);
    expect_lagged(slow);
    connects(world, S0, MODEL_A, "a", 100001);
    expect_lagged(slow);
    expect_event(quick, PRESENCE_EVENT_CONNECTED, S0, 100001);
    presence_watch_free(slow);
    presence_watch_free(quick);
}

static presence_watch *watch_model(struct world *world, const char *model, uint64_t after)
{
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.from_now = after == 0;
    options.after_revision = after;
    options.model = model;
    return watch_with(world, &options);
}

/* What others change is passed over, but nothing of its own that lies behind it. */
static void a_watch_that_is_read_late_misses_nothing(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_model(world, MODEL_A, 0);
    presence_value list[] = {test_value("machine-1", 1, MODEL_A, "listed"), test_value("machine-1", 2, MODEL_B, "b")};
    connects(world, S0, MODEL_A, "first", 1);
    connects(world, S0, MODEL_B, "b", 2);
    connects(world, S0, MODEL_A, "second", 3);
    connects(world, S0, MODEL_B, "c", 4);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 1);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 3);
    connects(world, S0, MODEL_B, "d", 5);
    updates(world, "machine-1", list, 2);
    connects(world, S0, MODEL_B, "e", 6);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, "machine-1", 1);
    expect_quiet(watch);
    connects(world, S0, MODEL_A, "third", 7);
    connects(world, S0, MODEL_B, "f", 8);
    updates(world, "machine-1", list + 1, 1);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 7);
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, "machine-1", 1);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void a_watch_of_a_model_resumes_over_what_came_while_there_was_none(void **state)
{
    struct world *world = *state;
    keep_history(world, 1024 * 1024);
    connects(world, S0, MODEL_B, "b", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    connects(world, S0, MODEL_A, "a", 2);
    connects(world, S0, MODEL_B, "c", 3);
    presence_watch *watch = watch_model(world, MODEL_A, revision);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 2);
    expect_quiet(watch);
    presence_watch_free(watch);
}

/* Each has been told of one change, and not yet that there is no more; then others change far more than is kept. By
 * chance two of the models may be kept together, and the one lags as if it had changed itself: but not all of them. */
static void what_others_change_makes_a_late_watch_lag_by_chance_only(void **state)
{
    struct world *world = *state;
    enum { WATCHES = 4 };
    presence_watch *watches[WATCHES];
    size_t lagging = 0;
    for (uint64_t id = 0; id < WATCHES; id++) {
        char model[TEST_NAME_BYTES];
        watches[id] = watch_model(world, test_name(model, "model", id), 0);
        connects(world, S0, model, "a", id);
        expect_event(watches[id], PRESENCE_EVENT_CONNECTED, S0, id);
    }
    for (uint64_t id = 100; id < 100000; id++)
        connects(world, S0, MODEL_B, "b", id);
    for (uint64_t id = 0; id < WATCHES; id++) {
        char model[TEST_NAME_BYTES];
        presence_event event;
        lagging += presence_watch_next(watches[id], &event) == PRESENCE_E_LAGGED;
        connects(world, S0, test_name(model, "model", id), "b", WATCHES + id);
        if (presence_watch_next(watches[id], &event) == 1)
            assert_int_equal(event.value.connection_id, WATCHES + id);
        presence_watch_free(watches[id]);
    }
    assert_true(lagging < WATCHES);
}

static void a_whole_list_of_any_size_can_be_told(void **state)
{
    struct world *world = *state;
    enum { COUNT = 20000 };
    keep_history(world, 256 * 1024); /* found from views, not kept event by event */
    static presence_value list[COUNT];
    static char agents[COUNT][TEST_NAME_BYTES];
    for (uint64_t id = 0; id < COUNT; id++)
        list[id] = test_value(S0, id, MODEL_A, test_name(agents[id], "agent", id));
    presence_watch *watch = watch_all(world);
    updates(world, S0, list, COUNT);
    presence_event event;
    size_t told = 0;
    while (presence_watch_next(watch, &event) == 1) {
        assert_int_equal(event.index, told);
        told++;
    }
    assert_int_equal(told, COUNT);
    expect_quiet(watch);
    presence_watch_free(watch);
}

static void disabling_ends_what_can_be_resumed(void **state)
{
    struct world *world = *state;
    keep_history(world, 1024 * 1024);
    connects(world, S0, MODEL_A, "a", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    presence_recorder_disable(world->recorder);
    presence_recorder_enable(world->recorder);
    presence_watch *watch;
    expect_code(PRESENCE_E_LAGGED, open_after(world, revision, &watch));
    expect_code(PRESENCE_OK, open_after(world, presence_recorder_revision(world->recorder), &watch));
    presence_watch_free(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(with_history_a_watch_resumes_where_it_was),
        story(list_then_watch_without_a_gap),
        story(without_history_only_the_present_can_be_watched),
        story(while_a_watch_is_open_another_may_begin_in_the_past),
        story(a_revision_of_the_future_is_answered_with_a_reset),
        story(too_old_is_answered_with_a_reset),
        story(a_slow_watch_lags_and_a_quick_one_does_not),
        story(a_watch_that_is_read_late_misses_nothing),
        story(a_watch_of_a_model_resumes_over_what_came_while_there_was_none),
        story(what_others_change_makes_a_late_watch_lag_by_chance_only),
        story(a_whole_list_of_any_size_can_be_told),
        story(disabling_ends_what_can_be_resumed),
    };
    return cmocka_run_group_tests_name("watch_history", tests, NULL, NULL);
}
