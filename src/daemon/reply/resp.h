/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resp.h - replies in RESP2 and RESP3, appended to a buffer.
 */
#ifndef DAEMON_REPLY_RESP_H
#define DAEMON_REPLY_RESP_H

#include "base/bytes.h"
#include "reply/reply.h"

struct resp_reply {
    struct reply reply; /* first: a struct reply of this writer is a struct resp_reply */
    struct bytes *out;
    int version;   /* 2 or 3 */
    size_t errors; /* said so far */
};

void resp_reply_init(struct resp_reply *reply, struct bytes *out, int version);

#endif
