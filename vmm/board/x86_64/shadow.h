/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processor finds in 0xc0000-0xfffff of a machine with firmware, as the host bridge's PAM
 * registers say (hw/pci/pci_host.h), and the hole for a display adapter's memory below it, where
 * this machine has nothing.
 *
 *   PAM read  PAM write  the processor reads   writes go to
 *   off       off        the ROM, or all ones  nowhere
 *   off       on         the ROM, or all ones  RAM
 *   on        off        RAM                   nowhere
 *   on        on         RAM                   RAM
 *
 * The ROM is a copy of the firmware's last 128 KiB, at 0xe0000. KVM maps RAM and ROM where that is
 * possible; what KVM cannot do, and an access that meets a change, is an access to `region`.
 * Devices and debuggers access RAM, whatever the registers say.
 */
#ifndef SKIFF_VMM_BOARD_X86_64_SHADOW_H
#define SKIFF_VMM_BOARD_X86_64_SHADOW_H

#include "hw/pci/pci_host.h"
#include "vmm/kvm/kvm.h"

/* Adjacent segments that are the same to KVM. */
typedef struct ShadowRun {
    unsigned kind; /* ShadowKind, in shadow.c */
    uint64_t gpa, size;
    KvmSlot *slot;
} ShadowRun;

typedef struct Shadow {
    Kvm *kvm;
    GuestRam *ram;
    const Device *host; /* NULL: shadow_init() was not called */
    uint8_t *rom;       /* X86_ROM_SHADOW_SIZE bytes */
    ShadowRun runs[PCI_HOST_PAM_SEGMENTS];
    unsigned run_count;
    IoRegion region;
} Shadow;

/* Takes 0xa0000-0xfffff out of the KVM slot of low RAM, and maps it as the registers of @host say;
 * `region` goes to @mmio. Before any vCPU runs. False + error: KVM refuses. */
bool shadow_init(Shadow *s, Kvm *kvm, GuestRam *ram, AddressSpace *mmio, Device *host,
                 GError **error) RUNS_IN_MAIN;
/* Follows the registers. PciHostListener.pam_changed calls it. */
void shadow_update(Shadow *s) BQL_HELD;
/* Copies the last 128 KiB of the @size bytes at @image, or all of a smaller image, to where the
 * ROM ends, and to the RAM behind it. The vCPUs are parked. */
void shadow_set_rom(Shadow *s, const uint8_t *image, uint64_t size) RUNS_IN_MAIN;

#endif
