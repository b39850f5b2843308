/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - the HTTP side of presenced: JSON, Server-Sent Events, the report, the dashboard.
 *
 * libevent's evhttp reads requests and writes replies; each loop has its own, which accept from duplicates of the same
 * listening descriptors. What a request means is in the table of routes (routes.c), and mostly a command.
 */
#ifndef DAEMON_HTTP_HTTP_H
#define DAEMON_HTTP_HTTP_H

#include "node/node.h"

struct http_side;

/* Opens the listeners of config->http, on all loops. NULL: `error` says why. Before the loops run. */
struct http_side *http_side_new(struct node *node, char *error, size_t error_bytes);
/* Tokens and limits were read again: limits apply to connections that come from now on; event streams that may no more
 * be seen end. Posted to each loop. False: memory is out, and
 * a loop was not told; its streams end at their next event all the same. */
bool http_side_reload(struct http_side *side);
/* Accepts no more, ends streams, and closes each connection once its reply is sent: posted to each loop, so before
 * loops_stop. */
void http_side_close(struct http_side *side);
/* After all loops have ended, and before loops_free. */
void http_side_free(struct http_side *side);

#endif
