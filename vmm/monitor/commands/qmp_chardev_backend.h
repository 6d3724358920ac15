/* SPDX-License-Identifier: Apache-2.0 */
/* The backend union of chardev-add, and what it is in the words of -chardev. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_CHARDEV_BACKEND_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_CHARDEV_BACKEND_H

#include "util/opts/opts.h"
#include "vmm/monitor/qmp/qmp.h"

extern const QmpType qmp_chardev_backend; /* "ChardevBackend" */

/* The options of the backend that @backend (checked against the type above) describes, without id.
 * *@fd is a descriptor that they name and the caller closes once they are used, or -1. NULL +
 * @error. */
OptDict *qmp_chardev_options(struct json_object *backend, QmpSession *session, int *fd,
                             GError **error) RUNS_IN_MAIN;

#endif
