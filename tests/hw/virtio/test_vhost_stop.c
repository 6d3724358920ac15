/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stop of the VM and the kernel's vhost (docs/races.md, F1): vCPUs are parked, then the rings are taken
 * back, then the VM drains, in whatever order kicks, stops and starts arrive.
 *
 * The run state is the real one; its machine is the device and counters. Hooks at schedule points act in the
 * middle of each step.
 */
#include "tests/hw/virtio/virtio_vsock_bench.h"
#include "hw/core/run_state.h"
#include "util/loop/sched_point.h"

typedef struct Rig {
    Fixture *f;
    RunState rs;
    bool parked;
    unsigned drains, failures;
    /* what happens at a schedule point */
    unsigned action;
    unsigned at; /* occurrences that pass first */
    bool acted;
} Rig;

enum { KICKS, STOPS, STARTS, RESETS_VM, RESETS_DEVICE, ACTIONS };

/* ---- the machine ---- */

static void rig_co_park(void *opaque)
{
    ((Rig *)opaque)->parked = true;
}

static void rig_unpark(void *opaque)
{
    ((Rig *)opaque)->parked = false;
}

static void rig_co_stop_backends(void *opaque)
{
    Rig *r = opaque;
    Device *dev = r->f->dev;
    if (!r->rs.starting) {
        assert_true(r->parked);
    }
    dev->type->co_stop(dev);
    assert_false(fake_vhost_connected(r->f->vhost)); /* each ring was taken back */
}

static bool rig_co_start_backends(void *opaque, GError **error)
{
    Device *dev = ((Rig *)opaque)->f->dev;
    return dev->type->co_start(dev, error);
}

static void rig_co_drain(void *opaque)
{
    Rig *r = opaque;
    assert_int_equal(memory_users(), 0);
    assert_false(fake_vhost_connected(r->f->vhost));
    r->drains++;
}

static bool rig_co_reset(void *opaque, GError **error)
{
    const Fixture *f = ((Rig *)opaque)->f;
    bql_lock();
    f->dev->type->reset(f->dev);
    pci_bus_assign_resources(f->bench->bus); /* as firmware does */
    bql_unlock();
    return true;
}

static const RunStateOps rig_ops = {.co_park = rig_co_park,
                                    .unpark = rig_unpark,
                                    .co_stop_backends = rig_co_stop_backends,
                                    .co_start_backends = rig_co_start_backends,
                                    .co_drain = rig_co_drain,
                                    .co_reset = rig_co_reset};

/* ---- what the guest and the user do ---- */

static void rig_kick(Rig *r)
{
    VringBuffer b = {r->f->data, DATA_BYTES, true};
    virtio_guest_add(&r->f->queues[RX], &b, 1);
    virtio_guest_kick(&r->f->queues[RX]);
    fake_vhost_serve(r->f->vhost, 0, RX);
}

static void rig_act(void *opaque, const void *object)
{
    Rig *r = opaque;
    if (r->acted || r->at-- != 0) {
        return;
    }
    r->acted = true;
    switch (r->action) {
    case KICKS:
        rig_kick(r);
        break;
    case STOPS:
        run_state_request_stop(&r->rs, STOP_PAUSED);
        break;
    case STARTS:
        run_state_request_start(&r->rs);
        break;
    case RESETS_VM:
        run_state_request_reset(&r->rs);
        break;
    default: /* the guest resets the device: only while its vCPU runs */
        if (!r->parked && !virtio_resetting(device(r->f))) {
            IoAccess a = {.size = 1, .is_write = true, .value = 0};
            virtio_guest_access(&r->f->guest, r->f->guest.common + VIRTIO_COMMON_STATUS, &a);
        }
        break;
    }
}

static void rig_settle_run(void *opaque)
{
    Rig *r = opaque;
    enter_main();
    enter_coroutine();
    assert_true(run_state_co_settle(&r->rs, 60 * 1000000000ll));
}

static RUNS_IN_MAIN void rig_settle(Rig *r)
{
    virtio_bench_run(r->f->bench, rig_settle_run, r);
}

/* From RUNNING, with the kernel connected: a stop, with the action at occurrence @at of @point. */
static RUNS_IN_MAIN void take_one_path(void **state, const char *point, unsigned at,
                                       unsigned action)
{
    set_up_machine(state);
    Fixture *f = *state;
    Rig r = {.f = f, .action = action, .at = at, .parked = true};
    f->dev = virtio_bench_device(f->bench, "vhost-vsock-pci", "guest-cid=7");
    virtio_guest_init(&f->guest, f->bench, f->dev);
    run_state_init(&r.rs, f->bench->main_ctx, &rig_ops, &r);
    run_state_request_start(&r.rs);
    rig_settle(&r);
    bring_up(f);
    offer(f, RX);
    sched_point_hook(point, rig_act, &r);
    run_state_request_stop(&r.rs, STOP_PAUSED);
    rig_kick(&r);
    rig_settle(&r);
    sched_point_hook(point, NULL, NULL);
    assert_true(r.drains >= 1);
    if (r.rs.phase == RUN_STOPPED) {
        assert_false(fake_vhost_connected(f->vhost));
        assert_int_equal(memory_users(), 0);
    }
    /* It goes on, and no request was lost. */
    run_state_request_start(&r.rs);
    rig_settle(&r);
    assert_int_equal(r.rs.phase, RUN_RUNNING);
    if (virtio_guest_status(&f->guest) != 15) {
        virtio_guest_init(&f->guest, f->bench, f->dev);
        bring_up(f);
    }
    await_owner(f, VIRTIO_OWNER_BACK_END);
    uint32_t id, len;
    fake_vhost_serve(f->vhost, 0, RX);
    while (virtio_guest_used(&f->queues[RX], &id, &len)) {
    }
    offer(f, RX);
    assert_served(f, RX);
    run_state_request_stop(&r.rs, STOP_PAUSED);
    rig_settle(&r);
    assert_int_equal(memory_users(), 0);
    tear_down(state);
}

static void no_order_of_events_drains_with_vhost_connected(void **state)
{
    static const char *const points[] = {"run_state.moved", "vhost.stop_vring",
                                         "virtio.back_end_stopped", "vhost.set_vring",
                                         "virtio_vhost.starting"};
    for (unsigned p = 0; p < G_N_ELEMENTS(points); p++) {
        for (unsigned at = 0; at < 5; at++) {
            for (unsigned action = 0; action < ACTIONS; action++) {
                take_one_path(state, points[p], at, action);
            }
        }
    }
    sched_point_reset();
}

/* A kernel that does not return from the stop: the VM stops all the same, and the device is in error. */
static void a_stop_ends_although_the_kernel_hangs(void **state)
{
    set_up_machine(state);
    Fixture *f = *state;
    Rig r = {.f = f, .parked = true};
    enter_main();
    f->dev = virtio_bench_device(f->bench, "vhost-vsock-pci", "guest-cid=7");
    virtio_guest_init(&f->guest, f->bench, f->dev);
    run_state_init(&r.rs, f->bench->main_ctx, &rig_ops, &r);
    run_state_request_start(&r.rs);
    rig_settle(&r);
    bring_up(f);
    sys_fault_set(&(SysFault){.calls = "ioctl", .after = 1, .count = 1, .hold = true});
    run_state_request_stop(&r.rs, STOP_PAUSED);
    while (!sys_fault_hits()) { /* GET_VRING_BASE, after the vrings were disconnected */
        aio_context_step(f->bench->main_ctx, false);
    }
    assert_int_equal(r.rs.phase, RUN_BACKENDS_STOPPING);
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    rig_settle(&r);
    assert_int_equal(r.rs.phase, RUN_STOPPED);
    assert_int_equal(r.drains, 1);
    sys_fault_release();
    sys_fault_set(NULL);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
    while (fake_vhost_open_count(f->vhost)) {
        aio_context_step(f->bench->main_ctx, true);
    }
    tear_down(state);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_order_of_events_drains_with_vhost_connected),
        cmocka_unit_test(a_stop_ends_although_the_kernel_hangs),
    };
    return cmocka_run_group_tests_name("hw/virtio/vhost_stop", tests, NULL, NULL);
}
