/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h - the record itself: rows, agents, models, servers and their indexes, all on persistent vectors.
 *
 *   server record ──units──► rows (one a connection)      found by (server, id) in by_connection
 *   model record  ──units──► agents (one a name)          found by (model, name) in by_agent
 *   agent.first ──► its row ──extras──► further rows of the same agent, doubly linked (rare)
 *
 * A ROW MEANS NOTHING WITHOUT ITS SERVER'S RECORD. Whether a connection is alive, missing or not there at all is
 * computed from the row and its server by row_status, and by nothing else. That is what makes server_down, a lapse, and
 * the moment in which a list of a million values becomes visible one write each:
 *   - a row carries the revision of its last connect; it is missing if that is at or below the server's `floor`;
 *   - while a whole list is applied (server.bulk), rows carry marks. Before the commit, fresh rows are not there yet;
 *     after it, dropped ones no longer are. Afterwards a sweep makes it so row by row and takes the marks away.
 *   - a lapsed server's rows read missing, whatever they say.
 *
 * `struct roots` is the whole state. Copying it (and starting a new epoch) is a snapshot. Functions that only read take
 * a `const struct roots *`: a snapshot's without any lock, the live one under the recorder's mutex.
 * Changing functions are called by the writer under the mutex, after arena_reserve; they never fail unless they say so.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include "store/index.h"
#include "store/shelf.h"
#include "text.h"

#include <presence/replica.h>
#include <stdatomic.h>

/* log2 of records a unit, which is what one owner takes, and a page, which is what a change copies where a view sees it
 * (store/shelf.h). */
enum {
    ROW_UNIT_BITS = 4,
    ROW_PAGE_BITS = 6,
    AGENT_UNIT_BITS = 3,
    AGENT_PAGE_BITS = 6,
    MODEL_UNIT_BITS = 4,
    MODEL_PAGE_BITS = 4,
    SERVER_UNIT_BITS = 1,
    SERVER_PAGE_BITS = 1
};
enum { ROW_PAGE_SLOTS = 1 << ROW_PAGE_BITS, AGENT_PAGE_SLOTS = 1 << AGENT_PAGE_BITS };
#define NONE ((uint32_t)SHELF_NONE)

/* ---------------------------------------------------------------------------------------------------- records -- */

enum row_flags { ROW_CONTROLLER = 1, ROW_RESTATED = 2, ROW_EXTRA = 4 };

/* What a list that is being applied says of a row. */
enum row_mark {
    MARK_NONE,
    MARK_FRESH,         /* new with the list: alive and stamped from the commit on */
    MARK_FRESH_QUIET,   /* the same, but has a last_seen of its own (replicated states) */
    MARK_FRESH_MISSING, /* new with the list, missing, with a last_seen of its own (replicated states) */
    MARK_KEPT,          /* in the list as it is here: alive and stamped from the commit on */
    MARK_KEPT_QUIET,    /* the same, but keeps its last_seen */
    MARK_DROPPED        /* not in the list: not there from the commit on */
};

enum { ROW_MARK_SHIFT = 3, ROW_MARK_MASK = 7, ROW_SERVER_SHIFT = 6, ROW_SERVERS = 1024, ROW_STAMP_SHIFT = 16 };
#define ROW_SERVER_MASK ((uint64_t)(ROW_SERVERS - 1) << ROW_SERVER_SHIFT)
#define ROW_LASTING (ROW_SERVER_MASK | ROW_EXTRA) /* of a stamp: what no statement alters */
#define ROW_REVISION_MOST (((uint64_t)1 << 48) - 1)

/* A connection. `stamp` is its state: revision of the last connect << 16 | low 10 bits of the server's number << 6 |
 * mark << 3 | flags. Where there are at most ROW_SERVERS server numbers, the row tells its server by itself, and what
 * stands beside its unit, a cache miss more, is not asked. */
struct row {
    uint64_t id;
    presence_time last_seen;
    uint64_t stamp;
    uint32_t agent;
    uint32_t agent_hash; /* low 28 bits: the agent's bucket can be asked for together with the agent */
};

/* Generations tell one use of a row from the next; handles carry them. 0: not in use. They stand apart, so that an
 * activity by handle has to read one of few lines, and of the row only writes. */
struct row_page {
    struct row at[ROW_PAGE_SLOTS];
    uint32_t generation[ROW_PAGE_SLOTS];
};

/* What few rows have; in pages parallel to the rows' units. */
enum { EXTRA_PAGE_SLOTS = 1 << ROW_UNIT_BITS };
struct extra {
    struct text *data;   /* NULL: "" */
    uint32_t next, prev; /* other rows of the agent */
    uint64_t basis;      /* first row of an agent with AGENT_BASIS: see evidence.h */
};

struct extra_page {
    struct extra at[EXTRA_PAGE_SLOTS];
    uint64_t used; /* a bit for each slot */
};

/* An agent's name is kept in its record, if it is short, so that finding an agent by name is one cache miss less.
 * Unused bytes are zero. A longer one is a text of its own, whose address stands in the first bytes. */
enum { AGENT_NAME_SHORT = 22, AGENT_NAME_BYTES = 24 };
/* The last byte: the length, or AGENT_NAME_LONG; the recorded status; and whether there is a basis (evidence.h). */
enum { AGENT_META = AGENT_NAME_BYTES - 1, AGENT_NAME_LONG = 31, AGENT_STATUS_SHIFT = 5, AGENT_BASIS = 1 << 7 };
#define EVENTS_MOST (UINT32_MAX - 1)

struct agent {
    char name[AGENT_NAME_BYTES];
    uint32_t model;
    uint32_t events;      /* roots.events for which the recorded status is known to be right; else another number */
    uint32_t first;       /* row */
    uint32_t hash_reason; /* low 28 bits of the hash | recorded reason << 28 */
    presence_time since;  /* of the recorded status */
};

struct agent_page {
    struct agent at[AGENT_PAGE_SLOTS];
};

/* A model's name lies in its record too: one of up to 38 bytes, as UUIDs are. The last byte: the length, or
 * MODEL_NAME_LONG, and then a text's address stands in the first bytes. Unused bytes are zero. One cache line in all.
 */
enum { MODEL_NAME_BYTES = 40, MODEL_NAME_SHORT = 38, MODEL_NAME_LONG = 255 };
struct model {
    char name[MODEL_NAME_BYTES];
    uint64_t hash; /* of the name */
    struct shelf_list agents;
    uint32_t rows; /* of all its agents, whatever their visibility */
    uint32_t agent_count;
};

/* Of a model, while lists are being applied: its rows with a mark that says they are fresh, which do not show before
 * the commit. In pages beside the models, only where there are any. */
enum { STAGED_PAGE_BITS = 5, STAGED_PAGE_SLOTS = 1 << STAGED_PAGE_BITS };
struct staged {
    uint32_t rows, agents; /* agents: those of which every row is fresh */
    uint32_t server;       /* whose rows they are; NONE: several servers' */
};

struct staged_page {
    struct staged at[STAGED_PAGE_SLOTS];
    uint64_t used; /* a bit for each slot with rows */
};

/* One server_down, for the evidence of the rows that it made missing. A server's newest is in its record, where nothing
 * else has to be looked at; older ones, which are kept while some of its rows are missing, in a block. */
enum { OLDER_DOWNS_MOST = 15 };
struct down {
    uint64_t floor;    /* rows at or below it, and above the one before, are missing since... */
    uint64_t revision; /* ...this change of the server; 0: there was none */
    presence_time time;
    uint64_t reason;
};

/* An immutable block, the oldest first. */
struct downs {
    uint64_t born_count; /* epoch << 16 | count */
    struct down at[];
};

enum server_bulk { BULK_NONE, BULK_STAGING, BULK_COMMITTED };
enum server_flags {
    SERVER_LAPSED = 1,
    SERVER_CLAIMED = 2,
    SERVER_LOCAL = 4,
    SERVER_COMPLETE = 8,
    SERVER_FORGOTTEN = 16
};

/* Five lines: what every call on the server touches; what a numbered change does; server_down; lapses and
 * lists; the claim. */
struct server {
    struct text *name;
    struct shelf_list rows;
    uint64_t hash; /* of the name */
    uint8_t bulk, flags;
    bool idle;                   /* counted in registry.idle_servers: see server_settle */
    bool drops;                  /* COMMITTED: some of its rows are dropped, and wait to be swept */
    uint32_t departures;         /* remembered ones */
    uint64_t physical;           /* rows, whatever their visibility */
    uint64_t connections, alive; /* visible ones; alive leaves the lapse out of account */
    uint64_t floor;              /* revisions: rows at or below are missing */

    uint64_t number, floor_number;
    uint64_t base;                 /* rows below are inherited from an older claim */
    uint64_t stated, stated_alive; /* visible rows at or above base */
    presence_digest digest;        /* of those */
    struct downs *older_downs;     /* NULL: none */

    uint64_t mark_number[2], mark_revision[2]; /* where some numbers stood, for activity; [0] is the older */
    struct down down;                          /* the newest */

    uint64_t lapse_revision, restore_revision;
    presence_time lapse_time, restore_time;
    uint64_t bulk_revision; /* of the last whole list */
    presence_time bulk_time;
    uint64_t departed_revision; /* disconnections up to here are no longer remembered */
    uint64_t numbered_since;    /* the revision at which the numbers began anew */

    presence_claim claim;
    presence_time forgotten_at;
    uint64_t unused[4]; /* whole lines */
};

struct roots {
    struct shelf rows, agents, models, servers;
    struct pv extras, staged;
    struct index by_connection, by_agent, model_names, server_names;
    struct shelf_list all_models, all_servers;
    uint64_t revision;
    uint64_t connections, alive; /* as views show them */
    uint64_t event_revision;     /* of the last change of a whole server: what agents' records may not know of */
    uint32_t events;             /* how many of those there were; EVENTS_MOST: too many to count */
    uint32_t bulks;              /* servers with bulk != BULK_NONE */
    uint32_t sweeps, drops;      /* of them, those with BULK_COMMITTED; and of these, those that drop rows */
};

/* -------------------------------------------------------------------------------------- registry and snapshots -- */

struct snapshot;

/* Servers that were looked for of late, by their hash: few of them state nearly everything. */
enum { RECENT_SERVERS = 64 };
struct recent_server {
    uint64_t hash;
    uint32_t number; /* NONE: nothing is known here */
};

struct registry {
    struct roots now;
    struct versions versions;
    uint64_t secret[2];
    uint32_t generation;
    uint32_t wanted_server; /* the one that the present call states: its name counts though it may have no row yet */
    uint64_t name_bytes, data_bytes;
    uint64_t idle_servers, idle_name_bytes; /* servers that are not known (server_is_known), and their names */
    uint64_t limit_names, limit_connections;
    atomic_uint_least64_t holders;       /* the recorder and each live snapshot */
    _Atomic(struct snapshot *) released; /* snapshots that nobody holds, not yet seen by the writer */
    struct snapshot *arrived;            /* of those, what the writer has seen and not yet taken in */
    struct snapshot *spare;              /* of the last one that went: saves an allocation */
    struct recent_server recent[RECENT_SERVERS];
    presence_allocator memory;
    struct arena arena; /* last, for it is large, and what is above is used together */
};

struct snapshot {
    struct version version; /* first: gone() gets it */
    struct registry *registry;
    atomic_uint_least64_t holders;
    struct snapshot *next_released;
    uint32_t history_holders; /* of the holders, those in the history; under the mutex */
    presence_time taken;
    struct roots at;
};

/* NULL: out of memory. */
struct registry *registry_new(const presence_options *options, const presence_allocator *memory,
                              const uint64_t secret[2], uint64_t revision);
void registry_make_secret(uint64_t secret[2]);
/* Empties it where it is, if no snapshot of it is held and nobody else holds it; else false. Needs no memory. */
bool registry_reset(struct registry *registry, const presence_options *options, uint64_t revision);
/* The recorder lets go of it; the last snapshot frees what is left. */
void registry_release(struct registry *registry);

/* The newest state, or one that is shared with the last snapshot if nothing was written since. NULL: out of memory. */
struct snapshot *registry_snapshot(struct registry *registry, presence_time now);
struct snapshot *snapshot_borrow(struct snapshot *snapshot); /* one holder more */
void snapshot_release(struct snapshot *snapshot);            /* from any thread, without the lock */
/* Takes in at most `steps` released snapshots and works off about `steps` dead blocks. Needs no memory. True if there
 * is more. */
bool registry_drain(struct registry *registry, size_t steps);
/* Is there anything to work off? */
static inline bool registry_drains(const struct registry *registry)
{
    return atomic_load_explicit(&registry->released, memory_order_relaxed) || registry->arrived ||
           registry->versions.draining || registry->versions.dying_first;
}

/* ------------------------------------------------------------------------------------------------- small reads -- */

static inline const struct row *row_get(const struct roots *roots, uint32_t row)
{
    const struct row_page *page = pv_page(&roots->rows.pages, row >> ROW_PAGE_BITS);
    return &page->at[row & (ROW_PAGE_SLOTS - 1)];
}

static inline uint32_t row_generation(const struct roots *roots, uint32_t row)
{
    const struct row_page *page = pv_page(&roots->rows.pages, row >> ROW_PAGE_BITS);
    return page->generation[row & (ROW_PAGE_SLOTS - 1)];
}

static inline uint64_t row_stamp(const struct roots *roots, uint32_t row)
{
    return row_get(roots, row)->stamp;
}

/* `record` is the row's. */
static inline uint32_t row_server_of(const struct roots *roots, uint32_t row, const struct row *record)
{
    if (__builtin_expect(shelf_end(&roots->servers) <= ROW_SERVERS, 1))
        return (uint32_t)(record->stamp >> ROW_SERVER_SHIFT) & (ROW_SERVERS - 1);
    return shelf_owner(&roots->rows, row);
}

static inline uint32_t row_server(const struct roots *roots, uint32_t row)
{
    return row_server_of(roots, row, row_get(roots, row));
}

/* Of a stamp. */
static inline uint64_t row_revision(uint64_t stamp)
{
    return stamp >> ROW_STAMP_SHIFT;
}

static inline enum row_mark row_mark(uint64_t stamp)
{
    return (enum row_mark)(stamp >> ROW_MARK_SHIFT & ROW_MARK_MASK);
}

static inline bool row_is_fresh(uint64_t stamp)
{
    enum row_mark mark = row_mark(stamp);
    return mark == MARK_FRESH || mark == MARK_FRESH_QUIET || mark == MARK_FRESH_MISSING;
}

static inline const struct agent *agent_get(const struct roots *roots, uint32_t agent)
{
    const struct agent_page *page = pv_page(&roots->agents.pages, agent >> AGENT_PAGE_BITS);
    return &page->at[agent & (AGENT_PAGE_SLOTS - 1)];
}

static inline uint8_t agent_meta(const struct agent *agent)
{
    return (uint8_t)agent->name[AGENT_META];
}

static inline presence_status agent_recorded_status(const struct agent *agent)
{
    return (presence_status)(agent_meta(agent) >> AGENT_STATUS_SHIFT & 3);
}

/* NULL: the name is short and lies in the record. */
static inline struct text *agent_long_name(const struct agent *agent)
{
    void *text = NULL;
    if ((agent_meta(agent) & AGENT_NAME_LONG) == AGENT_NAME_LONG)
        memcpy(&text, agent->name, sizeof text);
    return text;
}

/* With a NUL behind it. It lives as long as the roots; in the live ones, until the agent is edited. */
static inline struct span agent_name(const struct agent *agent)
{
    const struct text *text = agent_long_name(agent);
    return text ? (struct span){text->bytes, text_length(text)}
                : (struct span){agent->name, agent_meta(agent) & AGENT_NAME_LONG};
}

static inline bool span_equals(struct span a, struct span b)
{
    return a.length == b.length && text_same_bytes(a.bytes, b.bytes, a.length);
}

static inline struct span text_span(const struct text *text)
{
    return (struct span){text->bytes, text_length(text)};
}

static inline const struct server *server_get(const struct roots *roots, uint32_t server)
{
    const struct server *page = pv_page(&roots->servers.pages, server >> SERVER_PAGE_BITS);
    return &page[server & ((1u << SERVER_PAGE_BITS) - 1)];
}

static inline const struct model *model_get(const struct roots *roots, uint32_t model)
{
    const struct model *page = pv_page(&roots->models.pages, model >> MODEL_PAGE_BITS);
    return &page[model & ((1u << MODEL_PAGE_BITS) - 1)];
}

/* NULL: the name is short and lies in the record. */
static inline struct text *model_long_name(const struct model *model)
{
    void *text = NULL;
    if ((uint8_t)model->name[MODEL_NAME_BYTES - 1] == MODEL_NAME_LONG)
        memcpy(&text, model->name, sizeof text);
    return text;
}

/* As agent_name. */
static inline struct span model_name(const struct model *model)
{
    const struct text *text = model_long_name(model);
    return text ? text_span(text) : (struct span){model->name, (uint8_t)model->name[MODEL_NAME_BYTES - 1]};
}

static inline const struct extra *extra_get(const struct roots *roots, uint32_t row)
{
    const struct extra_page *page = pv_page(&roots->extras, row >> ROW_UNIT_BITS);
    return &page->at[row & (EXTRA_PAGE_SLOTS - 1)];
}

/* NULL: none of the model's rows is fresh. */
static inline const struct staged *staged_get(const struct roots *roots, uint32_t model)
{
    const struct staged_page *page = pv_page_or_null(&roots->staged, model >> STAGED_PAGE_BITS);
    uint32_t slot = model & (STAGED_PAGE_SLOTS - 1);
    return page && page->used >> slot & 1 ? &page->at[slot] : NULL;
}

/* The next row of the same agent, or NONE. */
static inline uint32_t row_next(const struct roots *roots, uint32_t row, uint64_t stamp)
{
    return stamp & ROW_EXTRA ? extra_get(roots, row)->next : NONE;
}

static inline const char *row_data(const struct roots *roots, uint32_t row, uint64_t stamp)
{
    const struct text *data = stamp & ROW_EXTRA ? extra_get(roots, row)->data : NULL;
    return data ? data->bytes : "";
}

presence_status row_status_in_bulk(uint64_t stamp, const struct server *server);

/* What the server's origin stated, whether or not we are in touch with it. UNKNOWN: the row is not there. */
static inline presence_status row_stated_status(uint64_t stamp, const struct server *server)
{
    if (__builtin_expect(server->bulk != BULK_NONE, 0))
        return row_status_in_bulk(stamp, server);
    return row_revision(stamp) > server->floor ? PRESENCE_ALIVE : PRESENCE_MISSING;
}

/* What readers see. */
static inline presence_status row_status(uint64_t stamp, const struct server *server)
{
    presence_status stated = row_stated_status(stamp, server);
    return stated == PRESENCE_ALIVE && server->flags & SERVER_LAPSED ? PRESENCE_MISSING : stated;
}

static inline presence_time row_last_seen(presence_time last_seen, uint64_t stamp, const struct server *server)
{
    bool stamped = server->bulk == BULK_COMMITTED && (row_mark(stamp) == MARK_KEPT || row_mark(stamp) == MARK_FRESH);
    return stamped ? server->bulk_time : last_seen;
}

static inline size_t server_older_downs(const struct server *server)
{
    return server->older_downs ? server->older_downs->born_count & 0xffff : 0;
}

/* How many are known; they count from the oldest, 0. */
static inline size_t server_downs(const struct server *server)
{
    return server_older_downs(server) + (server->down.revision != 0);
}

static inline const struct down *server_down_at(const struct server *server, size_t i)
{
    return i < server_older_downs(server) ? &server->older_downs->at[i] : &server->down;
}

static inline uint64_t server_alive_now(const struct server *server)
{
    return server->flags & SERVER_LAPSED ? 0 : server->alive;
}

/* Of an older claim than the server's. A fresh row says so by itself until it is swept: with ROW_RESTATED. */
static inline bool row_is_inherited(uint64_t stamp, const struct server *server)
{
    if (__builtin_expect(server->bulk == BULK_COMMITTED && row_mark(stamp) != MARK_NONE, 0))
        return row_is_fresh(stamp) && stamp & ROW_RESTATED && server->base;
    return row_revision(stamp) < server->base;
}

/* By local calls: nobody has claimed it, or this recorder has. */
static inline bool server_is_stated_here(const struct server *server)
{
    return (server->flags & (SERVER_CLAIMED | SERVER_LOCAL)) != SERVER_CLAIMED;
}

/* Has connections, a claim, a tombstone or a lapse. Others are kept for the departures that are remembered of them. */
static inline bool server_is_known(const struct server *server)
{
    return server->physical || server->bulk != BULK_NONE ||
           server->flags & (SERVER_CLAIMED | SERVER_FORGOTTEN | SERVER_LAPSED);
}

/* The same, of what readers see: rows that a list is staging, or that wait to be swept, do not count. */
static inline bool server_shows(const struct server *server)
{
    return server->connections || server->flags & (SERVER_CLAIMED | SERVER_FORGOTTEN | SERVER_LAPSED);
}

/* Counts a server that became known, or is no longer. To be called wherever what server_is_known asks for changes. */
void registry_count_idle(struct registry *registry, uint32_t number);
static inline void server_settle(struct registry *registry, uint32_t number, const struct server *server)
{
    if (__builtin_expect(server->idle == server_is_known(server), 0))
        registry_count_idle(registry, number);
}

/* ---------------------------------------------------------------------------------------------------- look-ups -- */

/* Connections and agents are hashed with the hashes of names, not with numbers, so that a bucket can be asked for
 * before its server or model is found. */
static inline uint64_t connection_hash(const struct registry *registry, uint64_t server_hash, uint64_t id)
{
    return text_mix(registry->secret, id, server_hash);
}

static inline uint64_t name_hash(const struct registry *registry, struct span name)
{
    return text_hash(registry->secret, name.bytes, name.length);
}

static inline uint64_t agent_hash(const struct registry *registry, uint64_t model_hash, uint64_t agent_name_hash)
{
    return text_mix(registry->secret, agent_name_hash, model_hash);
}

/* Each gives a number or NONE. */
static inline uint32_t registry_server(const struct roots *roots, struct span name, uint64_t hash)
{
    struct index_probe probe = index_probe_start(&roots->server_names, hash);
    uint32_t server;
    while (index_probe_next(&probe, &server))
        if (text_equals(server_get(roots, server)->name, name.bytes, name.length))
            return server;
    return NONE;
}

/* The same on the live record. */
static inline uint32_t registry_server_now(struct registry *registry, struct span name, uint64_t hash)
{
    struct recent_server *recent = &registry->recent[hash & (RECENT_SERVERS - 1)];
    if (__builtin_expect(recent->hash == hash && recent->number != NONE, 1) &&
        text_equals(server_get(&registry->now, recent->number)->name, name.bytes, name.length))
        return recent->number;
    *recent = (struct recent_server){hash, registry_server(&registry->now, name, hash)};
    return recent->number;
}

static inline uint32_t registry_model(const struct roots *roots, struct span name, uint64_t hash)
{
    struct index_probe probe = index_probe_start(&roots->model_names, hash);
    uint32_t model;
    while (index_probe_next(&probe, &model))
        if (span_equals(model_name(model_get(roots, model)), name))
            return model;
    return NONE;
}

uint32_t registry_agent(const struct registry *registry, const struct roots *roots, uint32_t model, struct span name,
                        uint64_t agent_name_hash);
/* The same by agent_hash, which needs no look at the model's record. */
static inline uint32_t registry_agent_by_hash(const struct roots *roots, uint64_t hash, uint32_t model,
                                              struct span name)
{
    struct index_probe probe = index_probe_start(&roots->by_agent, hash);
    uint32_t number;
    while (index_probe_next(&probe, &number)) {
        const struct agent *agent = agent_get(roots, number);
        if (agent->model == model && span_equals(agent_name(agent), name))
            return number;
    }
    return NONE;
}

/* Is this row, which may be any in use, that connection, and visible? */
static inline bool registry_row_is(const struct roots *roots, uint32_t number, uint32_t server, uint64_t id)
{
    const struct row *row = row_get(roots, number);
    if (row->id != id || row_server_of(roots, number, row) != server)
        return false;
    const struct server *record = server_get(roots, server);
    return __builtin_expect(record->bulk == BULK_NONE, 1) || row_status_in_bulk(row->stamp, record) != PRESENCE_UNKNOWN;
}

/* Visible rows only; by connection_hash. */
static inline uint32_t registry_row_by_hash(const struct roots *roots, uint64_t hash, uint32_t server, uint64_t id)
{
    struct index_probe probe = index_probe_start(&roots->by_connection, hash);
    uint32_t number;
    while (index_probe_next(&probe, &number))
        if (registry_row_is(roots, number, server, id))
            return number;
    return NONE;
}

uint32_t registry_row(const struct registry *registry, const struct roots *roots, uint32_t server, uint64_t id);

/* Fills everything but strings' lifetime: they live as long as the roots. */
void registry_value(const struct roots *roots, uint32_t row, presence_value *value);

/* Hints: an agent's record, which may lie on two lines; and where the next agent of a model will stand. */
static inline void registry_prefetch_agent(const struct roots *roots, uint32_t agent)
{
    const struct agent *record = agent_get(roots, agent);
    memory_prefetch(record);
    memory_prefetch(&record->since);
}

static inline void registry_prefetch_agent_place(const struct roots *roots, const struct model *model)
{
    uint32_t open = model->agents.open;
    if (!open)
        return;
    memory_prefetch(shelf_side(&roots->agents, shelf_unit(&roots->agents, open - 1)));
    registry_prefetch_agent(roots, open - 1);
}

/* ----------------------------------------------------------------------------------------------------- changes -- */

/* What a caller says of one connection, checked and hashed outside the lock. */
struct facts {
    struct span model, agent, data;
    uint64_t model_hash, agent_hash;
    uint64_t id;
    bool controller;
};

bool registry_name_limit_reached(const struct registry *registry);
/* OK, NO_MEMORY or LIMIT; nothing is left behind. New servers, models and agents come without rows. */
int registry_add_server(struct registry *registry, struct span name, uint64_t hash, uint32_t *server);
int registry_find_or_add_agent(struct registry *registry, const struct facts *facts, uint32_t *agent, bool *is_new);
/* Undo the two above where no row followed; nothing if there are rows, or other reasons to keep them. */
void registry_drop_idle_agent(struct registry *registry, uint32_t agent);
void registry_drop_idle_server(struct registry *registry, uint32_t server);

/* User data as a text. NULL with length 0, or out of memory (then *failed is set). */
struct text *registry_new_data(struct registry *registry, struct span data, bool *failed);
void registry_drop_text(struct registry *registry, struct text *text);

/* A new row, linked and indexed, not counted anywhere: see registry_count. Takes the data. NONE: all in use.
 * In two steps where its agent is not known yet: what the first one does needs nothing of the agent or its model, which
 * come meanwhile. A row that is taken must be filled, or given back, before anybody looks. */
uint32_t registry_take_row(struct registry *registry, uint32_t server, uint64_t id);
void registry_untake_row(struct registry *registry, uint32_t server, uint32_t row);
void registry_fill_row(struct registry *registry, uint32_t row, uint32_t agent, struct text *data, uint64_t stamp_bits,
                       presence_time last_seen);
uint32_t registry_add_row(struct registry *registry, uint32_t server, uint32_t agent, uint64_t id, struct text *data,
                          uint64_t stamp_bits, presence_time last_seen);
/* Unlinks and frees it, and its agent and model if they have no other. */
void registry_remove_row(struct registry *registry, uint32_t row);
/* Replaces the row's data (taken). */
void registry_set_data(struct registry *registry, uint32_t row, struct text *data);
bool registry_names_agent(const struct roots *roots, uint32_t agent, const struct facts *facts);
bool registry_same_facts(const struct roots *roots, uint32_t row, const struct facts *facts);

/* Adds (+1) or takes (-1) a visible row to or from every count and digest. Bracket each change of a row by -1, +1. */
void registry_count(struct registry *registry, uint32_t row, int sign);
uint64_t registry_row_digest(const struct roots *roots, const struct server *server, uint32_t row);
/* What shows of a model: connections, and agents that have some. False: its rows have to be looked at one by one, since
 * a list that dropped some is being swept, or one of several that brought some. O(1). */
bool registry_model_counts(const struct roots *roots, uint32_t model, size_t *connections, size_t *agents);
/* Before a fresh row loses its mark. */
void registry_unstage(struct registry *registry, uint32_t row);

static inline struct row_page *row_page_edit(struct registry *registry, uint32_t row)
{
    return pv_edit_page(&registry->now.rows.pages, &registry->versions, row >> ROW_PAGE_BITS);
}

static inline struct row *row_edit(struct registry *registry, uint32_t row)
{
    return &row_page_edit(registry, row)->at[row & (ROW_PAGE_SLOTS - 1)];
}

/* The same, of a row that was just looked at. */
static inline struct row *row_edit_seen(struct registry *registry, uint32_t row, const struct row *seen)
{
    return versions_owns_all(&registry->versions) ? (struct row *)(uintptr_t)seen : row_edit(registry, row);
}

static inline struct agent *agent_edit(struct registry *registry, uint32_t agent)
{
    struct agent_page *page = pv_edit_page(&registry->now.agents.pages, &registry->versions, agent >> AGENT_PAGE_BITS);
    return &page->at[agent & (AGENT_PAGE_SLOTS - 1)];
}

static inline struct model *model_edit(struct registry *registry, uint32_t model)
{
    struct model *page = pv_edit_page(&registry->now.models.pages, &registry->versions, model >> MODEL_PAGE_BITS);
    return &page[model & ((1u << MODEL_PAGE_BITS) - 1)];
}

static inline struct server *server_edit(struct registry *registry, uint32_t server)
{
    struct server *page = pv_edit_page(&registry->now.servers.pages, &registry->versions, server >> SERVER_PAGE_BITS);
    return &page[server & ((1u << SERVER_PAGE_BITS) - 1)];
}

/* Gives the row extras if it has none. */
struct extra *extra_edit(struct registry *registry, uint32_t row);
/* What is known of the downs before the one that comes now: forgotten where no row is missing. */
void server_make_room_for_down(struct registry *registry, struct server *server);
/* Remembers one more, at the present revision, which is that of the change. */
static inline void server_push_down(struct registry *registry, struct server *server, uint64_t floor,
                                    presence_time time, presence_reason reason)
{
    if (__builtin_expect(server->older_downs || server->alive != server->connections, 0))
        server_make_room_for_down(registry, server);
    server->down = (struct down){floor, registry->now.revision, time, (uint64_t)reason};
}

void server_forget_downs(struct registry *registry, struct server *server);

/* A server changed as a whole, at the present revision. */
static inline void registry_note_event(struct registry *registry)
{
    struct roots *now = &registry->now;
    now->event_revision = now->revision;
    now->events += now->events < EVENTS_MOST;
}

/* The work of presence_recorder_check. NULL, or what is broken. */
const char *registry_check(struct registry *registry);

#endif
