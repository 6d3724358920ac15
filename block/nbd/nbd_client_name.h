/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File names that mean an export of an NBD server, as QEMU has them:
 *
 *   nbd://HOST[:PORT]/[EXPORT]             also nbd+tcp://; an IPv6 address is in brackets
 *   nbd+unix:///[EXPORT]?socket=PATH
 *   nbd:HOST:PORT[:exportname=EXPORT]
 *   nbd:unix:PATH[:exportname=EXPORT]
 */
#ifndef SKIFF_BLOCK_NBD_NBD_CLIENT_NAME_H
#define SKIFF_BLOCK_NBD_NBD_CLIENT_NAME_H

#include "util/opts/opts.h"

#define NBD_DEFAULT_PORT 10809

/* Whether a file name begins as one of these names does. */
bool nbd_client_is_name(const char *name) ANY_THREAD;
/* Returns the description of the node (driver=nbd) that such a name means, owned by the caller; NULL
 * + error. */
OptDict *nbd_client_describe_name(const char *name, GError **error) ANY_THREAD;

#endif
