/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.c - records, links and indexes; registry.h tells what they mean.
 *
 * Keeps true: a row is in its server's units, in by_connection, and in its agent's chain (but for the moment between
 * registry_take_row and registry_fill_row, in which it has no agent); an agent has at least one row (but for the moment
 * between registry_find_or_add_agent and registry_fill_row) and is in its model's units and in by_agent; a model has at
 * least one agent; counts and digests follow every change through registry_count.
 * Cost: O(1) each; a removed row costs the misses of row, agent, agent's bucket and name.
 */
#include "registry.h"

#include <assert.h>

/* arena.c counts on these */
_Static_assert(sizeof(struct row_page) == 2304 && sizeof(struct agent_page) == 3072, "whole cache lines");
_Static_assert(sizeof(struct extra_page) == 392 && sizeof(struct staged_page) == 392 &&
                   sizeof(struct shelf_side_page) == 768,
               "");
_Static_assert(sizeof(struct model) == 64 && sizeof(struct server) == 320, "pages of 1024 and 640 bytes");

/* ---------------------------------------------------------------------------------------------------- look-ups -- */

presence_status row_status_in_bulk(uint64_t stamp, const struct server *server)
{
    enum row_mark mark = row_mark(stamp);
    presence_status recorded = row_revision(stamp) > server->floor ? PRESENCE_ALIVE : PRESENCE_MISSING;
    if (server->bulk == BULK_STAGING)
        return row_is_fresh(stamp) ? PRESENCE_UNKNOWN : recorded;
    switch (mark) {
    case MARK_NONE:
        return recorded;
    case MARK_DROPPED:
        return PRESENCE_UNKNOWN;
    case MARK_FRESH_MISSING:
        return PRESENCE_MISSING;
    default:
        return PRESENCE_ALIVE;
    }
}

uint32_t registry_agent(const struct registry *registry, const struct roots *roots, uint32_t model, struct span name,
                        uint64_t agent_name_hash)
{
    return registry_agent_by_hash(roots, agent_hash(registry, model_get(roots, model)->hash, agent_name_hash), model,
                                  name);
}

uint32_t registry_row(const struct registry *registry, const struct roots *roots, uint32_t server, uint64_t id)
{
    return registry_row_by_hash(roots, connection_hash(registry, server_get(roots, server)->hash, id), server, id);
}

void registry_value(const struct roots *roots, uint32_t number, presence_value *value)
{
    struct row row = *row_get(roots, number);
    const struct server *server = server_get(roots, row_server(roots, number));
    const struct agent *agent = agent_get(roots, row.agent);
    *value = (presence_value){
        .model = model_name(model_get(roots, agent->model)).bytes,
        .server = server->name->bytes,
        .agent = agent_name(agent).bytes,
        .user_data = row_data(roots, number, row.stamp),
        .connection_id = row.id,
        .last_seen = row_last_seen(row.last_seen, row.stamp, server),
        .status = row_status(row.stamp, server),
        .controller_agent = (row.stamp & ROW_CONTROLLER) != 0,
    };
}

bool registry_names_agent(const struct roots *roots, uint32_t agent, const struct facts *facts)
{
    return span_equals(agent_name(agent_get(roots, agent)), facts->agent) &&
           span_equals(model_name(model_get(roots, agent_get(roots, agent)->model)), facts->model);
}

bool registry_same_facts(const struct roots *roots, uint32_t number, const struct facts *facts)
{
    struct row row = *row_get(roots, number);
    const struct text *data = row.stamp & ROW_EXTRA ? extra_get(roots, number)->data : NULL;
    return !(row.stamp & ROW_CONTROLLER) == !facts->controller && registry_names_agent(roots, row.agent, facts) &&
           (data ? text_equals(data, facts->data.bytes, facts->data.length) : facts->data.length == 0);
}

/* --------------------------------------------------------------------------------------------- index callbacks -- */

static uint32_t hash_of_row(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    const struct roots *now = &registry->now;
    const struct server *server = server_get(now, row_server(now, number));
    return (uint32_t)connection_hash(registry, server->hash, row_get(now, number)->id) & INDEX_HASH_MASK;
}

static uint32_t hash_of_agent(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    return agent_get(&registry->now, number)->hash_reason & INDEX_HASH_MASK;
}

static uint32_t hash_of_model(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    return (uint32_t)model_get(&registry->now, number)->hash & INDEX_HASH_MASK;
}

static uint32_t hash_of_server(const void *context, uint32_t number)
{
    const struct registry *registry = context;
    return (uint32_t)server_get(&registry->now, number)->hash & INDEX_HASH_MASK;
}

/* ------------------------------------------------------------------------------------------------------- edits -- */

struct extra *extra_edit(struct registry *registry, uint32_t number)
{
    struct pv *extras = &registry->now.extras;
    struct versions *versions = &registry->versions;
    uint32_t at = number >> ROW_UNIT_BITS, slot = number & (EXTRA_PAGE_SLOTS - 1);
    pv_reach(extras, versions, at);
    struct extra_page *page =
        pv_page_or_null(extras, at) ? pv_edit_page(extras, versions, at) : pv_fill(extras, versions, at, true);
    if (!(page->used >> slot & 1)) {
        page->used |= (uint64_t)1 << slot;
        page->at[slot] = (struct extra){NULL, NONE, NONE, 0};
        row_edit(registry, number)->stamp = row_stamp(&registry->now, number) | ROW_EXTRA;
    }
    return &page->at[slot];
}

static void extra_drop(struct registry *registry, uint32_t number)
{
    struct pv *extras = &registry->now.extras;
    struct extra_page *page = pv_edit_page(extras, &registry->versions, number >> ROW_UNIT_BITS);
    page->used &= ~((uint64_t)1 << (number & (EXTRA_PAGE_SLOTS - 1)));
    if (!page->used)
        pv_drop(extras, &registry->versions, number >> ROW_UNIT_BITS);
}

/* ------------------------------------------------------------------------------------------------------- texts -- */

static struct text *new_text(struct registry *registry, struct span span)
{
    struct text *text = arena_take(&registry->arena, text_block_bytes(span.length));
    if (!text)
        return NULL;
    text->born_length = registry->versions.epoch << 16 | span.length;
    memcpy(text->bytes, span.bytes, span.length);
    text->bytes[span.length] = '\0';
    return text;
}

static void retire_text(struct registry *registry, struct text *text)
{
    versions_retire(&registry->versions, text, text_block_bytes(text_length(text)), text_born(text));
}

struct text *registry_new_data(struct registry *registry, struct span data, bool *failed)
{
    *failed = false;
    if (data.length == 0)
        return NULL;
    struct text *text = new_text(registry, data);
    *failed = !text;
    if (text)
        registry->data_bytes += data.length;
    return text;
}

void registry_drop_text(struct registry *registry, struct text *text)
{
    if (!text)
        return;
    registry->data_bytes -= text_length(text);
    retire_text(registry, text);
}

static struct text *new_name(struct registry *registry, struct span name)
{
    struct text *text = new_text(registry, name); /* small, so the reserve covers it */
    registry->name_bytes += name.length;
    return text;
}

static void retire_name(struct registry *registry, struct text *name)
{
    registry->name_bytes -= text_length(name);
    retire_text(registry, name);
}

static void set_agent_name(struct registry *registry, struct agent *agent, struct span name)
{
    if (name.length <= AGENT_NAME_SHORT) {
        memcpy(agent->name, name.bytes, name.length);
        agent->name[AGENT_META] = (char)name.length;
        registry->name_bytes += name.length;
    } else {
        const void *text = new_name(registry, name);
        memcpy(agent->name, &text, sizeof text);
        agent->name[AGENT_META] = AGENT_NAME_LONG;
    }
}

static void set_model_name(struct registry *registry, struct model *model, struct span name)
{
    if (name.length <= MODEL_NAME_SHORT) {
        memcpy(model->name, name.bytes, name.length);
        model->name[MODEL_NAME_BYTES - 1] = (char)name.length;
        registry->name_bytes += name.length;
    } else {
        const void *text = new_name(registry, name);
        memcpy(model->name, &text, sizeof text);
        model->name[MODEL_NAME_BYTES - 1] = (char)MODEL_NAME_LONG;
    }
}

static void retire_model_name(struct registry *registry, const struct model *model)
{
    struct text *text = model_long_name(model);
    if (text)
        retire_name(registry, text);
    else
        registry->name_bytes -= model_name(model).length;
}

static void retire_agent_name(struct registry *registry, const struct agent *agent)
{
    struct text *text = agent_long_name(agent);
    if (text)
        retire_name(registry, text);
    else
        registry->name_bytes -= agent_name(agent).length;
}

/* Servers that are kept only for the departures that are remembered do not count. O(1). */
bool registry_name_limit_reached(const struct registry *registry)
{
    const struct roots *now = &registry->now;
    uint64_t names = now->agents.count + now->models.count + now->servers.count;
    if (!registry->limit_names || names < registry->limit_names)
        return false;
    uint32_t wanted = registry->wanted_server;
    bool wanted_is_idle = wanted != NONE && server_get(now, wanted)->idle;
    return names - registry->idle_servers + wanted_is_idle >= registry->limit_names;
}

/* ----------------------------------------------------------------------------------- servers, models and agents -- */

void registry_count_idle(struct registry *registry, uint32_t number)
{
    struct server *server = server_edit(registry, number);
    server->idle = !server->idle;
    uint64_t sign = server->idle ? 1 : UINT64_MAX; /* adding it modulo 2^64 adds or takes one */
    registry->idle_servers += sign;
    registry->idle_name_bytes += sign * text_length(server->name);
}

int registry_add_server(struct registry *registry, struct span name, uint64_t hash, uint32_t *server)
{
    if (registry_name_limit_reached(registry))
        return PRESENCE_E_LIMIT;
    struct roots *now = &registry->now;
    uint32_t number = shelf_take(&now->servers, &registry->versions, &now->all_servers, 0);
    if (number == NONE)
        return PRESENCE_E_LIMIT;
    *server_edit(registry, number) =
        (struct server){.name = new_name(registry, name), .hash = hash, .flags = SERVER_COMPLETE};
    registry_count_idle(registry, number); /* until it is given something that makes it known */
    index_insert(&now->server_names, &registry->versions, hash, number, hash_of_server, registry);
    registry->recent[hash & (RECENT_SERVERS - 1)] = (struct recent_server){hash, number};
    *server = number;
    return PRESENCE_OK;
}

void registry_drop_idle_server(struct registry *registry, uint32_t number)
{
    const struct server *server = server_get(&registry->now, number);
    if (server_is_known(server) || server->departures)
        return;
    registry_count_idle(registry, number);
    server = server_get(&registry->now, number);
    struct text *name = server->name;
    uint64_t hash = server->hash;
    server_forget_downs(registry, server_edit(registry, number));
    index_remove(&registry->now.server_names, &registry->versions, hash, number);
    registry->recent[hash & (RECENT_SERVERS - 1)].number = NONE;
    retire_name(registry, name);
    shelf_give(&registry->now.servers, &registry->versions, &registry->now.all_servers, number);
}

static int add_model(struct registry *registry, struct span name, uint64_t hash, uint32_t *model)
{
    if (registry_name_limit_reached(registry))
        return PRESENCE_E_LIMIT;
    struct roots *now = &registry->now;
    uint32_t number = shelf_take(&now->models, &registry->versions, &now->all_models, 0);
    if (number == NONE)
        return PRESENCE_E_LIMIT;
    struct model *fresh = model_edit(registry, number);
    *fresh = (struct model){.hash = hash};
    set_model_name(registry, fresh, name);
    index_insert(&now->model_names, &registry->versions, hash, number, hash_of_model, registry);
    *model = number;
    return PRESENCE_OK;
}

static void drop_model(struct registry *registry, uint32_t number)
{
    const struct model *model = model_get(&registry->now, number);
    index_remove(&registry->now.model_names, &registry->versions, model->hash, number);
    retire_model_name(registry, model);
    shelf_give(&registry->now.models, &registry->versions, &registry->now.all_models, number);
}

static int add_agent(struct registry *registry, uint32_t model, struct span name, uint64_t hash, uint32_t *agent)
{
    if (registry_name_limit_reached(registry))
        return PRESENCE_E_LIMIT;
    struct roots *now = &registry->now;
    struct model *record = model_edit(registry, model);
    uint32_t number = shelf_take(&now->agents, &registry->versions, &record->agents, model);
    if (number == NONE)
        return PRESENCE_E_LIMIT;
    record->agent_count++;
    struct agent *fresh = agent_edit(registry, number);
    *fresh = (struct agent){
        .model = model, .events = UINT32_MAX, .first = NONE, .hash_reason = (uint32_t)hash & INDEX_HASH_MASK};
    set_agent_name(registry, fresh, name);
    index_insert(&now->by_agent, &registry->versions, hash, number, hash_of_agent, registry);
    *agent = number;
    return PRESENCE_OK;
}

SINGLE_CALL int registry_find_or_add_agent(struct registry *registry, const struct facts *facts, uint32_t *agent,
                                           bool *is_new)
{
    uint32_t model = registry_model(&registry->now, facts->model, facts->model_hash);
    uint64_t hash = agent_hash(registry, facts->model_hash, facts->agent_hash);
    bool fresh = model == NONE;
    *is_new = true;
    if (fresh) {
        int code = add_model(registry, facts->model, facts->model_hash, &model);
        if (code)
            return code;
    } else {
        registry_prefetch_agent_place(&registry->now, model_get(&registry->now, model));
        *agent = registry_agent_by_hash(&registry->now, hash, model, facts->agent);
        *is_new = *agent == NONE;
        if (!*is_new)
            return PRESENCE_OK;
    }
    int code = add_agent(registry, model, facts->agent, hash, agent);
    if (code && fresh)
        drop_model(registry, model);
    return code;
}

/* Gives back the record of an agent that is found no more, and its model's if that was the last one. */
static void give_agent(struct registry *registry, uint32_t model, struct model *record, uint32_t number)
{
    shelf_give(&registry->now.agents, &registry->versions, &record->agents, number);
    if (--record->agent_count == 0)
        drop_model(registry, model);
}

void registry_drop_idle_agent(struct registry *registry, uint32_t number)
{
    const struct agent *agent = agent_get(&registry->now, number);
    if (agent->first != NONE)
        return;
    uint32_t model = agent->model;
    index_remove(&registry->now.by_agent, &registry->versions, agent->hash_reason, number);
    retire_agent_name(registry, agent);
    give_agent(registry, model, model_edit(registry, model), number);
}

/* -------------------------------------------------------------------------------------------------------- rows -- */

/* A further row goes second in the agent's chain, so that the first, which keeps the basis, stays first. */
static void link_row(struct registry *registry, uint32_t agent, uint32_t number)
{
    uint32_t first = agent_get(&registry->now, agent)->first;
    if (first == NONE) {
        agent_edit(registry, agent)->first = number;
        return;
    }
    struct extra *head = extra_edit(registry, first);
    uint32_t second = head->next;
    head->next = number;
    struct extra *extra = extra_edit(registry, number);
    extra->prev = first;
    extra->next = second;
    if (second != NONE)
        extra_edit(registry, second)->prev = number;
}

static void unlink_row(struct registry *registry, uint32_t agent, uint32_t number, const struct extra *extra)
{
    uint32_t next = extra->next, prev = extra->prev;
    uint64_t basis = extra->basis;
    if (prev != NONE) {
        extra_edit(registry, prev)->next = next;
    } else {
        struct agent *record = agent_edit(registry, agent);
        assert(record->first == number);
        record->first = next;
        if (next != NONE && agent_meta(record) & AGENT_BASIS)
            extra_edit(registry, next)->basis = basis;
    }
    if (next != NONE)
        extra_edit(registry, next)->prev = prev;
}

static struct staged *staged_edit(struct registry *registry, uint32_t model)
{
    struct pv *staged = &registry->now.staged;
    struct versions *versions = &registry->versions;
    uint32_t at = model >> STAGED_PAGE_BITS, slot = model & (STAGED_PAGE_SLOTS - 1);
    pv_reach(staged, versions, at);
    struct staged_page *page =
        pv_page_or_null(staged, at) ? pv_edit_page(staged, versions, at) : pv_fill(staged, versions, at, true);
    page->used |= (uint64_t)1 << slot;
    return &page->at[slot];
}

static void staged_drop(struct registry *registry, uint32_t model)
{
    struct pv *staged = &registry->now.staged;
    uint32_t at = model >> STAGED_PAGE_BITS, slot = model & (STAGED_PAGE_SLOTS - 1);
    struct staged_page *page = pv_edit_page(staged, &registry->versions, at);
    page->at[slot] = (struct staged){0};
    page->used &= ~((uint64_t)1 << slot);
    if (!page->used)
        pv_drop(staged, &registry->versions, at);
}

/* What the other rows of a row's agent are. O(rows of the agent), but where one of the first is not fresh. */
enum others { OTHERS_NONE, OTHERS_FRESH, OTHERS_SOME_SHOW };
static enum others others_of(const struct roots *roots, uint32_t number)
{
    enum others others = OTHERS_NONE;
    for (uint32_t at = agent_get(roots, row_get(roots, number)->agent)->first; at != NONE;) {
        uint64_t stamp = row_stamp(roots, at);
        if (at != number && !row_is_fresh(stamp))
            return OTHERS_SOME_SHOW;
        others = at == number ? others : OTHERS_FRESH;
        at = row_next(roots, at, stamp);
    }
    return others;
}

static bool is_only_row(const struct roots *roots, uint32_t number)
{
    struct row row = *row_get(roots, number);
    return agent_get(roots, row.agent)->first == number && row_next(roots, number, row.stamp) == NONE;
}

static uint32_t model_of(const struct roots *roots, uint32_t row)
{
    return agent_get(roots, row_get(roots, row)->agent)->model;
}

/* Adds a fresh row (+1) to what is staged of its model, or takes it (-1); and an agent with it that has no other row to
 * show. */
static void stage(struct registry *registry, uint32_t number, uint32_t sign, bool agent)
{
    uint32_t model = model_of(&registry->now, number), server = row_server(&registry->now, number);
    struct staged *staged = staged_edit(registry, model);
    if (staged->rows == 0)
        staged->server = server;
    else if (staged->server != server)
        staged->server = NONE;
    staged->rows += sign; /* modulo 2^32 */
    staged->agents += agent ? sign : 0;
    if (staged->rows == 0)
        staged_drop(registry, model);
}

/* A row has come, or is about to go. With one that is not fresh its agent shows, and without it no longer if all others
 * are. */
static void count_staged(struct registry *registry, uint32_t number, uint32_t sign)
{
    struct roots *now = &registry->now;
    if (row_is_fresh(row_stamp(now, number)))
        stage(registry, number, sign, is_only_row(now, number));
    else if (staged_get(now, model_of(now, number)) && others_of(now, number) == OTHERS_FRESH)
        staged_edit(registry, model_of(now, number))->agents -= sign;
}

void registry_unstage(struct registry *registry, uint32_t number)
{
    stage(registry, number, UINT32_MAX, others_of(&registry->now, number) != OTHERS_SOME_SHOW);
}

bool registry_model_counts(const struct roots *roots, uint32_t number, size_t *connections, size_t *agents)
{
    const struct model *model = model_get(roots, number);
    const struct staged *staged = roots->bulks ? staged_get(roots, number) : NULL;
    *connections = model->rows;
    *agents = model->agent_count;
    if (roots->drops || (staged && staged->server == NONE && roots->sweeps))
        return false;
    if (!staged || (staged->server != NONE && server_get(roots, staged->server)->bulk == BULK_COMMITTED))
        return true;
    *connections -= staged->rows;
    *agents -= staged->agents;
    return true;
}

SINGLE_CALL uint32_t registry_take_row(struct registry *registry, uint32_t server, uint64_t id)
{
    struct roots *now = &registry->now;
    struct server *record = server_edit(registry, server);
    uint32_t number = shelf_take(&now->rows, &registry->versions, &record->rows, server);
    if (number == NONE)
        return NONE;
    record->physical++;
    server_settle(registry, server, record);
    struct row_page *page = row_page_edit(registry, number);
    uint32_t slot = number & (ROW_PAGE_SLOTS - 1);
    registry->generation += registry->generation == UINT32_MAX ? 2 : 1; /* never 0 */
    page->generation[slot] = registry->generation;
    page->at[slot] =
        (struct row){.id = id, .stamp = (uint64_t)server << ROW_SERVER_SHIFT & ROW_SERVER_MASK, .agent = NONE};
    index_insert(&now->by_connection, &registry->versions, connection_hash(registry, record->hash, id), number,
                 hash_of_row, registry);
    return number;
}

void registry_untake_row(struct registry *registry, uint32_t server, uint32_t number)
{
    struct roots *now = &registry->now;
    struct server *record = server_edit(registry, server);
    uint64_t hash = connection_hash(registry, record->hash, row_get(now, number)->id);
    index_remove(&now->by_connection, &registry->versions, hash, number);
    record->physical--;
    server_settle(registry, server, record);
    row_page_edit(registry, number)->generation[number & (ROW_PAGE_SLOTS - 1)] = 0;
    shelf_give(&now->rows, &registry->versions, &record->rows, number);
}

SINGLE_CALL void registry_fill_row(struct registry *registry, uint32_t number, uint32_t agent, struct text *data,
                                   uint64_t stamp_bits, presence_time last_seen)
{
    struct roots *now = &registry->now;
    struct row *row = row_edit(registry, number);
    const struct agent *record = agent_get(now, agent);
    row->last_seen = last_seen;
    row->stamp |= stamp_bits & ~ROW_LASTING;
    row->agent = agent;
    row->agent_hash = record->hash_reason & INDEX_HASH_MASK;
    uint32_t model = record->model;
    link_row(registry, agent, number);
    if (__builtin_expect(now->bulks != 0, 0))
        count_staged(registry, number, 1);
    model_edit(registry, model)->rows++;
    if (data)
        extra_edit(registry, number)->data = data;
}

uint32_t registry_add_row(struct registry *registry, uint32_t server, uint32_t agent, uint64_t id, struct text *data,
                          uint64_t stamp_bits, presence_time last_seen)
{
    uint32_t number = registry_take_row(registry, server, id);
    if (number != NONE)
        registry_fill_row(registry, number, agent, data, stamp_bits, last_seen);
    return number;
}

/* In the order in which what it touches comes: first what the row tells, then the agent, then the model behind it, for
 * which nothing waits here, so the next call can ask for its own first line meanwhile. A row without extras is its
 * agent's only one. */
SINGLE_CALL void registry_remove_row(struct registry *registry, uint32_t number)
{
    struct roots *now = &registry->now;
    struct versions *versions = &registry->versions;
    const struct row_page *page = shelf_page(&now->rows, number);
    uint32_t slot = number & (ROW_PAGE_SLOTS - 1);
    struct row row = page->at[slot];
    uint32_t owner = row_server_of(now, number, &row);
    struct server *server = server_edit(registry, owner);
    if (__builtin_expect(now->bulks != 0, 0))
        count_staged(registry, number, UINT32_MAX);
    index_remove(&now->by_connection, versions, connection_hash(registry, server->hash, row.id), number);
    bool idle = true;
    if (row.stamp & ROW_EXTRA) {
        const struct extra *extra = extra_get(now, number);
        registry_drop_text(registry, extra->data);
        unlink_row(registry, row.agent, number, extra);
        extra_drop(registry, number);
        idle = agent_get(now, row.agent)->first == NONE;
    }
    server->physical--;
    server_settle(registry, owner, server);
    struct row_page *edit =
        versions_owns_all(versions) ? (struct row_page *)(uintptr_t)page : row_page_edit(registry, number);
    edit->generation[slot] = 0;
    shelf_give(&now->rows, versions, &server->rows, number);
    if (idle)
        index_remove(&now->by_agent, versions, row.agent_hash, row.agent);
    uint32_t model = shelf_owner(&now->agents, row.agent);
    if (idle)
        retire_agent_name(registry, agent_get(now, row.agent));
    struct model *record = model_edit(registry, model);
    record->rows--;
    if (idle)
        give_agent(registry, model, record, row.agent);
}

void registry_set_data(struct registry *registry, uint32_t number, struct text *data)
{
    struct extra *extra = extra_edit(registry, number);
    registry_drop_text(registry, extra->data);
    extra->data = data;
}

/* ------------------------------------------------------------------------------------------- counts and digests -- */

uint64_t registry_row_digest(const struct roots *roots, const struct server *server, uint32_t number)
{
    struct row row = *row_get(roots, number);
    struct span agent = agent_name(agent_get(roots, row.agent));
    struct span model = model_name(model_get(roots, agent_get(roots, row.agent)->model));
    const char *data = row_data(roots, number, row.stamp);
    uint64_t key[2] = {server->claim.epoch ^ server->claim.random, server->claim.turn + server->claim.random};
    /* Each part is hashed with the one before as its key, so parts cannot run into each other. */
    key[0] ^= row.id;
    key[1] ^= (row.stamp & ROW_CONTROLLER) ? 1 : 0;
    key[0] = text_sip_hash(key, model.bytes, model.length);
    key[0] = text_sip_hash(key, agent.bytes, agent.length);
    return text_sip_hash(key, data, strlen(data));
}

SINGLE_CALL void registry_count(struct registry *registry, uint32_t number, int sign)
{
    struct roots *now = &registry->now;
    const struct row *row = row_get(now, number);
    uint64_t stamp = row->stamp;
    struct server *server = server_edit(registry, row_server_of(now, number, row));
    presence_status stated = row_stated_status(stamp, server);
    if (stated == PRESENCE_UNKNOWN)
        return;
    uint64_t one = (uint64_t)(int64_t)sign; /* adding it modulo 2^64 adds or takes one */
    uint64_t one_alive = stated == PRESENCE_ALIVE ? one : 0;
    server->connections += one;
    server->alive += one_alive;
    now->connections += one;
    if (!(server->flags & SERVER_LAPSED))
        now->alive += one_alive;
    if (row_revision(stamp) < server->base)
        return;
    server->stated += one;
    server->stated_alive += one_alive;
    if (!(server->flags & SERVER_CLAIMED))
        return;
    uint64_t digest = registry_row_digest(now, server, number);
    server->digest.all += digest * one;
    if (one_alive)
        server->digest.alive += digest * one;
}

/* ------------------------------------------------------------------------------------------------ server_downs -- */

static size_t downs_bytes(size_t count)
{
    return sizeof(struct downs) + count * sizeof(struct down);
}

static void set_older_downs(struct registry *registry, struct server *server, struct downs *downs)
{
    struct downs *old = server->older_downs;
    server->older_downs = downs;
    if (old)
        versions_retire(&registry->versions, old, downs_bytes(old->born_count & 0xffff), old->born_count >> 16);
}

void server_forget_downs(struct registry *registry, struct server *server)
{
    server->down = (struct down){0};
    set_older_downs(registry, server, NULL);
}

/* The newest becomes one of the older; the oldest two become one where there are too many. */
static void keep_down(struct registry *registry, struct server *server)
{
    const struct downs *old = server->older_downs;
    size_t kept = server_older_downs(server), skip = kept == OLDER_DOWNS_MOST ? 1 : 0;
    kept -= skip;
    struct downs *downs = arena_take(&registry->arena, downs_bytes(kept + 1));
    downs->born_count = registry->versions.epoch << 16 | (kept + 1);
    if (kept)
        memcpy(downs->at, old->at + skip, kept * sizeof(struct down));
    downs->at[kept] = server->down;
    set_older_downs(registry, server, downs);
}

void server_make_room_for_down(struct registry *registry, struct server *server)
{
    if (server->alive == server->connections)
        set_older_downs(registry, server, NULL);
    else if (server->down.revision)
        keep_down(registry, server);
}
