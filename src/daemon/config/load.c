/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - options from flags, the environment and a file, the stronger last.
 *
 * Keeps true: what is not known is an error, wherever it was said. Called at start and on a reload by one thread; the
 * cost is that of reading a file of at most 1 MiB.
 */
#include "config/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_LENGTH = 9, MOST_NAME = 64, MOST_LINE = 4096, MOST_COLUMN = 100 };
static const char prefix[] = "PRESENCE_";

/* Sets the option, or says in the error where the bad value stood. */
static bool set_from(const char *where, const struct option *option, struct config *config, const char *value,
                     char *error)
{
    char what[CONFIG_ERROR_BYTES];
    if (option_set(option, config, value, what))
        return true;
    snprintf(error, CONFIG_ERROR_BYTES, "%.160s: %.300s", where, what);
    return false;
}

static bool set_defaults(struct config *config, char *error)
{
    for (size_t i = 0; i < option_count; i++)
        if (!set_from(options[i].name, &options[i], config, options[i].fallback, error))
            return false;
    return true;
}

static char *trimmed(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        text[--length] = 0;
    return text;
}

static bool take_line(struct config *config, const char *path, unsigned number, char *line, char *error)
{
    char where[160];
    char *text = trimmed(line);
    if (!*text || *text == '#')
        return true;
    char *equals = strchr(text, '=');
    if (!equals) {
        snprintf(error, CONFIG_ERROR_BYTES, "%.200s:%u: wants `key = value`, got \"%.64s\"", path, number, text);
        return false;
    }
    *equals = 0;
    char *key = trimmed(text);
    const struct option *option = option_find(key, strlen(key));
    if (!option || option->flag_only || strcmp(key, "config") == 0) {
        snprintf(error, CONFIG_ERROR_BYTES, "%.200s:%u: unknown key \"%.64s\"", path, number, key);
        return false;
    }
    snprintf(where, sizeof where, "%.80s:%u: %s", path, number, option->name);
    return set_from(where, option, config, trimmed(equals + 1), error);
}

static bool take_file(struct config *config, const char *path, char *error)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(error, CONFIG_ERROR_BYTES, "config: cannot read %.200s: %s", path, strerror(errno));
        return false;
    }
    char line[MOST_LINE];
    bool good = true;
    for (unsigned number = 1; good && fgets(line, sizeof line, file); number++) {
        if (strlen(line) == sizeof line - 1) {
            snprintf(error, CONFIG_ERROR_BYTES, "%.200s:%u: a line of more than %d bytes", path, number, MOST_LINE - 2);
            good = false;
        } else {
            good = take_line(config, path, number, line, error);
        }
    }
    if (good && ferror(file)) {
        snprintf(error, CONFIG_ERROR_BYTES, "config: cannot read %.200s: %s", path, strerror(errno));
        good = false;
    }
    fclose(file);
    return good;
}

/* PRESENCE_MAX_CLIENTS=100: the option's name in lower case, and its value; NULL: no such option. */
static const struct option *option_of_variable(const char *entry, const char **value)
{
    static const char small[] = "abcdefghijklmnopqrstuvwxyz";
    const char *equals = strchr(entry, '=');
    char name[MOST_NAME];
    size_t length = equals ? (size_t)(equals - entry) - PREFIX_LENGTH : 0;
    if (length == 0 || length >= sizeof name)
        return NULL;
    for (size_t i = 0; i < length; i++) {
        char c = entry[PREFIX_LENGTH + i];
        if (islower((unsigned char)c))
            return NULL;
        if (c == '_')
            name[i] = '-';
        else if (c >= 'A' && c <= 'Z')
            name[i] = small[c - 'A'];
        else
            name[i] = c;
    }
    const struct option *option = option_find(name, length);
    *value = equals + 1;
    return option && !option->flag_only ? option : NULL;
}

/* What the presence command reads; whoever exports it for that one may start presenced in the same shell. */
static bool belongs_to_the_command(const char *entry)
{
    static const char *const names[] = {"PRESENCE_URL=", "PRESENCE_TOKEN_FILE="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool take_environment(struct config *config, char **environment, bool only_file, char *error)
{
    for (; *environment; environment++) {
        if (strncmp(*environment, prefix, PREFIX_LENGTH) != 0 || belongs_to_the_command(*environment))
            continue;
        const char *value;
        const struct option *option = option_of_variable(*environment, &value);
        int length = (int)strcspn(*environment, "=");
        if (!option) {
            snprintf(error, CONFIG_ERROR_BYTES, "%.*s: unknown variable", length < 100 ? length : 100, *environment);
            return false;
        }
        char where[160];
        snprintf(where, sizeof where, "%.*s", length, *environment);
        if (only_file == (strcmp(option->name, "config") == 0) && !set_from(where, option, config, value, error))
            return false;
    }
    return true;
}

static bool take_flags(struct config *config, int argc, char **argv, bool only_file, char *error)
{
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i];
        size_t length = strcspn(flag, "=");
        const struct option *option =
            strncmp(flag, "--", 2) == 0 && length > 2 ? option_find(flag + 2, length - 2) : NULL;
        if (!option) {
            snprintf(error, CONFIG_ERROR_BYTES, "%.100s: unknown flag (--help lists them)", flag);
            return false;
        }
        const char *value = flag[length] ? flag + length + 1 : NULL;
        if (!value && option->kind == OPTION_SWITCH)
            value = "yes";
        else if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value) {
            snprintf(error, CONFIG_ERROR_BYTES, "--%s: wants a value", option->name);
            return false;
        }
        char where[MOST_NAME + 2];
        snprintf(where, sizeof where, "--%s", option->name);
        if (only_file == (strcmp(option->name, "config") == 0) && !set_from(where, option, config, value, error))
            return false;
    }
    return true;
}

bool config_load(struct config *config, int argc, char **argv, char **environment, char *error)
{
    *config = (struct config){0};
    return set_defaults(config, error) &&
           /* Which file comes first, though what it says is the weakest. */
           take_environment(config, environment, true, error) && take_flags(config, argc, argv, true, error) &&
           (!*config->file || take_file(config, config->file, error)) &&
           take_environment(config, environment, false, error) && take_flags(config, argc, argv, false, error);
}

/* Whether the option has the same value in both. */
static bool option_is_same(const struct option *option, const struct config *a, const struct config *b)
{
    const char *in_a = (const char *)a + option->offset, *in_b = (const char *)b + option->offset;
    switch (option->kind) {
    case OPTION_TEXT:
        return strcmp(*(char *const *)(const void *)in_a, *(char *const *)(const void *)in_b) == 0;
    case OPTION_SWITCH:
        return *(const bool *)in_a == *(const bool *)in_b;
    case OPTION_NUMBER:
    case OPTION_BYTES:
    case OPTION_DURATION:
    case OPTION_LEVEL:
        break;
    }
    return *(const _Atomic uint64_t *)(const void *)in_a == *(const _Atomic uint64_t *)(const void *)in_b;
}

const char *config_take_over(struct config *now, const struct config *then, size_t *index, bool *taken)
{
    while (*index < option_count) {
        const struct option *option = &options[(*index)++];
        if (option->flag_only || option_is_same(option, now, then))
            continue;
        *taken = option->live;
        if (option->live)
            *(_Atomic uint64_t *)(void *)((char *)now + option->offset) =
                *(const _Atomic uint64_t *)(const void *)((const char *)then + option->offset);
        return option->name;
    }
    return NULL;
}

void config_free(struct config *config)
{
    for (size_t i = 0; i < option_count; i++)
        if (options[i].kind == OPTION_TEXT)
            free(*(char **)(void *)((char *)config + options[i].offset));
    *config = (struct config){0};
}

static void print_names(bool live, FILE *out)
{
    size_t column = MOST_COLUMN;
    for (size_t i = 0; i < option_count; i++) {
        if (options[i].flag_only || options[i].live != live)
            continue;
        column += strlen(options[i].name) + 1;
        fprintf(out, "%s%s", column > MOST_COLUMN ? "\n  " : " ", options[i].name);
        if (column > MOST_COLUMN)
            column = strlen(options[i].name) + 2;
    }
}

void config_print_help(FILE *out)
{
    fputs("usage: presenced [OPTION...]\n\n"
          "The record of which agents are connected to which server, for clients that speak RESP (Redis) or HTTP.\n\n",
          out);
    for (size_t i = 0; i < option_count; i++) {
        char left[MOST_NAME];
        snprintf(left, sizeof left, "--%s %s", options[i].name, options[i].value_word);
        fprintf(out, "  %-32s %s", left, options[i].help);
        if (*options[i].value_word && *options[i].fallback)
            fprintf(out, " [%s]", options[i].fallback);
        fputc('\n', out);
    }
    fputs("\nEach but the last three may also be said as PRESENCE_MAX_CLIENTS=100 in the environment, or as\n"
          "`max-clients = 100` in the file. Flags are the strongest, the file is the weakest.\n\n"
          "SIGHUP reads again what the files of tokens and certificates hold, and these:",
          out);
    print_names(true, out);
    fputs("\nA restart is wanted by:", out);
    print_names(false, out);
    fputc('\n', out);
}
