/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - rows for people as an aligned table, for programs as JSON.
 *
 * Keeps true: what a stranger named cannot move a terminal's cursor; columns are as wide as their widest cell on the
 * screen, not in bytes. A table is printed once all rows are known, O(rows) of memory; JSON goes out as it comes.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

enum { MOST_COLUMNS = 12, CELL_BYTES = 256, GAP = 2 };

struct rows {
    const struct cli *cli;
    const struct column *columns;
    size_t column_count, count;
    json_t *kept; /* of tables */
};

struct rows *rows_new(const struct cli *cli, const struct column *columns, size_t count)
{
    struct rows *rows = calloc(1, sizeof *rows);
    if (!rows || !(rows->kept = json_array()))
        fail("out of memory");
    rows->cli = cli;
    rows->columns = columns;
    rows->column_count = count < MOST_COLUMNS ? count : MOST_COLUMNS;
    return rows;
}

void print_json(const json_t *value, FILE *out)
{
    json_dumpf(value, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

void rows_add(struct rows *rows, json_t *row)
{
    if (rows->cli->output == OUTPUT_TABLE) {
        if (json_array_append_new(rows->kept, row) != 0)
            fail("out of memory");
    } else {
        if (rows->cli->output == OUTPUT_JSON)
            fputs(rows->count == 0 ? "[\n" : ",\n", stdout);
        print_json(row, stdout);
        if (rows->cli->output == OUTPUT_NDJSON)
            putchar('\n');
        json_decref(row);
    }
    rows->count++;
}

size_t rows_count(const struct rows *rows)
{
    return rows->count;
}

void rows_free(struct rows *rows)
{
    json_decref(rows->kept);
    free(rows);
}

/* --------------------------------------------------------------------------------------------------------- cells -- */

/* Columns on the screen of one character at `text`, and its bytes; one that is no character of the locale is shown by
 * its byte. */
static int width_of(const char *text, size_t *bytes)
{
    wchar_t wide;
    mbstate_t state = {0};
    size_t length = mbrtowc(&wide, text, strlen(text), &state);
    *bytes = length == 0 || length > 4 ? 1 : length;
    if (length == 0 || length > 4)
        return -1;
    /* Marks that turn the direction of writing, or show nothing, would let one name look like another. */
    bool hides = (wide >= 0x200b && wide <= 0x200f) || (wide >= 0x202a && wide <= 0x202e) ||
                 (wide >= 0x2060 && wide <= 0x206f) || wide == 0xfeff;
    return hides ? -1 : wcwidth(wide);
}

static size_t screen_width(const char *text)
{
    size_t width = 0, bytes;
    for (; *text; text += bytes) {
        int one = width_of(text, &bytes);
        width += one < 0 ? 4 * bytes : (size_t)one;
    }
    return width;
}

void print_text(FILE *out, const char *text)
{
    size_t bytes;
    for (; *text; text += bytes) {
        if (width_of(text, &bytes) >= 0)
            fwrite(text, 1, bytes, out);
        else
            for (size_t i = 0; i < bytes; i++)
                fprintf(out, "\\x%02x", (unsigned char)text[i]);
    }
}

void time_for_people(const char *text, char *buffer, size_t buffer_bytes)
{
    struct tm parts = {0};
    const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &parts) : NULL;
    if (!rest) {
        snprintf(buffer, buffer_bytes, "%s", text ? text : "-");
        return;
    }
    time_t when = timegm(&parts);
    localtime_r(&when, &parts);
    if (strftime(buffer, buffer_bytes, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        *buffer = 0;
}

static const json_t *member(const json_t *row, const char *key)
{
    char part[64];
    const json_t *at = row;
    for (;;) {
        size_t length = strcspn(key, ".");
        snprintf(part, sizeof part, "%.*s", (int)length, key);
        at = json_object_get(at, part);
        if (!key[length])
            return at;
        key += length + 1;
    }
}

/* A cell's text: the row's own string where it is one, else in the buffer. */
static const char *cell(const struct column *column, const json_t *row, char *buffer, size_t buffer_bytes)
{
    const json_t *value = member(row, column->key);
    snprintf(buffer, buffer_bytes, "-");
    if (column->kind == COLUMN_TIME && json_is_string(value))
        time_for_people(json_string_value(value), buffer, buffer_bytes);
    else if (json_is_string(value))
        return json_string_value(value);
    else if (json_is_integer(value))
        snprintf(buffer, buffer_bytes, "%lld", (long long)json_integer_value(value));
    else if (json_is_boolean(value))
        snprintf(buffer, buffer_bytes, "%s", json_is_true(value) ? "yes" : "no");
    return buffer;
}

/* -------------------------------------------------------------------------------------------------------- colour -- */

const char *colour_of(const struct cli *cli, const char *status)
{
    if (!cli->colour)
        return "";
    if (strcmp(status, "alive") == 0)
        return "\033[32m";
    if (strcmp(status, "missing") == 0)
        return "\033[31m";
    return strcmp(status, "unknown") == 0 ? "\033[33m" : "";
}

const char *colour_end(const struct cli *cli)
{
    return cli->colour ? "\033[0m" : "";
}

static void print_cell(const struct rows *rows, FILE *out, size_t column, const char *text, size_t width)
{
    const struct cli *cli = rows->cli;
    size_t wide = screen_width(text), blanks = width > wide ? width - wide : 0;
    bool number = rows->columns[column].kind == COLUMN_NUMBER, status = rows->columns[column].kind == COLUMN_STATUS;
    if (number)
        fprintf(out, "%*s", (int)blanks, "");
    if (status)
        fputs(colour_of(cli, text), out);
    print_text(out, text);
    if (status)
        fputs(colour_end(cli), out);
    bool last = column + 1 == rows->column_count;
    if (!last)
        fprintf(out, "%*s", (int)(number ? GAP : blanks + GAP), "");
}

static void measure(const struct rows *rows, size_t *widths)
{
    char buffer[CELL_BYTES];
    size_t index;
    json_t *row;
    for (size_t i = 0; i < rows->column_count; i++)
        widths[i] = strlen(rows->columns[i].header);
    json_array_foreach(rows->kept, index, row) for (size_t i = 0; i < rows->column_count; i++)
    {
        size_t width = screen_width(cell(&rows->columns[i], row, buffer, sizeof buffer));
        if (width > widths[i])
            widths[i] = width;
    }
}

static void end_line(FILE *out, bool in_place)
{
    fputs(in_place ? "\033[K\n" : "\n", out);
}

void rows_draw(const struct rows *rows, FILE *out, size_t lines, size_t width)
{
    char buffer[CELL_BYTES];
    size_t widths[MOST_COLUMNS], index, line = 1;
    bool in_place = width > 0;
    json_t *row;
    measure(rows, widths);
    /* On a screen, the first column gives way, so that no line wraps. */
    size_t sum = GAP * (rows->column_count - 1);
    for (size_t i = 0; i < rows->column_count; i++)
        sum += widths[i];
    if (in_place && sum > width && widths[0] > sum - width)
        widths[0] -= sum - width;
    if (rows->cli->colour)
        fputs("\033[1m", out);
    for (size_t i = 0; i < rows->column_count; i++)
        print_cell(rows, out, i, rows->columns[i].header, widths[i]);
    fputs(colour_end(rows->cli), out);
    end_line(out, in_place);
    json_array_foreach(rows->kept, index, row)
    {
        if (lines > 0 && ++line > lines)
            break;
        for (size_t i = 0; i < rows->column_count; i++) {
            const char *text = cell(&rows->columns[i], row, buffer, sizeof buffer);
            char cut[CELL_BYTES];
            if (in_place && screen_width(text) > widths[i] && widths[i] < sizeof cut) {
                snprintf(cut, sizeof cut, "%.*s~", (int)(widths[i] > 0 ? widths[i] - 1 : 0), text);
                text = cut;
            }
            print_cell(rows, out, i, text, widths[i]);
        }
        end_line(out, in_place);
    }
}

void rows_end(struct rows *rows, const char *none)
{
    if (rows->cli->output == OUTPUT_JSON)
        fputs(rows->count == 0 ? "[]\n" : "\n]\n", stdout);
    else if (rows->cli->output == OUTPUT_TABLE && rows->count > 0)
        rows_draw(rows, stdout, 0, 0);
    else if (rows->cli->output == OUTPUT_TABLE)
        fprintf(stderr, "%s\n", none);
    rows_free(rows);
}

/* ------------------------------------------------------------------------------------------------ other printing -- */

void print_object(const struct cli *cli, const json_t *object)
{
    const char *key;
    json_t *value;
    char buffer[CELL_BYTES];
    if (cli->output != OUTPUT_TABLE) {
        print_json(object, stdout);
        putchar('\n');
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool is_time = strcmp(key, "since") == 0 || strcmp(key, "last_seen") == 0;
        struct column column = {key, key, is_time ? COLUMN_TIME : COLUMN_TEXT};
        if (json_is_object(value) || json_is_array(value))
            continue;
        const char *text = cell(&column, object, buffer, sizeof buffer);
        printf("%-18s  %s", key, strcmp(key, "status") == 0 ? colour_of(cli, text) : "");
        print_text(stdout, text);
        printf("%s\n", strcmp(key, "status") == 0 ? colour_end(cli) : "");
    }
}

void progress(const struct cli *cli, const char *what, uint64_t done, bool end)
{
    static struct timespec began, told;
    struct timespec now;
    static bool shown;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (began.tv_sec == 0)
        began = told = now;
    if (end) {
        if (shown)
            fputs("\r\033[K", stderr);
        shown = false;
        return;
    }
    double since_told = (double)(now.tv_sec - told.tv_sec) + (double)(now.tv_nsec - told.tv_nsec) / 1e9;
    if (cli->quiet || now.tv_sec - began.tv_sec < 2 || (shown && since_told < 0.25) || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%llu %s", (unsigned long long)done, what);
    fflush(stderr);
    told = now;
    shown = true;
}
