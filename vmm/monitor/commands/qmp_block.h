/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the commands on disks and jobs. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_BLOCK_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_BLOCK_H

#include "block/block.h"
#include "vmm/monitor/qmp/qmp.h"

/* ---- qmp_block_types.c ---- */
extern const QmpType qmp_io_operation_type;   /* "read", "write" */
extern const QmpType qmp_block_error_action;  /* "ignore", "report", "stop" */
extern const QmpType qmp_block_device_status; /* "ok", "failed", "nospace" */

extern const QmpType qmp_block_info_list;
extern const QmpType qmp_block_stats_list;
extern const QmpType qmp_block_device_info_list;
extern const QmpType qmp_u64_list;
extern const QmpType qmp_snapshot_info;

/* ---- qmp_snapshot_commands.c ---- */
struct json_object *qmp_snapshot_describe(const BlockSnapshotInfo *s) ANY_THREAD;

/* ---- qmp_block_query.c: handlers ---- */
QmpHandler qmp_query_block, qmp_query_blockstats, qmp_query_named_block_nodes;

/* Returns the backend of the guest device @id, which is its id or its path in QEMU's tree of
 * objects; NULL and DeviceNotFound if there is none. */
BlockBackend *qmp_find_backend(Vm *vm, const char *id, GError **error) RUNS_IN_MAIN;

/* Whether the backend is that of a guest's device. */
bool qmp_backend_has_device(Vm *vm, const BlockBackend *blk) RUNS_IN_MAIN;

/* ---- qmp_block_commands.c ---- */
/* The node of -drive id=@device, or else node @node_name; either may be NULL. */
BlockNode *qmp_find_node(Vm *vm, const char *device, const char *node_name, GError **error)
    RUNS_IN_MAIN;
extern const QmpType qmp_blockdev_options, qmp_blockdev_ref;
/* The node of a -drive, or of that name. */
BlockNode *qmp_find_node_of(Vm *vm, const char *name, GError **error) RUNS_IN_MAIN;

#endif
