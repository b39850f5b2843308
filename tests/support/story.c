/* SPDX-License-Identifier: Apache-2.0 */
/*
 * story.c - worlds and expectations for the cmocka tests.
 *
 * Keeps true: an expectation looks at the record by every public way that should agree (live query, view, find, walk,
 * slices) and fails the test, naming the caller's line, where they differ. Called by unit tests from one thread.
 * Costs: most expectations walk the whole record, which is small in a story.
 */
#include "story.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------------- worlds -- */

presence_options world_options(struct world *world)
{
    presence_options options;
    presence_options_init(&options);
    options.clock = fake_clock_interface(&world->clock);
    options.memory = test_allocator_interface(&world->memory);
    return options;
}

void world_restart(struct world *world, const presence_options *options)
{
    presence_recorder_free(world->recorder);
    presence_error error = {0};
    world->recorder = presence_recorder_new_with(options, &error);
    if (world->recorder == NULL)
        fail_msg("no recorder: %d %s", error.code, error.message);
    presence_recorder_enable(world->recorder);
}

struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    at(world, 0);
    presence_options options = world_options(world);
    world_restart(world, &options);
    return world;
}

void world_free(struct world *world)
{
    presence_error error = {0};
    bool whole = world->recorder == NULL || presence_recorder_check(world->recorder, &error) == PRESENCE_OK;
    presence_recorder_free(world->recorder);
    content_free(world->before.content);
    bool empty = test_allocator_is_empty(&world->memory);
    free(world);
    if (!whole)
        fail_msg("the record is broken: %s", error.message);
    assert_true(empty);
}

int world_setup(void **state)
{
    *state = world_new();
    return 0;
}

int world_teardown(void **state)
{
    world_free(*state);
    return 0;
}

void at(struct world *world, presence_time after_begin)
{
    fake_clock_set(&world->clock, STORY_BEGIN + after_begin);
}

/* ------------------------------------------------------------------------------------------------------ actions -- */

void connects(struct world *world, const char *server, const char *model, const char *agent, uint64_t id)
{
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, server, model, agent, id, false, NULL));
}

void disconnects(struct world *world, const char *server, uint64_t id)
{
    expect_code(PRESENCE_OK, presence_recorder_disconnect(world->recorder, server, id));
}

void goes_down(struct world *world, const char *server)
{
    expect_code(PRESENCE_OK, presence_recorder_server_down(world->recorder, server));
}

void updates(struct world *world, const char *server, const presence_value *values, size_t count)
{
    presence_error error = {0};
    int code = presence_recorder_update_server(world->recorder, server, values, count, &error);
    if (code != PRESENCE_OK)
        fail_msg("update_server: %s, %s", presence_error_name(code), error.message);
}

/* ------------------------------------------------------------------------------------------------- expectations -- */

void story_expect_code(int wanted, int got, const char *call, const char *file, int line)
{
    if (got == wanted)
        return;
    print_error("%s: wanted %s, got %s (%d)\n", call, presence_error_name(wanted), presence_error_name(got), got);
    _fail(file, line);
}

static void expect_equal(const presence_value *got, const presence_value *wanted, const char *how, const char *file,
                         int line)
{
    if (test_values_equal(got, wanted, true))
        return;
    struct content left = {.values = (presence_value *)(uintptr_t)got, .count = 1};
    struct content right = {.values = (presence_value *)(uintptr_t)wanted, .count = 1};
    char difference[CONTENT_DIFFERENCE_BYTES] = "";
    content_equal(&left, &right, true, difference);
    print_error("by %s: got %s was wanted\n", how, difference);
    _fail(file, line);
}

/* Walks the slice and expects the value in it once. */
static void expect_walked(const presence_connections *slice, const presence_value *wanted, const char *how,
                          const char *file, int line)
{
    presence_cursor cursor = {{0}};
    presence_value value;
    size_t seen = 0;
    while (presence_connections_next(slice, &cursor, &value)) {
        if (content_compare_keys(&value, wanted) != 0)
            continue;
        seen++;
        expect_equal(&value, wanted, how, file, line);
    }
    if (seen == 1)
        return;
    print_error("by %s: %s/%" PRIu64 " was seen %zu times\n", how, wanted->server, wanted->connection_id, seen);
    _fail(file, line);
}

void story_expect_recorded(struct world *world, presence_value wanted, presence_status status, presence_time last_seen,
                           const char *file, int line)
{
    wanted.status = status;
    wanted.last_seen = STORY_BEGIN + last_seen;
    if (wanted.user_data == NULL)
        wanted.user_data = "";
    presence_connections *view = presence_recorder_connections(world->recorder);
    assert_non_null(view);
    presence_value found;
    story_expect_code(PRESENCE_OK, presence_connections_find(view, wanted.server, wanted.connection_id, &found), "find",
                      file, line);
    expect_equal(&found, &wanted, "find", file, line);
    expect_walked(view, &wanted, "walk", file, line);
    presence_connections *slices[] = {
        presence_connections_for_model(view, wanted.model),
        presence_connections_for_server(view, wanted.server),
        presence_connections_for_agent(view, wanted.agent),
    };
    const char *hows[] = {"model", "server", "agent"};
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(slices[i]);
        expect_walked(slices[i], &wanted, hows[i], file, line);
        presence_connections_free(slices[i]);
    }
    presence_connections_free(view);
}

void story_expect_absent(struct world *world, const char *server, uint64_t id, const char *file, int line)
{
    presence_connections *view = presence_recorder_connections(world->recorder);
    assert_non_null(view);
    presence_value value;
    story_expect_code(PRESENCE_E_NOT_FOUND, presence_connections_find(view, server, id, &value), "find", file, line);
    struct content *content = content_of(view);
    const presence_value *walked = content_find(content, server, id);
    content_free(content);
    presence_connections_free(view);
    if (walked == NULL)
        return;
    print_error("a walk shows %s/%" PRIu64 "\n", server, id);
    _fail(file, line);
}

void story_expect_status(struct world *world, const char *model, const char *agent, presence_status wanted,
                         const char *file, int line)
{
    presence_status live = (presence_status)-1, viewed = (presence_status)-1;
    story_expect_code(PRESENCE_OK, presence_recorder_agent_status(world->recorder, model, agent, &live),
                      "live agent_status", file, line);
    presence_connections *view = presence_recorder_connections(world->recorder);
    presence_connections *slice = presence_connections_for_model(view, model);
    assert_non_null(slice);
    story_expect_code(PRESENCE_OK, presence_connections_agent_status(slice, agent, &viewed), "agent_status of a view",
                      file, line);
    presence_connections_free(view);
    presence_connections_free(slice);
    if (live == wanted && viewed == wanted)
        return;
    print_error("%s: wanted %s, live %s, viewed %s\n", agent, presence_status_string(wanted),
                presence_status_string(live), presence_status_string(viewed));
    _fail(file, line);
}

presence_evidence story_evidence(presence_status status, presence_reason reason, presence_time since,
                                 presence_time last_seen, size_t alive, size_t missing)
{
    return (presence_evidence){.status = status,
                               .reason = reason,
                               .since = since == NEVER ? 0 : STORY_BEGIN + since,
                               .last_seen = last_seen == NEVER ? 0 : STORY_BEGIN + last_seen,
                               .alive = alive,
                               .missing = missing};
}

static bool evidences_equal(const presence_evidence *a, const presence_evidence *b)
{
    return a->status == b->status && a->reason == b->reason && a->since == b->since && a->last_seen == b->last_seen &&
           a->alive == b->alive && a->missing == b->missing;
}

static void print_evidence(const char *who, const presence_evidence *evidence)
{
    print_error("%8s: %s %s since %" PRId64 " seen %" PRId64 " alive %zu missing %zu\n", who,
                presence_status_string(evidence->status), presence_reason_string(evidence->reason), evidence->since,
                evidence->last_seen, evidence->alive, evidence->missing);
}

void story_expect_evidence(struct world *world, const char *model, const char *agent, presence_evidence wanted,
                           bool ask_view, const char *file, int line)
{
    presence_evidence live, viewed = wanted;
    memset(&live, 0xa5, sizeof live);
    story_expect_code(PRESENCE_OK, presence_recorder_agent_evidence(world->recorder, model, agent, &live),
                      "live agent_evidence", file, line);
    if (ask_view) {
        memset(&viewed, 0xa5, sizeof viewed);
        presence_connections *view = presence_recorder_connections(world->recorder);
        presence_connections *slice = presence_connections_for_model(view, model);
        assert_non_null(slice);
        story_expect_code(PRESENCE_OK, presence_connections_agent_evidence(slice, agent, &viewed),
                          "agent_evidence of a view", file, line);
        presence_connections_free(view);
        presence_connections_free(slice);
    }
    if (evidences_equal(&live, &wanted) && evidences_equal(&viewed, &wanted))
        return;
    print_evidence("wanted", &wanted);
    print_evidence("live", &live);
    print_evidence("viewed", &viewed);
    _fail(file, line);
}

void story_expect_counts(struct world *world, size_t alive, size_t missing, const char *file, int line)
{
    presence_counts counts = {77, 77, 77};
    story_expect_code(PRESENCE_OK, presence_recorder_counts(world->recorder, &counts), "counts", file, line);
    struct content *content = content_of_recorder(world->recorder);
    assert_non_null(content);
    size_t walked_alive = 0, walked = content->count;
    for (size_t i = 0; i < content->count; i++)
        walked_alive += content->values[i].status == PRESENCE_ALIVE;
    content_free(content);
    if (counts.connections == alive + missing && counts.alive == alive && counts.missing == missing &&
        walked == alive + missing && walked_alive == alive)
        return;
    print_error("wanted %zu alive %zu missing; live %zu, %zu alive, %zu missing; walked %zu, %zu alive\n", alive,
                missing, counts.connections, counts.alive, counts.missing, walked, walked_alive);
    _fail(file, line);
}

void story_expect_names(char **names, size_t count, const char *const *wanted, const char *file, int line)
{
    size_t i = 0;
    while (i < count && wanted[i] != NULL && strcmp(names[i], wanted[i]) == 0)
        i++;
    if (i < count || wanted[i] != NULL) {
        print_error("name %zu of %zu: got %s, wanted %s\n", i, count, i < count ? names[i] : "no more",
                    wanted[i] != NULL ? wanted[i] : "no more");
        _fail(file, line);
    }
    presence_names_free(names);
}

static struct before look(struct world *world)
{
    struct before before = {.content = content_of_recorder(world->recorder),
                            .revision = presence_recorder_revision(world->recorder)};
    assert_non_null(before.content);
    if (presence_recorder_is_enabled(world->recorder))
        expect_code(PRESENCE_OK, presence_recorder_counts(world->recorder, &before.counts));
    return before;
}

void remember(struct world *world)
{
    content_free(world->before.content);
    world->before = look(world);
}

void story_expect_unchanged(struct world *world, const char *file, int line)
{
    struct before now = look(world);
    const struct before *before = &world->before;
    char difference[CONTENT_DIFFERENCE_BYTES] = "";
    bool same = content_equal(before->content, now.content, true, difference);
    if (!same)
        print_error("the content changed: %s\n", difference);
    if (before->revision != now.revision) {
        same = false;
        print_error("the revision went from %" PRIu64 " to %" PRIu64 "\n", before->revision, now.revision);
    }
    if (before->counts.connections != now.counts.connections || before->counts.alive != now.counts.alive ||
        before->counts.missing != now.counts.missing) {
        same = false;
        print_error("the live counts changed\n");
    }
    content_free(now.content);
    if (!same)
        _fail(file, line);
}

/* ------------------------------------------------------------------------------------------------------ watches -- */

presence_watch *watch_with(struct world *world, const presence_watch_options *options)
{
    presence_watch *watch = NULL;
    presence_error error = {0};
    int code = presence_watch_open(world->recorder, options, &watch, &error);
    if (code != PRESENCE_OK)
        fail_msg("watch_open: %s, %s", presence_error_name(code), error.message);
    assert_non_null(watch);
    return watch;
}

presence_watch *watch_all(struct world *world)
{
    return watch_with(world, NULL);
}

static const char *kind_name(presence_event_kind kind)
{
    static const char *const names[] = {"none",         "connected", "reconnected", "updated",
                                        "disconnected", "missing",   "activity",    "agent"};
    return (size_t)kind < sizeof names / sizeof *names ? names[kind] : "a kind that is not";
}

static presence_event take_event(presence_watch *watch, const char *file, int line)
{
    presence_event event;
    memset(&event, 0, sizeof event);
    int code = presence_watch_next(watch, &event);
    if (code != 1) {
        print_error("wanted an event, got %s (%d)\n", code == 0 ? "nothing" : presence_error_name(code), code);
        _fail(file, line);
    }
    return event;
}

presence_event story_expect_event(presence_watch *watch, presence_event_kind kind, const char *server, uint64_t id,
                                  const char *file, int line)
{
    presence_event event = take_event(watch, file, line);
    if (event.kind != kind || strcmp(event.value.server, server) != 0 || event.value.connection_id != id) {
        print_error("wanted %s of %s/%" PRIu64 ", got %s of %s/%" PRIu64 "\n", kind_name(kind), server, id,
                    kind_name(event.kind), event.value.server, event.value.connection_id);
        _fail(file, line);
    }
    return event;
}

presence_event story_expect_agent_event(presence_watch *watch, const char *model, const char *agent,
                                        presence_status before, presence_status after, const char *file, int line)
{
    presence_event event = take_event(watch, file, line);
    if (event.kind != PRESENCE_EVENT_AGENT || strcmp(event.value.model, model) != 0 ||
        strcmp(event.value.agent, agent) != 0 || event.agent_before != before || event.agent_after != after) {
        print_error("wanted %s from %s to %s, got %s of %s from %s to %s\n", agent, presence_status_string(before),
                    presence_status_string(after), kind_name(event.kind), event.value.agent,
                    presence_status_string(event.agent_before), presence_status_string(event.agent_after));
        _fail(file, line);
    }
    return event;
}

void story_expect_next(presence_watch *watch, int wanted, const char *file, int line)
{
    presence_event event;
    memset(&event, 0, sizeof event);
    int code = presence_watch_next(watch, &event);
    if (code == wanted)
        return;
    print_error("wanted %d from next, got %d", wanted, code);
    if (code == 1)
        print_error(": %s of %s/%" PRIu64 " agent %s", kind_name(event.kind), event.value.server,
                    event.value.connection_id, event.value.agent);
    print_error("\n");
    _fail(file, line);
}
