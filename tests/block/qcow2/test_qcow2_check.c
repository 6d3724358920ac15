/* SPDX-License-Identifier: Apache-2.0 */
/* Checks cost what the image's metadata costs; a repair that is cut off can be repeated. */
#include <unistd.h>
#include "tests/block/qcow2/qcow2_test.h"
#include "block/qcow2/qcow2_check.h"
#include "block/qcow2/qcow2_header.h"
#include "tests/support/power_cut.h"

/* ---- images in memory ---- */

static coroutine_fn RUNS_IN_MAIN BlockBackend *check_load(const uint8_t *bytes, uint64_t size)
{
    g_autofree char *text = g_strdup_printf("mem,node-name=m,size=%" PRIu64, size);
    BlockBackend *blk = test_blk("disk", text, true);
    g_autofree uint8_t *copy = g_memdup2(bytes, size);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, size, copy, 0), 0);
    return blk;
}

typedef struct CheckRun {
    Qcow2CheckRequest request;
    unsigned lines;
    int ret;
} CheckRun;

static void check_count_line(void *opaque, const char *line)
{
    ((CheckRun *)opaque)->lines++;
}

static void check_at_home(void *opaque)
{
    CheckRun *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    r->ret = qcow2_co_check(&r->request);
}

static coroutine_fn RUNS_IN_MAIN CheckRun check_run(BlockBackend *blk, unsigned fix,
                                                    uint64_t memory)
{
    CheckRun r = {.request = {.file = blk_root(blk),
                              .who = "image",
                              .fix = fix,
                              .memory = memory,
                              .report = check_count_line}};
    r.request.opaque = &r;
    test_in_home(check_at_home, &r);
    r.request.opaque = NULL;
    assert_null(r.request.error);
    return r;
}

static coroutine_fn RUNS_IN_MAIN bool check_is_clean(BlockBackend *blk)
{
    CheckRun r = check_run(blk, 0, 0);
    const Qcow2CheckResult *found = &r.request.result;
    return r.ret == 0 && found->check_errors == 0 && found->corruptions == 0 && found->leaks == 0;
}

/* The disk of the image in @blk, which has @size bytes. */
static coroutine_fn RUNS_IN_MAIN void check_same_disk(const uint8_t *expected, size_t size,
                                                      const char *what)
{
    BlockBackend *disk = test_blk("guest", "qcow2,read-only=on,file=m", false);
    qcow2_compare(disk, expected, size, 4096, what);
    blk_co_free(disk);
}

/* ---- power cuts ---- */

#define CUT_DISK ((size_t)192 << 10)
#define CUT_ROOM ((size_t)16 << 10) /* behind the image: the file cannot grow */

/* Where the damage is. */
typedef enum CutPlace { CUT_HEADER, CUT_TABLE, CUT_BLOCK, CUT_L2 } CutPlace;

static const struct {
    const char *name;
    CutPlace place;
    size_t at;
    uint16_t value;
    unsigned count; /* of repetitions */
} cuts[] = {
    {"a leak", CUT_BLOCK, 40, 5, 1},
    {"refcounts that are too low", CUT_BLOCK, 8, 1, 60},
    {"refcounts of 0", CUT_BLOCK, 8, 0, 30},
    {"a refcount table of zeroes", CUT_TABLE, 0, 0, 256},
    {"no flag in the L2 table", CUT_L2, 80, 0, 1},
    {"the dirty bit, and refcounts that are too high", CUT_HEADER, 78, 1, 1},
};

static void check_put(uint8_t *image, size_t at, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        image[at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    }
}

static size_t cut_find(const uint8_t *image, CutPlace place)
{
    size_t table = qcow2_get64(image + 48), l1 = qcow2_get64(image + 40);
    size_t places[] = {0, table, qcow2_get64(image + table),
                       qcow2_get64(image + l1) & QCOW2_OFFSET_MASK};
    return places[place];
}

static void cut_damage(uint8_t *image, unsigned which)
{
    size_t at = cut_find(image, cuts[which].place) + cuts[which].at;
    if (cuts[which].place == CUT_HEADER) { /* as if a crash had left them */
        check_put(image, cut_find(image, CUT_BLOCK) + 100, 2, 7);
    }
    for (unsigned i = 0; i < cuts[which].count; i++) {
        check_put(image, at + 2 * i, 2, cuts[which].value);
    }
}

static void cut_journal_at_home(void *opaque)
{
    void **args = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_journal(args[0], args[1]);
}

/* Checks the image that a power cut left: it has at most @corruptions. Repairs it: then nothing is
 * wrong. The disk stays the same. */
static coroutine_fn RUNS_IN_MAIN void cut_repair_again(const PowerCut *cut, uint64_t corruptions,
                                                       const uint8_t *disk, const char *what)
{
    BlockBackend *blk = check_load(cut->bytes, cut->size);
    check_same_disk(disk, CUT_DISK, what);
    CheckRun r = check_run(blk, 0, 0);
    if (r.ret != 0 || r.request.result.corruptions > corruptions) {
        fail_msg("%s: a check returned %d and found %" PRIu64 " corruptions instead of %" PRIu64,
                 what, r.ret, r.request.result.corruptions, corruptions);
    }
    r = check_run(blk, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, 0);
    if (r.ret != 0 || !check_is_clean(blk)) {
        fail_msg("%s: the second repair returned %d, or has left errors", what, r.ret);
    }
    check_same_disk(disk, CUT_DISK, what);
    blk_co_free(blk);
}

static coroutine_fn RUNS_IN_MAIN void cut_everywhere(const uint8_t *image, size_t size,
                                                     const uint8_t *disk, unsigned which)
{
    BlockMemJournal journal;
    g_autoptr(GRand) rand = g_rand_new_with_seed(which);
    g_autofree uint8_t *damaged = g_memdup2(image, size);
    cut_damage(damaged, which);
    BlockBackend *blk = check_load(damaged, size);
    uint64_t corruptions = check_run(blk, 0, 0).request.result.corruptions;
    assert_false(check_is_clean(blk));
    block_mem_journal_init(&journal);
    test_in_home(cut_journal_at_home, (void *[]){blk_root(blk), &journal});
    CheckRun r = check_run(blk, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, 0);
    assert_int_equal(r.ret, 0);
    assert_true(check_is_clean(blk));
    check_same_disk(disk, CUT_DISK, cuts[which].name);
    test_in_home(cut_journal_at_home, (void *[]){blk_root(blk), NULL});
    blk_co_free(blk);
    assert_true(journal.records->len > 0);
    for (unsigned cut = 0; cut <= journal.records->len; cut++) {
        for (unsigned i = 0; i < 12; i++) { /* the prefix, then samples of what was not flushed */
            g_autofree char *what =
                g_strdup_printf("%s, cut behind %u writes, sample %u", cuts[which].name, cut, i);
            PowerCut left = power_cut_at(damaged, size, &journal, cut, i > 0 ? rand : NULL);
            cut_repair_again(&left, corruptions, disk, what);
            power_cut_free(&left);
        }
    }
    block_mem_journal_clear(&journal);
}

BLOCK_TEST(a_repair_that_is_cut_off_can_be_repeated)
{
    char *dir = qcow2_dir_new();
    size_t used, disk_size;
    qcow2_shell(
        dir,
        "qemu-img create -q -f qcow2 -o cluster_size=512 t.qcow2 %zuk && "
        "qemu-io -f qcow2 -c 'write -q -P 1 0 20k' -c 'write -q -c -P 2 30k 512' t.qcow2 && "
        "qemu-img snapshot -c s t.qcow2 && "
        "qemu-io -f qcow2 -c 'write -q -P 3 4k 9k' -c 'write -q -z 60k 5k' t.qcow2 && "
        "qemu-img convert -O raw t.qcow2 t.raw",
        CUT_DISK >> 10);
    g_autofree uint8_t *bytes = qcow2_file_bytes(dir, "t.qcow2", &used);
    g_autofree uint8_t *disk = qcow2_file_bytes(dir, "t.raw", &disk_size);
    assert_int_equal(disk_size, CUT_DISK);
    size_t size = block_align_up(used, 512) + CUT_ROOM;
    g_autofree uint8_t *image = g_malloc0(size);
    memcpy(image, bytes, used);
    for (unsigned i = 0; i < G_N_ELEMENTS(cuts); i++) {
        cut_everywhere(image, size, disk, i);
    }
    qcow2_dir_free(dir);
}

/* ---- hostile images ---- */

#define CHECK_HEADER(image, field, value)                                                          \
    check_put(image, offsetof(Qcow2DiskHeader, field), sizeof(((Qcow2DiskHeader *)0)->field), value)

/* Clusters of 2 MiB: header, refcount table and block, L1 table, an L2 table. */
#define LOOP_CLUSTER ((size_t)2 << 20)
#define LOOP_L1 (LOOP_CLUSTER / 8)
#define LOOP_SNAPSHOTS 65536u

static uint8_t *loop_image(size_t *size)
{
    *size = 8 * LOOP_CLUSTER;
    uint8_t *image = g_malloc0(*size);
    CHECK_HEADER(image, magic, QCOW2_MAGIC);
    CHECK_HEADER(image, version, 3);
    CHECK_HEADER(image, cluster_bits, 21);
    CHECK_HEADER(image, l1_size, LOOP_L1);
    CHECK_HEADER(image, l1_table_offset, 3 * LOOP_CLUSTER);
    CHECK_HEADER(image, refcount_table_offset, LOOP_CLUSTER);
    CHECK_HEADER(image, refcount_table_clusters, 1);
    CHECK_HEADER(image, refcount_order, 5);
    CHECK_HEADER(image, header_length, 112);
    CHECK_HEADER(image, nb_snapshots, LOOP_SNAPSHOTS);
    CHECK_HEADER(image, snapshots_offset, 5 * LOOP_CLUSTER);
    check_put(image, LOOP_CLUSTER, 8, 2 * LOOP_CLUSTER);
    for (size_t i = 0; i < LOOP_L1; i++) {
        check_put(image, 3 * LOOP_CLUSTER + 8 * i, 8, 4 * LOOP_CLUSTER);
    }
    for (size_t i = 0; i < LOOP_SNAPSHOTS; i++) { /* without extra data, id and name */
        check_put(image, 5 * LOOP_CLUSTER + 40 * i, 8, 3 * LOOP_CLUSTER);
        check_put(image, 5 * LOOP_CLUSTER + 40 * i + 8, 4, LOOP_L1);
    }
    return image;
}

/* 65,537 L1 tables name an L2 table 2^34 times: reading it each time would take years. */
BLOCK_TEST(a_table_is_read_once_however_often_it_is_named)
{
    size_t size;
    g_autofree uint8_t *image = loop_image(&size);
    BlockBackend *blk = check_load(image, size);
    CheckRun r = check_run(blk, 0, 0);
    assert_int_equal(r.ret, 0);
    assert_int_equal(r.request.result.check_errors, 0);
    assert_true(r.request.result.corruptions > LOOP_SNAPSHOTS);
    blk_co_free(blk);
}

BLOCK_TEST(the_memory_of_a_check_is_bounded)
{
    size_t size;
    g_autofree uint8_t *image = loop_image(&size);
    BlockBackend *blk = check_load(image, size);
    CheckRun r = check_run(blk, 0, 4096); /* one kind of counts, of two */
    assert_int_equal(r.ret, -ENOMEM);
    assert_int_equal(r.lines > 0, 1);
    r = check_run(blk, 0, 1);
    assert_int_equal(r.ret, -ENOMEM);
    blk_co_free(blk);
}

/* Clusters of 2 MiB: header, L1 table, refcount table of 4 clusters, refcount block, snapshot table, L2
 * table, data. All clusters of the block are in use, and the table has no other block. */
#define FULL_TABLE ((size_t)4)
#define FULL_DATA (5 + FULL_TABLE)
#define FULL_COUNTS (LOOP_CLUSTER / 8)

static void full_write(const char *dir)
{
    size_t size = FULL_DATA * LOOP_CLUSTER, block = 2 + FULL_TABLE;
    g_autofree uint8_t *image = g_malloc0(size);
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    CHECK_HEADER(image, magic, QCOW2_MAGIC);
    CHECK_HEADER(image, version, 3);
    CHECK_HEADER(image, cluster_bits, 21);
    CHECK_HEADER(image, size, FULL_COUNTS * LOOP_CLUSTER);
    CHECK_HEADER(image, l1_size, 1);
    CHECK_HEADER(image, l1_table_offset, LOOP_CLUSTER);
    CHECK_HEADER(image, refcount_table_offset, 2 * LOOP_CLUSTER);
    CHECK_HEADER(image, refcount_table_clusters, FULL_TABLE);
    CHECK_HEADER(image, refcount_order, 6);
    CHECK_HEADER(image, header_length, 112);
    CHECK_HEADER(image, nb_snapshots, 1);
    CHECK_HEADER(image, snapshots_offset, (block + 1) * LOOP_CLUSTER); /* without an L1 table */
    check_put(image, LOOP_CLUSTER, 8, ((block + 2) * LOOP_CLUSTER) | QCOW2_ENTRY_COPIED);
    check_put(image, 2 * LOOP_CLUSTER, 8, block * LOOP_CLUSTER);
    for (size_t i = 0; i < FULL_COUNTS; i++) {
        check_put(image, block * LOOP_CLUSTER + 8 * i, 8, 1);
    }
    for (size_t i = FULL_DATA; i < FULL_COUNTS; i++) {
        check_put(image, (block + 2) * LOOP_CLUSTER + 8 * (i - FULL_DATA), 8,
                  (i * LOOP_CLUSTER) | QCOW2_ENTRY_COPIED);
    }
    assert_true(g_file_set_contents(path, (char *)image, (gssize)size, NULL));
    assert_int_equal(truncate(path, (off_t)(FULL_COUNTS * LOOP_CLUSTER)), 0);
}

/* The refcount table has entries for 2^38 clusters: looking at each would take many minutes. */
BLOCK_TEST(a_repair_that_finds_no_free_cluster_ends)
{
    char *dir = qcow2_dir_new();
    full_write(dir);
    g_autofree char *text = g_strdup_printf("file,filename=%s/t.qcow2", dir);
    BlockBackend *blk = test_blk("disk", text, true);
    CheckRun r = check_run(blk, QCOW2_FIX_ERRORS | QCOW2_FIX_LEAKS, 0);
    assert_int_equal(r.ret, -ENOSPC);
    assert_int_equal(r.request.result.check_errors, 1);
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repair_that_is_cut_off_can_be_repeated),
        cmocka_unit_test(a_table_is_read_once_however_often_it_is_named),
        cmocka_unit_test(the_memory_of_a_check_is_bounded),
        cmocka_unit_test(a_repair_that_finds_no_free_cluster_ends),
    };
    return block_test_main(tests);
}
