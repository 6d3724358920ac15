/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiboot 0.6.96: a header in the file's first 8 KiB, found by its magic, selects ELF or the
 * header's own addresses for loading. Entered in 32-bit mode, information in %ebx.
 */
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define MULTIBOOT_MAGIC 0x1badb002u
#define MULTIBOOT_BOOTED 0x2badb002u

enum { /* header flags */
       MULTIBOOT_ALIGN_MODULES = 1u << 0,
       MULTIBOOT_WANT_MEMORY = 1u << 1,
       MULTIBOOT_WANT_VIDEO = 1u << 2,
       MULTIBOOT_MUST_UNDERSTAND = 0xffffu,
       MULTIBOOT_HAS_ADDRESSES = 1u << 16,
};

enum { /* information flags */
       MULTIBOOT_INFO_MEMORY = 1u << 0,
       MULTIBOOT_INFO_CMDLINE = 1u << 2,
       MULTIBOOT_INFO_MODULES = 1u << 3,
       MULTIBOOT_INFO_MEMMAP = 1u << 6,
       MULTIBOOT_INFO_LOADER_NAME = 1u << 9,
};

typedef struct MultibootHeader {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
} MultibootHeader;

typedef struct MultibootInfo {
    uint32_t flags;
    uint32_t mem_lower_kib, mem_upper_kib;
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t module_count, modules;
    uint32_t symbols[4];
    uint32_t memmap_size, memmap;
    uint32_t drives_size, drives;
    uint32_t config_table;
    uint32_t loader_name;
    uint32_t apm_table;
    uint32_t vbe[4];
} MultibootInfo;

typedef struct MultibootModule {
    uint32_t start, end, text, reserved;
} MultibootModule;

typedef struct __attribute__((packed)) MultibootMemmapEntry {
    uint32_t size; /* size of the following fields */
    uint64_t gpa, len;
    uint32_t type;
} MultibootMemmapEntry;

G_STATIC_ASSERT(sizeof(MultibootInfo) == 88);
G_STATIC_ASSERT(sizeof(MultibootMemmapEntry) == 24);

/* A header without the addresses is 12 bytes long and may be at the end of the file. */
static MultibootHeader multiboot_header_at(const uint8_t *head, uint64_t len, uint64_t offset)
{
    MultibootHeader h = {0};
    memcpy(&h, head + offset, MIN(len - offset, sizeof(h)));
    return h;
}

bool boot_multiboot_probe(const uint8_t *head, uint64_t len, BootMultiboot *multiboot)
{
    len = MIN(len, BOOT_HEAD_SIZE);
    for (uint64_t at = 0; at + 12 <= len; at += 4) {
        MultibootHeader h = multiboot_header_at(head, len, at);
        if (h.magic == MULTIBOOT_MAGIC && h.magic + h.flags + h.checksum == 0) {
            multiboot->header_offset = (uint32_t)at;
            return true;
        }
    }
    return false;
}

static bool multiboot_check_flags(const BootFile *file, const MultibootHeader *h, GError **error)
{
    const uint32_t known = MULTIBOOT_ALIGN_MODULES | MULTIBOOT_WANT_MEMORY;
    if (h->flags & MULTIBOOT_WANT_VIDEO) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "requires a video mode (Multiboot flag 2); skiff has no display, "
                               "nearest is a kernel built for a serial console");
    }
    if (h->flags & MULTIBOOT_MUST_UNDERSTAND & ~known) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "requires unknown Multiboot features: flags 0x%x, known are 0x%x",
                               h->flags & MULTIBOOT_MUST_UNDERSTAND, known);
    }
    return true;
}

static bool multiboot_check_addresses(const BootFile *file, const BootMultiboot *mb, GError **error)
{
    uint32_t before = mb->header_addr - mb->load_addr;
    if (mb->header_addr < mb->load_addr || before > mb->header_offset) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is corrupt: Multiboot load address 0x%x lies before the file's "
                               "beginning (header at 0x%x, offset 0x%x)",
                               mb->load_addr, mb->header_addr, mb->header_offset);
    }
    uint64_t have = file->size - (mb->header_offset - before);
    if (mb->load_end_addr != 0 &&
        (mb->load_end_addr <= mb->load_addr || mb->load_end_addr - mb->load_addr > have)) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is truncated or corrupt: Multiboot loads 0x%x-0x%x, the "
                               "file has %" PRIu64 " bytes for it",
                               mb->load_addr, mb->load_end_addr, have);
    }
    uint64_t end = mb->load_end_addr != 0 ? mb->load_end_addr : mb->load_addr + have;
    if (mb->entry_addr < mb->load_addr || mb->entry_addr >= end) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is corrupt: its Multiboot entry 0x%x is not in the loaded range,  "
                               "0x%x-0x%" PRIx64,
                               mb->entry_addr, mb->load_addr, end);
    }
    if (mb->bss_end_addr != 0 && mb->bss_end_addr < mb->load_end_addr) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is corrupt: Multiboot bss ends at 0x%x, before the data's end "
                               "0x%x",
                               mb->bss_end_addr, mb->load_end_addr);
    }
    return true;
}

bool boot_multiboot_check(const BootFile *file, const uint8_t *head, uint64_t len,
                          BootMultiboot *mb, GError **error)
{
    MultibootHeader h = multiboot_header_at(head, len, mb->header_offset);
    if (!multiboot_check_flags(file, &h, error)) {
        return false;
    }
    mb->has_addresses = h.flags & MULTIBOOT_HAS_ADDRESSES;
    mb->header_addr = h.header_addr;
    mb->load_addr = h.load_addr;
    mb->load_end_addr = h.load_end_addr;
    mb->bss_end_addr = h.bss_end_addr;
    mb->entry_addr = h.entry_addr;
    if (!mb->has_addresses) {
        return true;
    }
    if (mb->header_offset + sizeof(h) > len) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is truncated: its Multiboot header at 0x%x ends behind the file",
                               mb->header_offset);
    }
    return multiboot_check_addresses(file, mb, error);
}

static bool multiboot_load_by_addresses(const BootImage *image, BootSpace *space, GError **error)
{
    const BootMultiboot *mb = &image->multiboot;
    uint64_t offset = mb->header_offset - (mb->header_addr - mb->load_addr);
    uint64_t size =
        mb->load_end_addr != 0 ? mb->load_end_addr - mb->load_addr : image->kernel.size - offset;
    uint64_t end = MAX(mb->load_addr + size, (uint64_t)mb->bss_end_addr);
    uint8_t *host = boot_space_take(space, mb->load_addr, end - mb->load_addr);
    if (host == NULL) {
        return boot_file_error(
            error, BOOT_ERROR_NO_ROOM, &image->kernel,
            "loads at 0x%x-0x%" PRIx64 ", which is not free guest RAM (0x1000-0x%" PRIx64
            " and 0x100000-0x%" PRIx64 "); link it elsewhere or raise -m",
            mb->load_addr, end - 1, X86_EBDA_BASE - 1, boot_space_low_end(space) - 1);
    }
    memset(host + size, 0, end - mb->load_addr - size);
    return boot_file_read(&image->kernel, offset, host, size, "the kernel", error);
}

/* Stores a string; *@address is its 32-bit address. */
static bool multiboot_place_string(BootSpace *space, const char *text, uint32_t *address,
                                   GError **error)
{
    uint64_t gpa;
    if (!boot_space_place_string(space, text, &gpa, error)) {
        return false;
    }
    *address = (uint32_t)gpa;
    return true;
}

static bool multiboot_place_modules(const BootImage *image, BootSpace *space, MultibootInfo *info,
                                    GError **error)
{
    uint64_t gpa;
    info->flags |= MULTIBOOT_INFO_MODULES; /* set even without modules: the count is 0 then */
    if (image->module_count == 0) {
        return true;
    }
    MultibootModule *modules =
        boot_space_place_data(space, image->module_count * sizeof(*modules), &gpa, error);
    if (modules == NULL) {
        return false;
    }
    info->module_count = image->module_count;
    info->modules = (uint32_t)gpa;
    for (unsigned i = 0; i < image->module_count; i++) {
        const BootModule *module = &image->modules[i];
        if (!boot_load_module(module, space, &gpa, error) ||
            !multiboot_place_string(space, module->text, &modules[i].text, error)) {
            return false;
        }
        modules[i].start = (uint32_t)gpa;
        modules[i].end = (uint32_t)(gpa + module->file.size);
    }
    return true;
}

static bool multiboot_place_memmap(BootSpace *space, MultibootInfo *info, GError **error)
{
    X86MemmapEntry map[X86_MEMMAP_MAX];
    uint64_t gpa;
    unsigned count = x86_memmap_build(space->ram, map);
    MultibootMemmapEntry *entries =
        boot_space_place_data(space, count * sizeof(*entries), &gpa, error);
    if (entries == NULL) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        entries[i] = (MultibootMemmapEntry){.size = sizeof(entries[i]) - sizeof(entries[i].size),
                                            .gpa = map[i].gpa,
                                            .len = map[i].size,
                                            .type = map[i].type};
    }
    info->flags |= MULTIBOOT_INFO_MEMMAP | MULTIBOOT_INFO_MEMORY;
    info->memmap = (uint32_t)gpa;
    info->memmap_size = (uint32_t)(count * sizeof(*entries));
    info->mem_lower_kib = X86_EBDA_BASE / X86_KIB;
    info->mem_upper_kib = (uint32_t)((boot_space_low_end(space) - X86_MIB) / X86_KIB);
    return true;
}

bool boot_multiboot_load(const BootImage *image, BootSpace *space, BootState *state, GError **error)
{
    uint64_t info_gpa;
    bool by_addresses = image->multiboot.has_addresses;
    if (by_addresses ? !multiboot_load_by_addresses(image, space, error)
                     : !boot_elf_load(&image->kernel, &image->elf, space, error)) {
        return false;
    }
    MultibootInfo *info = boot_space_place_data(space, sizeof(*info), &info_gpa, error);
    if (info == NULL) {
        return false;
    }
    info->flags = MULTIBOOT_INFO_CMDLINE | MULTIBOOT_INFO_LOADER_NAME;
    if (!multiboot_place_memmap(space, info, error) ||
        !multiboot_place_modules(image, space, info, error) ||
        !multiboot_place_string(space, image->cmdline, &info->cmdline, error) ||
        !multiboot_place_string(space, "skiff", &info->loader_name, error)) {
        return false;
    }
    *state = (BootState){.mode = X86_BOOT_PROT32,
                         .rip = by_addresses ? image->multiboot.entry_addr : image->elf.entry,
                         .rax = MULTIBOOT_BOOTED,
                         .rbx = info_gpa,
                         .bios_timer = true};
    return boot_place_gdt(space, false, state, error);
}
