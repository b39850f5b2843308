/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch_fd.c - the descriptor of a watch polls readable when there may be something to read, and not after.
 */
#include "../support/story.h"

#include <poll.h>

#define S0 "machine-0"

static bool is_readable(presence_watch *watch)
{
    struct pollfd poller = {.fd = presence_watch_fd(watch), .events = POLLIN};
    assert_true(poller.fd >= 0);
    int ready = poll(&poller, 1, 0);
    assert_true(ready >= 0);
    return ready == 1 && (poller.revents & POLLIN) != 0;
}

static void drain(presence_watch *watch, size_t wanted)
{
    presence_event event;
    for (size_t i = 0; i < wanted; i++)
        assert_int_equal(presence_watch_next(watch, &event), 1);
    expect_quiet(watch);
}

static void it_wakes_for_a_change_and_rests_after(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    int fd = presence_watch_fd(watch);
    assert_true(fd >= 0);
    assert_int_equal(presence_watch_fd(watch), fd); /* one and the same */
    expect_quiet(watch);
    assert_false(is_readable(watch));
    for (uint64_t round = 0; round < 5; round++) {
        connects(world, S0, MODEL_A, "a", round);
        assert_true(is_readable(watch));
        assert_true(is_readable(watch)); /* looking does not clear it */
        connects(world, S0, MODEL_A, "a", 100 + round);
        drain(watch, 2);
        assert_false(is_readable(watch));
    }
    presence_watch_free(watch);
}

static void it_stays_readable_until_all_was_read(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    presence_watch_fd(watch);
    for (uint64_t id = 0; id < 10; id++)
        connects(world, S0, MODEL_A, "a", id);
    presence_event event;
    for (int i = 0; i < 10; i++) {
        assert_true(is_readable(watch));
        assert_int_equal(presence_watch_next(watch, &event), 1);
    }
    expect_quiet(watch);
    assert_false(is_readable(watch));
    presence_watch_free(watch);
}

static void asked_for_late_it_knows_what_is_pending(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    connects(world, S0, MODEL_A, "a", 1);
    assert_true(is_readable(watch));
    drain(watch, 1);
    assert_false(is_readable(watch));
    presence_watch_free(watch);
}

static void bulk_changes_wake_it_too(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    presence_watch_fd(watch);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b")};
    updates(world, S0, list, 2);
    assert_true(is_readable(watch));
    presence_event event;
    assert_int_equal(presence_watch_next(watch, &event), 1);
    assert_true(is_readable(watch));
    drain(watch, 1);
    assert_false(is_readable(watch));
    goes_down(world, S0);
    assert_true(is_readable(watch));
    drain(watch, 2);
    presence_watch_free(watch);
}

static void being_told_to_start_over_wakes_it(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    expect_quiet(watch);
    assert_false(is_readable(watch));
    presence_recorder_disable(world->recorder);
    assert_true(is_readable(watch));
    expect_lagged(watch);
    presence_watch_free(watch);
}

static void many_watches_many_descriptors(void **state)
{
    struct world *world = *state;
    enum { WATCHES = 50 };
    presence_watch *watches[WATCHES];
    for (size_t i = 0; i < WATCHES; i++) {
        watches[i] = watch_all(world);
        assert_true(presence_watch_fd(watches[i]) >= 0);
    }
    connects(world, S0, MODEL_A, "a", 1);
    for (size_t i = 0; i < WATCHES; i++)
        assert_true(is_readable(watches[i]));
    for (size_t i = 0; i < WATCHES; i += 2) {
        drain(watches[i], 1);
        assert_false(is_readable(watches[i]));
    }
    for (size_t i = 1; i < WATCHES; i += 2)
        assert_true(is_readable(watches[i]));
    for (size_t i = 0; i < WATCHES; i++)
        presence_watch_free(watches[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(it_wakes_for_a_change_and_rests_after),   story(it_stays_readable_until_all_was_read),
        story(asked_for_late_it_knows_what_is_pending), story(bulk_changes_wake_it_too),
        story(being_told_to_start_over_wakes_it),       story(many_watches_many_descriptors),
    };
    return cmocka_run_group_tests_name("watch_fd", tests, NULL, NULL);
}
