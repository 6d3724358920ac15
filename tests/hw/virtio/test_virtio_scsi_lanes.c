/* SPDX-License-Identifier: Apache-2.0 */
/* Task management functions while another iothread, which has a request queue, is late. */
#include <sched.h>
#include "block/driver/mem.h"
#include "tests/hw/virtio/virtio_scsi_bench.h"

#define ABORT_TASK 0
#define HOME_TURNS 32u

typedef struct Late {
    Fixture *f;
    _Atomic bool armed, sent;
    _Atomic unsigned turns, looked, wrong;
} Late;

static bool has_used(const VirtioGuestQueue *q)
{
    return atomic_load(&q->ring.used->idx) != q->ring.last_used;
}

static void count_turn(void *opaque)
{
    Late *l = opaque;
    l->turns++;
}

/* The iothread is late: the home has so many turns meanwhile. */
static void let_home_run(Late *l)
{
    for (unsigned i = 0; i < HOME_TURNS; i++) {
        l->turns = 0;
        aio_post(l->f->g.bench->home, count_turn, l);
        while (l->turns == 0) {
            sched_yield();
        }
    }
}

/* ---- a request that has just ended ---- */

static void send_function(void *arg, const void *object)
{
    Late *l = arg;
    bool armed = true;
    if (atomic_compare_exchange_strong(&l->armed, &armed, false)) {
        scsi_tmf_send(&l->f->tmf, ABORT_TASK, 0, 0, l->f->calls[0].tag);
        l->sent = true;
    }
}

/* In the queue's iothread, before the used entry becomes visible. */
static void flush_late(void *arg, const void *object)
{
    Late *l = arg;
    const VirtioQueue *q = object;
    bool sent = true;
    if (virtio_queue_home(q->vdev, q->index) != l->f->g.bench->home &&
        atomic_compare_exchange_strong(&l->sent, &sent, false)) {
        let_home_run(l);
        l->looked++;
        l->wrong += has_used(&l->f->g.control) && !has_used(&l->f->g.requests[0]);
    }
}

/* A driver that sees the answer reuses the memory of the request and its tag. */
static void an_answer_does_not_overtake_a_request_that_has_just_ended(void **state)
{
    Late l = {.f = *state};
    hang(l.f, 0);
    sched_point_hook("scsi.executed", send_function, &l);
    sched_point_hook("virtio.flush", flush_late, &l);
    l.armed = true;
    blk_disk_complete(&l.f->g.disk, 0);
    virtio_bench_settle(l.f->g.bench);
    sched_point_reset();
    assert_int_equal(l.looked, 1);
    assert_int_equal(l.wrong, 0);
    assert_int_equal(scsi_tmf_response(&l.f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&l.f->calls[0]), SCSI_STATUS_GOOD);
    scsi_guest_took(&l.f->g.requests[0], 0);
    scsi_guest_took(&l.f->g.control, 0);
}

/* ---- a start ---- */

/* In main, before the last iothread's command to run is scheduled. */
static void start_late(void *arg, const void *object)
{
    Late *l = arg;
    const VirtioDevice *vdev = &l->f->g.guest.dev->vdev;
    bool armed = true;
    if (object == &vdev->lanes[vdev->num_lanes - 1].run_bh &&
        atomic_compare_exchange_strong(&l->armed, &armed, false)) {
        let_home_run(l);
        l->looked++;
    }
}

static void a_function_at_a_start_concerns_parked_requests_of_all_queues(void **state)
{
    Late l = {.f = *state};
    hold(l.f, 0);
    virtio_bench_stop(l.f->g.bench, l.f->g.controller);
    scsi_tmf_send(&l.f->tmf, ABORT_TASK, 0, 0, l.f->calls[0].tag);
    sched_point_hook("aio.bh.marked", start_late, &l);
    l.armed = true;
    virtio_bench_start(l.f->g.bench, l.f->g.controller);
    virtio_bench_settle(l.f->g.bench);
    sched_point_reset();
    assert_int_equal(l.looked, 1);
    while (waiting(l.f) > 0) {
        assert_int_equal(scsi_tmf_response(&l.f->tmf), PENDING_TMF); /* it waits for that write */
        complete(l.f, 0);
    }
    assert_int_equal(scsi_tmf_response(&l.f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&l.f->calls[0]), ABORTED);
    scsi_guest_took(&l.f->g.requests[0], 0);
    scsi_guest_took(&l.f->g.control, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_answer_does_not_overtake_a_request_that_has_just_ended,
                                        set_up_mapped, tear_down),
        cmocka_unit_test_setup_teardown(
            a_function_at_a_start_concerns_parked_requests_of_all_queues, set_up_mapped, tear_down),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
