/* SPDX-License-Identifier: Apache-2.0 */
/* vCPUs on /dev/kvm: parking in every state of a vCPU, pended accesses, resets. The guest is a few
 * bytes of machine code. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/support/host_kvm.h"
#include "util/log.h"
#include "util/loop/sched_point.h"
#include "vmm/vcpu/vcpu.h"

#define TEST_RAM_SIZE (4u << 20)
#define TEST_COUNTER 0x2000u
#define TEST_MMIO 0xd0000000u
#define TEST_PORT 0x80

typedef struct Rig {
    AioContext *ctx;
    Kvm kvm;
    GuestRam ram;
    uint8_t *host;
    ArchCpus cpus;
    AddressSpace *mmio, *pio;
    IoRegion mmio_region, pio_region;
    Pended pended;
    bool pend;                 /* BQL: accesses wait until the test completes them */
    bool gives_up;             /* BQL: they do not wait once they must retire */
    _Atomic unsigned accesses; /* completed accesses */
    _Atomic unsigned tries;
    _Atomic int last_event;
    VcpuSet *set;
    void (*body)(struct Rig *rig);
    bool done;
} Rig;

static MmioResult rig_access(void *opaque, IoAccess *access)
{
    Rig *rig = opaque;
    assert_bql();
    atomic_fetch_add(&rig->tries, 1);
    if (rig->pend && !(rig->gives_up && access->must_retire)) {
        return pended_wait_for(&rig->pended, access);
    }
    atomic_fetch_add(&rig->accesses, 1);
    access->value = access->is_write ? access->value : 0x5a;
    return MMIO_DONE;
}

static void rig_event(void *opaque, int event)
{
    atomic_store(&((Rig *)opaque)->last_event, event);
}

static uint32_t rig_counter(const Rig *rig)
{
    return __atomic_load_n((uint32_t *)(void *)(rig->host + TEST_COUNTER), __ATOMIC_SEQ_CST);
}

static void rig_load(Rig *rig, const void *code, size_t size)
{
    memset(rig->host, 0, TEST_RAM_SIZE);
    memcpy(rig->host + HOST_KVM_CODE, code, size);
}

static void rig_main(void *opaque)
{
    enter_main();
    enter_coroutine();
    Rig *rig = opaque;
    VcpuSetConfig config = {.kvm = &rig->kvm,
                            .cpus = &rig->cpus,
                            .count = rig->cpus.topology.cpus,
                            .mmio = rig->mmio,
                            .pio = rig->pio,
                            .event = rig_event,
                            .opaque = rig};
    GError *error = NULL;
    rig->set = vcpus_co_new(&config, &error);
    assert_non_null(rig->set);
    assert_true(vcpus_co_reset(rig->set, &host_kvm_boot, &error));
    rig->body(rig);
    vcpus_co_park(rig->set);
    vcpus_free(rig->set);
    rig->done = true;
}

static RUNS_IN_MAIN void rig_map(Rig *rig)
{
    static const IoRegionOps ops = {.access = rig_access, .unaligned = true};
    rig->mmio_region = (IoRegion){.name = "test", .ops = &ops, .opaque = rig, .size = 0x1000};
    rig->pio_region = (IoRegion){.name = "test", .ops = &ops, .opaque = rig, .size = 8};
    rig->mmio = address_space_new("memory");
    rig->pio = address_space_new("I/O");
    bql_lock();
    address_space_map(rig->mmio, &rig->mmio_region, TEST_MMIO, 0);
    address_space_map(rig->pio, &rig->pio_region, TEST_PORT, 0);
    bql_unlock();
}

static void rig_run(void (*body)(Rig *rig), unsigned cpus, const void *code, size_t size)
{
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    Rig rig = {.body = body};
    GError *error = NULL;
    rig.ctx = aio_context_new("main", &error);
    rig.host =
        mmap(NULL, TEST_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    RamBlock block = {.size = TEST_RAM_SIZE, .host = rig.host, .fd = -1, .name = "ram"};
    guest_ram_add(&rig.ram, &block);
    host_kvm_open(&rig.kvm, &rig.cpus, &rig.ram, cpus);
    rig_map(&rig);
    rig_load(&rig, code, size);
    co_start(rig.ctx, rig_main, &rig);
    while (!rig.done) {
        aio_context_step(rig.ctx, true);
    }
    bql_lock();
    address_space_unmap(&rig.mmio_region);
    address_space_unmap(&rig.pio_region);
    bql_unlock();
    address_space_free(rig.mmio);
    address_space_free(rig.pio);
    host_kvm_close(&rig.kvm, &rig.cpus);
    munmap(rig.host, TEST_RAM_SIZE);
    aio_context_free(rig.ctx);
}

/* loop: inc dword [0x2000]; mov [0xd0000000], eax; jmp loop */
static const uint8_t code_mmio_loop[] = {0xff, 0x05, 0x00, 0x20, 0x00, 0x00, 0xa3,
                                         0x00, 0x00, 0x00, 0xd0, 0xeb, 0xf3};

/* Yields turns of the loop until @condition(rig); the other side makes progress on its own. */
static coroutine_fn void rig_wait(Rig *rig, bool (*condition)(const Rig *rig, unsigned than),
                                  unsigned than)
{
    while (!condition(rig, than)) {
        co_yield_turn();
    }
}

static bool rig_done_more(const Rig *rig, unsigned than)
{
    return atomic_load(&rig->accesses) > than;
}

static bool rig_tried_more(const Rig *rig, unsigned than)
{
    return atomic_load(&rig->tries) > than;
}

static void body_park_and_run(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (int i = 0; i < 300; i++) {
        unsigned before = atomic_load(&rig->accesses);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_done_more, before);
        vcpus_co_park(rig->set);
        /* invariant 1: nothing is pending, so the guest's counter equals its accesses */
        uint32_t counted = rig_counter(rig);
        unsigned done = atomic_load(&rig->accesses);
        assert_true(counted == done || counted == done + 1);
        co_yield_turn();
        assert_int_equal(rig_counter(rig), counted);
        assert_int_equal(atomic_load(&rig->accesses), done);
    }
}

static void a_parked_vcpu_stops_and_resumes_where_it_was(void **state)
{
    rig_run(body_park_and_run, 1, code_mmio_loop, sizeof(code_mmio_loop));
}

static void vcpus_that_wait_for_their_sipi_park_too(void **state)
{
    rig_run(body_park_and_run, 4, code_mmio_loop, sizeof(code_mmio_loop));
}

static void body_pended(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (int i = 0; i < 50; i++) {
        bql_lock();
        rig->pend = true;
        bql_unlock();
        unsigned done = atomic_load(&rig->accesses), tries = atomic_load(&rig->tries);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_tried_more, tries);
        assert_true(atomic_load(&rig->accesses) <= done + 1);
        bql_lock(); /* free: a waiting vCPU holds nothing */
        rig->pend = false;
        pended_finish(&rig->pended);
        bql_unlock();
        rig_wait(rig, rig_done_more, done);
        vcpus_co_park(rig->set);
    }
}

static void a_pended_access_waits_without_the_big_lock_and_is_done_once(void **state)
{
    rig_run(body_pended, 1, code_mmio_loop, sizeof(code_mmio_loop));
}

static void finish_pended(void *opaque)
{
    enter_main();
    Rig *rig = opaque;
    bql_lock();
    rig->pend = false;
    pended_finish(&rig->pended);
    bql_unlock();
}

static void body_park_while_pended(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (int i = 0; i < 50; i++) {
        bql_lock();
        rig->pend = true;
        bql_unlock();
        unsigned tries = atomic_load(&rig->tries), done = atomic_load(&rig->accesses);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_tried_more, tries);
        aio_post(rig->ctx, finish_pended, rig); /* main continues while it waits for the parking */
        vcpus_co_park(rig->set);
        /* the access completed before the vCPU parked */
        assert_true(atomic_load(&rig->accesses) > done);
    }
}

static void a_stop_lets_a_pended_access_finish(void **state)
{
    rig_run(body_park_while_pended, 1, code_mmio_loop, sizeof(code_mmio_loop));
}

static void body_reset(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (int i = 0; i < 20; i++) {
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_done_more, atomic_load(&rig->accesses));
        vcpus_co_park(rig->set);
        rig_load(rig, code_mmio_loop, sizeof(code_mmio_loop));
        atomic_store(&rig->accesses, 0);
        GError *error = NULL;
        assert_true(vcpus_co_reset(rig->set, &host_kvm_boot, &error));
        assert_true(arch_vm_reset(&rig->kvm, &error));
        assert_int_equal(rig_counter(rig), 0);
    }
}

static void a_reset_starts_the_guest_from_its_first_instruction(void **state)
{
    rig_run(body_reset, 2, code_mmio_loop, sizeof(code_mmio_loop));
}

/* cld; mov ecx, 1000; mov esi, 0x1000; mov edx, 0x80; rep outsb; inc dword [0x2000]; jmp start */
static const uint8_t code_string_loop[] = {0xfc, 0xb9, 0xe8, 0x03, 0x00, 0x00, 0xbe, 0x00, 0x10,
                                           0x00, 0x00, 0xba, 0x80, 0x00, 0x00, 0x00, 0xf3, 0x6e,
                                           0xff, 0x05, 0x00, 0x20, 0x00, 0x00, 0xeb, 0xe6};

static void body_string(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (int i = 0; i < 200; i++) {
        unsigned before = atomic_load(&rig->accesses);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_done_more, before);
        vcpus_co_park(rig->set);
        /* every byte of every finished string was output once */
        unsigned done = atomic_load(&rig->accesses);
        assert_int_equal(done / 1000 - rig_counter(rig) <= 1, 1);
    }
}

static void a_vcpu_parks_in_the_middle_of_a_string_of_port_accesses(void **state)
{
    rig_run(body_string, 1, code_string_loop, sizeof(code_string_loop));
}

/* ---- calls ---- */

typedef struct TestCall {
    Rig *rig;
    unsigned order;
    bool ran_in_its_thread;
    struct kvm_regs regs;
} TestCall;

static unsigned call_order; /* vCPU 0's thread; main between calls */

static void call_look(Vcpu *v, void *opaque)
{
    enter_vcpu();
    TestCall *call = opaque;
    call->order = ++call_order;
    call->ran_in_its_thread = vcpu_thread_id(call->rig->set, vcpu_index(v)) == gettid();
    assert_int_equal(ioctl(vcpu_fd(v), KVM_GET_REGS, &call->regs), 0);
}

static coroutine_fn RUNS_IN_MAIN void rig_call(Rig *rig, TestCall *call)
{
    *call = (TestCall){.rig = rig};
    vcpus_co_call(rig->set, 0, call_look, call);
    assert_true(call->ran_in_its_thread);
    assert_in_range(call->regs.rip, HOST_KVM_CODE, HOST_KVM_CODE + 0x100);
}

static void body_calls(Rig *rig)
{
    enter_main();
    enter_coroutine();
    TestCall call;
    rig_call(rig, &call); /* parked */
    vcpus_unpark(rig->set);
    for (int i = 0; i < 200; i++) {
        unsigned done = atomic_load(&rig->accesses);
        rig_call(rig, &call); /* running: it resumes by itself */
        rig_wait(rig, rig_done_more, done + 1);
    }
    vcpus_co_park(rig->set);
    assert_int_equal(call.order, 201);
    uint32_t counted = rig_counter(rig);
    rig_call(rig, &call);
    co_yield_turn();
    assert_int_equal(rig_counter(rig), counted); /* it stays parked */
}

static void a_call_runs_in_the_vcpus_thread_in_every_state(void **state)
{
    call_order = 0;
    rig_run(body_calls, 1, code_mmio_loop, sizeof(code_mmio_loop));
}

static void body_call_while_pended(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (int i = 0; i < 50; i++) {
        bql_lock();
        rig->pend = true;
        bql_unlock();
        unsigned tries = atomic_load(&rig->tries), done = atomic_load(&rig->accesses);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_tried_more, tries);
        aio_post(rig->ctx, finish_pended, rig);
        TestCall call;
        rig_call(rig, &call);
        assert_true(atomic_load(&rig->accesses) > done); /* the access first */
        vcpus_co_park(rig->set);
    }
}

static void a_call_lets_a_pended_access_finish(void **state)
{
    rig_run(body_call_while_pended, 1, code_mmio_loop, sizeof(code_mmio_loop));
}

/* The peer that the access waits for never comes. */
static void body_leave_a_peer(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (int i = 0; i < 50; i++) {
        bql_lock();
        rig->pend = rig->gives_up = true;
        bql_unlock();
        unsigned tries = atomic_load(&rig->tries), done = atomic_load(&rig->accesses);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_tried_more, tries);
        if (i % 2 == 0) {
            TestCall call;
            rig_call(rig, &call);
            assert_true(atomic_load(&rig->accesses) > done);
        }
        vcpus_co_park(rig->set);
        assert_true(atomic_load(&rig->accesses) > done);
        bql_lock();
        assert_null(rig->pended.waiters);
        bql_unlock();
    }
}

static void a_stop_and_a_call_end_a_wait_for_a_peer(void **state)
{
    rig_run(body_leave_a_peer, 1, code_mmio_loop, sizeof(code_mmio_loop));
}

static void body_hold(Rig *rig)
{
    enter_main();
    enter_coroutine();
    TestCall call;
    for (int i = 0; i < 20; i++) {
        vcpus_hold(rig->set, 0, true);
        unsigned done = atomic_load(&rig->accesses);
        vcpus_unpark(rig->set);
        rig_call(rig, &call); /* a held vCPU still takes calls */
        vcpus_co_park(rig->set);
        assert_int_equal(atomic_load(&rig->accesses), done);
        vcpus_hold(rig->set, 0, false);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_done_more, done);
        vcpus_co_park(rig->set);
    }
}

static void a_held_vcpu_stays_parked_while_the_others_run(void **state)
{
    rig_run(body_hold, 2, code_mmio_loop, sizeof(code_mmio_loop));
}

static void a_vm_with_all_vcpus_held_starts_and_stops(void **state)
{
    rig_run(body_hold, 1, code_mmio_loop, sizeof(code_mmio_loop));
}

/* Braked, parked, called and let go in every order: only a vCPU that is neither braked nor parked enters the guest. */
static void body_brake(Rig *rig)
{
    enter_main();
    enter_coroutine();
    TestCall call;
    for (int i = 0; i < 40; i++) {
        unsigned done = atomic_load(&rig->accesses);
        vcpus_unpark(rig->set);
        rig_wait(rig, rig_done_more, done);
        unsigned waits = sched_point_count("vcpu.braked");
        vcpus_brake(rig->set, true);
        while (sched_point_count("vcpu.braked") == waits) {
            co_yield_turn();
        }
        done = atomic_load(&rig->accesses);
        rig_call(rig, &call); /* it leaves the brake for it, and returns */
        if (i % 2 == 0) {
            vcpus_co_park(rig->set);
            vcpus_unpark(rig->set);
        }
        rig_call(rig, &call);
        assert_in_range(atomic_load(&rig->accesses), done, done);
        vcpus_brake(rig->set, false);
        rig_wait(rig, rig_done_more, done);
        if (i % 3 == 0) {
            vcpus_brake(rig->set, true); /* it parks from there */
        }
        vcpus_co_park(rig->set);
        vcpus_brake(rig->set, false);
    }
}

static void a_braked_vcpu_stays_out_of_the_guest_and_answers(void **state)
{
    call_order = 0;
    rig_run(body_brake, 1, code_mmio_loop, sizeof(code_mmio_loop));
    sched_point_reset();
}

/* lidt with limit 0 and then an exception: a triple fault */
static const uint8_t code_triple[] = {0x0f, 0x01, 0x1d, 0x10, 0x10, 0x00, 0x00, 0x0f, 0x0b};

static bool rig_has_event(const Rig *rig, unsigned than)
{
    return atomic_load(&rig->last_event) != 0;
}

static void body_triple(Rig *rig)
{
    enter_main();
    enter_coroutine();
    vcpus_unpark(rig->set);
    rig_wait(rig, rig_has_event, 0);
    assert_int_equal(atomic_load(&rig->last_event), VCPU_EVENT_TRIPLE_FAULT);
    TestCall call;
    rig_call(rig, &call); /* halted: it takes calls, and still runs no guest code */
    vcpus_co_park(rig->set);
    GError *error = NULL;
    rig_load(rig, code_mmio_loop, sizeof(code_mmio_loop));
    assert_true(vcpus_co_reset(rig->set, &host_kvm_boot, &error));
    vcpus_unpark(rig->set);
    rig_wait(rig, rig_done_more, 0);
}

static void a_triple_fault_halts_the_vcpu_until_it_is_reset(void **state)
{
    rig_run(body_triple, 1, code_triple, sizeof(code_triple));
}

/* mov eax, 0xd0100000; jmp eax: no memory there */
static const uint8_t code_astray[] = {0xb8, 0x00, 0x00, 0x10, 0xd0, 0xff, 0xe0};

static void body_astray(Rig *rig)
{
    enter_main();
    enter_coroutine();
    vcpus_unpark(rig->set);
    rig_wait(rig, rig_has_event, 0);
    assert_int_equal(atomic_load(&rig->last_event), VCPU_EVENT_FAILED);
}

static void a_failure_is_logged_with_the_registers(void **state)
{
    g_autofree char *path = NULL, *text = NULL;
    int fd = g_file_open_tmp("skiff-vcpu.XXXXXX", &path, NULL);
    assert_true(log_open(path, false));
    rig_run(body_astray, 1, code_astray, sizeof(code_astray));
    assert_true(log_open(NULL, false));
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    close(fd);
    unlink(path);
    assert_non_null(strstr(text, "skiff: vCPU 0: "));
    assert_non_null(strstr(text, "EIP=d0100000"));
    assert_non_null(strstr(text, "CR0="));
}

int main(void)
{
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        print_message("skip: /dev/kvm cannot be opened\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_parked_vcpu_stops_and_resumes_where_it_was),
        cmocka_unit_test(vcpus_that_wait_for_their_sipi_park_too),
        cmocka_unit_test(a_pended_access_waits_without_the_big_lock_and_is_done_once),
        cmocka_unit_test(a_stop_lets_a_pended_access_finish),
        cmocka_unit_test(a_reset_starts_the_guest_from_its_first_instruction),
        cmocka_unit_test(a_vcpu_parks_in_the_middle_of_a_string_of_port_accesses),
        cmocka_unit_test(a_call_runs_in_the_vcpus_thread_in_every_state),
        cmocka_unit_test(a_call_lets_a_pended_access_finish),
        cmocka_unit_test(a_stop_and_a_call_end_a_wait_for_a_peer),
        cmocka_unit_test(a_held_vcpu_stays_parked_while_the_others_run),
        cmocka_unit_test(a_vm_with_all_vcpus_held_starts_and_stops),
        cmocka_unit_test(a_braked_vcpu_stays_out_of_the_guest_and_answers),
        cmocka_unit_test(a_triple_fault_halts_the_vcpu_until_it_is_reset),
        cmocka_unit_test(a_failure_is_logged_with_the_registers),
    };
    return cmocka_run_group_tests_name("vmm/vcpu/vcpu", tests, NULL, NULL);
}
