/* SPDX-License-Identifier: Apache-2.0 */
/* Loads initramfs and modules: whole files at the top of low RAM, away from the kernel. */
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

/* The initramfs unpacker expects the next archive on a 4-byte boundary. Linux
 * Documentation/driver-api/early-userspace/buffer-format.rst. */
#define INITRD_ALIGN 4

uint64_t boot_joined_initrd_size(const BootImage *image)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < image->module_count; i++) {
        if (__builtin_add_overflow(size, -size % INITRD_ALIGN, &size) ||
            __builtin_add_overflow(size, image->modules[i].file.size, &size)) {
            return UINT64_MAX;
        }
    }
    return size;
}

bool boot_read_joined_initrd(const BootImage *image, uint8_t *host, GError **error)
{
    uint64_t at = 0;
    for (unsigned i = 0; i < image->module_count; i++) {
        const BootFile *file = &image->modules[i].file;
        while (at % INITRD_ALIGN != 0) {
            host[at++] = 0;
        }
        if (!boot_file_read(file, 0, host + at, file->size, "the initrd", error)) {
            return false;
        }
        at += file->size;
    }
    return true;
}

static bool initrd_no_room(const BootFile *file, uint64_t size, uint64_t max, GError **error)
{
    return boot_file_error(error, BOOT_ERROR_NO_ROOM, file,
                           "no room for %" PRIu64 " KiB beside the kernel in guest RAM below "
                           "0x%" PRIx64 "; give more with -m",
                           size / X86_KIB + (size % X86_KIB != 0), max);
}

bool boot_load_joined_initrd(const BootImage *image, BootSpace *space, uint64_t max, uint64_t *gpa,
                             uint64_t *size, GError **error)
{
    *size = boot_joined_initrd_size(image);
    uint8_t *host = boot_space_place_high(space, *size, X86_PAGE_SIZE, X86_MIB, max, gpa);
    if (host == NULL) {
        max = MIN(max, boot_space_low_end(space));
        return initrd_no_room(&image->modules[0].file, *size, max, error);
    }
    return boot_read_joined_initrd(image, host, error);
}

bool boot_load_module(const BootModule *module, BootSpace *space, uint64_t *gpa, GError **error)
{
    uint64_t size = module->file.size;
    uint8_t *host = boot_space_place_high(space, size, X86_PAGE_SIZE, X86_MIB, X86_4GIB, gpa);
    if (host == NULL) {
        return initrd_no_room(&module->file, size, boot_space_low_end(space), error);
    }
    return boot_file_read(&module->file, 0, host, size, "the module", error);
}
