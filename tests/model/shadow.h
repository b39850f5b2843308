/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow.h - a naive recorder to compare the real one with: plain arrays, linear search, no cleverness.
 *
 * Names are small numbers here (the universe turns them into strings). Everything is done eagerly: server_down visits
 * each connection, and each operation compares every agent's best status before and after itself. What takes the real
 * recorder an index, a floor or a lazy rule is a loop here, so that it is right by being read once.
 *
 * A struct shadow may be copied by assignment: that is how the driver remembers what a view must show.
 */
#ifndef TESTS_MODEL_SHADOW_H
#define TESTS_MODEL_SHADOW_H

#include <presence/replica.h>

enum {
    SHADOW_SERVERS = 5,
    SHADOW_MODELS = 3,
    SHADOW_AGENTS = 40,
    SHADOW_IDS = 224,
    SHADOW_DATA = 5,
    SHADOW_REVISIONS = 256, /* how far back agents' statuses are remembered */
    SHADOW_DOWNS_KEPT = 16  /* after so many downs of a server, evidence of its missing agents may be vague */
};

/* What a server says of a connection. */
struct shadow_facts {
    int model, agent, data;
    bool controller;
};

struct shadow_connection {
    bool there, missing, inherited; /* missing by a floor; the server's lapse is apart */
    struct shadow_facts facts;
    presence_time last_seen;
    uint64_t mark;    /* the revision of its last connect, or what it would have been */
    uint64_t stated;  /* the revision after it was last stated */
    uint64_t number;  /* of its last connect under the claim */
    uint64_t life;    /* another one when it is stated for another agent: handles of the old one are stale */
    uint64_t wording; /* another one when any fact changes */
};

struct shadow_server {
    bool known; /* has, or has had, a claim, a tombstone or a connection since the recorder was enabled */
    presence_claim claim;
    bool local, complete, lapsed, forgotten;
    uint64_t number, floor;
    uint64_t list_revision; /* of the last whole list */
    uint64_t downs;
    uint64_t lapses; /* and whole states: see `strict` */
    presence_time forgotten_at;
    struct shadow_connection connections[SHADOW_IDS];
};

struct shadow_agent {
    presence_status status;
    presence_reason reason;
    presence_time since;
    presence_time left_last_seen;   /* for status unknown, if it was ever known */
    bool vague;                     /* `since` may be later in the recorder, and the reason another */
    uint64_t downs[SHADOW_SERVERS]; /* each server's when the status last changed */
};

struct shadow_departure {
    int server;
    unsigned id; /* SHADOW_IDS: a whole list */
    uint64_t revision;
};

struct shadow_departures {
    struct shadow_departure *entries;
    size_t count, capacity;
    uint64_t forgotten_before; /* departures up to this revision are not known (disable) */
};

/* What every agent's status was at a revision, and why it was the last change. */
struct shadow_statuses {
    uint64_t revision;
    presence_time time; /* of the change that made it */
    unsigned char status[SHADOW_MODELS][SHADOW_AGENTS], reason[SHADOW_MODELS][SHADOW_AGENTS];
};

struct shadow {
    /* the universe in use, within the SHADOW_ bounds */
    int servers, models, agents, datas;
    unsigned ids;
    uint64_t limit_connections; /* 0: none */
    size_t departures_kept;

    /* Otherwise the reason and time of agents on servers that lapsed, or took a whole state, are not compared: there
     * the
     * recorder keeps the last lapse of a server only, and may tell another of several right changes. */
    bool strict;

    bool enabled;
    uint64_t revision, lives, disabled_at;
    struct shadow_server server[SHADOW_SERVERS];
    struct shadow_agent agent[SHADOW_MODELS][SHADOW_AGENTS];

    struct shadow_departures *departures; /* shared by copies; so are the statuses */
    struct shadow_statuses *statuses;     /* SHADOW_REVISIONS of them, by revision modulo that */

    /* scratch of the operation that runs */
    presence_status before[SHADOW_MODELS][SHADOW_AGENTS];
    presence_time before_seen[SHADOW_MODELS][SHADOW_AGENTS];
};

/* One value of a list. */
struct shadow_item {
    unsigned id;
    struct shadow_facts facts;
    presence_status status; /* for whole states only, and so is last_seen */
    presence_time last_seen;
};

/* False: out of memory. */
bool shadow_init(struct shadow *shadow);
void shadow_free(struct shadow *shadow);

/* ---- what it answers ---- */
presence_status shadow_status(const struct shadow *shadow, int server, unsigned id);
presence_status shadow_agent_status(const struct shadow *shadow, int server, int model, int agent); /* server -1: any */
presence_time shadow_agent_seen(const struct shadow *shadow, int model, int agent);
bool shadow_facts_equal(const struct shadow_facts *a, const struct shadow_facts *b);
bool shadow_claimed(const struct shadow_server *server);
bool shadow_recorded(const struct shadow *shadow, int server); /* with connections, a claim, a tombstone or a lapse */
presence_counts shadow_counts(const struct shadow *shadow, int server);                           /* -1: any */
const struct shadow_statuses *shadow_statuses_at(const struct shadow *shadow, uint64_t revision); /* NULL: too old */
/* Whether no departure after the revision was forgotten; of that server, or of any (-1). */
bool shadow_departures_kept_since(const struct shadow *shadow, int server, uint64_t revision);

/* ---- the recorder's calls; each returns the code that presence.h promises ---- */
void shadow_enable(struct shadow *shadow);
void shadow_disable(struct shadow *shadow);
int shadow_connect(struct shadow *shadow, int server, unsigned id, const struct shadow_facts *facts, presence_time now,
                   bool *is_new);
int shadow_disconnect(struct shadow *shadow, int server, unsigned id, presence_time now);
int shadow_activity(struct shadow *shadow, int server, unsigned id, presence_time now);
int shadow_down(struct shadow *shadow, int server, presence_reason reason, presence_time now, size_t *became_missing);
int shadow_mark(struct shadow *shadow, uint64_t *mark);
int shadow_unstated(struct shadow *shadow, int server, uint64_t mark, presence_reason reason, presence_time now,
                    size_t *became_missing);
int shadow_update(struct shadow *shadow, int server, const struct shadow_item *items, size_t count, presence_time now);
int shadow_merge(struct shadow *shadow, int server, const struct shadow_item *items, size_t count, presence_time now);
int shadow_merge_since(struct shadow *shadow, int server, uint64_t revision, const struct shadow_item *items,
                       size_t count, presence_time now);

/* ---- replica.h ---- */
int shadow_claim(struct shadow *shadow, int server, const presence_claim *claim, bool local, presence_time now);
int shadow_complete(struct shadow *shadow, int server, presence_time now);
struct shadow_change {
    uint64_t number;
    presence_change_kind kind;
    presence_reason reason;
    presence_time time, last_seen;
    unsigned id;
    struct shadow_facts facts;
};
int shadow_apply(struct shadow *shadow, int server, const presence_claim *claim, const struct shadow_change *change,
                 presence_time now, bool *applied);
int shadow_remote_activity(struct shadow *shadow, int server, const presence_claim *claim, uint64_t number, unsigned id,
                           presence_time last_seen);
struct shadow_state {
    presence_claim claim;
    uint64_t number, floor;
    presence_reason floor_reason;
    presence_time floor_time;
    const struct shadow_item *items;
    size_t count;
};
int shadow_apply_state(struct shadow *shadow, int server, const struct shadow_state *state, presence_time now);
int shadow_lapse(struct shadow *shadow, int server, bool lapsed, presence_time now); /* false: restore */
int shadow_forget(struct shadow *shadow, int server, presence_time now);
size_t shadow_bury(struct shadow *shadow, presence_time before);

/* ---- for shadow_replica.c ---- */
struct shadow_cause {
    presence_reason reason; /* of every agent's change but the one below */
    presence_time time;
    bool connect; /* an agent that connected: its own reason and time */
    int model, agent;
    presence_time connect_time;
    bool state; /* a whole state: agents that are missing after it have this reason and time */
    int server; /* its */
    presence_reason floor_reason;
    presence_time floor_time;
};
void shadow_know(struct shadow_server *server); /* a server that was not known is complete */
void shadow_begin(struct shadow *shadow);
void shadow_settle(struct shadow *shadow, const struct shadow_cause *cause, bool changed);
void shadow_put(struct shadow *shadow, int server, unsigned id, const struct shadow_facts *facts, presence_time seen);
void shadow_remove(struct shadow *shadow, int server, unsigned id);
void shadow_remember_departure(struct shadow *shadow, int server, unsigned id);
void shadow_listed(struct shadow *shadow, int server); /* a whole list was stated: it settles what was before it */
#endif
