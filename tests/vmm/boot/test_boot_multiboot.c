/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vmm/boot/boot_rig.h"

#define HEADER_OFFSET 0x40 /* in a flat image */
#define HEADER_GPA (LOAD_GPA + HEADER_OFFSET)
#define LOAD_GPA 0x300000
#define FLAT_SIZE 0x1000
#define ELF_HEADER_OFFSET 0x800 /* in an ELF image, between headers and data */

typedef struct Info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, module_count, modules;
    uint32_t symbols[4], memmap_size, memmap, drives[2], config, loader_name;
} Info;

/* A kernel that is not an ELF file: the header has its load address. */
static GByteArray *new_flat(void)
{
    const uint32_t addresses[5] = {HEADER_GPA, LOAD_GPA, LOAD_GPA + 0x800, LOAD_GPA + 0x2000,
                                   LOAD_GPA + 0x100};
    GByteArray *image = g_byte_array_new();
    g_byte_array_set_size(image, FLAT_SIZE);
    for (size_t i = 0; i < FLAT_SIZE; i++) {
        image->data[i] = image_pattern(i);
    }
    image_put_multiboot(image, HEADER_OFFSET, 1u << 16);
    image_poke(image, HEADER_OFFSET + 12, addresses, sizeof(addresses));
    return image;
}

static int setup(void **state)
{
    return boot_rig_new(state, new_flat());
}

static int setup_elf(void **state)
{
    boot_rig_new(state, image_new_elf32(0));
    image_put_multiboot(((Fixture *)*state)->image, ELF_HEADER_OFFSET, 3);
    return 0;
}

static void poke_address(Fixture *f, unsigned which, uint32_t value)
{
    IMAGE_POKE(f->image, HEADER_OFFSET + 12 + 4 * which, uint32_t, value);
}

static void registers_match_the_protocol(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    assert_int_equal(f->state.mode, X86_BOOT_PROT32);
    assert_int_equal(f->state.rax, 0x2badb002);
    assert_int_equal(f->state.rip, LOAD_GPA + 0x100);
}

static void flat_kernel_is_loaded_by_its_addresses(void **state)
{
    Fixture *f = *state;
    memset(f->ram.host + LOAD_GPA, 0xcc, 0x4000);
    assert_boots(f);
    assert_memory_equal(guest(f, LOAD_GPA, 0x800), f->image->data, 0x800);
    const uint8_t *bss = guest(f, LOAD_GPA + 0x800, 0x1801);
    for (size_t i = 0; i < 0x1800; i++) {
        assert_int_equal(bss[i], 0);
    }
    assert_int_equal(bss[0x1800], 0xcc);
}

static void load_end_of_zero_is_the_end_of_the_file(void **state)
{
    Fixture *f = *state;
    poke_address(f, 2, 0);
    poke_address(f, 3, 0);
    assert_boots(f);
    assert_memory_equal(guest(f, LOAD_GPA, FLAT_SIZE), f->image->data, FLAT_SIZE);
}

static void elf_kernel_is_entered_at_its_physical_address(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    assert_int_equal(f->state.rip, TEST_ELF_GPA + 0x10);
    assert_int_equal(f->state.rax, 0x2badb002);
}

static uint32_t vector(Fixture *f, unsigned number)
{
    uint32_t entry;
    memcpy(&entry, guest(f, 4 * number, 4), 4);
    return entry;
}

/* A kernel that returns to real mode and enables interrupts gets the timer's. */
static void real_mode_finds_handlers_and_a_timer_that_ticks(void **state)
{
    static const uint8_t master[] = {0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf};
    Fixture *f = *state;
    assert_boots(f);
    assert_true(f->state.bios_timer);
    assert_int_equal(vector(f, 0x08), 0xf0000010);
    assert_int_equal(vector(f, 0x0f), 0xf0000010);
    assert_int_equal(vector(f, 0x70), 0xf0000020);
    assert_int_equal(vector(f, 0x77), 0xf0000020);
    assert_int_equal(vector(f, 0x07), 0xf0000000);
    assert_int_equal(vector(f, 0x10), 0xf0000000);
    assert_int_equal(vector(f, 0xff), 0xf0000000);
    assert_memory_equal(guest(f, 0xf0010, sizeof(master)), master, sizeof(master));
    assert_int_equal(*(const uint8_t *)guest(f, 0xf0000, 1), 0xcf);
}

static void elf64_with_virtual_entry_is_translated(void **state)
{
    Fixture *f = *state;
    g_byte_array_unref(f->image);
    f->image = image_new_elf64(0, false);
    image_put_multiboot(f->image, ELF_HEADER_OFFSET, 3);
    assert_boots(f);
    assert_int_equal(f->state.rip, TEST_ELF_GPA + 0x10);
}

static void an_elf64_with_both_boots_by_pvh_and_an_elf32_by_multiboot(void **state)
{
    Fixture *f = *state;
    g_byte_array_unref(f->image);
    f->image = image_new_elf64(TEST_ELF_GPA + 0x40, false);
    image_put_multiboot(f->image, ELF_HEADER_OFFSET, (1u << 16) | 7); /* not even checked */
    assert_boots(f);
    assert_int_equal(f->state.rip, TEST_ELF_GPA + 0x40);
    g_byte_array_unref(f->image);
    f->image = image_new_elf32(TEST_ELF_GPA + 0x40);
    image_put_multiboot(f->image, ELF_HEADER_OFFSET, 3);
    assert_boots(f);
    assert_int_equal(f->state.rip, TEST_ELF_GPA + 0x10);
}

static void information_has_memory_and_its_map(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    const Info *info = guest(f, f->state.rbx, sizeof(*info));
    assert_int_equal(info->flags & 0x41, 0x41);
    assert_int_equal(info->mem_lower, 639);
    assert_int_equal(info->mem_upper, RAM_SIZE / 1024 - 1024);
    const uint8_t *map = guest(f, info->memmap, info->memmap_size);
    uint64_t ram = 0;
    for (uint32_t at = 0; at < info->memmap_size;) {
        uint32_t size, type;
        uint64_t len;
        memcpy(&size, map + at, 4);
        memcpy(&len, map + at + 12, 8);
        memcpy(&type, map + at + 20, 4);
        assert_int_equal(size, 20);
        ram += type == 1 ? len : 0;
        at += size + 4;
    }
    assert_int_equal(ram, RAM_SIZE - X86_MIB + X86_EBDA_BASE);
}

static void command_line_begins_with_the_kernels_name(void **state)
{
    Fixture *f = *state;
    assert_true(boot(f, NULL, "a b"));
    const Info *info = guest(f, f->state.rbx, sizeof(*info));
    g_autofree char *text = g_strdup_printf("%s a b", f->path);
    assert_string_equal(guest(f, info->cmdline, 1), text);
    assert_boots(f);
    info = guest(f, f->state.rbx, sizeof(*info));
    assert_string_equal(guest(f, info->cmdline, 1), f->path);
}

static void modules_are_page_aligned_and_named(void **state)
{
    Fixture *f = *state;
    char *a = image_write((const uint8_t *)"first", 5);
    char *b = image_write((const uint8_t *)"second", 6);
    g_autofree char *list = g_strdup_printf("%s one,%s", a, b);
    g_autofree char *text = g_strdup_printf("%s one", a);
    assert_true(boot(f, list, NULL));
    const Info *info = guest(f, f->state.rbx, sizeof(*info));
    assert_int_equal(info->module_count, 2);
    const uint32_t *m = guest(f, info->modules, 32);
    assert_int_equal(m[0] % 4096, 0);
    assert_int_equal(m[1] - m[0], 5);
    assert_memory_equal(guest(f, m[0], 5), "first", 5);
    assert_string_equal(guest(f, m[2], 1), text);
    assert_memory_equal(guest(f, m[4], 6), "second", 6);
    image_unlink(a);
    image_unlink(b);
}

static void header_is_found_in_the_first_8k_only(void **state)
{
    Fixture *f = *state;
    g_byte_array_set_size(f->image, 0x4000);
    memset(f->image->data, 0, f->image->len);
    image_put_multiboot(f->image, 8192 - 12, 1u << 16);
    assert_refused(f, "is truncated"); /* found; its addresses are cut off */
    memset(f->image->data, 0, f->image->len);
    image_put_multiboot(f->image, 8192, 1u << 16);
    assert_refused(f, "is no kernel skiff can boot");
}

static void wrong_checksum_is_no_header(void **state)
{
    Fixture *f = *state;
    f->image->data[HEADER_OFFSET + 8]++;
    assert_refused(f, "is no kernel skiff can boot");
}

static void video_mode_is_refused_by_name(void **state)
{
    Fixture *f = *state;
    image_put_multiboot(f->image, HEADER_OFFSET, (1u << 16) | 4);
    assert_refused(f, "skiff has no display");
}

static void unknown_mandatory_features_are_refused(void **state)
{
    Fixture *f = *state;
    image_put_multiboot(f->image, HEADER_OFFSET, (1u << 16) | 0x100);
    assert_refused(f, "unknown Multiboot features: flags 0x100");
}

static void flat_file_without_addresses_is_refused(void **state)
{
    Fixture *f = *state;
    image_put_multiboot(f->image, HEADER_OFFSET, 0);
    assert_refused(f, "nothing says where it goes");
}

static void impossible_addresses_are_refused(void **state)
{
    Fixture *f = *state;
    poke_address(f, 1, HEADER_GPA - HEADER_OFFSET - 1);
    assert_refused(f, "before the file's beginning");
    poke_address(f, 1, HEADER_GPA + 1);
    assert_refused(f, "before the file's beginning");
    poke_address(f, 1, LOAD_GPA);
    poke_address(f, 2, LOAD_GPA + FLAT_SIZE + 1);
    assert_refused(f, "is truncated or corrupt");
    poke_address(f, 2, LOAD_GPA);
    assert_refused(f, "is truncated or corrupt");
    poke_address(f, 2, LOAD_GPA + 0x800);
    poke_address(f, 3, LOAD_GPA + 0x7ff);
    assert_refused(f, "bss ends");
    poke_address(f, 3, UINT32_MAX);
    assert_refused(f, "is not free guest RAM");
}

static void entry_outside_the_kernel_is_refused(void **state)
{
    Fixture *f = *state;
    poke_address(f, 4, LOAD_GPA - 1);
    assert_refused(f, "entry");
    poke_address(f, 4, LOAD_GPA + 0x800);
    assert_refused(f, "entry");
}

static void every_truncation_and_flip_is_refused_or_boots(void **state)
{
    Fixture *f = *state;
    const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t at = HEADER_OFFSET; at < HEADER_OFFSET + 32; at++) {
        const uint8_t before = f->image->data[at];
        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
            f->image->data[at] = values[i];
            bool ok = boot(f, NULL, NULL);
            assert_true(ok == (f->error == NULL));
        }
        f->image->data[at] = before;
    }
    for (guint len = 0x800 - 1; len > 0; len--) {
        g_byte_array_set_size(f->image, len);
        assert_false(boot(f, NULL, NULL));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_ELF(name) cmocka_unit_test_setup_teardown(name, setup_elf, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers_match_the_protocol),
        TEST(real_mode_finds_handlers_and_a_timer_that_ticks),
        TEST(flat_kernel_is_loaded_by_its_addresses),
        TEST(load_end_of_zero_is_the_end_of_the_file),
        TEST_ELF(elf_kernel_is_entered_at_its_physical_address),
        TEST_ELF(elf64_with_virtual_entry_is_translated),
        TEST_ELF(an_elf64_with_both_boots_by_pvh_and_an_elf32_by_multiboot),
        TEST(information_has_memory_and_its_map),
        TEST(command_line_begins_with_the_kernels_name),
        TEST(modules_are_page_aligned_and_named),
        TEST(header_is_found_in_the_first_8k_only),
        TEST(wrong_checksum_is_no_header),
        TEST(video_mode_is_refused_by_name),
        TEST(unknown_mandatory_features_are_refused),
        TEST(flat_file_without_addresses_is_refused),
        TEST(impossible_addresses_are_refused),
        TEST(entry_outside_the_kernel_is_refused),
        TEST(every_truncation_and_flip_is_refused_or_boots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
