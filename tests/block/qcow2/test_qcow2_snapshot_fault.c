/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Errors at the Nth operation below an image while snapshots are created, applied and deleted, for
 * each N. An operation that succeeds has its effect; one that fails leaves the disk and all other
 * snapshots as they are. The image has no errors except leaks. If flags COPIED do not match, it has
 * the dirty bit, and a repair corrects them.
 */
#include "block/qcow2/qcow2_header.h"
#include "tests/block/qcow2/qcow2_faulty.h"
#include "tests/support/rounds.h"

#define SF_FILE ((uint64_t)4 << 20)
#define SF_DISK ((size_t)512 << 10)

typedef struct FaultRig {
    char *dir;
    const char *options;
    uint8_t *before, *one; /* the disk, and as snapshot "one" has it */
    uint8_t *disk, *two;   /* models during a run; two: NULL if there is none */
    bool one_may;          /* "one" may be listed */
    Qcow2Faulty file;
    BlockBackend *blk;
} FaultRig;

static const char *const fault_shapes[] = {
    "cluster_size=512,refcount_bits=8",
    "cluster_size=4096",
    "cluster_size=16k,extended_l2=on",
};

/* ---- the image ---- */

static void fault_create(FaultRig *rig)
{
    size_t size;
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o %s t.qcow2 %zu && "
                "qemu-io -f qcow2 -c 'write -q -P 3 10k 150k' -c 'write -q -c -P 4 256k 64k' "
                "t.qcow2 && qemu-img snapshot -c one t.qcow2 && "
                "qemu-img convert -f qcow2 -O raw t.qcow2 one.raw && "
                "qemu-io -f qcow2 -c 'write -q -P 7 20k 100k' -c 'discard -q 128k 32k' t.qcow2 && "
                "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw",
                rig->options, SF_DISK);
    faulty_load(&rig->file, rig->dir, "t.qcow2", SF_FILE);
    rig->one = qcow2_file_bytes(rig->dir, "one.raw", &size);
    rig->before = qcow2_file_bytes(rig->dir, "before.raw", &size);
    assert_int_equal(size, SF_DISK);
}

static coroutine_fn RUNS_IN_MAIN void fault_open(FaultRig *rig)
{
    faulty_add(&rig->file);
    rig->blk = test_blk("d",
                        "qcow2,discard=unmap,l2-cache-size=1k,l2-cache-entry-size=512,"
                        "refcount-cache-size=4k,file=f",
                        true);
}

/* ---- operations ---- */

static coroutine_fn RUNS_IN_MAIN void fault_write(FaultRig *rig, uint64_t offset, uint8_t pattern)
{
    uint8_t data[6000];
    memset(data, pattern, sizeof(data));
    while (test_io(rig->blk, TEST_WRITE, offset, sizeof(data), data, 0) != 0) {
    }
    memcpy(rig->disk + offset, data, sizeof(data));
}

static coroutine_fn RUNS_IN_MAIN void fault_operate(FaultRig *rig)
{
    BlockNode *n = blk_root(rig->blk);
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "two", .icount = UINT64_MAX};
    g_autoptr(GError) create = NULL, apply = NULL, gone = NULL;
    fault_write(rig, 30000, 1);
    if (block_node_co_snapshot_create(n, &info, &create) == 0) {
        rig->two = g_memdup2(rig->disk, SF_DISK);
    }
    fault_write(rig, 40000, 2);
    if (block_node_co_snapshot_apply(n, "one", &apply) == 0) {
        memcpy(rig->disk, rig->one, SF_DISK);
    }
    fault_write(rig, 50000, 3);
    rig->one_may = block_node_co_snapshot_delete(n, NULL, "one", &gone) != 0;
    fault_write(rig, 270000, 4);
}

/* ---- what is left ---- */

static void fault_check_snapshot(const FaultRig *rig, const char *name, const uint8_t *model)
{
    size_t size;
    qcow2_shell(rig->dir, "qemu-img convert -l snapshot.name=%s -O raw t.qcow2 snap.raw", name);
    g_autofree uint8_t *bytes = qcow2_file_bytes(rig->dir, "snap.raw", &size);
    assert_memory_equal(bytes, model, SF_DISK);
}

static bool fault_listed(const FaultRig *rig, const char *name)
{
    g_autofree char *command =
        g_strdup_printf("cd '%s' && qemu-img snapshot -l t.qcow2 | grep -qw %s", rig->dir, name);
    return system(command) == 0;
}

static coroutine_fn RUNS_IN_MAIN void fault_check(FaultRig *rig)
{
    g_autofree char *model = g_build_filename(rig->dir, "model.raw", NULL);
    faulty_store(&rig->file, rig->dir, "t.qcow2");
    assert_true(g_file_set_contents(model, (char *)rig->disk, SF_DISK, NULL));
    bool dirty = (qcow2_get64(rig->file.saved + offsetof(Qcow2DiskHeader, incompatible_features)) &
                  QCOW2_INCOMPATIBLE_DIRTY) != 0;
    qcow2_shell(
        rig->dir,
        "qemu-img check -f qcow2 t.qcow2 >check 2>&1; grep ^ERROR check >wrong; "
        "if { [ -s wrong ] && ! %s; } || grep -v OFLAG_COPIED wrong; then cat check; false; fi",
        dirty ? "true" : "false");
    qcow2_shell(rig->dir, "qemu-img compare -f raw -F qcow2 model.raw t.qcow2");
    assert_int_equal(fault_listed(rig, "two"), rig->two != NULL);
    if (rig->two != NULL) {
        fault_check_snapshot(rig, "two", rig->two);
    }
    bool listed = fault_listed(rig, "one");
    assert_true(!listed || rig->one_may);
    if (listed) {
        fault_check_snapshot(rig, "one", rig->one);
    }
}

/* Fails the operations from number @after on, @count of them. Returns whether one was hit. */
static coroutine_fn RUNS_IN_MAIN bool fault_run(FaultRig *rig, BlockFaultOp op, unsigned after,
                                                unsigned count)
{
    fault_open(rig);
    rig->disk = g_memdup2(rig->before, SF_DISK);
    rig->two = NULL;
    faulty_set(&rig->file,
               (BlockFault){.op = (int)op, .after = after, .count = count, .error = EIO});
    fault_operate(rig);
    unsigned hits = block_fault_hits(rig->file.fault);
    faulty_set(&rig->file, (BlockFault){0});
    assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    qcow2_compare(rig->blk, rig->disk, SF_DISK, 65536, "the disk after the errors");
    blk_co_free(rig->blk);
    fault_check(rig);
    faulty_del();
    g_free(rig->disk);
    g_free(rig->two);
    return hits > 0;
}

static coroutine_fn RUNS_IN_MAIN void fault_each(BlockFaultOp op)
{
    char *dir = qcow2_dir_new();
    unsigned stride = test_rounds(31, 13, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_shapes); i++) {
        FaultRig rig = {.dir = dir, .options = fault_shapes[i]};
        unsigned after = 0;
        fault_create(&rig);
        while (fault_run(&rig, op, after, after % 3 + 1)) {
            after += op == BLOCK_FAULT_FLUSH ? (stride + 2) / 3 : stride;
        }
        printf("# %s: errors up to operation %u\n", rig.options, after);
        assert_true(after > 0);
        faulty_free(&rig.file);
        g_free(rig.before);
        g_free(rig.one);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_write_that_fails_leaves_disk_and_snapshots)
{
    fault_each(BLOCK_FAULT_WRITE);
}

BLOCK_TEST(a_read_that_fails_leaves_disk_and_snapshots)
{
    fault_each(BLOCK_FAULT_READ);
}

BLOCK_TEST(a_flush_that_fails_leaves_disk_and_snapshots)
{
    fault_each(BLOCK_FAULT_FLUSH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_fails_leaves_disk_and_snapshots),
        cmocka_unit_test(a_read_that_fails_leaves_disk_and_snapshots),
        cmocka_unit_test(a_flush_that_fails_leaves_disk_and_snapshots),
    };
    return block_test_main(tests);
}
