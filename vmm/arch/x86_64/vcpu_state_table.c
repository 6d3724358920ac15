/* SPDX-License-Identifier: Apache-2.0 */
/* The state table of a vCPU, and what is checked before KVM sees it. */
#include <string.h>
#include "vmm/arch/x86_64/vcpu_state.h"

#define U8(S, f) STATE_FIELD(S, STATE_U8, f)
#define U16(S, f) STATE_FIELD(S, STATE_U16, f)
#define U32(S, f) STATE_FIELD(S, STATE_U32, f)
#define U64(S, f) STATE_FIELD(S, STATE_U64, f)
#define TABLE(n, S, t)                                                                             \
    {                                                                                              \
        .name = (n), .version = 1, .min_version = 1, .struct_size = sizeof(S), .fields = (t)       \
    }

typedef struct kvm_cpuid_entry2 Cpuid;
static const StateField cpuid_fields[] = {U32(Cpuid, function),
                                          U32(Cpuid, index),
                                          U32(Cpuid, flags),
                                          U32(Cpuid, eax),
                                          U32(Cpuid, ebx),
                                          U32(Cpuid, ecx),
                                          U32(Cpuid, edx),
                                          STATE_PADDING(Cpuid, padding),
                                          {0}};
static const StateDesc cpuid_desc = TABLE("cpuid", Cpuid, cpuid_fields);

typedef struct kvm_regs Regs;
static const StateField regs_fields[] = {U64(Regs, rax),
                                         U64(Regs, rbx),
                                         U64(Regs, rcx),
                                         U64(Regs, rdx),
                                         U64(Regs, rsi),
                                         U64(Regs, rdi),
                                         U64(Regs, rsp),
                                         U64(Regs, rbp),
                                         U64(Regs, r8),
                                         U64(Regs, r9),
                                         U64(Regs, r10),
                                         U64(Regs, r11),
                                         U64(Regs, r12),
                                         U64(Regs, r13),
                                         U64(Regs, r14),
                                         U64(Regs, r15),
                                         U64(Regs, rip),
                                         U64(Regs, rflags),
                                         {0}};
static const StateDesc regs_desc = TABLE("regs", Regs, regs_fields);

typedef struct kvm_segment Segment;
static const StateField segment_fields[] = {U64(Segment, base),
                                            U32(Segment, limit),
                                            U16(Segment, selector),
                                            U8(Segment, type),
                                            U8(Segment, present),
                                            U8(Segment, dpl),
                                            U8(Segment, db),
                                            U8(Segment, s),
                                            U8(Segment, l),
                                            U8(Segment, g),
                                            U8(Segment, avl),
                                            U8(Segment, unusable),
                                            STATE_PADDING(Segment, padding),
                                            {0}};
static const StateDesc segment_desc = TABLE("segment", Segment, segment_fields);

typedef struct kvm_dtable Dtable;
static const StateField dtable_fields[] = {
    U64(Dtable, base), U16(Dtable, limit), STATE_PADDING(Dtable, padding), {0}};
static const StateDesc dtable_desc = TABLE("dtable", Dtable, dtable_fields);

typedef struct kvm_sregs2 Sregs;
#define SEGMENT(f) STATE_STRUCT_ONE(Sregs, f, &segment_desc)
static const StateField sregs_fields[] = {
    SEGMENT(cs),
    SEGMENT(ds),
    SEGMENT(es),
    SEGMENT(fs),
    SEGMENT(gs),
    SEGMENT(ss),
    SEGMENT(tr),
    SEGMENT(ldt),
    STATE_STRUCT_ONE(Sregs, gdt, &dtable_desc),
    STATE_STRUCT_ONE(Sregs, idt, &dtable_desc),
    U64(Sregs, cr0),
    U64(Sregs, cr2),
    U64(Sregs, cr3),
    U64(Sregs, cr4),
    STATE_FIELD_MAX(Sregs, STATE_U64, cr8, 15),
    U64(Sregs, efer),
    U64(Sregs, apic_base),
    STATE_FIELD_MAX(Sregs, STATE_U64, flags, KVM_SREGS2_FLAGS_PDPTRS_VALID),
    STATE_ARRAY(Sregs, STATE_U64, pdptrs),
    {0}};
static const StateDesc sregs_desc = TABLE("sregs", Sregs, sregs_fields);

typedef struct kvm_debugregs DebugRegs;
static const StateField debugregs_fields[] = {
    STATE_ARRAY(DebugRegs, STATE_U64, db),
    STATE_FIELD_MAX(DebugRegs, STATE_U64, dr6, UINT32_MAX),
    STATE_FIELD_MAX(DebugRegs, STATE_U64, dr7, UINT32_MAX),
    STATE_PADDING(DebugRegs, flags),
    STATE_PADDING(DebugRegs, reserved),
    {0}};
static const StateDesc debugregs_desc = TABLE("debugregs", DebugRegs, debugregs_fields);

#define EVENT_FLAGS                                                                                \
    (KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |                           \
     KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD |          \
     KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
typedef struct kvm_vcpu_events Events;
#define FLAG(f) STATE_FIELD_MAX(Events, STATE_U8, f, 1)
static const StateField events_fields[] = {
    FLAG(exception.injected),
    STATE_FIELD_MAX(Events, STATE_U8, exception.nr, 31),
    FLAG(exception.has_error_code),
    FLAG(exception.pending),
    U32(Events, exception.error_code),
    FLAG(interrupt.injected),
    U8(Events, interrupt.nr),
    FLAG(interrupt.soft),
    STATE_FIELD_MAX(Events, STATE_U8, interrupt.shadow,
                    KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI),
    FLAG(nmi.injected),
    STATE_FIELD_MAX(Events, STATE_U8, nmi.pending, 2),
    FLAG(nmi.masked),
    STATE_PADDING(Events, nmi.pad),
    STATE_FIELD_MAX(Events, STATE_U32, sipi_vector, 0xff),
    STATE_FIELD_MAX(Events, STATE_U32, flags, EVENT_FLAGS),
    FLAG(smi.smm),
    FLAG(smi.pending),
    FLAG(smi.smm_inside_nmi),
    U8(Events, smi.latched_init),
    FLAG(triple_fault.pending),
    STATE_PADDING(Events, reserved),
    FLAG(exception_has_payload),
    U64(Events, exception_payload),
    {0}};
static const StateDesc events_desc = TABLE("events", Events, events_fields);

typedef struct kvm_lapic_state Lapic;
static const StateField lapic_fields[] = {STATE_ARRAY(Lapic, STATE_BYTES, regs), {0}};
static const StateDesc lapic_desc = TABLE("lapic", Lapic, lapic_fields);

typedef struct kvm_xcr Xcr;
static const StateField xcr_fields[] = {
    U32(Xcr, xcr), STATE_PADDING(Xcr, reserved), U64(Xcr, value), {0}};
static const StateDesc xcr_desc = TABLE("xcr", Xcr, xcr_fields);

typedef struct kvm_msr_entry Msr;
static const StateField msr_fields[] = {
    U32(Msr, index), STATE_PADDING(Msr, reserved), U64(Msr, data), {0}};
static const StateDesc msr_desc = TABLE("msr", Msr, msr_fields);

/* ---- checks without a VM ---- */

static bool table_refuse(GError **error, const char *what)
{
    g_set_error_literal(error, STATE_ERROR, STATE_ERROR_VALUE, what);
    return false;
}

/* KVM reads as much as the size in the header says. */
static bool table_nested_is_sound(const ArchVcpuState *s)
{
    struct kvm_nested_state head;
    if (s->nested_used == 0) {
        return true;
    }
    if (s->nested_used < sizeof(head)) {
        return false;
    }
    memcpy(&head, s->nested, sizeof(head));
    return head.size == s->nested_used && head.format <= KVM_STATE_NESTED_FORMAT_SVM;
}

static bool table_check(const void *state, GError **error)
{
    const ArchVcpuState *s = state;
    if (s->xsave_used < sizeof(((struct kvm_xsave *)0)->region)) {
        return table_refuse(error, "the XSAVE area is shorter than 4096 bytes");
    }
    if (!table_nested_is_sound(s)) {
        return table_refuse(error, "the nested state has another size than it says");
    }
    return true;
}

typedef ArchVcpuState S;
static const StateField vcpu_fields[] = {
    U32(S, apic_id),
    U32(S, tsc_khz),
    STATE_FIELD_MAX(S, STATE_U32, mp_state, KVM_MP_STATE_SIPI_RECEIVED),
    STATE_FIELD_MAX(S, STATE_U32, cpuid_used, X86_STATE_MAX_CPUID),
    STATE_VAR_STRUCTS(S, cpuid, cpuid_used, &cpuid_desc),
    STATE_STRUCT_ONE(S, regs, &regs_desc),
    STATE_STRUCT_ONE(S, sregs, &sregs_desc),
    STATE_STRUCT_ONE(S, debugregs, &debugregs_desc),
    STATE_STRUCT_ONE(S, events, &events_desc),
    STATE_STRUCT_ONE(S, lapic, &lapic_desc),
    STATE_FIELD_MAX(S, STATE_U32, xcrs_used, KVM_MAX_XCRS),
    STATE_FIELD_MAX(S, STATE_U32, xsave_used, X86_STATE_MAX_XSAVE),
    STATE_VAR_STRUCTS(S, xcrs, xcrs_used, &xcr_desc),
    STATE_VAR_ARRAY(S, STATE_BYTES, xsave, xsave_used),
    STATE_FIELD_MAX(S, STATE_U32, msrs_used, X86_STATE_MAX_MSRS),
    STATE_FIELD_MAX(S, STATE_U32, nested_used, X86_STATE_MAX_NESTED),
    STATE_VAR_STRUCTS(S, msrs, msrs_used, &msr_desc),
    STATE_VAR_ARRAY(S, STATE_BYTES, nested, nested_used),
    {0},
};
const StateDesc arch_vcpu_state_desc = {.name = "x86-vcpu",
                                        .version = 1,
                                        .min_version = 1,
                                        .struct_size = sizeof(ArchVcpuState),
                                        .fields = vcpu_fields,
                                        .check = table_check};
