/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_limits.c - limits of connections, names and bytes: each answered LIMIT, with nothing changed.
 */
#include "replica_words.h"

#include <stdio.h>

static int connect_one(struct world *world, const char *server, const char *model, const char *agent, uint64_t id)
{
    return presence_recorder_connect(world->recorder, server, model, agent, id, false, NULL);
}

static void limit_connections(struct world *world, uint64_t limit)
{
    presence_options options = world_options(world);
    options.limit_connections = limit;
    world_restart(world, &options);
}

static void limit_names(struct world *world, uint64_t limit)
{
    presence_options options = world_options(world);
    options.limit_names = limit;
    world_restart(world, &options);
}

static void so_many_connections_and_no_more(void **state)
{
    struct world *world = *state;
    limit_connections(world, 3);
    for (uint64_t id = 1; id <= 3; id++)
        connects(world, S0, MODEL_A, "a", id);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "a", 4));
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, "machine-1", MODEL_B, "b", 1));
    presence_value value = test_value(S0, 4, MODEL_A, "a");
    presence_error error = {0};
    expect_refused(world, PRESENCE_E_LIMIT,
                   presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, &error));
    assert_int_equal(error.code, PRESENCE_E_LIMIT);
    assert_string_not_equal(error.message, "");

    connects(world, S0, MODEL_A, "a", 3); /* a known one may be stated again, and for another */
    connects(world, S0, MODEL_B, "b", 3);
    goes_down(world, S0); /* missing ones are recorded too */
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "a", 4));
    disconnects(world, S0, 1);
    connects(world, S0, MODEL_A, "a", 4);
    expect_counts(world, 1, 2);
}

static void lists_count_by_what_they_leave(void **state)
{
    struct world *world = *state;
    limit_connections(world, 3);
    const presence_value first[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "a"),
                                    test_value(S0, 3, MODEL_A, "a"), test_value(S0, 4, MODEL_A, "a")};
    const presence_value second[] = {test_value(S0, 5, MODEL_A, "b"), test_value(S0, 6, MODEL_A, "b"),
                                     test_value(S0, 7, MODEL_A, "b")};
    expect_refused(world, PRESENCE_E_LIMIT, presence_recorder_update_server(world->recorder, S0, first, 4, NULL));
    updates(world, S0, first, 3);
    updates(world, S0, second, 3); /* three before, three after */
    expect_counts(world, 3, 0);
    expect_recorded(world, second[2], PRESENCE_ALIVE, 0);
    expect_refused(world, PRESENCE_E_LIMIT,
                   presence_recorder_merge_server(world->recorder, S0, first, 1, NULL)); /* the alive stay */
    updates(world, S0, second, 2);
    expect_code(PRESENCE_OK, presence_recorder_merge_server(world->recorder, S0, first, 1, NULL));
    expect_counts(world, 3, 0);
}

static void a_batch_stops_at_the_limit(void **state)
{
    struct world *world = *state;
    limit_connections(world, 100);
    static presence_value list[150];
    for (size_t i = 0; i < 150; i++)
        list[i] = test_value(S0, i, MODEL_A, "a");
    size_t done = 0;
    presence_error error = {0};
    expect_code(PRESENCE_E_LIMIT, presence_recorder_connect_many(world->recorder, list, 150, &done, &error));
    assert_int_equal(done, 100);
    expect_counts(world, 100, 0);
}

static void so_many_names_and_no_more(void **state)
{
    struct world *world = *state;
    limit_names(world, 4);
    connects(world, S0, MODEL_A, "a", 1); /* a server, a model and an agent of it */
    connects(world, S0, MODEL_A, "b", 2);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "c", 3));
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, "machine-1", MODEL_A, "a", 3));
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_B, "a", 3));
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "b"),
                                   test_value(S0, 3, MODEL_B, "a")};
    presence_error error = {0};
    expect_refused(world, PRESENCE_E_LIMIT, presence_recorder_update_server(world->recorder, S0, list, 3, &error));
    assert_int_equal(error.code, PRESENCE_E_LIMIT);
    connects(world, S0, MODEL_A, "a", 3); /* of known names, as many as you like */
    connects(world, S0, MODEL_A, "b", 4);
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    assert_int_equal(stats.names, 4);
}

static void names_that_nobody_bears_make_room(void **state)
{
    struct world *world = *state;
    limit_names(world, 3);
    for (uint64_t round = 0; round < 50; round++) {
        char server[TEST_NAME_BYTES], model[TEST_NAME_BYTES], agent[TEST_NAME_BYTES];
        connects(world, test_name(server, "machine", round), test_name(model, "model", round),
                 test_name(agent, "agent", round), round);
        expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, server, model, "one more", 1000));
        disconnects(world, server, round);
    }
}

/* So many servers are recorded; all others are kept for what left them, and their names do not count. */
static void expect_servers(struct world *world, uint64_t servers)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
    assert_int_equal(stats.servers, servers);
    assert_int_equal(stats.names, servers + stats.models + stats.agents);
    size_t others = stats.models * strlen(MODEL_A) + stats.agents * strlen("a");
    assert_int_equal(stats.name_bytes, others + servers * strlen(S0));
    presence_error error;
    expect_code(PRESENCE_OK, presence_recorder_check(world->recorder, &error));
}

static void servers_that_all_left_do_not_count_until_they_are_known_again(void **state)
{
    struct world *world = *state;
    limit_names(world, 4); /* a model, an agent, two servers */
    char server[TEST_NAME_BYTES];
    for (uint64_t i = 0; i < 10; i++) {
        connects(world, test_name(server, "machine", i), MODEL_A, "a", 1);
        disconnects(world, server, 1);
        expect_servers(world, 0);
    }
    connects(world, S0, MODEL_A, "a", 1);
    expect_servers(world, 1);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, "machine-2", MODEL_A, "new", 1)); /* two names */
    claims(world, S1, claim_of(1, 1, 1), false); /* known by its claim alone */
    expect_servers(world, 2);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, "machine-2", MODEL_A, "a", 1));
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, "machine-10", MODEL_A, "a", 1));
    expect_code(PRESENCE_OK, presence_replica_forget(world->recorder, S1, NULL)); /* by its tombstone */
    expect_servers(world, 2);
    assert_int_equal(presence_replica_bury(world->recorder, INT64_MAX), 1);
    expect_servers(world, 1);
    connects(world, "machine-2", MODEL_A, "a", 1);
    expect_servers(world, 2);
    expect_code(PRESENCE_OK, presence_replica_lapse(world->recorder, "machine-2"));
    disconnects(world, "machine-2", 1); /* by its lapse */
    expect_servers(world, 2);
    expect_code(PRESENCE_OK, presence_replica_restore(world->recorder, "machine-2"));
    expect_servers(world, 1);
    const presence_value list[] = {test_value("machine-3", 1, MODEL_A, "a"), test_value("machine-3", 2, MODEL_A, "b")};
    expect_refused(world, PRESENCE_E_LIMIT,
                   presence_recorder_update_server(world->recorder, "machine-3", list, 2, NULL));
    expect_servers(world, 1); /* a list that failed leaves it as it was */
    updates(world, "machine-3", list, 1);
    expect_servers(world, 2);
    updates(world, "machine-3", NULL, 0);
    expect_servers(world, 1);
    presence_recorder_disable(world->recorder);
    presence_recorder_enable(world->recorder);
    expect_servers(world, 0);
}

static void a_server_that_all_left_takes_no_name_from_a_replicated_one(void **state)
{
    struct world *world = *state;
    limit_names(world, 4);
    claims(world, S0, claim_of(1, 1, 1), false);
    applies(world, S0, claim_of(1, 1, 1), connect_change(1, test_value(S0, 1, MODEL_A, "a")), true);
    connects(world, S1, MODEL_A, "a", 1); /* the fourth name */
    disconnects(world, S1, 1);
    applies(world, S0, claim_of(1, 1, 1), connect_change(2, test_value(S0, 2, MODEL_A, "b")), true);
    presence_change fifth = connect_change(3, test_value(S0, 3, MODEL_A, "c"));
    presence_claim claim = claim_of(1, 1, 1);
    expect_refused(world, PRESENCE_E_LIMIT, presence_replica_apply(world->recorder, S0, &claim, &fifth, NULL, NULL));
}

static void so_many_bytes_and_no_more(void **state)
{
    struct world *world = *state;
    enum { LIMIT_BYTES = 8 * 1024 * 1024, MOST = 1000000 };
    presence_options options = world_options(world);
    options.limit_bytes = LIMIT_BYTES;
    world_restart(world, &options);
    uint64_t id = 0;
    int code = PRESENCE_OK;
    while (id < MOST && code == PRESENCE_OK) {
        char agent[TEST_NAME_BYTES];
        code = connect_one(world, S0, MODEL_A, test_name(agent, "an-agent-with-a-name-of-some-length", id), id);
        id += code == PRESENCE_OK;
        assert_true(atomic_load(&world->memory.outstanding_bytes) <= LIMIT_BYTES);
    }
    expect_code(PRESENCE_E_LIMIT, code);
    assert_true(id > 1000);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "one more, with a new name", MOST + 1));
    expect_counts(world, id, 0);
    /* what leaves makes room again */
    for (uint64_t gone = 0; gone < id; gone++)
        disconnects(world, S0, gone);
    for (uint64_t back = 0; back < id / 2; back++)
        connects(world, S0, MODEL_A, "a", back);
}

static void views_count_towards_the_bytes(void **state)
{
    struct world *world = *state;
    enum { LIMIT_BYTES = 8 * 1024 * 1024, COUNT = 2000, MOST_ROUNDS = 2000, VIEW_ITSELF_BYTES = 1024 };
    presence_options options = world_options(world);
    options.limit_bytes = LIMIT_BYTES;
    world_restart(world, &options);
    for (uint64_t id = 0; id < COUNT; id++)
        connects(world, S0, MODEL_A, "a", id);
    presence_connections *held[MOST_ROUNDS];
    size_t views = 0;
    int code = PRESENCE_OK;
    while (views < MOST_ROUNDS && code == PRESENCE_OK) { /* every view held, everything stamped, again and again */
        held[views] = presence_recorder_connections(world->recorder);
        if (held[views] == NULL)
            break;
        views++;
        at(world, (presence_time)views);
        for (uint64_t id = 0; id < COUNT && code == PRESENCE_OK; id++)
            code = presence_recorder_activity(world->recorder, S0, id);
        assert_true(atomic_load(&world->memory.outstanding_bytes) <= LIMIT_BYTES + views * VIEW_ITSELF_BYTES);
    }
    assert_true(views < MOST_ROUNDS);
    assert_true(code == PRESENCE_E_LIMIT || code == PRESENCE_E_NO_MEMORY);
    assert_true(presence_connections_count(held[0]) == COUNT);
    for (size_t i = 0; i < views; i++)
        presence_connections_free(held[i]);
    presence_recorder_trim(world->recorder);
    expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, 1));
}

/* A number below `bound`; the same ones in each run. */
static unsigned next_below(uint64_t *seed, unsigned bound)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*seed >> 33) % bound;
}

/* "17xxxxxxxxxx": the number, made that long. */
static void long_name(char *name, unsigned number, size_t length)
{
    memset(name, 'x', length);
    name[length] = '\0';
    char digits[16];
    int count = snprintf(digits, sizeof digits, "%u", number);
    memcpy(name, digits, (size_t)count);
}

/* Names, user data and servers of all kinds come and go while up to 16 views are held. Returns how often the limit
 * refused. */
static size_t churn_at_the_limit(struct world *world, uint64_t *seed, presence_connections *views[16])
{
    size_t refused = 0;
    for (unsigned i = 0; i < 200000; i++) {
        char agent[32], model[40], server[32], data[100] = "";
        unsigned id = next_below(seed, 60000);
        if (next_below(seed, 3) == 0) {
            unsigned place = next_below(seed, 16);
            presence_connections_free(views[place]);
            views[place] = next_below(seed, 4) ? presence_recorder_connections(world->recorder) : NULL;
        }
        size_t length = next_below(seed, 4) ? 12 : 30;
        long_name(agent, next_below(seed, 30000), length);
        long_name(model, next_below(seed, 2000), 36);
        snprintf(server, sizeof server, "server-%u", next_below(seed, next_below(seed, 2) ? 3 : 300));
        if (next_below(seed, 8) == 0)
            long_name(data, 0, 20 + next_below(seed, 60));
        int code = next_below(seed, i < 60000 ? 4 : 2)
                       ? presence_recorder_connect(world->recorder, server, model, agent, id, false, data)
                       : presence_recorder_disconnect(world->recorder, server, id);
        refused += code == PRESENCE_E_LIMIT;
        if (next_below(seed, 500) == 0)
            presence_recorder_server_down(world->recorder, server);
        if (next_below(seed, 3000) == 0)
            presence_recorder_update_server(world->recorder, server, NULL, 0, NULL);
    }
    return refused;
}

static void at_the_limit_connections_can_still_be_removed_once_views_are_gone(void **state)
{
    struct world *world = *state;
    size_t refused = 0;
    for (uint64_t run = 1; run <= 8; run++) {
        uint64_t seed = 12345 + run;
        presence_options options = world_options(world);
        options.limit_bytes = (size_t)(6 + next_below(&seed, 10)) << 20;
        world_restart(world, &options);
        /* Given a record at its limit, where changes copy what views see until there is no room for copies either, */
        presence_connections *views[16] = {NULL};
        refused += churn_at_the_limit(world, &seed, views);
        /* when the views are gone, */
        for (unsigned place = 0; place < 16; place++)
            presence_connections_free(views[place]);
        /* then connections can be removed. */
        for (unsigned i = 0; i < 3000; i++) {
            char server[32];
            snprintf(server, sizeof server, "server-%u", next_below(&seed, 300));
            int code = presence_recorder_disconnect(world->recorder, server, next_below(&seed, 60000));
            assert_true(code == PRESENCE_OK || code == PRESENCE_E_NOT_FOUND);
        }
    }
    assert_true(refused > 0);
}

static void set_limits(struct world *world, uint64_t connections, uint64_t names, uint64_t bytes)
{
    presence_options options = world_options(world);
    options.limit_connections = connections;
    options.limit_names = names;
    options.limit_bytes = bytes;
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK, presence_recorder_set_limits(world->recorder, &options));
    assert_int_equal(revision, presence_recorder_revision(world->recorder));
}

static void limits_are_set_while_it_records(void **state)
{
    struct world *world = *state;
    const presence_value list[] = {test_value(S0, 1, MODEL_A, "a"), test_value(S0, 2, MODEL_A, "a"),
                                   test_value(S0, 3, MODEL_A, "a"), test_value(S0, 4, MODEL_A, "a"),
                                   test_value(S0, 5, MODEL_A, "a")};
    for (uint64_t id = 1; id <= 4; id++)
        connects(world, S0, MODEL_A, "a", id);
    /* What is held above the limit stays, and may be stated again; nothing is added, */
    set_limits(world, 2, 0, 0);
    expect_counts(world, 4, 0);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "a", 5));
    expect_refused(world, PRESENCE_E_LIMIT, presence_recorder_update_server(world->recorder, S0, list, 5, NULL));
    expect_code(PRESENCE_OK, presence_recorder_update_server(world->recorder, S0, list, 4, NULL));
    connects(world, S0, MODEL_A, "a", 4);
    /* until it is below. */
    for (uint64_t id = 1; id <= 2; id++) {
        disconnects(world, S0, id);
        expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "a", 5));
    }
    disconnects(world, S0, 3);
    connects(world, S0, MODEL_A, "a", 5);
    /* A limit that is raised, or is no more, makes room at once. */
    set_limits(world, 3, 0, 0);
    connects(world, S0, MODEL_A, "a", 6);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "a", 7));
    set_limits(world, 0, 3, 0);
    connects(world, S0, MODEL_A, "a", 7);
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "b", 8));
    set_limits(world, 0, 0, 0);
    connects(world, S0, MODEL_A, "b", 8);
}

static void limits_that_were_set_last(void **state)
{
    struct world *world = *state;
    for (int run = 0; run < 4; run++) { /* a view keeps the record of before: the next life has another */
        bool held = run & 1, while_disabled = run & 2;
        set_limits(world, 0, 0, 0);
        connects(world, S0, MODEL_A, "a", 1);
        presence_connections *view = held ? presence_recorder_connections(world->recorder) : NULL;
        set_limits(world, while_disabled ? 1 : 2, 0, 0);
        presence_recorder_disable(world->recorder);
        if (while_disabled)
            set_limits(world, 2, 0, 0);
        presence_recorder_enable(world->recorder);
        connects(world, S0, MODEL_A, "a", 1);
        connects(world, S0, MODEL_A, "a", 2);
        expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "a", 3));
        presence_connections_free(view);
    }
}

static void bad_limits_change_nothing(void **state)
{
    struct world *world = *state;
    limit_connections(world, 1);
    connects(world, S0, MODEL_A, "a", 1);
    presence_options unfilled = {0};
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_set_limits(world->recorder, NULL));
    expect_refused(world, PRESENCE_E_INVALID, presence_recorder_set_limits(world->recorder, &unfilled));
    expect_refused(world, PRESENCE_E_LIMIT, connect_one(world, S0, MODEL_A, "a", 2));
}

/* Given a record that grew without a limit, whatever its free memory happens to be, when bytes are limited to less than
 * it has, then nothing is added, and all of it can be stamped and removed. */
static void below_a_new_limit_of_bytes_all_can_be_removed(void **state)
{
    struct world *world = *state;
    for (uint64_t count = 1; count < 3000; count += count / 40 + 1) {
        presence_options options = world_options(world);
        world_restart(world, &options);
        for (uint64_t id = 0; id < count; id++) {
            char agent[TEST_NAME_BYTES];
            presence_connections *view = id > count / 2 ? presence_recorder_connections(world->recorder) : NULL;
            connects(world, S0, MODEL_A, test_name(agent, "an-agent-with-a-name-of-some-length", id), id);
            presence_connections_free(view);
        }
        set_limits(world, 0, 0, 1);
        size_t held_bytes = atomic_load(&world->memory.outstanding_bytes), refused = 0;
        for (uint64_t id = count; id < count + 20000 && !refused; id++) {
            char agent[TEST_NAME_BYTES];
            int code = connect_one(world, S0, MODEL_A, test_name(agent, "an-agent-with-a-name-of-some-length", id), id);
            refused += code == PRESENCE_E_LIMIT;
        }
        assert_int_equal(refused, 1); /* once what is free within is used up */
        assert_true(atomic_load(&world->memory.outstanding_bytes) <= held_bytes);
        for (uint64_t id = 0; id < count; id++) {
            expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, S0, id));
            disconnects(world, S0, id);
        }
    }
}

static void without_limits_there_are_none(void **state)
{
    struct world *world = *state;
    for (uint64_t id = 0; id < 20000; id++) {
        char agent[TEST_NAME_BYTES];
        connects(world, S0, MODEL_A, test_name(agent, "agent", id), id);
    }
    expect_counts(world, 20000, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(so_many_connections_and_no_more),
        story(lists_count_by_what_they_leave),
        story(a_batch_stops_at_the_limit),
        story(so_many_names_and_no_more),
        story(names_that_nobody_bears_make_room),
        story(servers_that_all_left_do_not_count_until_they_are_known_again),
        story(a_server_that_all_left_takes_no_name_from_a_replicated_one),
        story(so_many_bytes_and_no_more),
        story(views_count_towards_the_bytes),
        story(at_the_limit_connections_can_still_be_removed_once_views_are_gone),
        story(limits_are_set_while_it_records),
        story(limits_that_were_set_last),
        story(bad_limits_change_nothing),
        story(below_a_new_limit_of_bytes_all_can_be_removed),
        story(without_limits_there_are_none),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
