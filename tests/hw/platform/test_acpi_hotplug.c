/* SPDX-License-Identifier: Apache-2.0 */
/* The registers of PCI hotplug, their event, and a slot after its ejection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "hw/platform/acpi_hotplug.h"
#include "tests/support/pci_dummy.h"

#define INSERTED (ACPI_HOTPLUG_PORT + 0x0)
#define WANTED (ACPI_HOTPLUG_PORT + 0x4)
#define PRESENT (ACPI_HOTPLUG_PORT + 0x8)
#define EJECT (ACPI_HOTPLUG_PORT + 0xc)
#define GPE_STATUS (PM_DEFAULT_BASE + 0x20)
#define GPE_ENABLE (PM_DEFAULT_BASE + 0x28)
#define EVENT (1u << ACPI_HOTPLUG_GPE)
#define SLOT(n) (1u << (n))
#define BOARD (SLOT(0) | SLOT(31))
#define SCI 9

/* A type that a user may plug, with all parts of a PCI device. */
static DeviceType plug_type;

static PciFixture *f;
static FakeMachine *m;
static Device *lpc;

static int set_up(void **unused)
{
    f = pci_fixture_new();
    m = f->m;
    lpc = fake_device(m, "ich9-lpc", NULL);
    plug_type = pci_dummy_type;
    plug_type.user_creatable = true;
    fake_out32(m, GPE_ENABLE, EVENT);
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(lpc);
    pci_fixture_free(f);
    return 0;
}

static RUNS_IN_MAIN PciDummy *plug(const char *properties)
{
    PciDummy *d = (PciDummy *)(void *)fake_device_of(m, &plug_type, properties);
    pci_device_announce(&d->pci);
    return d;
}

static void gone(PciDummy *d)
{
    fake_device_gone(&d->pci.base);
}

static bool event_status(void)
{
    return (fake_in32(m, GPE_STATUS) & EVENT) != 0;
}

static void a_new_device_is_reported_until_the_guest_clears_it(void **unused)
{
    enter_main();
    PciDummy *d = plug("addr=5");
    assert_int_equal(fake_in32(m, INSERTED), SLOT(5));
    assert_int_equal(fake_in32(m, PRESENT), BOARD | SLOT(5));
    assert_true(m->gsi_level[SCI]);
    fake_out32(m, GPE_STATUS, EVENT); /* its cause is still there */
    assert_true(event_status());
    assert_true(m->gsi_level[SCI]);
    fake_out32(m, INSERTED, SLOT(4)); /* another slot */
    assert_int_equal(fake_in32(m, INSERTED), SLOT(5));
    fake_out32(m, INSERTED, SLOT(5));
    assert_int_equal(fake_in32(m, INSERTED), 0);
    assert_true(event_status()); /* latched */
    fake_out32(m, GPE_STATUS, EVENT);
    assert_false(event_status());
    assert_false(m->gsi_level[SCI]);
    gone(d);
    assert_int_equal(fake_in32(m, PRESENT), BOARD);
}

static void only_function_0_is_announced(void **unused)
{
    enter_main();
    PciDummy *one = plug("addr=5.1");
    assert_int_equal(fake_in32(m, INSERTED), 0);
    assert_int_equal(fake_in32(m, PRESENT), BOARD);
    PciDummy *zero = plug("addr=5.0,multifunction=on");
    assert_int_equal(fake_in32(m, INSERTED), SLOT(5));
    gone(zero);
    gone(one);
    assert_int_equal(fake_in32(m, INSERTED), 0);
}

static void an_unplug_request_stands_until_the_guest_clears_it(void **unused)
{
    enter_main();
    PciDummy *d = plug("addr=5");
    fake_out32(m, INSERTED, SLOT(5));
    fake_out32(m, GPE_STATUS, EVENT);
    assert_int_equal(pci_device_unplug_state(&d->pci), PCI_UNPLUG_NONE);
    pci_device_request_unplug(&d->pci);
    assert_int_equal(pci_device_unplug_state(&d->pci), PCI_UNPLUG_REQUESTED);
    assert_int_equal(fake_in32(m, WANTED), SLOT(5));
    assert_true(m->gsi_level[SCI]);
    fake_out32(m, WANTED, SLOT(5));
    assert_int_equal(pci_device_unplug_state(&d->pci), PCI_UNPLUG_ACKNOWLEDGED);
    fake_out32(m, GPE_STATUS, EVENT);
    assert_false(m->gsi_level[SCI]);
    pci_device_request_unplug(&d->pci); /* again: it was not ejected */
    assert_int_equal(fake_in32(m, WANTED), SLOT(5));
    assert_true(m->gsi_level[SCI]);
    gone(d);
    assert_int_equal(fake_in32(m, WANTED), 0);
}

static void an_ejected_slot_is_empty_at_once(void **unused)
{
    enter_main();
    PciDummy *d = plug("addr=5");
    unsigned devfn = 5 << 3;
    bql_lock();
    pci_bus_assign_resources(f->bus);
    bql_unlock();
    uint64_t base = d->mem.base;
    assert_int_not_equal(fake_read(m->env.mmio, base, 4), UINT32_MAX);
    pci_dummy_set_cause(d, true);
    unsigned gsi = 16 + pci_intx_gate(devfn, 1);
    assert_true(m->gsi_level[gsi]);
    pci_device_request_unplug(&d->pci);

    fake_out32(m, EJECT, SLOT(5));
    assert_int_equal(fake_machine_last_request(m).request, VM_REQUEST_UNPLUG);
    assert_int_equal(pci_device_unplug_state(&d->pci), PCI_UNPLUG_EJECTED);
    assert_int_equal(fake_in32(m, PRESENT), BOARD);
    assert_int_equal(fake_in32(m, WANTED), 0);
    assert_int_equal(fake_in32(m, INSERTED), 0);
    assert_int_equal(pci_cf8_read(f, devfn, 0, 4), UINT32_MAX);
    assert_int_equal(pci_ecam_read(f, devfn, 0, 4), UINT32_MAX);
    assert_int_equal(fake_read(m->env.mmio, base, 4), UINT32_MAX);
    assert_false(m->gsi_level[gsi]);
    pci_dummy_set_cause(d, false);
    pci_dummy_set_cause(d, true); /* requests in flight complete */
    assert_false(m->gsi_level[gsi]);
    pci_ecam_write(f, devfn, 4, 0x7, 2); /* no device has the register */
    assert_null(d->mem.space);

    unsigned requests = m->request_count;
    fake_out32(m, EJECT, SLOT(5)); /* already ejected */
    assert_int_equal(m->request_count, requests);
    pci_dummy_set_cause(d, false);
    gone(d);
    PciDummy *next = plug("addr=5"); /* the slot can be used again */
    assert_int_equal(pci_device_unplug_state(&next->pci), PCI_UNPLUG_NONE);
    assert_int_equal(fake_in32(m, INSERTED), SLOT(5));
    assert_int_not_equal(pci_cf8_read(f, devfn, 0, 4), UINT32_MAX);
    gone(next);
}

static void msi_x_of_an_ejected_slot_is_silent(void **unused)
{
    enter_main();
    PciDummy *d = plug("addr=5");
    bql_lock();
    pci_bus_assign_resources(f->bus);
    bql_unlock();
    uint64_t table = d->pci.msix.region.base;
    fake_write(m->env.mmio, table, 0xfee00000, 4);
    fake_write(m->env.mmio, table + 8, 0x41, 4);
    fake_write(m->env.mmio, table + 12, 0, 4);
    pci_ecam_write(f, 5 << 3, d->pci.msix.cap + 2u, 0x8000, 2);
    pci_ecam_write(f, 5 << 3, 4, 0x6, 2); /* memory, bus master: messages are its writes */
    pci_msix_raise(&d->pci, 0);
    assert_int_equal(fake_machine_settle(m), 1);
    fake_out32(m, EJECT, SLOT(5));
    pci_msix_raise(&d->pci, 0);
    assert_int_equal(fake_machine_settle(m), 0);
    assert_int_equal(m->attached, 0);
    gone(d);
}

static void fixed_and_empty_slots_cannot_be_ejected(void **unused)
{
    enter_main();
    unsigned requests = m->request_count;
    fake_out32(m, EJECT, UINT32_MAX);
    assert_int_equal(m->request_count, requests);
    assert_int_equal(fake_in32(m, PRESENT), BOARD);
    PciDummy *d = plug("addr=5");
    fake_out32(m, EJECT, UINT32_MAX); /* together with the others */
    assert_int_equal(fake_in32(m, PRESENT), BOARD);
    assert_int_equal(pci_device_unplug_state(&d->pci), PCI_UNPLUG_EJECTED);
    gone(d);
}

static void other_widths_and_odd_addresses_do_nothing(void **unused)
{
    enter_main();
    PciDummy *d = plug("addr=5");
    for (unsigned port = ACPI_HOTPLUG_PORT; port < ACPI_HOTPLUG_PORT + ACPI_HOTPLUG_PORTS; port++) {
        fake_out8(m, (uint16_t)port, 0xff);
        assert_int_equal(fake_in8(m, (uint16_t)port), 0xff);
    }
    fake_out32(m, PRESENT, UINT32_MAX);
    assert_int_equal(fake_in32(m, EJECT), 0);
    assert_int_equal(fake_in32(m, INSERTED), SLOT(5));
    assert_int_equal(fake_in32(m, PRESENT), BOARD | SLOT(5));
    gone(d);
}

static void load(GByteArray *saved)
{
    size_t used = 0;
    bql_lock();
    assert_true(state_load(lpc->type->state, lpc, saved->data, saved->len, &used, NULL));
    assert_true(lpc->type->post_load(lpc, NULL));
    bql_unlock();
}

static GByteArray *save(void)
{
    GByteArray *saved = g_byte_array_new();
    bql_lock();
    lpc->type->pre_save(lpc);
    state_save(lpc->type->state, lpc, saved);
    bql_unlock();
    return saved;
}

static void a_question_and_an_ejection_survive_a_save(void **unused)
{
    enter_main();
    assert_true(state_check_coverage(lpc->type->state, NULL));
    PciDummy *asked = plug("addr=5"), *ejected = plug("addr=6");
    fake_out32(m, INSERTED, UINT32_MAX);
    g_autoptr(GByteArray) quiet = save();
    pci_device_request_unplug(&asked->pci);
    fake_out32(m, EJECT, SLOT(6));
    g_autoptr(GByteArray) saved = save();
    gone(ejected);
    ejected = plug("addr=6");
    load(quiet);
    assert_int_equal(fake_in32(m, WANTED), 0);
    fake_out32(m, GPE_STATUS, EVENT);
    assert_false(event_status());

    unsigned requests = m->request_count;
    load(saved);
    assert_int_equal(fake_in32(m, WANTED), SLOT(5));
    assert_true(m->gsi_level[SCI]);
    assert_int_equal(m->request_count, requests + 1); /* for main to unplug it */
    assert_int_equal(pci_device_unplug_state(&ejected->pci), PCI_UNPLUG_EJECTED);
    assert_int_equal(fake_in32(m, PRESENT), BOARD | SLOT(5));
    gone(asked);
    gone(ejected);
}

/* The state is from before the guest ejected the slot; main has not removed the device yet. */
static void an_ejection_is_undone_by_a_load(void **unused)
{
    enter_main();
    PciDummy *d = plug("addr=6");
    g_autoptr(GByteArray) before = save();
    fake_out32(m, EJECT, SLOT(6));
    g_autoptr(GByteArray) after = save();
    load(before);
    assert_int_equal(fake_in32(m, PRESENT), BOARD | SLOT(6));
    assert_int_equal(pci_device_unplug_state(&d->pci), PCI_UNPLUG_NONE);
    assert_int_not_equal(pci_cf8_read(f, 6 << 3, 0, 4), UINT32_MAX);
    for (unsigned i = 0; i < 2; i++) { /* also where the slot is ejected already */
        unsigned requests = m->request_count;
        load(after);
        assert_int_equal(fake_in32(m, PRESENT), BOARD);
        assert_int_equal(m->request_count, requests + 1);
    }
    gone(d);
}

static void a_state_that_ejects_the_board_is_corrected(void **unused)
{
    enter_main();
    PciDummy *d = plug("addr=6");
    fake_out32(m, EJECT, SLOT(6));
    g_autoptr(GByteArray) saved = save();
    memset(saved->data + saved->len - 4, 0xff, 4); /* ejected, the last field: all slots */
    gone(d);
    load(saved);
    assert_int_equal(fake_in32(m, PRESENT), BOARD);
    assert_int_not_equal(pci_cf8_read(f, 0, 0, 4), UINT32_MAX);
    bql_lock();
    lpc->type->reset(lpc);
    bql_unlock();
    assert_int_equal(fake_in32(m, INSERTED), 0);
}

static void without_a_controller_nothing_is_reported(void **unused)
{
    enter_main();
    fake_device_gone(lpc);
    assert_false(pci_bus_has_hotplug(f->bus));
    PciDummy *d = plug("addr=5");
    assert_int_equal(pci_device_unplug_state(&d->pci), PCI_UNPLUG_NONE);
    gone(d);
    lpc = fake_device(m, "ich9-lpc", NULL);
    assert_true(pci_bus_has_hotplug(f->bus));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_new_device_is_reported_until_the_guest_clears_it),
        T(only_function_0_is_announced),
        T(an_unplug_request_stands_until_the_guest_clears_it),
        T(an_ejected_slot_is_empty_at_once),
        T(msi_x_of_an_ejected_slot_is_silent),
        T(fixed_and_empty_slots_cannot_be_ejected),
        T(other_widths_and_odd_addresses_do_nothing),
        T(a_question_and_an_ejection_survive_a_save),
        T(an_ejection_is_undone_by_a_load),
        T(a_state_that_ejects_the_board_is_corrected),
        T(without_a_controller_nothing_is_reported),
    };
    return cmocka_run_group_tests_name("hw/platform/acpi_hotplug", tests, NULL, NULL);
}
