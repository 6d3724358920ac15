/* SPDX-License-Identifier: Apache-2.0 */
/* A raw firmware image: ends at 4 GiB, where the reset vector is. The board also shows its last
 * bytes below 1 MiB, the target of real-mode far jumps. */
#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define ROM_GRANULE (64 * X86_KIB)

static bool rom_check_size(const BootFile *file, GError **error)
{
    if (file->size % ROM_GRANULE != 0 || file->size > X86_ROM_MAX_SIZE) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is %" PRIu64 " bytes; a firmware image is a multiple of 64 KiB, "
                               "at most 16 MiB",
                               file->size);
    }
    return true;
}

static bool rom_read(BootRom *rom, const BootFile *file, GError **error)
{
    void *host = mmap(NULL, file->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host == MAP_FAILED) {
        return boot_file_error(error, BOOT_ERROR_FILE, file,
                               "no memory for its %" PRIu64 " bytes: %s", file->size,
                               g_strerror(errno));
    }
    *rom = (BootRom){.host = host, .size = file->size, .content = host};
    if (!boot_file_read(file, 0, host, file->size, "the image", error)) {
        boot_rom_close(rom);
        return false;
    }
    return true;
}

bool boot_rom_open(BootRom *rom, const char *path, GError **error)
{
    BootFile file;
    *rom = (BootRom){0};
    if (!boot_file_open(&file, "-bios", path, error)) {
        return false;
    }
    bool ok = rom_check_size(&file, error) && rom_read(rom, &file, error);
    boot_file_close(&file);
    return ok;
}

void boot_rom_close(BootRom *rom)
{
    if (rom->host != NULL) {
        munmap(rom->host, rom->size);
    }
    *rom = (BootRom){0};
}

void boot_rom_map(const BootRom *rom, GuestRam *ram)
{
    const RamBlock top = {
        .gpa = X86_4GIB - rom->size,
        .size = rom->size,
        .host = rom->host,
        .read_only = true,
        .fd = -1,
        .name = "bios",
    };
    guest_ram_add(ram, &top);
}
