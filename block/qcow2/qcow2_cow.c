/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to clusters that get new entries, together with the rest of the first and the last cluster:
 *
 *   from             head          data (the request)          tail             to
 *    |---------------------|------------------------------|--------------------|
 *
 * The rest is what the disk has there, read under the exclusive lock; zeroes are not read, and not
 * written to clusters that were never written. Head, data and tail are one request if they can.
 */
#include <errno.h>
#include <stdlib.h>
#include "block/qcow2/qcow2_int.h"

#define COW_IOV 160u
#define COW_DATA_IOV 64u
#define COW_ZERO_SIZE ((uint64_t)64 << 10)
#define COW_MEMORY_MAX ((uint64_t)16 << 20) /* of a node; a request needs two clusters at most */
#define COW_MERGE_MAX ((uint64_t)16 << 10)  /* data between head and tail that is read with them */

/* Never written, so the kernel backs it with the zero page. */
static uint8_t cow_zeroes[COW_ZERO_SIZE] __attribute__((aligned(BLOCK_MEMORY_ALIGNMENT_MAX)));

/* A head or a tail: bytes of the disk. */
typedef struct CowPart {
    uint64_t guest, bytes;
    bool zero;
    uint8_t *data;
} CowPart;

/* ---- memory ---- */

static coroutine_fn RUNS_IN_IOTHREAD void cow_reserve(Qcow2Writer *w, uint64_t bytes)
{
    bool wait = !co_queue_empty(&w->cow_waiters);
    while (wait || (w->cow_memory != 0 && bytes > COW_MEMORY_MAX - w->cow_memory)) {
        co_queue_wait(&w->cow_waiters, "memory for copy-on-write");
        wait = false;
    }
    w->cow_memory += bytes;
    if (w->cow_memory < COW_MEMORY_MAX) {
        co_queue_wake_one(&w->cow_waiters);
    }
}

static RUNS_IN_IOTHREAD void cow_release(Qcow2Writer *w, uint64_t bytes)
{
    w->cow_memory -= bytes;
    co_queue_wake_one(&w->cow_waiters);
}

/* ---- reading ---- */

/* Whether the part is known to be zeroes. */
static coroutine_fn RUNS_IN_IOTHREAD int cow_find_zero(BlockNode *n, CowPart *p)
{
    const Qcow2State *s = n->state;
    uint64_t backing_size = n->backing != NULL ? block_node_size(n->backing) : 0;
    uint64_t end = MIN(p->guest + p->bytes, s->header.size); /* beyond the disk are zeroes */
    p->zero = true;
    for (uint64_t at = p->guest; at < end && p->zero;) {
        Qcow2Extent e;
        int ret = qcow2_co_map(n, at, end - at, &e);
        if (ret < 0) {
            return ret;
        }
        p->zero = e.kind == QCOW2_ZERO || (e.kind == QCOW2_UNALLOCATED && at >= backing_size);
        at += e.bytes;
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int cow_read(BlockNode *n, uint64_t guest, uint64_t bytes,
                                                  uint8_t *data)
{
    const Qcow2State *s = n->state;
    uint64_t there = guest < s->header.size ? MIN(bytes, s->header.size - guest) : 0;
    struct iovec iov = {data, there};
    memset(data + there, 0, bytes - there);
    return there > 0 ? qcow2_co_preadv(n, guest, there, &iov, 1) : 0;
}

/* Reads head and tail, which are not zeroes, into @buffer. */
static coroutine_fn RUNS_IN_IOTHREAD int cow_read_parts(BlockNode *n, CowPart *head, CowPart *tail,
                                                        uint8_t *buffer, uint64_t size)
{
    if (head->bytes + tail->bytes < size) { /* in one request, with the data between */
        head->data = buffer;
        tail->data = buffer + (tail->guest - head->guest);
        return cow_read(n, head->guest, size, buffer);
    }
    head->data = buffer;
    tail->data = buffer + head->bytes;
    int ret = 0;
    if (!head->zero) {
        ret = cow_read(n, head->guest, head->bytes, head->data);
    } else {
        tail->data = buffer;
    }
    if (ret == 0 && !tail->zero) {
        ret = cow_read(n, tail->guest, tail->bytes, tail->data);
    }
    return ret;
}

/* ---- writing ---- */

int qcow2_co_write_part(BlockNode *n, uint64_t host, uint64_t bytes, const struct iovec *iov,
                        unsigned niov, uint64_t skip)
{
    const Qcow2State *s = n->state;
    for (uint64_t done = 0; done < bytes;) {
        struct iovec slice[COW_DATA_IOV];
        size_t len;
        unsigned count = iov_slice(slice, COW_DATA_IOV, iov, niov, skip + done, bytes - done, &len);
        int ret = block_node_co_pwritev(s->data, host + done, len, slice, count, 0);
        if (ret < 0) {
            return ret;
        }
        done += len;
    }
    return 0;
}

/* Appends a part to a list that has room for it. */
static unsigned cow_append(const CowPart *p, struct iovec *iov)
{
    unsigned count = 0;
    if (!p->zero) {
        iov[0] = (struct iovec){p->data, p->bytes};
        return 1;
    }
    for (uint64_t done = 0; done < p->bytes; done += COW_ZERO_SIZE) {
        iov[count++] = (struct iovec){cow_zeroes, MIN(COW_ZERO_SIZE, p->bytes - done)};
    }
    return count;
}

int qcow2_co_write_zero_data(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    int ret = 0;
    for (uint64_t done = 0; done < bytes && ret == 0; done += COW_ZERO_SIZE) {
        struct iovec iov = {cow_zeroes, MIN(COW_ZERO_SIZE, bytes - done)};
        ret = qcow2_co_pwritev(n, offset + done, iov.iov_len, &iov, 1, 0);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int cow_write_one(BlockNode *n, uint64_t host,
                                                       const CowPart *p)
{
    const Qcow2State *s = n->state;
    struct iovec iov[COW_IOV];
    unsigned count = p->bytes > 0 ? cow_append(p, iov) : 0;
    return count > 0 ? block_node_co_pwritev(s->data, host, p->bytes, iov, count, 0) : 0;
}

/* Head, data and tail in one request; in three if the request has too many buffers. */
static coroutine_fn RUNS_IN_IOTHREAD int cow_write(BlockNode *n, const Qcow2Cow *c,
                                                   const CowPart *head, const CowPart *tail,
                                                   const struct iovec *iov, unsigned niov,
                                                   uint64_t skip)
{
    const Qcow2State *s = n->state;
    struct iovec all[COW_IOV];
    uint64_t bytes = c->to - c->from - c->head - c->tail; /* of the request */
    uint64_t host = c->host + c->from + c->head;
    size_t len;
    unsigned count = head->bytes > 0 ? cow_append(head, all) : 0;
    count += iov_slice(all + count, COW_DATA_IOV, iov, niov, skip, bytes, &len);
    if (len == bytes) {
        count += tail->bytes > 0 ? cow_append(tail, all + count) : 0;
        return block_node_co_pwritev(s->data, host - head->bytes, head->bytes + bytes + tail->bytes,
                                     all, count, 0);
    }
    int ret = cow_write_one(n, host - head->bytes, head);
    if (ret == 0) {
        ret = qcow2_co_write_part(n, host, bytes, iov, niov, skip);
    }
    return ret == 0 ? cow_write_one(n, host + bytes, tail) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int cow_copy_and_write(BlockNode *n, const Qcow2Cow *c,
                                                            CowPart *head, CowPart *tail,
                                                            const struct iovec *iov, unsigned niov,
                                                            uint64_t skip)
{
    Qcow2State *s = n->state;
    uint64_t size = (head->zero ? 0 : head->bytes) + (tail->zero ? 0 : tail->bytes);
    uint64_t whole = tail->guest + tail->bytes - head->guest;
    if (!head->zero && !tail->zero && whole - size <= COW_MERGE_MAX) {
        size = whole;
    }
    cow_reserve(&s->w, size);
    uint8_t *buffer =
        aligned_alloc(BLOCK_MEMORY_ALIGNMENT_MAX, block_align_up(size, BLOCK_MEMORY_ALIGNMENT_MAX));
    int ret = buffer != NULL ? cow_read_parts(n, head, tail, buffer, size) : -ENOMEM;
    if (ret == 0) {
        ret = cow_write(n, c, head, tail, iov, niov, skip);
    }
    free(buffer);
    cow_release(&s->w, size);
    return ret;
}

int qcow2_co_write_cow(BlockNode *n, const Qcow2Cow *c, const struct iovec *iov, unsigned niov,
                       uint64_t skip)
{
    const Qcow2State *s = n->state;
    CowPart head = {.guest = c->guest + c->from, .bytes = c->head};
    CowPart tail = {.guest = c->guest + c->to - c->tail, .bytes = c->tail};
    if (qcow2_has_data_file(&s->header)) { /* it does not become longer than the disk */
        uint64_t end = MAX(s->header.size, tail.guest);
        tail.bytes = MIN(tail.bytes, end - tail.guest);
    }
    int ret = cow_find_zero(n, &head);
    if (ret == 0) {
        ret = cow_find_zero(n, &tail);
    }
    if (ret < 0) {
        return ret;
    }
    if (c->fresh && head.zero) {
        head.bytes = 0;
    }
    if (c->fresh && tail.zero) {
        tail.bytes = 0;
    }
    if (head.zero && tail.zero) {
        return cow_write(n, c, &head, &tail, iov, niov, skip);
    }
    return cow_copy_and_write(n, c, &head, &tail, iov, niov, skip);
}
