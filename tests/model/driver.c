/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.c - one run of the driver: makes a recorder and a shadow as the script's first bytes say, runs operations on
 * both until the script or the steps end, compares, lets go of all that is held, and sees that no memory is left.
 *
 * Called by model_test.c and the fuzzers, from one thread at a time. Cost: some tens of microseconds a step.
 */
#include "driver_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct operation {
    unsigned weight;
    void (*run)(struct driver *driver);
    bool replication; /* of replica.h: runs that do not replicate connect instead */
};

/* The order is part of the meaning of a fuzzer's corpus: append, do not insert. */
static const struct operation operations[] = {
    {30, driver_connect, false},
    {8, driver_reconnect, false},
    {18, driver_disconnect, false},
    {10, driver_activity, false},
    {8, driver_down, false},
    {6, driver_update, false},
    {5, driver_merge, false},
    {8, driver_merge_since, false},
    {3, driver_bad_arguments, false},
    {4, driver_batch_ids, false},
    {4, driver_batch_handles, false},
    {3, driver_batch_connect, false},
    {6, driver_find_handle, false},
    {14, driver_use_handle, false},
    {1, driver_disable, false},
    {6, driver_claim, true},
    {4, driver_complete, true},
    {24, driver_apply, true},
    {4, driver_remote_activity, true},
    {4, driver_apply_state, true},
    {6, driver_lapse, true},
    {2, driver_forget, true},
    {1, driver_bury, true},
    {8, driver_take_view, false},
    {5, driver_slice_view, false},
    {11, driver_drop_view, false},
    {6, driver_open_watch, false},
    {24, driver_drain_watch, false},
    {5, driver_resume_watch, false},
    {3, driver_close_watch, false},
    {2, driver_trim, false},
    {2, driver_mark, false},
    {6, driver_unstated, false},
    {4, driver_open_statements, false},
    {12, driver_read_statements, false},
    {6, driver_apply_many, true},
    {24, driver_bring_on_fill, true},
};

/* ------------------------------------------------------------------------------------------------------- messages */

void driver_says(struct driver *driver, const char *format, ...)
{
    char *line = driver->last[driver->step % DRIVER_LAST];
    size_t bytes = sizeof driver->last[0];
    int at = snprintf(line, bytes, "%zu: ", driver->step);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + at, bytes - (size_t)at, format, arguments);
    va_end(arguments);
    if (driver->run->verbose) {
        fprintf(stderr, "%s\n", line);
    }
}

void driver_differs(struct driver *driver, const char *format, ...)
{
    fprintf(stderr, "model: the recorder and its shadow differ, seed %llu, step %zu, every %u\n",
            (unsigned long long)driver->run->seed, driver->step, driver->run->every);
    fprintf(stderr,
            "options: history %zu, left %zu, departures %zu, limits %llu connections, %llu names, %llu bytes%s\n",
            driver->options.history_bytes, driver->options.left_agents, driver->options.departures,
            (unsigned long long)driver->options.limit_connections, (unsigned long long)driver->options.limit_names,
            (unsigned long long)driver->options.limit_bytes, driver->runs_out ? ", memory runs out" : "");
    fprintf(stderr, "universe: %d servers, %d models, %d agents, %u ids; the last operations:\n",
            driver->shadow.servers, driver->shadow.models, driver->shadow.agents, driver->shadow.ids);
    for (size_t at = driver->step < DRIVER_LAST ? 0 : driver->step - DRIVER_LAST + 1; at <= driver->step; at++) {
        fprintf(stderr, "  %s\n", driver->last[at % DRIVER_LAST]);
    }
    fprintf(stderr, "difference: ");
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

/* -------------------------------------------------------------------------------------------------------- choices */

presence_time driver_now(const struct driver *driver)
{
    return fake_clock_now(&driver->clock);
}

int driver_server(struct driver *driver)
{
    int server = (int)script_below(&driver->script, (unsigned)driver->shadow.servers);
    driver_touches(driver, server);
    return server;
}

unsigned driver_id(struct driver *driver)
{
    return script_below(&driver->script, driver->shadow.ids);
}

struct shadow_facts driver_facts(struct driver *driver)
{
    struct shadow_facts facts;
    facts.model = (int)script_below(&driver->script, (unsigned)driver->shadow.models);
    facts.agent = (int)script_below(&driver->script, (unsigned)driver->shadow.agents);
    unsigned rest = script_byte(&driver->script);
    facts.data = (int)(rest / 8 % (unsigned)driver->shadow.datas);
    facts.controller = rest % 8 == 0;
    return facts;
}

/* ---------------------------------------------------------------------------------------------- calls that may fail */

void driver_arm(struct driver *driver)
{
    if (driver->runs_out && script_chance(&driver->script, 4)) {
        driver->armed = true;
        test_allocator_fail_nth(&driver->memory, 1 + script_below(&driver->script, 4),
                                script_chance(&driver->script, 2));
    }
}

void driver_disarm(struct driver *driver)
{
    test_allocator_fail_nth(&driver->memory, 0, false);
}

bool driver_tolerates(struct driver *driver, int code)
{
    bool armed = driver->armed;
    driver->armed = false;
    bool other_limits = driver->options.limit_names != 0 || driver->options.limit_bytes != 0;
    bool tolerated = (code == PRESENCE_E_NO_MEMORY && armed) || (code == PRESENCE_E_LIMIT && other_limits);
    driver->failed_calls += tolerated;
    return tolerated;
}

void driver_expect(struct driver *driver, const char *what, int code, int expected)
{
    if (code != expected) {
        driver_differs(driver, "%s returned %s, expected %s", what, code == 0 ? "OK" : presence_error_name(code),
                       expected == 0 ? "OK" : presence_error_name(expected));
    }
}

/* --------------------------------------------------------------------------------------------------------- the run */

static void choose_universe(struct driver *driver)
{
    static const struct {
        int servers, models, agents, datas;
        unsigned ids;
    } shapes[] = {{4, 3, 6, 4, 12}, {4, 3, 6, 4, 12},
                  {2, 2, 2, 2, 4},  {3, 2, 5, 3, 40},
                  {1, 1, 3, 2, 6},  {SHADOW_SERVERS, SHADOW_MODELS, SHADOW_AGENTS, SHADOW_DATA, SHADOW_IDS}};
    unsigned shape = script_below(&driver->script, sizeof shapes / sizeof shapes[0]);
    driver->shadow.servers = shapes[shape].servers;
    driver->shadow.models = shapes[shape].models;
    driver->shadow.agents = shapes[shape].agents;
    driver->shadow.datas = shapes[shape].datas;
    driver->shadow.ids = shapes[shape].ids;
}

static void choose_options(struct driver *driver)
{
    struct script *script = &driver->script;
    presence_options_init(&driver->options);
    driver->options.clock = fake_clock_interface(&driver->clock);
    driver->options.memory = test_allocator_interface(&driver->memory);
    unsigned history = script_below(script, 3);
    driver->options.history_bytes = history == 0 ? 0 : history == 1 ? 1 : 8 * 1024 * 1024;
    unsigned left = script_below(script, 3);
    driver->options.left_agents = left == 0 ? 0 : left == 1 ? 2 : 4096;
    driver->options.departures = script_chance(script, 3) ? 4 + script_below(script, 8) : 0;
    driver->options.limit_connections = script_chance(script, 4) ? 4 + script_below(script, 24) : 0;
    driver->options.limit_names = script_chance(script, 6) ? 6 + script_below(script, 8) : 0;
    driver->runs_out = script_chance(script, 3);
    driver->replicates = !script_chance(script, 3);
    driver->shadow.limit_connections = driver->options.limit_connections;
    driver->shadow.departures_kept = driver->options.departures == 0 ? 65536 : driver->options.departures;
}

static struct driver *begin(const struct driver_run *run)
{
    struct driver *driver = calloc(1, sizeof *driver);
    if (driver == NULL || !shadow_init(&driver->shadow)) {
        fprintf(stderr, "model: out of memory\n");
        abort();
    }
    driver->run = run;
    driver->shadow.strict = run->strict;
    driver->script.bytes = run->bytes;
    driver->script.length = run->length;
    test_random_seed(&driver->script.random, run->seed);
    fake_clock_set(&driver->clock, 1000);
    choose_universe(driver);
    choose_options(driver);
    presence_error error = {0};
    driver->recorder = presence_recorder_new_with(&driver->options, &error);
    if (driver->recorder == NULL) {
        driver_differs(driver, "no recorder: %s", error.message);
    }
    return driver;
}

static void step(struct driver *driver)
{
    unsigned total = 0;
    for (size_t at = 0; at < sizeof operations / sizeof operations[0]; at++) {
        total += operations[at].weight;
    }
    unsigned tick = script_byte(&driver->script);
    fake_clock_advance(&driver->clock, tick < 8 ? -(presence_time)tick : (presence_time)(tick % 4));
    if (!driver->shadow.enabled && tick % 4 == 0) {
        presence_recorder_enable(driver->recorder);
        shadow_enable(&driver->shadow);
    }
    unsigned chosen = script_below(&driver->script, total);
    size_t at = 0;
    while (chosen >= operations[at].weight) {
        chosen -= operations[at++].weight;
    }
    driver_says(driver, "(nothing)");
    operations[driver->replicates || !operations[at].replication ? at : 0].run(driver);
}

static void end(struct driver *driver)
{
    driver_check_all(driver);
    driver_let_go(driver);
    test_allocator_must_be_empty(&driver->memory);
    shadow_free(&driver->shadow);
    free(driver);
}

size_t driver_run(const struct driver_run *run)
{
    struct driver *driver = begin(run);
    while (driver->step < run->steps && script_has_more(&driver->script)) {
        step(driver);
        driver_check_step(driver);
        if (run->every != 0 && driver->step % run->every == 0) {
            driver_check_all(driver);
        }
        driver->step++;
    }
    size_t steps = driver->step;
    driver->step -= steps > 0;
    end(driver);
    return steps;
}
