/* SPDX-License-Identifier: Apache-2.0 */
/* Backup to an overlay of its source, and the driver copy-before-write. */
#include "tests/block/job/backup_test.h"

static coroutine_fn RUNS_IN_MAIN void fleece_open(BackupRig *r)
{
    g_autofree char *path = test_file_new(0);
    g_autofree char *create = g_strdup_printf("qemu-img create -q -f qcow2 %s 1M", path);
    g_autofree char *overlay =
        g_strdup_printf("qcow2,node-name=t,file.driver=file,file.filename=%s,backing=s", path);
    assert_int_equal(system(create), 0);
    r->source = test_node_add(BACKUP_SOURCE);
    r->guest = blk_co_new("guest", r->source, true, NULL);
    backup_guest_write(r, 0, BACKUP_SIZE, 1);
    r->target = test_node_add(overlay); /* although a guest writes to the source */
    unlink(path);
    g_autoptr(GError) error = NULL;
    assert_null(blk_co_new("reader", r->target, false, &error));
    assert_non_null(strstr(error->message, "needs the data of node 's' unchanged"));
}

static coroutine_fn RUNS_IN_MAIN void fleece_close(BackupRig *r)
{
    test_node_del("t");
    blk_co_free(r->guest);
    test_settle();
    test_node_del("s");
}

BLOCK_TEST(an_overlay_of_the_source_shows_the_point_in_time)
{
    BackupRig r;
    fleece_open(&r);
    g_autofree uint8_t *before = job_content(r.source);
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    assert_ptr_equal(r.target->backing, r.source); /* not the filter */
    for (unsigned i = 0; i < 20; i++) {
        backup_guest_write(&r, (i * 7 % 16) * BACKUP_UNIT + i * 512, 700, i + 2);
        backup_expect_content(r.target, before);
    }
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    backup_guest_write(&r, 0, 512, 99);
    assert_null(blk_co_new("reader", r.target, false, NULL)); /* nothing keeps its data any more */
    fleece_close(&r);
}

/* A read of the overlay is on its way to the source when the guest is about to write there. */
BLOCK_TEST(a_reader_of_the_overlay_does_not_see_a_later_write)
{
    BackupRig r;
    uint8_t data[512] = {0}, found[512];
    fleece_open(&r);
    g_autofree uint8_t *before = job_content(r.source);
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    BlockBackend *reader = blk_co_new("reader", r.target, false, NULL);
    assert_non_null(reader);
    job_set_fault(r.source, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true, .count = 1});
    TestRequest read = {.blk = reader, .op = TEST_READ, .bytes = sizeof(found), .buf = found};
    test_start(&read);
    job_await_held(r.source, 1);
    TestRequest write = {.blk = r.guest, .op = TEST_WRITE, .bytes = sizeof(data), .buf = data};
    test_start(&write);
    for (unsigned i = 0; i < 50; i++) {
        test_settle();
    }
    assert_int_equal(write.completions, 0); /* the copy waits for the reader */
    job_release(r.source);
    assert_int_equal(test_finish(&read), 0);
    assert_int_equal(test_finish(&write), 0);
    assert_memory_equal(found, before, sizeof(found));
    backup_expect_content(r.target, before);
    blk_co_free(reader);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    fleece_close(&r);
}

/* ---- the driver for users ---- */

#define CBW(more)                                                                                  \
    "copy-before-write,node-name=f,file.driver=fault,file.node-name=s,file.file.driver=mem,"       \
    "file.file.size=1M,target.driver=fault,target.node-name=t,target.file.driver=mem,"             \
    "target.file.size=1M" more

static coroutine_fn RUNS_IN_MAIN BlockBackend *cbw_open(const char *description)
{
    BlockNode *filter = test_node_add(description);
    BlockBackend *blk = blk_co_new("guest", filter, true, NULL);
    assert_non_null(blk);
    return blk;
}

static coroutine_fn RUNS_IN_MAIN void cbw_close(BlockBackend *blk)
{
    blk_co_free(blk);
    test_node_del("f");
    assert_null(block_node_find("t"));
}

static coroutine_fn RUNS_IN_MAIN void cbw_write(BlockBackend *blk, uint64_t offset, uint8_t value,
                                                int result)
{
    uint8_t data[512];
    memset(data, value, sizeof(data));
    assert_int_equal(test_io(blk, TEST_WRITE, offset, sizeof(data), data, 0), result);
}

BLOCK_TEST(the_filter_of_a_user_copies_before_writes)
{
    BlockBackend *blk = cbw_open(CBW(""));
    g_autofree uint8_t *expected = g_malloc0(BACKUP_SIZE);
    cbw_write(blk, 0, 1, 0);
    cbw_write(blk, 512, 2, 0);
    backup_expect_content(block_node_find("t"), expected);
    uint8_t data[512];
    assert_int_equal(test_io(blk, TEST_READ, 512, sizeof(data), data, 0), 0);
    assert_int_equal(data[0], 2);
    cbw_close(blk);
}

BLOCK_TEST(a_copy_of_the_filter_that_fails_follows_on_cbw_error)
{
    BlockFault fault = {.op = BLOCK_FAULT_ANY, .error = EIO};
    BlockBackend *blk = cbw_open(CBW(""));
    job_set_fault(block_node_find("t"), fault);
    cbw_write(blk, 0, 1, -EIO);
    job_set_fault(block_node_find("t"), (BlockFault){0});
    cbw_write(blk, 0, 1, 0);
    cbw_close(blk);
    blk = cbw_open(CBW(",on-cbw-error=break-snapshot"));
    job_set_fault(block_node_find("t"), fault);
    cbw_write(blk, 0, 1, 0);
    job_set_fault(block_node_find("t"), (BlockFault){0});
    cbw_write(blk, BACKUP_UNIT, 1, 0);
    cbw_close(blk);
}

BLOCK_TEST(a_copy_of_the_filter_has_a_time_limit)
{
    BlockBackend *blk = cbw_open(CBW(",cbw-timeout=1"));
    BlockNode *target = block_node_find("t");
    job_set_fault(target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    cbw_write(blk, 0, 1, -ETIMEDOUT);
    cbw_write(blk, 512, 1, -ETIMEDOUT); /* the same cluster */
    assert_int_equal(block_fault_held(target), 1);
    job_release(target);
    cbw_write(blk, 0, 1, 0);
    cbw_close(blk);
}

BLOCK_TEST(the_filter_copies_what_a_bitmap_has)
{
    BlockNode *with = test_node_add("mem,node-name=with,size=1M");
    assert_true(block_dirty_bitmap_co_add(with, "b", BACKUP_UNIT, 0, NULL));
    BlockBackend *blk = blk_co_new("w", with, true, NULL);
    cbw_write(blk, BACKUP_UNIT, 1, 0);
    blk_co_free(blk);
    blk = cbw_open(CBW(",bitmap.node=with,bitmap.name=b,target.fail-op=any"));
    cbw_write(blk, 0, 1, 0);
    cbw_write(blk, BACKUP_UNIT, 1, -EIO);
    cbw_close(blk);
    test_node_del("with");
}

BLOCK_TEST(wrong_options_of_the_filter_are_refused)
{
#define BAD "copy-before-write,file.driver=null-co,file.size=1M,"
    test_open_fails(BAD "on-cbw-error=break-guest-write", "needs target=");
    test_open_fails(BAD "target.driver=null-co,target.size=2M", "have different sizes");
    test_open_fails(BAD "target.driver=null-co,target.size=1M,bitmap.name=b", "must name a bitmap");
    test_open_fails(BAD "target.driver=null-co,target.size=1M,cbw-timeout=-1", "cbw-timeout");
    test_open_fails(BAD "target.driver=null-co,target.size=1M,on-cbw-error=x", "on-cbw-error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overlay_of_the_source_shows_the_point_in_time),
        cmocka_unit_test(a_reader_of_the_overlay_does_not_see_a_later_write),
        cmocka_unit_test(the_filter_of_a_user_copies_before_writes),
        cmocka_unit_test(a_copy_of_the_filter_that_fails_follows_on_cbw_error),
        cmocka_unit_test(a_copy_of_the_filter_has_a_time_limit),
        cmocka_unit_test(the_filter_copies_what_a_bitmap_has),
        cmocka_unit_test(wrong_options_of_the_filter_are_refused),
    };
    return job_test_main(tests);
}
