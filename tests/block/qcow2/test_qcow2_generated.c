/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Generated sequences on images of every shape, through each engine and cache mode: requests at the
 * same time, snapshots that are created, applied and deleted beside them, bitmaps, other sizes, and
 * reopens. The disk, each snapshot and each bitmap have a plain model. After each sequence skiff and
 * qemu-img read the same bytes, and qemu-img check, compare and info agree with the model.
 */
#include "block/core/preallocate.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"
#include "tests/block/qcow2/qcow2_model.h"
#include "tests/support/rounds.h"

#define GEN_SNAPSHOTS 3u

typedef struct GenSnapshot {
    char *name;
    uint8_t *bytes;
    size_t size;
} GenSnapshot;

typedef struct Gen {
    Shape shape;
    Model disk;
    GRand *rand;
    char *dir;
    BlockBackend *blk;
    GenSnapshot snapshots[GEN_SNAPSHOTS];
    unsigned count, named;
} Gen;

static bool gen_is_v2(const Gen *g)
{
    return strcmp(g->shape.compat, "0.10") == 0;
}

/* ---- the image ---- */

static coroutine_fn RUNS_IN_MAIN BlockNode *gen_open_with(Gen *g, const char *engine,
                                                          const char *caches, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("qcow2,discard=unmap,file.driver=file,file.discard=unmap,"
                        "file.filename=%s/t.qcow2%s%s",
                        g->dir, engine, caches);
    return test_open(text, error);
}

/* Not every host has every engine, and O_DIRECT: then the default. */
static coroutine_fn RUNS_IN_MAIN void gen_open(Gen *g)
{
    static const char *const caches[] = {
        "", ",l2-cache-size=1k,l2-cache-entry-size=512,refcount-cache-size=4k",
        ",l2-cache-size=16k,l2-cache-entry-size=512"};
    static const char *const engines[] = {"", ",file.aio=io_uring",
                                          ",file.aio=io_uring,cache.direct=on,file.cache.direct=on",
                                          ",file.aio=native,cache.direct=on,file.cache.direct=on",
                                          ",cache.no-flush=on,file.cache.no-flush=on"};
    const char *cache = caches[g_rand_int_range(g->rand, 0, G_N_ELEMENTS(caches))];
    const char *engine = engines[g_rand_int_range(g->rand, 0, G_N_ELEMENTS(engines))];
    g_autoptr(GError) unavailable = NULL;
    GError *error = NULL;
    BlockNode *n = gen_open_with(g, engine, cache, &unavailable);
    if (n == NULL) {
        n = gen_open_with(g, "", cache, &error);
    }
    if (n == NULL || (g->blk = blk_co_new("d", n, true, &error)) == NULL) {
        fail_msg("%s", error->message);
    }
    block_co_unref(n);
    assert_int_equal(blk_size(g->blk), g->disk.size);
}

static coroutine_fn RUNS_IN_MAIN void gen_begin(Gen *g, unsigned seed)
{
    size_t size;
    g->rand = g_rand_new_with_seed(seed);
    g->shape = shape_pick(g->rand);
    shape_print(&g->shape, seed);
    shape_create(&g->shape, g->dir, g->rand);
    shape_fill(&g->shape, g->dir, g->rand);
    qcow2_shell(g->dir, "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw");
    g_autofree uint8_t *before = qcow2_file_bytes(g->dir, "before.raw", &size);
    g->disk =
        (Model){.shape = &g->shape, .rand = g->rand, .bytes = g_malloc0(MODEL_MAX), .size = size};
    memcpy(g->disk.bytes, before, size);
    gen_open(g);
}

/* ---- operations on snapshots, with requests beside them ---- */

typedef struct GenWalk {
    BlockSnapshotRun *run;
    TestEvent done;
} GenWalk;

static void gen_walk(void *opaque)
{
    GenWalk *w = opaque;
    enter_coroutine();
    enter_main();
    block_snapshot_co_run(w->run);
    test_event_set(&w->done);
}

/* Whether the operation may fail: a refcount has its maximum. */
static bool gen_may_fail(const Gen *g, int ret)
{
    return ret == -EINVAL && g->shape.refcount_bits <= 4;
}

/* False: it has failed as it may; nothing has changed. */
static coroutine_fn RUNS_IN_MAIN bool gen_operate(Gen *g, const BlockSnapshotOp *op)
{
    g_autoptr(GError) error = NULL;
    int ret;
    GenWalk w = {.run = block_node_co_snapshot_begin(blk_root(g->blk), op, &ret, &error)};
    if (w.run != NULL) {
        co_start(test_main, gen_walk, &w);
        for (int i = g_rand_int_range(g->rand, 0, 4); i > 0; i--) {
            model_batch(&g->disk, g->blk);
            if (g_rand_int_range(g->rand, 0, 3) == 0) {
                co_drained_begin(&g->blk, 1);
                co_drained_end(&g->blk, 1);
            }
        }
        test_event_wait(&w.done);
        ret = block_snapshot_co_end(w.run, &error);
    }
    if (ret < 0 && !gen_may_fail(g, ret)) {
        fail_msg("operation %d: %s", (int)op->kind, error->message);
    }
    return ret == 0;
}

static GenSnapshot gen_copy(Gen *g)
{
    GenSnapshot s = {.name = g_strdup_printf("snap%u", g->named++), .size = g->disk.size};
    s.bytes = g_memdup2(g->disk.bytes, s.size);
    return s;
}

static void gen_clear(GenSnapshot *s)
{
    g_free(s->name);
    g_free(s->bytes);
    *s = (GenSnapshot){0};
}

static coroutine_fn RUNS_IN_MAIN void gen_create(Gen *g)
{
    if (g->count == GEN_SNAPSHOTS || g->shape.data_file) {
        return;
    }
    GenSnapshot s = gen_copy(g); /* requests beside it change the disk */
    BlockSnapshotInfo info = {.name = s.name, .date_s = 1700000000, .icount = UINT64_MAX};
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_CREATE, .info = &info};
    if (gen_operate(g, &op)) {
        g->snapshots[g->count++] = s;
    } else {
        gen_clear(&s);
    }
}

static coroutine_fn RUNS_IN_MAIN void gen_delete(Gen *g)
{
    if (g->count == 0) {
        return;
    }
    unsigned i = (unsigned)g_rand_int_range(g->rand, 0, (int)g->count);
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_DELETE, .name = g->snapshots[i].name};
    assert_true(gen_operate(g, &op));
    gen_clear(&g->snapshots[i]);
    g->snapshots[i] = g->snapshots[--g->count];
}

static bool gen_has_bitmaps(const Gen *g)
{
    return g->disk.bitmaps[0].name != NULL || g->disk.bitmaps[1].name != NULL;
}

static coroutine_fn RUNS_IN_MAIN void gen_apply(Gen *g)
{
    g_autoptr(GError) error = NULL;
    if (g->count == 0) {
        return;
    }
    const GenSnapshot *s = &g->snapshots[g_rand_int_range(g->rand, 0, (int)g->count)];
    int ret = block_node_co_snapshot_apply(blk_root(g->blk), s->name, &error);
    if (gen_has_bitmaps(g)) {
        assert_int_equal(ret, -EBUSY);
        return;
    }
    if (ret < 0 && gen_may_fail(g, ret)) {
        return;
    }
    if (ret < 0) {
        fail_msg("apply %s: %s", s->name, error->message);
    }
    memset(g->disk.bytes, 0, MODEL_MAX);
    memcpy(g->disk.bytes, s->bytes, s->size);
    g->disk.size = s->size;
    assert_int_equal(blk_size(g->blk), s->size);
}

/* ---- bitmaps ---- */

static coroutine_fn RUNS_IN_MAIN void gen_add_bitmap(Gen *g)
{
    GError *error = NULL;
    unsigned i = (unsigned)g_rand_int_range(g->rand, 0, MODEL_BITMAPS);
    ModelBitmap *b = &g->disk.bitmaps[i];
    uint32_t granularity = 1u << g_rand_int_range(g->rand, 9, 18);
    if (b->name != NULL || gen_is_v2(g)) {
        return;
    }
    char *name = g_strdup_printf("bitmap%u", g->named++);
    if (!block_dirty_bitmap_co_add(blk_root(g->blk), name, granularity, BLOCK_BITMAP_PERSISTENT,
                                   &error)) {
        if (g->shape.cluster_bits > 9) { /* the header has no room */
            fail_msg("%s", error->message);
        }
        g_error_free(error);
        g_free(name);
        return;
    }
    *b = (ModelBitmap){.name = name, .granularity = granularity, .dirty = g_malloc0(MODEL_MAX)};
}

static coroutine_fn RUNS_IN_MAIN void gen_remove_bitmap(Gen *g)
{
    GError *error = NULL;
    ModelBitmap *b = &g->disk.bitmaps[g_rand_int_range(g->rand, 0, MODEL_BITMAPS)];
    if (b->name == NULL) {
        return;
    }
    if (!block_dirty_bitmap_co_remove(blk_root(g->blk), b->name, &error)) {
        fail_msg("%s", error->message);
    }
    g_free(b->name);
    g_free(b->dirty);
    *b = (ModelBitmap){0};
}

/* ---- the other operations ---- */

static coroutine_fn RUNS_IN_MAIN void gen_requests(Gen *g)
{
    model_batch(&g->disk, g->blk);
}

typedef struct GenPreallocate {
    BlockNode *node;
    uint64_t offset, bytes;
    BlockPreallocation mode;
    int ret;
} GenPreallocate;

static void gen_preallocate_at_home(void *opaque)
{
    GenPreallocate *p = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    p->ret = block_node_co_preallocate(p->node, p->offset, p->bytes, p->mode);
}

/* Often, allocates what the disk got from @old on. It may count as changed. */
static coroutine_fn RUNS_IN_MAIN void gen_preallocate(Gen *g, size_t old)
{
    GenPreallocate p = {.node = blk_root(g->blk), .offset = old, .bytes = g->disk.size - old};
    p.mode = (BlockPreallocation)g_rand_int_range(g->rand, BLOCK_PREALLOCATION_OFF,
                                                  BLOCK_PREALLOCATION_FULL + 1);
    test_in_home(gen_preallocate_at_home, &p);
    assert_int_equal(p.ret, 0);
    model_note(&g->disk, old, p.bytes, MODEL_MAY);
}

static coroutine_fn RUNS_IN_MAIN void gen_resize(Gen *g)
{
    GError *error = NULL;
    size_t size = (size_t)g_rand_int_range(g->rand, 8, 14000) * 512;
    int ret = blk_co_truncate(g->blk, size, &error);
    if (g->count > 0 && gen_is_v2(g)) {
        assert_int_equal(ret, -ENOTSUP); /* such snapshots have no size */
        g_clear_error(&error);
        return;
    }
    if (ret != 0) {
        fail_msg("%s", error->message);
    }
    size_t old = g->disk.size;
    model_resize(&g->disk, size);
    if (size > old) {
        gen_preallocate(g, old);
    }
}

static coroutine_fn RUNS_IN_MAIN void gen_reopen(Gen *g)
{
    blk_co_free(g->blk);
    qcow2_shell(g->dir, "qemu-img check -q -f qcow2 t.qcow2");
    gen_open(g);
}

static coroutine_fn RUNS_IN_MAIN void gen_flush(Gen *g)
{
    assert_int_equal(test_io(g->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
}

typedef struct GenOperation {
    void (*run)(Gen *g) coroutine_fn RUNS_IN_MAIN;
    unsigned weight;
} GenOperation;

static const GenOperation gen_operations[] = {
    {gen_requests, 12},  {gen_create, 3},        {gen_apply, 2},
    {gen_delete, 2},     {gen_resize, 2},        {gen_reopen, 2},
    {gen_add_bitmap, 2}, {gen_remove_bitmap, 1}, {gen_flush, 1},
};

static coroutine_fn RUNS_IN_MAIN void gen_step(Gen *g)
{
    unsigned sum = 0, i = 0;
    for (unsigned j = 0; j < G_N_ELEMENTS(gen_operations); j++) {
        sum += gen_operations[j].weight;
    }
    unsigned at = (unsigned)g_rand_int_range(g->rand, 0, (int)sum);
    while (at >= gen_operations[i].weight) {
        at -= gen_operations[i++].weight;
    }
    gen_operations[i].run(g);
}

/* ---- what is left ---- */

static coroutine_fn RUNS_IN_MAIN void gen_check_snapshot(const Gen *g, const GenSnapshot *s)
{
    size_t length;
    g_autoptr(GError) error = NULL;
    BlockBackend *blk = qcow2_open_image(g->dir, "t.qcow2", "");
    assert_true(block_node_co_view_snapshot(blk_root(blk), NULL, s->name, &error));
    qcow2_compare(blk, s->bytes, s->size, (size_t)1 << 20, s->name);
    blk_co_free(blk);
    qcow2_shell(g->dir, "qemu-img convert -f qcow2 -l snapshot.name=%s -O raw t.qcow2 snap.raw",
                s->name);
    g_autofree uint8_t *raw = qcow2_file_bytes(g->dir, "snap.raw", &length);
    if (memcmp(raw, s->bytes, MIN(length, s->size)) !=
        0) { /* qemu-img's has the size of the disk */
        fail_msg("qemu-img reads other bytes from snapshot %s", s->name);
    }
}

static void gen_check_bitmap(const Gen *g, const ModelBitmap *m)
{
    DiskBitmap b = file_bitmap(g->dir, "t.qcow2", m->name);
    assert_true(b.listed && !b.in_use && b.enabled);
    for (uint64_t i = 0; i < b.count; i++) {
        uint64_t at = i * b.granularity, end = MIN(at + b.granularity, g->disk.size);
        bool dirty = at < end && memchr(m->dirty + at, MODEL_DIRTY, end - at) != NULL;
        bool may = dirty || (at < end && memchr(m->dirty + at, MODEL_MAY, end - at) != NULL);
        if ((dirty && b.bits[i] == 0) || (!may && b.bits[i] != 0)) {
            fail_msg("bitmap %s: bit %" PRIu64 " is %d", m->name, i, b.bits[i]);
        }
    }
    disk_bitmap_clear(&b);
}

/* qemu-img's info has the size, the snapshots and the bitmaps of the model. */
static void gen_check_info(const Gen *g)
{
    unsigned bitmaps = (g->disk.bitmaps[0].name != NULL) + (g->disk.bitmaps[1].name != NULL);
    g_autofree char *path = g_build_filename(g->dir, "model.raw", NULL);
    assert_true(g_file_set_contents(path, (char *)g->disk.bytes, (gssize)g->disk.size, NULL));
    qcow2_shell(g->dir,
                "qemu-img check -f qcow2 t.qcow2 && "
                "qemu-img compare -f raw -F qcow2 model.raw t.qcow2 && "
                "qemu-img info -f qcow2 --output=json t.qcow2 >info && "
                "grep -q '\"virtual-size\": %zu,' info && "
                "[ $(grep -c '\"vm-clock-sec\"' info) = %u ] && "
                "[ $(grep -c '\"granularity\"' info) = %u ]",
                g->disk.size, g->count, bitmaps);
    for (unsigned i = 0; i < g->count; i++) {
        qcow2_shell(g->dir, "grep -q '\"name\": \"%s\"' info", g->snapshots[i].name);
    }
}

static coroutine_fn RUNS_IN_MAIN void gen_check(Gen *g)
{
    qcow2_compare(g->blk, g->disk.bytes, g->disk.size, 100000, "the disk");
    blk_co_free(g->blk);
    gen_check_info(g);
    for (unsigned i = 0; i < g->count; i++) {
        gen_check_snapshot(g, &g->snapshots[i]);
    }
    for (unsigned i = 0; i < MODEL_BITMAPS; i++) {
        if (g->disk.bitmaps[i].name != NULL) {
            gen_check_bitmap(g, &g->disk.bitmaps[i]);
        }
    }
    if (g->shape.data_raw) {
        qcow2_shell(g->dir, "cmp -n %zu model.raw t.data", g->disk.size); /* QEMU's is longer */
    }
}

static void gen_free(Gen *g)
{
    for (unsigned i = 0; i < g->count; i++) {
        gen_clear(&g->snapshots[i]);
    }
    model_free(&g->disk);
    g_rand_free(g->rand);
    g_free(g);
}

BLOCK_TEST(generated_operations_on_images_of_every_shape_agree_with_plain_models)
{
    TestSeeds seeds = test_seeds(test_rounds(5, 50, 2000));
    char *dir = qcow2_dir_new();
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        Gen *g = g_new0(Gen, 1);
        g->dir = dir;
        gen_begin(g, seed);
        for (int i = g_rand_int_range(g->rand, 4, 24); i > 0; i--) {
            gen_step(g);
        }
        gen_check(g);
        gen_free(g);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generated_operations_on_images_of_every_shape_agree_with_plain_models),
    };
    return block_test_main(tests);
}
