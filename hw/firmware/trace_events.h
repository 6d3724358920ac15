/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of hw/firmware. */
#ifndef SKIFF_HW_FIRMWARE_TRACE_EVENTS_H
#define SKIFF_HW_FIRMWARE_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(pflash_write, (const char *dev, uint64_t offset, unsigned size, uint64_t value),
            "dev=%s offset=0x%" PRIx64 " size=%u value=0x%" PRIx64, dev, offset, size, value)
TRACE_EVENT(pflash_begin, (const char *dev, const char *what, uint32_t offset, uint32_t bytes),
            "dev=%s what=%s offset=0x%x bytes=%u", dev, what, offset, bytes)
TRACE_EVENT(pflash_end, (const char *dev, int ret), "dev=%s ret=%d", dev, ret)
TRACE_EVENT(pflash_show, (const char *dev, bool shown), "dev=%s shown=%d", dev, shown)

#endif
