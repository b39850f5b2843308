/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_big.c - many connections: filled, sliced, half removed, refilled, a server of a tenth of them put down and
 * stated anew.
 *
 *   test_big [connections]        (1,000,000 by default; 10,000,000 needs about 2 GB)
 *
 * Keeps true after each step: counts live and viewed, the statuses of some agents, the recorder's own check. Each
 * connection has an agent name of its own; model, server and id follow from its number, so nothing is remembered here.
 * Seconds and bytes are printed for information and decide nothing.
 */
#include "../support/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MODELS = 1000, SERVERS = 91, SPOTS = 2000 };

struct big {
    presence_recorder *recorder;
    struct fake_clock clock;
    uint64_t total;    /* connections when full */
    uint64_t on_large; /* the first tenth is on one server */
    double began;
};

static double seconds_now(void)
{
    struct timespec now;
    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ----------------------------------------------------------------------------------------- number -> connection -- */

/* Spreads numbers over ids without repeats: an odd factor is invertible. */
static uint64_t id_of(uint64_t number)
{
    return number * UINT64_C(0x9e3779b97f4a7c15);
}

static bool is_on_large(const struct big *big, uint64_t number)
{
    return number < big->on_large;
}

static presence_value value_of(const struct big *big, uint64_t number, char (*names)[TEST_NAME_BYTES])
{
    const char *server = is_on_large(big, number) ? "server-large" : test_name(names[0], "server", number % SERVERS);
    return test_value(server, id_of(number), test_name(names[1], "model", number % MODELS),
                      test_name(names[2], "agent", number));
}

/* ------------------------------------------------------------------------------------------------- expectations -- */

static void say(const struct big *big, const char *step)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    must(presence_recorder_stats(big->recorder, &stats) == PRESENCE_OK);
    double per_connection = stats.connections == 0 ? 0 : (double)stats.used_bytes / (double)stats.connections;
    double without_names = stats.connections == 0 ? 0
                                                  : (double)(stats.used_bytes - stats.name_bytes - stats.data_bytes) /
                                                        (double)stats.connections;
    printf("%8.2f s  %-44s %10" PRIu64 " connections, %6.1f bytes each, %6.1f without names\n",
           seconds_now() - big->began, step, stats.connections, per_connection, without_names);
    fflush(stdout);
}

static void must_count(const struct big *big, uint64_t alive, uint64_t missing)
{
    presence_counts counts;
    must(presence_recorder_counts(big->recorder, &counts) == PRESENCE_OK);
    must(counts.alive == alive);
    must(counts.missing == missing);
    must(counts.connections == alive + missing);
    presence_connections *view = presence_recorder_connections(big->recorder);
    must(view != NULL);
    must(presence_connections_count(view) == alive + missing);
    presence_connections_free(view);
}

static void must_check(const struct big *big)
{
    presence_error error = {0};
    if (presence_recorder_check(big->recorder, &error) == PRESENCE_OK)
        return;
    fprintf(stderr, "the record is broken: %s\n", error.message);
    abort();
}

/* Verifying all of ten million takes twenty seconds: with so many, not after every step. */
static void must_check_if_quick(const struct big *big)
{
    if (big->total <= 1000000)
        must_check(big);
}

/* What a connection's agent should be now. */
typedef presence_status (*expected)(const struct big *big, uint64_t number);

/* Some agents, live and in a view, by status and by key. */
static void must_know(const struct big *big, expected status_of)
{
    presence_connections *view = presence_recorder_connections(big->recorder);
    must(view != NULL);
    uint64_t stride = big->total / SPOTS + 1;
    for (uint64_t number = 0; number < big->total; number += stride) {
        char names[3][TEST_NAME_BYTES];
        presence_value value = value_of(big, number, names), found;
        presence_status wanted = status_of(big, number), status;
        must(presence_recorder_agent_status(big->recorder, value.model, value.agent, &status) == PRESENCE_OK);
        must(status == wanted);
        int code = presence_connections_find(view, value.server, value.connection_id, &found);
        must((code == PRESENCE_OK) == (wanted != PRESENCE_UNKNOWN));
        if (code == PRESENCE_OK)
            must(found.status == wanted && strcmp(found.agent, value.agent) == 0 &&
                 strcmp(found.model, value.model) == 0);
    }
    presence_connections_free(view);
}

static presence_status all_alive(const struct big *big, uint64_t number)
{
    return number < big->total ? PRESENCE_ALIVE : PRESENCE_UNKNOWN;
}

static presence_status odd_alive(const struct big *big, uint64_t number)
{
    (void)big;
    return number % 2 ? PRESENCE_ALIVE : PRESENCE_UNKNOWN;
}

static presence_status large_missing(const struct big *big, uint64_t number)
{
    return is_on_large(big, number) ? PRESENCE_MISSING : PRESENCE_ALIVE;
}

static presence_status large_thirds(const struct big *big, uint64_t number)
{
    return is_on_large(big, number) && number % 3 != 0 ? PRESENCE_UNKNOWN : PRESENCE_ALIVE;
}

/* -------------------------------------------------------------------------------------------------------- steps -- */

static void connect_numbers(struct big *big, uint64_t first, uint64_t step)
{
    for (uint64_t number = first; number < big->total; number += step) {
        char names[3][TEST_NAME_BYTES];
        presence_value value = value_of(big, number, names);
        must(presence_recorder_connect(big->recorder, value.server, value.model, value.agent, value.connection_id,
                                       false, NULL) == PRESENCE_OK);
    }
}

static void disconnect_even(struct big *big)
{
    for (uint64_t number = 0; number < big->total; number += 2) {
        char names[3][TEST_NAME_BYTES];
        presence_value value = value_of(big, number, names);
        must(presence_recorder_disconnect(big->recorder, value.server, value.connection_id) == PRESENCE_OK);
    }
}

static uint64_t walk(const presence_connections *slice)
{
    presence_cursor cursor = {{0}};
    presence_value value;
    uint64_t walked = 0;
    while (presence_connections_next(slice, &cursor, &value))
        walked++;
    return walked;
}

/* Some facts take room only where they are: the first of them among many that have none. */
static void add_first_extras(struct big *big)
{
    char names[3][TEST_NAME_BYTES];
    presence_value last = value_of(big, big->total - 1, names);
    const char *extra = "server-extra";
    must(presence_recorder_connect(big->recorder, extra, last.model, "an-agent-of-its-own", 1, false, "data") ==
         PRESENCE_OK);
    must(presence_recorder_connect(big->recorder, extra, last.model, last.agent, 2, false, NULL) == PRESENCE_OK);
    must_count(big, big->total + 2, 0);
    must_check_if_quick(big);
    must(presence_recorder_disconnect(big->recorder, extra, 1) == PRESENCE_OK);
    must(presence_recorder_disconnect(big->recorder, extra, 2) == PRESENCE_OK);
}

static void slice_it(struct big *big)
{
    presence_connections *view = presence_recorder_connections(big->recorder);
    must(view != NULL);
    must(walk(view) == big->total);
    uint64_t sum = 0;
    char **names;
    size_t count;
    must(presence_connections_models(view, &names, &count) == PRESENCE_OK);
    must(count == (big->total < MODELS ? big->total : MODELS));
    for (size_t i = 0; i < count; i++) {
        presence_connections *slice = presence_connections_for_model(view, names[i]);
        must(slice != NULL);
        sum += presence_connections_count(slice);
        if (i % 100 == 0)
            must(walk(slice) == presence_connections_count(slice));
        presence_connections_free(slice);
    }
    must(sum == big->total);
    presence_names_free(names);
    presence_connections *large = presence_connections_for_server(view, "server-large");
    must(presence_connections_count(large) == big->on_large);
    presence_connections *model = presence_connections_for_model(large, "model-7");
    uint64_t wanted = 0;
    for (uint64_t number = 7; number < big->on_large; number += MODELS)
        wanted++;
    must(presence_connections_count(model) == wanted);
    must(walk(model) == wanted);
    presence_connections_free(view);
    presence_connections_free(large);
    presence_connections_free(model);
}

/* States the large server anew, with every third of its connections. Returns how many. */
static uint64_t update_large(struct big *big)
{
    uint64_t count = (big->on_large + 2) / 3;
    presence_value *values = calloc(count, sizeof *values);
    char(*names)[3][TEST_NAME_BYTES] = calloc(count, sizeof *names);
    must(values != NULL && names != NULL);
    for (uint64_t i = 0; i < count; i++)
        values[i] = value_of(big, i * 3, names[i]);
    must(presence_recorder_update_server(big->recorder, "server-large", values, count, NULL) == PRESENCE_OK);
    free(values);
    free(names);
    return count;
}

static void run(struct big *big)
{
    connect_numbers(big, 0, 1);
    say(big, "filled");
    must_count(big, big->total, 0);
    must_know(big, all_alive);
    must_check_if_quick(big);
    say(big, "checked");

    add_first_extras(big);
    say(big, "the first data, and a second connection");

    slice_it(big);
    say(big, "sliced and walked");

    disconnect_even(big);
    say(big, "half removed");
    must_count(big, big->total / 2, 0);
    must_know(big, odd_alive);
    must_check(big);

    connect_numbers(big, 0, 2);
    say(big, "refilled");
    must_count(big, big->total, 0);
    must_know(big, all_alive);
    must_check_if_quick(big);

    presence_connections *held = presence_recorder_connections(big->recorder);
    must(presence_recorder_server_down(big->recorder, "server-large") == PRESENCE_OK);
    say(big, "a server of a tenth put down, a view held");
    must_count(big, big->total - big->on_large, big->on_large);
    must_know(big, large_missing);
    must_check_if_quick(big);

    uint64_t listed = update_large(big);
    say(big, "and stated anew with a third of it");
    must_count(big, big->total - big->on_large + listed, 0);
    must_know(big, large_thirds);
    must_check(big);
    must(presence_connections_count(held) == big->total); /* the view knows nothing of it */
    must(walk(held) == big->total);
    presence_connections_free(held);

    presence_recorder_trim(big->recorder);
    say(big, "view dropped, trimmed");
    must_check(big);
    presence_recorder_disable(big->recorder);
    presence_recorder_enable(big->recorder);
    must_count(big, 0, 0);
    say(big, "disabled and enabled");
}

int main(int argc, char **argv)
{
    struct big big = {.total = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000, .began = seconds_now()};
    must(big.total >= 1000);
    big.on_large = big.total / 10;
    fake_clock_set(&big.clock, 1000);
    presence_clock clock = fake_clock_interface(&big.clock);
    big.recorder = presence_recorder_new(&clock);
    must(big.recorder != NULL);
    presence_recorder_enable(big.recorder);
    run(&big);
    presence_recorder_free(big.recorder);
    printf("%8.2f s  done\n", seconds_now() - big.began);
    return 0;
}
