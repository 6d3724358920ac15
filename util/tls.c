/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tls.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include "util/tls_gnutls.h"

G_DEFINE_QUARK(skiff - tls - error - quark, tls_error)

static const char *const gnutls_names[] = {GNUTLS_FUNCTIONS(LIBRARY_NAME) NULL};
GnutlsLibrary gnutls_library;
static Library gnutls = {.soname = "libgnutls.so.30",
                         .package = "libgnutls30",
                         .names = gnutls_names,
                         .slots = &gnutls_library};

bool tls_load_library(GError **error)
{
    return library_load(&gnutls, error);
}

struct TlsCreds {
    gatomicrefcount refs;
    TlsConfig config; /* owns its texts */
    union {
        gnutls_anon_server_credentials_t anon_server;
        gnutls_anon_client_credentials_t anon_client;
        gnutls_psk_server_credentials_t psk_server;
        gnutls_psk_client_credentials_t psk_client;
        gnutls_certificate_credentials_t x509;
        void *any;
    } u;
};

struct TlsSession {
    TlsCreds *creds;
    gnutls_session_t session;
};

/* ---- credentials ---- */

static bool tls_refuse(GError **error, const char *what, const char *path, int ret)
{
    g_set_error(error, TLS_ERROR, TLS_ERROR_CREDENTIALS, "%s%s%s: %s", what,
                path != NULL ? " " : "", path != NULL ? path : "", gnutls_strerror(ret));
    return false;
}

/* A file of the directory; NULL + @error: it is missing but needed. *@missing: it is not needed. */
static char *tls_path(const TlsCreds *c, const char *name, bool needed, bool *missing,
                      GError **error)
{
    g_autofree char *path = g_build_filename(c->config.dir, name, NULL);
    *missing = !g_file_test(path, G_FILE_TEST_EXISTS);
    if (*missing && needed) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CREDENTIALS, "Unable to access credentials %s: %s",
                    path, g_strerror(ENOENT));
    }
    return *missing ? NULL : g_steal_pointer(&path);
}

static bool tls_load_anon(TlsCreds *c, GError **error)
{
    int ret = c->config.server ? gnutls_anon_allocate_server_credentials(&c->u.anon_server)
                               : gnutls_anon_allocate_client_credentials(&c->u.anon_client);
    if (ret < 0) {
        return tls_refuse(error, "Cannot allocate credentials", NULL, ret);
    }
    if (c->config.server) {
        gnutls_anon_set_server_known_dh_params(c->u.anon_server, GNUTLS_SEC_PARAM_MEDIUM);
    }
    return true;
}

/* The key of a user, in hexadecimal digits, to be freed; NULL + @error. */
static char *tls_find_key(const char *path, const char *username, GError **error)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, error)) {
        return NULL;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    size_t length = strlen(username);
    for (char **line = lines; *line != NULL; line++) {
        if (strncmp(*line, username, length) == 0 && (*line)[length] == ':') {
            return g_strstrip(g_strdup(*line + length + 1));
        }
    }
    g_set_error(error, TLS_ERROR, TLS_ERROR_CREDENTIALS, "Username %s not found in %s", username,
                path);
    return NULL;
}

static bool tls_load_psk(TlsCreds *c, GError **error)
{
    bool missing;
    g_autofree char *path = tls_path(c, "keys.psk", true, &missing, error);
    if (path == NULL) {
        return false;
    }
    int ret;
    if (c->config.server) {
        ret = gnutls_psk_allocate_server_credentials(&c->u.psk_server);
        if (ret == 0) {
            gnutls_psk_set_server_known_dh_params(c->u.psk_server, GNUTLS_SEC_PARAM_MEDIUM);
            ret = gnutls_psk_set_server_credentials_file(c->u.psk_server, path);
        }
    } else {
        g_autofree char *key = tls_find_key(path, c->config.username, error);
        if (key == NULL) {
            return false;
        }
        gnutls_datum_t datum = {(unsigned char *)key, (unsigned)strlen(key)};
        ret = gnutls_psk_allocate_client_credentials(&c->u.psk_client);
        if (ret == 0) {
            ret = gnutls_psk_set_client_credentials(c->u.psk_client, c->config.username, &datum,
                                                    GNUTLS_PSK_KEY_HEX);
        }
    }
    return ret == 0 || tls_refuse(error, "Cannot use the keys of", path, ret);
}

static bool tls_load_ca(TlsCreds *c, GError **error)
{
    bool missing;
    g_autofree char *ca = tls_path(c, "ca-cert.pem", true, &missing, error);
    if (ca == NULL) {
        return false;
    }
    int ret = gnutls_certificate_set_x509_trust_file(c->u.x509, ca, GNUTLS_X509_FMT_PEM);
    if (ret <= 0) {
        return tls_refuse(error, "Cannot load CA certificate", ca,
                          ret < 0 ? ret : GNUTLS_E_NO_CERTIFICATE_FOUND);
    }
    g_autofree char *crl = tls_path(c, "ca-crl.pem", false, &missing, error);
    ret =
        crl != NULL ? gnutls_certificate_set_x509_crl_file(c->u.x509, crl, GNUTLS_X509_FMT_PEM) : 0;
    return ret >= 0 || tls_refuse(error, "Cannot load the revoked certificates of", crl, ret);
}

static bool tls_load_x509(TlsCreds *c, GError **error)
{
    bool server = c->config.server, missing;
    int ret = gnutls_certificate_allocate_credentials(&c->u.x509);
    if (ret < 0) {
        return tls_refuse(error, "Cannot allocate credentials", NULL, ret);
    }
    if (!tls_load_ca(c, error)) {
        return false;
    }
    g_autofree char *cert =
        tls_path(c, server ? "server-cert.pem" : "client-cert.pem", server, &missing, error);
    if (cert == NULL) {
        return missing && !server;
    }
    g_autofree char *key =
        tls_path(c, server ? "server-key.pem" : "client-key.pem", true, &missing, error);
    if (key == NULL) {
        return false;
    }
    ret = gnutls_certificate_set_x509_key_file(c->u.x509, cert, key, GNUTLS_X509_FMT_PEM);
    if (ret < 0) {
        return tls_refuse(error, "Cannot load certificate and key of", cert, ret);
    }
    gnutls_certificate_set_known_dh_params(c->u.x509, GNUTLS_SEC_PARAM_MEDIUM);
    return true;
}

static void tls_creds_free(TlsCreds *c)
{
    bool server = c->config.server;
    if (c->u.any == NULL) {
        /* nothing was allocated */
    } else if (c->config.kind == TLS_ANON) {
        server ? gnutls_anon_free_server_credentials(c->u.anon_server)
               : gnutls_anon_free_client_credentials(c->u.anon_client);
    } else if (c->config.kind == TLS_PSK) {
        server ? gnutls_psk_free_server_credentials(c->u.psk_server)
               : gnutls_psk_free_client_credentials(c->u.psk_client);
    } else {
        gnutls_certificate_free_credentials(c->u.x509);
    }
    g_free((char *)(uintptr_t)c->config.dir);
    g_free((char *)(uintptr_t)c->config.username);
    g_free((char *)(uintptr_t)c->config.priority);
    g_free(c);
}

TlsCreds *tls_creds_new(const TlsConfig *config, GError **error)
{
    static bool (*const load[])(TlsCreds *, GError **) = {
        [TLS_ANON] = tls_load_anon, [TLS_PSK] = tls_load_psk, [TLS_X509] = tls_load_x509};
    if (!tls_load_library(error)) {
        return NULL;
    }
    TlsCreds *c = g_new0(TlsCreds, 1);
    g_atomic_ref_count_init(&c->refs);
    c->config = *config;
    c->config.dir = g_strdup(config->dir);
    c->config.username = g_strdup(config->username != NULL ? config->username : "qemu");
    c->config.priority = g_strdup(config->priority);
    if (config->kind != TLS_ANON && config->dir == NULL) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_CREDENTIALS,
                    "dir is missing: the directory of the keys or certificates");
        tls_creds_free(c);
        return NULL;
    }
    if (!load[config->kind](c, error)) {
        tls_creds_free(c);
        return NULL;
    }
    return c;
}

TlsCreds *tls_creds_ref(TlsCreds *c)
{
    g_atomic_ref_count_inc(&c->refs);
    return c;
}

void tls_creds_unref(TlsCreds *c)
{
    if (c != NULL && g_atomic_ref_count_dec(&c->refs)) {
        tls_creds_free(c);
    }
}

const TlsConfig *tls_creds_config(const TlsCreds *c)
{
    return &c->config;
}

/* ---- sessions ---- */

/* Returns GnuTLS's result. */
static int tls_session_set_up(TlsSession *s, int fd)
{
    static const char *const added[] = {[TLS_ANON] = ":+ANON-ECDH:+ANON-DH",
                                        [TLS_PSK] = ":+ECDHE-PSK:+DHE-PSK:+PSK",
                                        [TLS_X509] = ""};
    static const gnutls_credentials_type_t types[] = {[TLS_ANON] = GNUTLS_CRD_ANON,
                                                      [TLS_PSK] = GNUTLS_CRD_PSK,
                                                      [TLS_X509] = GNUTLS_CRD_CERTIFICATE};
    const TlsConfig *config = &s->creds->config;
    g_autofree char *priority = g_strconcat(config->priority != NULL ? config->priority : "NORMAL",
                                            added[config->kind], NULL);
    int ret = gnutls_priority_set_direct(s->session, priority, NULL);
    if (ret == 0) {
        ret = gnutls_credentials_set(s->session, types[config->kind], s->creds->u.any);
    }
    if (config->kind == TLS_X509) {
        gnutls_certificate_server_set_request(s->session, config->verify_peer ? GNUTLS_CERT_REQUIRE
                                                                              : GNUTLS_CERT_IGNORE);
    }
    gnutls_transport_set_int(s->session, fd);
    return ret;
}

TlsSession *tls_session_new_server(TlsCreds *creds, int fd, GError **error)
{
    TlsSession *s = g_new0(TlsSession, 1);
    s->creds = tls_creds_ref(creds);
    int ret = gnutls_init(&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (ret == 0) {
        ret = tls_session_set_up(s, fd);
    }
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_SESSION, "TLS cannot begin: %s",
                    gnutls_strerror(ret));
        tls_session_free(s);
        return NULL;
    }
    return s;
}

void tls_session_free(TlsSession *s)
{
    if (s != NULL) {
        if (s->session != NULL) {
            gnutls_deinit(s->session);
        }
        tls_creds_unref(s->creds);
        g_free(s);
    }
}

static bool tls_session_wants_write(const TlsSession *s)
{
    return gnutls_record_get_direction(s->session) == 1;
}

/* Whether the peer's certificate is of the CA. */
static bool tls_session_verify(TlsSession *s, GError **error)
{
    if (s->creds->config.kind != TLS_X509 || !s->creds->config.verify_peer) {
        return true;
    }
    unsigned status = 0;
    int ret = gnutls_certificate_verify_peers2(s->session, &status);
    if (ret == 0 && status == 0) {
        return true;
    }
    g_set_error(error, TLS_ERROR, TLS_ERROR_SESSION, "the client's certificate is refused: %s",
                ret < 0                                        ? gnutls_strerror(ret)
                : (status & GNUTLS_CERT_EXPIRED) != 0          ? "it has expired"
                : (status & GNUTLS_CERT_REVOKED) != 0          ? "it was revoked"
                : (status & GNUTLS_CERT_SIGNER_NOT_FOUND) != 0 ? "it is not of the CA"
                                                               : "it is not valid");
    return false;
}

int tls_session_handshake(TlsSession *s, bool *wants_write, GError **error)
{
    int ret = gnutls_handshake(s->session);
    if (ret == 0) {
        return tls_session_verify(s, error) ? 0 : -EACCES;
    }
    if (!gnutls_error_is_fatal(ret)) {
        *wants_write = tls_session_wants_write(s);
        return -EAGAIN;
    }
    g_set_error(error, TLS_ERROR, TLS_ERROR_SESSION, "the TLS handshake has failed: %s",
                gnutls_strerror(ret));
    return -EPROTO;
}

ssize_t tls_session_read(TlsSession *s, void *data, size_t size, bool *wants_write)
{
    ssize_t n = gnutls_record_recv(s->session, data, size);
    if (n >= 0) {
        return n;
    }
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
        *wants_write = tls_session_wants_write(s);
        return -EAGAIN;
    }
    /* a renegotiation is refused, too */
    return n == GNUTLS_E_PREMATURE_TERMINATION ? -ECONNRESET : -EPROTO;
}

ssize_t tls_session_write(TlsSession *s, const void *data, size_t size)
{
    ssize_t n = gnutls_record_send(s->session, data, size);
    if (n >= 0) {
        return n;
    }
    return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -EAGAIN : -EPIPE;
}
