/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMBIOS tables (DSP0134): what `dmidecode` and /sys/class/dmi show in the guest. Structures, their
 * handles and their default strings are those of QEMU's q35.
 *
 * smbios_options_new() takes -smbios. smbios_build() makes an entry point and the structures, which
 * firmware gets as files of fw_cfg. smbios_write() puts both into the RAM of a guest that boots
 * without firmware.
 */
#ifndef SKIFF_VMM_BOARD_SMBIOS_H
#define SKIFF_VMM_BOARD_SMBIOS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/core/ram.h"
#include "util/opts/opts.h"

typedef struct SmbiosOptions SmbiosOptions;

/* The formats of the entry point, as of -machine smbios-entry-point-type=. */
typedef enum SmbiosEntry {
    SMBIOS_ENTRY_AUTO, /* 32-bit, unless the tables are too large for it */
    SMBIOS_ENTRY_32,   /* version 2.8: tables below 64 KiB */
    SMBIOS_ENTRY_64,   /* version 3.0 */
} SmbiosEntry;

/* Parses the options (OptDict, as written). Without @read_files no file is read, and file= and
 * path= contribute nothing: this only checks the options. Reads files otherwise: in a worker. NULL
 * + error, which begins with -smbios. */
SmbiosOptions *smbios_options_new(const GPtrArray *options, bool read_files, GError **error)
    ANY_THREAD;
void smbios_options_free(SmbiosOptions *options) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SmbiosOptions, smbios_options_free)

typedef struct SmbiosMachine {
    const SmbiosOptions *options;
    const char *uuid; /* text; NULL: zeros */
    unsigned sockets, cores_per_socket, threads_per_socket;
    uint32_t cpuid_version, cpuid_features; /* EAX and EDX of CPUID leaf 1 */
    const GuestRam *ram;
    SmbiosEntry entry;
    bool has_firmware; /* which adds the BIOS structure itself if there is none */
} SmbiosMachine;

typedef struct SmbiosTables {
    GBytes *anchor; /* the entry point; its address and checksums are 0 */
    GBytes *structures;
} SmbiosTables;

/* The caller owns the references. False + error: too many processors for -smbios, or tables too
 * large for the entry point that was chosen. */
bool smbios_build(const SmbiosMachine *machine, SmbiosTables *tables, GError **error) ANY_THREAD;
/* Writes the entry point to @gpa, with the address of the structures, which follow it. False +
 * error: they need more than @size bytes. */
bool smbios_write(const SmbiosTables *tables, GuestRam *ram, uint64_t gpa, uint64_t size,
                  GError **error) ANY_THREAD;

#endif
