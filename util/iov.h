/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scatter-gather lists. Offsets and counts are bytes; an offset past the end and a range that
 * reaches past it are fine: what is there is handled, and the count of it returned. Nothing
 * allocates, nothing is kept: any thread.
 */
#ifndef SKIFF_UTIL_IOV_H
#define SKIFF_UTIL_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "util/loop/thread.h"

/* Sum of the lengths. The caller has bounded it: an overflow aborts. */
size_t iov_size(const struct iovec *iov, unsigned count) ANY_THREAD;
/* List to buffer. Returns the bytes copied. */
size_t iov_copy_to_buf(const struct iovec *iov, unsigned count, size_t offset, void *buf,
                       size_t bytes) ANY_THREAD;
/* Buffer to list. Returns the bytes copied. */
size_t iov_copy_from_buf(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
                         size_t bytes) ANY_THREAD;
/* Sets bytes of the list. Returns how many. */
size_t iov_memset(const struct iovec *iov, unsigned count, size_t offset, int byte, size_t bytes)
    ANY_THREAD;
/* Makes @dst, which has room for @dst_max elements, a view of [offset, offset + bytes) of @src
 * without empty elements; returns their number. *@covered, when not NULL, is how many bytes of the
 * range they hold: fewer than asked for when @src ends or @dst is full. */
unsigned iov_slice(struct iovec *dst, unsigned dst_max, const struct iovec *src, unsigned count,
                   size_t offset, size_t bytes, size_t *covered) ANY_THREAD;

#endif
