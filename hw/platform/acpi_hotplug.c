/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/platform/acpi_hotplug.h"

#include "hw/platform/isa.h"
#include "hw/platform/trace_events.h"

#define HOTPLUG_REG_INSERTED 0x0
#define HOTPLUG_REG_WANTED 0x4
#define HOTPLUG_REG_PRESENT 0x8
#define HOTPLUG_REG_EJECT 0xc

static const StateField acpi_hotplug_fields[] = {
    STATE_FIELD(AcpiHotplugState, STATE_U32, inserted),
    STATE_FIELD(AcpiHotplugState, STATE_U32, wanted),
    STATE_FIELD(AcpiHotplugState, STATE_U32, asked),
    STATE_FIELD(AcpiHotplugState, STATE_U32, ejected),
    {0},
};

const StateDesc acpi_hotplug_state_desc = {.name = "acpi-hotplug",
                                           .version = 1,
                                           .min_version = 1,
                                           .struct_size = sizeof(AcpiHotplugState),
                                           .fields = acpi_hotplug_fields};

static void acpi_hotplug_update(AcpiHotplug *h) BQL_HELD
{
    pm_set_gpe(h->pm, ACPI_HOTPLUG_GPE, (h->state->inserted | h->state->wanted) != 0);
}

/* ---- accesses by the guest ---- */

static void acpi_hotplug_notify_main(AcpiHotplug *h)
{
    const Machine *machine = h->owner->env->machine;
    machine_request(machine, VM_REQUEST_UNPLUG, 0);
}

static void acpi_hotplug_eject(AcpiHotplug *h, uint32_t slots) BQL_HELD
{
    AcpiHotplugState *s = h->state;
    uint32_t removable = pci_bus_removable_slots(h->bus);
    if ((slots & ~removable) != 0) {
        log_guest_error(&h->owner->log_limit, device_label(h->owner),
                        "slots 0x%x ejected: they are empty or fixed", slots & ~removable);
    }
    slots &= removable;
    if (slots == 0) {
        return;
    }
    trace_acpi_hotplug_eject(slots);
    for (unsigned slot = 0; slot < 32; slot++) {
        if ((slots >> slot & 1) != 0) {
            pci_bus_hide_slot(h->bus, slot);
        }
    }
    s->ejected |= slots;
    s->inserted &= ~slots;
    s->wanted &= ~slots;
    acpi_hotplug_update(h);
    acpi_hotplug_notify_main(h);
}

static void acpi_hotplug_write(AcpiHotplug *h, unsigned reg, uint32_t value) BQL_HELD
{
    switch (reg) {
    case HOTPLUG_REG_INSERTED:
        h->state->inserted &= ~value;
        acpi_hotplug_update(h);
        break;
    case HOTPLUG_REG_WANTED:
        h->state->wanted &= ~value;
        acpi_hotplug_update(h);
        break;
    case HOTPLUG_REG_EJECT:
        acpi_hotplug_eject(h, value);
        break;
    default:
        break;
    }
}

static uint32_t acpi_hotplug_read(const AcpiHotplug *h, unsigned reg) BQL_HELD
{
    switch (reg) {
    case HOTPLUG_REG_INSERTED:
        return h->state->inserted;
    case HOTPLUG_REG_WANTED:
        return h->state->wanted;
    case HOTPLUG_REG_PRESENT:
        return pci_bus_present_slots(h->bus);
    default:
        return 0;
    }
}

static MmioResult acpi_hotplug_access(void *opaque, IoAccess *access)
{
    AcpiHotplug *h = opaque;
    assert_bql();
    if (access->is_write) {
        acpi_hotplug_write(h, (unsigned)access->offset, (uint32_t)access->value);
    } else {
        access->value = acpi_hotplug_read(h, (unsigned)access->offset);
    }
    return MMIO_DONE;
}

static const IoRegionOps acpi_hotplug_ops = {
    .access = acpi_hotplug_access, .min_size = 4, .max_size = 4};

/* ---- calls by the bus ---- */

static void acpi_hotplug_inserted(void *opaque, unsigned slot)
{
    AcpiHotplug *h = opaque;
    assert_bql();
    trace_acpi_hotplug_inserted(slot);
    h->state->inserted |= UINT32_C(1) << slot;
    acpi_hotplug_update(h);
}

static void acpi_hotplug_request_unplug(void *opaque, unsigned slot)
{
    AcpiHotplug *h = opaque;
    assert_bql();
    trace_acpi_hotplug_request_unplug(slot);
    h->state->wanted |= UINT32_C(1) << slot;
    h->state->asked |= UINT32_C(1) << slot;
    acpi_hotplug_update(h);
}

static void acpi_hotplug_emptied(void *opaque, unsigned slot)
{
    AcpiHotplug *h = opaque;
    uint32_t others = ~(UINT32_C(1) << slot);
    assert_bql();
    trace_acpi_hotplug_emptied(slot);
    h->state->inserted &= others;
    h->state->wanted &= others;
    h->state->asked &= others;
    h->state->ejected &= others;
    acpi_hotplug_update(h);
}

static PciUnplugState acpi_hotplug_slot_state(void *opaque, unsigned slot)
{
    const AcpiHotplugState *s = ((AcpiHotplug *)opaque)->state;
    assert_bql();
    if ((s->ejected >> slot & 1) != 0) {
        return PCI_UNPLUG_EJECTED;
    }
    if ((s->wanted >> slot & 1) != 0) {
        return PCI_UNPLUG_REQUESTED;
    }
    return (s->asked >> slot & 1) != 0 ? PCI_UNPLUG_ACKNOWLEDGED : PCI_UNPLUG_NONE;
}

static const PciHotplugOps acpi_hotplug_bus_ops = {
    .inserted = acpi_hotplug_inserted,
    .request_unplug = acpi_hotplug_request_unplug,
    .emptied = acpi_hotplug_emptied,
    .state = acpi_hotplug_slot_state,
};

/* ---- life cycle ---- */

bool acpi_hotplug_init(AcpiHotplug *h, Device *owner, AcpiHotplugState *state, Pm *pm, PciBus *bus,
                       GError **error)
{
    *h = (AcpiHotplug){.owner = owner, .state = state, .pm = pm, .bus = bus};
    h->ports = (IoRegion){
        .name = "acpi-hotplug", .ops = &acpi_hotplug_ops, .opaque = h, .size = ACPI_HOTPLUG_PORTS};
    if (!isa_device_attach(owner, &h->ports, ACPI_HOTPLUG_PORT, error)) {
        return false;
    }
    pci_bus_set_hotplug(bus, &acpi_hotplug_bus_ops, h);
    return true;
}

void acpi_hotplug_fini(AcpiHotplug *h)
{
    pci_bus_set_hotplug(h->bus, NULL, NULL);
    isa_device_detach(&h->ports);
}

void acpi_hotplug_reset(AcpiHotplug *h)
{
    /* Ejected devices stay hidden until main has unplugged them. */
    *h->state = (AcpiHotplugState){.ejected = h->state->ejected};
    acpi_hotplug_update(h);
}

void acpi_hotplug_post_load(AcpiHotplug *h)
{
    /* A guest can have ejected only removable devices. A slot that was ejected when the state was
     * loaded, and is not in the state, is there again. */
    h->state->ejected = pci_bus_set_hidden_slots(h->bus, h->state->ejected);
    acpi_hotplug_update(h);
    if (h->state->ejected != 0) {
        acpi_hotplug_notify_main(h);
    }
}
