/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - presenced: reads its configuration, makes the node, opens the listeners, runs the loops, and puts everything
 * back in the opposite order when SIGTERM or SIGINT comes.
 *
 * Exit status: 0 after a clean stop (and for --help, --version, a good --check-config), 1 where it could not start or
 * run, 2 for a configuration that is wrong.
 */
#include "access/access.h"
#include "base/address.h"
#include "base/log.h"
#include "cluster/joined.h"
#include "commands/answers.h"
#include "commands/command.h"
#include "config/config.h"
#include "http/http.h"
#include "worker/worker.h"
#include "loop/loop.h"
#include "node/node.h"
#include "resp/resp.h"
#include "sessions/sessions.h"
#include "state/state.h"
#include "system/activation.h"
#include "system/notify.h"
#include "watches/feed.h"
#include "watches/listings.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { DESCRIPTORS_BESIDE_CLIENTS = 64 };
enum { CLUSTER_DEPARTURES = 256 * 1024 }; /* for who was cut off; see docs/cluster.md */

enum { SIGNALS = 3 };

struct daemon {
    struct config config;
    struct loops loops;
    struct node node;
    struct resp_side *resp;
    struct http_side *http;
    struct event *signals[SIGNALS];
    struct event *watchdog;
    char refused[256];          /* why the cluster will not have it; "": it will */
    _Atomic size_t loops_alive; /* how many loops have answered the watchdog's last question */
    int argc;
    char **argv; /* read again on SIGHUP */
};

/* Once, on the first loop. */
static void stop(struct daemon *daemon)
{
    resp_side_stop_listening(daemon->resp);
    sessions_stop_writes(&daemon->node);
    if (daemon->node.cluster)
        cluster_leave(&daemon->node);
    else
        sessions_drain(&daemon->node);
    resp_side_close_clients(daemon->resp);
    http_side_close(daemon->http);
    loops_stop(&daemon->loops);
}

static void on_stop_signal(evutil_socket_t number, short what, void *context)
{
    (void)what;
    struct daemon *daemon = context;
    if (atomic_exchange(&daemon->node.stopping, true)) {
        loops_stop(&daemon->loops); /* asked again: at once */
        return;
    }
    notify_stopping();
    log_event(LOG_LEVEL_INFO, "stopping", "signal", strsignal((int)number), NULL);
    stop(daemon);
}

/* --------------------------------------------------------------------------------------------------- the cluster -- */

static void on_superseded(void *context, const char *server, const presence_claim *by, const char *node)
{
    struct daemon *daemon = context;
    sessions_superseded(&daemon->node, server, by, node);
}

static void stop_refused(struct loop *loop, void *context)
{
    (void)loop;
    struct daemon *daemon = context;
    if (!atomic_exchange(&daemon->node.stopping, true))
        stop(daemon);
}

/* The other process of that name was there first: this one ends. */
static void on_refused(void *context, const char *why)
{
    struct daemon *daemon = context;
    snprintf(daemon->refused, sizeof daemon->refused, "--node: %s", why);
    if (!loop_post(&daemon->loops.loops[0], stop_refused, daemon))
        log_event(LOG_LEVEL_ERROR, "cannot stop", "why", why, NULL);
}

static bool join_cluster(struct daemon *daemon, char *error, size_t error_bytes)
{
    const struct cluster_events events = {daemon, on_superseded, on_refused};
    return cluster_start(&daemon->node, &events, error, error_bytes);
}

static uint64_t default_max_clients(void)
{
    struct config_option option;
    for (size_t i = 0; config_option_at(i, &option); i++)
        if (strcmp(option.name, "max-clients") == 0)
            return strtoull(option.fallback, NULL, 10);
    return 0;
}

/* A client takes a descriptor, and one more while it watches. Too few of them are a warning where the operator asked
 * for so many clients, and to be known where it is only the default that does. */
static void raise_descriptors(const struct config *config)
{
    struct rlimit limit;
    rlim_t wanted = 2 * config->max_clients + DESCRIPTORS_BESIDE_CLIENTS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted) {
        char needed[LOG_NUMBER_BYTES], number[LOG_NUMBER_BYTES];
        enum log_level level = config->max_clients == default_max_clients() ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING;
        log_event(level, "few descriptors", "needed", log_number(needed, (int64_t)wanted), "limit",
                  log_number(number, (int64_t)limit.rlim_cur), "hint", "raise RLIMIT_NOFILE or lower max-clients",
                  NULL);
    }
}

static void set_limits(presence_options *options, const struct config *config)
{
    options->limit_connections = config->max_connections;
    options->limit_names = config->max_names;
    options->limit_bytes = config->max_record_bytes;
}

/* Gives the recorder the limits of the configuration as it is now. */
static void limit_record(struct node *node)
{
    presence_options options;
    presence_options_init(&options);
    set_limits(&options, node->config);
    int code = presence_recorder_set_limits(node->recorder, &options);
    if (code)
        log_event(LOG_LEVEL_ERROR, "not reloaded", "option", "max-connections, max-names, max-record-bytes", "why",
                  presence_strerror(code), NULL);
}

/* What a running daemon can take over of a configuration that was read again; says what it did, and what it cannot. */
static void take_over(struct daemon *daemon, const struct config *fresh)
{
    struct config *config = &daemon->config;
    const uint64_t max_clients = config->max_clients;
    const char *name;
    bool taken;
    for (size_t i = 0; (name = config_take_over(config, fresh, &i, &taken));)
        if (taken)
            log_event(LOG_LEVEL_INFO, "option taken over", "option", name, NULL);
        else
            log_event(LOG_LEVEL_WARNING, "not reloaded", "option", name, "why", "wants a restart", NULL);
    log_set_level((enum log_level)config->log_level);
    listings_limit(daemon->node.listings, config->max_listings);
    limit_record(&daemon->node);
    if (config->max_clients != max_clients)
        raise_descriptors(config);
}

/* SIGHUP: what the tokens file and the certificates hold now, log-level, limits. What is bad changes nothing. */
static void on_reload_signal(evutil_socket_t number, short what, void *context)
{
    (void)number, (void)what;
    struct daemon *daemon = context;
    struct config fresh;
    char error[CONFIG_ERROR_BYTES] = "";
    notify_reloading();
    bool good = config_load(&fresh, daemon->argc, daemon->argv, environ, error) &&
                access_reload(daemon->node.access, error, sizeof error);
    if (good) {
        take_over(daemon, &fresh);
        bool told_resp = resp_side_reload(daemon->resp), told_http = http_side_reload(daemon->http);
        if (told_resp && told_http)
            log_event(LOG_LEVEL_INFO, "reloaded", NULL);
        else
            log_event(LOG_LEVEL_ERROR, "not reloaded", "why", "out of memory: a loop was not told; send SIGHUP again",
                      NULL);
    } else {
        log_event(LOG_LEVEL_ERROR, "not reloaded", "why", error, NULL);
    }
    config_free(&fresh);
    notify_ready();
}

static void answer_watchdog(struct loop *loop, void *context)
{
    (void)loop;
    struct daemon *daemon = context;
    atomic_fetch_add(&daemon->loops_alive, 1);
}

/* Tells systemd that all is well if every loop has run since the last time. */
static void on_watchdog(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct daemon *daemon = context;
    if (atomic_load(&daemon->loops_alive) < daemon->loops.count)
        return; /* one of them still owes its answer: it gets until systemd's patience ends */
    notify_send("WATCHDOG=1");
    atomic_store(&daemon->loops_alive, 0);
    for (size_t i = 0; i < daemon->loops.count; i++)
        if (!loop_post(&daemon->loops.loops[i], answer_watchdog, daemon))
            answer_watchdog(NULL, daemon);
}

static bool start_watchdog(struct daemon *daemon, char *error, size_t error_bytes)
{
    uint64_t interval_ms = notify_watchdog_ms();
    if (interval_ms == 0)
        return true;
    struct timeval interval = {(time_t)(interval_ms / 1000), (suseconds_t)(interval_ms % 1000 * 1000)};
    daemon->loops_alive = daemon->loops.count;
    daemon->watchdog = event_new(daemon->loops.loops[0].base, -1, EV_PERSIST, on_watchdog, daemon);
    if (daemon->watchdog && event_add(daemon->watchdog, &interval) == 0)
        return true;
    snprintf(error, error_bytes, "cannot start the watchdog's timer");
    return false;
}

static bool make_node(struct daemon *daemon, char *error, size_t error_bytes)
{
    const struct config *config = &daemon->config;
    struct node *node = &daemon->node;
    struct timespec now;
    presence_options options;
    presence_error problem = {0};
    presence_options_init(&options);
    set_limits(&options, config);
    options.history_bytes = config->history_bytes;
    options.left_agents = config->left_agents;
    options.departures = config->nats[0] ? CLUSTER_DEPARTURES : 0;
    clock_gettime(CLOCK_REALTIME, &now);
    node->started = (presence_time)now.tv_sec * 1000000000 + now.tv_nsec;
    node->config = config;
    node->loops = &daemon->loops;
    node->counters = aligned_alloc(_Alignof(struct counters), daemon->loops.count * sizeof *node->counters);
    node->recorder = presence_recorder_new_with(&options, &problem);
    node->listings = listings_new(config->max_listings, node_now_ms);
    node->answers = answers_new(daemon->loops.count);
    if (!node->listings || !node->answers || !node->counters || !node->recorder ||
        getrandom(&node->run, sizeof node->run, 0) != sizeof node->run) {
        snprintf(error, error_bytes, "cannot make the recorder: %s",
                 *problem.message ? problem.message : "out of memory");
        return false;
    }
    memset(node->counters, 0, daemon->loops.count * sizeof *node->counters);
    presence_recorder_enable(node->recorder);
    return true;
}

static const int signal_numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

/* A stop that was asked for just before the loop could hear of it. */
static volatile sig_atomic_t stop_was_asked;

/* What signals do before libevent catches them, and again when it no longer does: nothing that ends the process, which
 * has the state to write and the cluster to leave. */
static void note_signal(int number)
{
    if (number != SIGHUP)
        stop_was_asked = 1;
}

static bool catch_signals(struct daemon *daemon, char *error, size_t error_bytes)
{
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < SIGNALS; i++) {
        struct sigaction note = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
        sigaction(signal_numbers[i], &note, NULL);
        daemon->signals[i] = evsignal_new(daemon->loops.loops[0].base, signal_numbers[i],
                                          signal_numbers[i] == SIGHUP ? on_reload_signal : on_stop_signal, daemon);
        if (!daemon->signals[i] || event_add(daemon->signals[i], NULL) != 0) {
            snprintf(error, error_bytes, "cannot catch signals");
            return false;
        }
    }
    if (stop_was_asked)
        event_active(daemon->signals[0], EV_SIGNAL, 1);
    return true;
}

/* From here to the end of the process they do not interrupt this thread. Threads of libraries, such as libnats', may
 * take them, and then only note them. */
static void hold_signals(void)
{
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < SIGNALS; i++)
        sigaddset(&held, signal_numbers[i]);
    pthread_sigmask(SIG_BLOCK, &held, NULL);
}

/* False: the state could not be written. */
static bool free_daemon(struct daemon *daemon)
{
    const size_t loops = daemon->loops.count;
    hold_signals();
    for (size_t i = 0; i < SIGNALS; i++)
        if (daemon->signals[i])
            event_free(daemon->signals[i]);
    if (daemon->watchdog)
        event_free(daemon->watchdog);
    worker_stop(&daemon->node);
    if (daemon->resp) {
        resp_side_stop_listening(daemon->resp);
        resp_side_free(daemon->resp);
    }
    http_side_free(daemon->http);
    feeds_free(&daemon->node);
    cluster_free(&daemon->node);
    bool kept = state_close(&daemon->node);
    sessions_free(&daemon->node);
    worker_free(&daemon->node);
    loops_free(&daemon->loops);
    answers_free(daemon->node.answers, loops);
    listings_free(daemon->node.listings);
    presence_recorder_free(daemon->node.recorder);
    free(daemon->node.counters);
    access_free(daemon->node.access);
    return kept;
}

static int run(struct daemon *daemon)
{
    char error[512] = "";
    char number[LOG_NUMBER_BYTES];
    raise_descriptors(&daemon->config);
    bool good = commands_init() && activation_init(error, sizeof error) &&
                (daemon->node.access = access_new(&daemon->config, error, sizeof error)) != NULL &&
                loops_init(&daemon->loops, daemon->config.threads, error, sizeof error) &&
                make_node(daemon, error, sizeof error) && state_open(&daemon->node, error, sizeof error) &&
                sessions_start(&daemon->node, error, sizeof error) && join_cluster(daemon, error, sizeof error) &&
                sessions_claim_own(&daemon->node, error, sizeof error) &&
                feeds_start(&daemon->node, error, sizeof error) && catch_signals(daemon, error, sizeof error) &&
                start_watchdog(daemon, error, sizeof error) && worker_start(&daemon->node, error, sizeof error) &&
                (daemon->resp = resp_side_new(&daemon->node, error, sizeof error)) != NULL &&
                (daemon->http = http_side_new(&daemon->node, error, sizeof error)) != NULL;
    if (good && (good = state_start(&daemon->node, error, sizeof error))) {
        log_event(LOG_LEVEL_INFO, "started", "version", presence_version(), "process",
                  log_number(number, (int64_t)getpid()), NULL);
        notify_ready();
        good = loops_run(&daemon->loops, error, sizeof error);
    }
    bool kept = free_daemon(daemon);
    if (good && (!kept || *daemon->refused)) {
        good = false;
        snprintf(error, sizeof error, "%s", kept ? daemon->refused : "the state could not be written");
    }
    log_event(good ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, good ? "stopped" : "failed", "why", good ? "asked to" : error,
              NULL);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* What the table of options does not know: addresses, and what the named files hold. */
static bool check(const struct config *config, char *error, size_t error_bytes)
{
    static const char *const options[] = {"--resp", "--http"};
    const char *const lists[] = {config->resp, config->http};
    struct address addresses[16];
    size_t count;
    struct access *access = access_new(config, error, error_bytes);
    bool good = access != NULL;
    for (size_t list = 0; good && list < 2; list++) {
        good = address_parse_list(lists[list], options[list], addresses, 16, &count, error, error_bytes);
        for (size_t i = 0; good && i < count; i++)
            good = access_may_listen(access, &addresses[i], options[list], error, error_bytes);
    }
    access_free(access);
    return good && cluster_check(config, error, error_bytes);
}

int main(int argc, char **argv)
{
    static struct daemon daemon;
    char error[CONFIG_ERROR_BYTES] = "";
    int status = 2;
    /* A thread that still connects to NATS when the process ends must find what it uses. */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
    daemon.argc = argc;
    daemon.argv = argv;
    if (!config_load(&daemon.config, argc, argv, environ, error) || !check(&daemon.config, error, sizeof error)) {
        fprintf(stderr, "presenced: %s\n", error);
    } else if (daemon.config.help) {
        config_print_help(stdout);
        status = EXIT_SUCCESS;
    } else if (daemon.config.version) {
        printf("presenced %s\n", presence_version());
        status = EXIT_SUCCESS;
    } else if (daemon.config.check) {
        printf("presenced: the configuration is good\n");
        status = EXIT_SUCCESS;
    } else {
        log_set_level((enum log_level)daemon.config.log_level);
        status = run(&daemon);
    }
    config_free(&daemon.config);
    return status;
}
