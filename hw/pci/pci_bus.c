/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/pci/pci_int.h"
#include "hw/pci/trace_events.h"

/* Config mechanism 1, PCI 3.0 §3.2.2.3.2. The latch's reserved bits read as zero. */
#define PCI_ADDRESS_ENABLE UINT32_C(0x80000000)
#define PCI_ADDRESS_WRITABLE UINT32_C(0x80fffffc)
#define PCI_ADDRESS_BUS(a) (((a) >> 16) & 0xff)
#define PCI_ADDRESS_DEVFN(a) (((a) >> 8) & 0xff)

#define PCI_ECAM_BUS_SIZE (UINT64_C(1) << 20)
#define PCI_ECAM_SIZE (256 * PCI_ECAM_BUS_SIZE)

/* One access to [offset, offset+size) of @devfn's config space. Reads all ones without a device, or
 * beyond the space. */
static MmioResult pci_bus_config_access(PciBus *bus, unsigned devfn, unsigned offset,
                                        IoAccess *access) BQL_HELD
{
    PciDevice *dev = bus->devices[devfn];
    if (dev == NULL || !dev->base.realized || pci_device_hidden(dev) ||
        offset + access->size > PCI_CONFIG_SIZE) {
        return MMIO_DONE;
    }
    if (dev->config_access != NULL) {
        bool handled = false;
        MmioResult result = dev->config_access(dev, offset, access, &handled);
        if (handled) {
            return result;
        }
    }
    if (access->is_write) {
        trace_pci_config_write(device_label(&dev->base), offset, access->size,
                               (uint32_t)access->value);
        pci_config_write(dev, offset, access->size, (uint32_t)access->value);
    } else {
        access->value = pci_config_read(dev, offset, access->size);
        trace_pci_config_read(device_label(&dev->base), offset, access->size,
                              (uint32_t)access->value);
    }
    return MMIO_DONE;
}

static MmioResult pci_config_ports_access(void *opaque, IoAccess *access)
{
    PciBus *bus = opaque;
    assert_bql();
    uint64_t port = access->offset;
    if (port == 0 && access->size == 4) {
        if (access->is_write) {
            bus->config_address = (uint32_t)access->value & PCI_ADDRESS_WRITABLE;
        } else {
            access->value = bus->config_address;
        }
        return MMIO_DONE;
    }
    uint32_t address = bus->config_address;
    if (port < 4 || (address & PCI_ADDRESS_ENABLE) == 0) {
        return MMIO_DONE;
    }
    bus = pci_bus_find(bus, PCI_ADDRESS_BUS(address));
    if (bus == NULL) {
        return MMIO_DONE;
    }
    return pci_bus_config_access(bus, PCI_ADDRESS_DEVFN(address),
                                 (address & 0xfc) + (unsigned)(port - 4), access);
}

static const IoRegionOps pci_config_ports_ops = {
    .access = pci_config_ports_access,
    .min_size = 1,
    .max_size = 4,
    .unaligned = true,
};

static MmioResult pci_ecam_access(void *opaque, IoAccess *access)
{
    assert_bql();
    PciBus *bus = pci_bus_find(opaque, (unsigned)(access->offset / PCI_ECAM_BUS_SIZE));
    if (bus == NULL) {
        return MMIO_DONE;
    }
    return pci_bus_config_access(bus, (unsigned)(access->offset % PCI_ECAM_BUS_SIZE >> 12),
                                 (unsigned)(access->offset & 0xfff), access);
}

static const IoRegionOps pci_ecam_ops = {
    .access = pci_ecam_access,
    .min_size = 1,
    .max_size = 4,
    .unaligned = true,
};

PciBus *pci_bus_new(const DeviceEnv *env, const PciWindows *windows, IrqGate *const gates[8])
{
    PciBus *bus = g_new0(PciBus, 1);
    bus->env = env;
    bus->windows = *windows;
    for (unsigned i = 0; i < G_N_ELEMENTS(bus->gates); i++) {
        bus->gates[i] = gates[i];
    }
    bus->config_ports = (IoRegion){
        .name = "pci-config-ports", .ops = &pci_config_ports_ops, .opaque = bus, .size = 8};
    bus->ecam =
        (IoRegion){.name = "pci-ecam", .ops = &pci_ecam_ops, .opaque = bus, .size = PCI_ECAM_SIZE};
    return bus;
}

void pci_bus_free(PciBus *bus)
{
    if (bus == NULL) {
        return;
    }
    for (unsigned i = 0; i < PCI_DEVFN_COUNT; i++) {
        g_assert(bus->devices[i] == NULL);
    }
    g_assert(bus->config_ports.space == NULL && bus->ecam.space == NULL);
    g_free(bus);
}

const PciWindows *pci_bus_windows(const PciBus *bus)
{
    return &bus->windows;
}

IoRegion *pci_bus_config_ports(PciBus *bus)
{
    return &bus->config_ports;
}

IoRegion *pci_bus_ecam(PciBus *bus)
{
    return &bus->ecam;
}

PciDevice *pci_bus_device(PciBus *bus, unsigned devfn)
{
    return devfn < PCI_DEVFN_COUNT ? bus->devices[devfn] : NULL;
}

uint32_t pci_bus_config_address(const PciBus *bus)
{
    return bus->config_address;
}

void pci_bus_set_config_address(PciBus *bus, uint32_t value)
{
    bus->config_address = value & PCI_ADDRESS_WRITABLE;
}

void pci_bus_reset(PciBus *bus)
{
    bus->config_address = 0;
}

unsigned pci_intx_gate(unsigned devfn, unsigned pin)
{
    return ((devfn >> 3) + pin - 1) & 3;
}
