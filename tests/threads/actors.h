/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actors.h - the threads of the thread test, and the stage on which they meet.
 */
#ifndef PRESENCE_TESTS_THREADS_ACTORS_H
#define PRESENCE_TESTS_THREADS_ACTORS_H

#include "../support/support.h"

#include <pthread.h>

enum {
    WRITERS = 3, /* each has a server of its own, and all share the others */
    SHARED_SERVERS = 2,
    REMOTE_SERVERS = 2, /* stated by the node; the first comes in pieces, and goes */
    SERVERS = WRITERS + SHARED_SERVERS + REMOTE_SERVERS,
    IDS = 150, /* a server */
    AGENTS = 60,
    PARKED_MOST = 64
};

/* What a writer knows of its own server: index by id. */
struct shadow {
    bool there[IDS];
    bool alive[IDS];
    uint32_t agent[IDS];
};

struct stage {
    presence_recorder *recorder;
    struct fake_clock clock;
    struct test_allocator memory;
    uint64_t seed, iterations;
    bool stormy; /* the recorder is disabled and enabled now and then */
    atomic_bool writers_done;
    atomic_uint_least64_t lags, events, views; /* how much happened */
    struct shadow shadows[WRITERS];
    /* views waiting to be freed by another thread than took them */
    pthread_mutex_t parking;
    presence_connections *parked[PARKED_MOST];
    size_t parked_count;
};

struct actor {
    struct stage *stage;
    size_t number; /* among those of its kind */
    struct test_random random;
    pthread_t thread;
};

/* Each is a thread's whole life; the argument is its struct actor. */
void *writer_life(void *actor);
void *reader_life(void *actor);
void *watcher_life(void *actor);
void *dropper_life(void *actor);
void *caretaker_life(void *actor);
void *node_life(void *actor);

/* "server-<index>". The last REMOTE_SERVERS are the node's, those before them are shared. */
const char *server_name(char *buffer, size_t index);
const char *model_name(uint64_t agent);
/* Gives the processor away now and then, as the actor's dice say. */
void dawdle(struct actor *actor);
/* Hands the view to whoever frees it; frees it itself if the place is full. */
void park(struct stage *stage, presence_connections *view);
/* One of the parked, or NULL. */
presence_connections *unpark(struct stage *stage, struct test_random *random);
/* What one view says is the same from every side. */
void must_agree_with_itself(const presence_connections *view);

#endif
