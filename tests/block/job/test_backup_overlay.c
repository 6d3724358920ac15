/* SPDX-License-Identifier: Apache-2.0 */
/* Backup to an overlay of its source. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overlay_of_the_source_shows_the_point_in_time),
        cmocka_unit_test(a_reader_of_the_overlay_does_not_see_a_later_write),
    };
    return job_test_main(tests);
}
