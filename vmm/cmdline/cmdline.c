/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one table. Options that skiff has are spelled as in QEMU; options that it lacks
 * are refused by name.
 */
#include <stdio.h>
#include <string.h>
#include "util/log.h"
#include "util/trace.h"
#include "vmm/cmdline/cmdline_int.h"
#include "vmm/config.h"

/* ---- the table ---- */

#define FIELD(f) offsetof(VmConfig, f)

static const CmdlineOption cmdline_options[] = {
    {"machine", "q35[,memory-backend=id][,pflash0=node][,pflash1=node]", "the machine",
     cmdline_machine, 0},
    {"M", "q35", NULL, cmdline_machine, 0},
    {"accel", "kvm", "the accelerator; others are accepted as fallbacks", cmdline_accel, 0},
    {"enable-kvm", NULL, NULL, cmdline_enable_kvm, 0},
    {"cpu", "host[,+f][,-f]", "the processor, with features on or off", cmdline_string,
     FIELD(machine.cpu)},
    {"smp", "n[,sockets=s][,cores=c][,threads=t]", "processors", cmdline_string,
     FIELD(machine.smp)},
    {"m", "size", "RAM in MiB, or with a suffix K M G T (default 128)", cmdline_memory, 0},
    {"kernel", "file", "bzImage, ELF with a PVH note, or Multiboot kernel", cmdline_string,
     FIELD(machine.kernel)},
    {"initrd", "file", "initial RAM disk, or Multiboot modules 'file args,...'", cmdline_string,
     FIELD(machine.initrd)},
    {"append", "text", "the kernel's command line", cmdline_text, FIELD(machine.append)},
    {"bios", "file", "raw firmware image, ends at 4 GiB", cmdline_string, FIELD(machine.bios)},
    {"boot", "order=drives[,once=drives][,menu=on][,strict=on][,splash-time=ms]",
     "what the firmware boots from: c disk, d CD, n network", cmdline_boot, 0},
    {"smbios", "file=f|type=n[,field=text...]", "what dmidecode shows in the guest", cmdline_smbios,
     0},
    {"fw_cfg", "[name=]n,file=f|string=s", "a file that firmware and the guest read",
     cmdline_fw_cfg, 0},
    {"pflash", "file", "flash with firmware: the same as -drive if=pflash,file=...", cmdline_pflash,
     0},
    {"drive", "file=f[,format=raw][,if=virtio|none|pflash][,id=i][,...]", "a disk", cmdline_drive,
     0},
    {"hda", "file", "a disk: the same as -drive file=...,index=0; also -hdb, -hdc, -hdd",
     cmdline_disk, 0},
    {"hdb", "file", NULL, cmdline_disk, 1},
    {"hdc", "file", NULL, cmdline_disk, 2},
    {"hdd", "file", NULL, cmdline_disk, 3},
    {"snapshot", NULL, "writes to the disks of -drive are lost at exit", cmdline_flag,
     FIELD(backends.snapshot)},
    {"blockdev", "driver=d,node-name=n,...", "a block node (also as JSON)", cmdline_blockdev, 0},
    {"object", "iothread|memory-backend-memfd|rng-random|throttle-group,id=i,...",
     "an iothread, guest memory, a source of random bytes or limits of disks", cmdline_object, 0},
    {"device", "type[,prop=value...]", "a device; '-device help', '-device type,help'",
     cmdline_device, 0},
    {"chardev", "backend,id=i,...", "a character backend", cmdline_list, FIELD(backends.chardevs)},
    {"serial", "stdio|mon:stdio|file:f|pty|unix:p|tcp:h:p|null|none", "the next serial port",
     cmdline_list, FIELD(backends.serials)},
    {"debugcon", "backend", "port 0xe9 to a character backend", cmdline_string,
     FIELD(backends.debugcon)},
    {"nographic", NULL, "serial port on the terminal; Ctrl-A x ends, Ctrl-A h helps", cmdline_flag,
     FIELD(backends.nographic)},
    {"display", "none", "there is no display", cmdline_display, 0},
    {"vga", "none", NULL, cmdline_only_none, 0},
    {"vnc", "none", NULL, cmdline_display, 0},
    {"netdev", "type,id=i,...", "what a NIC is connected to; '-netdev help', '-netdev type,help'",
     cmdline_netdev, 0},
    {"nic", "type[,model=virtio][,mac=m][,...]|none", "a NIC and what it is connected to",
     cmdline_nic, 0},
    {"virtiofs", "tag=t,path=folder[,readonly=on]",
     "a folder of the host, for 'mount -t virtiofs' in the guest; starts virtiofsd",
     cmdline_virtiofs, 0},
    {"net", "none", NULL, cmdline_net, 0},
    {"parallel", "none", NULL, cmdline_only_none, 0},
    {"nodefaults", NULL, "no serial port by default", cmdline_flag, FIELD(backends.nodefaults)},
    {"no-user-config", NULL, NULL, cmdline_ignore, 0},
    {"no-hpet", NULL, NULL, cmdline_ignore, 0},
    {"no-fd-bootchk", NULL, NULL, cmdline_ignore, 0},
    {"overcommit", "mem-lock=off,cpu-pm=off", NULL, cmdline_overcommit, 0},
    {"echr", "number", "the escape key in place of Ctrl-A, as a character code", cmdline_escape, 0},
    {"S", NULL, "do not start the processors", cmdline_flag, FIELD(life.start_stopped)},
    {"loadstate", "file", "go on from a state that savevm-start has saved, in the same machine",
     cmdline_string, FIELD(life.load_state)},
    {"loadvm", "tag", "go on from a snapshot that savevm has made in the disks", cmdline_string,
     FIELD(life.load_tag)},
    {"restore", "file",
     "go on from a saved state: needs no other option, and takes those given anew", cmdline_restore,
     0}, /* main() has put the saved options before it */
    {"clone", "file[,mac=random][,cid=n]",
     "as -restore, for many at once: what it writes to disks is lost at exit", cmdline_clone, 0},
    {"prefault", "on|off",
     "with -restore and -clone, read memory in the background while the guest runs; default: on "
     "with -restore",
     cmdline_prefault, 0},
    {"no-reboot", NULL, "exit instead of resetting", cmdline_flag, FIELD(life.no_reboot)},
    {"no-shutdown", NULL, "stop instead of exiting on power-off", cmdline_flag,
     FIELD(life.no_shutdown)},
    {"action",
     "reboot=reset|shutdown,shutdown=poweroff|pause,panic=shutdown|exit-failure|pause|none,"
     "watchdog=reset|shutdown|poweroff|pause|debug|none|inject-nmi",
     "the actions for events", cmdline_action, 0},
    {"watchdog-action", "reset|shutdown|poweroff|pause|debug|none|inject-nmi",
     "the same as -action watchdog=", cmdline_watchdog_action, 0},
    {"timeout", "seconds", "end a VM that runs longer; exit status 12", cmdline_timeout, 0},
    {"rtc", "base=utc|localtime|date,clock=host|rt|vm,driftfix=none|slew",
     "the real-time clock: initial time, clock that it follows, lost ticks", cmdline_rtc, 0},
    {"global", "driver.property=value",
     "kvm-pit.lost_tick_policy=delay|discard, mc146818rtc.lost_tick_policy=discard|slew, "
     "ICH9-LPC.noreboot=on|off",
     cmdline_global, 0},
    {"name", "text", "the VM's name", cmdline_name, 0},
    {"uuid", "uuid", "the VM's UUID", cmdline_uuid, FIELD(machine.uuid)},
    {"pidfile", "file", "write the process id there", cmdline_string, FIELD(process.pidfile)},
    {"daemonize", NULL, "go to the background once the VM is up", cmdline_flag,
     FIELD(process.daemonize)},
    {"qmp", "backend", "machine protocol (QMP) on a character backend", cmdline_list,
     FIELD(control.qmps)},
    {"qmp-pretty", "backend", NULL, cmdline_list, FIELD(control.qmps_pretty)},
    {"monitor", "backend", "human monitor on a character backend", cmdline_list,
     FIELD(control.monitors)},
    {"mon", "[chardev=]id[,mode=readline|control][,pretty=on][,id=i]", "a monitor on a -chardev",
     cmdline_mon, 0},
    {"gdb", "tcp:host:port|unix:path|backend", "let gdb debug the guest", cmdline_string,
     FIELD(control.gdb)},
    {"s", NULL, "the same as -gdb tcp::1234", cmdline_gdb_default, 0},
    {"exec", "command", "run a command in the guest; its output and exit status become skiff's",
     cmdline_exec, FIELD(control.exec)},
    {"exec-port", NULL,
     "the port of -exec's agent, for a machine that is saved before it has a command",
     cmdline_exec_port, 0},
    {"snapshot-at", "READY|line=text|port=n,file=f",
     "save the machine when its agent waits, its console shows the text, or it writes to the port, "
     "and exit",
     cmdline_exec, FIELD(process.snapshot_at)},
    {"notify", "fd:n|unix:path", "report when the VM runs, stops and ends", cmdline_string,
     FIELD(process.notify)},
    {"sandbox", "on|off", "filter skiff's own system calls", cmdline_sandbox, 0},
    {"run-with", "chroot=dir,user=name", "drop rights before the guest runs", cmdline_run_with, 0},
    {"D", "file", "log to a file", cmdline_string, FIELD(process.log_file)},
    {"msg", "timestamp=on", "log lines with time", cmdline_msg, 0},
    {"trace", "pattern", "trace events by name, with * and ?; 'help' lists them", cmdline_list,
     FIELD(process.traces)},
    {0},
};

/* Of the process, not of the machine: VmConfig.options is without them. */
static const char *const cmdline_process_options[] = {
    "D",           "clone",   "S",          "daemonize", "echr",     "exec",   "gdb",
    "loadstate",   "loadvm",  "mon",        "monitor",   "msg",      "notify", "pidfile",
    "prefault",    "qmp",     "qmp-pretty", "restore",   "run-with", "s",      "sandbox",
    "snapshot-at", "timeout", "trace",      NULL};

/* The first of the names of one option. */
static const char *cmdline_canonical_name(const char *name)
{
    return strcmp(name, "M") == 0 ? "machine" : name;
}

static const CmdlineOption *cmdline_find(const char *name)
{
    for (const CmdlineOption *o = cmdline_options; o->name != NULL; o++) {
        if (strcmp(o->name, name) == 0) {
            return o;
        }
    }
    return NULL;
}

static bool cmdline_unknown(const char *name, GError **error)
{
    g_autofree char *refusal = cmdline_refusal(name);
    if (refusal != NULL) {
        g_set_error_literal(error, OPT_ERROR, OPT_ERROR_UNKNOWN, refusal);
        return false;
    }
    const char *names[G_N_ELEMENTS(cmdline_options)];
    unsigned n = 0;
    for (const CmdlineOption *o = cmdline_options; o->name != NULL; o++) {
        names[n++] = o->name;
    }
    names[n] = NULL;
    const char *near = opt_nearest(name, names);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                near != NULL ? "unknown option -%s; did you mean -%s?"
                             : "unknown option -%s; -help lists them%s",
                name, near != NULL ? near : "");
    return false;
}

void cmdline_print_help(FILE *out)
{
    fprintf(out, "skiff " SKIFF_VERSION ": a minimal KVM virtual machine monitor\n\n"
                 "usage: skiff [options]      (see skiff(1) for details)\n\n");
    for (const CmdlineOption *o = cmdline_options; o->name != NULL; o++) {
        if (o->help != NULL) {
            fprintf(out, "  -%s%s%s\n        %s\n", o->name, o->argument != NULL ? " " : "",
                    o->argument != NULL ? o->argument : "", o->help);
        }
    }
    fprintf(out, "\nexample: skiff -m 512 -smp 2 -kernel vmlinuz -initrd initrd.img "
                 "-append console=ttyS0 -nographic\n");
}

/* Parses one option at argv[*at]; advances *at over it and its argument. */
static bool cmdline_take(VmConfig *config, int argc, char **argv, int *at, GError **error)
{
    const char *word = argv[(*at)++];
    if (word[0] == '\0' || strcmp(word, "-") == 0 || strcmp(word, "--") == 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "'%s' is not an option; -help lists them",
                    word);
        return false;
    }
    if (word[0] != '-') {
        vm_config_note_option(config, "hda", word);
        return cmdline_disk(config, "hda", word, error); /* as in QEMU */
    }
    const char *name = word + (word[1] == '-' ? 2 : 1);
    const CmdlineOption *option = cmdline_find(name);
    if (option == NULL) {
        return cmdline_unknown(name, error);
    }
    const char *value = NULL;
    if (option->argument != NULL) {
        if (*at >= argc) {
            return cmdline_fail(error, name, "needs an argument: -%s %s", name, option->argument);
        }
        value = argv[(*at)++];
    }
    if (!g_strv_contains(cmdline_process_options, name)) {
        vm_config_note_option(config, cmdline_canonical_name(name), value);
    }
    cmdline_current = option;
    return option->handler(config, name, value, error);
}

bool cmdline_find_kind(const char *name, bool *has_argument, bool *of_process)
{
    const CmdlineOption *option = cmdline_find(name);
    *has_argument = option != NULL && option->argument != NULL;
    *of_process = g_strv_contains(cmdline_process_options, name);
    return option != NULL;
}

CmdlineResult cmdline_parse(VmConfig *config, int argc, char **argv, GError **error)
{
    for (int i = 1; i < argc;) {
        const char *name = argv[i] + (g_str_has_prefix(argv[i], "--") ? 1 : 0);
        if (strcmp(name, "-help") == 0 || strcmp(name, "-h") == 0) {
            cmdline_print_help(stdout);
            return CMDLINE_DONE;
        }
        if (strcmp(name, "-version") == 0) {
            printf("skiff version " SKIFF_VERSION "\n");
            return CMDLINE_DONE;
        }
        if (i + 1 < argc && cmdline_is_help_request(name, argv[i + 1])) {
            return cmdline_answer_help(name + 1, argv[i + 1], error) ? CMDLINE_DONE : CMDLINE_ERROR;
        }
        if (!cmdline_take(config, argc, argv, &i, error)) {
            return CMDLINE_ERROR;
        }
    }
    if (config->life.load_state != NULL && config->life.load_tag != NULL) {
        cmdline_fail(error, "loadvm", "a machine goes on from one state");
        return CMDLINE_ERROR;
    }
    return cmdline_check_accelerators(config, error) ? CMDLINE_RUN : CMDLINE_ERROR;
}
