/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of hw/vhost. */
#ifndef SKIFF_HW_VHOST_TRACE_EVENTS_H
#define SKIFF_HW_VHOST_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(vhost_user_request, (int fd, const char *name, unsigned size, unsigned fds),
            "fd=%d %s size=%u fds=%u", fd, name, size, fds)
TRACE_EVENT(vhost_user_received, (int fd, unsigned request, unsigned size, unsigned fds),
            "fd=%d request=%u size=%u fds=%u", fd, request, size, fds)
TRACE_EVENT(vhost_user_closed, (int fd, const char *why), "fd=%d %s", fd, why)
TRACE_EVENT(vhost_user_channel_closed, (int fd, const char *why), "fd=%d %s", fd, why)
TRACE_EVENT(vhost_user_usable,
            (const char *name, uint64_t features, uint64_t protocol, unsigned vrings),
            "%s features=0x%" PRIx64 " protocol=0x%" PRIx64 " vrings=%u", name, features, protocol,
            vrings)
TRACE_EVENT(vhost_phase, (const char *dev, unsigned from, unsigned to), "dev=%s from=%u to=%u", dev,
            from, to)
TRACE_EVENT(vhost_lost, (const char *dev, const char *why), "dev=%s why=%s", dev, why)
TRACE_EVENT(vhost_kernel_call, (const char *dev, const char *first, unsigned count, int result),
            "dev=%s first=%s count=%u result=%d", dev, first, count, result)

#endif
