/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - registry_check: every invariant of the live record, verified from the records themselves.
 *
 * Called under the mutex by tests after each step, by fuzzers, and by presence_recorder_check. O(everything). It
 * needs no memory and changes nothing.
 */
#include "evidence.h"

struct sums {
    uint64_t connections, alive, stated, stated_alive, physical;
    presence_digest digest;
};

static uint32_t row_hash(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    const struct server *server = server_get(&registry->now, row_server(&registry->now, number));
    return (uint32_t)connection_hash(registry, name_hash(registry, text_span(server->name)),
                                     row_get(&registry->now, number)->id) &
           INDEX_HASH_MASK;
}

static uint32_t agent_low_hash(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    const struct agent *agent = agent_get(&registry->now, number);
    uint64_t model_hash = name_hash(registry, model_name(model_get(&registry->now, agent->model)));
    return (uint32_t)agent_hash(registry, model_hash, name_hash(registry, agent_name(agent))) & INDEX_HASH_MASK;
}

static uint32_t model_low_hash(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    return (uint32_t)name_hash(registry, model_name(model_get(&registry->now, number))) & INDEX_HASH_MASK;
}

static uint32_t server_low_hash(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    return (uint32_t)name_hash(registry, text_span(server_get(&registry->now, number)->name)) & INDEX_HASH_MASK;
}

static const char *check_row(const struct registry *registry, uint32_t number, const struct server *server)
{
    const struct roots *now = &registry->now;
    struct row row = *row_get(now, number);
    if (row_revision(row.stamp) > now->revision)
        return "a row was connected at a revision of the future";
    if (server->bulk == BULK_NONE && row_mark(row.stamp) != MARK_NONE)
        return "a row is marked, and no list is being applied to its server";
    uint32_t owner = shelf_owner(&now->rows, number);
    if ((row.stamp & ROW_SERVER_MASK) != ((uint64_t)owner << ROW_SERVER_SHIFT & ROW_SERVER_MASK))
        return "a row names another server than the one that its unit belongs to";
    if (!shelf_in_use(&now->agents, row.agent))
        return "a row names an agent that is not recorded";
    if (row.agent_hash != (agent_get(now, row.agent)->hash_reason & INDEX_HASH_MASK))
        return "a row's hash of its agent is not its agent's";
    const struct extra_page *extras = pv_page_or_null(&now->extras, number >> ROW_UNIT_BITS);
    bool has_extra = extras && (extras->used >> (number & (EXTRA_PAGE_SLOTS - 1)) & 1);
    if (has_extra != ((row.stamp & ROW_EXTRA) != 0))
        return "a row and its extras disagree on whether there are any";
    if (server->bulk == BULK_NONE) {
        struct index_probe probe =
            index_probe_start(&now->by_connection, connection_hash(registry, server->hash, row.id));
        uint32_t candidate, found = 0;
        while (index_probe_next(&probe, &candidate))
            found += row_get(now, candidate)->id == row.id && row_server(now, candidate) == row_server(now, number);
        if (found != 1)
            return "a connection is not in its index exactly once";
    }
    return NULL;
}

static void sum_row(const struct registry *registry, uint32_t number, const struct server *server, struct sums *sums)
{
    const struct roots *now = &registry->now;
    struct row row = *row_get(now, number);
    presence_status status = row_stated_status(row.stamp, server);
    sums->physical++;
    if (status == PRESENCE_UNKNOWN)
        return;
    bool alive = status == PRESENCE_ALIVE;
    sums->connections++;
    sums->alive += alive;
    if (row_is_inherited(row.stamp, server))
        return;
    sums->stated++;
    sums->stated_alive += alive;
    if (!(server->flags & SERVER_CLAIMED))
        return;
    uint64_t digest = registry_row_digest(now, server, number);
    sums->digest.all += digest;
    if (alive)
        sums->digest.alive += digest;
}

static const char *check_server(const struct registry *registry, uint32_t number)
{
    const struct roots *now = &registry->now;
    const struct server *server = server_get(now, number);
    struct sums sums = {0};
    const char *broken = shelf_check_list(&now->rows, &server->rows, number);
    if (broken)
        return broken;
    if (server->hash != name_hash(registry, text_span(server->name)))
        return "a server's hash does not fit its name";
    for (uint32_t next = server->rows.all; next;) {
        uint32_t unit = next - 1;
        for (uint32_t slot = 0; slot < (uint32_t)1 << ROW_UNIT_BITS; slot++)
            if (!row_generation(now, unit << ROW_UNIT_BITS | slot) !=
                !shelf_in_use(&now->rows, unit << ROW_UNIT_BITS | slot))
                return "a row has a generation and is not in use, or has none";
        for (uint32_t used = shelf_used(&now->rows, unit); used; used &= used - 1) {
            uint32_t row = unit << ROW_UNIT_BITS | (uint32_t)__builtin_ctz(used);
            const char *wrong = check_row(registry, row, server);
            if (wrong)
                return wrong;
            sum_row(registry, row, server, &sums);
        }
        next = shelf_next(&now->rows, unit);
    }
    if (server->idle == server_is_known(server))
        return "a server is counted as idle and known, or as neither";
    if (sums.physical != server->physical)
        return "a server counts other rows than it has";
    if (sums.connections != server->connections || sums.alive != server->alive)
        return "a server's counts of connections do not fit its rows";
    if (sums.stated != server->stated || sums.stated_alive != server->stated_alive)
        return "a server's counts under its claim do not fit its rows";
    if (server->flags & SERVER_CLAIMED &&
        (sums.digest.all != server->digest.all || sums.digest.alive != server->digest.alive))
        return "a server's digest does not fit its rows";
    if (server->floor > now->revision || server->base > now->revision)
        return "a server's floor or base is of the future";
    return NULL;
}

static const char *check_agent(const struct registry *registry, uint32_t number, uint64_t *rows, struct staged *staged)
{
    const struct roots *now = &registry->now;
    const struct agent *agent = agent_get(now, number);
    uint32_t before = NONE;
    uint64_t count = 0, fresh = 0;
    if (agent->model != shelf_owner(&now->agents, number))
        return "an agent names another model than the one that its unit belongs to";
    for (uint32_t at = agent->first; at != NONE; count++) {
        if (!shelf_in_use(&now->rows, at) || row_get(now, at)->agent != number)
            return "an agent's chain has a row that is not its own";
        uint64_t stamp = row_stamp(now, at);
        uint32_t prev = stamp & ROW_EXTRA ? extra_get(now, at)->prev : NONE;
        if (prev != before || count > now->rows.count)
            return "an agent's chain of rows is broken";
        before = at;
        fresh += row_is_fresh(stamp);
        at = row_next(now, at, stamp);
    }
    if (count == 0)
        return "an agent is recorded without a connection";
    if (agent_meta(agent) & AGENT_BASIS && !(row_stamp(now, agent->first) & ROW_EXTRA))
        return "an agent's basis is kept nowhere";
    if (agent_low_hash(registry, number) != (agent->hash_reason & INDEX_HASH_MASK))
        return "an agent's hash does not fit its name";
    struct span name = agent_name(agent);
    if (name.bytes[name.length] || (name.length <= AGENT_NAME_SHORT) != !agent_long_name(agent))
        return "an agent's name is not kept where its length says";
    if (agent->events == now->events && evidence_walked(now, number) != evidence_best(now, number))
        return "an agent's status is not what its record is said to know";
    *rows += count;
    staged->rows += (uint32_t)fresh;
    staged->agents += fresh == count;
    return NULL;
}

static const char *check_staged(const struct roots *now, uint32_t model, const struct staged *found)
{
    const struct staged *staged = staged_get(now, model);
    if (!staged)
        return found->rows ? "a model does not know of its fresh rows" : NULL;
    if (staged->rows != found->rows || staged->agents != found->agents || !found->rows)
        return "a model counts other fresh rows, or agents with such alone, than it has";
    return NULL;
}

static const char *check_model(const struct registry *registry, uint32_t number)
{
    const struct roots *now = &registry->now;
    const struct model *model = model_get(now, number);
    uint64_t agents = 0, rows = 0;
    struct staged staged = {0};
    const char *broken = shelf_check_list(&now->agents, &model->agents, number);
    if (broken)
        return broken;
    if (model->hash != name_hash(registry, model_name(model)))
        return "a model's hash does not fit its name";
    struct span name = model_name(model);
    if (name.bytes[name.length] || (name.length <= MODEL_NAME_SHORT) != !model_long_name(model))
        return "a model's name is not kept where its length says";
    for (uint32_t next = model->agents.all; next;) {
        uint32_t unit = next - 1;
        for (uint32_t used = shelf_used(&now->agents, unit); used; used &= used - 1, agents++) {
            uint32_t agent = unit << AGENT_UNIT_BITS | (uint32_t)__builtin_ctz(used);
            const char *wrong = check_agent(registry, agent, &rows, &staged);
            if (wrong)
                return wrong;
        }
        next = shelf_next(&now->agents, unit);
    }
    if (agents != model->agent_count || agents == 0)
        return "a model counts other agents than it has";
    return rows == model->rows ? check_staged(now, number, &staged) : "a model counts other rows than its agents have";
}

static const char *check_structure(const struct registry *registry)
{
    const struct roots *now = &registry->now;
    const struct versions *versions = &registry->versions;
    const char *wrong = shelf_check(&now->rows, versions);
    wrong = wrong ? wrong : shelf_check(&now->agents, versions);
    wrong = wrong ? wrong : shelf_check(&now->models, versions);
    wrong = wrong ? wrong : shelf_check(&now->servers, versions);
    wrong = wrong ? wrong : shelf_check_list(&now->models, &now->all_models, 0);
    wrong = wrong ? wrong : shelf_check_list(&now->servers, &now->all_servers, 0);
    wrong = wrong ? wrong : pv_check(&now->extras, versions);
    wrong = wrong ? wrong : pv_check(&now->staged, versions);
    wrong = wrong ? wrong : index_check(&now->by_connection, versions, row_hash, registry);
    wrong = wrong ? wrong : index_check(&now->by_agent, versions, agent_low_hash, registry);
    wrong = wrong ? wrong : index_check(&now->model_names, versions, model_low_hash, registry);
    wrong = wrong ? wrong : index_check(&now->server_names, versions, server_low_hash, registry);
    return wrong;
}

/* A server that is found by what is known of late is found by its name. */
static const char *check_recent(const struct registry *registry)
{
    const struct roots *now = &registry->now;
    for (size_t i = 0; i < RECENT_SERVERS; i++) {
        struct recent_server recent = registry->recent[i];
        if (recent.number == NONE)
            continue;
        if (!shelf_in_use(&now->servers, recent.number) || server_get(now, recent.number)->hash != recent.hash ||
            (recent.hash & (RECENT_SERVERS - 1)) != i)
            return "a server that was looked for of late is another one by now, or is not recorded";
    }
    return NULL;
}

const char *registry_check(struct registry *registry)
{
    const struct roots *now = &registry->now;
    const char *wrong = check_structure(registry);
    wrong = wrong ? wrong : check_recent(registry);
    wrong = wrong ? wrong : arena_check(&registry->arena);
    uint64_t connections = 0, alive = 0, physical = 0, rows = 0, idle = 0, idle_bytes = 0;
    uint32_t bulks = 0, sweeps = 0, drops = 0;
    for (uint32_t number = 0; !wrong && number < shelf_end(&now->servers); number++) {
        if (!shelf_in_use(&now->servers, number))
            continue;
        wrong = check_server(registry, number);
        const struct server *server = server_get(now, number);
        connections += server->connections;
        alive += server_alive_now(server);
        physical += server->physical;
        bulks += server->bulk != BULK_NONE;
        sweeps += server->bulk == BULK_COMMITTED;
        drops += server->drops;
        idle += server->idle;
        idle_bytes += server->idle ? text_length(server->name) : 0;
    }
    for (uint32_t number = 0; !wrong && number < shelf_end(&now->models); number++) {
        if (!shelf_in_use(&now->models, number))
            continue;
        wrong = check_model(registry, number);
        rows += model_get(now, number)->rows;
    }
    if (wrong)
        return wrong;
    if (physical != now->rows.count || rows != now->rows.count || now->by_connection.count != now->rows.count)
        return "rows, servers, models and the index count different numbers of connections";
    if (now->by_agent.count != now->agents.count || now->model_names.count != now->models.count ||
        now->server_names.count != now->servers.count)
        return "an index of names counts another number than there are records";
    if (bulks != now->bulks || sweeps != now->sweeps || drops != now->drops)
        return "the counts of lists that are being applied do not fit the servers";
    if (idle != registry->idle_servers || idle_bytes != registry->idle_name_bytes)
        return "the counts of idle servers do not fit the servers";
    if (connections != now->connections || alive != now->alive)
        return "the counts of everything do not fit the servers'";
    return registry->arena.used_bytes >= registry->versions.retained_bytes ? NULL : "more is retained than is in use";
}
