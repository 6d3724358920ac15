/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LPC bridge of the ICH9, 00:1f.0: the part that firmware and drivers use, with its ACPI block
 * (pm.c), the TCO watchdog (tco.c) and the PCI hotplug registers (acpi_hotplug.c), which the real
 * chip does not have. Intel 316972 §13.1.
 *
 * The power-on values are those that firmware would program, so a kernel started without firmware
 * finds the ACPI registers where its tables say. PIRQ routing only stores its value: INTx goes to
 * the I/O APIC. Of the registers at RCBA only GCS exists.
 */
#include "hw/platform/lpc.h"

#include "hw/pci/pci.h"
#include "hw/platform/acpi_hotplug.h"
#include "hw/platform/pm.h"
#include "hw/platform/tco.h"

#define LPC_PMBASE 0x40
#define LPC_PMBASE_ADDRESS 0xff80 /* bit 0 means "I/O" */
#define LPC_ACPI_CONTROL 0x44
#define LPC_ACPI_ENABLE 0x80 /* bits 2:0: interrupt of the SCI; 0 is IRQ 9 */
#define LPC_PIRQA 0x60
#define LPC_PIRQE 0x68
#define LPC_PIRQ_UNROUTED 0x80
#define LPC_RCBA 0xf0
#define LPC_RCBA_POWER_ON 0xfed1c001
#define LPC_RCBA_ENABLE 1
#define LPC_RCBA_ADDRESS 0xffffc000

typedef struct LpcState {
    PmState pm[1];
    TcoState tco;
    AcpiHotplugState hotplug;
} LpcState;

typedef struct Lpc {
    PciDevice pci;
    bool no_reboot; /* property: the strap that turns the TCO watchdog's reset off */
    LpcState state;
    Pm pm;
    AcpiHotplug hotplug;
    Tco tco;
} Lpc;

extern const DeviceType lpc_type;

static const StateField lpc_fields[] = {
    STATE_STRUCTS(LpcState, pm, &pm_state_desc),
    STATE_STRUCT_ONE(LpcState, tco, &tco_state_desc),
    STATE_STRUCT_ONE(LpcState, hotplug, &acpi_hotplug_state_desc),
    {0},
};

static const StateDesc lpc_state = STATE_DESC("ich9-lpc", 1, Lpc, state, LpcState, lpc_fields);

static void lpc_place_blocks(Lpc *lpc) BQL_HELD
{
    uint16_t base = pci_get(&lpc->pci, LPC_PMBASE, 2) & LPC_PMBASE_ADDRESS;
    bool enabled = (pci_get(&lpc->pci, LPC_ACPI_CONTROL, 1) & LPC_ACPI_ENABLE) != 0;
    uint32_t rcba = pci_get(&lpc->pci, LPC_RCBA, 4);
    pm_set_base(&lpc->pm, base, enabled && base != 0);
    tco_set_base(&lpc->tco, base, enabled && base != 0);
    tco_set_chipset(&lpc->tco, rcba & LPC_RCBA_ADDRESS, (rcba & LPC_RCBA_ENABLE) != 0);
}

static void lpc_config_written(PciDevice *pci, unsigned offset, unsigned size)
{
    assert_bql();
    if ((offset <= LPC_ACPI_CONTROL && offset + size > LPC_PMBASE) ||
        (offset < LPC_RCBA + 4 && offset + size > LPC_RCBA)) {
        lpc_place_blocks((Lpc *)pci);
    }
}

static void lpc_set_up_config(PciDevice *pci)
{
    pci_set_u32(pci, LPC_PMBASE, PM_DEFAULT_BASE | 1);
    pci->wmask[LPC_PMBASE] = LPC_PMBASE_ADDRESS & 0xff;
    pci->wmask[LPC_PMBASE + 1] = LPC_PMBASE_ADDRESS >> 8;
    pci_set_u8(pci, LPC_ACPI_CONTROL, LPC_ACPI_ENABLE);
    pci->wmask[LPC_ACPI_CONTROL] = LPC_ACPI_ENABLE;
    for (unsigned i = 0; i < 4; i++) {
        pci_set_u8(pci, LPC_PIRQA + i, LPC_PIRQ_UNROUTED);
        pci_set_u8(pci, LPC_PIRQE + i, LPC_PIRQ_UNROUTED);
        pci->wmask[LPC_PIRQA + i] = pci->wmask[LPC_PIRQE + i] = 0x8f;
    }
    pci_set_u32(pci, LPC_RCBA, LPC_RCBA_POWER_ON);
    pci->wmask[LPC_RCBA] = LPC_RCBA_ENABLE;
    pci->wmask[LPC_RCBA + 1] = 0xc0;
    pci->wmask[LPC_RCBA + 2] = pci->wmask[LPC_RCBA + 3] = 0xff;
}

static bool lpc_realize(Device *dev, GError **error)
{
    static const PciIdentity identity = {.vendor = 0x8086,
                                         .device = 0x2918,
                                         .subsystem_vendor = 0x1af4,
                                         .subsystem = 0x1100,
                                         .class_code = 0x060100,
                                         .revision = 2};
    Lpc *lpc = (Lpc *)dev;
    enter_main();
    if (!pci_device_plug(&lpc->pci, dev->env->pci_bus, &identity, error)) {
        return false;
    }
    lpc_set_up_config(&lpc->pci);
    lpc->pci.config_written = lpc_config_written;
    if (!pm_init(&lpc->pm, dev, &lpc->state.pm[0], error)) {
        pci_device_unplug(&lpc->pci);
        return false;
    }
    if (!acpi_hotplug_init(&lpc->hotplug, dev, &lpc->state.hotplug, &lpc->pm, lpc->pci.bus,
                           error)) {
        pm_fini(&lpc->pm);
        pci_device_unplug(&lpc->pci);
        return false;
    }
    tco_init(&lpc->tco, dev, &lpc->state.tco, lpc->no_reboot);
    return true;
}

static void lpc_unrealize(Device *dev)
{
    Lpc *lpc = (Lpc *)dev;
    enter_main();
    tco_fini(&lpc->tco);
    acpi_hotplug_fini(&lpc->hotplug);
    pm_fini(&lpc->pm);
    pci_device_unplug(&lpc->pci);
}

static void lpc_reset(Device *dev)
{
    Lpc *lpc = (Lpc *)dev;
    assert_bql();
    pci_device_reset(&lpc->pci);
    lpc_place_blocks(lpc);
    acpi_hotplug_reset(&lpc->hotplug);
    tco_reset(&lpc->tco);
    pm_reset(&lpc->pm);
}

static void lpc_pre_save(Device *dev)
{
    Lpc *lpc = (Lpc *)dev;
    assert_bql();
    pci_device_pre_save(&lpc->pci);
    pm_pre_save(&lpc->pm);
    tco_pre_save(&lpc->tco);
}

static bool lpc_post_load(Device *dev, GError **error)
{
    Lpc *lpc = (Lpc *)dev;
    assert_bql();
    pci_device_post_load(&lpc->pci);
    lpc_place_blocks(lpc);
    pm_post_load(&lpc->pm);
    tco_post_load(&lpc->tco);
    acpi_hotplug_post_load(&lpc->hotplug);
    return true;
}

void lpc_press_power_button(Device *dev)
{
    Lpc *lpc = (Lpc *)dev;
    g_assert(dev->type == &lpc_type);
    bql_lock();
    pm_press_power_button(&lpc->pm);
    bql_unlock();
}

void lpc_raise_gpe(Device *dev, unsigned gpe)
{
    g_assert(dev->type == &lpc_type);
    pm_raise_gpe(&((Lpc *)dev)->pm, gpe);
}

static const OptSpec lpc_properties[] = {
    PCI_DEVICE_PROPERTIES_AT("1f.0"),
    {.name = "noreboot",
     .type = OPT_BOOL,
     .offset = offsetof(Lpc, no_reboot),
     .help = "the TCO watchdog cannot act",
     .def = "off"},
    {0},
};

const DeviceType lpc_type = {
    .name = "ich9-lpc",
    .description = "LPC bridge with ACPI registers and TCO watchdog (00:1f.0)",
    .instance_size = sizeof(Lpc),
    .properties = lpc_properties,
    .base_state = &pci_device_state_desc,
    .state = &lpc_state,
    .bus = "pci",
    .realize = lpc_realize,
    .reset = lpc_reset,
    .unrealize = lpc_unrealize,
    .pre_save = lpc_pre_save,
    .post_load = lpc_post_load,
};
