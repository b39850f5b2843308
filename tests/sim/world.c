/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.c - virtual time, the queue of events, and nodes that run, stop, crash and start again.
 *
 * Keeps true: events happen in order of (time, order of scheduling), so that nothing depends on addresses or on the
 * machine; every random number comes from the seed, the secrets of the recorders' hash tables too (see getrandom).
 * A node's loop wakes when its step is due or its descriptor is readable, some dice late, as a real one does.
 * An event costs O(log of those waiting), and the invariants of the node that it touched.
 */
#include "world.h"

#include "actors.h"
#include "invariants.h"
#include "network.h"
#include "truth.h"

#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MOST_RUNS_A_SECOND = 20000, TRACE_LINE_MOST = 4096 };
#define WALL_BEGIN INT64_C(1700000000000000000)

/* ---------------------------------------------------------------------------------------------------------- random */

static struct test_random system_random;

/* In the place of the C library's: what takes the system's random bytes gets the seed's. */
ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    (void)flags;
    unsigned char *bytes = buffer;
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (unsigned char)(test_random_next(&system_random) >> 32);
    }
    return (ssize_t)length;
}

unsigned below(struct world *world, unsigned bound)
{
    return (unsigned)test_random_below(&world->random, bound);
}

uint64_t between(struct world *world, uint64_t lower, uint64_t upper)
{
    return lower + test_random_below(&world->random, upper - lower + 1);
}

/* ----------------------------------------------------------------------------------------------------------- world */

struct world *world_new(const struct world_options *options)
{
    struct world *world = calloc(1, sizeof *world);
    must(world != NULL);
    world->options = *options;
    world->now = SECOND;
    test_random_seed(&world->random, options->seed);
    test_random_seed(&system_random, options->seed ^ UINT64_C(0x5ec4e7));
    step_config_default(&world->config);
    world->late_ns = 2 * MILLISECOND;
    world->network = network_new(options->seed);
    world->truth = truth_new();
    world->actors = actors_new();
    world->invariants = invariants_new();
    world->arena = wire_arena_new();
    must(world->arena != NULL);
    world->trace_hash = UINT64_C(0xcbf29ce484222325);
    return world;
}

static void empty_inbox(struct node *node)
{
    for (size_t i = 0; i < node->inbox_count; i++) {
        message_drop(node->inbox[i]);
    }
    node->inbox_count = 0;
}

static void free_node(struct node *node)
{
    while (node->jobs != NULL) {
        struct step_job *job = node->jobs;
        node->jobs = job->next;
        step_job_free(job);
    }
    step_free(node->step);
    presence_recorder_free(node->recorder);
    node->step = NULL;
    node->recorder = NULL;
    empty_inbox(node);
}

void world_free(struct world *world)
{
    for (int i = 0; i < world->node_count; i++) {
        if (world->nodes[i].step != NULL) {
            free_node(&world->nodes[i]);
        }
        free(world->nodes[i].inbox);
    }
    for (size_t i = 0; i < world->event_count; i++) {
        if (world->events[i].message != NULL) {
            message_drop(world->events[i].message);
        }
    }
    free(world->events);
    network_free(world->network);
    truth_free(world->truth);
    actors_free(world->actors);
    invariants_free(world->invariants);
    wire_arena_free(world->arena);
    free(world);
}

void world_blame(struct world *world, const char *format, ...)
{
    if (world->blamed) {
        return;
    }
    world->blamed = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->reason, sizeof world->reason, format, arguments);
    va_end(arguments);
    tell(world, -1, "BLAMED: %s", world->reason);
}

void world_end_if_blamed(struct world *world)
{
    if (world->blamed) {
        must(world->end != NULL);
        longjmp(*world->end, 1);
    }
}

/* ----------------------------------------------------------------------------------------------------------- trace */

void world_tell(struct world *world, int node, const char *format, ...)
{
    char text[TRACE_LINE_MOST];
    int length =
        snprintf(text, sizeof text, "%5llu.%06llu %-5s ", (unsigned long long)(world->now / SECOND),
                 (unsigned long long)(world->now % SECOND / MICROSECOND), node >= 0 ? world->nodes[node].name : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
    va_end(arguments);
    for (const char *at = text; *at != '\0'; at++) {
        world->trace_hash = (world->trace_hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    }
    snprintf(world->trace[world->trace_count++ % TRACE_LINES], TRACE_ROOM, "%.*s", TRACE_ROOM - 1, text);
    if (world->options.print_trace) {
        puts(text);
    }
}

void world_print_trace(const struct world *world, FILE *out)
{
    uint64_t first = world->trace_count > TRACE_LINES ? world->trace_count - TRACE_LINES : 0;
    for (uint64_t i = first; i < world->trace_count; i++) {
        fprintf(out, "%s\n", world->trace[i % TRACE_LINES]);
    }
}

/* ---------------------------------------------------------------------------------------------------------- events */

static bool earlier(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void world_schedule(struct world *world, uint64_t after, struct event event)
{
    if (world->event_count == world->event_room) {
        world->event_room = world->event_room * 2 + 256;
        world->events = realloc(world->events, world->event_room * sizeof *world->events);
        must(world->events != NULL);
    }
    event.at = world->now + after;
    event.order = world->order++;
    size_t at = world->event_count++;
    while (at > 0 && earlier(&event, &world->events[(at - 1) / 2])) {
        world->events[at] = world->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->events[at] = event;
}

static struct event take_first(struct world *world)
{
    struct event first = world->events[0], last = world->events[--world->event_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= world->event_count) {
            break;
        }
        if (child + 1 < world->event_count && earlier(&world->events[child + 1], &world->events[child])) {
            child++;
        }
        if (!earlier(&world->events[child], &last)) {
            break;
        }
        world->events[at] = world->events[child];
        at = child;
    }
    world->events[at] = last;
    return first;
}

void world_run(struct world *world, uint64_t for_ns)
{
    uint64_t until = world->now + for_ns;
    world_end_if_blamed(world);
    while (world->event_count > 0 && world->events[0].at <= until) {
        struct event event = take_first(world);
        world->now = event.at;
        world->events_done++;
        if (event.life == 0 || world->nodes[event.node].life == event.life) {
            event.fire(world, &event);
        }
        if (event.message != NULL) {
            message_drop(event.message);
        }
        world_end_if_blamed(world);
    }
    world->now = until;
}

/* --------------------------------------------------------------------------------------------------------- servers */

int world_server_of(const struct world *world, const char *name)
{
    for (int i = 0; i < world->server_count; i++) {
        if (strcmp(world->servers[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

int world_server(struct world *world, const char *name)
{
    int known = world_server_of(world, name);
    if (known >= 0) {
        return known;
    }
    must(world->server_count < MOST_SERVERS && strlen(name) < NAME_ROOM);
    strcpy(world->servers[world->server_count], name);
    return world->server_count++;
}

/* ----------------------------------------------------------------------------------------------------------- nodes */

uint64_t node_now(const struct node *node)
{
    return node->world->now + node->monotonic;
}

static presence_time wall_now(void *context)
{
    const struct node *node = context;
    return node->wall + (presence_time)node->world->now;
}

int world_node(struct world *world, const char *name)
{
    must(world->node_count < MOST_NODES && strlen(name) < NAME_ROOM);
    struct node *node = &world->nodes[world->node_count];
    *node = (struct node){.world = world, .index = world->node_count, .history_bytes = 256 * 1024};
    strcpy(node->name, name);
    node->monotonic = between(world, 1, 1000) * SECOND;
    node->wall = WALL_BEGIN + (presence_time)between(world, 0, 100 * MILLISECOND);
    return world->node_count++;
}

bool world_is_up(const struct world *world, int node)
{
    return node >= 0 && world->nodes[node].state == NODE_UP;
}

bool world_is_running(const struct world *world, int node)
{
    return world_is_up(world, node) && !world->nodes[node].leaving;
}

static void fire_run(struct world *world, const struct event *event)
{
    struct node *node = &world->nodes[event->node];
    if (node->state != NODE_UP || event->number != node->run_token) {
        return;
    }
    node->run_at = 0;
    if (world->now / SECOND != node->runs_second) {
        node->runs_second = world->now / SECOND;
        node->runs = 0;
    }
    if (++node->runs > MOST_RUNS_A_SECOND) {
        world_blame(world, "%s: step_run was called %d times in a second: it spins", node->name, MOST_RUNS_A_SECOND);
        return;
    }
    uint64_t now = node_now(node), next = step_run(node->step, now);
    uint64_t after = next > now ? next - now : 0;
    if (after < 1000 * SECOND) {
        world_expect_run(world, event->node, after + between(world, 0, world->late_ns / 2));
    }
    world_after(world, event->node);
}

void world_expect_run(struct world *world, int n, uint64_t after)
{
    struct node *node = &world->nodes[n];
    uint64_t at = world->now + after;
    if (node->state != NODE_UP || (node->run_at != 0 && node->run_at <= at)) {
        return;
    }
    node->run_at = at;
    world_schedule(world, after,
                   (struct event){.fire = fire_run, .node = n, .life = node->life, .number = ++node->run_token});
}

/* A process whose name runs already ends; a little later, since this is called out of its step. */
static void fire_double_name(struct world *world, const struct event *event)
{
    world_crash(world, event->node);
}

/* A system call is as dear as all the rest of an event: without a change none is needed. */
static bool is_readable(struct node *node)
{
    uint64_t revision = presence_recorder_revision(node->recorder);
    if (!node->nothing_to_read || node->asked_revision != revision) {
        struct pollfd ask = {.fd = step_descriptor(node->step), .events = POLLIN};
        node->nothing_to_read = poll(&ask, 1, 0) <= 0;
        node->asked_revision = revision;
    }
    return !node->nothing_to_read;
}

void world_after(struct world *world, int n)
{
    struct node *node = &world->nodes[n];
    if (node->state == NODE_GONE || node->state == NODE_ABSENT) {
        return;
    }
    if (node->state == NODE_UP) {
        if (is_readable(node)) {
            world_expect_run(world, n, between(world, 0, world->late_ns));
        }
        if (node->double_named) {
            node->double_named = false;
            world_schedule(world, MILLISECOND, (struct event){.fire = fire_double_name, .node = n, .life = node->life});
        }
    }
    invariants_check(world, n);
}

/* ------------------------------------------------------------------------------------------------- a second thread */

enum job_phase { JOB_IS_RUN, JOB_IS_HANDED_BACK };

static void fire_job(struct world *world, const struct event *event);

static void expect_job(struct world *world, struct node *node, enum job_phase phase)
{
    world_schedule(world, between(world, 1, node->job_ns),
                   (struct event){.fire = fire_job, .node = node->index, .life = node->life, .number = phase});
}

/* What the job records is seen some time before the loop is told. */
static void fire_job(struct world *world, const struct event *event)
{
    struct node *node = &world->nodes[event->node];
    struct step_job *job = node->jobs;
    if (node->state == NODE_STOPPED) {
        expect_job(world, node, (enum job_phase)event->number);
        return;
    }
    if (event->number == JOB_IS_RUN) {
        step_job_run(job);
        expect_job(world, node, JOB_IS_HANDED_BACK);
    } else {
        bool more = job->next != NULL; /* one that it gives us now is expected as it is added */
        node->jobs = job->next;
        step_applied(node->step, node_now(node), job);
        world_expect_run(world, node->index, between(world, 0, world->late_ns));
        if (more) {
            expect_job(world, node, JOB_IS_RUN);
        }
    }
    tell(world, node->index, "a state %s", event->number == JOB_IS_RUN ? "is recorded" : "was recorded");
    world_after(world, node->index);
}

void world_add_job(struct world *world, int n, struct step_job *job)
{
    struct node *node = &world->nodes[n];
    struct step_job **end = &node->jobs;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = job;
    job->next = NULL;
    if (node->jobs == job) {
        expect_job(world, node, JOB_IS_RUN);
    }
}

/* -------------------------------------------------------------------------------------------------- start and end */

void world_start(struct world *world, int n)
{
    struct node *node = &world->nodes[n];
    must(node->state == NODE_ABSENT || node->state == NODE_GONE);
    presence_options options;
    presence_options_init(&options);
    options.clock = (presence_clock){wall_now, node};
    options.history_bytes = node->history_bytes;
    options.departures = node->departures;
    presence_error error = {0};
    node->recorder = presence_recorder_new_with(&options, &error);
    must(node->recorder != NULL);
    presence_recorder_enable(node->recorder);
    node->life++;
    node->state = NODE_UP;
    node->leaving = node->double_named = node->nothing_to_read = false;
    node->run_at = 0;
    struct step_config config = node->config != NULL ? *node->config : world->config;
    config.node = node->name;
    config.seed = test_random_next(&world->random);
    config.broken |= world->options.broken;
    struct step_output output = network_output(node);
    node->step = step_new(&config, node->recorder, &output, node_now(node), &error);
    if (node->step == NULL) {
        world_blame(world, "step_new: %s", error.message);
        world_end_if_blamed(world);
    }
    tell(world, n, "starts, run %u", node->life);
    invariants_node_starts(world, n);
    network_node_starts(world, n);
    world_expect_run(world, n, 0);
}

static void end_node(struct world *world, int n, const char *how)
{
    struct node *node = &world->nodes[n];
    must(node->state == NODE_UP || node->state == NODE_STOPPED);
    tell(world, n, "%s", how);
    node->state = NODE_GONE;
    node->life++;
    network_node_ends(world, n);
    actors_lose_node(world, n);
    free_node(node);
}

void world_crash(struct world *world, int n)
{
    end_node(world, n, "is gone");
}

void world_leave(struct world *world, int n)
{
    struct node *node = &world->nodes[n];
    must(node->state == NODE_UP);
    tell(world, n, "leaves");
    node->leaving = true;
    step_leave(node->step, node_now(node));
    world_after(world, n);
}

void world_jump_clock(struct world *world, int node, presence_time by_ns)
{
    tell(world, node, "its clock jumps by %lld ms", (long long)(by_ns / (presence_time)MILLISECOND));
    world->nodes[node].wall += by_ns;
}

/* ------------------------------------------------------------------------------------------- stopped, and continued */

void world_stop(struct world *world, int n)
{
    struct node *node = &world->nodes[n];
    must(node->state == NODE_UP);
    tell(world, n, "is stopped");
    node->state = NODE_STOPPED;
    node->run_token++;
    node->run_at = 0;
}

/* What had come meanwhile is read in its order, before or after the loop's timers. */
void world_continue(struct world *world, int n)
{
    struct node *node = &world->nodes[n];
    must(node->state == NODE_STOPPED);
    bool timers_first = below(world, 2) == 0;
    tell(world, n, "continues: %zu messages wait, %s first", node->inbox_count, timers_first ? "timers" : "they are");
    node->state = NODE_UP;
    if (timers_first) {
        world_expect_run(world, n, 0);
    }
    for (size_t i = 0; i < node->inbox_count; i++) {
        world_schedule(world, i * 5 * MICROSECOND,
                       (struct event){.fire = network_deliver,
                                      .node = n,
                                      .life = node->life,
                                      .other = -1, /* it was let through already */
                                      .message = node->inbox[i]});
    }
    node->inbox_count = 0;
    network_node_continues(world, n);
    world_expect_run(world, n, MILLISECOND);
}
