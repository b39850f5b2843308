/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_session.h - one client of the API server, from its first line to its last.
 */
#ifndef EXAMPLES_API_SESSION_H
#define EXAMPLES_API_SESSION_H

#include "api_presence.h"

/* What all sessions share; it changes no more once the first of them runs. */
struct api {
    presence_recorder *recorder;
    struct api_server *servers;
    size_t server_count;
    int idle_ms; /* a client that is silent for so long is taken for dead */
};

/* Serves the client on `fd`, which connected to `server`, until it goes or breaks the rules; then logs it out. Closing
 * fd is the caller's, and shutting it down from another thread ends the session. */
void api_session_run(const struct api *api, struct api_server *server, int fd);

#endif
