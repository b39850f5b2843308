/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.c - the way of messages: who gets them, when, and what is lost.
 *
 * Keeps true: messages of one lane on one link arrive in order but for those that the dice pick; a node that is gone
 * gets nothing that was sent before it came back; beats leave at once whatever waits to be sent.
 * A broadcast costs O(nodes).
 */
#include "network.h"

#include "actors.h"
#include "invariants.h"

#include <stdlib.h>
#include <string.h>

enum { OF_CHANCES = 10000, MOST_INBOX = 50000 };

static const char *const LANE_NAMES[LANES] = {"beat", "stream", "state", "send"};

struct link network_good_link(void)
{
    return (struct link){.delay_min = 100 * MICROSECOND, .delay_max = 2 * MILLISECOND};
}

struct network *network_new(uint64_t seed)
{
    struct network *network = calloc(1, sizeof *network);
    must(network != NULL);
    test_random_seed(&network->random, seed ^ UINT64_C(0x6e6574));
    network->interest_delay = 20 * MILLISECOND;
    for (int from = 0; from < MOST_NODES; from++) {
        for (int to = 0; to < MOST_NODES; to++) {
            network->links[from][to] = network_good_link();
        }
    }
    return network;
}

void network_free(struct network *network)
{
    free(network);
}

static uint64_t dice(struct network *network, uint64_t lower, uint64_t upper)
{
    return lower + test_random_below(&network->random, upper - lower + 1);
}

static bool chance(struct network *network, unsigned of_ten_thousand)
{
    return of_ten_thousand > 0 && test_random_below(&network->random, OF_CHANCES) < of_ten_thousand;
}

/* -------------------------------------------------------------------------------------------------------- messages */

static struct message *message_new(const struct world *world, int sender, enum step_lane lane, const void *bytes,
                                   size_t length)
{
    struct message *message = malloc(sizeof *message + length);
    must(message != NULL);
    *message =
        (struct message){.references = 1, .sender = sender, .lane = lane, .sent_at = world->now, .length = length};
    memcpy(message->bytes, bytes, length);
    return message;
}

void message_drop(struct message *message)
{
    if (--message->references == 0) {
        free(message);
    }
}

static struct message *message_share(struct message *message)
{
    message->references++;
    return message;
}

/* --------------------------------------------------------------------------------------------------------- sending */

bool network_open(const struct world *world, int from, int to)
{
    const struct network *network = world->network;
    return !network->down[from] && !network->down[to] && !network->mute[from] && !network->deaf[to] &&
           !network->route_cut[network->router[from]][network->router[to]] && !network->links[from][to].cut;
}

/* When what is handed over now has left: beats overtake. */
static uint64_t departs_after(struct world *world, const struct message *message)
{
    struct network *network = world->network;
    uint64_t rate = network->bytes_per_second[message->sender];
    if (rate == 0 || message->lane == STEP_BEAT) {
        return 0;
    }
    uint64_t *busy = &network->busy_until[message->sender];
    *busy = (*busy > world->now ? *busy : world->now) + message->length * SECOND / rate;
    return *busy - world->now;
}

static void schedule_delivery(struct world *world, int to, uint64_t after, struct message *message)
{
    world_schedule(world, after,
                   (struct event){.fire = network_deliver,
                                  .node = to,
                                  .life = world->nodes[to].life,
                                  .other = message->sender,
                                  .message = message_share(message)});
}

static void emit(struct world *world, int to, uint64_t departs, struct message *message)
{
    struct network *network = world->network;
    struct node *receiver = &world->nodes[to];
    struct link *link = &network->links[message->sender][to];
    if (receiver->state != NODE_UP && receiver->state != NODE_STOPPED) {
        return;
    }
    if (!network_open(world, message->sender, to) || chance(network, link->loss)) {
        network->lost++;
        tell(world, message->sender, "-> %s: lost", receiver->name);
        return;
    }
    uint64_t after = departs + dice(network, link->delay_min, link->delay_max);
    after += link->lane_delay[message->lane];
    if (chance(network, link->reorder)) {
        after += dice(network, 0, link->reorder_by);
    } else {
        uint64_t *latest = &link->latest[message->lane];
        after = world->now + after < *latest ? *latest - world->now : after;
        *latest = world->now + after;
    }
    schedule_delivery(world, to, after, message);
    if (chance(network, link->twice)) {
        schedule_delivery(world, to, after + dice(network, 0, link->reorder_by), message);
    }
}

static bool gets_state(const struct world *world, int receiver, int sender)
{
    const struct network *network = world->network;
    uint64_t from = network->listens_from[receiver][sender];
    return from != 0 && from <= world->now && world->now < network->listens_until[receiver][sender];
}

static void broadcast(void *context, enum step_lane lane, const void *bytes, size_t length)
{
    struct node *node = context;
    struct world *world = node->world;
    struct message *message = message_new(world, node->index, lane, bytes, length);
    if (world->options.tracing) {
        char text[TRACE_ROOM];
        network_describe(world, message, text, sizeof text);
        tell(world, node->index, "%s %s", LANE_NAMES[lane], text);
    }
    uint64_t departs = departs_after(world, message);
    for (int to = 0; to < world->node_count; to++) {
        bool itself = to == node->index;
        if (lane == STEP_STATE ? !itself && gets_state(world, to, node->index) : !itself || lane == STEP_BEAT) {
            emit(world, to, departs, message);
        }
    }
    message_drop(message);
}

static void send_to(void *context, const char *name, const void *bytes, size_t length)
{
    struct node *node = context;
    struct world *world = node->world;
    struct message *message = message_new(world, node->index, (enum step_lane)LANE_SEND, bytes, length);
    if (world->options.tracing) {
        char text[TRACE_ROOM];
        network_describe(world, message, text, sizeof text);
        tell(world, node->index, "send to %s: %s", name, text);
    }
    uint64_t departs = departs_after(world, message);
    for (int to = 0; to < world->node_count; to++) {
        if (to != node->index && strcmp(world->nodes[to].name, name) == 0) {
            emit(world, to, departs, message);
        }
    }
    message_drop(message);
}

/* Routers learn of an interest a little later. */
static void listen_to(void *context, const char *name, bool wanted)
{
    struct node *node = context;
    struct world *world = node->world;
    struct network *network = world->network;
    tell(world, node->index, "%s to states of %s", wanted ? "listens" : "listens no longer", name);
    uint64_t when = world->now + dice(network, 0, network->interest_delay);
    for (int sender = 0; sender < world->node_count; sender++) {
        if (strcmp(world->nodes[sender].name, name) != 0) {
            continue;
        }
        uint64_t *from = &network->listens_from[node->index][sender];
        uint64_t *until = &network->listens_until[node->index][sender];
        if (wanted && (*from == 0 || *until != UINT64_MAX)) {
            *from = *from != 0 && *until > world->now ? *from : when;
            *until = UINT64_MAX;
        } else if (!wanted) {
            *until = when;
        }
    }
}

static size_t waiting(void *context)
{
    struct node *node = context;
    const struct network *network = node->world->network;
    uint64_t busy = network->busy_until[node->index];
    if (network->bytes_per_second[node->index] == 0 || busy <= node->world->now) {
        return 0;
    }
    /* In microseconds, so that nothing overflows. */
    return (size_t)((busy - node->world->now) / 1000 * network->bytes_per_second[node->index] / 1000000);
}

static void superseded(void *context, const char *server, const presence_claim *by, const char *name)
{
    struct node *node = context;
    tell(node->world, node->index, "%s is superseded by %llu.%llu of %s", server, (unsigned long long)by->epoch,
         (unsigned long long)by->turn, name);
    node->world->network->superseded[node->index]++;
    actors_superseded(node->world, node->index, server);
}

static void take_log(void *context, enum step_level level, const char *event, const char *text)
{
    struct node *node = context;
    tell(node->world, node->index, "log %d %s %s", (int)level, event, text);
}

static void double_name(void *context)
{
    struct node *node = context;
    tell(node->world, node->index, "finds its name taken");
    node->double_named = true;
}

static void apply_later(void *context, struct step_job *job)
{
    struct node *node = context;
    world_add_job(node->world, node->index, job);
}

struct step_output network_output(struct node *node)
{
    return (struct step_output){.context = node,
                                .apply = node->job_ns != 0 ? apply_later : NULL,
                                .broadcast = broadcast,
                                .send = send_to,
                                .listen = listen_to,
                                .waiting = waiting,
                                .superseded = superseded,
                                .log = take_log,
                                .double_name = double_name};
}

/* ------------------------------------------------------------------------------------------------------- receiving */

static void keep_for_later(struct node *node, struct message *message)
{
    if (node->inbox_count == MOST_INBOX) {
        return;
    }
    if (node->inbox_count == node->inbox_room) {
        node->inbox_room = node->inbox_room * 2 + 64;
        node->inbox = realloc(node->inbox, node->inbox_room * sizeof(struct message *));
        must(node->inbox != NULL);
    }
    node->inbox[node->inbox_count++] = message_share(message);
}

/* Whether a story wants it lost. */
static bool filtered(struct world *world, int from, int to, const struct message *message)
{
    struct wire_message decoded;
    if (world->network->filter == NULL) {
        return false;
    }
    wire_arena_reset(world->arena);
    return wire_decode(world->arena, message->bytes, message->length, &decoded) == WIRE_OK &&
           !world->network->filter(world, from, to, &decoded);
}

void network_deliver(struct world *world, const struct event *event)
{
    struct node *node = &world->nodes[event->node];
    struct message *message = event->message;
    bool through = event->other < 0 || network_open(world, event->other, event->node);
    if (!through || (event->other >= 0 && filtered(world, event->other, event->node, message))) {
        world->network->lost++;
        tell(world, event->node, "<- %s: lost on the way", world->nodes[message->sender].name);
        return;
    }
    if (node->state == NODE_STOPPED) {
        keep_for_later(node, message);
        return;
    }
    if (world->options.tracing) {
        char text[TRACE_ROOM];
        network_describe(world, message, text, sizeof text);
        tell(world, event->node, "<- %s: %s", world->nodes[message->sender].name, text);
    }
    world->network->delivered++;
    invariants_hear(world, event->node, message);
    step_receive(node->step, node_now(node), message->bytes, message->length);
    world_expect_run(world, event->node, between(world, 0, world->late_ns / 2));
    world_after(world, event->node);
}

/* ------------------------------------------------------------------------------------------------- nodes and faults */

static void fire_link(struct world *world, const struct event *event)
{
    struct network *network = world->network;
    struct node *node = &world->nodes[event->node];
    bool up = !network->down[event->node];
    if (node->state != NODE_UP || network->told_up[event->node] == up) {
        return;
    }
    network->told_up[event->node] = up;
    tell(world, event->node, "notices that it is %s", up ? "connected" : "not connected");
    step_link(node->step, node_now(node), up);
    world_expect_run(world, event->node, 0);
    world_after(world, event->node);
}

static void notice_link(struct world *world, int node, uint64_t after)
{
    world_schedule(world, after, (struct event){.fire = fire_link, .node = node, .life = world->nodes[node].life});
}

void network_node_continues(struct world *world, int node)
{
    notice_link(world, node, dice(world->network, 0, 5 * MILLISECOND));
}

void network_node_starts(struct world *world, int node)
{
    struct network *network = world->network;
    memset(network->listens_from[node], 0, sizeof network->listens_from[node]);
    memset(network->listens_until[node], 0, sizeof network->listens_until[node]);
    network->busy_until[node] = 0;
    network->told_up[node] = false;
    notice_link(world, node, dice(network, 0, 50 * MILLISECOND));
}

void network_node_ends(struct world *world, int node)
{
    world->network->mute[node] = world->network->deaf[node] = world->network->down[node] = false;
}

void network_disconnect(struct world *world, int node)
{
    tell(world, node, "loses its connection");
    world->network->down[node] = true;
    notice_link(world, node, dice(world->network, 0, 10 * MILLISECOND));
}

void network_connect(struct world *world, int node, int router)
{
    world->network->router[node] = router;
    world->network->down[node] = false;
    notice_link(world, node, dice(world->network, 10 * MILLISECOND, 20 * MILLISECOND));
}

void network_cut_route(struct world *world, int a, int b, bool cut)
{
    tell(world, -1, "the route between routers %d and %d is %s", a, b, cut ? "cut" : "whole");
    world->network->route_cut[a][b] = world->network->route_cut[b][a] = cut;
}

void network_cut_pair(struct world *world, int a, int b, bool cut)
{
    tell(world, -1, "%s and %s are %s", world->nodes[a].name, world->nodes[b].name, cut ? "cut apart" : "joined");
    world->network->links[a][b].cut = world->network->links[b][a].cut = cut;
}

void network_set_all(struct world *world, const struct link *manners)
{
    for (int from = 0; from < MOST_NODES; from++) {
        for (int to = 0; to < MOST_NODES; to++) {
            struct link *link = &world->network->links[from][to];
            struct link before = *link;
            *link = *manners;
            memcpy(link->latest, before.latest, sizeof link->latest);
        }
    }
}

void network_heal(struct world *world)
{
    struct network *network = world->network;
    tell(world, -1, "the network is healed");
    struct link good = network_good_link();
    network_set_all(world, &good);
    for (int from = 0; from < MOST_NODES; from++) {
        for (int to = 0; to < MOST_NODES; to++) {
            memset(network->links[from][to].latest, 0, sizeof network->links[from][to].latest);
        }
    }
    memset(network->route_cut, 0, sizeof network->route_cut);
    memset(network->mute, 0, sizeof network->mute);
    memset(network->deaf, 0, sizeof network->deaf);
    network->filter = NULL;
    for (int node = 0; node < world->node_count; node++) {
        network->bytes_per_second[node] = network->busy_until[node] = 0;
        if (network->down[node]) {
            network_connect(world, node, network->router[node]);
        }
    }
}
