/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource assignment for guests that boot without firmware.
 *
 * BARs are naturally aligned and a power of two in size, so placing the largest first leaves no
 * gaps. BARs that must be below 4 GiB come before those that may go above. A bridge gets one memory
 * window below 4 GiB for all BARs behind it, and one of ports. Buses are numbered in the order of
 * their bridges.
 */
#include "hw/pci/pci_int.h"

#define PCI_IO_ASSIGN_BASE 0xc000 /* above the ports of the board's devices */

#define BRIDGE_MEMORY_UNIT (UINT64_C(1) << 20)
#define BRIDGE_IO_UNIT 0x1000

/* A BAR, or a window of a bridge, which holds the BARs of the devices behind it. */
typedef struct BarRequest {
    PciDevice *dev;
    int index; /* of a BAR; REQUEST_WINDOW */
    bool is_io;
    bool is_64; /* may go above 4 GiB, where only devices of the root bus have a window */
    uint64_t size, align;
} BarRequest;

#define REQUEST_WINDOW (-1)

/* A window that is filled from below. */
typedef struct BarArena {
    uint64_t next, end;
} BarArena;

typedef struct BarArenas {
    BarArena io, low, high;
} BarArenas;

static int compare_requests(const void *a, const void *b)
{
    const BarRequest *x = a, *y = b;
    if (x->is_64 != y->is_64) {
        return x->is_64 ? 1 : -1;
    }
    if (x->align != y->align) {
        return x->align > y->align ? -1 : 1;
    }
    int order = (int)x->dev->devfn - (int)y->dev->devfn;
    return order != 0 ? order : x->index - y->index;
}

static bool arena_take(BarArena *arena, uint64_t size, uint64_t align, uint64_t *address)
{
    uint64_t at = (arena->next + align - 1) & ~(align - 1);
    if (at < arena->next || at >= arena->end || arena->end - at < size) {
        return false;
    }
    arena->next = at + size;
    *address = at;
    return true;
}

static void pci_collect_bars(GArray *requests, PciDevice *dev)
{
    for (int i = 0; i < PCI_MAX_BARS; i++) {
        const PciBar *bar = &dev->bars[i];
        if (bar->region != NULL) {
            BarRequest request = {.dev = dev,
                                  .index = i,
                                  .is_io = bar->is_io,
                                  .is_64 = bar->is_64 && dev->bus->bridge == NULL,
                                  .size = bar->size,
                                  .align = bar->size};
            g_array_append_val(requests, request);
        }
    }
}

/* The window for the BARs behind bridge @dev: their sizes are powers of two, so they fill it
 * without gaps, the largest first. */
static void pci_collect_window(GArray *requests, PciDevice *dev, bool is_io)
{
    uint64_t unit = is_io ? BRIDGE_IO_UNIT : BRIDGE_MEMORY_UNIT;
    BarRequest request = {.dev = dev, .index = REQUEST_WINDOW, .is_io = is_io, .align = unit};
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        const PciDevice *behind = dev->secondary->devices[devfn];
        for (unsigned i = 0; behind != NULL && i < PCI_MAX_BARS; i++) {
            if (behind->bars[i].region != NULL && behind->bars[i].is_io == is_io) {
                request.size += behind->bars[i].size;
                request.align = MAX(request.align, behind->bars[i].size);
            }
        }
    }
    request.size = (request.size + unit - 1) & ~(unit - 1);
    if (request.size != 0) {
        g_array_append_val(requests, request);
    }
}

static GArray *pci_collect_requests(PciBus *bus)
{
    GArray *requests = g_array_new(FALSE, FALSE, sizeof(BarRequest));
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        PciDevice *dev = bus->devices[devfn];
        if (dev == NULL) {
            continue;
        }
        pci_collect_bars(requests, dev);
        if (dev->secondary != NULL) {
            pci_collect_window(requests, dev, false);
            pci_collect_window(requests, dev, true);
        }
    }
    g_array_sort(requests, compare_requests);
    return requests;
}

static void pci_enable_decode(PciDevice *dev) BQL_HELD
{
    uint32_t command = pci_get(dev, PCI_REG_COMMAND, 2);
    for (unsigned i = 0; i < PCI_MAX_BARS; i++) {
        if (dev->bars[i].region != NULL) {
            command |= dev->bars[i].is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
        }
    }
    if (dev->secondary != NULL) {
        command |= PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    }
    pci_config_write(dev, PCI_REG_COMMAND, 2, command);
    pci_bars_update(dev); /* decode may have been on already */
    if (pci_get(dev, PCI_REG_INTERRUPT_PIN, 1) != 0) {
        const IrqGate *gate = dev->intx.gate;
        pci_config_write(dev, PCI_REG_INTERRUPT_LINE, 1, gate != NULL ? gate->gsi : 0xff);
    }
}

static void pci_assign_bus(PciBus *bus, BarArenas *arenas) BQL_HELD;

/* Opens the window of a bridge at @address and fills it. Without a @size the window is closed. */
static void pci_set_window(PciDevice *bridge, bool is_io, uint64_t address, uint64_t size,
                           BarArenas *inside) BQL_HELD
{
    uint64_t first = size != 0 ? address : UINT64_MAX, last = size != 0 ? address + size - 1 : 0;
    if (is_io) {
        pci_config_write(bridge, PCI_REG_IO_BASE, 1, (uint32_t)(first >> 8) & 0xf0);
        pci_config_write(bridge, PCI_REG_IO_LIMIT, 1, (uint32_t)(last >> 8) & 0xf0);
        inside->io = (BarArena){.next = address, .end = address + size};
    } else {
        pci_config_write(bridge, PCI_REG_MEMORY_BASE, 2, (uint32_t)(first >> 16) & 0xfff0);
        pci_config_write(bridge, PCI_REG_MEMORY_LIMIT, 2, (uint32_t)(last >> 16) & 0xfff0);
        inside->low = (BarArena){.next = address, .end = address + size};
    }
}

static void pci_assign_request(const BarRequest *r, BarArenas *arenas, BarArenas *inside) BQL_HELD
{
    uint64_t address = 0;
    bool placed = arena_take(r->is_io ? &arenas->io : &arenas->low, r->size, r->align, &address) ||
                  (r->is_64 && arena_take(&arenas->high, r->size, r->align, &address));
    if (!placed) {
        log_warn("%s: no room for %s %d of %" G_GUINT64_FORMAT " bytes",
                 device_label(&r->dev->base), r->index < 0 ? "window" : "BAR", MAX(r->index, 0),
                 r->size);
    }
    if (r->index >= 0) {
        pci_bar_set_address(r->dev, (unsigned)r->index, address);
    } else if (placed) {
        pci_set_window(r->dev, r->is_io, address, r->size, &inside[r->dev->devfn]);
    }
}

static void pci_assign_bus(PciBus *bus, BarArenas *arenas)
{
    g_autoptr(GArray) requests = pci_collect_requests(bus);
    g_autofree BarArenas *inside = g_new0(BarArenas, PCI_DEVFN_COUNT);
    unsigned number = 0;
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        PciDevice *dev = bus->devices[devfn];
        if (dev != NULL && dev->secondary != NULL) {
            number++;
            pci_config_write(dev, PCI_REG_SECONDARY_BUS, 1, number);
            pci_config_write(dev, PCI_REG_SUBORDINATE_BUS, 1, number);
            pci_set_window(dev, false, 0, 0, &inside[devfn]);
            pci_set_window(dev, true, 0, 0, &inside[devfn]);
        }
    }
    for (unsigned i = 0; i < requests->len; i++) {
        pci_assign_request(&g_array_index(requests, BarRequest, i), arenas, inside);
    }
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        PciDevice *dev = bus->devices[devfn];
        if (dev == NULL) {
            continue;
        }
        pci_enable_decode(dev);
        if (dev->secondary != NULL) {
            pci_assign_bus(dev->secondary, &inside[devfn]);
        }
    }
}

void pci_bus_assign_resources(PciBus *bus)
{
    const PciWindows *w = &bus->windows;
    BarArenas arenas = {
        .io = {.next = PCI_IO_ASSIGN_BASE, .end = PCI_IO_LAST + 1},
        .low = {.next = w->mmio32_base, .end = w->mmio32_base + w->mmio32_size},
        .high = {.next = w->mmio64_base, .end = w->mmio64_base + w->mmio64_size},
    };
    pci_assign_bus(bus, &arenas);
}
