/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parser.c - commands out of bytes.
 *
 * Keeps true: nothing is read at or behind input + length; memory for words grows only as words arrive, never by what a
 * head announces; a byte of input is looked at once, but for a line whose end has not come (at most inline_bytes).
 * While a command is being parsed its words' texts are offsets from its beginning, cast to pointers; they become
 * pointers when it is whole. Pure but for the memory of `words`; one thread at a time.
 */
#include "resp/parser.h"

#include <stdlib.h>

enum { LEAST_WORDS = 8, WORDS_KEPT = 128 };

void resp_parser_init(struct resp_parser *parser, const struct resp_limits *limits)
{
    *parser = (struct resp_parser){.limits = limits};
}

void resp_parser_free(struct resp_parser *parser)
{
    free(parser->words);
    *parser = (struct resp_parser){.limits = parser->limits};
}

static void start_over(struct resp_parser *parser)
{
    parser->position = 0;
    parser->word_count = 0;
    parser->in_array = parser->in_bulk = false;
    if (parser->word_capacity > WORDS_KEPT) {
        free(parser->words);
        parser->words = NULL;
        parser->word_capacity = 0;
    }
}

static bool add_word(struct resp_parser *parser, size_t offset, size_t length)
{
    if (parser->word_count == parser->word_capacity) {
        size_t capacity = parser->word_capacity ? 2 * parser->word_capacity : LEAST_WORDS;
        struct slice *words = realloc(parser->words, capacity * sizeof *words);
        if (!words)
            return false;
        parser->words = words;
        parser->word_capacity = capacity;
    }
    parser->words[parser->word_count++] = (struct slice){(const char *)(uintptr_t)offset, length};
    return true;
}

/* The command is whole: its words become pointers, each followed by a NUL. */
static enum resp_outcome finish(struct resp_parser *parser, char *input, size_t *used)
{
    for (size_t i = 0; i < parser->word_count; i++) {
        char *text = input + (uintptr_t)parser->words[i].text;
        text[parser->words[i].length] = 0;
        parser->words[i].text = text;
    }
    *used = parser->position;
    parser->position = 0;
    parser->in_array = parser->in_bulk = false;
    return RESP_COMMAND;
}

/* ---------------------------------------------------------------------------------------------------- array form -- */

enum number_outcome { NUMBER_READ, NUMBER_UNFINISHED, NUMBER_BROKEN };

/* A line of digits after the mark at `at`: `*3\r\n`, `$5\r\n`. *next is behind it. -1 is read as SIZE_MAX. */
static enum number_outcome read_number(const char *input, size_t length, size_t at, size_t *number, size_t *next)
{
    size_t sum = 0, i = at + 1;
    bool negative = i < length && input[i] == '-';
    size_t first = i += negative;
    for (; i < length && input[i] >= '0' && input[i] <= '9'; i++) {
        if (i - first >= 10) /* far beyond every limit */
            return NUMBER_BROKEN;
        sum = sum * 10 + (size_t)(input[i] - '0');
    }
    if (i >= length || (i + 1 >= length && input[i] == '\r'))
        return NUMBER_UNFINISHED;
    if (i == first || input[i] != '\r' || input[i + 1] != '\n')
        return NUMBER_BROKEN;
    *number = negative ? SIZE_MAX : sum;
    *next = i + 2;
    return NUMBER_READ;
}

/* The head of the next word. */
static enum resp_outcome parse_bulk_head(struct resp_parser *parser, const char *input, size_t length,
                                         const char **error)
{
    size_t number, next;
    if (parser->position >= length)
        return RESP_UNFINISHED;
    *error = "expected '$' before each argument";
    if (input[parser->position] != '$')
        return RESP_BROKEN;
    *error = "invalid bulk length";
    switch (read_number(input, length, parser->position, &number, &next)) {
    case NUMBER_UNFINISHED:
        return RESP_UNFINISHED;
    case NUMBER_BROKEN:
        return RESP_BROKEN;
    case NUMBER_READ:
        break;
    }
    if (number == SIZE_MAX)
        return RESP_BROKEN;
    *error = "the request is larger than max-request-bytes";
    if (number > parser->limits->request_bytes || next + number + 2 > parser->limits->request_bytes)
        return RESP_BROKEN;
    parser->bulk_length = number;
    parser->position = next;
    parser->in_bulk = true;
    return RESP_COMMAND;
}

enum { MOST_SHORT_HEAD = 5 }; /* $99 and the line's end, as nearly all are */

/* The length of the head at `at`, and in *number what it announces. 0: it is not a short one. MOST_SHORT_HEAD bytes can
 * be read. */
static inline size_t short_head(const char *at, size_t *number)
{
    const size_t first = (unsigned char)(at[1] - '0'), second = (unsigned char)(at[2] - '0');
    if (at[0] != '$' || first > 9)
        return 0;
    const bool two = second <= 9;
    *number = two ? 10 * first + second : first;
    at += two;
    return at[2] == '\r' && at[3] == '\n' ? 4 + (size_t)two : 0;
}

/* Takes words with short heads for as long as they are whole and there is room; what is otherwise, or wrong, is left to
 * the long way. */
static void take_short_words(struct resp_parser *parser, const char *input, size_t length)
{
    const size_t end = length < parser->limits->request_bytes ? length : parser->limits->request_bytes;
    size_t at = parser->position, count = parser->word_count, left = parser->words_left, number, head;
    while (left > 0 && count < parser->word_capacity && at + MOST_SHORT_HEAD <= end &&
           (head = short_head(input + at, &number)) > 0) {
        const size_t next = at + head + number + 2;
        if (next > end || input[next - 2] != '\r' || input[next - 1] != '\n')
            break;
        parser->words[count++] = (struct slice){(const char *)(uintptr_t)(at + head), number};
        at = next;
        left--;
    }
    parser->position = at;
    parser->word_count = count;
    parser->words_left = left;
}

static enum resp_outcome parse_words(struct resp_parser *parser, char *input, size_t length, size_t *used,
                                     const char **error)
{
    if (!parser->in_bulk)
        take_short_words(parser, input, length);
    while (parser->words_left > 0) {
        if (!parser->in_bulk) {
            enum resp_outcome outcome = parse_bulk_head(parser, input, length, error);
            if (outcome != RESP_COMMAND)
                return outcome;
        }
        size_t end = parser->position + parser->bulk_length;
        if (end + 2 > length)
            return RESP_UNFINISHED;
        *error = "an argument is not followed by CR LF";
        if (input[end] != '\r' || input[end + 1] != '\n')
            return RESP_BROKEN;
        if (!add_word(parser, parser->position, parser->bulk_length))
            return RESP_NO_MEMORY;
        parser->position = end + 2;
        parser->in_bulk = false;
        parser->words_left--;
        take_short_words(parser, input, length);
    }
    return finish(parser, input, used);
}

static enum resp_outcome parse_array_head(struct resp_parser *parser, const char *input, size_t length,
                                          const char **error)
{
    size_t number, next;
    *error = "invalid multibulk length";
    switch (read_number(input, length, 0, &number, &next)) {
    case NUMBER_UNFINISHED:
        return RESP_UNFINISHED;
    case NUMBER_BROKEN:
        return RESP_BROKEN;
    case NUMBER_READ:
        break;
    }
    *error = "more arguments than max-request-words";
    if (number == SIZE_MAX)
        number = 0;
    if (number > parser->limits->words)
        return RESP_BROKEN;
    parser->words_left = number;
    parser->position = next;
    parser->in_array = true;
    return RESP_COMMAND;
}

/* --------------------------------------------------------------------------------------------------- inline form -- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* What an escape in double quotes stands for; *at is moved behind it. */
static char unescape(const char *line, size_t length, size_t *at)
{
    char c = line[(*at)++];
    if (c == 'x' && *at + 1 < length && hex_digit(line[*at]) >= 0 && hex_digit(line[*at + 1]) >= 0) {
        int value = hex_digit(line[*at]) * 16 + hex_digit(line[*at + 1]);
        *at += 2;
        return (char)value;
    }
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return c;
    }
}

/* A quoted word at line[*at], which is the quote: rewritten in place from there, without quotes. False: the quotes are
 * not closed, or something sticks to them. *word_length bytes from where the quote was. */
static bool read_quoted(char *line, size_t length, size_t *at, size_t *word_length)
{
    char quote = line[*at];
    size_t to = *at, from = *at + 1;
    while (from < length && line[from] != quote) {
        if (line[from] == '\\' && from + 1 < length && (quote == '"' || line[from + 1] == '\'')) {
            from++;
            if (quote == '"')
                line[to++] = unescape(line, length, &from);
            else
                line[to++] = line[from++];
        } else {
            line[to++] = line[from++];
        }
    }
    if (from >= length || (from + 1 < length && line[from + 1] != ' ' && line[from + 1] != '\t'))
        return false;
    *word_length = to - *at;
    *at = from + 1;
    return true;
}

static enum resp_outcome parse_line(struct resp_parser *parser, char *input, size_t length, size_t *used,
                                    const char **error)
{
    char *newline = memchr(input, '\n', length);
    size_t line = newline ? (size_t)(newline - input) : length;
    *error = "an inline command is too long";
    if (line > parser->limits->inline_bytes)
        return RESP_BROKEN;
    if (!newline)
        return RESP_UNFINISHED;
    parser->position = line + 1;
    if (line > 0 && input[line - 1] == '\r')
        line--;
    for (size_t at = 0; at < line;) {
        size_t start = at, word_length;
        if (input[at] == ' ' || input[at] == '\t') {
            at++;
            continue;
        }
        *error = "unbalanced quotes in a request";
        if (input[at] == '"' || input[at] == '\'') {
            if (!read_quoted(input, line, &at, &word_length))
                return RESP_BROKEN;
        } else {
            while (at < line && input[at] != ' ' && input[at] != '\t')
                at++;
            word_length = at - start;
        }
        *error = "more arguments than max-request-words";
        if (parser->word_count == parser->limits->words)
            return RESP_BROKEN;
        if (!add_word(parser, start, word_length))
            return RESP_NO_MEMORY;
    }
    return finish(parser, input, used);
}

enum resp_outcome resp_parse(struct resp_parser *parser, char *input, size_t length, size_t *used, const char **error)
{
    size_t skipped = 0;
    for (;;) {
        if (!parser->in_array && parser->position == 0)
            start_over(parser);
        *used = skipped;
        if (skipped == length)
            return RESP_UNFINISHED;
        enum resp_outcome outcome = RESP_COMMAND;
        char *command = input + skipped;
        size_t left = length - skipped, consumed = 0;
        if (!parser->in_array && *command != '*') {
            outcome = parse_line(parser, command, left, &consumed, error);
        } else {
            if (!parser->in_array)
                outcome = parse_array_head(parser, command, left, error);
            if (outcome == RESP_COMMAND)
                outcome = parse_words(parser, command, left, &consumed, error);
        }
        if (outcome != RESP_COMMAND)
            return outcome;
        skipped += consumed;
        *used = skipped;
        if (parser->word_count > 0)
            return RESP_COMMAND;
    }
}
