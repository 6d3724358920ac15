/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pci_dummy.h"

#include <stdio.h>
#include <stdlib.h>

static MmioResult dummy_access(void *opaque, IoAccess *access)
{
    PciDummy *d = opaque;
    assert_bql();
    d->accesses++;
    access->value = 0x5a5a5a5a5a5a5a5a;
    return MMIO_DONE;
}

static const IoRegionOps dummy_ops = {.access = dummy_access};

static void dummy_config_written(PciDevice *pci, unsigned offset, unsigned size)
{
    ((PciDummy *)pci)->config_writes++;
}

static bool dummy_realize(Device *dev, GError **error)
{
    static const PciIdentity identity = {.vendor = PCI_DUMMY_VENDOR,
                                         .device = PCI_DUMMY_DEVICE,
                                         .subsystem_vendor = 0x1af4,
                                         .subsystem = 0x1234,
                                         .class_code = 0x00ff00,
                                         .revision = 7};
    PciDummy *d = (PciDummy *)dev;
    enter_main();
    if (!pci_device_plug(&d->pci, dev->env->pci_bus, &identity, error)) {
        return false;
    }
    d->mem = (IoRegion){.name = "dummy-mem", .ops = &dummy_ops, .opaque = d, .size = 0x1800};
    d->io = (IoRegion){.name = "dummy-io", .ops = &dummy_ops, .opaque = d, .size = 32};
    d->big = (IoRegion){.name = "dummy-big", .ops = &dummy_ops, .opaque = d, .size = d->bar2_size};
    pci_device_add_bar(&d->pci, 0, &d->mem, false, false);
    pci_device_add_io_bar(&d->pci, 1, &d->io);
    pci_device_add_bar(&d->pci, 2, &d->big, true, true);
    pci_device_set_intx_pin(&d->pci, 1);
    d->cap = pci_device_add_capability(&d->pci, 0x09, PCI_DUMMY_CAP_SIZE);
    for (unsigned i = 2; i < PCI_DUMMY_CAP_SIZE; i++) {
        d->pci.wmask[d->cap + i] = 0xff;
    }
    d->pci.config_written = dummy_config_written;
    if (!pci_device_load_rom(&d->pci, error) ||
        !pci_device_add_msix(&d->pci, d->vectors, PCI_DUMMY_MSIX_BAR, error)) {
        pci_device_unplug(&d->pci);
        return false;
    }
    return true;
}

static void dummy_reset(Device *dev)
{
    PciDummy *d = (PciDummy *)dev;
    d->cause = false;
    pci_device_reset(&d->pci);
}

static void dummy_unrealize(Device *dev)
{
    pci_device_unplug(&((PciDummy *)dev)->pci);
}

static const OptSpec dummy_properties[] = {
    PCI_DEVICE_PROPERTIES,
    PCI_DEVICE_ROM_PROPERTIES,
    {.name = "vectors", .type = OPT_U32, .offset = offsetof(PciDummy, vectors), .def = "4"},
    {.name = "bar2-size", .type = OPT_SIZE, .offset = offsetof(PciDummy, bar2_size), .def = "16k"},
    {0},
};

const DeviceType pci_dummy_type = {
    .name = "pci-dummy",
    .description = "test device",
    .instance_size = sizeof(PciDummy),
    .properties = dummy_properties,
    .base_state = &pci_device_state_desc,
    .bus = "pci",
    .realize = dummy_realize,
    .reset = dummy_reset,
    .unrealize = dummy_unrealize,
};

const PciWindows pci_fixture_windows = {
    .mmio32_base = 0xc0000000,
    .mmio32_size = 0x3ec00000,
    .mmio64_base = UINT64_C(0x4000000000),
    .mmio64_size = UINT64_C(0x4000000000),
    .ecam_base = 0xb0000000,
};

PciFixture *pci_fixture_new(void)
{
    PciFixture *f = g_new0(PciFixture, 1);
    f->m = fake_machine_new();
    f->bus = pci_bus_new(&f->m->env, &pci_fixture_windows, &f->m->gate_list[16]);
    f->m->env.pci_bus = f->bus;
    f->host = fake_device(f->m, "q35-host", NULL);
    return f;
}

void pci_fixture_free(PciFixture *f)
{
    fake_device_gone(f->host);
    pci_bus_free(f->bus);
    fake_machine_free(f->m);
    g_free(f);
}

PciDummy *pci_dummy_new(PciFixture *f, const char *properties)
{
    return (PciDummy *)fake_device_of(f->m, &pci_dummy_type, properties);
}

static bool dummy_cause(void *opaque)
{
    return ((PciDummy *)opaque)->cause;
}

void pci_dummy_set_cause(PciDummy *d, bool cause)
{
    d->cause = cause;
    pci_intx_update(&d->pci, dummy_cause, d);
}

uint32_t pci_cf8_read(PciFixture *f, unsigned devfn, unsigned offset, unsigned size)
{
    fake_out32(f->m, 0xcf8, 0x80000000 | devfn << 8 | (offset & 0xfc));
    return (uint32_t)fake_read(f->m->env.pio, 0xcfc + (offset & 3), size);
}

void pci_cf8_write(PciFixture *f, unsigned devfn, unsigned offset, uint32_t value, unsigned size)
{
    fake_out32(f->m, 0xcf8, 0x80000000 | devfn << 8 | (offset & 0xfc));
    fake_write(f->m->env.pio, 0xcfc + (offset & 3), value, size);
}

uint32_t pci_ecam_read(PciFixture *f, unsigned devfn, unsigned offset, unsigned size)
{
    return (uint32_t)fake_read(f->m->env.mmio,
                               pci_fixture_windows.ecam_base + (devfn << 12) + offset, size);
}

void pci_ecam_write(PciFixture *f, unsigned devfn, unsigned offset, uint32_t value, unsigned size)
{
    fake_write(f->m->env.mmio, pci_fixture_windows.ecam_base + (devfn << 12) + offset, value, size);
}
