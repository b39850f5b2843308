/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freshness.h - how sure an answer is, as members of a map.
 */
#ifndef DAEMON_REPLY_FRESHNESS_H
#define DAEMON_REPLY_FRESHNESS_H

#include "reply/reply.h"

#include <presence/cluster.h>

/* Three members: freshness, stale_since, stale_because. */
enum { FRESHNESS_MEMBERS = 3 };
void reply_freshness(struct reply *reply, const presence_freshness *freshness);

#endif
