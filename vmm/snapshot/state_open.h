/* SPDX-License-Identifier: Apache-2.0 */
/* Names of state files: a path, an NBD URI ("nbd:...", "nbd+unix:///..."), or "json:{...}" with the options of a
 * block node. */
#ifndef SKIFF_VMM_SNAPSHOT_STATE_OPEN_H
#define SKIFF_VMM_SNAPSHOT_STATE_OPEN_H

#include "block/block.h"

/* Whether @name is a path: of a file, which can be made, or of a block device. */
bool state_name_is_path(const char *name) ANY_THREAD;
/* Opens it in @home. NULL + @error. The caller owns the reference. */
BlockNode *state_co_open(const char *name, AioContext *home, bool writable, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
