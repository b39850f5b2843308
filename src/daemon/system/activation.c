/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activation.c - the descriptors that systemd passes: 3, 4, 5... with their names in LISTEN_FDNAMES.
 *
 * Keeps true: each is a listening stream socket, is used by one listener, and is not inherited by anybody else. Before
 * any thread but for activation_take, which the first loop's thread calls at start.
 */
#include "system/activation.h"

#include "base/slice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_DESCRIPTOR = 3, NAME_BYTES = 16 };

static struct activated {
    char name[NAME_BYTES]; /* "": taken */
    int fd;
} activated[MOST_ACTIVATED];
static size_t activated_count;

static bool is_listening_stream(int fd)
{
    int listening = 0, type = 0;
    socklen_t size = sizeof listening;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

static bool take(const char *name, size_t length, char *error, size_t error_bytes)
{
    static const char *const known[] = {"resp", "http"};
    struct activated *entry = &activated[activated_count];
    entry->fd = FIRST_DESCRIPTOR + (int)activated_count;
    bool good = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        good |= slice_equals((struct slice){name, length}, slice_of(known[i]));
    if (!good) {
        snprintf(error, error_bytes, "LISTEN_FDNAMES: wants resp or http, got \"%.*s\"",
                 (int)(length < 64 ? length : 64), name);
        return false;
    }
    if (!is_listening_stream(entry->fd)) {
        snprintf(error, error_bytes, "LISTEN_FDS: descriptor %d is no socket that listens", entry->fd);
        return false;
    }
    fcntl(entry->fd, F_SETFD, FD_CLOEXEC);
    fcntl(entry->fd, F_SETFL, fcntl(entry->fd, F_GETFL) | O_NONBLOCK);
    memcpy(entry->name, name, length);
    entry->name[length] = 0;
    activated_count++;
    return true;
}

static bool take_all(const char *names, uint64_t count, char *error, size_t error_bytes)
{
    if (count > MOST_ACTIVATED) {
        snprintf(error, error_bytes, "LISTEN_FDS: more than %d sockets", MOST_ACTIVATED);
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        size_t length = strcspn(names, ":");
        if (!take(names, length, error, error_bytes))
            return false;
        names += length + (names[length] == ':');
    }
    return true;
}

bool activation_init(char *error, size_t error_bytes)
{
    const char *process = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    uint64_t number = 0;
    bool ours = process && count && strtoll(process, NULL, 10) == (long long)getpid();
    bool good = true;
    if (ours && !slice_to_number(slice_of(count), &number)) {
        snprintf(error, error_bytes, "LISTEN_FDS: wants a number, got \"%.32s\"", count);
        good = false;
    }
    good = good && (!ours || take_all(names ? names : "", number, error, error_bytes));
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return good;
}

static void describe(int fd, struct address *address)
{
    *address = (struct address){.length = sizeof address->socket};
    if (getsockname(fd, (struct sockaddr *)&address->socket, &address->length) != 0)
        address->socket.ss_family = AF_UNSPEC;
    address_of_socket(fd, address, address->text, sizeof address->text);
    if (address->socket.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)&address->socket;
        snprintf(address->text, sizeof address->text, "unix:%.*s", (int)sizeof un->sun_path, un->sun_path);
    }
}

size_t activation_take(const char *name, int *descriptors, struct address *addresses, size_t most)
{
    size_t count = 0;
    for (size_t i = 0; i < activated_count && count < most; i++) {
        if (strcmp(activated[i].name, name) != 0)
            continue;
        descriptors[count] = activated[i].fd;
        describe(activated[i].fd, &addresses[count++]);
        activated[i].name[0] = 0;
    }
    return count;
}
