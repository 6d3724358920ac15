/* SPDX-License-Identifier: Apache-2.0 */
/* What a request does. In the home of the export. */
#include <errno.h>
#include "block/nbd/nbd_int.h"
#include "util/zero.h"

/* ---- validity ---- */

/* The flags that a request may have; UINT_MAX: there is no such request. */
static unsigned request_flags(const NbdRequest *r)
{
    bool structured = r->session->mode >= NBD_MODE_STRUCTURED;
    bool extended = r->session->mode == NBD_MODE_EXTENDED;
    unsigned payload = extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
    switch (r->type) {
    case NBD_CMD_READ:
        return NBD_CMD_FLAG_FUA | (structured ? NBD_CMD_FLAG_DF : 0);
    case NBD_CMD_WRITE:
        return NBD_CMD_FLAG_FUA | payload;
    case NBD_CMD_FLUSH:
    case NBD_CMD_TRIM:
    case NBD_CMD_CACHE:
        return NBD_CMD_FLAG_FUA;
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE | payload;
    default:
        return UINT_MAX;
    }
}

static bool request_changes(const NbdRequest *r)
{
    return r->type == NBD_CMD_WRITE || r->type == NBD_CMD_TRIM || r->type == NBD_CMD_WRITE_ZEROES;
}

static uint32_t request_check_status(const NbdRequest *r, const char **why)
{
    if ((r->flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0) { /* the length is that of the payload */
        bool fits = r->length >= 12 && r->length <= 8 + 4 * (uint64_t)NBD_CONTEXTS_MAX;
        *why = "the payload of BLOCK_STATUS has a wrong length";
        return fits && r->length % 4 == 0 ? 0 : NBD_EINVAL;
    }
    *why = r->contexts == 0 ? "BLOCK_STATUS was not negotiated" : "BLOCK_STATUS needs a length";
    return r->contexts == 0 || r->length == 0 ? NBD_EINVAL : 0;
}

uint32_t nbd_request_check(const NbdRequest *r, const char **why)
{
    const NbdSession *s = r->session;
    unsigned allowed = request_flags(r);
    if (allowed == UINT_MAX) {
        *why = "unknown request";
        return NBD_EINVAL;
    }
    if ((r->flags & ~allowed) != 0) {
        *why = "the request does not have one of its flags";
        return NBD_EINVAL;
    }
    if (request_changes(r) && (s->export->flags & NBD_FLAG_READ_ONLY) != 0) {
        *why = "the export is read-only";
        return NBD_EPERM;
    }
    if (r->type == NBD_CMD_FLUSH) {
        return 0;
    }
    if (r->type == NBD_CMD_READ && r->length > NBD_DATA_MAX) {
        *why = "the read is too long";
        return NBD_EINVAL;
    }
    bool sized = (r->flags & NBD_CMD_FLAG_PAYLOAD_LEN) == 0 || r->type == NBD_CMD_WRITE;
    if (sized && (r->offset > s->size || r->length > s->size - r->offset)) {
        bool writes = r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES;
        *why = "the request is beyond the end of the export";
        return writes ? NBD_ENOSPC : NBD_EINVAL;
    }
    return r->type == NBD_CMD_BLOCK_STATUS ? request_check_status(r, why) : 0;
}

/* ---- reading ---- */

static coroutine_fn RUNS_IN_IOTHREAD int request_co_get(const NbdRequest *r, uint64_t done,
                                                        uint64_t bytes)
{
    struct iovec iov = {r->data, bytes};
    return blk_co_preadv(r->session->export->blk, r->offset + done, bytes, &iov, 1, 0);
}

static coroutine_fn RUNS_IN_IOTHREAD int request_co_send_part(const NbdRequest *r, uint64_t offset,
                                                              uint8_t *data, uint64_t bytes,
                                                              bool hole, bool last)
{
    uint8_t header[12];
    uint8_t *p = nbd_put64(header, offset);
    struct iovec iov[] = {{header, 8}, {data, bytes}};
    unsigned flags = last ? NBD_CHUNK_FLAG_DONE : 0;
    if (hole) {
        nbd_put32(p, (uint32_t)bytes);
        iov[0].iov_len = 12;
        return nbd_reply_co_chunk(r, flags, NBD_CHUNK_HOLE, iov, 1);
    }
    return nbd_reply_co_chunk(r, flags, NBD_CHUNK_DATA, iov, 2);
}

/* The bytes from @at on that are all in units with or without zeroes. */
static uint64_t request_find_part(const NbdRequest *r, uint64_t at, uint64_t end, bool *hole)
{
    uint64_t stop = MIN(at + NBD_HOLE_UNIT, end);
    *hole = bytes_are_zero(r->data + at, stop - at);
    while (stop < end) {
        uint64_t next = MIN(stop + NBD_HOLE_UNIT, end);
        if (bytes_are_zero(r->data + stop, next - stop) != *hole) {
            break;
        }
        stop = next;
    }
    return stop - at;
}

/* Sends what was read; zeroes become holes. */
static coroutine_fn RUNS_IN_IOTHREAD int request_co_send_piece(const NbdRequest *r, uint64_t done,
                                                               uint64_t bytes)
{
    bool hole = false, whole = (r->flags & NBD_CMD_FLAG_DF) != 0;
    int ret = 0;
    for (uint64_t at = 0, part; at < bytes && ret == 0; at += part) {
        part = whole ? bytes : request_find_part(r, at, bytes, &hole);
        ret = request_co_send_part(r, r->offset + done + at, r->data + at, part, hole,
                                   done + at + part == r->length);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int request_co_read_chunks(const NbdRequest *r)
{
    for (uint64_t done = 0, bytes; done < r->length; done += bytes) {
        bytes = MIN(r->length - done, r->size);
        int ret = request_co_get(r, done, bytes);
        if (ret < 0) {
            return nbd_reply_co_end(r, ret);
        }
        ret = request_co_send_piece(r, done, bytes);
        if (ret < 0) {
            return ret;
        }
    }
    return r->length > 0 ? 0 : nbd_reply_co_chunk(r, NBD_CHUNK_FLAG_DONE, NBD_CHUNK_NONE, NULL, 0);
}

/* A simple reply that is longer than the buffer. An error after its begin can only be shown by the end
 * of the connection. */
static coroutine_fn RUNS_IN_IOTHREAD int request_co_read_simple_rest(const NbdRequest *r)
{
    int ret = 0;
    for (uint64_t done = r->size, bytes; done < r->length && ret == 0; done += bytes) {
        bytes = MIN(r->length - done, r->size);
        ret = request_co_get(r, done, bytes);
        if (ret == 0) {
            struct iovec iov = {r->data, bytes};
            ret = nbd_channel_co_write(&r->session->channel, &iov, 1);
        }
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int request_co_read_simple(const NbdRequest *r)
{
    uint64_t bytes = MIN(r->length, r->size);
    int ret = request_co_get(r, 0, bytes);
    if (ret < 0) {
        return nbd_reply_co_end(r, ret);
    }
    nbd_reply_co_take_turn(r->session);
    ret = nbd_reply_co_simple(r, 0, r->data, bytes);
    if (ret == 0 && r->too_long) {
        ret = request_co_read_simple_rest(r);
    }
    nbd_reply_give_turn(r->session);
    return ret;
}

/* Before each piece of a request that can have very many: a driver may complete all of them at once, so
 * others have a turn. 0; -ECANCELED: the client has gone. */
static coroutine_fn RUNS_IN_IOTHREAD int request_co_begin_piece(const NbdRequest *r, uint64_t done)
{
    const NbdSession *s = r->session;
    if (done > 0) {
        co_yield_turn();
    }
    return atomic_load(&s->killed) || (done > 0 && s->hung_up) ? -ECANCELED : 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int request_co_cache(const NbdRequest *r)
{
    int ret = 0;
    for (uint64_t done = 0, bytes; done < r->length && ret == 0; done += bytes) {
        bytes = MIN(r->length - done, r->size);
        ret = request_co_begin_piece(r, done);
        ret = ret == 0 ? request_co_get(r, done, bytes) : ret;
    }
    return nbd_reply_co_end(r, ret);
}

/* ---- writing ---- */

static coroutine_fn RUNS_IN_IOTHREAD int request_co_put(const NbdRequest *r, uint64_t done,
                                                        uint64_t bytes)
{
    struct iovec iov = {r->data, bytes};
    unsigned flags = (r->flags & NBD_CMD_FLAG_FUA) != 0 ? BLOCK_REQ_FUA : 0;
    return blk_co_pwritev(r->session->export->blk, r->offset + done, bytes, &iov, 1, flags);
}

int nbd_request_co_write_pieces(NbdRequest *r)
{
    int result = 0;
    for (uint64_t done = 0, bytes; done < r->length; done += bytes) {
        bytes = MIN(r->length - done, r->size);
        int ret = nbd_channel_co_read(&r->session->channel, r->data, bytes);
        if (ret != 1) {
            return ret < 0 ? ret : -ECONNRESET;
        }
        result = result == 0 ? request_co_put(r, done, bytes) : result;
    }
    return nbd_reply_co_end(r, result);
}

static coroutine_fn RUNS_IN_IOTHREAD int request_co_zero_piece(const NbdRequest *r, uint64_t offset,
                                                               uint64_t bytes)
{
    BlockBackend *blk = r->session->export->blk;
    if (r->type == NBD_CMD_TRIM) {
        return blk_co_discard(blk, offset, bytes);
    }
    unsigned flags = (r->flags & NBD_CMD_FLAG_FUA) != 0 ? BLOCK_REQ_FUA : 0;
    flags |= (r->flags & NBD_CMD_FLAG_NO_HOLE) != 0 ? 0 : BLOCK_REQ_MAY_UNMAP;
    flags |= (r->flags & NBD_CMD_FLAG_FAST_ZERO) != 0 ? BLOCK_REQ_NO_FALLBACK : 0;
    return blk_co_write_zeroes(blk, offset, bytes, flags);
}

/* TRIM and WRITE_ZEROES: in pieces, so that a drained section does not wait for all of it. */
static coroutine_fn RUNS_IN_IOTHREAD int request_co_zero(const NbdRequest *r)
{
    int ret = 0;
    for (uint64_t done = 0, bytes; done < r->length && ret == 0; done += bytes) {
        bytes = MIN(r->length - done, NBD_ZERO_PIECE);
        ret = request_co_begin_piece(r, done);
        ret = ret == 0 ? request_co_zero_piece(r, r->offset + done, bytes) : ret;
    }
    if (ret == 0 && r->type == NBD_CMD_TRIM && (r->flags & NBD_CMD_FLAG_FUA) != 0) {
        ret = blk_co_flush(r->session->export->blk);
    }
    return nbd_reply_co_end(r, ret);
}

/* ---- all ---- */

int nbd_request_co_run(NbdRequest *r)
{
    switch (r->type) {
    case NBD_CMD_READ:
        return r->session->mode == NBD_MODE_SIMPLE ? request_co_read_simple(r)
                                                   : request_co_read_chunks(r);
    case NBD_CMD_WRITE:
        return nbd_reply_co_end(r, request_co_put(r, 0, r->length));
    case NBD_CMD_FLUSH:
        return nbd_reply_co_end(r, blk_co_flush(r->session->export->blk));
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        return request_co_zero(r);
    case NBD_CMD_CACHE:
        return request_co_cache(r);
    case NBD_CMD_BLOCK_STATUS:
        return nbd_request_co_status(r);
    default:
        bug_abort("an NBD request of type %u was accepted", r->type);
    }
}
