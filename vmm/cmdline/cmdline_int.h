/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the command line: cmdline.c has the table, cmdline_handlers.c and
 * cmdline_machine.c and cmdline_firmware.c the options' handlers, cmdline_help.c `-device help` and the like,
 * cmdline_lacking.c the options of QEMU that skiff lacks. */
#ifndef SKIFF_VMM_CMDLINE_CMDLINE_INT_H
#define SKIFF_VMM_CMDLINE_CMDLINE_INT_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"
#include "vmm/config.h"

typedef bool CmdlineHandler(VmConfig *config, const char *name, const char *value, GError **error);

typedef struct CmdlineOption {
    const char *name;
    const char *argument; /* for help; NULL: takes none */
    const char *help;     /* NULL: not listed */
    CmdlineHandler *handler;
    size_t offset; /* for the generic handlers: the field of VmConfig */
} CmdlineOption;

extern const CmdlineOption *cmdline_current; /* the row of the running handler */

/* Sets an error that begins with the option's name; returns false. */
bool cmdline_fail(GError **error, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);

CmdlineHandler cmdline_string;
CmdlineHandler cmdline_text;
CmdlineHandler cmdline_uuid;
CmdlineHandler cmdline_flag;
CmdlineHandler cmdline_ignore;
CmdlineHandler cmdline_list;
CmdlineHandler cmdline_device;
CmdlineHandler cmdline_object;
CmdlineHandler cmdline_blockdev;
CmdlineHandler cmdline_drive;
CmdlineHandler cmdline_netdev;
CmdlineHandler cmdline_nic;
CmdlineHandler cmdline_net;
CmdlineHandler cmdline_virtiofs;
CmdlineHandler cmdline_machine;
CmdlineHandler cmdline_boot;
CmdlineHandler cmdline_accel;
CmdlineHandler cmdline_enable_kvm;
CmdlineHandler cmdline_memory;
CmdlineHandler cmdline_overcommit;
CmdlineHandler cmdline_escape;
CmdlineHandler cmdline_name;
CmdlineHandler cmdline_global;
CmdlineHandler cmdline_disk; /* -hda to -hdd, by the name's last letter */
CmdlineHandler cmdline_pflash;
CmdlineHandler cmdline_display;
CmdlineHandler cmdline_only_none;
CmdlineHandler cmdline_restore;
CmdlineHandler cmdline_clone;
CmdlineHandler cmdline_prefault;
CmdlineHandler cmdline_exec;
CmdlineHandler cmdline_exec_port;
CmdlineHandler cmdline_timeout;
CmdlineHandler cmdline_action;
CmdlineHandler cmdline_watchdog_action;
CmdlineHandler cmdline_rtc;
CmdlineHandler cmdline_msg;
CmdlineHandler cmdline_mon;
CmdlineHandler cmdline_sandbox;
CmdlineHandler cmdline_run_with;
CmdlineHandler cmdline_gdb_default;
CmdlineHandler cmdline_smbios;
CmdlineHandler cmdline_fw_cfg;

/* Called after the last option: fails when accelerators were named and KVM is not among them. */
bool cmdline_check_accelerators(const VmConfig *config, GError **error) ANY_THREAD;
/* Parses @value, which must not be empty. NULL + @error. The caller owns the result. */
OptDict *cmdline_parse_dict(const char *name, const char *value, const char *implied_key,
                            GError **error) ANY_THREAD;

/* Prints the help; false + error when the type is unknown. @name without dashes. */
bool cmdline_answer_help(const char *name, const char *value, GError **error);

/* The error message for QEMU's option @name (without its dash), which skiff lacks. NULL when QEMU
 * has no such option either. Owned by the caller. */
char *cmdline_refusal(const char *name) ANY_THREAD;

#endif
