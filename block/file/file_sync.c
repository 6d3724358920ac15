/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flushes of a file: one fdatasync() at a time.
 *
 * The kernel reports a failed write-back once per open file: to the first fdatasync() or RWF_DSYNC
 * write that ends after it. A second one that ends at the same time succeeds although its data is
 * lost. So only one runs at a time, and with the page cache a FUA write is a write and a flush.
 * Flushes that arrive during a sync wait for the next one, which serves all of them:
 *
 *   flush A   |--- sync 1 ---|
 *   flush B        waits      |--- sync 2 ---|
 *   flush C          waits     (joins sync 2)
 *
 * Invariants
 *   1. A flush returns the result of a sync that began after the flush did.
 *   2. With the page cache a failed sync makes every later flush fail: the kernel may have dropped
 *      the dirty pages, and a later success would not mean that the data is safe.
 */
#include "block/file/driver_file.h"

static coroutine_fn RUNS_IN_IOTHREAD void file_sync_once(BlockNode *n)
{
    FileState *s = n->state;
    BlockIo io = {.op = BLOCK_IO_FDSYNC};
    uint64_t number = ++s->syncs_begun;
    s->syncing = true;
    int ret = (int)file_co_io(n, s->engine, &io);
    s->syncing = false;
    s->syncs_ended = number;
    if (ret < 0) {
        s->sync_failed = number;
        s->sync_error = ret;
    }
    if (ret < 0 && !n->flags.cache_direct) {
        s->flush_error = ret;
    }
    co_queue_wake_all(&s->sync_waiters);
}

int file_co_sync(BlockNode *n)
{
    FileState *s = n->state;
    uint64_t number = s->syncs_begun + 1;
    while (s->syncs_ended < number && s->flush_error == 0) {
        if (s->syncing) {
            co_queue_wait(&s->sync_waiters, "an earlier flush of the file");
        } else {
            file_sync_once(n);
        }
    }
    if (s->flush_error != 0) {
        return s->flush_error;
    }
    return s->sync_failed >= number ? s->sync_error : 0;
}
