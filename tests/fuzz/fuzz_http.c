/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_http.c - any bytes as what one HTTP client sends: through evhttp, the guard, the routes, the bodies and the
 * table of commands to whole answers, events included. The connection is a real one, over a unix socket.
 *
 * Each answer must begin as HTTP does, hold nothing that a request could have put into its head, and be ours, never
 * one of evhttp's own pages; afterwards the record holds all its invariants and the connection is gone. Linked with
 * libFuzzer, or with replay.c. Cost: some hundred microseconds an input.
 */
#include "access/access.h"
#include "base/log.h"
#include "commands/command.h"
#include "config/config.h"
#include "http/http.h"
#include "loop/loop.h"
#include "node/node.h"
#include "sessions/sessions.h"
#include "watches/feed.h"
#include "watches/listings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { MOST_TURNS = 2000, MOST_PATH = 90, CHUNK = 1 << 14, INPUTS_A_REAPING = 1000 };

static struct {
    struct config config;
    struct loops loops;
    struct node node;
    struct counters counters;
    struct http_side *http;
    char folder[MOST_PATH], path[MOST_PATH + 8], address[MOST_PATH + 16];
} scene;

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void tear_down(void)
{
    http_side_free(scene.http);
    feeds_free(&scene.node);
    sessions_free(&scene.node);
    loops_free(&scene.loops);
    listings_free(scene.node.listings);
    presence_recorder_free(scene.node.recorder);
    access_free(scene.node.access);
    config_free(&scene.config);
    unlink(scene.path);
    rmdir(scene.folder);
}

static void set_up(void)
{
    static char *nothing[] = {NULL};
    char error[CONFIG_ERROR_BYTES];
    const char *temporary = getenv("TMPDIR");
    presence_options options;
    snprintf(scene.folder, sizeof scene.folder, "%.60s/presence-fuzz.XXXXXX", temporary ? temporary : "/tmp");
    must(mkdtemp(scene.folder) != NULL);
    snprintf(scene.path, sizeof scene.path, "%s/http", scene.folder);
    snprintf(scene.address, sizeof scene.address, "unix:%s", scene.path);
    const char *const flags[] = {"fuzz", "--node",      "this-node", "--http", scene.address, "--max-request-bytes",
                                 "64k",  "--log-level", "error"};
    enum { FLAGS = sizeof flags / sizeof *flags };
    char *words[FLAGS];
    for (size_t i = 0; i < FLAGS; i++)
        must((words[i] = strdup(flags[i])) != NULL);
    must(commands_init());
    must(config_load(&scene.config, FLAGS, words, nothing, error));
    for (size_t i = 0; i < FLAGS; i++)
        free(words[i]);
    log_set_level(LOG_LEVEL_ERROR);
    must(loops_init(&scene.loops, 1, error, sizeof error));
    presence_options_init(&options);
    options.history_bytes = 1 << 18;
    scene.node.config = &scene.config;
    scene.node.loops = &scene.loops;
    scene.node.counters = &scene.counters;
    scene.node.run = 7;
    scene.node.started = 1700000000000000000;
    scene.node.access = access_new(&scene.config, error, sizeof error);
    scene.node.recorder = presence_recorder_new_with(&options, NULL);
    scene.node.listings = listings_new(scene.config.max_listings, node_now_ms);
    must(scene.node.access && scene.node.recorder && scene.node.listings);
    presence_recorder_enable(scene.node.recorder);
    must(sessions_start(&scene.node, error, sizeof error) && feeds_start(&scene.node, error, sizeof error));
    scene.http = http_side_new(&scene.node, error, sizeof error);
    must(scene.http != NULL);
    atexit(tear_down);
}

static int connect_to_node(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", scene.path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* Sends what the socket takes, turns the loop, reads; until the other side has closed. */
static void converse(const uint8_t *bytes, size_t length)
{
    static const char beginning[] = "HTTP/";
    char answer[CHUNK];
    size_t sent = 0, got = 0;
    bool ended = false;
    int fd = connect_to_node();
    for (int turn = 0; turn < MOST_TURNS && !ended; turn++) {
        if (sent < length) {
            ssize_t more = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
            sent += more > 0 ? (size_t)more : 0;
            if (sent == length || (more < 0 && errno == EPIPE)) {
                shutdown(fd, SHUT_WR);
                sent = length;
            }
        }
        event_base_loop(scene.loops.loops->base, EVLOOP_NONBLOCK);
        ssize_t received = recv(fd, answer, sizeof answer, 0);
        ended = received == 0 || (received < 0 && errno != EAGAIN);
        if (received > 0 && got < sizeof beginning - 1)
            must(got > 0 || (size_t)received < sizeof beginning ||
                 memcmp(answer, beginning, sizeof beginning - 1) == 0);
        if (received > 0) {
            must(!memmem(answer, (size_t)received, "\r\nX-Injected", 12));
            must(!memmem(answer, (size_t)received, "<HTML><HEAD>\n", 13)); /* evhttp's own; no JSON holds a newline */
        }
        got += received > 0 ? (size_t)received : 0;
    }
    must(ended);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static bool ready;
    static unsigned inputs;
    presence_error error = {0};
    if (length == 0)
        return 0;
    if (!ready)
        set_up();
    ready = true;
    presence_recorder_enable(scene.node.recorder);
    presence_recorder_connect(scene.node.recorder, "s", "m", "a", 1, false, "x");
    converse(bytes, length);
    if (presence_recorder_check(scene.node.recorder, &error) != PRESENCE_OK) {
        fprintf(stderr, "the record is broken: %s\n", error.message);
        abort();
    }
    presence_recorder_disable(scene.node.recorder);
    event_base_loop(scene.loops.loops->base, EVLOOP_NONBLOCK);
    must(atomic_load(&scene.node.watchers) == 0);
    /* Connections that never came to a request are reaped each second: waited for now and then. */
    if (++inputs % INPUTS_A_REAPING == 0)
        for (int turn = 0; atomic_load(&scene.node.clients) > 0; turn++) {
            must(turn < MOST_TURNS);
            event_base_loop(scene.loops.loops->base, EVLOOP_ONCE);
        }
    return 0;
}
