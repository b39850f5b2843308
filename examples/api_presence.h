/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_presence.h - what an API server tells the recorder, and when: at login, at each sign of life, at the close of the
 * socket, when a server's link is cut, when it is back, and when the server stops. And how it learns of changes.
 *
 * In a real deployment each API server is a process, and hears of the others' connections over some link. Here one
 * process plays several servers over one recorder, so that a link can be cut on purpose: what happens on that server's
 * sockets meanwhile is not recorded, and when the link is back, the server's whole list replaces what is known of it.
 */
#ifndef EXAMPLES_API_PRESENCE_H
#define EXAMPLES_API_PRESENCE_H

#include <presence/presence.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

/* One agent that is logged in: as long as its socket is open. */
struct api_login {
    struct api_login *next, *previous;
    struct api_server *server;
    char *model, *agent;
    uint64_t id; /* its connection id on the server, never used again */
    bool controller_agent;
    presence_handle handle; /* stale while the link is cut */
};

/* One API server. The mutex covers all but the first two, and is taken before the recorder's own, never within it. */
struct api_server {
    const char *name;
    presence_recorder *recorder; /* shared by all servers; outlives them */
    pthread_mutex_t mutex;
    bool link_up;
    uint64_t last_id;
    struct api_login *logins; /* the truth: who is logged in here, whether it is recorded or not */
    size_t login_count;
};

/* Prints each change as one line, on a thread of its own. */
struct api_follower {
    presence_recorder *recorder;
    presence_watch *watch;
    FILE *out;
    int stop_fd;
    pthread_t thread;
};

void api_server_init(struct api_server *server, const char *name, presence_recorder *recorder);
void api_server_destroy(struct api_server *server); /* every login must have been closed */

/* The login path. *login is set on PRESENCE_OK, and is then closed with api_logout. Errors: those of
 * presence_recorder_connect_handle, told in *error. */
int api_login(struct api_server *server, const char *model, const char *agent, bool controller_agent,
              struct api_login **login, presence_error *error);
/* A sign of life. */
int api_active(struct api_login *login);
/* The close path, whatever closed the socket. Frees the login. */
void api_logout(struct api_login *login);

/* The link to this server is lost: its agents become missing. *became_missing is how many connections did. */
int api_link_down(struct api_server *server, size_t *became_missing);
/* The link is back: the server's whole list replaces what is known of it. *listed is its length. */
int api_link_up(struct api_server *server, size_t *listed, presence_error *error);
/* The server stops on purpose: its agents are missing because it drained, and the closing of their sockets, which
 * follows, is told to nobody. */
int api_drain(struct api_server *server);

/* Starts following the changes from now on. Stopping prints what is still pending first. */
int api_follower_start(struct api_follower *follower, presence_recorder *recorder, FILE *out, presence_error *error);
void api_follower_stop(struct api_follower *follower);

#endif
