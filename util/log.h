/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log: events that an operator can act on, to stderr or the -D file.
 *
 * A line is written whole (one write) and printable: control bytes, which may come from a guest,
 * are replaced by '?'. Lines are cut at LOG_LINE_MAX. If the sink is a pipe or terminal without a
 * reader, a line waits a moment and is then dropped and counted: logging never hangs its caller.
 */
#ifndef SKIFF_UTIL_LOG_H
#define SKIFF_UTIL_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

/* Bytes of a line with its newline: at most PIPE_BUF, so that writes to a pipe are atomic. */
#define LOG_LINE_MAX 2048

/* "skiff: ...", "skiff: warning: ...", "skiff: info: ...". No newline at the end of @format. */
void log_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));

#define LOG_LIMIT_BURST 5
#define LOG_LIMIT_WINDOW_NS (5 * INT64_C(1000000000))

/* At most LOG_LIMIT_BURST lines per 5 s through one LogLimit. Dropped lines are counted; the next
 * line reports the count. Zero-initialized. */
typedef struct LogLimit {
    _Atomic int64_t window_start_ns;
    _Atomic uint32_t in_window;
    _Atomic uint32_t dropped;
} LogLimit;
void log_limited(LogLimit *limit, const char *format, ...) ANY_THREAD
    __attribute__((format(printf, 2, 3)));
/* A guest error: names the device. Rate-limited. */
#define log_guest_error(limit, label, ...) log_guest_error_at(limit, label, __VA_ARGS__)
void log_guest_error_at(LogLimit *limit, const char *label, const char *format, ...) ANY_THREAD
    __attribute__((format(printf, 3, 4)));
/* Whether a line may pass at @now_ns (any monotonic clock); *@dropped is the number of lines
 * dropped since the last one that passed. Used by the two functions above. */
bool log_limit_admit(LogLimit *limit, int64_t now_ns, uint32_t *dropped) ANY_THREAD;

/* A trace event's line: "[thread] name ...". Called by trace_emit(). */
void log_trace_line(const char *event, const char *format, va_list ap) ANY_THREAD
    __attribute__((format(printf, 2, 0)));

/* -D FILE (NULL: stderr) and -msg timestamp=on. Switching to a file is safe while other threads
 * log; switching back to stderr is for tests only. False with errno set when the file cannot be
 * created; the log then stays as it was.
 */
bool log_open(const char *path, bool timestamps) ANY_THREAD;
bool log_has_timestamps(void) ANY_THREAD;
/* The descriptor that log lines go to, for crash paths. */
int log_fd(void) ANY_THREAD;

#endif
