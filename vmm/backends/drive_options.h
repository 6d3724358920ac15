/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -drive: QEMU's older way to describe a disk, translated into -blockdev's.
 *
 *   -drive file=disk.img,format=raw,if=none,id=d0,cache=none,aio=native,werror=stop
 *
 *   blockdev: driver=raw,node-name=d0,cache.direct=on,cache.no-flush=off,
 *             file.driver=file,file.filename=disk.img,file.aio=native
 *   device:   write-cache=on,werror=stop
 *
 * | cache=       | cache.direct | cache.no-flush | write-cache |
 * |--------------|--------------|----------------|-------------|
 * | writeback    | off          | off            | on          |
 * | none         | on           | off            | on          |
 * | writethrough | off          | off            | off         |
 * | directsync   | on           | off            | off         |
 * | unsafe       | off          | on             | on          |
 *
 * The format is never chosen by the image's contents, since the guest has written them: without
 * format= it is raw, with a warning. An image that looks like one of another format is refused then. Options that skiff lacks are refused by name.
 */
#ifndef SKIFF_VMM_BACKENDS_DRIVE_OPTIONS_H
#define SKIFF_VMM_BACKENDS_DRIVE_OPTIONS_H

#include <glib.h>
#include <stdbool.h>
#include "block/throttle.h"
#include "util/opts/opts.h"

typedef enum BlockDriveInterface {
    BLOCK_DRIVE_IF_NONE,   /* a -device uses it by its id */
    BLOCK_DRIVE_IF_VIRTIO, /* a virtio-blk-pci is created for it; the default */
    BLOCK_DRIVE_IF_PFLASH, /* the board's next flash */
} BlockDriveInterface;

typedef enum BlockDriveSnapshot {
    BLOCK_DRIVE_SNAPSHOT_DEFAULT, /* as -snapshot says */
    BLOCK_DRIVE_SNAPSHOT_ON,
    BLOCK_DRIVE_SNAPSHOT_OFF,
} BlockDriveSnapshot;

enum {
    BLOCK_DRIVE_NO_INDEX = -1,
    BLOCK_DRIVE_MAX_INDEX = 65535,
};

typedef struct BlockDrive {
    int index; /* among the drives of its interface; or BLOCK_DRIVE_NO_INDEX */
    char *id;  /* NULL: none given; otherwise also the node-name, unless one was given */
    BlockDriveInterface interface;
    BlockDriveSnapshot snapshot; /* whether writes go to a temporary image */
    bool copy_on_read;           /* reads copy to the image what they find below */
    bool format_implied;         /* no format= was given: raw */
    OptDict *blockdev;           /* for block_co_open() */
    struct BlockEdge
        *root; /* the node that it shows; NULL: it is not open, or was taken out of a CD drive */
    RateLimits limits;    /* throttling.* */
    char *group_name;     /* throttling.group; NULL: the drive has a group of its own */
    ThrottleGroup *group; /* set by the drive's owner, who has a reference; NULL: no limits */
    OptDict *device;      /* properties of the device that uses it: write-cache, werror, rerror */
} BlockDrive;

/* Fills @drive, which block_drive_clear() empties. On failure it is empty. */
bool block_drive_to_blockdev(const OptDict *opts, BlockDrive *drive, GError **error) ANY_THREAD;
void block_drive_clear(BlockDrive *drive) ANY_THREAD;
/* throttle.c: moves throttling.* and the short names of them from @d to @drive. */
bool block_drive_take_throttling(OptDict *d, BlockDrive *drive, GError **error) ANY_THREAD;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(BlockDrive, block_drive_clear)

#endif
