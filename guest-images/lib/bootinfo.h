/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loader said: command line, memory map, modules, where ACPI starts. Copied at start, so
 * the loader's own structures may be overwritten afterwards. Read-only once the guest runs.
 *
 * The command line is words separated by blanks, each `key=value` or `key`. Words that a guest
 * does not ask for are ignored (a Multiboot loader puts the file name first).
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
    uint64_t rsdp_gpa; /* 0: not told */
    unsigned range_count, module_count;
    BootRange ranges[BOOTINFO_MAX_RANGES];
    BootRange modules[BOOTINFO_MAX_MODULES];
} BootInfo;

extern BootInfo bootinfo;

void bootinfo_init(void);

/* Is there a word `key` or `key=...`? */
bool bootinfo_has_word(const char *key);

/* The number of `key=NUMBER`, @fallback without one; ends the guest when it is not a number. */
uint64_t bootinfo_get_number(const char *key, uint64_t fallback);

/* Is there exactly the word `key=value`? */
bool bootinfo_is_value(const char *key, const char *value);

#endif
