/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - presence as text for people: the report of a view, one change, one agent's evidence.
 *
 * All of it prints to a stdio stream that the caller owns, and may be used from any thread.
 */
#ifndef EXAMPLES_REPORT_H
#define EXAMPLES_REPORT_H

#include <presence/presence.h>
#include <stdio.h>

/* Prints the slice, a table for each model, sorted by model, then agent, server and id:
 *
 *     [2e15302a-bbdf-4077-8e65-116a5a0e0348]
 *
 *     AGENT                   SERVER     CONN ID  STATUS
 *     machine-0 (controller)  machine-0  2        alive
 *     unit-mysql-0            machine-2  17       missing
 *
 * (without the indent) and an empty line after each. PRESENCE_OK, or PRESENCE_E_NO_MEMORY, and then what was printed so
 * far stays. O(N log N) and a presence_value for each connection of the largest model. */
int report_connections(FILE *out, const presence_connections *connections);

/* Prints one change as one line:
 *     change 10: unit-mysql-0 missing (machine-1 1), reason server_down, agent alive -> missing */
void report_event(FILE *out, const presence_event *event);

/* Prints an agent's evidence as one line; a time that is not known is "never":
 *     status=alive reason=connected since=2026-11-22T10:00:00.000Z last_seen=2026-11-22T10:00:07.000Z alive=1 missing=0
 */
void report_evidence(FILE *out, const presence_evidence *evidence);

#endif
