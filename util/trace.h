/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace events: declared once per folder in <folder>/trace_events.h, chosen at run time (`-trace
 * 'virtio_*'`), one predictable branch when off.
 *
 *   TRACE_EVENT(virtio_blk_submit, (const char *dev, uint64_t sector, uint32_t len), "dev=%s
 * sector=%" PRIu64 " len=%u", dev, sector, len)
 *   ... trace_virtio_blk_submit(label, sector, len);
 */
#ifndef SKIFF_UTIL_TRACE_H
#define SKIFF_UTIL_TRACE_H

#include <inttypes.h>
#include <stdbool.h>
#include "util/thread.h"

typedef struct TraceEvent {
    const char *name;
    bool enabled; /* read with relaxed atomics */
} TraceEvent;

/* Defines the event and its inline trace_NAME(). The header is included by many files; the event
 * objects merge in a linker section by being weak. */
#define TRACE_EVENT(event, params, format, ...)                                                    \
    __attribute__((weak, section("skiff_trace"), used))                                            \
    TraceEvent trace_event_##event = {.name = #event};                                             \
    static inline void trace_##event params                                                        \
    {                                                                                              \
        if (__builtin_expect(__atomic_load_n(&trace_event_##event.enabled, __ATOMIC_RELAXED),      \
                             0)) {                                                                 \
            trace_emit(&trace_event_##event, format, ##__VA_ARGS__);                               \
        }                                                                                          \
    }

void trace_emit(const TraceEvent *event, const char *format, ...) ANY_THREAD
    __attribute__((format(printf, 2, 3)));
/* Turns events whose name matches the glob on or off; returns how many matched. */
unsigned trace_set(const char *glob, bool enabled) ANY_THREAD;
void trace_foreach(void (*fn)(const TraceEvent *event, void *opaque), void *opaque) ANY_THREAD;

#endif
