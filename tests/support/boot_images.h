/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic kernels for the loaders' tests, and RAM to load them into. */
#ifndef SKIFF_TESTS_SUPPORT_BOOT_IMAGES_H
#define SKIFF_TESTS_SUPPORT_BOOT_IMAGES_H

#include <glib.h>
#include <stdint.h>
#include "hw/core/ram.h"
#include "vmm/boot/boot.h"
#include "vmm/arch/x86_64/boot_state.h"

/* RAM in the board's layout; pages are allocated on first access. */
typedef struct TestRam {
    GuestRam ram;
    uint8_t *host;
    uint64_t size;
} TestRam;

void test_ram_init(TestRam *t, uint64_t size);
void test_ram_clear(TestRam *t);

/* Fields of an image can be poked by offset before it becomes a file. */
void image_poke(GByteArray *image, size_t offset, const void *value, size_t size);
#define IMAGE_POKE(image, offset, type, value)                                                     \
    image_poke(image, offset, &(type){value}, sizeof(type))

#define TEST_BZIMAGE_PAYLOAD 0xa00 /* file offset of the protected-mode kernel */
#define TEST_BZIMAGE_SIZE 0x4000   /* its size */
#define TEST_BZIMAGE_GPA 0x1000000 /* its preferred address */
GByteArray *image_new_bzimage(void);

/* A 64-bit (32-bit) ELF file: program header 0 is a note segment with Linux' note if @is_linux and
 * a PVH note if @pvh_entry is not 0; 1 loads TEST_ELF_DATA bytes at TEST_ELF_GPA, twice that much
 * in memory. */
#define TEST_ELF_GPA 0x200000
#define TEST_ELF_DATA 0x800
#define TEST_ELF_DATA_OFFSET 0x1000 /* in the file */
#define TEST_ELF_VADDR 0xffffffff80200000
GByteArray *image_new_elf64(uint32_t pvh_entry, bool is_linux);
GByteArray *image_new_elf32(uint32_t pvh_entry);

/* A Multiboot header with @flags at @offset; the addresses are the caller's to poke. */
void image_put_multiboot(GByteArray *image, size_t offset, uint32_t flags);

/* Byte @i of every payload. */
static inline uint8_t image_pattern(size_t i)
{
    return (uint8_t)(i * 7 + (i >> 8) + 1);
}

/* Writes a file of its own; image_unlink() frees the path and removes the file. */
char *image_write(const uint8_t *data, size_t size);
char *image_write_array(const GByteArray *image);
void image_unlink(char *path);

/* boot_open + boot_load in one; NULL-safe on both. Returns whether both succeeded. */
bool image_boot(const BootRequest *request, TestRam *ram, BootState *state, GError **error);

#endif
