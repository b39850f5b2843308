/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica.h - what a replication layer needs of a recorder: claims, numbered changes, whole states, lapses, digests.
 *
 * Each server's connections are stated by exactly one node at a time: the holder of the server's claim. The recorder
 * itself knows claims and numbers, so that ownership, order and digest cannot drift from the data. A recorder that
 * never replicates pays next to nothing for it: until a server is claimed no digest is computed for it.
 *
 *   LOCAL claim   this recorder's own calls (connect, update_server...) state the server. Each accepted change takes
 *                 the server's next number.
 *   REMOTE claim  another node states it. Local calls on the server are answered PRESENCE_E_STALE; changes come by
 *                 presence_replica_apply and presence_replica_apply_state, with their origin's times.
 *   unclaimed     local calls state it; changes are numbered all the same, and no digest is kept.
 *
 * Threads, errors and strings are as in presence.h. Functions marked O(1) hold the mutex for one change.
 */
#ifndef PRESENCE_REPLICA_H
#define PRESENCE_REPLICA_H

#include <presence/presence.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A node's right to state one server: compared by epoch, then turn, then random; the larger wins. All zero: none. */
typedef struct {
    uint64_t epoch;  /* the life of the server, numbered by the server itself */
    uint64_t turn;   /* one more than any known when a node claims the same life anew */
    uint64_t random; /* breaks ties; also keys the digest */
} presence_claim;

/* <0, 0, >0 as `a` is smaller than, equal to, larger than `b`. */
PRESENCE_API int presence_claim_compare(const presence_claim *a, const presence_claim *b);

/* Two recorders that hold equal claims, numbers and digests of a server hold the same connections of it: ids, names,
 * flags, user data and which of them are missing. `all` sums a 64-bit hash, keyed by the claim, of every connection
 * stated under the claim; `alive` sums it of those that are not missing. last_seen and the local lapse do not count. */
typedef struct {
    uint64_t all, alive;
} presence_digest;

typedef struct {
    presence_claim claim;         /* all zero: unclaimed */
    bool local;                   /* the claim is this recorder's */
    bool complete;                /* this claim's life has stated itself whole */
    bool lapsed;                  /* the lapse flag */
    bool forgotten;               /* a tombstone: no connections, claim and number kept as a fence */
    uint64_t number;              /* changes stated under the claim so far */
    uint64_t floor;               /* the number of the last server_down under the claim; 0: none */
    presence_reason floor_reason; /* why connections are missing, as apply_state wants it: of the last server_down that
                                     made some missing, or of the claim. NONE: none is */
    presence_time floor_time;     /* since when they are, by the stating clock; 0: none is */
    presence_digest digest;       /* zero when unclaimed */
    size_t connections;           /* stated under this claim */
    size_t alive;                 /* of those, not missing (the lapse does not count) */
    size_t inherited;             /* of an older claim, not yet restated nor dropped */
    presence_time forgotten_at;   /* this recorder's clock */
} presence_server_description;

/* What is known of a server, without waiting for a list that is being applied. NOT_FOUND if nothing is. O(1). */
PRESENCE_API int presence_replica_describe(presence_recorder *recorder, const char *server,
                                           presence_server_description *description);
/* The names of all servers with connections, a claim or a tombstone, sorted by bytes; free with presence_names_free. */
PRESENCE_API int presence_replica_servers(presence_recorder *recorder, char ***names, size_t *count);

/* Claims a server. Numbers begin anew at 0.
 *   A claim smaller than the known one: STALE. Equal: nothing changes, but `local` is taken over.
 *   A newer epoch: every connection of the older life is missing at once (reason superseded) and stays recorded until
 *   the new life restates it or is complete.
 *   The same epoch: connections keep their status until the new claimant's state replaces them, or it is complete.
 *   The first claim of a server that this recorder stated unclaimed, if local and with epoch 0 or any: its connections
 *   are taken in under the claim, as number 0, complete; O(connections) for the digest. Likewise a local claim of the
 *   same epoch over another local claim.
 * Else O(1). Errors: DISABLED, INVALID, STALE, LIMIT, NO_MEMORY. */
PRESENCE_API int presence_replica_claim(presence_recorder *recorder, const char *server, const presence_claim *claim,
                                        bool local);
/* The claimant's life has stated itself whole by single connects: drops what it inherited and did not restate. Takes
 * the next number (local claims), visible in one step. An update_server does it by itself. Errors as update_server. */
PRESENCE_API int presence_replica_complete(presence_recorder *recorder, const char *server, presence_error *error);

typedef enum {
    PRESENCE_CHANGE_CONNECT = 1, /* value: the connection, last_seen its origin's time; replaces or revives */
    PRESENCE_CHANGE_DISCONNECT,  /* value.connection_id */
    PRESENCE_CHANGE_DOWN,        /* every connection missing; reason and time are its origin's */
    PRESENCE_CHANGE_COMPLETE     /* inherited connections are dropped */
} presence_change_kind;

typedef struct {
    uint64_t number; /* 1, 2, 3... under the claim */
    presence_change_kind kind;
    presence_reason reason; /* DOWN: SERVER_DOWN, DRAINED, TIMED_OUT or SUPERSEDED */
    presence_time time;     /* when it happened, by the origin's clock */
    presence_value value;
} presence_change;

/* Applies one numbered change of a remote claim. The next number: applied. Seen already: OK, ignored. Ahead of the
 * next: GAP. A claim smaller than the known: STALE. Another or unknown claim: GAP (claim it first). *applied, if not
 * NULL, tells whether it changed anything. O(1) but for COMPLETE.
 * A lapsed server takes changes too; they show once it is restored.
 * Errors: DISABLED, INVALID, STALE, GAP, LIMIT, NO_MEMORY. */
PRESENCE_API int presence_replica_apply(presence_recorder *recorder, const char *server, const presence_claim *claim,
                                        const presence_change *change, bool *applied, presence_error *error);
/* Applies consecutive numbered changes of one server, each as presence_replica_apply would and seen by itself, but with
 * their cache misses overlapped and the lock held for one group of them at a time. OK, or the first error; *taken
 * (which may be NULL) is how many before it were applied, or ignored as seen. */
PRESENCE_API int presence_replica_apply_many(presence_recorder *recorder, const char *server,
                                             const presence_claim *claim, const presence_change *changes, size_t count,
                                             size_t *taken, presence_error *error);
/* Activity as told by the origin when it stood at `number`: stamps `last_seen` on the connection unless that was
 * connected after `number` or under an older claim; may leave out connections whose order to `number` is no longer
 * known.
 * Errors: DISABLED, INVALID, NOT_FOUND, STALE (an older claim, or ours), GAP (a claim that is not known here). */
PRESENCE_API int presence_replica_activity(presence_recorder *recorder, const char *server, const presence_claim *claim,
                                           uint64_t number, uint64_t id, presence_time last_seen);
/* Replaces all that is known of the server by its origin's whole state at `number`: status and last_seen are taken from
 * the values (missing ones carry the reason and time of `floor_reason`, `floor_time`, which its description tells).
 * Staged beside other writers and visible in one step. A claim smaller than the known, or an older number of the same
 * claim: STALE. Larger claims are taken. Errors as update_server. */
PRESENCE_API int presence_replica_apply_state(presence_recorder *recorder, const char *server,
                                              const presence_claim *claim, uint64_t number, uint64_t floor,
                                              presence_reason floor_reason, presence_time floor_time,
                                              const presence_value *values, size_t count, presence_error *error);
/* The same, of a claim that is not complete yet: the last `inherited` of the values are of an older claim. They show
 * with their status until the claim restates them or is complete, and are in no number nor digest; the server is not
 * complete then. INVALID too where one of the others is missing and one of these is not: a server_down leaves none
 * alive. Takes two revisions where there are such values: what is inherited lies below the claim's first. */
PRESENCE_API int presence_replica_apply_incomplete(presence_recorder *recorder, const char *server,
                                                   const presence_claim *claim, uint64_t number, uint64_t floor,
                                                   presence_reason floor_reason, presence_time floor_time,
                                                   const presence_value *values, size_t count, size_t inherited,
                                                   presence_error *error);
/* The same as apply_state, recorded in pieces while they come, for a server of which no connection is recorded (else
 * INVALID; take all at once then). No connection of it shows before presence_replica_state_commit, which shows all of
 * it in one step; but presence_recorder_stats counts its names, agents, models and bytes as they come. Until then
 * calls that would change the server, and presence_replica_state and presence_replica_changes of it, do not wait for
 * the next piece: they take away what was recorded of the state so far, O(that), after which the writer is answered
 * LAGGED, and the state has to be begun anew. Local calls on a server whose claim is another node's are STALE as
 * ever, and disturb nothing. Errors and order of claims as apply_state; the first error of `add`, but for a NULL
 * argument, is that of every later call. Values need to live for the call only. `begin` is O(1), `add` O(values),
 * with the lock given up in between; commit and abort are O(connections that were added), in steps too. One thread at
 * a time. Every writer that was begun has to end, by commit or abort, before its recorder is freed: both free it,
 * whatever they return. NULL may be aborted. */
typedef struct presence_state_writer presence_state_writer;
PRESENCE_API int presence_replica_state_begin(presence_recorder *recorder, const char *server,
                                              const presence_claim *claim, uint64_t number, uint64_t floor,
                                              presence_reason floor_reason, presence_time floor_time,
                                              presence_state_writer **writer, presence_error *error);
PRESENCE_API int presence_replica_state_add(presence_state_writer *writer, const presence_value *values, size_t count,
                                            presence_error *error);
/* Values of an older claim, as of apply_incomplete. */
PRESENCE_API int presence_replica_state_add_inherited(presence_state_writer *writer, const presence_value *values,
                                                      size_t count, presence_error *error);
PRESENCE_API int presence_replica_state_commit(presence_state_writer *writer, presence_error *error);
PRESENCE_API void presence_replica_state_abort(presence_state_writer *writer);

/* This recorder lost touch with the server's origin: all its connections read missing (reason lapsed, by this
 * recorder's clock) until restored; those that were missing before stay missing after. Each is a change of the
 * revision, not of the number nor of the digest. Twice the same: no change. NOT_FOUND. O(1). */
PRESENCE_API int presence_replica_lapse(presence_recorder *recorder, const char *server);
PRESENCE_API int presence_replica_restore(presence_recorder *recorder, const char *server);

/* Drops a server's connections and leaves a tombstone: claim and number stay as a fence (STALE for older ones).
 * NOT_FOUND. O(connections), visible in one step. */
PRESENCE_API int presence_replica_forget(presence_recorder *recorder, const char *server, presence_error *error);
/* Removes tombstones left before `before` (this recorder's clock); returns how many. */
PRESENCE_API size_t presence_replica_bury(presence_recorder *recorder, presence_time before);

/* Changes of a server after a number, from the history (options.history_bytes must be set, or a watch or a reader of
 * statements be open). Zeroed, `next` starts after `after`. 1: *change was filled; 0: no more; LAGGED: not kept, or a
 * whole list came between: send the whole state. Strings live until the next call with the same reader. */
typedef struct presence_change_reader presence_change_reader;
PRESENCE_API int presence_replica_changes(presence_recorder *recorder, const char *server, uint64_t after,
                                          presence_change_reader **reader);
PRESENCE_API int presence_change_next(presence_change_reader *reader, presence_change *change);
/* Before its recorder is freed. NULL is allowed. */
PRESENCE_API void presence_change_reader_free(presence_change_reader *reader);

/* What this recorder states itself, of all its servers, in one feed and in the order in which it was stated: numbered
 * changes of servers under a local claim, and of servers that nobody has claimed. Claims, lapses and tombstones are not
 * in it, nor activity. The history is as for presence_replica_changes. A reader holds a descriptor and 128 KiB. */
typedef struct presence_statement_reader presence_statement_reader;
typedef struct {
    const char *server;
    presence_claim claim;   /* under which it was stated; all zero: nobody's (a replication layer claims it then) */
    bool whole;             /* a list of the server: of `change` only number and time are told; send the whole state */
    presence_change change; /* strings live until the next read */
} presence_statement;
/* Begins now. Errors: INVALID, NO_MEMORY, SYSTEM. */
PRESENCE_API int presence_replica_statements(presence_recorder *recorder, presence_statement_reader **reader);
/* Fills at most `most` (at least 1); *count 0: no more at present. Errors, with *count 0: LAGGED: what was stated
 * meanwhile is not kept (or the recorder was disabled and enabled): look at every server anew; the reader goes on from
 * now. DISABLED. INVALID. NO_MEMORY: try again. One thread at a time. Holds the mutex for at most 512 changes. */
PRESENCE_API int presence_statements_read(presence_statement_reader *reader, presence_statement *statements,
                                          size_t most, size_t *count);
/* A descriptor to poll (do not read it): readable from the beginning until a read finds no more or DISABLED, and again
 * when there is something then: a statement, or the recorder was disabled or enabled. It belongs to the reader. */
PRESENCE_API int presence_statement_fd(const presence_statement_reader *reader);
/* Before its recorder is freed. NULL is allowed. */
PRESENCE_API void presence_statement_reader_free(presence_statement_reader *reader);

/* The server's whole state, consistent with *description (number, claim, digest): a view limited to the connections
 * stated under the claim, with the statuses that were stated: a lapse does not show in it. Free with
 * presence_connections_free. NULL: out of memory or not found. O(1), but where a state of it is being recorded in
 * pieces: see presence_replica_state_begin. */
PRESENCE_API presence_connections *presence_replica_state(presence_recorder *recorder, const char *server,
                                                          presence_server_description *description);
/* What is inherited from an older claim, at the moment of such a state, with the statuses that were stated. NULL: out
 * of memory, or it is no such state. O(1). */
PRESENCE_API presence_connections *presence_replica_inherited(const presence_connections *state);

/* What became of a server since a revision, for who holds it as it was then or later: *view is of the connections that
 * were stated after it, with the statuses that were stated; gone[0..*gone_count-1] are ids that were disconnected after
 * it, of which some may be in the view again, and some may stand there twice. What neither tells is as it was, but
 * missing where *description tells a floor above the number then known. Consistent with *description, as
 * presence_replica_state. To know a revision for a number: what was stated after a number that was read after a
 * revision was stated after that revision.
 * LAGGED: not known any more, a whole list was stated since, more than `most` are gone, or something of an older claim
 * is here: send the whole state. NOT_FOUND, DISABLED, INVALID, NO_MEMORY. O(departures since then) under the mutex. */
PRESENCE_API int presence_replica_difference(presence_recorder *recorder, const char *server, uint64_t revision,
                                             presence_server_description *description, uint64_t *gone, size_t most,
                                             size_t *gone_count, presence_connections **view);
/* Makes the origin's state of what is here at number `since` or later, by such a difference. *state is the origin's
 * description: claim, number, floor with its reason and time, connections and digest are looked at. Staged beside other
 * writers and visible in one step, and only if it comes to the same digest; else, and where another number or another
 * claim is here, GAP: take the whole state. A smaller claim, or a smaller number than is here: STALE. Other errors as
 * update_server. O(values + gone), and a look at each connection of the server. */
PRESENCE_API int presence_replica_apply_difference(presence_recorder *recorder, const char *server, uint64_t since,
                                                   const presence_server_description *state,
                                                   const presence_value *values, size_t count, const uint64_t *gone,
                                                   size_t gone_count, presence_error *error);

#ifdef __cplusplus
}
#endif
#endif
