/* SPDX-License-Identifier: Apache-2.0 */
/* Iothreads of iothread-vq-mapping that read and write a file themselves: which requests they execute,
 * and what waits for these. */
#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "block/throttle.h"
#include "tests/hw/virtio/virtio_blk_lanes_bench.h"

/* ---- which requests ---- */

static void reads_and_writes_pass_the_home_by(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < PER_QUEUE; i++) {
        write_and_check(f, i % 2, i, (uint8_t)(i + 1));
    }
    for (unsigned i = 0; i < PER_QUEUE; i++) {
        BlkRequest *r = &f->requests[i % 2][i];
        memset(blk_request_data(r), 0, 4096);
        blk_request_send(r, BLK_IN, sector_of(i % 2, i), 4096);
        await(f, i % 2, i);
        assert_int_equal(blk_request_status(r), BLK_OK);
        assert_int_equal(blk_request_data(r)[4095], i + 1);
    }
    assert_int_equal(sched_point_count("block.lane_run"), 2 * PER_QUEUE);
    assert_int_equal(sched_point_count("loop.batch"), 0);
}

static void other_requests_go_to_the_home(void **state)
{
    Fixture *f = *state;
    BlkRequest *r = &f->requests[0][0];
    struct {
        unsigned type;
        uint64_t sector;
        uint32_t bytes;
        uint8_t status;
    } each[] = {
        {BLK_FLUSH, 0, 0, BLK_OK},
        {BLK_GET_ID, 0, 20, BLK_OK},
        {77, 0, 512, BLK_UNSUPP},
        {BLK_OUT, 1, 511, BLK_IOERR},
        {BLK_OUT, DISK_BYTES / 512, 512, BLK_IOERR},
        {BLK_OUT, UINT64_MAX / 512 + 2, 512, BLK_IOERR},
        {BLK_IN, UINT64_MAX, 512, BLK_IOERR},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(each); i++) {
        blk_request_send(r, each[i].type, each[i].sector, each[i].bytes);
        await(f, 0, 0);
        assert_int_equal(blk_request_status(r), each[i].status);
        assert_int_equal(sched_point_count("loop.batch"), 2 * i + 2);
    }
    write_and_check(f, 2, 0, 9); /* of the home's own ring */
    assert_int_equal(sched_point_count("block.lane_run"), 0);
}

static void without_a_write_cache_writes_go_to_the_home(void **state)
{
    Fixture *f = *state;
    plug_with(f, ",\"write-cache\":\"off\"");
    assert_false(is_direct(f));
}

static void statistics_count_all_lanes(void **state)
{
    Fixture *f = *state;
    BlkStats s;
    for (unsigned q = 0; q < QUEUES; q++) {
        write_and_check(f, q, 1, 5);
    }
    assert_int_equal(sched_point_count("block.lane_run"), 2);
    blk_stats(backend(f), &s);
    assert_int_equal(s.operations[BLK_OP_WRITE], 3);
    assert_int_equal(s.bytes[BLK_OP_WRITE], 3 * 4096);
    assert_int_equal(s.operations[BLK_OP_READ], 0);
    assert_int_equal(s.write_end, sector_of(2, 2) * 512);
    sys_fault_set(&(SysFault){.calls = "preadv2", .count = 1, .error = EIO});
    blk_request_send(&f->requests[0][0], BLK_IN, 0, 4096);
    await(f, 0, 0);
    assert_int_equal(blk_request_status(&f->requests[0][0]), BLK_IOERR);
    blk_stats(backend(f), &s);
    assert_int_equal(s.failed[BLK_OP_READ], 1);
}

/* werror=stop: the request is parked, the VM stops, and it is executed after `cont`. */
static void an_error_of_a_lane_stops_the_vm(void **state)
{
    Fixture *f = *state;
    sys_fault_set(&(SysFault){.calls = "pwritev2", .count = 1, .error = ENOSPC});
    send_write(f, 0, 0, 0x11);
    while (fake_machine_last_request(f->bench->machine).request == -1) {
        virtio_bench_settle(f->bench);
    }
    assert_int_equal(fake_machine_last_request(f->bench->machine).request,
                     VM_REQUEST_STOP_IO_ERROR);
    assert_int_equal(blk_io_status(backend(f)), BLK_IO_NOSPACE);
    virtio_bench_stop(f->bench, f->dev);
    assert_int_equal(blk_request_status(&f->requests[0][0]), BLK_PENDING);
    virtio_bench_start(f->bench, f->dev);
    await(f, 0, 0);
    assert_int_equal(blk_request_status(&f->requests[0][0]), BLK_OK);
    assert_int_equal(byte_on_disk(f, 0, 0), 0x11);
    assert_int_equal(sched_point_count("block.lane_run"), 2);
}

/* ---- drained sections ---- */

static coroutine_fn RUNS_IN_MAIN void section(Action *a)
{
    BlockBackend *blk = backend(a->f);
    co_drained_begin(&blk, 1);
    a->status = blk_request_status(&a->f->requests[0][0]);
    a->begun = true;
    a->token = co_arm();
    co_wait(a->token);
    co_drained_end(&blk, 1);
}

static void section_end(Action *a)
{
    co_wake(a->token);
    action_finish(a);
}

static void a_section_waits_for_a_lane_and_holds_its_later_requests(void **state)
{
    Fixture *f = *state;
    Action a = {.fn = section};
    send_held(f);
    action_start(&a, f);
    assert_false(a.begun);
    release_held(f);
    virtio_bench_settle(f->bench);
    assert_true(a.begun);
    assert_int_equal(a.status, BLK_OK); /* the guest had its answer before */
    send_write(f, 0, 1, 0x22);
    send_write(f, 1, 1, 0x23);
    assert_int_equal(blk_request_status(&f->requests[0][1]), BLK_PENDING);
    assert_int_equal(byte_on_disk(f, 0, 1), 0);
    section_end(&a);
    await(f, 0, 1);
    await(f, 1, 1);
    assert_int_equal(byte_on_disk(f, 0, 1), 0x22);
    assert_int_equal(sched_point_count("block.lane_run"), 1); /* these went to the home */
    assert_true(is_direct(f));
}

/* A section of the node at the bottom alone, as a reopen or a close of another user begins one. */
static coroutine_fn RUNS_IN_MAIN void node_section(Action *a)
{
    BlockNode *n = block_node_find("prot");
    BlockSection *s = block_nodes_co_drained_begin(&n, 1);
    block_nodes_co_drained_end(s);
}

static void a_section_of_a_node_below_waits_too(void **state)
{
    Fixture *f = *state;
    Action a = {.fn = node_section};
    action_waits_for_the_lane(f, &a);
    assert_true(is_direct(f));
}

/* The lane's thread is held before it executes the command to close. */
static void a_kick_while_the_gate_closes_goes_to_the_home(void **state)
{
    Fixture *f = *state;
    Action a = {.fn = section};
    sched_point_hold("block.lane_command");
    a.f = f;
    co_start(f->bench->main_ctx, action_run, &a);
    aio_context_step(f->bench->main_ctx, false);
    sched_point_await("block.lane_command");
    BlkRequest *r = &f->requests[0][1];
    memset(blk_request_data(r), 0x33, 4096);
    blk_request_send(r, BLK_OUT, sector_of(0, 1), 4096);
    loops_settle(f->bench->main_ctx, f->bench->home); /* neither main nor the home wait */
    assert_false(a.begun);
    sched_point_release("block.lane_command");
    while (!a.begun) {
        aio_context_step(f->bench->main_ctx, true);
    }
    virtio_bench_settle(f->bench);
    assert_int_equal(blk_request_status(r), BLK_PENDING);
    section_end(&a);
    await(f, 0, 1);
    assert_int_equal(byte_on_disk(f, 0, 1), 0x33);
    assert_int_equal(sched_point_count("block.lane_run"), 0);
}

/* The lane is held before it executes the command to open; the command to close comes meanwhile. */
static void a_command_that_overtakes_another_is_executed_and_answered_once(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 5; i++) {
        Action first = {.fn = section}, second = {.fn = section};
        action_start(&first, f);
        assert_true(first.begun);
        sched_point_hold("block.lane_command");
        co_wake(first.token);
        aio_context_step(f->bench->main_ctx, false);
        sched_point_await("block.lane_command"); /* to open */
        second.f = f;
        co_start(f->bench->main_ctx, action_run, &second);
        loops_settle(f->bench->main_ctx, f->bench->home);
        assert_true(first.done && !second.begun);
        sched_point_release("block.lane_command");
        while (!second.begun) {
            aio_context_step(f->bench->main_ctx, true);
        }
        virtio_bench_settle(f->bench);
        section_end(&second);
        assert_true(is_direct(f));
    }
}

/* ---- what else waits ---- */

static coroutine_fn RUNS_IN_MAIN void stop(Action *a)
{
    a->f->dev->type->co_stop(a->f->dev);
}

static void a_stop_waits_for_a_lane(void **state)
{
    Fixture *f = *state;
    Action a = {.fn = stop};
    action_waits_for_the_lane(f, &a);
    virtio_bench_start(f->bench, f->dev);
    assert_true(is_direct(f));
}

static void an_unplug_waits_for_a_lane(void **state)
{
    Fixture *f = *state;
    Action a = {.fn = stop};
    send_held(f);
    action_start(&a, f);
    assert_false(a.done);
    sys_fault_release();
    action_finish(&a);
    virtio_bench_unplug(f->bench, f->dev); /* with open gates */
    assert_int_equal(byte_on_disk(f, 0, 0), 0xaa);
    plug_with(f, "");
    assert_true(is_direct(f));
}

/* Another descriptor of the file, and another engine. */
static coroutine_fn RUNS_IN_MAIN void reopen(Action *a)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text =
        g_strdup_printf("driver=file,node-name=prot,filename=%s,discard=unmap,locking=off,aio=%s",
                        a->f->path, (const char *)a->arg);
    g_autoptr(OptDict) d = opt_dict_parse(text, NULL, &error);
    g_assert_no_error(error);
    block_co_reopen(&d, 1, &error);
    g_assert_no_error(error);
}

static void a_reopen_waits_for_a_lane_which_uses_the_new_descriptor(void **state)
{
    Fixture *f = *state;
    Action a = {.fn = reopen, .arg = (void *)(uintptr_t) "threads"};
    action_waits_for_the_lane(f, &a);
    assert_true(is_direct(f));
    Action b = {.fn = reopen, .arg = (void *)(uintptr_t) "io_uring"};
    action_waits_for_the_lane(f, &b);
    assert_true(is_direct(f));
}

static coroutine_fn RUNS_IN_MAIN void resize(Action *a)
{
    g_autoptr(GError) error = NULL;
    int ret = block_node_co_resize(a->f->disk.node, 2 * DISK_BYTES, &error);
    assert_int_equal(ret, 0);
}

static void a_resize_waits_for_a_lane_which_uses_the_new_size(void **state)
{
    Fixture *f = *state;
    Action a = {.fn = resize};
    action_waits_for_the_lane(f, &a);
    blk_request_send(&f->requests[0][1], BLK_OUT, DISK_BYTES / 512, 4096);
    await(f, 0, 1);
    assert_int_equal(blk_request_status(&f->requests[0][1]), BLK_OK);
    assert_int_equal(sched_point_count("block.lane_run"), 2);
}

/* ---- who has to see the requests ---- */

static coroutine_fn RUNS_IN_MAIN void add_bitmap(Action *a)
{
    BlockNode *n = block_node_find(a->arg);
    assert_true(block_dirty_bitmap_co_add(n, "b", 4096, 0, NULL));
}

static coroutine_fn RUNS_IN_MAIN void remove_bitmap(Action *a)
{
    BlockNode *n = block_node_find(a->arg);
    assert_true(block_dirty_bitmap_co_remove(n, "b", NULL));
}

static void check_bitmap_of(Fixture *f, const char *node)
{
    BlockDirtyBitmapInfo info;
    Action add = {.fn = add_bitmap, .arg = (void *)(uintptr_t)node};
    Action remove = {.fn = remove_bitmap, .arg = (void *)(uintptr_t)node};
    action_waits_for_the_lane(f, &add);
    write_and_check(f, 0, 1, 0x44);
    write_and_check(f, 1, 2, 0x45);
    enter_main();
    block_dirty_bitmap_info(block_node_find(node), 0, &info);
    assert_int_equal(info.dirty_bytes, 2 * 4096);
    action_start(&remove, f);
    action_finish(&remove);
    assert_true(is_direct(f));
}

static void a_bitmap_records_all_writes_since_it_was_added(void **state)
{
    check_bitmap_of(*state, "disk");
    check_bitmap_of(*state, "prot");
}

static coroutine_fn RUNS_IN_MAIN void limit(Action *a)
{
    RateLimits limits;
    rate_limits_init(&limits);
    limits.buckets[RATE_BPS_TOTAL].avg = 1u << 30;
    ThrottleGroup *g = throttle_group_new("g", &limits);
    blk_co_set_throttle_group(backend(a->f), g);
    throttle_group_unref(g); /* the backend has a reference */
}

static coroutine_fn RUNS_IN_MAIN void unlimit(Action *a)
{
    blk_co_set_throttle_group(backend(a->f), NULL);
}

static coroutine_fn RUNS_IN_MAIN void histogram_on(Action *a)
{
    static const uint64_t boundaries[] = {1000};
    blk_co_set_histogram(backend(a->f), BLK_OP_WRITE, boundaries, 1);
}

static coroutine_fn RUNS_IN_MAIN void histogram_off(Action *a)
{
    blk_co_set_histogram(backend(a->f), BLK_OP_WRITE, NULL, 0);
}

static coroutine_fn RUNS_IN_MAIN void copying_on(Action *a)
{
    assert_true(block_node_co_prepare_copying(block_node_find("prot"), NULL));
}

static coroutine_fn RUNS_IN_MAIN void copying_off(Action *a)
{
    block_node_co_end_copying(block_node_find("prot"));
}

static void limits_histograms_and_tracking_see_all_requests(void **state)
{
    Fixture *f = *state;
    void (*const pairs[][2])(Action *) = {
        {limit, unlimit}, {histogram_on, histogram_off}, {copying_on, copying_off}};
    for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++) {
        Action on = {.fn = pairs[i][0]}, off = {.fn = pairs[i][1]};
        action_waits_for_the_lane(f, &on);
        assert_false(is_direct(f));
        action_start(&off, f);
        action_finish(&off);
        assert_true(is_direct(f));
    }
}

/* A filter without support for lanes, as that of a mirror. */
typedef struct Seen {
    _Atomic unsigned writes;
} Seen;

static coroutine_fn RUNS_IN_IOTHREAD int seen_co_pwritev(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov, unsigned flags)
{
    atomic_fetch_add(&((Seen *)n->state)->writes, 1);
    return block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
}

static const BlockDriver seen_driver = {
    .name = "seen",
    .state_size = sizeof(Seen),
    .has_file = true,
    .is_filter = true,
    .shows_file = true,
    .child_changed = block_filter_child_changed,
    .co_preadv = block_filter_co_preadv,
    .co_pwritev = seen_co_pwritev,
};

static coroutine_fn RUNS_IN_MAIN void insert_filter(Action *a)
{
    Fixture *f = a->f;
    BlockNodeCreate how = {.drv = &seen_driver, .name = "seen", .home = f->bench->home};
    BlockNode *below = block_node_find(a->arg), *filter = block_node_create(&how, NULL);
    BlockNode *nodes[] = {filter, below};
    BlockGraphChange *c = block_graph_co_begin(nodes, 2, NULL);
    a->begun = true;
    assert_true(block_graph_insert_filter(c, filter, below, NULL));
    assert_true(block_graph_commit(c, NULL));
    block_graph_co_end(c);
    a->arg = filter;
}

static coroutine_fn RUNS_IN_MAIN void remove_filter(Action *a)
{
    BlockNode *filter = a->arg;
    BlockGraphChange *c = block_graph_co_begin(&filter, 1, NULL);
    assert_true(block_graph_remove_filter(c, filter, NULL));
    assert_true(block_graph_commit(c, NULL));
    block_graph_co_end(c);
    block_co_unref(filter);
}

static void check_filter_above(Fixture *f, const char *node)
{
    Action insert = {.fn = insert_filter, .arg = (void *)(uintptr_t)node};
    action_waits_for_the_lane(f, &insert);
    const BlockNode *filter = insert.arg;
    for (unsigned q = 0; q < QUEUES; q++) {
        write_and_check(f, q, 1, (uint8_t)(0x50 + q));
    }
    assert_int_equal(((Seen *)filter->state)->writes, QUEUES);
    Action remove = {.fn = remove_filter, .arg = insert.arg};
    action_start(&remove, f);
    action_finish(&remove);
    assert_true(is_direct(f));
}

static void a_filter_sees_all_requests_since_its_insertion(void **state)
{
    check_filter_above(*state, "disk");
    check_filter_above(*state, "prot");
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(reads_and_writes_pass_the_home_by),
        TEST(other_requests_go_to_the_home),
        cmocka_unit_test_setup_teardown(without_a_write_cache_writes_go_to_the_home, set_up_disk,
                                        tear_down),
        TEST(statistics_count_all_lanes),
        TEST(an_error_of_a_lane_stops_the_vm),
        TEST(a_section_waits_for_a_lane_and_holds_its_later_requests),
        TEST(a_section_of_a_node_below_waits_too),
        TEST(a_kick_while_the_gate_closes_goes_to_the_home),
        TEST(a_command_that_overtakes_another_is_executed_and_answered_once),
        TEST(a_stop_waits_for_a_lane),
        TEST(an_unplug_waits_for_a_lane),
        TEST(a_reopen_waits_for_a_lane_which_uses_the_new_descriptor),
        TEST(a_resize_waits_for_a_lane_which_uses_the_new_size),
        TEST(a_bitmap_records_all_writes_since_it_was_added),
        TEST(limits_histograms_and_tracking_see_all_requests),
        TEST(a_filter_sees_all_requests_since_its_insertion),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
