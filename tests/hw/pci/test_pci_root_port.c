/* SPDX-License-Identifier: Apache-2.0 */
/* Root ports: buses that the guest numbers, windows, interrupts, resources without firmware, paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/pci_dummy.h"

#define PORT_SLOT 6u
#define PORT (PORT_SLOT << 3)
#define COMMAND 0x04
#define BAR(n) (0x10 + (n)*4)
#define SECONDARY 0x19
#define IO_BASE 0x1c
#define MEMORY_BASE 0x20
#define PREFETCH_BASE 0x24

static PciFixture *f;
static Device *port;
static PciDummy *d; /* behind the port */

static PciDummy *dummy_behind(const char *properties, GError **error)
{
    Device *dev = device_new(&pci_dummy_type, &f->m->env, NULL);
    g_autoptr(OptDict) opts =
        properties != NULL ? opt_dict_parse(properties, NULL, NULL) : opt_dict_new();
    dev->bus_device = port;
    if (!device_set_properties(dev, opts, error) || !device_realize(dev, error)) {
        device_free(dev);
        return NULL;
    }
    return (PciDummy *)dev;
}

static int set_up(void **unused)
{
    f = pci_fixture_new();
    port = fake_device(f->m, "pcie-root-port", "addr=6,slot=5,port=3,chassis=1");
    d = dummy_behind("bar2-size=2M", NULL);
    assert_non_null(d);
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(&d->pci.base);
    fake_device_gone(port);
    pci_fixture_free(f);
    return 0;
}

/* ---- the device behind it, by its bus number ---- */

static uint32_t read_at(unsigned bus, unsigned devfn, unsigned offset, unsigned size)
{
    uint64_t ecam = pci_fixture_windows.ecam_base + ((uint64_t)bus << 20) + (devfn << 12) + offset;
    fake_out32(f->m, 0xcf8, 0x80000000 | bus << 16 | devfn << 8 | (offset & 0xfc));
    uint32_t value = (uint32_t)fake_read(f->m->env.pio, 0xcfc + (offset & 3), size);
    assert_int_equal(value, (uint32_t)fake_read(f->m->env.mmio, ecam, size));
    return value;
}

static void write_at(unsigned bus, unsigned devfn, unsigned offset, uint32_t value, unsigned size)
{
    fake_out32(f->m, 0xcf8, 0x80000000 | bus << 16 | devfn << 8 | (offset & 0xfc));
    fake_write(f->m->env.pio, 0xcfc + (offset & 3), value, size);
}

static void number_the_bus(unsigned number)
{
    pci_cf8_write(f, PORT, SECONDARY, number, 1);
    pci_cf8_write(f, PORT, SECONDARY + 1, number, 1);
}

static void it_is_a_bridge_with_a_slot(void **unused)
{
    assert_int_equal(pci_cf8_read(f, PORT, 0, 4), 0x000c1b36);
    assert_int_equal(pci_cf8_read(f, PORT, 0x08, 4) >> 8, 0x060400);
    assert_int_equal(pci_cf8_read(f, PORT, 0x0e, 1), 1);
    unsigned cap = pci_cf8_read(f, PORT, 0x34, 1);
    assert_int_equal(pci_cf8_read(f, PORT, cap, 1), 0x10);
    assert_int_equal(pci_cf8_read(f, PORT, cap + 2, 2),
                     0x0142); /* root port with slot, version 2 */
    assert_int_equal(pci_cf8_read(f, PORT, cap + 0x0c, 4) >> 24, 3);
    assert_int_equal(pci_cf8_read(f, PORT, cap + 0x14, 4), 5u << 19); /* not hot-pluggable */
    assert_int_equal(pci_cf8_read(f, PORT, cap + 0x1a, 2), 0x40);     /* occupied */
    assert_true((pci_cf8_read(f, PORT, cap + 0x12, 2) & 0x2000) != 0);
    for (unsigned offset = 0; offset < 256; offset += 4) {
        pci_cf8_write(f, PORT, offset, 0xffffffff, 4);
    }
    assert_int_equal(pci_cf8_read(f, PORT, BAR(0), 4), 0);
    assert_int_equal(pci_cf8_read(f, PORT, 0x18, 4), 0x00ffffff);
    assert_int_equal(pci_cf8_read(f, PORT, IO_BASE, 4), 0x0000f0f0);
    assert_int_equal(pci_cf8_read(f, PORT, MEMORY_BASE, 4), 0xfff0fff0);
    assert_int_equal(pci_cf8_read(f, PORT, PREFETCH_BASE, 4), 0xfff1fff1);
    assert_int_equal(pci_cf8_read(f, PORT, 0x2c, 4), 0xffffffff);
    assert_int_equal(pci_cf8_read(f, PORT, 0x38, 4), 0);
    assert_int_equal(pci_cf8_read(f, PORT, 0x3e, 2), 0x0003);
}

static void an_empty_slot_says_so(void **unused)
{
    Device *empty = fake_device(f->m, "pcie-root-port", "addr=7");
    unsigned cap = pci_cf8_read(f, 7 << 3, 0x34, 1);
    assert_int_equal(pci_cf8_read(f, 7 << 3, cap + 0x1a, 2), 0);
    assert_int_equal(pci_cf8_read(f, 7 << 3, cap + 0x12, 2) & 0x2000, 0);
    fake_device_gone(empty);
}

static void the_guest_numbers_the_bus(void **unused)
{
    uint32_t id = PCI_DUMMY_DEVICE << 16 | PCI_DUMMY_VENDOR;
    assert_int_equal(read_at(1, 0, 0, 4), 0xffffffff);
    number_the_bus(1);
    assert_int_equal(read_at(1, 0, 0, 4), id);
    assert_int_equal(read_at(1, 8, 0, 4), 0xffffffff);
    assert_int_equal(read_at(2, 0, 0, 4), 0xffffffff);
    number_the_bus(0xfe);
    assert_int_equal(read_at(1, 0, 0, 4), 0xffffffff);
    assert_int_equal(read_at(0xfe, 0, 0, 4), id);
    bql_lock();
    assert_int_equal(pci_device_bus_number(&d->pci), 0xfe);
    port->type->reset(port);
    bql_unlock();
    assert_int_equal(read_at(0xfe, 0, 0, 4), 0xffffffff);
    assert_int_equal(read_at(0, 0, 0, 4), 0x29c08086);
}

static void bars_decode_inside_the_windows(void **unused)
{
    number_the_bus(1);
    write_at(1, 0, BAR(0), 0xd0000000, 4);
    write_at(1, 0, BAR(1), 0xc000, 4);
    write_at(1, 0, BAR(2), 0x00000000, 4);
    write_at(1, 0, BAR(3), 0x41, 4);
    write_at(1, 0, COMMAND, 3, 2);
    assert_null(d->mem.space);
    pci_cf8_write(f, PORT, MEMORY_BASE, 0xd000d000, 4);
    assert_null(d->mem.space); /* the bridge decodes nothing */
    pci_cf8_write(f, PORT, COMMAND, 3, 2);
    assert_int_equal(d->mem.base, 0xd0000000);
    assert_int_equal(fake_read(f->m->env.mmio, 0xd0000000, 4), 0x5a5a5a5a);
    assert_null(d->io.space);
    /* the 64-bit one needs the prefetchable window */
    assert_null(d->big.space);
    pci_cf8_write(f, PORT, PREFETCH_BASE + 4, 0x41, 4);
    pci_cf8_write(f, PORT, PREFETCH_BASE + 8, 0x41, 4);
    pci_cf8_write(f, PORT, PREFETCH_BASE, 0x00000000, 4); /* 1 MiB: too small */
    assert_null(d->big.space);
    pci_cf8_write(f, PORT, PREFETCH_BASE, 0x00100000, 4);
    assert_true(d->big.base == UINT64_C(0x4100000000));
    /* ports */
    pci_cf8_write(f, PORT, IO_BASE, 0xd0d0, 2);
    assert_null(d->io.space);
    pci_cf8_write(f, PORT, IO_BASE, 0xc0c0, 2);
    assert_int_equal(d->io.base, 0xc000);
    /* a closed window, and one that moves away */
    pci_cf8_write(f, PORT, MEMORY_BASE, 0x0000d000, 4);
    assert_null(d->mem.space);
    pci_cf8_write(f, PORT, MEMORY_BASE, 0xd010d000, 4);
    assert_non_null(d->mem.space);
    pci_cf8_write(f, PORT, COMMAND, 0, 2);
    assert_null(d->mem.space);
    assert_null(d->big.space);
    assert_null(d->io.space);
}

static void interrupts_are_rotated_by_each_slot(void **unused)
{
    unsigned gsi = 16 + PORT_SLOT % 4; /* slot 0 behind slot 6, pin A */
    pci_dummy_set_cause(d, true);
    assert_true(f->m->gsi_level[gsi]);
    pci_dummy_set_cause(d, false);
    assert_false(f->m->gsi_level[gsi]);
}

static void resources_are_assigned_without_firmware(void **unused)
{
    PciDummy *other = pci_dummy_new(f, "addr=3");
    bql_lock();
    pci_bus_assign_resources(f->bus);
    assert_int_equal(pci_bus_bridges(f->bus), 1);
    bql_unlock();
    assert_int_equal(read_at(1, 0, 0, 2), PCI_DUMMY_VENDOR);
    const IoRegion *behind[] = {&d->mem, &d->big};
    uint64_t first = (pci_cf8_read(f, PORT, MEMORY_BASE, 2) & 0xfff0) << 16;
    uint64_t last = (pci_cf8_read(f, PORT, MEMORY_BASE + 2, 2) & 0xfff0) << 16 | 0xfffff;
    for (unsigned i = 0; i < G_N_ELEMENTS(behind); i++) {
        assert_non_null(behind[i]->space);
        assert_true(behind[i]->base >= first && behind[i]->base + behind[i]->size - 1 <= last);
    }
    assert_non_null(d->io.space);
    assert_true(other->mem.base < first || other->mem.base > last);
    assert_int_equal(read_at(1, 0, 0x3c, 1), 16 + PORT_SLOT % 4);
    assert_true((read_at(0, PORT, COMMAND, 2) & 4) != 0); /* it masters the bus for the device */
    /* again, as at each reset */
    bql_lock();
    port->type->reset(port);
    assert_null(d->mem.space);
    pci_bus_assign_resources(f->bus);
    bql_unlock();
    assert_int_equal(d->mem.base & ~UINT64_C(0x3fffff), first);
    fake_device_gone(&other->pci.base);
}

static void the_slot_is_the_only_one(void **unused)
{
    g_autoptr(GError) error = NULL;
    assert_null(dummy_behind("addr=1", &error));
    assert_non_null(strstr(error->message, "only allows plugging into slot 0"));
    g_clear_error(&error);
    assert_null(dummy_behind(NULL, &error));
    assert_non_null(strstr(error->message, "no slot/function available"));
    g_clear_error(&error);
    Device *second = device_new(port->type, &f->m->env, NULL);
    second->bus_device = port;
    assert_false(device_realize(second, &error));
    assert_non_null(strstr(error->message, "pcie.0 only"));
    device_free(second);
}

static void it_is_not_ejected(void **unused)
{
    PciDummy *other = pci_dummy_new(f, "addr=3");
    bql_lock();
    assert_int_equal(pci_bus_present_slots(f->bus), 1u << PORT_SLOT | 1u << 3 | 1);
    assert_int_equal(pci_bus_removable_slots(f->bus) & 1u << PORT_SLOT, 0);
    bql_unlock();
    fake_device_gone(&other->pci.base);
}

static void firmware_knows_it_as_a_bridge(void **unused)
{
    g_autoptr(GString) path = g_string_new(NULL);
    pci_device_firmware_path(&d->pci, path);
    assert_string_equal(path->str, "/pci@i0cf8/pci-bridge@6/pci1b36,bad@0");
}

static void it_survives_save_and_load(void **unused)
{
    PciDevice *pci = (PciDevice *)port;
    number_the_bus(1);
    write_at(1, 0, BAR(0), 0xd0000000, 4);
    write_at(1, 0, COMMAND, 2, 2);
    pci_cf8_write(f, PORT, MEMORY_BASE, 0xd000d000, 4);
    pci_cf8_write(f, PORT, COMMAND, 2, 2);
    bql_lock();
    pci_device_pre_save(pci);
    PciState *saved = g_memdup2(&pci->state, sizeof(pci->state));
    port->type->reset(port);
    assert_null(d->mem.space);
    pci->state = *saved;
    assert_true(port->type->post_load(port, NULL));
    bql_unlock();
    assert_int_equal(d->mem.base, 0xd0000000);
    assert_int_equal(read_at(1, 0, 0, 2), PCI_DUMMY_VENDOR);
    g_free(saved);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(it_is_a_bridge_with_a_slot),
        TEST(an_empty_slot_says_so),
        TEST(the_guest_numbers_the_bus),
        TEST(bars_decode_inside_the_windows),
        TEST(interrupts_are_rotated_by_each_slot),
        TEST(resources_are_assigned_without_firmware),
        TEST(the_slot_is_the_only_one),
        TEST(it_is_not_ejected),
        TEST(firmware_knows_it_as_a_bridge),
        TEST(it_survives_save_and_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
