/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framing.h - where the requests of a connection begin and end (RFC 9112), before evhttp sees a byte of them.
 *
 * evhttp reads heads leniently, and answers what it cannot read by pages of HTML. A proxy that reads the same bytes in
 * another way would take a part of one request for the next one (request smuggling). So what a client sends is read
 * strictly here, and what evhttp is given is written anew: whole heads, lengths as plain digits, chunks without
 * extensions, no trailers. What is refused is replaced by a request that stands for it, so that it is answered in its
 * turn, by a problem document; nothing behind it is looked at.
 *
 * No I/O. Belongs to one connection; O(bytes), of which at most a head is kept.
 */
#ifndef DAEMON_HTTP_FRAMING_H
#define DAEMON_HTTP_FRAMING_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

struct framing_problem {
    int status;
    const char *detail;
};

struct framing {
    size_t most_head_bytes, most_body_bytes;
    enum framing_stage {
        FRAMING_REQUEST_LINE,
        FRAMING_FIELDS,
        FRAMING_BODY,
        FRAMING_CHUNK_LINE,
        FRAMING_CHUNK,
        FRAMING_CHUNK_END,
        FRAMING_TRAILERS,
        FRAMING_REFUSED,
    } stage;
    struct bytes line; /* the beginning of a line whose end is to come */
    struct bytes head; /* written anew, until it is whole */
    size_t head_bytes; /* as they came, of the head and the trailers */
    uint64_t left;     /* of the body or the chunk */
    uint64_t body_bytes;
    unsigned seen;                         /* of this head: an enum of framing.c */
    uint64_t requests;                     /* that evhttp was given, with the one that stands for what was refused */
    const struct framing_problem *problem; /* of the last of them. NULL: nothing is refused */
};

/* Zeroed but for its two limits, a framing is at its beginning. */
void framing_free(struct framing *framing);
/* Reads `length` bytes more. Appends what evhttp may see to `out`, which fails where memory is out. */
void framing_take(struct framing *framing, const char *data, size_t length, struct bytes *out);
/* Whether `length` bytes more are of a body, and need no change: if so, they are counted, and need not be read. */
bool framing_skip(struct framing *framing, size_t length);
/* Whether nothing of a next request has come. */
bool framing_is_between(const struct framing *framing);

#endif
