/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor's commands on chains of images. */
#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "util/job/job.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/hmp/hmp_rig.h"

/* "n0" <- "n1", in files path.0 and path.1. */
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
        "'backing':{'driver':'qcow2','node-name':'n0','file':{'driver':'file',"
        "'filename':'%s.0'}}}",
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
        HMP_TEST(block_stream_copies_to_a_disk),
        HMP_TEST(snapshot_blkdev_names_what_it_lacks),
    };
    return cmocka_run_group_tests_name("vmm/monitor/hmp/chain", tests, NULL, NULL);
}
