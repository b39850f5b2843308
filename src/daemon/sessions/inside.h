/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside.h - what the files of sessions share among themselves.
 */
#ifndef DAEMON_SESSIONS_INSIDE_H
#define DAEMON_SESSIONS_INSIDE_H

#include "sessions/sessions.h"

#include <pthread.h>
#include <presence/replica.h>

/* Something that becomes due: what the gateway has not stated since the mark is then missing. */
struct due {
    uint64_t at_ms; /* monotonic; 0: nothing */
    uint64_t mark;  /* of the recorder, when the last holder was gone */
};

/* One server that is held or waited for. Freed when nobody refers to it and nothing of it is due. */
struct held {
    struct held *next;      /* in its bucket */
    pthread_rwlock_t fence; /* for reading: a holder writes. For writing: it changes hands */
    /* Read under the fence or the table's mutex; written under both. */
    uint64_t life; /* 1, 2, 3...: a session of another life has lost the server */
    bool has_epoch;
    uint64_t epoch;
    uint64_t grace_ms;
    size_t holders;        /* of this life */
    struct session *first; /* of them; the fence's alone */
    struct due due[2];     /* in order of time: of the first drop that is not dealt with, and of the last */
    bool fenced;
    bool closing;      /* fenced, for it is about to be held with an epoch */
    size_t references; /* sessions, of every life, and calls under way. The mutex's */
    char server[];
};

/* A client's. */
struct session {
    struct held *held;
    uint64_t life;                /* 0: it has lost the server */
    struct session *next, **link; /* of the holders of its life, while that is the server's */
    int socket;                   /* the client's; open for as long as the session is among the holders */
    bool writing;                 /* the fence is held for reading */
};

enum { HELD_BUCKETS = 4096 };

struct sessions {
    pthread_mutex_t mutex;
    struct held *buckets[HELD_BUCKETS];
    size_t count;
    _Atomic size_t fenced;  /* how many servers are: 0 lets everybody's writes pass */
    struct writer *writers; /* one a loop, and the worker's. These two are of writers.c alone */
    bool barriers;          /* the system makes all threads pass a barrier when it is asked to */
    uint64_t settle_at_ms;  /* 0: over */
    uint64_t timer_at_ms;   /* for when the timer is set; 0: it is not */
    int timer_fd;           /* readable when that time has come; any thread sets it */
    struct event *timer;
    struct node *node;
    char *name;
    _Atomic uint64_t last_join_id;
    _Atomic uint64_t own_life;    /* how often the node's own server was claimed anew */
    struct gathering *gatherings; /* this and the next two are the mutex's */
    struct share *shares;         /* of max-list-bytes */
    uint64_t gathering_bytes;
    _Atomic size_t gathering_count;
    pthread_cond_t committed; /* with the mutex: one of them has ended its commit */
};

/* Of a server's name, keyed: names are chosen by others. */
uint64_t sessions_hash(const struct sessions *sessions, const char *server);

/* Writes that are under way (writers.c). Between a begin and its end the caller looks whether it may write at all, and
 * only then writes; on its own loop's thread, or the worker's. */

/* False: out of memory. */
bool writers_init(struct sessions *sessions);
void writers_free(struct sessions *sessions);
/* A write to a server that the client does not hold. */
void writers_begin(struct sessions *sessions, const struct client *client, const char *server);
/* A write to one that it holds: only who stops waits for it. */
void writers_begin_held(struct sessions *sessions, const struct client *client);
/* The end of either. */
void writers_end(struct sessions *sessions, const struct client *client);
/* After the server was fenced: until nobody writes to it who may have looked before. */
void writers_wait(struct sessions *sessions, const struct client *client, const char *server);

/* Whether that principal may be the agent that the client has joined as, if it has. */
bool join_permits(const struct join *join, const struct principal *principal);
/* The client leaves the node: its connection is removed, unless the node is stopping. */
void join_close(struct client *client);

#endif
