/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.c - see jobs.h. Keeps true: a job is on one of the two lists, or running, or somebody else's.
 */
#include "cluster/jobs.h"

#include <signal.h>

void jobs_init(struct jobs *jobs, void (*wake)(void *context), void *context)
{
    *jobs = (struct jobs){.wake = wake, .context = context};
    jobs->waiting_end = &jobs->waiting;
    jobs->done_end = &jobs->done;
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->come, NULL);
}

static struct step_job *take_from(struct step_job **list, struct step_job ***end)
{
    struct step_job *job = *list;
    if (!job)
        return NULL;
    *list = job->next;
    if (!*list)
        *end = list;
    job->next = NULL;
    return job;
}

static void put_on(struct step_job ***end, struct step_job *job)
{
    job->next = NULL;
    **end = job;
    *end = &job->next;
}

static void *work(void *argument)
{
    struct jobs *jobs = argument;
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->stopping) {
        struct step_job *job = take_from(&jobs->waiting, &jobs->waiting_end);
        if (!job) {
            pthread_cond_wait(&jobs->come, &jobs->lock);
            continue;
        }
        pthread_mutex_unlock(&jobs->lock);
        step_job_run(job);
        pthread_mutex_lock(&jobs->lock);
        put_on(&jobs->done_end, job);
        jobs->wake(jobs->context);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

/* With the lock held. */
static bool start(struct jobs *jobs)
{
    if (jobs->started)
        return true;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's signals are not for this thread */
    jobs->started = pthread_create(&jobs->thread, NULL, work, jobs) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return jobs->started;
}

void jobs_add(struct jobs *jobs, struct step_job *job)
{
    pthread_mutex_lock(&jobs->lock);
    bool started = start(jobs);
    if (started) {
        put_on(&jobs->waiting_end, job);
        pthread_cond_signal(&jobs->come);
    }
    pthread_mutex_unlock(&jobs->lock);
    if (started)
        return;
    step_job_run(job);
    pthread_mutex_lock(&jobs->lock);
    put_on(&jobs->done_end, job);
    jobs->wake(jobs->context);
    pthread_mutex_unlock(&jobs->lock);
}

struct step_job *jobs_take(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    struct step_job *job = take_from(&jobs->done, &jobs->done_end);
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

void jobs_stop(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    pthread_cond_signal(&jobs->come);
    pthread_mutex_unlock(&jobs->lock);
    if (jobs->started)
        pthread_join(jobs->thread, NULL);
    struct step_job *job;
    while ((job = take_from(&jobs->waiting, &jobs->waiting_end)) || (job = take_from(&jobs->done, &jobs->done_end)))
        step_job_free(job);
    pthread_cond_destroy(&jobs->come);
    pthread_mutex_destroy(&jobs->lock);
}
