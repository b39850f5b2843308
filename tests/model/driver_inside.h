/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_inside.h - what the driver's files share. See driver.h for what it is for.
 *
 *   driver.c          a run from its beginning to its end, the table of operations, the message of a difference
 *   driver_local.c    the recorder's own calls      driver_replica.c  those of replica.h
 *   driver_fill.c     whole states recorded in pieces, over many steps
 *   driver_check.c    every comparison              driver_hold.c     views that are held
 *   driver_watch.c    watches, replayed onto copies    driver_statements.c  what the recorder states itself, likewise
 */
#ifndef TESTS_MODEL_DRIVER_INSIDE_H
#define TESTS_MODEL_DRIVER_INSIDE_H

#include "driver.h"
#include "script.h"
#include "universe.h"

enum {
    DRIVER_VIEWS = 8,
    DRIVER_WATCHES = 4,
    DRIVER_HANDLES = 24,
    DRIVER_LAST = 24,
    DRIVER_DIGESTS = 48,
    DRIVER_FILLS = 3
};

/* A slice: -1 is any. `nothing` when two different names of one kind were asked for. */
struct driver_filter {
    int model, server, agent;
    bool nothing;
};
#define DRIVER_EVERYTHING ((struct driver_filter){.model = -1, .server = -1, .agent = -1})

struct driver_view {
    presence_connections *view; /* NULL: a free place */
    struct driver_filter filter;
    struct shadow *shown; /* the shadow at that time */
};

struct driver_row {
    bool there;
    struct shadow_facts facts;
    presence_status status;
    presence_time seen;
    uint64_t gone_at; /* the revision in which it was disconnected, last */
};

/* A watch and what its events add up to. */
struct driver_watch {
    presence_watch *watch; /* NULL: a free place */
    struct driver_filter filter;
    bool agents, activity, partial; /* partial: only some kinds are asked for, so the copy is not kept */
    uint32_t kinds;
    uint64_t revision, index; /* of the last event; index is the next one expected */
    uint64_t drained_at;      /* the recorder's revision when it was last drained or opened */
    struct driver_row rows[SHADOW_SERVERS][SHADOW_IDS];
    presence_status status[SHADOW_MODELS][SHADOW_AGENTS];
};

/* A server as the reader of statements told it, and as it was after the last step. */
struct driver_stated {
    bool sure;  /* of `claim`, and begun from what the shadow was */
    bool whole; /* no list or completion was told since, whose rows are not */
    uint64_t told;
    struct driver_row rows[SHADOW_IDS];
    bool here, forgotten; /* after the last step, and so are these: */
    presence_claim claim;
    uint64_t number;
};

struct driver_statements {
    presence_statement_reader *reader; /* NULL: none */
    bool waiting;                      /* all was read */
    bool reset;                        /* the recorder was disabled since it was opened or lagged */
    uint64_t woken_at;                 /* the revision before the step that ended the waiting */
    struct driver_stated servers[SHADOW_SERVERS];
    uint64_t revision, disabled_at; /* after the last step */
    bool enabled;
};

struct driver_handle {
    presence_handle handle;
    int server;
    unsigned id;
    uint64_t life, wording; /* of the connection when the handle was given; 0: never valid */
};

struct driver_digest {
    presence_claim claim;
    uint64_t all, alive; /* our own hashes */
    presence_digest digest;
};

/* A list of one server for both sides, and what must come of it. */
struct driver_list {
    presence_value values[SHADOW_IDS + 2];
    struct shadow_item items[SHADOW_IDS + 2];
    size_t count;
    int fault;                                  /* PRESENCE_OK: the list itself is good */
    char message[PRESENCE_ERROR_MESSAGE_BYTES]; /* the error's exact text, where it is promised; else "" */
};

/* A whole state that is recorded in pieces. */
struct driver_fill {
    presence_state_writer *writer; /* NULL: a free place */
    int server;
    struct shadow_state state;
    presence_value values[SHADOW_IDS + 2];
    struct shadow_item items[SHADOW_IDS + 2];
    size_t added;
    bool touched;     /* another call may have needed the server */
    uint64_t enabled; /* driver.enabled_times when it was begun */
};

struct driver {
    const struct driver_run *run;
    struct script script;
    struct fake_clock clock;
    struct test_allocator memory;
    presence_options options;
    presence_recorder *recorder;
    struct shadow shadow;
    bool replicates; /* this run uses replica.h */
    bool runs_out;   /* allocations fail at times in this run */
    bool armed;      /* ... and may in this call */
    size_t failed_calls;
    size_t step;
    char last[DRIVER_LAST][200];
    struct driver_view views[DRIVER_VIEWS];
    struct driver_watch watches[DRIVER_WATCHES];
    struct driver_statements statements;
    struct driver_handle handles[DRIVER_HANDLES];
    struct driver_digest digests[SHADOW_SERVERS][DRIVER_DIGESTS];
    unsigned next_digest[SHADOW_SERVERS];
    struct driver_list list;
    struct driver_fill fills[DRIVER_FILLS];
    uint64_t enabled_times;  /* how often the recorder was disabled */
    uint64_t known_revision; /* at which all statuses were compared last, and they: who keeps answers relies on it */
    presence_status known_status[SHADOW_MODELS][SHADOW_AGENTS];
    uint64_t mark; /* the last one taken */
    bool has_mark;
};

/* ---- driver.c ---- */
void driver_differs(struct driver *driver, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* Notes the operation for the message of a difference. */
void driver_says(struct driver *driver, const char *format, ...) __attribute__((format(printf, 2, 3)));
presence_time driver_now(const struct driver *driver);
/* Around one call of the recorder: between them an allocation may fail. */
void driver_arm(struct driver *driver);
void driver_disarm(struct driver *driver);
/* Whether the call failed for a reason that the shadow does not know of (memory, the limits of names and bytes), so
 * that nothing must have changed. */
bool driver_tolerates(struct driver *driver, int code);
void driver_expect(struct driver *driver, const char *what, int code, int expected);

/* Choices. */
int driver_server(struct driver *driver);
unsigned driver_id(struct driver *driver);
struct shadow_facts driver_facts(struct driver *driver);

/* Fills driver->list with distinct ids of the server, with one fault in it at times if `faults`. */
void driver_make_list(struct driver *driver, int server, bool faults);

/* ---- operations: each makes its choices, runs on both and compares the codes ---- */
void driver_connect(struct driver *driver);
void driver_reconnect(struct driver *driver);
void driver_disconnect(struct driver *driver);
void driver_activity(struct driver *driver);
void driver_down(struct driver *driver);
void driver_mark(struct driver *driver);
void driver_unstated(struct driver *driver);
void driver_update(struct driver *driver);
void driver_merge(struct driver *driver);
void driver_merge_since(struct driver *driver);
void driver_bad_arguments(struct driver *driver);
void driver_batch_ids(struct driver *driver);
void driver_batch_handles(struct driver *driver);
void driver_batch_connect(struct driver *driver);
void driver_find_handle(struct driver *driver);
void driver_use_handle(struct driver *driver);
void driver_disable(struct driver *driver);

void driver_claim(struct driver *driver);
void driver_complete(struct driver *driver);
void driver_apply(struct driver *driver);
void driver_apply_many(struct driver *driver);
void driver_remote_activity(struct driver *driver);
void driver_apply_state(struct driver *driver);
void driver_lapse(struct driver *driver);
void driver_forget(struct driver *driver);
void driver_bury(struct driver *driver);
struct shadow_state driver_choose_state(struct driver *driver, int server); /* of driver->list, which it finishes */

/* ---- driver_fill.c ---- */
void driver_bring_on_fill(struct driver *driver);
bool driver_fills(const struct driver *driver, int server);      /* one is open that nobody may have taken away */
void driver_touches(struct driver *driver, int server);          /* a call may need the server */
void driver_end_fills(struct driver *driver, bool of_forgotten); /* or all */

void driver_take_view(struct driver *driver);
void driver_slice_view(struct driver *driver);
void driver_drop_view(struct driver *driver);
void driver_open_watch(struct driver *driver);
void driver_drain_watch(struct driver *driver);
void driver_resume_watch(struct driver *driver);
void driver_close_watch(struct driver *driver);
void driver_open_statements(struct driver *driver); /* or frees */
void driver_read_statements(struct driver *driver);
void driver_follow_statements(struct driver *driver); /* after each step; compares the descriptor */
void driver_trim(struct driver *driver);
void driver_let_go(struct driver *driver); /* frees all that is held, in a random order */

/* ---- driver_check.c ---- */
bool driver_matches(const struct driver_filter *filter, int server, const struct shadow_facts *facts);
struct driver_filter driver_narrow(struct driver_filter filter, int kind,
                                   int name); /* kind 0 model, 1 server, 2 agent */
presence_connections *driver_slice(struct driver *driver, const presence_connections *from, int kind, int name);
void driver_check_slice(struct driver *driver, const presence_connections *slice, const struct shadow *shown,
                        const struct driver_filter *filter);
void driver_check_evidence(struct driver *driver, const struct shadow *shown, int model, int agent,
                           const presence_evidence *evidence, bool live);
void driver_check_step(struct driver *driver); /* the cheap part, each step */
void driver_check_all(struct driver *driver);
void driver_check_servers(struct driver *driver);    /* driver_replica.c: describe, digests, servers */
void driver_check_held_views(struct driver *driver); /* driver_hold.c */
#endif
