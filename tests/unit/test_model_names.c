/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_model_names.c - a model's name of any length is kept whole, found, and stays in the views that show it.
 *
 * Names of up to 38 bytes lie in the model's record, longer ones in a block of their own; and the record is used again
 * once the model is gone.
 */
#include "../support/story.h"

#include <stdio.h>

#define S0 "machine-0"

enum { LONGEST = 1024 };

static const size_t lengths[] = {1, 7, 8, 37, 38, 39, 40, 46, 254, 255, 256, 1023, 1024};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

/* All begin alike, so that what is cut or compared too short is another's. */
static const char *model_of(size_t i, char letter)
{
    static char name[LONGEST + 1];
    memset(name, letter, lengths[i]);
    name[lengths[i]] = '\0';
    return name;
}

static void is_whole(struct world *world)
{
    presence_error error = {0};
    if (presence_recorder_check(world->recorder, &error))
        fail_msg("the record is broken: %s", error.message);
}

static void come(struct world *world, char letter)
{
    for (size_t i = 0; i < LENGTHS; i++)
        connects(world, S0, model_of(i, letter), "agent", i);
    is_whole(world);
}

static void go(struct world *world)
{
    for (size_t i = 0; i < LENGTHS; i++)
        disconnects(world, S0, i);
    is_whole(world);
}

static void shows(const presence_connections *view, char letter)
{
    char **names;
    size_t count;
    expect_code(PRESENCE_OK, presence_connections_models(view, &names, &count));
    assert_int_equal(count, LENGTHS);
    for (size_t i = 0; i < LENGTHS; i++) {
        const char *model = model_of(i, letter);
        assert_string_equal(names[i], model); /* of one letter, the shorter is the smaller */
        presence_value value;
        expect_code(PRESENCE_OK, presence_connections_find(view, S0, i, &value));
        assert_string_equal(value.model, model);
        presence_connections *slice = presence_connections_for_model(view, model);
        assert_int_equal(presence_connections_count(slice), 1);
        presence_connections_free(slice);
    }
    presence_names_free(names);
}

static void names_of_every_length_are_kept_and_found(void **state)
{
    struct world *world = *state;
    come(world, 'x');
    for (size_t i = 0; i < LENGTHS; i++) {
        expect_recorded(world, test_value(S0, i, model_of(i, 'x'), "agent"), PRESENCE_ALIVE, 0);
        expect_status(world, model_of(i, 'x'), "agent", PRESENCE_ALIVE);
        size_t connections, agents;
        expect_code(PRESENCE_OK,
                    presence_recorder_model_counts(world->recorder, model_of(i, 'x'), &connections, &agents));
        assert_int_equal(connections, 1);
    }
    expect_status(world, "xx", "agent", PRESENCE_UNKNOWN);
    char near[40];
    memset(near, 'x', 38);
    strcpy(near + 38, "y"); /* as long as a name that is there, and like it up to where records end */
    expect_status(world, near, "agent", PRESENCE_UNKNOWN);
    strcpy(near + 37, "y");
    expect_status(world, near, "agent", PRESENCE_UNKNOWN);
}

static void views_keep_the_names_of_models_that_go(void **state)
{
    struct world *world = *state;
    come(world, 'x');
    presence_connections *first = presence_recorder_connections(world->recorder);
    go(world);
    shows(first, 'x');
    for (size_t i = 0; i < LENGTHS; i++)
        expect_status(world, model_of(i, 'x'), "agent", PRESENCE_UNKNOWN);
    come(world, 'y'); /* where the others were */
    presence_connections *second = presence_recorder_connections(world->recorder);
    shows(first, 'x');
    go(world);
    come(world, 'z');
    shows(first, 'x');
    shows(second, 'y');
    presence_connections_free(first);
    presence_recorder_trim(world->recorder);
    shows(second, 'y');
    go(world);
    shows(second, 'y');
    presence_connections_free(second);
}

/* A short name comes where a long one was, and a long where a short one was. */
static void a_record_is_used_for_names_of_any_length(void **state)
{
    struct world *world = *state;
    connects(world, S0, "keeps-the-page", "agent", 99);
    for (size_t i = 0; i < LENGTHS; i++)
        for (size_t j = 0; j < LENGTHS; j++) {
            connects(world, S0, model_of(i, 'a'), "agent", 1);
            disconnects(world, S0, 1);
            connects(world, S0, model_of(j, 'b'), "agent", 1);
            expect_status(world, model_of(j, 'b'), "agent", PRESENCE_ALIVE);
            expect_recorded(world, test_value(S0, 1, model_of(j, 'b'), "agent"), PRESENCE_ALIVE, 0);
            is_whole(world);
            disconnects(world, S0, 1);
        }
}

/* Long names are blocks of their own, which go with their models. */
static void names_that_go_give_their_memory_back(void **state)
{
    struct world *world = *state;
    connects(world, S0, "keeps-the-page", "agent", 99);
    uint64_t used = 0;
    for (int life = 0; life < 20; life++) {
        come(world, 'm');
        go(world);
        presence_stats stats = {.struct_bytes = sizeof stats};
        expect_code(PRESENCE_OK, presence_recorder_stats(world->recorder, &stats));
        if (life == 0)
            used = stats.used_bytes;
        assert_int_equal(stats.used_bytes, used);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(names_of_every_length_are_kept_and_found),
        story(views_keep_the_names_of_models_that_go),
        story(a_record_is_used_for_names_of_any_length),
        story(names_that_go_give_their_memory_back),
    };
    return cmocka_run_group_tests_name("model_names", tests, NULL, NULL);
}
