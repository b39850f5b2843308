/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_presence.c - what an API server tells the recorder, and when. This is the file to learn from.
 *
 * Keeps true: while a server's link is up, the recorder holds exactly the server's logins; while it is down, what the
 * recorder knew when it went down, as missing. For that the server's own list and the recorder change under the
 * server's mutex; different servers do not wait for each other. Called from the sessions' threads, any number of them
 * at a time. Login, activity and logout cost O(1); a link that comes back costs O(logins of the server).
 */
#include "api_presence.h"

#include "report.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void api_server_init(struct api_server *server, const char *name, presence_recorder *recorder)
{
    *server = (struct api_server){.name = name, .recorder = recorder, .link_up = true};
    pthread_mutex_init(&server->mutex, NULL);
}

void api_server_destroy(struct api_server *server)
{
    pthread_mutex_destroy(&server->mutex);
}

/* ------------------------------------------------------------------------------------------- login and close -- */

static void login_free(struct api_login *login)
{
    if (login == NULL)
        return;
    free(login->model);
    free(login->agent);
    free(login);
}

static struct api_login *login_new(struct api_server *server, const char *model, const char *agent, bool controller)
{
    struct api_login *login = calloc(1, sizeof *login);
    if (login == NULL)
        return NULL;
    login->server = server;
    login->controller_agent = controller;
    login->model = strdup(model);
    login->agent = strdup(agent);
    if (login->model != NULL && login->agent != NULL)
        return login;
    login_free(login);
    return NULL;
}

static presence_value login_value(const struct api_login *login)
{
    return (presence_value){.model = login->model,
                            .server = login->server->name,
                            .agent = login->agent,
                            .connection_id = login->id,
                            .controller_agent = login->controller_agent};
}

/* With the server's mutex held. */
static int login_record(struct api_login *login, presence_error *error)
{
    presence_recorder *recorder = login->server->recorder;
    presence_value value = login_value(login);
    if (login->server->link_up)
        return presence_recorder_connect_handle(recorder, &value, &login->handle, NULL, error);

    /* Nothing is recorded now, but a name that the recorder would refuse must not get into the list: it would be
     * refused with all the others when the link is back. A query refuses the same names. */
    presence_status status;
    return presence_recorder_agent_status(recorder, value.model, value.agent, &status);
}

static void login_link(struct api_login *login)
{
    struct api_server *server = login->server;
    login->next = server->logins;
    if (login->next != NULL)
        login->next->previous = login;
    server->logins = login;
    server->login_count++;
}

static void login_unlink(struct api_login *login)
{
    struct api_server *server = login->server;
    if (login->previous != NULL)
        login->previous->next = login->next;
    else
        server->logins = login->next;
    if (login->next != NULL)
        login->next->previous = login->previous;
    server->login_count--;
}

int api_login(struct api_server *server, const char *model, const char *agent, bool controller_agent,
              struct api_login **result, presence_error *error)
{
    struct api_login *login = login_new(server, model, agent, controller_agent);
    if (login == NULL)
        return PRESENCE_E_NO_MEMORY;
    pthread_mutex_lock(&server->mutex);
    login->id = ++server->last_id;
    int code = login_record(login, error);
    if (code == PRESENCE_OK)
        login_link(login);
    pthread_mutex_unlock(&server->mutex);
    if (code == PRESENCE_OK)
        *result = login;
    else
        login_free(login);
    return code;
}

int api_active(struct api_login *login)
{
    int code = PRESENCE_OK;
    pthread_mutex_lock(&login->server->mutex);
    if (login->server->link_up) /* the handle spares the look-up by names */
        code = presence_recorder_activity_handle(login->server->recorder, &login->handle);
    pthread_mutex_unlock(&login->server->mutex);
    return code;
}

void api_logout(struct api_login *login)
{
    struct api_server *server = login->server;
    pthread_mutex_lock(&server->mutex);
    login_unlink(login);
    /* Of its errors only "out of memory" can happen here, while a view is held. Then the connection stays recorded
     * until the server's next whole list; there is nobody left on this socket to tell. */
    if (server->link_up && presence_recorder_disconnect_handle(server->recorder, &login->handle) != PRESENCE_OK)
        fprintf(stderr, "api_server: %s: connection %llu could not be removed\n", server->name,
                (unsigned long long)login->id);
    pthread_mutex_unlock(&server->mutex);
    login_free(login);
}

/* ------------------------------------------------------------------------------------------- a server's link -- */

int api_link_down(struct api_server *server, size_t *became_missing)
{
    pthread_mutex_lock(&server->mutex);
    int code = presence_recorder_server_down_because(server->recorder, server->name, PRESENCE_REASON_SERVER_DOWN,
                                                     became_missing);
    if (code == PRESENCE_OK)
        server->link_up = false;
    pthread_mutex_unlock(&server->mutex);
    return code;
}

/* With the server's mutex held: agents that logged in meanwhile have no handle yet. */
static void refresh_handles(struct api_server *server)
{
    for (struct api_login *login = server->logins; login != NULL; login = login->next)
        presence_recorder_find_handle(server->recorder, server->name, login->id, &login->handle);
}

int api_link_up(struct api_server *server, size_t *listed, presence_error *error)
{
    int code = PRESENCE_E_NO_MEMORY;
    pthread_mutex_lock(&server->mutex);
    presence_value *values = calloc(server->login_count + 1, sizeof *values); /* + 1: never of 0 bytes */
    if (values == NULL)
        goto out;
    size_t count = 0;
    for (const struct api_login *login = server->logins; login != NULL; login = login->next)
        values[count++] = login_value(login);
    code = presence_recorder_update_server(server->recorder, server->name, values, count, error);
    if (code != PRESENCE_OK)
        goto out;
    refresh_handles(server);
    server->link_up = true;
    *listed = count;
out:
    pthread_mutex_unlock(&server->mutex);
    free(values);
    return code;
}

int api_drain(struct api_server *server)
{
    pthread_mutex_lock(&server->mutex);
    int code = presence_recorder_server_down_because(server->recorder, server->name, PRESENCE_REASON_DRAINED, NULL);
    server->link_up = false;
    pthread_mutex_unlock(&server->mutex);
    return code;
}

/* ---------------------------------------------------------------------------------------- following changes -- */

/* The watch was too slow. What it missed is lost to the printed log, but not to the record: take a view, tell how
 * things stand, and follow from its revision. The old watch is freed last, because the history is kept only while one
 * is open. */
static int start_over(struct api_follower *follower, presence_error *error)
{
    presence_connections *view = presence_recorder_connections(follower->recorder);
    if (view == NULL)
        return PRESENCE_E_NO_MEMORY;
    presence_watch_options options;
    presence_watch_options_init(&options);
    options.from_now = false;
    options.after_revision = presence_connections_revision(view);
    presence_watch *watch = NULL;
    int code = presence_watch_open(follower->recorder, &options, &watch, error);
    if (code == PRESENCE_OK) {
        presence_watch_free(follower->watch);
        follower->watch = watch;
        fprintf(follower->out, "changes were missed; the record at change %llu:\n",
                (unsigned long long)options.after_revision);
        code = report_connections(follower->out, view);
    }
    presence_connections_free(view);
    return code;
}

/* Prints all that is pending. False when following has to end. */
static bool print_pending(struct api_follower *follower)
{
    presence_event event;
    int code;
    while ((code = presence_watch_next(follower->watch, &event)) == 1)
        report_event(follower->out, &event);
    while (code == PRESENCE_E_LAGGED) { /* again, if a storm outran the new watch too */
        presence_error error;
        code = start_over(follower, &error);
    }
    fflush(follower->out);
    if (code == PRESENCE_OK) /* which is also "nothing is pending" */
        return true;
    fprintf(stderr, "api_server: changes are no longer followed: %s\n", presence_strerror(code));
    return false;
}

static void *follow(void *context)
{
    struct api_follower *follower = context;
    struct pollfd waited[] = {{.fd = presence_watch_fd(follower->watch), .events = POLLIN},
                              {.fd = follower->stop_fd, .events = POLLIN}};
    bool going = true;
    while (going) {
        if (poll(waited, 2, -1) < 0 && errno != EINTR)
            break;
        bool stopping = waited[1].revents != 0; /* looked at first: what came before the stop is printed */
        going = print_pending(follower) && !stopping;
        if (going)
            waited[0].fd = presence_watch_fd(follower->watch); /* starting over opened another */
    }
    return NULL;
}

int api_follower_start(struct api_follower *follower, presence_recorder *recorder, FILE *out, presence_error *error)
{
    *follower = (struct api_follower){.recorder = recorder, .out = out};
    int code = presence_watch_open(recorder, NULL, &follower->watch, error);
    if (code != PRESENCE_OK)
        return code;
    follower->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (follower->stop_fd < 0)
        goto fail;
    int problem = pthread_create(&follower->thread, NULL, follow, follower);
    if (problem == 0)
        return PRESENCE_OK;
    errno = problem;
fail:
    *error = (presence_error){.code = PRESENCE_E_SYSTEM};
    snprintf(error->message, sizeof error->message, "cannot follow changes: %s", strerror(errno));
    presence_watch_free(follower->watch);
    if (follower->stop_fd >= 0)
        close(follower->stop_fd);
    return PRESENCE_E_SYSTEM;
}

void api_follower_stop(struct api_follower *follower)
{
    eventfd_write(follower->stop_fd, 1);
    pthread_join(follower->thread, NULL);
    close(follower->stop_fd);
    presence_watch_free(follower->watch);
}
