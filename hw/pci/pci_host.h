/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board's interface to the host bridge ("q35-host").
 *
 * The PAM registers decide what the processor finds in 0xc0000-0xfffff, in 13 segments: RAM, or
 * what is on the bus behind it, which is firmware or nothing. Reads and writes are decided
 * separately. Intel 316966 §5.1.16-22.
 */
#ifndef SKIFF_HW_PCI_PCI_HOST_H
#define SKIFF_HW_PCI_PCI_HOST_H

#include "hw/core/device.h"

#define PCI_HOST_PAM_BASE 0xc0000u
#define PCI_HOST_PAM_SIZE 0x40000u
#define PCI_HOST_PAM_SEGMENTS 13 /* twelve of 16 KiB, then one of 64 KiB */

#define PCI_HOST_PAM_READ 1u  /* reads come from RAM */
#define PCI_HOST_PAM_WRITE 2u /* writes go to RAM */

/* Called in a vCPU or in main, under the BQL. Members may be NULL. */
typedef struct PciHostListener {
    /* A PAM register changed, or may have changed: a reset, a load. */
    void (*pam_changed)(void *opaque);
    /* The guest asked for the size of its SMRAM (TSEG), which only firmware that needs SMM does. */
    void (*smm_wanted)(void *opaque);
    void *opaque;
} PciHostListener;

void pci_host_listen(Device *host, PciHostListener listener) RUNS_IN_MAIN;
/* PCI_HOST_PAM_* of segment @segment, and its place. */
unsigned pci_host_pam(const Device *host, unsigned segment) BQL_HELD;
void pci_host_pam_range(unsigned segment, uint64_t *gpa, uint64_t *size) ANY_THREAD;
/* Where the guest has put ECAM (PCIEXBAR); false: it is off. Under the BQL, or while the guest does
 * not run. */
bool pci_host_ecam_base(const Device *host, uint64_t *base) ANY_THREAD;

#endif
