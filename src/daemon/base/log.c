/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - lines of `key=value` on stderr.
 *
 * Keeps true: a line is one write of at most 4 KiB, ends with a newline, and holds no control character and no byte
 * that is not ASCII but by escapes. Called from any thread; the cost is a write.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 4096, MOST_OF_AN_ESCAPE = 4 };

struct line {
    char text[LINE_BYTES];
    size_t length;
};

static _Atomic int most_level = LOG_LEVEL_INFO;
static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const int journal_priorities[] = {3, 4, 6, 7};

static void add_char(struct line *line, char c)
{
    if (line->length < LINE_BYTES - 1) /* the last one is the newline's */
        line->text[line->length++] = c;
}

static void add_text(struct line *line, const char *text)
{
    for (; *text; text++)
        add_char(line, *text);
}

static bool needs_quotes(const char *value)
{
    if (!*value)
        return true;
    for (const unsigned char *c = (const unsigned char *)value; *c; c++)
        if (*c <= ' ' || *c == '"' || *c == '\\' || *c == '=' || *c >= 0x7f)
            return true;
    return false;
}

static void add_value(struct line *line, const char *value)
{
    if (!needs_quotes(value)) {
        add_text(line, value);
        return;
    }
    add_char(line, '"');
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        if (line->length + MOST_OF_AN_ESCAPE + 1 >= LINE_BYTES) /* no half of an escape, and room for the quote */
            break;
        char escape[MOST_OF_AN_ESCAPE + 1];
        if (*c == '"' || *c == '\\')
            snprintf(escape, sizeof escape, "\\%c", *c);
        else if (*c < ' ' || *c >= 0x7f)
            snprintf(escape, sizeof escape, "\\x%02x", *c);
        else
            snprintf(escape, sizeof escape, "%c", *c);
        add_text(line, escape);
    }
    add_char(line, '"');
}

/* Whether stderr leads to the journal: JOURNAL_STREAM names its device and inode. The variable alone is not enough, for
 * it is inherited by whoever is started with another stderr. */
static bool stderr_is_journal(void)
{
    static _Atomic int known = -1;
    int is = atomic_load_explicit(&known, memory_order_relaxed);
    if (is >= 0)
        return is;
    const char *stream = getenv("JOURNAL_STREAM");
    char *rest = NULL;
    unsigned long long device = stream ? strtoull(stream, &rest, 10) : 0;
    unsigned long long inode = rest && *rest == ':' ? strtoull(rest + 1, NULL, 10) : 0;
    struct stat facts;
    is = inode && fstat(STDERR_FILENO, &facts) == 0 && facts.st_dev == device && facts.st_ino == inode;
    atomic_store_explicit(&known, is, memory_order_relaxed);
    return is;
}

static void add_beginning(struct line *line, enum log_level level)
{
    char text[64];
    if (stderr_is_journal()) {
        snprintf(text, sizeof text, "<%d>", journal_priorities[level]);
    } else {
        struct timespec now;
        struct tm parts;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &parts);
        size_t length = strftime(text, sizeof text, "time=%Y-%m-%dT%H:%M:%S", &parts);
        snprintf(text + length, sizeof text - length, ".%03ldZ ", now.tv_nsec / 1000000);
    }
    add_text(line, text);
}

void log_set_level(enum log_level level)
{
    atomic_store(&most_level, (int)level);
}

bool log_is_on(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&most_level, memory_order_relaxed);
}

void log_event(enum log_level level, const char *event, ...)
{
    if (!log_is_on(level))
        return;
    int saved = errno;
    struct line line;
    line.length = 0;
    add_beginning(&line, level);
    add_text(&line, "level=");
    add_text(&line, level_names[level]);
    add_text(&line, " event=");
    add_value(&line, event);
    va_list facts;
    va_start(facts, event);
    for (const char *key; (key = va_arg(facts, const char *));) {
        const char *value = va_arg(facts, const char *);
        add_char(&line, ' ');
        add_text(&line, key);
        add_char(&line, '=');
        add_value(&line, value ? value : "");
    }
    va_end(facts);
    line.text[line.length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line.text, line.length); /* where else could a failure be told? */
    (void)written;
    errno = saved;
}

const char *log_number(char *buffer, int64_t number)
{
    snprintf(buffer, LOG_NUMBER_BYTES, "%lld", (long long)number);
    return buffer;
}
