/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h - bytes in and out of a client's socket: plain, or through TLS.
 */
#ifndef DAEMON_RESP_TRANSPORT_H
#define DAEMON_RESP_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct resp_client;

/* What a step of a transport came to, where it is not a number of bytes. */
enum { TRANSPORT_ENDED = 0, TRANSPORT_LATER = -1, TRANSPORT_LOST = -2 };

struct resp_transport {
    /* Bytes read; ENDED: the peer has closed its side; LATER: none now; LOST: the socket, or TLS, has failed. */
    ssize_t (*read)(struct resp_client *client, char *to, size_t room);
    /* Bytes written, at least 1; LATER; LOST. */
    ssize_t (*write)(struct resp_client *client, const char *data, size_t length);
    /* Tells the peer that nothing more will be written. */
    void (*end)(struct resp_client *client);
    /* Whether bytes were taken from the socket that `read` has not told yet: no event will come for them. */
    bool (*holds_input)(struct resp_client *client);
    void (*free)(struct resp_client *client);
};

extern const struct resp_transport resp_plain_transport, resp_tls_transport;

#endif
