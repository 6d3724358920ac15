/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Errors at the Nth operation below an image while its bitmaps change and are stored, for each N. A
 * bitmap on disk without in_use is the one in memory, and what a command has removed is gone. If the
 * errors end before the image is closed, all bitmaps are stored. The image has leaks at most.
 */
#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_check.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"
#include "tests/support/rounds.h"

#define BF_FILE ((uint64_t)2 << 20)
#define BF_TRIES 8u

typedef struct FaultRig {
    char *dir;
    const char *options;
    uint8_t *image, *saved; /* the file before and after */
    BlockNode *mem, *fault;
    BlockBackend *blk;
    BlockFault hit;
    bool in_close; /* errors go on while the image is closed */
} FaultRig;

static const char *const fault_shapes[] = {
    "cluster_size=512,refcount_bits=8",
    "cluster_size=4096,lazy_refcounts=on",
    "cluster_size=16k",
};

static const char *const fault_names[] = {"a", "clear", "remove", "new", "merge"};

/* ---- in the home ---- */

static void fault_fill(void *opaque)
{
    FaultRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(rig->mem), rig->image, BF_FILE);
}

static void fault_save(void *opaque)
{
    FaultRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(rig->saved, block_mem_data(rig->mem), BF_FILE);
}

static void fault_arm(void *opaque)
{
    FaultRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(rig->fault, &rig->hit);
}

/* ---- the image ---- */

static void fault_create(FaultRig *rig)
{
    size_t size;
    qcow2_shell(
        rig->dir,
        "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o %s t.qcow2 256k && "
        "for b in a clear remove merge; do qemu-img bitmap --add -g 512 t.qcow2 $b; done && "
        "qemu-io -f qcow2 -c 'write -q -P 3 10k 50k' t.qcow2",
        rig->options);
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    assert_true(size <= BF_FILE);
    rig->image = g_malloc0(BF_FILE);
    rig->saved = g_malloc0(BF_FILE);
    memcpy(rig->image, image, size);
}

static coroutine_fn RUNS_IN_MAIN void fault_open(FaultRig *rig)
{
    rig->mem = test_node_add("mem,node-name=m,size=2M,discard=unmap");
    test_in_home(fault_fill, rig);
    rig->fault = test_node_add("fault,node-name=f,discard=unmap,file=m");
    rig->blk = test_blk("d", "qcow2,discard=unmap,refcount-cache-size=4k,file=f", true);
}

/* ---- operations ---- */

/* After a write, a crash leaves no bitmap that is believed. */
static coroutine_fn RUNS_IN_MAIN void fault_check_marked(FaultRig *rig)
{
    test_in_home(fault_save, rig);
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_names); i++) {
        DiskBitmap d = disk_bitmap(rig->saved, BF_FILE, fault_names[i]);
        if (d.bits != NULL) {
            fail_msg("%s after %d of kind %d: bitmap %s is believed beside writes", rig->options,
                     (int)rig->hit.after, rig->hit.op, fault_names[i]);
        }
    }
}

static coroutine_fn RUNS_IN_MAIN void fault_write(FaultRig *rig, uint64_t offset)
{
    uint8_t data[3000];
    unsigned tries = 0;
    test_fill(data, sizeof(data), (unsigned)offset);
    while (test_io(rig->blk, TEST_WRITE, offset, sizeof(data), data, 0) != 0) {
        if (++tries == BF_TRIES) {
            fail_msg("the write at %" PRIu64 " fails for ever", offset);
        }
    }
    fault_check_marked(rig);
}

/* The outcome of the commands is what is in memory afterwards. */
static coroutine_fn RUNS_IN_MAIN void fault_operate(FaultRig *rig)
{
    BlockNode *n = blk_root(rig->blk);
    BlockDirtyBitmapRef to = {n, "merge"}, from = {n, "a"};
    block_dirty_bitmap_co_clear(n, "clear", NULL);
    fault_write(rig, 100000);
    block_dirty_bitmap_co_add(n, "new", 1024, BLOCK_BITMAP_PERSISTENT, NULL);
    fault_write(rig, 30000);
    block_node_co_complete(n);
    fault_write(rig, 200000);
    block_dirty_bitmap_co_remove(n, "remove", NULL);
    block_dirty_bitmap_co_merge(to, &from, 1, NULL);
    block_dirty_bitmap_co_set_enabled(n, "clear", false, NULL);
    block_node_co_complete(n);
    block_node_co_complete(n);
    fault_write(rig, 150000);
}

/* ---- what is left ---- */

static void fault_line(void *opaque, const char *line)
{
    g_string_append_printf(opaque, "%s\n", line);
}

static void fault_check_at_home(void *opaque)
{
    Qcow2CheckRequest *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    qcow2_co_check(r);
}

static coroutine_fn RUNS_IN_MAIN void fault_check_image(FaultRig *rig)
{
    g_autoptr(GString) lines = g_string_new(NULL);
    BlockBackend *blk = blk_co_new("file", rig->mem, false, NULL);
    Qcow2CheckRequest r = {.file = rig->mem, .who = "image", .report = fault_line, .opaque = lines};
    test_in_home(fault_check_at_home, &r);
    blk_co_free(blk);
    bool dirty = (rig->saved[79] & 1) != 0; /* a failed close leaves the dirty bit */
    if (r.error != NULL || (r.result.corruptions > 0 && !(dirty && rig->in_close))) {
        fail_msg("%s after %d of kind %d: %s", rig->options, (int)rig->hit.after, rig->hit.op,
                 r.error != NULL ? r.error->message : lines->str);
    }
}

static void fault_check(const FaultRig *rig, const GArray *memory)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_names); i++) {
        DiskBitmap d = disk_bitmap(rig->saved, BF_FILE, fault_names[i]);
        const MemoryBitmap *m = memory_bitmap(memory, fault_names[i]);
        bool valid = d.bits != NULL;
        if ((valid && (m == NULL || !disk_bitmap_equals(&d, m))) ||
            (m == NULL && d.listed && !rig->in_close) || (m != NULL && !valid && !rig->in_close)) {
            fail_msg("%s, kind %d: bitmap %s, listed %d, in use %d, in memory %d", rig->options,
                     rig->hit.op, fault_names[i], d.listed, d.in_use, m != NULL);
        }
        disk_bitmap_clear(&d);
    }
}

/* Fails @count operations from number @after on. Returns whether one was hit. */
static coroutine_fn RUNS_IN_MAIN bool fault_run(FaultRig *rig, BlockFaultOp op, unsigned after,
                                                unsigned count)
{
    fault_open(rig);
    rig->hit = (BlockFault){.op = (int)op, .after = after, .count = count, .error = EIO};
    rig->in_close = after % 8 > 4;
    test_in_home(fault_arm, rig);
    fault_operate(rig);
    bool hits = block_fault_hits(rig->fault) > 0;
    if (!rig->in_close) {
        rig->hit = (BlockFault){.op = (int)op, .after = 1 << 30, .error = EIO};
        test_in_home(fault_arm, rig);
    }
    g_autoptr(GArray) memory = memory_bitmaps(blk_root(rig->blk));
    blk_co_free(rig->blk);
    hits = hits || block_fault_hits(rig->fault) > 0;
    test_in_home(fault_save, rig);
    test_node_del("f");
    fault_check_image(rig);
    fault_check(rig, memory);
    test_node_del("m");
    return hits;
}

static coroutine_fn RUNS_IN_MAIN void fault_each(BlockFaultOp op)
{
    char *dir = qcow2_dir_new();
    unsigned stride = test_rounds(5, 2, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_shapes); i++) {
        FaultRig rig = {.dir = dir, .options = fault_shapes[i]};
        unsigned after = 0;
        fault_create(&rig);
        while (fault_run(&rig, op, after, after % 4 + 1)) {
            after += stride;
        }
        printf("# %s: errors up to operation %u\n", rig.options, after);
        assert_true(after > 0);
        g_free(rig.image);
        g_free(rig.saved);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_write_that_fails_leaves_no_wrong_bitmap)
{
    fault_each(BLOCK_FAULT_WRITE);
}

BLOCK_TEST(a_read_that_fails_leaves_no_wrong_bitmap)
{
    fault_each(BLOCK_FAULT_READ);
}

BLOCK_TEST(a_flush_that_fails_leaves_no_wrong_bitmap)
{
    fault_each(BLOCK_FAULT_FLUSH);
}

/* A flush fails, and then the write that puts the header right again. */
BLOCK_TEST(a_row_of_operations_that_fails_leaves_no_wrong_bitmap)
{
    fault_each(BLOCK_FAULT_ANY);
}

/* The extension is retired with the last bitmap. After an error there the disk may have it or not. */
static coroutine_fn RUNS_IN_MAIN bool fault_remove_last(FaultRig *rig, BlockFaultOp op,
                                                        unsigned after)
{
    fault_open(rig);
    BlockNode *n = blk_root(rig->blk);
    rig->hit = (BlockFault){.op = (int)op, .after = after, .count = 1, .error = EIO};
    test_in_home(fault_arm, rig);
    bool removed = block_dirty_bitmap_co_remove(n, "a", NULL);
    bool hit = block_fault_hits(rig->fault) > 0;
    rig->hit = (BlockFault){.op = (int)op, .after = 1 << 30, .error = EIO};
    test_in_home(fault_arm, rig);
    bitmap_add(n, "b", 4096, 0);
    assert_int_equal(block_node_co_complete(n), 0);
    blk_co_free(rig->blk);
    test_in_home(fault_save, rig);
    DiskBitmap a = disk_bitmap(rig->saved, BF_FILE, "a"), b = disk_bitmap(rig->saved, BF_FILE, "b");
    if (!b.listed || b.in_use || a.listed == removed) {
        fail_msg("error %u of kind %d: a: removed %d, listed %d; b: listed %d, in use %d", after,
                 op, removed, a.listed, b.listed, b.in_use);
    }
    disk_bitmap_clear(&a);
    disk_bitmap_clear(&b);
    test_node_del("f");
    test_node_del("m");
    return hit;
}

BLOCK_TEST(a_bitmap_is_stored_after_an_error_in_the_removal_of_the_last_one)
{
    static const BlockFaultOp ops[] = {BLOCK_FAULT_WRITE, BLOCK_FAULT_FLUSH};
    FaultRig rig = {.dir = qcow2_dir_new()};
    size_t size;
    qcow2_shell(rig.dir, "qemu-img create -q -f qcow2 t.qcow2 256k && "
                         "qemu-img bitmap --add t.qcow2 a");
    g_autofree uint8_t *image = qcow2_file_bytes(rig.dir, "t.qcow2", &size);
    assert_true(size <= BF_FILE);
    rig.image = g_malloc0(BF_FILE);
    rig.saved = g_malloc0(BF_FILE);
    memcpy(rig.image, image, size);
    for (unsigned i = 0; i < G_N_ELEMENTS(ops); i++) {
        unsigned after = 0;
        while (fault_remove_last(&rig, ops[i], after)) {
            after++;
        }
        assert_true(after > 2);
    }
    g_free(rig.image);
    g_free(rig.saved);
    qcow2_dir_free(rig.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_fails_leaves_no_wrong_bitmap),
        cmocka_unit_test(a_read_that_fails_leaves_no_wrong_bitmap),
        cmocka_unit_test(a_flush_that_fails_leaves_no_wrong_bitmap),
        cmocka_unit_test(a_row_of_operations_that_fails_leaves_no_wrong_bitmap),
        cmocka_unit_test(a_bitmap_is_stored_after_an_error_in_the_removal_of_the_last_one),
    };
    return block_test_main(tests);
}
