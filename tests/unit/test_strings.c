/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_strings.c - the words for statuses, reasons, events and errors, and the library's version.
 */
#include "../support/story.h"

#include <stdio.h>

static void statuses(void **state)
{
    (void)state;
    assert_string_equal(presence_status_string(PRESENCE_UNKNOWN), "unknown");
    assert_string_equal(presence_status_string(PRESENCE_MISSING), "missing");
    assert_string_equal(presence_status_string(PRESENCE_ALIVE), "alive");
    const int others[] = {-1, 3, 1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_string_equal(presence_status_string((presence_status)others[i]), "");
}

static void reasons(void **state)
{
    (void)state;
    const char *const words[] = {"none",    "connected", "reconnected", "updated",  "left",  "server_down",
                                 "drained", "timed_out", "superseded",  "restored", "lapsed"};
    for (int reason = PRESENCE_REASON_NONE; reason <= PRESENCE_REASON_LAPSED; reason++)
        assert_string_equal(presence_reason_string((presence_reason)reason), words[reason]);
    const int others[] = {-1, PRESENCE_REASON_LAPSED + 1, 1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_string_equal(presence_reason_string((presence_reason)others[i]), "");
}

static void event_kinds(void **state)
{
    (void)state;
    const char *const words[] = {"connected", "reconnected", "updated", "disconnected", "missing", "activity", "agent"};
    for (int kind = PRESENCE_EVENT_CONNECTED; kind <= PRESENCE_EVENT_AGENT; kind++)
        assert_string_equal(presence_event_kind_string((presence_event_kind)kind),
                            words[kind - PRESENCE_EVENT_CONNECTED]);
    const int others[] = {-1, 0, PRESENCE_EVENT_AGENT + 1, 1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_string_equal(presence_event_kind_string((presence_event_kind)others[i]), "");
}

static const struct {
    int code;
    const char *name;
} errors[] = {
    {PRESENCE_OK, "PRESENCE_OK"},
    {PRESENCE_E_DISABLED, "PRESENCE_E_DISABLED"},
    {PRESENCE_E_INVALID, "PRESENCE_E_INVALID"},
    {PRESENCE_E_NOT_FOUND, "PRESENCE_E_NOT_FOUND"},
    {PRESENCE_E_MISMATCH, "PRESENCE_E_MISMATCH"},
    {PRESENCE_E_DUPLICATE, "PRESENCE_E_DUPLICATE"},
    {PRESENCE_E_AMBIGUOUS, "PRESENCE_E_AMBIGUOUS"},
    {PRESENCE_E_NO_MEMORY, "PRESENCE_E_NO_MEMORY"},
    {PRESENCE_E_LAGGED, "PRESENCE_E_LAGGED"},
    {PRESENCE_E_STALE, "PRESENCE_E_STALE"},
    {PRESENCE_E_LIMIT, "PRESENCE_E_LIMIT"},
    {PRESENCE_E_GAP, "PRESENCE_E_GAP"},
    {PRESENCE_E_SYSTEM, "PRESENCE_E_SYSTEM"},
};
enum { ERRORS = sizeof errors / sizeof *errors };

static void error_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < ERRORS; i++)
        assert_string_equal(presence_error_name(errors[i].code), errors[i].name);
}

static void error_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ERRORS; i++) {
        const char *text = presence_strerror(errors[i].code);
        assert_true(strlen(text) > 1);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(text, presence_strerror(errors[j].code));
    }
    assert_string_equal(presence_strerror(PRESENCE_E_NOT_FOUND), "connection not found");
    assert_string_equal(presence_strerror(PRESENCE_E_AMBIGUOUS), "connections not limited to a model, agent ambiguous");
}

static void other_codes_have_a_text_too(void **state)
{
    (void)state;
    const int others[] = {1, 7, PRESENCE_E_SYSTEM - 1, -1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_non_null(presence_strerror(others[i]));
        assert_non_null(presence_error_name(others[i]));
    }
}

static void codes_are_negative_and_distinct(void **state)
{
    (void)state;
    assert_int_equal(PRESENCE_OK, 0);
    for (size_t i = 1; i < ERRORS; i++)
        assert_int_equal(errors[i].code, -(int)i);
}

static void the_version(void **state)
{
    (void)state;
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", PRESENCE_VERSION_MAJOR, PRESENCE_VERSION_MINOR,
             PRESENCE_VERSION_PATCH);
    assert_string_equal(PRESENCE_VERSION, version);
    assert_string_equal(presence_version(), version);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses),
        cmocka_unit_test(reasons),
        cmocka_unit_test(event_kinds),
        cmocka_unit_test(error_names),
        cmocka_unit_test(error_texts),
        cmocka_unit_test(other_codes_have_a_text_too),
        cmocka_unit_test(codes_are_negative_and_distinct),
        cmocka_unit_test(the_version),
    };
    return cmocka_run_group_tests_name("strings", tests, NULL, NULL);
}
