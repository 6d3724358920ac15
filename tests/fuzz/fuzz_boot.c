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
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "tests/support/boot_images.h"
#include "vmm/x86_64/layout.h"

typedef struct Fuzz {
    uint64_t random;
    int fd; /* the image as a file */
    char path[32];
    uint64_t refused, booted;
} Fuzz;

/* xorshift64 */
static uint64_t fuzz_random(Fuzz *z)
{
    z->random ^= z->random << 13;
    z->random ^= z->random >> 7;
    z->random ^= z->random << 17;
    return z->random;
}

static uint64_t fuzz_below(Fuzz *z, uint64_t limit)
{
    return fuzz_random(z) % limit;
}

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

static GByteArray *fuzz_new_image(Fuzz *z)
{
    switch (fuzz_below(z, 5)) {
    case 0:
        return image_new_bzimage();
    case 1:
        return image_new_elf64(TEST_ELF_GPA + 0x40, fuzz_below(z, 2) == 0);
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
static uint64_t fuzz_value(Fuzz *z)
{
    static const uint64_t edges[] = {
        0,          1,          0x7f,       0xff,        0x1000,    0xffff,
        0x9fc00,    0xe0000,    0xfffff,    0x100000,    0x1ffffff, 0x7fffffff,
        0x80000000, 0xfffff000, UINT32_MAX, 0x100000000, INT64_MAX, UINT64_MAX,
    };
    uint64_t value = edges[fuzz_below(z, G_N_ELEMENTS(edges))];
    return fuzz_below(z, 3) == 0 ? fuzz_random(z) : value + fuzz_below(z, 5) - 2;
}

/* The parts of an image that loaders read: boot header, ELF and program headers, notes, Multiboot
 * header. */
static size_t fuzz_offset(Fuzz *z, size_t len)
{
    static const struct {
        size_t start, size;
    } parts[] = {{0, 0xc0}, {0x1f0, 0x80}, {0x400, 0x80}, {0x800, 0x20}, {0x40, 0x20}};
    size_t part = fuzz_below(z, G_N_ELEMENTS(parts) + 1);
    size_t at = part < G_N_ELEMENTS(parts) ? parts[part].start + fuzz_below(z, parts[part].size)
                                           : fuzz_below(z, len);
    return at % len;
}

static void fuzz_damage(Fuzz *z, GByteArray *image)
{
    for (uint64_t i = fuzz_below(z, 4) + 1; i > 0; i--) {
        size_t at = fuzz_offset(z, image->len);
        size_t size = (size_t)1 << fuzz_below(z, 4);
        uint64_t value = fuzz_value(z);
        at &= ~(size - 1);
        memcpy(image->data + at, &value, MIN(size, image->len - at));
    }
    if (fuzz_below(z, 8) == 0) {
        g_byte_array_set_size(image, (guint)fuzz_below(z, image->len) + 1);
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
    g_autoptr(GByteArray) image = fuzz_new_image(z);
    fuzz_damage(z, image);
    fuzz_write(z, image);
    test_ram_init(&ram, sizes[fuzz_below(z, G_N_ELEMENTS(sizes))]);
    const BootRequest request = {.kernel = z->path,
                                 .initrd = fuzz_below(z, 2) == 0 ? z->path : NULL};
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

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    double seconds = 10;
    uint64_t seed = 1, limit = UINT64_MAX, steps = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0) {
            seconds = atof(argv[i + 1]);
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "--steps") == 0) {
            limit = strtoull(argv[i + 1], NULL, 0);
        }
    }
    Fuzz z = {.random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1};
    z.fd = memfd_create("kernel", MFD_CLOEXEC);
    g_assert(z.fd >= 0);
    g_snprintf(z.path, sizeof(z.path), "/proc/self/fd/%d", z.fd);
    printf("fuzz_boot: --seed %" PRIu64 "\n", seed);
    fflush(stdout);
    for (double end = seconds_now() + seconds; seconds_now() < end && steps < limit; steps++) {
        fuzz_step(&z);
    }
    printf("fuzz_boot: %" PRIu64 " images refused, %" PRIu64 " loaded\n", z.refused, z.booted);
    close(z.fd);
    return 0;
}
