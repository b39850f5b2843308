/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minimal.c - the smallest useful program: two agents connect to two servers, and one server goes down.
 * One thread, no I/O but stdout. Every call that can fail is checked in one place, must().
 */
#include <presence/presence.h>
#include <stdio.h>
#include <stdlib.h>

static void must(int code)
{
    if (code == PRESENCE_OK)
        return;
    fprintf(stderr, "minimal: %s\n", presence_strerror(code));
    exit(1);
}

int main(void)
{
    const char *model = "2e15302a-bbdf-4077-8e65-116a5a0e0348";
    presence_recorder *recorder = presence_recorder_new(NULL); /* NULL: the system's clock */
    if (recorder == NULL)
        return 1;
    presence_recorder_enable(recorder); /* until then it refuses every write */

    must(presence_recorder_connect(recorder, "machine-0", model, "unit-web-0", 2, false, NULL));
    must(presence_recorder_connect(recorder, "machine-1", model, "unit-mysql-0", 17, false, NULL));
    must(presence_recorder_server_down(recorder, "machine-1"));

    presence_status status;
    must(presence_recorder_agent_status(recorder, model, "unit-web-0", &status));
    printf("unit-web-0 is %s\n", presence_status_string(status));

    presence_evidence evidence;
    must(presence_recorder_agent_evidence(recorder, model, "unit-mysql-0", &evidence));
    printf("unit-mysql-0 is %s because of %s\n", presence_status_string(evidence.status),
           presence_reason_string(evidence.reason));

    presence_connections *view = presence_recorder_connections(recorder); /* no later change touches it */
    presence_recorder_free(recorder);                                     /* and it outlives the recorder */
    presence_cursor cursor = {0};
    presence_value value;
    while (presence_connections_next(view, &cursor, &value))
        printf("%s on %s, connection %llu: %s\n", value.agent, value.server, (unsigned long long)value.connection_id,
               presence_status_string(value.status));
    presence_connections_free(view);
    return 0;
}
