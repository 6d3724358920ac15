/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two reapers of one completion queue. A disk with aio=native above a chain of three images, 32 requests
 * deep; snapshots, commits of the middle layer, and unplugging begin while the iothread stands between
 * fetching an event from the ring and counting it. Each request completes once, in the iothread; another
 * thread that runs the iothread's loop meanwhile aborts.
 */
#include <pthread.h>
#include "block/chain/commit_job.h"
#include "block/chain/external_snapshot.h"
#include "tests/block/chain/chain_job_test.h"
#include "tests/support/death.h"

#define DEPTH 32u
#define UNIT 4096u
#define ROUNDS 12u

/* ---- the load ---- */

/* One of the requests that are in flight at a time. */
typedef struct Slot {
    BlockBackend *blk;
    uint64_t offset;
    _Atomic bool stop;
    bool in_flight; /* the canary */
    unsigned submitted, completed;
    uint8_t *data, *back;
    TestEvent end;
} Slot;

static Slot slots[DEPTH];
static pthread_t home_thread;

static coroutine_fn RUNS_IN_IOTHREAD void slot_request(Slot *s, bool write)
{
    struct iovec iov = {write ? s->data : s->back, UNIT};
    assert_false(s->in_flight);
    s->in_flight = true;
    s->submitted++;
    int ret = write ? blk_co_pwritev(s->blk, s->offset, UNIT, &iov, 1, 0)
                    : blk_co_preadv(s->blk, s->offset, UNIT, &iov, 1, 0);
    assert_int_equal(ret, 0);
    assert_true(s->in_flight);
    assert_true(pthread_equal(pthread_self(), home_thread));
    s->in_flight = false;
    s->completed++;
}

static void slot_run(void *opaque)
{
    Slot *s = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    home_thread = pthread_self();
    while (!atomic_load(&s->stop)) {
        test_fill(s->data, UNIT, s->submitted + (unsigned)s->offset);
        slot_request(s, true);
        slot_request(s, false);
        assert_memory_equal(s->data, s->back, UNIT);
    }
    test_event_set(&s->end);
}

static RUNS_IN_MAIN void load_start(BlockBackend *blk)
{
    for (unsigned i = 0; i < DEPTH; i++) {
        Slot *s = &slots[i];
        uint8_t *data = s->data, *back = s->back;
        *s = (Slot){.blk = blk, .offset = i * 65536u + 8192u, .data = data, .back = back};
        if (data == NULL) {
            s->data = aligned_alloc(UNIT, UNIT);
            s->back = aligned_alloc(UNIT, UNIT);
        }
        co_start(test_home, slot_run, s);
    }
}

static void load_ask_stop(void)
{
    for (unsigned i = 0; i < DEPTH; i++) {
        atomic_store(&slots[i].stop, true);
    }
}

static coroutine_fn RUNS_IN_MAIN void load_finish(void)
{
    for (unsigned i = 0; i < DEPTH; i++) {
        test_event_wait(&slots[i].end);
        assert_int_equal(slots[i].submitted, slots[i].completed);
        assert_true(slots[i].completed > 0);
    }
}

static void load_free(void)
{
    for (unsigned i = 0; i < DEPTH; i++) {
        free(slots[i].data);
        free(slots[i].back);
        slots[i] = (Slot){0};
    }
}

/* Each slot's data is what it has written last. */
static coroutine_fn RUNS_IN_MAIN void load_verify(BlockBackend *blk)
{
    uint8_t *buf = aligned_alloc(UNIT, UNIT);
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_int_equal(test_io(blk, TEST_READ, slots[i].offset, UNIT, buf, 0), 0);
        assert_memory_equal(buf, slots[i].data, UNIT);
    }
    free(buf);
}

/* ---- the disk ---- */

static coroutine_fn RUNS_IN_MAIN BlockNode *disk_open(const char *path)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=disk,cache.direct=on,file.driver=file,file.aio=native,file.filename=%s",
        path);
    return test_node_add(text);
}

static coroutine_fn RUNS_IN_MAIN void snapshot(BlockNode *n, const char *path)
{
    GError *error = NULL;
    NewImageConfig image = {.mode = NEW_IMAGE_ABSOLUTE_PATHS, .filename = path};
    ExternalSnapshot *s = external_snapshot_co_begin_image(n, &image, &error);
    if (s == NULL || !external_snapshot_co_insert(s, &error)) {
        fail_msg("%s", error->message);
    }
    external_snapshot_co_end(s, true);
}

/* ---- drained sections that begin while the iothread is held ---- */

static const char *held_point;
static unsigned held_count;

static void held_release(void *opaque)
{
    enter_coroutine();
    enter_main();
    for (unsigned i = 0; i < 8; i++) { /* the messages of the section have been sent */
        co_yield_turn();
    }
    sched_point_release(held_point);
}

/* Each graph change of the test calls this before it drains the disk. */
static void held_before_drain(void *arg, const void *change)
{
    sched_point_hold(held_point);
    sched_point_await(held_point);
    held_count++;
    co_start(test_main, held_release, NULL);
}

static coroutine_fn RUNS_IN_MAIN void commit_middle(BlockBackend *blk)
{
    GError *error = NULL;
    BlockNode *top = blk_root(blk)->backing;
    CommitConfig config = {.job = {.id = "j"}, .top = top, .base = top->backing};
    co_mutex_lock(&job_operation);
    if (block_commit_co_start(&config, &error) == NULL) {
        fail_msg("%s", error->message);
    }
    co_mutex_unlock(&job_operation);
    job_await_end("j", "COMPLETED ");
}

/* Requests are in flight when the device is removed. */
static coroutine_fn RUNS_IN_MAIN void unplug(BlockBackend *blk)
{
    sched_point_hold(held_point);
    sched_point_await(held_point);
    load_ask_stop();
    co_start(test_main, held_release, NULL);
    co_drained_begin(&blk, 1); /* what the device does first */
    assert_int_equal(blk_in_flight(blk), 0);
    co_drained_end(&blk, 1);
    load_finish();
    load_verify(blk);
    blk_co_free(blk);
}

BLOCK_TEST(each_request_completes_once_in_the_iothread)
{
    static const char *const points[] = {"engine.native_event", "engine.native_reaped"};
    char *base = chain_image(NULL);
    char *over[2] = {chain_path(), chain_path()};
    BlockNode *n = disk_open(base);
    block_node_ref(n);
    for (unsigned i = 0; i < ROUNDS; i++) {
        BlockBackend *blk = blk_co_new("guest", n, true, NULL);
        held_point = points[i % 2];
        load_start(blk);
        sched_point_hook("block.change_drain", held_before_drain, NULL);
        unlink(over[i % 2]);
        snapshot(blk_root(blk), over[i % 2]);
        if (i > 0) {
            commit_middle(blk);
        }
        sched_point_hook("block.change_drain", NULL, NULL);
        block_co_unref(n);
        n = blk_root(blk);
        block_node_ref(n);
        unplug(blk);
    }
    assert_int_equal(held_count, ROUNDS + 2 * (ROUNDS - 1));
    block_co_unref(n);
    test_node_del("disk");
    load_free();
    sched_point_reset();
    assert_int_equal(shell("qemu-img check -q %s", over[(ROUNDS - 1) % 2]), 0);
    for (unsigned i = 0; i < 2; i++) {
        unlink(over[i]);
        g_free(over[i]);
    }
    test_file_free(base);
}

/* ---- the intruder ---- */

static coroutine_fn RUNS_IN_MAIN void intruder_body(void)
{
    char *base = chain_image(NULL);
    BlockBackend *blk = blk_co_new("guest", disk_open(base), true, NULL);
    unlink(base);
    load_start(blk);
    sched_point_hold("engine.native_event");
    sched_point_await("engine.native_event");
}

/* As QEMU's main loop does when it waits for requests of an iothread's disk. */
static void run_the_iothreads_loop(void *arg)
{
    void *state = NULL;
    test_poll_ns = 1000000; /* a turn looks at the ring itself */
    assert_int_equal(job_test_setup(&state), 0);
    test_run(intruder_body);
    alarm(10); /* without the owner's check this thread fetches an event too, and stops there */
    for (;;) {
        aio_context_step(test_home, true);
    }
}

static void a_second_thread_that_runs_the_loop_aborts(void **state)
{
    assert_dies(run_the_iothreads_loop, NULL,
                "bug: context 'iothread/io0' is run from inside a turn");
}

static void each_request(void **state)
{
    assert_int_equal(job_test_setup(state), 0);
    each_request_completes_once_in_the_iothread(state);
    job_test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_thread_that_runs_the_loop_aborts), /* it forks: without threads */
        cmocka_unit_test(each_request),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
