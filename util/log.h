/* SPDX-License-Identifier: Apache-2.0 */
/* Log: what an operator can act on, to stderr or the -D file; lines are whole, any thread. */
#ifndef SKIFF_UTIL_LOG_H
#define SKIFF_UTIL_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "util/thread.h"

void log_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));

/* At most `burst` lines per 5 s through one LogLimit; what was dropped is counted and told with the
 * next line. Zero-init is burst 5. */
typedef struct LogLimit {
    _Atomic int64_t window_start_ns;
    _Atomic uint32_t in_window;
    _Atomic uint32_t dropped;
} LogLimit;
void log_limited(LogLimit *limit, const char *format, ...) ANY_THREAD
    __attribute__((format(printf, 2, 3)));
/* "guest misbehaved": names the device. Rate-limited. */
#define log_guest_error(limit, label, ...) log_guest_error_at(limit, label, __VA_ARGS__)
void log_guest_error_at(LogLimit *limit, const char *label, const char *format, ...) ANY_THREAD
    __attribute__((format(printf, 3, 4)));

/* -D FILE (NULL: stderr) and -msg timestamp=on. At start-up. */
bool log_open(const char *path, bool timestamps) ANY_THREAD;
/* Descriptor that log lines go to, for crash paths. */
int log_fd(void) ANY_THREAD;

#endif
