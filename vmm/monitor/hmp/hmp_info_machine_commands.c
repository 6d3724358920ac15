/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: info on memory and devices. */
#include <inttypes.h>
#include <string.h>
#include "vmm/monitor/hmp/hmp_int.h"

/* ---- memory ---- */

static void hmp_print_memory_size(HmpCall *call, struct json_object *result)
{
    hmp_printf(call, "base memory: %" PRId64 "\n", qmp_arg_int(result, "base-memory", 0));
    if (qmp_arg_has(result, "plugged-memory")) {
        hmp_printf(call, "plugged memory: %" PRId64 "\n", qmp_arg_int(result, "plugged-memory", 0));
    }
}

static const char *hmp_true(struct json_object *object, const char *name)
{
    return qmp_arg_bool(object, name, false) ? "true" : "false";
}

static void hmp_print_memdev(HmpCall *call, struct json_object *result)
{
    static const char *const flags[] = {"merge", "dump", "prealloc", "share", "reserve"};
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *m = hmp_item(result, i);
        const char *id = qmp_arg_str(m, "id");
        hmp_printf(call, "memory backend: %s\n  size:  %" PRId64 "\n", id != NULL ? id : "",
                   qmp_arg_int(m, "size", 0));
        for (unsigned k = 0; k < G_N_ELEMENTS(flags); k++) {
            if (qmp_arg_has(m, flags[k])) {
                hmp_printf(call, "  %s: %s\n", flags[k], hmp_true(m, flags[k]));
            }
        }
        hmp_printf(call, "  policy: %s\n  host nodes: \n", qmp_arg_str(m, "policy"));
    }
    hmp_printf(call, "\n");
}

static void hmp_print_region(const IoRegion *r, void *opaque)
{
    hmp_printf(opaque, "  %016" PRIx64 "-%016" PRIx64 " (prio %d, i/o): %s\n", r->base,
               r->base + r->size - 1, r->priority, r->name);
}

static void hmp_info_mtree(HmpCall *call, struct json_object *args)
{
    enter_main();
    hmp_printf(call, "RAM\n");
    for (unsigned i = 0; i < call->vm->machine.ram.count; i++) {
        const RamBlock *b = &call->vm->machine.ram.blocks[i];
        hmp_printf(call, "  %016" PRIx64 "-%016" PRIx64 " (prio 0, %s): %s\n", b->gpa,
                   b->gpa + b->size - 1, b->read_only ? "rom" : "ram", b->name);
    }
    bql_lock();
    hmp_printf(call, "address-space: memory\n");
    address_space_foreach(call->vm->machine.mmio, hmp_print_region, call);
    hmp_printf(call, "address-space: I/O\n");
    address_space_foreach(call->vm->machine.pio, hmp_print_region, call);
    bql_unlock();
}

/* ---- devices ---- */

static void hmp_print_property(HmpCall *call, const Device *dev, const OptSpec *p, int indent)
{
    const char *at = (const char *)dev + p->offset;
    hmp_printf(call, "%*s%s = ", indent, "", p->name);
    switch (p->type) {
    case OPT_STRING: {
        const char *text = *(char *const *)(const void *)at;
        hmp_printf(call, "\"%s\"\n", text != NULL ? text : "");
        break;
    }
    case OPT_BOOL:
        hmp_printf(call, "%s\n", *(const bool *)at ? "true" : "false");
        break;
    case OPT_U8:
        hmp_printf(call, "%u (0x%x)\n", *(const uint8_t *)at, *(const uint8_t *)at);
        break;
    case OPT_U16: {
        unsigned value = *(const uint16_t *)(const void *)at;
        hmp_printf(call, "%u (0x%x)\n", value, value);
        break;
    }
    case OPT_U32: {
        uint32_t value = *(const uint32_t *)(const void *)at;
        hmp_printf(call, "%" PRIu32 " (0x%" PRIx32 ")\n", value, value);
        break;
    }
    case OPT_U64:
    case OPT_SIZE: {
        uint64_t value = *(const uint64_t *)(const void *)at;
        hmp_printf(call, "%" PRIu64 " (0x%" PRIx64 ")\n", value, value);
        break;
    }
    case OPT_ENUM:
        hmp_printf(call, "\"%s\"\n", p->names[*(const int *)(const void *)at]);
        break;
    default:
        hmp_printf(call, "...\n");
        break;
    }
}

static RUNS_IN_MAIN void hmp_print_device(HmpCall *call, const Device *dev, int indent)
{
    hmp_printf(call, "%*sdev: %s, id \"%s\"\n", indent, "", dev->type->name,
               dev->id != NULL ? dev->id : "");
    for (const OptSpec *p = dev->type->properties; p != NULL && p->name != NULL; p++) {
        hmp_print_property(call, dev, p, indent + 2);
    }
    if (dev->type->provides_bus == NULL) {
        return;
    }
    hmp_printf(call, "%*sbus: %s\n", indent + 2, "", dev->type->provides_bus);
    for (unsigned i = 0; i < call->vm->machine.devices->len; i++) {
        const Device *child = call->vm->machine.devices->pdata[i];
        if (child->bus_device == dev) {
            hmp_print_device(call, child, indent + 4);
        }
    }
}

/* Lists devices by bus. A device on the bus of another device is shown below it. */
static void hmp_info_qtree(HmpCall *call, struct json_object *args)
{
    enter_main();
    static const struct {
        const char *bus, *name;
    } buses[] = {{NULL, "main-system-bus"}, {"pci", "pcie.0"}, {"isa", "isa.0"}};
    for (unsigned b = 0; b < G_N_ELEMENTS(buses); b++) {
        hmp_printf(call, "bus: %s\n", buses[b].name);
        for (unsigned i = 0; i < call->vm->machine.devices->len; i++) {
            const Device *dev = call->vm->machine.devices->pdata[i];
            if (dev->bus_device == NULL && g_strcmp0(dev->type->bus, buses[b].bus) == 0) {
                hmp_print_device(call, dev, 2);
            }
        }
    }
}

static void hmp_info_qdm(HmpCall *call, struct json_object *args)
{
    for (const DeviceType *const *type = device_type_all(); *type != NULL; type++) {
        const DeviceType *t = *type;
        if (!t->user_creatable) {
            continue;
        }
        hmp_printf(call, "name \"%s\"", t->name);
        if (t->bus != NULL) {
            hmp_printf(call, ", bus %s", t->bus);
        }
        hmp_printf(call, ", desc \"%s\"\n", t->description);
    }
}

/* ---- PCI ---- */

static void hmp_print_bar(HmpCall *call, struct json_object *bar)
{
    uint64_t from = qmp_arg_u64(bar, "address", 0);
    uint64_t last = from + (uint64_t)qmp_arg_int(bar, "size", 0) - 1;
    hmp_printf(call, "      BAR%" PRId64 ": ", qmp_arg_int(bar, "bar", 0));
    if (strcmp(qmp_arg_str(bar, "type"), "io") == 0) {
        hmp_printf(call, "I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n", from, last);
    } else {
        hmp_printf(call, "%d bit%s memory at 0x%08" PRIx64 " [0x%08" PRIx64 "].\n",
                   qmp_arg_bool(bar, "mem_type_64", false) ? 64 : 32,
                   qmp_arg_bool(bar, "prefetch", false) ? " prefetchable" : "", from, last);
    }
}

static void hmp_print_pci_device(HmpCall *call, struct json_object *dev)
{
    struct json_object *class_info = qmp_arg_get(dev, "class_info");
    struct json_object *id = qmp_arg_get(dev, "id");
    struct json_object *regions = qmp_arg_get(dev, "regions");
    const char *description = qmp_arg_str(class_info, "desc");
    hmp_printf(call, "  Bus %2" PRId64 ", device %3" PRId64 ", function %" PRId64 ":\n",
               qmp_arg_int(dev, "bus", 0), qmp_arg_int(dev, "slot", 0),
               qmp_arg_int(dev, "function", 0));
    if (description != NULL) {
        hmp_printf(call, "    %s", description);
    } else {
        hmp_printf(call, "    Class %04" PRId64, qmp_arg_int(class_info, "class", 0));
    }
    hmp_printf(call, ": PCI device %04x:%04x\n", (unsigned)qmp_arg_int(id, "vendor", 0),
               (unsigned)qmp_arg_int(id, "device", 0));
    if (qmp_arg_has(id, "subsystem-vendor")) {
        hmp_printf(call, "      PCI subsystem %04x:%04x\n",
                   (unsigned)qmp_arg_int(id, "subsystem-vendor", 0),
                   (unsigned)qmp_arg_int(id, "subsystem", 0));
    }
    if (qmp_arg_has(dev, "irq")) {
        hmp_printf(call, "      IRQ %" PRId64 ", pin %c\n", qmp_arg_int(dev, "irq", 0),
                   (char)('A' + qmp_arg_int(dev, "irq_pin", 1) - 1));
    }
    for (size_t i = 0; i < json_object_array_length(regions); i++) {
        hmp_print_bar(call, hmp_item(regions, i));
    }
    hmp_printf(call, "      id \"%s\"\n", qmp_arg_str(dev, "qdev_id"));
}

static void hmp_print_pci(HmpCall *call, struct json_object *result)
{
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *devices = qmp_arg_get(hmp_item(result, i), "devices");
        for (size_t k = 0; k < json_object_array_length(devices); k++) {
            hmp_print_pci_device(call, hmp_item(devices, k));
        }
    }
}

/* ---- dumps ---- */

static void hmp_print_dump(HmpCall *call, struct json_object *result)
{
    const char *status = qmp_arg_str(result, "status");
    int64_t total = qmp_arg_int(result, "total", 0);
    hmp_printf(call, "Status: %s\n", status);
    if (strcmp(status, "active") == 0 && total > 0) {
        hmp_printf(call, "Finished: %.2f %%\n",
                   100.0 * (double)qmp_arg_int(result, "completed", 0) / (double)total);
    }
}

/* ---- the balloon ---- */

static void hmp_print_balloon(HmpCall *call, struct json_object *result)
{
    hmp_printf(call, "balloon: actual=%" PRId64 "\n", qmp_arg_int(result, "actual", 0) >> 20);
}

/* ---- savevm-start ---- */

static void hmp_print_savevm(HmpCall *call, struct json_object *result)
{
    const char *status = qmp_arg_str(result, "status");
    if (status == NULL) {
        return; /* there is no save: nothing, as in Proxmox */
    }
    hmp_printf(call, "savevm status: %s\n", status);
    hmp_printf(call, "total time: %" PRId64 " milliseconds\n",
               qmp_arg_int(result, "total-time", 0));
    if (qmp_arg_has(result, "pause-time")) {
        hmp_printf(call, "the VM stood for: %" PRId64 " milliseconds\n",
                   qmp_arg_int(result, "pause-time", 0));
    }
    hmp_printf(call, "bytes: %" PRId64 "\n", qmp_arg_int(result, "bytes", 0));
    if (qmp_arg_has(result, "error")) {
        hmp_printf(call, "Error: %s\n", qmp_arg_str(result, "error"));
    }
}

/* ---- x-rewind ---- */

static void hmp_print_rewind(HmpCall *call, struct json_object *result)
{
    hmp_printf(call, "rewind point: %s\n", qmp_arg_str(result, "status"));
    if (qmp_arg_has(result, "memory")) {
        hmp_printf(call, "memory: %s\n", qmp_arg_str(result, "memory"));
    }
    if (qmp_arg_has(result, "rewinds")) {
        hmp_printf(call, "rewinds: %" PRId64 "\n", qmp_arg_int(result, "rewinds", 0));
        hmp_printf(call, "the last one: %" PRId64 " pages, %" PRId64 " microseconds\n",
                   qmp_arg_int(result, "pages", 0), qmp_arg_int(result, "time-us", 0));
    }
    if (qmp_arg_has(result, "error")) {
        hmp_printf(call, "Error: %s\n", qmp_arg_str(result, "error"));
    }
}

/* clang-format off */
const HmpCommand hmp_info_machine_commands[] = {
    {"info memory_size_summary", NULL, NULL, "the size of RAM",
     .qmp = "query-memory-size-summary", .print = hmp_print_memory_size},
    {"info memdev", NULL, NULL, "memory backends", .qmp = "query-memdev",
     .print = hmp_print_memdev},
    {"info mtree", NULL, NULL, "address spaces", .run = hmp_info_mtree},
    {"info qtree", NULL, NULL, "devices and their properties", .run = hmp_info_qtree},
    {"info qdm", NULL, NULL, "types of devices", .run = hmp_info_qdm},
    {"info pci", NULL, NULL, "the PCI bus", .qmp = "query-pci", .print = hmp_print_pci},
    {"info balloon", NULL, NULL, "the memory that the balloon leaves to the guest, in MiB",
     .qmp = "query-balloon", .print = hmp_print_balloon},
    {"info savevm", NULL, NULL, "the save of savevm-start", .qmp = "query-savevm",
     .print = hmp_print_savevm},
    {"info rewind", NULL, NULL, "the point of x-rewind-point", .qmp = "query-x-rewind",
     .print = hmp_print_rewind},
    {"info dump", NULL, NULL, "the progress of a dump", .qmp = "query-dump", .print = hmp_print_dump},
    {0},
};
/* clang-format on */
