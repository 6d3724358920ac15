/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loader's information: command line, memory map, modules, address of ACPI. Copied at start, so
 * the loader's own structures may be overwritten afterwards. Read-only while the guest runs.
 *
 * The command line is words separated by blanks, each `key=value` or `key`. Unused words are
 * ignored (a Multiboot loader puts the file name first).
 */
#ifndef LIB_BOOTINFO_H
#define LIB_BOOTINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOOTINFO_MAX_RANGES 32
#define BOOTINFO_MAX_MODULES 8
#define BOOTINFO_MAX_COMMAND_LINE 1024
#define BOOTINFO_TYPE_RAM 1

typedef struct BootRange {
    uint64_t base, size;
    uint32_t type; /* as in E820: 1 is RAM */
} BootRange;

typedef struct BootInfo {
    unsigned protocol; /* BOOT_PROTOCOL_* */
    char command_line[BOOTINFO_MAX_COMMAND_LINE];
    uint64_t rsdp_gpa; /* 0: not given */
    unsigned range_count, module_count;
    BootRange ranges[BOOTINFO_MAX_RANGES];
    BootRange modules[BOOTINFO_MAX_MODULES];
} BootInfo;

extern BootInfo bootinfo;

void bootinfo_init(void);

/* Whether there is a word `key` or `key=...`. */
bool bootinfo_has_word(const char *key);

/* The number of `key=NUMBER`, or @fallback without that word; ends the guest when it is not a
 * number. */
uint64_t bootinfo_get_number(const char *key, uint64_t fallback);

/* The value of `key=VALUE`, which ends with a blank or the text; NULL without that word. */
const char *bootinfo_get_text(const char *key);

/* Whether there is exactly the word `key=value`. */
bool bootinfo_is_value(const char *key, const char *value);

#endif
