/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - what the files of the `presence` command share.
 *
 * The command knows presenced by its HTTP side alone. It is one thread; what it could not ask ends it with status 2, by
 * `fail`, from wherever that was found out.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The exit status. */
enum { ANSWER_YES = 0, ANSWER_NO = 1, COULD_NOT_ASK = 2 };

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_NDJSON };

struct cli {
    /* Whom to ask. */
    const char *url, *token, *ca, *certificate, *key, *unix_socket;
    enum output output;
    bool colour, quiet;
    double interval_s; /* of top */
    uint64_t count;    /* of followed events; 0: no end */
    bool once, yes;
    /* Filters, NULL where not given. */
    const char *model, *server, *agent, *status, *after;
    /* What is behind the verb. */
    char **words;
    int word_count;
};

struct verb {
    const char *name, *syntax, *summary;
    const char *options;         /* the long options that it takes beside the common ones, split by blanks */
    int least_words, most_words; /* behind the verb; most -1: any */
    int (*run)(struct cli *cli);
};

/* In the order of the help; ended by a NULL name. */
extern const struct verb verbs[];
/* The names of all long options with their values' words ("--model MODEL"), for completion; ended by NULL. */
extern const char *const option_words[];

__attribute__((format(printf, 1, 2), noreturn)) void fail(const char *format, ...);
/* As fail, for a call that is wrong, with a hint at the help. */
__attribute__((format(printf, 1, 2), noreturn)) void fail_usage(const char *format, ...);

/* ---------------------------------------------------------------------------------------------------------- http -- */

void http_start(const struct cli *cli);
void http_stop(void);
/* A path with names percent-encoded: "/v1/servers/%s/connections/%s", each %s an argument. To be freed. */
char *http_path(const char *format, ...);
/* Appends `?key=value` or `&key=value` to a path of http_path's, which is freed; value NULL: as it is. */
char *http_query(char *path, const char *key, const char *value);
/* Asks and waits. The status; *body, if not NULL, is JSON to be released with json_decref, or NULL where there was
 * none. A status of 400 or more that is not `allowed` ends the program with what the problem document says. */
long http_ask(const char *method, const char *path, json_t *send, json_t **body, long allowed);
/* The same for text: it is written to `out` as it comes. */
void http_copy(const char *path, FILE *out);

/* Server-Sent Events, until `event` returns false (true is returned) or the connection ends (false). */
struct sse_event {
    const char *kind, *id, *data;
};
bool http_follow(const char *path, const char *last_id, bool (*event)(const struct sse_event *event, void *context),
                 void *context);
/* Whether somebody answers there now. */
bool http_reachable(void);
/* Why the last http_follow ended, in words. */
const char *http_trouble(void);

/* -------------------------------------------------------------------------------------------------------- output -- */

enum column_kind { COLUMN_TEXT, COLUMN_NUMBER, COLUMN_STATUS, COLUMN_TIME };

struct column {
    const char *header, *key; /* of the row's object; "a.b" goes one deeper */
    enum column_kind kind;
};

/* Rows for people as an aligned table, once all are known; for programs as JSON, each as it comes. */
struct rows;
struct rows *rows_new(const struct cli *cli, const struct column *columns, size_t count);
void rows_add(struct rows *rows, json_t *row); /* takes the reference */
size_t rows_count(const struct rows *rows);
/* Prints what there is to print, and frees. `none`: what people are told where there is no row. */
void rows_end(struct rows *rows, const char *none);
/* The table into any file, in at most `lines` lines (0: all) of at most `width` columns (0: any). For top. */
void rows_draw(const struct rows *rows, FILE *out, size_t lines, size_t width);
void rows_free(struct rows *rows);

/* One object: as lines of `key  value` for people, else JSON. */
void print_object(const struct cli *cli, const json_t *object);
/* What the terminal shows of somebody's text: control characters as \xNN. */
void print_text(FILE *out, const char *text);
/* "2026-11-22T20:29:10.123Z" as people read it here: "2026-11-22 20:29:10". */
void time_for_people(const char *text, char *buffer, size_t buffer_bytes);
const char *colour_of(const struct cli *cli, const char *status);
const char *colour_end(const struct cli *cli);
void print_json(const json_t *value, FILE *out);

/* Tells how far long work is, on a terminal's stderr, from its second second on. */
void progress(const struct cli *cli, const char *what, uint64_t done, bool end);

/* All pages of a list: `row` gets each of the array `plural`. */
void list_pages(const struct cli *cli, const char *path, const char *plural, void (*row)(json_t *row, void *context),
                void *context);

/* --------------------------------------------------------------------------------------------------------- verbs -- */

int run_report(struct cli *cli);
int run_status(struct cli *cli);
int run_agents(struct cli *cli);
int run_models(struct cli *cli);
int run_servers(struct cli *cli);
int run_values(struct cli *cli);
int run_count(struct cli *cli);
int run_watch(struct cli *cli);
int run_events(struct cli *cli);
int run_top(struct cli *cli);
int run_import(struct cli *cli);
int run_verify(struct cli *cli);
int run_explain(struct cli *cli);
int run_forget(struct cli *cli);
int run_completion(struct cli *cli);

#endif
