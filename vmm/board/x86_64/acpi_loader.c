/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables as files of fw_cfg. etc/table-loader has commands for firmware, of 128 bytes each
 * and little-endian, as QEMU's and SeaBIOS' romfile loader:
 *
 *   allocate      1, file[56], alignment u32, zone u8
 *   add pointer   2, file[56], pointee file[56], offset u32, size u8
 *   add checksum  3, file[56], offset u32, start u32, length u32
 *   write pointer 4, file[56], pointee file[56], offset u32, pointee offset u32, size u8
 *
 * Firmware allocates memory for a file and reads it into that; adds to a field the address of
 * the pointee; subtracts the sum of a range from a byte; writes an address back to fw_cfg.
 */
#include <string.h>

#include "hw/firmware/vmgenid.h"
#include "vmm/board/x86_64/acpi_int.h"

#define LOADER_COMMAND_SIZE 128
#define LOADER_NAME_SIZE 56
#define LOADER_TABLES_ALIGN 64
#define LOADER_RSDP_ALIGN 16

enum {
    LOADER_ALLOCATE = 1,
    LOADER_ADD_POINTER = 2,
    LOADER_ADD_CHECKSUM = 3,
    LOADER_WRITE_POINTER = 4
};
enum { LOADER_ZONE_HIGH = 1, LOADER_ZONE_FSEG = 2 }; /* FSEG: where the RSDP is searched for */

static void loader_put(GByteArray *out, uint32_t value, unsigned size)
{
    uint32_t le = GUINT32_TO_LE(value);
    g_byte_array_append(out, (const uint8_t *)&le, size);
}

static void loader_put_name(GByteArray *out, const char *name)
{
    char field[LOADER_NAME_SIZE] = {0};
    g_strlcpy(field, name, sizeof(field));
    g_byte_array_append(out, (const uint8_t *)field, sizeof(field));
}

/* Pads the command that began at the last multiple of its size. */
static void loader_end(GByteArray *out)
{
    static const uint8_t zeros[LOADER_COMMAND_SIZE];
    g_byte_array_append(out, zeros, -out->len % LOADER_COMMAND_SIZE);
}

static void loader_allocate(GByteArray *out, const char *file, uint32_t align, uint8_t zone)
{
    loader_put(out, LOADER_ALLOCATE, 4);
    loader_put_name(out, file);
    loader_put(out, align, 4);
    loader_put(out, zone, 1);
    loader_end(out);
}

static void loader_add_pointer(GByteArray *out, const char *file, const char *pointee,
                               const AcpiLink *link)
{
    loader_put(out, LOADER_ADD_POINTER, 4);
    loader_put_name(out, file);
    loader_put_name(out, pointee);
    loader_put(out, link->at, 4);
    loader_put(out, link->size, 1);
    loader_end(out);
}

static void loader_add_checksum(GByteArray *out, const char *file, const AcpiSum *sum)
{
    loader_put(out, LOADER_ADD_CHECKSUM, 4);
    loader_put_name(out, file);
    loader_put(out, sum->at, 4);
    loader_put(out, sum->start, 4);
    loader_put(out, sum->size, 4);
    loader_end(out);
}

/* Firmware allocates the page of the generation id, and writes back where the id is. */
static void loader_put_vmgenid(GByteArray *out)
{
    loader_allocate(out, VMGENID_FILE_GUID, VMGENID_PAGE_SIZE, LOADER_ZONE_HIGH);
    loader_put(out, LOADER_WRITE_POINTER, 4);
    loader_put_name(out, VMGENID_FILE_ADDR);
    loader_put_name(out, VMGENID_FILE_GUID);
    loader_put(out, 0, 4);
    loader_put(out, VMGENID_OFFSET, 4);
    loader_put(out, 8, 1);
    loader_end(out);
}

/* Pointers come before checksums, which cover them. */
static GByteArray *loader_build(const AcpiTables *t, bool has_vmgenid)
{
    static const char *const targets[] = {
        [ACPI_TARGET_TABLES] = ACPI_FILE_TABLES, [ACPI_TARGET_VMGENID] = VMGENID_FILE_GUID};
    static const AcpiLink rsdt = {.at = ACPI_RSDP_RSDT, .size = 4};
    static const AcpiLink xsdt = {.at = ACPI_RSDP_XSDT, .size = 8};
    static const AcpiSum first = {0, ACPI_RSDP_V1_SIZE, ACPI_RSDP_CHECKSUM};
    static const AcpiSum second = {0, ACPI_RSDP_SIZE, ACPI_RSDP_EXTENDED_CHECKSUM};
    GByteArray *out = g_byte_array_new();
    loader_allocate(out, ACPI_FILE_RSDP, LOADER_RSDP_ALIGN, LOADER_ZONE_FSEG);
    loader_allocate(out, ACPI_FILE_TABLES, LOADER_TABLES_ALIGN, LOADER_ZONE_HIGH);
    if (has_vmgenid) {
        loader_put_vmgenid(out);
    }
    for (guint i = 0; i < t->links->len; i++) {
        const AcpiLink *link = &g_array_index(t->links, AcpiLink, i);
        loader_add_pointer(out, ACPI_FILE_TABLES, targets[link->target], link);
    }
    for (guint i = 0; i < t->sums->len; i++) {
        loader_add_checksum(out, ACPI_FILE_TABLES, &g_array_index(t->sums, AcpiSum, i));
    }
    loader_add_pointer(out, ACPI_FILE_RSDP, ACPI_FILE_TABLES, &rsdt);
    loader_add_pointer(out, ACPI_FILE_RSDP, ACPI_FILE_TABLES, &xsdt);
    loader_add_checksum(out, ACPI_FILE_RSDP, &first);
    loader_add_checksum(out, ACPI_FILE_RSDP, &second);
    return out;
}

void x86_acpi_build_files(const AcpiConfig *config, AcpiFiles *files)
{
    g_autoptr(AcpiTables) t = acpi_tables_new(config);
    files->loader = g_byte_array_free_to_bytes(loader_build(t, config->has_vmgenid));
    files->rsdp = g_bytes_new(t->rsdp, ACPI_RSDP_SIZE);
    files->tables = g_bytes_new(t->bytes->data, t->bytes->len);
}
