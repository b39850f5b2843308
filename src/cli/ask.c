/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask.c - questions: report, status, agents, models, servers, values, count.
 *
 * Lists are asked for in pages of one snapshot, so a list is what was true at one moment, however long. One thread.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_ROWS "5000"

void list_pages(const struct cli *cli, const char *path, const char *plural, void (*row)(json_t *row, void *context),
                void *context)
{
    char *cursor = NULL;
    uint64_t done = 0;
    do {
        char *page_path = strdup(path);
        json_t *page, *one;
        size_t index;
        if (!page_path)
            fail("out of memory");
        page_path = http_query(page_path, "limit", PAGE_ROWS);
        page_path = http_query(page_path, "cursor", cursor);
        http_ask("GET", page_path, NULL, &page, 0);
        free(page_path);
        free(cursor);
        json_t *list = json_object_get(page, plural);
        if (!json_is_array(list))
            fail("%s did not answer a list of %s: is it presenced?", cli->url, plural);
        json_array_foreach(list, index, one) row(json_incref(one), context);
        const char *next = json_string_value(json_object_get(page, "cursor"));
        cursor = next ? strdup(next) : NULL;
        if (next && !cursor)
            fail("out of memory");
        progress(cli, plural, done += json_array_size(list), false);
        json_decref(page);
    } while (cursor);
    progress(cli, plural, done, true);
}

static void add_row(json_t *row, void *context)
{
    rows_add(context, row);
}

static int list(const struct cli *cli, char *path, const char *plural, const struct column *columns, size_t count,
                const char *none)
{
    struct rows *rows = rows_new(cli, columns, count);
    list_pages(cli, path, plural, add_row, rows);
    rows_end(rows, none);
    free(path);
    return ANSWER_YES;
}

int run_models(struct cli *cli)
{
    static const struct column columns[] = {{"MODEL", "model", COLUMN_TEXT},
                                            {"AGENTS", "agents", COLUMN_NUMBER},
                                            {"CONNECTIONS", "connections", COLUMN_NUMBER}};
    return list(cli, http_query(http_path("/v1/models"), "details", "1"), "models", columns, 3, "no models");
}

int run_servers(struct cli *cli)
{
    static const struct column columns[] = {{"SERVER", "server", COLUMN_TEXT},
                                            {"STATUS", "status", COLUMN_STATUS},
                                            {"ALIVE", "alive", COLUMN_NUMBER},
                                            {"MISSING", "missing", COLUMN_NUMBER},
                                            {"FRESHNESS", "freshness", COLUMN_TEXT},
                                            {"EPOCH", "epoch", COLUMN_NUMBER},
                                            {"NODE", "node", COLUMN_TEXT}};
    char *path = http_query(http_query(http_path("/v1/servers"), "details", "1"), "model", cli->model);
    return list(cli, path, "servers", columns, cli->model ? 1 : 7, "no servers");
}

static const struct column value_columns[] = {
    {"MODEL", "model", COLUMN_TEXT},         {"AGENT", "agent", COLUMN_TEXT},
    {"SERVER", "server", COLUMN_TEXT},       {"CONN ID", "connection_id", COLUMN_NUMBER},
    {"STATUS", "status", COLUMN_STATUS},     {"CONTROLLER", "controller_agent", COLUMN_TEXT},
    {"LAST SEEN", "last_seen", COLUMN_TIME}, {"DATA", "user_data", COLUMN_TEXT}};

static char *filtered(char *path, const struct cli *cli)
{
    path = http_query(path, "model", cli->model);
    path = http_query(path, "server", cli->server);
    path = http_query(path, "agent", cli->agent);
    return http_query(path, "status", cli->status);
}

int run_values(struct cli *cli)
{
    return list(cli, filtered(http_path("/v1/connections"), cli), "values", value_columns, 8, "no connections");
}

int run_report(struct cli *cli)
{
    if (cli->output != OUTPUT_TABLE)
        return run_values(cli);
    char *path = http_query(http_path("/report"), "model", cli->model);
    http_copy(path, stdout);
    free(path);
    return ANSWER_YES;
}

int run_count(struct cli *cli)
{
    json_t *body;
    char *path = filtered(http_path("/v1/count"), cli);
    http_ask("GET", path, NULL, &body, 0);
    json_t *count = json_is_object(body) ? json_object_get(body, "count") : body;
    if (!json_is_integer(count))
        fail("%s did not answer a number: is it presenced?", cli->url);
    if (cli->output == OUTPUT_TABLE)
        printf("%lld\n", (long long)json_integer_value(count));
    else
        printf("{\"count\":%lld}\n", (long long)json_integer_value(count));
    json_decref(body);
    free(path);
    return ANSWER_YES;
}

/* -------------------------------------------------------------------------------------------------------- agents -- */

static const struct column agent_columns[] = {{"MODEL", "model", COLUMN_TEXT},
                                              {"AGENT", "agent", COLUMN_TEXT},
                                              {"STATUS", "status", COLUMN_STATUS},
                                              {"REASON", "reason", COLUMN_TEXT},
                                              {"SINCE", "since", COLUMN_TIME},
                                              {"LAST SEEN", "last_seen", COLUMN_TIME},
                                              {"ALIVE", "connections.alive", COLUMN_NUMBER},
                                              {"MISSING", "connections.missing", COLUMN_NUMBER}};

struct agents {
    struct rows *rows;
    const char *model;
};

static void add_agent(json_t *row, void *context)
{
    struct agents *agents = context;
    json_object_set_new(row, "model", json_string(agents->model));
    rows_add(agents->rows, row);
}

static void list_agents(const struct cli *cli, struct agents *agents)
{
    char *path = http_query(http_path("/v1/models/%s/agents", agents->model), "details", "1");
    path = http_query(path, "server", cli->server);
    list_pages(cli, path, "agents", add_agent, agents);
    free(path);
}

static void add_name(json_t *row, void *context)
{
    json_array_append_new(context, row);
}

int run_agents(struct cli *cli)
{
    const char *model = cli->word_count > 0 ? cli->words[0] : cli->model;
    struct agents agents = {rows_new(cli, agent_columns + (model != NULL), model ? 7 : 8), model};
    if (model) {
        list_agents(cli, &agents);
    } else {
        json_t *models = json_array(), *one;
        size_t index;
        list_pages(cli, "/v1/models", "models", add_name, models);
        json_array_foreach(models, index, one)
        {
            agents.model =
                json_is_string(one) ? json_string_value(one) : json_string_value(json_object_get(one, "model"));
            if (agents.model)
                list_agents(cli, &agents);
        }
        json_decref(models);
    }
    rows_end(agents.rows, "no agents");
    return ANSWER_YES;
}

int run_status(struct cli *cli)
{
    const char *model = cli->words[0];
    struct rows *rows = rows_new(cli, agent_columns + 1, 7);
    bool all_alive = true;
    for (int i = 1; i < cli->word_count; i++) {
        json_t *agent;
        char *path = http_path("/v1/models/%s/agents/%s", model, cli->words[i]);
        http_ask("GET", path, NULL, &agent, 0);
        free(path);
        const char *status = json_string_value(json_object_get(agent, "status"));
        if (!status)
            fail("%s did not answer a status: is it presenced?", cli->url);
        all_alive = all_alive && strcmp(status, "alive") == 0;
        json_object_set_new(agent, "model", json_string(model));
        json_object_set_new(agent, "agent", json_string(cli->words[i]));
        rows_add(rows, agent);
    }
    rows_end(rows, "");
    return all_alive ? ANSWER_YES : ANSWER_NO;
}
