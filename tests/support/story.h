/* SPDX-License-Identifier: Apache-2.0 */
/*
 * story.h - the words in which the cmocka tests tell their stories: a world with a recorder, its clock and its memory,
 * and expectations that look at the record from every side.
 *
 * A story gets its world as *state. It begins enabled and empty, at the time STORY_BEGIN; when it ends, the recorder's
 * own check must pass and every byte must have gone back to the allocator.
 */
#ifndef PRESENCE_TESTS_STORY_H
#define PRESENCE_TESTS_STORY_H

#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define STORY_BEGIN 1000

/* Two tenants and the usual agents. */
#define MODEL_A "0a2f9c1e-6c7b-4d59-8d0e-1f5b7a3c9d01"
#define MODEL_B "7b41d2aa-93ce-4f0b-bb6d-52c8e0f6a902"

/* What a refused call must leave as it is: content with every last_seen, revision, live counts. */
struct before {
    struct content *content;
    uint64_t revision;
    presence_counts counts;
};

struct world {
    struct fake_clock clock;
    struct test_allocator memory;
    presence_recorder *recorder;
    struct before before; /* see expect_refused */
};

/* ------------------------------------------------------------------------------------------------------- worlds -- */

/* Options as presence_options_init gives them, with the world's clock and memory. */
presence_options world_options(struct world *world);
/* A world with these options, its recorder enabled. */
struct world *world_new(void);
/* Gives the world another recorder, enabled, in the place of its first. */
void world_restart(struct world *world, const presence_options *options);
void world_free(struct world *world);
/* The same as cmocka wants them. */
int world_setup(void **state);
int world_teardown(void **state);
#define story(function) cmocka_unit_test_setup_teardown(function, world_setup, world_teardown)

/* The clock now shows STORY_BEGIN + this. */
void at(struct world *world, presence_time after_begin);

/* ------------------------------------------------------------------------------------------------------ actions -- */

/* Each must be answered PRESENCE_OK. */
void connects(struct world *world, const char *server, const char *model, const char *agent, uint64_t id);
void disconnects(struct world *world, const char *server, uint64_t id);
void goes_down(struct world *world, const char *server);
void updates(struct world *world, const char *server, const presence_value *values, size_t count);

/* ------------------------------------------------------------------------------------------------- expectations -- */

/* The call's code, shown by name if it is another. */
#define expect_code(wanted, call) story_expect_code((wanted), (call), #call, __FILE__, __LINE__)
void story_expect_code(int wanted, int got, const char *call, const char *file, int line);

/* The connection is recorded exactly so, seen through find, a walk, and slices by model, server and agent. last_seen is
 * after STORY_BEGIN. */
#define expect_recorded(world, wanted_value, status, last_seen) \
    story_expect_recorded((world), (wanted_value), (status), (last_seen), __FILE__, __LINE__)
void story_expect_recorded(struct world *world, presence_value wanted, presence_status status, presence_time last_seen,
                           const char *file, int line);

/* No view shows the connection. */
#define expect_absent(world, server, id) story_expect_absent((world), (server), (id), __FILE__, __LINE__)
void story_expect_absent(struct world *world, const char *server, uint64_t id, const char *file, int line);

/* The agent's status, asked live and of a view. */
#define expect_status(world, model, agent, wanted) \
    story_expect_status((world), (model), (agent), (wanted), __FILE__, __LINE__)
void story_expect_status(struct world *world, const char *model, const char *agent, presence_status wanted,
                         const char *file, int line);

/* The agent's evidence, asked live and of a view, whose answers must be the same. since and last_seen are after
 * STORY_BEGIN unless they are NEVER. */
#define NEVER INT64_MIN
#define expect_evidence(world, model, agent, status, reason, since, last_seen, alive, missing)                \
    story_expect_evidence((world), (model), (agent),                                                          \
                          story_evidence((status), (reason), (since), (last_seen), (alive), (missing)), true, \
                          __FILE__, __LINE__)
/* The same, asked live only: views do not know the agents that left. */
#define expect_live_evidence(world, model, agent, status, reason, since, last_seen, alive, missing)            \
    story_expect_evidence((world), (model), (agent),                                                           \
                          story_evidence((status), (reason), (since), (last_seen), (alive), (missing)), false, \
                          __FILE__, __LINE__)
presence_evidence story_evidence(presence_status status, presence_reason reason, presence_time since,
                                 presence_time last_seen, size_t alive, size_t missing);
void story_expect_evidence(struct world *world, const char *model, const char *agent, presence_evidence wanted,
                           bool ask_view, const char *file, int line);

/* All connections, alive and missing: asked live and counted by a walk. */
#define expect_counts(world, alive, missing) story_expect_counts((world), (alive), (missing), __FILE__, __LINE__)
void story_expect_counts(struct world *world, size_t alive, size_t missing, const char *file, int line);

/* The names in the list are these, in this order; the list is freed. */
#define expect_names(names, count, ...) \
    story_expect_names((names), (count), (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)
void story_expect_names(char **names, size_t count, const char *const *wanted, const char *file, int line);

/* Remembers the record as it is, for expect_unchanged. */
void remember(struct world *world);
/* Nothing changed since it was remembered, not even a last_seen. */
#define expect_unchanged(world) story_expect_unchanged((world), __FILE__, __LINE__)
void story_expect_unchanged(struct world *world, const char *file, int line);
/* The call is answered with this code, and leaves everything as it was. */
#define expect_refused(world, wanted, call) \
    (remember(world), story_expect_code((wanted), (call), #call, __FILE__, __LINE__), expect_unchanged(world))

/* ------------------------------------------------------------------------------------------------------ watches -- */

presence_watch *watch_all(struct world *world);
presence_watch *watch_with(struct world *world, const presence_watch_options *options);
/* The next event is of this kind and about this connection. */
#define expect_event(watch, kind, server, id) story_expect_event((watch), (kind), (server), (id), __FILE__, __LINE__)
presence_event story_expect_event(presence_watch *watch, presence_event_kind kind, const char *server, uint64_t id,
                                  const char *file, int line);
/* The next event is of kind AGENT, about this agent, with these statuses. */
#define expect_agent_event(watch, model, agent, before, after) \
    story_expect_agent_event((watch), (model), (agent), (before), (after), __FILE__, __LINE__)
presence_event story_expect_agent_event(presence_watch *watch, const char *model, const char *agent,
                                        presence_status before, presence_status after, const char *file, int line);
#define expect_quiet(watch) story_expect_next((watch), 0, __FILE__, __LINE__)
#define expect_lagged(watch) story_expect_next((watch), PRESENCE_E_LAGGED, __FILE__, __LINE__)
void story_expect_next(presence_watch *watch, int wanted, const char *file, int line);

#endif
