/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freshness.c - how sure an answer is, in the one way in which all commands say it. Any loop's thread. O(1).
 */
#include "reply/freshness.h"

void reply_freshness(struct reply *reply, const presence_freshness *freshness)
{
    static const char *const because[] = {
        [PRESENCE_STALE_JOINING] = "joining", [PRESENCE_STALE_DEAF] = "deaf", [PRESENCE_STALE_SILENT] = "silent"};
    bool fresh = freshness->doubt == PRESENCE_FRESH;
    reply_key(reply, "freshness");
    reply_word(reply, fresh ? "fresh" : "stale");
    reply_key(reply, "stale_since");
    reply_time(reply, fresh ? 0 : freshness->since);
    reply_key(reply, "stale_because");
    if (fresh)
        reply_null(reply);
    else
        reply_word(reply, because[freshness->doubt]);
}
