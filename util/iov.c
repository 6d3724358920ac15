/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "util/iov.h"

/* Iterates over a range of a list piece by piece; pieces are never empty. */
typedef struct IovWalk {
    const struct iovec *at, *end;
    size_t offset; /* into *at */
    size_t left;   /* bytes of the range not yet walked */
} IovWalk;

static IovWalk iov_walk(const struct iovec *iov, unsigned count, size_t offset, size_t bytes)
{
    return (IovWalk){.at = iov, .end = iov + count, .offset = offset, .left = bytes};
}

static bool iov_walk_next(IovWalk *w, struct iovec *piece)
{
    for (; w->at != w->end && w->left > 0; w->at++) {
        if (w->offset < w->at->iov_len) {
            size_t length = w->at->iov_len - w->offset;

            piece->iov_base = (uint8_t *)w->at->iov_base + w->offset;
            piece->iov_len = length < w->left ? length : w->left;
            w->left -= piece->iov_len;
            w->offset = 0;
            w->at++;
            return true;
        }
        w->offset -= w->at->iov_len;
    }
    return false;
}

size_t iov_size(const struct iovec *iov, unsigned count)
{
    size_t size = 0;

    for (unsigned i = 0; i < count; i++) {
        if (__builtin_add_overflow(size, iov[i].iov_len, &size)) {
            bug_abort("a scatter-gather list longer than the address space");
        }
    }
    return size;
}

size_t iov_copy_to_buf(const struct iovec *iov, unsigned count, size_t offset, void *buf,
                       size_t bytes)
{
    IovWalk w = iov_walk(iov, count, offset, bytes);
    struct iovec piece;
    uint8_t *to = buf;

    while (iov_walk_next(&w, &piece)) {
        memcpy(to, piece.iov_base, piece.iov_len);
        to += piece.iov_len;
    }
    return bytes - w.left;
}

size_t iov_copy_from_buf(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
                         size_t bytes)
{
    IovWalk w = iov_walk(iov, count, offset, bytes);
    struct iovec piece;
    const uint8_t *from = buf;

    while (iov_walk_next(&w, &piece)) {
        memcpy(piece.iov_base, from, piece.iov_len);
        from += piece.iov_len;
    }
    return bytes - w.left;
}

size_t iov_memset(const struct iovec *iov, unsigned count, size_t offset, int byte, size_t bytes)
{
    IovWalk w = iov_walk(iov, count, offset, bytes);
    struct iovec piece;

    while (iov_walk_next(&w, &piece)) {
        memset(piece.iov_base, byte, piece.iov_len);
    }
    return bytes - w.left;
}

unsigned iov_slice(struct iovec *dst, unsigned dst_max, const struct iovec *src, unsigned count,
                   size_t offset, size_t bytes, size_t *covered)
{
    IovWalk w = iov_walk(src, count, offset, bytes);
    unsigned n = 0;

    while (n < dst_max && iov_walk_next(&w, &dst[n])) {
        n++;
    }
    if (covered) {
        *covered = bytes - w.left;
    }
    return n;
}

void iov_discard_front(struct iovec **iov, unsigned *count, size_t bytes)
{
    while (bytes) {
        struct iovec *first = *iov;
        size_t n = bytes < first->iov_len ? bytes : first->iov_len;
        first->iov_base = (uint8_t *)first->iov_base + n;
        first->iov_len -= n;
        bytes -= n;
        if (!first->iov_len) {
            ++*iov;
            --*count;
        }
    }
}
