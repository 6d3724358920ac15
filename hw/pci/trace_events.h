/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of hw/pci. */
#ifndef SKIFF_HW_PCI_TRACE_EVENTS_H
#define SKIFF_HW_PCI_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(pci_config_read, (const char *dev, unsigned offset, unsigned size, uint32_t value),
            "dev=%s offset=0x%x size=%u value=0x%x", dev, offset, size, value)
TRACE_EVENT(pci_config_write, (const char *dev, unsigned offset, unsigned size, uint32_t value),
            "dev=%s offset=0x%x size=%u value=0x%x", dev, offset, size, value)
TRACE_EVENT(pci_bar_map, (const char *dev, unsigned bar, uint64_t address, uint64_t size),
            "dev=%s bar=%u address=0x%" PRIx64 " size=0x%" PRIx64, dev, bar, address, size)
TRACE_EVENT(pci_bar_unmap, (const char *dev, unsigned bar), "dev=%s bar=%u", dev, bar)
TRACE_EVENT(pci_msix_attach, (const char *dev, unsigned vector, uint64_t address, uint32_t data),
            "dev=%s vector=%u address=0x%" PRIx64 " data=0x%x", dev, vector, address, data)
TRACE_EVENT(pci_msix_detach, (const char *dev, unsigned vector), "dev=%s vector=%u", dev, vector)
TRACE_EVENT(pci_msix_raise, (const char *dev, unsigned vector), "dev=%s vector=%u", dev, vector)
TRACE_EVENT(pci_intx, (const char *dev, bool level), "dev=%s level=%d", dev, level)
TRACE_EVENT(pci_slot_hide, (unsigned slot), "slot=%u", slot)

#endif
