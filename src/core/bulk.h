/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulk.h - the phases of a whole list (bulk.c), for a state that comes in pieces (state.c) and for a difference
 * (difference.c).
 *
 * But for bulk_prepare_value the lock is held.
 */
#ifndef BULK_H
#define BULK_H

#include "recorder.h"

enum { BULK_STEP = 32 }; /* values that are staged before others have their turn */

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
    uint64_t missing;                    /* of them, stated as missing */
    uint64_t inherited, inherited_alive; /* STATE: of them, of an older claim */
    bool news;                           /* the list changes more than last_seen */
    bool down;      /* DIFFERENCE: the server went down since: what is not stated as alive is missing */
    bool drops;     /* some rows are not in it */
    size_t added;   /* values in earlier pieces of the same state, for messages */
    size_t twice;   /* DUPLICATE in a piece: which value of it */
    bool in_pieces; /* its rows are all that the server has: an id that comes twice is found among them */
    bool idle;      /* nobody works on it: who needs the server takes it over */
    bool lost;      /* somebody did */
};

/* Checks and hashes a value of the list; INVALID, MISMATCH, or, where `ids` is not NULL, DUPLICATE. */
int bulk_prepare_value(struct bulk *bulk, struct id_set *ids, size_t i, presence_error *error);
/* Makes the server busy. *nothing: there is nothing to do. */
int bulk_begin(struct bulk *bulk, bool *nothing, presence_error *error);
int bulk_stage_list(struct bulk *bulk);
/* Parts of it: what value i says; a row that nobody sees yet, beside the one that is there; what becomes of that. */
struct facts bulk_item_facts(const struct bulk *bulk, size_t i);
int bulk_stage_fresh(struct bulk *bulk, const struct facts *facts, enum row_mark row_mark, presence_time last_seen,
                     bool inherited);
void bulk_mark(struct bulk *bulk, uint32_t row, enum row_mark mark);
void bulk_prefetch_values(const struct bulk *bulk, size_t from, size_t to);
/* True: the recorder was disabled meanwhile, and with it went the registry that we worked on. */
bool bulk_give_way(struct bulk *bulk);
int bulk_commit(struct bulk *bulk);
/* Sweeps what was staged or committed; if there is no memory for it, leaves it to the next caller of bulk_wait. */
void bulk_finish(struct bulk *bulk);
/* Wakes those who wait for the server, whatever became of it. */
void bulk_stop(struct bulk *bulk);

/* Whether a difference may be applied to what is known of the server, which is idle; and its staging. */
int difference_check(const struct bulk_request *request, const struct server *server);
int difference_stage(struct bulk *bulk);

#endif
