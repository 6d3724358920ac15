/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of a backend. They are counted at the border by the home thread alone, so that a count
 * is a load and a store; any thread may read them at any time. Requests cause no allocation and no
 * locking here.
 *
 * Operations are QEMU's: write-zeroes is a write, discard is "unmap". For a failed request the
 * failure and the time are counted, not the bytes.
 */
#ifndef SKIFF_BLOCK_CORE_ACCOUNT_H
#define SKIFF_BLOCK_CORE_ACCOUNT_H

#include <stdatomic.h>
#include "block/block.h"

/* Request latencies: bin i counts those in [boundaries[i - 1], boundaries[i]) ns, with 0 before the
 * first boundary and no limit after the last. */
typedef struct BlkHistogram {
    unsigned count;             /* boundaries; there is one more bin */
    const uint64_t *boundaries; /* ascending */
    _Atomic uint64_t *bins;
} BlkHistogram;

typedef struct BlkAccount {
    _Atomic uint64_t bytes[BLK_OP_COUNT];
    _Atomic uint64_t operations[BLK_OP_COUNT];
    _Atomic uint64_t failed[BLK_OP_COUNT];
    _Atomic uint64_t invalid[BLK_OP_COUNT];
    _Atomic uint64_t time_ns[BLK_OP_COUNT];
    _Atomic uint64_t write_end;
    _Atomic int64_t last_ns;                        /* 0: never */
    BlkHistogram *_Atomic histograms[BLK_OP_COUNT]; /* changed at home; freed by main */
    _Atomic int io_status;
} BlkAccount;

static inline void blk_account_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

/* A request of @op that began at @start_ns has ended now with @ret; -EINVAL counts it as an invalid
 * request. */
void blk_account_end(BlkAccount *a, BlkOp op, uint64_t offset, uint64_t bytes, int64_t start_ns,
                     int64_t now_ns, int ret) RUNS_IN_IOTHREAD;
/* Main; frees the histograms when the backend is freed. */
void blk_account_clear(BlkAccount *a) RUNS_IN_MAIN;

#endif
