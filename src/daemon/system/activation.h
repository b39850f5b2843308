/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activation.h - sockets that systemd opened for us (LISTEN_FDS), by the names of their socket units.
 *
 * A listener asks for its sockets by name ("resp", "http"); where it gets some, it listens on those and on nothing
 * else.
 */
#ifndef DAEMON_SYSTEM_ACTIVATION_H
#define DAEMON_SYSTEM_ACTIVATION_H

#include "base/address.h"

enum { MOST_ACTIVATED = 16 };

/* Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES and takes them out of the environment. Once, before any thread.
 * False: `error` says what is wrong: a socket that has no name of ours, or is none that listens. */
bool activation_init(char *error, size_t error_bytes);
/* The sockets of that name, which do not block and now belong to the caller, and where they listen; how many. Each is
 * given once. */
size_t activation_take(const char *name, int *descriptors, struct address *addresses, size_t most);

#endif
