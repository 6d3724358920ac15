/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-vsock-pci on the kernel's vhost as tests/support/fake_vhost.h plays it. */
#include "tests/hw/virtio/virtio_actions.h"
#include "tests/hw/virtio/virtio_vsock_bench.h"
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#define SET_OWNER _IO(0xaf, 1) /* of linux/vhost.h, which cannot be included with vring.h */

/* ---- a device ---- */

static void the_guest_reads_its_address(void **state)
{
    Fixture *f = *state;
    assert_int_equal(f->guest.config_size, 8);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config, 4), 7);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 4, 4), 0);
    assert_int_equal(f->vhost->instances[0].cid, 7);
}

static void only_what_the_kernel_has_is_offered(void **state)
{
    Fixture *f = *state;
    f->vhost->offered = VIRTIO_F_VERSION_1;
    f->dev = virtio_bench_device(f->bench, "vhost-vsock-pci", "guest-cid=3");
    virtio_guest_init(&f->guest, f->bench, f->dev);
    assert_int_equal(virtio_guest_offered(&f->guest), VIRTIO_F_VERSION_1);
}

static void assert_refused(Fixture *f, const char *properties, const char *why)
{
    Device *dev;
    g_autofree char *text =
        virtio_bench_try_device(f->bench, "vhost-vsock-pci", properties, NULL, &dev);
    assert_non_null(text);
    if (!strstr(text, why)) {
        fail_msg("%s: '%s' does not say '%s'", properties, text, why);
    }
    virtio_bench_settle(f->bench);
    assert_int_equal(fake_vhost_open_count(f->vhost), 0);
}

static void wrong_properties_say_why(void **state)
{
    Fixture *f = *state;
    f->vhost->taken_cid = 9;
    assert_refused(f, NULL, "the address of a guest is 3 to 4294967294");
    assert_refused(f, "guest-cid=2", "3 to 4294967294");
    assert_refused(f, "guest-cid=4294967295", "3 to 4294967294");
    assert_refused(f, "guest-cid=9", "guest-cid=9 cannot be reserved");
    assert_refused(f, "guest-cid=7,vhostfd=9999", "inherited no such descriptor");
    f->vhost->offered &= ~FAKE_VHOST_SEQPACKET;
    assert_refused(f, "guest-cid=7,seqpacket=on", "use seqpacket=auto");
    sys_fault_set(&(SysFault){.calls = "open", .error = EACCES});
    assert_refused(f, "guest-cid=7", "load the module vhost_vsock");
}

static void each_failure_of_realize_releases_everything(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 4; i++) { /* owner, features, address, and none */
        Device *dev = NULL;
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = i, .count = 1, .error = ENOMEM});
        g_autofree char *text =
            virtio_bench_try_device(f->bench, "vhost-vsock-pci", "guest-cid=7", NULL, &dev);
        sys_fault_set(NULL);
        assert_int_equal(text != NULL, i < 3);
        if (!text) {
            virtio_bench_unplug(f->bench, dev);
        }
        assert_int_equal(fake_vhost_open_count(f->vhost), 0);
    }
}

static void a_passed_descriptor_is_used(void **state)
{
    Fixture *f = *state;
    int fd = fake_vhost_open(f->vhost);
    g_autofree char *properties = g_strdup_printf("guest-cid=5,vhostfd=%d", fd);
    f->dev = virtio_bench_device(f->bench, "vhost-vsock-pci", properties);
    assert_int_equal(fake_vhost_open_count(f->vhost), 1);
    assert_int_equal(f->vhost->instances[0].cid, 5);
}

/* The number names a descriptor of skiff's own, or one that vhost refuses. */
static void a_passed_descriptor_of_something_else_stays_open(void **state)
{
    Fixture *f = *state;
    int fds[2], owned = fake_vhost_open(f->vhost);
    assert_return_code(pipe(fds), errno);
    assert_int_equal(ioctl(owned, SET_OWNER, NULL), 0); /* another device has it */
    const int numbers[] = {fds[0], owned};
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++) {
        Device *dev;
        g_autofree char *properties = g_strdup_printf("guest-cid=5,vhostfd=%d", numbers[i]);
        g_autofree char *text =
            virtio_bench_try_device(f->bench, "vhost-vsock-pci", properties, NULL, &dev);
        assert_non_null(text);
        virtio_bench_settle(f->bench);
        assert_return_code(fcntl(numbers[i], F_GETFD), errno);
    }
    close(fds[0]);
    close(fds[1]);
    close(owned);
}

static void the_state_is_covered(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    assert_true(state_check_coverage(f->dev->type->state, &error));
}

/* ---- serving ---- */

static void the_kernel_serves_both_queues(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    assert_true(fake_vhost_connected(f->vhost));
    assert_int_equal(memory_users(), 1);
    for (unsigned i = 0; i < 50; i++) {
        offer(f, RX);
        assert_served(f, RX);
        assert_int_equal(*(char *)virtio_bench_ram(f->bench, f->data, 1), FAKE_VHOST_MARK);
        offer(f, TX);
        assert_served(f, TX);
    }
}

static void a_start_has_its_order(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_stop(f->bench, f->dev);
    assert_string_equal(
        f->vhost->calls->str,
        "owner get-features cid "
        "features memory num base addr err call kick num base addr err call kick running "
        "running kick get-base call err kick get-base call err");
}

static void requests_offered_before_the_start_are_served(void **state)
{
    Fixture *f = *state;
    virtio_bench_stop(f->bench, f->dev);
    set_up_queues(f);
    offer(f, RX);
    offer(f, TX);
    assert_int_equal(fake_vhost_serve(f->vhost, 0, TX), 0);
    virtio_bench_start(f->bench, f->dev);
    assert_served(f, RX);
    assert_served(f, TX);
}

static void interrupts_go_from_the_kernel_to_the_vector(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    virtio_guest_enable_msix(&f->guest);
    bring_up(f);
    offer(f, RX);
    assert_served(f, RX);
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, CONFIG_DATA + 1 + RX), 1);
}

static void intx_is_relayed(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    offer(f, RX);
    assert_served(f, RX);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.isr, 1), 1);
}

static void a_vector_that_changes_is_followed(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    bring_up(f); /* by INTx */
    virtio_guest_enable_msix(&f->guest);
    while (strcmp(f->vhost->calls->str + f->vhost->calls->len - 9, "call call") != 0) {
        aio_context_step(f->bench->main_ctx, true);
    }
    virtio_bench_settle(f->bench);
    fake_machine_settle(m);
    unsigned before = fake_machine_delivered(m, CONFIG_DATA + 1 + RX);
    assert_in_range(before, 1, 2); /* an event may have gone to the old one */
    offer(f, RX);
    assert_served(f, RX);
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, CONFIG_DATA + 1 + RX), before + 1);
}

static void positions_survive_stops_and_resets(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    for (unsigned i = 0; i < 40; i++) { /* the rings have 16 entries */
        offer(f, RX);
        assert_served(f, RX);
        offer(f, TX);
        virtio_bench_stop(f->bench, f->dev);
        assert_false(fake_vhost_connected(f->vhost));
        assert_int_equal(memory_users(), 0);
        virtio_bench_start(f->bench, f->dev);
        assert_served(f, TX);
    }
    for (unsigned i = 0; i < 10; i++) {
        bring_up(f);
        offer(f, RX);
        assert_served(f, RX);
    }
}

static void buffers_of_the_event_queue_wait(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    offer(f, EVENTS);
    virtio_bench_settle(f->bench);
    assert_false(virtio_guest_used(&f->queues[EVENTS], &id, &len));
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    g_autofree char *text = virtio_bench_load(f->bench, f->dev, saved);
    assert_null(text);
    virtio_bench_start(f->bench, f->dev);
    assert_true(virtio_guest_used(&f->queues[EVENTS], &id, &len)); /* connections are gone */
    assert_int_equal(len, 4);
    assert_int_equal(*(uint32_t *)virtio_bench_ram(f->bench, f->data, 4), 0);
    offer(f, EVENTS);
    assert_false(virtio_guest_used(&f->queues[EVENTS], &id, &len)); /* once */
}

/* ---- guests that misbehave ---- */

static void rings_outside_ram_need_a_reset(void **state)
{
    Fixture *f = *state;
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queues[RX], RX, 16, 1);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SELECT, TX, 2);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_DESC, 0xfee00000, 4);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_ENABLE, 1, 2);
    virtio_guest_driver_ok(&f->guest);
    await_owner(f, VIRTIO_OWNER_MAIN);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
    assert_false(fake_vhost_connected(f->vhost));
    assert_int_equal(memory_users(), 0);
    bring_up(f);
    offer(f, RX);
    assert_served(f, RX);
}

static void a_driver_that_uses_one_queue_only_needs_a_reset(void **state)
{
    Fixture *f = *state;
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queues[RX], RX, 16, 1);
    virtio_guest_driver_ok(&f->guest);
    await_owner(f, VIRTIO_OWNER_MAIN); /* the kernel's vsock needs both */
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
}

static void a_descriptor_that_the_kernel_refuses_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer wild = {0xfee00000, 16, true};
    bring_up(f);
    virtio_guest_add(&f->queues[RX], &wild, 1);
    assert_int_equal(fake_vhost_serve(f->vhost, 0, RX), 0);
    virtio_bench_settle(f->bench);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
    virtio_guest_kick(&f->queues[RX]);
    bring_up(f);
    offer(f, RX);
    assert_served(f, RX);
    assert_false(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
}

/* ---- a kernel that refuses or hangs ---- */

static void each_call_of_a_start_may_fail(void **state)
{
    Fixture *f = *state;
    unsigned calls = 0;
    for (unsigned i = 0; i <= calls; i++) {
        virtio_bench_stop(f->bench, f->dev);
        set_up_queues(f);
        offer(f, RX);
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = i, .count = 1, .error = ENOMEM});
        g_autofree char *text = virtio_bench_try_start(f->bench, f->dev);
        calls = i == 0 ? 15 : calls;
        assert_int_equal(text != NULL, sys_fault_hits() != 0);
        sys_fault_set(NULL);
        if (text) {
            assert_false(fake_vhost_connected(f->vhost));
            assert_int_equal(memory_users(), 0);
            virtio_bench_start(f->bench, f->dev); /* the VM can be started again */
        }
        assert_served(f, RX);
    }
}

static void a_start_that_hangs_ends(void **state)
{
    Fixture *f = *state;
    sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .hold = true});
    set_up_queues(f);
    virtio_bench_settle(f->bench);
    sys_fault_await_held();
    assert_int_equal(owner(f), VIRTIO_OWNER_STARTING);
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    await_owner(f, VIRTIO_OWNER_MAIN);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(memory_users(), 0);
    sys_fault_release();
    while (fake_vhost_open_count(f->vhost)) {
        aio_context_step(f->bench->main_ctx, true);
    }
}

/* A stop of the VM, by a coroutine. */
typedef struct Stop {
    Device *dev;
    bool done;
} Stop;

static void stop_run(void *opaque)
{
    Stop *s = opaque;
    enter_main();
    enter_coroutine();
    s->dev->type->co_stop(s->dev);
    s->done = true;
}

static void a_stop_that_hangs_ends_in_a_device_error(void **state)
{
    Fixture *f = *state;
    Stop stop = {.dev = f->dev};
    bring_up(f);
    offer(f, RX); /* in flight for ever */
    sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .hold = true});
    co_start(f->bench->main_ctx, stop_run, &stop);
    virtio_bench_settle(f->bench);
    sys_fault_await_held();
    assert_false(stop.done);
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    while (!stop.done) {
        aio_context_step(f->bench->main_ctx, true);
    }
    assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
    assert_int_equal(memory_users(), 0);
    g_autofree char *text = virtio_bench_try_start(f->bench, f->dev);
    assert_non_null(text); /* the back end is gone for good */
    assert_non_null(strstr(text, "the kernel did not answer in time"));
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_unplug(f->bench, f->dev); /* does not wait for the kernel */
    f->dev = NULL;
    assert_int_equal(fake_vhost_open_count(f->vhost), 1);
    sys_fault_release();
    while (fake_vhost_open_count(f->vhost)) { /* closed when the call has returned */
        aio_context_step(f->bench->main_ctx, true);
    }
}

typedef struct HeldClose {
    _Atomic bool begun;
    sem_t held, released;
} HeldClose;

/* The first close() waits. */
static void hold_close(void *arg, const char *call)
{
    HeldClose *c = arg;
    if (strcmp(call, "close") == 0 && !atomic_exchange(&c->begun, true)) {
        sem_post(&c->held);
        sem_wait(&c->released);
    }
}

/* Until the descriptor is closed the kernel goes on, whatever has been said to it. */
static void a_stop_that_fails_waits_until_the_kernel_is_gone(void **state)
{
    Fixture *f = *state;
    Stop stop = {.dev = f->dev};
    HeldClose hold = {0};
    sem_init(&hold.held, 0, 0);
    sem_init(&hold.released, 0, 0);
    bring_up(f);
    sys_fault_hook(hold_close, &hold);
    sys_fault_set(&(SysFault){.calls = "ioctl,close", .count = 1, .error = EIO});
    co_start(f->bench->main_ctx, stop_run, &stop);
    while (sem_trywait(&hold.held) != 0) {
        aio_context_step(f->bench->main_ctx, false);
    }
    virtio_bench_settle(f->bench);
    bool stopped = stop.done;
    unsigned users = memory_users();
    sem_post(&hold.released);
    while (!stop.done) {
        aio_context_step(f->bench->main_ctx, true);
    }
    sys_fault_hook(NULL, NULL);
    assert_false(stopped);
    assert_int_equal(users, 1);
    assert_false(fake_vhost_connected(f->vhost));
    assert_int_equal(memory_users(), 0);
    sem_destroy(&hold.held);
    sem_destroy(&hold.released);
}

static void each_call_of_a_stop_may_fail(void **state)
{
    for (unsigned i = 0; i < 9; i++) {
        set_up(state);
        Fixture *f = *state;
        bring_up(f);
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = i, .count = 1, .error = EIO});
        virtio_bench_stop(f->bench, f->dev);
        assert_int_equal(sys_fault_hits(), 1);
        sys_fault_set(NULL);
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
        assert_int_equal(memory_users(), 0);
        assert_int_equal(fake_vhost_open_count(f->vhost), 0); /* that is what stops the kernel */
        tear_down(state);
    }
}

/* ---- each moment ---- */

/* After @turns turns of main, each of which waits for a worker, the guest or the user does something. */
static RUNS_IN_MAIN void take_one_path(void **state, unsigned turns, unsigned action)
{
    set_up(state);
    Fixture *f = *state;
    set_up_queues(f);
    offer(f, RX);
    for (unsigned i = 0; i < turns && owner(f) == VIRTIO_OWNER_STARTING; i++) {
        aio_context_step(f->bench->main_ctx, true);
    }
    virtio_act(&f->guest, f->bench, f->dev, action);
    if (action == UNPLUGS) {
        f->dev = NULL;
    }
    if (action != DOES_NOTHING) {
        assert_false(fake_vhost_connected(f->vhost));
        assert_int_equal(memory_users(), 0);
    }
    if (f->dev) {
        if (action == STOPS) {
            virtio_bench_start(f->bench, f->dev);
        }
        virtio_guest_set_master(&f->guest, true);
        if (virtio_guest_status(&f->guest) != 15) {
            virtio_guest_init(&f->guest, f->bench, f->dev);
            bring_up(f);
            offer(f, RX);
        }
        await_owner(f, VIRTIO_OWNER_BACK_END);
        assert_served(f, RX);
    }
    tear_down(state);
}

static void no_moment_leaves_the_kernel_connected(void **state)
{
    enter_main();
    for (unsigned path = 0; path < 12 * ACTIONS; path++) {
        take_one_path(state, path / ACTIONS, path % ACTIONS);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define MACHINE(name) cmocka_unit_test_setup_teardown(name, set_up_machine, tear_down)
    static const struct CMUnitTest tests[] = {
        T(the_guest_reads_its_address),
        MACHINE(only_what_the_kernel_has_is_offered),
        MACHINE(wrong_properties_say_why),
        MACHINE(each_failure_of_realize_releases_everything),
        MACHINE(a_passed_descriptor_is_used),
        MACHINE(a_passed_descriptor_of_something_else_stays_open),
        T(the_state_is_covered),
        T(the_kernel_serves_both_queues),
        T(a_start_has_its_order),
        T(requests_offered_before_the_start_are_served),
        T(interrupts_go_from_the_kernel_to_the_vector),
        T(intx_is_relayed),
        T(a_vector_that_changes_is_followed),
        T(positions_survive_stops_and_resets),
        T(buffers_of_the_event_queue_wait),
        T(rings_outside_ram_need_a_reset),
        T(a_driver_that_uses_one_queue_only_needs_a_reset),
        T(a_descriptor_that_the_kernel_refuses_needs_a_reset),
        T(each_call_of_a_start_may_fail),
        T(a_start_that_hangs_ends),
        T(a_stop_that_hangs_ends_in_a_device_error),
        T(a_stop_that_fails_waits_until_the_kernel_is_gone),
        cmocka_unit_test(each_call_of_a_stop_may_fail),
        cmocka_unit_test(no_moment_leaves_the_kernel_connected),
    };
    return cmocka_run_group_tests_name("hw/virtio/vsock", tests, NULL, NULL);
}
