/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that meet on a cluster, on metadata, or on a commit, each in a forced order. */
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_faulty.h"

#define CONCURRENT_FILE ((uint64_t)8 << 20)
#define CONCURRENT_CLUSTER 4096u

typedef struct ConcurrentRig {
    char *dir;
    Qcow2Faulty file;
    BlockBackend *blk;
    unsigned dirty;
    uint8_t *bytes; /* of the file */
    int status;
    TestEvent done, cleared;
} ConcurrentRig;

static coroutine_fn RUNS_IN_MAIN void concurrent_begin(ConcurrentRig *rig, const char *options)
{
    *rig = (ConcurrentRig){.dir = qcow2_dir_new()};
    qcow2_shell(rig->dir, "qemu-img create -q -f qcow2 -o cluster_size=4096 t.qcow2 1M && "
                          "qemu-io -f qcow2 -c 'write -q -P 1 0 64k' t.qcow2");
    faulty_load(&rig->file, rig->dir, "t.qcow2", CONCURRENT_FILE);
    faulty_add(&rig->file);
    g_autofree char *text = g_strdup_printf("qcow2,discard=unmap,file=f%s", options);
    rig->blk = test_blk("d", text, true);
}

/* Opens the image that is t.qcow2 now. */
static coroutine_fn RUNS_IN_MAIN void concurrent_replace(ConcurrentRig *rig)
{
    blk_co_free(rig->blk);
    faulty_load(&rig->file, rig->dir, "t.qcow2", CONCURRENT_FILE);
    faulty_fill(&rig->file);
    rig->blk = test_blk("d", "qcow2,discard=unmap,l2-cache-entry-size=512,file=f", true);
}

/* Closes the image; qemu-img finds neither errors nor leaks. */
static coroutine_fn RUNS_IN_MAIN void concurrent_end(ConcurrentRig *rig)
{
    blk_co_free(rig->blk);
    faulty_store(&rig->file, rig->dir, "t.qcow2");
    qcow2_shell(rig->dir, "qemu-img check -f qcow2 t.qcow2");
    faulty_del();
    faulty_free(&rig->file);
    qcow2_dir_free(rig->dir);
}

static coroutine_fn RUNS_IN_MAIN void concurrent_write(ConcurrentRig *rig, TestRequest *r,
                                                       uint64_t offset, uint64_t bytes,
                                                       uint8_t pattern)
{
    *r = (TestRequest){.blk = rig->blk, .op = TEST_WRITE, .offset = offset, .bytes = bytes};
    r->buf = g_malloc(bytes);
    memset(r->buf, pattern, bytes);
    test_start(r);
}

static coroutine_fn RUNS_IN_MAIN void concurrent_finish(TestRequest *r)
{
    assert_int_equal(test_finish(r), 0);
    g_free(r->buf);
}

static coroutine_fn RUNS_IN_MAIN void concurrent_expect(ConcurrentRig *rig, uint64_t offset,
                                                        uint64_t bytes, uint8_t pattern)
{
    g_autofree uint8_t *buf = g_malloc(bytes), *expected = g_malloc(bytes);
    memset(expected, pattern, bytes);
    assert_int_equal(test_io(rig->blk, TEST_READ, offset, bytes, buf, 0), 0);
    assert_memory_equal(buf, expected, bytes);
}

/* ---- on a cluster ---- */

BLOCK_TEST(a_second_write_to_a_cluster_waits_for_its_allocation_and_others_do_not)
{
    ConcurrentRig rig;
    TestRequest a, b, c;
    concurrent_begin(&rig, "");
    faulty_hold(&rig.file, BLOCK_FAULT_WRITE, 0, 0);
    concurrent_write(&rig, &a, 0x20000, 512, 2);
    test_settle();
    concurrent_write(&rig, &b, 0x20200, 512, 3); /* the same cluster */
    concurrent_write(&rig, &c, 0x30000, 512, 4);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 2);
    assert_false(b.done.happened);
    faulty_release(&rig.file);
    concurrent_finish(&a);
    concurrent_finish(&b);
    concurrent_finish(&c);
    concurrent_expect(&rig, 0x20000, 512, 2);
    concurrent_expect(&rig, 0x20200, 512, 3);
    concurrent_expect(&rig, 0x20400, 512, 0);
    concurrent_expect(&rig, 0x30000, 512, 4);
    concurrent_end(&rig);
}

BLOCK_TEST(writes_in_place_run_together_and_a_discard_waits_for_them)
{
    ConcurrentRig rig;
    TestRequest a, b, discard;
    concurrent_begin(&rig, "");
    faulty_hold(&rig.file, BLOCK_FAULT_WRITE, 0, 0);
    concurrent_write(&rig, &a, 0, 512, 2);
    concurrent_write(&rig, &b, 512, 512, 3);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 2);
    discard =
        (TestRequest){.blk = rig.blk, .op = TEST_DISCARD, .offset = 0, .bytes = CONCURRENT_CLUSTER};
    test_start(&discard);
    test_settle();
    assert_false(discard.done.happened);
    faulty_release(&rig.file);
    concurrent_finish(&a);
    concurrent_finish(&b);
    assert_int_equal(test_finish(&discard), 0);
    concurrent_expect(&rig, 0, CONCURRENT_CLUSTER, 0);
    concurrent_end(&rig);
}

/* The host's offset of the first cluster, from the image as qemu-img made it. */
static uint64_t concurrent_first_cluster(const ConcurrentRig *rig)
{
    uint64_t l1 = qcow2_get64(rig->file.image + offsetof(Qcow2DiskHeader, l1_table_offset));
    uint64_t l2 = qcow2_get64(rig->file.image + l1) & QCOW2_OFFSET_MASK;
    return qcow2_get64(rig->file.image + l2) & QCOW2_OFFSET_MASK;
}

BLOCK_TEST(discards_and_zeroes_of_a_cluster_wait_for_its_allocation)
{
    static const TestOp ops[] = {TEST_DISCARD, TEST_ZERO};
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(ops); i++) {
        ConcurrentRig rig;
        TestRequest write;
        concurrent_begin(&rig, "");
        TestRequest r = {.blk = rig.blk,
                         .op = ops[i / 2],
                         .offset = 0x20000,
                         .bytes = CONCURRENT_CLUSTER,
                         .flags = i == 3 ? BLOCK_REQ_MAY_UNMAP : 0};
        faulty_hold(&rig.file, BLOCK_FAULT_WRITE, 0, 0);
        concurrent_write(&rig, &write, 0x20000, 512, 2);
        test_settle();
        assert_int_equal(block_fault_held(rig.file.fault), 1);
        test_start(&r);
        test_settle();
        assert_false(r.done.happened);
        faulty_release(&rig.file);
        concurrent_finish(&write);
        assert_int_equal(test_finish(&r), 0);
        concurrent_expect(&rig, 0x20000, CONCURRENT_CLUSTER, 0);
        concurrent_end(&rig);
    }
}

BLOCK_TEST(a_discarded_cluster_is_used_again_only_after_the_reads_in_flight)
{
    ConcurrentRig rig;
    TestRequest w;
    uint8_t buf[512], expected[512];
    concurrent_begin(&rig, "");
    uint64_t host = concurrent_first_cluster(&rig);
    TestRequest read = {.blk = rig.blk, .op = TEST_READ, .offset = 0, .bytes = 512, .buf = buf};
    faulty_hold(&rig.file, BLOCK_FAULT_READ, host, CONCURRENT_CLUSTER);
    test_start(&read);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 1);
    assert_int_equal(test_io(rig.blk, TEST_DISCARD, 0, CONCURRENT_CLUSTER, NULL, 0), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
        test_settle();
        concurrent_write(&rig, &w, 0x40000 + i * 0x1000, CONCURRENT_CLUSTER, 9);
        concurrent_finish(&w);
    }
    faulty_release(&rig.file);
    assert_int_equal(test_finish(&read), 0);
    memset(expected, 1, sizeof(expected));
    assert_memory_equal(buf, expected, sizeof(buf));
    /* the next allocation after a commit has it */
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    co_drained_begin(&rig.blk, 1); /* waits for what goes on in the background */
    co_drained_end(&rig.blk, 1);
    faulty_hold(&rig.file, BLOCK_FAULT_WRITE, host, CONCURRENT_CLUSTER);
    concurrent_write(&rig, &w, 0x50000, CONCURRENT_CLUSTER, 7);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 1);
    faulty_release(&rig.file);
    concurrent_finish(&w);
    concurrent_end(&rig);
}

/* ---- on a commit ---- */

static void concurrent_count_dirty(void *opaque)
{
    ConcurrentRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->dirty = ((Qcow2State *)blk_root(rig->blk)->state)->l2.dirty;
}

/* A power cut at this moment: the mem node as it is becomes the image. */
static coroutine_fn RUNS_IN_MAIN void concurrent_cut(ConcurrentRig *rig, uint64_t offset,
                                                     uint8_t pattern)
{
    faulty_store(&rig->file, rig->dir, "cut.qcow2");
    qcow2_shell(rig->dir,
                "{ qemu-img check -f qcow2 cut.qcow2 || [ $? = 3 ]; } && "
                "qemu-io -f qcow2 -r -c 'read -q -P %u %" PRIu64 " 512' cut.qcow2",
                pattern, offset);
}

BLOCK_TEST(a_change_during_a_commit_is_written_by_the_next_one)
{
    ConcurrentRig rig;
    TestRequest w, flush, second;
    concurrent_begin(&rig, "");
    concurrent_write(&rig, &w, 0x20000, 512, 2);
    concurrent_finish(&w);
    faulty_hold(&rig.file, BLOCK_FAULT_FLUSH, 0, 0);
    flush = (TestRequest){.blk = rig.blk, .op = TEST_FLUSH};
    test_start(&flush);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 1); /* refcounts are written */
    concurrent_write(&rig, &w, 0x21000, 512, 3);           /* the same slices */
    concurrent_finish(&w);
    second = (TestRequest){.blk = rig.blk, .op = TEST_FLUSH};
    test_start(&second);
    test_settle();
    concurrent_cut(&rig, 0x21000, 0);
    faulty_release_held(&rig.file);
    test_settle();
    concurrent_cut(&rig, 0x20000, 2); /* the references of the first commit */
    concurrent_cut(&rig, 0x21000, 0);
    assert_false(second.done.happened);
    faulty_release(&rig.file);
    assert_int_equal(test_finish(&flush), 0);
    assert_int_equal(test_finish(&second), 0);
    concurrent_cut(&rig, 0x21000, 3);
    test_in_home(concurrent_count_dirty, &rig);
    assert_int_equal(rig.dirty, 0);
    concurrent_end(&rig);
}

BLOCK_TEST(a_flush_does_not_wait_for_the_discards_of_the_host)
{
    ConcurrentRig rig;
    concurrent_begin(&rig, "");
    faulty_hold(&rig.file, BLOCK_FAULT_DISCARD, 0, 0);
    assert_int_equal(test_io(rig.blk, TEST_DISCARD, 0, 4 * CONCURRENT_CLUSTER, NULL, 0), 0);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 1);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    concurrent_expect(&rig, 0, CONCURRENT_CLUSTER, 0);
    faulty_release(&rig.file);
    concurrent_end(&rig);
}

static void concurrent_drain(void *opaque)
{
    ConcurrentRig *rig = opaque;
    enter_coroutine();
    enter_main();
    co_drained_begin(&rig->blk, 1);
    rig->status = (int)block_fault_hits(rig->file.fault);
    co_drained_end(&rig->blk, 1);
    test_event_set(&rig->done);
}

static void concurrent_look(void *opaque)
{
    ConcurrentRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->status = (int)blk_root(rig->blk)->quiesced;
}

BLOCK_TEST(a_drained_section_waits_for_one_discard_of_the_host)
{
    ConcurrentRig rig;
    concurrent_begin(&rig, "");
    for (unsigned i = 0; i < 16; i += 2) { /* extents of their own */
        assert_int_equal(
            test_io(rig.blk, TEST_DISCARD, i * CONCURRENT_CLUSTER, CONCURRENT_CLUSTER, NULL, 0), 0);
    }
    faulty_hold(&rig.file, BLOCK_FAULT_DISCARD, 0, 0);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 1);
    co_start(test_main, concurrent_drain, &rig);
    do { /* until the section has reached the node */
        test_in_home(concurrent_look, &rig);
    } while (rig.status == 0);
    faulty_set(&rig.file, (BlockFault){.op = BLOCK_FAULT_DISCARD}); /* counts those that follow */
    faulty_release_held(&rig.file);
    test_event_wait(&rig.done);
    assert_int_equal(rig.status, 0);
    faulty_release(&rig.file);
    concurrent_end(&rig); /* the others are freed, too */
}

/* The flush of a reopen permits frees. No backend holds the node then, so no section of one does. */
BLOCK_TEST(a_reopen_without_a_backend_has_nothing_in_flight)
{
    ConcurrentRig rig;
    GError *error = NULL;
    concurrent_begin(&rig, ",node-name=q");
    g_autoptr(OptDict) d = opt_dict_parse("qcow2,node-name=q,discard=unmap,file=f", "driver", NULL);
    BlockNode *n = blk_root(rig.blk);
    block_node_ref(n);
    faulty_hold(&rig.file, BLOCK_FAULT_DISCARD, 0, 0);
    assert_int_equal(test_io(rig.blk, TEST_DISCARD, 0, 4 * CONCURRENT_CLUSTER, NULL, 0), 0);
    blk_co_free(rig.blk);
    assert_true(block_co_reopen(&d, 1, &error));
    assert_int_equal(block_fault_held(rig.file.fault), 0);
    assert_int_equal(block_node_in_flight(n), 0);
    faulty_release(&rig.file);
    rig.blk = blk_co_new("d", n, true, &error);
    block_co_unref(n);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    concurrent_end(&rig);
}

BLOCK_TEST(two_writes_that_need_the_same_l2_table_add_one)
{
    ConcurrentRig rig;
    TestRequest a, b;
    concurrent_begin(&rig, "");
    qcow2_shell(rig.dir, "qemu-img create -q -f qcow2 -o cluster_size=4096 t.qcow2 1M");
    concurrent_replace(&rig);
    concurrent_write(&rig, &a, 0x1000, 512, 2);
    concurrent_write(&rig, &b, 0x2000, 512, 3);
    concurrent_finish(&a);
    concurrent_finish(&b);
    concurrent_expect(&rig, 0x1000, 512, 2);
    concurrent_expect(&rig, 0x2000, 512, 3);
    concurrent_end(&rig);
}

/* ---- on the feature bits of the header ---- */

static void concurrent_remove(void *opaque)
{
    ConcurrentRig *rig = opaque;
    enter_main();
    enter_coroutine();
    rig->status = block_dirty_bitmap_co_remove(blk_root(rig->blk), "b", NULL) ? 0 : -1;
    test_event_set(&rig->done);
}

static void concurrent_clear_dirty(void *opaque)
{
    ConcurrentRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->status |= qcow2_co_clear_dirty(blk_root(rig->blk));
    test_event_set(&rig->cleared);
}

/* As the end of a snapshot's creation does it, without the operation lock. */
BLOCK_TEST(the_dirty_bit_is_cleared_beside_the_removal_of_the_last_bitmap)
{
    ConcurrentRig rig;
    concurrent_begin(&rig, "");
    qcow2_shell(rig.dir, "qemu-img bitmap --add t.qcow2 b");
    concurrent_replace(&rig);
    faulty_hold(&rig.file, BLOCK_FAULT_WRITE, 0, 512);
    co_start(test_main, concurrent_remove, &rig);
    while (block_fault_held(rig.file.fault) == 0) {
        test_settle();
    }
    co_start(test_home, concurrent_clear_dirty, &rig);
    test_settle();
    faulty_release(&rig.file);
    test_event_wait(&rig.done);
    test_event_wait(&rig.cleared);
    assert_int_equal(rig.status, 0);
    faulty_save(&rig.file);
    assert_int_equal(
        qcow2_get64(rig.file.saved + offsetof(Qcow2DiskHeader, autoclear_features)) & 1, 0);
    concurrent_end(&rig);
}

/* ---- on a table ---- */

static void concurrent_status(void *opaque)
{
    ConcurrentRig *rig = opaque;
    BlockStatus status;
    enter_coroutine();
    enter_iothread(test_home);
    rig->status =
        blk_root(rig->blk)->drv->co_block_status(blk_root(rig->blk), 0, 512, false, &status);
    test_event_set(&rig->done);
}

BLOCK_TEST(a_table_is_copied_only_after_the_block_status_that_loads_it)
{
    ConcurrentRig rig;
    TestRequest w;
    concurrent_begin(&rig, "");
    qcow2_shell(rig.dir, "qemu-img create -q -f qcow2 -o cluster_size=4096 t.qcow2 4M && "
                         "qemu-io -f qcow2 -c 'write -q -P 1 0 64k' t.qcow2");
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(rig.dir, "t.qcow2", &size);
    uint64_t l1 = qcow2_get64(image + offsetof(Qcow2DiskHeader, l1_table_offset));
    uint64_t l2 = qcow2_get64(image + l1) & QCOW2_OFFSET_MASK;
    qcow2_put64(image + l1, l2); /* as if it were shared */
    g_autofree char *path = g_build_filename(rig.dir, "t.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)image, (gssize)size, NULL));
    concurrent_replace(&rig);
    faulty_set(&rig.file,
               (BlockFault){
                   .op = BLOCK_FAULT_READ, .offset = l2, .length = 512, .count = 1, .hold = true});
    co_start(test_home, concurrent_status, &rig);
    test_settle();
    assert_int_equal(block_fault_held(rig.file.fault), 1);
    concurrent_write(&rig, &w, 0x40000, 512,
                     2); /* copies the table, also the slice that is loaded */
    test_settle();
    assert_false(w.done.happened);
    faulty_release(&rig.file);
    test_event_wait(&rig.done);
    assert_int_equal(rig.status, 0);
    concurrent_finish(&w);
    assert_int_equal(test_io(rig.blk, TEST_FLUSH, 0, 0, NULL, 0), 0); /* the old one is freed */
    concurrent_write(&rig, &w, 0x200000, 512, 3);                     /* a new table */
    concurrent_finish(&w);
    concurrent_expect(&rig, 0x40000, 512, 2);
    concurrent_expect(&rig, 0x200000, 512, 3);
    concurrent_end(&rig);
}

BLOCK_TEST(a_search_for_free_clusters_leaves_turns_to_other_requests)
{
    ConcurrentRig rig;
    TestRequest w;
    uint8_t buf[512], expected[512];
    concurrent_begin(&rig, "");
    qcow2_shell(rig.dir, "qemu-img create -q -f qcow2 -o cluster_size=64k t.qcow2 1M && "
                         "qemu-io -f qcow2 -c 'write -q -P 255 0 64k' t.qcow2");
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(rig.dir, "t.qcow2", &size);
    uint64_t table = qcow2_get64(image + offsetof(Qcow2DiskHeader, refcount_table_offset));
    uint64_t l2 =
        qcow2_get64(image + qcow2_get64(image + offsetof(Qcow2DiskHeader, l1_table_offset)));
    uint64_t full = qcow2_get64(image + (l2 & QCOW2_OFFSET_MASK)) & QCOW2_OFFSET_MASK;
    for (unsigned i = 0; i < 8192; i++) { /* each block counts 32768 clusters, all in use */
        qcow2_put64(image + table + i * 8, full);
    }
    g_autofree char *path = g_build_filename(rig.dir, "t.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)image, (gssize)size, NULL));
    concurrent_replace(&rig);
    concurrent_write(&rig, &w, 0x80000, 512, 2);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, sizeof(buf), buf, 0), 0);
    assert_false(w.done.happened);
    memset(expected, 255, sizeof(expected));
    assert_memory_equal(buf, expected, sizeof(buf));
    assert_int_equal(test_finish(&w), -ENOSPC); /* the node cannot grow */
    g_free(w.buf);
    blk_co_free(rig.blk);
    faulty_del();
    faulty_free(&rig.file);
    qcow2_dir_free(rig.dir);
}

BLOCK_TEST(a_discard_of_a_large_disk_leaves_turns_to_other_requests)
{
    ConcurrentRig rig;
    uint8_t buf[512];
    concurrent_begin(&rig, "");
    qcow2_shell(rig.dir, "qemu-img create -q -f qcow2 -o cluster_size=512 t.qcow2 2G");
    concurrent_replace(&rig);
    TestRequest discard = {
        .blk = rig.blk, .op = TEST_DISCARD, .offset = 0, .bytes = (uint64_t)2 << 30};
    test_start(&discard);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, sizeof(buf), buf, 0), 0);
    assert_false(discard.done.happened);
    assert_int_equal(test_finish(&discard), 0);
    concurrent_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_write_to_a_cluster_waits_for_its_allocation_and_others_do_not),
        cmocka_unit_test(writes_in_place_run_together_and_a_discard_waits_for_them),
        cmocka_unit_test(discards_and_zeroes_of_a_cluster_wait_for_its_allocation),
        cmocka_unit_test(a_discarded_cluster_is_used_again_only_after_the_reads_in_flight),
        cmocka_unit_test(a_change_during_a_commit_is_written_by_the_next_one),
        cmocka_unit_test(a_flush_does_not_wait_for_the_discards_of_the_host),
        cmocka_unit_test(a_drained_section_waits_for_one_discard_of_the_host),
        cmocka_unit_test(a_reopen_without_a_backend_has_nothing_in_flight),
        cmocka_unit_test(two_writes_that_need_the_same_l2_table_add_one),
        cmocka_unit_test(the_dirty_bit_is_cleared_beside_the_removal_of_the_last_bitmap),
        cmocka_unit_test(a_table_is_copied_only_after_the_block_status_that_loads_it),
        cmocka_unit_test(a_search_for_free_clusters_leaves_turns_to_other_requests),
        cmocka_unit_test(a_discard_of_a_large_disk_leaves_turns_to_other_requests),
    };
    return block_test_main(tests);
}
