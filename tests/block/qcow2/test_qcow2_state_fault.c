/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Errors at the Nth operation below an image while a snapshot with the state of a machine is created
 * and another one is deleted, for each N: EIO, and a file system that is full from then on. An operation that
 * succeeds has its effect; after one that fails the old set of snapshots stands, and the same operation
 * succeeds when the errors have ended. The image has no errors except leaks.
 */
#include "block/qcow2/qcow2_header.h"
#include "tests/block/qcow2/qcow2_faulty.h"
#include "tests/block/qcow2/qcow2_state_test.h"
#include "tests/support/rounds.h"

#define SF_FILE ((uint64_t)4 << 20)
#define SF_DISK ((size_t)256 << 10)
#define SF_STATE ((uint64_t)400 << 10)

typedef struct FaultRig {
    char *dir;
    const char *options;
    uint8_t *before; /* the disk at first */
    uint8_t *one;    /* the state of snapshot "one" */
    uint8_t *disk;   /* model */
    uint8_t *two;    /* model of the state of snapshot "two"; NULL: it does not exist */
    bool has_one;
    Qcow2Faulty file;
    BlockBackend *blk;
} FaultRig;

static const char *const fault_shapes[] = {
    "cluster_size=512,refcount_bits=8",
    "cluster_size=4096",
    "cluster_size=16k,extended_l2=on",
};

static coroutine_fn RUNS_IN_MAIN void fault_open(FaultRig *rig)
{
    faulty_add(&rig->file);
    rig->blk = test_blk("d",
                        "qcow2,discard=unmap,l2-cache-size=1k,l2-cache-entry-size=512,"
                        "refcount-cache-size=4k,file=f",
                        true);
}

static coroutine_fn RUNS_IN_MAIN void fault_close(FaultRig *rig)
{
    blk_co_free(rig->blk);
    faulty_store(&rig->file, rig->dir, "t.qcow2");
    faulty_del();
}

/* ---- operations: 0 or the first error ---- */

static coroutine_fn RUNS_IN_MAIN void fault_write(FaultRig *rig, uint64_t offset, unsigned seed)
{
    uint8_t data[6000];
    test_fill(data, sizeof(data), seed);
    if (test_io(rig->blk, TEST_WRITE, offset, sizeof(data), data, 0) == 0) {
        memcpy(rig->disk + offset, data, sizeof(data));
    } else { /* any part may be written */
        test_io(rig->blk, TEST_READ, offset, sizeof(data), rig->disk + offset, 0);
    }
}

/* Writes a part of the state. After an error the creation is cancelled. */
static coroutine_fn RUNS_IN_MAIN bool fault_fill(StateSave *s, unsigned seed)
{
    uint64_t step = 7 * STATE_PAGE;
    for (uint64_t at = seed * STATE_PAGE; at + 5 * STATE_PAGE < s->size; at += 4 * step) {
        if (state_write(s, at, 5 * STATE_PAGE, seed + (unsigned)at) < 0) {
            block_snapshot_cancel(s->run);
            return false;
        }
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN int fault_create(FaultRig *rig, const char *name, uint8_t **model)
{
    StateSave s;
    if (!state_prepare(&s, blk_root(rig->blk), name, SF_STATE)) {
        return -EIO;
    }
    bool ok = fault_fill(&s, 1);
    fault_write(rig, 30000, 1);
    if (ok) {
        state_switch(&s);
        block_snapshot_co_raise(s.run);
        fault_write(rig, 40000, 2);
        fault_fill(&s, 8);
    }
    int ret = state_end(&s);
    assert_true(ok || ret == -ECANCELED);
    *model = ret == 0 ? s.model : NULL;
    if (ret < 0) {
        g_free(s.model);
    }
    return ret;
}

static coroutine_fn RUNS_IN_MAIN int fault_delete(FaultRig *rig)
{
    g_autoptr(GError) error = NULL;
    return block_node_co_snapshot_delete(blk_root(rig->blk), NULL, "one", &error);
}

/* Whether the image has the snapshot now. */
static coroutine_fn RUNS_IN_MAIN bool fault_has(const FaultRig *rig, const char *name)
{
    g_autoptr(GError) error = NULL;
    BlockNode *n = block_node_co_open_snapshot_state(blk_root(rig->blk), NULL, name, &error);
    if (n != NULL) {
        block_co_unref(n);
    }
    return n != NULL;
}

/* ---- runs ---- */

static coroutine_fn RUNS_IN_MAIN void fault_prepare(FaultRig *rig)
{
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o %s t.qcow2 %zu && "
                "qemu-io -f qcow2 -c 'write -q -P 3 10k 150k' t.qcow2",
                rig->options, SF_DISK);
    faulty_load(&rig->file, rig->dir, "t.qcow2", SF_FILE);
    fault_open(rig);
    rig->disk = g_malloc0(SF_DISK);
    assert_int_equal(test_io(rig->blk, TEST_READ, 0, SF_DISK, rig->disk, 0), 0);
    assert_int_equal(fault_create(rig, "one", &rig->one), 0);
    rig->before = g_steal_pointer(&rig->disk);
    fault_close(rig);
    faulty_load(&rig->file, rig->dir, "t.qcow2", SF_FILE);
}

static coroutine_fn RUNS_IN_MAIN void fault_check_states(const FaultRig *rig)
{
    assert_int_equal(fault_has(rig, "two"), rig->two != NULL);
    assert_int_equal(fault_has(rig, "one"), rig->has_one);
    if (rig->two != NULL) {
        state_compare(blk_root(rig->blk), "two", rig->two, SF_STATE);
    }
    if (rig->has_one) {
        state_compare(blk_root(rig->blk), "one", rig->one, SF_STATE);
    }
    qcow2_compare(rig->blk, rig->disk, SF_DISK, 65536, "the disk");
}

/* What failed is repeated and succeeds. The file has what was written. */
static coroutine_fn RUNS_IN_MAIN void fault_repeat(FaultRig *rig)
{
    fault_check_states(rig);
    if (rig->two == NULL) {
        assert_int_equal(fault_create(rig, "two", &rig->two), 0);
    }
    if (rig->has_one) {
        assert_int_equal(fault_delete(rig), 0);
        rig->has_one = false;
    }
    fault_check_states(rig);
}

static coroutine_fn RUNS_IN_MAIN void fault_check_file(const FaultRig *rig)
{
    qcow2_shell(rig->dir, "qemu-img check -f qcow2 t.qcow2 >check 2>&1; r=$?; "
                          "if [ $r != 0 ] && [ $r != 3 ]; then cat check; false; fi");
    qcow2_shell(rig->dir,
                "qemu-img snapshot -d two t.qcow2 && qemu-img check -q -r leaks t.qcow2 >check; "
                "qemu-img check -q t.qcow2");
}

/* Fails the operations from number @after on, @count of them (0: all). Returns whether one was hit. */
static coroutine_fn RUNS_IN_MAIN bool fault_run(FaultRig *rig, BlockFault fault)
{
    fault_open(rig);
    rig->disk = g_memdup2(rig->before, SF_DISK);
    rig->two = NULL;
    faulty_set(&rig->file, fault);
    int created = fault_create(rig, "two", &rig->two);
    int deleted = fault_delete(rig);
    unsigned hits = block_fault_hits(rig->file.fault);
    faulty_set(&rig->file, (BlockFault){0});
    assert_true(hits > 0 || (created == 0 && deleted == 0));
    rig->has_one = fault_has(rig, "one");
    assert_true(!rig->has_one || deleted < 0);
    while (test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0) != 0) {
    }
    assert_int_equal(test_io(rig->blk, TEST_READ, 0, SF_DISK, rig->disk, 0), 0);
    fault_repeat(rig);
    fault_close(rig);
    fault_check_file(rig);
    g_free(rig->disk);
    g_clear_pointer(&rig->two, g_free);
    return hits > 0;
}

static coroutine_fn RUNS_IN_MAIN void fault_each(BlockFaultOp op, uint32_t error, bool lasts)
{
    char *dir = qcow2_dir_new();
    unsigned stride = test_rounds(11, 7, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_shapes); i++) {
        FaultRig rig = {.dir = dir, .options = fault_shapes[i]};
        unsigned after = 0;
        fault_prepare(&rig);
        while (fault_run(&rig, (BlockFault){.op = (int)op,
                                            .after = after,
                                            .count = lasts ? 0 : after % 3 + 1,
                                            .error = error})) {
            after += op == BLOCK_FAULT_FLUSH ? (stride + 4) / 5 : stride;
        }
        printf("# %s: errors up to operation %u\n", rig.options, after);
        assert_true(after > 0);
        faulty_free(&rig.file);
        g_free(rig.before);
        g_free(rig.one);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_write_that_fails_leaves_the_old_snapshots)
{
    fault_each(BLOCK_FAULT_WRITE, EIO, false);
}

BLOCK_TEST(a_full_file_system_leaves_the_old_snapshots)
{
    fault_each(BLOCK_FAULT_WRITE, ENOSPC, true);
}

BLOCK_TEST(a_read_that_fails_leaves_the_old_snapshots)
{
    fault_each(BLOCK_FAULT_READ, EIO, false);
}

BLOCK_TEST(a_flush_that_fails_leaves_the_old_snapshots)
{
    fault_each(BLOCK_FAULT_FLUSH, EIO, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_fails_leaves_the_old_snapshots),
        cmocka_unit_test(a_full_file_system_leaves_the_old_snapshots),
        cmocka_unit_test(a_read_that_fails_leaves_the_old_snapshots),
        cmocka_unit_test(a_flush_that_fails_leaves_the_old_snapshots),
    };
    return block_test_main(tests);
}
