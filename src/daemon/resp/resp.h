/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resp.h - the RESP side of presenced: listeners, and the clients that they let in.
 *
 * A client belongs to one loop from its first byte to its last. The first loop accepts and hands over in turn, so that
 * few clients are spread as evenly as many, and a second presenced cannot take half of our port.
 */
#ifndef DAEMON_RESP_RESP_H
#define DAEMON_RESP_RESP_H

#include "node/node.h"
#include "resp/parser.h"

struct resp_side;

/* Opens the listeners of config->resp on the first loop. NULL: `error` says why. Before the loops run. */
struct resp_side *resp_side_new(struct node *node, char *error, size_t error_bytes);
/* Tokens and limits were read again: limits apply from now on; clients that may no more be here, or hold what they
 * hold, are told so and end. Posted to each loop. False: memory is out, and a loop was not told; its clients are nobody
 * at their next command all the same. */
bool resp_side_reload(struct resp_side *side);
/* Accepts no more. On the first loop's thread. */
void resp_side_stop_listening(struct resp_side *side);
/* Sends what waits and closes every client, holding the loops for as long. Posted to each, so before loops_stop. */
void resp_side_close_clients(struct resp_side *side);
/* After all loops have ended, and before loops_free. */
void resp_side_free(struct resp_side *side);

#endif
