/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_threads.c - writers, readers, watchers, droppers, a caretaker and a node, all on one recorder at once, with
 * choices from a seed that is printed. Meant for ThreadSanitizer, and for any machine.
 *
 *   test_threads [iterations [seed]]
 *
 * Keeps true, whatever the schedule: a view agrees with itself; a writer's own server is in the end what the writer
 * made it; a watcher's copy is in the end the record; views are freed by other threads than took them, some after the
 * recorder; nothing is left of the memory. Nothing here depends on how long anything takes.
 */
#include "actors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READERS = 2, WATCHERS = 2, DROPPERS = 1, ACTORS = WRITERS + READERS + WATCHERS + DROPPERS + 2 };

static presence_recorder *new_recorder(struct stage *stage)
{
    presence_options options;
    presence_options_init(&options);
    options.clock = fake_clock_interface(&stage->clock);
    options.memory = test_allocator_interface(&stage->memory);
    options.history_bytes = 512 * 1024;
    options.left_agents = 20;
    presence_recorder *recorder = presence_recorder_new_with(&options, NULL);
    must(recorder != NULL);
    presence_recorder_enable(recorder);
    return recorder;
}

static void start(struct actor *actor, struct stage *stage, size_t number, size_t all_in_all, void *(*life)(void *))
{
    actor->stage = stage;
    actor->number = number;
    test_random_seed(&actor->random, stage->seed * 1000 + all_in_all);
    must(pthread_create(&actor->thread, NULL, life, actor) == 0);
}

/* The first WRITERS + 1 actors write (the node is the last of them); the rest go on until these are done. */
static void play(struct stage *stage)
{
    static const struct {
        void *(*life)(void *);
        size_t count;
    } cast[] = {{writer_life, WRITERS},   {node_life, 1},           {reader_life, READERS},
                {watcher_life, WATCHERS}, {dropper_life, DROPPERS}, {caretaker_life, 1}};
    struct actor actors[ACTORS];
    size_t started = 0;
    for (size_t i = 0; i < sizeof cast / sizeof *cast; i++)
        for (size_t number = 0; number < cast[i].count; number++, started++)
            start(&actors[started], stage, number, started, cast[i].life);
    must(started == ACTORS);
    for (size_t i = 0; i < WRITERS + 1; i++)
        must(pthread_join(actors[i].thread, NULL) == 0);
    atomic_store(&stage->writers_done, true);
    for (size_t i = WRITERS + 1; i < ACTORS; i++)
        must(pthread_join(actors[i].thread, NULL) == 0);
}

static void must_be_what_the_writer_made_it(struct stage *stage, const presence_connections *view, size_t writer)
{
    char server[TEST_NAME_BYTES], agent[TEST_NAME_BYTES];
    server_name(server, writer);
    const struct shadow *shadow = &stage->shadows[writer];
    size_t there = 0;
    for (uint64_t id = 0; id < IDS; id++) {
        presence_value value;
        int code = presence_connections_find(view, server, id, &value);
        must((code == PRESENCE_OK) == shadow->there[id]);
        if (code != PRESENCE_OK)
            continue;
        there++;
        must((value.status == PRESENCE_ALIVE) == shadow->alive[id]);
        must(strcmp(value.agent, test_name(agent, "agent", shadow->agent[id])) == 0);
    }
    presence_connections *slice = presence_connections_for_server(view, server);
    must(presence_connections_count(slice) == there);
    presence_connections_free(slice);
}

static void run(uint64_t seed, uint64_t iterations, bool stormy)
{
    struct stage *stage = calloc(1, sizeof *stage);
    must(stage != NULL);
    stage->seed = seed;
    stage->iterations = iterations;
    stage->stormy = stormy;
    must(pthread_mutex_init(&stage->parking, NULL) == 0);
    fake_clock_set(&stage->clock, 1000);
    stage->recorder = new_recorder(stage);
    play(stage);

    presence_error error = {0};
    must(presence_recorder_check(stage->recorder, &error) == PRESENCE_OK);
    presence_connections *view = presence_recorder_connections(stage->recorder);
    must_agree_with_itself(view);
    for (size_t writer = 0; writer < WRITERS && !stormy; writer++)
        must_be_what_the_writer_made_it(stage, view, writer);
    printf("%s: %" PRIu64 " views, %" PRIu64 " events, %" PRIu64 " lags, %zu connections at revision %" PRIu64 "\n",
           stormy ? "stormy" : "calm", atomic_load(&stage->views), atomic_load(&stage->events),
           atomic_load(&stage->lags), presence_connections_count(view), presence_connections_revision(view));
    park(stage, view);
    presence_recorder_free(stage->recorder);
    for (size_t i = 0; i < stage->parked_count; i++) { /* these outlive it */
        must_agree_with_itself(stage->parked[i]);
        presence_connections_free(stage->parked[i]);
    }
    test_allocator_must_be_empty(&stage->memory);
    must(pthread_mutex_destroy(&stage->parking) == 0);
    free(stage);
}

int main(int argc, char **argv)
{
    uint64_t iterations = argc > 1 ? strtoull(argv[1], NULL, 0) : 20000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : test_random_fresh_seed() % 1000000;
    printf("test_threads %" PRIu64 " %" PRIu64 "\n", iterations, seed);
    fflush(stdout);
    run(seed, iterations, false);
    run(seed, iterations, true);
    return 0;
}
