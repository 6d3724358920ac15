/* SPDX-License-Identifier: Apache-2.0 */
/* External snapshots for the command transaction. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_CHAIN_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_CHAIN_H

#include "block/chain/external_snapshot.h"
#include "vmm/monitor/commands/qmp_block.h"

extern const QmpType qmp_snapshot_sync_arg, qmp_snapshot_arg;

/* Open, and make, the overlay that @args describe. May wait for storage. NULL + @error. */
ExternalSnapshot *qmp_co_begin_snapshot_sync(QmpCall *call, struct json_object *args,
                                             GError **error) coroutine_fn RUNS_IN_MAIN;
ExternalSnapshot *qmp_co_begin_snapshot(QmpCall *call, struct json_object *args, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock: puts the overlay above the disk, if the disk still is what it was. */
bool qmp_co_insert_snapshot(QmpCall *call, struct json_object *args, ExternalSnapshot *s,
                            GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
