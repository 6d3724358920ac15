/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* The chips of a VM on /dev/kvm, saved and loaded into a fresh VM. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "tests/support/host_kvm.h"
#include "util/sys/sys_fault.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/pit.h"
#include "vmm/arch/x86_64/vm_state.h"

static void the_table_is_complete(void **state)
{
    g_autoptr(GError) error = NULL;
    if (!state_check_coverage(&arch_vm_state_desc, &error)) {
        fail_msg("%s", error->message);
    }
}

/* @s through the stream; false: refused, with @message. */
static bool stream_accepts(const ArchVmState *s, ArchVmState *out, const char *message)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    size_t used;
    state_save(&arch_vm_state_desc, s, stream);
    if (state_load(&arch_vm_state_desc, out, stream->data, stream->len, &used, &error)) {
        return true;
    }
    if (message == NULL || strstr(error->message, message) == NULL) {
        fail_msg("%s", error->message);
    }
    return false;
}

static void values_out_of_bounds_are_refused(void **state)
{
    const ArchVmState good = {.ioapic.base_address = X86_IOAPIC_BASE};
    ArchVmState out, wrong;
    assert_true(stream_accepts(&good, &out, NULL));
#define REFUSED(field, value, message)                                                             \
    wrong = good;                                                                                  \
    wrong.field = (value);                                                                         \
    assert_false(stream_accepts(&wrong, &out, (message)))
    REFUSED(ioapic.base_address, 0, "I/O APIC is at 0x0");
    REFUSED(ioapic.irr, 1u << 24, "irr is");
    REFUSED(ioapic.ioregsel, 256, "ioregsel is");
    REFUSED(pit.channels[2].mode, 8, "mode is");
    REFUSED(pit.channels[0].count, 0x10001, "count is");
    REFUSED(pit.channels[1].rw_mode, 4, "rw_mode is");
    REFUSED(pit.flags, UINT32_MAX, "flags is");
    REFUSED(pics[1].priority_add, 8, "priority_add is");
    REFUSED(clock_ns, UINT64_MAX, "clock_ns is");
}

#define PIT_SILENT 5 /* KVM runs no timer for a counter in this mode, which waits for its gate */
#define PIT_RATE 2

/* Mutations that differ from power-on and that KVM keeps as they are. A counter 0 that ticks would set IRQ 0
 * in the PIC at any time. */
static void change_chips(ArchVmState *s)
{
    s->pics[0].imr = 0xa5;
    s->pics[0].irq_base = 0x20;
    s->pics[1].irq_base = 0x28;
    s->pics[1].imr = 0x5a;
    s->ioapic.id = 3;
    s->ioapic.ioregsel = 0x12;
    s->ioapic.redirtbl[4].bits = UINT64_C(0x0100000000010031); /* masked, vector 0x31 */
    s->has_pit = true;
    s->pit.channels[0] =
        (struct kvm_pit_channel_state){.count = 1193, .rw_mode = 3, .mode = PIT_SILENT, .gate = 1};
    s->pit.channels[2] =
        (struct kvm_pit_channel_state){.count = 500, .rw_mode = 3, .mode = 3, .read_state = 4};
    s->pit.channels[1].count = 0x10000; /* KVM's form of 0 */
    s->clock_ns = UINT64_C(123456789000);
}

static void assert_saves_as(Kvm *kvm, const ArchVmState *expected)
{
    g_autoptr(ArchVmState) now = arch_vm_state_new();
    g_autoptr(GError) error = NULL;
    if (!arch_vm_save(kvm, now, &error)) {
        fail_msg("%s", error->message);
    }
    assert_memory_equal(now->pics, expected->pics, sizeof(now->pics));
    assert_memory_equal(&now->ioapic, &expected->ioapic, sizeof(now->ioapic));
    assert_memory_equal(&now->pit, &expected->pit, sizeof(now->pit));
    assert_int_equal(now->clock_ns, expected->clock_ns);
    assert_memory_equal(now, expected, sizeof(*now));
}

/* Each call to KVM in turn fails: it is named, and the chips are as before. */
static void refuse_each_call(Kvm *kvm, const ArchVmState *other, const ArchVmState *before)
{
    unsigned refused = 0;
    for (unsigned n = 0;; n++) {
        g_autoptr(GError) error = NULL;
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = n, .count = 1, .error = EIO});
        bool ok = arch_vm_load(kvm, other, &error);
        bool hit = sys_fault_hits() != 0;
        sys_fault_set(NULL);
        if (!hit) {
            assert_true(ok);
            break;
        }
        assert_false(ok);
        assert_non_null(strstr(error->message, "KVM: KVM_"));
        assert_saves_as(kvm, before);
        refused++;
    }
    assert_int_equal(refused, 8); /* four chips are read, then written */
}

/* IRQ 0 of the PIC gets requested once counter 0 of the loaded @ticking ticks. */
static void expect_a_tick(Kvm *kvm, ArchVmState *ticking)
{
    g_autoptr(ArchVmState) now = arch_vm_state_new();
    g_autoptr(GError) error = NULL;
    ticking->pit.channels[0].mode = PIT_RATE;
    ticking->pics[0].irr = 0;
    assert_true(arch_vm_load(kvm, ticking, &error));
    do {
        g_usleep(100);
        assert_true(arch_vm_save(kvm, now, &error));
    } while ((now->pics[0].irr & 1) == 0);
    now->pics[0].irr &= (uint8_t)~1u;
    now->pics[0].last_irr &= (uint8_t)~1u;
    assert_memory_equal(now->pics, ticking->pics, sizeof(now->pics));
    assert_memory_equal(&now->pit, &ticking->pit, sizeof(now->pit));
}

/* KVM creates counters with a mode that is none. */
static void expect_unprogrammed_is_silent(Kvm *kvm, ArchVmState *s)
{
    g_autoptr(ArchVmState) now = arch_vm_state_new();
    g_autoptr(GError) error = NULL;
    s->pit.channels[1].mode = 0xff;
    assert_true(arch_vm_load(kvm, s, &error));
    assert_true(arch_vm_save(kvm, now, &error));
    assert_int_equal(now->pit.channels[1].mode, PIT_SILENT);
    assert_true(stream_accepts(now, now, NULL));
}

static void chips_load_into_a_fresh_vm(void **unused)
{
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        skip();
    }
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    g_autoptr(ArchVmState) state = arch_vm_state_new(), plain = arch_vm_state_new();
    g_autoptr(GError) error = NULL;
    const GuestRam none = {0};
    GuestRam ram_a = none, ram_b = none;
    ArchCpus cpus_a = {0}, cpus_b = {0};
    Kvm a = {0}, b = {0};
    host_kvm_open(&a, &cpus_a, &ram_a, 1);
    assert_true(arch_vm_save(&a, state, &error));
    assert_false(state->has_pit);
    host_kvm_close(&a, &cpus_a);
    change_chips(state);
    host_kvm_open(&b, &cpus_b, &ram_b, 1);
    assert_true(arch_vm_save(&b, plain, &error));
    assert_true(stream_accepts(state, state, NULL));
    assert_false(x86_pit_exists());
    if (!arch_vm_load(&b, state, &error)) { /* creates the PIT */
        fail_msg("%s", error->message);
    }
    assert_true(x86_pit_exists());
    assert_saves_as(&b, state);
    arch_vm_clock_start(&b);
    arch_vm_clock_stop(&b);
    g_autoptr(ArchVmState) later = arch_vm_state_new();
    assert_true(arch_vm_save(&b, later, &error));
    assert_true(later->clock_ns >= state->clock_ns); /* it goes on from there */
    assert_true(later->clock_ns < state->clock_ns + UINT64_C(600000000000));
    plain->has_pit = true;
    plain->pit = state->pit;
    plain->pit.channels[0].count = 7000;
    refuse_each_call(&b, plain, later);
    expect_a_tick(&b, plain);
    expect_unprogrammed_is_silent(&b, plain);
    host_kvm_close(&b, &cpus_b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_complete),
        cmocka_unit_test(values_out_of_bounds_are_refused),
        cmocka_unit_test(chips_load_into_a_fresh_vm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
