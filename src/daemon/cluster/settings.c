/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.c - whether the options of the cluster go together, and the secrets out of their files.
 *
 * A secret is a file's first line: nothing of it is on a command line, in the environment or in the configuration. At
 * start and for --check-config, by one thread.
 */
#include "cluster/settings.h"

#include "cluster/joined.h"

#include <errno.h>
#include <presence/cluster.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LEAST_HISTORY_BYTES = 1024 * 1024 };

static bool read_secret(const char *option, const char *path, char secret[MOST_SECRET_BYTES], char *error,
                        size_t error_bytes)
{
    if (!*path)
        return true;
    FILE *file = fopen(path, "re");
    bool read = file && fgets(secret, MOST_SECRET_BYTES, file);
    bool failed = !file || ferror(file);
    int why = errno;
    if (file)
        fclose(file);
    if (failed) {
        snprintf(error, error_bytes, "%s: cannot read %.200s: %s", option, path, strerror(why));
        return false;
    }
    size_t length = read ? strcspn(secret, "\r\n") : 0;
    if (length == 0 || length == MOST_SECRET_BYTES - 1) {
        snprintf(error, error_bytes, "%s: wants a first line of 1 to %d bytes in %.200s", option, MOST_SECRET_BYTES - 2,
                 path);
        return false;
    }
    secret[length] = 0;
    return true;
}

static bool can_read(const char *option, const char *path, char *error, size_t error_bytes)
{
    if (!*path || access(path, R_OK) == 0)
        return true;
    snprintf(error, error_bytes, "%s: cannot read %.200s: %s", option, path, strerror(errno));
    return false;
}

static bool is_name(const char *text)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t length = strlen(text);
    return length > 0 && length < PRESENCE_NODE_BYTES && strspn(text, allowed) == length;
}

/* What is wrong with options that do not name files, or NULL. */
static const char *find_fault(const struct config *config, const char *node)
{
    int ways = !!*config->nats_user + !!*config->nats_token_file + !!*config->nats_credentials;
    if (strchr(config->nats, '@'))
        return "--nats: wants no name or password in a URL: say --nats-user and --nats-password-file";
    if (!is_name(node))
        return *config->node ? "--node: wants 1 to 127 of A-Z a-z 0-9 - and _ in a cluster"
                             : "--node: must be given: the host's name is no name in a cluster (A-Z a-z 0-9 - and _)";
    if (!is_name(config->cluster))
        return "--cluster: wants 1 to 127 of A-Z a-z 0-9 - and _";
    if (config->lease < 3 * config->beat)
        return "--lease: wants three beats (--beat) at least";
    if (config->history_bytes < LEAST_HISTORY_BYTES)
        return "--history-bytes: wants 1m at least in a cluster: without a history each change is a whole list";
    if (ways > 1)
        return "--nats-user, --nats-token-file and --nats-credentials: one of them is enough";
    if (!*config->nats_user != !*config->nats_password_file)
        return "--nats-user and --nats-password-file: one wants the other";
    if (!*config->nats_tls_certificate != !*config->nats_tls_key)
        return "--nats-tls-certificate and --nats-tls-key: one wants the other";
    return NULL;
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

static void fill(struct settings *settings, const struct config *config)
{
    presence_cluster_config *to = &settings->config;
    presence_cluster_config_init(to);
    to->cluster = config->cluster;
    to->node = settings->node;
    to->urls = config->nats;
    to->user = or_null(config->nats_user);
    to->password = or_null(settings->password);
    to->token = or_null(settings->token);
    to->credentials_file = or_null(config->nats_credentials);
    to->tls_ca = or_null(config->nats_tls_ca);
    to->tls_certificate = or_null(config->nats_tls_certificate);
    to->tls_key = or_null(config->nats_tls_key);
    to->interval_ms = (uint32_t)config->beat;
    to->lease_ms = (uint32_t)config->lease;
    to->settle_ms = (uint32_t)config->settle_time;
    to->hold_ms = (uint32_t)config->hold;
    to->activity_ms = (uint32_t)config->tell_activity;
    to->tombstone_ms = (uint32_t)config->tombstone;
    to->forget_after_ms = (uint32_t)config->forget_after;
}

bool settings_read(struct settings *settings, const struct config *config, char *error, size_t error_bytes)
{
    memset(settings, 0, sizeof *settings);
    node_choose_name(config, settings->node);
    const char *fault = find_fault(config, settings->node);
    if (fault) {
        snprintf(error, error_bytes, "%s", fault);
        return false;
    }
    if (!read_secret("--nats-password-file", config->nats_password_file, settings->password, error, error_bytes) ||
        !read_secret("--nats-token-file", config->nats_token_file, settings->token, error, error_bytes) ||
        !can_read("--nats-credentials", config->nats_credentials, error, error_bytes) ||
        !can_read("--nats-tls-ca", config->nats_tls_ca, error, error_bytes) ||
        !can_read("--nats-tls-certificate", config->nats_tls_certificate, error, error_bytes) ||
        !can_read("--nats-tls-key", config->nats_tls_key, error, error_bytes))
        return false;
    fill(settings, config);
    return true;
}

void settings_wipe(struct settings *settings)
{
    explicit_bzero(settings, sizeof *settings);
}

bool cluster_check(const struct config *config, char *error, size_t error_bytes)
{
    struct settings settings;
    if (!*config->nats)
        return true;
    bool good = settings_read(&settings, config, error, error_bytes);
    settings_wipe(&settings);
    return good;
}
