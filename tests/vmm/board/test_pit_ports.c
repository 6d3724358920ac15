/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm lab */
/* The PIT that is created at the first access, on /dev/kvm without a vCPU: accesses are dispatched
 * as a vCPU does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/ioctl.h>
#include "tests/support/host_kvm.h"
#include "vmm/arch/x86_64/pit.h"
#include "vmm/board/x86_64/pit_ports.h"

#define RAM_SIZE (2u << 20)

typedef struct Rig {
    AioContext *ctx;
    Kvm kvm;
    ArchCpus cpus;
    GuestRam ram;
    AddressSpace *pio;
    PitPorts ports;
    unsigned failures;
} Rig;

static void rig_failed(void *opaque)
{
    enter_main();
    ((Rig *)opaque)->failures++;
}

static int set_up(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    if (thread_role() == THREAD_NONE) {
        thread_adopt_role(THREAD_MAIN, "main");
    }
    enter_main();
    RamBlock block = {
        .size = RAM_SIZE, .host = g_aligned_alloc0(1, RAM_SIZE, 4096), .fd = -1, .name = "ram"};
    guest_ram_add(&rig->ram, &block);
    rig->ctx = aio_context_new("main", NULL);
    rig->pio = address_space_new("pio");
    host_kvm_open(&rig->kvm, &rig->cpus, &rig->ram, 1);
    pit_ports_init(&rig->ports, &rig->kvm, rig->pio, rig->ctx, rig_failed, rig);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    Rig *rig = *state;
    enter_main();
    pit_ports_fini(&rig->ports);
    host_kvm_close(&rig->kvm, &rig->cpus);
    address_space_free(rig->pio);
    aio_context_free(rig->ctx);
    g_aligned_free(rig->ram.blocks[0].host);
    g_free(rig);
    return 0;
}

static MmioResult dispatch(Rig *rig, unsigned port, IoAccess *access)
{
    bql_lock();
    MmioResult result = address_space_dispatch(rig->pio, port, access, NULL);
    bql_unlock();
    return result;
}

static void wait_for(Rig *rig, const IoAccess *access)
{
    while (access->waiter.pended != NULL) {
        aio_context_step(rig->ctx, true);
    }
}

static bool kvm_has_pit(const Rig *rig)
{
    struct kvm_pit_state2 pit;
    return ioctl(rig->kvm.vm_fd, KVM_GET_PIT2, &pit) == 0;
}

/* Here another PIT is in the way. */
static void a_creation_that_fails_ends_the_vm_and_wakes_those_who_wait(void **state)
{
    Rig *rig = *state;
    struct kvm_pit_config config = {0};
    assert_int_equal(ioctl(rig->kvm.vm_fd, KVM_CREATE_PIT2, &config), 0);
    IoAccess a = {.size = 1, .value = UINT64_MAX}, b = {.size = 1, .is_write = true};
    assert_int_equal(dispatch(rig, X86_PIT_PORT, &a), MMIO_PENDING);
    assert_int_equal(dispatch(rig, X86_PIT_PORT_SPEAKER, &b), MMIO_PENDING);
    wait_for(rig, &a);
    wait_for(rig, &b);
    assert_int_equal(rig->failures, 1);
    assert_int_equal(dispatch(rig, X86_PIT_PORT, &a), MMIO_DONE);
    assert_int_equal(a.value, 0xff);
    assert_int_equal(dispatch(rig, X86_PIT_PORT_SPEAKER, &b), MMIO_DONE);
    assert_false(x86_pit_exists());
}

static void one_creation_serves_all_who_wait(void **state)
{
    Rig *rig = *state;
    struct kvm_pit_state2 pit;
    g_autoptr(GError) error = NULL;
    IoAccess control = {.size = 1, .value = 0x34, .is_write = true};
    IoAccess gate = {.size = 1, .value = 1, .is_write = true};
    IoAccess again = control;
    assert_false(kvm_has_pit(rig));
    assert_int_equal(dispatch(rig, X86_PIT_PORT + 3, &control), MMIO_PENDING);
    assert_int_equal(dispatch(rig, X86_PIT_PORT_SPEAKER, &gate), MMIO_PENDING);
    /* A vCPU that is to park waits all the same, as its access must not be lost. */
    again.must_retire = true;
    assert_int_equal(dispatch(rig, X86_PIT_PORT + 3, &again), MMIO_PENDING);
    wait_for(rig, &control);
    wait_for(rig, &gate);
    wait_for(rig, &again);
    assert_true(x86_pit_exists());
    assert_int_equal(dispatch(rig, X86_PIT_PORT + 3, &control), MMIO_DONE);
    assert_int_equal(dispatch(rig, X86_PIT_PORT_SPEAKER, &gate), MMIO_DONE);
    assert_int_equal(dispatch(rig, X86_PIT_PORT + 3, &again), MMIO_DONE);
    assert_int_equal(ioctl(rig->kvm.vm_fd, KVM_GET_PIT2, &pit), 0);
    assert_int_equal(pit.channels[0].mode, 2);
    assert_int_equal(pit.channels[0].rw_mode, 3);
    assert_int_equal(pit.channels[2].gate, 1);
    assert_int_equal(rig->failures, 0);

    assert_true(x86_pit_reset(&rig->kvm, &error));
    assert_int_equal(ioctl(rig->kvm.vm_fd, KVM_GET_PIT2, &pit), 0);
    assert_int_not_equal(pit.channels[0].mode, 2);
    assert_int_equal(pit.channels[2].gate, 0);
}

/* ---- accesses on a copy of the state ---- */

static uint8_t apply(struct kvm_pit_state2 *pit, unsigned port, int value, int64_t now_ns)
{
    uint8_t byte = value >= 0 ? (uint8_t)value : 0;
    x86_pit_apply(pit, port, value >= 0, &byte, now_ns);
    return byte;
}
#define READ (-1)
#define TICKS_NS(n) ((n)*INT64_C(1000000000) / X86_PIT_HZ + 1)

static void a_word_is_written_and_read_in_two_bytes(void **state)
{
    struct kvm_pit_state2 pit = {0};
    apply(&pit, 0x43, 0x74, 0); /* channel 1, both bytes, mode 2 */
    apply(&pit, 0x41, 0x34, 0);
    apply(&pit, 0x41, 0x12, 0);
    assert_int_equal(pit.channels[1].count, 0x1234);
    assert_int_equal(apply(&pit, 0x41, READ, TICKS_NS(1)), 0x33);
    assert_int_equal(apply(&pit, 0x41, READ, TICKS_NS(1)), 0x12);
    assert_int_equal(apply(&pit, 0x41, READ, TICKS_NS(0x1234 + 0x30)), 0x04); /* it began again */
}

static void a_latched_count_stays(void **state)
{
    struct kvm_pit_state2 pit = {0};
    apply(&pit, 0x43, 0x30, 0); /* channel 0, both bytes, mode 0 */
    apply(&pit, 0x40, 0x00, 0);
    apply(&pit, 0x40, 0x80, 0);
    apply(&pit, 0x43, 0x00, TICKS_NS(16));
    apply(&pit, 0x43, 0xd2, TICKS_NS(32)); /* latched already */
    assert_int_equal(apply(&pit, 0x40, READ, TICKS_NS(64)), 0xf0);
    assert_int_equal(apply(&pit, 0x40, READ, TICKS_NS(64)), 0x7f);
    assert_int_equal(apply(&pit, 0x40, READ, TICKS_NS(64)), 0xc0);
}

static void a_status_is_read_before_the_count(void **state)
{
    struct kvm_pit_state2 pit = {0};
    apply(&pit, 0x43, 0x1a, 0); /* channel 0, low byte, mode 5 */
    apply(&pit, 0x40, 0x10, 0);
    apply(&pit, 0x43, 0xc2, TICKS_NS(4)); /* status and count */
    assert_int_equal(apply(&pit, 0x40, READ, 0) & 0x7f, 0x1a);
    assert_int_equal(apply(&pit, 0x40, READ, 0), 0x0c);
    apply(&pit, 0x43, 0x1e, 0); /* 7 is mode 3 */
    assert_int_equal(pit.channels[0].mode, 3);
}

static void the_high_byte_may_be_written_alone(void **state)
{
    struct kvm_pit_state2 pit = {0};
    apply(&pit, 0x43, 0xa0, 0);
    apply(&pit, 0x42, 0x40, 0);
    assert_int_equal(pit.channels[2].count, 0x4000);
    apply(&pit, 0x42, 0, 0);
    assert_int_equal(pit.channels[2].count, 0x10000);
    assert_int_equal(apply(&pit, 0x42, READ, TICKS_NS(0x100)), 0xff);
}

static void the_speaker_port_shows_the_output(void **state)
{
    struct kvm_pit_state2 pit = {0};
    apply(&pit, 0x61, 3, 0);
    apply(&pit, 0x43, 0xb0, 0);
    apply(&pit, 0x42, 100, 0);
    apply(&pit, 0x42, 0, 0);
    assert_int_equal(apply(&pit, 0x61, READ, TICKS_NS(50)) & 0x23, 0x03);
    assert_int_equal(apply(&pit, 0x61, READ, TICKS_NS(100)) & 0x23, 0x23);
    apply(&pit, 0x61, 0, 0);
    assert_int_equal(apply(&pit, 0x61, READ, TICKS_NS(100)) & 0x23, 0x20);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_creation_that_fails_ends_the_vm_and_wakes_those_who_wait),
        TEST(one_creation_serves_all_who_wait),
        cmocka_unit_test(a_word_is_written_and_read_in_two_bytes),
        cmocka_unit_test(a_latched_count_stays),
        cmocka_unit_test(a_status_is_read_before_the_count),
        cmocka_unit_test(the_high_byte_may_be_written_alone),
        cmocka_unit_test(the_speaker_port_shows_the_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
