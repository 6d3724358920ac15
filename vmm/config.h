/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the command line asks for: filled in by cmdline_parse(), read by the machine. Main only,
 * constant once the machine is built.
 */
#ifndef SKIFF_VMM_CONFIG_H
#define SKIFF_VMM_CONFIG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/opts/opts.h"

/* As -action panic= has them. */
typedef enum PanicAction {
    PANIC_SHUTDOWN, /* exit, but under -no-shutdown pause */
    PANIC_EXIT,
    PANIC_PAUSE,
    PANIC_NONE,
} PanicAction;

/* Which accelerators -accel, -enable-kvm and -machine accel= name. */
typedef struct ConfigAccelerators {
    bool kvm;
    char *other; /* the first of the others, or NULL */
} ConfigAccelerators;

typedef struct VmConfig {
    ConfigAccelerators accelerators;
    char *machine_memory; /* -machine memory-backend=ID, or NULL */
    char *cpu;            /* NULL: host */
    char *smp;            /* NULL: 1 */
    uint64_t ram_size;    /* bytes */
    bool ram_size_set;
    char *kernel, *initrd, *append, *bios;
    GPtrArray *objects;    /* OptDict: -object */
    GPtrArray *chardevs;   /* char *: -chardev as written */
    GPtrArray *serials;    /* char *: -serial as written; empty: the default */
    GPtrArray *blockdevs;  /* OptDict */
    GPtrArray *drives;     /* OptDict */
    GPtrArray *ide_drives; /* those of drives that are -hda to -hdd; borrowed */
    GPtrArray *devices;    /* OptDict, with "driver" */
    char *debugcon;        /* -debugcon as written */
    bool nographic;        /* -nographic: serial on the terminal, with Ctrl-A */
    bool display_none;
    bool nodefaults;
    bool escape_set; /* -echr */
    uint8_t escape;
    bool start_stopped; /* -S */
    bool no_reboot, no_shutdown;
    PanicAction panic;
    unsigned timeout_s; /* 0: none */
    char *name, *uuid;
    char *pidfile;
    bool daemonize;
    char *rtc_base; /* "utc", "localtime", a date; NULL: utc */
    char *log_file;
    bool log_timestamps;
    GPtrArray *traces;             /* char * globs */
    GPtrArray *qmps, *qmps_pretty; /* char *: -qmp, -qmp-pretty as written */
    GPtrArray *monitors;           /* char *: -monitor as written */
    GPtrArray *mons;               /* OptDict: -mon, with "chardev" */
    char *gdb;                     /* -gdb as written, -s is tcp::1234; NULL: no gdbstub */
    char *exec;                    /* -exec: the command; NULL: none */
    char *notify;                  /* -notify as written */
    OptDict *sandbox, *run_with;   /* or NULL */
} VmConfig;

void vm_config_init(VmConfig *config) ANY_THREAD;
void vm_config_clear(VmConfig *config) ANY_THREAD;

typedef enum CmdlineResult {
    CMDLINE_RUN,
    CMDLINE_DONE, /* -help, -version, -device help: printed, exit 0 */
    CMDLINE_ERROR,
} CmdlineResult;

/* Parses the command line. The error is one line that says which option, what is wrong, and what
 * would work. */
CmdlineResult cmdline_parse(VmConfig *config, int argc, char **argv, GError **error) ANY_THREAD;
void cmdline_print_help(FILE *out) ANY_THREAD;

#endif
