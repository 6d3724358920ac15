/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The medium of a CD drive, changed by the host. Main; the caller holds the VM operation lock.
 *
 *   in the drive --open_tray--> on the open tray --co_remove--> none
 *        ^                                                        |
 *        +---close_tray--- on the open tray <-------co_insert-----+
 *
 * A guest finds the medium gone when the tray is open. It learns of each move by a unit attention
 * and by GET EVENT STATUS NOTIFICATION.
 */
#ifndef SKIFF_HW_SCSI_SCSI_MEDIUM_H
#define SKIFF_HW_SCSI_SCSI_MEDIUM_H

#include "hw/scsi/scsi.h"

/* The CD drive that @dev is; NULL if it is another device. */
ScsiLun *scsi_medium_drive(Device *dev) ANY_THREAD;
bool scsi_medium_tray_open(const ScsiLun *lun) ANY_THREAD;
/* Whether the guest keeps the tray closed. */
bool scsi_medium_locked(const ScsiLun *lun) ANY_THREAD;
/* Returns whether the tray is open now. A locked tray opens only with @force, which unlocks it; without
 * it the guest gets an eject request. */
bool scsi_medium_open_tray(ScsiLun *lun, bool force) RUNS_IN_MAIN;
void scsi_medium_close_tray(ScsiLun *lun) RUNS_IN_MAIN;
/* Takes the medium out: requests that use it end as aborted, and the backend is freed. False: their I/O
 * has not ended within @timeout_ns. The medium is still in the drive then, on the open tray, and the
 * requests end as aborted later. Else the drive keeps its limits for the next medium. */
bool scsi_medium_co_remove(ScsiLun *lun, int64_t timeout_ns) coroutine_fn RUNS_IN_MAIN;
/* Puts @node into the drive, which is empty. False + error. */
bool scsi_medium_co_insert(ScsiLun *lun, const char *node, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
