/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a process: an image that hangs keeps no other one from being complete. */
#include "tests/block/job/job_test.h"
#include "tests/block/qcow2/qcow2_test.h"

#define IMAGES 3u
#define HANGING 1u /* it is neither first nor last */

typedef struct Completion {
    TestEvent done;
} Completion;

static void complete_run(void *opaque)
{
    Completion *c = opaque;
    enter_main();
    enter_coroutine();
    block_co_complete_all();
    test_event_set(&c->done);
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *image_open(const char *dir, unsigned i)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=n%u,file.driver=fault,file.node-name=f%u,file.file.driver=file,"
        "file.file.filename=%s/%u",
        i, i, dir, i);
    g_autofree char *name = g_strdup_printf("blk%u", i);
    qcow2_shell(dir, "qemu-img create -q -f qcow2 %u 1M", i);
    return test_blk(name, text, true);
}

BLOCK_TEST(an_image_that_hangs_keeps_no_other_one_from_being_complete)
{
    char *dir = qcow2_dir_new();
    BlockBackend *blks[IMAGES];
    Completion c = {0};
    uint8_t data[512];
    memset(data, 1, sizeof(data));
    for (unsigned i = 0; i < IMAGES; i++) {
        blks[i] = image_open(dir, i);
        assert_int_equal(test_io(blks[i], TEST_WRITE, 0, sizeof(data), data, 0), 0);
    }
    BlockNode *hanging = block_node_find("f1");
    job_set_fault(hanging, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    co_start(test_main, complete_run, &c);
    for (unsigned i = 0; i < IMAGES; i++) {
        g_autofree char *found = g_strdup_printf(
            "cd %s && cp %u copy && qemu-io -f qcow2 -c 'read -P 1 0 512' copy 2>&1 "
            "| grep -q 'failed' && exit 1 || exit 0",
            dir, i);
        while (i != HANGING && system(found) != 0) {
            co_yield_turn();
        }
    }
    assert_true(block_fault_held(hanging) > 0);
    job_release(hanging);
    test_event_wait(&c.done);
    for (unsigned i = 0; i < IMAGES; i++) {
        blk_co_free(blks[i]);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_that_hangs_keeps_no_other_one_from_being_complete),
    };
    return job_test_main(tests);
}
