/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of corrupt images that lead to metadata: what overlap-check keeps a write from. */
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_test.h"

#define OVERLAP_CLUSTER 65536u

typedef struct OverlapRig {
    char *dir;
    uint8_t *image, *bad; /* as made, and with the bad entry */
    size_t size;
    BlockBackend *blk;
} OverlapRig;

/* An image with data, an internal snapshot, and data written after it. */
static void rig_begin(OverlapRig *rig)
{
    *rig = (OverlapRig){.dir = qcow2_dir_new()};
    qcow2_shell(rig->dir, "qemu-img create -q -f qcow2 t.qcow2 8M && "
                          "qemu-io -c 'write -q -P 1 0 512k' t.qcow2 && "
                          "qemu-img snapshot -c one t.qcow2 && "
                          "qemu-io -c 'write -q -P 2 0 512k' t.qcow2");
    rig->image = qcow2_file_bytes(rig->dir, "t.qcow2", &rig->size);
}

static void rig_end(OverlapRig *rig)
{
    g_free(rig->image);
    g_free(rig->bad);
    qcow2_dir_free(rig->dir);
}

static uint64_t rig_get(const OverlapRig *rig, uint64_t at)
{
    return qcow2_get64(rig->image + at) & QCOW2_OFFSET_MASK;
}

#define RIG_HEADER(rig, field) rig_get(rig, offsetof(Qcow2DiskHeader, field))

static uint64_t rig_l2(const OverlapRig *rig)
{
    return rig_get(rig, RIG_HEADER(rig, l1_table_offset));
}

/* Makes guest cluster 3 lead to @host; @zero: it reads as zeroes. Opens the image. */
static coroutine_fn RUNS_IN_MAIN void rig_open(OverlapRig *rig, uint64_t host, bool zero,
                                               const char *options)
{
    g_autofree char *path = g_build_filename(rig->dir, "t.qcow2", NULL);
    g_free(rig->bad);
    rig->bad = g_memdup2(rig->image, rig->size);
    uint64_t entry = host | QCOW2_ENTRY_COPIED | (zero ? QCOW2_ENTRY_ZERO : 0);
    qcow2_put64(rig->bad + rig_l2(rig) + UINT64_C(3) * 8, entry);
    assert_true(g_file_set_contents(path, (char *)rig->bad, (gssize)rig->size, NULL));
    g_autofree char *text =
        g_strdup_printf("qcow2,file.driver=file,file.filename=%s%s", path, options);
    rig->blk = test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN int rig_write(const OverlapRig *rig, uint64_t offset)
{
    uint8_t data[512];
    memset(data, 9, sizeof(data));
    return test_io(rig->blk, TEST_WRITE, offset, sizeof(data), data, 0);
}

static bool rig_has_changed(const OverlapRig *rig, uint64_t host)
{
    size_t size;
    g_autofree uint8_t *now = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
    return memcmp(now + host, rig->bad + host, 512) != 0;
}

/* A write through the entry fails, the structure stays, and the image is marked. */
static coroutine_fn RUNS_IN_MAIN void expect_kept(OverlapRig *rig, uint64_t host,
                                                  const char *options)
{
    for (unsigned zero = 0; zero < 2; zero++) {
        size_t size;
        rig_open(rig, host, zero != 0, options);
        assert_int_equal(rig_write(rig, UINT64_C(3) * OVERLAP_CLUSTER), -EIO);
        assert_false(rig_has_changed(rig, host));
        assert_int_equal(rig_write(rig, 0), -EIO);
        blk_co_free(rig->blk);
        g_autofree uint8_t *now = qcow2_file_bytes(rig->dir, "t.qcow2", &size);
        uint64_t bits = qcow2_get64(now + offsetof(Qcow2DiskHeader, incompatible_features));
        assert_true((bits & QCOW2_INCOMPATIBLE_CORRUPT) != 0);
    }
}

/* The option permits it: the write destroys the structure. */
static coroutine_fn RUNS_IN_MAIN void expect_overwritten(OverlapRig *rig, uint64_t host,
                                                         const char *options)
{
    rig_open(rig, host, false, options);
    assert_int_equal(rig_write(rig, UINT64_C(3) * OVERLAP_CLUSTER), 0);
    assert_true(rig_has_changed(rig, host));
    blk_co_free(rig->blk);
}

typedef struct OverlapPlace {
    const char *name; /* of the sub-option */
    uint64_t host;
} OverlapPlace;

enum { PLACES = 5 };

/* Structures in clusters of their own; a write to the header or the active L1 would end the rig. */
static void rig_find(const OverlapRig *rig, OverlapPlace *places)
{
    uint64_t snapshots = RIG_HEADER(rig, snapshots_offset);
    places[0] = (OverlapPlace){"active-l2", rig_l2(rig)};
    places[1] =
        (OverlapPlace){"refcount-block", rig_get(rig, RIG_HEADER(rig, refcount_table_offset))};
    places[2] = (OverlapPlace){"inactive-l1", rig_get(rig, snapshots)};
    places[3] = (OverlapPlace){"refcount-table", RIG_HEADER(rig, refcount_table_offset)};
    places[4] = (OverlapPlace){"snapshot-table", snapshots};
}

BLOCK_TEST(a_write_through_an_entry_that_leads_to_metadata_fails_and_destroys_nothing)
{
    OverlapRig rig;
    OverlapPlace places[PLACES];
    rig_begin(&rig);
    rig_find(&rig, places);
    for (unsigned i = 0; i < PLACES; i++) {
        expect_kept(&rig, places[i].host, "");
        expect_kept(&rig, places[i].host, ",overlap-check=cached");
    }
    rig_end(&rig);
}

BLOCK_TEST(templates_and_switches_choose_the_structures)
{
    OverlapRig rig;
    OverlapPlace places[PLACES];
    rig_begin(&rig);
    rig_find(&rig, places);
    for (unsigned i = 0; i < PLACES; i++) {
        bool constant = i >= 3;
        g_autofree char *on =
            g_strdup_printf(",overlap-check.template=none,overlap-check.%s=on", places[i].name);
        g_autofree char *off = g_strdup_printf(",overlap-check.%s=off", places[i].name);
        expect_kept(&rig, places[i].host, on);
        if (i == 0 || i == 2) { /* the other ones are needed by the write itself */
            expect_overwritten(&rig, places[i].host, off);
            expect_overwritten(&rig, places[i].host, ",overlap-check=none");
            expect_overwritten(&rig, places[i].host, ",overlap-check=constant");
        }
        if (constant) {
            expect_kept(&rig, places[i].host, ",overlap-check=constant");
        }
    }
    rig_end(&rig);
}

BLOCK_TEST(what_skiff_does_not_compare_is_refused_in_words)
{
    OverlapRig rig;
    rig_begin(&rig);
    g_autofree char *all = g_strdup_printf(
        "qcow2,overlap-check=all,file.driver=file,file.filename=%s/t.qcow2", rig.dir);
    g_autofree char *one = g_strdup_printf(
        "qcow2,overlap-check.inactive-l2=on,file.driver=file,file.filename=%s/t.qcow2", rig.dir);
    g_autofree char *bad = g_strdup_printf(
        "qcow2,overlap-check=some,file.driver=file,file.filename=%s/t.qcow2", rig.dir);
    test_open_fails(all, "inactive-l2");
    test_open_fails(one, "inactive-l2");
    test_open_fails(bad, "cached, none, constant, all");
    rig_end(&rig);
}

/* ---- the set of places of a table ---- */

typedef struct TableRun {
    uint32_t count;
    unsigned failed;
} TableRun;

static bool table_leads(const Qcow2Table *t, uint64_t host, uint64_t bytes)
{
    for (uint32_t i = 0; i < t->count; i++) {
        uint64_t at = t->entries[i] & QCOW2_OFFSET_MASK;
        if (at != 0 && host < at + 4096 && at < host + bytes) {
            return true;
        }
    }
    return false;
}

static void table_at_home(void *opaque)
{
    TableRun *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    Qcow2Table t;
    GRand *rand = g_rand_new_with_seed(r->count);
    qcow2_table_init(&t, g_new0(uint64_t, r->count), r->count);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t cluster = (uint64_t)g_rand_int_range(rand, 0, 4000) * 4096;
        if (g_rand_int_range(rand, 0, 4) == 0) {
            qcow2_table_set(&t, (uint64_t)g_rand_int_range(rand, 0, (gint32)r->count),
                            cluster | QCOW2_ENTRY_COPIED);
        } else if (i == 10000) {
            qcow2_table_extend(&t, r->count *= 2);
        } else {
            uint64_t host = cluster + (uint64_t)g_rand_int_range(rand, 0, 8) * 512;
            uint64_t bytes = (uint64_t)g_rand_int_range(rand, 1, 5) * 2048;
            r->failed += qcow2_table_leads_to(&t, 12, host, bytes) != table_leads(&t, host, bytes);
        }
    }
    qcow2_table_free(&t);
    g_rand_free(rand);
}

BLOCK_TEST(the_places_of_a_table_are_those_of_its_entries)
{
    for (uint32_t count = 1; count <= 1024; count *= 4) {
        TableRun r = {.count = count};
        test_in_home(table_at_home, &r);
        assert_int_equal(r.failed, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_write_through_an_entry_that_leads_to_metadata_fails_and_destroys_nothing),
        cmocka_unit_test(templates_and_switches_choose_the_structures),
        cmocka_unit_test(what_skiff_does_not_compare_is_refused_in_words),
        cmocka_unit_test(the_places_of_a_table_are_those_of_its_entries),
    };
    return block_test_main(tests);
}
