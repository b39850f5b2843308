/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.c - the transport through TLS: OpenSSL over the client's socket, in the client's own two buffers.
 *
 * The handshake is made by the first reads. OpenSSL may hold input that it has taken from the socket already, of which
 * no event will tell: holds_input does. Whatever OpenSSL wants of the socket beside what was asked for (to write while
 * reading, in a handshake) is waited for by the writable event. The client's loop only; errors are taken out of
 * OpenSSL's queue at once, since it belongs to the thread and not to the client.
 */
#include "access/tls.h"

#include "base/log.h"
#include "resp/client.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

static SSL *session_of(struct resp_client *client)
{
    return client->tls;
}

static int length_of(size_t length)
{
    return length > INT_MAX ? INT_MAX : (int)length;
}

static void log_failure(struct resp_client *client)
{
    char why[128];
    tls_error(why, sizeof why);
    if (client->shaking_hands)
        log_event(LOG_LEVEL_WARNING, "client cut off", "client", client->client.peer, "why", "TLS handshake", "detail",
                  why, NULL);
}

/* What a step that made no progress means. */
static ssize_t told(struct resp_client *client, int outcome)
{
    switch (SSL_get_error(session_of(client), outcome)) {
    case SSL_ERROR_WANT_READ:
        return TRANSPORT_LATER;
    case SSL_ERROR_WANT_WRITE:
        return event_add(client->writable, NULL) == 0 ? TRANSPORT_LATER : TRANSPORT_LOST;
    case SSL_ERROR_ZERO_RETURN:
        return TRANSPORT_ENDED;
    default:
        log_failure(client);
        return TRANSPORT_LOST;
    }
}

static void take_principal(struct resp_client *client)
{
    client->shaking_hands = false;
    client->client.principal = tls_principal(client->client.node->access, session_of(client));
}

static ssize_t tls_read(struct resp_client *client, char *to, size_t room)
{
    size_t sum = 0;
    int got = 0;
    /* A record is at most 16 KiB; a pipeline is worth one pass. */
    while (sum < room && (got = SSL_read(session_of(client), to + sum, length_of(room - sum))) > 0)
        sum += (size_t)got;
    if (client->shaking_hands && SSL_is_init_finished(session_of(client)))
        take_principal(client);
    if (sum == 0)
        return told(client, got);
    ERR_clear_error(); /* an end or a failure behind the last byte will be told again */
    return (ssize_t)sum;
}

static ssize_t tls_write(struct resp_client *client, const char *data, size_t length)
{
    int written = SSL_write(session_of(client), data, length_of(length));
    if (written > 0)
        return written;
    ssize_t why = told(client, written);
    return why == TRANSPORT_ENDED ? TRANSPORT_LOST : why;
}

static void tls_end(struct resp_client *client)
{
    if (SSL_is_init_finished(session_of(client)))
        SSL_shutdown(session_of(client)); /* says so; the peer's own end is waited for by reading */
    ERR_clear_error();
    shutdown(client->fd, SHUT_WR);
}

static bool tls_holds_input(struct resp_client *client)
{
    return SSL_pending(session_of(client)) > 0;
}

static void tls_free(struct resp_client *client)
{
    SSL_free(session_of(client));
}

const struct resp_transport resp_tls_transport = {tls_read, tls_write, tls_end, tls_holds_input, tls_free};
