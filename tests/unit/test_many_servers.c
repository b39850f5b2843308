/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_many_servers.c - more servers than a row has bits for their numbers, all with the same connection ids: each call
 * touches the server that it names, while servers come, go, and their numbers are used again.
 *
 * A row keeps the low 10 bits of its server's number. Servers i and i + 1024 therefore look alike in a row, and most of
 * what is asked here is asked of such a pair.
 */
#include "../support/story.h"

#include <inttypes.h>
#include <stdio.h>

enum { ALIKE = 1024, SERVERS = 1500, IDS = 3, MODELS = 7 };

/* What is there to be: of each server by its place, and of each place the life that it is in. */
struct town {
    bool there[SERVERS];
    unsigned life[SERVERS];
    presence_time seen[SERVERS][IDS];
    presence_status status[SERVERS];
};

static const char *server_of(const struct town *town, size_t place)
{
    static char name[TEST_NAME_BYTES];
    snprintf(name, sizeof name, "server-%zu-%u", place, town->life[place]);
    return name;
}

static const char *agent_of(const struct town *town, size_t place, uint64_t id)
{
    static char name[TEST_NAME_BYTES];
    snprintf(name, sizeof name, "%zu/%u/%" PRIu64, place, town->life[place], id);
    return name;
}

static const char *model_of(size_t place)
{
    static const char *const names[MODELS] = {"m-0", "m-1", "m-2", "m-3", "m-4", "m-5", "m-6"};
    return names[place % MODELS];
}

static void is_whole(struct world *world)
{
    presence_error error = {0};
    if (presence_recorder_check(world->recorder, &error))
        fail_msg("the record is broken: %s", error.message);
}

static void settles(struct world *world, struct town *town, size_t place, presence_time when)
{
    at(world, when);
    town->there[place] = true;
    town->status[place] = PRESENCE_ALIVE;
    for (uint64_t id = 0; id < IDS; id++) {
        town->seen[place][id] = when;
        connects(world, server_of(town, place), model_of(place), agent_of(town, place, id), id);
    }
}

static void leaves(struct world *world, struct town *town, size_t place)
{
    for (uint64_t id = 0; id < IDS; id++)
        disconnects(world, server_of(town, place), id);
    town->there[place] = false;
    town->life[place]++;
}

/* The view shows each connection as it is to be, by find and by the server's slice, and none more. */
static void shows(const presence_connections *view, const struct town *town)
{
    size_t all = 0;
    for (size_t place = 0; place < SERVERS; place++) {
        const char *server = server_of(town, place);
        for (uint64_t id = 0; id < IDS; id++) {
            presence_value value;
            int code = presence_connections_find(view, server, id, &value);
            assert_int_equal(code, town->there[place] ? PRESENCE_OK : PRESENCE_E_NOT_FOUND);
            if (code)
                continue;
            all++;
            assert_string_equal(value.server, server);
            assert_string_equal(value.agent, agent_of(town, place, id));
            assert_string_equal(value.model, model_of(place));
            assert_int_equal(value.status, town->status[place]);
            assert_int_equal(value.last_seen, STORY_BEGIN + town->seen[place][id]);
        }
        presence_connections *slice = presence_connections_for_server(view, server);
        assert_int_equal(presence_connections_count(slice), town->there[place] ? IDS : 0);
        presence_cursor cursor = {{0}};
        presence_value value;
        for (size_t i = 0; i < presence_connections_count(slice); i++) {
            assert_true(presence_connections_next(slice, &cursor, &value));
            assert_string_equal(value.server, server);
        }
        assert_false(presence_connections_next(slice, &cursor, &value));
        presence_connections_free(slice);
    }
    assert_int_equal(presence_connections_count(view), all);
}

static presence_connections *looks(struct world *world)
{
    presence_connections *view = presence_recorder_connections(world->recorder);
    assert_non_null(view);
    return view;
}

static void is(struct world *world, const struct town *town)
{
    is_whole(world);
    presence_connections *view = looks(world);
    shows(view, town);
    presence_connections_free(view);
}

/* A server that has nothing left is forgotten at once, so that its number is free: one departure is remembered. */
static struct town fills(struct world *world)
{
    presence_options options = world_options(world);
    options.departures = 1;
    world_restart(world, &options);
    struct town town = {0};
    for (size_t place = 0; place < SERVERS; place++)
        settles(world, &town, place, 0);
    return town;
}

static void each_call_touches_its_own(void **state)
{
    struct world *world = *state;
    static struct town town;
    town = fills(world);
    is(world, &town);
    for (size_t place = 0; place < SERVERS; place++) {
        at(world, town.seen[place][1] = (presence_time)place + 1);
        expect_code(PRESENCE_OK, presence_recorder_activity(world->recorder, server_of(&town, place), 1));
    }
    is(world, &town);
    for (size_t place = 3; place + ALIKE < SERVERS; place += 90) {
        goes_down(world, server_of(&town, place + ALIKE));
        town.status[place + ALIKE] = PRESENCE_MISSING;
    }
    is(world, &town);
    at(world, 5000);
    for (size_t place = 5; place + ALIKE < SERVERS; place += 90) { /* the list leaves out the last id */
        presence_value list[IDS - 1];
        char agents[IDS - 1][TEST_NAME_BYTES];
        for (uint64_t id = 0; id < IDS - 1; id++) {
            strcpy(agents[id], agent_of(&town, place, id));
            list[id] = test_value(server_of(&town, place), id, model_of(place), agents[id]);
            town.seen[place][id] = 5000;
        }
        updates(world, server_of(&town, place), list, IDS - 1);
        is_whole(world);
        expect_code(PRESENCE_E_NOT_FOUND,
                    presence_recorder_disconnect(world->recorder, server_of(&town, place), IDS - 1));
        connects(world, server_of(&town, place), model_of(place), agent_of(&town, place, IDS - 1), IDS - 1);
        town.seen[place][IDS - 1] = 5000;
    }
    is(world, &town);
}

static void a_handle_is_of_one_server(void **state)
{
    struct world *world = *state;
    static struct town town;
    town = fills(world);
    static presence_handle handles[SERVERS];
    for (size_t place = 0; place < SERVERS; place++)
        expect_code(PRESENCE_OK,
                    presence_recorder_find_handle(world->recorder, server_of(&town, place), 2, &handles[place]));
    for (size_t place = 0; place < SERVERS; place++) {
        at(world, town.seen[place][2] = (presence_time)place + 1);
        expect_code(PRESENCE_OK, presence_recorder_activity_handle(world->recorder, &handles[place]));
    }
    is(world, &town);
    for (size_t place = 0; place < SERVERS; place += 2)
        leaves(world, &town, place);
    is(world, &town);
    for (size_t place = 0; place < SERVERS; place += 2)
        settles(world, &town, place, 9);
    for (size_t place = 0; place < SERVERS; place++) { /* the even ones' are of a life that is over */
        at(world, 20 + (presence_time)place);
        bool good = place % 2;
        expect_code(good ? PRESENCE_OK : PRESENCE_E_NOT_FOUND,
                    presence_recorder_activity_handle(world->recorder, &handles[place]));
        if (good)
            town.seen[place][2] = 20 + (presence_time)place;
    }
    is(world, &town);
    for (size_t place = 0; place < SERVERS; place++)
        expect_code(place % 2 ? PRESENCE_OK : PRESENCE_E_NOT_FOUND,
                    presence_recorder_disconnect_handle(world->recorder, &handles[place]));
    for (size_t place = 1; place < SERVERS; place += 2)
        connects(world, server_of(&town, place), model_of(place), agent_of(&town, place, 2), 2);
    for (size_t place = 1; place < SERVERS; place += 2)
        town.seen[place][2] = 20 + SERVERS - 1;
    is(world, &town);
}

/* Numbers of servers that went are taken by others; and when few are left, and the record is trimmed, rows tell their
 * servers by themselves again. Views that were taken on either side of that show what they showed. */
static void numbers_are_used_again(void **state)
{
    struct world *world = *state;
    presence_options options = world_options(world);
    options.departures = 1;
    world_restart(world, &options);
    static struct town few, many, town;
    memset(&few, 0, sizeof few);
    for (size_t place = 0; place < ALIKE; place++)
        settles(world, &few, place, 1);
    town = few;
    presence_connections *with_few = looks(world);
    for (size_t place = ALIKE; place < SERVERS; place++)
        settles(world, &town, place, 2);
    is(world, &town);
    many = town;
    presence_connections *with_many = looks(world);
    for (size_t place = 0; place < SERVERS; place += 3)
        leaves(world, &town, place);
    for (size_t place = 0; place < SERVERS; place += 3) /* in other places than they were, the last free one first */
        settles(world, &town, place, 3);
    is(world, &town);
    shows(with_few, &few);
    shows(with_many, &many);
    for (size_t place = 200; place < SERVERS; place++)
        leaves(world, &town, place);
    is(world, &town);
    shows(with_few, &few);
    shows(with_many, &many);
    presence_connections_free(with_few);
    presence_connections_free(with_many);
    presence_recorder_trim(world->recorder);
    is(world, &town);
    for (size_t place = 0; place < SERVERS; place++)
        if (!town.there[place])
            settles(world, &town, place, 4);
    is(world, &town);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(each_call_touches_its_own),
        story(a_handle_is_of_one_server),
        story(numbers_are_used_again),
    };
    return cmocka_run_group_tests_name("many_servers", tests, NULL, NULL);
}
