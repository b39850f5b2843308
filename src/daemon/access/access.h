/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access.h - the node's tokens and certificates, loaded at start and again on SIGHUP.
 *
 * One of these belongs to the node (node->access). A reload that fails changes nothing: what was loaded before goes on.
 */
#ifndef DAEMON_ACCESS_ACCESS_H
#define DAEMON_ACCESS_ACCESS_H

#include "access/principal.h"
#include "base/address.h"
#include "config/config.h"

#include <stdint.h>

/* Loads config's tokens file and certificates. NULL: `error` says which file, which line and what is wrong. */
struct access *access_new(const struct config *config, char *error, size_t error_bytes);
void access_free(struct access *access);
/* Reads the same files again. False: nothing has changed, and `error` says why. Any thread. */
bool access_reload(struct access *access, char *error, size_t error_bytes);

/* How often they were read again. Any thread. */
uint64_t access_reloads(const struct access *access);

/* Failed authentications so far. */
uint64_t access_failures(const struct access *access);
/* How many tokens are in use. */
size_t access_token_count(struct access *access);

/* Whether a listener may open there: on this machine, with tokens and TLS, or as --insecure says. False: `error` names
 * the option (`--resp`) and says what is wanting. */
bool access_may_listen(const struct access *access, const struct address *address, const char *option, char *error,
                       size_t error_bytes);

#endif
