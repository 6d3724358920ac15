/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scatter-gather lists. Offsets and counts are bytes. An offset past the end, or a range that
 * reaches past it, is allowed: the existing part is handled, and its size returned. Nothing
 * allocates or keeps state: any thread.
 */
#ifndef SKIFF_UTIL_IOV_H
#define SKIFF_UTIL_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "util/loop/thread.h"

/* Sum of the lengths. The caller has bounded it; an overflow aborts. */
size_t iov_size(const struct iovec *iov, unsigned count) ANY_THREAD;
/* Copies list to buffer. Returns the bytes copied. */
size_t iov_copy_to_buf(const struct iovec *iov, unsigned count, size_t offset, void *buf,
                       size_t bytes) ANY_THREAD;
/* Copies buffer to list. Returns the bytes copied. */
size_t iov_copy_from_buf(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
                         size_t bytes) ANY_THREAD;
/* Sets bytes of the list. Returns the number set. */
size_t iov_memset(const struct iovec *iov, unsigned count, size_t offset, int byte, size_t bytes)
    ANY_THREAD;
/* Removes @bytes, which the list has, from its front: *@iov and *@count are what remains. */
void iov_discard_front(struct iovec **iov, unsigned *count, size_t bytes) ANY_THREAD;
/* Makes @dst, an array of @dst_max elements, a view of [offset, offset + bytes) of @src without
 * empty elements; returns their number. *@covered (@covered may be NULL) is the number of bytes in
 * the view: fewer than requested when @src ends or @dst is full. */
unsigned iov_slice(struct iovec *dst, unsigned dst_max, const struct iovec *src, unsigned count,
                   size_t offset, size_t bytes, size_t *covered) ANY_THREAD;

#endif
