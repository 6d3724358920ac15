/* SPDX-License-Identifier: Apache-2.0 */
/* blockdev-backup: images byte for byte, incremental chains, several disks in one transaction. */
#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

typedef struct Folder {
    QmpRig *rig;
    char *dir;
    BlockBackend *guest[2];
} Folder;

static int __attribute__((format(printf, 1, 2))) shell(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    return system(command);
}

/* Runs a command whose arguments have the folder's name in place of "DIR". */
static void folder_do(Folder *f, const char *command, const char *args)
{
    g_auto(GStrv) parts = g_strsplit(args, "DIR", -1);
    g_autofree char *text = g_strjoinv(f->dir, parts);
    g_free(qmp_ok(f->rig, command, text));
}

/* ---- guests ---- */

typedef struct Guest {
    Folder *f;
    unsigned disk;
    uint64_t offset, bytes;
    uint8_t value;
    void (*fn)(struct Guest *g);
    bool done;
} Guest;

static void guest_run(void *opaque)
{
    Guest *g = opaque;
    enter_main();
    enter_coroutine();
    g->fn(g);
    g->done = true;
}

static void guest_do(Folder *f, Guest *g, void (*fn)(Guest *g))
{
    g->f = f;
    g->fn = fn;
    co_start(f->rig->vm.ctx, guest_run, g);
    while (!g->done) {
        aio_context_step(f->rig->vm.ctx, true);
    }
}

static void guest_attach(Guest *g)
{
    enter_main();
    enter_coroutine();
    BlockNode *n = block_node_find(g->disk == 0 ? "disk0" : "disk1");
    g->f->guest[g->disk] = blk_co_new(g->disk == 0 ? "vd0" : "vd1", n, true, NULL);
    assert_non_null(g->f->guest[g->disk]);
}

static void guest_detach(Guest *g)
{
    enter_main();
    enter_coroutine();
    blk_co_free(g->f->guest[g->disk]);
}

static void guest_write_at_home(void *opaque)
{
    Guest *g = opaque;
    BlockBackend *blk = g->f->guest[g->disk];
    g_autofree uint8_t *data = g_malloc(g->bytes);
    memset(data, g->value, g->bytes);
    struct iovec iov = {data, g->bytes};
    enter_coroutine();
    enter_iothread(blk_home(blk));
    assert_int_equal(blk_co_pwritev(blk, g->offset, g->bytes, &iov, 1, 0), 0);
    assert_int_equal(blk_co_flush(blk), 0);
}

static void guest_write_once(Guest *g)
{
    enter_coroutine();
    co_call_in(blk_home(g->f->guest[g->disk]), guest_write_at_home, g);
}

static void guest_write(Folder *f, unsigned disk, uint64_t offset, uint64_t bytes, uint8_t value)
{
    Guest g = {.disk = disk, .offset = offset, .bytes = bytes, .value = value};
    guest_do(f, &g, guest_write_once);
}

/* ---- disks ---- */

static Folder folder_new(QmpRig *rig)
{
    Folder f = {.rig = rig, .dir = g_strdup("build/skiff-qmp-backup-XXXXXX")};
    assert_non_null(g_mkdtemp(f.dir));
    return f;
}

static void disk_open(Folder *f, unsigned disk, const char *format)
{
    g_autofree char *add = g_strdup_printf(
        "{'driver':'%s','node-name':'disk%u','file':{'driver':'file','filename':'%s/%u'}}", format,
        disk, f->dir, disk);
    g_free(qmp_ok(f->rig, "blockdev-add", add));
    Guest g = {.disk = disk};
    guest_do(f, &g, guest_attach);
}

static void disk_close(Folder *f, unsigned disk)
{
    Guest g = {.disk = disk};
    g_autofree char *del = g_strdup_printf("{'node-name':'disk%u'}", disk);
    guest_do(f, &g, guest_detach);
    g_free(qmp_ok(f->rig, "blockdev-del", del));
}

static void target_open(Folder *f, const char *name, const char *format, const char *more)
{
    g_autofree char *add = g_strdup_printf(
        "{'driver':'%s','node-name':'%s','file':{'driver':'file','filename':'%s/%s'}%s}", format,
        name, f->dir, name, more);
    g_free(qmp_ok(f->rig, "blockdev-add", add));
}

static void target_close(Folder *f, const char *name)
{
    g_autofree char *del = g_strdup_printf("{'node-name':'%s'}", name);
    g_free(qmp_ok(f->rig, "blockdev-del", del));
}

static void folder_free(Folder *f)
{
    assert_int_equal(shell("rm -r %s", f->dir), 0);
    g_free(f->dir);
}

static void job_await(Folder *f, const char *id)
{
    enter_main();
    while (job_find(id) != NULL && job_status(job_find(id)) != JOB_STATUS_CONCLUDED) {
        aio_context_step(f->rig->vm.ctx, true);
    }
}

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

#define BACKUP(disk, more)                                                                         \
    "{'type':'blockdev-backup','data':{'job-id':'j" disk "','device':'disk" disk                   \
    "','target':'t" disk "','sync':'full','auto-dismiss':false" more "}}"

static void two_disks(Folder *f, QmpRig *rig)
{
    *f = folder_new(rig);
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *target = g_strdup_printf("t%u", i);
        assert_int_equal(
            shell("cd %s && qemu-img create -q -f qcow2 %u 1M && cp %u t%u", f->dir, i, i, i), 0);
        disk_open(f, i, "qcow2");
        guest_write(f, i, 0, 1 << 20, (uint8_t)(1 + i));
        target_open(f, target, "qcow2", "");
        g_autofree char *add = g_strdup_printf("{'node':'disk%u','name':'b'}", i);
        g_free(qmp_ok(rig, "block-dirty-bitmap-add", add));
    }
}

static void two_disks_end(Folder *f)
{
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *target = g_strdup_printf("t%u", i);
        disk_close(f, i);
        target_close(f, target);
    }
    folder_free(f);
}

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
        QMP_TEST(a_transaction_that_fails_starts_no_job),
        QMP_TEST(grouped_backups_succeed_together),
        QMP_TEST(grouped_backups_fail_together_and_keep_their_bitmaps),
        QMP_TEST(wrong_arguments_are_refused_in_qemus_words),
    };
    return cmocka_run_group_tests_name("qmp backup", tests, NULL, NULL);
}
