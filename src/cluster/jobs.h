/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.h - a thread beside the cluster's own, for what takes longer than a beat: recording a whole state.
 *
 * The thread is started with the first job. Jobs run one after the other, in the order in which they came.
 * Threads: all functions but jobs_stop from any; jobs_stop once, when nobody adds any more.
 */
#ifndef CLUSTER_JOBS_H
#define CLUSTER_JOBS_H

#include "cluster/step.h"

#include <pthread.h>

struct jobs {
    pthread_mutex_t lock;
    pthread_cond_t come;
    struct step_job *waiting, **waiting_end;
    struct step_job *done, **done_end;
    void (*wake)(void *context); /* a job is done; called by the thread */
    void *context;
    pthread_t thread;
    bool started, stopping;
};

void jobs_init(struct jobs *jobs, void (*wake)(void *context), void *context);
/* Where the system gives no thread, the job is run at once. */
void jobs_add(struct jobs *jobs, struct step_job *job);
/* One that is done, or NULL. The caller owns it. */
struct step_job *jobs_take(struct jobs *jobs);
/* Waits for the job that runs, and frees all. */
void jobs_stop(struct jobs *jobs);

#endif
