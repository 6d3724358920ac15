/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI device without a function but with all parts: a 32-bit memory BAR 0, an I/O BAR 1, a 64-bit
 * prefetchable BAR 2/3, MSI-X in BAR 4, INTx A and a capability whose bytes are all writable.
 */
#ifndef SKIFF_TESTS_SUPPORT_PCI_DUMMY_H
#define SKIFF_TESTS_SUPPORT_PCI_DUMMY_H

#include "hw/pci/pci.h"
#include "tests/support/fake_machine.h"

#define PCI_DUMMY_VENDOR 0x1b36
#define PCI_DUMMY_DEVICE 0x0bad
#define PCI_DUMMY_MSIX_BAR 4
#define PCI_DUMMY_CAP_SIZE 16

typedef struct PciDummy {
    PciDevice pci;
    uint32_t vectors;      /* property; default 4 */
    uint64_t bar2_size;    /* property; default 16 KiB */
    IoRegion mem, io, big; /* BARs 0, 1, 2 */
    uint8_t cap;           /* offset of the vendor capability */
    _Atomic bool cause;    /* of INTx */
    unsigned config_writes;
    unsigned accesses;
} PciDummy;

extern const DeviceType pci_dummy_type;

/* A machine with a PCI bus (gates: GSI 16-23) and its host bridge. */
typedef struct PciFixture {
    FakeMachine *m;
    PciBus *bus;
    Device *host;
} PciFixture;

extern const PciWindows pci_fixture_windows;

PciFixture *pci_fixture_new(void);
void pci_fixture_free(PciFixture *f);
/* A realized dummy with "vectors=…,addr=…" (NULL: none). */
PciDummy *pci_dummy_new(PciFixture *f, const char *properties);
/* Sets the cause and updates INTx. Any thread. */
void pci_dummy_set_cause(PciDummy *d, bool cause);

/* Config space through CF8/CFC, and through ECAM. */
uint32_t pci_cf8_read(PciFixture *f, unsigned devfn, unsigned offset, unsigned size);
void pci_cf8_write(PciFixture *f, unsigned devfn, unsigned offset, uint32_t value, unsigned size);
uint32_t pci_ecam_read(PciFixture *f, unsigned devfn, unsigned offset, unsigned size);
void pci_ecam_write(PciFixture *f, unsigned devfn, unsigned offset, uint32_t value, unsigned size);

#endif
