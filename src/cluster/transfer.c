/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - sending a server's whole state, from a view of the record at one number, in chunks.
 *
 *   M  One transfer of a server serves all who ask meanwhile: a chunk is sent once to all who listen, and again only if
 *      somebody says that it is missing. The view never changes, so a chunk is the same each time.
 *   N  Chunks leave only while the transport is not full, some at a time, so that beats and changes pass them.
 *
 * Where a chunk begins in the view is noted as it is first made. A transfer that nobody asks for goes after a while,
 * and its view with it. Cost: O(rows) once, O(a chunk) for each that is sent; 40 bytes a chunk.
 */
#include "cluster/inside.h"

enum { CHUNK_MOST_VALUES = 1024, CHUNKS_A_RUN = 16, TRANSFER_MOST = 64, IDLE_LEASES = 4, STILL_LEAVING = 64 * 1024 };

struct chunk {
    presence_cursor from;
    uint64_t sent;
    bool wanted;
};

struct transfer {
    uint64_t id, asked;
    presence_connections *view;
    presence_server_description known;
    presence_cursor at; /* where the next new chunk begins */
    struct chunk *chunks;
    size_t count, room, wanted, next;
    bool all; /* the last chunk is known */
    presence_value values[CHUNK_MOST_VALUES];
};

void transfer_drop(struct step *step, struct server *server)
{
    struct transfer *transfer = server->transfer;
    if (!transfer)
        return;
    presence_connections_free(transfer->view);
    free(transfer->chunks);
    free(transfer);
    server->transfer = NULL;
    step->transfers--;
}

static struct transfer *transfer_begin(struct step *step, struct server *server)
{
    if (step->transfers >= TRANSFER_MOST)
        return NULL; /* who asked will ask again */
    struct transfer *transfer = calloc(1, sizeof *transfer);
    if (!transfer)
        return NULL;
    transfer->view = presence_replica_state(step->recorder, server->name, &transfer->known);
    if (!transfer->view) {
        free(transfer);
        return NULL;
    }
    transfer->id = step_random(step);
    server->transfer = transfer;
    step->transfers++;
    step->counters.states_sent++;
    return transfer;
}

/* Those that were sent before `before`: later ones may be on their way. */
static void want(struct transfer *transfer, size_t first, size_t last, uint64_t before)
{
    for (size_t i = first; i < transfer->count && i <= last; i++) {
        if (transfer->chunks[i].sent > before)
            continue;
        transfer->wanted += !transfer->chunks[i].wanted;
        transfer->chunks[i].wanted = true;
    }
}

static bool is_of_now(struct step *step, const struct server *server)
{
    presence_server_description known;
    const struct transfer *transfer = server->transfer;
    return server_describe(step, server, &known) && known.number == transfer->known.number &&
           presence_claim_compare(&known.claim, &transfer->known.claim) == 0;
}

static bool is_of_present_claim(struct step *step, const struct server *server)
{
    presence_server_description known;
    return server_describe(step, server, &known) &&
           presence_claim_compare(&known.claim, &server->transfer->known.claim) == 0;
}

void transfer_ask(struct step *step, struct server *server, const struct wire_ask *ask)
{
    presence_server_description known;
    if (server->role != OURS && (server_holder_lives(server) || !server->vouched || !rule(step, STEP_RULE_SERVE)))
        return; /* not ours to tell, or not here */
    if (!server_describe(step, server, &known) || known.forgotten)
        return; /* a tombstone is told, and has no state */
    struct transfer *transfer = server->transfer;
    bool goes_on = transfer && ask->transfer == transfer->id && is_of_present_claim(step, server);
    bool under_way = transfer && !goes_on && is_of_present_claim(step, server) &&
                     (transfer->wanted > 0 || !transfer->all || is_of_now(step, server));
    if (transfer && !goes_on && !under_way)
        transfer_drop(step, server);
    if (!server->transfer && !transfer_begin(step, server))
        return;
    transfer = server->transfer;
    transfer->asked = step->now;
    if (!goes_on || ask->missing_count == 0) {
        want(transfer, 0, SIZE_MAX, NEVER);
        return;
    }
    uint64_t interval = step->config.interval * MS;
    if (step->output.waiting(step->output.context) > STILL_LEAVING || step->now < interval)
        return; /* what is asked for may be in there */
    for (size_t i = 0; i < ask->missing_count; i++)
        want(transfer, ask->missing[i].first, ask->missing[i].last, step->now - interval);
}

/* Room to note one more chunk. */
static bool note_chunk(struct transfer *transfer)
{
    if (transfer->count < transfer->room)
        return true;
    size_t room = transfer->room ? transfer->room * 2 : 8;
    struct chunk *chunks = realloc(transfer->chunks, room * sizeof *chunks);
    if (!chunks)
        return false;
    transfer->chunks = chunks;
    transfer->room = room;
    return true;
}

/* Fills a chunk from the cursor on with `most` values at most; *ends: there is nothing behind it. */
static size_t fill(struct transfer *transfer, size_t most, presence_cursor *cursor, bool *ends)
{
    size_t count = 0, bytes = 0;
    *ends = false;
    while (count < most && bytes < WIRE_BATCH_BYTES) {
        if (!presence_connections_next(transfer->view, cursor, &transfer->values[count])) {
            *ends = true;
            break;
        }
        bytes += wire_value_bytes(&transfer->values[count++]);
    }
    return count;
}

static void send_chunk(struct step *step, struct server *server, size_t index)
{
    struct transfer *transfer = server->transfer;
    presence_cursor cursor = transfer->chunks[index].from;
    bool ends;
    size_t most = step->config.chunk_values < CHUNK_MOST_VALUES ? step->config.chunk_values : CHUNK_MOST_VALUES;
    size_t count = fill(transfer, most ? most : 1, &cursor, &ends);
    transfer->chunks[index].sent = step->now;
    if (index + 1 == transfer->count && !transfer->all) {
        transfer->all = ends;
        transfer->at = cursor;
    }
    const presence_server_description *known = &transfer->known;
    struct wire_message message = {.kind = WIRE_CHUNK,
                                   .chunk = {.server = server->name,
                                             .claim = known->claim,
                                             .number = known->number,
                                             .floor = known->floor,
                                             .floor_reason = known->floor_reason,
                                             .floor_time = known->floor_time,
                                             .transfer = transfer->id,
                                             .index = index,
                                             .connections = known->connections,
                                             .last = transfer->all && index + 1 == transfer->count,
                                             .values = transfer->values,
                                             .count = count}};
    step_broadcast(step, STEP_STATE, &message);
    step->counters.chunks_sent++;
}

/* The next that somebody wants: in a circle over those that were made, then new ones. */
static bool send_next(struct step *step, struct server *server)
{
    struct transfer *transfer = server->transfer;
    if (!transfer->all) {
        if (!note_chunk(transfer))
            return false;
        transfer->chunks[transfer->count++] = (struct chunk){.from = transfer->at};
        send_chunk(step, server, transfer->count - 1);
        return true;
    }
    if (transfer->wanted == 0)
        return false;
    while (!transfer->chunks[transfer->next % transfer->count].wanted)
        transfer->next++;
    size_t index = transfer->next++ % transfer->count;
    transfer->chunks[index].wanted = false;
    transfer->wanted--;
    send_chunk(step, server, index);
    return true;
}

bool transfer_run(struct step *step)
{
    bool more = false;
    for (struct server *server = step->servers; server && step->transfers > 0; server = server->next) {
        struct transfer *transfer = server->transfer;
        if (!transfer)
            continue;
        for (unsigned i = 0; i < CHUNKS_A_RUN && step_may_send_bulk(step) && send_next(step, server);)
            i++;
        more = more || ((transfer->wanted > 0 || !transfer->all) && step_may_send_bulk(step));
        if (step->now - transfer->asked > (uint64_t)IDLE_LEASES * step->config.lease * MS && transfer->wanted == 0 &&
            transfer->all)
            transfer_drop(step, server);
    }
    return more;
}
