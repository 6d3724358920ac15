/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource assignment for guests that boot without firmware.
 *
 * BARs are naturally aligned and a power of two in size, so placing the largest first leaves no
 * gaps. BARs that must be below 4 GiB come before those that may go above.
 */
#include "hw/pci/pci_int.h"

#define PCI_IO_ASSIGN_BASE 0xc000 /* above the ports of the board's devices */

typedef struct BarRequest {
    PciDevice *dev;
    unsigned index;
} BarRequest;

/* A window that is filled from below. */
typedef struct BarArena {
    uint64_t next, end;
} BarArena;

static const PciBar *bar_of(const BarRequest *r)
{
    return &r->dev->bars[r->index];
}

static int compare_requests(const void *a, const void *b)
{
    const BarRequest *x = a, *y = b;
    const PciBar *p = bar_of(x), *q = bar_of(y);
    if (p->is_64 != q->is_64) {
        return p->is_64 ? 1 : -1;
    }
    if (p->size != q->size) {
        return p->size > q->size ? -1 : 1;
    }
    int order = (int)x->dev->devfn - (int)y->dev->devfn;
    return order != 0 ? order : (int)x->index - (int)y->index;
}

static bool arena_take(BarArena *arena, uint64_t size, uint64_t *address)
{
    uint64_t at = (arena->next + size - 1) & ~(size - 1);
    if (at < arena->next || at >= arena->end || arena->end - at < size) {
        return false;
    }
    arena->next = at + size;
    *address = at;
    return true;
}

static GArray *pci_collect_bars(PciBus *bus)
{
    GArray *requests = g_array_new(FALSE, FALSE, sizeof(BarRequest));
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        PciDevice *dev = bus->devices[devfn];
        for (unsigned i = 0; dev != NULL && i < PCI_MAX_BARS; i++) {
            if (dev->bars[i].region != NULL) {
                BarRequest request = {.dev = dev, .index = i};
                g_array_append_val(requests, request);
            }
        }
    }
    g_array_sort(requests, compare_requests);
    return requests;
}

static void pci_enable_decode(const PciBus *bus, PciDevice *dev) BQL_HELD
{
    uint32_t command = pci_get(dev, PCI_REG_COMMAND, 2);
    for (unsigned i = 0; i < PCI_MAX_BARS; i++) {
        if (dev->bars[i].region != NULL) {
            command |= dev->bars[i].is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
        }
    }
    pci_config_write(dev, PCI_REG_COMMAND, 2, command);
    pci_bars_update(dev); /* decode may have been on already */
    unsigned pin = pci_get(dev, PCI_REG_INTERRUPT_PIN, 1);
    if (pin != 0) {
        const IrqGate *gate = bus->gates[pci_intx_gate(dev->devfn, pin)];
        pci_config_write(dev, PCI_REG_INTERRUPT_LINE, 1, gate != NULL ? gate->gsi : 0xff);
    }
}

void pci_bus_assign_resources(PciBus *bus)
{
    const PciWindows *w = &bus->windows;
    BarArena io = {.next = PCI_IO_ASSIGN_BASE, .end = PCI_IO_LAST + 1};
    BarArena low = {.next = w->mmio32_base, .end = w->mmio32_base + w->mmio32_size};
    BarArena high = {.next = w->mmio64_base, .end = w->mmio64_base + w->mmio64_size};
    g_autoptr(GArray) requests = pci_collect_bars(bus);
    for (unsigned i = 0; i < requests->len; i++) {
        const BarRequest *r = &g_array_index(requests, BarRequest, i);
        const PciBar *bar = bar_of(r);
        uint64_t address = 0;
        bool placed = arena_take(bar->is_io ? &io : &low, bar->size, &address) ||
                      (bar->is_64 && arena_take(&high, bar->size, &address));
        if (!placed) {
            log_warn("%s: no room for BAR %u of %" G_GUINT64_FORMAT " bytes",
                     device_label(&r->dev->base), r->index, bar->size);
        }
        pci_bar_set_address(r->dev, r->index, address);
    }
    for (unsigned devfn = 0; devfn < PCI_DEVFN_COUNT; devfn++) {
        if (bus->devices[devfn] != NULL) {
            pci_enable_decode(bus, bus->devices[devfn]);
        }
    }
}
