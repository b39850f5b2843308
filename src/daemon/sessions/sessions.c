/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessions.c - the table of servers that are held: binding, losing, waiting, and who may write.
 *
 * Keeps true: the holders of a server are of one life; once a larger epoch has bound, no write of a smaller one reaches
 * the recorder (the fence is taken for writing around the claim, and for reading around each write); whatever is due is
 * dealt with once, on the first loop; a server that nobody holds and nobody waits for takes no memory; a gateway that
 * closed a connection before it binds on another finds the server as it would if that end had been read.
 *
 * Called by clients' loops. A write of a holder costs a read lock of its own server; one of another client costs two
 * stores and a load while no server is fenced, and a look-up under the mutex else. Binding is a look-up, a system call
 * (one for each holder that has ended) and, with an epoch, a claim and a barrier of all threads: O(1), but the first
 * claim of a server is O(its connections). What is due is found in O(servers held).
 */
#include "sessions/inside.h"

#include "access/principal.h"
#include "base/log.h"
#include "cluster/joined.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ----------------------------------------------------------------------------------------------------- the table -- */

uint64_t sessions_hash(const struct sessions *sessions, const char *server)
{
    uint64_t hash = sessions->node->run; /* random: names are chosen by others */
    for (const unsigned char *c = (const unsigned char *)server; *c; c++)
        hash = (hash ^ *c) * 0x9e3779b97f4a7c15ULL, hash ^= hash >> 29;
    return hash;
}

static struct held **bucket_of(struct sessions *sessions, const char *server)
{
    return &sessions->buckets[sessions_hash(sessions, server) % HELD_BUCKETS];
}

static struct held *find(struct sessions *sessions, const char *server)
{
    for (struct held *held = *bucket_of(sessions, server); held; held = held->next)
        if (strcmp(held->server, server) == 0)
            return held;
    return NULL;
}

static struct held *make(struct sessions *sessions, const char *server)
{
    size_t length = strlen(server) + 1;
    struct held *held = calloc(1, sizeof *held + length);
    if (!held)
        return NULL;
    pthread_rwlockattr_t kind;
    pthread_rwlockattr_init(&kind);
    /* Many holders that write without pause must not keep a new one waiting. */
    pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&held->fence, &kind);
    pthread_rwlockattr_destroy(&kind);
    memcpy(held->server, server, length);
    struct held **bucket = bucket_of(sessions, server);
    held->next = *bucket;
    *bucket = held;
    sessions->count++;
    return held;
}

/* Frees it if it is of no use any more. The mutex is held. */
static void let_go(struct sessions *sessions, struct held *held)
{
    if (--held->references > 0 || held->due[0].at_ms)
        return;
    struct held **link = bucket_of(sessions, held->server);
    while (*link != held)
        link = &(*link)->next;
    *link = held->next;
    sessions->count--;
    pthread_rwlock_destroy(&held->fence);
    free(held);
}

/* The server's entry, made if it is not there, and referred to once more. NULL: no room for it. */
static struct held *refer(struct sessions *sessions, const char *server, bool *full)
{
    pthread_mutex_lock(&sessions->mutex);
    struct held *held = find(sessions, server);
    *full = !held && sessions->count >= 2 * sessions->node->config->max_clients;
    if (!held && !*full)
        held = make(sessions, server);
    if (held)
        held->references++;
    pthread_mutex_unlock(&sessions->mutex);
    return held;
}

static void unrefer(struct sessions *sessions, struct held *held)
{
    pthread_mutex_lock(&sessions->mutex);
    let_go(sessions, held);
    pthread_mutex_unlock(&sessions->mutex);
}

/* After any change of an entry, with the mutex held. */
static void entry_changed(struct sessions *sessions, struct held *held)
{
    bool fenced = held->closing || (held->has_epoch && (held->holders > 0 || held->due[0].at_ms));
    if (fenced != held->fenced)
        atomic_fetch_add(&sessions->fenced, fenced ? 1 : SIZE_MAX);
    held->fenced = fenced;
}

/* ----------------------------------------------------------------------------------------------------- the timer -- */

/* Sets the timer, if it is not set for an earlier time. The mutex is held. */
static void wake_at(struct sessions *sessions, uint64_t at_ms)
{
    if (!at_ms || (sessions->timer_at_ms && sessions->timer_at_ms <= at_ms))
        return;
    struct itimerspec when = {.it_value = {(time_t)(at_ms / 1000), (long)(at_ms % 1000) * 1000000}};
    timerfd_settime(sessions->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    sessions->timer_at_ms = at_ms;
}

static void tell_down(const char *server, presence_reason reason, size_t count)
{
    char number[LOG_NUMBER_BYTES];
    log_event(LOG_LEVEL_INFO, "server down", "server", server, "reason", presence_reason_string(reason), "missing",
              log_number(number, (int64_t)count), NULL);
}

static void take_down(struct sessions *sessions, const char *server, presence_reason reason)
{
    size_t count = 0;
    int code = presence_recorder_server_down_because(sessions->node->recorder, server, reason, &count);
    if (code == PRESENCE_OK)
        tell_down(server, reason, count);
    else if (code != PRESENCE_E_DISABLED && code != PRESENCE_E_STALE) /* stale: another node states it by now */
        log_event(LOG_LEVEL_ERROR, "cannot mark a server down", "server", server, "why", presence_strerror(code), NULL);
}

static void take_down_unstated(struct sessions *sessions, const char *server, uint64_t mark)
{
    size_t count = 0;
    int code = presence_recorder_server_down_unstated(sessions->node->recorder, server, mark, PRESENCE_REASON_TIMED_OUT,
                                                      &count);
    if (code == PRESENCE_OK && count > 0)
        tell_down(server, PRESENCE_REASON_TIMED_OUT, count);
    else if (code && code != PRESENCE_E_DISABLED && code != PRESENCE_E_STALE)
        log_event(LOG_LEVEL_ERROR, "cannot mark connections missing", "server", server, "why", presence_strerror(code),
                  NULL);
}

/* Deals with the first thing that is due of this server. */
static void deal_with(struct sessions *sessions, struct held *held, uint64_t now_ms)
{
    pthread_rwlock_wrlock(&held->fence);
    struct due due = held->due[0];
    if (due.at_ms && due.at_ms <= now_ms) { /* a newer life may have put an end to it */
        if (held->holders > 0 || held->due[1].at_ms)
            take_down_unstated(sessions, held->server, due.mark);
        else
            take_down(sessions, held->server, PRESENCE_REASON_TIMED_OUT);
        pthread_mutex_lock(&sessions->mutex);
        held->due[0] = held->due[1];
        held->due[1] = (struct due){0};
        entry_changed(sessions, held);
        pthread_mutex_unlock(&sessions->mutex);
    }
    pthread_rwlock_unlock(&held->fence);
    unrefer(sessions, held);
}

static struct held *refer_to_due(struct held *held, uint64_t now_ms)
{
    while (held && !(held->due[0].at_ms && held->due[0].at_ms <= now_ms))
        held = held->next;
    if (held)
        held->references++;
    return held;
}

/* Deals with all that is due, and sets the timer for what will be. */
static void deal_with_all(struct sessions *sessions, uint64_t now_ms)
{
    struct held *held;
    pthread_mutex_lock(&sessions->mutex);
    sessions->timer_at_ms = 0;
    wake_at(sessions, sessions->settle_at_ms);
    for (size_t i = 0; i < HELD_BUCKETS; i++) {
        while ((held = refer_to_due(sessions->buckets[i], now_ms))) {
            pthread_mutex_unlock(&sessions->mutex);
            deal_with(sessions, held, now_ms);
            pthread_mutex_lock(&sessions->mutex);
        }
        for (held = sessions->buckets[i]; held; held = held->next)
            wake_at(sessions, held->due[0].at_ms);
    }
    pthread_mutex_unlock(&sessions->mutex);
}

static void settle(struct sessions *sessions)
{
    presence_error error = {0};
    int code = presence_replica_complete(sessions->node->recorder, sessions->name, &error);
    log_event(LOG_LEVEL_DEBUG, "settled", "server", sessions->name, "outcome",
              code ? presence_strerror(code) : "complete", NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)what;
    struct sessions *sessions = context;
    uint64_t times, now_ms = node_now_ms();
    ssize_t got = read(fd, &times, sizeof times); /* empties it */
    (void)got;
    if (atomic_load(&sessions->node->stopping))
        return;
    pthread_mutex_lock(&sessions->mutex);
    bool settled = sessions->settle_at_ms && sessions->settle_at_ms <= now_ms;
    if (settled)
        sessions->settle_at_ms = 0;
    pthread_mutex_unlock(&sessions->mutex);
    deal_with_all(sessions, now_ms);
    if (settled)
        settle(sessions);
}

/* ------------------------------------------------------------------------------------------------ start and stop -- */

static bool set_name(struct sessions *sessions, char *error, size_t error_bytes)
{
    char name[NODE_NAME_BYTES];
    if (!node_choose_name(sessions->node->config, name)) {
        snprintf(error, error_bytes, "--node: wants a name of 1 to %d bytes, and the host has none",
                 NODE_NAME_BYTES - 1);
        return false;
    }
    sessions->node->name = sessions->name = strdup(name);
    return sessions->name != NULL;
}

/* Makes it the node's, by an epoch that is larger than any known, or, where none can be, by a larger turn. */
static int claim_own(struct node *node, const char *server, uint64_t least_epoch)
{
    presence_claim claim = {(uint64_t)node->started / 1000000, 1, node->run};
    presence_server_description known;
    if (claim.epoch < least_epoch)
        claim.epoch = least_epoch;
    int code = presence_replica_describe(node->recorder, server, &known);
    /* A clock that was set back must not make us stale. */
    if (code == PRESENCE_OK && known.claim.epoch >= claim.epoch && known.claim.epoch < UINT64_MAX)
        claim.epoch = known.claim.epoch + 1;
    bool is_last = code == PRESENCE_OK && known.claim.epoch == UINT64_MAX;
    if (node->cluster)
        code = cluster_claim(node, server, !is_last, claim.epoch);
    else if (!is_last)
        code = presence_replica_claim(node->recorder, server, &claim, true);
    else
        code = presence_replica_claim(node->recorder, server,
                                      &(presence_claim){UINT64_MAX, known.claim.turn + 1, node->run}, true);
    /* No life follows that one: it goes on, as ours, without what it had. */
    return code || !is_last ? code : presence_recorder_update_server(node->recorder, server, NULL, 0, NULL);
}

bool sessions_start(struct node *node, char *error, size_t error_bytes)
{
    struct sessions *sessions = calloc(1, sizeof *sessions);
    snprintf(error, error_bytes, "out of memory");
    if (!sessions)
        return false;
    node->sessions = sessions;
    sessions->node = node;
    if (!writers_init(sessions))
        return false;
    pthread_mutex_init(&sessions->mutex, NULL);
    pthread_cond_init(&sessions->committed, NULL);
    sessions->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (sessions->timer_fd < 0) {
        snprintf(error, error_bytes, "cannot make a timer: %s", strerror(errno));
        return false;
    }
    if (!set_name(sessions, error, error_bytes))
        return false;
    sessions->timer =
        event_new(node->loops->loops[0].base, sessions->timer_fd, EV_READ | EV_PERSIST, on_timer, sessions);
    return sessions->timer && event_add(sessions->timer, NULL) == 0;
}

bool sessions_claim_own(struct node *node, char *error, size_t error_bytes)
{
    struct sessions *sessions = node->sessions;
    int code = claim_own(node, sessions->name, 0);
    if (code) {
        snprintf(error, error_bytes, "--node: cannot state the server \"%.64s\": %s", sessions->name,
                 presence_strerror(code));
        return false;
    }
    if (node->cluster)
        return true; /* which completes every server that came to this node */
    sessions->settle_at_ms = node_now_ms() + node->config->settle_time;
    wake_at(sessions, sessions->settle_at_ms);
    return true;
}

void sessions_drain(struct node *node)
{
    size_t count = 0;
    int code = presence_recorder_server_down_because(node->recorder, node->name, PRESENCE_REASON_DRAINED, &count);
    if (code == PRESENCE_OK)
        tell_down(node->name, PRESENCE_REASON_DRAINED, count);
}

void sessions_free(struct node *node)
{
    struct sessions *sessions = node->sessions;
    if (!sessions)
        return;
    if (sessions->timer)
        event_free(sessions->timer);
    if (sessions->timer_fd >= 0)
        close(sessions->timer_fd);
    for (size_t i = 0; i < HELD_BUCKETS; i++)
        for (struct held *held = sessions->buckets[i], *next; held; held = next) {
            next = held->next;
            pthread_rwlock_destroy(&held->fence);
            free(held);
        }
    pthread_cond_destroy(&sessions->committed);
    pthread_mutex_destroy(&sessions->mutex);
    writers_free(sessions);
    free(sessions->name);
    free(sessions);
    node->sessions = NULL;
    node->name = NULL;
}

/* ------------------------------------------------------------------------------------------------------- binding -- */

/* Claims the server for an epoch, unless it is ours already. */
static int claim(struct node *node, const char *server, uint64_t epoch)
{
    presence_server_description known;
    presence_claim wanted = {epoch, 1, node->run};
    if (node->cluster)
        return cluster_claim(node, server, true, epoch);
    int code = presence_replica_describe(node->recorder, server, &known);
    if (code == PRESENCE_OK && known.claim.epoch > epoch)
        return PRESENCE_E_STALE;
    if (code == PRESENCE_OK && known.claim.epoch == epoch && known.claim.turn > 0) {
        if (known.local && known.claim.random == node->run)
            return PRESENCE_OK;
        wanted.turn = known.claim.turn + 1;
    }
    return code && code != PRESENCE_E_NOT_FOUND ? code : presence_replica_claim(node->recorder, server, &wanted, true);
}

/* Whether the wish may be granted, and what the recorder must be told. The fence is held for writing. */
static int grant(struct sessions *sessions, const struct held *held, const struct session_wish *wish, bool *new_life)
{
    bool waited_for = held->holders > 0 || held->due[0].at_ms;
    *new_life = !waited_for;
    if (!presence_recorder_is_enabled(sessions->node->recorder))
        return PRESENCE_E_DISABLED;
    if (waited_for && held->has_epoch && (!wish->has_epoch || wish->epoch < held->epoch))
        return PRESENCE_E_STALE;
    if (!wish->has_epoch)
        return sessions->node->cluster ? cluster_claim_life(sessions->node, held->server) : PRESENCE_OK;
    *new_life = !waited_for || !held->has_epoch || wish->epoch > held->epoch;
    return claim(sessions->node, held->server, wish->epoch);
}

/* One holder more, of the present life or of a new one. The fence is held for writing, and the mutex. */
static void add_holder(struct held *held, struct session *session, const struct session_wish *wish, bool new_life)
{
    if (new_life) {
        held->life++;
        held->holders = 0;
        held->first = NULL;
        held->grace_ms = 0;
        held->has_epoch = wish->has_epoch;
        held->epoch = wish->epoch;
        held->due[0] = held->due[1] = (struct due){0};
    }
    if (wish->has_grace)
        held->grace_ms = wish->grace_ms;
    held->holders++;
    session->held = held;
    session->life = held->life;
    session->link = &held->first;
    session->next = held->first;
    if (session->next)
        session->next->link = &session->next;
    held->first = session;
}

static void drop_ended(struct sessions *sessions, struct held *held);
static void drop_others(struct sessions *sessions, struct held *held, const struct session *own);
static void leave(struct sessions *sessions, struct session *session, bool on_purpose);

static void set_closing(struct sessions *sessions, struct held *held, bool closing)
{
    pthread_mutex_lock(&sessions->mutex);
    held->closing = closing;
    entry_changed(sessions, held);
    pthread_mutex_unlock(&sessions->mutex);
}

int sessions_bind(struct client *client, const struct session_wish *wish, presence_error *error)
{
    struct sessions *sessions = client->node->sessions;
    struct session *before = client->session;
    if (strcmp(wish->server, sessions->name) == 0)
        return SESSIONS_E_NODE;
    bool full = false;
    struct session *session = calloc(1, sizeof *session);
    struct held *held = session ? refer(sessions, wish->server, &full) : NULL;
    if (!held) {
        free(session);
        snprintf(error->message, sizeof error->message, "%s",
                 full ? "too many servers are held or waited for" : "out of memory");
        return full ? PRESENCE_E_LIMIT : PRESENCE_E_NO_MEMORY;
    }
    bool new_life;
    session->socket = client->socket;
    pthread_rwlock_wrlock(&held->fence);
    drop_ended(sessions, held);
    if (wish->has_epoch && !held->fenced) { /* under the fence nobody else changes that */
        set_closing(sessions, held, true);
        writers_wait(sessions, client, held->server);
    }
    int code = grant(sessions, held, wish, &new_life);
    if (code == PRESENCE_OK && wish->takes_over && !new_life) {
        drop_others(sessions, held, before);
        new_life = held->holders == 0 && !held->due[0].at_ms; /* without a grace that was the end of it */
    }
    if (code == PRESENCE_OK) {
        pthread_mutex_lock(&sessions->mutex);
        add_holder(held, session, wish, new_life);
        held->closing = false;
        entry_changed(sessions, held);
        pthread_mutex_unlock(&sessions->mutex);
    } else if (code == PRESENCE_E_STALE) {
        snprintf(error->message, sizeof error->message, "%s",
                 wish->has_epoch ? "a newer epoch of the server is known"
                                 : "the server is held with an epoch, so a session wants one too");
    }
    if (held->closing)
        set_closing(sessions, held, false);
    pthread_rwlock_unlock(&held->fence);
    if (code) {
        unrefer(sessions, held);
        free(session);
        return code;
    }
    client->session = session;
    if (before)
        leave(sessions, before, true); /* of the same server: one of its holders goes, this one stays */
    return PRESENCE_OK;
}

/* -------------------------------------------------------------------------------------------------------- losing -- */

/* The last holder is gone: the server is down, or waited for. The fence is held for writing. */
static struct due last_holder_gone(struct sessions *sessions, const struct held *held, bool on_purpose)
{
    uint64_t mark;
    if (!on_purpose && held->grace_ms > 0 && presence_recorder_mark(sessions->node->recorder, &mark) == PRESENCE_OK)
        return (struct due){node_now_ms() + held->grace_ms, mark};
    take_down(sessions, held->server, on_purpose ? PRESENCE_REASON_DRAINED : PRESENCE_REASON_SERVER_DOWN);
    return (struct due){0};
}

/* So many of the holders are gone, of one kind. The fence is held for writing. */
static void holders_leave(struct sessions *sessions, struct held *held, size_t count, bool on_purpose)
{
    bool last = held->holders == count;
    struct due due = last ? last_holder_gone(sessions, held, on_purpose) : (struct due){0};
    pthread_mutex_lock(&sessions->mutex);
    held->holders -= count;
    if (last && !due.at_ms)
        held->due[0] = held->due[1] = due;
    else if (last)
        held->due[held->due[0].at_ms != 0] = due;
    entry_changed(sessions, held);
    wake_at(sessions, due.at_ms);
    pthread_mutex_unlock(&sessions->mutex);
}

/* Whether the peer has closed, or reset, its side, however much of what it sent before is still unread. */
static bool peer_has_ended(int socket)
{
    struct pollfd asked = {.fd = socket, .events = POLLRDHUP};
    return poll(&asked, 1, 0) == 1 && asked.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/*
 * A gateway that lost its connection may be back on another before the loop of the first has seen its end. It must not
 * be taken for one holder beside another, for then the end of the first would be that of one among several: nothing
 * would be waited for, and what is not stated again would stay alive. So a server is lost by its holders before
 * somebody else binds to it, if all their peers have ended; what they sent and is unread yet is stale. The fence is
 * held for writing.
 */
static void drop_ended(struct sessions *sessions, struct held *held)
{
    for (struct session *each = held->first; each; each = each->next)
        if (!peer_has_ended(each->socket))
            return;
    if (held->first && !atomic_load(&sessions->node->stopping))
        drop_others(sessions, held, NULL);
}

/* The holders but this session, which may be none of them, have lost it. The fence is held for writing. */
static void drop_others(struct sessions *sessions, struct held *held, const struct session *own)
{
    struct session *kept = NULL;
    size_t count = 0;
    for (struct session *each = held->first, *next; each; each = next) {
        next = each->next;
        if (each == own) {
            kept = each;
        } else {
            each->life = 0;
            count++;
        }
    }
    held->first = kept;
    if (kept) {
        kept->next = NULL;
        kept->link = &held->first;
    }
    if (count > 0)
        holders_leave(sessions, held, count, false);
}

/* All its holders have lost it, and nothing is waited for. The fence is held for writing. */
static void end_life(struct sessions *sessions, struct held *held)
{
    for (struct session *each = held->first; each; each = each->next)
        each->life = 0;
    pthread_mutex_lock(&sessions->mutex);
    held->first = NULL;
    held->holders = 0;
    held->life++;
    held->due[0] = held->due[1] = (struct due){0};
    entry_changed(sessions, held);
    pthread_mutex_unlock(&sessions->mutex);
}

static void own_superseded(struct sessions *sessions, const presence_claim *by)
{
    if (atomic_load(&sessions->node->stopping))
        return;
    int code = claim_own(sessions->node, sessions->name, by->epoch < UINT64_MAX ? by->epoch + 1 : by->epoch);
    atomic_fetch_add(&sessions->own_life, 1); /* who has joined is recorded anew when next heard */
    log_event(LOG_LEVEL_WARNING, "own server claimed by another", "server", sessions->name, "outcome",
              code ? presence_strerror(code) : "claimed again", NULL);
}

void sessions_superseded(struct node *node, const char *server, const presence_claim *by, const char *holder)
{
    struct sessions *sessions = node->sessions;
    presence_server_description known;
    if (strcmp(server, sessions->name) == 0) {
        own_superseded(sessions, by);
        return;
    }
    pthread_mutex_lock(&sessions->mutex);
    struct held *held = find(sessions, server);
    if (held)
        held->references++;
    pthread_mutex_unlock(&sessions->mutex);
    if (!held)
        return;
    pthread_rwlock_wrlock(&held->fence);
    /* It may have been claimed back before this was told. */
    if (presence_replica_describe(node->recorder, server, &known) != PRESENCE_OK || !known.local) {
        end_life(sessions, held);
        log_event(LOG_LEVEL_INFO, "session superseded", "server", server, "node", holder, NULL);
    }
    pthread_rwlock_unlock(&held->fence);
    unrefer(sessions, held);
}

/* Ends a session, and frees it. */
static void leave(struct sessions *sessions, struct session *session, bool on_purpose)
{
    struct held *held = session->held;
    pthread_rwlock_wrlock(&held->fence);
    if (session->life == held->life) {
        *session->link = session->next;
        if (session->next)
            session->next->link = session->link;
        if (!atomic_load(&sessions->node->stopping))
            holders_leave(sessions, held, 1, on_purpose);
    }
    pthread_rwlock_unlock(&held->fence);
    unrefer(sessions, held);
    free(session);
}

void sessions_client_gone(struct client *client)
{
    struct session *session = client->session;
    client->session = NULL;
    if (session)
        leave(client->node->sessions, session, client->said_quit);
    if (client->join)
        join_close(client);
    gathering_drop(client);
}

/* ------------------------------------------------------------------------------------------------------- writing -- */

static enum write_answer begin_as_holder(struct sessions *sessions, const struct client *client,
                                         struct session *session)
{
    pthread_rwlock_rdlock(&session->held->fence);
    bool holds = session->life == session->held->life;
    if (holds) {
        writers_begin_held(sessions, client);
        session->writing = !atomic_load_explicit(&sessions->node->stopping, memory_order_acquire);
        if (session->writing)
            return WRITE_ALLOWED;
        writers_end(sessions, client);
    }
    pthread_rwlock_unlock(&session->held->fence);
    return holds ? WRITE_STOPPING : WRITE_STALE;
}

enum write_answer sessions_begin_write(struct client *client, const char *server)
{
    struct sessions *sessions = client->node->sessions;
    struct session *session = client->session;
    if (strcmp(server, sessions->name) == 0)
        return WRITE_OF_NODE;
    if (session && strcmp(session->held->server, server) == 0)
        return begin_as_holder(sessions, client, session);
    writers_begin(sessions, client, server);
    if (atomic_load_explicit(&sessions->node->stopping, memory_order_acquire)) {
        writers_end(sessions, client);
        return WRITE_STOPPING;
    }
    if (atomic_load_explicit(&sessions->fenced, memory_order_acquire) == 0)
        return WRITE_ALLOWED;
    pthread_mutex_lock(&sessions->mutex);
    const struct held *held = find(sessions, server);
    bool fenced = held && held->fenced;
    pthread_mutex_unlock(&sessions->mutex);
    if (!fenced)
        return WRITE_ALLOWED;
    writers_end(sessions, client);
    return WRITE_STALE;
}

void sessions_end_write(struct client *client)
{
    struct session *session = client->session;
    if (session && session->writing) {
        session->writing = false;
        pthread_rwlock_unlock(&session->held->fence);
    }
    writers_end(client->node->sessions, client);
}

bool sessions_held_by_another(struct client *client, const char *server)
{
    struct sessions *sessions = client->node->sessions;
    if (client->session && strcmp(client->session->held->server, server) == 0)
        return false;
    pthread_mutex_lock(&sessions->mutex);
    const struct held *held = find(sessions, server);
    bool in_use = held && (held->holders > 0 || held->due[0].at_ms);
    pthread_mutex_unlock(&sessions->mutex);
    return in_use;
}

bool sessions_permit(const struct client *client, const struct principal *principal)
{
    const struct session *session = client->session;
    return (!session || (principal && principal_may_report(principal, session->held->server))) &&
           join_permits(client->join, principal);
}

const char *write_answer_text(enum write_answer answer)
{
    return answer == WRITE_STALE      ? "another session holds the server, or a newer epoch of it; "
                                        "this connection does not hold the session of that server: say "
                                        "PRESENCE.SESSION first"
           : answer == WRITE_STOPPING ? "this node is stopping"
           : answer == WRITE_OF_NODE  ? "the server is the node's own: agents join it by PRESENCE.JOIN"
                                      : "";
}

size_t sessions_count(struct node *node)
{
    struct sessions *sessions = node->sessions;
    pthread_mutex_lock(&sessions->mutex);
    size_t count = sessions->count;
    pthread_mutex_unlock(&sessions->mutex);
    return count;
}
