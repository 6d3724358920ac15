/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of hw/vhost. */
#ifndef SKIFF_HW_VHOST_TRACE_EVENTS_H
#define SKIFF_HW_VHOST_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(vhost_phase, (const char *dev, unsigned from, unsigned to), "dev=%s from=%u to=%u", dev,
            from, to)
TRACE_EVENT(vhost_lost, (const char *dev, const char *why), "dev=%s why=%s", dev, why)
TRACE_EVENT(vhost_kernel_call, (const char *dev, const char *first, unsigned count, int result),
            "dev=%s first=%s count=%u result=%d", dev, first, count, result)

#endif
