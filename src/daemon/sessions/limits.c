/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.c - max-server-connections and max-model-names, which the recorder does not know.
 *
 * The recorder's own counts are asked first: far from a limit, that is all. Near it, what is really new is counted in a
 * view: ids that the server does not have, and names that the model does not have, each once. A list that replaces
 * names counts the old and the new, since the record holds both when it switches.
 *
 * Any thread. Without these limits it costs two loads. A value is looked up in about a microsecond; names near a limit
 * are sorted.
 */
#include "sessions/inside.h"

#include <stdio.h>
#include <stdlib.h>

static int refuse(presence_error *error, const char *option, uint64_t limit, const char *of, const char *name)
{
    error->code = PRESENCE_E_LIMIT;
    snprintf(error->message, sizeof error->message, "%s (%llu) of the %s \"%.64s\" is reached", option,
             (unsigned long long)limit, of, name);
    return PRESENCE_E_LIMIT;
}

/* How many of the values' ids the server does not have. */
static size_t count_new_ids(const presence_connections *view, const presence_value *values, size_t count)
{
    presence_value there;
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += presence_connections_find(view, values[i].server, values[i].connection_id, &there) != PRESENCE_OK;
    return sum;
}

static int check_server(struct node *node, const presence_value *values, size_t count, bool whole,
                        presence_error *error)
{
    uint64_t limit = node->config->max_server_connections;
    presence_counts counts = {0};
    if (presence_recorder_server_counts(node->recorder, values->server, &counts) != PRESENCE_OK)
        return PRESENCE_OK; /* a bad name, or disabled: the recorder says so better */
    if (whole)
        counts.connections = 0;
    if (counts.connections + count <= limit)
        return PRESENCE_OK;
    if (!whole) {
        presence_connections *view = presence_recorder_connections(node->recorder);
        if (!view)
            return PRESENCE_E_NO_MEMORY;
        count = count_new_ids(view, values, count);
        presence_connections_free(view);
    }
    return count > 0 && counts.connections + count > limit
               ? refuse(error, "max-server-connections", limit, "server", values->server)
               : PRESENCE_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Values of one model: `order` tells which of the list they are. */
struct of_model {
    const presence_value *values;
    const size_t *order;
    size_t count;
};

static const presence_value *nth(const struct of_model *some, size_t index)
{
    return &some->values[some->order[index]];
}

/* How many of the agents are new to their model, each counted once; `names` is a scratch for all of them. */
static int count_new_names(const presence_connections *view, const struct of_model *some, const char **names,
                           size_t *sum)
{
    size_t found = 0;
    presence_connections *model = presence_connections_for_model(view, nth(some, 0)->model);
    if (!model)
        return PRESENCE_E_NO_MEMORY;
    for (size_t i = 0; i < some->count; i++) {
        presence_connections *agent = presence_connections_for_agent(model, nth(some, i)->agent);
        if (agent && presence_connections_count(agent) == 0)
            names[found++] = nth(some, i)->agent;
        presence_connections_free(agent);
    }
    presence_connections_free(model);
    qsort(names, found, sizeof *names, compare_names);
    *sum = 0;
    for (size_t i = 0; i < found; i++)
        *sum += i == 0 || strcmp(names[i], names[i - 1]) != 0;
    return PRESENCE_OK;
}

static int check_model(struct node *node, const struct of_model *some, presence_error *error)
{
    uint64_t limit = node->config->max_model_names;
    const char *model = nth(some, 0)->model;
    size_t connections, agents = 0, sum = 0;
    if (presence_recorder_model_counts(node->recorder, model, &connections, &agents) != PRESENCE_OK ||
        agents + some->count <= limit)
        return PRESENCE_OK;
    const char **names = malloc(some->count * sizeof *names);
    presence_connections *view = presence_recorder_connections(node->recorder);
    int code = names && view ? count_new_names(view, some, names, &sum) : PRESENCE_E_NO_MEMORY;
    presence_connections_free(view);
    free(names);
    if (code == PRESENCE_OK && sum > 0 && agents + sum > limit)
        code = refuse(error, "max-model-names", limit, "model", model);
    return code;
}

static int compare_models(const void *a, const void *b, void *context)
{
    const presence_value *values = context;
    size_t left = *(const size_t *)a, right = *(const size_t *)b;
    int order = strcmp(values[left].model, values[right].model);
    return order ? order : (left > right) - (left < right);
}

/* Each model of the list once: their values are brought together by sorting. */
static int check_models(struct node *node, const presence_value *values, size_t count, presence_error *error)
{
    size_t one = 0, *order = count == 1 ? &one : malloc(count * sizeof *order);
    if (!order)
        return PRESENCE_E_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, count, sizeof *order, compare_models, (void *)(uintptr_t)values);
    int code = PRESENCE_OK;
    for (size_t i = 0, end; code == PRESENCE_OK && i < count; i = end) {
        for (end = i + 1; end < count && strcmp(values[order[end]].model, values[order[i]].model) == 0;)
            end++;
        code = check_model(node, &(struct of_model){values, &order[i], end - i}, error);
    }
    if (order != &one)
        free(order);
    return code;
}

int limits_check(struct node *node, const presence_value *values, size_t count, bool whole, presence_error *error)
{
    int code = PRESENCE_OK;
    if (count > 0 && node->config->max_server_connections)
        code = check_server(node, values, count, whole, error);
    if (code == PRESENCE_OK && count > 0 && node->config->max_model_names)
        code = check_models(node, values, count, error);
    return code;
}
