/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.c - web pages of others are kept out, although they run on this machine, in its user's browser.
 *
 * A page may send requests to any address, and by a name of its own that it points at ours (DNS rebinding) even read
 * the answers. So the Host that a request names must be an address in numbers, localhost, or a name of --host-name; and
 * the Origin, which browsers send with every request of a page that could do harm, must be that same host. Programs
 * send no Origin. O(names). The loop of the connection.
 */
#include "http/exchange.h"

#include <arpa/inet.h>
#include <stdlib.h>

/* The host of HOST or HOST:PORT or [V6]:PORT, without its port and brackets. */
static struct slice host_of(const char *text)
{
    if (*text == '[') {
        const char *end = strchr(text, ']');
        return end ? (struct slice){text + 1, (size_t)(end - text - 1)} : (struct slice){"", 0};
    }
    return (struct slice){text, strcspn(text, ":")};
}

static bool is_number(struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (host.length == 0 || host.length >= sizeof text)
        return false;
    memcpy(text, host.text, host.length);
    text[host.length] = 0;
    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_named(struct slice host, const char *names)
{
    while (*names) {
        size_t length = strcspn(names, ",");
        if (length > 0 && length == host.length && strncasecmp(names, host.text, length) == 0)
            return true;
        names += length + (names[length] == ',');
    }
    return false;
}

static bool is_ours(const struct exchange *exchange, struct slice host)
{
    return slice_is_word(host, "localhost") || is_number(host) ||
           is_named(host, exchange->connection->client.node->config->host_names);
}

bool guard_passes(struct exchange *exchange)
{
    const char *host = exchange_asked(exchange, "Host");
    const char *origin = exchange_asked(exchange, "Origin");
    if (!host || !is_ours(exchange, host_of(host))) {
        exchange_problem(exchange, 421, "NOPERM",
                         "the Host header must be an address in numbers, localhost, or a name of --host-name");
        return false;
    }
    const char *after_scheme = origin ? strstr(origin, "://") : NULL;
    if (origin && (!after_scheme || strcasecmp(after_scheme + 3, host) != 0)) {
        exchange_problem(exchange, 403, "NOPERM", "requests of pages of another origin are not answered");
        return false;
    }
    return true;
}
