/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86_64/arch_vcpu.h"

#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include "util/log.h"
#include "vmm/arch/x86_64/boot_state.h"

#define X86_MSR_TSC 0x10
#define X86_MSR_TSC_ADJUST 0x3b
#define X86_MSR_FEATURE_CONTROL 0x3a
#define X86_MAX_CPUID_ENTRIES 256
/* Index in kvm_xsave.region: the components that are not in their initial state. */
#define X86_XSAVE_BV (512 / 4)
#define X86_XSAVE_X87_SSE 3

/* The local APIC's second input. SDM volume 3, 11.5.1. */
#define X86_APIC_LVT_LINT1 0x360
#define X86_APIC_LVT_MASKED (1u << 16)
#define X86_APIC_LVT_MODE(lvt) ((lvt) >> 8 & 7)
#define X86_APIC_MODE_NMI 4

/* KVM has no vCPU reset: the state right after creation is saved and restored. */
struct ArchVcpu {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_fpu fpu;
    struct kvm_lapic_state lapic;
    struct kvm_mp_state mp_state;
    struct kvm_vcpu_events events;
    struct kvm_debugregs debugregs;
    struct kvm_xcrs xcrs;
    bool has_xsave, has_xcrs, has_debugregs;
    struct kvm_msrs *msrs;
    struct kvm_xsave xsave; /* has_xsave: then fpu is not used. Last, since it can be longer */
};

static bool x86_fail(GError **error, unsigned index, const char *what)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "KVM: vCPU %u: %s: %s", index,
                what, g_strerror(err));
    return false;
}

/* ---- what all vCPUs share ---- */

static struct kvm_cpuid2 *x86_supported_cpuid(const Kvm *kvm)
{
    struct kvm_cpuid2 *cpuid =
        g_malloc0(sizeof(*cpuid) + X86_MAX_CPUID_ENTRIES * sizeof(cpuid->entries[0]));
    cpuid->nent = X86_MAX_CPUID_ENTRIES;
    if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid) != 0) {
        g_free(cpuid);
        return NULL;
    }
    return cpuid;
}

static struct kvm_msr_list *x86_msr_list(const Kvm *kvm)
{
    struct kvm_msr_list probe = {.nmsrs = 0};
    if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, &probe) != 0 && errno != E2BIG) {
        return NULL;
    }
    struct kvm_msr_list *list = g_malloc0(sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
    list->nmsrs = probe.nmsrs;
    if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, list) != 0) {
        g_free(list);
        return NULL;
    }
    return list;
}

static void x86_read_brand(X86CpuidHost *host)
{
    for (uint32_t i = 0; i < X86_BRAND_LEAVES; i++) {
        uint32_t *regs = host->brand[i];
        __get_cpuid(X86_BRAND_LEAF + i, &regs[0], &regs[1], &regs[2], &regs[3]);
    }
}

bool x86_cpus_init(ArchCpus *cpus, const Kvm *kvm, const X86CpuModel *model,
                   const SmpTopology *topology, GError **error)
{
    g_autofree struct kvm_cpuid2 *supported = x86_supported_cpuid(kvm);
    if (supported == NULL) {
        return x86_fail(error, 0, "KVM_GET_SUPPORTED_CPUID");
    }
    X86CpuidHost host = {
        .supported = supported,
        .tsc_deadline = kvm_check(kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
    };
    x86_read_brand(&host);
    cpus->kvm = kvm;
    cpus->topology = *topology;
    cpus->cpuid = x86_cpuid_new(&host, model, topology, error);
    if (cpus->cpuid == NULL) {
        return false;
    }
    cpus->msr_list = x86_msr_list(kvm);
    if (cpus->msr_list == NULL) {
        return x86_fail(error, 0, "KVM_GET_MSR_INDEX_LIST");
    }
    return true;
}

unsigned long arch_vcpu_id(const ArchCpus *cpus, unsigned index)
{
    return x86_apic_id(&cpus->topology, index);
}

/* ---- power-on state ---- */

static struct kvm_msrs *x86_msrs_new(unsigned count)
{
    struct kvm_msrs *msrs = g_malloc0(sizeof(*msrs) + count * sizeof(msrs->entries[0]));
    msrs->nmsrs = count;
    return msrs;
}

/* A batch stops at an MSR that KVM lists but does not have: continues behind it. */
static struct kvm_msrs *x86_read_msrs(const ArchCpus *cpus, int fd)
{
    struct kvm_msrs *msrs = x86_msrs_new(cpus->msr_list->nmsrs);
    unsigned wanted = 0, kept = 0;
    for (unsigned i = 0; i < cpus->msr_list->nmsrs; i++) {
        uint32_t index = cpus->msr_list->indices[i];
        if (index != X86_MSR_TSC && index != X86_MSR_TSC_ADJUST) {
            msrs->entries[wanted++].index = index;
        } /* the TSC continues across a reset, synchronized on all vCPUs */
    }
    g_autofree struct kvm_msrs *batch = x86_msrs_new(wanted);
    for (unsigned done = 0; done < wanted;) {
        batch->nmsrs = wanted - done;
        memcpy(batch->entries, &msrs->entries[done], batch->nmsrs * sizeof(batch->entries[0]));
        int got = ioctl(fd, KVM_GET_MSRS, batch);
        unsigned read = got > 0 ? (unsigned)got : 0;
        memmove(&msrs->entries[kept], batch->entries, read * sizeof(batch->entries[0]));
        kept += read;
        done += read + 1;
    }
    msrs->nmsrs = kept;
    return msrs;
}

/* A batch stops at the first MSR that KVM refuses to write (some hosts have such): continues behind
 * it. */
static void x86_write_msrs(int fd, const struct kvm_msrs *msrs)
{
    g_autofree struct kvm_msrs *batch = x86_msrs_new(msrs->nmsrs);
    for (unsigned done = 0; done < msrs->nmsrs;) {
        batch->nmsrs = msrs->nmsrs - done;
        memcpy(batch->entries, &msrs->entries[done], batch->nmsrs * sizeof(batch->entries[0]));
        int written = ioctl(fd, KVM_SET_MSRS, batch);
        done += (written > 0 ? (unsigned)written : 0) + 1;
    }
}

static bool x86_save_power_on(const ArchCpus *cpus, ArchVcpu *v, int fd, unsigned index,
                              GError **error)
{
    const struct {
        unsigned long request;
        void *data;
        const char *name;
    } reads[] = {
        {KVM_GET_REGS, &v->regs, "KVM_GET_REGS"},
        {KVM_GET_SREGS, &v->sregs, "KVM_GET_SREGS"},
        {KVM_GET_FPU, &v->fpu, "KVM_GET_FPU"},
        {KVM_GET_LAPIC, &v->lapic, "KVM_GET_LAPIC"},
        {KVM_GET_MP_STATE, &v->mp_state, "KVM_GET_MP_STATE"},
        {KVM_GET_VCPU_EVENTS, &v->events, "KVM_GET_VCPU_EVENTS"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(reads); i++) {
        if (ioctl(fd, reads[i].request, reads[i].data) != 0) {
            return x86_fail(error, index, reads[i].name);
        }
    }
    v->has_debugregs = ioctl(fd, KVM_GET_DEBUGREGS, &v->debugregs) == 0;
    v->has_xsave =
        kvm_check(cpus->kvm, KVM_CAP_XSAVE) > 0 && ioctl(fd, KVM_GET_XSAVE, &v->xsave) == 0;
    /* Restores x87 and SSE state from the area: otherwise MXCSR keeps the guest's value. */
    v->xsave.region[X86_XSAVE_BV] |= X86_XSAVE_X87_SSE;
    v->has_xcrs = kvm_check(cpus->kvm, KVM_CAP_XCRS) > 0 && ioctl(fd, KVM_GET_XCRS, &v->xcrs) == 0;
    v->msrs = x86_read_msrs(cpus, fd);
    return true;
}

ArchVcpu *arch_vcpu_new(const ArchCpus *cpus, int vcpu_fd, unsigned index, GError **error)
{
    g_autofree struct kvm_cpuid2 *cpuid = x86_cpuid_for_cpu(cpus->cpuid, index);
    if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) != 0) {
        x86_fail(error, index, "KVM_SET_CPUID2");
        return NULL;
    }
    ArchVcpu *v = g_new0(ArchVcpu, 1);
    if (!x86_save_power_on(cpus, v, vcpu_fd, index, error)) {
        arch_vcpu_free(v);
        return NULL;
    }
    return v;
}

void arch_vcpu_free(ArchVcpu *v)
{
    if (v != NULL) {
        g_free(v->msrs);
        g_free(v);
    }
}

/* ---- reset ---- */

static bool x86_set_boot_state(const ArchVcpu *v, int fd, unsigned index, const BootState *boot,
                               GError **error)
{
    struct kvm_regs regs = v->regs;
    struct kvm_sregs sregs = v->sregs;
    if (index == 0) {
        BootState reset_vector;
        if (boot == NULL) {
            x86_boot_state_reset_vector(&reset_vector);
            boot = &reset_vector;
        }
        x86_boot_fill_regs(boot, &regs, &sregs);
    }
    if (ioctl(fd, KVM_SET_SREGS, &sregs) != 0) {
        return x86_fail(error, index, "KVM_SET_SREGS");
    }
    if (ioctl(fd, KVM_SET_REGS, &regs) != 0) {
        return x86_fail(error, index, "KVM_SET_REGS");
    }
    return true;
}

static void x86_set_boot_msrs(int fd, const BootState *boot)
{
    g_autofree struct kvm_msrs *msrs = x86_msrs_new(X86_BOOT_MSRS);
    msrs->nmsrs = x86_boot_fill_msrs(boot, msrs->entries);
    if (msrs->nmsrs > 0 && ioctl(fd, KVM_SET_MSRS, msrs) < 0) {
        log_warn("KVM refuses the MSRs that firmware would set: %s", g_strerror(errno));
    }
}

/* Leaves VMX operation, which no other state change ends, and in which KVM refuses to clear
 * CR4.VMXE. */
static void x86_leave_vmx(const ArchVcpu *v, int fd)
{
    g_autofree struct kvm_msrs *one = x86_msrs_new(1);
    for (unsigned i = 0; i < v->msrs->nmsrs; i++) {
        if (v->msrs->entries[i].index == X86_MSR_FEATURE_CONTROL) {
            one->entries[0] = v->msrs->entries[i];
            ioctl(fd, KVM_SET_MSRS, one);
        }
    }
}

bool arch_vcpu_reset(ArchVcpu *v, int vcpu_fd, unsigned index, const BootState *boot,
                     GError **error)
{
    struct kvm_vcpu_events events = v->events;
    /* Valid on every KVM: interrupt shadow and system management mode only by their flags. */
    events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR;
    x86_leave_vmx(v, vcpu_fd);
    /* The MP state is set before the registers: KVM resets a vCPU that becomes uninitialized. */
    const struct {
        unsigned long request;
        void *data;
        const char *name;
    } writes[] = {
        {KVM_SET_MP_STATE, &v->mp_state, "KVM_SET_MP_STATE"},
        {v->has_xsave ? KVM_SET_XSAVE : KVM_SET_FPU, v->has_xsave ? (void *)&v->xsave : &v->fpu,
         v->has_xsave ? "KVM_SET_XSAVE" : "KVM_SET_FPU"},
        {KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++) {
        if (ioctl(vcpu_fd, writes[i].request, writes[i].data) != 0) {
            return x86_fail(error, index, writes[i].name);
        }
    }
    if (v->has_debugregs) {
        ioctl(vcpu_fd, KVM_SET_DEBUGREGS, &v->debugregs);
    }
    if (v->has_xcrs) {
        ioctl(vcpu_fd, KVM_SET_XCRS, &v->xcrs);
    }
    if (!x86_set_boot_state(v, vcpu_fd, index, boot, error)) {
        return false;
    }
    x86_write_msrs(vcpu_fd, v->msrs);
    /* Set after SREGS, whose APIC base determines the local APIC's mode. */
    if (ioctl(vcpu_fd, KVM_SET_LAPIC, &v->lapic) != 0) {
        return x86_fail(error, index, "KVM_SET_LAPIC");
    }
    if (boot != NULL) {
        x86_set_boot_msrs(vcpu_fd, boot);
    }
    return true;
}

void arch_vcpu_resumed(int vcpu_fd)
{
    ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, 0); /* EINVAL: the guest does not use kvmclock */
}

/* ---- NMI ---- */

/* The NMI button is wired to each processor's LINT1; the guest sets its mask and mode. */
bool arch_vcpu_press_nmi(int vcpu_fd, unsigned index, GError **error)
{
    struct kvm_lapic_state lapic;
    uint32_t lvt;
    if (ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic) != 0) {
        return x86_fail(error, index, "KVM_GET_LAPIC");
    }
    memcpy(&lvt, lapic.regs + X86_APIC_LVT_LINT1, sizeof(lvt));
    if ((lvt & X86_APIC_LVT_MASKED) != 0 || X86_APIC_LVT_MODE(lvt) != X86_APIC_MODE_NMI) {
        return true;
    }
    return ioctl(vcpu_fd, KVM_NMI) == 0 || x86_fail(error, index, "KVM_NMI");
}
