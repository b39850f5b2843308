/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h - TLS of both listeners: one context out of --tls-certificate, --tls-key and --tls-client-ca.
 *
 * TLS 1.2 and up. With a certificate every internet address speaks TLS, loopback too; unix sockets never do. With a
 * client CA, a client may show a certificate of it, and is then the principal that the subject's common name says; one
 * that it did not sign ends the handshake.
 */
#ifndef DAEMON_ACCESS_TLS_H
#define DAEMON_ACCESS_TLS_H

#include "access/principal.h"
#include "base/address.h"

struct ssl_st; /* OpenSSL's SSL */

/* Whether clients of a listener at that address speak TLS. */
bool tls_is_on(const struct access *access, const struct address *address);
/* A new server's end of a session, with the newest certificates, in accept state. Its owner frees it with SSL_free.
 * NULL: out of memory. Any thread. */
struct ssl_st *tls_new_session(struct access *access);
/* After the handshake: whom the client's certificate names. NULL: it showed none, or there is no such principal. To be
 * released. */
const struct principal *tls_principal(struct access *access, struct ssl_st *session);
/* Why the last call of OpenSSL on this thread failed, for logs; empties its queue of errors. */
void tls_error(char *text, size_t text_bytes);

#endif
