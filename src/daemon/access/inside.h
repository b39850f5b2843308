/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside.h - what the files of this folder share: the principals, the limit on failures, and the node's one struct of
 * both and of the certificates.
 */
#ifndef DAEMON_ACCESS_INSIDE_H
#define DAEMON_ACCESS_INSIDE_H

#include "access/access.h"

#include <pthread.h>
#include <stdatomic.h>

enum { TOKEN_HASH_BYTES = 32 };

enum role_kind { ROLE_READ, ROLE_MODEL, ROLE_REPORT, ROLE_JOIN, ROLE_ADMIN };

struct role {
    enum role_kind kind;
    char *name;  /* of MODEL and JOIN: the model; of REPORT: the server */
    char *agent; /* of JOIN; NULL: any */
};

struct principal {
    _Atomic size_t references; /* 0: not counted, lives as long as the program */
    _Atomic bool revoked;
    char *name;
    bool has_token; /* else by certificate only */
    unsigned char hash[TOKEN_HASH_BYTES];
    struct role *roles;
    size_t role_count;
    bool admin, read; /* of the roles, for quick checks */
};

/* The lines of a tokens file, in their order. */
struct tokens {
    struct principal **principals;
    size_t count;
};

/* Reads and checks the whole file. False: `error` names the line and what is wrong; *tokens is empty. */
bool tokens_load(struct tokens *tokens, const char *path, char *error, size_t error_bytes);
void tokens_free(struct tokens *tokens);
/* Keeps of `old` each principal that `fresh` holds too, unchanged, so that whoever has it goes on; revokes the others;
 * and leaves in *fresh what is in force from now on. *old is empty afterwards. */
void tokens_take_over(struct tokens *fresh, struct tokens *old);
struct principal *principal_ref(struct principal *principal);

/* How often an address failed of late. */
enum { THROTTLE_PEERS = 256, THROTTLE_PEER_BYTES = 64 };

struct throttle {
    struct throttled {
        char peer[THROTTLE_PEER_BYTES]; /* "": free */
        uint64_t window_began_ms, last_ms;
        unsigned failures;
    } peers[THROTTLE_PEERS];
    size_t used; /* how many are not free: 0 mostly */
};

/* Whether the peer's next try is to be refused without a look. */
bool throttle_refuses(const struct throttle *throttle, const char *peer, uint64_t now_ms);
void throttle_failed(struct throttle *throttle, const char *peer, uint64_t now_ms);

struct ssl_ctx_st;

struct access {
    const struct config *config;
    pthread_mutex_t mutex; /* of all below but the counts */
    struct tokens tokens;
    struct throttle throttle;
    struct ssl_ctx_st *tls; /* NULL: no TLS */
    _Atomic uint64_t failures, reloads;
};

/* A context of the configured files. False: `error` says why. *context is NULL where no certificate is configured. */
bool tls_load(const struct config *config, struct ssl_ctx_st **context, char *error, size_t error_bytes);
void tls_free(struct ssl_ctx_st *context);

#endif
