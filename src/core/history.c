/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history.c - the ring of changes; see history.h. No locks of its own: the recorder's mutex is held.
 *
 * Keeps true: records lie whole in the ring, in order, from tail to head; a record that does not fit before the ring's
 * end is preceded by a filler; at most HISTORY_MOST_BULKS records hold snapshots, so what they pin is bounded; tail <=
 * watched <= head, and a record of many holds snapshots exactly if it lies at or above `watched`.
 */
#include "history.h"

#include <assert.h>

enum { LINE_BYTES = 64, AHEAD_BYTES = 320 };

/* A large ring stands on huge pages where the system has them: it is written from end to end, and at 4 KiB a page the
 * first time round would cost more in faults than in changes. */
static size_t alignment_of(size_t bytes)
{
    return bytes < ARENA_CHUNK_BYTES ? _Alignof(max_align_t) : ARENA_CHUNK_BYTES;
}

bool history_open(struct history *history, const presence_allocator *memory, size_t bytes, uint64_t revision)
{
    size_t step = bytes < ARENA_CHUNK_BYTES ? 8 : ARENA_SPAN_BYTES; /* whole pages of the system, of a large one */
    if (bytes > SIZE_MAX / 2)
        return false;
    bytes = bytes < HISTORY_LEAST_BYTES ? HISTORY_LEAST_BYTES : (bytes + step - 1) / step * step;
    history->ring = memory->allocate(memory->context, bytes, alignment_of(bytes));
    if (!history->ring)
        return false;
    history->bytes = bytes;
    history->first_revision = revision;
    return true;
}

static struct history_record *at(const struct history *history, uint64_t position)
{
    return (struct history_record *)(void *)(history->ring + position % history->bytes);
}

static void release_snapshots(struct history *history, struct history_record *record)
{
    record->view_before->history_holders--;
    record->view_after->history_holders--;
    snapshot_release(record->view_before);
    snapshot_release(record->view_after);
    record->view_before = record->view_after = NULL;
    history->bulks--;
}

/* One record more that watches cannot use. */
static void pass_watched(struct history *history)
{
    struct history_record *record = at(history, history->watched);
    if (record->kind == HISTORY_BULK)
        release_snapshots(history, record);
    if (record->kind != HISTORY_FILLER)
        history->first_revision = record->revision;
    history->watched += record->bytes;
}

static void drop_oldest(struct history *history)
{
    if (history->watched == history->tail)
        pass_watched(history);
    history->tail += at(history, history->tail)->bytes;
}

void history_drop_bulk(struct history *history)
{
    uint32_t bulks = history->bulks;
    while (bulks > 0 && history->bulks == bulks)
        pass_watched(history);
}

void history_clear(struct history *history, uint64_t revision)
{
    while (history->tail < history->head)
        drop_oldest(history);
    history->first_revision = revision;
    memset(history->marks, 0, sizeof history->marks);
}

void history_close(struct history *history, const presence_allocator *memory)
{
    if (!history->ring)
        return;
    history_clear(history, history->first_revision);
    memory->release(memory->context, history->ring, history->bytes, alignment_of(history->bytes));
    history->ring = NULL;
    history->bytes = 0;
}

/* Makes room for a record of so many bytes in one piece; returns where. */
static uint64_t make_room(struct history *history, size_t bytes)
{
    size_t left = history->bytes - history->head % history->bytes;
    size_t needed = left < bytes ? left + bytes : bytes;
    assert(needed < history->bytes);
    while (history->head + needed - history->tail > history->bytes)
        drop_oldest(history);
    if (left < bytes) {
        /* A filler may be shorter than a record: only its first words are written and read. */
        struct history_record *filler = at(history, history->head);
        filler->bytes = (uint32_t)left;
        filler->kind = HISTORY_FILLER;
        history->head += left;
    }
    return history->head;
}

static size_t put(char **to, const char *from)
{
    size_t length = from ? strlen(from) : 0;
    if (length)
        memcpy(*to, from, length);
    (*to)[length] = '\0';
    *to += length + 1;
    return length;
}

/* What stands at the head of a large ring was touched last one round ago: the lines of the next record are asked for,
 * and with them the oldest record, which goes for it. */
static void prefetch_next(const struct history *history)
{
    const char *next = history->ring + history->head % history->bytes;
    size_t left = history->bytes - history->head % history->bytes;
    for (size_t ahead = 0; ahead < AHEAD_BYTES && ahead < left; ahead += LINE_BYTES)
        __builtin_prefetch(next + ahead, 1);
}

struct history_record *history_append(struct history *history, const struct history_record *record,
                                      const presence_value *value)
{
    size_t strings = (value->model ? strlen(value->model) : 0) + (value->server ? strlen(value->server) : 0) +
                     (value->agent ? strlen(value->agent) : 0) + (value->user_data ? strlen(value->user_data) : 0) + 4;
    size_t bytes = (sizeof *record + strings + 7) & ~(size_t)7;
    if (record->kind == HISTORY_BULK) {
        while (history->bulks >= HISTORY_MOST_BULKS)
            pass_watched(history);
        history->bulks++;
        record->view_before->history_holders++;
        record->view_after->history_holders++;
    }
    uint64_t position = make_room(history, bytes);
    struct history_record *fresh = at(history, position);
    memcpy(fresh, record, sizeof *record);
    fresh->bytes = (uint32_t)bytes;
    char *to = fresh->strings;
    fresh->model_length = (uint16_t)put(&to, value->model);
    fresh->server_length = (uint16_t)put(&to, value->server);
    fresh->agent_length = (uint16_t)put(&to, value->agent);
    fresh->data_length = (uint16_t)put(&to, value->user_data);
    size_t stretch = history->bytes / HISTORY_MARKS;
    if (position / stretch != (history->head + bytes) / stretch || position == 0)
        history->marks[(position / stretch) % HISTORY_MARKS] = (struct history_mark){position, fresh->revision};
    history->head += bytes;
    prefetch_next(history);
    return fresh;
}

const struct history_record *history_at(const struct history *history, uint64_t *position)
{
    while (*position < history->head) {
        const struct history_record *record = at(history, *position);
        if (record->kind != HISTORY_FILLER)
            return record;
        *position += record->bytes;
    }
    return NULL;
}

uint64_t history_find(const struct history *history, uint64_t revision)
{
    uint64_t from = history->tail;
    for (size_t i = 0; i < HISTORY_MARKS; i++) {
        const struct history_mark *mark = &history->marks[i];
        if (mark->position > from && mark->position < history->head && mark->revision <= revision)
            from = mark->position;
    }
    const struct history_record *record;
    while ((record = history_at(history, &from)) && record->revision <= revision)
        from += record->bytes;
    return from;
}
