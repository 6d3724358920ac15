/* SPDX-License-Identifier: Apache-2.0 */
/* BLOCK_STATUS. In the home of the export. */
#include <errno.h>
#include "block/nbd/nbd_int.h"

#define STATUS_STEPS 2048u /* look-ups for one context of one request */

/* Extents of one context, in the request's buffer. */
typedef struct StatusExtents {
    const NbdRequest *r;
    bool wide; /* 64 bits */
    unsigned count, max;
    uint64_t length; /* of the last one */
    uint32_t flags;
} StatusExtents;

/* ---- looking ---- */

static coroutine_fn RUNS_IN_IOTHREAD int status_co_look_disk(const NbdRequest *r, unsigned context,
                                                             uint64_t offset, uint64_t bytes,
                                                             uint64_t *length, uint32_t *flags)
{
    BlockStatus status;
    int ret = blk_co_block_status(r->session->export->blk, offset, bytes, true, &status);
    if (ret < 0) {
        return ret;
    }
    if (status.bytes == 0) { /* behind the end of a file that is not whole sectors long */
        status = (BlockStatus){.bytes = bytes, .flags = BLOCK_STATUS_ZERO};
    }
    *length = status.bytes;
    if (context == NBD_CONTEXT_DEPTH) {
        *flags = (status.flags & BLOCK_STATUS_ALLOCATED) != 0 ? status.depth + 1 : 0;
    } else {
        *flags = ((status.flags & BLOCK_STATUS_DATA) != 0 ? 0 : NBD_STATE_HOLE) |
                 ((status.flags & BLOCK_STATUS_ZERO) != 0 ? NBD_STATE_ZERO : 0);
    }
    return 0;
}

/* Counted like a request, since a drained section may change the bitmap's size. */
static coroutine_fn RUNS_IN_IOTHREAD int status_co_look_bitmap(const NbdRequest *r,
                                                               unsigned context, uint64_t offset,
                                                               uint64_t bytes, uint64_t *length,
                                                               uint32_t *flags)
{
    const NbdExport *e = r->session->export;
    BlkMacro macro;
    bool dirty;
    blk_co_macro_begin(e->blk, &macro);
    *length = block_dirty_bitmap_run(e->bitmaps[context - NBD_CONTEXT_BITMAP].bitmap, offset, bytes,
                                     &dirty);
    blk_macro_end(e->blk, &macro);
    *flags = dirty ? NBD_STATE_DIRTY : 0;
    return 0;
}

/* ---- extents ---- */

/* Adds a part. False: it does not belong to this reply. */
static bool status_add(StatusExtents *x, uint64_t length, uint32_t flags)
{
    if (x->count > 0 && x->flags == flags) {
        x->length += length;
    } else if (x->count == x->max) {
        return false;
    } else {
        x->count++;
        x->length = length;
        x->flags = flags;
    }
    uint8_t *p =
        x->r->data + (x->wide ? 8 + 16 * (size_t)(x->count - 1) : 4 + 8 * (size_t)(x->count - 1));
    if (x->wide) {
        nbd_put64(nbd_put64(p, x->length), x->flags);
    } else {
        nbd_put32(nbd_put32(p, (uint32_t)x->length), x->flags);
    }
    return true;
}

static coroutine_fn RUNS_IN_IOTHREAD int status_co_collect(StatusExtents *x, unsigned context)
{
    const NbdRequest *r = x->r;
    uint64_t end = r->offset + r->length, length;
    uint32_t flags;
    unsigned steps = 0;
    for (uint64_t at = r->offset; at < end && steps < STATUS_STEPS; at += length, steps++) {
        int ret = context >= NBD_CONTEXT_BITMAP
                      ? status_co_look_bitmap(r, context, at, end - at, &length, &flags)
                      : status_co_look_disk(r, context, at, end - at, &length, &flags);
        if (ret < 0) {
            return ret;
        }
        if (!status_add(x, length, flags)) {
            break;
        }
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int status_co_send(const StatusExtents *x, unsigned context,
                                                        bool last)
{
    unsigned flags = last ? NBD_CHUNK_FLAG_DONE : 0;
    uint8_t *p = nbd_put32(x->r->data, context);
    struct iovec iov = {x->r->data, 4 + 8 * (size_t)x->count};
    if (!x->wide) {
        return nbd_reply_co_chunk(x->r, flags, NBD_CHUNK_STATUS, &iov, 1);
    }
    nbd_put32(p, x->count);
    iov.iov_len = 8 + 16 * (size_t)x->count;
    return nbd_reply_co_chunk(x->r, flags, NBD_CHUNK_STATUS_EXT, &iov, 1);
}

int nbd_request_co_status(NbdRequest *r)
{
    uint64_t left = r->contexts;
    int ret = 0;
    while (left != 0 && ret == 0) {
        unsigned context = (unsigned)__builtin_ctzll(left);
        StatusExtents x = {.r = r,
                           .wide = r->session->mode == NBD_MODE_EXTENDED,
                           .max = (r->flags & NBD_CMD_FLAG_REQ_ONE) != 0 ? 1 : NBD_EXTENTS_MAX};
        left &= left - 1;
        ret = status_co_collect(&x, context);
        if (ret < 0) {
            return nbd_reply_co_end(r, ret);
        }
        ret = status_co_send(&x, context, left == 0);
        co_yield_turn(); /* the look-ups of a context may all end at once */
    }
    return ret;
}
