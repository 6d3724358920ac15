/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI Express root port ("pcie-root-port"): a bridge from the root bus to one slot, whose bus= name
 * is the port's id. PCI Express 5.0 §7.5.3. Identity as QEMU's.
 *
 * The slot is not hot-pluggable: the device in it is there from the start, so presence and link
 * never change. The port raises no interrupt of its own.
 */
#include "hw/pci/pci_int.h"

#define PCI_CAPABILITY_EXPRESS 0x10
#define EXPRESS_SIZE 0x3c
#define EXPRESS_FLAGS 0x02
#define EXPRESS_VERSION_2 0x0002
#define EXPRESS_ROOT_PORT 0x0040
#define EXPRESS_SLOT 0x0100
#define EXPRESS_DEVICE_CAPABILITIES 0x04
#define EXPRESS_ROLE_BASED_ERRORS 0x8000
#define EXPRESS_DEVICE_CONTROL 0x08
#define EXPRESS_DEVICE_CONTROL_WRITABLE 0x0f /* error reporting */
#define EXPRESS_LINK_CAPABILITIES 0x0c
#define EXPRESS_LINK_CONTROL 0x10
#define EXPRESS_LINK_CONTROL_WRITABLE 0x40 /* common clock */
#define EXPRESS_LINK_STATUS 0x12
#define EXPRESS_LINK_ACTIVE 0x2000
#define EXPRESS_LINK_REPORTS_ACTIVE 0x00100000
#define EXPRESS_LINK_X32_16GT 0x0204
#define EXPRESS_PORT_SHIFT 24
#define EXPRESS_SLOT_CAPABILITIES 0x14
#define EXPRESS_SLOT_SHIFT 19
#define EXPRESS_SLOT_STATUS 0x1a
#define EXPRESS_SLOT_PRESENT 0x0040
#define EXPRESS_LINK_CAPABILITIES_2 0x2c
#define EXPRESS_LINK_SPEEDS 0x1e /* 2.5 to 16 GT/s */
#define EXPRESS_LINK_CONTROL_2 0x30
#define EXPRESS_LINK_16GT 0x0004

typedef struct PciRootPort {
    PciDevice pci;
    /* config */
    uint8_t port, chassis;
    uint16_t slot;
    /* runtime */
    uint8_t express; /* offset of the capability */
} PciRootPort;

static void root_port_add_express(PciRootPort *p)
{
    PciDevice *pci = &p->pci;
    uint8_t at = p->express = pci_device_add_capability(pci, PCI_CAPABILITY_EXPRESS, EXPRESS_SIZE);
    pci_set_u16(pci, at + EXPRESS_FLAGS, EXPRESS_VERSION_2 | EXPRESS_ROOT_PORT | EXPRESS_SLOT);
    pci_set_u32(pci, at + EXPRESS_DEVICE_CAPABILITIES, EXPRESS_ROLE_BASED_ERRORS);
    pci->wmask[at + EXPRESS_DEVICE_CONTROL] = EXPRESS_DEVICE_CONTROL_WRITABLE;
    pci_set_u32(pci, at + EXPRESS_LINK_CAPABILITIES,
                EXPRESS_LINK_X32_16GT | EXPRESS_LINK_REPORTS_ACTIVE |
                    (uint32_t)p->port << EXPRESS_PORT_SHIFT);
    pci->wmask[at + EXPRESS_LINK_CONTROL] = EXPRESS_LINK_CONTROL_WRITABLE;
    pci_set_u16(pci, at + EXPRESS_LINK_STATUS, EXPRESS_LINK_X32_16GT);
    pci_set_u32(pci, at + EXPRESS_SLOT_CAPABILITIES, (uint32_t)p->slot << EXPRESS_SLOT_SHIFT);
    pci_set_u32(pci, at + EXPRESS_LINK_CAPABILITIES_2, EXPRESS_LINK_SPEEDS);
    pci_set_u16(pci, at + EXPRESS_LINK_CONTROL_2, EXPRESS_LINK_16GT);
}

/* Presence and link are read only; they follow what is plugged. */
static void root_port_update_slot(PciDevice *pci) BQL_HELD
{
    const PciRootPort *p = (const PciRootPort *)pci;
    const PciDevice *dev = pci->secondary->devices[0];
    bool present = dev != NULL && dev->base.realized;
    pci_set_u16(pci, p->express + EXPRESS_SLOT_STATUS, present ? EXPRESS_SLOT_PRESENT : 0);
    pci_set_u16(pci, p->express + EXPRESS_LINK_STATUS,
                EXPRESS_LINK_X32_16GT | (present ? EXPRESS_LINK_ACTIVE : 0));
}

static MmioResult root_port_config_access(PciDevice *pci, unsigned offset, IoAccess *access,
                                          bool *handled)
{
    assert_bql();
    root_port_update_slot(pci);
    return MMIO_DONE;
}

static bool root_port_realize(Device *dev, GError **error)
{
    static const PciIdentity identity = {
        .vendor = 0x1b36, .device = 0x000c, .class_code = 0x060400};
    PciRootPort *p = (PciRootPort *)dev;
    PciDevice *pci = &p->pci;
    enter_main();
    if (!pci_device_plug_bridge(pci, dev->env->pci_bus, &identity, error)) {
        return false;
    }
    pci_bridge_add_bus(pci);
    root_port_add_express(p);
    pci_device_set_intx_pin(pci, 1);
    pci->config_access = root_port_config_access;
    return true;
}

static void root_port_unrealize(Device *dev)
{
    PciDevice *pci = (PciDevice *)dev;
    enter_main();
    pci_bridge_free_bus(pci);
    pci_device_unplug(pci);
}

static void root_port_reset(Device *dev)
{
    assert_bql();
    pci_device_reset((PciDevice *)dev);
}

static void root_port_pre_save(Device *dev)
{
    assert_bql();
    root_port_update_slot((PciDevice *)dev);
    pci_device_pre_save((PciDevice *)dev);
}

static bool root_port_post_load(Device *dev, GError **error)
{
    assert_bql();
    pci_device_post_load((PciDevice *)dev);
    return true;
}

static const OptSpec root_port_properties[] = {
    PCI_DEVICE_PROPERTIES,
    OPT_SPEC(PciRootPort, "port", OPT_U8, port, .help = "number of the port"),
    OPT_SPEC(PciRootPort, "chassis", OPT_U8, chassis, .help = "accepted; has no effect"),
    OPT_SPEC(PciRootPort, "slot", OPT_U16, slot, .max = 0x1fff, .help = "number of the slot"),
    {0},
};

const DeviceType pci_root_port_type = {
    .name = "pcie-root-port",
    .description = "PCI Express root port: a bus with one slot",
    .instance_size = sizeof(PciRootPort),
    .properties = root_port_properties,
    .base_state = &pci_device_state_desc,
    .user_creatable = true,
    .bus = "pci",
    .provides_bus = "pci",
    .realize = root_port_realize,
    .reset = root_port_reset,
    .unrealize = root_port_unrealize,
    .pre_save = root_port_pre_save,
    .post_load = root_port_post_load,
};
