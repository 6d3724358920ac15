/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace events: declared once per folder in <folder>/trace_events.h, enabled at run time (`-trace
 * 'virtio_*'`), one predictable branch when disabled. Lines go to the log, prefixed with the
 * thread's name.
 *
 * In <folder>/trace_events.h, inside its include guard:
 *     TRACE_EVENT(virtio_blk_submit, (const char *dev, uint64_t sector, uint32_t len),
 *                 "dev=%s sector=%" PRIu64 " len=%u", dev, sector, len)
 * In the code:
 *     trace_virtio_blk_submit(label, sector, len);
 *
 * The header only declares. The Makefile compiles it once more with TRACE_EVENTS_DEFINE, which
 * defines each event and enters a pointer to it in the linker section skiff_trace. Use of an event
 * links that object from the static library, so a program lists exactly the events it can emit.
 */
#ifndef SKIFF_UTIL_TRACE_H
#define SKIFF_UTIL_TRACE_H

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include "util/loop/thread.h"

typedef struct TraceEvent {
    const char *name;
    bool enabled; /* read with relaxed atomics */
} TraceEvent;

#ifdef TRACE_EVENTS_DEFINE
#define TRACE_EVENT_OBJECT(event)                                                                  \
    TraceEvent trace_event_##event = {.name = #event};                                             \
    static TraceEvent *const trace_entry_##event __attribute__((section("skiff_trace"), used)) =   \
        &trace_event_##event;
#else
#define TRACE_EVENT_OBJECT(event)
#endif

#define TRACE_EVENT(event, params, format, ...)                                                    \
    extern TraceEvent trace_event_##event;                                                         \
    TRACE_EVENT_OBJECT(event)                                                                      \
    static inline __attribute__((unused)) void trace_##event params                                \
    {                                                                                              \
        if (__builtin_expect(__atomic_load_n(&trace_event_##event.enabled, __ATOMIC_RELAXED),      \
                             0)) {                                                                 \
            trace_emit(&trace_event_##event, format, ##__VA_ARGS__);                               \
        }                                                                                          \
    }

void trace_emit(const TraceEvent *event, const char *format, ...) ANY_THREAD
    __attribute__((format(printf, 2, 3)));
/* Enables or disables events whose name matches the glob; returns the number that matched. */
unsigned trace_set(const char *glob, bool enabled) ANY_THREAD;
/* Calls @fn once for each event, in no particular order. */
void trace_foreach(void (*fn)(const TraceEvent *event, void *opaque), void *opaque) ANY_THREAD;
/* The argument of -trace: [enable=]GLOB, or events=FILE with a glob per line (# comments); "-GLOB"
 * disables. A glob without a match is an error that names the nearest event. */
bool trace_configure(const char *argument, GError **error) ANY_THREAD;

#endif
