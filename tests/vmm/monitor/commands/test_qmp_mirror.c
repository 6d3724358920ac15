/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP and HMP commands for mirrors. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "tests/support/shell.h"
#include "util/sys/sys_fault.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

#define MIRROR "blockdev-mirror"
#define DRIVE "drive-mirror"

static char *disk_add(QmpRig *rig)
{
    char *path = g_strdup("build/skiff-qmp-mirror-XXXXXX");
    close(g_mkstemp(path));
    assert_int_equal(shell("head -c 1M /dev/urandom > %s", path), 0);
    g_autofree char *add = with_path("{'driver':'raw','node-name':'disk','file':{'driver':'file',"
                                     "'node-name':'file','filename':'@'}}",
                                     path);
    g_free(qmp_ok(rig, "blockdev-add", add));
    g_free(qmp_ok(rig, "blockdev-add", "{'driver':'mem','node-name':'target','size':'1M'}"));
    return path;
}

static void disk_del(QmpRig *rig, char *path)
{
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'disk'}"));
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'target'}"));
    assert_int_equal(shell("rm -f %s %s.copy", path, path), 0);
    g_free(path);
}

/* Runs the loops until the answer to a query has @text. */
static void await(QmpRig *rig, const char *query, const char *text)
{
    for (;;) {
        g_autofree char *answer = qmp_ok(rig, query, "{}");
        if (strstr(answer, text) != NULL) {
            return;
        }
        rig_settle(rig);
        sched_yield(); /* the iothread changes it */
    }
}

static void a_mirror_is_started_queried_and_completed(void **state)
{
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    g_free(qmp_ok(rig, MIRROR,
                  "{'job-id':'j','device':'disk','target':'target','sync':'full',"
                  "'filter-node-name':'top'}"));
    await(rig, "query-jobs", "\"status\":\"ready\"");
    qmp_returns(rig, "query-block-jobs", NULL,
                "\"type\":\"mirror\",\"device\":\"j\",\"len\":1048576,\"offset\":1048576");
    qmp_returns(rig, "query-block-jobs", NULL, "\"actively-synced\":false");
    qmp_returns(rig, "query-named-block-nodes", "{}", "\"mirror_top\"");
    qmp_fails(rig, "blockdev-del", "{'node-name':'target'}", "GenericError", "Node target is");
    g_free(
        qmp_ok(rig, "block-job-change", "{'id':'j','type':'mirror','copy-mode':'write-blocking'}"));
    await(rig, "query-block-jobs", "\"actively-synced\":true");
    qmp_fails(rig, "block-job-change", "{'id':'j','type':'mirror','copy-mode':'background'}",
              "GenericError", "Change to copy mode 'background' is not implemented");
    g_free(qmp_ok(rig, "block-job-complete", "{'device':'j'}"));
    await(rig, "query-jobs", "[]");
    g_autofree char *nodes = qmp_ok(rig, "query-named-block-nodes", "{}");
    assert_null(strstr(nodes, "mirror_top"));
    disk_del(rig, path);
}

static void the_copy_mode_of_a_concluded_mirror_does_not_change(void **state)
{
    static const char *const modes[] = {"background", "write-blocking"};
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    g_free(qmp_ok(rig, MIRROR,
                  "{'job-id':'j','device':'disk','target':'target','sync':'full',"
                  "'auto-dismiss':false}"));
    await(rig, "query-jobs", "\"status\":\"ready\"");
    g_free(qmp_ok(rig, "block-job-cancel", "{'device':'j','force':true}"));
    await(rig, "query-jobs", "\"status\":\"concluded\"");
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *args =
            g_strdup_printf("{'id':'j','type':'mirror','copy-mode':'%s'}", modes[i]);
        qmp_fails(rig, "block-job-change", args, "GenericError",
                  "Job 'j' in state 'concluded' cannot accept command verb 'change'");
    }
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'j'}"));
    disk_del(rig, path);
}

static void the_image_of_drive_mirror_is_made_and_equals_the_disk(void **state)
{
    static const char *const formats[] = {"", ",'format':'qcow2'"};
    QmpRig *rig = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        char *path = disk_add(rig);
        g_autofree char *args = g_strdup_printf(
            "{'job-id':'j','device':'disk','target':'%s.copy','sync':'full'%s}", path, formats[i]);
        g_free(qmp_ok(rig, DRIVE, args));
        await(rig, "query-jobs", "\"status\":\"ready\"");
        g_free(qmp_ok(rig, "block-job-cancel", "{'device':'j'}"));
        await(rig, "query-jobs", "[]");
        assert_int_equal(shell("qemu-img compare -q -U -f raw -F %s %s %s.copy",
                               i == 0 ? "raw" : "qcow2", path, path),
                         0);
        disk_del(rig, path);
    }
}

/* The file system is full. */
static void a_full_disk_is_named_with_the_file(void **state)
{
    static const char *const formats[] = {"qcow2", "raw"};
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *args =
            g_strdup_printf("{'job-id':'j','device':'disk','target':'%s.copy','sync':'full',"
                            "'format':'%s'}",
                            path, formats[i]);
        g_autofree char *file = g_strdup_printf("%s.copy", path);
        sys_fault_set(&(SysFault){.calls = "ftruncate,pwrite,pwritev,pwritev2,fallocate,io_submit",
                                  .error = ENOSPC});
        qmp_fails(rig, DRIVE, args, "GenericError", "No space left on device");
        qmp_fails(rig, DRIVE, args, "GenericError", file);
        assert_true(sys_fault_hits() > 0);
        sys_fault_set(NULL);
        assert_false(g_file_test(file, G_FILE_TEST_EXISTS));
    }
    disk_del(rig, path);
}

static void wrong_arguments_are_refused_in_qemus_words(void **state)
{
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    static const char *const cases[][3] = {
        {MIRROR, "{'device':'no','target':'target','sync':'full','job-id':'j'}",
         "Cannot find device='no' nor node-name='no'"},
        {MIRROR, "{'device':'disk','target':'no','sync':'full','job-id':'j'}",
         "Cannot find device='no' nor node-name='no'"},
        {MIRROR, "{'device':'disk','target':'target','sync':'full'}",
         "An explicit job ID is required"},
        {MIRROR, "{'device':'disk','target':'disk','sync':'full','job-id':'j'}",
         "Can't mirror node into itself"},
        {MIRROR,
         "{'device':'disk','target':'target','sync':'full','job-id':'j','granularity':1000}",
         "Parameter 'granularity' expects a power of 2"},
        {MIRROR, "{'device':'disk','target':'target','sync':'full','job-id':'j','granularity':100}",
         "Parameter 'granularity' expects a value in range [512B, 64MB]"},
        {MIRROR, "{'device':'disk','target':'target','sync':'full','job-id':'j','buf-size':-1}",
         "Invalid parameter 'buf-size'"},
        {MIRROR, "{'device':'disk','target':'target','sync':'full','job-id':'j','speed':-1}",
         "Parameter 'speed' expects a non-negative value"},
        {MIRROR, "{'device':'disk','target':'target','sync':'full','job-id':'j','replaces':'no'}",
         "Failed to find node with node-name='no'"},
        {MIRROR, "{'device':'disk','target':'target','sync':'full','job-id':'j','replaces':'file'}",
         "Cannot replace 'file' by a node mirrored from 'disk', because it cannot be guaranteed "
         "that doing so would not lead to an abrupt change of visible data"},
        {MIRROR, "{'device':'disk','target':'target','sync':'incremental','job-id':'j'}",
         "Sync mode 'incremental' needs a bitmap"},
        {MIRROR, "{'device':'disk','target':'target','sync':'full','bitmap':'b','job-id':'j'}",
         "A bitmap needs sync mode 'bitmap' or 'incremental'"},
        {DRIVE, "{'device':'disk','target':'@.copy','sync':'full','job-id':'j','replaces':'disk'}",
         "a node-name must be provided when replacing a named node of the graph"},
        {DRIVE, "{'device':'disk','target':'@.copy','sync':'full','job-id':'j','mode':'existing'}",
         "No such file"},
        {DRIVE, "{'device':'disk','target':'@.copy','sync':'full','job-id':'0'}", "Invalid job ID"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *args = with_path(cases[i][1], path);
        qmp_fails(rig, cases[i][0], args, "GenericError", cases[i][2]);
    }
    qmp_fails(rig, "block-job-change", "{'id':'no','type':'mirror','copy-mode':'background'}",
              "DeviceNotActive", "Block job 'no' not found");
    assert_int_not_equal(shell("test -e %s.copy", path), 0);
    disk_del(rig, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(a_mirror_is_started_queried_and_completed),
        QMP_TEST(the_copy_mode_of_a_concluded_mirror_does_not_change),
        QMP_TEST(the_image_of_drive_mirror_is_made_and_equals_the_disk),
        QMP_TEST(a_full_disk_is_named_with_the_file),
        QMP_TEST(wrong_arguments_are_refused_in_qemus_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
