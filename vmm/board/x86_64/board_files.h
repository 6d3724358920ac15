/* SPDX-License-Identifier: Apache-2.0 */
/* The user's data for firmware, read at start-up: files of -smbios and -fw_cfg, and a kernel that
 * firmware boots. */
#ifndef SKIFF_VMM_BOARD_X86_64_BOARD_FILES_H
#define SKIFF_VMM_BOARD_X86_64_BOARD_FILES_H

#include "vmm/board/smbios.h"
#include "vmm/boot/boot.h"
#include "vmm/config.h"
#include "vmm/machine/machine.h"

/* A file of fw_cfg, given with -fw_cfg. */
typedef struct BoardUserFile {
    char *name;
    GBytes *data;
} BoardUserFile;

typedef struct BoardFiles {
    SmbiosOptions *smbios;
    GPtrArray *user;  /* BoardUserFile */
    BootBlobs kernel; /* all NULL: firmware boots no kernel of -kernel */
} BoardFiles;

/* Reads what -smbios and -fw_cfg name. @files is zeroed; it lives as long as the machine. */
bool board_files_read(BoardFiles *files, const MachineConfig *config, GError **error)
    RUNS_IN_WORKER;

/* Whether the options say what to boot, and do not contradict each other. */
bool board_check_boot_options(const VmMachine *m, GError **error) RUNS_IN_MAIN;

#endif
