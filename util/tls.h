/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS by GnuTLS: credentials, as of the objects tls-creds-anon, tls-creds-psk and tls-creds-x509, and
 * sessions over sockets that do not block.
 *
 * Credentials are read from files once. File names and their contents are QEMU's:
 *
 *   kind   server                                        client
 *   anon   nothing                                       nothing
 *   psk    DIR/keys.psk: USERNAME:HEXKEY per line        the same
 *   x509   DIR/ca-cert.pem, server-cert.pem,             DIR/ca-cert.pem; client-cert.pem and
 *          server-key.pem; ca-crl.pem if it is there     client-key.pem if they are there
 */
#ifndef SKIFF_UTIL_TLS_H
#define SKIFF_UTIL_TLS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>
#include "util/loop/thread.h"

#define TLS_ERROR tls_error_quark()
GQuark tls_error_quark(void);
enum {
    TLS_ERROR_CREDENTIALS, /* a file is missing or wrong */
    TLS_ERROR_SESSION,     /* the peer is not accepted, or breaks the protocol */
};

typedef enum TlsKind { TLS_ANON, TLS_PSK, TLS_X509 } TlsKind;

typedef struct TlsConfig {
    TlsKind kind;
    bool server;
    const char *dir;      /* NULL: only TLS_ANON */
    bool verify_peer;     /* x509: the peer needs a certificate of the CA */
    const char *username; /* psk, client: whose key it uses */
    const char *priority; /* GnuTLS's; NULL: NORMAL */
} TlsConfig;

/* Loads GnuTLS, as tls_creds_new() does, before a sandbox forbids that. */
bool tls_load_library(GError **error) ANY_THREAD;

typedef struct TlsCreds TlsCreds;
/* Reads the files, which may block. NULL + @error. */
TlsCreds *tls_creds_new(const TlsConfig *config, GError **error) ANY_THREAD;
TlsCreds *tls_creds_ref(TlsCreds *c) ANY_THREAD;
void tls_creds_unref(TlsCreds *c) ANY_THREAD; /* NULL is fine */
/* The description that they were made from; borrowed. */
const TlsConfig *tls_creds_config(const TlsCreds *c) ANY_THREAD;

/* A session belongs to one thread at a time. */
typedef struct TlsSession TlsSession;
/* @fd is borrowed and does not block. The session keeps @creds. NULL + @error. */
TlsSession *tls_session_new_server(TlsCreds *creds, int fd, GError **error) ANY_THREAD;
void tls_session_free(TlsSession *s) ANY_THREAD; /* NULL is fine */
/* 0: the handshake has ended and the peer is accepted; -EAGAIN: again when the socket is readable, or
 * writable if *@wants_write; another -errno with @error. */
int tls_session_handshake(TlsSession *s, bool *wants_write, GError **error) ANY_THREAD;
/* As recv() and send(): bytes, 0 at the end of the input, or -errno. -EAGAIN: the same call again when
 * the socket is readable, or writable if *@wants_write; a write waits for a writable socket. */
ssize_t tls_session_read(TlsSession *s, void *data, size_t size, bool *wants_write) ANY_THREAD;
ssize_t tls_session_write(TlsSession *s, const void *data, size_t size) ANY_THREAD;

#endif
