/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/bootparam.h>
#include "tests/vmm/boot/boot_rig.h"

static int setup(void **state)
{
    return boot_rig_new(state, image_new_bzimage());
}

static const struct boot_params *params(Fixture *f)
{
    return guest(f, f->state.rsi, sizeof(struct boot_params));
}

static void assert_pattern(Fixture *f, uint64_t gpa, size_t size)
{
    const uint8_t *p = guest(f, gpa, size);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(p[i], image_pattern(i));
    }
}

static void kernel_goes_to_its_preferred_address(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    assert_int_equal(f->state.mode, X86_BOOT_LONG64);
    assert_int_equal(f->state.rip, TEST_BZIMAGE_GPA + 0x200);
    assert_pattern(f, TEST_BZIMAGE_GPA, TEST_BZIMAGE_SIZE);
}

/* A kernel loaded below its preferred address moves itself up to it. */
static void relocatable_kernel_is_not_loaded_below_its_preferred_address(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x258, uint64_t, 0x10000000); /* pref_address: not RAM */
    assert_refused(f, "needs 1024 KiB of RAM at 0x10000000, the guest's ends at 0x4000000");
    IMAGE_POKE(f->image, 0x258, uint64_t, RAM_SIZE - X86_MIB + 1); /* RAM except its last byte */
    assert_refused(f, "needs 1024 KiB of RAM at 0x3f00001");
    IMAGE_POKE(f->image, 0x258, uint64_t, RAM_SIZE - X86_MIB);
    assert_boots(f);
    assert_int_equal(f->state.rip, RAM_SIZE - X86_MIB + 0x200);
}

static void relocatable_kernel_moves_up_when_its_range_is_taken(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x258, uint64_t, 0x80000); /* overlaps the EBDA */
    assert_boots(f);
    assert_int_equal(f->state.rip, 0x200000 + 0x200); /* kernel_alignment */
    assert_pattern(f, 0x200000, TEST_BZIMAGE_SIZE);
    assert_int_equal(params(f)->hdr.code32_start, 0x200000);
}

static void a_fixed_kernel_is_refused_with_the_ram_it_needs(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x258, uint64_t, 0x10000000);
    IMAGE_POKE(f->image, 0x234, uint8_t, 0);
    assert_refused(f, "needs 1024 KiB of RAM at 0x10000000");
}

static void preferred_address_above_4g_is_not_used(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x258, uint64_t, UINT64_MAX - 0xfff);
    IMAGE_POKE(f->image, 0x234, uint8_t, 0);
    assert_refused(f, "give more with -m");
}

static void zero_page_carries_header_and_tables(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    const struct boot_params *p = params(f);
    assert_int_equal(p->hdr.header, 0x53726448);
    assert_int_equal(p->hdr.type_of_loader, 0xff);
    assert_int_equal(p->hdr.loadflags & CAN_USE_HEAP, 0);
    assert_int_equal(p->hdr.setup_data, 0);
    assert_int_equal(p->acpi_rsdp_addr, X86_ACPI_BASE);
    assert_int_equal(p->sentinel, 0);
    assert_int_equal(p->hdr.ramdisk_size, 0);
}

static void header_fields_behind_its_end_are_ignored(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x200, uint16_t, 0x56eb); /* header ends at 0x258: no pref_address */
    assert_boots(f);
    assert_int_equal(f->state.rip, X86_MIB + 0x200);
    assert_int_equal(params(f)->hdr.init_size, 0);
}

static void memory_map_has_ram_and_holes(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    const struct boot_params *p = params(f);
    assert_int_equal(p->e820_table[0].addr, 0);
    assert_int_equal(p->e820_table[0].size, X86_EBDA_BASE);
    uint64_t ram = 0, end = 0;
    for (unsigned i = 0; i < p->e820_entries; i++) {
        const struct boot_e820_entry *e = &p->e820_table[i];
        assert_true(e->addr >= end);
        end = e->addr + e->size;
        ram += e->type == 1 ? e->size : 0;
    }
    assert_int_equal(ram, RAM_SIZE - X86_MIB + X86_EBDA_BASE);
}

static void memory_map_covers_ram_above_4g(void **state)
{
    Fixture *f = *state;
    test_ram_clear(&f->ram);
    test_ram_init(&f->ram, 5 * X86_GIB);
    assert_boots(f);
    const struct boot_params *p = params(f);
    const struct boot_e820_entry *last = &p->e820_table[p->e820_entries - 1];
    assert_int_equal(last->addr, X86_4GIB);
    assert_int_equal(last->size, 5 * X86_GIB - X86_LOW_RAM_MAX);
    assert_int_equal(last->type, 1);
}

static const char *guest_string(Fixture *f, uint64_t gpa)
{
    return guest_ram_map(&f->ram.ram, gpa, 1, false);
}

static void command_line_is_passed(void **state)
{
    Fixture *f = *state;
    assert_true(boot(f, NULL, "quiet root=/dev/vda"));
    assert_string_equal(guest_string(f, params(f)->hdr.cmd_line_ptr), "quiet root=/dev/vda");
}

static void default_command_line_is_the_serial_console(void **state)
{
    Fixture *f = *state;
    assert_true(boot(f, NULL, NULL));
    assert_string_equal(guest_string(f, params(f)->hdr.cmd_line_ptr), "console=ttyS0");
}

static void longest_command_line_fits_and_one_more_does_not(void **state)
{
    Fixture *f = *state;
    g_autofree char *text = g_strnfill(2048, 'x');
    assert_false(boot(f, NULL, text));
    assert_non_null(strstr(f->error->message, "at most; -append has 2048"));
    g_clear_error(&f->error);
    text[2047] = '\0';
    assert_true(boot(f, NULL, text));
    assert_int_equal(strlen(guest_string(f, params(f)->hdr.cmd_line_ptr)), 2047);
}

static void several_initrds_are_joined_on_word_boundaries(void **state)
{
    Fixture *f = *state;
    char *a = image_write((const uint8_t *)"first", 5);
    char *b = image_write((const uint8_t *)"second", 6);
    g_autofree char *list = g_strdup_printf("%s,%s", a, b);
    assert_true(boot(f, list, NULL));
    const struct boot_params *p = params(f);
    assert_int_equal(p->hdr.ramdisk_size, 14);
    assert_memory_equal(guest_string(f, p->hdr.ramdisk_image), "first\0\0\0second", 14);
    assert_int_equal(p->hdr.ramdisk_image % 4096, 0);
    image_unlink(a);
    image_unlink(b);
}

static void initrd_stays_below_the_limit_of_the_kernel(void **state)
{
    Fixture *f = *state;
    char *a = image_write((const uint8_t *)"data", 4);
    IMAGE_POKE(f->image, 0x22c, uint32_t, 0x1ffffff); /* initrd_addr_max: 32 MiB */
    assert_true(boot(f, a, NULL));
    assert_int_equal(params(f)->hdr.ramdisk_image, 0x1fff000);
    IMAGE_POKE(f->image, 0x236, uint16_t, XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G);
    assert_true(boot(f, a, NULL));
    assert_int_equal(params(f)->hdr.ramdisk_image, RAM_SIZE - 0x1000);
    image_unlink(a);
}

static void initrd_without_room_is_refused(void **state)
{
    Fixture *f = *state;
    char *a = image_write((const uint8_t *)"data", 4);
    IMAGE_POKE(f->image, 0x22c, uint32_t, 0x1000fff); /* everything below is kernel or firmware */
    IMAGE_POKE(f->image, 0x258, uint64_t, X86_MIB);
    IMAGE_POKE(f->image, 0x260, uint32_t, 0x2000000);
    assert_false(boot(f, a, NULL));
    assert_non_null(strstr(f->error->message, "-initrd"));
    assert_non_null(strstr(f->error->message, "give more with -m"));
    image_unlink(a);
}

static void the_initial_page_tables_map_what_the_kernel_needs(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    const uint64_t *pml4 = guest_ram_map(&f->ram.ram, f->state.cr3, 4096, false);
    const uint64_t *pdpt = guest_ram_map(&f->ram.ram, pml4[0] & ~UINT64_C(0xfff), 4096, false);
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t *pd = guest_ram_map(&f->ram.ram, pdpt[i] & ~UINT64_C(0xfff), 4096, false);
        for (uint64_t j = 0; j < 512; j++) {
            assert_int_equal(pd[j], (i * X86_GIB + j * 2 * X86_MIB) | 0x83);
        }
    }
    const uint64_t *gdt = guest_ram_map(&f->ram.ram, f->state.gdt_base, 32, false);
    assert_int_equal(f->state.gdt_limit, 31);
    assert_true(gdt[f->state.code_selector / 8] & (UINT64_C(1) << 53)); /* L */
}

static void loading_again_after_the_guest_ran_restores_everything(void **state)
{
    Fixture *f = *state;
    const BootTables tables = {.rsdp_gpa = X86_ACPI_BASE};
    char *path = image_write_array(f->image);
    const BootRequest request = {.kernel = path};
    g_autoptr(BootImage) image = boot_open(&request, NULL);
    assert_non_null(image);
    BootState first = {0}, second = {0};
    assert_true(boot_load(image, &f->ram.ram, &tables, &first, NULL));
    memset(f->ram.host, 0xcc, 0x2000000);
    image_unlink(path); /* the file may be deleted meanwhile */
    assert_true(boot_load(image, &f->ram.ram, &tables, &second, NULL));
    assert_memory_equal(&first, &second, sizeof(first));
    assert_pattern(f, TEST_BZIMAGE_GPA, TEST_BZIMAGE_SIZE);
    f->state = second;
    assert_int_equal(params(f)->ext_ramdisk_image, 0);
}

static void assert_boots_by_32_bit_entry(Fixture *f, uint64_t gpa)
{
    assert_boots(f);
    assert_int_equal(f->state.mode, X86_BOOT_PROT32);
    assert_int_equal(f->state.rip, gpa);
    assert_int_equal(f->state.cr3, 0);
    assert_pattern(f, gpa, TEST_BZIMAGE_SIZE);
    assert_int_equal(params(f)->hdr.code32_start, gpa);
    assert_true(params(f)->e820_entries > 0);
}

static void kernel_without_64_bit_entry_boots_by_its_32_bit_one(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x236, uint16_t, 0);
    assert_boots_by_32_bit_entry(f, TEST_BZIMAGE_GPA);
}

static void old_kernel_goes_to_1_mib_and_boots_by_its_32_bit_entry(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x201, uint8_t, 0x2a); /* its header ends at 0x22c, as in version 2.03 */
    IMAGE_POKE(f->image, 0x206, uint16_t, 0x203);
    assert_boots_by_32_bit_entry(f, X86_MIB);
    assert_int_equal(params(f)->hdr.pref_address, 0);
    assert_int_equal(params(f)->hdr.cmdline_size, 255);
    assert_int_equal(params(f)->hdr.initrd_addr_max, 0x37ffffff);
    g_autofree char *text = g_strnfill(256, 'x');
    assert_false(boot(f, NULL, text));
    assert_non_null(strstr(f->error->message, "255 bytes at most; -append has 256"));
}

static void older_boot_protocol_is_refused(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x206, uint16_t, 0x202);
    assert_refused(f, "boot protocol 2.02; skiff needs 2.03");
}

static void programs_that_need_a_bios_are_refused(void **state)
{
    static const char *const names[] = {"iPXE 1.21.1", "MEMDISK 6.04", "gPXE 1.0"};
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x20e, uint16_t, 0x100);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        memcpy(f->image->data + 0x300, names[i], strlen(names[i]) + 1);
        assert_refused(f, "which runs on BIOS calls: -kernel has no BIOS");
    }
    memcpy(f->image->data + 0x300, "6.1.0-amd64", 12);
    assert_boots(f);
    IMAGE_POKE(f->image, 0x20e, uint16_t, 0xffff); /* beyond the file */
    assert_boots(f);
}

static void bios_data_area_has_the_address_of_the_ebda(void **state)
{
    Fixture *f = *state;
    uint16_t words[3];
    assert_boots(f);
    memcpy(&words[0], guest(f, 0x40e, 2), 2);
    memcpy(&words[1], guest(f, 0x413, 2), 2);
    memcpy(&words[2], guest(f, 0x9fc00, 2), 2);
    assert_int_equal(words[0], 0x9fc0);
    assert_int_equal(words[1], 639);
    assert_int_equal(words[2], 1);
}

static void zimage_is_refused(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x211, uint8_t, 0);
    assert_refused(f, "is a zImage");
}

static void announced_size_beyond_the_file_is_truncation(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x1f4, uint32_t, UINT32_MAX);
    assert_refused(f, "is truncated");
}

static void bytes_behind_the_kernel_are_not_loaded(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x1f4, uint32_t, 0x3000 / 16);
    IMAGE_POKE(f->image, 0x260, uint32_t, 0);
    assert_boots(f);
    const uint8_t *end = guest_ram_map(&f->ram.ram, TEST_BZIMAGE_GPA + 0x3000, 1, false);
    assert_int_equal(*end, 0);
}

static void every_truncation_is_refused_or_boots(void **state)
{
    Fixture *f = *state;
    const guint full = f->image->len;
    for (guint len = full - 1; len > 0; len = len > 0x1100 ? len - 0x100 : len - 1) {
        g_byte_array_set_size(f->image, len);
        assert_false(boot(f, NULL, NULL) && len + 15 < full);
        g_clear_error(&f->error);
    }
}

static void every_header_byte_flipped_is_refused_or_boots(void **state)
{
    Fixture *f = *state;
    const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t at = 0x1f1; at < 0x270; at++) {
        const uint8_t before = f->image->data[at];
        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
            f->image->data[at] = values[i];
            bool ok = boot(f, NULL, NULL);
            assert_true(ok == (f->error == NULL));
            g_clear_error(&f->error);
        }
        f->image->data[at] = before;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(kernel_goes_to_its_preferred_address),
        TEST(relocatable_kernel_is_not_loaded_below_its_preferred_address),
        TEST(relocatable_kernel_moves_up_when_its_range_is_taken),
        TEST(a_fixed_kernel_is_refused_with_the_ram_it_needs),
        TEST(preferred_address_above_4g_is_not_used),
        TEST(zero_page_carries_header_and_tables),
        TEST(header_fields_behind_its_end_are_ignored),
        TEST(memory_map_has_ram_and_holes),
        TEST(memory_map_covers_ram_above_4g),
        TEST(command_line_is_passed),
        TEST(default_command_line_is_the_serial_console),
        TEST(longest_command_line_fits_and_one_more_does_not),
        TEST(several_initrds_are_joined_on_word_boundaries),
        TEST(initrd_stays_below_the_limit_of_the_kernel),
        TEST(initrd_without_room_is_refused),
        TEST(the_initial_page_tables_map_what_the_kernel_needs),
        TEST(loading_again_after_the_guest_ran_restores_everything),
        TEST(kernel_without_64_bit_entry_boots_by_its_32_bit_one),
        TEST(old_kernel_goes_to_1_mib_and_boots_by_its_32_bit_entry),
        TEST(older_boot_protocol_is_refused),
        TEST(programs_that_need_a_bios_are_refused),
        TEST(bios_data_area_has_the_address_of_the_ebda),
        TEST(zimage_is_refused),
        TEST(announced_size_beyond_the_file_is_truncation),
        TEST(bytes_behind_the_kernel_are_not_loaded),
        TEST(every_truncation_is_refused_or_boots),
        TEST(every_header_byte_flipped_is_refused_or_boots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
