/* SPDX-License-Identifier: Apache-2.0 */
#include "block/file/file_opener.h"

#include "block/block.h"
#include "util/loop/aio.h"
#include "util/loop/worker.h"

static WorkerLane opener_lane;

bool file_co_run_opener(const char *path, int (*fn)(void *opaque), void *opaque, int *ret,
                        GError **error)
{
    int64_t begin_ns = aio_now_ns(co_context(co_self())) + FILE_OPENER_PATIENCE_NS;
    if (co_run_in_lane_begun_by(&opener_lane, fn, opaque, begin_ns, ret)) {
        return true;
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                "'%s': too many files are being opened, and their storage does not answer", path);
    return false;
}

int file_co_run_opener_late(int (*fn)(void *opaque), void *opaque)
{
    return co_run_in_lane(&opener_lane, fn, opaque);
}
