/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stories.h - what happened, or could, to a cluster: each story scripts a world, and says what must be so; the
 * invariants hold in all of them besides, and each ends at rest.
 *
 * Times are the usual ones: a beat each 500 ms, a lease of 3 s, 30 s to settle and to hold.
 */
#ifndef SIM_STORIES_H
#define SIM_STORIES_H

#include "../actors.h"
#include "../invariants.h"
#include "../network.h"
#include "../truth.h"
#include "../world.h"

#include <string.h>

struct story {
    const char *name;
    void (*play)(struct world *world);
};

extern const struct story story_list[];
extern const size_t story_count;

/* ----------------------------------------------------------------------------------------------------------- given */

/* Nodes n0, n1... that have joined and are ready. */
void given_nodes(struct world *world, int count);
/* A node more, which begins now; its number. */
int newcomer(struct world *world, const char *name);
/* A gateway of that server bound to the node, with agents 1 to `agents`; known everywhere. Its actor. */
int gateway(struct world *world, const char *server, uint64_t epoch, int node, unsigned agents);
/* Agents more, at once, without a look at those that it has. Not stated yet. */
void more_agents(struct world *world, int actor, unsigned agents);

/* ------------------------------------------------------------------------------------- without an actor: by hand */

int claim(struct world *world, int node, const char *server, uint64_t epoch);
int login(struct world *world, int node, const char *server, uint64_t id, const char *agent);
int logout(struct world *world, int node, const char *server, uint64_t id);

/* ----------------------------------------------------------------------------------------------------- what is seen */

presence_server_description server_on(struct world *world, int node, const char *server);
size_t alive_on(struct world *world, int node, const char *server);
bool lapsed_on(struct world *world, int node, const char *server);
presence_status agent_on(struct world *world, int node, const char *agent);
presence_reason reason_on(struct world *world, int node, const char *agent);
enum step_doubt doubt_on(struct world *world, int node, const char *server); /* NULL: of the node */
bool all_fresh_on(struct world *world, int number);                          /* of every answer */
struct step_counters counters_of(const struct world *world, int node);

/* Time goes by, and all the while every running node shows so many of the server's agents alive. */
void all_show_alive(struct world *world, uint64_t for_ns, const char *server, size_t alive);
/* What the node streams to that other from now on is on its way for that long; beats and states are not. What is
 * streamed later stays behind it. */
void slow_stream(struct world *world, int from, int to, uint64_t delay);
/* So is every lane. */
void slow_link(struct world *world, int from, int to, uint64_t delay);
/* As it was: not slow, not cut. */
void good_link(struct world *world, int from, int to);

/* --------------------------------------------------------------------------------------------------------- by file */

void snapshot_overtakes_login(struct world *world);
void lost_disconnect(struct world *world);
void long_gap(struct world *world);
void restarted_mid_snapshot(struct world *world);
void too_slow_for_history(struct world *world);
void many_reconnect(struct world *world);
void clock_went_back(struct world *world);
void changes_during_snapshot(struct world *world);

void origin_dies_mid_fill(struct world *world);
void only_origin_dies_mid_fill(struct world *world);
void taken_over_mid_fill(struct world *world);
void claim_waits_for_fill(struct world *world);
void few_tell_what_all_remember(struct world *world);
void chunks_lost_mid_fill(struct world *world);
void whole_long_before_recorded(struct world *world);

void far_behind(struct world *world);
void two_behind(struct world *world);
void down_while_behind(struct world *world);
void corrupted_while_behind(struct world *world);

void reused_ids(struct world *world);
void late_leave(struct world *world);
void moves_half_open(struct world *world);
void restarted_within_lease(struct world *world);
void missing_before_lapse(struct world *world);
void drain_and_close(struct world *world);
void late_beat_of_one_that_left(struct world *world);

void one_way_partition(struct world *world);
void routers_cut_apart(struct world *world);
void deaf_observer(struct world *world);
void wakes_with_old_beats(struct world *world);
void echo_later_than_lease(struct world *world);
void taken_over_while_deaf(struct world *world);
void silent_one_by_one(struct world *world);

void one_name_second_refuses(struct world *world);
void one_name_both_run(struct world *world);
void two_claims_one_epoch(struct world *world);
void retaken_before_complete(struct world *world);
void retaken_and_lagged(struct world *world);
void two_claims_two_epochs(struct world *world);
void claim_of_one_found_silent(struct world *world);

void survivors_and_newcomer(struct world *world);
void forgotten_returns(struct world *world);
void claimant_dies_incomplete(struct world *world);
void claimant_dies_incomplete_in_pieces(struct world *world);
void claimed_and_not_stated_yet(struct world *world);
void claimant_dies_before_it_answers(struct world *world);
void claimant_silent_while_incomplete(struct world *world);
void memory_told_while_it_comes(struct world *world);
void memory_that_does_not_answer(struct world *world);

#endif
