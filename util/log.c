/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "util/log.h"

/* How long a line waits for a reader. After a time-out no line waits until one succeeds.
 */
#define LOG_WAIT_MS 200

_Static_assert(LOG_LINE_MAX <= PIPE_BUF, "a line is written atomically");

static _Atomic int log_sink = STDERR_FILENO;
static atomic_bool log_timestamps;
static atomic_bool log_stuck;
static _Atomic uint32_t log_lost;

typedef struct LogLine {
    char text[LOG_LINE_MAX];
    size_t length; /* below LOG_LINE_MAX: room for the newline */
} LogLine;

static void log_append_v(LogLine *line, const char *format, va_list ap)
{
    size_t room = LOG_LINE_MAX - 1 - line->length;
    int n = vsnprintf(line->text + line->length, room + 1, format, ap);

    if (n > 0) {
        line->length += (size_t)n < room ? (size_t)n : room;
    }
}

__attribute__((format(printf, 2, 3))) static void log_append(LogLine *line, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_append_v(line, format, ap);
    va_end(ap);
}

static void log_line_begin(LogLine *line)
{
    struct timespec now;
    struct tm tm;

    line->length = 0;
    if (!atomic_load_explicit(&log_timestamps, memory_order_relaxed)) {
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    line->length = strftime(line->text, LOG_LINE_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    log_append(line, ".%06ldZ ", now.tv_nsec / 1000);
}

/* False if @size bytes cannot be written within the wait. */
static bool log_write_line(int fd, const char *text, size_t size)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int wait_ms = atomic_load(&log_stuck) ? 0 : LOG_WAIT_MS;

    while (size > 0) {
        ssize_t n = -1;
        int ready = poll(&p, 1, wait_ms);

        if (ready > 0) {
            n = write(fd, text, size);
        } else if (ready == 0) {
            errno = ETIMEDOUT;
        }
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return false;
        }
        if (n > 0) {
            text += n;
            size -= (size_t)n;
        }
    }
    return true;
}

static void log_line_end(LogLine *line)
{
    int saved_errno = errno;
    int fd = atomic_load(&log_sink);
    uint32_t lost;

    for (size_t i = 0; i < line->length; i++) {
        unsigned char c = (unsigned char)line->text[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            line->text[i] = '?';
        }
    }
    line->text[line->length] = '\n';
    lost = atomic_exchange(&log_lost, 0);
    if (lost > 0) {
        char note[64];
        int n = snprintf(note, sizeof(note), "skiff: %u log lines lost: the reader was too slow\n",
                         lost);

        if (!log_write_line(fd, note, (size_t)n)) {
            atomic_fetch_add(&log_lost, lost + 1);
            errno = saved_errno;
            return;
        }
    }
    if (log_write_line(fd, line->text, line->length + 1)) {
        atomic_store(&log_stuck, false);
    } else {
        atomic_store(&log_stuck, true);
        atomic_fetch_add(&log_lost, 1);
    }
    errno = saved_errno;
}

static void log_message(const char *prefix, const char *format, va_list ap)
{
    LogLine line;

    log_line_begin(&line);
    log_append(&line, "skiff: %s", prefix);
    log_append_v(&line, format, ap);
    log_line_end(&line);
}

void log_error(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_message("", format, ap);
    va_end(ap);
}

void log_warn(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_message("warning: ", format, ap);
    va_end(ap);
}

void log_info(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_message("info: ", format, ap);
    va_end(ap);
}

void log_trace_line(const char *event, const char *format, va_list ap)
{
    LogLine line;

    log_line_begin(&line);
    log_append(&line, "[%s] %s ", thread_name(), event);
    log_append_v(&line, format, ap);
    log_line_end(&line);
}

/* ---- rate limits ---- */

bool log_limit_admit(LogLimit *limit, int64_t now_ns, uint32_t *dropped)
{
    int64_t start = atomic_load(&limit->window_start_ns);

    if ((start == 0 || now_ns - start >= LOG_LIMIT_WINDOW_NS) &&
        atomic_compare_exchange_strong(&limit->window_start_ns, &start, now_ns)) {
        atomic_store(&limit->in_window, 0);
    }
    if (atomic_load(&limit->in_window) >= LOG_LIMIT_BURST ||
        atomic_fetch_add(&limit->in_window, 1) >= LOG_LIMIT_BURST) {
        atomic_fetch_add(&limit->dropped, 1);
        return false;
    }
    *dropped = atomic_exchange(&limit->dropped, 0);
    return true;
}

static void log_limited_v(LogLimit *limit, const char *label, const char *format, va_list ap)
{
    struct timespec now;
    uint32_t dropped;
    LogLine line;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!log_limit_admit(limit, now.tv_sec * INT64_C(1000000000) + now.tv_nsec, &dropped)) {
        return;
    }
    log_line_begin(&line);
    log_append(&line, "skiff: ");
    if (label) {
        log_append(&line, "%s: guest error: ", label);
    }
    log_append_v(&line, format, ap);
    if (dropped > 0) {
        log_append(&line, " (%u more before this)", dropped);
    }
    log_line_end(&line);
}

void log_limited(LogLimit *limit, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_limited_v(limit, NULL, format, ap);
    va_end(ap);
}

void log_guest_error_at(LogLimit *limit, const char *label, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_limited_v(limit, label, format, ap);
    va_end(ap);
}

/* ---- the sink ---- */

bool log_has_timestamps(void)
{
    return atomic_load(&log_timestamps);
}

bool log_open(const char *path, bool timestamps)
{
    int fd = STDERR_FILENO, old = atomic_load(&log_sink);

    if (path) {
        /* O_APPEND: lines of several threads, and of what shares the file, are not overwritten. */
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
        if (fd < 0) {
            return false;
        }
    }
    atomic_store(&log_timestamps, timestamps);
    atomic_store(&log_stuck, false);
    if (path && old != STDERR_FILENO) {
        /* Same descriptor number: threads about to write use the new file. */
        bool ok = dup3(fd, old, O_CLOEXEC) >= 0;
        close(fd);
        return ok;
    }
    atomic_store(&log_sink, fd);
    if (old != STDERR_FILENO) {
        close(old);
    }
    return true;
}

int log_fd(void)
{
    return atomic_load(&log_sink);
}
