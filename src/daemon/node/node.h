/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.h - what all clients of this process share: the recorder, the configuration, the loops, the counters.
 *
 * Made by main before any loop runs, and freed after all have ended. Fields that change while loops run say how.
 */
#ifndef DAEMON_NODE_NODE_H
#define DAEMON_NODE_NODE_H

#include "config/config.h"
#include "loop/loop.h"

#include <presence/presence.h>
#include <stdatomic.h>

/* Counters of one loop: written by its thread, read by any. A cache line apart, so that no thread waits for another. */
struct counters {
    _Alignas(64) _Atomic uint64_t commands;
    _Atomic uint64_t errors; /* error replies */
    _Atomic uint64_t protocol_errors;
    _Atomic uint64_t accepted;        /* clients ever */
    _Atomic uint64_t refused;         /* at max-clients */
    _Atomic uint64_t cut_off_output;  /* slow readers */
    _Atomic uint64_t cut_off_idle;    /* idle, or with half a request, for too long */
    _Atomic uint64_t cut_off_reports; /* read for longer than report-timeout */
    _Atomic uint64_t limited;         /* commands refused at a limit; shared */
    _Atomic uint64_t bytes_in, bytes_out;
};

/* Adding to one's own counter needs no locked instruction. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

/* The same, for what other threads count too; all that count it must do so by this. */
static inline void counter_add_shared(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

struct access;
struct answers;
struct sessions;
struct state;
struct cluster;
struct listings;
struct feeds;
struct worker;

struct node {
    const struct config *config;
    presence_recorder *recorder;
    struct loops *loops;
    struct counters *counters; /* one a loop */
    struct access *access;     /* tokens and certificates */
    struct listings *listings; /* kept pages */
    struct answers *answers;   /* to what is asked again and again, one a loop; NULL: none are kept */
    struct worker *worker;     /* long commands; NULL: they are run where they are asked for */
    struct sessions *sessions; /* who states which server */
    struct state *state;       /* the state file; NULL: none is kept */
    struct feeds *feeds;       /* what is watched, one a loop; NULL: this one is alone */
    struct cluster *cluster;   /* the other nodes; NULL: this one is alone */
    const char *name;          /* the node's own server; belongs to sessions */
    presence_time started;
    uint64_t run;                    /* random: this run of the process */
    _Atomic uint64_t clients;        /* connected now, of all kinds */
    _Atomic uint64_t watchers;       /* of them, with a watch */
    _Atomic uint64_t last_client_id; /* client ids are never used twice in a run */
    _Atomic bool stopping;
};

/* The sum of one counter over all loops, by its offset in struct counters. */
uint64_t node_counter(const struct node *node, size_t offset);
/* Milliseconds of the monotonic clock: for graces, limits in time and idleness. */
uint64_t node_now_ms(void);

/* The node's name, which is the host's where none was chosen; false: the host has none. */
enum { NODE_NAME_BYTES = 1025 };
bool node_choose_name(const struct config *config, char name[NODE_NAME_BYTES]);

/* Room for one more client, taken. False: max-clients is reached. Any thread. */
bool node_admit_client(struct node *node);
void node_dismiss_client(struct node *node);

#endif
