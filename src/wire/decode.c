/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.c - bytes that anybody may have sent, to a message that can be relied on.
 *
 * In three steps: the envelope is looked at by hand, for a message of a newer version, or with a newer body, need not
 * be anything that our generated code understands; the generated code then reads all of it into structs of its own; and
 * from those the plain structs are made, with everything checked that wire.h promises. Changes as our nodes write them
 * are read straight away instead (changes.c).
 *
 * Keeps true: *message is written only by a decoding that succeeds. Nothing is read behind the bytes, and no more
 * memory is taken than WIRE_MEMORY_FACTOR times their length and a little: a message of nothing but empty parts, which
 * would take far more, is refused for it. Called by the arena's thread. Costs: O(length), with no memory from the
 * system once the arena has grown; `make bench` tells it for a change.
 */
#include "bytes.h"
#include "changes.h"

#include <cluster.pb-c.h>

#include <string.h>

static const int64_t millisecond = 1000000;

/* The first thing that was wrong is what a decoding answers; until it ends everything after it reads as empty. */
struct decoder {
    struct wire_arena *arena;
    int error;
    const char *server; /* whose changes or values are read, and the models that they name by number */
    const char **models;
    size_t model_count;
};

static int read_envelope(const uint8_t *at, size_t left);
static int decode_generally(struct wire_arena *arena, const void *bytes, size_t length, struct wire_message *message);
static void read_body(struct decoder *decoder, const Presence__Cluster__Message *from, struct wire_message *to);
static const char *text_of(struct decoder *decoder, const ProtobufCBinaryData *from);

static int look_at(const void *bytes, size_t length)
{
    return length > WIRE_MOST_BYTES ? WIRE_E_TOO_LONG : read_envelope(bytes, length);
}

int wire_decode(struct wire_arena *arena, const void *bytes, size_t length, struct wire_message *message)
{
    int error = look_at(bytes, length);
    if (error)
        return error;
    wire_arena_begin(arena, wire_decoding_allowance(length));
    if (wire_read_changes(arena, bytes, length, message))
        return WIRE_OK;
    wire_arena_begin(arena, wire_decoding_allowance(length)); /* what that took was in vain */
    return decode_generally(arena, bytes, length, message);
}

int wire_decode_generally(struct wire_arena *arena, const void *bytes, size_t length, struct wire_message *message)
{
    int error = look_at(bytes, length);
    if (error)
        return error;
    wire_arena_begin(arena, wire_decoding_allowance(length));
    return decode_generally(arena, bytes, length, message);
}

static int decode_generally(struct wire_arena *arena, const void *bytes, size_t length, struct wire_message *message)
{
    const Presence__Cluster__Message *from =
        presence__cluster__message__unpack(&arena->generated, length, (const uint8_t *)bytes);
    if (!from)
        return arena->error ? arena->error : WIRE_E_MALFORMED;
    struct decoder decoder = {.arena = arena};
    struct wire_message to = {
        .node = text_of(&decoder, &from->node), .run = from->run, .kind = (enum wire_kind)from->body_case};
    read_body(&decoder, from, &to);
    if (decoder.error)
        return decoder.error;
    *message = to;
    return WIRE_OK;
}

/* ----------------------------------------------------------------------------------------------------- envelope -- */

/* How many bytes a field of that type has here, *number what it says if it is a number; 0: not the format. */
static size_t read_field(const uint8_t *at, size_t left, unsigned type, uint64_t *number)
{
    size_t used = 0;
    switch (type) {
    case TYPE_NUMBER:
        return read_number(at, left, number);
    case TYPE_64_BITS:
        return left < 8 ? 0 : 8;
    case TYPE_32_BITS:
        return left < 4 ? 0 : 4;
    case TYPE_COUNTED:
        used = read_number(at, left, number);
        return used == 0 || *number > left - used ? 0 : used + (size_t)*number;
    default:
        return 0;
    }
}

/* Whether there is a body for us in it. */
static int read_envelope(const uint8_t *at, size_t left)
{
    enum { VERSION_FIELD = 1 };
    uint64_t version = 0;
    bool has_body = false, has_unknown_body = false;
    while (left > 0) {
        uint64_t tag, number = 0;
        size_t used = read_number(at, left, &tag);
        if (used == 0)
            return WIRE_E_MALFORMED;
        at += used;
        left -= used;
        uint64_t field = tag >> 3;
        unsigned type = tag & 7;
        used = read_field(at, left, type, &number);
        if (used == 0)
            return WIRE_E_MALFORMED;
        at += used;
        left -= used;
        if (field == VERSION_FIELD && type == TYPE_NUMBER)
            version = number;
        has_body = has_body || (field >= WIRE_BEAT && field <= WIRE_DIFFERENCE);
        has_unknown_body = has_unknown_body || (field > WIRE_DIFFERENCE && type == TYPE_COUNTED);
    }
    if (version > WIRE_VERSION)
        return WIRE_E_VERSION;
    if (version != WIRE_VERSION || (!has_body && !has_unknown_body))
        return WIRE_E_MALFORMED;
    return has_body ? WIRE_OK : WIRE_E_UNKNOWN;
}

/* ----------------------------------------------------------------------------------------------- what they share -- */

static void fail(struct decoder *decoder, int error)
{
    if (!decoder->error)
        decoder->error = error;
}

static void expect(struct decoder *decoder, bool holds)
{
    if (!holds)
        fail(decoder, WIRE_E_MALFORMED);
}

/* NULL for none, and where there is an error. */
static void *take_array(struct decoder *decoder, size_t count, size_t each_bytes)
{
    if (count == 0 || decoder->error)
        return NULL;
    void *array = wire_arena_take(decoder->arena, count * each_bytes);
    if (!array)
        fail(decoder, decoder->arena->error);
    return array;
}

/* The bytes lie in the arena, with one more behind them that is theirs. */
static const char *text_of(struct decoder *decoder, const ProtobufCBinaryData *from)
{
    if (from->len == 0)
        return "";
    if (memchr(from->data, '\0', from->len)) {
        fail(decoder, WIRE_E_MALFORMED);
        return "";
    }
    from->data[from->len] = '\0';
    return (const char *)from->data;
}

static presence_claim claim_of(const Presence__Cluster__Claim *from)
{
    if (!from)
        return (presence_claim){0};
    return (presence_claim){.epoch = from->epoch, .turn = from->turn, .random = from->random};
}

static presence_reason reason_of(struct decoder *decoder, Presence__Cluster__Reason reason)
{
    expect(decoder, (int)reason >= PRESENCE_REASON_NONE && (int)reason <= PRESENCE_REASON_LAPSED);
    return (presence_reason)reason;
}

/* base + milliseconds and nanoseconds (0 to 999,999), none of which may leave the range of a time. */
static presence_time time_of(struct decoder *decoder, presence_time base, int64_t milliseconds, uint32_t nanoseconds)
{
    int64_t rest = nanoseconds, difference = 0;
    presence_time time = 0;
    expect(decoder, nanoseconds < millisecond);
    if (milliseconds < 0) { /* towards zero, so that the smallest time there is has a product, too */
        milliseconds++;
        rest -= millisecond;
    }
    if (__builtin_mul_overflow(milliseconds, millisecond, &difference) ||
        __builtin_add_overflow(difference, rest, &difference) || __builtin_add_overflow(base, difference, &time))
        fail(decoder, WIRE_E_MALFORMED);
    return time;
}

static void read_models(struct decoder *decoder, const ProtobufCBinaryData *from, size_t count)
{
    decoder->models = take_array(decoder, count, sizeof *decoder->models);
    for (size_t i = 0; i < count && decoder->models; i++)
        decoder->models[i] = text_of(decoder, &from[i]);
    decoder->model_count = decoder->models ? count : 0;
}

static const char *model_of(struct decoder *decoder, uint32_t model)
{
    if (model < decoder->model_count)
        return decoder->models[model];
    fail(decoder, WIRE_E_MALFORMED);
    return "";
}

static struct wire_stand *read_stands(struct decoder *decoder, Presence__Cluster__Stand **from, size_t count)
{
    struct wire_stand *stands = take_array(decoder, count, sizeof *stands);
    for (size_t i = 0; i < count && stands; i++)
        stands[i] = (struct wire_stand){
            .server = text_of(decoder, &from[i]->server),
            .claim = claim_of(from[i]->claim),
            .number = from[i]->number,
            .floor = from[i]->floor,
            .connections = from[i]->connections,
            .alive = from[i]->alive,
            .digest = {.all = from[i]->digest_all, .alive = from[i]->digest_alive},
            .complete = from[i]->complete,
            .forgotten = from[i]->forgotten,
            .lapsed = from[i]->lapsed,
            .holder = text_of(decoder, &from[i]->holder),
            .inherited = from[i]->inherited,
        };
    return stands;
}

/* ------------------------------------------------------------------------------------------------------- bodies -- */

static void read_beat(struct decoder *decoder, const Presence__Cluster__Beat *from, struct wire_beat *to)
{
    expect(decoder, from->part < from->parts && from->parts <= WIRE_MOST_PARTS);
    *to = (struct wire_beat){
        .sequence = from->sequence,
        .nonce = from->nonce,
        .interval_ms = from->interval_ms,
        .lease_ms = from->lease_ms,
        .joining = from->joining,
        .leaving = from->leaving,
        .part = from->part,
        .parts = from->parts,
        .stands = read_stands(decoder, from->stands, from->n_stands),
        .count = from->n_stands,
        .memory = from->memory,
    };
}

static presence_value read_connect(struct decoder *decoder, const Presence__Cluster__Change *from)
{
    return (presence_value){
        .model = model_of(decoder, from->model),
        .server = decoder->server,
        .agent = text_of(decoder, &from->agent),
        .user_data = text_of(decoder, &from->data),
        .connection_id = from->id,
        .last_seen = from->time,
        .status = PRESENCE_ALIVE,
        .controller_agent = from->controller,
    };
}

static void read_change(struct decoder *decoder, const Presence__Cluster__Change *from, uint64_t number,
                        presence_change *to)
{
    static const presence_value nothing = {.model = "", .agent = "", .user_data = ""};
    int kind = (int)from->kind;
    expect(decoder, kind >= PRESENCE_CHANGE_CONNECT && kind <= PRESENCE_CHANGE_COMPLETE);
    presence_reason reason = reason_of(decoder, from->reason);
    *to = (presence_change){.number = number, .kind = (presence_change_kind)kind, .time = from->time};
    if (kind == PRESENCE_CHANGE_CONNECT) {
        to->value = read_connect(decoder, from);
        return;
    }
    to->value = nothing;
    to->value.server = decoder->server;
    if (kind == PRESENCE_CHANGE_DISCONNECT)
        to->value.connection_id = from->id;
    if (kind == PRESENCE_CHANGE_DOWN)
        to->reason = reason;
}

static void read_changes(struct decoder *decoder, const Presence__Cluster__Changes *from, struct wire_changes *to)
{
    size_t count = from->n_changes;
    decoder->server = text_of(decoder, &from->server);
    read_models(decoder, from->models, from->n_models);
    expect(decoder, count == 0 || (from->first > 0 && from->first <= UINT64_MAX - (count - 1)));
    *to = (struct wire_changes){
        .server = decoder->server,
        .claim = claim_of(from->claim),
        .first = from->first,
        .changes = take_array(decoder, count, sizeof *to->changes),
        .count = count,
    };
    for (size_t i = 0; i < count && to->changes; i++)
        read_change(decoder, from->changes[i], from->first + i, &to->changes[i]);
}

static void read_activity(struct decoder *decoder, const Presence__Cluster__Activity *from, struct wire_activity *to)
{
    size_t count = from->n_ids;
    expect(decoder, from->n_seen_ms == count);
    uint64_t *ids = take_array(decoder, count, sizeof *ids), id = 0;
    presence_time *seen = take_array(decoder, count, sizeof *seen);
    *to = (struct wire_activity){
        .server = text_of(decoder, &from->server),
        .claim = claim_of(from->claim),
        .number = from->number,
        .ids = ids,
        .seen = seen,
        .count = count,
    };
    for (size_t i = 0; i < count && ids && seen; i++) {
        expect(decoder, (i == 0 || from->ids[i] > 0) && from->ids[i] <= UINT64_MAX - id);
        id += from->ids[i];
        ids[i] = id;
        seen[i] = time_of(decoder, from->base_time, from->seen_ms[i], 0);
    }
}

static void read_ask(struct decoder *decoder, const Presence__Cluster__Ask *from, struct wire_ask *to)
{
    int question = (int)from->question;
    expect(decoder, question != 0);
    if (question < WIRE_ASK_CHANGES || question > WIRE_ASK_AGENT)
        fail(decoder, WIRE_E_UNKNOWN);
    *to = (struct wire_ask){
        .question = (enum wire_question)question,
        .server = text_of(decoder, &from->server),
        .claim = claim_of(from->claim),
        .after = from->after,
        .transfer = from->transfer,
        .tag = from->tag,
        .difference = from->difference,
        .missing = take_array(decoder, from->n_missing, sizeof *to->missing),
        .missing_count = from->n_missing,
        .model = text_of(decoder, &from->model),
        .agent = text_of(decoder, &from->agent),
    };
    for (size_t i = 0; i < from->n_missing && to->missing; i++) {
        to->missing[i] = (struct wire_range){.first = from->missing[i]->first, .last = from->missing[i]->last};
        expect(decoder, to->missing[i].first <= to->missing[i].last);
    }
}

static void read_value(struct decoder *decoder, const Presence__Cluster__Value *from, presence_time base,
                       presence_value *to)
{
    *to = (presence_value){
        .model = model_of(decoder, from->model),
        .server = decoder->server,
        .agent = text_of(decoder, &from->agent),
        .user_data = text_of(decoder, &from->data),
        .connection_id = from->id,
        .last_seen = time_of(decoder, base, from->seen_ms, from->seen_ns),
        .status = from->missing ? PRESENCE_MISSING : PRESENCE_ALIVE,
        .controller_agent = from->controller,
    };
}

static void read_chunk(struct decoder *decoder, const Presence__Cluster__Chunk *from, struct wire_chunk *to)
{
    decoder->server = text_of(decoder, &from->server);
    read_models(decoder, from->models, from->n_models);
    *to = (struct wire_chunk){
        .server = decoder->server,
        .claim = claim_of(from->claim),
        .number = from->number,
        .floor = from->floor,
        .floor_reason = reason_of(decoder, from->floor_reason),
        .floor_time = from->floor_time,
        .transfer = from->transfer,
        .index = from->index,
        .connections = from->connections,
        .last = from->last,
        .values = take_array(decoder, from->n_values, sizeof *to->values),
        .count = from->n_values,
        .inherited = take_array(decoder, from->n_inherited, sizeof *to->inherited),
        .inherited_count = from->n_inherited,
    };
    for (size_t i = 0; i < from->n_values && to->values; i++)
        read_value(decoder, from->values[i], from->base_time, &to->values[i]);
    for (size_t i = 0; i < from->n_inherited && to->inherited; i++)
        read_value(decoder, from->inherited[i], from->base_time, &to->inherited[i]);
}

static void read_difference(struct decoder *decoder, const Presence__Cluster__Chunk *from, struct wire_chunk *to)
{
    read_chunk(decoder, from, to);
    size_t count = from->n_gone;
    uint64_t *gone = take_array(decoder, count, sizeof *gone), id = 0;
    for (size_t i = 0; i < count && gone; i++) {
        expect(decoder, (i == 0 || from->gone[i] > 0) && from->gone[i] <= UINT64_MAX - id);
        id += from->gone[i];
        gone[i] = id;
    }
    to->since = from->since;
    to->gone = gone;
    to->gone_count = gone ? count : 0;
    to->digest = (presence_digest){.all = from->digest_all, .alive = from->digest_alive};
}

static void read_evidence(struct decoder *decoder, const Presence__Cluster__Evidence *from, struct wire_evidence *to)
{
    size_t count = from->n_connections;
    expect(decoder, count <= WIRE_MOST_EVIDENCE && from->status <= PRESENCE_ALIVE);
    *to = (struct wire_evidence){
        .tag = from->tag,
        .total = from->total,
        .model = text_of(decoder, &from->model),
        .agent = text_of(decoder, &from->agent),
        .status = (presence_status)from->status,
        .reason = reason_of(decoder, from->reason),
        .since = from->since,
        .last_seen = from->last_seen,
        .stale = from->stale,
        .connections = take_array(decoder, count, sizeof *to->connections),
        .count = count,
    };
    for (size_t i = 0; i < count && to->connections; i++) {
        const Presence__Cluster__Connection *connection = from->connections[i];
        to->connections[i] = (struct wire_connection){
            .server = text_of(decoder, &connection->server),
            .holder = text_of(decoder, &connection->holder),
            .id = connection->id,
            .controller = connection->controller,
            .missing = connection->missing,
            .stale = connection->stale,
            .last_seen = connection->last_seen,
        };
    }
}

static void read_body(struct decoder *decoder, const Presence__Cluster__Message *from, struct wire_message *to)
{
    switch (from->body_case) {
    case PRESENCE__CLUSTER__MESSAGE__BODY_BEAT:
        read_beat(decoder, from->beat, &to->beat);
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_CHANGES:
        read_changes(decoder, from->changes, &to->changes);
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_ACTIVITY:
        read_activity(decoder, from->activity, &to->activity);
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_ASK:
        read_ask(decoder, from->ask, &to->ask);
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_CHUNK:
        read_chunk(decoder, from->chunk, &to->chunk);
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_DIFFERENCE:
        read_difference(decoder, from->difference, &to->chunk);
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_KNOWN:
        to->known = (struct wire_known){
            .tag = from->known->tag,
            .more = from->known->more,
            .stands = read_stands(decoder, from->known->stands, from->known->n_stands),
            .count = from->known->n_stands,
        };
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_FORGET:
        to->forget = (struct wire_forget){
            .server = text_of(decoder, &from->forget->server),
            .claim = claim_of(from->forget->claim),
            .number = from->forget->number,
        };
        break;
    case PRESENCE__CLUSTER__MESSAGE__BODY_EVIDENCE:
        read_evidence(decoder, from->evidence, &to->evidence);
        break;
    default:
        fail(decoder, WIRE_E_MALFORMED);
        break;
    }
}
