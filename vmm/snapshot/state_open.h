/* SPDX-License-Identifier: Apache-2.0 */
/* Names of state files: a path, an NBD URI ("nbd:...", "nbd+unix:///..."), or "json:{...}" with the options of a
 * block node. */
#ifndef SKIFF_VMM_SNAPSHOT_STATE_OPEN_H
#define SKIFF_VMM_SNAPSHOT_STATE_OPEN_H

#include "block/block.h"

/* Whether @name is a path: of a file, which can be made, or of a block device. */
bool state_name_is_path(const char *name) ANY_THREAD;
typedef struct StateOpen {
    AioContext *home;
    bool writable;
    /* Of a path: O_DIRECT and io_uring where there are these, else without. Much data goes between memory and disk without
     * a copy, and does not push other files out of the page cache. */
    bool direct;
} StateOpen;

/* Opens it. NULL + @error. The caller owns the reference. */
BlockNode *state_co_open(const char *name, const StateOpen *how, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Whether most of the file @path, from @offset on, is in the page cache: it is read fastest from there. False if that cannot
 * be told. Not after the start, when a filter of system calls may be in force. */
bool state_co_is_cached(const char *path, uint64_t offset) coroutine_fn RUNS_IN_MAIN;

#endif
