/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queries.c - live one-shot questions, statistics, trim and check: they read the live record under the mutex.
 *
 * Any thread. O(1) but for what their headers say. Nothing here changes what is recorded.
 */
#include "recorder.h"

/* OK with the lock held, or an error without it. */
static int lock_enabled(struct presence_recorder *recorder)
{
    recorder_lock(recorder);
    if (recorder_enabled(recorder))
        return PRESENCE_OK;
    recorder_unlock(recorder);
    return PRESENCE_E_DISABLED;
}

/* The agent's bucket does not wait for the model, nor its record for more than the bucket: model and agent come
 * together. */
static inline uint32_t find_agent(const struct presence_recorder *recorder, struct span model, struct span agent)
{
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    uint64_t model_hash = text_hash(recorder->secret, model.bytes, model.length);
    uint64_t hash = agent_hash(registry, model_hash, text_hash(recorder->secret, agent.bytes, agent.length));
    index_prefetch(&now->by_agent, hash);
    index_prefetch(&now->model_names, model_hash);
    uint32_t guess;
    if (index_guess(&now->by_agent, hash, &guess))
        memory_prefetch(agent_get(now, guess));
    uint32_t number = registry_model(now, model, model_hash);
    return number == NONE ? NONE : registry_agent_by_hash(now, hash, number, agent);
}

int presence_recorder_agent_status(presence_recorder *recorder, const char *model, const char *agent,
                                   presence_status *status)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span model_name, name;
    if (!text_measure_name(model, &model_name) || !text_measure_name(agent, &name) || !status)
        return PRESENCE_E_INVALID;
    int code = lock_enabled(recorder);
    if (code)
        return code;
    uint32_t number = find_agent(recorder, model_name, name);
    presence_status found = number == NONE ? PRESENCE_UNKNOWN : evidence_best_live(recorder->registry, number);
    recorder_unlock(recorder);
    if (number == NONE && (text_check_name(model, &model_name) || text_check_name(agent, &name)))
        return PRESENCE_E_INVALID;
    *status = found;
    return PRESENCE_OK;
}

int presence_recorder_agent_evidence(presence_recorder *recorder, const char *model, const char *agent,
                                     presence_evidence *evidence)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span model_name, name;
    if (text_check_name(model, &model_name) || text_check_name(agent, &name) || !evidence)
        return PRESENCE_E_INVALID;
    int code = lock_enabled(recorder);
    if (code)
        return code;
    uint32_t number = find_agent(recorder, model_name, name);
    *evidence = (presence_evidence){0};
    if (number != NONE)
        evidence_fill(&recorder->registry->now, number, evidence);
    const struct left_agent *left = evidence->status == PRESENCE_UNKNOWN ? left_find(recorder, model_name, name) : NULL;
    if (left) {
        evidence->reason = left->reason;
        evidence->since = left->since;
        evidence->last_seen = left->last_seen;
    }
    recorder_unlock(recorder);
    return PRESENCE_OK;
}

int presence_recorder_counts(presence_recorder *recorder, presence_counts *counts)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    if (!counts)
        return PRESENCE_E_INVALID;
    int code = lock_enabled(recorder);
    if (code)
        return code;
    const struct roots *now = &recorder->registry->now;
    *counts = (presence_counts){now->connections, now->alive, now->connections - now->alive};
    recorder_unlock(recorder);
    return PRESENCE_OK;
}

int presence_recorder_server_counts(presence_recorder *recorder, const char *server, presence_counts *counts)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span name;
    if (text_check_name(server, &name) || !counts)
        return PRESENCE_E_INVALID;
    int code = lock_enabled(recorder);
    if (code)
        return code;
    const struct registry *registry = recorder->registry;
    uint32_t number = registry_server(&registry->now, name, name_hash(registry, name));
    *counts = (presence_counts){0};
    if (number != NONE) {
        const struct server *record = server_get(&registry->now, number);
        uint64_t alive = server_alive_now(record);
        *counts = (presence_counts){record->connections, alive, record->connections - alive};
    }
    recorder_unlock(recorder);
    return PRESENCE_OK;
}

/* While lists are being swept, and their models do not tell what of them shows, rows are looked at one by one. */
static void count_visible(const struct roots *roots, uint32_t model, size_t *connections, size_t *agents)
{
    const struct shelf_list *list = &model_get(roots, model)->agents;
    for (uint32_t next = list->all; next;) {
        uint32_t unit = next - 1;
        for (uint32_t used = shelf_used(&roots->agents, unit); used; used &= used - 1) {
            uint32_t number = unit << AGENT_UNIT_BITS | (uint32_t)__builtin_ctz(used);
            size_t visible = 0;
            for (uint32_t at = agent_get(roots, number)->first; at != NONE;) {
                uint64_t stamp = row_stamp(roots, at);
                visible += row_stated_status(stamp, server_get(roots, row_server(roots, at))) != PRESENCE_UNKNOWN;
                at = row_next(roots, at, stamp);
            }
            *connections += visible;
            *agents += visible > 0;
        }
        next = shelf_next(&roots->agents, unit);
    }
}

int presence_recorder_model_counts(presence_recorder *recorder, const char *model, size_t *connections, size_t *agents)
{
    if (!recorder_enabled(recorder))
        return PRESENCE_E_DISABLED;
    struct span name;
    if (text_check_name(model, &name) || !connections || !agents)
        return PRESENCE_E_INVALID;
    int code = lock_enabled(recorder);
    if (code)
        return code;
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    uint32_t number = registry_model(now, name, name_hash(registry, name));
    *connections = *agents = 0;
    if (number != NONE && !registry_model_counts(now, number, connections, agents)) {
        *connections = *agents = 0;
        count_visible(now, number, connections, agents);
    }
    recorder_unlock(recorder);
    return PRESENCE_OK;
}

/* --------------------------------------------------------------------------------------------------- maintenance -- */

int presence_recorder_stats(presence_recorder *recorder, presence_stats *stats)
{
    if (!stats || stats->struct_bytes != sizeof *stats)
        return PRESENCE_E_INVALID;
    recorder_lock(recorder);
    const struct registry *registry = recorder->registry;
    const struct roots *now = &registry->now;
    const struct snapshot *oldest = (const struct snapshot *)registry->versions.oldest;
    uint64_t servers = now->servers.count - registry->idle_servers;
    uint64_t names = now->models.count + servers + now->agents.count;
    *stats = (presence_stats){
        .struct_bytes = sizeof *stats,
        .revision = now->revision,
        .connections = now->connections,
        .alive = now->alive,
        .models = now->models.count,
        .servers = servers,
        .agents = now->agents.count,
        .names = names,
        .name_bytes = registry->name_bytes - registry->idle_name_bytes,
        .data_bytes = registry->data_bytes,
        .allocated_bytes = registry->arena.taken_bytes + sizeof *registry + sizeof *recorder +
                           recorder->departures.room * sizeof *recorder->departures.at,
        .used_bytes = registry->arena.used_bytes,
        .snapshots = registry->versions.count,
        .retained_bytes = registry->versions.retained_bytes,
        .oldest_snapshot = oldest ? oldest->taken : 0,
        .watches = recorder->watches,
        .history_bytes = recorder->history.bytes,
        .history_first = recorder->history.ring ? recorder->history.first_revision : UINT64_MAX,
        .left_agents = recorder->left.count,
    };
    recorder_unlock(recorder);
    return PRESENCE_OK;
}

void presence_recorder_trim(presence_recorder *recorder)
{
    recorder_lock(recorder);
    struct registry *registry = recorder->registry;
    while (registry_drain(registry, 4096)) {
        recorder_give_way(recorder);
        registry = recorder->registry;
    }
    if (!registry->versions.newest) {
        struct roots *now = &registry->now;
#ifdef PRESENCE_GUARD_PAGES
        arena_guard_open(&registry->arena);
#endif
        shelf_compact(&now->rows, &registry->versions);
        shelf_compact(&now->agents, &registry->versions);
        shelf_compact(&now->models, &registry->versions);
        shelf_compact(&now->servers, &registry->versions);
        uint32_t pages = now->extras.pages < now->rows.units ? now->extras.pages : now->rows.units;
        pv_truncate(&now->extras, &registry->versions, pages);
        pages = (uint32_t)((shelf_end(&now->models) + STAGED_PAGE_SLOTS - 1) >> STAGED_PAGE_BITS);
        pv_truncate(&now->staged, &registry->versions, now->staged.pages < pages ? now->staged.pages : pages);
        index_compact(&now->by_connection, &registry->versions);
        index_compact(&now->by_agent, &registry->versions);
        index_compact(&now->model_names, &registry->versions);
        index_compact(&now->server_names, &registry->versions);
    }
    arena_trim(&registry->arena);
    memory_give(&registry->memory, registry->spare, sizeof(struct snapshot));
    registry->spare = NULL;
    recorder_unlock(recorder);
    presence_recorder_settle(recorder);
}

void presence_recorder_settle(presence_recorder *recorder)
{
    recorder_lock(recorder);
    while (arena_make_huge(&recorder->registry->arena))
        recorder_give_way(recorder);
    recorder_unlock(recorder);
}

int presence_recorder_check(presence_recorder *recorder, presence_error *error)
{
    recorder_lock(recorder);
    const char *wrong = registry_check(recorder->registry);
    recorder_unlock(recorder);
    return wrong ? recorder_error(error, PRESENCE_E_INVALID, "%s", wrong) : PRESENCE_OK;
}
