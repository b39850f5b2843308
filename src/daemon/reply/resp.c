/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resp.c - replies in RESP2 and RESP3. Each says what reply.h's table tells, by appending to the buffer; a buffer that
 * could not grow has failed, and its client is hung up on. A few nanoseconds for a small reply; one thread at a time.
 */
#include "reply/resp.h"

#include <stdio.h>

enum { MOST_NUMBER = 20, HEAD_BYTES = 1 + MOST_NUMBER + 2 };

static struct resp_reply *of(struct reply *reply)
{
    return (struct resp_reply *)(void *)reply;
}

static size_t count_digits(uint64_t number)
{
    size_t count = 1;
    for (; number >= 10000; number /= 10000)
        count += 4;
    return count + (number >= 10) + (number >= 100) + (number >= 1000);
}

/* Decimal digits of the number at `to`; how many. */
static size_t put_digits(char *to, uint64_t number)
{
    const size_t count = count_digits(number);
    for (char *end = to + count; end > to; number /= 10)
        *--end = (char)('0' + number % 10);
    return count;
}

/* A mark, a number, and the end of the line, at `to`; where they end. */
static inline char *put_head(char *to, char mark, uint64_t number)
{
    *to++ = mark;
    if (number < 10)
        *to++ = (char)('0' + number);
    else
        to += put_digits(to, number);
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

static void head(struct reply *reply, char mark, uint64_t number)
{
    struct bytes *out = of(reply)->out;
    char *room = bytes_reserve(out, HEAD_BYTES);
    if (room)
        out->length += (size_t)(put_head(room, mark, number) - room);
}

static void resp_text(struct reply *reply, struct slice text)
{
    struct bytes *out = of(reply)->out;
    char *room = bytes_reserve(out, HEAD_BYTES + text.length + 2);
    if (!room)
        return;
    char *end = put_head(room, '$', text.length);
    if (text.length > 0)
        memcpy(end, text.text, text.length);
    end += text.length;
    *end++ = '\r';
    *end++ = '\n';
    out->length += (size_t)(end - room);
}

static void resp_map(struct reply *reply, size_t pairs)
{
    if (of(reply)->version >= 3)
        head(reply, '%', pairs);
    else
        head(reply, '*', 2 * pairs);
}

static void resp_array(struct reply *reply, size_t items)
{
    head(reply, '*', items);
}

/* Of a tuple's fields, RESP tells the values only. */
static void resp_field(struct reply *reply, const char *key)
{
    (void)reply, (void)key;
}

static void resp_push(struct reply *reply, size_t items)
{
    head(reply, of(reply)->version >= 3 ? '>' : '*', items);
}

static void resp_integer(struct reply *reply, int64_t number)
{
    if (number >= 0) {
        head(reply, ':', (uint64_t)number);
        return;
    }
    bytes_append(of(reply)->out, ":-", 2);
    char digits[MOST_NUMBER];
    size_t count = put_digits(digits, -(uint64_t)number);
    bytes_append(of(reply)->out, digits, count);
    bytes_append(of(reply)->out, "\r\n", 2);
}

static void resp_id(struct reply *reply, uint64_t number)
{
    char digits[MOST_NUMBER];
    size_t count = put_digits(digits, number);
    resp_text(reply, (struct slice){digits, count});
}

static void resp_word(struct reply *reply, struct slice word)
{
    struct bytes *out = of(reply)->out;
    char *room = bytes_reserve(out, word.length + 3);
    if (!room)
        return;
    *room = '+';
    memcpy(room + 1, word.text, word.length);
    room[word.length + 1] = '\r';
    room[word.length + 2] = '\n';
    out->length += word.length + 3;
}

static void resp_statuses(struct reply *reply, const uint8_t *statuses, size_t count)
{
    enum { MOST_STATUS_BYTES = 10 }; /* copied whole: a constant size is a move or two */
    static const struct {
        char text[MOST_STATUS_BYTES];
        uint8_t length;
    } lines[] = {[PRESENCE_UNKNOWN] = {"+unknown\r\n", 10},
                 [PRESENCE_MISSING] = {"+missing\r\n", 10},
                 [PRESENCE_ALIVE] = {"+alive\r\n", 8}};
    struct bytes *out = of(reply)->out;
    char *room = bytes_reserve(out, HEAD_BYTES + count * MOST_STATUS_BYTES);
    if (!room)
        return;
    char *end = put_head(room, '*', count);
    for (size_t i = 0; i < count; i++) {
        memcpy(end, lines[statuses[i]].text, MOST_STATUS_BYTES);
        end += lines[statuses[i]].length;
    }
    out->length += (size_t)(end - room);
}

static void resp_boolean(struct reply *reply, bool value)
{
    if (of(reply)->version >= 3)
        bytes_append(of(reply)->out, value ? "#t\r\n" : "#f\r\n", 4);
    else
        head(reply, ':', value);
}

static void resp_null(struct reply *reply)
{
    if (of(reply)->version >= 3)
        bytes_append(of(reply)->out, "_\r\n", 3);
    else
        bytes_append(of(reply)->out, "$-1\r\n", 5);
}

static void resp_time(struct reply *reply, presence_time time)
{
    if (time == 0)
        resp_null(reply);
    else
        resp_integer(reply, time / 1000000);
}

static void resp_error(struct reply *reply, enum error_word word, const char *text)
{
    struct bytes *out = of(reply)->out;
    const char *name = error_word_text(word);
    of(reply)->errors++;
    bytes_append(out, "-", 1);
    bytes_append(out, name, strlen(name));
    bytes_append(out, " ", 1);
    bytes_append(out, text, strlen(text));
    bytes_append(out, "\r\n", 2);
}

static void resp_version(struct reply *reply, int version)
{
    of(reply)->version = version;
}

static const struct reply_writer writer = {
    .map = resp_map,
    .array = resp_array,
    .tuple = resp_array,
    .push = resp_push,
    .key = resp_text,
    .field = resp_field,
    .integer = resp_integer,
    .id = resp_id,
    .text = resp_text,
    .word = resp_word,
    .statuses = resp_statuses,
    .boolean = resp_boolean,
    .time = resp_time,
    .null = resp_null,
    .error = resp_error,
    .version = resp_version,
};

void resp_reply_init(struct resp_reply *reply, struct bytes *out, int version)
{
    *reply = (struct resp_reply){.reply = {&writer}, .out = out, .version = version};
}
