/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_step_memory.c - a newcomer to which a state comes runs out of memory, once, at any of its allocations. The state
 * is recorded as it comes, by jobs that take a while.
 *
 * Keeps true: nothing of the state shows before all of it does; it is asked for again until it is here; and where its
 * origin dies meanwhile, nothing of it stays. The linker's --wrap lets the allocations of the newcomer's step function
 * fail, and of its recorder.
 */
#include "cluster/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define SERVER "server-1"

enum { NODES = 2, ORIGIN = 0, LATE = 1, AGENTS = 3000, TICK_MS = 10, TICKS_A_JOB = 3, PATIENCE_MS = 60000 };

/* ---------------------------------------------------------------------------------------------- failing allocations */

static uint64_t fails_at, allocations; /* 0: none fails */
static bool counting, failed;

static bool fails(void)
{
    if (!counting || ++allocations != fails_at)
        return false;
    failed = true;
    return true;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
    return fails() ? NULL : __real_realloc(block, bytes);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

/* ----------------------------------------------------------------------------------------------------------- world */

struct message {
    struct message *next;
    size_t to, length;
    unsigned char bytes[];
};

struct node {
    size_t number;
    presence_recorder *recorder;
    struct step *step;
    bool listens, up;
    struct step_job *job, *run; /* to be run, and handed back */
    unsigned ticks;
};

static struct node nodes[NODES];
static struct message *first, **last = &first;
static uint64_t now;

static void deliver(size_t to, const void *bytes, size_t length)
{
    bool before = counting;
    counting = false;
    struct message *message = malloc(sizeof *message + length);
    assert_non_null(message);
    *message = (struct message){.to = to, .length = length};
    memcpy(message->bytes, bytes, length);
    *last = message;
    last = &message->next;
    counting = before;
}

static void broadcast(void *context, enum step_lane lane, const void *bytes, size_t length)
{
    const struct node *from = context;
    for (size_t i = 0; i < NODES; i++)
        if (nodes[i].up && (lane == STEP_BEAT || (i != from->number && (lane == STEP_STREAM || nodes[i].listens))))
            deliver(i, bytes, length);
}

static void send_to(void *context, const char *name, const void *bytes, size_t length)
{
    (void)context;
    size_t to = (size_t)(name[1] - '0');
    if (nodes[to].up)
        deliver(to, bytes, length);
}

static void listen_to(void *context, const char *name, bool wanted)
{
    (void)name;
    ((struct node *)context)->listens = wanted;
}

/* A slow way: a chunk goes now and then. */
static size_t waiting(void *context)
{
    static unsigned asked;
    (void)context;
    return ++asked % 3 ? SIZE_MAX : 0;
}

static void superseded(void *context, const char *server, const presence_claim *by, const char *node)
{
    (void)context;
    (void)server;
    (void)by;
    (void)node;
}

static void apply(void *context, struct step_job *job)
{
    struct node *node = context;
    assert_null(node->job); /* one at a time, of one server */
    node->job = job;
    node->ticks = TICKS_A_JOB;
}

static void start(size_t number)
{
    struct node *node = &nodes[number];
    *node = (struct node){.number = number, .up = true};
    presence_options options;
    presence_options_init(&options);
    options.history_bytes = 16 * 1024; /* far less than all changes take: a state is asked for */
    presence_error error;
    node->recorder = presence_recorder_new_with(&options, &error);
    presence_recorder_enable(node->recorder);
    struct step_config config;
    step_config_default(&config);
    char name[] = {'n', (char)('0' + number), '\0'};
    config.node = name;
    config.seed = number + 1;
    config.chunk_values = 64;
    struct step_output output = {.context = node,
                                 .broadcast = broadcast,
                                 .send = send_to,
                                 .listen = listen_to,
                                 .waiting = waiting,
                                 .superseded = superseded,
                                 .apply = apply};
    node->step = step_new(&config, node->recorder, &output, now, &error);
    assert_non_null(node->step);
    step_link(node->step, now, true);
}

static void stop(size_t number)
{
    struct node *node = &nodes[number];
    if (node->job)
        step_job_free(node->job);
    if (node->up) {
        step_free(node->step);
        presence_recorder_free(node->recorder);
    }
    *node = (struct node){0};
}

static void run_job(struct node *node)
{
    if (!node->job || --node->ticks > 0)
        return;
    struct step_job *job = node->job;
    node->job = NULL;
    step_job_run(job);
    step_applied(node->step, now, job);
}

static void tick(void)
{
    now += TICK_MS * MS;
    for (size_t i = 0; i < NODES; i++) {
        counting = i == LATE && fails_at > 0;
        if (nodes[i].up) {
            run_job(&nodes[i]);
            step_run(nodes[i].step, now);
        }
    }
    counting = false;
    while (first) {
        struct message *message = first;
        first = message->next;
        last = first ? last : &first;
        struct node *to = &nodes[message->to];
        counting = message->to == LATE && fails_at > 0;
        if (to->up) {
            step_receive(to->step, now, message->bytes, message->length);
            step_run(to->step, now);
        }
        counting = false;
        free(message);
    }
}

static size_t connections(void)
{
    presence_counts counts = {0};
    assert_int_equal(presence_recorder_counts(nodes[LATE].recorder, &counts), PRESENCE_OK);
    return counts.connections;
}

/* n0 states AGENTS agents, and n1 comes. */
static void begin(uint64_t nth)
{
    now = 1000000 * MS;
    fails_at = allocations = 0;
    failed = false;
    start(ORIGIN);
    for (int i = 0; i < 400; i++)
        tick();
    assert_int_equal(step_claim(nodes[ORIGIN].step, now, SERVER, true, 1), PRESENCE_OK);
    for (uint64_t id = 1; id <= AGENTS; id++) {
        char agent[24];
        snprintf(agent, sizeof agent, "agent-%d", (int)id);
        assert_int_equal(presence_recorder_connect(nodes[ORIGIN].recorder, SERVER, "model", agent, id, false, ""),
                         PRESENCE_OK);
    }
    for (int i = 0; i < 100; i++)
        tick();
    start(LATE);
    fails_at = nth;
}

static void end(void)
{
    counting = false;
    fails_at = 0;
    presence_error error;
    assert_int_equal(presence_recorder_check(nodes[LATE].recorder, &error), PRESENCE_OK);
    stop(LATE);
    stop(ORIGIN);
    while (first) {
        struct message *message = first;
        first = message->next;
        free(message);
    }
    last = &first;
}

/* Denser at the beginning, where what happens once happens. */
static uint64_t next(uint64_t nth)
{
    return nth + 1 + nth / 50;
}

static void all_of_it_comes_in_the_end(void **state)
{
    (void)state;
    uint64_t tried = 0;
    for (uint64_t nth = 1;; nth = next(nth), tried++) {
        begin(nth);
        for (int ms = 0; connections() < AGENTS; ms += TICK_MS) {
            tick();
            assert_true(connections() == 0 || connections() == AGENTS);
            assert_true(ms < PATIENCE_MS);
        }
        bool more = failed;
        end();
        if (!more)
            break;
    }
    print_message("%d allocations failed\n", (int)tried);
    assert_true(tried > 30);
}

/* In the middle of it; there is nobody else to ask. */
static void nothing_stays_if_its_origin_dies(void **state)
{
    (void)state;
    uint64_t tried = 0;
    for (uint64_t nth = 1;; nth = next(nth), tried++) {
        begin(nth);
        struct step_counters counters = {0};
        for (int ms = 0; counters.chunks_taken < 12 && ms < PATIENCE_MS; ms += TICK_MS) {
            tick();
            step_counters(nodes[LATE].step, &counters);
        }
        if (connections() == 0) {
            nodes[ORIGIN].up = false;
            step_free(nodes[ORIGIN].step);
            presence_recorder_free(nodes[ORIGIN].recorder);
            while (first) { /* with what is on its way */
                struct message *message = first;
                first = message->next;
                free(message);
            }
            last = &first;
            for (int ms = 0; ms < 8000; ms += TICK_MS) {
                tick();
                assert_true(connections() == 0 || connections() == AGENTS);
            }
            presence_stats stats = {.struct_bytes = sizeof stats};
            assert_int_equal(presence_recorder_stats(nodes[LATE].recorder, &stats), PRESENCE_OK);
            assert_true(stats.connections == AGENTS || stats.agents == 0);
        }
        bool more = failed;
        end();
        if (!more)
            break;
    }
    print_message("%d allocations failed\n", (int)tried);
    assert_true(tried > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_comes_in_the_end),
        cmocka_unit_test(nothing_stays_if_its_origin_dies),
    };
    return cmocka_run_group_tests_name("step_memory", tests, NULL, NULL);
}
