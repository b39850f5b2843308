/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_step.c - the step function's daily bread: nodes in one process, a wire that delivers at once, time that the
 * story moves. What happens when the wire is bad is the simulator's matter (tests/sim).
 */
#include "cluster/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NODES = 3, MESSAGES_MOST = 100000 };
#define MS UINT64_C(1000000)
#define MODEL "2e15302a-bbdf-4077-8e65-116a5a0e0348"

struct world;

struct node {
    struct world *world;
    char name[16];
    presence_recorder *recorder;
    struct step *step;
    uint64_t due;
    bool listens[NODES], up, superseded, deaf;
    unsigned told; /* messages to this node alone */
};

struct message {
    struct message *next;
    struct node *to;
    size_t length;
    unsigned char bytes[];
};

struct world {
    struct node nodes[NODES];
    struct message *first, **last;
    uint64_t now;
    uint32_t forget_after; /* of nodes that start from now on */
};

static void deliver(struct node *to, const void *bytes, size_t length)
{
    struct message *message = malloc(sizeof *message + length);
    assert_non_null(message);
    *message = (struct message){.to = to, .length = length};
    memcpy(message->bytes, bytes, length);
    *to->world->last = message;
    to->world->last = &message->next;
}

static void broadcast(void *context, enum step_lane lane, const void *bytes, size_t length)
{
    struct node *from = context;
    size_t self = (size_t)(from - from->world->nodes);
    for (size_t i = 0; i < NODES; i++) {
        struct node *to = &from->world->nodes[i];
        bool wants = lane == STEP_BEAT || (lane == STEP_STREAM ? i != self : to->listens[self]);
        if (to->up && wants && !(to->deaf && lane == STEP_STREAM))
            deliver(to, bytes, length);
    }
}

static void send_to(void *context, const char *name, const void *bytes, size_t length)
{
    struct node *from = context;
    for (size_t i = 0; i < NODES; i++)
        if (from->world->nodes[i].up && strcmp(from->world->nodes[i].name, name) == 0) {
            from->world->nodes[i].told++;
            deliver(&from->world->nodes[i], bytes, length);
        }
}

static void listen_to(void *context, const char *name, bool wanted)
{
    struct node *node = context;
    for (size_t i = 0; i < NODES; i++)
        if (strcmp(node->world->nodes[i].name, name) == 0)
            node->listens[i] = wanted;
}

static size_t nothing_waits(void *context)
{
    (void)context;
    return 0;
}

static void superseded(void *context, const char *server, const presence_claim *by, const char *node)
{
    (void)server;
    (void)by;
    (void)node;
    ((struct node *)context)->superseded = true;
}

static void say(void *context, enum step_level level, const char *event, const char *text)
{
    const struct node *node = context;
    if (getenv("STEP_LOG"))
        fprintf(stderr, "%8.1f %s %d %s: %s\n", (double)node->world->now / 1e6, node->name, (int)level, event, text);
}

static void start(struct world *world, size_t at)
{
    struct node *node = &world->nodes[at];
    *node = (struct node){.world = world, .up = true, .due = world->now};
    snprintf(node->name, sizeof node->name, "n%zu", at);
    presence_options options;
    presence_options_init(&options);
    options.history_bytes = 4 * 1024 * 1024;
    presence_error error;
    node->recorder = presence_recorder_new_with(&options, &error);
    assert_non_null(node->recorder);
    presence_recorder_enable(node->recorder);
    struct step_config config;
    step_config_default(&config);
    config.node = node->name;
    config.seed = world->now + at + 1;
    config.forget_after = world->forget_after;
    struct step_output output = {node, broadcast, send_to, listen_to, nothing_waits, superseded, say, NULL};
    node->step = step_new(&config, node->recorder, &output, world->now, &error);
    assert_non_null(node->step);
    step_link(node->step, world->now, true);
}

static void stop(struct node *node)
{
    step_free(node->step);
    presence_recorder_free(node->recorder);
    node->step = NULL;
    node->recorder = NULL;
    node->up = false;
}

static void run_all(struct world *world)
{
    for (size_t i = 0; i < NODES; i++)
        if (world->nodes[i].up)
            world->nodes[i].due = step_run(world->nodes[i].step, world->now);
    while (world->first) {
        struct message *message = world->first;
        world->first = message->next;
        if (!world->first)
            world->last = &world->first;
        if (message->to->up) {
            step_receive(message->to->step, world->now, message->bytes, message->length);
            message->to->due = step_run(message->to->step, world->now);
        }
        free(message);
    }
}

static void pass(struct world *world, unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 5) {
        world->now += 5 * MS;
        run_all(world);
    }
}

static int setup_forgetting(void **state, uint32_t after_ms)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->forget_after = after_ms;
    world->last = &world->first;
    world->now = 1000000 * MS;
    for (size_t i = 0; i < NODES; i++)
        start(world, i);
    pass(world, 4000);
    for (size_t i = 0; i < NODES; i++)
        assert_true(step_ready(world->nodes[i].step));
    *state = world;
    return 0;
}

static int setup(void **state)
{
    return setup_forgetting(state, 0);
}

static int setup_forgetful(void **state)
{
    return setup_forgetting(state, 10000);
}

static int teardown(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < NODES; i++)
        if (world->nodes[i].up) {
            presence_error error;
            assert_int_equal(presence_recorder_check(world->nodes[i].recorder, &error), PRESENCE_OK);
            stop(&world->nodes[i]);
        }
    free(world);
    return 0;
}

static presence_status status(struct node *node, const char *agent)
{
    presence_status answer;
    assert_int_equal(presence_recorder_agent_status(node->recorder, MODEL, agent, &answer), PRESENCE_OK);
    return answer;
}

static void connects(struct node *node, const char *server, const char *agent, uint64_t id)
{
    assert_int_equal(presence_recorder_connect(node->recorder, server, MODEL, agent, id, false, ""), PRESENCE_OK);
}

static void everybody_says(struct world *world, const char *agent, presence_status expected)
{
    for (size_t i = 0; i < NODES; i++)
        if (world->nodes[i].up)
            assert_int_equal(status(&world->nodes[i], agent), expected);
}

static void what_one_node_states_all_know(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 20);
    everybody_says(world, "a", PRESENCE_ALIVE);
    connects(&world->nodes[0], "gw", "b", 2);
    run_all(world); /* no time passes: changes of a claimed server go out at once */
    everybody_says(world, "b", PRESENCE_ALIVE);
    presence_recorder_disconnect(world->nodes[0].recorder, "gw", 1);
    run_all(world);
    everybody_says(world, "a", PRESENCE_UNKNOWN);
    assert_int_equal(presence_recorder_connect(world->nodes[1].recorder, "gw", MODEL, "c", 3, false, ""),
                     PRESENCE_E_STALE);
}

/* Of many changes the next are worth waiting for; of few, or while there are more to read, nothing is. */
static void many_changes_are_worth_a_rest(void **state)
{
    struct world *world = *state;
    struct node *node = &world->nodes[0];
    connects(node, "gw", "a", 1);
    pass(world, 20);
    assert_false(step_rests(node->step));
    for (uint64_t id = 2; id <= 11; id++)
        connects(node, "gw", "b", id);
    assert_true(step_run(node->step, world->now) <= world->now);
    assert_false(step_rests(node->step));
    for (uint64_t id = 101; id <= 400; id++)
        connects(node, "gw", "b", id);
    assert_true(step_run(node->step, world->now) > world->now);
    assert_true(step_rests(node->step));
    for (uint64_t id = 1001; id <= 3000; id++)
        connects(node, "gw", "c", id);
    assert_true(step_run(node->step, world->now) <= world->now);
    assert_false(step_rests(node->step));
    pass(world, 20);
    everybody_says(world, "c", PRESENCE_ALIVE);
    assert_false(step_rests(node->step));
}

/* What waits to be read was stated before the claim: each of it is no reason for another one. */
static void many_connects_before_a_claim_are_claimed_once(void **state)
{
    struct world *world = *state;
    for (uint64_t id = 1; id <= 100; id++)
        connects(&world->nodes[0], "gw", "a", id);
    pass(world, 1000);
    everybody_says(world, "a", PRESENCE_ALIVE);
    for (size_t i = 0; i < NODES; i++) {
        presence_server_description known;
        assert_int_equal(presence_replica_describe(world->nodes[i].recorder, "gw", &known), PRESENCE_OK);
        assert_int_equal(known.claim.turn, 1);
        assert_int_equal(known.connections, 100);
    }
}

/* Whatever their strings: many in one message, one that is larger than a message should be by itself. */
static void what_was_missed_is_told_in_few_messages(void **state)
{
    struct world *world = *state;
    struct node *origin = &world->nodes[0], *deaf = &world->nodes[1];
    connects(origin, "gw", "a", 1);
    pass(world, 1000);
    struct step_counters before, after;
    step_counters(deaf->step, &before);
    deaf->deaf = true;
    static char data[3][40000];
    for (uint64_t id = 2; id <= 1001; id++) {
        char *text = data[id % 3];
        size_t length = id % 400 == 0 ? sizeof data[0] - 1 : id % 50; /* what was said before is overwritten */
        memset(text, 'a' + (int)(id % 26), length);
        text[length] = '\0';
        assert_int_equal(presence_recorder_connect(origin->recorder, "gw", MODEL, "b", id, false, text), PRESENCE_OK);
        if (id % 3 == 0)
            assert_int_equal(presence_recorder_disconnect(origin->recorder, "gw", id), PRESENCE_OK);
    }
    pass(world, 100);
    deaf->deaf = false;
    deaf->told = 0;
    pass(world, 2000);
    assert_in_range(deaf->told, 3, 20);
    presence_server_description here, there;
    assert_int_equal(presence_replica_describe(origin->recorder, "gw", &here), PRESENCE_OK);
    assert_int_equal(presence_replica_describe(deaf->recorder, "gw", &there), PRESENCE_OK);
    assert_int_equal(here.number, there.number);
    assert_int_equal(here.digest.all, there.digest.all);
    step_counters(deaf->step, &after);
    assert_int_equal(after.states_taken, before.states_taken);
}

static void a_whole_list_arrives(void **state)
{
    struct world *world = *state;
    enum { COUNT = 5000 };
    presence_value *values = calloc(COUNT, sizeof *values);
    char(*names)[16] = calloc(COUNT, sizeof *names);
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "agent-%zu", i);
        values[i] = (presence_value){.model = MODEL, .server = "gw", .agent = names[i], .connection_id = i + 1};
    }
    assert_int_equal(presence_recorder_update_server(world->nodes[0].recorder, "gw", values, COUNT, NULL), PRESENCE_OK);
    pass(world, 100);
    everybody_says(world, "agent-4999", PRESENCE_ALIVE);
    assert_int_equal(presence_recorder_update_server(world->nodes[0].recorder, "gw", values, 10, NULL), PRESENCE_OK);
    pass(world, 100);
    everybody_says(world, "agent-4999", PRESENCE_UNKNOWN);
    everybody_says(world, "agent-9", PRESENCE_ALIVE);
    free(values);
    free(names);
}

static void a_killed_nodes_agents_are_missing_after_the_lease(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 600);
    stop(&world->nodes[0]);
    pass(world, 2000);
    everybody_says(world, "a", PRESENCE_ALIVE);
    pass(world, 1600);
    everybody_says(world, "a", PRESENCE_MISSING);
    struct step_freshness freshness;
    step_freshness(world->nodes[1].step, world->now, "gw", &freshness);
    assert_int_equal(freshness.doubt, STEP_SILENT);
    assert_string_equal(freshness.node, "n0");
    assert_false(step_all_fresh(world->nodes[1].step));
}

static void a_node_that_leaves_drains(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 600);
    step_leave(world->nodes[0].step, world->now);
    run_all(world);
    stop(&world->nodes[0]);
    everybody_says(world, "a", PRESENCE_MISSING);
    presence_evidence evidence;
    presence_recorder_agent_evidence(world->nodes[1].recorder, MODEL, "a", &evidence);
    assert_int_equal(evidence.reason, PRESENCE_REASON_DRAINED);
}

static enum step_doubt doubt_of(struct world *world, size_t node, const char *server)
{
    struct step_freshness freshness;
    step_freshness(world->nodes[node].step, world->now, server, &freshness);
    return freshness.doubt;
}

/* What a node said at its goodbye is sure, however long ago; what one said that was killed is not, nor what is said of
 * a server that another node took over from it and then fell silent. */
static void a_last_word_is_fresh(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    connects(&world->nodes[0], "moves", "b", 1);
    pass(world, 600);
    assert_true(step_all_fresh(world->nodes[1].step));
    step_leave(world->nodes[0].step, world->now);
    run_all(world);
    stop(&world->nodes[0]);
    pass(world, 1000);
    assert_int_equal(doubt_of(world, 1, "gw"), STEP_FRESH);
    assert_int_equal(doubt_of(world, 2, "moves"), STEP_FRESH);
    pass(world, 10000);
    assert_int_equal(doubt_of(world, 2, "gw"), STEP_FRESH);
    assert_int_equal(step_claim(world->nodes[1].step, world->now, "moves", false, 0), PRESENCE_OK);
    connects(&world->nodes[1], "moves", "b", 1);
    pass(world, 600);
    assert_int_equal(doubt_of(world, 2, "moves"), STEP_FRESH);
    stop(&world->nodes[1]);
    pass(world, 40000);
    assert_int_equal(doubt_of(world, 2, "moves"), STEP_SILENT);
    assert_int_equal(doubt_of(world, 2, "gw"), STEP_FRESH);
}

static void a_newcomer_learns_all_and_of_the_dead_too(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    connects(&world->nodes[1], "other", "b", 1);
    pass(world, 600);
    stop(&world->nodes[2]);
    pass(world, 4000);
    stop(&world->nodes[0]);
    pass(world, 4000);
    start(world, 2);
    pass(world, 4000);
    assert_true(step_ready(world->nodes[2].step));
    everybody_says(world, "a", PRESENCE_MISSING);
    everybody_says(world, "b", PRESENCE_ALIVE);
}

/* In whatever moment of an interval it comes, it need not wait for the next beat of who states servers. */
static void a_newcomer_is_told_at_once(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 600);
    for (unsigned i = 0; i < 6; i++) {
        stop(&world->nodes[2]);
        pass(world, 1090);
        start(world, 2);
        pass(world, 90);
        assert_int_equal(status(&world->nodes[2], "a"), PRESENCE_ALIVE);
    }
}

static void a_gateway_moves_without_a_flap(void **state)
{
    struct world *world = *state;
    struct node *one = &world->nodes[0], *two = &world->nodes[1];
    assert_int_equal(step_claim(one->step, world->now, "gw", true, 7), PRESENCE_OK);
    connects(one, "gw", "a", 1);
    connects(one, "gw", "b", 2);
    pass(world, 600);
    assert_int_equal(step_claim(two->step, world->now, "gw", true, 7), PRESENCE_OK);
    everybody_says(world, "a", PRESENCE_ALIVE);
    pass(world, 600);
    assert_true(one->superseded);
    everybody_says(world, "a", PRESENCE_ALIVE);
    connects(two, "gw", "a", 1);
    pass(world, 1000);
    everybody_says(world, "b", PRESENCE_ALIVE);
    pass(world, 30000);
    everybody_says(world, "a", PRESENCE_ALIVE);
    everybody_says(world, "b", PRESENCE_UNKNOWN);
    assert_int_equal(step_claim(one->step, world->now, "gw", true, 6), PRESENCE_E_STALE);
}

static void a_newer_life_shows_nothing_of_the_older(void **state)
{
    struct world *world = *state;
    assert_int_equal(step_claim(world->nodes[0].step, world->now, "gw", true, 1), PRESENCE_OK);
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 600);
    assert_int_equal(step_claim(world->nodes[1].step, world->now, "gw", true, 2), PRESENCE_OK);
    pass(world, 100);
    everybody_says(world, "a", PRESENCE_MISSING);
    connects(&world->nodes[1], "gw", "b", 1);
    pass(world, 100);
    everybody_says(world, "b", PRESENCE_ALIVE);
    everybody_says(world, "a", PRESENCE_UNKNOWN); /* its id is another's now */
}

static void what_was_active_is_told(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 25000);
    presence_evidence before, after, there;
    presence_recorder_agent_evidence(world->nodes[0].recorder, MODEL, "a", &before);
    presence_recorder_activity(world->nodes[0].recorder, "gw", 1);
    presence_recorder_agent_evidence(world->nodes[0].recorder, MODEL, "a", &after);
    pass(world, 25000);
    presence_recorder_agent_evidence(world->nodes[1].recorder, MODEL, "a", &there);
    assert_true(there.last_seen > before.last_seen);
    assert_in_range(there.last_seen, after.last_seen - 1000000, after.last_seen);
}

static uint64_t told_active(struct node *node)
{
    struct step_counters counters;
    step_counters(node->step, &counters);
    return counters.activity_sent;
}

/* Who follows takes the whole list, with its times. What is active later is told a little at a time, and all of it. */
static void a_list_is_no_activity_and_much_activity_is_told_by_and_by(void **state)
{
    struct world *world = *state;
    enum { COUNT = 20000 };
    presence_value *values = calloc(COUNT, sizeof *values);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = (presence_value){.model = MODEL, .server = "gw", .agent = "a", .connection_id = i + 1};
    assert_int_equal(presence_recorder_update_server(world->nodes[0].recorder, "gw", values, COUNT, NULL), PRESENCE_OK);
    free(values);
    pass(world, 45000);
    assert_int_equal(told_active(&world->nodes[0]), 0);
    for (uint64_t id = 1; id <= COUNT; id++)
        assert_int_equal(presence_recorder_activity(world->nodes[0].recorder, "gw", id), PRESENCE_OK);
    for (unsigned i = 0; i < 25000 && told_active(&world->nodes[0]) < COUNT; i += 5) {
        uint64_t before = told_active(&world->nodes[0]);
        pass(world, 5);
        assert_in_range(told_active(&world->nodes[0]) - before, 0, 2048);
    }
    assert_int_equal(told_active(&world->nodes[0]), COUNT);
    struct step_counters heard;
    step_counters(world->nodes[1].step, &heard);
    assert_int_equal(heard.activity_applied, COUNT);
}

static void a_forgotten_server_is_forgotten_everywhere(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 600);
    assert_int_equal(step_forget(world->nodes[1].step, world->now, "gw"), PRESENCE_E_STALE);
    stop(&world->nodes[0]);
    pass(world, 5000);
    assert_int_equal(step_forget(world->nodes[1].step, world->now, "gw"), PRESENCE_OK);
    pass(world, 100);
    everybody_says(world, "a", PRESENCE_UNKNOWN);
    start(world, 0);
    pass(world, 5000);
    assert_int_equal(presence_recorder_connect(world->nodes[0].recorder, "gw", MODEL, "a", 1, false, ""),
                     PRESENCE_E_STALE); /* fenced, until somebody claims it */
    assert_int_equal(step_claim(world->nodes[0].step, world->now, "gw", false, 0), PRESENCE_OK);
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 1000);
    everybody_says(world, "a", PRESENCE_ALIVE);
}

/* Whether its node dies without a word or says goodbye; not before, and not what a living node states. */
static void what_is_dead_for_long_is_forgotten(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    connects(&world->nodes[1], "other", "b", 1);
    pass(world, 600);
    stop(&world->nodes[0]);
    pass(world, 9000);
    everybody_says(world, "a", PRESENCE_MISSING);
    pass(world, 2000);
    everybody_says(world, "a", PRESENCE_UNKNOWN);
    everybody_says(world, "b", PRESENCE_ALIVE);
    step_leave(world->nodes[1].step, world->now);
    run_all(world);
    stop(&world->nodes[1]);
    pass(world, 9000);
    everybody_says(world, "b", PRESENCE_MISSING);
    pass(world, 2000);
    everybody_says(world, "b", PRESENCE_UNKNOWN);
}

/* Who was cut off itself heard nobody for so long, which says nothing about them. */
static void who_was_deaf_forgets_nobody_for_that(void **state)
{
    struct world *world = *state;
    connects(&world->nodes[0], "gw", "a", 1);
    pass(world, 600);
    step_link(world->nodes[2].step, world->now, false);
    world->nodes[2].up = false; /* nothing comes to it, */
    for (unsigned ms = 0; ms < 30000; ms += 5) {
        pass(world, 5);
        step_run(world->nodes[2].step, world->now); /* though it runs */
    }
    assert_int_equal(status(&world->nodes[2], "a"), PRESENCE_ALIVE);
    stop(&world->nodes[0]);
    world->nodes[2].up = true;
    step_link(world->nodes[2].step, world->now, true);
    pass(world, 9000);
    assert_int_equal(status(&world->nodes[2], "a"), PRESENCE_MISSING);
    pass(world, 3000);
    everybody_says(world, "a", PRESENCE_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_one_node_states_all_know, setup, teardown),
        cmocka_unit_test_setup_teardown(many_changes_are_worth_a_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(many_connects_before_a_claim_are_claimed_once, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_missed_is_told_in_few_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(a_whole_list_arrives, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_nodes_agents_are_missing_after_the_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_that_leaves_drains, setup, teardown),
        cmocka_unit_test_setup_teardown(a_last_word_is_fresh, setup, teardown),
        cmocka_unit_test_setup_teardown(a_newcomer_learns_all_and_of_the_dead_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_newcomer_is_told_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gateway_moves_without_a_flap, setup, teardown),
        cmocka_unit_test_setup_teardown(a_newer_life_shows_nothing_of_the_older, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_active_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_is_no_activity_and_much_activity_is_told_by_and_by, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forgotten_server_is_forgotten_everywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_dead_for_long_is_forgotten, setup_forgetful, teardown),
        cmocka_unit_test_setup_teardown(who_was_deaf_forgets_nobody_for_that, setup_forgetful, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
