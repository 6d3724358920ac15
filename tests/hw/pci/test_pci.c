/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/pci/pci_host.h"
#include "tests/support/pci_dummy.h"

#define SLOT(n) ((n) << 3)
#define COMMAND 0x04
#define BAR(n) (0x10 + (n)*4)

static PciFixture *f;

static int set_up(void **unused)
{
    f = pci_fixture_new();
    return 0;
}

static int tear_down(void **unused)
{
    pci_fixture_free(f);
    return 0;
}

static void test_identity_is_read_in_any_width_and_by_both_ways(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=5");
    uint32_t id = PCI_DUMMY_DEVICE << 16 | PCI_DUMMY_VENDOR;
    assert_int_equal(pci_cf8_read(f, SLOT(5), 0, 4), id);
    assert_int_equal(pci_ecam_read(f, SLOT(5), 0, 4), id);
    assert_int_equal(pci_cf8_read(f, SLOT(5), 2, 2), PCI_DUMMY_DEVICE);
    assert_int_equal(pci_cf8_read(f, SLOT(5), 1, 2), (id >> 8) & 0xffff);
    assert_int_equal(pci_cf8_read(f, SLOT(5), 3, 1), id >> 24);
    assert_int_equal(pci_ecam_read(f, SLOT(5), 1, 2), (id >> 8) & 0xffff);
    assert_int_equal(pci_cf8_read(f, SLOT(5), 0x08, 4), 0x00ff0007);
    assert_int_equal(pci_cf8_read(f, SLOT(5), 0x2c, 4), 0x12341af4);
    assert_int_equal(pci_cf8_read(f, SLOT(6), 0, 4), 0xffffffff);
    assert_int_equal(pci_cf8_read(f, SLOT(5) | 1, 0, 4), 0xffffffff);
    fake_device_gone(&d->pci.base);
    assert_int_equal(pci_cf8_read(f, SLOT(5), 0, 4), 0xffffffff);
}

static void test_only_a_32_bit_write_latches_the_address(void **unused)
{
    fake_out32(f->m, 0xcf8, 0xffffffff);
    assert_int_equal(fake_in32(f->m, 0xcf8), 0x80fffffc);
    fake_out32(f->m, 0xcf8, 0x80000000);
    fake_out8(f->m, 0xcf8, 0x44);
    fake_out16(f->m, 0xcf8, 0x4444);
    fake_out16(f->m, 0xcfa, 0x4444);
    assert_int_equal(fake_in32(f->m, 0xcf8), 0x80000000);
    assert_int_equal(fake_in8(f->m, 0xcf8), 0xff);
    assert_int_equal(fake_in32(f->m, 0xcfc), 0x29c08086);
    fake_out32(f->m, 0xcf8, 0); /* not enabled */
    assert_int_equal(fake_in32(f->m, 0xcfc), 0xffffffff);
    fake_out32(f->m, 0xcf8, 0x80010000); /* bus 1 */
    assert_int_equal(fake_in32(f->m, 0xcfc), 0xffffffff);
}

static void test_ecam_ends_where_it_ends(void **unused)
{
    AddressSpace *as = f->m->env.mmio;
    uint64_t ecam = pci_fixture_windows.ecam_base;
    assert_int_equal(pci_ecam_read(f, 0, 0xffc, 4), 0);
    assert_int_equal(pci_ecam_read(f, 0, 0xffe, 4), 0xffffffff); /* crosses the function's end */
    assert_true(fake_read(as, ecam, 8) == UINT64_C(0x29c08086)); /* and nothing in command */
    assert_int_equal(fake_read(as, ecam + (1 << 20), 4), 0xffffffff);
    assert_int_equal(fake_read(as, ecam + (256 << 20) - 1, 1), 0xff);
}

static void test_pciexbar_moves_ecam(void **unused)
{
    assert_int_equal(pci_cf8_read(f, 0, 0x60, 4), 0xb0000001);
    pci_cf8_write(f, 0, 0x60, 0, 4);
    assert_int_equal(pci_ecam_read(f, 0, 0, 4), 0xffffffff);
    pci_cf8_write(f, 0, 0x64, 0, 4);
    pci_cf8_write(f, 0, 0x60, 0xe0000001, 4);
    assert_int_equal(fake_read(f->m->env.mmio, 0xe0000000, 4), 0x29c08086);
    bql_lock();
    f->host->type->reset(f->host);
    bql_unlock();
    assert_int_equal(pci_ecam_read(f, 0, 0, 4), 0x29c08086);
}

static unsigned pam_changes, smm_wishes;

static void count_pam_change(void *opaque)
{
    assert_bql();
    pam_changes++;
}

static void count_smm_wish(void *opaque)
{
    smm_wishes++;
}

static void test_the_board_hears_of_pam_and_of_smm(void **unused)
{
    pam_changes = smm_wishes = 0;
    pci_host_listen(
        f->host, (PciHostListener){.pam_changed = count_pam_change, .smm_wanted = count_smm_wish});
    pci_cf8_write(f, 0, 0x90, 0x31, 1); /* the low nibble of PAM0 does not exist */
    pci_ecam_write(f, 0, 0x93, 0x12, 1);
    pci_ecam_write(f, 0, 0x93, 0x12, 1); /* no change */
    assert_int_equal(pam_changes, 2);
    assert_int_equal(pci_cf8_read(f, 0, 0x90, 4), 0x12000030);
    bql_lock();
    assert_int_equal(pci_host_pam(f->host, 12), 3);
    assert_int_equal(pci_host_pam(f->host, 4), 2); /* 0xd0000 */
    assert_int_equal(pci_host_pam(f->host, 5), 1);
    f->host->type->reset(f->host);
    bql_unlock();
    assert_int_equal(pam_changes, 3);
    assert_int_equal(pci_cf8_read(f, 0, 0x90, 4), 0);
    /* SMRAM stays closed; only the question for its size counts */
    pci_cf8_write(f, 0, 0x9c, 0xffffffff, 4);
    assert_int_equal(pci_cf8_read(f, 0, 0x9c, 4), 0x00380200);
    pci_cf8_write(f, 0, 0x50, 0xffffffff, 4);
    pci_cf8_write(f, 0, 0x50, 0, 2);
    assert_int_equal(smm_wishes, 0);
    pci_cf8_write(f, 0, 0x50, 0xffff, 2);
    assert_int_equal(smm_wishes, 1);
    assert_int_equal(pci_cf8_read(f, 0, 0x50, 2), 0);
}

static void test_bars_tell_their_size(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=3,bar2-size=8G");
    const struct {
        unsigned bar;
        uint32_t low, high;
    } want[] = {{0, 0xffffe000, 0},          /* 6 KiB, rounded up */
                {1, 0xffffffe1, 0},          /* I/O, 32 ports */
                {2, 0x0000000c, 0xfffffffe}, /* 64-bit, prefetchable, 8 GiB */
                {4, 0xfffff000, 0}};         /* MSI-X */
    for (unsigned i = 0; i < G_N_ELEMENTS(want); i++) {
        pci_cf8_write(f, SLOT(3), BAR(want[i].bar), 0xffffffff, 4);
        assert_int_equal(pci_cf8_read(f, SLOT(3), BAR(want[i].bar), 4), want[i].low);
        if (want[i].high != 0) {
            pci_cf8_write(f, SLOT(3), BAR(want[i].bar + 1), 0xffffffff, 4);
            assert_int_equal(pci_cf8_read(f, SLOT(3), BAR(want[i].bar + 1), 4), want[i].high);
        }
    }
    pci_cf8_write(f, SLOT(3), BAR(5), 0xffffffff, 4);
    assert_int_equal(pci_cf8_read(f, SLOT(3), BAR(5), 4), 0);
    fake_device_gone(&d->pci.base);
}

static void test_bar_is_mapped_where_decode_and_windows_let_it(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=3");
    pci_cf8_write(f, SLOT(3), BAR(0), 0xd0000000, 4);
    assert_null(d->mem.space); /* decode is off */
    pci_cf8_write(f, SLOT(3), COMMAND, 2, 2);
    assert_ptr_equal(d->mem.space, f->m->env.mmio);
    assert_int_equal(fake_read(f->m->env.mmio, 0xd0000000, 4), 0x5a5a5a5a);
    pci_cf8_write(f, SLOT(3), BAR(0), 0xd0010000, 4);
    assert_int_equal(d->mem.base, 0xd0010000);
    pci_cf8_write(f, SLOT(3), BAR(0), 0x10000000, 4); /* where RAM may be */
    assert_null(d->mem.space);
    pci_cf8_write(f, SLOT(3), BAR(0), 0xfffff000, 4); /* beyond the window */
    assert_null(d->mem.space);
    /* a 64-bit one, moved half by half */
    pci_cf8_write(f, SLOT(3), BAR(2), 0xc8000000, 4);
    assert_int_equal(d->big.base, 0xc8000000);
    pci_cf8_write(f, SLOT(3), BAR(3), 0x40, 4);
    assert_true(d->big.base == UINT64_C(0x40c8000000));
    pci_cf8_write(f, SLOT(3), BAR(3), 0xffffffff, 4);
    assert_null(d->big.space);
    /* I/O: not over the board's ports */
    pci_cf8_write(f, SLOT(3), BAR(1), 0x3e0, 4);
    pci_cf8_write(f, SLOT(3), COMMAND, 1, 2);
    assert_null(d->io.space);
    pci_cf8_write(f, SLOT(3), BAR(1), 0xc000, 4);
    assert_int_equal(d->io.base, 0xc000);
    assert_int_equal(fake_in8(f->m, 0xc01f), 0x5a);
    pci_cf8_write(f, SLOT(3), BAR(1), 0x1c000, 4);
    assert_null(d->io.space);
    fake_device_gone(&d->pci.base);
}

static void test_overlapping_bars_are_safe(void **unused)
{
    PciDummy *a = pci_dummy_new(f, "addr=3"), *b = pci_dummy_new(f, "addr=4");
    for (unsigned slot = 3; slot <= 4; slot++) {
        for (unsigned bar = 0; bar < 5; bar += bar == 2 ? 2 : 1) {
            pci_cf8_write(f, SLOT(slot), BAR(bar), bar == 1 ? 0xc000 : 0xd0000000, 4);
        }
        pci_cf8_write(f, SLOT(slot), COMMAND, 3, 2);
    }
    for (unsigned i = 0; i < 0x4000; i += 4) {
        fake_write(f->m->env.mmio, 0xd0000000 + i, ~0u, 4);
        fake_read(f->m->env.mmio, 0xd0000000 + i, 8);
    }
    fake_device_gone(&a->pci.base);
    assert_int_equal(fake_in8(f->m, 0xc000), 0x5a); /* the other one is still there */
    fake_device_gone(&b->pci.base);
}

static void test_read_only_bits_stay_and_status_bits_clear_by_one(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=3");
    for (unsigned offset = 0; offset < 256; offset += 4) {
        pci_cf8_write(f, SLOT(3), offset, 0xffffffff, 4);
    }
    assert_int_equal(pci_cf8_read(f, SLOT(3), 0, 4), PCI_DUMMY_DEVICE << 16 | PCI_DUMMY_VENDOR);
    assert_int_equal(pci_cf8_read(f, SLOT(3), COMMAND, 2), 0x0547);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 0x06, 2), 0x0010);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 0x3d, 1), 1);
    d->pci.state.config[7] |= 0x20; /* received master abort */
    pci_cf8_write(f, SLOT(3), 0x06, 0, 2);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 0x06, 2), 0x2010);
    pci_cf8_write(f, SLOT(3), 0x06, 0x2000, 2);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 0x06, 2), 0x0010);
    fake_device_gone(&d->pci.base);
}

static void test_capabilities_are_a_list(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=3");
    unsigned at = pci_cf8_read(f, SLOT(3), 0x34, 1), count = 0;
    bool msix = false, vendor = false;
    for (; at != 0 && count < 10; count++) {
        unsigned id = pci_cf8_read(f, SLOT(3), at, 1);
        msix |= id == 0x11;
        vendor |= id == 0x09 && at == d->cap;
        at = pci_cf8_read(f, SLOT(3), at + 1, 1);
    }
    assert_int_equal(count, 2);
    assert_true(msix && vendor);
    unsigned before = d->config_writes;
    pci_cf8_write(f, SLOT(3), d->cap + 4u, 0x12345678, 4);
    pci_cf8_write(f, SLOT(3), d->cap + 4u, 0x12345678, 4);
    assert_int_equal(d->config_writes, before + 1); /* told once: the second changed nothing */
    fake_device_gone(&d->pci.base);
}

static bool set_and_realize(const char *properties, GError **error)
{
    Device *dev = device_new(&pci_dummy_type, &f->m->env, NULL);
    g_autoptr(OptDict) dict = opt_dict_parse(properties, NULL, NULL);
    bool ok = device_set_properties(dev, dict, error) && device_realize(dev, error);
    device_free(ok ? NULL : dev);
    if (ok) {
        fake_device_gone(dev);
    }
    return ok;
}

static void test_addresses_are_checked(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=1f.0");
    const char *const bad[] = {"addr=20",    "addr=3.8",  "addr=x",     "addr=",     "addr=3.",
                               "addr=-1",    "addr= 3",   "addr=0",     "addr=1f.0", "addr=1f.2",
                               "addr=3.0.0", "vectors=0", "vectors=129"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        if (set_and_realize(bad[i], &error)) {
            fail_msg("%s was taken", bad[i]);
        }
        assert_non_null(error);
    }
    assert_true(set_and_realize("addr=3.0", NULL));
    assert_true(set_and_realize("addr=03.7", NULL));
    fake_device_gone(&d->pci.base);
}

/* The property reads as QEMU's: two digits of the slot, and the function. */
static void test_the_address_property_shows_the_place(void **unused)
{
    static const struct {
        const char *options, *addr;
    } cases[] = {{"vectors=1", "01.0"},
                 {"addr=7,multifunction=on", "07.0"},
                 {"addr=7.3", "07.3"},
                 {"vectors=1", "02.0"},
                 {"addr=1f", "1f.0"}};
    PciDummy *d[G_N_ELEMENTS(cases)];
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        d[i] = pci_dummy_new(f, cases[i].options);
        assert_string_equal(d[i]->pci.addr, cases[i].addr);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        fake_device_gone(&d[i]->pci.base);
    }
}

static void test_a_full_bus_is_an_error(void **unused)
{
    PciDummy *d[31];
    for (unsigned i = 0; i < 31; i++) {
        d[i] = pci_dummy_new(f, "vectors=1");
        assert_int_equal(d[i]->pci.devfn, SLOT(i + 1));
    }
    g_autoptr(GError) error = NULL;
    assert_false(set_and_realize("vectors=1", &error));
    assert_non_null(error);
    for (unsigned i = 0; i < 31; i++) {
        fake_device_gone(&d[i]->pci.base);
    }
}

static void test_functions_share_a_slot_that_allows_it(void **unused)
{
    PciDummy *a = pci_dummy_new(f, "addr=7,multifunction=on"), *b = pci_dummy_new(f, "addr=7.3");
    assert_int_equal(pci_cf8_read(f, SLOT(7), 0x0e, 1), 0x80);
    assert_int_equal(pci_cf8_read(f, SLOT(7) | 3, 0, 2), PCI_DUMMY_VENDOR);
    fake_device_gone(&a->pci.base);
    fake_device_gone(&b->pci.base);
}

static void test_intx_follows_cause_disable_bit_and_status(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=3");
    unsigned gsi = 16 + pci_intx_gate(SLOT(3), 1);
    assert_int_equal(gsi, 19);
    pci_dummy_set_cause(d, true);
    assert_true(f->m->gsi_level[gsi]);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 6, 2), 0x18);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 4, 4), 0x180000);
    pci_cf8_write(f, SLOT(3), COMMAND, 0x400, 2);
    assert_false(f->m->gsi_level[gsi]);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 6, 1), 0x18); /* the cause is still reported */
    pci_cf8_write(f, SLOT(3), COMMAND, 0, 2);
    assert_true(f->m->gsi_level[gsi]);
    pci_dummy_set_cause(d, false);
    assert_false(f->m->gsi_level[gsi]);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 6, 2), 0x10);
    /* a reset lowers the line */
    pci_dummy_set_cause(d, true);
    bql_lock();
    d->pci.base.type->reset(&d->pci.base);
    bql_unlock();
    assert_false(f->m->gsi_level[gsi]);
    /* so does an unplug */
    pci_dummy_set_cause(d, true);
    fake_device_gone(&d->pci.base);
    assert_false(f->m->gsi_level[gsi]);
}

static void test_resources_are_assigned_as_firmware_would(void **unused)
{
    PciDummy *a = pci_dummy_new(f, "addr=3,bar2-size=64M");
    PciDummy *b = pci_dummy_new(f, "addr=4,bar2-size=16G");
    bql_lock();
    pci_bus_assign_resources(f->bus);
    bql_unlock();
    PciDummy *const both[] = {a, b};
    for (unsigned i = 0; i < 2; i++) {
        const IoRegion *regions[] = {&both[i]->mem, &both[i]->io, &both[i]->big,
                                     &both[i]->pci.msix.region};
        for (unsigned r = 0; r < 4; r++) {
            assert_non_null(regions[r]->space);
            assert_int_equal(regions[r]->base % both[i]->pci.bars[r == 3 ? 4 : r].size, 0);
        }
        assert_int_equal(pci_cf8_read(f, both[i]->pci.devfn, COMMAND, 2), 3);
        assert_int_equal(pci_cf8_read(f, both[i]->pci.devfn, 0x3c, 1),
                         16 + pci_intx_gate(both[i]->pci.devfn, 1));
    }
    assert_true(a->big.base >= 0xc0000000 && a->big.base < 0xfec00000);
    assert_true(b->big.base == pci_fixture_windows.mmio64_base);
    assert_int_equal(pci_cf8_read(f, SLOT(3), BAR(1), 4) & 1, 1);
    assert_true(a->mem.base != b->mem.base && a->io.base != b->io.base);
    /* the same again after a reset */
    uint64_t base = a->mem.base;
    bql_lock();
    a->pci.base.type->reset(&a->pci.base);
    assert_null(a->mem.space);
    pci_bus_assign_resources(f->bus);
    bql_unlock();
    assert_int_equal(a->mem.base, base);
    fake_device_gone(&a->pci.base);
    fake_device_gone(&b->pci.base);
}

static void test_config_space_survives_save_and_load(void **unused)
{
    PciDummy *d = pci_dummy_new(f, "addr=3");
    pci_cf8_write(f, SLOT(3), BAR(0), 0xd0000000, 4);
    pci_cf8_write(f, SLOT(3), COMMAND, 2, 2);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    state_save(&pci_device_state_desc, d, saved);
    bql_lock();
    d->pci.base.type->reset(&d->pci.base);
    bql_unlock();
    assert_null(d->mem.space);
    size_t used = 0;
    assert_true(state_load(&pci_device_state_desc, d, saved->data, saved->len, &used, NULL));
    assert_int_equal(used, saved->len);
    memset(d->pci.state.config, 0xee, 4); /* a stream with wrong read-only bytes */
    bql_lock();
    pci_device_post_load(&d->pci);
    bql_unlock();
    assert_int_equal(d->mem.base, 0xd0000000);
    assert_int_equal(pci_cf8_read(f, SLOT(3), 0, 2), PCI_DUMMY_VENDOR);
    fake_device_gone(&d->pci.base);
}

static void test_state_tables_cover_their_structs(void **unused)
{
    assert_true(state_check_coverage(&pci_device_state_desc, NULL));
    assert_true(state_check_coverage(f->host->type->state, NULL));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity_is_read_in_any_width_and_by_both_ways),
        TEST(test_only_a_32_bit_write_latches_the_address),
        TEST(test_ecam_ends_where_it_ends),
        TEST(test_pciexbar_moves_ecam),
        TEST(test_the_board_hears_of_pam_and_of_smm),
        TEST(test_bars_tell_their_size),
        TEST(test_bar_is_mapped_where_decode_and_windows_let_it),
        TEST(test_overlapping_bars_are_safe),
        TEST(test_read_only_bits_stay_and_status_bits_clear_by_one),
        TEST(test_capabilities_are_a_list),
        TEST(test_addresses_are_checked),
        TEST(test_the_address_property_shows_the_place),
        TEST(test_a_full_bus_is_an_error),
        TEST(test_functions_share_a_slot_that_allows_it),
        TEST(test_intx_follows_cause_disable_bit_and_status),
        TEST(test_resources_are_assigned_as_firmware_would),
        TEST(test_config_space_survives_save_and_load),
        TEST(test_state_tables_cover_their_structs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
