/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct boot: takes the files of -kernel, -initrd, -append (or -bios), detects their kind, and
 * loads them into guest RAM together with the boot data that the boot protocol requires.
 *
 * boot_open() at start-up reads headers only and refuses what can never work. boot_load() writes
 * guest RAM; the board calls it before the first vCPU runs and again at every reset, with vCPUs
 * parked, since the guest has overwritten kernel and tables. It reads whole files, so after
 * start-up it must run in a worker. No KVM in here: BootState, which the architecture defines
 * (vmm/arch/x86_64/boot_state.h), describes the first vCPU's registers.
 *
 * Errors name the file, the fault, its place, and what would work.
 */
#ifndef SKIFF_VMM_BOOT_BOOT_H
#define SKIFF_VMM_BOOT_BOOT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/core/ram.h"

typedef struct BootState BootState;
typedef struct BootImage BootImage;

typedef enum BootKind {
    BOOT_KIND_BZIMAGE,   /* Linux/x86 boot protocol, 64-bit entry */
    BOOT_KIND_PVH,       /* ELF with a Xen PHYS32_ENTRY note */
    BOOT_KIND_MULTIBOOT, /* Multiboot 0.6.96 ("Multiboot 1") */
} BootKind;

typedef struct BootRequest {
    const char *kernel; /* path; required */
    /* Files separated by commas (a comma in a name is written `,,`), or NULL. For Linux they are
     * joined into one initramfs; for other kernels each is a module: "file arguments". */
    const char *initrd;
    const char *cmdline; /* NULL: the kernel's default (Linux: console=ttyS0) */
} BootRequest;

/* Addresses of the board's tables, for the kernel. */
typedef struct BootTables {
    uint64_t rsdp_gpa; /* ACPI RSDP; 0: none */
} BootTables;

/* Copies @request. NULL + error. */
BootImage *boot_open(const BootRequest *request, GError **error) ANY_THREAD;
void boot_free(BootImage *image) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BootImage, boot_free)
BootKind boot_kind(const BootImage *image) ANY_THREAD;
/* Writes kernel, initrd, command line and boot data into @ram. On failure RAM holds parts of
 * them. */
bool boot_load(BootImage *image, GuestRam *ram, const BootTables *tables, BootState *state,
               GError **error) ANY_THREAD;

/* ---- kernels that firmware boots ---- */
/* Each part as firmware reads it, and the address at which QEMU places it. */
typedef struct BootBlobs {
    GBytes *setup, *kernel, *cmdline; /* cmdline with its NUL */
    GBytes *initrd;                   /* NULL: none */
    uint32_t setup_addr, kernel_addr, cmdline_addr, initrd_addr;
} BootBlobs;

/* Reads all files: in a worker after start-up. @low_ram: bytes of RAM below 4 GiB. The caller calls
 * boot_blobs_clear(). False + error (@blobs is empty) for anything but a bzImage, and when the
 * initial RAM disk does not fit. */
bool boot_read_blobs(const BootRequest *request, uint64_t low_ram, BootBlobs *blobs, GError **error)
    ANY_THREAD;
void boot_blobs_clear(BootBlobs *blobs) ANY_THREAD;

/* ---- ROM: -bios ---- */
typedef struct BootRom {
    uint8_t *host; /* -bios: anonymous mapping, owned; NULL: flash */
    uint64_t size;
    const uint8_t *content; /* the same, or borrowed flash; NULL: there is no firmware */
} BootRom;

/* Reads a raw firmware image. False + error when it cannot be read or has an impossible size. */
bool boot_rom_open(BootRom *rom, const char *path, GError **error) ANY_THREAD;
void boot_rom_close(BootRom *rom) ANY_THREAD;
/* Adds it to @ram as a read-only block at the architecture's address. @rom must outlive @ram. */
void boot_rom_map(const BootRom *rom, GuestRam *ram) ANY_THREAD;

#endif
