/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_json_reply.c - replies in JSON: shapes, numbers that do not fit, text that could break things, errors, failure.
 */
#include "reply/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void expect(struct json_reply *json, const char *wanted)
{
    struct bytes out = {0};
    assert_true(json_reply_dump(json, &out));
    bytes_append(&out, "", 1);
    assert_string_equal(out.data, wanted);
    bytes_free(&out);
    json_reply_free(json);
}

static void test_containers_end_by_themselves(void **state)
{
    (void)state;
    struct json_reply json;
    json_reply_init(&json);
    struct reply *reply = &json.reply;
    reply_tuple(reply, 3);
    reply_field(reply, "cursor");
    reply_null(reply);
    reply_field(reply, "rows");
    reply_array(reply, 3);
    reply_map(reply, 2);
    reply_key(reply, "empty");
    reply_array(reply, 0);
    reply_key(reply, "statuses");
    reply_statuses(reply, (const uint8_t[]){PRESENCE_ALIVE, PRESENCE_MISSING, PRESENCE_UNKNOWN}, 3);
    reply_map(reply, 0);
    reply_word(reply, "OK");
    reply_field(reply, "revision");
    reply_integer(reply, -7);
    expect(&json, "{\"cursor\":null,\"rows\":[{\"empty\":[],"
                  "\"statuses\":[\"alive\",\"missing\",\"unknown\"]},{},\"OK\"],\"revision\":-7}");
}

static void test_ids_are_strings_and_times_are_readable(void **state)
{
    (void)state;
    struct json_reply json;
    json_reply_init(&json);
    struct reply *reply = &json.reply;
    reply_array(reply, 5);
    reply_id(reply, UINT64_MAX);
    reply_time(reply, 0);
    reply_time(reply, 1795381168496789000);
    reply_boolean(reply, true);
    reply_boolean(reply, false);
    expect(&json, "[\"18446744073709551615\",null,\"2026-11-22T20:59:28.496Z\",true,false]");
}

static void test_text_cannot_break_out(void **state)
{
    (void)state;
    struct json_reply json;
    json_reply_init(&json);
    static const char text[] = "\"\\\n\x01</script>\xc3\xa9 more";
    reply_text(&json.reply, (struct slice){text, sizeof text - 1});
    expect(&json, "\"\\\"\\\\\\n\\u0001</script>\xc3\xa9 more\"");
}

static void test_text_that_is_not_utf8_fails_whole(void **state)
{
    (void)state;
    struct json_reply json;
    struct bytes out = {0};
    json_reply_init(&json);
    reply_array(&json.reply, 2);
    reply_string(&json.reply, "\xff");
    reply_string(&json.reply, "good");
    assert_false(json_reply_dump(&json, &out));
    assert_int_equal(out.length, 0);
    json_reply_free(&json);
}

static void test_half_a_reply_is_not_dumped(void **state)
{
    (void)state;
    struct json_reply json;
    struct bytes out = {0};
    json_reply_init(&json);
    reply_array(&json.reply, 2);
    reply_integer(&json.reply, 1);
    assert_false(json_reply_dump(&json, &out));
    json_reply_free(&json);
    json_reply_init(&json);
    assert_false(json_reply_dump(&json, &out));
    json_reply_free(&json);
}

static void test_too_deep_fails(void **state)
{
    (void)state;
    struct json_reply json;
    struct bytes out = {0};
    json_reply_init(&json);
    for (int i = 0; i < JSON_REPLY_DEPTH + 1; i++)
        reply_array(&json.reply, 1);
    reply_null(&json.reply);
    assert_false(json_reply_dump(&json, &out));
    json_reply_free(&json);
}

static void test_an_error_is_kept_apart(void **state)
{
    (void)state;
    struct json_reply json;
    struct bytes out = {0};
    json_reply_init(&json);
    reply_error(&json.reply, ERROR_STALE, "a \"newer\"\x1b[31m epoch holds %s", "machine-0");
    assert_true(json.is_error);
    assert_int_equal(json.error, ERROR_STALE);
    assert_string_equal(json.error_text, "a \"newer\"?[31m epoch holds machine-0");
    assert_false(json_reply_dump(&json, &out));
    json_reply_free(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_containers_end_by_themselves),
        cmocka_unit_test(test_ids_are_strings_and_times_are_readable),
        cmocka_unit_test(test_text_cannot_break_out),
        cmocka_unit_test(test_text_that_is_not_utf8_fails_whole),
        cmocka_unit_test(test_half_a_reply_is_not_dumped),
        cmocka_unit_test(test_too_deep_fails),
        cmocka_unit_test(test_an_error_is_kept_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
