/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessions.h - who states which server: gateways bound to a server (SESSION), agents that are connected to this node
 * itself (JOIN), and what becomes of a server when those who stated it are gone.
 *
 * WORDS
 *   holder   a client that is bound to a server. A client is bound to one server at most; a server may have several
 *            holders, all of one life.
 *   life     the time in which one epoch holds the server. A larger epoch begins the next life: the holders of the one
 *            before have lost the server, and whatever they still say of it is stale.
 *   fenced   held, with an epoch, or waiting for such a holder to come back: only its holders may state it.
 *   grace    how long a server waits for a holder to come back. What its new holder has not stated again (by a
 *            connect or a list; activity is no statement) when the grace is over becomes missing.
 *
 * A holder whose peer has closed the connection is gone when its loop reads that end, or, where no other is left, when
 * somebody binds to the server before that.
 *
 * Who takes over is the server's only holder from then on: the others of its life have lost the server, as though their
 * connections had closed; so what it does not state again within the grace becomes missing. It is for a gateway whose
 * last connection was lost without an end that anybody could see (a cable, a NAT), which would else be one holder more.
 *
 * The last holder gone: by QUIT, RESET or by binding elsewhere: drained at once. By a closed connection: server_down at
 * once without a grace; with one, timed_out when it is over.
 *
 * In a cluster a session claims its server for this node, away from the node where it was before; there, the sessions
 * of the server have lost it as by a newer epoch.
 *
 * The node's own server (--node) is stated by the node alone. Its epoch is the time at which the node started; what an
 * older run left of it is dropped once the settle time is over.
 *
 * Threads: any, with a client's calls on that client's loop. The locks: the table's mutex, for look-ups only; and a
 * fence of each server, held for reading while one of its holders writes, and for writing while the server changes
 * hands, so that nothing of an older life is written once a newer one has begun.
 */
#ifndef DAEMON_SESSIONS_SESSIONS_H
#define DAEMON_SESSIONS_SESSIONS_H

#include "node/client.h"

#include <presence/replica.h>

struct sessions;

/* Sets node->name and node->sessions, starts the timer on the first loop. Before the loops run. False: `error` says
 * why. */
bool sessions_start(struct node *node, char *error, size_t error_bytes);
/* Claims the node's own server: after the state was read and the cluster joined, before the loops run. */
bool sessions_claim_own(struct node *node, char *error, size_t error_bytes);
/* Another node of the cluster has claimed a server that this one stated: its sessions here have lost it, and what was
 * waited for is not any more. The node's own server is claimed back. On the cluster's thread. */
void sessions_superseded(struct node *node, const char *server, const presence_claim *by, const char *holder);
/* The node stops: from here on no write is allowed, and those that were are over, but for a list that takes longer than
 * a moment. With node->stopping set, before anybody is told goodbye. */
void sessions_stop_writes(struct node *node);
/* The node stops: its own server is drained, and from here on nothing is stated of a client's end. On the first loop,
 * with node->stopping set, before clients are closed. */
void sessions_drain(struct node *node);
/* After all clients are closed. */
void sessions_free(struct node *node);

struct session_wish {
    const char *server; /* a good name */
    bool has_epoch, has_grace, takes_over;
    uint64_t epoch, grace_ms;
};

enum { SESSION_MOST_GRACE_MS = 24 * 60 * 60 * 1000 };
/* Callers refuse larger ones: a life that none can follow would hold its server for ever. */
#define SESSION_MOST_EPOCH (UINT64_MAX - 1)

/* Binds the client, in place of what it was bound to. 0, or: STALE, a newer epoch is known; DISABLED; LIMIT, too many
 * servers wait for their holders; NO_MEMORY; SESSIONS_E_NODE, the server is the node's own. A failure changes
 * nothing. */
enum { SESSIONS_E_NODE = -1000 };
int sessions_bind(struct client *client, const struct session_wish *wish, presence_error *error);

/* Around each write of a client to a server. Allowed: sessions_end_write must follow, soon. */
enum write_answer { WRITE_ALLOWED, WRITE_STALE, WRITE_OF_NODE, WRITE_STOPPING };
enum write_answer sessions_begin_write(struct client *client, const char *server);
void sessions_end_write(struct client *client);
/* Whether a session that is not this client's holds the server, or is waited for, with an epoch or without. */
bool sessions_held_by_another(struct client *client, const char *server);
/* What is said to whom is not allowed to. */
const char *write_answer_text(enum write_answer answer);

/* The client is gone (or begins anew, by RESET): ends its session, its join and its gathering. With client->said_quit,
 * it went on purpose. */
void sessions_client_gone(struct client *client);

/* Whether that principal may hold what the client holds: its session, and its join. NULL may hold nothing. */
bool sessions_permit(const struct client *client, const struct principal *principal);

/* How many servers are held or waited for; for metrics. */
size_t sessions_count(struct node *node);

/* ------------------------------------------------------------------------------------------------------- joining -- */

/* The client is a connection of this agent to this node, until it goes. 0 or a PRESENCE_E_ code; DUPLICATE: it has
 * joined already. */
int join_open(struct client *client, const char *model, const char *agent, const char *data, uint64_t *id,
              presence_error *error);
/* The agent is active: for every input of a client that has joined. */
void join_stamp(struct client *client);

/* ----------------------------------------------------------------------------------------------------- gathering -- */

/*
 * A whole list of a server's connections in parts. It is kept here until the commit, counted against max-list-bytes,
 * which is for all clients together; where tokens are in use, those of one take at most three fourths of what is left
 * by the others. Ids that connect or disconnect between begin and commit keep their newer fate. A part that failed
 * makes the commit fail: half a list would make agents disappear.
 */

/* Begins a list of the server; one that the client had begun is dropped. False: out of memory. */
bool gathering_begin(struct client *client, const char *server);
/* The client's list of that server, or NULL. */
struct gathering *gathering_of(struct client *client, const char *server);
/* Adds copies of these values (status, server and last_seen are not kept). 0, or LIMIT, NO_MEMORY: as
 * gathering_spoil. */
int gathering_add(struct gathering *gathering, const presence_value *values, size_t count);
/* Something of the list is lost: its commit will fail. */
void gathering_spoil(struct gathering *gathering);
bool gathering_is_spoilt(const struct gathering *gathering);
size_t gathering_count(const struct gathering *gathering);
/* Makes it the server's list, and drops it, whatever came of it. 0 or a PRESENCE_E_ code. */
int gathering_commit(struct client *client, presence_error *error);
/* Before these ids of the server are disconnected, whether they are recorded or not: the recorder remembers only those
 * that are, but the list that a gateway gathers may be older than the end of one that it never reported. Costs a load
 * where no list is gathered. Waits for a list of that server that is being committed, as the recorder would. */
void gathering_note_gone(struct node *node, const char *server, const uint64_t *ids, size_t count);
/* Drops the client's list, if it has one. */
void gathering_drop(struct client *client);
/* Bytes that lists take now, of all clients; for metrics. */
uint64_t gathering_bytes(struct node *node);

/* -------------------------------------------------------------------------------------------------------- limits -- */

/* Whether these values, all of one server, may be recorded under max-server-connections and max-model-names; `whole`:
 * they replace what the server has. 0, LIMIT with its reason in *error, or NO_MEMORY. Costs nothing where neither limit
 * is set; else a look-up for each value, and near a limit a view. Writers beside this one may exceed a limit by what
 * they write at that moment. */
int limits_check(struct node *node, const presence_value *values, size_t count, bool whole, presence_error *error);

#endif
