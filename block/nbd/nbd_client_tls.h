/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS of connections to NBD servers. The credentials are objects of the program above; libnbd reads the
 * files in their directory at each connection, in a worker.
 */
#ifndef SKIFF_BLOCK_NBD_NBD_CLIENT_TLS_H
#define SKIFF_BLOCK_NBD_NBD_CLIENT_TLS_H

#include "util/tls.h"

/* Returns the credentials with that id, borrowed; NULL: there are none. */
typedef TlsCreds *NbdTlsFind(void *opaque, const char *id);
/* Sets how tls-creds= finds credentials. Called before any node is opened; NULL: there are none. */
void nbd_client_set_tls_find(NbdTlsFind *find, void *opaque) RUNS_IN_MAIN;

#endif
