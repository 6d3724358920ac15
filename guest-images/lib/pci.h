/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: configuration space (ECAM if ACPI describes one, else CF8/CFC; the word `pci=cf8` forces
 * CF8/CFC), enumeration through bridges, BARs, MSI-X. Boot CPU only.
 *
 * With direct boot no firmware has assigned the BARs: pci_enable() assigns those that hold 0, on
 * bus 0, from a window below 4 GiB without ECAM and RAM. The word `bars=anew` makes it assign all
 * of them.
 * Source: PCI Local Bus Specification 3.0 §3.2.2.3, §6; PCI Express Base 3.0 §7.2.2.
 */
#ifndef LIB_PCI_H
#define LIB_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_MAX_DEVICES 64
#define PCI_MAX_BARS 6
#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX 0x11

typedef struct PciDevice {
    uint8_t bus, slot, func;
    uint16_t vendor_id, device_id;
    uint32_t class_code;      /* class, subclass, interface: 0xccssii */
    uint8_t bar_count;        /* 6, or 2 on a bridge */
    uint16_t msix_capability; /* offset, 0: none; from pci_enable() on */
    uint16_t msix_count;
    uint64_t msix_table_gpa;
} PciDevice;

/* Finds all functions at the first call. Returns their number. */
unsigned pci_scan(void);
PciDevice *pci_device(unsigned index);

/* For hotplug: function 0 of @slot on bus 0, plugged since the scan; NULL if the slot is empty. */
PciDevice *pci_found_in_slot(uint8_t slot);
/* The device was removed: frees its entry and the addresses of its BARs. */
void pci_forget(PciDevice *dev);

uint8_t pci_read8(const PciDevice *dev, uint16_t offset);
uint16_t pci_read16(const PciDevice *dev, uint16_t offset);
uint32_t pci_read32(const PciDevice *dev, uint16_t offset);
void pci_write16(const PciDevice *dev, uint16_t offset, uint16_t value);
void pci_write32(const PciDevice *dev, uint16_t offset, uint32_t value);

/* The offset of the next capability @id after the one at @after (0: the first), or 0. */
uint16_t pci_find_capability(const PciDevice *dev, uint8_t id, uint16_t after);

/* The address in memory BAR @index, or 0. */
uint64_t pci_bar(const PciDevice *dev, unsigned index);

/* Assigns BARs if needed, maps them, and enables memory decoding, mastering and INTx. */
void pci_enable(PciDevice *dev);

/* Routes MSI-X @entry to @vector of CPU @apic_id. */
void pci_msix_route(const PciDevice *dev, unsigned entry, uint32_t apic_id, uint8_t vector);
/* Every entry starts masked; with MSI-X on, INTx is off. */
void pci_msix_enable(const PciDevice *dev);

#endif
