/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of the x86 board on the VM's own chips, beyond vmm/arch/arch.h. */
#ifndef SKIFF_VMM_ARCH_X86_64_ARCH_VM_H
#define SKIFF_VMM_ARCH_X86_64_ARCH_VM_H

#include "vmm/kvm/kvm.h"

/* Sets up timer and interrupt controllers as a BIOS leaves them: channel 0 of the PIT ticks 18.2
 * times a second, IRQ 0-7 are vectors 8-15, IRQ 8-15 vectors 0x70-0x77, and only the timer and the
 * cascade are unmasked. @has_pit: else there is no timer. After arch_vm_reset(). */
bool x86_vm_start_bios_timer(Kvm *kvm, bool has_pit, GError **error) ANY_THREAD;

/* The clock of a stopped VM in nanoseconds, with which it starts again. */
uint64_t x86_vm_clock_get(Kvm *kvm) ANY_THREAD;
void x86_vm_clock_set(uint64_t ns) ANY_THREAD;

#endif
