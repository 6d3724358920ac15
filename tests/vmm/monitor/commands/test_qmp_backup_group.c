/* SPDX-License-Identifier: Apache-2.0 */
/* Backups and external snapshots of several disks in one transaction. */
#include "tests/vmm/monitor/commands/backup_rig.h"

#define BACKUP(disk, more)                                                                         \
    "{'type':'blockdev-backup','data':{'job-id':'j" disk "','device':'disk" disk                   \
    "','target':'t" disk "','sync':'full','auto-dismiss':false" more "}}"

static void a_transaction_that_fails_starts_no_job(void **state)
{
    Folder f;
    two_disks(&f, *state);
    static const char *const texts[] = {
        "{'actions':[" BACKUP("0", "") "," BACKUP("1", "") ",{'type':'abort','data':{}}]}",
        "{'actions':[" BACKUP("0", "") ",{'type':'abort','data':{}}," BACKUP("1", "") "]}",
        "{'actions':[" BACKUP("0", "") "," BACKUP("0", "") "]}",
        "{'actions':[" BACKUP("0", "") "," BACKUP("1",
                                                  ",'bitmap':'no','bitmap-mode':'always'") "]}",
    };
    static const char *const says[] = {"Transaction aborted", "Transaction aborted",
                                       "Job ID 'j0' already in use", "Dirty bitmap 'no' not found"};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *before = qmp_ok(f.rig, "query-named-block-nodes", NULL);
        qmp_fails(f.rig, "transaction", texts[i], "GenericError", says[i]);
        rig_settle(f.rig);
        qmp_returns(f.rig, "query-jobs", NULL, "[]");
        g_autofree char *after = qmp_ok(f.rig, "query-named-block-nodes", NULL);
        assert_string_equal(before, after); /* no filter is left */
    }
    guest_write(&f, 0, 0, 512, 7);
    two_disks_end(&f);
}

static void grouped_backups_succeed_together(void **state)
{
    Folder f;
    two_disks(&f, *state);
    g_free(qmp_ok(f.rig, "transaction",
                  "{'actions':[" BACKUP("0", "") "," BACKUP(
                      "1", ",'speed':65536") "],'properties':{'completion-mode':'grouped'}}"));
    guest_write(&f, 1, 1000000, 512, 9);
    enter_main();
    while (job_status(job_find("j0")) != JOB_STATUS_WAITING) {
        aio_context_step(f.rig->vm.ctx, true);
    }
    g_free(qmp_ok(f.rig, "block-job-set-speed", "{'device':'j1','speed':0}"));
    job_await(&f, "j0");
    job_await(&f, "j1");
    assert_null(job_error_text(job_find("j0")));
    assert_null(job_error_text(job_find("j1")));
    g_free(qmp_ok(f.rig, "job-dismiss", "{'id':'j0'}"));
    g_free(qmp_ok(f.rig, "job-dismiss", "{'id':'j1'}"));
    two_disks_end(&f);
}

static void grouped_backups_fail_together_and_keep_their_bitmaps(void **state)
{
    Folder f;
    two_disks(&f, *state);
    g_free(qmp_ok(
        f.rig, "transaction",
        "{'actions':[" BACKUP("0", ",'bitmap':'b','bitmap-mode':'on-success'") "," BACKUP(
            "1",
            ",'speed':65536,'bitmap':'b','bitmap-mode':'on-success'") "],'properties':{'completion-"
                                                                      "mode':'grouped'}}"));
    guest_write(&f, 0, 0, 512, 9);
    qmp_returns(f.rig, "query-named-block-nodes", NULL, "\"busy\":true");
    g_free(qmp_ok(f.rig, "block-job-cancel", "{'device':'j1'}"));
    job_await(&f, "j0");
    job_await(&f, "j1");
    qmp_returns(f.rig, "query-block-jobs", NULL, "\"error\":\"Operation canceled\"");
    g_free(qmp_ok(f.rig, "job-dismiss", "{'id':'j0'}"));
    g_free(qmp_ok(f.rig, "job-dismiss", "{'id':'j1'}"));
    g_autofree char *nodes = qmp_ok(f.rig, "query-named-block-nodes", NULL);
    assert_null(strstr(nodes, "\"busy\":true"));
    assert_null(strstr(nodes, "copy-before-write"));
    two_disks_end(&f);
}

/* ---- snapshots and backups in one transaction ---- */

#define SNAPSHOT(disk)                                                                             \
    "{'type':'blockdev-snapshot-sync','data':{'node-name':'disk" disk                              \
    "','snapshot-file':'DIR/o" disk "','snapshot-node-name':'over" disk "'}}"

static void external_snapshots_are_actions(void **state)
{
    Folder f;
    two_disks(&f, *state);
    static const char *const fails =
        "{'actions':[" SNAPSHOT("0") ",{'type':'block-dirty-bitmap-clear','data':{'node':'disk1',"
                                     "'name':'b'}}," SNAPSHOT("1") ",{'type':'abort','data':{}}]}";
    g_auto(GStrv) parts = g_strsplit(fails, "DIR", -1);
    g_autofree char *args = g_strjoinv(f.dir, parts);
    g_autofree char *before = qmp_ok(f.rig, "query-named-block-nodes", NULL);
    qmp_fails(f.rig, "transaction", args, "GenericError", "Transaction aborted");
    g_autofree char *after = qmp_ok(f.rig, "query-named-block-nodes", NULL);
    assert_string_equal(before, after);
    assert_int_equal(shell("ls %s/o0 %s/o1 2>/dev/null", f.dir, f.dir) == 0, 0);
    guest_write(&f, 0, 0, 512, 7);
    folder_do(&f, "transaction", "{'actions':[" SNAPSHOT("0") "," SNAPSHOT("1") "]}");
    guest_write(&f, 0, 0, 512, 8); /* to the overlay */
    assert_int_equal(shell("cd %s && qemu-io -r -U -f qcow2 -c 'read -q -P 7 0 512' 0 && "
                           "qemu-io -r -U -f qcow2 -c 'read -q -P 8 0 512' o0 && ls o1 >/dev/null",
                           f.dir),
                     0);
    for (unsigned i = 0; i < 2; i++) {
        Guest g = {.disk = i};
        g_autofree char *disk = g_strdup_printf("{'node-name':'disk%u'}", i);
        g_autofree char *target = g_strdup_printf("t%u", i);
        guest_do(&f, &g, guest_detach);
        g_free(qmp_ok(f.rig, "blockdev-del", disk));
        target_close(&f, target);
    }
    folder_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(a_transaction_that_fails_starts_no_job),
        QMP_TEST(grouped_backups_succeed_together),
        QMP_TEST(grouped_backups_fail_together_and_keep_their_bitmaps),
        QMP_TEST(external_snapshots_are_actions),
    };
    return cmocka_run_group_tests_name("qmp backup group", tests, NULL, NULL);
}
