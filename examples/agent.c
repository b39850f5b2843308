/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.c - an agent: logs in to api_server and pings it every second, until it is killed or the server goes.
 *
 *   agent HOST PORT MODEL AGENT [controller]
 *
 * It links no library: an agent needs none, its open socket is its presence. One thread; what it waits for has a limit
 * of ten seconds. Ends with status 1 and one line on stderr that says why; a signal ends it as any process.
 */
#include "lines.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS 10000
#define PING_INTERVAL_S 1

static int connect_to(const char *host, const char *port)
{
    struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int problem = getaddrinfo(host, port, &wanted, &found);
    if (problem != 0) {
        fprintf(stderr, "agent: %s port %s: %s\n", host, port, gai_strerror(problem));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *address = found; address != NULL && fd < 0; address = address->ai_next) {
        fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
        if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        fprintf(stderr, "agent: cannot connect to %s port %s: %s\n", host, port, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

/* Sends a line and waits for its answer, which must begin with `expected`. NULL if not, and stderr says why. */
static const char *ask(struct line_reader *reader, const char *line, const char *expected)
{
    char *answer = NULL;
    if (!lines_write(reader->fd, line, strlen(line)) || line_read(reader, ANSWER_MS, &answer) != LINE_OK) {
        fprintf(stderr, "agent: the server is gone\n");
        return NULL;
    }
    if (strncmp(answer, expected, strlen(expected)) == 0)
        return answer + strlen(expected);
    fprintf(stderr, "agent: expected \"%s\", the server said \"%s\"\n", expected, answer);
    return NULL;
}

int main(int count, char **arguments)
{
    bool controller = count == 6 && strcmp(arguments[5], "controller") == 0;
    if (count != 5 && !controller) {
        fprintf(stderr, "usage: %s HOST PORT MODEL AGENT [controller]\n", arguments[0]);
        return EXIT_FAILURE;
    }
    char login[LINE_BYTES_MAX];
    int length =
        snprintf(login, sizeof login, "LOGIN %s %s%s\n", arguments[3], arguments[4], controller ? " controller" : "");
    if (length < 0 || (size_t)length >= sizeof login) {
        fprintf(stderr, "agent: these names are too long\n");
        return EXIT_FAILURE;
    }
    int fd = connect_to(arguments[1], arguments[2]);
    if (fd < 0)
        return EXIT_FAILURE;

    static struct line_reader reader;
    line_reader_init(&reader, fd);
    const char *id = ask(&reader, login, "OK ");
    if (id != NULL) {
        printf("%s is logged in as connection %s\n", arguments[4], id);
        fflush(stdout);
        while (ask(&reader, "PING\n", "PONG") != NULL)
            sleep(PING_INTERVAL_S);
    }
    close(fd);
    return EXIT_FAILURE;
}
