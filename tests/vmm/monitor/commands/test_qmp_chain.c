/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP commands on chains: external snapshots, also in transactions, commit, stream. */
#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "block/node.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "vmm/backends/drive_options.h"

#define SYNC "blockdev-snapshot-sync"
#define SNAPSHOT "blockdev-snapshot"

static char *disk_add(QmpRig *rig)
{
    char *path = g_strdup("build/skiff-qmp-chain-XXXXXX");
    close(g_mkstemp(path));
    assert_int_equal(shell("truncate -s 1M %s", path), 0);
    g_autofree char *add = with_path("{'driver':'raw','node-name':'disk','file':{'driver':'file',"
                                     "'node-name':'file','filename':'@'}}",
                                     path);
    g_free(qmp_ok(rig, "blockdev-add", add));
    return path;
}

static void disk_del(QmpRig *rig, char *path)
{
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'disk'}"));
    assert_int_equal(shell("rm -f %s %s.over", path, path), 0);
    g_free(path);
}

static void an_overlay_is_made_and_named(void **state)
{
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    g_autofree char *args = with_path(
        "{'node-name':'disk','snapshot-file':'@.over','snapshot-node-name':'over'}", path);
    qmp_returns(rig, SYNC, args, "{}");
    assert_int_equal(shell("qemu-img info -U --output=json %s.over | "
                           "grep -q '\"full-backing-filename\": \"/.*%s\"'",
                           path, path),
                     0);
    /* The overlay had no user that keeps it. */
    assert_null(block_node_find("over"));
    disk_del(rig, path);
}

static void an_open_node_becomes_the_overlay(void **state)
{
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    assert_int_equal(shell("qemu-img create -q -f qcow2 %s.over 1M", path), 0);
    g_autofree char *add = with_path("{'driver':'qcow2','node-name':'over','backing':null,"
                                     "'file':{'driver':'file','filename':'@.over'}}",
                                     path);
    g_free(qmp_ok(rig, "blockdev-add", add));
    qmp_returns(rig, SNAPSHOT, "{'node':'disk','overlay':'over'}", "{}");
    qmp_returns(rig, "query-named-block-nodes", "{}", "\"backing_file_depth\":1");
    qmp_fails(rig, SNAPSHOT, "{'node':'file','overlay':'over'}", "GenericError",
              "The overlay already has a backing image");
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'over'}"));
    disk_del(rig, path);
}

static void wrong_arguments_are_refused_in_qemus_words(void **state)
{
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    static const char *const cases[][3] = {
        {SYNC, "{'device':'no','snapshot-file':'@.over'}",
         "Cannot find device='no' nor node-name=''"},
        {SYNC, "{'node-name':'no','snapshot-file':'@.over','snapshot-node-name':'o'}",
         "Cannot find device='' nor node-name='no'"},
        {SYNC, "{'node-name':'disk','snapshot-file':'@.over'}", "New overlay node-name missing"},
        {SYNC, "{'node-name':'disk','snapshot-file':'@.over','snapshot-node-name':'file'}",
         "New overlay node-name already in use"},
        {SYNC,
         "{'node-name':'disk','snapshot-file':'@.over','snapshot-node-name':'o','format':'raw'}",
         "Backing file not supported for file format 'raw'"},
        {SYNC,
         "{'node-name':'disk','snapshot-file':'@.over','snapshot-node-name':'o',"
         "'mode':'existing'}",
         "No such file"},
        {SYNC, "{'node-name':'disk','snapshot-file':'','snapshot-node-name':'o'}",
         "not the name of a file"},
        {SNAPSHOT, "{'node':'disk','overlay':'no'}", "Cannot find device='no' nor node-name='no'"},
        {SNAPSHOT, "{'node':'no','overlay':'disk'}", "Cannot find device='no' nor node-name='no'"},
        {SNAPSHOT, "{'node':'disk','overlay':'file'}",
         "The overlay does not support backing images"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *args = with_path(cases[i][1], path);
        qmp_fails(rig, cases[i][0], args, "GenericError", cases[i][2]);
    }
    assert_int_not_equal(shell("test -e %s.over", path), 0);
    disk_del(rig, path);
}

/* While the overlay is made, a job replaces the disk's node. */
static void a_disk_with_another_node_meanwhile_is_not_snapshotted(void **state)
{
    QmpRig *rig = *state;
    RigCall call;
    char *path = disk_add(rig);
    g_free(qmp_ok(rig, "blockdev-add", "{'driver':'null-co','node-name':'other','size':1048576}"));
    BlockEdge root = {.node = block_node_find("disk")};
    BlockDrive drive = {.id = (char *)"d0", .root = &root};
    g_ptr_array_add(rig->vm.backends.drives, &drive);
    g_autofree char *args =
        with_path("{'device':'d0','snapshot-file':'@.over','snapshot-node-name':'over'}", path);
    rig_call_start(rig, &call, SYNC, args);
    aio_context_step(rig->vm.ctx, true); /* a worker makes the file */
    assert_false(call.done);
    root.node = block_node_find("other");
    rig_call_finish(&call);
    assert_non_null(call.error);
    assert_non_null(strstr(call.error->message, "The disk has got another node meanwhile"));
    g_error_free(call.error);
    g_ptr_array_remove(rig->vm.backends.drives, &drive);
    assert_null(block_node_find("over"));
    assert_int_not_equal(shell("test -e %s.over", path), 0);
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'other'}"));
    disk_del(rig, path);
}

/* ---- transactions ---- */

#define ACTION(file, name)                                                                         \
    "{'type':'blockdev-snapshot-sync','data':{'node-name':'disk','snapshot-file':'" file           \
    "','snapshot-node-name':'" name "'}}"

static void snapshots_of_a_transaction_are_all_made_or_none(void **state)
{
    QmpRig *rig = *state;
    char *path = disk_add(rig);
    g_free(qmp_ok(rig, "blockdev-add",
                  "{'driver':'raw','node-name':'user','read-only':true,'file':'disk'}"));
    g_autofree char *aborted =
        with_path("{'actions':[" ACTION("@.over", "over") ",{'type':'abort','data':{}}]}", path);
    qmp_fails(rig, "transaction", aborted, "GenericError", "Transaction aborted");
    assert_int_not_equal(shell("test -e %s.over", path), 0);
    assert_string_equal(block_node_name(block_node_find("disk")), "disk");
    g_autofree char *refused = with_path(
        "{'actions':[" ACTION("@.over", "over") "," ACTION("/nowhere/x", "other") "]}", path);
    qmp_fails(rig, "transaction", refused, "GenericError", "Could not create '/nowhere/x'");
    assert_int_not_equal(shell("test -e %s.over", path), 0);
    g_autofree char *twice =
        with_path("{'actions':[" ACTION("@.over", "over") "," ACTION("@.more", "more") "]}", path);
    qmp_fails(rig, "transaction", twice, "GenericError",
              "Node 'disk' is busy: node is used as backing hd of 'over'");
    assert_int_not_equal(shell("test -e %s.over || test -e %s.more", path, path), 0);
    assert_null(block_node_find("over"));
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'user'}"));
    disk_del(rig, path);
}

/* ---- commit, stream ---- */

/* "n0" <- "n1" <- "n2", in files path.0, path.1, path.2. */
static char *chain_add(QmpRig *rig)
{
    char *path = g_strdup("build/skiff-qmp-chain-XXXXXX");
    close(g_mkstemp(path));
    assert_int_equal(
        shell("cd build && p=$(basename %s) && qemu-img create -q -f qcow2 $p.0 1M && "
              "qemu-img create -q -f qcow2 -b $p.0 -F qcow2 $p.1 && "
              "qemu-img create -q -f qcow2 -b $p.1 -F qcow2 $p.2 && "
              "qemu-io -c 'write -q -P 1 0 512k' $p.0 && qemu-io -c 'write -q -P 2 256k 512k' $p.1 "
              "&& qemu-io -c 'write -q -P 3 640k 64k' $p.2 && qemu-img convert -O raw $p.2 $p.raw",
              path),
        0);
    g_autofree char *add = with_path(
        "{'driver':'qcow2','node-name':'n2','file':{'driver':'file','filename':'@.2'},"
        "'backing':{'driver':'qcow2','node-name':'n1','file':{'driver':'file','filename':'@.1'},"
        "'backing':{'driver':'qcow2','node-name':'n0','file':{'driver':'file',"
        "'filename':'@.0'}}}}",
        path);
    g_free(qmp_ok(rig, "blockdev-add", add));
    return path;
}

static void chain_del(QmpRig *rig, char *path)
{
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'n2'}"));
    assert_int_equal(shell("qemu-img compare -q -f raw -F qcow2 %s.raw %s.2 && rm -f %s %s.*", path,
                           path, path, path),
                     0);
    g_free(path);
}

/* Runs the job of @command to its end. */
static void job_runs(QmpRig *rig, const char *command, const char *args)
{
    bool completed = false;
    g_free(qmp_ok(rig, command, args));
    for (;;) {
        g_autofree char *jobs = qmp_ok(rig, "query-jobs", "{}");
        if (strstr(jobs, "\"id\":") == NULL) {
            return;
        }
        if (strstr(jobs, "\"ready\"") != NULL &&
            !completed) { /* it may look ready a while longer */
            completed = true;
            g_free(qmp_ok(rig, "block-job-complete", "{'device':'j'}"));
        }
        if (strstr(jobs, "concluded") != NULL) {
            assert_null(strstr(jobs, "\"error\""));
            g_free(qmp_ok(rig, "job-dismiss", "{'id':'j'}"));
            return;
        }
        aio_context_step(rig->vm.ctx, true);
    }
}

static void a_layer_is_committed(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    job_runs(rig, "block-commit",
             "{'device':'n2','top-node':'n1','base-node':'n0','job-id':'j','auto-dismiss':false}");
    assert_null(block_node_find("n1"));
    chain_del(rig, path);
}

static void the_active_layer_is_committed(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    job_runs(rig, "block-commit", "{'device':'n2','job-id':'j','auto-dismiss':false}");
    assert_int_equal(shell("qemu-img compare -q -U -f raw -F qcow2 %s.raw %s.0", path, path), 0);
    chain_del(rig, path);
}

static void a_layer_is_named_by_its_file(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    g_autofree char *top = g_path_get_basename(path);
    g_autofree char *args = with_path(
        "{'device':'n2','top':'@.1','job-id':'j','auto-dismiss':false,'speed':100000000}", top);
    job_runs(rig, "block-commit", args);
    assert_null(block_node_find("n1"));
    chain_del(rig, path);
}

static void a_chain_is_streamed(void **state)
{
    QmpRig *rig = *state;
    static const char *const cases[] = {
        "{'device':'n2','base-node':'n0','job-id':'j','auto-dismiss':false}",
        "{'device':'n2','bottom':'n1','job-id':'j','auto-dismiss':false}",
        "{'device':'n2','job-id':'j','auto-dismiss':false}",
        "{'device':'n1','job-id':'j','auto-dismiss':false}",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *path = chain_add(rig);
        job_runs(rig, "block-stream", cases[i]);
        assert_int_equal(block_node_find("n1") != NULL, i == 3);
        assert_int_equal(block_node_find("n0") != NULL, i < 2);
        chain_del(rig, path);
    }
}

static void the_name_of_a_backing_file_is_changed(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    g_free(qmp_ok(rig, "change-backing-file",
                  "{'device':'n2','image-node-name':'n1','backing-file':'another'}"));
    assert_int_equal(shell("qemu-img info -U %s.1 | grep -q '^backing file: another' && "
                           "qemu-img info -U %s.1 | grep -q '^backing file format: qcow2'",
                           path, path),
                     0);
    g_autofree char *back = with_path("{'device':'n2','image-node-name':'n1','backing-file':'@.0'}",
                                      strrchr(path, '/') + 1);
    g_free(qmp_ok(rig, "change-backing-file", back));
    chain_del(rig, path);
}

static void jobs_are_refused_in_qemus_words(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    static const char commit[] = "block-commit", stream[] = "block-stream",
                      change[] = "change-backing-file";
    static const char *const cases[][4] = {
        {commit, "{'device':'no'}", "DeviceNotFound", "Device 'no' not found"},
        {commit, "{'device':'n1','job-id':'j'}", NULL, "Need a root block node"},
        {commit, "{'device':'n2','top-node':'n1','top':'x'}", NULL, "are mutually exclusive"},
        {commit, "{'device':'n2','base-node':'n1','base':'x'}", NULL, "are mutually exclusive"},
        {commit, "{'device':'n2','top':'x'}", NULL, "Top image file x not found"},
        {commit, "{'device':'n2','base':'x'}", NULL, "Can't find 'x' in the backing chain"},
        {commit, "{'device':'n2','top-node':'n1','base-node':'n1','job-id':'j'}", NULL,
         "cannot commit an image into itself"},
        {commit, "{'device':'n2','top-node':'n0','base-node':'n1','job-id':'j'}", NULL,
         "'n0' is not an image between"},
        {commit, "{'device':'n2','top-node':'n1'}", NULL, "An explicit job ID is required"},
        {commit, "{'device':'n2','job-id':'j','backing-file':'x'}", NULL,
         "'backing-file' specified, but 'top' is the active layer"},
        {commit, "{'device':'n2','top-node':'n1','job-id':'j','filter-node-name':'n0'}", NULL,
         "Duplicate nodes with node-name='n0'"},
        {commit, "{'device':'n2','top-node':'n1','job-id':'j','speed':-1}", NULL, "speed"},
        {stream, "{'device':'no'}", NULL, "Cannot find device='no'"},
        {stream, "{'device':'n2','base':'x','base-node':'n0'}", NULL,
         "'base' and 'base-node' cannot be specified at the same time"},
        {stream, "{'device':'n2','base-node':'n2','job-id':'j'}", NULL,
         "Node 'n2' is not a backing image of 'n2'"},
        {stream, "{'device':'n1','bottom':'n2','job-id':'j'}", NULL,
         "Node 'n2' is not in a chain starting from 'n1'"},
        {stream, "{'device':'n2','job-id':'j','backing-file':'x'}", NULL,
         "backing file specified, but streaming the entire chain"},
        {change, "{'device':'n2','image-node-name':'n0','backing-file':'x'}", NULL,
         "not allowing backing file change on an image without a backing file"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(rig, cases[i][0], cases[i][1], cases[i][2] != NULL ? cases[i][2] : "GenericError",
                  cases[i][3]);
    }
    chain_del(rig, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(an_overlay_is_made_and_named),
        QMP_TEST(an_open_node_becomes_the_overlay),
        QMP_TEST(wrong_arguments_are_refused_in_qemus_words),
        QMP_TEST(a_disk_with_another_node_meanwhile_is_not_snapshotted),
        QMP_TEST(snapshots_of_a_transaction_are_all_made_or_none),
        QMP_TEST(a_layer_is_committed),
        QMP_TEST(the_active_layer_is_committed),
        QMP_TEST(a_layer_is_named_by_its_file),
        QMP_TEST(a_chain_is_streamed),
        QMP_TEST(the_name_of_a_backing_file_is_changed),
        QMP_TEST(jobs_are_refused_in_qemus_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
