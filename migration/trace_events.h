/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of migration. */
#ifndef SKIFF_MIGRATION_TRACE_EVENTS_H
#define SKIFF_MIGRATION_TRACE_EVENTS_H

#include <inttypes.h>
#include "util/trace.h"

TRACE_EVENT(device_state_save, (const char *path), "path=%s", path)
TRACE_EVENT(device_state_load, (const char *path), "path=%s", path)
TRACE_EVENT(prefault_end, (uint64_t bytes, int64_t ms), "bytes=%" PRIu64 " ms=%" PRId64, bytes, ms)

#endif
