/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include "tests/support/pci_dummy.h"

#define DEVFN 0x18
#define ROM_REG 0x30
#define ROM_ENABLE 1u
#define ROM_AT 0xd0000000u
#define COMMAND_MEMORY 2u

static PciFixture *f;
static char *folder, *path;

static int set_up(void **unused)
{
    f = pci_fixture_new();
    folder = g_dir_make_tmp("skiff-rom-XXXXXX", NULL);
    path = g_build_filename(folder, "rom", NULL);
    return 0;
}

static int tear_down(void **unused)
{
    g_unlink(path);
    g_rmdir(folder);
    g_free(path);
    g_free(folder);
    pci_fixture_free(f);
    return 0;
}

static void write_rom(gsize size)
{
    g_autofree uint8_t *bytes = g_malloc(size + 1);
    for (gsize i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    assert_true(g_file_set_contents(path, (const char *)bytes, (gssize)size, NULL));
}

static PciDummy *dummy_with_rom(gsize size, const char *more)
{
    g_autofree char *properties = g_strdup_printf("addr=3,romfile=%s%s", path, more);
    write_rom(size);
    return pci_dummy_new(f, properties);
}

static void map_rom(uint32_t value)
{
    pci_cf8_write(f, DEVFN, ROM_REG, value, 4);
    pci_cf8_write(f, DEVFN, 4, COMMAND_MEMORY, 2);
}

static uint64_t read_at(uint64_t offset, unsigned size)
{
    return fake_read(f->m->env.mmio, ROM_AT + offset, size);
}

static void the_guest_reads_the_image_and_ones_behind_it(void **unused)
{
    PciDummy *d = dummy_with_rom(3000, "");
    pci_cf8_write(f, DEVFN, ROM_REG, 0xfffff800, 4); /* the size, as firmware asks for it */
    assert_int_equal(pci_cf8_read(f, DEVFN, ROM_REG, 4), 0xfffff000);
    map_rom(ROM_AT | ROM_ENABLE);
    assert_int_equal(pci_cf8_read(f, DEVFN, ROM_REG, 4), ROM_AT | ROM_ENABLE);
    for (unsigned i = 0; i < 3000; i += 4) {
        uint32_t expected = 0;
        for (unsigned k = 0; k < 4; k++) {
            expected |= (uint32_t)(uint8_t)((i + k) * 7 + ((i + k) >> 8)) << (8 * k);
        }
        assert_int_equal(read_at(i, 4), expected);
    }
    assert_int_equal(read_at(3, 1), 21);
    assert_int_equal(read_at(2998, 8) >> 16, 0xffffffffffff);
    assert_int_equal(read_at(4095, 1), 0xff);
    fake_write(f->m->env.mmio, ROM_AT, 0x12345678, 4);
    assert_int_equal(read_at(1, 1), 7);
    fake_device_gone(&d->pci.base);
}

static void it_decodes_only_with_both_bits_and_follows_its_address(void **unused)
{
    PciDummy *d = dummy_with_rom(2048, "");
    map_rom(ROM_AT);
    assert_null(d->pci.bars[PCI_ROM_BAR].region->space);
    map_rom(ROM_AT | ROM_ENABLE);
    assert_int_equal(read_at(1, 1), 7);
    pci_cf8_write(f, DEVFN, ROM_REG, (ROM_AT + 0x10000) | ROM_ENABLE, 4);
    assert_int_equal(read_at(1, 1), 0xff);
    assert_int_equal(read_at(0x10001, 1), 7);
    pci_cf8_write(f, DEVFN, 4, 0, 2);
    assert_null(d->pci.bars[PCI_ROM_BAR].region->space);
    pci_cf8_write(f, DEVFN, 4, COMMAND_MEMORY, 2);
    bql_lock();
    pci_device_reset(&d->pci);
    bql_unlock();
    assert_int_equal(pci_cf8_read(f, DEVFN, ROM_REG, 4), 0);
    assert_null(d->pci.bars[PCI_ROM_BAR].region->space);
    fake_device_gone(&d->pci.base);
}

static void a_load_maps_it_again(void **unused)
{
    static PciState saved;
    PciDummy *d = dummy_with_rom(5000, "");
    map_rom(ROM_AT | ROM_ENABLE);
    bql_lock();
    pci_device_pre_save(&d->pci);
    saved = d->pci.state;
    pci_device_reset(&d->pci);
    d->pci.state = saved;
    d->pci.state.config[ROM_REG + 1] |= 0x08; /* below the size, where the guest cannot write */
    pci_device_post_load(&d->pci);
    bql_unlock();
    assert_int_equal(pci_cf8_read(f, DEVFN, ROM_REG, 4), ROM_AT | ROM_ENABLE);
    assert_int_equal(read_at(1, 1), 7);
    fake_device_gone(&d->pci.base);
}

static void without_a_rom_the_register_is_0(void **unused)
{
    write_rom(2048);
    const char *const none[] = {"addr=3", "addr=3,romfile=", "addr=3,rombar=off"};
    for (unsigned i = 0; i < G_N_ELEMENTS(none); i++) {
        PciDummy *d = pci_dummy_new(f, none[i]);
        pci_cf8_write(f, DEVFN, ROM_REG, 0xffffffff, 4);
        assert_int_equal(pci_cf8_read(f, DEVFN, ROM_REG, 4), 0);
        fake_device_gone(&d->pci.base);
    }
    PciDummy *d = dummy_with_rom(2048, ",rombar=off");
    pci_cf8_write(f, DEVFN, ROM_REG, 0xffffffff, 4);
    assert_int_equal(pci_cf8_read(f, DEVFN, ROM_REG, 4), 0);
    fake_device_gone(&d->pci.base);
}

static void check_refused(const char *file, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *properties = g_strdup_printf("romfile=%s", file);
    assert_null(fake_device_try(f->m, &pci_dummy_type, properties, &error));
    assert_non_null(strstr(error->message, words));
    assert_non_null(strstr(error->message, file));
}

static void a_file_that_cannot_be_read_is_refused_by_name(void **unused)
{
    check_refused(path, "No such file");
    check_refused(folder, "directory");
    check_refused("/dev/zero", "too large");
    write_rom(0);
    check_refused(path, "is empty");
    write_rom(PCI_ROM_MAX + 1);
    check_refused(path, "too large");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(the_guest_reads_the_image_and_ones_behind_it),
        T(it_decodes_only_with_both_bits_and_follows_its_address),
        T(a_load_maps_it_again),
        T(without_a_rom_the_register_is_0),
        T(a_file_that_cannot_be_read_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
