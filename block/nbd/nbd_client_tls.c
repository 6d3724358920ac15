/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD client: which TLS a connection has.
 *
 * libnbd compares a server's certificate with the host name that it connects to itself, and checks no
 * certificate without one. So with x509 and verify-peer, libnbd makes the TCP connection. Versions that
 * have nbd_set_tls_hostname() can be given another name.
 */
#include <string.h>
#include "block/nbd/nbd_client_int.h"
#include "util/tls_options.h"

#ifdef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
#define TLS_HAS_HOSTNAME true
#else
#define TLS_HAS_HOSTNAME false
#define nbd_set_tls_hostname(h, name) 0
#endif

static TlsCreds *tls_refuse(GError **error, const char *format, const char *value)
{
    g_autofree char *excerpt = opt_excerpt(value);
    g_autofree char *what = g_strdup_printf(format, excerpt);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "driver=nbd: %s", what);
    return NULL;
}

/* Whether libnbd is going to check the server's certificate against the right name. */
static bool tls_check_hostname(const NbdClientOptions *o, GError **error)
{
    if (TLS_HAS_HOSTNAME && o->tls_hostname != NULL) {
        return true;
    }
    if (o->type != NBD_SERVER_INET) {
        tls_refuse(error,
                   "tls-creds=%s: a certificate is checked against server.host, so use "
                   "server.type=inet, or verify-peer=off, or a key (tls-creds-psk)",
                   o->tls_creds);
        return false;
    }
    if (o->tls_hostname != NULL && strcmp(o->tls_hostname, o->host) != 0) {
        tls_refuse(error,
                   "tls-hostname=%s: this libnbd compares a certificate with server.host only",
                   o->tls_hostname);
        return false;
    }
    return true;
}

TlsCreds *nbd_client_tls_find(const NbdClientOptions *o, GError **error)
{
    TlsCreds *creds = tls_objects_find(o->tls_creds);
    if (creds == NULL) {
        return tls_refuse(error, "No TLS credentials with id '%s'", o->tls_creds);
    }
    const TlsConfig *config = tls_creds_config(creds);
    if (config->server) {
        return tls_refuse(error, "tls-creds=%s: Expecting TLS credentials with a client endpoint",
                          o->tls_creds);
    }
    if (config->kind == TLS_ANON || config->priority != NULL) {
        return tls_refuse(error,
                          "tls-creds=%s: a client has credentials with a key or certificates "
                          "(tls-creds-psk, tls-creds-x509), and no priority",
                          o->tls_creds);
    }
    if (config->kind == TLS_X509 && config->verify_peer && !tls_check_hostname(o, error)) {
        return NULL;
    }
    return tls_creds_ref(creds);
}

bool nbd_client_tls_connects(const NbdTarget *t)
{
    if (t->tls == NULL || (TLS_HAS_HOSTNAME && t->tls_hostname != NULL)) {
        return false;
    }
    const TlsConfig *config = tls_creds_config(t->tls);
    return config->kind == TLS_X509 && config->verify_peer;
}

bool nbd_client_tls_configure(const NbdTarget *t, struct nbd_handle *h)
{
    if (t->tls == NULL) {
        return true;
    }
    const TlsConfig *config = tls_creds_config(t->tls);
    if (nbd_set_tls(h, LIBNBD_TLS_REQUIRE) < 0) {
        return false;
    }
    if (config->kind == TLS_PSK) {
        g_autofree char *keys = g_build_filename(t->tls_dir, "keys.psk", NULL);
        const char *user = config->username != NULL ? config->username : "qemu"; /* as QEMU */
        return nbd_set_tls_psk_file(h, keys) == 0 && nbd_set_tls_username(h, user) == 0;
    }
    return nbd_set_tls_certificates(h, t->tls_dir) == 0 &&
           nbd_set_tls_verify_peer(h, config->verify_peer) == 0 &&
           (t->tls_hostname == NULL || nbd_set_tls_hostname(h, t->tls_hostname) == 0);
}
