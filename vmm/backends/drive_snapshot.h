/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays in temporary files, which are lost at exit: snapshot=on, and others. */
#ifndef SKIFF_VMM_BACKENDS_DRIVE_SNAPSHOT_H
#define SKIFF_VMM_BACKENDS_DRIVE_SNAPSHOT_H

#include "block/block.h"

/* Opens what @blockdev describes for reading, and above it a qcow2 overlay with the described node
 * name. The overlay's file is in $TMPDIR, or /var/tmp, and has no name any more. Returns the
 * overlay; the caller owns one reference. NULL + @error. */
BlockNode *drive_co_open_snapshot(const OptDict *blockdev, AioContext *home, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* An empty overlay for @base, in such a file, without a backing node: it is not above @base yet. @user begins the
 * error. The caller owns one reference. NULL + @error. */
BlockNode *drive_co_new_overlay(const char *user, const BlockNode *base, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
