/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/bootinfo.h"
#include "lib/exit.h"
#include "lib/layout.h"
#include "lib/text.h"

/* Set by boot.S before C runs. */
uint32_t boot_protocol = BOOT_PROTOCOL_UNKNOWN;
uint32_t boot_info_gpa;

BootInfo bootinfo;

/* Xen public/arch-x86/hvm/start_info.h, version 1. */
#define PVH_MAGIC 0x336ec578
typedef struct PvhStartInfo {
    uint32_t magic, version, flags, module_count;
    uint64_t module_list, command_line, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
} PvhStartInfo;

typedef struct PvhModule {
    uint64_t address, size, command_line, reserved;
} PvhModule;

typedef struct PvhRange {
    uint64_t base, size;
    uint32_t type, reserved;
} PvhRange;

/* Multiboot Specification 0.6.96 §3.3. */
typedef struct MultibootInfo {
    uint32_t flags, mem_lower_kib, mem_upper_kib, boot_device, command_line;
    uint32_t module_count, module_list;
    uint32_t symbols[4];
    uint32_t map_size, map;
} MultibootInfo;

typedef struct __attribute__((packed)) MultibootRange {
    uint32_t entry_size; /* size of the rest */
    uint64_t base, size;
    uint32_t type;
} MultibootRange;

typedef struct MultibootModule {
    uint32_t start, end, command_line, reserved;
} MultibootModule;

#define MULTIBOOT_HAS_MEMORY 0x01
#define MULTIBOOT_HAS_COMMAND_LINE 0x04
#define MULTIBOOT_HAS_MODULES 0x08
#define MULTIBOOT_HAS_MAP 0x40

static void copy_command_line(uint64_t gpa)
{
    const char *text = (const char *)gpa;
    size_t i = 0;
    for (; gpa && text[i] && i < sizeof(bootinfo.command_line) - 1; i++) {
        bootinfo.command_line[i] = text[i];
    }
    bootinfo.command_line[i] = 0;
}

static void add_range(uint64_t base, uint64_t size, uint32_t type)
{
    if (bootinfo.range_count < BOOTINFO_MAX_RANGES) {
        bootinfo.ranges[bootinfo.range_count++] = (BootRange){base, size, type};
    }
}

static void add_module(uint64_t base, uint64_t size)
{
    if (bootinfo.module_count < BOOTINFO_MAX_MODULES) {
        bootinfo.modules[bootinfo.module_count++] = (BootRange){base, size, 0};
    }
}

static void read_pvh(void)
{
    const PvhStartInfo *info = (const PvhStartInfo *)(uint64_t)boot_info_gpa;
    if (info->magic != PVH_MAGIC) {
        guest_fail("PVH start info at 0x%x has magic 0x%x", boot_info_gpa, info->magic);
    }
    copy_command_line(info->command_line);
    bootinfo.rsdp_gpa = info->rsdp;
    const PvhModule *modules = (const PvhModule *)info->module_list;
    for (uint32_t i = 0; i < info->module_count; i++) {
        add_module(modules[i].address, modules[i].size);
    }
    if (info->version < 1) {
        return;
    }
    const PvhRange *ranges = (const PvhRange *)info->memory_map;
    for (uint32_t i = 0; i < info->memory_map_entries; i++) {
        add_range(ranges[i].base, ranges[i].size, ranges[i].type);
    }
}

static void read_multiboot(void)
{
    const MultibootInfo *info = (const MultibootInfo *)(uint64_t)boot_info_gpa;
    if (info->flags & MULTIBOOT_HAS_COMMAND_LINE) {
        copy_command_line(info->command_line);
    }
    if (info->flags & MULTIBOOT_HAS_MODULES) {
        const MultibootModule *modules = (const MultibootModule *)(uint64_t)info->module_list;
        for (uint32_t i = 0; i < info->module_count; i++) {
            add_module(modules[i].start, modules[i].end - modules[i].start);
        }
    }
    if (info->flags & MULTIBOOT_HAS_MAP) {
        uint64_t at = info->map;
        while (at < (uint64_t)info->map + info->map_size) {
            const MultibootRange *range = (const MultibootRange *)at;
            add_range(range->base, range->size, range->type);
            at += range->entry_size + sizeof(range->entry_size);
        }
    } else if (info->flags & MULTIBOOT_HAS_MEMORY) {
        add_range(0, (uint64_t)info->mem_lower_kib << 10, BOOTINFO_TYPE_RAM);
        add_range(1 << 20, (uint64_t)info->mem_upper_kib << 10, BOOTINFO_TYPE_RAM);
    }
}

void bootinfo_init(void)
{
    bootinfo.protocol = boot_protocol;
    if (boot_protocol == BOOT_PROTOCOL_PVH) {
        read_pvh();
    } else if (boot_protocol == BOOT_PROTOCOL_MULTIBOOT) {
        read_multiboot();
    } else {
        guest_fail("entered by a loader that is neither PVH nor Multiboot");
    }
}

/* The text after `key` in a word that starts with it (at "=", blank or end), or NULL. */
static const char *find_word(const char *key)
{
    size_t size = strlen(key);
    const char *at = bootinfo.command_line;
    while (*at) {
        while (*at == ' ') {
            at++;
        }
        size_t i = 0;
        while (i < size && at[i] == key[i]) {
            i++;
        }
        if (i == size && (at[i] == '=' || at[i] == ' ' || !at[i])) {
            return at + i;
        }
        while (*at && *at != ' ') {
            at++;
        }
    }
    return NULL;
}

static size_t value_size(const char *value)
{
    size_t size = 0;
    while (value[size] && value[size] != ' ') {
        size++;
    }
    return size;
}

bool bootinfo_has_word(const char *key)
{
    return find_word(key) != NULL;
}

uint64_t bootinfo_get_number(const char *key, uint64_t fallback)
{
    const char *at = find_word(key);
    if (!at) {
        return fallback;
    }
    uint64_t value;
    if (*at != '=' || !text_parse_number(at + 1, value_size(at + 1), &value)) {
        guest_refuse(EXIT_USAGE, "command line: %s= needs a number", key);
    }
    return value;
}

const char *bootinfo_get_text(const char *key)
{
    const char *at = find_word(key);
    return at && *at == '=' ? at + 1 : NULL;
}

bool bootinfo_is_value(const char *key, const char *value)
{
    const char *text = bootinfo_get_text(key);
    size_t size = strlen(value);
    return text && value_size(text) == size && memcmp(text, value, size) == 0;
}
