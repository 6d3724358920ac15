/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hotplug on the bus: which slots the guest sees, and the calls to the controller. The unit is the
 * slot, as in the hotplug specifications: its functions appear with function 0 and leave together.
 */
#include "hw/pci/pci_int.h"
#include "hw/pci/trace_events.h"

void pci_bus_set_hotplug(PciBus *bus, const PciHotplugOps *ops, void *opaque)
{
    g_assert(bus->hotplug_ops == NULL || ops == NULL);
    bus->hotplug_ops = ops;
    bus->hotplug_opaque = opaque;
}

bool pci_bus_has_hotplug(const PciBus *bus)
{
    return bus->hotplug_ops != NULL;
}

static BQL_HELD bool pci_device_visible(const PciDevice *dev)
{
    return dev != NULL && dev->base.realized && !pci_device_hidden(dev);
}

uint32_t pci_bus_present_slots(const PciBus *bus)
{
    uint32_t slots = 0;
    for (unsigned slot = 0; slot < PCI_SLOT_COUNT; slot++) {
        if (pci_device_visible(bus->devices[slot << 3])) {
            slots |= UINT32_C(1) << slot;
        }
    }
    return slots;
}

uint32_t pci_bus_removable_slots(const PciBus *bus)
{
    uint32_t fixed = 0;
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        const PciDevice *dev = bus->devices[devfn];
        if (dev != NULL && (!dev->base.type->user_creatable || dev->secondary != NULL)) {
            fixed |= UINT32_C(1) << (devfn >> 3);
        }
    }
    return pci_bus_present_slots(bus) & ~fixed;
}

void pci_bus_hide_slot(PciBus *bus, unsigned slot)
{
    g_assert(slot < PCI_SLOT_COUNT);
    trace_pci_slot_hide(slot);
    bus->hidden_slots |= UINT32_C(1) << slot;
    for (unsigned devfn = slot << 3; devfn < (slot + 1) << 3; devfn++) {
        if (bus->devices[devfn] != NULL) {
            pci_device_follow_config(bus->devices[devfn]);
        }
    }
}

uint32_t pci_bus_set_hidden_slots(PciBus *bus, uint32_t slots)
{
    slots &= pci_bus_removable_slots(bus) | bus->hidden_slots;
    uint32_t changed = bus->hidden_slots ^ slots;
    bus->hidden_slots = slots;
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        if ((changed >> (devfn >> 3) & 1) != 0 && bus->devices[devfn] != NULL) {
            pci_device_follow_config(bus->devices[devfn]);
        }
    }
    return slots;
}

bool pci_device_hidden(const PciDevice *dev)
{
    return (dev->bus->hidden_slots >> (dev->devfn >> 3) & 1) != 0;
}

void pci_slot_emptied(PciBus *bus, unsigned slot)
{
    for (unsigned devfn = slot << 3; devfn < (slot + 1) << 3; devfn++) {
        if (bus->devices[devfn] != NULL) {
            return;
        }
    }
    bus->hidden_slots &= ~(UINT32_C(1) << slot);
    if (bus->hotplug_ops != NULL) {
        bus->hotplug_ops->emptied(bus->hotplug_opaque, slot);
    }
}

void pci_device_announce(PciDevice *dev)
{
    PciBus *bus = dev->bus;
    bql_lock();
    if ((dev->devfn & 7) == 0 && bus->hotplug_ops != NULL) {
        bus->hotplug_ops->inserted(bus->hotplug_opaque, dev->devfn >> 3);
    }
    bql_unlock();
}

void pci_device_request_unplug(PciDevice *dev)
{
    PciBus *bus = dev->bus;
    bql_lock();
    g_assert(bus->hotplug_ops != NULL);
    if (!pci_device_hidden(dev)) {
        bus->hotplug_ops->request_unplug(bus->hotplug_opaque, dev->devfn >> 3);
    }
    bql_unlock();
}

PciUnplugState pci_device_unplug_state(const PciDevice *dev)
{
    const PciBus *bus = dev->bus;
    PciUnplugState state = PCI_UNPLUG_NONE;
    bql_lock();
    if (pci_device_hidden(dev)) {
        state = PCI_UNPLUG_EJECTED;
    } else if (bus->hotplug_ops != NULL) {
        state = bus->hotplug_ops->state(bus->hotplug_opaque, dev->devfn >> 3);
    }
    bql_unlock();
    return state;
}
