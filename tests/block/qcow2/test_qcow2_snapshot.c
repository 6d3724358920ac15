/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Internal snapshots in generated sequences: writes, compressed ones, zeroes, discards, resizes, reopens, and
 * snapshots that are created, applied and deleted, with requests beside the operation. The disk and
 * each snapshot have a plain model. In the end qemu-img check, list and convert agree with it.
 */
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_shape.h"
#include "tests/support/rounds.h"

#define SNAP_STEPS 20
#define SNAP_MAX 4u
#define SNAP_BESIDE 6u /* requests beside an operation */
#define SNAP_SECTOR 512u
#define SNAP_DISK_MAX ((size_t)8 << 20)

typedef struct Model {
    uint8_t *bytes;
    size_t size;
} Model;

typedef struct Rig {
    Shape shape;
    GRand *rand;
    char *dir;
    BlockBackend *blk;
    Model disk;
    Model snapshots[SNAP_MAX];
    char *names[SNAP_MAX];
    unsigned count, named;
    unsigned pattern;
} Rig;

static Model model_copy(const Model *m)
{
    Model copy = {.bytes = g_malloc0(SNAP_DISK_MAX), .size = m->size};
    memcpy(copy.bytes, m->bytes, m->size);
    return copy;
}

/* ---- the image ---- */

static coroutine_fn RUNS_IN_MAIN void snap_open(Rig *rig)
{
    static const char *const caches[] = {"", ",l2-cache-size=4k,refcount-cache-size=4k"};
    g_autofree char *text = g_strdup_printf(
        "qcow2,discard=unmap,file.driver=file,file.discard=unmap,file.cache.no-flush=on,"
        "file.filename=%s/t.qcow2%s",
        rig->dir, caches[g_rand_int_range(rig->rand, 0, 2)]);
    rig->blk = test_blk("d", text, true);
}

static void snap_pick_shape(Rig *rig)
{
    do {
        rig->shape = shape_pick(rig->rand);
        rig->shape.kib = MIN(rig->shape.kib, 3000u) / 4 * 4;
    } while (rig->shape.data_file);
}

static coroutine_fn RUNS_IN_MAIN void snap_create_image(Rig *rig)
{
    Model m = {0};
    snap_pick_shape(rig);
    shape_create(&rig->shape, rig->dir, rig->rand);
    shape_fill(&rig->shape, rig->dir, rig->rand);
    qcow2_shell(rig->dir, "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw");
    m.bytes = qcow2_file_bytes(rig->dir, "before.raw", &m.size);
    rig->disk = model_copy(&m);
    g_free(m.bytes);
    snap_open(rig);
}

/* ---- requests ---- */

static void snap_pick(Rig *rig, TestRequest *r)
{
    static const TestOp ops[] = {TEST_WRITE, TEST_WRITE, TEST_WRITE,
                                 TEST_WRITE, TEST_ZERO,  TEST_DISCARD};
    int sectors = (int)(rig->disk.size / SNAP_SECTOR);
    uint64_t length = (uint64_t)g_rand_int_range(rig->rand, 1, 300) * SNAP_SECTOR;
    *r = (TestRequest){.blk = rig->blk, .op = ops[g_rand_int_range(rig->rand, 0, 6)]};
    r->offset = (uint64_t)g_rand_int_range(rig->rand, 0, sectors) * SNAP_SECTOR;
    r->bytes = MIN(length, rig->disk.size - r->offset);
    r->flags = r->op == TEST_ZERO && g_rand_boolean(rig->rand) ? BLOCK_REQ_MAY_UNMAP : 0;
    if (r->op == TEST_WRITE && g_rand_int_range(rig->rand, 0, 4) == 0) {
        r->flags = BLOCK_REQ_COMPRESSED;
        shape_align_clusters(rig->shape.cluster_bits, rig->disk.size, &r->offset, &r->bytes);
    }
    r->buf = g_malloc0(r->bytes);
    if (r->flags == BLOCK_REQ_COMPRESSED) {
        shape_fill_soft(r->buf, r->bytes, ++rig->pattern);
    } else if (r->op == TEST_WRITE) {
        test_fill(r->buf, r->bytes, ++rig->pattern);
    }
}

static bool snap_overlaps(const TestRequest *list, unsigned count, const TestRequest *r)
{
    for (unsigned i = 0; i < count; i++) {
        if (list[i].offset < r->offset + r->bytes && r->offset < list[i].offset + list[i].bytes) {
            return true;
        }
    }
    return false;
}

/* Starts requests that do not overlap. Returns how many. */
static unsigned snap_start(Rig *rig, TestRequest *r, unsigned want)
{
    unsigned count = 0;
    for (; want > 0; want--) {
        snap_pick(rig, &r[count]);
        if (snap_overlaps(r, count, &r[count])) {
            g_free(r[count].buf);
        } else {
            test_start(&r[count++]);
        }
    }
    return count;
}

/* The bytes of a discard are what the disk has then. */
static coroutine_fn RUNS_IN_MAIN void snap_finish(Rig *rig, TestRequest *r, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) {
        if (r[i].op == TEST_DISCARD) {
            assert_int_equal(test_io(rig->blk, TEST_READ, r[i].offset, r[i].bytes, r[i].buf, 0), 0);
        }
        memcpy(rig->disk.bytes + r[i].offset, r[i].buf, r[i].bytes);
        g_free(r[i].buf);
    }
}

static coroutine_fn RUNS_IN_MAIN void snap_write(Rig *rig, unsigned want)
{
    TestRequest r[SNAP_BESIDE];
    snap_finish(rig, r, snap_start(rig, r, MIN(want, SNAP_BESIDE)));
}

/* ---- operations, with requests beside their walks ---- */

typedef struct Beside {
    Rig *rig;
    BlockSnapshotRun *run;
    TestEvent done;
} Beside;

static void snap_run_walk(void *opaque)
{
    Beside *b = opaque;
    enter_coroutine();
    enter_main();
    block_snapshot_co_run(b->run);
    test_event_set(&b->done);
}

/* Whether the operation may fail: a refcount has its maximum. */
static bool snap_may_fail(const Rig *rig, int ret)
{
    return ret == -EINVAL && rig->shape.refcount_bits <= 4;
}

/* False: it has failed as it may; nothing has changed. */
static coroutine_fn RUNS_IN_MAIN bool snap_operate(Rig *rig, const BlockSnapshotOp *op)
{
    GError *error = NULL;
    int ret;
    Beside b = {.rig = rig};
    b.run = block_node_co_snapshot_begin(blk_root(rig->blk), op, &ret, &error);
    if (b.run == NULL) {
        fail_msg("operation %d: %s", (int)op->kind, error->message);
    }
    co_start(test_main, snap_run_walk, &b);
    unsigned rounds = (unsigned)g_rand_int_range(rig->rand, 0, 4);
    for (unsigned i = 0; i < rounds; i++) {
        snap_write(rig, (unsigned)g_rand_int_range(rig->rand, 1, (int)SNAP_BESIDE + 1));
        if (g_rand_int_range(rig->rand, 0, 3) == 0) {
            co_drained_begin(&rig->blk, 1);
            co_drained_end(&rig->blk, 1);
        }
    }
    test_event_wait(&b.done);
    ret = block_snapshot_co_end(b.run, &error);
    if (ret < 0 && !snap_may_fail(rig, ret)) {
        fail_msg("operation %d: %s", (int)op->kind, error->message);
    }
    g_clear_error(&error);
    return ret == 0;
}

static coroutine_fn RUNS_IN_MAIN void snap_create(Rig *rig)
{
    if (rig->count == SNAP_MAX) {
        return;
    }
    char *name = g_strdup_printf("snap%u", rig->named++);
    BlockSnapshotInfo info = {.name = name, .date_s = 1700000000, .icount = UINT64_MAX};
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_CREATE, .info = &info};
    Model before = model_copy(&rig->disk); /* requests beside it change the disk */
    if (snap_operate(rig, &op)) {
        rig->names[rig->count] = name;
        rig->snapshots[rig->count++] = before;
    } else {
        g_free(before.bytes);
        g_free(name);
    }
}

static coroutine_fn RUNS_IN_MAIN void snap_delete(Rig *rig)
{
    if (rig->count == 0) {
        return;
    }
    unsigned i = (unsigned)g_rand_int_range(rig->rand, 0, (int)rig->count);
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_DELETE, .name = rig->names[i]};
    snap_operate(rig, &op);
    g_free(rig->snapshots[i].bytes);
    g_free(rig->names[i]);
    rig->count--;
    rig->snapshots[i] = rig->snapshots[rig->count];
    rig->names[i] = rig->names[rig->count];
}

static coroutine_fn RUNS_IN_MAIN void snap_apply(Rig *rig)
{
    g_autoptr(GError) error = NULL;
    if (rig->count == 0) {
        return;
    }
    unsigned i = (unsigned)g_rand_int_range(rig->rand, 0, (int)rig->count);
    int ret = block_node_co_snapshot_apply(blk_root(rig->blk), rig->names[i], &error);
    if (ret < 0 && snap_may_fail(rig, ret)) {
        return;
    }
    if (ret < 0) {
        fail_msg("apply %s: %s", rig->names[i], error->message);
    }
    g_free(rig->disk.bytes);
    rig->disk = model_copy(&rig->snapshots[i]);
    assert_int_equal(blk_size(rig->blk), rig->disk.size);
}

static coroutine_fn RUNS_IN_MAIN void snap_resize(Rig *rig)
{
    GError *error = NULL;
    if (rig->count > 0 && strcmp(rig->shape.compat, "1.1") != 0) {
        return; /* snapshots of version 2 may not have a size */
    }
    size_t size = (size_t)g_rand_int_range(rig->rand, 100, 8000) * SNAP_SECTOR;
    assert_int_equal(blk_co_truncate(rig->blk, size, &error), 0);
    if (size < rig->disk.size) {
        memset(rig->disk.bytes + size, 0, rig->disk.size - size);
    }
    rig->disk.size = size;
}

static coroutine_fn RUNS_IN_MAIN void snap_step(Rig *rig)
{
    switch (g_rand_int_range(rig->rand, 0, 12)) {
    case 0:
    case 1:
        snap_create(rig);
        break;
    case 2:
        snap_apply(rig);
        break;
    case 3:
        snap_delete(rig);
        break;
    case 4:
        snap_resize(rig);
        break;
    case 5:
        blk_co_free(rig->blk);
        qcow2_shell(rig->dir, "qemu-img check -q -f qcow2 t.qcow2");
        snap_open(rig);
        break;
    case 6:
        assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
        break;
    default:
        snap_write(rig, (unsigned)g_rand_int_range(rig->rand, 1, 5));
    }
}

/* ---- what is left ---- */

static coroutine_fn RUNS_IN_MAIN void snap_check_snapshot(const Rig *rig, unsigned i)
{
    g_autofree char *path = g_strdup_printf("%s.raw", rig->names[i]);
    g_autofree char *out = g_build_filename(rig->dir, path, NULL);
    size_t length;
    qcow2_shell(rig->dir, "qemu-img snapshot -l t.qcow2 | grep -w %s", rig->names[i]);
    qcow2_shell(rig->dir, "qemu-img convert -f qcow2 -l %s -O raw t.qcow2 %s", rig->names[i], path);
    g_autofree uint8_t *raw = qcow2_file_bytes(rig->dir, path, &length);
    length = MIN(length, rig->snapshots[i].size); /* qemu-img's has the size of the disk */
    if (memcmp(raw, rig->snapshots[i].bytes, length) != 0) {
        fail_msg("qemu-img reads other bytes from snapshot %s", rig->names[i]);
    }
    unlink(out);
}

static coroutine_fn RUNS_IN_MAIN void snap_check(Rig *rig)
{
    qcow2_compare(rig->blk, rig->disk.bytes, rig->disk.size, 100000, "the disk");
    blk_co_free(rig->blk);
    qcow2_shell(rig->dir, "qemu-img check -f qcow2 t.qcow2");
    qcow2_shell(rig->dir, "qemu-img convert -f qcow2 -O raw t.qcow2 after.raw");
    size_t size;
    g_autofree uint8_t *raw = qcow2_file_bytes(rig->dir, "after.raw", &size);
    assert_int_equal(size, rig->disk.size);
    assert_memory_equal(raw, rig->disk.bytes, size);
    for (unsigned i = 0; i < rig->count; i++) {
        snap_check_snapshot(rig, i);
    }
}

static void snap_free(Rig *rig)
{
    for (unsigned i = 0; i < rig->count; i++) {
        g_free(rig->snapshots[i].bytes);
        g_free(rig->names[i]);
    }
    g_free(rig->disk.bytes);
    g_rand_free(rig->rand);
    g_free(rig);
}

BLOCK_TEST(each_snapshot_keeps_its_disk_whatever_is_done_to_the_image)
{
    const char *first = g_getenv("SKIFF_TEST_SEED");
    unsigned from = first != NULL ? (unsigned)atoi(first) : 1;
    unsigned rounds = first != NULL ? 1 : test_rounds(8, 16, 1000);
    char *dir = qcow2_dir_new();
    for (unsigned seed = from; seed < from + rounds; seed++) {
        Rig *rig = g_new0(Rig, 1);
        rig->rand = g_rand_new_with_seed(seed);
        rig->dir = dir;
        snap_create_image(rig);
        shape_print(&rig->shape, seed);
        for (unsigned i = 0; i < SNAP_STEPS; i++) {
            snap_step(rig);
        }
        snap_check(rig);
        snap_free(rig);
    }
    qcow2_dir_free(dir);
}

/* ---- the end of the process ---- */

BLOCK_TEST(a_process_that_ends_during_a_walk_leaves_a_sound_image)
{
    static const BlockSnapshotKind kinds[] = {BLOCK_SNAPSHOT_CREATE, BLOCK_SNAPSHOT_DELETE};
    char *dir = qcow2_dir_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        GError *error = NULL;
        int ret;
        Rig rig = {.dir = dir, .rand = g_rand_new_with_seed(i)};
        BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "two"};
        BlockSnapshotOp op = {.kind = kinds[i], .info = &info, .name = "one"};
        qcow2_shell(dir, "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o cluster_size=512 t.qcow2 "
                         "8M && qemu-io -c 'write -q -P 5 0 6M' t.qcow2 && "
                         "qemu-img snapshot -c one t.qcow2 && "
                         "qemu-io -c 'write -q -P 6 1M 4M' t.qcow2 && "
                         "qemu-img convert -O raw t.qcow2 before.raw");
        snap_open(&rig);
        Beside b = {.run = block_node_co_snapshot_begin(blk_root(rig.blk), &op, &ret, &error)};
        assert_non_null(b.run);
        co_start(test_main, snap_run_walk, &b);
        block_co_complete_all();
        test_event_wait(&b.done);
        assert_int_equal(block_snapshot_co_end(b.run, &error), -ECANCELED);
        g_clear_error(&error);
        blk_co_free(rig.blk);
        qcow2_shell(dir, "qemu-img check -f qcow2 t.qcow2 || [ $? = 3 ]");
        qcow2_shell(dir, "qemu-img compare -F raw t.qcow2 before.raw");
        qcow2_shell(dir, "! qemu-img snapshot -l t.qcow2 | grep %s", i == 0 ? "two" : "one");
        g_rand_free(rig.rand);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_snapshot_keeps_its_disk_whatever_is_done_to_the_image),
        cmocka_unit_test(a_process_that_ends_during_a_walk_leaves_a_sound_image),
    };
    return block_test_main(tests);
}
