/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net on a tap device whose kernel does not return from a call of a driver's command. */
#include "hw/virtio/virtio_net.h"
#include "tests/hw/net/net_tap_bench.h"

#define FIVE_SECONDS 5000000000ll
#define PAIRS 2

typedef struct Nic {
    Fixture *f;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queues[2 * PAIRS + 1];
    uint64_t command_gpa;
    bool stopped;
} Nic;

static void home_advance(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->bench->home);
    aio_context_set_virtual_time(f->bench->home, aio_now_ns(f->bench->home) + FIVE_SECONDS);
}

static void stop_run(void *opaque)
{
    Nic *n = opaque;
    enter_main();
    enter_coroutine();
    n->dev->type->co_stop(n->dev);
    n->stopped = true;
}

static RUNS_IN_MAIN void bring_up(Nic *n)
{
    assert_true(virtio_guest_negotiate(&n->guest, ~0ull));
    for (unsigned i = 0; i < 2 * PAIRS + 1; i++) {
        virtio_guest_queue(&n->guest, &n->queues[i], i, 0, VIRTIO_NO_VECTOR);
    }
    virtio_guest_driver_ok(&n->guest);
    virtio_bench_settle(n->f->bench);
}

static RUNS_IN_MAIN uint8_t *send_pairs(Nic *n, uint8_t pairs)
{
    const uint8_t command[] = {4, 0, pairs, 0};
    uint8_t *at = virtio_bench_ram(n->f->bench, n->command_gpa, 64);
    VringBuffer chain[] = {{n->command_gpa, 4, false}, {n->command_gpa + 32, 1, true}};
    memcpy(at, command, sizeof(command));
    at[32] = 0xff;
    virtio_guest_add(&n->queues[2 * PAIRS], chain, 2);
    return at + 32;
}

static RUNS_IN_MAIN uint8_t use_pairs(Nic *n, uint8_t pairs)
{
    uint8_t *ack = send_pairs(n, pairs);
    uint32_t id, len;
    while (!virtio_guest_used(&n->queues[2 * PAIRS], &id, &len)) {
        virtio_bench_settle(n->f->bench);
    }
    return *ack;
}

static void a_stop_ends_although_the_kernel_hangs(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    Nic n = {.f = f};
    enter_main();
    add(f, "tap,id=a,ifname=tap-t,script=no,queues=2");
    n.command_gpa = virtio_bench_alloc(f->bench, 0x1000);
    n.dev = virtio_bench_device(f->bench, "virtio-net-pci", "netdev=a,iothread=io,mq=on");
    virtio_bench_start(f->bench, n.dev);
    virtio_guest_init(&n.guest, f->bench, n.dev);
    bring_up(&n);
    assert_int_equal(use_pairs(&n, 2), 0);
    sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .hold = true});
    const uint8_t *ack = send_pairs(&n, 1);
    while (!sys_fault_hits()) {
        virtio_bench_settle(f->bench);
    }
    sys_fault_await_held();
    co_start(f->bench->main_ctx, stop_run, &n);
    for (unsigned i = 0; i < 20; i++) {
        aio_context_step(f->bench->main_ctx, false);
        virtio_bench_step(f->bench);
    }
    assert_false(n.stopped);
    virtio_bench_at_home(f->bench, home_advance, f);
    while (!n.stopped) {
        virtio_bench_settle(f->bench);
    }
    assert_int_equal(*ack, 1); /* VIRTIO_NET_ERR */
    sys_fault_release();
    sys_fault_set(NULL);
    virtio_bench_start(f->bench, n.dev);
    do { /* when the call that was left behind has returned, they can be changed again */
        bring_up(&n);
    } while (use_pairs(&n, 2) != 0);
    virtio_bench_unplug(f->bench, n.dev);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stop_ends_although_the_kernel_hangs, set_up, tear_down),
    };
    has_tap = enter_namespace();
    return cmocka_run_group_tests_name("hw/virtio/net_tap", tests, NULL, NULL);
}
