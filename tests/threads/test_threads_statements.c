/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_threads_statements.c - writers, each on a server of its own; a reader of statements that makes another recorder
 * follow them; a node that states a server from elsewhere meanwhile; and readers that come and go.
 *
 *   test_threads_statements [iterations [seed]]
 *
 * Keeps true, whatever the schedule: of each server numbers are told one by one, unless the reader lags; in the end the
 * recorder that followed holds the same as the one that was written to. The follower sleeps in poll without a timeout:
 * a wake-up that is lost is a test that never ends. Nothing else depends on how long anything takes.
 */
#include "../support/support.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITERS = 3, IDS = 200, AGENTS = 40, READ_MOST = 48 };
#define REMOTE "server-of-another-node"
#define END "the-end"

static const presence_claim ours = {.epoch = 1, .turn = 1, .random = 5};
static const presence_claim theirs = {.epoch = 1, .turn = 1, .random = 6};

struct stage {
    presence_recorder *recorder, *follower;
    struct test_allocator memory;
    uint64_t seed, iterations;
    atomic_bool done;                    /* the writers are, and the node */
    uint64_t told, wholes, lags, sleeps; /* the follower's */
    atomic_uint_least64_t visits;        /* of readers that came and went */
};

struct actor {
    struct stage *stage;
    size_t number;
    struct test_random random;
    pthread_t thread;
};

static const char *server_of(char *buffer, size_t writer)
{
    return test_name(buffer, "server", writer);
}

/* -------------------------------------------------------------------------------------------------- those who state */

static void state_list(struct actor *actor, const char *server)
{
    enum { LIST = 30 };
    presence_value values[LIST];
    char names[LIST][TEST_NAME_BYTES];
    uint64_t first = test_random_below(&actor->random, IDS);
    for (uint64_t i = 0; i < LIST; i++)
        values[i] = test_value(server, first + i, "a-model", test_name(names[i], "listed", i));
    must(presence_recorder_update_server(actor->stage->recorder, server, values, LIST, NULL) == PRESENCE_OK);
}

static void *writer_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    char server[TEST_NAME_BYTES], agent[TEST_NAME_BYTES];
    server_of(server, actor->number);
    for (uint64_t i = 0; i < stage->iterations; i++) {
        uint64_t id = test_random_below(&actor->random, IDS), dice = test_random_below(&actor->random, 2000);
        int code = PRESENCE_OK;
        test_name(agent, "agent", test_random_below(&actor->random, AGENTS));
        if (dice == 0)
            state_list(actor, server);
        else if (dice < 4)
            code = presence_recorder_server_down(stage->recorder, server);
        else if (dice < 1200)
            code = presence_recorder_connect(stage->recorder, server, "a-model", agent, id, false, "some data");
        else
            code = presence_recorder_disconnect(stage->recorder, server, id);
        must(code == PRESENCE_OK || (dice >= 1200 && code == PRESENCE_E_NOT_FOUND));
        if (test_random_chance(&actor->random, 64)) /* so that the follower catches up, and sleeps */
            sched_yield();
    }
    return NULL;
}

/* Some at once, of which some were seen already. */
static void *node_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    presence_change changes[20];
    char names[20][TEST_NAME_BYTES];
    uint64_t number = 0;
    while (number < stage->iterations) {
        uint64_t seen = test_random_below(&actor->random, number < 5 ? number + 1 : 5);
        size_t count = 6 + test_random_below(&actor->random, 15), taken = 0;
        for (size_t i = 0; i < count; i++) {
            uint64_t id = test_random_below(&actor->random, IDS);
            changes[i] = (presence_change){
                .number = number - seen + i + 1,
                .kind = test_random_chance(&actor->random, 3) ? PRESENCE_CHANGE_DISCONNECT : PRESENCE_CHANGE_CONNECT,
                .time = 5,
                .value = test_value(REMOTE, id, "a-model", test_name(names[i], "remote", id))};
        }
        must(presence_replica_apply_many(stage->recorder, REMOTE, &theirs, changes, count, &taken, NULL) ==
             PRESENCE_OK);
        must(taken == count);
        number += count - seen;
    }
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------- the follower */

static void send_whole(struct stage *stage, const char *server)
{
    presence_server_description known;
    presence_connections *state = presence_replica_state(stage->recorder, server, &known);
    must(state != NULL);
    struct content *content = content_of(state);
    must(presence_replica_apply_state(stage->follower, server, &known.claim, known.number, known.floor,
                                      known.floor_reason, known.floor_time, content->values, content->count,
                                      NULL) == PRESENCE_OK);
    content_free(content);
    presence_connections_free(state);
}

static void look_at_all_anew(struct stage *stage)
{
    char server[TEST_NAME_BYTES];
    for (size_t writer = 0; writer < WRITERS; writer++)
        send_whole(stage, server_of(server, writer));
}

/* A run of changes of one server goes in one call. Returns how many of what was told that was. */
static size_t send_run(struct stage *stage, const presence_statement *told, size_t count)
{
    presence_change changes[READ_MOST];
    size_t run = 0, taken = 0;
    must(presence_claim_compare(&told->claim, &ours) == 0);
    if (told->whole) {
        presence_server_description known;
        must(presence_replica_describe(stage->follower, told->server, &known) == PRESENCE_OK);
        must(told->change.number <= known.number + 1);
        if (told->change.number > known.number)
            send_whole(stage, told->server);
        stage->wholes++;
        return 1;
    }
    for (; run < count && !told[run].whole && strcmp(told[run].server, told->server) == 0; run++)
        changes[run] = told[run].change;
    must(presence_replica_apply_many(stage->follower, told->server, &ours, changes, run, &taken, NULL) == PRESENCE_OK);
    must(taken == run);
    return run;
}

/* False: the end was told. */
static bool follow(struct stage *stage, const presence_statement *told, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(told[i].server, END) == 0)
            return false;
        must(strcmp(told[i].server, REMOTE) != 0);
        i += send_run(stage, told + i, count - i) - 1;
    }
    stage->told += count;
    return true;
}

static void *follower_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    presence_statement_reader *reader = NULL;
    must(presence_replica_statements(stage->recorder, &reader) == PRESENCE_OK);
    look_at_all_anew(stage);
    struct pollfd poller = {.fd = presence_statement_fd(reader), .events = POLLIN};
    for (bool more = true; more;) {
        presence_statement told[READ_MOST];
        size_t count;
        int code = presence_statements_read(reader, told, 1 + test_random_below(&actor->random, READ_MOST), &count);
        if (code == PRESENCE_E_LAGGED) {
            bool ended = atomic_load(&stage->done); /* then it may be among what was lost */
            stage->lags++;
            look_at_all_anew(stage);
            more = !ended;
            continue;
        }
        must(code == PRESENCE_OK);
        more = follow(stage, told, count);
        if (count == 0) {
            must(poll(&poller, 1, -1) == 1);
            stage->sleeps++;
        }
    }
    presence_statement_reader_free(reader);
    return NULL;
}

/* Comes, reads a little, and goes: waiting or not. */
static void *visitor_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    while (!atomic_load(&stage->done)) {
        presence_statement_reader *reader = NULL;
        must(presence_replica_statements(stage->recorder, &reader) == PRESENCE_OK);
        for (uint64_t reads = test_random_below(&actor->random, 20); reads > 0; reads--) {
            presence_statement told[4];
            size_t count;
            int code = presence_statements_read(reader, told, 4, &count);
            must(code == PRESENCE_OK || code == PRESENCE_E_LAGGED);
            struct pollfd poller = {.fd = presence_statement_fd(reader), .events = POLLIN};
            must(poll(&poller, 1, count == 0 ? 1 : 0) >= 0);
        }
        presence_statement_reader_free(reader);
        atomic_fetch_add(&stage->visits, 1);
    }
    return NULL;
}

/* --------------------------------------------------------------------------------------------------------- the play */

static presence_recorder *new_recorder(struct stage *stage)
{
    presence_options options;
    presence_options_init(&options);
    options.memory = test_allocator_interface(&stage->memory);
    presence_recorder *recorder = presence_recorder_new_with(&options, NULL);
    must(recorder != NULL);
    presence_recorder_enable(recorder);
    return recorder;
}

static void must_be_the_same(struct stage *stage)
{
    for (size_t writer = 0; writer < WRITERS; writer++) {
        char server[TEST_NAME_BYTES];
        presence_server_description here, there;
        must(presence_replica_describe(stage->recorder, server_of(server, writer), &here) == PRESENCE_OK);
        must(presence_replica_describe(stage->follower, server, &there) == PRESENCE_OK);
        must(here.number == there.number && here.connections == there.connections);
        must(here.digest.all == there.digest.all && here.digest.alive == there.digest.alive);
    }
}

static void play(struct stage *stage)
{
    static void *(*const lives[])(void *) = {writer_life, writer_life,   writer_life,
                                             node_life,   follower_life, visitor_life};
    enum { ACTORS = sizeof lives / sizeof *lives, STATE = WRITERS + 1 };
    struct actor actors[ACTORS];
    for (size_t i = 0; i < ACTORS; i++) {
        actors[i] = (struct actor){.stage = stage, .number = i};
        test_random_seed(&actors[i].random, stage->seed * 1000 + i);
        must(pthread_create(&actors[i].thread, NULL, lives[i], &actors[i]) == 0);
    }
    for (size_t i = 0; i < ACTORS; i++) {
        if (i == STATE) {
            atomic_store(&stage->done, true);
            must(presence_recorder_connect(stage->recorder, END, "m", "a", 1, false, NULL) == PRESENCE_OK);
        }
        must(pthread_join(actors[i].thread, NULL) == 0);
    }
}

int main(int argc, char **argv)
{
    static struct stage stage;
    stage.iterations = argc > 1 ? strtoull(argv[1], NULL, 0) : 30000;
    stage.seed = argc > 2 ? strtoull(argv[2], NULL, 0) : test_random_fresh_seed() % 1000000;
    printf("test_threads_statements %" PRIu64 " %" PRIu64 "\n", stage.iterations, stage.seed);
    fflush(stdout);
    stage.recorder = new_recorder(&stage);
    stage.follower = new_recorder(&stage);
    for (size_t writer = 0; writer < WRITERS; writer++) {
        char server[TEST_NAME_BYTES];
        must(presence_replica_claim(stage.recorder, server_of(server, writer), &ours, true) == PRESENCE_OK);
    }
    must(presence_replica_claim(stage.recorder, REMOTE, &theirs, false) == PRESENCE_OK);
    play(&stage);
    must_be_the_same(&stage);
    must(presence_recorder_check(stage.recorder, NULL) == PRESENCE_OK);
    must(presence_recorder_check(stage.follower, NULL) == PRESENCE_OK);
    printf("%" PRIu64 " statements, %" PRIu64 " lists, %" PRIu64 " lags, %" PRIu64 " sleeps, %" PRIu64 " visits\n",
           stage.told, stage.wholes, stage.lags, stage.sleeps, atomic_load(&stage.visits));
    presence_recorder_free(stage.recorder);
    presence_recorder_free(stage.follower);
    test_allocator_must_be_empty(&stage.memory);
    return 0;
}
