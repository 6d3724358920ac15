/* SPDX-License-Identifier: Apache-2.0 */
/* The software page walk on tables built here: every paging mode, and malicious tables. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/arch/arch.h"
#include "vmm/machine/guest_memory.h"

#define RAM_SIZE 0x400000u
#define ROM_GPA 0xfffff000u
#define HIGH_GPA (UINT64_C(1) << 32)

#define P 1u
#define W 2u
#define U 4u
#define PS 0x80u
#define NX (UINT64_C(1) << 63)

static uint8_t low[RAM_SIZE], rom[0x1000], high[0x400000];
static GuestRam ram;

static int make_ram(void **unused)
{
    memset(low, 0, sizeof(low));
    memset(high, 0, sizeof(high));
    ram = (GuestRam){0};
    guest_ram_add(&ram, &(RamBlock){.gpa = 0, .size = sizeof(low), .host = low});
    guest_ram_add(&ram,
                  &(RamBlock){.gpa = ROM_GPA, .size = sizeof(rom), .host = rom, .read_only = true});
    guest_ram_add(&ram, &(RamBlock){.gpa = HIGH_GPA, .size = sizeof(high), .host = high});
    return 0;
}

static void put64(uint64_t table, unsigned index, uint64_t entry)
{
    memcpy(low + table + index * 8, &entry, 8);
}

static void put32(uint64_t table, unsigned index, uint32_t entry)
{
    memcpy(low + table + index * 4, &entry, 4);
}

static const ArchPaging paging_off = {.cr0 = X86_CR0_PE};
static const ArchPaging paging_32 = {.cr0 = X86_CR0_PE | X86_CR0_PG, .cr3 = 0x1000};
static const ArchPaging paging_pse = {
    .cr0 = X86_CR0_PE | X86_CR0_PG, .cr3 = 0x1000, .cr4 = X86_CR4_PSE};
static const ArchPaging paging_pae = {
    .cr0 = X86_CR0_PE | X86_CR0_PG, .cr3 = 0x1020, .cr4 = X86_CR4_PAE, .efer = X86_EFER_NXE};
static const ArchPaging paging_4 = {.cr0 = X86_CR0_PE | X86_CR0_PG,
                                    .cr3 = 0x1000,
                                    .cr4 = X86_CR4_PAE,
                                    .efer = X86_EFER_LMA | X86_EFER_NXE};
static const ArchPaging paging_5 = {.cr0 = X86_CR0_PE | X86_CR0_PG,
                                    .cr3 = 0x1000,
                                    .cr4 = X86_CR4_PAE | X86_CR4_LA57,
                                    .efer = X86_EFER_LMA | X86_EFER_NXE};

static ArchTranslation translate(const ArchPaging *paging, uint64_t gva)
{
    ArchTranslation t;
    GError *error = NULL;
    bool ok = arch_translate(paging, &ram, gva, &t, &error);
    assert_null(error);
    assert_true(ok);
    return t;
}

static void assert_refused(const ArchPaging *paging, uint64_t gva, const char *why)
{
    ArchTranslation t;
    g_autoptr(GError) error = NULL;
    assert_false(arch_translate(paging, &ram, gva, &t, &error));
    assert_non_null(error);
    if (strstr(error->message, why) == NULL) {
        fail_msg("'%s' does not contain '%s'", error->message, why);
    }
}

static void test_without_paging_addresses_are_physical(void **unused)
{
    assert_int_equal(translate(&paging_off, 0x1234).gpa, 0x1234);
    assert_int_equal(translate(&paging_off, 0xffffffff).gpa, 0xffffffff);
    assert_refused(&paging_off, HIGH_GPA, "canonical");
}

static void test_32_bit_tables_have_two_levels(void **unused)
{
    put32(0x1000, 0x300, 0x2000 | P | W);
    put32(0x2000, 5, 0x3000 | P | W | U);
    ArchTranslation t = translate(&paging_32, 0xc0005678);
    assert_int_equal(t.gpa, 0x3678);
    assert_int_equal(t.page_size, 0x1000);
    assert_true(t.writable && !t.user && t.executable);
    assert_refused(&paging_32, 0xc0006000, "not mapped");
    assert_refused(&paging_32, 0x1000, "not mapped");
    assert_refused(&paging_32, UINT64_C(0xffffffffc0005678), "canonical");
}

static void test_32_bit_large_pages_need_pse_and_reach_above_4_gib(void **unused)
{
    put32(0x1000, 1, 0x00002000 | P | PS); /* bits 20:13: 1 << 32 */
    put32(0x2000, 0, 0x00003000 | P);
    ArchTranslation t = translate(&paging_pse, 0x00654321);
    assert_int_equal(t.gpa, HIGH_GPA + 0x254321);
    assert_int_equal(t.page_size, 0x400000);
    assert_int_equal(translate(&paging_32, 0x00400021).gpa, 0x3021); /* the bit is ignored */
}

static void test_pae_tables_have_three_levels_and_rights_below_the_first(void **unused)
{
    put64(0x1020, 3, 0x2000 | P);
    put64(0x2000, 1, HIGH_GPA | P | W | U | PS);
    put64(0x2000, 2, 0x3000 | P | W | U);
    put64(0x3000, 7, 0x5000 | P | U | NX);
    ArchTranslation t = translate(&paging_pae, 0xc0212345);
    assert_int_equal(t.gpa, HIGH_GPA + 0x12345);
    assert_int_equal(t.page_size, 0x200000);
    assert_true(t.writable && t.user && t.executable);
    t = translate(&paging_pae, 0xc0407010);
    assert_int_equal(t.gpa, 0x5010);
    assert_true(!t.writable && t.user && !t.executable);
    assert_refused(&paging_pae, 0x80000000, "not mapped");
}

static void test_64_bit_tables_have_four_levels(void **unused)
{
    uint64_t gva = UINT64_C(0xffffffff81003abc); /* 511, 510, 8, 3 */
    put64(0x1000, 511, 0x2000 | P | W);
    put64(0x2000, 510, 0x3000 | P | W);
    put64(0x3000, 8, 0x4000 | P | W);
    put64(0x4000, 3, 0x5000 | P | NX);
    ArchTranslation t = translate(&paging_4, gva);
    assert_int_equal(t.gpa, 0x5abc);
    assert_true(!t.writable && !t.user && !t.executable);
    assert_refused(&paging_4, gva + 0x1000, "not mapped");
    assert_refused(&paging_4, UINT64_C(0x0000800000000000), "canonical");
    assert_refused(&paging_4, UINT64_C(0xffff7fffffffffff), "canonical");
}

static void test_64_bit_large_pages_have_2_mib_and_1_gib(void **unused)
{
    put64(0x1000, 0, 0x2000 | P | W | U);
    put64(0x2000, 0, 0x3000 | P | W | U);
    put64(0x3000, 1, 0x200000 | P | W | U | PS | 0x1000); /* bit 12 is PAT */
    put64(0x2000, 1, HIGH_GPA | P | W | U | PS | 0x1000);
    ArchTranslation t = translate(&paging_4, 0x2abcde);
    assert_int_equal(t.gpa, 0x2abcde);
    assert_int_equal(t.page_size, 0x200000);
    t = translate(&paging_4, 0x40123456);
    assert_int_equal(t.gpa, HIGH_GPA + 0x123456);
    assert_int_equal(t.page_size, 0x40000000);
}

static void test_57_bit_addresses_have_five_levels(void **unused)
{
    put64(0x1000, 1, 0x2000 | P | W);
    put64(0x2000, 0, 0x3000 | P | W);
    put64(0x3000, 0, 0x4000 | P | W);
    put64(0x4000, 0, 0x5000 | P | W);
    put64(0x5000, 2, 0x6000 | P | W);
    assert_int_equal(translate(&paging_5, UINT64_C(0x0001000000002010)).gpa, 0x6010);
    assert_refused(&paging_5, UINT64_C(0x0100000000000000), "canonical");
    assert_refused(&paging_5, UINT64_C(0xffff000000000000), "not mapped");
}

static void test_tables_out_of_ram_are_an_error(void **unused)
{
    ArchPaging lost = paging_4;
    lost.cr3 = UINT64_C(0x000ffffffffff000);
    assert_refused(&lost, 0, "not in RAM");
    put64(0x1000, 0, UINT64_C(0x000ffffffffff000) | P);
    assert_refused(&paging_4, 0, "not in RAM");
    put64(0x1000, 0, RAM_SIZE | P);
    assert_refused(&paging_4, 0, "not in RAM");
    uint8_t byte;
    put64(0x1000, 0, 0x2000 | P);
    put64(0x2000, 0, UINT64_C(0x000fffffc0000000) | P | PS); /* maps a page without memory */
    assert_int_equal(translate(&paging_4, 1).gpa, UINT64_C(0x000fffffc0000001));
    g_autoptr(GError) error = NULL;
    assert_false(guest_paging_read(&paging_4, &ram, 1, &byte, 1, &error));
    assert_non_null(strstr(error->message, "no RAM"));
}

static void test_a_table_that_points_at_itself_is_walked_once_per_level(void **unused)
{
    put64(0x1000, 0, 0x1000 | P | W);
    put64(0x1000, 511, 0x1000 | P | W);
    assert_int_equal(translate(&paging_4, 0x18).gpa, 0x1018);
    assert_int_equal(translate(&paging_4, UINT64_MAX).gpa, 0x1fff);
    assert_int_equal(translate(&paging_5, 0x18).gpa, 0x1018);
}

/* With any contents of the tables, a walk ends with an address or an error. */
static void test_random_tables_do_no_harm(void **unused)
{
    static const ArchPaging *const modes[] = {&paging_off, &paging_32, &paging_pse,
                                              &paging_pae, &paging_4,  &paging_5};
    srandom(1);
    for (size_t i = 0; i < sizeof(low); i += 4) {
        uint32_t word = (uint32_t)random();
        word = (i & 4) != 0 ? word & 0x80000001 : (word & 0x3fffff) | (uint32_t)random() % 2;
        memcpy(low + i, &word, 4);
    }
    unsigned found = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t gva = (uint64_t)random() << 33 ^ (uint64_t)random() << 11 ^ (uint64_t)random();
        ArchPaging paging = *modes[i % G_N_ELEMENTS(modes)];
        paging.cr3 = (uint64_t)random() & 0x3fffff;
        gva = (i & 8) != 0 ? gva & 0xffffffff : (uint64_t)((int64_t)(gva << 16) >> 16);
        ArchTranslation t;
        g_autoptr(GError) error = NULL;
        bool ok = arch_translate(&paging, &ram, gva, &t, &error);
        assert_true(ok == (error == NULL));
        found += ok;
    }
    assert_true(found > 1000);
}

static void test_accesses_cross_pages_or_change_nothing(void **unused)
{
    put64(0x1000, 0, 0x2000 | P | W);
    put64(0x2000, 0, 0x3000 | P | W);
    put64(0x3000, 0, 0x4000 | P | W);
    put64(0x4000, 0, 0x9000 | P);
    put64(0x4000, 1, 0x7000 | P);
    put64(0x4000, 3, ROM_GPA | P);
    memset(low + 0x7000, 0, 0x1000);
    assert_true(guest_paging_write(&paging_4, &ram, 0xffe, "abcd", 4, NULL));
    assert_memory_equal(low + 0x9ffe, "ab", 2);
    assert_memory_equal(low + 0x7000, "cd", 2);
    char text[4];
    assert_true(guest_paging_read(&paging_4, &ram, 0xffe, text, 4, NULL));
    assert_memory_equal(text, "abcd", 4);
    g_autoptr(GError) error = NULL;
    assert_false(guest_paging_write(&paging_4, &ram, 0x1ffe, "abcd", 4, &error));
    assert_non_null(strstr(error->message, "0x2000 is not mapped"));
    assert_int_equal(low[0x7ffe], 0);
    assert_true(guest_paging_write(&paging_4, &ram, 0x3000, "\xcc", 1, NULL)); /* a breakpoint */
    assert_int_equal(rom[0], 0xcc);
}

static void test_physical_accesses_reach_ram_and_rom_only(void **unused)
{
    uint8_t bytes[4] = {1, 2, 3, 4}, back[4];
    assert_true(guest_physical_write(&ram, UINT64_C(0xfffffffe), bytes, 4, NULL));
    assert_int_equal(rom[0xfff], 2);
    assert_int_equal(high[0], 3);
    assert_true(guest_physical_read(&ram, UINT64_C(0xfffffffe), back, 4, NULL));
    assert_memory_equal(bytes, back, 4);
    g_autoptr(GError) error = NULL;
    assert_false(guest_physical_read(&ram, RAM_SIZE - 2, back, 4, &error));
    assert_non_null(strstr(error->message, "0x400000"));
    assert_false(guest_physical_read(&ram, UINT64_MAX, back, 2, NULL));
    assert_true(guest_physical_read(&ram, UINT64_MAX, back, 0, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_without_paging_addresses_are_physical, make_ram),
        cmocka_unit_test_setup(test_32_bit_tables_have_two_levels, make_ram),
        cmocka_unit_test_setup(test_32_bit_large_pages_need_pse_and_reach_above_4_gib, make_ram),
        cmocka_unit_test_setup(test_pae_tables_have_three_levels_and_rights_below_the_first,
                               make_ram),
        cmocka_unit_test_setup(test_64_bit_tables_have_four_levels, make_ram),
        cmocka_unit_test_setup(test_64_bit_large_pages_have_2_mib_and_1_gib, make_ram),
        cmocka_unit_test_setup(test_57_bit_addresses_have_five_levels, make_ram),
        cmocka_unit_test_setup(test_tables_out_of_ram_are_an_error, make_ram),
        cmocka_unit_test_setup(test_a_table_that_points_at_itself_is_walked_once_per_level,
                               make_ram),
        cmocka_unit_test_setup(test_random_tables_do_no_harm, make_ram),
        cmocka_unit_test_setup(test_accesses_cross_pages_or_change_nothing, make_ram),
        cmocka_unit_test_setup(test_physical_accesses_reach_ram_and_rom_only, make_ram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
