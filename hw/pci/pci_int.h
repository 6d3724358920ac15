/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of hw/pci share. Everything under the BQL unless it says otherwise. */
#ifndef SKIFF_HW_PCI_PCI_INT_H
#define SKIFF_HW_PCI_PCI_INT_H

#include "hw/pci/pci.h"

/* Config space header, type 0. PCI 3.0 §6.1. */
#define PCI_REG_VENDOR 0x00
#define PCI_REG_DEVICE 0x02
#define PCI_REG_COMMAND 0x04
#define PCI_REG_STATUS 0x06
#define PCI_REG_REVISION 0x08
#define PCI_REG_CLASS 0x09
#define PCI_REG_CACHE_LINE 0x0c
#define PCI_REG_LATENCY 0x0d
#define PCI_REG_HEADER_TYPE 0x0e
#define PCI_REG_BAR0 0x10
#define PCI_REG_SUBSYSTEM_VENDOR 0x2c
#define PCI_REG_SUBSYSTEM 0x2e
#define PCI_REG_CAPABILITIES 0x34
#define PCI_REG_INTERRUPT_LINE 0x3c
#define PCI_REG_INTERRUPT_PIN 0x3d
#define PCI_HEADER_END 0x40

#define PCI_COMMAND_IO 0x0001
#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_COMMAND_INTX_DISABLE 0x0400
/* I/O, memory, bus master, parity error response, SERR#, interrupt disable. */
#define PCI_COMMAND_WRITABLE 0x0547
#define PCI_STATUS_INTERRUPT 0x0008
#define PCI_STATUS_CAPABILITIES 0x0010
#define PCI_STATUS_WRITE_1_CLEARS 0xf900
#define PCI_HEADER_MULTIFUNCTION 0x80
#define PCI_BAR_IO 0x1
#define PCI_BAR_64 0x4
#define PCI_BAR_PREFETCH 0x8
#define PCI_CAPABILITY_MSIX 0x11

#define PCI_DEVFN_COUNT 256
#define PCI_SLOT_COUNT 32

/* Ports a BAR may decode; below are the fixed devices of the board. */
#define PCI_IO_FIRST 0x1000
#define PCI_IO_LAST 0xffff

struct PciBus {
    const DeviceEnv *env;
    PciWindows windows;
    IrqGate *gates[8];
    PciDevice *devices[PCI_DEVFN_COUNT];
    uint32_t hidden_slots;            /* the guest has let go of them, see pci_bus_hide_slot() */
    const PciHotplugOps *hotplug_ops; /* NULL: no controller */
    void *hotplug_opaque;
    uint32_t config_address;
    IoRegion config_ports;
    IoRegion ecam;
};

static inline bool pci_ranges_overlap(unsigned a, unsigned a_size, unsigned b, unsigned b_size)
{
    return a < b + b_size && b < a + a_size;
}

/* Config space as the guest reads and writes it; [offset, offset+size) is inside. */
uint32_t pci_config_read(PciDevice *dev, unsigned offset, unsigned size) BQL_HELD;
void pci_config_write(PciDevice *dev, unsigned offset, unsigned size, uint32_t value) BQL_HELD;

/* Everything that follows from config space, the MSI-X table and whether the guest sees the device.
 */
void pci_device_follow_config(PciDevice *dev) BQL_HELD;
/* A device has left @slot: when it was the last, the slot is as new. */
void pci_slot_emptied(PciBus *bus, unsigned slot) BQL_HELD;

/* Maps, moves and unmaps BARs to where the config space says. */
void pci_bars_update(PciDevice *dev) BQL_HELD;
/* Sets the address bits of a BAR; nothing is mapped yet. */
void pci_bar_set_address(PciDevice *dev, unsigned index, uint64_t address) BQL_HELD;

/* Recomputes what lets INTx out: the command register and MSI-X. */
void pci_intx_gate_changed(PciDevice *dev) BQL_HELD;
/* The device's cause as last told. */
bool pci_intx_is_asserted(PciDevice *dev) ANY_THREAD;

/* Attaches and detaches routes as the capability, the table and the mask bits say. */
void msix_update(PciDevice *dev) BQL_HELD;
/* Table to power-on, nothing pending. The capability is in config space, reset by the caller. */
void msix_reset(PciDevice *dev) BQL_HELD;
void msix_pre_save(PciDevice *dev) BQL_HELD;
/* Puts pending vectors back into their eventfds; before msix_update(). */
void msix_post_load(PciDevice *dev) BQL_HELD;
void msix_free(PciDevice *dev) BQL_HELD;

#endif
