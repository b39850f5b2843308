/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - replies in JSON: over HTTP, in Server-Sent Events, and as the payload of RESP2's messages.
 *
 * A reply is gathered as a tree of jansson's, and dumped once it is whole. An error is kept apart, for who sends it
 * wants its status first. One thread at a time; O(what is said).
 */
#ifndef DAEMON_REPLY_JSON_H
#define DAEMON_REPLY_JSON_H

#include "base/bytes.h"
#include "reply/reply.h"

#include <jansson.h>

enum { JSON_REPLY_DEPTH = 8, JSON_REPLY_ERROR_BYTES = 512 };

struct json_reply {
    struct reply reply; /* first: a struct reply of this writer is a struct json_reply */
    json_t *root;       /* what was said; NULL: nothing yet, or an error */
    struct {
        json_t *container; /* in the root */
        size_t left;       /* items still to come */
    } open[JSON_REPLY_DEPTH];
    size_t depth;
    const char *key; /* of the next value, in an object */
    bool failed;     /* out of memory, or text that is not UTF-8 */
    bool is_error;
    enum error_word error;
    char error_text[JSON_REPLY_ERROR_BYTES];
};

void json_reply_init(struct json_reply *reply);
/* Frees what was said. The struct may be used again after json_reply_init. */
void json_reply_free(struct json_reply *reply);
/* The whole reply as compact JSON on one line, behind what is in `out`. False: there is none, or memory is out. */
bool json_reply_dump(const struct json_reply *reply, struct bytes *out);

/* RFC 3339 in UTC with milliseconds: "2026-11-22T20:29:10.123Z". */
enum { TIME_TEXT_BYTES = 40 };
void time_to_text(presence_time time, char text[TIME_TEXT_BYTES]);

#endif
