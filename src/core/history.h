/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history.h - the numbered list of changes: a ring of bytes, newest at the head, the oldest overwritten.
 *
 * Everyone who learns of changes (watches, replication) reads this list. A change of one connection is written out with
 * its strings, so that it needs nothing of the registry later. A change of many (a list, a server down) is one record
 * with the snapshots before and after it, from which readers find the single events.
 *
 * Positions are byte counts since the beginning of the list; a position below `tail` is no longer kept. Records below
 * `watched` are kept, but changes of many among them have let go of their snapshots: those who read changes and
 * statements can still use them, watches cannot.
 * Under the recorder's mutex. Appending never fails and is O(record); finding a revision is O(log marks + a stretch).
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "registry.h"

enum {
    HISTORY_LEAST_BYTES = 256 * 1024, /* a few of the largest records */
    HISTORY_WATCH_BYTES = 1024 * 1024,
    HISTORY_PINNED_BYTES = 4 * 1024 * 1024, /* what changes of many may pin in any case */
    HISTORY_MARKS = 256,
    HISTORY_MOST_BULKS = 32 /* records that hold snapshots */
};

enum history_kind { HISTORY_FILLER = 0, HISTORY_BULK = 64 };        /* else a presence_event_kind */
enum history_change { HISTORY_UNNUMBERED = 0, HISTORY_WHOLE = 64 }; /* else a presence_change_kind */

enum history_part { HISTORY_ALONE, HISTORY_OLD_HOLDER, HISTORY_NEW_HOLDER };

struct history_record {
    uint32_t bytes; /* of the record, a multiple of 8 */
    uint8_t kind, change, reason;
    uint8_t before, after; /* the agent's best status */
    uint8_t status, controller;
    uint8_t part; /* of a connection that went to another agent: HISTORY_OLD_HOLDER, then HISTORY_NEW_HOLDER */
    uint16_t model_length, server_length, agent_length, data_length;
    bool stated_here; /* numbered, and of a server that no other node states */
    uint64_t revision, number;
    presence_claim claim;
    presence_time time, last_seen;
    uint64_t id;
    struct snapshot *view_before, *view_after; /* of a bulk; NULL below `watched` */
    char strings[];                            /* model, server, agent, data, each with a NUL */
};

struct history_mark {
    uint64_t position, revision;
};

struct history {
    char *ring; /* NULL: no history is kept */
    size_t bytes;
    uint64_t head, tail, watched;
    uint64_t first_revision; /* all changes after this one are kept, as watches need them */
    uint32_t users;          /* watches open */
    uint32_t bulks;
    struct history_mark marks[HISTORY_MARKS];
};

/* False: out of memory. */
bool history_open(struct history *history, const presence_allocator *memory, size_t bytes, uint64_t revision);
void history_close(struct history *history, const presence_allocator *memory);
/* Forgets everything: all positions so far are no longer kept. */
void history_clear(struct history *history, uint64_t revision);
/* Appends; the strings come from `value` (its model and agent may be NULL). The record may be completed until the next
 * append. Takes over one hold on each snapshot. */
struct history_record *history_append(struct history *history, const struct history_record *record,
                                      const presence_value *value);
/* Lets go of the snapshots of the oldest change of many that has them: for watches it is no longer kept. */
void history_drop_bulk(struct history *history);
/* The record at a kept position, fillers skipped (*position is moved); NULL at the head. */
const struct history_record *history_at(const struct history *history, uint64_t *position);
/* The position of the first record of a revision above this one (at or above first_revision). */
uint64_t history_find(const struct history *history, uint64_t revision);

static inline const char *history_model(const struct history_record *r)
{
    return r->strings;
}
static inline const char *history_server(const struct history_record *r)
{
    return r->strings + r->model_length + 1;
}
static inline const char *history_agent(const struct history_record *r)
{
    return history_server(r) + r->server_length + 1;
}
static inline const char *history_data(const struct history_record *r)
{
    return history_agent(r) + r->agent_length + 1;
}

#endif
