/* SPDX-License-Identifier: Apache-2.0 */
/*
 * changes.c - changes.h's messages: read in one pass, written in two (how long everything is, then the bytes).
 *
 * Keeps true: nothing is read behind the bytes, nothing written behind what was measured. What is written can be
 * decoded, also by the generated code of another node within what that may take. Called by the arena's thread.
 * Costs: O(length); of models as encoding any message; `make bench` tells it for a change.
 */
#include "changes.h"

#include "bytes.h"
#include "models.h"

#include <cluster.pb-c.h>

#include <assert.h>
#include <string.h>

/* The fields, by their numbers in cluster.proto. */
enum { OF_VERSION = 1, OF_NODE = 2, OF_RUN = 3, OF_CHANGES = WIRE_CHANGES };
enum { OF_SERVER = 1, OF_CLAIM = 2, OF_FIRST = 3, OF_MODELS = 4, OF_CHANGE = 5 };
enum { OF_EPOCH = 1, OF_TURN = 2, OF_RANDOM = 3 };
enum {
    OF_KIND = 1,
    OF_ID = 2,
    OF_MODEL = 3,
    OF_AGENT = 4,
    OF_DATA = 5,
    OF_CONTROLLER = 6,
    OF_TIME = 7,
    OF_REASON = 8,
};

/* What stands before a field: one byte, for numbers below 16. */
#define HEAD(field, type) ((uint8_t)((field) << 3 | (type)))

/* ------------------------------------------------------------------------------------------------------ reading -- */

struct bytes {
    const uint8_t *at, *end;
};

struct reading {
    struct wire_arena *arena;
    char *text; /* where the next text goes: there is room for all that the message holds */
    const char *server;
    const char **models;
    size_t model_count;
};

static bool take_number(struct bytes *from, uint64_t *number)
{
    size_t used = read_number(from->at, (size_t)(from->end - from->at), number);
    from->at += used;
    return used > 0;
}

static bool take_64_bits(struct bytes *from, uint64_t *number)
{
    if (from->end - from->at < 8)
        return false;
    *number = 0;
    for (unsigned i = 0; i < 8; i++)
        *number |= (uint64_t)from->at[i] << (8 * i);
    from->at += 8;
    return true;
}

static bool take_counted(struct bytes *from, struct bytes *part)
{
    uint64_t count;
    if (!take_number(from, &count) || count > (size_t)(from->end - from->at))
        return false;
    *part = (struct bytes){from->at, from->at + count};
    from->at += count;
    return true;
}

/* Whether this field comes next; then what stands before it is taken. */
static bool comes(struct bytes *from, uint8_t head)
{
    if (from->at == from->end || *from->at != head)
        return false;
    from->at++;
    return true;
}

/* A NUL is put behind it: there is room, for it came with two bytes before it at least. */
static bool keep_text(struct reading *reading, struct bytes from, const char **text)
{
    size_t length = (size_t)(from.end - from.at);
    *text = "";
    if (length == 0)
        return true;
    if (memchr(from.at, '\0', length))
        return false;
    *text = memcpy(reading->text, from.at, length);
    reading->text[length] = '\0';
    reading->text += length + 1;
    return true;
}

static bool read_claim(struct bytes from, presence_claim *claim)
{
    *claim = (presence_claim){0};
    while (from.at < from.end) {
        bool good;
        switch (*from.at++) {
        case HEAD(OF_EPOCH, TYPE_NUMBER):
            good = take_number(&from, &claim->epoch);
            break;
        case HEAD(OF_TURN, TYPE_NUMBER):
            good = take_number(&from, &claim->turn);
            break;
        case HEAD(OF_RANDOM, TYPE_64_BITS):
            good = take_64_bits(&from, &claim->random);
            break;
        default:
            return false;
        }
        if (!good)
            return false;
    }
    return true;
}

struct raw_change {
    uint64_t kind, id, model, controller, time, reason;
    struct bytes agent, data;
};

static bool read_raw_change(struct bytes from, struct raw_change *raw)
{
    *raw = (struct raw_change){0};
    while (from.at < from.end) {
        bool good;
        switch (*from.at++) {
        case HEAD(OF_KIND, TYPE_NUMBER):
            good = take_number(&from, &raw->kind);
            break;
        case HEAD(OF_ID, TYPE_NUMBER):
            good = take_number(&from, &raw->id);
            break;
        case HEAD(OF_MODEL, TYPE_NUMBER):
            good = take_number(&from, &raw->model);
            break;
        case HEAD(OF_AGENT, TYPE_COUNTED):
            good = take_counted(&from, &raw->agent);
            break;
        case HEAD(OF_DATA, TYPE_COUNTED):
            good = take_counted(&from, &raw->data);
            break;
        case HEAD(OF_CONTROLLER, TYPE_NUMBER):
            good = take_number(&from, &raw->controller);
            break;
        case HEAD(OF_TIME, TYPE_64_BITS):
            good = take_64_bits(&from, &raw->time);
            break;
        case HEAD(OF_REASON, TYPE_NUMBER):
            good = take_number(&from, &raw->reason);
            break;
        default:
            return false;
        }
        if (!good)
            return false;
    }
    return raw->kind >= PRESENCE_CHANGE_CONNECT && raw->kind <= PRESENCE_CHANGE_COMPLETE && raw->controller <= 1 &&
           raw->reason <= PRESENCE_REASON_LAPSED && raw->model <= UINT32_MAX;
}

static bool read_change(struct reading *reading, struct bytes from, uint64_t number, presence_change *to)
{
    struct raw_change raw;
    if (!read_raw_change(from, &raw))
        return false;
    to->number = number;
    to->kind = (presence_change_kind)raw.kind;
    to->reason = raw.kind == PRESENCE_CHANGE_DOWN ? (presence_reason)raw.reason : PRESENCE_REASON_NONE;
    to->time = (presence_time)raw.time;
    presence_value *value = &to->value;
    *value = (presence_value){.model = "", .server = reading->server, .agent = "", .user_data = ""};
    if (raw.kind == PRESENCE_CHANGE_CONNECT || raw.kind == PRESENCE_CHANGE_DISCONNECT)
        value->connection_id = raw.id;
    if (raw.kind != PRESENCE_CHANGE_CONNECT)
        return true;
    if (raw.model >= reading->model_count)
        return false;
    value->model = reading->models[raw.model];
    value->last_seen = to->time;
    value->status = PRESENCE_ALIVE;
    value->controller_agent = raw.controller;
    return keep_text(reading, raw.agent, &value->agent) && keep_text(reading, raw.data, &value->user_data);
}

/* What a message of changes holds, each part where it stands: models, then changes, none after the other began. */
struct parts {
    struct bytes node, server, claim, lists;
    uint64_t version, run, first;
    size_t models, changes;
};

/* Counts what is listed, and sees that it is in order. */
static bool find_lists(struct bytes from, struct parts *parts)
{
    parts->lists = from;
    while (from.at < from.end) {
        struct bytes part;
        uint8_t head = *from.at++;
        if (head == HEAD(OF_CHANGE, TYPE_COUNTED))
            parts->changes++;
        else if (head == HEAD(OF_MODELS, TYPE_COUNTED) && parts->changes == 0)
            parts->models++;
        else
            return false;
        if (!take_counted(&from, &part))
            return false;
    }
    return true;
}

/* In the order in which we write them, each at most once; false: another, or malformed. */
static bool find_parts(struct bytes from, struct parts *parts)
{
    struct bytes changes;
    *parts = (struct parts){0};
    if ((comes(&from, HEAD(OF_VERSION, TYPE_NUMBER)) && !take_number(&from, &parts->version)) ||
        (comes(&from, HEAD(OF_NODE, TYPE_COUNTED)) && !take_counted(&from, &parts->node)) ||
        (comes(&from, HEAD(OF_RUN, TYPE_64_BITS)) && !take_64_bits(&from, &parts->run)) ||
        !comes(&from, HEAD(OF_CHANGES, TYPE_COUNTED)) || !take_counted(&from, &changes) || from.at != from.end ||
        parts->version != WIRE_VERSION)
        return false;
    from = changes;
    if ((comes(&from, HEAD(OF_SERVER, TYPE_COUNTED)) && !take_counted(&from, &parts->server)) ||
        (comes(&from, HEAD(OF_CLAIM, TYPE_COUNTED)) && !take_counted(&from, &parts->claim)) ||
        (comes(&from, HEAD(OF_FIRST, TYPE_NUMBER)) && !take_number(&from, &parts->first)))
        return false;
    return find_lists(from, parts) &&
           (parts->changes == 0 || (parts->first > 0 && parts->first <= UINT64_MAX - (parts->changes - 1)));
}

/* Once the parts are found, and there is room for them. */
static bool read_lists(struct reading *reading, const struct parts *parts, presence_change *changes)
{
    struct bytes from = parts->lists, part;
    size_t models = 0, count = 0;
    while (from.at < from.end) {
        bool model = *from.at++ == HEAD(OF_MODELS, TYPE_COUNTED);
        if (!take_counted(&from, &part))
            return false;
        if (model && models < parts->models && keep_text(reading, part, &reading->models[models]))
            models++;
        else if (!model && count < parts->changes && read_change(reading, part, parts->first + count, &changes[count]))
            count++;
        else
            return false;
    }
    return true;
}

bool wire_read_changes(struct wire_arena *arena, const uint8_t *bytes, size_t length, struct wire_message *message)
{
    struct parts parts;
    struct wire_message to = {.kind = WIRE_CHANGES};
    if (!find_parts((struct bytes){bytes, bytes + length}, &parts) || !read_claim(parts.claim, &to.changes.claim))
        return false;
    struct reading reading = {
        .text = wire_arena_take(arena, length),
        .models = parts.models ? wire_arena_take(arena, parts.models * sizeof *reading.models) : NULL,
        .model_count = parts.models,
    };
    presence_change *changes = parts.changes ? wire_arena_take(arena, parts.changes * sizeof *changes) : NULL;
    if (!reading.text || (parts.models && !reading.models) || (parts.changes && !changes))
        return false;
    if (!keep_text(&reading, parts.node, &to.node) || !keep_text(&reading, parts.server, &to.changes.server))
        return false;
    reading.server = to.changes.server;
    if (!read_lists(&reading, &parts, changes))
        return false;
    to.run = parts.run;
    to.changes.first = parts.first;
    to.changes.changes = changes;
    to.changes.count = parts.changes;
    *message = to;
    return true;
}

/* ------------------------------------------------------------------------------------------------------ writing -- */

/* How long the parts of a change are, once it is measured. */
struct measure {
    uint32_t model, agent, data, body;
};

struct writing {
    struct model_list models;
    struct measure *measures;
    size_t server, claim, body; /* bytes of these parts */
    int error;
};

static size_t number_field(uint64_t number)
{
    return number ? 1 + number_bytes(number) : 0;
}

static size_t counted_field(size_t length)
{
    return length ? 1 + number_bytes(length) + length : 0;
}

static size_t field_of_64_bits(uint64_t number)
{
    return number ? 1 + 8 : 0;
}

static size_t length_of(const char *text)
{
    return text ? strlen(text) : 0;
}

static size_t claim_bytes(const presence_claim *claim)
{
    return number_field(claim->epoch) + number_field(claim->turn) + field_of_64_bits(claim->random);
}

/* False: it cannot be told. */
static bool measure_change(struct writing *writing, const presence_change *change, struct measure *measure)
{
    const presence_value *value = &change->value;
    size_t body = number_field((uint64_t)change->kind) + field_of_64_bits((uint64_t)change->time), agent, data;
    *measure = (struct measure){0};
    switch (change->kind) {
    case PRESENCE_CHANGE_CONNECT:
        agent = length_of(value->agent);
        data = length_of(value->user_data);
        if (agent > WIRE_MOST_BYTES || data > WIRE_MOST_BYTES) {
            writing->error = WIRE_E_TOO_LONG;
            return false;
        }
        measure->model = models_number(&writing->models, value->model);
        measure->agent = (uint32_t)agent;
        measure->data = (uint32_t)data;
        body += number_field(value->connection_id) + number_field(measure->model) + counted_field(agent) +
                counted_field(data) + number_field(value->controller_agent);
        break;
    case PRESENCE_CHANGE_DISCONNECT:
        body += number_field(value->connection_id);
        break;
    case PRESENCE_CHANGE_DOWN:
        if ((int)change->reason < PRESENCE_REASON_NONE || (int)change->reason > PRESENCE_REASON_LAPSED)
            writing->error = WIRE_E_MALFORMED;
        body += number_field((uint64_t)change->reason);
        break;
    case PRESENCE_CHANGE_COMPLETE:
        break;
    default:
        writing->error = WIRE_E_MALFORMED;
        break;
    }
    measure->body = (uint32_t)body;
    return !writing->error;
}

static uint8_t *write_number_field(uint8_t *at, unsigned field, uint64_t number)
{
    if (!number)
        return at;
    *at++ = HEAD(field, TYPE_NUMBER);
    return write_number(at, number);
}

static uint8_t *write_64_bits(uint8_t *at, unsigned field, uint64_t number)
{
    if (!number)
        return at;
    *at++ = HEAD(field, TYPE_64_BITS);
    for (unsigned i = 0; i < 8; i++)
        *at++ = (uint8_t)(number >> (8 * i));
    return at;
}

/* What stands before a part of that length, which follows also if it is empty. */
static uint8_t *begin_part(uint8_t *at, unsigned field, size_t length)
{
    *at++ = HEAD(field, TYPE_COUNTED);
    return write_number(at, length);
}

static uint8_t *write_text(uint8_t *at, unsigned field, const char *text, size_t length)
{
    if (!length)
        return at;
    at = begin_part(at, field, length);
    memcpy(at, text, length);
    return at + length;
}

static uint8_t *write_change(uint8_t *at, const presence_change *change, const struct measure *measure)
{
    const presence_value *value = &change->value;
    bool connect = change->kind == PRESENCE_CHANGE_CONNECT;
    at = begin_part(at, OF_CHANGE, measure->body);
    at = write_number_field(at, OF_KIND, (uint64_t)change->kind);
    if (connect || change->kind == PRESENCE_CHANGE_DISCONNECT)
        at = write_number_field(at, OF_ID, value->connection_id);
    if (connect) {
        at = write_number_field(at, OF_MODEL, measure->model);
        at = write_text(at, OF_AGENT, value->agent, measure->agent);
        at = write_text(at, OF_DATA, value->user_data, measure->data);
        at = write_number_field(at, OF_CONTROLLER, value->controller_agent);
    }
    at = write_64_bits(at, OF_TIME, (uint64_t)change->time);
    if (change->kind == PRESENCE_CHANGE_DOWN)
        at = write_number_field(at, OF_REASON, (uint64_t)change->reason);
    return at;
}

/* Everything in the body, and with it what the models are. False: it cannot be told, or there is no memory. */
static bool measure_body(struct wire_arena *arena, const struct wire_changes *changes, struct writing *writing)
{
    size_t count = changes->count;
    if (count > 0 && (changes->first == 0 || changes->first > UINT64_MAX - (count - 1)))
        writing->error = WIRE_E_MALFORMED;
    else if (count > WIRE_MOST_BYTES / 2) /* each takes two bytes at least */
        writing->error = WIRE_E_TOO_LONG;
    if (writing->error)
        return false;
    writing->measures = count ? wire_arena_take(arena, count * sizeof *writing->measures) : NULL;
    models_begin(&writing->models, count ? wire_arena_take(arena, count * sizeof *writing->models.at) : NULL);
    if (arena->error) {
        writing->error = arena->error;
        return false;
    }
    writing->server = length_of(changes->server);
    writing->claim = claim_bytes(&changes->claim);
    writing->body = counted_field(writing->server) + counted_field(writing->claim) + number_field(changes->first);
    for (size_t i = 0; i < count; i++) {
        if (!measure_change(writing, &changes->changes[i], &writing->measures[i]))
            return false;
        size_t length = writing->measures[i].body;
        writing->body += 1 + number_bytes(length) + length;
    }
    for (size_t i = 0; i < writing->models.count; i++) {
        size_t length = writing->models.at[i].len;
        writing->body += 1 + number_bytes(length) + length;
    }
    return true;
}

static uint8_t *write_body(uint8_t *at, const struct wire_changes *changes, const struct writing *writing)
{
    at = write_text(at, OF_SERVER, changes->server, writing->server);
    if (writing->claim) {
        at = begin_part(at, OF_CLAIM, writing->claim);
        at = write_number_field(at, OF_EPOCH, changes->claim.epoch);
        at = write_number_field(at, OF_TURN, changes->claim.turn);
        at = write_64_bits(at, OF_RANDOM, changes->claim.random);
    }
    at = write_number_field(at, OF_FIRST, changes->first);
    for (size_t i = 0; i < writing->models.count; i++) {
        const ProtobufCBinaryData *model = &writing->models.at[i];
        at = begin_part(at, OF_MODELS, model->len);
        if (model->len)
            memcpy(at, model->data, model->len);
        at += model->len;
    }
    for (size_t i = 0; i < changes->count; i++)
        at = write_change(at, &changes->changes[i], &writing->measures[i]);
    return at;
}

/* What the generated code of an older node lays out to read it, and makes of that, for each change. */
enum {
    TO_DECODE = sizeof(ProtobufCBinaryData) + sizeof(Presence__Cluster__Change) + sizeof(void *) + WIRE_MORE_TO_DECODE
};

int wire_write_changes(struct wire_arena *arena, const struct wire_message *message, const void **bytes, size_t *length)
{
    const struct wire_changes *changes = &message->changes;
    struct writing writing;
    writing.error = WIRE_OK; /* the rest is set where it is used */
    if (!measure_body(arena, changes, &writing))
        return writing.error;
    size_t node = length_of(message->node);
    size_t size = number_field(WIRE_VERSION) + counted_field(node) + field_of_64_bits(message->run) + 1 +
                  number_bytes(writing.body) + writing.body;
    if (size > WIRE_MOST_BYTES)
        return WIRE_E_TOO_LONG;
    if (changes->count * TO_DECODE > wire_decoding_allowance(size))
        return WIRE_E_MALFORMED;
    uint8_t *room = wire_arena_take(arena, size), *at = room;
    if (!room)
        return arena->error;
    at = write_number_field(at, OF_VERSION, WIRE_VERSION);
    at = write_text(at, OF_NODE, message->node, node);
    at = write_64_bits(at, OF_RUN, message->run);
    at = begin_part(at, OF_CHANGES, writing.body);
    at = write_body(at, changes, &writing);
    assert(at == room + size);
    *bytes = room;
    *length = size;
    return WIRE_OK;
}
