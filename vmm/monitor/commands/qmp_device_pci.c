/* SPDX-License-Identifier: Apache-2.0 */
/* query-pci: the buses as configured by the guest. A bus behind a root port is in the list when the
 * guest has numbered it. */
#include "hw/pci/pci.h"
#include "vmm/monitor/commands/qmp_device.h"

/* Config space, PCI 3.0 §6.1. */
#define CONFIG_VENDOR 0x00
#define CONFIG_DEVICE 0x02
#define CONFIG_CLASS 0x0a
#define CONFIG_SECONDARY_BUS 0x19
#define CONFIG_SUBSYSTEM_VENDOR 0x2c
#define CONFIG_SUBSYSTEM 0x2e
#define CONFIG_INTERRUPT_LINE 0x3c
#define CONFIG_INTERRUPT_PIN 0x3d

static const QmpType qmp_pci_region = {
    .name = "PciMemoryRegion",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"bar", &qmp_int, .doc = "its index"},
                           {"type", &qmp_str, .doc = "\"io\" or \"memory\""},
                           {"address", &qmp_int, .doc = "its address; -1 if not mapped"},
                           {"size", &qmp_int, .doc = "bytes"},
                           {"prefetch", &qmp_bool, .optional = true, .doc = "memory only"},
                           {"mem_type_64", &qmp_bool, .optional = true, .doc = "memory only"}),
};

static const QmpType qmp_pci_regions = {.kind = QMP_KIND_ARRAY, .element = &qmp_pci_region};

static const QmpType qmp_pci_class = {
    .name = "PciDeviceClass",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"desc", &qmp_str, .optional = true, .doc = "a description"},
                           {"class", &qmp_int, .doc = "class and subclass, 16 bits"}),
};

static const QmpType qmp_pci_id = {
    .name = "PciDeviceId",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"device", &qmp_int, .doc = "device id"}, {"vendor", &qmp_int, .doc = "vendor id"},
        {"subsystem", &qmp_int, .optional = true, .doc = "subsystem id"},
        {"subsystem-vendor", &qmp_int, .optional = true, .doc = "the subsystem's vendor id"}),
};

static const QmpType qmp_pci_device = {
    .name = "PciDeviceInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"bus", &qmp_int, .doc = "the number of its bus"}, {"slot", &qmp_int, .doc = "0 to 31"},
        {"function", &qmp_int, .doc = "0 to 7"}, {"class_info", &qmp_pci_class, .doc = "its class"},
        {"id", &qmp_pci_id, .doc = "its ids"},
        {"irq", &qmp_int, .optional = true,
         .doc = "the Interrupt Line register, if the device has a pin"},
        {"irq_pin", &qmp_int, .doc = "1 to 4 for INTA# to INTD#, 0 if none"},
        {"qdev_id", &qmp_str, .doc = "its id, or empty"},
        {"regions", &qmp_pci_regions, .doc = "its BARs"}),
};

static const QmpType qmp_pci_devices = {.kind = QMP_KIND_ARRAY, .element = &qmp_pci_device};

static const QmpType qmp_pci_info = {
    .name = "PciInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"bus", &qmp_int, .doc = "its number"},
                           {"devices", &qmp_pci_devices, .doc = "by slot and function"}),
};

const QmpType qmp_pci_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_pci_info};

static const char *qmp_pci_class_name(uint32_t class_code)
{
    static const struct {
        uint16_t class_code;
        const char *name;
    } names[] = {{0x0100, "SCSI controller"},
                 {0x0200, "Ethernet controller"},
                 {0x0600, "Host bridge"},
                 {0x0601, "ISA bridge"},
                 {0x0604, "PCI bridge"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (names[i].class_code == class_code) {
            return names[i].name;
        }
    }
    return NULL;
}

static struct json_object *qmp_pci_put_class(const PciDevice *dev)
{
    struct json_object *o = json_object_new_object();
    uint32_t class_code = pci_get(dev, CONFIG_CLASS, 2);
    if (qmp_pci_class_name(class_code) != NULL) {
        qmp_put_str(o, "desc", qmp_pci_class_name(class_code));
    }
    qmp_put_int(o, "class", class_code);
    return o;
}

static struct json_object *qmp_pci_put_id(const PciDevice *dev)
{
    struct json_object *o = json_object_new_object();
    qmp_put_int(o, "device", pci_get(dev, CONFIG_DEVICE, 2));
    qmp_put_int(o, "vendor", pci_get(dev, CONFIG_VENDOR, 2));
    if (dev->secondary == NULL) {
        qmp_put_int(o, "subsystem", pci_get(dev, CONFIG_SUBSYSTEM, 2));
        qmp_put_int(o, "subsystem-vendor", pci_get(dev, CONFIG_SUBSYSTEM_VENDOR, 2));
    }
    return o;
}

static BQL_HELD struct json_object *qmp_pci_put_regions(const PciDevice *dev)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < PCI_REGIONS; i++) {
        const PciBar *bar = &dev->bars[i];
        if (bar->region == NULL) {
            continue;
        }
        struct json_object *o = json_object_new_object();
        qmp_put_int(o, "bar", i);
        qmp_put_str(o, "type", bar->is_io ? "io" : "memory");
        qmp_put_int(o, "address", bar->region->space != NULL ? (int64_t)bar->region->base : -1);
        qmp_put_int(o, "size", (int64_t)bar->size);
        if (!bar->is_io) {
            qmp_put_bool(o, "prefetch", bar->prefetch);
            qmp_put_bool(o, "mem_type_64", bar->is_64);
        }
        json_object_array_add(list, o);
    }
    return list;
}

static BQL_HELD struct json_object *qmp_pci_put_device(const PciDevice *dev)
{
    struct json_object *o = json_object_new_object();
    uint32_t pin = pci_get(dev, CONFIG_INTERRUPT_PIN, 1);
    qmp_put_int(o, "bus", pci_device_bus_number(dev));
    qmp_put_int(o, "slot", dev->devfn >> 3);
    qmp_put_int(o, "function", dev->devfn & 7);
    qmp_put(o, "class_info", qmp_pci_put_class(dev));
    qmp_put(o, "id", qmp_pci_put_id(dev));
    if (pin != 0) {
        qmp_put_int(o, "irq", pci_get(dev, CONFIG_INTERRUPT_LINE, 1));
    }
    qmp_put_int(o, "irq_pin", pin);
    qmp_put_str(o, "qdev_id", dev->base.id != NULL ? dev->base.id : "");
    qmp_put(o, "regions", qmp_pci_put_regions(dev));
    return o;
}

static BQL_HELD void qmp_pci_put_bus(struct json_object *list, PciBus *bus, unsigned number)
{
    struct json_object *devices = json_object_new_array();
    struct json_object *o = json_object_new_object();
    qmp_put_int(o, "bus", number);
    qmp_put(o, "devices", devices);
    json_object_array_add(list, o);
    for (unsigned devfn = 0; bus != NULL && devfn < 256; devfn++) {
        const PciDevice *dev = pci_bus_device(bus, devfn);
        if (dev == NULL || !dev->base.realized || pci_device_hidden(dev)) {
            continue;
        }
        json_object_array_add(devices, qmp_pci_put_device(dev));
        unsigned secondary = dev->secondary != NULL ? pci_get(dev, CONFIG_SECONDARY_BUS, 1) : 0;
        if (secondary != 0) {
            qmp_pci_put_bus(list, dev->secondary, secondary);
        }
    }
}

struct json_object *qmp_query_pci(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    bql_lock();
    qmp_pci_put_bus(list, call->vm->machine.pci, 0);
    bql_unlock();
    return list;
}
