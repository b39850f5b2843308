/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_slices.c - slices by model, server and agent, in every order and depth, against a plain filter of all values.
 *
 * Keeps true: for each slice, the walk, the count, the lists of names, every agent's status and find agree with the
 * values of the whole view that pass the slice's filters.
 */
#include "../support/story.h"

#include <stdlib.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const char *const models[] = {MODEL_A, MODEL_B, "model-of-nobody"};
static const char *const servers[] = {"machine-0", "machine-1", "machine-2", "machine-of-nobody"};
static const char *const agents[] = {"unit-a", "unit-b", "unit-c", "unit-d", "unit-of-nobody"};

struct filter {
    const char *model, *server, *agent;
    bool conflict; /* two different names of a kind */
};

static bool passes(const struct filter *filter, const presence_value *value)
{
    return !filter->conflict && (filter->model == NULL || strcmp(filter->model, value->model) == 0) &&
           (filter->server == NULL || strcmp(filter->server, value->server) == 0) &&
           (filter->agent == NULL || strcmp(filter->agent, value->agent) == 0);
}

static void narrow(const char **place, bool *conflict, const char *name)
{
    if (*place != NULL && strcmp(*place, name) != 0)
        *conflict = true;
    *place = name;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The list that the slice gives is that of the content, sorted and unique. */
static void expect_name_list(const presence_connections *slice,
                             int (*list)(const presence_connections *, char ***, size_t *),
                             const struct content *content, size_t offset)
{
    const char **wanted = calloc(content->count + 1, sizeof *wanted);
    assert_non_null(wanted);
    for (size_t i = 0; i < content->count; i++)
        memcpy(&wanted[i], (const char *)&content->values[i] + offset, sizeof *wanted);
    qsort(wanted, content->count, sizeof *wanted, compare_texts);
    size_t unique = 0;
    for (size_t i = 0; i < content->count; i++)
        if (unique == 0 || strcmp(wanted[unique - 1], wanted[i]) != 0)
            wanted[unique++] = wanted[i];
    wanted[unique] = NULL;
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, list(slice, &names, &count));
    story_expect_names(names, count, wanted, __FILE__, __LINE__);
    free(wanted);
}

static presence_status best_status(const struct content *content, const char *agent)
{
    presence_status best = PRESENCE_UNKNOWN;
    for (size_t i = 0; i < content->count; i++) {
        const presence_value *value = &content->values[i];
        if (!value->controller_agent && strcmp(value->agent, agent) == 0 && value->status > best)
            best = value->status;
    }
    return best;
}

static struct content *filtered(const struct content *all, const struct filter *filter)
{
    struct content *content = calloc(1, sizeof *content);
    assert_non_null(content);
    content->values = calloc(all->count + 1, sizeof *content->values);
    assert_non_null(content->values);
    for (size_t i = 0; i < all->count; i++)
        if (passes(filter, &all->values[i]))
            content->values[content->count++] = all->values[i];
    return content;
}

static void expect_slice(const presence_connections *slice, const struct content *all, const struct filter *filter)
{
    struct content *wanted = filtered(all, filter), *got = content_of(slice);
    char difference[CONTENT_DIFFERENCE_BYTES];
    if (!content_equal(got, wanted, true, difference))
        fail_msg("model %s server %s agent %s: %s", filter->model, filter->server, filter->agent, difference);
    assert_int_equal(presence_connections_count(slice), wanted->count);
    expect_name_list(slice, presence_connections_models, wanted, offsetof(presence_value, model));
    expect_name_list(slice, presence_connections_servers, wanted, offsetof(presence_value, server));
    expect_name_list(slice, presence_connections_agents, wanted, offsetof(presence_value, agent));
    for (size_t i = 0; i < COUNT_OF(agents); i++) {
        presence_status status;
        int code = presence_connections_agent_status(slice, agents[i], &status);
        if (filter->model == NULL) {
            assert_int_equal(code, PRESENCE_E_AMBIGUOUS);
            continue;
        }
        assert_int_equal(code, PRESENCE_OK);
        assert_int_equal(status, best_status(wanted, agents[i]));
    }
    for (size_t i = 0; i < all->count; i++) {
        presence_value value;
        const presence_value *key = &all->values[i];
        int code = presence_connections_find(slice, key->server, key->connection_id, &value);
        assert_int_equal(code, passes(filter, key) ? PRESENCE_OK : PRESENCE_E_NOT_FOUND);
        assert_true(code != PRESENCE_OK || test_values_equal(&value, key, true));
    }
    content_free(got);
    free(wanted->values);
    free(wanted);
}

/* Every further slice of this one, `depth` deep. */
static void expect_all_below(const presence_connections *slice, const struct content *all, struct filter filter,
                             int depth)
{
    expect_slice(slice, all, &filter);
    if (depth == 0)
        return;
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        struct filter below = filter;
        narrow(&below.model, &below.conflict, models[i]);
        presence_connections *next = presence_connections_for_model(slice, models[i]);
        assert_non_null(next);
        expect_all_below(next, all, below, depth - 1);
        presence_connections_free(next);
    }
    for (size_t i = 0; i < COUNT_OF(servers); i++) {
        struct filter below = filter;
        narrow(&below.server, &below.conflict, servers[i]);
        presence_connections *next = presence_connections_for_server(slice, servers[i]);
        assert_non_null(next);
        expect_all_below(next, all, below, depth - 1);
        presence_connections_free(next);
    }
    for (size_t i = 0; i < COUNT_OF(agents); i += 2) {
        struct filter below = filter;
        narrow(&below.agent, &below.conflict, agents[i]);
        presence_connections *next = presence_connections_for_agent(slice, agents[i]);
        assert_non_null(next);
        expect_all_below(next, all, below, depth - 1);
        presence_connections_free(next);
    }
}

/* 90 connections of 2 models, 3 servers and 4 agents, some missing, some of controller agents, some gone again. */
static void fill(struct world *world)
{
    struct test_random random;
    test_random_seed(&random, 20);
    for (uint64_t id = 0; id < 120; id++) {
        at(world, (presence_time)id);
        expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, servers[test_random_below(&random, 3)],
                                                           models[test_random_below(&random, 2)],
                                                           agents[test_random_below(&random, 4)], id / 2,
                                                           test_random_chance(&random, 5), id % 7 ? NULL : "data"));
        if (id == 50)
            goes_down(world, servers[1]);
        if (id % 10 == 9)
            presence_recorder_disconnect(world->recorder, servers[0], id / 3);
    }
}

static void every_order_and_depth(void **state)
{
    struct world *world = *state;
    fill(world);
    presence_connections *view = presence_recorder_connections(world->recorder);
    struct content *all = content_of(view);
    assert_true(all->count > 50);
    expect_all_below(view, all, (struct filter){0}, 4);
    content_free(all);
    presence_connections_free(view);
}

static void slices_of_an_empty_record_are_empty(void **state)
{
    struct world *world = *state;
    presence_connections *view = presence_recorder_connections(world->recorder);
    struct content *all = content_of(view);
    assert_int_equal(all->count, 0);
    expect_all_below(view, all, (struct filter){0}, 2);
    content_free(all);
    presence_connections_free(view);
}

static void the_same_filter_twice_is_the_same_slice(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    connects(world, "machine-0", MODEL_B, "a", 2);
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *once = presence_connections_for_model(view, MODEL_A);
    presence_connections *twice = presence_connections_for_model(once, MODEL_A);
    assert_int_equal(presence_connections_count(twice), 1);
    presence_connections_free(view);
    presence_connections_free(once);
    presence_connections_free(twice);
}

static void a_name_that_none_can_have_gives_an_empty_slice(void **state)
{
    struct world *world = *state;
    connects(world, "machine-0", MODEL_A, "a", 1);
    presence_connections *view = presence_recorder_connections(world->recorder);
    const char *const names[] = {"", "\xff", "a\n"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        presence_connections *slices[] = {presence_connections_for_model(view, names[i]),
                                          presence_connections_for_server(view, names[i]),
                                          presence_connections_for_agent(view, names[i])};
        for (size_t j = 0; j < 3; j++) {
            assert_non_null(slices[j]);
            assert_int_equal(presence_connections_count(slices[j]), 0);
            presence_connections_free(slices[j]);
        }
    }
    presence_connections_free(view);
}

static void nothing_gives_nothing(void **state)
{
    struct world *world = *state;
    presence_connections *view = presence_recorder_connections(world->recorder);
    assert_null(presence_connections_for_model(view, NULL));
    assert_null(presence_connections_for_server(view, NULL));
    assert_null(presence_connections_for_agent(view, NULL));
    assert_null(presence_connections_for_model(NULL, MODEL_A));
    assert_null(presence_connections_for_server(NULL, "machine-0"));
    assert_null(presence_connections_for_agent(NULL, "a"));
    presence_connections_free(view);
}

/* An agent with many connections, each on another server, of which few match the other filters: the cheapest index
 * differs from one pair of filters to the next, and the answer must not. */
static void any_index_gives_the_same_answer(void **state)
{
    struct world *world = *state;
    for (uint64_t id = 0; id < 300; id++) {
        char name[TEST_NAME_BYTES];
        connects(world, test_name(name, "rack", id % 60), id % 2 ? MODEL_A : MODEL_B, "everywhere", id);
        connects(world, "rack-0", MODEL_A, test_name(name, "agent", id), 1000 + id);
        connects(world, "rack-1", test_name(name, "model", id), "everywhere", 2000 + id);
    }
    presence_connections *view = presence_recorder_connections(world->recorder);
    struct content *all = content_of(view);
    const char *const some_servers[] = {"rack-0", "rack-1", "rack-7"}, *const some_agents[] = {"everywhere", "agent-3"};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 2; j++) {
            struct filter filter = {.server = some_servers[i], .agent = some_agents[j]};
            presence_connections *by_server = presence_connections_for_server(view, some_servers[i]);
            presence_connections *both = presence_connections_for_agent(by_server, some_agents[j]);
            expect_slice(both, all, &filter);
            presence_connections *three = presence_connections_for_model(both, MODEL_A);
            filter.model = MODEL_A;
            expect_slice(three, all, &filter);
            presence_connections_free(by_server);
            presence_connections_free(both);
            presence_connections_free(three);
        }
    }
    content_free(all);
    presence_connections_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(every_order_and_depth),
        story(slices_of_an_empty_record_are_empty),
        story(the_same_filter_twice_is_the_same_slice),
        story(a_name_that_none_can_have_gives_an_empty_slice),
        story(nothing_gives_nothing),
        story(any_index_gives_the_same_answer),
    };
    return cmocka_run_group_tests_name("slices", tests, NULL, NULL);
}
