/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD client: requests of the node. A request that has had no reply when its connection is lost is
 * sent again over another one, writes too, as QEMU does it.
 */
#include <errno.h>
#include <stdlib.h>
#include "block/nbd/nbd_client_int.h"
#include "util/loop/sched_point.h"
#include "util/zero.h"

/* ---- sending ---- */

/* The link with the fewest requests; NULL: all are down. */
static RUNS_IN_IOTHREAD NbdLink *request_find_link(NbdClient *c)
{
    NbdLink *best = NULL;
    for (unsigned i = 0; i < c->link_count; i++) {
        NbdLink *l = &c->links[i];
        if (l->handle != NULL && (best == NULL || l->in_flight < best->in_flight)) {
            best = l;
        }
    }
    return best;
}

static coroutine_fn RUNS_IN_IOTHREAD int request_co_send(BlockNode *n, NbdClientCommand *cmd)
{
    NbdClient *c = nbd_client_of(n);
    for (;;) {
        NbdLink *l = request_find_link(c);
        if (l != NULL) {
            int ret = nbd_link_co_command(l, cmd);
            if (ret != NBD_LOST) {
                return ret;
            }
        } else if (c->given_up) {
            return -EIO;
        } else {
            SP("nbd.wait", c);
            co_queue_wait(&c->waiting, "a connection to an NBD server");
        }
    }
}

/* ---- scattered buffers ---- */

static coroutine_fn RUNS_IN_IOTHREAD void request_co_reserve(NbdClient *c, uint64_t bytes)
{
    bool wait = !co_queue_empty(&c->bounce_waiters);
    while (wait || (c->bounced != 0 && bytes > NBD_CLIENT_BOUNCE_MAX - c->bounced)) {
        co_queue_wait(&c->bounce_waiters, "memory for a request to an NBD server");
        wait = false;
    }
    c->bounced += bytes;
    if (c->bounced < NBD_CLIENT_BOUNCE_MAX) {
        co_queue_wake_one(&c->bounce_waiters);
    }
}

static RUNS_IN_IOTHREAD void request_release(NbdClient *c, uint64_t bytes)
{
    c->bounced -= bytes;
    co_queue_wake_one(&c->bounce_waiters);
}

/* A read or write through one buffer. */
static coroutine_fn RUNS_IN_IOTHREAD int request_co_bounce(BlockNode *n, NbdClientCommand *cmd,
                                                           const struct iovec *iov, unsigned niov)
{
    NbdClient *c = nbd_client_of(n);
    request_co_reserve(c, cmd->bytes);
    int ret = -ENOMEM;
    cmd->buffer = malloc(cmd->bytes);
    if (cmd->buffer != NULL) {
        if (cmd->op == NBD_OP_WRITE) {
            iov_copy_to_buf(iov, niov, 0, cmd->buffer, cmd->bytes);
        }
        ret = request_co_send(n, cmd);
        if (cmd->op == NBD_OP_READ && ret == 0) {
            iov_copy_from_buf(iov, niov, 0, cmd->buffer, cmd->bytes);
        }
    }
    free(cmd->buffer);
    request_release(c, cmd->bytes);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int request_co_data(BlockNode *n, NbdClientCommand *cmd,
                                                         const struct iovec *iov, unsigned niov)
{
    if (niov > 1) {
        return request_co_bounce(n, cmd, iov, niov);
    }
    cmd->buffer = iov[0].iov_base;
    return request_co_send(n, cmd);
}

/* ---- requests ---- */

static RUNS_IN_IOTHREAD uint32_t request_fua(const BlockNode *n, unsigned flags)
{
    bool fua = (flags & BLOCK_REQ_FUA) != 0 && !n->flags.cache_no_flush;
    return fua ? LIBNBD_CMD_FLAG_FUA : 0;
}

/* The size of the node is that of the export in whole sectors. Bytes between the two read as zeroes,
 * and only zeroes can be written there. Returns the bytes of a request that the export has. */
static RUNS_IN_IOTHREAD uint64_t request_clip(const BlockNode *n, uint64_t offset, uint64_t bytes)
{
    uint64_t size = nbd_client_of(n)->export.size;
    return offset < size ? MIN(bytes, size - offset) : 0;
}

static bool request_tail_is_zero(const struct iovec *iov, unsigned niov, uint64_t from, uint64_t to)
{
    uint8_t tail[BLOCK_SECTOR_SIZE];
    iov_copy_to_buf(iov, niov, from, tail, to - from);
    return bytes_are_zero(tail, to - from);
}

int nbd_client_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                         unsigned niov)
{
    NbdClientCommand cmd = {
        .op = NBD_OP_READ, .offset = offset, .bytes = request_clip(n, offset, bytes)};
    if (cmd.bytes < bytes) {
        iov_memset(iov, niov, cmd.bytes, 0, bytes - cmd.bytes);
    }
    return cmd.bytes > 0 ? request_co_data(n, &cmd, iov, niov) : 0;
}

int nbd_client_co_pwritev(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                          unsigned niov, unsigned flags)
{
    NbdClientCommand cmd = {.op = NBD_OP_WRITE,
                            .offset = offset,
                            .bytes = request_clip(n, offset, bytes),
                            .flags = request_fua(n, flags)};
    if (cmd.bytes < bytes && !request_tail_is_zero(iov, niov, cmd.bytes, bytes)) {
        return -ENOSPC;
    }
    return cmd.bytes > 0 ? request_co_data(n, &cmd, iov, niov) : 0;
}

int nbd_client_co_flush(BlockNode *n)
{
    NbdClientCommand cmd = {.op = NBD_OP_FLUSH};
    if (n->flags.cache_no_flush || !nbd_client_of(n)->export.flush) {
        return 0;
    }
    return request_co_send(n, &cmd);
}

int nbd_client_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    NbdClientCommand cmd = {
        .op = NBD_OP_TRIM, .offset = offset, .bytes = request_clip(n, offset, bytes)};
    if (!nbd_client_of(n)->export.trim) {
        return -ENOTSUP;
    }
    return cmd.bytes > 0 ? request_co_send(n, &cmd) : 0;
}

int nbd_client_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    NbdClientCommand cmd = {.op = NBD_OP_ZERO,
                            .offset = offset,
                            .bytes = request_clip(n, offset, bytes),
                            .flags = request_fua(n, flags)};
    if (!nbd_client_of(n)->export.zero) {
        return -ENOTSUP;
    }
    if ((flags & BLOCK_REQ_MAY_UNMAP) == 0) {
        cmd.flags |= LIBNBD_CMD_FLAG_NO_HOLE;
    }
    return cmd.bytes > 0 ? request_co_send(n, &cmd) : 0;
}

/* ---- block status ---- */

/* What the flags of a context mean. Bytes that the server calls a hole but not zero are read. With
 * x-dirty-bitmap the flags are shown as QEMU shows them: bit 0 as the absence of data, bit 1 as
 * zero. */
static unsigned status_flags(const NbdTarget *t, uint32_t flags)
{
    bool zero = (flags & LIBNBD_STATE_ZERO) != 0, hole = (flags & LIBNBD_STATE_HOLE) != 0;
    if (t->context == NULL) {
        return zero && hole ? BLOCK_STATUS_ZERO
               : zero       ? BLOCK_STATUS_ZERO | BLOCK_STATUS_DATA
                            : BLOCK_STATUS_DATA;
    }
    if (g_strcmp0(t->context, "qemu:allocation-depth") == 0 && flags > 2) {
        zero = true; /* all further depths are shown as 2 */
        hole = false;
    }
    unsigned shown = (hole ? 0 : BLOCK_STATUS_DATA) | (zero ? BLOCK_STATUS_ZERO : 0);
    return shown != 0 ? shown : BLOCK_STATUS_NOTHING;
}

int nbd_client_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                               BlockStatus *status)
{
    const NbdClient *c = nbd_client_of(n);
    uint64_t alignment = n->limits.request_alignment;
    bytes = request_clip(n, offset, bytes);
    if (bytes == 0) {
        *status = (BlockStatus){.bytes = block_node_size(n) - offset, .flags = BLOCK_STATUS_ZERO};
        return 0;
    }
    NbdClientCommand cmd = {.op = NBD_OP_STATUS,
                            .offset = offset,
                            .bytes = MIN(bytes, block_align_down(INT32_MAX, alignment)),
                            .flags = LIBNBD_CMD_FLAG_REQ_ONE};
    *status = (BlockStatus){.bytes = bytes,
                            .flags = BLOCK_STATUS_DATA | BLOCK_STATUS_OFFSET_VALID,
                            .map_node = n,
                            .map_offset = offset};
    if (!c->export.status) {
        return 0;
    }
    int ret = request_co_send(n, &cmd);
    if (ret < 0) {
        return ret;
    }
    if (cmd.status_bytes == 0) {
        return -EIO;
    }
    status->bytes = MIN(block_align_down(cmd.status_bytes, alignment), cmd.bytes);
    if (status->bytes == 0) { /* shorter than a block: nothing is known of the rest */
        status->bytes = alignment;
        return 0;
    }
    unsigned flags = status_flags(c->target, cmd.status_flags);
    if (flags == BLOCK_STATUS_NOTHING) {
        *status = (BlockStatus){.bytes = status->bytes, .flags = flags};
    } else {
        status->flags = flags | BLOCK_STATUS_OFFSET_VALID;
    }
    return 0;
}
