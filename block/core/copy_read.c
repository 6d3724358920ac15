/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-read: what a node does not hold itself is read from below and written to the node.
 *
 *   status --held by the node--> read, untracked
 *     |
 *     not held: begin tracking, serialising --> status again --held now--> end, and from the start
 *                                                    |
 *                                               read whole units, write them, end
 *
 * A write of the same units that is older ends first; then they are held by the node. A newer one
 * waits for the copy. So a copy never replaces data of the guest. The data of the disk does not
 * change, so dirty bitmaps have no part in this.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "block/core/node_int.h"
#include "block/core/node_io.h"
#include "block/trace_events.h"
#include "util/zero.h"

#define COPY_READ_MAX ((uint64_t)1 << 20) /* in one buffer, if a unit is not larger */
#define COPY_READ_IOV 64u

/* Whether the node holds the bytes from @offset on itself; *@bytes is shortened to what the answer
 * is for. */
static coroutine_fn RUNS_IN_IOTHREAD int copy_read_is_held(BlockNode *n, uint64_t offset,
                                                           uint64_t *bytes, bool *held)
{
    BlockStatus status;
    int ret = block_node_co_block_status(n, offset, *bytes, false, &status);
    if (ret == 0 && status.bytes > 0) {
        *bytes = status.bytes;
    }
    *held = ret == 0 && (status.bytes == 0 || (status.flags & BLOCK_STATUS_ALLOCATED) != 0);
    return ret;
}

/* ---- a copy ---- */

typedef struct CopyRead {
    uint64_t start, end; /* whole units, or to the end of the node */
    uint8_t *buffer;
} CopyRead;

static coroutine_fn RUNS_IN_IOTHREAD int copy_read_write(BlockNode *n, uint8_t *data,
                                                         uint64_t offset, uint64_t bytes)
{
    bool zero = bytes_are_zero(data, bytes);
    trace_block_copy_read(n->name, offset, bytes, zero);
    if (zero) {
        return block_node_co_zero_part(n, offset, bytes, 0);
    }
    struct iovec iov = {data, bytes};
    return block_node_co_write_part(n, offset, bytes, &iov, 1, 0);
}

/* Writes the parts that the node does not hold. */
static coroutine_fn RUNS_IN_IOTHREAD int copy_read_store(BlockNode *n, const CopyRead *c)
{
    for (uint64_t at = c->start; at < c->end;) {
        uint64_t bytes = c->end - at;
        bool held;
        int ret = copy_read_is_held(n, at, &bytes, &held);
        if (ret == 0 && !held) {
            ret = copy_read_write(n, c->buffer + (at - c->start), at, bytes);
        }
        if (ret < 0) {
            return ret;
        }
        at += bytes;
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int copy_read_copy(BlockNode *n, const CopyRead *c)
{
    struct iovec iov = {c->buffer, c->end - c->start};
    int ret = block_node_co_read_part(n, c->start, iov.iov_len, &iov, 1);
    return ret == 0 ? copy_read_store(n, c) : ret;
}

/* Reads [offset, offset + bytes), which is within the units, and copies them. */
static coroutine_fn RUNS_IN_IOTHREAD int copy_read_units(BlockNode *n, CopyRead *c, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov, uint64_t done)
{
    uint64_t size = c->end - c->start;
    block_node_co_reserve_buffer(n, size);
    c->buffer = block_node_alloc_buffer(n, size);
    int ret = c->buffer != NULL ? copy_read_copy(n, c) : -ENOMEM;
    if (ret == 0) {
        iov_copy_from_buf(iov, niov, done, c->buffer + (offset - c->start), bytes);
    }
    free(c->buffer);
    block_node_release_buffer(n, size);
    return ret;
}

/* ---- requests ---- */

/* Copies what the node does not hold at @offset, and reads it; *@bytes is shortened to that. It is 0
 * if the node holds it now. */
static coroutine_fn RUNS_IN_IOTHREAD int copy_read_missing(BlockNode *n, uint64_t offset,
                                                           uint64_t *bytes, const struct iovec *iov,
                                                           unsigned niov, uint64_t done)
{
    uint64_t unit = MAX(n->limits.request_alignment, n->track.unit);
    CopyRead c = {.start = block_align_down(offset, unit)};
    BlockTracked t;
    bool held;
    *bytes = MIN(*bytes, c.start + MAX(unit, COPY_READ_MAX) - offset);
    c.end = MIN(block_align_up(offset + *bytes, unit),
                block_align_up(block_node_size(n), n->limits.request_alignment));
    block_track_co_begin(n, &t, c.start, c.end - c.start, true);
    int ret = copy_read_is_held(n, offset, bytes, &held);
    if (ret == 0 && !held) {
        ret = copy_read_units(n, &c, offset, *bytes, iov, niov, done);
    } else {
        *bytes = 0;
    }
    block_track_end(n, &t);
    return ret;
}

/* Reads what the node holds; *@bytes is shortened to what is done. */
static coroutine_fn RUNS_IN_IOTHREAD int copy_read_plain(BlockNode *n, uint64_t offset,
                                                         uint64_t *bytes, const struct iovec *iov,
                                                         unsigned niov, uint64_t done)
{
    struct iovec slice[COPY_READ_IOV];
    size_t length;
    unsigned count = iov_slice(slice, COPY_READ_IOV, iov, niov, done, *bytes, &length);
    *bytes = length;
    return block_node_co_read_part(n, offset, length, slice, count);
}

int block_node_co_read_copying(BlockNode *n, uint64_t offset, uint64_t bytes,
                               const struct iovec *iov, unsigned niov)
{
    assert(block_track_needed(n) && !n->flags.read_only);
    if (n->backing == NULL) {
        return block_node_co_read_part(n, offset, bytes, iov, niov);
    }
    int ret = 0;
    for (uint64_t done = 0; done < bytes && ret == 0;) {
        uint64_t length = bytes - done;
        bool held;
        ret = copy_read_is_held(n, offset + done, &length, &held);
        if (ret == 0 && held && length == bytes) {
            return block_node_co_read_part(n, offset, bytes, iov, niov);
        }
        if (ret == 0) {
            ret = held ? copy_read_plain(n, offset + done, &length, iov, niov, done)
                       : copy_read_missing(n, offset + done, &length, iov, niov, done);
        }
        done += ret == 0 ? length : 0;
    }
    return ret;
}

int block_node_co_preadv_copying(BlockNode *n, uint64_t offset, uint64_t bytes,
                                 const struct iovec *iov, unsigned niov)
{
    block_node_begin(n);
    int ret = block_node_range_ok(n, offset, bytes) ? 0 : -EINVAL;
    if (ret == 0 && bytes > 0) {
        ret = block_node_co_read_copying(n, offset, bytes, iov, niov);
    }
    block_node_end(n);
    return ret;
}

/* ---- on and off, in main ---- */

static void copy_read_track_at_home(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(n->home);
    block_track_co_add_user(n, MAX(n->limits.request_alignment, n->limits.zero_alignment));
}

static void copy_read_untrack_at_home(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(n->home);
    block_track_remove_user(n);
}

bool block_node_co_prepare_copying(BlockNode *n, GError **error)
{
    if (n->flags.read_only) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Block node is read-only");
        return false;
    }
    co_call_in(n->home, copy_read_track_at_home, n);
    return true;
}

void block_node_co_end_copying(BlockNode *n)
{
    co_call_in(n->home, copy_read_untrack_at_home, n);
}

/* Drained: the homes wait. */
void block_node_move_copying(BlockNode *from, BlockNode *to)
{
    block_node_assert_no_lanes(to, "it is tracked");
    from->track.users--;
    to->track.users++;
    to->track.unit =
        MAX(to->track.unit, MAX(to->limits.request_alignment, to->limits.zero_alignment));
}

bool block_node_co_set_copy_on_read(BlockNode *n, GError **error)
{
    if (n->flags.read_only) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Can't use copy-on-read on read-only device");
        return false;
    }
    co_call_in(n->home, copy_read_track_at_home, n);
    n->copy_on_read = true;
    return true;
}
