/* SPDX-License-Identifier: Apache-2.0 */
/* Unplugging with requests in flight, with another action at every schedule point. */
#include "tests/vmm/vm/hotplug_rig.h"

#include <sched.h>

/* ---- at every schedule point ---- */

static const char *const points[] = {
    "hotplug.realized",   "hotplug.started",   "hotplug.remove",  "hotplug.stopped",
    "hotplug.unrealized", "virtio.command",    "virtio.returned", "virtio.processed",
    "block.request_end",  "block.drain_reply", "run_state.moved",
};

/* Guest accesses from main's thread, like those of a vCPU at this moment. */
static void touch_everything(void)
{
    AddressSpace *mmio = rig->bench->machine->env.mmio;
    const uint64_t gpas[] = {rig->guest.common, rig->guest.config,   rig->guest.isr,
                             rig->guest.notify, ECAM + (SLOT << 15), ECAM + (SLOT << 15) + 4};
    for (unsigned i = 0; i < G_N_ELEMENTS(gpas); i++) {
        for (unsigned write = 0; write < 2 && gpas[i] != 0; write++) {
            IoAccess a = {.size = 2, .is_write = write, .value = 1};
            bql_lock();
            (void)address_space_dispatch(mmio, gpas[i], &a, NULL);
            bql_unlock();
        }
    }
    (void)in32(PRESENT);
    out32(WANTED, UINT32_MAX);
}

static void at_point(void *arg, const void *object)
{
    void (*what)(void) = (void (*)(void))(uintptr_t)arg;
    rig->visited = true;
    sched_point_hook(rig->point, NULL, NULL); /* once */
    what();
}

static void eject_again(void)
{
    if (thread_role() == THREAD_MAIN) {
        touch_everything();
        out32(EJECT, UINT32_MAX);
    }
}

static void ask_for_a_reset(void)
{
    run_state_request_reset(&rig->vm.run);
}

static void ask_for_stop_and_start(void)
{
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    run_state_request_start(&rig->vm.run);
}

static void tell_of_an_ejection(void)
{
    vm_request(&rig->vm, VM_REQUEST_UNPLUG, 0);
}

/* One device's life: plugged, used, unplugged with a request in flight, while @what runs at
 * @point. */
static RUNS_IN_MAIN void one_life(const char *point, void (*what)(void))
{
    Command add, del;
    rig->point = point;
    rig->visited = false;
    sched_point_hook(point, at_point, (void *)(uintptr_t)what);
    command_start(&add, "device_add", DISK);
    assert_true(add.done && add.error == NULL);
    command_clear(&add);
    bool there = device("disk") != NULL && (in32(PRESENT) >> SLOT & 1) != 0;
    if (there) {
        guest_takes_disk();
        blk_request_send(&rig->request, BLK_OUT, 0, 512);
        rig_settle();
    }
    command_start(&del, "device_del", "{'id':'disk'}");
    out32(EJECT, 1u << SLOT);
    complete_all();
    assert_true(del.done);
    command_clear(&del);
    sched_point_hook(point, NULL, NULL);
    assert_null(device("disk"));
    assert_string_equal(rig->deleted->str, "disk ");
    assert_string_equal(run_state_name(&rig->vm.run), "running");
    assert_int_equal(rig->bench->machine->attached, 0);
    assert_int_equal(rig->bench->machine->doorbell_count, 0);
    g_string_truncate(rig->deleted, 0);
}

static void every_interleaving_ends_the_same_way(void **state)
{
    void (*const whats[])(void) = {eject_again, ask_for_a_reset, ask_for_stop_and_start,
                                   tell_of_an_ejection};
    unsigned visited = 0;
    enter_main();
    for (unsigned p = 0; p < G_N_ELEMENTS(points); p++) {
        for (unsigned w = 0; w < G_N_ELEMENTS(whats); w++) {
            one_life(points[p], whats[w]);
            visited += rig->visited;
        }
    }
    assert_true(visited >= 3 * G_N_ELEMENTS(points)); /* run_state.moved needs a stop */
}

/* The iothread waits at @point while main and the guest continue. */
static RUNS_IN_MAIN void hold_iothread(const char *point)
{
    plug_disk();
    blk_disk_set_manual(&rig->disk, false);
    sched_point_hold(point);
    blk_request_send(&rig->request, BLK_OUT, 0, 512);
    if (strcmp(point, "virtio.command") != 0) {
        sched_point_await(point);
    }
    out32(EJECT, 1u << SLOT);
    for (unsigned i = 0; i < 20; i++) {
        virtio_bench_step(rig->bench);
    }
    sched_point_await(point);
    touch_everything();
    assert_string_equal(rig->deleted->str, "");
    sched_point_release(point);
    rig_settle();
    assert_string_equal(rig->deleted->str, "disk ");
    g_string_truncate(rig->deleted, 0);
    blk_disk_set_manual(&rig->disk, true);
}

static void the_iothread_may_wait_at_any_point(void **state)
{
    enter_main();
    hold_iothread("virtio.processed");
    hold_iothread("block.request_end");
    hold_iothread("virtio.command");
}

/* ---- a vCPU that accesses everything it can ---- */

typedef struct Hammer {
    _Atomic bool stop;
    _Atomic uint64_t accesses;
} Hammer;

static void hammer_one(uint64_t random)
{
    const DeviceEnv *env = &rig->bench->machine->env;
    bool config = random & 1;
    uint64_t gpa =
        config ? ECAM + (SLOT << 15) + (random >> 8 & 0xfc) : 0x80000000 + (random >> 8 & 0xfffc);
    IoAccess a = {.size = 4, .is_write = (random >> 1 & 7) == 0, .value = random >> 32};
    for (;;) {
        bql_lock();
        MmioResult result = address_space_dispatch(env->mmio, gpa, &a, NULL);
        bql_unlock();
        if (result == MMIO_DONE) {
            return;
        }
        completion_wait(&a.waiter.done, a.waiter.what);
    }
}

static void *hammer(void *opaque)
{
    Hammer *h = opaque;
    uint64_t random = 88172645463325252;
    while (!atomic_load(&h->stop)) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        hammer_one(random);
        if (atomic_fetch_add(&h->accesses, 1) % 64 == 0) {
            sched_yield();
        }
    }
    return NULL;
}

/* Waits until the vCPU has made @more accesses: so it meets each step of main, however late its
 * thread starts. */
static void await_accesses(Hammer *h, uint64_t more)
{
    uint64_t from = atomic_load(&h->accesses);
    while (atomic_load(&h->accesses) - from < more) {
        virtio_bench_step(rig->bench);
        sched_yield();
    }
}

static void a_vcpu_that_accesses_everything_survives(void **state)
{
    Hammer h = {0};
    pthread_t thread;
    enter_main();
    assert_true(thread_start(&thread, THREAD_VCPU, "vcpu", hammer, &h));
    for (unsigned round = 0; round < 100; round++) {
        execute("device_add", DISK);
        bql_lock();
        pci_bus_assign_resources(rig->bench->bus);
        bql_unlock();
        await_accesses(&h, 100);
        execute("device_del", "{'id':'disk'}");
        await_accesses(&h, 100);
        out32(EJECT, 1u << SLOT);
        rig_settle();
        assert_string_equal(rig->deleted->str, "disk ");
        g_string_truncate(rig->deleted, 0);
    }
    atomic_store(&h.stop, true);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_interleaving_ends_the_same_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_iothread_may_wait_at_any_point, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_vcpu_that_accesses_everything_survives, set_up_fast,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("vmm/vm/vm_hotplug_races", tests, NULL, NULL);
}
