/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's PIT (8254) with the speaker port. There is one, as there is one VM.
 *
 * A VM that has a PIT ends later: KVM waits for a grace period of the kernel when it removes it. So
 * it is created when the guest first accesses it, and KVM serves all further accesses. The accesses
 * that left the guest before, the first one and those of other vCPUs at the same time, are applied
 * to its state here.
 */
#ifndef SKIFF_VMM_ARCH_X86_64_PIT_H
#define SKIFF_VMM_ARCH_X86_64_PIT_H

#include "vmm/kvm/kvm.h"

#define X86_PIT_PORT 0x40 /* three counters, then the control word */
#define X86_PIT_PORTS 4
#define X86_PIT_PORT_SPEAKER 0x61
#define X86_PIT_HZ 1193182

/* False + error: KVM has no PIT. */
bool x86_pit_check(Kvm *kvm, GError **error) ANY_THREAD;
/* Drops ticks that came too late, once the PIT is created. False + error: KVM cannot. */
bool x86_pit_discard_late_ticks(Kvm *kvm, GError **error) ANY_THREAD;
/* Creates the PIT and remembers its power-on state. May block for milliseconds. */
bool x86_pit_create(Kvm *kvm, GError **error) ANY_THREAD;
bool x86_pit_exists(void) ANY_THREAD;
/* Sets the power-on state, if the PIT exists. */
bool x86_pit_reset(Kvm *kvm, GError **error) ANY_THREAD;
/* Creates the PIT, if needed, and lets channel 0 tick 18.2 times a second, as a BIOS does. */
bool x86_pit_start_bios_timer(Kvm *kvm, GError **error) ANY_THREAD;
/* Applies an access of one byte to the PIT, which exists. *@value is written or read. The counters
 * begin again. */
bool x86_pit_access(Kvm *kvm, unsigned port, bool is_write, uint8_t *value, GError **error)
    ANY_THREAD;

/* The same on a copy of the state, at @now_ns of CLOCK_MONOTONIC. Intel 231164 (82C54). */
void x86_pit_apply(struct kvm_pit_state2 *pit, unsigned port, bool is_write, uint8_t *value,
                   int64_t now_ns) ANY_THREAD;

#endif
