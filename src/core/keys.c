/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.c - batches of which each element has its own server or model and its own answer.
 *
 * In groups: names are checked and hashed outside the lock; under it, all buckets are asked for, then what stands
 * behind their first candidates, then the elements are done one by one, each as its single call would be. The lock is
 * held for one group at a time. Any thread.
 */
#include "recorder.h"

enum { GROUP = WAVE };

/* ------------------------------------------------------------------------------------------------------- touches -- */

struct touched {
    struct server_name server;
    uint64_t hash;
};

static void prefetch_touched(const struct presence_recorder *recorder, const struct touched *touched,
                             const presence_connection_key *keys, size_t count, bool removing)
{
    struct ahead ahead[GROUP];
    size_t valid = 0;
    for (size_t i = 0; i < count; i++)
        if (!keys[i].code)
            ahead[valid++] =
                (struct ahead){.coming = removing ? AHEAD_DISCONNECT : AHEAD_ACTIVITY, .connection = touched[i].hash};
    recorder_prefetch_wave(recorder, ahead, valid);
}

static void touch_group(struct presence_recorder *recorder, presence_connection_key *keys, size_t count, bool removing,
                        size_t *done)
{
    struct touched touched[GROUP];
    for (size_t i = 0; i < count; i++) {
        struct span name;
        keys[i].code = text_check_name(keys[i].server, &name) ? PRESENCE_E_INVALID : PRESENCE_OK;
        if (keys[i].code)
            continue;
        touched[i].server = recorder_server_name(recorder, name);
        touched[i].hash = text_mix(recorder->secret, keys[i].connection_id, touched[i].server.hash);
    }
    recorder_lock(recorder);
    prefetch_touched(recorder, touched, keys, count, removing);
    for (size_t i = 0; i < count; i++) {
        if (!keys[i].code)
            keys[i].code = recorder_touch_locked(recorder, touched[i].server, keys[i].connection_id,
                                                 removing ? TOUCH_DISCONNECT : TOUCH_ACTIVITY);
        *done += keys[i].code == PRESENCE_OK;
    }
    recorder_unlock(recorder);
}

static int touch_keys(struct presence_recorder *recorder, presence_connection_key *keys, size_t count, bool removing,
                      size_t *done)
{
    size_t ignored;
    if (!done)
        done = &ignored;
    *done = 0;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!keys && count)
        return PRESENCE_E_INVALID;
    for (size_t at = 0; at < count; at += GROUP)
        touch_group(recorder, keys + at, count - at < GROUP ? count - at : GROUP, removing, done);
    return PRESENCE_OK;
}

int presence_recorder_activity_keys(presence_recorder *recorder, presence_connection_key *keys, size_t count,
                                    size_t *done)
{
    return touch_keys(recorder, keys, count, false, done);
}

int presence_recorder_disconnect_keys(presence_recorder *recorder, presence_connection_key *keys, size_t count,
                                      size_t *done)
{
    return touch_keys(recorder, keys, count, true, done);
}

/* ------------------------------------------------------------------------------------------------------ connects -- */

struct connecting {
    struct server_name server;
    struct facts facts;
};

static void prefetch_connecting(const struct presence_recorder *recorder, const struct connecting *group,
                                const presence_connect_result *results, size_t count)
{
    struct ahead ahead[GROUP];
    size_t valid = 0;
    for (size_t i = 0; i < count; i++)
        if (!results[i].code)
            ahead[valid++] = recorder_connect_ahead(recorder, group[i].server, &group[i].facts);
    recorder_prefetch_wave(recorder, ahead, valid);
}

static void connect_group(struct presence_recorder *recorder, const presence_value *values, size_t count,
                          presence_connect_result *results, size_t *done)
{
    struct connecting group[GROUP];
    for (size_t i = 0; i < count; i++) {
        struct span name;
        results[i] = (presence_connect_result){PRESENCE_OK, false};
        if (text_check_name(values[i].server, &name) || recorder_facts(recorder, &values[i], &group[i].facts, -1, NULL))
            results[i].code = PRESENCE_E_INVALID;
        else
            group[i].server = recorder_server_name(recorder, name);
    }
    recorder_lock(recorder);
    prefetch_connecting(recorder, group, results, count);
    for (size_t i = 0; i < count; i++) {
        if (!results[i].code)
            results[i].code =
                recorder_connect_locked(recorder, group[i].server, &group[i].facts, NULL, &results[i].is_new);
        *done += results[i].code == PRESENCE_OK;
    }
    recorder_unlock(recorder);
}

int presence_recorder_connect_values(presence_recorder *recorder, const presence_value *values, size_t count,
                                     presence_connect_result *results, size_t *done)
{
    size_t ignored;
    if (!done)
        done = &ignored;
    *done = 0;
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (count && (!values || !results))
        return PRESENCE_E_INVALID;
    for (size_t at = 0; at < count; at += GROUP)
        connect_group(recorder, values + at, count - at < GROUP ? count - at : GROUP, results + at, done);
    return PRESENCE_OK;
}

/* ------------------------------------------------------------------------------------------------------ statuses -- */

struct asked {
    struct span model, agent;
    uint64_t model_hash, agent_hash;
};

static void prefetch_asked(const struct presence_recorder *recorder, const struct asked *asked,
                           const presence_agent_key *keys, size_t count)
{
    struct ahead ahead[GROUP];
    size_t valid = 0;
    for (size_t i = 0; i < count; i++)
        if (!keys[i].code)
            ahead[valid++] =
                (struct ahead){.coming = AHEAD_STATUS,
                               .model = asked[i].model_hash,
                               .agent = agent_hash(recorder->registry, asked[i].model_hash, asked[i].agent_hash)};
    recorder_prefetch_wave(recorder, ahead, valid);
}

static int ask_group(struct presence_recorder *recorder, presence_agent_key *keys, size_t count)
{
    struct asked asked[GROUP];
    for (size_t i = 0; i < count; i++) {
        keys[i].status = PRESENCE_UNKNOWN;
        keys[i].code =
            text_check_name(keys[i].model, &asked[i].model) || text_check_name(keys[i].agent, &asked[i].agent)
                ? PRESENCE_E_INVALID
                : PRESENCE_OK;
        if (keys[i].code)
            continue;
        asked[i].model_hash = text_hash(recorder->secret, asked[i].model.bytes, asked[i].model.length);
        asked[i].agent_hash = text_hash(recorder->secret, asked[i].agent.bytes, asked[i].agent.length);
    }
    recorder_lock(recorder);
    struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    prefetch_asked(recorder, asked, keys, count);
    bool enabled = recorder_enabled(recorder);
    for (size_t i = 0; i < count && enabled; i++) {
        uint32_t model = keys[i].code ? NONE : registry_model(now, asked[i].model, asked[i].model_hash);
        uint32_t agent =
            model == NONE ? NONE : registry_agent(registry, now, model, asked[i].agent, asked[i].agent_hash);
        if (agent != NONE)
            keys[i].status = evidence_best_live(registry, agent);
    }
    recorder_unlock(recorder);
    return enabled ? PRESENCE_OK : PRESENCE_E_DISABLED;
}

int presence_recorder_agent_statuses(presence_recorder *recorder, presence_agent_key *keys, size_t count)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!keys && count)
        return PRESENCE_E_INVALID;
    int code = PRESENCE_OK;
    for (size_t at = 0; at < count && !code; at += GROUP)
        code = ask_group(recorder, keys + at, count - at < GROUP ? count - at : GROUP);
    return code;
}
