/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nats.h - NATS as a step's transport: lanes to subjects, and messages that came.
 *
 *   lane           subject                              who listens
 *   STEP_BEAT      presence.<cluster>.beat.<node>       every node, the sender too
 *   STEP_STREAM    presence.<cluster>.stream.<node>     every node; the sender drops its own
 *   STEP_STATE     presence.<cluster>.state.<node>      nodes that fetch a state from that node, while they do
 *   send           presence.<cluster>.to.<node>.<from>  the node
 *
 * The last token of a subject is always who sent it, so a NATS server can be told which node may speak as which:
 * examples/nats-server.conf. A message that names another sender inside than its subject does is dropped.
 *
 * Threads: the functions of the step's table may be called from any thread, and only queue. All others are for one
 * thread, the transport's owner: it polls, reads, hands what came to the step, and writes. Nothing waits, but see
 * link.h for TLS.
 *
 * A turn of the owner:  nats_transport_poll, poll(2), nats_transport_read, nats_transport_next until NULL,
 *                       nats_transport_write.
 */
#ifndef CLUSTER_NATS_H
#define CLUSTER_NATS_H

#include "cluster/link.h"
#include "cluster/step.h"

struct pollfd;

enum {
    NATS_MOST_WAITING = 64 * 1024 * 1024, /* bytes queued for NATS: beyond it messages are dropped, and counted */
};

struct nats_config {
    const char *cluster, *node; /* 1 to 127 of A-Z a-z 0-9 - _ */
    struct link_config link;    /* its name is filled in, and its timeout if that is 0 */
    uint32_t lease_ms;          /* where own beats stay away for three of it, the connection is made anew */
    void *owner;
    /* Called on the owner's thread, from read and write. */
    void (*log)(void *owner, enum step_level level, const char *event, const char *text);
};

struct nats_counters {
    uint64_t published, received; /* messages */
    uint64_t published_bytes, received_bytes;
    uint64_t dropped, dropped_bytes;                 /* not sent: too much was waiting, or no connection */
    uint64_t forged;                                 /* received: not of whom the subject names */
    uint64_t connects, losses, failures, complaints; /* complaints: what the server refused */
    size_t waiting;
    bool up;
};

struct nats_transport;

/* `config`'s strings are copied. INVALID (names, URLs, files), NO_MEMORY: NULL, and *error is filled. `wake` is an
 * eventfd that becomes readable when the owner should take a turn. */
struct nats_transport *nats_transport_new(const struct nats_config *config, int wake, presence_error *error);
/* Closes the connection at once. NULL is allowed. */
void nats_transport_free(struct nats_transport *transport);
/* Fills in context (the transport), broadcast, send, listen, waiting. */
void nats_transport_output(struct nats_transport *transport, struct step_output *output);
void *nats_transport_owner(const struct nats_transport *transport);

/* What to poll for, fd -1: nothing; returns when to take a turn at the latest. */
uint64_t nats_transport_poll(struct nats_transport *transport, uint64_t now, struct pollfd *poll);
/* Connects, notices loss, reads. *up: whether there is a connection; if it changed the step is to be told before it is
 * given what came. */
void nats_transport_read(struct nats_transport *transport, uint64_t now, bool readable, bool *up);
/* The next message that was read; NULL: no more. They live until then. */
const void *nats_transport_next(struct nats_transport *transport, size_t *length);
void nats_transport_write(struct nats_transport *transport, uint64_t now);

/* From now on everything leaves in the order in which it was given, and the step is told that nothing waits. */
void nats_transport_last_words(struct nats_transport *transport);
/* All that was given is with the NATS server: every own beat came back. */
bool nats_transport_is_settled(struct nats_transport *transport);
/* No longer connects, and drops the connection. */
void nats_transport_stop(struct nats_transport *transport);
/* Bytes that have not left. From any thread. */
size_t nats_transport_waiting(struct nats_transport *transport);
/* From any thread: ends what the owner waits for in TLS. */
void nats_transport_interrupt(struct nats_transport *transport);

/* From any thread. */
void nats_transport_counters(struct nats_transport *transport, struct nats_counters *out);
/* From any thread: why there is no connection; "" while there is one. */
void nats_transport_trouble(struct nats_transport *transport, char trouble[LINK_TROUBLE_BYTES]);

#endif
