/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-scsi with requests in flight or held: stop and cont, reset, drain, unplug; generated schedules. */
#include "tests/hw/virtio/virtio_scsi_bench.h"
#include "tests/support/rounds.h"

/* ---- held requests ---- */

static void a_held_request_is_tried_again_by_cont(void **state)
{
    Fixture *f = *state;
    hold(f, 0);
    hold(f, 1);
    restart(f);
    assert_int_equal(waiting(f), 2);
    complete(f, 0);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[0]), SCSI_STATUS_GOOD);
    assert_int_equal(scsi_call_result(&f->calls[1]), SCSI_STATUS_GOOD);
}

static void a_held_request_can_be_aborted(void **state)
{
    Fixture *f = *state;
    hold(f, 0);
    hold(f, 1);
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, f->calls[0].tag);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&f->calls[0]), ABORTED);
    restart(f);
    assert_int_equal(waiting(f), 1); /* the other one only */
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[1]), SCSI_STATUS_GOOD);
}

/* An error that comes while the queues stop. */
typedef struct Stop {
    Device *dev;
    bool done;
} Stop;

static void stop_device(void *opaque)
{
    Stop *s = opaque;
    enter_main();
    enter_coroutine();
    s->dev->type->co_stop(s->dev);
    s->done = true;
}

static void an_error_during_a_stop_is_parked(void **state)
{
    Fixture *f = *state;
    Stop stop = {.dev = f->g.controller};
    hang(f, 0);
    co_start(f->g.bench->main_ctx, stop_device, &stop);
    virtio_bench_settle(f->g.bench);
    assert_false(stop.done);
    complete(f, -EIO);
    assert_true(stop.done);
    virtio_bench_start(f->g.bench, f->g.controller);
    assert_int_equal(waiting(f), 1);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[0]), SCSI_STATUS_GOOD);
}

static void a_stop_waits_for_a_function(void **state)
{
    Fixture *f = *state;
    Stop stop = {.dev = f->g.controller};
    hang(f, 0);
    scsi_tmf_send(&f->tmf, LUN_RESET, 0, 0, 0);
    virtio_bench_settle(f->g.bench);
    co_start(f->g.bench->main_ctx, stop_device, &stop);
    virtio_bench_settle(f->g.bench);
    assert_false(stop.done);
    complete(f, 0);
    assert_true(stop.done);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    assert_int_equal(scsi_call_result(&f->calls[0]), RESET);
    virtio_bench_start(f->g.bench, f->g.controller);
}

/* Commands of several parts: VERIFY and WRITE SAME of the whole disk, UNMAP with two descriptors. */
typedef struct LongCommand {
    uint8_t cdb[10];
    int direction;
    unsigned bytes;
    uint8_t data[40];
} LongCommand;

static const LongCommand long_commands[] = {
    {{SCSI_VERIFY_10, [7] = 8}, SCSI_DIR_NONE, 0, {0}},
    {{SCSI_WRITE_SAME_10, [7] = 8}, SCSI_DIR_OUT, 512, {1}},
    {{SCSI_UNMAP, [8] = 40}, SCSI_DIR_OUT, 40, {[1] = 38, [3] = 32, [19] = 8, [31] = 8, [35] = 8}},
};

static void a_stop_waits_for_one_part_of_a_command(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(long_commands); i++) {
        const LongCommand *c = &long_commands[i];
        ScsiCall *call = &f->calls[i];
        Stop stop = {.dev = f->g.controller};
        memcpy(scsi_call_data(call), c->data, sizeof(c->data));
        scsi_call_send(call, c->cdb, c->direction, c->bytes);
        assert_int_equal(waiting(f), 1);
        co_start(f->g.bench->main_ctx, stop_device, &stop);
        virtio_bench_settle(f->g.bench);
        assert_false(stop.done);
        unsigned parts = 0;
        for (; !stop.done; parts++) {
            complete(f, 0);
        }
        assert_int_equal(parts, 1);
        assert_int_equal(scsi_call_result(call), SCSI_CALL_PENDING);
        virtio_bench_start(f->g.bench, f->g.controller);
        for (; waiting(f) > 0; parts++) {
            complete(f, 0);
        }
        assert_int_equal(scsi_call_result(call), SCSI_STATUS_GOOD);
    }
}

static void a_held_request_travels_with_the_state(void **state)
{
    Fixture *f = *state;
    hold(f, 0);
    virtio_bench_stop(f->g.bench, f->g.controller);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->g.bench, f->g.controller);
    g_autoptr(GByteArray) saved_lun = virtio_bench_save(f->g.bench, f->g.luns[0]);
    scsi_guest_remove(&f->g, f->g.luns[0]);
    scsi_guest_remove(&f->g, f->g.luns[0]);
    virtio_bench_unplug(f->g.bench, f->g.controller);
    f->g.controller = virtio_bench_device(f->g.bench, "virtio-scsi-pci", f->properties);
    add_luns(f);
    g_autofree char *text = virtio_bench_load(f->g.bench, f->g.controller, saved);
    assert_null(text);
    g_autofree char *lun_text = virtio_bench_load(f->g.bench, f->g.luns[0], saved_lun);
    assert_null(lun_text);
    blk_disk_set_manual(&f->g.disk, false);
    f->g.guest.dev = (VirtioPci *)(void *)f->g.controller;
    virtio_bench_start(f->g.bench, f->g.controller);
    assert_true(scsi_guest_took(&f->g.requests[0], f->calls[0].head));
    assert_int_equal(scsi_call_result(&f->calls[0]), SCSI_STATUS_GOOD);
}

/* ---- reset, drain, unplug ---- */

static void a_driver_reset_waits_for_requests_and_functions(void **state)
{
    Fixture *f = *state;
    hang(f, 0);
    scsi_tmf_send(&f->tmf, ABORT_TASK, 0, 0, f->calls[0].tag);
    virtio_bench_settle(f->g.bench);
    virtio_guest_set_status(&f->g.guest, 0);
    IoAccess a = {.size = 1};
    assert_int_equal(virtio_guest_access(&f->g.guest, f->g.guest.common + VIRTIO_COMMON_STATUS, &a),
                     MMIO_PENDING);
    virtio_bench_settle(f->g.bench);
    assert_false(completion_done(&a.waiter.done));
    complete(f, 0);
    assert_true(completion_done(&a.waiter.done));
    scsi_guest_bring_up(&f->g, ~0ull);
    prepare_calls(f);
    hang(f, 0);
    complete(f, 0);
    assert_int_equal(scsi_call_result(&f->calls[0]), SCSI_STATUS_GOOD);
}

static void a_reset_forgets_held_requests(void **state)
{
    Fixture *f = *state;
    hold(f, 0);
    virtio_guest_reset(&f->g.guest);
    scsi_guest_bring_up(&f->g, ~0ull);
    restart(f);
    assert_int_equal(waiting(f), 0);
}

typedef struct Unplug {
    Device *dev;
    bool done;
} Unplug;

static void unplug_lun(void *opaque)
{
    Unplug *u = opaque;
    enter_main();
    enter_coroutine();
    device_unrealize(u->dev);
    u->done = true;
}

static void a_lun_leaves_when_its_requests_have_ended(void **state)
{
    Fixture *f = *state;
    Unplug unplug = {.dev = f->g.luns[0]};
    hold(f, 0);
    hang(f, 1);
    scsi_tmf_send(&f->tmf, LUN_RESET, 0, 0, 0);
    virtio_bench_settle(f->g.bench);
    co_start(f->g.bench->main_ctx, unplug_lun, &unplug);
    virtio_bench_settle(f->g.bench);
    assert_false(unplug.done);
    assert_int_equal(run_ready(&f->calls[2]), SCSI_STATUS_CHECK_CONDITION);
    assert_int_equal(scsi_call_sense(&f->calls[2]), 0x52500); /* it is gone for new requests */
    complete(f, 0);
    assert_true(unplug.done);
    assert_int_not_equal(scsi_call_result(&f->calls[0]), SCSI_CALL_PENDING);
    assert_int_not_equal(scsi_call_result(&f->calls[1]), SCSI_CALL_PENDING);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    device_free(unplug.dev);
    f->g.luns[0] = f->g.luns[--f->g.lun_count];
    assert_int_equal(run_ready(&f->other_call), SCSI_STATUS_CHECK_CONDITION);
    assert_int_equal(scsi_call_sense(&f->other_call), 0x63f0e);
    assert_int_equal(scsi_call_run(&f->other_call, write_one, SCSI_DIR_OUT, 512), SCSI_STATUS_GOOD);
}

static void an_unplug_waits_for_requests(void **state)
{
    Fixture *f = *state;
    Unplug unplug = {.dev = f->g.luns[0]};
    hang(f, 0);
    co_start(f->g.bench->main_ctx, unplug_lun, &unplug);
    virtio_bench_settle(f->g.bench);
    assert_false(unplug.done);
    complete(f, 0);
    assert_true(unplug.done);
    assert_int_equal(scsi_call_result(&f->calls[0]), ABORTED);
    device_free(unplug.dev);
    f->g.luns[0] = f->g.luns[--f->g.lun_count];
}

static void an_unplug_does_not_wait_for_the_reset_of_another_lun(void **state)
{
    Fixture *f = *state;
    Unplug unplug = {.dev = f->g.luns[1]};
    hang(f, 0);
    scsi_tmf_send(&f->tmf, NEXUS_RESET, 0, 0, 0);
    assert_int_equal(scsi_tmf_response(&f->tmf), PENDING_TMF);
    co_start(f->g.bench->main_ctx, unplug_lun, &unplug);
    virtio_bench_settle(f->g.bench);
    bool done = unplug.done;
    complete(f, 0);
    assert_true(done);
    assert_int_equal(scsi_tmf_response(&f->tmf), VIRTIO_SCSI_S_OK);
    device_free(unplug.dev);
    f->g.lun_count--;
}

typedef struct Drained {
    Fixture *f;
    unsigned other, own; /* results inside */
} Drained;

static void nothing(void *opaque)
{
}

static void drained_section(void *opaque)
{
    Drained *d = opaque;
    Fixture *f = d->f;
    BlockBackend *blk = ((ScsiLun *)(void *)f->g.luns[0])->blk;
    enter_main();
    enter_coroutine();
    co_drained_begin(&blk, 1);
    scsi_call_send(&f->calls[0], write_one, SCSI_DIR_OUT, 512);
    scsi_call_send(&f->other_call, write_one, SCSI_DIR_OUT, 512);
    do { /* both were sent by then: the other one is behind it in the queue */
        co_call_in(f->g.bench->home, nothing, NULL);
        d->other = scsi_call_result(&f->other_call);
    } while (d->other == SCSI_CALL_PENDING);
    d->own = scsi_call_result(&f->calls[0]);
    co_drained_end(&blk, 1);
}

static void a_drained_disk_leaves_the_others_alone(void **state)
{
    Fixture *f = *state;
    Drained d = {.f = f};
    blk_disk_set_manual(&f->g.disk, false);
    virtio_bench_run(f->g.bench, drained_section, &d);
    assert_int_equal(d.own, SCSI_CALL_PENDING);
    assert_int_equal(d.other, SCSI_STATUS_GOOD);
    virtio_bench_settle(f->g.bench);
    assert_int_equal(scsi_call_result(&f->calls[0]), SCSI_STATUS_GOOD);
}

/* ---- all of it, at random ---- */

#define SLOTS 8

typedef struct Schedule {
    Fixture *f;
    ScsiCall calls[SLOTS];
    ScsiTmf functions[SLOTS];
    bool call_out[SLOTS], function_out[SLOTS];
    GRand *random;
    unsigned ended;
} Schedule;

/* Each used entry belongs to something that was sent and not answered. */
static void take_used(Schedule *s)
{
    uint32_t id, len;
    while (virtio_guest_used(&s->f->g.requests[0], &id, &len)) {
        unsigned i = 0;
        while (i < SLOTS && !(s->call_out[i] && s->calls[i].head == id)) {
            i++;
        }
        assert_true(i < SLOTS);
        assert_int_not_equal(scsi_call_result(&s->calls[i]), SCSI_CALL_PENDING);
        s->call_out[i] = false;
        s->ended++;
    }
    while (virtio_guest_used(&s->f->g.control, &id, &len)) {
        unsigned i = 0;
        while (i < SLOTS && !(s->function_out[i] && s->functions[i].head == id)) {
            i++;
        }
        assert_true(i < SLOTS);
        assert_int_not_equal(scsi_tmf_response(&s->functions[i]), PENDING_TMF);
        s->function_out[i] = false;
    }
}

static void send_something(Schedule *s)
{
    static const uint8_t cdbs[][16] = {{SCSI_WRITE_10, 0, 0, 0, 0, 0, 0, 0, 1},
                                       {SCSI_VERIFY_10, 2, 0, 0, 0, 0, 0, 0, 1},
                                       {SCSI_WRITE_SAME_10, 0, 0, 0, 0, 0, 0, 1, 0}};
    unsigned i = (unsigned)g_rand_int_range(s->random, 0, SLOTS);
    if (!s->call_out[i]) {
        s->calls[i].lun = g_rand_boolean(s->random);
        s->calls[i].tag = (uint64_t)g_rand_int_range(s->random, 0, 4);
        s->call_out[i] = true;
        scsi_call_send(&s->calls[i], cdbs[g_rand_int_range(s->random, 0, 3)], SCSI_DIR_OUT, 512);
    }
}

static void send_function(Schedule *s)
{
    unsigned i = (unsigned)g_rand_int_range(s->random, 0, SLOTS);
    if (!s->function_out[i]) {
        s->function_out[i] = true;
        scsi_tmf_send(&s->functions[i], (uint32_t)g_rand_int_range(s->random, 0, 9), 0,
                      (uint16_t)g_rand_boolean(s->random),
                      (uint64_t)g_rand_int_range(s->random, 0, 4));
    }
}

static void one_step(Schedule *s)
{
    switch (g_rand_int_range(s->random, 0, 12)) {
    case 0:
        if (!block_mem_waiting(s->f->g.disk.node)) { /* else the stop waits */
            restart(s->f);
        }
        break;
    case 1:
    case 2:
    case 3:
        send_function(s);
        break;
    case 4:
    case 5:
    case 6:
        blk_disk_complete(&s->f->g.disk, g_rand_int_range(s->random, 0, 4) ? 0 : -EIO);
        break;
    case 7:
        virtio_bench_settle(s->f->g.bench);
        break;
    default:
        send_something(s);
        break;
    }
    take_used(s);
}

static void settle_all(Schedule *s)
{
    do {
        while (waiting(s->f)) {
            blk_disk_complete(&s->f->g.disk, 0);
        }
        restart(s->f); /* held requests run again */
    } while (waiting(s->f));
    take_used(s);
}

static void each_request_and_function_ends_once(void **state)
{
    Fixture *f = *state;
    TestSeeds seeds = test_seeds(test_rounds(2, 10, 200));
    Schedule s = {.f = f};
    for (unsigned i = 0; i < SLOTS; i++) {
        scsi_call_init(&s.calls[i], &f->g.requests[0], 512);
        scsi_tmf_init(&s.functions[i], &f->g.control);
    }
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        s.random = g_rand_new_with_seed(seed);
        for (unsigned i = 0; i < 200; i++) {
            one_step(&s);
        }
        settle_all(&s);
        for (unsigned i = 0; i < SLOTS; i++) {
            assert_false(s.call_out[i]);
            assert_false(s.function_out[i]);
        }
        g_rand_free(s.random);
        f->g.bench->machine->request_count = 0; /* its list is short */
    }
    assert_true(s.ended > 10 * (seeds.end - seeds.first));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BOTH_WAYS(a_held_request_is_tried_again_by_cont),
        BOTH_WAYS(a_held_request_can_be_aborted),
        BOTH_WAYS(an_error_during_a_stop_is_parked),
        BOTH_WAYS(a_stop_waits_for_a_function),
        BOTH_WAYS(a_stop_waits_for_one_part_of_a_command),
        BOTH_WAYS(a_held_request_travels_with_the_state),
        BOTH_WAYS(a_driver_reset_waits_for_requests_and_functions),
        BOTH_WAYS(a_reset_forgets_held_requests),
        BOTH_WAYS(a_lun_leaves_when_its_requests_have_ended),
        BOTH_WAYS(an_unplug_waits_for_requests),
        BOTH_WAYS(an_unplug_does_not_wait_for_the_reset_of_another_lun),
        BOTH_WAYS(a_drained_disk_leaves_the_others_alone),
        BOTH_WAYS(each_request_and_function_ends_once),
    };
    alarm(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
