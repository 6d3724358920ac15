/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers at the first instruction. Intel SDM vol. 3 table 10-1 (reset), Linux boot.rst "64-bit
 * Boot Protocol", Xen pvh.pandoc "Startup", Multiboot 0.6.96 §3.2.
 */
#include "vmm/arch/x86_64/boot_state.h"

#define CR0_PE (1u << 0)
#define CR0_ET (1u << 4)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)
#define CR4_PAE (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define RFLAGS_FIXED 2u

#define SEGMENT_DATA 0x3 /* read/write, accessed */
#define SEGMENT_CODE 0xb /* execute/read, accessed */
#define SEGMENT_LDT 0x2
#define SEGMENT_TSS32_BUSY 0xb

#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE (1u << 11)
#define MTRR_WRITE_BACK 6
#define MSR_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING (1u << 0)

void x86_boot_state_reset_vector(BootState *state)
{
    *state = (BootState){.mode = X86_BOOT_REAL};
}

static struct kvm_segment segment_flat(uint16_t selector, uint8_t type, bool long_mode)
{
    return (struct kvm_segment){
        .selector = selector,
        .limit = UINT32_MAX,
        .type = type,
        .present = 1,
        .s = 1,
        .g = 1,
        .db = !long_mode,
        .l = long_mode,
    };
}

static struct kvm_segment segment_real(uint16_t selector, uint64_t base, uint8_t type)
{
    return (struct kvm_segment){
        .selector = selector,
        .base = base,
        .limit = 0xffff,
        .type = type,
        .present = 1,
        .s = 1,
    };
}

static struct kvm_segment segment_system(uint8_t type, uint32_t limit)
{
    return (struct kvm_segment){.type = type, .present = 1, .limit = limit};
}

static void sregs_set_data(struct kvm_sregs *sregs, struct kvm_segment segment)
{
    sregs->ds = segment;
    sregs->es = segment;
    sregs->fs = segment;
    sregs->gs = segment;
    sregs->ss = segment;
}

static void sregs_fill_real(struct kvm_sregs *sregs)
{
    sregs->cs = segment_real(0xf000, 0xffff0000, SEGMENT_CODE);
    sregs_set_data(sregs, segment_real(0, 0, SEGMENT_DATA));
    sregs->tr = segment_system(SEGMENT_TSS32_BUSY, 0xffff);
    sregs->gdt = (struct kvm_dtable){.limit = 0xffff};
    sregs->idt = (struct kvm_dtable){.limit = 0xffff};
    sregs->cr0 = CR0_ET | CR0_CD | CR0_NW;
    sregs->cr3 = 0;
    sregs->cr4 = 0;
    sregs->efer = 0;
}

static void sregs_fill_flat(const BootState *state, struct kvm_sregs *sregs)
{
    bool long_mode = state->mode == X86_BOOT_LONG64;
    sregs->cs = segment_flat(state->code_selector, SEGMENT_CODE, long_mode);
    sregs_set_data(sregs, segment_flat(state->data_selector, SEGMENT_DATA, false));
    sregs->tr = segment_system(SEGMENT_TSS32_BUSY, 0x67);
    sregs->gdt = (struct kvm_dtable){.base = state->gdt_base, .limit = state->gdt_limit};
    /* No interrupt may arrive before the kernel has set up its own table. */
    sregs->idt = (struct kvm_dtable){0};
    sregs->cr0 = CR0_PE | CR0_ET | (long_mode ? CR0_PG : 0);
    sregs->cr3 = long_mode ? state->cr3 : 0;
    sregs->cr4 = long_mode ? CR4_PAE : 0;
    sregs->efer = long_mode ? EFER_LME | EFER_LMA : 0;
}

void x86_boot_fill_regs(const BootState *state, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
    *regs = (struct kvm_regs){.rflags = RFLAGS_FIXED};
    sregs->ldt = segment_system(SEGMENT_LDT, 0xffff);
    sregs->cr2 = 0;
    sregs->cr8 = 0;
    if (state->mode == X86_BOOT_REAL) {
        regs->rip = 0xfff0;
        sregs_fill_real(sregs);
        return;
    }
    regs->rip = state->rip;
    regs->rsp = state->rsp;
    regs->rax = state->rax;
    regs->rbx = state->rbx;
    regs->rsi = state->rsi;
    sregs_fill_flat(state, sregs);
}

unsigned x86_boot_fill_msrs(const BootState *state, struct kvm_msr_entry *entries)
{
    if (state->mode == X86_BOOT_REAL) {
        return 0;
    }
    entries[0] = (struct kvm_msr_entry){
        .index = MSR_MTRR_DEF_TYPE,
        .data = MTRR_ENABLE | MTRR_WRITE_BACK,
    };
    entries[1] = (struct kvm_msr_entry){
        .index = MSR_MISC_ENABLE,
        .data = MISC_ENABLE_FAST_STRING,
    };
    return X86_BOOT_MSRS;
}
