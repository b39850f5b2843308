/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake.c - receiving a server's whole state: chunks in any order, kept until all are here, then taken at once.
 *
 *   O  Nothing of a state shows before all of it is here: the recorder takes it in one step. That may take longer than
 *      a beat, so it is a job that another thread may run; what comes for the server meanwhile is held.
 *      Where nothing of the server is here yet, chunks are recorded as they come, and shown when all of them are: a
 *      *fill*. One job of it runs at a time, and takes along what has come since the last one. A fill whose transfer
 *      breaks off leaves nothing behind: a last job takes away what it recorded. One that is whole is not asked for
 *      again while it waits for a job, however long.
 *      What came since what is here (Y) is gathered, and recorded only if it comes to the digest that was told; else
 *      the whole is asked for.
 *   P  Chunks that are lost are asked for by their numbers; a transfer that was begun anew begins anew here.
 *
 * Bounded by config.most_state_bytes. Cost: O(values), their strings copied once.
 */
#include "cluster/inside.h"

struct strings { /* memory for strings, in pieces */
    struct strings *next;
    size_t used, bytes;
    char text[];
};

struct intake {
    uint64_t transfer, number, floor, connections;
    presence_claim claim;
    presence_reason floor_reason;
    presence_time floor_time;
    unsigned char *got;               /* a bit for each chunk */
    size_t got_room, got_count, last; /* last: the highest index, SIZE_MAX while it is not known */
    size_t highest, came;
    struct values {
        presence_value *at;
        size_t count, room;
    } stated, inherited;
    size_t bytes;
    struct strings *strings;
    const char *model; /* copied last: neighbours share it */
    char *server;
    bool difference; /* of what came since that number: what is gone, and how all of it sums up */
    uint64_t since, *gone;
    size_t gone_count, gone_room;
    presence_digest digest;
    bool fills; /* recorded as it comes: values are those that no job has taken yet */
};

/* A state that is being recorded as it comes. */
struct fill {
    uint64_t id;
    presence_state_writer *writer; /* while no job has it */
    bool runs;                     /* a job of it is under way */
    bool abandoned;                /* and what it recorded is to go */
};

enum job_kind {
    JOB_WHOLE, /* records all of a state, or what came since what is here */
    JOB_PIECE, /* of a fill: the first begins it */
    JOB_LAST,  /* the last piece of a fill, which shows it */
    JOB_ABORT  /* the end of a fill that is abandoned */
};

struct state_job {
    struct step_job job; /* first */
    enum job_kind kind;
    presence_recorder *recorder;
    struct intake *intake;         /* the state that came, or a piece of it; or the head alone */
    presence_connections *view;    /* and what is here under the claim, which is all that shall stay */
    uint64_t fill;                 /* which one, and */
    presence_state_writer *writer; /* where it stands */
    int code;
    presence_error error;
};

enum { STRINGS_BYTES = 64 * 1024, MOST_CHUNKS = 1 << 24, PIECE_VALUES = 1024 };

static void begin_job(struct step *step, struct server *server, struct state_job *state);

static void intake_free(struct intake *intake)
{
    while (intake->strings) {
        struct strings *next = intake->strings->next;
        free(intake->strings);
        intake->strings = next;
    }
    free(intake->stated.at);
    free(intake->inherited.at);
    free(intake->gone);
    free(intake->got);
    free(intake->server);
    free(intake);
}

/* Its name, claim and numbers, without what came. */
static struct intake *copy_head(const struct intake *intake)
{
    struct intake *head = calloc(1, sizeof *head);
    char *name = strdup(intake->server);
    if (!head || !name) {
        free(head);
        free(name);
        return NULL;
    }
    *head = (struct intake){.transfer = intake->transfer,
                            .number = intake->number,
                            .floor = intake->floor,
                            .claim = intake->claim,
                            .floor_reason = intake->floor_reason,
                            .floor_time = intake->floor_time,
                            .server = name};
    return head;
}

/* What it recorded is to go. Where there is no memory for a job, it is done at once. */
static void abandon_fill(struct step *step, struct server *server, const struct intake *intake)
{
    struct fill *fill = server->fill;
    fill->abandoned = true;
    if (fill->runs)
        return;
    struct intake *head = copy_head(intake);
    struct state_job *state = head ? malloc(sizeof *state) : NULL;
    if (state) {
        *state = (struct state_job){
            .kind = JOB_ABORT, .recorder = step->recorder, .intake = head, .fill = fill->id, .writer = fill->writer};
        fill->writer = NULL;
        fill->runs = true;
        begin_job(step, server, state);
        return;
    }
    if (head)
        intake_free(head);
    presence_replica_state_abort(fill->writer);
    free(fill);
    server->fill = NULL;
    server->applying = false;
}

void intake_drop(struct step *step, struct server *server)
{
    struct intake *intake = server->intake;
    if (!intake)
        return;
    server->intake = NULL;
    if (server->fill && rule(step, STEP_RULE_ABANDON))
        abandon_fill(step, server, intake);
    intake_free(intake);
}

static bool is_whole(const struct intake *intake)
{
    return intake->last != SIZE_MAX && intake->got_count == intake->last + 1;
}

bool intake_is_open(const struct server *server)
{
    return !server->applying || (server->intake && server->fill && !server->fill->abandoned);
}

bool intake_waits(const struct server *server)
{
    return server->applying && server->intake && is_whole(server->intake);
}

/* Without a job, whose end would look at the server again. One that is under way finds no fill of its own any more, and
 * takes away what it recorded as it is freed. */
void intake_forget(struct server *server)
{
    if (server->intake)
        intake_free(server->intake);
    server->intake = NULL;
    if (!server->fill)
        return;
    presence_replica_state_abort(server->fill->writer);
    free(server->fill);
    server->fill = NULL;
}

static const char *copy_text(struct intake *intake, const char *text)
{
    size_t length = strlen(text) + 1;
    if (length == 1)
        return "";
    struct strings *strings = intake->strings;
    if (!strings || strings->bytes - strings->used < length) {
        size_t bytes = length > STRINGS_BYTES ? length : STRINGS_BYTES;
        strings = malloc(sizeof *strings + bytes);
        if (!strings)
            return NULL;
        *strings = (struct strings){.next = intake->strings, .bytes = bytes};
        intake->strings = strings;
        intake->bytes += bytes;
    }
    char *to = memcpy(strings->text + strings->used, text, length);
    strings->used += length;
    return to;
}

static bool add_value(struct intake *intake, struct values *values, const presence_value *value)
{
    if (values->count == values->room) {
        size_t room = values->room ? values->room * 2 : 256;
        presence_value *at = realloc(values->at, room * sizeof *at);
        if (!at)
            return false;
        intake->bytes += (room - values->room) * sizeof *at;
        values->at = at;
        values->room = room;
    }
    presence_value *to = &values->at[values->count];
    *to = *value;
    if (!intake->model || strcmp(intake->model, value->model) != 0)
        intake->model = copy_text(intake, value->model);
    to->model = intake->model;
    to->server = intake->server;
    to->agent = copy_text(intake, value->agent);
    to->user_data = copy_text(intake, value->user_data);
    values->count += to->model && to->agent && to->user_data;
    return to->model && to->agent && to->user_data;
}

static bool add_gone(const struct step *step, struct intake *intake, const uint64_t *gone, size_t count)
{
    if (intake->gone_room - intake->gone_count < count) {
        size_t room = (intake->gone_count + count) * 2;
        if (intake->bytes + (room - intake->gone_room) * sizeof *gone > step->config.most_state_bytes)
            return false;
        uint64_t *ids = realloc(intake->gone, room * sizeof *ids);
        if (!ids)
            return false;
        intake->bytes += (room - intake->gone_room) * sizeof *ids;
        intake->gone = ids;
        intake->gone_room = room;
    }
    if (count > 0)
        memcpy(intake->gone + intake->gone_count, gone, count * sizeof *gone);
    intake->gone_count += count;
    return true;
}

bool intake_is_difference(const struct server *server)
{
    return server->intake && server->intake->difference;
}

bool intake_may_differ(const struct step *step, const struct server *server, const presence_server_description *known)
{
    return rule(step, STEP_RULE_SINCE) && server->vouched && !server->mistrusted && !known->forgotten &&
           known->inherited == 0 && !claim_is_none(&known->claim);
}

static struct intake *begin(struct step *step, struct server *server, const struct wire_chunk *chunk,
                            const presence_server_description *known, bool difference)
{
    intake_drop(step, server);
    struct intake *intake = server->applying ? NULL : calloc(1, sizeof *intake); /* a fill is on its way out */
    if (!intake)
        return NULL;
    bool is_one_chunk = chunk->last && chunk->index == 0,
         is_empty = known->connections + known->inherited == 0 && !known->forgotten;
    *intake = (struct intake){.transfer = chunk->transfer,
                              .number = chunk->number,
                              .floor = chunk->floor,
                              .connections = chunk->connections,
                              .claim = chunk->claim,
                              .floor_reason = chunk->floor_reason,
                              .floor_time = chunk->floor_time,
                              .last = SIZE_MAX,
                              .server = strdup(server->name),
                              .difference = difference,
                              .since = chunk->since,
                              .digest = chunk->digest,
                              .fills = is_empty && !is_one_chunk && !server->gathers && !difference};
    if (!intake->server) {
        free(intake);
        return NULL;
    }
    server->intake = intake;
    return intake;
}

/* Takes note of the chunk; false: it was here, or there is no memory to note it. */
static bool note(struct intake *intake, uint64_t index)
{
    if (index >= MOST_CHUNKS)
        return false;
    size_t byte = (size_t)index / 8;
    if (byte >= intake->got_room) {
        size_t room = (byte + 64) * 2;
        unsigned char *got = realloc(intake->got, room);
        if (!got)
            return false;
        memset(got + intake->got_room, 0, room - intake->got_room);
        intake->got = got;
        intake->got_room = room;
    }
    unsigned char bit = (unsigned char)(1U << index % 8);
    if (intake->got[byte] & bit)
        return false;
    intake->got[byte] |= bit;
    intake->got_count++;
    intake->came++;
    if (index > intake->highest)
        intake->highest = (size_t)index;
    return true;
}

bool intake_came_on(struct server *server)
{
    bool came = server->intake && server->intake->came > 0;
    if (server->intake)
        server->intake->came = 0;
    return came;
}

size_t intake_missing(const struct server *server, struct wire_range *ranges, size_t most, uint64_t *transfer)
{
    const struct intake *intake = server->intake;
    if (!intake)
        return 0;
    *transfer = intake->transfer;
    size_t end = intake->last == SIZE_MAX ? intake->highest + 1 : intake->last + 1, count = 0;
    bool open = false;
    for (size_t i = 0; i < end && count < most; i++) {
        bool here = intake->got[i / 8] >> i % 8 & 1;
        if (!here && !open)
            ranges[count] = (struct wire_range){i, i};
        else if (!here)
            ranges[count].last = i;
        count += here && open;
        open = !here;
    }
    count += open && count < most;
    if (intake->last == SIZE_MAX && count < most) /* what comes behind the highest that we saw */
        ranges[count++] = (struct wire_range){end, UINT64_MAX};
    return count;
}

static struct state_job *state_of(struct step_job *job)
{
    return (struct state_job *)(void *)job;
}

/* All of a view, whose strings it keeps. */
static bool add_view(struct intake *intake, presence_connections *view)
{
    size_t count = presence_connections_count(view);
    struct values *values = &intake->stated;
    values->at = calloc(count + 1, sizeof *values->at);
    presence_cursor cursor = {0};
    while (values->at && values->count < count && presence_connections_next(view, &cursor, &values->at[values->count]))
        values->count++;
    return values->at != NULL;
}

static void add_to_writer(struct state_job *state, const struct values *values,
                          int (*add)(presence_state_writer *, const presence_value *, size_t, presence_error *))
{
    for (size_t at = 0; at < values->count && !state->code; at += PIECE_VALUES) {
        size_t left = values->count - at, some = left < PIECE_VALUES ? left : PIECE_VALUES;
        for (size_t i = 0; i < some; i++)
            values->at[at + i].server = state->intake->server; /* who gathered them may be gone */
        state->code = add(state->writer, &values->at[at], some, &state->error);
    }
}

static void run_piece(struct state_job *state)
{
    const struct intake *intake = state->intake;
    if (!state->writer)
        state->code =
            presence_replica_state_begin(state->recorder, intake->server, &intake->claim, intake->number, intake->floor,
                                         intake->floor_reason, intake->floor_time, &state->writer, &state->error);
    add_to_writer(state, &intake->stated, presence_replica_state_add);
    add_to_writer(state, &intake->inherited, presence_replica_state_add_inherited);
    if (state->code || state->kind != JOB_LAST)
        return;
    state->code = presence_replica_state_commit(state->writer, &state->error);
    state->writer = NULL;
}

/* What is inherited behind what is stated. */
static bool join_values(struct intake *intake)
{
    struct values *stated = &intake->stated;
    const struct values *inherited = &intake->inherited;
    if (inherited->count == 0)
        return true;
    presence_value *at = realloc(stated->at, (stated->count + inherited->count) * sizeof *at);
    if (!at)
        return false;
    memcpy(at + stated->count, inherited->at, inherited->count * sizeof *at);
    stated->at = at;
    stated->count += inherited->count;
    return true;
}

void step_job_run(struct step_job *job)
{
    struct state_job *state = state_of(job);
    struct intake *intake = state->intake;
    if (state->kind == JOB_PIECE || state->kind == JOB_LAST)
        run_piece(state);
    if (state->kind == JOB_ABORT || (state->kind != JOB_WHOLE && state->code)) {
        presence_replica_state_abort(state->writer);
        state->writer = NULL;
    }
    if (state->kind != JOB_WHOLE)
        return;
    if (state->view && !add_view(intake, state->view)) {
        state->code = PRESENCE_E_NO_MEMORY;
        return;
    }
    if (intake->difference) {
        presence_server_description whole = {.claim = intake->claim,
                                             .number = intake->number,
                                             .floor = intake->floor,
                                             .floor_reason = intake->floor_reason,
                                             .floor_time = intake->floor_time,
                                             .connections = intake->connections,
                                             .digest = intake->digest};
        state->code =
            presence_replica_apply_difference(state->recorder, intake->server, intake->since, &whole, intake->stated.at,
                                              intake->stated.count, intake->gone, intake->gone_count, &state->error);
        return;
    }
    state->code = join_values(intake)
                      ? presence_replica_apply_incomplete(state->recorder, intake->server, &intake->claim,
                                                          intake->number, intake->floor, intake->floor_reason,
                                                          intake->floor_time, intake->stated.at, intake->stated.count,
                                                          intake->inherited.count, &state->error)
                      : PRESENCE_E_NO_MEMORY;
}

void step_job_free(struct step_job *job)
{
    intake_free(state_of(job)->intake);
    presence_connections_free(state_of(job)->view);
    presence_replica_state_abort(state_of(job)->writer);
    free(job);
}

/* It fell silent while the job ran, or was heard again: what was then put off is done now. */
static void catch_up_lapse(struct step *step, struct server *server, const presence_server_description *known)
{
    if (!server->lapsed || known->lapsed)
        return;
    server->lapsed = !server_holder_lives(server);
    if (server->lapsed)
        presence_replica_lapse(step->recorder, server->name);
}

/* Memory that was taken for values to come, which go into other memory. */
static size_t unused_bytes(const struct intake *intake)
{
    const struct strings *strings = intake->strings;
    size_t unused = intake->stated.room - intake->stated.count + intake->inherited.room - intake->inherited.count;
    return unused * sizeof(presence_value) + (strings ? strings->bytes - strings->used : 0);
}

/* What is here goes to a job, and shows once that has run if it is the last. */
static void hand_over(struct step *step, struct server *server)
{
    struct intake *intake = server->intake;
    struct fill *fill = server->fill;
    struct intake *piece = copy_head(intake);
    struct state_job *state = piece ? malloc(sizeof *state) : NULL;
    if (!state) {
        if (piece)
            intake_free(piece);
        intake_drop(step, server); /* to be asked for again */
        return;
    }
    bool last = is_whole(intake) || !rule(step, STEP_RULE_PIECES);
    intake->bytes -= unused_bytes(intake);
    piece->stated = intake->stated;
    piece->inherited = intake->inherited;
    piece->strings = intake->strings;
    intake->stated = intake->inherited = (struct values){0};
    intake->strings = NULL;
    intake->model = NULL;
    *state = (struct state_job){.kind = last ? JOB_LAST : JOB_PIECE,
                                .recorder = step->recorder,
                                .intake = piece,
                                .fill = fill->id,
                                .writer = fill->writer};
    fill->writer = NULL;
    fill->runs = true;
    if (last) {
        server->intake = NULL;
        intake_free(intake);
    }
    begin_job(step, server, state);
}

/* A job of a fill has run. True: the fill goes on. */
static bool filled(struct step *step, struct server *server, struct state_job *state)
{
    struct fill *fill = server->fill;
    fill->runs = false;
    fill->writer = state->writer;
    state->writer = NULL;
    if (state->code || state->kind != JOB_PIECE) {
        if (state->code && (state->code != PRESENCE_E_LAGGED || !fill->abandoned))
            server->gathers = true;
        free(fill);
        server->fill = NULL;
        intake_drop(step, server);
        return false;
    }
    if (fill->abandoned)
        abandon_fill(step, server, state->intake);
    else if (server->intake &&
             (server->intake->stated.count > 0 || server->intake->inherited.count > 0 || is_whole(server->intake)))
        hand_over(step, server);
    return true;
}

static void applied(struct step *step, struct step_job *job)
{
    struct state_job *state = state_of(job);
    struct server *server = server_find(step, state->intake->server);
    presence_claim claim = state->intake->claim;
    bool of_ours = state->view != NULL; /* nothing came */
    bool aborted = state->kind == JOB_ABORT, difference = state->intake->difference;
    int code = state->code;
    presence_server_description known;
    if (server && code && code != PRESENCE_E_STALE && code != PRESENCE_E_LAGGED &&
        !(difference && code == PRESENCE_E_GAP) && step_may_say(step, 3))
        step_say(step, STEP_WARNING, "state", "server %s: cannot take its state: %s", server->name,
                 state->error.message);
    if (state->kind != JOB_WHOLE && server && (!server->fill || server->fill->id != state->fill))
        server = NULL; /* it was forgotten meanwhile, and has become known again */
    bool goes_on = server && state->kind != JOB_WHOLE && filled(step, server, state);
    step_job_free(job);
    if (!server || goes_on)
        return;
    server->applying = false;
    if (server->role == OURS || follow_awaited(step, server))
        return; /* claimed meanwhile */
    server_describe(step, server, &known);
    catch_up_lapse(step, server, &known);
    if (difference && code == PRESENCE_E_GAP) { /* what is here, or what was told, is wrong */
        struct peer *source = server->source;
        server->mistrusted = true;
        if (source) {
            follow_end_repair(step, server);
            follow_ask(step, server, REPAIR_STATE, source);
            return;
        }
    }
    if (code && code != PRESENCE_E_STALE && server->repair != REPAIR_NONE)
        return; /* it goes on, and asks again */
    bool counts = presence_claim_compare(&known.claim, &claim) == 0 || !rule(step, STEP_RULE_RECORDED);
    if (counts && !aborted) {
        if (code == PRESENCE_OK && !of_ours) {
            step->counters.states_taken++;
            step->counters.differences_taken += difference;
            server->mistrusted = false;
            server->heard_claim = claim;
            server->vouched = true;
            server_set_role(step, server, THEIRS, server->holder);
        }
        follow_end_repair(step, server);
    } /* else a larger claim was taken meanwhile, and its repair goes on */
    follow_release(step, server);
    follow_check(step, server, false);
}

void step_applied(struct step *step, uint64_t now, struct step_job *job)
{
    step->now = now > step->now ? now : step->now;
    applied(step, job);
}

static void begin_job(struct step *step, struct server *server, struct state_job *state)
{
    server->applying = true;
    if (step->output.apply) {
        step->output.apply(step->output.context, &state->job);
        return;
    }
    step_job_run(&state->job);
    applied(step, &state->job);
}

/* All is here: a job takes it over, and the server waits for that. */
static void take(struct step *step, struct server *server)
{
    struct state_job *state = malloc(sizeof *state);
    if (!state) {
        intake_drop(step, server); /* to be asked for again */
        return;
    }
    *state = (struct state_job){.recorder = step->recorder, .intake = server->intake};
    server->intake = NULL;
    begin_job(step, server, state);
}

void intake_drop_inherited(struct step *step, struct server *server)
{
    presence_server_description known;
    struct state_job *state = calloc(1, sizeof *state);
    struct intake *head = calloc(1, sizeof *head);
    presence_connections *view = presence_replica_state(step->recorder, server->name, &known);
    char *name = strdup(server->name);
    if (!state || !head || !view || !name || server->applying) { /* tried again in the next sweep */
        free(state);
        free(head);
        free(name);
        presence_connections_free(view);
        return;
    }
    *head = (struct intake){.number = known.number,
                            .floor = known.floor,
                            .claim = known.claim,
                            .floor_reason = known.floor_reason,
                            .floor_time = known.floor_time,
                            .server = name};
    *state = (struct state_job){.recorder = step->recorder, .intake = head, .view = view};
    begin_job(step, server, state);
}

/* Another chunk is here: the next job takes it, at once if none runs. */
static void go_on_filling(struct step *step, struct server *server)
{
    if (!server->fill) {
        server->fill = malloc(sizeof *server->fill);
        if (!server->fill) {
            intake_drop(step, server);
            return;
        }
        *server->fill = (struct fill){.id = step_random(step)};
    }
    if (!server->fill->runs)
        hand_over(step, server);
}

static bool add_values(const struct step *step, struct intake *intake, struct values *to, const presence_value *values,
                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (intake->bytes > step->config.most_state_bytes || !add_value(intake, to, &values[i]))
            return false;
    return true;
}

void intake_chunk(struct step *step, struct peer *peer, const struct wire_chunk *chunk, bool difference)
{
    struct server *server = server_find(step, chunk->server);
    if (!server || server->role == OURS || server->repair != REPAIR_STATE || !intake_is_open(server))
        return;
    presence_server_description known;
    server_describe(step, server, &known);
    int order = presence_claim_compare(&chunk->claim, &known.claim);
    if (order < 0 || (order == 0 && chunk->number < known.number && !known.forgotten))
        return;
    struct intake *intake = server->intake;
    if (intake && intake->difference != difference)
        return; /* for somebody else */
    if (difference && (order != 0 || chunk->since > known.number || !intake_may_differ(step, server, &known)))
        return; /* it is from what is not here */
    bool another = !intake || intake->transfer != chunk->transfer;
    if (another && intake && peer != server->holder && chunk->number <= intake->number &&
        presence_claim_compare(&chunk->claim, &intake->claim) <= 0)
        return; /* another memory of the same: one is enough */
    if (another)
        intake = begin(step, server, chunk, &known, difference);
    if (!intake || !note(intake, chunk->index))
        return;
    step->counters.chunks_taken++;
    if (chunk->last)
        intake->last = (size_t)chunk->index;
    if (!add_gone(step, intake, chunk->gone, chunk->gone_count) ||
        !add_values(step, intake, &intake->stated, chunk->values, chunk->count) ||
        !add_values(step, intake, &intake->inherited, chunk->inherited, chunk->inherited_count)) {
        if (step_may_say(step, 4))
            step_say(step, STEP_WARNING, "state", "server %s: its state does not fit into memory", server->name);
        intake_drop(step, server);
        return;
    }
    server->asked_at = step->now; /* it comes on */
    if (intake->fills)
        go_on_filling(step, server);
    else if (is_whole(intake))
        take(step, server);
}
