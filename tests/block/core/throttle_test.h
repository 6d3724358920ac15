/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of throttling: a second iothread, virtual time in all loops, disks in a group,
 * and users that make requests one after the other.
 */
#ifndef SKIFF_TESTS_BLOCK_CORE_THROTTLE_TEST_H
#define SKIFF_TESTS_BLOCK_CORE_THROTTLE_TEST_H

#include "block/throttle.h"
#include "tests/block/block_test.h"

#define SECOND INT64_C(1000000000)
#define MS (SECOND / 1000)
#define NULL_DISK "null-co,size=64M"
#define FILTER "throttle,node-name=t,throttle-group=g,file.driver=null-co,file.size=64M"

static uint8_t buf[4096];
static IoThread *other_iothread;
static AioContext *other_home;

/* ---- time ---- */

static int64_t test_now_ns = SECOND;

static inline void set_time_at_home(void *opaque)
{
    AioContext *ctx = opaque;
    enter_coroutine();
    enter_loop(ctx);
    aio_context_set_virtual_time(ctx, test_now_ns);
    co_yield_turn();
    co_yield_turn();
    co_yield_turn();
}

/* Moves the clocks of all loops, and returns when what was due has happened. */
static inline coroutine_fn RUNS_IN_MAIN void pass(int64_t ns)
{
    test_now_ns += ns;
    aio_context_set_virtual_time(test_main, test_now_ns);
    for (unsigned i = 0; i < 2; i++) { /* one home can start a request of another one */
        co_call_in(test_home, set_time_at_home, test_home);
        co_call_in(other_home, set_time_at_home, other_home);
    }
}

static inline coroutine_fn RUNS_IN_MAIN void pass_in_steps(int64_t ns, int64_t step_ns)
{
    for (int64_t done = 0; done < ns; done += step_ns) {
        pass(step_ns);
    }
}

/* ---- groups and disks ---- */

static inline RateLimits iops_limits(uint64_t iops)
{
    RateLimits l;
    rate_limits_init(&l);
    l.buckets[RATE_IOPS_TOTAL].avg = iops;
    return l;
}

static inline coroutine_fn RUNS_IN_MAIN ThrottleGroup *group_new(const char *name, uint64_t iops)
{
    RateLimits l = iops_limits(iops);
    pass(10 * SECOND);
    return throttle_group_new(name, &l);
}

static inline coroutine_fn RUNS_IN_MAIN BlockBackend *disk_in(const char *name, const char *text,
                                                              AioContext *home, ThrottleGroup *g)
{
    GError *error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", &error);
    BlockNode *n = block_co_open(d, home, &error);
    assert_non_null(n);
    BlockBackend *blk = blk_co_new(name, n, true, &error);
    assert_non_null(blk);
    block_co_unref(n);
    blk_co_set_throttle_group(blk, g);
    return blk;
}

/* ---- users: @count requests, one after the other ---- */

typedef struct User {
    BlockBackend *blk;
    TestOp op;
    uint64_t bytes;
    unsigned count;
    _Atomic unsigned done, failed, returned;
    TestEvent end;
} User;

static inline coroutine_fn RUNS_IN_IOTHREAD int user_request(User *u)
{
    struct iovec iov = {buf, u->bytes};
    switch (u->op) {
    case TEST_READ:
        return blk_co_preadv(u->blk, 0, u->bytes, &iov, 1, 0);
    case TEST_WRITE:
        return blk_co_pwritev(u->blk, 0, u->bytes, &iov, 1, 0);
    case TEST_FLUSH:
        return blk_co_flush(u->blk);
    case TEST_DISCARD:
        return blk_co_discard(u->blk, 0, u->bytes);
    case TEST_ZERO:
        return blk_co_write_zeroes(u->blk, 0, u->bytes, 0);
    }
    return -ENOSYS;
}

static inline void user_run(void *opaque)
{
    User *u = opaque;
    enter_coroutine();
    enter_iothread(blk_home(u->blk));
    for (unsigned i = 0; i < u->count; i++) {
        int ret = user_request(u);
        u->done += ret == 0;
        u->returned += ret == BLK_NOT_STARTED;
        u->failed += ret < 0 && ret != BLK_NOT_STARTED;
    }
    test_event_set(&u->end);
}

/* Starts @n users of one disk, and returns when they wait. */
static inline coroutine_fn RUNS_IN_MAIN void users_start(User *users, unsigned n, User like)
{
    for (unsigned i = 0; i < n; i++) {
        users[i] = like;
        users[i].bytes = like.bytes != 0 ? like.bytes : 512;
        co_start(blk_home(like.blk), user_run, &users[i]);
    }
    pass(0);
}

static inline unsigned users_done(User *users, unsigned n)
{
    unsigned done = 0;
    for (unsigned i = 0; i < n; i++) {
        done += users[i].done;
    }
    return done;
}

static inline unsigned users_returned(User *users, unsigned n)
{
    unsigned returned = 0;
    for (unsigned i = 0; i < n; i++) {
        returned += users[i].returned;
    }
    return returned;
}

static inline coroutine_fn RUNS_IN_MAIN void users_finish(User *users, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        test_event_wait(&users[i].end);
        assert_int_equal(users[i].failed, 0);
    }
}

/* Ends all waits of @blk: without limits. */
static inline coroutine_fn RUNS_IN_MAIN void disk_free(BlockBackend *blk, User *users, unsigned n)
{
    blk_co_set_throttle_group(blk, NULL);
    users_finish(users, n);
    blk_co_free(blk);
}

/* ---- hurry ---- */

typedef struct Hurry {
    BlockBackend *blk;
    bool on;
} Hurry;

static inline void hurry_at_home(void *opaque)
{
    Hurry *h = opaque;
    enter_coroutine();
    enter_iothread(blk_home(h->blk));
    blk_set_hurry(h->blk, h->on);
}

static inline coroutine_fn RUNS_IN_MAIN void hurry(BlockBackend *blk, bool on)
{
    Hurry h = {.blk = blk, .on = on};
    co_call_in(blk_home(blk), hurry_at_home, &h);
    pass(0);
}

static inline int set_up(void **state)
{
    GError *error = NULL;
    int ret = block_test_setup(state);
    other_iothread = iothread_new("io1", 0, &error);
    other_home = iothread_context(other_iothread);
    return ret;
}

static inline int tear_down(void **state)
{
    iothread_free(other_iothread);
    return block_test_teardown(state);
}

#define throttle_test_main(tests)                                                                  \
    (setenv("CMOCKA_TEST_ABORT", "1", 1), cmocka_run_group_tests(tests, set_up, tear_down))

#endif
