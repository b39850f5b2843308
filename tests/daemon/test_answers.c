/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_answers.c - a kept answer to STATUS is what the recorder would say now, whatever changes the statuses: what is
 * stated here, and lapses, claims and whole states of other nodes.
 *
 * Given ten agents of one server whose statuses were asked for twice, and are told from what was kept, when anything
 * changes one of them, then the recorder is asked again.
 */
#include "commands/answers.h"
#include "loop/loop.h"
#include "node/node.h"

#include <presence/replica.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SERVER "server-1"
#define MODEL "model-1"

enum { AGENTS = 10, WORDS = AGENTS + 2 };

static const presence_claim smaller = {.epoch = 1, .turn = 1, .random = 1}, same_life = {.epoch = 1, .turn = 2},
                            newer = {.epoch = 2, .turn = 1};

struct scene {
    presence_recorder *recorder;
    struct node node;
    struct loop loop;
    struct client client;
    char text[512];
    struct slice words[WORDS];
    char names[AGENTS][16];
    presence_value values[AGENTS];
    struct call call;
    uint8_t told[AGENTS];
};

static void ask_recorder(struct scene *scene)
{
    for (size_t i = 0; i < AGENTS; i++) {
        presence_status status;
        assert_int_equal(presence_recorder_agent_status(scene->recorder, MODEL, scene->names[i], &status), PRESENCE_OK);
        scene->told[i] = (uint8_t)status;
    }
}

/* As the command does. True: it was told from what was kept, which must be what the recorder says. */
static bool told_from_kept(struct scene *scene)
{
    struct answer_place place;
    const uint8_t *kept = answer_find(&scene->call, &place);
    ask_recorder(scene);
    if (kept)
        assert_memory_equal(kept, scene->told, AGENTS);
    else
        answer_keep(&scene->call, &place, scene->told);
    return kept != NULL;
}

static void is_kept(struct scene *scene)
{
    for (int i = 0; i < 3; i++)
        told_from_kept(scene);
    assert_true(told_from_kept(scene));
}

static struct scene *begin(void)
{
    struct scene *scene = calloc(1, sizeof *scene);
    assert_non_null(scene);
    scene->recorder = presence_recorder_new(NULL);
    presence_recorder_enable(scene->recorder);
    scene->node.recorder = scene->recorder;
    scene->node.answers = answers_new(1);
    scene->client.node = &scene->node;
    scene->client.loop = &scene->loop;
    char *to = scene->text;
    for (size_t i = 0; i < WORDS; i++) {
        if (i >= 2)
            snprintf(scene->names[i - 2], sizeof scene->names[0], "agent-%zu", i - 2);
        size_t length = (size_t)sprintf(to, "%s", i == 0 ? "PRESENCE.STATUS" : i == 1 ? MODEL : scene->names[i - 2]);
        scene->words[i] = (struct slice){.text = to, .length = length};
        to += length + 1;
    }
    for (size_t i = 0; i < AGENTS; i++)
        scene->values[i] = (presence_value){.model = MODEL,
                                            .server = SERVER,
                                            .agent = scene->names[i],
                                            .user_data = "",
                                            .connection_id = i + 1,
                                            .status = PRESENCE_ALIVE};
    scene->call = (struct call){.client = &scene->client, .words = scene->words, .word_count = WORDS};
    is_kept(scene);
    return scene;
}

static void end(struct scene *scene)
{
    answers_free(scene->node.answers, 1);
    presence_recorder_free(scene->recorder);
    free(scene);
}

/* The change was made, and changed the statuses: nothing is told from before it. */
static void changes(struct scene *scene, int code)
{
    uint8_t before[AGENTS];
    memcpy(before, scene->told, sizeof before);
    assert_int_equal(code, PRESENCE_OK);
    assert_false(told_from_kept(scene));
    assert_memory_not_equal(before, scene->told, sizeof before);
    is_kept(scene);
}

static void test_what_is_stated_here(void **state)
{
    (void)state;
    struct scene *scene = begin();
    presence_recorder *recorder = scene->recorder;
    changes(scene, presence_recorder_connect(recorder, SERVER, MODEL, "agent-3", 4, false, ""));
    changes(scene, presence_recorder_update_server(recorder, SERVER, scene->values, AGENTS, NULL));
    uint64_t mark = presence_recorder_revision(recorder);
    changes(scene, presence_recorder_disconnect(recorder, SERVER, 4));
    changes(scene, presence_recorder_server_down_unstated(recorder, SERVER, mark, PRESENCE_REASON_SERVER_DOWN, NULL));
    changes(scene, presence_recorder_merge_server(recorder, SERVER, scene->values, AGENTS, NULL));
    changes(scene, presence_recorder_server_down(recorder, SERVER));
    presence_recorder_disable(recorder);
    presence_recorder_enable(recorder);
    changes(scene, PRESENCE_OK);
    end(scene);
}

static int apply_state(struct scene *scene, const presence_claim *claim, uint64_t number, size_t count)
{
    return presence_replica_apply_state(scene->recorder, SERVER, claim, number, 0, PRESENCE_REASON_SERVER_DOWN, 0,
                                        scene->values, count, NULL);
}

static void test_what_other_nodes_state(void **state)
{
    (void)state;
    struct scene *scene = begin();
    presence_recorder *recorder = scene->recorder;
    changes(scene, apply_state(scene, &smaller, 10, AGENTS));
    changes(scene, presence_replica_lapse(recorder, SERVER));
    changes(scene, presence_replica_restore(recorder, SERVER));
    presence_change down = {.number = 11, .kind = PRESENCE_CHANGE_DISCONNECT, .value = {.connection_id = 2}};
    changes(scene, presence_replica_apply(recorder, SERVER, &smaller, &down, NULL, NULL));
    assert_int_equal(presence_replica_claim(recorder, SERVER, &same_life, false), PRESENCE_OK);
    is_kept(scene); /* of the same life: all are alive as they were */
    changes(scene, presence_replica_claim(recorder, SERVER, &newer, false));
    presence_change complete = {.number = 1, .kind = PRESENCE_CHANGE_COMPLETE};
    changes(scene, presence_replica_apply(recorder, SERVER, &newer, &complete, NULL, NULL));
    changes(scene, apply_state(scene, &newer, 20, AGENTS));
    changes(scene, presence_replica_forget(recorder, SERVER, NULL));
    end(scene);
}

/* What is recorded before it shows is no change: what is kept is right until it does, and not for a moment more. */
static void test_a_state_in_pieces(void **state)
{
    (void)state;
    struct scene *scene = begin();
    presence_state_writer *writer = NULL;
    assert_int_equal(presence_replica_state_begin(scene->recorder, SERVER, &smaller, 10, 0, PRESENCE_REASON_SERVER_DOWN,
                                                  0, &writer, NULL),
                     PRESENCE_OK);
    assert_true(told_from_kept(scene));
    assert_int_equal(presence_replica_state_add(writer, scene->values, AGENTS, NULL), PRESENCE_OK);
    assert_true(told_from_kept(scene));
    changes(scene, presence_replica_state_commit(writer, NULL));
    end(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_stated_here),
        cmocka_unit_test(test_what_other_nodes_state),
        cmocka_unit_test(test_a_state_in_pieces),
    };
    return cmocka_run_group_tests_name("answers", tests, NULL, NULL);
}
