/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_commands.c - any bytes as what one RESP client says to a node: through the parser, the table of commands, the
 * recorder, the sessions and the lists, to replies. No socket, and no time passes but the system's.
 *
 * Each command must say exactly one whole reply, in RESP2 and in RESP3; texts of errors are printable; afterwards the
 * record holds all its invariants, and everything is freed (leaks are the sanitizer's to find). The first byte chooses
 * whether there are limits. Linked with libFuzzer, or with replay.c. Cost: some 100 microseconds, mostly for a node.
 */
#include "access/access.h"
#include "base/log.h"
#include "commands/answers.h"
#include "commands/command.h"
#include "commands/run.h"
#include "config/config.h"
#include "loop/loop.h"
#include "node/client.h"
#include "reply/resp.h"
#include "resp/parser.h"
#include "sessions/sessions.h"
#include "watches/feed.h"
#include "watches/listings.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { MOST_COMMANDS = 400, MOST_OUTPUT_BYTES = 1 << 22 };

struct scene {
    struct config config;
    struct loops loops;
    struct node node;
    struct counters counters;
    struct client client;
    struct run run;
    struct bytes replies;
};

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void set_up(struct scene *scene, bool limited)
{
    static const char *const flags[] = {"fuzz",      "--node",
                                        "this-node", "--max-connections",
                                        "12",        "--max-names",
                                        "20",        "--max-server-connections",
                                        "6",         "--max-model-names",
                                        "6",         "--max-list-bytes",
                                        "64k"};
    enum { FLAGS = sizeof flags / sizeof *flags, FREE_FLAGS = 3 };
    char *words[FLAGS];
    static char *nothing[] = {NULL};
    char error[CONFIG_ERROR_BYTES];
    presence_options options;
    *scene = (struct scene){0};
    for (size_t i = 0; i < FLAGS; i++)
        must((words[i] = strdup(flags[i])) != NULL);
    must(config_load(&scene->config, limited ? FLAGS : FREE_FLAGS, words, nothing, error));
    for (size_t i = 0; i < FLAGS; i++)
        free(words[i]);
    must(loops_init(&scene->loops, 1, error, sizeof error));
    presence_options_init(&options);
    options.limit_connections = scene->config.max_connections;
    options.limit_names = scene->config.max_names;
    options.history_bytes = 0;
    options.left_agents = 16;
    scene->node.config = &scene->config;
    scene->node.loops = &scene->loops;
    scene->node.counters = &scene->counters;
    scene->node.run = 7;
    scene->node.started = 1700000000000000000;
    scene->node.access = access_new(&scene->config, error, sizeof error);
    scene->node.recorder = presence_recorder_new_with(&options, NULL);
    scene->node.listings = listings_new(scene->config.max_listings, node_now_ms);
    scene->node.answers = answers_new(1);
    must(scene->node.access && scene->node.recorder && scene->node.listings && scene->node.answers);
    presence_recorder_enable(scene->node.recorder);
    must(sessions_start(&scene->node, error, sizeof error) && feeds_start(&scene->node, error, sizeof error));
    scene->client.node = &scene->node;
    scene->client.loop = scene->loops.loops;
    scene->client.kind = CLIENT_RESP;
    scene->client.socket = -1;
    scene->client.id = 1;
    scene->client.version = 2;
    strcpy(scene->client.peer, "fuzz");
}

static void tear_down(struct scene *scene)
{
    presence_error error = {0};
    feed_close(&scene->client);
    sessions_client_gone(&scene->client);
    principal_release(scene->client.principal);
    if (presence_recorder_check(scene->node.recorder, &error) != PRESENCE_OK) {
        fprintf(stderr, "the record is broken: %s\n", error.message);
        abort();
    }
    feeds_free(&scene->node);
    sessions_free(&scene->node);
    loops_free(&scene->loops);
    listings_free(scene->node.listings);
    answers_free(scene->node.answers, 1);
    presence_recorder_free(scene->node.recorder);
    access_free(scene->node.access);
    config_free(&scene->config);
    bytes_free(&scene->replies);
}

/* ---------------------------------------------------------------------------------------------- what was replied -- */

static const char *line_end(const char *at, const char *end)
{
    const char *cr = memchr(at, '\r', (size_t)(end - at));
    must(cr && cr + 1 < end && cr[1] == '\n');
    return cr;
}

/* What stands between `at` and the line's end: a number, which is not followed by a NUL. */
static long number_before(const char *at, const char *cr)
{
    bool negative = *at == '-';
    long number = 0;
    must(cr - at > negative && cr - at < 18);
    for (at += negative; at < cr; at++) {
        must(*at >= '0' && *at <= '9');
        number = number * 10 + (*at - '0');
    }
    return negative ? -number : number;
}

/* Passes over one whole reply; where it ends. */
static const char *whole_reply(const char *at, const char *end, int depth)
{
    must(at < end && depth < 8);
    char mark = *at;
    const char *cr = line_end(at, end), *next = cr + 2;
    if (mark == '+' || mark == '-')
        for (const char *c = at; c < cr; c++)
            must(*c >= ' ' && *c < 0x7f);
    if (strchr("+-:_#,", mark))
        return next;
    long count = number_before(at + 1, cr);
    if (mark == '$') {
        if (count < 0)
            return next;
        must(next + count + 2 <= end && next[count] == '\r' && next[count + 1] == '\n');
        return next + count + 2;
    }
    must(mark == '*' || mark == '%' || mark == '>');
    for (long i = 0; i < (mark == '%' ? 2 * count : count); i++)
        next = whole_reply(next, end, depth + 1);
    return next;
}

static size_t count_replies(const struct bytes *replies)
{
    size_t count = 0;
    must(!replies->failed);
    if (replies->length > 0)
        for (const char *at = replies->data, *end = at + replies->length; at < end; count++)
            at = whole_reply(at, end, 0);
    return count;
}

/* ------------------------------------------------------------------------------------------------------- serving -- */

static void finish_run(struct scene *scene, struct reply *reply)
{
    if (scene->run.count > 0)
        scene->run.command->finish(&scene->run, &scene->client, reply);
    scene->run.command = NULL;
    scene->run.count = 0;
}

/* As the protocol's own code does it. False: there is no such command, and so no reply. */
static bool run_one(struct scene *scene, struct resp_parser *parser, struct reply *reply)
{
    struct call call = {
        .client = &scene->client, .words = parser->words, .word_count = parser->word_count, .reply = reply};
    call.command = command_find(parser->words[0]);
    if (call.command && call.command->gather && command_permits_run(&call)) {
        if (call.command == scene->run.command && call.command->gather(&call, &scene->run))
            return true;
        finish_run(scene, reply);
        if (call.command->gather(&call, &scene->run))
            return true;
    }
    finish_run(scene, reply);
    if (!call.command)
        return false;
    command_run(&call);
    return true;
}

static void serve(struct scene *scene, char *input, size_t length)
{
    const struct resp_limits limits = {.request_bytes = 1 << 16, .words = 1 << 12, .inline_bytes = 1 << 12};
    struct resp_parser parser;
    struct resp_reply reply;
    size_t at = 0, used = 0, wanted = 0;
    const char *error;
    resp_parser_init(&parser, &limits);
    resp_reply_init(&reply, &scene->replies, scene->client.version);
    while (!scene->client.closing && wanted < MOST_COMMANDS && scene->replies.length < MOST_OUTPUT_BYTES &&
           resp_parse(&parser, input + at, length - at, &used, &error) == RESP_COMMAND) {
        at += used;
        wanted += run_one(scene, &parser, &reply.reply);
        if (scene->run.count == 0)
            must(count_replies(&scene->replies) == wanted);
    }
    finish_run(scene, &reply.reply);
    must(count_replies(&scene->replies) == wanted);
    resp_parser_free(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static bool ready;
    static struct scene scene;
    if (length < 2)
        return 0;
    log_set_level(LOG_LEVEL_ERROR);
    must(ready || commands_init());
    ready = true;
    char *input = malloc(length - 1);
    must(input != NULL);
    memcpy(input, bytes + 1, length - 1);
    set_up(&scene, bytes[0] & 1);
    serve(&scene, input, length - 1);
    tear_down(&scene);
    free(input);
    return 0;
}
