/* SPDX-License-Identifier: Apache-2.0 */
/* Replies. In the home of the export. */
#include <errno.h>
#include "block/nbd/nbd_int.h"

/* ---- the turn to send ---- */

void nbd_reply_co_take_turn(NbdSession *s)
{
    while (s->sending) {
        co_queue_wait(&s->senders, "a reply to the same NBD client");
    }
    s->sending = true;
}

void nbd_reply_give_turn(NbdSession *s)
{
    s->sending = false;
    co_queue_wake_one(&s->senders);
}

/* ---- parts ---- */

static uint32_t reply_error(int ret)
{
    switch (-ret) {
    case 0:
        return 0;
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
    case ECANCELED:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

int nbd_reply_co_simple(const NbdRequest *r, uint32_t error, const void *data, uint64_t size)
{
    uint8_t header[NBD_SIMPLE_SIZE];
    uint8_t *p = nbd_put32(header, NBD_SIMPLE_MAGIC);
    p = nbd_put32(p, error);
    nbd_put64(p, r->cookie);
    struct iovec iov[] = {{header, sizeof(header)}, {(void *)(uintptr_t)data, size}};
    return nbd_channel_co_write(&r->session->channel, iov, 2);
}

/* Fills the header of a chunk with @length bytes of data and returns its size. */
static size_t reply_chunk_header(const NbdRequest *r, uint8_t *header, unsigned flags,
                                 unsigned type, uint64_t length)
{
    bool extended = r->session->mode == NBD_MODE_EXTENDED;
    uint8_t *p = nbd_put32(header, extended ? NBD_EXT_CHUNK_MAGIC : NBD_CHUNK_MAGIC);
    p = nbd_put16(p, (uint16_t)flags);
    p = nbd_put16(p, (uint16_t)type);
    p = nbd_put64(p, r->cookie);
    if (extended) {
        p = nbd_put64(p, r->offset);
        p = nbd_put64(p, length);
    } else {
        p = nbd_put32(p, (uint32_t)length);
    }
    return (size_t)(p - header);
}

int nbd_reply_co_chunk(const NbdRequest *r, unsigned flags, unsigned type, const struct iovec *iov,
                       unsigned niov)
{
    uint8_t header[NBD_EXT_CHUNK_SIZE];
    struct iovec all[4] = {{header, 0}};
    uint64_t length = 0;
    g_assert(niov < G_N_ELEMENTS(all));
    for (unsigned i = 0; i < niov; i++) {
        length += iov[i].iov_len;
        all[i + 1] = iov[i];
    }
    all[0].iov_len = reply_chunk_header(r, header, flags, type, length);
    nbd_reply_co_take_turn(r->session);
    int ret = nbd_channel_co_write(&r->session->channel, all, niov + 1);
    nbd_reply_give_turn(r->session);
    return ret;
}

/* ---- the end of a request ---- */

static coroutine_fn RUNS_IN_IOTHREAD int reply_co_simple_end(const NbdRequest *r, uint32_t error)
{
    nbd_reply_co_take_turn(r->session);
    int ret = nbd_reply_co_simple(r, error, NULL, 0);
    nbd_reply_give_turn(r->session);
    return ret;
}

int nbd_reply_co_error(const NbdRequest *r, uint32_t error, const char *why)
{
    if (r->session->mode == NBD_MODE_SIMPLE) {
        return reply_co_simple_end(r, error);
    }
    uint8_t header[6];
    uint8_t *p = nbd_put32(header, error);
    nbd_put16(p, (uint16_t)strlen(why));
    struct iovec iov[] = {{header, sizeof(header)}, {(char *)(uintptr_t)why, strlen(why)}};
    return nbd_reply_co_chunk(r, NBD_CHUNK_FLAG_DONE, NBD_CHUNK_ERROR, iov, 2);
}

int nbd_reply_co_end(const NbdRequest *r, int ret)
{
    if (ret < 0) {
        return nbd_reply_co_error(r, reply_error(ret), g_strerror(-ret));
    }
    /* With structured replies, a simple one is enough for a request without data. */
    return r->session->mode == NBD_MODE_EXTENDED
               ? nbd_reply_co_chunk(r, NBD_CHUNK_FLAG_DONE, NBD_CHUNK_NONE, NULL, 0)
               : reply_co_simple_end(r, 0);
}
