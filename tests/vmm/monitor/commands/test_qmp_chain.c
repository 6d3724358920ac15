/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP and HMP commands for external snapshots. */
#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

#define SYNC "blockdev-snapshot-sync"
#define SNAPSHOT "blockdev-snapshot"

static int __attribute__((format(printf, 1, 2))) shell(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    return system(command);
}

/* Substitutes @path for "@" in @args. */
static char *with_path(const char *args, const char *path)
{
    g_auto(GStrv) parts = g_strsplit(args, "@", -1);
    return g_strjoinv(path, parts);
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(an_overlay_is_made_and_named),
        QMP_TEST(an_open_node_becomes_the_overlay),
        QMP_TEST(wrong_arguments_are_refused_in_qemus_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
