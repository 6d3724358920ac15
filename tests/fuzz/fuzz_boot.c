/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile kernels: images of every kind with damaged headers, notes, sizes and ends, loaded into
 * small guests. Each must be refused with one line, or load inside RAM and enter there; guard pages
 * around RAM and sanitizers see the rest.
 *
 *   fuzz_boot [--seconds N] [--seed N] [--steps N]
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/support/boot_images.h"
#include "tests/support/fuzzer.h"
#include "vmm/arch/x86_64/layout.h"

typedef struct Fuzz {
    int fd; /* the image as a file */
    char path[32];
    uint64_t refused, booted;
} Fuzz;

static GByteArray *fuzz_new_multiboot(void)
{
    const uint32_t gpa = 0x300000;
    const uint32_t addresses[5] = {gpa + 0x40, gpa, gpa + 0x400, gpa + 0x800, gpa + 0x100};
    GByteArray *image = g_byte_array_new();
    g_byte_array_set_size(image, 0x800);
    memset(image->data, 0x90, image->len);
    image_put_multiboot(image, 0x40, 1u << 16);
    image_poke(image, 0x40 + 12, addresses, sizeof(addresses));
    return image;
}

static GByteArray *fuzz_new_image(void)
{
    switch (fuzz_below(5)) {
    case 0:
        return image_new_bzimage();
    case 1:
        return image_new_elf64(TEST_ELF_GPA + 0x40, fuzz_below(2) == 0);
    case 2:
        return image_new_elf32(TEST_ELF_GPA + 0x40);
    case 3:
        return fuzz_new_multiboot();
    default: {
        GByteArray *image = image_new_elf32(0);
        image_put_multiboot(image, 0x800, 3);
        return image;
    }
    }
}

/* Values that are at the edge of something. */
static uint64_t fuzz_value(void)
{
    static const uint64_t edges[] = {
        0,          1,          0x7f,       0xff,        0x1000,    0xffff,
        0x9fc00,    0xe0000,    0xfffff,    0x100000,    0x1ffffff, 0x7fffffff,
        0x80000000, 0xfffff000, UINT32_MAX, 0x100000000, INT64_MAX, UINT64_MAX,
    };
    uint64_t value = FUZZ_PICK(edges);
    return fuzz_below(3) == 0 ? fuzz_random() : value + fuzz_below(5) - 2;
}

/* The parts of an image that loaders read: boot header, ELF and program headers, notes, Multiboot
 * header. */
static size_t fuzz_offset(size_t len)
{
    static const struct {
        size_t start, size;
    } parts[] = {{0, 0xc0}, {0x1f0, 0x80}, {0x400, 0x80}, {0x800, 0x20}, {0x40, 0x20}};
    size_t part = fuzz_below(G_N_ELEMENTS(parts) + 1);
    size_t at = part < G_N_ELEMENTS(parts) ? parts[part].start + fuzz_below(parts[part].size)
                                           : fuzz_below(len);
    return at % len;
}

static void fuzz_damage(GByteArray *image)
{
    for (uint64_t i = fuzz_below(4) + 1; i > 0; i--) {
        size_t at = fuzz_offset(image->len);
        size_t size = (size_t)1 << fuzz_below(4);
        uint64_t value = fuzz_value();
        at &= ~(size - 1);
        memcpy(image->data + at, &value, MIN(size, image->len - at));
    }
    if (fuzz_below(8) == 0) {
        g_byte_array_set_size(image, (guint)fuzz_below(image->len) + 1);
    }
}

static void fuzz_write(Fuzz *z, const GByteArray *image)
{
    g_assert(ftruncate(z->fd, 0) == 0);
    g_assert(pwrite(z->fd, image->data, image->len, 0) == (ssize_t)image->len);
}

static void fuzz_step(Fuzz *z)
{
    static const uint64_t sizes[] = {2 * X86_MIB, 4 * X86_MIB, 32 * X86_MIB, 64 * X86_MIB};
    TestRam ram;
    BootState state;
    GError *error = NULL;
    g_autoptr(GByteArray) image = fuzz_new_image();
    fuzz_damage(image);
    fuzz_write(z, image);
    test_ram_init(&ram, FUZZ_PICK(sizes));
    const BootRequest request = {.kernel = z->path, .initrd = fuzz_below(2) == 0 ? z->path : NULL};
    if (image_boot(&request, &ram, &state, &error)) {
        g_assert(error == NULL);
        g_assert(guest_ram_map(&ram.ram, state.rip, 1, false) != NULL);
        g_assert(guest_ram_map(&ram.ram, state.gdt_base, state.gdt_limit, false) != NULL);
        z->booted++;
    } else {
        g_assert(error != NULL && strchr(error->message, '\n') == NULL);
        g_error_free(error);
        z->refused++;
    }
    test_ram_clear(&ram);
}

int main(int argc, char **argv)
{
    Fuzz z = {.fd = memfd_create("kernel", MFD_CLOEXEC)};
    fuzz_begin("fuzz_boot", argc, argv);
    g_assert(z.fd >= 0);
    g_snprintf(z.path, sizeof(z.path), "/proc/self/fd/%d", z.fd);
    while (fuzz_goes_on()) {
        fuzz_step(&z);
    }
    fuzz_end("images");
    printf("fuzz_boot: %" PRIu64 " refused, %" PRIu64 " loaded\n", z.refused, z.booted);
    close(z.fd);
    return 0;
}
