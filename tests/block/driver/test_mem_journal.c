/* SPDX-License-Identifier: Apache-2.0 */
/* What a mem node records, and the disks that a power cut leaves. */
#include "block/drivers.h"
#include "tests/block/block_test.h"
#include "tests/support/power_cut.h"

#define JOURNAL_DISK ((uint64_t)64 << 10)

typedef struct JournalRig {
    BlockBackend *blk;
    BlockNode *mem;
    BlockMemJournal journal;
    uint8_t initial[JOURNAL_DISK];
} JournalRig;

static void journal_begin_at_home(void *opaque)
{
    JournalRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(rig->initial, block_mem_data(rig->mem), JOURNAL_DISK);
    block_mem_set_journal(rig->mem, &rig->journal);
}

static coroutine_fn RUNS_IN_MAIN JournalRig *journal_begin(void)
{
    JournalRig *rig = g_new0(JournalRig, 1);
    rig->blk = test_blk("d", "mem,size=64k", true);
    rig->mem = blk_root(rig->blk);
    block_mem_journal_init(&rig->journal);
    test_in_home(journal_begin_at_home, rig);
    return rig;
}

static coroutine_fn RUNS_IN_MAIN void journal_end(JournalRig *rig)
{
    blk_co_free(rig->blk);
    block_mem_journal_clear(&rig->journal);
    g_free(rig);
}

static coroutine_fn RUNS_IN_MAIN void journal_write(JournalRig *rig, uint64_t offset,
                                                    uint64_t bytes, uint8_t pattern, unsigned flags)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    memset(buf, pattern, bytes);
    assert_int_equal(test_io(rig->blk, TEST_WRITE, offset, bytes, buf, flags), 0);
}

static PowerCut journal_cut(const JournalRig *rig, unsigned cut, GRand *rand)
{
    return power_cut_at(rig->initial, JOURNAL_DISK, &rig->journal, cut, rand);
}

/* Whether the @bytes bytes from @offset on are all @pattern. */
static bool journal_has(const PowerCut *disk, uint64_t offset, uint64_t bytes, uint8_t pattern)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (disk->bytes[offset + i] != pattern) {
            return false;
        }
    }
    return true;
}

BLOCK_TEST(each_prefix_is_the_disk_at_that_moment)
{
    JournalRig *rig = journal_begin();
    journal_write(rig, 0, 4096, 1, 0);
    journal_write(rig, 2048, 4096, 2, 0);
    assert_int_equal(test_io(rig->blk, TEST_ZERO, 0, 1024, NULL, 0), 0);
    assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(rig->journal.records->len, 4);
    static const struct {
        uint8_t first, third, fifth; /* bytes at 0, 2048 and 4096 */
    } expected[] = {{0, 0, 0}, {1, 1, 0}, {1, 2, 2}, {0, 2, 2}, {0, 2, 2}};
    for (unsigned cut = 0; cut < G_N_ELEMENTS(expected); cut++) {
        PowerCut disk = journal_cut(rig, cut, NULL);
        assert_true(journal_has(&disk, 0, 1024, expected[cut].first));
        assert_true(journal_has(&disk, 2048, 2048, expected[cut].third));
        assert_true(journal_has(&disk, 4096, 2048, expected[cut].fifth));
        power_cut_free(&disk);
    }
    journal_end(rig);
}

BLOCK_TEST(only_what_no_flush_covers_can_be_lost_and_only_in_sectors)
{
    JournalRig *rig = journal_begin();
    GRand *rand = g_rand_new_with_seed(5);
    unsigned lost = 0, kept = 0;
    journal_write(rig, 0, 4096, 1, 0);
    assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    journal_write(rig, 4096, 4096, 2, 0);
    journal_write(rig, 8192, 4096, 3, BLOCK_REQ_FUA);
    for (unsigned i = 0; i < 20; i++) {
        PowerCut disk = journal_cut(rig, rig->journal.records->len, rand);
        assert_true(journal_has(&disk, 0, 4096, 1));
        assert_true(journal_has(&disk, 8192, 4096, 3));
        for (uint64_t at = 4096; at < 8192; at += POWER_CUT_SECTOR) {
            bool is_lost = journal_has(&disk, at, POWER_CUT_SECTOR, 0);
            assert_true(is_lost || journal_has(&disk, at, POWER_CUT_SECTOR, 2));
            lost += is_lost;
            kept += !is_lost;
        }
        power_cut_free(&disk);
    }
    assert_true(lost > 0 && kept > 0);
    g_rand_free(rand);
    journal_end(rig);
}

static void journal_hold(void *opaque)
{
    JournalRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_manual(rig->mem, true);
}

static void journal_complete(void *opaque)
{
    JournalRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    while (block_mem_complete(rig->mem, 0)) {
    }
}

/* The write was submitted before the flush ended, but had not ended when it began. */
BLOCK_TEST(a_flush_does_not_cover_a_write_that_had_not_ended)
{
    JournalRig *rig = journal_begin();
    uint8_t buf[512] = {7};
    TestRequest write = {.blk = rig->blk, .op = TEST_WRITE, .bytes = sizeof(buf), .buf = buf};
    TestRequest flush = {.blk = rig->blk, .op = TEST_FLUSH};
    test_in_home(journal_hold, rig);
    test_start(&write);
    test_start(&flush);
    test_settle();
    test_in_home(journal_complete, rig);
    assert_int_equal(test_finish(&write), 0);
    assert_int_equal(test_finish(&flush), 0);
    const BlockMemRecord *last = &g_array_index(rig->journal.records, BlockMemRecord, 1);
    assert_int_equal(last->op, BLOCK_MEM_FLUSH);
    assert_int_equal(last->covers, 0);
    journal_end(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_prefix_is_the_disk_at_that_moment),
        cmocka_unit_test(only_what_no_flush_covers_can_be_lost_and_only_in_sectors),
        cmocka_unit_test(a_flush_does_not_cover_a_write_that_had_not_ended),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
