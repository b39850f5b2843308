/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol_examples.c - what docs/cluster-protocol.md shows: messages that two nodes really exchange, and digests and
 * memory sums that the library really computes. The same bytes in each run: seeds and clocks are given.
 *
 *   message NAME SUBJECT HEX
 *   hash K0 K1 BYTES RESULT                                               SipHash-1-3
 *   digest EPOCH TURN RANDOM ID CONTROLLER MODEL AGENT DATA H1 H2 H3      of one connection, its steps
 *   sums ALL ALIVE                                                        of all those above, the last one missing
 *   memory NAME SUM                                                       as node-b's beats carry it
 *
 * Strings are in hex, "-" if empty; all other numbers are hex words of 16 digits.
 */
#include "cluster/step.h"
#include "core/text.h"
#include "support/support.h"
#include "wire/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define MODEL "2e15302a-bbdf-4077-8e65-116a5a0e0348"
#define EPOCH UINT64_C(1767225600000)

static const presence_time START = INT64_C(1767225600000000000);

enum { NODES = 2, BYTES = 64 * 1024, SUBJECT = 300 };

struct message {
    struct message *next;
    size_t to, length;
    unsigned char bytes[];
};

struct kept { /* the last message of a kind that a node sent */
    char subject[SUBJECT];
    size_t length;
    unsigned char bytes[BYTES];
};

struct node {
    const char *name;
    presence_recorder *recorder;
    struct step *step;
    bool up, lost, listens; /* lost: what it streams does not arrive; listens: to the states of the other */
    struct kept kept[WIRE_DIFFERENCE + 1];
};

static struct node nodes[NODES] = {{.name = "node-a"}, {.name = "node-b"}};
static struct message *queue, **queue_end = &queue;
static struct fake_clock clock_of_all;
static uint64_t now = 1000000 * MS;
static struct wire_arena *arena;

/* ----------------------------------------------------------------------------------------------- the network */

static void keep(struct node *from, const char *subject, const void *bytes, size_t length)
{
    struct wire_message message;
    wire_arena_reset(arena);
    must(wire_decode(arena, bytes, length, &message) == WIRE_OK && length <= BYTES);
    struct kept *kept = &from->kept[message.kind];
    snprintf(kept->subject, SUBJECT, "%s", subject);
    memcpy(kept->bytes, bytes, length);
    kept->length = length;
}

static void deliver(size_t to, const void *bytes, size_t length)
{
    struct message *message = malloc(sizeof *message + length);
    must(message != NULL);
    *message = (struct message){.to = to, .length = length};
    memcpy(message->bytes, bytes, length);
    *queue_end = message;
    queue_end = &message->next;
}

static void broadcast(void *context, enum step_lane lane, const void *bytes, size_t length)
{
    struct node *from = context;
    size_t self = (size_t)(from - nodes), other = 1 - self;
    static const char *const lanes[] = {[STEP_BEAT] = "beat", [STEP_STREAM] = "stream", [STEP_STATE] = "state"};
    char subject[SUBJECT];
    snprintf(subject, SUBJECT, "presence.main.%s.%s", lanes[lane], from->name);
    keep(from, subject, bytes, length);
    if (lane == STEP_BEAT)
        deliver(self, bytes, length);
    if (lane != STEP_STATE ? !(lane == STEP_STREAM && from->lost) : nodes[other].listens)
        deliver(other, bytes, length);
}

static void send_to(void *context, const char *node, const void *bytes, size_t length)
{
    struct node *from = context;
    char subject[SUBJECT];
    snprintf(subject, SUBJECT, "presence.main.to.%s.%s", node, from->name);
    keep(from, subject, bytes, length);
    for (size_t i = 0; i < NODES; i++)
        if (strcmp(nodes[i].name, node) == 0)
            deliver(i, bytes, length);
}

static void listen_to(void *context, const char *node, bool wanted)
{
    (void)node;
    ((struct node *)context)->listens = wanted;
}

static size_t nothing_waits(void *context)
{
    (void)context;
    return 0;
}

static void run(void)
{
    for (size_t i = 0; i < NODES; i++)
        if (nodes[i].up)
            step_run(nodes[i].step, now);
    while (queue) {
        struct message *message = queue;
        queue = message->next;
        if (!queue)
            queue_end = &queue;
        if (nodes[message->to].up) {
            step_receive(nodes[message->to].step, now, message->bytes, message->length);
            step_run(nodes[message->to].step, now);
        }
        free(message);
    }
}

static void pass(unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 5) {
        now += 5 * MS;
        fake_clock_advance(&clock_of_all, (presence_time)(5 * MS));
        run();
    }
}

static presence_recorder *new_recorder(void)
{
    presence_options options;
    presence_error error;
    presence_options_init(&options);
    options.history_bytes = 4 * 1024 * 1024;
    options.clock = fake_clock_interface(&clock_of_all);
    presence_recorder *recorder = presence_recorder_new_with(&options, &error);
    must(recorder != NULL);
    presence_recorder_enable(recorder);
    return recorder;
}

static void start(size_t at)
{
    struct node *node = &nodes[at];
    node->recorder = new_recorder();
    struct step_config config;
    step_config_default(&config);
    config.node = node->name;
    config.seed = at + 1;
    struct step_output output = {
        .context = node, .broadcast = broadcast, .send = send_to, .listen = listen_to, .waiting = nothing_waits};
    presence_error error;
    node->step = step_new(&config, node->recorder, &output, now, &error);
    must(node->step != NULL);
    node->up = true;
    step_link(node->step, now, true);
}

/* -------------------------------------------------------------------------------------------------- printing */

static void print_hex(const void *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        printf("%02x", ((const unsigned char *)bytes)[i]);
    if (length == 0)
        printf("-");
}

static void print_kept(const char *name, const struct node *from, enum wire_kind kind)
{
    const struct kept *kept = &from->kept[kind];
    must(kept->length > 0);
    printf("message %s %s ", name, kept->subject);
    print_hex(kept->bytes, kept->length);
    printf("\n");
}

static void print_memory(const char *name)
{
    struct wire_message message;
    const struct kept *kept = &nodes[1].kept[WIRE_BEAT];
    wire_arena_reset(arena);
    must(wire_decode(arena, kept->bytes, kept->length, &message) == WIRE_OK);
    printf("memory %s %016llx\n", name, (unsigned long long)message.beat.memory);
}

/* -------------------------------------------------------------------------------------------------- the story */

static void connect_agent(const char *agent, uint64_t id, bool controller, const char *data)
{
    must(presence_recorder_connect(nodes[0].recorder, "machine-2", MODEL, agent, id, controller, data) == PRESENCE_OK);
}

static void must_agree(void)
{
    presence_server_description a, b;
    must(presence_replica_describe(nodes[0].recorder, "machine-2", &a) == PRESENCE_OK &&
         presence_replica_describe(nodes[1].recorder, "machine-2", &b) == PRESENCE_OK);
    must(a.number == b.number && a.digest.all == b.digest.all && a.digest.alive == b.digest.alive && !b.lapsed);
}

/* As node-b would ask, had it missed what came since the list, and were that not kept. */
static void tell_of_a_difference(void)
{
    struct node *a = &nodes[0], *b = &nodes[1];
    presence_server_description known;
    must(presence_replica_describe(a->recorder, "machine-2", &known) == PRESENCE_OK);
    struct wire_message ask = {.node = "node-b",
                               .run = 3,
                               .kind = WIRE_ASK,
                               .ask = {.question = WIRE_ASK_STATE,
                                       .server = "machine-2",
                                       .claim = known.claim,
                                       .after = known.number - 2,
                                       .difference = true}};
    const void *bytes;
    size_t length;
    wire_arena_reset(arena);
    must(wire_encode(arena, &ask, &bytes, &length) == WIRE_OK);
    unsigned char copy[256];
    must(length <= sizeof copy);
    memcpy(copy, bytes, length);
    keep(b, "presence.main.to.node-a.node-b", copy, length);
    print_kept("ask-difference", b, WIRE_ASK);
    step_receive(a->step, now, copy, length);
    run();
    print_kept("difference", a, WIRE_DIFFERENCE);
}

/* node-a states machine-2, and node-b follows it, misses something, and asks. */
static void tell_of_a_life(void)
{
    struct node *a = &nodes[0], *b = &nodes[1];
    must(step_claim(a->step, now, "machine-2", true, EPOCH) == PRESENCE_OK);
    pass(505);
    print_kept("claim", a, WIRE_BEAT);
    connect_agent("machine-2", 2, true, "");
    connect_agent("unit-mysql-0", 17, false, "zone=1");
    a->lost = true;
    run();
    print_kept("changes", a, WIRE_CHANGES);
    a->lost = false;
    connect_agent("unit-mysql-1", 18, false, "");
    run();
    must_agree();
    print_kept("ask-changes", b, WIRE_ASK);
    pass(500);
    print_kept("beat", a, WIRE_BEAT);
    presence_value list[] = {{.model = MODEL,
                              .server = "machine-2",
                              .agent = "unit-mysql-0",
                              .connection_id = 17,
                              .user_data = "zone=2",
                              .status = PRESENCE_ALIVE},
                             {.model = MODEL,
                              .server = "machine-2",
                              .agent = "unit-mysql-2",
                              .connection_id = 19,
                              .user_data = "",
                              .status = PRESENCE_ALIVE}};
    must(presence_recorder_update_server(a->recorder, "machine-2", list, 2, NULL) == PRESENCE_OK);
    run();
    print_kept("whole-list", a, WIRE_CHANGES);
    print_kept("ask-state", b, WIRE_ASK);
    pass(20);
    print_kept("chunk", a, WIRE_CHUNK);
    must_agree();
    pass(1000);
    must(presence_recorder_activity(a->recorder, "machine-2", 19) == PRESENCE_OK);
    pass(20000);
    print_kept("activity", a, WIRE_ACTIVITY);
    connect_agent("unit-mysql-3", 20, false, "");
    must(presence_recorder_disconnect(a->recorder, "machine-2", 17) == PRESENCE_OK);
    run();
    must_agree();
    tell_of_a_difference();
}

/* node-a leaves, node-b remembers, and then buries. */
static void tell_of_its_end(void)
{
    struct node *a = &nodes[0], *b = &nodes[1];
    pass(100);
    step_leave(a->step, now);
    print_kept("drained", a, WIRE_CHANGES);
    print_kept("goodbye", a, WIRE_BEAT);
    run();
    a->up = false;
    pass(4000);
    print_kept("remembering", b, WIRE_BEAT);
    print_memory("orphan");
    struct wire_message ask = {
        .node = "node-c", .run = 3, .kind = WIRE_ASK, .ask = {.question = WIRE_ASK_KNOWN, .tag = 1}};
    const void *bytes;
    size_t length;
    wire_arena_reset(arena);
    must(wire_encode(arena, &ask, &bytes, &length) == WIRE_OK);
    unsigned char copy[256];
    must(length <= sizeof copy);
    memcpy(copy, bytes, length);
    keep(b, "presence.main.to.node-b.node-c", copy, length);
    print_kept("ask-known", b, WIRE_ASK);
    step_receive(b->step, now, copy, length);
    print_kept("known", b, WIRE_KNOWN);
    must(step_forget(b->step, now, "machine-2") == PRESENCE_OK);
    print_kept("forget", b, WIRE_FORGET);
    pass(500);
    print_memory("tombstone");
}

/* -------------------------------------------------------------------------------------------------- the sums */

static void print_hash(uint64_t k0, uint64_t k1, const char *bytes)
{
    uint64_t key[2] = {k0, k1};
    printf("hash %016llx %016llx ", (unsigned long long)k0, (unsigned long long)k1);
    print_hex(bytes, strlen(bytes));
    printf(" %016llx\n", (unsigned long long)text_sip_hash(key, bytes, strlen(bytes)));
}

/* The steps are made here; that the last is what the recorder adds to its sum, the recorder says. */
static void print_digest(presence_recorder *recorder, const presence_claim *claim, const presence_value *value)
{
    presence_server_description before, after;
    must(presence_replica_describe(recorder, "s", &before) == PRESENCE_OK);
    must(presence_recorder_connect(recorder, "s", value->model, value->agent, value->connection_id,
                                   value->controller_agent, value->user_data) == PRESENCE_OK);
    must(presence_replica_describe(recorder, "s", &after) == PRESENCE_OK);
    uint64_t key[2] = {claim->epoch ^ claim->random ^ value->connection_id,
                       (claim->turn + claim->random) ^ (value->controller_agent ? 1 : 0)};
    uint64_t h1 = key[0] = text_sip_hash(key, value->model, strlen(value->model));
    uint64_t h2 = key[0] = text_sip_hash(key, value->agent, strlen(value->agent));
    uint64_t h3 = text_sip_hash(key, value->user_data, strlen(value->user_data));
    must(after.digest.all - before.digest.all == h3 && after.digest.alive - before.digest.alive == h3);
    printf("digest %016llx %016llx %016llx %016llx %d ", (unsigned long long)claim->epoch,
           (unsigned long long)claim->turn, (unsigned long long)claim->random, (unsigned long long)value->connection_id,
           value->controller_agent);
    print_hex(value->model, strlen(value->model));
    printf(" ");
    print_hex(value->agent, strlen(value->agent));
    printf(" ");
    print_hex(value->user_data, strlen(value->user_data));
    printf(" %016llx %016llx %016llx\n", (unsigned long long)h1, (unsigned long long)h2, (unsigned long long)h3);
}

/* Under one claim, with the highest bits set too. One connects alone before a server_down that the rest outlive. */
static void tell_of_digests(void)
{
    const presence_claim claim = {.epoch = EPOCH, .turn = 1, .random = 0xf0e1d2c3b4a59687};
    const presence_value missing = {.model = MODEL, .agent = "unit-lost-0", .connection_id = 3, .user_data = ""};
    const presence_value values[] = {
        {.model = MODEL, .agent = "unit-mysql-0", .connection_id = 17, .user_data = "zone=1"},
        {.model = MODEL, .agent = "machine-2", .connection_id = 2, .user_data = "", .controller_agent = true},
        {.model = "m", .agent = "\xc3\xa9", .connection_id = UINT64_MAX, .user_data = "12345678"},
    };
    print_hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, "");
    print_hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, "presence");
    print_hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, "presence, to the bit");
    presence_recorder *recorder = new_recorder();
    must(presence_replica_claim(recorder, "s", &claim, true) == PRESENCE_OK);
    print_digest(recorder, &claim, &missing);
    must(presence_recorder_server_down(recorder, "s") == PRESENCE_OK);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        print_digest(recorder, &claim, &values[i]);
    presence_server_description sums;
    must(presence_replica_describe(recorder, "s", &sums) == PRESENCE_OK);
    printf("sums %016llx %016llx\n", (unsigned long long)sums.digest.all, (unsigned long long)sums.digest.alive);
    presence_recorder_free(recorder);
}

int main(void)
{
    fake_clock_set(&clock_of_all, START);
    arena = wire_arena_new();
    must(arena != NULL);
    for (size_t i = 0; i < NODES; i++)
        start(i);
    pass(4000);
    must(step_ready(nodes[0].step) && step_ready(nodes[1].step));
    tell_of_a_life();
    tell_of_its_end();
    tell_of_digests();
    for (size_t i = 0; i < NODES; i++) {
        step_free(nodes[i].step);
        presence_recorder_free(nodes[i].recorder);
    }
    wire_arena_free(arena);
    return 0;
}
