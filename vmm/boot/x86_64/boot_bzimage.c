/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a Linux bzImage by the 64-bit boot protocol, or by the 32-bit one if the image has no
 * 64-bit entry. Linux Documentation/arch/x86/boot.rst and zero-page.rst.
 *
 *   file    | boot sector + setup code ((setup_sects + 1) * 512) | protected-mode kernel |
 *   memory                       kernel at pref_address, init_size bytes; entry at + 0 (32-bit),
 *                                + 0x200 (64-bit)
 *
 * The setup code never runs: it calls the BIOS, which does not exist. An image whose protected-mode
 * part cannot start without its setup code is refused.
 */
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define SETUP_HEADER_OFFSET 0x1f1
#define SETUP_SECTOR 512
#define SETUP_BOOT_FLAG 0xaa55
#define SETUP_VERSION_OLDEST 0x203 /* the first with initrd_addr_max */
#define SETUP_VERSION_64BIT 0x20c
#define SETUP_VERSION_RSDP 0x20e
#define SETUP_DEFAULT_SECTORS 4
#define LOADER_UNREGISTERED 0xff
#define VID_MODE_NORMAL 0xffff
#define ENTRY64_OFFSET 0x200
#define DEFAULT_CMDLINE_SIZE 255 /* before version 2.06 */
#define DEFAULT_INITRD_MAX 0x37ffffff

bool boot_bzimage_probe(const uint8_t *head, uint64_t len)
{
    const size_t flag = SETUP_HEADER_OFFSET + offsetof(struct setup_header, boot_flag);
    const size_t magic = SETUP_HEADER_OFFSET + offsetof(struct setup_header, header);
    uint16_t boot_flag;
    if (len < magic + 4) {
        return false;
    }
    memcpy(&boot_flag, head + flag, sizeof(boot_flag));
    return boot_flag == SETUP_BOOT_FLAG && memcmp(head + magic, "HdrS", 4) == 0;
}

static bool bzimage_is_64bit(const struct setup_header *h)
{
    return h->version >= SETUP_VERSION_64BIT && (h->xloadflags & XLF_KERNEL_64) != 0;
}

/* Images in the bzImage format that are not kernels: their setup code is the whole program. */
static const char *const bzimage_bios_programs[] = {"iPXE", "gPXE", "Etherboot", "MEMDISK", "GRUB"};

static bool bzimage_check_program(const BootFile *file, const struct setup_header *h,
                                  GError **error)
{
    char name[16] = {0};
    uint64_t offset = 0x200 + (uint64_t)h->kernel_version;
    if (h->kernel_version == 0 || offset >= file->size ||
        !boot_file_read(file, offset, name, MIN(sizeof(name) - 1, file->size - offset),
                        "the kernel's version", error)) {
        return h->kernel_version == 0 || offset >= file->size;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bzimage_bios_programs); i++) {
        if (g_str_has_prefix(name, bzimage_bios_programs[i])) {
            return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                                   "is %s, which runs on BIOS calls: -kernel has no BIOS",
                                   bzimage_bios_programs[i]);
        }
    }
    return true;
}

static bool bzimage_check_header(const BootFile *file, const struct setup_header *h, GError **error)
{
    if (h->version < SETUP_VERSION_OLDEST) {
        return boot_file_error(
            error, BOOT_ERROR_FORMAT, file,
            "speaks boot protocol %u.%02u; skiff needs 2.03 (Linux 2.4.18) or later",
            h->version >> 8, h->version & 0xff);
    }
    if (!(h->loadflags & LOADED_HIGH)) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is a zImage, loaded below 1 MiB (loadflags at 0x211); "
                               "give a bzImage");
    }
    if ((h->kernel_alignment & (h->kernel_alignment - 1)) != 0) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is corrupt: kernel_alignment 0x%x at 0x230 is not a power of two",
                               h->kernel_alignment);
    }
    return bzimage_check_program(file, h, error);
}

/* The header ends at the target of the jump at 0x200; fields behind it are code. */
static uint64_t bzimage_header_size(const struct setup_header *h)
{
    uint64_t end = 0x202 + (h->jump >> 8);
    uint64_t size = end - SETUP_HEADER_OFFSET;
    return MIN(size, sizeof(struct setup_header));
}

bool boot_bzimage_parse(const BootFile *file, BootBzimage *bz, GError **error)
{
    struct setup_header *h = &bz->header;
    *bz = (BootBzimage){0};
    if (!boot_file_read(file, SETUP_HEADER_OFFSET, h, sizeof(*h), "the setup header", error)) {
        return false;
    }
    uint64_t known = bzimage_header_size(h);
    memset((uint8_t *)h + known, 0, sizeof(*h) - known);
    if (!bzimage_check_header(file, h, error)) {
        return false;
    }
    if (h->cmdline_size == 0) {
        h->cmdline_size = DEFAULT_CMDLINE_SIZE;
    }
    if (h->initrd_addr_max == 0) {
        h->initrd_addr_max = DEFAULT_INITRD_MAX;
    }
    uint64_t sectors = h->setup_sects != 0 ? h->setup_sects : SETUP_DEFAULT_SECTORS;
    bz->payload_offset = (sectors + 1) * SETUP_SECTOR;
    if (bz->payload_offset >= file->size) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is truncated: the kernel begins at 0x%" PRIx64
                               ", the file ends at 0x%" PRIx64,
                               bz->payload_offset, file->size);
    }
    /* Counted in paragraphs, so the last one may be short; a signature follows. */
    uint64_t have = file->size - bz->payload_offset;
    uint64_t paragraphs = (uint64_t)h->syssize * 16;
    if (paragraphs > have + 15) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is truncated: the header announces %" PRIu64
                               " bytes of kernel at 0x%" PRIx64 ", the file has %" PRIu64,
                               paragraphs, bz->payload_offset, have);
    }
    bz->payload_size = paragraphs != 0 ? MIN(paragraphs, have) : have;
    if (bz->payload_size <= (bzimage_is_64bit(h) ? ENTRY64_OFFSET : 0)) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is corrupt: %" PRIu64 " bytes of kernel do not reach its entry",
                               bz->payload_size);
    }
    return true;
}

/* Takes the kernel's preferred address, or an aligned range above it; *@gpa is the result. A kernel
 * below its preferred address moves itself up to it, so that range must be RAM in any case. */
static uint8_t *bzimage_place_kernel(const BootImage *image, BootSpace *space, uint64_t *gpa,
                                     GError **error)
{
    const struct setup_header *h = &image->bzimage.header;
    uint64_t preferred = h->pref_address != 0 ? h->pref_address : X86_MIB;
    uint64_t size = MAX(image->bzimage.payload_size, h->init_size);
    *gpa = preferred;
    uint8_t *host = boot_space_take(space, *gpa, size);
    if (host == NULL && h->relocatable_kernel && preferred < X86_4GIB) {
        uint64_t align = MAX(h->kernel_alignment, X86_PAGE_SIZE);
        host = boot_space_place_low(space, size, align, MAX(preferred, X86_MIB), X86_4GIB, gpa);
    }
    if (host == NULL) {
        boot_file_error(error, BOOT_ERROR_NO_ROOM, &image->kernel,
                        "needs %" PRIu64 " KiB of RAM at 0x%" PRIx64
                        ", the guest's ends at 0x%" PRIx64 " below 4 GiB; give more with -m",
                        (size + X86_KIB - 1) / X86_KIB, preferred, boot_space_low_end(space));
    }
    return host;
}

static bool bzimage_place_cmdline(const BootImage *image, BootSpace *space,
                                  struct boot_params *params, GError **error)
{
    uint64_t gpa;
    if (!boot_space_place_string(space, image->cmdline, &gpa, error)) {
        return false;
    }
    params->hdr.cmd_line_ptr = (uint32_t)gpa;
    return true;
}

static bool bzimage_place_initrd(const BootImage *image, BootSpace *space,
                                 struct boot_params *params, GError **error)
{
    uint64_t gpa, size;
    if (image->module_count == 0) {
        return true;
    }
    uint64_t max = (params->hdr.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G)
                       ? X86_4GIB
                       : (uint64_t)params->hdr.initrd_addr_max + 1;
    if (!boot_load_joined_initrd(image, space, max, &gpa, &size, error)) {
        return false;
    }
    params->hdr.ramdisk_image = (uint32_t)gpa;
    params->hdr.ramdisk_size = (uint32_t)size;
    return true;
}

static void bzimage_fill_e820(const GuestRam *ram, struct boot_params *params)
{
    X86MemmapEntry map[X86_MEMMAP_MAX];
    unsigned count = x86_memmap_build(ram, map);
    for (unsigned i = 0; i < count; i++) {
        params->e820_table[i] =
            (struct boot_e820_entry){.addr = map[i].gpa, .size = map[i].size, .type = map[i].type};
    }
    params->e820_entries = (uint8_t)count;
}

static bool bzimage_fill_params(const BootImage *image, BootSpace *space, uint64_t kernel_gpa,
                                const BootTables *tables, struct boot_params *params,
                                GError **error)
{
    params->hdr = image->bzimage.header;
    params->hdr.type_of_loader = LOADER_UNREGISTERED;
    params->hdr.vid_mode = VID_MODE_NORMAL;
    params->hdr.code32_start = (uint32_t)kernel_gpa;
    /* Only real-mode code uses these, and none runs. */
    params->hdr.loadflags &= (uint8_t)~CAN_USE_HEAP;
    params->hdr.setup_data = 0;
    if (params->hdr.version >= SETUP_VERSION_RSDP) {
        params->acpi_rsdp_addr = tables->rsdp_gpa;
    }
    bzimage_fill_e820(space->ram, params);
    return bzimage_place_cmdline(image, space, params, error) &&
           bzimage_place_initrd(image, space, params, error);
}

/* Sets the kernel's entry point and mode. */
static bool bzimage_set_state(const BootImage *image, BootSpace *space, uint64_t kernel_gpa,
                              uint64_t params_gpa, BootState *state, GError **error)
{
    bool is_64bit = bzimage_is_64bit(&image->bzimage.header);
    *state = (BootState){.mode = is_64bit ? X86_BOOT_LONG64 : X86_BOOT_PROT32,
                         .rip = kernel_gpa + (is_64bit ? ENTRY64_OFFSET : 0),
                         .rsi = params_gpa};
    return boot_place_gdt(space, is_64bit, state, error) &&
           (!is_64bit || boot_place_identity_map(space, state, error));
}

bool boot_bzimage_load(const BootImage *image, BootSpace *space, const BootTables *tables,
                       BootState *state, GError **error)
{
    uint64_t kernel_gpa, params_gpa;
    uint8_t *kernel = bzimage_place_kernel(image, space, &kernel_gpa, error);
    if (kernel == NULL || !boot_file_read(&image->kernel, image->bzimage.payload_offset, kernel,
                                          image->bzimage.payload_size, "the kernel", error)) {
        return false;
    }
    struct boot_params *params = boot_space_place_data(space, sizeof(*params), &params_gpa, error);
    if (params == NULL || !bzimage_fill_params(image, space, kernel_gpa, tables, params, error)) {
        return false;
    }
    return bzimage_set_state(image, space, kernel_gpa, params_gpa, state, error);
}
