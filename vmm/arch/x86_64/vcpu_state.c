/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86_64/vcpu_state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/cpuid_int.h"

#define STATE_APIC_ID_REGISTER 0x20
/* A host's TSC frequency is measured: what differs by less is the same (250 ppm). */
#define STATE_TSC_TOLERANCE 4000

ArchVcpuState *arch_vcpu_state_new(void)
{
    return g_new0(ArchVcpuState, 1);
}

void arch_vcpu_state_free(ArchVcpuState *state)
{
    g_free(state);
}

static bool state_call(int fd, unsigned long request, void *data, const char *name, unsigned index,
                       GError **error)
{
    if (ioctl(fd, request, data) >= 0) {
        return true;
    }
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "KVM: vCPU %u: %s: %s", index,
                name, g_strerror(err));
    return false;
}

/* A vCPU that is saved or loaded. */
typedef struct StateVcpu {
    const ArchCpus *cpus;
    int fd;
    unsigned index;
    GError **error;
} StateVcpu;

#define STATE_CALL(v, request, data)                                                               \
    state_call((v)->fd, (request), (data), #request, (v)->index, (v)->error)

/* The size of the area that KVM reads and writes. */
static uint32_t state_xsave_size(const ArchCpus *cpus)
{
    int size = kvm_check(cpus->kvm, KVM_CAP_XSAVE2);
    return size > 0 ? (uint32_t)size : (uint32_t)sizeof(struct kvm_xsave);
}

/* ---- saving ---- */

static void state_save_cpuid(const StateVcpu *v, ArchVcpuState *s)
{
    g_autofree struct kvm_cpuid2 *cpuid = x86_cpuid_for_cpu(v->cpus->cpuid, v->index);
    g_assert(cpuid->nent <= X86_STATE_MAX_CPUID);
    s->cpuid_used = cpuid->nent;
    memcpy(s->cpuid, cpuid->entries, cpuid->nent * sizeof(s->cpuid[0]));
}

static RUNS_IN_VCPU bool state_save_sregs(const StateVcpu *v, ArchVcpuState *s)
{
    if (kvm_check(v->cpus->kvm, KVM_CAP_SREGS2) > 0) {
        return STATE_CALL(v, KVM_GET_SREGS2, &s->sregs);
    }
    struct kvm_sregs old;
    if (!STATE_CALL(v, KVM_GET_SREGS, &old)) {
        return false;
    }
    memcpy(&s->sregs, &old, offsetof(struct kvm_sregs, interrupt_bitmap));
    return true;
}

static RUNS_IN_VCPU bool state_save_xsave(const StateVcpu *v, ArchVcpuState *s)
{
    s->xsave_used = state_xsave_size(v->cpus);
    if (s->xsave_used > X86_STATE_MAX_XSAVE) {
        g_set_error(v->error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "KVM's XSAVE area of %u bytes does not fit into a state", s->xsave_used);
        return false;
    }
    if (kvm_check(v->cpus->kvm, KVM_CAP_XSAVE2) > 0) {
        return STATE_CALL(v, KVM_GET_XSAVE2, s->xsave);
    }
    return STATE_CALL(v, KVM_GET_XSAVE, s->xsave);
}

static RUNS_IN_VCPU bool state_save_xcrs(const StateVcpu *v, ArchVcpuState *s)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 0};
    if (kvm_check(v->cpus->kvm, KVM_CAP_XCRS) <= 0) {
        return true;
    }
    if (!STATE_CALL(v, KVM_GET_XCRS, &xcrs)) {
        return false;
    }
    s->xcrs_used = MIN(xcrs.nr_xcrs, (uint32_t)KVM_MAX_XCRS);
    memcpy(s->xcrs, xcrs.xcrs, s->xcrs_used * sizeof(s->xcrs[0]));
    return true;
}

static RUNS_IN_VCPU bool state_save_nested(const StateVcpu *v, ArchVcpuState *s)
{
    int size = kvm_check(v->cpus->kvm, KVM_CAP_NESTED_STATE);
    if (size <= 0) {
        return true;
    }
    struct kvm_nested_state head = {.size = sizeof(s->nested)};
    memcpy(s->nested, &head, sizeof(head));
    if (!STATE_CALL(v, KVM_GET_NESTED_STATE, s->nested)) {
        return false;
    }
    memcpy(&head, s->nested, sizeof(head));
    s->nested_used = MIN(head.size, (uint32_t)sizeof(s->nested));
    memset(s->nested + s->nested_used, 0, sizeof(s->nested) - s->nested_used);
    return true;
}

bool arch_vcpu_save(const ArchCpus *cpus, int vcpu_fd, unsigned index, ArchVcpuState *state,
                    GError **error)
{
    const StateVcpu v = {cpus, vcpu_fd, index, error};
    struct kvm_mp_state mp;
    memset(state, 0, sizeof(*state));
    if (!STATE_CALL(&v, KVM_GET_MP_STATE, &mp) ||
        !STATE_CALL(&v, KVM_GET_VCPU_EVENTS, &state->events) || !state_save_sregs(&v, state) ||
        !STATE_CALL(&v, KVM_GET_REGS, &state->regs) ||
        !STATE_CALL(&v, KVM_GET_DEBUGREGS, &state->debugregs) || !state_save_xcrs(&v, state) ||
        !state_save_xsave(&v, state) || !x86_msrs_save(cpus, vcpu_fd, state, error) ||
        !STATE_CALL(&v, KVM_GET_LAPIC, &state->lapic) || !state_save_nested(&v, state)) {
        return false;
    }
    int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ);
    state->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
    state->mp_state = mp.mp_state;
    state->apic_id = (uint32_t)arch_vcpu_id(cpus, index);
    state_save_cpuid(&v, state);
    return true;
}

/* ---- checking ---- */

static uint32_t state_cpuid_register(const struct kvm_cpuid_entry2 *entries, uint32_t count,
                                     const X86Feature *f)
{
    for (uint32_t i = 0; i < count; i++) {
        struct kvm_cpuid_entry2 e = entries[i];
        if (e.function == f->function && e.index == f->index) {
            return *x86_cpuid_register(&e, f->reg);
        }
    }
    return 0;
}

/* Names the features that the guest was started with and this processor lacks. */
static bool state_check_features(const struct kvm_cpuid2 *mine, const ArchVcpuState *s,
                                 GError **error)
{
    g_autoptr(GString) missing = g_string_new(NULL);
    for (unsigned i = 0; i < x86_feature_count; i++) {
        const X86Feature *f = &x86_features[i];
        uint32_t bit = UINT32_C(1) << f->bit;
        if ((state_cpuid_register(s->cpuid, s->cpuid_used, f) & bit) != 0 &&
            (state_cpuid_register(mine->entries, mine->nent, f) & bit) == 0) {
            g_string_append_printf(missing, "%s%s", missing->len != 0 ? ", " : "", f->name);
        }
    }
    if (missing->len == 0) {
        return true;
    }
    g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                "the saved processor has %s, which this host or -cpu does not offer", missing->str);
    return false;
}

/* The first leaf that differs, if one does: a guest must not see its processor change. */
static bool state_check_leaves(const struct kvm_cpuid2 *mine, const ArchVcpuState *s,
                               GError **error)
{
    for (uint32_t i = 0; i < MAX(mine->nent, s->cpuid_used); i++) {
        const struct kvm_cpuid_entry2 *a = &mine->entries[i], *b = &s->cpuid[i];
        if (i >= mine->nent || i >= s->cpuid_used ||
            memcmp(a, b, offsetof(struct kvm_cpuid_entry2, padding)) != 0) {
            const struct kvm_cpuid_entry2 *e = i < s->cpuid_used ? b : a;
            g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                        "the saved processor differs from this one in CPUID leaf 0x%x, index %u: "
                        "-cpu, -smp or the host is another",
                        e->function, e->index);
            return false;
        }
    }
    return true;
}

static bool state_check_lapic(const ArchVcpuState *s, GError **error)
{
    uint32_t raw, id;
    memcpy(&raw, s->lapic.regs + STATE_APIC_ID_REGISTER, sizeof(raw));
    id = raw >> 24; /* also in x2APIC mode: KVM converts it unless KVM_CAP_X2APIC_API is enabled */
    if (id == s->apic_id) {
        return true;
    }
    g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                "the local APIC has id %u, the processor has %u", id, s->apic_id);
    return false;
}

static bool state_check_xsave(const ArchCpus *cpus, const ArchVcpuState *s, GError **error)
{
    for (uint32_t i = state_xsave_size(cpus); i < s->xsave_used; i++) {
        if (s->xsave[i] != 0) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                        "the XSAVE area has %u bytes, KVM on this host has %u", s->xsave_used,
                        state_xsave_size(cpus));
            return false;
        }
    }
    return true;
}

static bool state_tsc_differs(const ArchVcpuState *s, uint32_t khz)
{
    return s->tsc_khz != 0 && khz != 0 &&
           ABS((int64_t)s->tsc_khz - (int64_t)khz) > khz / STATE_TSC_TOLERANCE;
}

bool arch_vcpu_state_check(const ArchCpus *cpus, unsigned index, const ArchVcpuState *state,
                           GError **error)
{
    g_autofree struct kvm_cpuid2 *mine = x86_cpuid_for_cpu(cpus->cpuid, index);
    bool ok;
    if (state->apic_id != arch_vcpu_id(cpus, index)) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                    "APIC id %u, where -smp gives %lu: the topology is another", state->apic_id,
                    arch_vcpu_id(cpus, index));
        ok = false;
    } else if (state->nested_used > 128 && kvm_check(cpus->kvm, KVM_CAP_NESTED_STATE) <= 0) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                    "the guest runs guests itself, which KVM on this host does not offer");
        ok = false;
    } else {
        ok = state_check_features(mine, state, error) && state_check_leaves(mine, state, error) &&
             state_check_lapic(state, error) && state_check_xsave(cpus, state, error) &&
             x86_msrs_check(cpus, state, error);
    }
    if (!ok) {
        g_prefix_error(error, "vCPU %u: ", index);
    }
    return ok;
}

/* ---- loading ---- */

static RUNS_IN_VCPU bool state_load_tsc_khz(const StateVcpu *v, const ArchVcpuState *s)
{
    int khz = ioctl(v->fd, KVM_GET_TSC_KHZ);
    if (!state_tsc_differs(s, khz > 0 ? (uint32_t)khz : 0) ||
        ioctl(v->fd, KVM_SET_TSC_KHZ, (unsigned long)s->tsc_khz) == 0) {
        return true;
    }
    g_set_error(v->error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                "KVM: vCPU %u: the TSC has %u kHz, which KVM on this host (%d kHz) cannot give it",
                v->index, s->tsc_khz, khz);
    return false;
}

static RUNS_IN_VCPU bool state_load_sregs(const StateVcpu *v, const ArchVcpuState *s)
{
    struct kvm_sregs2 sregs = s->sregs;
    if (kvm_check(v->cpus->kvm, KVM_CAP_SREGS2) > 0) {
        return STATE_CALL(v, KVM_SET_SREGS2, &sregs);
    }
    struct kvm_sregs old = {.cr0 = 0};
    memcpy(&old, &sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
    return STATE_CALL(v, KVM_SET_SREGS, &old);
}

static RUNS_IN_VCPU bool state_load_fpu(const StateVcpu *v, const ArchVcpuState *s)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = s->xcrs_used};
    /* As much as KVM reads, whatever the state has. */
    g_autofree uint8_t *xsave = g_malloc0(MAX(state_xsave_size(v->cpus), s->xsave_used));
    memcpy(xcrs.xcrs, s->xcrs, s->xcrs_used * sizeof(s->xcrs[0]));
    memcpy(xsave, s->xsave, s->xsave_used);
    return (s->xcrs_used == 0 || STATE_CALL(v, KVM_SET_XCRS, &xcrs)) &&
           STATE_CALL(v, KVM_SET_XSAVE, xsave);
}

static RUNS_IN_VCPU bool state_load_nested(const StateVcpu *v, const ArchVcpuState *s)
{
    g_autofree uint8_t *nested = NULL;
    if (s->nested_used == 0 || kvm_check(v->cpus->kvm, KVM_CAP_NESTED_STATE) <= 0) {
        return true;
    }
    nested = g_memdup2(s->nested, s->nested_used);
    return STATE_CALL(v, KVM_SET_NESTED_STATE, nested);
}

/* Without flags that say so KVM leaves alone what is not pending. Those of optional events are only
 * valid where they were saved as such. */
static RUNS_IN_VCPU bool state_load_events(const StateVcpu *v, const ArchVcpuState *s)
{
    struct kvm_vcpu_events events = s->events;
    events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR;
    return STATE_CALL(v, KVM_SET_VCPU_EVENTS, &events);
}

static bool state_is_feature_control(uint32_t msr)
{
    return msr == X86_MSR_IA32_FEATURE_CONTROL;
}

static bool state_is_deadline(uint32_t msr)
{
    return msr == X86_MSR_IA32_TSC_DEADLINE;
}

static bool state_is_other_msr(uint32_t msr)
{
    return !state_is_feature_control(msr) && !state_is_deadline(msr);
}

/* In VMX operation KVM refuses to clear CR4.VMXE; this ends it. It may fail: then it is not on. */
static RUNS_IN_VCPU void state_leave_vmx(const StateVcpu *v)
{
    g_autofree struct kvm_msrs *off = g_malloc0(sizeof(*off) + sizeof(off->entries[0]));
    off->nmsrs = 1;
    off->entries[0].index = X86_MSR_IA32_FEATURE_CONTROL;
    ioctl(v->fd, KVM_SET_MSRS, off);
}

static RUNS_IN_VCPU bool state_load_msrs(const StateVcpu *v, const ArchVcpuState *s,
                                         bool (*wanted)(uint32_t msr))
{
    if (x86_msrs_load(v->fd, s, wanted, v->error)) {
        return true;
    }
    g_prefix_error(v->error, "KVM: vCPU %u: ", v->index);
    return false;
}

static RUNS_IN_VCPU bool state_apply(const StateVcpu *v, const ArchVcpuState *s)
{
    struct kvm_mp_state mp = {.mp_state = s->mp_state};
    struct kvm_regs regs = s->regs;
    struct kvm_debugregs debugregs = s->debugregs;
    struct kvm_lapic_state lapic = s->lapic;
    if (!state_load_tsc_khz(v, s) || !STATE_CALL(v, KVM_SET_MP_STATE, &mp)) {
        return false;
    }
    state_leave_vmx(v);
    return state_load_msrs(v, s, state_is_feature_control) && state_load_sregs(v, s) &&
           STATE_CALL(v, KVM_SET_REGS, &regs) && state_load_fpu(v, s) &&
           STATE_CALL(v, KVM_SET_DEBUGREGS, &debugregs) &&
           state_load_msrs(v, s, state_is_other_msr) && state_load_nested(v, s) &&
           STATE_CALL(v, KVM_SET_LAPIC, &lapic) && state_load_msrs(v, s, state_is_deadline) &&
           state_load_events(v, s);
}

bool arch_vcpu_load(const ArchCpus *cpus, int vcpu_fd, unsigned index, const ArchVcpuState *state,
                    GError **error)
{
    StateVcpu v = {cpus, vcpu_fd, index, error};
    g_autoptr(ArchVcpuState) before = arch_vcpu_state_new();
    if (!arch_vcpu_state_check(cpus, index, state, error) ||
        !arch_vcpu_save(cpus, vcpu_fd, index, before, error)) {
        return false;
    }
    if (state_apply(&v, state)) {
        return true;
    }
    v.error = NULL;
    state_apply(&v, before);
    return false;
}
