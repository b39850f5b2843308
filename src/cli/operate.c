/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operate.c - verify, explain, forget: what operators do when something looks wrong.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether the daemon is a node of a cluster, and we may know. */
static bool is_in_cluster(void)
{
    json_t *body = NULL;
    long status = http_ask("GET", "/v1/cluster", NULL, &body, 403);
    bool answer = status == 200 && json_is_string(json_object_get(body, "cluster"));
    json_decref(body);
    return answer;
}

static long long number_of(const json_t *body, const char *key)
{
    return (long long)json_integer_value(json_object_get(body, key));
}

static void draw_stands(const struct cli *cli, json_t *stands)
{
    static const struct column columns[] = {
        {"SERVER", "server", COLUMN_TEXT},       {"NODE", "node", COLUMN_TEXT},
        {"STATED BY", "stated_by", COLUMN_TEXT}, {"EPOCH", "epoch", COLUMN_NUMBER},
        {"TURN", "turn", COLUMN_NUMBER},         {"NUMBER", "number", COLUMN_NUMBER},
        {"CONNS", "connections", COLUMN_NUMBER}, {"ALIVE", "alive", COLUMN_NUMBER},
        {"", "agreement", COLUMN_TEXT}};
    struct rows *rows = rows_new(cli, columns, sizeof columns / sizeof *columns);
    size_t index;
    json_t *one;
    json_array_foreach(stands, index, one) rows_add(rows, json_incref(one));
    rows_draw(rows, stdout, 0, 0);
    rows_free(rows);
}

/* Asks all nodes whether they hold the same, and says so. The exit status. */
static int verify_cluster(const struct cli *cli)
{
    json_t *body = NULL;
    http_ask("GET", "/v1/cluster/verification", NULL, &body, 0);
    long long asked = number_of(body, "asked"), answered = number_of(body, "answered");
    long long servers = number_of(body, "servers"), unequal = number_of(body, "unequal");
    if (cli->output != OUTPUT_TABLE) {
        print_object(cli, body);
    } else if (unequal > 0) {
        printf("unequal: %lld of %lld servers on %lld nodes\n\n", unequal, servers, answered);
        draw_stands(cli, json_object_get(body, "stands"));
    } else {
        printf("agreed: %lld node%s, %lld server%s\n", answered, answered == 1 ? "" : "s", servers,
               servers == 1 ? "" : "s");
    }
    json_decref(body);
    if (unequal == 0 && answered < asked)
        fail("%lld of %lld nodes did not answer in time", asked - answered, asked);
    return unequal > 0 ? ANSWER_NO : ANSWER_YES;
}

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
    int agreed = is_in_cluster() ? verify_cluster(cli) : ANSWER_YES;
    return good ? agreed : ANSWER_NO;
}

static void draw_connections(const struct cli *cli, json_t *connections)
{
    static const struct column columns[] = {
        {"SERVER", "server", COLUMN_TEXT},       {"CONN ID", "connection_id", COLUMN_NUMBER},
        {"STATUS", "status", COLUMN_STATUS},     {"CONTROLLER", "controller_agent", COLUMN_TEXT},
        {"LAST SEEN", "last_seen", COLUMN_TIME}, {"EPOCH", "server_epoch", COLUMN_NUMBER},
        {"NODE", "server_node", COLUMN_TEXT},    {"FRESHNESS", "server_freshness", COLUMN_TEXT},
        {"DATA", "user_data", COLUMN_TEXT}};
    struct rows *rows = rows_new(cli, columns, sizeof columns / sizeof *columns);
    size_t index;
    json_t *one;
    json_array_foreach(connections, index, one) rows_add(rows, json_incref(one));
    if (rows_count(rows) > 0) {
        putchar('\n');
        rows_draw(rows, stdout, 0, 0);
    }
    rows_free(rows);
}

/* What each node of the cluster knows of the agent, to be released; NULL: this node is in none, or we may not know. */
static json_t *ask_all_nodes(const struct cli *cli)
{
    json_t *body = NULL;
    if (!is_in_cluster())
        return NULL;
    char *path = http_path("/v1/models/%s/agents/%s/testimony", cli->words[0], cli->words[1]);
    http_ask("GET", path, NULL, &body, 0);
    free(path);
    return body;
}

static void draw_nodes(const struct cli *cli, json_t *testimony)
{
    static const struct column columns[] = {{"NODE", "node", COLUMN_TEXT},
                                            {"STATUS", "status", COLUMN_STATUS},
                                            {"REASON", "reason", COLUMN_TEXT},
                                            {"SINCE", "since", COLUMN_TIME},
                                            {"LAST SEEN", "last_seen", COLUMN_TIME},
                                            {"FRESHNESS", "freshness", COLUMN_TEXT},
                                            {"CONNS", "connections_in_all", COLUMN_NUMBER}};
    struct rows *rows = rows_new(cli, columns, sizeof columns / sizeof *columns);
    size_t index;
    json_t *one;
    json_array_foreach(json_object_get(testimony, "nodes"), index, one) rows_add(rows, json_incref(one));
    putchar('\n');
    rows_draw(rows, stdout, 0, 0);
    rows_free(rows);
    if (number_of(testimony, "answered") < number_of(testimony, "asked"))
        printf("%lld of %lld nodes did not answer in time\n",
               number_of(testimony, "asked") - number_of(testimony, "answered"), number_of(testimony, "asked"));
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
    json_t *testimony = ask_all_nodes(cli);
    if (testimony && cli->output != OUTPUT_TABLE)
        json_object_set(body, "nodes", json_object_get(testimony, "nodes"));
    print_object(cli, body);
    if (cli->output == OUTPUT_TABLE)
        draw_connections(cli, json_object_get(body, "connections"));
    if (testimony && cli->output == OUTPUT_TABLE)
        draw_nodes(cli, testimony);
    json_decref(testimony);
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
