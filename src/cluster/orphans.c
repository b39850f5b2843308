/* SPDX-License-Identifier: Apache-2.0 */
/*
 * orphans.c - servers whose node is silent, and tombstones: what the living remember of them is made the same.
 *
 *   U  Any node may tell and serve what it holds of a server whose node is silent. The greatest (claim, number)
 *      wins, and the tombstone wins over what it buries. What is fetched of one is not begun anew for what another
 *      tells, or the same again, unless that is more.
 *   V  Beats carry a sum over what is remembered. Where two differ twice in a row, what is remembered is told to all:
 *      after a random wait, a short one by whose sum is larger, and if somebody's sum still differs then. Who hears
 *      another tell all that it remembers itself does not tell it again; who remembers more does, soon.
 *   L  A claim whose node is silent is complete, too, when the settle time is over: what it inherited here and was not
 *      restated differs from node to node, and is dropped.
 *   W  A tombstone is a fence for config.tombstone; then it is gone here too.
 *
 * Cost: nothing while all nodes are heard; else a pass over the servers each beat, and O(orphans) for a telling, at
 * most one each four beats.
 */
#include "cluster/inside.h"

enum { STANDS_A_MESSAGE = 128, TRIES_OF_ONE = 3 };

static bool is_orphan(const struct server *server)
{
    return server->role == THEIRS && !server_holder_lives(server);
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
    return hash ^ hash >> 32;
}

uint64_t orphans_memory(struct step *step)
{
    if (step->remembers_nothing)
        return 0;
    uint64_t sum = 0;
    step->remembers_nothing = true;
    for (struct server *server = step->servers; server; server = server->next) {
        presence_server_description known;
        if (!is_orphan(server))
            continue;
        step->remembers_nothing = false;
        if (!server_describe(step, server, &known))
            continue;
        uint64_t hash = mix(UINT64_C(0x9e3779b97f4a7c15), known.forgotten);
        for (const char *at = server->name; *at; at++)
            hash = mix(hash, (unsigned char)*at);
        hash = mix(mix(mix(hash, known.claim.epoch), known.claim.turn), known.claim.random);
        sum += mix(mix(mix(hash, known.number), known.digest.all), known.digest.alive);
    }
    return sum;
}

/* ------------------------------------------------------------------------------------------------------- telling -- */

static void tell(struct step *step, const char *node, struct wire_message *message, bool more)
{
    message->known.more = more;
    if (node)
        step_send(step, node, message);
    else
        step_broadcast(step, STEP_STREAM, message);
    message->known.count = 0;
}

void orphans_tell(struct step *step, const char *node, uint64_t tag, const char *name)
{
    struct wire_stand stands[STANDS_A_MESSAGE];
    struct wire_message message = {.kind = WIRE_KNOWN, .known = {.tag = tag, .stands = stands}};
    for (struct server *server = step->servers; server; server = server->next) {
        presence_server_description known;
        bool wanted = name ? strcmp(server->name, name) == 0 : is_orphan(server);
        if (!wanted || !server_describe(step, server, &known) || claim_is_none(&known.claim))
            continue;
        struct wire_stand *stand = &stands[message.known.count++];
        describe_stand(server->name, &known, stand);
        if (server->role != OURS && !server->vouched)
            stand->inherited = 0; /* whoever asked for it would get no answer: see transfer_ask */
        stand->holder = server->role == OURS ? step->config.node : server->holder ? server->holder->node : "";
        if (message.known.count == STANDS_A_MESSAGE)
            tell(step, node, &message, true);
    }
    tell(step, node, &message, false);
}

/* At a random time in the half of an interval behind that wait, or when it is to be told already if that is earlier. */
static void tell_within(struct step *step, uint64_t wait)
{
    uint64_t when = step->now + wait + step_random(step) % (step->config.interval * MS / 2 + 1);
    if (!rule(step, STEP_RULE_HUSH))
        when = step->now;
    if (!step->tell_memory || when < step->tell_memory)
        step->tell_memory = when;
}

void orphans_compare(struct step *step, struct peer *peer)
{
    uint64_t patience = step->config.lease * MS / 2;
    if (!step->ready && !peer->asked && (peer->asked_at == 0 || step->now - peer->asked_at > patience)) {
        peer->asked_at = step->now; /* again until it has answered */
        struct wire_message message = {.kind = WIRE_ASK,
                                       .ask = {.question = WIRE_ASK_KNOWN, .server = "", .tag = JOINING_TAG}};
        step_send(step, peer->node, &message);
        step->counters.asks++;
    }
    if (!rule(step, STEP_RULE_ORPHANS) || step->deaf)
        return;
    uint64_t memory = orphans_memory(step);
    peer->differs = peer->memory == memory ? 0 : peer->differs + 1;
    if (peer->differs < 2)
        return; /* V */
    peer->differs = 0;
    tell_within(step, memory > peer->memory ? 0 : step->config.interval * MS / 2);
}

void orphans_ask(struct step *step, const struct server *server)
{
    struct wire_message message = {.kind = WIRE_ASK,
                                   .ask = {.question = WIRE_ASK_KNOWN, .server = server->name, .tag = JOINING_TAG}};
    for (const struct peer *peer = step->peers; peer; peer = peer->next) {
        if (peer->silent || peer->left)
            continue;
        step_send(step, peer->node, &message);
        step->counters.asks++;
    }
}

/* And what is remembered here is not about to be more. */
static bool somebody_differs(struct step *step)
{
    uint64_t memory = orphans_memory(step);
    for (const struct server *server = step->servers; server && rule(step, STEP_RULE_HUSH); server = server->next)
        if (server->repair == REPAIR_STATE && server->tries == 0 && is_orphan(server))
            return false;
    for (const struct peer *peer = step->peers; peer; peer = peer->next)
        if (!peer->silent && !peer->left && peer->sequence != 0 && peer->memory != memory)
            return true;
    return false;
}

uint64_t orphans_run(struct step *step)
{
    if (!step->tell_memory)
        return NEVER;
    if (step->now < step->tell_memory)
        return step->tell_memory;
    step->tell_memory = 0;
    if (step->deaf || step->now - step->told_memory < UINT64_C(4) * step->config.interval * MS ||
        !somebody_differs(step))
        return NEVER; /* if it is needed later, beats say so again */
    step->told_memory = step->now;
    orphans_tell(step, NULL, 0, NULL);
    return NEVER;
}

/* ------------------------------------------------------------------------------------------------------ learning -- */

/* <0, 0, >0: what is told is less, the same, more than what is here. */
static int compare(const struct wire_stand *stand, const presence_server_description *known)
{
    int order = presence_claim_compare(&stand->claim, &known->claim);
    if (order != 0)
        return order;
    if (stand->forgotten != known->forgotten &&
        (stand->forgotten ? stand->number >= known->number : known->number >= stand->number))
        return stand->forgotten ? 1 : -1;
    if (stand->number != known->number)
        return stand->number > known->number ? 1 : -1;
    if (stand->forgotten)
        return 0;
    uint64_t told = stand->digest.all + stand->digest.alive, here = known->digest.all + known->digest.alive;
    return told > here ? 1 : told < here ? -1 : 0;
}

/* No less than that is on its way, and not from one who does not answer. While it is, what is remembered differs, so
 * all tell it again and again: to begin anew each time would be never to end where it takes longer than that. */
static bool is_being_fetched(const struct server *server, const struct peer *teller, const struct wire_stand *stand)
{
    const struct peer *source = server->source;
    if (server->repair != REPAIR_STATE || !source || source->silent || source->left ||
        (source != teller && server->tries >= TRIES_OF_ONE))
        return false;
    return stand->number < server->sought_number ||
           (stand->number == server->sought_number && stand->digest.all + stand->digest.alive <= server->sought_sum);
}

static void bury_at(struct step *step, struct server *server, const presence_claim *claim, uint64_t number)
{
    presence_server_description known;
    server_describe(step, server, &known);
    bool same = presence_claim_compare(&known.claim, claim) == 0;
    if (!same || known.number < number)
        presence_replica_apply_state(step->recorder, server->name, claim, number, 0, PRESENCE_REASON_NONE, 0, NULL, 0,
                                     NULL);
    if (presence_replica_forget(step->recorder, server->name, NULL) != PRESENCE_OK)
        return;
    follow_end_repair(step, server);
    held_drop(server);
    server->heard_claim = *claim;
    server_set_role(step, server, THEIRS, NULL);
    server_orphan(step, server, step->now);
    server->forgotten_at = step->now;
    server->lapsed = false;
    step_say(step, STEP_INFO, "forget", "server %s is forgotten", server->name);
}

static void learn(struct step *step, struct peer *teller, const struct wire_stand *stand)
{
    struct server *server = server_find_or_add(step, stand->server);
    if (!server) {
        step->counters.refused++;
        return;
    }
    if (server->role == OURS) {
        ours_met_larger(step, server, &stand->claim, NULL);
        return;
    }
    if (ours_is_unclaimed(step, server)) { /* the living win over a memory: it is claimed above this */
        if (presence_claim_compare(&stand->claim, &server->heard_claim) > 0)
            server->heard_claim = stand->claim;
        ours_wait_for_claim(step, server);
        return;
    }
    presence_server_description known;
    server_describe(step, server, &known);
    int order = compare(stand, &known);
    bool lacks = order == 0 && !stand->forgotten && !known.complete && lacks_inherited(step, stand, &known);
    if (server_holder_lives(server) || (order <= 0 && !lacks))
        return;
    if (stand->forgotten) {
        bury_at(step, server, &stand->claim, stand->number);
        return;
    }
    if (presence_claim_compare(&stand->claim, &known.claim) > 0 && !follow_claim(step, server, &stand->claim, NULL))
        return;
    if (server->role == NOBODYS)
        server_set_role(step, server, THEIRS, NULL);
    if (!server->orphaned)
        server_orphan(step, server, step->now);
    if (is_being_fetched(server, teller, stand) && (!lacks || server->inherits))
        return;
    if (server->told_at == 0 || step->now - server->told_at > step->config.lease * MS)
        follow_lapse(step, server); /* until its node is heard; one that was heard lately has its lease */
    bool inherits = stand->inherited > 0 && rule(step, STEP_RULE_INHERITED);
    if (stand->connections == 0 && stand->number == 0 && !inherits)
        return;
    server->mistrusted = server->mistrusted || lacks; /* what came since would not tell it */
    server->inherits = server->inherits || lacks;
    follow_ask(step, server, REPAIR_STATE, teller);
    server->sought_number = stand->number;
    server->sought_sum = stand->digest.all + stand->digest.alive;
}

/* Before anything is learnt of it: what of ours it has, and whether it is behind. */
static void note_telling(struct step *step, struct peer *peer, const struct wire_known *known)
{
    if (!peer->telling) {
        peer->telling = ++step->tellings;
        peer->tells_less = false;
    }
    for (size_t i = 0; i < known->count; i++) {
        struct server *server = server_find(step, known->stands[i].server);
        presence_server_description here;
        if (!server || !is_orphan(server) || !server_describe(step, server, &here))
            continue;
        server->told_in = peer->telling;
        peer->tells_less = peer->tells_less || compare(&known->stands[i], &here) < 0;
    }
}

/* All of it has come. Who knows more tells it soon; who does not need not tell what it knows (V). */
static void end_telling(struct step *step, struct peer *peer, bool knows_more)
{
    peer->telling = 0;
    if (!rule(step, STEP_RULE_HUSH))
        return;
    for (struct peer *other = step->peers; other; other = other->next)
        other->differs = 0; /* what they say next counts */
    step->tell_memory = 0;
    if (knows_more)
        tell_within(step, 0);
    else
        step->told_memory = step->now; /* as if it had been told from here */
}

/* Something is remembered here that the telling had not, or had of an older time. */
static bool knows_more_than(const struct step *step, const struct peer *teller)
{
    if (teller->tells_less)
        return true;
    for (const struct server *server = step->servers; server && !step->remembers_nothing; server = server->next)
        if (is_orphan(server) && server->told_in != teller->telling)
            return true;
    return false;
}

void orphans_known(struct step *step, struct peer *peer, const struct wire_known *known)
{
    if (step->deaf || !beat_heard_ourselves(step, 0))
        return; /* who seems silent to us may not be; it will be told again */
    if (!known->more && known->tag == JOINING_TAG)
        peer->asked = true;
    bool of_itself = known->tag == 0, ends = of_itself && !known->more;
    if (of_itself)
        note_telling(step, peer, known);
    bool knows_more = ends && knows_more_than(step, peer);
    for (size_t i = 0; i < known->count && known->tag <= JOINING_TAG; i++)
        if (!claim_is_none(&known->stands[i].claim))
            learn(step, peer, &known->stands[i]);
    if (ends)
        end_telling(step, peer, knows_more);
}

/* ------------------------------------------------------------------------------------------------------ settling -- */

void orphans_settle(struct step *step, struct server *server)
{
    presence_server_description known;
    if (server->role != THEIRS || !server->lapsed || server_holder_lives(server) || server->applying || step->deaf ||
        step->most_silent || !beat_heard_ourselves(step, 0) || !rule(step, STEP_RULE_HEIRS) ||
        step->now - beat_since(step, server->claimed_at) <= step->config.settle * MS ||
        !server_describe(step, server, &known) || known.inherited == 0 || known.forgotten)
        return;
    step_say(step, STEP_INFO, "settle", "server %s: %zu connections were never restated, and its node is silent",
             server->name, known.inherited);
    intake_drop_inherited(step, server);
}

/* ---------------------------------------------------------------------------------------------------- forgetting -- */

void orphans_forget(struct step *step, const struct wire_forget *forget)
{
    struct server *server = server_find(step, forget->server);
    presence_server_description known;
    if (!server || server->role != THEIRS || server_holder_lives(server) || !server_describe(step, server, &known))
        return;
    int order = presence_claim_compare(&forget->claim, &known.claim);
    if (order > 0 || (order == 0 && forget->number >= known.number && !known.forgotten))
        bury_at(step, server, &forget->claim, forget->number);
}

int step_forget(struct step *step, uint64_t now, const char *name)
{
    step->now = now > step->now ? now : step->now;
    struct server *server = server_find(step, name);
    presence_server_description known;
    if (!server || !server_describe(step, server, &known) || known.forgotten)
        return PRESENCE_E_NOT_FOUND;
    if (!is_orphan(server))
        return PRESENCE_E_STALE;
    bury_at(step, server, &known.claim, known.number);
    struct wire_message message = {.kind = WIRE_FORGET,
                                   .forget = {.server = name, .claim = known.claim, .number = known.number}};
    step_broadcast(step, STEP_STREAM, &message);
    return PRESENCE_OK;
}

/* Since when nobody states it: one whose node fell silent without a word, since that was heard last. Of a time in which
 * this node was deaf it cannot say who was silent (D). 0: not known. */
static uint64_t orphan_since(const struct step *step, const struct server *server)
{
    uint64_t since = server->orphaned || !server->holder ? server->orphaned : server->holder->heard;
    return since ? beat_since(step, since) : 0;
}

void orphans_by_age(struct step *step)
{
    uint64_t after = step->config.forget_after * MS,
             fence = rule(step, STEP_RULE_FENCE) ? step->config.tombstone * MS : 0;
    for (struct server *server = step->servers, *next; server; server = next) {
        next = server->next;
        if (!is_orphan(server))
            continue;
        if (server->forgotten_at) {
            presence_server_description known;
            if (step->now - server->forgotten_at <= fence || !server_describe(step, server, &known))
                continue;
            presence_replica_bury(step->recorder, known.forgotten_at + 1); /* W */
            server_forget(step, server);
            continue;
        }
        uint64_t since = orphan_since(step, server);
        if (after && !step->deaf && since && step->now - since > after)
            step_forget(step, step->now, server->name);
    }
}
