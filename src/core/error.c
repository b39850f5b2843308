/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.c - the tables of codes, statuses, reasons and event kinds. Pure functions, static storage, any thread.
 */
#include <presence/presence.h>

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {PRESENCE_OK, "PRESENCE_OK", "success"},
    {PRESENCE_E_DISABLED, "PRESENCE_E_DISABLED", "the recorder is disabled"},
    {PRESENCE_E_INVALID, "PRESENCE_E_INVALID", "invalid name, data or argument"},
    {PRESENCE_E_NOT_FOUND, "PRESENCE_E_NOT_FOUND", "connection not found"},
    {PRESENCE_E_MISMATCH, "PRESENCE_E_MISMATCH", "connection server mismatch"},
    {PRESENCE_E_DUPLICATE, "PRESENCE_E_DUPLICATE", "a connection id is in the list twice"},
    {PRESENCE_E_AMBIGUOUS, "PRESENCE_E_AMBIGUOUS", "connections not limited to a model, agent ambiguous"},
    {PRESENCE_E_NO_MEMORY, "PRESENCE_E_NO_MEMORY", "out of memory"},
    {PRESENCE_E_LAGGED, "PRESENCE_E_LAGGED", "the history asked for is no longer kept, start over from a view"},
    {PRESENCE_E_STALE, "PRESENCE_E_STALE", "another claim or a newer epoch holds the server"},
    {PRESENCE_E_LIMIT, "PRESENCE_E_LIMIT", "a limit of the recorder is reached"},
    {PRESENCE_E_GAP, "PRESENCE_E_GAP", "changes before this one are missing"},
    {PRESENCE_E_SYSTEM, "PRESENCE_E_SYSTEM", "the system refused"},
};

static const char *const statuses[] = {"unknown", "missing", "alive"};

static const char *const reasons[] = {"none",    "connected", "reconnected", "updated",  "left",  "server_down",
                                      "drained", "timed_out", "superseded",  "restored", "lapsed"};

static const char *const event_kinds[] = {"",        "connected", "reconnected", "updated", "disconnected",
                                          "missing", "activity",  "agent"};

enum { ERRORS = sizeof errors / sizeof errors[0] };

const char *presence_strerror(int code)
{
    for (unsigned i = 0; i < ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "unknown error";
}

const char *presence_error_name(int code)
{
    for (unsigned i = 0; i < ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].name;
    return "PRESENCE_E_?";
}

static const char *name_at(const char *const *names, unsigned count, int at)
{
    return at >= 0 && (unsigned)at < count ? names[at] : "";
}

const char *presence_status_string(presence_status status)
{
    return name_at(statuses, sizeof statuses / sizeof statuses[0], (int)status);
}

const char *presence_reason_string(presence_reason reason)
{
    return name_at(reasons, sizeof reasons / sizeof reasons[0], (int)reason);
}

const char *presence_event_kind_string(presence_event_kind kind)
{
    return name_at(event_kinds, sizeof event_kinds / sizeof event_kinds[0], (int)kind);
}

const char *presence_version(void)
{
    return PRESENCE_VERSION;
}
