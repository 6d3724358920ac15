/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration from the command line: cmdline_parse() fills it in, the machine reads it. Main
 * only, constant once the machine is built.
 */
#ifndef SKIFF_VMM_CONFIG_H
#define SKIFF_VMM_CONFIG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/opts/opts.h"

/* The values of -action panic=. */
typedef enum PanicAction {
    PANIC_SHUTDOWN, /* exit; with -no-shutdown, pause */
    PANIC_EXIT,
    PANIC_PAUSE,
    PANIC_NONE,
} PanicAction;

/* The values of -action watchdog=, in the order of QMP's WatchdogAction. */
typedef enum WatchdogAction {
    WATCHDOG_RESET,
    WATCHDOG_SHUTDOWN, /* presses the power button */
    WATCHDOG_POWEROFF, /* exit */
    WATCHDOG_PAUSE,
    WATCHDOG_DEBUG, /* logs a line */
    WATCHDOG_NONE,
    WATCHDOG_INJECT_NMI,
} WatchdogAction;

/* The accelerators that -accel, -enable-kvm and -machine accel= name. */
typedef struct ConfigAccelerators {
    bool kvm;
    char *other; /* the first of the others, or NULL */
} ConfigAccelerators;

/* -boot. */
typedef struct BootConfig {
    char *order, *once; /* letters, or NULL */
    bool menu, strict;
    int32_t splash_time_ms;    /* of the boot menu's prompt; -1: the firmware's own */
    int32_t reboot_timeout_ms; /* after no device has booted; -1: never. BOOT_TIMEOUT_UNSET */
} BootConfig;
#define BOOT_TIMEOUT_UNSET INT32_MIN

/* The machine. */
typedef struct MachineConfig {
    char *memory;      /* -machine memory-backend=ID, or NULL */
    char *cpu;         /* NULL: host */
    char *smp;         /* NULL: 1 */
    uint64_t ram_size; /* bytes */
    bool ram_size_set;
    char *kernel, *initrd, *append, *bios;
    BootConfig boot;
    char *
        pflash[2]; /* -machine pflash0=, pflash1=: nodes; NULL: that of -drive if=pflash, or none */
    char *rtc_base;          /* "utc", "localtime", a date; NULL: utc */
    char *rtc_clock;         /* "host", "rt", "vm"; NULL: host */
    bool rtc_slew;           /* -rtc driftfix=slew */
    bool discard_late_ticks; /* -global kvm-pit.lost_tick_policy=discard */
    bool no_pit;             /* -machine pit=off */
    bool tco_no_reboot;      /* -global ICH9-LPC.noreboot=on */
    char *name, *uuid;
    GPtrArray *devices; /* OptDict, with "driver" */
    GPtrArray *smbios;  /* OptDict: -smbios; NULL: none */
    int smbios_entry;   /* SmbiosEntry */
    GPtrArray *fw_cfg;  /* OptDict, with "name" and "file" or "string": -fw_cfg; NULL: none */
} MachineConfig;

/* The backends. */
typedef struct BackendsConfig {
    GPtrArray *objects;    /* OptDict: -object */
    GPtrArray *chardevs;   /* char *: -chardev as written */
    GPtrArray *serials;    /* char *: -serial as written; empty: the default */
    GPtrArray *blockdevs;  /* OptDict */
    GPtrArray *drives;     /* OptDict */
    GPtrArray *ide_drives; /* those of drives that are -hda to -hdd and -pflash; borrowed */
    GPtrArray *netdevs;    /* OptDict, with "type": -netdev */
    GPtrArray *virtiofs;   /* OptDict: -virtiofs */
    GPtrArray *nics;       /* OptDict, with "type": -nic; empty after -nic none */
    bool snapshot;         /* -snapshot: -drive without snapshot= has snapshot=on */
    bool clone;            /* -clone: nothing is written to any disk, flash or -blockdev */
    char *debugcon;        /* -debugcon as written */
    bool nographic;        /* -nographic: serial on the terminal, with Ctrl-A */
    bool display_none;
    bool nodefaults;
    bool escape_set; /* -echr */
    uint8_t escape;
} BackendsConfig;

/* Whether memory that is mapped is read in the background. */
typedef enum PrefaultConfig {
    PREFAULT_AUTO, /* without -prefault: yes, but not for -clone */
    PREFAULT_OFF,
    PREFAULT_ON,
} PrefaultConfig;

/* Start and end of the VM. */
typedef struct LifeConfig {
    bool start_stopped; /* -S */
    bool no_reboot, no_shutdown;
    PanicAction panic;
    WatchdogAction watchdog;
    unsigned timeout_s; /* 0: none */
    char *load_state;   /* -loadstate, -restore; NULL: the machine starts at power-on */
    char *load_tag;     /* -loadvm */
    bool map_state;     /* -restore, -clone: memory is mapped from the file */
    bool new_macs;      /* -clone mac=random */
    PrefaultConfig prefault;
} LifeConfig;

/* The process. */
typedef struct ProcessConfig {
    char *pidfile;
    bool daemonize;
    char *log_file;
    bool log_timestamps;
    GPtrArray *traces;           /* char * globs */
    char *notify;                /* -notify as written */
    char *snapshot_at;           /* -snapshot-at as written; NULL: none */
    OptDict *sandbox, *run_with; /* or NULL */
} ProcessConfig;

/* Monitors, debuggers and commands. */
typedef struct ControlConfig {
    GPtrArray *qmps, *qmps_pretty; /* char *: -qmp, -qmp-pretty as written */
    GPtrArray *monitors;           /* char *: -monitor as written */
    GPtrArray *mons;               /* OptDict: -mon, with "chardev" */
    char *gdb;                     /* -gdb as written, -s is tcp::1234; NULL: no gdbstub */
    char *exec;                    /* -exec: the command; NULL: none */
    bool exec_port; /* -exec-port, implied by -exec: the guest has the agent's port */
} ControlConfig;

/* An option as the user gave it. */
typedef struct ConfigOption {
    char *name;  /* without dashes; "machine" for -M, "hda" for a file name alone */
    char *value; /* NULL: the option takes none */
} ConfigOption;

typedef struct VmConfig {
    /* ConfigOption: what makes this machine, in order. Options of the process are not there (log, pid file,
     * rights), nor are monitors, debuggers and how the guest starts (-S, -timeout). */
    GPtrArray *options;
    char *directory; /* the working directory, in which relative paths were meant */
    ConfigAccelerators accelerators;
    MachineConfig machine;
    BackendsConfig backends;
    LifeConfig life;
    ProcessConfig process;
    ControlConfig control;
} VmConfig;

void vm_config_init(VmConfig *config) ANY_THREAD;
void vm_config_clear(VmConfig *config) ANY_THREAD;
ConfigOption *config_option_new(const char *name, const char *value) ANY_THREAD;
void config_option_free(ConfigOption *o) ANY_THREAD;
/* Appends to config->options. */
void vm_config_note_option(VmConfig *config, const char *name, const char *value) ANY_THREAD;

typedef enum CmdlineResult {
    CMDLINE_RUN,
    CMDLINE_DONE, /* -help, -version, -device help: printed, exit 0 */
    CMDLINE_ERROR,
} CmdlineResult;

/* Parses the command line. The error is one line that names the option, the fault, and what would
 * work. */
CmdlineResult cmdline_parse(VmConfig *config, int argc, char **argv, GError **error) ANY_THREAD;
void cmdline_print_help(FILE *out) ANY_THREAD;
/* Whether skiff has option @name (without its dashes), whether it takes an argument, and whether it is of the
 * process, so that VmConfig.options is without it. */
bool cmdline_find_kind(const char *name, bool *has_argument, bool *of_process) ANY_THREAD;
/* "-device" "help", "-device" "virtio-blk-pci,help", "-cpu" "help", ... */
bool cmdline_is_help_request(const char *option, const char *value) ANY_THREAD;

#endif
