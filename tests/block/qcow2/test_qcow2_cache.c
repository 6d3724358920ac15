/* SPDX-License-Identifier: Apache-2.0 */
/* Slices of L2 tables in memory: loaded once, shared, evicted and cleaned. */
#include "tests/block/qcow2/qcow2_test.h"
#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_int.h"

#define CACHE_DISK ((uint64_t)4 << 20)
#define CACHE_REQUESTS 200u
#define CACHE_SLICE 4096u /* by default */

/* An image with clusters of 512 bytes, each filled with its own pattern. */
static uint8_t *cache_make_image(const char *dir, uint8_t **raw, size_t *size)
{
    g_autofree uint8_t *pattern = g_malloc(CACHE_DISK);
    g_autofree char *path = g_build_filename(dir, "t.raw", NULL);
    test_fill(pattern, CACHE_DISK, 7);
    assert_true(g_file_set_contents(path, (char *)pattern, CACHE_DISK, NULL));
    qcow2_shell(dir, "qemu-img convert -f raw -O qcow2 -o cluster_size=512 t.raw t.qcow2");
    *raw = g_steal_pointer(&pattern);
    return qcow2_file_bytes(dir, "t.qcow2", size);
}

typedef struct CacheImage {
    uint8_t *bytes;
    size_t size;
} CacheImage;

static void cache_fill_mem(void *opaque)
{
    const CacheImage *image = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(block_node_find("m")), image->bytes, image->size);
}

static void cache_hold(void *opaque)
{
    BlockNode *mem = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_manual(mem, true);
}

static void cache_complete(void *opaque)
{
    BlockNode *mem = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    while (block_mem_complete(mem, 0)) {
    }
}

static void cache_fail(void *opaque)
{
    BlockNode *mem = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    assert_true(block_mem_complete(mem, -ENXIO));
}

typedef struct CacheHit {
    BlockNode *node;
    BlockFault fault;
} CacheHit;

static void cache_hit(void *opaque)
{
    const CacheHit *h = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(h->node, &h->fault);
}

BLOCK_TEST(requests_that_need_one_slice_load_it_once_and_an_error_is_not_kept)
{
    char *dir = qcow2_dir_new();
    uint8_t *raw, buf[2][512];
    CacheImage image;
    image.bytes = cache_make_image(dir, &raw, &image.size);
    assert_true(image.size <= (6u << 20));
    BlockNode *mem = test_node_add("mem,node-name=m,size=6M");
    test_in_home(cache_fill_mem, &image);
    BlockBackend *blk = test_blk("d", "qcow2,read-only=on,file=m", false);
    test_in_home(cache_hold, mem);
    for (int round = 0; round < 2; round++) {
        TestRequest r[2];
        for (unsigned i = 0; i < 2; i++) {
            r[i] = (TestRequest){
                .blk = blk, .op = TEST_READ, .offset = i * 512, .bytes = 512, .buf = buf[i]};
            test_start(&r[i]);
        }
        test_settle();
        assert_int_equal(block_mem_waiting(mem), 1); /* the slice; then again, or the data */
        if (round == 0) {
            test_in_home(cache_fail, mem);
            test_settle();
            assert_int_equal(test_finish(&r[0]), -ENXIO);
            assert_int_equal(block_mem_waiting(mem), 1); /* the second request loads it itself */
            test_in_home(cache_fail, mem);
            assert_int_equal(test_finish(&r[1]), -ENXIO);
            continue;
        }
        test_in_home(cache_complete, mem);
        test_settle();
        assert_int_equal(block_mem_waiting(mem), 2); /* the data of both */
        test_in_home(cache_complete, mem);
        assert_int_equal(test_finish(&r[0]), 0);
        assert_int_equal(test_finish(&r[1]), 0);
        assert_memory_equal(buf, raw, 1024);
    }
    blk_co_free(blk);
    test_node_del("m");
    g_free(image.bytes);
    g_free(raw);
    qcow2_dir_free(dir);
}

/* The table's second slice begins at 32 MiB of the disk. */
BLOCK_TEST(free_slices_are_loaded_together_but_an_error_in_one_is_its_own)
{
    char *dir = qcow2_dir_new();
    uint8_t buf[512], expected[512];
    size_t size;
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 100M && "
                     "qemu-io -c 'write -q -P 1 0 64k' -c 'write -q -P 2 40M 64k' t.qcow2");
    g_autofree uint8_t *bytes = qcow2_file_bytes(dir, "t.qcow2", &size);
    CacheImage image = {.bytes = bytes, .size = size};
    assert_true(size <= (2u << 20));
    test_node_add("mem,node-name=m,size=2M");
    test_in_home(cache_fill_mem, &image);
    uint64_t table = be64toh(((const uint64_t *)(bytes + 3 * 65536))[0]) & QCOW2_OFFSET_MASK;
    for (unsigned bad = 0; bad < 2; bad++) {
        BlockNode *fault = test_node_add("fault,node-name=f,file=m");
        BlockBackend *blk = test_blk("d", "qcow2,read-only=on,file=f", false);
        CacheHit hit = {.node = fault, .fault = {.op = BLOCK_FAULT_READ, .error = EIO}};
        hit.fault.offset = table + CACHE_SLICE;
        hit.fault.length = CACHE_SLICE;
        if (bad) {
            test_in_home(cache_hit, &hit);
        }
        memset(expected, 1, sizeof(expected));
        assert_int_equal(test_io(blk, TEST_READ, 0, 512, buf, 0), 0);
        assert_memory_equal(buf, expected, 512);
        if (!bad) { /* the second slice is in memory: a fault does not reach it */
            test_in_home(cache_hit, &hit);
        }
        memset(expected, 2, sizeof(expected));
        assert_int_equal(test_io(blk, TEST_READ, 40u << 20, 512, buf, 0), bad ? -EIO : 0);
        assert_true(bad || memcmp(buf, expected, 512) == 0);
        blk_co_free(blk);
        test_node_del("f");
    }
    test_node_del("m");
    qcow2_dir_free(dir);
}

BLOCK_TEST(more_requests_than_slices_wait_for_one_another)
{
    char *dir = qcow2_dir_new();
    size_t size;
    uint8_t *raw, *image = cache_make_image(dir, &raw, &size);
    BlockBackend *blk =
        qcow2_open_image(dir, "t.qcow2", ",l2-cache-size=1k,l2-cache-entry-size=512");
    TestRequest *r = g_new0(TestRequest, CACHE_REQUESTS);
    uint8_t *buf = g_malloc0(CACHE_REQUESTS * 1000);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < CACHE_REQUESTS; i++) {
            uint64_t at = (i * 2654435761u + round * 7919u) % (CACHE_DISK - 1000);
            r[i] = (TestRequest){
                .blk = blk, .op = TEST_READ, .offset = at, .bytes = 1000, .buf = buf + i * 1000};
            test_start(&r[i]);
        }
        for (unsigned i = 0; i < CACHE_REQUESTS; i++) {
            assert_int_equal(test_finish(&r[i]), 0);
            assert_memory_equal(r[i].buf, raw + r[i].offset, 1000);
        }
    }
    g_free(buf);
    g_free(r);
    blk_co_free(blk);
    g_free(image);
    g_free(raw);
    qcow2_dir_free(dir);
}

/* ---- cleaning: last, since the time of the home stays virtual ---- */

typedef struct CacheTime {
    const BlockNode *node;
    int64_t now_ns;
    unsigned loaded;
} CacheTime;

static void cache_set_time(void *opaque)
{
    CacheTime *t = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    aio_context_set_virtual_time(test_home, t->now_ns);
}

static void cache_count(void *opaque)
{
    CacheTime *t = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    t->loaded = qcow2_cache_loaded(&((Qcow2State *)t->node->state)->l2);
}

BLOCK_TEST(unused_slices_leave_the_memory_after_the_interval)
{
    char *dir = qcow2_dir_new();
    size_t size;
    uint8_t *raw, *image = cache_make_image(dir, &raw, &size), buf[512];
    CacheTime t = {.now_ns = 1000000000};
    test_in_home(cache_set_time, &t);
    BlockBackend *blk = qcow2_open_image(dir, "t.qcow2", ",cache-clean-interval=60");
    t.node = blk_root(blk);
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, buf, 0), 0);
    test_in_home(cache_count, &t);
    assert_int_equal(t.loaded, 1);
    for (unsigned i = 0; i < 2; i++) { /* used before the first end of the interval only */
        t.now_ns += (int64_t)60 * 1000000000;
        test_in_home(cache_set_time, &t);
        test_settle();
        test_in_home(cache_count, &t);
        assert_int_equal(t.loaded, i == 0 ? 1 : 0);
    }
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, buf, 0), 0);
    assert_memory_equal(buf, raw, 512);
    blk_co_free(blk);
    g_free(image);
    g_free(raw);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_that_need_one_slice_load_it_once_and_an_error_is_not_kept),
        cmocka_unit_test(free_slices_are_loaded_together_but_an_error_in_one_is_its_own),
        cmocka_unit_test(more_requests_than_slices_wait_for_one_another),
        cmocka_unit_test(unused_slices_leave_the_memory_after_the_interval),
    };
    return block_test_main(tests);
}
