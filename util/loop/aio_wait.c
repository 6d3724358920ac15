/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wait of a loop for descriptors: epoll_pwait2(), which takes nanoseconds. Where it is missing
 * (before Linux 5.11, or in a container whose filter refuses it), a timerfd in the epoll set. Both
 * have the precision of the kernel's high-resolution timers. The timerfd costs one more system call
 * for each wait with a time-out.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "util/loop/aio_int.h"

static struct timespec wait_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static bool wait_has_pwait2(int epoll_fd)
{
    struct epoll_event event;
    struct timespec now = {0};
    return epoll_pwait2(epoll_fd, &event, 1, &now, NULL) >= 0 ||
           (errno != ENOSYS && errno != EPERM);
}

bool aio_wait_open(AioContext *ctx)
{
    ctx->timer_fd = -1;
    if (wait_has_pwait2(ctx->epoll_fd)) {
        return true;
    }
    ctx->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (ctx->timer_fd < 0) {
        return false;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &ctx->timer_fd};
    if (epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, ctx->timer_fd, &ev) != 0) {
        close(ctx->timer_fd);
        return false;
    }
    return true;
}

void aio_wait_close(AioContext *ctx)
{
    if (ctx->timer_fd >= 0) {
        close(ctx->timer_fd);
    }
}

/* 0 disarms. An unread expiration count is cleared. */
static void wait_set_timer(AioContext *ctx, int64_t timeout_ns)
{
    struct itimerspec when = {.it_value = wait_timespec(timeout_ns)};
    timerfd_settime(ctx->timer_fd, 0, &when, NULL);
    ctx->timer_armed = timeout_ns != 0;
}

/* Removes the timer's event from the @count events. */
static int wait_drop_timer(AioContext *ctx, struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &ctx->timer_fd) {
            wait_set_timer(ctx, 0);
            events[i] = events[--count];
            break;
        }
    }
    return count;
}

static int wait_by_timer(AioContext *ctx, struct epoll_event *events, int max, int64_t timeout_ns)
{
    if (timeout_ns > 0 || (timeout_ns < 0 && ctx->timer_armed)) {
        wait_set_timer(ctx, MAX(timeout_ns, 0));
    }
    int count = epoll_wait(ctx->epoll_fd, events, max, timeout_ns == 0 ? 0 : -1);
    return ctx->timer_armed ? wait_drop_timer(ctx, events, count) : count;
}

int aio_wait(AioContext *ctx, struct epoll_event *events, int max, int64_t timeout_ns)
{
    if (ctx->timer_fd >= 0) {
        return wait_by_timer(ctx, events, max, timeout_ns);
    }
    if (timeout_ns == 0) {
        return epoll_wait(ctx->epoll_fd, events, max, 0);
    }
    struct timespec ts = wait_timespec(timeout_ns);
    return epoll_pwait2(ctx->epoll_fd, events, max, timeout_ns < 0 ? NULL : &ts, NULL);
}
