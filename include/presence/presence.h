/* SPDX-License-Identifier: Apache-2.0 */
/*
 * presence.h - the record of which agents have a current connection to which API server.
 *
 * WORDS
 *   model       a tenant, named by its UUID.
 *   agent       a machine, unit or application tag, within one model.
 *   server      an API server's machine tag: where agents connect.
 *   connection  one agent's connection to one server, identified by (server, connection id).
 *   recorder    the object that records connections. It starts disabled and empty.
 *   connections an immutable view of the record, and any slice of it.
 *   status      unknown: not recorded. missing: connected once, but its server has gone away. alive: connected.
 *   revision    a recorder's own number: one more for each accepted call that alters anything but a last_seen.
 *
 * THREADS
 *   Every function may be called from any thread, on the same recorder at the same time. Writers take one mutex for
 *   one change; a view (presence_connections) is read without any lock, for as long as it is held. The one rule:
 *   freeing an object must not race with other calls on that same object. Slices are independent of each other.
 *   The library starts no thread, opens no socket, installs no signal handler and prints nothing.
 *
 * ERRORS
 *   Functions that can fail return PRESENCE_OK (0) or a negative PRESENCE_E_ code. A failed call changes nothing.
 *   Out of memory is an error like the others, never an abort. Checks are made in this order: disabled, then the
 *   arguments, then the list in its order, then claims, limits and memory.
 *
 * STRINGS
 *   Names (model, server, agent) are 1 to 1,024 bytes of UTF-8 without control characters. User data is 0 to 65,535
 *   bytes of UTF-8 without NUL; NULL means "". The library copies what it keeps. Strings that it hands out belong to
 *   it and live as long as each function says.
 *
 * COSTS
 *   N is the number of connections recorded. "O(1)" is amortised over nothing: no call pauses to rehash or to copy.
 *   Figures with the command that measures them are in docs/performance.md.
 */
#ifndef PRESENCE_PRESENCE_H
#define PRESENCE_PRESENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PRESENCE_API __attribute__((visibility("default")))
#else
#define PRESENCE_API
#endif

#define PRESENCE_VERSION_MAJOR 0
#define PRESENCE_VERSION_MINOR 1
#define PRESENCE_VERSION_PATCH 0
#define PRESENCE_VERSION "0.1.0"

/* The version of the library that is running, e.g. "0.1.0". Never NULL. */
PRESENCE_API const char *presence_version(void);

/* ---------------------------------------------------------------------------------------------- common types -- */

typedef int64_t presence_time; /* nanoseconds since the Unix epoch */

typedef enum { PRESENCE_UNKNOWN, PRESENCE_MISSING, PRESENCE_ALIVE } presence_status; /* ordered */

/* Why an agent's best status last changed. */
typedef enum {
    PRESENCE_REASON_NONE,        /* nothing is known of the agent */
    PRESENCE_REASON_CONNECTED,   /* it connected, and was unknown before */
    PRESENCE_REASON_RECONNECTED, /* it connected, and was missing before */
    PRESENCE_REASON_UPDATED,     /* its server's whole list said so (update, merge, a replicated state) */
    PRESENCE_REASON_LEFT,        /* a connection was closed */
    PRESENCE_REASON_SERVER_DOWN, /* its server went away */
    PRESENCE_REASON_DRAINED,     /* its server stopped on purpose */
    PRESENCE_REASON_TIMED_OUT,   /* its server was not heard of for too long */
    PRESENCE_REASON_SUPERSEDED,  /* a newer life of its server, or another claimant, took over */
    PRESENCE_REASON_RESTORED,    /* its server is heard again after a lapse */
    PRESENCE_REASON_LAPSED       /* this recorder lost touch with its server's origin */
} presence_reason;

enum {
    PRESENCE_OK = 0,
    PRESENCE_E_DISABLED = -1,  /* the recorder is disabled */
    PRESENCE_E_INVALID = -2,   /* a bad name, data or argument */
    PRESENCE_E_NOT_FOUND = -3, /* the connection, server or model is not recorded; nothing changed */
    PRESENCE_E_MISMATCH = -4,  /* a value of another server in a server's list */
    PRESENCE_E_DUPLICATE = -5, /* a connection id twice in one list */
    PRESENCE_E_AMBIGUOUS = -6, /* an agent asked of connections that are not limited to a model */
    PRESENCE_E_NO_MEMORY = -7, /* out of memory */
    PRESENCE_E_LAGGED = -8,    /* the history asked for is no longer kept: start over from a snapshot */
    PRESENCE_E_STALE = -9,     /* another claim, or a newer epoch, holds the server */
    PRESENCE_E_LIMIT = -10,    /* a limit of the recorder's options is reached */
    PRESENCE_E_GAP = -11,      /* a numbered change is ahead of what was applied: changes are missing */
    PRESENCE_E_SYSTEM = -12    /* the system refused something (a descriptor, say); errno tells */
};

#define PRESENCE_ERROR_MESSAGE_BYTES 256

/* Optional detail of an error: what was wrong, with which value. Owned by the caller; NULL where not wanted. Names
 * inside messages are shortened to fit and are shown quoted. On success it is not written. */
typedef struct {
    int code;
    char message[PRESENCE_ERROR_MESSAGE_BYTES];
} presence_error;

/* One connection's facts. Strings are never NULL when read. */
typedef struct {
    const char *model, *server, *agent, *user_data;
    uint64_t connection_id;
    presence_time last_seen; /* the last connect or activity */
    presence_status status;
    bool controller_agent; /* an agent of the controller model: never counts for an agent's status */
} presence_value;

/* "unknown", "missing", "alive", else "". Static storage. */
PRESENCE_API const char *presence_status_string(presence_status status);
/* "none", "connected", "reconnected", "updated", "left", "server_down", "drained", "timed_out", "superseded",
 * "restored", "lapsed", else "". Static storage. */
PRESENCE_API const char *presence_reason_string(presence_reason reason);
/* A short English text for a code, e.g. "connection not found". Never NULL. Static storage. */
PRESENCE_API const char *presence_strerror(int code);
/* The code's name, e.g. "PRESENCE_E_NOT_FOUND". Never NULL. Static storage. */
PRESENCE_API const char *presence_error_name(int code);

/* --------------------------------------------------------------------------------------------------- recorder -- */

typedef struct presence_recorder presence_recorder;
typedef struct presence_connections presence_connections;
typedef struct presence_watch presence_watch;

/* Time is an input: the recorder asks this clock and no other. It is called with the recorder's mutex held, so it
 * must be quick and must not call the recorder. */
typedef struct {
    presence_time (*now)(void *context);
    void *context;
} presence_clock;

/* Memory is an input too. `allocate` returns `size_bytes` bytes aligned to `alignment` (a power of two), or NULL;
 * `release` gets the same size and alignment back. Both may be called from any thread. */
typedef struct {
    void *(*allocate)(void *context, size_t size_bytes, size_t alignment);
    void (*release)(void *context, void *memory, size_t size_bytes, size_t alignment);
    void *context;
} presence_allocator;

/* Fill with presence_options_init, then change what you want. 0 means "no limit" or "the default", as said. */
typedef struct {
    size_t struct_bytes;       /* set by presence_options_init */
    presence_clock clock;      /* now == NULL: the system's clock (CLOCK_REALTIME) */
    presence_allocator memory; /* allocate == NULL: the C library's */
    uint64_t
        limit_connections; /* most connections recorded; 0: none but the library's own (about 4 thousand million) */
    uint64_t limit_names;  /* most distinct models + servers + agents-in-a-model; 0: none */
    uint64_t limit_bytes;  /* most bytes that the record may take from the allocator, views included; 0: none. The
                              history, the remembered departures and the table of agents that left come on top: each is
                              bounded by an option of its own, below */
    size_t history_bytes;  /* changes kept for resuming watches, in bytes of memory (raised to 256 KiB if less).
                                   0: none is kept while no watch is open, and 1 MiB while one is. Changes of many
                                   connections keep views, which pin at most twice the record, or 4 MiB:
                                   beyond that the oldest changes go */
    size_t left_agents;    /* how many agents that left stay known with their last_seen; 0: none */
    size_t departures;     /* disconnections remembered for merge_server_since and presence_replica_difference;
                                   0: the default, 65,536 (24 bytes each, taken as needed) */
} presence_options;

PRESENCE_API void presence_options_init(presence_options *options);

/* A new recorder, disabled and empty, with default options and the given clock (NULL: the system's). NULL: out of
 * memory. Free it with presence_recorder_free. */
PRESENCE_API presence_recorder *presence_recorder_new(const presence_clock *clock);
/* The same with options. NULL on failure, with the reason in *error if that is not NULL. */
PRESENCE_API presence_recorder *presence_recorder_new_with(const presence_options *options, presence_error *error);
/* Frees the recorder; NULL is allowed. Views and their slices outlive it: the last of them frees what they share.
 * Watches of it must have been freed before. */
PRESENCE_API void presence_recorder_free(presence_recorder *recorder);

/* Enabling an enabled recorder, and disabling a disabled one, does nothing. Disabling clears everything (views that
 * are held stay as they are), counts as a change and tells every watch to start over. O(1), plus returning memory. */
PRESENCE_API void presence_recorder_enable(presence_recorder *recorder);
PRESENCE_API void presence_recorder_disable(presence_recorder *recorder);
PRESENCE_API bool presence_recorder_is_enabled(const presence_recorder *recorder);

/* From now on the recorder has the limits of these options (limit_connections, limit_names, limit_bytes), enabled or
 * not; the other fields are not looked at. What is held above a limit that was lowered stays, may be stated again,
 * stamped and removed, and nothing is added until it is below. Not a change: the revision stays, and no watch is told.
 * O(1).
 * Errors, which leave the limits as they were: INVALID (options that presence_options_init has not filled), NO_MEMORY
 * (to set aside what removing takes under a limit of bytes). */
PRESENCE_API int presence_recorder_set_limits(presence_recorder *recorder, const presence_options *options);

/* The recorder's revision now. 0 when new; it never goes back, not even when disabled. One more for each call that
 * alters anything but a last_seen, and for each mark. */
PRESENCE_API uint64_t presence_recorder_revision(const presence_recorder *recorder);

/* Records a live connection, stamped with the clock. A (server, id) that is known becomes alive again and is stamped;
 * if it now names another model, agent, controller flag or user data, the new statement replaces the old one.
 * The revision rises unless nothing but last_seen changed. O(1).
 * Errors: DISABLED, INVALID, STALE, LIMIT, NO_MEMORY. */
PRESENCE_API int presence_recorder_connect(presence_recorder *recorder, const char *server, const char *model,
                                           const char *agent, uint64_t id, bool controller_agent,
                                           const char *user_data);
/* Removes a connection. O(1), as connect is; once after a server changed as a whole, O(connections of the agent).
 * Errors: DISABLED, INVALID, NOT_FOUND, STALE, NO_MEMORY. */
PRESENCE_API int presence_recorder_disconnect(presence_recorder *recorder, const char *server, uint64_t id);
/* Stamps a connection with the clock and changes nothing else: a missing one stays missing, and the revision stays.
 * O(1). Errors: DISABLED, INVALID, NOT_FOUND, STALE, NO_MEMORY or LIMIT (a held view needs a copy of the
 * page). */
PRESENCE_API int presence_recorder_activity(presence_recorder *recorder, const char *server, uint64_t id);
/* Marks every connection of that server missing; last_seen stays. O(1) whatever the number. A server that is not
 * recorded, or has nothing alive, is no error and no change. Errors: DISABLED, INVALID, STALE, NO_MEMORY. */
PRESENCE_API int presence_recorder_server_down(presence_recorder *recorder, const char *server);
/* The same for a given reason: SERVER_DOWN, DRAINED, TIMED_OUT or SUPERSEDED (else INVALID). *became_missing, if not
 * NULL, is the number of connections that were alive. */
PRESENCE_API int presence_recorder_server_down_because(presence_recorder *recorder, const char *server,
                                                       presence_reason reason, size_t *became_missing);

/* A mark: what is stated from now on can be told from what was stated before. It takes a revision, of which no watch is
 * told. *mark is the revision before. O(1). Errors: DISABLED, INVALID (mark is NULL), LIMIT. */
PRESENCE_API int presence_recorder_mark(presence_recorder *recorder, uint64_t *mark);
/* Marks missing, in one step, those connections of the server that were not connected, nor in one of its lists, since
 * the mark (activity states nothing, nor does a merge_server_since for what it finds newer than its revision): for a
 * server that came back within its grace with only some of its agents.
 * Reasons as above. One change; none if nothing was alive of them, or the server is not recorded. *became_missing, if
 * not NULL, is how many became missing. O(connections of the server), counted in small steps beside the writers of
 * other servers. Errors: DISABLED, INVALID (also a mark that is not below the present revision), STALE, LIMIT,
 * NO_MEMORY. Those who replicate learn of it as of a whole list. */
PRESENCE_API int presence_recorder_server_down_unstated(presence_recorder *recorder, const char *server, uint64_t mark,
                                                        presence_reason reason, size_t *became_missing);

/* Replaces all that is known of the server with these values, alive and stamped with the clock; their status and
 * last_seen are ignored. All or nothing, for readers too: it is prepared in small steps beside the writers of other
 * servers and becomes visible in one. Calls on the same server wait for it. A connection that it kept with the same
 * facts keeps its handle. O(count + connections of the server).
 * Errors: DISABLED; INVALID (message: which value, what is wrong); MISMATCH (`connection server mismatch, got "a"
 * expected "b"`); DUPLICATE; STALE; LIMIT; NO_MEMORY. */
PRESENCE_API int presence_recorder_update_server(presence_recorder *recorder, const char *server,
                                                 const presence_value *values, size_t count, presence_error *error);
/* The same for callers whose list may be older than logins they have already seen: connections recorded as alive
 * stay (and are stamped if listed, keeping the recorded facts); the rest of the server is replaced. */
PRESENCE_API int presence_recorder_merge_server(presence_recorder *recorder, const char *server,
                                                const presence_value *values, size_t count, presence_error *error);
/* Exact, where the caller noted the recorder's revision when it began to gather the list: ids connected or
 * disconnected since then keep their newer fate (of ids that were recorded: a disconnect that was NOT_FOUND is not
 * remembered), everything else is replaced as update_server does. After a newer
 * whole list of the same server it changes nothing. Further error: LAGGED, when the disconnections since that
 * revision are no longer remembered (see presence_options.departures); INVALID for a revision of the future. */
PRESENCE_API int presence_recorder_merge_server_since(presence_recorder *recorder, const char *server,
                                                      uint64_t revision, const presence_value *values, size_t count,
                                                      presence_error *error);

/* ------------------------------------------------------------------------------------------ handles and batches -- */

/* Names a recorded connection without a look-up of its names. Plain data: copy it, keep it, drop it. It goes stale
 * when the connection is removed or its (server, id) is stated for another agent, and is then answered NOT_FOUND;
 * it never touches another connection (but that after 2^32 connects of the recorder one might stamp another of the
 * same server). Zeroed, it is stale. */
typedef struct {
    uint64_t opaque[4];
} presence_handle;

/* presence_recorder_connect that also gives a handle and says what was wrong. *is_new, if not NULL, tells whether the
 * (server, id) was unknown. handle, is_new and error may each be NULL. */
PRESENCE_API int presence_recorder_connect_handle(presence_recorder *recorder, const presence_value *value,
                                                  presence_handle *handle, bool *is_new, presence_error *error);
/* A handle of a connection that is already recorded. Errors: DISABLED, INVALID, NOT_FOUND. O(1). */
PRESENCE_API int presence_recorder_find_handle(presence_recorder *recorder, const char *server, uint64_t id,
                                               presence_handle *handle);
PRESENCE_API int presence_recorder_activity_handle(presence_recorder *recorder, const presence_handle *handle);
PRESENCE_API int presence_recorder_disconnect_handle(presence_recorder *recorder, const presence_handle *handle);

/* Batches: one call, memory latency overlapped, the mutex held for at most 64 elements at a time, so a batch is not
 * one change: each element is its own. Elements that are not recorded are skipped. *done, if not NULL, is how many
 * were recorded (and stamped, or removed); it is set on failure too, with the elements done so far.
 * Errors as for the single call, but never NOT_FOUND. */
PRESENCE_API int presence_recorder_activity_many(presence_recorder *recorder, const char *server, const uint64_t *ids,
                                                 size_t count, size_t *done);
PRESENCE_API int presence_recorder_disconnect_many(presence_recorder *recorder, const char *server, const uint64_t *ids,
                                                   size_t count, size_t *done);
PRESENCE_API int presence_recorder_activity_handles(presence_recorder *recorder, const presence_handle *handles,
                                                    size_t count, size_t *done);
PRESENCE_API int presence_recorder_disconnect_handles(presence_recorder *recorder, const presence_handle *handles,
                                                      size_t count, size_t *done);
/* Connects each value (status and last_seen ignored), in order, of any servers. Stops at the first that fails and
 * reports it; those before it stay. */
PRESENCE_API int presence_recorder_connect_many(presence_recorder *recorder, const presence_value *values, size_t count,
                                                size_t *done, presence_error *error);

/* Batches of which each element has its own server and its own answer, for callers that gather what many clients said.
 * Elements are done in order; one that fails does not stop the others, as it does in presence_recorder_connect_many. */
typedef struct {
    const char *server;
    uint64_t connection_id;
    int code; /* filled: OK, NOT_FOUND, INVALID, STALE, DISABLED, LIMIT, NO_MEMORY */
} presence_connection_key;

typedef struct {
    int code;    /* as presence_recorder_connect's */
    bool is_new; /* it was not recorded before */
} presence_connect_result;

/* *done, if not NULL, is how many are OK. Errors: INVALID (keys, values or results is NULL), DISABLED; else OK,
 * whatever the elements' codes. */
PRESENCE_API int presence_recorder_activity_keys(presence_recorder *recorder, presence_connection_key *keys,
                                                 size_t count, size_t *done);
PRESENCE_API int presence_recorder_disconnect_keys(presence_recorder *recorder, presence_connection_key *keys,
                                                   size_t count, size_t *done);
PRESENCE_API int presence_recorder_connect_values(presence_recorder *recorder, const presence_value *values,
                                                  size_t count, presence_connect_result *results, size_t *done);

/* ---------------------------------------------------------------------------------------- live one-shot queries -- */

/* The evidence behind an agent's status. Controller agents' connections are left out of all of it. */
typedef struct {
    presence_status status;  /* the best status among the agent's connections */
    presence_reason reason;  /* of the last change of that best status; NONE if nothing is known */
    presence_time since;     /* when that was, by the stating clock (for a lapse, this recorder's); 0 if nothing known.
                               A server that went down more than 16 times while connections of it stayed missing all
                               along tells the oldest of them a later time. */
    presence_time last_seen; /* the latest of its connections'; 0 if nothing is known */
    size_t alive, missing;   /* its connections by status */
} presence_evidence;

typedef struct {
    size_t connections, alive, missing;
} presence_counts;

/* These ask the record as it is now, and need no view. They hold the mutex for the look-up. A disabled recorder
 * answers DISABLED. Bad names: INVALID. An agent, server or model that is not recorded is no error: unknown, zeros. */
PRESENCE_API int presence_recorder_agent_status(presence_recorder *recorder, const char *model, const char *agent,
                                                presence_status *status); /* O(connections of the agent), mostly 1 */
typedef struct {
    const char *model, *agent;
    presence_status status; /* filled */
    int code;               /* filled: OK, or INVALID for a bad name (the status is then UNKNOWN) */
} presence_agent_key;

/* The status of many agents, each of its own model, with the memory latency overlapped. Errors: DISABLED, INVALID (keys
 * is NULL); else OK, whatever the keys' codes. */
PRESENCE_API int presence_recorder_agent_statuses(presence_recorder *recorder, presence_agent_key *keys, size_t count);
/* An agent that left, while it is still remembered (options.left_agents), is status unknown with reason, since and
 * last_seen filled. */
PRESENCE_API int presence_recorder_agent_evidence(presence_recorder *recorder, const char *model, const char *agent,
                                                  presence_evidence *evidence);
PRESENCE_API int presence_recorder_counts(presence_recorder *recorder, presence_counts *counts); /* O(1) */
PRESENCE_API int presence_recorder_server_counts(presence_recorder *recorder, const char *server,
                                                 presence_counts *counts); /* O(1) */
/* Connections and agents (distinct names) of a model. O(1); O(model) at the end of a whole list or state of any server,
 * while what it dropped is removed, or what it brought is made good in a model to which another one brings some. */
PRESENCE_API int presence_recorder_model_counts(presence_recorder *recorder, const char *model, size_t *connections,
                                                size_t *agents);

/* ------------------------------------------------------------------------------------------------- connections -- */

/* A consistent view of everything recorded, which no later change touches, usable from any thread, outliving the
 * recorder. O(1), about 100 ns. NULL: out of memory. Free it with presence_connections_free. A disabled recorder
 * gives an empty view. While views are held, changes copy the pages they touch: free views when done. */
PRESENCE_API presence_connections *presence_recorder_connections(presence_recorder *recorder);
PRESENCE_API void presence_connections_free(presence_connections *connections); /* NULL is allowed */

/* Slices, in any order and depth. Each is an object of its own, freed on its own, in any order. A name that is not
 * there, or a second different name of the same kind, gives an empty slice. O(1). NULL: out of memory, or a NULL
 * argument. */
PRESENCE_API presence_connections *presence_connections_for_model(const presence_connections *connections,
                                                                  const char *model);
PRESENCE_API presence_connections *presence_connections_for_server(const presence_connections *connections,
                                                                   const char *server);
PRESENCE_API presence_connections *presence_connections_for_agent(const presence_connections *connections,
                                                                  const char *agent);

/* How many connections are in the slice. O(1) for everything, one model or one server (a model: as
 * presence_recorder_model_counts, of when the view was taken); else O(cheapest index). */
PRESENCE_API size_t presence_connections_count(const presence_connections *connections);
/* The recorder's revision at which the view was taken: watch after it to miss nothing. */
PRESENCE_API uint64_t presence_connections_revision(const presence_connections *connections);
/* The best status of that agent in the slice, controller agents left out; unknown if there is none. AMBIGUOUS on a
 * slice that is not limited to a model: "connections not limited to a model, agent ambiguous". */
PRESENCE_API int presence_connections_agent_status(const presence_connections *connections, const char *agent,
                                                   presence_status *status);
/* The evidence of an agent in the whole view (a slice's server and agent are not regarded, its model is). Errors as
 * for agent_status. Agents that left are not known to views. */
PRESENCE_API int presence_connections_agent_evidence(const presence_connections *connections, const char *agent,
                                                     presence_evidence *evidence);
/* One connection by its key, if it is in the slice: OK or NOT_FOUND. Strings live as long as the slice. O(1). */
PRESENCE_API int presence_connections_find(const presence_connections *connections, const char *server, uint64_t id,
                                           presence_value *value);

/* Names in the slice, sorted by bytes, without repeats. *names is one allocation, freed with presence_names_free; it
 * may outlive the slice. Errors: INVALID, NO_MEMORY. O(names log names + rows looked at). */
PRESENCE_API int presence_connections_models(const presence_connections *connections, char ***names, size_t *count);
PRESENCE_API int presence_connections_servers(const presence_connections *connections, char ***names, size_t *count);
PRESENCE_API int presence_connections_agents(const presence_connections *connections, char ***names, size_t *count);
PRESENCE_API void presence_names_free(char **names); /* NULL is allowed */

/* Walks the slice, in no particular order: a zeroed cursor starts; true while *value was filled. Strings live as long
 * as the slice. A cursor is plain data, and belongs to the slice that it walks. */
typedef struct {
    uint64_t at[4];
} presence_cursor;
PRESENCE_API bool presence_connections_next(const presence_connections *connections, presence_cursor *cursor,
                                            presence_value *value);

/* ------------------------------------------------------------------------------------------------------- watch -- */

typedef enum {
    PRESENCE_EVENT_CONNECTED = 1, /* a new connection */
    PRESENCE_EVENT_RECONNECTED,   /* a missing connection is alive again */
    PRESENCE_EVENT_UPDATED,       /* a connection names another model, agent, flag or data; status as in the value */
    PRESENCE_EVENT_DISCONNECTED,  /* a connection was removed; the value is its last */
    PRESENCE_EVENT_MISSING,       /* a live connection became missing */
    PRESENCE_EVENT_ACTIVITY,      /* a connection was active (told only if asked for) */
    PRESENCE_EVENT_AGENT          /* an agent's best status changed (agent-level watches) */
} presence_event_kind;

/* "connected", "reconnected", "updated", "disconnected", "missing", "activity", "agent", else "". Static storage. */
PRESENCE_API const char *presence_event_kind_string(presence_event_kind kind);

/* One change. Strings belong to the watch and live until the next call on it. */
typedef struct {
    uint64_t revision; /* of the change; several events of one bulk change share it */
    uint64_t index;    /* 0, 1, 2... within the revision, as this watch's filter sees it */
    presence_event_kind kind;
    presence_reason reason;
    presence_value value; /* the connection after the change (DISCONNECTED: before it). AGENT: model and agent are set,
                             server too (the one whose change it was), controller_agent false, the rest as it came */
    presence_status agent_before, agent_after; /* the agent's best status before and after the revision */
    presence_time time; /* of the change, by the clock of who stated it: of one connection and of a server that went
                           down, the stating recorder's; of a list, a state, a claim and a lapse, this recorder's */
} presence_event;

typedef struct {
    size_t struct_bytes; /* set by presence_watch_options_init */
    bool from_now;       /* true (the default): from the present on; after_revision and skip must be 0 then.
                            false: after `after_revision` */
    uint64_t after_revision;
    uint64_t skip; /* how many events of the revision after it were seen already: resume inside a bulk change with
                             the revision before it and the index + 1 of the last event seen */
    const char *model, *server, *agent; /* NULL: any */
    uint32_t kinds; /* bits 1 << presence_event_kind; 0: all but ACTIVITY and AGENT. Not used with agents */
    bool agents;    /* agent-level: only AGENT events, first in and last out */
} presence_watch_options;

PRESENCE_API void presence_watch_options_init(presence_watch_options *options);

/* Opens a feed of changes. options NULL: everything, from now. The history's memory is taken when the first watch
 * opens (see options.history_bytes), so it costs nothing when nobody watches. Changes before that are not kept: to
 * list then watch without gaps, open the watch first, or set history_bytes, and begin after the view's revision.
 * Errors: INVALID (a bad name; kinds that there are not; from_now together with after_revision or skip, which would be
 * passed over in silence), LAGGED (after_revision is older than what is kept, or of the future), NO_MEMORY. */
PRESENCE_API int presence_watch_open(presence_recorder *recorder, const presence_watch_options *options,
                                     presence_watch **watch, presence_error *error);
/* 1: *event was filled. 0: nothing is pending. PRESENCE_E_LAGGED: the watch was too slow, or the recorder was
 * disabled: take a view and open anew after its revision; this watch stays lagged. Of one bulk change the events are
 * found from the views before and after it; they share its revision and tell each agent's status before and after the
 * whole of it. One watch is used by one thread at a time. Bounded work under the mutex. */
PRESENCE_API int presence_watch_next(presence_watch *watch, presence_event *event);
/* A descriptor that polls readable when there may be something for presence_watch_next; that call clears it once it
 * has returned 0. It belongs to the watch. Negative: PRESENCE_E_SYSTEM. */
PRESENCE_API int presence_watch_fd(presence_watch *watch);
/* Where to resume: every event up to this revision was told, and `*index` events (if not NULL) of the next one. */
PRESENCE_API uint64_t presence_watch_revision(const presence_watch *watch, uint64_t *index);
PRESENCE_API void presence_watch_free(presence_watch *watch); /* before its recorder is freed; NULL is allowed */

/* ------------------------------------------------------------------------------------------------- maintenance -- */

typedef struct {
    size_t struct_bytes; /* set by the caller to sizeof(presence_stats) before the call */
    uint64_t revision;
    uint64_t connections, alive;      /* as views show them */
    uint64_t models, servers, agents; /* records kept; a model's agents are counted in each model */
    uint64_t names;                   /* distinct names kept: models + servers + agents */
    uint64_t name_bytes;              /* bytes of those names */
    uint64_t data_bytes;              /* bytes of user data */
    uint64_t allocated_bytes;         /* taken from the allocator for the record, everything in */
    uint64_t used_bytes;              /* of those, in use now: the rest is kept for reuse */
    uint64_t snapshots;               /* distinct versions that views hold */
    uint64_t retained_bytes;          /* held only for those views, or waiting to be drained */
    presence_time oldest_snapshot;    /* when the oldest of them was taken; 0: none */
    uint64_t watches;
    uint64_t history_bytes; /* memory of the history */
    uint64_t history_first; /* a watch may begin after this revision; UINT64_MAX: no history is kept */
    uint64_t left_agents;   /* agents that left and are remembered */
} presence_stats;

/* Errors: INVALID (struct_bytes of another version). O(1). */
PRESENCE_API int presence_recorder_stats(presence_recorder *recorder, presence_stats *stats);
/* Finishes what released views left to do and returns unused memory to the allocator, then settles. O(what there is to
 * free). Worth calling after many left. */
PRESENCE_API void presence_recorder_trim(presence_recorder *recorder);
/* Has the system put memory that is in use, in whole pieces of 2 MiB, on huge pages, if the allocator is the default
 * one: every call is then faster by some hundredths to a quarter. A record grows by small pages, so that no connect
 * waits for a huge one. 0.5 to 6 ms for each piece, once, other threads' calls let in between; nothing where there is
 * none. That takes Linux 6.1, and asks no setting of transparent_hugepage; where that is not "never", the system does
 * so by itself, too, within minutes. Worth calling after a first filling, and now and then while a record grows. */
PRESENCE_API void presence_recorder_settle(presence_recorder *recorder);
/* Verifies every invariant of the record. OK, or INVALID with what is broken in *error: a bug or corrupted memory;
 * or NO_MEMORY. For tests and for operators: it holds the mutex for O(N). */
PRESENCE_API int presence_recorder_check(presence_recorder *recorder, presence_error *error);

#ifdef __cplusplus
}
#endif
#endif
