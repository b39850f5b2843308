/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_stats.c - statistics, trim, check, and that memory stays flat where the record does.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../support/story.h"

#include <stdio.h>
#include <sys/mman.h>

#define S0 "machine-0"

static presence_stats stats_of(struct world *world)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    return stats;
}

static void of_another_version_they_are_refused(void **state)
{
    struct world *world = *state;
    presence_stats stats = {.struct_bytes = 0};
    expect_code(PRESENCE_E_INVALID, presence_recorder_stats(world->recorder, &stats));
    stats.struct_bytes = sizeof stats - 8;
    expect_code(PRESENCE_E_INVALID, presence_recorder_stats(world->recorder, &stats));
    expect_code(PRESENCE_E_INVALID, presence_recorder_stats(world->recorder, NULL));
}

static void of_an_empty_recorder(void **state)
{
    struct world *world = *state;
    presence_stats stats = stats_of(world);
    assert_int_equal(stats.struct_bytes, sizeof stats);
    assert_int_equal(stats.revision, presence_recorder_revision(world->recorder));
    assert_int_equal(stats.connections, 0);
    assert_int_equal(stats.alive, 0);
    assert_int_equal(stats.models + stats.servers + stats.agents + stats.names, 0);
    assert_int_equal(stats.name_bytes + stats.data_bytes, 0);
    assert_int_equal(stats.snapshots + stats.retained_bytes, 0);
    assert_int_equal(stats.oldest_snapshot, 0);
    assert_int_equal(stats.watches + stats.history_bytes + stats.left_agents, 0);
    assert_true(stats.history_first == UINT64_MAX);
}

static void they_count_what_is_recorded(void **state)
{
    struct world *world = *state;
    connects(world, S0, MODEL_A, "aa", 1);
    connects(world, S0, MODEL_A, "aa", 2);
    connects(world, S0, MODEL_B, "aa", 3); /* an agent of its own */
    expect_code(PRESENCE_OK,
                presence_recorder_connect(world->recorder, "machine-1", MODEL_A, "bbb", 4, false, "12345"));
    goes_down(world, S0);
    presence_stats stats = stats_of(world);
    assert_int_equal(stats.revision, 5);
    assert_int_equal(stats.connections, 4);
    assert_int_equal(stats.alive, 1);
    assert_int_equal(stats.servers, 2);
    assert_int_equal(stats.models, 2);
    assert_int_equal(stats.agents, 3);
    assert_int_equal(stats.names, 7);
    size_t name_bytes = 2 * strlen(S0) + 2 * strlen(MODEL_A) + 2 + 2 + 3;
    assert_in_range(stats.name_bytes, name_bytes, name_bytes + stats.names); /* ends of strings may count */
    assert_in_range(stats.data_bytes, 5, 6);
    assert_true(stats.used_bytes > 0);
    assert_true(stats.used_bytes <= stats.allocated_bytes);
    assert_true(stats.allocated_bytes <= atomic_load(&world->memory.outstanding_bytes));

    for (uint64_t id = 1; id <= 3; id++)
        disconnects(world, S0, id);
    disconnects(world, "machine-1", 4);
    stats = stats_of(world);
    assert_int_equal(stats.connections + stats.alive + stats.models + stats.servers + stats.agents, 0);
    assert_int_equal(stats.names + stats.name_bytes + stats.data_bytes, 0);
}

static void they_count_the_versions_that_views_hold(void **state)
{
    struct world *world = *state;
    enum { COUNT = 5000 };
    for (uint64_t id = 0; id < COUNT; id++)
        connects(world, S0, MODEL_A, "a", id);
    at(world, 10);
    presence_connections *first = presence_recorder_connections(world->recorder);
    at(world, 20);
    presence_connections *same = presence_recorder_connections(world->recorder); /* no write between */
    presence_connections *slice = presence_connections_for_server(first, S0);
    presence_stats stats = stats_of(world);
    assert_int_equal(stats.snapshots, 1);
    assert_int_equal(stats.oldest_snapshot, STORY_BEGIN + 10);
    assert_int_equal(stats.retained_bytes, 0);
    for (uint64_t id = 0; id < COUNT; id++)
        disconnects(world, S0, id);
    at(world, 30);
    presence_connections *second = presence_recorder_connections(world->recorder);
    stats = stats_of(world);
    assert_int_equal(stats.snapshots, 2);
    assert_int_equal(stats.oldest_snapshot, STORY_BEGIN + 10);
    assert_true(stats.retained_bytes >= COUNT * sizeof(uint64_t));
    presence_connections_free(first);
    presence_connections_free(same);
    assert_int_equal(stats_of(world).snapshots, 2); /* the slice holds it */
    presence_connections_free(slice);
    presence_recorder_trim(world->recorder);
    stats = stats_of(world);
    assert_int_equal(stats.snapshots, 1);
    assert_int_equal(stats.oldest_snapshot, STORY_BEGIN + 30);
    assert_int_equal(stats.retained_bytes, 0);
    presence_connections_free(second);
    presence_recorder_trim(world->recorder);
    stats = stats_of(world);
    assert_int_equal(stats.snapshots, 0);
    assert_int_equal(stats.oldest_snapshot, 0);
}

static void they_count_watches_and_history(void **state)
{
    struct world *world = *state;
    presence_watch *first = watch_all(world), *second = watch_all(world);
    presence_stats stats = stats_of(world);
    assert_int_equal(stats.watches, 2);
    assert_true(stats.history_bytes > 0);
    assert_int_equal(stats.history_first, presence_recorder_revision(world->recorder));
    connects(world, S0, MODEL_A, "a", 1);
    presence_watch_free(first);
    assert_int_equal(stats_of(world).watches, 1);
    presence_watch_free(second);
    stats = stats_of(world);
    assert_int_equal(stats.watches, 0);
    assert_true(stats.history_first == UINT64_MAX); /* by default none is kept while none is open */
    assert_int_equal(stats.history_bytes, 0);
}

static void trim_gives_back_what_is_not_used(void **state)
{
    struct world *world = *state;
    enum { COUNT = 50000 };
    uint64_t empty = atomic_load(&world->memory.outstanding_bytes);
    for (uint64_t id = 0; id < COUNT; id++) {
        char agent[TEST_NAME_BYTES];
        connects(world, S0, MODEL_A, test_name(agent, "an-agent", id), id);
    }
    uint64_t full = atomic_load(&world->memory.outstanding_bytes);
    updates(world, S0, NULL, 0);
    presence_recorder_trim(world->recorder);
    uint64_t trimmed = atomic_load(&world->memory.outstanding_bytes);
    assert_true(full > empty + COUNT * 30);
    assert_true(trimmed < empty + (full - empty) / 2);
    presence_stats stats = stats_of(world);
    assert_true(stats.allocated_bytes <= trimmed);
    connects(world, S0, MODEL_A, "a", 1); /* and all goes on */
    expect_counts(world, 1, 0);
    presence_recorder_trim(world->recorder);
    expect_counts(world, 1, 0);
    for (uint64_t id = 2; id < COUNT; id++) { /* in memory that is taken anew */
        char agent[TEST_NAME_BYTES];
        connects(world, S0, MODEL_A, test_name(agent, "an-agent", id), id);
    }
    expect_counts(world, COUNT - 1, 0);
    assert_true(atomic_load(&world->memory.outstanding_bytes) <= full + full / 4);
}

/* So much of this process stands on huge pages. */
static uint64_t huge_bytes(void)
{
    char line[256];
    unsigned long long kilobytes = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "AnonHugePages: %llu kB", &kilobytes) == 1)
            break;
    fclose(file);
    return (uint64_t)kilobytes * 1024;
}

/* Older ones than 6.1 do not, and some machines have no huge pages. */
static bool system_makes_huge_pages(void)
{
    enum { HUGE = 2 << 20, COLLAPSE = 25 };
    char *memory = mmap(NULL, 2 * (size_t)HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    char *at = (char *)(((uintptr_t)memory + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    *at = 1;
    bool made = madvise(at, HUGE, COLLAPSE) == 0;
    munmap(memory, 2 * (size_t)HUGE);
    return made;
}

/* On a recorder with the default allocator: nothing that is a user's is advised on. */
static void settling_puts_a_record_on_huge_pages(void **state)
{
    (void)state;
    enum { COUNT = 60000, PIECE = 2 << 20 };
    presence_recorder *recorder = presence_recorder_new(NULL);
    assert_non_null(recorder);
    presence_recorder_enable(recorder);
    presence_recorder_settle(recorder); /* of an empty one there is nothing to put there */
    for (uint64_t id = 0; id < COUNT; id++) {
        char agent[TEST_NAME_BYTES];
        expect_code(PRESENCE_OK, presence_recorder_connect(recorder, S0, MODEL_A, test_name(agent, "an-agent", id), id,
                                                           false, NULL));
    }
    uint64_t before = huge_bytes();
    presence_recorder_settle(recorder);
    presence_recorder_settle(recorder); /* it is there already */
    if (system_makes_huge_pages())
        assert_true(huge_bytes() >= before + PIECE);
    else
        print_message("this system makes no huge pages when asked for: that they are made is not looked at\n");
    expect_code(PRESENCE_OK, presence_recorder_check(recorder, NULL));
    expect_code(PRESENCE_OK, presence_recorder_activity(recorder, S0, COUNT - 1));
    presence_recorder_free(recorder);
}

static void disabling_returns_the_memory(void **state)
{
    struct world *world = *state;
    uint64_t empty = atomic_load(&world->memory.outstanding_bytes);
    for (uint64_t id = 0; id < 50000; id++) {
        char agent[TEST_NAME_BYTES];
        connects(world, S0, MODEL_A, test_name(agent, "an-agent", id), id);
    }
    uint64_t full = atomic_load(&world->memory.outstanding_bytes);
    presence_recorder_disable(world->recorder);
    presence_recorder_trim(world->recorder);
    assert_true(atomic_load(&world->memory.outstanding_bytes) < empty + (full - empty) / 2);
}

static void trim_of_a_disabled_recorder_is_allowed(void **state)
{
    struct world *world = *state;
    presence_recorder_disable(world->recorder);
    presence_recorder_trim(world->recorder);
    presence_stats stats = stats_of(world);
    assert_int_equal(stats.connections, 0);
}

static void memory_stays_flat_while_agents_come_and_go(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.departures = 64;
    options.left_agents = 64;
    world_restart(world, &options);
    uint64_t warm = 0;
    for (uint64_t i = 0; i < 300000; i++) {
        char server[TEST_NAME_BYTES], model[TEST_NAME_BYTES], agent[TEST_NAME_BYTES];
        connects(world, test_name(server, "machine", i % 1000), test_name(model, "model", i % 5000),
                 test_name(agent, "agent", i), i);
        if (i >= 100)
            disconnects(world, test_name(server, "machine", (i - 100) % 1000), i - 100);
        if (i == 50000)
            warm = atomic_load(&world->memory.outstanding_bytes);
    }
    assert_in_range(atomic_load(&world->memory.outstanding_bytes), 0, warm + warm / 8);
    presence_stats stats = stats_of(world);
    assert_int_equal(stats.connections, 100);
    assert_int_equal(stats.agents, 100);
    assert_in_range(stats.names, 300, 600);
}

static void check_passes_whatever_was_done(void **state)
{
    struct world *world = *state;
    struct test_random random;
    test_random_seed(&random, 5);
    static const char *const servers[] = {S0, "machine-1", "machine-2"}, *const agents[] = {"a", "b", "c", "d"};
    presence_connections *held = NULL;
    presence_error error;
    memset(&error, 0x5a, sizeof error);
    presence_error poison = error;
    for (int step = 0; step < 3000; step++) {
        const char *server = servers[test_random_below(&random, 3)];
        uint64_t id = test_random_below(&random, 40), dice = test_random_below(&random, 12);
        if (dice < 6)
            connects(world, server, dice % 2 ? MODEL_A : MODEL_B, agents[test_random_below(&random, 4)], id);
        else if (dice < 9)
            presence_recorder_disconnect(world->recorder, server, id);
        else if (dice == 9)
            goes_down(world, server);
        else if (dice == 10)
            updates(world, server, NULL, 0);
        else {
            presence_connections_free(held);
            held = presence_recorder_connections(world->recorder);
        }
        expect_code(PRESENCE_OK, presence_recorder_check(world->recorder, &error));
    }
    assert_memory_equal(&error, &poison, sizeof error); /* on success it is not written */
    expect_code(PRESENCE_OK, presence_recorder_check(world->recorder, NULL));
    presence_connections_free(held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(of_another_version_they_are_refused),
        story(of_an_empty_recorder),
        story(they_count_what_is_recorded),
        story(they_count_the_versions_that_views_hold),
        story(they_count_watches_and_history),
        story(trim_gives_back_what_is_not_used),
        cmocka_unit_test(settling_puts_a_record_on_huge_pages),
        story(disabling_returns_the_memory),
        story(trim_of_a_disabled_recorder_is_allowed),
        story(memory_stays_flat_while_agents_come_and_go),
        story(check_passes_whatever_was_done),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
