/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.c - web pages of others are kept out, although they run on this machine, in its user's browser.
 *
 * A page may send requests to any address, and by a name of its own that it points at ours (DNS rebinding) even read
 * the answers. So the Host that a request names (and its target, if that names one) must be an address in numbers,
 * localhost, or a name of --host-name, with nothing behind it but a port; and the Origin, which browsers send with
 * every request of a page that could do harm, must be that same host. Programs send no Origin. O(names). The loop of
 * the connection.
 */
#include "http/exchange.h"

#include <arpa/inet.h>
#include <stdlib.h>

/* The host of HOST or HOST:PORT or [V6]:PORT, without its port, with its brackets. Empty: it is none of these. */
static struct slice host_of(const char *text)
{
    size_t length = *text == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":");
    const char *port = length <= strlen(text) ? text + length : "?";
    bool good = *port == 0 || (*port == ':' && port[1 + strspn(port + 1, "0123456789")] == 0);
    return good ? (struct slice){text, length} : (struct slice){"", 0};
}

/* Of four numbers, or of version 6 in brackets. */
static bool is_number(struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    bool bracketed = host.length > 2 && host.text[0] == '[';
    if (bracketed)
        host = (struct slice){host.text + 1, host.length - 2};
    if (host.length == 0 || host.length >= sizeof text)
        return false;
    memcpy(text, host.text, host.length);
    text[host.length] = 0;
    return inet_pton(bracketed ? AF_INET6 : AF_INET, text, &address) == 1;
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
    const char *target = evhttp_uri_get_host(evhttp_request_get_evhttp_uri(exchange->request));
    if (!host || !is_ours(exchange, host_of(host)) || (target && !is_ours(exchange, host_of(target)))) {
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
