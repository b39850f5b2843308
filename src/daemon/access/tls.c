/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.c - OpenSSL's server context out of the configured files, and whom a client certificate names.
 *
 * Keeps true: TLS 1.2 and up, no renegotiation; a client certificate counts only once it is verified against
 * --tls-client-ca. A session keeps the context that it began with, so a reload disturbs nobody. Any thread; a new
 * session costs some 20 KiB and the mutex.
 */
#include "access/tls.h"

#include "access/inside.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

void tls_error(char *text, size_t text_bytes)
{
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    snprintf(text, text_bytes, "%s", reason ? reason : "the other side hung up");
    ERR_clear_error();
}

/* False: `error` names the option, its file and OpenSSL's reason. */
static bool failed(const char *option, const char *path, char *error, size_t error_bytes)
{
    char why[128];
    tls_error(why, sizeof why);
    snprintf(error, error_bytes, "--%s: cannot use %.200s: %s", option, path, why);
    return false;
}

static void harden(SSL_CTX *context)
{
    static const unsigned char id[] = "presenced";
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* Our own buffers may move between two tries of one write; and a client at rest should hold none of OpenSSL's. */
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_id_context(context, id, sizeof id - 1);
}

static bool load_client_ca(SSL_CTX *context, const char *path)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    if (!names || SSL_CTX_load_verify_locations(context, path, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return false;
    }
    SSL_CTX_set_client_CA_list(context, names); /* takes them */
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return true;
}

bool tls_load(const struct config *config, SSL_CTX **context, char *error, size_t error_bytes)
{
    const char *certificate = config->tls_certificate, *key = config->tls_key, *ca = config->tls_client_ca;
    *context = NULL;
    if (!*certificate && !*key && !*ca)
        return true;
    if (!*certificate || !*key) {
        snprintf(error, error_bytes, "--%s: wants --%s too",
                 *key  ? "tls-key"
                 : *ca ? "tls-client-ca"
                       : "tls-certificate",
                 *certificate ? "tls-key" : "tls-certificate");
        return false;
    }
    ERR_clear_error();
    SSL_CTX *made = SSL_CTX_new(TLS_server_method());
    bool good = made != NULL;
    if (!good)
        snprintf(error, error_bytes, "--tls-certificate: out of memory");
    else
        harden(made);
    if (good && SSL_CTX_use_certificate_chain_file(made, certificate) != 1)
        good = failed("tls-certificate", certificate, error, error_bytes);
    if (good && (SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(made) != 1))
        good = failed("tls-key", key, error, error_bytes);
    if (good && *ca && !load_client_ca(made, ca))
        good = failed("tls-client-ca", ca, error, error_bytes);
    if (good)
        *context = made;
    else
        SSL_CTX_free(made);
    return good;
}

void tls_free(SSL_CTX *context)
{
    SSL_CTX_free(context);
}

bool tls_is_on(const struct access *access, const struct address *address)
{
    return *access->config->tls_certificate && address->socket.ss_family != AF_UNIX;
}

SSL *tls_new_session(struct access *access)
{
    pthread_mutex_lock(&access->mutex);
    SSL *session = access->tls ? SSL_new(access->tls) : NULL;
    pthread_mutex_unlock(&access->mutex);
    if (session)
        SSL_set_accept_state(session);
    return session;
}

const struct principal *tls_principal(struct access *access, SSL *session)
{
    const struct principal *principal = NULL;
    unsigned char *name = NULL;
    X509 *certificate = SSL_get1_peer_certificate(session);
    if (!certificate)
        return NULL;
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at >= 0 && SSL_get_verify_result(session) == X509_V_OK &&
        X509_NAME_get_index_by_NID(subject, NID_commonName, at) < 0) { /* two names would name nobody */
        int length = ASN1_STRING_to_UTF8(&name, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        if (length > 0 && strlen((char *)name) == (size_t)length)
            principal = principal_named(access, (char *)name);
    }
    OPENSSL_free(name);
    X509_free(certificate);
    return principal;
}
