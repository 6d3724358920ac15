/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU commands that skiff lacks, each with the nearest replacement, or "none: " and the reason. */
#include <string.h>
#include "vmm/monitor/hmp/hmp_int.h"

static const char no_display[] = "none: there is no display";
static const char no_migration[] = "none: this version has no migration";
static const char no_ports[] = "gdb, or code in the guest";

static const struct {
    const char *name, *nearest;
} hmp_lacking[] = {
    {"block_passwd", "none: there are no encrypted disks"},
    {"boot_set", "-kernel or -bios at the start"},
    {"chardev-change", "chardev-remove and chardev-add"},
    {"client_migrate_info", no_migration},
    {"drive_add", "blockdev-add through QMP, then device_add"},
    {"drive_del", "device_del, then blockdev-del through QMP"},
    {"dumpdtb", "none: the x86 boards have no device tree"},
    {"exit_preconfig", "cont, after -S"},
    {"expire_password", no_display},
    {"gpa2hpa", "/proc/PID/pagemap"},
    {"gpa2hva", "skiff-gdb.py's skiff mtree"},
    {"i", no_ports},
    {"info acpi", "info qtree"},
    {"info capture", no_display},
    {"info history", "the cursor keys"},
    {"info hotpluggable-cpus", "info cpus"},
    {"info irq", "none: KVM counts the interrupts (kvm_stat)"},
    {"info mem", "gva2gpa"},
    {"info mice", no_display},
    {"info migrate", no_migration},
    {"info numa", "info memory_size_summary"},
    {"info pic", "none: the guest's own tools"},
    {"info qom-tree", "info qtree"},
    {"info ramblock", "info mtree"},
    {"info spice", no_display},
    {"info tlb", "gva2gpa"},
    {"info usb", "none: there is no USB"},
    {"info vnc", no_display},
    {"log", "trace-event, or logfile"},
    {"mce", "nmi"},
    {"migrate", no_migration},
    {"migrate_cancel", no_migration},
    {"migrate_continue", no_migration},
    {"migrate_incoming", no_migration},
    {"migrate_pause", no_migration},
    {"migrate_recover", no_migration},
    {"migrate_set_capability", no_migration},
    {"migrate_set_parameter", no_migration},
    {"migrate_start_postcopy", no_migration},
    {"mouse_button", no_display},
    {"mouse_move", no_display},
    {"mouse_set", no_display},
    {"o", no_ports},
    {"one-insn-per-tb", "gdb's stepi"},
    {"pcie_aer_inject_error", "none: there is no error reporting (AER)"},
    {"qemu-io", "none: -blockdev driver=fault makes I/O fail or wait"},
    {"qom-get", "info qtree"},
    {"qom-list", "info qtree"},
    {"qom-set", "none: QMP's qom-set changes the limits of a throttle group"},
    {"ringbuf_read", "-chardev ...,logfile="},
    {"ringbuf_write", "a chardev with a peer"},
    {"screendump", "none: there is no display; -serial file: has the console"},
    {"sendkey", "none: there is no keyboard; chardevs take input"},
    {"set_password", no_display},
    {"singlestep", "gdb's stepi"},
    {"stopcapture", no_display},
    {"sync-profile", "perf"},
    {"system_wakeup", "none: the machine does not suspend; cont goes on after stop"},
    {"trace-file", "logfile, which also gets the trace"},
    {"wavcapture", no_display},
};

const char *hmp_lacking_nearest(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(hmp_lacking); i++) {
        if (strcmp(hmp_lacking[i].name, name) == 0) {
            return hmp_lacking[i].nearest;
        }
    }
    return NULL;
}
