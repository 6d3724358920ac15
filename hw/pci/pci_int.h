/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of hw/pci. Everything is under the BQL unless stated otherwise. */
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
#define PCI_REG_ROM 0x30
#define PCI_REG_CAPABILITIES 0x34
#define PCI_REG_SECONDARY_BUS 0x19 /* type 1, PCI-to-PCI Bridge 1.2 §3.2 */
#define PCI_REG_SUBORDINATE_BUS 0x1a
#define PCI_REG_IO_BASE 0x1c
#define PCI_REG_IO_LIMIT 0x1d
#define PCI_REG_SECONDARY_STATUS 0x1e
#define PCI_REG_MEMORY_BASE 0x20
#define PCI_REG_MEMORY_LIMIT 0x22
#define PCI_REG_PREFETCH_BASE 0x24
#define PCI_REG_PREFETCH_LIMIT 0x26
#define PCI_REG_PREFETCH_BASE_HIGH 0x28
#define PCI_REG_PREFETCH_LIMIT_HIGH 0x2c
#define PCI_REG_BRIDGE_CONTROL 0x3e
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
#define PCI_HEADER_BRIDGE 0x01
#define PCI_HEADER_MULTIFUNCTION 0x80
#define PCI_BAR_IO 0x1
#define PCI_BAR_64 0x4
#define PCI_BAR_PREFETCH 0x8
#define PCI_ROM_ENABLE 0x1
#define PCI_ROM_MIN 2048 /* bytes; §6.2.5.2 */
#define PCI_CAPABILITY_MSIX 0x11

#define PCI_DEVFN_COUNT 256
#define PCI_SLOT_COUNT 32

/* Ports that a BAR may decode; the board's fixed devices are below. */
#define PCI_IO_FIRST 0x1000
#define PCI_IO_LAST 0xffff

struct PciBus {
    const DeviceEnv *env;
    PciDevice *bridge; /* that it is behind; NULL: it is the root bus */
    PciWindows windows;
    IrqGate *gates[8];
    PciDevice *devices[PCI_DEVFN_COUNT];
    uint32_t hidden_slots;            /* ejected by the guest, see pci_bus_hide_slot() */
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

/* The guest's accesses to config space; [offset, offset+size) is inside. */
uint32_t pci_config_read(PciDevice *dev, unsigned offset, unsigned size) BQL_HELD;
void pci_config_write(PciDevice *dev, unsigned offset, unsigned size, uint32_t value) BQL_HELD;

/* Updates all that depends on config space, the MSI-X table and the device's visibility. */
void pci_device_follow_config(PciDevice *dev) BQL_HELD;
/* A device was unplugged from @slot. If it was the last, the slot is visible again. */
void pci_slot_emptied(PciBus *bus, unsigned slot) BQL_HELD;

/* Maps, moves and unmaps BARs to match the config space. */
void pci_bars_update(PciDevice *dev) BQL_HELD;
/* The register of BAR @index, which may be PCI_ROM_BAR. */
static inline unsigned pci_bar_register(unsigned index)
{
    return index == PCI_ROM_BAR ? PCI_REG_ROM : PCI_REG_BAR0 + index * 4;
}
/* Frees the expansion ROM, which is not mapped. */
void pci_rom_free(PciDevice *dev) RUNS_IN_MAIN;
/* Sets the address bits of a BAR without mapping it. */
void pci_bar_set_address(PciDevice *dev, unsigned index, uint64_t address) BQL_HELD;

/* The bus with number @number below @root, or NULL. */
PciBus *pci_bus_find(PciBus *root, unsigned number) BQL_HELD;
/* Whether a bridge forwards [address, address+size) to its bus. */
bool pci_bridge_forwards(const PciDevice *bridge, bool is_io, uint64_t address, uint64_t size)
    BQL_HELD;
/* A bridge's windows, command register or visibility changed: follows for all devices behind it. */
void pci_bridge_changed(PciDevice *bridge) BQL_HELD;

/* Updates whether INTx is enabled: by the command register and MSI-X. */
void pci_intx_gate_changed(PciDevice *dev) BQL_HELD;
/* The cause last reported by the device. */
bool pci_intx_is_asserted(PciDevice *dev) ANY_THREAD;

/* Attaches and detaches routes to match the capability, the table and the mask bits. */
void msix_update(PciDevice *dev) BQL_HELD;
/* Sets the table to power-on, with nothing pending. The caller resets the capability in config
 * space. */
void msix_reset(PciDevice *dev) BQL_HELD;
void msix_pre_save(PciDevice *dev) BQL_HELD;
/* Writes pending vectors to their eventfds; called before msix_update(). */
void msix_post_load(PciDevice *dev) BQL_HELD;
void msix_free(PciDevice *dev) BQL_HELD;

#endif
