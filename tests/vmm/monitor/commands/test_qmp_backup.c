/* SPDX-License-Identifier: Apache-2.0 */
/* blockdev-backup and drive-backup: images byte for byte, incremental chains, refusals. */
#include "tests/vmm/monitor/commands/backup_rig.h"

/* ---- tests ---- */

static void a_backup_is_the_disk_at_its_start_byte_for_byte(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(
        shell("cd %s && qemu-img create -q -f qcow2 0 4M && "
              "qemu-io -f qcow2 -c 'write -q -P 1 0 1M' -c 'write -q -P 2 2M 64k' 0 && "
              "cp 0 before && qemu-img create -q -f qcow2 t 4M && truncate -s 4M r && "
              "qemu-img create -q -f qcow2 z -o compression_type=zstd 4M",
              f.dir),
        0);
    static const char *const targets[][3] = {
        {"t", "qcow2", ""}, {"r", "raw", ""}, {"z", "qcow2", ",'compress':true"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(targets); i++) {
        disk_open(&f, 0, "qcow2");
        target_open(&f, targets[i][0], targets[i][1], "");
        g_autofree char *backup = g_strdup_printf(
            "{'job-id':'j','device':'disk0','target':'%s','sync':'full','speed':65536%s}",
            targets[i][0], targets[i][2]);
        g_free(qmp_ok(f.rig, "blockdev-backup", backup));
        guest_write(&f, 0, 0, 70000, 9);
        guest_write(&f, 0, (2 << 20) - 1, 2, 9);
        g_free(qmp_ok(f.rig, "block-job-set-speed", "{'device':'j','speed':0}"));
        job_await(&f, "j");
        disk_close(&f, 0);
        target_close(&f, targets[i][0]);
        assert_int_equal(shell("cd %s && qemu-img compare -q before -F %s %s && "
                               "if [ %s != r ]; then qemu-img check -q %s; fi && cp before 0",
                               f.dir, targets[i][1], targets[i][0], targets[i][0], targets[i][0]),
                         0);
    }
    assert_non_null(strstr(f.rig->events->str, "BLOCK_JOB_COMPLETED{\"type\":\"backup\","
                                               "\"device\":\"j\",\"len\":"));
    folder_free(&f);
}

static void a_backup_of_the_top_leaves_out_what_is_below(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(
        shell("cd %s && qemu-img create -q -f qcow2 base 4M && "
              "qemu-io -f qcow2 -c 'write -q -P 1 0 4M' base && "
              "qemu-img create -q -f qcow2 -b base -F qcow2 0 && "
              "qemu-io -f qcow2 -c 'write -q -P 2 1M 64k' -c 'write -q -z 3M 100k' 0 && "
              "cp 0 before && qemu-img create -q -f qcow2 -b base -F qcow2 t",
              f.dir),
        0);
    disk_open(&f, 0, "qcow2");
    target_open(&f, "t", "qcow2", ",'backing':null");
    folder_do(&f, "blockdev-backup",
              "{'job-id':'j','device':'disk0','target':'t','sync':'top','auto-dismiss':false}");
    guest_write(&f, 0, 2 << 20, 512, 9); /* what it does not hold is copied before it is written */
    job_await(&f, "j");
    qmp_returns(f.rig, "query-jobs", NULL, "\"status\":\"concluded\"");
    g_free(qmp_ok(f.rig, "job-dismiss", "{'id':'j'}"));
    disk_close(&f, 0);
    target_close(&f, "t");
    assert_int_equal(shell("cd %s && qemu-img compare -q before t && qemu-img check -q t && "
                           "[ $(stat -c %%s t) -lt 1000000 ]",
                           f.dir),
                     0);
    folder_free(&f);
}

/* A full backup, and then increments on top of each other. */
static void an_incremental_chain_rebuilds_the_image(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(shell("cd %s && qemu-img create -q -f qcow2 0 4M && "
                           "qemu-io -f qcow2 -c 'write -q -P 1 0 4M' 0 && "
                           "qemu-img create -q -f qcow2 t0 4M",
                           f.dir),
                     0);
    disk_open(&f, 0, "qcow2");
    target_open(&f, "t0", "qcow2", "");
    folder_do(&f, "transaction",
              "{'actions':[{'type':'block-dirty-bitmap-add','data':{'node':'disk0','name':'b',"
              "'persistent':true}},{'type':'blockdev-backup','data':{'job-id':'j','device':"
              "'disk0','target':'t0','sync':'full'}}]}");
    guest_write(&f, 0, 12345, 100000, 2);
    job_await(&f, "j");
    target_close(&f, "t0");
    for (unsigned i = 1; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("t%u", i);
        g_autofree char *backup = g_strdup_printf("{'job-id':'j','device':'disk0','target':'%s',"
                                                  "'sync':'incremental','bitmap':'b'}",
                                                  name);
        assert_int_equal(
            shell("cd %s && qemu-img create -q -f qcow2 -b t%u -F qcow2 t%u && cp 0 at%u", f.dir,
                  i - 1, i, i),
            0);
        target_open(&f, name, "qcow2", ",'backing':null");
        g_free(qmp_ok(f.rig, "blockdev-backup", backup));
        guest_write(&f, 0, i * 700000, 90000, (uint8_t)(10 + i));
        job_await(&f, "j");
        target_close(&f, name);
        if (i == 2) { /* the bitmap is kept in the image */
            disk_close(&f, 0);
            disk_open(&f, 0, "qcow2");
        }
        assert_int_equal(shell("cd %s && qemu-img compare -U -q at%u t%u && "
                               "[ $(stat -c %%s t%u) -lt 1500000 ]",
                               f.dir, i, i, i),
                         0);
    }
    disk_close(&f, 0);
    assert_int_equal(shell("cd %s && qemu-img check -q 0", f.dir), 0);
    folder_free(&f);
}

/* ---- drive-backup ---- */

static void drive_backup_makes_its_image(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(shell("cd %s && qemu-img create -q -f qcow2 base 4M && "
                           "qemu-io -f qcow2 -c 'write -q -P 1 0 4M' base && "
                           "qemu-img create -q -f qcow2 -b $PWD/base -F qcow2 0 && "
                           "qemu-io -f qcow2 -c 'write -q -P 2 1M 64k' 0 && cp 0 before && "
                           "qemu-img create -q -f raw old 4M",
                           f.dir),
                     0);
    static const char *const cases[][3] = {
        {"full", "'sync':'full'", "qemu-img info full | grep -q 'backing file' && exit 1; true"},
        {"raw", "'sync':'full','format':'raw'", "true"},
        {"old", "'sync':'full','format':'raw','mode':'existing'", "true"},
        {"top", "'sync':'top','compress':true",
         "qemu-img info top | grep -q 'backing file: .*base'"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        disk_open(&f, 0, "qcow2");
        g_autofree char *backup = g_strdup_printf(
            "{'job-id':'j','device':'disk0','target':'%s/%s',%s}", f.dir, cases[i][0], cases[i][1]);
        g_free(qmp_ok(f.rig, "drive-backup", backup));
        guest_write(&f, 0, 1 << 20, 512, 9);
        job_await(&f, "j");
        disk_close(&f, 0);
        qmp_returns(f.rig, "query-named-block-nodes", NULL, "[]"); /* the target is closed */
        assert_int_equal(shell("cd %s && qemu-img compare -q before %s && %s && cp before 0", f.dir,
                               cases[i][0], cases[i][2]),
                         0);
    }
    folder_free(&f);
}

static void a_read_only_disk_is_copied_to_a_file(void **state)
{
    static const char *const commands[] = {"drive-backup", "drive-mirror"};
    Folder f = folder_new(*state);
    assert_int_equal(shell("cd %s && qemu-img create -q -f qcow2 r 4M && "
                           "qemu-io -f qcow2 -c 'write -q -P 1 0 1M' r",
                           f.dir),
                     0);
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        target_open(&f, "r", "qcow2", ",'read-only':true");
        g_autofree char *args =
            g_strdup_printf("{'job-id':'j','device':'r','target':'%s/%u','sync':'full'}", f.dir, i);
        g_free(qmp_ok(f.rig, commands[i], args));
        if (i == 1) {
            while (strstr(f.rig->events->str, "BLOCK_JOB_READY") == NULL) {
                rig_settle(f.rig);
            }
            g_free(qmp_ok(f.rig, "block-job-cancel", "{'device':'j'}"));
        }
        job_await(&f, "j");
        target_close(&f, "r");
        assert_int_equal(shell("cd %s && qemu-img compare -q r %u", f.dir, i), 0);
    }
    folder_free(&f);
}

static void a_drive_backup_that_cannot_start_leaves_no_file(void **state)
{
    Folder f;
    two_disks(&f, *state);
#define DRIVE(name, more)                                                                          \
    "{'job-id':'" name "','device':'disk0','target':'DIR/" name "','format':'qcow2'," more "}"
    static const char *const cases[][3] = {
        {"drive-backup", DRIVE("a", "'sync':'incremental','bitmap':'no'"), "'no' not found"},
        {"drive-backup", DRIVE("b", "'sync':'full','speed':-1"), "non-negative"},
        {"transaction",
         "{'actions':[{'type':'drive-backup','data':" DRIVE(
             "c", "'sync':'full'") "},{'type':'abort','data':{}}]}",
         "Transaction aborted"},
        {"transaction",
         "{'actions':[{'type':'drive-backup','data':" DRIVE(
             "d", "'sync':'full'") "},{'type':'drive-backup','data':{'job-id':'e','device':'no',"
                                   "'target':'DIR/e','sync':'full'}}]}",
         "Cannot find device='no'"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(GStrv) parts = g_strsplit(cases[i][1], "DIR", -1);
        g_autofree char *args = g_strjoinv(f.dir, parts);
        qmp_fails(f.rig, cases[i][0], args, "GenericError", cases[i][2]);
        rig_settle(f.rig);
        qmp_returns(f.rig, "query-jobs", NULL, "[]");
        assert_int_equal(shell("cd %s && ls a b c d e 2>/dev/null", f.dir) == 0, 0);
    }
    two_disks_end(&f);
}

static void wrong_arguments_are_refused_in_qemus_words(void **state)
{
    Folder f;
    two_disks(&f, *state);
#define ARGS(more) "{'job-id':'j','device':'disk0','target':'t0'," more "}"
    static const char *const cases[][2] = {
        {"{'device':'disk0','target':'t0','sync':'full'}",
         "An explicit job ID is required for this node"},
        {"{'job-id':'j','device':'no','target':'t0','sync':'full'}",
         "Cannot find device='no' nor node-name='no'"},
        {"{'job-id':'j','device':'disk0','target':'no','sync':'full'}",
         "Cannot find device='no' nor node-name='no'"},
        {ARGS("'sync':'incremental'"),
         "must provide a valid bitmap name for 'incremental' sync mode"},
        {ARGS("'sync':'incremental','bitmap':'b','bitmap-mode':'always'"),
         "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'"},
        {ARGS("'sync':'bitmap','bitmap':'b'"),
         "Bitmap sync mode must be given when providing a bitmap"},
        {ARGS("'sync':'none','bitmap':'b','bitmap-mode':'always'"),
         "sync mode 'none' does not produce meaningful bitmap outputs"},
        {ARGS("'sync':'full','bitmap':'b','bitmap-mode':'never'"),
         "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'full'"},
        {ARGS("'sync':'full','bitmap-mode':'always'"),
         "Cannot specify bitmap sync mode without a bitmap"},
        {ARGS("'sync':'full','x-perf':{'max-workers':0}"),
         "max-workers must be between 1 and 2147483647"},
        {ARGS("'sync':'full','x-perf':{'max-chunk':-1}"),
         "max-chunk must be zero (which means no limit) or positive"},
        {ARGS("'sync':'full','speed':-1"), "'speed' expects a non-negative value"},
        {ARGS("'sync':'full','discard-source':true"), "Parameter 'discard-source'"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(f.rig, "blockdev-backup", cases[i][0], "GenericError", cases[i][1]);
    }
    two_disks_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(a_backup_is_the_disk_at_its_start_byte_for_byte),
        QMP_TEST(a_backup_of_the_top_leaves_out_what_is_below),
        QMP_TEST(an_incremental_chain_rebuilds_the_image),
        QMP_TEST(drive_backup_makes_its_image),
        QMP_TEST(a_read_only_disk_is_copied_to_a_file),
        QMP_TEST(a_drive_backup_that_cannot_start_leaves_no_file),
        QMP_TEST(wrong_arguments_are_refused_in_qemus_words),
    };
    return cmocka_run_group_tests_name("qmp backup", tests, NULL, NULL);
}
