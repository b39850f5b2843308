/* SPDX-License-Identifier: Apache-2.0 */
/*
 * principal.c - authentication, and what roles allow.
 *
 * Keeps true: without a tokens file everybody may everything; with one, nobody may anything before a token or a
 * certificate said who it is; a revoked principal is nobody. Any thread; O(tokens) to authenticate, O(roles) to ask.
 */
#include "access/inside.h"

#include "base/log.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <time.h>

static const struct principal everybody = {.name = (char *)(uintptr_t) "everybody", .admin = true, .read = true};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool tokens_in_use(const struct access *access)
{
    return *access->config->tokens != 0;
}

/* Every token is compared, so that the time tells nothing. The mutex is held. */
static struct principal *find_token(const struct tokens *tokens, const unsigned char *hash)
{
    struct principal *found = NULL;
    for (size_t i = 0; i < tokens->count; i++) {
        struct principal *principal = tokens->principals[i];
        if (principal->has_token && CRYPTO_memcmp(principal->hash, hash, TOKEN_HASH_BYTES) == 0)
            found = principal;
    }
    return found;
}

static bool user_is(struct slice user, const char *name)
{
    return user.length == 0 || slice_equals(user, slice_of("default")) || slice_equals(user, slice_of(name));
}

enum authentication principal_authenticate(struct access *access, const char *peer, struct slice user,
                                           struct slice token, const struct principal **principal)
{
    unsigned char hash[TOKEN_HASH_BYTES];
    if (!tokens_in_use(access))
        return AUTHENTICATION_NOT_IN_USE;
    bool hashed = EVP_Digest(token.text, token.length, hash, NULL, EVP_sha256(), NULL) == 1;
    uint64_t now = now_ms();
    enum authentication outcome = AUTHENTICATION_BAD;
    pthread_mutex_lock(&access->mutex);
    struct principal *found = hashed ? find_token(&access->tokens, hash) : NULL;
    if (found && user_is(user, found->name)) { /* whoever else guesses from the same address must not lock it out */
        *principal = principal_ref(found);
        outcome = AUTHENTICATION_GOOD;
    } else if (throttle_refuses(&access->throttle, peer, now)) {
        outcome = AUTHENTICATION_SLOWED;
    } else {
        throttle_failed(&access->throttle, peer, now);
    }
    pthread_mutex_unlock(&access->mutex);
    if (outcome != AUTHENTICATION_GOOD)
        atomic_fetch_add(&access->failures, 1);
    if (outcome == AUTHENTICATION_BAD)
        log_event(LOG_LEVEL_WARNING, "bad token", "client", peer, NULL);
    return outcome;
}

const struct principal *principal_named(struct access *access, const char *name)
{
    struct principal *found = NULL;
    pthread_mutex_lock(&access->mutex);
    for (size_t i = 0; !found && i < access->tokens.count; i++)
        if (strcmp(access->tokens.principals[i]->name, name) == 0)
            found = principal_ref(access->tokens.principals[i]);
    pthread_mutex_unlock(&access->mutex);
    return found;
}

static bool same_proof(const struct principal *a, const struct principal *b)
{
    return strcmp(a->name, b->name) == 0 && a->has_token == b->has_token &&
           memcmp(a->hash, b->hash, TOKEN_HASH_BYTES) == 0;
}

bool principal_renew(struct access *access, const struct principal **principal)
{
    const struct principal *old = *principal, *found = NULL;
    if (!old || !atomic_load_explicit(&old->revoked, memory_order_acquire))
        return true;
    pthread_mutex_lock(&access->mutex);
    for (size_t i = 0; !found && i < access->tokens.count; i++)
        if (same_proof(access->tokens.principals[i], old))
            found = principal_ref(access->tokens.principals[i]);
    pthread_mutex_unlock(&access->mutex);
    if (!found)
        return false;
    principal_release(old);
    *principal = found;
    return true;
}

const struct principal *principal_of(const struct access *access, const struct principal *authenticated)
{
    if (!tokens_in_use(access))
        return &everybody;
    return authenticated && !atomic_load_explicit(&authenticated->revoked, memory_order_acquire) ? authenticated : NULL;
}

const char *principal_name(const struct principal *principal)
{
    return principal ? principal->name : "nobody";
}

bool principal_is(const struct principal *a, const struct principal *b)
{
    return a == b || (a && b && strcmp(a->name, b->name) == 0);
}

/* --------------------------------------------------------------------------------------------------------- roles -- */

static const struct role *find_role(const struct principal *principal, enum role_kind kind, const char *name)
{
    for (size_t i = 0; i < principal->role_count; i++)
        if (principal->roles[i].kind == kind && strcmp(principal->roles[i].name, name) == 0)
            return &principal->roles[i];
    return NULL;
}

bool principal_may_admin(const struct principal *principal)
{
    return principal->admin;
}

bool principal_may_read(const struct principal *principal)
{
    return principal->read;
}

bool principal_may_read_model(const struct principal *principal, const char *model)
{
    return principal->read || find_role(principal, ROLE_MODEL, model);
}

bool principal_may_report(const struct principal *principal, const char *server)
{
    return principal->admin || find_role(principal, ROLE_REPORT, server);
}

bool principal_may_join(const struct principal *principal, const char *model, const char *agent)
{
    bool may = principal->admin;
    for (size_t i = 0; !may && i < principal->role_count; i++) {
        const struct role *role = &principal->roles[i];
        may = role->kind == ROLE_JOIN && strcmp(role->name, model) == 0 &&
              (!role->agent || strcmp(role->agent, agent) == 0);
    }
    return may;
}

enum sight principal_narrow(const struct principal *principal, const char **model)
{
    const struct role *only = NULL;
    if (principal->read)
        return SIGHT_ALLOWED;
    if (*model)
        return find_role(principal, ROLE_MODEL, *model) ? SIGHT_ALLOWED : SIGHT_REFUSED;
    for (size_t i = 0; i < principal->role_count; i++)
        if (principal->roles[i].kind == ROLE_MODEL) {
            if (only)
                return SIGHT_AMBIGUOUS;
            only = &principal->roles[i];
        }
    if (!only)
        return SIGHT_REFUSED;
    *model = only->name;
    return SIGHT_ALLOWED;
}
