/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulk.h - the phases of a whole list (bulk.c), for a state that comes in pieces (state.c).
 *
 * But for bulk_prepare_value the lock is held.
 */
#ifndef BULK_H
#define BULK_H

#include "recorder.h"

struct item {
    uint64_t model_hash, agent_hash;
    uint16_t model_length, agent_length, data_length;
};

struct bulk {
    struct bulk *next; /* among recorder->running */
    struct presence_recorder *recorder;
    struct registry *registry; /* held */
    const struct bulk_request *request;
    struct item *items;
    struct id_set *departed;
    uint32_t server;
    struct server face; /* of the server, with the claim that the digest is for */
    uint64_t connections, alive;
    uint64_t stated_alive; /* UNSTATED: of them, those at or above the base */
    presence_digest digest;
    uint64_t missing; /* of them, stated as missing */
    bool news;        /* the list changes more than last_seen */
    bool in_pieces;   /* its rows are all that the server has: an id that comes twice is found among them */
    bool idle;        /* nobody works on it: who needs the server takes it over */
    bool lost;        /* somebody did */
};

/* Checks and hashes a value of the list; INVALID, MISMATCH, or, where `ids` is not NULL, DUPLICATE. */
int bulk_prepare_value(struct bulk *bulk, struct id_set *ids, size_t i, presence_error *error);
/* Makes the server busy. *nothing: there is nothing to do. */
int bulk_begin(struct bulk *bulk, bool *nothing, presence_error *error);
int bulk_stage_list(struct bulk *bulk);
int bulk_commit(struct bulk *bulk);
/* Sweeps what was staged or committed; if there is no memory for it, leaves it to the next caller of bulk_wait. */
void bulk_finish(struct bulk *bulk);
/* Wakes those who wait for the server, whatever became of it. */
void bulk_stop(struct bulk *bulk);

#endif
