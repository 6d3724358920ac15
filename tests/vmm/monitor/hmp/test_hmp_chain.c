/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor's commands on chains of images. */
#include <stdlib.h>
#include <unistd.h>
#include "block/driver/fault.h"
#include "block/node.h"
#include "util/job/job.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/hmp/hmp_rig.h"

/* "n0" <- "n1", in files path.0 and path.1. The file of n0 is below the node "fault". */
static char *chain_add(QmpRig *rig)
{
    char *path = g_strdup("build/skiff-hmp-chain-XXXXXX");
    close(g_mkstemp(path));
    assert_int_equal(shell("cd build && p=$(basename %s) && qemu-img create -q -f qcow2 $p.0 1M && "
                           "qemu-img create -q -f qcow2 -b $p.0 -F qcow2 $p.1 && "
                           "qemu-io -c 'write -q -P 1 0 512k' $p.0 && "
                           "qemu-io -c 'write -q -P 2 256k 512k' $p.1 && "
                           "qemu-img convert -O raw $p.1 $p.raw",
                           path),
                     0);
    g_autofree char *add = g_strdup_printf(
        "{'driver':'qcow2','node-name':'n1','file':{'driver':'file','filename':'%s.1'},"
        "'backing':{'driver':'qcow2','node-name':'n0','file':{'driver':'fault',"
        "'node-name':'fault','file':{'driver':'file','filename':'%s.0'}}}}",
        path, path);
    g_free(qmp_ok(rig, "blockdev-add", add));
    return path;
}

static void chain_del(QmpRig *rig, char *path)
{
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'n1'}"));
    assert_int_equal(shell("qemu-img compare -q -f raw -F qcow2 %s.raw %s.1 && rm -f %s %s.*", path,
                           path, path, path),
                     0);
    g_free(path);
}

static void commit_moves_what_an_overlay_holds(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    assert_prints(rig, "commit no", "Device 'no' not found\n");
    assert_prints(rig, "commit n0", "'commit' error for 'n0': Operation not supported\n");
    assert_prints(rig, "commit all", "");
    assert_prints(rig, "commit n1", "");
    assert_int_equal(shell("qemu-img compare -U -q -f raw -F qcow2 %s.raw %s.0", path, path), 0);
    assert_true(block_node_read_only(block_node_find("n0")));
    chain_del(rig, path);
}

typedef struct Hang {
    BlockNode *node;
    bool on, done;
} Hang;

static void hang_at_home(void *opaque)
{
    const Hang *h = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(h->node));
    BlockFault fault = {.op = h->on ? BLOCK_FAULT_WRITE : BLOCK_FAULT_NONE, .hold = h->on};
    block_fault_set(h->node, &fault);
    if (!h->on) {
        block_fault_release(h->node, UINT32_MAX);
    }
}

static void hang_run(void *opaque)
{
    Hang *h = opaque;
    enter_main();
    enter_coroutine();
    co_call_in(block_node_home(h->node), hang_at_home, h);
    h->done = true;
}

/* Writes to the file of n0 hang, or go on. */
static RUNS_IN_MAIN void set_hang(QmpRig *rig, bool on)
{
    Hang h = {.node = block_node_find("fault"), .on = on};
    co_start(rig->vm.ctx, hang_run, &h);
    while (!h.done) {
        aio_context_step(rig->vm.ctx, true);
    }
}

static void other_commands_do_not_wait_for_a_commit(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    for (unsigned i = 0; i < 2; i++) {
        set_hang(rig, true);
        HmpRigCall call = {.rig = rig, .line = "commit n1", .out = g_string_new(NULL)};
        co_start(rig->vm.ctx, hmp_rig_run, &call);
        while (block_fault_held(block_node_find("fault")) == 0) {
            aio_context_step(rig->vm.ctx, false);
        }
        assert_prints(rig, "stop", "");
        assert_prints_part(rig, "info status", "VM status: paused");
        assert_prints(rig, "cont", "");
        assert_prints_part(rig, "info status", "VM status: running");
        assert_prints_part(rig, "info block-jobs", "commit0");
        assert_false(call.done);
        if (i == 0) {
            assert_prints(rig, "block_job_cancel commit0", "");
        } else {
            set_hang(rig, false);
        }
        while (!call.done) {
            aio_context_step(rig->vm.ctx, true);
        }
        set_hang(rig, false);
        if (strcmp(call.out->str, i == 0 ? "'commit' error for 'n1': Operation canceled\n" : "") !=
            0) {
            fail_msg("commit printed: %s", call.out->str);
        }
        g_string_free(call.out, TRUE);
        while (!block_node_read_only(block_node_find("n0"))) { /* the job's last use of it */
            aio_context_step(rig->vm.ctx, true);
        }
    }
    assert_null(job_find("commit0"));
    chain_del(rig, path);
}

static void block_stream_copies_to_a_disk(void **state)
{
    QmpRig *rig = *state;
    char *path = chain_add(rig);
    assert_prints_part(rig, "block_stream n1 0 nothing",
                       "Can't find 'nothing' in the backing chain");
    assert_prints(rig, "block_stream n1 100", "");
    while (block_node_find("n0") != NULL || job_find("n1") != NULL) {
        aio_context_step(rig->vm.ctx, true);
    }
    chain_del(rig, path);
}

static void snapshot_blkdev_names_what_it_lacks(void **state)
{
    QmpRig *rig = *state;
    assert_prints(rig, "snapshot_blkdev d", "Error: Parameter 'snapshot-file' is missing\n");
    assert_prints(rig, "snapshot_blkdev -n d x raw",
                  "Error: Cannot find device='d' nor node-name=''\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HMP_TEST(commit_moves_what_an_overlay_holds),
        HMP_TEST(other_commands_do_not_wait_for_a_commit),
        HMP_TEST(block_stream_copies_to_a_disk),
        HMP_TEST(snapshot_blkdev_names_what_it_lacks),
    };
    return cmocka_run_group_tests_name("vmm/monitor/hmp/chain", tests, NULL, NULL);
}
