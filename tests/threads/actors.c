/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actors.c - what readers, droppers and caretakers do on the stage, and what all actors share.
 *
 * Keeps true: an actor's choices come from its own dice alone, so that a seed gives the same choices again (not the
 * same order among threads). A reader aborts the program if a view contradicts itself.
 */
#include "actors.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

const char *server_name(char *buffer, size_t index)
{
    return test_name(buffer, "server", index);
}

const char *model_name(uint64_t agent)
{
    static const char *const models[] = {"model-a", "model-b", "model-c"};
    return models[agent % 3];
}

void dawdle(struct actor *actor)
{
    if (test_random_chance(&actor->random, 16))
        sched_yield();
}

void park(struct stage *stage, presence_connections *view)
{
    must(pthread_mutex_lock(&stage->parking) == 0);
    bool room = stage->parked_count < PARKED_MOST;
    if (room)
        stage->parked[stage->parked_count++] = view;
    must(pthread_mutex_unlock(&stage->parking) == 0);
    if (!room)
        presence_connections_free(view);
}

presence_connections *unpark(struct stage *stage, struct test_random *random)
{
    must(pthread_mutex_lock(&stage->parking) == 0);
    presence_connections *view = NULL;
    if (stage->parked_count > 0) {
        size_t which = test_random_below(random, stage->parked_count);
        view = stage->parked[which];
        stage->parked[which] = stage->parked[--stage->parked_count];
    }
    must(pthread_mutex_unlock(&stage->parking) == 0);
    return view;
}

/* ------------------------------------------------------------------------------------------------------- readers -- */

static int compare_texts(const void *key, const void *element)
{
    return strcmp(key, *(const char *const *)element);
}

static void sum_by(const presence_connections *view, size_t total,
                   int (*list)(const presence_connections *, char ***, size_t *),
                   presence_connections *(*slice)(const presence_connections *, const char *))
{
    char **names;
    size_t count, sum = 0;
    must(list(view, &names, &count) == PRESENCE_OK);
    for (size_t i = 0; i < count; i++) {
        must(i == 0 || strcmp(names[i - 1], names[i]) < 0);
        presence_connections *part = slice(view, names[i]);
        must(part != NULL);
        size_t here = presence_connections_count(part);
        must(here > 0);
        sum += here;
        presence_connections_free(part);
    }
    must(sum == total);
    presence_names_free(names);
}

void must_agree_with_itself(const presence_connections *view)
{
    char **servers;
    size_t server_count, walked = 0, total = presence_connections_count(view);
    must(presence_connections_servers(view, &servers, &server_count) == PRESENCE_OK);
    presence_cursor cursor = {{0}};
    presence_value value, found;
    while (presence_connections_next(view, &cursor, &value)) {
        walked++;
        must(bsearch(value.server, servers, server_count, sizeof *servers, compare_texts) != NULL);
        must(value.status == PRESENCE_ALIVE || value.status == PRESENCE_MISSING);
        must(strncmp(value.agent, "agent-", 6) == 0);
        if (walked % 8 != 0)
            continue;
        must(presence_connections_find(view, value.server, value.connection_id, &found) == PRESENCE_OK);
        must(test_values_equal(&value, &found, true));
    }
    must(walked == total);
    presence_names_free(servers);
    sum_by(view, total, presence_connections_models, presence_connections_for_model);
    sum_by(view, total, presence_connections_servers, presence_connections_for_server);
    sum_by(view, total, presence_connections_agents, presence_connections_for_agent);
}

/* An agent's status in its model is the best of what a walk of its slice shows. */
static void must_know_an_agent(struct actor *actor, const presence_connections *view)
{
    char agent[TEST_NAME_BYTES];
    uint64_t number = test_random_below(&actor->random, AGENTS);
    test_name(agent, "agent", number);
    presence_connections *model = presence_connections_for_model(view, model_name(number));
    presence_connections *slice = presence_connections_for_agent(model, agent);
    must(slice != NULL);
    presence_status best = PRESENCE_UNKNOWN, told;
    presence_cursor cursor = {{0}};
    presence_value value;
    size_t alive = 0;
    while (presence_connections_next(slice, &cursor, &value)) {
        if (value.controller_agent)
            continue;
        best = value.status > best ? value.status : best;
        alive += value.status == PRESENCE_ALIVE;
    }
    must(presence_connections_agent_status(model, agent, &told) == PRESENCE_OK);
    must(told == best);
    presence_evidence evidence;
    must(presence_connections_agent_evidence(model, agent, &evidence) == PRESENCE_OK);
    must(evidence.status == best && evidence.alive == alive);
    presence_connections_free(model);
    park(actor->stage, slice);
}

void *reader_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    uint64_t last_revision = 0;
    while (!atomic_load(&stage->writers_done)) {
        presence_connections *view = presence_recorder_connections(stage->recorder);
        must(view != NULL);
        atomic_fetch_add(&stage->views, 1);
        uint64_t revision = presence_connections_revision(view);
        must(revision >= last_revision);
        must(presence_recorder_revision(stage->recorder) >= revision);
        last_revision = revision;
        if (test_random_chance(&actor->random, 4))
            must_agree_with_itself(view);
        must_know_an_agent(actor, view);
        dawdle(actor);
        if (test_random_chance(&actor->random, 2))
            park(stage, view);
        else
            presence_connections_free(view);
    }
    return NULL;
}

/* ----------------------------------------------------------------------------------------- droppers, caretakers -- */

/* Frees what others took. Leaves some behind, which the stage frees after the recorder. */
void *dropper_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    while (!atomic_load(&stage->writers_done)) {
        presence_connections *view = unpark(stage, &actor->random);
        if (view == NULL) {
            sched_yield();
            continue;
        }
        if (test_random_chance(&actor->random, 8))
            must_agree_with_itself(view);
        presence_connections_free(view);
        dawdle(actor);
    }
    return NULL;
}

static void ask_live(struct actor *actor)
{
    struct stage *stage = actor->stage;
    char server[TEST_NAME_BYTES], agent[TEST_NAME_BYTES];
    uint64_t number = test_random_below(&actor->random, AGENTS);
    presence_counts counts;
    presence_status status;
    presence_evidence evidence;
    size_t connections, agents;
    int code = presence_recorder_counts(stage->recorder, &counts);
    must(code == PRESENCE_E_DISABLED || counts.connections == counts.alive + counts.missing);
    must(code == PRESENCE_OK || stage->stormy);
    code = presence_recorder_server_counts(stage->recorder,
                                           server_name(server, test_random_below(&actor->random, SERVERS)), &counts);
    must(code == PRESENCE_OK || stage->stormy);
    must(code != PRESENCE_OK || (counts.connections == counts.alive + counts.missing && counts.connections <= 2 * IDS));
    code =
        presence_recorder_agent_status(stage->recorder, model_name(number), test_name(agent, "agent", number), &status);
    must(code == PRESENCE_OK || stage->stormy);
    code = presence_recorder_agent_evidence(stage->recorder, model_name(number), agent, &evidence);
    must(code == PRESENCE_OK || stage->stormy);
    code = presence_recorder_model_counts(stage->recorder, model_name(number), &connections, &agents);
    must(code == PRESENCE_OK || stage->stormy);
    must(code != PRESENCE_OK || agents <= connections);
}

void *caretaker_life(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    while (!atomic_load(&stage->writers_done)) {
        presence_stats stats = {.struct_bytes = sizeof stats};
        presence_error error = {0};
        switch (test_random_below(&actor->random, 16)) {
        case 0:
            presence_recorder_trim(stage->recorder);
            break;
        case 1:
            must(presence_recorder_stats(stage->recorder, &stats) == PRESENCE_OK);
            must(stats.alive <= stats.connections && stats.used_bytes <= stats.allocated_bytes);
            break;
        case 2:
            must(presence_recorder_check(stage->recorder, &error) == PRESENCE_OK);
            break;
        case 3:
            if (stage->stormy && test_random_chance(&actor->random, 32)) {
                presence_recorder_disable(stage->recorder);
                dawdle(actor);
                presence_recorder_enable(stage->recorder);
            }
            break;
        case 4:
            fake_clock_advance(&stage->clock, 1);
            break;
        default:
            ask_live(actor);
            break;
        }
        dawdle(actor);
    }
    return NULL;
}
