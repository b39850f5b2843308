/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - the one table of options, and how a text becomes a value. Used at start and on a reload, by one thread.
 */
#include "config/options.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define IN(field) offsetof(struct config, field)

#define KIB 1024ULL
#define MIB (1024 * KIB)
#define ANY UINT64_MAX

const struct option options[] = {
    {"config", OPTION_TEXT, IN(file), "", 0, 0, "FILE", "read `key = value` lines from this file"},
    {"resp", OPTION_TEXT, IN(resp), "127.0.0.1:7790", 0, 0, "ADDRESS[,...]",
     "where Redis clients connect: HOST:PORT, [V6]:PORT, unix:PATH, or none"},
    {"http", OPTION_TEXT, IN(http), "127.0.0.1:7791", 0, 0, "ADDRESS[,...]",
     "where HTTP clients and the dashboard connect, likewise"},
    {"host-name", OPTION_TEXT, IN(host_names), "", 0, 0, "NAME[,...]",
     "names under which browsers reach HTTP, besides localhost and addresses in numbers"},
    {"threads", OPTION_NUMBER, IN(threads), "1", 1, 64, "N", "event loops"},
    {"log-level", OPTION_LEVEL, IN(log_level), "info", 0, 0, "LEVEL", "error, warning, info or debug", .live = true},
    {"tokens", OPTION_TEXT, IN(tokens), "", 0, 0, "FILE", "who may do what: `name sha256:HEX role...` a line"},
    {"tls-certificate", OPTION_TEXT, IN(tls_certificate), "", 0, 0, "FILE",
     "speak TLS at internet addresses, with this chain (PEM)"},
    {"tls-key", OPTION_TEXT, IN(tls_key), "", 0, 0, "FILE", "the certificate's key (PEM)"},
    {"tls-client-ca", OPTION_TEXT, IN(tls_client_ca), "", 0, 0, "FILE",
     "take client certificates signed by these (PEM)"},
    {"insecure", OPTION_SWITCH, IN(insecure), "no", 0, 0, "", "listen beyond this machine without tokens and TLS"},
    {"max-clients", OPTION_NUMBER, IN(max_clients), "20000", 1, 10000000, "N", "clients at a time, RESP and HTTP",
     .live = true},
    {"max-request-bytes", OPTION_BYTES, IN(max_request_bytes), "16m", 4 * KIB, 1024 * MIB, "BYTES",
     "a request, and what a client may send ahead of its replies", .live = true},
    {"max-request-words", OPTION_NUMBER, IN(max_request_words), "1048576", 16, 16777216, "N", "arguments of a command",
     .live = true},
    {"max-output-bytes", OPTION_BYTES, IN(max_output_bytes), "16m", 64 * KIB, 1024 * MIB, "BYTES",
     "replies that wait for a client that reads slowly; beyond, it is cut off", .live = true},
    {"max-connections", OPTION_NUMBER, IN(max_connections), "0", 0, ANY, "N", "connections recorded; 0: no limit",
     .live = true},
    {"max-names", OPTION_NUMBER, IN(max_names), "0", 0, ANY, "N", "models, servers and agents recorded; 0: no limit",
     .live = true},
    {"max-record-bytes", OPTION_BYTES, IN(max_record_bytes), "0", 0, ANY, "BYTES", "memory of the record; 0: no limit",
     .live = true},
    {"history-bytes", OPTION_BYTES, IN(history_bytes), "16m", 0, 65536ULL * MIB, "BYTES",
     "changes kept for watches that resume"},
    {"max-watchers", OPTION_NUMBER, IN(max_watchers), "20000", 1, 10000000, "N", "clients with a watch at a time",
     .live = true},
    {"max-listings", OPTION_NUMBER, IN(max_listings), "64", 4, 65536, "N", "lists kept for their next page",
     .live = true},
    {"max-long-commands", OPTION_NUMBER, IN(max_long_commands), "1024", 1, 1000000, "N",
     "commands that look at very many connections and wait for their turn", .live = true},
    {"max-header-bytes", OPTION_BYTES, IN(max_header_bytes), "16k", KIB, MIB, "BYTES", "the head of an HTTP request",
     .live = true},
    {"left-agents", OPTION_NUMBER, IN(left_agents), "10000", 0, 100000000, "N", "agents that left and stay known"},
    {"idle-timeout", OPTION_DURATION, IN(idle_timeout), "0", 0, 86400000, "TIME",
     "a client that says nothing for so long is closed, but for watchers; 0: no limit", .live = true},
    {"keepalive", OPTION_DURATION, IN(keepalive), "60s", 1000, 32000000, "TIME",
     "a peer that is silent for so long is asked whether it is there, and for as long again", .live = true},
    {"request-timeout", OPTION_DURATION, IN(request_timeout), "30s", 0, 3600000, "TIME",
     "a client that leaves a request unfinished, replies unread, or AUTH unsaid for so long is closed; 0: no limit",
     .live = true},
    {"report-timeout", OPTION_DURATION, IN(report_timeout), "10m", 0, 86400000, "TIME",
     "a client that reads a report for so long is closed, for a report holds memory; 0: no limit", .live = true},
    {"node", OPTION_TEXT, IN(node), "", 0, 0, "NAME",
     "this node's name as a server, for agents that join it, and in the cluster [the host's]"},
    {"settle-time", OPTION_DURATION, IN(settle_time), "30s", 0, 86400000, "TIME",
     "how long after the start agents may join again before they are forgotten; in a cluster also\n"
     "how long a server has to state its agents anew after it came to this node"},
    {"state", OPTION_TEXT, IN(state), "", 0, 0, "DIR", "keep what is recorded in this folder, across restarts"},
    {"state-interval", OPTION_DURATION, IN(state_interval), "5s", 10, 86400000, "TIME",
     "how often it is written there"},
    {"max-list-bytes", OPTION_BYTES, IN(max_list_bytes), "256m", 64 * KIB, 1024ULL * 1024 * MIB, "BYTES",
     "memory of the lists that all clients are sending in parts", .live = true},
    {"max-server-connections", OPTION_NUMBER, IN(max_server_connections), "0", 0, ANY, "N",
     "connections of one server; 0: no limit", .live = true},
    {"max-model-names", OPTION_NUMBER, IN(max_model_names), "0", 0, ANY, "N", "agents of one model; 0: no limit",
     .live = true},
    {"nats", OPTION_TEXT, IN(nats), "", 0, 0, "URL[,...]",
     "join a cluster at these NATS servers: nats://HOST:4222, tls://HOST:4222"},
    {"cluster", OPTION_TEXT, IN(cluster), "presence", 0, 0, "NAME", "the cluster's name, the same on all its nodes"},
    {"nats-user", OPTION_TEXT, IN(nats_user), "", 0, 0, "NAME", "log in to NATS under this name"},
    {"nats-password-file", OPTION_TEXT, IN(nats_password_file), "", 0, 0, "FILE", "with the password in this file"},
    {"nats-token-file", OPTION_TEXT, IN(nats_token_file), "", 0, 0, "FILE", "or with the token in this file"},
    {"nats-credentials", OPTION_TEXT, IN(nats_credentials), "", 0, 0, "FILE", "or with this .creds file of NATS"},
    {"nats-tls-ca", OPTION_TEXT, IN(nats_tls_ca), "", 0, 0, "FILE",
     "insist on TLS with NATS, by a certificate that these signed (PEM)"},
    {"nats-tls-certificate", OPTION_TEXT, IN(nats_tls_certificate), "", 0, 0, "FILE",
     "show NATS this node's certificate (PEM)"},
    {"nats-tls-key", OPTION_TEXT, IN(nats_tls_key), "", 0, 0, "FILE", "that certificate's key (PEM)"},
    {"beat", OPTION_DURATION, IN(beat), "500ms", 10, 60000, "TIME",
     "how often this node tells the others that it lives"},
    {"lease", OPTION_DURATION, IN(lease), "3s", 30, 600000, "TIME",
     "a node that is not heard for so long is gone: what it states is missing; three beats at least"},
    {"hold", OPTION_DURATION, IN(hold), "30s", 0, 3600000, "TIME",
     "where most nodes fall silent at once, answers are stale first, and agents missing only after this"},
    {"tell-activity", OPTION_DURATION, IN(tell_activity), "20s", 0, 3600000, "TIME",
     "how often the other nodes are told who was seen; 0: never"},
    {"forget-after", OPTION_DURATION, IN(forget_after), "0", 0, 4000000000ULL, "TIME",
     "drop the servers of a node that is silent for so long; 0: never"},
    {"tombstone", OPTION_DURATION, IN(tombstone), "1h", 1000, 4000000000ULL, "TIME",
     "how long a server that was forgotten is fenced against what is still under way"},
    {"check-config", OPTION_SWITCH, IN(check), "no", 0, 0, "",
     "read the configuration, say whether it is good, and end", true},
    {"help", OPTION_SWITCH, IN(help), "no", 0, 0, "", "this text", true},
    {"version", OPTION_SWITCH, IN(version), "no", 0, 0, "", "the version", true},
};
const size_t option_count = sizeof options / sizeof *options;

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit byte_units[] = {{"", 1}, {"k", KIB}, {"m", MIB}, {"g", 1024ULL * MIB}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

const struct option *option_find(const char *name, size_t length)
{
    for (size_t i = 0; i < option_count; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
            return &options[i];
    return NULL;
}

bool config_option_at(size_t index, struct config_option *option)
{
    if (index >= option_count)
        return false;
    const struct option *o = &options[index];
    *option = (struct config_option){o->name, o->value_word, o->fallback, o->help, o->live};
    return true;
}

/* Digits and one of the units; a bare 0 needs none. */
static bool number_with_unit(const char *value, const struct unit *unit, uint64_t *number)
{
    uint64_t sum = 0;
    const char *rest = value;
    for (; *rest >= '0' && *rest <= '9'; rest++)
        if (__builtin_mul_overflow(sum, (uint64_t)10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*rest - '0'), &sum))
            return false;
    if (rest == value)
        return false;
    for (; unit->name; unit++)
        if (strcasecmp(rest, unit->name) == 0 || (sum == 0 && !*rest))
            return !__builtin_mul_overflow(sum, unit->factor, number);
    return false;
}

static bool set_number(const struct option *option, _Atomic uint64_t *field, const char *value, char *error)
{
    const struct unit *units = option->kind == OPTION_BYTES      ? byte_units
                               : option->kind == OPTION_DURATION ? time_units
                                                                 : no_units;
    uint64_t number;
    if (number_with_unit(value, units, &number) && number >= option->least && number <= option->most) {
        *field = number;
        return true;
    }
    const char *shape = option->kind == OPTION_BYTES      ? "a number of bytes (512, 64k, 16m, 2g)"
                        : option->kind == OPTION_DURATION ? "a time (250ms, 30s, 5m, 2h)"
                                                          : "a number";
    if (option->most == ANY)
        snprintf(error, CONFIG_ERROR_BYTES, "wants %s, got \"%.64s\"", shape, value);
    else
        snprintf(error, CONFIG_ERROR_BYTES, "wants %s from %llu to %llu, got \"%.64s\"", shape,
                 (unsigned long long)option->least, (unsigned long long)option->most, value);
    return false;
}

static bool set_level(_Atomic uint64_t *field, const char *value, char *error)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(value, levels[i]) == 0) {
            *field = i;
            return true;
        }
    snprintf(error, CONFIG_ERROR_BYTES, "wants error, warning, info or debug, got \"%.64s\"", value);
    return false;
}

static bool set_switch(bool *field, const char *value, char *error)
{
    if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0) {
        snprintf(error, CONFIG_ERROR_BYTES, "wants yes or no, got \"%.64s\"", value);
        return false;
    }
    *field = *value == 'y';
    return true;
}

static bool set_text(char **field, const char *value, char *error)
{
    char *copy = strdup(value);
    if (!copy) {
        snprintf(error, CONFIG_ERROR_BYTES, "out of memory");
        return false;
    }
    free(*field);
    *field = copy;
    return true;
}

bool option_set(const struct option *option, struct config *config, const char *value, char *error)
{
    void *field = (char *)config + option->offset;
    switch (option->kind) {
    case OPTION_TEXT:
        return set_text(field, value, error);
    case OPTION_LEVEL:
        return set_level(field, value, error);
    case OPTION_SWITCH:
        return set_switch(field, value, error);
    case OPTION_NUMBER:
    case OPTION_BYTES:
    case OPTION_DURATION:
        break;
    }
    return set_number(option, field, value, error);
}
