/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of hw/scsi. */
#ifndef SKIFF_HW_SCSI_TRACE_EVENTS_H
#define SKIFF_HW_SCSI_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(scsi_request,
            (const char *dev, unsigned target, unsigned lun, uint64_t tag, unsigned opcode),
            "dev=%s target=%u lun=%u tag=0x%" PRIx64 " opcode=0x%x", dev, target, lun, tag, opcode)
TRACE_EVENT(scsi_check,
            (const char *dev, unsigned target, unsigned lun, unsigned opcode, unsigned key,
             unsigned asc, unsigned ascq),
            "dev=%s target=%u lun=%u opcode=0x%x key=0x%x asc=0x%x ascq=0x%x", dev, target, lun,
            opcode, key, asc, ascq)
TRACE_EVENT(scsi_task, (const char *dev, unsigned function, unsigned target, unsigned lun),
            "dev=%s function=%u target=%u lun=%u", dev, function, target, lun)
TRACE_EVENT(scsi_tray, (const char *dev, bool open), "dev=%s open=%d", dev, open)

#endif
