/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_server.c - an API server with agents that log in over TCP, are seen alive, and vanish when they are killed.
 *
 *   api_server [--servers NAME[:PORT],...] [--idle-ms N]
 *
 * Listens on 127.0.0.1 only, for each server name on a port of its own (none or 0: a free one), and prints
 * "NAME listening on 127.0.0.1:PORT" for each, and from then on one line for each change of presence.
 * SIGTERM or SIGINT stop it.
 *
 * Read api_presence.c for what it tells the recorder, and api_session.c for the protocol. This file holds what any
 * threaded server has: options, listening sockets, a bounded table of clients, and a clean stop.
 *
 * Keeps true: never more than CLIENTS_MAX clients; every thread that was started is joined; a client's socket is closed
 * only by the loop that accepted it, after its thread has ended, so that no descriptor is ever used under another's
 * name. The main thread accepts and stops; one thread serves each client; one follows the changes. A client costs a
 * thread, which is plain and enough for an example.
 */
#define _GNU_SOURCE /* accept4 */
#include "api_presence.h"
#include "api_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define SERVERS_MAX 8
#define IDLE_MS_DEFAULT 30000
#define SEND_TIMEOUT_S 5
#define ACCEPT_RETRY_US 10000
#define LEFT_AGENTS 1024 /* so that STATUS can tell of an agent that left when it was last seen */

/* A client and its thread. Written by the main thread, but for `ended`. */
struct client {
    bool used;
    bool ended; /* guarded by the table's mutex */
    int fd;
    pthread_t thread;
    struct api_server *server;
    struct program *program;
};

struct program {
    struct api api;
    struct api_server servers[SERVERS_MAX];
    uint16_t ports[SERVERS_MAX]; /* asked for; 0: any */
    int listeners[SERVERS_MAX];
    int signal_fd;
    int ended_fd; /* readable when a client has ended */
    pthread_mutex_t mutex;
    struct client clients[CLIENTS_MAX];
    struct api_follower follower;
};

/* ---------------------------------------------------------------------------------------------------- clients -- */

static void *serve_client(void *context)
{
    struct client *client = context;
    struct program *program = client->program;
    api_session_run(&program->api, client->server, client->fd);
    shutdown(client->fd, SHUT_RDWR); /* the peer learns at once; the number stays taken until we are joined */
    pthread_mutex_lock(&program->mutex);
    client->ended = true;
    pthread_mutex_unlock(&program->mutex);
    eventfd_write(program->ended_fd, 1);
    return NULL;
}

static void join_client(struct client *client)
{
    pthread_join(client->thread, NULL);
    close(client->fd);
    client->used = false;
}

static void join_ended_clients(struct program *program)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &program->clients[i];
        pthread_mutex_lock(&program->mutex);
        bool ended = client->ended;
        client->ended = false;
        pthread_mutex_unlock(&program->mutex);
        if (ended)
            join_client(client);
    }
}

static struct client *find_free_client(struct program *program)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (!program->clients[i].used)
            return &program->clients[i];
    return NULL;
}

/* A process that is killed closes its sockets at once. A machine that vanishes does not: keepalive and the idle limit
 * find that out, and the send timeout ends a client that asks and never reads. */
static void set_client_options(int fd)
{
    int on = 1;
    struct timeval limit = {.tv_sec = SEND_TIMEOUT_S};
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static void accept_client(struct program *program, size_t server)
{
    int fd = accept4(program->listeners[server], NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) { /* it went before it was accepted; or descriptors ran out, and then it waits: do not spin meanwhile */
        usleep(ACCEPT_RETRY_US);
        return;
    }
    set_client_options(fd);
    struct client *client = find_free_client(program);
    if (client != NULL) {
        *client = (struct client){.used = true, .fd = fd, .server = &program->servers[server], .program = program};
        if (pthread_create(&client->thread, NULL, serve_client, client) == 0)
            return;
        client->used = false;
    }
    static const char busy[] = "ERR too many clients\n";
    send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

/* --------------------------------------------------------------------------------------------- running and end -- */

/* Accepts until a signal asks to stop. */
static void run(struct program *program)
{
    size_t servers = program->api.server_count;
    struct pollfd waited[SERVERS_MAX + 2];
    for (size_t i = 0; i < servers; i++)
        waited[i] = (struct pollfd){.fd = program->listeners[i], .events = POLLIN};
    waited[servers] = (struct pollfd){.fd = program->ended_fd, .events = POLLIN};
    waited[servers + 1] = (struct pollfd){.fd = program->signal_fd, .events = POLLIN};
    for (;;) {
        if (poll(waited, (nfds_t)servers + 2, -1) < 0)
            continue; /* EINTR: a stopped process was continued */
        if (waited[servers + 1].revents != 0)
            return;
        eventfd_t ended;
        if (waited[servers].revents != 0 && eventfd_read(program->ended_fd, &ended) == 0)
            join_ended_clients(program);
        for (size_t i = 0; i < servers; i++)
            if (waited[i].revents != 0)
                accept_client(program, i);
    }
}

/* The order of a clean stop: take nobody in, say that the servers drain, close the sockets, print the last changes. */
static void stop(struct program *program)
{
    for (size_t i = 0; i < program->api.server_count; i++) {
        close(program->listeners[i]);
        program->listeners[i] = -1;
        api_drain(&program->servers[i]);
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (program->clients[i].used)
            shutdown(program->clients[i].fd, SHUT_RDWR);
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (program->clients[i].used)
            join_client(&program->clients[i]);
    api_follower_stop(&program->follower);
}

/* --------------------------------------------------------------------------------------------------- starting -- */

static bool parse_number(const char *text, long smallest, long largest, long *number)
{
    char *end;
    errno = 0;
    *number = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *number >= smallest && *number <= largest;
}

/* "machine-0,machine-1:4000", cut in place: the names stay where they are. */
static bool parse_servers(struct program *program, char *list)
{
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        size_t at = program->api.server_count;
        char *colon = strrchr(name, ':');
        long port = 0;
        if (at == SERVERS_MAX)
            return false;
        if (colon != NULL && !parse_number(colon + 1, 0, UINT16_MAX, &port))
            return false;
        if (colon != NULL)
            *colon = '\0';
        if (*name == '\0')
            return false;
        program->ports[at] = (uint16_t)port;
        api_server_init(&program->servers[at], name, program->api.recorder);
        program->api.server_count++;
    }
    return true;
}

static bool parse_options(struct program *program, int count, char **arguments, char *default_servers)
{
    char *servers = default_servers;
    long idle_ms = IDLE_MS_DEFAULT;
    for (int i = 1; i < count; i += 2) {
        if (i + 1 == count)
            return false;
        if (strcmp(arguments[i], "--servers") == 0)
            servers = arguments[i + 1];
        else if (strcmp(arguments[i], "--idle-ms") != 0 || !parse_number(arguments[i + 1], 1, 86400000, &idle_ms))
            return false;
    }
    program->api.idle_ms = (int)idle_ms;
    return parse_servers(program, servers);
}

static bool listen_on_loopback(struct program *program, size_t server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(program->ports[server])};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* accepting must not block the loop */
    program->listeners[server] = fd;
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, CLIENTS_MAX) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return false;
    printf("%s listening on 127.0.0.1:%u\n", program->servers[server].name, (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    return true;
}

/* Signals are blocked before any thread starts, so that only the main thread's signalfd hears them. */
static bool open_descriptors(struct program *program)
{
    sigset_t stopping;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTERM);
    sigaddset(&stopping, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stopping, NULL);
    program->signal_fd = signalfd(-1, &stopping, SFD_CLOEXEC);
    program->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (program->signal_fd < 0 || program->ended_fd < 0)
        return false;
    for (size_t i = 0; i < program->api.server_count; i++)
        if (!listen_on_loopback(program, i))
            return false;
    return true;
}

static void close_descriptor(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void release(struct program *program)
{
    for (size_t i = 0; i < SERVERS_MAX; i++)
        close_descriptor(program->listeners[i]);
    close_descriptor(program->signal_fd);
    close_descriptor(program->ended_fd);
    for (size_t i = 0; i < program->api.server_count; i++)
        api_server_destroy(&program->servers[i]);
    pthread_mutex_destroy(&program->mutex);
    presence_recorder_free(program->api.recorder); /* after the watch of it */
}

static presence_recorder *new_recorder(presence_error *error)
{
    presence_options options;
    presence_options_init(&options);
    options.left_agents = LEFT_AGENTS;
    presence_recorder *recorder = presence_recorder_new_with(&options, error);
    if (recorder != NULL)
        presence_recorder_enable(recorder);
    return recorder;
}

int main(int count, char **arguments)
{
    static struct program program; /* static: 256 clients are more than a stack frame should hold */
    char default_servers[] = "machine-0";
    presence_error error = {0};
    int code = EXIT_FAILURE;

    program = (struct program){.signal_fd = -1, .ended_fd = -1};
    for (size_t i = 0; i < SERVERS_MAX; i++)
        program.listeners[i] = -1;
    pthread_mutex_init(&program.mutex, NULL);
    program.api.recorder = new_recorder(&error);
    program.api.servers = program.servers;
    if (program.api.recorder == NULL) {
        fprintf(stderr, "api_server: %s\n", error.message);
    } else if (!parse_options(&program, count, arguments, default_servers)) {
        fprintf(stderr, "usage: %s [--servers NAME[:PORT],...] [--idle-ms N]   (at most %d servers)\n", arguments[0],
                SERVERS_MAX);
    } else if (!open_descriptors(&program)) {
        fprintf(stderr, "api_server: cannot listen: %s\n", strerror(errno));
    } else if (api_follower_start(&program.follower, program.api.recorder, stdout, &error) != PRESENCE_OK) {
        fprintf(stderr, "api_server: %s\n", error.message);
    } else {
        run(&program);
        stop(&program);
        code = EXIT_SUCCESS;
    }
    release(&program);
    return code;
}
