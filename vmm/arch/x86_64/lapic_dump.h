/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the local APIC's registers in the layout of QEMU's `info lapic`. */
#ifndef SKIFF_VMM_ARCH_X86_64_LAPIC_DUMP_H
#define SKIFF_VMM_ARCH_X86_64_LAPIC_DUMP_H

#include <stdint.h>
#include <stdio.h>
#include "util/loop/thread.h"

#define X86_LAPIC_BYTES 0x400

/* Prints the page of registers from KVM_GET_LAPIC. It may hold anything. */
void x86_lapic_print(const uint8_t regs[X86_LAPIC_BYTES], unsigned index, FILE *out) ANY_THREAD;

#endif
