/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Generated sequences of writes, resizes, snapshots and changes of bitmaps on images of every shape,
 * beside a plain model with a byte for each bit. Whenever the image is closed, its bytes say what the
 * model says, and qemu-img finds no error in it. In between QEMU writes to it too, and changes bitmaps.
 * SKIFF_TEST_SEED=N repeats one.
 */
#include "tests/block/qcow2/qcow2_bitmap_test.h"
#include "tests/support/rounds.h"

#define MODEL_MAX ((uint64_t)3 << 20) /* bytes of the disk */
#define MODEL_SECTOR 512u
#define MODEL_NAMES 4u
#define MODEL_STEPS 60u

typedef struct ModelBitmap {
    bool exists, persistent, enabled;
    uint64_t granularity;
    uint8_t bits[MODEL_MAX / MODEL_SECTOR];
} ModelBitmap;

typedef struct Model {
    GRand *rand;
    char *dir;
    BlockBackend *blk;
    unsigned cluster;
    const char *options; /* of the image */
    uint64_t size;
    uint8_t *disk;
    ModelBitmap bitmaps[MODEL_NAMES];
    unsigned pattern, snapshots;
} Model;

static const char *const model_names[MODEL_NAMES] = {"a", "b", "the bitmap with the longest name",
                                                     "d"};

static const char *const model_shapes[] = {
    "cluster_size=512",
    "cluster_size=4096,refcount_bits=64",
    "cluster_size=64k",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=4096,lazy_refcounts=on",
    "cluster_size=2M,refcount_bits=4",
    "cluster_size=8k,data_file=t.data",
    "cluster_size=8k,data_file=t.data,data_file_raw=on",
    "cluster_size=1k,compression_type=zstd",
};

static uint64_t model_below(const Model *m, uint64_t n)
{
    return (uint64_t)g_rand_int_range(m->rand, 0, (gint32)MAX(n, 1));
}

/* ---- the model ---- */

static void model_dirty(Model *m, uint64_t offset, uint64_t bytes)
{
    for (unsigned i = 0; i < MODEL_NAMES; i++) {
        ModelBitmap *b = &m->bitmaps[i];
        if (b->exists && b->enabled) {
            uint64_t last = (offset + bytes - 1) / b->granularity;
            memset(b->bits + offset / b->granularity, 1, last + 1 - offset / b->granularity);
        }
    }
}

static void model_resize(Model *m, uint64_t size)
{
    for (unsigned i = 0; i < MODEL_NAMES; i++) {
        ModelBitmap *b = &m->bitmaps[i];
        for (uint64_t k = 0; b->exists && k < G_N_ELEMENTS(b->bits); k++) {
            b->bits[k] = k * b->granularity < size ? b->bits[k] : 0;
        }
    }
    if (size > m->size) {
        memset(m->disk + m->size, 0, size - m->size);
    }
    m->size = size;
}

static void model_merge(Model *m, ModelBitmap *to, const ModelBitmap *from)
{
    for (uint64_t at = 0; at < m->size; at += MODEL_SECTOR) {
        to->bits[at / to->granularity] |= from->bits[at / from->granularity];
    }
    /* a coarse source sets all that its bits stand for */
    for (uint64_t k = 0; k * from->granularity < m->size; k++) {
        uint64_t end = MIN((k + 1) * from->granularity, m->size);
        for (uint64_t at = k * from->granularity; from->bits[k] && at < end; at += MODEL_SECTOR) {
            to->bits[at / to->granularity] = 1;
        }
    }
}

/* ---- requests ---- */

static coroutine_fn RUNS_IN_MAIN void model_request(Model *m)
{
    uint64_t at = model_below(m, m->size / MODEL_SECTOR) * MODEL_SECTOR;
    uint64_t bytes = (model_below(m, 200) + 1) * MODEL_SECTOR;
    bytes = MIN(bytes, m->size - at);
    switch (model_below(m, 4)) {
    case 0:
        memset(m->disk + at, 0, bytes);
        assert_int_equal(test_io(m->blk, TEST_ZERO, at, bytes, NULL, 0), 0);
        break;
    case 1: /* of whole clusters; a smaller part is not discarded, and not dirty */
        at = block_align_down(at, m->cluster);
        bytes = MIN(block_align_up(bytes, m->cluster), block_align_down(m->size - at, m->cluster));
        if (bytes == 0 || strstr(m->options, "raw") != NULL) {
            return;
        }
        memset(m->disk + at, 0, bytes);
        assert_int_equal(test_io(m->blk, TEST_DISCARD, at, bytes, NULL, 0), 0);
        break;
    default:
        test_fill(m->disk + at, bytes, ++m->pattern);
        assert_int_equal(test_io(m->blk, TEST_WRITE, at, bytes, m->disk + at, 0), 0);
    }
    model_dirty(m, at, bytes);
}

static coroutine_fn RUNS_IN_MAIN void model_truncate(Model *m)
{
    uint64_t size = (model_below(m, MODEL_MAX / MODEL_SECTOR) + 1) * MODEL_SECTOR;
    assert_int_equal(blk_co_truncate(m->blk, size, NULL), 0);
    model_resize(m, size);
}

static coroutine_fn RUNS_IN_MAIN void model_snapshot(Model *m)
{
    g_autofree char *name = g_strdup_printf("s%u", m->snapshots);
    BlockSnapshotInfo info = {.name = name, .icount = UINT64_MAX};
    if (strstr(m->options, "data_file") != NULL) {
        return;
    }
    if (m->snapshots == 0) {
        assert_int_equal(block_node_co_snapshot_create(blk_root(m->blk), &info, NULL), 0);
        m->snapshots++;
    } else {
        assert_int_equal(block_node_co_snapshot_delete(blk_root(m->blk), NULL, "s0", NULL), 0);
        m->snapshots = 0;
    }
}

/* ---- bitmaps ---- */

static coroutine_fn RUNS_IN_MAIN void model_add(Model *m, unsigned index)
{
    ModelBitmap *b = &m->bitmaps[index];
    *b = (ModelBitmap){.exists = true,
                       .persistent = model_below(m, 4) > 0,
                       .enabled = model_below(m, 4) > 0,
                       .granularity = (uint64_t)512 << model_below(m, 10)};
    unsigned flags =
        (b->persistent ? BLOCK_BITMAP_PERSISTENT : 0) | (b->enabled ? 0 : BLOCK_BITMAP_DISABLED);
    assert_true(block_dirty_bitmap_co_add(blk_root(m->blk), model_names[index],
                                          (uint32_t)b->granularity, flags, NULL));
}

static coroutine_fn RUNS_IN_MAIN void model_bitmap(Model *m)
{
    unsigned index = (unsigned)model_below(m, MODEL_NAMES), other;
    BlockNode *n = blk_root(m->blk);
    ModelBitmap *b = &m->bitmaps[index];
    const char *name = model_names[index];
    if (!b->exists) {
        model_add(m, index);
        return;
    }
    switch (model_below(m, 6)) {
    case 0:
        assert_true(block_dirty_bitmap_co_remove(n, name, NULL));
        b->exists = false;
        break;
    case 1:
        assert_true(block_dirty_bitmap_co_clear(n, name, NULL));
        memset(b->bits, 0, sizeof(b->bits));
        break;
    case 2:
        b->enabled = !b->enabled;
        assert_true(block_dirty_bitmap_co_set_enabled(n, name, b->enabled, NULL));
        break;
    default:
        other = (unsigned)model_below(m, MODEL_NAMES);
        BlockDirtyBitmapRef to = {n, name}, from = {n, model_names[other]};
        assert_int_equal(block_dirty_bitmap_co_merge(to, &from, 1, NULL), m->bitmaps[other].exists);
        if (m->bitmaps[other].exists) {
            model_merge(m, b, &m->bitmaps[other]);
        }
    }
}

/* ---- the image ---- */

static void model_check(Model *m)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(m->dir, "t.qcow2", &size);
    for (unsigned i = 0; i < MODEL_NAMES; i++) {
        ModelBitmap *b = &m->bitmaps[i];
        DiskBitmap d = disk_bitmap(image, size, model_names[i]);
        b->exists = b->exists && b->persistent;
        if (d.listed != b->exists) {
            fail_msg("bitmap '%s' is %s", model_names[i], d.listed ? "listed" : "missing");
        }
        if (b->exists && (d.in_use || d.enabled != b->enabled || d.granularity != b->granularity)) {
            fail_msg("bitmap '%s' has other properties", model_names[i]);
        }
        for (uint64_t k = 0; b->exists && k < MAX(d.count, G_N_ELEMENTS(b->bits)); k++) {
            unsigned expected = k < G_N_ELEMENTS(b->bits) ? b->bits[k] : 0;
            if ((k < d.count ? d.bits[k] : 0) != expected) {
                fail_msg("bit %" PRIu64 " of bitmap '%s' is not %u", k, model_names[i], expected);
            }
        }
        disk_bitmap_clear(&d);
    }
}

/* QEMU writes to the image, and changes a bitmap. */
static void model_qemu(Model *m)
{
    uint64_t at = model_below(m, m->size / MODEL_SECTOR) * MODEL_SECTOR;
    uint64_t bytes = (model_below(m, 100) + 1) * MODEL_SECTOR;
    unsigned index = (unsigned)model_below(m, MODEL_NAMES);
    ModelBitmap *b = &m->bitmaps[index];
    bytes = MIN(bytes, m->size - at);
    memset(m->disk + at, 0x77, bytes);
    qcow2_shell(m->dir, "qemu-io -f qcow2 -c 'write -q -P 0x77 %" PRIu64 " %" PRIu64 "' t.qcow2",
                at, bytes);
    model_dirty(m, at, bytes);
    if (!b->exists) {
        qcow2_shell(m->dir, "qemu-img bitmap --add -g 4096 t.qcow2 '%s'", model_names[index]);
        *b =
            (ModelBitmap){.exists = true, .persistent = true, .enabled = true, .granularity = 4096};
    } else if (model_below(m, 2) == 0) {
        qcow2_shell(m->dir, "qemu-img bitmap --remove t.qcow2 '%s'", model_names[index]);
        b->exists = false;
    } else {
        qcow2_shell(m->dir, "qemu-img bitmap --%s t.qcow2 '%s'", b->enabled ? "disable" : "enable",
                    model_names[index]);
        b->enabled = !b->enabled;
    }
    model_check(m);
}

static coroutine_fn RUNS_IN_MAIN void model_open(Model *m)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,discard=unmap,file.driver=file,file.filename=%s/t.qcow2%s%s%s", m->dir,
        strstr(m->options, "data_file") != NULL ? ",data-file.driver=file,data-file.filename=" : "",
        strstr(m->options, "data_file") != NULL ? m->dir : "",
        strstr(m->options, "data_file") != NULL ? "/t.data" : "");
    m->blk = test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN void model_close(Model *m)
{
    g_autofree char *raw = g_build_filename(m->dir, "model.raw", NULL);
    blk_co_free(m->blk);
    model_check(m);
    assert_true(g_file_set_contents(raw, (char *)m->disk, (gssize)m->size, NULL));
    qcow2_shell(m->dir, "qemu-img check -q t.qcow2 && "
                        "qemu-img compare -q -f raw -F qcow2 model.raw t.qcow2");
    if (model_below(m, 3) == 0) {
        model_qemu(m);
    }
    model_open(m);
}

static coroutine_fn RUNS_IN_MAIN void model_step(Model *m)
{
    switch (model_below(m, 24)) {
    case 0:
        model_truncate(m);
        break;
    case 1:
        model_snapshot(m);
        break;
    case 2:
        assert_int_equal(block_node_co_complete(blk_root(m->blk)), 0);
        break;
    case 3:
    case 4:
        model_close(m);
        break;
    case 5:
        assert_int_equal(test_io(m->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
        break;
    case 6 ... 13:
        model_bitmap(m);
        break;
    default:
        model_request(m);
    }
}

static coroutine_fn RUNS_IN_MAIN void model_run(unsigned seed, char *dir)
{
    Model *m = g_new0(Model, 1);
    m->rand = g_rand_new_with_seed(seed);
    m->options = model_shapes[seed % G_N_ELEMENTS(model_shapes)];
    m->dir = dir;
    m->size = (model_below(m, MODEL_MAX / MODEL_SECTOR) + 1) * MODEL_SECTOR;
    m->disk = g_malloc0(MODEL_MAX);
    m->cluster = (unsigned)strtoul(m->options + strlen("cluster_size="), NULL, 10);
    m->cluster *= m->cluster < 512 ? (m->cluster == 2 ? 1u << 20 : 1u << 10) : 1;
    printf("# seed %u: %s, %" PRIu64 " bytes\n", seed, m->options, m->size);
    g_autofree char *options = g_strdup(m->options);
    char *data = strstr(options, "t.data");
    g_autofree char *all =
        data != NULL ? g_strdup_printf("%.*s%s/%s", (int)(data - options), options, dir, data)
                     : g_strdup(options);
    qcow2_shell(dir, "rm -f t.* && qemu-img create -q -f qcow2 -o %s t.qcow2 %" PRIu64, all,
                m->size);
    model_open(m);
    for (unsigned i = 0; i < MODEL_STEPS; i++) {
        model_step(m);
    }
    model_close(m);
    blk_co_free(m->blk);
    g_rand_free(m->rand);
    g_free(m->disk);
    g_free(m);
}

BLOCK_TEST(images_have_the_bitmaps_of_the_model)
{
    const char *first = g_getenv("SKIFF_TEST_SEED");
    unsigned from = first != NULL ? (unsigned)atoi(first) : 1;
    unsigned rounds = first != NULL ? 1 : test_rounds(9, 9, 500);
    char *dir = qcow2_dir_new();
    for (unsigned seed = from; seed < from + rounds; seed++) {
        model_run(seed, dir);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_have_the_bitmaps_of_the_model),
    };
    return block_test_main(tests);
}
