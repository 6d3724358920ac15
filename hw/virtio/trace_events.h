/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of hw/virtio. */
#ifndef SKIFF_HW_VIRTIO_TRACE_EVENTS_H
#define SKIFF_HW_VIRTIO_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(virtio_status, (const char *dev, unsigned old, unsigned value),
            "dev=%s old=0x%x value=0x%x", dev, old, value)
TRACE_EVENT(virtio_owner, (const char *dev, unsigned from, unsigned to, bool reset),
            "dev=%s from=%u to=%u reset=%d", dev, from, to, reset)
TRACE_EVENT(virtio_refused, (const char *dev, const char *why), "dev=%s %s", dev, why)
TRACE_EVENT(virtio_interrupt,
            (const char *dev, unsigned queue, unsigned mode, int event_fd, bool masked),
            "dev=%s queue=%u mode=%u event_fd=%d masked=%d", dev, queue, mode, event_fd, masked)
TRACE_EVENT(virtio_broken, (const char *dev, unsigned queue, const char *why), "dev=%s queue=%u %s",
            dev, queue, why)
TRACE_EVENT(virtio_no_stack, (const char *dev, unsigned in_flight), "dev=%s in_flight=%u", dev,
            in_flight)
TRACE_EVENT(virtio_blk_submit, (const char *dev, unsigned type, uint64_t sector, uint64_t bytes),
            "dev=%s type=%u sector=%" PRIu64 " bytes=%" PRIu64, dev, type, sector, bytes)
TRACE_EVENT(virtio_blk_complete, (const char *dev, unsigned type, uint64_t sector, int ret),
            "dev=%s type=%u sector=%" PRIu64 " ret=%d", dev, type, sector, ret)
TRACE_EVENT(virtio_net_send,
            (const char *dev, unsigned pair, uint64_t bytes, unsigned gso_type, int ret),
            "dev=%s pair=%u bytes=%" PRIu64 " gso_type=0x%x ret=%d", dev, pair, bytes, gso_type,
            ret)
TRACE_EVENT(virtio_net_receive, (const char *dev, unsigned pair, uint64_t bytes, unsigned buffers),
            "dev=%s pair=%u bytes=%" PRIu64 " buffers=%u", dev, pair, bytes, buffers)
TRACE_EVENT(virtio_net_control,
            (const char *dev, unsigned command_class, unsigned command, bool ok),
            "dev=%s class=%u command=%u ok=%d", dev, command_class, command, ok)
TRACE_EVENT(virtio_scsi_complete,
            (const char *dev, uint64_t tag, unsigned response, unsigned status, uint32_t resid),
            "dev=%s tag=0x%" PRIx64 " response=%u status=0x%x resid=%u", dev, tag, response, status,
            resid)
TRACE_EVENT(virtio_scsi_event, (const char *dev, uint32_t event, uint32_t reason, bool missed),
            "dev=%s event=0x%x reason=0x%x missed=%d", dev, event, reason, missed)
TRACE_EVENT(virtio_balloon_pages, (const char *dev, unsigned count, uint32_t first),
            "dev=%s count=%u first=0x%x", dev, count, first)
TRACE_EVENT(virtio_balloon_report, (const char *dev, uint64_t gpa, uint64_t len),
            "dev=%s gpa=0x%" PRIx64 " len=%" PRIu64, dev, gpa, len)
TRACE_EVENT(virtio_balloon_size, (const char *dev, uint32_t wanted, uint32_t actual),
            "dev=%s wanted=%u actual=%u", dev, wanted, actual)
TRACE_EVENT(virtio_serial_control,
            (const char *dev, bool from_guest, unsigned port, unsigned event, unsigned value),
            "dev=%s from_guest=%d port=%u event=%u value=%u", dev, from_guest, port, event, value)
TRACE_EVENT(virtio_vhost, (const char *dev, unsigned from, unsigned to), "dev=%s from=%u to=%u",
            dev, from, to)

#endif
