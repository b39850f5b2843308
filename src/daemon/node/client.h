/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - who asks: a RESP connection for as long as it is open, or an HTTP request for as long as it is answered.
 *
 * The part that commands see, whatever the protocol. It belongs to its loop's thread.
 */
#ifndef DAEMON_NODE_CLIENT_H
#define DAEMON_NODE_CLIENT_H

#include "node/node.h"

enum { CLIENT_NAME_BYTES = 64, CLIENT_PEER_BYTES = 128 };

enum client_kind { CLIENT_RESP, CLIENT_HTTP };

struct session;
struct join;
struct gathering;
struct feed;
struct feed_sink;
struct principal;

struct client {
    struct node *node;
    struct loop *loop;
    enum client_kind kind;
    bool on_worker; /* its command is run by the worker, not by its loop */
    uint64_t id;
    char name[CLIENT_NAME_BYTES];                                        /* CLIENT SETNAME; printable ASCII, or "" */
    char library[CLIENT_NAME_BYTES], library_version[CLIENT_NAME_BYTES]; /* CLIENT SETINFO */
    char peer[CLIENT_PEER_BYTES];                                        /* the address, for logs */
    /* What other parts keep of a client; each frees its own when the client goes. NULL: nothing. */
    struct session *session;
    struct join *join;
    struct gathering *gathering;
    struct feed *feed;
    const struct feed_sink *sink;      /* how its protocol tells a watch's events; NULL: it cannot */
    int socket;                        /* of RESP: to be asked whether its peer has ended, and for nothing else */
    const struct principal *principal; /* who authenticated; NULL: nobody yet, or no tokens are in use */
    int version;    /* of RESP: 2 or 3. A command changes it; the protocol's own code takes it over */
    bool closing;   /* set by a command (QUIT): hang up once the replies so far are sent */
    bool said_quit; /* of its own will: a session needs no grace */
};

#endif
