/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on internal snapshots: the process ends, or a drained section waits for a step. */
#include "tests/block/qcow2/qcow2_faulty.h"

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

typedef struct Drain {
    const BlockNode *fault;
    unsigned discards; /* when everything is drained */
    TestEvent done;
} Drain;

static void walk_drain(void *opaque)
{
    Drain *d = opaque;
    BlockBackend *blk = blk_find("d");
    enter_coroutine();
    enter_main();
    co_drained_begin(&blk, 1);
    d->discards = block_fault_hits(d->fault);
    co_drained_end(&blk, 1);
    test_event_set(&d->done);
}

typedef struct Quiesced {
    const BlockNode *node;
    bool is;
} Quiesced;

static void quiesced_at_home(void *opaque)
{
    Quiesced *q = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    q->is = q->node->quiesced > 0;
}

/* The section has reached the node. */
static coroutine_fn RUNS_IN_MAIN void await_quiesced(const BlockNode *n)
{
    Quiesced q = {.node = n};
    while (!q.is) {
        test_in_home(quiesced_at_home, &q);
    }
}

BLOCK_TEST(a_drained_section_waits_for_few_discards_of_a_step)
{
    char *dir = qcow2_dir_new();
    GError *error = NULL;
    Qcow2Faulty file = {0};
    int ret;
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_DELETE, .name = "one"};
    g_autoptr(GString) writes = g_string_new(NULL);
    for (unsigned i = 0; i < 60; i += 2) {
        g_string_append_printf(writes, " -c 'write -q -P 6 %u 512'", i * 512);
    }
    qcow2_shell(dir,
                "qemu-img create -q -f qcow2 -o cluster_size=512 t.qcow2 1M && "
                "qemu-io -c 'write -q -P 5 0 30k' t.qcow2 && qemu-img snapshot -c one t.qcow2 && "
                "qemu-io %s t.qcow2",
                writes->str);
    faulty_load(&file, dir, "t.qcow2", (uint64_t)1 << 20);
    faulty_add(&file);
    BlockBackend *blk = test_blk("d", "qcow2,discard=unmap,file=f", true);
    Walk w = {.run = block_node_co_snapshot_begin(blk_root(blk), &op, &ret, &error)};
    assert_non_null(w.run);
    faulty_hold(&file, BLOCK_FAULT_DISCARD, 0, 0);
    co_start(test_main, walk_run, &w);
    while (block_fault_held(file.fault) == 0) {
        test_settle();
    }
    Drain drain = {.fault = file.fault};
    co_start(test_main, walk_drain, &drain);
    await_quiesced(blk_root(blk));
    assert_false(drain.done.happened);
    faulty_set(&file, (BlockFault){.op = BLOCK_FAULT_DISCARD}); /* counts those that follow */
    faulty_release_held(&file);
    test_event_wait(&drain.done);
    assert_in_range(drain.discards, 0, 8); /* of 30 */
    test_event_wait(&w.done);
    assert_int_equal(block_snapshot_co_end(w.run, &error), 0);
    blk_co_free(blk);
    faulty_store(&file, dir, "t.qcow2");
    qcow2_shell(dir, "qemu-img check t.qcow2");
    faulty_del();
    faulty_free(&file);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drained_section_waits_for_few_discards_of_a_step),
        cmocka_unit_test(a_process_that_ends_during_a_walk_leaves_a_sound_image),
    };
    return block_test_main(tests);
}
