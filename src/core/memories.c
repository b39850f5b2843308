/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memories.c - two bounded memories beside the record: ids that were disconnected, and agents that left.
 *
 * Both forget their oldest instead of failing. Under the recorder's mutex. O(1) but for departures_since and
 * departures_list, which look at the departures after the revision asked for.
 */
#include "recorder.h"

/* --------------------------------------------------------------------------------------------------- departures -- */

static struct departure *departure_at(struct departures *departures, uint64_t sequence)
{
    return &departures->at[sequence & (departures->room - 1)];
}

/* Twice the room, up to `most`; if there is no memory, what we have has to do. */
static void grow(struct presence_recorder *recorder)
{
    struct departures *old = &recorder->departures;
    size_t room = old->room ? old->room * 2 : 64;
    if (old->room >= old->most)
        return;
    struct departure *at = memory_take(&recorder->memory, room * sizeof *at);
    if (!at)
        return;
    for (uint64_t i = old->first; i < old->next; i++)
        at[i & (room - 1)] = *departure_at(old, i);
    memory_give(&recorder->memory, old->at, old->room * sizeof *old->at);
    old->at = at;
    old->room = room;
}

static void forget_oldest(struct presence_recorder *recorder)
{
    struct departures *departures = &recorder->departures;
    struct registry *registry = recorder->registry;
    const struct departure *oldest = departure_at(departures, departures->first++);
    struct server *server = server_edit(registry, oldest->server);
    server->departed_revision = oldest->revision;
    if (--server->departures == 0)
        recorder_drop_idle_server(recorder, oldest->server);
}

void recorder_drop_idle_server(struct presence_recorder *recorder, uint32_t number)
{
    struct roots *now = &recorder->registry->now;
    uint64_t servers = now->servers.count, departed = server_get(now, number)->departed_revision;
    registry_drop_idle_server(recorder->registry, number);
    if (now->servers.count < servers && departed > recorder->departures.freed_revision)
        recorder->departures.freed_revision = departed;
}

void departures_add(struct presence_recorder *recorder, uint32_t server, uint64_t id, bool whole)
{
    struct departures *departures = &recorder->departures;
    struct registry *registry = recorder->registry;
    if (departures->next - departures->first == departures->room)
        grow(recorder);
    if (departures->room == 0) {
        server_edit(registry, server)->departed_revision = registry->now.revision;
        recorder_drop_idle_server(recorder, server);
        return;
    }
    server_edit(registry, server)->departures++;
    size_t most = departures->room < departures->most ? departures->room : departures->most;
    if (departures->next - departures->first == most)
        forget_oldest(recorder);
    *departure_at(departures, departures->next++) =
        (struct departure){.id = id, .revision = registry->now.revision, .server = server, .whole = whole};
}

void departures_clear(struct presence_recorder *recorder)
{
    struct departures *departures = &recorder->departures;
    memory_give(&recorder->memory, departures->at, departures->room * sizeof *departures->at);
    departures->at = NULL;
    departures->room = 0;
    departures->first = departures->next = 0;
    departures->freed_revision = recorder->registry ? recorder->registry->now.revision : 0;
}

int departures_since(struct presence_recorder *recorder, uint32_t server, uint64_t revision, struct id_set **out,
                     bool *whole)
{
    struct departures *departures = &recorder->departures;
    *out = NULL;
    *whole = false;
    uint64_t forgotten =
        server == NONE ? departures->freed_revision : server_get(&recorder->registry->now, server)->departed_revision;
    if (revision < forgotten)
        return PRESENCE_E_LAGGED;
    uint64_t from = departures->next;
    while (from > departures->first && departure_at(departures, from - 1)->revision > revision)
        from--;
    struct id_set *set = id_set_new(&recorder->memory, (size_t)(departures->next - from), recorder->secret);
    if (!set)
        return PRESENCE_E_NO_MEMORY;
    for (uint64_t i = from; i < departures->next && server != NONE; i++) {
        const struct departure *departure = departure_at(departures, i);
        if (departure->server != server)
            continue;
        *whole = *whole || departure->whole;
        if (!departure->whole)
            id_set_add(set, departure->id);
    }
    *out = set;
    return PRESENCE_OK;
}

int departures_list(struct presence_recorder *recorder, uint32_t server, uint64_t revision, uint64_t *ids, size_t most,
                    size_t *count)
{
    struct departures *departures = &recorder->departures;
    *count = 0;
    if (revision < server_get(&recorder->registry->now, server)->departed_revision)
        return PRESENCE_E_LAGGED;
    for (uint64_t i = departures->next; i > departures->first; i--) {
        const struct departure *departure = departure_at(departures, i - 1);
        if (departure->revision <= revision)
            break;
        bool of_server = departure->server == server;
        if (of_server && (departure->whole || *count == most))
            return PRESENCE_E_LAGGED;
        if (of_server)
            ids[(*count)++] = departure->id;
    }
    return PRESENCE_OK;
}

/* --------------------------------------------------------------------------------------------- agents that left -- */

bool left_init(struct presence_recorder *recorder)
{
    struct left_agents *left = &recorder->left;
    left->most = recorder->options.left_agents;
    if (left->most == 0)
        return true;
    if (left->most > UINT32_MAX / 2)
        left->most = UINT32_MAX / 2;
    left->bucket_mask = 15;
    while (left->bucket_mask < left->most)
        left->bucket_mask = left->bucket_mask * 2 + 1;
    left->at = memory_take(&recorder->memory, left->most * sizeof *left->at);
    left->buckets = memory_take(&recorder->memory, ((size_t)left->bucket_mask + 1) * sizeof *left->buckets);
    if (!left->at || !left->buckets) {
        left_free(recorder);
        return false;
    }
    memset(left->at, 0, left->most * sizeof *left->at);
    memset(left->buckets, 0, ((size_t)left->bucket_mask + 1) * sizeof *left->buckets);
    return true;
}

static uint32_t *left_bucket(struct left_agents *left, uint64_t hash)
{
    return &left->buckets[hash & left->bucket_mask];
}

static void left_drop(struct presence_recorder *recorder, struct left_agent *entry)
{
    struct left_agents *left = &recorder->left;
    uint32_t number = (uint32_t)(entry - left->at) + 1;
    uint32_t *link = left_bucket(left, entry->hash);
    while (*link != number)
        link = &left->at[*link - 1].next_in_bucket;
    *link = entry->next_in_bucket;
    if (entry->older)
        left->at[entry->older - 1].newer = entry->newer;
    else
        left->oldest = entry->newer;
    if (entry->newer)
        left->at[entry->newer - 1].older = entry->older;
    else
        left->newest = entry->older;
    memory_give(&recorder->memory, entry->names, entry->names_bytes);
    entry->names = NULL;
    entry->next_in_bucket = left->free;
    left->free = number;
    left->count--;
}

void left_clear(struct presence_recorder *recorder)
{
    struct left_agents *left = &recorder->left;
    while (left->oldest)
        left_drop(recorder, &left->at[left->oldest - 1]);
}

void left_free(struct presence_recorder *recorder)
{
    struct left_agents *left = &recorder->left;
    if (left->at && left->buckets)
        left_clear(recorder);
    memory_give(&recorder->memory, left->at, left->most * sizeof *left->at);
    memory_give(&recorder->memory, left->buckets, ((size_t)left->bucket_mask + 1) * sizeof *left->buckets);
    *left = (struct left_agents){0};
}

static uint64_t left_hash(const struct presence_recorder *recorder, struct span model, struct span agent)
{
    uint64_t model_hash = text_hash(recorder->secret, model.bytes, model.length);
    return text_mix(recorder->secret, text_hash(recorder->secret, agent.bytes, agent.length), model_hash);
}

static struct left_agent *left_entry(const struct presence_recorder *recorder, uint64_t hash, struct span model,
                                     struct span agent)
{
    const struct left_agents *left = &recorder->left;
    for (uint32_t at = left->count ? left->buckets[hash & left->bucket_mask] : 0; at;) {
        struct left_agent *entry = &left->at[at - 1];
        if (entry->hash == hash && entry->agent_at == model.length + 1 &&
            entry->names_bytes == model.length + agent.length + 2 &&
            memcmp(entry->names, model.bytes, model.length) == 0 &&
            memcmp(entry->names + entry->agent_at, agent.bytes, agent.length) == 0)
            return entry;
        at = entry->next_in_bucket;
    }
    return NULL;
}

const struct left_agent *left_find(const struct presence_recorder *recorder, struct span model, struct span agent)
{
    return recorder->left.count ? left_entry(recorder, left_hash(recorder, model, agent), model, agent) : NULL;
}

void left_remove(struct presence_recorder *recorder, struct span model, struct span agent)
{
    struct left_agent *entry = left_entry(recorder, left_hash(recorder, model, agent), model, agent);
    if (entry)
        left_drop(recorder, entry);
}

void left_add(struct presence_recorder *recorder, struct span model, struct span agent, presence_time since,
              presence_time last_seen, presence_reason reason)
{
    struct left_agents *left = &recorder->left;
    left_remove(recorder, model, agent);
    if (left->count == left->most)
        left_drop(recorder, &left->at[left->oldest - 1]);
    uint32_t bytes = (uint32_t)(model.length + agent.length + 2);
    char *names = memory_take(&recorder->memory, bytes);
    if (!names)
        return;
    memcpy(names, model.bytes, model.length);
    names[model.length] = '\0';
    memcpy(names + model.length + 1, agent.bytes, agent.length);
    names[bytes - 1] = '\0';
    uint64_t hash = left_hash(recorder, model, agent);
    uint32_t number = left->free ? left->free : (uint32_t)++left->touched;
    struct left_agent *entry = &left->at[number - 1];
    if (left->free)
        left->free = entry->next_in_bucket;
    *entry = (struct left_agent){.hash = hash,
                                 .names = names,
                                 .names_bytes = bytes,
                                 .agent_at = (uint32_t)model.length + 1,
                                 .next_in_bucket = *left_bucket(left, hash),
                                 .older = left->newest,
                                 .since = since,
                                 .last_seen = last_seen,
                                 .reason = reason};
    *left_bucket(left, hash) = number;
    if (left->newest)
        left->at[left->newest - 1].newer = number;
    else
        left->oldest = number;
    left->newest = number;
    left->count++;
}
