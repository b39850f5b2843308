/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_wire.c - what it costs to encode and to decode the cluster's messages, an element: changes in full batches, as
 * a busy node sends them; the values of a whole state; activity; and the stands of a beat.
 *
 * Each message is made once, and encoded and decoded over and over in one arena, as nodes do; every result is checked
 * once. A round takes some milliseconds of one pinned thread; the table tells the median of the rounds, and the least
 * and greatest. Started by `make bench` or by hand: bench_wire [ROUNDS]. Costs: about a second.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "measure.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 200, MODELS = 100, NAME_BYTES = 40, USUAL_ROUNDS = 41, ELEMENTS_A_ROUND = 40000 };

static char models[MODELS][NAME_BYTES], agents[ELEMENTS][NAME_BYTES], servers[ELEMENTS][NAME_BYTES];
static presence_change changes[ELEMENTS];
static presence_value values[ELEMENTS];
static uint64_t ids[ELEMENTS];
static presence_time seen[ELEMENTS];
static struct wire_stand stands[ELEMENTS];

/* The next of a fixed row of random numbers. */
static uint64_t next_random(void)
{
    static uint64_t state = 1;
    state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = (state ^ state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

static void make_names(void)
{
    for (size_t i = 0; i < MODELS; i++) {
        uint64_t a = next_random(), b = next_random();
        snprintf(models[i], NAME_BYTES, "%08" PRIx64 "-%04" PRIx64 "-4%03" PRIx64 "-8%03" PRIx64 "-%012" PRIx64,
                 a >> 32, a >> 16 & 0xffff, a & 0xfff, b & 0xfff, b >> 16);
    }
    for (size_t i = 0; i < ELEMENTS; i++) {
        snprintf(agents[i], NAME_BYTES, "unit-application-%zu", i);
        snprintf(servers[i], NAME_BYTES, "machine-%zu", i);
    }
}

/* `spread`: each element of another model, at random; else neighbours share it. */
static void make_elements(bool spread)
{
    const presence_time now = INT64_C(1767225600123456789);
    uint64_t id = 0;
    for (size_t i = 0; i < ELEMENTS; i++) {
        const char *model = models[spread ? next_random() % MODELS : i * 4 / ELEMENTS];
        presence_time time = now - (presence_time)(next_random() % UINT64_C(3600000000000));
        values[i] = (presence_value){.model = model,
                                     .server = "machine-7",
                                     .agent = agents[i],
                                     .user_data = "",
                                     .connection_id = next_random(),
                                     .last_seen = time,
                                     .status = PRESENCE_ALIVE};
        changes[i] = (presence_change){.kind = PRESENCE_CHANGE_CONNECT, .time = time, .value = values[i]};
        ids[i] = id += 1 + next_random() % (UINT64_MAX / ELEMENTS);
        seen[i] = time;
        stands[i] = (struct wire_stand){.server = servers[i],
                                        .claim = {next_random() % 1000, 1, next_random()},
                                        .number = next_random() % 1000000,
                                        .connections = next_random() % 100000,
                                        .alive = next_random() % 100000,
                                        .digest = {next_random(), next_random()},
                                        .complete = true};
    }
}

struct line {
    const char *name;
    struct wire_message message;
    bool spread;
};

static void measure(const struct line *line, size_t rounds)
{
    struct wire_arena *out = wire_arena_new(), *in = wire_arena_new();
    static struct samples encoding, decoding;
    samples_clear(&encoding);
    samples_clear(&decoding);
    if (!out || !in)
        die("out of memory");
    const void *bytes = NULL;
    size_t length = 0;
    struct wire_message message;
    make_elements(line->spread);
    for (size_t round = 0; round < rounds; round++) {
        enum { TIMES = ELEMENTS_A_ROUND / ELEMENTS };
        uint64_t began = wall_ns();
        for (size_t i = 0; i < TIMES; i++) {
            wire_arena_reset(out);
            int error = wire_encode(out, &line->message, &bytes, &length);
            if (error)
                die("%s: cannot be encoded: %s\n", line->name, wire_strerror(error));
        }
        uint64_t encoded = wall_ns();
        for (size_t i = 0; i < TIMES; i++) {
            wire_arena_reset(in);
            int error = wire_decode(in, bytes, length, &message);
            if (error || message.kind != line->message.kind)
                die("%s: cannot be decoded: %s\n", line->name, wire_strerror(error));
        }
        uint64_t decoded = wall_ns();
        samples_add(&encoding, (double)(encoded - began) / ELEMENTS_A_ROUND);
        samples_add(&decoding, (double)(decoded - encoded) / ELEMENTS_A_ROUND);
    }
    printf("%-24s %8.1f %8.1f - %-8.1f %8.1f %8.1f - %-8.1f %8.1f %8zu\n", line->name, samples_median(&encoding),
           samples_min(&encoding), samples_max(&encoding), samples_median(&decoding), samples_min(&decoding),
           samples_max(&decoding), (double)length / ELEMENTS, length);
    wire_arena_free(out);
    wire_arena_free(in);
}

int main(int count, char **words)
{
    size_t rounds = count > 1 ? strtoul(words[1], NULL, 10) : USUAL_ROUNDS;
    presence_claim claim = {.epoch = 3, .turn = 1, .random = next_random()};
    const struct wire_changes of_changes = {"machine-7", claim, .first = 1000000, changes, ELEMENTS};
    const struct wire_chunk of_values = {
        .server = "machine-7", .claim = claim, .number = 1000000, .values = values, .count = ELEMENTS};
    const struct line lines[] = {
        {"changes", {.kind = WIRE_CHANGES, .changes = of_changes}},
        {"changes_of_any_model", {.kind = WIRE_CHANGES, .changes = of_changes}, .spread = true},
        {"state", {.kind = WIRE_CHUNK, .chunk = of_values}},
        {"activity", {.kind = WIRE_ACTIVITY, .activity = {"machine-7", claim, 1000000, ids, seen, ELEMENTS}}},
        {"stands", {.kind = WIRE_BEAT, .beat = {.parts = 1, .stands = stands, .count = ELEMENTS}}},
    };
    struct machine machine;
    machine_read(&machine, presence_version());
    machine.cpu_used = machine_pin(-1);
    make_names();
    printf("%d elements a message; %s; load %s\n", ELEMENTS, machine.cpu, machine.load);
    printf("%-24s %30s %30s %17s\n", "", "encode, ns an element", "decode, ns an element", "bytes");
    printf("%-24s %8s %8s - %-8s %8s %8s - %-8s %8s %8s\n", "", "median", "least", "greatest", "median", "least",
           "greatest", "element", "message");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        measure(&lines[i], rounds);
    return 0;
}
