/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buses behind bridges. The guest numbers them, and opens the bridges' windows: a BAR behind a
 * bridge decodes where a window of the bridge and one of the root bus hold all of it.
 * PCI-to-PCI Bridge 1.2 §3.2.5, §4.
 */
#include "hw/pci/pci_int.h"

void pci_bridge_add_bus(PciDevice *bridge)
{
    g_assert(bridge->bus != NULL && bridge->secondary == NULL);
    PciBus *bus = g_new0(PciBus, 1);
    bus->env = bridge->bus->env;
    bus->windows = bridge->bus->windows;
    bus->bridge = bridge;
    bql_lock();
    bridge->secondary = bus;
    bql_unlock();
}

void pci_bridge_free_bus(PciDevice *bridge)
{
    PciBus *bus = bridge->secondary;
    bql_lock();
    bridge->secondary = NULL;
    bql_unlock();
    pci_bus_free(bus);
}

PciDevice *pci_device_bridge(const PciDevice *dev)
{
    return dev->bus->bridge;
}

unsigned pci_device_bus_number(const PciDevice *dev)
{
    const PciDevice *bridge = dev->bus->bridge;
    return bridge != NULL ? pci_get(bridge, PCI_REG_SECONDARY_BUS, 1) : 0;
}

unsigned pci_bus_bridges(const PciBus *bus)
{
    unsigned count = 0;
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        count += bus->devices[devfn] != NULL && bus->devices[devfn]->secondary != NULL;
    }
    return count;
}

PciBus *pci_bus_find(PciBus *root, unsigned number)
{
    if (number == 0) {
        return root;
    }
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        PciDevice *dev = root->devices[devfn];
        if (dev != NULL && dev->secondary != NULL && dev->base.realized &&
            !pci_device_hidden(dev) && pci_get(dev, PCI_REG_SECONDARY_BUS, 1) == number) {
            return dev->secondary;
        }
    }
    return NULL;
}

/* ---- windows ---- */

static bool window_holds(uint64_t base, uint64_t last, uint64_t address, uint64_t size)
{
    return base <= last && address >= base && address <= last && size - 1 <= last - address;
}

static uint64_t memory_edge(const PciDevice *bridge, unsigned reg)
{
    return (uint64_t)(pci_get(bridge, reg, 2) & 0xfff0) << 16;
}

bool pci_bridge_forwards(const PciDevice *bridge, bool is_io, uint64_t address, uint64_t size)
{
    uint32_t command = pci_get(bridge, PCI_REG_COMMAND, 2);
    if (is_io) {
        uint64_t base = (pci_get(bridge, PCI_REG_IO_BASE, 1) & 0xf0) << 8;
        uint64_t last = (pci_get(bridge, PCI_REG_IO_LIMIT, 1) & 0xf0) << 8 | 0xfff;
        return (command & PCI_COMMAND_IO) != 0 && window_holds(base, last, address, size);
    }
    uint64_t base = memory_edge(bridge, PCI_REG_MEMORY_BASE);
    uint64_t last = memory_edge(bridge, PCI_REG_MEMORY_LIMIT) | 0xfffff;
    uint64_t prefetch_base = memory_edge(bridge, PCI_REG_PREFETCH_BASE) |
                             (uint64_t)pci_get(bridge, PCI_REG_PREFETCH_BASE_HIGH, 4) << 32;
    uint64_t prefetch_last = memory_edge(bridge, PCI_REG_PREFETCH_LIMIT) | 0xfffff |
                             (uint64_t)pci_get(bridge, PCI_REG_PREFETCH_LIMIT_HIGH, 4) << 32;
    return (command & PCI_COMMAND_MEMORY) != 0 &&
           (window_holds(base, last, address, size) ||
            window_holds(prefetch_base, prefetch_last, address, size));
}

void pci_bridge_changed(PciDevice *bridge)
{
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        if (bridge->secondary->devices[devfn] != NULL) {
            pci_device_follow_config(bridge->secondary->devices[devfn]);
        }
    }
}
