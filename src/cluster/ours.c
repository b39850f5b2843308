/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ours.c - the servers that this node states: claiming them, sending their changes, answering who missed some.
 *
 *   H  A claim takes a turn above every claim of the server that is known here. What is stated here of a server that
 *      nobody claims is claimed as soon as this node is ready: before, it could not know of a larger one. A session
 *      does not wait for that; if a larger claim of the same life is heard after all, it takes a larger turn, once.
 *   I  Changes go out in the order of their numbers, at once when idle, in batches when busy: who calls then rests for
 *      a moment (step_rests).
 *   J  A change that cannot be told one by one (a whole list) is told as a number without changes: take the state.
 *   K  A larger claim of a living node is yielded to, and never fought. The memory of a larger claim whose node was
 *      not heard for a lease is answered by a larger turn in the same life; a newer life is yielded to all the same.
 *   L  A claim that inherited connections is complete once the settle time is over: what was not restated is dropped;
 *      by its node, or by each that follows where that is silent (orphans.c).
 *      Where it is taken again before (K), all that is here is stated under the larger turn, the inherited too, so that
 *      nobody flaps; what was not restated since the first of them is dropped all the same, at the same time.
 *
 * Cost: O(changes); a claim is O(1), or O(connections) where they are taken in under it.
 */
#include "cluster/inside.h"

struct batch {
    struct batch *next;
    struct server *server;
    presence_claim claim;
    uint64_t first;
    size_t count, room, bytes;
    presence_change *changes;
    bool open; /* on step->batches */
};

/* ------------------------------------------------------------------------------------------------------ claiming -- */

static const presence_claim *largest_known(const struct server *server, const presence_server_description *known)
{
    return presence_claim_compare(&server->heard_claim, &known->claim) > 0 ? &server->heard_claim : &known->claim;
}

static void now_ours(struct step *step, struct server *server)
{
    presence_server_description known;
    if (!server_describe(step, server, &known))
        return;
    follow_end_repair(step, server);
    held_drop(server);
    server_set_role(step, server, OURS, NULL);
    step->pending -= server->stated_unclaimed;
    server->stated_unclaimed = false;
    server_orphan(step, server, 0);
    server->rumoured = 0;
    server->sent = known.number;
    server->settle = known.inherited > 0 || !known.complete ? step->now + step->config.settle * MS : NEVER;
    server->retaken = false;
    if (known.lapsed)
        presence_replica_restore(step->recorder, server->name);
    server->lapsed = false;
    beat_hasten(step, MS);
}

int ours_claim(struct step *step, struct server *server)
{
    presence_server_description known;
    server_describe(step, server, &known);
    const presence_claim *largest = largest_known(server, &known);
    uint64_t epoch = server->wants_epoch ? server->epoch : largest->epoch;
    if (epoch < largest->epoch)
        return PRESENCE_E_STALE;
    bool same_life = epoch == largest->epoch && !claim_is_none(largest);
    presence_claim claim = {.epoch = epoch,
                            .turn = same_life && rule(step, STEP_RULE_TURN) ? largest->turn + 1 : 1,
                            .random = step_random(step)};
    bool again = same_life && server->role == OURS && known.local && server->settle != NEVER;
    uint64_t settle = server->settle;
    batches_flush(step);
    int code = again ? PRESENCE_OK : presence_recorder_mark(step->recorder, &server->mark);
    code = code ? code : presence_replica_claim(step->recorder, server->name, &claim, true);
    if (code == PRESENCE_OK) {
        server->heard_claim = claim;
        now_ours(step, server);
        if (again && rule(step, STEP_RULE_SETTLE)) {
            server->settle = settle;
            server->retaken = true;
        }
        step_say(step, STEP_DEBUG, "claim", "server %s, epoch %llu turn %llu", server->name,
                 (unsigned long long)claim.epoch, (unsigned long long)claim.turn);
    }
    return code;
}

void ours_claim_pending(struct step *step)
{
    for (struct server *server = step->servers; server; server = server->next) {
        server->early = false;
        if (server->stated_unclaimed)
            ours_claim(step, server);
    }
}

bool ours_is_unclaimed(struct step *step, const struct server *server)
{
    presence_server_description known;
    presence_counts counts;
    return server->stated_unclaimed ||
           (server_describe(step, server, &known) && claim_is_none(&known.claim) &&
            presence_recorder_server_counts(step->recorder, server->name, &counts) == PRESENCE_OK &&
            counts.connections > 0);
}

void ours_wait_for_claim(struct step *step, struct server *server)
{
    presence_server_description known;
    if (server->role == THEIRS || server->stated_unclaimed)
        return;
    if (server->role == OURS && server_describe(step, server, &known) && !claim_is_none(&known.claim))
        return; /* stated before the claim, which took it in */
    server->stated_unclaimed = true;
    step->pending++;
    if (step->ready)
        ours_claim(step, server);
}

int step_claim(struct step *step, uint64_t now, const char *name, bool has_epoch, uint64_t epoch)
{
    step->now = now > step->now ? now : step->now;
    if (!presence_recorder_is_enabled(step->recorder))
        return PRESENCE_E_DISABLED;
    struct server *server = server_find_or_add(step, name);
    if (!server)
        return PRESENCE_E_LIMIT;
    presence_server_description known;
    server_describe(step, server, &known);
    const presence_claim *largest = largest_known(server, &known);
    if (has_epoch && epoch < largest->epoch)
        return PRESENCE_E_STALE;
    server->wanted = true;
    server->wants_epoch = has_epoch;
    server->epoch = epoch;
    if (server->role == OURS && known.local && (!has_epoch || epoch == known.claim.epoch))
        return PRESENCE_OK;
    int code = ours_claim(step, server);
    if (code)
        server->wanted = server->wants_epoch = false;
    server->early = !code && !step->ready;
    return code;
}

/* ------------------------------------------------------------------------------------------------------ yielding -- */

static void retake(struct step *step, struct server *server, const presence_claim *larger)
{
    if (!rule(step, STEP_RULE_RETAKE))
        return;
    server->heard_claim = *larger;
    server->early = false;
    if (ours_claim(step, server) == PRESENCE_OK)
        step_say(step, STEP_INFO, "retake", "server %s: a larger claim is known, and this one is of later",
                 server->name);
}

static void yield(struct step *step, struct server *server, const presence_claim *claim, struct peer *holder)
{
    batches_flush(step);
    transfer_drop(step, server);
    server->wanted = server->wants_epoch = server->early = false;
    step->counters.yielded++;
    step_say(step, STEP_WARNING, "yield", "server %s is now stated by %s", server->name,
             holder ? holder->node : "a newer life whose node is gone");
    if (!follow_claim(step, server, claim, holder))
        return;
    if (step->output.superseded)
        step->output.superseded(step->output.context, server->name, claim, holder ? holder->node : "");
}

/* K: somebody remembers a larger claim. Its node may live and be heard soon; after a lease it is gone. */
static void note_rumour(struct step *step, struct server *server, const presence_claim *claim)
{
    if (presence_claim_compare(claim, &server->heard_claim) > 0)
        server->heard_claim = *claim;
    if (!server->rumoured)
        server->rumoured = step->now;
}

void ours_judge_rumour(struct step *step, struct server *server)
{
    presence_server_description known;
    if (step->deaf || step->now - server->rumoured <= step->config.lease * MS || !server_describe(step, server, &known))
        return;
    server->rumoured = 0;
    struct wire_stand stand = {.claim = server->heard_claim};
    if (stand.claim.epoch > known.claim.epoch && server->wants_epoch)
        yield(step, server, &stand.claim, NULL);
    else if (presence_claim_compare(&stand.claim, &known.claim) > 0)
        retake(step, server, &stand.claim);
}

void ours_met_larger(struct step *step, struct server *server, const presence_claim *claim, struct peer *holder)
{
    presence_server_description known;
    server_describe(step, server, &known);
    if (presence_claim_compare(claim, &known.claim) <= 0)
        return;
    bool same_life = claim->epoch == known.claim.epoch;
    if (same_life && server->early)
        retake(step, server, claim); /* H: the session came here later than to them */
    else if (!holder)
        note_rumour(step, server, claim);
    else if (rule(step, STEP_RULE_YIELD))
        yield(step, server, claim, holder);
}

/* What was not stated since the mark goes: an empty list, as of then, leaves the rest. Where more has been disconnected
 * since than is remembered, it stays, missing. */
static int drop_unstated(struct step *step, const struct server *server)
{
    int code = presence_recorder_merge_server_since(step->recorder, server->name, server->mark, NULL, 0, NULL);
    if (code == PRESENCE_E_LAGGED)
        code = presence_recorder_server_down_unstated(step->recorder, server->name, server->mark,
                                                      PRESENCE_REASON_TIMED_OUT, NULL);
    return code;
}

void ours_complete(struct step *step, struct server *server)
{
    server->settle = NEVER;
    presence_server_description known;
    if (!rule(step, STEP_RULE_COMPLETE) || !server_describe(step, server, &known) || !known.local ||
        (known.complete && !server->retaken))
        return;
    int code = known.complete ? drop_unstated(step, server) /* L */
                              : presence_replica_complete(step->recorder, server->name, NULL);
    if (code == PRESENCE_E_NO_MEMORY)
        server->settle = step->now + step->config.interval * MS;
}

/* ------------------------------------------------------------------------------------------------------- sending -- */

void batch_free(struct server *server)
{
    if (!server->batch)
        return;
    free(server->batch->changes);
    free(server->batch);
    server->batch = NULL;
}

static void batch_send(struct step *step, struct batch *batch)
{
    struct wire_message message = {.kind = WIRE_CHANGES,
                                   .changes = {.server = batch->server->name,
                                               .claim = batch->claim,
                                               .first = batch->first,
                                               .changes = batch->changes,
                                               .count = batch->count}};
    step_broadcast(step, STEP_STREAM, &message);
    step->counters.changes_sent += batch->count;
    batch->count = batch->bytes = 0;
}

void batches_flush(struct step *step)
{
    for (struct batch *batch = step->batches, *next; batch; batch = next) {
        next = batch->next;
        if (batch->count > 0)
            batch_send(step, batch);
        batch->open = false;
    }
    step->batches = NULL;
}

/* The batch that takes the server's change of that number; NULL: out of memory, and who follows will ask. */
static struct batch *batch_for(struct step *step, struct server *server, const presence_statement *statement)
{
    struct batch *batch = server->batch;
    if (!batch) {
        batch = server->batch = calloc(1, sizeof *batch);
        if (!batch)
            return NULL;
        batch->server = server;
    }
    bool follows = batch->count == 0 || (batch->first + batch->count == statement->change.number &&
                                         presence_claim_compare(&batch->claim, &statement->claim) == 0);
    if (!follows || batch->bytes >= WIRE_BATCH_BYTES)
        batch_send(step, batch);
    if (batch->count == batch->room) {
        size_t room = batch->room ? batch->room * 2 : 16;
        presence_change *changes = realloc(batch->changes, room * sizeof *changes);
        if (!changes)
            return NULL;
        batch->changes = changes;
        batch->room = room;
    }
    if (batch->count == 0) {
        batch->first = statement->change.number;
        batch->claim = statement->claim;
    }
    if (!batch->open) {
        batch->open = true;
        batch->next = step->batches;
        step->batches = batch;
    }
    return batch;
}

/* J */
static void send_whole(struct step *step, struct server *server, const presence_statement *statement)
{
    if (server->batch && server->batch->count > 0)
        batch_send(step, server->batch);
    struct wire_message message = {
        .kind = WIRE_CHANGES,
        .changes = {.server = server->name, .claim = statement->claim, .first = statement->change.number}};
    if (rule(step, STEP_RULE_WHOLE))
        step_broadcast(step, STEP_STREAM, &message);
    beat_hasten(step, MS);
}

static void send_statement_of(struct step *step, struct server *server, const presence_statement *statement)
{
    if (statement->whole && server->role != THEIRS)
        server->active_mark = statement->change.time; /* all are stamped with it, and who follows takes all */
    if (claim_is_none(&statement->claim)) {
        ours_wait_for_claim(step, server);
        return;
    }
    presence_claim ours = server->heard_claim;
    if (server->role != OURS || presence_claim_compare(&statement->claim, &ours) != 0 ||
        statement->change.number <= server->sent)
        return;
    server->sent = statement->change.number;
    if (statement->whole) {
        send_whole(step, server, statement);
        return;
    }
    struct batch *batch = batch_for(step, server, statement);
    if (!batch)
        return;
    batch->changes[batch->count++] = statement->change;
    batch->bytes += wire_change_bytes(&statement->change);
}

/* `last`: the server of the statement before, or NULL; neighbours often have the same. Gives this one's. */
static struct server *send_statement(struct step *step, const presence_statement *statement, struct server *last)
{
    struct server *server =
        last && strcmp(last->name, statement->server) == 0 ? last : server_find_or_add(step, statement->server);
    if (server)
        send_statement_of(step, server, statement);
    return server;
}

/* Claims that others of this process made (the recorder knows them, we do not), and what lies unclaimed. */
static void scan_server(struct step *step, const char *name)
{
    struct server *server = server_find_or_add(step, name);
    presence_server_description known;
    if (!server || !server_describe(step, server, &known))
        return;
    if (claim_is_none(&known.claim)) {
        ours_wait_for_claim(step, server);
        return;
    }
    if (!known.local) {
        if (server->role == NOBODYS) { /* of a state file, or of another life of this process's */
            server->heard_claim = known.claim;
            server_set_role(step, server, THEIRS, NULL);
            server->vouched = known.complete;
            server->lapsed = known.lapsed;
            server_orphan(step, server, step->now);
            server->claimed_at = step->now;
        }
        return;
    }
    if (server->role != OURS || presence_claim_compare(&known.claim, &server->heard_claim) != 0) {
        server->heard_claim = known.claim;
        now_ours(step, server);
        return;
    }
    server->sent = known.number; /* who follows finds the gap by the next beat */
    beat_hasten(step, MS);
}

void ours_scan(struct step *step)
{
    char **names;
    size_t count;
    if (presence_replica_servers(step->recorder, &names, &count) != PRESENCE_OK)
        return;
    step->statements_lagged = false;
    for (size_t i = 0; i < count; i++)
        scan_server(step, names[i]);
    presence_names_free(names);
}

bool ours_pump(struct step *step)
{
    size_t count = 0;
    struct server *server = NULL;
    step->rests = false;
    if (step->statements_lagged)
        ours_scan(step);
    if (!step_may_send_bulk(step) && step->link)
        return false; /* the transport is full: the history keeps it meanwhile */
    int code = presence_statements_read(step->statements, step->read, STATEMENTS_MOST, &count);
    if (code == PRESENCE_E_LAGGED)
        step->statements_lagged = true;
    for (size_t i = 0; i < count; i++)
        server = send_statement(step, &step->read[i], server);
    batches_flush(step); /* their strings live until the next read */
    step->rests = count >= STATEMENTS_BUSY && count < STATEMENTS_MOST;
    return count > 0 || code == PRESENCE_E_LAGGED;
}

/* ------------------------------------------------------------------------------------------ who missed something -- */

enum {
    ANSWER_MOST_BYTES = 4 * 1024 * 1024,
    ANSWER_CHANGES = 512,               /* in one message */
    CHANGE_MOST_TEXT = 2 * 1025 + 65536 /* model, agent, user data */
};

/* Changes whose strings the reader will not keep, gathered for one message. */
struct answer {
    presence_change changes[ANSWER_CHANGES];
    size_t count, bytes, used;
    char text[WIRE_BATCH_BYTES + CHANGE_MOST_TEXT];
};

static const char *keep_text(struct answer *answer, const char *text)
{
    if (!text)
        return NULL;
    size_t length = strlen(text) + 1;
    char *to = memcpy(answer->text + answer->used, text, length);
    answer->used += length;
    return to;
}

static void keep_change(struct answer *answer, const presence_change *change)
{
    presence_change *to = &answer->changes[answer->count++];
    answer->bytes += wire_change_bytes(change);
    *to = *change;
    to->value.server = NULL; /* it is the message's */
    to->value.model = keep_text(answer, change->value.model);
    to->value.agent = keep_text(answer, change->value.agent);
    to->value.user_data = keep_text(answer, change->value.user_data);
}

static void send_answer(struct step *step, const struct wire_ask *ask, const char *to, struct answer *answer)
{
    struct wire_message message = {.kind = WIRE_CHANGES,
                                   .changes = {.server = ask->server,
                                               .claim = ask->claim,
                                               .first = answer->changes[0].number,
                                               .changes = answer->changes,
                                               .count = answer->count}};
    if (answer->count > 0)
        step_send(step, to, &message);
    answer->count = answer->bytes = answer->used = 0;
}

static bool send_some(struct step *step, const struct wire_ask *ask, const char *to, presence_change_reader *reader)
{
    struct answer *answer = calloc(1, sizeof *answer);
    presence_change change;
    size_t sent = 0;
    int code = PRESENCE_E_NO_MEMORY;
    while (answer && sent < ANSWER_MOST_BYTES && (code = presence_change_next(reader, &change)) == 1) {
        sent += wire_change_bytes(&change);
        keep_change(answer, &change);
        if (answer->bytes >= WIRE_BATCH_BYTES || answer->used >= WIRE_BATCH_BYTES || answer->count == ANSWER_CHANGES)
            send_answer(step, ask, to, answer);
    }
    if (answer)
        send_answer(step, ask, to, answer);
    free(answer);
    return code == 0 || code == 1;
}

/* Changes after a number; or the advice to take the state, where they are not kept. */
void ours_answer_changes(struct step *step, const struct wire_message *message)
{
    const struct wire_ask *ask = &message->ask;
    struct server *server = server_find(step, ask->server);
    presence_server_description known;
    if (!server || server->role != OURS || !server_describe(step, server, &known))
        return;
    presence_change_reader *reader = NULL;
    bool same = presence_claim_compare(&ask->claim, &known.claim) == 0;
    if (same && ask->after > known.number)
        return;
    if (same && ask->after == known.number)
        return; /* nothing was missed */
    bool told = same && known.number - ask->after <= step->config.most_changes &&
                presence_replica_changes(step->recorder, ask->server, ask->after, &reader) == PRESENCE_OK &&
                send_some(step, ask, message->node, reader);
    presence_change_reader_free(reader);
    if (told)
        return;
    struct wire_message state = {.kind = WIRE_CHANGES,
                                 .changes = {.server = ask->server, .claim = known.claim, .first = known.number}};
    step_send(step, message->node, &state); /* J: it listens for the state, and asks */
}
