/* SPDX-License-Identifier: Apache-2.0 */
/* What filters have in common: they show their child "file". */
#include "block/node.h"

void block_filter_child_changed(BlockNode *n)
{
    n->limits = n->file->limits;
    n->caps = n->file->caps;
    block_node_follow_size(n, block_node_size(n->file));
}

int block_filter_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                           unsigned niov)
{
    return block_node_co_preadv(n->file, offset, bytes, iov, niov);
}

int block_filter_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                                 BlockStatus *status)
{
    *status = (BlockStatus){.bytes = bytes,
                            .flags = BLOCK_STATUS_RAW | BLOCK_STATUS_OFFSET_VALID,
                            .map_node = n->file,
                            .map_offset = offset};
    return 0;
}
