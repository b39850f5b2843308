/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.h - what lies between the nodes: one to three routers (NATS servers) with routes between them, the nodes'
 * connections to these, and for each pair of nodes a link with its own manners.
 *
 * On a link messages of one lane stay in order unless the dice reorder them. A message needs an open way when it is
 * sent and when it arrives. A node's own beats go by its router and come back.
 */
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

#include "world.h"

enum { LANE_SEND = STEP_STATE + 1, LANES };

struct message {
    unsigned references;
    int sender;
    enum step_lane lane;
    uint64_t sent_at;
    size_t length;
    unsigned char bytes[];
};

/* Chances are of 10,000. */
struct link {
    uint64_t delay_min, delay_max, reorder_by;
    uint64_t lane_delay[LANES]; /* on top */
    unsigned loss, twice, reorder;
    bool cut;
    uint64_t latest[LANES]; /* when the latest message of the lane arrives */
};

struct network {
    struct test_random random;
    struct link links[MOST_NODES][MOST_NODES]; /* [sender][receiver] */
    int router[MOST_NODES];
    bool route_cut[MOST_ROUTERS][MOST_ROUTERS];     /* [from][to] */
    bool down[MOST_NODES];                          /* not connected, and knows it */
    bool told_up[MOST_NODES];                       /* what its step was told last */
    bool mute[MOST_NODES], deaf[MOST_NODES];        /* cut off without knowing: what it sends, what comes */
    uint64_t interest_delay;                        /* at most, until a router knows who listens */
    uint64_t listens_from[MOST_NODES][MOST_NODES];  /* [receiver][sender]; 0: does not listen */
    uint64_t listens_until[MOST_NODES][MOST_NODES]; /* a router learns late that one no longer does */
    uint64_t bytes_per_second[MOST_NODES], busy_until[MOST_NODES]; /* 0: as fast as you like */
    /* A story's: false loses the message at the receiver. NULL: none is looked at. */
    bool (*filter)(struct world *world, int from, int to, const struct wire_message *message);
    uint64_t delivered, lost;
    unsigned superseded[MOST_NODES]; /* how often it was told so */
};

struct network *network_new(uint64_t seed);
void network_free(struct network *network);

struct step_output network_output(struct node *node);
void message_drop(struct message *message); /* lets go of one reference */

/* A node was started, or is gone. */
void network_node_starts(struct world *world, int node);
void network_node_ends(struct world *world, int node);
void network_node_continues(struct world *world, int node);
void network_deliver(struct world *world, const struct event *event);

/* No way is open from one to the other now, or one is. */
bool network_open(const struct world *world, int from, int to);
/* All links alike. */
void network_set_all(struct world *world, const struct link *manners);
struct link network_good_link(void);
/* Everything is mended, at once; what was on its way goes on, and may be overtaken. */
void network_heal(struct world *world);
/* The node's connection to its router is lost, or is there again (to that router), and it notices. */
void network_disconnect(struct world *world, int node);
void network_connect(struct world *world, int node, int router);
void network_cut_route(struct world *world, int a, int b, bool cut);
/* Both ways. */
void network_cut_pair(struct world *world, int a, int b, bool cut);

/* A message in a few words, for the trace. */
void network_describe(struct world *world, const struct message *message, char *text, size_t room);

#endif
