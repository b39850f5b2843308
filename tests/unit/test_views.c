/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_views.c - views: no later change touches them, they outlive the recorder, and they are walked, searched and
 * freed in any order.
 */
#include "../support/story.h"

#include "recorder.h"

#include <stdlib.h>

#define S0 "machine-0"

static void no_later_change_touches_a_view(void **state)
{
    struct world *world = *state;
    enum { COUNT = 1000, VIEWS = 8 };
    for (uint64_t id = 0; id < COUNT; id++)
        connects(world, id % 2 ? S0 : "machine-1", MODEL_A, id % 3 ? "a" : "b", id);
    presence_connections *held[VIEWS];
    struct content *as_taken[VIEWS];
    for (size_t round = 0; round < VIEWS; round++) {
        held[round] = presence_recorder_connections(world->recorder);
        as_taken[round] = content_of(held[round]);
        at(world, (presence_time)round + 1);
        switch (round) {
        case 0:
            goes_down(world, S0);
            break;
        case 1:
            disconnects(world, S0, 1);
            break;
        case 2:
            connects(world, S0, MODEL_B, "other", 3);
            break;
        case 3:
            expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, "machine-1", 2));
            break;
        case 4:
            updates(world, "machine-1", NULL, 0);
            break;
        case 5:
            for (uint64_t id = 0; id < COUNT; id++)
                connects(world, S0, MODEL_B, "fill", 10000 + id);
            break;
        case 6:
            presence_recorder_disable(world->recorder);
            break;
        default:
            presence_recorder_enable(world->recorder);
            break;
        }
        for (size_t i = 0; i <= round; i++) {
            struct content *now = content_of(held[i]);
            char difference[CONTENT_DIFFERENCE_BYTES];
            if (!content_equal(as_taken[i], now, true, difference))
                fail_msg("round %zu touched view %zu: %s", round, i, difference);
            assert_int_equal(presence_connections_count(held[i]), now->count);
            content_free(now);
        }
    }
    const size_t order[VIEWS] = {3, 0, 7, 5, 1, 6, 2, 4};
    for (size_t i = 0; i < VIEWS; i++) {
        struct content *now = content_of(held[order[i]]);
        assert_true(content_equal(as_taken[order[i]], now, true, NULL));
        content_free(now);
        content_free(as_taken[order[i]]);
        presence_connections_free(held[order[i]]);
    }
}

static void every_index_of_a_view_is_as_old_as_the_view(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "a", 1);
    connects(world, S0, MODEL_A, "b", 2);
    presence_connections *held = presence_recorder_connections(world->recorder);
    disconnects(world, S0, 1);
    connects(world, "machine-1", MODEL_B, "a", 1);
    connects(world, S0, MODEL_B, "c", 2);
    goes_down(world, S0);
    /* slices taken late are slices of the old record */
    presence_connections *model = presence_connections_for_model(held, MODEL_A);
    presence_connections *server = presence_connections_for_server(held, "machine-1");
    presence_connections *agent = presence_connections_for_agent(held, "c");
    assert_int_equal(presence_connections_count(model), 2);
    assert_int_equal(presence_connections_count(server), 0);
    assert_int_equal(presence_connections_count(agent), 0);
    presence_status status;
    expect_code(PRESENCE_OK, presence_connections_agent_status(model, "b", &status));
    assert_int_equal(status, PRESENCE_ALIVE);
    presence_evidence evidence;
    expect_code(PRESENCE_OK, presence_connections_agent_evidence(model, "a", &evidence));
    assert_int_equal(evidence.reason, PRESENCE_REASON_CONNECTED);
    presence_value value;
    expect_code(PRESENCE_OK, presence_connections_find(held, S0, 1, &value));
    expect_code(PRESENCE_E_NOT_FOUND, presence_connections_find(held, "machine-1", 1, &value));
    presence_connections_free(held);
    presence_connections_free(server);
    presence_connections_free(agent);
    presence_connections_free(model);
}

static void views_and_slices_outlive_the_recorder(void **state)
{
    struct world *world = *state;
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    value.user_data = "data";
    updates(world, S0, &value, 1);
    connects(world, "machine-1", MODEL_A, "b", 2);
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *slice = presence_connections_for_server(view, S0);
    disconnects(world, S0, 1);
    presence_connections *later = presence_recorder_connections(world->recorder);
    presence_recorder_free(world->recorder);
    world->recorder = NULL;

    assert_int_equal(presence_connections_count(view), 2);
    assert_int_equal(presence_connections_count(later), 1);
    presence_connections_free(view);
    presence_connections *deeper = presence_connections_for_model(slice, MODEL_A); /* still sliced */
    presence_connections_free(slice);
    presence_value found;
    expect_code(PRESENCE_OK, presence_connections_find(deeper, S0, 1, &found));
    assert_string_equal(found.agent, "a");
    assert_string_equal(found.user_data, "data");
    presence_connections_free(later);
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_connections_agents(deeper, &names, &count));
    presence_connections_free(deeper); /* the last: now nothing is outstanding but the names */
    expect_names(names, count, "a");
}

static void many_views_freed_in_any_order(void **state)
{
    struct world *world = *state;
    enum { VIEWS = 200 };
    presence_connections *held[VIEWS] = {0};
    struct content *as_taken[VIEWS] = {0};
    struct test_random random;
    test_random_seed(&random, 77);
    for (int step = 0; step < 4000; step++) {
        size_t slot = test_random_below(&random, VIEWS);
        if (held[slot] != NULL) {
            struct content *now = content_of(held[slot]);
            assert_true(content_equal(as_taken[slot], now, true, NULL));
            content_free(now);
            content_free(as_taken[slot]);
            presence_connections_free(held[slot]);
            held[slot] = NULL;
            as_taken[slot] = NULL;
        } else {
            held[slot] = presence_recorder_connections(world->recorder);
            as_taken[slot] = content_of(held[slot]);
        }
        uint64_t id = test_random_below(&random, 150);
        if (test_random_chance(&random, 2))
            connects(world, S0, MODEL_A, test_random_chance(&random, 2) ? "a" : "b", id);
        else
            presence_recorder_disconnect(world->recorder, S0, id);
    }
    for (size_t slot = 0; slot < VIEWS; slot++) {
        presence_connections_free(held[slot]);
        content_free(as_taken[slot]);
    }
}

enum { MOST_VIEWS = 6000 };

static size_t taken_in_and_not_gone(const struct world *world)
{
    size_t count = 0;
    for (const struct version *version = world->recorder->registry->versions.dying_first; version;
         version = version->next_dying)
        count++;
    return count;
}

static uint64_t versions_left(const struct world *world)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    return stats.snapshots;
}

/* Views of so many versions, with changes between them or not. */
static void take_and_give_back(struct world *world, size_t views, bool with_changes)
{
    static presence_connections *held[MOST_VIEWS];
    for (size_t i = 0; i < views; i++) {
        held[i] = presence_recorder_connections(world->recorder);
        if (with_changes)
            connects(world, S0, MODEL_A, i % 3 ? "a" : "b", i % 10);
        else
            expect_code(PRESENCE_E_NOT_FOUND, presence_recorder_activity(world->recorder, S0, UINT64_MAX));
    }
    assert_true(versions_left(world) >= views);
    for (size_t i = 0; i < views; i++)
        presence_connections_free(held[(i * 7) % views]);
}

/* However many views are given back at once, a write has to do with few of them. */
static void a_write_takes_in_few_of_the_views_given_back(void **state)
{
    struct world *world = *state;
    enum { VIEWS = 2000, FEW = 32 };
    take_and_give_back(world, VIEWS, true);
    uint64_t writes = 0;
    for (; versions_left(world) > 0; writes++) {
        size_t before = taken_in_and_not_gone(world);
        connects(world, S0, MODEL_A, "a", writes);
        assert_in_range(taken_in_and_not_gone(world), 0, before + FEW);
        if (writes == VIEWS / 100) /* more come while there are some to take in */
            presence_connections_free(presence_recorder_connections(world->recorder));
        assert_true(writes < 10 * VIEWS);
    }
    assert_true(writes > VIEWS / FEW);
    take_and_give_back(world, VIEWS, false); /* and none is left over when nothing else comes */
    for (writes = 0; versions_left(world) > 0; writes++) {
        expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
        assert_true(writes < VIEWS);
    }
    assert_true(writes > VIEWS / FEW);
    take_and_give_back(world, MOST_VIEWS, false);
    presence_recorder_trim(world->recorder); /* takes in all */
    assert_int_equal(versions_left(world), 0);
}

static void a_cursor_walks_each_connection_once(void **state)
{
    struct world *world = *state;
    enum { COUNT = 5000 };
    for (uint64_t id = 0; id < COUNT; id++)
        connects(world, S0, MODEL_A, "a", id);
    for (uint64_t id = 0; id < COUNT; id += 3)
        disconnects(world, S0, id);
    presence_connections *view = presence_recorder_connections(world->recorder);
    static unsigned char seen[COUNT];
    memset(seen, 0, sizeof seen);
    presence_cursor cursor = {{0}};
    presence_value value;
    size_t walked = 0;
    while (presence_connections_next(view, &cursor, &value)) {
        assert_true(value.connection_id < COUNT);
        assert_int_equal(seen[value.connection_id]++, 0);
        walked++;
    }
    assert_int_equal(walked, COUNT - (COUNT + 2) / 3);
    assert_false(presence_connections_next(view, &cursor, &value)); /* the end stays the end */
    assert_false(presence_connections_next(view, &cursor, &value));
    presence_connections_free(view);
}

static void a_cursor_is_plain_data(void **state)
{
    struct world *world = *state;
    for (uint64_t id = 0; id < 100; id++)
        connects(world, S0, MODEL_A, "a", id);
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_cursor cursor = {{0}}, copy = {{0}};
    presence_value value, again;
    for (size_t i = 0; i < 100; i++) {
        assert_true(presence_connections_next(view, &cursor, &value));
        assert_true(presence_connections_next(view, &copy, &again));
        assert_true(test_values_equal(&value, &again, true));
        copy = cursor; /* two walks at once do not disturb each other */
    }
    presence_connections_free(view);
}

static void strings_live_as_long_as_the_slice(void **state)
{
    struct world *world = *state;
    presence_value value = test_value(S0, 1, MODEL_A, "a");
    value.user_data = "some data of it";
    updates(world, S0, &value, 1);
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *slice = presence_connections_for_agent(view, "a");
    presence_connections_free(view);
    presence_value found;
    expect_code(PRESENCE_OK, presence_connections_find(slice, S0, 1, &found));
    updates(world, S0, NULL, 0);
    presence_recorder_trim(world->recorder);
    for (uint64_t id = 0; id < 1000; id++) /* what would take freed memory */
        connects(world, "machine-1", MODEL_B, "another name to take the place", id);
    presence_connections_free(presence_recorder_connections(world->recorder));
    assert_string_equal(found.server, S0);
    assert_string_equal(found.model, MODEL_A);
    assert_string_equal(found.agent, "a");
    assert_string_equal(found.user_data, "some data of it");
    presence_connections_free(slice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(no_later_change_touches_a_view),        story(every_index_of_a_view_is_as_old_as_the_view),
        story(views_and_slices_outlive_the_recorder), story(many_views_freed_in_any_order),
        story(a_cursor_walks_each_connection_once),   story(a_cursor_is_plain_data),
        story(strings_live_as_long_as_the_slice),     story(a_write_takes_in_few_of_the_views_given_back),
    };
    return cmocka_run_group_tests_name("views", tests, NULL, NULL);
}
