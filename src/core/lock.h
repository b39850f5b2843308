/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - the recorder's lock: one mutex, which costs next to nothing in a process of one thread.
 *
 * An atomic instruction waits for the stores before it, and a recorder's stores miss the caches; and a call of
 * pthread_mutex_lock takes as many instructions as finding a server. So where the C library knows that there is one
 * thread (glibc says so), the lock is a flag, `alone`. A hook (clock, allocator) might start a thread while it is set:
 * that thread then takes the mutex and waits for the flag to go.
 *
 *   (A) Whoever is inside has set `alone`, or holds the mutex and has seen `alone` clear since.
 *   (B) `alone` is only ever set by the one thread of the process; so while it is set nobody else takes the mutex but
 *       threads that wait for (A).
 */
#ifndef LOCK_H
#define LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#if defined __has_include
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define LOCK_ONE_THREAD __libc_single_threaded
#endif
#endif
#ifndef LOCK_ONE_THREAD
#define LOCK_ONE_THREAD false
#endif

struct lock {
    atomic_bool alone;
    atomic_uint waiting; /* threads that found the mutex taken */
    pthread_mutex_t mutex;
};

/* False: the system has no more mutexes. */
bool lock_init(struct lock *lock);
void lock_destroy(struct lock *lock);
void lock_take_mutex(struct lock *lock);
/* Between two steps of long work: gives it, lets those in who wait, takes it again. */
void lock_give_way(struct lock *lock);
/* As pthread_cond_wait; may return for no reason. */
void lock_wait(struct lock *lock, pthread_cond_t *condition);

static inline void lock_take(struct lock *lock)
{
    if (LOCK_ONE_THREAD)
        atomic_store_explicit(&lock->alone, true, memory_order_relaxed);
    else
        lock_take_mutex(lock);
}

static inline void lock_give(struct lock *lock)
{
    if (atomic_load_explicit(&lock->alone, memory_order_relaxed))
        atomic_store_explicit(&lock->alone, false, memory_order_release);
    else
        pthread_mutex_unlock(&lock->mutex);
}

#endif
