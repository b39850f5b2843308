/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the table of options as the loader sees it.
 */
#ifndef DAEMON_CONFIG_OPTIONS_H
#define DAEMON_CONFIG_OPTIONS_H

#include "config/config.h"

enum option_kind {
    OPTION_TEXT,     /* char * */
    OPTION_NUMBER,   /* _Atomic uint64_t */
    OPTION_BYTES,    /* _Atomic uint64_t; 512, 64k, 16m, 2g */
    OPTION_DURATION, /* _Atomic uint64_t of milliseconds; 250ms, 30s, 5m, 2h */
    OPTION_LEVEL,    /* _Atomic uint64_t; error, warning, info, debug */
    OPTION_SWITCH    /* bool; as a flag without a value, else yes or no */
};

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the order in which the table reads best */
struct option {
    const char *name; /* as the flag and the key: lower case and hyphens */
    enum option_kind kind;
    size_t offset;          /* in struct config */
    const char *fallback;   /* the default, as a user would write it */
    uint64_t least, most;   /* of numbers, bytes and durations */
    const char *value_word; /* in --help */
    const char *help;       /* one line, or two by a newline */
    bool flag_only;         /* not in the environment, not in the file */
    bool live;              /* of numbers: a reload takes it over */
};

extern const struct option options[];
extern const size_t option_count;

/* The option of that name, or NULL. */
const struct option *option_find(const char *name, size_t length);
/* Sets it from text. False: `error` (of CONFIG_ERROR_BYTES) says what would be right. */
bool option_set(const struct option *option, struct config *config, const char *value, char *error);

#endif
