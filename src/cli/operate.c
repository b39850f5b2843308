/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operate.c - verify, explain, forget: what operators do when something looks wrong.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int run_verify(struct cli *cli)
{
    json_t *body;
    http_ask("POST", "/v1/check", NULL, &body, 0);
    bool good = json_is_true(json_object_get(body, "good"));
    const char *problem = json_string_value(json_object_get(body, "problem"));
    if (cli->output != OUTPUT_TABLE) {
        print_object(cli, body);
    } else if (good) {
        long long connections = (long long)json_integer_value(json_object_get(body, "connections"));
        printf("good: %lld connection%s at revision %lld\n", connections, connections == 1 ? "" : "s",
               (long long)json_integer_value(json_object_get(body, "revision")));
    } else {
        fputs("broken: ", stdout);
        print_text(stdout, problem ? problem : "no reason was given");
        putchar('\n');
    }
    json_decref(body);
    return good ? ANSWER_YES : ANSWER_NO;
}

static void draw_connections(const struct cli *cli, json_t *connections)
{
    static const struct column columns[] = {
        {"SERVER", "server", COLUMN_TEXT},       {"CONN ID", "connection_id", COLUMN_NUMBER},
        {"STATUS", "status", COLUMN_STATUS},     {"CONTROLLER", "controller_agent", COLUMN_TEXT},
        {"LAST SEEN", "last_seen", COLUMN_TIME}, {"EPOCH", "server_epoch", COLUMN_NUMBER},
        {"DATA", "user_data", COLUMN_TEXT}};
    struct rows *rows = rows_new(cli, columns, 7);
    size_t index;
    json_t *one;
    json_array_foreach(connections, index, one) rows_add(rows, json_incref(one));
    if (rows_count(rows) > 0) {
        putchar('\n');
        rows_draw(rows, stdout, 0, 0);
    }
    rows_free(rows);
}

int run_explain(struct cli *cli)
{
    json_t *body;
    char *path = http_path("/v1/models/%s/agents/%s/explanation", cli->words[0], cli->words[1]);
    http_ask("GET", path, NULL, &body, 0);
    free(path);
    const char *status = json_string_value(json_object_get(body, "status"));
    if (!status)
        fail("%s did not answer an explanation: is it presenced?", cli->url);
    bool alive = strcmp(status, "alive") == 0;
    print_object(cli, body);
    if (cli->output == OUTPUT_TABLE)
        draw_connections(cli, json_object_get(body, "connections"));
    json_decref(body);
    return alive ? ANSWER_YES : ANSWER_NO;
}

/* What cannot be undone is asked back, where somebody is there to answer. */
static bool is_meant(const struct cli *cli, const char *server)
{
    char answer[16];
    if (cli->yes)
        return true;
    if (!isatty(STDIN_FILENO))
        fail("forget drops every connection of %s: say --yes", server);
    fprintf(stderr, "Drop every connection of %s? [y/N] ", server);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int run_forget(struct cli *cli)
{
    json_t *body;
    if (!is_meant(cli, cli->words[0]))
        return ANSWER_NO;
    char *path = http_path("/v1/servers/%s", cli->words[0]);
    http_ask("DELETE", path, NULL, &body, 0);
    free(path);
    json_t *number = json_is_object(body) ? json_object_get(body, "forgotten") : body;
    long long forgotten = (long long)json_integer_value(number);
    if (cli->output == OUTPUT_TABLE)
        printf("%lld connection%s forgotten\n", forgotten, forgotten == 1 ? "" : "s");
    else
        printf("{\"forgotten\":%lld}\n", forgotten);
    json_decref(body);
    return forgotten > 0 ? ANSWER_YES : ANSWER_NO;
}
