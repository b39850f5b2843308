/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watcher.c - list, then watch: how to follow a recorder without a gap, and what to do when a watch lagged.
 *
 * A writer thread changes the record. The main thread keeps a copy of it that it makes from a view and the events after
 * it, and compares the copy with the record at the end: it exits with 0 only if they are the same.
 *
 *   1. Open the watch, so that from now on changes are kept.
 *   2. Take a view, and make the copy from it. It is of revision R.
 *   3. Take the events. Skip those up to R, which the view has already; apply the others.
 *   4. On PRESENCE_E_LAGGED drop the copy and begin again at 1: a slow reader never slows the writer, it starts over.
 *
 * Two watches are followed with one poll(): one of connections, and one of agents, which speaks only when an agent's
 * best status changes (first in, last out).
 *
 * Keeps true: each watch is used by the main thread alone, and is freed before the recorder. An event costs O(1) here.
 */
#include "report.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MODEL "2e15302a-bbdf-4077-8e65-116a5a0e0348"
#define SERVERS 2
#define IDS 8                  /* connection ids 0 to 7 on each server */
#define BURST 200000           /* changes: many times what the history holds */
#define SLOW_AGENT "unit-db-0" /* its coming takes this program long to handle */

static const char *const SERVER_NAMES[SERVERS] = {"machine-0", "machine-1"};

struct program {
    presence_recorder *recorder;
    sem_t burst_is_over;
    int finished_fd; /* readable once the writer has made its last change */

    presence_watch *connections, *agents;
    uint64_t listed_revision; /* of the view that the copy began with */
    presence_status copy[SERVERS][IDS];
    unsigned started_over;
};

static void must(int code, const char *what)
{
    if (code >= 0)
        return;
    fprintf(stderr, "watcher: %s: %s\n", what, presence_strerror(code));
    exit(EXIT_FAILURE);
}

/* ------------------------------------------------------------------------------------------------- the writer -- */

static void connect_agent(presence_recorder *recorder, int server, uint64_t id, const char *agent)
{
    must(presence_recorder_connect(recorder, SERVER_NAMES[server], MODEL, agent, id, false, NULL), "connect");
}

/* Long enough for the reader to take what there is, mostly. Nothing but what is printed depends on it. */
static void pause_briefly(void)
{
    usleep(50000);
}

static void *write_changes(void *context)
{
    struct program *program = context;
    presence_recorder *recorder = program->recorder;

    /* One agent with two connections: its status changes with the first that comes and the last that goes. */
    connect_agent(recorder, 0, 0, "unit-web-0");
    connect_agent(recorder, 1, 0, "unit-web-0");
    connect_agent(recorder, 1, 1, "unit-mysql-0");
    must(presence_recorder_server_down(recorder, "machine-1"), "server_down");
    must(presence_recorder_disconnect(recorder, "machine-0", 0), "disconnect");
    connect_agent(recorder, 1, 1, "unit-mysql-0");
    pause_briefly();

    /* While the reader is busy with this agent, more changes than the history holds. */
    connect_agent(recorder, 0, 7, SLOW_AGENT);
    for (uint64_t i = 0; i < BURST; i++) {
        connect_agent(recorder, 0, 1 + i % 3, "unit-busy-0");
        must(presence_recorder_disconnect(recorder, "machine-0", 1 + i % 3), "disconnect");
    }
    sem_post(&program->burst_is_over);
    pause_briefly();

    /* Clearing the record tells every watch to start over, too. */
    presence_recorder_disable(recorder);
    presence_recorder_enable(recorder);
    pause_briefly();
    connect_agent(recorder, 0, 0, "unit-web-0");
    connect_agent(recorder, 0, 1, "unit-mysql-0");
    must(presence_recorder_server_down(recorder, "machine-0"), "server_down");
    connect_agent(recorder, 1, 5, "unit-web-0");
    eventfd_write(program->finished_fd, 1);
    return NULL;
}

/* -------------------------------------------------------------------------------------------------- the copy -- */

static presence_status *copy_of(struct program *program, const presence_value *value)
{
    for (int server = 0; server < SERVERS; server++)
        if (strcmp(value->server, SERVER_NAMES[server]) == 0 && value->connection_id < IDS)
            return &program->copy[server][value->connection_id];
    fprintf(stderr, "watcher: unexpected connection %s %llu\n", value->server,
            (unsigned long long)value->connection_id);
    exit(EXIT_FAILURE);
}

static void copy_view(const presence_connections *view, struct program *program)
{
    memset(program->copy, 0, sizeof program->copy); /* PRESENCE_UNKNOWN */
    presence_cursor cursor = {0};
    presence_value value;
    while (presence_connections_next(view, &cursor, &value))
        *copy_of(program, &value) = value.status;
}

static void apply(struct program *program, const presence_event *event)
{
    bool gone = event->kind == PRESENCE_EVENT_DISCONNECTED; /* the value is then what it was */
    *copy_of(program, &event->value) = gone ? PRESENCE_UNKNOWN : event->value.status;
    if (event->kind == PRESENCE_EVENT_CONNECTED && strcmp(event->value.agent, SLOW_AGENT) == 0)
        while (sem_wait(&program->burst_is_over) != 0)
            continue; /* EINTR */
}

/* ---------------------------------------------------------------------------------------------- list and watch -- */

static void open_watch(presence_recorder *recorder, bool agents, presence_watch **watch)
{
    presence_watch_options options;
    presence_watch_options_init(&options); /* from now, every model, server and agent */
    options.agents = agents;
    presence_error error;
    if (presence_watch_open(recorder, &options, watch, &error) == PRESENCE_OK)
        return;
    fprintf(stderr, "watcher: %s\n", error.message);
    exit(EXIT_FAILURE);
}

static void list(struct program *program)
{
    presence_watch_free(program->connections);
    presence_watch_free(program->agents);
    open_watch(program->recorder, false, &program->connections);
    open_watch(program->recorder, true, &program->agents);

    presence_connections *view = presence_recorder_connections(program->recorder);
    if (view == NULL)
        must(PRESENCE_E_NO_MEMORY, "a view");
    program->listed_revision = presence_connections_revision(view);
    copy_view(view, program);
    printf("listed %zu connections at revision %llu\n", presence_connections_count(view),
           (unsigned long long)program->listed_revision);
    presence_connections_free(view); /* at once: while it is held, changes copy the pages that they touch */
}

/* Takes all that is pending. PRESENCE_OK, or PRESENCE_E_LAGGED. */
static int take_pending(struct program *program, presence_watch *watch, const char *title)
{
    presence_event event;
    int next;
    while ((next = presence_watch_next(watch, &event)) == 1) {
        if (event.revision <= program->listed_revision)
            continue; /* the view has it already */
        printf("%-11s ", title);
        report_event(stdout, &event);
        if (watch == program->connections)
            apply(program, &event);
    }
    return next;
}

static void take_all_pending(struct program *program)
{
    for (;;) {
        int code = take_pending(program, program->connections, "connection:");
        if (code == PRESENCE_OK)
            code = take_pending(program, program->agents, "agent:");
        if (code == PRESENCE_OK)
            return;
        if (code != PRESENCE_E_LAGGED)
            must(code, "watch");
        program->started_over++;
        printf("the watch lagged: starting over\n");
        list(program);
    }
}

/* Until the writer has finished, and everything that it did was taken. */
static void follow(struct program *program)
{
    bool finished = false;
    while (!finished) {
        struct pollfd waited[] = {{.fd = presence_watch_fd(program->connections), .events = POLLIN},
                                  {.fd = presence_watch_fd(program->agents), .events = POLLIN},
                                  {.fd = program->finished_fd, .events = POLLIN}};
        if (poll(waited, 3, -1) < 0 && errno != EINTR)
            must(PRESENCE_E_SYSTEM, "poll");
        finished = waited[2].revents != 0; /* looked at before the events are taken, so that none is left behind */
        take_all_pending(program);
    }
}

/* --------------------------------------------------------------------------------------------------- the check -- */

static bool copy_is_true(const struct program *program)
{
    struct program now = {0};
    presence_connections *view = presence_recorder_connections(program->recorder);
    if (view == NULL)
        must(PRESENCE_E_NO_MEMORY, "a view");
    copy_view(view, &now);
    presence_connections_free(view);
    return memcmp(now.copy, program->copy, sizeof now.copy) == 0;
}

int main(void)
{
    struct program program = {.recorder = presence_recorder_new(NULL)};
    pthread_t writer;
    program.finished_fd = eventfd(0, EFD_CLOEXEC);
    if (program.recorder == NULL || program.finished_fd < 0 || sem_init(&program.burst_is_over, 0, 0) != 0)
        must(PRESENCE_E_SYSTEM, "start");
    presence_recorder_enable(program.recorder);
    connect_agent(program.recorder, 0, 6, "unit-early-0"); /* was there before anybody watched */

    list(&program);
    if (pthread_create(&writer, NULL, write_changes, &program) != 0)
        must(PRESENCE_E_SYSTEM, "a thread");
    follow(&program);
    pthread_join(writer, NULL);
    bool same = copy_is_true(&program);
    printf("started over %u times; the copy %s the record\n", program.started_over, same ? "equals" : "DIFFERS FROM");

    presence_watch_free(program.connections);
    presence_watch_free(program.agents);
    presence_recorder_free(program.recorder);
    sem_destroy(&program.burst_is_over);
    close(program.finished_fd);
    return same && program.started_over > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
