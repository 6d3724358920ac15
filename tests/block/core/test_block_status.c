/* SPDX-License-Identifier: Apache-2.0 */
/* Block status of each driver, and at the backend. */
#include <fcntl.h>
#include <linux/falloc.h>
#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "tests/block/block_test.h"
#include "util/sys/sys_fault.h"

#define K ((uint64_t)1024)
#define M (K * K)
#define DATA BLOCK_STATUS_DATA
#define ZERO BLOCK_STATUS_ZERO
#define VALID BLOCK_STATUS_OFFSET_VALID
#define ALLOCATED BLOCK_STATUS_ALLOCATED
#define END BLOCK_STATUS_EOF

/* ---- queries ---- */

typedef struct Query {
    BlockBackend *blk;
    uint64_t offset, bytes;
    bool coarse;
    int ret;
    BlockStatus status;
    TestEvent done;
} Query;

static void query_run(void *opaque)
{
    Query *q = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    q->ret = blk_co_block_status(q->blk, q->offset, q->bytes, !q->coarse, &q->status);
    test_event_set(&q->done);
}

static coroutine_fn RUNS_IN_MAIN void query(Query *q)
{
    co_start(test_home, query_run, q);
    test_event_wait(&q->done);
}

/* @map: offset in the mapped node, if the flags have VALID. */
static coroutine_fn RUNS_IN_MAIN void expect(BlockBackend *blk, uint64_t offset, uint64_t bytes,
                                             uint64_t got, unsigned flags, uint64_t map)
{
    Query q = {.blk = blk, .offset = offset, .bytes = bytes};
    query(&q);
    assert_int_equal(q.ret, 0);
    assert_int_equal(q.status.bytes, got);
    assert_int_equal(q.status.flags, flags);
    if ((flags & VALID) != 0) {
        assert_int_equal(q.status.map_offset, map);
        assert_non_null(q.status.map_node);
    } else {
        assert_null(q.status.map_node);
    }
}

/* ---- files ---- */

/* 1 MiB: data in [256K, 320K) and in the last 64K. */
static char *sparse_file(void)
{
    char *path = test_file_new(M);
    static uint8_t buf[64 * 1024];
    test_fill(buf, sizeof(buf), 1);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, buf, sizeof(buf), 256 * K), sizeof(buf));
    assert_int_equal(pwrite(fd, buf, sizeof(buf), M - sizeof(buf)), sizeof(buf));
    close(fd);
    return path;
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *file_blk(const char *path, const char *options,
                                                        bool writable)
{
    g_autofree char *text =
        g_strdup_printf("raw,file.driver=file,file.filename=%s%s", path, options);
    return test_blk("disk", text, writable);
}

BLOCK_TEST(a_file_has_data_and_holes)
{
    char *path = sparse_file();
    BlockBackend *blk = file_blk(path, ",read-only=on", false);
    expect(blk, 0, M, 256 * K, ZERO | VALID | ALLOCATED, 0);
    expect(blk, 100, M - 100, 256 * K - 100, ZERO | VALID | ALLOCATED, 100);
    expect(blk, 256 * K, M - 256 * K, 64 * K, DATA | VALID | ALLOCATED, 256 * K);
    expect(blk, 300 * K, 4 * K, 4 * K, DATA | VALID | ALLOCATED, 300 * K);
    expect(blk, 320 * K, M - 320 * K, 640 * K, ZERO | VALID | ALLOCATED, 320 * K);
    expect(blk, M - 64 * K, 64 * K, 64 * K, DATA | VALID | ALLOCATED | END, M - 64 * K);
    expect(blk, M, 0, 0, END, 0);
    Query beyond = {.blk = blk, .offset = M, .bytes = 1};
    query(&beyond);
    assert_int_equal(beyond.ret, -EINVAL);
    Query coarse = {.blk = blk, .bytes = M, .coarse = true};
    query(&coarse);
    assert_int_equal(coarse.status.bytes, M);
    assert_true((coarse.status.flags & ALLOCATED) != 0);
    blk_co_free(blk);
    test_file_free(path);
}

BLOCK_TEST(a_range_of_a_file_maps_into_the_file)
{
    char *path = sparse_file();
    BlockBackend *blk = file_blk(path, ",offset=128k,size=256k,read-only=on", false);
    expect(blk, 0, 256 * K, 128 * K, ZERO | VALID | ALLOCATED, 128 * K);
    expect(blk, 128 * K, 128 * K, 64 * K, DATA | VALID | ALLOCATED, 256 * K);
    expect(blk, 192 * K, 64 * K, 64 * K, ZERO | VALID | ALLOCATED | END, 320 * K);
    blk_co_free(blk);
    test_file_free(path);
}

/* Bytes beyond the end of the file are zeroes. */
BLOCK_TEST(a_file_that_ends_within_a_sector)
{
    char *path = test_file_new(0);
    assert_true(g_file_set_contents(path, "0123456789", 10, NULL));
    BlockBackend *blk = file_blk(path, ",read-only=on", false);
    expect(blk, 0, 512, 10, DATA | VALID | ALLOCATED, 0);
    expect(blk, 100, 412, 412, ZERO | VALID | ALLOCATED | END, 100);
    blk_co_free(blk);
    test_file_free(path);
}

BLOCK_TEST(changes_end_what_is_remembered)
{
    char *path = sparse_file();
    BlockBackend *blk = file_blk(path, ",discard=unmap,file.discard=unmap", true);
    uint8_t buf[4096];
    test_fill(buf, sizeof(buf), 2);
    expect(blk, 0, M, 256 * K, ZERO | VALID | ALLOCATED, 0);
    assert_int_equal(test_io(blk, TEST_WRITE, 64 * K, sizeof(buf), buf, 0), 0);
    expect(blk, 0, M, 64 * K, ZERO | VALID | ALLOCATED, 0);
    expect(blk, 64 * K, M - 64 * K, 4 * K, DATA | VALID | ALLOCATED, 64 * K);
    assert_int_equal(test_io(blk, TEST_DISCARD, 64 * K, sizeof(buf), NULL, 0), 0);
    expect(blk, 64 * K, M - 64 * K, 192 * K, ZERO | VALID | ALLOCATED, 64 * K);
    expect(blk, 256 * K, M - 256 * K, 64 * K, DATA | VALID | ALLOCATED, 256 * K);
    assert_int_equal(test_io(blk, TEST_ZERO, 256 * K, 64 * K, NULL, BLOCK_REQ_MAY_UNMAP), 0);
    expect(blk, 256 * K, M - 256 * K, M - 320 * K, ZERO | VALID | ALLOCATED, 256 * K);
    blk_co_free(blk);
    test_file_free(path);
}

static coroutine_fn RUNS_IN_MAIN unsigned seeks_of_a_walk(BlockBackend *blk)
{
    sys_fault_set(&(SysFault){.calls = "lseek", .after = 1u << 30});
    for (uint64_t at = 0; at < 320 * K;) {
        Query q = {.blk = blk, .offset = at, .bytes = 4 * K};
        query(&q);
        assert_int_equal(q.ret, 0);
        assert_int_equal(q.status.bytes, 4 * K);
        assert_int_equal(q.status.flags & (ZERO | DATA), at < 256 * K ? ZERO : DATA);
        at += q.status.bytes;
    }
    unsigned calls = sys_fault_calls();
    sys_fault_set(NULL);
    return calls;
}

/* A hole costs one lseek(), data two, however many queries meet the extent. */
BLOCK_TEST(an_extent_is_asked_for_once)
{
    char *path = sparse_file();
    BlockBackend *blk = file_blk(path, ",read-only=on", false);
    assert_int_equal(seeks_of_a_walk(blk), 3);
    blk_co_free(blk);
    /* Others may fill the hole: each query asks. */
    blk = file_blk(path, ",read-only=on,force-share=on", false);
    assert_int_equal(seeks_of_a_walk(blk), 256 / 4 + 2);
    blk_co_free(blk);
    test_file_free(path);
}

BLOCK_TEST(a_file_system_that_fails_or_cannot_answer)
{
    char *path = sparse_file();
    BlockBackend *blk = file_blk(path, ",read-only=on", false);
    sys_fault_set(&(SysFault){.calls = "lseek", .count = 1, .error = EIO});
    expect(blk, 0, M, M, DATA | VALID | ALLOCATED | END, 0);
    expect(blk, 0, M, 256 * K, ZERO | VALID | ALLOCATED, 0); /* asked again */
    sys_fault_set(&(SysFault){.calls = "lseek", .error = EINVAL});
    expect(blk, 400 * K, M - 400 * K, M - 400 * K, DATA | VALID | ALLOCATED | END, 400 * K);
    expect(blk, 0, M, M, DATA | VALID | ALLOCATED | END, 0);
    assert_int_equal(sys_fault_calls(), 1);
    sys_fault_set(NULL);
    blk_co_free(blk);
    test_file_free(path);
}

/* A write that ends while lseek() looks makes the answer one that must not be remembered. */
BLOCK_TEST(a_write_during_the_query)
{
    char *path = sparse_file();
    BlockBackend *blk = file_blk(path, "", true);
    uint8_t buf[4096];
    test_fill(buf, sizeof(buf), 3);
    Query q = {.blk = blk, .bytes = M};
    sys_fault_set(&(SysFault){.calls = "lseek", .count = 1, .hold = true, .error = ENXIO});
    co_start(test_home, query_run, &q);
    sys_fault_await_held();
    assert_int_equal(test_io(blk, TEST_WRITE, 64 * K, sizeof(buf), buf, 0), 0);
    sys_fault_release();
    test_event_wait(&q.done);
    sys_fault_set(NULL);
    assert_int_equal(q.status.bytes, M); /* the answer of before the write */
    expect(blk, 64 * K, M - 64 * K, 4 * K, DATA | VALID | ALLOCATED, 64 * K);
    blk_co_free(blk);
    test_file_free(path);
}

/* ---- other drivers ---- */

BLOCK_TEST(null_is_zero_unless_reads_give_anything)
{
    BlockBackend *blk = test_blk("a", "null-co,size=1M", true);
    expect(blk, 4 * K, 8 * K, 8 * K, ZERO | VALID | ALLOCATED, 4 * K);
    expect(blk, 0, M, M, ZERO | VALID | ALLOCATED | END, 0);
    blk_co_free(blk);
    blk = test_blk("b", "null-aio,size=1M,read-zeroes=off", true);
    expect(blk, 0, M, M, DATA | VALID | ALLOCATED | END, 0);
    blk_co_free(blk);
}

BLOCK_TEST(mem_compares_with_zero)
{
    BlockBackend *blk = test_blk("a", "mem,size=4M", true);
    uint8_t buf[10] = {1};
    assert_int_equal(test_io(blk, TEST_WRITE, 100 * K + 7, sizeof(buf), buf, 0), 0);
    expect(blk, 0, 4 * M, 100 * K, ZERO | VALID | ALLOCATED, 0);
    expect(blk, 100 * K, M, 4 * K, DATA | VALID | ALLOCATED, 100 * K);
    expect(blk, 104 * K, 4 * M - 104 * K, M, ZERO | VALID | ALLOCATED, 104 * K); /* its bound */
    blk_co_free(blk);
}

static void release_one(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    assert_int_equal(block_fault_release(opaque, 1), 1);
}

/* A query is in flight like a request, is absent from the statistics, and can fail. */
BLOCK_TEST(a_query_that_waits_and_fails)
{
    BlockBackend *blk = test_blk(
        "a", "fault,fail-op=block-status,hold=on,errno=5,fail-count=1,file.driver=mem,file.size=1M",
        true);
    Query q = {.blk = blk, .bytes = M};
    co_start(test_home, query_run, &q);
    while (block_fault_held(blk_root(blk)) == 0) {
        test_settle();
    }
    assert_int_equal(blk_in_flight(blk), 1);
    assert_int_equal(block_node_in_flight(blk_root(blk)), 1);
    test_in_home(release_one, blk_root(blk));
    test_event_wait(&q.done);
    assert_int_equal(q.ret, -EIO);
    expect(blk, 0, M, M, ZERO | VALID | ALLOCATED | END, 0);
    BlkStats stats;
    blk_stats(blk, &stats);
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        assert_int_equal(stats.operations[op] + stats.failed[op] + stats.invalid[op], 0);
    }
    assert_int_equal(stats.idle_ns, -1);
    blk_co_free(blk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_has_data_and_holes),
        cmocka_unit_test(a_range_of_a_file_maps_into_the_file),
        cmocka_unit_test(a_file_that_ends_within_a_sector),
        cmocka_unit_test(changes_end_what_is_remembered),
        cmocka_unit_test(an_extent_is_asked_for_once),
        cmocka_unit_test(a_file_system_that_fails_or_cannot_answer),
        cmocka_unit_test(a_write_during_the_query),
        cmocka_unit_test(null_is_zero_unless_reads_give_anything),
        cmocka_unit_test(mem_compares_with_zero),
        cmocka_unit_test(a_query_that_waits_and_fails),
    };
    return block_test_main(tests);
}
