/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import.c - feeds a log of connects and disconnects to presenced, a line at a time, in its order.
 *
 *   connect SERVER MODEL AGENT ID [controller] [data=TEXT]
 *   disconnect SERVER ID
 *   activity SERVER ID
 *   down SERVER
 *
 * Words are split by blanks; a blank or a % inside one is percent-encoded. A first word that begins with a digit (a
 * time) is passed over, for presenced stamps by its own clock. Blank lines and those that begin with # are nothing.
 *
 * Keeps true: a line that is wrong ends the import with its number, before anything of it was sent; what stands before
 * it has been fed. One request a line, over one connection.
 */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 8, MOST_LINE = 512 * 1024 };

struct line {
    const char *path;
    unsigned long number;
    char *words[MOST_WORDS];
    int count;
};

__attribute__((noreturn)) static void fail_line(const struct line *line, const char *what)
{
    fail("%s:%lu: %s", line->path, line->number, what);
}

/* Takes the percent-encoding out, in place. */
static void decode(const struct line *line, char *word)
{
    char *to = word;
    for (const char *at = word; *at; at++) {
        if (*at != '%') {
            *to++ = *at;
            continue;
        }
        if (!isxdigit((unsigned char)at[1]) || !isxdigit((unsigned char)at[2]))
            fail_line(line, "a % wants two hexadecimal digits behind it");
        char digits[3] = {at[1], at[2], 0};
        long byte = strtol(digits, NULL, 16);
        if (byte == 0)
            fail_line(line, "%00 is no character of a name");
        *to++ = (char)byte;
        at += 2;
    }
    *to = 0;
}

static void split(struct line *line, char *text)
{
    char *rest = NULL;
    line->count = 0;
    for (char *word = strtok_r(text, " \t\r\n", &rest); word; word = strtok_r(NULL, " \t\r\n", &rest)) {
        bool is_time = line->count == 0 && isdigit((unsigned char)*word);
        if (is_time)
            continue;
        if (line->count == MOST_WORDS)
            fail_line(line, "too many words");
        line->words[line->count++] = word;
    }
    for (int i = 1; i < line->count; i++)
        decode(line, line->words[i]);
}

/* An id as the path wants it: digits. */
static const char *id_of(const struct line *line, const char *word)
{
    if (!*word || strlen(word) > 20 || word[strspn(word, "0123456789")])
        fail_line(line, "an id is a number");
    return word;
}

static void ask(const char *method, char *path, json_t *send)
{
    http_ask(method, path, send, NULL, 0);
    json_decref(send);
    free(path);
}

static void feed_connect(const struct line *line)
{
    const char *data = "";
    bool controller = false;
    if (line->count < 5)
        fail_line(line, "wants: connect SERVER MODEL AGENT ID [controller] [data=TEXT]");
    for (int i = 5; i < line->count; i++) {
        if (strcmp(line->words[i], "controller") == 0)
            controller = true;
        else if (strncmp(line->words[i], "data=", 5) == 0)
            data = line->words[i] + 5;
        else
            fail_line(line, "behind the id, wants controller or data=TEXT");
    }
    json_t *value = json_pack("{s:s, s:s, s:b, s:s}", "model", line->words[2], "agent", line->words[3],
                              "controller_agent", controller, "user_data", data);
    if (!value)
        fail_line(line, "a name or the data is not UTF-8");
    ask("PUT", http_path("/v1/servers/%s/connections/%s", line->words[1], id_of(line, line->words[4])), value);
}

static void feed(const struct line *line)
{
    const char *verb = line->words[0];
    if (strcmp(verb, "connect") == 0) {
        feed_connect(line);
    } else if (strcmp(verb, "disconnect") == 0 && line->count == 3) {
        ask("DELETE", http_path("/v1/servers/%s/connections/%s", line->words[1], id_of(line, line->words[2])), NULL);
    } else if (strcmp(verb, "activity") == 0 && line->count == 3) {
        char *path = http_path("/v1/servers/%s/connections/%s/activity", line->words[1], id_of(line, line->words[2]));
        ask("POST", path, NULL);
    } else if (strcmp(verb, "down") == 0 && line->count == 2) {
        ask("POST", http_path("/v1/servers/%s/down", line->words[1]), NULL);
    } else {
        fail_line(line, "wants connect SERVER MODEL AGENT ID, disconnect SERVER ID, activity SERVER ID or down SERVER");
    }
}

int run_import(struct cli *cli)
{
    struct line line = {.path = cli->words[0]};
    bool is_stdin = strcmp(line.path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(line.path, "re");
    char *text = NULL;
    size_t capacity = 0;
    uint64_t fed = 0;
    ssize_t length;
    if (!file)
        fail("cannot read %s: %s", line.path, strerror(errno));
    while ((length = getline(&text, &capacity, file)) >= 0) {
        line.number++;
        if (length > MOST_LINE || strlen(text) != (size_t)length)
            fail_line(&line, "too long, or holds a NUL");
        text[strcspn(text, "\n")] = 0;
        if (text[strspn(text, " \t\r")] == '#')
            continue;
        split(&line, text);
        if (line.count == 0)
            continue;
        feed(&line);
        progress(cli, "lines fed", ++fed, false);
    }
    if (ferror(file))
        fail("cannot read %s: %s", line.path, strerror(errno));
    progress(cli, "lines fed", fed, true);
    free(text);
    if (!is_stdin)
        fclose(file);
    if (cli->output == OUTPUT_TABLE)
        printf("%llu lines fed\n", (unsigned long long)fed);
    else
        printf("{\"fed\":%llu}\n", (unsigned long long)fed);
    return ANSWER_YES;
}
