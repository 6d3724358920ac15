/* SPDX-License-Identifier: Apache-2.0 */
/* A quit while a disk with a persistent bitmap has requests in flight. The machine is one of counters; the
 * disk is real, below and above nodes that hold requests. */
#include "tests/block/job/job_test.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"
#include "tests/support/fake_vm.h"

#define SECOND_NS INT64_C(1000000000)
#define TENTH_NS (SECOND_NS / 10)
#define BYTES 4096u
#define WRITTEN 65536u /* the bytes of one bit of the bitmap */

typedef struct Rig {
    Vm vm;
    VmConfig config;
    char *dir;
    BlockBackend *blk;
    BlockNode *above, *below; /* the nodes that hold requests: above the image, below it */
    uint8_t data[BYTES];
    unsigned quits; /* times that the loop ended by itself */
} Rig;

static Rig *rig;

/* ---- the loop ---- */

typedef struct RigBody {
    void (*body)(void);
    bool done;
} RigBody;

static void rig_run_body(void *opaque)
{
    RigBody *b = opaque;
    enter_coroutine();
    enter_main();
    b->body();
    b->done = true;
    aio_context_quit(test_main);
}

/* A quit of the VM ends the loop. It is counted, and the loop goes on. */
static void rig_run(void (*body)(void))
{
    RigBody b = {.body = body};
    assert_int_equal(rig->quits, 0);
    co_start(test_main, rig_run_body, &b);
    while (!b.done) {
        aio_context_run(test_main);
        rig->quits += b.done ? 0 : 1;
    }
}

#define QUIT_TEST(name)                                                                            \
    static coroutine_fn RUNS_IN_MAIN void name##_body(void);                                       \
    static void name(void **state)                                                                 \
    {                                                                                              \
        rig_run(name##_body);                                                                      \
    }                                                                                              \
    static void name##_body(void)

static coroutine_fn RUNS_IN_MAIN void rig_settle(void)
{
    for (unsigned i = 0; i < 20; i++) {
        test_settle();
        co_yield_turn();
    }
}

static coroutine_fn RUNS_IN_MAIN void rig_await_state(const char *state)
{
    while (strcmp(run_state_name(&rig->vm.run), state) != 0) {
        co_yield_turn();
    }
}

static coroutine_fn RUNS_IN_MAIN void rig_await_quit(void)
{
    while (rig->quits == 0) {
        co_yield_turn();
    }
}

/* ---- the VM ---- */

static void rig_drain(void *opaque)
{
    enter_main();
    enter_coroutine();
    co_drained_begin(&rig->blk, 1);
    co_drained_end(&rig->blk, 1);
}

static void rig_changed(void *opaque, RunPhase phase, StopReason reason)
{
    enter_main();
    vm_run_changed(&rig->vm, phase, reason);
}

static const RunStateOps rig_ops = {
    .co_park = fake_run_co_nothing,
    .unpark = fake_run_co_nothing,
    .co_stop_backends = fake_run_co_nothing,
    .co_start_backends = fake_run_co_start,
    .co_drain = rig_drain,
    .changed = rig_changed,
};

static int rig_setup(void **state)
{
    rig = g_new0(Rig, 1);
    enter_main();
    vm_config_init(&rig->config);
    rig->vm.config = &rig->config;
    rig->vm.ctx = test_main;
    rig->vm.built = true;
    aio_context_set_virtual_time(test_main, SECOND_NS);
    run_state_init(&rig->vm.run, test_main, &rig_ops, rig);
    vm_life_init(&rig->vm);
    vm_jobs_init(&rig->vm);
    return 0;
}

static int rig_teardown(void **state)
{
    aio_timer_disarm(&rig->vm.life.quit_timer);
    vm_config_clear(&rig->config);
    g_free(rig);
    return 0;
}

/* The VM runs, with an image whose bitmap is marked as in use and has one bit. */
static coroutine_fn RUNS_IN_MAIN void rig_start(void)
{
    rig->dir = qcow2_dir_new();
    bitmap_create(rig->dir, "");
    qcow2_shell(rig->dir, "qemu-img bitmap --add t.qcow2 a");
    g_autofree char *text = g_strdup_printf(
        "fault,node-name=above,file.driver=qcow2,file.node-name=q,file.file.driver=fault,"
        "file.file.node-name=below,file.file.file.driver=file,file.file.file.filename=%s/t.qcow2",
        rig->dir);
    rig->blk = test_blk("d", text, true);
    rig->above = block_node_find("above");
    rig->below = block_node_find("below");
    bitmap_write(rig->blk, 0, 4 * WRITTEN, 1);
    assert_int_equal(test_io(rig->blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    run_state_request_start(&rig->vm.run);
    rig_await_state("running");
}

static coroutine_fn RUNS_IN_MAIN void rig_end(void)
{
    rig_await_state("shutdown");
    vm_operation_begin(&rig->vm.run); /* behind the quit */
    vm_operation_end(&rig->vm.run);
    rig_settle();
    blk_co_free(rig->blk);
    qcow2_dir_free(rig->dir);
}

static coroutine_fn RUNS_IN_MAIN void rig_quit_and_wait(int64_t ns)
{
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    rig_settle();
    aio_context_set_virtual_time(test_main, SECOND_NS + ns);
    while (!rig->vm.life.completing) {
        co_yield_turn();
    }
    rig_settle();
    assert_int_equal(rig->quits, 0);
}

static TestRequest rig_write(uint64_t offset)
{
    return (TestRequest){
        .blk = rig->blk, .op = TEST_WRITE, .offset = offset, .bytes = BYTES, .buf = rig->data};
}

/* ---- tests ---- */

static void hold_what_follows(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(rig->below, &(BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    assert_int_equal(block_fault_release(rig->below, 1), 1);
}

/* The completion has begun after four seconds, when the VM has not stopped. Then the VM stops. */
QUIT_TEST(a_stop_that_ends_late_does_not_end_the_process_before_images_are_complete)
{
    rig_start();
    TestRequest w = rig_write(0);
    job_set_fault(rig->below, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    test_start(&w);
    job_await_held(rig->below, 1);
    rig_quit_and_wait(41 * TENTH_NS);
    test_in_home(hold_what_follows, NULL);
    assert_int_equal(test_finish(&w), 0);
    job_await_held(rig->below, 1); /* a write of the completion */
    rig_await_state("shutdown");
    rig_settle();
    assert_int_equal(rig->quits, 0);
    file_bitmap_expect_marked(rig->dir, "a", true);
    job_release(rig->below);
    rig_await_quit();
    file_bitmap_expect(rig->dir, "a", true, 0, 4 * WRITTEN);
    rig_end();
}

typedef struct LockHolder {
    TestEvent end, ended;
} LockHolder;

/* An operation that hangs. */
static void hold_operation(void *opaque)
{
    LockHolder *h = opaque;
    enter_main();
    enter_coroutine();
    vm_operation_begin(&rig->vm.run);
    test_event_wait(&h->end);
    vm_operation_end(&rig->vm.run);
    test_event_set(&h->ended);
}

static void return_queued(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    blk_set_hurry(rig->blk, true);
}

static void expect_quiesced(void *opaque)
{
    const BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    assert_true(n->quiesced > 0);
}

/* The guest runs on, since the operation lock is not free. */
static coroutine_fn RUNS_IN_MAIN void quit_with_an_operation_that_hangs(bool above)
{
    LockHolder h = {0};
    rig_start();
    BlockNode *holds = above ? rig->above : rig->below;
    co_start(test_main, hold_operation, &h);
    TestRequest first = rig_write(6 * WRITTEN), second = rig_write(8 * WRITTEN);
    job_set_fault(holds, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true, .count = 1});
    test_start(&first);
    job_await_held(holds, 1);
    if (above) { /* the completion's first request, if it does not wait */
        job_set_fault(rig->below, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    }
    rig_quit_and_wait(4 * SECOND_NS);
    assert_string_equal(run_state_name(&rig->vm.run), "running");
    test_start(&second);
    rig_settle();
    assert_int_equal(second.completions, 0);
    assert_int_equal(blk_in_flight(rig->blk), 1);
    file_bitmap_expect_marked(rig->dir, "a", true); /* the first write has not ended */
    assert_int_equal(rig->quits, 0);
    if (above) {
        assert_int_equal(block_fault_hits(rig->below), 0);
        job_release(rig->below);
    }
    job_release(holds);
    assert_int_equal(test_finish(&first), 0);
    rig_await_quit();
    assert_int_equal(second.completions, 0);
    test_in_home(expect_quiesced, block_node_find("q")); /* what jobs do in it is held, too */
    DiskBitmap b = file_bitmap(rig->dir, "t.qcow2", "a");
    assert_true(b.listed && !b.in_use && b.bits != NULL);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(b.bits[i], i < 4 || i == 6);
    }
    disk_bitmap_clear(&b);
    test_in_home(return_queued, NULL);
    assert_int_equal(test_finish(&second), BLK_NOT_STARTED);
    test_event_set(&h.end);
    test_event_wait(&h.ended);
    rig_end();
}

QUIT_TEST(a_guest_that_runs_on_changes_no_image_while_it_is_completed)
{
    quit_with_an_operation_that_hangs(false);
}

QUIT_TEST(a_write_that_has_not_reached_the_image_yet_ends_before_the_completion)
{
    quit_with_an_operation_that_hangs(true);
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(a_stop_that_ends_late_does_not_end_the_process_before_images_are_complete),
        ON_RIG(a_guest_that_runs_on_changes_no_image_while_it_is_completed),
        ON_RIG(a_write_that_has_not_reached_the_image_yet_ends_before_the_completion),
    };
    return job_test_main(tests);
}
