/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - one RESP client: its socket, what of its input and output could not be used at once, its parser.
 */
#ifndef DAEMON_RESP_CLIENT_H
#define DAEMON_RESP_CLIENT_H

#include "base/bytes.h"
#include "commands/run.h"
#include "node/client.h"
#include "reply/resp.h"
#include "resp/parser.h"

#include <event2/util.h>

/* The RESP clients of one loop. */
struct resp_clients {
    struct node *node;
    struct loop *loop;
    struct resp_limits limits;
    struct resp_client *first;
    struct run run; /* of the client that is being served */
};

struct resp_client {
    struct client client; /* first: what commands see */
    struct resp_clients *owner;
    struct resp_client *next, **link;
    evutil_socket_t fd;
    struct event *readable, *writable;
    struct resp_parser parser;
    struct bytes input;  /* the beginning of a command, empty between two */
    struct bytes output; /* what the socket did not take */
    bool broken;         /* closing; nothing more is read */
};

/* Takes over the socket, which does not block, and a place from node_admit_client. On the owner's loop. Out of memory:
 * the socket is closed and the place given back. */
void resp_client_open(struct resp_clients *owner, evutil_socket_t fd, const char *peer);
/* Closes at once. */
void resp_client_close(struct resp_client *client);

#endif
