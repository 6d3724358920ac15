/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Power cuts. A sequence of requests runs on an image in a mem node that records its writes and
 * flushes. Each disk that a cut can leave opens, has no errors except leaks, and holds what was
 * flushed: each sector has the contents that it had at the last flush before the cut, or got later.
 */
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_format.h"
#include "tests/block/qcow2/qcow2_journal.h"
#include "tests/block/qcow2/qcow2_shape.h"
#include "tests/support/power_cut.h"
#include "tests/support/rounds.h"

#define POWER_FILE ((uint64_t)8 << 20)
#define POWER_DISK_MAX ((size_t)3 << 20)
#define POWER_STEPS 24u
#define POWER_BATCH 4u
#define POWER_SECTOR 512u
#define POWER_ORDERS 8u

typedef struct PowerShape {
    const char *options; /* of qemu-img create */
    const char *caches;  /* of skiff */
    const char *prepare; /* qemu-io's commands */
    unsigned cluster_bits;
    size_t size, request_max;
    bool backing, snapshot, lazy;
} PowerShape;

static const PowerShape power_shapes[] = {
    {.options = "cluster_size=512,refcount_bits=64",
     .cluster_bits = 9,
     .caches = ",l2-cache-size=2k,refcount-cache-size=4k",
     .size = POWER_DISK_MAX,
     .request_max = 200000},
    {.options = "cluster_size=512,refcount_bits=1",
     .cluster_bits = 9,
     .caches = ",l2-cache-size=1k",
     .prepare = "-c 'write -q -P 3 10k 50k' -c 'write -q -z 70k 30k'",
     .size = (size_t)400 << 10,
     .request_max = 30000,
     .backing = true},
    {.options = "cluster_size=4096",
     .cluster_bits = 12,
     .caches = "",
     .prepare =
         "-c 'write -q -P 3 10k 50k' -c 'write -q -c -P 4 64k 4k' -c 'write -q -c -P 5 68k 4k'",
     .size = (size_t)1 << 20,
     .request_max = 60000,
     .backing = true,
     .snapshot = true},
    {.options = "cluster_size=16k,extended_l2=on",
     .cluster_bits = 14,
     .caches = "",
     .prepare = "-c 'write -q -P 3 10k 50k' -c 'write -q -c -P 4 64k 16k'",
     .size = (size_t)1 << 20,
     .request_max = 60000,
     .backing = true,
     .snapshot = true},
    {.options = "cluster_size=64k",
     .cluster_bits = 16,
     .caches = ",l2-cache-size=1k,l2-cache-entry-size=512",
     .size = POWER_DISK_MAX,
     .request_max = 100000},
    {.options = "cluster_size=4096,lazy_refcounts=on",
     .cluster_bits = 12,
     .caches = "",
     .prepare = "-c 'write -q -P 3 10k 50k'",
     .size = (size_t)1 << 20,
     .request_max = 60000,
     .backing = true,
     .lazy = true},
};

/* The state of the disk after a step. */
typedef struct PowerStep {
    uint8_t *model;
    size_t size;
    unsigned begin;   /* records before the step */
    unsigned durable; /* records when a flush ended that covers this state; 0: no flush has */
} PowerStep;

typedef struct PowerRig {
    const PowerShape *shape;
    GRand *rand;
    char *dir;
    BlockNode *mem;
    BlockBackend *blk;
    uint8_t *initial;
    BlockMemJournal journal;
    PowerStep steps[POWER_STEPS + 1];
    unsigned count; /* of steps; the first one is the state before all requests */
    unsigned pattern;
} PowerRig;

/* ---- the image ---- */

static void power_fill_mem(void *opaque)
{
    PowerRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(rig->mem), rig->initial, POWER_FILE);
}

static void power_record(void *opaque)
{
    PowerRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_journal(rig->mem, &rig->journal);
}

static void power_create(PowerRig *rig)
{
    const PowerShape *s = rig->shape;
    size_t size;
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f raw base %zu && "
                "qemu-io -f raw -c 'write -q -P 201 5k 200k' base && "
                "qemu-img create -q -f qcow2 -o %s%s t.qcow2 %zu",
                s->size + 100000 / 512 * 512, s->options,
                s->backing ? ",backing_file=base,backing_fmt=raw" : "", s->size);
    if (s->prepare != NULL) {
        qcow2_shell(rig->dir, "qemu-io -f qcow2 %s t.qcow2", s->prepare);
    }
    if (s->snapshot) {
        qcow2_shell(rig->dir, "qemu-img snapshot -c one t.qcow2");
    }
    qcow2_shell(rig->dir, "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw");
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    assert_true(size <= POWER_FILE);
    rig->initial = g_malloc0(POWER_FILE);
    memcpy(rig->initial, image, size);
    g_autofree uint8_t *before = qcow2_file_bytes(rig->dir, "before.raw", &rig->steps[0].size);
    rig->steps[0].model = g_malloc0(POWER_DISK_MAX); /* later sizes are larger */
    memcpy(rig->steps[0].model, before, rig->steps[0].size);
    rig->count = 1;
}

static coroutine_fn RUNS_IN_MAIN void power_open(PowerRig *rig)
{
    g_autofree char *backing = g_strdup_printf(
        ",backing.driver=raw,backing.file.driver=file,backing.file.filename=%s/base", rig->dir);
    g_autofree char *text = g_strdup_printf("qcow2,discard=unmap,file=m%s%s", rig->shape->caches,
                                            rig->shape->backing ? backing : "");
    rig->mem = test_node_add("mem,node-name=m,size=8M,discard=unmap");
    test_in_home(power_fill_mem, rig);
    block_mem_journal_init(&rig->journal);
    test_in_home(power_record, rig);
    rig->blk = test_blk("d", text, true);
}

/* ---- requests ---- */

static PowerStep *power_begin_step(PowerRig *rig, unsigned records)
{
    const PowerStep *last = &rig->steps[rig->count - 1];
    PowerStep *step = &rig->steps[rig->count++];
    *step = (PowerStep){.size = last->size, .begin = records};
    step->model = g_malloc0(POWER_DISK_MAX);
    memcpy(step->model, last->model, last->size);
    return step;
}

static void power_pick(PowerRig *rig, const PowerStep *step, TestRequest *r)
{
    static const TestOp ops[] = {TEST_WRITE, TEST_WRITE,   TEST_WRITE,
                                 TEST_WRITE, TEST_DISCARD, TEST_ZERO};
    unsigned sectors = (unsigned)(step->size / POWER_SECTOR);
    *r = (TestRequest){.blk = rig->blk, .op = ops[g_rand_int_range(rig->rand, 0, 6)]};
    uint64_t length =
        (uint64_t)g_rand_int_range(rig->rand, 1, (int)(rig->shape->request_max / POWER_SECTOR));
    r->offset = (uint64_t)g_rand_int_range(rig->rand, 0, (int)sectors) * POWER_SECTOR;
    r->bytes = MIN(length * POWER_SECTOR, step->size - r->offset);
    r->flags = r->op == TEST_ZERO && g_rand_boolean(rig->rand) ? BLOCK_REQ_MAY_UNMAP : 0;
    bool compressed = r->op == TEST_WRITE && g_rand_int_range(rig->rand, 0, 3) == 0;
    if (compressed) {
        r->flags = BLOCK_REQ_COMPRESSED;
        shape_align_clusters(rig->shape->cluster_bits, step->size, &r->offset, &r->bytes);
    }
    r->buf = g_malloc0(r->bytes);
    if (compressed) {
        shape_fill_soft(r->buf, r->bytes, ++rig->pattern);
    } else if (r->op == TEST_WRITE) {
        test_fill(r->buf, r->bytes, ++rig->pattern);
    }
}

/* A discard can leave the clusters at its ends as they are: then either is right. */
static coroutine_fn RUNS_IN_MAIN void power_take(PowerRig *rig, PowerStep *step,
                                                 const TestRequest *r)
{
    if (r->op == TEST_DISCARD) {
        assert_int_equal(test_io(rig->blk, TEST_READ, r->offset, r->bytes, r->buf, 0), 0);
    }
    memcpy(step->model + r->offset, r->buf, r->bytes);
}

static bool power_overlaps(const TestRequest *list, unsigned count, const TestRequest *r)
{
    for (unsigned i = 0; i < count; i++) {
        if (list[i].offset < r->offset + r->bytes && r->offset < list[i].offset + list[i].bytes) {
            return true;
        }
    }
    return false;
}

static coroutine_fn RUNS_IN_MAIN void power_requests(PowerRig *rig, PowerStep *step)
{
    TestRequest r[POWER_BATCH];
    unsigned count = 0;
    for (unsigned want = (unsigned)g_rand_int_range(rig->rand, 1, POWER_BATCH + 1); want > 0;
         want--) {
        power_pick(rig, step, &r[count]);
        if (power_overlaps(r, count, &r[count])) {
            g_free(r[count].buf);
        } else {
            test_start(&r[count++]);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) {
        power_take(rig, step, &r[i]);
        g_free(r[i].buf);
    }
}

static coroutine_fn RUNS_IN_MAIN void power_resize(PowerRig *rig, PowerStep *step)
{
    GError *error = NULL;
    size_t size = (size_t)g_rand_int_range(rig->rand, 100, (int)(POWER_DISK_MAX / 512)) * 512;
    assert_int_equal(blk_co_truncate(rig->blk, size, &error), 0);
    if (size < step->size) {
        memset(step->model + size, 0, step->size - size);
    }
    step->size = size;
}

/* Each step is one batch of requests, with a flush beside it or behind it, or neither. */
static coroutine_fn RUNS_IN_MAIN void power_step(PowerRig *rig)
{
    TestRequest flush = {.blk = rig->blk, .op = TEST_FLUSH};
    PowerStep *before = &rig->steps[rig->count - 1];
    PowerStep *step = power_begin_step(rig, journal_records(&rig->journal));
    unsigned kind = (unsigned)g_rand_int_range(rig->rand, 0, 8);
    if (kind == 7) {
        power_resize(rig, step);
        step->durable = journal_records(&rig->journal);
        return;
    }
    if (kind == 0) {
        test_start(&flush);
    }
    power_requests(rig, step);
    if (kind == 1) {
        test_start(&flush);
    }
    if (kind <= 1) {
        assert_int_equal(test_finish(&flush), 0);
        *(kind == 0 ? &before->durable : &step->durable) = journal_records(&rig->journal);
    }
}

/* ---- cuts ---- */

static void power_check_sector(const PowerRig *rig, unsigned from, unsigned to, size_t at,
                               const uint8_t *bytes, unsigned cut)
{
    for (unsigned i = from; i <= to; i++) {
        if (memcmp(rig->steps[i].model + at, bytes, POWER_SECTOR) == 0) {
            return;
        }
    }
    fail_msg("cut at %u of %u records: the sector at %zu has contents that it had in none of the "
             "steps %u to %u",
             cut, rig->journal.records->len, at, from, to);
}

/* Reads the disk that the cut left, and compares each sector with the states that it may have. */
static coroutine_fn RUNS_IN_MAIN void power_check_disk(PowerRig *rig, unsigned cut)
{
    unsigned from = 0, to = 0;
    bool size_ok = false;
    for (unsigned i = 1; i < rig->count; i++) {
        from = rig->steps[i].durable != 0 && rig->steps[i].durable <= cut ? i : from;
        to = rig->steps[i].begin <= cut ? i : to;
    }
    BlockBackend *blk = qcow2_open_image(rig->dir, "cut.qcow2", "");
    size_t size = blk_size(blk);
    g_autofree uint8_t *bytes = g_malloc(size);
    assert_int_equal(test_io(blk, TEST_READ, 0, size, bytes, 0), 0);
    blk_co_free(blk);
    for (unsigned i = from; i <= to; i++) {
        size_ok = size_ok || rig->steps[i].size == size;
    }
    assert_true(size_ok);
    for (size_t at = 0; at < size; at += POWER_SECTOR) {
        power_check_sector(rig, from, to, at, bytes + at, cut);
    }
}

static coroutine_fn RUNS_IN_MAIN void power_cut(PowerRig *rig, unsigned cut, GRand *reorder)
{
    PowerCut disk = power_cut_at(rig->initial, POWER_FILE, &rig->journal, cut, reorder);
    g_autofree char *path = g_build_filename(rig->dir, "cut.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)disk.bytes, (gssize)disk.size, NULL));
    power_cut_free(&disk);
    qcow2_shell(rig->dir,
                "%s qemu-img check -f qcow2 cut.qcow2 || [ $? = 3 ] || { echo cut %u; false; }",
                rig->shape->lazy ? "qemu-img check -q -r all -f qcow2 cut.qcow2;" : "", cut);
    power_check_disk(rig, cut);
}

/* From record @at on: the first flush, or with @header the first one behind a write of the header.
 * Of all cuts around it, the one before it leaves the most writes open. */
static unsigned power_before_flush(const PowerRig *rig, unsigned at, bool header)
{
    const GArray *records = rig->journal.records;
    for (; at < records->len; at++) {
        const BlockMemRecord *r = &g_array_index(records, BlockMemRecord, at);
        header = header && (r->op != BLOCK_MEM_WRITE || r->offset != 0);
        if (!header && r->op == BLOCK_MEM_FLUSH) {
            break;
        }
    }
    return at;
}

static void power_free(PowerRig *rig)
{
    block_mem_journal_clear(&rig->journal);
    for (unsigned i = 0; i < rig->count; i++) {
        g_free(rig->steps[i].model);
    }
    g_free(rig->initial);
}

static coroutine_fn RUNS_IN_MAIN void power_sequence(PowerRig *rig, unsigned cuts)
{
    power_create(rig);
    power_open(rig);
    for (unsigned i = 0; i < POWER_STEPS; i++) {
        power_step(rig);
    }
    blk_co_free(rig->blk);
    unsigned records = rig->journal.records->len;
    printf("# %s: %u records\n", rig->shape->options, records);
    fflush(stdout);
    for (unsigned i = 0; i < cuts; i++) {
        unsigned cut = (unsigned)g_rand_int_range(rig->rand, 0, (int)records + 1);
        cut = i % 3 == 1 ? power_before_flush(rig, cut, i % 2 == 0) : cut;
        power_cut(rig, i == 0 ? records : cut, i % 3 > 0 ? rig->rand : NULL);
    }
    test_node_del("m");
    power_free(rig);
}

static coroutine_fn RUNS_IN_MAIN void power_write(PowerRig *rig, uint64_t offset, uint64_t bytes)
{
    PowerStep *step = power_begin_step(rig, journal_records(&rig->journal));
    test_fill(step->model + offset, bytes, ++rig->pattern);
    assert_int_equal(test_io(rig->blk, TEST_WRITE, offset, bytes, step->model + offset, 0), 0);
    assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    step->durable = journal_records(&rig->journal);
}

/* The table has 64 entries, each for 64 clusters: it is full with a file of 2 MiB. */
BLOCK_TEST(a_power_cut_while_the_refcount_table_grows_leaves_a_sound_image)
{
    static const PowerShape shape = {.options = "cluster_size=512,refcount_bits=64",
                                     .caches = "",
                                     .prepare = "-c 'write -q -P 3 0 1900k'",
                                     .size = POWER_DISK_MAX};
    g_autofree PowerRig *rig = g_new0(PowerRig, 1);
    *rig = (PowerRig){.shape = &shape, .dir = qcow2_dir_new(), .rand = g_rand_new_with_seed(1)};
    power_create(rig);
    power_open(rig);
    size_t at = offsetof(Qcow2DiskHeader, refcount_table_offset);
    power_write(rig, (uint64_t)1900 << 10, 128 << 10);
    power_write(rig, (uint64_t)2028 << 10, 64 << 10); /* new blocks in the table as it is */
    blk_co_free(rig->blk);
    PowerCut end =
        power_cut_at(rig->initial, POWER_FILE, &rig->journal, rig->journal.records->len, NULL);
    assert_memory_not_equal(rig->initial + at, end.bytes + at, sizeof(uint64_t));
    power_cut_free(&end);
    for (unsigned cut = 0; cut <= rig->journal.records->len; cut++) {
        cut = power_before_flush(rig, cut, false);
        for (unsigned i = 0; i < POWER_ORDERS; i++) {
            power_cut(rig, cut, rig->rand);
        }
    }
    test_node_del("m");
    power_free(rig);
    g_rand_free(rig->rand);
    qcow2_dir_free(rig->dir);
}

BLOCK_TEST(a_power_cut_leaves_a_sound_image_with_all_that_was_flushed)
{
    TestSeeds seeds = test_seeds(test_rounds(3, 6, 300));
    char *dir = qcow2_dir_new();
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        PowerRig *rig = g_new0(PowerRig, 1);
        rig->shape = &power_shapes[seed % G_N_ELEMENTS(power_shapes)];
        rig->rand = g_rand_new_with_seed(seed);
        rig->dir = dir;
        printf("# seed %u\n", seed);
        power_sequence(rig, 30);
        g_rand_free(rig->rand);
        g_free(rig);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_while_the_refcount_table_grows_leaves_a_sound_image),
        cmocka_unit_test(a_power_cut_leaves_a_sound_image_with_all_that_was_flushed),
    };
    return block_test_main(tests);
}
