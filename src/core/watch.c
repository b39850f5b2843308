/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - the feed of changes: each watch is a position in the history and a filter.
 *
 * A watch that has seen everything *waits*: it stands in a list that is keyed by the narrowest name of its filter, and
 * is by definition at the head of the history, so changes that do not concern it cost it nothing and it never falls
 * behind on them. The first change that matches takes it off the list, sets its position and makes its descriptor
 * readable. Then it reads on from its position, a bounded stretch at a time, up to where the history ended with the
 * last record of its list's names: what others changed since is passed over in one step. Without that step a watch
 * that is read late has more to look through, and so is read later still.
 *
 * Keeps true: a waiting watch has no position; a lagged one stays lagged; no record that a watch may match lies at or
 * above watch_end(watch). One thread at a time uses one watch; the writer touches it under the mutex only while it
 * waits. Writers never wait for a watch.
 */
#include "expand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { RECORDS_A_STRETCH = 256, ALL_KINDS = 0xfe & ~(1 << PRESENCE_EVENT_ACTIVITY) & ~(1 << PRESENCE_EVENT_AGENT) };

struct presence_watch {
    struct presence_recorder *recorder;
    struct presence_watch *next_waiting, **link_waiting; /* while it waits */
    struct presence_watch *next, **link;                 /* among all */
    char *names;                                         /* model, server, agent: one allocation */
    size_t names_bytes;
    const char *model, *server, *agent;
    enum watch_key key;
    uint64_t hash; /* of the name that it is keyed by */
    uint32_t kinds;
    bool agents, waiting;
    bool reset;  /* set by the writer, read under the mutex */
    bool lagged; /* the reader's own */
    int fd;
    uint64_t position;
    uint64_t opened;          /* the history's head then: its list may not tell of what lies before */
    uint64_t revision, index; /* told: all up to the revision, and `index` events of the one after it */
    uint64_t current;         /* the revision of the last event told, while it is not known to be its last */
    uint64_t skip_revision, skip;
    char *buffer; /* a copy of the last record told */
    size_t buffer_bytes;
    struct expansion expansion;
    uint64_t expanding;   /* its revision */
    uint64_t held_before; /* the new holder's record, where the old holder passes the filter too */
};

void presence_watch_options_init(presence_watch_options *options)
{
    *options = (presence_watch_options){.struct_bytes = sizeof *options, .from_now = true};
}

/* ------------------------------------------------------------------------------------------------------- waiting -- */

static struct watch_list *list_of_hash(const struct presence_recorder *recorder, enum watch_key key, uint64_t hash)
{
    return &recorder->watch_lists->of[key][hash % WATCH_LISTS];
}

static struct watch_list *list_of(const struct presence_watch *watch)
{
    struct presence_recorder *recorder = watch->recorder;
    return watch->key == WATCH_OF_ALL ? &recorder->watch_all : list_of_hash(recorder, watch->key, watch->hash);
}

static void set_key(struct presence_watch *watch)
{
    const char *const names[WATCH_KEYS] = {watch->model, watch->server, watch->agent};
    watch->key = WATCH_OF_MODEL;
    while (watch->key < WATCH_OF_ALL && !names[watch->key])
        watch->key++;
    if (watch->key < WATCH_OF_ALL)
        watch->hash = text_hash(watch->recorder->secret, names[watch->key], strlen(names[watch->key]));
}

/* Where the history ended with the last record that may be for this watch. */
static uint64_t watch_end(const struct presence_watch *watch)
{
    const struct presence_recorder *recorder = watch->recorder;
    uint64_t end = watch->key == WATCH_OF_ALL ? recorder->history.head : list_of(watch)->end;
    end = end > recorder->watch_bulk_end ? end : recorder->watch_bulk_end;
    return end > watch->opened ? end : watch->opened;
}

static void start_waiting(struct presence_watch *watch)
{
    struct watch_list *list = list_of(watch);
    watch->next_waiting = list->waiting;
    if (list->waiting)
        list->waiting->link_waiting = &watch->next_waiting;
    watch->link_waiting = &list->waiting;
    list->waiting = watch;
    watch->waiting = true;
}

static void stop_waiting(struct presence_watch *watch)
{
    *watch->link_waiting = watch->next_waiting;
    if (watch->next_waiting)
        watch->next_waiting->link_waiting = watch->link_waiting;
    watch->waiting = false;
}

static void signal_watch(const struct presence_watch *watch)
{
    if (watch->fd < 0)
        return;
    uint64_t one = 1;
    ssize_t written = write(watch->fd, &one, sizeof one); /* fails only if it is readable already */
    (void)written;
}

static bool name_matches(const char *wanted, const char *name, size_t length)
{
    return !wanted || (strlen(wanted) == length && memcmp(wanted, name, length) == 0);
}

/* By names alone. */
static bool concerns(const struct presence_watch *watch, const struct history_record *record)
{
    return name_matches(watch->server, history_server(record), record->server_length) &&
           name_matches(watch->model, history_model(record), record->model_length) &&
           name_matches(watch->agent, history_agent(record), record->agent_length);
}

/* May this record be something for the watch? The reader looks closer where a connection changes its holder. */
static bool matches(const struct presence_watch *watch, const struct history_record *record)
{
    if (record->kind == HISTORY_BULK)
        return name_matches(watch->server, history_server(record), record->server_length);
    if (watch->agents ? record->before == record->after
                      : record->part == HISTORY_ALONE && !(watch->kinds >> record->kind & 1))
        return false;
    return concerns(watch, record);
}

/* A connection goes from one agent to another in two records. A connection-level watch that both concern is told one
 * update; if it can see only the old holder, that it is gone; if only the new one, that it came. The record at
 * watch->position; 0: it is not for this watch. */
static int kind_for(struct presence_watch *watch, const struct history_record *record)
{
    if (watch->agents || record->part == HISTORY_ALONE)
        return record->kind;
    int kind = PRESENCE_EVENT_DISCONNECTED;
    if (record->part == HISTORY_OLD_HOLDER) {
        uint64_t following = watch->position + record->bytes;
        const struct history_record *holder = history_at(&watch->recorder->history, &following);
        if (holder && concerns(watch, holder)) {
            watch->held_before = following;
            return 0;
        }
    } else {
        kind = watch->held_before == watch->position ? PRESENCE_EVENT_UPDATED : PRESENCE_EVENT_CONNECTED;
    }
    return watch->kinds >> kind & 1 ? kind : 0;
}

static void wake_list(const struct presence_recorder *recorder, struct watch_list *list,
                      const struct history_record *record, const uint64_t *hash)
{
    for (struct presence_watch *watch = list->waiting, *next; watch; watch = next) {
        next = watch->next_waiting;
        if ((hash && watch->hash != *hash) || !matches(watch, record))
            continue;
        stop_waiting(watch);
        watch->position = recorder->history.head - record->bytes;
        signal_watch(watch);
    }
}

void watches_notify(struct presence_recorder *recorder, const struct history_record *record)
{
    const char *const names[WATCH_KEYS] = {history_model(record), history_server(record), history_agent(record)};
    const size_t lengths[WATCH_KEYS] = {record->model_length, record->server_length, record->agent_length};
    wake_list(recorder, &recorder->watch_all, record, NULL);
    for (enum watch_key key = 0; key < WATCH_KEYS; key++) {
        if (recorder->watches_of[key] == 0)
            continue;
        if (record->kind == HISTORY_BULK) {
            for (uint32_t i = 0; i < WATCH_LISTS; i++)
                wake_list(recorder, &recorder->watch_lists->of[key][i], record, NULL);
            continue;
        }
        uint64_t hash = text_hash(recorder->secret, names[key], lengths[key]);
        struct watch_list *list = list_of_hash(recorder, key, hash);
        list->end = recorder->history.head;
        wake_list(recorder, list, record, &hash);
    }
    if (record->kind == HISTORY_BULK)
        recorder->watch_bulk_end = recorder->history.head;
}

void watches_reset(struct presence_recorder *recorder)
{
    for (struct presence_watch *watch = recorder->all_watches; watch; watch = watch->next) {
        if (watch->waiting)
            stop_waiting(watch);
        watch->reset = true;
        if (watch->fd >= 0)
            signal_watch(watch);
    }
}

/* ------------------------------------------------------------------------------------------------ open and close -- */

static int copy_names(struct presence_watch *watch, const presence_watch_options *options)
{
    const char *given[3] = {options->model, options->server, options->agent};
    const char **kept[3] = {&watch->model, &watch->server, &watch->agent};
    size_t bytes = 0;
    for (unsigned i = 0; i < 3; i++)
        bytes += given[i] ? strlen(given[i]) + 1 : 0;
    if (bytes == 0)
        return PRESENCE_OK;
    watch->names = memory_take(&watch->recorder->memory, bytes);
    if (!watch->names)
        return PRESENCE_E_NO_MEMORY;
    watch->names_bytes = bytes;
    char *to = watch->names;
    for (unsigned i = 0; i < 3; i++) {
        if (!given[i])
            continue;
        size_t length = strlen(given[i]) + 1;
        *kept[i] = memcpy(to, given[i], length);
        to += length;
    }
    return PRESENCE_OK;
}

static int check_options(const presence_watch_options *options, presence_error *error)
{
    struct span ignored;
    int code = PRESENCE_OK;
    if (options->struct_bytes != sizeof *options)
        return recorder_error(error, PRESENCE_E_INVALID, "options were not filled by presence_watch_options_init");
    if (options->model)
        code = recorder_check_name("model", options->model, &ignored, error);
    if (!code && options->server)
        code = recorder_check_name("server", options->server, &ignored, error);
    if (!code && options->agent)
        code = recorder_check_name("agent", options->agent, &ignored, error);
    if (!code && options->kinds & ~(uint32_t)0xfe)
        code = recorder_error(error, PRESENCE_E_INVALID, "kinds 0x%x has bits of no event kind", options->kinds);
    if (!code && options->from_now && (options->after_revision || options->skip))
        code = recorder_error(error, PRESENCE_E_INVALID,
                              "from_now does not go with after_revision %llu and skip %llu: to resume, set it to false",
                              (unsigned long long)options->after_revision, (unsigned long long)options->skip);
    return code;
}

/* With the lock held: where the watch begins. */
static int find_start(struct presence_watch *watch, const presence_watch_options *options, presence_error *error)
{
    struct presence_recorder *recorder = watch->recorder;
    struct history *history = &recorder->history;
    uint64_t now = recorder->registry->now.revision;
    if (!recorder->watch_lists) {
        recorder->watch_lists = memory_take(&recorder->memory, sizeof *recorder->watch_lists);
        if (recorder->watch_lists)
            memset(recorder->watch_lists, 0, sizeof *recorder->watch_lists);
    }
    if (!recorder->watch_lists ||
        (!history->ring && !history_open(history, &recorder->memory, HISTORY_WATCH_BYTES, now)))
        return recorder_error_code(error, PRESENCE_E_NO_MEMORY);
    watch->opened = history->head;
    if (options->from_now) {
        watch->position = history->head;
        watch->revision = now;
        return PRESENCE_OK;
    }
    uint64_t after = options->after_revision;
    if (after > now || after < history->first_revision)
        return recorder_error(error, PRESENCE_E_LAGGED, "revision %llu is not within the history, %llu to %llu",
                              (unsigned long long)after, (unsigned long long)history->first_revision,
                              (unsigned long long)now);
    watch->position = history_find(history, after);
    watch->revision = after;
    watch->skip_revision = after + 1;
    watch->skip = watch->index = options->skip;
    return PRESENCE_OK;
}

static void drop_lists_if_unused(struct presence_recorder *recorder)
{
    if (recorder->watches)
        return;
    memory_give(&recorder->memory, recorder->watch_lists, sizeof *recorder->watch_lists);
    recorder->watch_lists = NULL;
}

/* One watch more, or (-1) fewer. */
static void count_watch(const struct presence_watch *watch, int one)
{
    struct presence_recorder *recorder = watch->recorder;
    uint64_t sign = (uint64_t)(int64_t)one; /* adding it modulo 2^64 adds or takes one */
    recorder->watches += sign;
    if (watch->key < WATCH_KEYS)
        recorder->watches_of[watch->key] += sign;
    if (!watch->agents && watch->kinds >> PRESENCE_EVENT_ACTIVITY & 1)
        recorder->activity_watches += sign;
}

void history_close_if_unused(struct presence_recorder *recorder)
{
    if (recorder->watches == 0 && !recorder->statement_readers && recorder->options.history_bytes == 0)
        history_close(&recorder->history, &recorder->memory);
}

int presence_watch_open(presence_recorder *recorder, const presence_watch_options *options, presence_watch **watch,
                        presence_error *error)
{
    presence_watch_options defaults;
    presence_watch_options_init(&defaults);
    if (!options)
        options = &defaults;
    if (!recorder || !watch)
        return recorder_error(error, PRESENCE_E_INVALID, "recorder or watch is NULL");
    int code = check_options(options, error);
    if (code)
        return code;
    struct presence_watch *made = memory_take(&recorder->memory, sizeof *made);
    if (!made)
        return recorder_error_code(error, PRESENCE_E_NO_MEMORY);
    *made =
        (struct presence_watch){.recorder = recorder, .fd = -1, .agents = options->agents, .held_before = UINT64_MAX};
    made->kinds = options->kinds ? options->kinds : ALL_KINDS;
    code = recorder_error_code(error, copy_names(made, options));
    if (!code) {
        set_key(made);
        recorder_lock(recorder);
        code = find_start(made, options, error);
        if (!code) {
            made->next = recorder->all_watches;
            if (made->next)
                made->next->link = &made->next;
            made->link = &recorder->all_watches;
            recorder->all_watches = made;
            count_watch(made, 1);
        }
        history_close_if_unused(recorder);
        drop_lists_if_unused(recorder);
        recorder_unlock(recorder);
    }
    if (code) {
        memory_give(&recorder->memory, made->names, made->names_bytes);
        memory_give(&recorder->memory, made, sizeof *made);
        return code;
    }
    *watch = made;
    return PRESENCE_OK;
}

void presence_watch_free(presence_watch *watch)
{
    if (!watch)
        return;
    struct presence_recorder *recorder = watch->recorder;
    expansion_end(&watch->expansion);
    recorder_lock(recorder);
    if (watch->waiting)
        stop_waiting(watch);
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
    count_watch(watch, -1);
    history_close_if_unused(recorder);
    drop_lists_if_unused(recorder);
    recorder_unlock(recorder);
    if (watch->fd >= 0)
        close(watch->fd);
    memory_give(&recorder->memory, watch->names, watch->names_bytes);
    memory_give(&recorder->memory, watch->buffer, watch->buffer_bytes);
    memory_give(&recorder->memory, watch, sizeof *watch);
}

int presence_watch_fd(presence_watch *watch)
{
    if (watch->fd >= 0)
        return watch->fd;
    recorder_lock(watch->recorder);
    watch->fd = eventfd(watch->waiting ? 0 : 1, EFD_CLOEXEC | EFD_NONBLOCK);
    recorder_unlock(watch->recorder);
    return watch->fd >= 0 ? watch->fd : PRESENCE_E_SYSTEM;
}

uint64_t presence_watch_revision(const presence_watch *watch, uint64_t *index)
{
    if (index)
        *index = watch->index;
    return watch->revision;
}

/* ---------------------------------------------------------------------------------------------------------- next -- */

/* True: this event is one of those that the caller saw before it resumed. */
static bool tell(struct presence_watch *watch, presence_event *event)
{
    if (event->revision <= watch->revision)
        return false; /* activity: it has no revision of its own, and the one it came at was told already */
    if (event->revision != watch->current) {
        watch->current = event->revision;
        watch->index = 0;
    }
    watch->revision = event->revision - 1;
    event->index = watch->index++;
    if (event->revision == watch->skip_revision && watch->skip > 0) {
        watch->skip--;
        return true;
    }
    return false;
}

/* The revision was told to its end. */
static void told_all(struct presence_watch *watch, uint64_t revision)
{
    if (revision >= watch->revision) {
        watch->revision = revision;
        watch->index = 0;
    }
}

static bool keep_copy(struct presence_watch *watch, const struct history_record *record)
{
    if (watch->buffer_bytes < record->bytes) {
        size_t bytes = record->bytes < 512 ? 512 : record->bytes;
        char *buffer = memory_take(&watch->recorder->memory, bytes);
        if (!buffer)
            return false;
        memory_give(&watch->recorder->memory, watch->buffer, watch->buffer_bytes);
        watch->buffer = buffer;
        watch->buffer_bytes = bytes;
    }
    memcpy(watch->buffer, record, record->bytes);
    return true;
}

static void event_of_copy(const struct presence_watch *watch, presence_event *event)
{
    const struct history_record *record = (const struct history_record *)(const void *)watch->buffer;
    *event = (presence_event){
        .revision = record->revision,
        .kind = watch->agents ? PRESENCE_EVENT_AGENT : (presence_event_kind)record->kind,
        .reason = (presence_reason)record->reason,
        .value = {.model = history_model(record),
                  .server = history_server(record),
                  .agent = history_agent(record),
                  .user_data = history_data(record),
                  .connection_id = record->id,
                  .last_seen = record->last_seen,
                  .status = (presence_status)record->status,
                  .controller_agent = record->controller && !watch->agents},
        .agent_before = (presence_status)record->before,
        .agent_after = (presence_status)record->after,
        .time = record->time,
    };
}

static int caught_up(struct presence_watch *watch)
{
    told_all(watch, watch->recorder->registry->now.revision);
    start_waiting(watch);
    if (watch->fd >= 0) {
        uint64_t count;
        ssize_t got = read(watch->fd, &count, sizeof count);
        (void)got;
    }
    return 0;
}

/* With the lock held. 1: a record was copied, or an expansion started; 0: caught up; 2: the stretch is over. */
static int read_stretch(struct presence_watch *watch)
{
    const struct history *history = &watch->recorder->history;
    const uint64_t end = watch_end(watch);
    if (watch->reset || (watch->position < history->watched && watch->position < end))
        return PRESENCE_E_LAGGED;
    for (unsigned i = 0; i < RECORDS_A_STRETCH; i++) {
        const struct history_record *record = watch->position < end ? history_at(history, &watch->position) : NULL;
        if (!record)
            return caught_up(watch);
        if (record->revision > watch->current && watch->current)
            told_all(watch, watch->current);
        int kind = matches(watch, record) ? kind_for(watch, record) : 0;
        if (!kind) {
            watch->position += record->bytes;
            continue;
        }
        if (record->kind == HISTORY_BULK) {
            struct expand_filter filter = {history_server(record), watch->model, watch->agent, watch->agents};
            if (!expansion_start(&watch->expansion, &watch->recorder->memory, record->view_before, record->view_after,
                                 &filter, (presence_reason)record->reason, record->time))
                return PRESENCE_E_NO_MEMORY;
            watch->expanding = record->revision;
        } else if (!keep_copy(watch, record)) {
            return PRESENCE_E_NO_MEMORY;
        } else {
            ((struct history_record *)(void *)watch->buffer)->kind = (uint8_t)kind;
        }
        watch->position += record->bytes;
        return 1;
    }
    return 2;
}

/* The next event of a change of many that passes the filter. */
static bool next_expanded(struct presence_watch *watch, presence_event *event)
{
    struct expand_filter filter = {NULL, watch->model, watch->agent, watch->agents};
    *event = (presence_event){.revision = watch->expanding};
    while (expansion_next(&watch->expansion, &filter, event))
        if (watch->agents || watch->kinds >> event->kind & 1) {
            event->revision = watch->expanding;
            if (!tell(watch, event))
                return true;
        }
    return false;
}

int presence_watch_next(presence_watch *watch, presence_event *event)
{
    for (;;) {
        if (watch->lagged)
            return PRESENCE_E_LAGGED;
        if (watch->expansion.before) {
            if (next_expanded(watch, event))
                return 1;
            expansion_end(&watch->expansion);
            watch->current = watch->expanding;
            told_all(watch, watch->expanding);
        }
        recorder_lock(watch->recorder);
        if (watch->waiting) {
            told_all(watch, watch->recorder->registry->now.revision);
            recorder_unlock(watch->recorder);
            return 0;
        }
        int found = read_stretch(watch);
        recorder_unlock(watch->recorder);
        watch->lagged = found == PRESENCE_E_LAGGED;
        if (found <= 0)
            return found;
        if (found == 1 && !watch->expansion.before) {
            event_of_copy(watch, event);
            if (!tell(watch, event))
                return 1;
        }
    }
}
