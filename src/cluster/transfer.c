/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - sending a server's whole state, from a view of the record at one number, in chunks.
 *
 *   M  One transfer of a server serves all who ask meanwhile: a chunk is sent once to all who listen, and again only if
 *      somebody says that it is missing. The view never changes, so a chunk is the same each time.
 *   Z  A state of a claim that is not complete tells what it inherited, too.
 *   Y  Who holds what was stated up to some number is told what came since, where that is no more than the whole. It is
 *      a transfer of its own, and serves all who hold what it begins with. No older view is kept for it: the recorder
 *      knows what was stated after a revision, and here it is noted at each beat which number that was, the more
 *      exactly the younger it is.
 *   N  Chunks leave only while the transport is not full, some at a time, so that beats and changes pass them.
 *
 * Where a chunk begins in the view is noted as it is first made. A transfer that nobody asks for goes after a while,
 * and its view with it. Cost: O(rows) once, O(a chunk) for each that is sent, but for a difference,
 * whose chunk looks at all rows before the next new one; 48 bytes a chunk; 16 bytes for each of at most 32 notes of a
 * server that is stated here. At most TRANSFER_MOST are open: a finished one makes room.
 */
#include "cluster/inside.h"

enum {
    CHUNK_MOST_VALUES = 1024,
    CHUNKS_A_RUN = 16,
    TRANSFER_MOST = 64,
    IDLE_LEASES = 4,
    STILL_LEAVING = 64 * 1024,
    MODELS_REMEMBERED = 64
};
enum { MOST_GONE = 1 << 20, MOST_MARKS = 32 };

/* What was stated after that number was stated after that revision. */
struct mark {
    uint64_t number, revision;
};

struct marks {
    presence_claim claim;
    size_t count;
    struct mark at[MOST_MARKS]; /* by number */
};

struct chunk {
    presence_cursor from;
    bool inherited;   /* the cursor is of what is inherited, which comes behind what is stated */
    size_t from_gone; /* of a difference: its values come first, then what is gone */
    uint64_t sent;
    bool wanted;
};

struct transfer {
    uint64_t id, asked;
    presence_connections *view, *inherited; /* what is stated; of a whole state, what is inherited (NULL: nothing is) */
    presence_server_description known;
    presence_cursor at; /* where the next new chunk begins */
    bool at_inherited;
    size_t at_gone;
    uint64_t since; /* of a difference */
    uint64_t *gone; /* ascending, none twice */
    size_t gone_count;
    struct chunk *chunks;
    size_t count, room, wanted, next;
    bool all; /* the last chunk is known */
    presence_value values[CHUNK_MOST_VALUES];
};

/* ------------------------------------------------------------------------------------------------------- notes -- */

void transfer_forget(struct server *server)
{
    free(server->marks);
    server->marks = NULL;
}

/* Makes room where a note is missed least: where those beside it are closest, for their age. */
static void thin_out(struct marks *marks)
{
    const struct mark *at = marks->at;
    size_t least = 1;
    double least_cost = 0;
    for (size_t i = 1; i + 1 < marks->count; i++) {
        double cost =
            (double)(at[i + 1].number - at[i - 1].number) / (double)(at[marks->count - 1].number - at[i - 1].number);
        if (i == 1 || cost < least_cost) {
            least = i;
            least_cost = cost;
        }
    }
    memmove(&marks->at[least], &marks->at[least + 1], (marks->count - least - 1) * sizeof marks->at[0]);
    marks->count--;
}

void transfer_note(struct server *server, const presence_server_description *known, uint64_t revision)
{
    struct marks *marks = server->marks;
    if (!marks || presence_claim_compare(&marks->claim, &known->claim) != 0) {
        transfer_forget(server);
        marks = server->marks = calloc(1, sizeof *marks);
        if (!marks)
            return;
        marks->claim = known->claim;
    }
    if (marks->count > 0 && marks->at[marks->count - 1].number >= known->number) {
        marks->at[marks->count - 1].revision = revision;
        return;
    }
    if (marks->count == MOST_MARKS)
        thin_out(marks);
    marks->at[marks->count++] = (struct mark){known->number, revision};
}

/* The latest that is not after that number, where less came since than the whole is; NULL: there is none. */
static const struct mark *mark_for(const struct server *server, const presence_server_description *known,
                                   uint64_t number)
{
    const struct marks *marks = server->marks;
    if (!marks || presence_claim_compare(&marks->claim, &known->claim) != 0)
        return NULL;
    size_t i = marks->count;
    while (i > 0 && marks->at[i - 1].number > number)
        i--;
    bool worth = i > 0 && known->number - marks->at[i - 1].number <= known->connections;
    return worth ? &marks->at[i - 1] : NULL;
}

/* ---------------------------------------------------------------------------------------------------- transfers -- */

static void drop(struct step *step, struct transfer **slot)
{
    struct transfer *transfer = *slot;
    if (!transfer)
        return;
    presence_connections_free(transfer->inherited);
    presence_connections_free(transfer->view);
    free(transfer->gone);
    free(transfer->chunks);
    free(transfer);
    *slot = NULL;
    step->transfers--;
}

void transfer_drop(struct step *step, struct server *server)
{
    drop(step, &server->transfer);
    drop(step, &server->difference);
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What came since the mark; false: it is not known any more. */
static bool look_back(struct step *step, struct server *server, struct transfer *transfer, const struct mark *mark)
{
    size_t most = MOST_GONE;
    uint64_t *gone = malloc(most * sizeof *gone);
    if (!gone || presence_replica_difference(step->recorder, server->name, mark->revision, &transfer->known, gone, most,
                                             &transfer->gone_count, &transfer->view) != PRESENCE_OK) {
        free(gone);
        return false;
    }
    qsort(gone, transfer->gone_count, sizeof *gone, compare_ids);
    size_t count = 0;
    for (size_t i = 0; i < transfer->gone_count; i++)
        if (count == 0 || gone[count - 1] != gone[i])
            gone[count++] = gone[i];
    transfer->gone_count = count;
    transfer->gone = realloc(gone, (count + 1) * sizeof *gone);
    if (!transfer->gone)
        transfer->gone = gone;
    transfer->since = mark->number;
    return true;
}

static struct transfer **older(struct transfer **a, struct transfer **b)
{
    if (!*b || !(*b)->all || (*b)->wanted > 0)
        return a;
    return a && (*a)->asked <= (*b)->asked ? a : b;
}

/* Drops the one that is sent and was asked for longest ago: a node that states hundreds of servers is asked for all of
 * them at once. False: all are being sent. */
static bool make_room(struct step *step)
{
    struct transfer **oldest = NULL;
    for (struct server *server = step->servers; server; server = server->next)
        oldest = older(older(oldest, &server->transfer), &server->difference);
    if (oldest)
        drop(step, oldest);
    return oldest;
}

static struct transfer *begin(struct step *step, struct server *server, const struct mark *mark)
{
    if (step->transfers >= TRANSFER_MOST && !make_room(step))
        return NULL; /* who asked will ask again */
    struct transfer *transfer = calloc(1, sizeof *transfer);
    if (!transfer)
        return NULL;
    if (!mark)
        transfer->view = presence_replica_state(step->recorder, server->name, &transfer->known);
    else if (!look_back(step, server, transfer, mark))
        transfer->view = NULL;
    bool inherits = transfer->view && !mark && transfer->known.inherited > 0 && rule(step, STEP_RULE_INHERITED);
    if (inherits)
        transfer->inherited = presence_replica_inherited(transfer->view);
    if (!transfer->view || (inherits && !transfer->inherited)) {
        presence_connections_free(transfer->view);
        free(transfer);
        return NULL;
    }
    transfer->id = step_random(step);
    *(mark ? &server->difference : &server->transfer) = transfer;
    step->transfers++;
    step->counters.states_sent++;
    step->counters.differences_sent += mark != NULL;
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

static bool is_of_claim(const struct transfer *transfer, const presence_server_description *known)
{
    return presence_claim_compare(&known->claim, &transfer->known.claim) == 0;
}

/* Whether it still serves, whoever began it. */
static bool is_under_way(const struct transfer *transfer, const presence_server_description *known)
{
    return is_of_claim(transfer, known) &&
           (transfer->wanted > 0 || !transfer->all || known->number == transfer->known.number);
}

/* The transfer that answers, begun if need be; NULL: there is no memory, or nothing is known of what came since. */
static struct transfer *answering(struct step *step, struct server *server, const struct wire_ask *ask,
                                  const presence_server_description *known, bool difference)
{
    struct transfer **slot = difference ? &server->difference : &server->transfer, *transfer = *slot;
    bool goes_on = transfer && ask->transfer == transfer->id && is_of_claim(transfer, known);
    if (goes_on || (transfer && is_under_way(transfer, known) && (!difference || transfer->since <= ask->after)))
        return transfer;
    drop(step, slot);
    const struct mark *mark = difference ? mark_for(server, known, ask->after) : NULL;
    return difference && !mark ? NULL : begin(step, server, mark);
}

static bool may_differ(const struct step *step, const struct server *server, const struct wire_ask *ask,
                       const presence_server_description *known)
{
    return ask->difference && server->role == OURS && rule(step, STEP_RULE_SINCE) && ask->after <= known->number &&
           presence_claim_compare(&ask->claim, &known->claim) == 0;
}

void transfer_ask(struct step *step, struct server *server, const struct wire_ask *ask)
{
    presence_server_description known;
    if (server->role != OURS && (server_holder_lives(server) || !server->vouched || !rule(step, STEP_RULE_SERVE)))
        return; /* not ours to tell, or not here */
    if (!server_describe(step, server, &known) || known.forgotten)
        return; /* a tombstone is told, and has no state */
    struct transfer *transfer = NULL;
    if (may_differ(step, server, ask, &known))
        transfer = answering(step, server, ask, &known, true);
    if (!transfer)
        transfer = answering(step, server, ask, &known, false);
    if (!transfer)
        return;
    transfer->asked = step->now;
    if (ask->transfer != transfer->id || ask->missing_count == 0) {
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

/* What one chunk holds. */
struct piece {
    presence_cursor cursor; /* from here on, and then behind it */
    bool inherited;
    size_t gone, count, gone_count;
    bool values_end, ends; /* there is no value behind it; nothing at all */
};

/* Whether a value of this chunk had that model, as far as is remembered; and remembers it. A view has one address for
 * each model's name. */
static bool had_model(const char *models[MODELS_REMEMBERED], const char *model)
{
    const char **place = &models[((uintptr_t)model * UINT64_C(0x9e3779b97f4a7c15)) >> 58];
    bool had = *place == model;
    *place = model;
    return had;
}

static void fill(struct transfer *transfer, size_t most, struct piece *piece)
{
    const char *models[MODELS_REMEMBERED] = {NULL};
    size_t bytes = 0;
    while (piece->count < most && bytes < WIRE_BATCH_BYTES && !piece->values_end) {
        presence_value *value = &transfer->values[piece->count];
        piece->values_end =
            !presence_connections_next(piece->inherited ? transfer->inherited : transfer->view, &piece->cursor, value);
        if (piece->values_end)
            break;
        bytes += wire_value_bytes(value, had_model(models, value->model));
        piece->count++;
    }
    size_t left = transfer->gone_count - piece->gone, room = most - piece->count;
    if (piece->values_end)
        piece->gone_count = left < room ? left : room;
    piece->ends = piece->values_end && piece->gone_count == left && (piece->inherited || !transfer->inherited);
}

static void send_chunk(struct step *step, struct server *server, struct transfer *transfer, size_t index)
{
    bool difference = transfer == server->difference, newest = index + 1 == transfer->count && !transfer->all;
    const struct chunk *chunk = &transfer->chunks[index];
    struct piece piece = {.cursor = chunk->from, .inherited = chunk->inherited, .gone = chunk->from_gone};
    size_t most = step->config.chunk_values < CHUNK_MOST_VALUES ? step->config.chunk_values : CHUNK_MOST_VALUES;
    fill(transfer, most ? most : 1, &piece);
    transfer->chunks[index].sent = step->now;
    if (newest) {
        transfer->all = piece.ends;
        bool turns = piece.values_end && !piece.ends && transfer->inherited;
        transfer->at = turns ? (presence_cursor){{0}} : piece.cursor;
        transfer->at_inherited = piece.inherited || turns;
        transfer->at_gone = piece.gone + piece.gone_count;
    }
    const presence_server_description *known = &transfer->known;
    struct wire_message message = {.kind = difference ? WIRE_DIFFERENCE : WIRE_CHUNK,
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
                                             .count = piece.inherited ? 0 : piece.count,
                                             .inherited = transfer->values,
                                             .inherited_count = piece.inherited ? piece.count : 0,
                                             .since = transfer->since,
                                             .gone = transfer->gone ? transfer->gone + piece.gone : NULL,
                                             .gone_count = piece.gone_count,
                                             .digest = known->digest}};
    step_broadcast(step, STEP_STATE, &message);
    step->counters.chunks_sent++;
}

/* The next that somebody wants: in a circle over those that were made, then new ones. */
static bool send_next(struct step *step, struct server *server, struct transfer *transfer)
{
    if (!transfer->all) {
        if (!note_chunk(transfer))
            return false;
        transfer->chunks[transfer->count++] =
            (struct chunk){.from = transfer->at, .inherited = transfer->at_inherited, .from_gone = transfer->at_gone};
        send_chunk(step, server, transfer, transfer->count - 1);
        return true;
    }
    if (transfer->wanted == 0)
        return false;
    while (!transfer->chunks[transfer->next % transfer->count].wanted)
        transfer->next++;
    size_t index = transfer->next++ % transfer->count;
    transfer->chunks[index].wanted = false;
    transfer->wanted--;
    send_chunk(step, server, transfer, index);
    return true;
}

static bool run(struct step *step, struct server *server, struct transfer **slot)
{
    struct transfer *transfer = *slot;
    if (!transfer)
        return false;
    for (unsigned i = 0; i < CHUNKS_A_RUN && step_may_send_bulk(step) && send_next(step, server, transfer);)
        i++;
    bool more = (transfer->wanted > 0 || !transfer->all) && step_may_send_bulk(step);
    if (step->now - transfer->asked > (uint64_t)IDLE_LEASES * step->config.lease * MS && transfer->wanted == 0 &&
        transfer->all)
        drop(step, slot);
    return more;
}

bool transfer_run(struct step *step)
{
    bool more = false;
    for (struct server *server = step->servers; server && step->transfers > 0; server = server->next) {
        more = run(step, server, &server->transfer) || more;
        more = run(step, server, &server->difference) || more;
    }
    return more;
}
