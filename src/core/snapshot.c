/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - the life of a registry and of its snapshots.
 *
 * A registry is held by its recorder and by each snapshot that somebody holds. Holders let go from any thread, without
 * the lock: the last holder of a snapshot pushes it on registry->released, from where the writer takes it in. When the
 * recorder has let go too, there is no writer any more, and the last holder frees everything at once.
 *
 * Costs: taking a snapshot copies struct roots (about 700 bytes); giving one back is two atomic operations.
 */
#include "registry.h"

#include <sys/random.h>
#include <time.h>

static void snapshot_gone(void *context, struct version *version)
{
    struct registry *registry = context;
    struct snapshot *snapshot = (struct snapshot *)version;
    if (registry->spare)
        memory_give(&registry->memory, snapshot, sizeof *snapshot);
    else
        registry->spare = snapshot;
}

/* Hash flooding needs the secret. Without the system's random bytes (an old kernel at boot) time and addresses serve.
 * */
void registry_make_secret(uint64_t secret[2])
{
    if (getrandom(secret, 2 * sizeof secret[0], GRND_NONBLOCK) == (ssize_t)(2 * sizeof secret[0]))
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t key[2] = {(uint64_t)now.tv_nsec, (uint64_t)(uintptr_t)secret};
    secret[0] = text_mix(key, (uint64_t)now.tv_sec, 1);
    secret[1] = text_mix(key, secret[0], 2);
}

static void init_roots(struct roots *roots, uint64_t revision)
{
    memset(roots, 0, sizeof *roots);
    shelf_init(&roots->rows, sizeof(struct row_page), ROW_UNIT_BITS, ROW_PAGE_BITS);
    shelf_init(&roots->agents, sizeof(struct agent_page), AGENT_UNIT_BITS, AGENT_PAGE_BITS);
    shelf_init(&roots->models, sizeof(struct model) << MODEL_PAGE_BITS, MODEL_UNIT_BITS, MODEL_PAGE_BITS);
    shelf_init(&roots->servers, sizeof(struct server) << SERVER_PAGE_BITS, SERVER_UNIT_BITS, SERVER_PAGE_BITS);
    pv_init(&roots->extras, sizeof(struct extra_page));
    pv_init(&roots->staged, sizeof(struct staged_page));
    index_init(&roots->by_connection);
    index_init(&roots->by_agent);
    index_init(&roots->model_names);
    index_init(&roots->server_names);
    roots->revision = revision;
}

static void init_registry(struct registry *registry, const presence_options *options, uint64_t revision)
{
    arena_init(&registry->arena, &registry->memory, options->limit_bytes);
    versions_init(&registry->versions, &registry->arena, snapshot_gone, registry);
    init_roots(&registry->now, revision);
    for (size_t i = 0; i < RECENT_SERVERS; i++)
        registry->recent[i] = (struct recent_server){0, NONE};
    registry->name_bytes = registry->data_bytes = 0;
    registry->idle_servers = registry->idle_name_bytes = 0;
    registry->arrived = NULL;
    registry->wanted_server = NONE;
}

struct registry *registry_new(const presence_options *options, const presence_allocator *memory,
                              const uint64_t secret[2], uint64_t revision)
{
    struct registry *registry = memory_take(memory, sizeof *registry);
    if (!registry)
        return NULL;
    memset(registry, 0, sizeof *registry);
    registry->memory = *memory;
    memcpy(registry->secret, secret, sizeof registry->secret);
    registry->limit_names = options->limit_names;
    registry->limit_connections = options->limit_connections;
    init_registry(registry, options, revision);
    atomic_init(&registry->holders, 1);
    return registry;
}

/* Everything but the registry itself: nobody holds a snapshot any more. */
static void free_contents(struct registry *registry)
{
    for (struct version *version = registry->versions.newest, *older; version; version = older) {
        older = version->older;
        memory_give(&registry->memory, version, sizeof(struct snapshot));
    }
    memory_give(&registry->memory, registry->versions.draining, sizeof(struct snapshot));
    memory_give(&registry->memory, registry->spare, sizeof(struct snapshot));
    registry->spare = NULL;
    arena_free(&registry->arena);
}

static void destroy(struct registry *registry)
{
    presence_allocator memory = registry->memory;
    free_contents(registry);
    memory_give(&memory, registry, sizeof *registry);
}

bool registry_reset(struct registry *registry, const presence_options *options, uint64_t revision)
{
    if (atomic_load_explicit(&registry->holders, memory_order_acquire) != 1)
        return false;
    free_contents(registry);
    atomic_store_explicit(&registry->released, NULL, memory_order_relaxed);
    init_registry(registry, options, revision);
    return true;
}

void registry_release(struct registry *registry)
{
    if (atomic_fetch_sub_explicit(&registry->holders, 1, memory_order_acq_rel) == 1)
        destroy(registry);
}

static bool borrow_if_held(struct snapshot *snapshot)
{
    uint64_t holders = atomic_load_explicit(&snapshot->holders, memory_order_relaxed);
    while (holders > 0)
        if (atomic_compare_exchange_weak_explicit(&snapshot->holders, &holders, holders + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

struct snapshot *registry_snapshot(struct registry *registry, presence_time now)
{
    struct versions *versions = &registry->versions;
    struct snapshot *newest = (struct snapshot *)versions->newest;
    if (newest && !versions->written && newest->version.epoch + 1 == versions->epoch && borrow_if_held(newest))
        return newest;
    struct snapshot *snapshot = registry->spare;
    if (!snapshot)
        snapshot = memory_take(&registry->memory, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    registry->spare = NULL;
    snapshot->registry = registry;
    atomic_init(&snapshot->holders, 1);
    snapshot->next_released = NULL;
    snapshot->history_holders = 0;
    snapshot->taken = now;
    snapshot->at = registry->now;
    atomic_fetch_add_explicit(&registry->holders, 1, memory_order_relaxed);
    versions_add(versions, &snapshot->version);
    return snapshot;
}

struct snapshot *snapshot_borrow(struct snapshot *snapshot)
{
    atomic_fetch_add_explicit(&snapshot->holders, 1, memory_order_relaxed);
    return snapshot;
}

void snapshot_release(struct snapshot *snapshot)
{
    if (!snapshot || atomic_fetch_sub_explicit(&snapshot->holders, 1, memory_order_acq_rel) != 1)
        return;
    struct registry *registry = snapshot->registry;
    struct snapshot *head = atomic_load_explicit(&registry->released, memory_order_relaxed);
    do {
        snapshot->next_released = head;
    } while (!atomic_compare_exchange_weak_explicit(&registry->released, &head, snapshot, memory_order_release,
                                                    memory_order_relaxed));
    registry_release(registry);
}

bool registry_drain(struct registry *registry, size_t steps)
{
    for (size_t taken = 0; taken < steps; taken++) {
        if (!registry->arrived && atomic_load_explicit(&registry->released, memory_order_relaxed))
            registry->arrived = atomic_exchange_explicit(&registry->released, NULL, memory_order_acquire);
        struct snapshot *snapshot = registry->arrived;
        if (!snapshot)
            break;
        registry->arrived = snapshot->next_released;
        versions_release(&registry->versions, &snapshot->version);
    }
    bool more = versions_drain(&registry->versions, steps);
    return more || registry->arrived;
}
