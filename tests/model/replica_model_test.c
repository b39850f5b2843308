/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_model_test.c - two recorders joined by a queue that loses, doubles and reorders.
 *
 * Story: given two nodes, each the origin of one server, when each makes random local changes, restarts with a newer
 * epoch and reused ids, or hands its server to another claimant of the same life, and the other is told of it by
 * messages that are lost, doubled, late and out of order, then at every step
 *   - under one claim their digests of a server are equal exactly when they hold the same of it;
 *   - at one claim and number they hold the same;
 *   - nothing of an older epoch reads alive once a newer one was seen;
 * and after repair all of it is equal. Gaps are repaired by presence_replica_changes where the history reaches back, by
 * what came since a revision, or else by a whole state. Last seen times and local lapses are told apart from contents.
 *
 *   replica_model_test [--seed S] [--seeds N] [--steps N]       each seed is printed before it runs
 */
#include "universe.h"

#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NODES = 2,
    IDS = 10,
    MARKS = 8,
    GONE = 64,
    QUEUE = 160,
    BATCH = 9,
    USUAL_SEEDS = 16,
    USUAL_STEPS = 10000,
    FRESH_SEEDS = 2
};

enum message_kind { MESSAGE_CHANGE, MESSAGE_STATE, MESSAGE_DIFFERENCE, MESSAGE_ACTIVITY };

/* What one node tells the other of the server that it states. */
struct message {
    enum message_kind kind;
    int server; /* and its origin: node 0 states server 0 */
    presence_claim claim;
    bool began_with_contents; /* the claim took connections in: only a whole state can begin it */
    uint64_t number;          /* CHANGE: the change's; the others: where the origin stood */
    uint64_t since;           /* DIFFERENCE: for who holds that number or a later one */
    uint64_t gone[GONE];
    size_t gone_count;
    presence_server_description described;
    presence_change change;
    uint64_t floor;
    presence_reason floor_reason;
    presence_time floor_time;
    presence_value values[IDS];
    size_t count, inherited; /* the last ones are of an older claim */
};

/* What was stated after that number was stated after that revision. */
struct mark {
    uint64_t number, revision;
};

struct node {
    presence_recorder *recorder;
    struct mark marks[MARKS]; /* of its claim, the newest first; all zero: none */
    presence_claim claim;     /* of the server that it states */
    bool began_with_contents;
    uint64_t told; /* its changes up to this number are in the queue, or were */
    presence_reason floor_reason;
    presence_time floor_time;
    size_t asks_again; /* as a receiver: the step from which on it asks again for what it misses */
};

struct world {
    uint64_t seed;
    size_t step;
    struct test_random random;
    struct fake_clock clock;
    struct node nodes[NODES];
    struct message *queue[QUEUE];
    size_t queued;
    size_t applied, gaps, states, differences, too_old, inherited, stales, restarts,
        batches; /* so that a run that proves nothing is seen */
};

/* What a node holds of a server, by id. */
struct held {
    bool known;
    presence_server_description described;
    struct {
        bool there, alive;
        struct shadow_facts facts;
    } ids[IDS];
};

#define want(world, condition, what) ((condition) ? (void)0 : differs((world), #condition, (what), __LINE__))

static void __attribute__((noreturn))
differs(const struct world *world, const char *condition, const char *what, int line)
{
    fprintf(stderr, "replica_model_test.c:%d: seed %llu, step %zu: %s: not %s\n", line, (unsigned long long)world->seed,
            world->step, what, condition);
    abort();
}

static unsigned below(struct world *world, unsigned bound)
{
    return (unsigned)test_random_below(&world->random, bound);
}

/* ------------------------------------------------------------------------------------------------- what nodes hold */

/* The connections stated under the claim, statuses as stated (where no lapse hides them). */
static struct held look(struct world *world, int node, int server)
{
    struct held held = {.known = false};
    presence_connections *state =
        presence_replica_state(world->nodes[node].recorder, universe_server(server), &held.described);
    if (state == NULL) {
        return held;
    }
    held.known = true;
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(state, &cursor, &value)) {
        int named;
        struct shadow_facts facts;
        want(world, universe_facts(&value, &named, &facts) && named == server && value.connection_id < IDS, "a state");
        want(world, !held.ids[value.connection_id].there, "an id once in a state");
        held.ids[value.connection_id].there = true;
        held.ids[value.connection_id].alive = value.status == PRESENCE_ALIVE;
        held.ids[value.connection_id].facts = facts;
    }
    presence_connections_free(state);
    return held;
}

static bool same_all(const struct held *a, const struct held *b)
{
    for (int id = 0; id < IDS; id++) {
        if (a->ids[id].there != b->ids[id].there ||
            (a->ids[id].there && !shadow_facts_equal(&a->ids[id].facts, &b->ids[id].facts))) {
            return false;
        }
    }
    return true;
}

static bool same_alive(const struct held *a, const struct held *b)
{
    for (int id = 0; id < IDS; id++) {
        bool alive = a->ids[id].there && a->ids[id].alive;
        if (alive != (b->ids[id].there && b->ids[id].alive) ||
            (alive && !shadow_facts_equal(&a->ids[id].facts, &b->ids[id].facts))) {
            return false;
        }
    }
    return true;
}

/* User data tells the epoch in which a connection was made: alive rows are never of an older one. */
static void check_epochs(struct world *world, int node, int server, const struct held *held)
{
    presence_connections *view = presence_recorder_connections(world->nodes[node].recorder);
    presence_connections *slice = presence_connections_for_server(view, universe_server(server));
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(slice, &cursor, &value)) {
        if (value.status == PRESENCE_ALIVE) {
            want(world, universe_data_of(value.user_data) == (int)(held->described.claim.epoch % SHADOW_DATA),
                 "a connection of an older epoch is not alive");
            want(world, !held->described.lapsed, "nothing of a lapsed server is alive");
        }
    }
    presence_connections_free(slice);
    presence_connections_free(view);
}

static void compare_server(struct world *world, int server)
{
    struct held held[NODES];
    for (int node = 0; node < NODES; node++) {
        presence_error error = {0};
        held[node] = look(world, node, server);
        want(world, presence_recorder_check(world->nodes[node].recorder, &error) == PRESENCE_OK, error.message);
        if (held[node].known) {
            check_epochs(world, node, server, &held[node]);
        }
    }
    if (!held[0].known || !held[1].known ||
        presence_claim_compare(&held[0].described.claim, &held[1].described.claim) != 0) {
        return;
    }
    const presence_digest *a = &held[0].described.digest, *b = &held[1].described.digest;
    bool lapsed = held[0].described.lapsed || held[1].described.lapsed;
    want(world, (a->all == b->all) == same_all(&held[0], &held[1]), "digests of all tell contents apart");
    if (!lapsed) {
        want(world, (a->alive == b->alive) == same_alive(&held[0], &held[1]),
             "digests of the alive tell contents apart");
    }
    if (held[0].described.number == held[1].described.number) {
        want(world, a->all == b->all && a->alive == b->alive, "one number, one content");
        want(world, same_all(&held[0], &held[1]), "one number, one content by walking");
    }
}

/* ------------------------------------------------------------------------------------------------------- the queue */

static void send_message(struct world *world, const struct message *message)
{
    if (world->queued == QUEUE) { /* full: the oldest is lost */
        free(world->queue[0]);
        memmove(world->queue, world->queue + 1, (QUEUE - 1) * sizeof world->queue[0]);
        world->queued--;
    }
    struct message *copy = malloc(sizeof *copy);
    must(copy != NULL);
    *copy = *message;
    world->queue[world->queued++] = copy;
}

/* The strings of a message are the universe's, so that it may be kept. */
static presence_value own_strings(struct world *world, const presence_value *value)
{
    int server;
    struct shadow_facts facts;
    want(world, universe_facts(value, &server, &facts), "a value of the universe");
    presence_value own = universe_value(server, (unsigned)value->connection_id, &facts);
    own.status = value->status;
    own.last_seen = value->last_seen;
    return own;
}

/* The whole state of the origin, as it stands now. */
static struct message state_of(struct world *world, int server)
{
    struct node *origin = &world->nodes[server];
    struct message message = {.kind = MESSAGE_STATE,
                              .server = server,
                              .began_with_contents = origin->began_with_contents,
                              .floor_reason = origin->floor_reason,
                              .floor_time = origin->floor_time};
    presence_server_description described;
    presence_connections *state = presence_replica_state(origin->recorder, universe_server(server), &described);
    want(world, state != NULL, "the origin's state");
    message.claim = described.claim;
    message.number = described.number;
    message.floor = described.floor;
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(state, &cursor, &value)) {
        want(world, message.count < IDS, "no more connections than ids");
        message.values[message.count++] = own_strings(world, &value);
    }
    presence_connections *inherited = presence_replica_inherited(state);
    cursor = (presence_cursor){{0}};
    while (presence_connections_next(inherited, &cursor, &value)) {
        want(world, message.count < IDS, "no more connections than ids");
        message.values[message.count++] = own_strings(world, &value);
        message.inherited++;
    }
    want(world, message.inherited == described.inherited, "what is inherited, as it is described");
    if (described.floor_reason != PRESENCE_REASON_NONE) {
        message.floor_reason = described.floor_reason;
        message.floor_time = described.floor_time;
    }
    presence_connections_free(inherited);
    presence_connections_free(state);
    return message;
}

static void note_mark(struct world *world, int server)
{
    struct node *origin = &world->nodes[server];
    uint64_t revision = presence_recorder_revision(origin->recorder);
    struct held held = look(world, server, server);
    memmove(origin->marks + 1, origin->marks, (MARKS - 1) * sizeof origin->marks[0]);
    origin->marks[0] = (struct mark){held.described.number, revision};
}

/* What came since the mark that this number is not before; false: it is too old for one, or what came is. */
static bool difference_of(struct world *world, int server, uint64_t number, struct message *message)
{
    struct node *origin = &world->nodes[server];
    int mark = 0;
    while (mark < MARKS && (origin->marks[mark].revision == 0 || origin->marks[mark].number > number)) {
        mark++;
    }
    if (mark == MARKS) {
        return false;
    }
    *message = (struct message){
        .kind = MESSAGE_DIFFERENCE, .server = server, .claim = origin->claim, .since = origin->marks[mark].number};
    presence_connections *view = NULL;
    int code = presence_replica_difference(origin->recorder, universe_server(server), origin->marks[mark].revision,
                                           &message->described, message->gone, GONE, &message->gone_count, &view);
    want(world, code == PRESENCE_OK || code == PRESENCE_E_LAGGED, "what came since, or that it is not known");
    if (code != PRESENCE_OK) {
        world->too_old++;
        return false;
    }
    message->number = message->described.number;
    if (message->described.alive < message->described.connections) {
        message->described.floor_reason = origin->floor_reason;
        message->described.floor_time = origin->floor_time;
    }
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(view, &cursor, &value)) {
        want(world, message->count < IDS, "no more connections than ids");
        message->values[message->count++] = own_strings(world, &value);
    }
    presence_connections_free(view);
    return true;
}

/* Sends every change of the origin after `after`; a whole state where they are not kept. Returns where it stands. */
static void send_changes(struct world *world, int server, uint64_t after)
{
    struct node *origin = &world->nodes[server];
    presence_change_reader *reader = NULL;
    int code = presence_replica_changes(origin->recorder, universe_server(server), after, &reader);
    struct message message = {.kind = MESSAGE_CHANGE,
                              .server = server,
                              .claim = origin->claim,
                              .began_with_contents = origin->began_with_contents};
    uint64_t expected = after;
    while (code == PRESENCE_OK) {
        int got = presence_change_next(reader, &message.change);
        if (got != 1) {
            code = got == 0 ? 0 : got;
            break;
        }
        want(world, message.change.number == ++expected, "changes come in order, none left out");
        message.number = message.change.number;
        if (message.change.kind == PRESENCE_CHANGE_CONNECT) {
            message.change.value = own_strings(world, &message.change.value);
        } else {
            uint64_t id = message.change.value.connection_id;
            message.change.value = (presence_value){.connection_id = id};
        }
        send_message(world, &message);
    }
    presence_change_reader_free(reader);
    if (code != PRESENCE_OK) {
        want(world, code == PRESENCE_E_LAGGED, "changes are there, or not kept");
        message = state_of(world, server);
        send_message(world, &message);
    }
}

/* ----------------------------------------------------------------------------------------------------- the receiver */

static void receive_state(struct world *world, const struct message *message)
{
    struct node *receiver = &world->nodes[1 - message->server];
    const char *server = universe_server(message->server);
    struct held before = look(world, 1 - message->server, message->server);
    int order = before.known ? presence_claim_compare(&message->claim, &before.described.claim) : 1;
    presence_error error = {0};
    int code = presence_replica_apply_incomplete(receiver->recorder, server, &message->claim, message->number,
                                                 message->floor, message->floor_reason, message->floor_time,
                                                 message->values, message->count, message->inherited, &error);
    bool stale = order < 0 || (order == 0 && message->number < before.described.number);
    want(world, code == (stale ? PRESENCE_E_STALE : PRESENCE_OK), "a state is taken unless it is older");
    struct held after = look(world, 1 - message->server, message->server);
    want(world,
         stale || (after.described.inherited == message->inherited && after.described.complete == !message->inherited),
         "what is inherited comes with a state");
    world->inherited += message->inherited;
    world->states += !stale;
    world->stales += stale;
}

static void receive_difference(struct world *world, const struct message *message)
{
    int node = 1 - message->server;
    struct held before = look(world, node, message->server);
    const presence_server_description *here = &before.described;
    int order = before.known ? presence_claim_compare(&message->claim, &here->claim) : 1;
    int expected = order > 0                                                    ? PRESENCE_E_GAP
                   : order < 0 || here->local || message->number < here->number ? PRESENCE_E_STALE
                   : here->number < message->since || here->inherited > 0       ? PRESENCE_E_GAP
                                                                                : PRESENCE_OK;
    int code = presence_replica_apply_difference(world->nodes[node].recorder, universe_server(message->server),
                                                 message->since, &message->described, message->values, message->count,
                                                 message->gone, message->gone_count, NULL);
    want(world, code == expected, "a difference is taken by who holds what it is from");
    struct held after = look(world, node, message->server);
    want(world,
         code == PRESENCE_OK ? after.described.number == message->number && after.described.complete
                             : memcmp(here, &after.described, sizeof *here) == 0 && same_all(&before, &after),
         "all of a difference, or nothing");
    world->differences += code == PRESENCE_OK && message->number > here->number;
}

static void receive_change(struct world *world, const struct message *message)
{
    struct node *receiver = &world->nodes[1 - message->server];
    const char *server = universe_server(message->server);
    struct held before = look(world, 1 - message->server, message->server);
    int order = before.known ? presence_claim_compare(&message->claim, &before.described.claim) : 1;
    bool applied = false;
    int code = presence_replica_apply(receiver->recorder, server, &message->claim, &message->change, &applied, NULL);
    if (order < 0) {
        want(world, code == PRESENCE_E_STALE, "a late change of an older claim is stale");
        world->stales++;
        return;
    }
    if (order > 0) {
        want(world, code == PRESENCE_E_GAP, "a change of an unknown claim is a gap");
        if (message->began_with_contents) {
            struct message state = state_of(world, message->server);
            receive_state(world, &state);
            return;
        }
        want(world, presence_replica_claim(receiver->recorder, server, &message->claim, false) == PRESENCE_OK,
             "a claim");
        before = look(world, 1 - message->server, message->server);
        code = presence_replica_apply(receiver->recorder, server, &message->claim, &message->change, &applied, NULL);
    }
    uint64_t number = before.described.number;
    if (message->number > number + 1) {
        want(world, code == PRESENCE_E_GAP && !applied, "a change ahead is a gap");
        world->gaps++;
        bool same_claim = presence_claim_compare(&message->claim, &world->nodes[message->server].claim) == 0;
        if (world->step < world->nodes[1 - message->server].asks_again) {
            return; /* the answer to its last question may be on its way */
        }
        world->nodes[1 - message->server].asks_again = world->step + 40;
        struct message difference;
        if (same_claim && below(world, 2) == 0 && difference_of(world, message->server, number, &difference)) {
            send_message(world, &difference);
        } else if (same_claim && below(world, 3) != 0) {
            send_changes(world, message->server, number);
        } else if (same_claim) {
            struct message state = state_of(world, message->server);
            send_message(world, &state);
        }
        return;
    }
    bool next = message->number == number + 1, says_nothing = message->change.kind == PRESENCE_CHANGE_DISCONNECT;
    want(world, code == PRESENCE_OK && (applied == next || (next && says_nothing)),
         "the next one, or one seen already");
    world->applied += applied;
}

/* Several changes of one claim, as they lie in the queue from there on, in one call: as one by one, up to the first
 * that cannot be. That one is then received by itself. */
static void receive_changes(struct world *world, size_t at)
{
    struct message first = *world->queue[at], last = first;
    presence_change changes[BATCH];
    size_t places[BATCH], count = 0, most = 1 + below(world, BATCH);
    for (size_t next = at; next < world->queued && count < most; next++) {
        const struct message *message = world->queue[next];
        if (message->kind == MESSAGE_CHANGE && message->server == first.server &&
            presence_claim_compare(&message->claim, &first.claim) == 0) {
            places[count] = next;
            changes[count++] = message->change;
        }
    }
    int node = 1 - first.server;
    struct held before = look(world, node, first.server);
    int order = before.known ? presence_claim_compare(&first.claim, &before.described.claim) : 1;
    int expected = order < 0 ? PRESENCE_E_STALE : order > 0 ? PRESENCE_E_GAP : PRESENCE_OK;
    uint64_t number = before.known ? before.described.number : 0;
    size_t fits = 0, taken = 999;
    while (expected == PRESENCE_OK && fits < count) {
        expected = changes[fits].number > number + 1 ? PRESENCE_E_GAP : PRESENCE_OK;
        number += changes[fits].number == number + 1;
        fits += expected == PRESENCE_OK;
    }
    int code = presence_replica_apply_many(world->nodes[node].recorder, universe_server(first.server), &first.claim,
                                           changes, count, &taken, NULL);
    want(world, code == expected && taken == fits, "many changes are taken as one by one");
    struct held after = look(world, node, first.server);
    want(world, after.known == before.known && (!after.known || after.described.number == number), "the last number");
    world->applied += number - (before.known ? before.described.number : 0);
    world->batches += taken > 1;
    if (code != PRESENCE_OK) {
        last = *world->queue[places[taken]];
    }
    for (size_t next = taken + (code != PRESENCE_OK); next > 0; next--) {
        free(world->queue[places[next - 1]]);
        memmove(world->queue + places[next - 1], world->queue + places[next - 1] + 1,
                (world->queued - places[next - 1] - 1) * sizeof world->queue[0]);
        world->queued--;
    }
    if (code != PRESENCE_OK) {
        receive_change(world, &last);
    }
}

static void receive_activity(struct world *world, const struct message *message)
{
    struct node *receiver = &world->nodes[1 - message->server];
    int node = 1 - message->server;
    struct held before = look(world, node, message->server);
    int code = presence_replica_activity(receiver->recorder, universe_server(message->server), &message->claim,
                                         message->number, message->change.value.connection_id, 77);
    struct held after = look(world, node, message->server);
    int order = before.known ? presence_claim_compare(&message->claim, &before.described.claim) : 0;
    want(world, before.known == after.known, "activity makes no server");
    want(world,
         code == PRESENCE_OK || code == PRESENCE_E_NOT_FOUND || code == PRESENCE_E_STALE || code == PRESENCE_E_GAP,
         "activity's codes");
    want(world, !(order < 0 && before.known) || code == PRESENCE_E_STALE, "activity of an older claim is stale");
    want(world,
         memcmp(&before.described.digest, &after.described.digest, sizeof after.described.digest) == 0 &&
             before.described.number == after.described.number,
         "activity is in no digest and no number");
}

static void deliver(struct world *world)
{
    if (world->queued == 0) {
        return;
    }
    /* Mostly the oldest or one of the next, now and then any. */
    unsigned reach = below(world, 16) == 0 ? QUEUE : below(world, 4) == 0 ? 6 : 1;
    size_t at = below(world, reach < world->queued ? reach : (unsigned)world->queued);
    struct message *message = world->queue[at];
    if (message->kind == MESSAGE_CHANGE && below(world, 8) == 0) {
        receive_changes(world, at);
        return;
    }
    unsigned fate = below(world, 24);
    if (fate >= 1) { /* 0: lost */
        if (message->kind == MESSAGE_CHANGE) {
            receive_change(world, message);
        } else if (message->kind == MESSAGE_STATE) {
            receive_state(world, message);
        } else if (message->kind == MESSAGE_DIFFERENCE) {
            receive_difference(world, message);
        } else {
            receive_activity(world, message);
        }
    }
    if (fate != 1) {                                          /* 1: it will come again */
        for (size_t next = 0; next < world->queued; next++) { /* the queue may have moved */
            if (world->queue[next] == message) {
                memmove(world->queue + next, world->queue + next + 1,
                        (world->queued - next - 1) * sizeof world->queue[0]);
                world->queued--;
                free(message);
                return;
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------------------- the origin */

static presence_recorder *new_recorder(struct world *world)
{
    presence_options options;
    presence_options_init(&options);
    options.clock = fake_clock_interface(&world->clock);
    options.history_bytes = 512 * 1024;
    presence_recorder *recorder = presence_recorder_new_with(&options, NULL);
    must(recorder != NULL);
    presence_recorder_enable(recorder);
    return recorder;
}

static struct shadow_facts some_facts(struct world *world, const struct node *origin)
{
    return (struct shadow_facts){.model = (int)below(world, 2),
                                 .agent = (int)below(world, 4),
                                 .data = (int)(origin->claim.epoch % SHADOW_DATA),
                                 .controller = below(world, 8) == 0};
}

static void state_list(struct world *world, int server, bool merges)
{
    struct node *origin = &world->nodes[server];
    presence_value values[IDS];
    size_t count = 0;
    for (unsigned id = 0; id < IDS; id++) {
        if (below(world, 2) == 0) {
            struct shadow_facts facts = some_facts(world, origin);
            values[count++] = universe_value(server, id, &facts);
        }
    }
    const char *name = universe_server(server);
    int code = merges ? presence_recorder_merge_server(origin->recorder, name, values, count, NULL)
                      : presence_recorder_update_server(origin->recorder, name, values, count, NULL);
    want(world, code == PRESENCE_OK, "a list of one's own server");
}

static void change_origin(struct world *world, int server)
{
    struct node *origin = &world->nodes[server];
    const char *name = universe_server(server);
    unsigned id = below(world, IDS);
    unsigned what = below(world, 40);
    struct shadow_facts facts = some_facts(world, origin);
    presence_value value = universe_value(server, id, &facts);
    int code = PRESENCE_OK;
    if (what < 20) {
        code = presence_recorder_connect_handle(origin->recorder, &value, NULL, NULL, NULL);
    } else if (what < 30) {
        code = presence_recorder_disconnect(origin->recorder, name, id);
    } else if (what < 33) {
        bool drains = below(world, 2) == 0;
        origin->floor_reason = drains ? PRESENCE_REASON_DRAINED : PRESENCE_REASON_SERVER_DOWN;
        origin->floor_time = fake_clock_now(&world->clock);
        code = presence_recorder_server_down_because(origin->recorder, name, origin->floor_reason, NULL);
    } else if (what < 35) {
        state_list(world, server, what == 34);
    } else if (what < 36) {
        code = presence_replica_complete(origin->recorder, name, NULL);
    } else {
        code = presence_recorder_activity(origin->recorder, name, id);
        presence_server_description described;
        want(world, presence_replica_describe(origin->recorder, name, &described) == PRESENCE_OK, "one's own server");
        struct message message = {.kind = MESSAGE_ACTIVITY,
                                  .server = server,
                                  .claim = origin->claim,
                                  .number = described.number,
                                  .change = {.value = {.connection_id = id}}};
        send_message(world, &message);
    }
    want(world, code == PRESENCE_OK || code == PRESENCE_E_NOT_FOUND, "a local change of one's own server");
}

/* Tells the other node what is new. */
static void tell(struct world *world, int server)
{
    struct node *origin = &world->nodes[server];
    presence_server_description described;
    want(world, presence_replica_describe(origin->recorder, universe_server(server), &described) == PRESENCE_OK,
         "one's own");
    want(world, described.local && presence_claim_compare(&described.claim, &origin->claim) == 0, "one's own claim");
    if (described.number > origin->told) {
        send_changes(world, server, origin->told);
        origin->told = described.number;
    }
}

static void claim_own(struct world *world, int server, presence_claim claim)
{
    struct node *origin = &world->nodes[server];
    origin->claim = claim;
    origin->told = 0;
    memset(origin->marks, 0, sizeof origin->marks);
    origin->floor_reason = PRESENCE_REASON_SERVER_DOWN;
    origin->floor_time = fake_clock_now(&world->clock);
    int code = presence_replica_claim(origin->recorder, universe_server(server), &claim, true);
    want(world, code == PRESENCE_OK, "a larger claim of one's own");
    struct held held = look(world, server, server);
    origin->began_with_contents = held.described.connections > 0;
}

/* The process is another one: a newer life with reused ids, or the same life stated by another claimant. What it knew
 * of the other node's server is gone too, and comes back by repair. */
static void restart(struct world *world, int server, bool newer_life)
{
    struct node *origin = &world->nodes[server];
    presence_claim claim = origin->claim;
    presence_recorder_free(origin->recorder);
    origin->recorder = new_recorder(world);
    claim_own(world, server,
              newer_life ? (presence_claim){claim.epoch + 1, below(world, 2), 1 + below(world, 100)}
                         : (presence_claim){claim.epoch, claim.turn + 1, below(world, 100)});
    world->restarts++;
    if (below(world, 2) == 0) {
        state_list(world, server, false);
    }
}

/* The same process states a newer life; or the same life again, after another had it: what it holds is inherited. */
static void claim_over(struct world *world, int server, bool newer_life)
{
    presence_claim claim = world->nodes[server].claim;
    if (newer_life) {
        claim_own(world, server, (presence_claim){claim.epoch + 1, below(world, 2), 1 + below(world, 100)});
        return;
    }
    claim.turn++;
    want(world,
         presence_replica_claim(world->nodes[server].recorder, universe_server(server), &claim, false) == PRESENCE_OK,
         "another's larger claim");
    claim_own(world, server, (presence_claim){claim.epoch, claim.turn + 1, below(world, 100)});
}

/* The same process claims a larger turn: what it holds is taken in. */
static void claim_again(struct world *world, int server)
{
    presence_claim claim = world->nodes[server].claim;
    claim_own(world, server, (presence_claim){claim.epoch, claim.turn + 1, below(world, 100)});
}

/* -------------------------------------------------------------------------------------------------------- the world */

static void disturb_receiver(struct world *world, int server)
{
    struct node *receiver = &world->nodes[1 - server];
    const char *name = universe_server(server);
    struct held held = look(world, 1 - server, server);
    if (!held.known) {
        return;
    }
    unsigned what = below(world, 3);
    if (what == 0) {
        want(world, presence_replica_lapse(receiver->recorder, name) == PRESENCE_OK, "a lapse");
    } else if (what == 1) {
        want(world, presence_replica_restore(receiver->recorder, name) == PRESENCE_OK, "a restore");
    } else {
        int code = presence_recorder_connect(receiver->recorder, name, "m", "a", 3, false, NULL);
        want(world, code == PRESENCE_E_STALE, "a local write to a server claimed elsewhere is stale");
    }
    struct held after = look(world, 1 - server, server);
    want(world, memcmp(&held.described.digest, &after.described.digest, sizeof after.described.digest) == 0,
         "a lapse is in no digest");
}

static void make_step(struct world *world)
{
    int server = (int)below(world, NODES);
    fake_clock_advance(&world->clock, (presence_time)below(world, 5));
    unsigned what = below(world, 1000);
    if (what < 400) {
        change_origin(world, server);
        tell(world, server);
        if (below(world, 8) == 0) {
            note_mark(world, server);
        }
    } else if (what < 960) {
        deliver(world);
    } else if (what < 985) {
        disturb_receiver(world, server);
    } else if (what < 990) {
        claim_again(world, server);
    } else if (what < 993) {
        restart(world, server, true);
    } else if (what < 995) {
        restart(world, server, false);
    } else if (what < 997) {
        claim_over(world, server, what == 995);
    } else {
        struct message state = state_of(world, server);
        send_message(world, &state);
    }
}

/* Whatever was lost: whole states where the numbers differ, restored, and all is equal. */
static void repair(struct world *world)
{
    for (int server = 0; server < NODES; server++) {
        struct held own = look(world, server, server), other = look(world, 1 - server, server);
        bool same_claim = other.known && presence_claim_compare(&own.described.claim, &other.described.claim) == 0;
        struct message difference;
        if (same_claim && other.described.inherited == 0 &&
            difference_of(world, server, other.described.number, &difference)) {
            receive_difference(world, &difference);
        } else if (!same_claim || own.described.number != other.described.number) {
            struct message state = state_of(world, server);
            receive_state(world, &state);
        }
        presence_recorder *receiver = world->nodes[1 - server].recorder;
        want(world, presence_replica_restore(receiver, universe_server(server)) == PRESENCE_OK, "a restore");
        own = look(world, server, server);
        other = look(world, 1 - server, server);
        want(world, same_all(&own, &other) && same_alive(&own, &other), "after repair all is equal");
        want(world, memcmp(&own.described.digest, &other.described.digest, sizeof own.described.digest) == 0,
             "after repair digests are equal");
        want(world, own.described.number == other.described.number, "after repair numbers are equal");
    }
}

static void run(uint64_t seed, size_t steps)
{
    struct world world = {.seed = seed};
    printf("replica_model_test --seed %llu --steps %zu\n", (unsigned long long)seed, steps);
    fflush(stdout);
    test_random_seed(&world.random, seed);
    fake_clock_set(&world.clock, 1000);
    for (int server = 0; server < NODES; server++) {
        world.nodes[server].recorder = new_recorder(&world);
        claim_own(&world, server, (presence_claim){1, 0, 1 + below(&world, 100)});
    }
    for (world.step = 0; world.step < steps; world.step++) {
        make_step(&world);
        compare_server(&world, 0);
        compare_server(&world, 1);
        if (world.step % 500 == 499) {
            repair(&world);
        }
    }
    repair(&world);
    printf("applied %zu, batches %zu, gaps %zu, states %zu, differences %zu (%zu too old), inherited %zu, ",
           world.applied, world.batches, world.gaps, world.states, world.differences, world.too_old, world.inherited);
    printf("stale %zu, restarts %zu\n", world.stales, world.restarts);
    fflush(stdout);
    want(&world,
         steps < USUAL_STEPS ||
             (world.applied > 500 && world.gaps > 10 && world.states > 10 && world.stales > 10 &&
              world.differences > 10 && world.too_old > 10 && world.restarts > 5 && world.batches > 10),
         "the run met all that it is for");
    for (size_t at = 0; at < world.queued; at++) {
        free(world.queue[at]);
    }
    for (int node = 0; node < NODES; node++) {
        presence_recorder_free(world.nodes[node].recorder);
    }
}

int main(int count, char **words)
{
    uint64_t seed = 0, seeds = USUAL_SEEDS, steps = USUAL_STEPS;
    bool one = false;
    for (int at = 1; at < count; at += 2) {
        uint64_t *number = strcmp(words[at], "--seed") == 0    ? &seed
                           : strcmp(words[at], "--seeds") == 0 ? &seeds
                           : strcmp(words[at], "--steps") == 0 ? &steps
                                                               : NULL;
        if (number == NULL || at + 1 == count) {
            fprintf(stderr, "usage: replica_model_test [--seed S] [--seeds N] [--steps N]\n");
            return 2;
        }
        *number = strtoull(words[at + 1], NULL, 0);
        one = one || number == &seed;
    }
    if (one) {
        run(seed, steps);
        return 0;
    }
    for (seed = 1; seed <= seeds; seed++) {
        run(seed, steps);
    }
    for (int at = 0; at < FRESH_SEEDS; at++) {
        run(test_random_fresh_seed() >> 16, steps);
    }
    printf("replica_model_test: no difference\n");
    return 0;
}
