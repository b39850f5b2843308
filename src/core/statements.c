/* SPDX-License-Identifier: Apache-2.0 */
/*
 * statements.c - what this recorder states itself, of all its servers, in one feed for a replication layer.
 *
 * A reader is a position in the history that stops only at numbered changes of servers that nobody else states. It
 * copies a stretch of them under the mutex, then the caller works on the copy. At the head it *waits*: then it is by
 * definition at the head, so what others state costs it nothing and never makes it lag; the next change that is stated
 * here sets its position and makes its descriptor readable, once.
 *
 * Keeps true: a waiting reader has no position, and its descriptor is not readable; that of any other is. Writers never
 * wait for a reader, and pay for it only where one waits. One thread at a time uses one reader; the writer touches it
 * under the mutex only while it waits.
 */
#include "recorder.h"

#include <sys/eventfd.h>
#include <unistd.h>

enum { STRETCH_BYTES = 128 * 1024, RECORDS_A_LOCK = 512 };

struct presence_statement_reader {
    struct presence_recorder *recorder;
    struct presence_statement_reader *next, **link;
    uint64_t instance, position;
    int fd;
    bool waiting;
    char *buffer; /* records, copied whole */
    size_t bytes, used, at;
};

static void stop_waiting(struct presence_statement_reader *reader)
{
    reader->waiting = false;
    reader->recorder->statement_readers_waiting--;
}

void statements_notify(struct presence_recorder *recorder, const struct history_record *record)
{
    for (struct presence_statement_reader *reader = recorder->statement_readers; reader; reader = reader->next) {
        if (!reader->waiting)
            continue;
        stop_waiting(reader);
        reader->position = recorder->history.head - (record ? record->bytes : 0);
        uint64_t one = 1;
        ssize_t written = write(reader->fd, &one, sizeof one); /* cannot fail: it was not readable */
        (void)written;
    }
}

/* With the lock held: from here on. */
static void begin_at_head(struct presence_statement_reader *reader)
{
    reader->instance = reader->recorder->instance;
    reader->position = reader->recorder->history.head;
}

/* ------------------------------------------------------------------------------------------------ open and close -- */

static void free_parts(struct presence_statement_reader *reader)
{
    const presence_allocator *memory = &reader->recorder->memory;
    if (reader->fd >= 0)
        close(reader->fd);
    memory_give(memory, reader->buffer, reader->bytes);
    memory_give(memory, reader, sizeof *reader);
}

/* With the lock held. False: no memory for a history. */
static bool enlist(struct presence_statement_reader *reader)
{
    struct presence_recorder *recorder = reader->recorder;
    struct history *history = &recorder->history;
    uint64_t now = recorder->registry->now.revision;
    if (!history->ring && !history_open(history, &recorder->memory, HISTORY_WATCH_BYTES, now))
        return false;
    begin_at_head(reader);
    reader->next = recorder->statement_readers;
    if (reader->next)
        reader->next->link = &reader->next;
    reader->link = &recorder->statement_readers;
    recorder->statement_readers = reader;
    return true;
}

int presence_replica_statements(presence_recorder *recorder, presence_statement_reader **reader)
{
    if (!recorder || !reader)
        return PRESENCE_E_INVALID;
    struct presence_statement_reader *made = memory_take(&recorder->memory, sizeof *made);
    if (!made)
        return PRESENCE_E_NO_MEMORY;
    *made = (struct presence_statement_reader){.recorder = recorder, .bytes = STRETCH_BYTES, .fd = -1};
    made->buffer = memory_take(&recorder->memory, made->bytes);
    int code = made->buffer ? PRESENCE_OK : PRESENCE_E_NO_MEMORY;
    if (!code) {
        made->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        code = made->fd >= 0 ? PRESENCE_OK : PRESENCE_E_SYSTEM;
    }
    if (!code) {
        recorder_lock(recorder);
        code = enlist(made) ? PRESENCE_OK : PRESENCE_E_NO_MEMORY;
        recorder_unlock(recorder);
    }
    if (code)
        free_parts(made);
    else
        *reader = made;
    return code;
}

void presence_statement_reader_free(presence_statement_reader *reader)
{
    if (!reader)
        return;
    struct presence_recorder *recorder = reader->recorder;
    recorder_lock(recorder);
    if (reader->waiting)
        stop_waiting(reader);
    *reader->link = reader->next;
    if (reader->next)
        reader->next->link = reader->link;
    history_close_if_unused(recorder);
    recorder_unlock(recorder);
    free_parts(reader);
}

int presence_statement_fd(const presence_statement_reader *reader)
{
    return reader->fd;
}

/* ---------------------------------------------------------------------------------------------------------- read -- */

/* With the lock held: nothing more until a writer, or who enables the recorder, takes it out of this. */
static int start_waiting(struct presence_statement_reader *reader)
{
    if (reader->waiting)
        return 0;
    reader->waiting = true;
    reader->recorder->statement_readers_waiting++;
    uint64_t told;
    ssize_t had = read(reader->fd, &told, sizeof told); /* cannot fail: who does not wait is readable */
    (void)had;
    return 0;
}

/* With the lock held. 1: something was copied; 0: nothing more, it waits; 2: the stretch is over; or NO_MEMORY: the
 * next record does not fit, *needed says how much it takes. */
static int copy_stretch(struct presence_statement_reader *reader, size_t *needed)
{
    const struct history *history = &reader->recorder->history;
    for (unsigned i = 0; i < RECORDS_A_LOCK; i++) {
        const struct history_record *record = history_at(history, &reader->position);
        if (!record)
            return reader->used > 0 ? 1 : start_waiting(reader);
        if (record->stated_here) {
            if (reader->used + record->bytes > reader->bytes) {
                *needed = record->bytes;
                return reader->used > 0 ? 1 : PRESENCE_E_NO_MEMORY;
            }
            memcpy(reader->buffer + reader->used, record, record->bytes);
            reader->used += record->bytes;
        }
        reader->position += record->bytes;
    }
    return reader->used > 0 ? 1 : 2;
}

/* With the lock held: as copy_stretch, or LAGGED, or DISABLED. */
static int look(struct presence_statement_reader *reader, size_t *needed)
{
    struct presence_recorder *recorder = reader->recorder;
    if (!recorder_enabled(recorder)) {
        start_waiting(reader);
        return PRESENCE_E_DISABLED;
    }
    if (reader->waiting)
        return 0;
    if (reader->instance != recorder->instance || reader->position < recorder->history.tail) {
        begin_at_head(reader);
        return PRESENCE_E_LAGGED;
    }
    return copy_stretch(reader, needed);
}

/* 1, 0, or an error. */
static int fill_buffer(struct presence_statement_reader *reader)
{
    struct presence_recorder *recorder = reader->recorder;
    for (;;) {
        size_t needed = 0;
        reader->used = reader->at = 0;
        recorder_lock(recorder);
        int found = look(reader, &needed);
        recorder_unlock(recorder);
        if (found == 2)
            continue; /* a stretch of what others state: writers came in between */
        if (found != PRESENCE_E_NO_MEMORY)
            return found;
        char *larger = memory_take(&recorder->memory, needed);
        if (!larger)
            return PRESENCE_E_NO_MEMORY;
        memory_give(&recorder->memory, reader->buffer, reader->bytes);
        reader->buffer = larger;
        reader->bytes = needed;
    }
}

static void fill_statement(const struct history_record *record, presence_statement *statement)
{
    bool whole = record->change == HISTORY_WHOLE;
    *statement = (presence_statement){
        .server = history_server(record),
        .claim = record->claim,
        .whole = whole,
        .change = {.number = record->number,
                   .kind = whole ? (presence_change_kind)0 : (presence_change_kind)record->change,
                   .reason =
                       record->change == PRESENCE_CHANGE_DOWN ? (presence_reason)record->reason : PRESENCE_REASON_NONE,
                   .time = record->time,
                   .value = {.model = history_model(record),
                             .server = history_server(record),
                             .agent = history_agent(record),
                             .user_data = history_data(record),
                             .connection_id = record->id,
                             .last_seen = record->last_seen,
                             .status = (presence_status)record->status,
                             .controller_agent = record->controller}},
    };
}

int presence_statements_read(presence_statement_reader *reader, presence_statement *statements, size_t most,
                             size_t *count)
{
    if (!reader || !statements || most == 0 || !count)
        return PRESENCE_E_INVALID;
    *count = 0;
    if (reader->at == reader->used) {
        int found = fill_buffer(reader);
        if (found <= 0)
            return found;
    }
    while (*count < most && reader->at < reader->used) {
        const struct history_record *record =
            (const struct history_record *)(const void *)(reader->buffer + reader->at);
        fill_statement(record, &statements[(*count)++]);
        reader->at += record->bytes;
    }
    return PRESENCE_OK;
}
