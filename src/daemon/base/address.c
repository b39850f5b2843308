/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - addresses as operators write them. Used at start by one thread, but for address_of_peer, which is pure.
 */
#include "base/address.h"

#include "base/slice.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static bool parse_unix(struct address *address, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&address->socket;
    if (!*path || strlen(path) >= sizeof un->sun_path)
        return false;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    address->length = sizeof *un;
    return true;
}

/* A host and a port as numbers; port 0 lets the system choose. */
static bool parse_internet(struct address *address, const char *host, uint16_t port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&address->socket;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&address->socket;
    size_t length = strlen(host);
    if (length > 2 && host[0] == '[' && host[length - 1] == ']') {
        char inner[ADDRESS_TEXT_BYTES];
        snprintf(inner, sizeof inner, "%.*s", (int)length - 2, host + 1);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        address->length = sizeof *v6;
        return inet_pton(AF_INET6, inner, &v6->sin6_addr) == 1;
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address->length = sizeof *v4;
    return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &v4->sin_addr) == 1;
}

static bool parse_one(struct address *address, const char *text, size_t length)
{
    *address = (struct address){0};
    if (length == 0 || length >= sizeof address->text)
        return false;
    memcpy(address->text, text, length);
    if (strncmp(address->text, "unix:", 5) == 0)
        return parse_unix(address, address->text + 5);
    const char *colon = strrchr(address->text, ':');
    char host[ADDRESS_TEXT_BYTES];
    uint64_t port;
    if (!colon || !slice_to_number(slice_of(colon + 1), &port) || port > UINT16_MAX)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)(colon - address->text), address->text);
    return parse_internet(address, host, (uint16_t)port);
}

bool address_parse_list(const char *list, const char *option, struct address *addresses, size_t most, size_t *count,
                        char *error, size_t error_bytes)
{
    *count = 0;
    if (strcmp(list, "none") == 0)
        return true;
    for (const char *at = list;;) {
        size_t length = strcspn(at, ",");
        if (*count == most) {
            snprintf(error, error_bytes, "%s: more than %zu addresses", option, most);
            return false;
        }
        if (!parse_one(&addresses[(*count)++], at, length)) {
            snprintf(error, error_bytes, "%s: wants HOST:PORT, [V6]:PORT, unix:PATH or none, got \"%.*s\"", option,
                     (int)(length < 100 ? length : 100), at);
            return false;
        }
        if (!at[length])
            return true;
        at += length + 1;
    }
}

bool address_is_local(const struct address *address)
{
    if (address->socket.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&address->socket;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->socket.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&address->socket;
        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    }
    return address->socket.ss_family == AF_UNIX;
}

/* A file of a socket that nobody listens on was left by one that was killed. */
static void remove_left_over(const struct address *address)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)&address->socket;
    struct stat facts;
    if (address->socket.ss_family != AF_UNIX || lstat(un->sun_path, &facts) != 0 || !S_ISSOCK(facts.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address->socket, address->length) != 0 &&
        errno == ECONNREFUSED)
        unlink(un->sun_path);
    if (fd >= 0)
        close(fd);
}

int address_listen(const struct address *address, char *error, size_t error_bytes)
{
    remove_left_over(address);
    int on = 1, fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool is_unix = address->socket.ss_family == AF_UNIX;
    mode_t before = is_unix ? umask(0117) : 0;
    bool good = fd >= 0 && (is_unix || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0) &&
                bind(fd, (const struct sockaddr *)&address->socket, address->length) == 0 && listen(fd, BACKLOG) == 0;
    int why = errno;
    if (is_unix)
        umask(before);
    if (good)
        return fd;
    snprintf(error, error_bytes, "cannot listen at %s: %s", address->text, strerror(why));
    if (fd >= 0)
        close(fd);
    return -1;
}

void address_remove(const struct address *address)
{
    if (address->socket.ss_family == AF_UNIX)
        unlink(((const struct sockaddr_un *)(const void *)&address->socket)->sun_path);
}

void address_of_peer(const struct sockaddr *from, socklen_t length, char *text, size_t text_bytes)
{
    char host[INET6_ADDRSTRLEN];
    (void)length;
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)from;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, text_bytes, "%s:%u", host, ntohs(v4->sin_port));
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)from;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text, text_bytes, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        snprintf(text, text_bytes, "unix");
    }
}

void address_of_socket(int fd, const struct address *address, char *text, size_t text_bytes)
{
    struct sockaddr_storage bound = {0};
    socklen_t length = sizeof bound;
    if (address->socket.ss_family != AF_UNIX && getsockname(fd, (struct sockaddr *)&bound, &length) == 0)
        address_of_peer((const struct sockaddr *)&bound, length, text, text_bytes);
    else
        snprintf(text, text_bytes, "%s", address->text);
}

void address_watch_peer(int fd, uint64_t silence_ms)
{
    enum { TIMES = 3 };
    int on = 1, times = TIMES;
    int idle_s = (int)(silence_ms / 1000), interval_s = (idle_s + TIMES - 1) / TIMES;
    unsigned patience_ms = (unsigned)(idle_s + interval_s * TIMES) * 1000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    /* What was sent and is not acknowledged holds keepalive back. */
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof patience_ms);
}
