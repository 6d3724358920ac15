/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the board gives to firmware through fw_cfg. The items and files, their formats and names are
 * those of QEMU's q35.
 */
#ifndef SKIFF_VMM_BOARD_X86_64_BOARD_FW_CFG_H
#define SKIFF_VMM_BOARD_X86_64_BOARD_FW_CFG_H

#include "hw/core/device.h"
#include "vmm/board/x86_64/acpi.h"
#include "vmm/board/x86_64/board_files.h"

typedef struct BoardFwCfg {
    Device *fw_cfg;
    const MachineConfig *config;
    const GuestRam *ram;
    const SmbiosTables *smbios;
    const BoardFiles *files;
    unsigned apic_id_limit; /* APIC ids are below it */
    /* Builds the ACPI tables for the machine as it is now. Any thread that holds the BQL, or main
     * while the guest does not run. */
    void (*build_acpi)(void *opaque, AcpiFiles *files);
    void *opaque;
} BoardFwCfg;

/* Adds all items. @b is borrowed for as long as the machine lives. Before the guest runs for the
 * first time. */
bool board_fw_cfg_add(BoardFwCfg *b, GError **error) RUNS_IN_MAIN;
/* Updates the files that depend on the devices. At start-up, after all devices exist, and at each
 * reset. */
void board_fw_cfg_update(BoardFwCfg *b) RUNS_IN_MAIN;

#endif
