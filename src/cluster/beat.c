/* SPDX-License-Identifier: Apache-2.0 */
/*
 * beat.c - who lives. Each node sends a small beat at each interval, with where its servers stand, and listens for the
 * others' and for its own.
 *
 *   A  A peer without a beat for its lease is silent; what it states lapses: reads missing until it is heard again.
 *   B  A beat that is older than one heard of the same run says nothing.
 *   C  Own beats that come back say that this node hears. Only such count as were sent within the last lease, and
 *      since this process last woke: what was queued while it slept proves nothing.
 *   D  A node that does not hear itself is deaf: it judges nobody, and says so. Hearing again, it gives every lease a
 *      fresh start, that of a server which its node no longer lists too (step.c). Nor does it call a peer silent before
 *      a beat of its own from the last interval of that silence came back: it may be about to find that it is deaf.
 *   E  The same after a pause of this process.
 *   F  Where most of the cluster, and at least two peers, fall silent within one lease, that is stale first, and
 *      missing only after the hold. One that was found silent within that lease counts among them.
 *   A beat of our own name from another run, while we are joining: two of one name.
 */
#include "cluster/inside.h"

enum { STANDS_A_PART = 128, HASTENED = 64, LEASE_MOST_MS = 300000 /* whatever a peer says of its own */ };

/* ------------------------------------------------------------------------------------------------------- sending -- */

static size_t count_ours(const struct step *step)
{
    size_t count = 0;
    for (const struct server *server = step->servers; server; server = server->next)
        count += server->role == OURS;
    return count;
}

static void send_part(struct step *step, struct wire_beat *beat)
{
    struct wire_message message = {.kind = WIRE_BEAT, .beat = *beat};
    step_broadcast(step, STEP_BEAT, &message);
}

void beat_send(struct step *step, bool leaving)
{
    struct wire_stand stands[STANDS_A_PART];
    struct wire_beat beat = {.sequence = ++step->sequence,
                             .nonce = step_random(step),
                             .interval_ms = step->config.interval,
                             .lease_ms = step->config.lease,
                             .joining = !step->ready,
                             .leaving = leaving,
                             .stands = stands,
                             .memory = orphans_memory(step)};
    step->echoes[beat.sequence % ECHOES] = (struct echo){beat.sequence, beat.nonce, step->now};
    uint64_t revision = presence_recorder_revision(step->recorder); /* before the numbers */
    size_t ours = count_ours(step);
    beat.parts = (uint32_t)(ours / STANDS_A_PART + 1);
    for (struct server *server = step->servers; server; server = server->next) {
        presence_server_description known;
        if (server->role != OURS || !server_describe(step, server, &known))
            continue;
        describe_stand(server->name, &known, &stands[beat.count++]);
        transfer_note(server, &known, revision);
        if (beat.count == STANDS_A_PART) {
            send_part(step, &beat);
            beat.part++;
            beat.count = 0;
        }
    }
    while (beat.part < beat.parts) {
        send_part(step, &beat);
        beat.part++;
        beat.count = 0;
    }
    step->counters.beats_sent++;
}

uint64_t beat_run(struct step *step)
{
    if (!step->link)
        return NEVER;
    if (step->next_beat <= step->now) {
        beat_send(step, false);
        step->next_beat = step->now + step->config.interval * MS;
    }
    return step->next_beat;
}

void beat_hasten(struct step *step, uint64_t within)
{
    if (step->link && step->next_beat > step->now + within)
        step->next_beat = step->now + within;
}

/* ------------------------------------------------------------------------------------------------------- silence -- */

uint64_t beat_since(const struct step *step, uint64_t when)
{
    return when > step->calm || !rule(step, STEP_RULE_CALM) ? when : step->calm;
}

static uint64_t silence_began(const struct step *step, const struct peer *peer)
{
    return beat_since(step, peer->heard);
}

static bool is_quiet(const struct step *step, const struct peer *peer)
{
    return peer->silent || step->now - silence_began(step, peer) > peer->lease / 2;
}

/* ----------------------------------------------------------------------------------------------------- receiving -- */

static void hear_own(struct step *step, const struct wire_beat *beat)
{
    step->judge_due = 0; /* who is overdue may be judged now (D) */
    const struct echo *echo = &step->echoes[beat->sequence % ECHOES];
    bool ours = echo->sequence == beat->sequence && echo->nonce == beat->nonce && echo->sent != 0;
    if (!rule(step, STEP_RULE_OWN_ECHO)) {
        step->echoed = step->now;
        return;
    }
    if (ours && step->now - echo->sent <= step->config.lease * MS && echo->sent > step->echoed)
        step->echoed = echo->sent;
}

/* A server that the peer no longer lists: it has yielded it, or forgotten it. */
static void find_dropped(struct step *step, struct peer *peer)
{
    if (peer->stands_seen == peer->servers)
        return;
    for (struct server *server = step->servers; server; server = server->next)
        if (server->role == THEIRS && server->holder == peer && server->told_sequence != peer->sequence &&
            server->orphaned == 0)
            server_orphan(step, server, step->now);
}

static void peer_leaves(struct step *step, struct peer *peer)
{
    peer->left = peer->silent = true;
    orphans_may_have_come(step);
    step_say(step, STEP_INFO, "left", "node %s has left", peer->node);
    for (struct server *server = step->servers; server; server = server->next) {
        if (server->role != THEIRS || server->holder != peer)
            continue;
        presence_server_description known;
        if (!server->orphaned)
            server_orphan(step, server, step->now);
        server->last_word = server->told_sequence == peer->sequence;
        /* Drained rows are missing already, and stay so for that reason. What is behind has its last change under way,
         * and what the beat does not list another may have taken over, and is heard in time: both lapse later, if at
         * all. */
        if (server->told_sequence == peer->sequence && server_describe(step, server, &known) &&
            known.number >= server->told.number)
            follow_lapse(step, server);
    }
}

/* Two that join at once both hear the other: the larger run gives way. */
static void note_double_name(struct step *step, const struct wire_message *message)
{
    if (message->beat.leaving)
        return;
    if (step_may_say(step, 2))
        step_say(step, STEP_WARNING, "double", "another process has the name %s in this cluster", message->node);
    bool give_way = !step->ready && (!message->beat.joining || step->run > message->run);
    if (give_way && step->output.double_name)
        step->output.double_name(step->output.context);
}

/* It waits for our next beat to learn what we state. The more know each other, the less they hasten: all their extra
 * beats are at most HASTENED in an interval, however many come. */
static void welcome(struct step *step)
{
    if (count_ours(step) > 0)
        beat_hasten(step, step->config.interval * MS * step->peer_count / HASTENED);
}

void beat_receive(struct step *step, const struct wire_message *message)
{
    const struct wire_beat *beat = &message->beat;
    bool our_name = strcmp(message->node, step->config.node) == 0;
    if (our_name && message->run == step->run) {
        hear_own(step, beat);
        return;
    }
    struct peer *peer = peer_find_or_add(step, message->node, message->run);
    if (!peer) {
        step->counters.refused++;
        return;
    }
    if (rule(step, STEP_RULE_LATE_BEAT) && (beat->sequence < peer->sequence || peer->left)) /* B */
        return;
    if (our_name && peer->sequence != 0 && beat->sequence > peer->sequence)
        note_double_name(step, message); /* a second beat: it is no echo of a run that has just ended */
    if (peer->sequence == 0 && beat->joining)
        welcome(step);
    if (beat->sequence != peer->sequence) {
        peer->sequence = beat->sequence;
        peer->parts_seen = 0;
        peer->stands_seen = 0;
        step->counters.beats_heard++;
    }
    bool fresh = peer->parts_seen == 0;
    if (is_quiet(step, peer))
        step->judge_due = 0; /* who falls silent, or most of all, may not any more */
    peer->heard = step->now;
    peer->joining = beat->joining;
    peer->interval = (beat->interval_ms ? beat->interval_ms : step->config.interval) * MS;
    peer->lease = (beat->lease_ms ? beat->lease_ms : step->config.lease) * MS;
    if (peer->lease > LEASE_MOST_MS * MS)
        peer->lease = LEASE_MOST_MS * MS;
    peer->memory = beat->memory;
    if (peer->silent) {
        peer->silent = false;
        step_say(step, STEP_INFO, "heard", "node %s is heard again", peer->node);
    }
    for (size_t i = 0; i < beat->count; i++) {
        struct server *server = server_find_or_add(step, beat->stands[i].server);
        if (server)
            follow_told(step, server, peer, &beat->stands[i], beat->sequence);
        else
            step->counters.refused++;
        peer->stands_seen += server && server->holder == peer;
    }
    peer->parts_seen += beat->part == peer->parts_seen; /* one that came twice, or out of order, counts for nothing */
    if (beat->part + 1 == beat->parts && peer->parts_seen == beat->parts)
        find_dropped(step, peer);
    if (beat->leaving)
        peer_leaves(step, peer);
    if (fresh)
        orphans_compare(step, peer);
}

/* ------------------------------------------------------------------------------------------------------- judging -- */

static bool is_deaf(const struct step *step)
{
    if (!rule(step, STEP_RULE_DEAF))
        return false;
    return !step->link || step->echoed == 0 || step->now - step->echoed > step->config.lease * MS;
}

static void judge_hearing(struct step *step)
{
    bool deaf = is_deaf(step);
    if (deaf == step->deaf)
        return;
    step->deaf = deaf;
    step->judge_due = 0;
    if (deaf) {
        if (step->ready) {
            step->doubt_since = step->echoed ? step->echoed : step->now;
            step_say(step, STEP_WARNING, "deaf", "own beats do not come back: nobody is judged until they do");
        }
    } else {
        step->calm = step->now; /* D */
        if (step->ready) {
            step->doubt_since = 0;
            step_say(step, STEP_INFO, "hearing", "own beats come back");
        }
    }
}

/* Most of those that were heard, and two at least, have been silent for half a lease and more. Who was found silent
 * already is one of them if it was last heard within a lease of one that is not yet; who went before that is gone. */
static bool most_are_silent(const struct step *step)
{
    uint64_t latest = 0;
    for (const struct peer *peer = step->peers; peer; peer = peer->next)
        if (!peer->left && !peer->silent && peer->sequence != 0 && is_quiet(step, peer) && peer->heard > latest)
            latest = peer->heard;
    size_t silent = 0, all = 0;
    for (const struct peer *peer = step->peers; peer; peer = peer->next) {
        if (peer->left || peer->sequence == 0 ||
            (peer->silent && (peer->heard + peer->lease < latest || !rule(step, STEP_RULE_FELLOWS))))
            continue;
        all++;
        silent += is_quiet(step, peer);
    }
    return latest != 0 && silent >= 2 && silent * 2 > all + 1;
}

static void fall_silent(struct step *step, struct peer *peer)
{
    peer->silent = true;
    orphans_may_have_come(step);
    step_say(step, STEP_WARNING, "silent", "node %s was not heard for its lease of %llu ms", peer->node,
             (unsigned long long)(peer->lease / MS));
    for (struct server *server = step->servers; server && rule(step, STEP_RULE_LEASE); server = server->next) {
        if (server->role != THEIRS || server->holder != peer)
            continue;
        follow_lapse(step, server); /* A */
        presence_server_description known;
        if (server->is_told && server_describe(step, server, &known) && !known.complete &&
            lacks_inherited(step, &server->told, &known))
            orphans_ask(step, server); /* Z: memories are alike without it, so nobody would tell */
    }
}

/* Peers that are gone for long, and state nothing that is known here. */
static void forget_gone(struct step *step)
{
    for (struct peer *peer = step->peers, *next; peer; peer = next) {
        next = peer->next;
        if ((peer->silent || peer->left) && peer->servers == 0 && peer->intakes == 0 &&
            step->now - peer->heard > 4 * ((uint64_t)step->config.hold + step->config.lease) * MS)
            peer_forget(step, peer);
    }
}

/* Beats of ours from the end of that time and from lately came back: it was not us who heard nothing (D). */
bool beat_heard_ourselves(const struct step *step, uint64_t until)
{
    uint64_t interval = step->config.interval * MS;
    return !rule(step, STEP_RULE_DEAF) ||
           (step->echoed + interval >= until && step->echoed + 2 * interval >= step->now);
}

uint64_t beat_judge(struct step *step)
{
    judge_hearing(step);
    if (step->deaf)
        return step->now + step->config.interval * MS / 4;
    if (step->now < step->judge_due)
        return step->judge_due;
    bool most = rule(step, STEP_RULE_MASS) && most_are_silent(step);
    if (most && !step->most_silent) {
        step->silent_since = step->now;
        step_say(step, STEP_WARNING, "silence", "most of the cluster is not heard: stale, and missing only after %u ms",
                 step->config.hold);
    }
    step->most_silent = most;
    bool held = most && step->now - step->silent_since < step->config.hold * MS;
    uint64_t due = step->now + step->config.interval * MS / 4;
    for (struct peer *peer = step->peers; peer; peer = peer->next) {
        if (peer->silent || peer->left)
            continue;
        uint64_t until = silence_began(step, peer) + peer->lease;
        if (step->now > until && !held && beat_heard_ourselves(step, until))
            fall_silent(step, peer);
        else if (step->now <= until && until + 1 < due)
            due = until + 1;
    }
    forget_gone(step);
    step->judge_due = due;
    return due;
}
