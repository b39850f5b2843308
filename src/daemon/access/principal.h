/* SPDX-License-Identifier: Apache-2.0 */
/*
 * principal.h - who asks, and what that one may.
 *
 * A principal is a line of the tokens file: a name and its roles. It is proved by a token (RESP's AUTH and HELLO AUTH,
 * HTTP's bearer) or by a client certificate whose subject's common name is the principal's. Where no tokens file is
 * configured, everybody may everything: `principal_of` then gives a principal that says so, so that callers need no
 * second way.
 *
 *   role               may
 *   read               see everything
 *   model:MODEL        see that model, and of servers only those of its own connections
 *   report:SERVER      state that server's connections
 *   join:MODEL[/AGENT] be connected itself, as an agent of that model (or that one agent)
 *   admin              all of it, and change the daemon
 *
 * The check is made once, in command_run, for every protocol: see commands/permit.c. Commands of COMMAND_READ with a
 * model among their arguments find it filled in for a principal that sees one model only; they need no check of their
 * own. What is not a command (a page of a listing, a watch that goes on) uses the functions here.
 *
 * Threads: any. A principal is immutable but for its being revoked, and counted: each that is handed out is released.
 */
#ifndef DAEMON_ACCESS_PRINCIPAL_H
#define DAEMON_ACCESS_PRINCIPAL_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct access;
struct principal;

enum authentication {
    AUTHENTICATION_GOOD,
    AUTHENTICATION_NOT_IN_USE, /* there is no tokens file: everybody is let in */
    AUTHENTICATION_BAD,        /* no such token, or it is not that user's */
    AUTHENTICATION_SLOWED      /* too many bad ones from that address, and this one is another */
};

/* The one way in by a token. `user` may be empty, or "default" (what Redis clients send): any name. `peer` is the
 * client's address as in struct client: failures are counted by it, without its port. Failures are logged and counted.
 * GOOD: *principal is set, to be released; else it is left alone. O(tokens), in a time that does not tell which of them
 * is near. */
enum authentication principal_authenticate(struct access *access, const char *peer, struct slice user,
                                           struct slice token, const struct principal **principal);
/* The principal of that name, for a client certificate that was verified. NULL: there is none. To be released. */
const struct principal *principal_named(struct access *access, const char *name);
/* After a reload. True: *principal goes on, or was replaced by what its line of the tokens file says now, other roles
 * perhaps (the same name, with the same token). False: there is no such line any more. NULL goes on. Costs a load where
 * it was not revoked. */
bool principal_renew(struct access *access, const struct principal **principal);
/* The same principal, counted once more, for who uses it on another thread. NULL stays NULL. */
const struct principal *principal_keep(const struct principal *principal);
/* NULL is allowed, and so is a principal that was not counted. */
void principal_release(const struct principal *principal);

/* Whom to ask about: `authenticated` (may be NULL) while it is not revoked; everybody, where there is no tokens file;
 * else NULL: AUTH first. Not counted. A line that left the file, or changed, is revoked at the next reload: whoever
 * keeps something open for a principal (a session, a join, a watch) renews it then, and ends what it may no more. */
const struct principal *principal_of(const struct access *access, const struct principal *authenticated);
/* "everybody", or the name in the tokens file: for logs. */
const char *principal_name(const struct principal *principal);
/* Whether both are the same, by name; NULL equals NULL. For what only the one who began it may go on with. */
bool principal_is(const struct principal *a, const struct principal *b);

bool principal_may_admin(const struct principal *principal);
/* Everything, servers and numbers of the node included. */
bool principal_may_read(const struct principal *principal);
bool principal_may_read_model(const struct principal *principal, const char *model);
bool principal_may_report(const struct principal *principal, const char *server);
bool principal_may_join(const struct principal *principal, const char *model, const char *agent);

/* Narrows a filter to what a principal may see. *model is the model asked for, or NULL: all. ALL: as asked. A model:M
 * principal that asked for all: *model becomes its model, which lives as long as the principal; one with several models
 * must name one of them. */
enum sight { SIGHT_ALLOWED, SIGHT_REFUSED, SIGHT_AMBIGUOUS };
enum sight principal_narrow(const struct principal *principal, const char **model);

#endif
