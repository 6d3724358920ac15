/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host bridge of the q35 (82G33/G31/P35/P31 MCH), 00:00.0. It has what firmware uses: identity,
 * PCIEXBAR (the address of ECAM) and the PAM registers. The PAM registers only store their value;
 * the board fixes whether 0xc0000-0xfffff is RAM or ROM. Intel 316966 §5.1.
 */
#include "hw/pci/pci.h"

#define MCH_PCIEXBAR 0x60
#define MCH_PCIEXBAR_ENABLE 1
#define MCH_PCIEXBAR_BASE UINT64_C(0xff0000000) /* bits 35:28: 256 MiB, the only length */
#define MCH_PAM0 0x90
#define MCH_PAM_COUNT 7
#define MCH_SMRAM 0x9d
#define MCH_SMRAM_POWER_ON 0x02 /* compatible SMRAM at 0xa0000, closed */

typedef struct PciHostState {
    uint32_t config_address; /* port 0xcf8 */
} PciHostState;

typedef struct PciHost {
    PciDevice pci;
    PciHostState state;
} PciHost;

static const StateField pci_host_fields[] = {
    STATE_FIELD(PciHostState, STATE_U32, config_address),
    {0},
};

static const StateDesc pci_host_state =
    STATE_DESC("q35-host", 1, PciHost, state, PciHostState, pci_host_fields);

static void pci_host_map_ecam(PciDevice *pci) BQL_HELD
{
    IoRegion *ecam = pci_bus_ecam(pci->bus);
    uint64_t bar = pci_get(pci, MCH_PCIEXBAR, 4) | (uint64_t)pci_get(pci, MCH_PCIEXBAR + 4, 4)
                                                       << 32;
    bool enabled = (bar & MCH_PCIEXBAR_ENABLE) != 0;
    uint64_t base = bar & MCH_PCIEXBAR_BASE;
    if (enabled && ecam->space != NULL && ecam->base == base) {
        return;
    }
    address_space_unmap(ecam);
    if (enabled) {
        address_space_map(pci->base.env->mmio, ecam, base, 1);
    }
}

static void pci_host_config_written(PciDevice *pci, unsigned offset, unsigned size)
{
    assert_bql();
    if (offset < MCH_PCIEXBAR + 8 && offset + size > MCH_PCIEXBAR) {
        pci_host_map_ecam(pci);
    }
}

static bool pci_host_realize(Device *dev, GError **error)
{
    static const PciIdentity identity = {.vendor = 0x8086,
                                         .device = 0x29c0,
                                         .subsystem_vendor = 0x1af4,
                                         .subsystem = 0x1100,
                                         .class_code = 0x060000};
    PciHost *host = (PciHost *)dev;
    PciDevice *pci = &host->pci;
    enter_main();
    if (!pci_device_plug(pci, dev->env->pci_bus, &identity, error)) {
        return false;
    }
    uint64_t ecam_base = pci_bus_windows(pci->bus)->ecam_base;
    g_assert((ecam_base & ~MCH_PCIEXBAR_BASE) == 0);
    pci_set_u32(pci, MCH_PCIEXBAR, (uint32_t)ecam_base | MCH_PCIEXBAR_ENABLE);
    pci_set_u32(pci, MCH_PCIEXBAR + 4, (uint32_t)(ecam_base >> 32));
    pci->wmask[MCH_PCIEXBAR] = MCH_PCIEXBAR_ENABLE;
    pci->wmask[MCH_PCIEXBAR + 3] = 0xf0;
    pci->wmask[MCH_PCIEXBAR + 4] = 0x0f;
    for (unsigned i = 0; i < MCH_PAM_COUNT; i++) {
        pci->wmask[MCH_PAM0 + i] = i == 0 ? 0x30 : 0x33;
    }
    pci_set_u8(pci, MCH_SMRAM, MCH_SMRAM_POWER_ON);
    pci->config_written = pci_host_config_written;
    bql_lock();
    address_space_map(dev->env->pio, pci_bus_config_ports(pci->bus), 0xcf8, 0);
    bql_unlock();
    return true;
}

static void pci_host_reset(Device *dev)
{
    PciHost *host = (PciHost *)dev;
    assert_bql();
    pci_bus_reset(host->pci.bus);
    pci_device_reset(&host->pci);
    pci_host_map_ecam(&host->pci);
}

static void pci_host_unrealize(Device *dev)
{
    PciHost *host = (PciHost *)dev;
    enter_main();
    bql_lock();
    address_space_unmap(pci_bus_config_ports(host->pci.bus));
    address_space_unmap(pci_bus_ecam(host->pci.bus));
    bql_unlock();
    pci_device_unplug(&host->pci);
}

static void pci_host_pre_save(Device *dev)
{
    PciHost *host = (PciHost *)dev;
    assert_bql();
    pci_device_pre_save(&host->pci);
    host->state.config_address = pci_bus_config_address(host->pci.bus);
}

static bool pci_host_post_load(Device *dev, GError **error)
{
    PciHost *host = (PciHost *)dev;
    assert_bql();
    pci_device_post_load(&host->pci);
    pci_host_map_ecam(&host->pci);
    pci_bus_set_config_address(host->pci.bus, host->state.config_address);
    return true;
}

static const OptSpec pci_host_properties[] = {PCI_DEVICE_PROPERTIES_AT("0"), {0}};

const DeviceType pci_host_type = {
    .name = "q35-host",
    .description = "q35 host bridge (00:00.0)",
    .instance_size = sizeof(PciHost),
    .properties = pci_host_properties,
    .base_state = &pci_device_state_desc,
    .state = &pci_host_state,
    .bus = "pci",
    .realize = pci_host_realize,
    .reset = pci_host_reset,
    .unrealize = pci_host_unrealize,
    .pre_save = pci_host_pre_save,
    .post_load = pci_host_post_load,
};
