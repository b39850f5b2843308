/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memories.c - servers whose node is gone, as the others remember them.
 */
#include "stories.h"

enum { AGENTS = 3000 };

static bool lose_changes_to_n2(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    return !(to == 2 && message->kind == WIRE_CHANGES);
}

/* n0 dies with its last word: n1 has heard it, n2 has not. */
void survivors_and_newcomer(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, 2);
    world->network->filter = lose_changes_to_n2;
    actor_connect(world, g0, 3);
    world_run(world, 10 * MILLISECOND);
    world_crash(world, 0);
    world->network->filter = NULL;
    uint64_t last = server_on(world, 1, "g0").number;
    want(world, server_on(world, 2, "g0").number == last - 1);
    world_run(world, 2 * SECOND);
    want(world, alive_on(world, 1, "g0") == 3 && alive_on(world, 2, "g0") == 2);
    world_run(world, 6 * SECOND);
    want(world, lapsed_on(world, 1, "g0") && lapsed_on(world, 2, "g0"));
    want(world, server_on(world, 2, "g0").number == last);
    int n3 = newcomer(world, "n3");
    world_run(world, 6 * SECOND);
    want(world, step_ready(world->nodes[n3].step) && server_on(world, n3, "g0").number == last);
    want(world, agent_on(world, n3, "g0.e1.i3") == PRESENCE_MISSING);
    want(world, doubt_on(world, n3, "g0") == STEP_SILENT);
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    world_rest(world);
}

static unsigned told;

static bool lose_changes_to_odd_ones(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    return !(to % 2 && message->kind == WIRE_CHANGES);
}

static bool count_memories(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    (void)to;
    told += message->kind == WIRE_KNOWN && message->known.tag == 0;
    return true;
}

/* Of eight who outlive n0 four have missed its last word. One that has it tells, or a few, and not each of them all. */
void few_tell_what_all_remember(struct world *world)
{
    given_nodes(world, 9);
    int g0 = gateway(world, "g0", 1, 0, 2);
    world->network->filter = lose_changes_to_odd_ones;
    actor_connect(world, g0, 3);
    world_run(world, 10 * MILLISECOND);
    world_crash(world, 0);
    told = 0;
    world->network->filter = count_memories;
    uint64_t last = server_on(world, 2, "g0").number;
    want(world, server_on(world, 1, "g0").number == last - 1);
    world_run(world, 10 * SECOND);
    for (int node = 1; node < 9; node++) {
        want(world, lapsed_on(world, node, "g0") && server_on(world, node, "g0").number == last);
    }
    want(world, told >= 7 && told <= 3 * 7);
    world->network->filter = NULL;
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    world_rest(world);
}

/* What n0 said last is under way to n1 for 20 s, and comes when all have forgotten it. */
void forgotten_returns(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 4, 0, 2);
    actor_of(world, g0)->restates_singly = true;
    slow_stream(world, 0, 1, 20 * SECOND);
    actor_connect(world, g0, 3);
    world_run(world, 10 * MILLISECOND);
    want(world, step_forget(world->nodes[1].step, node_now(&world->nodes[1]), "g0") == PRESENCE_E_STALE);
    world_crash(world, 0);
    world_run(world, 6 * SECOND);
    want(world, lapsed_on(world, 1, "g0"));
    want(world, step_forget(world->nodes[1].step, node_now(&world->nodes[1]), "g0") == PRESENCE_OK);
    world_after(world, 1);
    world_run(world, 3 * SECOND);
    for (int node = 1; node < 3; node++) {
        want(world, server_on(world, node, "g0").forgotten && agent_on(world, node, "g0.e4.i1") == PRESENCE_UNKNOWN);
    }
    world_run(world, 14 * SECOND);
    want(world, server_on(world, 1, "g0").forgotten && agent_on(world, 1, "g0.e4.i3") == PRESENCE_UNKNOWN);

    want(world, actor_bind(world, g0, 2) == PRESENCE_OK); /* it was not dead at all */
    world_run(world, 2 * SECOND);
    for (int node = 1; node < 3; node++) {
        want(world, alive_on(world, node, "g0") == 3 && !server_on(world, node, "g0").forgotten);
    }
    world_rest(world);
}

/* g0 was on n0, which died; on n1 two of its four agents are stated anew. */
static void half_restated(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, 4);
    world_crash(world, 0);
    world_run(world, 500 * MILLISECOND);
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    want(world, claim(world, 1, "g0", 1) == PRESENCE_OK);
    login(world, 1, "g0", 1, "g0.e1.i1");
    login(world, 1, "g0", 2, "g0.e1.i2");
    world_run(world, SECOND);
    want(world, alive_on(world, 1, "g0") == 4 && alive_on(world, 2, "g0") == 4);
}

/* n3 came when n1 had claimed g0, and is told what was stated since, and what is inherited, as n2 knows it; then n1
 * dies before its claim is complete. What is inherited is missing until the settle time is over, which is all the time
 * that n1 would have given it; n4 comes meanwhile, and is told by those who remember. */
static void claimant_dies(struct world *world, size_t chunk_values)
{
    world->config.chunk_values = chunk_values;
    half_restated(world);
    int n3 = newcomer(world, "n3");
    world_run(world, 6 * SECOND);
    want(world, step_ready(world->nodes[n3].step) && alive_on(world, n3, "g0") == 4);
    want(world, server_on(world, n3, "g0").inherited == 2 && !server_on(world, n3, "g0").complete);
    world_crash(world, 1);
    world_run(world, 6 * SECOND);
    int n4 = newcomer(world, "n4");
    world_run(world, 6 * SECOND);
    for (int node = 2; node <= n4; node++) {
        want(world, agent_on(world, node, "g0.e1.i4") == PRESENCE_MISSING);
        want(world, agent_on(world, node, "g0.e1.i1") == PRESENCE_MISSING);
    }
    world_run(world, world->config.settle * MILLISECOND);
    for (int node = 2; node <= n4; node++) {
        want(world, agent_on(world, node, "g0.e1.i1") == PRESENCE_MISSING && lapsed_on(world, node, "g0"));
        want(world, agent_on(world, node, "g0.e1.i4") == PRESENCE_UNKNOWN);
    }
    world_rest(world);
}

void claimant_dies_incomplete(struct world *world)
{
    claimant_dies(world, 1024);
}

/* The state is recorded as it comes. */
void claimant_dies_incomplete_in_pieces(struct world *world)
{
    claimant_dies(world, 1);
}

static bool lose_states(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    (void)to;
    return message->kind != WIRE_CHUNK;
}

/* A newcomer heard of the claim, and its claimant dies before it answers: who remembers what it inherited does. */
void claimant_dies_before_it_answers(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, 4);
    world_crash(world, 0);
    world_run(world, 500 * MILLISECOND);
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    want(world, claim(world, 1, "g0", 2) == PRESENCE_OK);
    world_run(world, SECOND);
    world->network->filter = lose_states;
    int n3 = newcomer(world, "n3");
    world_run(world, 3 * SECOND);
    world_crash(world, 1);
    world->network->filter = NULL;
    world_run(world, 10 * SECOND);
    for (int node = 2; node <= n3; node++)
        want(world, agent_on(world, node, "g0.e1.i1") == PRESENCE_MISSING);
    world_rest(world);
}

/* Nothing was stated under the new claim yet: what is inherited is all that there is to tell. */
void claimed_and_not_stated_yet(struct world *world)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, 4);
    world_crash(world, 0);
    world_run(world, 500 * MILLISECOND);
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    want(world, claim(world, 1, "g0", 2) == PRESENCE_OK); /* a newer life */
    world_run(world, SECOND);
    int n3 = newcomer(world, "n3");
    world_run(world, 6 * SECOND);
    for (int node = 1; node <= n3; node++) {
        want(world, agent_on(world, node, "g0.e1.i1") == PRESENCE_MISSING);
        want(world, reason_on(world, node, "g0.e1.i1") == PRESENCE_REASON_SUPERSEDED);
    }
    login(world, 1, "g0", 1, "g0.e2.i1");
    world_run(world, SECOND);
    for (int node = 1; node <= n3; node++) {
        want(world, agent_on(world, node, "g0.e1.i1") == PRESENCE_UNKNOWN);
        want(world, agent_on(world, node, "g0.e2.i1") == PRESENCE_ALIVE && counters_of(world, node).states_taken <= 1);
        want(world, agent_on(world, node, "g0.e1.i2") == PRESENCE_MISSING);
    }
    world_run(world, 2 * SECOND + world->config.settle * MILLISECOND);
    for (int node = 1; node <= n3; node++) {
        want(world, agent_on(world, node, "g0.e1.i2") == PRESENCE_UNKNOWN && alive_on(world, node, "g0") == 1);
    }
    logout(world, 1, "g0", 1);
    world_rest(world);
}

/* n2 does not hear n1 while that completes its claim, and settles by itself: nothing has to be sent again. */
void claimant_silent_while_incomplete(struct world *world)
{
    half_restated(world);
    world->network->links[1][2].cut = true;
    world_run(world, 2 * SECOND + world->config.settle * MILLISECOND);
    for (int node = 1; node < 3; node++) {
        want(world, agent_on(world, node, "g0.e1.i4") == PRESENCE_UNKNOWN);
    }
    want(world, lapsed_on(world, 2, "g0") && alive_on(world, 2, "g0") == 0 && alive_on(world, 1, "g0") == 2);
    good_link(world, 1, 2);
    world_run(world, 2 * SECOND);
    want(world, alive_on(world, 2, "g0") == 2 && counters_of(world, 2).states_taken == 0);
    want(world, counters_of(world, 2).digest_differences == 0);
    logout(world, 1, "g0", 1);
    logout(world, 1, "g0", 2);
    world_rest(world);
}

/* n0 is dead, and n1 and n2 remember what it stated: a newcomer, whose second thread takes so long. */
static int newcomer_after_death(struct world *world, uint64_t job_ns)
{
    given_nodes(world, 3);
    int g0 = gateway(world, "g0", 1, 0, AGENTS);
    world_run(world, 2 * SECOND);
    want(world, alive_on(world, 1, "g0") == AGENTS && alive_on(world, 2, "g0") == AGENTS);
    world_crash(world, 0);
    actor_die(world, g0, 0, PRESENCE_REASON_TIMED_OUT);
    world_run(world, 6 * SECOND);
    want(world, lapsed_on(world, 1, "g0") && lapsed_on(world, 2, "g0"));
    int late = world_node(world, "late");
    world->nodes[late].job_ns = job_ns;
    world_start(world, late);
    return late;
}

static void want_remembered(struct world *world, int node)
{
    want(world, step_ready(world->nodes[node].step) && lapsed_on(world, node, "g0"));
    want(world, server_on(world, node, "g0").connections == AGENTS && counters_of(world, node).states_taken == 1);
}

/* Until the newcomer has it what they remember differs, so both tell it every two seconds, and it takes longer to be
 * recorded: it is not begun anew for that. */
void memory_told_while_it_comes(struct world *world)
{
    int late = newcomer_after_death(world, 2 * SECOND);
    world_run(world, 12 * SECOND);
    want_remembered(world, late);
    want(world, counters_of(world, late).chunks_taken == 8);
    world_rest(world);
}

static int not_answering;

/* The first that is asked for a state hears no such question. */
static bool lose_questions_to_first(struct world *world, int from, int to, const struct wire_message *message)
{
    (void)world;
    (void)from;
    if (message->kind != WIRE_ASK || message->ask.question != WIRE_ASK_STATE) {
        return true;
    }
    not_answering = not_answering < 0 ? to : not_answering;
    return to != not_answering;
}

/* Another who tells the same is asked then, long before the first would be given up. */
void memory_that_does_not_answer(struct world *world)
{
    not_answering = -1;
    int late = newcomer_after_death(world, MILLISECOND);
    world->network->filter = lose_questions_to_first;
    world_run(world, 20 * SECOND); /* of the two, who tells is as it falls out, every two seconds */
    want(world, not_answering >= 0);
    want_remembered(world, late);
    world->network->filter = NULL;
    world_rest(world);
}
