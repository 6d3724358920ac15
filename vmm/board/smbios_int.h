/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by smbios_options.c (-smbios), smbios_structures.c and smbios.c (the entry point). */
#ifndef SKIFF_VMM_BOARD_SMBIOS_INT_H
#define SKIFF_VMM_BOARD_SMBIOS_INT_H

#include "vmm/board/smbios.h"

#define SMBIOS_TYPES 256
#define SMBIOS_TYPE_END 127

/* One of the user's structures: its formatted part, its strings and two NULs. */
typedef struct SmbiosFile {
    uint8_t type;
    GBytes *bytes;
} SmbiosFile;

/* -smbios type=8 */
typedef struct SmbiosPort {
    char *internal_reference, *external_reference;
    uint8_t connector_type, port_type;
} SmbiosPort;

/* Strings may be NULL. */
struct SmbiosOptions {
    bool has_type[SMBIOS_TYPES]; /* fields of it were given */
    bool has_file[SMBIOS_TYPES];
    struct {
        char *vendor, *version, *date, *release;
        bool uefi, vm;
    } bios;
    struct {
        char *manufacturer, *product, *version, *serial, *uuid, *sku, *family;
    } system;
    struct {
        char *manufacturer, *product, *version, *serial, *asset, *location;
    } board;
    struct {
        char *manufacturer, *version, *serial, *asset, *sku;
    } chassis;
    struct {
        char *socket_prefix, *manufacturer, *version, *serial, *asset, *part;
        uint16_t max_speed, current_speed, family;
        uint64_t id; /* 0: from CPUID */
    } processor;
    struct {
        char *locator_prefix, *bank, *manufacturer, *serial, *asset, *part;
        uint16_t speed;
    } memory;
    uint8_t release_major, release_minor;
    GPtrArray *ports;       /* SmbiosPort */
    GPtrArray *oem_strings; /* char * */
    GPtrArray *files;       /* SmbiosFile */
};

/* ---- structures ---- */
typedef struct SmbiosStructures {
    GByteArray *bytes;
    unsigned count;
    unsigned max_size; /* of the largest one */
} SmbiosStructures;

/* Appends all structures. @is_64: for an entry point of version 3.0. */
void smbios_put_structures(SmbiosStructures *out, const SmbiosMachine *machine, bool is_64)
    ANY_THREAD;

#endif
