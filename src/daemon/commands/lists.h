/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lists.h - whole lists of a server, for protocols that make the values themselves.
 */
#ifndef DAEMON_COMMANDS_LISTS_H
#define DAEMON_COMMANDS_LISTS_H

#include "commands/command.h"

/* Makes these values, all of call->arguments.server, the server's list (or merges them into it), under the limits, and
 * says how many there are, or why not. The call was permitted, and is fenced (command_execute). */
void lists_state(struct call *call, const presence_value *values, size_t count, bool merge);

#endif
