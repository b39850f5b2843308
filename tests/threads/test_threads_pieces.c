/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_threads_pieces.c - states recorded in pieces, while another thread takes them away, or disables the recorder.
 *
 *   test_threads_pieces [values]
 *
 * Story: given one thread that records the same state in pieces again and again, when another lapses its server, takes
 * a change of it, forgets it, claims it, or disables and enables the recorder, at any moment, then the writer is told
 * each time what became of it, and a view shows all of the state or nothing.
 *
 * Keeps true: a state ends only in ways that what was done meanwhile explains. But for one, each must have been seen,
 * however many rounds that takes (ROUNDS_MOST at most).
 */
#include "../support/support.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVER "server-in-pieces"
#define MODEL "a-model"

enum { PIECES = 4, ROUNDS_MOST = 20000, ENOUGH = 3 };
enum action { LAPSE, CHANGE, FORGET, CLAIM, DISABLE, ACTIONS };
/* What became of a state. */
enum fate { COMMITTED, LOST_BETWEEN, DISABLED_WITHIN_A_PIECE, LOST_AT_COMMIT, FATES };

struct stage {
    presence_recorder *recorder;
    size_t values;
    atomic_uint_least64_t turn;                /* of the claim */
    atomic_uint_least64_t round, acted;        /* begun; in which the disturber has done its part */
    atomic_uint_least64_t done[ACTIONS], seen; /* answered OK while a state was under way */
    atomic_uint_least64_t disabled;
    atomic_bool filling, adding, over;
    uint64_t fates[FATES];
};

static presence_claim claim_of(uint64_t turn)
{
    return (presence_claim){.epoch = 1, .turn = turn, .random = 1};
}

static void act(struct stage *stage, enum action action)
{
    presence_recorder *recorder = stage->recorder;
    presence_claim claim = claim_of(atomic_load(&stage->turn));
    presence_change change = {.number = 1,
                              .kind = PRESENCE_CHANGE_CONNECT,
                              .reason = PRESENCE_REASON_CONNECTED,
                              .value = test_value(SERVER, 1, MODEL, "an-agent")};
    bool filling = atomic_load(&stage->filling);
    int code = PRESENCE_E_INVALID;
    switch (action) {
    case LAPSE:
        code = presence_replica_lapse(recorder, SERVER);
        presence_replica_restore(recorder, SERVER);
        break;
    case CHANGE:
        code = presence_replica_apply(recorder, SERVER, &claim, &change, NULL, NULL);
        break;
    case FORGET:
        code = presence_replica_forget(recorder, SERVER, NULL);
        break;
    case CLAIM:
        claim = claim_of(atomic_fetch_add(&stage->turn, 1) + 1);
        code = presence_replica_claim(recorder, SERVER, &claim, false);
        break;
    default:
        presence_recorder_disable(recorder);
        atomic_fetch_add(&stage->disabled, 1);
        presence_recorder_enable(recorder);
        code = PRESENCE_OK;
    }
    must(code == PRESENCE_OK || code == PRESENCE_E_NOT_FOUND || code == PRESENCE_E_STALE || code == PRESENCE_E_GAP ||
         code == PRESENCE_E_DISABLED);
    if (code == PRESENCE_OK && filling)
        atomic_fetch_add(&stage->done[action], 1);
}

/* One action a round, somewhere within it. */
static void *disturber_life(void *argument)
{
    struct stage *stage = argument;
    struct test_random random;
    test_random_seed(&random, 1);
    for (uint64_t round = 1;; round++) {
        while (atomic_load(&stage->round) < round && !atomic_load(&stage->over))
            sched_yield();
        if (atomic_load(&stage->over))
            return NULL;
        for (atomic_uint_least64_t i = test_random_below(&random, 1 << test_random_below(&random, 18)); i > 0;)
            i--;
        while (round % 2 && atomic_load(&stage->filling) && !atomic_load(&stage->adding))
            sched_yield(); /* every other time while a piece is being added, however the machine is loaded */
        act(stage, (enum action)test_random_below(&random, ACTIONS));
        atomic_store(&stage->acted, round);
    }
}

static void *reader_life(void *argument)
{
    struct stage *stage = argument;
    while (!atomic_load(&stage->over)) {
        presence_connections *view = presence_recorder_connections(stage->recorder);
        must(view != NULL);
        presence_connections *slice = presence_connections_for_server(view, SERVER),
                             *model = presence_connections_for_model(slice, MODEL);
        must(slice != NULL && model != NULL);
        size_t count = presence_connections_count(slice);
        must(count <= 1 || count == stage->values || count == stage->values + 1); /* a change of its own may be there */
        must(presence_connections_count(model) == count);
        presence_connections_free(model);
        presence_connections_free(slice);
        presence_connections_free(view);
        atomic_fetch_add(&stage->seen, 1);
        for (int i = 0; i < 20; i++)
            sched_yield();
    }
    return NULL;
}

/* Begins, adds and commits once. */
static void fill(struct stage *stage, const presence_value *values)
{
    presence_state_writer *writer = NULL;
    presence_claim claim = claim_of(atomic_load(&stage->turn));
    must(presence_replica_state_begin(stage->recorder, SERVER, &claim, 10, 0, PRESENCE_REASON_SERVER_DOWN, 0, &writer,
                                      NULL) == PRESENCE_OK);
    atomic_store(&stage->filling, true);
    uint64_t round = atomic_fetch_add(&stage->round, 1) + 1;
    size_t piece = stage->values / PIECES;
    uint64_t disabled = atomic_load(&stage->disabled);
    int code = PRESENCE_OK;
    for (size_t at = 0; at < PIECES && code == PRESENCE_OK; at++) {
        uint64_t before = atomic_load(&stage->disabled);
        atomic_store(&stage->adding, true);
        code = presence_replica_state_add(writer, &values[at * piece], piece, NULL);
        atomic_store(&stage->adding, false);
        must(code == PRESENCE_OK || code == PRESENCE_E_DISABLED || code == PRESENCE_E_LAGGED);
        if (code == PRESENCE_E_DISABLED && before == disabled) /* it began as it should */
            stage->fates[DISABLED_WITHIN_A_PIECE]++;
        else if (code == PRESENCE_E_LAGGED)
            stage->fates[LOST_BETWEEN]++;
        sched_yield(); /* the next piece takes its time to come */
    }
    int end = presence_replica_state_commit(writer, NULL);
    atomic_store(&stage->filling, false);
    must(code == PRESENCE_OK || end == code || end == PRESENCE_E_DISABLED);
    must(end == PRESENCE_OK || end == PRESENCE_E_DISABLED || end == PRESENCE_E_LAGGED);
    stage->fates[COMMITTED] += end == PRESENCE_OK;
    stage->fates[LOST_AT_COMMIT] += code == PRESENCE_OK && end == PRESENCE_E_LAGGED;
    while (atomic_load(&stage->acted) < round)
        sched_yield();
    claim = claim_of(atomic_fetch_add(&stage->turn, 1) + 1); /* a newer claim, and nothing under it */
    must(presence_replica_apply_state(stage->recorder, SERVER, &claim, 0, 0, PRESENCE_REASON_SERVER_DOWN, 0, NULL, 0,
                                      NULL) == PRESENCE_OK);
}

static bool seen_enough(const struct stage *stage)
{
    for (int fate = 0; fate < LOST_AT_COMMIT; fate++) /* the last is seldom seen */
        if (stage->fates[fate] < ENOUGH)
            return false;
    for (int action = 0; action < ACTIONS; action++)
        if (atomic_load(&((struct stage *)(uintptr_t)stage)->done[action]) < ENOUGH)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    static struct stage stage;
    stage.values = argc > 1 ? strtoull(argv[1], NULL, 0) : 2000;
    atomic_store(&stage.turn, 1);
    stage.recorder = presence_recorder_new(NULL);
    presence_value *values = calloc(stage.values, sizeof *values);
    char(*names)[TEST_NAME_BYTES] = calloc(stage.values, sizeof *names);
    must(stage.recorder != NULL && values != NULL && names != NULL);
    presence_recorder_enable(stage.recorder);
    for (size_t i = 0; i < stage.values; i++)
        values[i] = test_value(SERVER, 1000 + i, MODEL, test_name(names[i], "agent", i % (stage.values / 2)));
    pthread_t disturber, reader;
    must(pthread_create(&disturber, NULL, disturber_life, &stage) == 0);
    must(pthread_create(&reader, NULL, reader_life, &stage) == 0);
    while (atomic_load(&stage.round) < ROUNDS_MOST && !seen_enough(&stage))
        fill(&stage, values);
    atomic_store(&stage.over, true);
    must(pthread_join(disturber, NULL) == 0 && pthread_join(reader, NULL) == 0);
    printf("%" PRIu64 " rounds: %" PRIu64 " committed, %" PRIu64 " lost between pieces, %" PRIu64
           " at the end, %" PRIu64 " disabled within one; meanwhile %" PRIu64 " lapses, %" PRIu64 " changes, %" PRIu64
           " forgotten, %" PRIu64 " claims; %" PRIu64 " views\n",
           atomic_load(&stage.round), stage.fates[COMMITTED], stage.fates[LOST_BETWEEN], stage.fates[LOST_AT_COMMIT],
           stage.fates[DISABLED_WITHIN_A_PIECE], atomic_load(&stage.done[LAPSE]), atomic_load(&stage.done[CHANGE]),
           atomic_load(&stage.done[FORGET]), atomic_load(&stage.done[CLAIM]), atomic_load(&stage.seen));
    fflush(stdout);
    must(seen_enough(&stage));
    presence_error error = {0};
    must(presence_recorder_check(stage.recorder, &error) == PRESENCE_OK);
    presence_recorder_free(stage.recorder);
    free(values);
    free(names);
    return 0;
}
