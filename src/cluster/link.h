/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - one connection to NATS, from the attempt to make it to its end. nats.c makes one after the other.
 *
 * libnats connects on a thread that link_begin starts, for connecting blocks. From then on the connection is driven by
 * one thread, its owner's: it polls the socket and calls link_read and link_write, in which libnats does all its work.
 * libnats pings nobody here (its timer would close connections on a thread of its own), and reconnects nothing.
 *
 * A link is counted, for three may hold it: its owner, the thread that connects, and libnats, which may still tell of
 * errors after the owner let it go. An owner need not wait for an attempt that takes long: it lets go, and the thread
 * cleans up after itself.
 */
#ifndef CLUSTER_LINK_H
#define CLUSTER_LINK_H

#include <presence/presence.h>

#include <nats/nats.h>

enum { LINK_TROUBLE_BYTES = 256 };

/* Strings are the caller's, and must live as long as links are made with them. */
struct link_config {
    const char *urls; /* separated by commas */
    const char *user, *password, *token, *credentials_file;
    const char *tls_ca, *tls_certificate, *tls_key; /* files */
    bool tls;
    const char *name; /* as NATS shows it */
    uint32_t timeout_ms;
};

enum link_state { LINK_CONNECTING, LINK_UP, LINK_DOWN };

struct link;

/* INVALID with what is wrong: a file that cannot be read, a URL that is none. Reads the files. */
int link_check(const struct link_config *config, presence_error *error);

/* Begins to connect. `wake` is an eventfd (duplicated) that is written when link_state changes without the owner. NULL:
 * out of memory, or no thread; *error is filled. */
struct link *link_begin(const struct link_config *config, int wake, presence_error *error);
/* Closes the connection, at once, and lets go. What was not written is lost. NULL is allowed. */
void link_end(struct link *link);

enum link_state link_state(struct link *link);
/* What libnats said last went wrong, "" if nothing; each is told once. */
bool link_trouble(struct link *link, char trouble[LINK_TROUBLE_BYTES]);
/* Of a link that is up. */
natsConnection *link_connection(struct link *link);
int link_socket(struct link *link);
bool link_wants_to_write(struct link *link);
/* Read what is there, write what the socket takes; neither waits, but for TLS, where libnats waits for the rest of a
 * record that has begun. The state may be LINK_DOWN after it. */
void link_read(struct link *link);
void link_write(struct link *link);
/* What is written waits until the socket has taken all of it. */
bool link_is_tls(struct link *link);
/* Bytes published that the socket has not taken. */
size_t link_waiting(struct link *link);
/* From any thread while the owner holds it: ends whatever the connection waits for. */
void link_interrupt(struct link *link);

#endif
