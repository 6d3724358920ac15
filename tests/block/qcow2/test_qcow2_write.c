/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Generated sequences of requests to images of every shape. The disk is compared with a plain array
 * byte for byte, by skiff and by qemu-img, and qemu-img finds neither errors nor leaks.
 */
#include "tests/block/qcow2/qcow2_shape.h"
#include "tests/support/rounds.h"

#define WRITE_BATCH 12u /* requests at a time, which do not overlap */

typedef struct WriteRig {
    GRand *rand;
    char *dir;
    Shape shape;
    BlockBackend *blk;
    uint8_t *model;
    size_t size;
    size_t snapshot_size;
    unsigned pattern;
} WriteRig;

static coroutine_fn RUNS_IN_MAIN BlockNode *write_open_with(WriteRig *rig, const char *engine,
                                                            const char *caches, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("qcow2,discard=unmap,file.driver=file,file.discard=unmap,"
                        "file.filename=%s/t.qcow2%s%s",
                        rig->dir, engine, caches);
    return test_open(text, error);
}

/* Not every host has every engine, and O_DIRECT: then the default. */
static coroutine_fn RUNS_IN_MAIN void write_open(WriteRig *rig)
{
    static const char *const caches[] = {
        "", ",l2-cache-size=1k,l2-cache-entry-size=512,refcount-cache-size=4k",
        ",l2-cache-size=16k,l2-cache-entry-size=512"};
    static const char *const engines[] = {"", ",file.aio=io_uring",
                                          ",file.aio=io_uring,cache.direct=on,file.cache.direct=on",
                                          ",file.aio=native,cache.direct=on,file.cache.direct=on",
                                          ",cache.no-flush=on,file.cache.no-flush=on"};
    const char *cache = caches[g_rand_int_range(rig->rand, 0, G_N_ELEMENTS(caches))];
    const char *engine = engines[g_rand_int_range(rig->rand, 0, G_N_ELEMENTS(engines))];
    g_autoptr(GError) unavailable = NULL;
    GError *error = NULL;
    BlockNode *n = write_open_with(rig, engine, cache, &unavailable);
    if (n == NULL) {
        n = write_open_with(rig, "", cache, &error);
    }
    if (n == NULL || (rig->blk = blk_co_new("d", n, true, &error)) == NULL) {
        fail_msg("%s", error->message);
    }
    block_co_unref(n);
    assert_int_equal(blk_size(rig->blk), rig->size);
}

/* ---- requests ---- */

/* Offsets are unaligned, at a sector or at a cluster; lengths are from a few bytes on. */
static void write_pick_range(WriteRig *rig, TestRequest *r)
{
    static const unsigned bits[] = {0, 9, 12, 16};
    unsigned kind = (unsigned)g_rand_int_range(rig->rand, 0, 5);
    unsigned shift = kind == 4 ? rig->shape.cluster_bits : bits[kind];
    uint64_t units = (uint64_t)g_rand_int_range(rig->rand, 1, 40);
    uint64_t length = MIN(units << shift, (uint64_t)1 << 20);
    r->offset = (uint64_t)g_rand_int_range(rig->rand, 0, (gint32)rig->size) >> shift << shift;
    r->bytes = MIN(length, rig->size - r->offset);
}

static void write_pick(WriteRig *rig, TestRequest *r)
{
    unsigned kind = (unsigned)g_rand_int_range(rig->rand, 0, 10);
    *r = (TestRequest){.blk = rig->blk, .op = kind < 8 ? TEST_WRITE : TEST_READ};
    write_pick_range(rig, r);
    if (kind == 9) {
        r->op = g_rand_boolean(rig->rand) ? TEST_ZERO : TEST_DISCARD;
        r->flags = g_rand_boolean(rig->rand) && r->op == TEST_ZERO ? BLOCK_REQ_MAY_UNMAP : 0;
    }
    bool compressed = kind < 2 && !rig->shape.data_file;
    if (compressed) {
        shape_align_clusters(rig->shape.cluster_bits, rig->size, &r->offset, &r->bytes);
    }
    r->buf = g_malloc(r->bytes + 1);
    if (compressed) {
        r->flags = BLOCK_REQ_COMPRESSED;
        unsigned pattern = ++rig->pattern;
        (pattern % 5 == 0 ? test_fill : shape_fill_soft)(r->buf, r->bytes, pattern);
    } else if (r->op == TEST_WRITE) {
        r->flags = g_rand_int_range(rig->rand, 0, 20) == 0 ? BLOCK_REQ_FUA : 0;
        test_fill(r->buf, r->bytes, ++rig->pattern);
    }
}

static bool write_overlaps(const TestRequest *list, unsigned count, const TestRequest *r)
{
    for (unsigned i = 0; i < count; i++) {
        if (list[i].offset < r->offset + r->bytes && r->offset < list[i].offset + list[i].bytes) {
            return true;
        }
    }
    return false;
}

/* Whole clusters become zeroes, unless the image cannot say so. */
static void write_take_discard(WriteRig *rig, const TestRequest *r)
{
    uint64_t cluster = (uint64_t)1 << rig->shape.cluster_bits;
    uint64_t start = block_align_up(r->offset, cluster);
    uint64_t end = block_align_down(r->offset + r->bytes, cluster);
    bool ignored = rig->shape.backing && strcmp(rig->shape.compat, "0.10") == 0;
    if (start < end && !ignored) {
        memset(rig->model + start, 0, end - start);
    }
}

/* Compares what was read, takes over what was written. */
static void write_take(WriteRig *rig, const TestRequest *r)
{
    if (r->op == TEST_WRITE) {
        memcpy(rig->model + r->offset, r->buf, r->bytes);
    } else if (r->op == TEST_ZERO) {
        memset(rig->model + r->offset, 0, r->bytes);
    } else if (r->op == TEST_DISCARD) {
        write_take_discard(rig, r);
    } else if (memcmp(rig->model + r->offset, r->buf, r->bytes) != 0) {
        fail_msg("a read of %" PRIu64 " bytes at %" PRIu64 " gives other bytes than were written",
                 r->bytes, r->offset);
    }
}

static coroutine_fn RUNS_IN_MAIN void write_batch(WriteRig *rig)
{
    TestRequest r[WRITE_BATCH], flush = {.blk = rig->blk, .op = TEST_FLUSH};
    unsigned count = 0, want = (unsigned)g_rand_int_range(rig->rand, 1, WRITE_BATCH + 1);
    bool flushes = g_rand_int_range(rig->rand, 0, 4) == 0;
    while (want-- > 0) {
        write_pick(rig, &r[count]);
        if (write_overlaps(r, count, &r[count])) {
            g_free(r[count].buf);
        } else {
            test_start(&r[count++]);
        }
    }
    if (flushes) {
        test_start(&flush);
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
        write_take(rig, &r[i]);
        g_free(r[i].buf);
    }
    if (flushes) {
        assert_int_equal(test_finish(&flush), 0);
    }
}

/* ---- other sizes ---- */

static coroutine_fn RUNS_IN_MAIN void write_resize(WriteRig *rig, bool snapshot)
{
    GError *error = NULL;
    size_t size = (size_t)g_rand_int_range(rig->rand, 8, 14000) * 512;
    if (snapshot && strcmp(rig->shape.compat, "0.10") == 0) {
        assert_int_equal(blk_co_truncate(rig->blk, size, &error), -ENOTSUP);
        g_clear_error(&error);
        return;
    }
    if (blk_co_truncate(rig->blk, size, &error) != 0) {
        fail_msg("%s", error->message);
    }
    rig->model = g_realloc(rig->model, size);
    if (size > rig->size) {
        memset(rig->model + rig->size, 0, size - rig->size);
    }
    rig->size = size;
}

/* ---- a sequence ---- */

static void write_load_model(WriteRig *rig)
{
    qcow2_shell(rig->dir, "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw");
    rig->model = qcow2_file_bytes(rig->dir, "before.raw", &rig->size);
    rig->snapshot_size = rig->size;
}

static coroutine_fn RUNS_IN_MAIN void write_check(WriteRig *rig, bool snapshot)
{
    g_autofree char *model = g_build_filename(rig->dir, "model.raw", NULL);
    assert_true(g_file_set_contents(model, (char *)rig->model, (gssize)rig->size, NULL));
    qcow2_shell(rig->dir, "qemu-img check -f qcow2 t.qcow2 && "
                          "qemu-img compare -f raw -F qcow2 model.raw t.qcow2");
    if (snapshot) { /* qemu-img gives it the disk's size */
        qcow2_shell(rig->dir,
                    "qemu-img convert -l snapshot.name=one -O raw t.qcow2 snap.raw && "
                    "cmp -n %zu snap.raw before.raw",
                    MIN(rig->size, rig->snapshot_size));
    }
    if (rig->shape.data_raw) {
        qcow2_shell(rig->dir, "cmp -n %zu model.raw t.data", rig->size); /* QEMU makes it longer */
    }
}

static coroutine_fn RUNS_IN_MAIN void write_sequence(WriteRig *rig, unsigned seed)
{
    rig->shape = shape_pick(rig->rand);
    shape_print(&rig->shape, seed);
    shape_create(&rig->shape, rig->dir, rig->rand);
    shape_fill(&rig->shape, rig->dir, rig->rand);
    write_load_model(rig);
    bool snapshot =
        rig->shape.refcount_bits >= 8 && !rig->shape.data_file && g_rand_boolean(rig->rand);
    if (snapshot) {
        qcow2_shell(rig->dir, "qemu-img snapshot -c one t.qcow2");
    }
    write_open(rig);
    for (int i = g_rand_int_range(rig->rand, 4, 16); i > 0; i--) {
        write_batch(rig);
        if (g_rand_int_range(rig->rand, 0, 6) == 0) {
            write_resize(rig, snapshot);
        }
        if (g_rand_int_range(rig->rand, 0, 8) == 0) {
            blk_co_free(rig->blk);
            write_open(rig);
        }
    }
    qcow2_compare(rig->blk, rig->model, rig->size, 65536, "written disk");
    blk_co_free(rig->blk);
    write_check(rig, snapshot);
    g_free(rig->model);
}

BLOCK_TEST(generated_writes_to_images_of_every_shape_give_the_disk_of_a_plain_array)
{
    const char *first = g_getenv("SKIFF_TEST_SEED");
    unsigned from = first != NULL ? (unsigned)atoi(first) : 1;
    unsigned rounds = first != NULL ? 1 : test_rounds(5, 50, 2000);
    char *dir = qcow2_dir_new();
    for (unsigned seed = from; seed < from + rounds; seed++) {
        WriteRig rig = {.rand = g_rand_new_with_seed(seed), .dir = dir};
        write_sequence(&rig, seed);
        g_rand_free(rig.rand);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generated_writes_to_images_of_every_shape_give_the_disk_of_a_plain_array),
    };
    return block_test_main(tests);
}
