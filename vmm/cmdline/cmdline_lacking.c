/* SPDX-License-Identifier: Apache-2.0 */
/* The options of QEMU (up to version 10) that skiff lacks. Each is refused by its own name, with
 * skiff's nearest option, or with the missing feature. */
#include <glib.h>
#include <string.h>
#include "vmm/cmdline/cmdline_int.h"

#define NO_DISPLAY "this machine has no display"
#define NO_EMULATION "skiff runs on KVM and emulates no instructions"
#define NO_FIRMWARE_TABLES "skiff builds its own firmware tables"
#define NO_MIGRATION "this version has no migration"
#define NO_SOUND "this machine has no sound device"
#define NO_XEN "skiff runs on KVM only"

static const struct {
    const char *name;
    const char *nearest; /* skiff's equivalent; NULL: none */
    const char *why;     /* the missing feature, if nearest is NULL */
} cmdline_lacking[] = {
    {"L", "-bios FILE, with the whole path", NULL},
    {"accel-help", "-accel help", NULL},
    {"acpitable", NULL, NO_FIRMWARE_TABLES},
    {"add-fd", "QMP add-fd, or an inherited descriptor as fd:N", NULL},
    {"alt-grab", NULL, NO_DISPLAY},
    {"async-teardown", NULL, "guest memory is freed when the process ends"},
    {"audio", NULL, NO_SOUND},
    {"audio-help", NULL, NO_SOUND},
    {"audiodev", NULL, NO_SOUND},
    {"balloon", "-device virtio-balloon-pci", NULL},
    {"bt", NULL, "this machine has no Bluetooth"},
    {"cdrom", "-drive file=...,format=raw,readonly=on", NULL},
    {"chroot", "-run-with chroot=directory", NULL},
    {"clock", "-rtc clock=host|rt|vm", NULL},
    {"compat", NULL, "skiff has no deprecated interfaces to accept or reject"},
    {"ctrl-grab", NULL, NO_DISPLAY},
    {"curses", "-nographic", NULL},
    {"d", "-trace PATTERN", NULL},
    {"dfilter", "-trace PATTERN", NULL},
    {"dtb", NULL, "the x86 board has no device tree"},
    {"dump-vmstate", NULL, NO_MIGRATION},
    {"enable-fips", NULL, "skiff has no cryptography of its own"},
    {"enable-sync-profile", "-trace PATTERN", NULL},
    {"fda", NULL, "this machine has no floppy drive"},
    {"fdb", NULL, "this machine has no floppy drive"},
    {"fsdev", "-virtiofs tag=TAG,path=FOLDER", NULL},
    {"full-screen", NULL, NO_DISPLAY},
    {"g", NULL, NO_DISPLAY},
    {"hdachs", "-hda FILE", NULL},
    {"icount", NULL, NO_EMULATION},
    {"igvm", "-bios", NULL},
    {"incoming", NULL, NO_MIGRATION},
    {"iscsi", NULL, "skiff has no iSCSI client"},
    {"jitdump", NULL, NO_EMULATION},
    {"k", NULL, "this machine has no keyboard"},
    {"localtime", "-rtc base=localtime", NULL},
    {"mem-path", "-object memory-backend-memfd with -machine memory-backend=ID", NULL},
    {"mem-prealloc", "-object memory-backend-ram,prealloc=on with -machine memory-backend=ID",
     NULL},
    {"mtdblock", "-bios", NULL},
    {"no-acpi", NULL, "this machine always has ACPI"},
    {"no-frame", NULL, NO_DISPLAY},
    {"no-kvm", NULL, NO_EMULATION},
    {"no-kvm-irqchip", NULL, "interrupt controllers are always KVM's"},
    {"no-kvm-pit", NULL, "the timer chip is always KVM's"},
    {"no-kvm-pit-reinjection", "-global kvm-pit.lost_tick_policy=discard", NULL},
    {"no-quit", NULL, NO_DISPLAY},
    {"nouserconfig", "-no-user-config", NULL},
    {"numa", NULL, "this machine has one NUMA node"},
    {"old-param", NULL, "that is for ARM kernels"},
    {"one-insn-per-tb", NULL, NO_EMULATION},
    {"only-migratable", NULL, NO_MIGRATION},
    {"option-rom", "-bios", NULL},
    {"perfmap", NULL, NO_EMULATION},
    {"plugin", NULL, NO_EMULATION},
    {"portrait", NULL, NO_DISPLAY},
    {"preconfig", "-S", NULL},
    {"prom-env", NULL, "that is for OpenFirmware"},
    {"qtest", NULL, NO_EMULATION},
    {"qtest-log", NULL, NO_EMULATION},
    {"readconfig", "the same options on the command line, or as JSON", NULL},
    {"rotate", NULL, NO_DISPLAY},
    {"runas", "-run-with user=name", NULL},
    {"sd", "-drive file=...,format=raw", NULL},
    {"sda", "-drive file=...,format=raw", NULL},
    {"sdl", NULL, NO_DISPLAY},
    {"seed", NULL, "skiff's random numbers come from the host's kernel"},
    {"semihosting", NULL, NO_EMULATION},
    {"semihosting-config", NULL, NO_EMULATION},
    {"set", "the property at the option itself", NULL},
    {"shim", NULL, "skiff boots kernels without firmware"},
    {"show-cursor", NULL, NO_DISPLAY},
    {"singlestep", NULL, NO_EMULATION},
    {"soundhw", NULL, NO_SOUND},
    {"spice", "a serial console", NULL},
    {"startdate", "-rtc base=DATE", NULL},
    {"tb-size", NULL, NO_EMULATION},
    {"tdf", "-rtc driftfix=slew", NULL},
    {"tpmdev", NULL, "this machine has no TPM"},
    {"usb", "virtio devices", NULL},
    {"usbdevice", "virtio devices", NULL},
    {"virtfs", "-virtiofs tag=TAG,path=FOLDER", NULL},
    {"virtfs_synth", "-virtiofs tag=TAG,path=FOLDER", NULL},
    {"virtioconsole", "-device virtio-serial-pci -device virtconsole,chardev=ID", NULL},
    {"watchdog", "-device i6300esb, or the board's own TCO watchdog", NULL},
    {"win2k-hack", NULL, "this machine has no IDE disks"},
    {"writeconfig", "the same options on the command line, or as JSON", NULL},
    {"xen-attach", NULL, NO_XEN},
    {"xen-domid", NULL, NO_XEN},
    {"xen-domid-restrict", NULL, NO_XEN},
};

char *cmdline_refusal(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(cmdline_lacking); i++) {
        if (strcmp(cmdline_lacking[i].name, name) == 0) {
            const char *nearest = cmdline_lacking[i].nearest;
            return nearest != NULL
                       ? g_strdup_printf("skiff has no -%s; nearest is %s", name, nearest)
                       : g_strdup_printf("skiff has no -%s: %s", name, cmdline_lacking[i].why);
        }
    }
    return NULL;
}
