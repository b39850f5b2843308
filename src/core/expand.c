/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expand.c - see expand.h. Cost: O(connections of the server in both snapshots) over all calls, each with a look-up
 * in the other snapshot.
 */
#include "expand.h"

static presence_connections *slice_of(const presence_allocator *memory, struct snapshot *snapshot,
                                      const struct expand_filter *filter)
{
    presence_connections *view = connections_new(memory, snapshot_borrow(snapshot));
    if (!view) {
        snapshot_release(snapshot);
        return NULL;
    }
    presence_connections *slice = presence_connections_for_server(view, filter->server);
    presence_connections_free(view);
    if (slice && filter->model) {
        presence_connections *narrower = presence_connections_for_model(slice, filter->model);
        presence_connections_free(slice);
        slice = narrower;
    }
    if (slice && filter->agent) {
        presence_connections *narrower = presence_connections_for_agent(slice, filter->agent);
        presence_connections_free(slice);
        slice = narrower;
    }
    return slice;
}

bool expansion_start(struct expansion *expansion, const presence_allocator *memory, struct snapshot *before,
                     struct snapshot *after, const struct expand_filter *filter, presence_reason reason,
                     presence_time time)
{
    *expansion = (struct expansion){.reason = reason, .time = time};
    expansion->were = slice_of(memory, before, filter);
    expansion->are = slice_of(memory, after, filter);
    if (!expansion->were || !expansion->are) {
        presence_connections_free(expansion->were);
        presence_connections_free(expansion->are);
        *expansion = (struct expansion){0};
        return false;
    }
    expansion->before = snapshot_borrow(before);
    expansion->after = snapshot_borrow(after);
    return true;
}

void expansion_end(struct expansion *expansion)
{
    presence_connections_free(expansion->were);
    presence_connections_free(expansion->are);
    snapshot_release(expansion->before);
    snapshot_release(expansion->after);
    *expansion = (struct expansion){0};
}

/* The same connection in the other snapshot, if the filter lets it be seen there. */
static bool counterpart(const struct snapshot *here, uint32_t row, const presence_connections *there,
                        presence_value *value)
{
    const struct text *server = server_get(&here->at, row_server(&here->at, row))->name;
    return presence_connections_find(there, server->bytes, row_get(&here->at, row)->id, value) == PRESENCE_OK;
}

/* The agent of a value, in a snapshot. */
static uint32_t agent_in(const struct snapshot *snapshot, const presence_value *value)
{
    struct span model = {value->model, strlen(value->model)}, agent = {value->agent, strlen(value->agent)};
    const struct registry *registry = snapshot->registry;
    uint32_t number = registry_model(&snapshot->at, model, name_hash(registry, model));
    return number == NONE ? NONE : registry_agent(registry, &snapshot->at, number, agent, name_hash(registry, agent));
}

static uint32_t agent_there(const struct snapshot *here, uint32_t row, const struct snapshot *there)
{
    presence_value value;
    registry_value(&here->at, row, &value);
    return agent_in(there, &value);
}

static presence_status best_of(const struct snapshot *snapshot, uint32_t agent)
{
    return agent == NONE ? PRESENCE_UNKNOWN : evidence_best(&snapshot->at, agent);
}

/* The first of the agent's rows on that server that readers see, or NONE. */
static uint32_t first_on_server(const struct roots *roots, uint32_t agent, uint32_t server)
{
    for (uint32_t at = agent == NONE ? NONE : agent_get(roots, agent)->first; at != NONE;) {
        uint64_t stamp = row_stamp(roots, at);
        if (row_server(roots, at) == server && row_stated_status(stamp, server_get(roots, server)) != PRESENCE_UNKNOWN)
            return at;
        at = row_next(roots, at, stamp);
    }
    return NONE;
}

static uint32_t server_there(const struct snapshot *here, uint32_t row, const struct snapshot *there)
{
    const struct text *name = server_get(&here->at, row_server(&here->at, row))->name;
    return registry_server(&there->at, text_span(name), name_hash(there->registry, text_span(name)));
}

/* One event an agent: at its first row on the server before the change; if it had none, at its first after it. */
static bool agent_event(const struct expansion *expansion, uint32_t row, presence_event *event)
{
    const struct snapshot *here = expansion->second ? expansion->after : expansion->before;
    const struct snapshot *there = expansion->second ? expansion->before : expansion->after;
    uint32_t agent = row_get(&here->at, row)->agent;
    if (first_on_server(&here->at, agent, row_server(&here->at, row)) != row)
        return false;
    uint32_t other = agent_there(here, row, there);
    uint32_t server = server_there(here, row, there);
    if (expansion->second && server != NONE && first_on_server(&there->at, other, server) != NONE)
        return false;
    presence_status mine = best_of(here, agent), its = best_of(there, other);
    event->agent_before = expansion->second ? its : mine;
    event->agent_after = expansion->second ? mine : its;
    if (event->agent_before == event->agent_after)
        return false;
    event->kind = PRESENCE_EVENT_AGENT;
    event->reason = expansion->reason;
    event->time = expansion->time;
    registry_value(&here->at, row, &event->value);
    return true;
}

static bool same_facts(const presence_value *a, const presence_value *b)
{
    return a->controller_agent == b->controller_agent && strcmp(a->user_data, b->user_data) == 0 &&
           strcmp(a->agent, b->agent) == 0 && strcmp(a->model, b->model) == 0;
}

/* What became of a connection that was there before. */
static bool event_of_old(const struct expansion *expansion, uint32_t row, presence_event *event)
{
    presence_value was;
    registry_value(&expansion->before->at, row, &was);
    if (!counterpart(expansion->before, row, expansion->are, &event->value)) {
        event->kind = PRESENCE_EVENT_DISCONNECTED;
        event->value = was;
    } else if (!same_facts(&was, &event->value)) {
        event->kind = PRESENCE_EVENT_UPDATED;
    } else if (was.status == PRESENCE_ALIVE && event->value.status == PRESENCE_MISSING) {
        event->kind = PRESENCE_EVENT_MISSING;
    } else if (was.status == PRESENCE_MISSING && event->value.status == PRESENCE_ALIVE) {
        event->kind = PRESENCE_EVENT_RECONNECTED;
    } else {
        return false;
    }
    return true;
}

static bool row_event(const struct expansion *expansion, uint32_t row, presence_event *event)
{
    presence_value old;
    if (!expansion->second) {
        if (!event_of_old(expansion, row, event))
            return false;
    } else {
        if (counterpart(expansion->after, row, expansion->were, &old))
            return false;
        event->kind = PRESENCE_EVENT_CONNECTED;
        registry_value(&expansion->after->at, row, &event->value);
    }
    event->reason = expansion->reason;
    event->time = expansion->time;
    event->agent_before = best_of(expansion->before, agent_in(expansion->before, &event->value));
    event->agent_after = best_of(expansion->after, agent_in(expansion->after, &event->value));
    return true;
}

bool expansion_next(struct expansion *expansion, const struct expand_filter *filter, presence_event *event)
{
    for (;;) {
        uint32_t row;
        while (connections_next_row(expansion->second ? expansion->are : expansion->were, &expansion->cursor, &row))
            if (filter->agents ? agent_event(expansion, row, event) : row_event(expansion, row, event))
                return true;
        if (expansion->second)
            return false;
        expansion->second = true;
        expansion->cursor = (presence_cursor){{0}};
    }
}
