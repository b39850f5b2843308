/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - prints results as a table for people and writes them as JSON.
 *
 * Keeps true: every figure is shown with its spread and with the yardstick of its own rounds, and a target is judged
 * only at the sizes that it is set for. Called by bench_recorder.c, from one thread. Costs nothing worth a word.
 */
#include "report.h"

#include <errno.h>
#include <string.h>

double result_ratio(const struct result *result)
{
    return result->base > 0 ? result->median / result->base : 0;
}

bool result_reached(const struct result *result)
{
    double measured = result->target == TARGET_RATIO ? result_ratio(result) : result->median;
    return measured <= result->limit;
}

void report_add(struct report *report, const struct result *result)
{
    if (report->count == RESULTS_MAX) {
        die("more than %d results", RESULTS_MAX);
    }
    report->results[report->count++] = *result;
}

/* Four significant digits with a unit that suits: "12.3 us". */
static void format_quantity(double value, const char *unit, char text[24])
{
    static const char *const time_units[] = {"ns", "us", "ms", "s"};
    if (strcmp(unit, "ratio") == 0) {
        snprintf(text, 24, "%.3f x", value);
        return;
    }
    if (strcmp(unit, "ns") != 0) {
        snprintf(text, 24, value < 10000 ? "%.1f B" : "%.0f B", value);
        return;
    }
    size_t scale = 0;
    while (scale < 3 && value >= 10000) {
        value /= 1000;
        scale++;
    }
    snprintf(text, 24, "%.*f %s", value < 100 ? 1 : 0, value, time_units[scale]);
}

void report_print_head(const struct report *report)
{
    const struct machine *machine = &report->machine;
    printf("Presence recorder benchmark, library %s\n", machine->library);
    printf("  cpu          %s, %ld cores, pinned to cpu %d\n", machine->cpu, machine->cores, machine->cpu_used);
    printf("  caches       %s; memory %.1f GiB\n", machine->caches, machine->memory_gib);
    printf("  kernel       %s; transparent huge pages: %s\n", machine->kernel, machine->huge_pages);
    printf("  compiler     %s (of this benchmark)\n", machine->compiler);
    printf("  load before  %s\n", machine->load);
    printf("  workload     %zu servers, models of 100 agents, random 64-bit ids, an agent name for each connection, "
           "seed %llu, clock: %s, timed by: %s\n",
           report->servers, (unsigned long long)report->seed, report->clock, report->time);
    printf("Each line: the median, least and greatest of its rounds; F: the yardstick's median of the same rounds.\n");
    fflush(stdout);
}

static void print_result(const struct result *result)
{
    char median[24], least[24], most[24], base[24] = "", ratio[24] = "", target[48] = "";
    format_quantity(result->median, result->unit, median);
    format_quantity(result->min, result->unit, least);
    format_quantity(result->max, result->unit, most);
    if (result->base > 0) {
        format_quantity(result->base, result->unit, base);
        snprintf(ratio, sizeof ratio, "%.2f", result_ratio(result));
    }
    if (result->target == TARGET_RATIO) {
        /* Against F, or against the line that the note and the JSON name. */
        snprintf(target, sizeof target, "<= %.1f %s", result->limit, strcmp(result->base_name, "F") == 0 ? "F" : "x");
    } else if (result->target == TARGET_VALUE) {
        char limit[24];
        format_quantity(result->limit, result->unit, limit);
        snprintf(target, sizeof target, "<= %s", limit);
    }
    const char *verdict = !result->judged ? "" : result_reached(result) ? "yes" : "NO";
    printf("%-30s %11s %11s %11s %11s %6s  %-12s %-4s %s\n", result->name, median, least, most, base, ratio, target,
           verdict, result->note);
}

/* `name` with more behind it: "activity_two_threads" for "activity". */
static bool is_twin(const struct result *result, const struct result *of)
{
    static const char suffix[] = "_two_threads";
    size_t length = strlen(of->name);
    return strncmp(result->name, of->name, length) == 0 && strcmp(result->name + length, suffix) == 0;
}

static bool result_has_line_before(const struct report *report, size_t first, size_t index)
{
    for (size_t i = first; i < index; i++) {
        if (is_twin(&report->results[index], &report->results[i])) {
            return true;
        }
    }
    return false;
}

/* What was measured later, in another process, next to the line that it is to be read beside. */
static void print_twins(const struct report *report, size_t index)
{
    for (size_t i = index + 1; i < report->count; i++) {
        if (is_twin(&report->results[i], &report->results[index])) {
            print_result(&report->results[i]);
        }
    }
}

void report_print_table(const struct report *report, size_t first, const char *title)
{
    if (first == report->count) {
        return;
    }
    printf("\n== %s ==\n%-30s %11s %11s %11s %11s %6s  %-12s %-4s %s\n", title, "what", "median", "min", "max",
           "F or base", "ratio", "target", "met", "note");
    for (size_t i = first; i < report->count; i++) {
        if (!result_has_line_before(report, first, i)) {
            print_result(&report->results[i]);
            print_twins(report, i);
        }
    }
    fflush(stdout);
}

void report_print_verdict(const struct report *report)
{
    size_t judged = 0, missed = 0;
    for (size_t i = 0; i < report->count; i++) {
        judged += report->results[i].judged ? 1 : 0;
        missed += report->results[i].judged && !result_reached(&report->results[i]) ? 1 : 0;
    }
    printf("\nTargets judged: %zu, missed: %zu. Time taken: %.0f s. Load after: %s\n", judged, missed, report->seconds,
           report->load_after);
    for (size_t i = 0; i < report->count; i++) {
        const struct result *result = &report->results[i];
        if (result->judged && !result_reached(result)) {
            printf("  missed at %zu: %s", result->size, result->name);
            if (result->target == TARGET_RATIO) {
                printf(", %.2f %s, target %.2f\n", result_ratio(result), result->base_name, result->limit);
            } else {
                printf(", %.1f %s, target %.0f\n", result->median, result->unit, result->limit);
            }
        }
    }
}

/* -------------------------------------------------------------------------------------------------------- JSON -- */

static void json_string(FILE *file, const char *name, const char *text)
{
    fprintf(file, "\"%s\": \"", name);
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            fprintf(file, "\\%c", byte);
        } else if (byte < 0x20) {
            fprintf(file, "\\u%04x", byte);
        } else {
            fputc(byte, file);
        }
    }
    fputc('"', file);
}

static void json_machine(FILE *file, const struct report *report)
{
    const struct machine *machine = &report->machine;
    const struct {
        const char *name, *text;
    } texts[] = {{"cpu", machine->cpu},           {"caches", machine->caches},
                 {"kernel", machine->kernel},     {"transparent_huge_pages", machine->huge_pages},
                 {"compiler", machine->compiler}, {"library", machine->library},
                 {"load_before", machine->load},  {"load_after", report->load_after}};
    fprintf(file, "  \"machine\": {");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_string(file, texts[i].name, texts[i].text);
        fprintf(file, ", ");
    }
    fprintf(file, "\"cores\": %ld, \"cpu_used\": %d, \"memory_gib\": %.1f},\n", machine->cores, machine->cpu_used,
            machine->memory_gib);
}

static void json_result(FILE *file, const struct result *result, bool last)
{
    fprintf(file, "    {");
    json_string(file, "name", result->name);
    fprintf(file, ", \"size\": %zu, ", result->size);
    json_string(file, "unit", result->unit);
    fprintf(file, ", \"median\": %.3f, \"min\": %.3f, \"max\": %.3f, \"rounds\": %zu", result->median, result->min,
            result->max, result->rounds);
    if (result->base > 0) {
        fprintf(file, ", ");
        json_string(file, "base_name", result->base_name);
        fprintf(file, ", \"base\": %.3f, \"ratio\": %.4f", result->base, result_ratio(result));
    }
    if (result->target != TARGET_NONE) {
        fprintf(file, ", \"target_%s\": %.3f", result->target == TARGET_RATIO ? "ratio" : "value", result->limit);
    }
    if (result->judged) {
        fprintf(file, ", \"reached\": %s", result_reached(result) ? "true" : "false");
    }
    if (result->note[0]) {
        fprintf(file, ", ");
        json_string(file, "note", result->note);
    }
    fprintf(file, "}%s\n", last ? "" : ",");
}

bool report_write_json(const struct report *report, const char *path)
{
    bool to_output = strcmp(path, "-") == 0;
    FILE *file = to_output ? stdout : fopen(path, "we");
    if (!file) {
        return false;
    }
    fprintf(file, "{\n  \"benchmark\": \"presence recorder\",\n");
    json_machine(file, report);
    fprintf(file, "  \"servers\": %zu, \"seed\": %llu, \"clock\": \"%s\", \"time\": \"%s\", ", report->servers,
            (unsigned long long)report->seed, report->clock, report->time);
    fprintf(file, "\"seconds\": %.1f,\n  \"results\": [\n", report->seconds);
    for (size_t i = 0; i < report->count; i++) {
        json_result(file, &report->results[i], i + 1 == report->count);
    }
    fprintf(file, "  ]\n}\n");
    bool written = fflush(file) == 0 && !ferror(file);
    int kept = errno;
    if (!to_output) {
        written = fclose(file) == 0 && written;
    }
    errno = kept;
    return written;
}
