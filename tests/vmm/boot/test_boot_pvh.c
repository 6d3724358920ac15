/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include "tests/vmm/boot/boot_rig.h"

#define ENTRY (TEST_ELF_GPA + 0x40)

/* Xen's public structures, as 32-bit words, and by name where the test reads them. */
typedef struct StartInfo {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp, memmap;
    uint32_t memmap_count, reserved;
} StartInfo;

typedef struct Module {
    uint64_t gpa, size, cmdline, reserved;
} Module;

typedef struct MemmapEntry {
    uint64_t gpa, size;
    uint32_t type, reserved;
} MemmapEntry;

static int setup(void **state)
{
    return boot_rig_new(state, image_new_elf64(ENTRY, false));
}

static const StartInfo *start_info(Fixture *f)
{
    return guest(f, f->state.rbx, sizeof(StartInfo));
}

static void segments_are_loaded_and_their_tails_cleared(void **state)
{
    Fixture *f = *state;
    memset(f->ram.host + TEST_ELF_GPA, 0xcc, 4 * TEST_ELF_DATA);
    assert_boots(f);
    const uint8_t *p = guest(f, TEST_ELF_GPA, 2 * TEST_ELF_DATA + 1);
    for (size_t i = 0; i < TEST_ELF_DATA; i++) {
        assert_int_equal(p[i], image_pattern(i));
        assert_int_equal(p[TEST_ELF_DATA + i], 0);
    }
    assert_int_equal(p[2 * TEST_ELF_DATA], 0xcc);
}

static void entry_is_the_notes_in_32_bit_mode(void **state)
{
    Fixture *f = *state;
    assert_boots(f);
    assert_int_equal(f->state.mode, X86_BOOT_PROT32);
    assert_int_equal(f->state.rip, ENTRY);
}

static void start_info_describes_the_machine(void **state)
{
    Fixture *f = *state;
    assert_true(boot(f, NULL, "a b"));
    const StartInfo *info = start_info(f);
    assert_int_equal(info->magic, 0x336ec578);
    assert_int_equal(info->version, 1);
    assert_int_equal(info->rsdp, X86_ACPI_BASE);
    assert_int_equal(info->module_count, 0);
    assert_string_equal(guest(f, info->cmdline, 4), "a b");
    const MemmapEntry *map = guest(f, info->memmap, info->memmap_count * sizeof(*map));
    uint64_t ram = 0;
    for (unsigned i = 0; i < info->memmap_count; i++) {
        ram += map[i].type == 1 ? map[i].size : 0;
    }
    assert_int_equal(ram, RAM_SIZE - X86_MIB + X86_EBDA_BASE);
}

static void modules_come_each_with_its_command_line(void **state)
{
    Fixture *f = *state;
    char *a = image_write((const uint8_t *)"first", 5);
    char *b = image_write((const uint8_t *)"second", 6);
    g_autofree char *list = g_strdup_printf("%s x=1 y,,z,%s", a, b);
    g_autofree char *text = g_strdup_printf("%s x=1 y,z", a);
    assert_true(boot(f, list, NULL));
    const StartInfo *info = start_info(f);
    assert_int_equal(info->module_count, 2);
    const Module *m = guest(f, info->modules, 2 * sizeof(*m));
    assert_int_equal(m[0].size, 5);
    assert_memory_equal(guest(f, m[0].gpa, 5), "first", 5);
    assert_string_equal(guest(f, m[0].cmdline, 1), text);
    assert_int_equal(m[1].size, 6);
    assert_memory_equal(guest(f, m[1].gpa, 6), "second", 6);
    assert_string_equal(guest(f, m[1].cmdline, 1), b);
    image_unlink(a);
    image_unlink(b);
}

static void linux_gets_one_joined_initrd_and_a_console(void **state)
{
    Fixture *f = *state;
    char *a = image_write((const uint8_t *)"first", 5);
    g_autofree char *list = g_strdup_printf("%s,%s", a, a);
    use_image(f, image_new_elf64(ENTRY, true));
    assert_true(boot(f, list, NULL));
    const StartInfo *info = start_info(f);
    assert_int_equal(info->module_count, 1);
    const Module *m = guest(f, info->modules, sizeof(*m));
    assert_int_equal(m->size, 13);
    assert_memory_equal(guest(f, m->gpa, 13), "first\0\0\0first", 13);
    assert_string_equal(guest(f, info->cmdline, 1), "console=ttyS0");
    image_unlink(a);
}

/* Linux accepts 2,047 bytes and a NUL; it panics on a longer line. Other kernels have other
 * limits. */
static void linux_gets_no_command_line_beyond_its_limit(void **state)
{
    Fixture *f = *state;
    g_autofree char *text = g_strnfill(2048, 'x');
    use_image(f, image_new_elf64(ENTRY, true));
    assert_false(boot(f, NULL, text));
    assert_non_null(strstr(f->error->message, "2047 bytes at most; -append has 2048"));
    use_image(f, image_new_elf64(ENTRY, false));
    assert_true(boot(f, NULL, text));
    text[2047] = '\0';
    use_image(f, image_new_elf64(ENTRY, true));
    assert_true(boot(f, NULL, text));
}

static void elf32_with_a_note_boots(void **state)
{
    Fixture *f = *state;
    use_image(f, image_new_elf32(ENTRY));
    assert_boots(f);
    assert_int_equal(f->state.rip, ENTRY);
}

static void boot_data_avoids_a_kernel_in_low_memory(void **state)
{
    Fixture *f = *state;
    const size_t paddr = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_paddr);
    use_image(f, image_new_elf64(0x1040, false));
    IMAGE_POKE(f->image, paddr, uint64_t, 0x1000);
    assert_boots(f);
    const uint8_t *p = guest(f, 0x1000, TEST_ELF_DATA);
    for (size_t i = 0; i < TEST_ELF_DATA; i++) {
        assert_int_equal(p[i], image_pattern(i));
    }
    assert_true(f->state.rbx >= 0x1000 + 2 * TEST_ELF_DATA);
    assert_true(f->state.gdt_base >= 0x1000 + 2 * TEST_ELF_DATA);
}

static void segment_on_firmware_tables_is_refused(void **state)
{
    Fixture *f = *state;
    const size_t paddr = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_paddr);
    use_image(f, image_new_elf64(0xe0040, false));
    IMAGE_POKE(f->image, paddr, uint64_t, 0xe0000);
    assert_refused(f, "is not free guest RAM");
}

static void a_segment_beyond_ram_is_refused_with_the_end_of_ram(void **state)
{
    Fixture *f = *state;
    const size_t paddr = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_paddr);
    use_image(f, image_new_elf64(0x4000040, false));
    IMAGE_POKE(f->image, paddr, uint64_t, 0x4000000);
    assert_refused(f, "0x3ffffff");
}

static void segment_above_4g_is_refused(void **state)
{
    Fixture *f = *state;
    const size_t paddr = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_paddr);
    IMAGE_POKE(f->image, paddr, uint64_t, UINT64_MAX - 1);
    assert_refused(f, "loaded below 4 GiB");
}

static void entry_outside_the_image_is_refused(void **state)
{
    Fixture *f = *state;
    use_image(f, image_new_elf64(0x1234, false));
    assert_refused(f, "PVH entry 0x1234 is in no loaded segment");
}

static void elf_without_note_is_refused_with_its_remedy(void **state)
{
    Fixture *f = *state;
    use_image(f, image_new_elf64(0, true));
    assert_refused(f, "CONFIG_PVH=y");
}

static void arm_elf_is_named(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, offsetof(Elf64_Ehdr, e_machine), uint16_t, EM_AARCH64);
    assert_refused(f, "is an ELF file for AArch64");
}

static void big_endian_elf_is_refused(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, EI_DATA, uint8_t, ELFDATA2MSB);
    assert_refused(f, "another architecture");
}

static void object_file_is_refused(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, offsetof(Elf64_Ehdr, e_type), uint16_t, ET_REL);
    assert_refused(f, "give a linked kernel");
}

static void huge_note_segment_is_refused(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_filesz), uint64_t, UINT64_MAX);
    assert_refused(f, "bytes of ELF notes");
}

static void program_headers_behind_the_file_are_truncation(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, offsetof(Elf64_Ehdr, e_phoff), uint64_t, UINT64_MAX - 8);
    assert_refused(f, "is truncated");
}

static void every_truncation_is_refused(void **state)
{
    Fixture *f = *state;
    for (guint len = f->image->len - 1; len > 0; len -= len > 0x500 ? 0x80 : 1) {
        g_byte_array_set_size(f->image, len);
        assert_false(boot(f, NULL, NULL));
    }
}

static void flip_everywhere(Fixture *f, size_t from, size_t to)
{
    const uint8_t values[] = {0, 1, 4, 0x7f, 0x80, 0xff};
    for (size_t at = from; at < to; at++) {
        const uint8_t before = f->image->data[at];
        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
            f->image->data[at] = values[i];
            bool ok = boot(f, NULL, NULL);
            assert_true(ok == (f->error == NULL));
        }
        f->image->data[at] = before;
    }
}

static void every_header_byte_flipped_is_refused_or_boots(void **state)
{
    Fixture *f = *state;
    flip_everywhere(f, 0, sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr));
    flip_everywhere(f, 0x400, 0x480);
    use_image(f, image_new_elf32(ENTRY));
    flip_everywhere(f, 0, sizeof(Elf32_Ehdr) + 2 * sizeof(Elf32_Phdr));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(segments_are_loaded_and_their_tails_cleared),
        TEST(entry_is_the_notes_in_32_bit_mode),
        TEST(start_info_describes_the_machine),
        TEST(modules_come_each_with_its_command_line),
        TEST(linux_gets_one_joined_initrd_and_a_console),
        TEST(linux_gets_no_command_line_beyond_its_limit),
        TEST(elf32_with_a_note_boots),
        TEST(boot_data_avoids_a_kernel_in_low_memory),
        TEST(segment_on_firmware_tables_is_refused),
        TEST(a_segment_beyond_ram_is_refused_with_the_end_of_ram),
        TEST(segment_above_4g_is_refused),
        TEST(entry_outside_the_image_is_refused),
        TEST(elf_without_note_is_refused_with_its_remedy),
        TEST(arm_elf_is_named),
        TEST(big_endian_elf_is_refused),
        TEST(object_file_is_refused),
        TEST(huge_note_segment_is_refused),
        TEST(program_headers_behind_the_file_are_truncation),
        TEST(every_truncation_is_refused),
        TEST(every_header_byte_flipped_is_refused_or_boots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
