/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/board/x86_64/board_fw_cfg.h"

#include "hw/firmware/fw_cfg.h"
#include "util/log.h"
#include "vmm/arch/x86_64/layout.h"

#define UUID_SIZE 16
#define USER_PREFIX "opt/" /* of the names that are the user's */

/* ---- etc/e820 ---- */

enum { E820_RAM = 1, E820_RESERVED = 2 };

static void e820_put(GByteArray *out, uint64_t gpa, uint64_t size, uint32_t type)
{
    const uint64_t range[] = {GUINT64_TO_LE(gpa), GUINT64_TO_LE(size)};
    const uint32_t le_type = GUINT32_TO_LE(type);
    g_byte_array_append(out, (const uint8_t *)range, sizeof(range));
    g_byte_array_append(out, (const uint8_t *)&le_type, sizeof(le_type));
}

/* RAM with its holes closed (firmware makes the first MiB's itself), and the pages that KVM uses on
 * Intel hosts. */
static GBytes *e820_build(const GuestRam *ram)
{
    GByteArray *out = g_byte_array_new();
    uint64_t below = guest_ram_below_4g(ram), above = guest_ram_above_4g(ram);
    e820_put(out, X86_KVM_IDENTITY_MAP_GPA, 4 * X86_PAGE_SIZE, E820_RESERVED);
    e820_put(out, 0, below, E820_RAM);
    if (above != 0) {
        e820_put(out, X86_4GIB, above, E820_RAM);
    }
    return g_byte_array_free_to_bytes(out);
}

/* ---- items without a name ---- */

static GBytes *uuid_bytes(const char *text)
{
    uint8_t uuid[UUID_SIZE] = {0};
    for (unsigned i = 0; text != NULL && i < UUID_SIZE; i++) {
        text += *text == '-';
        uuid[i] = (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 2;
    }
    return g_bytes_new(uuid, sizeof(uuid));
}

/* No NUMA nodes: their number, and for each APIC id its node. */
static GBytes *numa_bytes(unsigned apic_id_limit)
{
    gsize size = (1 + apic_id_limit) * sizeof(uint64_t);
    return g_bytes_new_take(g_malloc0(size), size);
}

static void board_fw_cfg_set_items(const BoardFwCfg *b)
{
    fw_cfg_set(b->fw_cfg, FW_CFG_UUID, uuid_bytes(b->config->uuid));
    fw_cfg_set(b->fw_cfg, FW_CFG_NUMA, numa_bytes(b->apic_id_limit));
    fw_cfg_set_number(b->fw_cfg, FW_CFG_MAX_CPUS, b->apic_id_limit, 2);
    /* There is no display. SeaBIOS then uses COM1. */
    fw_cfg_set_number(b->fw_cfg, FW_CFG_NOGRAPHIC, 1, 2);
    fw_cfg_set_number(b->fw_cfg, FW_CFG_IRQ0_OVERRIDE, 1, 4);
}

/* ---- the kernel ---- */

static void board_fw_cfg_set_blob(Device *fw_cfg, GBytes *data, uint32_t addr, FwCfgKey data_key,
                                  FwCfgKey addr_key, FwCfgKey size_key)
{
    if (data != NULL) {
        fw_cfg_set(fw_cfg, data_key, g_bytes_ref(data));
        fw_cfg_set_number(fw_cfg, addr_key, addr, 4);
        fw_cfg_set_number(fw_cfg, size_key, g_bytes_get_size(data), 4);
    }
}

static void board_fw_cfg_set_kernel(const BoardFwCfg *b)
{
    const BootBlobs *k = &b->files->kernel;
    board_fw_cfg_set_blob(b->fw_cfg, k->setup, k->setup_addr, FW_CFG_SETUP_DATA, FW_CFG_SETUP_ADDR,
                          FW_CFG_SETUP_SIZE);
    board_fw_cfg_set_blob(b->fw_cfg, k->kernel, k->kernel_addr, FW_CFG_KERNEL_DATA,
                          FW_CFG_KERNEL_ADDR, FW_CFG_KERNEL_SIZE);
    board_fw_cfg_set_blob(b->fw_cfg, k->initrd, k->initrd_addr, FW_CFG_INITRD_DATA,
                          FW_CFG_INITRD_ADDR, FW_CFG_INITRD_SIZE);
    board_fw_cfg_set_blob(b->fw_cfg, k->cmdline, k->cmdline_addr, FW_CFG_CMDLINE_DATA,
                          FW_CFG_CMDLINE_ADDR, FW_CFG_CMDLINE_SIZE);
}

/* ---- files ---- */

/* For each ACPI sleep state: bit 7, the state exists; below it the value of SLP_TYP. There is only
 * S5, with value 0. */
static GBytes *system_states(void)
{
    static const uint8_t states[] = {0x80, 0, 0, 1, 2, 0x80};
    return g_bytes_new_static(states, sizeof(states));
}

static void board_fw_cfg_set_acpi(void *opaque)
{
    const BoardFwCfg *b = opaque;
    AcpiFiles files;
    b->build_acpi(b->opaque, &files);
    fw_cfg_set_file(b->fw_cfg, ACPI_FILE_LOADER, files.loader);
    fw_cfg_set_file(b->fw_cfg, ACPI_FILE_RSDP, files.rsdp);
    fw_cfg_set_file(b->fw_cfg, ACPI_FILE_TABLES, files.tables);
}

/* The ACPI tables have the PCI windows that firmware has chosen, so they are built when it selects
 * them. */
static RUNS_IN_MAIN bool board_fw_cfg_add_acpi(BoardFwCfg *b, GError **error)
{
    static const char *const names[] = {ACPI_FILE_LOADER, ACPI_FILE_RSDP, ACPI_FILE_TABLES};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!fw_cfg_add_file(b->fw_cfg, names[i], g_bytes_new(NULL, 0), error)) {
            return false;
        }
        fw_cfg_mark_generated(b->fw_cfg, names[i]);
    }
    fw_cfg_set_generator(b->fw_cfg, board_fw_cfg_set_acpi, b);
    return true;
}

/* Added last: a name that the machine has itself is refused. */
static RUNS_IN_MAIN bool board_fw_cfg_add_user_files(const BoardFwCfg *b, GError **error)
{
    for (unsigned i = 0; i < b->files->user->len; i++) {
        const BoardUserFile *file = b->files->user->pdata[i];
        if (!fw_cfg_add_file(b->fw_cfg, file->name, g_bytes_ref(file->data), error)) {
            g_prefix_error(error, "-fw_cfg: ");
            return false;
        }
        if (!g_str_has_prefix(file->name, USER_PREFIX)) {
            log_warn("-fw_cfg name=%s: names that do not begin with " USER_PREFIX
                     " belong to the machine and its firmware",
                     file->name);
        }
    }
    return true;
}

bool board_fw_cfg_add(BoardFwCfg *b, GError **error)
{
    board_fw_cfg_set_items(b);
    board_fw_cfg_set_kernel(b);
    return fw_cfg_add_file(b->fw_cfg, "etc/e820", e820_build(b->ram), error) &&
           fw_cfg_add_file(b->fw_cfg, "etc/system-states", system_states(), error) &&
           fw_cfg_add_file(b->fw_cfg, "etc/smbios/smbios-anchor", g_bytes_ref(b->smbios->anchor),
                           error) &&
           fw_cfg_add_file(b->fw_cfg, "etc/smbios/smbios-tables",
                           g_bytes_ref(b->smbios->structures), error) &&
           board_fw_cfg_add_acpi(b, error) && board_fw_cfg_add_user_files(b, error);
}

void board_fw_cfg_update(BoardFwCfg *b)
{
    board_fw_cfg_set_acpi(b);
}
