/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_step.c - whatever other nodes say, and whatever is done here meanwhile: the record stays whole, what is stated
 * here stays as it was stated unless a larger claim takes it, and nothing is read or written outside.
 *
 * The input is a list of operations, a byte each, with what they need behind them: bytes as they are given to the step
 * function as a message, messages built of known names and small numbers (random bytes are rarely more than malformed),
 * changes of the recorder, claims, time, the loss of the connection. Linked with libFuzzer, or with replay.c.
 * Cost: some microseconds an operation.
 */
#include "cluster/step.h"
#include "support/support.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

#define MS UINT64_C(1000000)

enum { OPERATIONS_MOST = 400, ITEMS_MOST = 6 };

static const char *const servers[] = {"s0", "s1", "s2", "s3"};
static const char *const nodes[] = {"self", "n1", "n2", "n3"};
static const char *const agents[] = {"a", "b", "c", "d"};

struct scene {
    const uint8_t *at, *end;
    presence_recorder *recorder;
    struct step *step;
    struct wire_arena *out;
    uint64_t now, runs[4];
    unsigned char *echo; /* our last beat, to come back */
    size_t echo_length;
};

static unsigned take(struct scene *scene, unsigned most)
{
    return scene->at < scene->end ? *scene->at++ % (most + 1) : 0;
}

static void broadcast(void *context, enum step_lane lane, const void *bytes, size_t length)
{
    struct scene *scene = context;
    if (lane != STEP_BEAT)
        return;
    unsigned char *echo = realloc(scene->echo, length);
    must(echo);
    scene->echo = memcpy(echo, bytes, length);
    scene->echo_length = length;
}

static void send_to(void *context, const char *node, const void *bytes, size_t length)
{
    (void)context;
    must(strlen(node) < STEP_NODE_BYTES && bytes && length <= WIRE_MOST_BYTES);
}

static void listen_to(void *context, const char *node, bool wanted)
{
    (void)context;
    (void)wanted;
    must(strlen(node) < STEP_NODE_BYTES);
}

static size_t waiting(void *context)
{
    (void)context;
    return 0;
}

static void tell(void *context, const struct wire_message *answer)
{
    (void)context;
    (void)answer;
}

/* ----------------------------------------------------------------------------------------------- messages of others */

static presence_claim some_claim(struct scene *scene)
{
    return (presence_claim){.epoch = take(scene, 3), .turn = take(scene, 3), .random = 1 + take(scene, 3)};
}

static void some_stands(struct scene *scene, struct wire_stand *stands, size_t *count)
{
    *count = take(scene, ITEMS_MOST);
    for (size_t i = 0; i < *count; i++)
        stands[i] = (struct wire_stand){.server = servers[take(scene, 3)],
                                        .claim = some_claim(scene),
                                        .number = take(scene, 20),
                                        .connections = take(scene, 3),
                                        .complete = take(scene, 1),
                                        .forgotten = take(scene, 1),
                                        .lapsed = take(scene, 1),
                                        .holder = nodes[take(scene, 3)]};
}

static void some_changes(struct scene *scene, presence_change *changes, size_t *count, uint64_t first)
{
    *count = take(scene, ITEMS_MOST);
    for (size_t i = 0; i < *count; i++)
        changes[i] = (presence_change){
            .number = first + i,
            .kind = (presence_change_kind)(1 + take(scene, 3)),
            .reason = PRESENCE_REASON_SERVER_DOWN,
            .time = take(scene, 255),
            .value = {.model = "m", .agent = agents[take(scene, 3)], .user_data = "", .connection_id = take(scene, 7)}};
    for (size_t i = 0; i < *count; i++)
        if (changes[i].kind != PRESENCE_CHANGE_DOWN)
            changes[i].reason = PRESENCE_REASON_NONE;
}

static void some_values(struct scene *scene, presence_value *values, size_t *count)
{
    *count = take(scene, ITEMS_MOST);
    for (size_t i = 0; i < *count; i++)
        values[i] = (presence_value){.model = "m",
                                     .agent = agents[take(scene, 3)],
                                     .user_data = "",
                                     .connection_id = take(scene, 15),
                                     .status = take(scene, 1) ? PRESENCE_ALIVE : PRESENCE_MISSING};
}

static void fill(struct scene *scene, struct wire_message *message, struct wire_stand *stands, presence_change *changes,
                 presence_value *values, struct wire_range *range)
{
    static const uint64_t gone[] = {3, 5};
    const char *server = servers[take(scene, 3)];
    presence_claim claim = some_claim(scene);
    uint64_t number = take(scene, 20);
    switch (message->kind) {
    case WIRE_BEAT:
        message->beat = (struct wire_beat){.sequence = 1 + take(scene, 30),
                                           .nonce = 7,
                                           .interval_ms = 500,
                                           .lease_ms = 3000,
                                           .joining = take(scene, 1),
                                           .leaving = take(scene, 15) == 0,
                                           .parts = 1,
                                           .stands = stands,
                                           .memory = take(scene, 2)};
        some_stands(scene, stands, &message->beat.count);
        return;
    case WIRE_CHANGES:
        message->changes = (struct wire_changes){.server = server, .claim = claim, .first = number + 1};
        message->changes.changes = changes;
        some_changes(scene, changes, &message->changes.count, number + 1);
        return;
    case WIRE_ASK:
        *range = (struct wire_range){take(scene, 3), take(scene, 3) + 3};
        message->ask = (struct wire_ask){.question = (enum wire_question)(1 + take(scene, 4)),
                                         .server = server,
                                         .claim = claim,
                                         .after = number,
                                         .tag = take(scene, 2),
                                         .transfer = take(scene, 1),
                                         .missing = range,
                                         .missing_count = take(scene, 1),
                                         .difference = number % 2,
                                         .model = "m",
                                         .agent = agents[take(scene, 3)]};
        return;
    case WIRE_CHUNK:
        message->chunk = (struct wire_chunk){.server = server,
                                             .claim = claim,
                                             .number = number,
                                             .transfer = 1 + take(scene, 1),
                                             .index = take(scene, 2),
                                             .last = take(scene, 1),
                                             .values = values};
        some_values(scene, values, &message->chunk.count);
        if (number % 4 < 3)
            return;
        message->kind = WIRE_DIFFERENCE;
        message->chunk.since = take(scene, 20);
        message->chunk.gone = gone;
        message->chunk.gone_count = take(scene, 2);
        message->chunk.connections = take(scene, 3);
        return;
    case WIRE_KNOWN:
        message->known = (struct wire_known){.tag = take(scene, 2), .stands = stands};
        some_stands(scene, stands, &message->known.count);
        return;
    default:
        message->kind = WIRE_FORGET;
        message->forget = (struct wire_forget){.server = server, .claim = claim, .number = number};
        return;
    }
}

static void hear_built(struct scene *scene)
{
    struct wire_stand stands[ITEMS_MOST];
    presence_change changes[ITEMS_MOST];
    presence_value values[ITEMS_MOST];
    struct wire_range range;
    unsigned node = take(scene, 3);
    struct wire_message message = {.node = nodes[node],
                                   .run = scene->runs[node] + take(scene, 7) / 7,
                                   .kind = (enum wire_kind)(WIRE_BEAT + take(scene, 6))};
    if (message.kind == WIRE_ACTIVITY)
        message.kind = WIRE_BEAT;
    fill(scene, &message, stands, changes, values, &range);
    const void *bytes;
    size_t length;
    wire_arena_reset(scene->out);
    if (wire_encode(scene->out, &message, &bytes, &length) == WIRE_OK)
        step_receive(scene->step, scene->now, bytes, length);
}

static void hear_bytes(struct scene *scene)
{
    size_t length = take(scene, 63), left = (size_t)(scene->end - scene->at);
    length = length < left ? length : left;
    step_receive(scene->step, scene->now, scene->at, length);
    scene->at += length;
}

/* ----------------------------------------------------------------------------------------------------- what is done */

static void state_here(struct scene *scene)
{
    const char *server = servers[take(scene, 3)];
    uint64_t id = take(scene, 7);
    switch (take(scene, 3)) {
    case 0:
        presence_recorder_connect(scene->recorder, server, "m", agents[take(scene, 3)], id, false, "");
        return;
    case 1:
        presence_recorder_disconnect(scene->recorder, server, id);
        return;
    case 2:
        presence_recorder_activity(scene->recorder, server, id);
        return;
    default:
        presence_recorder_server_down(scene->recorder, server);
        return;
    }
}

static void operate(struct scene *scene)
{
    static const uint64_t spans[] = {1, 100, 500, 1400, 3100, 31000};
    switch (take(scene, 9)) {
    case 0:
        hear_bytes(scene);
        return;
    case 1:
        state_here(scene);
        return;
    case 2:
        step_claim(scene->step, scene->now, servers[take(scene, 3)], take(scene, 1), take(scene, 3));
        return;
    case 3:
        scene->now += spans[take(scene, 5)] * MS;
        return;
    case 4:
        step_link(scene->step, scene->now, take(scene, 3) > 0);
        return;
    case 5:
        if (scene->echo)
            step_receive(scene->step, scene->now, scene->echo, scene->echo_length);
        return;
    case 6:
        step_ask(scene->step, scene->now, scene->now + 100 * MS, take(scene, 1) ? "m" : NULL, "a", tell, NULL);
        step_forget(scene->step, scene->now, servers[take(scene, 3)]);
        return;
    default:
        hear_built(scene);
        return;
    }
}

static bool begin(struct scene *scene)
{
    presence_options options;
    presence_error error;
    presence_options_init(&options);
    options.history_bytes = 1; /* as little as it takes: gaps cannot always be closed by changes */
    scene->recorder = presence_recorder_new_with(&options, &error);
    scene->out = wire_arena_new();
    if (!scene->recorder || !scene->out)
        return false;
    presence_recorder_enable(scene->recorder);
    struct step_config config;
    step_config_default(&config);
    config.node = nodes[0];
    config.seed = 1;
    config.forget_after = 60000;
    config.buffer_bytes = 4096;
    struct step_output output = {scene, broadcast, send_to, listen_to, waiting, NULL, NULL, NULL};
    scene->now = 1000 * 1000 * MS;
    scene->step = step_new(&config, scene->recorder, &output, scene->now, &error);
    for (unsigned i = 0; i < 4; i++)
        scene->runs[i] = 100 + i;
    return scene->step != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct scene scene = {.at = bytes, .end = bytes + length};
    must(begin(&scene));
    step_link(scene.step, scene.now, true);
    for (unsigned i = 0; i < OPERATIONS_MOST && scene.at < scene.end; i++) {
        presence_error error;
        operate(&scene);
        uint64_t due = step_run(scene.step, scene.now);
        must(due >= scene.now);
        must(presence_recorder_check(scene.recorder, &error) == PRESENCE_OK);
    }
    step_leave(scene.step, scene.now);
    step_free(scene.step);
    presence_recorder_free(scene.recorder);
    wire_arena_free(scene.out);
    free(scene.echo);
    return 0;
}
