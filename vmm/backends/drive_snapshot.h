/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot=on: writes to a disk go to a temporary image, and are lost at exit. */
#ifndef SKIFF_VMM_BACKENDS_DRIVE_SNAPSHOT_H
#define SKIFF_VMM_BACKENDS_DRIVE_SNAPSHOT_H

#include "block/block.h"

/* Opens what @blockdev describes for reading, and above it a qcow2 overlay with the described node
 * name. The overlay's file is in $TMPDIR, or /var/tmp, and has no name any more. Returns the
 * overlay; the caller owns one reference. NULL + @error. */
BlockNode *drive_co_open_snapshot(const OptDict *blockdev, AioContext *home, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
