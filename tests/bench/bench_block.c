/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the block layer's border costs a request, its accounting included: requests that the null-co
 * driver ends at once, one line per kind, nanoseconds each. Reading the clock, which accounting
 * does twice a request, is shown for comparison.
 */
#include <stdio.h>
#include <time.h>
#include "block/block.h"
#include "block/drivers.h"
#include "util/loop/iothread.h"

#define BENCH_ROUNDS 2000000u
#define BENCH_BATCH 16u /* requests in a turn of the loop */
#define BENCH_REPEATS 5u

static BlockBackend *bench_blk;
static AioContext *bench_main;

static int64_t bench_read_clock(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* What this thread has used: others' work on the machine does not count. */
static int64_t bench_now_ns(void)
{
    return bench_read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static void bench_print(const char *name, int64_t best_ns)
{
    printf("%-28s %8.1f ns\n", name, (double)best_ns / BENCH_ROUNDS);
}

static coroutine_fn RUNS_IN_IOTHREAD int64_t bench_reads(void)
{
    static uint8_t buffer[4096];
    struct iovec iov = {buffer, sizeof(buffer)};
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        blk_co_preadv(bench_blk, (uint64_t)(i & 255) * sizeof(buffer), sizeof(buffer), &iov, 1, 0);
        if (i % BENCH_BATCH == 0) {
            co_yield_turn();
        }
    }
    return bench_now_ns() - start;
}

static coroutine_fn RUNS_IN_IOTHREAD int64_t bench_flushes(void)
{
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        blk_co_flush(bench_blk);
        if (i % BENCH_BATCH == 0) {
            co_yield_turn();
        }
    }
    return bench_now_ns() - start;
}

static coroutine_fn RUNS_IN_IOTHREAD int64_t bench_clock(void)
{
    int64_t start = bench_now_ns(), sum = 0;
    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        sum ^= bench_read_clock(CLOCK_MONOTONIC);
    }
    return bench_now_ns() - start + (sum == 1);
}

/* The best of several: what else the machine does only adds. */
static coroutine_fn RUNS_IN_IOTHREAD void bench_best(const char *name, int64_t (*run)(void))
{
    int64_t best = INT64_MAX;
    for (unsigned i = 0; i < BENCH_REPEATS; i++) {
        int64_t took = run();
        best = took < best ? took : best;
    }
    bench_print(name, best);
}

static void bench_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(blk_home(bench_blk));
    bench_best("read through the border", bench_reads);
    bench_best("flush through the border", bench_flushes);
    bench_best("reading the clock", bench_clock);
}

static void bench_run(void *opaque)
{
    enter_coroutine();
    enter_main();
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) opts = opt_dict_parse("null-co,size=1M", "driver", &error);
    BlockNode *node = block_co_open(opts, iothread_context(opaque), &error);
    bench_blk = node != NULL ? blk_co_new("bench", node, true, &error) : NULL;
    if (bench_blk == NULL) {
        fprintf(stderr, "%s\n", error->message);
    } else {
        block_co_unref(node);
        co_call_in(blk_home(bench_blk), bench_at_home, NULL);
        blk_co_free(bench_blk);
    }
    aio_context_quit(bench_main);
}

int main(void)
{
    block_setup(block_drivers);
    thread_adopt_role(THREAD_MAIN, "main");
    bench_main = aio_context_new("main", NULL);
    IoThread *thread = iothread_new("bench", 0, NULL);
    co_start(bench_main, bench_run, thread);
    aio_context_run(bench_main);
    iothread_free(thread);
    aio_context_free(bench_main);
    return 0;
}
