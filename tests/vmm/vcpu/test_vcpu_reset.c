/* SPDX-License-Identifier: Apache-2.0 */
/* Reset of a vCPU with a fake KVM, which refuses and keeps state as Linux does: guest state that
 * ordinary hosts have and the test machine may lack. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/arch_vcpu.h"
#include "vmm/arch/x86_64/boot_state.h"

#define FAKE_VCPU 1000 /* unused descriptor numbers */
#define FAKE_KVM 1001
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_SYSENTER_CS 0x174
#define CR4_VMXE (1u << 13)
/* of kvm_xsave.region: the components that are not in their initial state */
#define XSAVE_BV (512 / 4)
#define XSAVE_YMM (576 / 4) /* the upper halves of YMM */

static struct {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_fpu fpu;
    struct kvm_lapic_state lapic;
    struct kvm_mp_state mp_state;
    struct kvm_vcpu_events events;
    struct kvm_debugregs debugregs;
    struct kvm_xcrs xcrs;
    uint64_t feature_control, sysenter_cs;
    bool in_vmx; /* after VMXON */
    struct kvm_xsave xsave;
} fake;

static int fake_error(int error_number)
{
    errno = error_number;
    return -1;
}

static uint64_t *fake_msr(uint32_t index)
{
    return index == MSR_FEATURE_CONTROL ? &fake.feature_control : &fake.sysenter_cs;
}

/* Linux, vmx_set_msr(): a host write to IA32_FEATURE_CONTROL ends VMX operation. */
static int fake_set_msrs(const struct kvm_msrs *msrs)
{
    for (unsigned i = 0; i < msrs->nmsrs; i++) {
        const struct kvm_msr_entry *e = &msrs->entries[i];
        *fake_msr(e->index) = e->data;
        fake.in_vmx = fake.in_vmx && !(e->index == MSR_FEATURE_CONTROL && e->data == 0);
    }
    return (int)msrs->nmsrs;
}

static int fake_get_msrs(struct kvm_msrs *msrs)
{
    for (unsigned i = 0; i < msrs->nmsrs; i++) {
        msrs->entries[i].data = *fake_msr(msrs->entries[i].index);
    }
    return (int)msrs->nmsrs;
}

/* Linux, kvm_arch_vcpu_ioctl_x86_set_vcpu_events(): some fields need a flag. */
static int fake_set_events(const struct kvm_vcpu_events *events)
{
    struct kvm_vcpu_events old = fake.events;
    fake.events = *events;
    if ((events->flags & KVM_VCPUEVENT_VALID_SHADOW) == 0) {
        fake.events.interrupt.shadow = old.interrupt.shadow;
    }
    if ((events->flags & KVM_VCPUEVENT_VALID_SMM) == 0) {
        fake.events.smi = old.smi;
    }
    fake.events.flags = old.flags;
    return 0;
}

/* Linux, vmx_is_valid_cr4(): CR4.VMXE stays on in VMX operation. */
static int fake_set_sregs(const struct kvm_sregs *sregs)
{
    if (fake.in_vmx && (sregs->cr4 & CR4_VMXE) == 0) {
        return fake_error(EINVAL);
    }
    fake.sregs = *sregs;
    return 0;
}

static int fake_get_cpuid(struct kvm_cpuid2 *cpuid)
{
    static const struct kvm_cpuid_entry2 entries[] = {
        {.function = 0, .eax = 1, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
        {.function = 1, .eax = 0x806f8, .ecx = 0x80002000, .edx = 0x0f8bfbff},
        {.function = 0x80000008, .eax = 0x302e},
    };
    memcpy(cpuid->entries, entries, sizeof(entries));
    cpuid->nent = G_N_ELEMENTS(entries);
    return 0;
}

static int fake_get_msr_list(struct kvm_msr_list *list)
{
    bool fits = list->nmsrs >= 2;
    list->nmsrs = 2;
    if (!fits) {
        return fake_error(E2BIG);
    }
    list->indices[0] = MSR_SYSENTER_CS;
    list->indices[1] = MSR_FEATURE_CONTROL;
    return 0;
}

/* State that is only stored and read back. */
static int fake_copy(unsigned long request, void *data)
{
    const struct {
        unsigned long get, set;
        void *state;
        size_t size;
    } plain[] = {
        {KVM_GET_REGS, KVM_SET_REGS, &fake.regs, sizeof(fake.regs)},
        {KVM_GET_SREGS, 0, &fake.sregs, sizeof(fake.sregs)},
        {KVM_GET_FPU, KVM_SET_FPU, &fake.fpu, sizeof(fake.fpu)},
        {KVM_GET_XSAVE, KVM_SET_XSAVE, &fake.xsave, sizeof(fake.xsave)},
        {KVM_GET_LAPIC, KVM_SET_LAPIC, &fake.lapic, sizeof(fake.lapic)},
        {KVM_GET_MP_STATE, KVM_SET_MP_STATE, &fake.mp_state, sizeof(fake.mp_state)},
        {KVM_GET_VCPU_EVENTS, 0, &fake.events, sizeof(fake.events)},
        {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, &fake.debugregs, sizeof(fake.debugregs)},
        {KVM_GET_XCRS, KVM_SET_XCRS, &fake.xcrs, sizeof(fake.xcrs)},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++) {
        if (request == plain[i].get) {
            memcpy(data, plain[i].state, plain[i].size);
            return 0;
        }
        if (request == plain[i].set) {
            memcpy(plain[i].state, data, plain[i].size);
            return 0;
        }
    }
    return fake_error(EINVAL);
}

/* Replaces libc's function. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *data = va_arg(ap, void *);
    va_end(ap);
    assert_true(fd == FAKE_VCPU || fd == FAKE_KVM);
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return 1;
    case KVM_GET_SUPPORTED_CPUID:
        return fake_get_cpuid(data);
    case KVM_GET_MSR_INDEX_LIST:
        return fake_get_msr_list(data);
    case KVM_SET_CPUID2:
        return 0;
    case KVM_GET_MSRS:
        return fake_get_msrs(data);
    case KVM_SET_MSRS:
        return fake_set_msrs(data);
    case KVM_SET_SREGS:
        return fake_set_sregs(data);
    case KVM_SET_VCPU_EVENTS:
        return fake_set_events(data);
    default:
        return fake_copy(request, data);
    }
}

/* A newly created vCPU. */
static ArchCpus cpus;
static ArchVcpu *vcpu;

static int vcpu_setup(void **state)
{
    static const Kvm kvm = {.fd = FAKE_KVM, .vm_fd = -1};
    static const SmpTopology one = {.cpus = 1, .sockets = 1, .cores = 1, .threads = 1};
    X86CpuModel model;
    thread_adopt_role(THREAD_VCPU, "vcpu/0");
    enter_vcpu();
    memset(&fake, 0, sizeof(fake));
    fake.sregs.cr0 = 0x60000010;
    fake.events.flags = KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
    assert_true(x86_cpu_model_parse(NULL, &model, NULL));
    assert_true(x86_cpus_init(&cpus, &kvm, &model, &one, NULL));
    vcpu = arch_vcpu_new(&cpus, FAKE_VCPU, 0, NULL);
    assert_non_null(vcpu);
    return 0;
}

static int vcpu_teardown(void **state)
{
    arch_vcpu_free(vcpu);
    x86_cpuid_free(cpus.cpuid);
    g_free(cpus.msr_list);
    return 0;
}

static void vcpu_reset(void)
{
    enter_vcpu();
    g_autoptr(GError) error = NULL;
    if (!arch_vcpu_reset(vcpu, FAKE_VCPU, 0, NULL, &error)) {
        fail_msg("%s", error->message);
    }
}

static void a_guest_that_runs_guests_of_its_own_is_reset(void **state)
{
    fake.feature_control = 5;
    fake.sregs.cr4 = CR4_VMXE;
    fake.in_vmx = true;
    fake.sysenter_cs = 0x10;
    vcpu_reset();
    assert_false(fake.in_vmx);
    assert_int_equal(fake.sregs.cr4, 0);
    assert_int_equal(fake.feature_control, 0);
    assert_int_equal(fake.sysenter_cs, 0);
}

static void the_extended_registers_are_reset(void **state)
{
    memset(&fake.xsave, 0xff, sizeof(fake.xsave));
    vcpu_reset();
    /* x87 and SSE as written, MXCSR included; all else in its initial state. */
    assert_int_equal(fake.xsave.region[XSAVE_BV], 3);
    assert_int_equal(fake.xsave.region[XSAVE_YMM], 0);
}

static void a_guest_in_system_management_mode_is_reset(void **state)
{
    fake.events.smi.smm = 1;
    fake.events.smi.latched_init = 1;
    fake.events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
    fake.events.exception.injected = 1;
    fake.events.nmi.pending = 1;
    vcpu_reset();
    assert_int_equal(fake.events.smi.smm, 0);
    assert_int_equal(fake.events.smi.latched_init, 0);
    assert_int_equal(fake.events.interrupt.shadow, 0);
    assert_int_equal(fake.events.exception.injected, 0);
    assert_int_equal(fake.events.nmi.pending, 0);
}

#define ON_VCPU(f) cmocka_unit_test_setup_teardown(f, vcpu_setup, vcpu_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_VCPU(a_guest_that_runs_guests_of_its_own_is_reset),
        ON_VCPU(the_extended_registers_are_reset),
        ON_VCPU(a_guest_in_system_management_mode_is_reset),
    };
    return cmocka_run_group_tests_name("vmm/vcpu/vcpu_reset", tests, NULL, NULL);
}
