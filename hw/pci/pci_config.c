/* SPDX-License-Identifier: Apache-2.0 */
/* Config space: the guest's reads and writes, and the effects of a write. */
#include "hw/pci/pci_int.h"
#include "hw/pci/trace_events.h"

/* ---- bytes ---- */

void pci_set_u8(PciDevice *dev, unsigned off, uint8_t v)
{
    g_assert(off < PCI_CONFIG_SIZE);
    dev->state.config[off] = v;
    if (!dev->base.realized) {
        dev->power_on[off] = v;
    }
}

void pci_set_u16(PciDevice *dev, unsigned off, uint16_t v)
{
    pci_set_u8(dev, off, (uint8_t)v);
    pci_set_u8(dev, off + 1, (uint8_t)(v >> 8));
}

void pci_set_u32(PciDevice *dev, unsigned off, uint32_t v)
{
    pci_set_u16(dev, off, (uint16_t)v);
    pci_set_u16(dev, off + 2, (uint16_t)(v >> 16));
}

uint32_t pci_get(const PciDevice *dev, unsigned off, unsigned size)
{
    g_assert(size >= 1 && size <= 4 && off + size <= PCI_CONFIG_SIZE);
    uint32_t v = 0;
    for (unsigned i = 0; i < size; i++) {
        v |= (uint32_t)dev->state.config[off + i] << (i * 8);
    }
    return v;
}

/* ---- the guest's accesses ---- */

uint32_t pci_config_read(PciDevice *dev, unsigned offset, unsigned size)
{
    uint32_t value = pci_get(dev, offset, size);
    if (offset <= PCI_REG_STATUS && offset + size > PCI_REG_STATUS && pci_intx_is_asserted(dev)) {
        value |= (uint32_t)PCI_STATUS_INTERRUPT << ((PCI_REG_STATUS - offset) * 8);
    }
    return value;
}

void pci_config_write(PciDevice *dev, unsigned offset, unsigned size, uint32_t value)
{
    bool changed = false;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i;
        uint8_t byte = (uint8_t)(value >> (i * 8));
        uint8_t old = dev->state.config[at];
        uint8_t new = (uint8_t)((old & ~dev->wmask[at]) | (byte & dev->wmask[at]));
        new &= (uint8_t) ~(byte & dev->w1cmask[at]);
        dev->state.config[at] = new;
        changed |= new != old;
    }
    if (!changed) {
        return;
    }
    bool command = pci_ranges_overlap(offset, size, PCI_REG_COMMAND, 2);
    if (command || pci_ranges_overlap(offset, size, PCI_REG_BAR0, PCI_MAX_BARS * 4) ||
        pci_ranges_overlap(offset, size, PCI_REG_ROM, 4)) {
        pci_bars_update(dev);
    }
    bool msix = dev->msix.count > 0 && pci_ranges_overlap(offset, size, dev->msix.cap + 2u, 2);
    if (command || msix) {
        msix_update(dev);
        pci_intx_gate_changed(dev);
    }
    if (dev->secondary != NULL && offset < PCI_REG_CAPABILITIES) {
        pci_bridge_changed(dev);
    }
    if (dev->config_written != NULL) {
        dev->config_written(dev, offset, size);
    }
}

bool pci_bus_master(const PciDevice *dev)
{
    return (pci_get(dev, PCI_REG_COMMAND, 2) & PCI_COMMAND_MASTER) != 0;
}

bool pci_write_ends_mastering(const PciDevice *dev, unsigned offset, const IoAccess *access)
{
    return access->is_write && pci_ranges_overlap(offset, access->size, PCI_REG_COMMAND, 1) &&
           pci_bus_master(dev) &&
           (access->value >> ((PCI_REG_COMMAND - offset) * 8) & PCI_COMMAND_MASTER) == 0;
}

/* ---- BARs ---- */

static uint64_t pci_bar_address(const PciDevice *dev, unsigned index)
{
    const PciBar *bar = &dev->bars[index];
    unsigned reg = pci_bar_register(index);
    uint64_t value = pci_get(dev, reg, 4);
    if (bar->is_64) {
        value |= (uint64_t)pci_get(dev, reg + 4, 4) << 32;
    }
    return value & ~(bar->size - 1);
}

static bool pci_window_holds(uint64_t base, uint64_t window_size, uint64_t address, uint64_t size)
{
    return address >= base && size <= window_size && address - base <= window_size - size;
}

/* Whether the BAR decodes, and its address. While the guest sizes a BAR, its address is outside
 * every window, or decoding is off. */
static bool pci_bar_decodes(const PciDevice *dev, unsigned index, uint64_t *address) BQL_HELD;
static bool pci_bar_decodes(const PciDevice *dev, unsigned index, uint64_t *address)
{
    const PciBar *bar = &dev->bars[index];
    const PciWindows *w = &dev->bus->windows;
    uint32_t command = pci_get(dev, PCI_REG_COMMAND, 2);
    uint64_t at = *address = pci_bar_address(dev, index);
    const PciDevice *bridge = dev->bus->bridge;
    bool rom_disabled =
        index == PCI_ROM_BAR && (pci_get(dev, PCI_REG_ROM, 1) & PCI_ROM_ENABLE) == 0;
    if (pci_device_hidden(dev) || rom_disabled ||
        (bridge != NULL && !pci_bridge_forwards(bridge, bar->is_io, at, bar->size))) {
        return false;
    }
    if (bar->is_io) {
        return (command & PCI_COMMAND_IO) != 0 &&
               pci_window_holds(PCI_IO_FIRST, PCI_IO_LAST - PCI_IO_FIRST + 1, at, bar->size);
    }
    return (command & PCI_COMMAND_MEMORY) != 0 &&
           (pci_window_holds(w->mmio32_base, w->mmio32_size, at, bar->size) ||
            pci_window_holds(w->mmio64_base, w->mmio64_size, at, bar->size));
}

void pci_bars_update(PciDevice *dev)
{
    for (unsigned i = 0; i < PCI_REGIONS; i++) {
        const PciBar *bar = &dev->bars[i];
        if (bar->region == NULL) {
            continue;
        }
        uint64_t address;
        bool decodes = pci_bar_decodes(dev, i, &address);
        bool mapped = bar->region->space != NULL;
        if (mapped && decodes && bar->region->base == address) {
            continue;
        }
        if (mapped) {
            trace_pci_bar_unmap(device_label(&dev->base), i);
            address_space_unmap(bar->region);
        }
        if (decodes) {
            trace_pci_bar_map(device_label(&dev->base), i, address, bar->size);
            AddressSpace *as = bar->is_io ? dev->bus->env->pio : dev->bus->env->mmio;
            /* Priority 0: fixed devices have 1, so a guest cannot map a BAR over them. */
            address_space_map(as, bar->region, address, 0);
        }
    }
}

void pci_bar_set_address(PciDevice *dev, unsigned index, uint64_t address)
{
    const PciBar *bar = &dev->bars[index];
    unsigned reg = PCI_REG_BAR0 + index * 4;
    uint32_t type_bits = pci_get(dev, reg, 4) & (bar->is_io ? 0x3 : 0xf);
    uint32_t low = (uint32_t)address | type_bits;
    for (unsigned i = 0; i < 4; i++) {
        dev->state.config[reg + i] = (uint8_t)(low >> (i * 8));
        if (bar->is_64) {
            dev->state.config[reg + 4 + i] = (uint8_t)(address >> (32 + i * 8));
        }
    }
}
