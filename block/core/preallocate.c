/* SPDX-License-Identifier: Apache-2.0 */
#include "block/core/preallocate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREALLOCATE_PIECE ((uint64_t)2 << 20) /* bytes of a write */

const char *const block_preallocation_names[] = {"off", "metadata", "falloc", "full", NULL};

static coroutine_fn RUNS_IN_IOTHREAD int preallocate_by_writing(BlockNode *n, uint64_t offset,
                                                                uint64_t bytes)
{
    void *zeroes = aligned_alloc(BLOCK_MEMORY_ALIGNMENT_MAX, PREALLOCATE_PIECE);
    int ret = zeroes != NULL ? 0 : -ENOMEM;
    if (zeroes != NULL) {
        memset(zeroes, 0, PREALLOCATE_PIECE);
    }
    for (uint64_t done = 0; ret == 0 && done < bytes;) {
        struct iovec iov = {zeroes, MIN(PREALLOCATE_PIECE, bytes - done)};
        ret = block_node_co_pwritev(n, offset + done, iov.iov_len, &iov, 1, 0);
        done += iov.iov_len;
    }
    free(zeroes);
    return ret;
}

int block_node_co_preallocate(BlockNode *n, uint64_t offset, uint64_t bytes,
                              BlockPreallocation mode)
{
    if (n->drv->co_preallocate != NULL && mode != BLOCK_PREALLOCATION_OFF) {
        block_node_begin(n);
        int ret = n->drv->co_preallocate(n, offset, bytes, mode);
        block_node_end(n);
        return ret;
    }
    switch (mode) {
    case BLOCK_PREALLOCATION_OFF:
    case BLOCK_PREALLOCATION_METADATA:
        return 0;
    case BLOCK_PREALLOCATION_FALLOC:
        return block_node_co_write_zeroes(n, offset, bytes, 0);
    case BLOCK_PREALLOCATION_FULL:
        return preallocate_by_writing(n, offset, bytes);
    }
    return -EINVAL;
}
