/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Power cuts while bitmaps are added, changed, stored and removed beside writes. On each disk that a
 * cut can leave, a bitmap without in_use is exactly what it was when the image was completed last, and
 * so is the disk: nothing has changed since. A bitmap that was stored, and is not being removed, is
 * listed. The image has leaks at most; it opens for writing, and has leaks at most afterwards.
 */
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_check.h"
#include "tests/block/qcow2/qcow2_journal.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"
#include "tests/support/power_cut.h"
#include "tests/support/rounds.h"

#define CUT_FILE ((uint64_t)8 << 20)
#define CUT_DISK ((size_t)1 << 20)
#define CUT_SECTOR 512u
#define CUT_COMPLETIONS 8u
#define CUT_NAMES 4u

typedef struct CutShape {
    const char *options;
    unsigned unknown; /* bytes of an unknown extension in front of all; 0: none */
    bool loses;       /* the extension crosses a sector: a cut can lose all bitmaps */
    const char *open; /* more options of the node */
} CutShape;

static const CutShape cut_shapes[] = {
    {"cluster_size=512,refcount_bits=8", 0, false, ",l2-cache-size=2k,refcount-cache-size=4k"},
    {"cluster_size=4096", 0, false, ""},
    {"cluster_size=64k", 0, false, ""},
    {"cluster_size=4096,lazy_refcounts=on", 0, false, ""},
    {"cluster_size=4096", 368, true, ""}, /* the bitmaps' data begins at 496 */
    {"cluster_size=16k,extended_l2=on,backing_file=x,backing_fmt=raw -u", 0, false, ",backing="},
    {"cluster_size=1024,backing_file=./a/name/of/some/length,backing_fmt=raw -u", 280, true,
     ",backing="},
};

/* The image when it was completed. */
typedef struct CutCompletion {
    unsigned begin, end; /* records of the journal */
    uint8_t *disk;
    GArray *bitmaps; /* MemoryBitmap */
} CutCompletion;

typedef struct CutRemoval {
    unsigned name;
    unsigned begin; /* records of the journal */
} CutRemoval;

typedef struct CutRig {
    const CutShape *shape;
    GRand *rand;
    char *dir;
    BlockNode *mem;
    BlockBackend *blk;
    uint8_t *initial, *disk;
    BlockMemJournal journal;
    CutCompletion completions[CUT_COMPLETIONS + 1];
    unsigned count;
    GArray *removals; /* CutRemoval */
    unsigned pattern;
} CutRig;

static const char *const cut_names[CUT_NAMES] = {
    "a", "b", "a-bitmap-with-a-name-that-is-longer-than-the-others-are", "d"};

/* ---- the image ---- */

static void cut_fill_mem(void *opaque)
{
    CutRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(rig->mem), rig->initial, CUT_FILE);
    block_mem_set_journal(rig->mem, &rig->journal);
}

/* Makes room for an unknown extension before the others. */
static void cut_insert_extension(CutRig *rig)
{
    unsigned at = (unsigned)bits_number(rig->initial + 100, 4), size = rig->shape->unknown;
    uint64_t name = bits_number(rig->initial + 8, 8);
    uint8_t head[8] = {0x12, 0x34, 0x56, 0x78, 0, 0, (uint8_t)(size >> 8), (uint8_t)size};
    memmove(rig->initial + at + 8 + size, rig->initial + at, 200);
    memset(rig->initial + at + 8, 0x99, size);
    memcpy(rig->initial + at, head, 8);
    if (name != 0) {
        name += size + 8;
        for (unsigned i = 0; i < 8; i++) {
            rig->initial[8 + i] = (uint8_t)(name >> (56 - 8 * i));
        }
    }
}

static void cut_create_image(CutRig *rig)
{
    size_t size;
    qcow2_shell(rig->dir, "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o %s t.qcow2 1M",
                rig->shape->options);
    g_autofree uint8_t *image = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    rig->initial = g_malloc0(CUT_FILE);
    memcpy(rig->initial, image, size);
    if (rig->shape->unknown != 0) {
        cut_insert_extension(rig);
    }
    rig->disk = g_malloc0(CUT_DISK);
}

static coroutine_fn RUNS_IN_MAIN void cut_open(CutRig *rig)
{
    g_autofree char *text = g_strdup_printf("qcow2,discard=unmap,file=m%s", rig->shape->open);
    rig->blk = test_blk("d", text, true);
}

/* ---- operations ---- */

static coroutine_fn RUNS_IN_MAIN void cut_write(CutRig *rig)
{
    uint64_t at = (uint64_t)g_rand_int_range(rig->rand, 0, CUT_DISK / CUT_SECTOR) * CUT_SECTOR;
    uint64_t bytes = (uint64_t)g_rand_int_range(rig->rand, 1, 60) * CUT_SECTOR;
    bytes = MIN(bytes, CUT_DISK - at);
    if (g_rand_int_range(rig->rand, 0, 4) == 0) {
        memset(rig->disk + at, 0, bytes);
        assert_int_equal(test_io(rig->blk, TEST_ZERO, at, bytes, NULL, 0), 0);
        return;
    }
    test_fill(rig->disk + at, bytes, ++rig->pattern);
    assert_int_equal(test_io(rig->blk, TEST_WRITE, at, bytes, rig->disk + at, 0), 0);
}

static coroutine_fn RUNS_IN_MAIN void cut_change_bitmap(CutRig *rig)
{
    BlockNode *n = blk_root(rig->blk);
    unsigned index = (unsigned)g_rand_int_range(rig->rand, 0, CUT_NAMES);
    unsigned other = (unsigned)g_rand_int_range(rig->rand, 0, CUT_NAMES);
    BlockDirtyBitmapRef to = {n, cut_names[index]}, from = {n, cut_names[other]};
    BlockDirtyBitmapInfo info;
    CutRemoval removal;
    if (!node_bitmap(n, to.name, &info)) {
        bitmap_add(n, to.name, 512u << g_rand_int_range(rig->rand, 0, 8), 0);
        return;
    }
    switch (g_rand_int_range(rig->rand, 0, 5)) {
    case 0:
        assert_true(block_dirty_bitmap_co_clear(n, to.name, NULL));
        break;
    case 1:
        assert_true(block_dirty_bitmap_co_set_enabled(n, to.name, !info.recording, NULL));
        break;
    case 2:
        removal = (CutRemoval){.name = index, .begin = journal_records(&rig->journal)};
        g_array_append_val(rig->removals, removal);
        assert_true(block_dirty_bitmap_co_remove(n, to.name, NULL));
        break;
    default:
        block_dirty_bitmap_co_merge(to, &from, 1, NULL); /* perhaps there is none */
    }
}

static coroutine_fn RUNS_IN_MAIN void cut_complete(CutRig *rig)
{
    CutCompletion *c = &rig->completions[++rig->count];
    *c = (CutCompletion){.begin = journal_records(&rig->journal),
                         .disk = g_memdup2(rig->disk, CUT_DISK),
                         .bitmaps = memory_bitmaps(blk_root(rig->blk))};
    if (g_rand_boolean(rig->rand)) {
        assert_int_equal(block_node_co_complete(blk_root(rig->blk)), 0);
        c->end = journal_records(&rig->journal);
    } else {
        blk_co_free(rig->blk);
        c->end = journal_records(&rig->journal);
        cut_open(rig);
    }
}

static coroutine_fn RUNS_IN_MAIN void cut_sequence(CutRig *rig)
{
    rig->completions[0] = (CutCompletion){.disk = g_memdup2(rig->disk, CUT_DISK),
                                          .bitmaps = memory_bitmaps(blk_root(rig->blk))};
    bitmap_add(blk_root(rig->blk), "a", 4096, 0);
    while (rig->count < CUT_COMPLETIONS) {
        for (int i = g_rand_int_range(rig->rand, 0, 6); i > 0; i--) {
            if (g_rand_int_range(rig->rand, 0, 3) == 0) {
                cut_change_bitmap(rig);
            } else {
                cut_write(rig);
            }
            if (g_rand_int_range(rig->rand, 0, 4) == 0) {
                assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
            }
        }
        cut_complete(rig);
    }
}

/* ---- what a cut leaves ---- */

static coroutine_fn RUNS_IN_MAIN uint8_t *cut_read(const CutRig *rig)
{
    uint8_t *bytes = g_malloc(CUT_DISK);
    BlockBackend *blk = qcow2_open_image(rig->dir, "t.qcow2", rig->shape->open);
    assert_int_equal(test_io(blk, TEST_READ, 0, CUT_DISK, bytes, 0), 0);
    blk_co_free(blk);
    return bytes;
}

/* Whether the bitmap is that of completion @i, and the disk too. */
static bool cut_is(const CutRig *rig, unsigned i, const char *name, const DiskBitmap *d,
                   const uint8_t *disk)
{
    const CutCompletion *c = &rig->completions[i];
    const MemoryBitmap *m = memory_bitmap(c->bitmaps, name);
    return m != NULL && disk_bitmap_equals(d, m) && memcmp(disk, c->disk, CUT_DISK) == 0;
}

/* Whether a removal of the bitmap had begun after record @from and not after @to. */
static bool cut_removed(const CutRig *rig, unsigned name, unsigned from, unsigned to)
{
    bool removed = false;
    for (unsigned i = 0; i < rig->removals->len; i++) {
        const CutRemoval *r = &g_array_index(rig->removals, CutRemoval, i);
        removed = removed || (r->name == name && r->begin >= from && r->begin <= to);
    }
    return removed;
}

static coroutine_fn RUNS_IN_MAIN void cut_check_bitmap(const CutRig *rig, const PowerCut *cut,
                                                       unsigned at, unsigned index,
                                                       const uint8_t *disk)
{
    const char *name = cut_names[index];
    DiskBitmap d = disk_bitmap(cut->bytes, cut->size, name);
    unsigned last = rig->count;
    while (rig->completions[last].begin > at) {
        last--;
    }
    unsigned before = last > 0 ? last - 1 : 0;
    bool is = d.bits != NULL &&
              (cut_is(rig, last, name, &d, disk) ||
               (at < rig->completions[last].end && cut_is(rig, before, name, &d, disk)));
    if (d.bits != NULL && !is) {
        fail_msg("cut at %u, after completion %u: bitmap %s is believed, and is not right", at,
                 last, name);
    }
    bool stored = memory_bitmap(rig->completions[before].bitmaps, name) != NULL &&
                  memory_bitmap(rig->completions[last].bitmaps, name) != NULL;
    bool ended = at == rig->completions[last].end;
    bool removed = cut_removed(rig, index, rig->completions[before].end, at);
    if (stored && !d.listed && !rig->shape->loses && !removed) {
        fail_msg("cut at %u, after completion %u: bitmap %s is lost", at, last, name);
    }
    if (ended && (memory_bitmap(rig->completions[last].bitmaps, name) != NULL) != is) {
        fail_msg("cut at the end of completion %u: bitmap %s is not stored", last, name);
    }
    disk_bitmap_clear(&d);
}

static void cut_line(void *opaque, const char *line)
{
    g_string_append_printf(opaque, "%s\n", line);
}

static void cut_check_at_home(void *opaque)
{
    Qcow2CheckRequest *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    qcow2_co_check(r);
}

/* Checks the image: by skiff, and with @qemu also by qemu-img, which takes longer. */
static coroutine_fn RUNS_IN_MAIN void cut_check_image(const CutRig *rig, unsigned at, bool qemu)
{
    g_autoptr(GString) lines = g_string_new(NULL);
    g_autofree char *text = g_strdup_printf("file,filename=%s/t.qcow2,read-only=on", rig->dir);
    BlockBackend *blk = test_blk("file", text, false);
    Qcow2CheckRequest r = {
        .file = blk_root(blk), .who = "t.qcow2", .report = cut_line, .opaque = lines};
    test_in_home(cut_check_at_home, &r);
    blk_co_free(blk);
    if (r.error != NULL || r.result.corruptions + r.result.check_errors > 0) {
        fail_msg("cut at %u: %s", at, lines->str);
    }
    if (qemu) {
        qcow2_shell(rig->dir, "qemu-img check -f qcow2 t.qcow2 || [ $? = 3 ]");
    }
}

static coroutine_fn RUNS_IN_MAIN void cut_at(CutRig *rig, unsigned at, GRand *reorder, bool qemu)
{
    PowerCut cut = power_cut_at(rig->initial, CUT_FILE, &rig->journal, at, reorder);
    g_autofree char *path = g_build_filename(rig->dir, "t.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)cut.bytes, (gssize)cut.size, NULL));
    g_autofree uint8_t *disk = cut_read(rig);
    for (unsigned i = 0; i < CUT_NAMES; i++) {
        cut_check_bitmap(rig, &cut, at, i, disk);
    }
    power_cut_free(&cut);
    bool lazy = strstr(rig->shape->options, "lazy") != NULL;
    if (!lazy) {
        cut_check_image(rig, at, qemu);
    }
    BlockBackend *blk = bitmap_open(rig->dir, rig->shape->open); /* repairs a dirty one */
    bitmap_write(blk, 0, 512, 1);
    bitmap_add(blk_root(blk), "new", 0, 0);
    blk_co_free(blk);
    file_bitmap_expect(rig->dir, "new", true, 0, 0);
    cut_check_image(rig, at, qemu);
}

static coroutine_fn RUNS_IN_MAIN void cut_rig(CutRig *rig, unsigned cuts)
{
    cut_create_image(rig);
    rig->mem = test_node_add("mem,node-name=m,size=8M,discard=unmap");
    block_mem_journal_init(&rig->journal);
    test_in_home(cut_fill_mem, rig);
    cut_open(rig);
    cut_sequence(rig);
    blk_co_free(rig->blk);
    unsigned records = rig->journal.records->len;
    printf("# %s: %u records\n", rig->shape->options, records);
    for (unsigned i = 0; i < cuts; i++) {
        unsigned at = (unsigned)g_rand_int_range(rig->rand, 0, (int)records + 1);
        if (i <= rig->count) {
            at = rig->completions[i].end;
        } else if (i % 2 == 0) { /* in the first changes behind one */
            int k = g_rand_int_range(rig->rand, 0, (int)rig->count);
            at = rig->completions[k].end + (unsigned)g_rand_int_range(rig->rand, 1, 5);
            at = MIN(at, records);
        } else if (i % 4 == 1) { /* while one is stored, the header at the end */
            const CutCompletion *c =
                &rig->completions[g_rand_int_range(rig->rand, 1, (int)rig->count + 1)];
            unsigned back = (unsigned)g_rand_int_range(rig->rand, 0, 12);
            at = c->end - MIN(back, c->end - c->begin);
        }
        cut_at(rig, at, i % 3 > 0 ? rig->rand : NULL, i % 8 == 1);
    }
    test_node_del("m");
    block_mem_journal_clear(&rig->journal);
    for (unsigned i = 0; i <= rig->count; i++) {
        g_free(rig->completions[i].disk);
        g_array_unref(rig->completions[i].bitmaps);
    }
    g_free(rig->initial);
    g_free(rig->disk);
}

BLOCK_TEST(a_power_cut_leaves_no_bitmap_that_lacks_a_bit)
{
    TestSeeds seeds = test_seeds(test_rounds(7, 7, 150));
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "touch x; mkdir -p a/name/of/some; touch a/name/of/some/length");
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        CutRig *rig = g_new0(CutRig, 1);
        rig->shape = &cut_shapes[seed % G_N_ELEMENTS(cut_shapes)];
        rig->removals = g_array_new(false, false, sizeof(CutRemoval));
        rig->rand = g_rand_new_with_seed(seed);
        rig->dir = dir;
        printf("# seed %u\n", seed);
        cut_rig(rig, test_rounds(30, 30, 80));
        g_array_unref(rig->removals);
        g_rand_free(rig->rand);
        g_free(rig);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_leaves_no_bitmap_that_lacks_a_bit),
    };
    return block_test_main(tests);
}
