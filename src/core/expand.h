/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expand.h - the single events of a change of many connections, found from the snapshots before and after it.
 *
 * One owner, no lock: it holds both snapshots. First every connection that was there before, then those that are new.
 */
#ifndef EXPAND_H
#define EXPAND_H

#include "recorder.h"

struct expansion {
    struct snapshot *before, *after; /* held; NULL: nothing is being expanded */
    presence_connections *were, *are;
    presence_cursor cursor;
    bool second; /* in the connections that are there after the change */
    presence_reason reason;
    presence_time time;
};

struct expand_filter {
    const char *server, *model, *agent; /* model and agent may be NULL */
    bool agents;
};

/* Takes one more hold on each snapshot. False: out of memory, nothing is held. */
bool expansion_start(struct expansion *expansion, const presence_allocator *memory, struct snapshot *before,
                     struct snapshot *after, const struct expand_filter *filter, presence_reason reason,
                     presence_time time);
/* True: kind, reason, time, value and statuses of *event are filled; strings live until expansion_end. */
bool expansion_next(struct expansion *expansion, const struct expand_filter *filter, presence_event *event);
void expansion_end(struct expansion *expansion);

#endif
