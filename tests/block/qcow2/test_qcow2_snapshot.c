/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on internal snapshots of an image in a file, whose process ends. */
#include "tests/block/qcow2/qcow2_test.h"

typedef struct Walk {
    BlockSnapshotRun *run;
    TestEvent done;
} Walk;

static void walk_run(void *opaque)
{
    Walk *w = opaque;
    enter_coroutine();
    enter_main();
    block_snapshot_co_run(w->run);
    test_event_set(&w->done);
}

BLOCK_TEST(a_process_that_ends_during_a_walk_leaves_a_sound_image)
{
    static const BlockSnapshotKind kinds[] = {BLOCK_SNAPSHOT_CREATE, BLOCK_SNAPSHOT_DELETE};
    char *dir = qcow2_dir_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        GError *error = NULL;
        int ret;
        BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "two"};
        BlockSnapshotOp op = {.kind = kinds[i], .info = &info, .name = "one"};
        qcow2_shell(dir, "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o cluster_size=512 t.qcow2 "
                         "8M && qemu-io -c 'write -q -P 5 0 6M' t.qcow2 && "
                         "qemu-img snapshot -c one t.qcow2 && "
                         "qemu-io -c 'write -q -P 6 1M 4M' t.qcow2 && "
                         "qemu-img convert -O raw t.qcow2 before.raw");
        g_autofree char *text =
            g_strdup_printf("qcow2,discard=unmap,file.driver=file,file.filename=%s/t.qcow2", dir);
        BlockBackend *blk = test_blk("d", text, true);
        Walk w = {.run = block_node_co_snapshot_begin(blk_root(blk), &op, &ret, &error)};
        assert_non_null(w.run);
        co_start(test_main, walk_run, &w);
        block_co_complete_all();
        test_event_wait(&w.done);
        assert_int_equal(block_snapshot_co_end(w.run, &error), -ECANCELED);
        g_clear_error(&error);
        blk_co_free(blk);
        qcow2_shell(dir, "qemu-img check -f qcow2 t.qcow2 || [ $? = 3 ]");
        qcow2_shell(dir, "qemu-img compare -F raw t.qcow2 before.raw");
        qcow2_shell(dir, "! qemu-img snapshot -l t.qcow2 | grep %s", i == 0 ? "two" : "one");
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_ends_during_a_walk_leaves_a_sound_image),
    };
    return block_test_main(tests);
}
