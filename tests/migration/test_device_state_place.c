/* SPDX-License-Identifier: Apache-2.0 */
/* Where the guest has put devices, and which of them it has ejected. */
#include "hw/platform/acpi_hotplug.h"
#include "tests/migration/device_state_rig.h"

static void config_write(DeviceRack *r, const char *name, unsigned offset, uint32_t value)
{
    const PciDevice *pci = (const PciDevice *)(void *)device_rack_find(r, name);
    uint64_t ecam = pci_bus_windows(r->bench->bus)->ecam_base + ((uint64_t)pci->devfn << 12);
    fake_write(r->m->env.mmio, ecam + offset, value, 4);
}

/* Where the BARs of all devices decode: "DEVICE:BAR@BASE". */
static char *decoded(const DeviceRack *r)
{
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; i < r->devices->len; i++) {
        const Device *dev = r->devices->pdata[i];
        const PciDevice *pci = (const PciDevice *)(const void *)dev;
        for (unsigned n = 0; dev->type->base_state == &pci_device_state_desc && n < PCI_MAX_BARS;
             n++) {
            const IoRegion *region = pci->bars[n].region;
            if (region != NULL && region->space != NULL) {
                g_string_append_printf(out, "%s:%u@%" G_GINT64_MODIFIER "x ", dev->path, n,
                                       region->base);
            }
        }
    }
    return g_string_free(out, FALSE);
}

static void what_the_guest_has_moved_is_where_it_was(void **state)
{
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    g_autofree char *first = decoded(r);
    device_rack_stir(r, true);
    config_write(r, "ich9-lpc", 0x40, 0xb001);           /* PMBASE */
    config_write(r, "i6300esb", 0x10, 0xb0000000);       /* BAR 0 */
    config_write(r, "virtio-balloon-pci", 0x04, 4);      /* decodes nothing */
    config_write(r, "pcie-root-port", 0x20, 0x0000fff0); /* the window is closed */
    device_rack_stop(r);
    g_autofree char *moved = decoded(r);
    Left l = {.stream = device_rack_save(r, NULL)};
    l.guest = device_rack_leave(r);
    device_rack_free(r);
    assert_non_null(strstr(first, "virtio-balloon-pci:"));
    assert_null(strstr(moved, "virtio-balloon-pci:"));
    assert_non_null(strstr(first, "virtio-rng-pci.2:"));
    assert_null(strstr(moved, "virtio-rng-pci.2:"));
    assert_non_null(strstr(moved, "i6300esb:0@b0000000"));

    r = arrive(&l);
    load(r, &l);
    g_autofree char *loaded = decoded(r);
    assert_string_equal(loaded, moved);
    assert_int_equal(fake_in16(r->m, 0xb002), 0x0101); /* PM1_EN */
    assert_int_equal(fake_in16(r->m, 0x602), 0xffff);
    device_rack_free(r);
    left_clear(&l);
}

/* ---- slots ---- */

static bool hidden(const DeviceRack *r, const char *name)
{
    bql_lock();
    bool is = pci_device_hidden((const PciDevice *)(void *)device_rack_find(r, name));
    bql_unlock();
    return is;
}

static void eject(DeviceRack *r, const char *name)
{
    const PciDevice *pci = (const PciDevice *)(void *)device_rack_find(r, name);
    fake_out32(r->m, ACPI_HOTPLUG_PORT + 0xc, 1u << (pci->devfn >> 3));
}

/* It decodes nothing, drives no line, and main is asked to unplug it. */
static void a_device_that_was_ejected_stays_hidden_and_is_unplugged(void **state)
{
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stir(r, false);
    eject(r, "virtio-balloon-pci");
    device_rack_stop(r);
    Left l = {.stream = device_rack_save(r, NULL)};
    l.guest = device_rack_leave(r);
    device_rack_free(r);

    r = arrive(&l);
    assert_false(hidden(r, "virtio-balloon-pci"));
    load(r, &l);
    assert_true(hidden(r, "virtio-balloon-pci"));
    assert_int_equal(fake_machine_last_request(r->m).request, VM_REQUEST_UNPLUG);
    g_autofree char *loaded = decoded(r);
    assert_null(strstr(loaded, "virtio-balloon-pci:"));
    assert_int_equal(device_rack_intx(r), l.guest->intx);
    g_autoptr(GByteArray) again = device_rack_save(r, NULL);
    assert_streams_equal(l.stream, again);
    device_rack_free(r);
    left_clear(&l);
}

/* A machine goes back to a state in which the slot was full. */
static void a_device_that_was_not_ejected_is_there_again(void **state)
{
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stir(r, false);
    device_rack_stop(r);
    Left l = {.stream = device_rack_save(r, NULL)};
    l.guest = device_rack_leave(r);
    g_autofree char *before = decoded(r);
    device_rack_start(r);
    eject(r, "virtio-balloon-pci");
    device_rack_stop(r);
    assert_true(hidden(r, "virtio-balloon-pci"));
    device_rack_adopt(r, l.guest);
    load(r, &l);
    assert_false(hidden(r, "virtio-balloon-pci"));
    g_autofree char *after = decoded(r);
    assert_string_equal(before, after);
    assert_int_equal(device_rack_intx(r), l.guest->intx);
    assert_memory_equal(r->m->gsi_level, l.guest->gsi_level, sizeof(l.guest->gsi_level));
    device_rack_free(r);
    left_clear(&l);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_guest_has_moved_is_where_it_was),
        cmocka_unit_test(a_device_that_was_ejected_stays_hidden_and_is_unplugged),
        cmocka_unit_test(a_device_that_was_not_ejected_is_there_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
