/* SPDX-License-Identifier: Apache-2.0 */
/* PVH: an ELF kernel entered in 32-bit mode with hvm_start_info in %ebx. Xen docs/misc/pvh.pandoc,
 * public/arch-x86/hvm/start_info.h. */
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define PVH_MAGIC 0x336ec578u
#define PVH_VERSION 1 /* includes the memory map */

typedef struct PvhStartInfo {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules_gpa; /* PvhModule[] */
    uint64_t cmdline_gpa;
    uint64_t rsdp_gpa;
    uint64_t memmap_gpa; /* PvhMemmapEntry[] */
    uint32_t memmap_count;
    uint32_t reserved;
} PvhStartInfo;

typedef struct PvhModule {
    uint64_t gpa, size, cmdline_gpa, reserved;
} PvhModule;

typedef struct PvhMemmapEntry {
    uint64_t gpa, size;
    uint32_t type, reserved;
} PvhMemmapEntry;

G_STATIC_ASSERT(sizeof(PvhStartInfo) == 56);
G_STATIC_ASSERT(sizeof(PvhModule) == 32);
G_STATIC_ASSERT(sizeof(PvhMemmapEntry) == 24);

static bool pvh_place_memmap(BootSpace *space, PvhStartInfo *info, GError **error)
{
    X86MemmapEntry map[X86_MEMMAP_MAX];
    info->memmap_count = x86_memmap_build(space->ram, map);
    PvhMemmapEntry *entries = boot_space_place_data(space, info->memmap_count * sizeof(*entries),
                                                    &info->memmap_gpa, error);
    if (entries == NULL) {
        return false;
    }
    for (unsigned i = 0; i < info->memmap_count; i++) {
        entries[i] = (PvhMemmapEntry){.gpa = map[i].gpa, .size = map[i].size, .type = map[i].type};
    }
    return true;
}

/* Linux uses the first module as its initramfs, so it gets one; other kernels get each. */
static bool pvh_load_modules(const BootImage *image, BootSpace *space, PvhModule *modules,
                             GError **error)
{
    if (image->elf.is_linux) {
        return boot_load_joined_initrd(image, space, X86_4GIB, &modules[0].gpa, &modules[0].size,
                                       error);
    }
    for (unsigned i = 0; i < image->module_count; i++) {
        modules[i].size = image->modules[i].file.size;
        if (!boot_load_module(&image->modules[i], space, &modules[i].gpa, error) ||
            !boot_space_place_string(space, image->modules[i].text, &modules[i].cmdline_gpa,
                                     error)) {
            return false;
        }
    }
    return true;
}

static bool pvh_place_modules(const BootImage *image, BootSpace *space, PvhStartInfo *info,
                              GError **error)
{
    if (image->module_count == 0) {
        return true;
    }
    info->module_count = image->elf.is_linux ? 1 : image->module_count;
    PvhModule *modules = boot_space_place_data(space, info->module_count * sizeof(*modules),
                                               &info->modules_gpa, error);
    return modules != NULL && pvh_load_modules(image, space, modules, error);
}

bool boot_pvh_load(const BootImage *image, BootSpace *space, const BootTables *tables,
                   BootState *state, GError **error)
{
    uint64_t info_gpa;
    if (!boot_elf_load(&image->kernel, &image->elf, space, error)) {
        return false;
    }
    PvhStartInfo *info = boot_space_place_data(space, sizeof(*info), &info_gpa, error);
    if (info == NULL) {
        return false;
    }
    info->magic = PVH_MAGIC;
    info->version = PVH_VERSION;
    info->rsdp_gpa = tables->rsdp_gpa;
    if (!pvh_place_memmap(space, info, error) || !pvh_place_modules(image, space, info, error) ||
        !boot_space_place_string(space, image->cmdline, &info->cmdline_gpa, error)) {
        return false;
    }
    *state = (BootState){.mode = X86_BOOT_PROT32, .rip = image->elf.pvh_entry, .rbx = info_gpa};
    return boot_place_gdt(space, false, state, error);
}
