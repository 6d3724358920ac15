/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds of memory and of space: while storage hangs, and when the file is full. */
#include "block/driver/fault.h"
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_test.h"

typedef struct LimitsRig {
    char *dir;
    BlockNode *fault;
    BlockBackend *blk;
    BlockFault hit;
    unsigned release;
    uint64_t number;
} LimitsRig;

static Qcow2State *limits_state(const LimitsRig *rig)
{
    return blk_root(rig->blk)->state;
}

/* Opens t.qcow2, made by a shell command, with a fault above its file. */
static coroutine_fn RUNS_IN_MAIN void limits_begin(LimitsRig *rig, const char *command,
                                                   const char *options)
{
    *rig = (LimitsRig){.dir = qcow2_dir_new()};
    qcow2_shell(rig->dir, "%s", command);
    g_autofree char *file = g_strdup_printf("fault,node-name=f,discard=unmap,file.driver=file,file."
                                            "discard=unmap,file.filename=%s/t.qcow2",
                                            rig->dir);
    g_autofree char *image = g_strdup_printf("qcow2,discard=unmap,file=f%s", options);
    rig->fault = test_node_add(file);
    rig->blk = test_blk("d", image, true);
}

static coroutine_fn RUNS_IN_MAIN void limits_end(LimitsRig *rig)
{
    blk_co_free(rig->blk);
    test_node_del("f");
    qcow2_shell(rig->dir, "qemu-img check -f qcow2 t.qcow2");
    qcow2_dir_free(rig->dir);
}

static void limits_set_fault(void *opaque)
{
    LimitsRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(rig->fault, &rig->hit);
    block_fault_release(rig->fault, rig->release);
    rig->release = 0;
}

static coroutine_fn RUNS_IN_MAIN void limits_hold(LimitsRig *rig, BlockFaultOp op, uint64_t offset,
                                                  uint64_t length)
{
    rig->hit = (BlockFault){.op = (int)op, .offset = offset, .length = length, .hold = true};
    test_in_home(limits_set_fault, rig);
    test_settle();
}

/* Releases the oldest @count requests; with 1, later ones are still held. */
static coroutine_fn RUNS_IN_MAIN void limits_release(LimitsRig *rig, unsigned count)
{
    rig->hit = count > 1 ? (BlockFault){0} : rig->hit;
    rig->release = count;
    test_in_home(limits_set_fault, rig);
    test_settle();
}

static coroutine_fn RUNS_IN_MAIN void limits_start(LimitsRig *rig, TestRequest *r, TestOp op,
                                                   uint64_t offset, uint64_t bytes)
{
    *r = (TestRequest){.blk = rig->blk, .op = op, .offset = offset, .bytes = bytes};
    r->buf = g_malloc(bytes);
    memset(r->buf, 7, bytes);
    test_start(r);
}

static coroutine_fn RUNS_IN_MAIN void limits_finish(TestRequest *r)
{
    assert_int_equal(test_finish(r), 0);
    g_free(r->buf);
}

static coroutine_fn RUNS_IN_MAIN void limits_await_held(const LimitsRig *rig, unsigned count)
{
    while (block_fault_held(rig->fault) < count) {
        test_settle();
    }
}

/* ---- new L2 tables ---- */

static void limits_read_births(void *opaque)
{
    LimitsRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->number = limits_state(rig)->w.births;
}

/* Each request needs an L2 table of its own, and writes no data. */
BLOCK_TEST(the_tables_that_are_written_at_a_time_have_a_limit)
{
    enum { COUNT = 200 };
    LimitsRig rig;
    TestRequest r[COUNT];
    limits_begin(&rig,
                 "truncate -s 16M base && "
                 "qemu-img create -q -f qcow2 -o cluster_size=512 -b base -F raw t.qcow2",
                 ",backing.driver=null-co,backing.size=16M");
    limits_hold(&rig, BLOCK_FAULT_WRITE, 0, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        limits_start(&rig, &r[i], TEST_ZERO, i * 32768, 512);
    }
    limits_await_held(&rig, 64);
    for (unsigned i = 0; i < COUNT; i++) { /* further ones would follow in these turns */
        test_settle();
    }
    test_in_home(limits_read_births, &rig);
    assert_int_equal(rig.number, 64);
    limits_release(&rig, 1000);
    for (unsigned i = 0; i < COUNT; i++) {
        limits_finish(&r[i]);
    }
    limits_end(&rig);
}

/* ---- the allocator ---- */

static void limits_read_hint(void *opaque)
{
    LimitsRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->number = limits_state(rig)->w.hint;
}

static uint64_t limits_host(const LimitsRig *rig, uint64_t index)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    uint64_t l1 = qcow2_get64(image + offsetof(Qcow2DiskHeader, l1_table_offset));
    uint64_t l2 = qcow2_get64(image + l1) & QCOW2_OFFSET_MASK;
    return qcow2_get64(image + l2 + 8 * index) & QCOW2_OFFSET_MASK;
}

static void limits_read_frees(void *opaque)
{
    LimitsRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->number = limits_state(rig)->w.freeing || !g_queue_is_empty(&limits_state(rig)->w.batches);
}

static coroutine_fn RUNS_IN_MAIN bool limits_frees_left(LimitsRig *rig)
{
    test_in_home(limits_read_frees, rig);
    return rig->number != 0;
}

/* A cluster above the place where the search began becomes free while the search waits. */
BLOCK_TEST(a_cluster_that_becomes_free_during_a_search_is_found_later)
{
    LimitsRig rig;
    TestRequest read, write;
    limits_begin(&rig,
                 "qemu-img create -q -f qcow2 -o cluster_size=512 t.qcow2 1M && "
                 "qemu-io -f qcow2 -c 'write -q 0 256k' t.qcow2",
                 "");
    uint64_t freed = limits_host(&rig, 3), reads = limits_host(&rig, 0);
    uint64_t block = limits_state(&rig)->w.refcount_table.entries[1];
    assert_true(freed < 256 * 512 && block != 0);
    /* a read that the free of the discarded cluster waits for */
    limits_hold(&rig, BLOCK_FAULT_READ, reads, 512);
    limits_start(&rig, &read, TEST_READ, 0, 512);
    limits_await_held(&rig, 1);
    assert_int_equal(test_io(rig.blk, TEST_DISCARD, 3 * 512, 512, NULL, 0), 0);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    /* a write whose search waits for the second refcount block */
    limits_hold(&rig, BLOCK_FAULT_READ, block, 512);
    limits_start(&rig, &write, TEST_WRITE, 512 * 1024, 512);
    limits_await_held(&rig, 2);
    limits_release(&rig, 1); /* the read: the cluster becomes free */
    limits_finish(&read);
    while (limits_frees_left(&rig)) {
        test_settle();
    }
    limits_release(&rig, 100);
    limits_finish(&write);
    test_in_home(limits_read_hint, &rig);
    assert_int_equal(rig.number, freed / 512);
    limits_end(&rig);
}

BLOCK_TEST(zeroes_that_need_a_table_use_the_space_of_a_discard)
{
    char *dir = qcow2_dir_new();
    uint8_t buf[512] = {5};
    qcow2_shell(dir, "truncate -s 16M base && "
                     "qemu-img create -q -f qcow2 -o cluster_size=512 -b base -F raw t.qcow2 && "
                     "truncate -s 128k t.qcow2");
    g_autofree char *text = g_strdup_printf("qcow2,discard=unmap,file.driver=raw,file.size=128k,"
                                            "file.file.driver=file,file.file.filename=%s/t.qcow2,"
                                            "backing.driver=null-co,backing.size=16M",
                                            dir);
    BlockBackend *blk = test_blk("d", text, true);
    uint64_t at = 0;
    while (test_io(blk, TEST_WRITE, at, sizeof(buf), buf, 0) == 0) {
        at += sizeof(buf);
    }
    assert_int_equal(test_io(blk, TEST_DISCARD, 0, 4 * 512, NULL, 0), 0); /* without a flush */
    assert_int_equal(test_io(blk, TEST_ZERO, 8 << 20, 512, NULL, 0), 0);
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check t.qcow2");
    qcow2_dir_free(dir);
}

/* ---- corruption without a request that meets it ---- */

/* An entry leads to the L2 table itself. The free in the background, after the flush, finds that. */
BLOCK_TEST(corruption_that_a_free_finds_is_saved_without_a_further_request)
{
    LimitsRig rig;
    size_t size;
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M && "
                     "qemu-io -f qcow2 -c 'write -q 0 256k' t.qcow2");
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    g_autofree uint8_t *bad = qcow2_file_bytes(dir, "t.qcow2", &size);
    uint64_t l1 = qcow2_get64(bad + offsetof(Qcow2DiskHeader, l1_table_offset));
    uint64_t l2 = qcow2_get64(bad + l1) & QCOW2_OFFSET_MASK;
    qcow2_put64(bad + l2 + 8, l2 | QCOW2_ENTRY_COPIED);
    assert_true(g_file_set_contents(path, (char *)bad, (gssize)size, NULL));
    g_autofree char *command = g_strdup_printf("mv %s .", path);
    limits_begin(&rig, command, "");
    qcow2_dir_free(dir);
    assert_int_equal(test_io(rig.blk, TEST_DISCARD, 65536, 65536, NULL, 0), 0);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    co_drained_begin(&rig.blk, 1); /* waits for the free */
    co_drained_end(&rig.blk, 1);
    g_autofree uint8_t *image = qcow2_file_bytes(rig.dir, "t.qcow2", &size);
    uint64_t bits = qcow2_get64(image + offsetof(Qcow2DiskHeader, incompatible_features));
    assert_true((bits & QCOW2_INCOMPATIBLE_CORRUPT) != 0);
    blk_co_free(rig.blk);
    test_node_del("f");
    qcow2_dir_free(rig.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tables_that_are_written_at_a_time_have_a_limit),
        cmocka_unit_test(a_cluster_that_becomes_free_during_a_search_is_found_later),
        cmocka_unit_test(corruption_that_a_free_finds_is_saved_without_a_further_request),
        cmocka_unit_test(zeroes_that_need_a_table_use_the_space_of_a_discard),
    };
    return block_test_main(tests);
}
