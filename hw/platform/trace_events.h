/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of hw/platform. */
#ifndef SKIFF_HW_PLATFORM_TRACE_EVENTS_H
#define SKIFF_HW_PLATFORM_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(debugcon_full, (const char *dev), "dev=%s", dev)
TRACE_EVENT(serial_full, (const char *dev, unsigned waiting), "dev=%s waiting=%u", dev, waiting)
TRACE_EVENT(serial_receive, (const char *dev, size_t size), "dev=%s size=%zu", dev, size)
TRACE_EVENT(pm_place, (const char *dev, unsigned base, bool enabled), "dev=%s base=0x%x enabled=%d",
            dev, base, enabled)
TRACE_EVENT(pm_power_button, (const char *dev), "dev=%s", dev)
TRACE_EVENT(pm_gpe, (const char *dev, unsigned gpe, bool level), "dev=%s gpe=%u level=%d", dev, gpe,
            level)
TRACE_EVENT(acpi_hotplug_inserted, (unsigned slot), "slot=%u", slot)
TRACE_EVENT(acpi_hotplug_request_unplug, (unsigned slot), "slot=%u", slot)
TRACE_EVENT(acpi_hotplug_eject, (uint32_t slots), "slots=0x%x", slots)
TRACE_EVENT(acpi_hotplug_emptied, (unsigned slot), "slot=%u", slot)
TRACE_EVENT(pm_sleep, (const char *dev, unsigned type), "dev=%s type=%u", dev, type)
TRACE_EVENT(pm_reset_register, (const char *dev, unsigned value), "dev=%s value=0x%x", dev, value)
TRACE_EVENT(i6300esb_stage, (const char *dev, unsigned stage, int64_t ns),
            "dev=%s stage=%u ns=%" PRId64, dev, stage, ns)
TRACE_EVENT(i6300esb_expired, (const char *dev), "dev=%s", dev)
TRACE_EVENT(tco_place, (const char *dev, const char *block, uint64_t base),
            "dev=%s block=%s base=0x%" PRIx64, dev, block, base)
TRACE_EVENT(tco_reload, (const char *dev, unsigned ticks), "dev=%s ticks=%u", dev, ticks)
TRACE_EVENT(tco_expired, (const char *dev, unsigned expiries, bool reboots),
            "dev=%s expiries=%u reboots=%d", dev, expiries, reboots)
TRACE_EVENT(i8042_command, (const char *dev, unsigned command), "dev=%s command=0x%x", dev, command)
TRACE_EVENT(rtc_set_time, (const char *dev, int64_t seconds), "dev=%s seconds=%" PRId64, dev,
            seconds)
TRACE_EVENT(rtc_interrupt, (const char *dev, unsigned flags), "dev=%s flags=0x%x", dev, flags)

#endif
