/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recorder.h - the recorder's inside: one mutex, one registry, one history, and the small memories beside them.
 *
 * Below this header nothing knows of locks between callers; above it nothing touches a registry but through it.
 *   recorder.c       life, single calls, handles, batches, live queries, statistics
 *   change.c         what one change of one connection or one server does, everywhere at once
 *   bulk.c           whole lists: staged in steps, visible in one
 *   connections.c    views and slices; rows are found by the cheapest index
 *   batch.c, keys.c  many single calls at once;  queries.c  live questions and statistics
 *   watch.c          the feed, with expand.c for changes of many
 *   replica.c        claims, numbers and states;  apply.c  numbered changes of others;  difference.c  what came since
 *   statements.c     the feed of what is stated here
 *   prefetch.c       hints that overlap cache misses
 *   memories.c       departures (for merge_server_since) and agents that left
 */
#ifndef RECORDER_H
#define RECORDER_H

#include "evidence.h"
#include "history.h"
#include "ids.h"
#include "lock.h"

/* ----------------------------------------------------------------------------------------------------- memories -- */

struct departure {
    uint64_t id, revision;
    uint32_t server;
    bool whole; /* a whole list was stated: every fate before it is settled by it */
};

struct departures {
    struct departure *at; /* ring of `room` */
    uint64_t first, next; /* sequence numbers */
    size_t room, most;
    uint64_t freed_revision; /* of servers that are no longer recorded: remembered only above this */
};

struct left_agent {
    uint64_t hash;
    char *names; /* model NUL agent NUL; NULL: unused */
    uint32_t names_bytes, agent_at;
    uint32_t next_in_bucket; /* + 1; also links the free entries */
    uint32_t older, newer;   /* + 1 */
    presence_time since, last_seen;
    presence_reason reason;
};

struct left_agents {
    struct left_agent *at;
    uint32_t *buckets;             /* entry + 1 */
    uint32_t free, oldest, newest; /* entry + 1 */
    size_t most, touched, count;   /* touched: entries from here on were never used */
    uint32_t bucket_mask;
};

/* The narrowest name of a watch's filter. */
enum watch_key { WATCH_OF_MODEL, WATCH_OF_SERVER, WATCH_OF_AGENT, WATCH_KEYS, WATCH_OF_ALL = WATCH_KEYS };
enum { WATCH_LISTS = 1024 };

/* Of the watches whose names fall into it: those that wait, and where the history ended with the last record that may
 * concern one of them. A watch that stands there or later has seen everything. */
struct watch_list {
    struct presence_watch *waiting;
    uint64_t end;
};

/* By the hash of the narrowest name: a change looks at few watches, and a watch at few changes of others. */
struct watch_lists {
    struct watch_list of[WATCH_KEYS][WATCH_LISTS];
};

struct presence_recorder {
    struct lock lock;
    pthread_cond_t settled; /* a bulk change of some server is through */
    atomic_bool enabled;
    presence_options options;
    presence_allocator memory;
    presence_clock clock;
    struct registry *registry;
    struct registry *spare_registry; /* empty, without a chunk: for presence_recorder_disable */
    struct history history;
    struct departures departures;
    struct left_agents left;
    struct watch_lists *watch_lists; /* NULL: there are no watches */
    struct watch_list watch_all;     /* of watches without any name */
    uint64_t watches_of[WATCH_KEYS]; /* open ones: where there is none, the ends are not kept */
    uint64_t watch_bulk_end;         /* as the lists' ends, of changes of many, which are for all */
    struct bulk *running;            /* lists being applied by some thread */
    uint64_t instance;               /* one for each enabled life: handles compare it */
    uint64_t secret[2];
    struct presence_watch *all_watches;
    uint64_t watches, activity_watches;
    struct presence_statement_reader *statement_readers;
    uint64_t statement_readers_waiting;
};

/* Wakes every waiting reader of statements: for a record just appended, or (NULL) to see that the recorder was disabled
 * or enabled. Under the mutex. */
void statements_notify(struct presence_recorder *recorder, const struct history_record *record);
/* The history goes where no option asks for it and nobody reads it. Under the mutex. */
void history_close_if_unused(struct presence_recorder *recorder);

/* Where memories belong. All under the mutex; they never fail: they forget instead. */
void departures_add(struct presence_recorder *recorder, uint32_t server, uint64_t id, bool whole);
void departures_clear(struct presence_recorder *recorder);
/* Drops a server of which nothing is recorded or remembered; what was forgotten of it stays known to be forgotten. */
void recorder_drop_idle_server(struct presence_recorder *recorder, uint32_t server);
/* The ids disconnected from the server after that revision: OK, LAGGED or NO_MEMORY. *whole: a whole list was stated
 * since. Free with id_set_free. */
int departures_since(struct presence_recorder *recorder, uint32_t server, uint64_t revision, struct id_set **set,
                     bool *whole);
/* The same as a list, in which an id may stand twice: LAGGED too where a whole list was stated since, or they are more
 * than `most`. */
int departures_list(struct presence_recorder *recorder, uint32_t server, uint64_t revision, uint64_t *ids, size_t most,
                    size_t *count);

bool left_init(struct presence_recorder *recorder);
void left_clear(struct presence_recorder *recorder);
void left_free(struct presence_recorder *recorder);
void left_add(struct presence_recorder *recorder, struct span model, struct span agent, presence_time since,
              presence_time last_seen, presence_reason reason);
void left_remove(struct presence_recorder *recorder, struct span model, struct span agent);
const struct left_agent *left_find(const struct presence_recorder *recorder, struct span model, struct span agent);

/* ------------------------------------------------------------------------------------------------------ locking -- */

static inline void recorder_lock(struct presence_recorder *recorder)
{
    lock_take(&recorder->lock);
}

static inline void recorder_unlock(struct presence_recorder *recorder)
{
    lock_give(&recorder->lock);
}

/* Between two steps of long work: lets those in who wait. The registry may be another one afterwards. */
void recorder_give_way(struct presence_recorder *recorder);

static inline presence_time recorder_now(const struct presence_recorder *recorder)
{
    return recorder->clock.now(recorder->clock.context);
}

static inline bool recorder_enabled(const struct presence_recorder *recorder)
{
    return atomic_load_explicit(&((struct presence_recorder *)(uintptr_t)recorder)->enabled, memory_order_relaxed);
}

/* The part of recorder_begin that is seldom needed. */
int recorder_begin_slowly(struct presence_recorder *recorder);

/* With the lock held, at the beginning of every change: enabled, memory reserved, released snapshots worked off. */
static inline int recorder_begin(struct presence_recorder *recorder)
{
    struct registry *registry = recorder->registry;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    registry->versions.written = true;
    registry->wanted_server = NONE;
    if (__builtin_expect(registry_drains(registry) || recorder->history.bulks || arena_is_short(&registry->arena), 0))
        return recorder_begin_slowly(recorder);
    return PRESENCE_OK;
}

/* A name and its hash, computed outside the lock. A name that is only looked up need not be valid. */
struct server_name {
    struct span span;
    uint64_t hash;
};

static inline struct server_name recorder_server_name(const struct presence_recorder *recorder, struct span name)
{
    return (struct server_name){name, text_hash(recorder->secret, name.bytes, name.length)};
}

/* With the lock held: waits for, or finishes, a list that is being applied to this server. The lock was given up
 * meanwhile: look everything up again, the registry too. (bulk.c) */
void bulk_wait(struct presence_recorder *recorder, uint32_t server);
/* Somebody is at it, or begins a state that comes in pieces. */
bool bulk_is_running(const struct presence_recorder *recorder, uint32_t server);

enum stating { STATE_LOCALLY, STATE_REMOTELY };

/* As recorder_begin, then finds the server for a local statement (or, remote: for its replication). False: a list is
 * being applied to it, which has to be waited for. *server is NONE if it is not recorded. DISABLED, STALE, NO_MEMORY,
 * LIMIT.
 * *when (NULL: nobody asks) is the time of what follows. Reading the clock waits for all loads under way, those of the
 * call before, too, but not for lines that are only asked for. So it comes after all that needs no line that is far:
 * what is done before it is done while the call before still waits, and the line asked for comes meanwhile. */
SINGLE_CALL static inline bool recorder_try_server(struct presence_recorder *recorder, struct server_name name,
                                                   enum stating stating, uint32_t *server, presence_time *when,
                                                   int *code)
{
    *code = recorder_begin(recorder);
    if (*code)
        return true;
    struct registry *registry = recorder->registry;
    *server = registry_server_now(registry, name.span, name.hash);
    const struct server *record = *server == NONE ? NULL : server_get(&registry->now, *server);
    bool stale = stating == STATE_LOCALLY && record && !server_is_stated_here(record);
    if (stale)
        *code = PRESENCE_E_STALE;
    if (when)
        *when = recorder_now(recorder);
    if (__builtin_expect(!record || record->bulk == BULK_NONE, 1))
        return true;
    return stale && bulk_is_running(recorder, *server); /* no list makes it local again: nothing to wait for */
}

/* The same, but waits for the list. */
static inline int recorder_begin_server(struct presence_recorder *recorder, struct server_name name,
                                        enum stating stating, uint32_t *server, presence_time *when)
{
    int code;
    while (!recorder_try_server(recorder, name, stating, server, when, &code))
        bulk_wait(recorder, *server);
    return code;
}

/* The server's number, adding it if need be. */
int recorder_add_server(struct presence_recorder *recorder, struct server_name name, uint32_t *server);

/* Writes `"what" why` into the error, if there is one; returns the code. */
int recorder_error(presence_error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The plain text of a code into the error, if there is one and the code is not OK. */
int recorder_error_code(presence_error *error, int code);
/* Checks and hashes one value; `index` names it in messages (-1: no list). INVALID or OK. */
int recorder_facts(const struct presence_recorder *recorder, const presence_value *value, struct facts *facts,
                   long index, presence_error *error);
int recorder_check_name(const char *what, const char *name, struct span *out, presence_error *error);

/* Single calls, with the lock held; for the batches. */
int recorder_connect_locked(struct presence_recorder *recorder, struct server_name server, const struct facts *facts,
                            presence_handle *handle, bool *is_new);
enum touch { TOUCH_ACTIVITY, TOUCH_DISCONNECT };
int recorder_touch_locked(struct presence_recorder *recorder, struct server_name server, uint64_t id, enum touch touch);
int recorder_touch_handle(struct presence_recorder *recorder, const presence_handle *handle, bool removing,
                          presence_time when);

/* The page of the row that a handle of this recorder names, which may be a later one by now. NULL: there is none, or
 * the handle's generation is that of no row. */
static inline const struct row_page *recorder_handle_page(const struct presence_recorder *recorder,
                                                          const presence_handle *handle, uint32_t *row)
{
    const struct shelf *rows = &recorder->registry->now.rows;
    *row = (uint32_t)(handle->opaque[1] >> 32);
    bool here = handle->opaque[3] >> INDEX_HASH_BITS == recorder->instance && (uint32_t)handle->opaque[1] &&
                *row < shelf_end(rows);
    return here ? shelf_page(rows, *row) : NULL;
}

/* Hints (prefetch.c), for single calls: each asks for what those before it made known. */
void recorder_prefetch_connection(const struct presence_recorder *recorder, struct server_name server, uint64_t id);
void recorder_prefetch_agent(const struct presence_recorder *recorder, const struct facts *facts);
void recorder_prefetch_model(const struct presence_recorder *recorder, const struct facts *facts);
void recorder_prefetch_row_place(const struct presence_recorder *recorder, uint32_t server);
void recorder_prefetch_model_of(const struct presence_recorder *recorder, uint32_t agent);
void recorder_prefetch_removal(const struct presence_recorder *recorder, uint32_t row, const struct row *record);
void recorder_prefetch_handle(const struct presence_recorder *recorder, const presence_handle *handle, bool removing);

/* What a batch is about to do, by the hashes of what it concerns. */
enum coming { AHEAD_ACTIVITY, AHEAD_DISCONNECT, AHEAD_CONNECT, AHEAD_STATUS };
struct ahead {
    enum coming coming;
    uint64_t connection;   /* but for AHEAD_STATUS */
    uint64_t model, agent; /* of a connect, or whose status is asked for */
};

enum { WAVE = 32 }; /* elements whose lines the nearest cache holds all at once */

static inline struct ahead recorder_connect_ahead(const struct presence_recorder *recorder, struct server_name server,
                                                  const struct facts *facts)
{
    const struct registry *registry = recorder->registry;
    return (struct ahead){.coming = AHEAD_CONNECT,
                          .connection = connection_hash(registry, server.hash, facts->id),
                          .model = facts->model_hash,
                          .agent = agent_hash(registry, facts->model_hash, facts->agent_hash)};
}

/* Ask for all that is worth asking for, for at most WAVE elements. */
void recorder_prefetch_wave(const struct presence_recorder *recorder, const struct ahead *ahead, size_t count);
void recorder_prefetch_handles(const struct presence_recorder *recorder, const presence_handle *handles, size_t count,
                               bool removing);

/* ------------------------------------------------------------------------------------------------------ changes -- */

/* One change of one connection: the lock is held, the server is free to be changed, memory is reserved. */
struct statement {
    uint32_t server;
    uint64_t number;        /* 0: the server's next */
    presence_time when;     /* stamp and time of the evidence */
    presence_reason reason; /* NONE: as it comes (connected, reconnected, left) */
};

int change_connect(struct presence_recorder *recorder, const struct statement *statement, const struct facts *facts,
                   uint32_t *row, bool *is_new);
void change_disconnect(struct presence_recorder *recorder, const struct statement *statement, uint32_t row);
void change_tell_activity(struct presence_recorder *recorder, uint32_t row, presence_time when);
static inline void change_activity(struct presence_recorder *recorder, uint32_t row, const struct row *record,
                                   presence_time when)
{
    row_edit_seen(recorder->registry, row, record)->last_seen = when;
    if (__builtin_expect(recorder->activity_watches && recorder->history.ring, 0))
        change_tell_activity(recorder, row, when);
}

/* A change of a whole server. Snapshots for the history are taken beforehand, since that can fail. */
struct whole_change {
    struct snapshot *before, *after; /* `after` is filled in at the end; both NULL when there is no history */
};
void whole_change_cancel(struct presence_recorder *recorder, struct whole_change *whole);
/* What the next two do where there is a history. */
int whole_change_take_view(struct presence_recorder *recorder, struct whole_change *whole);
void whole_change_tell(struct presence_recorder *recorder, struct whole_change *whole, uint32_t server,
                       enum history_change change, presence_reason reason, presence_time when);

static inline int whole_change_begin(struct presence_recorder *recorder, struct whole_change *whole)
{
    *whole = (struct whole_change){0};
    return recorder->history.ring ? whole_change_take_view(recorder, whole) : PRESENCE_OK;
}

static inline void whole_change_end(struct presence_recorder *recorder, struct whole_change *whole, uint32_t server,
                                    enum history_change change, presence_reason reason, presence_time when)
{
    if (whole->before)
        whole_change_tell(recorder, whole, server, change, reason, when);
}

int change_server_down(struct presence_recorder *recorder, const struct statement *statement, size_t *became_missing);
int change_lapse(struct presence_recorder *recorder, uint32_t server, bool lapse);

/* Watches wake for a record just appended. */
void watches_notify(struct presence_recorder *recorder, const struct history_record *record);
void watches_reset(struct presence_recorder *recorder);

/* -------------------------------------------------------------------------------------------------------- bulk -- */

enum bulk_mode {
    BULK_UPDATE,
    BULK_MERGE,
    BULK_MERGE_SINCE,
    BULK_STATE,
    BULK_DIFFERENCE,
    BULK_COMPLETE,
    BULK_FORGET,
    BULK_TAKE_IN,
    BULK_UNSTATED
};

struct bulk_request {
    enum bulk_mode mode;
    struct span server;
    const presence_value *values;
    size_t count;
    uint64_t since; /* MERGE_SINCE, UNSTATED: a revision. DIFFERENCE: a number */
    /* STATE, DIFFERENCE, COMPLETE, TAKE_IN */
    presence_claim claim;
    uint64_t number, floor_number;
    presence_reason floor_reason;
    presence_time floor_time;
    size_t inherited;       /* STATE: so many of the values, the last ones, are of an older claim */
    size_t *became_missing; /* UNSTATED, which takes floor_reason too */
    /* DIFFERENCE */
    const uint64_t *gone;
    size_t gone_count;
    uint64_t connections; /* of the server then, and their digest */
    presence_digest digest;
};

int bulk_run(struct presence_recorder *recorder, const struct bulk_request *request, presence_error *error);
/* Of replica.c. Locks, and finds a server that must be known for this; NOT_FOUND and other errors come without the
 * lock. */
int replica_lock_server(struct presence_recorder *recorder, const char *name, uint32_t *server);
void replica_fill_description(const struct server *server, presence_server_description *out);
/* What a whole state asks for, without its values; DISABLED or INVALID. (replica.c) */
int replica_state_request(const presence_recorder *recorder, const char *server, const presence_claim *claim,
                          uint64_t number, uint64_t floor, presence_reason floor_reason, presence_time floor_time,
                          struct bulk_request *request, presence_error *error);

/* --------------------------------------------------------------------------------------------------- connections -- */

presence_connections *connections_new(const presence_allocator *memory, struct snapshot *snapshot);
/* Limits a fresh view to what is stated under the present claim of one server. */
void connections_limit_to_claim(presence_connections *connections, uint32_t server);
/* And of those, to what was stated after a revision. */
void connections_limit_to_newer(presence_connections *connections, uint32_t server, uint64_t revision);
/* The next row of the slice, for readers of the roots. */
bool connections_next_row(const presence_connections *connections, presence_cursor *cursor, uint32_t *row);
int names_make(const presence_allocator *memory, const char **list, size_t list_count, char ***names, size_t *count);

#endif
