/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed clusters: how the parts of one request run together. */
#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_test.h"
#include "util/loop/co_stack.h"

#define COMPRESS_FILE ((uint64_t)8 << 20)
#define COMPRESS_CLUSTER ((uint64_t)4096)

typedef struct CompressRig {
    char *dir;
    uint8_t *image;
    BlockNode *mem, *fault;
    BlockBackend *blk;
    BlockFault hit;
    unsigned release;
} CompressRig;

static void compress_fill(void *opaque)
{
    CompressRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(rig->mem), rig->image, COMPRESS_FILE);
}

static void compress_save(void *opaque)
{
    CompressRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(rig->image, block_mem_data(rig->mem), COMPRESS_FILE);
}

static void compress_arm(void *opaque)
{
    CompressRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(rig->fault, &rig->hit);
}

static void compress_release_at_home(void *opaque)
{
    CompressRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_release(rig->fault, rig->release);
}

/* Opens t.qcow2, which @command makes, in memory and below a fault node. */
static coroutine_fn RUNS_IN_MAIN void compress_begin(CompressRig *rig, const char *command)
{
    size_t size;
    *rig = (CompressRig){.dir = qcow2_dir_new()};
    qcow2_shell(rig->dir, "%s", command);
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    assert_true(size <= COMPRESS_FILE);
    rig->image = g_malloc0(COMPRESS_FILE);
    memcpy(rig->image, image, size);
    rig->mem = test_node_add("mem,node-name=m,size=8M");
    test_in_home(compress_fill, rig);
    rig->fault = test_node_add("fault,node-name=f,discard=unmap,file=m");
    rig->blk = test_blk("d", "qcow2,discard=unmap,file=f", true);
}

/* Closes the image; qemu-img finds neither errors nor leaks. */
static coroutine_fn RUNS_IN_MAIN void compress_end(CompressRig *rig)
{
    g_autofree char *path = g_build_filename(rig->dir, "t.qcow2", NULL);
    blk_co_free(rig->blk);
    test_in_home(compress_save, rig);
    assert_true(g_file_set_contents(path, (char *)rig->image, COMPRESS_FILE, NULL));
    qcow2_shell(rig->dir, "qemu-img check -f qcow2 t.qcow2");
    test_node_del("f");
    test_node_del("m");
    g_free(rig->image);
    qcow2_dir_free(rig->dir);
}

/* Replaces what is done with the next operations. */
static coroutine_fn RUNS_IN_MAIN void compress_hit(CompressRig *rig, BlockFault hit)
{
    rig->hit = hit;
    test_in_home(compress_arm, rig);
}

static coroutine_fn RUNS_IN_MAIN void compress_wait_held(CompressRig *rig, unsigned count)
{
    while (block_fault_held(rig->fault) < count) {
        test_settle();
    }
}

/* ---- reads ---- */

/* 8 clusters, of which one is not compressed. */
#define COMPRESS_READ_IMAGE                                                                        \
    "qemu-img create -q -f qcow2 -o cluster_size=4k t.qcow2 1M && qemu-io -f qcow2 "               \
    "-c 'write -q -c -P 1 0 4k' -c 'write -q -c -P 2 4k 4k' -c 'write -q -c -P 3 8k 4k' "          \
    "-c 'write -q -P 4 12k 4k' -c 'write -q -c -P 5 16k 4k' -c 'write -q -c -P 6 20k 4k' "         \
    "-c 'write -q -c -P 7 24k 4k' -c 'write -q -c -P 8 28k 4k' t.qcow2"

BLOCK_TEST(the_compressed_clusters_of_a_read_are_read_at_the_same_time)
{
    CompressRig rig;
    uint8_t buf[8 * COMPRESS_CLUSTER], expected[8 * COMPRESS_CLUSTER];
    compress_begin(&rig, COMPRESS_READ_IMAGE);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, 1, buf, 0), 0); /* loads the L2 table */
    compress_hit(&rig, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    TestRequest r = {.blk = rig.blk, .op = TEST_READ, .bytes = sizeof(buf), .buf = buf};
    test_start(&r);
    compress_wait_held(&rig, 4); /* three compressed clusters, and the plain one behind them */
    compress_hit(&rig, (BlockFault){0});
    rig.release = 100;
    test_in_home(compress_release_at_home, &rig);
    assert_int_equal(test_finish(&r), 0);
    for (unsigned i = 0; i < 8; i++) {
        memset(expected + i * COMPRESS_CLUSTER, (int)i + 1, COMPRESS_CLUSTER);
    }
    assert_memory_equal(buf, expected, sizeof(buf));
    compress_end(&rig);
}

BLOCK_TEST(a_read_fails_with_the_error_of_one_cluster_after_all_others_have_ended)
{
    CompressRig rig;
    uint8_t buf[8 * COMPRESS_CLUSTER];
    compress_begin(&rig, COMPRESS_READ_IMAGE);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, 1, buf, 0), 0);
    compress_hit(&rig, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true, .error = EIO});
    TestRequest r = {.blk = rig.blk, .op = TEST_READ, .bytes = sizeof(buf), .buf = buf};
    test_start(&r);
    compress_wait_held(&rig, 4);
    compress_hit(&rig, (BlockFault){0});
    rig.release = 1;
    for (unsigned left = 4; left > 0; left--) {
        test_settle();
        assert_int_equal(r.completions, 0);
        test_in_home(compress_release_at_home, &rig);
    }
    assert_int_equal(test_finish(&r), -EIO);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, sizeof(buf), buf, 0), 0);
    compress_end(&rig);
}

/* A disk that hangs keeps a stack for each request of the guest, and not one for each cluster: others
 * need the rest. */
BLOCK_TEST(the_clusters_of_many_reads_that_hang_have_few_coroutines)
{
    enum { READS = 64 };
    CompressRig rig;
    TestRequest r[READS];
    uint8_t buf[8 * COMPRESS_CLUSTER];
    compress_begin(&rig, COMPRESS_READ_IMAGE);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, 1, buf, 0), 0);
    compress_hit(&rig, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    unsigned before = co_stack_count();
    for (unsigned i = 0; i < READS; i++) {
        r[i] = (TestRequest){.blk = rig.blk, .op = TEST_READ, .bytes = sizeof(buf), .buf = buf};
        test_start(&r[i]);
    }
    test_settle();
    assert_in_range(co_stack_count() - before, READS / 2, READS + 32);
    compress_hit(&rig, (BlockFault){0});
    while (block_fault_held(rig.fault) > 0) {
        rig.release = 100;
        test_in_home(compress_release_at_home, &rig);
    }
    for (unsigned i = 0; i < READS; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
    }
    compress_end(&rig);
}

/* ---- writes ---- */

#define COMPRESS_EMPTY_IMAGE "qemu-img create -q -f qcow2 -o cluster_size=4k t.qcow2 1M"

static coroutine_fn RUNS_IN_MAIN int compress_write(const CompressRig *rig, unsigned cluster,
                                                    unsigned count, uint8_t pattern)
{
    g_autofree uint8_t *buf = g_malloc(count * COMPRESS_CLUSTER);
    memset(buf, pattern, count * COMPRESS_CLUSTER);
    return test_io(rig->blk, TEST_WRITE, cluster * COMPRESS_CLUSTER, count * COMPRESS_CLUSTER, buf,
                   BLOCK_REQ_COMPRESSED);
}

static coroutine_fn RUNS_IN_MAIN void compress_check_pattern(const CompressRig *rig,
                                                             unsigned cluster, uint8_t pattern)
{
    uint8_t buf[COMPRESS_CLUSTER], expected[COMPRESS_CLUSTER];
    memset(expected, pattern, sizeof(expected));
    assert_int_equal(test_io(rig->blk, TEST_READ, cluster * COMPRESS_CLUSTER, sizeof(buf), buf, 0),
                     0);
    assert_memory_equal(buf, expected, sizeof(buf));
}

/* The image has 4 clusters; the fifth one is the L2 table, the sixth one has all data. */
BLOCK_TEST(the_data_of_many_clusters_is_packed_into_one)
{
    CompressRig rig;
    compress_begin(&rig, COMPRESS_EMPTY_IMAGE);
    assert_int_equal(compress_write(&rig, 0, 64, 5), 0);
    assert_int_equal(compress_write(&rig, 64, 1, 6), 0);
    for (unsigned i = 0; i < 64; i += 7) {
        compress_check_pattern(&rig, i, 5);
    }
    compress_check_pattern(&rig, 64, 6);
    blk_co_free(rig.blk);
    test_in_home(compress_save, &rig);
    g_autofree char *path = g_build_filename(rig.dir, "t.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)rig.image, 6 * 4096, NULL));
    qcow2_shell(rig.dir,
                "qemu-img check -f qcow2 t.qcow2 && "
                "qemu-io -f qcow2 -r -c 'read -P 5 0 256k' -c 'read -P 6 256k 4k' t.qcow2");
    rig.blk = test_blk("d", "qcow2,discard=unmap,file=f", true);
    compress_end(&rig);
}

BLOCK_TEST(a_cluster_that_is_being_packed_is_not_allocated_when_its_data_is_gone)
{
    CompressRig rig;
    uint8_t buf[COMPRESS_CLUSTER];
    compress_begin(&rig, COMPRESS_EMPTY_IMAGE);
    assert_int_equal(compress_write(&rig, 0, 1, 5), 0);
    assert_int_equal(test_io(rig.blk, TEST_DISCARD, 0, COMPRESS_CLUSTER, NULL, 0), 0);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    test_settle(); /* the discarded data is freed */
    memset(buf, 7, sizeof(buf));
    assert_int_equal(test_io(rig.blk, TEST_WRITE, COMPRESS_CLUSTER, sizeof(buf), buf, 0), 0);
    assert_int_equal(compress_write(&rig, 2, 1, 8), 0);
    compress_check_pattern(&rig, 1, 7);
    compress_check_pattern(&rig, 2, 8);
    compress_end(&rig);
}

BLOCK_TEST(the_clusters_of_a_compressed_write_are_written_at_the_same_time)
{
    CompressRig rig;
    uint8_t buf[8 * COMPRESS_CLUSTER];
    compress_begin(&rig, COMPRESS_EMPTY_IMAGE);
    compress_hit(&rig, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    memset(buf, 9, sizeof(buf));
    TestRequest r = {.blk = rig.blk,
                     .op = TEST_WRITE,
                     .bytes = sizeof(buf),
                     .buf = buf,
                     .flags = BLOCK_REQ_COMPRESSED};
    test_start(&r);
    compress_wait_held(&rig, 8);
    compress_hit(&rig, (BlockFault){0});
    rig.release = 100;
    test_in_home(compress_release_at_home, &rig);
    assert_int_equal(test_finish(&r), 0);
    compress_check_pattern(&rig, 7, 9);
    compress_end(&rig);
}

BLOCK_TEST(a_compressed_write_replaces_what_the_cluster_had)
{
    CompressRig rig;
    compress_begin(&rig, COMPRESS_READ_IMAGE);
    assert_int_equal(compress_write(&rig, 0, 8, 0x55), 0);
    assert_int_equal(compress_write(&rig, 3, 1, 0x66), 0);
    compress_check_pattern(&rig, 2, 0x55);
    compress_check_pattern(&rig, 3, 0x66);
    compress_end(&rig);
}

BLOCK_TEST(compressed_writes_of_other_bytes_than_whole_clusters_are_refused)
{
    CompressRig rig;
    uint8_t buf[2 * COMPRESS_CLUSTER] = {0};
    compress_begin(&rig, "qemu-img create -q -f qcow2 -o cluster_size=4k t.qcow2 6k");
    static const struct {
        uint64_t offset, bytes;
        int ret;
    } cases[] = {{512, 3584, -EINVAL}, {0, 512, -EINVAL}, {4096, 512, -EINVAL},
                 {4096, 2048, 0},      {0, 6144, 0},      {0, 0, 0}};
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_int_equal(test_io(rig.blk, TEST_WRITE, cases[i].offset, cases[i].bytes, buf,
                                 BLOCK_REQ_COMPRESSED),
                         cases[i].ret);
    }
    compress_end(&rig);
}

BLOCK_TEST(nodes_that_cannot_compress_refuse_compressed_writes)
{
    char *dir = qcow2_dir_new();
    uint8_t buf[65536] = {0};
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o data_file=t.data t.qcow2 1M");
    g_autofree char *text = g_strdup_printf("qcow2,file.driver=file,file.filename=%s/t.qcow2", dir);
    BlockBackend *blk = test_blk("d", text, true);
    assert_true(block_node_can_compress(blk_root(blk)));
    assert_int_equal(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, BLOCK_REQ_COMPRESSED), -ENOTSUP);
    blk_co_free(blk);
    blk = test_blk("d", "raw,file.driver=mem,file.size=1M", true);
    assert_false(block_node_can_compress(blk_root(blk)));
    assert_int_equal(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, BLOCK_REQ_COMPRESSED), -ENOTSUP);
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_data_of_many_clusters_is_packed_into_one),
        cmocka_unit_test(a_cluster_that_is_being_packed_is_not_allocated_when_its_data_is_gone),
        cmocka_unit_test(the_clusters_of_a_compressed_write_are_written_at_the_same_time),
        cmocka_unit_test(a_compressed_write_replaces_what_the_cluster_had),
        cmocka_unit_test(compressed_writes_of_other_bytes_than_whole_clusters_are_refused),
        cmocka_unit_test(nodes_that_cannot_compress_refuse_compressed_writes),
        cmocka_unit_test(the_compressed_clusters_of_a_read_are_read_at_the_same_time),
        cmocka_unit_test(the_clusters_of_many_reads_that_hang_have_few_coroutines),
        cmocka_unit_test(a_read_fails_with_the_error_of_one_cluster_after_all_others_have_ended),
    };
    return block_test_main(tests);
}
