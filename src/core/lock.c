/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.c - the ways of the lock that more than one thread needs; lock.h says how they fit to that of one alone.
 *
 * Any thread. A free mutex costs one atomic instruction; the mutex is not fair.
 */
#include "lock.h"

#include <sched.h>
#include <time.h>

bool lock_init(struct lock *lock)
{
    atomic_init(&lock->alone, false);
    atomic_init(&lock->waiting, 0);
    return pthread_mutex_init(&lock->mutex, NULL) == 0;
}

void lock_destroy(struct lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

void lock_take_mutex(struct lock *lock)
{
    if (pthread_mutex_trylock(&lock->mutex)) {
        atomic_fetch_add_explicit(&lock->waiting, 1, memory_order_relaxed);
        pthread_mutex_lock(&lock->mutex);
        atomic_fetch_sub_explicit(&lock->waiting, 1, memory_order_relaxed);
    }
    while (atomic_load_explicit(&lock->alone, memory_order_acquire)) /* a hook of whoever is inside started us */
        sched_yield();
}

void lock_give_way(struct lock *lock)
{
    lock_give(lock);
    /* The mutex is not fair: whoever waits needs a moment to wake up before we take it again. */
    for (int i = 0; i < 20 && atomic_load_explicit(&lock->waiting, memory_order_relaxed); i++)
        nanosleep(&(struct timespec){0, 1000}, NULL);
    lock_take(lock);
}

void lock_wait(struct lock *lock, pthread_cond_t *condition)
{
    if (atomic_load_explicit(&lock->alone, memory_order_relaxed)) { /* what it waits for may happen in between */
        lock_give(lock);
        lock_take_mutex(lock);
        return;
    }
    pthread_cond_wait(condition, &lock->mutex);
}
