/* SPDX-License-Identifier: Apache-2.0 */
/* What firmware gets of -kernel, -initrd and -append. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>
#include "tests/support/boot_images.h"
#include "vmm/arch/x86_64/layout.h"

#define LOW_RAM (64 * X86_MIB)
#define INITRD_SIZE 5000

typedef struct Fixture {
    GByteArray *image;
    char *kernel, *initrd;
    BootRequest request;
    BootBlobs blobs;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    uint8_t data[INITRD_SIZE];
    f->image = image_new_bzimage();
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = image_pattern(i);
    }
    f->initrd = image_write(data, sizeof(data));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    boot_blobs_clear(&f->blobs);
    image_unlink(f->kernel);
    image_unlink(f->initrd);
    g_byte_array_unref(f->image);
    g_free(f);
    return 0;
}

static bool read_blobs(Fixture *f, const char *initrd, uint64_t low_ram, GError **error)
{
    f->kernel = image_write_array(f->image);
    f->request = (BootRequest){.kernel = f->kernel, .initrd = initrd, .cmdline = "root=/dev/vda"};
    return boot_read_blobs(&f->request, low_ram, &f->blobs, error);
}

static void read_well(Fixture *f, const char *initrd)
{
    g_autoptr(GError) error = NULL;
    if (!read_blobs(f, initrd, LOW_RAM, &error)) {
        fail_msg("%s", error->message);
    }
}

static void expect_refused(Fixture *f, const char *initrd, uint64_t low_ram, const char *words)
{
    g_autoptr(GError) error = NULL;
    assert_false(read_blobs(f, initrd, low_ram, &error));
    if (strstr(error->message, words) == NULL) {
        fail_msg("'%s' has no '%s'", error->message, words);
    }
    assert_null(f->blobs.kernel);
    assert_null(f->blobs.setup);
}

static const uint8_t *data_of(GBytes *bytes, size_t size)
{
    assert_non_null(bytes);
    assert_int_equal(g_bytes_get_size(bytes), size);
    return g_bytes_get_data(bytes, NULL);
}

static uint32_t field(const Fixture *f, size_t offset, size_t size)
{
    uint32_t value = 0;
    memcpy(&value, (const uint8_t *)g_bytes_get_data(f->blobs.setup, NULL) + offset, size);
    return value;
}

static void the_kernel_is_split_at_its_setup_sectors(void **state)
{
    Fixture *f = *state;
    read_well(f, NULL);
    const size_t rest = f->image->len - TEST_BZIMAGE_PAYLOAD;
    const uint8_t *setup = data_of(f->blobs.setup, TEST_BZIMAGE_PAYLOAD);
    assert_memory_equal(data_of(f->blobs.kernel, rest), f->image->data + TEST_BZIMAGE_PAYLOAD,
                        rest);
    assert_memory_equal(setup, f->image->data, 0x1f1);
    assert_memory_equal(setup + 0x280, f->image->data + 0x280, TEST_BZIMAGE_PAYLOAD - 0x280);
    assert_int_equal(f->blobs.kernel_addr, 0x100000);
    assert_int_equal(f->blobs.setup_addr, 0x10000);
    assert_null(f->blobs.initrd);
}

static void the_header_has_what_a_loader_fills_in(void **state)
{
    Fixture *f = *state;
    read_well(f, f->initrd);
    assert_int_equal(field(f, 0x210, 1), 0xb0);
    assert_int_equal(field(f, 0x211, 1) & 0x81, 0x81); /* loaded high, with a heap */
    assert_int_equal(field(f, 0x218, 4), f->blobs.initrd_addr);
    assert_int_equal(field(f, 0x21c, 4), INITRD_SIZE);
    assert_int_equal(field(f, 0x224, 2), 0xfe00);
    assert_int_equal(field(f, 0x228, 4), f->blobs.cmdline_addr);
}

static void the_command_line_ends_with_a_nul(void **state)
{
    Fixture *f = *state;
    read_well(f, NULL);
    assert_memory_equal(data_of(f->blobs.cmdline, 14), "root=/dev/vda", 14);
    assert_int_equal(f->blobs.cmdline_addr, 0x20000);
}

static void the_initrd_is_below_the_end_of_low_ram(void **state)
{
    Fixture *f = *state;
    read_well(f, f->initrd);
    const uint8_t *data = data_of(f->blobs.initrd, INITRD_SIZE);
    for (size_t i = 0; i < INITRD_SIZE; i++) {
        assert_int_equal(data[i], image_pattern(i));
    }
    assert_int_equal(f->blobs.initrd_addr % 4096, 0);
    assert_true(f->blobs.initrd_addr + INITRD_SIZE <= LOW_RAM - X86_MIB);
    assert_true(f->blobs.initrd_addr + 2 * INITRD_SIZE > LOW_RAM - X86_MIB);
}

static void the_initrd_is_below_the_kernels_limit(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x22c, uint32_t, 0x1ffffff);
    read_well(f, f->initrd);
    assert_true(f->blobs.initrd_addr + INITRD_SIZE <= 0x2000000);
    assert_true(f->blobs.initrd_addr + 2 * INITRD_SIZE > 0x2000000);
}

static void several_initrds_are_joined_and_aligned(void **state)
{
    Fixture *f = *state;
    char *odd = image_write((const uint8_t *)"abc", 3);
    g_autofree char *both = g_strdup_printf("%s,%s", odd, f->initrd);
    read_well(f, both);
    const uint8_t *data = data_of(f->blobs.initrd, 4 + INITRD_SIZE);
    assert_memory_equal(data, "abc\0", 4);
    assert_int_equal(data[4], image_pattern(0));
    image_unlink(odd);
}

static void an_initrd_without_room_is_refused(void **state)
{
    Fixture *f = *state;
    expect_refused(f, f->initrd, 2 * X86_MIB, "no room");
}

static void expect_refused_again(Fixture *f, const char *words)
{
    g_autoptr(GError) error = NULL;
    assert_false(boot_read_blobs(&f->request, LOW_RAM, &f->blobs, &error));
    assert_non_null(strstr(error->message, words));
}

/* The files have no blocks, and more bytes than there is room for: nothing of them is read. */
static void huge_files_are_refused_by_their_size(void **state)
{
    Fixture *f = *state;
    assert_int_equal(truncate(f->initrd, (off_t)8 << 40), 0);
    expect_refused(f, f->initrd, LOW_RAM, "no room beside");
    g_autofree char *twice = g_strdup_printf("%s,%s", f->initrd, f->initrd);
    f->request.initrd = twice;
    expect_refused_again(f, "no room beside");
    assert_int_equal(truncate(f->kernel, UINT32_MAX), 0);
    f->request.initrd = NULL;
    expect_refused_again(f, "no room in guest RAM");
}

/* The initrd begins at a page, which must be above all of the kernel. */
static void the_initrd_never_covers_the_kernels_end(void **state)
{
    Fixture *f = *state;
    g_byte_array_set_size(f->image,
                          f->image->len + 100); /* the kernel is no whole number of pages */
    read_well(f, f->initrd);
    uint64_t kernel_end = X86_MIB + g_bytes_get_size(f->blobs.kernel);
    uint64_t least = kernel_end + INITRD_SIZE + X86_MIB;
    for (uint64_t low_ram = least; low_ram < least + 8192; low_ram += 509) {
        boot_blobs_clear(&f->blobs);
        if (boot_read_blobs(&f->request, low_ram, &f->blobs, NULL)) {
            assert_true(f->blobs.initrd_addr >= kernel_end);
        } else {
            assert_true(low_ram < least + 4096);
        }
    }
}

static void other_kernels_are_refused(void **state)
{
    Fixture *f = *state;
    g_byte_array_unref(f->image);
    f->image = image_new_elf64(TEST_ELF_GPA, true);
    expect_refused(f, NULL, LOW_RAM, "is no bzImage");
}

static void a_kernel_of_setup_sectors_only_is_refused(void **state)
{
    Fixture *f = *state;
    IMAGE_POKE(f->image, 0x1f1, uint8_t, 255);
    expect_refused(f, NULL, LOW_RAM, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_kernel_is_split_at_its_setup_sectors),
        TEST(the_header_has_what_a_loader_fills_in),
        TEST(the_command_line_ends_with_a_nul),
        TEST(the_initrd_is_below_the_end_of_low_ram),
        TEST(the_initrd_is_below_the_kernels_limit),
        TEST(several_initrds_are_joined_and_aligned),
        TEST(an_initrd_without_room_is_refused),
        TEST(huge_files_are_refused_by_their_size),
        TEST(the_initrd_never_covers_the_kernels_end),
        TEST(other_kernels_are_refused),
        TEST(a_kernel_of_setup_sectors_only_is_refused),
    };
    return cmocka_run_group_tests_name("vmm/boot/boot_firmware", tests, NULL, NULL);
}
