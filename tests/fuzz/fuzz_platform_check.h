/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of a PCI device whatever its guest did: BARs and MSI-X routes are where its
 * registers say. */
#ifndef SKIFF_TESTS_FUZZ_FUZZ_PLATFORM_CHECK_H
#define SKIFF_TESTS_FUZZ_FUZZ_PLATFORM_CHECK_H

#include <poll.h>
#include "tests/support/pci_dummy.h"

/* The guest has let go of its slot. */
static inline bool pci_dummy_is_hidden(const PciDummy *d)
{
    bql_lock();
    bool hidden = pci_device_hidden(&d->pci);
    bql_unlock();
    return hidden;
}

static inline bool window_holds(uint64_t base, uint64_t size, uint64_t address, uint64_t length)
{
    return address >= base && address + length > address && address + length <= base + size;
}

static inline void check_bars(const PciDummy *d)
{
    const PciWindows *w = &pci_fixture_windows;
    unsigned command = pci_dummy_is_hidden(d) ? 0 : pci_get(&d->pci, 4, 2);
    for (unsigned i = 0; i < PCI_MAX_BARS; i++) {
        const PciBar *bar = &d->pci.bars[i];
        if (bar->region == NULL) {
            continue;
        }
        uint64_t address = pci_get(&d->pci, 0x10 + i * 4, 4) & (bar->is_io ? ~3u : ~15u);
        if (bar->is_64) {
            address |= (uint64_t)pci_get(&d->pci, 0x14 + i * 4, 4) << 32;
        }
        g_assert((address & (bar->size - 1)) == 0);
        bool decodes =
            bar->is_io ? (command & 1) != 0 && window_holds(0x1000, 0xf000, address, bar->size)
                       : (command & 2) != 0 &&
                             (window_holds(w->mmio32_base, w->mmio32_size, address, bar->size) ||
                              window_holds(w->mmio64_base, w->mmio64_size, address, bar->size));
        g_assert((bar->region->space != NULL) == decodes);
        g_assert(!decodes || bar->region->base == address);
    }
}

static inline void check_msix(const PciDummy *d)
{
    const Msix *msix = &d->pci.msix;
    unsigned control = pci_get(&d->pci, msix->cap + 2u, 2);
    g_assert(pci_msix_enabled(&d->pci) == ((control & 0x8000) != 0));
    for (unsigned i = 0; i < msix->count; i++) {
        bool masked = (d->pci.state.msix_table[i * 16 + 12] & 1) != 0;
        bool delivers = (control & 0xc000) == 0x8000 && !masked &&
                        (pci_get(&d->pci, 4, 2) & 4) != 0 && /* Bus Master */
                        !pci_dummy_is_hidden(d);
        g_assert(msix->vectors[i].attached == delivers);
        struct pollfd fd = {.fd = msix->vectors[i].event_fd, .events = POLLIN};
        g_assert(!msix->vectors[i].attached || poll(&fd, 1, 0) == 0); /* settled before */
    }
}

#endif
