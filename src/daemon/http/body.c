/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body.c - JSON bodies of writes: one connection, or a server's whole list.
 *
 * Members have the names of the facts: model, agent, connection_id (a string or a number), controller_agent, user_data,
 * server. What is not known is refused, and so are members that are there twice. The list is given to the command as
 * words, so that it is checked, fenced and stated by the same code as RESP's.
 *
 * The loop of the connection, and a list that is long on the thread of long commands (long.c): nothing here is sent,
 * what is wrong is said to the call's reply. O(body), which evhttp has limited to max-request-bytes.
 */
#include "http/exchange.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORDS_BEFORE_VALUES = 3, WORDS_A_VALUE = 5, ID_BYTES = 24 };

/* Reads the body. False: an error was said. */
static bool read_body(struct exchange *exchange, struct evbuffer *input)
{
    size_t length = evbuffer_get_length(input);
    const char *text = length ? (const char *)evbuffer_pullup(input, -1) : "";
    json_error_t error = {.line = 0};
    exchange->body = text ? json_loadb(text, length, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (exchange->body)
        return true;
    reply_error(exchange->call.reply, ERROR_INVALID, "the body is not JSON: line %d, column %d: %s", error.line,
                error.column, error.text);
    return false;
}

/* What a connection's members are worth as words. */
struct words {
    const char *where; /* "value 1: ", before what is said of it */
    struct slice model, agent, id, controller, data;
};

static bool take_text(struct exchange *exchange, const char *where, const char *name, json_t *value, struct slice *to)
{
    if (!json_is_string(value)) {
        reply_error(exchange->call.reply, ERROR_INVALID, "%s%s wants a string", where, name);
        return false;
    }
    *to = (struct slice){json_string_value(value), json_string_length(value)};
    return true;
}

static bool take_id(struct exchange *exchange, json_t *value, struct words *words, char number[ID_BYTES])
{
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        snprintf(number, ID_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        words->id = slice_of(number);
        return true;
    }
    return take_text(exchange, words->where, "connection_id", value, &words->id);
}

/* A server that is named in the body must be the path's. */
static bool check_server(struct exchange *exchange, const char *where, json_t *value)
{
    struct slice named;
    const char *server = exchange->call.arguments.server;
    if (!take_text(exchange, where, "server", value, &named))
        return false;
    if (slice_equals(named, slice_of(server)))
        return true;
    reply_error(exchange->call.reply, ERROR_MISMATCH,
                "%sconnection server mismatch, got \"%.100s\" expected \"%.100s\"", where, named.text, server);
    return false;
}

/* One connection's members, into words whose `where` is set. False: an error was said. */
static bool take_members(struct exchange *exchange, json_t *connection, struct words *words, char number[ID_BYTES])
{
    const char *name;
    json_t *value;
    const char *where = words->where;
    *words = (struct words){.where = where, .controller = {"0", 1}, .data = {"", 0}};
    if (!json_is_object(connection)) {
        reply_error(exchange->call.reply, ERROR_INVALID, "%sa connection wants to be an object", where);
        return false;
    }
    json_object_foreach(connection, name, value)
    {
        bool good = false;
        if (strcmp(name, "model") == 0)
            good = take_text(exchange, where, name, value, &words->model);
        else if (strcmp(name, "agent") == 0)
            good = take_text(exchange, where, name, value, &words->agent);
        else if (strcmp(name, "user_data") == 0)
            good = take_text(exchange, where, name, value, &words->data);
        else if (strcmp(name, "connection_id") == 0)
            good = take_id(exchange, value, words, number);
        else if (strcmp(name, "server") == 0)
            good = check_server(exchange, where, value);
        else if (strcmp(name, "controller_agent") == 0 && json_is_boolean(value))
            good = (words->controller = slice_of(json_is_true(value) ? "1" : "0")).text != NULL;
        else if (strcmp(name, "controller_agent") == 0)
            reply_error(exchange->call.reply, ERROR_INVALID, "%scontroller_agent wants true or false", where);
        else if (strcmp(name, "status") == 0 || strcmp(name, "last_seen") == 0)
            good = true; /* as it was listed: what is stated is alive, and seen now */
        else
            reply_error(exchange->call.reply, ERROR_INVALID, "%sunknown member \"%.32s\"", where, name);
        if (!good)
            return false;
    }
    if (words->model.text && words->agent.text)
        return true;
    reply_error(exchange->call.reply, ERROR_INVALID, "%s%s is missing", where, words->model.text ? "agent" : "model");
    return false;
}

bool body_take_connection(struct exchange *exchange)
{
    struct call *call = &exchange->call;
    struct words words = {.where = ""};
    char number[ID_BYTES];
    uint64_t id = 0;
    if (!read_body(exchange, evhttp_request_get_input_buffer(exchange->request)) ||
        !take_members(exchange, exchange->body, &words, number))
        return false;
    if (words.id.text && (!slice_to_number(words.id, &id) || id != call->arguments.id)) {
        reply_error(call->reply, ERROR_INVALID, "connection_id is not the one of the path");
        return false;
    }
    return argument_set(call, SLOT_MODEL, "model", words.model) &&
           argument_set(call, SLOT_AGENT, "agent", words.agent) &&
           argument_set(call, SLOT_CONTROLLER, "controller_agent", words.controller) &&
           argument_set(call, SLOT_DATA, "user_data", words.data);
}

/* The array itself, or the values of an object, as a page of /v1/connections has them. */
static json_t *list_of(json_t *body)
{
    json_t *values = json_is_object(body) && json_object_size(body) == 1 ? json_object_get(body, "values") : body;
    return json_is_array(values) ? values : NULL;
}

static bool fill_words(struct exchange *exchange, json_t *list, struct slice *words, char (*numbers)[ID_BYTES])
{
    size_t index;
    json_t *connection;
    json_array_foreach(list, index, connection)
    {
        char where[32];
        struct words of_one = {.where = where};
        struct slice *to = words + WORDS_BEFORE_VALUES + index * WORDS_A_VALUE;
        snprintf(where, sizeof where, "value %zu: ", index);
        if (!take_members(exchange, connection, &of_one, numbers[index]))
            return false;
        if (!of_one.id.text) {
            reply_error(exchange->call.reply, ERROR_INVALID, "%sconnection_id is missing", where);
            return false;
        }
        to[0] = of_one.model;
        to[1] = of_one.agent;
        to[2] = of_one.id;
        to[3] = of_one.controller;
        to[4] = of_one.data;
    }
    return true;
}

void body_state_list(struct exchange *exchange, struct evbuffer *input)
{
    struct call *call = &exchange->call;
    if (!read_body(exchange, input))
        return;
    json_t *list = list_of(exchange->body);
    if (!list) {
        reply_error(call->reply, ERROR_INVALID, "the body wants an array of connections");
        return;
    }
    size_t count = json_array_size(list), word_count = WORDS_BEFORE_VALUES + count * WORDS_A_VALUE;
    char how_many[ID_BYTES];
    struct slice *words = calloc(word_count, sizeof *words);
    char(*numbers)[ID_BYTES] = calloc(count + 1, sizeof *numbers);
    bool good = words && numbers;
    if (!good)
        reply_error(call->reply, ERROR_BUSY, "out of memory");
    good = good && fill_words(exchange, list, words, numbers);
    if (good) {
        snprintf(how_many, sizeof how_many, "%zu", count);
        words[0] = slice_of(call->command->name);
        words[1] = slice_of(call->arguments.server);
        words[2] = slice_of(how_many);
        call->words = words;
        call->word_count = word_count;
        command_run(call);
        call->words = NULL;
        call->arguments = (struct arguments){0};
    }
    free(words);
    free(numbers);
}
