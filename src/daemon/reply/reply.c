/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.c - what is said in the same words wherever it is said; the words of errors, and their texts made harmless.
 * What a peer sent may be quoted in an error, so it is here, for all writers, that control characters and bytes that
 * are not ASCII are taken out.
 *
 * Pure but for the writer that it calls. O(text).
 */
#include "reply/reply.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    MOST_ERROR_TEXT = 400,
    HEAD_OF_TEXT_BYTES = 16,      /* "$65535\r\n" and "\r\n"; or quotes and a comma */
    VALUE_BESIDE_TEXT_BYTES = 320 /* a value's keys, flag, id, status and time, and the braces */
};

static const char *const words[] = {
    [ERROR_ERR] = "ERR",         [ERROR_NOAUTH] = "NOAUTH",     [ERROR_WRONGPASS] = "WRONGPASS",
    [ERROR_NOPROTO] = "NOPROTO", [ERROR_NOPERM] = "NOPERM",     [ERROR_DISABLED] = "DISABLED",
    [ERROR_INVALID] = "INVALID", [ERROR_MISMATCH] = "MISMATCH", [ERROR_DUPLICATE] = "DUPLICATE",
    [ERROR_STALE] = "STALE",     [ERROR_LAGGED] = "LAGGED",     [ERROR_BUSY] = "BUSY",
};

const char *error_word_text(enum error_word word)
{
    return words[word];
}

enum error_word error_word_of(int code)
{
    switch (code) {
    case PRESENCE_E_DISABLED:
        return ERROR_DISABLED;
    case PRESENCE_E_INVALID:
    case PRESENCE_E_AMBIGUOUS:
        return ERROR_INVALID;
    case PRESENCE_E_MISMATCH:
        return ERROR_MISMATCH;
    case PRESENCE_E_DUPLICATE:
        return ERROR_DUPLICATE;
    case PRESENCE_E_STALE:
        return ERROR_STALE;
    case PRESENCE_E_LAGGED:
        return ERROR_LAGGED;
    case PRESENCE_E_LIMIT:
    case PRESENCE_E_NO_MEMORY:
    case PRESENCE_E_SYSTEM:
        return ERROR_BUSY;
    default:
        return ERROR_ERR;
    }
}

void reply_error(struct reply *reply, enum error_word word, const char *format, ...)
{
    char text[MOST_ERROR_TEXT + 1];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
            *c = '?';
    reply->writer->error(reply, word, text);
}

void reply_failure(struct reply *reply, int code, const char *detail)
{
    reply_error(reply, error_word_of(code), "%s", detail && *detail ? detail : presence_strerror(code));
}

size_t reply_text_bytes(const char *text)
{
    enum { CONTROL_BYTES = 6, QUOTE_BYTES = 2 }; /* \u0001, \" */
    size_t bytes = HEAD_OF_TEXT_BYTES;
    for (const char *c = text; *c; c++)
        bytes += (unsigned char)*c < ' ' ? CONTROL_BYTES : *c == '"' || *c == '\\' ? QUOTE_BYTES : 1;
    return bytes;
}

size_t reply_value_bytes(const presence_value *value)
{
    return reply_text_bytes(value->model) + reply_text_bytes(value->server) + reply_text_bytes(value->agent) +
           reply_text_bytes(value->user_data) + VALUE_BESIDE_TEXT_BYTES;
}

void reply_value(struct reply *reply, const presence_value *value)
{
    reply_key(reply, "model");
    reply_string(reply, value->model);
    reply_key(reply, "server");
    reply_string(reply, value->server);
    reply_key(reply, "agent");
    reply_string(reply, value->agent);
    reply_key(reply, "connection_id");
    reply_id(reply, value->connection_id);
    reply_key(reply, "controller_agent");
    reply_boolean(reply, value->controller_agent);
    reply_key(reply, "status");
    reply_word(reply, presence_status_string(value->status));
    reply_key(reply, "user_data");
    reply_string(reply, value->user_data);
    reply_key(reply, "last_seen");
    reply_time(reply, value->last_seen);
}

void reply_judgement(struct reply *reply, presence_status status, presence_reason reason, presence_time since,
                     presence_time last_seen)
{
    reply_key(reply, "status");
    reply_word(reply, presence_status_string(status));
    reply_key(reply, "reason");
    reply_word(reply, presence_reason_string(reason));
    reply_key(reply, "since");
    reply_time(reply, since);
    reply_key(reply, "last_seen");
    reply_time(reply, last_seen);
}

void reply_evidence(struct reply *reply, const presence_evidence *evidence)
{
    reply_judgement(reply, evidence->status, evidence->reason, evidence->since, evidence->last_seen);
    reply_key(reply, "connections");
    reply_map(reply, 2);
    reply_key(reply, "alive");
    reply_integer(reply, (int64_t)evidence->alive);
    reply_key(reply, "missing");
    reply_integer(reply, (int64_t)evidence->missing);
}
