/* SPDX-License-Identifier: Apache-2.0 */
/* What the x86_64 loaders share: files, places in guest RAM, the memory map, and their interfaces.
 */
#ifndef SKIFF_VMM_BOOT_BOOT_INT_H
#define SKIFF_VMM_BOOT_BOOT_INT_H

#include <asm/bootparam.h>
#include "vmm/boot/boot.h"
#include "vmm/arch/x86_64/boot_state.h"

#define BOOT_ERROR boot_error_quark()
GQuark boot_error_quark(void);
enum {
    BOOT_ERROR_FILE,    /* cannot be read */
    BOOT_ERROR_FORMAT,  /* malformed, truncated, or of a kind skiff does not boot */
    BOOT_ERROR_NO_ROOM, /* does not fit in the guest's RAM */
};

/* ---- files ---- */
typedef struct BootFile {
    const char *option; /* "-kernel": begins every message */
    char *path;
    int fd;
    uint64_t size;
} BootFile;

/* Opens a regular file that is not empty. On failure @file is closed. */
bool boot_file_open(BootFile *file, const char *option, const char *path, GError **error);
void boot_file_close(BootFile *file);
/* Reads exactly [@offset, @offset+@len); @what names the part, for the error. */
bool boot_file_read(const BootFile *file, uint64_t offset, void *buf, uint64_t len,
                    const char *what, GError **error);
/* Sets @error to "OPTION PATH: text". Returns false. */
bool boot_file_error(GError **error, int code, const BootFile *file, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- places in guest RAM ---- */
typedef struct BootSpan {
    uint64_t start, end;
} BootSpan;

/* The used ranges of guest RAM below 4 GiB. Initially: page 0, and EBDA to 1 MiB. */
typedef struct BootSpace {
    GuestRam *ram;
    GArray *taken; /* BootSpan */
} BootSpace;

void boot_space_init(BootSpace *space, GuestRam *ram);
void boot_space_clear(BootSpace *space);
/* The end of writable RAM below 4 GiB. */
uint64_t boot_space_low_end(const BootSpace *space);
/* Takes a fixed range and returns its host address; NULL when it is not RAM or already taken. */
void *boot_space_take(BootSpace *space, uint64_t gpa, uint64_t size);
/* Takes the lowest (highest) free range of @size within [@min, @max), aligned; NULL when none is
 * free. @max is limited to the end of low RAM. */
void *boot_space_place_low(BootSpace *space, uint64_t size, uint64_t align, uint64_t min,
                           uint64_t max, uint64_t *gpa);
void *boot_space_place_high(BootSpace *space, uint64_t size, uint64_t align, uint64_t min,
                            uint64_t max, uint64_t *gpa);
/* place_low() for boot data: anywhere in low RAM, cleared. Sets @error. */
void *boot_space_place_data(BootSpace *space, uint64_t size, uint64_t *gpa, GError **error);
/* Same, a copy of the string @text. */
bool boot_space_place_string(BootSpace *space, const char *text, uint64_t *gpa, GError **error);

/* ---- memory map; entry types are those of E820, PVH and Multiboot alike ---- */
enum {
    X86_MEMMAP_RAM = 1,
    X86_MEMMAP_RESERVED = 2,
    X86_MEMMAP_ACPI = 3,
    X86_MEMMAP_NVS = 4,
};

#define X86_MEMMAP_MAX 16

typedef struct X86MemmapEntry {
    uint64_t gpa, size;
    uint32_t type;
} X86MemmapEntry;

/* Fills @map in ascending order without overlaps; returns the number of entries. */
unsigned x86_memmap_build(const GuestRam *ram, X86MemmapEntry map[X86_MEMMAP_MAX]);

/* ---- ELF ---- */
#define BOOT_ELF_MAX_SEGMENTS 64

typedef struct BootElfSegment {
    uint64_t offset, file_size, gpa, mem_size;
} BootElfSegment;

typedef struct BootElf {
    bool is_64;
    bool is_linux; /* has a Linux note */
    bool has_pvh;
    uint64_t pvh_entry;
    uint64_t entry; /* e_entry, as a physical address */
    BootElfSegment segments[BOOT_ELF_MAX_SEGMENTS];
    unsigned count;
} BootElf;

/* Reads headers and notes; refuses all but static x86 images with sane bounds. */
bool boot_elf_parse(const BootFile *file, BootElf *elf, GError **error);
bool boot_elf_load(const BootFile *file, const BootElf *elf, BootSpace *space, GError **error);

/* ---- the image ---- */
typedef struct BootModule {
    BootFile file;
    char *text; /* "file arguments", as the user wrote it */
} BootModule;

typedef struct BootBzimage {
    struct setup_header header;
    uint64_t payload_offset, payload_size;
} BootBzimage;

typedef struct BootMultiboot {
    bool has_addresses; /* load by the header's addresses, not by the ELF ones */
    uint32_t header_offset, header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
} BootMultiboot;

struct BootImage {
    BootKind kind;
    BootFile kernel;
    BootModule *modules;
    unsigned module_count;
    char *cmdline;
    BootBzimage bzimage;
    BootMultiboot multiboot;
    BootElf elf; /* PVH, and Multiboot without addresses */
};

/* The beginning of the file that identifies its kind (Multiboot: its first 8 KiB). */
#define BOOT_HEAD_SIZE 8192

/* The size of all files of -initrd one after the other, each 4-byte aligned; UINT64_MAX: of 16 EiB or
 * more. */
uint64_t boot_joined_initrd_size(const BootImage *image);
/* Reads them to @host, which has that size. */
bool boot_read_joined_initrd(const BootImage *image, uint8_t *host, GError **error);
/* Loads all modules as one range, each 4-byte aligned, as high as possible below @max. */
bool boot_load_joined_initrd(const BootImage *image, BootSpace *space, uint64_t max, uint64_t *gpa,
                             uint64_t *size, GError **error);
/* Loads one module, page-aligned, as high as possible. */
bool boot_load_module(const BootModule *module, BootSpace *space, uint64_t *gpa, GError **error);

/* Writes what a BIOS leaves in the first MiB. */
void boot_place_bios_data(GuestRam *ram);

/* A flat GDT of the selectors 0x10 (code, 64-bit when @long_mode) and 0x18 (data). */
bool boot_place_gdt(BootSpace *space, bool long_mode, BootState *state, GError **error);
/* Page tables that map the first 4 GiB to themselves. */
bool boot_place_identity_map(BootSpace *space, BootState *state, GError **error);

bool boot_bzimage_probe(const uint8_t *head, uint64_t len);
bool boot_bzimage_parse(const BootFile *file, BootBzimage *bzimage, GError **error);
bool boot_bzimage_load(const BootImage *image, BootSpace *space, const BootTables *tables,
                       BootState *state, GError **error);
bool boot_pvh_load(const BootImage *image, BootSpace *space, const BootTables *tables,
                   BootState *state, GError **error);
/* Looks for a header in the first @len bytes; false without error when there is none. */
bool boot_multiboot_probe(const uint8_t *head, uint64_t len, BootMultiboot *multiboot);
bool boot_multiboot_check(const BootFile *file, const uint8_t *head, uint64_t len,
                          BootMultiboot *multiboot, GError **error);
bool boot_multiboot_load(const BootImage *image, BootSpace *space, BootState *state,
                         GError **error);

#endif
