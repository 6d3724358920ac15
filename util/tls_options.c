/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tls_options.h"

#include <stddef.h>
#include <string.h>

typedef struct TlsOptions {
    char *type, *id, *dir, *endpoint, *priority, *username, *passwordid;
    bool verify_peer, sanity_check;
} TlsOptions;

static const char *const tls_types[] = {
    [TLS_ANON] = "tls-creds-anon", [TLS_PSK] = "tls-creds-psk", [TLS_X509] = "tls-creds-x509"};

bool tls_find_type(const char *type, TlsKind *kind)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(tls_types); i++) {
        if (strcmp(type, tls_types[i]) == 0) {
            *kind = (TlsKind)i;
            return true;
        }
    }
    return false;
}

static bool tls_check_options(TlsKind kind, const TlsOptions *o, bool *server, GError **error)
{
    if (o->passwordid != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-object %s: passwordid=: skiff has no secrets; use a key without a password",
                    tls_types[kind]);
        return false;
    }
    *server = strcmp(o->endpoint, "server") == 0;
    if (!*server && strcmp(o->endpoint, "client") != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-object %s: endpoint=%.40s: is neither client nor server", tls_types[kind],
                    o->endpoint);
        return false;
    }
    return true;
}

typedef struct TlsLoad {
    TlsConfig config;
    TlsCreds *creds;
    GError *error;
} TlsLoad;

static int tls_load_in_worker(void *opaque)
{
    TlsLoad *l = opaque;
    enter_worker();
    l->creds = tls_creds_new(&l->config, &l->error);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN TlsCreds *tls_co_make(TlsKind kind, const TlsOptions *o,
                                                       GError **error)
{
    TlsLoad l = {.config = {.kind = kind,
                            .dir = o->dir,
                            .verify_peer = o->verify_peer,
                            .username = o->username,
                            .priority = o->priority}};
    if (!tls_check_options(kind, o, &l.config.server, error)) {
        return NULL;
    }
    co_run_in_worker(tls_load_in_worker, &l);
    if (l.creds == NULL) {
        g_propagate_error(error, l.error);
    }
    return l.creds;
}

TlsCreds *tls_co_creds_from_options(const OptDict *opts, GError **error)
{
    static const OptSpec specs[] = {
        OPT_SPEC(TlsOptions, "qom-type", OPT_STRING, type),
        OPT_SPEC(TlsOptions, "id", OPT_STRING, id, .required = true),
        OPT_SPEC(TlsOptions, "dir", OPT_STRING, dir, .help = "the directory of keys"),
        OPT_SPEC(TlsOptions, "endpoint", OPT_STRING, endpoint, .help = "server or client",
                 .def = "client"),
        OPT_SPEC(TlsOptions, "verify-peer", OPT_BOOL, verify_peer,
                 .help = "the peer needs a certificate", .def = "on"),
        OPT_SPEC(TlsOptions, "priority", OPT_STRING, priority, .help = "GnuTLS's"),
        OPT_SPEC(TlsOptions, "sanity-check", OPT_BOOL, sanity_check,
                 .help = "accepted; GnuTLS checks certificates when they are used", .def = "on"),
        OPT_SPEC(TlsOptions, "username", OPT_STRING, username, .help = "tls-creds-psk, client"),
        OPT_SPEC(TlsOptions, "passwordid", OPT_STRING, passwordid, .help = "refused"),
        {0},
    };
    TlsKind kind = TLS_ANON;
    TlsOptions o;
    tls_find_type(opt_dict_get(opts, "qom-type"), &kind);
    g_autofree char *what = g_strdup_printf("-object %s", tls_types[kind]);
    opts_init(specs, &o);
    if (!opts_bind(specs, &o, opts, what, error)) {
        return NULL;
    }
    TlsCreds *creds = tls_co_make(kind, &o, error);
    opts_clear(specs, &o);
    return creds;
}

/* ---- credentials by their id ---- */

typedef struct TlsObject {
    char *id;
    TlsCreds *creds;
    struct TlsObject *next;
} TlsObject;

static TlsObject *tls_objects; /* main */

void tls_objects_add(const char *id, TlsCreds *creds)
{
    TlsObject *o = g_new0(TlsObject, 1);
    *o = (TlsObject){.id = g_strdup(id), .creds = creds, .next = tls_objects};
    tls_objects = o;
}

TlsCreds *tls_objects_find(const char *id)
{
    for (const TlsObject *o = tls_objects; o != NULL; o = o->next) {
        if (strcmp(o->id, id) == 0) {
            return o->creds;
        }
    }
    return NULL;
}

bool tls_objects_remove(const char *id)
{
    for (TlsObject **link = &tls_objects; *link != NULL; link = &(*link)->next) {
        TlsObject *o = *link;
        if (strcmp(o->id, id) == 0) {
            *link = o->next;
            tls_creds_unref(o->creds);
            g_free(o->id);
            g_free(o);
            return true;
        }
    }
    return false;
}
