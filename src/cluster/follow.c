/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.c - applying what other nodes state, in order, and finding and repairing what is missing.
 *
 *   Q  The next number is applied, what was seen is ignored, what is ahead is held (within a bound) while the gap is
 *      asked for: the changes, if what the claim began with is here, else the state.
 *   R  A beat tells the number and digest that should be here. Behind the number of the beat before it: a gap whose
 *      changes were lost. The same number with another digest: corruption or a bug; the whole state again, counted.
 *   S  A lapsed server is restored once its holder is heard and number and digest are its holder's.
 *   T  A larger claim is taken at once; what was held of the smaller one is dropped. Where a state is being recorded
 *      in pieces, a job takes these away first, since for the recorder that is as much work as recording them was.
 *
 * What is asked for is asked again each interval while nothing comes. Cost: O(changes).
 */
#include "cluster/inside.h"

enum { TRIES_FOR_CHANGES = 3, TRIES_FOR_CHUNKS = 6, TRIES_OF_MEMORY = 12, RANGES_MOST = 256 };

/* ------------------------------------------------------------------------------------------------------- repairs -- */

/* Two runs of a node have one name, and states are listened to by name. */
static size_t intakes_of(const struct step *step, const char *node)
{
    size_t intakes = 0;
    for (const struct peer *peer = step->peers; peer; peer = peer->next)
        intakes += strcmp(peer->node, node) == 0 ? peer->intakes : 0;
    return intakes;
}

static void listen_to(struct step *step, struct peer *peer, bool wanted)
{
    size_t before = intakes_of(step, peer->node);
    peer->intakes += wanted ? 1 : (size_t)-1;
    if (wanted ? before == 0 : before == 1)
        step->output.listen(step->output.context, peer->node, wanted);
}

void held_drop(struct server *server)
{
    while (server->held) {
        struct held *next = server->held->next;
        free(server->held);
        server->held = next;
    }
    server->held_end = &server->held;
    server->held_bytes = 0;
}

void follow_end_repair(struct step *step, struct server *server)
{
    if (server->repair == REPAIR_STATE && server->source)
        listen_to(step, server->source, false);
    server->repair = REPAIR_NONE;
    server->source = NULL;
    server->tries = 0;
    server->sought_number = server->sought_sum = 0;
    server->gathers = false;
    intake_drop(step, server);
}

static void ask_now(struct step *step, struct server *server)
{
    struct wire_range ranges[RANGES_MOST];
    presence_server_description known;
    server_describe(step, server, &known);
    if (server->mistrusted && !server->applying && intake_is_difference(server))
        intake_drop(step, server); /* only a whole state will do now */
    struct wire_message message = {.kind = WIRE_ASK, .ask = {.server = server->name, .claim = known.claim}};
    if (server->repair == REPAIR_CHANGES) {
        message.ask.question = WIRE_ASK_CHANGES;
        message.ask.after = known.number;
    } else {
        message.ask.question = WIRE_ASK_STATE;
        message.ask.missing = ranges;
        message.ask.missing_count = intake_missing(server, ranges, RANGES_MOST, &message.ask.transfer);
        message.ask.difference =
            server->intake ? intake_is_difference(server) : intake_may_differ(step, server, &known);
        message.ask.after = message.ask.difference ? known.number : 0;
    }
    server->asked_at = step->now;
    server->asked_number = known.number;
    step->counters.asks++;
    if (server->source)
        step_send(step, server->source->node, &message);
}

void follow_ask(struct step *step, struct server *server, enum repair repair, struct peer *source)
{
    if (!rule(step, STEP_RULE_GAP) || !source)
        return;
    if (server->repair == repair && server->source == source)
        return; /* it is under way */
    follow_end_repair(step, server);
    server->repair = repair;
    server->source = source;
    if (repair == REPAIR_STATE)
        listen_to(step, source, true);
    ask_now(step, server);
}

/* Twice as long after each time that nothing came, up to a lease: what is asked for may wait in a slow queue. */
static uint64_t patience(const struct step *step, const struct server *server)
{
    uint64_t patience = (step->config.interval * MS) << (server->tries < 8 ? server->tries : 8);
    return patience < step->config.lease * MS ? patience : step->config.lease * MS;
}

static void retry_state(struct step *step, struct server *server)
{
    if (intake_came_on(server) || intake_waits(server)) {
        server->tries = 0;
        server->asked_at = step->now;
        return;
    }
    if (step->now - server->asked_at < patience(step, server))
        return;
    if (!rule(step, STEP_RULE_CHUNKS) && server->intake)
        return;
    server->tries++;
    if (server->tries > TRIES_OF_MEMORY && (server->source != server->holder || !server_holder_lives(server))) {
        follow_end_repair(step, server);
        return;
    }
    if (server->tries % TRIES_FOR_CHUNKS == 0)
        intake_drop(step, server); /* its sender may have forgotten that transfer */
    ask_now(step, server);
}

void follow_retry(struct step *step, struct server *server)
{
    if (server->source && (server->source->silent || server->source->left)) {
        follow_end_repair(step, server);
        return;
    }
    if (!intake_is_open(server))
        return;
    if (server->repair == REPAIR_STATE) {
        retry_state(step, server);
        return;
    }
    presence_server_description known;
    server_describe(step, server, &known);
    if (known.number >= server->told.number && known.number >= server->needed && server->held == NULL) {
        follow_end_repair(step, server);
        return;
    }
    server->tries = known.number > server->asked_number ? 0 : server->tries + 1;
    if (server->tries >= TRIES_FOR_CHANGES)
        follow_ask(step, server, REPAIR_STATE, server->source);
    else
        ask_now(step, server);
}

/* --------------------------------------------------------------------------------------------- claims and lapses -- */

/* Whether the claim has to wait for the job that takes away what is recorded in pieces. */
static bool waits_for_fill(struct step *step, struct server *server, const presence_claim *claim, struct peer *holder)
{
    if (!server->fill || !rule(step, STEP_RULE_ASIDE))
        return false;
    follow_end_repair(step, server);
    if (!server->fill)
        return false;
    if (presence_claim_compare(claim, &server->awaited) >= 0) {
        server->awaited = *claim;
        server->awaited_holder = holder;
    }
    return true;
}

bool follow_awaited(struct step *step, struct server *server)
{
    presence_claim claim = server->awaited;
    struct peer *holder = server->awaited_holder;
    server->awaited = (presence_claim){0, 0, 0};
    server->awaited_holder = NULL;
    bool lives = holder && !holder->silent && !holder->left;
    return !claim_is_none(&claim) && follow_claim(step, server, &claim, lives ? holder : NULL);
}

bool follow_claim(struct step *step, struct server *server, const presence_claim *claim, struct peer *holder)
{
    bool stated_here = ours_is_unclaimed(step, server);
    presence_server_description known;
    if (!rule(step, STEP_RULE_LARGER) && server_describe(step, server, &known) && !claim_is_none(&known.claim))
        return false;
    if (waits_for_fill(step, server, claim, holder))
        return false;
    int code = presence_replica_claim(step->recorder, server->name, claim, false);
    if (code)
        return false;
    follow_end_repair(step, server);
    held_drop(server);
    transfer_drop(step, server);
    step->pending -= server->stated_unclaimed;
    server->stated_unclaimed = false;
    server->heard_claim = *claim;
    server->claimed_at = step->now;
    server->vouched = false;
    /* One that was found silent may be gone, though this of its came late: it has a lease to say so by a beat. */
    server_orphan(step, server, holder && !holder->silent ? 0 : step->now);
    server->last_word = false;
    server->behind = server->needed = 0;
    server->mistrusted = server->inherits = false;
    server->told = (struct wire_stand){.claim = *claim};
    server->is_told = false;
    server->told_sequence = holder ? holder->sequence : 0;
    server_set_role(step, server, THEIRS, holder);
    server->lapsed = server_describe(step, server, &known) && known.lapsed;
    if (stated_here && step->output.superseded)
        step->output.superseded(step->output.context, server->name, claim, holder ? holder->node : "");
    return true;
}

void follow_lapse(struct step *step, struct server *server)
{
    follow_end_repair(step, server);
    held_drop(server);
    if (!server->lapsed && !server->applying && presence_replica_lapse(step->recorder, server->name) == PRESENCE_OK)
        step->counters.lapses++;
    server->lapsed = true;
    server->lapsed_at = step->now;
}

static void restore(struct step *step, struct server *server)
{
    if (!server->lapsed)
        return;
    if (presence_replica_restore(step->recorder, server->name) == PRESENCE_OK)
        step->counters.restores++;
    server->lapsed = false;
}

/* ----------------------------------------------------------------------------------------------- what beats tell -- */

static bool agrees(const struct wire_stand *told, const presence_server_description *known)
{
    return told->connections == known->connections && told->alive == known->alive &&
           told->digest.all == known->digest.all && told->digest.alive == known->digest.alive;
}

static void take_whole(struct step *step, struct server *server)
{
    follow_ask(step, server, REPAIR_STATE, server->holder);
}

/* The changes, where all before them is here; a life that never stated itself whole has nothing but changes. */
static void close_gap(struct step *step, struct server *server)
{
    step->counters.gaps += server->repair == REPAIR_NONE;
    if (server->repair == REPAIR_STATE && server->source == server->holder)
        return;
    if (server->vouched)
        follow_ask(step, server, REPAIR_CHANGES, server->holder);
    else
        take_whole(step, server);
}

void follow_check(struct step *step, struct server *server, bool from_beat)
{
    presence_server_description known;
    const struct wire_stand *told = &server->told;
    if (server->role != THEIRS || !server->is_told || server->applying || !server_holder_lives(server) ||
        !server_describe(step, server, &known) || presence_claim_compare(&told->claim, &known.claim) != 0)
        return;
    if (known.forgotten) {
        take_whole(step, server); /* its life goes on: it states itself anew */
        return;
    }
    if (known.number < told->number) {
        bool first = !server->vouched && !known.complete && known.number == 0;
        if (from_beat && (first || known.number < server->behind || server->lapsed))
            close_gap(step, server);
        if (from_beat)
            server->behind = told->number;
        return;
    }
    server->behind = 0;
    if (known.number > told->number)
        return;                                  /* the beat is older than what came since */
    if (told->complete && known.inherited > 0) { /* its completion did not come as a change */
        take_whole(step, server);
        return;
    }
    if (lacks_inherited(step, told, &known) &&
        (!server->inherits || server->repair == REPAIR_STATE)) { /* Z: others show it */
        server->inherits = true;
        server->mistrusted = true; /* what is stated may be here, but what came since does not tell it */
        take_whole(step, server);
        return;
    }
    if (agrees(told, &known) || !rule(step, STEP_RULE_DIGEST)) {
        server->vouched = true;
        if (server->repair != REPAIR_NONE && server->held == NULL)
            follow_end_repair(step, server);
        restore(step, server); /* S */
        return;
    }
    if (server->vouched || known.number > 0) {
        step->counters.digest_differences++;
        if (step_may_say(step, 5))
            step_say(step, STEP_WARNING, "digest", "server %s differs from what %s holds at number %llu", server->name,
                     server->holder->node, (unsigned long long)known.number);
    }
    server->mistrusted = true;
    take_whole(step, server);
}

/* The teller states a server under a claim that has been overtaken, and may not have heard of it. */
static void put_right(struct step *step, struct server *server, const struct peer *teller)
{
    if (server->corrected != 0 && step->now - server->corrected < step->config.interval * MS)
        return;
    server->corrected = step->now;
    orphans_tell(step, teller->node, 0, server->name);
}

void follow_told(struct step *step, struct server *server, struct peer *holder, const struct wire_stand *stand,
                 uint64_t sequence)
{
    if (server->role == OURS) {
        ours_met_larger(step, server, &stand->claim, holder);
        if (server->role == OURS)
            return;
    }
    presence_server_description known;
    server_describe(step, server, &known);
    int order = presence_claim_compare(&stand->claim, &known.claim);
    if (order < 0) {
        if (server->holder != holder)
            put_right(step, server, holder);
        return;
    }
    if (order > 0 && !follow_claim(step, server, &stand->claim, holder))
        return;
    if (server->holder != holder || server->role != THEIRS)
        server_set_role(step, server, THEIRS, holder);
    server_orphan(step, server, 0);
    server->last_word = false;
    server->heard_claim = stand->claim;
    server->told = *stand;
    server->is_told = true;
    server->told.server = server->told.holder = NULL;
    server->told_sequence = sequence;
    server->told_at = step->now;
    if (!stand->complete && !server->vouched) { /* its number 0 was empty */
        server->vouched = true;
        follow_release(step, server);
    }
    follow_check(step, server, true);
    if (!rule(step, STEP_RULE_RESTORE))
        restore(step, server);
}

/* ------------------------------------------------------------------------------------------------------- changes -- */

/* How far the changes of a message could be applied: OK, GAP, or why not. */
static int apply(struct step *step, struct server *server, const struct wire_changes *changes)
{
    presence_server_description before, after;
    bool known = server_describe(step, server, &before);
    int code = presence_replica_apply_many(step->recorder, server->name, &changes->claim, changes->changes,
                                           changes->count, NULL, NULL);
    if (known && server_describe(step, server, &after) && after.number > before.number)
        step->counters.changes_applied += after.number - before.number;
    step->counters.malformed += code == PRESENCE_E_INVALID;
    return code;
}

static void hold(struct step *step, struct server *server, const void *bytes, size_t length)
{
    if (!rule(step, STEP_RULE_BUFFER))
        return;
    if (server->held_bytes + length > step->config.buffer_bytes) {
        held_drop(server); /* asked for again when the repair is over */
        return;
    }
    struct held *held = malloc(sizeof *held + length);
    if (!held)
        return;
    held->next = NULL;
    held->length = length;
    memcpy(held->bytes, bytes, length);
    *server->held_end = held;
    server->held_end = &held->next;
    server->held_bytes += length;
}

/* Applies what it can of the held messages, in as many rounds as bring something on: once what their claim began with
 * is here. */
void follow_release(struct step *step, struct server *server)
{
    bool came_on = !server->applying && (server->vouched || !rule(step, STEP_RULE_BEGINNING));
    while (came_on && server->held) {
        struct held *list = server->held;
        came_on = false;
        server->held = NULL;
        server->held_end = &server->held;
        server->held_bytes = 0;
        while (list) {
            struct held *held = list;
            struct wire_message message;
            list = held->next;
            wire_arena_reset(step->again);
            if (wire_decode(step->again, held->bytes, held->length, &message) == WIRE_OK) {
                int code = apply(step, server, &message.changes);
                if (code == PRESENCE_E_GAP)
                    hold(step, server, held->bytes, held->length);
                came_on = came_on || code == PRESENCE_OK;
            }
            free(held);
        }
    }
}

/* A change that cannot be told one by one was made: it is in the state only (J). */
static void meet_whole(struct step *step, struct server *server, uint64_t number)
{
    presence_server_description known;
    if (server_describe(step, server, &known) && known.number < number) {
        if (server->needed < number)
            server->needed = number;
        take_whole(step, server);
    }
}

static bool belongs(struct step *step, struct server *server, struct peer *peer, const presence_claim *claim)
{
    if (server->role == OURS) {
        ours_met_larger(step, server, claim, peer);
        if (server->role == OURS)
            return false;
    }
    presence_server_description known;
    server_describe(step, server, &known);
    int order = presence_claim_compare(claim, &known.claim);
    if (order < 0 || (order == 0 && known.local))
        return false;
    if (order > 0 && !follow_claim(step, server, claim, peer))
        return false;
    if (server->role != THEIRS || (server->holder != peer && !server_holder_lives(server)))
        server_set_role(step, server, THEIRS, peer);
    return server->holder == peer;
}

void follow_changes(struct step *step, struct peer *peer, const struct wire_message *message, const void *bytes,
                    size_t length)
{
    const struct wire_changes *changes = &message->changes;
    struct server *server = server_find_or_add(step, changes->server);
    if (!server || !belongs(step, server, peer, &changes->claim)) {
        step->counters.refused += !server;
        return;
    }
    if (changes->count == 0) {
        meet_whole(step, server, changes->first);
        return;
    }
    if (!server->vouched ||
        server->applying) { /* what the claim began with comes first: a beat tells if there is any */
        hold(step, server, bytes, length);
        return;
    }
    int code = apply(step, server, changes);
    if (code == PRESENCE_E_GAP) {
        hold(step, server, bytes, length);
        if (server->needed < changes->first - 1)
            server->needed = changes->first - 1;
        if (server_holder_lives(server))
            close_gap(step, server);
    } else if (code == PRESENCE_OK && server->held) {
        follow_release(step, server);
    }
    if (server->repair == REPAIR_CHANGES && !server->held) {
        presence_server_description known;
        if (server_describe(step, server, &known) && known.number >= server->told.number &&
            known.number >= server->needed)
            follow_end_repair(step, server);
    }
}
