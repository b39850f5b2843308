/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_threads_bulk.c - a server's whole list of 200,000 values becomes visible in one step, while writers of other
 * servers go on.
 *
 *   test_threads_bulk [values [lists]]
 *
 * Keeps true: each view shows one list whole, never a mixture (each list has its own length, and each value that
 * changes from list to list bears its list's number); writers of other servers complete operations while a list is
 * being applied. How many is printed; that there are some is asserted, not how long anything takes.
 */
#include "../support/support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BULK "bulk-server"
#define MODEL "a-model"

enum { READERS = 2, WRITERS = 2 };

struct stage {
    presence_recorder *recorder;
    uint64_t length;                /* of list 0; list n is n longer */
    atomic_uint_least64_t applied;  /* lists of which the call has returned */
    atomic_uint_least64_t begun;    /* lists of which the call has begun */
    atomic_uint_least64_t progress; /* operations begun and completed within one call */
    atomic_uint_least64_t views;
    atomic_bool done;
};

struct writer {
    struct stage *stage;
    size_t number;
    pthread_t thread;
};

/* Value `i` of list `n`: half of its ids are in the list before too, every second of these with the same facts. */
static void make_list(uint64_t n, uint64_t count, presence_value *values, char (*names)[TEST_NAME_BYTES])
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t id = n * (count / 2) + i;
        values[i] = test_value(BULK, id, MODEL, test_name(names[i], id % 2 ? "same-in-all" : "list", id % 2 ? 0 : n));
    }
}

static void must_show_one_list(const struct stage *stage, const presence_connections *view, uint64_t least, bool all)
{
    presence_connections *slice = presence_connections_for_server(view, BULK);
    must(slice != NULL);
    size_t count = presence_connections_count(slice), walked = 0;
    must(count >= stage->length);
    uint64_t n = count - stage->length;
    must(n >= least && n <= atomic_load(&stage->begun));
    char agent[TEST_NAME_BYTES];
    test_name(agent, "list", n);
    presence_cursor cursor = {{0}};
    presence_value value;
    while ((all || walked < 500) && presence_connections_next(slice, &cursor, &value)) {
        walked++;
        must(value.status == PRESENCE_ALIVE);
        must(strcmp(value.agent, value.connection_id % 2 ? "same-in-all-0" : agent) == 0);
    }
    must(!all || walked == count);
    presence_connections *model = presence_connections_for_model(view, MODEL);
    must(presence_connections_count(model) == count); /* the index by model turned in the same step */
    presence_status status;
    must(presence_connections_agent_status(model, agent, &status) == PRESENCE_OK && status == PRESENCE_ALIVE);
    must(presence_connections_agent_status(model, test_name(agent, "list", n + 1), &status) == PRESENCE_OK);
    must(status == PRESENCE_UNKNOWN);
    presence_connections_free(model);
    presence_connections_free(slice);
}

static void *reader_life(void *argument)
{
    struct stage *stage = argument;
    for (uint64_t i = 0; !atomic_load(&stage->done); i++) {
        uint64_t least = atomic_load(&stage->applied);
        presence_connections *view = presence_recorder_connections(stage->recorder);
        must(view != NULL);
        must_show_one_list(stage, view, least, i % 16 == 0);
        presence_connections_free(view);
        atomic_fetch_add(&stage->views, 1);
    }
    return NULL;
}

static void *writer_life(void *argument)
{
    struct writer *writer = argument;
    struct stage *stage = writer->stage;
    char server[TEST_NAME_BYTES];
    test_name(server, "other-server", writer->number);
    for (uint64_t i = 0; !atomic_load(&stage->done); i++) {
        uint64_t applied = atomic_load(&stage->applied), begun = atomic_load(&stage->begun);
        must(presence_recorder_connect(stage->recorder, server, "another-model", "an-agent", i % 1000, false, NULL) ==
             PRESENCE_OK);
        if (i % 3 == 0)
            must(presence_recorder_disconnect(stage->recorder, server, i % 1000) == PRESENCE_OK);
        if (begun > applied && atomic_load(&stage->applied) == applied)
            atomic_fetch_add(&stage->progress, 1);
    }
    return NULL;
}

static void apply_lists(struct stage *stage, uint64_t lists)
{
    uint64_t most = stage->length + lists;
    presence_value *values = calloc(most, sizeof *values);
    char(*names)[TEST_NAME_BYTES] = calloc(most, sizeof *names);
    must(values != NULL && names != NULL);
    for (uint64_t n = 1; n <= lists; n++) {
        make_list(n, stage->length + n, values, names);
        atomic_store(&stage->begun, n);
        must(presence_recorder_update_server(stage->recorder, BULK, values, stage->length + n, NULL) == PRESENCE_OK);
        atomic_store(&stage->applied, n);
    }
    free(values);
    free(names);
}

static void begin(struct stage *stage)
{
    stage->recorder = presence_recorder_new(NULL);
    must(stage->recorder != NULL);
    presence_recorder_enable(stage->recorder);
    presence_value *values = calloc(stage->length, sizeof *values);
    char(*names)[TEST_NAME_BYTES] = calloc(stage->length, sizeof *names);
    must(values != NULL && names != NULL);
    make_list(0, stage->length, values, names);
    must(presence_recorder_update_server(stage->recorder, BULK, values, stage->length, NULL) == PRESENCE_OK);
    free(values);
    free(names);
}

int main(int argc, char **argv)
{
    struct stage stage = {.length = argc > 1 ? strtoull(argv[1], NULL, 0) : 200000};
    uint64_t lists = argc > 2 ? strtoull(argv[2], NULL, 0) : 3;
    begin(&stage);
    pthread_t readers[READERS];
    struct writer writers[WRITERS];
    for (size_t i = 0; i < READERS; i++)
        must(pthread_create(&readers[i], NULL, reader_life, &stage) == 0);
    for (size_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.stage = &stage, .number = i};
        must(pthread_create(&writers[i].thread, NULL, writer_life, &writers[i]) == 0);
    }
    apply_lists(&stage, lists);
    atomic_store(&stage.done, true);
    for (size_t i = 0; i < READERS; i++)
        must(pthread_join(readers[i], NULL) == 0);
    for (size_t i = 0; i < WRITERS; i++)
        must(pthread_join(writers[i].thread, NULL) == 0);
    printf("%" PRIu64 " lists of %" PRIu64 " values: %" PRIu64 " views, each of one list; %" PRIu64
           " operations on other servers meanwhile\n",
           lists, stage.length, atomic_load(&stage.views), atomic_load(&stage.progress));
    must(atomic_load(&stage.views) > 0);
    must(atomic_load(&stage.progress) > 0);
    presence_error error = {0};
    must(presence_recorder_check(stage.recorder, &error) == PRESENCE_OK);
    presence_recorder_free(stage.recorder);
    return 0;
}
