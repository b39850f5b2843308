/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale.c - a cluster of hundreds of nodes in virtual time, to count what it says and what hearing it costs. The
 * network is a good one: each message arrives at all who listen a millisecond later. A bad one is sim.c's matter.
 *
 *   sim_scale [--nodes N] [--servers N] [--agents N] [--churn N] [--seconds N] [--json]
 *
 *   nodes      of the cluster (100)            servers    that each of them states (1)
 *   agents     of each server (20)             churn      connects and as many disconnects of each node a second (10)
 *   seconds    that the steady phases last (10)
 *
 * The phases, each until all nodes hold the same, or for that many seconds:
 *
 *   join       all nodes begin at once, and their gateways state their agents
 *   idle       nothing happens
 *   churn      agents come and go on every node
 *   death      one node dies, until its agents are missing on all others; and a lease more
 *   return     it is back, with a new run, until it holds all and its gateways have stated theirs
 *   leave      it leaves on purpose, until its agents are missing on all others
 *
 * For each: virtual time, messages and bytes that are sent, and that arrive, and the processor's time for the steps of
 * all nodes by what they heard. The exit status is 1 if a phase does not come to its end, or two nodes differ.
 * It takes about 2 KiB of memory for each pair of nodes, and 150 bytes for each connection on each node.
 */
#include "cluster/step.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MILLISECOND UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

enum {
    TICK = 1000000,
    DELAY = 1000000,
    HISTORY = 256 * 1024,
    NAME_ROOM = 48,
    PATIENCE_S = 120,
    LANE_SEND = 3,
    LANES = 4
};

static const char *const LANE_NAMES[LANES] = {"beat", "stream", "state", "to one"};

struct message {
    struct message *next;
    uint64_t at;
    int from, to; /* to: -1: who listens */
    int lane;
    size_t length;
    unsigned char bytes[];
};

struct node {
    char name[NAME_ROOM];
    presence_recorder *recorder;
    struct step *step;
    uint64_t due;
    bool dirty, gone;
    bool *listens; /* to states, by node */
};

static struct {
    long nodes, servers, agents, churn, seconds;
    bool json;
} options = {.nodes = 100, .servers = 1, .agents = 20, .churn = 10, .seconds = 10};

static struct node *nodes;
static uint64_t now = 1000 * SECOND;
static struct message *first, **last = &first;

static struct count {
    uint64_t sent, sent_bytes, heard, heard_bytes, ns;
} counts[LANES];
static uint64_t run_ns, began;

static uint64_t processor_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* ------------------------------------------------------------------------------------------------------- network -- */

static void post(struct node *from, int to, int lane, const void *bytes, size_t length)
{
    struct message *message = malloc(sizeof *message + length);
    must(message != NULL);
    *message =
        (struct message){.at = now + DELAY, .from = (int)(from - nodes), .to = to, .lane = lane, .length = length};
    memcpy(message->bytes, bytes, length);
    *last = message;
    last = &message->next;
    counts[lane].sent++;
    counts[lane].sent_bytes += length;
}

static void broadcast(void *context, enum step_lane lane, const void *bytes, size_t length)
{
    post(context, -1, (int)lane, bytes, length);
}

static void send_to(void *context, const char *name, const void *bytes, size_t length)
{
    for (int to = 0; to < options.nodes; to++) {
        if (strcmp(nodes[to].name, name) == 0) {
            post(context, to, LANE_SEND, bytes, length);
        }
    }
}

static void listen_to(void *context, const char *name, bool wanted)
{
    struct node *node = context;
    for (int to = 0; to < options.nodes; to++) {
        if (strcmp(nodes[to].name, name) == 0) {
            node->listens[to] = wanted;
        }
    }
}

static size_t nothing_waits(void *context)
{
    (void)context;
    return 0;
}

static void hear(struct node *node, const struct message *message)
{
    struct count *count = &counts[message->lane];
    uint64_t before = processor_ns();
    step_receive(node->step, now, message->bytes, message->length);
    count->ns += processor_ns() - before;
    count->heard++;
    count->heard_bytes += message->length;
    node->dirty = true;
}

static void deliver(const struct message *message)
{
    for (int to = 0; to < options.nodes; to++) {
        struct node *node = &nodes[to];
        bool itself = to == message->from, wants = message->to == to;
        if (message->to < 0) {
            wants =
                message->lane == STEP_BEAT || (message->lane == STEP_STREAM ? !itself : node->listens[message->from]);
        }
        if (wants && !node->gone) {
            hear(node, message);
        }
    }
}

/* Of a tick; each node that heard something, or whose time has come, runs once. */
static void tick(void)
{
    now += TICK;
    while (first != NULL && first->at <= now) {
        struct message *message = first;
        first = message->next;
        last = first == NULL ? &first : last;
        deliver(message);
        free(message);
    }
    for (int i = 0; i < options.nodes; i++) {
        struct node *node = &nodes[i];
        if (!node->gone && (node->dirty || node->due <= now)) {
            node->dirty = false;
            uint64_t before = processor_ns();
            node->due = step_run(node->step, now);
            run_ns += processor_ns() - before;
        }
    }
}

/* --------------------------------------------------------------------------------------------------------- nodes -- */

static presence_time wall(void *context)
{
    (void)context;
    return (presence_time)now;
}

static void start(int index)
{
    struct node *node = &nodes[index];
    presence_options recorder = {0};
    presence_options_init(&recorder);
    recorder.history_bytes = HISTORY;
    recorder.clock = (presence_clock){.now = wall};
    presence_error error;
    node->recorder = presence_recorder_new_with(&recorder, &error);
    must(node->recorder != NULL);
    presence_recorder_enable(node->recorder);
    struct step_config config;
    step_config_default(&config);
    config.node = node->name;
    config.seed = now + (uint64_t)index * UINT64_C(0x9e3779b97f4a7c15);
    struct step_output output = {
        .context = node, .broadcast = broadcast, .send = send_to, .listen = listen_to, .waiting = nothing_waits};
    node->step = step_new(&config, node->recorder, &output, now, &error);
    must(node->step != NULL);
    step_link(node->step, now, true);
    node->due = now + (uint64_t)index * MILLISECOND % (500 * MILLISECOND); /* not all beat at once */
    node->gone = false;
}

static void stop(struct node *node)
{
    step_free(node->step);
    presence_recorder_free(node->recorder);
    node->step = NULL;
    node->recorder = NULL;
    node->gone = true;
}

static const char *server_name(int node, long server)
{
    static char name[NAME_ROOM];
    snprintf(name, sizeof name, "server-%d-%ld", node, server);
    return name;
}

static void connects(struct node *node, const char *server, uint64_t id)
{
    char agent[64];
    snprintf(agent, sizeof agent, "%s-agent-%llu", server, (unsigned long long)id);
    must(presence_recorder_connect(node->recorder, server, "model", agent, id, false, "") == PRESENCE_OK);
    node->dirty = true;
}

/* As a gateway does with its session. */
static void state_agents(int index)
{
    for (long server = 0; server < options.servers; server++) {
        const char *name = server_name(index, server);
        must(step_claim(nodes[index].step, now, name, true, now) == PRESENCE_OK);
        for (long id = 1; id <= options.agents; id++) {
            connects(&nodes[index], name, (uint64_t)id);
        }
    }
}

/* ----------------------------------------------------------------------------------------------------- judgement -- */

static bool same_stand(const presence_server_description *one, const presence_server_description *two)
{
    return presence_claim_compare(&one->claim, &two->claim) == 0 && one->number == two->number &&
           one->digest.all == two->digest.all && one->digest.alive == two->digest.alive;
}

/* Every node that lives holds every server of this one as this one, or, where it is gone, as the first that lives. */
static bool all_hold(int of)
{
    for (long server = 0; server < options.servers; server++) {
        presence_server_description wanted = {0}, found;
        bool known = false;
        for (int i = 0; i < options.nodes; i++) {
            int node = nodes[of].gone ? i : (of + i) % (int)options.nodes;
            if (nodes[node].gone) {
                continue;
            }
            if (presence_replica_describe(nodes[node].recorder, server_name(of, server), &found) != PRESENCE_OK ||
                (known && !same_stand(&wanted, &found))) {
                return false;
            }
            wanted = found;
            known = true;
        }
    }
    return true;
}

static bool all_agree(void)
{
    for (int i = 0; i < options.nodes; i++) {
        if ((!nodes[i].gone && !step_ready(nodes[i].step)) || !all_hold(i)) {
            return false;
        }
    }
    return true;
}

/* All agents of a node read missing on all others. */
static bool all_missing(int of)
{
    for (int i = 0; i < options.nodes; i++) {
        for (long server = 0; !nodes[i].gone && i != of && server < options.servers; server++) {
            presence_counts found;
            if (presence_recorder_server_counts(nodes[i].recorder, server_name(of, server), &found) != PRESENCE_OK ||
                found.alive > 0 || found.missing == 0) {
                return false;
            }
        }
    }
    return true;
}

/* -------------------------------------------------------------------------------------------------------- phases -- */

static void begin(void)
{
    memset(counts, 0, sizeof counts);
    run_ns = 0;
    began = now;
}

static void tell_lane(int lane, double seconds)
{
    const struct count *count = &counts[lane];
    if (count->sent == 0) {
        return;
    }
    double each = count->heard ? (double)count->ns / (double)count->heard : 0;
    printf(options.json ? ", \"%s\": {\"sent\": %llu, \"sent_bytes\": %llu, \"heard\": %llu, \"heard_bytes\": %llu, "
                          "\"ns_each\": %.0f}"
                        : "    %-7s %9llu sent %11llu bytes, %10llu heard %13llu bytes, %6.0f ns each",
           LANE_NAMES[lane], (unsigned long long)count->sent, (unsigned long long)count->sent_bytes,
           (unsigned long long)count->heard, (unsigned long long)count->heard_bytes, each);
    if (!options.json) {
        printf("; a node hears %.0f a second, %.0f bytes\n", (double)count->heard / seconds / (double)options.nodes,
               (double)count->heard_bytes / seconds / (double)options.nodes);
    }
}

static void end(const char *phase)
{
    double seconds = (double)(now - began) / (double)SECOND;
    uint64_t ns = run_ns;
    for (int lane = 0; lane < LANES; lane++) {
        ns += counts[lane].ns;
    }
    double share = (double)ns / seconds / (double)options.nodes / (double)SECOND * 100;
    printf(options.json ? "{\"phase\": \"%s\", \"nodes\": %ld, \"seconds\": %.3f, \"percent_of_a_processor\": %.4f"
                        : "%-7s %ld nodes, %.3f s; a node takes %.3f %% of a processor\n",
           phase, options.nodes, seconds, share);
    for (int lane = 0; lane < LANES; lane++) {
        tell_lane(lane, seconds);
    }
    if (options.json) {
        puts("}");
    }
    fflush(stdout);
}

/* Since `begin`. */
static void until(const char *phase, bool (*good)(int), int node)
{
    for (uint64_t i = 0; i % 10 != 0 || !good(node); i++) {
        if (now - began > PATIENCE_S * SECOND) {
            fprintf(stderr, "sim_scale: \"%s\" does not come to its end\n", phase);
            exit(1);
        }
        tick();
    }
    end(phase);
}

static bool agreed(int node)
{
    (void)node;
    return all_agree();
}

static void pass(uint64_t nanoseconds)
{
    for (uint64_t until_then = now + nanoseconds; now < until_then;) {
        tick();
    }
}

/* On each node `churn` agents of its first server go and others come, evenly. */
static void churn_for(uint64_t nanoseconds)
{
    uint64_t done = 0, from = now;
    while (now < from + nanoseconds) {
        tick();
        for (; done < (now - from) * (uint64_t)options.churn / SECOND; done++) {
            for (int i = 0; i < options.nodes; i++) {
                const char *name = server_name(i, 0);
                presence_recorder_disconnect(nodes[i].recorder, name, done + 1);
                connects(&nodes[i], name, (uint64_t)options.agents + done + 1);
            }
        }
    }
}

static void steady(const char *phase, void (*live)(uint64_t))
{
    begin();
    live((uint64_t)options.seconds * SECOND);
    end(phase);
}

/* A lease more, in which what is remembered of it is compared. */
static void after_death(void)
{
    begin();
    pass(3 * SECOND);
    end("after");
}

static void play(void)
{
    int one = (int)options.nodes / 2;
    begin();
    for (int i = 0; i < options.nodes; i++) {
        start(i);
        state_agents(i);
    }
    until("join", agreed, 0);
    pass(5 * SECOND);
    steady("idle", pass);
    steady("churn", churn_for);
    begin();
    until("settled", agreed, 0);
    begin();
    stop(&nodes[one]);
    until("death", all_missing, one);
    after_death();
    must(all_agree());
    begin();
    start(one);
    state_agents(one);
    until("return", agreed, 0);
    begin();
    step_leave(nodes[one].step, now);
    nodes[one].due = now;
    until("leave", all_missing, one);
}

/* ----------------------------------------------------------------------------------------------------- arguments -- */

static void take(int count, char **words)
{
    const struct {
        const char *name;
        long *value;
    } numbers[] = {{"--nodes", &options.nodes},
                   {"--servers", &options.servers},
                   {"--agents", &options.agents},
                   {"--churn", &options.churn},
                   {"--seconds", &options.seconds}};
    for (int i = 1; i < count; i++) {
        bool known = strcmp(words[i], "--json") == 0;
        options.json |= known;
        for (size_t at = 0; !known && i + 1 < count && at < sizeof numbers / sizeof *numbers; at++) {
            if (strcmp(words[i], numbers[at].name) == 0) {
                *numbers[at].value = strtol(words[++i], NULL, 10);
                known = *numbers[at].value > 0;
                break;
            }
        }
        if (!known) {
            fprintf(stderr, "sim_scale: what is \"%s\"? The head of tests/sim/scale.c tells the options\n", words[i]);
            exit(2);
        }
    }
}

int main(int count, char **words)
{
    take(count, words);
    nodes = calloc((size_t)options.nodes, sizeof *nodes);
    must(nodes != NULL);
    for (int i = 0; i < options.nodes; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "node-%d", i);
        nodes[i].listens = calloc((size_t)options.nodes, sizeof *nodes[i].listens);
        must(nodes[i].listens != NULL);
    }
    play();
    for (int i = 0; i < options.nodes; i++) {
        stop(&nodes[i]);
        free(nodes[i].listens);
    }
    while (first != NULL) {
        struct message *message = first;
        first = message->next;
        free(message);
    }
    free(nodes);
    return 0;
}
