/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that the graph refuses when they start. */
#include "tests/block/job/backup_test.h"
#include "tests/block/job/mirror_test.h"

/* The filter would be the 65th node above another. */
static coroutine_fn RUNS_IN_MAIN BlockNode *tower_add(void)
{
    BlockNode *top = block_node_find("s");
    for (unsigned i = 0; i < 100; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *below = i == 0 ? g_strdup("s") : g_strdup_printf("r%u", i - 1);
        g_autofree char *text = g_strdup_printf("raw,node-name=r%u,file=%s", i, below);
        g_autoptr(OptDict) options = opt_dict_parse(text, "driver", NULL);
        BlockNode *n = block_co_add(options, test_home, &error);
        if (n == NULL) {
            assert_non_null(strstr(error->message, "has more than 64 nodes below it"));
            return top;
        }
        top = n;
    }
    fail();
    return NULL;
}

static coroutine_fn RUNS_IN_MAIN void tower_delete(const BlockNode *top)
{
    for (const BlockNode *below; strcmp(top->name, "s") != 0; top = below) {
        below = top->file;
        test_node_del(top->name);
    }
}

BLOCK_TEST(jobs_whose_filter_is_too_high_are_refused)
{
    MirrorRig m;
    BackupRig r;
    m.source = test_node_add(MIRROR_SOURCE);
    m.target = r.target = test_node_add(MIRROR_TARGET);
    r.source = m.source = tower_add();
    GError *error = NULL;
    assert_true(block_dirty_bitmap_co_add(r.source, "b", 65536, 0, &error));
    assert_false(backup_try(
        &r, (BlockBackupConfig){.sync = BLOCK_BACKUP_BITMAP, .bitmap = (char *)"b"}, &error));
    assert_int_equal(error->code, BLOCK_ERROR_DEPTH);
    g_clear_error(&error);
    assert_null(mirror_try_start(
        &m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_INCREMENTAL, .bitmap = (char *)"b"}, &error));
    assert_int_equal(error->code, BLOCK_ERROR_DEPTH);
    g_clear_error(&error);
    test_settle();
    assert_null(job_find("job0"));
    assert_true(block_dirty_bitmap_co_remove(r.source, "b", &error)); /* no job has it */
    g_string_truncate(job_log, 0);
    tower_delete(r.source);
    test_node_del("s");
    test_node_del("t");
}

/* An image that grows its file needs it for itself. */
BLOCK_TEST(a_file_that_another_node_grows_is_not_copied)
{
    BackupRig r;
    g_autoptr(GError) error = NULL;
    r.source = test_node_add("mem,node-name=s,size=1M");
    test_node_add("raw,node-name=through,file=s");
    r.target = test_node_add("mem,node-name=t,size=1M");
    assert_false(backup_try(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL}, &error));
    assert_non_null(strstr(error->message, "node 's' is resized by node 'through'"));
    g_clear_error(&error);
    MirrorRig m = {.source = r.source, .target = r.target};
    assert_null(mirror_try_start(&m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL}, &error));
    assert_non_null(strstr(error->message, "node 's' is resized by node 'through'"));
    test_node_del("through");
    test_node_del("s");
    test_node_del("t");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_whose_filter_is_too_high_are_refused),
        cmocka_unit_test(a_file_that_another_node_grows_is_not_copied),
    };
    return job_test_main(tests);
}
