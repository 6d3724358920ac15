/* SPDX-License-Identifier: Apache-2.0 */
/* The backend union of chardev-add, and its conversion to options of -chardev. Only for this
 * folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_CHARDEV_BACKEND_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_CHARDEV_BACKEND_H

#include "util/opts/opts.h"
#include "vmm/monitor/qmp/qmp.h"

extern const QmpType qmp_chardev_backend; /* "ChardevBackend" */

/* Converts @backend (checked against the type above) to the options of -chardev, without id. Sets
 * *@fd to the descriptor that they refer to, which the caller closes after their use, or to -1.
 * Returns NULL and sets @error on failure. */
OptDict *qmp_chardev_options(struct json_object *backend, QmpSession *session, int *fd,
                             GError **error) RUNS_IN_MAIN;

extern const QmpType qmp_socket_address_legacy;
/* Copies an address, checked against that type, to @options as members of -chardev socket. @what names
 * its data for messages. *@fd as above. */
bool qmp_socket_address_options(struct json_object *address, const char *what, OptDict *options,
                                QmpSession *session, int *fd, GError **error) RUNS_IN_MAIN;

#endif
