/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_resp_parser.c - commands out of bytes: whole, in pieces of every size, one after the other, and broken.
 *
 * The input of each story lies in memory of exactly its size, so that a sanitizer sees a read behind its end.
 */
#include "resp/parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct resp_limits limits = {.request_bytes = 1024, .words = 16, .inline_bytes = 128};

struct input {
    char *bytes;
    size_t length;
};

static struct input input_of(const char *text, size_t length)
{
    struct input input = {malloc(length ? length : 1), length};
    assert_non_null(input.bytes);
    memcpy(input.bytes, text, length);
    return input;
}

#define INPUT(text) input_of(text, sizeof(text) - 1)

static void expect_word(const struct resp_parser *parser, size_t index, const char *text, size_t length)
{
    assert_true(index < parser->word_count);
    assert_int_equal(parser->words[index].length, length);
    assert_memory_equal(parser->words[index].text, text, length);
    assert_int_equal(parser->words[index].text[length], 0);
}

/* Parses the whole text as one command of these words (each without a NUL). */
static void expect_command(const char *text, size_t length, const char *const *words)
{
    struct resp_parser parser;
    struct input input = input_of(text, length);
    size_t used, count = 0;
    const char *error = NULL;
    resp_parser_init(&parser, &limits);
    assert_int_equal(resp_parse(&parser, input.bytes, input.length, &used, &error), RESP_COMMAND);
    assert_int_equal(used, length);
    for (; words[count]; count++)
        expect_word(&parser, count, words[count], strlen(words[count]));
    assert_int_equal(parser.word_count, count);
    resp_parser_free(&parser);
    free(input.bytes);
}

#define EXPECT_COMMAND(text, ...) expect_command(text, sizeof(text) - 1, (const char *const[]){__VA_ARGS__, NULL})

/* The input is refused, whether it comes at once or byte by byte, for a reason that holds `reason`. */
static void expect_broken(const char *text, const char *reason)
{
    for (int at_once = 0; at_once < 2; at_once++) {
        struct resp_parser parser;
        size_t used = 0, length = strlen(text);
        const char *error = "";
        enum resp_outcome outcome = RESP_UNFINISHED;
        resp_parser_init(&parser, &limits);
        for (size_t have = at_once ? length : 1; have <= length && outcome == RESP_UNFINISHED; have++) {
            struct input input = input_of(text, have);
            outcome = resp_parse(&parser, input.bytes, input.length, &used, &error);
            free(input.bytes);
        }
        assert_int_equal(outcome, RESP_BROKEN);
        assert_non_null(strstr(error, reason));
        resp_parser_free(&parser);
    }
}

static void an_array_of_bulk_strings_is_a_command(void **state)
{
    (void)state;
    EXPECT_COMMAND("*1\r\n$4\r\nPING\r\n", "PING");
    EXPECT_COMMAND("*3\r\n$4\r\nECHO\r\n$0\r\n\r\n$5\r\na\r\nb \r\n", "ECHO", "", "a\r\nb ");
}

static void words_may_hold_any_byte(void **state)
{
    (void)state;
    struct resp_parser parser;
    struct input input = INPUT("*2\r\n$4\r\nECHO\r\n$3\r\na\0b\r\n");
    size_t used;
    const char *error;
    resp_parser_init(&parser, &limits);
    assert_int_equal(resp_parse(&parser, input.bytes, input.length, &used, &error), RESP_COMMAND);
    expect_word(&parser, 1, "a\0b", 3);
    assert_false(slice_is_text(parser.words[1]));
    assert_true(slice_is_text(parser.words[0]));
    resp_parser_free(&parser);
    free(input.bytes);
}

static void a_line_is_a_command(void **state)
{
    (void)state;
    EXPECT_COMMAND("PING\r\n", "PING");
    EXPECT_COMMAND("  PING \t x\n", "PING", "x");
    EXPECT_COMMAND("ECHO \"a \\\"b\\x41\\n\" 'it\\'s \\n'\r\n", "ECHO", "a \"bA\n", "it's \\n");
    EXPECT_COMMAND("ECHO \"\"\r\n", "ECHO", "");
}

static void empty_commands_are_passed_over(void **state)
{
    (void)state;
    EXPECT_COMMAND("\r\n*0\r\n*-1\r\n  \r\nPING\r\n", "PING");
}

/* Given commands of every shape one after the other, when they come in pieces of every size and the input moves between
 * two pieces, then the same commands come out. */
static void pieces_of_every_size_give_the_same(void **state)
{
    (void)state;
    static const char text[] =
        "*2\r\n$4\r\nECHO\r\n$12\r\nhello\r\nworld\r\nPING\r\n*1\r\n$1\r\nx\r\n\r\nECHO 'a b'\r\n";
    static const char *const wanted[] = {"ECHO", "hello\r\nworld", NULL, "PING", NULL, "x", NULL, "ECHO", "a b", NULL};
    const size_t length = sizeof text - 1;
    for (size_t piece = 1; piece <= length; piece++) {
        struct resp_parser parser;
        size_t begin = 0, at = 0;
        resp_parser_init(&parser, &limits);
        for (size_t have = 0; have < length;) {
            have = have + piece < length ? have + piece : length;
            for (enum resp_outcome outcome = RESP_COMMAND; outcome == RESP_COMMAND;) {
                size_t used;
                const char *error = NULL;
                struct input input = input_of(text + begin, have - begin);
                outcome = resp_parse(&parser, input.bytes, input.length, &used, &error);
                assert_true(outcome == RESP_COMMAND || outcome == RESP_UNFINISHED);
                begin += used;
                for (size_t i = 0; outcome == RESP_COMMAND && i < parser.word_count; i++, at++)
                    expect_word(&parser, i, wanted[at], strlen(wanted[at]));
                if (outcome == RESP_COMMAND)
                    assert_null(wanted[at++]);
                free(input.bytes);
            }
        }
        assert_int_equal(at, sizeof wanted / sizeof *wanted);
        assert_int_equal(begin, length);
        resp_parser_free(&parser);
    }
}

static void what_breaks_the_protocol_is_told(void **state)
{
    (void)state;
    expect_broken("*x\r\n", "multibulk");
    expect_broken("*99999999999\r\n", "multibulk");
    expect_broken("*1x\r\n", "multibulk");
    expect_broken("*1\r\n:5\r\n", "'$'");
    expect_broken("*1\r\n$-1\r\n", "bulk length");
    expect_broken("*1\r\n$4\r\nPINGxx", "CR LF");
    expect_broken("ECHO \"open\r\n", "quotes");
    expect_broken("ECHO \"a\"b\r\n", "quotes");
}

static void limits_are_kept_before_memory_is_taken(void **state)
{
    (void)state;
    char line[256];
    expect_broken("*17\r\n", "max-request-words");
    expect_broken("*2\r\n$1025\r\n", "max-request-bytes");
    expect_broken("a b c d e f g h i j k l m n o p q\r\n", "max-request-words");
    memset(line, 'a', sizeof line - 1);
    line[sizeof line - 1] = 0;
    expect_broken(line, "too long");
    /* Not one word is too large, but all together are. */
    char many[2048] = "*16\r\n";
    for (int i = 0; i < 10; i++)
        strcat(strcat(strcat(many, "$100\r\n"), "0123456789012345678901234567890123456789012345678901234567890123456789"
                                                "012345678901234567890123456789"),
               "\r\n");
    expect_broken(many, "max-request-bytes");
}

int main(void)
{
    const struct CMUnitTest stories[] = {
        cmocka_unit_test(an_array_of_bulk_strings_is_a_command),
        cmocka_unit_test(words_may_hold_any_byte),
        cmocka_unit_test(a_line_is_a_command),
        cmocka_unit_test(empty_commands_are_passed_over),
        cmocka_unit_test(pieces_of_every_size_give_the_same),
        cmocka_unit_test(what_breaks_the_protocol_is_told),
        cmocka_unit_test(limits_are_kept_before_memory_is_taken),
    };
    return cmocka_run_group_tests(stories, NULL, NULL);
}
