/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel that firmware boots: the parts of a bzImage, the initial RAM disk and the command line,
 * with the addresses at which a loader without knowledge of its own puts them. The header's
 * fields are filled in as for any loader. Linux Documentation/arch/x86/boot.rst.
 */
#include <stddef.h>
#include <string.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/boot/boot_int.h"

#define SETUP_SECTOR 512
#define SETUP_DEFAULT_SECTORS 4
#define SETUP_ADDR 0x10000
#define CMDLINE_ADDR 0x20000
#define KERNEL_ADDR 0x100000
#define HEADER_OFFSET 0x1f1
#define LOADER_TYPE 0xb0       /* "Qemu" in the kernel's list */
#define FIRMWARE_SPACE X86_MIB /* the end of low RAM, which firmware uses for tables */

typedef struct setup_header SetupHeader;

static bool firmware_read(const BootFile *file, uint64_t offset, uint64_t size, const char *what,
                          GBytes **bytes, GError **error)
{
    uint8_t *data = g_malloc(size);
    if (!boot_file_read(file, offset, data, size, what, error)) {
        g_free(data);
        return false;
    }
    *bytes = g_bytes_new_take(data, size);
    return true;
}

/* All files of -initrd, one after the other. They have a place. */
static bool firmware_read_initrd(const BootImage *image, GBytes **initrd, GError **error)
{
    uint64_t size = boot_joined_initrd_size(image);
    uint8_t *data = g_malloc(size);
    if (!boot_read_joined_initrd(image, data, error)) {
        g_free(data);
        return false;
    }
    *initrd = g_bytes_new_take(data, size);
    return true;
}

/* The highest place in low RAM that the kernel accepts. Nothing of the files is read for it: they may
 * be larger than the host's memory. */
static bool firmware_place_initrd(const BootImage *image, uint64_t low_ram, BootBlobs *blobs,
                                  GError **error)
{
    uint64_t size = boot_joined_initrd_size(image);
    uint64_t max = (uint64_t)image->bzimage.header.initrd_addr_max + 1;
    uint64_t end = MIN(max, low_ram > FIRMWARE_SPACE ? low_ram - FIRMWARE_SPACE : 0);
    uint64_t addr = size <= end ? (end - size) & ~(X86_PAGE_SIZE - 1) : 0;
    if (addr < KERNEL_ADDR + g_bytes_get_size(blobs->kernel)) {
        return boot_file_error(error, BOOT_ERROR_NO_ROOM, &image->modules[0].file,
                               "no room beside the kernel in guest RAM; give more with -m");
    }
    blobs->initrd_addr = (uint32_t)addr;
    return true;
}

static void firmware_put(uint8_t *setup, size_t field, uint64_t value, unsigned size)
{
    value = GUINT64_TO_LE(value);
    memcpy(setup + HEADER_OFFSET + field, &value, size);
}

/* Fills in what the boot protocol requires of a loader. */
static void firmware_patch_setup(const BootImage *image, BootBlobs *blobs)
{
    gsize size;
    const SetupHeader *h = &image->bzimage.header;
    uint8_t *setup = g_bytes_unref_to_data(g_steal_pointer(&blobs->setup), &size);
    firmware_put(setup, offsetof(SetupHeader, cmd_line_ptr), CMDLINE_ADDR, 4);
    firmware_put(setup, offsetof(SetupHeader, type_of_loader), LOADER_TYPE, 1);
    firmware_put(setup, offsetof(SetupHeader, loadflags), h->loadflags | CAN_USE_HEAP, 1);
    firmware_put(setup, offsetof(SetupHeader, heap_end_ptr),
                 CMDLINE_ADDR - SETUP_ADDR - SETUP_SECTOR, 2);
    if (blobs->initrd_addr != 0) {
        firmware_put(setup, offsetof(SetupHeader, ramdisk_image), blobs->initrd_addr, 4);
        firmware_put(setup, offsetof(SetupHeader, ramdisk_size), g_bytes_get_size(blobs->initrd),
                     4);
    }
    blobs->setup = g_bytes_new_take(setup, size);
}

static bool firmware_check(const BootImage *image, GError **error)
{
    return image->kind == BOOT_KIND_BZIMAGE ||
           boot_file_error(error, BOOT_ERROR_FORMAT, &image->kernel,
                           "is no bzImage, and firmware starts no other kernel; give a bzImage, "
                           "or leave the firmware off");
}

static bool firmware_read_kernel(const BootImage *image, uint64_t low_ram, BootBlobs *blobs,
                                 GError **error)
{
    const BootFile *file = &image->kernel;
    unsigned sectors = image->bzimage.header.setup_sects;
    uint64_t setup = ((sectors != 0 ? sectors : SETUP_DEFAULT_SECTORS) + 1) * SETUP_SECTOR;
    if (file->size <= setup || file->size > UINT32_MAX) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file, "has an impossible size");
    }
    if (file->size > low_ram) {
        return boot_file_error(error, BOOT_ERROR_NO_ROOM, file,
                               "no room in guest RAM; give more with -m");
    }
    return firmware_read(file, 0, setup, "the setup sectors", &blobs->setup, error) &&
           firmware_read(file, setup, file->size - setup, "the kernel", &blobs->kernel, error);
}

bool boot_read_blobs(const BootRequest *request, uint64_t low_ram, BootBlobs *blobs, GError **error)
{
    *blobs = (BootBlobs){
        .setup_addr = SETUP_ADDR, .cmdline_addr = CMDLINE_ADDR, .kernel_addr = KERNEL_ADDR};
    g_autoptr(BootImage) image = boot_open(request, error);
    if (image == NULL) {
        return false;
    }
    bool ok = firmware_check(image, error) && firmware_read_kernel(image, low_ram, blobs, error) &&
              (image->module_count == 0 || (firmware_place_initrd(image, low_ram, blobs, error) &&
                                            firmware_read_initrd(image, &blobs->initrd, error)));
    if (!ok) {
        boot_blobs_clear(blobs);
        return false;
    }
    firmware_patch_setup(image, blobs);
    blobs->cmdline = g_bytes_new(image->cmdline, strlen(image->cmdline) + 1);
    return true;
}

void boot_blobs_clear(BootBlobs *blobs)
{
    g_clear_pointer(&blobs->setup, g_bytes_unref);
    g_clear_pointer(&blobs->kernel, g_bytes_unref);
    g_clear_pointer(&blobs->initrd, g_bytes_unref);
    g_clear_pointer(&blobs->cmdline, g_bytes_unref);
}
