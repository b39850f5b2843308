/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.c - watch and events: changes as they happen, by Server-Sent Events.
 *
 * A line a change, flushed at once. When the connection is lost it is made anew after a second, from the last change
 * seen, so nothing is lost or doubled; where too much has happened meanwhile, presenced says `reset`, and so do we.
 * Ends after --count changes, or by a signal.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct following {
    const struct cli *cli;
    uint64_t told;
    bool heard; /* the other side has answered since the last try */
    char last_id[64];
};

static const char *text_of(const json_t *event, const char *key)
{
    const char *text = json_string_value(json_object_get(event, key));
    return text ? text : "";
}

static void print_status(const struct cli *cli, const char *status)
{
    printf("%s%s%s", colour_of(cli, status), status, colour_end(cli));
}

/* "2026-11-22 20:29:10  unit-a-0  alive -> missing  server_down  machine-0  (model)" */
static void tell_agent(const struct cli *cli, const json_t *event)
{
    print_text(stdout, text_of(event, "agent"));
    fputs("  ", stdout);
    print_status(cli, text_of(event, "before"));
    fputs(" -> ", stdout);
    print_status(cli, text_of(event, "after"));
}

static void tell_connection(const struct cli *cli, const json_t *event)
{
    printf("%s  ", text_of(event, "kind"));
    print_text(stdout, text_of(event, "agent"));
    printf("%s  ", json_is_true(json_object_get(event, "controller_agent")) ? " (controller)" : "");
    print_status(cli, text_of(event, "status"));
    printf("  id ");
    print_text(stdout, text_of(event, "connection_id"));
}

static void tell_for_people(const struct cli *cli, const char *kind, const json_t *event)
{
    char clock[64];
    time_for_people(json_string_value(json_object_get(event, "time")), clock, sizeof clock);
    print_text(stdout, clock);
    fputs("  ", stdout);
    if (strcmp(kind, "agent") == 0)
        tell_agent(cli, event);
    else
        tell_connection(cli, event);
    printf("  %s  on ", text_of(event, "reason"));
    print_text(stdout, text_of(event, "server"));
    printf("  of ");
    print_text(stdout, text_of(event, "model"));
    putchar('\n');
}

/* `asked`: the revision after which we wanted to be told. */
static void tell_reset(const char *asked, const json_t *event)
{
    uint64_t now = (uint64_t)json_integer_value(json_object_get(event, "revision"));
    bool of_the_future = strtoull(asked, NULL, 10) > now;
    fprintf(stderr, "presence: %s: what came between is not told\n",
            of_the_future ? "that revision is of the future or of another run" : "too much has happened");
}

/* Of a cluster: whether what is told can be believed. */
static void tell_freshness(const json_t *event)
{
    const char *since = text_of(event, "stale_since"), *because = text_of(event, "stale_because");
    if (*because)
        fprintf(stderr, "presence: the node's view is stale (%s) since %s\n", because, since);
    else
        fprintf(stderr, "presence: the node's view is fresh again\n");
}

static bool on_event(const struct sse_event *sse, void *context)
{
    struct following *following = context;
    const struct cli *cli = following->cli;
    json_t *event = json_loads(sse->data, 0, NULL);
    const char *kind = text_of(event, "kind");
    char asked[sizeof following->last_id];
    snprintf(asked, sizeof asked, "%s", *following->last_id || !cli->after ? following->last_id : cli->after);
    following->heard = true;
    if (*sse->id) /* what has none changes nothing of where to resume */
        snprintf(following->last_id, sizeof following->last_id, "%s", sse->id);
    kind = *kind ? kind : sse->kind;
    bool is_change = *text_of(event, "agent") != 0;
    if (is_change && cli->output == OUTPUT_TABLE)
        tell_for_people(cli, kind, event);
    else if (event && cli->output != OUTPUT_TABLE) {
        print_json(event, stdout);
        putchar('\n');
    } else if (strcmp(kind, "reset") == 0) {
        tell_reset(asked, event);
    } else if (strcmp(kind, "freshness") == 0) {
        tell_freshness(event);
    }
    if (fflush(stdout) != 0)
        exit(COULD_NOT_ASK); /* nobody reads us any more */
    following->told += is_change;
    json_decref(event);
    return cli->count == 0 || following->told < cli->count;
}

static int follow(const struct cli *cli, char *path)
{
    struct following following = {.cli = cli};
    while (!http_follow(path, following.last_id, on_event, &following)) {
        if (!following.heard)
            fail("cannot ask %s: %s", cli->url, http_trouble());
        fprintf(stderr, "presence: lost %s (%s), trying again\n", cli->url, http_trouble());
        following.heard = false;
        for (;;) { /* until it is there again: a probe does not end the program as a question would */
            sleep(1);
            if (http_reachable())
                break;
        }
    }
    free(path);
    return ANSWER_YES;
}

static char *feed_path(const struct cli *cli, const char *model, const char *agent, bool agents)
{
    char *path = http_query(http_path("/v1/events"), "model", model);
    path = http_query(path, "server", cli->server);
    path = http_query(path, "agent", agent);
    path = http_query(path, "after", cli->after);
    return http_query(path, "agents", agents ? "1" : NULL);
}

int run_watch(struct cli *cli)
{
    const char *model = cli->word_count > 0 ? cli->words[0] : cli->model;
    const char *agent = cli->word_count > 1 ? cli->words[1] : cli->agent;
    return follow(cli, feed_path(cli, model, agent, true));
}

int run_events(struct cli *cli)
{
    return follow(cli, feed_path(cli, cli->model, cli->agent, false));
}
