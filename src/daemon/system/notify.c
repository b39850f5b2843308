/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.c - systemd's notification protocol: a datagram of lines to the socket that NOTIFY_SOCKET names.
 *
 * The protocol is stable and a screen long, so libsystemd is not linked for it. Where nobody wants to be told, all of
 * this does nothing. Any thread; a socket and a datagram each time.
 */
#include "system/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void notify_send(const char *lines)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = 0; /* an abstract name has no NUL behind it */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    ssize_t sent = sendto(fd, lines, strlen(lines), MSG_NOSIGNAL, (const struct sockaddr *)&address, size);
    (void)sent;
    close(fd);
}

void notify_ready(void)
{
    notify_send("READY=1\nSTATUS=listening");
}

void notify_reloading(void)
{
    struct timespec now;
    char lines[96];
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(lines, sizeof lines, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    notify_send(lines);
}

void notify_stopping(void)
{
    notify_send("STOPPING=1\nSTATUS=stopping");
}

uint64_t notify_watchdog_ms(void)
{
    const char *wanted = getenv("WATCHDOG_USEC"), *process = getenv("WATCHDOG_PID");
    if (!wanted || (process && strtoll(process, NULL, 10) != (long long)getpid()))
        return 0;
    errno = 0;
    unsigned long long us = strtoull(wanted, NULL, 10);
    return errno || us < 2000 ? 0 : us / 2000;
}
