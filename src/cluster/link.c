/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - one connection to NATS: options, the thread that connects, and what libnats asks of an event loop.
 *
 * libnats with an outside event loop: natsConnection_Publish only fills a buffer, which has no bound, and asks by
 * `wants_write` to be called when the socket takes bytes; natsConnection_ProcessReadEvent parses what came and puts
 * messages on their subscriptions' lists. So no thread stands between the socket and who drives the link. The adapter
 * that comes with libnats is not used: it registers events of libevent from whichever thread it happens to be called
 * on, and frees them under libnats' lock, which the loop may be waiting for.
 *
 * Keeps true: the owner alone touches a connection that is up. Cost: O(bytes).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cluster/link.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 128 * 1024, MOST_URLS = 64, PATIENCE_NS = 100000000 };

struct link {
    pthread_mutex_t lock;
    unsigned holders; /* the owner, the thread that connects, libnats */
    enum link_state state;
    pthread_t thread; /* that connects; the owner's to join or detach */
    bool abandoned;   /* the owner let go */
    bool tls;
    int wake;
    natsOptions *options;
    natsConnection *connection;
    int socket; /* -1: none */
    bool wants_write;
    bool has_trouble;
    char trouble[LINK_TROUBLE_BYTES];
};

/* ------------------------------------------------------------------------------------------------------- options -- */

/* What libnats said last on this thread, without the place in its code. */
static const char *nats_said(void)
{
    const char *text = nats_GetLastError(NULL), *end = text ? strstr(text, "): ") : NULL;
    return text && text[0] == '(' && end ? end + 3 : text;
}

static int invalid(presence_error *error, const char *what, const char *value)
{
    if (error) {
        const char *why = nats_said();
        error->code = PRESENCE_E_INVALID;
        snprintf(error->message, sizeof error->message, "%s%s%s%s%s%s", what, value ? " \"" : "", value ? value : "",
                 value ? "\"" : "", why && why[0] ? ": " : "", why ? why : "");
    }
    return PRESENCE_E_INVALID;
}

static int set_urls(natsOptions *options, const char *urls, presence_error *error)
{
    char *copy = strdup(urls), *rest = copy;
    const char *list[MOST_URLS];
    int count = 0;
    for (char *url; copy && (url = strsep(&rest, ",")) != NULL;)
        if (url[strspn(url, " ")] != '\0' && count < MOST_URLS)
            list[count++] = url + strspn(url, " ");
    natsStatus status = !copy        ? NATS_NO_MEMORY
                        : count == 0 ? NATS_INVALID_ARG
                                     : natsOptions_SetServers(options, list, count);
    free(copy);
    return status == NATS_OK ? PRESENCE_OK : invalid(error, "cannot use the NATS URLs", NULL);
}

static bool wants_tls(const struct link_config *config)
{
    return config->tls || config->tls_ca || config->tls_certificate || strstr(config->urls, "tls://");
}

static int set_tls(natsOptions *options, const struct link_config *config, presence_error *error)
{
    if (!wants_tls(config))
        return PRESENCE_OK;
    if (natsOptions_SetSecure(options, true) != NATS_OK)
        return invalid(error, "cannot use TLS", NULL);
    if (config->tls_ca && natsOptions_LoadCATrustedCertificates(options, config->tls_ca) != NATS_OK)
        return invalid(error, "cannot load the certificates of authorities", config->tls_ca);
    if (config->tls_certificate &&
        natsOptions_LoadCertificatesChain(options, config->tls_certificate, config->tls_key) != NATS_OK)
        return invalid(error, "cannot load the certificate and its key", config->tls_certificate);
    return PRESENCE_OK;
}

static int set_who(natsOptions *options, const struct link_config *config, presence_error *error)
{
    natsStatus status = NATS_OK;
    if (config->user)
        status = natsOptions_SetUserInfo(options, config->user, config->password ? config->password : "");
    if (status == NATS_OK && config->token)
        status = natsOptions_SetToken(options, config->token);
    if (status == NATS_OK && config->credentials_file) {
        if (access(config->credentials_file, R_OK) != 0)
            return invalid(error, "cannot read the credentials", config->credentials_file);
        status = natsOptions_SetUserCredentialsFromFiles(options, config->credentials_file, NULL);
    }
    return status == NATS_OK ? PRESENCE_OK : invalid(error, "cannot use these credentials", NULL);
}

/* A machine that is gone without a word is noticed within about ten seconds, also while libnats waits for the rest of a
 * TLS record. */
static void notice_the_dead(int descriptor)
{
    int on = 1, seconds = 3, times = 3, milliseconds = 10000;
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
}

/* What an event loop would do. The loop's thread may not be ours here: only note it. */
static natsStatus attach(void **user, void *loop, natsConnection *connection, natsSock socket)
{
    struct link *link = loop;
    (void)connection;
    notice_the_dead((int)socket);
    pthread_mutex_lock(&link->lock);
    link->socket = (int)socket;
    link->wants_write = false;
    pthread_mutex_unlock(&link->lock);
    *user = link;
    return NATS_OK;
}

static natsStatus want_read(void *user, bool wanted)
{
    struct link *link = user;
    if (!wanted) { /* libnats closes the socket after this */
        pthread_mutex_lock(&link->lock);
        link->socket = -1;
        pthread_mutex_unlock(&link->lock);
    }
    return NATS_OK;
}

static natsStatus want_write(void *user, bool wanted)
{
    struct link *link = user;
    pthread_mutex_lock(&link->lock);
    link->wants_write = wanted;
    pthread_mutex_unlock(&link->lock);
    return NATS_OK;
}

static natsStatus detach(void *user)
{
    return want_read(user, false);
}

static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *closure);
static void on_closed(natsConnection *connection, void *closure);

/* `link` may be NULL: only to see whether the options are good. */
static int make_options(natsOptions **out, const struct link_config *config, struct link *link, presence_error *error)
{
    natsOptions *options = NULL;
    *out = NULL;
    if (natsOptions_Create(&options) != NATS_OK)
        return invalid(error, "cannot start libnats", NULL);
    int code = set_urls(options, config->urls, error);
    if (code == PRESENCE_OK)
        code = set_who(options, config, error);
    if (code == PRESENCE_OK)
        code = set_tls(options, config, error);
    natsStatus status = NATS_OK;
    if (code == PRESENCE_OK) {
        status = natsOptions_SetName(options, config->name);
        natsOptions_SetTimeout(options, config->timeout_ms);
        natsOptions_SetAllowReconnect(options, false);
        natsOptions_SetIgnoreDiscoveredServers(options, true);
        natsOptions_SetPingInterval(options, 0);
        natsOptions_SetIOBufSize(options, BUFFER_BYTES);
        natsOptions_SetSendAsap(options, true);
        natsOptions_SetErrorHandler(options, on_error, link);
        natsOptions_SetClosedCB(options, on_closed, link);
        if (status == NATS_OK && link)
            status = natsOptions_SetEventLoop(options, link, attach, want_read, want_write, detach);
    }
    if (status != NATS_OK)
        code = invalid(error, "cannot prepare libnats", NULL);
    if (code != PRESENCE_OK)
        natsOptions_Destroy(options);
    else
        *out = options;
    return code;
}

int link_check(const struct link_config *config, presence_error *error)
{
    natsOptions *options;
    int code = make_options(&options, config, NULL, error);
    natsOptions_Destroy(options);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ counting -- */

static void let_go(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    bool last = --link->holders == 0;
    pthread_mutex_unlock(&link->lock);
    if (!last)
        return;
    natsOptions_Destroy(link->options);
    close(link->wake);
    pthread_mutex_destroy(&link->lock);
    free(link);
}

static void wake(struct link *link)
{
    uint64_t one = 1;
    ssize_t written = write(link->wake, &one, sizeof one);
    (void)written; /* full: its owner is about to wake anyway */
}

/* With the lock held. */
static void note_trouble(struct link *link, const char *text, natsStatus status)
{
    snprintf(link->trouble, sizeof link->trouble, "%s", text && text[0] ? text : natsStatus_GetText(status));
    link->has_trouble = true;
}

/* On a thread of libnats: what the server refused (rights), and what libnats could not do. */
static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *closure)
{
    struct link *link = closure;
    (void)subscription;
    const char *text = NULL;
    natsConnection_GetLastError(connection, &text);
    pthread_mutex_lock(&link->lock);
    note_trouble(link, text, status);
    pthread_mutex_unlock(&link->lock);
    wake(link);
}

/* The last that libnats calls for a connection that once was up: the hold of who connected is now libnats'. */
static void on_closed(natsConnection *connection, void *closure)
{
    (void)connection;
    let_go(closure);
}

/* ---------------------------------------------------------------------------------------------------- connecting -- */

static void *connect_to_nats(void *argument)
{
    struct link *link = argument;
    natsConnection *connection = NULL;
    natsStatus status = natsConnection_Connect(&connection, link->options);
    char said[LINK_TROUBLE_BYTES] = "";
    if (status != NATS_OK) {
        const char *text = nats_said();
        snprintf(said, sizeof said, "%s", text ? text : "");
        natsOptions_Destroy(link->options); /* nobody else looks at them */
        link->options = NULL;
    }
    /* Before it says how it went: whoever hears that may end the process, and with it the libraries that this uses. */
    nats_ReleaseThreadMemory();
    pthread_mutex_lock(&link->lock);
    bool abandoned = link->abandoned;
    if (status == NATS_OK && !abandoned) {
        link->connection = connection;
        link->state = LINK_UP;
    } else {
        link->state = LINK_DOWN;
        note_trouble(link, said, status);
    }
    pthread_mutex_unlock(&link->lock);
    wake(link);
    if (status == NATS_OK && abandoned) {
        natsConnection_Destroy(connection);
        nats_ReleaseThreadMemory();
    }
    if (status != NATS_OK)
        let_go(link);
    return NULL;
}

static int start_thread(struct link *link)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's signals are not for this thread */
    int failed = pthread_create(&link->thread, NULL, connect_to_nats, link);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* It has ended, or is about to, or is given a moment; one that a server keeps waiting ends by itself, later. */
static void leave_thread(pthread_t thread, bool connecting)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PATIENCE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (!connecting)
        pthread_join(thread, NULL);
    else if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        pthread_detach(thread);
}

struct link *link_begin(const struct link_config *config, int wake_descriptor, presence_error *error)
{
    struct link *link = calloc(1, sizeof *link);
    if (!link || pthread_mutex_init(&link->lock, NULL) != 0) {
        free(link);
        goto no_memory;
    }
    link->holders = 1;
    link->socket = -1;
    link->tls = wants_tls(config);
    link->wake = fcntl(wake_descriptor, F_DUPFD_CLOEXEC, 0);
    if (link->wake >= 0 && make_options(&link->options, config, link, error) != PRESENCE_OK) {
        let_go(link);
        return NULL;
    }
    link->holders = 2;
    if (link->wake >= 0 && start_thread(link) == 0)
        return link;
    link->holders = 1;
    let_go(link);
no_memory:
    if (error) {
        error->code = PRESENCE_E_NO_MEMORY;
        snprintf(error->message, sizeof error->message, "no memory, descriptor or thread to connect with");
    }
    return NULL;
}

void link_end(struct link *link)
{
    if (!link)
        return;
    pthread_mutex_lock(&link->lock);
    link->abandoned = true;
    bool connecting = link->state == LINK_CONNECTING;
    natsConnection *connection = link->connection;
    link->connection = NULL;
    pthread_mutex_unlock(&link->lock);
    leave_thread(link->thread, connecting);
    if (connection && natsConnection_Buffered(connection) > 0) {
        /* Else libnats would wait for an answer to what it has not sent, which nobody reads. */
        link_interrupt(link);
        natsConnection_ProcessWriteEvent(connection);
    }
    natsConnection_Destroy(connection);
    let_go(link);
}

/* ------------------------------------------------------------------------------------------------ while it is up -- */

enum link_state link_state(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    enum link_state state = link->state;
    pthread_mutex_unlock(&link->lock);
    return state;
}

bool link_trouble(struct link *link, char trouble[LINK_TROUBLE_BYTES])
{
    pthread_mutex_lock(&link->lock);
    bool has = link->has_trouble;
    if (has)
        memcpy(trouble, link->trouble, LINK_TROUBLE_BYTES);
    link->has_trouble = false;
    pthread_mutex_unlock(&link->lock);
    return has;
}

natsConnection *link_connection(struct link *link)
{
    return link->connection;
}

int link_socket(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    int descriptor = link->state == LINK_UP ? link->socket : -1;
    pthread_mutex_unlock(&link->lock);
    return descriptor;
}

bool link_wants_to_write(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    bool wanted = link->wants_write;
    pthread_mutex_unlock(&link->lock);
    return wanted;
}

static void see_whether_closed(struct link *link)
{
    if (!natsConnection_IsClosed(link->connection))
        return;
    const char *text = NULL;
    natsStatus status = natsConnection_GetLastError(link->connection, &text);
    pthread_mutex_lock(&link->lock);
    link->state = LINK_DOWN;
    if (!link->has_trouble)
        note_trouble(link, text, status == NATS_OK ? NATS_CONNECTION_CLOSED : status);
    pthread_mutex_unlock(&link->lock);
}

void link_read(struct link *link)
{
    natsConnection_ProcessReadEvent(link->connection);
    see_whether_closed(link);
}

void link_write(struct link *link)
{
    natsConnection_ProcessWriteEvent(link->connection);
    see_whether_closed(link);
}

bool link_is_tls(struct link *link)
{
    return link->tls;
}

size_t link_waiting(struct link *link)
{
    int bytes = natsConnection_Buffered(link->connection);
    return bytes > 0 ? (size_t)bytes : 0;
}

void link_interrupt(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    if (link->socket >= 0)
        shutdown(link->socket, SHUT_RDWR);
    pthread_mutex_unlock(&link->lock);
}
