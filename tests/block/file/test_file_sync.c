/* SPDX-License-Identifier: Apache-2.0 */
/* Flushes and FUA writes of a file: no error is lost. */
#include "tests/block/block_test.h"
#include "util/sys/sys_fault.h"

#define FLUSHES 5u

static uint8_t buf[4096] __attribute__((aligned(4096)));
static char *path;

static coroutine_fn RUNS_IN_MAIN BlockBackend *open_file(const char *options)
{
    path = test_file_new(1 << 20);
    g_autofree char *text = g_strdup_printf("file,node-name=f,filename=%s%s", path, options);
    return test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN void close_file(BlockBackend *blk)
{
    sys_fault_set(NULL);
    blk_co_free(blk);
    test_file_free(path);
}

static coroutine_fn RUNS_IN_MAIN int flush(BlockBackend *blk)
{
    return test_io(blk, TEST_FLUSH, 0, 0, NULL, 0);
}

/* The first flush is in the kernel, which returns the error to it; the others arrive meanwhile. */
static coroutine_fn RUNS_IN_MAIN void flush_many(BlockBackend *blk, int *first, int *others)
{
    TestRequest r[1 + FLUSHES];
    sys_fault_set(&(SysFault){.calls = "fdatasync", .count = 1, .hold = true, .error = EIO});
    for (unsigned i = 0; i <= FLUSHES; i++) {
        r[i] = (TestRequest){.blk = blk, .op = TEST_FLUSH};
        test_start(&r[i]);
        if (i == 0) {
            sys_fault_await_held();
        }
    }
    test_settle();
    for (unsigned i = 1; i <= FLUSHES; i++) {
        assert_int_equal(r[i].completions, 0);
    }
    sys_fault_release();
    *first = test_finish(&r[0]);
    for (unsigned i = 1; i <= FLUSHES; i++) {
        others[i - 1] = test_finish(&r[i]);
    }
}

BLOCK_TEST(no_concurrent_flush_succeeds_when_one_failed)
{
    int first, others[FLUSHES];
    BlockBackend *blk = open_file("");
    flush_many(blk, &first, others);
    assert_int_equal(first, -EIO);
    for (unsigned i = 0; i < FLUSHES; i++) {
        assert_int_equal(others[i], -EIO);
    }
    assert_int_equal(flush(blk), -EIO);
    assert_int_equal(sys_fault_calls(), 1); /* no further call to the kernel */
    close_file(blk);
}

BLOCK_TEST(flushes_that_wait_share_the_next_one)
{
    int first, others[FLUSHES];
    BlockBackend *blk = open_file(",cache.direct=on");
    flush_many(blk, &first, others);
    assert_int_equal(first, -EIO);
    for (unsigned i = 0; i < FLUSHES; i++) {
        assert_int_equal(others[i], 0); /* O_DIRECT: the kernel has no pages to drop */
    }
    assert_int_equal(sys_fault_calls(), 2);
    close_file(blk);
}

BLOCK_TEST(flushes_after_a_failed_fua_write_fail)
{
    BlockBackend *blk = open_file("");
    sys_fault_set(&(SysFault){.calls = "fdatasync", .count = 1, .error = EIO});
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    assert_int_equal(test_io(blk, TEST_WRITE, 4096, 4096, buf, BLOCK_REQ_FUA), -EIO);
    assert_int_equal(flush(blk), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 4096, 4096, buf, BLOCK_REQ_FUA), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    close_file(blk);
}

BLOCK_TEST(a_write_that_the_kernel_cuts_short_is_completed)
{
    uint8_t back[4096];
    BlockBackend *blk = open_file("");
    test_fill(buf, sizeof(buf), 7);
    sys_fault_set(&(SysFault){.calls = "pwritev2,preadv2", .bytes = 700});
    assert_int_equal(test_io(blk, TEST_WRITE, 512, 4096, buf, BLOCK_REQ_FUA), 0);
    assert_int_equal(test_io(blk, TEST_READ, 512, 4096, back, 0), 0);
    assert_int_equal(sys_fault_hits(), 12);
    assert_memory_equal(buf, back, sizeof(buf));
    close_file(blk);
}

static coroutine_fn RUNS_IN_MAIN bool reopen(const char *options, GError **error)
{
    g_autofree char *text = g_strdup_printf("file,node-name=f,filename=%s%s", path, options);
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", error);
    OptDict *list[] = {d};
    return block_co_reopen(list, 1, error);
}

/* The close of the old descriptor loses errors that the kernel has not reported yet. */
BLOCK_TEST(a_reopen_collects_errors_before_it_closes)
{
    g_autoptr(GError) error = NULL;
    BlockBackend *blk = open_file("");
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    sys_fault_set(&(SysFault){.calls = "fdatasync", .count = 1, .error = ENOSPC});
    assert_false(reopen(",cache.direct=on", &error));
    assert_non_null(strstr(error->message, "Error flushing drive: No space left on device"));
    assert_int_equal(flush(blk), -ENOSPC);
    close_file(blk);
}

/* Without the page cache the write itself is forced. */
BLOCK_TEST(a_fua_write_past_the_page_cache_is_durable_in_each_engine)
{
    static const char *const engines[] = {"threads", "native", "io_uring"};
    for (unsigned i = 0; i < G_N_ELEMENTS(engines); i++) {
        g_autofree char *options = g_strdup_printf(",cache.direct=on,aio=%s", engines[i]);
        BlockBackend *blk = open_file(options);
        unsigned before = sys_durable_writes();
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
        assert_int_equal(sys_durable_writes() - before, 0);
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, BLOCK_REQ_FUA), 0);
        assert_int_equal(sys_durable_writes() - before, 1);
        blk_set_write_cache(blk, false);
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
        assert_int_equal(sys_durable_writes() - before, 2);
        close_file(blk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_concurrent_flush_succeeds_when_one_failed),
        cmocka_unit_test(flushes_that_wait_share_the_next_one),
        cmocka_unit_test(flushes_after_a_failed_fua_write_fail),
        cmocka_unit_test(a_write_that_the_kernel_cuts_short_is_completed),
        cmocka_unit_test(a_reopen_collects_errors_before_it_closes),
        cmocka_unit_test(a_fua_write_past_the_page_cache_is_durable_in_each_engine),
    };
    return block_test_main(tests);
}
