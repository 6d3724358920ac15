/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <string.h>
#include "vmm/cmdline/cmdline_int.h"

/* What QEMU has and skiff does not (yet): refused by name with what comes nearest. */
static const struct {
    const char *name, *nearest;
} cmdline_lacking[] = {
    {"hda", "-drive file=...,format=raw"},
    {"hdb", "-drive file=...,format=raw"},
    {"cdrom", "-drive file=...,format=raw,readonly=on"},
    {"sda", "-drive file=...,format=raw"},
    {"netdev", "none: this version has no network devices"},
    {"vnc", "a serial console"},
    {"spice", "a serial console"},
    {"usb", "virtio devices"},
    {"usbdevice", "virtio devices"},
    {"soundhw", "none"},
    {"fw_cfg", "-append, or a file in the initrd"},
    {"pflash", "-bios"},
    {"dtb", "none: the x86 boards have no device tree"},
    {"snapshot", "-drive ...,readonly=on"},
    {"loadvm", "none: this version has no snapshots"},
    {"incoming", "none: this version has no migration"},
    {"boot", "-kernel or -bios"},
    {"option-rom", "-bios"},
    {"readconfig", "the same options on the command line, or as JSON"},
    {"global", "the property at -device"},
    {"smbios", "none"},
    {"chroot", "-run-with chroot=directory"},
    {"runas", "-run-with user=name"},
    {"k", "none: there is no keyboard"},
    {"watchdog", "-timeout seconds"},
    {"watchdog-action", "-timeout seconds, with its own exit status"},
};

const char *cmdline_nearest(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(cmdline_lacking); i++) {
        if (strcmp(cmdline_lacking[i].name, name) == 0) {
            return cmdline_lacking[i].nearest;
        }
    }
    return NULL;
}
