/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch_bulk.c - a bulk change or a server going down is one revision, which a watch tells event by event, and in
 * whose middle it can be resumed.
 */
#include "../support/story.h"

#include <stdlib.h>

#define S0 "machine-0"

struct told {
    presence_event_kind kind;
    presence_reason reason;
    uint64_t id;
    presence_status before, after;
};

/* Reads all that is pending: one revision, indexes from `first_index` on, all of S0. Returns how many. */
static size_t read_revision(presence_watch *watch, uint64_t revision, uint64_t first_index, struct told *told,
                            size_t most)
{
    size_t count = 0;
    presence_event event;
    while (presence_watch_next(watch, &event) == 1) {
        assert_true(count < most);
        assert_int_equal(event.revision, revision);
        assert_int_equal(event.index, first_index + count);
        assert_string_equal(event.value.server, S0);
        told[count++] =
            (struct told){event.kind, event.reason, event.value.connection_id, event.agent_before, event.agent_after};
    }
    return count;
}

static const struct told *told_of(const struct told *told, size_t count, uint64_t id)
{
    const struct told *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (told[i].id != id)
            continue;
        assert_null(found); /* nothing twice */
        found = &told[i];
    }
    return found;
}

static void a_list_is_told_connection_by_connection(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "missing-listed", 1);
    connects(world, S0, MODEL_A, "missing-unlisted", 2);
    goes_down(world, S0);
    connects(world, S0, MODEL_A, "alive-listed", 3);
    connects(world, S0, MODEL_A, "alive-unlisted", 4);
    connects(world, S0, MODEL_A, "alive-changed", 5);
    presence_watch *watch = watch_all(world);
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "missing-listed"),
                                   test_value(S0, 3, MODEL_A, "alive-listed"), test_value(S0, 5, MODEL_A, "changed"),
                                   test_value(S0, 6, MODEL_A, "new")};
    updates(world, S0, list, 4);
    struct told told[8];
    size_t count = read_revision(watch, presence_recorder_revision(world->recorder), 0, told, 8);
    assert_int_equal(count, 5);
    assert_int_equal(told_of(told, count, 1)->kind, PRESENCE_EVENT_RECONNECTED);
    assert_int_equal(told_of(told, count, 2)->kind, PRESENCE_EVENT_DISCONNECTED);
    assert_null(told_of(told, count, 3));
    assert_int_equal(told_of(told, count, 4)->kind, PRESENCE_EVENT_DISCONNECTED);
    assert_int_equal(told_of(told, count, 5)->kind, PRESENCE_EVENT_UPDATED);
    assert_int_equal(told_of(told, count, 6)->kind, PRESENCE_EVENT_CONNECTED);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(told[i].reason, PRESENCE_REASON_UPDATED);
    presence_watch_free(watch);
}

static void the_agents_statuses_are_those_before_and_after_the_whole(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "moves", 1);
    connects(world, S0, MODEL_A, "goes", 2);
    connects(world, S0, MODEL_A, "goes", 3);
    presence_watch *watch = watch_all(world);
    const presence_value list[] = {test_value(S0, 9, MODEL_A, "moves"), test_value(S0, 10, MODEL_A, "comes"),
                                   test_value(S0, 11, MODEL_A, "comes")};
    updates(world, S0, list, 3);
    struct told told[8];
    size_t count = read_revision(watch, presence_recorder_revision(world->recorder), 0, told, 8);
    assert_int_equal(count, 6);
    const presence_status unknown = PRESENCE_UNKNOWN, alive = PRESENCE_ALIVE;
    const struct {
        uint64_t id;
        presence_status before, after;
    } wanted[] = {{1, alive, alive},   {9, alive, alive},    {2, alive, unknown},
                  {3, alive, unknown}, {10, unknown, alive}, {11, unknown, alive}};
    for (size_t i = 0; i < 6; i++) {
        const struct told *event = told_of(told, count, wanted[i].id);
        assert_non_null(event);
        assert_int_equal(event->before, wanted[i].before);
        assert_int_equal(event->after, wanted[i].after);
    }
    presence_watch_free(watch);
}

enum { MANY = 1000 };

static void connect_many(struct world *world)
{
    for (uint64_t id = 0; id < MANY; id++)
        connects(world, S0, id % 2 ? MODEL_A : MODEL_B, id % 3 ? "a" : "b", id);
    connects(world, "machine-1", MODEL_A, "elsewhere", 1);
}

static void a_server_down_is_told_of_each_that_was_alive(void **state)
{
    struct world *world = *state;
    static struct told told[MANY];
    connects(world, S0, MODEL_A, "missing-before", MANY);
    goes_down(world, S0);
    connect_many(world);
    presence_watch *watch = watch_all(world);
    goes_down(world, S0);
    size_t count = read_revision(watch, presence_recorder_revision(world->recorder), 0, told, MANY);
    assert_int_equal(count, MANY);
    static unsigned char seen[MANY];
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(told[i].kind, PRESENCE_EVENT_MISSING);
        assert_int_equal(told[i].before, PRESENCE_ALIVE);
        assert_int_equal(told[i].after, PRESENCE_MISSING);
        assert_true(told[i].id < MANY);
        assert_int_equal(seen[told[i].id]++, 0);
    }
    presence_watch_free(watch);
}

static void it_is_told_as_it_was_whatever_came_after(void **state)
{
    struct world *world = *state;
    static struct told told[MANY];
    connect_many(world);
    presence_watch *watch = watch_all(world);
    goes_down(world, S0);
    uint64_t revision = presence_recorder_revision(world->recorder);
    for (uint64_t i = 0; i < 10; i++) { /* told in part, while the world goes on */
        presence_event event;
        assert_int_equal(presence_watch_next(watch, &event), 1);
        assert_int_equal(event.kind, PRESENCE_EVENT_MISSING);
        assert_int_equal(event.index, i);
        assert_int_equal(event.value.status, PRESENCE_MISSING);
        disconnects(world, S0, event.value.connection_id);
    }
    updates(world, S0, NULL, 0);
    uint64_t index = 0;
    assert_int_equal(presence_watch_revision(watch, &index), revision - 1); /* not past it before its last event */
    assert_int_equal(index, 10);
    size_t rest = 0;
    presence_event event;
    while (rest < MANY - 10) {
        assert_int_equal(presence_watch_next(watch, &event), 1);
        assert_int_equal(event.revision, revision);
        assert_int_equal(event.index, 10 + rest);
        assert_int_equal(event.kind, PRESENCE_EVENT_MISSING);
        rest++;
    }
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(presence_watch_next(watch, &event), 1);
        assert_int_equal(event.kind, PRESENCE_EVENT_DISCONNECTED);
        assert_int_equal(event.revision, revision + 1 + i);
    }
    assert_int_equal(read_revision(watch, revision + 11, 0, told, MANY), MANY - 10);
    assert_int_equal(presence_watch_revision(watch, &index), revision + 11);
    assert_int_equal(index, 0);
    presence_watch_free(watch);
}

/* Opens after the revision before `revision`, skipping what was seen of it. */
static presence_watch *resume(struct world *world, const presence_watch_options *filter, uint64_t revision,
                              uint64_t skip)
{
    presence_watch_options options = *filter;
    options.from_now = false;
    options.after_revision = revision - 1;
    options.skip = skip;
    return watch_with(world, &options);
}

/* Reads the revision in pieces, each by a watch of its own, and all of it must come once. */
static void read_in_pieces(struct world *world, const presence_watch_options *filter, uint64_t revision, size_t wanted)
{
    static unsigned char seen[2 * MANY];
    memset(seen, 0, sizeof seen);
    uint64_t index = 0;
    while (index < wanted) {
        presence_watch *watch = resume(world, filter, revision, index);
        for (int i = 0; i < 37 && index < wanted; i++) {
            presence_event event;
            assert_int_equal(presence_watch_next(watch, &event), 1);
            assert_int_equal(event.revision, revision);
            assert_int_equal(event.index, index);
            assert_int_equal(seen[event.value.connection_id]++, 0);
            index++;
        }
        presence_watch_free(watch);
    }
    presence_watch *watch = resume(world, filter, revision, index);
    expect_quiet(watch); /* all of it was seen */
    presence_watch_free(watch);
}

static void it_is_resumed_in_its_middle(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.history_bytes = 4 * 1024 * 1024;
    world_restart(world, &options);
    connect_many(world);
    presence_watch_options filter;
    presence_watch_options_init(&filter);
    goes_down(world, S0);
    read_in_pieces(world, &filter, presence_recorder_revision(world->recorder), MANY);
    static presence_value list[MANY];
    for (size_t i = 0; i < MANY; i++)
        list[i] = test_value(S0, i + MANY / 2, MODEL_A, "a");
    updates(world, S0, list, MANY);
    read_in_pieces(world, &filter, presence_recorder_revision(world->recorder), MANY + MANY / 2);
    filter.agent = "a";
    goes_down(world, S0);
    read_in_pieces(world, &filter, presence_recorder_revision(world->recorder), MANY);
}

static void watches_open_before_tell_the_same_in_the_same_order(void **state)
{
    struct world *world = *state;
    connect_many(world);
    presence_watch *first = watch_all(world), *second = watch_all(world);
    goes_down(world, S0);
    for (size_t i = 0; i < MANY; i++) {
        presence_event one, other;
        assert_int_equal(presence_watch_next(first, &one), 1);
        assert_int_equal(presence_watch_next(second, &other), 1);
        assert_int_equal(one.value.connection_id, other.value.connection_id);
    }
    expect_quiet(first);
    expect_quiet(second);
    presence_watch_free(first);
    presence_watch_free(second);
}

static void a_merge_is_told_like_an_update(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    goes_down(world, S0);
    connects(world, S0, MODEL_A, "b", 2);
    presence_watch *watch = watch_all(world);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "ignored"), test_value(S0, 3, MODEL_A, "c")};
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, S0, list, 2, NULL));
    struct told told[4];
    size_t count = read_revision(watch, presence_recorder_revision(world->recorder), 0, told, 4);
    assert_int_equal(count, 2);
    assert_int_equal(told_of(told, count, 1)->kind, PRESENCE_EVENT_DISCONNECTED);
    assert_int_equal(told_of(told, count, 3)->kind, PRESENCE_EVENT_CONNECTED);
    presence_watch_free(watch);
}

static void single_changes_around_a_list_keep_their_order(void **state)
{
    struct world *world = *state;
    presence_watch *watch = watch_all(world);
    connects(world, S0, MODEL_A, "a", 1);
    const presence_value list[] = {test_value(S0, 2, MODEL_A, "b")};
    updates(world, S0, list, 1);
    disconnects(world, S0, 2);
    expect_event(watch, PRESENCE_EVENT_CONNECTED, S0, 1);
    presence_event event;
    bool came = false, went = false;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(presence_watch_next(watch, &event), 1);
        came |= event.kind == PRESENCE_EVENT_CONNECTED && event.value.connection_id == 2;
        went |= event.kind == PRESENCE_EVENT_DISCONNECTED && event.value.connection_id == 1;
    }
    assert_true(came && went);
    expect_event(watch, PRESENCE_EVENT_DISCONNECTED, S0, 2);
    expect_quiet(watch);
    presence_watch_free(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(a_list_is_told_connection_by_connection),
        story(the_agents_statuses_are_those_before_and_after_the_whole),
        story(a_server_down_is_told_of_each_that_was_alive),
        story(it_is_told_as_it_was_whatever_came_after),
        story(it_is_resumed_in_its_middle),
        story(watches_open_before_tell_the_same_in_the_same_order),
        story(a_merge_is_told_like_an_update),
        story(single_changes_around_a_list_keep_their_order),
    };
    return cmocka_run_group_tests_name("watch_bulk", tests, NULL, NULL);
}
