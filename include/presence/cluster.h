/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.h - join a cluster: what this recorder states is told to the other nodes' recorders, and theirs to this one.
 *
 * Nodes are processes that have a recorder each and meet at a NATS server (or several that form a cluster of NATS).
 * A program joins with its recorder, and goes on using the recorder as before: it connects and disconnects agents of
 * the servers that it states, and asks about agents of all. How it works is told in docs/design/cluster.md.
 *
 * WORDS, besides those of presence.h
 *   node       one process of the cluster, by a name that no other has
 *   claim      a node's right to state one server: (epoch, turn, random), the larger wins
 *   epoch      one life of a server, numbered by the server itself (its start time, say)
 *   number     a server's own count of the changes stated under one claim
 *   freshness  whether a node may trust what it holds: fresh, or stale since a time
 *   beat       a small message of each node at each interval; without one for a lease, what it states reads missing
 *
 * THREADS
 *   presence_cluster_join starts one thread, which does all the work (libnats has some of its own). Every other
 *   function may be called from any thread; presence_cluster_leave must not race with them. Callbacks run on the
 *   cluster's thread, one at a time, with no lock held: they may call every function of the recorder, and every one of
 *   the cluster's but leave, wait, verify and explain. While one runs, the cluster waits: if for longer than a lease,
 *   other nodes take this one for gone.
 *
 * The recorder must be enabled, should keep a history (presence_options.history_bytes, 4 MiB or more: without one each
 * change costs a whole state), and is freed after presence_cluster_leave. The library is libpresence-cluster
 * (pkg-config: presence-cluster); it installs no signal handler and prints nothing.
 */
#ifndef PRESENCE_CLUSTER_H
#define PRESENCE_CLUSTER_H

#include <presence/presence.h>
#include <presence/replica.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct presence_cluster presence_cluster;

enum { PRESENCE_NODE_BYTES = 128 }; /* a node's name and its NUL */

typedef enum { PRESENCE_CLUSTER_DEBUG, PRESENCE_CLUSTER_INFO, PRESENCE_CLUSTER_WARNING } presence_cluster_level;

/* Fill with presence_cluster_config_init, then set `node`, and `urls` if NATS is not on this machine. All strings are
 * copied by presence_cluster_join. */
typedef struct {
    size_t struct_bytes; /* set by presence_cluster_config_init */

    /* Names are 1 to 127 of A-Z a-z 0-9 - and _. */
    const char *cluster; /* the same for all its nodes: "presence" */
    const char *node;    /* this node's own; must be set */

    /* NATS. One of user, token, credentials_file, or none. */
    const char *urls;            /* "nats://localhost:4222"; several separated by commas; "tls://..." with TLS */
    const char *user, *password; /* NULL: none */
    const char *token;
    const char *credentials_file; /* a .creds file of NATS: a JWT and its key */
    bool tls;                     /* insist on TLS; tls_ca or a certificate does too */
    const char *tls_ca;           /* file of authorities to trust; NULL: the system's */
    const char *tls_certificate;  /* files of this node's certificate and its key, both or none */
    const char *tls_key;

    uint32_t interval_ms;  /* between beats: 500 */
    uint32_t lease_ms;     /* without a beat for this long a node's servers read missing: 3,000; 3 intervals at least */
    uint32_t settle_ms;    /* after a new life of a server, until what was not restated is dropped: 30,000 */
    uint32_t hold_ms;      /* most nodes silent at once: stale first, and missing only after this: 30,000 */
    uint32_t activity_ms;  /* between tellings of last_seen: 20,000; 0: never */
    uint32_t tombstone_ms; /* how long a forgotten server is fenced: 3,600,000 */
    uint32_t forget_after_ms; /* servers of a node that is silent for this long are forgotten; 0: never (the default) */

    /* Callbacks, each may be NULL. Strings live until it returns. */
    void *context;
    /* Another node claimed a server that this one stated: what is stated of it here is STALE from now on. Whoever
     * states it here should hand its agents over, or stop. */
    void (*superseded)(void *context, const char *server, const presence_claim *by, const char *node);
    /* What happened, for a log: `event` is a short constant name, `text` the rest of the line. */
    void (*log)(void *context, presence_cluster_level level, const char *event, const char *text);
    /* This node takes no part any more: another process has its name (code PRESENCE_E_DUPLICATE). Its recorder goes
     * on alone, stale; the program should end, or leave. */
    void (*refused)(void *context, const presence_error *why);
} presence_cluster_config;

PRESENCE_API void presence_cluster_config_init(presence_cluster_config *config);

/* Joins. Returns at once, whether NATS can be reached or not: it connects in the background, again and again, and until
 * then answers say stale (presence_cluster_wait tells when the node is ready, or why it is not). NULL on failure, with
 * the reason in *error if that is not NULL: INVALID (a name, a URL, a file that cannot be read, times that do not go
 * together), DISABLED (the recorder), NO_MEMORY, SYSTEM (no thread, no descriptor).
 * Cost: a thread, some hundred KiB of buffers, and for each server of any node some hundred bytes. */
PRESENCE_API presence_cluster *presence_cluster_join(presence_recorder *recorder, const presence_cluster_config *config,
                                                     presence_error *error);

/* Leaves on purpose: states the servers of this node as drained, so that their connections are missing everywhere at
 * once (here too), says goodbye, waits until NATS has it (10 ms and less where NATS is near, half a second at most),
 * and frees everything. Callbacks may still come until it returns. NULL is allowed. To stop without a word, as in a
 * crash, end the process. */
PRESENCE_API void presence_cluster_leave(presence_cluster *cluster);

/* Claims a server for this node, for as long as it runs or until another node claims it: a gateway has bound itself to
 * the server here, say. Need not be called: a server that is stated here while nobody claims it is claimed by itself.
 * With an epoch: a newer one than known begins a new life of the server, whose older connections are missing from then
 * on and are dropped once it is complete; the known one goes on with that life; an older one is STALE. Without: the
 * life that is known goes on. Before the node is ready the claim is only noted, and made then.
 * Errors: INVALID (a bad name), DISABLED, STALE, LIMIT, NO_MEMORY, DUPLICATE (refused, see above).
 * O(1), or O(connections of the server) when connections recorded before are taken in. */
PRESENCE_API int presence_cluster_claim(presence_cluster *cluster, const char *server, bool has_epoch, uint64_t epoch);

/* Drops a server whose node is silent, on every node, as an operator who knows that it will not come back. Its claim
 * and number stay as a fence for config.tombstone_ms; the same life stated again is recorded anew.
 * Errors: NOT_FOUND, INVALID, STALE (its node is heard, or is this one), NO_MEMORY, DUPLICATE. O(connections). */
PRESENCE_API int presence_cluster_forget(presence_cluster *cluster, const char *server);

/* ----------------------------------------------------------------------------------------------------- freshness -- */

typedef enum {
    PRESENCE_FRESH,         /* what is held is what is stated, as of a beat ago */
    PRESENCE_STALE_JOINING, /* not everything that others state has been fetched yet: unknown may be wrong */
    PRESENCE_STALE_DEAF,    /* this node does not hear itself: it is cut off, and judges nobody */
    PRESENCE_STALE_SILENT   /* most nodes fell silent at once; or the node that states the server has */
} presence_doubt;

/* "fresh", "joining", "deaf", "silent", else "". Static storage. */
PRESENCE_API const char *presence_doubt_string(presence_doubt doubt);

typedef struct {
    presence_doubt doubt;
    presence_time since; /* stale since then, by this machine's clock; 0 if fresh */
    char
        node[PRESENCE_NODE_BYTES]; /* who states the server, as far as is known; "" if nobody, or no server was asked */
} presence_freshness;

/* Of the whole view (server NULL), or of one server; of a server of which nothing is known it is the whole view's.
 * What this node states itself is fresh, whatever else is not. O(1), and waits for at most one turn of the cluster's
 * thread (microseconds; a millisecond under full load). Errors: INVALID (freshness is NULL). */
PRESENCE_API int presence_cluster_freshness(presence_cluster *cluster, const char *server,
                                            presence_freshness *freshness);

/* Whether the view as a whole and every server's part of it is fresh: then no answer needs to be asked for its own
 * freshness. It may say false where all is fresh. O(peers). */
PRESENCE_API bool presence_cluster_all_fresh(presence_cluster *cluster);
/* Whether the node has heard the cluster for a lease and fetched what it heard of; once true it stays true. Cost as
 * freshness. */
PRESENCE_API bool presence_cluster_is_ready(presence_cluster *cluster);
/* Waits until it is ready. OK; or *error tells what is lacking: SYSTEM (no connection to NATS, and why: refused, wrong
 * token...), LAGGED (connected, but still fetching), DUPLICATE (refused: returns at once). Not for callbacks. */
PRESENCE_API int presence_cluster_wait(presence_cluster *cluster, uint32_t timeout_ms, presence_error *error);

/* ------------------------------------------------------------------------------------------------------- looking -- */

/* One other node, or a run of it. */
typedef struct {
    char node[PRESENCE_NODE_BYTES];
    uint64_t run;        /* random, of this run of its process */
    presence_time heard; /* its last beat, by this machine's clock */
    size_t servers;      /* that it states, as known here */
    bool silent;         /* not heard for its lease */
    bool joining;        /* not ready yet */
} presence_peer;

/* Fills at most `most`, in no particular order; returns how many there are. Runs that have left are not among them.
 * O(nodes). */
PRESENCE_API size_t presence_cluster_peers(presence_cluster *cluster, presence_peer *peers, size_t most);

/* Counts since joining. */
typedef struct {
    size_t struct_bytes;                 /* set by the caller to sizeof(presence_cluster_counters) before the call */
    bool connected;                      /* to NATS */
    uint64_t connects, losses, failures; /* connections to NATS: made, lost, not made */
    uint64_t complaints;                 /* errors that the NATS server answered, such as a right that is not given */
    uint64_t messages_sent, messages_received, bytes_sent, bytes_received;
    uint64_t messages_dropped, bytes_dropped; /* not sent: no connection, or too much was waiting; repaired later */
    uint64_t messages_forged;                 /* received, and named another node than their subject: ignored */
    uint64_t messages_malformed, messages_of_newer_version;
    uint64_t waiting_bytes; /* to be sent, now */
    uint64_t beats_sent, beats_heard;
    uint64_t changes_sent, changes_applied, activity_sent, activity_applied;
    uint64_t states_sent, states_taken; /* whole states of servers */
    uint64_t gaps, asks;                /* changes that were missed; questions asked to repair that */
    uint64_t refused;                   /* not taken: a limit of the recorder or of the cluster */
    uint64_t digest_differences;        /* the same number with another digest: a bug or corruption; repaired */
    uint64_t yielded, lapses, restores; /* servers lost to another claim; gone silent; heard again */
} presence_cluster_counters;

/* Errors: INVALID (struct_bytes of another version). O(1). */
PRESENCE_API int presence_cluster_stats(presence_cluster *cluster, presence_cluster_counters *counters);

typedef enum {
    PRESENCE_STAND_AGREES, /* claim, number and digest are equal */
    PRESENCE_STAND_BEHIND, /* an older claim or number: changes are on their way, or do not arrive */
    PRESENCE_STAND_DIFFERS /* the same claim and number, with another digest or count: a bug or corruption */
} presence_agreement;

/* "agrees", "behind", "differs", else "". Static storage. */
PRESENCE_API const char *presence_agreement_string(presence_agreement agreement);

/* How one node holds one server. */
typedef struct {
    const char *server;
    const char *node;   /* who holds it so */
    const char *holder; /* who states the server, as that node knows; "" if nobody */
    presence_claim claim;
    uint64_t number;
    uint64_t connections, alive; /* stated under the claim */
    presence_digest digest;
    bool complete, forgotten, lapsed; /* lapsed: that node does not hear the holder */
    presence_agreement agreement;     /* with the row of the largest claim and number: the holder's own, as a rule */
} presence_stand;

/* Asks every node that is heard how it holds every server, and calls `row` on this thread for each answer, sorted by
 * server and node, once all have answered or the time is over. *answered and *asked, if not NULL, are how many nodes
 * did and should have, this one too. To be sure of a difference ask again: numbers move while answers travel.
 * Strings live until `row` returns. Errors: INVALID, NO_MEMORY, DUPLICATE. Not for callbacks. O(servers x nodes). */
PRESENCE_API int presence_cluster_verify(presence_cluster *cluster, uint32_t timeout_ms,
                                         void (*row)(void *context, const presence_stand *stand), void *context,
                                         size_t *answered, size_t *asked);

/* One connection of an agent as one node holds it. */
typedef struct {
    const char *server;
    const char *holder; /* the node that states the server; "" if nobody is known to */
    uint64_t connection_id;
    presence_time last_seen;
    bool controller_agent, missing;
    bool stale; /* that node's view of the server is */
} presence_testimony_connection;

/* What one node knows of an agent. */
typedef struct {
    const char *node;
    presence_status status;
    presence_reason reason;
    presence_time since, last_seen;
    bool stale;   /* the node's whole view is */
    size_t total; /* connections of the agent there; at most 256 are told */
    const presence_testimony_connection *connections;
    size_t count;
} presence_testimony;

/* Asks every node that is heard what it knows of an agent; otherwise as presence_cluster_verify, sorted by node.
 * Further error: DISABLED. */
PRESENCE_API int presence_cluster_explain(presence_cluster *cluster, const char *model, const char *agent,
                                          uint32_t timeout_ms,
                                          void (*row)(void *context, const presence_testimony *testimony),
                                          void *context, size_t *answered, size_t *asked);

#ifdef __cplusplus
}
#endif
#endif
