/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/boot_images.h"
#include "vmm/arch/x86_64/layout.h"

/* The errors of -kernel, -initrd and -bios for wrong files. */

static char *error_of(const char *kernel, const char *initrd)
{
    g_autoptr(GError) error = NULL;
    const BootRequest request = {.kernel = kernel, .initrd = initrd};
    g_autoptr(BootImage) image = boot_open(&request, &error);
    if (image != NULL) {
        fail_msg("accepted: %s", kernel);
    }
    assert_null(strchr(error->message, '\n'));
    return g_strdup(error->message);
}

static void assert_says(const char *text, const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("'%s' lacks '%s'", text, words);
    }
}

static void assert_kernel_refused(const char *path, const char *words)
{
    g_autofree char *text = error_of(path, NULL);
    assert_says(text, words);
    assert_says(text, path);
    assert_true(g_str_has_prefix(text, "-kernel "));
}

/* A file of 1 KiB zeros with @magic at @offset. */
static void assert_content_refused(size_t offset, const char *magic, size_t len, const char *words)
{
    uint8_t data[1024] = {0};
    memcpy(data + offset, magic, len);
    char *path = image_write(data, sizeof(data));
    assert_kernel_refused(path, words);
    image_unlink(path);
}

static void missing_file(void **state)
{
    assert_kernel_refused("/nonexistent/vmlinuz", "No such file");
}

static void directory(void **state)
{
    assert_kernel_refused("/tmp", "is a directory");
}

static void device(void **state)
{
    assert_kernel_refused("/dev/null", "is not a regular file");
}

static void fifo_does_not_hang(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("skiff-boot-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "fifo", NULL);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_kernel_refused(path, "is not a regular file");
    unlink(path);
    rmdir(dir);
}

static void empty_file(void **state)
{
    char *path = image_write(NULL, 0);
    assert_kernel_refused(path, "is empty");
    image_unlink(path);
}

static void tiny_files(void **state)
{
    for (size_t len = 1; len < 64; len++) {
        const uint8_t elf[64] = "\x7f"
                                "ELF";
        char *path = image_write(elf, len);
        g_free(error_of(path, NULL));
        image_unlink(path);
    }
}

static void other_kinds_of_files_are_named(void **state)
{
    assert_content_refused(0x38, "ARM\x64", 4, "is a Linux Image for arm64");
    assert_content_refused(0x38, "RSC\x05", 4, "RISC-V");
    assert_content_refused(0, "\x1f\x8b", 2, "gunzip");
    assert_content_refused(0, "\x28\xb5\x2f\xfd", 4, "unzstd");
    assert_content_refused(0, "070701", 6, "give it with -initrd");
    assert_content_refused(0, "QFI\xfb", 4, "give it with -drive");
    assert_content_refused(510, "\x55\xaa", 2, "a disk image is given with -drive");
    assert_content_refused(0, "MZ", 2, "needs firmware");
    assert_content_refused(0, "hello", 5, "neither a bzImage");
}

/* ---- -initrd ---- */

static void assert_initrd_refused(const char *initrd, const char *words)
{
    g_autoptr(GByteArray) image = image_new_bzimage();
    char *path = image_write_array(image);
    g_autofree char *text = error_of(path, initrd);
    assert_says(text, words);
    assert_true(g_str_has_prefix(text, "-initrd"));
    image_unlink(path);
}

static void initrd_files_are_checked_each(void **state)
{
    char *good = image_write((const uint8_t *)"x", 1);
    char *empty = image_write(NULL, 0);
    g_autofree char *list = g_strdup_printf("%s,/nonexistent/x", good);
    g_autofree char *second = g_strdup_printf("%s,%s", good, empty);
    g_autofree char *hole = g_strdup_printf("%s,", good);
    assert_initrd_refused(list, "/nonexistent/x: cannot be opened");
    assert_initrd_refused(second, "is empty");
    assert_initrd_refused(hole, "empty file name");
    assert_initrd_refused("", "empty file name");
    image_unlink(good);
    image_unlink(empty);
}

static void a_comma_in_a_name_is_doubled(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("skiff-boot-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "a,b c", NULL);
    g_autofree char *written = g_build_filename(dir, "a,,b c", NULL);
    g_autoptr(GByteArray) kernel = image_new_bzimage();
    char *kernel_path = image_write_array(kernel);
    assert_true(g_file_set_contents(path, "x", 1, NULL));
    const BootRequest request = {.kernel = kernel_path, .initrd = written};
    g_autoptr(GError) error = NULL;
    g_autoptr(BootImage) image = boot_open(&request, &error);
    if (image == NULL) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(boot_kind(image), BOOT_KIND_BZIMAGE);
    image_unlink(kernel_path);
    unlink(path);
    rmdir(dir);
}

static void a_truncated_file_is_an_error(void **state)
{
    TestRam ram;
    BootState boot_state;
    const BootTables tables = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) kernel = image_new_bzimage();
    char *path = image_write_array(kernel);
    const BootRequest request = {.kernel = path};
    g_autoptr(BootImage) image = boot_open(&request, NULL);
    test_ram_init(&ram, 64 * X86_MIB);
    assert_int_equal(truncate(path, 0x1000), 0);
    assert_false(boot_load(image, &ram.ram, &tables, &boot_state, &error));
    assert_says(error->message, "the file has become shorter");
    test_ram_clear(&ram);
    image_unlink(path);
}

/* ---- -bios ---- */

static void assert_rom_refused(size_t size, const char *words)
{
    BootRom rom;
    g_autoptr(GError) error = NULL;
    char *path = image_write((const uint8_t *)"", 0);
    assert_int_equal(truncate(path, (off_t)size), 0);
    assert_false(boot_rom_open(&rom, path, &error));
    assert_says(error->message, words);
    assert_true(g_str_has_prefix(error->message, "-bios "));
    assert_null(rom.host);
    image_unlink(path);
}

static void rom_of_a_wrong_size_is_refused(void **state)
{
    assert_rom_refused(0, "is empty");
    assert_rom_refused(1, "is 1 bytes; a firmware image is a multiple of 64 KiB");
    assert_rom_refused(65537, "multiple of 64 KiB");
    assert_rom_refused(16 * X86_MIB + 65536, "at most 16 MiB");
}

static void rom_ends_at_4g(void **state)
{
    BootRom rom;
    GuestRam ram = {0};
    const size_t size = 4 * 65536;
    g_autofree uint8_t *data = g_malloc0(size);
    for (size_t i = 0; i < size; i++) {
        data[i] = image_pattern(i);
    }
    char *path = image_write(data, size);
    assert_true(boot_rom_open(&rom, path, NULL));
    boot_rom_map(&rom, &ram);
    assert_memory_equal(guest_ram_map(&ram, X86_4GIB - size, size, false), data, size);
    assert_null(guest_ram_map(&ram, X86_4GIB - 16, 16, true));
    boot_rom_close(&rom);
    image_unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_file),
        cmocka_unit_test(directory),
        cmocka_unit_test(device),
        cmocka_unit_test(fifo_does_not_hang),
        cmocka_unit_test(empty_file),
        cmocka_unit_test(tiny_files),
        cmocka_unit_test(other_kinds_of_files_are_named),
        cmocka_unit_test(initrd_files_are_checked_each),
        cmocka_unit_test(a_comma_in_a_name_is_doubled),
        cmocka_unit_test(a_truncated_file_is_an_error),
        cmocka_unit_test(rom_of_a_wrong_size_is_refused),
        cmocka_unit_test(rom_ends_at_4g),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
