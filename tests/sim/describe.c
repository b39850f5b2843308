/* SPDX-License-Identifier: Apache-2.0 */
/*
 * describe.c - a message in a few words, for the trace: only called while one is kept.
 */
#include "network.h"

#include <stdarg.h>
#include <stdio.h>

struct text {
    char *bytes;
    size_t room, length;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->bytes + text->length, text->room - text->length, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
    if (text->length >= text->room) {
        text->length = text->room - 1;
    }
}

/* Epoch, turn and the last digits of the random part. */
static void add_claim(struct text *text, const presence_claim *claim)
{
    add(text, "%llu.%llu.%04x", (unsigned long long)claim->epoch, (unsigned long long)claim->turn,
        (unsigned)(claim->random & 0xffff));
}

static void add_stands(struct text *text, const struct wire_stand *stands, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct wire_stand *stand = &stands[i];
        add(text, " %s ", stand->server);
        add_claim(text, &stand->claim);
        add(text, "#%llu %llu/%llu%s%s%s", (unsigned long long)stand->number, (unsigned long long)stand->alive,
            (unsigned long long)stand->connections, stand->complete ? "" : " incomplete",
            stand->forgotten ? " forgotten" : "", stand->lapsed ? " lapsed" : "");
        if (stand->holder[0] != '\0') {
            add(text, " of %s", stand->holder);
        }
    }
}

static void add_changes(struct text *text, const struct wire_changes *changes)
{
    add(text, "changes %s ", changes->server);
    add_claim(text, &changes->claim);
    for (size_t i = 0; i < changes->count; i++) {
        const presence_change *change = &changes->changes[i];
        add(text, " #%llu ", (unsigned long long)change->number);
        switch (change->kind) {
        case PRESENCE_CHANGE_CONNECT:
            add(text, "+%llu", (unsigned long long)change->value.connection_id);
            break;
        case PRESENCE_CHANGE_DISCONNECT:
            add(text, "-%llu", (unsigned long long)change->value.connection_id);
            break;
        case PRESENCE_CHANGE_DOWN:
            add(text, "down (%s)", presence_reason_string(change->reason));
            break;
        case PRESENCE_CHANGE_COMPLETE:
            add(text, "complete");
            break;
        }
    }
}

static void add_ask(struct text *text, const struct wire_ask *ask)
{
    static const char *const QUESTIONS[] = {"nothing", "changes", "state", "known", "stands", "agent"};
    add(text, "ask %s %s ", QUESTIONS[ask->question], ask->server);
    add_claim(text, &ask->claim);
    add(text, " after %llu", (unsigned long long)ask->after);
    for (size_t i = 0; i < ask->missing_count; i++) {
        add(text, " chunks %llu-%llu", (unsigned long long)ask->missing[i].first,
            (unsigned long long)ask->missing[i].last);
    }
}

static void add_chunk(struct text *text, const struct wire_chunk *chunk)
{
    add(text, "chunk %s ", chunk->server);
    add_claim(text, &chunk->claim);
    add(text, "#%llu transfer %04x: %llu%s, %zu values", (unsigned long long)chunk->number,
        (unsigned)(chunk->transfer & 0xffff), (unsigned long long)chunk->index, chunk->last ? " (last)" : "",
        chunk->count);
}

static void add_beat(struct text *text, const struct wire_beat *beat)
{
    add(text, "beat %llu%s%s", (unsigned long long)beat->sequence, beat->joining ? " joining" : "",
        beat->leaving ? " leaving" : "");
    if (beat->parts > 1) {
        add(text, " part %u of %u", beat->part, beat->parts);
    }
    add(text, " memory %04x", (unsigned)(beat->memory & 0xffff));
    add_stands(text, beat->stands, beat->count);
}

static void add_message(struct text *text, const struct wire_message *message)
{
    switch (message->kind) {
    case WIRE_BEAT:
        add_beat(text, &message->beat);
        break;
    case WIRE_CHANGES:
        add_changes(text, &message->changes);
        break;
    case WIRE_ACTIVITY:
        add(text, "activity %s ", message->activity.server);
        add_claim(text, &message->activity.claim);
        add(text, "#%llu of %zu", (unsigned long long)message->activity.number, message->activity.count);
        break;
    case WIRE_ASK:
        add_ask(text, &message->ask);
        break;
    case WIRE_DIFFERENCE:
        add(text, "since #%llu, %zu gone: ", (unsigned long long)message->chunk.since, message->chunk.gone_count);
        add_chunk(text, &message->chunk);
        break;
    case WIRE_CHUNK:
        add_chunk(text, &message->chunk);
        break;
    case WIRE_KNOWN:
        add(text, "known%s", message->known.more ? " (more follows)" : "");
        add_stands(text, message->known.stands, message->known.count);
        break;
    case WIRE_FORGET:
        add(text, "forget %s ", message->forget.server);
        add_claim(text, &message->forget.claim);
        add(text, "#%llu", (unsigned long long)message->forget.number);
        break;
    case WIRE_EVIDENCE:
        add(text, "evidence of %s", message->evidence.agent);
        break;
    }
}

void network_describe(struct world *world, const struct message *message, char *bytes, size_t room)
{
    struct text text = {bytes, room, 0};
    struct wire_message decoded;
    wire_arena_reset(world->arena);
    int code = wire_decode(world->arena, message->bytes, message->length, &decoded);
    if (code == WIRE_OK) {
        add_message(&text, &decoded);
        add(&text, " (%zu bytes)", message->length);
    } else {
        add(&text, "%zu bytes that do not decode: %s", message->length, wire_strerror(code));
    }
}
