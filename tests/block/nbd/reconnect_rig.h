/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of the NBD client without a connection. */
#ifndef SKIFF_TESTS_BLOCK_NBD_RECONNECT_RIG_H
#define SKIFF_TESTS_BLOCK_NBD_RECONNECT_RIG_H

#include "block/drivers.h"
#include "tests/block/nbd/fake_nbd.h"

enum { EXPORT = 64 * 1024 };

static inline coroutine_fn RUNS_IN_MAIN BlockBackend *start(FakeNbd *f, const char *more)
{
    fake_pass_time(0);
    fake_start(f, EXPORT, FAKE_ALL | FAKE_MULTI_CONN);
    sched_point_count("nbd.attempt");
    sched_point_count("nbd.pause");
    sched_point_count("nbd.wait");
    sched_point_count("nbd.up");
    sched_point_count("nbd.lost");
    sched_point_count("nbd.deliver");
    return fake_blk(f, more);
}

static inline void request_start(TestRequest *r, BlockBackend *blk, uint8_t *buf)
{
    *r = (TestRequest){.blk = blk, .op = TEST_WRITE, .offset = 512, .bytes = 512, .buf = buf};
    test_start(r);
}

/* The server ends; the client has seen it, and has failed to connect again for the first time. */
static inline coroutine_fn RUNS_IN_MAIN void take_down(FakeNbd *f)
{
    unsigned pauses = sched_point_count("nbd.pause");
    fake_down(f);
    TEST_UNTIL(sched_point_count("nbd.pause") == pauses + 1);
}

#endif
