/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recorder.c - a recorder's life, and its single calls: check the arguments, take the lock, make one change.
 *
 * Keeps true: a call checks before it locks and changes nothing unless it succeeds; the lock is held for one change.
 * Any thread. Names are hashed outside the lock; the clock is read inside it, so that stamps follow the order of
 * changes.
 */
#include "recorder.h"

#include <assert.h>

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum { DRAIN_STEPS = 24, DEFAULT_DEPARTURES = 65536 };

static atomic_uint_least64_t last_instance;

/* -------------------------------------------------------------------------------------------------------- errors -- */

int recorder_error(presence_error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    error->code = code;
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 does not see the va_start above */
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    if (length < (int)sizeof error->message)
        return code;
    /* Cut at the beginning of a character. */
    size_t end = sizeof error->message - 1;
    while (end > 0 && ((unsigned char)error->message[end - 1] & 0xc0) == 0x80)
        end--;
    if (end > 0 && (unsigned char)error->message[end - 1] >= 0xc0)
        end--;
    error->message[end] = '\0';
    return code;
}

int recorder_error_code(presence_error *error, int code)
{
    return code == PRESENCE_OK ? code : recorder_error(error, code, "%s", presence_strerror(code));
}

int recorder_check_name(const char *what, const char *name, struct span *out, presence_error *error)
{
    const char *wrong = text_check_name(name, out);
    return wrong ? recorder_error(error, PRESENCE_E_INVALID, "%s name %s", what, wrong) : PRESENCE_OK;
}

static int facts_wrong(presence_error *error, long index, const char *what, const char *wrong)
{
    if (index < 0)
        return recorder_error(error, PRESENCE_E_INVALID, "%s %s", what, wrong);
    return recorder_error(error, PRESENCE_E_INVALID, "value %ld: %s %s", index, what, wrong);
}

int recorder_facts(const struct presence_recorder *recorder, const presence_value *value, struct facts *facts,
                   long index, presence_error *error)
{
    const char *wrong = text_check_name(value->model, &facts->model);
    if (wrong)
        return facts_wrong(error, index, "model name", wrong);
    wrong = text_check_name(value->agent, &facts->agent);
    if (wrong)
        return facts_wrong(error, index, "agent name", wrong);
    wrong = text_check_data(value->user_data, &facts->data);
    if (wrong)
        return facts_wrong(error, index, "user data", wrong);
    facts->id = value->connection_id;
    facts->controller = value->controller_agent;
    facts->model_hash = text_hash(recorder->secret, facts->model.bytes, facts->model.length);
    facts->agent_hash = text_hash(recorder->secret, facts->agent.bytes, facts->agent.length);
    return PRESENCE_OK;
}

/* ---------------------------------------------------------------------------------------------------------- life -- */

SINGLE_CALL static presence_time system_now(void *context)
{
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (presence_time)now.tv_sec * 1000000000 + now.tv_nsec;
}

void presence_options_init(presence_options *options)
{
    *options = (presence_options){.struct_bytes = sizeof *options};
}

static int init_recorder(struct presence_recorder *recorder)
{
    registry_make_secret(recorder->secret);
    recorder->registry = registry_new(&recorder->options, &recorder->memory, recorder->secret, 0);
    recorder->spare_registry = registry_new(&recorder->options, &recorder->memory, recorder->secret, 0);
    if (!recorder->registry || !recorder->spare_registry)
        return PRESENCE_E_NO_MEMORY;
    if (recorder->options.history_bytes &&
        !history_open(&recorder->history, &recorder->memory, recorder->options.history_bytes, 0))
        return PRESENCE_E_NO_MEMORY;
    if (!left_init(recorder))
        return PRESENCE_E_NO_MEMORY;
    recorder->departures.most = recorder->options.departures ? recorder->options.departures : DEFAULT_DEPARTURES;
    if (!lock_init(&recorder->lock))
        return PRESENCE_E_SYSTEM;
    if (pthread_cond_init(&recorder->settled, NULL)) {
        lock_destroy(&recorder->lock);
        return PRESENCE_E_SYSTEM;
    }
    return PRESENCE_OK;
}

static void release_parts(struct presence_recorder *recorder)
{
    history_close(&recorder->history, &recorder->memory);
    left_free(recorder);
    if (recorder->registry)
        registry_release(recorder->registry);
    if (recorder->spare_registry)
        registry_release(recorder->spare_registry);
    recorder->registry = recorder->spare_registry = NULL;
    departures_clear(recorder);
    presence_allocator memory = recorder->memory;
    memory_give(&memory, recorder, sizeof *recorder);
}

presence_recorder *presence_recorder_new_with(const presence_options *options, presence_error *error)
{
    presence_options defaults;
    presence_options_init(&defaults);
    if (!options)
        options = &defaults;
    if (options->struct_bytes != sizeof *options) {
        recorder_error(error, PRESENCE_E_INVALID, "options were not filled by presence_options_init");
        return NULL;
    }
    if (!options->memory.allocate != !options->memory.release) {
        recorder_error(error, PRESENCE_E_INVALID, "an allocator needs both allocate and release");
        return NULL;
    }
    const presence_allocator *memory = options->memory.allocate ? &options->memory : &memory_default;
    struct presence_recorder *recorder = memory_take(memory, sizeof *recorder);
    if (!recorder) {
        recorder_error_code(error, PRESENCE_E_NO_MEMORY);
        return NULL;
    }
    memset(recorder, 0, sizeof *recorder);
    recorder->options = *options;
    recorder->memory = *memory;
    recorder->clock = options->clock.now ? options->clock : (presence_clock){system_now, NULL};
    recorder->instance = atomic_fetch_add(&last_instance, 1) + 1;
    int code = init_recorder(recorder);
    if (code) {
        recorder_error_code(error, code);
        release_parts(recorder);
        return NULL;
    }
    return recorder;
}

presence_recorder *presence_recorder_new(const presence_clock *clock)
{
    presence_options options;
    presence_options_init(&options);
    if (clock)
        options.clock = *clock;
    return presence_recorder_new_with(&options, NULL);
}

static void set_limits(struct registry *registry, const presence_options *options)
{
    registry->limit_connections = options->limit_connections;
    registry->limit_names = options->limit_names;
    registry->arena.limit_bytes = options->limit_bytes;
}

int presence_recorder_set_limits(presence_recorder *recorder, const presence_options *options)
{
    if (!options || options->struct_bytes != sizeof *options)
        return PRESENCE_E_INVALID;
    recorder_lock(recorder);
    /* While there was no limit nothing was set aside for those who remove. */
    int code = options->limit_bytes ? arena_set_aside(&recorder->registry->arena) : PRESENCE_OK;
    if (code == PRESENCE_OK || code == PRESENCE_E_LIMIT) { /* at the limit of before, and it was set aside then */
        recorder->options.limit_connections = options->limit_connections;
        recorder->options.limit_names = options->limit_names;
        recorder->options.limit_bytes = options->limit_bytes;
        set_limits(recorder->registry, options);
        if (recorder->spare_registry)
            set_limits(recorder->spare_registry, options);
        code = PRESENCE_OK;
    }
    recorder_unlock(recorder);
    return code;
}

void presence_recorder_free(presence_recorder *recorder)
{
    if (!recorder)
        return;
    assert(!recorder->running); /* every list and every writer of a state has ended */
    pthread_cond_destroy(&recorder->settled);
    lock_destroy(&recorder->lock);
    release_parts(recorder);
}

/* ------------------------------------------------------------------------------------------------------- locking -- */

void recorder_give_way(struct presence_recorder *recorder)
{
    lock_give_way(&recorder->lock);
    recorder->registry->wanted_server = NONE; /* whoever was let in may have stated another */
}

/* Changes of many are kept with the views before and after them. What these views alone pin is at most twice what is
 * recorded now, or HISTORY_PINNED_BYTES; what others' views pin is not the history's fault. */
static bool history_pins_too_much(const struct presence_recorder *recorder)
{
    const struct registry *registry = recorder->registry;
    size_t live = registry->arena.used_bytes - registry->versions.retained_bytes;
    size_t most = HISTORY_PINNED_BYTES > 2 * live ? HISTORY_PINNED_BYTES : 2 * live;
    if (registry->versions.retained_bytes <= most)
        return false;
    size_t pinned = 0;
    unsigned looked_at = 0;
    const struct version *version = registry->versions.newest;
    for (; version && looked_at < 4 * HISTORY_MOST_BULKS; version = version->older, looked_at++) {
        const struct snapshot *snapshot = (const struct snapshot *)version;
        if (snapshot->history_holders > 0 &&
            snapshot->history_holders == atomic_load_explicit(&snapshot->holders, memory_order_relaxed))
            pinned += version->dead_bytes;
    }
    return pinned > most;
}

int recorder_begin_slowly(struct presence_recorder *recorder)
{
    struct registry *registry = recorder->registry;
    bool drains = registry_drains(registry) && registry_drain(registry, DRAIN_STEPS);
    if (!drains && recorder->history.bulks && history_pins_too_much(recorder))
        history_drop_bulk(&recorder->history);
    int code = arena_reserve(&registry->arena);
    while (code == PRESENCE_E_LIMIT && recorder->history.bulks) { /* what the history pins goes first */
        history_drop_bulk(&recorder->history);
        registry_drain(registry, SIZE_MAX);
        code = arena_reserve(&registry->arena);
    }
    return code;
}

int recorder_add_server(struct presence_recorder *recorder, struct server_name name, uint32_t *server)
{
    struct registry *registry = recorder->registry;
    if (*server != NONE) {
        if (server_get(&registry->now, *server)->idle && registry_name_limit_reached(registry))
            return PRESENCE_E_LIMIT;
        registry->wanted_server = *server;
        return PRESENCE_OK;
    }
    int code = registry_add_server(registry, name.span, name.hash, server);
    if (code)
        return code;
    registry->wanted_server = *server;
    struct server *fresh = server_edit(registry, *server);
    fresh->departed_revision = recorder->departures.freed_revision;
    fresh->numbered_since = registry->now.revision;
    return PRESENCE_OK;
}

void presence_recorder_enable(presence_recorder *recorder)
{
    recorder_lock(recorder);
    if (!recorder_enabled(recorder)) {
        if (!recorder->spare_registry)
            recorder->spare_registry = registry_new(&recorder->options, &recorder->memory, recorder->secret, 0);
        atomic_store(&recorder->enabled, true);
        statements_notify(recorder, NULL);
    }
    recorder_unlock(recorder);
}

/* An empty registry for the time after this one. Disabling cannot fail, so it must not need memory that is not there: a
 * registry that nobody else holds is emptied where it is; for one that views hold, a spare is kept. */
static struct registry *replace_registry(struct presence_recorder *recorder, uint64_t revision)
{
    struct registry *old = recorder->registry;
    if (registry_reset(old, &recorder->options, revision))
        return NULL;
    struct registry *fresh = recorder->spare_registry;
    recorder->spare_registry = NULL;
    while (!fresh) { /* no memory now nor when it was enabled last, and views held all the while: it has to wait */
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        fresh = registry_new(&recorder->options, &recorder->memory, recorder->secret, revision);
    }
    fresh->now.revision = revision;
    recorder->registry = fresh;
    return old;
}

void presence_recorder_disable(presence_recorder *recorder)
{
    recorder_lock(recorder);
    if (!recorder_enabled(recorder)) {
        recorder_unlock(recorder);
        return;
    }
    atomic_store(&recorder->enabled, false);
    uint64_t revision = recorder->registry->now.revision + 1;
    history_clear(&recorder->history, revision); /* lets go of its snapshots first */
    struct registry *old = replace_registry(recorder, revision);
    departures_clear(recorder);
    left_clear(recorder);
    watches_reset(recorder);
    statements_notify(recorder, NULL);
    recorder->instance = atomic_fetch_add(&last_instance, 1) + 1;
    pthread_cond_broadcast(&recorder->settled);
    recorder_unlock(recorder);
    if (old)
        registry_release(old);
}

bool presence_recorder_is_enabled(const presence_recorder *recorder)
{
    return recorder_enabled(recorder);
}

uint64_t presence_recorder_revision(const presence_recorder *recorder)
{
    struct presence_recorder *unlocked = (struct presence_recorder *)(uintptr_t)recorder;
    recorder_lock(unlocked);
    uint64_t revision = recorder->registry->now.revision;
    recorder_unlock(unlocked);
    return revision;
}

/* -------------------------------------------------------------------------------------------------- single calls -- */

static void fill_handle(const struct presence_recorder *recorder, uint32_t row, presence_handle *handle)
{
    const struct roots *now = &recorder->registry->now;
    struct row record = *row_get(now, row);
    handle->opaque[0] = record.id;
    handle->opaque[1] = (uint64_t)row << 32 | row_generation(now, row);
    handle->opaque[2] = (uint64_t)row_server(now, row) << 32 | record.agent;
    handle->opaque[3] = recorder->instance << INDEX_HASH_BITS | record.agent_hash;
}

SINGLE_CALL int recorder_connect_locked(struct presence_recorder *recorder, struct server_name server,
                                        const struct facts *facts, presence_handle *handle, bool *is_new)
{
    struct statement statement = {.server = NONE};
    int code = recorder_begin_server(recorder, server, STATE_LOCALLY, &statement.server, &statement.when);
    if (code)
        return code;
    code = recorder_add_server(recorder, server, &statement.server);
    if (code)
        return code;
    recorder_prefetch_model(recorder, facts);
    uint32_t row;
    bool fresh;
    code = change_connect(recorder, &statement, facts, &row, &fresh);
    if (code) {
        recorder_drop_idle_server(recorder, statement.server);
        return code;
    }
    const struct server *record = server_get(&recorder->registry->now, statement.server);
    if (record->flags & SERVER_FORGOTTEN)
        server_edit(recorder->registry, statement.server)->flags &= (uint8_t)~SERVER_FORGOTTEN;
    if (is_new)
        *is_new = fresh;
    if (handle)
        fill_handle(recorder, row, handle);
    return PRESENCE_OK;
}

SINGLE_CALL int presence_recorder_connect_handle(presence_recorder *recorder, const presence_value *value,
                                                 presence_handle *handle, bool *is_new, presence_error *error)
{
    if (!recorder_enabled(recorder))
        return recorder_error_code(error, PRESENCE_E_DISABLED);
    struct span server;
    struct facts facts;
    if (!value)
        return recorder_error(error, PRESENCE_E_INVALID, "value is NULL");
    int code = recorder_check_name("server", value->server, &server, error);
    if (code)
        return code;
    code = recorder_facts(recorder, value, &facts, -1, error);
    if (code)
        return code;
    struct server_name name = recorder_server_name(recorder, server);
    recorder_lock(recorder);
    recorder_prefetch_connection(recorder, name, facts.id);
    recorder_prefetch_agent(recorder, &facts);
    code = recorder_connect_locked(recorder, name, &facts, handle, is_new);
    recorder_unlock(recorder);
    return recorder_error_code(error, code);
}

int presence_recorder_connect(presence_recorder *recorder, const char *server, const char *model, const char *agent,
                              uint64_t id, bool controller_agent, const char *user_data)
{
    presence_value value = {.model = model,
                            .server = server,
                            .agent = agent,
                            .user_data = user_data,
                            .connection_id = id,
                            .controller_agent = controller_agent};
    return presence_recorder_connect_handle(recorder, &value, NULL, NULL, NULL);
}

static inline void disconnect_row(struct presence_recorder *recorder, uint32_t server, uint32_t row, presence_time when)
{
    struct statement statement = {.server = server, .when = when};
    change_disconnect(recorder, &statement, row);
}

/* `home` is where the connection's hash begins. No list is being applied to the server, so its rows are visible. */
SINGLE_CALL static inline int touch_known(struct presence_recorder *recorder, uint32_t server,
                                          const struct index_bucket *home, uint64_t hash, uint64_t id, enum touch touch,
                                          presence_time when)
{
    struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    struct index_probe probe = index_probe_at(&now->by_connection, home, hash);
    uint32_t number;
    if (server == NONE)
        return PRESENCE_E_NOT_FOUND;
    while (index_probe_next(&probe, &number)) {
        const struct row *row = row_get(now, number);
        if (__builtin_expect(row->id != id || row_server_of(now, number, row) != server, 0))
            continue;
        if (touch == TOUCH_ACTIVITY) {
            change_activity(recorder, number, row, when);
        } else {
            recorder_prefetch_removal(recorder, number, row);
            disconnect_row(recorder, server, number, when);
        }
        return PRESENCE_OK;
    }
    return PRESENCE_E_NOT_FOUND;
}

/* Asks for the bucket as early as it can: then it comes while the call before, if it was such a call too, still waits
 * for its row. */
static inline int touch_locked(struct presence_recorder *recorder, struct server_name name, uint64_t id,
                               enum touch touch)
{
    for (;;) {
        const struct index *index = &recorder->registry->now.by_connection;
        uint64_t hash = connection_hash(recorder->registry, name.hash, id);
        const struct index_bucket *home = index_home(index, hash);
        memory_prefetch(home);
        uint32_t server;
        presence_time when;
        int code;
        if (__builtin_expect(recorder_try_server(recorder, name, STATE_LOCALLY, &server, &when, &code), 1))
            return code ? code : touch_known(recorder, server, home, hash, id, touch, when);
        bulk_wait(recorder, server);
    }
}

int recorder_touch_locked(struct presence_recorder *recorder, struct server_name name, uint64_t id, enum touch touch)
{
    return touch_locked(recorder, name, id, touch);
}

static inline int touch_one(struct presence_recorder *recorder, const char *name, uint64_t id, enum touch touch)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span span;
    if (!text_measure_name(name, &span))
        return PRESENCE_E_INVALID;
    struct server_name server_name = recorder_server_name(recorder, span);
    recorder_lock(recorder);
    int code = touch_locked(recorder, server_name, id, touch);
    recorder_unlock(recorder);
    if (__builtin_expect(code == PRESENCE_OK, 1))
        return PRESENCE_OK;
    return code != PRESENCE_E_DISABLED && text_check_name(name, &span) ? PRESENCE_E_INVALID : code;
}

SINGLE_CALL int presence_recorder_disconnect(presence_recorder *recorder, const char *server, uint64_t id)
{
    return touch_one(recorder, server, id, TOUCH_DISCONNECT);
}

SINGLE_CALL int presence_recorder_activity(presence_recorder *recorder, const char *server, uint64_t id)
{
    return touch_one(recorder, server, id, TOUCH_ACTIVITY);
}

/* As text_measure_name, byte by byte: a server goes down seldom, and then a function of the C library is far away. */
static bool measure_seldom(const char *name, struct span *out)
{
    size_t length = 0;
    while (name && length <= TEXT_NAME_BYTES && name[length])
        length++;
    *out = (struct span){name, length};
    return length > 0 && length <= TEXT_NAME_BYTES;
}

SINGLE_CALL int presence_recorder_server_down_because(presence_recorder *recorder, const char *server,
                                                      presence_reason reason, size_t *became_missing)
{
    size_t ignored;
    if (!became_missing)
        became_missing = &ignored;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span name;
    if (!measure_seldom(server, &name) || reason < PRESENCE_REASON_SERVER_DOWN || reason > PRESENCE_REASON_SUPERSEDED)
        return PRESENCE_E_INVALID;
    *became_missing = 0;
    recorder_lock(recorder);
    struct statement statement = {.reason = reason};
    int code = recorder_begin_server(recorder, recorder_server_name(recorder, name), STATE_LOCALLY, &statement.server,
                                     &statement.when);
    bool found = code == PRESENCE_OK && statement.server != NONE;
    if (found)
        code = change_server_down(recorder, &statement, became_missing);
    recorder_unlock(recorder);
    return !found && code != PRESENCE_E_DISABLED && text_check_name(server, &name) ? PRESENCE_E_INVALID : code;
}

SINGLE_CALL int presence_recorder_server_down(presence_recorder *recorder, const char *server)
{
    return presence_recorder_server_down_because(recorder, server, PRESENCE_REASON_SERVER_DOWN, NULL);
}

int presence_recorder_mark(presence_recorder *recorder, uint64_t *mark)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!mark)
        return PRESENCE_E_INVALID;
    recorder_lock(recorder);
    struct registry *registry = recorder->registry;
    int code = !recorder_enabled(recorder)                   ? PRESENCE_E_DISABLED
               : registry->now.revision >= ROW_REVISION_MOST ? PRESENCE_E_LIMIT
                                                             : PRESENCE_OK;
    if (code == PRESENCE_OK) {
        *mark = registry->now.revision++;
        registry->versions.written = true;
    }
    recorder_unlock(recorder);
    return code;
}

int presence_recorder_server_down_unstated(presence_recorder *recorder, const char *server, uint64_t mark,
                                           presence_reason reason, size_t *became_missing)
{
    size_t ignored;
    if (!became_missing)
        became_missing = &ignored;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span name;
    if (text_check_name(server, &name) || reason < PRESENCE_REASON_SERVER_DOWN || reason > PRESENCE_REASON_SUPERSEDED ||
        mark >= presence_recorder_revision(recorder))
        return PRESENCE_E_INVALID;
    *became_missing = 0;
    struct bulk_request request = {
        .mode = BULK_UNSTATED, .server = name, .since = mark, .floor_reason = reason, .became_missing = became_missing};
    return bulk_run(recorder, &request, NULL);
}

int presence_recorder_update_server(presence_recorder *recorder, const char *server, const presence_value *values,
                                    size_t count, presence_error *error)
{
    struct bulk_request request = {.mode = BULK_UPDATE, .server = {server, 0}, .values = values, .count = count};
    return bulk_run(recorder, &request, error);
}

int presence_recorder_merge_server(presence_recorder *recorder, const char *server, const presence_value *values,
                                   size_t count, presence_error *error)
{
    struct bulk_request request = {.mode = BULK_MERGE, .server = {server, 0}, .values = values, .count = count};
    return bulk_run(recorder, &request, error);
}

int presence_recorder_merge_server_since(presence_recorder *recorder, const char *server, uint64_t revision,
                                         const presence_value *values, size_t count, presence_error *error)
{
    struct bulk_request request = {
        .mode = BULK_MERGE_SINCE, .server = {server, 0}, .values = values, .count = count, .since = revision};
    return bulk_run(recorder, &request, error);
}

/* --------------------------------------------------------------------------------------------------- by handle -- */

/* The row that the handle means. The lock is held; waits for a list being applied to its server. */
static inline int begin_handle(struct presence_recorder *recorder, const presence_handle *handle, bool removing,
                               uint32_t *number, const struct row **row, presence_time *when)
{
    for (;;) {
        int code = recorder_begin(recorder);
        if (code)
            return code;
        const struct roots *now = &recorder->registry->now;
        uint32_t server = (uint32_t)(handle->opaque[2] >> 32);
        const struct row_page *page = recorder_handle_page(recorder, handle, number);
        if (!page)
            return PRESENCE_E_NOT_FOUND;
        uint32_t slot = *number & (ROW_PAGE_SLOTS - 1);
        *row = &page->at[slot];
        /* A generation is one use of one row. They repeat after 2^32 connects: what changes more than a stamp looks
         * twice, and at the row itself, which is a line more to wait for. The row may then be another server's, so of
         * the one that the handle names no more is taken for granted than that it is recorded. */
        if (page->generation[slot] != (uint32_t)handle->opaque[1] || !shelf_in_use(&now->servers, server) ||
            (removing && ((*row)->id != handle->opaque[0] || row_server_of(now, *number, *row) != server)))
            return PRESENCE_E_NOT_FOUND;
        const struct server *owner = server_get(now, server);
        if (__builtin_expect(owner->bulk == BULK_NONE, 1))
            return server_is_stated_here(owner) ? PRESENCE_OK : PRESENCE_E_STALE;
        bulk_wait(recorder, server);
        *when = recorder_now(recorder);
    }
}

int recorder_touch_handle(struct presence_recorder *recorder, const presence_handle *handle, bool removing,
                          presence_time when)
{
    uint32_t number;
    const struct row *row;
    int code = begin_handle(recorder, handle, removing, &number, &row, &when);
    if (code)
        return code;
    if (removing) {
        recorder_prefetch_model_of(recorder, row->agent); /* whose side was asked for */
        disconnect_row(recorder, (uint32_t)(handle->opaque[2] >> 32), number, when);
    } else {
        change_activity(recorder, number, row, when);
    }
    return PRESENCE_OK;
}

static int touch_by_handle(struct presence_recorder *recorder, const presence_handle *handle, bool removing)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!handle)
        return PRESENCE_E_INVALID;
    recorder_lock(recorder);
    recorder_prefetch_handle(recorder, handle, removing);
    int code = recorder_touch_handle(recorder, handle, removing, recorder_now(recorder));
    recorder_unlock(recorder);
    return code;
}

int presence_recorder_activity_handle(presence_recorder *recorder, const presence_handle *handle)
{
    return touch_by_handle(recorder, handle, false);
}

int presence_recorder_disconnect_handle(presence_recorder *recorder, const presence_handle *handle)
{
    return touch_by_handle(recorder, handle, true);
}

int presence_recorder_find_handle(presence_recorder *recorder, const char *server, uint64_t id, presence_handle *handle)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span name;
    if (text_check_name(server, &name) || !handle)
        return PRESENCE_E_INVALID;
    recorder_lock(recorder);
    const struct registry *registry = recorder->registry;
    uint32_t number = registry_server(&registry->now, name, name_hash(registry, name));
    uint32_t row = number == NONE ? NONE : registry_row(registry, &registry->now, number, id);
    if (row != NONE)
        fill_handle(recorder, row, handle);
    int code = !recorder_enabled(recorder) ? PRESENCE_E_DISABLED : row == NONE ? PRESENCE_E_NOT_FOUND : PRESENCE_OK;
    recorder_unlock(recorder);
    return code;
}
