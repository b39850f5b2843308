/* SPDX-License-Identifier: Apache-2.0 */
/*
 * member.h - a joined cluster from inside: what its thread, its calls and its questions share. (It is not called after
 * the public header: what describes the ABI tells public types from others by the name of their header.)
 *
 *   part          what it does
 *   cluster.c     joining, leaving, the thread, the calls that look or claim
 *   jobs.c        a second thread, for what takes longer than a beat
 *   questions.c   verify and explain: asking all nodes and waiting for answers
 */
#ifndef CLUSTER_MEMBER_H
#define CLUSTER_MEMBER_H

#include <presence/cluster.h>

#include "cluster/jobs.h"
#include "cluster/nats.h"
#include "cluster/step.h"

#include <pthread.h>
#include <stdatomic.h>

struct note; /* a callback that is due */
struct gathering;

struct presence_cluster {
    presence_recorder *recorder;
    void *context;
    void (*superseded)(void *context, const char *server, const presence_claim *by, const char *node);
    void (*log)(void *context, presence_cluster_level level, const char *event, const char *text);
    void (*refused)(void *context, const presence_error *why);
    uint64_t interval, lease; /* nanoseconds */
    char node[PRESENCE_NODE_BYTES];

    int wake; /* an eventfd */
    pthread_t thread;
    struct nats_transport *transport;
    struct jobs jobs;
    _Atomic uint64_t last_turn; /* of the thread, to see that it is not stuck */
    uint64_t rests_until;       /* the thread's: it does not ask the recorder before */

    pthread_mutex_t lock;   /* of what follows, and of every call of the step */
    pthread_cond_t changed; /* ready, refused, an answer came, the thread ended */
    struct step *step;
    struct note *notes, **notes_end;
    size_t note_count, notes_dropped;
    struct gathering *gatherings;
    bool up, was_ready;
    bool leaving, ended; /* to leave; the thread has */
    bool is_refused;     /* another process has our name */
};

uint64_t cluster_now(void); /* monotonic nanoseconds, those of sleep too */
void cluster_wake(struct presence_cluster *cluster);
/* Waits on `changed` until then; false: the time is over. With the lock held. */
bool cluster_await(struct presence_cluster *cluster, uint64_t until);
void gatherings_free(struct presence_cluster *cluster);

#endif
