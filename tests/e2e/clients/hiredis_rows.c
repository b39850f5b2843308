/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hiredis_rows.c PORT - asks a presenced what it reads: a JSON array of words a line, on one connection, and writes
 * each reply as a line of JSON; an error is {"error": text}. One thread.
 */
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_S = 30, MOST_WORDS = 64 };

static json_t *json_of(const redisReply *reply)
{
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        return json_integer(reply->integer);
    case REDIS_REPLY_NIL:
        return json_null();
    case REDIS_REPLY_ERROR:
        return json_pack("{s:s%}", "error", reply->str, reply->len);
    case REDIS_REPLY_ARRAY:
        break;
    default:
        return json_stringn(reply->str, reply->len);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < reply->elements; i++)
        json_array_append_new(list, json_of(reply->element[i]));
    return list;
}

/* False: the words are none, or the other side has gone. */
static bool ask(redisContext *client, const json_t *words)
{
    const char *texts[MOST_WORDS];
    size_t lengths[MOST_WORDS], count = json_array_size(words);
    if (count == 0 || count > MOST_WORDS)
        return false;
    for (size_t i = 0; i < count; i++) {
        texts[i] = json_string_value(json_array_get(words, i));
        lengths[i] = json_string_length(json_array_get(words, i));
    }
    redisReply *reply = redisCommandArgv(client, (int)count, texts, lengths);
    if (!reply)
        return false;
    json_t *told = json_of(reply);
    freeReplyObject(reply);
    json_dumpf(told, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
    putchar('\n');
    json_decref(told);
    return true;
}

int main(int count, char **arguments)
{
    const struct timeval patience = {WAIT_S, 0};
    if (count != 2)
        return 2;
    redisContext *client = redisConnectWithTimeout("127.0.0.1", atoi(arguments[1]), patience);
    if (!client || client->err || redisSetTimeout(client, patience) != REDIS_OK)
        return 1;
    char *line = NULL;
    size_t capacity = 0;
    bool good = true;
    while (good && getline(&line, &capacity, stdin) > 0) {
        json_t *words = json_loads(line, 0, NULL);
        good = ask(client, words);
        json_decref(words);
    }
    free(line);
    redisFree(client);
    return good ? 0 : 1;
}
