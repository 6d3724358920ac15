/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disks have in common, whatever their bus: the backend of drive=, and the action after an I/O
 * error (werror=, rerror=).
 */
#ifndef SKIFF_HW_CORE_DISK_H
#define SKIFF_HW_CORE_DISK_H

#include "block/block.h"
#include "hw/core/device.h"

/* Names as in QEMU's werror= and rerror=. */
typedef enum DiskErrorPolicy {
    DISK_ERROR_AUTO, /* enospc for writes, report for reads */
    DISK_ERROR_REPORT,
    DISK_ERROR_IGNORE,
    DISK_ERROR_ENOSPC, /* stop on ENOSPC, else report */
    DISK_ERROR_STOP,
} DiskErrorPolicy;

extern const char *const disk_error_names[];

#define DISK_ERROR_PROPERTIES(T)                                                                   \
    OPT_SPEC(T, "werror", OPT_ENUM, werror, .def = "auto", .names = disk_error_names,              \
             .help = "action after a write error"),                                                \
        OPT_SPEC(T, "rerror", OPT_ENUM, rerror, .def = "auto", .names = disk_error_names,          \
                 .help = "action after a read error")

/* False + error: rerror=enospc, which a read cannot meet. */
bool disk_error_check(int rerror, GError **error) ANY_THREAD;
/* What @policy, of reads or of writes, does after @error (errno). */
DeviceIoAction disk_error_action(int policy, bool is_read, int error) ANY_THREAD;
/* Announces the error, and for DEVICE_IO_STOP sets the status of @blk. The caller stops the VM. */
void disk_error_report(const Device *dev, BlockBackend *blk, bool is_read, DeviceIoAction action,
                       int error) ANY_THREAD;

/* Opens a backend on node @drive for @dev. A node without users moves to @home first, unless @home
 * is NULL. NULL + error. */
BlockBackend *disk_co_open(const Device *dev, const char *drive, AioContext *home, bool read_only,
                           GError **error) coroutine_fn RUNS_IN_MAIN;
/* The context of -object iothread,id=@iothread. NULL + error: there is none. */
AioContext *disk_find_iothread(const Device *dev, const char *iothread, GError **error)
    RUNS_IN_MAIN;

#endif
