/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.c - what the format and the headers agree on: numbers that are the same in both, texts of errors, and how long
 * things are when encoded.
 *
 * Any thread may call what is here. Costs: O(length of the strings).
 */
#include "wire.h"

#include <cluster.pb-c.h>

#include <string.h>

/* Kinds, reasons, questions and bodies have the same numbers in the format and in the headers, so that they need only
 * be checked, not translated. A number in the format is for ever; should a header's change, it must be translated. */
#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(PRESENCE__CLUSTER__##theirs), #ours)
SAME(PRESENCE_CHANGE_CONNECT, KIND__CONNECT);
SAME(PRESENCE_CHANGE_DISCONNECT, KIND__DISCONNECT);
SAME(PRESENCE_CHANGE_DOWN, KIND__DOWN);
SAME(PRESENCE_CHANGE_COMPLETE, KIND__COMPLETE);
SAME(PRESENCE_REASON_NONE, REASON__REASON_NONE);
SAME(PRESENCE_REASON_CONNECTED, REASON__CONNECTED);
SAME(PRESENCE_REASON_RECONNECTED, REASON__RECONNECTED);
SAME(PRESENCE_REASON_UPDATED, REASON__UPDATED);
SAME(PRESENCE_REASON_LEFT, REASON__LEFT);
SAME(PRESENCE_REASON_SERVER_DOWN, REASON__SERVER_DOWN);
SAME(PRESENCE_REASON_DRAINED, REASON__DRAINED);
SAME(PRESENCE_REASON_TIMED_OUT, REASON__TIMED_OUT);
SAME(PRESENCE_REASON_SUPERSEDED, REASON__SUPERSEDED);
SAME(PRESENCE_REASON_RESTORED, REASON__RESTORED);
SAME(PRESENCE_REASON_LAPSED, REASON__LAPSED);
SAME(WIRE_ASK_CHANGES, QUESTION__ASK_CHANGES);
SAME(WIRE_ASK_STATE, QUESTION__ASK_STATE);
SAME(WIRE_ASK_KNOWN, QUESTION__ASK_KNOWN);
SAME(WIRE_ASK_STANDS, QUESTION__ASK_STANDS);
SAME(WIRE_ASK_AGENT, QUESTION__ASK_AGENT);
SAME(WIRE_BEAT, MESSAGE__BODY_BEAT);
SAME(WIRE_CHANGES, MESSAGE__BODY_CHANGES);
SAME(WIRE_ACTIVITY, MESSAGE__BODY_ACTIVITY);
SAME(WIRE_ASK, MESSAGE__BODY_ASK);
SAME(WIRE_CHUNK, MESSAGE__BODY_CHUNK);
SAME(WIRE_KNOWN, MESSAGE__BODY_KNOWN);
SAME(WIRE_FORGET, MESSAGE__BODY_FORGET);
SAME(WIRE_EVIDENCE, MESSAGE__BODY_EVIDENCE);
/* The statuses of Evidence are said in words in the format. */
_Static_assert(PRESENCE_UNKNOWN == 0 && PRESENCE_MISSING == 1 && PRESENCE_ALIVE == 2, "statuses");

const char *wire_strerror(int error)
{
    switch (error) {
    case WIRE_OK:
        return "no error";
    case WIRE_E_MALFORMED:
        return "malformed message";
    case WIRE_E_VERSION:
        return "message of a newer version";
    case WIRE_E_UNKNOWN:
        return "message of an unknown kind";
    case WIRE_E_TOO_LONG:
        return "message too long";
    case WIRE_E_NO_MEMORY:
        return "out of memory";
    default:
        return "unknown error";
    }
}

/* ------------------------------------------------------------------------------------------------------ lengths -- */

/* Each field is its number and type in one byte, then its contents; what is zero or empty is left out. */
enum {
    FIXED64_FIELD = 1 + 8,
    SMALL_FIELD = 1 + 1,
    ELEMENT_HEAD = 1 + 2,
    USUAL_AGE_FIELD = 1 + 5,
    NANOSECONDS_FIELD = 1 + 3
};

static size_t number_field(uint64_t number)
{
    size_t bytes = 1;
    for (uint64_t left = number; left; left >>= 7)
        bytes++;
    return number ? bytes : 0;
}

static size_t text_field(const char *text)
{
    size_t length = text ? strlen(text) : 0;
    return length ? number_field(length) + length : 0;
}

/* A model is listed once for all that name it, in its place by one of few numbers; half of it is never too little nor
 * too much by half of what the rest takes. */
static size_t shared_model(const char *model)
{
    return text_field(model) / 2 + SMALL_FIELD;
}

size_t wire_change_bytes(const presence_change *change)
{
    size_t bytes = ELEMENT_HEAD + SMALL_FIELD + FIXED64_FIELD;
    const presence_value *value = &change->value;
    switch (change->kind) {
    case PRESENCE_CHANGE_CONNECT:
        return bytes + number_field(value->connection_id) + shared_model(value->model) + text_field(value->agent) +
               text_field(value->user_data) + (value->controller_agent ? SMALL_FIELD : 0);
    case PRESENCE_CHANGE_DISCONNECT:
        return bytes + number_field(value->connection_id);
    default:
        return bytes + SMALL_FIELD;
    }
}

size_t wire_value_bytes(const presence_value *value, bool model_was_before)
{
    return ELEMENT_HEAD + number_field(value->connection_id) + SMALL_FIELD +
           (model_was_before ? 0 : text_field(value->model)) + text_field(value->agent) + text_field(value->user_data) +
           (value->controller_agent ? SMALL_FIELD : 0) + (value->status == PRESENCE_ALIVE ? 0 : SMALL_FIELD) +
           USUAL_AGE_FIELD + NANOSECONDS_FIELD;
}
