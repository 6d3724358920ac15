/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of the boot processor at its first instruction, and their conversion to KVM's structs.
 * The other processors stay as KVM creates them: waiting for a SIPI.
 */
#ifndef SKIFF_VMM_ARCH_X86_64_BOOT_STATE_H
#define SKIFF_VMM_ARCH_X86_64_BOOT_STATE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef enum X86BootMode {
    X86_BOOT_REAL,   /* reset vector of a ROM: f000:fff0 with base 0xffff0000 */
    X86_BOOT_PROT32, /* flat 32-bit, paging off (PVH, Multiboot) */
    X86_BOOT_LONG64, /* 64-bit, identity-mapped (bzImage) */
} X86BootMode;

typedef struct BootState {
    X86BootMode mode;
    /* Ignored in X86_BOOT_REAL: */
    uint64_t rip;
    uint64_t rsp; /* 0: the protocol provides no stack */
    uint64_t rax, rbx, rsi;
    uint64_t cr3; /* X86_BOOT_LONG64 */
    uint64_t gdt_base;
    uint16_t gdt_limit;
    uint16_t code_selector, data_selector; /* in that GDT */
    bool bios_timer;                       /* the timer ticks and interrupts, as after a BIOS */
} BootState;

/* The state of a processor that starts at the reset vector, in a ROM. */
void x86_boot_state_reset_vector(BootState *state) ANY_THREAD;

/* Fills @regs, and in @sregs (from KVM_GET_SREGS) everything but the APIC base and pending
 * interrupts, which KVM's reset of the vCPU has set. */
void x86_boot_fill_regs(const BootState *state, struct kvm_regs *regs, struct kvm_sregs *sregs)
    ANY_THREAD;

/* MSRs that firmware would have set up and a directly booted kernel expects: MTRRs on with
 * write-back as default, fast strings. Every processor gets them unless a ROM boots. Returns the
 * number of @entries (room for X86_BOOT_MSRS) that were filled. */
#define X86_BOOT_MSRS 2
unsigned x86_boot_fill_msrs(const BootState *state, struct kvm_msr_entry *entries) ANY_THREAD;

#endif
