/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host bridge of the q35 (82G33/G31/P35/P31 MCH), 00:00.0. It has what firmware uses: identity,
 * PCIEXBAR (the address of ECAM) and the PAM registers. The board follows the PAM registers if it
 * listens; otherwise they only store their value. There is no SMRAM: its registers are read-only.
 * Intel 316966 §5.1.
 *
 * EXT_TSEG_MBYTES is not in the data sheet: firmware that needs SMM writes 0xffff there and reads
 * how many MiB of SMRAM the machine offers (QEMU docs, "mch extended-tseg-mbytes"). Here the write
 * is reported to the board.
 */
#include "hw/pci/pci_host.h"

#include "hw/pci/pci_int.h"

#define MCH_EXT_TSEG_MBYTES 0x50
#define MCH_EXT_TSEG_QUERY 0xffff
#define MCH_PCIEXBAR 0x60
#define MCH_PCIEXBAR_ENABLE 1
#define MCH_PCIEXBAR_BASE UINT64_C(0xff0000000) /* bits 35:28: 256 MiB, the only length */
#define MCH_PAM0 0x90
#define MCH_PAM_COUNT 7
#define MCH_SMRAM 0x9d
#define MCH_SMRAM_POWER_ON 0x02 /* compatible SMRAM at 0xa0000, closed */
#define MCH_ESMRAMC 0x9e
#define MCH_ESMRAMC_POWER_ON 0x38 /* SMRAM is not cached */
#define PAM_SEGMENT_SIZE 0x4000u
#define PAM_LAST_SEGMENT (PCI_HOST_PAM_SEGMENTS - 1) /* of PAM0 */

typedef struct PciHostState {
    uint32_t config_address; /* port 0xcf8 */
} PciHostState;

typedef struct PciHost {
    PciDevice pci;
    PciHostListener listener;
    PciHostState state;
} PciHost;

extern const DeviceType pci_host_type;

static const StateField pci_host_fields[] = {
    STATE_FIELD(PciHostState, STATE_U32, config_address),
    {0},
};

static const StateDesc pci_host_state =
    STATE_DESC("q35-host", 1, PciHost, state, PciHostState, pci_host_fields);

/* ---- the board ---- */

void pci_host_listen(Device *host, PciHostListener listener)
{
    g_assert(host->type == &pci_host_type);
    bql_lock();
    ((PciHost *)host)->listener = listener;
    bql_unlock();
}

unsigned pci_host_pam(const Device *host, unsigned segment)
{
    g_assert(host->type == &pci_host_type && segment < PCI_HOST_PAM_SEGMENTS);
    const PciDevice *pci = &((const PciHost *)host)->pci;
    if (segment == PAM_LAST_SEGMENT) {
        return pci_get(pci, MCH_PAM0, 1) >> 4 & 3;
    }
    return pci_get(pci, MCH_PAM0 + 1 + segment / 2, 1) >> (segment % 2 * 4) & 3;
}

void pci_host_pam_range(unsigned segment, uint64_t *gpa, uint64_t *size)
{
    g_assert(segment < PCI_HOST_PAM_SEGMENTS);
    *gpa = PCI_HOST_PAM_BASE + (uint64_t)segment * PAM_SEGMENT_SIZE;
    *size = segment == PAM_LAST_SEGMENT ? 4 * PAM_SEGMENT_SIZE : PAM_SEGMENT_SIZE;
}

bool pci_host_ecam_base(const Device *host, uint64_t *base)
{
    g_assert(host->type == &pci_host_type);
    const PciDevice *pci = &((const PciHost *)host)->pci;
    uint64_t bar = pci_get(pci, MCH_PCIEXBAR, 4) | (uint64_t)pci_get(pci, MCH_PCIEXBAR + 4, 4)
                                                       << 32;
    *base = bar & MCH_PCIEXBAR_BASE;
    return (bar & MCH_PCIEXBAR_ENABLE) != 0;
}

static void pci_host_tell_pam(const PciHost *host) BQL_HELD
{
    if (host->listener.pam_changed != NULL) {
        host->listener.pam_changed(host->listener.opaque);
    }
}

/* ---- registers ---- */

static void pci_host_map_ecam(PciDevice *pci) BQL_HELD
{
    IoRegion *ecam = pci_bus_ecam(pci->bus);
    uint64_t base;
    bool enabled = pci_host_ecam_base(&pci->base, &base);
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
    if (pci_ranges_overlap(offset, size, MCH_PAM0, MCH_PAM_COUNT)) {
        pci_host_tell_pam((PciHost *)pci);
    }
}

static MmioResult pci_host_config_access(PciDevice *pci, unsigned offset, IoAccess *access,
                                         bool *handled)
{
    const PciHost *host = (PciHost *)pci;
    assert_bql();
    if (access->is_write && offset == MCH_EXT_TSEG_MBYTES && access->size == 2 &&
        access->value == MCH_EXT_TSEG_QUERY && host->listener.smm_wanted != NULL) {
        host->listener.smm_wanted(host->listener.opaque);
    }
    return MMIO_DONE;
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
    pci_set_u8(pci, MCH_ESMRAMC, MCH_ESMRAMC_POWER_ON);
    pci->config_written = pci_host_config_written;
    pci->config_access = pci_host_config_access;
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
    pci_host_tell_pam(host);
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
    pci_host_tell_pam(host);
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
