/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP commands for internal snapshots. */
#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "block/node.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

#define CREATE "blockdev-snapshot-internal-sync"
#define DELETE "blockdev-snapshot-delete-internal-sync"
#define SIZE_MIB "64"

typedef struct Disk {
    QmpRig *rig;
    char *path;
} Disk;

static Disk disk_add(QmpRig *rig)
{
    Disk d = {.rig = rig, .path = g_strdup("build/skiff-qmp-snapshot-XXXXXX")};
    close(g_mkstemp(d.path));
    assert_int_equal(shell("qemu-img create -q -f qcow2 -o cluster_size=512 %s " SIZE_MIB "M && "
                           "qemu-io -f qcow2 -c 'write -q 0 4M' %s",
                           d.path, d.path),
                     0);
    g_autofree char *add = g_strdup_printf("{'driver':'qcow2','node-name':'disk',"
                                           "'file':{'driver':'file','filename':'%s'}}",
                                           d.path);
    g_free(qmp_ok(rig, "blockdev-add", add));
    return d;
}

static void disk_del(Disk *d)
{
    g_free(qmp_ok(d->rig, "blockdev-del", "{'node-name':'disk'}"));
    assert_int_equal(shell("qemu-img check -q -f qcow2 %s", d->path), 0);
    unlink(d->path);
    g_free(d->path);
}

static void snapshots_are_created_and_deleted(void **state)
{
    Disk d = disk_add(*state);
    QmpRig *rig = *state;
    qmp_returns(rig, CREATE, "{'device':'disk','name':'one'}", "{}");
    qmp_returns(rig, CREATE, "{'device':'disk','name':'two'}", "{}");
    assert_int_equal(shell("qemu-img snapshot -U -l %s | grep -q '^2 *two '", d.path), 0);
    qmp_returns(rig, DELETE, "{'device':'disk','id':'2','name':'two'}",
                "{\"id\":\"2\",\"name\":\"two\",\"vm-state-size\":0,\"date-sec\":");
    qmp_returns(rig, DELETE, "{'device':'disk','name':'one'}", "\"name\":\"one\"");
    assert_int_equal(shell("qemu-img snapshot -U -l %s | grep -q one", d.path) == 0, 0);
    disk_del(&d);
}

static void wrong_arguments_are_refused_in_qemus_words(void **state)
{
    Disk d = disk_add(*state);
    QmpRig *rig = *state;
    g_free(qmp_ok(rig, "blockdev-add", "{'driver':'null-co','node-name':'none','size':512}"));
    g_free(qmp_ok(rig, CREATE, "{'device':'disk','name':'one'}"));
    static const char *const cases[][3] = {
        {CREATE, "{'device':'no','name':'x'}", "Cannot find device='no' nor node-name='no'"},
        {CREATE, "{'device':'none','name':'x'}",
         "Block format 'null-co' used by device 'none' does not support internal snapshots"},
        {CREATE, "{'device':'disk','name':''}", "Name is empty"},
        {CREATE, "{'device':'disk','name':'one'}",
         "Snapshot with name 'one' already exists on device 'disk'"},
        {DELETE, "{'device':'disk'}", "Name or id must be provided"},
        {DELETE, "{'device':'disk','id':'7','name':'one'}",
         "Snapshot with id '7' and name 'one' does not exist on device 'disk'"},
        {DELETE, "{'device':'disk','id':'7'}",
         "Snapshot with id '7' and name 'null' does not exist on device 'disk'"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(rig, cases[i][0], cases[i][1], "GenericError", cases[i][2]);
    }
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'none'}"));
    disk_del(&d);
}

/* The image has so many tables that the walk takes many turns of main. */
static void other_operations_run_beside_a_walk(void **state)
{
    Disk d = disk_add(*state);
    QmpRig *rig = *state;
    RigCall create;
    rig_call_start(rig, &create, CREATE, "{'device':'disk','name':'one'}");
    while (!block_node_find("disk")->snapshotting) {
        aio_context_step(rig->vm.ctx, true);
    }
    g_autofree char *drives = qmp_ok(rig, "query-blockstats", NULL);
    assert_string_equal(drives, "[]"); /* a stop drains drives, which could wait for the walk */
    qmp_fails(rig, CREATE, "{'device':'disk','name':'two'}", "GenericError",
              "an operation on its internal snapshots is running");
    assert_false(create.done);
    qmp_fails(rig, "blockdev-del", "{'node-name':'disk'}", "GenericError", "is in use");
    assert_false(create.done);
    rig_call_finish(&create);
    assert_null(create.error);
    json_object_put(create.result);
    disk_del(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(snapshots_are_created_and_deleted),
        QMP_TEST(wrong_arguments_are_refused_in_qemus_words),
        QMP_TEST(other_operations_run_beside_a_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
