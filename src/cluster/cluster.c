/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.c - joining a cluster: a thread that turns a step function and its transport, and the calls of other threads.
 *
 * A turn: wait for the socket, for what the recorder has to say, for other threads or for the time; read from NATS
 * without any lock; with the lock give the step what came and let it do what is due; write to NATS; call back. Three
 * descriptors need no event library, and a poll of our own leaves the embedding program's libevent, if it has one, as
 * it is.
 *
 * Keeps true: the step is called with the lock held, libnats and callbacks without. A thread that waits for the lock
 * waits for one turn's messages at most. Cost of a turn: O(what came and what is due).
 */
#include "cluster/member.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

_Static_assert((int)PRESENCE_NODE_BYTES == (int)STEP_NODE_BYTES, "a node's name is as long for programs as inside");

enum {
    MOST_NOTES = 1000,      /* lines of log that wait for the callback */
    GOODBYE_MS = 500,       /* how long leaving waits for NATS */
    INTERRUPT_MS = 1000,    /* then the thread is stuck in TLS, and is freed from it */
    FULL_TRANSPORT_MS = 10, /* how often to look while what waits is to become less: writing wakes us as a rule */
    REST_US = 1000          /* while many changes are stated: so long they are gathered before the next message */
};

enum note_kind { NOTE_LOG, NOTE_SUPERSEDED, NOTE_REFUSED };

struct note {
    struct note *next;
    enum note_kind kind;
    presence_cluster_level level;
    const char *event;
    presence_claim by;
    char *text, *node; /* of SUPERSEDED: the server, and the node */
};

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t cluster_now(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

/* The wall clock's time of a monotonic one. */
static presence_time wall_time(uint64_t then)
{
    return (presence_time)read_clock(CLOCK_REALTIME) - (presence_time)(cluster_now() - then);
}

void cluster_wake(struct presence_cluster *cluster)
{
    uint64_t one = 1;
    ssize_t written = write(cluster->wake, &one, sizeof one);
    (void)written; /* full: it is awake */
}

bool cluster_await(struct presence_cluster *cluster, uint64_t until)
{
    uint64_t now = cluster_now();
    if (now >= until)
        return false;
    uint64_t at = read_clock(CLOCK_MONOTONIC) + (until - now);
    struct timespec deadline = {(time_t)(at / UINT64_C(1000000000)), (long)(at % UINT64_C(1000000000))};
    pthread_cond_timedwait(&cluster->changed, &cluster->lock, &deadline);
    return true;
}

static int set_error(presence_error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int set_error(presence_error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    error->code = code;
    return code;
}

/* --------------------------------------------------------------------------------------------------------- notes -- */

/* With the lock held. */
static void add_note(struct presence_cluster *cluster, struct note note, const char *text, const char *node)
{
    if (note.kind == NOTE_LOG && cluster->note_count >= MOST_NOTES) {
        cluster->notes_dropped++;
        return;
    }
    struct note *kept = malloc(sizeof *kept);
    if (!kept)
        return;
    *kept = note;
    kept->text = strdup(text ? text : "");
    kept->node = strdup(node ? node : "");
    *cluster->notes_end = kept;
    cluster->notes_end = &kept->next;
    cluster->note_count++;
}

static struct note *take_notes(struct presence_cluster *cluster)
{
    struct note *notes = cluster->notes;
    cluster->notes = NULL;
    cluster->notes_end = &cluster->notes;
    cluster->note_count = 0;
    return notes;
}

static void call_back(struct presence_cluster *cluster, const struct note *note)
{
    const char *text = note->text ? note->text : "", *node = note->node ? note->node : "";
    presence_error why = {PRESENCE_E_DUPLICATE, ""};
    switch (note->kind) {
    case NOTE_LOG:
        if (cluster->log)
            cluster->log(cluster->context, note->level, note->event, text);
        return;
    case NOTE_SUPERSEDED:
        if (cluster->superseded)
            cluster->superseded(cluster->context, text, &note->by, node);
        return;
    case NOTE_REFUSED:
        snprintf(why.message, sizeof why.message, "%s", text);
        if (cluster->refused)
            cluster->refused(cluster->context, &why);
        return;
    }
}

static void deliver(struct presence_cluster *cluster, struct note *notes)
{
    while (notes) {
        struct note *next = notes->next;
        call_back(cluster, notes);
        free(notes->text);
        free(notes->node);
        free(notes);
        notes = next;
    }
}

/* What the step says, with the lock held; its table's context is the transport. */
static void on_superseded(void *context, const char *server, const presence_claim *by, const char *node)
{
    add_note(nats_transport_owner(context), (struct note){.kind = NOTE_SUPERSEDED, .by = *by}, server, node);
}

static void on_log(void *context, enum step_level level, const char *event, const char *text)
{
    struct presence_cluster *cluster = nats_transport_owner(context);
    if (cluster->log)
        add_note(cluster, (struct note){.level = (presence_cluster_level)level, .event = event}, text, NULL);
}

static void on_apply(void *context, struct step_job *job)
{
    struct presence_cluster *cluster = nats_transport_owner(context);
    jobs_add(&cluster->jobs, job);
}

static void on_double_name(void *context)
{
    struct presence_cluster *cluster = nats_transport_owner(context);
    if (cluster->is_refused)
        return;
    cluster->is_refused = true;
    char text[PRESENCE_ERROR_MESSAGE_BYTES];
    snprintf(text, sizeof text, "another process of the cluster has the name of this node, \"%s\"", cluster->node);
    add_note(cluster, (struct note){.kind = NOTE_REFUSED}, text, NULL);
}

/* What the transport says, on the cluster's thread without the lock. */
static void on_transport_log(void *owner, enum step_level level, const char *event, const char *text)
{
    struct presence_cluster *cluster = owner;
    if (cluster->log)
        cluster->log(cluster->context, (presence_cluster_level)level, event, text);
}

/* ---------------------------------------------------------------------------------------------------- the thread -- */

enum { FD_WAKE, FD_RECORDER, FD_NATS, FD_COUNT };

/* Waits for the first that comes; true: NATS' socket is ready. */
static bool wait_for_work(struct presence_cluster *cluster, uint64_t due)
{
    struct pollfd descriptors[FD_COUNT] = {{.fd = cluster->wake, .events = POLLIN}, {.fd = -1}, {.fd = -1}};
    uint64_t now = cluster_now();
    uint64_t transport_due = nats_transport_poll(cluster->transport, now, &descriptors[FD_NATS]);
    if (now < cluster->rests_until)
        due = due < cluster->rests_until ? due : cluster->rests_until;
    else if (nats_transport_waiting(cluster->transport) < STEP_MOST_WAITING)
        descriptors[FD_RECORDER] = (struct pollfd){.fd = step_descriptor(cluster->step), .events = POLLIN};
    else if (due < now + FULL_TRANSPORT_MS * MS)
        due = now + FULL_TRANSPORT_MS * MS; /* it has more to send, but must not yet */
    if (transport_due < due)
        due = transport_due;
    uint64_t wait = due > now ? due - now : 0;
    if (wait > 60000 * MS)
        wait = 60000 * MS;
    struct timespec time = {(time_t)(wait / UINT64_C(1000000000)), (long)(wait % UINT64_C(1000000000))};
    if (ppoll(descriptors, FD_COUNT, &time, NULL) <= 0)
        return false;
    if (descriptors[FD_WAKE].revents) {
        uint64_t count;
        ssize_t got = read(cluster->wake, &count, sizeof count);
        (void)got;
    }
    return descriptors[FD_NATS].revents != 0;
}

/* With the lock held. */
static void note_changes(struct presence_cluster *cluster)
{
    bool ready = step_ready(cluster->step);
    if (ready != cluster->was_ready || cluster->is_refused)
        pthread_cond_broadcast(&cluster->changed);
    cluster->was_ready = ready;
}

/* One turn; returns when the next is due. */
static uint64_t turn(struct presence_cluster *cluster, bool readable)
{
    bool up;
    uint64_t now = cluster_now(), due;
    nats_transport_read(cluster->transport, now, readable, &up);
    pthread_mutex_lock(&cluster->lock);
    step_link(cluster->step, cluster_now(), up);
    const void *bytes;
    size_t length;
    while (!cluster->is_refused && (bytes = nats_transport_next(cluster->transport, &length)))
        step_receive(cluster->step, cluster_now(), bytes, length);
    for (struct step_job *job; (job = jobs_take(&cluster->jobs));)
        step_applied(cluster->step, cluster_now(), job);
    due = step_run(cluster->step, cluster_now());
    cluster->rests_until = step_rests(cluster->step) ? cluster_now() + REST_US * UINT64_C(1000) : 0;
    note_changes(cluster);
    bool refused = cluster->is_refused;
    struct note *notes = take_notes(cluster);
    pthread_mutex_unlock(&cluster->lock);
    if (refused) /* with what it was about to say */
        nats_transport_stop(cluster->transport);
    nats_transport_write(cluster->transport, cluster_now());
    atomic_store_explicit(&cluster->last_turn, cluster_now(), memory_order_relaxed);
    deliver(cluster, notes);
    return due;
}

/* Says what is to be said at the end, and waits until NATS has it. */
static void say_goodbye(struct presence_cluster *cluster)
{
    nats_transport_last_words(cluster->transport);
    pthread_mutex_lock(&cluster->lock);
    step_leave(cluster->step, cluster_now());
    struct note *notes = take_notes(cluster);
    pthread_mutex_unlock(&cluster->lock);
    deliver(cluster, notes);
    uint64_t until = cluster_now() + GOODBYE_MS * MS;
    for (;;) {
        nats_transport_write(cluster->transport, cluster_now());
        if (nats_transport_is_settled(cluster->transport) || cluster_now() >= until)
            break;
        struct pollfd descriptor;
        nats_transport_poll(cluster->transport, cluster_now(), &descriptor);
        bool up, readable = poll(&descriptor, 1, FULL_TRANSPORT_MS) > 0;
        nats_transport_read(cluster->transport, cluster_now(), readable, &up);
        size_t length;
        while (nats_transport_next(cluster->transport, &length))
            ; /* the step is silent, and deaf to it; own beats are counted on the way */
    }
    nats_transport_stop(cluster->transport);
}

static void *run(void *argument)
{
    struct presence_cluster *cluster = argument;
    uint64_t due = 0;
    for (;;) {
        pthread_mutex_lock(&cluster->lock);
        bool leaving = cluster->leaving;
        pthread_mutex_unlock(&cluster->lock);
        if (leaving)
            break;
        due = turn(cluster, wait_for_work(cluster, due));
    }
    say_goodbye(cluster);
    nats_ReleaseThreadMemory();
    pthread_mutex_lock(&cluster->lock);
    cluster->ended = true;
    pthread_cond_broadcast(&cluster->changed);
    pthread_mutex_unlock(&cluster->lock);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- joining, leaving -- */

void presence_cluster_config_init(presence_cluster_config *config)
{
    struct step_config usual;
    step_config_default(&usual);
    *config = (presence_cluster_config){
        .struct_bytes = sizeof *config,
        .cluster = "presence",
        .urls = "nats://localhost:4222",
        .interval_ms = usual.interval,
        .lease_ms = usual.lease,
        .settle_ms = usual.settle,
        .hold_ms = usual.hold,
        .activity_ms = usual.activity,
        .tombstone_ms = usual.tombstone,
        .forget_after_ms = usual.forget_after,
    };
}

static int start_thread(struct presence_cluster *cluster)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's signals are not for this thread */
    int failed = pthread_create(&cluster->thread, NULL, run, cluster);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void free_cluster(struct presence_cluster *cluster)
{
    jobs_stop(&cluster->jobs);
    step_free(cluster->step);
    nats_transport_free(cluster->transport);
    deliver(cluster, take_notes(cluster));
    gatherings_free(cluster);
    if (cluster->wake >= 0)
        close(cluster->wake);
    pthread_cond_destroy(&cluster->changed);
    pthread_mutex_destroy(&cluster->lock);
    free(cluster);
}

static void wake_from_job(void *context)
{
    cluster_wake(context);
}

static struct presence_cluster *make_cluster(presence_recorder *recorder, const presence_cluster_config *config)
{
    struct presence_cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster)
        return NULL;
    cluster->recorder = recorder;
    cluster->context = config->context;
    cluster->superseded = config->superseded;
    cluster->log = config->log;
    cluster->refused = config->refused;
    cluster->interval = config->interval_ms * MS;
    cluster->lease = config->lease_ms * MS;
    cluster->notes_end = &cluster->notes;
    snprintf(cluster->node, sizeof cluster->node, "%s", config->node ? config->node : "");
    pthread_mutex_init(&cluster->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cluster->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    cluster->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cluster->last_turn = cluster_now();
    jobs_init(&cluster->jobs, wake_from_job, cluster);
    return cluster;
}

static int make_transport(struct presence_cluster *cluster, const presence_cluster_config *config,
                          presence_error *error)
{
    struct nats_config nats = {.cluster = config->cluster,
                               .node = config->node,
                               .link = {.urls = config->urls,
                                        .user = config->user,
                                        .password = config->password,
                                        .token = config->token,
                                        .credentials_file = config->credentials_file,
                                        .tls = config->tls,
                                        .tls_ca = config->tls_ca,
                                        .tls_certificate = config->tls_certificate,
                                        .tls_key = config->tls_key},
                               .lease_ms = config->lease_ms,
                               .owner = cluster,
                               .log = on_transport_log};
    cluster->transport = nats_transport_new(&nats, cluster->wake, error);
    return cluster->transport ? PRESENCE_OK : PRESENCE_E_INVALID;
}

static int make_step(struct presence_cluster *cluster, const presence_cluster_config *config, presence_error *error)
{
    struct step_config step;
    step_config_default(&step);
    step.node = config->node;
    step.interval = config->interval_ms;
    step.lease = config->lease_ms;
    step.settle = config->settle_ms;
    step.hold = config->hold_ms;
    step.activity = config->activity_ms;
    step.tombstone = config->tombstone_ms;
    step.forget_after = config->forget_after_ms;
    if (getrandom(&step.seed, sizeof step.seed, 0) != sizeof step.seed)
        return set_error(error, PRESENCE_E_SYSTEM, "the system gives no random bytes");
    struct step_output output = {
        .superseded = on_superseded, .log = on_log, .apply = on_apply, .double_name = on_double_name};
    nats_transport_output(cluster->transport, &output);
    cluster->step = step_new(&step, cluster->recorder, &output, cluster_now(), error);
    return cluster->step ? PRESENCE_OK : PRESENCE_E_INVALID;
}

presence_cluster *presence_cluster_join(presence_recorder *recorder, const presence_cluster_config *config,
                                        presence_error *error)
{
    if (!recorder || !config || config->struct_bytes != sizeof *config) {
        set_error(error, PRESENCE_E_INVALID, "%s",
                  !recorder || !config ? "no recorder or no configuration is given"
                                       : "struct_bytes is not that of this library: presence_cluster_config_init");
        return NULL;
    }
    if (!presence_recorder_is_enabled(recorder)) {
        set_error(error, PRESENCE_E_DISABLED, "%s", presence_strerror(PRESENCE_E_DISABLED));
        return NULL;
    }
    struct presence_cluster *cluster = make_cluster(recorder, config);
    if (!cluster) {
        set_error(error, PRESENCE_E_NO_MEMORY, "%s", presence_strerror(PRESENCE_E_NO_MEMORY));
        return NULL;
    }
    if (cluster->wake < 0)
        set_error(error, PRESENCE_E_SYSTEM, "the system gives no descriptor");
    else if (make_transport(cluster, config, error) == PRESENCE_OK &&
             make_step(cluster, config, error) == PRESENCE_OK) {
        if (start_thread(cluster) == 0)
            return cluster;
        set_error(error, PRESENCE_E_SYSTEM, "the system gives no thread");
    }
    free_cluster(cluster);
    return NULL;
}

void presence_cluster_leave(presence_cluster *cluster)
{
    if (!cluster)
        return;
    pthread_mutex_lock(&cluster->lock);
    cluster->leaving = true;
    cluster_wake(cluster);
    uint64_t until = cluster_now() + INTERRUPT_MS * MS;
    while (!cluster->ended && cluster_await(cluster, until))
        ;
    bool ended = cluster->ended;
    pthread_mutex_unlock(&cluster->lock);
    if (!ended)
        nats_transport_interrupt(cluster->transport);
    pthread_join(cluster->thread, NULL);
    free_cluster(cluster);
}

/* ----------------------------------------------------------------------------------------------- claims and such -- */

/* OK, or why a call about this server cannot be made. With the lock held. */
static int check_server(struct presence_cluster *cluster, const char *server)
{
    presence_server_description known;
    if (cluster->is_refused)
        return PRESENCE_E_DUPLICATE;
    int code = server ? presence_replica_describe(cluster->recorder, server, &known) : PRESENCE_E_INVALID;
    return code == PRESENCE_E_NOT_FOUND ? PRESENCE_OK : code;
}

int presence_cluster_claim(presence_cluster *cluster, const char *server, bool has_epoch, uint64_t epoch)
{
    pthread_mutex_lock(&cluster->lock);
    int code = check_server(cluster, server);
    if (code == PRESENCE_OK)
        code = step_claim(cluster->step, cluster_now(), server, has_epoch, epoch);
    pthread_mutex_unlock(&cluster->lock);
    cluster_wake(cluster);
    return code;
}

int presence_cluster_forget(presence_cluster *cluster, const char *server)
{
    pthread_mutex_lock(&cluster->lock);
    int code = check_server(cluster, server);
    if (code == PRESENCE_OK)
        code = step_forget(cluster->step, cluster_now(), server);
    pthread_mutex_unlock(&cluster->lock);
    cluster_wake(cluster);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- looking -- */

const char *presence_doubt_string(presence_doubt doubt)
{
    static const char *const names[] = {"fresh", "joining", "deaf", "silent"};
    return (unsigned)doubt < sizeof names / sizeof names[0] ? names[doubt] : "";
}

/* A thread that does not come round (a callback that waits, a connection that hangs) hears nothing either. */
static bool is_stuck(struct presence_cluster *cluster, uint64_t *turned)
{
    uint64_t now = cluster_now();
    *turned = atomic_load_explicit(&cluster->last_turn, memory_order_relaxed);
    return now > *turned + cluster->lease + cluster->interval;
}

bool presence_cluster_all_fresh(presence_cluster *cluster)
{
    uint64_t turned;
    pthread_mutex_lock(&cluster->lock);
    bool fresh = step_all_fresh(cluster->step);
    pthread_mutex_unlock(&cluster->lock);
    return fresh && !is_stuck(cluster, &turned);
}

int presence_cluster_freshness(presence_cluster *cluster, const char *server, presence_freshness *freshness)
{
    if (!freshness)
        return PRESENCE_E_INVALID;
    struct step_freshness step;
    uint64_t turned;
    bool stuck = is_stuck(cluster, &turned);
    pthread_mutex_lock(&cluster->lock);
    step_freshness(cluster->step, cluster_now(), server, &step);
    pthread_mutex_unlock(&cluster->lock);
    bool ours = strcmp(step.node, cluster->node) == 0;
    if (step.doubt == STEP_FRESH && !ours && stuck) {
        step.doubt = STEP_DEAF;
        step.since = turned;
    }
    *freshness = (presence_freshness){.doubt = (presence_doubt)step.doubt};
    freshness->since = step.doubt == STEP_FRESH ? 0 : wall_time(step.since);
    memcpy(freshness->node, step.node, sizeof freshness->node);
    return PRESENCE_OK;
}

bool presence_cluster_is_ready(presence_cluster *cluster)
{
    pthread_mutex_lock(&cluster->lock);
    bool ready = step_ready(cluster->step);
    pthread_mutex_unlock(&cluster->lock);
    return ready;
}

int presence_cluster_wait(presence_cluster *cluster, uint32_t timeout_ms, presence_error *error)
{
    uint64_t until = cluster_now() + timeout_ms * MS;
    pthread_mutex_lock(&cluster->lock);
    while (!step_ready(cluster->step) && !cluster->is_refused && cluster_await(cluster, until))
        ;
    bool ready = step_ready(cluster->step), refused = cluster->is_refused;
    pthread_mutex_unlock(&cluster->lock);
    if (refused)
        return set_error(error, PRESENCE_E_DUPLICATE,
                         "another process of the cluster has the name of this node, \"%s\"", cluster->node);
    if (ready)
        return PRESENCE_OK;
    char trouble[LINK_TROUBLE_BYTES];
    nats_transport_trouble(cluster->transport, trouble);
    if (trouble[0])
        return set_error(error, PRESENCE_E_SYSTEM, "no connection to NATS: %.200s", trouble);
    return set_error(error, PRESENCE_E_LAGGED, "connected to NATS, but not everything that others state is here yet");
}

size_t presence_cluster_peers(presence_cluster *cluster, presence_peer *peers, size_t most)
{
    pthread_mutex_lock(&cluster->lock);
    size_t count = step_peers(cluster->step, NULL, 0);
    if (most > count)
        most = count;
    struct step_peer *known = most > 0 ? calloc(most, sizeof *known) : NULL;
    if (known)
        step_peers(cluster->step, known, most);
    pthread_mutex_unlock(&cluster->lock);
    for (size_t i = 0; known && i < most; i++) {
        peers[i] = (presence_peer){.run = known[i].run,
                                   .heard = wall_time(known[i].heard),
                                   .servers = known[i].servers,
                                   .silent = known[i].silent,
                                   .joining = known[i].joining};
        memcpy(peers[i].node, known[i].node, sizeof peers[i].node);
    }
    free(known);
    return most > 0 && !known ? 0 : count;
}

int presence_cluster_stats(presence_cluster *cluster, presence_cluster_counters *counters)
{
    if (!counters || counters->struct_bytes != sizeof *counters)
        return PRESENCE_E_INVALID;
    struct step_counters step;
    struct nats_counters nats;
    pthread_mutex_lock(&cluster->lock);
    step_counters(cluster->step, &step);
    pthread_mutex_unlock(&cluster->lock);
    nats_transport_counters(cluster->transport, &nats);
    *counters = (presence_cluster_counters){
        .struct_bytes = sizeof *counters,
        .connected = nats.up,
        .connects = nats.connects,
        .losses = nats.losses,
        .failures = nats.failures,
        .complaints = nats.complaints,
        .messages_sent = nats.published,
        .messages_received = nats.received,
        .bytes_sent = nats.published_bytes,
        .bytes_received = nats.received_bytes,
        .messages_dropped = nats.dropped,
        .bytes_dropped = nats.dropped_bytes,
        .messages_forged = nats.forged,
        .messages_malformed = step.malformed,
        .messages_of_newer_version = step.foreign_version,
        .waiting_bytes = nats.waiting,
        .beats_sent = step.beats_sent,
        .beats_heard = step.beats_heard,
        .changes_sent = step.changes_sent,
        .changes_applied = step.changes_applied,
        .activity_sent = step.activity_sent,
        .activity_applied = step.activity_applied,
        .states_sent = step.states_sent,
        .states_taken = step.states_taken,
        .gaps = step.gaps,
        .asks = step.asks,
        .refused = step.refused,
        .digest_differences = step.digest_differences,
        .yielded = step.yielded,
        .lapses = step.lapses,
        .restores = step.restores,
    };
    return PRESENCE_OK;
}
