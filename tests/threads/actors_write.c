/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actors_write.c - those who change the record: writers on servers of their own and on shared ones, and a node that
 * replicates a server.
 *
 * Keeps true: of its own server, which no other thread writes, a writer knows every connection; so a call on it has one
 * right answer, and the stage compares all of it in the end. On shared servers a connection may or may not be there.
 */
#include "actors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a writer acts: its own server, of which it knows all, or a shared one. */
struct place {
    char server[TEST_NAME_BYTES];
    struct shadow *shadow; /* NULL: shared */
};

static struct place choose_place(struct actor *actor)
{
    struct place place = {.shadow = NULL};
    size_t index = WRITERS + test_random_below(&actor->random, SHARED_SERVERS);
    if (!test_random_chance(&actor->random, 3)) {
        index = actor->number;
        place.shadow = &actor->stage->shadows[actor->number];
    }
    server_name(place.server, index);
    return place;
}

static void must_be_answered(struct actor *actor, int code, bool right, const char *what)
{
    if (right || (code == PRESENCE_E_DISABLED && actor->stage->stormy))
        return;
    fprintf(stderr, "%s was answered %s\n", what, presence_error_name(code));
    abort();
}

/* In a storm nobody knows what is there. */
static bool knows(const struct actor *actor, const struct place *place)
{
    return place->shadow != NULL && !actor->stage->stormy;
}

static presence_value some_value(struct actor *actor, const char *server, uint64_t id, char *agent_name,
                                 uint32_t *agent)
{
    *agent = (uint32_t)test_random_below(&actor->random, AGENTS);
    presence_value value = test_value(server, id, model_name(*agent), test_name(agent_name, "agent", *agent));
    if (*agent % 5 == 0)
        value.user_data = "some data";
    return value;
}

static void connect_one(struct actor *actor, struct place *place)
{
    char name[TEST_NAME_BYTES];
    uint32_t agent;
    uint64_t id = test_random_below(&actor->random, IDS);
    presence_value value = some_value(actor, place->server, id, name, &agent);
    presence_handle handle;
    bool is_new;
    int code = presence_recorder_connect_handle(actor->stage->recorder, &value, &handle, &is_new, NULL);
    must_be_answered(actor, code, code == PRESENCE_OK, "connect");
    if (knows(actor, place))
        must(is_new == !place->shadow->there[id]);
    if (place->shadow != NULL) {
        place->shadow->there[id] = place->shadow->alive[id] = true;
        place->shadow->agent[id] = agent;
    }
    if (code != PRESENCE_OK || !test_random_chance(&actor->random, 4))
        return;
    dawdle(actor);
    code = presence_recorder_activity_handle(actor->stage->recorder, &handle);
    bool right = code == PRESENCE_OK || (!knows(actor, place) && code == PRESENCE_E_NOT_FOUND);
    must_be_answered(actor, code, right, "activity_handle");
}

static void disconnect_one(struct actor *actor, struct place *place)
{
    uint64_t id = test_random_below(&actor->random, IDS);
    int code = presence_recorder_disconnect(actor->stage->recorder, place->server, id);
    bool right = code == PRESENCE_OK || code == PRESENCE_E_NOT_FOUND;
    must_be_answered(actor, code, right, "disconnect");
    if (knows(actor, place))
        must((code == PRESENCE_OK) == place->shadow->there[id]);
    if (place->shadow != NULL)
        place->shadow->there[id] = false;
}

static void be_active(struct actor *actor, struct place *place)
{
    uint64_t ids[20];
    size_t wanted = 0, done = 0;
    for (size_t i = 0; i < 20; i++) {
        ids[i] = test_random_below(&actor->random, IDS);
        if (place->shadow != NULL && place->shadow->there[ids[i]])
            wanted++;
    }
    int code = presence_recorder_activity_many(actor->stage->recorder, place->server, ids, 20, &done);
    must_be_answered(actor, code, code == PRESENCE_OK, "activity_many");
    if (knows(actor, place))
        must(done == wanted);
}

static void state_whole(struct actor *actor, struct place *place, bool merge)
{
    enum { LIST = 80 };
    presence_value list[LIST];
    char names[LIST][TEST_NAME_BYTES];
    uint32_t agents[LIST];
    uint64_t first = test_random_below(&actor->random, IDS - LIST);
    for (size_t i = 0; i < LIST; i++)
        list[i] = some_value(actor, place->server, first + i, names[i], &agents[i]);
    presence_recorder *recorder = actor->stage->recorder;
    int code = merge ? presence_recorder_merge_server(recorder, place->server, list, LIST, NULL)
                     : presence_recorder_update_server(recorder, place->server, list, LIST, NULL);
    must_be_answered(actor, code, code == PRESENCE_OK, "a whole list");
    struct shadow *shadow = place->shadow;
    for (uint64_t id = 0; shadow != NULL && id < IDS; id++) {
        bool stays = merge && shadow->there[id] && shadow->alive[id];
        bool listed = id >= first && id < first + LIST;
        if (listed && !stays)
            shadow->agent[id] = agents[id - first];
        shadow->there[id] = shadow->alive[id] = stays || listed;
    }
}

/* A connect that repeats what is recorded takes no revision, and one at the very revision that is noted counts as
 * later.
 * So that the shadow knows what the merge keeps, something takes a revision in between. */
static void take_a_revision(struct actor *actor, const struct place *place)
{
    int code = presence_recorder_disconnect(actor->stage->recorder, place->server, 0);
    must_be_answered(actor, code, code == PRESENCE_OK || code == PRESENCE_E_NOT_FOUND, "disconnect");
    code = presence_recorder_connect(actor->stage->recorder, place->server, model_name(0), "agent-0", 0, false, NULL);
    must_be_answered(actor, code, code == PRESENCE_OK, "connect");
}

static void merge_since(struct actor *actor, struct place *place)
{
    if (place->shadow != NULL)
        take_a_revision(actor, place);
    uint64_t noted = presence_recorder_revision(actor->stage->recorder);
    dawdle(actor);
    char name[TEST_NAME_BYTES];
    uint32_t agent;
    presence_value value = some_value(actor, place->server, test_random_below(&actor->random, IDS), name, &agent);
    int code = presence_recorder_merge_server_since(actor->stage->recorder, place->server, noted, &value, 1, NULL);
    must_be_answered(actor, code, code == PRESENCE_OK || code == PRESENCE_E_LAGGED, "merge_server_since");
    if (place->shadow == NULL)
        return;
    /* nothing happened on it since: it is an update */
    must(code == PRESENCE_OK || actor->stage->stormy);
    memset(place->shadow->there, 0, sizeof place->shadow->there);
    place->shadow->there[value.connection_id] = place->shadow->alive[value.connection_id] = true;
    place->shadow->agent[value.connection_id] = agent;
}

static void go_down(struct actor *actor, struct place *place)
{
    int code = presence_recorder_server_down(actor->stage->recorder, place->server);
    must_be_answered(actor, code, code == PRESENCE_OK, "server_down");
    if (place->shadow != NULL)
        memset(place->shadow->alive, 0, sizeof place->shadow->alive);
}

void *writer_life(void *argument)
{
    struct actor *actor = argument;
    for (uint64_t i = 0; i < actor->stage->iterations; i++) {
        struct place place = choose_place(actor);
        uint64_t dice = test_random_below(&actor->random, 100);
        if (dice < 50)
            connect_one(actor, &place);
        else if (dice < 85)
            disconnect_one(actor, &place);
        else if (dice < 94)
            be_active(actor, &place);
        else if (dice < 96)
            go_down(actor, &place);
        else if (dice < 98)
            state_whole(actor, &place, false);
        else if (dice < 99)
            state_whole(actor, &place, true);
        else if (place.shadow != NULL)
            merge_since(actor, &place);
        dawdle(actor);
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------------- node -- */

static void apply_next(struct actor *actor, const char *server, const presence_claim *claim, uint64_t *number)
{
    char name[TEST_NAME_BYTES];
    uint32_t agent;
    uint64_t id = test_random_below(&actor->random, IDS);
    presence_change change = {.number = *number + 1, .time = 5, .kind = PRESENCE_CHANGE_CONNECT};
    change.value = some_value(actor, server, id, name, &agent);
    if (test_random_chance(&actor->random, 3))
        change.kind = PRESENCE_CHANGE_DISCONNECT;
    else if (test_random_chance(&actor->random, 40)) {
        change.kind = PRESENCE_CHANGE_DOWN;
        change.reason = PRESENCE_REASON_TIMED_OUT;
    }
    int code = presence_replica_apply(actor->stage->recorder, server, claim, &change, NULL, NULL);
    must_be_answered(actor, code, code == PRESENCE_OK || (actor->stage->stormy && code == PRESENCE_E_GAP), "apply");
    if (code == PRESENCE_OK)
        ++*number;
}

static void apply_whole(struct actor *actor, const char *server, const presence_claim *claim, uint64_t *number)
{
    enum { LIST = 100 };
    presence_value list[LIST];
    char names[LIST][TEST_NAME_BYTES];
    uint32_t agent;
    for (size_t i = 0; i < LIST; i++)
        list[i] = some_value(actor, server, i, names[i], &agent);
    *number += 3;
    int code = presence_replica_apply_state(actor->stage->recorder, server, claim, *number, 0,
                                            PRESENCE_REASON_SERVER_DOWN, 0, list, LIST, NULL);
    must_be_answered(actor, code, code == PRESENCE_OK, "apply_state");
}

/* A whole state of a server of its own, in two pieces; at times it is aborted, or taken away between them. */
static void apply_in_pieces(struct actor *actor, uint64_t number)
{
    enum { PIECES_LIST = 8 };
    char server[TEST_NAME_BYTES];
    server_name(server, SERVERS - 2);
    presence_recorder *recorder = actor->stage->recorder;
    const presence_claim claim = {.epoch = 1, .turn = number, .random = 1};
    presence_value list[PIECES_LIST];
    char names[PIECES_LIST][TEST_NAME_BYTES];
    uint32_t agent;
    for (size_t i = 0; i < PIECES_LIST; i++)
        list[i] = some_value(actor, server, i, names[i], &agent);
    presence_state_writer *writer = NULL;
    int code = presence_replica_state_begin(recorder, server, &claim, number, 0, PRESENCE_REASON_SERVER_DOWN, 0,
                                            &writer, NULL);
    code = code ? code : presence_replica_state_add(writer, list, PIECES_LIST / 2, NULL);
    uint64_t dice = test_random_below(&actor->random, 4);
    if (dice == 0)
        presence_connections_free(presence_replica_state(recorder, server, NULL));
    code =
        code ? code : presence_replica_state_add(writer, list + PIECES_LIST / 2, PIECES_LIST - PIECES_LIST / 2, NULL);
    if (dice == 1 || !writer)
        presence_replica_state_abort(writer);
    else
        code = presence_replica_state_commit(writer, NULL);
    must_be_answered(actor, code, code == (dice == 0 ? PRESENCE_E_LAGGED : PRESENCE_OK), "state in pieces");
    presence_replica_forget(recorder, server, NULL);
}

void *node_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    char server[TEST_NAME_BYTES];
    server_name(server, SERVERS - 1);
    presence_claim claim = {.epoch = 1, .turn = 1, .random = stage->seed};
    uint64_t number = 0;
    apply_whole(actor, server, &claim, &number);
    for (uint64_t i = 0; i < stage->iterations; i++) {
        uint64_t dice = test_random_below(&actor->random, 200);
        int code = PRESENCE_OK;
        if (dice == 0) {
            claim.epoch++;
            number = 0;
            code = presence_replica_claim(stage->recorder, server, &claim, false);
        } else if (dice < 4) {
            apply_whole(actor, server, &claim, &number);
        } else if (dice < 8) {
            code = presence_replica_lapse(stage->recorder, server);
        } else if (dice < 12) {
            code = presence_replica_restore(stage->recorder, server);
        } else if (dice == 12) {
            apply_in_pieces(actor, i + 1);
        } else if (dice < 15) {
            presence_server_description description;
            presence_connections *state = presence_replica_state(stage->recorder, server, &description);
            must(state == NULL || presence_connections_count(state) == description.connections);
            presence_connections_free(state);
        } else {
            apply_next(actor, server, &claim, &number);
        }
        must(code == PRESENCE_OK || stage->stormy);
        dawdle(actor);
    }
    return NULL;
}
