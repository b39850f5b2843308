/* SPDX-License-Identifier: Apache-2.0 */
/*
 * active.c - telling which connections were active, a few times a minute, and taking what others tell.
 *
 *   X  What was active is found by walking a view of the server's own state for a last_seen later than the one told
 *      before: heartbeats cost the recorder nothing more for being replicated, and each connection is told at most
 *      once an interval however often it was active.
 *
 * Cost: O(connections that this node states) each interval, some thousand a run, and runs apart; two to ten bytes for
 * one that was active.
 */
#include "cluster/inside.h"

enum { ROWS_A_RUN = 2048, IDS_A_MESSAGE = 1024 };
#define GAP_MOST (5 * MS)

struct active {
    char *server; /* being walked; NULL: none */
    presence_connections *view;
    presence_server_description known;
    presence_cursor cursor;
    presence_time latest;
    uint64_t next;   /* when the next round begins */
    uint64_t resume; /* and when this one goes on */
    size_t count;
    struct seen {
        uint64_t id;
        presence_time time;
    } seen[IDS_A_MESSAGE];
    uint64_t ids[IDS_A_MESSAGE];
    presence_time times[IDS_A_MESSAGE];
};

/* Between two runs of a walk: hearing it costs others as much as telling it costs us, and changes wait behind it. But a
 * walk is over in half an interval. */
static uint64_t gap(const struct step *step, const struct active *active)
{
    uint64_t runs = active->known.connections / ROWS_A_RUN + 1, most = step->config.activity * MS / 2 / runs;
    return most < GAP_MOST ? most : GAP_MOST;
}

static void let_go(struct active *active)
{
    presence_connections_free(active->view);
    free(active->server);
    active->view = NULL;
    active->server = NULL;
    active->count = 0;
}

void active_free(struct step *step)
{
    if (step->active)
        let_go(step->active);
    free(step->active);
    step->active = NULL;
}

static int compare_seen(const void *a, const void *b)
{
    uint64_t x = ((const struct seen *)a)->id, y = ((const struct seen *)b)->id;
    return x < y ? -1 : x > y;
}

static void send_seen(struct step *step, struct active *active)
{
    if (active->count == 0)
        return;
    qsort(active->seen, active->count, sizeof active->seen[0], compare_seen);
    for (size_t i = 0; i < active->count; i++) {
        active->ids[i] = active->seen[i].id;
        active->times[i] = active->seen[i].time;
    }
    struct wire_message message = {.kind = WIRE_ACTIVITY,
                                   .activity = {.server = active->server,
                                                .claim = active->known.claim,
                                                .number = active->known.number,
                                                .ids = active->ids,
                                                .seen = active->times,
                                                .count = active->count}};
    step_broadcast(step, STEP_STREAM, &message);
    step->counters.activity_sent += active->count;
    active->count = 0;
}

/* The next server of ours after the one that was walked; NULL: the round is over. */
static struct server *next_of_ours(struct step *step, const struct active *active)
{
    struct server *server = active->server ? server_find(step, active->server) : NULL;
    server = active->server ? (server ? server->next : NULL) : step->servers;
    while (server && server->role != OURS)
        server = server->next;
    return server;
}

static bool begin_server(struct step *step, struct active *active, struct server *server)
{
    let_go(active);
    active->server = strdup(server->name);
    active->view = active->server ? presence_replica_state(step->recorder, server->name, &active->known) : NULL;
    active->cursor = (presence_cursor){0};
    active->latest = 0;
    return active->view != NULL;
}

/* Walks on; false: the server is done. */
static bool walk(struct step *step, struct active *active, struct server *server)
{
    presence_value value;
    for (unsigned i = 0; i < ROWS_A_RUN; i++) {
        if (!presence_connections_next(active->view, &active->cursor, &value)) {
            send_seen(step, active);
            server->active_mark = active->latest;
            return false;
        }
        active->latest = value.last_seen > active->latest ? value.last_seen : active->latest;
        if (value.last_seen <= server->active_mark)
            continue;
        active->seen[active->count++] = (struct seen){value.connection_id, value.last_seen};
        if (active->count == IDS_A_MESSAGE)
            send_seen(step, active);
    }
    return true;
}

uint64_t active_run(struct step *step)
{
    if (step->config.activity == 0 || !step->ready || !rule(step, STEP_RULE_ACTIVITY))
        return NEVER;
    struct active *active = step->active;
    if (!active) {
        active = step->active = calloc(1, sizeof *active);
        if (!active)
            return NEVER;
        active->next = step->now + step->config.activity * MS;
    }
    if (!active->server && step->now < active->next)
        return active->next;
    if (!step_may_send_bulk(step))
        return step->now + step->config.interval * MS;
    struct server *server = active->view ? server_find(step, active->server) : NULL;
    if (server && server->role == OURS && step->now < active->resume)
        return active->resume;
    if (server && server->role == OURS && walk(step, active, server))
        return active->resume = step->now + gap(step, active);
    server = next_of_ours(step, active);
    if (server && begin_server(step, active, server))
        return step->now + MS;
    let_go(active);
    active->next = step->now + step->config.activity * MS;
    return active->next;
}

void active_receive(struct step *step, const struct wire_activity *activity)
{
    const struct server *server = server_find(step, activity->server);
    if (!server || server->applying)
        return;
    for (size_t i = 0; i < activity->count; i++) {
        int code = presence_replica_activity(step->recorder, activity->server, &activity->claim, activity->number,
                                             activity->ids[i], activity->seen[i]);
        if (code == PRESENCE_OK)
            step->counters.activity_applied++;
        else if (code != PRESENCE_E_NOT_FOUND)
            return; /* of another claim, or of a server that is not known here: all the rest is too */
    }
}
