/* SPDX-License-Identifier: Apache-2.0 */
/* The state area of a snapshot and its surroundings: drained sections, graph changes, the end of the process,
 * other operations, images made by others. */
#include "block/graph.h"
#include "block/qcow2/qcow2_header.h"
#include "tests/block/qcow2/qcow2_faulty.h"
#include "tests/block/qcow2/qcow2_state_test.h"

#define SU_FILE ((uint64_t)16 << 20)
#define SU_STATE ((uint64_t)2 << 20)
#define SU_CLUSTER ((uint64_t)64 << 10)

typedef struct UseRig {
    char *dir;
    Qcow2Faulty file;
    BlockBackend *blk; /* a device's */
} UseRig;

static coroutine_fn RUNS_IN_MAIN void use_open(UseRig *rig)
{
    rig->dir = qcow2_dir_new();
    qcow2_shell(rig->dir, "qemu-img create -q -f qcow2 t.qcow2 1M && "
                          "qemu-io -c 'write -q -P 5 0 300k' t.qcow2");
    faulty_load(&rig->file, rig->dir, "t.qcow2", SU_FILE);
    faulty_add(&rig->file);
    rig->blk = test_blk("d", "qcow2,node-name=q,discard=unmap,file=f", true);
}

static coroutine_fn RUNS_IN_MAIN void use_close(UseRig *rig)
{
    blk_co_free(rig->blk);
    faulty_store(&rig->file, rig->dir, "t.qcow2");
    faulty_del();
    faulty_free(&rig->file);
}

/* A write to the state that is held in the file. */
static coroutine_fn RUNS_IN_MAIN void use_hold_write(UseRig *rig, StateSave *s, TestRequest *r)
{
    test_fill(s->model, SU_CLUSTER, 7);
    *r = (TestRequest){.blk = s->blk, .op = TEST_WRITE, .bytes = SU_CLUSTER, .buf = s->model};
    faulty_hold(&rig->file, BLOCK_FAULT_WRITE, 0, 0);
    test_start(r);
    while (block_fault_held(rig->file.fault) == 0) {
        test_settle();
    }
    faulty_set(&rig->file, (BlockFault){0}); /* others pass */
}

/* ---- drained sections ---- */

BLOCK_TEST(a_drained_section_does_not_wait_for_a_state_that_hangs)
{
    UseRig rig = {0};
    StateSave s;
    TestRequest held;
    uint8_t page[STATE_PAGE] = {1};
    use_open(&rig);
    assert_true(state_prepare(&s, blk_root(rig.blk), "one", SU_STATE));
    assert_int_equal(state_write(&s, SU_CLUSTER, STATE_PAGE, 1), 0);
    use_hold_write(&rig, &s, &held);
    co_drained_begin(&rig.blk, 1); /* a guest's reset */
    co_drained_end(&rig.blk, 1);
    state_switch(&s); /* the section of the snapshot */
    assert_int_equal(test_io(rig.blk, TEST_WRITE, 0, sizeof(page), page, 0), 0);
    block_snapshot_co_raise(s.run);
    assert_int_equal(test_io(rig.blk, TEST_WRITE, SU_CLUSTER, sizeof(page), page, 0), 0);
    co_drained_begin(&rig.blk, 1);
    co_drained_end(&rig.blk, 1);
    assert_false(held.done.happened);
    faulty_release_held(&rig.file);
    assert_int_equal(test_finish(&held), 0);
    assert_int_equal(state_end(&s), 0);
    state_compare(blk_root(rig.blk), "one", s.model, SU_STATE);
    use_close(&rig);
    qcow2_shell(rig.dir, "qemu-img check -q t.qcow2");
    qcow2_dir_free(rig.dir);
    g_free(s.model);
}

/* ---- graph changes ---- */

typedef struct UseChange {
    BlockNode *node;
    TestEvent done;
} UseChange;

static void use_change(void *opaque)
{
    UseChange *c = opaque;
    enter_coroutine();
    enter_main();
    g_autoptr(GError) error = NULL;
    BlockGraphChange *change = block_graph_co_begin(&c->node, 1, &error);
    assert_non_null(change);
    block_graph_co_end(change);
    test_event_set(&c->done);
}

BLOCK_TEST(a_graph_change_waits_for_the_state)
{
    UseRig rig = {0};
    StateSave s;
    TestRequest held;
    g_autoptr(GError) error = NULL;
    use_open(&rig);
    UseChange c = {.node = blk_root(rig.blk)};
    assert_true(state_prepare(&s, c.node, "one", SU_STATE));
    use_hold_write(&rig, &s, &held);
    co_start(test_main, use_change, &c);
    for (unsigned i = 0; i < 20; i++) {
        test_settle();
    }
    assert_false(c.done.happened);
    faulty_release_held(&rig.file);
    test_event_wait(&c.done);
    assert_int_equal(test_finish(&held), 0);
    block_snapshot_cancel(s.run);
    assert_int_equal(state_end(&s), -ECANCELED);
    use_close(&rig);
    qcow2_shell(rig.dir, "qemu-img check -q t.qcow2");
    qcow2_dir_free(rig.dir);
    g_free(s.model);
}

/* ---- the end of the process ---- */

BLOCK_TEST(an_image_that_is_completed_during_a_save_loses_nothing)
{
    UseRig rig = {0};
    StateSave s;
    TestRequest held;
    uint8_t page[STATE_PAGE] = {9};
    g_autoptr(GError) error = NULL;
    use_open(&rig);
    assert_true(state_prepare(&s, blk_root(rig.blk), "one", SU_STATE));
    assert_int_equal(state_write(&s, SU_CLUSTER * 3, STATE_PAGE * 20, 1), 0);
    state_switch(&s);
    assert_int_equal(test_io(rig.blk, TEST_WRITE, 0, sizeof(page), page, 0), 0);
    use_hold_write(&rig, &s, &held);
    block_co_complete_all();
    assert_int_equal(state_write(&s, 0, STATE_PAGE, 1), -ECANCELED);
    faulty_release_held(&rig.file);
    test_finish(&held);
    assert_null(block_snapshot_co_open_state(s.run, &error));
    assert_int_equal(test_io(rig.blk, TEST_WRITE, SU_CLUSTER, sizeof(page), page, 0), 0);
    assert_int_equal(state_end(&s), -ECANCELED);
    g_free(s.model);
    assert_true(state_prepare(&s, blk_root(rig.blk), "two", SU_STATE)); /* the next one */
    assert_int_equal(state_write(&s, SU_CLUSTER * 5, STATE_PAGE * 20, 2), 0);
    state_switch(&s);
    assert_int_equal(state_end(&s), 0);
    state_compare(blk_root(rig.blk), "two", s.model, SU_STATE);
    use_close(&rig);
    qcow2_shell(rig.dir,
                "qemu-img check t.qcow2 >check || [ $? = 3 ] && ! grep ERROR check && "
                "qemu-io -r -c 'read -q -P 5 4k 60k' -c 'read -q -P 5 68k 200k' t.qcow2 && "
                "! qemu-img snapshot -l t.qcow2 | grep one");
    qcow2_dir_free(rig.dir);
    g_free(s.model);
}

/* ---- other operations ---- */

BLOCK_TEST(a_state_that_is_read_keeps_its_snapshot)
{
    UseRig rig = {0};
    StateSave s;
    g_autoptr(GError) error = NULL, busy = NULL, none = NULL, stateless = NULL;
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "bare"};
    use_open(&rig);
    BlockNode *n = blk_root(rig.blk);
    assert_true(state_prepare(&s, n, "one", SU_STATE));
    assert_int_equal(state_write(&s, SU_CLUSTER, STATE_PAGE, 1), 0);
    state_switch(&s);
    assert_int_equal(state_end(&s), 0);
    BlockBackend *blk = state_open(n, "one");
    assert_int_equal(block_node_co_snapshot_delete(n, NULL, "one", &busy), -EBUSY);
    assert_non_null(strstr(busy->message, "state of the machine in the snapshot is being read"));
    assert_int_equal(block_node_co_snapshot_create(n, &info, &error), 0);
    qcow2_compare(blk, s.model, SU_STATE, SU_STATE, "one");
    assert_int_equal(block_node_co_snapshot_apply(n, "one", &error), 0);
    qcow2_compare(blk, s.model, SU_STATE, SU_STATE, "one");
    assert_false(block_co_delete("q", NULL));
    blk_co_free(blk);
    assert_null(block_node_co_open_snapshot_state(n, NULL, "two", &none));
    assert_non_null(strstr(none->message, "Can't find snapshot"));
    assert_null(block_node_co_open_snapshot_state(n, NULL, "bare", &stateless));
    assert_non_null(strstr(stateless->message, "has no state of a machine"));
    assert_int_equal(block_node_co_snapshot_delete(n, NULL, "one", &error), 0);
    use_close(&rig);
    qcow2_shell(rig.dir, "qemu-img check -q t.qcow2");
    qcow2_dir_free(rig.dir);
    g_free(s.model);
}

typedef struct UseStatus {
    BlockBackend *blk;
    uint64_t offset;
    BlockStatus status;
} UseStatus;

static void use_status_at_home(void *opaque)
{
    UseStatus *u = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    uint64_t rest = blk_size(u->blk) - u->offset;
    assert_int_equal(blk_co_block_status(u->blk, u->offset, rest, false, &u->status), 0);
}

static coroutine_fn RUNS_IN_MAIN void use_expect(BlockBackend *blk, uint64_t offset, uint64_t bytes,
                                                 unsigned flag)
{
    UseStatus u = {.blk = blk, .offset = offset};
    test_in_home(use_status_at_home, &u);
    assert_int_equal(u.status.flags & (BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO), flag);
    assert_int_equal(u.status.bytes, bytes);
}

BLOCK_TEST(holes_of_a_state_are_known)
{
    UseRig rig = {0};
    StateSave s;
    use_open(&rig);
    assert_true(state_prepare(&s, blk_root(rig.blk), "one", SU_STATE));
    assert_int_equal(state_write(&s, SU_CLUSTER * 2, SU_CLUSTER + STATE_PAGE, 1), 0);
    assert_int_equal(test_io(s.blk, TEST_ZERO, 0, SU_CLUSTER * 2, NULL, 0), 0);
    use_expect(s.blk, SU_CLUSTER * 2, SU_CLUSTER * 2, BLOCK_STATUS_DATA);
    state_switch(&s);
    assert_int_equal(state_end(&s), 0);
    BlockBackend *blk = state_open(blk_root(rig.blk), "one");
    use_expect(blk, 0, SU_CLUSTER * 2, BLOCK_STATUS_ZERO);
    use_expect(blk, SU_CLUSTER * 2, SU_CLUSTER * 2, BLOCK_STATUS_DATA);
    use_expect(blk, SU_CLUSTER * 4, SU_STATE - SU_CLUSTER * 4, BLOCK_STATUS_ZERO);
    blk_co_free(blk);
    use_close(&rig);
    qcow2_dir_free(rig.dir);
    g_free(s.model);
}

BLOCK_TEST(an_image_with_a_data_file_refuses_a_state)
{
    char *dir = qcow2_dir_new();
    g_autoptr(GError) error = NULL;
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "one", .vm_state_size = SU_STATE};
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o data_file=$PWD/data t.qcow2 1M");
    g_autofree char *text = g_strdup_printf("qcow2,file.driver=file,file.filename=%s/t.qcow2", dir);
    BlockBackend *blk = test_blk("d", text, true);
    assert_null(block_node_co_snapshot_prepare(blk_root(blk), &info, &error));
    assert_non_null(strstr(error->message, "data file"));
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_state_that_the_clusters_cannot_map_is_refused)
{
    char *dir = qcow2_dir_new();
    g_autoptr(GError) error = NULL;
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "one",
                              .vm_state_size = (uint64_t)1 << 40};
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o cluster_size=512 t.qcow2 1M");
    g_autofree char *text = g_strdup_printf("qcow2,file.driver=file,file.filename=%s/t.qcow2", dir);
    BlockBackend *blk = test_blk("d", text, true);
    assert_null(block_node_co_snapshot_prepare(blk_root(blk), &info, &error));
    assert_non_null(strstr(error->message, "too large for the clusters"));
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check -q t.qcow2");
    qcow2_dir_free(dir);
}

/* ---- QEMU ---- */

static coroutine_fn RUNS_IN_MAIN void use_save_pattern(BlockNode *n, const char *name,
                                                       uint64_t offset, uint8_t pattern)
{
    StateSave s;
    g_autofree uint8_t *data = g_malloc(SU_CLUSTER * 2);
    memset(data, pattern, SU_CLUSTER * 2);
    assert_true(state_prepare(&s, n, name, SU_STATE));
    assert_int_equal(test_io(s.blk, TEST_WRITE, offset, SU_CLUSTER * 2, data, 0), 0);
    state_switch(&s);
    assert_int_equal(state_end(&s), 0);
    g_free(s.model);
}

/* QEMU applies the snapshot, and reads its state behind the disk. */
static coroutine_fn RUNS_IN_MAIN void use_check_by_qemu(const char *dir, const char *options)
{
    qcow2_shell(dir,
                "rm -f t.qcow2; qemu-img create -q -f qcow2 -o %s t.qcow2 3M && "
                "qemu-io -c 'write -q -P 5 0 3M' -c 'write -q -b -P 99 0 1M' t.qcow2",
                options);
    g_autofree char *text = g_strdup_printf("qcow2,file.driver=file,file.filename=%s/t.qcow2", dir);
    BlockBackend *blk = test_blk("d", text, true);
    use_save_pattern(blk_root(blk), "one", 300 << 10, 21); /* without what QEMU left there */
    use_save_pattern(blk_root(blk), "two", 600 << 10, 22);
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check -q t.qcow2 && qemu-img snapshot -l t.qcow2 >list && "
                     "grep -E 'one +2 MiB' list && qemu-img snapshot -a one t.qcow2 && "
                     "qemu-io -r -c 'read -q -b -P 0 0 300k' -c 'read -q -b -P 21 300k 128k' "
                     "-c 'read -q -b -P 0 428k 1500k' -c 'read -q -P 5 0 3M' t.qcow2 >read && "
                     "[ ! -s read ] && qemu-img snapshot -a two t.qcow2 && "
                     "qemu-io -r -c 'read -q -b -P 0 300k 300k' -c 'read -q -b -P 22 600k 128k' "
                     "t.qcow2 >read && [ ! -s read ] && qemu-img check -q t.qcow2 && "
                     "qemu-img snapshot -d one t.qcow2 && qemu-img snapshot -d two t.qcow2 && "
                     "qemu-img check -q t.qcow2");
}

BLOCK_TEST(qemu_reads_the_state)
{
    static const char *const shapes[] = {"cluster_size=4k", "cluster_size=64k", "compat=0.10",
                                         "cluster_size=16k,extended_l2=on", "cluster_size=512"};
    char *dir = qcow2_dir_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(shapes); i++) {
        use_check_by_qemu(dir, shapes[i]);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drained_section_does_not_wait_for_a_state_that_hangs),
        cmocka_unit_test(a_graph_change_waits_for_the_state),
        cmocka_unit_test(an_image_that_is_completed_during_a_save_loses_nothing),
        cmocka_unit_test(a_state_that_is_read_keeps_its_snapshot),
        cmocka_unit_test(holes_of_a_state_are_known),
        cmocka_unit_test(an_image_with_a_data_file_refuses_a_state),
        cmocka_unit_test(a_state_that_the_clusters_cannot_map_is_refused),
        cmocka_unit_test(qemu_reads_the_state),
    };
    return block_test_main(tests);
}
