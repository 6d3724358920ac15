/* SPDX-License-Identifier: Apache-2.0 */
#include "block/core/account.h"

#include <errno.h>
#include <string.h>
#include "block/core/backend_int.h"

/* ---- counting, at home ---- */

/* The first bin whose upper bound is above @ns. */
static unsigned account_find_bin(const BlkHistogram *h, uint64_t ns)
{
    unsigned low = 0, high = h->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (ns < h->boundaries[middle]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

void blk_account_end(BlkAccount *a, BlkOp op, uint64_t offset, uint64_t bytes, int64_t start_ns,
                     int64_t now_ns, int ret)
{
    if (__builtin_expect(ret == -EINVAL, 0)) {
        blk_account_add(&a->invalid[op], 1);
        return;
    }
    uint64_t took_ns = (uint64_t)(now_ns - start_ns);
    const BlkHistogram *h = atomic_load_explicit(&a->histograms[op], memory_order_relaxed);
    blk_account_add(&a->time_ns[op], took_ns);
    atomic_store_explicit(&a->last_ns, now_ns, memory_order_relaxed);
    if (h != NULL) {
        blk_account_add(&h->bins[account_find_bin(h, took_ns)], 1);
    }
    if (__builtin_expect(ret < 0, 0)) {
        blk_account_add(&a->failed[op], 1);
        return;
    }
    blk_account_add(&a->operations[op], 1);
    blk_account_add(&a->bytes[op], bytes);
    if (op == BLK_OP_WRITE &&
        offset + bytes > atomic_load_explicit(&a->write_end, memory_order_relaxed)) {
        atomic_store_explicit(&a->write_end, offset + bytes, memory_order_relaxed);
    }
}

void blk_account_invalid(BlockBackend *blk, BlkOp op)
{
    assert_home(blk->home);
    blk_account_add(&blk->account.invalid[op], 1);
}

/* ---- reading ---- */

/* Adds the statistics of the home or of a lane. Returns the time of the last request. */
static int64_t stats_add(BlkStats *stats, const BlkAccount *a)
{
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        stats->bytes[op] += atomic_load_explicit(&a->bytes[op], memory_order_relaxed);
        stats->operations[op] += atomic_load_explicit(&a->operations[op], memory_order_relaxed);
        stats->failed[op] += atomic_load_explicit(&a->failed[op], memory_order_relaxed);
        stats->invalid[op] += atomic_load_explicit(&a->invalid[op], memory_order_relaxed);
        stats->time_ns[op] += atomic_load_explicit(&a->time_ns[op], memory_order_relaxed);
    }
    stats->write_end =
        MAX(stats->write_end, atomic_load_explicit(&a->write_end, memory_order_relaxed));
    return atomic_load_explicit(&a->last_ns, memory_order_relaxed);
}

void blk_stats(const BlockBackend *blk, BlkStats *stats)
{
    const BlkAccount *a;
    memset(stats, 0, sizeof(*stats));
    int64_t last_ns = stats_add(stats, &blk->account);
    for (unsigned i = 0; (a = lanes_account(blk->own_lanes, i)) != NULL; i++) {
        int64_t lane_ns = stats_add(stats, a);
        last_ns = MAX(last_ns, lane_ns);
    }
    int64_t idle_ns = aio_now_ns(blk->home) - last_ns; /* MAX() evaluates twice */
    stats->idle_ns = last_ns != 0 ? MAX(idle_ns, 0) : -1;
}

/* ---- whether an error has stopped the VM ---- */

void blk_set_io_status(BlockBackend *blk, BlkIoStatus status)
{
    atomic_store_explicit(&blk->account.io_status, (int)status, memory_order_relaxed);
}

BlkIoStatus blk_io_status(const BlockBackend *blk)
{
    return (BlkIoStatus)atomic_load_explicit(&blk->account.io_status, memory_order_relaxed);
}

/* ---- histograms ---- */

static BlkHistogram *histogram_new(const uint64_t *boundaries, unsigned count)
{
    BlkHistogram *h = g_new0(BlkHistogram, 1);
    h->count = count;
    h->boundaries = g_memdup2(boundaries, count * sizeof(*boundaries));
    h->bins = g_new0(_Atomic uint64_t, count + 1);
    return h;
}

static void histogram_free(BlkHistogram *h)
{
    if (h != NULL) {
        g_free((uint64_t *)(uintptr_t)h->boundaries);
        g_free((void *)(uintptr_t)h->bins);
        g_free(h);
    }
}

typedef struct HistogramSwap {
    BlockBackend *blk;
    BlkOp op;
    BlkHistogram *histogram; /* the new one; then the old one */
} HistogramSwap;

static void histogram_swap_at_home(void *opaque)
{
    HistogramSwap *s = opaque;
    enter_coroutine();
    enter_iothread(s->blk->home);
    blk_co_shut_lanes(s->blk);
    s->histogram = atomic_exchange(&s->blk->account.histograms[s->op], s->histogram);
}

bool blk_histogram_ok(const uint64_t *boundaries, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (boundaries[i] <= (i > 0 ? boundaries[i - 1] : 0)) {
            return false;
        }
    }
    return count <= BLK_HISTOGRAM_MAX;
}

void blk_co_set_histogram(BlockBackend *blk, BlkOp op, const uint64_t *boundaries, unsigned count)
{
    HistogramSwap s = {.blk = blk,
                       .op = op,
                       .histogram = boundaries != NULL ? histogram_new(boundaries, count) : NULL};
    co_call_in(blk->home, histogram_swap_at_home, &s);
    histogram_free(s.histogram);
}

unsigned blk_histogram(const BlockBackend *blk, BlkOp op, const uint64_t **boundaries,
                       uint64_t *bins, unsigned max)
{
    const BlkHistogram *h = atomic_load(&blk->account.histograms[op]);
    if (h == NULL) {
        return 0;
    }
    *boundaries = h->boundaries;
    for (unsigned i = 0; i <= h->count && i < max; i++) {
        bins[i] = atomic_load_explicit(&h->bins[i], memory_order_relaxed);
    }
    return h->count + 1;
}

void blk_account_clear(BlkAccount *a)
{
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        histogram_free(atomic_load(&a->histograms[op]));
    }
}
