/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tell.c - what a node says of itself and its view: freshness, peers, counters, answers to other nodes' questions.
 */
#include "cluster/inside.h"

enum { EVIDENCE_MOST_CONNECTIONS = 256, STANDS_A_MESSAGE = 128 };

/* ----------------------------------------------------------------------------------------------------- freshness -- */

static void of_node(const struct step *step, struct step_freshness *out)
{
    if (!step->ready) {
        out->doubt = STEP_JOINING;
        out->since = step->started;
    } else if (step->deaf) {
        out->doubt = STEP_DEAF;
        out->since = step->doubt_since;
    } else if (step->most_silent) {
        out->doubt = STEP_SILENT;
        out->since = step->silent_since;
    }
}

/* Whether what is here is the last that its holder said before it left on purpose: nothing newer can be missed. */
static bool is_last_word(const struct step *step, const struct server *server)
{
    presence_server_description known;
    return server->last_word && server_describe((struct step *)(uintptr_t)step, server, &known) &&
           known.number == server->told.number && presence_claim_compare(&known.claim, &server->told.claim) == 0;
}

bool step_all_fresh(const struct step *step)
{
    struct step_freshness whole = {0};
    of_node(step, &whole);
    bool fresh = whole.doubt == STEP_FRESH && step->orphans == 0;
    for (const struct peer *peer = step->peers; fresh && peer; peer = peer->next)
        fresh = !peer->silent || peer->servers == 0;
    return fresh;
}

void step_freshness(const struct step *step, uint64_t now, const char *name, struct step_freshness *out)
{
    (void)now;
    *out = (struct step_freshness){0};
    of_node(step, out);
    const struct server *server = name ? server_find((struct step *)(uintptr_t)step, name) : NULL;
    if (!server)
        return;
    if (server->role == OURS) {
        *out = (struct step_freshness){0}; /* who states it cannot be wrong about it */
        copy_node(out->node, step->config.node);
        return;
    }
    if (server->holder)
        copy_node(out->node, server->holder->node);
    if (server->role == THEIRS && !server_holder_lives(server) && !is_last_word(step, server)) {
        out->doubt = STEP_SILENT;
        out->since = server->holder && !server->orphaned ? server->holder->heard : server->orphaned;
    }
}

size_t step_peers(const struct step *step, struct step_peer *peers, size_t most)
{
    size_t count = 0;
    for (const struct peer *peer = step->peers; peer; peer = peer->next) {
        if (peer->left || peer->sequence == 0)
            continue;
        if (count < most) {
            struct step_peer *out = &peers[count];
            *out = (struct step_peer){.run = peer->run,
                                      .heard = peer->heard,
                                      .servers = peer->servers,
                                      .silent = peer->silent,
                                      .joining = peer->joining};
            copy_node(out->node, peer->node);
        }
        count++;
    }
    return count;
}

void step_counters(const struct step *step, struct step_counters *out)
{
    *out = step->counters;
}

/* ------------------------------------------------------------------------------------------------------- answers -- */

typedef void (*answer_function)(struct step *, void *, struct wire_message *);

static void all_stands(struct step *step, uint64_t tag, answer_function give, void *to)
{
    struct wire_stand stands[STANDS_A_MESSAGE];
    struct wire_message message = {.kind = WIRE_KNOWN, .known = {.tag = tag, .stands = stands}};
    for (struct server *server = step->servers; server; server = server->next) {
        presence_server_description known;
        if (!server_describe(step, server, &known))
            continue;
        struct wire_stand *stand = &stands[message.known.count++];
        describe_stand(server->name, &known, stand);
        stand->holder = server->role == OURS ? step->config.node : server->holder ? server->holder->node : "";
        if (message.known.count == STANDS_A_MESSAGE) {
            message.known.more = true;
            give(step, to, &message);
            message.known.count = 0;
        }
    }
    message.known.more = false;
    give(step, to, &message);
}

static size_t list_connections(struct step *step, presence_connections *slice, struct wire_connection *connections)
{
    presence_cursor cursor = {0};
    presence_value value;
    size_t count = 0;
    while (count < EVIDENCE_MOST_CONNECTIONS && presence_connections_next(slice, &cursor, &value)) {
        const struct server *server = server_find(step, value.server);
        struct step_freshness freshness;
        step_freshness(step, step->now, value.server, &freshness);
        connections[count++] = (struct wire_connection){.server = value.server,
                                                        .holder = !server                ? ""
                                                                  : server->role == OURS ? step->config.node
                                                                  : server->holder       ? server->holder->node
                                                                                         : "",
                                                        .id = value.connection_id,
                                                        .controller = value.controller_agent,
                                                        .missing = value.status == PRESENCE_MISSING,
                                                        .stale = freshness.doubt != STEP_FRESH,
                                                        .last_seen = value.last_seen};
    }
    return count;
}

static void evidence_of(struct step *step, const struct wire_ask *ask, answer_function give, void *to)
{
    presence_evidence evidence;
    if (presence_recorder_agent_evidence(step->recorder, ask->model, ask->agent, &evidence) != PRESENCE_OK)
        return;
    struct wire_connection *connections = calloc(EVIDENCE_MOST_CONNECTIONS, sizeof *connections);
    presence_connections *all = presence_recorder_connections(step->recorder);
    presence_connections *model = all ? presence_connections_for_model(all, ask->model) : NULL;
    presence_connections *slice = model ? presence_connections_for_agent(model, ask->agent) : NULL;
    if (slice && connections) {
        struct step_freshness freshness;
        step_freshness(step, step->now, NULL, &freshness);
        struct wire_message message = {.kind = WIRE_EVIDENCE,
                                       .evidence = {.tag = ask->tag,
                                                    .model = ask->model,
                                                    .agent = ask->agent,
                                                    .status = evidence.status,
                                                    .reason = evidence.reason,
                                                    .since = evidence.since,
                                                    .last_seen = evidence.last_seen,
                                                    .stale = freshness.doubt != STEP_FRESH,
                                                    .connections = connections,
                                                    .count = list_connections(step, slice, connections),
                                                    .total = presence_connections_count(slice)}};
        give(step, to, &message);
    }
    presence_connections_free(slice);
    presence_connections_free(model);
    presence_connections_free(all);
    free(connections);
}

static void give_to_node(struct step *step, void *to, struct wire_message *message)
{
    step_send(step, to, message);
}

void tell_ask(struct step *step, const struct wire_message *message)
{
    const struct wire_ask *ask = &message->ask;
    void *node = (void *)(uintptr_t)message->node;
    struct server *server = ask->server[0] ? server_find(step, ask->server) : NULL;
    switch (ask->question) {
    case WIRE_ASK_CHANGES:
        ours_answer_changes(step, message);
        return;
    case WIRE_ASK_STATE:
        if (server)
            transfer_ask(step, server, ask);
        return;
    case WIRE_ASK_KNOWN:
        orphans_tell(step, message->node, ask->tag, ask->server[0] ? ask->server : NULL);
        return;
    case WIRE_ASK_STANDS:
        all_stands(step, ask->tag, give_to_node, node);
        return;
    case WIRE_ASK_AGENT:
        evidence_of(step, ask, give_to_node, node);
        return;
    }
}

/* ---------------------------------------------------------------------------------------------- asking ourselves -- */

static void give_to_asker(struct step *step, void *to, struct wire_message *message)
{
    const struct question *question = to;
    message->node = step->config.node;
    message->run = step->run;
    question->told(question->context, message);
}

int step_ask(struct step *step, uint64_t now, uint64_t until, const char *model, const char *agent,
             void (*told)(void *context, const struct wire_message *answer), void *context)
{
    step->now = now > step->now ? now : step->now;
    struct question *question = malloc(sizeof *question);
    if (!question)
        return PRESENCE_E_NO_MEMORY;
    *question = (struct question){step->questions, step_random(step), until, told, context};
    step->questions = question;
    struct wire_message message = {.kind = WIRE_ASK,
                                   .ask = {.question = model ? WIRE_ASK_AGENT : WIRE_ASK_STANDS,
                                           .server = "",
                                           .model = model,
                                           .agent = agent,
                                           .tag = question->tag}};
    for (const struct peer *peer = step->peers; peer; peer = peer->next)
        if (!peer->silent && !peer->left && peer->sequence != 0)
            step_send(step, peer->node, &message);
    if (model)
        evidence_of(step, &message.ask, give_to_asker, question);
    else
        all_stands(step, question->tag, give_to_asker, question);
    return PRESENCE_OK;
}

void tell_answer(struct step *step, const struct wire_message *message, uint64_t tag)
{
    for (const struct question *question = step->questions; question && tag > JOINING_TAG; question = question->next)
        if (question->tag == tag)
            question->told(question->context, message);
}

uint64_t tell_run(struct step *step)
{
    uint64_t due = NEVER;
    for (struct question **link = &step->questions; *link;) {
        struct question *question = *link;
        if (question->until <= step->now) {
            static const struct wire_message over = {0};
            *link = question->next;
            question->told(question->context, &over);
            free(question);
            continue;
        }
        due = question->until < due ? question->until : due;
        link = &question->next;
    }
    return due;
}

void tell_free(struct step *step)
{
    while (step->questions) {
        struct question *next = step->questions->next;
        free(step->questions);
        step->questions = next;
    }
}
