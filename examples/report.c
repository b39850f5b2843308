/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - presence as text for people: the report of a view, one change, one agent's evidence.
 *
 * Keeps true: a report shows one moment, because it is printed from one view, however long that takes and whatever
 * the recorder does meanwhile; and it takes no lock of the recorder. Callable from any thread. It sorts pointers to the
 * view's own strings, and copies none of them.
 */
#include "report.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONTROLLER_MARK " (controller)"

static const char AGENT_TITLE[] = "AGENT", SERVER_TITLE[] = "SERVER", ID_TITLE[] = "CONN ID";

struct widths {
    int agent, server, id;
};

/* ------------------------------------------------------------------------------------------------- the report -- */

static int compare_values(const void *left, const void *right)
{
    const presence_value *a = left, *b = right;
    int order = strcmp(a->agent, b->agent);
    if (order == 0)
        order = strcmp(a->server, b->server);
    if (order == 0)
        order = (a->connection_id > b->connection_id) - (a->connection_id < b->connection_id);
    return order;
}

/* Columns line up by characters, and a name is UTF-8: count the bytes that begin a character. */
static int characters(const char *text)
{
    int count = 0;
    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

static int agent_characters(const presence_value *value)
{
    return characters(value->agent) + (value->controller_agent ? (int)strlen(CONTROLLER_MARK) : 0);
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static struct widths measure(const presence_value *values, size_t count)
{
    struct widths widths = {characters(AGENT_TITLE), characters(SERVER_TITLE), characters(ID_TITLE)};
    for (size_t i = 0; i < count; i++) {
        widths.agent = larger(widths.agent, agent_characters(&values[i]));
        widths.server = larger(widths.server, characters(values[i].server));
        widths.id = larger(widths.id, snprintf(NULL, 0, "%" PRIu64, values[i].connection_id));
    }
    return widths;
}

static void print_row(FILE *out, const presence_value *value, struct widths widths)
{
    fprintf(out, "%s%s%*s", value->agent, value->controller_agent ? CONTROLLER_MARK : "",
            widths.agent - agent_characters(value) + 2, "");
    fprintf(out, "%s%*s", value->server, widths.server - characters(value->server) + 2, "");
    fprintf(out, "%-*" PRIu64 "  %s\n", widths.id, value->connection_id, presence_status_string(value->status));
}

static int print_model(FILE *out, const char *model, const presence_connections *slice)
{
    size_t room = presence_connections_count(slice), count = 0;
    presence_value *values = calloc(room > 0 ? room : 1, sizeof *values);
    if (values == NULL)
        return PRESENCE_E_NO_MEMORY;
    presence_cursor cursor = {0};
    while (count < room && presence_connections_next(slice, &cursor, &values[count]))
        count++;
    qsort(values, count, sizeof *values, compare_values);

    struct widths widths = measure(values, count);
    fprintf(out, "[%s]\n\n", model);
    fprintf(out, "%-*s  %-*s  %-*s  STATUS\n", widths.agent, AGENT_TITLE, widths.server, SERVER_TITLE, widths.id,
            ID_TITLE);
    for (size_t i = 0; i < count; i++)
        print_row(out, &values[i], widths);
    fputc('\n', out);
    free(values);
    return PRESENCE_OK;
}

int report_connections(FILE *out, const presence_connections *connections)
{
    char **models;
    size_t count;
    int code = presence_connections_models(connections, &models, &count);
    if (code != PRESENCE_OK)
        return code;
    for (size_t i = 0; i < count && code == PRESENCE_OK; i++) {
        presence_connections *slice = presence_connections_for_model(connections, models[i]);
        code = slice == NULL ? PRESENCE_E_NO_MEMORY : print_model(out, models[i], slice);
        presence_connections_free(slice);
    }
    presence_names_free(models);
    return code;
}

/* ------------------------------------------------------------------------------------- one change, one agent -- */

void report_event(FILE *out, const presence_event *event)
{
    const presence_value *value = &event->value;
    fprintf(out, "change %" PRIu64 ": %s%s ", event->revision, value->agent,
            value->controller_agent ? CONTROLLER_MARK : "");
    if (event->kind == PRESENCE_EVENT_AGENT) /* of the agent, not of one connection */
        fprintf(out, "changed (by %s)", value->server);
    else
        fprintf(out, "%s (%s %" PRIu64 ")", presence_event_kind_string(event->kind), value->server,
                value->connection_id);
    fprintf(out, ", reason %s, agent %s -> %s\n", presence_reason_string(event->reason),
            presence_status_string(event->agent_before), presence_status_string(event->agent_after));
}

static void print_time(FILE *out, presence_time time)
{
    const presence_time second = 1000000000;
    presence_time whole = time / second, rest = time % second;
    if (rest < 0) { /* before 1970: round down, not towards zero */
        whole--;
        rest += second;
    }
    time_t seconds = (time_t)whole;
    struct tm parts;
    char text[64];
    bool known = time != 0 && gmtime_r(&seconds, &parts) != NULL;
    if (!known || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        fputs("never", out);
    else
        fprintf(out, "%s.%03dZ", text, (int)(rest / 1000000));
}

void report_evidence(FILE *out, const presence_evidence *evidence)
{
    fprintf(out, "status=%s reason=%s since=", presence_status_string(evidence->status),
            presence_reason_string(evidence->reason));
    print_time(out, evidence->since);
    fputs(" last_seen=", out);
    print_time(out, evidence->last_seen);
    fprintf(out, " alive=%zu missing=%zu\n", evidence->alive, evidence->missing);
}
