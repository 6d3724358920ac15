/* SPDX-License-Identifier: Apache-2.0 */
/* A loop's waits, with epoll_pwait2() and on a kernel without it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "util/loop/aio_int.h"
#include "util/sys/sys_fault.h"

typedef struct Waits {
    AioContext *ctx;
    unsigned fired;
} Waits;

static int open_without(void **state, int error)
{
    Waits *w = g_new0(Waits, 1);
    sys_fault_set(&(SysFault){.calls = "epoll_pwait2", .error = error});
    w->ctx = aio_context_new("test", NULL);
    *state = w;
    return w->ctx == NULL;
}

static int set_up_old_kernel(void **state)
{
    return open_without(state, ENOSYS);
}

static int set_up_filter(void **state)
{
    return open_without(state, EPERM);
}

static int set_up_new_kernel(void **state)
{
    Waits *w = g_new0(Waits, 1);
    w->ctx = aio_context_new("test", NULL);
    *state = w;
    return w->ctx == NULL;
}

static int tear_down(void **state)
{
    Waits *w = *state;
    aio_context_free(w->ctx);
    sys_fault_set(NULL);
    g_free(w);
    return 0;
}

static void count(void *opaque)
{
    Waits *w = opaque;
    w->fired++;
}

static void timers_fire_after_a_wait_and_not_before(void **state)
{
    Waits *w = *state;
    AioTimer timer;
    aio_timer_init(&timer, w->ctx, count, w);
    for (unsigned i = 1; i <= 10; i++) {
        int64_t deadline_ns =
            aio_now_ns(w->ctx) + 300000; /* below the resolution of epoll_wait() */
        unsigned turns = 0;
        aio_timer_arm(&timer, deadline_ns);
        while (w->fired < i) {
            aio_context_step(w->ctx, true);
            turns++;
        }
        assert_true(aio_now_ns(w->ctx) >= deadline_ns);
        assert_in_range(turns, 1, 5); /* it slept and did not spin */
    }
}

static void readable(void *opaque)
{
    Waits *w = opaque;
    w->fired++;
}

static void a_descriptor_ends_a_wait_for_a_timer(void **state)
{
    Waits *w = *state;
    static const AioHandlerOps ops = {.readable = readable};
    AioTimer timer;
    int fd = eventfd(1, EFD_CLOEXEC);
    AioHandler *h = aio_handler_add(w->ctx, fd, &ops, w);
    aio_timer_init(&timer, w->ctx, count, w);
    aio_timer_arm(&timer, aio_now_ns(w->ctx) + INT64_C(3600) * 1000000000);
    assert_true(aio_context_step(w->ctx, true));
    assert_int_equal(w->fired, 1);
    aio_timer_disarm(&timer);
    /* No timer is left: only the descriptor ends the next wait. */
    assert_true(aio_context_step(w->ctx, true));
    assert_int_equal(w->fired, 2);
    aio_handler_remove(h);
    close(fd);
}

/* A timer that is disarmed after the wait has begun causes no wake-up. */
static void a_disarmed_timer_leaves_nothing_readable(void **state)
{
    Waits *w = *state;
    static const AioHandlerOps ops = {.readable = readable};
    AioTimer timer;
    int fd = eventfd(1, EFD_CLOEXEC);
    AioHandler *h = aio_handler_add(w->ctx, fd, &ops, w);
    aio_timer_init(&timer, w->ctx, count, w);
    aio_timer_arm(&timer, aio_now_ns(w->ctx) + 2000000);
    assert_true(aio_context_step(w->ctx, true)); /* the descriptor's */
    aio_timer_disarm(&timer);
    struct pollfd expired = {.fd = w->ctx->timer_fd, .events = POLLIN};
    if (w->ctx->timer_fd >= 0) {
        assert_int_equal(poll(&expired, 1, -1), 1);
    }
    aio_handler_watch(h, false, false);
    assert_false(aio_context_step(w->ctx, false));
    if (w->ctx->timer_fd >= 0) {
        assert_int_equal(poll(&expired, 1, 0), 0);
    }
    aio_handler_remove(h);
    close(fd);
}

static void *wake_from_elsewhere(void *opaque)
{
    Waits *w = opaque;
    while (!atomic_load(&w->ctx->sleeping)) {
    }
    aio_post(w->ctx, count, w);
    return NULL;
}

static void another_thread_ends_a_wait_for_ever(void **state)
{
    Waits *w = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_from_elsewhere, w), 0);
    while (w->fired == 0) {
        aio_context_step(w->ctx, true);
    }
    pthread_join(thread, NULL);
}

static void pwait2_is_tried_once_on_a_kernel_without_it(void **state)
{
    Waits *w = *state;
    assert_true(w->ctx->timer_fd >= 0);
    timers_fire_after_a_wait_and_not_before(state);
    assert_int_equal(sys_fault_calls(), 1);
}

static void a_kernel_with_pwait2_needs_no_timer_descriptor(void **state)
{
    Waits *w = *state;
    if (w->ctx->timer_fd >= 0) {
        skip(); /* an old kernel */
    }
    timers_fire_after_a_wait_and_not_before(state);
}

#define on_old(f)                                                                                  \
    {                                                                                              \
#f " (no epoll_pwait2)", f, set_up_old_kernel, tear_down, NULL                             \
    }
#define on_new(f) cmocka_unit_test_setup_teardown(f, set_up_new_kernel, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_old(timers_fire_after_a_wait_and_not_before),
        on_new(timers_fire_after_a_wait_and_not_before),
        on_old(a_descriptor_ends_a_wait_for_a_timer),
        on_new(a_descriptor_ends_a_wait_for_a_timer),
        on_old(a_disarmed_timer_leaves_nothing_readable),
        on_new(a_disarmed_timer_leaves_nothing_readable),
        on_old(another_thread_ends_a_wait_for_ever),
        on_new(another_thread_ends_a_wait_for_ever),
        on_old(pwait2_is_tried_once_on_a_kernel_without_it),
        cmocka_unit_test_setup_teardown(pwait2_is_tried_once_on_a_kernel_without_it, set_up_filter,
                                        tear_down),
        on_new(a_kernel_with_pwait2_needs_no_timer_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
