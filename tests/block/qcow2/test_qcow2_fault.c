/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Errors at the Nth operation below the image, for each N. A request that fails is repeated, as a
 * guest does after `cont`; then the disk has all that was written, and the image no errors except
 * leaks.
 */
#include "tests/block/qcow2/qcow2_faulty.h"
#include "tests/block/qcow2/qcow2_shape.h"
#include "tests/support/rounds.h"

#define FAULT_FILE ((uint64_t)8 << 20)
#define FAULT_DISK ((size_t)1 << 20)
#define FAULT_BATCHES 8u
#define FAULT_BATCH 3u
#define FAULT_TRIES 8u

typedef struct FaultRig {
    GRand *rand;
    char *dir;
    const char *options; /* of qemu-img create */
    unsigned cluster_bits;
    uint8_t *model;
    Qcow2Faulty file;
    BlockBackend *blk;
    unsigned hits;
} FaultRig;

static const struct {
    const char *options;
    unsigned cluster_bits;
} fault_shapes[] = {
    {"cluster_size=512,refcount_bits=64", 9},
    {"cluster_size=4096,backing_file=base,backing_fmt=raw", 12},
    {"cluster_size=16k,extended_l2=on,backing_file=base,backing_fmt=raw", 14},
    {"cluster_size=64k,lazy_refcounts=on", 16},
};

/* ---- the image ---- */

static void fault_create(FaultRig *rig)
{
    size_t size;
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f raw base %zu && "
                "qemu-io -f raw -c 'write -q -P 201 5k 500k' base && "
                "qemu-img create -q -f qcow2 -o %s t.qcow2 %zu && "
                "qemu-io -f qcow2 -c 'write -q -P 3 10k 50k' -c 'write -q -c -P 4 64k 64k' t.qcow2 "
                "&& qemu-img snapshot -c one t.qcow2 && "
                "qemu-io -f qcow2 -c 'write -q -P 7 20k 5k' t.qcow2 && "
                "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw",
                FAULT_DISK, rig->options, FAULT_DISK);
    faulty_load(&rig->file, rig->dir, "t.qcow2", FAULT_FILE);
    rig->model = qcow2_file_bytes(rig->dir, "before.raw", &size);
    assert_int_equal(size, FAULT_DISK);
}

static coroutine_fn RUNS_IN_MAIN void fault_open(FaultRig *rig)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,discard=unmap,l2-cache-size=1k,l2-cache-entry-size=512,refcount-cache-size=4k,"
        "file=f%s%s%s",
        strstr(rig->options, "backing") != NULL
            ? ",backing.driver=raw,backing.file.driver=file,backing.file.filename="
            : "",
        strstr(rig->options, "backing") != NULL ? rig->dir : "",
        strstr(rig->options, "backing") != NULL ? "/base" : "");
    faulty_add(&rig->file);
    rig->blk = test_blk("d", text, true);
}

/* ---- requests ---- */

static void fault_pick(FaultRig *rig, TestRequest *r)
{
    static const TestOp ops[] = {TEST_WRITE, TEST_WRITE, TEST_WRITE, TEST_ZERO, TEST_READ};
    *r = (TestRequest){.blk = rig->blk, .op = ops[g_rand_int_range(rig->rand, 0, 5)]};
    r->offset = (uint64_t)g_rand_int_range(rig->rand, 0, FAULT_DISK / 512) * 512;
    uint64_t length = (uint64_t)g_rand_int_range(rig->rand, 1, 100) * 512;
    r->bytes = MIN(length, FAULT_DISK - r->offset);
    r->flags = r->op == TEST_ZERO && g_rand_boolean(rig->rand) ? BLOCK_REQ_MAY_UNMAP : 0;
    bool compressed = r->op == TEST_WRITE && g_rand_int_range(rig->rand, 0, 3) == 0;
    if (compressed) {
        r->flags = BLOCK_REQ_COMPRESSED;
        shape_align_clusters(rig->cluster_bits, FAULT_DISK, &r->offset, &r->bytes);
    }
    r->buf = g_malloc0(r->bytes);
    if (compressed) {
        shape_fill_soft(r->buf, r->bytes, g_rand_int(rig->rand));
    } else if (r->op == TEST_WRITE) {
        test_fill(r->buf, r->bytes, g_rand_int(rig->rand));
    }
}

/* Repeats a request that has failed until it succeeds. */
static coroutine_fn RUNS_IN_MAIN void fault_repeat(FaultRig *rig, TestRequest *r)
{
    int ret = test_finish(r);
    for (unsigned tries = 0; ret != 0; tries++) {
        assert_int_equal(ret, -(int)rig->file.hit.error);
        assert_true(tries < FAULT_TRIES);
        ret = test_io(r->blk, r->op, r->offset, r->bytes, r->buf, r->flags);
    }
    if (r->op == TEST_READ) {
        assert_memory_equal(r->buf, rig->model + r->offset, r->bytes);
    } else if (r->op != TEST_FLUSH) {
        memcpy(rig->model + r->offset, r->buf, r->bytes);
    }
}

static coroutine_fn RUNS_IN_MAIN void fault_batch(FaultRig *rig)
{
    TestRequest r[FAULT_BATCH], flush = {.blk = rig->blk, .op = TEST_FLUSH};
    unsigned count = 0;
    for (unsigned i = 0; i < FAULT_BATCH; i++) {
        bool meets = false;
        fault_pick(rig, &r[count]);
        for (unsigned j = 0; j < count; j++) {
            meets = meets || (r[j].offset < r[count].offset + r[count].bytes &&
                              r[count].offset < r[j].offset + r[j].bytes);
        }
        if (meets) {
            g_free(r[count].buf);
        } else {
            test_start(&r[count++]);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        fault_repeat(rig, &r[i]);
        g_free(r[i].buf);
    }
    if (g_rand_boolean(rig->rand)) {
        test_start(&flush);
        fault_repeat(rig, &flush);
    }
}

/* Fails the operations from number @after on, @count of them. Returns whether one was hit. */
static coroutine_fn RUNS_IN_MAIN bool fault_run(FaultRig *rig, unsigned seed, BlockFaultOp op,
                                                unsigned after, unsigned count, int error)
{
    TestRequest flush = {.blk = rig->blk, .op = TEST_FLUSH};
    rig->rand = g_rand_new_with_seed(seed);
    fault_create(rig);
    fault_open(rig);
    faulty_set(
        &rig->file,
        (BlockFault){.op = (int)op, .after = after, .count = count, .error = (uint32_t)error});
    for (unsigned i = 0; i < FAULT_BATCHES; i++) {
        fault_batch(rig);
    }
    flush = (TestRequest){.blk = rig->blk, .op = TEST_FLUSH};
    test_start(&flush);
    fault_repeat(rig, &flush);
    unsigned hits = block_fault_hits(rig->file.fault);
    faulty_set(&rig->file, (BlockFault){0});
    qcow2_compare(rig->blk, rig->model, FAULT_DISK, 65536, "the disk after the errors");
    blk_co_free(rig->blk);
    faulty_store(&rig->file, rig->dir, "t.qcow2");
    faulty_del();
    g_autofree char *model = g_build_filename(rig->dir, "model.raw", NULL);
    assert_true(g_file_set_contents(model, (char *)rig->model, FAULT_DISK, NULL));
    qcow2_shell(rig->dir, "{ qemu-img check -f qcow2 t.qcow2 || [ $? = 3 ]; } && "
                          "qemu-img compare -f raw -F qcow2 model.raw t.qcow2 && "
                          "qemu-img convert -l snapshot.name=one -O raw t.qcow2 snap.raw");
    faulty_free(&rig->file);
    g_free(rig->model);
    g_rand_free(rig->rand);
    return hits > 0;
}

static coroutine_fn RUNS_IN_MAIN void fault_each(BlockFaultOp op, int error)
{
    char *dir = qcow2_dir_new();
    unsigned stride = test_rounds(97, 23, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_shapes); i++) {
        FaultRig rig = {.dir = dir,
                        .options = fault_shapes[i].options,
                        .cluster_bits = fault_shapes[i].cluster_bits};
        unsigned after = 0;
        while (fault_run(&rig, i + 1, op, after, after % 3 + 1, error)) {
            after += stride;
        }
        printf("# %s: errors up to operation %u\n", rig.options, after);
        assert_true(after > 0);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_write_that_fails_anywhere_below_loses_nothing)
{
    fault_each(BLOCK_FAULT_WRITE, ENOSPC);
}

BLOCK_TEST(a_read_that_fails_anywhere_below_loses_nothing)
{
    fault_each(BLOCK_FAULT_READ, EIO);
}

BLOCK_TEST(a_flush_that_fails_is_repeated_and_loses_nothing)
{
    fault_each(BLOCK_FAULT_FLUSH, EIO);
}

BLOCK_TEST(zeroes_refused_by_a_raw_data_file_are_written_when_repeated)
{
    FaultRig rig = {.dir = qcow2_dir_new()};
    qcow2_shell(rig.dir, "qemu-img create -q -f qcow2 -o data_file=t.data,data_file_raw=on "
                         "t.qcow2 1M && qemu-io -c 'write -q -P 5 0 128k' t.qcow2");
    g_autofree char *data = g_strdup_printf(
        "fault,node-name=f,discard=unmap,file.driver=file,file.filename=%s/t.data", rig.dir);
    g_autofree char *text = g_strdup_printf(
        "qcow2,discard=unmap,data-file=f,file.driver=file,file.filename=%s/t.qcow2", rig.dir);
    rig.file.fault = test_node_add(data);
    rig.blk = test_blk("d", text, true);
    faulty_set(&rig.file, (BlockFault){.op = BLOCK_FAULT_WRITE_ZEROES, .count = 1, .error = EIO});
    assert_int_equal(test_io(rig.blk, TEST_ZERO, 0, 65536, NULL, 0), -EIO);
    assert_int_equal(test_io(rig.blk, TEST_ZERO, 0, 65536, NULL, 0), 0);
    blk_co_free(rig.blk);
    test_node_del("f");
    qcow2_shell(rig.dir, "cmp -n 65536 t.data /dev/zero");
    qcow2_dir_free(rig.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_fails_anywhere_below_loses_nothing),
        cmocka_unit_test(a_read_that_fails_anywhere_below_loses_nothing),
        cmocka_unit_test(a_flush_that_fails_is_repeated_and_loses_nothing),
        cmocka_unit_test(zeroes_refused_by_a_raw_data_file_are_written_when_repeated),
    };
    return block_test_main(tests);
}
