/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top.c - servers and models, redrawn in place.
 *
 * A frame is gathered whole and written at once, over the one before: each line is cleared behind its end and what is
 * below is cleared last, so that nothing flickers. On a terminal it draws on the alternate screen, and puts back the
 * terminal as it was however it ends (q, Ctrl-C, an error). Elsewhere, or with --once, it draws one frame and ends.
 */
#include "cli.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MOST_ROWS "2000"

static struct termios before;
static bool on_screen;
static volatile sig_atomic_t asked_to_end, resized;

static void leave_screen(void)
{
    static const char back[] = "\033[?25h\033[?1049l";
    if (!on_screen)
        return;
    on_screen = false;
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    ssize_t written = write(STDOUT_FILENO, back, sizeof back - 1);
    (void)written;
}

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        asked_to_end = 1;
}

static void enter_screen(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal};
    struct termios raw;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
    tcgetattr(STDIN_FILENO, &before);
    raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    on_screen = true;
    atexit(leave_screen); /* fail() ends here too */
    fputs("\033[?1049h\033[?25l", stdout);
}

/* -------------------------------------------------------------------------------------------------------- asking -- */

struct frame {
    json_t *servers, *models;
    bool more_servers, more_models;
    long long alive, missing, agents, connections, revision;
};

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static json_t *ask_list(const char *kind, struct frame *frame, bool *more)
{
    char path[96];
    json_t *page;
    snprintf(path, sizeof path, "/v1/%s?details=1&limit=" MOST_ROWS, kind);
    http_ask("GET", path, NULL, &page, 0);
    json_t *list = json_incref(json_object_get(page, kind));
    if (!json_is_array(list))
        fail("there is no list of %s in the answer: is it presenced?", kind);
    *more = json_is_string(json_object_get(page, "cursor"));
    frame->revision = number_of(page, "revision");
    json_decref(page);
    return list;
}

static long long ask_count(const char *status)
{
    char path[64];
    json_t *body;
    snprintf(path, sizeof path, "/v1/count?status=%s", status);
    http_ask("GET", path, NULL, &body, 0);
    long long count = json_is_object(body) ? number_of(body, "count") : (long long)json_integer_value(body);
    json_decref(body);
    return count;
}

static void ask_frame(struct frame *frame)
{
    size_t index;
    json_t *row;
    frame->alive = ask_count("alive");
    frame->missing = ask_count("missing");
    frame->agents = 0;
    frame->models = ask_list("models", frame, &frame->more_models);
    frame->servers = ask_list("servers", frame, &frame->more_servers);
    json_array_foreach(frame->models, index, row) frame->agents += number_of(row, "agents");
}

static void free_frame(struct frame *frame)
{
    json_decref(frame->servers);
    json_decref(frame->models);
}

/* ------------------------------------------------------------------------------------------------------- drawing -- */

/* Those with trouble first, then the largest. */
static int compare_servers(const void *a, const void *b)
{
    const json_t *one = *(json_t *const *)a, *other = *(json_t *const *)b;
    long long missing = number_of(other, "missing") - number_of(one, "missing");
    long long alive = number_of(other, "alive") - number_of(one, "alive");
    return missing ? (missing > 0) - (missing < 0) : (alive > 0) - (alive < 0);
}

static int compare_models(const void *a, const void *b)
{
    long long more = number_of(*(json_t *const *)b, "agents") - number_of(*(json_t *const *)a, "agents");
    return (more > 0) - (more < 0);
}

static struct rows *sorted_rows(const struct cli *cli, const json_t *list, const struct column *columns, size_t count,
                                int (*compare)(const void *a, const void *b))
{
    size_t size = json_array_size(list);
    json_t **sorted = calloc(size + 1, sizeof(json_t *));
    struct rows *rows = rows_new(cli, columns, count);
    if (!sorted)
        fail("out of memory");
    for (size_t i = 0; i < size; i++)
        sorted[i] = json_array_get(list, i);
    qsort(sorted, size, sizeof(json_t *), compare);
    for (size_t i = 0; i < size; i++)
        rows_add(rows, json_incref(sorted[i]));
    free(sorted);
    return rows;
}

static void draw_head(const struct cli *cli, const struct frame *frame, double rate, bool in_place, FILE *out)
{
    const char *end = in_place ? "\033[K\n" : "\n";
    char clock[32];
    time_t now = time(NULL);
    struct tm parts;
    localtime_r(&now, &parts);
    strftime(clock, sizeof clock, "%H:%M:%S", &parts);
    fprintf(out, "presence at %s, %s%s", cli->url, clock, end);
    fprintf(out, "%s%lld alive%s  %s%lld missing%s  %lld agents%s  revision %lld", colour_of(cli, "alive"),
            frame->alive, colour_end(cli), frame->missing ? colour_of(cli, "missing") : "", frame->missing,
            frame->missing ? colour_end(cli) : "", frame->agents, frame->more_models ? " or more" : "",
            frame->revision);
    if (rate >= 0)
        fprintf(out, "  %.1f changes a second", rate);
    fprintf(out, "%s%s", end, end);
}

/* The models get a third of the lines, the servers the rest; height 0: all of both. */
static void draw(const struct cli *cli, const struct frame *frame, double rate, size_t height, size_t width)
{
    static const struct column servers[] = {{"SERVER", "server", COLUMN_TEXT},
                                            {"STATUS", "status", COLUMN_STATUS},
                                            {"ALIVE", "alive", COLUMN_NUMBER},
                                            {"MISSING", "missing", COLUMN_NUMBER},
                                            {"FRESHNESS", "freshness", COLUMN_TEXT}};
    static const struct column models[] = {{"MODEL", "model", COLUMN_TEXT},
                                           {"AGENTS", "agents", COLUMN_NUMBER},
                                           {"CONNECTIONS", "connections", COLUMN_NUMBER}};
    char *text = NULL;
    size_t length = 0, wanted = json_array_size(frame->models) + 1;
    bool in_place = width > 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        fail("out of memory");
    size_t room = height > 8 ? height - 5 : height ? 3 : 0, of_models = wanted < room / 3 ? wanted : room / 3;
    if (in_place)
        fputs("\033[H", out);
    draw_head(cli, frame, rate, in_place, out);
    struct rows *rows = sorted_rows(cli, frame->servers, servers, 5, compare_servers);
    rows_draw(rows, out, room ? room - of_models : 0, width);
    rows_free(rows);
    fputs(in_place ? "\033[K\n" : "\n", out);
    rows = sorted_rows(cli, frame->models, models, 3, compare_models);
    if (!room || of_models > 0)
        rows_draw(rows, out, of_models, width);
    rows_free(rows);
    if (in_place)
        fputs("\033[J", out);
    if (fclose(out) != 0)
        fail("out of memory");
    fwrite(text, 1, length, stdout);
    fflush(stdout);
    free(text);
}

/* Waits for the next frame. False: it is time to end. */
static bool wait_for_next(double seconds)
{
    struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;
    int ready = poll(&keys, 1, (int)(seconds * 1000));
    if (asked_to_end)
        return false;
    if (resized || ready <= 0) {
        resized = 0;
        return true;
    }
    return read(STDIN_FILENO, &key, 1) == 1 && key != 'q' && key != 3;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int run_top(struct cli *cli)
{
    struct frame frame;
    long long revision = -1;
    double at = 0;
    if (cli->output != OUTPUT_TABLE)
        fail_usage("top draws for people: models and servers answer programs");
    bool screen = !cli->once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    ask_frame(&frame); /* a failure is told before the screen changes */
    if (screen)
        enter_screen();
    for (;;) {
        struct winsize size = {.ws_row = 24, .ws_col = 80};
        double now = seconds_now();
        if (screen)
            ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        double rate = revision >= 0 && now > at ? (double)(frame.revision - revision) / (now - at) : -1;
        draw(cli, &frame, rate, screen ? size.ws_row : 0, screen ? size.ws_col : 0);
        revision = frame.revision;
        at = now;
        free_frame(&frame);
        if (!screen || !wait_for_next(cli->interval_s))
            return ANSWER_YES;
        ask_frame(&frame);
    }
}
