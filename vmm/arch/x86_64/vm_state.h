/* SPDX-License-Identifier: Apache-2.0 */
/* What is saved of the VM's chips on x86-64: PICs, I/O APIC, PIT and kvmclock. Source: KVM api.rst. */
#ifndef SKIFF_VMM_ARCH_X86_64_VM_STATE_H
#define SKIFF_VMM_ARCH_X86_64_VM_STATE_H

#include "vmm/arch/arch.h"

struct ArchVmState {
    struct kvm_pic_state pics[2]; /* master, slave */
    struct kvm_ioapic_state ioapic;
    /* With has_pit. When a channel was loaded is not saved: KVM loads it anew. */
    struct kvm_pit_state2 pit;
    uint64_t clock_ns;
    bool has_pit; /* the guest has accessed it */
    uint8_t pad[7];
};

#endif
