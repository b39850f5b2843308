/* SPDX-License-Identifier: Apache-2.0 */
/*
 * samples.c - the samples, and the comparison of messages field by field. Knows no test framework, for the fuzzer and
 * the program that speaks with Python use it, too.
 */
#include "wire/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAIM                                                         \
    {                                                                 \
        .epoch = 5, .turn = 2, .random = UINT64_C(0xa1a2a3a4a5a6a7a8) \
    }
#define MODEL_A "0a2f9c1e-6c7b-4d59-8d0e-1f5b7a3c9d01"
#define MODEL_B "7b41d2aa-93ce-4f0b-bb6d-52c8e0f6a902"
#define TIME INT64_C(1767225600123456789)

static struct wire_stand stands[] = {
    {.server = "machine-0",
     .claim = CLAIM,
     .number = 1000,
     .floor = 900,
     .connections = 12,
     .alive = 11,
     .digest = {UINT64_C(0xffffffffffffffff), 1},
     .complete = true,
     .holder = ""},
    {.server = "machine-\xc3\xa9",
     .claim = {.epoch = UINT64_MAX, .turn = UINT64_MAX, .random = UINT64_MAX},
     .number = UINT64_MAX,
     .forgotten = true,
     .lapsed = true,
     .holder = "node-b"},
};

static presence_change changes[] = {
    {.number = 41,
     .kind = PRESENCE_CHANGE_CONNECT,
     .time = TIME,
     .value = {.model = MODEL_A,
               .server = "machine-0",
               .agent = "unit-a-0",
               .user_data = "{\"k\":1}",
               .connection_id = UINT64_MAX,
               .last_seen = TIME,
               .status = PRESENCE_ALIVE,
               .controller_agent = true}},
    {.number = 42,
     .kind = PRESENCE_CHANGE_CONNECT,
     .time = -1,
     .value = {.model = MODEL_B,
               .server = "machine-0",
               .agent = "unit-b-0",
               .user_data = "",
               .connection_id = 0,
               .last_seen = -1,
               .status = PRESENCE_ALIVE}},
    {.number = 43,
     .kind = PRESENCE_CHANGE_CONNECT,
     .time = TIME + 1,
     .value = {.model = MODEL_A,
               .server = "machine-0",
               .agent = "unit-c-0",
               .user_data = "",
               .connection_id = 300,
               .last_seen = TIME + 1,
               .status = PRESENCE_ALIVE}},
    {.number = 44,
     .kind = PRESENCE_CHANGE_DISCONNECT,
     .time = TIME + 2,
     .value = {.model = "", .server = "machine-0", .agent = "", .user_data = "", .connection_id = 300}},
    {.number = 45,
     .kind = PRESENCE_CHANGE_DOWN,
     .reason = PRESENCE_REASON_DRAINED,
     .time = TIME + 3,
     .value = {.model = "", .server = "machine-0", .agent = "", .user_data = ""}},
    {.number = 46,
     .kind = PRESENCE_CHANGE_COMPLETE,
     .time = TIME + 4,
     .value = {.model = "", .server = "machine-0", .agent = "", .user_data = ""}},
};

static const uint64_t ids[] = {0, 7, 300, UINT64_MAX};
static const presence_time seen[] = {TIME, TIME - 5000000, TIME + 20000000000, TIME + 1000000};

static struct wire_range ranges[] = {{0, 0}, {3, 7}, {UINT64_MAX - 1, UINT64_MAX}};

static presence_value values[] = {
    {.model = MODEL_B,
     .server = "machine-0",
     .agent = "unit-b-0",
     .user_data = "x",
     .connection_id = 9,
     .last_seen = TIME,
     .status = PRESENCE_MISSING},
    {.model = MODEL_A,
     .server = "machine-0",
     .agent = "unit-a-0",
     .user_data = "",
     .connection_id = UINT64_MAX,
     .last_seen = TIME - 1,
     .status = PRESENCE_ALIVE,
     .controller_agent = true},
    {.model = MODEL_B,
     .server = "machine-0",
     .agent = "unit-b-1",
     .user_data = "",
     .connection_id = 0,
     .last_seen = TIME + 86400000000001,
     .status = PRESENCE_ALIVE},
};

static struct wire_connection connections[] = {
    {.server = "machine-0", .holder = "node-b", .id = UINT64_MAX, .controller = true, .last_seen = TIME},
    {.server = "machine-1", .holder = "node-c", .id = 0, .missing = true, .stale = true, .last_seen = -TIME},
};

#define FROM_A .node = "node-a", .run = UINT64_C(0x1122334455667788)

const struct sample samples[SAMPLES] = {
    {"beat",
     {FROM_A, .kind = WIRE_BEAT,
      .beat = {.sequence = 7,
               .nonce = UINT64_C(0xfedcba9876543210),
               .interval_ms = 500,
               .lease_ms = 3000,
               .joining = true,
               .leaving = true,
               .part = 1,
               .parts = 65535,
               .stands = stands,
               .count = 2,
               .memory = UINT64_C(0x0102030405060708)}}},
    {"changes",
     {FROM_A, .kind = WIRE_CHANGES,
      .changes = {.server = "machine-0", .claim = CLAIM, .first = 41, .changes = changes, .count = 6}}},
    {"activity",
     {FROM_A, .kind = WIRE_ACTIVITY,
      .activity = {.server = "machine-0", .claim = CLAIM, .number = 99, .ids = ids, .seen = seen, .count = 4}}},
    {"ask",
     {FROM_A, .kind = WIRE_ASK,
      .ask = {.question = WIRE_ASK_STATE,
              .server = "machine-0",
              .claim = CLAIM,
              .after = 40,
              .transfer = UINT64_C(0xabcdef0123456789),
              .tag = 77,
              .missing = ranges,
              .missing_count = 3,
              .model = MODEL_A,
              .agent = "unit-a-0"}}},
    {"chunk",
     {FROM_A, .kind = WIRE_CHUNK,
      .chunk = {.server = "machine-0",
                .claim = CLAIM,
                .number = 46,
                .floor = 45,
                .floor_reason = PRESENCE_REASON_TIMED_OUT,
                .floor_time = TIME - 60000000000,
                .transfer = UINT64_C(0xabcdef0123456789),
                .index = 300,
                .connections = 30003,
                .last = true,
                .values = values,
                .count = 3}}},
    {"known", {FROM_A, .kind = WIRE_KNOWN, .known = {.tag = 77, .more = true, .stands = stands, .count = 2}}},
    {"forget",
     {FROM_A, .kind = WIRE_FORGET, .forget = {.server = "machine-0", .claim = CLAIM, .number = UINT64_C(1) << 40}}},
    {"evidence",
     {FROM_A, .kind = WIRE_EVIDENCE,
      .evidence = {.tag = 77,
                   .total = 300,
                   .model = MODEL_A,
                   .agent = "unit-a-0",
                   .status = PRESENCE_ALIVE,
                   .reason = PRESENCE_REASON_RECONNECTED,
                   .since = TIME,
                   .last_seen = TIME + 1,
                   .stale = true,
                   .connections = connections,
                   .count = 2}}},
    {"difference",
     {FROM_A, .kind = WIRE_DIFFERENCE,
      .chunk = {.server = "machine-0",
                .claim = CLAIM,
                .number = 46,
                .floor = 45,
                .floor_reason = PRESENCE_REASON_TIMED_OUT,
                .floor_time = TIME - 60000000000,
                .transfer = UINT64_C(0xabcdef0123456789),
                .index = 3,
                .connections = 30003,
                .values = values,
                .count = 3,
                .since = 41,
                .gone = ids,
                .gone_count = 4,
                .digest = {.all = UINT64_C(0x8877665544332211), .alive = 1}}}},
    {"chunk of what is inherited",
     {FROM_A, .kind = WIRE_CHUNK,
      .chunk = {.server = "machine-0",
                .claim = CLAIM,
                .number = 3,
                .transfer = 1,
                .index = 1,
                .last = true,
                .inherited = values,
                .inherited_count = 3}}},
    {"known with what is inherited",
     {FROM_A, .kind = WIRE_KNOWN,
      .known = {.stands = (struct wire_stand[]){{.server = "machine-0", .holder = "", .inherited = 300}}, .count = 1}}},
    {"ask for what came since",
     {FROM_A, .kind = WIRE_ASK,
      .ask = {.question = WIRE_ASK_STATE,
              .server = "machine-0",
              .claim = CLAIM,
              .after = 41,
              .difference = true,
              .model = "",
              .agent = ""}}},
};

/* --------------------------------------------------------------------------------------------------- difference -- */

static char found[128];
static bool differs;

static void same(bool equal, const char *what, size_t at)
{
    if (equal || differs)
        return;
    differs = true;
    snprintf(found, sizeof found, "%s, at element %zu", what, at);
}

#define SAME(field) same(a->field == b->field, #field, at)
#define SAME_TEXT(field) same(strcmp(a->field, b->field) == 0, #field, at)
#define SAME_CLAIM(field) same(presence_claim_equal(&a->field, &b->field), #field, at)

static bool presence_claim_equal(const presence_claim *a, const presence_claim *b)
{
    return a->epoch == b->epoch && a->turn == b->turn && a->random == b->random;
}

static void same_stands(const struct wire_stand *a, const struct wire_stand *b, size_t count)
{
    for (size_t at = 0; at < count && !differs; at++, a++, b++) {
        SAME_TEXT(server);
        SAME_CLAIM(claim);
        SAME(number);
        SAME(floor);
        SAME(connections);
        SAME(alive);
        SAME(digest.all);
        SAME(digest.alive);
        SAME(complete);
        SAME(forgotten);
        SAME(lapsed);
        SAME_TEXT(holder);
        SAME(inherited);
    }
}

static void same_value(const presence_value *a, const presence_value *b, size_t at)
{
    SAME_TEXT(model);
    SAME_TEXT(server);
    SAME_TEXT(agent);
    SAME_TEXT(user_data);
    SAME(connection_id);
    SAME(last_seen);
    SAME(status);
    SAME(controller_agent);
}

static void same_beat(const struct wire_beat *a, const struct wire_beat *b, size_t at)
{
    SAME(sequence);
    SAME(nonce);
    SAME(interval_ms);
    SAME(lease_ms);
    SAME(joining);
    SAME(leaving);
    SAME(part);
    SAME(parts);
    SAME(count);
    SAME(memory);
    if (!differs)
        same_stands(a->stands, b->stands, a->count);
}

static void same_changes(const struct wire_changes *a, const struct wire_changes *b, size_t at)
{
    SAME_TEXT(server);
    SAME_CLAIM(claim);
    SAME(first);
    SAME(count);
    for (size_t i = at, count = a->count; i < count && !differs; i++) {
        const presence_change *x = &a->changes[i], *y = &b->changes[i];
        same(x->number == y->number && x->kind == y->kind && x->reason == y->reason && x->time == y->time, "change", i);
        same_value(&x->value, &y->value, i);
    }
}

static void same_activity(const struct wire_activity *a, const struct wire_activity *b, size_t at,
                          presence_time tolerance)
{
    SAME_TEXT(server);
    SAME_CLAIM(claim);
    SAME(number);
    SAME(count);
    for (size_t i = at, count = a->count; i < count && !differs; i++) {
        presence_time apart;
        same(a->ids[i] == b->ids[i], "id", i);
        same(!__builtin_sub_overflow(a->seen[i], b->seen[i], &apart) && llabs(apart) < tolerance, "seen", i);
    }
}

static void same_ask(const struct wire_ask *a, const struct wire_ask *b, size_t at)
{
    SAME(question);
    SAME_TEXT(server);
    SAME_CLAIM(claim);
    SAME(after);
    SAME(transfer);
    SAME(tag);
    SAME(difference);
    SAME(missing_count);
    SAME_TEXT(model);
    SAME_TEXT(agent);
    for (size_t i = at, count = a->missing_count; i < count && !differs; i++)
        same(a->missing[i].first == b->missing[i].first && a->missing[i].last == b->missing[i].last, "missing", i);
}

static void same_chunk(const struct wire_chunk *a, const struct wire_chunk *b, size_t at)
{
    SAME_TEXT(server);
    SAME_CLAIM(claim);
    SAME(number);
    SAME(floor);
    SAME(floor_reason);
    SAME(floor_time);
    SAME(transfer);
    SAME(index);
    SAME(connections);
    SAME(last);
    SAME(count);
    SAME(since);
    SAME(gone_count);
    SAME(digest.all);
    SAME(digest.alive);
    for (size_t i = at, count = a->count; i < count && !differs; i++)
        same_value(&a->values[i], &b->values[i], i);
    SAME(inherited_count);
    for (size_t i = at, count = a->inherited_count; i < count && !differs; i++)
        same_value(&a->inherited[i], &b->inherited[i], i);
    for (size_t i = at, count = a->gone_count; i < count && !differs; i++)
        same(a->gone[i] == b->gone[i], "gone", i);
}

static void same_connections(const struct wire_connection *a, const struct wire_connection *b, size_t count)
{
    for (size_t at = 0; at < count && !differs; at++, a++, b++) {
        SAME_TEXT(server);
        SAME_TEXT(holder);
        SAME(id);
        SAME(controller);
        SAME(missing);
        SAME(stale);
        SAME(last_seen);
    }
}

static void same_evidence(const struct wire_evidence *a, const struct wire_evidence *b, size_t at)
{
    SAME(tag);
    SAME(total);
    SAME_TEXT(model);
    SAME_TEXT(agent);
    SAME(status);
    SAME(reason);
    SAME(since);
    SAME(last_seen);
    SAME(stale);
    SAME(count);
    if (!differs)
        same_connections(a->connections, b->connections, a->count);
}

static void same_bodies(const struct wire_message *a, const struct wire_message *b, presence_time tolerance)
{
    switch (a->kind) {
    case WIRE_BEAT:
        same_beat(&a->beat, &b->beat, 0);
        break;
    case WIRE_CHANGES:
        same_changes(&a->changes, &b->changes, 0);
        break;
    case WIRE_ACTIVITY:
        same_activity(&a->activity, &b->activity, 0, tolerance);
        break;
    case WIRE_ASK:
        same_ask(&a->ask, &b->ask, 0);
        break;
    case WIRE_CHUNK:
    case WIRE_DIFFERENCE:
        same_chunk(&a->chunk, &b->chunk, 0);
        break;
    case WIRE_KNOWN:
        same(a->known.tag == b->known.tag && a->known.more == b->known.more && a->known.count == b->known.count,
             "known", 0);
        if (!differs)
            same_stands(a->known.stands, b->known.stands, a->known.count);
        break;
    case WIRE_FORGET:
        same(strcmp(a->forget.server, b->forget.server) == 0 &&
                 presence_claim_equal(&a->forget.claim, &b->forget.claim) && a->forget.number == b->forget.number,
             "forget", 0);
        break;
    case WIRE_EVIDENCE:
        same_evidence(&a->evidence, &b->evidence, 0);
        break;
    default:
        same(false, "no kind", 0);
        break;
    }
}

const char *difference_of(const struct wire_message *a, const struct wire_message *b, presence_time tolerance)
{
    const size_t at = 0;
    differs = false;
    SAME_TEXT(node);
    SAME(run);
    SAME(kind);
    if (!differs)
        same_bodies(a, b, tolerance);
    return differs ? found : NULL;
}
