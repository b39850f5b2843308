/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode.c - a message to the bytes that are sent.
 *
 * The message is laid out in the generated code's structs, in one array for each list, and written by it into a piece
 * of the arena. Texts stay where the caller has them. Changes alone are written by hand (changes.c).
 *
 * Keeps true: what is encoded can be decoded, by the same checks: who states what others would refuse hears of it here.
 * Among it is a list of thousands that say next to nothing each, which decoding has no memory for.
 * Called by the arena's thread. Costs: O(what the message carries); `make bench` tells it for a change.
 */
#include "changes.h"
#include "models.h"

#include <cluster.pb-c.h>

#include <string.h>

static const int64_t millisecond = 1000000;

/* The first thing that was wrong is what an encoding answers. */
struct encoder {
    struct wire_arena *arena;
    int error;
    Presence__Cluster__Claim claim; /* of the body, and the body itself */
    union {
        Presence__Cluster__Beat beat;
        Presence__Cluster__Activity activity;
        Presence__Cluster__Ask ask;
        Presence__Cluster__Chunk chunk;
        Presence__Cluster__Known known;
        Presence__Cluster__Forget forget;
        Presence__Cluster__Evidence evidence;
    };
    struct model_list models; /* of values */
    size_t elements;          /* of the lists of the body */
};

static void write_body(struct encoder *encoder, const struct wire_message *from, Presence__Cluster__Message *to);
static ProtobufCBinaryData bytes_of(const char *text);

int wire_encode(struct wire_arena *arena, const struct wire_message *message, const void **bytes, size_t *length)
{
    wire_arena_begin(arena, SIZE_MAX);
    if (message->kind == WIRE_CHANGES)
        return wire_write_changes(arena, message, bytes, length);
    struct encoder encoder;
    encoder.arena = arena; /* the rest is set where it is used: the models are not worth zeroing for a beat */
    encoder.error = WIRE_OK;
    encoder.elements = 0;
    Presence__Cluster__Message to = PRESENCE__CLUSTER__MESSAGE__INIT;
    to.version = WIRE_VERSION;
    to.node = bytes_of(message->node);
    to.run = message->run;
    write_body(&encoder, message, &to);
    if (encoder.error)
        return encoder.error;
    size_t size = presence__cluster__message__get_packed_size(&to);
    if (size > WIRE_MOST_BYTES)
        return WIRE_E_TOO_LONG;
    size_t laid_out = SIZE_MAX - arena->left_bytes;
    if (laid_out + encoder.elements * WIRE_MORE_TO_DECODE > wire_decoding_allowance(size))
        return WIRE_E_MALFORMED;
    uint8_t *room = wire_arena_take(arena, size);
    if (!room)
        return arena->error;
    *length = presence__cluster__message__pack(&to, room);
    *bytes = room;
    return WIRE_OK;
}

/* ----------------------------------------------------------------------------------------------- what they share -- */

static void fail(struct encoder *encoder, int error)
{
    if (!encoder->error)
        encoder->error = error;
}

static void expect(struct encoder *encoder, bool holds)
{
    if (!holds)
        fail(encoder, WIRE_E_MALFORMED);
}

/* Two bytes are the least that anything in a list takes, so longer lists are too long for sure. */
static void *take_array(struct encoder *encoder, size_t count, size_t each_bytes)
{
    if (count > WIRE_MOST_BYTES / 2)
        fail(encoder, WIRE_E_TOO_LONG);
    if (count == 0 || encoder->error)
        return NULL;
    void *array = wire_arena_take(encoder->arena, count * each_bytes);
    if (!array)
        fail(encoder, encoder->arena->error);
    return array;
}

static ProtobufCBinaryData bytes_of(const char *text)
{
    size_t length = text ? strlen(text) : 0;
    return (ProtobufCBinaryData){.len = length, .data = length ? (uint8_t *)text : NULL};
}

/* No claim at all is left out. */
static Presence__Cluster__Claim *write_claim(const presence_claim *from, Presence__Cluster__Claim *to)
{
    *to = (Presence__Cluster__Claim)PRESENCE__CLUSTER__CLAIM__INIT;
    to->epoch = from->epoch;
    to->turn = from->turn;
    to->random = from->random;
    return from->epoch || from->turn || from->random ? to : NULL;
}

static Presence__Cluster__Reason reason_of(struct encoder *encoder, presence_reason reason)
{
    expect(encoder, (int)reason >= PRESENCE_REASON_NONE && (int)reason <= PRESENCE_REASON_LAPSED);
    return (Presence__Cluster__Reason)reason;
}

/* Milliseconds after the base, towards the past; false: too far from it. */
static bool milliseconds_after(presence_time base, presence_time time, int64_t *milliseconds, uint32_t *nanoseconds)
{
    int64_t difference;
    if (__builtin_sub_overflow(time, base, &difference))
        return false;
    int64_t rest = difference % millisecond;
    *milliseconds = difference / millisecond - (rest < 0);
    *nanoseconds = (uint32_t)(rest < 0 ? rest + millisecond : rest);
    return true;
}

/* The first of those times; or the epoch, from which none is too far, where one is too far from the first. */
struct times {
    const presence_time *first;
    size_t count, stride_bytes;
};

static presence_time base_of(struct times times)
{
    const char *at = (const char *)times.first;
    int64_t milliseconds;
    uint32_t nanoseconds;
    for (size_t i = 0; i < times.count; i++, at += times.stride_bytes)
        if (!milliseconds_after(*times.first, *(const presence_time *)(const void *)at, &milliseconds, &nanoseconds))
            return 0;
    return times.count ? *times.first : 0;
}

/* ------------------------------------------------------------------------------------------------------- bodies -- */

static Presence__Cluster__Stand **write_stands(struct encoder *encoder, const struct wire_stand *from, size_t count)
{
    encoder->elements = count;
    Presence__Cluster__Stand *stands = take_array(encoder, count, sizeof *stands);
    Presence__Cluster__Claim *claims = take_array(encoder, count, sizeof *claims);
    Presence__Cluster__Stand **pointers = take_array(encoder, count, sizeof(Presence__Cluster__Stand *));
    for (size_t i = 0; i < count && stands && claims && pointers; i++) {
        Presence__Cluster__Stand *to = pointers[i] = &stands[i];
        *to = (Presence__Cluster__Stand)PRESENCE__CLUSTER__STAND__INIT;
        to->server = bytes_of(from[i].server);
        to->claim = write_claim(&from[i].claim, &claims[i]);
        to->number = from[i].number;
        to->floor = from[i].floor;
        to->connections = from[i].connections;
        to->alive = from[i].alive;
        to->digest_all = from[i].digest.all;
        to->digest_alive = from[i].digest.alive;
        to->complete = from[i].complete;
        to->forgotten = from[i].forgotten;
        to->lapsed = from[i].lapsed;
        to->holder = bytes_of(from[i].holder);
        to->inherited = from[i].inherited;
    }
    return pointers;
}

static void write_beat(struct encoder *encoder, const struct wire_beat *from, Presence__Cluster__Beat *to)
{
    expect(encoder, from->part < from->parts && from->parts <= WIRE_MOST_PARTS);
    to->sequence = from->sequence;
    to->nonce = from->nonce;
    to->interval_ms = from->interval_ms;
    to->lease_ms = from->lease_ms;
    to->joining = from->joining;
    to->leaving = from->leaving;
    to->part = from->part;
    to->parts = from->parts;
    to->stands = write_stands(encoder, from->stands, from->count);
    to->n_stands = from->count;
    to->memory = from->memory;
}

static void write_activity(struct encoder *encoder, const struct wire_activity *from, Presence__Cluster__Activity *to)
{
    size_t count = from->count;
    uint64_t *ids = take_array(encoder, count, sizeof *ids);
    int64_t *seen = take_array(encoder, count, sizeof *seen);
    to->base_time = base_of((struct times){from->seen, seen ? count : 0, sizeof *from->seen});
    for (size_t i = 0; i < count && ids && seen; i++) {
        uint32_t nanoseconds;
        ids[i] = from->ids[i] - (i > 0 ? from->ids[i - 1] : 0);
        expect(encoder, i == 0 || from->ids[i] > from->ids[i - 1]);
        (void)milliseconds_after(to->base_time, from->seen[i], &seen[i], &nanoseconds);
        if (seen[i] < INT64_MIN / millisecond) /* the smallest times of all have no millisecond before them */
            seen[i]++;
    }
    to->server = bytes_of(from->server);
    to->claim = write_claim(&from->claim, &encoder->claim);
    to->number = from->number;
    to->ids = ids;
    to->n_ids = count;
    to->seen_ms = seen;
    to->n_seen_ms = count;
}

static void write_ask(struct encoder *encoder, const struct wire_ask *from, Presence__Cluster__Ask *to)
{
    size_t count = encoder->elements = from->missing_count;
    Presence__Cluster__Range *ranges = take_array(encoder, count, sizeof *ranges);
    Presence__Cluster__Range **pointers = take_array(encoder, count, sizeof(Presence__Cluster__Range *));
    expect(encoder, from->question >= WIRE_ASK_CHANGES && from->question <= WIRE_ASK_AGENT);
    for (size_t i = 0; i < count && ranges && pointers; i++) {
        pointers[i] = &ranges[i];
        ranges[i] = (Presence__Cluster__Range)PRESENCE__CLUSTER__RANGE__INIT;
        ranges[i].first = from->missing[i].first;
        ranges[i].last = from->missing[i].last;
        expect(encoder, ranges[i].first <= ranges[i].last);
    }
    to->question = (Presence__Cluster__Question)from->question;
    to->server = bytes_of(from->server);
    to->claim = write_claim(&from->claim, &encoder->claim);
    to->after = from->after;
    to->transfer = from->transfer;
    to->missing = pointers;
    to->n_missing = count;
    to->model = bytes_of(from->model);
    to->agent = bytes_of(from->agent);
    to->tag = from->tag;
    to->difference = from->difference;
}

static void write_value(struct encoder *encoder, const presence_value *from, presence_time base,
                        Presence__Cluster__Value *to)
{
    expect(encoder, from->status == PRESENCE_ALIVE || from->status == PRESENCE_MISSING);
    *to = (Presence__Cluster__Value)PRESENCE__CLUSTER__VALUE__INIT;
    to->id = from->connection_id;
    to->model = models_number(&encoder->models, from->model);
    to->agent = bytes_of(from->agent);
    to->data = bytes_of(from->user_data);
    to->controller = from->controller_agent;
    to->missing = from->status == PRESENCE_MISSING;
    (void)milliseconds_after(base, from->last_seen, &to->seen_ms, &to->seen_ns);
}

static Presence__Cluster__Value **write_values(struct encoder *encoder, const presence_value *from, size_t count,
                                               presence_time base)
{
    Presence__Cluster__Value *values = take_array(encoder, count, sizeof *values);
    Presence__Cluster__Value **pointers = take_array(encoder, count, sizeof(Presence__Cluster__Value *));
    for (size_t i = 0; i < count && values && pointers; i++)
        write_value(encoder, &from[i], base, pointers[i] = &values[i]);
    return pointers;
}

static void write_chunk(struct encoder *encoder, const struct wire_chunk *from, Presence__Cluster__Chunk *to)
{
    encoder->elements = from->count + from->inherited_count;
    models_begin(&encoder->models, take_array(encoder, encoder->elements, sizeof *encoder->models.at));
    if (from->count == 0 || from->inherited_count == 0) { /* else 0 will do for both */
        const presence_value *first = from->count ? from->values : from->inherited;
        size_t count = from->count + from->inherited_count;
        to->base_time = base_of((struct times){count ? &first->last_seen : NULL, count, sizeof *first});
    }
    to->values = write_values(encoder, from->values, from->count, to->base_time);
    to->n_values = from->count;
    to->inherited = write_values(encoder, from->inherited, from->inherited_count, to->base_time);
    to->n_inherited = from->inherited_count;
    to->server = bytes_of(from->server);
    to->claim = write_claim(&from->claim, &encoder->claim);
    to->number = from->number;
    to->floor = from->floor;
    to->floor_reason = reason_of(encoder, from->floor_reason);
    to->floor_time = from->floor_time;
    to->transfer = from->transfer;
    to->index = from->index;
    to->last = from->last;
    to->connections = from->connections;
    to->models = encoder->models.at;
    to->n_models = encoder->models.count;
}

static void write_difference(struct encoder *encoder, const struct wire_chunk *from, Presence__Cluster__Chunk *to)
{
    write_chunk(encoder, from, to);
    uint64_t *gone = take_array(encoder, from->gone_count, sizeof *gone);
    for (size_t i = 0; i < from->gone_count && gone; i++) {
        gone[i] = from->gone[i] - (i > 0 ? from->gone[i - 1] : 0);
        expect(encoder, i == 0 || from->gone[i] > from->gone[i - 1]);
    }
    to->since = from->since;
    to->gone = gone;
    to->n_gone = from->gone_count;
    to->digest_all = from->digest.all;
    to->digest_alive = from->digest.alive;
}

static void write_evidence(struct encoder *encoder, const struct wire_evidence *from, Presence__Cluster__Evidence *to)
{
    size_t count = from->count;
    encoder->elements = count;
    expect(encoder, count <= WIRE_MOST_EVIDENCE && (unsigned)from->status <= PRESENCE_ALIVE);
    Presence__Cluster__Connection *connections = take_array(encoder, count, sizeof *connections);
    Presence__Cluster__Connection **pointers = take_array(encoder, count, sizeof(Presence__Cluster__Connection *));
    for (size_t i = 0; i < count && connections && pointers; i++) {
        Presence__Cluster__Connection *connection = pointers[i] = &connections[i];
        *connection = (Presence__Cluster__Connection)PRESENCE__CLUSTER__CONNECTION__INIT;
        connection->server = bytes_of(from->connections[i].server);
        connection->id = from->connections[i].id;
        connection->controller = from->connections[i].controller;
        connection->missing = from->connections[i].missing;
        connection->last_seen = from->connections[i].last_seen;
        connection->holder = bytes_of(from->connections[i].holder);
        connection->stale = from->connections[i].stale;
    }
    to->tag = from->tag;
    to->model = bytes_of(from->model);
    to->agent = bytes_of(from->agent);
    to->status = from->status;
    to->reason = reason_of(encoder, from->reason);
    to->since = from->since;
    to->last_seen = from->last_seen;
    to->stale = from->stale;
    to->connections = pointers;
    to->n_connections = count;
    to->total = from->total;
}

static void write_body(struct encoder *encoder, const struct wire_message *from, Presence__Cluster__Message *to)
{
    to->body_case = (Presence__Cluster__Message__BodyCase)from->kind;
    switch (from->kind) {
    case WIRE_BEAT:
        to->beat = &encoder->beat;
        encoder->beat = (Presence__Cluster__Beat)PRESENCE__CLUSTER__BEAT__INIT;
        write_beat(encoder, &from->beat, to->beat);
        break;
    case WIRE_ACTIVITY:
        to->activity = &encoder->activity;
        encoder->activity = (Presence__Cluster__Activity)PRESENCE__CLUSTER__ACTIVITY__INIT;
        write_activity(encoder, &from->activity, to->activity);
        break;
    case WIRE_ASK:
        to->ask = &encoder->ask;
        encoder->ask = (Presence__Cluster__Ask)PRESENCE__CLUSTER__ASK__INIT;
        write_ask(encoder, &from->ask, to->ask);
        break;
    case WIRE_CHUNK:
        to->chunk = &encoder->chunk;
        encoder->chunk = (Presence__Cluster__Chunk)PRESENCE__CLUSTER__CHUNK__INIT;
        write_chunk(encoder, &from->chunk, to->chunk);
        break;
    case WIRE_DIFFERENCE:
        to->difference = &encoder->chunk;
        encoder->chunk = (Presence__Cluster__Chunk)PRESENCE__CLUSTER__CHUNK__INIT;
        write_difference(encoder, &from->chunk, to->difference);
        break;
    case WIRE_KNOWN:
        to->known = &encoder->known;
        encoder->known = (Presence__Cluster__Known)PRESENCE__CLUSTER__KNOWN__INIT;
        to->known->tag = from->known.tag;
        to->known->more = from->known.more;
        to->known->stands = write_stands(encoder, from->known.stands, from->known.count);
        to->known->n_stands = from->known.count;
        break;
    case WIRE_FORGET:
        to->forget = &encoder->forget;
        encoder->forget = (Presence__Cluster__Forget)PRESENCE__CLUSTER__FORGET__INIT;
        to->forget->server = bytes_of(from->forget.server);
        to->forget->claim = write_claim(&from->forget.claim, &encoder->claim);
        to->forget->number = from->forget.number;
        break;
    case WIRE_EVIDENCE:
        to->evidence = &encoder->evidence;
        encoder->evidence = (Presence__Cluster__Evidence)PRESENCE__CLUSTER__EVIDENCE__INIT;
        write_evidence(encoder, &from->evidence, to->evidence);
        break;
    default:
        fail(encoder, WIRE_E_MALFORMED);
        break;
    }
}
