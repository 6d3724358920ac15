/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/pci.h"
#include "lib/acpi.h"
#include "lib/bootinfo.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/memory.h"

#define CONFIG_ADDRESS_PORT 0xcf8
#define CONFIG_DATA_PORT 0xcfc
#define CONFIG_ENABLE (1u << 31)
#define ECAM_BUS_SIZE (1ull << 20)
#define ECAM_MICROVM_GPA 0xe0000000

#define REG_ID 0x00
#define REG_COMMAND 0x04
#define REG_STATUS 0x06
#define REG_CLASS 0x08
#define REG_HEADER_TYPE 0x0e
#define REG_BAR 0x10
#define REG_SECONDARY_BUS 0x19
#define REG_CAPABILITIES 0x34
#define COMMAND_MEMORY 0x0002
#define COMMAND_MASTER 0x0004
#define COMMAND_INTX_OFF 0x0400
#define STATUS_CAPABILITIES 0x0010
#define HEADER_MULTI 0x80
#define HEADER_BRIDGE 0x01
#define BAR_IO 0x1
#define BAR_64 0x4
#define BAR_MEMORY_FLAGS 0xfull

/* Mapped size of a BAR above 4 GiB: enough for a virtio device's BARs. */
#define BAR_MAPPED_SIZE (2 << 20)

#define MSIX_CONTROL 2
#define MSIX_TABLE 4
#define MSIX_CONTROL_ENABLE 0x8000
#define MSIX_ENTRY_SIZE 16
#define MSIX_ENTRY_MASKED 1
#define MSI_ADDRESS 0xfee00000u

typedef struct Window {
    uint64_t base, end;
} Window;

/* Tried in this order; the second is free in a machine with its ECAM at 0xe0000000. */
static const Window windows[] = {{0xe0000000, 0xfe000000}, {0xc0000000, 0xe0000000}};

static PciDevice devices[PCI_MAX_DEVICES]; /* a removed one has vendor 0 */
static unsigned device_count;
static uint64_t ecam_gpa; /* 0: CF8 is used */
static Window ecam_reserved;
static struct {
    Window window;
    const PciDevice *dev;
} taken[PCI_MAX_DEVICES * PCI_MAX_BARS];
static unsigned taken_count;
static const Window *window;

static uint32_t config_address(const PciDevice *dev, uint16_t offset)
{
    return CONFIG_ENABLE | (uint32_t)dev->bus << 16 | (uint32_t)dev->slot << 11 |
           (uint32_t)dev->func << 8 | (offset & 0xfcu);
}

static uint64_t ecam_address(const PciDevice *dev, uint16_t offset)
{
    return ecam_gpa + ((uint64_t)dev->bus << 20 | (uint64_t)dev->slot << 15 |
                       (uint64_t)dev->func << 12 | offset);
}

uint8_t pci_read8(const PciDevice *dev, uint16_t offset)
{
    if (ecam_gpa) {
        return mmio_read8(ecam_address(dev, offset));
    }
    cpu_out32(CONFIG_ADDRESS_PORT, config_address(dev, offset));
    return cpu_in8((uint16_t)(CONFIG_DATA_PORT + (offset & 3)));
}

uint16_t pci_read16(const PciDevice *dev, uint16_t offset)
{
    if (ecam_gpa) {
        return mmio_read16(ecam_address(dev, offset));
    }
    cpu_out32(CONFIG_ADDRESS_PORT, config_address(dev, offset));
    return cpu_in16((uint16_t)(CONFIG_DATA_PORT + (offset & 2)));
}

uint32_t pci_read32(const PciDevice *dev, uint16_t offset)
{
    if (ecam_gpa) {
        return mmio_read32(ecam_address(dev, offset));
    }
    cpu_out32(CONFIG_ADDRESS_PORT, config_address(dev, offset));
    return cpu_in32(CONFIG_DATA_PORT);
}

void pci_write16(const PciDevice *dev, uint16_t offset, uint16_t value)
{
    if (ecam_gpa) {
        mmio_write16(ecam_address(dev, offset), value);
        return;
    }
    cpu_out32(CONFIG_ADDRESS_PORT, config_address(dev, offset));
    cpu_out16((uint16_t)(CONFIG_DATA_PORT + (offset & 2)), value);
}

void pci_write32(const PciDevice *dev, uint16_t offset, uint32_t value)
{
    if (ecam_gpa) {
        mmio_write32(ecam_address(dev, offset), value);
        return;
    }
    cpu_out32(CONFIG_ADDRESS_PORT, config_address(dev, offset));
    cpu_out32(CONFIG_DATA_PORT, value);
}

static bool has_cf8(void)
{
    cpu_out32(CONFIG_ADDRESS_PORT, CONFIG_ENABLE);
    return cpu_in32(CONFIG_ADDRESS_PORT) == CONFIG_ENABLE;
}

static void use_ecam(uint64_t gpa, unsigned last_bus)
{
    ecam_gpa = gpa;
    ecam_reserved = (Window){gpa, gpa + (last_bus + 1) * ECAM_BUS_SIZE};
    memory_map(gpa, ecam_reserved.end - gpa);
}

static void choose_access(void)
{
    const AcpiFacts *acpi = acpi_facts();
    if (acpi->ecam_gpa) {
        use_ecam(acpi->ecam_gpa, acpi->ecam_last_bus);
        if (bootinfo_is_value("pci", "cf8")) {
            ecam_gpa = 0;
        }
        return;
    }
    if (has_cf8()) {
        return;
    }
    /* QEMU's microvm describes its ECAM in AML only. */
    if (mmio_read32(ECAM_MICROVM_GPA) == UINT32_MAX) {
        guest_refuse(EXIT_MISSING, "PCI: neither ECAM nor CF8");
    }
    use_ecam(ECAM_MICROVM_GPA, 255);
}

static void scan_bus(uint8_t bus);

/* A free entry, or NULL. */
static PciDevice *new_entry(void)
{
    for (unsigned i = 0; i < device_count; i++) {
        if (devices[i].vendor_id == 0) {
            return &devices[i];
        }
    }
    return device_count < PCI_MAX_DEVICES ? &devices[device_count++] : NULL;
}

/* Adds one function if it exists; returns its header type, else 0. */
static uint8_t scan_function(uint8_t bus, uint8_t slot, uint8_t func)
{
    PciDevice dev = {.bus = bus, .slot = slot, .func = func, .bar_count = PCI_MAX_BARS};
    uint32_t id = pci_read32(&dev, REG_ID);
    PciDevice *entry = (id & 0xffff) != 0xffff ? new_entry() : NULL;
    if (!entry) {
        return 0;
    }
    dev.vendor_id = (uint16_t)id;
    dev.device_id = (uint16_t)(id >> 16);
    dev.class_code = pci_read32(&dev, REG_CLASS) >> 8;
    uint8_t header = pci_read8(&dev, REG_HEADER_TYPE);
    bool bridge = (header & ~HEADER_MULTI) == HEADER_BRIDGE;
    if (bridge) {
        dev.bar_count = 2;
    }
    *entry = dev;
    uint8_t secondary = bridge ? pci_read8(&dev, REG_SECONDARY_BUS) : 0;
    if (secondary > bus) {
        scan_bus(secondary);
    }
    return header;
}

static void scan_bus(uint8_t bus)
{
    for (uint8_t slot = 0; slot < 32; slot++) {
        if (scan_function(bus, slot, 0) & HEADER_MULTI) {
            for (uint8_t func = 1; func < 8; func++) {
                scan_function(bus, slot, func);
            }
        }
    }
}

unsigned pci_scan(void)
{
    if (!device_count) {
        choose_access();
        scan_bus(0);
    }
    return device_count;
}

PciDevice *pci_device(unsigned index)
{
    return &devices[index];
}

static PciDevice *find_in_slot(uint8_t slot)
{
    for (unsigned i = 0; i < device_count; i++) {
        const PciDevice *dev = &devices[i];
        if (dev->vendor_id != 0 && dev->bus == 0 && dev->slot == slot && dev->func == 0) {
            return &devices[i];
        }
    }
    return NULL;
}

PciDevice *pci_found_in_slot(uint8_t slot)
{
    pci_scan();
    if (!find_in_slot(slot)) {
        scan_function(0, slot, 0);
    }
    return find_in_slot(slot);
}

void pci_forget(PciDevice *dev)
{
    for (unsigned i = 0; i < taken_count;) {
        if (taken[i].dev == dev) {
            taken[i] = taken[--taken_count];
        } else {
            i++;
        }
    }
    *dev = (PciDevice){0};
}

uint16_t pci_find_capability(const PciDevice *dev, uint8_t id, uint16_t after)
{
    if (!(pci_read16(dev, REG_STATUS) & STATUS_CAPABILITIES)) {
        return 0;
    }
    uint8_t at = pci_read8(dev, after ? (uint16_t)(after + 1) : REG_CAPABILITIES) & 0xfc;
    for (unsigned i = 0; at && i < 48; i++) {
        uint16_t header = pci_read16(dev, at);
        if ((header & 0xff) == id) {
            return at;
        }
        at = header >> 8 & 0xfc;
    }
    return 0;
}

typedef struct Bar {
    bool memory, wide;
    uint64_t address, size;
} Bar;

static uint64_t read_bar(const PciDevice *dev, unsigned index, Bar *bar)
{
    uint16_t offset = (uint16_t)(REG_BAR + 4 * index);
    uint64_t value = pci_read32(dev, offset);
    bar->memory = !(value & BAR_IO);
    bar->wide = bar->memory && (value & BAR_64);
    if (bar->wide) {
        value |= (uint64_t)pci_read32(dev, offset + 4) << 32;
    }
    bar->address = value & ~BAR_MEMORY_FLAGS;
    return value;
}

static void write_bar(const PciDevice *dev, unsigned index, const Bar *bar, uint64_t value)
{
    uint16_t offset = (uint16_t)(REG_BAR + 4 * index);
    pci_write32(dev, offset, (uint32_t)value);
    if (bar->wide) {
        pci_write32(dev, offset + 4, (uint32_t)(value >> 32));
    }
}

/* Address and size of BAR @index, or size 0. Decoding is off meanwhile. */
static Bar size_bar(const PciDevice *dev, unsigned index)
{
    Bar bar = {0}, probe = {0};
    uint16_t command = pci_read16(dev, REG_COMMAND);
    pci_write16(dev, REG_COMMAND, command & (uint16_t)~COMMAND_MEMORY);
    uint64_t old = read_bar(dev, index, &bar);
    if (bar.memory) {
        write_bar(dev, index, &bar, UINT64_MAX);
        read_bar(dev, index, &probe);
        write_bar(dev, index, &bar, old);
        uint64_t mask = bar.wide ? probe.address : probe.address | 0xffffffff00000000ull;
        bar.size = probe.address ? -mask : 0;
    }
    pci_write16(dev, REG_COMMAND, command);
    return bar;
}

uint64_t pci_bar(const PciDevice *dev, unsigned index)
{
    Bar bar;
    read_bar(dev, index, &bar);
    return bar.memory ? bar.address : 0;
}

static bool overlaps(uint64_t base, uint64_t end, uint64_t other_base, uint64_t other_end)
{
    return base < other_end && other_base < end;
}

static bool window_is_free(const Window *candidate)
{
    if (overlaps(candidate->base, candidate->end, ecam_reserved.base, ecam_reserved.end)) {
        return false;
    }
    for (unsigned i = 0; i < bootinfo.range_count; i++) {
        const BootRange *range = &bootinfo.ranges[i];
        if (overlaps(candidate->base, candidate->end, range->base, range->base + range->size)) {
            return false;
        }
    }
    return true;
}

static void take(const PciDevice *dev, uint64_t base, uint64_t size)
{
    if (taken_count == sizeof(taken) / sizeof(taken[0])) {
        guest_fail("PCI: more BARs than there is room to note");
    }
    taken[taken_count].window = (Window){base, base + size};
    taken[taken_count++].dev = dev;
}

/* Chooses the window and records the addresses already decoded in it. */
static void prepare_window(void)
{
    for (unsigned i = 0; i < sizeof(windows) / sizeof(windows[0]) && !window; i++) {
        window = window_is_free(&windows[i]) ? &windows[i] : NULL;
    }
    if (!window) {
        guest_fail("PCI: no window for BARs");
    }
    for (unsigned i = 0; i < device_count; i++) {
        for (unsigned index = 0; index < devices[i].bar_count; index++) {
            Bar bar = size_bar(&devices[i], index);
            if (bar.size && bar.address) {
                take(&devices[i], bar.address, bar.size);
            }
            index += bar.wide;
        }
    }
}

static uint64_t find_room(uint64_t size)
{
    uint64_t base = (window->base + size - 1) & -size;
    for (unsigned i = 0; i < taken_count; i++) {
        if (overlaps(base, base + size, taken[i].window.base, taken[i].window.end)) {
            base = (taken[i].window.end + size - 1) & -size;
            i = (unsigned)-1; /* it may now overlap one that was passed */
        }
    }
    return base + size <= window->end ? base : 0;
}

static void assign_bar(const PciDevice *dev, unsigned index, const Bar *bar)
{
    if (!window) {
        prepare_window();
    }
    uint64_t size = bar->size < MEMORY_PAGE_SIZE ? MEMORY_PAGE_SIZE : bar->size;
    uint64_t base = dev->bus == 0 ? find_room(size) : 0;
    if (!base) {
        guest_fail("PCI: no room for BAR %u of %02x:%02x.%u, %lu bytes", index, dev->bus, dev->slot,
                   dev->func, bar->size);
    }
    take(dev, base, size);
    write_bar(dev, index, bar, base);
}

void pci_enable(PciDevice *dev)
{
    bool anew = bootinfo_is_value("bars", "anew");
    for (unsigned index = 0; index < dev->bar_count; index++) {
        Bar bar;
        read_bar(dev, index, &bar);
        if (bar.memory && (anew || !bar.address)) {
            bar = size_bar(dev, index);
            if (bar.size) {
                assign_bar(dev, index, &bar);
            }
        }
        /* Memory above 4 GiB is not mapped yet. Finding a BAR's size costs a probe, so map as much
         * as a virtio device's BARs need. */
        memory_map(pci_bar(dev, index), 2 << 20);
        index += bar.wide;
    }
    uint16_t command = pci_read16(dev, REG_COMMAND) & (uint16_t)~COMMAND_INTX_OFF;
    pci_write16(dev, REG_COMMAND, command | COMMAND_MEMORY | COMMAND_MASTER);
    dev->msix_capability = pci_find_capability(dev, PCI_CAP_MSIX, 0);
    if (dev->msix_capability) {
        uint32_t table = pci_read32(dev, dev->msix_capability + MSIX_TABLE);
        dev->msix_count = (pci_read16(dev, dev->msix_capability + MSIX_CONTROL) & 0x7ff) + 1;
        dev->msix_table_gpa = pci_bar(dev, table & 7) + (table & ~7u);
    }
}

void pci_msix_route(const PciDevice *dev, unsigned entry, uint32_t apic_id, uint8_t vector)
{
    uint64_t at = dev->msix_table_gpa + entry * MSIX_ENTRY_SIZE;
    mmio_write32(at + 12, MSIX_ENTRY_MASKED);
    mmio_write32(at + 0, MSI_ADDRESS | apic_id << 12);
    mmio_write32(at + 4, 0);
    mmio_write32(at + 8, vector);
    mmio_write32(at + 12, 0);
}

void pci_msix_enable(const PciDevice *dev)
{
    uint16_t control = pci_read16(dev, dev->msix_capability + MSIX_CONTROL);
    pci_write16(dev, dev->msix_capability + MSIX_CONTROL, control | MSIX_CONTROL_ENABLE);
}
