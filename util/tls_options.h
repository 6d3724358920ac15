/* SPDX-License-Identifier: Apache-2.0 */
/* TLS credentials as users describe them: -object tls-creds-anon, tls-creds-psk, tls-creds-x509. */
#ifndef SKIFF_UTIL_TLS_OPTIONS_H
#define SKIFF_UTIL_TLS_OPTIONS_H

#include "util/loop/coroutine.h"
#include "util/opts/opts.h"
#include "util/tls.h"

/* Whether "qom-type" is one of them, and which. */
bool tls_find_type(const char *type, TlsKind *kind) ANY_THREAD;
/* Reads the files, in a worker, that @opts names, which has "qom-type" and "id". NULL + @error. */
TlsCreds *tls_co_creds_from_options(const OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- credentials by their id, for users in all rooms ---- */
/* Consumes @creds. The id is new. */
void tls_objects_add(const char *id, TlsCreds *creds) RUNS_IN_MAIN;
TlsCreds *tls_objects_find(const char *id) RUNS_IN_MAIN; /* borrowed; NULL: none */
/* Users keep a reference to what they use. False: there is none. */
bool tls_objects_remove(const char *id) RUNS_IN_MAIN;

#endif
