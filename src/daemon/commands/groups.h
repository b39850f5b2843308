/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups.h - the groups that make up the table: one file each, in the order in which COMMAND lists them; and the few
 * functions that several of them share.
 */
#ifndef DAEMON_COMMANDS_GROUPS_H
#define DAEMON_COMMANDS_GROUPS_H

#include "commands/command.h"
#include "reply/freshness.h"
#include "sessions/sessions.h"

extern const struct command_group group_handshake; /* HELLO, AUTH, PING... what client libraries send by themselves */
extern const struct command_group group_about;     /* COMMAND, INFO */
extern const struct command_group group_report;    /* CONNECT, DISCONNECT, ACTIVITY, SERVERDOWN, DRAIN */
extern const struct command_group group_ask;       /* STATUS, AGENT, COUNT */
extern const struct command_group group_lists;     /* UPDATESERVER, MERGESERVER */
extern const struct command_group group_session;   /* SESSION, JOIN */
extern const struct command_group group_switch;    /* ENABLE, DISABLE, ENABLED */
extern const struct command_group group_listing;   /* MODELS, SERVERS, SERVER, AGENTS, VALUES */
extern const struct command_group group_watch;     /* WATCH, UNWATCH */
extern const struct command_group group_operate;   /* CHECK, EXPLAIN, FORGET */
extern const struct command_group group_cluster;   /* CLUSTER */
extern const struct command_group group_questions; /* VERIFY, TESTIMONY */

/* The slice of the call's filters: SERVER, MODEL, AGENT as they are given. NULL: out of memory. To be freed. O(1). */
presence_connections *command_slice(const struct call *call);

/* The word of an error for a write that is not allowed. */
enum error_word write_answer_word(enum write_answer answer);

/* For is_long: how many rows are many; whether the server of the call, or what its filters leave at most, has so many
 * connections. */
enum { LONG_ROWS = 10000 };
bool long_of_server(const struct call *call);
bool long_of_filters(const struct call *call);

#endif
