/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-scsi: task management while requests hang. */
#include "tests/hw/virtio/virtio_scsi_bench.h"

/* ---- task management ---- */

static void abort_task_answers_when_the_request_has_ended(void **state)
{
    Fixture *f = *state;
    hang(f, 0);
    hang(f, 1);
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, f->calls[0].tag);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    assert_int_equal(scsi_call_result(&f->calls[0]), SCSI_CALL_PENDING);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[0]), ABORTED);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&f->calls[1]), SCSI_CALL_PENDING);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[1]), SCSI_STATUS_GOOD);
}

static void a_function_for_nothing_answers_at_once(void **state)
{
    Fixture *f = *state;
    hang(f, 0);
    static const struct {
        uint32_t subtype;
        uint8_t target, lun;
        uint8_t response;
    } functions[] = {{ABORT_TASK, 0, 0, VIRTIO_SCSI_S_OK},
                     {ABORT_SET, 0, 1, VIRTIO_SCSI_S_OK},
                     {LUN_RESET, 0, 1, VIRTIO_SCSI_S_OK},
                     {CLEAR_ACA, 0, 0, VIRTIO_SCSI_S_FUNCTION_REJECTED},
                     {8, 0, 0, VIRTIO_SCSI_S_FUNCTION_REJECTED},
                     {UINT32_MAX, 0, 0, VIRTIO_SCSI_S_FUNCTION_REJECTED},
                     {QUERY, 0, 0, VIRTIO_SCSI_S_OK},
                     {QUERY_SET, 0, 0, VIRTIO_SCSI_S_FUNCTION_SUCCEEDED},
                     {QUERY_SET, 0, 1, VIRTIO_SCSI_S_OK},
                     {LUN_RESET, 0, 2, VIRTIO_SCSI_S_INCORRECT_LUN},
                     {NEXUS_RESET, 1, 0, VIRTIO_SCSI_S_BAD_TARGET},
                     {ABORT_TASK, 9, 0, VIRTIO_SCSI_S_BAD_TARGET}};
    for (unsigned i = 0; i < G_N_ELEMENTS(functions); i++) {
        scsi_tmf_send(&f->tmf, functions[i].subtype, functions[i].target, functions[i].lun, 12345);
        assert_int_equal(scsi_tmf_response(&f->tmf), functions[i].response);
    }
    scsi_tmf_send(&f->tmf, QUERY, 0, 0, f->calls[0].tag);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_FUNCTION_SUCCEEDED);
    complete(f, 0);
}

static void a_lun_reset_ends_the_luns_requests(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 3; i++) {
        hang(f, i);
    }
    scsi_tmf_send(&f->tmf, LUN_RESET, 0, 0, 0);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    /* another LUN is not concerned; a later request is no part of the reset */
    assert_int_equal(scsi_call_run(&f->other_call, write_one, SCSI_DIR_OUT, 512), SCSI_STATUS_GOOD);
    assert_int_equal(run_ready(&f->calls[3]), SCSI_STATUS_CHECK_CONDITION);
    assert_int_equal(scsi_call_sense(&f->calls[3]), 0x62900);
    hang(f, 3);
    complete(f, 0);
    complete(f, -EIO); /* not held: it was cancelled */
    assert_int_equal(f->g.bench->machine->request_count, 0);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    complete(f, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(scsi_call_result(&f->calls[i]), RESET);
    }
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&f->calls[3]), SCSI_CALL_PENDING);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[3]), SCSI_STATUS_GOOD);
}

static void a_nexus_reset_resets_each_lun_of_the_target(void **state)
{
    Fixture *f = *state;
    hang(f, 0);
    scsi_tmf_send(&f->tmf, NEXUS_RESET, 0, 7, 0);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    assert_int_equal(run_ready(&f->other_call), SCSI_STATUS_CHECK_CONDITION);
    assert_int_equal(scsi_call_sense(&f->other_call), 0x62900);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[0]), RESET);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
}

static void two_functions_wait_for_one_request(void **state)
{
    Fixture *f = *state;
    ScsiTmf second;
    scsi_tmf_init(&second, &f->g.control);
    hang(f, 0);
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, f->calls[0].tag);
    scsi_tmf_send(&second, LUN_RESET, 0, 0, 0);
    assert_int_equal(scsi_tmf_response(&second), PENDING_TMF);
    complete(f, 0);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_tmf_response(&second), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&f->calls[0]), RESET);
}

/* ---- order ---- */

typedef struct Order {
    Fixture *f;
    _Atomic unsigned looked, wrong;
} Order;

static bool has_used(const VirtioGuestQueue *q)
{
    return atomic_load(&q->ring.used->idx) != q->ring.last_used;
}

/* In an iothread, at each moment before used entries become visible. */
static void look_at_order(void *arg, const void *object)
{
    Order *o = arg;
    if (has_used(&o->f->g.control)) {
        o->looked++;
        o->wrong += !has_used(&o->f->g.requests[0]);
    }
}

/* The aborted request's used entry is visible first: a driver that sees the answer reuses its
 * memory. A held request ends in the function's own turn. */
static void the_request_is_visible_before_the_answer(void **state)
{
    Fixture *f = *state;
    for (unsigned round = 0; round < 20; round++) { /* some entries are published early */
        Order order = {.f = f};
        bool held = round % 2;
        hang(f, 0);
        if (held) {
            complete(f, -EIO);
        }
        sched_point_hook("virtio.flush", look_at_order, &order);
        scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, f->calls[0].tag);
        virtio_bench_settle(f->g.bench);
        if (!held) {
            complete(f, 0);
        }
        sched_point_reset();
        assert_true(order.looked > 0);
        assert_int_equal(order.wrong, 0);
        assert_true(scsi_guest_took(&f->g.requests[0], f->calls[0].head));
        assert_true(scsi_guest_took(&f->g.control, f->tmf.head));
    }
}

/* A request that was made available before the function, and whose doorbell comes later. */
static void a_function_concerns_requests_not_taken_yet(void **state)
{
    Fixture *f = *state;
    ScsiCall *c = &f->calls[0];
    VringBuffer chain[3];
    VringDriver *ring = &f->g.requests[0].ring;
    unsigned count = scsi_call_build(c, write_one, SCSI_DIR_OUT, 512, chain);
    vring_driver_offer(ring, vring_driver_chain(ring, chain, count));
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, c->tag);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    assert_int_equal(waiting(f), 1);
    virtio_guest_kick(&f->g.requests[0]);
    complete(f, 0);
    assert_int_equal(scsi_call_result(c), ABORTED);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
}

/* ---- commands of several parts ---- */

static void a_command_of_parts_stops_at_the_next(void **state)
{
    Fixture *f = *state;
    static const uint8_t same[10] = {SCSI_WRITE_SAME_10, 0, 0, 0, 0, 0, 0, 4, 0};
    memset(scsi_call_data(&f->calls[0]), 0x55, 512);
    scsi_call_send(&f->calls[0], same, SCSI_DIR_OUT, 512); /* 512 KiB: four parts */
    assert_int_equal(waiting(f), 1);
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, f->calls[0].tag);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    complete(f, 0);
    assert_int_equal(waiting(f), 0);
    assert_int_equal(scsi_call_result(&f->calls[0]), ABORTED);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
}

static void a_command_that_waits_for_the_buffer_ends_at_once(void **state)
{
    Fixture *f = *state;
    static const uint8_t verify[10] = {SCSI_VERIFY_10, 2, 0, 0, 0, 0, 0, 0, 1};
    scsi_call_send(&f->calls[0], verify, SCSI_DIR_OUT, 512);
    assert_int_equal(waiting(f), 1);
    scsi_call_send(&f->calls[1], verify, SCSI_DIR_OUT, 512);
    scsi_call_send(&f->calls[2], verify, SCSI_DIR_OUT, 512);
    assert_int_equal(waiting(f), 1);
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, f->calls[1].tag);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&f->calls[1]), ABORTED);
    memset(scsi_call_data(&f->calls[0]), 0, 512);
    memset(scsi_call_data(&f->calls[2]), 0, 512);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[0]), SCSI_STATUS_GOOD);
    assert_int_equal(waiting(f), 1);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[2]), SCSI_STATUS_GOOD);
}

/* A driver that completes reads at once: the loop serves others between the parts. */
static void a_long_command_can_be_aborted(void **state)
{
    Fixture *f = *state;
    static const uint8_t verify[16] = {SCSI_VERIFY_16, 0,    0,    0,    0, 0, 0, 0, 0, 0,
                                       0xff,           0xff, 0xff, 0xff, 0, 0};
    BlkDisk large;
    blk_disk_open_as(&large, f->g.bench, "driver=null-co,node-name=large,size=4T");
    Device *lun = scsi_guest_add(&f->g, "scsi-hd", "drive=large,scsi-id=0,lun=2");
    f->calls[0].lun = 2;
    scsi_call_clear_attentions(&f->calls[0]);
    scsi_call_send(&f->calls[0], verify, SCSI_DIR_NONE, 0);
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 2, f->calls[0].tag);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&f->calls[0]), ABORTED);
    scsi_guest_remove(&f->g, lun);
    blk_disk_close(&large);
}

/* ---- no slot is left for a request ---- */

#define OTHER_SOURCES 63

static void take_shares(void *opaque)
{
    AioContext *home = opaque;
    enter_iothread(home);
    for (unsigned i = 0; i < OTHER_SOURCES; i++) {
        co_requests_begin(home, 1);
    }
}

static void give_shares_back(void *opaque)
{
    AioContext *home = opaque;
    enter_iothread(home);
    for (unsigned i = 0; i < OTHER_SOURCES; i++) {
        co_requests_end(home, 1);
    }
}

static void a_disk_that_hangs_with_all_slots_can_be_reset(void **state)
{
    Fixture *f = *state;
    ScsiCall calls[80];
    virtio_bench_at_home(f->g.bench, take_shares, f->g.bench->home);
    for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++) {
        scsi_call_init(&calls[i], &f->g.requests[0], 512);
        scsi_call_send(&calls[i], write_one, SCSI_DIR_OUT, 512);
    }
    unsigned taken = waiting(f);
    assert_true(taken < G_N_ELEMENTS(calls)); /* the rest has no slot */
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, calls[0].tag);
    virtio_bench_settle(f->g.bench);
    complete(f, 0);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&calls[0]), ABORTED);
    while (waiting(f)) {
        complete(f, 0);
    }
    for (unsigned i = 1; i < G_N_ELEMENTS(calls); i++) {
        assert_int_equal(scsi_call_result(&calls[i]), SCSI_STATUS_GOOD);
    }
    virtio_bench_at_home(f->g.bench, give_shares_back, f->g.bench->home);
}

/* What a later function cancels does not delay an earlier one. */
static void a_function_waits_for_older_requests_only(void **state)
{
    Fixture *f = *state;
    ScsiTmf later;
    scsi_tmf_init(&later, &f->g.control);
    hang(f, 0);
    scsi_tmf_send(&f->tmf, ABORT_SET, 0, 0, 0);
    hang(f, 1);
    scsi_tmf_send(&later, ABORT_SET, 0, 0, 0);
    virtio_bench_settle(f->g.bench);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    complete(f, 0);
    unsigned earlier = scsi_tmf_response(&f->tmf), pending = scsi_tmf_response(&later);
    complete(f, 0);
    assert_int_equal(earlier, VIRTIO_SCSI_S_OK);
    assert_int_equal(pending, PENDING_TMF);
    assert_int_equal(scsi_tmf_response(&later), VIRTIO_SCSI_S_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BOTH_WAYS(abort_task_answers_when_the_request_has_ended),
        BOTH_WAYS(a_function_for_nothing_answers_at_once),
        BOTH_WAYS(a_lun_reset_ends_the_luns_requests),
        BOTH_WAYS(a_nexus_reset_resets_each_lun_of_the_target),
        BOTH_WAYS(two_functions_wait_for_one_request),
        BOTH_WAYS(the_request_is_visible_before_the_answer),
        BOTH_WAYS(a_function_concerns_requests_not_taken_yet),
        BOTH_WAYS(a_command_of_parts_stops_at_the_next),
        BOTH_WAYS(a_command_that_waits_for_the_buffer_ends_at_once),
        BOTH_WAYS(a_long_command_can_be_aborted),
        BOTH_WAYS(a_disk_that_hangs_with_all_slots_can_be_reset),
        BOTH_WAYS(a_function_waits_for_older_requests_only),
    };
    alarm(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
