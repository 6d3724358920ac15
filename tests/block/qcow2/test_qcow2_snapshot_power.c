/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Power cuts while internal snapshots are created, applied and deleted beside requests. Each disk
 * that a cut can leave opens. The image has no errors except leaks, or it has the dirty bit and its
 * only errors are flags COPIED that do not match the refcounts. An image of version 2 has no such bit.
 * An image with the bit is repaired when it is opened for writing, and by check -r all. The image lists
 * the snapshots that were complete and not deleted, and perhaps the one of the operation that was cut.
 * Each listed one, and the disk, read right: at once, after either repair, and after a write to the
 * whole disk.
 */
#include <limits.h>
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_header.h"
#include "tests/block/qcow2/qcow2_journal.h"
#include "tests/block/qcow2/qcow2_test.h"
#include "tests/support/power_cut.h"
#include "tests/support/rounds.h"

#define CUT_FILE ((uint64_t)8 << 20)
#define CUT_DISK ((size_t)1 << 20)
#define CUT_SECTOR 512u
#define CUT_PHASES 24u
#define CUT_SNAPSHOTS 8u
#define CUT_BESIDE 6u

typedef struct CutShape {
    const char *options, *caches, *prepare;
    bool backing;
} CutShape;

#define CUT_ROUNDS 6u /* one of each shape */

static const CutShape cut_shapes[] = {
    {"cluster_size=512,refcount_bits=8", ",l2-cache-size=2k,refcount-cache-size=4k",
     "-c 'write -q -P 3 10k 500k'", false},
    {"cluster_size=4096", "",
     "-c 'write -q -P 3 10k 50k' -c 'write -q -c -P 4 64k 4k' -c 'write -q -c -P 5 68k 4k'", true},
    {"cluster_size=16k,extended_l2=on", "",
     "-c 'write -q -P 3 10k 500k' -c 'write -q -c -P 4 640k 16k'", true},
    {"cluster_size=64k", "", "-c 'write -q -P 3 100k 700k' -c 'discard -q 256k 128k'", false},
    {"cluster_size=4096,lazy_refcounts=on", "", "-c 'write -q -P 3 10k 500k'", false},
    {"compat=0.10,cluster_size=4096", "", "-c 'write -q -P 3 10k 500k'", false},
};

/* What was done between two flushes. */
typedef struct CutPhase {
    unsigned begin, end; /* records of the journal */
    uint8_t *before, *after;
    bool whole;     /* the disk changes as a whole */
    bool operation; /* a snapshot is created or deleted */
} CutPhase;

typedef struct CutSnapshot {
    char name[8];
    uint8_t *model;
    unsigned begin, end;           /* of its creation */
    unsigned gone_begin, gone_end; /* of its deletion */
} CutSnapshot;

typedef struct CutRig {
    const CutShape *shape;
    GRand *rand;
    char *dir;
    BlockNode *mem;
    BlockBackend *blk;
    uint8_t *initial, *disk;
    BlockMemJournal journal;
    CutPhase phases[CUT_PHASES];
    unsigned phase_count;
    CutSnapshot snapshots[CUT_SNAPSHOTS];
    unsigned snapshot_count;
    unsigned pattern;
    unsigned dirty; /* cuts that left the dirty bit and flags that do not match */
} CutRig;

/* ---- the image ---- */

static void cut_fill_mem(void *opaque)
{
    CutRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(rig->mem), rig->initial, CUT_FILE);
    block_mem_set_journal(rig->mem, &rig->journal);
}

static coroutine_fn RUNS_IN_MAIN void cut_create_image(CutRig *rig)
{
    const CutShape *s = rig->shape;
    size_t size;
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f raw base 1M && "
                "qemu-io -f raw -c 'write -q -P 201 5k 900k' base && "
                "qemu-img create -q -f qcow2 -o %s%s t.qcow2 1M && qemu-io -f qcow2 %s t.qcow2 && "
                "qemu-img convert -f qcow2 -O raw t.qcow2 before.raw",
                s->options, s->backing ? ",backing_file=base,backing_fmt=raw" : "", s->prepare);
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    assert_true(size <= CUT_FILE);
    rig->initial = g_malloc0(CUT_FILE);
    memcpy(rig->initial, image, size);
    rig->disk = qcow2_file_bytes(rig->dir, "before.raw", &size);
    assert_int_equal(size, CUT_DISK);
}

static coroutine_fn RUNS_IN_MAIN void cut_open(CutRig *rig)
{
    g_autofree char *backing = g_strdup_printf(
        ",backing.driver=raw,backing.file.driver=file,backing.file.filename=%s/base", rig->dir);
    g_autofree char *text = g_strdup_printf("qcow2,discard=unmap,file=m%s%s", rig->shape->caches,
                                            rig->shape->backing ? backing : "");
    rig->mem = test_node_add("mem,node-name=m,size=8M,discard=unmap");
    block_mem_journal_init(&rig->journal);
    test_in_home(cut_fill_mem, rig);
    rig->blk = test_blk("d", text, true);
}

/* ---- phases ---- */

static coroutine_fn RUNS_IN_MAIN CutPhase *cut_begin(CutRig *rig)
{
    CutPhase *p = &rig->phases[rig->phase_count++];
    *p = (CutPhase){.begin = journal_records(&rig->journal),
                    .before = g_memdup2(rig->disk, CUT_DISK)};
    return p;
}

static coroutine_fn RUNS_IN_MAIN void cut_end(CutRig *rig, CutPhase *p)
{
    assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    p->after = g_memdup2(rig->disk, CUT_DISK);
    p->end = journal_records(&rig->journal);
}

static coroutine_fn RUNS_IN_MAIN void cut_write(CutRig *rig)
{
    uint64_t offset = (uint64_t)g_rand_int_range(rig->rand, 0, CUT_DISK / CUT_SECTOR) * CUT_SECTOR;
    uint64_t length = (uint64_t)g_rand_int_range(rig->rand, 1, 100) * CUT_SECTOR;
    TestRequest r = {.blk = rig->blk, .op = TEST_WRITE, .offset = offset};
    r.bytes = MIN(length, CUT_DISK - offset);
    r.buf = rig->disk + offset;
    test_fill(r.buf, r.bytes, ++rig->pattern);
    test_start(&r);
    assert_int_equal(test_finish(&r), 0);
}

/* Each sector is written once at most in a phase, so it has its contents from before or after. */
static coroutine_fn RUNS_IN_MAIN void cut_write_phase(CutRig *rig)
{
    CutPhase *p = cut_begin(rig);
    cut_write(rig);
    cut_end(rig, p);
}

typedef struct CutWalk {
    BlockSnapshotRun *run;
    TestEvent done;
} CutWalk;

static void cut_walk(void *opaque)
{
    CutWalk *w = opaque;
    enter_coroutine();
    enter_main();
    block_snapshot_co_run(w->run);
    test_event_set(&w->done);
}

/* Writes beside the walk go to parts of the disk of their own. */
static coroutine_fn RUNS_IN_MAIN void cut_write_beside(CutRig *rig)
{
    for (unsigned i = 0; i < CUT_BESIDE; i++) {
        uint64_t part = CUT_DISK / CUT_BESIDE / CUT_SECTOR * CUT_SECTOR;
        uint64_t at = (uint64_t)g_rand_int_range(rig->rand, 0, 50) * CUT_SECTOR;
        uint64_t bytes = (uint64_t)g_rand_int_range(rig->rand, 1, 40) * CUT_SECTOR;
        uint8_t *buf = rig->disk + i * part + at;
        test_fill(buf, bytes, ++rig->pattern);
        assert_int_equal(test_io(rig->blk, TEST_WRITE, i * part + at, bytes, buf, 0), 0);
        if (i % 3 == 2) {
            assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
        }
    }
}

static coroutine_fn RUNS_IN_MAIN void cut_operate(CutRig *rig, const BlockSnapshotOp *op)
{
    GError *error = NULL;
    int ret;
    CutWalk w = {.run = block_node_co_snapshot_begin(blk_root(rig->blk), op, &ret, &error)};
    assert_non_null(w.run);
    co_start(test_main, cut_walk, &w);
    cut_write_beside(rig);
    test_event_wait(&w.done);
    assert_int_equal(block_snapshot_co_end(w.run, &error), 0);
}

static coroutine_fn RUNS_IN_MAIN void cut_create(CutRig *rig)
{
    CutSnapshot *s = &rig->snapshots[rig->snapshot_count];
    CutPhase *p = cut_begin(rig);
    p->operation = true;
    *s = (CutSnapshot){.begin = p->begin, .gone_begin = UINT_MAX, .gone_end = UINT_MAX};
    snprintf(s->name, sizeof(s->name), "s%u", rig->snapshot_count++);
    s->model = g_memdup2(rig->disk, CUT_DISK);
    BlockSnapshotInfo info = {.name = s->name, .icount = UINT64_MAX};
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_CREATE, .info = &info};
    cut_operate(rig, &op);
    s->end = journal_records(&rig->journal);
    cut_end(rig, p);
}

static coroutine_fn RUNS_IN_MAIN void cut_delete(CutRig *rig, unsigned index)
{
    CutSnapshot *s = &rig->snapshots[index];
    CutPhase *p = cut_begin(rig);
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_DELETE, .name = s->name};
    p->operation = true;
    s->gone_begin = p->begin;
    cut_operate(rig, &op);
    s->gone_end = journal_records(&rig->journal);
    cut_end(rig, p);
}

static coroutine_fn RUNS_IN_MAIN void cut_apply(CutRig *rig, unsigned index)
{
    GError *error = NULL;
    const CutSnapshot *s = &rig->snapshots[index];
    CutPhase *p = cut_begin(rig);
    p->whole = true;
    assert_int_equal(block_node_co_snapshot_apply(blk_root(rig->blk), s->name, &error), 0);
    memcpy(rig->disk, s->model, CUT_DISK);
    cut_end(rig, p);
}

static coroutine_fn RUNS_IN_MAIN void cut_sequence(CutRig *rig)
{
    cut_write_phase(rig);
    cut_create(rig);
    cut_write_phase(rig);
    cut_create(rig);
    cut_write_phase(rig);
    cut_apply(rig, 0);
    cut_write_phase(rig);
    cut_delete(rig, 0);
    cut_write_phase(rig);
    cut_create(rig);
    cut_apply(rig, 1);
    cut_delete(rig, 1);
    cut_delete(rig, 2);
    cut_write_phase(rig);
}

/* ---- what a cut leaves ---- */

/* Whether the disk may have these bytes: as one phase, before the cut or cut, has left it. */
static void cut_check_disk(const CutRig *rig, const uint8_t *bytes, unsigned cut)
{
    unsigned i = rig->phase_count - 1;
    while (i > 0 && rig->phases[i].begin > cut) {
        i--;
    }
    const CutPhase *p = &rig->phases[i];
    bool ended = cut >= p->end;
    if (p->whole) {
        assert_true((!ended && memcmp(bytes, p->before, CUT_DISK) == 0) ||
                    memcmp(bytes, p->after, CUT_DISK) == 0);
        return;
    }
    for (size_t at = 0; at < CUT_DISK; at += CUT_SECTOR) {
        if (memcmp(bytes + at, p->after + at, CUT_SECTOR) != 0 &&
            (ended || memcmp(bytes + at, p->before + at, CUT_SECTOR) != 0)) {
            fail_msg("cut at %u in phase %u of [%u, %u): the sector at %zu is wrong", cut, i,
                     p->begin, p->end, at);
        }
    }
}

typedef struct CutView {
    BlockBackend *blk;
    BlockImageInfo info;
} CutView;

static void cut_view_at_home(void *opaque)
{
    CutView *v = opaque;
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_iothread(test_home);
    assert_true(block_node_co_image_info(blk_root(v->blk), &v->info, &error));
}

static coroutine_fn RUNS_IN_MAIN uint8_t *cut_read(const CutRig *rig, const char *name)
{
    BlockBackend *blk = qcow2_open_image(rig->dir, "cut.qcow2", "");
    g_autoptr(GError) error = NULL;
    assert_true(name == NULL || block_node_co_view_snapshot(blk_root(blk), NULL, name, &error));
    uint8_t *bytes = g_malloc(CUT_DISK);
    assert_int_equal(blk_size(blk), CUT_DISK);
    assert_int_equal(test_io(blk, TEST_READ, 0, CUT_DISK, bytes, 0), 0);
    blk_co_free(blk);
    return bytes;
}

static coroutine_fn RUNS_IN_MAIN void cut_check_snapshots(const CutRig *rig, unsigned cut)
{
    BlockBackend *blk = qcow2_open_image(rig->dir, "cut.qcow2", "");
    CutView v = {.blk = blk};
    test_in_home(cut_view_at_home, &v);
    blk_co_free(blk);
    for (unsigned i = 0; i < rig->snapshot_count; i++) {
        const CutSnapshot *s = &rig->snapshots[i];
        bool listed = false;
        for (unsigned j = 0; j < v.info.snapshot_count; j++) {
            listed = listed || strcmp(v.info.snapshots[j].name, s->name) == 0;
        }
        if ((s->end <= cut && cut <= s->gone_begin && !listed) ||
            (listed && (cut < s->begin || cut >= s->gone_end))) {
            fail_msg("cut at %u: snapshot %s is %s", cut, s->name, listed ? "listed" : "missing");
        }
        g_autofree uint8_t *bytes = listed ? cut_read(rig, s->name) : NULL;
        if (listed && memcmp(bytes, s->model, CUT_DISK) != 0) {
            fail_msg("cut at %u: snapshot %s has other contents", cut, s->name);
        }
    }
    block_image_info_clear(&v.info);
}

/* Whether the image has the dirty bit and errors. Errors without it, other than flags of an image of
 * version 2, fail, and so do errors other than flags. */
static bool cut_check_errors(const CutRig *rig, unsigned cut)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "cut.qcow2", &size);
    bool v2 = qcow2_get32(image + offsetof(Qcow2DiskHeader, version)) == 2;
    uint64_t bits = qcow2_get64(image + offsetof(Qcow2DiskHeader, incompatible_features));
    bool dirty = !v2 && (bits & QCOW2_INCOMPATIBLE_DIRTY) != 0;
    bool lazy = strstr(rig->shape->options, "lazy") != NULL; /* then refcounts are wrong too */
    qcow2_shell(rig->dir,
                "qemu-img check -f qcow2 cut.qcow2 >check 2>&1; status=$?; rm -f wrong; "
                "grep ^ERROR check >wrong; if { [ -s wrong ] && ! %s; } || "
                "{ grep -v OFLAG_COPIED wrong && ! %s; } || [ $status = 1 ] || [ $status -gt 3 ]; "
                "then echo cut %u; cat check; false; fi",
                dirty || v2 ? "true" : "false", lazy ? "true" : "false", cut);
    g_autofree uint8_t *wrong = qcow2_file_bytes(rig->dir, "wrong", &size);
    return dirty && size > 0;
}

/* Opens the image for writing, and closes it. */
static coroutine_fn RUNS_IN_MAIN void cut_repair_by_opening(const CutRig *rig)
{
    g_autofree char *text =
        g_strdup_printf("qcow2,file.driver=file,file.filename=%s/cut.qcow2", rig->dir);
    blk_co_free(test_blk("d", text, true));
}

static coroutine_fn RUNS_IN_MAIN void cut_check_contents(const CutRig *rig, unsigned cut,
                                                         const uint8_t *disk)
{
    g_autofree uint8_t *bytes = cut_read(rig, NULL);
    assert_memory_equal(bytes, disk, CUT_DISK);
    cut_check_snapshots(rig, cut);
}

static coroutine_fn RUNS_IN_MAIN void cut_at(CutRig *rig, unsigned cut, GRand *reorder)
{
    PowerCut left = power_cut_at(rig->initial, CUT_FILE, &rig->journal, cut, reorder);
    g_autofree char *path = g_build_filename(rig->dir, "cut.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)left.bytes, (gssize)left.size, NULL));
    bool dirty = cut_check_errors(rig, cut);
    g_autofree uint8_t *disk = cut_read(rig, NULL);
    cut_check_disk(rig, disk, cut);
    cut_check_snapshots(rig, cut);
    rig->dirty += dirty;
    cut_repair_by_opening(rig);
    qcow2_shell(rig->dir, "qemu-img check -q -f qcow2 cut.qcow2 || %s", dirty ? "false" : "true");
    cut_check_contents(rig, cut, disk);
    qcow2_shell(rig->dir, "qemu-io -f qcow2 -c 'write -q 0 1M' cut.qcow2");
    cut_check_snapshots(rig, cut);
    assert_true(g_file_set_contents(path, (char *)left.bytes, (gssize)left.size, NULL));
    power_cut_free(&left);
    qcow2_shell(rig->dir, "qemu-img check -q -r all -f qcow2 cut.qcow2 >/dev/null 2>&1; "
                          "qemu-img check -q -f qcow2 cut.qcow2");
    cut_check_contents(rig, cut, disk);
}

/* A cut of an operation, before a flush: it leaves the most writes open. */
static unsigned cut_in_operation(const CutRig *rig)
{
    const CutPhase *p;
    do {
        p = &rig->phases[g_rand_int_range(rig->rand, 0, (int)rig->phase_count)];
    } while (!p->operation);
    unsigned cut = (unsigned)g_rand_int_range(rig->rand, (int)p->begin, (int)p->end);
    while (cut < p->end &&
           g_array_index(rig->journal.records, BlockMemRecord, cut).op != BLOCK_MEM_FLUSH) {
        cut++;
    }
    return cut;
}

static coroutine_fn RUNS_IN_MAIN void cut_rig(CutRig *rig, unsigned cuts)
{
    cut_create_image(rig);
    cut_open(rig);
    cut_sequence(rig);
    blk_co_free(rig->blk);
    unsigned records = rig->journal.records->len;
    printf("# %s: %u records\n", rig->shape->options, records);
    for (unsigned i = 0; i < cuts; i++) {
        unsigned cut = (unsigned)g_rand_int_range(rig->rand, 0, (int)records + 1);
        cut = i % 2 == 1 ? cut_in_operation(rig) : cut;
        cut_at(rig, i == 0 ? records : cut, i % 4 > 0 ? rig->rand : NULL);
    }
    printf("# %u cuts left the dirty bit and errors\n", rig->dirty);
    test_node_del("m");
    block_mem_journal_clear(&rig->journal);
    for (unsigned i = 0; i < rig->phase_count; i++) {
        g_free(rig->phases[i].before);
        g_free(rig->phases[i].after);
    }
    for (unsigned i = 0; i < rig->snapshot_count; i++) {
        g_free(rig->snapshots[i].model);
    }
    g_free(rig->initial);
    g_free(rig->disk);
}

BLOCK_TEST(a_power_cut_leaves_the_snapshots_from_before_or_after_an_operation)
{
    TestSeeds seeds = test_seeds(test_rounds(CUT_ROUNDS, CUT_ROUNDS, 50 * CUT_ROUNDS));
    unsigned cuts = test_rounds(8, 5, 24), dirty = 0;
    char *dir = qcow2_dir_new();
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        CutRig *rig = g_new0(CutRig, 1);
        rig->shape = &cut_shapes[seed % G_N_ELEMENTS(cut_shapes)];
        rig->rand = g_rand_new_with_seed(seed);
        rig->dir = dir;
        printf("# seed %u\n", seed);
        cut_rig(rig, cuts);
        dirty += rig->dirty;
        g_rand_free(rig->rand);
        g_free(rig);
    }
    qcow2_dir_free(dir);
    assert_true(dirty > 0 ||
                seeds.end - seeds.first < CUT_ROUNDS); /* else no cut was within an operation */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_leaves_the_snapshots_from_before_or_after_an_operation),
    };
    return block_test_main(tests);
}
