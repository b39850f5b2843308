/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.c - the names of the stories.
 */
#include "stories.h"

const struct story story_list[] = {
    {"a snapshot overtakes a login", snapshot_overtakes_login},
    {"ids reused after a restart", reused_ids},
    {"a disconnect lost while the link stays up", lost_disconnect},
    {"a late leave after reconnecting elsewhere", late_leave},
    {"one-way partition", one_way_partition},
    {"a cut between two NATS servers", routers_cut_apart},
    {"a deaf observer that would call everybody dead", deaf_observer},
    {"one that wakes with old beats queued", wakes_with_old_beats},
    {"a receiver restarted mid-snapshot", restarted_mid_snapshot},
    {"a receiver too slow for the origin's history", too_slow_for_history},
    {"an origin whose clock went back", clock_went_back},
    {"1,000 (100,000 with --big) agents reconnecting at once", many_reconnect},
    {"two nodes with one name: the second refuses to start", one_name_second_refuses},
    {"two nodes with one name: both run all the same", one_name_both_run},
    {"two nodes that claim one server alive both, with the same epoch", two_claims_one_epoch},
    {"two nodes that claim one server alive both, with different epochs", two_claims_two_epochs},
    {"a gateway that moves to another node while its old connection is half open", moves_half_open},
    {"a node restarted within the lease under the same epoch", restarted_within_lease},
    {"an origin that dies with survivors holding different last numbers, then a newcomer", survivors_and_newcomer},
    {"a forgotten server whose life returns", forgotten_returns},
    {"connections missing before a lapse and still missing after it", missing_before_lapse},
    {"a drain whose sockets close", drain_and_close},
    {"changes that come during a snapshot are not asked for again", changes_during_snapshot},
    {"a gap of hundreds of changes", long_gap},
    {"a late beat of one that has left", late_beat_of_one_that_left},
    {"beats that come back later than a lease", echo_later_than_lease},
    {"a claimant that dies before its claim was complete, and a newcomer", claimant_dies_incomplete},
    {"a claimant that is silent while it completes its claim", claimant_silent_while_incomplete},
    {"a memory that is told again and again while it is recorded", memory_told_while_it_comes},
    {"a memory that does not answer", memory_that_does_not_answer},
    {"a claim taken again before it was complete", retaken_before_complete},
    {"the same, with more disconnections since than are remembered", retaken_and_lagged},
    {"a server that is taken over while an observer is deaf", taken_over_while_deaf},
    {"all fall silent within a lease, but one after the other", silent_one_by_one},
    {"an origin that dies while its snapshot is recorded as it comes", origin_dies_mid_fill},
    {"the same, and nobody else knows what it stated", only_origin_dies_mid_fill},
    {"a server that is taken over while its snapshot is recorded as it comes", taken_over_mid_fill},
    {"chunks that are lost of a snapshot that is recorded as it comes", chunks_lost_mid_fill},
    {"a snapshot that is here long before it is recorded", whole_long_before_recorded},
};
const size_t story_count = sizeof story_list / sizeof story_list[0];
