/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - one RESP client: its socket, what of its input and output could not be used at once, its parser.
 */
#ifndef DAEMON_RESP_CLIENT_H
#define DAEMON_RESP_CLIENT_H

#include "base/bytes.h"
#include "commands/run.h"
#include "worker/worker.h"
#include "node/client.h"
#include "reply/json.h"
#include "reply/resp.h"
#include "resp/parser.h"
#include "resp/transport.h"

#include <event2/util.h>

struct event;
struct feed_sink;

/* The RESP clients of one loop. */
struct resp_clients {
    struct node *node;
    struct loop *loop;
    struct resp_limits limits;
    struct resp_limits stranger_limits; /* of who has to say first who it is */
    struct resp_client *first;
    struct run run; /* of the client that is being served */
    const struct command *latest;
    struct resp_reply push;    /* of the client that a watch is telling something */
    struct json_reply message; /* likewise, in RESP2 */
    /* Time passes in ticks, so that serving a client needs no clock: each tick looks at every client once. */
    struct event *ticker;
    uint64_t tick_ms;
    uint32_t tick;
    uint32_t idle_ticks, request_ticks; /* 0: no limit */
    uint32_t close_ticks;               /* for last replies, and for the peer to close too */
};

enum resp_stage {
    RESP_SERVING,
    RESP_FLUSHING, /* the last replies are on their way; nothing more is run */
    RESP_LINGERING /* our side is closed; what the peer still sends is thrown away until it closes too */
};

struct resp_client {
    struct client client; /* first: what commands see */
    struct resp_clients *owner;
    struct resp_client *next, **link;
    evutil_socket_t fd;
    struct event *readable, *writable;
    const struct resp_transport *transport;
    void *tls; /* the transport's own */
    struct resp_parser parser;
    struct bytes input;  /* the beginning of a command; and whole ones, while paused */
    struct bytes output; /* what the socket did not take: from `sent` on */
    size_t sent;
    enum resp_stage stage;
    bool shaking_hands; /* TLS is not agreed on yet */
    bool paused;        /* too many replies wait: nothing is read or run until most of them are gone */
    struct job *job;    /* its long command, which runs elsewhere: nothing is read or run meanwhile. NULL: none */
    bool ended;         /* the peer has closed its side */
    bool lost;          /* the socket has failed, or the client was cut off: it is closed before the event is over */
    bool holds_loop;    /* at a stop, until it is closed */
    uint32_t heard;     /* the tick of the last input */
    uint32_t known;     /* the last tick that saw who it is; until then, that of its opening */
    uint32_t moved;     /* the tick in which a request was begun or answered, or output went on its way */
};

/* Takes over the socket, which does not block, and a place from node_admit_client. `tls` is NULL for plain RESP, else
 * an SSL that knows the socket, taken over too. On the owner's loop. Out of memory: the socket is closed and the place
 * given back. */
void resp_client_open(struct resp_clients *owner, evutil_socket_t fd, const char *peer, void *tls);
/* Closes at once. */
void resp_client_close(struct resp_client *client);
/* At a stop: runs nothing more, sends what waits, and closes; holds the loop until then. */
void resp_client_finish(struct resp_client *client);
/* Whether the client has said who it is, where that is needed. */
bool resp_client_is_known(const struct resp_client *client);
/* After a reload of the tokens: whether the client may still be here, and hold what it holds. False: it was told why
 * not, and ends; resp_client_settle must follow. Costs a load where its token was not touched. */
bool resp_client_is_welcome(struct resp_client *client);
/* One look at a client each tick: closes it if it was idle, or slow, for too long. */
void resp_client_tick(struct resp_client *client);
/* The end of every event: closes what is lost or through. False: the client is no more. */
bool resp_client_settle(struct resp_client *client);

/* serve.c: reads, and runs what is whole. */
void resp_serve(struct resp_client *client);
/* Runs what was left while the client was paused. */
void resp_serve_kept(struct resp_client *client);

/* long.c: hands a call that was prepared over to the worker. False: it is to be refused. */
bool resp_long_begin(struct resp_client *client, const struct call *call);

/* Reads again, unless something else still keeps it from that. May lose the client. */
void resp_client_resume(struct resp_client *client);

/* output.c */
static inline size_t resp_output_waiting(const struct resp_client *client)
{
    return client->output.length - client->sent;
}
/* Takes the replies away, sends what the socket takes, and keeps the rest. May pause the client, or lose it. */
void resp_output_take(struct resp_client *client, struct bytes *replies);
/* The socket takes more. May end a pause, or lose the client. */
void resp_output_more(struct resp_client *client);
/* Hangs up on a client that broke a rule, and says so. */
void resp_client_cut_off(struct resp_client *client, const char *why, _Atomic uint64_t *counter);

/* How a watch tells its client something between two commands, never within one. Flushing fails where the client did
 * not take it (cut off beyond max-output-bytes, or gone): it is closed then. */
extern const struct feed_sink resp_feed_sink;

#endif
