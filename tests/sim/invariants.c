/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invariants.c - looks at a node after each event, and at all of them at rest.
 *
 * After an event only what the recorder describes in O(1) is looked at for each server, and the agents of the one or
 * two lives before where something changed; views are only taken at rest.
 */
#include "invariants.h"

#include "actors.h"
#include "network.h"
#include "truth.h"

#include <stdlib.h>
#include <string.h>

enum { LIVES_BACK = 3, IDS_BACK = 24, RUNS = 4 };

/* What a node was seen to hold last. */
struct seen {
    bool known, lapsed;
    presence_claim claim;
    uint64_t number, revision;
};

/* The last beat that stated the server. */
struct heard {
    bool ever;
    uint64_t at, number;
    presence_claim claim;
};

/* Of one run of a node. */
struct latest_beat {
    uint64_t run, sequence, at;
    bool leaving;
};

struct invariants {
    struct seen seen[MOST_NODES][MOST_SERVERS];
    uint64_t revision[MOST_NODES]; /* of its recorder, when it was looked at last */
    struct heard heard[MOST_NODES][MOST_SERVERS];
    struct latest_beat latest[MOST_NODES][MOST_NODES]
                             [RUNS]; /* [receiver][sender]; the run that was met last comes first */
    uint64_t echo_sent[MOST_NODES];  /* its latest beat that came back was sent then; 0: none did */
    uint64_t heard_any[MOST_NODES];  /* when anything came */
    bool excused[MOST_SERVERS];
    presence_claim greatest[MOST_SERVERS]; /* when everything was healed */
    uint64_t greatest_number[MOST_SERVERS];
    struct invariant_counts counts;
};

struct invariants *invariants_new(void)
{
    struct invariants *invariants = calloc(1, sizeof *invariants);
    must(invariants != NULL);
    return invariants;
}

void invariants_free(struct invariants *invariants)
{
    free(invariants);
}

struct invariant_counts invariants_counts(const struct world *world)
{
    return world->invariants->counts;
}

void invariants_excuse(struct world *world, int node, int server)
{
    tell(world, node, "what it holds of %s is corrupted", world->servers[server]);
    world->invariants->excused[server] = true;
}

void invariants_node_starts(struct world *world, int node)
{
    struct invariants *invariants = world->invariants;
    memset(invariants->seen[node], 0, sizeof invariants->seen[node]);
    memset(invariants->heard[node], 0, sizeof invariants->heard[node]);
    memset(invariants->latest[node], 0, sizeof invariants->latest[node]);
    invariants->echo_sent[node] = invariants->heard_any[node] = invariants->revision[node] = 0;
}

static const struct step_config *config_of(const struct world *world, int node)
{
    return world->nodes[node].config != NULL ? world->nodes[node].config : &world->config;
}

/* ---------------------------------------------------------------------------------------------------------- hearing */

static struct latest_beat *latest_of(struct latest_beat *runs, uint64_t run)
{
    for (int i = 0; i < RUNS; i++) {
        if (runs[i].run == run) {
            return &runs[i];
        }
    }
    memmove(&runs[1], &runs[0], (RUNS - 1) * sizeof *runs);
    runs[0] = (struct latest_beat){.run = run};
    return runs;
}

static void hear_beat(struct world *world, int node, const struct message *message, const struct wire_message *decoded)
{
    struct invariants *invariants = world->invariants;
    if (message->sender == node) {
        if (message->sent_at > invariants->echo_sent[node]) {
            invariants->echo_sent[node] = message->sent_at;
        }
        return;
    }
    struct latest_beat *latest = latest_of(invariants->latest[node][message->sender], decoded->run);
    if (decoded->beat.sequence < latest->sequence) {
        return;
    }
    *latest = (struct latest_beat){decoded->run, decoded->beat.sequence, world->now, decoded->beat.leaving};
    for (size_t i = 0; i < decoded->beat.count; i++) {
        int server = world_server_of(world, decoded->beat.stands[i].server);
        if (server >= 0) {
            invariants->heard[node][server] = (struct heard){
                !decoded->beat.leaving, world->now, decoded->beat.stands[i].number, decoded->beat.stands[i].claim};
        }
    }
}

void invariants_hear(struct world *world, int node, const struct message *message)
{
    struct wire_message decoded;
    world->invariants->heard_any[node] = world->now;
    if (message->lane != STEP_BEAT) {
        return;
    }
    wire_arena_reset(world->arena);
    int code = wire_decode(world->arena, message->bytes, message->length, &decoded);
    if (code != WIRE_OK || decoded.kind != WIRE_BEAT) {
        world_blame(world, "%s sent a beat that is none: %s", world->nodes[message->sender].name, wire_strerror(code));
        return;
    }
    hear_beat(world, node, message, &decoded);
}

/* ----------------------------------------------------------------------------------------------------- after events */

/* Rule 1. Agents' names tell their epochs; a lapsed server shows nothing alive anyway. */
static void check_older_lives(struct world *world, int n, int server, const presence_server_description *described)
{
    const struct node *node = &world->nodes[n];
    uint64_t epoch = described->claim.epoch;
    for (uint64_t older = epoch > LIVES_BACK ? epoch - LIVES_BACK : 0; older < epoch; older++) {
        for (uint64_t id = 1; id < IDS_BACK; id++) {
            char name[AGENT_ROOM];
            presence_status status = PRESENCE_UNKNOWN;
            agent_name(name, world, server, older, id);
            presence_recorder_agent_status(node->recorder, SIM_MODEL, name, &status);
            if (status == PRESENCE_ALIVE) {
                world_blame(world, "rule 1: %s is alive on %s, which has seen epoch %llu", name, node->name,
                            (unsigned long long)epoch);
            }
        }
    }
}

/* Rule 2. A claim that was taken without its contents yet holds nothing, under number 0. */
static void check_stated(struct world *world, int n, int server, const presence_server_description *described)
{
    struct invariants *invariants = world->invariants;
    struct stated stated = {.known = false};
    enum truth_answer answer = truth_find(world, server, &described->claim, described->number, &stated);
    if (described->number == 0 && described->connections == 0) {
        return;
    }
    bool same = stated.digest.all == described->digest.all && stated.digest.alive == described->digest.alive &&
                stated.connections == described->connections && stated.alive == described->alive;
    if (answer == TRUTH_PASSED_OVER) {
        invariants->counts.passed_over++;
    } else if (invariants->excused[server]) {
        return;
    } else if (answer == TRUTH_NEVER || !same) {
        world_blame(world, "rule 2: %s holds of %s under %llu.%llu number %llu: %zu connections, %zu alive, %s",
                    world->nodes[n].name, world->servers[server], (unsigned long long)described->claim.epoch,
                    (unsigned long long)described->claim.turn, (unsigned long long)described->number,
                    described->connections, described->alive,
                    answer == TRUTH_NEVER ? "which no origin ever stated" : "its origin held others");
    }
    invariants->counts.compared++;
}

/* Whether all the others, two at least, fell silent here within one lease; *silent_for: since the last of them did. */
static bool all_fell_silent(const struct world *world, int n, uint64_t lease, uint64_t *silent_for)
{
    uint64_t first = UINT64_MAX, last = 0, peers = 0;
    for (int other = 0; other < world->node_count; other++) {
        const struct latest_beat *latest = world->invariants->latest[n][other];
        if (other == n || latest->run == 0 || latest->leaving) {
            continue;
        }
        peers++;
        first = latest->at < first ? latest->at : first;
        last = latest->at > last ? latest->at : last;
    }
    *silent_for = world->now - last;
    return peers >= 2 && last - first < lease / 2 && *silent_for > lease / 2;
}

/* Rule 7. */
static void check_isolation(struct world *world, int n, int server)
{
    const struct step_config *config = config_of(world, n);
    uint64_t silent_for;
    if (world->invariants->heard[n][server].ever &&
        all_fell_silent(world, n, config->lease * MILLISECOND, &silent_for) &&
        silent_for < config->hold * MILLISECOND) {
        world_blame(world,
                    "rule 7: %s lapses on %s, which has heard nobody for %llu ms: it may be the one that is cut off",
                    world->servers[server], world->nodes[n].name, (unsigned long long)(silent_for / MILLISECOND));
    }
}

/* Rule 6: it has just been restored, and is followed under the claim that its holder told last. */
static void check_restore(struct world *world, int n, int server, const presence_server_description *described)
{
    const struct heard *heard = &world->invariants->heard[n][server];
    tell(world, n, "%s is restored", world->servers[server]);
    if (heard->ever && !described->local && !described->forgotten &&
        presence_claim_compare(&heard->claim, &described->claim) == 0 && described->number < heard->number) {
        world_blame(world, "rule 6: %s is restored on %s at number %llu, and its holder was at %llu already",
                    world->servers[server], world->nodes[n].name, (unsigned long long)described->number,
                    (unsigned long long)heard->number);
    }
}

/* Rules 3 and 5: it has just lapsed. */
static void check_lapse(struct world *world, int n, int server, const presence_server_description *described)
{
    struct invariants *invariants = world->invariants;
    const struct heard *heard = &invariants->heard[n][server];
    uint64_t lease = config_of(world, n)->lease * MILLISECOND;
    tell(world, n, "%s lapses", world->servers[server]);
    invariants->counts.lapses++;
    if (heard->ever && presence_claim_compare(&heard->claim, &described->claim) == 0 &&
        world->now - heard->at < lease) {
        world_blame(world, "rule 3: %s lapses on %s %llu ms after a beat that stated it", world->servers[server],
                    world->nodes[n].name, (unsigned long long)((world->now - heard->at) / MILLISECOND));
    }
    uint64_t echo = world->now - invariants->echo_sent[n], any = world->now - invariants->heard_any[n];
    if (heard->ever && (echo > lease || any > lease / 2)) {
        world_blame(world,
                    "rule 5: %s lapses on %s: its last beat that came back was sent %llu ms ago, %llu ms ago "
                    "anything came",
                    world->servers[server], world->nodes[n].name, (unsigned long long)(echo / MILLISECOND),
                    (unsigned long long)(any / MILLISECOND));
    }
}

static void check_server(struct world *world, int n, int server)
{
    const struct node *node = &world->nodes[n];
    struct seen *seen = &world->invariants->seen[n][server];
    presence_server_description described;
    if (presence_replica_describe(node->recorder, world->servers[server], &described) != PRESENCE_OK) {
        seen->known = false;
        return;
    }
    uint64_t revision = presence_recorder_revision(node->recorder);
    bool same = seen->known && seen->revision == revision && seen->number == described.number &&
                seen->lapsed == described.lapsed && presence_claim_compare(&seen->claim, &described.claim) == 0;
    bool lapses = described.lapsed && !(seen->known && seen->lapsed);
    bool restored = seen->known && seen->lapsed && !described.lapsed;
    bool claim_is_new = !seen->known || presence_claim_compare(&seen->claim, &described.claim) != 0;
    *seen = (struct seen){true, described.lapsed, described.claim, described.number, revision};
    bool claimed = described.claim.epoch || described.claim.turn || described.claim.random;
    if (same || !claimed) {
        return;
    }
    if (described.local) {
        truth_record(world, n, server, &described);
    } else if (!described.forgotten) {
        check_stated(world, n, server, &described);
    }
    if (lapses) {
        check_lapse(world, n, server, &described);
        check_isolation(world, n, server);
    } else if (restored && !claim_is_new) {
        check_restore(world, n, server, &described);
    }
    /* Where nothing is inherited, only a claim that has just taken something in, or a bug, could show an older life. */
    if (claim_is_new || described.inherited > 0 || described.number % 8 == 0) {
        check_older_lives(world, n, server, &described);
    }
}

void invariants_check(struct world *world, int node)
{
    uint64_t revision = presence_recorder_revision(world->nodes[node].recorder);
    if (revision == world->invariants->revision[node]) {
        return; /* nothing was stated, lapsed, restored or claimed */
    }
    world->invariants->revision[node] = revision;
    for (int server = 0; server < world->server_count && !world->blamed; server++) {
        check_server(world, node, server);
    }
}

/* ---------------------------------------------------------------------------------------------------------- healed */

void invariants_healed(struct world *world)
{
    struct invariants *invariants = world->invariants;
    memset(invariants->greatest, 0, sizeof invariants->greatest);
    memset(invariants->greatest_number, 0, sizeof invariants->greatest_number);
    for (int n = 0; n < world->node_count; n++) {
        for (int server = 0; server < world->server_count; server++) {
            presence_server_description described;
            if (!world_is_running(world, n) ||
                presence_replica_describe(world->nodes[n].recorder, world->servers[server], &described)) {
                continue;
            }
            int compared = presence_claim_compare(&described.claim, &invariants->greatest[server]);
            if (compared > 0 || (compared == 0 && described.number > invariants->greatest_number[server])) {
                invariants->greatest[server] = described.claim;
                invariants->greatest_number[server] = described.number;
            }
        }
    }
}

void invariants_greatest(const struct world *world, int server, presence_claim *claim, uint64_t *number)
{
    *claim = world->invariants->greatest[server];
    *number = world->invariants->greatest_number[server];
}
