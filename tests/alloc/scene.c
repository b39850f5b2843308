/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scene.c - builds the recorders on which operations run out of memory, and compares all that can be asked of them.
 *
 * Keeps true: two scenes of the same parts are the same to the last stamp. Building and comparing is done with memory
 * that does not fail. Called by test_alloc_failure, from one thread. Costs: about a millisecond a scene.
 */
#include "scene.h"

#include <stdlib.h>
#include <string.h>

const presence_claim scene_claim_mine = {.epoch = 5, .turn = 1, .random = 1};
const presence_claim scene_claim_theirs = {.epoch = 5, .turn = 1, .random = 2};
const presence_claim scene_claim_newer = {.epoch = 6, .turn = 1, .random = 3};

static const char *const servers[5] = {OPEN, MINE, THEIRS, LAPSED, TOMB};

static void ok(int code)
{
    must(code == PRESENCE_OK);
}

static void connect_one(struct scene *scene, const char *server, uint64_t id, const char *data)
{
    char agent[TEST_NAME_BYTES];
    fake_clock_advance(&scene->clock, 1);
    ok(presence_recorder_connect(scene->recorder, server, id % 3 ? MODEL_A : MODEL_B,
                                 test_name(agent, "agent", id % 70), id, id % 11 == 0, data));
}

static void apply_state(struct scene *scene, const char *server, const presence_claim *claim, uint64_t count)
{
    presence_value values[40];
    char names[40][TEST_NAME_BYTES];
    must(count <= 40);
    for (uint64_t i = 0; i < count; i++) {
        values[i] = test_value(server, i, i % 2 ? MODEL_A : MODEL_B, test_name(names[i], "agent", i));
        values[i].last_seen = (presence_time)i;
        values[i].status = i % 5 ? PRESENCE_ALIVE : PRESENCE_MISSING;
    }
    ok(presence_replica_apply_state(scene->recorder, server, claim, 50, 20, PRESENCE_REASON_DRAINED, 7, values, count,
                                    NULL));
}

static void fill(struct scene *scene)
{
    for (uint64_t id = 0; id < 100; id++)
        connect_one(scene, OPEN, id, id % 4 ? NULL : "some data");
    ok(presence_recorder_server_down(scene->recorder, OPEN));
    for (uint64_t id = 0; id < 100; id += 2)
        connect_one(scene, OPEN, id, id % 4 ? NULL : "some data");
    apply_state(scene, MINE, &scene_claim_theirs, 30); /* an older life of it, by another node */
    ok(presence_replica_claim(scene->recorder, MINE, &scene_claim_newer, true));
    for (uint64_t id = 20; id < 40; id++)
        connect_one(scene, MINE, id, NULL);
    apply_state(scene, THEIRS, &scene_claim_theirs, 40);
    apply_state(scene, LAPSED, &scene_claim_theirs, 20);
    ok(presence_replica_lapse(scene->recorder, LAPSED));
    apply_state(scene, TOMB, &scene_claim_theirs, 5);
    ok(presence_replica_forget(scene->recorder, TOMB, NULL));
    for (uint64_t id = 200; id < 210; id++) { /* agents that left */
        connect_one(scene, OPEN, id, NULL);
        ok(presence_recorder_disconnect(scene->recorder, OPEN, id));
    }
    scene->noted = presence_recorder_revision(scene->recorder);
    connect_one(scene, OPEN, 500, NULL);
    ok(presence_recorder_disconnect(scene->recorder, OPEN, 8));
    ok(presence_recorder_find_handle(scene->recorder, OPEN, 4, &scene->handle));
}

static void hold_views(struct scene *scene)
{
    for (size_t i = 0; i < SCENE_VIEWS; i++) {
        presence_connections *view = presence_recorder_connections(scene->recorder);
        must(view != NULL);
        scene->views[i] = view;
        if (i % 2 == 1) {
            scene->views[i] = presence_connections_for_model(view, MODEL_A);
            presence_connections_free(view);
        }
        scene->views_content[i] = content_of(scene->views[i]);
        if (i + 1 < SCENE_VIEWS) /* the last is of the present: the next change copies all that it touches */
            connect_one(scene, OPEN, 300 + i, "held");
    }
}

static presence_watch *open_watch(struct scene *scene)
{
    presence_watch *watch = NULL;
    ok(presence_watch_open(scene->recorder, NULL, &watch, NULL));
    return watch;
}

static void watch(struct scene *scene)
{
    scene->quiet = open_watch(scene);
    scene->pending = open_watch(scene);
    connect_one(scene, OPEN, 400, "watched");
    ok(presence_recorder_server_down(scene->recorder, OPEN));
    connect_one(scene, OPEN, 400, "watched");
    presence_event event;
    int code;
    while ((code = presence_watch_next(scene->quiet, &event)) == 1)
        ;
    must(code == 0);
}

struct scene *scene_new(unsigned int parts)
{
    struct scene *scene = calloc(1, sizeof *scene);
    must(scene != NULL);
    fake_clock_set(&scene->clock, 1000);
    presence_options options;
    presence_options_init(&options);
    options.clock = fake_clock_interface(&scene->clock);
    options.memory = test_allocator_interface(&scene->memory);
    options.history_bytes = parts & SCENE_WATCHED ? 512 * 1024 : 0;
    options.left_agents = parts & SCENE_LEFT_AGENTS ? 20 : 0;
    scene->recorder = presence_recorder_new_with(&options, NULL);
    must(scene->recorder != NULL);
    presence_recorder_enable(scene->recorder);
    for (size_t i = 0; i < SCENE_LIST; i++)
        scene->list[i] = test_value(OPEN, i * 2, i % 3 ? MODEL_A : "model-of-the-list",
                                    test_name(scene->names[i], i % 2 ? "agent" : "listed", i));
    if (parts & SCENE_FILLED)
        fill(scene);
    if (parts & SCENE_WATCHED)
        watch(scene);
    if (parts & SCENE_HELD_VIEWS)
        hold_views(scene);
    if (scene->quiet != NULL) {
        presence_event event;
        while (presence_watch_next(scene->quiet, &event) == 1)
            ;
    }
    fake_clock_advance(&scene->clock, 100);
    presence_recorder_trim(scene->recorder); /* no spare memory: what an operation needs, it must ask for */
    return scene;
}

static void free_remembered(struct scene *scene)
{
    content_free(scene->content);
    scene->content = NULL;
}

void scene_free(struct scene *scene)
{
    test_allocator_fail_nth(&scene->memory, 0, false);
    free_remembered(scene);
    presence_change_reader_free(scene->reader);
    presence_statement_reader_free(scene->statements);
    presence_connections_free(scene->view);
    presence_watch_free(scene->quiet);
    presence_watch_free(scene->pending);
    for (size_t i = 0; i < SCENE_VIEWS / 2; i++)
        presence_connections_free(scene->views[i]);
    presence_recorder_free(scene->recorder);
    for (size_t i = SCENE_VIEWS / 2; i < SCENE_VIEWS; i++) /* some outlive the recorder */
        presence_connections_free(scene->views[i]);
    for (size_t i = 0; i < SCENE_VIEWS; i++)
        content_free(scene->views_content[i]);
    test_allocator_must_be_empty(&scene->memory);
    free(scene);
}

static presence_stats stats_of(struct scene *scene)
{
    presence_stats stats = {.struct_bytes = sizeof stats};
    ok(presence_recorder_stats(scene->recorder, &stats));
    return stats;
}

void scene_remember(struct scene *scene)
{
    free_remembered(scene);
    scene->content = content_of_recorder(scene->recorder);
    must(scene->content != NULL);
    scene->stats = stats_of(scene);
    for (size_t i = 0; i < 5; i++)
        scene->described_code[i] = presence_replica_describe(scene->recorder, servers[i], &scene->described[i]);
    ok(presence_recorder_agent_evidence(scene->recorder, MODEL_A, "agent-4", &scene->evidence));
    ok(presence_recorder_agent_evidence(scene->recorder, MODEL_A, "agent-63", &scene->left_evidence));
}

static bool evidence_equal(const presence_evidence *a, const presence_evidence *b)
{
    return a->status == b->status && a->reason == b->reason && a->since == b->since && a->last_seen == b->last_seen &&
           a->alive == b->alive && a->missing == b->missing;
}

static bool description_equal(const presence_server_description *a, const presence_server_description *b)
{
    return presence_claim_compare(&a->claim, &b->claim) == 0 && a->local == b->local && a->complete == b->complete &&
           a->lapsed == b->lapsed && a->forgotten == b->forgotten && a->number == b->number && a->floor == b->floor &&
           a->digest.all == b->digest.all && a->digest.alive == b->digest.alive && a->connections == b->connections &&
           a->alive == b->alive && a->inherited == b->inherited && a->forgotten_at == b->forgotten_at;
}

/* The first of the statistics that differs, or NULL. */
static const char *stats_difference(const presence_stats *a, const presence_stats *b)
{
    const struct {
        const char *name;
        uint64_t a, b;
    } pairs[] = {{"stats.revision", a->revision, b->revision},
                 {"stats.connections", a->connections, b->connections},
                 {"stats.alive", a->alive, b->alive},
                 {"stats.models", a->models, b->models},
                 {"stats.servers", a->servers, b->servers},
                 {"stats.agents", a->agents, b->agents},
                 {"stats.names", a->names, b->names},
                 {"stats.name_bytes", a->name_bytes, b->name_bytes},
                 {"stats.data_bytes", a->data_bytes, b->data_bytes},
                 {"stats.watches", a->watches, b->watches},
                 {"stats.history_first", a->history_first, b->history_first},
                 {"stats.left_agents", a->left_agents, b->left_agents}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (pairs[i].a != pairs[i].b)
            return pairs[i].name;
    return NULL;
}

static const char *content_difference(const struct content *before, struct content *now)
{
    static char difference[CONTENT_DIFFERENCE_BYTES];
    must(now != NULL);
    bool same = content_equal(before, now, true, difference);
    content_free(now);
    return same ? NULL : difference;
}

static const char *described_difference(struct scene *scene)
{
    for (size_t i = 0; i < 5; i++) {
        presence_server_description description;
        int code = presence_replica_describe(scene->recorder, servers[i], &description);
        if (code != scene->described_code[i])
            return servers[i];
        if (code == PRESENCE_OK && !description_equal(&scene->described[i], &description))
            return servers[i];
    }
    return NULL;
}

static const char *evidence_difference(struct scene *scene)
{
    presence_evidence evidence;
    ok(presence_recorder_agent_evidence(scene->recorder, MODEL_A, "agent-4", &evidence));
    if (!evidence_equal(&scene->evidence, &evidence))
        return "the evidence of an agent";
    ok(presence_recorder_agent_evidence(scene->recorder, MODEL_A, "agent-63", &evidence));
    return evidence_equal(&scene->left_evidence, &evidence) ? NULL : "the evidence of an agent that left";
}

/* A list that was refused memory even for taking itself back leaves rows behind that nothing shows. The next call on
 * that server takes them away: this is such a call, of no effect. */
static void settle(struct scene *scene)
{
    for (size_t i = 0; i < 5; i++) {
        int code = presence_recorder_activity(scene->recorder, servers[i], UINT64_MAX);
        must(code == PRESENCE_E_NOT_FOUND || code == PRESENCE_E_STALE);
    }
    must(presence_recorder_activity(scene->recorder, NEW_SERVER, UINT64_MAX) == PRESENCE_E_NOT_FOUND);
}

const char *scene_difference(struct scene *scene)
{
    const char *difference = content_difference(scene->content, content_of_recorder(scene->recorder));
    if (difference == NULL)
        difference = described_difference(scene);
    if (difference == NULL)
        difference = evidence_difference(scene);
    for (size_t i = 0; difference == NULL && i < SCENE_VIEWS && scene->views[i] != NULL; i++)
        difference = content_difference(scene->views_content[i], content_of(scene->views[i]));
    presence_event event;
    if (difference == NULL && scene->quiet != NULL && presence_watch_next(scene->quiet, &event) != 0)
        difference = "a watch was told";
    settle(scene);
    presence_stats stats = stats_of(scene);
    return difference != NULL ? difference : stats_difference(&scene->stats, &stats);
}
