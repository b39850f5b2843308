/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - what the operator may choose. The one table of options is in options.c: it gives each its flag
 * (`--max-clients 100`), its environment variable (PRESENCE_MAX_CLIENTS), its key in the file (`max-clients = 100`),
 * its default, its bounds and its line of `--help`.
 *
 * Flags are stronger than the environment, and that is stronger than the file (`--config FILE`, PRESENCE_CONFIG). An
 * unknown flag or key, an unknown PRESENCE_ variable, a bad value: an error that names the option, where it was said
 * and what would be right. Read at start by one thread; a reload loads a second struct and takes over what may change.
 */
#ifndef DAEMON_CONFIG_CONFIG_H
#define DAEMON_CONFIG_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct config {
    /* Texts belong to the struct; never NULL. "" where nothing was chosen. They do not change while the daemon runs;
     * numbers may (config_take_over), so whoever needs one twice the same keeps it. */
    char *file;
    char *http, *host_names;
    char *resp; /* addresses, split by commas: HOST:PORT, [V6]:PORT, unix:PATH; "none" */
    _Atomic uint64_t threads;
    _Atomic uint64_t log_level; /* enum log_level */
    bool insecure;
    char *tokens, *tls_certificate, *tls_key, *tls_client_ca; /* files */
    /* Limits. */
    _Atomic uint64_t max_clients, max_request_bytes, max_request_words, max_output_bytes;
    _Atomic uint64_t max_connections, max_names, max_record_bytes;
    _Atomic uint64_t history_bytes, left_agents;
    _Atomic uint64_t max_watchers, max_listings, max_header_bytes, max_long_commands;
    _Atomic uint64_t idle_timeout, request_timeout, report_timeout; /* milliseconds; 0: none */
    _Atomic uint64_t keepalive;                                     /* milliseconds */
    char *node, *state;                           /* this node's name as a server; the folder of the state */
    _Atomic uint64_t settle_time, state_interval; /* milliseconds */
    _Atomic uint64_t max_list_bytes, max_server_connections, max_model_names;
    /* The cluster; nats "": none is joined. */
    char *nats, *cluster;
    char *nats_user, *nats_password_file, *nats_token_file, *nats_credentials;
    char *nats_tls_ca, *nats_tls_certificate, *nats_tls_key;                    /* files */
    _Atomic uint64_t beat, lease, hold, tell_activity, forget_after, tombstone; /* milliseconds */
    /* Asked for on the command line only. */
    bool help, version, check;
};

enum { CONFIG_ERROR_BYTES = 512 };

/* Fills *config. False: `error` says what is wrong, and *config is to be freed still. `environment` is as environ. */
bool config_load(struct config *config, int argc, char **argv, char **environment, char *error);
void config_free(struct config *config);
/* On a reload: the name of the next option whose value in `then` differs, from *index on, which is left behind it;
 * NULL: there is no more. Its value is taken over into `now` where a running daemon can: *taken; else it wants a
 * restart. Beside the threads that read `now`. */
const char *config_take_over(struct config *now, const struct config *then, size_t *index, bool *taken);
/* The text of `--help`, made from the table. */
void config_print_help(FILE *out);

/* What the table says of one option; for metrics, docs and tests. `index` counts from 0; false: there is no more. */
struct config_option {
    const char *name, *value_word, *fallback, *help; /* value_word "": a switch */
    bool live;                                       /* a reload takes it over; else it wants a restart */
};
bool config_option_at(size_t index, struct config_option *option);

#endif
