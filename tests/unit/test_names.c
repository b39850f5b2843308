/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_names.c - which names and data are accepted, and that all else is refused everywhere, with a word on why.
 */
#include "../support/story.h"

#include <stdlib.h>

static char *repeated(char letter, size_t bytes)
{
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    memset(text, letter, bytes);
    text[bytes] = '\0';
    return text;
}

/* The name is accepted as server, model and agent, and read back as it was. */
static void accepted(struct world *world, const char *name)
{
    presence_recorder *recorder = world->recorder;
    expect_code(PRESENCE_OK, presence_recorder_connect(recorder, name, name, name, 1, false, name));
    presence_value value = test_value(name, 1, name, name);
    value.user_data = name;
    expect_recorded(world, value, PRESENCE_ALIVE, 0);
    expect_status(world, name, name, PRESENCE_ALIVE);
    disconnects(world, name, 1);
}

/* The name is refused as server, as model and as agent, wherever one is given. */
static void refused(struct world *world, const char *name)
{
    presence_recorder *recorder = world->recorder;
    const int invalid = PRESENCE_E_INVALID;
    presence_value value = test_value("s", 1, MODEL_A, name);
    presence_status status;
    presence_evidence evidence;
    presence_counts counts;
    presence_handle handle;
    uint64_t id = 1;
    size_t number, other;
    expect_refused(world, invalid, presence_recorder_connect(recorder, name, MODEL_A, "a", 1, false, NULL));
    expect_refused(world, invalid, presence_recorder_connect(recorder, "s", name, "a", 1, false, NULL));
    expect_refused(world, invalid, presence_recorder_connect(recorder, "s", MODEL_A, name, 1, false, NULL));
    expect_refused(world, invalid, presence_recorder_disconnect(recorder, name, 1));
    expect_refused(world, invalid, presence_recorder_activity(recorder, name, 1));
    expect_refused(world, invalid, presence_recorder_server_down(recorder, name));
    expect_refused(world, invalid,
                   presence_recorder_server_down_because(recorder, name, PRESENCE_REASON_DRAINED, NULL));
    expect_refused(world, invalid, presence_recorder_update_server(recorder, name, NULL, 0, NULL));
    expect_refused(world, invalid, presence_recorder_update_server(recorder, "s", &value, 1, NULL));
    expect_refused(world, invalid, presence_recorder_merge_server(recorder, name, NULL, 0, NULL));
    expect_refused(world, invalid, presence_recorder_merge_server_since(recorder, name, 0, NULL, 0, NULL));
    expect_refused(world, invalid, presence_recorder_connect_handle(recorder, &value, &handle, NULL, NULL));
    expect_refused(world, invalid, presence_recorder_connect_many(recorder, &value, 1, NULL, NULL));
    expect_refused(world, invalid, presence_recorder_find_handle(recorder, name, 1, &handle));
    expect_refused(world, invalid, presence_recorder_activity_many(recorder, name, &id, 1, NULL));
    expect_refused(world, invalid, presence_recorder_disconnect_many(recorder, name, &id, 1, NULL));
    expect_refused(world, invalid, presence_recorder_agent_status(recorder, name, "a", &status));
    expect_refused(world, invalid, presence_recorder_agent_status(recorder, MODEL_A, name, &status));
    expect_refused(world, invalid, presence_recorder_agent_evidence(recorder, name, "a", &evidence));
    expect_refused(world, invalid, presence_recorder_agent_evidence(recorder, MODEL_A, name, &evidence));
    expect_refused(world, invalid, presence_recorder_server_counts(recorder, name, &counts));
    expect_refused(world, invalid, presence_recorder_model_counts(recorder, name, &number, &other));
}

static void data_accepted(struct world *world, const char *data)
{
    presence_value value = test_value("s", 2, MODEL_A, "a");
    value.user_data = data;
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, "s", MODEL_A, "a", 2, false, data));
    expect_recorded(world, value, PRESENCE_ALIVE, 0);
}

static void data_refused(struct world *world, const char *data)
{
    expect_refused(world, PRESENCE_E_INVALID,
                   presence_recorder_connect(world->recorder, "s", MODEL_A, "a", 2, false, data));
}

static void the_length_of_a_name_is_1_to_1024_bytes(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    char *longest = repeated('n', 1024), *too_long = repeated('n', 1025);
    accepted(world, "x");
    accepted(world, longest);
    refused(world, "");
    refused(world, NULL);
    refused(world, too_long);
    free(longest);
    free(too_long);
    /* bytes count, not letters: 512 letters of two bytes, and one byte more */
    char name[1026];
    for (size_t i = 0; i < 1024; i += 2)
        memcpy(name + i, "\xc3\xa9", 2);
    name[1024] = '\0';
    accepted(world, name);
    memcpy(name + 1024, "x", 2);
    refused(world, name);
}

static void any_utf8_is_a_name(void **state)
{
    struct world *world = *state;
    const char *const good[] = {
        " ",
        "unit-mysql-0",
        "a/b:c\"d\\e'f",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
        "\x7e",
        "\xc2\xa0",         /* U+00A0, the first after C1 */
        "\xdf\xbf",         /* U+07FF, the last of two bytes */
        "\xe0\xa0\x80",     /* U+0800, the first of three */
        "\xed\x9f\xbf",     /* U+D7FF, the last before the surrogates */
        "\xee\x80\x80",     /* U+E000, the first after them */
        "\xef\xbf\xbf",     /* U+FFFF */
        "\xf0\x90\x80\x80", /* U+10000, the first of four */
        "\xf4\x8f\xbf\xbf", /* U+10FFFF, the last of all */
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        accepted(world, good[i]);
}

static void invalid_utf8_is_refused(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    const char *const bad[] = {
        "\x80",                 /* a continuation alone */
        "a\xbf",                /* the same behind a letter */
        "\xc3",                 /* truncated: two bytes */
        "\xe2\x82",             /* three */
        "\xf0\x9f\x98",         /* four */
        "\xe2\x82x",            /* broken off by a letter */
        "\xc3\xc3\xa9",         /* a start within */
        "\xc0\xaf",             /* overlong: '/' in two bytes */
        "\xc1\xbf",             /* overlong: U+007F in two */
        "\xe0\x80\xaf",         /* overlong: '/' in three */
        "\xe0\x9f\xbf",         /* overlong: U+07FF in three */
        "\xf0\x80\x80\xaf",     /* overlong: '/' in four */
        "\xf0\x8f\xbf\xbf",     /* overlong: U+FFFF in four */
        "\xc0\x80",             /* overlong NUL */
        "\xed\xa0\x80",         /* U+D800, the first surrogate */
        "\xed\xbf\xbf",         /* U+DFFF, the last */
        "\xf4\x90\x80\x80",     /* U+110000 */
        "\xf5\x80\x80\x80",     /* beyond all planes */
        "\xf8\x88\x80\x80\x80", /* five bytes */
        "\xfe",
        "\xff",
        "abcdefghijklmnopqrstuvwxyz\xff", /* behind a long good part, as a wide check may skip it */
        "abcdefgh\x80zzzzzzzzzzzzzzzzzzz",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refused(world, bad[i]);
        data_refused(world, bad[i]);
    }
}

static void control_characters_are_refused_in_names_and_allowed_in_data(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    for (unsigned int c = 1; c < 0xa0; c = c == 0x1f ? 0x7f : c + 1) {
        char name[40] = "abcdefghijklmnopq"; /* also where a wide check would look at eight bytes at once */
        char *end = name + c % 17;
        if (c >= 0x80)
            *end++ = '\xc2';
        *end++ = (char)c;
        memcpy(end, "tail", 5);
        refused(world, name);
        data_accepted(world, name);
    }
}

/* Activity, disconnect and agent_status look a name up before they judge it: only one that is not found can be wrong.
 */
static void what_is_not_found_is_judged(void **state)
{
    struct world *world = *state;
    presence_recorder *recorder = world->recorder;
    static const char *const bad[] = {"", "\xff", "server\xff", "server\n", "serve\xc3"};
    char too_long[1026];
    memset(too_long, 's', 1025);
    too_long[1025] = '\0';
    for (int recorded = 0; recorded < 2;
         recorded++) { /* in an empty record, and beside names that are nearly the same */
        for (size_t i = 0; i < 1 + sizeof bad / sizeof *bad; i++) {
            const char *name = i ? bad[i - 1] : too_long;
            presence_status status = (presence_status)77;
            expect_refused(world, PRESENCE_E_INVALID, presence_recorder_activity(recorder, name, 1));
            expect_refused(world, PRESENCE_E_INVALID, presence_recorder_disconnect(recorder, name, 1));
            expect_refused(world, PRESENCE_E_INVALID,
                           presence_recorder_agent_status(recorder, name, "server", &status));
            expect_refused(world, PRESENCE_E_INVALID,
                           presence_recorder_agent_status(recorder, "server", name, &status));
            expect_refused(world, PRESENCE_E_INVALID,
                           presence_recorder_agent_status(recorder, "unknown", name, &status));
            assert_int_equal(status, 77);
        }
        expect_refused(world, PRESENCE_E_INVALID, presence_recorder_activity(recorder, NULL, 1));
        expect_refused(world, PRESENCE_E_INVALID, presence_recorder_disconnect(recorder, NULL, 1));
        /* a good one that is not there is no mistake of the caller's */
        expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_activity(recorder, "serve\xc3\xa9", 1));
        expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_disconnect(recorder, "serve\xc3\xa9", 1));
        expect_status(world, "serve\xc3\xa9", "server", PRESENCE_UNKNOWN);
        connects(world, "server", "server", "server", 1);
    }
    /* nor is a good server of which another id is asked */
    expect_refused(world, PRESENCE_E_NOT_FOUND, presence_recorder_activity(recorder, "server", 2));
    presence_recorder_disable(recorder);
    presence_status status;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_code(PRESENCE_E_DISABLED, presence_recorder_activity(recorder, bad[i], 1));
        expect_code(PRESENCE_E_DISABLED, presence_recorder_disconnect(recorder, bad[i], 1));
        expect_code(PRESENCE_E_DISABLED, presence_recorder_agent_status(recorder, bad[i], "server", &status));
        expect_code(PRESENCE_E_DISABLED, presence_recorder_agent_status(recorder, "server", bad[i], &status));
    }
    presence_recorder_enable(recorder);
}

static void user_data_is_0_to_65535_bytes(void **state)
{
    struct world *world = *state;
    char *longest = repeated('d', 65535), *too_long = repeated('d', 65536);
    data_accepted(world, "");
    data_accepted(world, "x");
    data_accepted(world, longest);
    data_refused(world, too_long);
    data_accepted(world, "after all");
    free(longest);
    free(too_long);
}

static void no_user_data_reads_as_empty(void **state)
{
    struct world *world = *state;
    connects(world, "s", MODEL_A, "a", 1);
    uint64_t revision = presence_recorder_revision(world->recorder);
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, "s", MODEL_A, "a", 1, false, ""));
    assert_int_equal(presence_recorder_revision(world->recorder), revision); /* NULL and "" are the same */
    expect_recorded(world, test_value("s", 1, MODEL_A, "a"), PRESENCE_ALIVE, 0);
}

static void the_message_says_what_is_wrong(void **state)
{
    struct world *world = *state;
    presence_error error = {0};
    presence_value value = test_value("s", 1, MODEL_A, "bad\x01");
    expect_code(PRESENCE_E_INVALID, presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, &error));
    assert_int_equal(error.code, PRESENCE_E_INVALID);
    assert_non_null(strstr(error.message, "agent"));
    for (const char *c = error.message; *c != '\0'; c++)
        assert_true(*c >= 0x20 && *c < 0x7f); /* what is wrong with a name does not leak into the message */
    value = test_value("s", 1, "", "a");
    expect_code(PRESENCE_E_INVALID, presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, &error));
    assert_non_null(strstr(error.message, "model"));
    value = test_value("\xff", 1, MODEL_A, "a");
    expect_code(PRESENCE_E_INVALID, presence_recorder_connect_handle(world->recorder, &value, NULL, NULL, &error));
    assert_non_null(strstr(error.message, "server"));
}

static void names_differ_by_bytes_alone(void **state)
{
    struct world *world = *state;
    const char *const names[] = {"a", "A", "a ", " a", "\xc3\xa9", "e\xcc\x81"}; /* composed and decomposed differ */
    for (uint64_t i = 0; i < 6; i++)
        connects(world, "s", MODEL_A, names[i], i);
    presence_connections *view = presence_recorder_connections(world->recorder);
    char **agents;
    size_t count;
    expect_code(PRESENCE_OK, presence_connections_agents(view, &agents, &count));
    expect_names(agents, count, " a", "A", "a", "a ", "e\xcc\x81", "\xc3\xa9");
    presence_connections_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(the_length_of_a_name_is_1_to_1024_bytes),
        story(any_utf8_is_a_name),
        story(invalid_utf8_is_refused),
        story(control_characters_are_refused_in_names_and_allowed_in_data),
        story(what_is_not_found_is_judged),
        story(user_data_is_0_to_65535_bytes),
        story(no_user_data_reads_as_empty),
        story(the_message_says_what_is_wrong),
        story(names_differ_by_bytes_alone),
    };
    return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
