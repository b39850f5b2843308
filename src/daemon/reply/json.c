/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c - replies in JSON. Each says what reply.h's table tells, by adding to a tree of jansson's.
 *
 * Keeps true: what is dumped is one whole JSON value, on one line, in UTF-8, with control characters escaped. A string
 * that is not UTF-8 cannot come from the recorder; should one come from elsewhere, the reply fails rather than being
 * half said. About 100 ns for each value said.
 */
#include "reply/json.h"

#include <stdio.h>
#include <time.h>

static struct json_reply *of(struct reply *reply)
{
    return (struct json_reply *)(void *)reply;
}

/* Adds a value, whose reference is taken, where the next one belongs. False: it is not in the tree. */
static bool add(struct json_reply *json, json_t *value)
{
    int failed = value == NULL;
    if (json->failed || failed || (json->depth == 0 && json->root)) {
        json_decref(value);
        json->failed = true;
        return false;
    }
    if (json->depth == 0) {
        json->root = value;
        return true;
    }
    json_t *container = json->open[json->depth - 1].container;
    if (json_is_object(container))
        failed = json->key ? json_object_set_new_nocheck(container, json->key, value) : -1;
    else
        failed = json_array_append_new(container, value);
    json->key = NULL;
    if (failed)
        json->failed = true;
    return !failed;
}

/* Containers that have all their items end. */
static void close_full(struct json_reply *json)
{
    while (json->depth > 0 && json->open[json->depth - 1].left == 0)
        if (--json->depth > 0)
            json->open[json->depth - 1].left--;
}

static void add_scalar(struct reply *reply, json_t *value)
{
    struct json_reply *json = of(reply);
    if (!add(json, value) || json->depth == 0)
        return;
    json->open[json->depth - 1].left--;
    close_full(json);
}

static void open_container(struct reply *reply, json_t *container, size_t items)
{
    struct json_reply *json = of(reply);
    if (json->depth == JSON_REPLY_DEPTH) {
        json_decref(container);
        json->failed = true;
        return;
    }
    if (!add(json, container))
        return;
    json->open[json->depth].container = container;
    json->open[json->depth++].left = items;
    close_full(json);
}

static void json_map(struct reply *reply, size_t pairs)
{
    open_container(reply, json_object(), pairs);
}

static void json_items(struct reply *reply, size_t items)
{
    open_container(reply, json_array(), items);
}

static void json_key(struct reply *reply, struct slice key)
{
    of(reply)->key = key.text;
}

static void json_field(struct reply *reply, const char *key)
{
    of(reply)->key = key;
}

static void json_number(struct reply *reply, int64_t number)
{
    add_scalar(reply, json_integer(number));
}

static void json_id(struct reply *reply, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    add_scalar(reply, json_string(text));
}

static void json_text(struct reply *reply, struct slice text)
{
    add_scalar(reply, json_stringn(text.text, text.length));
}

static void json_statuses(struct reply *reply, const uint8_t *statuses, size_t count)
{
    json_items(reply, count);
    for (size_t i = 0; i < count; i++)
        json_text(reply, slice_of(presence_status_string((presence_status)statuses[i])));
}

static void json_say_boolean(struct reply *reply, bool value)
{
    add_scalar(reply, json_boolean(value));
}

static void json_say_null(struct reply *reply)
{
    add_scalar(reply, json_null());
}

void time_to_text(presence_time time, char text[TIME_TEXT_BYTES])
{
    time_t seconds = (time_t)(time / 1000000000);
    int milliseconds = (int)(time % 1000000000 / 1000000);
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) || time < 0) {
        snprintf(text, TIME_TEXT_BYTES, "1970-01-01T00:00:00.000Z");
        return;
    }
    size_t length = strftime(text, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + length, TIME_TEXT_BYTES - length, ".%03dZ", milliseconds);
}

static void json_time(struct reply *reply, presence_time time)
{
    char text[TIME_TEXT_BYTES];
    if (time == 0) {
        json_say_null(reply);
        return;
    }
    time_to_text(time, text);
    add_scalar(reply, json_string(text));
}

static void json_error(struct reply *reply, enum error_word word, const char *text)
{
    struct json_reply *json = of(reply);
    json->is_error = true;
    json->error = word;
    snprintf(json->error_text, sizeof json->error_text, "%s", text);
}

static void json_version(struct reply *reply, int version)
{
    (void)reply, (void)version; /* of RESP only */
}

static const struct reply_writer writer = {
    .map = json_map,
    .array = json_items,
    .tuple = json_map,
    .push = json_items,
    .key = json_key,
    .field = json_field,
    .integer = json_number,
    .id = json_id,
    .text = json_text,
    .word = json_text,
    .statuses = json_statuses,
    .boolean = json_say_boolean,
    .time = json_time,
    .null = json_say_null,
    .error = json_error,
    .version = json_version,
};

void json_reply_init(struct json_reply *reply)
{
    memset(reply, 0, offsetof(struct json_reply, error_text));
    reply->reply.writer = &writer;
    reply->error_text[0] = 0;
}

void json_reply_free(struct json_reply *reply)
{
    json_decref(reply->root);
    reply->root = NULL;
}

static int append(const char *data, size_t length, void *out)
{
    bytes_append(out, data, length);
    return ((struct bytes *)out)->failed ? -1 : 0;
}

bool json_reply_dump(const struct json_reply *reply, struct bytes *out)
{
    return reply->root && !reply->failed && !reply->is_error && reply->depth == 0 &&
           json_dump_callback(reply->root, append, out, JSON_COMPACT | JSON_ENCODE_ANY) == 0;
}
