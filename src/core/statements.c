/* SPDX-License-Identifier: Apache-2.0 */
/*
 * statements.c - what this recorder states itself, of all its servers, in one feed for a replication layer.
 *
 * A reader is a position in the history that stops only at numbered changes of servers that nobody else states. It
 * copies a stretch of them under the mutex, then the caller works on the copy. At the head it waits: the next such
 * change makes its descriptor readable, once.
 *
 * Keeps true: a waiting reader has seen all up to the head. Writers never wait for a reader, and pay for it only where
 * one waits. One thread at a time uses one reader.
 */
#include "recorder.h"

#include <sys/eventfd.h>
#include <unistd.h>

enum { STRETCH_BYTES = 64 * 1024, RECORDS_A_LOCK = 1024 };

struct presence_statement_reader {
    struct presence_recorder *recorder;
    struct presence_statement_reader *next, **link;
    uint64_t instance, position;
    int fd;
    bool waiting;
    char *buffer; /* records, copied whole */
    size_t bytes, used, at;
};

void statements_notify(struct presence_recorder *recorder)
{
    for (struct presence_statement_reader *reader = recorder->statement_readers; reader; reader = reader->next) {
        if (!reader->waiting)
            continue;
        reader->waiting = false;
        recorder->statement_readers_waiting--;
        uint64_t one = 1;
        ssize_t written = write(reader->fd, &one, sizeof one); /* fails only if it is readable already */
        (void)written;
    }
}

/* With the lock held: from here on. */
static void begin_at_head(struct presence_statement_reader *reader)
{
    reader->instance = reader->recorder->instance;
    reader->position = reader->recorder->history.head;
    reader->used = reader->at = 0;
}

int presence_replica_statements(presence_recorder *recorder, presence_statement_reader **reader)
{
    if (!recorder || !reader)
        return PRESENCE_E_INVALID;
    struct presence_statement_reader *made = memory_take(&recorder->memory, sizeof *made);
    if (!made)
        return PRESENCE_E_NO_MEMORY;
    *made = (struct presence_statement_reader){.recorder = recorder, .bytes = STRETCH_BYTES};
    made->buffer = memory_take(&recorder->memory, made->bytes);
    made->fd = made->buffer ? eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    recorder_lock(recorder);
    bool opened = made->fd >= 0 &&
                  (recorder->history.ring || history_open(&recorder->history, &recorder->memory, HISTORY_WATCH_BYTES,
                                                          recorder->registry->now.revision));
    if (opened) {
        begin_at_head(made);
        made->next = recorder->statement_readers;
        if (made->next)
            made->next->link = &made->next;
        made->link = &recorder->statement_readers;
        recorder->statement_readers = made;
        recorder->watches++;
    }
    recorder_unlock(recorder);
    if (!opened) {
        if (made->fd >= 0)
            close(made->fd);
        memory_give(&recorder->memory, made->buffer, made->bytes);
        memory_give(&recorder->memory, made, sizeof *made);
        return PRESENCE_E_NO_MEMORY;
    }
    *reader = made;
    return PRESENCE_OK;
}

void presence_statement_reader_free(presence_statement_reader *reader)
{
    if (!reader)
        return;
    struct presence_recorder *recorder = reader->recorder;
    recorder_lock(recorder);
    *reader->link = reader->next;
    if (reader->next)
        reader->next->link = reader->link;
    recorder->statement_readers_waiting -= reader->waiting;
    recorder->watches--;
    history_close_if_unused(recorder);
    recorder_unlock(recorder);
    close(reader->fd);
    memory_give(&recorder->memory, reader->buffer, reader->bytes);
    memory_give(&recorder->memory, reader, sizeof *reader);
}

int presence_statement_fd(const presence_statement_reader *reader)
{
    return reader->fd;
}

/* With the lock held. False: the next record does not fit; *needed says how much it takes. */
static bool copy_stretch(struct presence_statement_reader *reader, size_t *needed)
{
    const struct history *history = &reader->recorder->history;
    for (unsigned i = 0; i < RECORDS_A_LOCK; i++) {
        const struct history_record *record = history_at(history, &reader->position);
        if (!record) {
            if (reader->used == 0 && !reader->waiting) {
                reader->waiting = true;
                reader->recorder->statement_readers_waiting++;
            }
            return true;
        }
        if (record->stated_here) {
            if (reader->used + record->bytes > reader->bytes) {
                *needed = record->bytes;
                return reader->used > 0;
            }
            memcpy(reader->buffer + reader->used, record, record->bytes);
            reader->used += record->bytes;
        }
        reader->position += record->bytes;
    }
    return true;
}

/* With the lock held: OK, LAGGED, or DISABLED. */
static int look(struct presence_statement_reader *reader, size_t *needed)
{
    struct presence_recorder *recorder = reader->recorder;
    if (reader->waiting) {
        reader->waiting = false;
        recorder->statement_readers_waiting--;
    }
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (reader->instance != recorder->instance || reader->position < recorder->history.tail) {
        begin_at_head(reader);
        return PRESENCE_E_LAGGED;
    }
    return copy_stretch(reader, needed) ? PRESENCE_OK : PRESENCE_E_NO_MEMORY;
}

static int fill_buffer(struct presence_statement_reader *reader)
{
    struct presence_recorder *recorder = reader->recorder;
    uint64_t told;
    ssize_t had = read(reader->fd, &told, sizeof told); /* fails only if it was not readable */
    (void)had;
    for (;;) {
        size_t needed = 0;
        reader->used = reader->at = 0;
        recorder_lock(recorder);
        int code = look(reader, &needed);
        recorder_unlock(recorder);
        if (code == PRESENCE_OK && reader->used == 0 && !reader->waiting)
            continue; /* a stretch of what others state: let writers in between */
        if (code != PRESENCE_E_NO_MEMORY)
            return code;
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
    if (!reader || !count || (!statements && most > 0))
        return PRESENCE_E_INVALID;
    *count = 0;
    if (reader->at == reader->used) {
        int code = fill_buffer(reader);
        if (code)
            return code;
    }
    while (*count < most && reader->at < reader->used) {
        const struct history_record *record =
            (const struct history_record *)(const void *)(reader->buffer + reader->at);
        fill_statement(record, &statements[(*count)++]);
        reader->at += record->bytes;
    }
    return PRESENCE_OK;
}
