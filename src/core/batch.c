/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - the batch forms: many single changes under one lock, their cache misses overlapped.
 *
 * Each step first asks for every cache line that the next one will need, for a whole group, and only then works. The
 * lock is held for one group at a time. Any thread. Elements are changes of their own: there is no all or nothing here.
 */
#include "recorder.h"

enum { GROUP = 64 };

static void prefetch_ids(const struct presence_recorder *recorder, uint64_t server_hash, const uint64_t *ids,
                         size_t count, bool removing)
{
    struct ahead ahead[WAVE];
    for (size_t i = 0; i < count; i++)
        ahead[i] = (struct ahead){.coming = removing ? AHEAD_DISCONNECT : AHEAD_ACTIVITY,
                                  .connection = connection_hash(recorder->registry, server_hash, ids[i])};
    recorder_prefetch_wave(recorder, ahead, count);
}

/* Under the lock, for one group: the server is looked up and the clock read once. Each element is a change of its
 * own, but all happen in the same moment. */
static int ids_group(struct presence_recorder *recorder, struct server_name name, const uint64_t *ids, size_t count,
                     bool removing, size_t *done)
{
    uint32_t server;
    presence_time when;
    int code = recorder_begin_server(recorder, name, STATE_LOCALLY, &server, &when);
    if (code || server == NONE)
        return code;
    struct registry *registry = recorder->registry;
    struct statement statement = {.server = server, .when = when};
    for (size_t i = 0; i < count; i++) {
        if (i % WAVE == 0)
            prefetch_ids(recorder, name.hash, ids + i, count - i < WAVE ? count - i : WAVE, removing);
        code = arena_reserve(&registry->arena);
        if (code)
            return code;
        if (removing && !shelf_in_use(&registry->now.servers, server)) /* its last departure was just forgotten */
            return PRESENCE_OK;
        uint32_t row = registry_row(registry, &registry->now, server, ids[i]);
        if (row == NONE)
            continue;
        if (removing)
            change_disconnect(recorder, &statement, row);
        else
            change_activity(recorder, row, row_get(&recorder->registry->now, row), statement.when);
        ++*done;
    }
    return PRESENCE_OK;
}

static int ids_many(struct presence_recorder *recorder, const char *server, const uint64_t *ids, size_t count,
                    bool removing, size_t *done)
{
    size_t ignored;
    if (!done)
        done = &ignored;
    *done = 0;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span name;
    if (text_check_name(server, &name) || (!ids && count))
        return PRESENCE_E_INVALID;
    struct server_name server_name = recorder_server_name(recorder, name);
    int code = PRESENCE_OK;
    for (size_t at = 0; at < count && code == PRESENCE_OK; at += GROUP) {
        recorder_lock(recorder);
        code = ids_group(recorder, server_name, ids + at, count - at < GROUP ? count - at : GROUP, removing, done);
        recorder_unlock(recorder);
    }
    return code;
}

int presence_recorder_activity_many(presence_recorder *recorder, const char *server, const uint64_t *ids, size_t count,
                                    size_t *done)
{
    return ids_many(recorder, server, ids, count, false, done);
}

int presence_recorder_disconnect_many(presence_recorder *recorder, const char *server, const uint64_t *ids,
                                      size_t count, size_t *done)
{
    return ids_many(recorder, server, ids, count, true, done);
}

/* ------------------------------------------------------------------------------------------------------- handles -- */

static int handles_many(struct presence_recorder *recorder, const presence_handle *handles, size_t count, bool removing,
                        size_t *done)
{
    size_t ignored;
    if (!done)
        done = &ignored;
    *done = 0;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!handles && count)
        return PRESENCE_E_INVALID;
    for (size_t at = 0; at < count; at += GROUP) {
        size_t group = count - at < GROUP ? count - at : GROUP;
        recorder_lock(recorder);
        presence_time when = recorder_now(recorder);
        for (size_t i = at; i < at + group; i++) {
            if ((i - at) % WAVE == 0)
                recorder_prefetch_handles(recorder, &handles[i], at + group - i < WAVE ? at + group - i : WAVE,
                                          removing);
            int code = recorder_touch_handle(recorder, &handles[i], removing, when);
            *done += code == PRESENCE_OK;
            if (code && code != PRESENCE_E_NOT_FOUND) {
                recorder_unlock(recorder);
                return code;
            }
        }
        recorder_unlock(recorder);
    }
    return PRESENCE_OK;
}

int presence_recorder_activity_handles(presence_recorder *recorder, const presence_handle *handles, size_t count,
                                       size_t *done)
{
    return handles_many(recorder, handles, count, false, done);
}

int presence_recorder_disconnect_handles(presence_recorder *recorder, const presence_handle *handles, size_t count,
                                         size_t *done)
{
    return handles_many(recorder, handles, count, true, done);
}

/* ------------------------------------------------------------------------------------------------------- connect -- */

struct connecting {
    struct server_name server;
    struct facts facts;
};

static void prefetch_connecting(const struct presence_recorder *recorder, const struct connecting *group, size_t count)
{
    struct ahead ahead[WAVE];
    for (size_t i = 0; i < count; i++)
        ahead[i] = recorder_connect_ahead(recorder, group[i].server, &group[i].facts);
    recorder_prefetch_wave(recorder, ahead, count);
}

int presence_recorder_connect_many(presence_recorder *recorder, const presence_value *values, size_t count,
                                   size_t *done, presence_error *error)
{
    size_t ignored;
    if (!done)
        done = &ignored;
    *done = 0;
    if (!recorder_enabled(recorder))
        return recorder_error_code(error, PRESENCE_E_DISABLED);
    if (!values && count)
        return recorder_error(error, PRESENCE_E_INVALID, "values is NULL");
    struct connecting group[WAVE];
    for (size_t at = 0; at < count;) {
        size_t size = 0;
        int wrong = PRESENCE_OK;
        for (; size < WAVE && at + size < count && !wrong; size++) {
            const presence_value *value = &values[at + size];
            struct span server;
            wrong = recorder_check_name("server", value->server, &server, error);
            if (wrong)
                break;
            group[size].server = recorder_server_name(recorder, server);
            wrong = recorder_facts(recorder, value, &group[size].facts, (long)(at + size), error);
            if (wrong)
                break;
        }
        int code = PRESENCE_OK;
        recorder_lock(recorder);
        prefetch_connecting(recorder, group, size);
        for (size_t i = 0; i < size && !code; i++) {
            code = recorder_connect_locked(recorder, group[i].server, &group[i].facts, NULL, NULL);
            *done += code == PRESENCE_OK;
        }
        recorder_unlock(recorder);
        if (code)
            return recorder_error_code(error, code);
        if (wrong)
            return wrong;
        at += size;
    }
    return PRESENCE_OK;
}
