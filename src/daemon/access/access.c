/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access.c - tokens and certificates, loaded together.
 *
 * Keeps true: both are read whole before either is put in force, so a bad file is kept out and what was there goes on.
 * access_new before the loops run, access_free after them; access_reload on the first loop, beside the others' use.
 */
#include "access/access.h"

#include "access/inside.h"

#include <stdio.h>
#include <stdlib.h>

static bool load(const struct config *config, struct tokens *tokens, struct ssl_ctx_st **tls, char *error,
                 size_t error_bytes)
{
    *tokens = (struct tokens){0};
    if (*config->tokens && !tokens_load(tokens, config->tokens, error, error_bytes))
        return false;
    if (tls_load(config, tls, error, error_bytes))
        return true;
    tokens_free(tokens);
    return false;
}

struct access *access_new(const struct config *config, char *error, size_t error_bytes)
{
    struct access *access = calloc(1, sizeof *access);
    if (!access) {
        snprintf(error, error_bytes, "out of memory");
        return NULL;
    }
    access->config = config;
    if (!load(config, &access->tokens, &access->tls, error, error_bytes)) {
        free(access);
        return NULL;
    }
    pthread_mutex_init(&access->mutex, NULL);
    return access;
}

void access_free(struct access *access)
{
    if (!access)
        return;
    tokens_free(&access->tokens);
    tls_free(access->tls);
    pthread_mutex_destroy(&access->mutex);
    free(access);
}

uint64_t access_reloads(const struct access *access)
{
    return access->reloads;
}

bool access_reload(struct access *access, char *error, size_t error_bytes)
{
    struct tokens tokens;
    struct ssl_ctx_st *tls, *old;
    if (!load(access->config, &tokens, &tls, error, error_bytes))
        return false;
    pthread_mutex_lock(&access->mutex);
    tokens_take_over(&tokens, &access->tokens);
    access->tokens = tokens;
    old = access->tls;
    access->tls = tls;
    pthread_mutex_unlock(&access->mutex);
    access->reloads++;
    tls_free(old); /* those who began with it hold it until they end */
    return true;
}

uint64_t access_failures(const struct access *access)
{
    return atomic_load(&access->failures);
}

size_t access_token_count(struct access *access)
{
    pthread_mutex_lock(&access->mutex);
    size_t count = access->tokens.count;
    pthread_mutex_unlock(&access->mutex);
    return count;
}

bool access_may_listen(const struct access *access, const struct address *address, const char *option, char *error,
                       size_t error_bytes)
{
    const struct config *config = access->config;
    if (address_is_local(address) || config->insecure || (*config->tokens && *config->tls_certificate))
        return true;
    snprintf(error, error_bytes,
             "%s: %s is open to other machines without tokens and TLS (--tokens, --tls-certificate); "
             "--insecure allows it",
             option, address->text);
    return false;
}
