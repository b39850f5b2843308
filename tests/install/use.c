/* SPDX-License-Identifier: Apache-2.0 */
/*
 * use.c - a user's C program, as strict as the standard allows: one agent connects, is seen, and leaves.
 *
 * The install test builds it in several dialects, against the installed library, shared and static, by pkg-config and
 * by CMake, and runs it. It ends with 0 only if the library that runs is the one of the headers and answers rightly.
 */
#include <presence/presence.h>
#include <presence/replica.h>

#include <stdio.h>
#include <string.h>

#define SERVER "machine-0"
#define MODEL "6a3c1f1e-2f0a-4f3b-8f64-0d2f5d3c9a11"
#define AGENT "unit-mysql-0"

static int fail(const char *what, int code)
{
    fprintf(stderr, "%s: %s\n", what, presence_strerror(code));
    return 1;
}

/* The agent's status as the record has it now. */
static int expect_status(presence_recorder *recorder, presence_status expected)
{
    presence_status status = PRESENCE_UNKNOWN;
    int code = presence_recorder_agent_status(recorder, MODEL, AGENT, &status);
    if (code != PRESENCE_OK) {
        return fail("agent_status", code);
    }
    if (status != expected) {
        fprintf(stderr, "expected %s, got %s\n", presence_status_string(expected), presence_status_string(status));
        return 1;
    }
    return 0;
}

static int tell(presence_recorder *recorder)
{
    presence_server_description description;
    int code;

    presence_recorder_enable(recorder);
    code = presence_recorder_connect(recorder, SERVER, MODEL, AGENT, 1, false, NULL);
    if (code != PRESENCE_OK) {
        return fail("connect", code);
    }
    if (expect_status(recorder, PRESENCE_ALIVE) != 0) {
        return 1;
    }
    code = presence_replica_describe(recorder, SERVER, &description);
    if (code != PRESENCE_OK || description.connections != 1) {
        return fail("describe", code);
    }
    code = presence_recorder_server_down(recorder, SERVER);
    if (code != PRESENCE_OK) {
        return fail("server_down", code);
    }
    return expect_status(recorder, PRESENCE_MISSING);
}

int main(void)
{
    presence_recorder *recorder;
    int result;

    if (strcmp(presence_version(), PRESENCE_VERSION) != 0) {
        fprintf(stderr, "headers of %s, library of %s\n", PRESENCE_VERSION, presence_version());
        return 1;
    }
    recorder = presence_recorder_new(NULL);
    if (recorder == NULL) {
        return fail("recorder_new", PRESENCE_E_NO_MEMORY);
    }
    result = tell(recorder);
    presence_recorder_free(recorder);
    if (result == 0) {
        puts(PRESENCE_VERSION);
    }
    return result;
}
