/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scene.h - a recorder in one of several states, ready for one operation that runs out of memory.
 */
#ifndef PRESENCE_TESTS_ALLOC_SCENE_H
#define PRESENCE_TESTS_ALLOC_SCENE_H

#include "../support/support.h"

/* What a scene has; any sum of them. */
enum scene_parts {
    SCENE_FILLED = 1,      /* connections, alive and missing, on servers of every kind */
    SCENE_HELD_VIEWS = 2,  /* views and slices held, with changes since */
    SCENE_WATCHED = 4,     /* a history, a watch that has read all, and one that has not */
    SCENE_LEFT_AGENTS = 8, /* a table of agents that left, some in it */
    SCENE_KINDS = 16
};

/* The servers. OPEN is stated by local calls without a claim, MINE under a local claim with something inherited, THEIRS
 * under a remote claim, LAPSED likewise and lapsed, TOMB was forgotten. Empty scenes have none. */
#define OPEN "server-open"
#define MINE "server-mine"
#define THEIRS "server-theirs"
#define LAPSED "server-lapsed"
#define TOMB "server-tomb"
#define NEW_SERVER "a-new-server" /* of which nothing is known */
#define MODEL_A "model-a"
#define MODEL_B "model-b"

enum { SCENE_VIEWS = 4, SCENE_LIST = 150 };

struct scene {
    struct fake_clock clock;
    struct test_allocator memory;
    presence_recorder *recorder;
    presence_connections *views[SCENE_VIEWS]; /* held; NULL in scenes without */
    struct content *views_content[SCENE_VIEWS];
    presence_watch *quiet, *pending; /* NULL in scenes without */
    presence_handle handle;          /* of OPEN, id 3; zeroed in empty scenes */
    uint64_t noted;                  /* a revision noted before the last changes of OPEN */
    presence_value list[SCENE_LIST]; /* a whole list for OPEN: some known, some new */
    char names[SCENE_LIST][TEST_NAME_BYTES];
    presence_connections *view;            /* for operations on views; not counted among the held */
    presence_change_reader *reader;        /* for operations that read changes */
    presence_statement_reader *statements; /* likewise, what is stated here */
    /* what must not change */
    struct content *content;
    presence_stats stats;
    presence_server_description described[5];
    int described_code[5];
    presence_evidence evidence, left_evidence;
};

extern const presence_claim scene_claim_mine, scene_claim_theirs, scene_claim_newer;

struct scene *scene_new(unsigned int parts);
void scene_free(struct scene *scene); /* aborts if anything is outstanding */
/* Remembers all that can be asked of the recorder. */
void scene_remember(struct scene *scene);
/* NULL, or what is answered differently now (static storage, until the next call). */
const char *scene_difference(struct scene *scene);

#endif
